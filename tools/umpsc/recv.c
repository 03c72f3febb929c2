// SPDX-License-Identifier: MIT
/*
 * umpsc recv: receive messages
 *
 * Signals that end the command are held, and seen only where it waits, never between
 * the taking of a message and its writing.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <umpsc.h>

#include "child.h"
#include "clock.h"
#include "human.h"
#include "open.h"
#include "output.h"

static const char usage[] =
	"Usage: umpsc recv [OPTION]... NODE\n"
	"Be the node's receiver, and print the messages, a line each, until the channel ends.\n"
	"\n"
	"  -n, --count=N            end after N messages\n"
	"  -t, --timeout=TIME       end with status 4 when no message has come for so long\n"
	"  -f, --follow             when the channel ends, go on with the node's next one\n"
	"  -0, --null               put a NUL behind each message instead\n"
	"  -r, --raw                put nothing between messages\n"
	"  -p, --length-prefixed    put the length ahead of each message: 4 bytes, the most\n"
	"                           significant first\n"
	"  -j, --json               print an object for each, with what is known of it\n"
	"  -x, --exec=COMMAND       run COMMAND in a shell for each, with the message on its\n"
	"                           standard input; end when it fails\n"
	"  -k, --keep-going         with --exec, go on when it fails, and end with status 1\n"
	"\n"
	"TIME is in seconds, or with a unit: 500ms, 2m.  On an ordinary node what is still\n"
	"queued when the receiver ends is discarded; a standing one keeps it for the next.\n";

static const struct option options[] = {
	{ "count", required_argument, NULL, 'n' },
	{ "timeout", required_argument, NULL, 't' },
	{ "follow", no_argument, NULL, 'f' },
	{ "null", no_argument, NULL, '0' },
	{ "raw", no_argument, NULL, 'r' },
	{ "length-prefixed", no_argument, NULL, 'p' },
	{ "json", no_argument, NULL, 'j' },
	{ "exec", required_argument, NULL, 'x' },
	{ "keep-going", no_argument, NULL, 'k' },
	{}
};

/* What a pipe surely has room for, and what is a good deal elsewhere. */
#define BATCH_STREAM 4096
#define BATCH_FILE 262144

/**
 * struct receiving - what is being received
 * @node: where from
 * @receiver: its receiver
 * @left: messages that are still wanted
 * @timeout_ns: how long to wait for the next; UMPSC_NO_DEADLINE: for ever
 * @follow: go on with the node's next channel
 * @exec: the command for each message, or NULL
 * @keep_going: also when it fails
 * @status: to end with, if nothing else comes
 * @room: bytes of messages that are taken at a time
 * @memory: where they are received
 * @size: bytes there, more than @room once a message was longer
 * @output: those that are to be written
 * @signals: where the signals come that end the command
 */
struct receiving {
	struct node node;
	int receiver;
	uint64_t left;
	uint64_t timeout_ns;
	bool follow;
	const char *exec;
	bool keep_going;
	enum exit_status status;
	size_t room;
	void *memory;
	size_t size;
	struct output output;
	int signals;
};

/* ---- Signals -------------------------------------------------------------- */

/*
 * From here on those that end the command are seen where it waits.  One that is
 * ignored from the start, as nohup and scripts do, stays so.
 */
static int signals_hold(void)
{
	static const int ending[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction action;
	sigset_t held;
	size_t i;
	int fd;

	sigemptyset(&held);
	for (i = 0; i < ARRAY_SIZE(ending); i++) {
		if (sigaction(ending[i], NULL, &action) ||
		    action.sa_handler != SIG_IGN)
			sigaddset(&held, ending[i]);
	}
	sigprocmask(SIG_BLOCK, &held, NULL);
	/* Found where it matters, by write() and poll(). */
	signal(SIGPIPE, SIG_IGN);
	fd = signalfd(-1, &held, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		die(STATUS_FAILED, "signalfd: %s", strerror(errno));
	return fd;
}

/* ---- The end ------------------------------------------------------------- */

/* Drop the receiver.  What that discards, the user is to know. */
static void let_go(struct receiving *r)
{
	struct umpsc_info info;

	if (!umpsc_info(r->receiver, &info) && info.messages &&
	    !(info.state & UMPSC_STATE_STANDING &&
	      !(info.state & UMPSC_STATE_ENDED)))
		say("%s: %llu queued %s discarded with the receiver; a standing node would keep %s",
		    r->node.name, (unsigned long long)info.messages,
		    human_plural(info.messages, "message is", "messages are"),
		    human_plural(info.messages, "it", "them"));
	close(r->receiver);
}

static void __attribute__((noreturn))
end(struct receiving *r, enum exit_status status)
{
	let_go(r);
	exit(status ? status : r->status);
}

/* As if the signal had not been caught. */
static void __attribute__((noreturn))
end_by_signal(struct receiving *r, int number)
{
	sigset_t set;

	let_go(r);
	signal(number, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, number);
	raise(number);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	_exit(128 + number);
}

/* One that was held has come. */
static void __attribute__((noreturn)) end_by_held_signal(struct receiving *r)
{
	struct signalfd_siginfo info;

	if (read(r->signals, &info, sizeof(info)) != sizeof(info))
		die(STATUS_FAILED, "signalfd: %s", strerror(errno));
	end_by_signal(r, info.ssi_signo);
}

static void __attribute__((noreturn))
output_failed(struct receiving *r, int error)
{
	if (error == EINTR)
		end_by_held_signal(r);
	if (error == EPIPE)
		end_by_signal(r, SIGPIPE);
	say("standard output: %s", strerror(error));
	end(r, STATUS_FAILED);
}

/* ---- Waiting -------------------------------------------------------------- */

/* What is polled, by its place. */
enum {
	POLL_RECEIVER,
	POLL_OUTPUT,
	POLL_SIGNALS,
	POLL_COUNT,
};

/* ppoll() until @deadline; 0 when it has passed.  Ends by a signal. */
static int wait_until(struct receiving *r, struct pollfd *fds,
		      uint64_t deadline)
{
	uint64_t now = now_ns();
	struct timespec ts = ns_timespec(deadline > now ? deadline - now : 0);
	int ret;

	ret = ppoll(fds, POLL_COUNT, deadline == UMPSC_NO_DEADLINE ? NULL : &ts,
		    NULL);
	if (ret < 0 && errno != EINTR)
		die(STATUS_FAILED, "poll: %s", strerror(errno));
	if (ret > 0 && fds[POLL_SIGNALS].revents)
		end_by_held_signal(r);
	/* Whoever reads the output may have gone, or there never was one. */
	if (ret > 0 && fds[POLL_OUTPUT].revents & POLLNVAL)
		output_failed(r, EBADF);
	if (ret > 0 && fds[POLL_OUTPUT].revents & (POLLERR | POLLHUP))
		output_failed(r, EPIPE);
	return ret;
}

/*
 * Wait until there is a message or the end, and until the output has room.  False
 * when @deadline has passed.
 */
static bool wait_ready(struct receiving *r, uint64_t deadline)
{
	struct pollfd fds[] = {
		[POLL_RECEIVER] = { .fd = r->receiver, .events = POLLIN },
		/* That its reader goes is seen while nothing comes, too. */
		[POLL_OUTPUT] = { .fd = r->exec ? -1 : STDOUT_FILENO },
		[POLL_SIGNALS] = { .fd = r->signals, .events = POLLIN },
	};

	while (!fds[POLL_RECEIVER].revents)
		if (!wait_until(r, fds, deadline))
			return false;
	if (r->exec)
		return true;
	fds[POLL_RECEIVER].fd = -1;
	fds[POLL_OUTPUT].events = POLLOUT;
	while (!fds[POLL_OUTPUT].revents)
		wait_until(r, fds, UMPSC_NO_DEADLINE);
	return true;
}

/* ---- Receiving ------------------------------------------------------------ */

/* As many as are wanted and fit, or a long one alone; 0 at the end.  Never waits. */
static int take(struct receiving *r, struct umpsc_batch *batch)
{
	unsigned int max = r->exec ? 1 : UINT32_MAX;
	size_t size = r->room;
	int n;

	if (r->left < max)
		max = r->left;
	for (;;) {
		umpsc_batch_init_fixed(batch, r->memory, size);
		n = umpsc_try_recv_many(r->receiver, batch, max);
		if (n >= 0 || errno != EMSGSIZE)
			return n;
		size = batch->need;
		if (size > r->size) {
			r->memory = reallocate(r->memory, size);
			r->size = size;
		}
	}
}

static void run_command(struct receiving *r, const struct umpsc_message *m)
{
	char *why;

	if (!child_run(r->exec, m, r->output.flags, &why)) {
		output_add(&r->output, m);
		output_save(&r->output, 0, why);
		end(r, STATUS_FAILED);
	}
	if (!why)
		return;
	say("%s: '%s' %s, with message %llu", r->node.name, r->exec, why,
	    (unsigned long long)m->seq);
	free(why);
	r->status = STATUS_FAILED;
	if (!r->keep_going)
		end(r, STATUS_FAILED);
}

static void hand_out(struct receiving *r, struct umpsc_batch *batch)
{
	struct umpsc_message m;
	int error;

	while (umpsc_batch_next(batch, &m) > 0) {
		if (r->exec)
			run_command(r, &m);
		else
			output_add(&r->output, &m);
	}
	error = output_write(&r->output, r->signals);
	if (error)
		output_failed(r, error);
}

/* Until the channel ends. */
static void receive_all(struct receiving *r)
{
	struct umpsc_batch batch;
	char text[HUMAN_MAX];
	uint64_t deadline;
	int n;

	while (r->left) {
		deadline = r->timeout_ns == UMPSC_NO_DEADLINE ?
				   UMPSC_NO_DEADLINE :
				   umpsc_deadline(r->timeout_ns);
		if (!wait_ready(r, deadline)) {
			say("%s: no message has come for %s", r->node.name,
			    human_duration(r->timeout_ns, text));
			end(r, STATUS_TIMEOUT);
		}
		n = take(r, &batch);
		if (!n)
			return;
		/* EAGAIN: who shares the receiver was faster. */
		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			say("%s: %s", r->node.name, umpsc_strerror(errno));
			end(r, STATUS_FAILED);
		}
		if (n > 0) {
			r->left -= n;
			hand_out(r, &batch);
		}
	}
}

static void receive_channel(struct receiving *r)
{
	struct umpsc_info info;

	r->receiver = node_open(&r->node, OPEN_RECEIVER);
	if (umpsc_info(r->receiver, &info))
		die(STATUS_FAILED, "%s: %s", r->node.name,
		    umpsc_strerror(errno));
	r->output.flags = info.flags;
	r->output.generation = info.generation;
	receive_all(r);
	let_go(r);
}

/* ---- The command ---------------------------------------------------------- */

static void parse_option(struct receiving *r, int option)
{
	switch (option) {
	case 'n':
		if (!parse_count(optarg, &r->left))
			misused(&command_recv,
				"'%s' is not a number of messages", optarg);
		break;
	case 't':
		if (!parse_duration(optarg, &r->timeout_ns))
			misused(&command_recv, "'%s' is not a time", optarg);
		break;
	case 'f':
		r->follow = true;
		break;
	case '0':
		r->output.framing = FRAMING_NUL;
		break;
	case 'r':
		r->output.framing = FRAMING_WHOLE;
		break;
	case 'p':
		r->output.framing = FRAMING_PREFIXED;
		break;
	case 'j':
		r->output.framing = FRAMING_JSON;
		break;
	case 'x':
		r->exec = optarg;
		break;
	case 'k':
		r->keep_going = true;
		break;
	}
}

static int recv_run(int argc, char **argv)
{
	struct receiving r = {
		.left = UINT64_MAX,
		.timeout_ns = UMPSC_NO_DEADLINE,
	};
	bool counted;
	int option;

	while ((option = next_option(&command_recv, argc, argv, "n:t:f0rpjx:k",
				     options)) != -1)
		parse_option(&r, option);
	if (argc - optind != 1)
		misused(&command_recv, "it takes one NODE");
	if (r.keep_going && !r.exec)
		misused(&command_recv, "--keep-going goes with --exec");
	r.node = node_parse(&command_recv, argv[optind]);

	/* Even to open the node would discard what is there. */
	if (!r.left)
		return STATUS_OK;
	if (!r.exec && (fcntl(STDOUT_FILENO, F_GETFL) & O_ACCMODE) == O_RDONLY)
		die(STATUS_FAILED, "standard output: %s", strerror(EBADF));
	counted = r.left != UINT64_MAX;
	r.room = output_is_stream() ? BATCH_STREAM : BATCH_FILE;
	r.size = r.room;
	r.memory = allocate(r.size);
	r.signals = signals_hold();
	do {
		receive_channel(&r);
	} while (r.follow && r.left);

	if (r.left && counted) {
		say("%s: the channel has ended, %llu messages short",
		    r.node.name, (unsigned long long)r.left);
		return STATUS_ENDED;
	}
	return r.status;
}

const struct command command_recv = {
	.name = "recv",
	.summary = "receive messages: as lines, JSON, for a command, ...",
	.usage = usage,
	.run = recv_run,
};
