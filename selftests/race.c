// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pairs of calls that meet: whichever comes first, each does what it says, and nothing
 * is lost, doubled or left behind.  stress.c has the pairs that need many messages.
 */
#include "umpsc_race.h"

#include <sys/epoll.h>
#include <sys/resource.h>

FIXTURE(race)
{
	struct race race;
	struct racer racers[2];
	struct umpsc_query before;
};

FIXTURE_SETUP(race)
{
	race_query(_metadata, &self->before);
}

FIXTURE_TEARDOWN(race)
{
	race_expect_nothing_left(_metadata, &self->before);
}

/* Takes one message of one byte, by read() or RECV, and waits for it. */
static long receive_one(int rx, int how)
{
	unsigned char buf[64];

	if (how % 2)
		return read(rx, buf, 1);
	return umpsc_recv(rx, buf, sizeof(buf), 1, UMPSC_NO_DEADLINE, NULL,
			  NULL);
}

/* How often this thread has given up the CPU to wait for something. */
static long waits(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_nvcsw;
}

static void receive_once(struct racer *r)
{
	long before = waits();

	errno = 0;
	r->ret = receive_one(r->fd, r->k);
	r->err = errno;
	r->waited = waits() != before;
}

/* Waits for events k of fd, by the epoll other or, where that is -1, by poll(). */
static void poll_once(struct racer *r)
{
	struct epoll_event event;
	long before = waits();

	if (r->other < 0) {
		r->err = umpsc_poll_for(r->fd, r->k, UMPSC_PATIENCE * 1000);
		r->ret = r->err > 0;
	} else {
		r->ret = umpsc_epoll_wait(r->other, &event, 1,
					  UMPSC_PATIENCE * 1000);
		r->err = event.events;
	}
	r->waited = waits() != before;
}

/* The same, but the epoll is new and does not watch fd yet. */
static void watch_once(struct racer *r)
{
	struct epoll_event event = { .events = r->k };

	r->ret = r->other < 0 ?
			 0 :
			 epoll_ctl(r->other, EPOLL_CTL_ADD, r->fd, &event);
	if (!r->ret)
		poll_once(r);
}

static int epoll_on(int fd, __u32 events)
{
	struct epoll_event event = { .events = events };
	int ep = epoll_create1(EPOLL_CLOEXEC);

	if (ep >= 0 && epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event)) {
		close(ep);
		return -1;
	}
	return ep;
}

/* Takes what there is, without waiting: how many; errno is what came then, 0 the end. */
static int drain(int rx)
{
	unsigned char buf[1024];
	int n = 0;
	long ret;

	while ((ret = umpsc_recv(rx, buf, sizeof(buf), 5, 0, NULL, NULL)) > 0)
		n += ret;
	if (!ret)
		errno = 0;
	return n;
}

/* ---- Who is about to wait ------------------------------------------------------- */

/* In how many rounds who is about to wait did: [1]; and in how many it was too late: [0]. */
struct wait_counts {
	int in[2];
};

static bool waited_and_not(const struct wait_counts *w, int n)
{
	bool both = true;

	for (; n; n--, w++)
		both &= w->in[0] && w->in[1];
	return both;
}

static void expect_waited_and_not(struct __test_metadata *_metadata,
				  const struct race *race,
				  const struct wait_counts *w, int n)
{
	int i;

	for (i = 0; i < n; i++) {
		TH_LOG("%u rounds: it waited in %d, and not in %d",
		       race->rounds, w[i].in[1], w[i].in[0]);
		EXPECT_LT(0, w[i].in[0]);
		EXPECT_LT(0, w[i].in[1]);
	}
}

TEST_LONG(race, send_against_a_receive_that_is_about_to_wait)
{
	struct racer *r = self->racers;
	struct umpsc_info before, after;
	int rx, tx, woken = 0, unwoken = 0;

	ASSERT_EQ(0, umpsc_private(&rx, &tx));
	ASSERT_TRUE(race_begin(&self->race, r, 1, receive_once));
	while (race_next_until(&self->race, woken && unwoken)) {
		ASSERT_EQ(0, umpsc_info(tx, &before));
		r[0].fd = rx;
		r[0].k = self->race.rounds;
		race_go(&self->race);
		ASSERT_EQ(1, write(tx, "x", 1));
		race_wait(&self->race);
		ASSERT_EQ(1, r[0].ret);
		ASSERT_EQ(0, umpsc_info(tx, &after));
		ASSERT_EQ(before.received + 1, after.received);
		ASSERT_LE(after.wakeups, before.wakeups + 1);
		if (after.wakeups != before.wakeups)
			woken++;
		else
			unwoken++;
		race_was(&self->race, after.wakeups == before.wakeups);
	}
	ASSERT_TRUE(race_end(&self->race, r));
	TH_LOG("%u rounds: woken in %d", self->race.rounds, woken);
	EXPECT_LT(0, woken);
	EXPECT_LT(0, unwoken);
	close(rx);
	close(tx);
}

/* poll(), and each kind of epoll as it begins to watch. */
TEST_LONG(race, send_against_a_poll_that_is_about_to_wait)
{
	static const __u32 how[] = {
		EPOLLIN,
		EPOLLIN | EPOLLET,
		EPOLLIN | EPOLLONESHOT,
		EPOLLIN | EPOLLEXCLUSIVE,
	};
	struct racer *r = self->racers;
	int rx, tx, i, waited = 0;

	ASSERT_EQ(0, umpsc_private(&rx, &tx));
	ASSERT_TRUE(race_begin(&self->race, r, 1, watch_once));
	while (race_next_until(&self->race, waited)) {
		i = self->race.rounds % 5;
		r[0].fd = rx;
		r[0].k = i < 4 ? how[i] : POLLIN;
		r[0].other = i < 4 ? ASSERT_FD(epoll_create1(EPOLL_CLOEXEC)) :
				     -1;
		race_go(&self->race);
		ASSERT_EQ(1, write(tx, "x", 1));
		race_wait(&self->race);
		ASSERT_EQ(1, r[0].ret);
		ASSERT_EQ(POLLIN, r[0].err);
		ASSERT_EQ(1, receive_one(rx, 0));
		close(r[0].other);
		waited += r[0].waited;
		race_was(&self->race, !r[0].waited);
	}
	ASSERT_TRUE(race_end(&self->race, r));
	TH_LOG("%u rounds, it waited in %d", self->race.rounds, waited);
	EXPECT_LT(0, waited);
	close(rx);
	close(tx);
}

/* An edge-triggered epoll that has watched all the time. */
TEST_LONG(race, send_against_an_edge_that_is_about_to_be_waited_for)
{
	struct racer *r = self->racers;
	struct wait_counts w = {};
	int rx, tx, ep;

	ASSERT_EQ(0, umpsc_private(&rx, &tx));
	ep = ASSERT_FD(epoll_on(rx, EPOLLIN | EPOLLET));
	ASSERT_TRUE(race_begin(&self->race, r, 1, poll_once));
	while (race_next_until(&self->race, waited_and_not(&w, 1))) {
		r[0].other = ep;
		race_go(&self->race);
		ASSERT_EQ(1, write(tx, "x", 1));
		race_wait(&self->race);
		ASSERT_EQ(1, r[0].ret);
		ASSERT_EQ(POLLIN, r[0].err);
		ASSERT_EQ(1, receive_one(rx, 0));
		w.in[r[0].waited]++;
		race_was(&self->race, !r[0].waited);
	}
	ASSERT_TRUE(race_end(&self->race, r));
	expect_waited_and_not(_metadata, &self->race, &w, 1);
	close(ep);
	close(rx);
	close(tx);
}

/* CLOSE of another thread, in half of the rounds right behind a message. */
TEST_LONG(race, close_against_a_receive_that_is_about_to_wait)
{
	struct racer *r = self->racers;
	struct wait_counts w[2] = {};
	int rx, tx;

	ASSERT_TRUE(race_begin(&self->race, r, 1, receive_once));
	while (race_next_until(&self->race, waited_and_not(w, 2))) {
		ASSERT_EQ(0, umpsc_private(&rx, &tx));
		r[0].fd = rx;
		r[0].k = self->race.rounds / 2;
		race_go(&self->race);
		if (self->race.rounds % 2)
			ASSERT_EQ(1, write(tx, "x", 1));
		ASSERT_EQ(0, umpsc_close(rx));
		race_wait(&self->race);
		/* The message, if there was one, else the end. */
		ASSERT_EQ(self->race.rounds % 2, r[0].ret);
		ASSERT_EQ(0, r[0].err);
		EXPECT_END(rx);
		ASSERT_EQ(POLLERR, umpsc_poll(tx, 0));
		ASSERT_EQ(-1, write(tx, "x", 1));
		ASSERT_EQ(EPIPE, errno);
		close(rx);
		close(tx);
		w[self->race.rounds % 2].in[r[0].waited]++;
		race_was(&self->race, !r[0].waited);
	}
	ASSERT_TRUE(race_end(&self->race, r));
	expect_waited_and_not(_metadata, &self->race, w, 2);
}

/* The last drop, in half of the rounds right behind a message, against @fn of a receiver. */
static void last_drop(struct __test_metadata *_metadata,
		      FIXTURE_DATA(race) * self, void (*fn)(struct racer *r),
		      __u32 flags)
{
	struct racer *r = self->racers;
	struct wait_counts w[2] = {};
	int rx, tx;

	ASSERT_TRUE(race_begin(&self->race, r, 1, fn));
	while (race_next_until(&self->race, waited_and_not(w, 2))) {
		ASSERT_EQ(0, umpsc_private_with(&rx, &tx, 0, flags, 0, NULL));
		r[0].fd = rx;
		r[0].k = self->race.rounds / 2;
		race_go(&self->race);
		if (self->race.rounds % 2)
			ASSERT_EQ(1, write(tx, "x", 1));
		close(tx);
		race_wait(&self->race);
		ASSERT_EQ(self->race.rounds % 2, r[0].ret);
		ASSERT_EQ(0, r[0].err);
		EXPECT_END(rx);
		close(rx);
		w[self->race.rounds % 2].in[r[0].waited]++;
		race_was(&self->race, !r[0].waited);
	}
	ASSERT_TRUE(race_end(&self->race, r));
	expect_waited_and_not(_metadata, &self->race, w, 2);
}

TEST_LONG(race, last_drop_against_a_receive_that_is_about_to_wait)
{
	last_drop(_metadata, self, receive_once, 0);
}

/* One message, or the end, without waiting for either. */
static void receive_until(struct racer *r)
{
	r->waited = false;
	do {
		errno = 0;
		r->ret = receive_one(r->fd, r->k);
		r->err = errno;
		r->waited |= r->err == EAGAIN;
	} while (r->err == EAGAIN);
}

TEST_LONG(race, last_drop_against_a_receive_that_does_not_wait)
{
	last_drop(_metadata, self, receive_until, O_NONBLOCK);
}

TEST_LONG(race, last_drop_against_polls_that_are_about_to_wait)
{
	struct racer *r = self->racers;
	struct wait_counts w[2] = {};
	int rx, tx, weak, ep, i;

	ASSERT_TRUE(race_begin(&self->race, r, 2, watch_once));
	while (race_next_until(&self->race, waited_and_not(w, 2))) {
		ASSERT_EQ(0, umpsc_private(&rx, &tx));
		weak = ASSERT_FD(umpsc_downgrade(tx, 0));
		ep = ASSERT_FD(epoll_create1(EPOLL_CLOEXEC));
		r[0].fd = rx;
		r[0].k = EPOLLIN;
		r[0].other = self->race.rounds % 2 ? ep : -1;
		r[1].fd = weak;
		r[1].k = 0;
		r[1].other = self->race.rounds % 2 ? -1 : ep;
		race_go(&self->race);
		close(tx);
		race_wait(&self->race);
		ASSERT_EQ(1, r[0].ret);
		ASSERT_EQ(POLLIN | POLLHUP, r[0].err);
		ASSERT_EQ(1, r[1].ret);
		ASSERT_EQ(POLLHUP, r[1].err);
		EXPECT_END(rx);
		close(ep);
		close(rx);
		close(weak);
		for (i = 0; i < 2; i++)
			w[i].in[r[i].waited]++;
		race_was(&self->race, !r[self->race.rounds % 2].waited);
	}
	ASSERT_TRUE(race_end(&self->race, r));
	expect_waited_and_not(_metadata, &self->race, w, 2);
}

/* CLOSE in one round, the receiver's going in the next: Tokio's closed(). */
TEST_LONG(race, close_against_senders_that_are_about_to_wait)
{
	struct racer *r = self->racers;
	struct wait_counts w[2] = {};
	int rx, tx, weak, ep, i;

	ASSERT_TRUE(race_begin(&self->race, r, 2, watch_once));
	while (race_next_until(&self->race, waited_and_not(w, 2))) {
		ASSERT_EQ(0, umpsc_private(&rx, &tx));
		weak = ASSERT_FD(umpsc_downgrade(tx, 0));
		ep = ASSERT_FD(epoll_create1(EPOLL_CLOEXEC));
		i = self->race.rounds / 2 % 2;
		r[0].fd = tx;
		r[0].k = 0;
		r[0].other = i ? ep : -1;
		r[1].fd = weak;
		r[1].k = 0;
		r[1].other = i ? -1 : ep;
		race_go(&self->race);
		ASSERT_EQ(0,
			  self->race.rounds % 2 ? umpsc_close(rx) : close(rx));
		race_wait(&self->race);
		ASSERT_EQ(1, r[0].ret);
		ASSERT_EQ(POLLERR, r[0].err);
		ASSERT_EQ(1, r[1].ret);
		ASSERT_EQ(POLLERR, r[1].err);
		if (self->race.rounds % 2)
			close(rx);
		close(ep);
		close(tx);
		close(weak);
		race_was(&self->race, !r[!i].waited);
		for (i = 0; i < 2; i++)
			w[i].in[r[i].waited]++;
	}
	ASSERT_TRUE(race_end(&self->race, r));
	expect_waited_and_not(_metadata, &self->race, w, 2);
}

/* The channel has room for one: a sender waits for more while the receiver makes it. */
TEST_LONG(race, room_against_a_sender_that_is_about_to_wait)
{
	struct umpsc_limits limits = { .max_msgs = 1 };
	struct racer *r = self->racers;
	struct wait_counts w = {};
	int rx, tx, ep;

	ASSERT_EQ(0, umpsc_private_with(&rx, &tx, 0, O_NONBLOCK, 0, &limits));
	ASSERT_TRUE(race_begin(&self->race, r, 1, watch_once));
	while (race_next_until(&self->race, waited_and_not(&w, 1))) {
		ep = ASSERT_FD(epoll_create1(EPOLL_CLOEXEC));
		ASSERT_EQ(1, write(tx, "x", 1));
		/* Refused or not, and by which means it waits. */
		if (self->race.rounds % 2) {
			ASSERT_EQ(-1, write(tx, "y", 1));
			ASSERT_EQ(ENOBUFS, errno);
		}
		r[0].fd = tx;
		r[0].k = EPOLLOUT | (self->race.rounds % 4 < 2 ? EPOLLET : 0);
		r[0].other = self->race.rounds % 3 ? ep : -1;
		race_go(&self->race);
		ASSERT_EQ(1, receive_one(rx, self->race.rounds));
		race_wait(&self->race);
		ASSERT_EQ(1, r[0].ret);
		ASSERT_EQ(POLLOUT, r[0].err);
		close(ep);
		w.in[r[0].waited]++;
		race_was(&self->race, !r[0].waited);
	}
	ASSERT_TRUE(race_end(&self->race, r));
	expect_waited_and_not(_metadata, &self->race, &w, 1);
	close(rx);
	close(tx);
}

static atomic_int caught;

static void on_signal(int sig)
{
	caught++;
}

static void receive_or_send(struct racer *r)
{
	if (r == r->race->racers) {
		receive_once(r);
	} else {
		/* As long a moment as the signal's: either may be first. */
		race_moment(&r->seed, r->race->delay);
		r->ret = write(r->fd, "x", 1);
	}
}

/* A signal and a message at once: it is received, or EINTR and it is still there. */
TEST_LONG(race, signal_against_a_receive)
{
	struct sigaction action = { .sa_handler = on_signal };
	int rx, tx, took = 0, interrupted = 0;
	struct racer *r = self->racers;
	struct umpsc_info info;

	sigaction(SIGUSR1, &action, NULL);
	ASSERT_EQ(0, umpsc_private(&rx, &tx));
	ASSERT_TRUE(race_begin(&self->race, r, 2, receive_or_send));
	while (race_next_until(&self->race, took && interrupted)) {
		r[0].fd = rx;
		r[0].k = self->race.rounds;
		r[1].fd = tx;
		race_go(&self->race);
		ASSERT_EQ(0, pthread_kill(r[0].t.thread, SIGUSR1));
		race_wait(&self->race);
		ASSERT_EQ(1, r[1].ret);
		ASSERT_EQ(0, umpsc_info(rx, &info));
		/* Too late for it to interrupt: it had waited, and had its message. */
		race_was(&self->race, r[0].ret != 1 || !r[0].waited);
		if (r[0].ret == 1) {
			took++;
			ASSERT_EQ(0, info.messages);
			continue;
		}
		interrupted++;
		ASSERT_EQ(-1, r[0].ret);
		ASSERT_EQ(EINTR, r[0].err);
		ASSERT_EQ(1, info.messages);
		ASSERT_EQ(1, receive_one(rx, r[0].k));
	}
	ASSERT_TRUE(race_end(&self->race, r));
	TH_LOG("%u rounds: %d received, %d interrupted", self->race.rounds,
	       took, interrupted);
	EXPECT_EQ(self->race.rounds, caught);
	EXPECT_LT(0, took);
	EXPECT_LT(0, interrupted);
	close(rx);
	close(tx);
}

static void receive_until_soon(struct racer *r)
{
	unsigned char buf[64];

	errno = 0;
	r->ret = umpsc_recv(r->fd, buf, sizeof(buf), 1, umpsc_now_ns() + 100000,
			    NULL, NULL);
	r->err = errno;
}

/* A deadline and a message at once: it is received, or too late and still there. */
TEST_LONG(race, deadline_against_a_receive)
{
	int rx, tx, took = 0, late = 0;
	struct racer *r = self->racers;
	struct umpsc_info info;

	ASSERT_EQ(0, umpsc_private(&rx, &tx));
	ASSERT_TRUE(race_begin(&self->race, r, 1, receive_until_soon));
	while (race_next_until(&self->race, took && late)) {
		r[0].fd = rx;
		race_go(&self->race);
		ASSERT_EQ(1, write(tx, "x", 1));
		race_wait(&self->race);
		ASSERT_EQ(0, umpsc_info(rx, &info));
		race_was(&self->race, r[0].ret == 1);
		if (r[0].ret == 1) {
			took++;
			ASSERT_EQ(0, info.messages);
			continue;
		}
		late++;
		ASSERT_EQ(-1, r[0].ret);
		ASSERT_EQ(ETIMEDOUT, r[0].err);
		ASSERT_EQ(1, info.messages);
		ASSERT_EQ(1, receive_one(rx, self->race.rounds));
	}
	ASSERT_TRUE(race_end(&self->race, r));
	TH_LOG("%u rounds: %d received, %d too late", self->race.rounds, took,
	       late);
	EXPECT_LT(0, took);
	EXPECT_LT(0, late);
	close(rx);
	close(tx);
}

/* ---- Handles that come and go ------------------------------------------------------ */

/* Hands a sender on, so that there is one at every moment; other is a weak one. */
static void hand_on(struct racer *r)
{
	int i, next;

	r->err = 0;
	for (i = 0; i < 10; i++) {
		next = (i + r->k) % 2 ? umpsc_clone(r->fd, 0) :
					umpsc_upgrade(r->other, 0);
		if (next < 0)
			r->err = errno;
		close(r->fd);
		r->fd = next;
	}
}

TEST_LONG(race, clone_and_upgrade_against_drop_keep_the_channel_open)
{
	struct racer *r = self->racers;
	struct umpsc_info info;
	int rx, tx, weak, i;

	ASSERT_EQ(0, umpsc_private(&rx, &tx));
	weak = ASSERT_FD(umpsc_downgrade(tx, 0));
	ASSERT_TRUE(race_begin(&self->race, r, 2, hand_on));
	for (i = 0; i < 2; i++) {
		r[i].fd = i ? ASSERT_FD(umpsc_clone(tx, 0)) : tx;
		r[i].other = weak;
	}
	while (race_next(&self->race)) {
		for (i = 0; i < 2; i++)
			r[i].k = self->race.rounds >> i;
		race_go(&self->race);
		ASSERT_EQ(0, umpsc_info(rx, &info));
		ASSERT_LE(2, info.strong);
		ASSERT_LE(info.strong, 4);
		ASSERT_EQ(UMPSC_STATE_CLAIMED, info.state);
		ASSERT_EQ(0, umpsc_poll(rx, 0));
		race_wait(&self->race);
		ASSERT_EQ(0, r[0].err);
		ASSERT_EQ(0, r[1].err);
		ASSERT_EQ(0, umpsc_info(rx, &info));
		ASSERT_EQ(2, info.strong);
	}
	ASSERT_TRUE(race_end(&self->race, r));
	TH_LOG("%u rounds", self->race.rounds);
	for (i = 0; i < 2; i++)
		close(r[i].fd);
	EXPECT_END(rx);
	close(rx);
	close(weak);
}

enum make {
	CLONE_SENDER,
	DOWNGRADE,
	CLONE_WEAK,
	UPGRADE,
	SENDER,
	MAKES,
};

static void make_one(struct racer *r)
{
	switch (r->k) {
	case CLONE_SENDER:
	case CLONE_WEAK:
		r->ret = umpsc_clone(r->fd, 0);
		break;
	case DOWNGRADE:
		r->ret = umpsc_downgrade(r->fd, 0);
		break;
	case UPGRADE:
		r->ret = umpsc_upgrade(r->fd, 0);
		break;
	case SENDER:
		r->ret = umpsc_sender(r->fd, 0);
		break;
	}
	r->err = r->ret < 0 ? errno : 0;
}

/* The new handle is there, whole, or there was nothing to make it from. */
TEST_LONG(race, making_a_handle_against_closing_what_it_is_made_from)
{
	static const char *const names[] = { "clone", "downgrade", "weak clone",
					     "upgrade", "sender" };
	struct racer *r = self->racers;
	int made[MAKES] = {}, failed[MAKES] = {};
	int rx, tx, weak, keep, strong, new, i;
	bool met = false;
	/* Each of them takes its own time. */
	__u64 delay[MAKES];
	struct umpsc_info info;

	ASSERT_TRUE(race_begin(&self->race, r, 1, make_one));
	self->race.least = 20 * MAKES;
	for (i = 0; i < MAKES; i++)
		delay[i] = self->race.delay;
	while (race_next_until(&self->race, met)) {
		ASSERT_EQ(0, umpsc_private(&rx, &tx));
		weak = ASSERT_FD(umpsc_downgrade(tx, 0));
		keep = ASSERT_FD(umpsc_clone(weak, 0));
		r[0].k = self->race.rounds % MAKES;
		r[0].fd = r[0].k <= DOWNGRADE ? tx :
			  r[0].k == SENDER    ? rx :
						weak;
		self->race.delay = delay[r[0].k];
		race_go(&self->race);
		close(r[0].fd);
		race_wait(&self->race);
		new = r[0].ret;
		if (new < 0)
			ASSERT_EQ(EBADF, r[0].err);
		race_tune(&delay[r[0].k], new < 0);
		made[r[0].k] += new >= 0;
		failed[r[0].k] += new < 0;
		for (met = true, i = 0; i < MAKES; i++)
			met &= made[i] && failed[i];

		strong = r[0].k > DOWNGRADE;
		if (new >= 0 && r[0].k != DOWNGRADE && r[0].k != CLONE_WEAK)
			strong++;
		ASSERT_EQ(0, umpsc_info(keep, &info));
		ASSERT_EQ(strong, info.strong);
		ASSERT_EQ(1 + (r[0].k <= DOWNGRADE || r[0].k == SENDER) +
				  (new >= 0 && (r[0].k == DOWNGRADE ||
						r[0].k == CLONE_WEAK)),
			  info.weak);
		ASSERT_EQ(r[0].k == SENDER,
			  !!(info.state & UMPSC_STATE_RECEIVER_GONE));
		ASSERT_EQ(r[0].k == SENDER || !strong,
			  !!(info.state & UMPSC_STATE_ENDED));
		if (r[0].fd != tx)
			close(tx);
		if (r[0].fd != weak)
			close(weak);
		if (new >= 0)
			close(new);
		ASSERT_EQ(0, umpsc_info(keep, &info));
		ASSERT_EQ(0, info.strong);
		ASSERT_EQ(1, info.weak);
		if (r[0].fd != rx) {
			EXPECT_END(rx);
			close(rx);
		}
		close(keep);
	}
	ASSERT_TRUE(race_end(&self->race, r));
	for (i = 0; i < MAKES; i++) {
		TH_LOG("%u rounds, %s: %d made, %d failed", self->race.rounds,
		       names[i], made[i], failed[i]);
		EXPECT_LT(0, made[i]);
		EXPECT_LT(0, failed[i]);
	}
}

static void watch(struct racer *r, int op, struct epoll_event *event)
{
	if (epoll_ctl(r->other, op, r->fd, event))
		r->refused++;
	else
		r->accepted++;
}

/*
 * Watches fd, and no longer, and again, by the epoll other, which is refused once it is
 * closed; or sends by it.
 */
static void watch_or_send(struct racer *r)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLET };
	int i;

	r->accepted = 0;
	r->refused = 0;
	for (i = 0; i < 4; i++) {
		if (r != r->race->racers) {
			r->ret = write(r->fd, "x", 1);
			continue;
		}
		event.events ^= i % 2 ? EPOLLET : EPOLLONESHOT;
		watch(r, EPOLL_CTL_ADD, &event);
		watch(r, EPOLL_CTL_MOD, &event);
		if (i < 3)
			watch(r, EPOLL_CTL_DEL, NULL);
	}
}

TEST_LONG(race, epoll_ctl_against_last_close)
{
	struct racer *r = self->racers;
	struct epoll_event event;
	struct umpsc_info info;
	int fd[3], clone, ep, i, between = 0;

	ASSERT_TRUE(race_begin(&self->race, r, 2, watch_or_send));
	while (race_next_until(&self->race, between)) {
		/* Receiver, sender, weak sender: one of them goes. */
		ASSERT_EQ(0, umpsc_private(&fd[0], &fd[1]));
		fd[2] = ASSERT_FD(umpsc_downgrade(fd[1], 0));
		clone = ASSERT_FD(umpsc_clone(fd[1], 0));
		ep = ASSERT_FD(epoll_create1(EPOLL_CLOEXEC));
		i = self->race.rounds % 3;
		r[0].fd = fd[i];
		r[0].other = ep;
		r[1].fd = clone;
		race_go(&self->race);
		close(fd[i]);
		race_wait(&self->race);
		between += r[0].accepted && r[0].refused;
		race_was(&self->race, r[0].refused > r[0].accepted);
		/* It is gone, and the epoll with which it was watched knows. */
		ASSERT_EQ(0, umpsc_info(clone, &info));
		ASSERT_EQ(i == 1 ? 1 : 2, info.strong);
		ASSERT_EQ(i == 2 ? 0 : 1, info.weak);
		ASSERT_EQ(!i, !!(info.state & UMPSC_STATE_RECEIVER_GONE));
		ASSERT_EQ(0, epoll_wait(ep, &event, 1, 0));
		close(ep);
		close(clone);
		if (i == 1)
			ASSERT_EQ(POLLHUP, umpsc_poll(fd[2], 0));
		for (i = 0; i < 3; i++)
			if (fd[i] != r[0].fd)
				close(fd[i]);
	}
	ASSERT_TRUE(race_end(&self->race, r));
	TH_LOG("%u rounds: between two calls in %d", self->race.rounds,
	       between);
	EXPECT_LT(0, between);
}

/* ---- A node's channel ----------------------------------------------------------------- */

#define NODE "race-test"

FIXTURE(node)
{
	struct race race;
	struct racer racers[2];
	struct umpsc_query before;
	int manager;
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
	umpsc_node_remove(NODE);
	race_query(_metadata, &self->before);
	ASSERT_EQ(0, umpsc_node_create(NODE, variant->flags, NULL));
	self->manager = ASSERT_FD(umpsc_open(NODE, O_RDWR));
}

FIXTURE_TEARDOWN(node)
{
	umpsc_node_remove(NODE);
	close(self->manager);
	race_expect_nothing_left(_metadata, &self->before);
}

/* echo > NODE; fd is what it was opened with, once it is closed. */
static void join_send_drop(struct racer *r)
{
	r->fd = umpsc_open(NODE, O_WRONLY);
	r->ret = r->fd < 0 ? -1 : write(r->fd, "x", 1);
	r->err = r->ret < 0 ? errno : 0;
	close(r->fd);
}

TEST_LONG(node, claim_against_first_join_and_last_drop)
{
	const bool standing = variant->flags & UMPSC_STANDING;
	struct racer *r = self->racers;
	struct umpsc_info info;
	int rx, early = 0;

	ASSERT_TRUE(race_begin(&self->race, r, 1, join_send_drop));
	while (race_next_until(&self->race,
			       early && early < self->race.rounds)) {
		race_go(&self->race);
		rx = ASSERT_FD(umpsc_open(NODE, O_RDONLY));
		ASSERT_EQ(0, umpsc_info(rx, &info));
		early += !info.sent;
		race_was(&self->race, !info.sent);
		/* In whichever order: the message, and then the end if there is one. */
		ASSERT_EQ(1, receive_one(rx, self->race.rounds));
		race_wait(&self->race);
		ASSERT_EQ(1, r[0].ret);
		ASSERT_EQ(0, umpsc_info(rx, &info));
		ASSERT_EQ(self->race.rounds, info.generation);
		ASSERT_EQ(0, info.strong);
		ASSERT_EQ(1, info.sent);
		ASSERT_EQ(1, umpsc_same(self->manager, rx));
		if (standing) {
			ASSERT_EQ(0, umpsc_poll(rx, 0));
			ASSERT_EQ(0, umpsc_close(rx));
		}
		EXPECT_END(rx);
		close(rx);
	}
	ASSERT_TRUE(race_end(&self->race, r));
	TH_LOG("%u rounds: the claim came first in %d", self->race.rounds,
	       early);
	EXPECT_LT(0, early);
	EXPECT_LT(early, self->race.rounds);
}

/* What there is of a node's channel as two opens or closes meet. */
enum edge {
	UNUSED, /* no channel, or one that has ended */
	JOINED, /* a sender that has sent */
	LEFT, /* ... and gone */
	CLAIMED, /* a receiver that nobody joined */
	BOTH,
	CLOSED, /* ... of which the receiver said CLOSE */
	SENDERLESS, /* a receiver whose sender has sent and gone */
	RECEIVERLESS, /* a sender whose receiver has gone */
	EDGES,
};

enum step {
	OPEN_SENDER,
	OPEN_RECEIVER,
	DROP_SENDER,
	DROP_RECEIVER,
	CLOSE,
	STEPS,
};

/* What was accepted by a channel, and what came out of it. */
struct ledger {
	__u64 channel;
	int accepted;
	int received;
};

struct scene {
	enum edge edge;
	int tx; /* or -1 */
	int rx;
	struct ledger ledger[8];
};

static struct ledger *ledger_of(struct scene *s, int fd)
{
	struct umpsc_info info;
	struct ledger *l;

	if (umpsc_info(fd, &info))
		abort();
	for (l = s->ledger; l->channel && l->channel != info.channel; l++)
		;
	l->channel = info.channel;
	return l;
}

static bool scene_send(struct scene *s, int tx)
{
	if (write(tx, "x", 1) != 1)
		return false;
	ledger_of(s, tx)->accepted++;
	return true;
}

/* All that was accepted and did not come out yet comes out of @rx now. */
static bool scene_drain(struct scene *s, int rx)
{
	struct ledger *l = ledger_of(s, rx);

	l->received += drain(rx);
	return l->received == l->accepted;
}

/* Sets the scene on a node whose channel, if there is one, has ended. */
static bool scene_set(struct scene *s, enum edge edge)
{
	bool sender = edge != UNUSED && edge != CLAIMED;
	bool receiver = edge >= CLAIMED;
	bool ok = true;

	*s = (struct scene){ .edge = edge, .tx = -1, .rx = -1 };
	if (sender) {
		s->tx = umpsc_open(NODE, O_WRONLY);
		ok &= s->tx >= 0;
	}
	if (receiver) {
		s->rx = umpsc_open(NODE, O_RDONLY | O_NONBLOCK);
		ok &= s->rx >= 0;
	}
	if (ok && sender)
		ok &= scene_send(s, s->tx);
	if (edge == LEFT || edge == SENDERLESS) {
		close(s->tx);
		s->tx = -1;
	}
	if (edge == CLOSED)
		ok &= !umpsc_close(s->rx);
	if (edge == RECEIVERLESS) {
		ok &= scene_drain(s, s->rx);
		close(s->rx);
		s->rx = -1;
	}
	return ok;
}

static bool scene_has(struct scene *s, enum step step)
{
	switch (step) {
	case DROP_SENDER:
		return s->tx >= 0;
	case DROP_RECEIVER:
	case CLOSE:
		return s->rx >= 0;
	default:
		return true;
	}
}

/* Is there a receiver for which opening for reading is EBUSY? */
static bool scene_busy(struct scene *s, bool standing)
{
	return s->rx >= 0 && s->edge != CLOSED &&
	       (standing || s->edge != SENDERLESS);
}

/* k is the step, fd what it is about; for an open ret is the new fd. */
static void take_step(struct racer *r)
{
	switch (r->k) {
	case OPEN_SENDER:
		r->ret = umpsc_open(NODE, O_WRONLY);
		break;
	case OPEN_RECEIVER:
		r->ret = umpsc_open(NODE, O_RDONLY | O_NONBLOCK);
		break;
	case DROP_SENDER:
	case DROP_RECEIVER:
		r->ret = close(r->fd);
		break;
	case CLOSE:
		r->ret = umpsc_close(r->fd);
		break;
	}
	r->err = r->ret < 0 ? errno : 0;
}

static void scene_cast(struct scene *s, struct racer *r, enum step step)
{
	r->k = step;
	r->fd = step == DROP_SENDER ? s->tx : s->rx;
	r->ret = -1;
}

/* What a step has made of the scene: @senders and @receivers, -1 where there is none. */
static void scene_after(struct scene *s, const struct racer *r, int *sender,
			int *receiver)
{
	*sender = -1;
	*receiver = -1;
	if (r->k == OPEN_SENDER)
		*sender = r->ret;
	else if (r->k == OPEN_RECEIVER)
		*receiver = r->ret;
	else if (r->k == DROP_SENDER)
		s->tx = -1;
	else if (r->k == DROP_RECEIVER)
		s->rx = -1;
}

/* Each handle is of a channel that counts it, and does what that channel's state says. */
static void expect_scene(struct __test_metadata *_metadata, struct scene *s,
			 int manager, const int *senders, const int *receivers)
{
	struct umpsc_info node, info;
	int i, strong = 0, claimed = 0;

	ASSERT_EQ(0, umpsc_info(manager, &node));
	for (i = 0; i < 3; i++) {
		if (senders[i] < 0)
			continue;
		strong += umpsc_same(senders[i], manager);
		ASSERT_EQ(0, umpsc_info(senders[i], &info));
		ASSERT_EQ(!(info.state & UMPSC_STATE_CLOSED),
			  scene_send(s, senders[i]));
	}
	for (i = 0; i < 3; i++) {
		if (receivers[i] < 0)
			continue;
		claimed += umpsc_same(receivers[i], manager);
		ASSERT_TRUE(scene_drain(s, receivers[i]));
		ASSERT_EQ(0, umpsc_info(receivers[i], &info));
		ASSERT_EQ(info.state & UMPSC_STATE_ENDED ? 0 : EAGAIN,
			  (drain(receivers[i]), errno));
	}
	ASSERT_EQ(strong, node.strong);
	ASSERT_EQ(claimed, !!(node.state & UMPSC_STATE_CLAIMED));
}

static void expect_steps(struct __test_metadata *_metadata, struct scene *s,
			 bool busy, const struct racer *a,
			 const struct racer *b)
{
	const struct racer *steps[] = { a, b };
	int i, won = 0;

	for (i = 0; i < 2; i++) {
		switch (steps[i]->k) {
		case OPEN_RECEIVER:
			won += steps[i]->ret >= 0;
			if (steps[i]->ret < 0)
				ASSERT_EQ(EBUSY, steps[i]->err);
			break;
		case CLOSE:
			/* The receiver may have gone under it. */
			if (steps[i]->ret)
				ASSERT_EQ(EBADF, steps[i]->err);
			break;
		default:
			ASSERT_LE(0, steps[i]->ret)
			TH_LOG("step %d: %s", steps[i]->k,
			       strerror(steps[i]->err));
		}
	}
	/* One who opens for reading gets in, where nobody keeps him out. */
	if (!busy && (a->k == OPEN_RECEIVER || b->k == OPEN_RECEIVER))
		ASSERT_LE(1, won);
}

TEST_LONG(node, open_and_close_at_each_edge_of_a_channels_life)
{
	const bool standing = variant->flags & UMPSC_STANDING;
	int senders[3], receivers[3], rx, i;
	struct racer *r = self->racers, own;
	struct umpsc_info before, after;
	struct scene s;
	bool busy;

	ASSERT_TRUE(race_begin(&self->race, r, 1, take_step));
	self->race.least = EDGES * STEPS * STEPS;
	while (race_next(&self->race)) {
		i = self->race.rounds;
		ASSERT_TRUE(scene_set(&s, i % EDGES));
		ASSERT_EQ(0, umpsc_info(self->manager, &before));
		busy = scene_busy(&s, standing);
		/* Each pair of steps that can be taken here, in its turn. */
		scene_cast(&s, &r[0], i / EDGES % STEPS);
		scene_cast(&s, &own, i / EDGES / STEPS % STEPS);
		if (!scene_has(&s, r[0].k))
			scene_cast(&s, &r[0], OPEN_SENDER);
		if (!scene_has(&s, own.k) ||
		    (own.k == r[0].k && own.k >= DROP_SENDER))
			scene_cast(&s, &own, OPEN_RECEIVER);

		race_go(&self->race);
		take_step(&own);
		race_wait(&self->race);

		expect_steps(_metadata, &s, busy, &r[0], &own);
		scene_after(&s, &r[0], &senders[0], &receivers[0]);
		scene_after(&s, &own, &senders[1], &receivers[1]);
		senders[2] = s.tx;
		receivers[2] = s.rx;
		expect_scene(_metadata, &s, self->manager, senders, receivers);
		ASSERT_EQ(0, umpsc_info(self->manager, &after));
		ASSERT_LE(before.generation, after.generation);
		ASSERT_LE(after.generation, before.generation + 2);

		for (i = 0; i < 3; i++) {
			if (senders[i] >= 0)
				close(senders[i]);
			if (receivers[i] >= 0)
				close(receivers[i]);
		}
		/* What waits there still comes out; then the channel ends. */
		rx = ASSERT_FD(umpsc_open(NODE, O_RDONLY | O_NONBLOCK));
		ASSERT_TRUE(scene_drain(&s, rx));
		ASSERT_EQ(0, umpsc_close(rx));
		close(rx);
		ASSERT_EQ(KSFT_PASS, _metadata->exit_code)
		TH_LOG("edge %d, steps %d and %d", s.edge, r[0].k, own.k);
	}
	ASSERT_TRUE(race_end(&self->race, r));
	TH_LOG("%u rounds", self->race.rounds);
}

/* ---- REMOVE against everything ----------------------------------------------------------- */

/* What a racer does as the node is removed; it has a sender or the receiver as fd. */
enum deed {
	/* To the node. */
	ECHO,
	CAT,
	LOOK,
	CREATE,
	REMOVE,
	/* With a sender, and a weak one as other. */
	WRITE,
	SEND_BATCH,
	SEND_CLONE,
	SEND_CLONE_WEAK,
	SEND_WEAK,
	SEND_UPGRADE,
	SEND_SAME,
	SEND_REOPEN,
	SEND_POLL,
	SEND_WATCH,
	SEND_INFO,
	SEND_DROP,
	/* With the receiver, and the manager as other. */
	RECEIVE,
	RECEIVE_POLL,
	RECEIVE_SENDER,
	RECEIVE_SAME,
	RECEIVE_REOPEN,
	RECEIVE_INFO,
	RECEIVE_CLOSE,
	RECEIVE_DROP,
	DEEDS,
};

#define FIRST_OF_SENDER WRITE
#define FIRST_OF_RECEIVER RECEIVE

/* 0, or the errno of what failed and may not; closes @fd. */
static int closed(int fd, int may, int or)
{
	int err = fd < 0 ? errno : 0;

	if (fd >= 0)
		close(fd);
	return err == may || err == or ? 0 : err;
}

static int deed_node(struct racer *r)
{
	unsigned char buf[64];
	struct umpsc_info info;
	int fd, err;

	switch (r->k) {
	case ECHO:
		fd = umpsc_open(NODE, O_WRONLY);
		if (fd >= 0 && write(fd, "x", 1) != 1 && errno != EPIPE) {
			err = errno;
			close(fd);
			return err;
		}
		return closed(fd, ENOENT, ENXIO);
	case CAT:
		fd = umpsc_open(NODE, O_RDONLY | O_NONBLOCK);
		if (fd < 0)
			return errno == EBUSY ? 0 : closed(fd, ENOENT, ENXIO);
		err = read(fd, buf, sizeof(buf)) < 0 && errno != EAGAIN ?
			      errno :
			      0;
		close(fd);
		return err;
	case LOOK:
		fd = umpsc_open(NODE, O_RDWR);
		if (fd >= 0 && umpsc_info(fd, &info) && errno != ENXIO) {
			err = errno;
			close(fd);
			return err;
		}
		return closed(fd, ENOENT, ENXIO);
	case CREATE:
		return umpsc_node_create(NODE, 0, NULL) && errno != EEXIST ?
			       errno :
			       0;
	default:
		return umpsc_node_remove(NODE) && errno != ENOENT ? errno : 0;
	}
}

static int reopen(int fd, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags | O_NONBLOCK | O_CLOEXEC);
}

/* All of a batch, or none of it. */
static int send_batch(struct racer *r)
{
	struct umpsc_batch b = {};
	long ret;
	int err;

	umpsc_batch_add(&b, "one", 3);
	umpsc_batch_add(&b, "", 0);
	umpsc_batch_add(&b, "three", 5);
	ret = umpsc_batch_send(r->fd, &b);
	err = ret == 3 || (ret < 0 && errno == EPIPE) ? 0 :
	      ret < 0				      ? errno :
							EPROTO;
	r->accepted = ret < 0 ? 0 : ret;
	umpsc_batch_free(&b);
	return err;
}

static int deed_sender(struct racer *r)
{
	struct umpsc_info info;
	int fd;

	switch (r->k) {
	case WRITE:
		r->accepted = write(r->fd, "x", 1) == 1;
		return r->accepted || errno == EPIPE ? 0 : errno;
	case SEND_BATCH:
		return send_batch(r);
	case SEND_CLONE:
		return closed(umpsc_clone(r->fd, 0), 0, 0);
	case SEND_CLONE_WEAK:
		return closed(umpsc_clone(r->other, 0), 0, 0);
	case SEND_SAME:
		/* Whatever becomes of the node. */
		return umpsc_same(r->fd, r->other) == 1 ? 0 : EPROTO;
	case SEND_REOPEN:
		return closed(reopen(r->fd, O_WRONLY), ENXIO, 0);
	case SEND_WEAK:
		return closed(umpsc_downgrade(r->fd, 0), 0, 0);
	case SEND_UPGRADE:
		return closed(umpsc_upgrade(r->other, 0), 0, 0);
	case SEND_POLL:
		fd = umpsc_poll(r->fd, 0);
		return fd == UMPSC_POLL_OUT || fd == POLLERR ? 0 : EPROTO;
	case SEND_WATCH:
		return closed(epoll_on(r->other, EPOLLET), 0, 0);
	case SEND_INFO:
		return umpsc_info(r->fd, &info) ? errno : 0;
	default:
		return close(r->fd) ? errno : 0;
	}
}

static int deed_receiver(struct racer *r)
{
	struct umpsc_info info;
	int fd;

	switch (r->k) {
	case RECEIVE:
		r->ret = receive_one(r->fd, r->race->rounds);
		return r->ret < 0 && errno != EAGAIN ? errno : 0;
	case RECEIVE_POLL:
		/* For as long as the receive would wait. */
		fd = umpsc_poll(r->fd, fcntl(r->fd, F_GETFL) & O_NONBLOCK ?
					       0 :
					       UMPSC_PATIENCE * 1000);
		return fd < 0 ? errno : 0;
	case RECEIVE_SENDER:
		return closed(umpsc_sender(r->fd, 0), ESHUTDOWN, 0);
	case RECEIVE_SAME:
		/* Where there is no node, it leads nowhere. */
		fd = umpsc_same(r->fd, r->other);
		return fd == 0 || fd == 1 ? 0 : EPROTO;
	case RECEIVE_REOPEN:
		/* It claims another channel, where a sender has come and gone. */
		return closed(reopen(r->fd, O_RDONLY), EBUSY, ENXIO);
	case RECEIVE_INFO:
		if (umpsc_info(r->fd, &info))
			return errno;
		return umpsc_fionread(r->fd) < 0 ? errno : 0;
	case RECEIVE_CLOSE:
		return umpsc_close(r->fd) ? errno : 0;
	default:
		return close(r->fd) ? errno : 0;
	}
}

static void do_deed(struct racer *r)
{
	r->accepted = 0;
	if (r->k < FIRST_OF_SENDER)
		r->err = deed_node(r);
	else if (r->k < FIRST_OF_RECEIVER)
		r->err = deed_sender(r);
	else
		r->err = deed_receiver(r);
}

TEST_LONG(node, remove_against_everything)
{
	enum { UNCLAIMED, ALONE, TOGETHER, SCENES };
	struct racer *r = self->racers;
	int i, scene, rx, tx, own, weak, manager, kept, flags;
	struct umpsc_info info;
	struct umpsc_query q;

	close(self->manager);
	self->manager = -1;
	ASSERT_TRUE(race_begin(&self->race, r, 2, do_deed));
	/* Nodes take their time. */
	self->race.until = umpsc_chance_until(2 * RACE_MS);
	self->race.least = 4 * DEEDS;
	while (race_next(&self->race)) {
		i = self->race.rounds;
		scene = i % SCENES;
		rx = -1;
		tx = -1;
		own = -1;
		weak = -1;
		manager = ASSERT_FD(umpsc_open(NODE, O_RDWR));
		/* A receiver that nobody joined waits. */
		flags = O_RDONLY | (scene == ALONE ? 0 : O_NONBLOCK);
		if (scene != UNCLAIMED)
			rx = ASSERT_FD(umpsc_open(NODE, flags));
		if (scene != ALONE) {
			tx = ASSERT_FD(umpsc_open(NODE, O_WRONLY));
			own = ASSERT_FD(umpsc_clone(tx, 0));
			weak = ASSERT_FD(umpsc_downgrade(tx, 0));
			ASSERT_EQ(1, write(tx, "x", 1));
		}
		r[0].fd = rx;
		r[0].other = manager;
		r[0].k = FIRST_OF_RECEIVER +
			 i / SCENES % (DEEDS - FIRST_OF_RECEIVER);
		if (scene == UNCLAIMED)
			r[0].k = i / SCENES % FIRST_OF_SENDER;
		r[1].fd = own;
		r[1].other = weak;
		r[1].k = umpsc_random(&self->race.seed) %
			 (scene == ALONE ? FIRST_OF_SENDER : FIRST_OF_RECEIVER);
		/* Who is about to join while the last one goes, every other time. */
		if (scene == ALONE && r[0].k == RECEIVE_DROP &&
		    !(i / SCENES / (DEEDS - FIRST_OF_RECEIVER) % 2))
			r[1].k = ECHO;

		race_go(&self->race);
		if (umpsc_node_remove(NODE))
			ASSERT_EQ(ENOENT, errno);
		race_wait(&self->race);
		ASSERT_EQ(0, r[0].err | r[1].err)
		TH_LOG("scene %d: deed %d: %s, deed %d: %s", scene, r[0].k,
		       strerror(r[0].err), r[1].k, strerror(r[1].err));

		/* Its manager knows, also where there is another of that name. */
		ASSERT_EQ(-1, umpsc_info(manager, &info));
		ASSERT_EQ(ENXIO, errno);
		close(manager);
		if (r[1].k == SEND_DROP)
			own = -1;
		if (r[0].k == RECEIVE_DROP)
			rx = -1;
		kept = scene == TOGETHER && r[0].k != RECEIVE_CLOSE &&
		       r[0].k != RECEIVE_DROP;
		if (scene != ALONE) {
			/* Claimed and joined, the channel goes on; or it has ended. */
			ASSERT_EQ(kept ? UMPSC_POLL_OUT : POLLERR,
				  umpsc_poll(tx, 0));
			ASSERT_EQ(kept ? 1 : -1, write(tx, "x", 1));
			r[1].fd = tx;
			ASSERT_EQ(0, send_batch(&r[1]));
			ASSERT_EQ(kept ? 3 : 0, r[1].accepted);
			close(tx);
			close(weak);
			if (own >= 0)
				close(own);
		}
		if (rx >= 0) {
			/* All that was accepted, and then the end. */
			drain(rx);
			ASSERT_EQ(0, errno);
			ASSERT_EQ(0, umpsc_info(rx, &info));
			ASSERT_EQ(info.sent, info.received);
			ASSERT_EQ(0, info.strong);
			close(rx);
		}
		umpsc_node_remove(NODE);
		race_query(_metadata, &q);
		ASSERT_EQ(self->before.nodes, q.nodes);
		ASSERT_EQ(self->before.channels, q.channels);
		ASSERT_EQ(self->before.messages, q.messages);
		ASSERT_EQ(self->before.bytes, q.bytes);
		ASSERT_EQ(0, umpsc_node_create(NODE, variant->flags, NULL));
	}
	ASSERT_TRUE(race_end(&self->race, r));
	TH_LOG("%u rounds", self->race.rounds);
}

TEST_HARNESS_MAIN
