// SPDX-License-Identifier: GPL-2.0-only
/*
 * What goes wrong in the middle: memory that faults, stalls or changes, signals,
 * death.  Who fails leaves no trace, and nobody else notices.
 */
#include "umpsc_stall.h"

#include <sys/time.h>

static unsigned char buf[1 << 16] __attribute__((aligned(8)));

static size_t page;

FIXTURE(channel)
{
	int rx;
	int tx;
	struct umpsc_query q;
};

FIXTURE_SETUP(channel)
{
	page = sysconf(_SC_PAGESIZE);
	ASSERT_EQ(0, umpsc_private(&self->rx, &self->tx));
	ASSERT_EQ(0, umpsc_query(self->tx, &self->q));
}

FIXTURE_TEARDOWN(channel)
{
	struct umpsc_query q;

	/* Nothing is left anywhere, also where a test forgot to look. */
	if (self->rx >= 0)
		close(self->rx);
	if (self->tx >= 0) {
		ASSERT_EQ(0, umpsc_query(self->tx, &q));
		EXPECT_EQ(self->q.messages, q.messages);
		EXPECT_EQ(self->q.bytes, q.bytes);
		close(self->tx);
	}
}

static void close_fd(int *fd)
{
	close(*fd);
	*fd = -1;
}

static void set_nonblock(int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* ---- Memory with holes ---------------------------------------------------- */

/*
 * @pages of memory, and behind them one that cannot be touched: nothing mapped, or
 * mapped without rights.
 */
static unsigned char *pages_before_hole(size_t pages, bool mapped)
{
	unsigned char *p = mmap(NULL, (pages + 1) * page,
				PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	if (mapped ? mprotect(p + pages * page, page, PROT_NONE) :
		     munmap(p + pages * page, page))
		return NULL;
	return p;
}

FIXTURE(holes)
{
	int rx;
	int tx;
	unsigned char *end; /* of one page before a hole */
	unsigned char *data; /* the same in readable memory */
};

FIXTURE_VARIANT(holes)
{
	bool mapped;
};

FIXTURE_VARIANT_ADD(holes, protected)
UMPSC_VARIANT(.mapped = true);

FIXTURE_VARIANT_ADD(holes, unmapped)
UMPSC_VARIANT(.mapped = false);

FIXTURE_SETUP(holes)
{
	page = sysconf(_SC_PAGESIZE);
	ASSERT_EQ(0, umpsc_private(&self->rx, &self->tx));
	self->end = pages_before_hole(8, variant->mapped);
	ASSERT_NE(NULL, self->end);
	self->end += 8 * page;
	self->data = malloc(8 * page);
	ASSERT_NE(NULL, self->data);
	umpsc_fill(self->data, 8 * page, 1);
}

FIXTURE_TEARDOWN(holes)
{
	EXPECT_EMPTY(self->rx);
	close(self->rx);
	close(self->tx);
}

/* ---- A receiver's memory ---------------------------------------------------- */

TEST_LONG(holes, read_that_faults_takes_nothing)
{
	static const size_t lens[] = { 1, 2, 7, 8, 9, 64, 200 };
	struct umpsc_info before;
	size_t i, good;

	for (i = 0; i < ARRAY_SIZE(lens); i++) {
		ASSERT_EQ(lens[i], write(self->tx, self->data, lens[i]));
		ASSERT_EQ(0, umpsc_info(self->rx, &before));
		for (good = 0; good < lens[i]; good++) {
			EXPECT_ERR(EFAULT,
				   read(self->rx, self->end - good, lens[i]));
			EXPECT_ERR(EFAULT,
				   read(self->rx, self->end - good, 100000));
			EXPECT_UNCHANGED(self->rx, &before);
			EXPECT_EQ(lens[i], umpsc_fionread(self->rx));
		}
		/* A buffer with a hole behind what is needed is a good one. */
		ASSERT_EQ(lens[i], read(self->rx, self->end - lens[i], 100000));
		EXPECT_EQ(0, memcmp(self->end - lens[i], self->data, lens[i]));
	}
}

TEST_LONG(holes, read_that_faults_in_the_rest_of_a_message)
{
	struct umpsc_info before;
	size_t good;

	ASSERT_EQ(100, write(self->tx, self->data, 100));
	ASSERT_EQ(33, read(self->rx, buf, 33));
	ASSERT_EQ(0, umpsc_info(self->rx, &before));
	for (good = 0; good < 67; good++) {
		EXPECT_ERR(EFAULT, read(self->rx, self->end - good, 67));
		EXPECT_UNCHANGED(self->rx, &before);
		EXPECT_EQ(67, umpsc_fionread(self->rx));
	}
	/* As much as is asked for, no more, has to be there. */
	ASSERT_EQ(60, read(self->rx, self->end - 60, 60));
	EXPECT_EQ(0, memcmp(self->end - 60, self->data + 33, 60));
	ASSERT_EQ(7, read(self->rx, buf, sizeof(buf)));
	EXPECT_EQ(0, memcmp(buf, self->data + 93, 7));
}

TEST_LONG(holes, read_that_faults_takes_no_empty_message_before)
{
	struct umpsc_batch b = {};
	struct umpsc_info before;
	size_t good;

	umpsc_batch_add(&b, "", 0);
	umpsc_batch_add(&b, "", 0);
	umpsc_batch_add(&b, "0123456789", 10);
	ASSERT_EQ(3, umpsc_batch_send(self->tx, &b));
	umpsc_batch_free(&b);
	ASSERT_EQ(0, umpsc_info(self->rx, &before));
	for (good = 0; good < 10; good++) {
		EXPECT_ERR(EFAULT, read(self->rx, self->end - good, 10));
		EXPECT_UNCHANGED(self->rx, &before);
	}
	EXPECT_MESSAGE(self->rx, "", 0);
	EXPECT_MESSAGE(self->rx, "", 0);
	EXPECT_TEXT(self->rx, "0123456789");
}

/* So many that others get to run in between. */
TEST_LONG(holes, read_that_faults_takes_none_of_many_empty_messages_before)
{
	struct umpsc_batch b = {};
	struct umpsc_info before;
	int i;

	for (i = 0; i < 1000; i++)
		umpsc_batch_add(&b, "", 0);
	umpsc_batch_add(&b, "0123456789", 10);
	ASSERT_EQ(1001, umpsc_batch_send(self->tx, &b));
	umpsc_batch_free(&b);
	ASSERT_EQ(0, umpsc_info(self->rx, &before));
	EXPECT_ERR(EFAULT, read(self->rx, self->end - 5, 10));
	EXPECT_UNCHANGED(self->rx, &before);
	ASSERT_EQ(10, read(self->rx, buf, sizeof(buf)));
	EXPECT_EQ(0, memcmp(buf, "0123456789", 10));
	ASSERT_EQ(0, umpsc_info(self->rx, &before));
	EXPECT_EQ(1001, before.received);
	EXPECT_EQ(0, before.messages);
}

TEST_LONG(holes, readv_that_faults_in_any_piece)
{
	struct iovec iov[3];
	struct umpsc_info before;
	size_t good;
	int bad;

	ASSERT_EQ(90, write(self->tx, self->data, 90));
	ASSERT_EQ(0, umpsc_info(self->rx, &before));
	for (bad = 0; bad < 3; bad++) {
		for (good = 0; good < 30; good++) {
			iov[0] = (struct iovec){ buf, 30 };
			iov[1] = (struct iovec){ buf + 100, 30 };
			iov[2] = (struct iovec){ buf + 200, 30 };
			iov[bad].iov_base = self->end - good;
			EXPECT_ERR(EFAULT, readv(self->rx, iov, 3));
			EXPECT_UNCHANGED(self->rx, &before);
		}
	}
	EXPECT_MESSAGE(self->rx, self->data, 90);
}

TEST_LONG(holes, recv_that_faults_at_every_byte_takes_nothing)
{
	struct umpsc_batch b = {};
	struct umpsc_info before;
	size_t good, i;
	__u64 used, need;

	for (i = 0; i < 5; i++)
		umpsc_batch_add(&b, self->data, i * 13);
	ASSERT_EQ(5, umpsc_batch_send(self->tx, &b));
	ASSERT_EQ(5, umpsc_batch_send(self->tx, &b));
	ASSERT_EQ(20, write(self->tx, self->data, 20));
	b.len = 2 * b.len + 56;
	ASSERT_EQ(0, umpsc_info(self->rx, &before));
	for (good = 0; good < b.len; good++) {
		EXPECT_ERR(EFAULT, umpsc_recv(self->rx, self->end - good, b.len,
					      100, 0, &used, &need));
		EXPECT_UNCHANGED(self->rx, &before);
	}
	/* Exactly there, and with a length that reaches beyond. */
	ASSERT_EQ(11, umpsc_recv(self->rx, self->end - b.len, b.len + 5000, 100,
				 0, &used, &need));
	EXPECT_EQ(b.len, used);
	umpsc_batch_free(&b);
}

TEST_LONG(holes, recv_that_faults_after_a_partial_read)
{
	struct umpsc_info before;
	__u64 used, need;
	size_t good;

	ASSERT_EQ(50, write(self->tx, self->data, 50));
	ASSERT_EQ(10, read(self->rx, buf, 10));
	ASSERT_EQ(0, umpsc_info(self->rx, &before));
	for (good = 0; good < 72; good++) {
		EXPECT_ERR(EFAULT, umpsc_recv(self->rx, self->end - good, 72,
					      100, 0, &used, &need));
		EXPECT_UNCHANGED(self->rx, &before);
		EXPECT_EQ(40, umpsc_fionread(self->rx));
	}
	ASSERT_EQ(1, umpsc_recv(self->rx, self->end - 72, 72, 100, 0, &used,
				&need));
	EXPECT_EQ(0, memcmp(self->end - 40, self->data + 10, 40));
}

TEST_LONG(channel, receive_with_a_hole_in_any_page_takes_nothing)
{
	const size_t len = 1 << 20;
	const size_t pages = len / page + 1;
	struct umpsc_batch b = {};
	struct umpsc_info before;
	unsigned char *data = malloc(len);
	unsigned char *map;
	__u64 used, need;
	size_t hole;

	ASSERT_NE(NULL, data);
	umpsc_fill(data, len, 1);
	map = mmap(NULL, pages * page, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, map);
	/* One large message, a large batch, and a small one. */
	ASSERT_EQ(len, write(self->tx, data, len));
	ASSERT_EQ(0, umpsc_info(self->rx, &before));
	for (hole = 0; hole < pages; hole++) {
		mprotect(map + hole * page, page, PROT_NONE);
		EXPECT_ERR(EFAULT, umpsc_recv(self->rx, map, pages * page, 10,
					      0, &used, &need));
		if (hole < pages - 1)
			EXPECT_ERR(EFAULT, read(self->rx, map, pages * page));
		EXPECT_UNCHANGED(self->rx, &before);
		mprotect(map + hole * page, page, PROT_READ | PROT_WRITE);
	}
	ASSERT_EQ(len, read(self->rx, map, pages * page));
	EXPECT_EQ(0, memcmp(map, data, len));

	for (used = 0; b.len < len; used++)
		umpsc_batch_add(&b, data, 1000);
	ASSERT_EQ(used, umpsc_batch_send(self->tx, &b));
	EXPECT_WRITE(self->tx, "small");
	ASSERT_EQ(0, umpsc_info(self->rx, &before));
	for (hole = 0; hole < len / page; hole++) {
		mprotect(map + hole * page, page, PROT_READ);
		EXPECT_ERR(EFAULT, umpsc_recv(self->rx, map, pages * page,
					      10000, 0, &used, &need));
		EXPECT_UNCHANGED(self->rx, &before);
		mprotect(map + hole * page, page, PROT_READ | PROT_WRITE);
	}
	/* A hole behind the records that are asked for does no harm. */
	mprotect(map + page, page, PROT_NONE);
	ASSERT_EQ(3,
		  umpsc_recv(self->rx, map, pages * page, 3, 0, &used, &need));
	EXPECT_EQ(3 * 1032, used);
	umpsc_batch_free(&b);
	munmap(map, pages * page);
	free(data);
}

/* RECV with its arguments at @at, of which @good bytes can be written. */
static long recv_args_at(int fd, unsigned char *at, __u64 len, __u32 max)
{
	struct umpsc_recv_args args = {
		.addr = (uintptr_t)buf,
		.len = len,
		.max = max,
		.used = UMPSC_POISON_U64,
		.need = UMPSC_POISON_U64,
	};
	unsigned char *first = (void *)((uintptr_t)at & -page);
	long ret;
	int err;

	mprotect(first, 2 * page, PROT_READ | PROT_WRITE);
	memcpy(at, &args, sizeof(args));
	mprotect(first + page, page, PROT_READ);
	ret = ioctl(fd, UMPSC_IOC_RECV, at);
	err = errno;
	mprotect(first + page, page, PROT_READ | PROT_WRITE);
	memset(first, 0, 2 * page);
	errno = err;
	return ret;
}

TEST_LONG(channel, recv_whose_results_cannot_be_written_takes_nothing)
{
	struct umpsc_info before;
	unsigned char *map, *end;
	size_t in;

	map = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, map);
	end = map + page;

	/* used or need, or both, lie on the page that cannot be written. */
	EXPECT_WRITE(self->tx, "kept");
	ASSERT_EQ(0, umpsc_info(self->rx, &before));
	for (in = 1; in < sizeof(struct umpsc_recv_args); in++) {
		EXPECT_ERR(EFAULT, recv_args_at(self->rx, end - in, 4096, 1));
		EXPECT_UNCHANGED(self->rx, &before);
	}
	/* On every other result they are written as well. */
	for (in = 8; in < sizeof(struct umpsc_recv_args); in += 8) {
		EXPECT_ERR(EFAULT, recv_args_at(self->rx, end - in, 8, 1));
		EXPECT_ERR(EFAULT, recv_args_at(self->rx, end - in, 8, 0));
	}
	EXPECT_UNCHANGED(self->rx, &before);
	EXPECT_EQ(1,
		  recv_args_at(self->rx, end - sizeof(struct umpsc_recv_args),
			       4096, 1));
	ASSERT_EQ(0, umpsc_info(self->rx, &before));
	EXPECT_ERR(EFAULT, recv_args_at(self->rx, end - 40, 8, 1));
	EXPECT_UNCHANGED(self->rx, &before);
	ASSERT_EQ(0, umpsc_close(self->rx));
	EXPECT_ERR(EFAULT, recv_args_at(self->rx, end - 40, 8, 1));
	munmap(map, 2 * page);
}

TEST_LONG(holes, arguments_that_cannot_be_read)
{
	struct umpsc_info before;
	size_t in;

	ASSERT_EQ(4, write(self->tx, self->data, 4));
	ASSERT_EQ(0, umpsc_info(self->rx, &before));
	for (in = 0; in < sizeof(struct umpsc_recv_args); in++) {
		EXPECT_ERR(EFAULT,
			   ioctl(self->rx, UMPSC_IOC_RECV, self->end - in));
		EXPECT_UNCHANGED(self->rx, &before);
	}
	ASSERT_EQ(0, umpsc_info(self->tx, &before));
	for (in = 0; in < sizeof(struct umpsc_send_args); in++) {
		EXPECT_ERR(EFAULT,
			   ioctl(self->tx, UMPSC_IOC_SEND, self->end - in));
		EXPECT_UNCHANGED(self->tx, &before);
	}
	EXPECT_ERR(EFAULT, ioctl(self->rx, FIONREAD, self->end));
	EXPECT_ERR(EFAULT, ioctl(self->rx, FIONREAD, self->end - 3));
	EXPECT_MESSAGE(self->rx, self->data, 4);
}

/* ---- A sender's memory ------------------------------------------------------ */

TEST_LONG(holes, write_that_faults_leaves_nothing)
{
	static const size_t lens[] = { 1, 2, 7, 8, 9, 64, 200 };
	struct umpsc_info before;
	size_t i, good;

	ASSERT_EQ(4, write(self->tx, self->data, 4));
	ASSERT_EQ(0, umpsc_info(self->tx, &before));
	for (i = 0; i < ARRAY_SIZE(lens); i++) {
		for (good = 0; good < lens[i]; good++) {
			/* Never the part that could be read. */
			EXPECT_ERR(EFAULT,
				   write(self->tx, self->end - good, lens[i]));
			EXPECT_UNCHANGED(self->tx, &before);
		}
	}
	EXPECT_MESSAGE(self->rx, self->data, 4);
	EXPECT_EMPTY(self->rx);
	memcpy(self->end - 9, self->data, 9);
	EXPECT_EQ(9, write(self->tx, self->end - 9, 9));
	EXPECT_MESSAGE(self->rx, self->data, 9);
}

TEST_LONG(holes, writev_that_faults_in_any_piece)
{
	struct iovec iov[3];
	struct umpsc_info before;
	size_t good;
	int bad;

	ASSERT_EQ(0, umpsc_info(self->tx, &before));
	for (bad = 0; bad < 3; bad++) {
		for (good = 0; good < 30; good++) {
			iov[0] = (struct iovec){ self->data, 30 };
			iov[1] = (struct iovec){ self->data, 30 };
			iov[2] = (struct iovec){ self->data, 30 };
			iov[bad].iov_base = self->end - good;
			EXPECT_ERR(EFAULT, writev(self->tx, iov, 3));
			EXPECT_UNCHANGED(self->tx, &before);
		}
	}
}

TEST_LONG(holes, send_that_faults_at_every_byte_leaves_nothing)
{
	struct umpsc_batch b = {};
	struct umpsc_info before;
	size_t good, i;

	for (i = 0; i < 8; i++)
		umpsc_batch_add(&b, self->data, i * 13);
	ASSERT_EQ(0, umpsc_info(self->tx, &before));
	for (good = 0; good < b.len; good++) {
		memcpy(self->end - good, b.data, good);
		EXPECT_ERR(EFAULT,
			   umpsc_send(self->tx, self->end - good, b.len));
		EXPECT_UNCHANGED(self->tx, &before);
	}
	memcpy(self->end - b.len, b.data, b.len);
	EXPECT_EQ(8, umpsc_send(self->tx, self->end - b.len, b.len));
	for (i = 0; i < 8; i++)
		EXPECT_MESSAGE(self->rx, self->data, i * 13);
	umpsc_batch_free(&b);
}

TEST_LONG(channel, send_with_a_hole_in_any_page_leaves_nothing)
{
	const size_t len = 1 << 19;
	const size_t pages = len / page;
	struct umpsc_batch b = {};
	struct umpsc_info before;
	struct umpsc_query q;
	unsigned char *map;
	size_t hole;

	map = mmap(NULL, pages * page, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, map);
	umpsc_fill(map, len, 1);
	while (b.len + 1032 <= len)
		umpsc_batch_add(&b, map + b.len, 1000);
	EXPECT_WRITE(self->tx, "queued");
	ASSERT_EQ(0, umpsc_info(self->tx, &before));
	for (hole = 0; hole < pages; hole++) {
		memcpy(map, b.data, b.len);
		mprotect(map + hole * page, page, PROT_NONE);
		EXPECT_ERR(EFAULT, write(self->tx, map, len));
		EXPECT_ERR(EFAULT, umpsc_send(self->tx, map, b.len));
		EXPECT_UNCHANGED(self->tx, &before);
		mprotect(map + hole * page, page, PROT_READ | PROT_WRITE);
	}
	ASSERT_EQ(0, umpsc_query(self->tx, &q));
	EXPECT_EQ(self->q.messages + 1, q.messages);
	EXPECT_EQ(self->q.bytes + 6, q.bytes);
	EXPECT_EQ(b.len / 1032, umpsc_send(self->tx, map, b.len));
	umpsc_batch_free(&b);
	munmap(map, pages * page);
}

/* ---- Errors ---------------------------------------------------------------- */

TEST_LONG(channel, refused_calls_leave_a_half_read_message_as_it_is)
{
	struct {
		struct umpsc_recv_args args;
		__u64 tail;
	} recv = {
		.args = { .addr = (uintptr_t)buf, .len = sizeof(buf), .max = 5 }
	};
	struct {
		struct umpsc_send_args args;
		__u64 tail;
	} send = { .args = { .addr = (uintptr_t)buf } };
	const unsigned int recv_large = _IOWR(UMPSC_IOC_TYPE, 0x20, recv);
	const unsigned int send_large = _IOW(UMPSC_IOC_TYPE, 0x10, send);
	struct umpsc_info before;

	EXPECT_WRITE(self->tx, "message");
	EXPECT_WRITE(self->tx, "next");
	ASSERT_EQ(3, read(self->rx, buf, 3));
	ASSERT_EQ(0, umpsc_info(self->rx, &before));

	recv.args.flags = 1;
	EXPECT_ERR(EINVAL, ioctl(self->rx, UMPSC_IOC_RECV, &recv));
	recv.args.flags = 0;
	recv.tail = 1;
	EXPECT_ERR(E2BIG, ioctl(self->rx, recv_large, &recv));
	EXPECT_ERR(ENOTTY, ioctl(self->rx, UMPSC_IOC_SEND, &send));
	EXPECT_ERR(EBADF, write(self->rx, "x", 1));
	EXPECT_ERR(EFAULT, ioctl(self->rx, UMPSC_IOC_RECV, NULL));
	EXPECT_ERR(EFAULT, umpsc_recv(self->rx, NULL, 4096, 5, 0, NULL, NULL));
	EXPECT_ERR(EMSGSIZE, umpsc_recv(self->rx, buf, 32, 5, 0, NULL, NULL));
	EXPECT_ERR(ESPIPE, pread(self->rx, buf, 1, 0));
	EXPECT_UNCHANGED(self->rx, &before);
	EXPECT_EQ(4, umpsc_fionread(self->rx));

	ASSERT_EQ(0, umpsc_info(self->tx, &before));
	send.tail = 1;
	EXPECT_ERR(E2BIG, ioctl(self->tx, send_large, &send));
	send.args.flags = 1;
	EXPECT_ERR(EINVAL, ioctl(self->tx, UMPSC_IOC_SEND, &send));
	EXPECT_ERR(ENOTTY, ioctl(self->tx, UMPSC_IOC_RECV, &recv));
	EXPECT_ERR(ENOTTY, umpsc_close(self->tx));
	EXPECT_ERR(EBADF, read(self->tx, buf, 1));
	EXPECT_UNCHANGED(self->tx, &before);

	recv.tail = 0;
	EXPECT_EQ(2, ioctl(self->rx, recv_large, &recv));
	EXPECT_EQ(80, recv.args.used);
	EXPECT_EQ(0, memcmp(buf + 32, "sage", 4));
	EXPECT_EMPTY(self->rx);
}

/* ---- Signals ---------------------------------------------------------------- */

static atomic_int caught;

static void on_signal(int sig)
{
	caught++;
}

static void catch_signal(int sig, int flags)
{
	struct sigaction action = {
		.sa_handler = on_signal,
		.sa_flags = flags,
	};

	caught = 0;
	sigaction(sig, &action, NULL);
}

FIXTURE(signalled)
{
	int rx;
	int tx;
	struct umpsc_receive r;
	struct umpsc_thread t;
	struct umpsc_info before;
};

FIXTURE_VARIANT(signalled)
{
	__u32 max;
	long syscall;
};

FIXTURE_VARIANT_ADD(signalled, read)
UMPSC_VARIANT(.max = 0, .syscall = SYS_read);

FIXTURE_VARIANT_ADD(signalled, recv)
UMPSC_VARIANT(.max = 8, .syscall = SYS_ioctl);

FIXTURE_SETUP(signalled)
{
	ASSERT_EQ(0, umpsc_private(&self->rx, &self->tx));
	self->r.fd = self->rx;
	self->r.max = variant->max;
	self->r.deadline_ns = UMPSC_NO_DEADLINE;
	ASSERT_EQ(0, umpsc_info(self->rx, &self->before));
	ASSERT_EQ(0, umpsc_thread_start(&self->t, umpsc_receive_fn, &self->r));
	ASSERT_TRUE(umpsc_thread_asleep(&self->t, variant->syscall));
}

FIXTURE_TEARDOWN(signalled)
{
	close(self->rx);
	close(self->tx);
}

TEST_LONG(signalled, without_sa_restart_eintr_takes_nothing)
{
	catch_signal(SIGUSR1, 0);
	ASSERT_EQ(0, pthread_kill(self->t.thread, SIGUSR1));
	ASSERT_TRUE(umpsc_thread_join(&self->t));
	EXPECT_EQ(1, caught);
	EXPECT_EQ(-1, self->t.ret);
	EXPECT_EQ(EINTR, self->t.err);
	EXPECT_EQ(UMPSC_POISON, self->r.buf[0]);
	if (variant->max) {
		EXPECT_EQ(0, self->r.used);
		EXPECT_EQ(0, self->r.need);
	}
	EXPECT_UNCHANGED(self->rx, &self->before);
	EXPECT_WRITE(self->tx, "later");
	EXPECT_TEXT(self->rx, "later");
}

TEST_LONG(signalled, with_sa_restart_goes_on_waiting)
{
	int i;

	catch_signal(SIGUSR1, SA_RESTART);
	for (i = 1; i <= 5; i++) {
		ASSERT_EQ(0, pthread_kill(self->t.thread, SIGUSR1));
		ASSERT_TRUE(UMPSC_UNTIL(caught == i));
		ASSERT_TRUE(umpsc_thread_asleep(&self->t, variant->syscall));
		EXPECT_FALSE(self->t.done);
	}
	EXPECT_UNCHANGED(self->rx, &self->before);
	EXPECT_WRITE(self->tx, "later");
	ASSERT_TRUE(umpsc_thread_join(&self->t));
	EXPECT_EQ(variant->max ? 1 : 5, self->t.ret);
	EXPECT_EQ(0, memcmp(self->r.buf + (variant->max ? 32 : 0), "later", 5));
}

TEST_LONG(signalled, ignored_signals_and_stops_go_on_waiting)
{
	signal(SIGUSR1, SIG_IGN);
	ASSERT_EQ(0, pthread_kill(self->t.thread, SIGUSR1));
	EXPECT_TRUE(umpsc_thread_asleep(&self->t, variant->syscall));
	EXPECT_FALSE(self->t.done);
	EXPECT_WRITE(self->tx, "later");
	ASSERT_TRUE(umpsc_thread_join(&self->t));
	EXPECT_EQ(variant->max ? 1 : 5, self->t.ret);
}

TEST_LONG(channel, stopped_receiver_goes_on_where_it_was)
{
	char c, seen[8] = {};
	int out[2], status;
	pid_t child;

	ASSERT_EQ(0, pipe(out));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		for (;;) {
			if (read(self->rx, &c, 1) != 1)
				_exit(errno == EINTR ? 1 : 0);
			if (write(out[1], &c, 1) != 1)
				_exit(2);
		}
	}
	ASSERT_TRUE(umpsc_wait_asleep(child, SYS_read));
	kill(child, SIGSTOP);
	ASSERT_EQ(child, waitpid(child, &status, WUNTRACED));
	ASSERT_TRUE(WIFSTOPPED(status));
	EXPECT_WRITE(self->tx, "a");
	kill(child, SIGCONT);
	ASSERT_EQ(1, read(out[0], seen, 1));
	EXPECT_EQ('a', seen[0]);
	ASSERT_TRUE(umpsc_wait_asleep(child, SYS_read));
	EXPECT_WRITE(self->tx, "b");
	ASSERT_EQ(1, read(out[0], seen, 1));
	EXPECT_EQ('b', seen[0]);
	kill(child, SIGKILL);
	EXPECT_EQ(SIGKILL, umpsc_wait_child(child));
}

/* Reads to the end, or fails; a byte to @out for each message. */
static void read_to_the_end(int rx, int how, int out)
{
	unsigned char record[64];
	long ret;

	for (;;) {
		ret = how ? umpsc_recv(rx, record, sizeof(record), 1,
				       UMPSC_NO_DEADLINE, NULL, NULL) :
			    read(rx, record, 1);
		if (ret <= 0)
			_exit(ret ? 1 : 0);
		if (write(out, "m", 1) != 1)
			_exit(2);
	}
}

/* It is in nobody's way; what is there and the end are for whoever comes first. */
TEST_LONG(channel, stopped_receiver_sees_what_another_closed)
{
	int out[2], how, status;
	struct umpsc_info info;
	int rx, tx, queued;
	pid_t child;
	char c;

	ASSERT_EQ(0, pipe(out));
	for (how = 0; how < 4; how++) {
		queued = how / 2;
		ASSERT_EQ(0, umpsc_private(&rx, &tx));
		child = fork();
		ASSERT_LE(0, child);
		if (!child)
			read_to_the_end(rx, how % 2, out[1]);
		ASSERT_TRUE(umpsc_wait_asleep(child,
					      how % 2 ? SYS_ioctl : SYS_read));
		kill(child, SIGSTOP);
		ASSERT_EQ(child, waitpid(child, &status, WUNTRACED));
		ASSERT_TRUE(WIFSTOPPED(status));
		if (queued)
			EXPECT_WRITE(tx, "m");
		ASSERT_EQ(0, umpsc_close(rx));
		EXPECT_POLL(POLLERR, tx);
		EXPECT_POLL(UMPSC_POLL_IN | UMPSC_POLL_HUP, rx);
		EXPECT_ERR(EPIPE, write(tx, "x", 1));
		ASSERT_EQ(0, umpsc_info(rx, &info));
		EXPECT_EQ(queued, info.messages);
		EXPECT_EQ(0, info.received);
		if (!queued)
			EXPECT_END(rx);

		kill(child, SIGCONT);
		EXPECT_EQ(0, umpsc_wait_child(child));
		if (queued)
			EXPECT_EQ(1, read(out[0], &c, 1));
		ASSERT_EQ(0, umpsc_info(rx, &info));
		EXPECT_EQ(queued, info.received);
		EXPECT_EQ(0, info.messages);
		EXPECT_END(rx);
		close(rx);
		close(tx);
	}
	close(out[0]);
	close(out[1]);
}

TEST_LONG(channel, deadline_is_kept_over_restarts)
{
	struct umpsc_receive r = { .fd = self->rx, .max = 1 };
	struct umpsc_thread t;

	catch_signal(SIGUSR1, SA_RESTART);
	r.deadline_ns = umpsc_now_ns() + 300000000ULL;
	ASSERT_EQ(0, umpsc_thread_start(&t, umpsc_receive_fn, &r));
	while (!t.done) {
		pthread_kill(t.thread, SIGUSR1);
		umpsc_nap_ms(10);
		ASSERT_LT(umpsc_now_ns(),
			  r.deadline_ns + UMPSC_PATIENCE * 1000000000ULL);
	}
	EXPECT_LE(r.deadline_ns, umpsc_now_ns());
	ASSERT_TRUE(umpsc_thread_join(&t));
	EXPECT_EQ(-1, t.ret);
	EXPECT_EQ(ETIMEDOUT, t.err);
	EXPECT_LT(2, caught);
}

TEST_LONG(channel, killed_receiver_that_waits_takes_nothing)
{
	struct umpsc_info before;
	pid_t child;
	int i;

	ASSERT_EQ(0, umpsc_info(self->tx, &before));
	for (i = 0; i < 6; i++) {
		child = fork();
		ASSERT_LE(0, child);
		if (!child) {
			if (i & 1)
				i = read(self->rx, buf, sizeof(buf));
			else
				i = umpsc_recv(self->rx, buf, sizeof(buf), 1,
					       UMPSC_NO_DEADLINE, NULL, NULL);
			_exit(1);
		}
		ASSERT_TRUE(umpsc_wait_asleep(child,
					      (i & 1) ? SYS_read : SYS_ioctl));
		kill(child, SIGKILL);
		EXPECT_EQ(SIGKILL, umpsc_wait_child(child));
		EXPECT_UNCHANGED(self->tx, &before);
	}
	EXPECT_WRITE(self->tx, "for the next");
	EXPECT_TEXT(self->rx, "for the next");
}

/* Messages of a killed receiver: the one numbered n lies in slot n, or is still there. */
#define KILL_MESSAGES 2000
#define KILL_SLOT (UMPSC_RECORD_HDR + 3 * 4096)

TEST_LONG(channel, killed_receiver_that_copies_has_taken_it_or_not)
{
	const size_t size = (size_t)KILL_MESSAGES * 64 + KILL_SLOT;
	const size_t len = 3 * 4096;
	unsigned char *data = malloc(len), *slots;
	__u64 seed = umpsc_now_ns(), i, used, got;
	const struct umpsc_record *r;
	struct umpsc_info info;
	pid_t child;
	int round;

	slots = mmap(NULL, size, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(data && slots != MAP_FAILED);
	for (round = 0; round < 30; round++) {
		ASSERT_EQ(0, umpsc_info(self->tx, &info));
		ASSERT_EQ(0, info.messages);
		got = info.received;
		for (i = 0; i < KILL_MESSAGES; i++) {
			umpsc_fill(data, 12, got + i);
			ASSERT_EQ(12, write(self->tx, data, 12));
		}
		child = fork();
		ASSERT_LE(0, child);
		if (!child) {
			for (i = 0; i < KILL_MESSAGES; i++)
				umpsc_recv(self->rx, slots + i * 64, 64, 1,
					   UMPSC_NO_DEADLINE, NULL, NULL);
			umpsc_hang();
		}
		/* At some moment in the middle of it. */
		i = umpsc_random(&seed) % (KILL_MESSAGES - 200);
		do {
			ASSERT_EQ(0, umpsc_info(self->tx, &info));
		} while (info.received - got < i);
		kill(child, SIGKILL);
		ASSERT_EQ(SIGKILL, umpsc_wait_child(child));

		/* What it took was copied first, every byte. */
		ASSERT_EQ(0, umpsc_info(self->tx, &info));
		for (i = 0; i < info.received - got; i++) {
			r = (void *)(slots + i * 64);
			ASSERT_EQ(got + i, r->seq);
			ASSERT_EQ(12, r->len);
			ASSERT_TRUE(umpsc_filled(umpsc_record_data(r), 12,
						 got + i));
		}
		/* The rest is there, whole and in order. */
		for (; i < KILL_MESSAGES; i++) {
			ASSERT_EQ(1, umpsc_recv(self->rx, buf, sizeof(buf), 1,
						0, &used, NULL));
			r = (void *)buf;
			ASSERT_EQ(got + i, r->seq);
			ASSERT_TRUE(umpsc_filled(umpsc_record_data(r), 12,
						 got + i));
		}
		EXPECT_EMPTY(self->rx);
	}
	munmap(slots, size);
	free(data);
}

/* A batch whose call takes long enough to be killed in the middle of it. */
#define HUGE_RECORDS 40000

struct huge {
	int fd;
	bool receives;
	struct umpsc_batch b;
	unsigned char *out; /* twice as large */
	atomic_bool *begins;
};

static long huge_call(struct huge *h)
{
	*h->begins = true;
	if (h->receives)
		return umpsc_recv(h->fd, h->out, 2 * h->b.len, HUGE_RECORDS, 0,
				  NULL, NULL);
	return umpsc_batch_send(h->fd, &h->b);
}

/* Kills a child in the call, at most @ns after it began. */
static void huge_kill(struct __test_metadata *_metadata, struct huge *h,
		      __u64 ns, __u64 *seed)
{
	__u64 end;
	pid_t child;

	*h->begins = false;
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		huge_call(h);
		umpsc_hang();
	}
	ASSERT_TRUE(UMPSC_UNTIL(*h->begins));
	end = umpsc_now_ns() + umpsc_random(seed) % ns;
	while (umpsc_now_ns() < end)
		;
	kill(child, SIGKILL);
	ASSERT_EQ(SIGKILL, umpsc_wait_child(child));
}

TEST_LONG(channel, killed_caller_of_a_huge_batch_has_done_all_or_nothing)
{
	struct huge h = {};
	__u64 seed = umpsc_now_ns(), took[2], was;
	unsigned int round, done[2] = {};
	struct umpsc_query before, q;
	struct umpsc_info info;
	int rx, tx, i;

	for (i = 0; i < HUGE_RECORDS; i++)
		umpsc_batch_add(&h.b, &i, sizeof(i));
	h.out = mmap(NULL, 2 * h.b.len, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	h.begins = mmap(NULL, page, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(h.out != MAP_FAILED && h.begins != MAP_FAILED);
	ASSERT_EQ(0, umpsc_query(self->tx, &before));
	for (round = 0; round < 16; round++) {
		/* With its senders' credentials each record is made anew. */
		ASSERT_EQ(0, umpsc_private_with(&rx, &tx,
						round % 2 ? UMPSC_CREDS : 0,
						O_NONBLOCK, 0, NULL));
		for (i = 0; i < 2; i++) {
			h.receives = i;
			h.fd = i ? rx : tx;
			if (round < 2) {
				/* How long does it take? */
				was = umpsc_now_ns();
				ASSERT_LT(0, huge_call(&h));
				took[i] = umpsc_now_ns() - was;
				continue;
			}
			huge_kill(_metadata, &h, 3 * took[i], &seed);
			ASSERT_EQ(0, umpsc_info(tx, &info));
			if (info.messages)
				ASSERT_EQ(HUGE_RECORDS, info.messages);
			done[i] += i == !info.messages;
			if (!i && !info.messages)
				ASSERT_EQ(HUGE_RECORDS,
					  umpsc_batch_send(tx, &h.b));
		}
		close(rx);
		close(tx);
		EXPECT_TRUE(UMPSC_UNTIL(umpsc_query(self->tx, &q) ||
					q.memory == before.memory));
	}
	TH_LOG("%u of %u sends, of %llu us, and %u receives, of %llu us, were done before",
	       done[0], round - 2, took[0] / 1000, done[1], took[1] / 1000);
	munmap(h.out, 2 * h.b.len);
	munmap(h.begins, page);
	umpsc_batch_free(&h.b);
}

static void timer_signals(bool on)
{
	struct itimerval every = {
		.it_interval.tv_usec = on ? 700 : 0,
		.it_value.tv_usec = on ? 700 : 0,
	};

	setitimer(ITIMER_REAL, &every, NULL);
}

/* A multiple of so many as a read passes over between two looks for signals. */
#define EMPTY_MESSAGES (1 << 18)

TEST_LONG(channel, read_that_a_signal_ends_has_taken_empty_messages)
{
	struct umpsc_batch b = {};
	struct umpsc_info info;
	int i, nonblock;

	for (i = 0; i < EMPTY_MESSAGES / 8; i++)
		umpsc_batch_add(&b, "", 0);
	catch_signal(SIGALRM, 0);
	for (nonblock = 0; nonblock < 2; nonblock++) {
		if (nonblock)
			set_nonblock(self->rx);
		for (i = 0; i < 8; i++)
			ASSERT_EQ(EMPTY_MESSAGES / 8,
				  umpsc_batch_send(self->tx, &b));
		timer_signals(true);
		EXPECT_ERR(nonblock ? EAGAIN : EINTR,
			   read(self->rx, buf, sizeof(buf)));
		timer_signals(false);
		ASSERT_EQ(0, umpsc_info(self->rx, &info));
		EXPECT_EQ(0, info.messages);
	}
	umpsc_batch_free(&b);
}

#define STORM_MESSAGES 6000

static size_t storm_len(__u32 n)
{
	return n % 50 == 7 ? 70000 : n % 10 == 3 ? 5000 : 4 + n % 300;
}

/* Sends numbered messages; a refused one is sent again. */
static int storm_send(int tx, unsigned char *data)
{
	struct umpsc_batch b = {};
	ssize_t ret;
	size_t len;
	__u32 n;

	catch_signal(SIGALRM, 0);
	timer_signals(true);
	for (n = 0; n < STORM_MESSAGES; n++) {
		len = storm_len(n);
		umpsc_fill(data, len, n);
		b.len = 0;
		umpsc_batch_add(&b, data, len);
		do {
			ret = n % 3 ? write(tx, data, len) :
				      umpsc_batch_send(tx, &b);
		} while (ret < 0 && errno == EINTR);
		if (ret != (n % 3 ? (ssize_t)len : 1))
			return 1;
	}
	timer_signals(false);
	return caught ? 0 : 2;
}

TEST_LONG(channel, signals_all_the_time_lose_and_double_nothing)
{
	unsigned char *data = malloc(1 << 17);
	__u64 used, need, interrupted = 0;
	const struct umpsc_record *r;
	size_t pos, len, off = 0;
	__u32 n = 0;
	int status;
	pid_t child;
	long ret;
	bool ok;

	ASSERT_NE(NULL, data);
	child = fork();
	ASSERT_LE(0, child);
	if (!child)
		_exit(storm_send(self->tx, data));
	close_fd(&self->tx);
	catch_signal(SIGALRM, 0);
	timer_signals(true);
	while (n < STORM_MESSAGES) {
		len = storm_len(n) - off;
		if (off || n % 2) {
			ret = read(self->rx, data, 3000 + n % 5000);
			if (ret < 0 && errno == EINTR) {
				interrupted++;
				continue;
			}
			ASSERT_LT(0, ret);
			ASSERT_LE(ret, len);
			ASSERT_TRUE(umpsc_filled_from(data, off, ret, n));
			off = ret < len ? off + ret : 0;
			n += !off;
			continue;
		}
		ret = umpsc_recv(self->rx, data, 1 << 17, 1 + n % 20,
				 UMPSC_NO_DEADLINE, &used, &need);
		if (ret < 0 && errno == EINTR) {
			interrupted++;
			EXPECT_EQ(0, used);
			EXPECT_EQ(0, need);
			continue;
		}
		ASSERT_LT(0, ret) TH_LOG("message %u: %s", n, strerror(errno));
		for (pos = 0; ret; ret--, n++) {
			r = umpsc_batch_next(data, used, &pos);
			ASSERT_NE(NULL, r);
			ASSERT_EQ(n, r->seq);
			ASSERT_EQ(storm_len(n), r->len);
			ok = umpsc_filled(umpsc_record_data(r), r->len, n);
			ASSERT_TRUE(ok);
		}
	}
	timer_signals(false);
	EXPECT_LT(0, caught);
	TH_LOG("%d signals, %llu of them ended a receive", caught, interrupted);
	status = umpsc_wait_child(child);
	EXPECT_EQ(0, status);
	EXPECT_END(self->rx);
	free(data);
	/* For the teardown. */
	close_fd(&self->rx);
}

/* ---- Memory that stalls ------------------------------------------------------- */

/* A send from, or a receive to, memory that stalls. */
struct stalled {
	int fd;
	void *addr;
	size_t len;
	bool batch;
};

static long stalled_send_fn(void *arg)
{
	struct stalled *s = arg;

	if (s->batch)
		return umpsc_send(s->fd, s->addr, s->len);
	return write(s->fd, s->addr, s->len);
}

static long stalled_receive_fn(void *arg)
{
	struct stalled *s = arg;

	if (s->batch)
		return umpsc_recv(s->fd, s->addr, s->len, 100, 0, NULL, NULL);
	return read(s->fd, s->addr, s->len);
}

FIXTURE(stall)
{
	int rx;
	int tx;
	struct stall s;
	struct stalled args;
	struct umpsc_thread t;
	struct umpsc_batch b;
	unsigned char data[4 * 4096] __attribute__((aligned(8)));
};

FIXTURE_VARIANT(stall)
{
	bool batch;
};

FIXTURE_VARIANT_ADD(stall, bytes)
UMPSC_VARIANT(.batch = false);

FIXTURE_VARIANT_ADD(stall, batch)
UMPSC_VARIANT(.batch = true);

FIXTURE_SETUP(stall)
{
	int i;

	page = sysconf(_SC_PAGESIZE);
	ASSERT_EQ(0, umpsc_private(&self->rx, &self->tx));
	set_nonblock(self->rx);
	ASSERT_TRUE(stall_new(&self->s, 4)) TH_LOG("%s", strerror(errno));
	self->args.addr = self->s.map;
	self->args.len = sizeof(self->data);
	self->args.batch = variant->batch;
	umpsc_fill(self->data, sizeof(self->data), 1);
	/* Four records that fill the four pages. */
	for (i = 0; i < 4; i++)
		umpsc_batch_add(&self->b, self->data, 4096 - UMPSC_RECORD_HDR);
}

FIXTURE_TEARDOWN(stall)
{
	stall_end(&self->s);
	umpsc_batch_free(&self->b);
	if (self->rx >= 0)
		close(self->rx);
	if (self->tx >= 0)
		close(self->tx);
}

/* What the stalled sender sends, in the end. */
static const void *stalled_data(struct stalled *args, struct umpsc_batch *b,
				const unsigned char *data)
{
	return args->batch ? b->data : data;
}

TEST_LONG(stall, stalled_sender_stops_nobody)
{
	int clone = ASSERT_FD(umpsc_clone(self->tx, 0));
	struct umpsc_info info;
	struct umpsc_query q;
	int i;

	self->args.fd = self->tx;
	ASSERT_EQ(0,
		  umpsc_thread_start(&self->t, stalled_send_fn, &self->args));
	ASSERT_TRUE(stall_hit(&self->s));

	/* Not the others, not even through the same file; not the receiver. */
	EXPECT_EMPTY(self->rx);
	EXPECT_POLL(0, self->rx);
	for (i = 0; i < 100; i++) {
		EXPECT_WRITE(clone, "clone");
		EXPECT_WRITE(self->tx, "same file");
		EXPECT_POLL(UMPSC_POLL_IN, self->rx);
		EXPECT_TEXT(self->rx, "clone");
		EXPECT_TEXT(self->rx, "same file");
		EXPECT_EMPTY(self->rx);
	}
	EXPECT_POLL(UMPSC_POLL_OUT, self->tx);
	ASSERT_EQ(0, umpsc_info(self->tx, &info));
	EXPECT_EQ(200, info.sent);
	EXPECT_EQ(0, info.memory);
	ASSERT_EQ(0, umpsc_query(self->tx, &q));
	EXPECT_EQ(0, q.messages);
	EXPECT_FALSE(self->t.done);

	/* Its place in the order is where it ends. */
	EXPECT_WRITE(clone, "before");
	ASSERT_TRUE(stall_fill(&self->s, stalled_data(&self->args, &self->b,
						      self->data)));
	ASSERT_TRUE(umpsc_thread_join(&self->t));
	EXPECT_EQ(variant->batch ? 4 : sizeof(self->data), self->t.ret);
	EXPECT_TEXT(self->rx, "before");
	if (!variant->batch)
		EXPECT_MESSAGE(self->rx, self->data, sizeof(self->data));
	for (i = 0; variant->batch && i < 4; i++)
		EXPECT_MESSAGE(self->rx, self->data, 4096 - UMPSC_RECORD_HDR);
	EXPECT_EMPTY(self->rx);
	close(clone);
}

TEST_LONG(stall, close_does_not_wait_for_a_stalled_sender)
{
	struct umpsc_info info;

	self->args.fd = self->tx;
	ASSERT_EQ(0,
		  umpsc_thread_start(&self->t, stalled_send_fn, &self->args));
	ASSERT_TRUE(stall_hit(&self->s));
	EXPECT_WRITE(self->tx, "accepted");
	ASSERT_EQ(0, umpsc_close(self->rx));
	EXPECT_TEXT(self->rx, "accepted");
	EXPECT_END(self->rx);
	ASSERT_TRUE(stall_fill(&self->s, stalled_data(&self->args, &self->b,
						      self->data)));
	ASSERT_TRUE(umpsc_thread_join(&self->t));
	EXPECT_EQ(-1, self->t.ret);
	EXPECT_EQ(EPIPE, self->t.err);
	ASSERT_EQ(0, umpsc_info(self->tx, &info));
	EXPECT_EQ(1, info.refused_closed);
	EXPECT_EQ(0, info.memory);
	EXPECT_END(self->rx);
}

/* The call has the file: until it is done there is a sender, for UPGRADE as well. */
TEST_LONG(stall, stalled_sender_whose_descriptor_is_closed_still_counts)
{
	int weak = ASSERT_FD(umpsc_downgrade(self->tx, 0)), up;
	struct umpsc_info info;
	int i;

	self->args.fd = self->tx;
	ASSERT_EQ(0,
		  umpsc_thread_start(&self->t, stalled_send_fn, &self->args));
	ASSERT_TRUE(stall_hit(&self->s));
	close_fd(&self->tx);
	ASSERT_EQ(0, umpsc_info(self->rx, &info));
	EXPECT_EQ(1, info.strong);
	EXPECT_EQ(UMPSC_STATE_CLAIMED, info.state);
	EXPECT_EMPTY(self->rx);
	EXPECT_POLL(0, self->rx);
	EXPECT_POLL(0, weak);
	up = ASSERT_FD(umpsc_upgrade(weak, 0));
	EXPECT_WRITE(up, "upgraded");
	EXPECT_TEXT(self->rx, "upgraded");
	close(up);
	EXPECT_EMPTY(self->rx);

	ASSERT_TRUE(stall_fill(&self->s, stalled_data(&self->args, &self->b,
						      self->data)));
	ASSERT_TRUE(umpsc_thread_join(&self->t));
	EXPECT_EQ(variant->batch ? 4 : sizeof(self->data), self->t.ret);
	/* The message first, and then the end. */
	EXPECT_ERR(ESHUTDOWN, umpsc_upgrade(weak, 0));
	if (!variant->batch)
		EXPECT_MESSAGE(self->rx, self->data, sizeof(self->data));
	for (i = 0; variant->batch && i < 4; i++)
		EXPECT_MESSAGE(self->rx, self->data, 4096 - UMPSC_RECORD_HDR);
	EXPECT_END(self->rx);
	close(weak);
}

TEST_LONG(stall, killed_stalled_sender_leaves_nothing)
{
	struct umpsc_info info;
	pid_t child;

	/* A sender of the child's own is the last one. */
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		/* The region is not inherited by a fork: it needs its own. */
		close(self->rx);
		if (!stall_new(&self->s, 4))
			_exit(2);
		self->args.fd = self->tx;
		self->args.addr = self->s.map;
		stalled_send_fn(&self->args);
		_exit(1);
	}
	close_fd(&self->tx);
	ASSERT_TRUE(umpsc_wait_asleep(child,
				      variant->batch ? SYS_ioctl : SYS_write));
	EXPECT_EMPTY(self->rx);
	kill(child, SIGKILL);
	EXPECT_EQ(SIGKILL, umpsc_wait_child(child));
	EXPECT_END(self->rx);
	ASSERT_EQ(0, umpsc_info(self->rx, &info));
	EXPECT_EQ(0, info.sent);
	EXPECT_EQ(0, info.strong);
	EXPECT_EQ(0, info.memory);
	EXPECT_EQ(UMPSC_STATE_CLAIMED | UMPSC_STATE_ENDED, info.state);
}

TEST_LONG(stall, stalled_receive_stops_no_sender_and_no_close)
{
	struct umpsc_info info;
	int i;

	for (i = 0; i < 3; i++)
		EXPECT_WRITE(self->tx, "message");
	self->args.fd = self->rx;
	ASSERT_EQ(0, umpsc_thread_start(&self->t, stalled_receive_fn,
					&self->args));
	ASSERT_TRUE(stall_hit(&self->s));
	/* Nothing is taken before it is copied. */
	for (i = 0; i < 100; i++)
		EXPECT_WRITE(self->tx, "more");
	ASSERT_EQ(0, umpsc_info(self->tx, &info));
	EXPECT_EQ(103, info.messages);
	EXPECT_EQ(0, info.received);
	EXPECT_POLL(UMPSC_POLL_IN, self->rx);
	ASSERT_EQ(0, umpsc_info(self->rx, &info));
	ASSERT_EQ(0, umpsc_close(self->rx));
	EXPECT_POLL(UMPSC_POLL_IN | UMPSC_POLL_HUP, self->rx);
	EXPECT_POLL(POLLERR, self->tx);
	EXPECT_ERR(EPIPE, write(self->tx, "x", 1));
	EXPECT_FALSE(self->t.done);

	memset(self->data, 0, sizeof(self->data));
	ASSERT_TRUE(stall_fill(&self->s, self->data));
	ASSERT_TRUE(umpsc_thread_join(&self->t));
	ASSERT_EQ(0, umpsc_info(self->rx, &info));
	if (variant->batch) {
		EXPECT_LE(3, self->t.ret);
		EXPECT_EQ(self->t.ret, info.received);
	} else {
		EXPECT_EQ(7, self->t.ret);
		EXPECT_EQ(0, memcmp(self->s.map, "message", 7));
		EXPECT_EQ(1, info.received);
	}
	EXPECT_EQ(103 - info.received, info.messages);
}

/* Its file goes with it, not before. */
TEST_LONG(stall, stalled_receive_whose_descriptor_is_closed_is_finished)
{
	struct umpsc_info info;

	EXPECT_WRITE(self->tx, "message");
	self->args.fd = self->rx;
	ASSERT_EQ(0, umpsc_thread_start(&self->t, stalled_receive_fn,
					&self->args));
	ASSERT_TRUE(stall_hit(&self->s));
	close_fd(&self->rx);
	EXPECT_WRITE(self->tx, "discarded");
	EXPECT_POLL(UMPSC_POLL_OUT, self->tx);
	ASSERT_EQ(0, umpsc_info(self->tx, &info));
	EXPECT_EQ(UMPSC_STATE_CLAIMED, info.state);
	EXPECT_EQ(2, info.messages);
	EXPECT_FALSE(self->t.done);

	memset(self->data, 0, sizeof(self->data));
	ASSERT_TRUE(stall_fill(&self->s, self->data));
	ASSERT_TRUE(umpsc_thread_join(&self->t));
	EXPECT_EQ(0, memcmp(self->s.map + (variant->batch ? 32 : 0), "message",
			    7));
	/* By RECV, the second may have been there in time. */
	EXPECT_LE(variant->batch ? 1 : 7, self->t.ret);
	ASSERT_EQ(0, umpsc_info(self->tx, &info));
	EXPECT_EQ(variant->batch ? self->t.ret : 1, info.received);
	EXPECT_EQ(2 - info.received, info.discarded);
	EXPECT_EQ(0, info.memory);
	EXPECT_EQ(UMPSC_STATE_CLOSED | UMPSC_STATE_RECEIVER_GONE |
			  UMPSC_STATE_ENDED,
		  info.state);
	EXPECT_POLL(POLLERR, self->tx);
}

TEST_LONG(stall, killed_stalled_receive_takes_nothing)
{
	struct umpsc_info before;
	pid_t child;
	int i;

	for (i = 0; i < 3; i++)
		EXPECT_WRITE(self->tx, "message");
	ASSERT_EQ(0, umpsc_info(self->tx, &before));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		if (!stall_new(&self->s, 4))
			_exit(2);
		self->args.fd = self->rx;
		self->args.addr = self->s.map;
		stalled_receive_fn(&self->args);
		_exit(1);
	}
	ASSERT_TRUE(umpsc_wait_asleep(child,
				      variant->batch ? SYS_ioctl : SYS_read));
	EXPECT_UNCHANGED(self->tx, &before);
	kill(child, SIGKILL);
	EXPECT_EQ(SIGKILL, umpsc_wait_child(child));
	EXPECT_UNCHANGED(self->tx, &before);
	for (i = 0; i < 3; i++)
		EXPECT_EQ(i, EXPECT_TEXT(self->rx, "message").seq);
	EXPECT_EMPTY(self->rx);
}

/* A stop that comes in the middle of a receive waits for its end, and nobody for it. */
TEST_LONG(stall, stopped_stalled_receive_stops_no_close_and_is_finished)
{
	struct stall theirs = { .len = self->s.len };
	struct umpsc_info info;
	int sock[2], status;
	pid_t child;

	EXPECT_WRITE(self->tx, "message");
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		/* The region is not inherited by a fork: it needs its own. */
		if (!stall_new(&self->s, 4) ||
		    umpsc_pass_fd(sock[1], self->s.uffd) ||
		    write(sock[1], &self->s.map, sizeof(self->s.map)) !=
			    sizeof(self->s.map))
			_exit(2);
		self->args.fd = self->rx;
		self->args.addr = self->s.map;
		if (stalled_receive_fn(&self->args) != (variant->batch ? 1 : 7))
			_exit(1);
		_exit(memcmp(self->s.map + (variant->batch ? 32 : 0), "message",
			     7) != 0);
	}
	theirs.uffd = ASSERT_FD(umpsc_take_fd(sock[0]));
	ASSERT_EQ(sizeof(theirs.map),
		  read(sock[0], &theirs.map, sizeof(theirs.map)));
	ASSERT_TRUE(stall_hit(&theirs));
	kill(child, SIGSTOP);

	ASSERT_EQ(0, umpsc_close(self->rx));
	EXPECT_POLL(UMPSC_POLL_IN | UMPSC_POLL_HUP, self->rx);
	EXPECT_POLL(POLLERR, self->tx);
	EXPECT_ERR(EPIPE, write(self->tx, "x", 1));
	ASSERT_EQ(0, umpsc_info(self->rx, &info));
	EXPECT_EQ(1, info.messages);
	EXPECT_EQ(0, info.received);
	EXPECT_EQ(0, waitpid(child, &status, WUNTRACED | WNOHANG));

	/* It has received, and stops behind that: the end is for all to see. */
	memset(self->data, 0, sizeof(self->data));
	ASSERT_TRUE(stall_fill(&theirs, self->data));
	ASSERT_TRUE(UMPSC_UNTIL(waitpid(child, &status, WUNTRACED | WNOHANG) ==
				child));
	ASSERT_TRUE(WIFSTOPPED(status));
	ASSERT_EQ(0, umpsc_info(self->rx, &info));
	EXPECT_EQ(0, info.messages);
	EXPECT_EQ(1, info.received);
	EXPECT_END(self->rx);
	kill(child, SIGCONT);
	EXPECT_EQ(0, umpsc_wait_child(child));
	EXPECT_END(self->rx);
	close(theirs.uffd);
	close(sock[0]);
	close(sock[1]);
}

TEST_LONG(stall, receive_behind_a_stalled_one_can_be_interrupted)
{
	struct umpsc_receive r = { .fd = self->rx, .max = 1 };
	struct umpsc_thread second;
	struct umpsc_info before;

	EXPECT_WRITE(self->tx, "one");
	EXPECT_WRITE(self->tx, "two");
	ASSERT_EQ(0, umpsc_info(self->tx, &before));
	self->args.fd = self->rx;
	ASSERT_EQ(0, umpsc_thread_start(&self->t, stalled_receive_fn,
					&self->args));
	ASSERT_TRUE(stall_hit(&self->s));
	catch_signal(SIGUSR1, 0);
	ASSERT_EQ(0, umpsc_thread_start(&second, umpsc_receive_fn, &r));
	ASSERT_TRUE(umpsc_thread_asleep(&second, SYS_ioctl));
	ASSERT_EQ(0, pthread_kill(second.thread, SIGUSR1));
	ASSERT_TRUE(umpsc_thread_join(&second));
	EXPECT_EQ(-1, second.ret);
	EXPECT_EQ(EINTR, second.err);
	EXPECT_UNCHANGED(self->tx, &before);
	ASSERT_TRUE(stall_fill(&self->s, self->data));
	ASSERT_TRUE(umpsc_thread_join(&self->t));
	EXPECT_LT(0, self->t.ret);
}

TEST_LONG(stall, queued_messages_of_a_gone_receiver_go_while_a_sender_stalls)
{
	struct umpsc_info info;

	self->args.fd = self->tx;
	ASSERT_EQ(0,
		  umpsc_thread_start(&self->t, stalled_send_fn, &self->args));
	ASSERT_TRUE(stall_hit(&self->s));
	EXPECT_WRITE(self->tx, "unread");
	close_fd(&self->rx);
	ASSERT_EQ(0, umpsc_info(self->tx, &info));
	EXPECT_EQ(0, info.messages);
	EXPECT_EQ(0, info.memory);
	EXPECT_EQ(1, info.discarded);
	ASSERT_TRUE(stall_fill(&self->s, stalled_data(&self->args, &self->b,
						      self->data)));
	ASSERT_TRUE(umpsc_thread_join(&self->t));
	EXPECT_EQ(-1, self->t.ret);
	EXPECT_EQ(EPIPE, self->t.err);
	ASSERT_EQ(0, umpsc_info(self->tx, &info));
	EXPECT_EQ(0, info.memory);
	EXPECT_EQ(1, info.refused_closed);
}

/* ---- Memory that changes ------------------------------------------------------ */

struct spoiler {
	struct umpsc_record *r;
	atomic_bool stop;
};

/* Turns a good record into bad ones and back, without end. */
static long spoiler_fn(void *arg)
{
	static const __u32 lens[] = { 8, 0xffffffff, 8, 40, 8, 100000, 8, 7 };
	static const __u16 hdrs[] = { 32, 24, 32, 0xfff8, 40, 32 };
	struct spoiler *s = arg;
	struct umpsc_record *r = s->r;
	unsigned int i = 0;

	/* Reading an atomic keeps the compiler from leaving out a store. */
	while (!s->stop) {
		r->len = lens[i % ARRAY_SIZE(lens)];
		r->hdr = hdrs[i % ARRAY_SIZE(hdrs)];
		r->flags = i % 7 == 3 ? 0x80 : 0;
		i++;
	}
	return 0;
}

TEST_LONG(channel, batch_that_changes_under_send_is_one_that_was_checked)
{
	__u64 used, need, accepted = 0, refused = 0, until;
	const struct umpsc_record *r;
	struct spoiler spoiler = {};
	struct umpsc_batch b = {};
	struct umpsc_thread t;
	size_t pos;
	long n, got;
	int i;

	for (i = 0; i < 200; i++)
		umpsc_batch_add(&b, "12345678", 8);
	spoiler.r = (void *)(b.data + 100 * 40);
	ASSERT_EQ(0, umpsc_thread_start(&t, spoiler_fn, &spoiler));
	until = umpsc_chance_until(3000);
	while (umpsc_now_ns() < until && (accepted < 500 || refused < 500)) {
		n = umpsc_batch_send(self->tx, &b);
		if (n < 0) {
			ASSERT_EQ(EINVAL, errno);
			refused++;
			EXPECT_EMPTY(self->rx);
			continue;
		}
		accepted++;
		got = umpsc_recv(self->rx, buf, sizeof(buf), 1000, 0, &used,
				 &need);
		ASSERT_EQ(n, got);
		for (i = 0, pos = 0; i < n; i++) {
			r = umpsc_batch_next(buf, used, &pos);
			ASSERT_NE(NULL, r);
			ASSERT_EQ(UMPSC_RECORD_HDR, r->hdr);
			ASSERT_EQ(0, r->flags);
			ASSERT_EQ(1, r->sender);
			ASSERT_LE(r->len, b.len);
		}
		ASSERT_EQ(used, pos);
	}
	spoiler.stop = true;
	ASSERT_TRUE(umpsc_thread_join(&t));
	TH_LOG("%llu accepted, %llu refused", accepted, refused);
	EXPECT_LT(0, accepted);
	EXPECT_LT(0, refused);
	umpsc_batch_free(&b);
}

struct dropper {
	void *map;
	size_t len;
	atomic_bool stop;
};

static long dropper_fn(void *arg)
{
	struct dropper *d = arg;

	while (!d->stop)
		if (madvise(d->map, d->len, MADV_DONTNEED))
			return -1;
	return 0;
}

/* Pages that vanish and come back as zeros, under a sender and a receiver. */
TEST_LONG(channel, pages_that_are_dropped_meanwhile)
{
	const size_t len = 16 * 4096;
	struct dropper d = { .len = len };
	struct umpsc_thread t;
	struct umpsc_info info;
	unsigned char *data;
	int i;

	d.map = mmap(NULL, len, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	data = malloc(len);
	ASSERT_TRUE(data && d.map != MAP_FAILED);
	umpsc_fill(data, len, 1);
	ASSERT_EQ(0, umpsc_thread_start(&t, dropper_fn, &d));
	for (i = 1; i <= 300; i++) {
		/* From such memory: all of it arrives, whatever it was. */
		ASSERT_EQ(len, write(self->tx, d.map, len));
		ASSERT_EQ(len, read(self->rx, buf, sizeof(buf)));
		/* To such memory: it is received, once. */
		ASSERT_EQ(len, write(self->tx, data, len));
		ASSERT_EQ(len, read(self->rx, d.map, len));
		EXPECT_EMPTY(self->rx);
	}
	d.stop = true;
	ASSERT_TRUE(umpsc_thread_join(&t));
	EXPECT_EQ(0, t.ret);
	ASSERT_EQ(0, umpsc_info(self->rx, &info));
	EXPECT_EQ(600, info.received);
	EXPECT_EQ(0, info.memory);
	munmap(d.map, len);
	free(data);
}

TEST_HARNESS_MAIN
