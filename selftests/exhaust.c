// SPDX-License-Identifier: GPL-2.0-only
/*
 * Endless senders end in an error of their own, and nothing else of the machine
 * ends: nobody is killed, another program that holds most of the memory and goes on
 * to grow finishes, and what was accepted is received.
 */
#include "umpsc_memory.h"

#define USER 5001
#define GROUP "umpsc-exhaust"
#define MIB (1LL << 20)
#define SENDERS 8

/* A ceiling that many get to before the reserve. */
#define MANY_MAX (96 * MIB)

enum who {
	ROOT,
	CGROUP,
	ORDINARY,
	MANY,
};

/* What each message begins with. */
struct mark {
	__u64 sender;
	__u64 index;
};

/* ---- The other program ------------------------------------------------------- */

struct other {
	pid_t pid;
	int ready;
	int finish;
};

#define PAGE 4096

/* Each page has its place in it, and how often it was touched. */
struct page {
	size_t place;
	size_t touched;
	unsigned char rest[PAGE - 2 * sizeof(size_t)];
};

/* Touches page @i, @again or for the first time; whether it is as it was left. */
static bool touch(struct page *all, size_t i, bool again)
{
	bool same = again ? all[i].touched && all[i].place == i :
			    !all[i].touched;

	all[i].place = i;
	all[i].touched++;
	return same;
}

/*
 * Holds 60 % of RAM, goes on to touch it all, over and over, and grows to 64 % bit by
 * bit; and to 68 % when told to finish.
 */
static int other_main(int ready, int finish)
{
	const size_t ram = umpsc_meminfo("MemTotal") / PAGE;
	size_t held = 0, at = 0, step;
	struct page *all = mmap(NULL, ram * PAGE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
				0);
	struct pollfd told = { .fd = finish, .events = POLLIN };
	bool finishing = false, same = true;

	if (all == MAP_FAILED)
		return 1;
	for (; held < ram / 100 * 60; held++)
		same &= touch(all, held, false);
	if (write(ready, "r", 1) != 1)
		return 2;
	while (held < ram / 100 * 68) {
		if (!finishing && umpsc_poll_fds(&told, 1, 20) == 1)
			finishing = true;
		/* 8 MiB of what is held, and a quarter of one of what is new. */
		for (step = 0; step < 8 * MIB / PAGE; step++, at++)
			same &= touch(all, at % held, true);
		if (finishing || held < ram / 100 * 64)
			for (step = 0; step < MIB / 4 / PAGE; step++, held++)
				same &= touch(all, held, false);
	}
	for (at = 0; at < held; at++)
		same &= touch(all, at, true);
	return same ? 0 : 3;
}

static void other_start(struct __test_metadata *_metadata, struct other *other)
{
	int ready[2], finish[2];
	char byte;

	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, pipe(finish));
	other->pid = fork();
	ASSERT_LE(0, other->pid);
	if (!other->pid)
		_exit(other_main(ready[1], finish[0]));
	close(ready[1]);
	close(finish[0]);
	other->finish = finish[1];
	ASSERT_EQ(1, read(ready[0], &byte, 1));
	close(ready[0]);
}

/* ---- The senders -------------------------------------------------------------- */

/*
 * Sends messages of @len bytes until one is refused; the error that it ended with.
 */
static int send_endlessly(int tx, __u64 sender, size_t len, __u64 *sent)
{
	static union {
		struct mark mark;
		unsigned char bytes[1 << 16];
	} message;

	message.mark.sender = sender;
	for (*sent = 0; *sent < 1 << 24; ++*sent) {
		message.mark.index = *sent;
		errno = 0;
		if (write(tx, &message, len) != (ssize_t)len)
			return errno ? errno : EIO;
	}
	return 0;
}

FIXTURE(exhaust)
{
	struct umpsc_limits_saved saved;
	__u64 *sent;
	int *err;
	int manager;
	int rx;
	int tx;
};

FIXTURE_VARIANT(exhaust)
{
	enum who who;
	bool other;
};

FIXTURE_VARIANT_ADD(exhaust, root)
UMPSC_VARIANT(.who = ROOT, .other = false);

FIXTURE_VARIANT_ADD(exhaust, root_while_another_grows)
UMPSC_VARIANT(.who = ROOT, .other = true);

FIXTURE_VARIANT_ADD(exhaust, cgroup)
UMPSC_VARIANT(.who = CGROUP, .other = false);

FIXTURE_VARIANT_ADD(exhaust, cgroup_while_another_grows)
UMPSC_VARIANT(.who = CGROUP, .other = true);

FIXTURE_VARIANT_ADD(exhaust, user)
UMPSC_VARIANT(.who = ORDINARY, .other = false);

FIXTURE_VARIANT_ADD(exhaust, user_while_another_grows)
UMPSC_VARIANT(.who = ORDINARY, .other = true);

FIXTURE_VARIANT_ADD(exhaust, many)
UMPSC_VARIANT(.who = MANY, .other = false);

FIXTURE_VARIANT_ADD(exhaust, many_while_another_grows)
UMPSC_VARIANT(.who = MANY, .other = true);

FIXTURE_SETUP(exhaust)
{
	ASSERT_TRUE(umpsc_limits_save(&self->saved));
	self->manager = ASSERT_FD(umpsc_open_manager());
	ASSERT_EQ(0, umpsc_private_with(&self->rx, &self->tx, 0, O_NONBLOCK, 0,
					NULL));
	ASSERT_TRUE(umpsc_cgroup_make(GROUP, "48M"));
	self->sent = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->sent);
	self->err = (int *)(self->sent + SENDERS);
}

FIXTURE_TEARDOWN(exhaust)
{
	close(self->rx);
	close(self->tx);
	close(self->manager);
	EXPECT_TRUE(umpsc_limits_restore(&self->saved));
	EXPECT_TRUE(umpsc_cgroup_remove(GROUP));
}

/* All that was accepted, each sender's in order. */
static void expect_drained(struct __test_metadata *_metadata, int rx,
			   const __u64 *sent, int senders)
{
	static struct {
		struct mark mark;
		unsigned char rest[1 << 16];
	} message;
	__u64 next[SENDERS] = {};
	int i;

	while (read(rx, &message, sizeof(message)) > 0) {
		ASSERT_GT(senders, message.mark.sender);
		ASSERT_EQ(next[message.mark.sender], message.mark.index);
		next[message.mark.sender]++;
	}
	EXPECT_EQ(EAGAIN, errno);
	for (i = 0; i < senders; i++)
		EXPECT_EQ(sent[i], next[i]) TH_LOG("sender %d", i);
}

TEST_LONG(exhaust, endless_sender_ends_in_an_error_and_nobody_else_does)
{
	const int senders = variant->who == MANY ? SENDERS : 1;
	/* 0: the reserve or a limit, whichever comes first. */
	const int want = variant->who == CGROUP			     ? ENOMEM :
			 variant->who >= ORDINARY && !variant->other ? EDQUOT :
								       0;
	__u64 held = umpsc_memory_held(self->manager);
	long long kills = umpsc_oom_kills();
	struct other other = {};
	struct umpsc_query query;
	struct umpsc_info info;
	pid_t pid[SENDERS];
	__u64 all = 0;
	int i;

	umpsc_log_memory(_metadata, "before");
	if (variant->who == CGROUP)
		TH_LOG("before: %lld bytes of the cgroup",
		       umpsc_cgroup_current(GROUP));
	if (!variant->other)
		ASSERT_TRUE(umpsc_limit_where_slow());
	if (variant->who == ORDINARY)
		ASSERT_TRUE(umpsc_limit_set("max_user_bytes", 32 * MIB));
	if (variant->who == MANY && !variant->other)
		ASSERT_TRUE(umpsc_limit_set("max_bytes", MANY_MAX));
	if (variant->other)
		other_start(_metadata, &other);
	for (i = 0; i < senders; i++) {
		pid[i] = fork();
		ASSERT_LE(0, pid[i]);
		if (pid[i])
			continue;
		if (variant->who == CGROUP)
			ASSERT_TRUE(umpsc_cgroup_enter(GROUP));
		if (variant->who == ORDINARY)
			ASSERT_TRUE(umpsc_become(USER, USER));
		/* Some of many send large ones. */
		self->err[i] = send_endlessly(self->tx, i, i % 2 ? 60000 : 4000,
					      &self->sent[i]);
		_exit(0);
	}
	for (i = 0; i < senders; i++) {
		EXPECT_EQ(0, umpsc_wait_child(pid[i]));
		all += self->sent[i];
		/* The ceiling, or the reserve before it. */
		EXPECT_TRUE(self->err[i] == want ||
			    (!want && (self->err[i] == ENOMEM ||
				       self->err[i] == EDQUOT)))
		TH_LOG("sender %d: %s", i, strerror(self->err[i]));
	}
	umpsc_log_memory(_metadata, "exhausted");
	ASSERT_EQ(0, umpsc_query(self->manager, &query));
	EXPECT_GE(query.max_bytes, query.memory);
	if (variant->who == ORDINARY)
		EXPECT_GE(held + query.max_user_bytes, query.memory);
	if (variant->who == CGROUP)
		TH_LOG("exhausted: %lld bytes of the cgroup",
		       umpsc_cgroup_current(GROUP));
	if (variant->other) {
		ASSERT_EQ(1, write(other.finish, "f", 1));
		EXPECT_EQ(0, umpsc_wait_child(other.pid));
		close(other.finish);
	}
	EXPECT_EQ(kills, umpsc_oom_kills());

	ASSERT_EQ(0, umpsc_info(self->rx, &info));
	EXPECT_EQ(all, info.messages);
	EXPECT_EQ(senders, info.refused_quota + info.refused_memory);
	EXPECT_LT(4 * MIB, info.memory);
	TH_LOG("%llu messages, %llu MiB", info.messages, info.memory >> 20);
	expect_drained(_metadata, self->rx, self->sent, senders);
	EXPECT_TRUE(UMPSC_UNTIL(umpsc_memory_held(self->manager) <=
				held + PAGE * 2));
	if (variant->who == CGROUP) {
		EXPECT_TRUE(UMPSC_UNTIL(umpsc_cgroup_current(GROUP) < MIB));
		TH_LOG("after: %lld bytes of the cgroup",
		       umpsc_cgroup_current(GROUP));
	}
	umpsc_log_memory(_metadata, "after");
}

TEST_HARNESS_MAIN
