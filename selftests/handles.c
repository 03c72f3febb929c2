// SPDX-License-Identifier: GPL-2.0-only
/*
 * Handles: what each can do in each state of the channel, which calls make one
 * and which share one, and that every handle gives the same exact counts.
 */
#include "umpsc_test.h"

#include <sys/epoll.h>
#include <sys/resource.h>

#define NAME "handles"

#define CLAIMED UMPSC_STATE_CLAIMED
#define CLOSED (UMPSC_STATE_CLOSED | UMPSC_STATE_ENDED)
#define GONE (CLOSED | UMPSC_STATE_RECEIVER_GONE)
#define ENDED UMPSC_STATE_ENDED

#define HUP (UMPSC_POLL_IN | UMPSC_POLL_HUP)

/* ---- The state table ------------------------------------------------------ */

/* A channel with one handle of each kind, and its node's manager or -1. */
FIXTURE(state)
{
	int manager;
	int tx;
	int weak;
	int rx;
	struct umpsc_info want;
};

FIXTURE_VARIANT(state)
{
	bool node;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(state, private) {
	.node = false,
};

FIXTURE_VARIANT_ADD(state, node) {
	.node = true,
};

/* clang-format on */

FIXTURE_SETUP(state)
{
	umpsc_node_remove(NAME);
	self->manager = -1;
	if (variant->node) {
		ASSERT_EQ(0, umpsc_node_create(NAME, 0, NULL));
		self->manager = ASSERT_FD(umpsc_open(NAME, O_RDWR));
		self->tx = ASSERT_FD(umpsc_open(NAME, O_WRONLY));
		self->rx = ASSERT_FD(umpsc_open(NAME, O_RDONLY));
	} else {
		ASSERT_EQ(0, umpsc_private(&self->rx, &self->tx));
	}
	self->weak = ASSERT_FD(umpsc_downgrade(self->tx, 0));
	self->want = (struct umpsc_info){
		.state = CLAIMED,
		.strong = 1,
		.weak = 1,
		.generation = variant->node,
	};
}

FIXTURE_TEARDOWN(state)
{
	if (self->manager >= 0)
		close(self->manager);
	if (variant->node)
		umpsc_node_remove(NAME);
}

/* Every handle that is open gives the state that is wanted. */
static void look(struct __test_metadata *_metadata, FIXTURE_DATA(state) * self,
		 int line)
{
	struct umpsc_view views[4];
	size_t n = 0;

	if (self->tx >= 0)
		views[n++] = UMPSC_VIEW_SENDER(self->tx);
	if (self->weak >= 0)
		views[n++] = UMPSC_VIEW_WEAK(self->weak);
	if (self->rx >= 0)
		views[n++] = UMPSC_VIEW_RECEIVER(self->rx);
	if (self->manager >= 0)
		views[n++] = UMPSC_VIEW_MANAGER(self->manager);
	umpsc_expect_views(_metadata, line, &self->want, views, n);
}

#define LOOK() look(_metadata, self, __LINE__)

static void drop(int *fd)
{
	close(*fd);
	*fd = -1;
}

/* Both ways to send are refused with EPIPE, and counted. */
static void refuse_to_send(struct __test_metadata *_metadata,
			   FIXTURE_DATA(state) * self, int tx)
{
	struct umpsc_batch b = {};

	umpsc_batch_add(&b, "late", 4);
	EXPECT_ERR(EPIPE, write(tx, "late", 4));
	EXPECT_ERR(EPIPE, umpsc_batch_send(tx, &b));
	self->want.refused_closed += 2;
	LOOK();
	umpsc_batch_free(&b);
}

/* CLONE, DOWNGRADE, UPGRADE make a handle that is in the same state as the rest. */
static void make_handles(struct __test_metadata *_metadata,
			 FIXTURE_DATA(state) * self, int sender_events,
			 int weak_events)
{
	int fd;

	fd = ASSERT_FD(umpsc_clone(self->tx, 0));
	self->want.strong++;
	LOOK();
	EXPECT_STATE(fd, UMPSC_ROLE_SENDER, &self->want);
	EXPECT_POLL(sender_events, fd);
	close(fd);
	self->want.strong--;
	LOOK();

	fd = ASSERT_FD(umpsc_upgrade(self->weak, 0));
	self->want.strong++;
	LOOK();
	EXPECT_STATE(fd, UMPSC_ROLE_SENDER, &self->want);
	EXPECT_POLL(sender_events, fd);
	close(fd);
	self->want.strong--;
	LOOK();

	fd = ASSERT_FD(umpsc_clone(self->weak, 0));
	self->want.weak++;
	LOOK();
	EXPECT_STATE(fd, UMPSC_ROLE_WEAK, &self->want);
	EXPECT_POLL(weak_events, fd);
	close(fd);
	self->want.weak--;
	LOOK();

	fd = ASSERT_FD(umpsc_downgrade(self->tx, 0));
	self->want.weak++;
	LOOK();
	EXPECT_STATE(fd, UMPSC_ROLE_WEAK, &self->want);
	EXPECT_POLL(weak_events, fd);
	close(fd);
	self->want.weak--;
	LOOK();
}

TEST_LONG(state, open_with_senders)
{
	struct umpsc_receive r = {
		.fd = self->rx,
		.max = 1,
		.deadline_ns = UMPSC_NO_DEADLINE,
	};
	struct umpsc_batch b = {};
	struct umpsc_thread t;
	int fd;

	LOOK();
	EXPECT_WRITE(self->tx, "write");
	umpsc_batch_add(&b, "send", 4);
	EXPECT_EQ(1, umpsc_batch_send(self->tx, &b));
	umpsc_batch_free(&b);
	umpsc_model_send(&self->want, 2, 9);
	LOOK();
	make_handles(_metadata, self, UMPSC_POLL_OUT, 0);
	fd = ASSERT_FD(umpsc_sender(self->rx, 0));
	self->want.strong++;
	LOOK();
	EXPECT_STATE(fd, UMPSC_ROLE_SENDER, &self->want);
	close(fd);
	self->want.strong--;
	LOOK();

	EXPECT_POLL(UMPSC_POLL_OUT, self->tx);
	EXPECT_POLL(0, self->weak);
	EXPECT_POLL(UMPSC_POLL_IN, self->rx);
	EXPECT_TEXT(self->rx, "write");
	EXPECT_TEXT(self->rx, "send");
	umpsc_model_receive(&self->want, 2, 9);
	LOOK();

	/* Empty: EAGAIN, or it waits. */
	EXPECT_POLL(0, self->rx);
	EXPECT_EQ(0, fcntl(self->rx, F_SETFL, O_NONBLOCK));
	EXPECT_EMPTY(self->rx);
	EXPECT_ERR(EAGAIN, read(self->rx, &fd, sizeof(fd)));
	EXPECT_EQ(0, fcntl(self->rx, F_SETFL, 0));
	ASSERT_EQ(0, umpsc_thread_start(&t, umpsc_receive_fn, &r));
	ASSERT_TRUE(umpsc_thread_asleep(&t, SYS_ioctl));
	EXPECT_WRITE(self->tx, "wake");
	ASSERT_TRUE(umpsc_thread_join(&t));
	EXPECT_EQ(1, t.ret);
	umpsc_model_send(&self->want, 1, 4);
	umpsc_model_receive(&self->want, 1, 4);
	LOOK();
}

TEST_LONG(state, closed_with_senders)
{
	int fd;

	EXPECT_WRITE(self->tx, "queued");
	umpsc_model_send(&self->want, 1, 6);
	ASSERT_EQ(0, umpsc_close(self->rx));
	self->want.state |= CLOSED;
	LOOK();
	refuse_to_send(_metadata, self, self->tx);
	make_handles(_metadata, self, POLLERR, POLLERR);
	fd = ASSERT_FD(umpsc_sender(self->rx, 0));
	self->want.strong++;
	LOOK();
	refuse_to_send(_metadata, self, fd);
	close(fd);
	self->want.strong--;
	LOOK();

	EXPECT_POLL(POLLERR, self->tx);
	EXPECT_POLL(POLLERR, self->weak);
	EXPECT_POLL(HUP, self->rx);
	EXPECT_TEXT(self->rx, "queued");
	umpsc_model_receive(&self->want, 1, 6);
	LOOK();
	EXPECT_POLL(HUP, self->rx);
	EXPECT_END(self->rx);

	/* The last sender's going changes nothing for the receiver. */
	drop(&self->tx);
	self->want.strong--;
	LOOK();
	EXPECT_POLL(POLLERR | POLLHUP, self->weak);
	EXPECT_POLL(HUP, self->rx);
	EXPECT_END(self->rx);
	EXPECT_ERR(ESHUTDOWN, umpsc_upgrade(self->weak, 0));
	EXPECT_ERR(ESHUTDOWN, umpsc_sender(self->rx, 0));
	LOOK();
}

TEST_LONG(state, receiver_gone_with_senders)
{
	EXPECT_WRITE(self->tx, "discarded");
	umpsc_model_send(&self->want, 1, 9);
	LOOK();
	drop(&self->rx);
	self->want.state = GONE;
	umpsc_model_discard(&self->want);
	LOOK();
	refuse_to_send(_metadata, self, self->tx);
	make_handles(_metadata, self, POLLERR, POLLERR);
	EXPECT_POLL(POLLERR, self->tx);
	EXPECT_POLL(POLLERR, self->weak);
	drop(&self->tx);
	self->want.strong--;
	LOOK();
	EXPECT_POLL(POLLERR | POLLHUP, self->weak);
	EXPECT_ERR(ESHUTDOWN, umpsc_upgrade(self->weak, 0));
	LOOK();
}

TEST_LONG(state, no_senders)
{
	EXPECT_WRITE(self->tx, "queued");
	umpsc_model_send(&self->want, 1, 6);
	LOOK();
	drop(&self->tx);
	self->want.strong = 0;
	self->want.state |= ENDED;
	LOOK();
	EXPECT_ERR(ESHUTDOWN, umpsc_upgrade(self->weak, 0));
	EXPECT_ERR(ESHUTDOWN, umpsc_sender(self->rx, 0));
	LOOK();
	EXPECT_POLL(POLLHUP, self->weak);
	EXPECT_POLL(HUP, self->rx);
	EXPECT_TEXT(self->rx, "queued");
	umpsc_model_receive(&self->want, 1, 6);
	LOOK();
	EXPECT_POLL(HUP, self->rx);
	EXPECT_END(self->rx);
	drop(&self->rx);
	self->want.state = GONE;
	LOOK();
	EXPECT_POLL(POLLERR | POLLHUP, self->weak);
	EXPECT_ERR(ESHUTDOWN, umpsc_upgrade(self->weak, 0));
	LOOK();
}

/* ---- What makes a handle, and what shares one ------------------------------ */

TEST_LONG(state, clone_downgrade_upgrade_and_sender_make_a_handle_each)
{
	int strong[6], weak[4], i;

	strong[0] = ASSERT_FD(umpsc_clone(self->tx, 0));
	self->want.strong = 2;
	LOOK();
	strong[1] = ASSERT_FD(umpsc_clone(strong[0], 0));
	self->want.strong = 3;
	LOOK();
	weak[0] = ASSERT_FD(umpsc_downgrade(strong[1], 0));
	self->want.weak = 2;
	LOOK();
	weak[1] = ASSERT_FD(umpsc_clone(weak[0], 0));
	self->want.weak = 3;
	LOOK();
	strong[2] = ASSERT_FD(umpsc_upgrade(weak[1], 0));
	self->want.strong = 4;
	LOOK();
	strong[3] = ASSERT_FD(umpsc_sender(self->rx, 0));
	self->want.strong = 5;
	LOOK();
	weak[2] = ASSERT_FD(umpsc_downgrade(strong[3], 0));
	self->want.weak = 4;
	LOOK();
	strong[4] = ASSERT_FD(umpsc_upgrade(weak[2], 0));
	self->want.strong = 6;
	LOOK();
	EXPECT_VIEWS(&self->want, UMPSC_VIEW_SENDER(strong[0]),
		     UMPSC_VIEW_SENDER(strong[1]), UMPSC_VIEW_SENDER(strong[2]),
		     UMPSC_VIEW_SENDER(strong[3]), UMPSC_VIEW_SENDER(strong[4]),
		     UMPSC_VIEW_WEAK(weak[0]), UMPSC_VIEW_WEAK(weak[1]),
		     UMPSC_VIEW_WEAK(weak[2]), UMPSC_VIEW_RECEIVER(self->rx));

	/* Each can send, and each drops one when it goes. */
	for (i = 0; i < 5; i++) {
		EXPECT_WRITE(strong[i], "x");
		umpsc_model_send(&self->want, 1, 1);
		LOOK();
		close(strong[i]);
		self->want.strong--;
		LOOK();
	}
	for (i = 0; i < 3; i++) {
		close(weak[i]);
		self->want.weak--;
		LOOK();
	}
	EXPECT_EQ(1, self->want.strong);
	EXPECT_EQ(1, self->want.weak);
	EXPECT_POLL(UMPSC_POLL_IN, self->rx);
	drop(&self->tx);
	self->want.strong = 0;
	self->want.state |= ENDED;
	LOOK();
}

TEST_LONG(state, weak_senders_do_not_keep_a_channel)
{
	int weak = ASSERT_FD(umpsc_clone(self->weak, 0));

	self->want.weak = 2;
	LOOK();
	drop(&self->tx);
	self->want.strong = 0;
	self->want.state |= ENDED;
	LOOK();
	EXPECT_POLL(HUP, self->rx);
	EXPECT_END(self->rx);
	EXPECT_ERR(ESHUTDOWN, umpsc_upgrade(weak, 0));
	close(weak);
	self->want.weak = 1;
	LOOK();
}

TEST_LONG(state, dup_shares_a_handle)
{
	int tx = ASSERT_FD(dup(self->tx)), weak = ASSERT_FD(dup(self->weak));
	int rx = ASSERT_FD(dup(self->rx));
	struct umpsc_info one, other;

	LOOK();
	ASSERT_EQ(0, umpsc_info(self->tx, &one));
	ASSERT_EQ(0, umpsc_info(tx, &other));
	EXPECT_EQ(one.handle, other.handle);
	EXPECT_VIEWS(&self->want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_WEAK(weak),
		     UMPSC_VIEW_RECEIVER(rx));
	drop(&self->tx);
	drop(&self->weak);
	drop(&self->rx);
	EXPECT_VIEWS(&self->want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_WEAK(weak),
		     UMPSC_VIEW_RECEIVER(rx));
	LOOK();
	EXPECT_WRITE(tx, "shared");
	EXPECT_EQ(one.handle, EXPECT_TEXT(rx, "shared").sender);
	umpsc_model_send(&self->want, 1, 6);
	umpsc_model_receive(&self->want, 1, 6);
	LOOK();
	/* The last close drops it. */
	close(weak);
	self->want.weak = 0;
	EXPECT_VIEWS(&self->want, UMPSC_VIEW_SENDER(tx),
		     UMPSC_VIEW_RECEIVER(rx));
	close(tx);
	self->want.strong = 0;
	self->want.state |= ENDED;
	EXPECT_STATE(rx, UMPSC_ROLE_RECEIVER, &self->want);
	EXPECT_END(rx);
	LOOK();
}

TEST_LONG(state, fork_shares_a_handle)
{
	struct umpsc_info info;
	int go[2];
	char byte;
	pid_t pid;

	ASSERT_EQ(0, pipe2(go, O_CLOEXEC));
	ASSERT_EQ(0, umpsc_info(self->tx, &info));

	/* A child's going drops nothing that the parent has. */
	pid = fork();
	if (!pid) {
		LOOK();
		EXPECT_WRITE(self->tx, "child");
		close(self->tx);
		close(self->weak);
		_exit(0);
	}
	ASSERT_EQ(0, umpsc_wait_child(pid));
	umpsc_model_send(&self->want, 1, 5);
	LOOK();
	EXPECT_EQ(info.handle, EXPECT_TEXT(self->rx, "child").sender);
	umpsc_model_receive(&self->want, 1, 5);
	EXPECT_POLL(0, self->rx);

	/* The parent's going drops nothing that the child has. */
	pid = fork();
	if (!pid) {
		close(go[1]);
		EXPECT_EQ(0, read(go[0], &byte, 1));
		_exit(0);
	}
	drop(&self->tx);
	drop(&self->weak);
	LOOK();
	EXPECT_POLL(0, self->rx);
	close(go[1]);
	EXPECT_EQ(0, umpsc_wait_child(pid));
	self->want.strong = 0;
	self->want.weak = 0;
	self->want.state |= ENDED;
	LOOK();
	EXPECT_END(self->rx);
}

/* In the program that exec_keeps_... runs: works with @fd until stdin ends. */
static int probe(int fd, int closed)
{
	struct umpsc_info info;
	char byte;

	if (fcntl(closed, F_GETFD) != -1 || errno != EBADF)
		return 2;
	if (umpsc_info(fd, &info) || info.role != UMPSC_ROLE_SENDER)
		return 3;
	if (write(fd, "program", 7) != 7)
		return 4;
	if (read(STDIN_FILENO, &byte, 1))
		return 5;
	return 0;
}

TEST_LONG(state, exec_keeps_a_handle_that_is_not_close_on_exec)
{
	struct umpsc_receive r = {
		.fd = self->rx,
		.max = 1,
		.deadline_ns = umpsc_now_ns() + UMPSC_PATIENCE * 1000000000ULL,
	};
	int clone = ASSERT_FD(umpsc_clone(self->tx, 0));
	char keep_arg[16], clone_arg[16];
	int keep = ASSERT_FD(dup(self->tx)), go[2];
	pid_t pid;

	EXPECT_EQ(0, fcntl(keep, F_GETFD));
	EXPECT_EQ(FD_CLOEXEC, fcntl(clone, F_GETFD));
	self->want.strong = 2;
	LOOK();
	ASSERT_EQ(0, pipe2(go, O_CLOEXEC));
	pid = fork();
	if (!pid) {
		dup2(go[0], STDIN_FILENO);
		snprintf(keep_arg, sizeof(keep_arg), "%d", keep);
		snprintf(clone_arg, sizeof(clone_arg), "%d", clone);
		execl("/proc/self/exe", "handles", "--probe", keep_arg,
		      clone_arg, NULL);
		_exit(1);
	}
	close(keep);
	close(clone);
	drop(&self->tx);
	EXPECT_EQ(1, umpsc_receive_fn(&r));
	EXPECT_EQ(0, memcmp(r.buf + UMPSC_RECORD_HDR, "program", 7));
	umpsc_model_send(&self->want, 1, 7);
	umpsc_model_receive(&self->want, 1, 7);
	/* The clone went with the exec, the other is the program's. */
	self->want.strong = 1;
	LOOK();
	EXPECT_POLL(0, self->rx);
	close(go[1]);
	EXPECT_EQ(0, umpsc_wait_child(pid));
	self->want.strong = 0;
	self->want.state |= ENDED;
	LOOK();
	EXPECT_END(self->rx);
}

TEST_LONG(state, scm_rights_shares_a_handle_also_in_flight)
{
	struct umpsc_info one, other;
	int sock[2], tx, rx, weak;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock));
	ASSERT_EQ(0, umpsc_info(self->tx, &one));
	ASSERT_EQ(0, umpsc_pass_fd(sock[0], self->tx));
	ASSERT_EQ(0, umpsc_pass_fd(sock[0], self->weak));
	ASSERT_EQ(0, umpsc_pass_fd(sock[0], self->rx));
	LOOK();
	drop(&self->tx);
	drop(&self->weak);
	LOOK();
	EXPECT_POLL(0, self->rx);
	drop(&self->rx);
	LOOK();

	tx = ASSERT_FD(umpsc_take_fd(sock[1]));
	weak = ASSERT_FD(umpsc_take_fd(sock[1]));
	rx = ASSERT_FD(umpsc_take_fd(sock[1]));
	EXPECT_VIEWS(&self->want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_WEAK(weak),
		     UMPSC_VIEW_RECEIVER(rx));
	ASSERT_EQ(0, umpsc_info(tx, &other));
	EXPECT_EQ(one.handle, other.handle);
	EXPECT_WRITE(tx, "passed");
	EXPECT_EQ(one.handle, EXPECT_TEXT(rx, "passed").sender);
	umpsc_model_send(&self->want, 1, 6);
	umpsc_model_receive(&self->want, 1, 6);

	/* What nobody takes is dropped with the socket. */
	ASSERT_EQ(0, umpsc_pass_fd(sock[0], tx));
	close(tx);
	EXPECT_VIEWS(&self->want, UMPSC_VIEW_WEAK(weak),
		     UMPSC_VIEW_RECEIVER(rx));
	close(sock[0]);
	close(sock[1]);
	EXPECT_TRUE(UMPSC_UNTIL(!umpsc_info(rx, &other) && !other.strong));
	self->want.strong = 0;
	self->want.state |= ENDED;
	EXPECT_VIEWS(&self->want, UMPSC_VIEW_WEAK(weak),
		     UMPSC_VIEW_RECEIVER(rx));
	EXPECT_END(rx);
}

/* Over a socket to another process, which then is the only one to have it. */
TEST_LONG(state, scm_rights_takes_a_handle_to_another_process)
{
	struct umpsc_info info;
	int sock[2], tx;
	char byte;
	pid_t pid;

	ASSERT_EQ(0, umpsc_info(self->tx, &info));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock));
	pid = fork();
	if (!pid) {
		close(sock[0]);
		close(self->tx);
		tx = ASSERT_FD(umpsc_take_fd(sock[1]));
		EXPECT_WRITE(tx, "taken");
		EXPECT_EQ(0, read(sock[1], &byte, 1));
		_exit(0);
	}
	close(sock[1]);
	ASSERT_EQ(0, umpsc_pass_fd(sock[0], self->tx));
	drop(&self->tx);
	EXPECT_TRUE(umpsc_poll(self->rx, UMPSC_PATIENCE * 1000) & POLLIN);
	EXPECT_EQ(info.handle, EXPECT_TEXT(self->rx, "taken").sender);
	umpsc_model_send(&self->want, 1, 5);
	umpsc_model_receive(&self->want, 1, 5);
	LOOK();
	EXPECT_POLL(0, self->rx);
	close(sock[0]);
	EXPECT_EQ(0, umpsc_wait_child(pid));
	self->want.strong = 0;
	self->want.state |= ENDED;
	LOOK();
}

TEST_LONG(state, pidfd_getfd_shares_a_handle)
{
	int ready[2], pidfd, tx, fd;
	struct umpsc_info info;
	pid_t pid;

	ASSERT_EQ(0, pipe2(ready, O_CLOEXEC));
	pid = fork();
	if (!pid) {
		fd = umpsc_clone(self->tx, 0);
		if (write(ready[1], &fd, sizeof(fd)) == sizeof(fd))
			umpsc_hang();
		_exit(1);
	}
	ASSERT_EQ(sizeof(fd), read(ready[0], &fd, sizeof(fd)));
	self->want.strong = 2;
	LOOK();
	pidfd = ASSERT_FD(syscall(SYS_pidfd_open, pid, 0));
	tx = ASSERT_FD(syscall(SYS_pidfd_getfd, pidfd, fd, 0));
	LOOK();
	EXPECT_STATE(tx, UMPSC_ROLE_SENDER, &self->want);
	EXPECT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(SIGKILL, umpsc_wait_child(pid));
	LOOK();
	ASSERT_EQ(0, umpsc_info(tx, &info));
	EXPECT_WRITE(tx, "got");
	EXPECT_EQ(info.handle, EXPECT_TEXT(self->rx, "got").sender);
	umpsc_model_send(&self->want, 1, 3);
	umpsc_model_receive(&self->want, 1, 3);
	close(tx);
	self->want.strong = 1;
	LOOK();
}

/* ---- Closed while another thread waits ----------------------------------------- */

/* Its receive keeps the file: it gets what comes, and then the receiver goes. */
TEST_LONG(state, receiver_closed_while_another_thread_waits_goes_after_it)
{
	/* By read() in one variant, by RECV in the other. */
	const long syscall = variant->node ? SYS_ioctl : SYS_read;
	struct umpsc_receive r = {
		.fd = self->rx,
		.max = variant->node,
		.deadline_ns = UMPSC_NO_DEADLINE,
	};
	struct umpsc_thread t;

	ASSERT_EQ(0, umpsc_thread_start(&t, umpsc_receive_fn, &r));
	ASSERT_TRUE(umpsc_thread_asleep(&t, syscall));
	drop(&self->rx);
	LOOK();
	if (variant->node)
		EXPECT_ERR(EBUSY, umpsc_open(NAME, O_RDONLY));
	EXPECT_POLL(UMPSC_POLL_OUT, self->tx);
	EXPECT_TRUE(umpsc_thread_asleep(&t, syscall));
	EXPECT_FALSE(t.done);
	LOOK();

	EXPECT_WRITE(self->tx, "last");
	ASSERT_TRUE(umpsc_thread_join(&t));
	EXPECT_EQ(r.max ? 1 : 4, t.ret);
	umpsc_model_send(&self->want, 1, 4);
	umpsc_model_receive(&self->want, 1, 4);
	self->want.state = GONE;
	EXPECT_POLL(POLLERR, self->tx);
	refuse_to_send(_metadata, self, self->tx);
}

/* Waits for ERR or HUP, but looks the descriptor up again once it is woken. */
static long poll_fn(void *arg)
{
	int events = umpsc_poll_for(*(int *)arg, 0, UMPSC_PATIENCE * 1000);

	return events ? events : -1;
}

/* One that is polled counts until the poll is over. */
TEST_LONG(state, sender_closed_while_another_thread_polls_goes_after_it)
{
	int tx = self->tx;
	struct umpsc_thread t;

	ASSERT_EQ(0, umpsc_thread_start(&t, poll_fn, &tx));
	ASSERT_TRUE(umpsc_thread_asleep(&t, SYS_poll));
	drop(&self->tx);
	LOOK();
	EXPECT_POLL(0, self->rx);
	EXPECT_POLL(0, self->weak);
	EXPECT_FALSE(t.done);

	ASSERT_EQ(0, umpsc_close(self->rx));
	ASSERT_TRUE(umpsc_thread_join(&t));
	EXPECT_EQ(POLLNVAL, t.ret);
	self->want.strong = 0;
	self->want.state |= CLOSED;
	LOOK();
	EXPECT_POLL(POLLERR | POLLHUP, self->weak);
	EXPECT_END(self->rx);
}

TEST_LONG(state, weak_sender_closed_while_another_thread_polls_goes_after_it)
{
	int weak = self->weak;
	struct umpsc_thread t;

	ASSERT_EQ(0, umpsc_thread_start(&t, poll_fn, &weak));
	ASSERT_TRUE(umpsc_thread_asleep(&t, SYS_poll));
	drop(&self->weak);
	LOOK();
	EXPECT_FALSE(t.done);
	drop(&self->tx);
	ASSERT_TRUE(umpsc_thread_join(&t));
	EXPECT_EQ(POLLNVAL, t.ret);
	self->want.strong = 0;
	self->want.weak = 0;
	self->want.state |= ENDED;
	LOOK();
}

/* ---- Tokio's tests of weak senders ------------------------------------------------ */

FIXTURE(weak)
{
	int rx;
	int tx;
};

FIXTURE_SETUP(weak)
{
	ASSERT_EQ(0, umpsc_private_with(&self->rx, &self->tx, 0, O_NONBLOCK, 0,
					NULL));
}

FIXTURE_TEARDOWN(weak)
{
	if (self->rx >= 0)
		close(self->rx);
	if (self->tx >= 0)
		close(self->tx);
}

static bool send_number(int tx, int n)
{
	return write(tx, &n, sizeof(n)) == sizeof(n);
}

/* The next number, or -1 with errno; errno 0 is the end. */
static int next_number(int rx)
{
	ssize_t ret;
	int n;

	errno = 0;
	ret = read(rx, &n, sizeof(n));
	return ret == sizeof(n) ? n : -1;
}

/* A weak sender of a clone that is gone by then becomes one as long as there is any. */
TEST_LONG(weak, weak_unbounded_sender)
{
	int weak, up, i;

	up = ASSERT_FD(umpsc_clone(self->tx, 0));
	weak = ASSERT_FD(umpsc_downgrade(up, 0));
	close(up);
	for (i = 0; i < 10; i++)
		ASSERT_TRUE(send_number(self->tx, i));
	up = ASSERT_FD(umpsc_upgrade(weak, 0));
	drop(&self->tx);
	ASSERT_TRUE(send_number(up, 20));
	close(up);
	for (i = 0; i < 10; i++)
		EXPECT_EQ(i, next_number(self->rx));
	EXPECT_EQ(20, next_number(self->rx));
	EXPECT_EQ(-1, next_number(self->rx));
	EXPECT_EQ(0, errno);
	EXPECT_ERR(ESHUTDOWN, umpsc_upgrade(weak, 0));
	close(weak);
}

/* A receiver that sends to itself, by a weak sender so that it still sees the end. */
TEST_LONG(weak, actor_weak_unbounded_sender)
{
	int weak = ASSERT_FD(umpsc_downgrade(self->tx, 0));
	int i, n, tx, own = 0, others = 0, status;
	pid_t client;

	client = fork();
	ASSERT_LE(0, client);
	if (!client) {
		for (i = 0; i < 20; i++)
			if (!send_number(self->tx, i))
				_exit(1);
		_exit(0);
	}
	drop(&self->tx);
	for (;;) {
		ASSERT_LT(0, umpsc_poll_for(self->rx, POLLIN,
					    UMPSC_PATIENCE * 1000));
		n = next_number(self->rx);
		if (n < 0) {
			ASSERT_EQ(0, errno);
			break;
		}
		if (n >= 100) {
			own++;
			continue;
		}
		ASSERT_EQ(others++, n);
		tx = umpsc_upgrade(weak, 0);
		if (tx < 0) {
			/* The clients have all gone, what they sent has not. */
			ASSERT_EQ(ESHUTDOWN, errno);
			own++;
			continue;
		}
		ASSERT_TRUE(send_number(tx, 100 + n));
		close(tx);
	}
	EXPECT_EQ(20, others);
	EXPECT_EQ(20, own);
	status = umpsc_wait_child(client);
	EXPECT_EQ(0, status);
	close(weak);
}

TEST_LONG(weak, test_msgs_dropped_on_unbounded_rx_drop)
{
	int weak = ASSERT_FD(umpsc_downgrade(self->tx, 0)), i;
	struct umpsc_info info;

	for (i = 0; i < 3; i++)
		ASSERT_TRUE(send_number(self->tx, i));
	EXPECT_EQ(0, next_number(self->rx));
	EXPECT_EQ(1, next_number(self->rx));
	drop(&self->rx);
	ASSERT_EQ(0, umpsc_info(weak, &info));
	EXPECT_EQ(0, info.messages);
	EXPECT_EQ(0, info.memory);
	EXPECT_EQ(1, info.discarded);
	EXPECT_FALSE(send_number(self->tx, 3));
	EXPECT_EQ(EPIPE, errno);
	ASSERT_EQ(0, umpsc_info(weak, &info));
	EXPECT_EQ(0, info.memory);
	EXPECT_EQ(1, info.refused_closed);
	close(weak);
}

TEST_LONG(weak, downgrade_upgrade_unbounded_sender_success)
{
	int weak = ASSERT_FD(umpsc_downgrade(self->tx, 0));
	int up = ASSERT_FD(umpsc_upgrade(weak, 0));

	ASSERT_TRUE(send_number(up, 1));
	EXPECT_EQ(1, next_number(self->rx));
	close(up);
	close(weak);
}

TEST_LONG(weak, downgrade_upgrade_unbounded_sender_failure)
{
	int weak = ASSERT_FD(umpsc_downgrade(self->tx, 0));

	drop(&self->tx);
	EXPECT_ERR(ESHUTDOWN, umpsc_upgrade(weak, 0));
	close(weak);
}

TEST_LONG(weak, downgrade_drop_upgrade_unbounded)
{
	int clone = ASSERT_FD(umpsc_clone(self->tx, 0));
	int weak = ASSERT_FD(umpsc_downgrade(clone, 0));

	close(clone);
	drop(&self->tx);
	EXPECT_ERR(ESHUTDOWN, umpsc_upgrade(weak, 0));
	close(weak);
}

TEST_LONG(weak, test_tx_count_weak_unbounded_sender)
{
	int one = ASSERT_FD(umpsc_downgrade(self->tx, 0));
	int two = ASSERT_FD(umpsc_downgrade(self->tx, 0));

	drop(&self->tx);
	EXPECT_ERR(ESHUTDOWN, umpsc_upgrade(one, 0));
	EXPECT_ERR(ESHUTDOWN, umpsc_upgrade(two, 0));
	close(one);
	close(two);
}

TEST_LONG(weak, is_closed_when_dropping_all_senders_except_weak_senders)
{
	int weak = ASSERT_FD(umpsc_downgrade(self->tx, 0));
	struct umpsc_info info;

	drop(&self->tx);
	ASSERT_EQ(0, umpsc_info(self->rx, &info));
	EXPECT_EQ(CLAIMED | ENDED, info.state);
	EXPECT_POLL(HUP, self->rx);
	close(weak);
}

/* Two strong ones and two weak ones, told alike by each; and one less of both. */
TEST_LONG(weak, unbounded_sender_strong_and_weak_count)
{
	struct umpsc_info want = { .state = CLAIMED };
	int clone = ASSERT_FD(umpsc_clone(self->tx, 0));
	int weak = ASSERT_FD(umpsc_downgrade(self->tx, 0));
	int other = ASSERT_FD(umpsc_downgrade(clone, 0));

	want.strong = 2;
	want.weak = 2;
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(self->tx),
		     UMPSC_VIEW_SENDER(clone), UMPSC_VIEW_WEAK(weak),
		     UMPSC_VIEW_WEAK(other), UMPSC_VIEW_RECEIVER(self->rx));
	close(clone);
	close(other);
	want.strong = 1;
	want.weak = 1;
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(self->tx), UMPSC_VIEW_WEAK(weak),
		     UMPSC_VIEW_RECEIVER(self->rx));
	close(weak);
}

/* ---- Same ------------------------------------------------------------------- */

TEST_LONG(state, same_is_1_for_handles_of_one_channel_only)
{
	const int ours[] = { self->tx, self->weak, self->rx };
	int rx, tx, i, j, foreign[2], path, closed, manager, own;

	ASSERT_EQ(0, umpsc_private(&rx, &tx));
	ASSERT_EQ(0, pipe2(foreign, O_CLOEXEC));
	path = ASSERT_FD(umpsc_open("", O_PATH));
	manager = ASSERT_FD(umpsc_open_manager());
	own = self->manager >= 0;
	closed = ASSERT_FD(dup(tx));
	close(closed);
	for (i = 0; i < 3; i++) {
		for (j = 0; j < 3; j++)
			EXPECT_EQ(1, umpsc_same(ours[i], ours[j]));
		EXPECT_EQ(0, umpsc_same(ours[i], rx));
		EXPECT_EQ(0, umpsc_same(ours[i], tx));
		EXPECT_EQ(0, umpsc_same(tx, ours[i]));
		EXPECT_EQ(0, umpsc_same(ours[i], foreign[0]));
		EXPECT_EQ(0, umpsc_same(ours[i], STDERR_FILENO));
		EXPECT_EQ(0, umpsc_same(manager, ours[i]));
		EXPECT_EQ(0, umpsc_same(ours[i], manager));
		EXPECT_ERR(EBADF, umpsc_same(ours[i], closed));
		EXPECT_ERR(EBADF, umpsc_same(ours[i], path));
		EXPECT_ERR(EBADF, umpsc_same(ours[i], -1));
		EXPECT_ERR(EBADF, umpsc_same(ours[i], 1 << 30));
		if (own) {
			EXPECT_EQ(1, umpsc_same(self->manager, ours[i]));
			EXPECT_EQ(1, umpsc_same(ours[i], self->manager));
		}
	}
	EXPECT_ERR(EBADF, umpsc_same(manager, closed));
	LOOK();

	/* The channel's end does not change who is of it. */
	close(self->tx);
	self->want.strong = 0;
	self->want.state |= ENDED;
	self->tx = -1;
	EXPECT_EQ(1, umpsc_same(self->weak, self->rx));
	EXPECT_EQ(1, umpsc_same(self->rx, self->weak));
	LOOK();
}

/* ---- No descriptor left ------------------------------------------------------- */

/* Allows @more descriptors beyond those that are open without a gap. */
static struct rlimit allow_fds(struct __test_metadata *_metadata, int more)
{
	struct rlimit was, limit;
	int fds[8], i;

	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &was));
	limit = was;
	for (i = 0; i <= more; i++)
		fds[i] = ASSERT_FD(dup(STDERR_FILENO));
	limit.rlim_cur = fds[more];
	for (i = 0; i <= more; i++)
		close(fds[i]);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	return was;
}

TEST_LONG(state, emfile_leaves_no_trace)
{
	int manager = ASSERT_FD(umpsc_open_manager()), i, fds, fd;
	struct umpsc_channel_args args = {};
	struct umpsc_query before, after;
	struct umpsc_info first, info;
	struct rlimit was;

	EXPECT_WRITE(self->tx, "kept");
	umpsc_model_send(&self->want, 1, 4);
	LOOK();
	fds = umpsc_count_fds();
	ASSERT_EQ(0, umpsc_query(manager, &before));
	ASSERT_EQ(0, umpsc_info(self->weak, &first));

	was = allow_fds(_metadata, 0);
	for (i = 0; i < 3; i++) {
		EXPECT_ERR(EMFILE, umpsc_clone(self->tx, 0));
		EXPECT_ERR(EMFILE, umpsc_clone(self->weak, 0));
		EXPECT_ERR(EMFILE, umpsc_downgrade(self->tx, 0));
		EXPECT_ERR(EMFILE, umpsc_upgrade(self->weak, 0));
		EXPECT_ERR(EMFILE, umpsc_sender(self->rx, 0));
		EXPECT_ERR(EMFILE, umpsc_channel(manager, &args));
		EXPECT_ERR(EMFILE, umpsc_open(NAME, O_WRONLY));
		LOOK();
	}
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &was));

	/* Room for one of two. */
	was = allow_fds(_metadata, 1);
	for (i = 0; i < 3; i++) {
		EXPECT_ERR(EMFILE, umpsc_channel(manager, &args));
		LOOK();
	}
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &was));

	EXPECT_EQ(fds, umpsc_count_fds());
	ASSERT_EQ(0, umpsc_query(manager, &after));
	EXPECT_EQ(0, memcmp(&before, &after, sizeof(before)));
	LOOK();
	/* Not even an id. */
	fd = ASSERT_FD(umpsc_clone(self->weak, 0));
	ASSERT_EQ(0, umpsc_info(fd, &info));
	EXPECT_EQ(first.handle + 1, info.handle);
	close(fd);
	EXPECT_TEXT(self->rx, "kept");
}

/* As many files as the system allows: root may have more, others not. */
static int set_file_max(const char *value)
{
	int fd = open("/proc/sys/fs/file-max", O_WRONLY | O_CLOEXEC);
	int ret = fd < 0 || write(fd, value, strlen(value)) < 0 ? -1 : 0;

	close(fd);
	return ret;
}

TEST_LONG(state, enfile_leaves_no_trace)
{
	int manager = ASSERT_FD(umpsc_open_manager()), fds;
	struct umpsc_channel_args args = {};
	struct umpsc_query before, after;
	char was[32];
	pid_t pid;
	int next;

	EXPECT_WRITE(self->tx, "kept");
	umpsc_model_send(&self->want, 1, 4);
	LOOK();
	fds = umpsc_count_fds();
	ASSERT_EQ(0, umpsc_query(manager, &before));
	ASSERT_LT(0,
		  umpsc_read_file("/proc/sys/fs/file-max", was, sizeof(was)));
	ASSERT_EQ(0, set_file_max("1"));
	pid = fork();
	if (!pid) {
		EXPECT_EQ(0, setresuid(65534, 65534, 65534));
		next = umpsc_next_fd(self->tx);
		EXPECT_ERR(ENFILE, umpsc_clone(self->tx, 0));
		EXPECT_ERR(ENFILE, umpsc_clone(self->weak, 0));
		EXPECT_ERR(ENFILE, umpsc_downgrade(self->tx, 0));
		EXPECT_ERR(ENFILE, umpsc_upgrade(self->weak, 0));
		EXPECT_ERR(ENFILE, umpsc_sender(self->rx, 0));
		EXPECT_ERR(ENFILE, umpsc_channel(manager, &args));
		EXPECT_EQ(next, umpsc_next_fd(self->tx));
		LOOK();
		_exit(0);
	}
	EXPECT_EQ(0, umpsc_wait_child(pid));
	ASSERT_EQ(0, set_file_max(was));
	EXPECT_EQ(fds, umpsc_count_fds());
	ASSERT_EQ(0, umpsc_query(manager, &after));
	EXPECT_EQ(0, memcmp(&before, &after, sizeof(before)));
	LOOK();
	EXPECT_TEXT(self->rx, "kept");
	EXPECT_EMPTY(self->rx);
}

/* ---- Ids ------------------------------------------------------------------------ */

static __u64 handle_id(struct __test_metadata *_metadata, int fd)
{
	struct umpsc_info info;

	ASSERT_EQ(0, umpsc_info(fd, &info));
	return info.handle;
}

TEST_LONG(state, ids_count_from_1_in_order_of_creation_and_are_not_reused)
{
	int fd[7], i;

	EXPECT_EQ(1, handle_id(_metadata, self->tx));
	EXPECT_EQ(2, handle_id(_metadata, self->weak));
	EXPECT_EQ(0, handle_id(_metadata, self->rx));
	fd[3] = ASSERT_FD(umpsc_clone(self->tx, 0));
	EXPECT_EQ(3, handle_id(_metadata, fd[3]));
	fd[4] = ASSERT_FD(umpsc_clone(self->weak, 0));
	EXPECT_EQ(4, handle_id(_metadata, fd[4]));
	fd[5] = ASSERT_FD(umpsc_upgrade(fd[4], 0));
	EXPECT_EQ(5, handle_id(_metadata, fd[5]));
	close(fd[5]);
	fd[5] = ASSERT_FD(umpsc_sender(self->rx, 0));
	EXPECT_EQ(6, handle_id(_metadata, fd[5]));
	close(fd[3]);
	fd[6] = ASSERT_FD(umpsc_downgrade(fd[5], 0));
	EXPECT_EQ(7, handle_id(_metadata, fd[6]));
	if (self->manager >= 0) {
		fd[3] = ASSERT_FD(umpsc_open(NAME, O_WRONLY));
		EXPECT_EQ(8, handle_id(_metadata, fd[3]));
		EXPECT_EQ(0, handle_id(_metadata, self->manager));
	} else {
		fd[3] = ASSERT_FD(umpsc_clone(fd[5], 0));
		EXPECT_EQ(8, handle_id(_metadata, fd[3]));
	}

	/* A message bears the id of the handle that sent it. */
	EXPECT_WRITE(self->tx, "one");
	EXPECT_WRITE(fd[3], "eight");
	EXPECT_WRITE(fd[5], "six");
	EXPECT_EQ(1, EXPECT_TEXT(self->rx, "one").sender);
	EXPECT_EQ(8, EXPECT_TEXT(self->rx, "eight").sender);
	EXPECT_EQ(6, EXPECT_TEXT(self->rx, "six").sender);
	for (i = 3; i < 7; i++)
		close(fd[i]);
}

/* ---- Flags and names -------------------------------------------------------------- */

TEST_LONG(state, o_nonblock_of_a_new_handle_is_as_asked)
{
	static const int flags[] = { 0, O_NONBLOCK };
	struct umpsc_channel_args args = {};
	int manager = ASSERT_FD(umpsc_open_manager());
	int i, j, fd;

	for (i = 0; i < 2; i++) {
		fd = ASSERT_FD(umpsc_clone(self->tx, flags[i]));
		EXPECT_EQ(flags[i], fcntl(fd, F_GETFL) & O_NONBLOCK);
		EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
		close(fd);
		fd = ASSERT_FD(umpsc_clone(self->weak, flags[i]));
		EXPECT_EQ(flags[i], fcntl(fd, F_GETFL) & O_NONBLOCK);
		EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
		close(fd);
		fd = ASSERT_FD(umpsc_downgrade(self->tx, flags[i]));
		EXPECT_EQ(flags[i], fcntl(fd, F_GETFL) & O_NONBLOCK);
		EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
		close(fd);
		fd = ASSERT_FD(umpsc_upgrade(self->weak, flags[i]));
		EXPECT_EQ(flags[i], fcntl(fd, F_GETFL) & O_NONBLOCK);
		EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
		close(fd);
		fd = ASSERT_FD(umpsc_sender(self->rx, flags[i]));
		EXPECT_EQ(flags[i], fcntl(fd, F_GETFL) & O_NONBLOCK);
		EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
		close(fd);
		for (j = 0; j < 2; j++) {
			args.receiver_flags = flags[i];
			args.sender_flags = flags[j];
			ASSERT_EQ(0, umpsc_channel(manager, &args));
			fd = args.receiver_fd;
			EXPECT_EQ(flags[i] | O_RDONLY,
				  fcntl(fd, F_GETFL) &
					  (O_NONBLOCK | O_ACCMODE));
			EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
			fd = args.sender_fd;
			EXPECT_EQ(flags[j] | O_WRONLY,
				  fcntl(fd, F_GETFL) &
					  (O_NONBLOCK | O_ACCMODE));
			EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
			EXPECT_EMPTY(args.receiver_fd);
			close(args.receiver_fd);
			close(args.sender_fd);
		}
	}
	LOOK();
}

static int reopen(int fd, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags | O_CLOEXEC);
}

TEST_LONG(state, reopening_is_opening_the_node_and_enxio_without_one)
{
	static const int modes[] = { O_RDONLY, O_WRONLY, O_RDWR };
	const int handles[] = { self->tx, self->rx, self->weak };
	int nodes = self->manager >= 0 ? 2 : 0;
	int h, m, fd;

	for (h = nodes; h < 3; h++) {
		for (m = 0; m < 3; m++)
			EXPECT_ERR(ENXIO, reopen(handles[h], modes[m]));
	}
	LOOK();
	for (h = 0; h < nodes; h++) {
		EXPECT_ERR(EBUSY, reopen(handles[h], O_RDONLY));
		LOOK();
		fd = ASSERT_FD(reopen(handles[h], O_WRONLY));
		self->want.strong = 2;
		LOOK();
		EXPECT_STATE(fd, UMPSC_ROLE_SENDER, &self->want);
		EXPECT_NE(1, handle_id(_metadata, fd));
		close(fd);
		self->want.strong = 1;
		fd = ASSERT_FD(reopen(handles[h], O_RDWR));
		EXPECT_STATE(fd, UMPSC_ROLE_MANAGER, &self->want);
		close(fd);
		LOOK();
	}
	if (nodes) {
		fd = ASSERT_FD(reopen(self->manager, O_WRONLY));
		self->want.strong = 2;
		LOOK();
		close(fd);
		self->want.strong = 1;
		/* The receiver's own file, once it is the only way to the node. */
		drop(&self->rx);
		fd = ASSERT_FD(reopen(self->tx, O_RDONLY));
		EXPECT_INFO(fd, UMPSC_ROLE_RECEIVER, .state = CLAIMED,
			    .generation = 2);
		close(fd);
	}
}

/* ---- fdinfo -------------------------------------------------------------------------- */

static const char *const role_names[] = {
	[UMPSC_ROLE_MANAGER] = "manager",
	[UMPSC_ROLE_SENDER] = "sender",
	[UMPSC_ROLE_WEAK] = "weak",
	[UMPSC_ROLE_RECEIVER] = "receiver",
};

static const char *const state_names[] = {
	"closed", "receiver-gone", "claimed", "standing", "ended",
};

/* The line "@key:\t@value" is in @text. */
static void expect_line(struct __test_metadata *_metadata, const char *text,
			const char *key, const char *value)
{
	char line[128];

	snprintf(line, sizeof(line), "\numpsc-%s:\t%s\n", key, value);
	EXPECT_NE(NULL, strstr(text, line))
	{
		TH_LOG("no '%s %s' in %s", key, value, text);
	}
}

static void expect_fdinfo(struct __test_metadata *_metadata, int fd,
			  const char *node)
{
	char path[64], text[4096], key[64], value[64] = "", *p;
	size_t lines = 0, want = 2 + 1 + 22 + 3, i;
	struct umpsc_info info;

	ASSERT_EQ(0, umpsc_info(fd, &info));
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	ASSERT_LT(0, umpsc_read_file(path, text, sizeof(text)));
	expect_line(_metadata, text, "role", role_names[info.role]);
	for (i = 0; i < ARRAY_SIZE(state_names); i++) {
		if (!(info.state & 1U << i))
			continue;
		if (*value)
			strcat(value, " ");
		strcat(value, state_names[i]);
	}
	expect_line(_metadata, text, "state", value);
	for (i = 0; i < ARRAY_SIZE(umpsc_figures); i++) {
		if (umpsc_figures[i].offset <
			    offsetof(struct umpsc_info, flags) ||
		    umpsc_figures[i].offset == offsetof(struct umpsc_info, pad))
			continue;
		if (!strncmp(umpsc_figures[i].name, "limits.max_", 11))
			snprintf(key, sizeof(key), "limit-%s",
				 umpsc_figures[i].name + 11);
		else
			snprintf(key, sizeof(key), "%s", umpsc_figures[i].name);
		for (p = key; *p; p++)
			*p = *p == '_' ? '-' : *p;
		snprintf(value, sizeof(value), "%llu",
			 umpsc_figure(&info, &umpsc_figures[i]));
		expect_line(_metadata, text, key, value);
	}
	if (node) {
		expect_line(_metadata, text, "node", node);
		want++;
	}
	for (p = text; (p = strstr(p, "\numpsc-")); p++)
		lines++;
	EXPECT_EQ(want, lines)
	{
		TH_LOG("%s", text);
	}
}

TEST_LONG(state, fdinfo_tells_what_info_tells)
{
	const char *node = self->manager >= 0 ? "umpsc-" NAME : NULL;
	int fd;

	EXPECT_WRITE(self->tx, "one");
	EXPECT_WRITE(self->tx, "two");
	EXPECT_WRITE(self->tx, "three");
	EXPECT_TEXT(self->rx, "one");
	expect_fdinfo(_metadata, self->tx, node);
	expect_fdinfo(_metadata, self->rx, node);
	/* Also one whose file is not the node's. */
	expect_fdinfo(_metadata, self->weak, node);
	fd = ASSERT_FD(umpsc_clone(self->tx, 0));
	expect_fdinfo(_metadata, fd, node);
	close(fd);
	if (node)
		expect_fdinfo(_metadata, self->manager, node);
	ASSERT_EQ(0, umpsc_close(self->rx));
	EXPECT_ERR(EPIPE, write(self->tx, "late", 4));
	expect_fdinfo(_metadata, self->tx, node);
	expect_fdinfo(_metadata, self->rx, node);
	drop(&self->rx);
	expect_fdinfo(_metadata, self->tx, node);
	drop(&self->tx);
	if (node)
		expect_fdinfo(_metadata, self->manager, node);
}

/* ---- Races ------------------------------------------------------------------------------ */

#define ROUNDS 300

struct last {
	atomic_int *ready;
	int fd;
};

static void meet(atomic_int *ready)
{
	atomic_fetch_add(ready, 1);
	while (*ready < 2)
		sched_yield();
}

static long upgrade_fn(void *arg)
{
	struct last *l = arg;

	meet(l->ready);
	return umpsc_upgrade(l->fd, 0);
}

FIXTURE(race)
{
	int manager;
	struct umpsc_query before;
};

FIXTURE_SETUP(race)
{
	self->manager = ASSERT_FD(umpsc_open_manager());
	ASSERT_EQ(0, umpsc_query(self->manager, &self->before));
}

FIXTURE_TEARDOWN(race)
{
	struct umpsc_query q;

	EXPECT_TRUE(UMPSC_UNTIL(!umpsc_query(self->manager, &q) &&
				q.channels == self->before.channels));
	close(self->manager);
}

TEST_LONG(race, of_upgrade_and_the_last_drop_exactly_one_wins)
{
	struct umpsc_thread t;
	atomic_int ready;
	struct last last = { .ready = &ready };
	int rx, tx, won = 0, i;

	for (i = 0; i < ROUNDS; i++) {
		struct umpsc_info want = { .state = CLAIMED, .weak = 1 };

		ready = 0;
		ASSERT_EQ(0, umpsc_private(&rx, &tx));
		last.fd = ASSERT_FD(umpsc_downgrade(tx, 0));
		ASSERT_EQ(0, umpsc_thread_start(&t, upgrade_fn, &last));
		meet(&ready);
		close(tx);
		ASSERT_TRUE(umpsc_thread_join(&t));
		if (t.ret >= 0) {
			won++;
			want.strong = 1;
			EXPECT_STATE(rx, UMPSC_ROLE_RECEIVER, &want);
			EXPECT_POLL(0, rx);
			EXPECT_WRITE((int)t.ret, "alive");
			EXPECT_TEXT(rx, "alive");
			close(t.ret);
		} else {
			EXPECT_EQ(ESHUTDOWN, t.err);
			want.state |= ENDED;
			EXPECT_STATE(rx, UMPSC_ROLE_RECEIVER, &want);
		}
		EXPECT_POLL(HUP, rx);
		EXPECT_END(rx);
		EXPECT_ERR(ESHUTDOWN, umpsc_upgrade(last.fd, 0));
		close(last.fd);
		close(rx);
	}
	TH_LOG("UPGRADE won %d of %d", won, ROUNDS);
}

/* Makes and drops handles of every kind, from weak and strong ones alike. */
static long churn_fn(void *arg)
{
	int weak = *(int *)arg, tx, other, i;

	for (i = 0; i < ROUNDS; i++) {
		tx = umpsc_upgrade(weak, 0);
		if (tx < 0)
			return -1;
		other = umpsc_downgrade(tx, 0);
		if (other < 0 || close(other))
			return -1;
		other = umpsc_clone(tx, 0);
		if (other < 0 || close(tx) || write(other, "x", 1) != 1 ||
		    close(other))
			return -1;
	}
	return 0;
}

TEST_LONG(race, counts_are_exact_after_handles_came_and_went_on_every_cpu)
{
	struct umpsc_info want = { .state = CLAIMED, .strong = 1, .weak = 1 };
	struct umpsc_thread t[4];
	int rx, tx, weak, i;

	ASSERT_EQ(0, umpsc_private(&rx, &tx));
	weak = ASSERT_FD(umpsc_downgrade(tx, 0));
	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, umpsc_thread_start(&t[i], churn_fn, &weak));
	for (i = 0; i < 4; i++) {
		ASSERT_TRUE(umpsc_thread_join(&t[i]));
		EXPECT_EQ(0, t[i].ret);
	}
	umpsc_model_send(&want, 4 * ROUNDS, 4 * ROUNDS);
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_WEAK(weak),
		     UMPSC_VIEW_RECEIVER(rx));
	close(tx);
	close(weak);
	want.strong = 0;
	want.weak = 0;
	want.state |= ENDED;
	EXPECT_STATE(rx, UMPSC_ROLE_RECEIVER, &want);
	close(rx);
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "--probe"))
		return probe(atoi(argv[2]), atoi(argv[3]));
	return test_harness_run(argc, argv);
}
