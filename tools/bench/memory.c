// SPDX-License-Identifier: MIT
/*
 * The cases about memory: what messages and channels hold, as the whole machine
 * sees it, and whether giving much of it back keeps others waiting.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include <linux/umpsc.h>

#define PAGE 4096

/* Messages, large ones and channels to look at. */
#define MEMORY_LARGE 256
#define MEMORY_LARGE_BYTES (1U << 20)
#define MEMORY_CHANNELS 10000

/* A fourth of what is measured comes before it, and does not count. */
#define FILL_PART 4
#define CONDUITS (MEMORY_CHANNELS + MEMORY_CHANNELS / FILL_PART)

/* ---- The machine's memory ------------------------------------------------ */

/* Pages that nobody has: the free lists, and what each CPU keeps of them. */
static double pages_free(void)
{
	FILE *file;
	char line[256];
	double sum = 0, n;

	/* What was closed just now is freed once all CPUs have taken note. */
	sleep(1);
	/* What CPUs have not yet added to the sums. */
	file = fopen("/proc/sys/vm/stat_refresh", "w");
	if (file) {
		fputs("1\n", file);
		fclose(file);
	}
	file = fopen("/proc/zoneinfo", "r");
	if (!file)
		die("/proc/zoneinfo");
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, " nr_free_pages %lf", &n) == 1 ||
		    sscanf(line, " count: %lf", &n) == 1)
			sum += n;
	fclose(file);
	return sum;
}

/* Whether the machine tells: not to everybody. */
static int memory_readable(void)
{
	return access("/proc/zoneinfo", R_OK) ? -errno : 0;
}

/* ---- memory: of messages ------------------------------------------------- */

static int messages_open(struct subject *s)
{
	int err = memory_readable();

	return err ? err : umpsc_channel(&s->c[0]);
}

static void messages_close(struct subject *s)
{
	close(s->c[0].tx);
	close(s->c[0].rx);
}

static void messages_send(struct subject *s, unsigned int n)
{
	size_t size = UMPSC_RECORD_SIZE(UMPSC_RECORD_HDR, s->bytes);
	struct umpsc_send_args send = { .addr = (uintptr_t)s->buffer,
					.len = s->batch * size };
	unsigned int i;

	if (!s->packed) {
		for (; n; n--)
			if (write(s->c[0].tx, s->buffer, s->bytes) !=
			    (ssize_t)s->bytes)
				die("write");
		return;
	}
	for (i = 0; i < s->batch; i++)
		*(struct umpsc_record *)(s->buffer + i * size) =
			(struct umpsc_record){ .len = s->bytes };
	for (; n; n -= s->batch)
		if (ioctl(s->c[0].tx, UMPSC_IOC_SEND, &send) != (int)s->batch)
			die("SEND");
}

/* The first ones fill what earlier ones have left half empty, and do not count. */
static double messages_run(struct subject *s, unsigned int n)
{
	double before;

	messages_send(s, n / FILL_PART / s->batch * s->batch);
	before = pages_free();
	messages_send(s, n);
	return (before - pages_free()) * PAGE;
}

static struct subject *messages_add(unsigned int bytes, unsigned int batch,
				    unsigned int n)
{
	struct subject *s;

	group_new();
	s = subject_add("memory", "umpsc");
	s->metric = "bytes";
	s->bytes = bytes;
	s->batch = batch;
	s->packed = batch > 1;
	s->count = n / batch * batch;
	s->samples_max = 1;
	s->open = messages_open;
	s->run = messages_run;
	s->close = messages_close;
	return s;
}

/*
 * How many messages of 64 bytes fill pages: of the batches around a page, the one
 * of which INFO says that a message is cheapest in it.
 */
static unsigned int batch_that_fills(void)
{
	static char buffer[BATCH_MAX * 96];
	struct subject s = { .bytes = 64, .packed = true, .buffer = buffer };
	unsigned int batch, best = 42;
	double each, least = 1e9;
	struct umpsc_info info;

	for (batch = 16; batch < BATCH_MAX; batch++) {
		if (umpsc_channel(&s.c[0]))
			break;
		s.batch = batch;
		messages_send(&s, batch);
		if (ioctl(s.c[0].rx, UMPSC_IOC_INFO, &info))
			die("INFO");
		each = (double)info.memory / batch;
		if (each <= least) {
			least = each;
			best = batch;
		}
		messages_close(&s);
	}
	return best;
}

/* ---- memory: of an empty channel, its two files aside -------------------- */

/*
 * What a file costs is seen at another kind, of which there is next to nothing
 * behind the file: a signalfd, with its 8 bytes.
 */
#define SIGNALFD_BYTES 8

static int signal_files(struct conduit *c)
{
	sigset_t none;

	sigemptyset(&none);
	c->tx = signalfd(-1, &none, SFD_CLOEXEC);
	c->rx = signalfd(-1, &none, SFD_CLOEXEC);
	return c->tx < 0 || c->rx < 0 ? -errno : 0;
}

/*
 * Bytes that each of @n pairs of files holds, after as many as a FILL_PART of them.
 * Closes them again.
 */
static double pair_bytes(struct conduit *c, unsigned int n,
			 int (*make)(struct conduit *c))
{
	unsigned int i, first = n / FILL_PART;
	double pages = 0;

	for (i = 0; i < first + n; i++) {
		if (i == first)
			pages = pages_free();
		if (make(&c[i]))
			die("making files");
	}
	pages -= pages_free();
	for (i = 0; i < first + n; i++) {
		close(c[i].tx);
		close(c[i].rx);
	}
	return pages * PAGE / n;
}

static int channels_open(struct subject *s)
{
	struct rlimit limit = { 3 * MEMORY_CHANNELS, 3 * MEMORY_CHANNELS };
	int err = memory_readable();

	if (err)
		return err;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		return -errno;
	/* The table of descriptors grows now. */
	if (dup2(0, 3 * MEMORY_CHANNELS - 1) < 0)
		return -errno;
	close(3 * MEMORY_CHANNELS - 1);
	err = umpsc_channel(&s->c[0]);
	if (err)
		return err;
	messages_close(s);
	s->private = calloc(CONDUITS, sizeof(struct conduit));
	if (!s->private)
		return -ENOMEM;
	return 0;
}

static double channels_run(struct subject *s, unsigned int n)
{
	double files = pair_bytes(s->private, n, signal_files);

	return n * (pair_bytes(s->private, n, umpsc_channel) - files +
		    2 * SIGNALFD_BYTES);
}

static void channels_close(struct subject *s)
{
	free(s->private);
}

static void channels_add(void)
{
	struct subject *s;

	group_new();
	s = subject_add("memory", "umpsc");
	s->metric = "bytes";
	s->producers = 0;
	s->batch = 0;
	s->count = MEMORY_CHANNELS;
	s->samples_max = 1;
	s->open = channels_open;
	s->run = channels_run;
	s->close = channels_close;
}

/* ---- close: does it keep others waiting? --------------------------------- */

#define WATCH_NS 100000
#define WATCH_PRIORITY 50
#define IDLE_NS 1e9
#define CLOSE_SAMPLES 3

/* What the watcher and the watched share; and how the watched one was scheduled before. */
struct watch {
	_Atomic bool armed;
	_Atomic bool stop;
	_Atomic double longest_ns;
	int policy;
	struct sched_param param;
};

static void timespec_add(struct timespec *ts, long ns)
{
	ts->tv_nsec += ns;
	while (ts->tv_nsec >= 1000000000) {
		ts->tv_nsec -= 1000000000;
		ts->tv_sec++;
	}
}

/* Wakes every 100 us, before all others on its CPU, and notes how late that was. */
static void NORETURN watch_run(struct watch *w)
{
	struct timespec next;
	double late;

	clock_gettime(CLOCK_MONOTONIC, &next);
	while (!w->stop) {
		timespec_add(&next, WATCH_NS);
		if (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next,
				    NULL))
			die("clock_nanosleep");
		late = now_ns() - (next.tv_sec * 1e9 + next.tv_nsec);
		if (w->armed && late > w->longest_ns)
			w->longest_ns = late;
		if (late > WATCH_NS)
			clock_gettime(CLOCK_MONOTONIC, &next);
	}
	_exit(0);
}

/* What is watched must be one of many: a real-time task would be throttled for its share. */
static void watched_begin(struct watch *w)
{
	struct sched_param normal = { .sched_priority = 0 };

	w->policy = sched_getscheduler(0);
	if (w->policy < 0 || sched_getparam(0, &w->param) ||
	    sched_setscheduler(0, SCHED_OTHER, &normal))
		die("the scheduler's policy");
}

static void watched_end(struct watch *w)
{
	if (sched_setscheduler(0, w->policy, &w->param))
		die("the scheduler's policy");
}

static int watch_start(struct subject *s)
{
	struct sched_param param = { .sched_priority = WATCH_PRIORITY };
	struct watch *w = mmap(NULL, sizeof(*w), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int err;

	if (w == MAP_FAILED)
		return -errno;
	s->private = w;
	s->child = process_new();
	if (!s->child)
		watch_run(w);
	if (!sched_setscheduler(s->child, SCHED_FIFO, &param)) {
		watched_begin(w);
		return 0;
	}
	err = -errno;
	w->stop = true;
	process_end(s->child);
	munmap(w, sizeof(*w));
	return err;
}

static void watch_end(struct subject *s)
{
	struct watch *w = s->private;

	w->stop = true;
	process_end(s->child);
	watched_end(w);
	munmap(w, sizeof(*w));
}

/* Busy, as the clock that counts instructions is late for who wakes an idle CPU. */
static void spin(double ns)
{
	double start = now_ns();

	while (now_ns() - start < ns)
		;
}

/* The longest delay since the watch was armed; one is known once it is over. */
static double watch_longest(struct watch *w)
{
	spin(10 * WATCH_NS);
	w->armed = false;
	return w->longest_ns;
}

static void watch_arm(struct watch *w)
{
	spin(10 * WATCH_NS);
	w->longest_ns = 0;
	w->armed = true;
}

static int close_open(struct subject *s)
{
	int err = umpsc_channel(&s->c[0]);

	if (err)
		return err;
	messages_close(s);
	return watch_start(s);
}

static double close_run(struct subject *s, unsigned int n)
{
	double longest;

	(void)n;
	if (umpsc_channel(&s->c[0]))
		die("CHANNEL");
	messages_send(s, s->batch);
	watch_arm(s->private);
	close(s->c[0].rx);
	longest = watch_longest(s->private);
	close(s->c[0].tx);
	return longest;
}

static double idle_run(struct subject *s, unsigned int n)
{
	(void)n;
	watch_arm(s->private);
	spin(IDLE_NS);
	return watch_longest(s->private);
}

static void close_add(const char *peer, unsigned int queued,
		      int (*open)(struct subject *s),
		      double (*run)(struct subject *s, unsigned int n))
{
	struct subject *s;

	group_new();
	s = subject_add("close", peer);
	s->metric = "ns";
	s->bytes = queued ? 64 : 0;
	s->producers = 0;
	s->batch = queued;
	s->worst = true;
	s->count = 1;
	s->samples_max = options.quick ? 1 : CLOSE_SAMPLES;
	s->open = open;
	s->run = run;
	s->close = watch_end;
}

/* ------------------------------------------------------------------------- */

/* The watch by itself, while a program runs that does nothing. */
void idle_case(void)
{
	close_add("idle", 0, watch_start, idle_run);
}

void memory_cases(void)
{
	unsigned int n = options.quick ? MILLION / 10 : MILLION;

	channels_add();
	messages_add(64, 1, n);
	messages_add(64, batch_that_fills(), n);
	messages_add(64, BATCH_MAX, n);
	messages_add(MEMORY_LARGE_BYTES, 1, MEMORY_LARGE);
	close_add("umpsc", MILLION, close_open, close_run);
}
