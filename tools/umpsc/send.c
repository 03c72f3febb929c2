// SPDX-License-Identifier: MIT
/*
 * umpsc send: send messages
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <umpsc.h>

#include "clock.h"
#include "human.h"
#include "input.h"
#include "open.h"
#include "progress.h"

static const char usage[] =
	"Usage: umpsc send [OPTION]... NODE [FILE]...\n"
	"Send the lines of files as messages; of standard input without FILE, or for -.\n"
	"\n"
	"  -m, --message=TEXT       send TEXT; may be given several times, instead of FILE\n"
	"  -0, --null               messages end with a NUL, as of 'find -print0'\n"
	"  -w, --whole              each file is one message, sent by itself\n"
	"  -p, --length-prefixed    ahead of each message stands its length: 4 bytes, the\n"
	"                           most significant first\n"
	"  -c, --chomp              leave away the newline at a line's end\n"
	"  -b, --batch=N            N messages at a time, all of them or none\n"
	"      --wait               where the channel or memory is full, wait for room\n"
	"  -q, --quiet              no progress\n"
	"\n"
	"A line's newline is part of its message, as with 'echo'.  Ends with status 5 when\n"
	"the receiver has gone.\n";

static const struct option options[] = {
	{ "message", required_argument, NULL, 'm' },
	{ "null", no_argument, NULL, '0' },
	{ "whole", no_argument, NULL, 'w' },
	{ "length-prefixed", no_argument, NULL, 'p' },
	{ "chomp", no_argument, NULL, 'c' },
	{ "batch", required_argument, NULL, 'b' },
	{ "wait", no_argument, NULL, 'W' },
	{ "quiet", no_argument, NULL, 'q' },
	{}
};

/* Without --batch a batch is sent once it has so much, or nothing more is there. */
#define BATCH_BYTES 262144
#define BATCH_COUNT 1024

/* How often to try again where nothing tells that there is memory again. */
#define RETRY_NS (100 * NSEC_PER_MSEC)

/**
 * struct sending - what is being sent
 * @node: where to
 * @sender: a sender of it
 * @longest: message that the node takes
 * @limits: the channel's
 * @quota: bytes that the user may have queued at all, or 0
 * @framing: how files are taken apart
 * @chomp: without newlines
 * @batch_count: messages in a batch, where the user said so; else 0
 * @wait: for room
 * @input: the file at hand
 * @batch: messages of it that are not yet sent
 * @batch_first: number of the first of these in the file
 * @pending: bytes of these
 * @sent: messages that were accepted
 * @done_bytes: bytes of the files before this one
 * @progress: what the user sees of it
 */
struct sending {
	struct node node;
	int sender;
	uint64_t longest;
	struct umpsc_limits limits;
	uint64_t quota;
	enum framing framing;
	bool chomp;
	size_t batch_count;
	bool wait;
	struct input input;
	struct umpsc_batch batch;
	uint64_t batch_first;
	uint64_t pending;
	uint64_t sent;
	uint64_t done_bytes;
	struct progress progress;
};

/* ---- Failing ------------------------------------------------------------- */

/* What can hinder a send, what to do about it, and which status that is. */
static const struct cause {
	int error;
	enum exit_status status;
	const char *why;
} causes[] = {
	{ EPIPE, STATUS_ENDED,
	  "the receiver has gone; start one ('umpsc recv'), and send again" },
	{ ENOBUFS, STATUS_FAILED,
	  "the channel is full; receive some, or use --wait" },
	{ EDQUOT, STATUS_FAILED,
	  "over the user's quota, or the module's; receive some, or use --wait" },
	{ ENOMEM, STATUS_FAILED,
	  "no memory for it, perhaps of the cgroup; receive some, or use --wait" },
};

/* @place was not sent, because @why. */
static void __attribute__((noreturn))
give_up(struct sending *s, enum exit_status status, const char *place,
	const char *why)
{
	progress_end(&s->progress);
	die(status, "%s: %s was not sent: %s (%llu %s sent before)",
	    s->node.name, place, why, (unsigned long long)s->sent,
	    human_plural(s->sent, "message was", "messages were"));
}

static void __attribute__((noreturn))
send_failed(struct sending *s, uint64_t number, int error)
{
	enum exit_status status = STATUS_FAILED;
	const char *why = umpsc_strerror(error);
	size_t i;

	for (i = 0; i < ARRAY_SIZE(causes); i++) {
		if (causes[i].error != error)
			continue;
		status = causes[i].status;
		why = causes[i].why;
	}
	give_up(s, status, input_place(&s->input, number), why);
}

static void __attribute__((noreturn)) too_long(struct sending *s)
{
	char longest[HUMAN_MAX];
	char *why;

	human_bytes(s->longest, longest);
	why = text_format("it is longer than the %s (%llu bytes) that %s takes",
			  longest, (unsigned long long)s->longest,
			  s->node.name);
	give_up(s, STATUS_FAILED, input_place(&s->input, s->input.number + 1),
		why);
}

/* ---- Sending ------------------------------------------------------------- */

/* @bytes of the batch, @messages, were accepted. */
static void count_sent(struct sending *s, uint64_t messages, uint64_t bytes)
{
	s->sent += messages;
	s->pending -= bytes;
	progress_update(&s->progress,
			s->done_bytes + s->input.bytes - s->pending, s->sent);
}

/* Full: may be tried again after a while? */
static bool is_full(int error)
{
	return error == ENOBUFS || error == EDQUOT || error == ENOMEM;
}

/* What no limit can ever have room for would wait for ever. */
static bool never_fits(const struct sending *s, int error, uint64_t messages,
		       uint64_t bytes)
{
	if (error == EDQUOT)
		return s->quota && bytes > s->quota;
	return (s->limits.max_msgs && messages > s->limits.max_msgs) ||
	       (s->limits.max_bytes && bytes > s->limits.max_bytes);
}

/*
 * For @messages with @bytes, which were refused.  @again: there was room, but not
 * enough.
 */
static void wait_for_room(struct sending *s, int error, uint64_t number,
			  uint64_t messages, uint64_t bytes, bool again)
{
	struct pollfd room = { .fd = s->sender, .events = POLLOUT };

	if (never_fits(s, error, messages, bytes))
		give_up(s, STATUS_FAILED, input_place(&s->input, number),
			"there will never be room for it, by the channel's limits or a quota");
	if (error == ENOBUFS)
		poll(&room, 1, -1);
	if (error != ENOBUFS || again)
		sleep_ns(RETRY_NS);
}

static void send_one(struct sending *s, const struct umpsc_message *m,
		     uint64_t number)
{
	bool again = false;

	while (umpsc_send(s->sender, m->data, m->len)) {
		if (!s->wait || !is_full(errno))
			send_failed(s, number, errno);
		wait_for_room(s, errno, number, 1, m->len, again);
		again = true;
	}
	count_sent(s, 1, m->len);
}

/* There is no room for all of it at a time, but perhaps for one after the other. */
static void send_singly(struct sending *s)
{
	uint64_t number = s->batch_first;
	struct umpsc_message m;

	umpsc_batch_rewind(&s->batch);
	while (umpsc_batch_next(&s->batch, &m) > 0)
		send_one(s, &m, number++);
}

static void flush_batch(struct sending *s)
{
	bool again = false;
	int n;

	while (s->batch.count) {
		n = umpsc_send_batch(s->sender, &s->batch);
		if (n >= 0) {
			count_sent(s, n, s->pending);
			umpsc_batch_clear(&s->batch);
		} else if (is_full(errno) && !s->batch_count &&
			   s->batch.count > 1) {
			send_singly(s);
			umpsc_batch_clear(&s->batch);
		} else if (is_full(errno) && s->wait) {
			wait_for_room(s, errno, s->batch_first, s->batch.count,
				      s->pending, again);
			again = true;
		} else {
			send_failed(s, s->batch_first, errno);
		}
	}
}

static bool batch_full(const struct sending *s)
{
	if (s->batch_count)
		return s->batch.count == s->batch_count;
	return s->batch.used >= BATCH_BYTES || s->batch.count == BATCH_COUNT;
}

static void add_message(struct sending *s, const char *data, size_t len)
{
	if (!s->batch.count)
		s->batch_first = s->input.number;
	if (umpsc_batch_add(&s->batch, data, len))
		send_failed(s, s->input.number, errno);
	s->pending += len;
	if (batch_full(s))
		flush_batch(s);
}

/* One after the other, until there is none; what comes late waits for nobody. */
static void send_input(struct sending *s)
{
	const char *data;
	size_t len;
	int error;

	for (;;) {
		/* With --batch the user wants it full rather than soon. */
		switch (input_next(&s->input, !s->batch.count || s->batch_count,
				   &data, &len)) {
		case INPUT_MESSAGE:
			add_message(s, data, len);
			break;
		case INPUT_LATER:
			flush_batch(s);
			break;
		case INPUT_END:
			flush_batch(s);
			return;
		case INPUT_TOO_LONG:
			flush_batch(s);
			too_long(s);
		case INPUT_CUT:
			flush_batch(s);
			give_up(s, STATUS_FAILED,
				input_place(&s->input, s->input.number + 1),
				"the file ends in the middle of it");
		case INPUT_ERROR:
			error = errno;
			flush_batch(s);
			give_up(s, STATUS_FAILED, s->input.name,
				strerror(error));
		}
	}
}

static void send_file(struct sending *s, const char *path)
{
	s->input = (struct input){
		.framing = s->framing,
		.chomp = s->chomp,
		.longest = s->longest,
	};
	if (!input_open(&s->input, path))
		give_up(s, STATUS_FAILED, path, strerror(errno));
	send_input(s);
	s->done_bytes += s->input.bytes;
	input_close(&s->input);
}

static void send_text(struct sending *s, const char *text)
{
	s->input = (struct input){
		.name = text_format("'%s'", text),
		.framing = FRAMING_WHOLE,
		.number = 1,
	};
	if (strlen(text) > s->longest)
		too_long(s);
	add_message(s, text, strlen(text));
	if (!s->batch_count)
		flush_batch(s);
}

/* ---- The command --------------------------------------------------------- */

/* The longest message that the channel can ever take, and what else is for good. */
static void learn_limits(struct sending *s)
{
	struct umpsc_query query;
	struct umpsc_info info;

	if (umpsc_query(s->sender, &query) || umpsc_info(s->sender, &info))
		die(STATUS_FAILED, "%s: %s", s->node.name,
		    umpsc_strerror(errno));
	s->limits = info.limits;
	s->quota = query.max_bytes;
	/* Root's has no end, as a rule. */
	if (geteuid() && query.max_user_bytes &&
	    (!s->quota || query.max_user_bytes < s->quota))
		s->quota = query.max_user_bytes;
	s->longest = query.max_len;
	if (s->limits.max_len && s->limits.max_len < s->longest)
		s->longest = s->limits.max_len;
	if (s->limits.max_bytes && s->limits.max_bytes < s->longest)
		s->longest = s->limits.max_bytes;
}

/* Does somebody type what is sent?  To show anything would be in the way. */
static bool is_typed(int count, char **paths)
{
	while (count--)
		if (!strcmp(paths[count], "-") && isatty(STDIN_FILENO))
			return true;
	return false;
}

/* Bytes of all files, or 0 where one of them has no size. */
static uint64_t total_bytes(int count, char **paths)
{
	uint64_t total = 0;
	struct stat st;
	int i;

	for (i = 0; i < count; i++) {
		if (strcmp(paths[i], "-") ? stat(paths[i], &st) :
					    fstat(STDIN_FILENO, &st))
			return 0;
		if (!S_ISREG(st.st_mode))
			return 0;
		total += st.st_size;
	}
	return total;
}

static size_t parse_batch(const char *text)
{
	uint64_t count;

	if (!parse_count(text, &count) || !count || count > UINT32_MAX)
		misused(&command_send, "'%s' is no number of messages", text);
	return count;
}

static int send_run(int argc, char **argv)
{
	char dash[] = "-", *standard[] = { dash };
	struct sending s = { .batch = UMPSC_BATCH_INIT };
	char **texts = NULL, **files;
	size_t ntexts = 0, i;
	bool quiet = false;
	int option, n;

	while ((option = next_option(&command_send, argc, argv, "m:0wpcb:q",
				     options)) != -1) {
		switch (option) {
		case 'm':
			texts = array_grow(texts, ntexts, sizeof(*texts));
			texts[ntexts++] = optarg;
			break;
		case '0':
			s.framing = FRAMING_NUL;
			break;
		case 'w':
			s.framing = FRAMING_WHOLE;
			break;
		case 'p':
			s.framing = FRAMING_PREFIXED;
			break;
		case 'c':
			s.chomp = true;
			break;
		case 'b':
			s.batch_count = parse_batch(optarg);
			break;
		case 'W':
			s.wait = true;
			break;
		case 'q':
			quiet = true;
			break;
		}
	}
	if (optind == argc)
		misused(&command_send, "it takes a NODE");
	s.node = node_parse(&command_send, argv[optind++]);
	files = argv + optind;
	n = argc - optind;
	if (ntexts && n)
		misused(&command_send, "either --message or FILE");
	if (s.batch_count && !ntexts && s.framing == FRAMING_WHOLE)
		misused(&command_send,
			"--batch does not go with --whole: each file is sent by itself");
	if (!ntexts && !n) {
		files = standard;
		n = 1;
	}

	s.sender = node_open(&s.node, OPEN_SENDER);
	learn_limits(&s);
	if (!quiet && !is_typed(n, files))
		progress_begin(&s.progress, s.node.name, total_bytes(n, files));
	for (i = 0; i < ntexts; i++)
		send_text(&s, texts[i]);
	flush_batch(&s);
	for (; n; n--)
		send_file(&s, *files++);
	progress_end(&s.progress);
	return STATUS_OK;
}

const struct command command_send = {
	.name = "send",
	.summary = "send messages: lines, whole files, ...",
	.usage = usage,
	.run = send_run,
};
