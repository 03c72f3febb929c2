// SPDX-License-Identifier: MIT
/*
 * umpsc-demo: the C part of the demo, which umpsc-demo.sh puts together
 *
 * umpsc-demo send [-s drop|double|swap] [-d SECONDS] REGISTER FILE >/dev/umpsc
 *	streams FILE through the sender on standard output, a line a message, in
 *	SEND batches.  -d: pause between them, to be done after half that time.
 * umpsc-demo receive [-t] [-d SECONDS] [-l FILE] [-b FILE]... [-c FILE]...
 *		REGISTER </dev/umpsc
 *	receives, shows how far everybody is, and at the end compares what came
 *	from each sender with its file.  -l: the shell loop's file; -b: those of
 *	"send" processes on the node; -c: files for which it starts a "send" itself,
 *	on a cloned sender of a private channel.  -t: standard output is a terminal;
 *	-d: take messages slowly enough to need that time, for something to see.
 *
 * A line is the bytes up to a newline or to the end of the file, and its message
 * is those bytes and a newline.
 *
 * Whose message is it?  A record has its sender's id.  A "send" process asks for
 * its own by INFO and writes "CHANNEL SENDER FILE" to REGISTER before it sends.
 * The shell loop cannot ask: the one id that nobody registered is its own, and a
 * second one is an error.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/umpsc.h>

#define BATCH_LINES 32
#define TICK 0.02
#define DRAW_NS 100000000ULL
#define PLAIN_NS 500000000ULL
#define STALL_MS 30000
#define BAR 20
#define SOURCES_MAX 16
#define FAILURES_MAX 10

static int misused(void)
{
	fputs("usage: umpsc-demo send [-s drop|double|swap] [-d SECONDS] REGISTER FILE\n"
	      "       umpsc-demo receive [-t] [-d SECONDS] [-l FILE] [-b FILE]...\n"
	      "                  [-c FILE]... REGISTER\n",
	      stderr);
	return 2;
}

static void *grow(void *old, size_t size)
{
	void *new = realloc(old, size);

	if (!new)
		err(2, "%zu bytes", size);
	return new;
}

static __u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (__u64)ts.tv_sec * 1000000000 + (__u64)ts.tv_nsec;
}

static void pause_for(double seconds)
{
	struct timespec ts = { .tv_sec = (time_t)seconds };

	ts.tv_nsec = (long)((seconds - (double)ts.tv_sec) * 1e9);
	if (seconds > 0)
		nanosleep(&ts, NULL);
}

/* ---- A file and its lines ---------------------------------------------- */

struct line {
	char *data;
	size_t len;
};

struct text {
	const char *path;
	const char *name; /* its last component */
	char *data;
	size_t size;
	struct line *lines; /* without their newlines, in data */
	size_t count;
};

static void text_read(struct text *text)
{
	int fd = open(text->path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		err(2, "%s", text->path);
	do {
		text->data = grow(text->data, text->size + 65536);
		n = read(fd, text->data + text->size, 65536);
		if (n < 0)
			err(2, "%s", text->path);
		text->size += (size_t)n;
	} while (n > 0);
	close(fd);
}

static void text_load(struct text *text, const char *path)
{
	const char *slash = strrchr(path, '/');
	size_t at = 0, room = 0;

	memset(text, 0, sizeof(*text));
	text->path = path;
	text->name = slash ? slash + 1 : path;
	text_read(text);

	while (at < text->size) {
		char *start = text->data + at;
		char *end = memchr(start, '\n', text->size - at);
		size_t len = end ? (size_t)(end - start) : text->size - at;

		if (text->count == room) {
			room = room ? 2 * room : 256;
			text->lines =
				grow(text->lines, room * sizeof(*text->lines));
		}
		text->lines[text->count].data = start;
		text->lines[text->count++].len = len;
		at += len + 1;
	}
}

static bool line_same(const struct line *a, const struct line *b)
{
	return a->len == b->len && !memcmp(a->data, b->data, a->len);
}

/* ---- send -------------------------------------------------------------- */

struct batch {
	char *data;
	size_t len;
	size_t room;
	int lines;
};

static void batch_add(struct batch *batch, const struct line *line)
{
	struct umpsc_record record = {
		.len = (__u32)(line->len + 1),
		.hdr = UMPSC_RECORD_HDR,
	};
	size_t size = UMPSC_RECORD_SIZE(record.hdr, record.len);
	char *to;

	if (batch->len + size > batch->room) {
		batch->room = batch->len + size + 65536;
		batch->data = grow(batch->data, batch->room);
	}
	to = batch->data + batch->len;
	memset(to, 0, size);
	memcpy(to, &record, sizeof(record));
	memcpy(to + record.hdr, line->data, line->len);
	to[record.hdr + line->len] = '\n';
	batch->len += size;
	batch->lines++;
}

static void batch_send(struct batch *batch)
{
	struct umpsc_send_args args = {
		.addr = (uintptr_t)batch->data,
		.len = batch->len,
	};
	int n;

	if (!batch->lines)
		return;
	n = ioctl(STDOUT_FILENO, UMPSC_IOC_SEND, &args);
	if (n < 0)
		err(2, "SEND");
	if (n != batch->lines)
		errx(2, "SEND accepted %d of %d messages", n, batch->lines);
	batch->len = 0;
	batch->lines = 0;
}

/*
 * The sabotage.  @order holds which line is sent when; spoil one line near the
 * middle that differs from its neighbours.  The receiver is not told.
 */
static size_t spoil(const char *what, const struct text *text, size_t *order)
{
	const struct line *lines = text->lines;
	size_t count = text->count;
	size_t k = count / 2;

	while (k && k + 1 < count &&
	       (lines[k].len == 0 || line_same(&lines[k - 1], &lines[k]) ||
		line_same(&lines[k], &lines[k + 1]) ||
		line_same(&lines[k - 1], &lines[k + 1])))
		k++;
	if (!k || k + 1 >= count)
		errx(2, "%s: no line that would be missed", text->path);

	if (!strcmp(what, "drop")) {
		memmove(&order[k], &order[k + 1],
			(count - k - 1) * sizeof(*order));
		count--;
	} else if (!strcmp(what, "double")) {
		memmove(&order[k + 1], &order[k], (count - k) * sizeof(*order));
		count++;
	} else if (!strcmp(what, "swap")) {
		order[k] = k + 1;
		order[k + 1] = k;
	} else {
		errx(2, "%s: drop, double or swap", what);
	}
	fprintf(stderr, "SABOTAGE=%s spoiled line %zu of %s\n", what, k + 1,
		text->name);
	return count;
}

/* Tell which of the channel's senders streams the file. */
static void register_sender(const char *path, const char *file)
{
	struct umpsc_info info;
	char *entry;
	int fd, len;

	if (ioctl(STDOUT_FILENO, UMPSC_IOC_INFO, &info))
		err(2, "standard output: INFO");
	fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	if (fd < 0)
		err(2, "%s", path);
	len = asprintf(&entry, "%llu %llu %s\n", info.channel, info.handle,
		       file);
	if (len < 0 || write(fd, entry, (size_t)len) != len)
		err(2, "%s", path);
	free(entry);
	close(fd);
}

static int send_main(int argc, char **argv)
{
	const char *sabotage = NULL;
	double spread = 0;
	struct batch batch = { 0 };
	struct text text;
	size_t *order;
	size_t i, count;
	int c;

	while ((c = getopt(argc, argv, "s:d:")) != -1) {
		if (c == 's')
			sabotage = optarg;
		else if (c == 'd')
			spread = atof(optarg);
		else
			return misused();
	}
	if (argc - optind != 2)
		return misused();
	text_load(&text, argv[optind + 1]);

	count = text.count;
	order = grow(NULL, (count + 1) * sizeof(*order));
	for (i = 0; i < count; i++)
		order[i] = i;
	if (sabotage)
		count = spoil(sabotage, &text, order);

	register_sender(argv[optind], text.path);
	for (i = 0; i < count; i++) {
		batch_add(&batch, &text.lines[order[i]]);
		if (batch.lines == BATCH_LINES) {
			batch_send(&batch);
			pause_for(spread / 2 * BATCH_LINES / (double)count);
		}
	}
	batch_send(&batch);
	return 0;
}

/* ---- receive ----------------------------------------------------------- */

struct channel {
	const char *name;
	int fd;
	bool ended;
	__u64 next_seq;
	size_t lines; /* expected */
	struct umpsc_info info;
};

/* One sender and its file. */
struct source {
	char how; /* 'l', 'b' or 'c', as the option */
	struct text text;
	struct channel *channel;
	__u64 sender; /* 0: not known yet */
	pid_t pid;
	struct line *got; /* with their newlines */
	size_t count;
	size_t room;
	size_t drawn; /* count at the last progress report */
	bool open; /* the last of got has no newline yet */
};

static struct channel node = { .name = "/dev/umpsc", .fd = STDIN_FILENO };
static struct channel private = { .name = "private", .fd = -1, .ended = true };
static struct source sources[SOURCES_MAX];
static int nsources;
static const char *register_path;
static const char *duration = "0";
static double seconds;
static bool terminal;
static int failures;

/* Begin to say what is wrong; not when enough has been said. */
static bool fail_begin(void)
{
	if (++failures > FAILURES_MAX)
		return false;
	fputs("FAILED: ", stdout);
	return true;
}

#define fail(...)                            \
	do {                                 \
		if (fail_begin())            \
			printf(__VA_ARGS__); \
	} while (0)

static const char *how_name(char how)
{
	switch (how) {
	case 'l':
		return "shell loop";
	case 'b':
		return "SEND";
	default:
		return "clone, SEND";
	}
}

/* Look for the sender among the registered; true if its source is known now. */
static bool register_find(const struct channel *channel, __u64 sender)
{
	struct text list;
	bool found = false;
	size_t i;
	int s;

	text_load(&list, register_path);
	for (i = 0; i < list.count && !found; i++) {
		struct line *line = &list.lines[i];
		__u64 in, id;
		int at = 0;

		/* An entry is one write; the last one may be on its way. */
		if (line->data + line->len == list.data + list.size)
			break;
		line->data[line->len] = '\0';
		if (sscanf(line->data, "%llu %llu %n", &in, &id, &at) < 2)
			continue;
		if (in != channel->info.channel || id != sender)
			continue;
		for (s = 0; s < nsources && !found; s++) {
			struct source *source = &sources[s];

			if (source->sender || source->how == 'l' ||
			    source->channel != channel ||
			    strcmp(source->text.path, line->data + at))
				continue;
			source->sender = sender;
			found = true;
		}
	}
	free(list.lines);
	free(list.data);
	return found;
}

static struct source *source_of(const struct channel *channel, __u64 sender)
{
	int s;

	for (s = 0; s < nsources; s++)
		if (sources[s].channel == channel &&
		    sources[s].sender == sender)
			return &sources[s];
	if (register_find(channel, sender))
		return source_of(channel, sender);
	for (s = 0; s < nsources; s++) {
		if (sources[s].how == 'l' && !sources[s].sender &&
		    channel == &node) {
			sources[s].sender = sender;
			return &sources[s];
		}
	}
	return NULL;
}

static void source_take(struct source *source, const char *data, size_t len)
{
	struct line *line;

	if (!source->open) {
		if (source->count == source->room) {
			source->room = source->room ? 2 * source->room : 256;
			source->got = grow(source->got,
					   source->room * sizeof(*source->got));
		}
		source->got[source->count++] = (struct line){ 0 };
	}
	line = &source->got[source->count - 1];
	line->data = grow(line->data, line->len + len + 1);
	memcpy(line->data + line->len, data, len);
	line->len += len;
	/*
	 * A shell writes a line that is longer than its buffer in parts, each a
	 * message; they are one line up to its newline.
	 */
	source->open = source->how == 'l' && data[len - 1] != '\n';
}

static void message_take(struct channel *channel,
			 const struct umpsc_record *record, const char *data)
{
	struct source *source = source_of(channel, record->sender);

	if (record->seq != channel->next_seq)
		fail("%s: message %llu came where %llu was due\n",
		     channel->name, record->seq, channel->next_seq);
	channel->next_seq = record->seq + 1;
	if (record->flags || !record->len)
		fail("%s: message %llu has flags 0x%x and %u bytes\n",
		     channel->name, record->seq, record->flags, record->len);
	else if (source)
		source_take(source, data, record->len);
	else
		fail("%s: message %llu is from sender %llu, which nobody knows\n",
		     channel->name, record->seq, record->sender);
}

/* Receive up to @max messages of a channel that epoll says has some, or has ended. */
static void channel_receive(struct channel *channel, __u32 max)
{
	static char *buffer;
	static size_t room;
	struct umpsc_recv_args args = { 0 };
	size_t at = 0;
	int i, n;

	for (;;) {
		args.addr = (uintptr_t)buffer;
		args.len = room;
		args.max = max;
		n = ioctl(channel->fd, UMPSC_IOC_RECV, &args);
		if (n >= 0 || errno != EMSGSIZE)
			break;
		room = args.need > 65536 ? args.need : 65536;
		buffer = grow(buffer, room);
	}
	if (n < 0)
		err(2, "%s: RECV", channel->name);
	channel->ended = !n;
	for (i = 0; i < n; i++) {
		struct umpsc_record record;

		memcpy(&record, buffer + at, sizeof(record));
		message_take(channel, &record, buffer + at + record.hdr);
		at += UMPSC_RECORD_SIZE(record.hdr, record.len);
	}
	if (n && at != args.used)
		errx(2, "%s: a batch of %zu bytes, of which %llu are used",
		     channel->name, at, args.used);
}

/* ---- Progress ---------------------------------------------------------- */

static void channel_look(struct channel *channel)
{
	if (channel->fd >= 0 &&
	    ioctl(channel->fd, UMPSC_IOC_INFO, &channel->info))
		err(2, "%s: INFO", channel->name);
}

static void queue_draw(const struct channel *channel)
{
	const struct umpsc_info *info = &channel->info;

	if (channel->fd < 0)
		return;
	printf("  queued in %s: %llu lines, %llu KiB (at most %llu lines)",
	       channel->name, info->messages, (info->bytes + 1023) / 1024,
	       info->most_messages);
	if (info->flags & UMPSC_TIMESTAMP)
		printf(", oldest %.2f s", (double)info->oldest_ns / 1e9);
	puts("\033[K");
}

static void terminal_draw(double since, bool first)
{
	char bar[BAR + 1];
	int s;

	if (!first)
		printf("\033[%dA", nsources + (private.fd < 0 ? 1 : 2));
	for (s = 0; s < nsources; s++) {
		struct source *source = &sources[s];
		size_t all = source->text.count;
		size_t full = all ? source->count * BAR / all : BAR;

		memset(bar, '.', BAR);
		memset(bar, '#', full < BAR ? full : BAR);
		bar[BAR] = '\0';
		printf("  %-14.14s %-11s [%s] %5zu of %5zu %6.0f/s\033[K\n",
		       source->text.name, how_name(source->how), bar,
		       source->count, all,
		       (double)(source->count - source->drawn) / since);
		source->drawn = source->count;
	}
	queue_draw(&node);
	queue_draw(&private);
}

static void plain_draw(double elapsed, double since)
{
	size_t count = 0, drawn = 0;
	int s;

	for (s = 0; s < nsources; s++) {
		count += sources[s].count;
		drawn += sources[s].drawn;
	}
	printf("%5.1f s %6zu lines %6.0f/s, queued %4llu", elapsed, count,
	       (double)(count - drawn) / since, node.info.messages);
	if (private.fd >= 0)
		printf(" and %4llu (oldest %.2f s)", private.info.messages,
		       (double)private.info.oldest_ns / 1e9);
	for (s = 0; s < nsources; s++) {
		printf("%s %s %zu", s ? "," : ":", sources[s].text.name,
		       sources[s].count);
		sources[s].drawn = sources[s].count;
	}
	putchar('\n');
}

static void draw(bool last)
{
	static __u64 start, drawn;
	__u64 now = now_ns();
	bool first = !start;

	if (first)
		start = now;
	else if (!last && now - drawn < (terminal ? DRAW_NS : PLAIN_NS))
		return;
	channel_look(&node);
	channel_look(&private);
	if (terminal)
		terminal_draw(first ? 1 : (double)(now - drawn) / 1e9, first);
	else if (!first)
		plain_draw((double)(now - start) / 1e9,
			   (double)(now - drawn) / 1e9);
	fflush(stdout);
	drawn = now;
}

/* ---- The verdict ------------------------------------------------------- */

static bool line_arrived(const struct line *line, const struct line *got)
{
	return got->len == line->len + 1 && got->data[line->len] == '\n' &&
	       !memcmp(got->data, line->data, line->len);
}

/* Are all of @got from @from on the file's lines from @line on? */
static bool rest_arrived(const struct source *source, size_t line, size_t from)
{
	if (from > source->count || line > source->text.count ||
	    source->count - from != source->text.count - line)
		return false;
	while (from < source->count)
		if (!line_arrived(&source->text.lines[line++],
				  &source->got[from++]))
			return false;
	return true;
}

static void excerpt(const char *data, size_t len)
{
	size_t i;

	if (failures > FAILURES_MAX)
		return;
	if (len && data[len - 1] == '\n')
		len--;
	fputs("    ", stdout);
	for (i = 0; i < len && i < 70; i++)
		putchar(data[i] >= ' ' && data[i] <= '~' ? data[i] : ' ');
	puts(i < len ? " ..." : "");
}

/* Line @i is the first that is not what came in its place: say what happened. */
static void source_explain(const struct source *source, size_t i)
{
	const struct line *lines = source->text.lines;
	const char *name = source->text.name;
	size_t count = source->text.count;

	if (rest_arrived(source, i + 1, i)) {
		fail("line %zu of %s was lost:\n", i + 1, name);
	} else if (i && rest_arrived(source, i, i + 1) &&
		   line_arrived(&lines[i - 1], &source->got[i])) {
		i--;
		fail("line %zu of %s arrived twice:\n", i + 1, name);
	} else if (rest_arrived(source, i + 2, i + 2) &&
		   line_arrived(&lines[i], &source->got[i + 1]) &&
		   line_arrived(&lines[i + 1], &source->got[i])) {
		fail("line %zu of %s arrived after line %zu:\n", i + 1, name,
		     i + 2);
	} else if (i >= count) {
		fail("%s has %zu lines, and %zu arrived; the first too many:\n",
		     name, count, source->count);
		excerpt(source->got[i].data, source->got[i].len);
		return;
	} else if (i >= source->count) {
		fail("line %zu of %s was lost, and what follows:\n", i + 1,
		     name);
	} else {
		fail("line %zu of %s is not what came in its place, which is this:\n",
		     i + 1, name);
		excerpt(source->got[i].data, source->got[i].len);
		return;
	}
	excerpt(lines[i].data, lines[i].len);
}

static void source_check(const struct source *source)
{
	size_t i = 0;
	bool same;

	while (i < source->count && i < source->text.count &&
	       line_arrived(&source->text.lines[i], &source->got[i]))
		i++;
	same = i == source->count && i == source->text.count;
	printf("  %-14.14s %-11s %s, sender %llu: %zu of %zu lines, %s\n",
	       source->text.name, how_name(source->how), source->channel->name,
	       source->sender, source->count, source->text.count,
	       same ? "as in the file" : "NOT AS IN THE FILE");
	if (!same)
		source_explain(source, i);
}

static void channel_check(struct channel *channel)
{
	const struct umpsc_info *info = &channel->info;

	if (channel->fd < 0)
		return;
	channel_look(channel);
	if (info->sent != channel->next_seq || info->received != info->sent ||
	    info->messages || info->discarded)
		fail("%s: INFO has %llu sent, %llu received, %llu queued, %llu discarded\n",
		     channel->name, info->sent, info->received, info->messages,
		     info->discarded);
}

static int verdict(void)
{
	size_t lines = 0, bytes = 0;
	int s, status;

	for (s = 0; s < nsources; s++) {
		source_check(&sources[s]);
		lines += sources[s].text.count;
		bytes += sources[s].text.size;
		if (sources[s].pid &&
		    (waitpid(sources[s].pid, &status, 0) < 0 || status))
			fail("the process that sent %s ended with status 0x%x\n",
			     sources[s].text.name, status);
	}
	channel_check(&node);
	channel_check(&private);
	if (failures) {
		printf("The demo FAILED (%d).\n", failures);
		return 1;
	}
	printf("PASSED: %zu lines (%zu KiB) of %d files: each once, whole, in its sender's order\n",
	       lines, (bytes + 1023) / 1024, nsources);
	return 0;
}

/* ---- Starting ---------------------------------------------------------- */

static void source_add(char how, const char *path)
{
	struct source *source = &sources[nsources];
	int s;

	if (nsources == SOURCES_MAX)
		errx(2, "more than %d files", SOURCES_MAX);
	for (s = 0; how == 'l' && s < nsources; s++)
		if (sources[s].how == 'l')
			errx(2, "more than one shell loop");
	source->how = how;
	source->channel = how == 'c' ? &private : &node;
	text_load(&source->text, path);
	source->channel->lines += source->text.count;
	nsources++;
}

/* Start "send" with the sender @fd, a clone, as its standard output. */
static pid_t sender_start(int fd, const char *path)
{
	char *const argv[] = {
		"umpsc-demo",	       "send",	     "-d", (char *)duration,
		(char *)register_path, (char *)path, NULL
	};
	pid_t pid = fork();
	int null;

	if (pid < 0)
		err(2, "fork");
	if (pid)
		return pid;
	null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 ||
	    dup2(fd, STDOUT_FILENO) < 0)
		err(2, "standard input and output");
	execv("/proc/self/exe", argv);
	err(2, "/proc/self/exe");
}

/*
 * A private channel, and for each of its files a process that inherits a clone
 * of its sender.  Nobody else can reach it: it ends with the last of them.
 */
static void private_start(void)
{
	struct umpsc_channel_args args = { .flags = UMPSC_TIMESTAMP };
	int manager, clone, s;

	if (!private.lines)
		return;
	manager = open("/dev/umpsc", O_RDWR | O_CLOEXEC);
	if (manager < 0)
		err(2, "/dev/umpsc");
	if (ioctl(manager, UMPSC_IOC_CHANNEL, &args))
		err(2, "CHANNEL");
	close(manager);
	for (s = 0; s < nsources; s++) {
		if (sources[s].how != 'c')
			continue;
		clone = ioctl(args.sender_fd, UMPSC_IOC_CLONE, 0);
		if (clone < 0)
			err(2, "CLONE");
		sources[s].pid = sender_start(clone, sources[s].text.path);
		close(clone);
	}
	close(args.sender_fd);
	private.fd = args.receiver_fd;
	private.ended = false;
}

static void senders_kill(void)
{
	int s;

	for (s = 0; s < nsources; s++)
		if (sources[s].pid)
			kill(sources[s].pid, SIGKILL);
}

static void watch(int epoll, struct channel *channel)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = channel };

	if (channel->fd >= 0 &&
	    epoll_ctl(epoll, EPOLL_CTL_ADD, channel->fd, &event))
		err(2, "%s: epoll", channel->name);
}

/* Messages to take from the channel in a tick, for it to last as long as asked. */
static __u32 share(const struct channel *channel)
{
	if (seconds <= 0)
		return 1024;
	return (__u32)((double)channel->lines * TICK / seconds) + 1;
}

static void receive_all(void)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	if (epoll < 0)
		err(2, "epoll");
	watch(epoll, &node);
	watch(epoll, &private);
	draw(false);
	while (!node.ended || !private.ended) {
		struct epoll_event events[2];
		int i, n = epoll_wait(epoll, events, 2, STALL_MS);

		if (n < 0 && errno != EINTR)
			err(2, "epoll");
		if (!n) {
			fail("neither a message nor the end for %d s\n",
			     STALL_MS / 1000);
			senders_kill();
			break;
		}
		for (i = 0; i < n; i++) {
			struct channel *channel = events[i].data.ptr;

			channel_receive(channel, share(channel));
			if (channel->ended &&
			    epoll_ctl(epoll, EPOLL_CTL_DEL, channel->fd, NULL))
				err(2, "%s: epoll", channel->name);
		}
		draw(false);
		pause_for(seconds > 0 ? TICK : 0);
	}
	draw(true);
	close(epoll);
}

static int receive_main(int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "td:l:b:c:")) != -1) {
		switch (c) {
		case 't':
			terminal = true;
			break;
		case 'd':
			duration = optarg;
			seconds = atof(duration);
			break;
		case 'l':
		case 'b':
		case 'c':
			source_add((char)c, optarg);
			break;
		default:
			return misused();
		}
	}
	if (argc - optind != 1 || !nsources)
		return misused();
	register_path = argv[optind];

	channel_look(&node);
	private_start();
	channel_look(&private);
	receive_all();
	return verdict();
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return misused();
	if (!strcmp(argv[1], "send"))
		return send_main(argc - 1, argv + 1);
	if (!strcmp(argv[1], "receive"))
		return receive_main(argc - 1, argv + 1);
	return misused();
}
