// SPDX-License-Identifier: GPL-2.0-only
/*
 * A backlog of any size goes without keeping a CPU from others, wherever its last
 * reference goes.
 */
#include "umpsc_cpu.h"
#include "umpsc_memory.h"
#include "umpsc_tracefs.h"

#define CPUS 2
/* Messages of a byte that fill a page: a run of one object. */
#define BATCH 100
/* A backlog of that many, or of what the memory has room for. */
#define MESSAGES 10000000
/* Where each is a call of its own: about 10 s on an emulated machine. */
#define SINGLE_MESSAGES 500000
/* What may be charged ahead on each CPU, and so be refused early. */
#define AHEAD (64 << 10)

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

static void watches_start(struct __test_metadata *_metadata,
			  struct umpsc_watch *w)
{
	int i;

	for (i = 0; i < CPUS; i++)
		ASSERT_TRUE(umpsc_watch_start(&w[i], i));
}

/* The longest delay that there was. */
static __u64 watches_stop(struct __test_metadata *_metadata,
			  struct umpsc_watch *w)
{
	__u64 latest = 0;
	int i;

	for (i = 0; i < CPUS; i++) {
		ASSERT_TRUE(umpsc_watch_stop(&w[i]));
		if (w[i].latest > latest)
			latest = w[i].latest;
	}
	return latest;
}

/* Bytes of a page that the module holds, with what the allocator adds to check it. */
static __u64 page_cost(void)
{
	static char text[1 << 17];
	unsigned long per_slab, pages;
	char *at;

	if (umpsc_read_file("/proc/slabinfo", text, sizeof(text)) < 0)
		return 4096;
	at = strstr(text, "\numpsc-page ");
	if (!at ||
	    sscanf(at, " %*s %*u %*u %*u %lu %lu", &per_slab, &pages) != 2)
		return 4096;
	return pages * 4096 / per_slab;
}

/* How many messages fit at least, in batches, before there is any. */
static __u64 messages_least(struct __test_metadata *_metadata, int manager)
{
	__u64 available = umpsc_meminfo("MemAvailable"), pages;
	struct umpsc_query q;

	ASSERT_EQ(0, umpsc_query(manager, &q));
	ASSERT_LT(q.reserve_bytes, available);
	/* The rest of the machine lives on meanwhile. */
	available -= q.reserve_bytes;
	pages = (available - available / 8) / page_cost();
	if (pages > (q.max_bytes - q.memory - CPUS * AHEAD) / 4096)
		pages = (q.max_bytes - q.memory - CPUS * AHEAD) / 4096;
	TH_LOG("room for %llu pages of %llu bytes", pages, page_cost());
	return pages < MESSAGES / BATCH ? pages * BATCH : MESSAGES;
}

/* Fills a channel with messages of a byte until the module refuses: how many. */
static __u64 fill(struct __test_metadata *_metadata, int manager, int tx)
{
	__u64 least = messages_least(_metadata, manager);
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
	EXPECT_LE(least, info.messages);
	return info.messages;
}

/* The same with a write for each, of which many share a page. */
static __u64 fill_singly(struct __test_metadata *_metadata, int manager, int tx)
{
	__u64 n = SINGLE_MESSAGES / umpsc_slow(), i;
	__u64 held = umpsc_memory_held(manager);

	for (i = 0; i < n; i++)
		ASSERT_EQ(1, write(tx, "x", 1));
	/* One that shares none takes 96 bytes or more. */
	EXPECT_GT(held + n * 96, umpsc_memory_held(manager));
	return n;
}

static bool all_is_freed(int manager, const struct umpsc_query *before)
{
	struct umpsc_query now;

	return !umpsc_query(manager, &now) && now.memory <= before->memory &&
	       now.messages == before->messages;
}

/* Who closes the receiver frees the backlog that @fill makes, and gives the CPU up. */
static void close_receiver_of(struct __test_metadata *_metadata,
			      FIXTURE_DATA(teardown) * self,
			      __u64 (*fill)(struct __test_metadata *_metadata,
					    int manager, int tx))
{
	struct umpsc_watch w[CPUS];
	__u64 n, latest, start;
	bool freed;
	long left;
	int i;

	for (i = 0; i < ATTEMPTS; i++) {
		ASSERT_EQ(0, umpsc_private(&self->rx, &self->tx));
		n = fill(_metadata, self->manager, self->tx);
		watches_start(_metadata, w);
		left = umpsc_preempted(gettid());
		start = umpsc_now_ns();
		close(self->rx);
		start = umpsc_now_ns() - start;
		left = umpsc_preempted(gettid()) - left;
		latest = watches_stop(_metadata, w);
		close(self->tx);
		TH_LOG("%llu messages freed in %llu ms; longest delay %llu ms",
		       n, start / 1000000, latest / 1000000);
		TH_LOG("this CPU was given up %ld times meanwhile", left);
		EXPECT_LT(umpsc_preempted_least(start), left);
		self->rx = -1;
		self->tx = -1;
		freed = UMPSC_UNTIL(all_is_freed(self->manager, &self->before));
		EXPECT_TRUE(freed);
		if (latest < DELAY_MAX_NS)
			break;
	}
	EXPECT_GT(DELAY_MAX_NS, latest);
}

TEST_LONG(teardown, backlog_of_all_memory_keeps_no_cpu_when_its_receiver_closes)
{
	close_receiver_of(_metadata, self, fill);
}

TEST_LONG(teardown,
	  backlog_of_single_writes_keeps_no_cpu_when_its_receiver_closes)
{
	close_receiver_of(_metadata, self, fill_singly);
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

/* The kernel's notes of what the module's own workqueue is to do, and of a backlog. */
#define QUEUED "workqueue/workqueue_queue_work"
#define IN_OUR_OWN "workqueue == \"umpsc\""
#define TO_FREE "function=umpsc_channel_free_work"

TEST_LONG(teardown, backlog_in_a_socket_cycle_keeps_no_cpu_when_collected)
{
	struct umpsc_watch w[CPUS];
	__u64 n, latest;
	bool freed;
	int i;

	for (i = 0; i < ATTEMPTS; i++) {
		ASSERT_EQ(0, umpsc_private(&self->rx, &self->tx));
		n = fill(_metadata, self->manager, self->tx);
		watches_start(_metadata, w);
		ASSERT_TRUE(umpsc_trace_begin(QUEUED, IN_OUR_OWN));
		make_garbage(_metadata, self->rx);
		self->rx = -1;
		EXPECT_TRUE(UMPSC_UNTIL(collect_garbage() &&
					umpsc_poll(self->tx, 0) & POLLERR));
		close(self->tx);
		self->tx = -1;
		freed = UMPSC_UNTIL(all_is_freed(self->manager, &self->before));
		EXPECT_TRUE(freed);
		EXPECT_EQ(1, umpsc_trace_end(QUEUED, TO_FREE));
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
	fill(_metadata, self->manager, self->tx);
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
