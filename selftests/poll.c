// SPDX-License-Identifier: GPL-2.0-only
/*
 * What poll and epoll say of each handle, and whom a change wakes.
 */
#include "umpsc_tracefs.h"

#include <sys/epoll.h>

#define IN UMPSC_POLL_IN
#define HUP UMPSC_POLL_HUP
#define OUT UMPSC_POLL_OUT

/* Every event that there is, for epoll. */
#define ALL_EVENTS                                                  \
	(EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLRDNORM | \
	 EPOLLRDBAND | EPOLLWRNORM | EPOLLWRBAND)

FIXTURE(channel)
{
	int rx;
	int tx;
};

FIXTURE_SETUP(channel)
{
	ASSERT_EQ(0, umpsc_private_with(&self->rx, &self->tx, 0, O_NONBLOCK, 0,
					NULL));
}

FIXTURE_TEARDOWN(channel)
{
	if (self->rx >= 0)
		close(self->rx);
	if (self->tx >= 0)
		close(self->tx);
}

static void close_fd(int *fd)
{
	close(*fd);
	*fd = -1;
}

/* An epoll instance that watches @fd. */
static int epoll_on(int fd, __u32 events)
{
	struct epoll_event ev = { .events = events, .data.fd = fd };
	int ep = epoll_create1(EPOLL_CLOEXEC);

	if (ep >= 0 && epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev)) {
		close(ep);
		return -1;
	}
	return ep;
}

/* The events of the one fd in @ep that has any within @ms; 0 where none has. */
static long epoll_events(int ep, int ms)
{
	struct epoll_event ev[2];
	int n = umpsc_epoll_wait(ep, ev, 2, ms);

	return n == 1 ? ev[0].events : n ? -1 : 0;
}

/* poll and epoll agree on exactly @events. */
static void expect_events(struct __test_metadata *_metadata, int line, int fd,
			  __u32 events)
{
	int ep = ASSERT_FD(epoll_on(fd, ALL_EVENTS));
	int level = epoll_events(ep, 0), polled = umpsc_poll(fd, 0);

	EXPECT_EQ(events, polled)
	{
		TH_LOG("poll: 0x%x in line %d", (unsigned int)polled, line);
	}
	EXPECT_EQ(events, level)
	{
		TH_LOG("epoll: 0x%x in line %d", (unsigned int)level, line);
	}
	close(ep);
}

#define EXPECT_EVENTS(events, fd) expect_events(_metadata, __LINE__, fd, events)

/* A thread that waits in poll() for @events of @fd, and returns what there is. */
struct poller {
	int fd;
	short events;
	struct umpsc_thread t;
};

static long poller_fn(void *arg)
{
	struct poller *p = arg;
	int events = umpsc_poll_for(p->fd, p->events, UMPSC_PATIENCE * 1000);

	return events ? events : -1;
}

static bool poller_start(struct poller *p, int fd, short events)
{
	p->fd = fd;
	p->events = events;
	return !umpsc_thread_start(&p->t, poller_fn, p) &&
	       umpsc_thread_asleep(&p->t, SYS_poll) && !p->t.done;
}

static long poller_end(struct poller *p)
{
	return umpsc_thread_join(&p->t) ? p->t.ret : -2;
}

/* A thread that waits in epoll_wait(). */
static long epoller_fn(void *arg)
{
	return epoll_events(*(int *)arg, UMPSC_PATIENCE * 1000);
}

static bool epoller_start(struct umpsc_thread *t, int *ep)
{
	return !umpsc_thread_start(t, epoller_fn, ep) &&
	       umpsc_thread_asleep(t, SYS_epoll_wait) && !t->done;
}

static bool take(int rx)
{
	unsigned char buf[64];

	return umpsc_recv(rx, buf, sizeof(buf), 1, 0, NULL, NULL) == 1;
}

/* ---- The table ---------------------------------------------------------- */

TEST_LONG(channel, receiver_events)
{
	unsigned char byte;

	EXPECT_EVENTS(0, self->rx);
	EXPECT_WRITE(self->tx, "abc");
	EXPECT_EVENTS(IN, self->rx);
	/* A part of a message is left. */
	ASSERT_EQ(1, read(self->rx, &byte, 1));
	EXPECT_EVENTS(IN, self->rx);
	ASSERT_TRUE(take(self->rx));
	EXPECT_EVENTS(0, self->rx);
}

TEST_LONG(channel, receiver_events_of_an_empty_message)
{
	struct umpsc_batch b = {};

	umpsc_batch_add(&b, "", 0);
	ASSERT_EQ(1, umpsc_batch_send(self->tx, &b));
	umpsc_batch_free(&b);
	EXPECT_EVENTS(IN, self->rx);
	ASSERT_TRUE(take(self->rx));
	EXPECT_EVENTS(0, self->rx);
}

TEST_LONG(channel, receiver_hup_by_close_while_messages_remain)
{
	EXPECT_WRITE(self->tx, "a");
	EXPECT_WRITE(self->tx, "b");
	ASSERT_EQ(0, umpsc_close(self->rx));
	EXPECT_EVENTS(IN | HUP, self->rx);
	ASSERT_TRUE(take(self->rx));
	EXPECT_EVENTS(IN | HUP, self->rx);
	ASSERT_TRUE(take(self->rx));
	/* The end is readable too. */
	EXPECT_EVENTS(IN | HUP, self->rx);
	EXPECT_END(self->rx);
	EXPECT_EVENTS(IN | HUP, self->rx);
}

TEST_LONG(channel, receiver_hup_by_the_last_sender_while_messages_remain)
{
	int clone = ASSERT_FD(umpsc_clone(self->tx, 0));
	int weak = ASSERT_FD(umpsc_downgrade(self->tx, 0));

	EXPECT_WRITE(self->tx, "a");
	close_fd(&self->tx);
	EXPECT_EVENTS(IN, self->rx);
	close(clone);
	EXPECT_EVENTS(IN | HUP, self->rx);
	ASSERT_TRUE(take(self->rx));
	EXPECT_EVENTS(IN | HUP, self->rx);
	EXPECT_END(self->rx);
	close(weak);
}

TEST_LONG(channel, sender_events)
{
	int clone = ASSERT_FD(umpsc_clone(self->tx, 0));
	int i;

	EXPECT_EVENTS(OUT, self->tx);
	/* Unlimited: a backlog changes nothing. */
	for (i = 0; i < 100; i++)
		EXPECT_WRITE(self->tx, "x");
	EXPECT_EVENTS(OUT, self->tx);
	ASSERT_EQ(0, umpsc_close(self->rx));
	EXPECT_EVENTS(EPOLLERR, self->tx);
	EXPECT_EVENTS(EPOLLERR, clone);
	close_fd(&self->rx);
	EXPECT_EVENTS(EPOLLERR, self->tx);
	EXPECT_EVENTS(EPOLLERR, clone);
	close(clone);
}

TEST_LONG(channel, sender_err_when_the_receiver_has_gone)
{
	EXPECT_WRITE(self->tx, "x");
	close_fd(&self->rx);
	EXPECT_EVENTS(EPOLLERR, self->tx);
	EXPECT_ERR(EPIPE, write(self->tx, "x", 1));
}

TEST_LONG(channel, weak_events_err_then_hup)
{
	int weak = ASSERT_FD(umpsc_downgrade(self->tx, 0));

	EXPECT_EVENTS(0, weak);
	EXPECT_WRITE(self->tx, "x");
	EXPECT_EVENTS(0, weak);
	ASSERT_EQ(0, umpsc_close(self->rx));
	EXPECT_EVENTS(EPOLLERR, weak);
	close_fd(&self->tx);
	EXPECT_EVENTS(EPOLLERR | EPOLLHUP, weak);
	close_fd(&self->rx);
	EXPECT_EVENTS(EPOLLERR | EPOLLHUP, weak);
	close(weak);
}

TEST_LONG(channel, weak_events_hup_then_err)
{
	int weak = ASSERT_FD(umpsc_downgrade(self->tx, 0));

	close_fd(&self->tx);
	EXPECT_EVENTS(EPOLLHUP, weak);
	close_fd(&self->rx);
	EXPECT_EVENTS(EPOLLERR | EPOLLHUP, weak);
	close(weak);
}

TEST_LONG(channel, weak_err_when_the_receiver_has_gone)
{
	int weak = ASSERT_FD(umpsc_downgrade(self->tx, 0));

	close_fd(&self->rx);
	EXPECT_EVENTS(EPOLLERR, weak);
	close(weak);
}

TEST_LONG(channel, manager_err)
{
	int manager = ASSERT_FD(umpsc_open_manager());

	EXPECT_EVENTS(EPOLLERR, manager);
	close(manager);
}

/* ---- Nodes -------------------------------------------------------------- */

#define NODE "poll-test"

FIXTURE(node)
{
	int rx;
	int tx;
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
	self->rx = -1;
	self->tx = -1;
	umpsc_node_remove(NODE);
	ASSERT_EQ(0, umpsc_node_create(NODE, variant->flags, NULL));
}

FIXTURE_TEARDOWN(node)
{
	if (self->rx >= 0)
		close(self->rx);
	if (self->tx >= 0)
		close(self->tx);
	EXPECT_EQ(0, umpsc_node_remove(NODE));
}

TEST_LONG(node, claimed_receiver_waits_for_its_first_sender_without_hup)
{
	const bool standing = variant->flags & UMPSC_STANDING;

	self->rx = ASSERT_FD(umpsc_open(NODE, O_RDONLY | O_NONBLOCK));
	EXPECT_EVENTS(0, self->rx);
	EXPECT_EMPTY(self->rx);
	self->tx = ASSERT_FD(umpsc_open(NODE, O_WRONLY));
	EXPECT_EVENTS(0, self->rx);
	EXPECT_EVENTS(OUT, self->tx);
	EXPECT_WRITE(self->tx, "hello");
	EXPECT_EVENTS(IN, self->rx);
	close_fd(&self->tx);
	/* A producer came and went: of a standing node, exactly IN. */
	EXPECT_EVENTS(standing ? IN : IN | HUP, self->rx);
	EXPECT_TEXT(self->rx, "hello");
	EXPECT_EVENTS(standing ? 0 : IN | HUP, self->rx);
}

TEST_LONG(node, unclaimed_channel_is_open_to_senders)
{
	int weak;

	self->tx = ASSERT_FD(umpsc_open(NODE, O_WRONLY));
	EXPECT_EVENTS(OUT, self->tx);
	weak = ASSERT_FD(umpsc_downgrade(self->tx, 0));
	EXPECT_EVENTS(0, weak);
	/* The node's hold is a part of the strong word. */
	close_fd(&self->tx);
	EXPECT_EVENTS(0, weak);
	self->rx = ASSERT_FD(umpsc_open(NODE, O_RDONLY | O_NONBLOCK));
	if (variant->flags & UMPSC_STANDING) {
		EXPECT_EVENTS(0, weak);
		EXPECT_EVENTS(0, self->rx);
	} else {
		/* Claimed and joined: the hold is gone, and no sender is left. */
		EXPECT_EVENTS(EPOLLHUP, weak);
		EXPECT_EVENTS(IN | HUP, self->rx);
	}
	ASSERT_EQ(0, umpsc_close(self->rx));
	EXPECT_EVENTS(EPOLLERR |
			      (variant->flags & UMPSC_STANDING ? 0 : EPOLLHUP),
		      weak);
	close(weak);
}

TEST_LONG(node, manager_err)
{
	int manager = ASSERT_FD(umpsc_open(NODE, O_RDWR));

	EXPECT_EVENTS(EPOLLERR, manager);
	self->rx = ASSERT_FD(umpsc_open(NODE, O_RDONLY));
	self->tx = ASSERT_FD(umpsc_open(NODE, O_WRONLY));
	EXPECT_EVENTS(EPOLLERR, manager);
	close(manager);
}

TEST_LONG(node, receiver_that_goes_leaves_err_unless_standing)
{
	struct poller p = {};

	self->rx = ASSERT_FD(umpsc_open(NODE, O_RDONLY));
	self->tx = ASSERT_FD(umpsc_open(NODE, O_WRONLY));
	close_fd(&self->rx);
	if (!(variant->flags & UMPSC_STANDING)) {
		EXPECT_EVENTS(EPOLLERR, self->tx);
		return;
	}
	EXPECT_EVENTS(OUT, self->tx);
	ASSERT_TRUE(poller_start(&p, self->tx, 0));
	self->rx = ASSERT_FD(umpsc_open(NODE, O_RDONLY));
	EXPECT_FALSE(p.t.done);
	ASSERT_EQ(0, umpsc_close(self->rx));
	EXPECT_EQ(POLLERR, poller_end(&p));
}

/* The hold was all there was: who claims the channel ends it. */
TEST_LONG(node, claim_of_a_channel_that_was_left_wakes_weak_senders)
{
	const bool standing = variant->flags & UMPSC_STANDING;
	struct poller p = {};
	int weak;

	self->tx = ASSERT_FD(umpsc_open(NODE, O_WRONLY));
	weak = ASSERT_FD(umpsc_downgrade(self->tx, 0));
	close_fd(&self->tx);
	EXPECT_EVENTS(0, weak);
	ASSERT_TRUE(poller_start(&p, weak, 0));
	self->rx = ASSERT_FD(umpsc_open(NODE, O_RDONLY));
	if (standing) {
		EXPECT_TRUE(umpsc_thread_asleep(&p.t, SYS_poll));
		EXPECT_FALSE(p.t.done);
		ASSERT_EQ(0, umpsc_close(self->rx));
	}
	EXPECT_EQ(standing ? POLLERR : POLLHUP, poller_end(&p));
	close(weak);
}

TEST_LONG(node, removal_wakes_those_who_poll)
{
	struct poller sender = {}, weak = {};
	int fd;

	/* Unclaimed: it ends as if its receiver had gone. */
	self->tx = ASSERT_FD(umpsc_open(NODE, O_WRONLY));
	fd = ASSERT_FD(umpsc_downgrade(self->tx, 0));
	ASSERT_TRUE(poller_start(&sender, self->tx, 0));
	ASSERT_TRUE(poller_start(&weak, fd, 0));
	ASSERT_EQ(0, umpsc_node_remove(NODE));
	EXPECT_EQ(POLLERR, poller_end(&sender));
	EXPECT_EQ(POLLERR, poller_end(&weak));
	close(fd);
	ASSERT_EQ(0, umpsc_node_create(NODE, variant->flags, NULL));
}

TEST_LONG(node, removal_wakes_a_receiver_that_nobody_joined)
{
	struct poller p = {};

	self->rx = ASSERT_FD(umpsc_open(NODE, O_RDONLY));
	ASSERT_TRUE(poller_start(&p, self->rx, POLLIN));
	ASSERT_EQ(0, umpsc_node_remove(NODE));
	EXPECT_EQ(POLLIN | POLLHUP, poller_end(&p));
	EXPECT_EVENTS(IN | HUP, self->rx);
	EXPECT_END(self->rx);
	ASSERT_EQ(0, umpsc_node_create(NODE, variant->flags, NULL));
}

/* ---- Waking who polls ---------------------------------------------------- */

TEST_LONG(channel, message_wakes_a_poller)
{
	struct poller p = {};

	ASSERT_TRUE(poller_start(&p, self->rx, POLLIN));
	EXPECT_WRITE(self->tx, "x");
	EXPECT_EQ(POLLIN, poller_end(&p));
}

TEST_LONG(channel, message_wakes_two_pollers_and_a_blocked_receive)
{
	struct umpsc_receive r = { .max = 1, .deadline_ns = UMPSC_NO_DEADLINE };
	struct poller a = {}, b = {};
	struct umpsc_thread t;

	fcntl(self->rx, F_SETFL, 0);
	r.fd = self->rx;
	ASSERT_TRUE(poller_start(&a, self->rx, POLLIN));
	ASSERT_TRUE(poller_start(&b, self->rx, POLLIN | POLLRDNORM));
	ASSERT_EQ(0, umpsc_thread_start(&t, umpsc_receive_fn, &r));
	ASSERT_TRUE(umpsc_thread_asleep(&t, SYS_ioctl));
	EXPECT_WRITE(self->tx, "x");
	ASSERT_TRUE(umpsc_thread_join(&t));
	EXPECT_EQ(1, t.ret);
	/* The receive may have been faster than the pollers. */
	EXPECT_WRITE(self->tx, "x");
	EXPECT_EQ(POLLIN, poller_end(&a));
	EXPECT_EQ(IN, poller_end(&b));
}

TEST_LONG(channel, one_message_wakes_two_pollers)
{
	struct poller a = {}, b = {};

	ASSERT_TRUE(poller_start(&a, self->rx, POLLIN));
	ASSERT_TRUE(poller_start(&b, self->rx, POLLIN));
	EXPECT_WRITE(self->tx, "x");
	EXPECT_EQ(POLLIN, poller_end(&a));
	EXPECT_EQ(POLLIN, poller_end(&b));
}

TEST_LONG(channel, close_wakes_pollers_of_both_ends)
{
	int weak = ASSERT_FD(umpsc_downgrade(self->tx, 0));
	struct poller receiver = {}, none = {}, sender = {}, w = {};

	ASSERT_TRUE(poller_start(&receiver, self->rx, POLLIN | POLLRDHUP));
	ASSERT_TRUE(poller_start(&none, self->rx, 0));
	ASSERT_TRUE(poller_start(&sender, self->tx, 0));
	ASSERT_TRUE(poller_start(&w, weak, POLLIN));
	ASSERT_EQ(0, umpsc_close(self->rx));
	EXPECT_EQ(POLLIN | POLLHUP | POLLRDHUP, poller_end(&receiver));
	EXPECT_EQ(POLLHUP, poller_end(&none));
	EXPECT_EQ(POLLERR, poller_end(&sender));
	EXPECT_EQ(POLLERR, poller_end(&w));
	close(weak);
}

/* Tokio's closed() */
TEST_LONG(channel, receiver_that_goes_wakes_senders)
{
	int weak = ASSERT_FD(umpsc_downgrade(self->tx, 0));
	int clone = ASSERT_FD(umpsc_clone(self->tx, 0));
	struct poller sender = {}, c = {}, w = {};

	ASSERT_TRUE(poller_start(&sender, self->tx, 0));
	ASSERT_TRUE(poller_start(&c, clone, POLLIN));
	ASSERT_TRUE(poller_start(&w, weak, 0));
	close_fd(&self->rx);
	EXPECT_EQ(POLLERR, poller_end(&sender));
	EXPECT_EQ(POLLERR, poller_end(&c));
	EXPECT_EQ(POLLERR, poller_end(&w));
	close(weak);
	close(clone);
}

TEST_LONG(channel, last_sender_wakes_receiver_and_weak_the_one_before_nobody)
{
	int weak = ASSERT_FD(umpsc_downgrade(self->tx, 0));
	int clone = ASSERT_FD(umpsc_clone(self->tx, 0));
	struct poller receiver = {}, w = {};

	ASSERT_TRUE(poller_start(&receiver, self->rx, POLLIN | POLLRDHUP));
	ASSERT_TRUE(poller_start(&w, weak, 0));
	close_fd(&self->tx);
	EXPECT_TRUE(umpsc_thread_asleep(&receiver.t, SYS_poll));
	EXPECT_TRUE(umpsc_thread_asleep(&w.t, SYS_poll));
	EXPECT_FALSE(receiver.t.done || w.t.done);
	close(clone);
	EXPECT_EQ(POLLIN | POLLHUP | POLLRDHUP, poller_end(&receiver));
	EXPECT_EQ(POLLHUP, poller_end(&w));
	close(weak);
}

TEST_LONG(channel, one_wakeup_for_all_sends_between_two_looks)
{
	int ep = ASSERT_FD(epoll_on(self->rx, EPOLLIN));
	struct umpsc_info info;
	int i, round;

	for (round = 1; round <= 3; round++) {
		for (i = 0; i < 1000; i++)
			ASSERT_EQ(1, write(self->tx, "x", 1));
		ASSERT_EQ(0, umpsc_info(self->tx, &info));
		EXPECT_EQ(round, info.wakeups);
		EXPECT_EQ(EPOLLIN, epoll_events(ep, 0));
		for (i = 0; i < 1000; i++)
			ASSERT_TRUE(take(self->rx));
		EXPECT_EQ(0, epoll_events(ep, 0));
	}
	close(ep);
}

/* ---- Wake-ups as the scheduler sees them ------------------------------------ */

#define WAKING "sched/sched_waking"

/* From now on the kernel notes each time that somebody wakes @tid. */
static bool trace_wakings_begin(pid_t tid)
{
	char filter[32];

	snprintf(filter, sizeof(filter), "pid == %d", tid);
	return umpsc_trace_begin(WAKING, filter);
}

/* How often that was, or -1. */
static int trace_wakings_end(void)
{
	return umpsc_trace_end(WAKING, "sched_waking: ");
}

/* Waits in one of four ways, until there is something. */
struct waiter {
	long syscall;
	int rx;
	int ep;
};

static const long waiter_syscalls[] = { SYS_read, SYS_ioctl, SYS_poll,
					SYS_epoll_wait };

static bool waiter_takes(const struct waiter *w)
{
	return w->syscall == SYS_read || w->syscall == SYS_ioctl;
}

static long waiter_fn(void *arg)
{
	struct waiter *w = arg;
	unsigned char byte, record[64];

	if (w->syscall == SYS_ioctl)
		return umpsc_recv(w->rx, record, sizeof(record), 1,
				  UMPSC_NO_DEADLINE, NULL, NULL) == 1 ?
			       POLLIN :
			       -1;
	if (w->syscall == SYS_read)
		return read(w->rx, &byte, 1) == 1 ? POLLIN : -1;
	if (w->syscall == SYS_poll)
		return umpsc_poll(w->rx, UMPSC_PATIENCE * 1000) & POLLIN;
	return epoll_events(w->ep, UMPSC_PATIENCE * 1000);
}

/*
 * Who waits sleeps on the CPU on which a thread of higher priority sends, so it does
 * not look again before the last of them.
 */
TEST_LONG(channel, thousand_sends_wake_who_waits_once)
{
	struct sched_param fifo = { .sched_priority = 10 }, other = {};
	struct waiter w = { .rx = self->rx };
	struct umpsc_info before, after;
	int i, k, sent, wakings;
	struct umpsc_thread t;
	bool tracing;

	/* Each of its signals wakes somebody, too. */
	umpsc_timer_stop();
	/* The thread inherits it. */
	ASSERT_TRUE(umpsc_run_on(sched_getcpu()));
	fcntl(self->rx, F_SETFL, 0);
	w.ep = ASSERT_FD(epoll_on(self->rx, EPOLLIN));
	for (k = 0; k < ARRAY_SIZE(waiter_syscalls); k++) {
		w.syscall = waiter_syscalls[k];
		ASSERT_EQ(0, umpsc_thread_start(&t, waiter_fn, &w));
		ASSERT_TRUE(umpsc_thread_asleep(&t, w.syscall));
		ASSERT_EQ(0, umpsc_info(self->tx, &before));
		tracing = trace_wakings_begin(t.tid);
		EXPECT_EQ(0, sched_setscheduler(0, SCHED_FIFO, &fifo));
		for (i = 0, sent = 0; i < 1000; i++)
			sent += write(self->tx, "x", 1);
		wakings = trace_wakings_end();
		EXPECT_EQ(0, umpsc_info(self->tx, &after));
		EXPECT_EQ(0, sched_setscheduler(0, SCHED_OTHER, &other));
		ASSERT_TRUE(tracing);
		EXPECT_EQ(1000, sent);
		EXPECT_EQ(1, wakings) TH_LOG("system call %ld", w.syscall);
		EXPECT_EQ(before.wakeups + 1, after.wakeups);
		ASSERT_TRUE(umpsc_thread_join(&t));
		EXPECT_EQ(POLLIN, t.ret);
		for (i = waiter_takes(&w); i < 1000; i++)
			ASSERT_TRUE(take(self->rx));
	}
	close(w.ep);
}

/* All that can become of handles, but for the last sender's drop; false if it cannot. */
static bool handles_come_and_go(int rx, int tx)
{
	int clone = umpsc_clone(tx, 0), weak = umpsc_downgrade(tx, 0);
	int other = umpsc_clone(weak, 0), up = umpsc_upgrade(weak, 0);
	int from_rx = umpsc_sender(rx, 0);

	/* Each is closed, if it is there. */
	return !(close(clone) | close(up) | close(from_rx) | close(weak) |
		 close(other));
}

/*
 * A waiter that is woken for nothing looks and sleeps again, so that only the kernel's
 * notes tell.  The message after it shows that they would.
 */
TEST_LONG(channel, handles_that_come_and_go_wake_nobody_but_the_last)
{
	struct waiter w = { .rx = self->rx };
	struct umpsc_thread t;
	int k, wakings;
	bool went;

	/* Each of its signals wakes somebody, too. */
	umpsc_timer_stop();
	fcntl(self->rx, F_SETFL, 0);
	w.ep = ASSERT_FD(epoll_on(self->rx, EPOLLIN));
	for (k = 0; k < ARRAY_SIZE(waiter_syscalls); k++) {
		w.syscall = waiter_syscalls[k];
		ASSERT_EQ(0, umpsc_thread_start(&t, waiter_fn, &w));
		ASSERT_TRUE(umpsc_thread_asleep(&t, w.syscall));
		ASSERT_TRUE(trace_wakings_begin(t.tid));
		went = handles_come_and_go(self->rx, self->tx);
		umpsc_nap_ms(10);
		wakings = trace_wakings_end();
		EXPECT_TRUE(went);
		EXPECT_EQ(0, wakings) TH_LOG("system call %ld", w.syscall);
		EXPECT_TRUE(umpsc_thread_asleep(&t, w.syscall));
		EXPECT_FALSE(t.done);

		ASSERT_TRUE(trace_wakings_begin(t.tid));
		EXPECT_WRITE(self->tx, "x");
		ASSERT_TRUE(umpsc_thread_join(&t));
		EXPECT_LE(1, trace_wakings_end());
		EXPECT_EQ(POLLIN, t.ret);
		if (!waiter_takes(&w))
			ASSERT_TRUE(take(self->rx));
	}
	close(w.ep);
}

/* The same of those who wait for what becomes of the receiver. */
TEST_LONG(channel, handles_that_come_and_go_wake_no_sender)
{
	int weak = ASSERT_FD(umpsc_downgrade(self->tx, 0));
	int clone = ASSERT_FD(umpsc_clone(self->tx, 0));
	const int fds[] = { weak, clone };
	struct poller p[2] = {};
	int i, wakings;
	bool went;

	/* Each of its signals wakes somebody, too. */
	umpsc_timer_stop();
	for (i = 0; i < 2; i++)
		ASSERT_TRUE(poller_start(&p[i], fds[i], 0));
	for (i = 0; i < 2; i++) {
		ASSERT_TRUE(trace_wakings_begin(p[i].t.tid));
		went = handles_come_and_go(self->rx, self->tx);
		umpsc_nap_ms(10);
		wakings = trace_wakings_end();
		EXPECT_TRUE(went);
		EXPECT_EQ(0, wakings);
		EXPECT_TRUE(umpsc_thread_asleep(&p[i].t, SYS_poll));
	}
	ASSERT_TRUE(trace_wakings_begin(p[0].t.tid));
	ASSERT_EQ(0, umpsc_close(self->rx));
	for (i = 0; i < 2; i++)
		EXPECT_EQ(POLLERR, poller_end(&p[i]));
	EXPECT_LE(1, trace_wakings_end());
	close(weak);
	close(clone);
}

/* ---- epoll --------------------------------------------------------------- */

TEST_LONG(channel, epoll_level_tells_until_all_is_taken)
{
	int ep = ASSERT_FD(epoll_on(self->rx, EPOLLIN));
	int i;

	EXPECT_EQ(0, epoll_events(ep, 0));
	EXPECT_WRITE(self->tx, "a");
	EXPECT_WRITE(self->tx, "b");
	for (i = 0; i < 3; i++)
		EXPECT_EQ(EPOLLIN, epoll_events(ep, 0));
	ASSERT_TRUE(take(self->rx));
	EXPECT_EQ(EPOLLIN, epoll_events(ep, 0));
	ASSERT_TRUE(take(self->rx));
	EXPECT_EQ(0, epoll_events(ep, 0));
	ASSERT_EQ(0, umpsc_close(self->rx));
	EXPECT_EQ(EPOLLIN | EPOLLHUP, epoll_events(ep, 0));
	EXPECT_EQ(EPOLLIN | EPOLLHUP, epoll_events(ep, 0));
	close(ep);
}

TEST_LONG(channel, epoll_edge_tells_of_each_arrival)
{
	int ep = ASSERT_FD(epoll_on(self->rx, EPOLLIN | EPOLLET));
	unsigned char byte;
	int i;

	EXPECT_EQ(0, epoll_events(ep, 0));
	/* One message, one event, also where nothing is ever taken. */
	for (i = 0; i < 100; i++) {
		EXPECT_WRITE(self->tx, "abc");
		EXPECT_EQ(EPOLLIN, epoll_events(ep, 0));
		EXPECT_EQ(0, epoll_events(ep, 0));
	}
	/* Taking one, or a part of one, is no arrival. */
	ASSERT_TRUE(take(self->rx));
	EXPECT_EQ(0, epoll_events(ep, 0));
	ASSERT_EQ(1, read(self->rx, &byte, 1));
	EXPECT_EQ(0, epoll_events(ep, 0));
	/* Several since the last look are one event, and there is one. */
	for (i = 0; i < 100; i++)
		EXPECT_WRITE(self->tx, "abc");
	EXPECT_EQ(EPOLLIN, epoll_events(ep, 0));
	EXPECT_EQ(0, epoll_events(ep, 0));
	while (take(self->rx))
		;
	EXPECT_EQ(EAGAIN, errno == ETIMEDOUT ? EAGAIN : errno);
	EXPECT_EQ(0, epoll_events(ep, 0));
	EXPECT_WRITE(self->tx, "abc");
	EXPECT_EQ(EPOLLIN, epoll_events(ep, 0));
	close(ep);
}

TEST_LONG(channel, epoll_edge_reader_that_takes_one_sees_every_arrival)
{
	int ep = ASSERT_FD(epoll_on(self->rx, EPOLLIN | EPOLLET));
	int i;

	/* It falls behind by two in three. */
	for (i = 0; i < 300; i++) {
		if (i % 3 == 0) {
			EXPECT_WRITE(self->tx, "a");
			EXPECT_WRITE(self->tx, "b");
		}
		EXPECT_WRITE(self->tx, "c");
		EXPECT_EQ(EPOLLIN, epoll_events(ep, 0));
		ASSERT_TRUE(take(self->rx));
		EXPECT_EQ(0, epoll_events(ep, 0));
	}
	/* Waiting, it is woken by the next. */
	for (i = 0; i < 20; i++) {
		struct umpsc_thread t;

		ASSERT_TRUE(epoller_start(&t, &ep));
		EXPECT_WRITE(self->tx, "late");
		ASSERT_TRUE(umpsc_thread_join(&t));
		EXPECT_EQ(EPOLLIN, t.ret);
		ASSERT_TRUE(take(self->rx));
	}
	close(ep);
}

TEST_LONG(channel, epoll_edge_tells_of_the_end)
{
	int ep = ASSERT_FD(epoll_on(self->rx, EPOLLIN | EPOLLRDHUP | EPOLLET));
	int ts = ASSERT_FD(epoll_on(self->tx, EPOLLOUT | EPOLLET));

	EXPECT_EQ(EPOLLOUT, epoll_events(ts, 0));
	EXPECT_EQ(0, epoll_events(ts, 0));
	EXPECT_WRITE(self->tx, "a");
	EXPECT_EQ(EPOLLIN, epoll_events(ep, 0));
	EXPECT_EQ(0, epoll_events(ep, 0));
	ASSERT_EQ(0, umpsc_close(self->rx));
	EXPECT_EQ(EPOLLIN | EPOLLHUP | EPOLLRDHUP, epoll_events(ep, 0));
	EXPECT_EQ(0, epoll_events(ep, 0));
	EXPECT_EQ(EPOLLERR, epoll_events(ts, 0));
	EXPECT_EQ(0, epoll_events(ts, 0));
	close(ep);
	close(ts);
}

TEST_LONG(channel, epoll_edge_waiter_gets_every_message)
{
	int ep = ASSERT_FD(epoll_on(self->rx, EPOLLIN | EPOLLET));
	int i, n = 0, status;
	pid_t child = fork();

	ASSERT_LE(0, child);
	if (!child) {
		for (i = 0; i < 5000; i++)
			if (write(self->tx, &i, sizeof(i)) != sizeof(i))
				_exit(1);
		_exit(0);
	}
	close_fd(&self->tx);
	while (n < 5000) {
		ASSERT_LT(0, epoll_events(ep, UMPSC_PATIENCE * 1000))
		TH_LOG("after %d messages", n);
		while (read(self->rx, &i, sizeof(i)) == sizeof(i))
			ASSERT_EQ(n++, i);
	}
	status = umpsc_wait_child(child);
	EXPECT_EQ(0, status);
	EXPECT_END(self->rx);
	close(ep);
}

/* They come behind what a read passes over, and its EAGAIN is no end of them. */
TEST_LONG(channel, epoll_edge_waiter_gets_every_message_behind_empty_ones)
{
	int ep = ASSERT_FD(epoll_on(self->rx, EPOLLIN | EPOLLET));
	struct umpsc_batch b = {};
	int go[2], i, n, status;
	pid_t child;

	for (i = 0; i < 1000; i++)
		umpsc_batch_add(&b, "", 0);
	ASSERT_EQ(0, pipe2(go, O_CLOEXEC));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		close(go[1]);
		for (i = 0; i < 300; i++)
			if (umpsc_batch_send(self->tx, &b) != 1000 ||
			    write(self->tx, &i, sizeof(i)) != sizeof(i) ||
			    read(go[0], &n, 1) != 1)
				_exit(1);
		_exit(0);
	}
	close(go[0]);
	close_fd(&self->tx);
	for (n = 0; n < 300;) {
		ASSERT_LT(0, epoll_events(ep, UMPSC_PATIENCE * 1000))
		TH_LOG("after %d messages", n);
		while (read(self->rx, &i, sizeof(i)) == sizeof(i)) {
			ASSERT_EQ(n++, i);
			ASSERT_EQ(1, write(go[1], "", 1));
		}
	}
	status = umpsc_wait_child(child);
	EXPECT_EQ(0, status);
	EXPECT_END(self->rx);
	close(go[1]);
	close(ep);
	umpsc_batch_free(&b);
}

TEST_LONG(channel, epoll_oneshot_tells_once_until_armed_again)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLONESHOT };
	int ep = ASSERT_FD(epoll_on(self->rx, EPOLLIN | EPOLLONESHOT));

	EXPECT_WRITE(self->tx, "a");
	EXPECT_EQ(EPOLLIN, epoll_events(ep, 0));
	EXPECT_EQ(0, epoll_events(ep, 0));
	EXPECT_WRITE(self->tx, "b");
	EXPECT_EQ(0, epoll_events(ep, 0));
	/* Armed again it tells at once of what is there ... */
	ASSERT_EQ(0, epoll_ctl(ep, EPOLL_CTL_MOD, self->rx, &ev));
	EXPECT_EQ(EPOLLIN, epoll_events(ep, 0));
	ASSERT_TRUE(take(self->rx));
	ASSERT_TRUE(take(self->rx));
	/* ... and, where nothing is, of what comes. */
	ASSERT_EQ(0, epoll_ctl(ep, EPOLL_CTL_MOD, self->rx, &ev));
	EXPECT_EQ(0, epoll_events(ep, 0));
	EXPECT_WRITE(self->tx, "c");
	EXPECT_EQ(EPOLLIN, epoll_events(ep, 0));
	EXPECT_EQ(0, epoll_events(ep, 0));
	close(ep);
}

TEST_LONG(channel, epoll_exclusive_wakes_one_of_two)
{
	struct umpsc_thread t[2];
	int ep[2], i, woken;

	/* Who is woken by a signal looks, too. */
	umpsc_timer_stop();
	for (i = 0; i < 2; i++) {
		ep[i] = ASSERT_FD(epoll_on(self->rx, EPOLLIN | EPOLLEXCLUSIVE));
		ASSERT_TRUE(epoller_start(&t[i], &ep[i]));
	}
	EXPECT_WRITE(self->tx, "a");
	ASSERT_TRUE(UMPSC_UNTIL(t[0].done || t[1].done));
	/* The other was not woken with it: time enough, had it been. */
	umpsc_nap_ms(100);
	EXPECT_EQ(1, t[0].done + t[1].done);
	woken = t[1].done;
	ASSERT_TRUE(umpsc_thread_join(&t[woken]));
	EXPECT_EQ(EPOLLIN, t[woken].ret);
	EXPECT_TRUE(umpsc_thread_asleep(&t[!woken], SYS_epoll_wait));

	/* The first one never looked for more, so the next goes to the other. */
	EXPECT_WRITE(self->tx, "b");
	ASSERT_TRUE(umpsc_thread_join(&t[!woken]));
	EXPECT_EQ(EPOLLIN, t[!woken].ret);
	for (i = 0; i < 2; i++)
		close(ep[i]);
}

/*
 * The first send wakes one, which cannot run: the second send is for the other, who
 * must not sleep on because of one that has not looked.
 */
TEST_LONG(channel, epoll_exclusive_two_sends_wake_two)
{
	struct sched_param fifo = { .sched_priority = 10 };
	struct sched_param other = {};
	struct umpsc_thread t[2];
	int ep[2], i, ret[2];

	ASSERT_TRUE(umpsc_run_on(sched_getcpu()));
	for (i = 0; i < 2; i++) {
		ep[i] = ASSERT_FD(epoll_on(self->rx, EPOLLIN | EPOLLEXCLUSIVE));
		ASSERT_TRUE(epoller_start(&t[i], &ep[i]));
	}
	ASSERT_EQ(0, sched_setscheduler(0, SCHED_FIFO, &fifo));
	for (i = 0; i < 2; i++)
		ret[i] = write(self->tx, "x", 1);
	ASSERT_EQ(0, sched_setscheduler(0, SCHED_OTHER, &other));
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(1, ret[i]);
		ASSERT_TRUE(umpsc_thread_join(&t[i]));
		EXPECT_EQ(EPOLLIN, t[i].ret);
		close(ep[i]);
	}
}

TEST_LONG(channel, epoll_exclusive_all_wake_at_the_end)
{
	struct umpsc_thread t[3];
	int ep[3], i;

	for (i = 0; i < 3; i++) {
		ep[i] = ASSERT_FD(epoll_on(self->rx, EPOLLIN | EPOLLEXCLUSIVE));
		ASSERT_TRUE(epoller_start(&t[i], &ep[i]));
	}
	ASSERT_EQ(0, umpsc_close(self->rx));
	for (i = 0; i < 3; i++) {
		ASSERT_TRUE(umpsc_thread_join(&t[i]));
		EXPECT_EQ(EPOLLIN | EPOLLHUP, t[i].ret);
		close(ep[i]);
	}
}

TEST_LONG(channel, epoll_exclusive_does_not_hide_a_message_from_a_poller)
{
	int ep = ASSERT_FD(epoll_on(self->rx, EPOLLIN | EPOLLEXCLUSIVE));
	struct umpsc_thread t;
	struct poller p = {};

	ASSERT_TRUE(epoller_start(&t, &ep));
	ASSERT_TRUE(poller_start(&p, self->rx, POLLIN));
	EXPECT_WRITE(self->tx, "a");
	EXPECT_EQ(POLLIN, poller_end(&p));
	ASSERT_TRUE(umpsc_thread_join(&t));
	EXPECT_EQ(EPOLLIN, t.ret);
	close(ep);
}

TEST_LONG(channel, nested_epoll)
{
	int inner = ASSERT_FD(epoll_on(self->rx, EPOLLIN));
	int outer = ASSERT_FD(epoll_on(inner, EPOLLIN));
	struct umpsc_thread t;
	struct poller p = {};

	EXPECT_EQ(0, epoll_events(outer, 0));
	ASSERT_TRUE(epoller_start(&t, &outer));
	ASSERT_TRUE(poller_start(&p, outer, POLLIN));
	EXPECT_WRITE(self->tx, "x");
	ASSERT_TRUE(umpsc_thread_join(&t));
	EXPECT_EQ(EPOLLIN, t.ret);
	EXPECT_EQ(POLLIN, poller_end(&p));
	EXPECT_EQ(EPOLLIN, epoll_events(outer, 0));
	EXPECT_EQ(EPOLLIN, epoll_events(inner, 0));
	ASSERT_TRUE(take(self->rx));
	EXPECT_EQ(0, epoll_events(inner, 0));
	EXPECT_EQ(0, epoll_events(outer, 0));
	close(inner);
	close(outer);
}

TEST_LONG(channel, closing_a_watched_receiver_ends_it_at_once)
{
	int ep = ASSERT_FD(epoll_on(self->rx, EPOLLIN | EPOLLET));

	EXPECT_WRITE(self->tx, "x");
	close_fd(&self->rx);
	EXPECT_EVENTS(EPOLLERR, self->tx);
	EXPECT_ERR(EPIPE, write(self->tx, "x", 1));
	EXPECT_EQ(0, epoll_events(ep, 0));
	close(ep);
}

TEST_LONG(channel, send_recv_stream_unbounded)
{
	int ep = ASSERT_FD(epoll_on(self->rx, EPOLLIN));
	int i, n;

	for (i = 1; i <= 2; i++)
		ASSERT_EQ(sizeof(i), write(self->tx, &i, sizeof(i)));
	close_fd(&self->tx);
	for (i = 1; i <= 2; i++) {
		EXPECT_EQ(EPOLLIN | EPOLLHUP, epoll_events(ep, -1));
		ASSERT_EQ(sizeof(n), read(self->rx, &n, sizeof(n)));
		EXPECT_EQ(i, n);
	}
	EXPECT_EQ(EPOLLIN | EPOLLHUP, epoll_events(ep, -1));
	EXPECT_EQ(0, read(self->rx, &n, sizeof(n)));
	close(ep);
}

/* Tokio's macros_select.rs */
TEST_LONG(channel, select_streams)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int ep = ASSERT_FD(epoll_create1(EPOLL_CLOEXEC));
	int rx[2] = { self->rx }, tx[2] = { self->tx };
	int i, sum = 0, open = 2;
	ssize_t n;

	ASSERT_EQ(0,
		  umpsc_private_with(&rx[1], &tx[1], 0, O_NONBLOCK, 0, NULL));
	for (i = 0; i < 2; i++) {
		ev.data.fd = rx[i];
		ASSERT_EQ(0, epoll_ctl(ep, EPOLL_CTL_ADD, rx[i], &ev));
	}
	for (i = 1; i <= 3; i++)
		ASSERT_EQ(sizeof(i), write(tx[i % 2], &i, sizeof(i)));
	close_fd(&self->tx);
	close(tx[1]);
	while (open) {
		ASSERT_EQ(1,
			  umpsc_epoll_wait(ep, &ev, 1, UMPSC_PATIENCE * 1000));
		n = read(ev.data.fd, &i, sizeof(i));
		ASSERT_LE(0, n);
		if (n) {
			sum += i;
			continue;
		}
		ASSERT_EQ(0, epoll_ctl(ep, EPOLL_CTL_DEL, ev.data.fd, NULL));
		open--;
	}
	EXPECT_EQ(6, sum);
	close(rx[1]);
	close(ep);
}

/* ---- A limited channel ----------------------------------------------------- */

FIXTURE(limited)
{
	int rx;
	int tx;
};

FIXTURE_VARIANT(limited)
{
	struct umpsc_limits limits;
	int fill; /* messages of one byte that fill it */
	int half; /* ... that are half of it */
};

FIXTURE_VARIANT_ADD(limited, msgs)
UMPSC_VARIANT(.limits = { .max_msgs = 10 }, .fill = 10, .half = 5);

FIXTURE_VARIANT_ADD(limited, odd_msgs)
UMPSC_VARIANT(.limits = { .max_msgs = 7 }, .fill = 7, .half = 3);

FIXTURE_VARIANT_ADD(limited, one_msg)
UMPSC_VARIANT(.limits = { .max_msgs = 1 }, .fill = 1, .half = 0);

FIXTURE_VARIANT_ADD(limited, bytes)
UMPSC_VARIANT(.limits = { .max_bytes = 8 }, .fill = 8, .half = 4);

FIXTURE_VARIANT_ADD(limited, both)
UMPSC_VARIANT(.limits = { .max_msgs = 20, .max_bytes = 6 }, .fill = 6,
	      .half = 3);

FIXTURE_SETUP(limited)
{
	ASSERT_EQ(0, umpsc_private_with(&self->rx, &self->tx, 0, O_NONBLOCK, 0,
					&variant->limits));
}

FIXTURE_TEARDOWN(limited)
{
	close(self->rx);
	close(self->tx);
}

TEST_LONG(limited, out_below_the_limits)
{
	int i;

	for (i = 0; i < variant->fill; i++) {
		EXPECT_EVENTS(OUT, self->tx);
		EXPECT_WRITE(self->tx, "x");
	}
	EXPECT_EVENTS(0, self->tx);
	/* Nobody was refused: one taken is room again. */
	ASSERT_TRUE(take(self->rx));
	EXPECT_EVENTS(OUT, self->tx);
	EXPECT_WRITE(self->tx, "x");
	EXPECT_EVENTS(0, self->tx);
}

TEST_LONG(limited, after_enobufs_out_at_half)
{
	int clone = ASSERT_FD(umpsc_clone(self->tx, 0));
	int i;

	for (i = 0; i < variant->fill; i++)
		EXPECT_WRITE(self->tx, "x");
	EXPECT_ERR(ENOBUFS, write(self->tx, "x", 1));
	for (i = variant->fill; i > variant->half; i--) {
		EXPECT_EVENTS(0, self->tx);
		EXPECT_EVENTS(0, clone);
		ASSERT_TRUE(take(self->rx));
	}
	EXPECT_EVENTS(OUT, self->tx);
	EXPECT_EVENTS(OUT, clone);
	/* And then up to the limit. */
	for (; i < variant->fill; i++) {
		EXPECT_EVENTS(OUT, self->tx);
		EXPECT_WRITE(self->tx, "x");
	}
	EXPECT_EVENTS(0, self->tx);
	close(clone);
}

/* What was refused once does not count for ever, though nobody looked at half. */
TEST_LONG(limited, drained_unwatched_there_is_room_above_half_again)
{
	int i;

	for (i = 0; i < variant->fill; i++)
		EXPECT_WRITE(self->tx, "x");
	EXPECT_ERR(ENOBUFS, write(self->tx, "x", 1));
	for (i = 0; i < variant->fill; i++)
		ASSERT_TRUE(take(self->rx));
	for (i = 0; i < variant->half + 1; i++)
		EXPECT_WRITE(self->tx, "x");
	EXPECT_EVENTS(i < variant->fill ? OUT : 0, self->tx);
}

TEST_LONG(limited, room_wakes_a_sender)
{
	struct poller a = {}, b = {};
	int i;

	for (i = 0; i < variant->fill; i++)
		EXPECT_WRITE(self->tx, "x");
	ASSERT_TRUE(poller_start(&a, self->tx, POLLOUT));
	ASSERT_TRUE(poller_start(&b, self->tx, OUT));
	ASSERT_TRUE(take(self->rx));
	EXPECT_EQ(POLLOUT, poller_end(&a));
	EXPECT_EQ(OUT, poller_end(&b));
}

TEST_LONG(limited, half_wakes_a_refused_sender)
{
	int ep = ASSERT_FD(epoll_on(self->tx, EPOLLOUT | EPOLLET));
	struct poller p = {};
	int i;

	EXPECT_EQ(EPOLLOUT, epoll_events(ep, 0));
	for (i = 0; i < variant->fill; i++)
		EXPECT_WRITE(self->tx, "x");
	EXPECT_ERR(ENOBUFS, write(self->tx, "x", 1));
	EXPECT_EQ(0, epoll_events(ep, 0));
	ASSERT_TRUE(poller_start(&p, self->tx, POLLOUT));
	for (i = variant->fill; i > variant->half + 1; i--) {
		ASSERT_TRUE(take(self->rx));
		EXPECT_EQ(0, epoll_events(ep, 0));
	}
	EXPECT_TRUE(umpsc_thread_asleep(&p.t, SYS_poll));
	EXPECT_FALSE(p.t.done);
	ASSERT_TRUE(take(self->rx));
	EXPECT_EQ(POLLOUT, poller_end(&p));
	EXPECT_EQ(EPOLLOUT, epoll_events(ep, 0));
	EXPECT_EQ(0, epoll_events(ep, 0));
	close(ep);
}

/* Nobody polls after the refusal, which is a look of its own. */
TEST_LONG(limited, half_is_an_edge_after_a_refusal)
{
	int ep = ASSERT_FD(epoll_on(self->tx, EPOLLOUT | EPOLLET));
	int i;

	EXPECT_EQ(EPOLLOUT, epoll_events(ep, 0));
	for (i = 0; i < variant->fill; i++)
		EXPECT_WRITE(self->tx, "x");
	EXPECT_ERR(ENOBUFS, write(self->tx, "x", 1));
	for (i = variant->fill; i > variant->half + 1; i--) {
		ASSERT_TRUE(take(self->rx));
		EXPECT_EQ(0, epoll_events(ep, 0));
	}
	ASSERT_TRUE(take(self->rx));
	EXPECT_EQ(EPOLLOUT, epoll_events(ep, 0));
	EXPECT_EQ(0, epoll_events(ep, 0));
	close(ep);
}

TEST_LONG(limited, read_of_the_last_byte_makes_room)
{
	struct poller p = {};
	char data[64] = {};
	char byte;
	int i;

	/* One message that fills it, or as many as do. */
	if (variant->limits.max_bytes) {
		ASSERT_EQ(variant->fill, write(self->tx, data, variant->fill));
		for (i = 0; i < variant->fill - 1; i++) {
			ASSERT_EQ(1, read(self->rx, &byte, 1));
			EXPECT_EVENTS(0, self->tx);
		}
	} else {
		for (i = 0; i < variant->fill; i++)
			EXPECT_WRITE(self->tx, "x");
	}
	ASSERT_TRUE(poller_start(&p, self->tx, POLLOUT));
	ASSERT_EQ(1, read(self->rx, &byte, 1));
	EXPECT_EQ(POLLOUT, poller_end(&p));
}

TEST_LONG(limited, close_of_a_full_channel_is_err)
{
	struct poller p = {};
	int i;

	for (i = 0; i < variant->fill; i++)
		EXPECT_WRITE(self->tx, "x");
	EXPECT_ERR(ENOBUFS, write(self->tx, "x", 1));
	ASSERT_TRUE(poller_start(&p, self->tx, POLLOUT));
	ASSERT_EQ(0, umpsc_close(self->rx));
	EXPECT_EQ(POLLERR, poller_end(&p));
	while (take(self->rx))
		;
	EXPECT_EVENTS(EPOLLERR, self->tx);
}

/* A sender that waits for OUT and a receiver that waits for IN never both wait. */
TEST_LONG(limited, sender_and_receiver_that_wait_for_each_other_go_on)
{
	int i, status, n = 0;
	pid_t child = fork();
	char byte;

	ASSERT_LE(0, child);
	if (!child) {
		for (i = 0; i < 500;) {
			if (write(self->tx, "x", 1) == 1) {
				i++;
				continue;
			}
			if (errno != ENOBUFS ||
			    umpsc_poll_for(self->tx, POLLOUT,
					   UMPSC_PATIENCE * 1000) <= 0)
				_exit(1);
		}
		_exit(0);
	}
	while (n < 500) {
		if (read(self->rx, &byte, 1) == 1) {
			n++;
			continue;
		}
		ASSERT_EQ(EAGAIN, errno);
		ASSERT_LT(0, umpsc_poll_for(self->rx, POLLIN,
					    UMPSC_PATIENCE * 1000))
		TH_LOG("after %d messages", n);
	}
	status = umpsc_wait_child(child);
	EXPECT_EQ(0, status);
}

TEST_HARNESS_MAIN
