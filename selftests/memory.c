// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who pays: the user's quota, the module's ceiling, the reserve, the memory cgroup;
 * and that all of it comes back.
 */
#include "umpsc_memory.h"

#include <linux/capability.h>
#include <sys/resource.h>

#define NODE "memory-test"
#define USER 5001
#define OTHER_USER 5002
#define GROUP_A "umpsc-memory-a"
#define GROUP_B "umpsc-memory-b"

#define MIB (1ULL << 20)

static unsigned char data[1 << 16];

FIXTURE(memory)
{
	struct umpsc_limits_saved saved;
	struct umpsc_query before;
	int manager;
	int rx;
	int tx;
};

FIXTURE_SETUP(memory)
{
	struct rlimit files = { .rlim_cur = 1 << 14, .rlim_max = 1 << 14 };

	umpsc_log_memory(_metadata, "before");
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &files));
	ASSERT_TRUE(umpsc_limits_save(&self->saved));
	self->manager = ASSERT_FD(umpsc_open_manager());
	ASSERT_EQ(0, umpsc_query(self->manager, &self->before));
	ASSERT_EQ(0, umpsc_private_with(&self->rx, &self->tx, 0, O_NONBLOCK, 0,
					NULL));
	ASSERT_TRUE(umpsc_cgroup_make(GROUP_A, NULL));
	ASSERT_TRUE(umpsc_cgroup_make(GROUP_B, NULL));
}

FIXTURE_TEARDOWN(memory)
{
	struct umpsc_query now;

	close(self->rx);
	close(self->tx);
	EXPECT_TRUE(umpsc_limits_restore(&self->saved));
	/* Whatever was done, all comes back. */
	EXPECT_TRUE(UMPSC_UNTIL(!umpsc_query(self->manager, &now) &&
				now.memory == self->before.memory))
	TH_LOG("%llu bytes, not %llu", now.memory, self->before.memory);
	EXPECT_EQ(self->before.channels, now.channels);
	EXPECT_EQ(self->before.messages, now.messages);
	EXPECT_EQ(self->before.bytes, now.bytes);
	close(self->manager);
	EXPECT_TRUE(umpsc_cgroup_remove(GROUP_A));
	EXPECT_TRUE(umpsc_cgroup_remove(GROUP_B));
	umpsc_log_memory(_metadata, "after");
}

/* A message of @len bytes is refused with @err, counted, and nothing else happens. */
static void expect_refused(struct __test_metadata *_metadata, int line, int tx,
			   int err, size_t len)
{
	struct umpsc_query before, after;
	struct umpsc_info info;

	ASSERT_EQ(0, umpsc_info(tx, &info));
	ASSERT_EQ(0, umpsc_query(tx, &before));
	errno = 0;
	EXPECT_EQ(-1, write(tx, data, len)) TH_LOG("line %d", line);
	EXPECT_EQ(err, errno) TH_LOG("line %d", line);
	switch (err) {
	case EDQUOT:
		info.refused_quota++;
		break;
	case ENOMEM:
		info.refused_memory++;
		break;
	case EMSGSIZE:
		info.refused_size++;
		break;
	case ENOBUFS:
		info.refused_limit++;
		break;
	}
	umpsc_expect_unchanged(_metadata, line, tx, &info);
	ASSERT_EQ(0, umpsc_query(tx, &after));
	EXPECT_EQ(0, memcmp(&before, &after, sizeof(after)))
	TH_LOG("QUERY changed, line %d", line);
}

#define EXPECT_REFUSED(err, len) \
	expect_refused(_metadata, __LINE__, self->tx, err, len)

static void fill_index(__u64 i, size_t len)
{
	umpsc_fill(data, len, i);
}

/* Sends messages of @len bytes, numbered from @from, until one is refused: how many. */
static __u64 send_until_refused(int tx, size_t len, __u64 from)
{
	__u64 n = 0;

	for (;; n++) {
		fill_index(from + n, len);
		if (write(tx, data, len) != (ssize_t)len)
			return n;
	}
}

/* Takes @n messages of @len bytes, numbered from @from; then there is none left. */
static void expect_drained(struct __test_metadata *_metadata, int line, int rx,
			   size_t len, __u64 from, __u64 n)
{
	static unsigned char buf[1 << 16];
	__u64 i;

	for (i = 0; i < n; i++) {
		ASSERT_EQ(len, read(rx, buf, sizeof(buf)))
		TH_LOG("message %llu of %llu, line %d", i, n, line);
		ASSERT_TRUE(umpsc_filled(buf, len, from + i))
		TH_LOG("message %llu, line %d", i, line);
	}
	umpsc_expect_empty(_metadata, line, rx);
}

#define EXPECT_DRAINED(len, from, n) \
	expect_drained(_metadata, __LINE__, self->rx, len, from, n)

/* ---- The parameters --------------------------------------------------------- */

TEST_LONG(memory, limits_by_default_follow_the_memory_of_the_machine)
{
	const __u64 ram = umpsc_meminfo("MemTotal");
	struct umpsc_query q = self->before;

	EXPECT_LE(ram / 2, q.max_bytes + MIB);
	EXPECT_GE(ram / 2 + ram / 50, q.max_bytes);
	EXPECT_EQ(q.max_bytes / 4, q.max_user_bytes);
	EXPECT_EQ(q.max_bytes / 4, q.reserve_bytes);
	EXPECT_EQ(16 * MIB, q.max_len);
}

TEST_LONG(memory, limits_can_be_changed_and_query_tells)
{
	struct umpsc_query q, want;
	__u64 *fields[] = { &want.max_len, &want.max_bytes,
			    &want.max_user_bytes, &want.reserve_bytes };
	static const char *const bad[] = { "much", "-1", "", "1x", "0x" };
	size_t i, j;
	bool done;

	ASSERT_EQ(0, umpsc_query(self->tx, &want));
	for (i = 0; i < UMPSC_LIMITS; i++) {
		for (j = 0; j < 4; j++) {
			*fields[i] = j * 123456789;
			ASSERT_TRUE(umpsc_limit_set(umpsc_limit_names[i],
						    *fields[i]));
			ASSERT_EQ(0, umpsc_query(self->tx, &q));
			EXPECT_EQ(0, memcmp(&want, &q, sizeof(q)))
			TH_LOG("%s", umpsc_limit_names[i]);
		}
		for (j = 0; j < ARRAY_SIZE(bad); j++)
			if (*bad[j])
				done = umpsc_limit_write(umpsc_limit_names[i],
							 bad[j]);
		EXPECT_FALSE(done);
		ASSERT_EQ(0, umpsc_query(self->tx, &q));
		EXPECT_EQ(0, memcmp(&want, &q, sizeof(q)));
	}
	UMPSC_CHILD({
		ASSERT_TRUE(umpsc_become(USER, USER));
		for (i = 0; i < UMPSC_LIMITS; i++)
			EXPECT_FALSE(umpsc_limit_set(umpsc_limit_names[i], 1));
	});
}

TEST_LONG(memory, lowering_a_limit_refuses_new_sends_only)
{
	static const struct {
		const char *name;
		__u64 low;
		int err;
	} limits[] = {
		{ "max_len", 3999, EMSGSIZE },
		{ "max_bytes", 0, EDQUOT },
		{ "max_user_bytes", 0, EDQUOT },
		{ "reserve_bytes", 1ULL << 62, ENOMEM },
	};
	size_t i, n;
	bool done;

	for (i = 0; i < ARRAY_SIZE(limits); i++) {
		UMPSC_CHILD({
			pid_t pid = getpid();

			ASSERT_NE(0, pid);
			ASSERT_EQ(0, setresuid(USER, USER, 0));
			for (n = 0; n < 10; n++) {
				fill_index(n, 4000);
				ASSERT_EQ(4000, write(self->tx, data, 4000));
			}
			/* At once: what was charged ahead is not spent either. */
			ASSERT_EQ(0, seteuid(0));
			done = umpsc_limit_set(limits[i].name, limits[i].low);
			ASSERT_TRUE(done);
			ASSERT_EQ(0, seteuid(USER));
			EXPECT_REFUSED(limits[i].err, 4000);
			EXPECT_REFUSED(limits[i].err, 4000);
			ASSERT_EQ(0, seteuid(0));
			ASSERT_TRUE(umpsc_limits_restore(&self->saved));
			ASSERT_EQ(0, seteuid(USER));
			fill_index(n, 4000);
			ASSERT_EQ(4000, write(self->tx, data, 4000));
		});
		EXPECT_DRAINED(4000, 0, 11);
	}
}

/* Small messages share pages that are charged as one; and what a read frees is kept. */
TEST_LONG(memory, lowered_limit_holds_for_memory_that_is_charged_already)
{
	static const char *const limits[] = { "max_bytes", "max_user_bytes" };
	static const size_t lens[] = { 40, 4000 };
	size_t i, k, n, len;
	bool done;

	for (i = 0; i < ARRAY_SIZE(limits) * ARRAY_SIZE(lens); i++) {
		len = lens[i / ARRAY_SIZE(limits)];
		UMPSC_CHILD({
			ASSERT_EQ(0, setresuid(USER, USER, 0));
			for (n = 0; n < 60; n++) {
				fill_index(n, len);
				ASSERT_EQ(len, write(self->tx, data, len));
			}
			ASSERT_EQ(0, seteuid(0));
			done = umpsc_limit_set(limits[i % ARRAY_SIZE(limits)],
					       0);
			ASSERT_TRUE(done);
			ASSERT_EQ(0, seteuid(USER));
			EXPECT_REFUSED(EDQUOT, len);
			for (k = 0; k < 3; k++) {
				ASSERT_EQ(len, read(self->rx, data, len));
				EXPECT_REFUSED(EDQUOT, len);
			}
			ASSERT_EQ(0, seteuid(0));
			ASSERT_TRUE(umpsc_limits_restore(&self->saved));
			ASSERT_EQ(0, seteuid(USER));
			fill_index(n, len);
			ASSERT_EQ(len, write(self->tx, data, len));
		});
		EXPECT_DRAINED(len, 3, 58);
	}
}

/* Above the limit until enough was received; and then sends as ever. */
TEST_LONG(memory, lowered_limit_lets_send_again_once_enough_was_received)
{
	struct umpsc_info info;
	size_t n, sent = 0;
	bool done;

	UMPSC_CHILD({
		ASSERT_EQ(0, setresuid(USER, USER, 0));
		for (n = 0; n < 60; n++) {
			fill_index(n, 4000);
			ASSERT_EQ(4000, write(self->tx, data, 4000));
		}
		ASSERT_EQ(0, umpsc_info(self->tx, &info));
		ASSERT_EQ(0, seteuid(0));
		/* The messages are all that is his. */
		done = umpsc_limit_set("max_user_bytes", info.memory / 2);
		ASSERT_TRUE(done);
		ASSERT_EQ(0, seteuid(USER));
		for (n = 0; n < 60; n++) {
			ASSERT_EQ(4000, read(self->rx, data, 4000));
			fill_index(60 + sent, 4000);
			errno = 0;
			if (write(self->tx, data, 4000) == 4000)
				sent++;
			else
				ASSERT_EQ(EDQUOT, errno);
			/* Not before the half was received, and soon after it. */
			if (n < 29)
				ASSERT_EQ(0, sent);
			if (n > 40)
				ASSERT_LT(0, sent);
		}
		ASSERT_EQ(0, seteuid(0));
		ASSERT_TRUE(umpsc_limits_restore(&self->saved));
	});
	ASSERT_EQ(0, umpsc_info(self->rx, &info));
	EXPECT_DRAINED(4000, 60, info.messages);
}

TEST_LONG(memory, each_cause_of_refusal_has_its_counter)
{
	struct umpsc_limits limits = { .max_msgs = 1 };
	struct umpsc_info info;

	close(self->rx);
	close(self->tx);
	ASSERT_EQ(0, umpsc_private_with(&self->rx, &self->tx, 0, O_NONBLOCK, 0,
					&limits));
	ASSERT_TRUE(umpsc_limit_set("max_len", 5000));
	EXPECT_REFUSED(EMSGSIZE, 5001);
	ASSERT_TRUE(umpsc_limit_set("max_bytes", 0));
	EXPECT_REFUSED(EDQUOT, 5000);
	EXPECT_REFUSED(EDQUOT, 10);
	ASSERT_TRUE(umpsc_limits_restore(&self->saved));
	ASSERT_TRUE(umpsc_limit_set("reserve_bytes", 1ULL << 62));
	EXPECT_REFUSED(ENOMEM, 5000);
	EXPECT_REFUSED(ENOMEM, 10);
	EXPECT_REFUSED(ENOMEM, 60000);
	ASSERT_TRUE(umpsc_limits_restore(&self->saved));
	fill_index(0, 10);
	ASSERT_EQ(10, write(self->tx, data, 10));
	EXPECT_REFUSED(ENOBUFS, 10);
	ASSERT_EQ(0, umpsc_info(self->rx, &info));
	EXPECT_EQ(1, info.refused_size);
	EXPECT_EQ(2, info.refused_quota);
	EXPECT_EQ(3, info.refused_memory);
	EXPECT_EQ(1, info.refused_limit);
	EXPECT_EQ(0, info.refused_closed);
	EXPECT_DRAINED(10, 0, 1);
}

/* ---- The quota and the ceiling ------------------------------------------------- */

TEST_LONG(memory, user_quota_is_used_up_and_not_exceeded)
{
	struct umpsc_info info;

	ASSERT_TRUE(umpsc_limit_set("max_user_bytes", MIB));
	UMPSC_CHILD({
		ASSERT_TRUE(umpsc_become(USER, USER));
		send_until_refused(self->tx, 4000, 0);
		EXPECT_EQ(EDQUOT, errno);
		EXPECT_REFUSED(EDQUOT, 4000);
	});
	ASSERT_EQ(0, umpsc_info(self->tx, &info));
	EXPECT_GE(MIB, info.memory);
	EXPECT_LT(MIB - 2 * 8192, info.memory);
	EXPECT_EQ(2, info.refused_quota);

	/* Another user has another quota; it is the real one that counts. */
	UMPSC_CHILD({
		ASSERT_TRUE(umpsc_become(USER, OTHER_USER));
		EXPECT_REFUSED(EDQUOT, 4000);
	});
	UMPSC_CHILD({
		ASSERT_TRUE(umpsc_become(OTHER_USER, USER));
		fill_index(info.sent, 4000);
		EXPECT_EQ(4000, write(self->tx, data, 4000));
	});
	EXPECT_DRAINED(4000, 0, info.sent + 1);
	/* And it is free again. */
	UMPSC_CHILD({
		ASSERT_TRUE(umpsc_become(USER, USER));
		EXPECT_EQ(info.sent, send_until_refused(self->tx, 4000, 0));
	});
	EXPECT_DRAINED(4000, 0, info.sent);
}

TEST_LONG(memory, quota_charged_ahead_on_another_cpu_can_be_used)
{
	struct umpsc_info info;
	int cpu;

	ASSERT_TRUE(umpsc_limit_set("max_user_bytes", MIB));
	UMPSC_CHILD({
		ASSERT_TRUE(umpsc_become(USER, USER));
		/* Each CPU has something ahead, and the last one gets all of it. */
		for (cpu = sysconf(_SC_NPROCESSORS_ONLN) - 1; cpu >= 0; cpu--) {
			ASSERT_TRUE(umpsc_run_on(cpu));
			fill_index(0, 4000);
			ASSERT_EQ(4000, write(self->tx, data, 4000));
			EXPECT_DRAINED(4000, 0, 1);
		}
		send_until_refused(self->tx, 4000, 0);
		EXPECT_EQ(EDQUOT, errno);
	});
	ASSERT_EQ(0, umpsc_info(self->tx, &info));
	EXPECT_GE(MIB, info.memory);
	EXPECT_LT(MIB - 2 * 8192, info.memory);
	EXPECT_DRAINED(4000, 0, info.messages);
}

static bool drop_cap_sys_resource(void)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct caps[2];

	if (syscall(SYS_capget, &header, caps))
		return false;
	caps[CAP_TO_INDEX(CAP_SYS_RESOURCE)].effective &=
		~CAP_TO_MASK(CAP_SYS_RESOURCE);
	return !syscall(SYS_capset, &header, caps);
}

TEST_LONG(memory, cap_sys_resource_is_exempt_from_the_quota_alone)
{
	__u64 held = umpsc_memory_held(self->manager);
	__u64 n = 0;

	ASSERT_TRUE(umpsc_limit_set("max_user_bytes", 0));
	for (; n < 100; n++) {
		fill_index(n, 4000);
		ASSERT_EQ(4000, write(self->tx, data, 4000));
	}
	UMPSC_CHILD({
		ASSERT_TRUE(drop_cap_sys_resource());
		EXPECT_REFUSED(EDQUOT, 4000);
		EXPECT_ERR(EDQUOT, umpsc_clone(self->tx, 0));
	});
	ASSERT_TRUE(umpsc_limit_set("max_bytes", held + MIB));
	n += send_until_refused(self->tx, 4000, n);
	EXPECT_EQ(EDQUOT, errno);
	EXPECT_REFUSED(EDQUOT, 4000);
	EXPECT_GE(held + MIB, umpsc_memory_held(self->manager));
	EXPECT_LT(held + MIB - 2 * 8192, umpsc_memory_held(self->manager));
	EXPECT_DRAINED(4000, 0, n);
}

TEST_LONG(memory, channels_and_handles_count)
{
	struct umpsc_channel_args args = {};
	__u64 held = umpsc_memory_held(self->manager);
	struct umpsc_info info;
	int fds, made, last, i;

	ASSERT_TRUE(umpsc_limit_set("max_user_bytes", 1 << 16));
	UMPSC_CHILD({
		ASSERT_TRUE(umpsc_become(USER, USER));
		fds = umpsc_count_fds();
		last = -1;
		for (made = 0; (i = umpsc_clone(self->tx, 0)) >= 0; made++)
			last = i;
		EXPECT_EQ(EDQUOT, errno);
		EXPECT_LT(100, made);
		EXPECT_EQ(fds + made, umpsc_count_fds());
		EXPECT_LT(held + (1 << 16) - 1024,
			  umpsc_memory_held(self->manager));
		EXPECT_GE(held + (1 << 16), umpsc_memory_held(self->manager));
		ASSERT_EQ(0, umpsc_info(self->tx, &info));
		EXPECT_EQ(1 + made, info.strong);
		EXPECT_EQ(0, info.refused_quota);
		EXPECT_ERR(EDQUOT, umpsc_downgrade(self->tx, 0));
		EXPECT_ERR(EDQUOT, umpsc_sender(self->rx, 0));
		EXPECT_ERR(EDQUOT, umpsc_channel(self->manager, &args));
		EXPECT_UNCHANGED(self->tx, &info);
		EXPECT_EQ(fds + made, umpsc_count_fds());
		EXPECT_REFUSED(EDQUOT, 1);
		close(last);
		ASSERT_FD(umpsc_downgrade(self->tx, 0));
	});
	EXPECT_TRUE(UMPSC_UNTIL(umpsc_memory_held(self->manager) == held));
	UMPSC_CHILD({
		ASSERT_TRUE(umpsc_become(USER, USER));
		for (made = 0; !umpsc_channel(self->manager, &args); made++)
			;
		EXPECT_EQ(EDQUOT, errno);
		EXPECT_LT(10, made);
		EXPECT_GE(64, made);
	});
}

TEST_LONG(memory, opening_a_node_counts)
{
	int fds, made, tx;

	ASSERT_EQ(0, umpsc_node_create(NODE, 0, NULL));
	ASSERT_EQ(0, chmod(UMPSC_NODE "-" NODE, 0666));
	ASSERT_TRUE(umpsc_limit_set("max_user_bytes", 1 << 15));
	UMPSC_CHILD({
		ASSERT_TRUE(umpsc_become(USER, USER));
		fds = umpsc_count_fds();
		for (made = 0; umpsc_open(NODE, O_WRONLY) >= 0; made++)
			;
		EXPECT_EQ(EDQUOT, errno);
		EXPECT_LT(50, made);
		EXPECT_EQ(fds + made, umpsc_count_fds());
		EXPECT_ERR(EDQUOT, umpsc_open(NODE, O_RDWR));
		/* But not for the one that brings memory back. */
		ASSERT_FD(umpsc_open(NODE, O_RDONLY));
	});
	tx = ASSERT_FD(umpsc_open(NODE, O_WRONLY));
	ASSERT_TRUE(umpsc_limit_set("max_bytes", 0));
	ASSERT_TRUE(umpsc_limit_set("reserve_bytes", 1ULL << 62));
	UMPSC_CHILD({
		ASSERT_TRUE(drop_cap_sys_resource());
		EXPECT_ERR(ENOMEM, umpsc_open(NODE, O_RDWR));
		EXPECT_ERR(ENOMEM, umpsc_open(NODE, O_WRONLY));
		ASSERT_FD(umpsc_open(NODE, O_RDONLY));
	});
	EXPECT_EQ(0, umpsc_node_remove(NODE));
	close(tx);
}

/* ---- Many at once --------------------------------------------------------------- */

#define CROWD 8
#define CROWD_CHANNELS 4
#define CROWD_ROUNDS 400
#define CROWD_ROOM (MIB / 2)

/* @top: what the module may hold */
struct crowd {
	int rx[CROWD_CHANNELS];
	int tx[CROWD_CHANNELS];
	__u64 top;
};

/*
 * Goes on at the limit: receives a few, of anyone's, and sends until it is refused.
 * Most messages are too large to be kept as a spare, and so give back their room; a
 * stock takes that up only where it is of the same account.
 */
static void crowd_member(struct __test_metadata *_metadata,
			 const struct crowd *c, int member)
{
	int tx = c->tx[member % CROWD_CHANNELS];
	__u64 seed = member, most = 0, held;
	bool sent;
	int round, i;
	size_t len;

	for (round = 0; round < CROWD_ROUNDS; round++) {
		for (i = umpsc_random(&seed) % 3; i; i--)
			read(c->rx[umpsc_random(&seed) % CROWD_CHANNELS], data,
			     sizeof(data));
		do {
			len = umpsc_random(&seed) % 4 ? 9000 : 64;
			errno = 0;
			sent = write(tx, data, len) == (ssize_t)len;
			held = umpsc_memory_held(tx);
			ASSERT_GE(c->top, held)
			TH_LOG("member %d, round %d", member, round);
			if (held > most)
				most = held;
		} while (sent);
		ASSERT_EQ(EDQUOT, errno) TH_LOG("member %d", member);
	}
	EXPECT_LT(c->top - CROWD_ROOM / 2, most) TH_LOG("member %d", member);
}

/*
 * CROWD_ROOM is all that @users may hold together, by the limit of this name.  On each
 * CPU are two accounts of each user, or one of each of several; and each account, and
 * each channel, has senders on more than one CPU.
 */
static void crowd_run(struct __test_metadata *_metadata,
		      FIXTURE_DATA(memory) * self, const char *limit, int users)
{
	const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	const __u64 held = umpsc_memory_held(self->manager);
	struct umpsc_info info;
	pid_t pid[CROWD];
	struct crowd c;
	int i;

	for (i = 0; i < CROWD_CHANNELS; i++)
		ASSERT_EQ(0, umpsc_private_with(&c.rx[i], &c.tx[i], 0,
						O_NONBLOCK, 0, NULL));
	c.top = umpsc_memory_held(self->manager) + CROWD_ROOM;
	ASSERT_TRUE(umpsc_limit_set(limit, users == 1 ? CROWD_ROOM : c.top));
	for (i = 0; i < CROWD; i++) {
		pid[i] = fork();
		ASSERT_LE(0, pid[i]);
		if (pid[i])
			continue;
		ASSERT_TRUE(umpsc_run_on(i / CROWD_CHANNELS % cpus));
		ASSERT_TRUE(umpsc_cgroup_enter(i % 2 ? GROUP_A : GROUP_B));
		ASSERT_TRUE(umpsc_become(USER + i % users, USER + i % users));
		crowd_member(_metadata, &c, i);
		_exit(0);
	}
	for (i = 0; i < CROWD; i++)
		EXPECT_EQ(0, umpsc_wait_child(pid[i]));
	for (i = 0; i < CROWD_CHANNELS; i++) {
		close(c.rx[i]);
		close(c.tx[i]);
	}
	EXPECT_TRUE(UMPSC_UNTIL(umpsc_memory_held(self->manager) == held));

	/* One of them can have all of the room. */
	UMPSC_CHILD({
		ASSERT_TRUE(umpsc_become(USER, USER));
		send_until_refused(self->tx, 4000, 0);
		EXPECT_EQ(EDQUOT, errno);
	});
	ASSERT_EQ(0, umpsc_info(self->tx, &info));
	EXPECT_GE(c.top, held + info.memory);
	EXPECT_LT(CROWD_ROOM - 2 * 8192, info.memory);
	EXPECT_DRAINED(4000, 0, info.messages);
}

TEST_LONG(memory, user_quota_holds_while_many_send_at_once)
{
	crowd_run(_metadata, self, "max_user_bytes", 1);
}

TEST_LONG(memory, ceiling_holds_while_many_users_send_at_once)
{
	crowd_run(_metadata, self, "max_bytes", 4);
}

/* ---- The reserve ------------------------------------------------------------- */

TEST_LONG(memory, growth_stops_at_the_reserve)
{
	__u64 left = umpsc_meminfo("MemAvailable");
	struct umpsc_info info;
	__u64 n;

	ASSERT_TRUE(umpsc_limit_set("reserve_bytes", left - 24 * MIB));
	n = send_until_refused(self->tx, 16000, 0);
	EXPECT_EQ(ENOMEM, errno);
	ASSERT_EQ(0, umpsc_info(self->tx, &info));
	EXPECT_GT(32 * MIB, info.memory);
	/* Objects need more than their size where the allocator is debugged. */
	EXPECT_LT(4 * MIB, info.memory);
	EXPECT_REFUSED(ENOMEM, 60000);
	ASSERT_TRUE(umpsc_limits_restore(&self->saved));
	fill_index(n, 16000);
	EXPECT_EQ(16000, write(self->tx, data, 16000));
	EXPECT_DRAINED(16000, 0, n + 1);
}

/* ---- Memory cgroups ----------------------------------------------------------- */

TEST_LONG(memory, cgroup_at_its_limit_is_enomem_and_nobody_is_killed)
{
	/* The second is refused with a part of its pages allocated. */
	static const size_t lens[] = { 4000, 60000 };
	long long kills = umpsc_oom_kills();
	struct umpsc_info info;
	__u64 sent = 0;
	size_t i;
	bool freed;

	ASSERT_TRUE(umpsc_cgroup_make(GROUP_A, "16M"));
	for (i = 0; i < ARRAY_SIZE(lens); i++) {
		UMPSC_CHILD({
			ASSERT_TRUE(umpsc_cgroup_enter(GROUP_A));
			/* Nothing more: in a full cgroup any other charge is too much. */
			send_until_refused(self->tx, lens[i], 0);
			EXPECT_EQ(ENOMEM, errno);
		});
		EXPECT_LT(12 * (long long)MIB, umpsc_cgroup_current(GROUP_A));
		EXPECT_EQ(kills, umpsc_oom_kills());
		ASSERT_EQ(0, umpsc_info(self->tx, &info));
		EXPECT_EQ(i + 1, info.refused_memory);
		EXPECT_LT(1 * MIB, info.memory);
		EXPECT_GE(16 * MIB, info.memory);
		/* Others are not in it. */
		fill_index(info.sent - sent, lens[i]);
		EXPECT_EQ(lens[i], write(self->tx, data, lens[i]));
		EXPECT_DRAINED(lens[i], 0, info.sent - sent + 1);
		sent = info.sent + 1;
		freed = UMPSC_UNTIL(umpsc_cgroup_current(GROUP_A) <
				    (long long)MIB);
		EXPECT_TRUE(freed);
		TH_LOG("%lld bytes of the cgroup are left",
		       umpsc_cgroup_current(GROUP_A));
	}
}

/* In a child in @group: a message of @len bytes to each of @n channels. */
static void send_from(struct __test_metadata *_metadata, const char *group,
		      const int *tx, int n, int times, size_t len)
{
	int i, j;

	UMPSC_CHILD({
		ASSERT_TRUE(umpsc_cgroup_enter(group));
		for (i = 0; i < n; i++)
			for (j = 0; j < times; j++)
				ASSERT_EQ(len, write(tx[i], data, len));
	});
}

#define CHANNELS 600

struct channels {
	int rx[CHANNELS];
	int tx[CHANNELS];
};

static void channels_open(struct __test_metadata *_metadata, struct channels *c)
{
	int i;

	for (i = 0; i < CHANNELS; i++)
		ASSERT_EQ(0, umpsc_private(&c->rx[i], &c->tx[i]));
}

static void channels_close(struct channels *c)
{
	int i;

	for (i = 0; i < CHANNELS; i++) {
		close(c->rx[i]);
		close(c->tx[i]);
	}
}

/* memory.current may be ahead by what is charged in advance on each CPU. */
#define CGROUP_SLACK (1 * (long long)MIB)

TEST_LONG(memory, spare_of_one_cgroup_never_serves_another)
{
	static struct channels c;
	long long held_a, held_b;
	int i;

	channels_open(_metadata, &c);
	send_from(_metadata, GROUP_A, c.tx, CHANNELS, 1, 7000);
	held_a = umpsc_cgroup_current(GROUP_A);
	for (i = 0; i < CHANNELS; i++)
		ASSERT_EQ(7000, read(c.rx[i], data, sizeof(data)));
	/* All of them are spares now, and may stay, A's. */
	EXPECT_LT(CHANNELS * 7000, held_a);

	send_from(_metadata, GROUP_B, c.tx, CHANNELS, 1, 7000);
	held_b = umpsc_cgroup_current(GROUP_B);
	EXPECT_LT(CHANNELS * 7000, held_b);
	EXPECT_TRUE(UMPSC_UNTIL(umpsc_cgroup_current(GROUP_A) < CGROUP_SLACK))
	TH_LOG("%lld of %lld", umpsc_cgroup_current(GROUP_A), held_a);

	/* A's own spare may serve A. */
	for (i = 0; i < CHANNELS; i++)
		ASSERT_EQ(7000, read(c.rx[i], data, sizeof(data)));
	send_from(_metadata, GROUP_B, c.tx, CHANNELS, 1, 7000);
	EXPECT_GE(held_b + CGROUP_SLACK, umpsc_cgroup_current(GROUP_B));
	channels_close(&c);
	EXPECT_TRUE(UMPSC_UNTIL(umpsc_cgroup_current(GROUP_B) < CGROUP_SLACK))
	TH_LOG("%lld of %lld", umpsc_cgroup_current(GROUP_B), held_b);
}

TEST_LONG(memory, arena_of_one_cgroup_never_serves_another)
{
	static struct channels c;
	long long held;
	int i;

	channels_open(_metadata, &c);
	/* Enough messages for an arena, and few in it. */
	send_from(_metadata, GROUP_A, c.tx, CHANNELS, 18, 64);
	held = umpsc_cgroup_current(GROUP_A);
	EXPECT_LT(CHANNELS * 18 * 64, held);
	send_from(_metadata, GROUP_B, c.tx, CHANNELS, 18, 64);
	EXPECT_LT(CHANNELS * 18 * 64, umpsc_cgroup_current(GROUP_B));
	/* Nor the other way round, where all that was cut is free again. */
	for (i = 0; i < CHANNELS * 36; i++)
		ASSERT_EQ(64, read(c.rx[i / 36], data, sizeof(data)));
	EXPECT_TRUE(UMPSC_UNTIL(umpsc_cgroup_current(GROUP_B) < CGROUP_SLACK));
	send_from(_metadata, GROUP_B, c.tx, CHANNELS, 18, 64);
	EXPECT_LT(CHANNELS * 18 * 64, umpsc_cgroup_current(GROUP_B));
	channels_close(&c);
	EXPECT_TRUE(UMPSC_UNTIL(umpsc_cgroup_current(GROUP_A) < CGROUP_SLACK));
	EXPECT_TRUE(UMPSC_UNTIL(umpsc_cgroup_current(GROUP_B) < CGROUP_SLACK));
}

/* A page of small messages, all of which are received, serves again from its start. */
TEST_LONG(memory, page_of_small_messages_begins_anew_and_is_not_lost)
{
	const __u64 before = umpsc_memory_held(self->manager);
	__u64 held;
	int i;

	/* So many that a page is taken, which stays. */
	for (i = 0; i < 20; i++) {
		fill_index(i, 8);
		ASSERT_EQ(8, write(self->tx, data, 8));
	}
	EXPECT_DRAINED(8, 0, 20);
	held = umpsc_memory_held(self->manager);
	EXPECT_LT(before, held);
	/* It is full after less than a hundred. */
	for (i = 0; i < 500; i++) {
		fill_index(i, 8);
		ASSERT_EQ(8, write(self->tx, data, 8));
		EXPECT_DRAINED(8, i, 1);
		ASSERT_EQ(held, umpsc_memory_held(self->manager))
		TH_LOG("round %d", i);
	}
}

/* In a child in @group: @n messages, one for each byte from @turn, which it passes on. */
static void alternate(struct __test_metadata *_metadata, const char *group,
		      int tx, int turn, int next, int n)
{
	char byte;

	ASSERT_TRUE(umpsc_cgroup_enter(group));
	while (n--) {
		ASSERT_EQ(1, read(turn, &byte, 1));
		ASSERT_EQ(4000, write(tx, data, 4000));
		ASSERT_EQ(1, write(next, &byte, 1));
	}
}

TEST_LONG(memory, two_cgroups_that_alternate_pay_each_for_its_own)
{
	enum { ROUNDS = 1200 };
	int to_a[2], to_b[2], i;
	long long a, b;
	pid_t pid;

	ASSERT_EQ(0, pipe(to_a));
	ASSERT_EQ(0, pipe(to_b));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		alternate(_metadata, GROUP_A, self->tx, to_a[0], to_b[1],
			  ROUNDS);
		_exit(0);
	}
	ASSERT_EQ(1, write(to_a[1], "x", 1));
	UMPSC_CHILD(alternate(_metadata, GROUP_B, self->tx, to_b[0], to_a[1],
			      ROUNDS));
	EXPECT_EQ(0, umpsc_wait_child(pid));
	a = umpsc_cgroup_current(GROUP_A);
	b = umpsc_cgroup_current(GROUP_B);
	EXPECT_LT(ROUNDS * 4000, a);
	EXPECT_LT(ROUNDS * 4000, b);
	EXPECT_GT(a + CGROUP_SLACK, b);
	EXPECT_GT(b + CGROUP_SLACK, a);
	/* Half of what waits is of each; when it has gone, nothing is left on either. */
	for (i = 0; i < ROUNDS; i++)
		ASSERT_EQ(4000, read(self->rx, data, sizeof(data)));
	EXPECT_TRUE(UMPSC_UNTIL(umpsc_cgroup_current(GROUP_A) <
				a / 2 + CGROUP_SLACK));
	EXPECT_TRUE(UMPSC_UNTIL(umpsc_cgroup_current(GROUP_B) <
				b / 2 + CGROUP_SLACK));
	for (i = 0; i < ROUNDS; i++)
		ASSERT_EQ(4000, read(self->rx, data, sizeof(data)));
	EXPECT_TRUE(UMPSC_UNTIL(umpsc_cgroup_current(GROUP_A) < CGROUP_SLACK));
	EXPECT_TRUE(UMPSC_UNTIL(umpsc_cgroup_current(GROUP_B) < CGROUP_SLACK));
}

TEST_LONG(memory, refused_sends_of_a_second_cgroup_leak_nothing)
{
	long long before;
	int i;

	ASSERT_TRUE(umpsc_limit_set("max_user_bytes", MIB));
	UMPSC_CHILD({
		ASSERT_TRUE(umpsc_cgroup_enter(GROUP_A));
		ASSERT_TRUE(umpsc_become(USER, USER));
		send_until_refused(self->tx, 4000, 0);
		EXPECT_EQ(EDQUOT, errno);
	});
	UMPSC_CHILD({
		ASSERT_TRUE(umpsc_cgroup_enter(GROUP_B));
		ASSERT_TRUE(umpsc_become(USER, USER));
		EXPECT_ERR(EDQUOT, write(self->tx, data, 4000));
		before = umpsc_cgroup_current(GROUP_B);
		for (i = 0; i < 20000; i++)
			if (write(self->tx, data, 4000) != -1 ||
			    errno != EDQUOT)
				break;
		EXPECT_EQ(20000, i);
		EXPECT_GT(before + CGROUP_SLACK / 2,
			  umpsc_cgroup_current(GROUP_B));
	});
}

/* ---- Exact release ------------------------------------------------------------- */

#define HANDLES 40

static int new_handle(__u64 r, int from)
{
	const __u32 flags = r & 0x100 ? UMPSC_CREDS | UMPSC_TIMESTAMP : 0;
	int rx, tx;

	switch (r % 5) {
	case 0:
		if (umpsc_private_with(&rx, &tx, flags, O_NONBLOCK, 0, NULL))
			return -1;
		/* The other end comes by SENDER. */
		close(tx);
		return rx;
	case 1:
		if (umpsc_private_with(&rx, &tx, flags, O_NONBLOCK, 0, NULL))
			return -1;
		close(rx);
		return tx;
	case 2:
		return umpsc_clone(from, 0);
	case 3:
		return umpsc_downgrade(from, 0);
	default:
		return umpsc_sender(from, 0);
	}
}

static void some_batch(int tx, __u64 r)
{
	struct umpsc_batch b = {};
	int n = r % 90;

	for (; n; n--)
		umpsc_batch_add(&b, data, (r >> 8) % 200);
	umpsc_batch_send(tx, &b);
	umpsc_batch_free(&b);
}

/* @n random calls on handles, which go with the caller; most fail, or may. */
static void random_calls(int rx, int tx, __u64 seed, int n)
{
	static __u64 buf[1 << 13];
	int fds[HANDLES], *fd, i;
	__u64 r;

	for (i = 0; i < HANDLES; i++)
		fds[i] = dup(i % 2 ? rx : tx);
	while (n--) {
		r = umpsc_random(&seed);
		fd = &fds[(r >> 32) % HANDLES];
		switch (r % 8) {
		case 0:
			i = new_handle(r >> 8, *fd);
			if (i >= 0) {
				close(*fd);
				*fd = i;
			}
			break;
		case 1:
			some_batch(*fd, r >> 8);
			break;
		case 2:
			umpsc_recv(*fd, buf, sizeof(buf), r >> 8 & 63, 0, NULL,
				   NULL);
			break;
		case 3:
			if (umpsc_poll(*fd, 0) & POLLIN)
				read(*fd, buf, r >> 8 & 0xffff);
			break;
		default:
			write(*fd, data,
			      r & 64 ? r >> 8 & 0xffff : r >> 8 & 255);
		}
	}
}

TEST_LONG(memory, random_calls_of_several_users_leave_nothing)
{
	pid_t pid[3];
	int i, round;

	signal(SIGPIPE, SIG_IGN);
	for (round = 0; round < 3; round++) {
		ASSERT_TRUE(umpsc_limit_set("max_user_bytes", MIB << round));
		for (i = 0; i < 3; i++) {
			pid[i] = fork();
			ASSERT_LE(0, pid[i]);
			if (pid[i])
				continue;
			ASSERT_TRUE(umpsc_cgroup_enter(i ? GROUP_A : GROUP_B));
			ASSERT_TRUE(umpsc_become(USER + i, USER + i));
			random_calls(self->rx, self->tx, round * 3 + i, 4000);
			_exit(0);
		}
		for (i = 0; i < 3; i++)
			EXPECT_EQ(0, umpsc_wait_child(pid[i]));
	}
	close(self->rx);
	EXPECT_TRUE(UMPSC_UNTIL(umpsc_cgroup_current(GROUP_A) < CGROUP_SLACK));
	EXPECT_TRUE(UMPSC_UNTIL(umpsc_cgroup_current(GROUP_B) < CGROUP_SLACK));
}

TEST_HARNESS_MAIN
