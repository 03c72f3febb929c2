// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who is stopped: by a signal, a tracer or a task of higher priority, or for ever.
 * Nobody has to wait for him, and what he did not complete did not happen.
 */
#include "umpsc_cpu.h"
#include "umpsc_stall.h"

#include <sys/ptrace.h>

#define LARGE (1 << 20)

/* What the test and its children tell each other. */
struct shared {
	/* A child's sends or receives: odd in the middle of one. */
	atomic_ulong turn[2];
	atomic_bool ready[2];
	/* The task of higher priority has the CPU. */
	atomic_bool busy;
	atomic_bool stop;
	atomic_ulong done;
	unsigned char data[2 * LARGE];
};

FIXTURE(channel)
{
	int rx;
	int tx;
	struct umpsc_query before;
	struct shared *shared;
};

FIXTURE_SETUP(channel)
{
	int manager = ASSERT_FD(umpsc_open_manager());

	ASSERT_EQ(0, umpsc_query(manager, &self->before));
	close(manager);
	ASSERT_EQ(0, umpsc_private(&self->rx, &self->tx));
	self->shared = mmap(NULL, sizeof(*self->shared), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->shared);
}

FIXTURE_TEARDOWN(channel)
{
	int manager = ASSERT_FD(umpsc_open_manager());
	struct umpsc_query q;

	close(self->rx);
	close(self->tx);
	EXPECT_TRUE(UMPSC_UNTIL(!umpsc_query(manager, &q) &&
				q.memory == self->before.memory))
	TH_LOG("%llu bytes, not %llu", q.memory, self->before.memory);
	EXPECT_EQ(self->before.channels, q.channels);
	EXPECT_EQ(self->before.messages, q.messages);
	EXPECT_EQ(self->before.bytes, q.bytes);
	close(manager);
}

static void set_nonblock(int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* ---- Stopped in the middle of large messages ---------------------------------- */

/* The first word of a message: whose it is, 2 for the test's own, and his how-manieth. */
#define MARK(who, n) ((__u64)(who) << 56 | (n))
#define OWN 2

/* A child: sends large messages, by write and SEND in turn. */
static int send_large(int tx, int who, struct shared *shared)
{
	struct umpsc_batch b = {};
	unsigned char *payload;
	__u64 n, word;
	long ret = 1;

	umpsc_fill(shared->data + who * LARGE, LARGE, who);
	umpsc_batch_add(&b, shared->data + who * LARGE, LARGE);
	payload = b.data + UMPSC_RECORD_HDR;
	shared->ready[who] = true;
	for (n = 0; ret > 0 && !shared->stop; n++) {
		word = MARK(who, n);
		memcpy(payload, &word, sizeof(word));
		shared->turn[who]++;
		ret = n % 2 ? write(tx, payload, LARGE) :
			      umpsc_batch_send(tx, &b);
		shared->turn[who]++;
	}
	return !n || ret == (n % 2 ? 1 : LARGE) ? 0 : 1;
}

/* What has come out. */
struct seen {
	unsigned char *buf;
	__u64 next[2];
	bool own;
	bool wrong;
};

static void see(struct seen *s, const struct umpsc_record *r)
{
	const unsigned char *data = umpsc_record_data(r);
	__u64 word;
	size_t at;
	int who;

	memcpy(&word, data, sizeof(word));
	who = word >> 56;
	if (who == OWN) {
		s->own = true;
		return;
	}
	s->wrong |= who > OWN || word != MARK(who, s->next[who]++) ||
		    r->len != LARGE;
	/* A look at each page takes long enough. */
	for (at = 2048; at < LARGE && !s->wrong; at += 4096)
		s->wrong |= !umpsc_filled_from(data + at, at, 8, who);
}

/* Takes what is there: messages, or -1. */
static long take(struct seen *s, int rx)
{
	__u64 used = 0;
	size_t pos = 0;
	long n, i;

	n = umpsc_recv(rx, s->buf, 4 * LARGE, 1000, 0, &used, NULL);
	for (i = 0; i < n; i++)
		see(s, umpsc_batch_next(s->buf, used, &pos));
	return n;
}

/* Our own message is there as soon as its send has returned. */
static bool own_is_there(struct seen *s, int tx, int rx)
{
	__u64 word = MARK(OWN, 0);

	if (write(tx, &word, sizeof(word)) != sizeof(word))
		return false;
	s->own = false;
	while (!s->own)
		if (take(s, rx) <= 0)
			return false;
	return true;
}

TEST_LONG(channel, senders_stopped_by_a_signal_delay_nobody)
{
	struct seen s = { .buf = malloc(4 * LARGE) };
	__u64 seed = umpsc_now_ns(), until;
	int i, k, status, stopped = 0;
	pid_t child[2];

	ASSERT_NE(NULL, s.buf);
	set_nonblock(self->rx);
	for (i = 0; i < 2; i++) {
		child[i] = fork();
		ASSERT_LE(0, child[i]);
		if (!child[i])
			_exit(send_large(self->tx, i, self->shared));
	}
	/* Where the CPUs are busy, it takes a while until they are at it. */
	for (i = 0; i < 2; i++)
		ASSERT_TRUE(UMPSC_UNTIL(self->shared->ready[i]));
	until = umpsc_chance_until(1500);
	for (k = 0; k < 10 || !stopped || (k < 300 && umpsc_now_ns() < until);
	     k++) {
		for (i = umpsc_random(&seed) % 4; i; i--)
			ASSERT_TRUE(own_is_there(&s, self->tx, self->rx));
		for (i = 0; i < 2; i++)
			kill(child[i], SIGSTOP);
		for (i = 0; i < 2; i++) {
			ASSERT_EQ(child[i],
				  waitpid(child[i], &status, WUNTRACED));
			ASSERT_TRUE(WIFSTOPPED(status));
			stopped += self->shared->turn[i] % 2;
		}
		for (i = 0; i < 3; i++)
			ASSERT_TRUE(own_is_there(&s, self->tx, self->rx));
		EXPECT_EMPTY(self->rx);
		for (i = 0; i < 2; i++)
			kill(child[i], SIGCONT);
	}
	self->shared->stop = true;
	for (i = 0; i < 2; i++)
		EXPECT_EQ(0, umpsc_wait_child(child[i]));
	while (take(&s, self->rx) > 0)
		;
	EXPECT_FALSE(s.wrong);
	for (i = 0; i < 2; i++)
		EXPECT_EQ(self->shared->turn[i] / 2, s.next[i]);
	TH_LOG("%d rounds, %d stops on the way out of a call", k, stopped);
	EXPECT_LT(0, stopped);
	free(s.buf);
}

/* A child of higher priority, which has the CPU for itself now and then. */
static int preempt(struct shared *shared)
{
	struct sched_param fifo = { .sched_priority = 50 };
	__u64 seed = umpsc_now_ns(), until;

	if (!umpsc_run_on(1) || sched_setscheduler(0, SCHED_FIFO, &fifo))
		return 1;
	while (!shared->stop) {
		umpsc_nap_us(500 + umpsc_random(&seed) % 4000);
		shared->busy = true;
		until = umpsc_now_ns() + 40000000;
		while (umpsc_now_ns() < until)
			;
		shared->busy = false;
	}
	return 0;
}

/* Is the child that is preempted still at @turn? */
static bool still(struct shared *shared, unsigned long turn)
{
	return shared->busy && shared->turn[0] == turn;
}

/* In how many cases something has to be done while somebody is preempted. */
#define PREEMPTED 20

TEST_LONG(channel, preempted_sender_delays_nobody)
{
	struct seen s = { .buf = malloc(4 * LARGE) };
	int hits = 0, i;
	unsigned long turn;
	pid_t child[2];
	__u64 stop;
	bool there;

	ASSERT_NE(NULL, s.buf);
	set_nonblock(self->rx);
	for (i = 0; i < 2; i++) {
		child[i] = fork();
		ASSERT_LE(0, child[i]);
		if (child[i])
			continue;
		if (i)
			_exit(preempt(self->shared));
		_exit(!umpsc_run_on(1) ||
		      send_large(self->tx, 0, self->shared));
	}
	ASSERT_TRUE(umpsc_run_on(0));
	stop = umpsc_now_ns() + UMPSC_PATIENCE * 1000000000ULL;
	while (hits < PREEMPTED) {
		turn = self->shared->turn[0];
		there = self->shared->busy && turn % 2;
		ASSERT_TRUE(own_is_there(&s, self->tx, self->rx));
		/* All that time he was in the middle of one and could not go on. */
		hits += there && still(self->shared, turn);
		ASSERT_LT(umpsc_now_ns(), stop) TH_LOG("%d times", hits);
	}
	self->shared->stop = true;
	for (i = 0; i < 2; i++)
		EXPECT_EQ(0, umpsc_wait_child(child[i]));
	while (take(&s, self->rx) > 0)
		;
	EXPECT_FALSE(s.wrong);
	EXPECT_EQ(self->shared->turn[0] / 2, s.next[0]);
	free(s.buf);
}

/* A child: receives large messages up to the end, by read and RECV in turn. */
static int receive_large(int rx, struct shared *shared)
{
	size_t size = LARGE + UMPSC_RECORD_HDR;
	unsigned char *buf = malloc(size);
	long ret = 1;
	int n;

	if (!umpsc_run_on(1) || !buf)
		return 1;
	for (n = 0; ret > 0; n++) {
		shared->turn[0]++;
		ret = n % 2 ? read(rx, buf, size) :
			      umpsc_recv(rx, buf, size, 1, UMPSC_NO_DEADLINE,
					 NULL, NULL);
		shared->turn[0]++;
		shared->done += ret > 0;
	}
	return ret ? 2 : 0;
}

TEST_LONG(channel, preempted_receiver_delays_no_sender_and_no_close)
{
	unsigned char *data = self->shared->data;
	bool there, closed = false;
	struct umpsc_info info;
	unsigned long turn;
	int hits = 0, i;
	pid_t child[2];
	ssize_t len;
	__u64 stop;

	for (i = 0; i < 2; i++) {
		child[i] = fork();
		ASSERT_LE(0, child[i]);
		if (!child[i])
			_exit(i ? preempt(self->shared) :
				  receive_large(self->rx, self->shared));
	}
	ASSERT_TRUE(umpsc_run_on(0));
	stop = umpsc_now_ns() + UMPSC_PATIENCE * 1000000000ULL;
	while (!closed) {
		turn = self->shared->turn[0];
		there = self->shared->busy && turn % 2;
		ASSERT_EQ(0, umpsc_info(self->tx, &info));
		/* Something to do for it, and not more than it can. */
		len = info.messages < 4 ? LARGE : there;
		ASSERT_EQ(len, write(self->tx, data, len));
		ASSERT_EQ(UMPSC_POLL_OUT, umpsc_poll(self->tx, 0));
		ASSERT_LE(0, umpsc_poll(self->rx, 0));
		/* All that time it was in the middle of one and could not go on. */
		if (hits < PREEMPTED) {
			hits += there && still(self->shared, turn);
		} else if (there) {
			ASSERT_EQ(0, umpsc_close(self->rx));
			EXPECT_ERR(EPIPE, write(self->tx, "x", 1));
			closed = true;
		}
		ASSERT_LT(umpsc_now_ns(), stop) TH_LOG("%d times", hits);
	}
	self->shared->stop = true;
	for (i = 0; i < 2; i++)
		EXPECT_EQ(0, umpsc_wait_child(child[i]));
	ASSERT_EQ(0, umpsc_info(self->rx, &info));
	EXPECT_EQ(0, info.messages);
	EXPECT_EQ(info.sent, info.received);
	EXPECT_EQ(info.received, self->shared->done);
}

/* ---- Stopped by a tracer --------------------------------------------------------- */

/* A child: receives messages of one byte, by read or RECV, and counts them. */
static int receive_small(int rx, bool by_read, struct shared *shared)
{
	unsigned char buf[64];
	long ret;

	do {
		ret = by_read ? read(rx, buf, 1) :
				umpsc_recv(rx, buf, sizeof(buf), 1,
					   UMPSC_NO_DEADLINE, NULL, NULL);
		shared->done += ret > 0;
	} while (ret > 0);
	return ret ? 1 : 0;
}

static bool is_stopped(pid_t pid, int event)
{
	int status;

	return waitpid(pid, &status, 0) == pid && WIFSTOPPED(status) &&
	       status >> 16 == event;
}

TEST_LONG(channel, traced_receiver_goes_on_where_it_was)
{
	struct umpsc_info info;
	int i, by_read;
	pid_t child;
	bool got;
	long nr;

	/* A tracer sees each signal. */
	umpsc_timer_stop();
	for (by_read = 0; by_read < 2; by_read++) {
		nr = by_read ? SYS_read : SYS_ioctl;
		self->shared->done = 0;
		child = fork();
		ASSERT_LE(0, child);
		if (!child)
			_exit(receive_small(self->rx, by_read, self->shared));
		ASSERT_EQ(0, ptrace(PTRACE_SEIZE, child, NULL, NULL));
		for (i = 0; i < 20; i++) {
			ASSERT_TRUE(umpsc_wait_asleep(child, nr));
			ASSERT_EQ(0, ptrace(PTRACE_INTERRUPT, child, 0, 0));
			ASSERT_TRUE(is_stopped(child, PTRACE_EVENT_STOP));
			/* In every second round there is something, once it goes on. */
			if (i % 2)
				EXPECT_WRITE(self->tx, "x");
			ASSERT_EQ(0, umpsc_info(self->tx, &info));
			EXPECT_EQ(i % 2, info.messages);
			EXPECT_EQ(i / 2, self->shared->done);
			ASSERT_EQ(0, ptrace(PTRACE_CONT, child, 0, 0));
			got = UMPSC_UNTIL(self->shared->done == (i + 1) / 2);
			ASSERT_TRUE(got);
		}
		ASSERT_TRUE(umpsc_wait_asleep(child, nr));
		kill(child, SIGKILL);
		EXPECT_EQ(SIGKILL, umpsc_wait_child(child));
		ASSERT_EQ(0, umpsc_info(self->tx, &info));
		EXPECT_EQ(0, info.messages);
	}
}

/* The next stop of a traced child at the entry or exit of a call. */
static bool at_syscall(pid_t child, struct __ptrace_syscall_info *at)
{
	int status;

	return !ptrace(PTRACE_SYSCALL, child, NULL, NULL) &&
	       waitpid(child, &status, 0) == child && WIFSTOPPED(status) &&
	       WSTOPSIG(status) == (SIGTRAP | 0x80) &&
	       ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof(*at), at) > 0;
}

static bool at_entry_of(pid_t child, unsigned long nr, int fd)
{
	struct __ptrace_syscall_info at;

	do {
		if (!at_syscall(child, &at))
			return false;
	} while (at.op != PTRACE_SYSCALL_INFO_ENTRY || at.entry.nr != nr ||
		 (int)at.entry.args[0] != fd);
	return true;
}

/* Killed before its first instruction in the kernel, or after its last. */
TEST_LONG(channel, killed_at_the_entry_or_the_exit_of_a_receive)
{
	const unsigned long syscalls[] = { SYS_ioctl, SYS_read };
	struct __ptrace_syscall_info at;
	struct umpsc_info info;
	int i, status;
	pid_t child;

	/* A tracer sees each signal. */
	umpsc_timer_stop();
	for (i = 0; i < 4; i++) {
		EXPECT_WRITE(self->tx, "x");
		child = fork();
		ASSERT_LE(0, child);
		if (!child) {
			ptrace(PTRACE_TRACEME, 0, NULL, NULL);
			raise(SIGSTOP);
			_exit(receive_small(self->rx, i % 2, self->shared));
		}
		ASSERT_EQ(child, waitpid(child, &status, 0));
		ASSERT_TRUE(WIFSTOPPED(status));
		ASSERT_EQ(0, ptrace(PTRACE_SETOPTIONS, child, NULL,
				    PTRACE_O_TRACESYSGOOD));
		ASSERT_TRUE(at_entry_of(child, syscalls[i % 2], self->rx));
		if (i >= 2) {
			ASSERT_TRUE(at_syscall(child, &at));
			ASSERT_EQ(PTRACE_SYSCALL_INFO_EXIT, at.op);
			ASSERT_EQ(1, at.exit.rval);
		}
		kill(child, SIGKILL);
		EXPECT_EQ(SIGKILL, umpsc_wait_child(child));
		ASSERT_EQ(0, umpsc_info(self->tx, &info));
		EXPECT_EQ(i < 2, info.messages);
		if (i < 2)
			EXPECT_TEXT(self->rx, "x");
	}
}

/* ---- Killed ------------------------------------------------------------------------ */

/* A child: numbered messages of many sizes, in writes and in batches of three. */
static void send_numbers(int tx)
{
	static unsigned char data[20000];
	struct umpsc_batch b = {};
	__u64 n = 0;
	int i;

	for (;;) {
		memcpy(data, &n, sizeof(n));
		if (n % 4 == 0) {
			if (write(tx, data, 8 + n * 37 % 19000) < 0)
				_exit(1);
			n++;
			continue;
		}
		b.len = 0;
		for (i = 0; i < 3; i++, n++) {
			memcpy(data, &n, sizeof(n));
			umpsc_batch_add(&b, data, 8 + n * 37 % 3000);
		}
		if (umpsc_batch_send(tx, &b) != 3)
			_exit(1);
	}
}

TEST_LONG(channel, sender_killed_at_any_moment_leaves_whole_sends)
{
	static unsigned char buf[20000];
	__u64 seed = umpsc_now_ns(), number, n, until;
	struct umpsc_info info;
	pid_t child;
	ssize_t ret;
	int round;

	set_nonblock(self->rx);
	until = umpsc_chance_until(2000);
	for (round = 0; round < 10 || (round < 100 && umpsc_now_ns() < until);
	     round++) {
		ASSERT_EQ(0, umpsc_info(self->tx, &info));
		n = info.sent + umpsc_random(&seed) % 200;
		child = fork();
		ASSERT_LE(0, child);
		if (!child) {
			/* A sender of its own, which goes with it. */
			round = umpsc_clone(self->tx, 0);
			close(self->tx);
			send_numbers(round);
		}
		do {
			ASSERT_EQ(0, umpsc_info(self->tx, &info));
		} while (info.sent <= n);
		kill(child, SIGKILL);
		ASSERT_EQ(SIGKILL, umpsc_wait_child(child));
		ASSERT_EQ(0, umpsc_info(self->tx, &info));
		EXPECT_EQ(1, info.strong);
		for (n = 0; (ret = read(self->rx, buf, sizeof(buf))) > 0; n++) {
			memcpy(&number, buf, sizeof(number));
			ASSERT_EQ(n, number);
			ASSERT_EQ(8 + n * 37 % (n % 4 ? 3000 : 19000), ret);
		}
		EXPECT_EQ(EAGAIN, errno);
		/* A write each, or three; never a part of a batch. */
		EXPECT_TRUE(n % 4 == 0 || n % 4 == 1);
		ASSERT_EQ(0, umpsc_info(self->tx, &info));
		EXPECT_EQ(0, info.memory);
	}
	TH_LOG("%d rounds", round);
}

/* The bytes that a child read lie where they belong, or they are still to be read. */
TEST_LONG(channel, reader_killed_at_any_moment_has_read_or_not)
{
	__u64 seed = umpsc_now_ns(), until, i;
	unsigned char *data = self->shared->data, *rest = data + LARGE;
	size_t len, taken;
	ssize_t ret;
	pid_t child;
	int round;

	set_nonblock(self->rx);
	until = umpsc_chance_until(2000);
	for (round = 0; round < 10 || (round < 100 && umpsc_now_ns() < until);
	     round++) {
		umpsc_fill(rest, LARGE, round);
		for (len = 0, i = 1; i < 400; len += i, i++)
			ASSERT_EQ(i, write(self->tx, rest + len, i));
		memset(data, UMPSC_POISON, len);
		self->shared->done = 0;
		child = fork();
		ASSERT_LE(0, child);
		if (!child) {
			for (;;) {
				taken = self->shared->done;
				ret = read(self->rx, data + taken,
					   1 + taken % 200);
				self->shared->done += ret > 0 ? ret : 0;
			}
		}
		i = umpsc_random(&seed) % (len / 2);
		ASSERT_TRUE(UMPSC_UNTIL(self->shared->done >= i));
		kill(child, SIGKILL);
		ASSERT_EQ(SIGKILL, umpsc_wait_child(child));

		/* What is left goes behind what was taken, on top of the original. */
		for (taken = len; (ret = umpsc_fionread(self->rx)) > 0;) {
			ret = read(self->rx, rest, 500);
			ASSERT_LT(0, ret);
			taken -= ret;
			rest += ret;
		}
		rest = data + LARGE;
		len -= taken;
		ASSERT_TRUE(umpsc_filled(data, taken, round))
		TH_LOG("round %d: %zu taken", round, taken);
		ASSERT_TRUE(umpsc_filled_from(rest, taken, len, round));
		EXPECT_LE(self->shared->done, taken);
		EXPECT_EMPTY(self->rx);
	}
	TH_LOG("%d rounds", round);
}

/* A child: makes handles and channels, and opens, and waits, without end. */
static void churn(int rx, int tx)
{
	struct umpsc_channel_args args = {};
	struct umpsc_info info;
	int i, fd[8];

	for (;;) {
		fd[0] = umpsc_clone(tx, 0);
		fd[1] = umpsc_downgrade(fd[0], 0);
		fd[2] = umpsc_upgrade(fd[1], 0);
		fd[3] = umpsc_sender(rx, 0);
		fd[4] = umpsc_open_manager();
		umpsc_channel(fd[4], &args);
		fd[5] = args.receiver_fd;
		fd[6] = args.sender_fd;
		fd[7] = umpsc_clone(fd[1], 0);
		umpsc_info(fd[7], &info);
		umpsc_same(fd[7], fd[6]);
		if (write(fd[6], &info, sizeof(info)) < 0)
			_exit(1);
		umpsc_poll(fd[5], 0);
		umpsc_poll(fd[0], 0);
		for (i = 0; i < 8; i++)
			close(fd[i]);
	}
}

TEST_LONG(channel, killed_at_any_moment_handles_are_dropped_and_counted)
{
	__u64 seed = umpsc_now_ns(), until, first;
	struct umpsc_info info;
	struct umpsc_query q;
	pid_t child;
	int round;

	until = umpsc_chance_until(2000);
	for (round = 0; round < 10 || (round < 100 && umpsc_now_ns() < until);
	     round++) {
		ASSERT_EQ(0, umpsc_query(self->tx, &q));
		child = fork();
		ASSERT_LE(0, child);
		if (!child)
			churn(self->rx, self->tx);
		first = umpsc_now_ns() + umpsc_random(&seed) % 20000000;
		while (umpsc_now_ns() < first)
			;
		kill(child, SIGKILL);
		ASSERT_EQ(SIGKILL, umpsc_wait_child(child));
		ASSERT_EQ(0, umpsc_info(self->rx, &info));
		EXPECT_EQ(1, info.strong);
		EXPECT_EQ(0, info.weak);
		EXPECT_EQ(UMPSC_STATE_CLAIMED, info.state);
		first = q.channels;
		ASSERT_EQ(0, umpsc_query(self->tx, &q));
		EXPECT_EQ(first, q.channels);
		EXPECT_EQ(self->before.messages, q.messages);
	}
	TH_LOG("%d rounds", round);
}

/* ---- Huge batches -------------------------------------------------------------------- */

/* Empty messages: what a call does for each of them is most of what it does. */
#define HUGE_RECORDS (1 << 20)
#define HUGE_LEN (HUGE_RECORDS * (size_t)UMPSC_RECORD_HDR)

struct huge {
	int fd;
	bool receives;
	void *buf;
	/* The watched part of the call: how often the CPU was given up, and how long. */
	long preempted;
	__u64 ns;
};

static void huge_batch(struct umpsc_batch *b)
{
	int i;

	for (i = 0; i < HUGE_RECORDS; i++)
		umpsc_batch_add(b, NULL, 0);
}

static long huge_call(struct huge *h)
{
	/* One less than there are, and each is looked at. */
	if (h->receives)
		return umpsc_recv(h->fd, h->buf, HUGE_LEN, HUGE_RECORDS - 1, 0,
				  NULL, NULL);
	return umpsc_send(h->fd, h->buf, HUGE_LEN);
}

static void huge_watch(struct huge *h, pid_t tid)
{
	h->preempted = umpsc_preempted(tid);
	h->ns = umpsc_now_ns();
}

static long huge_fn(void *arg)
{
	struct huge *h = arg;
	long ret;

	if (!umpsc_run_on(1))
		return -1;
	huge_watch(h, gettid());
	ret = huge_call(h);
	h->ns = umpsc_now_ns() - h->ns;
	h->preempted = umpsc_preempted(gettid()) - h->preempted;
	return ret;
}

static void huge_expect_preempted(struct __test_metadata *_metadata,
				  struct huge *h)
{
	TH_LOG("%s gave the CPU up %ld times in %llu ms",
	       h->receives ? "RECV" : "SEND", h->preempted, h->ns / 1000000);
	/* Once may be on its way out. */
	EXPECT_LT(1 + umpsc_preempted_least(h->ns), h->preempted);
}

/*
 * To allocate memory may give the CPU up, too.  So a send is only watched once it has
 * all that it needs, and begins to copy.
 */
TEST_LONG(channel, huge_batch_gives_its_cpu_up_while_it_is_walked)
{
	size_t size = sysconf(_SC_PAGESIZE), pages = HUGE_LEN / size;
	struct umpsc_batch b = {};
	struct umpsc_watch w;
	struct umpsc_thread t;
	struct huge h = {};
	struct stall s;

	huge_batch(&b);
	ASSERT_TRUE(stall_new(&s, pages));
	ASSERT_TRUE(stall_fill_some(&s, 1, pages - 1, b.data + size));
	h.buf = s.map;
	ASSERT_TRUE(umpsc_run_on(0));
	ASSERT_TRUE(umpsc_watch_start(&w, 1));

	h.fd = self->tx;
	ASSERT_EQ(0, umpsc_thread_start(&t, huge_fn, &h));
	ASSERT_TRUE(stall_hit(&s));
	huge_watch(&h, t.tid);
	ASSERT_TRUE(stall_fill_some(&s, 0, 1, b.data));
	ASSERT_TRUE(umpsc_thread_join(&t));
	EXPECT_EQ(HUGE_RECORDS, t.ret);
	huge_expect_preempted(_metadata, &h);

	h.fd = self->rx;
	h.receives = true;
	ASSERT_EQ(0, umpsc_thread_start(&t, huge_fn, &h));
	ASSERT_TRUE(umpsc_thread_join(&t));
	EXPECT_EQ(HUGE_RECORDS - 1, t.ret);
	huge_expect_preempted(_metadata, &h);

	EXPECT_TRUE(umpsc_watch_stop(&w));
	umpsc_batch_free(&b);
	stall_end(&s);
}

/* Else the call had come to its end just then. */
#define KILL_ROUNDS 5

/* A child is killed in the call: true if it did not go on to its end. */
static bool huge_is_cut_short(struct __test_metadata *_metadata, struct huge *h,
			      struct shared *shared)
{
	/* In the last record. */
	const __u64 *last = h->buf + HUGE_LEN - UMPSC_RECORD_HDR - 8;
	struct umpsc_info info;
	long before;
	pid_t child;

	shared->turn[0] = 0;
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		/* And in the call no page of it is missing. */
		if (h->receives)
			memset(h->buf, UMPSC_POISON, HUGE_LEN);
		if (!umpsc_run_on(1))
			_exit(1);
		shared->turn[0]++;
		huge_call(h);
		shared->turn[0]++;
		umpsc_hang();
	}
	ASSERT_TRUE(UMPSC_UNTIL(shared->turn[0]));
	/* Once the watch has had the CPU again, he is in the middle. */
	before = umpsc_preempted(child);
	while (shared->turn[0] == 1 && umpsc_preempted(child) < before + 2)
		;
	kill(child, SIGKILL);
	ASSERT_EQ(SIGKILL, umpsc_wait_child(child));
	ASSERT_EQ(0, umpsc_info(h->fd, &info));
	if (!h->receives)
		return !info.messages;
	return info.messages == HUGE_RECORDS && *last == UMPSC_POISON_U64;
}

TEST_LONG(channel, huge_batch_ends_when_its_caller_is_killed)
{
	struct umpsc_batch b = {};
	struct umpsc_watch w;
	int i, round, rx, tx;
	struct huge h;
	void *out;
	bool cut;

	huge_batch(&b);
	out = mmap(NULL, HUGE_LEN, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, out);
	ASSERT_TRUE(umpsc_run_on(0));
	ASSERT_TRUE(umpsc_watch_start(&w, 1));
	for (i = 0; i < 2; i++) {
		for (round = 0, cut = false; round < KILL_ROUNDS && !cut;
		     round++) {
			ASSERT_EQ(0, umpsc_private(&rx, &tx));
			if (i)
				ASSERT_EQ(HUGE_RECORDS,
					  umpsc_batch_send(tx, &b));
			h = (struct huge){
				.fd = i ? rx : tx,
				.receives = i,
				.buf = i ? out : b.data,
			};
			cut = huge_is_cut_short(_metadata, &h, self->shared);
			close(rx);
			close(tx);
		}
		TH_LOG("%s: %d rounds", i ? "RECV" : "SEND", round);
		EXPECT_TRUE(cut);
	}
	EXPECT_TRUE(umpsc_watch_stop(&w));
	munmap(out, HUGE_LEN);
	umpsc_batch_free(&b);
}

/* ---- Another time ------------------------------------------------------------------ */

/* Runs in a time namespace whose CLOCK_MONOTONIC is @seconds ahead. */
static bool enter_time(long long seconds)
{
	char line[64];
	int fd, n;

	if (unshare(CLONE_NEWTIME))
		return false;
	n = snprintf(line, sizeof(line), "monotonic %lld 0", seconds);
	fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
	return fd >= 0 && write(fd, line, n) == n && !close(fd);
}

static void expect_deadlines(struct __test_metadata *_metadata, int rx, int tx)
{
	struct umpsc_receive r = { .fd = rx, .max = 1 };
	struct umpsc_thread t;
	__u64 deadline;
	int i;

	for (i = 0; i < 4; i++) {
		deadline = umpsc_now_ns() + i * 20000000ULL;
		EXPECT_ERR(ETIMEDOUT, umpsc_recv(rx, r.buf, sizeof(r.buf), 1,
						 deadline, NULL, NULL));
		EXPECT_LE(deadline, umpsc_now_ns());
	}
	for (i = 0; i < 3; i++) {
		r.deadline_ns = i == 0 ? umpsc_now_ns() + 3600000000000ULL :
				i == 1 ? UMPSC_NO_DEADLINE - 1 :
					 INT64_MAX;
		ASSERT_EQ(0, umpsc_thread_start(&t, umpsc_receive_fn, &r));
		ASSERT_TRUE(umpsc_thread_asleep(&t, SYS_ioctl))
		TH_LOG("%s", strerror(t.err));
		EXPECT_WRITE(tx, "wake");
		ASSERT_TRUE(umpsc_thread_join(&t));
		EXPECT_EQ(1, t.ret);
	}
}

TEST_LONG(channel, deadlines_are_of_the_callers_time_namespace)
{
	long long ahead[] = { 0, 1000000, 0 };
	__u64 here = umpsc_now_ns();
	pid_t child, inner;
	int i;

	/* Back, as far as there was time. */
	ahead[2] = -(long long)(here / 2000000000);
	for (i = 0; i < ARRAY_SIZE(ahead); i++) {
		child = fork();
		ASSERT_LE(0, child);
		if (!child) {
			/* Its children are there. */
			ASSERT_TRUE(enter_time(ahead[i]));
			inner = fork();
			if (!inner) {
				ASSERT_LE(here + ahead[i] * 1000000000LL,
					  umpsc_now_ns());
				expect_deadlines(_metadata, self->rx, self->tx);
				_exit(0);
			}
			_exit(umpsc_wait_child(inner));
		}
		EXPECT_EQ(0, umpsc_wait_child(child));
	}
}

TEST_HARNESS_MAIN
