// SPDX-License-Identifier: GPL-2.0-only
/*
 * Limits: a channel's own, a node's, and the module's largest message.
 */
#include "umpsc_test.h"

#define PARAM_MAX_LEN "/sys/module/umpsc/parameters/max_len"
#define NODE "limits-test"

static unsigned char data[1 << 16];

/* Both ends of a channel, and what INFO is to say of it. */
struct ends {
	int rx;
	int tx;
	struct umpsc_info m;
};

static void ends_close(struct ends *e)
{
	if (e->rx >= 0)
		close(e->rx);
	if (e->tx >= 0)
		close(e->tx);
	e->rx = -1;
	e->tx = -1;
}

static void expect_both(struct __test_metadata *_metadata, int line,
			struct ends *e)
{
	const struct umpsc_view views[] = {
		UMPSC_VIEW_SENDER(e->tx),
		UMPSC_VIEW_RECEIVER(e->rx),
	};

	umpsc_expect_views(_metadata, line, &e->m, views, ARRAY_SIZE(views));
}

/* A message of @len bytes is accepted. */
static void expect_sent(struct __test_metadata *_metadata, int line,
			struct ends *e, size_t len)
{
	EXPECT_EQ(len, write(e->tx, data, len)) TH_LOG("line %d", line);
	umpsc_model_send(&e->m, 1, len);
	expect_both(_metadata, line, e);
}

static void expect_taken(struct __test_metadata *_metadata, int line,
			 struct ends *e, size_t len)
{
	umpsc_expect_message(_metadata, line, e->rx, data, len);
	umpsc_model_receive(&e->m, 1, len);
	expect_both(_metadata, line, e);
}

/* A batch of @n messages of @len bytes. */
static long send_batch(int tx, int n, __u32 len)
{
	struct umpsc_batch b = {};
	long ret;
	int err;

	while (n--)
		umpsc_batch_add(&b, data, len);
	ret = umpsc_batch_send(tx, &b);
	err = errno;
	umpsc_batch_free(&b);
	errno = err;
	return ret;
}

static void expect_sent_batch(struct __test_metadata *_metadata, int line,
			      struct ends *e, int n, size_t len)
{
	EXPECT_EQ(n, send_batch(e->tx, n, len)) TH_LOG("line %d", line);
	umpsc_model_send(&e->m, n, n * len);
	expect_both(_metadata, line, e);
}

/* A send that returned @ret was refused with @err, and nothing else happened. */
static void expect_refused(struct __test_metadata *_metadata, int line,
			   struct ends *e, int err, long ret)
{
	int got = errno;

	EXPECT_EQ(-1, ret) TH_LOG("line %d", line);
	EXPECT_EQ(err, got) TH_LOG("line %d", line);
	/* A batch counts once. */
	if (err == EPIPE)
		e->m.refused_closed++;
	else if (err == EMSGSIZE)
		e->m.refused_size++;
	else
		e->m.refused_limit++;
	expect_both(_metadata, line, e);
}

#define EXPECT_BOTH() expect_both(_metadata, __LINE__, &self->e)
#define EXPECT_SENT(len) expect_sent(_metadata, __LINE__, &self->e, len)
#define EXPECT_TAKEN(len) expect_taken(_metadata, __LINE__, &self->e, len)
#define EXPECT_SENT_BATCH(n, len) \
	expect_sent_batch(_metadata, __LINE__, &self->e, n, len)
#define EXPECT_REFUSED(err, len)                           \
	expect_refused(_metadata, __LINE__, &self->e, err, \
		       write(self->e.tx, data, len))
#define EXPECT_REFUSED_BATCH(err, n, len)                  \
	expect_refused(_metadata, __LINE__, &self->e, err, \
		       send_batch(self->e.tx, n, len))

FIXTURE(limits)
{
	struct ends e;
};

FIXTURE_SETUP(limits)
{
	self->e.rx = -1;
	self->e.tx = -1;
	self->e.m.state = UMPSC_STATE_CLAIMED;
	self->e.m.strong = 1;
}

FIXTURE_TEARDOWN(limits)
{
	ends_close(&self->e);
}

/* The channel of the test: LIMITED(.max_len = 5) */
#define LIMITED(...)                                                         \
	do {                                                                 \
		self->e.m.limits = (struct umpsc_limits){ __VA_ARGS__ };     \
		ASSERT_EQ(0, umpsc_private_with(&self->e.rx, &self->e.tx, 0, \
						O_NONBLOCK, 0,               \
						&self->e.m.limits));         \
	} while (0)

/* ---- max_len -------------------------------------------------------------- */

TEST_LONG(limits, max_len_is_exact)
{
	LIMITED(.max_len = 100);
	EXPECT_SENT(99);
	EXPECT_SENT(100);
	EXPECT_REFUSED(EMSGSIZE, 101);
	EXPECT_REFUSED(EMSGSIZE, 5000);
	EXPECT_SENT_BATCH(1, 100);
	EXPECT_REFUSED_BATCH(EMSGSIZE, 1, 101);
	EXPECT_TAKEN(99);
	EXPECT_TAKEN(100);
	EXPECT_TAKEN(100);
	EXPECT_EMPTY(self->e.rx);
}

TEST_LONG(limits, max_len_at_every_place_of_a_batch)
{
	struct umpsc_batch b = {};
	int i, j;

	LIMITED(.max_len = 10);
	EXPECT_SENT(10);
	for (i = 0; i < 12; i++) {
		b.len = 0;
		for (j = 0; j < 12; j++)
			umpsc_batch_add(&b, data, i == j ? 11 : j % 11);
		EXPECT_ERR(EMSGSIZE, umpsc_batch_send(self->e.tx, &b));
		self->e.m.refused_size++;
		EXPECT_BOTH();
	}
	umpsc_batch_free(&b);
	EXPECT_TAKEN(10);
	EXPECT_EMPTY(self->e.rx);
}

TEST_LONG(limits, max_len_does_not_limit_a_batch)
{
	LIMITED(.max_len = 10);
	EXPECT_SENT_BATCH(1000, 10);
}

TEST_LONG(limits, max_len_of_one)
{
	LIMITED(.max_len = 1);
	EXPECT_SENT(1);
	EXPECT_SENT_BATCH(3, 0);
	EXPECT_REFUSED(EMSGSIZE, 2);
}

/* ---- max_msgs --------------------------------------------------------------- */

TEST_LONG(limits, max_msgs_is_exact)
{
	int i;

	LIMITED(.max_msgs = 5);
	for (i = 1; i <= 5; i++)
		EXPECT_SENT(i);
	EXPECT_REFUSED(ENOBUFS, 1);
	EXPECT_REFUSED_BATCH(ENOBUFS, 1, 0);
	EXPECT_TAKEN(1);
	EXPECT_SENT(6);
	EXPECT_REFUSED(ENOBUFS, 1);
	for (i = 2; i <= 6; i++)
		EXPECT_TAKEN(i);
	EXPECT_EMPTY(self->e.rx);
	EXPECT_SENT_BATCH(5, 3);
	EXPECT_REFUSED(ENOBUFS, 1);
}

TEST_LONG(limits, max_msgs_takes_all_of_a_batch_or_nothing)
{
	LIMITED(.max_msgs = 5);
	EXPECT_REFUSED_BATCH(ENOBUFS, 6, 1);
	EXPECT_SENT(7);
	EXPECT_SENT(7);
	EXPECT_SENT(7);
	EXPECT_REFUSED_BATCH(ENOBUFS, 3, 1);
	EXPECT_REFUSED_BATCH(ENOBUFS, 1000, 0);
	EXPECT_SENT_BATCH(2, 1);
	EXPECT_REFUSED_BATCH(ENOBUFS, 1, 1);
	/* A batch of nothing asks for no room. */
	EXPECT_EQ(0, umpsc_send(self->e.tx, NULL, 0));
	EXPECT_BOTH();
	EXPECT_TAKEN(7);
	EXPECT_REFUSED_BATCH(ENOBUFS, 2, 1);
	EXPECT_TAKEN(7);
	EXPECT_SENT_BATCH(2, 1);
}

TEST_LONG(limits, max_msgs_counts_a_partly_read_message)
{
	LIMITED(.max_msgs = 1);
	EXPECT_SENT(3);
	ASSERT_EQ(2, read(self->e.rx, data + 100, 2));
	EXPECT_REFUSED(ENOBUFS, 1);
	ASSERT_EQ(1, read(self->e.rx, data + 100, 2));
	umpsc_model_receive(&self->e.m, 1, 3);
	EXPECT_SENT(1);
}

/* ---- max_bytes --------------------------------------------------------------- */

TEST_LONG(limits, max_bytes_is_exact)
{
	LIMITED(.max_bytes = 10);
	EXPECT_SENT(4);
	EXPECT_SENT(5);
	EXPECT_REFUSED(ENOBUFS, 2);
	EXPECT_SENT(1);
	EXPECT_REFUSED(ENOBUFS, 1);
	/* It is payload that counts: an empty message has none. */
	EXPECT_SENT_BATCH(3, 0);
	EXPECT_TAKEN(4);
	EXPECT_REFUSED(ENOBUFS, 5);
	EXPECT_SENT(4);
	EXPECT_REFUSED(ENOBUFS, 1);
	EXPECT_TAKEN(5);
	EXPECT_TAKEN(1);
	EXPECT_TAKEN(0);
	EXPECT_TAKEN(0);
	EXPECT_TAKEN(0);
	EXPECT_TAKEN(4);
	EXPECT_SENT(10);
}

TEST_LONG(limits, max_bytes_takes_all_of_a_batch_or_nothing)
{
	LIMITED(.max_bytes = 1000);
	EXPECT_REFUSED_BATCH(ENOBUFS, 11, 91);
	EXPECT_SENT_BATCH(10, 90);
	EXPECT_REFUSED_BATCH(ENOBUFS, 2, 51);
	EXPECT_SENT_BATCH(2, 50);
	EXPECT_REFUSED_BATCH(ENOBUFS, 1, 1);
}

TEST_LONG(limits, max_bytes_counts_a_partly_read_message)
{
	LIMITED(.max_bytes = 10);
	EXPECT_SENT(10);
	ASSERT_EQ(9, read(self->e.rx, data + 100, 9));
	EXPECT_BOTH();
	EXPECT_REFUSED(ENOBUFS, 1);
	ASSERT_EQ(1, read(self->e.rx, data + 100, 9));
	umpsc_model_receive(&self->e.m, 1, 10);
	EXPECT_SENT(10);
}

TEST_LONG(limits, message_that_can_never_fit_is_enobufs)
{
	LIMITED(.max_bytes = 10);
	EXPECT_REFUSED(ENOBUFS, 11);
	EXPECT_REFUSED_BATCH(ENOBUFS, 1, 60000);
	EXPECT_SENT(10);
}

TEST_LONG(limits, limits_at_once_each_hold)
{
	LIMITED(.max_len = 5, .max_msgs = 3, .max_bytes = 8);
	/* Too long for ever comes before no room for now. */
	EXPECT_REFUSED(EMSGSIZE, 6);
	EXPECT_REFUSED(EMSGSIZE, 9);
	EXPECT_SENT(5);
	EXPECT_REFUSED(ENOBUFS, 4);
	EXPECT_SENT(1);
	EXPECT_SENT(1);
	EXPECT_REFUSED(ENOBUFS, 1);
	EXPECT_REFUSED(EMSGSIZE, 6);
	EXPECT_TAKEN(5);
	EXPECT_SENT(5);
	EXPECT_TAKEN(1);
	EXPECT_REFUSED(ENOBUFS, 5);
	EXPECT_SENT(2);
}

TEST_LONG(limits, closed_comes_before_limits)
{
	LIMITED(.max_len = 5, .max_msgs = 1);
	EXPECT_SENT(5);
	ASSERT_EQ(0, umpsc_close(self->e.rx));
	self->e.m.state |= UMPSC_STATE_CLOSED | UMPSC_STATE_ENDED;
	EXPECT_REFUSED(EPIPE, 1);
	EXPECT_REFUSED(EPIPE, 6);
	EXPECT_REFUSED_BATCH(EPIPE, 3, 1);
	EXPECT_TAKEN(5);
}

TEST_LONG(limits, largest_limits_do_not_overflow)
{
	LIMITED(.max_len = UMPSC_LEN_MAX, .max_msgs = ~0ULL,
		.max_bytes = ~0ULL);
	EXPECT_SENT(60000);
	EXPECT_SENT_BATCH(3, 100);
	EXPECT_TAKEN(60000);
}

TEST_LONG(limits, refused_sends_hold_no_memory)
{
	struct umpsc_query before, after;
	struct umpsc_info info;
	int i;

	LIMITED(.max_msgs = 1, .max_len = 1000);
	ASSERT_EQ(0, umpsc_query(self->e.tx, &before));
	for (i = 0; i < 100; i++) {
		EXPECT_EQ(1000, write(self->e.tx, data, 1000));
		ASSERT_EQ(0, umpsc_info(self->e.tx, &info));
		EXPECT_ERR(ENOBUFS, write(self->e.tx, data, 1000));
		EXPECT_ERR(ENOBUFS, send_batch(self->e.tx, 50, 1000));
		EXPECT_ERR(EMSGSIZE, write(self->e.tx, data, 1001));
		info.refused_limit += 2;
		info.refused_size++;
		EXPECT_UNCHANGED(self->e.tx, &info);
		EXPECT_MESSAGE(self->e.rx, data, 1000);
	}
	ASSERT_EQ(0, umpsc_info(self->e.tx, &info));
	EXPECT_EQ(0, info.memory);
	ASSERT_EQ(0, umpsc_query(self->e.tx, &after));
	EXPECT_EQ(before.messages, after.messages);
	EXPECT_EQ(before.bytes, after.bytes);
}

/* Most bytes of kernel memory that a message of @len bytes may hold. */
static size_t memory_bound(size_t len)
{
	const size_t page = 4096, in_page = page - 2 * 8, header = 24;
	size_t record = UMPSC_RECORD_SIZE(UMPSC_RECORD_HDR, len);

	if (len == 64)
		return 128;
	if (header + record <= page)
		return 2 * (header + record);
	return (record + in_page - 1) / in_page * page + 96;
}

TEST_LONG(limits, message_holds_no_more_than_its_pages)
{
	struct umpsc_info info;
	size_t len;

	LIMITED(.max_msgs = 1);
	for (len = 1; len <= sizeof(data); len += len < 20000 ? 8 : 997) {
		EXPECT_EQ(len, write(self->e.tx, data, len));
		ASSERT_EQ(0, umpsc_info(self->e.tx, &info));
		ASSERT_LT(len, info.memory);
		ASSERT_LE(info.memory, memory_bound(len));
		EXPECT_MESSAGE(self->e.rx, data, len);
	}
	ASSERT_EQ(0, umpsc_info(self->e.tx, &info));
	EXPECT_EQ(0, info.memory);
}

TEST_LONG(limits, high_water_marks_stay)
{
	int i;

	LIMITED(.max_msgs = 100);
	for (i = 1; i <= 5; i++)
		EXPECT_SENT(i * 10);
	EXPECT_EQ(5, self->e.m.most_messages);
	EXPECT_EQ(150, self->e.m.most_bytes);
	for (i = 1; i <= 5; i++)
		EXPECT_TAKEN(i * 10);
	EXPECT_SENT(10);
	/* A batch counts as it is accepted, all at once; one refused does not. */
	EXPECT_SENT_BATCH(20, 1);
	EXPECT_EQ(21, self->e.m.most_messages);
	EXPECT_EQ(150, self->e.m.most_bytes);
	EXPECT_REFUSED_BATCH(ENOBUFS, 80, 100);
	EXPECT_SENT(1000);
	EXPECT_EQ(22, self->e.m.most_messages);
	EXPECT_EQ(1030, self->e.m.most_bytes);
	ASSERT_EQ(0, umpsc_close(self->e.rx));
	self->e.m.state |= UMPSC_STATE_CLOSED | UMPSC_STATE_ENDED;
	EXPECT_TAKEN(10);
}

struct pusher {
	int tx;
	__u64 accepted;
	__u64 refused;
};

#define PUSHES 3000

static long pusher_fn(void *arg)
{
	struct pusher *p = arg;
	int i;

	for (i = 0; i < PUSHES; i++) {
		if (i % 3 ? write(p->tx, data, 10) == 10 :
			    send_batch(p->tx, 4, 10) == 4)
			p->accepted += i % 3 ? 1 : 4;
		else if (errno == ENOBUFS)
			p->refused++;
		else
			return -1;
	}
	return 0;
}

TEST_LONG(limits, senders_at_once_never_pass_the_limit)
{
	struct umpsc_thread t[4];
	struct pusher p[4] = {};
	__u64 accepted = 0, refused = 0, taken = 0, used, need;
	struct umpsc_info info;
	bool done = false;
	long n;
	int i;

	LIMITED(.max_msgs = 50, .max_bytes = 450);
	for (i = 0; i < 4; i++) {
		p[i].tx = i ? ASSERT_FD(umpsc_clone(self->e.tx, 0)) :
			      self->e.tx;
		ASSERT_EQ(0, umpsc_thread_start(&t[i], pusher_fn, &p[i]));
	}
	while (!done) {
		done = t[0].done && t[1].done && t[2].done && t[3].done;
		ASSERT_EQ(0, umpsc_info(self->e.rx, &info));
		ASSERT_LE(info.messages, 45);
		ASSERT_LE(info.bytes, 450);
		ASSERT_EQ(info.messages * 10, info.bytes);
		n = umpsc_recv(self->e.rx, data, sizeof(data), 10, 0, &used,
			       &need);
		taken += n > 0 ? n : 0;
	}
	while (umpsc_recv(self->e.rx, data, sizeof(data), 1, 0, &used, &need) ==
	       1)
		taken++;
	for (i = 0; i < 4; i++) {
		ASSERT_TRUE(umpsc_thread_join(&t[i]));
		EXPECT_EQ(0, t[i].ret);
		accepted += p[i].accepted;
		refused += p[i].refused;
	}
	ASSERT_EQ(0, umpsc_info(self->e.rx, &info));
	EXPECT_EQ(accepted, taken);
	EXPECT_EQ(accepted, info.sent);
	EXPECT_EQ(accepted, info.received);
	EXPECT_EQ(refused, info.refused_limit);
	EXPECT_EQ(0, info.messages);
	EXPECT_EQ(0, info.memory);
	EXPECT_LE(info.most_messages, 45);
	EXPECT_LE(info.most_bytes, 450);
}

/* ---- A node's limits --------------------------------------------------------- */

FIXTURE(node)
{
	struct ends e;
};

FIXTURE_VARIANT(node)
{
	__u32 flags;
};

FIXTURE_VARIANT_ADD(node, ordinary)
UMPSC_VARIANT(.flags = 0);

FIXTURE_VARIANT_ADD(node, standing)
UMPSC_VARIANT(.flags = UMPSC_STANDING);

FIXTURE_SETUP(node)
{
	self->e.rx = -1;
	self->e.tx = -1;
	self->e.m.limits.max_len = 20;
	self->e.m.limits.max_msgs = 3;
	self->e.m.limits.max_bytes = 40;
	umpsc_node_remove(NODE);
	ASSERT_EQ(0,
		  umpsc_node_create(NODE, variant->flags, &self->e.m.limits));
}

FIXTURE_TEARDOWN(node)
{
	ends_close(&self->e);
	EXPECT_EQ(0, umpsc_node_remove(NODE));
}

TEST_LONG(node, each_of_its_channels_has_its_limits)
{
	const bool standing = variant->flags & UMPSC_STANDING;
	const struct umpsc_info fresh = self->e.m;
	int round;

	for (round = 1; round <= 3; round++) {
		self->e.m = fresh;
		self->e.m.strong = 1;
		self->e.m.state = standing ? UMPSC_STATE_STANDING : 0;
		self->e.m.generation = round;
		self->e.tx = ASSERT_FD(umpsc_open(NODE, O_WRONLY));
		EXPECT_STATE(self->e.tx, UMPSC_ROLE_SENDER, &self->e.m);
		self->e.rx = ASSERT_FD(umpsc_open(NODE, O_RDONLY | O_NONBLOCK));
		self->e.m.state |= UMPSC_STATE_CLAIMED;
		EXPECT_BOTH();
		EXPECT_REFUSED(EMSGSIZE, 21);
		EXPECT_SENT(20);
		EXPECT_SENT(10);
		EXPECT_REFUSED(ENOBUFS, 11);
		EXPECT_SENT(10);
		EXPECT_REFUSED(ENOBUFS, 1);
		EXPECT_TAKEN(20);
		EXPECT_SENT(20);
		/* CLOSE ends a standing one too; the next open starts the next. */
		ASSERT_EQ(0, umpsc_close(self->e.rx));
		ends_close(&self->e);
	}
}

TEST_LONG(node, standing_limits_hold_from_receiver_to_receiver)
{
	const bool standing = variant->flags & UMPSC_STANDING;
	char byte;

	self->e.tx = ASSERT_FD(umpsc_open(NODE, O_WRONLY));
	self->e.rx = ASSERT_FD(umpsc_open(NODE, O_RDONLY | O_NONBLOCK));
	self->e.m.strong = 1;
	self->e.m.state = UMPSC_STATE_CLAIMED |
			  (standing ? UMPSC_STATE_STANDING : 0);
	EXPECT_SENT(20);
	EXPECT_SENT(20);
	ASSERT_EQ(1, read(self->e.rx, &byte, 1));
	EXPECT_REFUSED(ENOBUFS, 1);
	close(self->e.rx);
	self->e.rx = -1;
	if (!standing) {
		EXPECT_ERR(EPIPE, write(self->e.tx, data, 1));
		return;
	}
	EXPECT_ERR(ENOBUFS, write(self->e.tx, data, 1));
	self->e.m.refused_limit++;
	self->e.rx = ASSERT_FD(umpsc_open(NODE, O_RDONLY | O_NONBLOCK));
	EXPECT_BOTH();
	/* Whole again, for the successor. */
	EXPECT_TAKEN(20);
	EXPECT_SENT(20);
	EXPECT_REFUSED(ENOBUFS, 1);
}

/* ---- The module's largest message --------------------------------------------- */

FIXTURE(module)
{
	struct ends e;
	char saved[64];
};

static bool set_max_len(const char *value)
{
	int fd = open(PARAM_MAX_LEN, O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	n = write(fd, value, strlen(value));
	close(fd);
	return n == (ssize_t)strlen(value);
}

static __u64 module_max_len(int fd)
{
	struct umpsc_query q;

	return umpsc_query(fd, &q) ? UMPSC_POISON_U64 : q.max_len;
}

FIXTURE_SETUP(module)
{
	ASSERT_LT(0, umpsc_read_file(PARAM_MAX_LEN, self->saved,
				     sizeof(self->saved)));
	ASSERT_EQ(0, umpsc_private_with(&self->e.rx, &self->e.tx, 0, O_NONBLOCK,
					0, NULL));
	self->e.m.state = UMPSC_STATE_CLAIMED;
	self->e.m.strong = 1;
}

FIXTURE_TEARDOWN(module)
{
	EXPECT_TRUE(set_max_len(self->saved));
	close(self->e.rx);
	close(self->e.tx);
}

TEST_LONG(module, largest_message_is_16_mebibytes)
{
	const size_t len = 16 << 20;
	unsigned char *big;

	EXPECT_EQ(len, module_max_len(self->e.tx));
	EXPECT_EQ(len, strtoull(self->saved, NULL, 10));
	big = mmap(NULL, len + 4096, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, big);
	EXPECT_ERR(EMSGSIZE, write(self->e.tx, big, len + 1));
	self->e.m.refused_size++;
	EXPECT_BOTH();
	EXPECT_EQ(len, write(self->e.tx, big, len));
	umpsc_model_send(&self->e.m, 1, len);
	EXPECT_BOTH();
	munmap(big, len + 4096);
}

TEST_LONG(module, max_len_can_be_lowered_and_raised)
{
	ASSERT_TRUE(set_max_len("1000"));
	EXPECT_EQ(1000, module_max_len(self->e.rx));
	EXPECT_SENT(1000);
	EXPECT_REFUSED(EMSGSIZE, 1001);
	EXPECT_SENT_BATCH(2, 1000);
	EXPECT_REFUSED_BATCH(EMSGSIZE, 2, 1001);
	ASSERT_TRUE(set_max_len("1001"));
	EXPECT_EQ(1001, module_max_len(self->e.rx));
	EXPECT_SENT(1001);
	EXPECT_SENT_BATCH(2, 1001);
	EXPECT_REFUSED(EMSGSIZE, 1002);
	ASSERT_TRUE(set_max_len(self->saved));
	EXPECT_SENT(60000);
}

TEST_LONG(module, lowering_max_len_refuses_new_sends_only)
{
	EXPECT_SENT(5000);
	EXPECT_SENT_BATCH(2, 300);
	ASSERT_TRUE(set_max_len("100"));
	EXPECT_BOTH();
	EXPECT_REFUSED(EMSGSIZE, 101);
	EXPECT_TAKEN(5000);
	ASSERT_EQ(299, read(self->e.rx, data + 1000, 299));
	ASSERT_EQ(1, read(self->e.rx, data + 1000, 299));
	umpsc_model_receive(&self->e.m, 1, 300);
	EXPECT_TAKEN(300);
	EXPECT_SENT(100);
}

TEST_LONG(module, max_len_goes_up_to_a_gibibyte)
{
	const size_t len = 17 << 20;
	unsigned char *big;

	big = mmap(NULL, len, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, big);
	umpsc_fill(big, len, 17);
	EXPECT_ERR(EMSGSIZE, write(self->e.tx, big, len));
	self->e.m.refused_size++;
	ASSERT_TRUE(set_max_len("20000000"));
	EXPECT_EQ(20000000, module_max_len(self->e.rx));
	EXPECT_EQ(len, write(self->e.tx, big, len));
	umpsc_model_send(&self->e.m, 1, len);
	EXPECT_BOTH();
	EXPECT_MESSAGE(self->e.rx, big, len);
	munmap(big, len);

	ASSERT_TRUE(set_max_len("1073741824"));
	EXPECT_EQ(UMPSC_LEN_MAX, module_max_len(self->e.rx));
	ASSERT_TRUE(set_max_len("4294967296"));
	EXPECT_EQ(UMPSC_LEN_MAX, module_max_len(self->e.rx));
	ASSERT_TRUE(set_max_len("18446744073709551615"));
	EXPECT_EQ(UMPSC_LEN_MAX, module_max_len(self->e.rx));
	EXPECT_FALSE(set_max_len("-1x"));
	EXPECT_FALSE(set_max_len("much"));
	EXPECT_EQ(UMPSC_LEN_MAX, module_max_len(self->e.rx));
}

TEST_LONG(module, message_above_a_gibibyte_is_emsgsize)
{
	const size_t len = UMPSC_LEN_MAX + 1;
	void *huge = mmap(NULL, len, PROT_READ,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	ASSERT_NE(MAP_FAILED, huge);
	ASSERT_TRUE(set_max_len("18446744073709551615"));
	EXPECT_ERR(EMSGSIZE, write(self->e.tx, huge, len));
	self->e.m.refused_size++;
	EXPECT_BOTH();
	munmap(huge, len);
}

TEST_LONG(module, batch_above_2_gibibytes_is_emsgsize)
{
	const __u64 most = 0x7ffff000;

	EXPECT_ERR(EMSGSIZE, umpsc_send(self->e.tx, data, most + 8));
	self->e.m.refused_size++;
	EXPECT_BOTH();
	EXPECT_ERR(EMSGSIZE, umpsc_send(self->e.tx, data, 1ULL << 32));
	self->e.m.refused_size++;
	EXPECT_BOTH();
}

TEST_LONG(module, the_lower_of_module_and_channel_holds)
{
	struct umpsc_limits limits = { .max_len = 500 };

	close(self->e.rx);
	close(self->e.tx);
	ASSERT_EQ(0, umpsc_private_with(&self->e.rx, &self->e.tx, 0, O_NONBLOCK,
					0, &limits));
	self->e.m.limits = limits;
	EXPECT_REFUSED(EMSGSIZE, 501);
	ASSERT_TRUE(set_max_len("400"));
	EXPECT_REFUSED(EMSGSIZE, 401);
	EXPECT_SENT(400);
	/* The channel's own is what INFO tells. */
	EXPECT_BOTH();
	ASSERT_TRUE(set_max_len("600"));
	EXPECT_REFUSED(EMSGSIZE, 501);
	EXPECT_SENT(500);
}

TEST_HARNESS_MAIN
