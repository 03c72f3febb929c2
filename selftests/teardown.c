// SPDX-License-Identifier: GPL-2.0-only
/*
 * A backlog of any size goes without keeping a CPU from others, wherever its last
 * reference goes.
 */
#include "umpsc_memory.h"

#include <sys/resource.h>

#define CPUS 2
/* Messages of a byte that fill a page: a run of one object. */
#define BATCH 100

/* Longest that a real-time thread may wait for a CPU that it is entitled to. */
#define DELAY_MAX_NS 1000000000ULL
/* The host may stall a whole emulated CPU; it does not do so each time. */
#define ATTEMPTS 3

FIXTURE(teardown)
{
	struct umpsc_limits_saved saved;
	struct umpsc_query before;
	int manager;
	int rx;
	int tx;
};

FIXTURE_SETUP(teardown)
{
	ASSERT_TRUE(umpsc_limits_save(&self->saved));
	ASSERT_TRUE(umpsc_limit_where_slow());
	umpsc_log_memory(_metadata, "before");
	self->manager = ASSERT_FD(umpsc_open_manager());
	ASSERT_EQ(0, umpsc_query(self->manager, &self->before));
	self->rx = -1;
	self->tx = -1;
}

FIXTURE_TEARDOWN(teardown)
{
	if (self->rx >= 0)
		close(self->rx);
	if (self->tx >= 0)
		close(self->tx);
	close(self->manager);
	EXPECT_TRUE(umpsc_limits_restore(&self->saved));
	umpsc_log_memory(_metadata, "after");
}

/* A thread of real time that sleeps and measures how late it is, on one CPU. */
struct watch {
	struct umpsc_thread thread;
	int cpu;
	atomic_bool ready;
	atomic_bool stop;
	__u64 latest;
};

static long watch_fn(void *arg)
{
	struct sched_param fifo = { .sched_priority = 50 };
	struct watch *w = arg;
	__u64 start, late;

	if (!umpsc_run_on(w->cpu) || sched_setscheduler(0, SCHED_FIFO, &fifo))
		return -1;
	w->ready = true;
	while (!w->stop) {
		start = umpsc_now_ns();
		umpsc_nap_ms(2);
		late = umpsc_now_ns() - start;
		if (late > w->latest)
			w->latest = late;
	}
	return 0;
}

static void watches_start(struct __test_metadata *_metadata, struct watch *w)
{
	int i;

	memset(w, 0, CPUS * sizeof(*w));
	for (i = 0; i < CPUS; i++) {
		w[i].cpu = i;
		ASSERT_EQ(0, umpsc_thread_start(&w[i].thread, watch_fn, &w[i]));
		ASSERT_TRUE(UMPSC_UNTIL(w[i].ready || w[i].thread.done));
		ASSERT_TRUE(w[i].ready);
	}
}

/* The longest delay that there was. */
static __u64 watches_stop(struct __test_metadata *_metadata, struct watch *w)
{
	__u64 latest = 0;
	int i;

	for (i = 0; i < CPUS; i++)
		w[i].stop = true;
	for (i = 0; i < CPUS; i++) {
		ASSERT_TRUE(umpsc_thread_join(&w[i].thread));
		EXPECT_EQ(0, w[i].thread.ret);
		if (w[i].latest > latest)
			latest = w[i].latest;
	}
	return latest;
}

/* Fills a channel with messages of a byte until the module refuses: how many. */
static __u64 fill(struct __test_metadata *_metadata, int tx)
{
	struct umpsc_batch b = {};
	struct umpsc_info info;
	int i;

	for (i = 0; i < BATCH; i++)
		umpsc_batch_add(&b, "x", 1);
	while (umpsc_batch_send(tx, &b) == BATCH)
		;
	EXPECT_TRUE(errno == ENOMEM || errno == EDQUOT)
	TH_LOG("%s", strerror(errno));
	umpsc_batch_free(&b);
	ASSERT_EQ(0, umpsc_info(tx, &info));
	EXPECT_LT(100000, info.messages);
	return info.messages;
}

/* How often this thread has left its CPU to another that was to run. */
static long preempted(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_nivcsw;
}

static bool all_is_freed(int manager, const struct umpsc_query *before)
{
	struct umpsc_query now;

	return !umpsc_query(manager, &now) && now.memory <= before->memory &&
	       now.messages == before->messages;
}

TEST_LONG(teardown, backlog_of_all_memory_keeps_no_cpu_when_its_receiver_closes)
{
	struct watch w[CPUS];
	__u64 n, latest, start;
	bool freed;
	long left;
	int i;

	for (i = 0; i < ATTEMPTS; i++) {
		ASSERT_EQ(0, umpsc_private(&self->rx, &self->tx));
		n = fill(_metadata, self->tx);
		watches_start(_metadata, w);
		left = preempted();
		start = umpsc_now_ns();
		close(self->rx);
		start = umpsc_now_ns() - start;
		left = preempted() - left;
		latest = watches_stop(_metadata, w);
		close(self->tx);
		TH_LOG("%llu messages freed in %llu ms; longest delay %llu ms",
		       n, start / 1000000, latest / 1000000);
		/* Somebody wants it every 2 ms. */
		TH_LOG("this CPU was given up %ld times meanwhile", left);
		EXPECT_LT(start / 1000000 / 20, left);
		self->rx = -1;
		self->tx = -1;
		freed = UMPSC_UNTIL(all_is_freed(self->manager, &self->before));
		EXPECT_TRUE(freed);
		if (latest < DELAY_MAX_NS)
			break;
	}
	EXPECT_GT(DELAY_MAX_NS, latest);
}

/* A socket that is only in flight through itself, and @fd with it: garbage. */
static void make_garbage(struct __test_metadata *_metadata, int fd)
{
	int pair[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
	ASSERT_EQ(0, umpsc_pass_fd(pair[0], fd));
	ASSERT_EQ(0, umpsc_pass_fd(pair[0], pair[1]));
	ASSERT_EQ(0, umpsc_pass_fd(pair[1], pair[0]));
	close(fd);
	close(pair[0]);
	close(pair[1]);
}

/* What makes the kernel look for garbage: a socket goes. */
static bool collect_garbage(void)
{
	int s = socket(AF_UNIX, SOCK_DGRAM, 0);

	return s >= 0 && !close(s);
}

TEST_LONG(teardown, backlog_in_a_socket_cycle_keeps_no_cpu_when_collected)
{
	struct watch w[CPUS];
	__u64 n, latest;
	bool freed;
	int i;

	for (i = 0; i < ATTEMPTS; i++) {
		ASSERT_EQ(0, umpsc_private(&self->rx, &self->tx));
		n = fill(_metadata, self->tx);
		watches_start(_metadata, w);
		make_garbage(_metadata, self->rx);
		self->rx = -1;
		EXPECT_TRUE(UMPSC_UNTIL(collect_garbage() &&
					umpsc_poll(self->tx, 0) & POLLERR));
		close(self->tx);
		self->tx = -1;
		freed = UMPSC_UNTIL(all_is_freed(self->manager, &self->before));
		EXPECT_TRUE(freed);
		latest = watches_stop(_metadata, w);
		TH_LOG("%llu messages; longest delay %llu ms", n,
		       latest / 1000000);
		if (latest < DELAY_MAX_NS)
			break;
	}
	EXPECT_GT(DELAY_MAX_NS, latest);
}

TEST_LONG(teardown,
	  unloading_waits_for_a_backlog_that_is_freed_in_the_background)
{
	int module;

	ASSERT_EQ(0, umpsc_private(&self->rx, &self->tx));
	fill(_metadata, self->tx);
	make_garbage(_metadata, self->rx);
	self->rx = -1;
	EXPECT_TRUE(UMPSC_UNTIL(collect_garbage() &&
				umpsc_poll(self->tx, 0) & POLLERR));
	close(self->tx);
	self->tx = -1;
	close(self->manager);
	EXPECT_TRUE(UMPSC_UNTIL(!syscall(SYS_delete_module, "umpsc", 0)))
	TH_LOG("%s", strerror(errno));
	/* Nothing of it may run any more. */
	umpsc_nap_ms(1500);
	module = ASSERT_FD(open("/umpsc.ko", O_RDONLY | O_CLOEXEC));
	ASSERT_EQ(0, syscall(SYS_finit_module, module, "", 0))
	TH_LOG("%s", strerror(errno));
	close(module);
	self->manager = ASSERT_FD(umpsc_open_manager());
}

TEST_HARNESS_MAIN
