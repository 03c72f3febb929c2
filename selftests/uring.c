// SPDX-License-Identifier: GPL-2.0-only
/*
 * io_uring on the handles: what waits needs no thread, and what is cancelled,
 * or ends with its ring, consumes nothing.
 *
 * A request that has been submitted and has no completion is waiting: io_uring
 * has tried it and armed its poll before submit returns.
 */
#include "umpsc_race.h"
#include "umpsc_stall.h"

#include <liburing.h>
#include <sys/time.h>

#define IN UMPSC_POLL_IN
#define HUP UMPSC_POLL_HUP
#define OUT UMPSC_POLL_OUT
#define ALL_EVENTS (IN | HUP | OUT | POLLPRI | POLLERR)

/* Liburing 2.3 does not know it. */
#define OP_READ_MULTISHOT 49

#define ENTRIES 128
#define BUFFER 256
#define ROUNDS 200

/* What the requests are called in their completions. */
enum {
	READ = 1,
	WRITE,
	POLL,
	POLL2,
	TIMER,
	CANCEL,
	PROVIDE,
	MANY = 1000,
};

struct result {
	__u64 user;
	int res;
	unsigned int flags;
};

struct uring {
	struct io_uring ring;
	bool live;
	/* Completions that came before the one that was asked for. */
	struct result kept[2 * ENTRIES];
	unsigned int n_kept;
};

FIXTURE(channel)
{
	struct uring u;
	int rx;
	int tx;
	char buf[BUFFER];
};

FIXTURE_SETUP(channel)
{
	memset(self, 0, sizeof(*self));
	memset(self->buf, UMPSC_POISON, sizeof(self->buf));
	ASSERT_EQ(0, umpsc_private(&self->rx, &self->tx));
	ASSERT_EQ(0, io_uring_queue_init(ENTRIES, &self->u.ring, 0));
	self->u.live = true;
}

static void uring_exit(struct uring *u)
{
	if (u->live)
		io_uring_queue_exit(&u->ring);
	u->live = false;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

FIXTURE_TEARDOWN(channel)
{
	uring_exit(&self->u);
	close_fd(&self->rx);
	close_fd(&self->tx);
}

/* ---- Requests and completions ------------------------------------------- */

/* Next completion within @seconds, or false. */
static bool next_result(struct uring *u, struct result *r, int seconds)
{
	__u64 end = umpsc_end_ns(seconds * 1000);
	struct __kernel_timespec ts = { .tv_sec = seconds };
	struct io_uring_cqe *cqe;
	int ret, ms;

	for (;;) {
		ret = io_uring_wait_cqe_timeout(&u->ring, &cqe, &ts);
		if (ret != -EINTR)
			break;
		ms = umpsc_left_ms(end);
		ts.tv_sec = ms / 1000;
		ts.tv_nsec = ms % 1000 * 1000000;
	}
	if (ret)
		return false;
	r->user = cqe->user_data;
	r->res = cqe->res;
	r->flags = cqe->flags;
	io_uring_cqe_seen(&u->ring, cqe);
	return true;
}

/* The completion of @user; those of others are kept. */
static struct result result_of(struct __test_metadata *_metadata, int line,
			       struct uring *u, __u64 user)
{
	struct result r = {};
	unsigned int i;

	for (i = 0; i < u->n_kept; i++) {
		if (u->kept[i].user != user)
			continue;
		r = u->kept[i];
		u->n_kept--;
		memmove(&u->kept[i], &u->kept[i + 1],
			(u->n_kept - i) * sizeof(r));
		return r;
	}
	for (;;) {
		ASSERT_TRUE(next_result(u, &r, UMPSC_PATIENCE))
		{
			TH_LOG("no completion of %llu, line %d", user, line);
		}
		if (r.user == user)
			return r;
		ASSERT_GT(ARRAY_SIZE(u->kept), u->n_kept);
		u->kept[u->n_kept++] = r;
	}
}

#define RESULT(user) result_of(_metadata, __LINE__, &self->u, user)

static struct result expect_result(struct __test_metadata *_metadata, int line,
				   struct uring *u, int want, __u64 user)
{
	struct result r = result_of(_metadata, line, u, user);

	EXPECT_EQ(want, r.res)
	{
		TH_LOG("... of %llu: %s, line %d", user,
		       r.res < 0 ? strerror(-r.res) : "", line);
	}
	return r;
}

/* The next completion of @user has this result. */
#define EXPECT_RESULT(want, user) \
	expect_result(_metadata, __LINE__, &self->u, want, user)

/* Nothing has completed but what was asked for. */
static void expect_quiet(struct __test_metadata *_metadata, int line,
			 struct uring *u)
{
	struct io_uring_cqe *cqe;

	io_uring_get_events(&u->ring);
	EXPECT_EQ(-EAGAIN, io_uring_peek_cqe(&u->ring, &cqe))
	{
		TH_LOG("... a completion too many, line %d", line);
	}
	EXPECT_EQ(0, u->n_kept)
	{
		TH_LOG("... completion of %llu: %d, line %d", u->kept[0].user,
		       u->kept[0].res, line);
	}
}

#define EXPECT_QUIET() expect_quiet(_metadata, __LINE__, &self->u)

/* A request to fill; it cannot fail, as there are more than any test needs. */
static struct io_uring_sqe *request(struct uring *u)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

	if (!sqe)
		abort();
	return sqe;
}

static struct io_uring_sqe *add_read(struct uring *u, int fd, void *buf,
				     unsigned int len, __u64 user)
{
	struct io_uring_sqe *sqe = request(u);

	io_uring_prep_read(sqe, fd, buf, len, -1);
	sqe->user_data = user;
	return sqe;
}

static struct io_uring_sqe *add_write(struct uring *u, int fd, const void *buf,
				      unsigned int len, __u64 user)
{
	struct io_uring_sqe *sqe = request(u);

	io_uring_prep_write(sqe, fd, buf, len, -1);
	sqe->user_data = user;
	return sqe;
}

static struct io_uring_sqe *add_poll(struct uring *u, int fd,
				     unsigned int events, __u64 user)
{
	struct io_uring_sqe *sqe = request(u);

	io_uring_prep_poll_add(sqe, fd, events);
	sqe->user_data = user;
	return sqe;
}

static struct io_uring_sqe *add_poll_multishot(struct uring *u, int fd,
					       unsigned int events, __u64 user)
{
	struct io_uring_sqe *sqe = request(u);

	io_uring_prep_poll_multishot(sqe, fd, events);
	sqe->user_data = user;
	return sqe;
}

static struct io_uring_sqe *add_cancel(struct uring *u, __u64 target)
{
	struct io_uring_sqe *sqe = request(u);

	io_uring_prep_cancel64(sqe, target, 0);
	sqe->user_data = CANCEL;
	return sqe;
}

/* Ends what was added before, which has IOSQE_IO_LINK, after @ts. */
static struct io_uring_sqe *add_link_timeout(struct uring *u,
					     struct __kernel_timespec *ts)
{
	struct io_uring_sqe *sqe = request(u);

	io_uring_prep_link_timeout(sqe, ts, 0);
	sqe->user_data = TIMER;
	return sqe;
}

#define SUBMIT(n) ASSERT_EQ(n, io_uring_submit(&self->u.ring))

/* What comes of cancelling READ. */
static int cancel_read(struct __test_metadata *_metadata, struct uring *u)
{
	add_cancel(u, READ);
	ASSERT_EQ(1, io_uring_submit(&u->ring));
	return result_of(_metadata, __LINE__, u, CANCEL).res;
}

/* A read of the whole buffer that has to wait. */
#define START_READ()                                                       \
	do {                                                               \
		memset(self->buf, UMPSC_POISON, sizeof(self->buf));        \
		add_read(&self->u, self->rx, self->buf, sizeof(self->buf), \
			 READ);                                            \
		SUBMIT(1);                                                 \
		EXPECT_QUIET();                                            \
	} while (0)

static void expect_text(struct __test_metadata *_metadata, int line,
			const char *want, const char *buf)
{
	size_t len = strlen(want);

	EXPECT_EQ(0, memcmp(want, buf, len))
	{
		TH_LOG("... '%.*s', not '%s', line %d", (int)len, buf, want,
		       line);
	}
	EXPECT_EQ((char)UMPSC_POISON, buf[len])
	{
		TH_LOG("... written behind '%s', line %d", want, line);
	}
}

static void expect_read(struct __test_metadata *_metadata, int line,
			struct uring *u, char *buf, const char *text)
{
	expect_result(_metadata, line, u, strlen(text), READ);
	expect_text(_metadata, line, text, buf);
	memset(buf, UMPSC_POISON, BUFFER);
}

/* The read was given @text, and no more was written. */
#define EXPECT_READ(text) \
	expect_read(_metadata, __LINE__, &self->u, self->buf, text)

static bool untouched(const char *buf, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (buf[i] != (char)UMPSC_POISON)
			return false;
	return true;
}

/* Threads of io_uring that this process has. */
static int count_workers(void)
{
	char path[300], name[64];
	struct dirent *d;
	int n = 0;
	DIR *dir = opendir("/proc/self/task");

	if (!dir)
		return -1;
	while ((d = readdir(dir))) {
		snprintf(path, sizeof(path), "/proc/self/task/%s/comm",
			 d->d_name);
		if (umpsc_read_file(path, name, sizeof(name)) > 0 &&
		    !strncmp(name, "iou-wrk", 7))
			n++;
	}
	closedir(dir);
	return n;
}

static struct umpsc_info info_of(int fd)
{
	struct umpsc_info info;

	if (umpsc_info(fd, &info))
		memset(&info, UMPSC_POISON, sizeof(info));
	return info;
}

static __u64 module_channels(int fd)
{
	struct umpsc_query q;

	return umpsc_query(fd, &q) ? UMPSC_POISON_U64 : q.channels;
}

/* ---- Reads and writes ---------------------------------------------------- */

TEST_LONG(channel, thousand_reads_that_waited_need_no_worker)
{
	char text[16], byte;
	int p[2], i;

	for (i = 0; i < 1000; i++) {
		START_READ();
		snprintf(text, sizeof(text), "message %d", i);
		EXPECT_WRITE(self->tx, text);
		EXPECT_READ(text);
		if (i % 100 == 99)
			ASSERT_EQ(0, count_workers());
	}
	EXPECT_QUIET();
	EXPECT_EMPTY(self->rx);
	/* The count would have seen one. */
	ASSERT_EQ(0, pipe2(p, O_CLOEXEC));
	add_read(&self->u, p[0], &byte, 1, READ)->flags |= IOSQE_ASYNC;
	SUBMIT(1);
	EXPECT_TRUE(UMPSC_UNTIL(count_workers() > 0));
	EXPECT_EQ(1, write(p[1], "x", 1));
	EXPECT_RESULT(1, READ);
	close(p[0]);
	close(p[1]);
}

TEST_LONG(channel, reads_that_wait_at_a_time_get_a_message_each)
{
	unsigned char got[64], seen[64] = {}, i;

	for (i = 0; i < 64; i++)
		add_read(&self->u, self->rx, &got[i], 1, MANY + i);
	SUBMIT(64);
	EXPECT_QUIET();
	for (i = 0; i < 64; i++)
		ASSERT_EQ(1, write(self->tx, &i, 1));
	for (i = 0; i < 64; i++) {
		EXPECT_RESULT(1, MANY + i);
		ASSERT_GT(64, got[i]);
		seen[got[i]]++;
	}
	for (i = 0; i < 64; i++)
		EXPECT_EQ(1, seen[i]);
	EXPECT_QUIET();
	EXPECT_EMPTY(self->rx);
	EXPECT_EQ(0, count_workers());
}

TEST_LONG(channel, read_of_a_queued_message_completes_at_once)
{
	struct io_uring_cqe *cqe;

	EXPECT_WRITE(self->tx, "queued");
	add_read(&self->u, self->rx, self->buf, BUFFER, READ);
	SUBMIT(1);
	EXPECT_EQ(0, io_uring_peek_cqe(&self->u.ring, &cqe));
	EXPECT_READ("queued");
	EXPECT_EMPTY(self->rx);
}

TEST_LONG(channel, read_forced_to_a_worker_waits_too)
{
	add_read(&self->u, self->rx, self->buf, BUFFER, READ)->flags |=
		IOSQE_ASYNC;
	SUBMIT(1);
	EXPECT_TRUE(UMPSC_UNTIL(count_workers() > 0));
	EXPECT_QUIET();
	EXPECT_WRITE(self->tx, "late");
	EXPECT_READ("late");
	/*
	 * And one that is cancelled there takes nothing.  While the worker has it in
	 * hand, it cannot be cancelled (EALREADY) nor, on 6.1, always found.
	 */
	add_read(&self->u, self->rx, self->buf, BUFFER, READ)->flags |=
		IOSQE_ASYNC;
	SUBMIT(1);
	EXPECT_TRUE(UMPSC_UNTIL(!cancel_read(_metadata, &self->u) ||
				self->u.n_kept));
	EXPECT_GT(0, RESULT(READ).res);
	EXPECT_WRITE(self->tx, "later");
	EXPECT_TEXT(self->rx, "later");
	EXPECT_TRUE(untouched(self->buf, BUFFER));
}

TEST_LONG(channel, write_is_one_message)
{
	add_write(&self->u, self->tx, "one", 3, WRITE);
	SUBMIT(1);
	EXPECT_RESULT(3, WRITE);
	add_write(&self->u, self->tx, "two", 3, WRITE);
	SUBMIT(1);
	EXPECT_RESULT(3, WRITE);
	/* No bytes, no message. */
	add_write(&self->u, self->tx, "", 0, WRITE);
	SUBMIT(1);
	EXPECT_RESULT(0, WRITE);
	EXPECT_TEXT(self->rx, "one");
	EXPECT_TEXT(self->rx, "two");
	EXPECT_EMPTY(self->rx);
	EXPECT_EQ(0, count_workers());
}

TEST_LONG(channel, writev_is_one_message_and_readv_fills_its_parts_in_turn)
{
	char head[4], tail[8];
	struct iovec out[] = { { "abc", 3 }, { "", 0 }, { "defg", 4 } };
	struct iovec in[] = { { head, 4 }, { tail, 8 } };
	struct io_uring_sqe *sqe;

	memset(tail, UMPSC_POISON, sizeof(tail));
	sqe = request(&self->u);
	io_uring_prep_readv(sqe, self->rx, in, 2, -1);
	sqe->user_data = READ;
	SUBMIT(1);
	EXPECT_QUIET();
	sqe = request(&self->u);
	io_uring_prep_writev(sqe, self->tx, out, 3, -1);
	sqe->user_data = WRITE;
	SUBMIT(1);
	EXPECT_RESULT(7, WRITE);
	EXPECT_RESULT(7, READ);
	EXPECT_EQ(0, memcmp(head, "abcd", 4));
	expect_text(_metadata, __LINE__, "efg", tail);
	EXPECT_EMPTY(self->rx);
	EXPECT_EQ(0, count_workers());
}

TEST_LONG(channel, write_to_a_closed_channel_is_epipe_without_a_signal)
{
	ASSERT_EQ(0, umpsc_close(self->rx));
	add_write(&self->u, self->tx, "x", 1, WRITE);
	SUBMIT(1);
	EXPECT_RESULT(-EPIPE, WRITE);
	EXPECT_END(self->rx);
	close_fd(&self->rx);
	add_write(&self->u, self->tx, "x", 1, WRITE);
	SUBMIT(1);
	EXPECT_RESULT(-EPIPE, WRITE);
	EXPECT_EQ(2, info_of(self->tx).refused_closed);
}

TEST_LONG(channel, write_above_the_limit_is_enobufs_and_does_not_wait)
{
	struct umpsc_limits limits = { .max_msgs = 1 };
	int rx, tx;

	ASSERT_EQ(0, umpsc_private_with(&rx, &tx, 0, 0, 0, &limits));
	add_write(&self->u, tx, "a", 1, WRITE);
	SUBMIT(1);
	EXPECT_RESULT(1, WRITE);
	add_write(&self->u, tx, "b", 1, WRITE);
	SUBMIT(1);
	EXPECT_RESULT(-ENOBUFS, WRITE);
	/* Room is what a poll waits for. */
	add_poll(&self->u, tx, POLLOUT, POLL);
	SUBMIT(1);
	EXPECT_QUIET();
	EXPECT_TEXT(rx, "a");
	EXPECT_RESULT(POLLOUT, POLL);
	EXPECT_EMPTY(rx);
	close(rx);
	close(tx);
}

TEST_LONG(channel, linked_write_forwards_what_was_read)
{
	int rx, tx;

	ASSERT_EQ(0, umpsc_private(&rx, &tx));
	add_read(&self->u, self->rx, self->buf, 5, READ)->flags |=
		IOSQE_IO_LINK;
	add_write(&self->u, tx, self->buf, 5, WRITE);
	SUBMIT(2);
	EXPECT_QUIET();
	EXPECT_WRITE(self->tx, "hello");
	EXPECT_RESULT(5, READ);
	EXPECT_RESULT(5, WRITE);
	EXPECT_TEXT(rx, "hello");
	EXPECT_EMPTY(rx);
	EXPECT_EMPTY(self->rx);
	close(rx);
	close(tx);
}

TEST_LONG(channel, messages_are_not_merged)
{
	static const char *const text[] = { "a", "bb", "ccc", "dddd" };
	char buf[4][BUFFER];
	int i;

	memset(buf, UMPSC_POISON, sizeof(buf));
	for (i = 0; i < 3; i++)
		EXPECT_WRITE(self->tx, text[i]);
	for (i = 0; i < 4; i++)
		add_read(&self->u, self->rx, buf[i], BUFFER, MANY + i);
	SUBMIT(4);
	for (i = 0; i < 3; i++)
		EXPECT_RESULT(strlen(text[i]), MANY + i);
	EXPECT_QUIET();
	EXPECT_WRITE(self->tx, text[3]);
	EXPECT_RESULT(4, MANY + 3);
	for (i = 0; i < 4; i++)
		expect_text(_metadata, __LINE__, text[i], buf[i]);
	EXPECT_EMPTY(self->rx);
}

TEST_LONG(channel, small_buffer_gets_a_part_and_the_next_read_the_rest)
{
	add_read(&self->u, self->rx, self->buf, 4, READ);
	SUBMIT(1);
	EXPECT_QUIET();
	EXPECT_WRITE(self->tx, "abcdef");
	EXPECT_WRITE(self->tx, "g");
	EXPECT_READ("abcd");
	EXPECT_EQ(2, umpsc_fionread(self->rx));
	EXPECT_EQ(0, info_of(self->rx).received);
	add_read(&self->u, self->rx, self->buf, BUFFER, READ);
	SUBMIT(1);
	EXPECT_READ("ef");
	EXPECT_EQ(1, info_of(self->rx).received);
	EXPECT_TEXT(self->rx, "g");
	EXPECT_EMPTY(self->rx);
}

TEST_LONG(channel, waiting_read_passes_over_an_empty_message)
{
	struct umpsc_batch b = {};

	START_READ();
	umpsc_batch_add(&b, "", 0);
	ASSERT_EQ(1, umpsc_batch_send(self->tx, &b));
	umpsc_batch_free(&b);
	EXPECT_TRUE(UMPSC_UNTIL(info_of(self->rx).received == 1));
	EXPECT_QUIET();
	EXPECT_WRITE(self->tx, "x");
	EXPECT_READ("x");
}

TEST_LONG(channel, read_of_no_bytes_takes_nothing)
{
	add_read(&self->u, self->rx, self->buf, 0, READ);
	SUBMIT(1);
	EXPECT_RESULT(0, READ);
	EXPECT_WRITE(self->tx, "x");
	add_read(&self->u, self->rx, self->buf, 0, READ);
	SUBMIT(1);
	EXPECT_RESULT(0, READ);
	EXPECT_TEXT(self->rx, "x");
}

TEST_LONG(channel, read_of_an_o_nonblock_file_waits)
{
	ASSERT_EQ(0, fcntl(self->rx, F_SETFL, O_NONBLOCK));
	START_READ();
	EXPECT_ERR(EAGAIN, read(self->rx, self->buf, 1));
	EXPECT_WRITE(self->tx, "x");
	EXPECT_READ("x");
	EXPECT_EQ(0, count_workers());
}

TEST_LONG(channel, read_with_rwf_nowait_is_eagain_when_nothing_is_queued)
{
	add_read(&self->u, self->rx, self->buf, BUFFER, READ)->rw_flags =
		RWF_NOWAIT;
	SUBMIT(1);
	EXPECT_RESULT(-EAGAIN, READ);
	EXPECT_WRITE(self->tx, "x");
	add_read(&self->u, self->rx, self->buf, BUFFER, READ)->rw_flags =
		RWF_NOWAIT;
	SUBMIT(1);
	EXPECT_READ("x");
	EXPECT_EMPTY(self->rx);
}

TEST_LONG(channel, bad_memory_is_efault_and_consumes_nothing)
{
	char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct umpsc_info before;
	char *edge = page + 4096 - 3;

	ASSERT_NE(MAP_FAILED, page);
	ASSERT_EQ(0, munmap(page + 4096, 4096));
	/* While it waits. */
	add_read(&self->u, self->rx, edge, 100, READ);
	SUBMIT(1);
	EXPECT_QUIET();
	EXPECT_WRITE(self->tx, "abcdef");
	EXPECT_RESULT(-EFAULT, READ);
	before = info_of(self->rx);
	EXPECT_EQ(1, before.messages);
	/* With the message there. */
	add_read(&self->u, self->rx, edge, 100, READ);
	SUBMIT(1);
	EXPECT_RESULT(-EFAULT, READ);
	add_write(&self->u, self->tx, edge, 6, WRITE);
	SUBMIT(1);
	EXPECT_RESULT(-EFAULT, WRITE);
	EXPECT_UNCHANGED(self->rx, &before);
	EXPECT_TEXT(self->rx, "abcdef");
	EXPECT_EMPTY(self->rx);
	munmap(page, 4096);
}

/* ---- Work that is waiting ------------------------------------------------ */

/*
 * Requests that are submitted behind this one, in the same call, run while the kernel
 * has work to do for the task: to its calls that looks like a signal.
 */
struct work {
	int rx;
	int tx;
};

static void work_new(struct __test_metadata *_metadata, struct uring *u,
		     struct work *w)
{
	ASSERT_EQ(0, umpsc_private(&w->rx, &w->tx));
	add_poll(u, w->rx, POLLIN, POLL);
	ASSERT_EQ(1, io_uring_submit(&u->ring));
	add_write(u, w->tx, "work", 4, WRITE);
}

static void work_end(struct __test_metadata *_metadata, struct uring *u,
		     struct work *w)
{
	expect_result(_metadata, __LINE__, u, 4, WRITE);
	expect_result(_metadata, __LINE__, u, POLLIN, POLL);
	close_fd(&w->rx);
	close_fd(&w->tx);
}

/* More than a read passes over between two looks at what waits. */
#define MANY_EMPTY 1000

TEST_LONG(channel, read_passes_over_empty_messages_while_work_is_waiting)
{
	struct umpsc_batch b = {};
	struct work work;
	int i, behind;

	for (i = 0; i < MANY_EMPTY; i++)
		umpsc_batch_add(&b, "", 0);
	for (behind = 0; behind < 2; behind++) {
		ASSERT_EQ(MANY_EMPTY, umpsc_batch_send(self->tx, &b));
		if (behind)
			EXPECT_WRITE(self->tx, "x");
		work_new(_metadata, &self->u, &work);
		add_read(&self->u, self->rx, self->buf, BUFFER, READ);
		SUBMIT(2);
		work_end(_metadata, &self->u, &work);
		if (!behind) {
			EXPECT_EQ(MANY_EMPTY, info_of(self->rx).received);
			EXPECT_QUIET();
			EXPECT_WRITE(self->tx, "x");
		}
		EXPECT_READ("x");
	}
	EXPECT_EMPTY(self->rx);
	umpsc_batch_free(&b);
}

struct stalled_read {
	struct stall stall;
	void *data; /* a page for it */
	int rx;
	pid_t other; /* who has to wait for this read */
	atomic_bool over;
};

static long stalled_read_fn(void *arg)
{
	struct stalled_read *r = arg;

	return read(r->rx, r->stall.map, 1);
}

/* Lets the read go on once the other waits. */
static long end_stall_fn(void *arg)
{
	struct stalled_read *r = arg;
	bool waited;

	waited = UMPSC_UNTIL(r->over ||
			     umpsc_is_asleep(r->other, SYS_io_uring_enter)) &&
		 !r->over;
	return stall_fill(&r->stall, r->data) && waited;
}

TEST_LONG(channel, read_waits_for_another_copy_while_work_is_waiting)
{
	struct stalled_read r = { .rx = self->rx, .other = getpid() };
	struct umpsc_thread reader, ender;
	struct work work;

	r.data = aligned_alloc(4096, 4096);
	ASSERT_NE(NULL, r.data);
	memset(r.data, UMPSC_POISON, 4096);
	ASSERT_TRUE(stall_new(&r.stall, 1)) TH_LOG("%s", strerror(errno));
	EXPECT_WRITE(self->tx, "a");
	EXPECT_WRITE(self->tx, "b");
	ASSERT_EQ(0, umpsc_thread_start(&reader, stalled_read_fn, &r));
	ASSERT_TRUE(stall_hit(&r.stall));

	work_new(_metadata, &self->u, &work);
	add_read(&self->u, self->rx, self->buf, BUFFER, READ);
	ASSERT_EQ(0, umpsc_thread_start(&ender, end_stall_fn, &r));
	SUBMIT(2);
	r.over = true;
	work_end(_metadata, &self->u, &work);
	EXPECT_READ("b");

	ASSERT_TRUE(umpsc_thread_join(&ender));
	EXPECT_TRUE(ender.ret);
	ASSERT_TRUE(umpsc_thread_join(&reader));
	EXPECT_EQ(1, reader.ret);
	EXPECT_EQ('a', r.stall.map[0]);
	stall_end(&r.stall);
	free(r.data);
	EXPECT_EMPTY(self->rx);
}

/* ---- Ends ---------------------------------------------------------------- */

TEST_LONG(channel, last_sender_ends_a_waiting_read_and_poll)
{
	START_READ();
	add_poll(&self->u, self->rx, ALL_EVENTS, POLL);
	add_poll(&self->u, self->rx, POLLRDHUP, POLL2);
	SUBMIT(2);
	EXPECT_QUIET();
	close_fd(&self->tx);
	EXPECT_RESULT(0, READ);
	EXPECT_RESULT(IN | HUP, POLL);
	EXPECT_EQ(POLLRDHUP, RESULT(POLL2).res & POLLRDHUP);
	EXPECT_TRUE(untouched(self->buf, BUFFER));
	add_read(&self->u, self->rx, self->buf, BUFFER, READ);
	SUBMIT(1);
	EXPECT_RESULT(0, READ);
}

TEST_LONG(channel, close_ends_a_waiting_read_and_poll)
{
	START_READ();
	add_poll(&self->u, self->rx, ALL_EVENTS, POLL);
	SUBMIT(1);
	EXPECT_QUIET();
	ASSERT_EQ(0, umpsc_close(self->rx));
	EXPECT_RESULT(0, READ);
	EXPECT_RESULT(IN | HUP, POLL);
	EXPECT_TRUE(untouched(self->buf, BUFFER));
}

TEST_LONG(channel, end_comes_after_what_was_sent)
{
	START_READ();
	EXPECT_WRITE(self->tx, "a");
	EXPECT_WRITE(self->tx, "b");
	close_fd(&self->tx);
	EXPECT_READ("a");
	add_read(&self->u, self->rx, self->buf, BUFFER, READ);
	SUBMIT(1);
	EXPECT_READ("b");
	add_read(&self->u, self->rx, self->buf, BUFFER, READ);
	SUBMIT(1);
	EXPECT_RESULT(0, READ);
}

TEST_LONG(channel, waiting_read_keeps_the_receiver_whose_fd_was_closed)
{
	START_READ();
	close_fd(&self->rx);
	EXPECT_EQ(UMPSC_STATE_CLAIMED, info_of(self->tx).state);
	EXPECT_WRITE(self->tx, "still here");
	EXPECT_READ("still here");
	/* It was the last to use the file. */
	EXPECT_TRUE(UMPSC_UNTIL(info_of(self->tx).state &
				UMPSC_STATE_RECEIVER_GONE));
	EXPECT_ERR(EPIPE, write(self->tx, "x", 1));
}

TEST_LONG(channel, waiting_poll_keeps_the_sender_whose_fd_was_closed)
{
	add_poll(&self->u, self->tx, POLLERR, POLL);
	SUBMIT(1);
	close_fd(&self->tx);
	EXPECT_QUIET();
	EXPECT_EQ(1, info_of(self->rx).strong);
	EXPECT_EMPTY(self->rx);
	START_READ();
	add_cancel(&self->u, POLL);
	SUBMIT(1);
	EXPECT_RESULT(0, CANCEL);
	EXPECT_RESULT(-ECANCELED, POLL);
	/* And so it goes, and the channel ends. */
	EXPECT_RESULT(0, READ);
	EXPECT_EQ(0, info_of(self->rx).strong);
	EXPECT_END(self->rx);
}

/* ---- poll ---------------------------------------------------------------- */

TEST_LONG(channel, poll_tells_of_a_message_once)
{
	add_poll(&self->u, self->rx, POLLIN, POLL);
	add_poll(&self->u, self->rx, ALL_EVENTS, POLL2);
	SUBMIT(2);
	EXPECT_QUIET();
	EXPECT_WRITE(self->tx, "a");
	EXPECT_EQ(0, EXPECT_RESULT(POLLIN, POLL).flags & IORING_CQE_F_MORE);
	EXPECT_RESULT(IN, POLL2);
	EXPECT_WRITE(self->tx, "b");
	EXPECT_QUIET();
	/* There already. */
	add_poll(&self->u, self->rx, POLLIN, POLL);
	SUBMIT(1);
	EXPECT_RESULT(POLLIN, POLL);
	EXPECT_EQ(2, info_of(self->rx).messages);
}

TEST_LONG(channel, poll_of_a_sender_tells_of_close)
{
	int weak = ASSERT_FD(umpsc_downgrade(self->tx, 0));

	add_poll(&self->u, self->tx, POLLOUT, POLL);
	SUBMIT(1);
	EXPECT_RESULT(POLLOUT, POLL);
	add_poll(&self->u, self->tx, 0, POLL);
	add_poll(&self->u, weak, 0, POLL2);
	SUBMIT(2);
	EXPECT_QUIET();
	ASSERT_EQ(0, umpsc_close(self->rx));
	EXPECT_RESULT(POLLERR, POLL);
	EXPECT_RESULT(POLLERR, POLL2);
	add_poll(&self->u, self->tx, ALL_EVENTS, POLL);
	SUBMIT(1);
	EXPECT_RESULT(POLLERR, POLL);
	close(weak);
}

TEST_LONG(channel, poll_of_a_sender_tells_that_the_receiver_has_gone)
{
	add_poll(&self->u, self->tx, POLLERR, POLL);
	SUBMIT(1);
	EXPECT_QUIET();
	close_fd(&self->rx);
	EXPECT_RESULT(POLLERR, POLL);
}

TEST_LONG(channel, poll_of_a_weak_sender_tells_of_the_last_drop)
{
	int weak = ASSERT_FD(umpsc_downgrade(self->tx, 0));

	add_poll(&self->u, weak, 0, POLL);
	SUBMIT(1);
	EXPECT_QUIET();
	close_fd(&self->tx);
	EXPECT_RESULT(POLLHUP, POLL);
	close(weak);
}

TEST_LONG(channel, poll_of_a_manager_is_err)
{
	int manager = ASSERT_FD(umpsc_open_manager());

	add_poll(&self->u, manager, POLLIN, POLL);
	SUBMIT(1);
	EXPECT_RESULT(POLLERR, POLL);
	close(manager);
}

/* Takes what is there, to EAGAIN or only so much: how many. */
static int drain(int rx, bool to_eagain)
{
	alignas(8) unsigned char buf[1024];
	int n = 0;

	if (!to_eagain)
		return umpsc_recv(rx, buf, sizeof(buf), 8, 0, NULL, NULL);
	while (read(rx, buf, sizeof(buf)) == 1)
		n++;
	return errno == EAGAIN ? n : -1;
}

static void spin(unsigned int n)
{
	while (n--)
		atomic_signal_fence(memory_order_seq_cst);
}

/* As an edge-triggered reader: it takes all that there is, and waits for the next. */
TEST_LONG(channel, multishot_poll_sees_arrivals_after_the_queue_was_drained)
{
	struct result r;
	int i, n, burst;

	ASSERT_EQ(0, fcntl(self->rx, F_SETFL, O_NONBLOCK));
	add_poll_multishot(&self->u, self->rx, POLLIN, POLL);
	SUBMIT(1);
	EXPECT_QUIET();
	for (i = 0; i < ROUNDS; i++) {
		burst = 1 + i % 3;
		for (n = 0; n < burst; n++)
			EXPECT_WRITE(self->tx, "x");
		r = RESULT(POLL);
		ASSERT_EQ(POLLIN, r.res)
		{
			TH_LOG("round %d", i);
		}
		ASSERT_NE(0, r.flags & IORING_CQE_F_MORE);
		ASSERT_EQ(burst, drain(self->rx, i / 3 % 2));
		/* Events of what was taken with the first. */
		io_uring_get_events(&self->u.ring);
		while (io_uring_cq_ready(&self->u.ring))
			ASSERT_EQ(POLLIN, RESULT(POLL).res);
	}
	EXPECT_QUIET();
}

/* One that takes a message an event; taking it is a look. */
TEST_LONG(channel, multishot_poll_sees_arrivals_behind_a_backlog)
{
	int i;

	for (i = 0; i < 3; i++)
		EXPECT_WRITE(self->tx, "x");
	add_poll_multishot(&self->u, self->rx, POLLIN, POLL);
	SUBMIT(1);
	EXPECT_RESULT(POLLIN, POLL);
	for (i = 0; i < 50; i++) {
		EXPECT_QUIET();
		EXPECT_WRITE(self->tx, "x");
		ASSERT_EQ(POLLIN, RESULT(POLL).res);
		EXPECT_TEXT(self->rx, "x");
	}
	EXPECT_QUIET();
	EXPECT_EQ(3, info_of(self->rx).messages);
}

#define PACED 2000

struct pacer {
	struct umpsc_thread t;
	int tx;
};

/* Sends at moments that drift against the reader's. */
static long pacer_fn(void *arg)
{
	struct pacer *p = arg;
	int i;

	for (i = 0; i < PACED; i++) {
		spin(i * 7919 % 100000);
		if (write(p->tx, "x", 1) != 1)
			break;
	}
	return i;
}

/* An arrival at any moment of the reader's turn is seen: else it waits for ever. */
TEST_LONG(channel, multishot_poll_sees_arrivals_from_another_cpu)
{
	struct io_uring_params params = { .flags = IORING_SETUP_CQSIZE,
					  .cq_entries = 2 * PACED };
	struct pacer p = { .tx = self->tx };
	int n, got = 0, events = 0;
	struct result r;

	/* The poll ends when its events have no room, as a slow reader finds. */
	uring_exit(&self->u);
	ASSERT_EQ(0,
		  io_uring_queue_init_params(ENTRIES, &self->u.ring, &params));
	self->u.live = true;
	ASSERT_EQ(0, fcntl(self->rx, F_SETFL, O_NONBLOCK));
	add_poll_multishot(&self->u, self->rx, POLLIN, POLL);
	SUBMIT(1);
	ASSERT_EQ(0, umpsc_thread_start(&p.t, pacer_fn, &p));
	while (got < PACED) {
		r = RESULT(POLL);
		ASSERT_EQ(POLLIN, r.res);
		ASSERT_NE(0, r.flags & IORING_CQE_F_MORE);
		events++;
		while ((n = drain(self->rx, true)) > 0)
			got += n;
		ASSERT_EQ(0, n);
	}
	ASSERT_TRUE(umpsc_thread_join(&p.t));
	EXPECT_EQ(PACED, p.t.ret);
	EXPECT_EQ(PACED, got);
	TH_LOG("%d events of %d messages", events, PACED);
	/* Else they never met, as one was through before the other began. */
	EXPECT_LT(1, events);
}

TEST_LONG(channel, multishot_poll_sees_the_end)
{
	struct result r;

	add_poll_multishot(&self->u, self->rx, POLLIN, POLL);
	add_poll_multishot(&self->u, self->tx, 0, POLL2);
	SUBMIT(2);
	EXPECT_QUIET();
	EXPECT_WRITE(self->tx, "x");
	r = EXPECT_RESULT(POLLIN, POLL);
	EXPECT_NE(0, r.flags & IORING_CQE_F_MORE);
	EXPECT_QUIET();
	ASSERT_EQ(0, umpsc_close(self->rx));
	EXPECT_EQ(POLLIN | POLLHUP, RESULT(POLL).res & (POLLIN | POLLHUP));
	EXPECT_RESULT(POLLERR, POLL2);
}

/* ---- Time-outs and cancellation ------------------------------------------ */

TEST_LONG(channel, linked_time_out_consumes_nothing)
{
	struct __kernel_timespec ts = { .tv_nsec = 2000000 };
	struct umpsc_info before = info_of(self->rx);
	int i;

	for (i = 0; i < 10; i++) {
		add_read(&self->u, self->rx, self->buf, BUFFER, READ)->flags |=
			IOSQE_IO_LINK;
		add_link_timeout(&self->u, &ts);
		SUBMIT(2);
		EXPECT_RESULT(-ECANCELED, READ);
		EXPECT_RESULT(-ETIME, TIMER);
	}
	EXPECT_UNCHANGED(self->rx, &before);
	EXPECT_WRITE(self->tx, "later");
	EXPECT_QUIET();
	EXPECT_TEXT(self->rx, "later");
	EXPECT_TRUE(untouched(self->buf, BUFFER));
}

TEST_LONG(channel, linked_time_out_goes_when_a_message_comes)
{
	struct __kernel_timespec ts = { .tv_sec = 10 * UMPSC_PATIENCE };

	add_read(&self->u, self->rx, self->buf, BUFFER, READ)->flags |=
		IOSQE_IO_LINK;
	add_link_timeout(&self->u, &ts);
	SUBMIT(2);
	EXPECT_QUIET();
	EXPECT_WRITE(self->tx, "in time");
	EXPECT_READ("in time");
	EXPECT_RESULT(-ECANCELED, TIMER);
}

TEST_LONG(channel, cancelled_read_consumes_nothing)
{
	struct umpsc_info before = info_of(self->rx);
	int i;

	for (i = 0; i < 10; i++) {
		START_READ();
		add_cancel(&self->u, READ);
		SUBMIT(1);
		EXPECT_RESULT(0, CANCEL);
		EXPECT_RESULT(-ECANCELED, READ);
	}
	EXPECT_UNCHANGED(self->rx, &before);
	EXPECT_WRITE(self->tx, "later");
	EXPECT_QUIET();
	EXPECT_TEXT(self->rx, "later");
	EXPECT_TRUE(untouched(self->buf, BUFFER));
}

TEST_LONG(channel, cancelled_poll_is_over)
{
	add_poll(&self->u, self->rx, POLLIN, POLL);
	add_poll_multishot(&self->u, self->rx, POLLIN, POLL2);
	SUBMIT(2);
	add_cancel(&self->u, POLL);
	SUBMIT(1);
	EXPECT_RESULT(0, CANCEL);
	EXPECT_RESULT(-ECANCELED, POLL);
	add_cancel(&self->u, POLL2);
	SUBMIT(1);
	EXPECT_RESULT(0, CANCEL);
	EXPECT_EQ(0,
		  EXPECT_RESULT(-ECANCELED, POLL2).flags & IORING_CQE_F_MORE);
	EXPECT_WRITE(self->tx, "x");
	EXPECT_QUIET();
	EXPECT_TEXT(self->rx, "x");
}

/* Sends a message, up to @k turns later than the others. */
static void send_one(struct racer *r)
{
	race_moment(&r->seed, r->k);
	r->ret = write(r->fd, "x", 1);
}

/* One message was sent while the read was being ended: was it done? */
static bool done_or_took_nothing(struct __test_metadata *_metadata, int rx,
				 int res, char *buf)
{
	if (res == 1) {
		EXPECT_EQ('x', buf[0]);
		EXPECT_TRUE(untouched(buf + 1, BUFFER - 1));
	} else {
		ASSERT_EQ(-ECANCELED, res);
		EXPECT_TRUE(untouched(buf, BUFFER));
		EXPECT_TEXT(rx, "x");
	}
	EXPECT_EMPTY(rx);
	return res == 1;
}

TEST_LONG(channel, read_cancelled_as_a_message_comes_is_done_or_took_nothing)
{
	unsigned int done = 0;
	__u64 later = 1000;
	struct racer r = {};
	struct race race;
	bool was_done;
	int res;

	ASSERT_TRUE(race_begin(&race, &r, 1, send_one));
	race.least = ROUNDS;
	while (race_next_until(&race, done && done < race.rounds)) {
		r.fd = self->tx;
		r.k = later;
		START_READ();
		add_cancel(&self->u, READ);
		race_go(&race);
		SUBMIT(1);
		RESULT(CANCEL);
		res = RESULT(READ).res;
		race_wait(&race);
		ASSERT_EQ(1, r.ret);
		was_done = done_or_took_nothing(_metadata, self->rx, res,
						self->buf);
		done += was_done;
		race_was(&race, !was_done);
		race_tune(&later, was_done);
	}
	ASSERT_TRUE(race_end(&race, &r));
	TH_LOG("%u of %u were done", done, race.rounds);
	EXPECT_EQ(race.rounds, info_of(self->rx).received);
	EXPECT_LT(0, done);
	EXPECT_LT(done, race.rounds);
}

TEST_LONG(channel, read_timed_out_as_a_message_comes_is_done_or_took_nothing)
{
	struct __kernel_timespec ts = {};
	__u64 timeout = 100000, later = 100000;
	unsigned int done = 0;
	struct racer r = {};
	struct race race;
	bool was_done;
	int res;

	ASSERT_TRUE(race_begin(&race, &r, 1, send_one));
	race.least = ROUNDS;
	/* Here the time-out is what varies. */
	race.delay = 1;
	while (race_next_until(&race, done && done < race.rounds)) {
		r.fd = self->tx;
		r.k = later;
		memset(self->buf, UMPSC_POISON, BUFFER);
		ts.tv_nsec = 1 + umpsc_random(&race.seed) % timeout;
		add_read(&self->u, self->rx, self->buf, BUFFER, READ)->flags |=
			IOSQE_IO_LINK;
		add_link_timeout(&self->u, &ts);
		race_go(&race);
		SUBMIT(2);
		res = RESULT(READ).res;
		EXPECT_GT(0, RESULT(TIMER).res);
		race_wait(&race);
		ASSERT_EQ(1, r.ret);
		was_done = done_or_took_nothing(_metadata, self->rx, res,
						self->buf);
		done += was_done;
		race_tune(&timeout, !was_done);
		race_tune(&later, was_done);
	}
	ASSERT_TRUE(race_end(&race, &r));
	TH_LOG("%u of %u were done", done, race.rounds);
	EXPECT_EQ(race.rounds, info_of(self->rx).received);
	EXPECT_LT(0, done);
	EXPECT_LT(done, race.rounds);
}

/* ---- Registered files and buffers ---------------------------------------- */

TEST_LONG(channel, fixed_files_and_buffers)
{
	char out[4096], in[4096];
	struct iovec bufs[] = { { out, sizeof(out) }, { in, sizeof(in) } };
	int files[] = { self->rx, self->tx };
	struct io_uring_sqe *sqe;
	int i;

	ASSERT_EQ(0, io_uring_register_files(&self->u.ring, files, 2));
	ASSERT_EQ(0, io_uring_register_buffers(&self->u.ring, bufs, 2));
	for (i = 0; i < 20; i++) {
		umpsc_fill(out, sizeof(out), i);
		memset(in, UMPSC_POISON, sizeof(in));
		sqe = request(&self->u);
		io_uring_prep_read_fixed(sqe, 0, in + i, 3000, -1, 1);
		sqe->flags |= IOSQE_FIXED_FILE;
		sqe->user_data = READ;
		sqe = add_poll(&self->u, 0, POLLIN, POLL);
		sqe->flags |= IOSQE_FIXED_FILE;
		SUBMIT(2);
		EXPECT_QUIET();
		sqe = request(&self->u);
		io_uring_prep_write_fixed(sqe, 1, out, 2000 + i, -1, 0);
		sqe->flags |= IOSQE_FIXED_FILE;
		sqe->user_data = WRITE;
		SUBMIT(1);
		EXPECT_RESULT(2000 + i, WRITE);
		EXPECT_RESULT(2000 + i, READ);
		EXPECT_EQ(0, memcmp(in + i, out, 2000 + i));
		EXPECT_TRUE(untouched(in, i));
		EXPECT_TRUE(untouched(in + 2000 + 2 * i, 2000));
		/* The read may have been first; then the poll still waits. */
		EXPECT_WRITE(self->tx, "x");
		EXPECT_RESULT(POLLIN, POLL);
		EXPECT_TEXT(self->rx, "x");
	}
	/* A part into a registered buffer. */
	ASSERT_EQ(4096, write(self->tx, out, 4096));
	for (i = 0; i < 4096; i += 1024) {
		sqe = request(&self->u);
		io_uring_prep_read_fixed(sqe, 0, in + i, 1024, -1, 1);
		sqe->flags |= IOSQE_FIXED_FILE;
		sqe->user_data = READ;
		SUBMIT(1);
		EXPECT_RESULT(1024, READ);
	}
	EXPECT_EQ(0, memcmp(in, out, 4096));
	EXPECT_EMPTY(self->rx);
	EXPECT_EQ(0, count_workers());
}

/* Linux 6.1 waits for who still uses a file, and a signal ends that. */
static int unregister_files(struct uring *u)
{
	int ret;

	do {
		ret = io_uring_unregister_files(&u->ring);
	} while (ret == -EINTR);
	return ret;
}

TEST_LONG(channel, registered_file_keeps_its_handle)
{
	ASSERT_EQ(0, io_uring_register_files(&self->u.ring, &self->tx, 1));
	close_fd(&self->tx);
	EXPECT_EQ(1, info_of(self->rx).strong);
	add_write(&self->u, 0, "x", 1, WRITE)->flags |= IOSQE_FIXED_FILE;
	SUBMIT(1);
	EXPECT_RESULT(1, WRITE);
	EXPECT_TEXT(self->rx, "x");
	EXPECT_EMPTY(self->rx);
	START_READ();
	ASSERT_EQ(0, unregister_files(&self->u));
	EXPECT_RESULT(0, READ);
	EXPECT_EQ(0, info_of(self->rx).strong);
}

/* ---- The ring goes -------------------------------------------------------- */

TEST_LONG(channel, ring_that_goes_leaves_nothing_behind)
{
	int manager = ASSERT_FD(umpsc_open_manager());
	int weak = ASSERT_FD(umpsc_downgrade(self->tx, 0));
	struct umpsc_info before;
	__u64 channels = module_channels(manager);
	long refs = umpsc_module_refs();

	ASSERT_LE(0, refs);
	/* A registered file goes last of all, and INFO tells. */
	ASSERT_EQ(0, io_uring_register_files(&self->u.ring, &weak, 1));
	close_fd(&weak);
	EXPECT_EQ(1, info_of(self->rx).weak);
	START_READ();
	add_poll_multishot(&self->u, self->rx, POLLIN, POLL);
	add_poll(&self->u, self->tx, POLLERR, POLL2);
	SUBMIT(2);
	EXPECT_QUIET();
	before = info_of(self->rx);
	before.weak = 0;
	uring_exit(&self->u);
	ASSERT_TRUE(UMPSC_UNTIL(info_of(self->rx).weak == 0));
	EXPECT_UNCHANGED(self->rx, &before);
	EXPECT_WRITE(self->tx, "later");
	EXPECT_TEXT(self->rx, "later");
	EXPECT_EMPTY(self->rx);
	EXPECT_TRUE(untouched(self->buf, BUFFER));
	close_fd(&self->rx);
	EXPECT_POLL(POLLERR, self->tx);
	EXPECT_TRUE(info_of(self->tx).state & UMPSC_STATE_RECEIVER_GONE);
	close_fd(&self->tx);
	/* The receiver, the sender and the weak one. */
	EXPECT_TRUE(UMPSC_UNTIL(umpsc_module_refs() == refs - 3));
	EXPECT_TRUE(UMPSC_UNTIL(module_channels(manager) == channels - 1));
	close(manager);
}

TEST_LONG(channel, ring_that_goes_lets_go_of_closed_files)
{
	START_READ();
	close_fd(&self->rx);
	uring_exit(&self->u);
	EXPECT_TRUE(UMPSC_UNTIL(info_of(self->tx).state &
				UMPSC_STATE_RECEIVER_GONE));
	EXPECT_POLL(POLLERR, self->tx);
	EXPECT_ERR(EPIPE, write(self->tx, "x", 1));
}

/* Submits what waits, says so on @ready, and stays. */
static void wait_to_be_killed(int rx, int tx, int ready)
{
	static char buf[BUFFER];
	static struct uring u;

	if (io_uring_queue_init(8, &u.ring, 0))
		_exit(1);
	add_read(&u, rx, buf, BUFFER, READ);
	add_poll_multishot(&u, rx, POLLIN, POLL);
	add_poll(&u, tx, POLLERR, POLL2);
	if (io_uring_submit(&u.ring) != 3 || write(ready, "r", 1) != 1)
		_exit(1);
	umpsc_hang();
}

#define NODE "uring-test"

/*
 * A ring's files are closed by a kernel thread, which leaves a backlog to another, and
 * that must not need anything that is gone by then: not the last handle, not the node.
 */
TEST_LONG(channel, backlog_that_a_ring_lets_go_of_is_freed_by_itself)
{
	int manager = ASSERT_FD(umpsc_open_manager()), i, node;
	struct umpsc_query before, q;
	struct umpsc_batch b = {};

	for (i = 0; i < 100; i++)
		umpsc_batch_add(&b, "message", i % 8);
	for (node = 0; node < 2; node++) {
		close_fd(&self->rx);
		close_fd(&self->tx);
		uring_exit(&self->u);
		umpsc_node_remove(NODE);
		ASSERT_EQ(0, umpsc_query(manager, &before));
		if (node) {
			ASSERT_EQ(0, umpsc_node_create(NODE, 0, NULL));
			self->rx = ASSERT_FD(umpsc_open(NODE, O_RDONLY));
			self->tx = ASSERT_FD(umpsc_open(NODE, O_WRONLY));
			ASSERT_EQ(0, umpsc_node_remove(NODE));
		} else {
			ASSERT_EQ(0, umpsc_private(&self->rx, &self->tx));
		}
		for (i = 0; i < 1000; i++)
			ASSERT_EQ(100, umpsc_batch_send(self->tx, &b));
		ASSERT_EQ(0, io_uring_queue_init(ENTRIES, &self->u.ring, 0));
		self->u.live = true;
		ASSERT_EQ(0,
			  io_uring_register_files(&self->u.ring, &self->rx, 1));
		close_fd(&self->rx);
		uring_exit(&self->u);
		/* Now it is being freed; and no handle is left. */
		EXPECT_TRUE(UMPSC_UNTIL(info_of(self->tx).state &
					UMPSC_STATE_RECEIVER_GONE));
		close_fd(&self->tx);
		EXPECT_TRUE(UMPSC_UNTIL(!umpsc_query(manager, &q) &&
					q.channels == before.channels));
		EXPECT_EQ(before.messages, q.messages);
		EXPECT_EQ(before.bytes, q.bytes);
	}
	umpsc_batch_free(&b);
	close(manager);
}

TEST_LONG(channel, killed_process_consumes_nothing)
{
	struct umpsc_info before;
	struct pollfd pfd;
	int ready[2];
	pid_t child;
	char byte;

	ASSERT_EQ(0, pipe2(ready, O_CLOEXEC));
	child = fork();
	ASSERT_LE(0, child);
	if (!child)
		wait_to_be_killed(self->rx, self->tx, ready[1]);
	close(ready[1]);
	pfd = (struct pollfd){ .fd = ready[0], .events = POLLIN };
	ASSERT_EQ(1, umpsc_poll_fds(&pfd, 1, UMPSC_PATIENCE * 1000));
	ASSERT_EQ(1, read(ready[0], &byte, 1));
	before = info_of(self->rx);
	ASSERT_EQ(0, kill(child, SIGKILL));
	EXPECT_EQ(SIGKILL, umpsc_wait_child(child));
	EXPECT_UNCHANGED(self->rx, &before);
	EXPECT_WRITE(self->tx, "later");
	EXPECT_TEXT(self->rx, "later");
	EXPECT_EMPTY(self->rx);
	/* Its references have gone too. */
	close_fd(&self->tx);
	EXPECT_TRUE(UMPSC_UNTIL(info_of(self->rx).strong == 0));
	EXPECT_END(self->rx);
	close(ready[0]);
}

/* ---- Provided buffers, multishot read -------------------------------------- */

/* Buffer @id of those that the ring picks from. */
#define PROVIDED 4
#define GROUP 7

static char provided[PROVIDED][BUFFER];

/* Gives the ring @n buffers of @len bytes, from @id on. */
static void provide(struct __test_metadata *_metadata, struct uring *u,
		    unsigned int id, unsigned int n, unsigned int len)
{
	struct io_uring_sqe *sqe;
	unsigned int i;

	for (i = id; i < id + n; i++) {
		memset(provided[i], UMPSC_POISON, BUFFER);
		sqe = request(u);
		io_uring_prep_provide_buffers(sqe, provided[i], len, 1, GROUP,
					      i);
		sqe->user_data = PROVIDE;
	}
	ASSERT_EQ(n, io_uring_submit(&u->ring));
	for (i = 0; i < n; i++)
		expect_result(_metadata, __LINE__, u, 0, PROVIDE);
}

/* The read's next completion is @text, in one of the provided buffers, whose id is returned. */
static unsigned int expect_provided(struct __test_metadata *_metadata, int line,
				    struct uring *u, const char *text,
				    unsigned int more)
{
	struct result r = expect_result(_metadata, line, u, strlen(text), READ);
	unsigned int id = r.flags >> IORING_CQE_BUFFER_SHIFT;

	EXPECT_EQ(more, r.flags & IORING_CQE_F_MORE)
	{
		TH_LOG("... with '%s', line %d", text, line);
	}
	ASSERT_NE(0, r.flags & IORING_CQE_F_BUFFER)
	{
		TH_LOG("... with '%s', line %d", text, line);
	}
	ASSERT_GT(PROVIDED, id);
	expect_text(_metadata, line, text, provided[id]);
	return id;
}

#define EXPECT_PROVIDED(text) \
	expect_provided(_metadata, __LINE__, &self->u, text, 0)
#define EXPECT_MULTISHOT(text) \
	expect_provided(_metadata, __LINE__, &self->u, text, IORING_CQE_F_MORE)

TEST_LONG(channel, read_into_a_provided_buffer)
{
	struct io_uring_sqe *sqe;

	provide(_metadata, &self->u, 0, 1, BUFFER);
	sqe = add_read(&self->u, self->rx, NULL, BUFFER, READ);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = GROUP;
	SUBMIT(1);
	EXPECT_QUIET();
	EXPECT_WRITE(self->tx, "one");
	EXPECT_EQ(0, EXPECT_PROVIDED("one"));
	/* None left: the message stays. */
	EXPECT_WRITE(self->tx, "two");
	sqe = add_read(&self->u, self->rx, NULL, BUFFER, READ);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = GROUP;
	SUBMIT(1);
	EXPECT_RESULT(-ENOBUFS, READ);
	EXPECT_TEXT(self->rx, "two");
}

static bool has_multishot_read(struct uring *u)
{
	struct io_uring_probe *probe = io_uring_get_probe_ring(&u->ring);
	bool has = probe && io_uring_opcode_supported(probe, OP_READ_MULTISHOT);

	io_uring_free_probe(probe);
	return has;
}

#define NO_MULTISHOT_READ "multishot read came with 6.7"

static struct io_uring_sqe *add_multishot_read(struct uring *u, int fd)
{
	struct io_uring_sqe *sqe = add_read(u, fd, NULL, 0, READ);

	sqe->opcode = OP_READ_MULTISHOT;
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = GROUP;
	return sqe;
}

TEST_LONG(channel, multishot_read_gives_each_message_a_buffer)
{
	static const char *const text[] = { "a", "bb", "ccc" };
	unsigned int id;
	int i;

	if (!has_multishot_read(&self->u))
		SKIP(return, NO_MULTISHOT_READ);
	provide(_metadata, &self->u, 0, PROVIDED, BUFFER);
	/* What is there, and what comes: one alone, or several. */
	EXPECT_WRITE(self->tx, "first");
	EXPECT_WRITE(self->tx, "second");
	add_multishot_read(&self->u, self->rx);
	SUBMIT(1);
	id = EXPECT_MULTISHOT("first");
	provide(_metadata, &self->u, id, 1, BUFFER);
	id = EXPECT_MULTISHOT("second");
	provide(_metadata, &self->u, id, 1, BUFFER);
	EXPECT_QUIET();
	for (i = 0; i < ROUNDS; i++) {
		EXPECT_WRITE(self->tx, text[i % 3]);
		if (i % 2)
			EXPECT_WRITE(self->tx, "and");
		id = EXPECT_MULTISHOT(text[i % 3]);
		provide(_metadata, &self->u, id, 1, BUFFER);
		if (i % 2) {
			id = EXPECT_MULTISHOT("and");
			provide(_metadata, &self->u, id, 1, BUFFER);
		}
		EXPECT_QUIET();
	}
	EXPECT_EMPTY(self->rx);
	EXPECT_EQ(0, count_workers());
}

#define BEHIND_ROUNDS 500

/* Sends a message behind many empty ones, and waits until it was received. */
struct behind {
	int tx;
	int go;
};

static long behind_fn(void *arg)
{
	struct behind *behind = arg;
	struct umpsc_batch b = {};
	char received;
	int i;

	for (i = 0; i < MANY_EMPTY; i++)
		umpsc_batch_add(&b, "", 0);
	for (i = 0; i < BEHIND_ROUNDS; i++)
		if (umpsc_batch_send(behind->tx, &b) != MANY_EMPTY ||
		    write(behind->tx, "x", 1) != 1 ||
		    read(behind->go, &received, 1) != 1)
			break;
	umpsc_batch_free(&b);
	return i;
}

TEST_LONG(channel, multishot_read_sees_what_comes_behind_empty_messages)
{
	struct behind behind = { .tx = self->tx };
	struct umpsc_thread t;
	unsigned int id;
	int go[2], i;

	if (!has_multishot_read(&self->u))
		SKIP(return, NO_MULTISHOT_READ);
	provide(_metadata, &self->u, 0, PROVIDED, BUFFER);
	add_multishot_read(&self->u, self->rx);
	SUBMIT(1);
	ASSERT_EQ(0, pipe2(go, O_CLOEXEC));
	behind.go = go[0];
	ASSERT_EQ(0, umpsc_thread_start(&t, behind_fn, &behind));
	for (i = 0; i < BEHIND_ROUNDS; i++) {
		id = EXPECT_MULTISHOT("x");
		provide(_metadata, &self->u, id, 1, BUFFER);
		ASSERT_EQ(1, write(go[1], "", 1));
	}
	ASSERT_TRUE(umpsc_thread_join(&t));
	EXPECT_EQ(BEHIND_ROUNDS, t.ret);
	EXPECT_EMPTY(self->rx);
	close(go[0]);
	close(go[1]);
}

static void signal_ignored(int signal)
{
}

/* A multiple of so many as a read passes over between two looks for signals. */
TEST_LONG(channel, multishot_read_passes_over_empty_messages_while_signals_come)
{
	struct sigaction action = {
		.sa_handler = signal_ignored,
		.sa_flags = SA_RESTART,
	};
	struct itimerval every = {
		.it_interval.tv_usec = 100,
		.it_value.tv_usec = 100,
	};
	struct umpsc_batch b = {};
	unsigned int id;
	int i;

	if (!has_multishot_read(&self->u))
		SKIP(return, NO_MULTISHOT_READ);
	provide(_metadata, &self->u, 0, PROVIDED, BUFFER);
	for (i = 0; i < 64; i++)
		umpsc_batch_add(&b, "", 0);
	add_multishot_read(&self->u, self->rx);
	SUBMIT(1);
	ASSERT_EQ(0, sigaction(SIGALRM, &action, NULL));
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &every, NULL));
	for (i = 0; i < 5 * ROUNDS; i++) {
		ASSERT_EQ(64, umpsc_batch_send(self->tx, &b));
		EXPECT_WRITE(self->tx, "x");
		id = EXPECT_MULTISHOT("x");
		provide(_metadata, &self->u, id, 1, BUFFER);
	}
	every.it_value.tv_usec = 0;
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &every, NULL));
	EXPECT_EMPTY(self->rx);
	umpsc_batch_free(&b);
}

TEST_LONG(channel, multishot_read_ends_with_the_channel)
{
	if (!has_multishot_read(&self->u))
		SKIP(return, NO_MULTISHOT_READ);
	provide(_metadata, &self->u, 0, PROVIDED, BUFFER);
	add_multishot_read(&self->u, self->rx);
	SUBMIT(1);
	EXPECT_QUIET();
	EXPECT_WRITE(self->tx, "last");
	close_fd(&self->tx);
	EXPECT_MULTISHOT("last");
	EXPECT_EQ(0, EXPECT_RESULT(0, READ).flags & IORING_CQE_F_MORE);
	EXPECT_END(self->rx);
}

TEST_LONG(channel, multishot_read_hands_a_long_message_out_in_parts)
{
	if (!has_multishot_read(&self->u))
		SKIP(return, NO_MULTISHOT_READ);
	provide(_metadata, &self->u, 0, PROVIDED, 4);
	add_multishot_read(&self->u, self->rx);
	SUBMIT(1);
	EXPECT_WRITE(self->tx, "abcdefg");
	EXPECT_WRITE(self->tx, "h");
	EXPECT_MULTISHOT("abcd");
	EXPECT_MULTISHOT("efg");
	EXPECT_MULTISHOT("h");
	EXPECT_QUIET();
	EXPECT_EMPTY(self->rx);
}

TEST_LONG(channel, multishot_read_without_a_buffer_left_consumes_nothing)
{
	if (!has_multishot_read(&self->u))
		SKIP(return, NO_MULTISHOT_READ);
	provide(_metadata, &self->u, 0, 2, BUFFER);
	add_multishot_read(&self->u, self->rx);
	SUBMIT(1);
	EXPECT_WRITE(self->tx, "a");
	EXPECT_WRITE(self->tx, "b");
	EXPECT_WRITE(self->tx, "c");
	EXPECT_MULTISHOT("a");
	EXPECT_MULTISHOT("b");
	EXPECT_EQ(0, EXPECT_RESULT(-ENOBUFS, READ).flags & IORING_CQE_F_MORE);
	EXPECT_QUIET();
	EXPECT_EQ(1, info_of(self->rx).messages);
	/* With new ones it goes on. */
	provide(_metadata, &self->u, 2, 2, BUFFER);
	add_multishot_read(&self->u, self->rx);
	SUBMIT(1);
	EXPECT_MULTISHOT("c");
	EXPECT_EMPTY(self->rx);
}

TEST_LONG(channel, multishot_read_cancelled_consumes_nothing)
{
	if (!has_multishot_read(&self->u))
		SKIP(return, NO_MULTISHOT_READ);
	provide(_metadata, &self->u, 0, PROVIDED, BUFFER);
	add_multishot_read(&self->u, self->rx);
	SUBMIT(1);
	EXPECT_WRITE(self->tx, "a");
	EXPECT_MULTISHOT("a");
	add_cancel(&self->u, READ);
	SUBMIT(1);
	EXPECT_RESULT(0, CANCEL);
	EXPECT_EQ(0, EXPECT_RESULT(-ECANCELED, READ).flags & IORING_CQE_F_MORE);
	EXPECT_WRITE(self->tx, "later");
	EXPECT_QUIET();
	EXPECT_TEXT(self->rx, "later");
}

TEST_HARNESS_MAIN
