// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sending and receiving: write, SEND, read and RECV, the order, the end, waiting.
 *
 * Names that end in _unbounded, and most that begin with try_recv, len, is_empty
 * or is_closed, are those of Tokio's own tests of the same promise.
 */
#include "umpsc_test.h"

/* Room for what most tests receive. */
static unsigned char buf[1 << 16] __attribute__((aligned(8)));

FIXTURE(channel)
{
	int rx;
	int tx;
	struct umpsc_info m;
};

FIXTURE_SETUP(channel)
{
	ASSERT_EQ(0, umpsc_private(&self->rx, &self->tx));
	self->m.state = UMPSC_STATE_CLAIMED;
	self->m.strong = 1;
}

FIXTURE_TEARDOWN(channel)
{
	if (self->rx >= 0)
		close(self->rx);
	if (self->tx >= 0)
		close(self->tx);
}

/* What INFO says to both ends is the model. */
#define EXPECT_BOTH()                                       \
	EXPECT_VIEWS(&self->m, UMPSC_VIEW_SENDER(self->tx), \
		     UMPSC_VIEW_RECEIVER(self->rx))

static void set_nonblock(int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static void close_fd(int *fd)
{
	close(*fd);
	*fd = -1;
}

/* Payload that tells its number, for tests in which only the order counts. */
static bool send_number(int fd, __u64 n)
{
	return write(fd, &n, sizeof(n)) == sizeof(n);
}

/* The number received without waiting, or -1 with errno; 0 is the end. */
static long long recv_number(int fd)
{
	__u64 n;
	ssize_t ret;

	ret = read(fd, &n, sizeof(n));
	if (ret == sizeof(n))
		return n;
	if (ret > 0)
		errno = EPROTO;
	return ret ? -1 : 0;
}

static ssize_t read_nowait(int fd, void *to, size_t len)
{
	struct iovec iov = { .iov_base = to, .iov_len = len };

	return preadv2(fd, &iov, 1, -1, RWF_NOWAIT);
}

static __u64 memory_of(int fd)
{
	struct umpsc_info info;

	return umpsc_info(fd, &info) ? UMPSC_POISON_U64 : info.memory;
}

static __u64 messages_of(int fd)
{
	struct umpsc_info info;

	return umpsc_info(fd, &info) ? UMPSC_POISON_U64 : info.messages;
}

/* ---- write ------------------------------------------------------------- */

TEST_LONG(channel, write_is_one_message)
{
	EXPECT_WRITE(self->tx, "a");
	EXPECT_WRITE(self->tx, "bb");
	EXPECT_WRITE(self->tx, "ccc");
	umpsc_model_send(&self->m, 3, 6);
	EXPECT_BOTH();

	EXPECT_TEXT(self->rx, "a");
	umpsc_model_receive(&self->m, 1, 1);
	EXPECT_BOTH();
	EXPECT_TEXT(self->rx, "bb");
	EXPECT_TEXT(self->rx, "ccc");
	umpsc_model_receive(&self->m, 2, 5);
	EXPECT_EMPTY(self->rx);
	EXPECT_BOTH();
}

TEST_LONG(channel, writev_is_one_message)
{
	struct iovec iov[] = {
		{ "he", 2 },	 { NULL, 0 }, { "l", 1 },
		{ "lo wor", 6 }, { "ld", 2 },
	};
	struct iovec many[1024];
	unsigned char data[3 * 1024];
	size_t i, len = 0;

	ASSERT_EQ(11, writev(self->tx, iov, ARRAY_SIZE(iov)));
	umpsc_model_send(&self->m, 1, 11);
	EXPECT_BOTH();
	EXPECT_TEXT(self->rx, "hello world");
	umpsc_model_receive(&self->m, 1, 11);

	umpsc_fill(data, sizeof(data), 1);
	for (i = 0; i < ARRAY_SIZE(many); i++) {
		many[i].iov_base = data + len;
		many[i].iov_len = i % 4;
		len += i % 4;
	}
	ASSERT_EQ(len, writev(self->tx, many, ARRAY_SIZE(many)));
	umpsc_model_send(&self->m, 1, len);
	EXPECT_BOTH();
	EXPECT_MESSAGE(self->rx, data, len);
	umpsc_model_receive(&self->m, 1, len);
	EXPECT_EMPTY(self->rx);
	EXPECT_BOTH();
}

TEST_LONG(channel, write_of_nothing_sends_nothing)
{
	struct iovec iov[] = { { "x", 0 }, { NULL, 0 } };

	EXPECT_EQ(0, write(self->tx, "x", 0));
	EXPECT_EQ(0, write(self->tx, NULL, 0));
	EXPECT_EQ(0, writev(self->tx, iov, ARRAY_SIZE(iov)));
	EXPECT_EQ(0, writev(self->tx, iov, 0));
	EXPECT_BOTH();
	EXPECT_EMPTY(self->rx);

	ASSERT_EQ(0, umpsc_close(self->rx));
	self->m.state |= UMPSC_STATE_CLOSED | UMPSC_STATE_ENDED;
	EXPECT_EQ(0, write(self->tx, "x", 0));
	EXPECT_EQ(0, writev(self->tx, iov, ARRAY_SIZE(iov)));
	EXPECT_BOTH();
}

/* ---- read: the byte view ------------------------------------------------ */

TEST_LONG(channel, read_goes_on_with_the_rest)
{
	size_t want, off, size;
	ssize_t n;

	for (size = 1; size <= 12; size++) {
		EXPECT_WRITE(self->tx, "0123456789");
		umpsc_model_send(&self->m, 1, 10);
		for (off = 0; off < 10; off += want) {
			EXPECT_EQ(10 - off, umpsc_fionread(self->rx));
			EXPECT_BOTH();
			want = size < 10 - off ? size : 10 - off;
			memset(buf, UMPSC_POISON, 16);
			n = read(self->rx, buf, size);
			ASSERT_EQ(want, n);
			EXPECT_EQ(0, memcmp(buf, "0123456789" + off, want));
			EXPECT_EQ(UMPSC_POISON, buf[want]);
		}
		/* Received with its last byte, not before. */
		umpsc_model_receive(&self->m, 1, 10);
		EXPECT_BOTH();
		EXPECT_EQ(0, umpsc_fionread(self->rx));
		EXPECT_EMPTY(self->rx);
	}
}

TEST_LONG(channel, read_never_spans_two_messages)
{
	EXPECT_WRITE(self->tx, "first");
	EXPECT_WRITE(self->tx, "second");
	EXPECT_WRITE(self->tx, "third");
	umpsc_model_send(&self->m, 3, 16);

	ASSERT_EQ(5, read(self->rx, buf, sizeof(buf)));
	EXPECT_EQ(0, memcmp(buf, "first", 5));
	umpsc_model_receive(&self->m, 1, 5);
	EXPECT_BOTH();
	ASSERT_EQ(4, read(self->rx, buf, 4));
	EXPECT_EQ(0, memcmp(buf, "seco", 4));
	EXPECT_BOTH();
	ASSERT_EQ(2, read(self->rx, buf, sizeof(buf)));
	EXPECT_EQ(0, memcmp(buf, "nd", 2));
	umpsc_model_receive(&self->m, 1, 6);
	EXPECT_BOTH();
	ASSERT_EQ(5, read(self->rx, buf, sizeof(buf)));
	EXPECT_EQ(0, memcmp(buf, "third", 5));
	umpsc_model_receive(&self->m, 1, 5);
	EXPECT_BOTH();
}

TEST_LONG(channel, read_passes_over_empty_messages_and_takes_them)
{
	struct umpsc_batch b = {};

	umpsc_batch_add(&b, "", 0);
	umpsc_batch_add(&b, "", 0);
	umpsc_batch_add(&b, "ab", 2);
	umpsc_batch_add(&b, "", 0);
	umpsc_batch_add(&b, "c", 1);
	umpsc_batch_add(&b, "", 0);
	ASSERT_EQ(6, umpsc_batch_send(self->tx, &b));
	umpsc_batch_free(&b);
	umpsc_model_send(&self->m, 6, 3);
	EXPECT_BOTH();

	/* The two before are taken together with the data. */
	ASSERT_EQ(1, read(self->rx, buf, 1));
	EXPECT_EQ('a', buf[0]);
	umpsc_model_receive(&self->m, 2, 0);
	EXPECT_BOTH();
	ASSERT_EQ(1, read(self->rx, buf, sizeof(buf)));
	EXPECT_EQ('b', buf[0]);
	umpsc_model_receive(&self->m, 1, 2);
	EXPECT_BOTH();
	ASSERT_EQ(1, read(self->rx, buf, sizeof(buf)));
	EXPECT_EQ('c', buf[0]);
	umpsc_model_receive(&self->m, 2, 1);
	EXPECT_BOTH();
	EXPECT_EQ(0, umpsc_fionread(self->rx));

	/* One is left; RECV shows it. */
	EXPECT_MESSAGE(self->rx, "", 0);
	umpsc_model_receive(&self->m, 1, 0);
	EXPECT_EMPTY(self->rx);
	EXPECT_BOTH();
}

TEST_LONG(channel, read_of_empty_messages_alone_goes_on_as_if_empty)
{
	struct umpsc_batch b = {};

	umpsc_batch_add(&b, "", 0);
	umpsc_batch_add(&b, "", 0);

	set_nonblock(self->rx);
	ASSERT_EQ(2, umpsc_batch_send(self->tx, &b));
	umpsc_model_send(&self->m, 2, 0);
	EXPECT_ERR(EAGAIN, read(self->rx, buf, sizeof(buf)));
	umpsc_model_receive(&self->m, 2, 0);
	EXPECT_BOTH();

	ASSERT_EQ(2, umpsc_batch_send(self->tx, &b));
	umpsc_model_send(&self->m, 2, 0);
	ASSERT_EQ(0, umpsc_close(self->rx));
	self->m.state |= UMPSC_STATE_CLOSED | UMPSC_STATE_ENDED;
	EXPECT_BOTH();
	EXPECT_EQ(0, read(self->rx, buf, sizeof(buf)));
	umpsc_model_receive(&self->m, 2, 0);
	EXPECT_BOTH();
	umpsc_batch_free(&b);
}

TEST_LONG(channel, read_waits_behind_empty_messages_for_data)
{
	struct umpsc_receive r = { .fd = self->rx };
	struct umpsc_batch b = {};
	struct umpsc_thread t;

	umpsc_batch_add(&b, "", 0);
	ASSERT_EQ(1, umpsc_batch_send(self->tx, &b));
	umpsc_batch_free(&b);
	ASSERT_EQ(0, umpsc_thread_start(&t, umpsc_receive_fn, &r));
	ASSERT_TRUE(umpsc_thread_asleep(&t, SYS_read));
	EXPECT_EQ(0, messages_of(self->tx));
	EXPECT_WRITE(self->tx, "data");
	ASSERT_TRUE(umpsc_thread_join(&t));
	ASSERT_EQ(4, t.ret);
	EXPECT_EQ(0, memcmp(r.buf, "data", 4));
}

TEST_LONG(channel, read_of_nothing_takes_nothing)
{
	struct iovec iov[] = { { buf, 0 }, { buf, 0 } };
	struct umpsc_batch b = {};

	/* Also where it would have to wait: the receiver is a blocking one. */
	EXPECT_EQ(0, read(self->rx, buf, 0));
	EXPECT_EQ(0, readv(self->rx, iov, 2));

	umpsc_batch_add(&b, "", 0);
	umpsc_batch_add(&b, "abc", 3);
	ASSERT_EQ(2, umpsc_batch_send(self->tx, &b));
	umpsc_batch_free(&b);
	umpsc_model_send(&self->m, 2, 3);
	EXPECT_EQ(0, read(self->rx, buf, 0));
	EXPECT_EQ(0, readv(self->rx, iov, 2));
	EXPECT_EQ(0, readv(self->rx, iov, 0));
	EXPECT_BOTH();

	ASSERT_EQ(1, read(self->rx, buf, 1));
	umpsc_model_receive(&self->m, 1, 0);
	EXPECT_EQ(0, read(self->rx, buf, 0));
	EXPECT_EQ(2, umpsc_fionread(self->rx));
	EXPECT_BOTH();
}

TEST_LONG(channel, readv_fills_odd_pieces)
{
	static const size_t sizes[] = {
		0, 1, 7, 0, 0, 13, 64, 4099, 2, 0, 9000
	};
	struct iovec iov[ARRAY_SIZE(sizes)];
	static const size_t lens[] = { 1,    8,	   20,	 21,	22,   85,
				       4184, 4185, 4187, 13186, 13187 };
	unsigned char *data = malloc(20000);
	size_t i, j, off;
	ssize_t want;

	ASSERT_NE(NULL, data);
	for (j = 0; j < ARRAY_SIZE(lens); j++) {
		umpsc_fill(data, lens[j], j);
		ASSERT_EQ(lens[j], write(self->tx, data, lens[j]));
		umpsc_model_send(&self->m, 1, lens[j]);
		memset(buf, UMPSC_POISON, 20000);
		/* Each piece lies with a gap of one byte behind it. */
		for (i = 0, off = 0; i < ARRAY_SIZE(sizes); i++) {
			iov[i].iov_base = buf + off;
			iov[i].iov_len = sizes[i];
			off += sizes[i] + 1;
		}
		want = lens[j] < 13186 ? lens[j] : 13186;
		ASSERT_EQ(want, readv(self->rx, iov, ARRAY_SIZE(iov)));
		for (i = 0, off = 0; i < ARRAY_SIZE(sizes); i++) {
			size_t n = sizes[i] < want - off ? sizes[i] :
							   want - off;

			EXPECT_EQ(0, memcmp(iov[i].iov_base, data + off, n));
			EXPECT_EQ(UMPSC_POISON,
				  ((unsigned char *)iov[i].iov_base)[n]);
			off += n;
		}
		if (want < lens[j]) {
			EXPECT_BOTH();
			ASSERT_EQ(1, read(self->rx, buf, sizeof(buf)));
			EXPECT_EQ(data[want], buf[0]);
		}
		umpsc_model_receive(&self->m, 1, lens[j]);
		EXPECT_BOTH();
	}
	free(data);
}

TEST_LONG(channel, read_byte_by_byte_over_pages)
{
	unsigned char *data = malloc(9000);
	size_t i;

	ASSERT_NE(NULL, data);
	umpsc_fill(data, 9000, 7);
	ASSERT_EQ(9000, write(self->tx, data, 9000));
	umpsc_model_send(&self->m, 1, 9000);
	for (i = 0; i < 9000; i++) {
		if (i % 1000 == 0)
			EXPECT_BOTH();
		ASSERT_EQ(1, read(self->rx, buf, 1));
		ASSERT_EQ(data[i], buf[0]);
	}
	umpsc_model_receive(&self->m, 1, 9000);
	EXPECT_BOTH();
	EXPECT_EMPTY(self->rx);
	free(data);
}

TEST_LONG(channel, read_large_message_in_odd_parts)
{
	const size_t len = 1 << 20;
	unsigned char *data = malloc(len);
	__u64 seed = 3;
	size_t off, size;
	ssize_t n;

	ASSERT_NE(NULL, data);
	umpsc_fill(data, len, 8);
	ASSERT_EQ(len, write(self->tx, data, len));
	umpsc_model_send(&self->m, 1, len);
	for (off = 0; off < len; off += n) {
		EXPECT_EQ(len - off, umpsc_fionread(self->rx));
		size = 1 + umpsc_random(&seed) % 9000;
		n = read(self->rx, buf, size);
		ASSERT_EQ(size < len - off ? size : len - off, n);
		ASSERT_EQ(0, memcmp(buf, data + off, n));
	}
	umpsc_model_receive(&self->m, 1, len);
	EXPECT_BOTH();
	free(data);
}

TEST_LONG(channel, recv_after_read_gives_the_rest)
{
	const struct umpsc_record *r = (void *)buf;
	struct umpsc_batch b = {};
	__u64 used, need;
	size_t pos = 0;
	int other_rx, other_tx;

	umpsc_batch_add(&b, "one", 3);
	umpsc_batch_add(&b, "twotwotwo", 9);
	umpsc_batch_add(&b, "three", 5);
	ASSERT_EQ(3, umpsc_batch_send(self->tx, &b));
	umpsc_batch_free(&b);
	umpsc_model_send(&self->m, 3, 17);
	EXPECT_TEXT(self->rx, "one");
	umpsc_model_receive(&self->m, 1, 3);
	ASSERT_EQ(3, read(self->rx, buf, 3));
	EXPECT_BOTH();

	/* Too small for the rest: it says so, and keeps it. */
	EXPECT_ERR(EMSGSIZE, umpsc_recv(self->rx, buf, 39, 9, 0, &used, &need));
	EXPECT_EQ(0, used);
	EXPECT_EQ(40, need);
	EXPECT_EQ(6, umpsc_fionread(self->rx));
	EXPECT_BOTH();

	memset(buf, UMPSC_POISON, 256);
	ASSERT_EQ(2, umpsc_recv(self->rx, buf, 256, 9, 0, &used, &need));
	EXPECT_EQ(80, used);
	EXPECT_EQ(0, need);
	umpsc_model_receive(&self->m, 2, 14);
	EXPECT_BOTH();
	EXPECT_EQ(UMPSC_POISON, buf[80]);

	r = umpsc_batch_next(buf, used, &pos);
	ASSERT_NE(NULL, r);
	EXPECT_EQ(6, r->len);
	EXPECT_EQ(UMPSC_REST, r->flags);
	EXPECT_EQ(1, r->seq);
	EXPECT_EQ(0, memcmp(umpsc_record_data(r), "twotwo\0\0", 8));
	r = umpsc_batch_next(buf, used, &pos);
	ASSERT_NE(NULL, r);
	EXPECT_EQ(5, r->len);
	EXPECT_EQ(0, r->flags);
	EXPECT_EQ(2, r->seq);
	EXPECT_EQ(0, memcmp(umpsc_record_data(r), "three\0\0\0", 8));

	/* As it lies it is a batch to send, and the rest is a message there. */
	ASSERT_EQ(0, umpsc_private(&other_rx, &other_tx));
	ASSERT_EQ(2, umpsc_send(other_tx, buf, used));
	EXPECT_EQ(0, EXPECT_TEXT(other_rx, "twotwo").flags);
	EXPECT_TEXT(other_rx, "three");
	EXPECT_EMPTY(other_rx);
	close(other_rx);
	close(other_tx);
}

/* ---- SEND -------------------------------------------------------------- */

TEST_LONG(channel, send_takes_a_batch_in_order)
{
	struct umpsc_batch b = {};
	unsigned char data[128];
	__u64 bytes = 0;
	int i;

	for (i = 0; i < 100; i++) {
		umpsc_fill(data, i, i);
		umpsc_batch_add(&b, data, i);
		bytes += i;
	}
	ASSERT_EQ(100, umpsc_batch_send(self->tx, &b));
	umpsc_model_send(&self->m, 100, bytes);
	EXPECT_BOTH();
	for (i = 0; i < 100; i++) {
		umpsc_fill(data, i, i);
		EXPECT_EQ(i, EXPECT_MESSAGE(self->rx, data, i).seq);
		umpsc_model_receive(&self->m, 1, i);
	}
	EXPECT_BOTH();
	EXPECT_EMPTY(self->rx);
	umpsc_batch_free(&b);
}

TEST_LONG(channel, send_of_nothing)
{
	EXPECT_EQ(0, umpsc_send(self->tx, buf, 0));
	EXPECT_EQ(0, umpsc_send(self->tx, NULL, 0));
	EXPECT_BOTH();

	ASSERT_EQ(0, umpsc_close(self->rx));
	self->m.state |= UMPSC_STATE_CLOSED | UMPSC_STATE_ENDED;
	EXPECT_ERR(EPIPE, umpsc_send(self->tx, buf, 0));
	self->m.refused_closed++;
	EXPECT_BOTH();
}

TEST_LONG(channel, send_goes_by_the_header_size)
{
	static const __u16 hdrs[] = { 0, 32, 40, 48, 256, 0, 248, 32, 64, 40 };
	unsigned char data[64];
	size_t len, off = 0;
	struct umpsc_record *r;
	__u64 bytes = 0;
	size_t i;

	memset(buf, UMPSC_POISON, sizeof(buf));
	for (i = 0; i < ARRAY_SIZE(hdrs); i++) {
		len = i * 5;
		r = (void *)(buf + off);
		memset(r, UMPSC_POISON, sizeof(*r));
		r->len = len;
		r->hdr = hdrs[i];
		r->flags = 0;
		off += hdrs[i] ? hdrs[i] : 32;
		umpsc_fill(buf + off, len, i);
		off += (len + 7) / 8 * 8;
		bytes += len;
	}
	ASSERT_EQ(ARRAY_SIZE(hdrs), umpsc_send(self->tx, buf, off));
	umpsc_model_send(&self->m, ARRAY_SIZE(hdrs), bytes);
	EXPECT_BOTH();
	for (i = 0; i < ARRAY_SIZE(hdrs); i++) {
		umpsc_fill(data, i * 5, i);
		EXPECT_MESSAGE(self->rx, data, i * 5);
	}
	umpsc_model_receive(&self->m, ARRAY_SIZE(hdrs), bytes);
	EXPECT_EMPTY(self->rx);
	EXPECT_BOTH();
}

TEST_LONG(channel, send_ignores_what_the_kernel_fills)
{
	struct umpsc_batch b = {};
	struct umpsc_record *r, got;

	/* Poison in seq, sender, time_ns and padding, from umpsc_batch_add(). */
	umpsc_batch_add(&b, "x", 1);
	r = umpsc_batch_add(&b, "yy", 2);
	r->flags = UMPSC_REST;
	ASSERT_EQ(2, umpsc_batch_send(self->tx, &b));
	umpsc_batch_free(&b);

	got = EXPECT_TEXT(self->rx, "x");
	EXPECT_EQ(0, got.flags);
	EXPECT_EQ(0, got.seq);
	EXPECT_EQ(1, got.sender);
	EXPECT_EQ(0, got.time_ns);
	got = EXPECT_TEXT(self->rx, "yy");
	EXPECT_EQ(0, got.flags);
	EXPECT_EQ(1, got.seq);
	EXPECT_EQ(1, got.sender);
	EXPECT_EQ(0, got.time_ns);
}

/* The error number of a call, 0 where it succeeded. */
#define error_of(call) ((call) == -1 ? errno : 0)

#define BAD_RECORDS 12

FIXTURE(bad)
{
	int rx;
	int tx;
	struct umpsc_batch b;
	size_t at[BAD_RECORDS];
	struct umpsc_info before;
};

FIXTURE_SETUP(bad)
{
	unsigned char data[64];
	int i;

	ASSERT_EQ(0, umpsc_private(&self->rx, &self->tx));
	for (i = 0; i < BAD_RECORDS; i++) {
		self->at[i] = self->b.len;
		umpsc_fill(data, i * 5, i);
		umpsc_batch_add(&self->b, data, i * 5);
	}
	EXPECT_WRITE(self->tx, "queued");
	ASSERT_EQ(0, umpsc_info(self->tx, &self->before));
}

/* Nothing of what was refused is there, and the batch as it should be goes. */
FIXTURE_TEARDOWN(bad)
{
	unsigned char data[64];
	int i;

	EXPECT_UNCHANGED(self->tx, &self->before);
	EXPECT_EQ(BAD_RECORDS, umpsc_batch_send(self->tx, &self->b));
	EXPECT_TEXT(self->rx, "queued");
	for (i = 0; i < BAD_RECORDS; i++) {
		umpsc_fill(data, i * 5, i);
		EXPECT_MESSAGE(self->rx, data, i * 5);
	}
	EXPECT_EMPTY(self->rx);
	EXPECT_EQ(0, memory_of(self->tx));
	umpsc_batch_free(&self->b);
	close(self->rx);
	close(self->tx);
}

TEST_LONG(bad, header_size_at_every_position)
{
	static const __u16 hdrs[] = { 1,  8,   16,  24,	 31,	 33,
				      36, 260, 264, 512, 0xfff8, 0xffff };
	struct umpsc_record *r;
	size_t i, j;

	for (i = 0; i < BAD_RECORDS; i++) {
		r = (void *)(self->b.data + self->at[i]);
		for (j = 0; j < ARRAY_SIZE(hdrs); j++) {
			r->hdr = hdrs[j];
			EXPECT_EQ(EINVAL, error_of(umpsc_batch_send(self->tx,
								    &self->b)))
			TH_LOG("hdr %u in record %zu", hdrs[j], i);
			EXPECT_UNCHANGED(self->tx, &self->before);
		}
		r->hdr = UMPSC_RECORD_HDR;
	}
}

TEST_LONG(bad, flags_at_every_position)
{
	static const __u16 flags[] = { 2, 3, 4, 0x100, 0x8000, 0xffff };
	struct umpsc_record *r;
	size_t i, j;

	for (i = 0; i < BAD_RECORDS; i++) {
		r = (void *)(self->b.data + self->at[i]);
		for (j = 0; j < ARRAY_SIZE(flags); j++) {
			r->flags = flags[j];
			EXPECT_EQ(EINVAL, error_of(umpsc_batch_send(self->tx,
								    &self->b)))
			TH_LOG("flags 0x%x in record %zu", flags[j], i);
			EXPECT_UNCHANGED(self->tx, &self->before);
		}
		r->flags = 0;
	}
}

TEST_LONG(bad, length_beyond_the_batch_at_every_position)
{
	struct umpsc_record *r;
	size_t i, j;
	__u32 len;

	for (i = 0; i < BAD_RECORDS; i++) {
		__u32 left = self->b.len - self->at[i] - UMPSC_RECORD_HDR;
		const __u32 lens[] = {
			left + 1,   left + 8,	left + 4096, 0x7fffffff,
			0x80000000, 0xffffffe0, 0xfffffff8,  0xffffffff,
		};

		r = (void *)(self->b.data + self->at[i]);
		len = r->len;
		for (j = 0; j < ARRAY_SIZE(lens); j++) {
			r->len = lens[j];
			EXPECT_EQ(EINVAL, error_of(umpsc_batch_send(self->tx,
								    &self->b)))
			TH_LOG("len %u in record %zu", lens[j], i);
			EXPECT_UNCHANGED(self->tx, &self->before);
		}
		r->len = len;
	}
}

TEST_LONG(bad, batch_cut_off_at_every_byte)
{
	size_t len, i;
	bool whole;

	for (len = 1; len < self->b.len; len++) {
		whole = false;
		for (i = 0; i < BAD_RECORDS; i++)
			whole |= len == self->at[i];
		if (whole)
			continue;
		EXPECT_EQ(EINVAL,
			  error_of(umpsc_send(self->tx, self->b.data, len)))
		TH_LOG("cut off after %zu bytes", len);
		EXPECT_UNCHANGED(self->tx, &self->before);
	}
}

TEST_LONG(bad, bytes_behind_the_last_record)
{
	unsigned char *longer = calloc(1, self->b.len + 64);
	size_t n;

	ASSERT_NE(NULL, longer);
	memcpy(longer, self->b.data, self->b.len);
	for (n = 1; n < UMPSC_RECORD_HDR; n++) {
		EXPECT_EQ(EINVAL, error_of(umpsc_send(self->tx, longer,
						      self->b.len + n)))
		TH_LOG("%zu bytes more", n);
		EXPECT_UNCHANGED(self->tx, &self->before);
	}
	free(longer);
}

/* Lengths about the edges of pages, of the kernel's pieces and of powers of two. */
static size_t edge_lens(size_t *lens)
{
	static const size_t around[] = { 12256, 12272, 16384, 65536, 1 << 20 };
	size_t n = 0, i, len;

	for (len = 0; len <= 70; len++)
		lens[n++] = len;
	for (len = 4020; len <= 4100; len++)
		lens[n++] = len;
	for (len = 8100; len <= 8200; len++)
		lens[n++] = len;
	for (i = 0; i < ARRAY_SIZE(around); i++)
		for (len = around[i] - 1; len <= around[i] + 1; len++)
			lens[n++] = len;
	return n;
}

/* By write, but an empty message, which only SEND can send. */
static long send_one(int tx, const struct umpsc_batch *b, size_t len)
{
	return len ? write(tx, b->data + UMPSC_RECORD_HDR, len) :
		     umpsc_batch_send(tx, b);
}

TEST_LONG(channel, every_size_arrives_byte_for_byte)
{
	unsigned char *data = malloc((1 << 20) + 64);
	unsigned char *got = malloc((1 << 20) + 64);
	const struct umpsc_record *r = (void *)got;
	size_t lens[512], n, i, j, size;
	struct umpsc_batch b = {};
	__u64 used, need;

	ASSERT_TRUE(data && got);
	n = edge_lens(lens);
	for (i = 0; i < n; i++) {
		umpsc_fill(data, lens[i], i);
		size = UMPSC_RECORD_SIZE(UMPSC_RECORD_HDR, lens[i]);

		/* By write and by SEND; by RECV into exactly what it needs ... */
		b.len = 0;
		umpsc_batch_add(&b, data, lens[i]);
		ASSERT_EQ(lens[i] ? lens[i] : 1,
			  send_one(self->tx, &b, lens[i]));
		ASSERT_EQ(1, umpsc_batch_send(self->tx, &b));
		for (j = 0; j < 2; j++) {
			memset(got, UMPSC_POISON, size + 1);
			EXPECT_EQ(lens[i], umpsc_fionread(self->rx));
			EXPECT_ERR(EMSGSIZE, umpsc_recv(self->rx, got, size - 1,
							1, 0, &used, &need));
			EXPECT_EQ(0, used);
			EXPECT_EQ(size, need);
			ASSERT_EQ(1, umpsc_recv(self->rx, got, size, 1, 0,
						&used, &need))
			TH_LOG("len %zu", lens[i]);
			EXPECT_EQ(size, used);
			EXPECT_EQ(0, need);
			ASSERT_EQ(lens[i], r->len);
			ASSERT_EQ(UMPSC_RECORD_HDR, r->hdr);
			ASSERT_EQ(0, memcmp(got + r->hdr, data, lens[i]))
			TH_LOG("len %zu", lens[i]);
			for (used = r->hdr + lens[i]; used < size; used++)
				EXPECT_EQ(0, got[used]);
			EXPECT_EQ(UMPSC_POISON, got[size]);
		}
		umpsc_model_send(&self->m, 2, 2 * lens[i]);
		umpsc_model_receive(&self->m, 2, 2 * lens[i]);

		/* ... and by read. */
		if (!lens[i])
			continue;
		ASSERT_EQ(lens[i], write(self->tx, data, lens[i]));
		memset(got, UMPSC_POISON, lens[i] + 1);
		ASSERT_EQ(lens[i], read(self->rx, got, lens[i] + 1));
		ASSERT_EQ(0, memcmp(got, data, lens[i]));
		EXPECT_EQ(UMPSC_POISON, got[lens[i]]);
		umpsc_model_send(&self->m, 1, lens[i]);
		umpsc_model_receive(&self->m, 1, lens[i]);
	}
	EXPECT_EMPTY(self->rx);
	EXPECT_BOTH();
	umpsc_batch_free(&b);
	free(data);
	free(got);
}

TEST_LONG(channel, sixteen_mebibytes_arrive_byte_for_byte)
{
	const size_t len = 16 << 20;
	unsigned char *data = malloc(len + 64);
	unsigned char *got = malloc(len + 64);
	struct umpsc_batch b = {};
	__u64 used, need;
	size_t off;
	ssize_t n;

	ASSERT_TRUE(data && got);
	umpsc_fill(data, len, 16);
	ASSERT_EQ(len, write(self->tx, data, len));
	umpsc_batch_add(&b, data, len);
	ASSERT_EQ(1, umpsc_batch_send(self->tx, &b));
	umpsc_batch_free(&b);
	umpsc_model_send(&self->m, 2, 2 * len);
	EXPECT_BOTH();

	EXPECT_ERR(EMSGSIZE,
		   umpsc_recv(self->rx, got, len, 1, 0, &used, &need));
	EXPECT_EQ(len + 32, need);
	ASSERT_EQ(1, umpsc_recv(self->rx, got, len + 32, 1, 0, &used, &need));
	EXPECT_EQ(len + 32, used);
	EXPECT_EQ(0, memcmp(got + 32, data, len));
	umpsc_model_receive(&self->m, 1, len);
	EXPECT_BOTH();

	memset(got, 0, len);
	for (off = 0; off < len; off += n) {
		n = read(self->rx, got + off, 5000001);
		ASSERT_EQ(len - off < 5000001 ? len - off : 5000001, n);
	}
	EXPECT_EQ(0, memcmp(got, data, len));
	umpsc_model_receive(&self->m, 1, len);
	EXPECT_BOTH();
	free(data);
	free(got);
}

/*
 * The kernel keeps a batch in pieces; here a header, a payload or its padding
 * lies over the edge of a piece in every possible way.
 */
TEST_LONG(channel, batches_lie_over_page_edges_in_every_way)
{
	struct umpsc_batch b = {};
	unsigned char data[128];
	const struct umpsc_record *r;
	__u64 used, need, bytes;
	size_t i, n, len, pos;
	long got, count;
	__u64 seed;

	for (n = 190; n < 330; n++) {
		b.len = 0;
		bytes = 0;
		seed = n;
		for (i = 0; i < n; i++) {
			/* First of one size, so that all edges come; then of any. */
			len = n < 260 ? 1 + i % 8 :
					umpsc_random(&seed) % sizeof(data);
			umpsc_fill(data, len, n + i);
			umpsc_batch_add(&b, data, len);
			bytes += len;
		}
		ASSERT_EQ(n, umpsc_batch_send(self->tx, &b));
		umpsc_model_send(&self->m, n, bytes);

		seed = n;
		for (count = 0; count < n; count += got) {
			got = umpsc_recv(self->rx, buf, sizeof(buf), 1 + n % 97,
					 0, &used, &need);
			ASSERT_LE(1, got);
			pos = 0;
			for (i = count; i < count + got; i++) {
				len = n < 260 ? 1 + i % 8 :
						umpsc_random(&seed) %
							sizeof(data);
				r = umpsc_batch_next(buf, used, &pos);
				ASSERT_NE(NULL, r);
				ASSERT_EQ(len, r->len);
				ASSERT_EQ(self->m.received + i, r->seq);
				ASSERT_TRUE(umpsc_filled(umpsc_record_data(r),
							 len, n + i));
			}
			ASSERT_EQ(used, pos);
		}
		umpsc_model_receive(&self->m, n, bytes);
	}
	EXPECT_BOTH();
	umpsc_batch_free(&b);
}

struct mark {
	__u32 who;
	__u32 batch;
	__u32 index;
	__u32 of;
};

struct contiguous {
	int tx;
	__u32 who;
};

#define CONTIGUOUS_BATCHES 200

/* Batches of 1 to 40 marks; who 0 sends them by write, one by one. */
static long contiguous_fn(void *arg)
{
	struct contiguous *c = arg;
	struct umpsc_batch b = {};
	struct mark mark;
	__u32 i, j;

	for (i = 0; i < CONTIGUOUS_BATCHES; i++) {
		b.len = 0;
		for (j = 0; j < 1 + i % 40; j++) {
			mark = (struct mark){ c->who, i, j, 1 + i % 40 };
			if (c->who)
				umpsc_batch_add(&b, &mark, sizeof(mark));
			else if (write(c->tx, &mark, sizeof(mark)) < 0)
				return -1;
		}
		if (c->who && umpsc_batch_send(c->tx, &b) != 1 + i % 40)
			return -1;
	}
	umpsc_batch_free(&b);
	return 0;
}

TEST_LONG(channel, batch_is_contiguous_while_others_send)
{
	struct umpsc_thread threads[4];
	struct contiguous args[4];
	struct mark last[4], m, within = {};
	const struct umpsc_record *r;
	__u64 used, need, seq = 0;
	long i, n, left = 0;
	size_t pos;

	for (i = 0; i < CONTIGUOUS_BATCHES; i++)
		left += 4 * (1 + i % 40);
	for (i = 0; i < 4; i++) {
		args[i].tx = i ? ASSERT_FD(umpsc_clone(self->tx, 0)) : self->tx;
		args[i].who = i;
		last[i] = (struct mark){ i, -1, 0, 1 };
		ASSERT_EQ(0, umpsc_thread_start(&threads[i], contiguous_fn,
						&args[i]));
	}
	for (; left; left -= n) {
		n = umpsc_recv(self->rx, buf, sizeof(buf), 1 + left % 100,
			       UMPSC_NO_DEADLINE, &used, &need);
		ASSERT_LE(1, n);
		pos = 0;
		for (i = 0; i < n; i++) {
			r = umpsc_batch_next(buf, used, &pos);
			ASSERT_NE(NULL, r);
			ASSERT_EQ(seq++, r->seq);
			ASSERT_EQ(sizeof(m), r->len);
			memcpy(&m, umpsc_record_data(r), sizeof(m));
			ASSERT_LE(m.who, 3);
			EXPECT_EQ(m.who + 1, r->sender);
			/* Nothing comes in between ... */
			if (within.who) {
				ASSERT_EQ(within.who, m.who);
				ASSERT_EQ(within.batch, m.batch);
				ASSERT_EQ(within.index + 1, m.index);
			}
			within = m;
			if (!m.who || m.index == m.of - 1)
				within.who = 0;
			/* ... and each sender's messages come in its order. */
			ASSERT_EQ(m.index ? m.index - 1 : last[m.who].of - 1,
				  last[m.who].index);
			ASSERT_EQ(last[m.who].batch + !m.index, m.batch);
			last[m.who] = m;
		}
	}
	for (i = 0; i < 4; i++) {
		ASSERT_TRUE(umpsc_thread_join(&threads[i]));
		EXPECT_EQ(0, threads[i].ret);
	}
	EXPECT_EMPTY(self->rx);
}

/* ---- RECV: the message view --------------------------------------------- */

TEST_LONG(channel, recv_of_none_takes_nothing)
{
	__u64 used, need;

	/* Empty, and a blocking receiver without a deadline. */
	EXPECT_EQ(0, umpsc_recv(self->rx, buf, sizeof(buf), 0,
				UMPSC_NO_DEADLINE, &used, &need));
	EXPECT_EQ(0, used);
	EXPECT_EQ(0, need);
	EXPECT_BOTH();

	EXPECT_WRITE(self->tx, "kept");
	umpsc_model_send(&self->m, 1, 4);
	memset(buf, UMPSC_POISON, 64);
	EXPECT_EQ(0, umpsc_recv(self->rx, buf, sizeof(buf), 0,
				UMPSC_NO_DEADLINE, &used, &need));
	EXPECT_EQ(0, used);
	EXPECT_EQ(0, need);
	/* No message is looked at, so none can be too large. */
	EXPECT_EQ(0, umpsc_recv(self->rx, NULL, 0, 0, 0, &used, &need));
	EXPECT_EQ(0, used);
	EXPECT_EQ(0, need);
	EXPECT_EQ(UMPSC_POISON, buf[0]);
	EXPECT_BOTH();

	ASSERT_EQ(0, umpsc_close(self->rx));
	EXPECT_EQ(0,
		  umpsc_recv(self->rx, buf, sizeof(buf), 0, 0, &used, &need));
	EXPECT_TEXT(self->rx, "kept");
	EXPECT_EQ(0,
		  umpsc_recv(self->rx, buf, sizeof(buf), 0, 0, &used, &need));
	EXPECT_END(self->rx);
}

TEST_LONG(channel, recv_takes_at_most_max)
{
	struct umpsc_batch b = {};
	__u64 used, need;
	int i, max, n;

	for (i = 0; i < 10; i++)
		umpsc_batch_add(&b, "0123456789", i);
	for (max = 1; max <= 24; max++) {
		/* Two batches and three writes in between. */
		ASSERT_EQ(10, umpsc_batch_send(self->tx, &b));
		for (i = 0; i < 3; i++)
			EXPECT_WRITE(self->tx, "single");
		ASSERT_EQ(10, umpsc_batch_send(self->tx, &b));
		umpsc_model_send(&self->m, 23, 108);
		EXPECT_BOTH();
		for (i = 0; i < 23; i += n) {
			n = umpsc_recv(self->rx, buf, sizeof(buf), max, 0,
				       &used, &need);
			ASSERT_EQ(max < 23 - i ? max : 23 - i, n);
			EXPECT_EQ(0, need);
			self->m.messages -= n;
			self->m.received += n;
			ASSERT_EQ(self->m.messages, messages_of(self->tx));
		}
		self->m.bytes = 0;
		self->m.received_bytes += 108;
		EXPECT_BOTH();
		EXPECT_EMPTY(self->rx);
	}
	umpsc_batch_free(&b);
}

TEST_LONG(channel, recv_of_the_largest_max)
{
	__u64 used, need;

	EXPECT_WRITE(self->tx, "a");
	EXPECT_WRITE(self->tx, "b");
	EXPECT_EQ(2,
		  umpsc_recv(self->rx, buf, sizeof(buf), ~0U, 0, &used, &need));
	EXPECT_EQ(80, used);
	EXPECT_EMPTY(self->rx);
}

TEST_LONG(channel, recv_into_too_small_a_buffer_keeps_the_message)
{
	static const size_t lens[] = { 1, 7, 8, 9, 100, 5000, 20000 };
	unsigned char *data = malloc(20000);
	struct umpsc_info before;
	size_t i, size, small;
	__u64 used, need;

	ASSERT_NE(NULL, data);
	for (i = 0; i < ARRAY_SIZE(lens); i++) {
		size = UMPSC_RECORD_SIZE(UMPSC_RECORD_HDR, lens[i]);
		umpsc_fill(data, lens[i], i);
		ASSERT_EQ(lens[i], write(self->tx, data, lens[i]));
		EXPECT_WRITE(self->tx, "next");
		ASSERT_EQ(0, umpsc_info(self->rx, &before));
		for (small = 0; small < size; small += size < 200 ? 1 : 97) {
			memset(buf, UMPSC_POISON, size);
			EXPECT_ERR(EMSGSIZE, umpsc_recv(self->rx, buf, small, 5,
							0, &used, &need));
			EXPECT_EQ(0, used);
			EXPECT_EQ(size, need);
			EXPECT_UNCHANGED(self->rx, &before);
		}
		/* One that fits exactly, in a buffer that the next does not. */
		ASSERT_EQ(1,
			  umpsc_recv(self->rx, buf, size, 5, 0, &used, &need));
		EXPECT_EQ(size, used);
		EXPECT_EQ(0, need);
		EXPECT_EQ(0, memcmp(buf + 32, data, lens[i]));
		EXPECT_TEXT(self->rx, "next");
	}
	free(data);
}

TEST_LONG(channel, recv_fills_up_to_the_buffer_and_never_splits)
{
	struct umpsc_batch b = {};
	const struct umpsc_record *r;
	__u64 used, need;
	size_t i, size, sizes[5], pos, want;
	long n, fit;

	for (i = 0; i < 5; i++) {
		umpsc_batch_add(&b, "0123456789abcdefghijklmnopqrstuvwxyz",
				i * 9);
		sizes[i] = UMPSC_RECORD_SIZE(UMPSC_RECORD_HDR, i * 9);
	}
	for (size = sizes[0]; size <= b.len + 8; size++) {
		ASSERT_EQ(5, umpsc_batch_send(self->tx, &b));
		for (fit = 0, want = 0; fit < 5; fit++) {
			if (want + sizes[fit] > size)
				break;
			want += sizes[fit];
		}
		memset(buf, UMPSC_POISON, size + 1);
		n = umpsc_recv(self->rx, buf, size, 100, 0, &used, &need);
		ASSERT_EQ(fit, n) TH_LOG("buffer of %zu", size);
		EXPECT_EQ(want, used);
		EXPECT_EQ(0, need);
		for (i = 0, pos = 0; i < n; i++) {
			r = umpsc_batch_next(buf, used, &pos);
			ASSERT_NE(NULL, r);
			EXPECT_EQ(i * 9, r->len);
		}
		for (i = want; i <= size; i++)
			EXPECT_EQ(UMPSC_POISON, buf[i]);
		EXPECT_EQ(5 - n, messages_of(self->tx));
		for (i = n; i < 5; i++)
			EXPECT_MESSAGE(self->rx,
				       "0123456789abcdefghijklmnopqrstuvwxyz",
				       i * 9);
	}
	umpsc_batch_free(&b);
}

/* Small ones share pages; the slabs that these are in may hold more than pages. */
TEST_LONG(channel, backlog_of_thousands_of_small_messages_is_received_as_sent)
{
	unsigned char data[128];
	size_t len;
	int round, i;

	for (round = 0; round < 3; round++) {
		for (i = 0; i < 3000; i++) {
			len = 1 + i % sizeof(data);
			umpsc_fill(data, len, i);
			ASSERT_EQ(len, write(self->tx, data, len));
			umpsc_model_send(&self->m, 1, len);
		}
		for (i = 0; i < 3000; i++) {
			len = 1 + i % sizeof(data);
			umpsc_fill(data, len, i);
			EXPECT_MESSAGE(self->rx, data, len);
			umpsc_model_receive(&self->m, 1, len);
		}
		EXPECT_STATE(self->rx, UMPSC_ROLE_RECEIVER, &self->m);
	}
}

TEST_LONG(channel, recv_takes_a_batch_of_many_pages_at_once)
{
	const __u32 count = 20000;
	struct umpsc_batch b = {};
	const struct umpsc_record *r;
	unsigned char data[128], *got;
	__u64 used, need, seed = 5, bytes = 0;
	size_t pos = 0, len;
	__u32 i;

	for (i = 0; i < count; i++) {
		len = umpsc_random(&seed) % sizeof(data);
		umpsc_fill(data, len, i);
		umpsc_batch_add(&b, data, len);
		bytes += len;
	}
	ASSERT_EQ(count, umpsc_batch_send(self->tx, &b));
	umpsc_model_send(&self->m, count, bytes);
	EXPECT_BOTH();
	got = malloc(b.len);
	ASSERT_NE(NULL, got);
	memset(got, UMPSC_POISON, b.len);
	ASSERT_EQ(count,
		  umpsc_recv(self->rx, got, b.len, count, 0, &used, &need));
	EXPECT_EQ(b.len, used);
	EXPECT_EQ(0, need);
	umpsc_model_receive(&self->m, count, bytes);
	EXPECT_BOTH();
	for (i = 0, seed = 5; i < count; i++) {
		len = umpsc_random(&seed) % sizeof(data);
		r = umpsc_batch_next(got, used, &pos);
		ASSERT_NE(NULL, r);
		ASSERT_EQ(len, r->len);
		ASSERT_EQ(i, r->seq);
		ASSERT_TRUE(umpsc_filled(umpsc_record_data(r), len, i));
	}
	free(got);
	umpsc_batch_free(&b);
}

TEST_LONG(channel, received_batch_can_be_sent_on_as_it_lies)
{
	int rx[2] = { self->rx }, tx[2] = { self->tx };
	__u64 used, need, seed = 1;
	const struct umpsc_record *r;
	struct umpsc_batch b = {};
	unsigned char data[300];
	size_t pos, len;
	long n, i;
	int hop;

	ASSERT_EQ(0, umpsc_private_with(&rx[1], &tx[1], UMPSC_TIMESTAMP, 0, 0,
					NULL));
	/* There the sender's id is another, and seq runs already. */
	i = tx[1];
	tx[1] = ASSERT_FD(umpsc_sender(rx[1], 0));
	close(i);
	for (i = 0; i < 100; i++) {
		len = umpsc_random(&seed) % sizeof(data);
		umpsc_fill(data, len, i);
		umpsc_batch_add(&b, data, len);
	}
	ASSERT_EQ(100, umpsc_batch_send(tx[0], &b));
	for (hop = 0; hop < 6; hop++) {
		n = umpsc_recv(rx[hop % 2], buf, sizeof(buf), 1000, 0, &used,
			       &need);
		ASSERT_EQ(100, n);
		EXPECT_EQ(b.len, used);
		for (i = 0, pos = 0, seed = 1; i < n; i++) {
			len = umpsc_random(&seed) % sizeof(data);
			r = umpsc_batch_next(buf, used, &pos);
			ASSERT_NE(NULL, r);
			ASSERT_EQ(len, r->len);
			EXPECT_EQ(0, r->flags);
			EXPECT_EQ(hop / 2 * 100 + i, r->seq);
			EXPECT_EQ(hop % 2 == 1, r->time_ns != 0);
			ASSERT_TRUE(umpsc_filled(umpsc_record_data(r), len, i));
		}
		ASSERT_EQ(100, umpsc_send(tx[(hop + 1) % 2], buf, used));
	}
	umpsc_batch_free(&b);
	close(rx[1]);
	close(tx[1]);
}

/* ---- Order, seq, sender, time -------------------------------------------- */

TEST_LONG(channel, seq_runs_from_0_without_gaps)
{
	struct umpsc_batch b = {};
	int i;

	umpsc_batch_add(&b, "p", 1);
	umpsc_batch_add(&b, "", 0);
	umpsc_batch_add(&b, "q", 1);
	EXPECT_WRITE(self->tx, "0");
	ASSERT_EQ(3, umpsc_batch_send(self->tx, &b));
	EXPECT_WRITE(self->tx, "4");
	EXPECT_WRITE(self->tx, "5");
	EXPECT_EQ(0, EXPECT_TEXT(self->rx, "0").seq);
	EXPECT_EQ(1, EXPECT_TEXT(self->rx, "p").seq);
	/* read takes number 2, the empty one, and 3. */
	ASSERT_EQ(1, read(self->rx, buf, sizeof(buf)));
	EXPECT_EQ('q', buf[0]);
	EXPECT_EQ(4, EXPECT_TEXT(self->rx, "4").seq);
	ASSERT_EQ(1, read(self->rx, buf, sizeof(buf)));

	/* A refused send takes no number. */
	b.data[4] = 1;
	EXPECT_ERR(EINVAL, umpsc_batch_send(self->tx, &b));
	for (i = 6; i < 100; i++) {
		EXPECT_WRITE(self->tx, "n");
		EXPECT_EQ(i, EXPECT_TEXT(self->rx, "n").seq);
	}
	umpsc_batch_free(&b);
}

/*
 * Its headers lie now in one piece of it, now in two.  One is as quickly taken where many
 * are left as where few are: were the rest numbered anew now and then, the first would
 * take ten times as long as the last.
 */
TEST_LONG(channel, batch_taken_one_by_one_takes_no_longer_at_its_start)
{
	const __u64 count = 400000, ends = 20000;
	__u64 i, used, need, start = 0, first = 0, last = 0;
	const struct umpsc_record *r;
	struct umpsc_batch b = {};
	size_t pos;
	long n;

	for (i = 0; i < count; i++)
		umpsc_batch_add(&b, &i, sizeof(i));
	ASSERT_EQ(count, umpsc_batch_send(self->tx, &b));
	umpsc_batch_free(&b);
	for (i = 0; i < count; i += n) {
		if (!i || i == count - ends)
			start = umpsc_cpu_ns();
		n = i < ends || i >= count - ends ? 1 : count - ends - i;
		n = umpsc_recv(self->rx, buf, sizeof(buf), n, 0, &used, &need);
		ASSERT_LT(0, n);
		for (pos = 0; (r = umpsc_batch_next(buf, used, &pos));)
			ASSERT_EQ(0, memcmp(&r->seq, umpsc_record_data(r),
					    sizeof(r->seq)));
		/* The very last one frees them all. */
		if (i == ends - 2)
			first = umpsc_cpu_ns() - start;
		if (i == count - 2)
			last = umpsc_cpu_ns() - start;
	}
	TH_LOG("%llu us, %llu us", first / 1000, last / 1000);
	EXPECT_LT(first, 4 * last);
}

TEST_LONG(channel, sender_ids_count_handles_from_1)
{
	int clone, weak, up, from_rx;
	struct umpsc_info info;

	clone = ASSERT_FD(umpsc_clone(self->tx, 0));
	weak = ASSERT_FD(umpsc_downgrade(clone, 0));
	up = ASSERT_FD(umpsc_upgrade(weak, 0));
	from_rx = ASSERT_FD(umpsc_sender(self->rx, 0));
	EXPECT_WRITE(from_rx, "from_rx");
	EXPECT_WRITE(self->tx, "tx");
	EXPECT_WRITE(up, "up");
	EXPECT_WRITE(clone, "clone");
	EXPECT_EQ(5, EXPECT_TEXT(self->rx, "from_rx").sender);
	EXPECT_EQ(1, EXPECT_TEXT(self->rx, "tx").sender);
	EXPECT_EQ(4, EXPECT_TEXT(self->rx, "up").sender);
	EXPECT_EQ(2, EXPECT_TEXT(self->rx, "clone").sender);
	ASSERT_EQ(0, umpsc_info(weak, &info));
	EXPECT_EQ(3, info.handle);
	ASSERT_EQ(0, umpsc_info(up, &info));
	EXPECT_EQ(4, info.handle);
	ASSERT_EQ(0, umpsc_info(self->rx, &info));
	EXPECT_EQ(0, info.handle);

	/* An id is never given out again, and a message keeps its sender's. */
	EXPECT_WRITE(clone, "last");
	close(clone);
	clone = ASSERT_FD(umpsc_clone(self->tx, 0));
	EXPECT_WRITE(clone, "new");
	EXPECT_EQ(2, EXPECT_TEXT(self->rx, "last").sender);
	EXPECT_EQ(6, EXPECT_TEXT(self->rx, "new").sender);
	close(clone);
	close(weak);
	close(up);
	close(from_rx);
}

TEST_LONG(channel, one_order_for_all_senders)
{
	int tx[4] = { self->tx };
	__u64 i, seed = 1;

	set_nonblock(self->rx);
	for (i = 1; i < 4; i++)
		tx[i] = ASSERT_FD(umpsc_clone(self->tx, 0));
	for (i = 1; i <= 1000; i++)
		ASSERT_TRUE(send_number(tx[umpsc_random(&seed) % 4], i));
	for (i = 1; i <= 1000; i++)
		ASSERT_EQ(i, recv_number(self->rx));
	for (i = 1; i < 4; i++)
		close(tx[i]);
}

TEST_LONG(channel, time_is_read_in_the_send)
{
	struct umpsc_batch b = {};
	struct umpsc_record r, r2;
	__u64 before, after, last = 0;
	int rx, tx, i;

	umpsc_batch_add(&b, "one", 3);
	umpsc_batch_add(&b, "two", 3);
	ASSERT_EQ(0, umpsc_private_with(&rx, &tx, UMPSC_TIMESTAMP, 0, 0, NULL));
	for (i = 0; i < 100; i++) {
		before = umpsc_now_ns();
		EXPECT_WRITE(tx, "x");
		after = umpsc_now_ns();
		r = EXPECT_TEXT(rx, "x");
		EXPECT_LE(before, r.time_ns);
		EXPECT_LE(r.time_ns, after);
		EXPECT_LE(last, r.time_ns);
		last = r.time_ns;

		before = umpsc_now_ns();
		ASSERT_EQ(2, umpsc_batch_send(tx, &b));
		after = umpsc_now_ns();
		r = EXPECT_TEXT(rx, "one");
		r2 = EXPECT_TEXT(rx, "two");
		EXPECT_LE(before, r.time_ns);
		EXPECT_LE(r.time_ns, r2.time_ns);
		EXPECT_LE(r2.time_ns, after);
		last = r2.time_ns;
	}
	close(rx);
	close(tx);

	EXPECT_WRITE(self->tx, "x");
	EXPECT_EQ(0, EXPECT_TEXT(self->rx, "x").time_ns);
	ASSERT_EQ(2, umpsc_batch_send(self->tx, &b));
	EXPECT_EQ(0, EXPECT_TEXT(self->rx, "one").time_ns);
	EXPECT_EQ(0, EXPECT_TEXT(self->rx, "two").time_ns);
	umpsc_batch_free(&b);
}

TEST_LONG(channel, info_tells_the_age_of_the_oldest)
{
	__u64 sent[2][2], asked[2];
	struct umpsc_info info;
	int rx, tx, i;

	EXPECT_WRITE(self->tx, "no time");
	ASSERT_EQ(0, umpsc_info(self->rx, &info));
	EXPECT_EQ(0, info.oldest_ns);

	ASSERT_EQ(0, umpsc_private_with(&rx, &tx, UMPSC_TIMESTAMP, 0, 0, NULL));
	ASSERT_EQ(0, umpsc_info(rx, &info));
	EXPECT_EQ(0, info.oldest_ns);
	for (i = 0; i < 2; i++) {
		sent[i][0] = umpsc_now_ns();
		EXPECT_WRITE(tx, "message");
		sent[i][1] = umpsc_now_ns();
	}
	for (i = 0; i < 2; i++) {
		asked[0] = umpsc_now_ns();
		ASSERT_EQ(0, umpsc_info(tx, &info));
		asked[1] = umpsc_now_ns();
		EXPECT_LE(asked[0] - sent[i][1], info.oldest_ns);
		EXPECT_LE(info.oldest_ns, asked[1] - sent[i][0]);
		/* Also while it is half read. */
		ASSERT_EQ(3, read(rx, buf, 3));
		asked[0] = umpsc_now_ns();
		ASSERT_EQ(0, umpsc_info(rx, &info));
		EXPECT_LE(asked[0] - sent[i][1], info.oldest_ns);
		ASSERT_EQ(4, read(rx, buf, 64));
	}
	ASSERT_EQ(0, umpsc_info(rx, &info));
	EXPECT_EQ(0, info.oldest_ns);
	close(rx);
	close(tx);
}

/* ---- Deadlines, not waiting ---------------------------------------------- */

TEST_LONG(channel, deadline_is_not_early)
{
	struct umpsc_info before;
	__u64 used, need, deadline;
	int i;

	ASSERT_EQ(0, umpsc_info(self->rx, &before));
	for (i = 0; i < 20; i++) {
		deadline = umpsc_now_ns() + i * 3000000ULL;
		EXPECT_ERR(ETIMEDOUT, umpsc_recv(self->rx, buf, sizeof(buf), 1,
						 deadline, &used, &need));
		EXPECT_LE(deadline, umpsc_now_ns());
		EXPECT_EQ(0, used);
		EXPECT_EQ(0, need);
		EXPECT_UNCHANGED(self->rx, &before);
	}
}

TEST_LONG(channel, deadline_in_the_past_takes_what_is_there)
{
	__u64 used, need, past[] = { 0, 1, umpsc_now_ns() };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(past); i++) {
		EXPECT_ERR(ETIMEDOUT, umpsc_recv(self->rx, buf, sizeof(buf), 1,
						 past[i], &used, &need));
		EXPECT_WRITE(self->tx, "there");
		EXPECT_EQ(1, umpsc_recv(self->rx, buf, sizeof(buf), 1, past[i],
					&used, &need));
		EXPECT_EQ(40, used);
	}
	ASSERT_EQ(0, umpsc_close(self->rx));
	for (i = 0; i < ARRAY_SIZE(past); i++)
		EXPECT_EQ(0, umpsc_recv(self->rx, buf, sizeof(buf), 1, past[i],
					&used, &need));
}

TEST_LONG(channel, far_deadlines_wait)
{
	const __u64 far[] = {
		UMPSC_NO_DEADLINE,
		UMPSC_NO_DEADLINE - 1,
		1ULL << 63,
		(1ULL << 63) - 1,
		umpsc_now_ns() + 3600 * 1000000000ULL,
	};
	struct umpsc_receive r = { .fd = self->rx, .max = 1 };
	struct umpsc_thread t;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(far); i++) {
		r.deadline_ns = far[i];
		ASSERT_EQ(0, umpsc_thread_start(&t, umpsc_receive_fn, &r));
		ASSERT_TRUE(umpsc_thread_asleep(&t, SYS_ioctl))
		TH_LOG("deadline %llu: %s", far[i], strerror(t.err));
		EXPECT_WRITE(self->tx, "wake");
		ASSERT_TRUE(umpsc_thread_join(&t));
		EXPECT_EQ(1, t.ret);
		EXPECT_EQ(40, r.used);
	}
}

/* EAGAIN from each way not to wait, or what there is. */
static void expect_eagain(struct __test_metadata *_metadata, int line, int rx)
{
	struct umpsc_info before;
	__u64 used, need;

	ASSERT_EQ(0, umpsc_info(rx, &before));
	fcntl(rx, F_SETFL, fcntl(rx, F_GETFL) & ~O_NONBLOCK);
	EXPECT_EQ(EAGAIN, error_of(read_nowait(rx, buf, sizeof(buf))))
	TH_LOG("line %d", line);
	set_nonblock(rx);
	EXPECT_EQ(EAGAIN, error_of(read_nowait(rx, buf, sizeof(buf))))
	TH_LOG("line %d", line);
	EXPECT_EQ(EAGAIN, error_of(read(rx, buf, sizeof(buf))))
	TH_LOG("line %d", line);
	/* Non-blocking comes before the deadline. */
	EXPECT_EQ(EAGAIN, error_of(umpsc_recv(rx, buf, sizeof(buf), 1,
					      UMPSC_NO_DEADLINE, &used, &need)))
	TH_LOG("line %d", line);
	EXPECT_EQ(0, used);
	EXPECT_EQ(0, need);
	EXPECT_EQ(EAGAIN, error_of(umpsc_recv(rx, buf, sizeof(buf), 1, 0, &used,
					      &need)))
	TH_LOG("line %d", line);
	EXPECT_EQ(0, used);
	EXPECT_EQ(0, need);
	EXPECT_UNCHANGED(rx, &before);
}

#define EXPECT_EAGAIN(rx) expect_eagain(_metadata, __LINE__, rx)

TEST_LONG(channel, eagain_exactly_when_empty_and_open)
{
	struct umpsc_batch b = {};

	EXPECT_EAGAIN(self->rx);
	EXPECT_EQ(0, read(self->rx, buf, 0));
	EXPECT_EQ(0, read_nowait(self->rx, buf, 0));

	/* A message, a part of one, an empty one. */
	EXPECT_WRITE(self->tx, "abcd");
	ASSERT_EQ(1, read(self->rx, buf, 1));
	ASSERT_EQ(1, read_nowait(self->rx, buf, 1));
	EXPECT_TEXT(self->rx, "cd");
	EXPECT_EAGAIN(self->rx);
	umpsc_batch_add(&b, "", 0);
	ASSERT_EQ(1, umpsc_batch_send(self->tx, &b));
	EXPECT_MESSAGE(self->rx, "", 0);
	EXPECT_EAGAIN(self->rx);

	/* Sending never blocks, so O_NONBLOCK changes nothing there. */
	set_nonblock(self->tx);
	EXPECT_WRITE(self->tx, "last");
	ASSERT_EQ(1, umpsc_batch_send(self->tx, &b));
	umpsc_batch_free(&b);
	ASSERT_EQ(4, read_nowait(self->rx, buf, sizeof(buf)));
	EXPECT_MESSAGE(self->rx, "", 0);
	EXPECT_EAGAIN(self->rx);

	/* Ended. */
	EXPECT_WRITE(self->tx, "x");
	close_fd(&self->tx);
	EXPECT_TEXT(self->rx, "x");
	EXPECT_END(self->rx);
	EXPECT_EQ(0, read_nowait(self->rx, buf, sizeof(buf)));
	fcntl(self->rx, F_SETFL, fcntl(self->rx, F_GETFL) & ~O_NONBLOCK);
	EXPECT_END(self->rx);
	EXPECT_EQ(0, read_nowait(self->rx, buf, sizeof(buf)));
}

TEST_LONG(channel, fionread_tells_what_is_left_of_the_next_message)
{
	struct umpsc_batch b = {};

	EXPECT_EQ(0, umpsc_fionread(self->rx));
	umpsc_batch_add(&b, "", 0);
	umpsc_batch_add(&b, "12345", 5);
	umpsc_batch_add(&b, "1234567", 7);
	ASSERT_EQ(3, umpsc_batch_send(self->tx, &b));
	umpsc_batch_free(&b);
	umpsc_model_send(&self->m, 3, 12);
	/* The next message is the empty one. */
	EXPECT_EQ(0, umpsc_fionread(self->rx));
	EXPECT_BOTH();
	EXPECT_MESSAGE(self->rx, "", 0);
	EXPECT_EQ(5, umpsc_fionread(self->rx));
	ASSERT_EQ(2, read(self->rx, buf, 2));
	EXPECT_EQ(3, umpsc_fionread(self->rx));
	ASSERT_EQ(3, read(self->rx, buf, 3));
	EXPECT_EQ(7, umpsc_fionread(self->rx));
	ASSERT_EQ(0, umpsc_close(self->rx));
	EXPECT_EQ(7, umpsc_fionread(self->rx));
	EXPECT_TEXT(self->rx, "1234567");
	EXPECT_EQ(0, umpsc_fionread(self->rx));
	EXPECT_END(self->rx);
}

/* ---- The end ------------------------------------------------------------ */

TEST_LONG(channel, close_keeps_what_was_accepted)
{
	struct umpsc_batch b = {};

	signal(SIGPIPE, SIG_DFL);
	umpsc_batch_add(&b, "two", 3);
	umpsc_batch_add(&b, "three", 5);
	EXPECT_WRITE(self->tx, "one");
	ASSERT_EQ(2, umpsc_batch_send(self->tx, &b));
	umpsc_model_send(&self->m, 3, 11);
	ASSERT_EQ(1, read(self->rx, buf, 1));
	ASSERT_EQ(0, umpsc_close(self->rx));
	self->m.state |= UMPSC_STATE_CLOSED | UMPSC_STATE_ENDED;
	EXPECT_BOTH();

	/* No signal; nothing is kept. */
	EXPECT_ERR(EPIPE, write(self->tx, "late", 4));
	EXPECT_ERR(EPIPE, umpsc_batch_send(self->tx, &b));
	self->m.refused_closed = 2;
	EXPECT_BOTH();

	ASSERT_EQ(2, read(self->rx, buf, sizeof(buf)));
	EXPECT_EQ(0, memcmp(buf, "ne", 2));
	EXPECT_TEXT(self->rx, "two");
	ASSERT_EQ(0, umpsc_close(self->rx));
	EXPECT_TEXT(self->rx, "three");
	umpsc_model_receive(&self->m, 3, 11);
	EXPECT_END(self->rx);
	EXPECT_END(self->rx);
	EXPECT_BOTH();
	umpsc_batch_free(&b);
}

TEST_LONG(channel, dropping_rx_closes_channel)
{
	struct umpsc_batch b = {};
	struct umpsc_query q;
	int weak;

	signal(SIGPIPE, SIG_DFL);
	weak = ASSERT_FD(umpsc_downgrade(self->tx, 0));
	self->m.weak = 1;
	umpsc_batch_add(&b, "two", 3);
	umpsc_batch_add(&b, "three", 5);
	EXPECT_WRITE(self->tx, "one");
	ASSERT_EQ(2, umpsc_batch_send(self->tx, &b));
	umpsc_model_send(&self->m, 3, 11);
	EXPECT_TEXT(self->rx, "one");
	umpsc_model_receive(&self->m, 1, 3);
	ASSERT_EQ(2, read(self->rx, buf, 2));
	EXPECT_BOTH();

	/* What is queued is freed now, not when the last sender goes. */
	close_fd(&self->rx);
	umpsc_model_discard(&self->m);
	self->m.state = UMPSC_STATE_CLOSED | UMPSC_STATE_RECEIVER_GONE |
			UMPSC_STATE_ENDED;
	EXPECT_VIEWS(&self->m, UMPSC_VIEW_SENDER(self->tx),
		     UMPSC_VIEW_WEAK(weak));
	EXPECT_EQ(0, memory_of(self->tx));
	ASSERT_EQ(0, umpsc_query(self->tx, &q));
	EXPECT_EQ(0, q.messages);
	EXPECT_EQ(0, q.bytes);

	EXPECT_ERR(EPIPE, write(self->tx, "late", 4));
	EXPECT_ERR(EPIPE, umpsc_batch_send(self->tx, &b));
	EXPECT_ERR(EPIPE, umpsc_send(self->tx, NULL, 0));
	self->m.refused_closed = 3;
	EXPECT_VIEWS(&self->m, UMPSC_VIEW_SENDER(self->tx),
		     UMPSC_VIEW_WEAK(weak));
	umpsc_batch_free(&b);
	close(weak);
}

TEST_LONG(channel, last_sender_is_the_end_after_the_messages)
{
	int clone = ASSERT_FD(umpsc_clone(self->tx, 0));

	set_nonblock(self->rx);
	EXPECT_WRITE(self->tx, "tx");
	EXPECT_WRITE(clone, "clone");
	close_fd(&self->tx);
	EXPECT_TEXT(self->rx, "tx");
	EXPECT_TEXT(self->rx, "clone");
	EXPECT_EMPTY(self->rx);
	EXPECT_WRITE(clone, "again");
	close(clone);
	self->m.strong = 0;
	self->m.state |= UMPSC_STATE_ENDED;
	umpsc_model_send(&self->m, 2, 7);
	umpsc_model_receive(&self->m, 2, 7);
	umpsc_model_send(&self->m, 1, 5);
	EXPECT_STATE(self->rx, UMPSC_ROLE_RECEIVER, &self->m);
	EXPECT_TEXT(self->rx, "again");
	EXPECT_END(self->rx);
	EXPECT_END(self->rx);
	umpsc_model_receive(&self->m, 1, 5);
	EXPECT_STATE(self->rx, UMPSC_ROLE_RECEIVER, &self->m);
}

TEST_LONG(channel, unconsumed_messages_are_dropped)
{
	unsigned char data[5000] = {};
	struct umpsc_query before, q;
	int manager = ASSERT_FD(umpsc_open_manager());
	int i;

	ASSERT_EQ(0, umpsc_query(manager, &before));
	for (i = 0; i < 100; i++)
		ASSERT_EQ(i * 50 + 1, write(self->tx, data, i * 50 + 1));
	ASSERT_EQ(0, umpsc_query(manager, &q));
	EXPECT_EQ(before.messages + 100, q.messages);
	EXPECT_EQ(before.bytes + 247600, q.bytes);
	/* The senders first: all of it waits for the receiver. */
	close_fd(&self->tx);
	ASSERT_EQ(0, umpsc_query(manager, &q));
	EXPECT_EQ(before.messages + 100, q.messages);
	close_fd(&self->rx);
	ASSERT_EQ(0, umpsc_query(manager, &q));
	EXPECT_EQ(before.messages, q.messages);
	EXPECT_EQ(before.bytes, q.bytes);
	EXPECT_EQ(before.channels - 1, q.channels);
	close(manager);
}

/* ---- Waiting ------------------------------------------------------------ */

FIXTURE(blocked)
{
	int rx;
	int tx;
	struct umpsc_receive r;
	struct umpsc_thread t;
};

FIXTURE_VARIANT(blocked)
{
	__u32 max;
	long syscall;
};

FIXTURE_VARIANT_ADD(blocked, read)
UMPSC_VARIANT(.max = 0, .syscall = SYS_read);

FIXTURE_VARIANT_ADD(blocked, recv)
UMPSC_VARIANT(.max = 8, .syscall = SYS_ioctl);

/* A thread that waits on an empty channel. */
FIXTURE_SETUP(blocked)
{
	ASSERT_EQ(0, umpsc_private(&self->rx, &self->tx));
	self->r.fd = self->rx;
	self->r.max = variant->max;
	self->r.deadline_ns = UMPSC_NO_DEADLINE;
	ASSERT_EQ(0, umpsc_thread_start(&self->t, umpsc_receive_fn, &self->r));
	ASSERT_TRUE(umpsc_thread_asleep(&self->t, variant->syscall));
	EXPECT_FALSE(self->t.done);
}

FIXTURE_TEARDOWN(blocked)
{
	close(self->rx);
	if (self->tx >= 0)
		close(self->tx);
}

TEST_LONG(blocked, message_wakes)
{
	struct umpsc_info info;

	EXPECT_WRITE(self->tx, "morning");
	ASSERT_TRUE(umpsc_thread_join(&self->t));
	EXPECT_EQ(variant->max ? 1 : 7, self->t.ret);
	EXPECT_EQ(0,
		  memcmp(self->r.buf + (variant->max ? 32 : 0), "morning", 7));
	if (variant->max)
		EXPECT_EQ(40, self->r.used);
	ASSERT_EQ(0, umpsc_info(self->tx, &info));
	EXPECT_EQ(1, info.wakeups);
	EXPECT_EQ(1, info.received);
}

TEST_LONG(blocked, batch_wakes)
{
	struct umpsc_batch b = {};

	umpsc_batch_add(&b, "one", 3);
	umpsc_batch_add(&b, "two", 3);
	ASSERT_EQ(2, umpsc_batch_send(self->tx, &b));
	ASSERT_TRUE(umpsc_thread_join(&self->t));
	/* A batch is one publication: the woken one sees all of it. */
	EXPECT_EQ(variant->max ? 2 : 3, self->t.ret);
	umpsc_batch_free(&b);
}

TEST_LONG(blocked, close_wakes)
{
	ASSERT_EQ(0, umpsc_close(self->rx));
	ASSERT_TRUE(umpsc_thread_join(&self->t));
	EXPECT_EQ(0, self->t.ret);
	EXPECT_EQ(0, self->t.err);
	EXPECT_EQ(UMPSC_POISON, self->r.buf[0]);
	if (variant->max) {
		EXPECT_EQ(0, self->r.used);
		EXPECT_EQ(0, self->r.need);
	}
}

TEST_LONG(blocked, last_sender_wakes_the_one_before_does_not)
{
	int clone = ASSERT_FD(umpsc_clone(self->tx, 0));
	int weak = ASSERT_FD(umpsc_downgrade(self->tx, 0));

	close_fd(&self->tx);
	EXPECT_TRUE(umpsc_thread_asleep(&self->t, variant->syscall));
	EXPECT_FALSE(self->t.done);
	close(clone);
	ASSERT_TRUE(umpsc_thread_join(&self->t));
	EXPECT_EQ(0, self->t.ret);
	close(weak);
}

TEST_LONG(blocked, death_of_the_last_sender_wakes)
{
	pid_t child = fork();

	ASSERT_LE(0, child);
	if (!child)
		umpsc_hang();
	close_fd(&self->tx);
	EXPECT_TRUE(umpsc_thread_asleep(&self->t, variant->syscall));
	EXPECT_FALSE(self->t.done);
	kill(child, SIGKILL);
	ASSERT_TRUE(umpsc_thread_join(&self->t));
	EXPECT_EQ(0, self->t.ret);
	EXPECT_EQ(SIGKILL, umpsc_wait_child(child));
}

TEST_LONG(blocked, close_wakes_all_who_wait)
{
	struct umpsc_receive r[3] = { self->r, self->r, self->r };
	struct umpsc_thread t[3];
	int i;

	for (i = 0; i < 3; i++) {
		r[i].max = (i & 1) ? 1 : 0;
		ASSERT_EQ(0,
			  umpsc_thread_start(&t[i], umpsc_receive_fn, &r[i]));
	}
	for (i = 0; i < 3; i++)
		ASSERT_TRUE(umpsc_thread_asleep(&t[i], (i & 1) ? SYS_ioctl :
								 SYS_read));
	ASSERT_EQ(0, umpsc_close(self->rx));
	for (i = 0; i < 3; i++) {
		ASSERT_TRUE(umpsc_thread_join(&t[i]));
		EXPECT_EQ(0, t[i].ret);
	}
	ASSERT_TRUE(umpsc_thread_join(&self->t));
	EXPECT_EQ(0, self->t.ret);
}

TEST_LONG(blocked, each_message_goes_to_one_of_those_who_wait)
{
	struct umpsc_receive r[3] = { self->r, self->r, self->r };
	struct umpsc_thread t[3];
	struct umpsc_info info;
	int i;

	for (i = 0; i < 3; i++) {
		r[i].max = 1;
		ASSERT_EQ(0,
			  umpsc_thread_start(&t[i], umpsc_receive_fn, &r[i]));
	}
	for (i = 0; i < 3; i++)
		ASSERT_TRUE(umpsc_thread_asleep(&t[i], SYS_ioctl));
	/* Three messages for four: one goes on waiting until the end. */
	for (i = 0; i < 3; i++)
		ASSERT_EQ(1, write(self->tx, "m", 1));
	ASSERT_TRUE(UMPSC_UNTIL(messages_of(self->tx) == 0));
	close_fd(&self->tx);
	for (i = 0; i < 3; i++)
		ASSERT_TRUE(umpsc_thread_join(&t[i]));
	ASSERT_TRUE(umpsc_thread_join(&self->t));
	EXPECT_EQ(0, self->t.err | t[0].err | t[1].err | t[2].err);
	if (!variant->max)
		EXPECT_EQ(3, self->t.ret + t[0].ret + t[1].ret + t[2].ret);
	ASSERT_EQ(0, umpsc_info(self->rx, &info));
	EXPECT_EQ(3, info.received);
}

/*
 * The receiver sleeps on the CPU on which a thread of higher priority sends: it is
 * woken by the first send and cannot run before the last one is done.
 */
TEST_LONG(blocked, thousand_sends_cost_one_wakeup)
{
	struct sched_param fifo = { .sched_priority = 10 };
	struct sched_param other = {};
	struct umpsc_info info;
	cpu_set_t one;
	int i, sent = 0;

	/* Who is woken by a signal waits anew. */
	umpsc_timer_stop();
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(one), &one));
	ASSERT_EQ(0, sched_setaffinity(self->t.tid, sizeof(one), &one));
	ASSERT_TRUE(umpsc_thread_asleep(&self->t, variant->syscall));
	ASSERT_EQ(0, umpsc_info(self->tx, &info));
	EXPECT_EQ(0, info.wakeups);

	ASSERT_EQ(0, sched_setscheduler(0, SCHED_FIFO, &fifo));
	for (i = 0; i < 1000; i++)
		sent += write(self->tx, "x", 1);
	i = umpsc_info(self->tx, &info);
	ASSERT_EQ(0, sched_setscheduler(0, SCHED_OTHER, &other));
	ASSERT_EQ(0, i);
	EXPECT_EQ(1000, sent);
	EXPECT_EQ(1000, info.messages);
	EXPECT_EQ(1, info.wakeups);

	ASSERT_TRUE(umpsc_thread_join(&self->t));
	EXPECT_EQ(variant->max ? 8 : 1, self->t.ret);
	ASSERT_EQ(0, umpsc_info(self->tx, &info));
	EXPECT_EQ(1, info.wakeups);
}

TEST_LONG(channel, sends_to_a_running_receiver_cost_no_wakeup)
{
	struct umpsc_info info;
	int i;

	for (i = 0; i < 100; i++) {
		EXPECT_WRITE(self->tx, "x");
		EXPECT_TEXT(self->rx, "x");
	}
	ASSERT_EQ(0, umpsc_info(self->rx, &info));
	EXPECT_EQ(0, info.wakeups);
}

/* Sends zeros, some in each round, for others to get through. */
struct noise {
	int tx;
	atomic_int round;
};

static long noise_fn(void *arg)
{
	struct noise *noise = arg;
	int round, i;

	while ((round = noise->round) >= 0) {
		for (i = 0; i < 100 && noise->round == round; i++)
			if (!send_number(noise->tx, 0))
				return -1;
		while (noise->round == round)
			sched_yield();
	}
	return 0;
}

/* What Tokio can hide behind a preempted sender is here at once. */
TEST_LONG(channel, returned_send_is_never_hidden_by_others)
{
	struct noise noise[3] = {};
	struct umpsc_thread t[3];
	const struct umpsc_record *r;
	__u64 i, number, used, need, until;
	size_t pos;
	bool seen;
	long n;

	set_nonblock(self->rx);
	for (i = 0; i < 3; i++) {
		noise[i].tx = ASSERT_FD(umpsc_clone(self->tx, 0));
		ASSERT_EQ(0, umpsc_thread_start(&t[i], noise_fn, &noise[i]));
	}
	until = umpsc_chance_until(1500);
	for (i = 1; i <= 1000 && umpsc_now_ns() < until; i++) {
		for (n = 0; n < 3; n++)
			noise[n].round = i;
		sched_yield();
		ASSERT_TRUE(send_number(self->tx, i));
		for (seen = false; !seen;) {
			n = umpsc_recv(self->rx, buf, sizeof(buf), 10000, 0,
				       &used, &need);
			ASSERT_LE(1, n)
			{
				TH_LOG("message %llu hidden: %s", i,
				       strerror(errno));
			}
			for (pos = 0; n; n--) {
				r = umpsc_batch_next(buf, used, &pos);
				ASSERT_NE(NULL, r);
				memcpy(&number, umpsc_record_data(r),
				       sizeof(number));
				if (number) {
					ASSERT_EQ(i, number);
					seen = true;
				}
			}
		}
	}
	TH_LOG("%llu rounds", i - 1);
	EXPECT_LT(10, i);
	for (i = 0; i < 3; i++)
		noise[i].round = -1;
	for (i = 0; i < 3; i++) {
		ASSERT_TRUE(umpsc_thread_join(&t[i]));
		EXPECT_EQ(0, t[i].ret);
	}
}

TEST_LONG(channel, send_of_another_process_is_there_when_it_has_returned)
{
	int ping[2], pong[2], i, status;
	pid_t child;
	char c;

	set_nonblock(self->rx);
	ASSERT_EQ(0, pipe(ping));
	ASSERT_EQ(0, pipe(pong));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		close(pong[1]);
		for (i = 1; read(pong[0], &c, 1) == 1; i++)
			if (!send_number(self->tx, i) ||
			    write(ping[1], "!", 1) != 1)
				_exit(1);
		_exit(0);
	}
	for (i = 1; i <= 300; i++) {
		EXPECT_EAGAIN(self->rx);
		ASSERT_EQ(1, write(pong[1], "?", 1));
		ASSERT_EQ(1, read(ping[0], &c, 1));
		ASSERT_EQ(i, recv_number(self->rx));
	}
	close(pong[1]);
	status = umpsc_wait_child(child);
	EXPECT_EQ(0, status);
}

/* ---- Tokio's tests ------------------------------------------------------- */

TEST_LONG(channel, send_recv_unbounded)
{
	ASSERT_TRUE(send_number(self->tx, 1));
	ASSERT_TRUE(send_number(self->tx, 2));
	EXPECT_EQ(1, recv_number(self->rx));
	EXPECT_EQ(2, recv_number(self->rx));
	close_fd(&self->tx);
	EXPECT_END(self->rx);
}

static long send_two_fn(void *arg)
{
	int tx = *(int *)arg;
	bool sent = send_number(tx, 1) && send_number(tx, 2);

	close(tx);
	return sent ? 0 : -1;
}

TEST_LONG(channel, async_send_recv_unbounded)
{
	struct umpsc_thread t;
	int tx = self->tx;

	self->tx = -1;
	ASSERT_EQ(0, umpsc_thread_start(&t, send_two_fn, &tx));
	EXPECT_EQ(1, recv_number(self->rx));
	EXPECT_EQ(2, recv_number(self->rx));
	EXPECT_EQ(0, recv_number(self->rx));
	ASSERT_TRUE(umpsc_thread_join(&t));
	EXPECT_EQ(0, t.ret);
}

/* The numbers of a received batch, and their count. */
static long recv_numbers(int fd, __u64 *numbers, __u32 max, __u64 deadline)
{
	const struct umpsc_record *r;
	__u64 used, need;
	size_t pos = 0;
	long n, i;

	n = umpsc_recv(fd, buf, sizeof(buf), max, deadline, &used, &need);
	for (i = 0; i < n; i++) {
		r = umpsc_batch_next(buf, used, &pos);
		if (!r || r->len != sizeof(*numbers))
			return -1;
		memcpy(&numbers[i], umpsc_record_data(r), sizeof(*numbers));
	}
	return n;
}

TEST_LONG(channel, send_recv_many_unbounded)
{
	static const __u64 sent[] = { 7, 13, 100, 1002 };
	__u64 got[32];
	int i;

	EXPECT_EQ(0, recv_numbers(self->rx, got, 0, UMPSC_NO_DEADLINE));
	for (i = 0; i < 4; i++)
		ASSERT_TRUE(send_number(self->tx, sent[i]));
	EXPECT_EQ(0, recv_numbers(self->rx, got, 0, UMPSC_NO_DEADLINE));
	for (i = 0; i < 4; i++) {
		EXPECT_EQ(1, recv_numbers(self->rx, got, 1, 0));
		EXPECT_EQ(sent[i], got[0]);
	}
	for (i = 0; i < 4; i++)
		ASSERT_TRUE(send_number(self->tx, sent[i]));
	EXPECT_EQ(4, recv_numbers(self->rx, got, 32, UMPSC_NO_DEADLINE));
	EXPECT_EQ(0, memcmp(sent, got, sizeof(sent)));
	close_fd(&self->tx);
	EXPECT_EQ(0, recv_numbers(self->rx, got, 32, UMPSC_NO_DEADLINE));
	EXPECT_END(self->rx);
}

static long send_one_and_go_fn(void *arg)
{
	int tx = *(int *)arg;
	bool sent = send_number(tx, 11);

	close(tx);
	return sent ? 0 : -1;
}

TEST_LONG(channel, send_recv_many_unbounded_capacity)
{
	struct umpsc_thread t;
	__u64 got[10], i;
	int tx;

	for (i = 1; i <= 10; i++)
		ASSERT_TRUE(send_number(self->tx, i));
	EXPECT_EQ(9, recv_numbers(self->rx, got, 9, UMPSC_NO_DEADLINE));
	EXPECT_EQ(1, recv_numbers(self->rx, got, 9, UMPSC_NO_DEADLINE));
	EXPECT_EQ(10, got[0]);

	/* The message, never the end before it. */
	tx = self->tx;
	self->tx = -1;
	ASSERT_EQ(0, umpsc_thread_start(&t, send_one_and_go_fn, &tx));
	EXPECT_EQ(1, recv_numbers(self->rx, got, 9, UMPSC_NO_DEADLINE));
	EXPECT_EQ(11, got[0]);
	EXPECT_EQ(0, recv_numbers(self->rx, got, 9, UMPSC_NO_DEADLINE));
	ASSERT_TRUE(umpsc_thread_join(&t));
}

TEST_LONG(channel, async_send_recv_many_with_buffer)
{
	__u64 got[4], all[4] = {}, i;
	long n;

	EXPECT_EQ(0, recv_numbers(self->rx, got, 0, UMPSC_NO_DEADLINE));
	for (i = 1; i <= 4; i++)
		ASSERT_TRUE(send_number(self->tx, i));
	close_fd(&self->tx);
	for (i = 0; i < 4; i += n) {
		n = recv_numbers(self->rx, got, 3, UMPSC_NO_DEADLINE);
		ASSERT_LE(1, n);
		ASSERT_LE(i + n, 4);
		memcpy(all + i, got, n * sizeof(*got));
	}
	for (i = 0; i < 4; i++)
		EXPECT_EQ(i + 1, all[i]);
	EXPECT_EQ(0, recv_numbers(self->rx, got, 3, UMPSC_NO_DEADLINE));
}

TEST_LONG(channel, recv_many_with_non_empty_buffer_unbounded_rx_closed_and_idle)
{
	__u64 used, need;
	size_t i;

	ASSERT_EQ(0, umpsc_close(self->rx));
	memset(buf, UMPSC_POISON, 256);
	EXPECT_EQ(0, umpsc_recv(self->rx, buf, 256, 8, UMPSC_NO_DEADLINE, &used,
				&need));
	EXPECT_EQ(0, used);
	EXPECT_EQ(0, need);
	for (i = 0; i < 256; i++)
		EXPECT_EQ(UMPSC_POISON, buf[i]);
}

TEST_LONG(channel, recv_close_gets_none_idle)
{
	ASSERT_EQ(0, umpsc_close(self->rx));
	EXPECT_END(self->rx);
	EXPECT_ERR(EPIPE, write(self->tx, "x", 1));
}

TEST_LONG(channel, tx_close_gets_none)
{
	close_fd(&self->tx);
	EXPECT_END(self->rx);
}

TEST_LONG(channel, try_send_fail)
{
	ASSERT_TRUE(send_number(self->tx, 1));
	close_fd(&self->tx);
	set_nonblock(self->rx);
	EXPECT_EQ(1, recv_number(self->rx));
	EXPECT_END(self->rx);
}

TEST_LONG(channel, try_recv_unbounded)
{
	__u64 n, i;

	set_nonblock(self->rx);
	for (n = 0; n < 100; n++) {
		for (i = 1; i <= n; i++)
			ASSERT_TRUE(send_number(self->tx, i));
		for (i = 1; i <= n; i++)
			ASSERT_EQ(i, recv_number(self->rx));
		EXPECT_ERR(EAGAIN, recv_number(self->rx));
	}
	close_fd(&self->tx);
	EXPECT_EQ(0, recv_number(self->rx));
}

TEST_LONG(channel, try_recv_bounded)
{
	int i;

	set_nonblock(self->rx);
	for (i = 1; i <= 5; i++)
		ASSERT_TRUE(send_number(self->tx, i));
	EXPECT_EQ(1, recv_number(self->rx));
	EXPECT_EQ(2, recv_number(self->rx));
	ASSERT_TRUE(send_number(self->tx, 6));
	for (i = 3; i <= 6; i++)
		EXPECT_EQ(i, recv_number(self->rx));
	EXPECT_ERR(EAGAIN, recv_number(self->rx));
	ASSERT_TRUE(send_number(self->tx, 7));
	close_fd(&self->tx);
	EXPECT_EQ(7, recv_number(self->rx));
	EXPECT_END(self->rx);
}

TEST_LONG(channel, try_recv_after_receiver_close)
{
	set_nonblock(self->rx);
	EXPECT_ERR(EAGAIN, recv_number(self->rx));
	ASSERT_EQ(0, umpsc_close(self->rx));
	EXPECT_EQ(0, recv_number(self->rx));
	EXPECT_END(self->rx);
}

TEST_LONG(channel, try_recv_close_while_empty_unbounded)
{
	set_nonblock(self->rx);
	EXPECT_ERR(EAGAIN, recv_number(self->rx));
	close_fd(&self->tx);
	EXPECT_EQ(0, recv_number(self->rx));
}

static __u32 state_of(int fd)
{
	struct umpsc_info info;

	return umpsc_info(fd, &info) ? UMPSC_POISON_U32 : info.state;
}

TEST_LONG(channel, is_closed_when_calling_close_with_sender)
{
	EXPECT_EQ(UMPSC_STATE_CLAIMED, state_of(self->rx));
	ASSERT_EQ(0, umpsc_close(self->rx));
	EXPECT_EQ(UMPSC_STATE_CLAIMED | UMPSC_STATE_CLOSED | UMPSC_STATE_ENDED,
		  state_of(self->rx));
}

static long close_fn(void *arg)
{
	return close(*(int *)arg);
}

TEST_LONG(channel, is_closed_when_dropping_all_senders)
{
	int clone = ASSERT_FD(umpsc_clone(self->tx, 0));
	struct umpsc_thread t;

	ASSERT_EQ(0, umpsc_thread_start(&t, close_fn, &clone));
	ASSERT_TRUE(umpsc_thread_join(&t));
	EXPECT_EQ(UMPSC_STATE_CLAIMED, state_of(self->rx));
	close_fd(&self->tx);
	EXPECT_EQ(UMPSC_STATE_CLAIMED | UMPSC_STATE_ENDED, state_of(self->rx));
}

TEST_LONG(channel, is_not_closed_when_there_are_senders_and_buffer_filled)
{
	int i;

	EXPECT_EQ(UMPSC_STATE_CLAIMED, state_of(self->rx));
	for (i = 0; i < 1000; i++)
		ASSERT_TRUE(send_number(self->tx, i));
	EXPECT_EQ(UMPSC_STATE_CLAIMED, state_of(self->rx));
	EXPECT_EQ(UMPSC_STATE_CLAIMED, state_of(self->tx));
}

TEST_LONG(channel, is_closed_when_there_are_no_senders_and_there_are_messages)
{
	int i;

	for (i = 0; i < 10; i++)
		ASSERT_TRUE(send_number(self->tx, i));
	close_fd(&self->tx);
	EXPECT_EQ(UMPSC_STATE_CLAIMED | UMPSC_STATE_ENDED, state_of(self->rx));
	EXPECT_EQ(10, messages_of(self->rx));
}

TEST_LONG(channel, is_closed_when_there_are_messages_and_close_is_called)
{
	int i;

	for (i = 0; i < 10; i++)
		ASSERT_TRUE(send_number(self->tx, i));
	ASSERT_EQ(0, umpsc_close(self->rx));
	EXPECT_EQ(UMPSC_STATE_CLAIMED | UMPSC_STATE_CLOSED | UMPSC_STATE_ENDED,
		  state_of(self->tx));
	EXPECT_EQ(10, messages_of(self->tx));
}

TEST_LONG(channel, len_with_multiple_messages_and_dropped_senders)
{
	int i;

	EXPECT_EQ(0, messages_of(self->rx));
	for (i = 1; i <= 100; i++) {
		ASSERT_TRUE(send_number(self->tx, i));
		EXPECT_EQ(i, messages_of(self->rx));
		EXPECT_EQ(i, messages_of(self->tx));
	}
	close_fd(&self->tx);
	EXPECT_EQ(100, messages_of(self->rx));
	for (i = 99; i >= 0; i--) {
		EXPECT_EQ(100 - i, recv_number(self->rx));
		EXPECT_EQ(i, messages_of(self->rx));
	}
	EXPECT_END(self->rx);
	EXPECT_EQ(0, messages_of(self->rx));
}

TEST_LONG(channel, len_on_empty_channel_without_senders)
{
	EXPECT_EQ(0, messages_of(self->rx));
	close_fd(&self->tx);
	EXPECT_EQ(0, messages_of(self->rx));
}

TEST_LONG(channel, len_when_close_is_called_before_dropping_sender)
{
	ASSERT_TRUE(send_number(self->tx, 1));
	ASSERT_EQ(0, umpsc_close(self->rx));
	EXPECT_EQ(1, messages_of(self->rx));
	close_fd(&self->tx);
	EXPECT_EQ(1, messages_of(self->rx));
	EXPECT_EQ(1, recv_number(self->rx));
	EXPECT_EQ(0, messages_of(self->rx));
}

TEST_LONG(channel, len_when_close_is_called_after_dropping_sender)
{
	ASSERT_TRUE(send_number(self->tx, 1));
	close_fd(&self->tx);
	EXPECT_EQ(1, messages_of(self->rx));
	ASSERT_EQ(0, umpsc_close(self->rx));
	EXPECT_EQ(1, messages_of(self->rx));
	EXPECT_EQ(1, recv_number(self->rx));
	EXPECT_EQ(0, messages_of(self->rx));
}

TEST_LONG(channel, test_is_empty_32_msgs)
{
	int i;

	for (i = 1; i <= 256; i++) {
		EXPECT_EQ(0, messages_of(self->rx));
		ASSERT_TRUE(send_number(self->tx, i));
		EXPECT_EQ(1, messages_of(self->rx));
		EXPECT_EQ(i, recv_number(self->rx));
		EXPECT_EQ(0, messages_of(self->rx));
		EXPECT_EQ(0, memory_of(self->rx));
	}
}

/* ---- All of it together ---------------------------------------------------- */

#define MODEL_MESSAGES 256

/* A queue in a few lines, to compare the channel with. */
struct model {
	struct {
		size_t len;
		__u64 seed;
	} at[MODEL_MESSAGES];
	size_t head;
	size_t count;
	size_t offset;
	__u64 next_seed;
};

static void model_push(struct model *m, size_t len)
{
	size_t i = (m->head + m->count++) % MODEL_MESSAGES;

	m->at[i].len = len;
	m->at[i].seed = m->next_seed++;
}

static void model_pop(struct model *m)
{
	m->head = (m->head + 1) % MODEL_MESSAGES;
	m->count--;
	m->offset = 0;
}

static size_t model_len(__u64 *seed)
{
	static const size_t most[] = { 1, 8, 40, 200, 5000, 13000 };

	return umpsc_random(seed) % most[umpsc_random(seed) % 6];
}

static void model_send(struct __test_metadata *_metadata, int tx,
		       struct model *model, struct umpsc_info *info,
		       __u64 *seed)
{
	size_t n = umpsc_random(seed) % 12, i, len;
	struct umpsc_batch b = {};
	__u64 bytes = 0;

	if (n >= MODEL_MESSAGES - model->count)
		return;
	if (!n) {
		len = 1 + model_len(seed);
		umpsc_fill(buf, len, model->next_seed);
		ASSERT_EQ(len, write(tx, buf, len));
		model_push(model, len);
		umpsc_model_send(info, 1, len);
		return;
	}
	for (i = 0; i < n; i++) {
		len = model_len(seed);
		umpsc_fill(buf, len, model->next_seed);
		umpsc_batch_add(&b, buf, len);
		model_push(model, len);
		bytes += len;
	}
	ASSERT_EQ(n, umpsc_batch_send(tx, &b));
	umpsc_model_send(info, n, bytes);
	umpsc_batch_free(&b);
}

static void model_read(struct __test_metadata *_metadata, int rx,
		       struct model *m, struct umpsc_info *info, __u64 *seed)
{
	size_t size = 1 + model_len(seed), len, want;
	ssize_t n = read(rx, buf, size);

	while (m->count && !m->at[m->head].len) {
		model_pop(m);
		umpsc_model_receive(info, 1, 0);
	}
	if (!m->count) {
		ASSERT_EQ(-1, n);
		ASSERT_EQ(EAGAIN, errno);
		return;
	}
	len = m->at[m->head].len;
	want = len - m->offset < size ? len - m->offset : size;
	ASSERT_EQ(want, n);
	ASSERT_TRUE(umpsc_filled_from(buf, m->offset, n, m->at[m->head].seed));
	m->offset += n;
	if (m->offset == len) {
		umpsc_model_receive(info, 1, len);
		model_pop(m);
	}
}

static void model_recv(struct __test_metadata *_metadata, int rx,
		       struct model *m, struct umpsc_info *info, __u64 *seed)
{
	size_t room = umpsc_random(seed) % 4 ? sizeof(buf) :
					       model_len(seed) + 40;
	__u32 max = 1 + umpsc_random(seed) % 20;
	const struct umpsc_record *r;
	__u64 used, need;
	size_t pos = 0, size, len;
	long n, i;

	n = umpsc_recv(rx, buf, room, max, 0, &used, &need);
	if (!m->count) {
		ASSERT_EQ(-1, n);
		ASSERT_EQ(EAGAIN, errno);
		return;
	}
	for (i = 0; i < max && m->count; i++) {
		len = m->at[m->head].len - m->offset;
		size = UMPSC_RECORD_SIZE(UMPSC_RECORD_HDR, len);
		if (pos + size > room)
			break;
		ASSERT_LT(i, n);
		r = umpsc_batch_next(buf, used, &pos);
		ASSERT_NE(NULL, r);
		ASSERT_EQ(len, r->len);
		ASSERT_EQ(m->offset ? UMPSC_REST : 0, r->flags);
		ASSERT_EQ(info->received, r->seq);
		ASSERT_TRUE(umpsc_filled_from(umpsc_record_data(r), m->offset,
					      len, m->at[m->head].seed));
		umpsc_model_receive(info, 1, m->at[m->head].len);
		model_pop(m);
	}
	if (i) {
		ASSERT_EQ(i, n);
		ASSERT_EQ(pos, used);
		ASSERT_EQ(0, need);
	} else {
		ASSERT_EQ(-1, n);
		ASSERT_EQ(EMSGSIZE, errno);
		ASSERT_EQ(0, used);
		ASSERT_EQ(UMPSC_RECORD_SIZE(UMPSC_RECORD_HDR,
					    m->at[m->head].len - m->offset),
			  need);
	}
}

TEST_LONG(channel, random_calls_do_what_a_simple_model_does)
{
	__u64 seed = umpsc_now_ns(), first = seed;
	struct model model = { .next_seed = 1 };
	int step, left;

	set_nonblock(self->rx);
	for (step = 0; step < 6000; step++) {
		switch (umpsc_random(&seed) % 4) {
		case 0:
			model_send(_metadata, self->tx, &model, &self->m,
				   &seed);
			break;
		case 1:
		case 2:
			model_read(_metadata, self->rx, &model, &self->m,
				   &seed);
			break;
		case 3:
			model_recv(_metadata, self->rx, &model, &self->m,
				   &seed);
			break;
		}
		left = model.count ? model.at[model.head].len - model.offset :
				     0;
		ASSERT_EQ(left, umpsc_fionread(self->rx));
		if (step % 16 == 0)
			EXPECT_BOTH();
		ASSERT_EQ(KSFT_PASS, _metadata->exit_code)
		TH_LOG("step %d of seed %llu", step, first);
	}
	EXPECT_BOTH();
}

TEST_HARNESS_MAIN
