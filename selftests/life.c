// SPDX-License-Identifier: GPL-2.0-only
/*
 * Nodes, roles, and the life of a channel: each test is named after the sentence
 * of the design (section 2) that it holds the module to.
 */
#include "umpsc_test.h"

#include <sys/epoll.h>

/* An ordinary node and a standing one. */
#define PLAIN "life"
#define STANDING "life-standing"

#define CLAIMED UMPSC_STATE_CLAIMED
#define CLOSED (UMPSC_STATE_CLOSED | UMPSC_STATE_ENDED)
#define GONE (CLOSED | UMPSC_STATE_RECEIVER_GONE)
#define ENDED UMPSC_STATE_ENDED
#define STANDS UMPSC_STATE_STANDING

#define HUP (UMPSC_POLL_IN | UMPSC_POLL_HUP)

FIXTURE(channel)
{
	int manager; /* of PLAIN */
	int standing; /* manager of STANDING */
	struct umpsc_query before;
};

FIXTURE_SETUP(channel)
{
	umpsc_node_remove(PLAIN);
	umpsc_node_remove(STANDING);
	ASSERT_EQ(0, umpsc_node_create(PLAIN, 0, NULL));
	ASSERT_EQ(0, umpsc_node_create(STANDING, UMPSC_STANDING, NULL));
	self->manager = ASSERT_FD(umpsc_open(PLAIN, O_RDWR));
	self->standing = ASSERT_FD(umpsc_open(STANDING, O_RDWR));
	ASSERT_EQ(0, umpsc_query(self->manager, &self->before));
}

FIXTURE_TEARDOWN(channel)
{
	close(self->manager);
	close(self->standing);
	umpsc_node_remove(PLAIN);
	umpsc_node_remove(STANDING);
}

/* Opens a node of the fixture in a role. */
static int open_sender(const char *name)
{
	return umpsc_open(name, O_WRONLY);
}

static int open_receiver(const char *name)
{
	return umpsc_open(name, O_RDONLY);
}

/* Like the shell's "echo > NODE". */
static void echo(struct __test_metadata *_metadata, const char *name,
		 const char *text)
{
	int tx = ASSERT_FD(open_sender(name));

	EXPECT_WRITE(tx, text);
	EXPECT_EQ(0, close(tx));
}

/* Like "cat NODE": all that read() gives up to the end, as one string. */
static void cat(struct __test_metadata *_metadata, const char *name,
		const char *want)
{
	int rx = ASSERT_FD(open_receiver(name));
	char got[256] = {};
	size_t n = 0;
	ssize_t ret;

	while ((ret = read(rx, got + n, sizeof(got) - 1 - n)) > 0)
		n += ret;
	EXPECT_EQ(0, ret);
	EXPECT_STREQ(want, got);
	EXPECT_EQ(0, close(rx));
}

/* ---- The access mode is the role ---------------------------------------- */

TEST_LONG(channel, loading_makes_dev_umpsc)
{
	struct stat st;
	int manager;

	ASSERT_EQ(0, stat(UMPSC_NODE, &st));
	EXPECT_EQ(S_IFCHR | 0660, st.st_mode);
	EXPECT_EQ(0, st.st_uid);
	EXPECT_EQ(0, st.st_gid);
	manager = ASSERT_FD(umpsc_open_manager());
	EXPECT_EQ(0, close(manager));
	echo(_metadata, "", "hello\n");
	cat(_metadata, "", "hello\n");
}

TEST_LONG(channel, o_wronly_is_a_new_sender)
{
	struct umpsc_info want = { .strong = 1, .generation = 1, .handle = 1 };
	int tx[3], i;

	for (i = 0; i < 3; i++) {
		tx[i] = ASSERT_FD(open_sender(PLAIN));
		EXPECT_EQ(O_WRONLY, fcntl(tx[i], F_GETFL) & O_ACCMODE);
		want.strong = i + 1;
		want.handle = i + 1;
		EXPECT_STATE(tx[i], UMPSC_ROLE_SENDER, &want);
		want.handle = 0;
		EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx[0]),
			     UMPSC_VIEW_MANAGER(self->manager));
	}
	for (i = 2; i > 0; i--) {
		EXPECT_EQ(0, close(tx[i]));
		want.strong = i;
		EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx[0]),
			     UMPSC_VIEW_MANAGER(self->manager));
	}
}

TEST_LONG(channel, o_rdonly_is_the_receiver_of_the_current_channel)
{
	struct umpsc_info want = { .strong = 1, .generation = 1 };
	int tx = ASSERT_FD(open_sender(PLAIN)), rx;

	EXPECT_STATE(self->manager, UMPSC_ROLE_MANAGER, &want);
	rx = ASSERT_FD(open_receiver(PLAIN));
	EXPECT_EQ(O_RDONLY, fcntl(rx, F_GETFL) & O_ACCMODE);
	want.state = CLAIMED;
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_RECEIVER(rx),
		     UMPSC_VIEW_MANAGER(self->manager));
	EXPECT_EQ(1, umpsc_same(tx, rx));
	EXPECT_EQ(1, umpsc_same(self->manager, rx));
}

TEST_LONG(channel, ebusy_while_another_file_is_the_receiver)
{
	const char *const names[] = { PLAIN, STANDING };
	int managers[] = { self->manager, self->standing };
	int rx, tx, other, i, fds;
	struct umpsc_info before;
	pid_t pid;

	for (i = 0; i < 2; i++) {
		tx = ASSERT_FD(open_sender(names[i]));
		rx = ASSERT_FD(open_receiver(names[i]));
		EXPECT_WRITE(tx, "kept");
		ASSERT_EQ(0, umpsc_info(managers[i], &before));
		fds = umpsc_count_fds();
		EXPECT_ERR(EBUSY, open_receiver(names[i]));
		EXPECT_ERR(EBUSY, umpsc_open(names[i], O_RDONLY | O_NONBLOCK));
		EXPECT_UNCHANGED(managers[i], &before);
		EXPECT_EQ(fds, umpsc_count_fds());

		/* From another process, which shares the file or not. */
		pid = fork();
		if (!pid) {
			EXPECT_ERR(EBUSY, open_receiver(names[i]));
			close(rx);
			EXPECT_ERR(EBUSY, open_receiver(names[i]));
			_exit(0);
		}
		EXPECT_EQ(0, umpsc_wait_child(pid));
		EXPECT_UNCHANGED(managers[i], &before);

		/* A second descriptor is the same file. */
		other = ASSERT_FD(dup(rx));
		EXPECT_EQ(0, close(rx));
		EXPECT_ERR(EBUSY, open_receiver(names[i]));
		EXPECT_UNCHANGED(managers[i], &before);
		EXPECT_TEXT(other, "kept");
		EXPECT_EQ(0, close(other));
		rx = ASSERT_FD(open_receiver(names[i]));
		EXPECT_EQ(0, close(rx));
		EXPECT_EQ(0, close(tx));
	}
}

TEST_LONG(channel, o_rdwr_is_the_manager_without_a_role)
{
	int other = ASSERT_FD(umpsc_open(PLAIN, O_RDWR));
	struct umpsc_info want = {};
	struct umpsc_query q;
	int tx;

	EXPECT_EQ(O_RDWR, fcntl(other, F_GETFL) & O_ACCMODE);
	/* It starts no channel ... */
	EXPECT_STATE(self->manager, UMPSC_ROLE_MANAGER, &want);
	EXPECT_EQ(0, umpsc_info(other, &want));
	EXPECT_EQ(0, want.channel);
	EXPECT_EQ(0, want.generation);
	EXPECT_EQ(0, umpsc_query(other, &q));
	EXPECT_EQ(self->before.channels, q.channels);
	EXPECT_EQ(0, umpsc_same(other, self->manager));
	EXPECT_EQ(0, umpsc_same(other, other));

	/* ... and is no sender and no receiver of one. */
	tx = ASSERT_FD(open_sender(PLAIN));
	want.strong = 1;
	EXPECT_VIEWS(&want, UMPSC_VIEW_MANAGER(other), UMPSC_VIEW_SENDER(tx),
		     UMPSC_VIEW_MANAGER(self->manager));
	EXPECT_EQ(1, umpsc_same(other, self->manager));
	EXPECT_EQ(1, umpsc_same(other, tx));
	EXPECT_EQ(0, umpsc_same(other, self->standing));
	EXPECT_EQ(0, close(other));
	EXPECT_STATE(tx, UMPSC_ROLE_SENDER, &want);
}

TEST_LONG(channel, o_direct_and_access_mode_3_are_einval_before_any_effect)
{
	static const int bad[] = {
		O_DIRECT | O_RDONLY,
		O_DIRECT | O_WRONLY,
		O_DIRECT | O_RDWR,
		O_DIRECT | O_RDONLY | O_NONBLOCK,
		3,
		3 | O_NONBLOCK,
		3 | O_DIRECT,
	};
	struct umpsc_info want = {};
	struct umpsc_query q;
	int fds = umpsc_count_fds();
	int rx, tx, i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_ERR(EINVAL, umpsc_open(PLAIN, bad[i]));
		EXPECT_ERR(EINVAL, umpsc_open(STANDING, bad[i]));
		EXPECT_ERR(EINVAL, umpsc_open("", bad[i]));
		EXPECT_STATE(self->manager, UMPSC_ROLE_MANAGER, &want);
		EXPECT_STATE(self->standing, UMPSC_ROLE_MANAGER, &want);
		EXPECT_EQ(0, umpsc_query(self->manager, &q));
		EXPECT_EQ(0, memcmp(&self->before, &q, sizeof(q)));
	}

	/* The receiver is not claimed by it ... */
	tx = ASSERT_FD(open_sender(PLAIN));
	EXPECT_WRITE(tx, "kept");
	want.strong = 1;
	umpsc_model_send(&want, 1, 4);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_ERR(EINVAL, umpsc_open(PLAIN, bad[i]));
		EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx),
			     UMPSC_VIEW_MANAGER(self->manager));
	}
	/* ... and nothing is discarded. */
	rx = ASSERT_FD(open_receiver(PLAIN));
	want.state = CLAIMED;
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_ERR(EINVAL, umpsc_open(PLAIN, bad[i]));
		EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx),
			     UMPSC_VIEW_RECEIVER(rx),
			     UMPSC_VIEW_MANAGER(self->manager));
	}
	EXPECT_EQ(fds + 2, umpsc_count_fds());
	EXPECT_TEXT(rx, "kept");
}

TEST_LONG(channel, read_and_write_on_a_manager_are_einval_and_poll_is_err)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT };
	char buf[8] = "buf";
	struct iovec iov = { .iov_base = buf, .iov_len = sizeof(buf) };
	int tx = ASSERT_FD(open_sender(PLAIN));
	struct umpsc_info before;
	int epoll, left;

	EXPECT_WRITE(tx, "kept");
	ASSERT_EQ(0, umpsc_info(tx, &before));
	EXPECT_ERR(EINVAL, read(self->manager, buf, sizeof(buf)));
	EXPECT_ERR(EINVAL, write(self->manager, buf, sizeof(buf)));
	EXPECT_ERR(EINVAL, read(self->manager, buf, 0));
	EXPECT_ERR(EINVAL, write(self->manager, buf, 0));
	EXPECT_ERR(EINVAL, readv(self->manager, &iov, 1));
	EXPECT_ERR(EINVAL, writev(self->manager, &iov, 1));
	EXPECT_ERR(ENOTTY, ioctl(self->manager, FIONREAD, &left));
	EXPECT_STREQ("buf", buf);
	EXPECT_POLL(POLLERR, self->manager);
	epoll = ASSERT_FD(epoll_create1(EPOLL_CLOEXEC));
	ASSERT_EQ(0, epoll_ctl(epoll, EPOLL_CTL_ADD, self->manager, &event));
	EXPECT_EQ(1, epoll_wait(epoll, &event, 1, 0));
	EXPECT_EQ(EPOLLERR, event.events);
	EXPECT_UNCHANGED(tx, &before);
}

TEST_LONG(channel, reading_a_sender_and_writing_a_receiver_are_ebadf)
{
	int node_tx = ASSERT_FD(open_sender(PLAIN));
	int node_rx = ASSERT_FD(open_receiver(PLAIN));
	char buf[8] = "buf";
	struct iovec iov = { .iov_base = buf, .iov_len = sizeof(buf) };
	int tx, rx, weak, i;

	ASSERT_EQ(0, umpsc_private(&rx, &tx));
	weak = ASSERT_FD(umpsc_downgrade(tx, 0));
	const int no_read[] = { node_tx, tx, weak };
	const int no_write[] = { node_rx, rx, weak };

	EXPECT_WRITE(tx, "kept");
	EXPECT_WRITE(node_tx, "kept");
	for (i = 0; i < 3; i++) {
		EXPECT_ERR(EBADF, read(no_read[i], buf, sizeof(buf)));
		EXPECT_ERR(EBADF, readv(no_read[i], &iov, 1));
		EXPECT_ERR(EBADF, write(no_write[i], buf, sizeof(buf)));
		EXPECT_ERR(EBADF, writev(no_write[i], &iov, 1));
	}
	EXPECT_STREQ("buf", buf);
	EXPECT_TEXT(rx, "kept");
	EXPECT_EMPTY(rx);
	EXPECT_TEXT(node_rx, "kept");
	EXPECT_EMPTY(node_rx);
}

TEST_LONG(channel, handles_are_named_after_what_they_are)
{
	int rx, tx, weak, clone, up, from_rx, node_tx, node_rx, i;
	char name[64];

	node_tx = ASSERT_FD(open_sender(PLAIN));
	node_rx = ASSERT_FD(open_receiver(PLAIN));
	ASSERT_EQ(0, umpsc_private(&rx, &tx));
	clone = ASSERT_FD(umpsc_clone(node_tx, 0));
	weak = ASSERT_FD(umpsc_downgrade(node_tx, 0));
	up = ASSERT_FD(umpsc_upgrade(weak, 0));
	from_rx = ASSERT_FD(umpsc_sender(node_rx, 0));
	const struct {
		int fd;
		const char *name;
		int mode;
	} table[] = {
		{ self->manager, "/dev/umpsc-" PLAIN, O_RDWR },
		{ node_tx, "/dev/umpsc-" PLAIN, O_WRONLY },
		{ node_rx, "/dev/umpsc-" PLAIN, O_RDONLY },
		{ rx, "anon_inode:[umpsc-receiver]", O_RDONLY },
		{ tx, "anon_inode:[umpsc-sender]", O_WRONLY },
		{ clone, "anon_inode:[umpsc-sender]", O_WRONLY },
		{ up, "anon_inode:[umpsc-sender]", O_WRONLY },
		{ from_rx, "anon_inode:[umpsc-sender]", O_WRONLY },
		{ weak, "anon_inode:[umpsc-weak]", 3 },
	};

	for (i = 0; i < ARRAY_SIZE(table); i++) {
		umpsc_fd_name(table[i].fd, name, sizeof(name));
		EXPECT_STREQ(table[i].name, name);
		EXPECT_EQ(table[i].mode, fcntl(table[i].fd, F_GETFL) &
						 (O_ACCMODE | O_NONBLOCK));
		EXPECT_EQ(FD_CLOEXEC, fcntl(table[i].fd, F_GETFD));
	}
}

/* ---- Messages wait, receivers wait --------------------------------------- */

TEST_LONG(channel,
	  messages_wait_for_a_receiver_also_when_their_senders_have_gone)
{
	struct umpsc_info want = { .generation = 1 };
	int rx;

	echo(_metadata, PLAIN, "first");
	umpsc_model_send(&want, 1, 5);
	EXPECT_STATE(self->manager, UMPSC_ROLE_MANAGER, &want);
	echo(_metadata, PLAIN, "second");
	umpsc_model_send(&want, 1, 6);
	EXPECT_STATE(self->manager, UMPSC_ROLE_MANAGER, &want);

	rx = ASSERT_FD(open_receiver(PLAIN));
	want.state = CLAIMED | ENDED;
	EXPECT_VIEWS(&want, UMPSC_VIEW_RECEIVER(rx),
		     UMPSC_VIEW_MANAGER(self->manager));
	EXPECT_POLL(HUP, rx);
	EXPECT_TEXT(rx, "first");
	umpsc_model_receive(&want, 1, 5);
	EXPECT_STATE(rx, UMPSC_ROLE_RECEIVER, &want);
	EXPECT_TEXT(rx, "second");
	umpsc_model_receive(&want, 1, 6);
	EXPECT_STATE(rx, UMPSC_ROLE_RECEIVER, &want);
	EXPECT_POLL(HUP, rx);
	EXPECT_END(rx);
}

TEST_LONG(channel, echo_a_echo_b_cat_prints_a_b_and_ends)
{
	struct umpsc_info want = {
		.state = GONE,
		.generation = 1,
		.sent = 2,
		.sent_bytes = 4,
		.received = 2,
		.received_bytes = 4,
		.most_messages = 2,
		.most_bytes = 4,
	};

	echo(_metadata, PLAIN, "a\n");
	echo(_metadata, PLAIN, "b\n");
	cat(_metadata, PLAIN, "a\nb\n");
	/* The node leads to it until there is a next one. */
	EXPECT_STATE(self->manager, UMPSC_ROLE_MANAGER, &want);
	echo(_metadata, PLAIN, "c\n");
	EXPECT_INFO(self->manager, UMPSC_ROLE_MANAGER, .generation = 2,
		    .messages = 1, .bytes = 2, .sent = 1, .sent_bytes = 2,
		    .most_messages = 1, .most_bytes = 2);
	cat(_metadata, PLAIN, "c\n");
}

TEST_LONG(channel, claimed_receiver_waits_for_its_first_sender_without_hup)
{
	struct umpsc_info want = { .state = CLAIMED, .generation = 1 };
	int rx = ASSERT_FD(open_receiver(PLAIN)), tx, epoll;
	struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP };
	struct umpsc_receive r = {
		.fd = rx,
		.max = 1,
		.deadline_ns = UMPSC_NO_DEADLINE,
	};
	struct umpsc_thread t;

	EXPECT_VIEWS(&want, UMPSC_VIEW_RECEIVER(rx),
		     UMPSC_VIEW_MANAGER(self->manager));
	EXPECT_POLL(0, rx);
	epoll = ASSERT_FD(epoll_create1(EPOLL_CLOEXEC));
	ASSERT_EQ(0, epoll_ctl(epoll, EPOLL_CTL_ADD, rx, &event));
	EXPECT_EQ(0, umpsc_epoll_wait(epoll, &event, 1, 10));
	EXPECT_EMPTY(rx);
	ASSERT_EQ(0, umpsc_thread_start(&t, umpsc_receive_fn, &r));
	ASSERT_TRUE(umpsc_thread_asleep(&t, SYS_ioctl));

	tx = ASSERT_FD(open_sender(PLAIN));
	want.strong = 1;
	EXPECT_VIEWS(&want, UMPSC_VIEW_RECEIVER(rx), UMPSC_VIEW_SENDER(tx),
		     UMPSC_VIEW_MANAGER(self->manager));
	EXPECT_POLL(0, rx);
	EXPECT_WRITE(tx, "first");
	ASSERT_TRUE(umpsc_thread_join(&t));
	EXPECT_EQ(1, t.ret);
	EXPECT_EQ(40, r.used);
	EXPECT_EQ(0, memcmp(r.buf + 32, "first", 5));
	umpsc_model_send(&want, 1, 5);
	umpsc_model_receive(&want, 1, 5);
	EXPECT_STATE(rx, UMPSC_ROLE_RECEIVER, &want);
	EXPECT_EQ(0, close(tx));
	EXPECT_END(rx);
}

TEST_LONG(channel, hold_is_given_up_when_a_sender_joins_a_claimed_channel)
{
	struct umpsc_info want = { .state = CLAIMED };
	int rx = ASSERT_FD(open_receiver(PLAIN)), tx;

	EXPECT_POLL(0, rx);
	tx = ASSERT_FD(open_sender(PLAIN));
	want.strong = 1;
	EXPECT_STATE(rx, UMPSC_ROLE_RECEIVER, &want);
	EXPECT_POLL(0, rx);
	EXPECT_EQ(0, close(tx));
	want.strong = 0;
	want.state = CLAIMED | ENDED;
	EXPECT_VIEWS(&want, UMPSC_VIEW_RECEIVER(rx),
		     UMPSC_VIEW_MANAGER(self->manager));
	EXPECT_POLL(HUP, rx);
	EXPECT_END(rx);
}

TEST_LONG(channel, hold_is_given_up_when_a_receiver_claims_a_joined_channel)
{
	struct umpsc_info want = { .strong = 1 };
	int tx = ASSERT_FD(open_sender(PLAIN)), rx;

	EXPECT_STATE(tx, UMPSC_ROLE_SENDER, &want);
	rx = ASSERT_FD(open_receiver(PLAIN));
	want.state = CLAIMED;
	EXPECT_STATE(rx, UMPSC_ROLE_RECEIVER, &want);
	EXPECT_POLL(0, rx);
	EXPECT_EQ(0, close(tx));
	want.strong = 0;
	want.state = CLAIMED | ENDED;
	EXPECT_VIEWS(&want, UMPSC_VIEW_RECEIVER(rx),
		     UMPSC_VIEW_MANAGER(self->manager));
	EXPECT_POLL(HUP, rx);
	EXPECT_END(rx);
}

/* The first sender came and went before the receiver: it has joined. */
TEST_LONG(channel, hold_is_given_up_at_the_claim_when_the_first_sender_has_gone)
{
	struct umpsc_info want = {};
	int tx = ASSERT_FD(open_sender(PLAIN)), rx;

	EXPECT_EQ(0, close(tx));
	EXPECT_STATE(self->manager, UMPSC_ROLE_MANAGER, &want);
	ASSERT_EQ(0, umpsc_info(self->manager, &want));
	EXPECT_NE(0, want.channel);
	rx = ASSERT_FD(open_receiver(PLAIN));
	want.state = CLAIMED | ENDED;
	EXPECT_STATE(rx, UMPSC_ROLE_RECEIVER, &want);
	EXPECT_POLL(HUP, rx);
	EXPECT_END(rx);
}

/* SENDER makes a first sender as open() does. */
TEST_LONG(channel, hold_is_given_up_when_the_receiver_makes_the_first_sender)
{
	struct umpsc_info want = { .state = CLAIMED, .strong = 1 };
	int rx = ASSERT_FD(open_receiver(PLAIN));
	int tx = ASSERT_FD(umpsc_sender(rx, 0));

	EXPECT_VIEWS(&want, UMPSC_VIEW_RECEIVER(rx), UMPSC_VIEW_SENDER(tx),
		     UMPSC_VIEW_MANAGER(self->manager));
	EXPECT_POLL(0, rx);
	EXPECT_EQ(0, close(tx));
	want.strong = 0;
	want.state = CLAIMED | ENDED;
	EXPECT_STATE(rx, UMPSC_ROLE_RECEIVER, &want);
	EXPECT_POLL(HUP, rx);
	EXPECT_END(rx);
}

/* While the node holds the channel, a weak sender can be upgraded. */
TEST_LONG(channel, hold_counts_in_the_strong_word_but_not_as_a_sender)
{
	struct umpsc_info want = { .strong = 1, .weak = 1 };
	int tx = ASSERT_FD(open_sender(PLAIN)), weak, rx;

	weak = ASSERT_FD(umpsc_downgrade(tx, 0));
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_WEAK(weak));
	EXPECT_EQ(0, close(tx));
	want.strong = 0;
	EXPECT_VIEWS(&want, UMPSC_VIEW_WEAK(weak),
		     UMPSC_VIEW_MANAGER(self->manager));
	EXPECT_POLL(0, weak);
	tx = ASSERT_FD(umpsc_upgrade(weak, 0));
	want.strong = 1;
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_WEAK(weak));
	EXPECT_EQ(0, close(tx));
	want.strong = 0;
	EXPECT_STATE(weak, UMPSC_ROLE_WEAK, &want);
	EXPECT_POLL(0, weak);

	rx = ASSERT_FD(open_receiver(PLAIN));
	want.state = CLAIMED | ENDED;
	EXPECT_VIEWS(&want, UMPSC_VIEW_WEAK(weak), UMPSC_VIEW_RECEIVER(rx));
	EXPECT_POLL(POLLHUP, weak);
	EXPECT_ERR(ESHUTDOWN, umpsc_upgrade(weak, 0));
	EXPECT_STATE(weak, UMPSC_ROLE_WEAK, &want);
}

TEST_LONG(channel, private_channel_has_no_hold_and_starts_with_one_sender)
{
	struct umpsc_info want = { .state = CLAIMED, .strong = 1 };
	int rx, tx;

	ASSERT_EQ(0, umpsc_private(&rx, &tx));
	EXPECT_VIEWS(&want, UMPSC_VIEW_RECEIVER(rx), UMPSC_VIEW_SENDER(tx));
	ASSERT_EQ(0, umpsc_info(rx, &want));
	EXPECT_EQ(0, want.generation);
	EXPECT_NE(0, want.channel);
	EXPECT_POLL(0, rx);
	EXPECT_EQ(0, close(tx));
	want.strong = 0;
	want.state = CLAIMED | ENDED;
	EXPECT_STATE(rx, UMPSC_ROLE_RECEIVER, &want);
	EXPECT_POLL(HUP, rx);
	EXPECT_END(rx);
}

/* ---- The next channel ---------------------------------------------------- */

/* After CLOSE: the old receiver drains the old channel, its senders get EPIPE. */
TEST_LONG(channel, opening_a_closed_node_starts_the_next_channel)
{
	struct umpsc_info old = { .generation = 1, .state = CLAIMED };
	struct umpsc_info next = { .generation = 2, .strong = 1 };
	int old_tx, old_rx, tx, rx;

	old_tx = ASSERT_FD(open_sender(PLAIN));
	old_rx = ASSERT_FD(open_receiver(PLAIN));
	EXPECT_WRITE(old_tx, "old");
	ASSERT_EQ(0, umpsc_close(old_rx));
	umpsc_model_send(&old, 1, 3);
	old.strong = 1;
	old.state |= CLOSED;
	/* The node still leads to it. */
	EXPECT_VIEWS(&old, UMPSC_VIEW_SENDER(old_tx),
		     UMPSC_VIEW_RECEIVER(old_rx),
		     UMPSC_VIEW_MANAGER(self->manager));

	tx = ASSERT_FD(open_sender(PLAIN));
	EXPECT_VIEWS(&old, UMPSC_VIEW_SENDER(old_tx),
		     UMPSC_VIEW_RECEIVER(old_rx));
	EXPECT_VIEWS(&next, UMPSC_VIEW_SENDER(tx),
		     UMPSC_VIEW_MANAGER(self->manager));
	EXPECT_EQ(0, umpsc_same(tx, old_tx));
	EXPECT_EQ(0, umpsc_same(self->manager, old_rx));
	EXPECT_EQ(1, umpsc_same(self->manager, tx));
	EXPECT_EQ(1, umpsc_same(old_rx, old_tx));

	/* The old receiver is in nobody's way. */
	rx = ASSERT_FD(open_receiver(PLAIN));
	next.state = CLAIMED;
	EXPECT_VIEWS(&next, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_RECEIVER(rx),
		     UMPSC_VIEW_MANAGER(self->manager));

	EXPECT_ERR(EPIPE, write(old_tx, "late", 4));
	old.refused_closed++;
	EXPECT_POLL(POLLERR, old_tx);
	EXPECT_POLL(UMPSC_POLL_OUT, tx);
	EXPECT_WRITE(tx, "new");
	umpsc_model_send(&next, 1, 3);
	EXPECT_POLL(HUP, old_rx);
	EXPECT_TEXT(old_rx, "old");
	umpsc_model_receive(&old, 1, 3);
	EXPECT_END(old_rx);
	EXPECT_VIEWS(&old, UMPSC_VIEW_SENDER(old_tx),
		     UMPSC_VIEW_RECEIVER(old_rx));
	EXPECT_VIEWS(&next, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_RECEIVER(rx),
		     UMPSC_VIEW_MANAGER(self->manager));
	EXPECT_TEXT(rx, "new");

	/* Their going does not touch the new one. */
	umpsc_model_receive(&next, 1, 3);
	EXPECT_EQ(0, close(old_rx));
	EXPECT_EQ(0, close(old_tx));
	EXPECT_VIEWS(&next, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_RECEIVER(rx),
		     UMPSC_VIEW_MANAGER(self->manager));
	EXPECT_POLL(0, rx);
}

TEST_LONG(channel, opening_a_node_whose_receiver_went_starts_the_next_channel)
{
	struct umpsc_info old = { .generation = 1, .state = GONE, .strong = 1 };
	struct umpsc_info next = { .generation = 2 };
	int old_tx, old_rx, rx, tx;

	old_tx = ASSERT_FD(open_sender(PLAIN));
	old_rx = ASSERT_FD(open_receiver(PLAIN));
	EXPECT_EQ(0, close(old_rx));
	EXPECT_VIEWS(&old, UMPSC_VIEW_SENDER(old_tx),
		     UMPSC_VIEW_MANAGER(self->manager));
	EXPECT_POLL(POLLERR, old_tx);

	rx = ASSERT_FD(open_receiver(PLAIN));
	next.state = CLAIMED;
	EXPECT_VIEWS(&next, UMPSC_VIEW_RECEIVER(rx),
		     UMPSC_VIEW_MANAGER(self->manager));
	EXPECT_POLL(0, rx);
	EXPECT_ERR(EPIPE, write(old_tx, "late", 4));
	old.refused_closed++;
	EXPECT_STATE(old_tx, UMPSC_ROLE_SENDER, &old);
	tx = ASSERT_FD(open_sender(PLAIN));
	next.strong = 1;
	EXPECT_VIEWS(&next, UMPSC_VIEW_RECEIVER(rx), UMPSC_VIEW_SENDER(tx));
	EXPECT_WRITE(tx, "new");
	EXPECT_TEXT(rx, "new");
}

TEST_LONG(channel, opening_a_node_whose_senders_went_starts_the_next_channel)
{
	struct umpsc_info old = { .generation = 1 }, next = { .generation = 2 };
	int old_tx, old_rx, tx, rx;

	old_rx = ASSERT_FD(open_receiver(PLAIN));
	old_tx = ASSERT_FD(open_sender(PLAIN));
	EXPECT_WRITE(old_tx, "old");
	EXPECT_EQ(0, close(old_tx));
	umpsc_model_send(&old, 1, 3);
	old.state = CLAIMED | ENDED;
	EXPECT_VIEWS(&old, UMPSC_VIEW_RECEIVER(old_rx),
		     UMPSC_VIEW_MANAGER(self->manager));

	/* No EBUSY, though the old receiver is still there. */
	rx = ASSERT_FD(open_receiver(PLAIN));
	next.state = CLAIMED;
	EXPECT_VIEWS(&next, UMPSC_VIEW_RECEIVER(rx),
		     UMPSC_VIEW_MANAGER(self->manager));
	tx = ASSERT_FD(open_sender(PLAIN));
	next.strong = 1;
	EXPECT_VIEWS(&next, UMPSC_VIEW_RECEIVER(rx), UMPSC_VIEW_SENDER(tx));
	EXPECT_WRITE(tx, "new");
	EXPECT_TEXT(old_rx, "old");
	EXPECT_END(old_rx);
	EXPECT_TEXT(rx, "new");
	EXPECT_EMPTY(rx);
}

TEST_LONG(channel, channel_ids_are_unique_and_generations_count_from_1)
{
	struct umpsc_info info, other;
	__u64 last = 0;
	int rx, tx, i;

	for (i = 1; i <= 5; i++) {
		tx = ASSERT_FD(open_sender(PLAIN));
		ASSERT_EQ(0, umpsc_info(tx, &info));
		EXPECT_EQ(i, info.generation);
		EXPECT_NE(last, info.channel);
		EXPECT_LT(last, info.channel);
		last = info.channel;
		rx = ASSERT_FD(open_receiver(PLAIN));
		ASSERT_EQ(0, umpsc_info(rx, &info));
		EXPECT_EQ(i, info.generation);
		EXPECT_EQ(last, info.channel);
		EXPECT_EQ(0, close(rx));
		EXPECT_EQ(0, close(tx));
		ASSERT_EQ(0, umpsc_private(&rx, &tx));
		ASSERT_EQ(0, umpsc_info(rx, &info));
		ASSERT_EQ(0, umpsc_info(tx, &other));
		EXPECT_EQ(0, info.generation);
		EXPECT_EQ(info.channel, other.channel);
		EXPECT_LT(last, info.channel);
		last = info.channel;
		EXPECT_EQ(0, close(rx));
		EXPECT_EQ(0, close(tx));
	}
	/* A node of the same name starts anew, its channels do not. */
	ASSERT_EQ(0, umpsc_node_remove(PLAIN));
	ASSERT_EQ(0, umpsc_node_create(PLAIN, 0, NULL));
	tx = ASSERT_FD(open_sender(PLAIN));
	ASSERT_EQ(0, umpsc_info(tx, &info));
	EXPECT_EQ(1, info.generation);
	EXPECT_LT(last, info.channel);
}

/* ---- Zero is for ever ---------------------------------------------------- */

TEST_LONG(channel, every_way_to_a_sender_is_closed_once_the_strong_word_is_zero)
{
	struct umpsc_info want = { .state = CLAIMED | ENDED };
	int rx, tx, weak, other, i;

	for (i = 0; i < 2; i++) {
		if (i) {
			tx = ASSERT_FD(open_sender(PLAIN));
			rx = ASSERT_FD(open_receiver(PLAIN));
		} else {
			ASSERT_EQ(0, umpsc_private(&rx, &tx));
		}
		weak = ASSERT_FD(umpsc_downgrade(tx, 0));
		EXPECT_EQ(0, close(tx));
		want.weak = 1;
		EXPECT_VIEWS(&want, UMPSC_VIEW_RECEIVER(rx),
			     UMPSC_VIEW_WEAK(weak));
		EXPECT_POLL(POLLHUP, weak);
		EXPECT_ERR(ESHUTDOWN, umpsc_upgrade(weak, 0));
		EXPECT_ERR(ESHUTDOWN, umpsc_upgrade(weak, O_NONBLOCK));
		EXPECT_ERR(ESHUTDOWN, umpsc_sender(rx, 0));
		EXPECT_VIEWS(&want, UMPSC_VIEW_RECEIVER(rx),
			     UMPSC_VIEW_WEAK(weak));

		/* A weak sender is no way to one, and can still be cloned. */
		other = ASSERT_FD(umpsc_clone(weak, 0));
		want.weak = 2;
		EXPECT_VIEWS(&want, UMPSC_VIEW_RECEIVER(rx),
			     UMPSC_VIEW_WEAK(weak), UMPSC_VIEW_WEAK(other));
		EXPECT_ERR(ESHUTDOWN, umpsc_upgrade(other, 0));
		EXPECT_EQ(0, close(other));

		/* open() leads to another channel. */
		if (i) {
			tx = ASSERT_FD(open_sender(PLAIN));
			EXPECT_EQ(0, umpsc_same(tx, rx));
			want.weak = 1;
			EXPECT_VIEWS(&want, UMPSC_VIEW_RECEIVER(rx),
				     UMPSC_VIEW_WEAK(weak));
			EXPECT_ERR(ESHUTDOWN, umpsc_upgrade(weak, 0));
			EXPECT_EQ(0, close(tx));
		}
		EXPECT_END(rx);
		EXPECT_EQ(0, close(rx));
		EXPECT_EQ(0, close(weak));
	}
}

/* ---- An ordinary receiver's going ---------------------------------------- */

TEST_LONG(channel, ordinary_receivers_going_discards_what_it_has_not_taken)
{
	struct umpsc_info want;
	struct umpsc_query q;
	int rx, tx, weak, i;

	for (i = 0; i < 2; i++) {
		if (i) {
			tx = ASSERT_FD(open_sender(PLAIN));
			rx = ASSERT_FD(open_receiver(PLAIN));
		} else {
			ASSERT_EQ(0, umpsc_private(&rx, &tx));
		}
		weak = ASSERT_FD(umpsc_downgrade(tx, 0));
		want = (struct umpsc_info){
			.state = CLAIMED,
			.strong = 1,
			.weak = 1,
		};
		EXPECT_WRITE(tx, "one");
		EXPECT_WRITE(tx, "two");
		EXPECT_WRITE(tx, "three");
		umpsc_model_send(&want, 3, 11);
		EXPECT_TEXT(rx, "one");
		umpsc_model_receive(&want, 1, 3);
		EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx),
			     UMPSC_VIEW_WEAK(weak), UMPSC_VIEW_RECEIVER(rx));
		EXPECT_EQ(0, umpsc_query(tx, &q));
		EXPECT_EQ(self->before.messages + 2, q.messages);
		EXPECT_EQ(self->before.bytes + 8, q.bytes);

		/* Freed then, not when the last sender goes. */
		EXPECT_EQ(0, close(rx));
		want.state = GONE;
		umpsc_model_discard(&want);
		EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx),
			     UMPSC_VIEW_WEAK(weak));
		EXPECT_EQ(0, umpsc_query(tx, &q));
		EXPECT_EQ(self->before.messages, q.messages);
		EXPECT_EQ(self->before.bytes, q.bytes);
		EXPECT_POLL(POLLERR, tx);
		EXPECT_POLL(POLLERR, weak);
		EXPECT_ERR(EPIPE, write(tx, "late", 4));
		want.refused_closed++;
		EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx),
			     UMPSC_VIEW_WEAK(weak));
		if (i)
			EXPECT_STATE(self->manager, UMPSC_ROLE_MANAGER, &want);
		EXPECT_EQ(0, close(tx));
		want.strong = 0;
		EXPECT_STATE(weak, UMPSC_ROLE_WEAK, &want);
		EXPECT_POLL(POLLERR | POLLHUP, weak);
		EXPECT_EQ(0, close(weak));
	}
}

TEST_LONG(channel, receiver_that_leaves_before_any_sender_ends_its_channel)
{
	struct umpsc_info want = { .generation = 2, .strong = 1 };
	int rx = ASSERT_FD(open_receiver(PLAIN)), tx;

	EXPECT_EQ(0, close(rx));
	tx = ASSERT_FD(open_sender(PLAIN));
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx),
		     UMPSC_VIEW_MANAGER(self->manager));
	EXPECT_WRITE(tx, "x");
	umpsc_model_send(&want, 1, 1);
	EXPECT_STATE(tx, UMPSC_ROLE_SENDER, &want);
}

/* A process that dies drops its handles like any other. */
TEST_LONG(channel, killed_process_drops_its_handles)
{
	struct umpsc_info want = { .generation = 1, .strong = 1 };
	int tx = ASSERT_FD(open_sender(PLAIN));
	pid_t pid;

	EXPECT_WRITE(tx, "never read");
	umpsc_model_send(&want, 1, 10);
	pid = fork();
	if (!pid) {
		open_sender(PLAIN);
		umpsc_downgrade(tx, 0);
		open_receiver(PLAIN);
		umpsc_hang();
	}
	ASSERT_TRUE(umpsc_wait_asleep(pid, SYS_pause));
	want.state = CLAIMED;
	want.strong = 2;
	want.weak = 1;
	EXPECT_STATE(tx, UMPSC_ROLE_SENDER, &want);
	EXPECT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(SIGKILL, umpsc_wait_child(pid));
	want.state = GONE;
	want.strong = 1;
	want.weak = 0;
	umpsc_model_discard(&want);
	EXPECT_STATE(tx, UMPSC_ROLE_SENDER, &want);
	EXPECT_ERR(EPIPE, write(tx, "late", 4));
}

/* ---- A standing node ----------------------------------------------------- */

TEST_LONG(channel, standing_node_has_no_end_while_senders_come_and_go)
{
	struct umpsc_info want = {
		.state = STANDS | CLAIMED,
		.generation = 1,
	};
	int rx = ASSERT_FD(open_receiver(STANDING)), tx, weak, i;

	EXPECT_POLL(0, rx);
	for (i = 0; i < 4; i++) {
		tx = ASSERT_FD(open_sender(STANDING));
		weak = ASSERT_FD(umpsc_downgrade(tx, 0));
		want.strong = 1;
		want.weak = 1;
		EXPECT_WRITE(tx, "come");
		umpsc_model_send(&want, 1, 4);
		EXPECT_VIEWS(&want, UMPSC_VIEW_RECEIVER(rx),
			     UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_WEAK(weak),
			     UMPSC_VIEW_MANAGER(self->standing));
		EXPECT_EQ(0, close(tx));
		want.strong = 0;
		EXPECT_VIEWS(&want, UMPSC_VIEW_RECEIVER(rx),
			     UMPSC_VIEW_WEAK(weak),
			     UMPSC_VIEW_MANAGER(self->standing));
		EXPECT_POLL(UMPSC_POLL_IN, rx);
		EXPECT_POLL(0, weak);
		EXPECT_TEXT(rx, "come");
		umpsc_model_receive(&want, 1, 4);
		EXPECT_POLL(0, rx);
		EXPECT_EMPTY(rx);
		tx = ASSERT_FD(umpsc_upgrade(weak, 0));
		EXPECT_EQ(0, close(tx));
		tx = ASSERT_FD(umpsc_sender(rx, 0));
		EXPECT_EQ(0, close(tx));
		EXPECT_EQ(0, close(weak));
		want.weak = 0;
		EXPECT_VIEWS(&want, UMPSC_VIEW_RECEIVER(rx),
			     UMPSC_VIEW_MANAGER(self->standing));
		EXPECT_POLL(0, rx);
	}
}

TEST_LONG(channel, standing_receivers_going_leaves_queue_and_senders_whole)
{
	struct umpsc_info want = { .state = STANDS, .generation = 1 };
	int tx = ASSERT_FD(open_sender(STANDING)), weak, rx, i;

	weak = ASSERT_FD(umpsc_downgrade(tx, 0));
	want.strong = 1;
	want.weak = 1;
	EXPECT_WRITE(tx, "one");
	EXPECT_WRITE(tx, "two");
	EXPECT_WRITE(tx, "three");
	umpsc_model_send(&want, 3, 11);
	for (i = 0; i < 3; i++) {
		/* Nothing is taken, nothing is lost, nobody is told. */
		rx = ASSERT_FD(open_receiver(STANDING));
		want.state = STANDS | CLAIMED;
		EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx),
			     UMPSC_VIEW_WEAK(weak), UMPSC_VIEW_RECEIVER(rx),
			     UMPSC_VIEW_MANAGER(self->standing));
		EXPECT_POLL(UMPSC_POLL_IN, rx);
		EXPECT_EQ(0, close(rx));
		want.state = STANDS;
		EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx),
			     UMPSC_VIEW_WEAK(weak),
			     UMPSC_VIEW_MANAGER(self->standing));
		EXPECT_POLL(UMPSC_POLL_OUT, tx);
		EXPECT_POLL(0, weak);
	}
	rx = ASSERT_FD(open_receiver(STANDING));
	EXPECT_TEXT(rx, "one");
	umpsc_model_receive(&want, 1, 3);
	EXPECT_EQ(0, close(rx));
	EXPECT_STATE(tx, UMPSC_ROLE_SENDER, &want);
	EXPECT_WRITE(tx, "four");
	umpsc_model_send(&want, 1, 4);
	EXPECT_STATE(tx, UMPSC_ROLE_SENDER, &want);

	/* Also without any handle at all. */
	EXPECT_EQ(0, close(tx));
	EXPECT_EQ(0, close(weak));
	want.strong = 0;
	want.weak = 0;
	EXPECT_STATE(self->standing, UMPSC_ROLE_MANAGER, &want);
	rx = ASSERT_FD(open_receiver(STANDING));
	want.state = STANDS | CLAIMED;
	EXPECT_STATE(rx, UMPSC_ROLE_RECEIVER, &want);
	EXPECT_TEXT(rx, "two");
	EXPECT_TEXT(rx, "three");
	EXPECT_TEXT(rx, "four");
	umpsc_model_receive(&want, 3, 12);
	EXPECT_EMPTY(rx);
	EXPECT_STATE(rx, UMPSC_ROLE_RECEIVER, &want);
}

TEST_LONG(channel, standing_message_read_in_part_is_whole_for_the_successor)
{
	struct umpsc_info want = { .state = STANDS, .strong = 1 };
	int tx = ASSERT_FD(open_sender(STANDING)), rx;
	struct umpsc_record r;
	char buf[16] = {};

	EXPECT_WRITE(tx, "first message");
	EXPECT_WRITE(tx, "second message");
	umpsc_model_send(&want, 2, 27);
	rx = ASSERT_FD(open_receiver(STANDING));
	EXPECT_EQ(6, read(rx, buf, 6));
	EXPECT_STREQ("first ", buf);
	EXPECT_EQ(7, umpsc_fionread(rx));
	want.state = STANDS | CLAIMED;
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_RECEIVER(rx));
	EXPECT_EQ(0, close(rx));

	rx = ASSERT_FD(open_receiver(STANDING));
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_RECEIVER(rx));
	EXPECT_EQ(13, umpsc_fionread(rx));
	r = EXPECT_TEXT(rx, "first message");
	EXPECT_EQ(0, r.flags);
	EXPECT_EQ(0, r.seq);
	r = EXPECT_TEXT(rx, "second message");
	EXPECT_EQ(0, r.flags);
	EXPECT_EQ(1, r.seq);
	umpsc_model_receive(&want, 2, 27);
	EXPECT_STATE(rx, UMPSC_ROLE_RECEIVER, &want);

	/* In the middle of the queue, after the last byte of another. */
	EXPECT_WRITE(tx, "third");
	EXPECT_WRITE(tx, "fourth");
	EXPECT_WRITE(tx, "fifth");
	umpsc_model_send(&want, 3, 16);
	EXPECT_EQ(5, read(rx, buf, sizeof(buf)));
	umpsc_model_receive(&want, 1, 5);
	EXPECT_EQ(3, read(rx, buf, 3));
	EXPECT_EQ(2, read(rx, buf, 2));
	EXPECT_EQ(0, close(rx));
	want.state = STANDS;
	EXPECT_STATE(tx, UMPSC_ROLE_SENDER, &want);
	rx = ASSERT_FD(open_receiver(STANDING));
	memset(buf, 0, sizeof(buf));
	EXPECT_EQ(6, read(rx, buf, sizeof(buf)));
	EXPECT_STREQ("fourth", buf);
	EXPECT_TEXT(rx, "fifth");
}

TEST_LONG(channel, close_ends_a_standing_channel)
{
	struct umpsc_info want = { .state = STANDS, .generation = 1 };
	struct umpsc_info next = { .state = STANDS, .generation = 2 };
	int tx = ASSERT_FD(open_sender(STANDING)), rx, next_tx, next_rx;

	rx = ASSERT_FD(open_receiver(STANDING));
	EXPECT_WRITE(tx, "one");
	EXPECT_WRITE(tx, "two");
	umpsc_model_send(&want, 2, 6);
	want.strong = 1;
	ASSERT_EQ(0, umpsc_close(rx));
	want.state |= CLAIMED | CLOSED;
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_RECEIVER(rx),
		     UMPSC_VIEW_MANAGER(self->standing));
	EXPECT_POLL(POLLERR, tx);
	EXPECT_POLL(HUP, rx);
	EXPECT_ERR(EPIPE, write(tx, "late", 4));
	want.refused_closed++;

	next_rx = ASSERT_FD(open_receiver(STANDING));
	next_tx = ASSERT_FD(open_sender(STANDING));
	next.state |= CLAIMED;
	next.strong = 1;
	EXPECT_VIEWS(&next, UMPSC_VIEW_SENDER(next_tx),
		     UMPSC_VIEW_RECEIVER(next_rx),
		     UMPSC_VIEW_MANAGER(self->standing));
	EXPECT_TEXT(rx, "one");
	umpsc_model_receive(&want, 1, 3);
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_RECEIVER(rx));

	/* It has ended, so there is nobody to leave the rest to. */
	EXPECT_EQ(0, close(rx));
	want.state = STANDS | GONE;
	umpsc_model_discard(&want);
	EXPECT_STATE(tx, UMPSC_ROLE_SENDER, &want);
	EXPECT_VIEWS(&next, UMPSC_VIEW_SENDER(next_tx),
		     UMPSC_VIEW_RECEIVER(next_rx),
		     UMPSC_VIEW_MANAGER(self->standing));
	EXPECT_EMPTY(next_rx);
}

TEST_LONG(channel, closed_standing_channel_whose_receiver_went_is_replaced)
{
	struct umpsc_info want = { .state = STANDS | CLAIMED, .strong = 1 };
	struct umpsc_info next = { .state = STANDS, .generation = 2 };
	int old = ASSERT_FD(open_sender(STANDING)), rx, tx;

	rx = ASSERT_FD(open_receiver(STANDING));
	EXPECT_WRITE(old, "one");
	EXPECT_WRITE(old, "two");
	umpsc_model_send(&want, 2, 6);
	ASSERT_EQ(0, umpsc_close(rx));
	EXPECT_TEXT(rx, "one");
	umpsc_model_receive(&want, 1, 3);
	want.state |= CLOSED;
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(old), UMPSC_VIEW_RECEIVER(rx),
		     UMPSC_VIEW_MANAGER(self->standing));
	/* It has ended, so there is nobody to leave the rest to. */
	EXPECT_EQ(0, close(rx));
	want.state = STANDS | GONE;
	umpsc_model_discard(&want);
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(old),
		     UMPSC_VIEW_MANAGER(self->standing));

	tx = ASSERT_FD(open_sender(STANDING));
	next.strong = 1;
	EXPECT_VIEWS(&next, UMPSC_VIEW_SENDER(tx),
		     UMPSC_VIEW_MANAGER(self->standing));
	EXPECT_STATE(old, UMPSC_ROLE_SENDER, &want);
	EXPECT_POLL(POLLERR, old);
	EXPECT_POLL(UMPSC_POLL_OUT, tx);
}

/* A node holds its current channel: the one before it is left to its senders. */
TEST_LONG(channel, closed_standing_channel_is_not_held_once_it_is_replaced)
{
	struct umpsc_info want = { .state = STANDS | CLAIMED | CLOSED };
	int tx = ASSERT_FD(open_sender(STANDING)), weak, rx, other;

	rx = ASSERT_FD(open_receiver(STANDING));
	weak = ASSERT_FD(umpsc_downgrade(tx, 0));
	ASSERT_EQ(0, umpsc_close(rx));
	EXPECT_EQ(0, close(tx));
	want.weak = 1;
	EXPECT_VIEWS(&want, UMPSC_VIEW_WEAK(weak), UMPSC_VIEW_RECEIVER(rx));
	EXPECT_POLL(POLLERR, weak);

	other = ASSERT_FD(open_sender(STANDING));
	EXPECT_EQ(0, umpsc_same(other, rx));
	EXPECT_VIEWS(&want, UMPSC_VIEW_WEAK(weak), UMPSC_VIEW_RECEIVER(rx));
	EXPECT_POLL(POLLERR | POLLHUP, weak);
	EXPECT_ERR(ESHUTDOWN, umpsc_upgrade(weak, 0));
	EXPECT_ERR(ESHUTDOWN, umpsc_sender(rx, 0));
	EXPECT_VIEWS(&want, UMPSC_VIEW_WEAK(weak), UMPSC_VIEW_RECEIVER(rx));
}

/* Likewise where nobody had joined when the receiver closed. */
TEST_LONG(channel,
	  closed_channel_that_nobody_joined_is_not_held_once_it_is_replaced)
{
	struct umpsc_info want = { .state = CLAIMED | CLOSED };
	int rx = ASSERT_FD(open_receiver(PLAIN)), tx;

	ASSERT_EQ(0, umpsc_close(rx));
	EXPECT_STATE(rx, UMPSC_ROLE_RECEIVER, &want);
	tx = ASSERT_FD(open_sender(PLAIN));
	EXPECT_EQ(0, umpsc_same(tx, rx));
	EXPECT_ERR(ESHUTDOWN, umpsc_sender(rx, 0));
	EXPECT_STATE(rx, UMPSC_ROLE_RECEIVER, &want);
}

TEST_LONG(channel, remove_ends_an_unclaimed_standing_channel)
{
	struct umpsc_info want = { .state = STANDS, .strong = 1, .weak = 1 };
	int tx = ASSERT_FD(open_sender(STANDING)), weak;

	weak = ASSERT_FD(umpsc_downgrade(tx, 0));
	EXPECT_WRITE(tx, "lost");
	umpsc_model_send(&want, 1, 4);
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_WEAK(weak));
	ASSERT_EQ(0, umpsc_node_remove(STANDING));
	want.state = STANDS | GONE;
	umpsc_model_discard(&want);
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_WEAK(weak));
	EXPECT_POLL(POLLERR, tx);
	EXPECT_POLL(POLLERR, weak);
	EXPECT_ERR(EPIPE, write(tx, "late", 4));
}

TEST_LONG(channel, remove_takes_the_hold_of_a_claimed_standing_channel)
{
	struct umpsc_info want = { .state = STANDS | CLAIMED, .strong = 1 };
	int tx = ASSERT_FD(open_sender(STANDING));
	int rx = ASSERT_FD(open_receiver(STANDING));

	EXPECT_WRITE(tx, "one");
	umpsc_model_send(&want, 1, 3);
	ASSERT_EQ(0, umpsc_node_remove(STANDING));
	/* Its sender goes on ... */
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_RECEIVER(rx));
	EXPECT_POLL(UMPSC_POLL_OUT, tx);
	EXPECT_WRITE(tx, "two");
	umpsc_model_send(&want, 1, 3);
	EXPECT_TEXT(rx, "one");
	umpsc_model_receive(&want, 1, 3);
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_RECEIVER(rx));
	/* ... and is now the last. */
	EXPECT_EQ(0, close(tx));
	want.strong = 0;
	want.state |= ENDED;
	EXPECT_STATE(rx, UMPSC_ROLE_RECEIVER, &want);
	EXPECT_POLL(HUP, rx);
	EXPECT_TEXT(rx, "two");
	EXPECT_END(rx);
}

/*
 * What leaves a claimed channel of a removed standing node is nobody's: no one
 * can claim it any more.
 */
TEST_LONG(channel,
	  receiver_that_leaves_a_removed_standing_node_ends_its_channel)
{
	struct umpsc_info want = { .state = STANDS | CLAIMED, .strong = 1 };
	int tx = ASSERT_FD(open_sender(STANDING));
	int rx = ASSERT_FD(open_receiver(STANDING));
	struct umpsc_query q;

	EXPECT_WRITE(tx, "lost");
	umpsc_model_send(&want, 1, 4);
	ASSERT_EQ(0, umpsc_node_remove(STANDING));
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_RECEIVER(rx));
	EXPECT_EQ(0, close(rx));
	want.state = STANDS | GONE;
	umpsc_model_discard(&want);
	EXPECT_STATE(tx, UMPSC_ROLE_SENDER, &want);
	EXPECT_POLL(POLLERR, tx);
	EXPECT_ERR(EPIPE, write(tx, "late", 4));
	EXPECT_EQ(0, umpsc_query(tx, &q));
	EXPECT_EQ(self->before.messages, q.messages);
}

/* ---- What a service manager does ------------------------------------------ */

TEST_LONG(channel,
	  service_manager_sees_exactly_in_after_a_producer_came_and_went)
{
	struct epoll_event event = { .events = EPOLLIN };
	int rx = ASSERT_FD(umpsc_open(STANDING, O_RDONLY | O_NONBLOCK));
	int epoll = ASSERT_FD(epoll_create1(EPOLL_CLOEXEC));
	int all = ASSERT_FD(epoll_create1(EPOLL_CLOEXEC));
	char buf[16] = {};
	pid_t pid;
	int i;

	ASSERT_EQ(0, epoll_ctl(epoll, EPOLL_CTL_ADD, rx, &event));
	event.events = EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP;
	ASSERT_EQ(0, epoll_ctl(all, EPOLL_CTL_ADD, rx, &event));
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(0, epoll_wait(epoll, &event, 1, 0));
		EXPECT_EQ(0, epoll_wait(all, &event, 1, 0));
		EXPECT_ERR(EAGAIN, read(rx, buf, sizeof(buf)));

		pid = fork();
		if (!pid) {
			echo(_metadata, STANDING, "work");
			_exit(0);
		}
		/* Woken by the message, not by a time-out. */
		EXPECT_EQ(1, umpsc_epoll_wait(epoll, &event, 1,
					      UMPSC_PATIENCE * 1000));
		EXPECT_EQ(EPOLLIN, event.events);
		EXPECT_EQ(0, umpsc_wait_child(pid));
		EXPECT_EQ(1, epoll_wait(epoll, &event, 1, 0));
		EXPECT_EQ(EPOLLIN, event.events);
		EXPECT_EQ(1, epoll_wait(all, &event, 1, 0));
		EXPECT_EQ(EPOLLIN, event.events);
		EXPECT_POLL(UMPSC_POLL_IN, rx);
		EXPECT_EQ(4, read(rx, buf, sizeof(buf)));
		EXPECT_STREQ("work", buf);
	}
	EXPECT_EQ(0, epoll_wait(all, &event, 1, 0));
}

/*
 * Receives @whole messages and a part of the next from @rx, says so on @pipe, and
 * waits to be killed.
 */
static void consume_and_hang(int rx, int whole, int pipe)
{
	char buf[64];

	while (whole--) {
		if (umpsc_recv(rx, buf, sizeof(buf), 1, UMPSC_NO_DEADLINE, NULL,
			       NULL) != 1)
			_exit(1);
	}
	if (read(rx, buf, 4) != 4 || write(pipe, "x", 1) != 1)
		_exit(1);
	umpsc_hang();
}

static void send_numbered(struct __test_metadata *_metadata, int tx, int n)
{
	char text[32];
	int i;

	for (i = 0; i < n; i++) {
		snprintf(text, sizeof(text), "message %d", i);
		EXPECT_WRITE(tx, text);
	}
}

/* The consumer opened the node itself: its death leaves the channel unclaimed. */
TEST_LONG(channel,
	  killed_consumer_is_replaced_and_the_successor_gets_all_the_rest)
{
	struct umpsc_info want = { .state = STANDS, .generation = 1 };
	int tx = ASSERT_FD(open_sender(STANDING)), rx, ready[2], i;
	char byte, text[32];
	pid_t pid;

	send_numbered(_metadata, tx, 10);
	umpsc_model_send(&want, 10, 90);
	want.strong = 1;
	ASSERT_EQ(0, pipe2(ready, O_CLOEXEC));
	pid = fork();
	if (!pid)
		consume_and_hang(open_receiver(STANDING), 3, ready[1]);
	ASSERT_EQ(1, read(ready[0], &byte, 1));
	umpsc_model_receive(&want, 3, 27);
	want.state = STANDS | CLAIMED;
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx),
		     UMPSC_VIEW_MANAGER(self->standing));
	EXPECT_ERR(EBUSY, open_receiver(STANDING));
	EXPECT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(SIGKILL, umpsc_wait_child(pid));
	want.state = STANDS;
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx),
		     UMPSC_VIEW_MANAGER(self->standing));

	rx = ASSERT_FD(open_receiver(STANDING));
	for (i = 3; i < 10; i++) {
		snprintf(text, sizeof(text), "message %d", i);
		EXPECT_EQ(i, EXPECT_TEXT(rx, text).seq);
	}
	EXPECT_EMPTY(rx);
	umpsc_model_receive(&want, 7, 63);
	want.state = STANDS | CLAIMED;
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_RECEIVER(rx),
		     UMPSC_VIEW_MANAGER(self->standing));
}

/*
 * The manager opened it and passes the same file to each consumer: nothing is lost,
 * and a message that was read in part goes on where the dead one stopped.
 */
TEST_LONG(channel, killed_consumer_of_an_inherited_receiver_is_replaced)
{
	int rx = ASSERT_FD(open_receiver(STANDING));
	int tx = ASSERT_FD(open_sender(STANDING)), ready[2], i;
	char byte, text[32], buf[64];
	struct umpsc_record *r = (void *)buf;
	__u64 used;
	pid_t pid;

	send_numbered(_metadata, tx, 10);
	ASSERT_EQ(0, pipe2(ready, O_CLOEXEC));
	pid = fork();
	if (!pid)
		consume_and_hang(rx, 3, ready[1]);
	ASSERT_EQ(1, read(ready[0], &byte, 1));
	EXPECT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(SIGKILL, umpsc_wait_child(pid));
	pid = fork();
	if (!pid) {
		EXPECT_EQ(1,
			  umpsc_recv(rx, buf, sizeof(buf), 1, 0, &used, NULL));
		EXPECT_EQ(UMPSC_REST, r->flags);
		EXPECT_EQ(3, r->seq);
		EXPECT_EQ(5, r->len);
		EXPECT_EQ(0, memcmp(buf + r->hdr, "age 3", 5));
		for (i = 4; i < 10; i++) {
			snprintf(text, sizeof(text), "message %d", i);
			EXPECT_EQ(i, EXPECT_TEXT(rx, text).seq);
		}
		EXPECT_EMPTY(rx);
		_exit(0);
	}
	EXPECT_EQ(0, umpsc_wait_child(pid));
	EXPECT_INFO(rx, UMPSC_ROLE_RECEIVER, .state = STANDS | CLAIMED,
		    .strong = 1, .sent = 10, .sent_bytes = 90, .received = 10,
		    .received_bytes = 90, .most_messages = 10,
		    .most_bytes = 90);
}

/* A receiver that is killed while it waits takes nothing with it. */
TEST_LONG(channel, killed_waiting_consumer_is_replaced)
{
	int rx, tx = ASSERT_FD(open_sender(STANDING));
	char buf[64];
	pid_t pid;

	pid = fork();
	if (!pid) {
		rx = open_receiver(STANDING);
		umpsc_recv(rx, buf, sizeof(buf), 1, UMPSC_NO_DEADLINE, NULL,
			   NULL);
		_exit(1);
	}
	ASSERT_TRUE(umpsc_wait_asleep(pid, SYS_ioctl));
	EXPECT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(SIGKILL, umpsc_wait_child(pid));
	EXPECT_INFO(tx, UMPSC_ROLE_SENDER, .state = STANDS, .strong = 1);
	EXPECT_WRITE(tx, "next");
	rx = ASSERT_FD(open_receiver(STANDING));
	EXPECT_TEXT(rx, "next");
}

/* ---- REMOVE ---------------------------------------------------------------- */

TEST_LONG(channel,
	  remove_of_an_unclaimed_channel_is_as_if_its_receiver_had_gone)
{
	struct umpsc_info want = { .strong = 1, .weak = 1 };
	int tx = ASSERT_FD(open_sender(PLAIN)), weak, up;
	struct umpsc_query q;

	weak = ASSERT_FD(umpsc_downgrade(tx, 0));
	EXPECT_WRITE(tx, "one");
	EXPECT_WRITE(tx, "two");
	umpsc_model_send(&want, 2, 6);
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_WEAK(weak),
		     UMPSC_VIEW_MANAGER(self->manager));
	EXPECT_POLL(UMPSC_POLL_OUT, tx);
	ASSERT_EQ(0, umpsc_node_remove(PLAIN));
	want.state = GONE;
	umpsc_model_discard(&want);
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_WEAK(weak));
	EXPECT_EQ(0, umpsc_query(tx, &q));
	EXPECT_EQ(self->before.messages, q.messages);
	EXPECT_EQ(self->before.nodes - 1, q.nodes);
	EXPECT_POLL(POLLERR, tx);
	EXPECT_POLL(POLLERR, weak);
	EXPECT_ERR(EPIPE, write(tx, "late", 4));
	want.refused_closed++;
	/* S > 0, receiver gone: handles can still be made. */
	up = ASSERT_FD(umpsc_upgrade(weak, 0));
	want.strong = 2;
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_SENDER(up));
	EXPECT_EQ(0, close(up));
	EXPECT_EQ(0, close(tx));
	want.strong = 0;
	EXPECT_STATE(weak, UMPSC_ROLE_WEAK, &want);
	EXPECT_POLL(POLLERR | POLLHUP, weak);
	EXPECT_ERR(ESHUTDOWN, umpsc_upgrade(weak, 0));
}

TEST_LONG(channel, remove_shows_the_end_to_a_receiver_that_nobody_joined)
{
	int rx = ASSERT_FD(open_receiver(PLAIN));
	struct umpsc_receive r = { .fd = rx };
	struct umpsc_thread t;

	EXPECT_INFO(rx, UMPSC_ROLE_RECEIVER, .state = CLAIMED);
	ASSERT_EQ(0, umpsc_thread_start(&t, umpsc_receive_fn, &r));
	ASSERT_TRUE(umpsc_thread_asleep(&t, SYS_read));
	ASSERT_EQ(0, umpsc_node_remove(PLAIN));
	ASSERT_TRUE(umpsc_thread_join(&t));
	EXPECT_EQ(0, t.ret);
	EXPECT_INFO(rx, UMPSC_ROLE_RECEIVER, .state = CLAIMED | ENDED);
	EXPECT_POLL(HUP, rx);
	EXPECT_END(rx);
	EXPECT_ERR(ESHUTDOWN, umpsc_sender(rx, 0));
}

TEST_LONG(channel, remove_leaves_a_claimed_and_joined_channel_alone)
{
	struct umpsc_info want = { .state = CLAIMED, .strong = 1 };
	int tx = ASSERT_FD(open_sender(PLAIN));
	int rx = ASSERT_FD(open_receiver(PLAIN)), other;

	EXPECT_WRITE(tx, "before");
	umpsc_model_send(&want, 1, 6);
	ASSERT_EQ(0, umpsc_node_remove(PLAIN));
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_RECEIVER(rx));
	EXPECT_POLL(UMPSC_POLL_OUT, tx);
	EXPECT_WRITE(tx, "after");
	umpsc_model_send(&want, 1, 5);
	other = ASSERT_FD(umpsc_sender(rx, 0));
	want.strong = 2;
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_SENDER(other),
		     UMPSC_VIEW_RECEIVER(rx));
	EXPECT_EQ(1, umpsc_same(tx, rx));
	EXPECT_EQ(1, umpsc_same(rx, other));
	EXPECT_TEXT(rx, "before");
	EXPECT_TEXT(rx, "after");
	EXPECT_EMPTY(rx);
	EXPECT_EQ(0, close(other));
	EXPECT_POLL(0, rx);
	EXPECT_EQ(0, close(tx));
	EXPECT_POLL(HUP, rx);
	EXPECT_END(rx);
}

TEST_LONG(channel, removed_node_cannot_be_opened_and_its_name_is_free)
{
	char link[64];
	int old = ASSERT_FD(umpsc_open(PLAIN, O_PATH)), tx;
	static const int modes[] = { O_RDONLY, O_WRONLY, O_RDWR };
	int i;

	ASSERT_EQ(0, umpsc_node_remove(PLAIN));
	snprintf(link, sizeof(link), "/proc/self/fd/%d", old);
	for (i = 0; i < 3; i++) {
		EXPECT_ERR(ENOENT, umpsc_open(PLAIN, modes[i]));
		EXPECT_ERR(ENXIO, open(link, modes[i] | O_CLOEXEC));
	}
	ASSERT_EQ(0, umpsc_node_create(PLAIN, 0, NULL));
	for (i = 0; i < 3; i++)
		EXPECT_ERR(ENXIO, open(link, modes[i] | O_CLOEXEC));
	tx = ASSERT_FD(open_sender(PLAIN));
	EXPECT_INFO(tx, UMPSC_ROLE_SENDER, .strong = 1, .generation = 1,
		    .handle = 1);
}

TEST_LONG(channel, managers_of_a_removed_node_have_no_info_but_all_the_rest)
{
	struct umpsc_create_args create = { .name = PLAIN, .mode = 0600 };
	struct umpsc_channel_args channel = {};
	int tx = ASSERT_FD(open_sender(PLAIN));
	struct umpsc_info info;
	struct umpsc_query q;

	EXPECT_EQ(1, umpsc_same(self->manager, tx));
	ASSERT_EQ(0, umpsc_remove(self->manager, PLAIN));
	EXPECT_ERR(ENXIO, umpsc_info(self->manager, &info));
	EXPECT_POLL(POLLERR, self->manager);
	EXPECT_EQ(0, umpsc_query(self->manager, &q));
	EXPECT_EQ(self->before.nodes - 1, q.nodes);
	EXPECT_EQ(0, umpsc_same(self->manager, tx));
	EXPECT_EQ(0, umpsc_same(tx, self->manager));
	EXPECT_EQ(0, umpsc_channel(self->manager, &channel));
	EXPECT_EQ(1, umpsc_same(channel.receiver_fd, channel.sender_fd));
	EXPECT_WRITE(channel.sender_fd, "works");
	EXPECT_TEXT(channel.receiver_fd, "works");
	EXPECT_EQ(0, umpsc_create(self->manager, &create));
	/* A node of the same name is another. */
	EXPECT_ERR(ENXIO, umpsc_info(self->manager, &info));
	EXPECT_EQ(0, umpsc_remove(self->manager, PLAIN));
	EXPECT_ERR(ENOENT, umpsc_remove(self->manager, PLAIN));
}

TEST_LONG(channel, dev_umpsc_itself_cannot_be_removed)
{
	struct umpsc_query q;

	EXPECT_ERR(EPERM, umpsc_node_remove(""));
	EXPECT_EQ(0, access(UMPSC_NODE, F_OK));
	EXPECT_EQ(0, umpsc_query(self->manager, &q));
	EXPECT_EQ(0, memcmp(&self->before, &q, sizeof(q)));
}

/* ---- A consumer that stays on an ordinary node ------------------------------ */

TEST_LONG(channel, consumer_that_stays_writes_reads_and_asks_same)
{
	int own = ASSERT_FD(open_sender(PLAIN));
	int rx = ASSERT_FD(open_receiver(PLAIN)), i;

	EXPECT_EQ(1, umpsc_same(own, rx));
	EXPECT_EQ(1, umpsc_same(rx, own));
	for (i = 0; i < 3; i++) {
		echo(_metadata, PLAIN, "come and gone");
		EXPECT_TEXT(rx, "come and gone");
		EXPECT_EMPTY(rx);
		EXPECT_POLL(0, rx);
	}
	EXPECT_INFO(rx, UMPSC_ROLE_RECEIVER, .state = CLAIMED, .generation = 1,
		    .strong = 1, .sent = 3, .sent_bytes = 39, .received = 3,
		    .received_bytes = 39, .most_messages = 1, .most_bytes = 13);
}

/* Somebody's channel ended between the two opens: they are of two channels. */
TEST_LONG(channel, consumer_that_stays_starts_over_when_same_says_0)
{
	int own = ASSERT_FD(open_sender(PLAIN));
	int other = ASSERT_FD(open_receiver(PLAIN)), rx;

	ASSERT_EQ(0, close(other));
	rx = ASSERT_FD(open_receiver(PLAIN));
	EXPECT_EQ(0, umpsc_same(own, rx));
	EXPECT_EQ(0, close(own));
	EXPECT_EQ(0, close(rx));
	own = ASSERT_FD(open_sender(PLAIN));
	rx = ASSERT_FD(open_receiver(PLAIN));
	EXPECT_EQ(1, umpsc_same(own, rx));
	EXPECT_INFO(rx, UMPSC_ROLE_RECEIVER, .state = CLAIMED, .generation = 3,
		    .strong = 1);
}

/* ---- CLOSE ------------------------------------------------------------------- */

TEST_LONG(channel, close_keeps_what_was_accepted_and_is_idempotent)
{
	struct umpsc_info want = { .state = CLAIMED, .strong = 1 };
	int rx, tx;

	ASSERT_EQ(0, umpsc_private(&rx, &tx));
	EXPECT_WRITE(tx, "accepted");
	umpsc_model_send(&want, 1, 8);
	EXPECT_EQ(0, umpsc_close(rx));
	want.state |= CLOSED;
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_RECEIVER(rx));
	EXPECT_EQ(0, umpsc_close(rx));
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_RECEIVER(rx));
	EXPECT_ERR(EPIPE, write(tx, "late", 4));
	want.refused_closed++;
	EXPECT_ERR(EPIPE, umpsc_send(tx, NULL, 0));
	EXPECT_EQ(0, write(tx, "", 0));
	EXPECT_POLL(HUP, rx);
	EXPECT_TEXT(rx, "accepted");
	EXPECT_END(rx);
	EXPECT_EQ(0, umpsc_close(rx));
	EXPECT_END(rx);
}

TEST_LONG(channel, close_wakes_a_waiting_receiver)
{
	struct umpsc_receive r = {
		.max = 1,
		.deadline_ns = UMPSC_NO_DEADLINE,
	};
	struct umpsc_thread t;
	int rx, tx;

	ASSERT_EQ(0, umpsc_private(&rx, &tx));
	r.fd = rx;
	ASSERT_EQ(0, umpsc_thread_start(&t, umpsc_receive_fn, &r));
	ASSERT_TRUE(umpsc_thread_asleep(&t, SYS_ioctl));
	EXPECT_EQ(0, umpsc_close(rx));
	ASSERT_TRUE(umpsc_thread_join(&t));
	EXPECT_EQ(0, t.ret);
	EXPECT_EQ(0, r.used);
	EXPECT_EQ(0, r.need);
}

/* ---- Races -------------------------------------------------------------------- */

#define RACERS 2
#define ROUNDS 200

struct racer {
	const char *name;
	atomic_bool *go;
	long accepted;
	int number;
};

/* Opens, sends one message, closes; counts what was accepted. */
static long race_fn(void *arg)
{
	struct racer *r = arg;
	int i, tx, text;

	while (!*r->go)
		sched_yield();
	for (i = 0; i < ROUNDS; i++) {
		tx = open_sender(r->name);
		if (tx < 0)
			return -1;
		text = r->number * ROUNDS + i;
		if (write(tx, &text, sizeof(text)) == sizeof(text))
			r->accepted++;
		else if (errno != EPIPE)
			return -1;
		close(tx);
	}
	return 0;
}

/*
 * Producers and a consumer come and go at once: whatever was accepted comes out,
 * in whichever generation, when the consumer drains each of its channels; and
 * after the last nothing is left.
 */
static void race(struct __test_metadata *_metadata, const char *name)
{
	struct umpsc_thread threads[RACERS];
	struct racer racers[RACERS];
	atomic_bool go = false;
	long accepted = 0, received = 0;
	bool done = false;
	int i, rx, text;
	__u64 stop;

	for (i = 0; i < RACERS; i++) {
		racers[i] = (struct racer){
			.name = name,
			.go = &go,
			.number = i,
		};
		ASSERT_EQ(0,
			  umpsc_thread_start(&threads[i], race_fn, &racers[i]));
	}
	go = true;
	stop = umpsc_now_ns() + UMPSC_PATIENCE * 1000000000ULL;
	while (umpsc_now_ns() < stop) {
		/* Producers that were done before this open left all they sent. */
		done = threads[0].done && threads[1].done;
		rx = ASSERT_FD(umpsc_open(name, O_RDONLY | O_NONBLOCK));
		while (read(rx, &text, sizeof(text)) > 0)
			received++;
		/* Not to lose what comes while it leaves: close, then drain. */
		EXPECT_EQ(0, umpsc_close(rx));
		while (read(rx, &text, sizeof(text)) > 0)
			received++;
		EXPECT_EQ(0, close(rx));
		if (done)
			break;
	}
	EXPECT_TRUE(done);
	for (i = 0; i < RACERS; i++) {
		ASSERT_TRUE(umpsc_thread_join(&threads[i]));
		EXPECT_EQ(0, threads[i].ret);
		accepted += racers[i].accepted;
	}
	EXPECT_EQ(accepted, received);
	EXPECT_LT(0, received);
}

TEST_LONG(channel, racing_opens_of_an_ordinary_node_lose_nothing)
{
	struct umpsc_query q;

	race(_metadata, PLAIN);
	EXPECT_TRUE(UMPSC_UNTIL(!umpsc_query(self->manager, &q) &&
				q.messages == self->before.messages &&
				q.channels <= self->before.channels + 1));
}

TEST_LONG(channel, racing_opens_of_a_standing_node_lose_nothing)
{
	struct umpsc_query q;

	race(_metadata, STANDING);
	EXPECT_TRUE(UMPSC_UNTIL(!umpsc_query(self->manager, &q) &&
				q.messages == self->before.messages &&
				q.channels <= self->before.channels + 1));
}

struct claimer {
	pthread_barrier_t *barrier;
	atomic_int *claims;
};

/* Each round one of all claims the receiver, and the others are told so. */
static long claim_fn(void *arg)
{
	struct claimer *c = arg;
	long bad = 0;
	int i, rx;

	for (i = 0; i < ROUNDS; i++) {
		pthread_barrier_wait(c->barrier);
		rx = open_receiver(STANDING);
		if (rx >= 0)
			(*c->claims)++;
		else if (errno != EBUSY)
			bad++;
		pthread_barrier_wait(c->barrier);
		if (*c->claims != i + 1)
			bad++;
		if (rx >= 0)
			close(rx);
	}
	return bad;
}

TEST_LONG(channel, of_racing_receivers_exactly_one_claims)
{
	pthread_barrier_t barrier;
	atomic_int claims = 0;
	struct claimer claimer = { .barrier = &barrier, .claims = &claims };
	struct umpsc_thread t[3];
	int i;

	ASSERT_EQ(0, pthread_barrier_init(&barrier, NULL, 3));
	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, umpsc_thread_start(&t[i], claim_fn, &claimer));
	for (i = 0; i < 3; i++) {
		ASSERT_TRUE(umpsc_thread_join(&t[i]));
		EXPECT_EQ(0, t[i].ret);
	}
	EXPECT_EQ(ROUNDS, claims);
	EXPECT_INFO(self->standing, UMPSC_ROLE_MANAGER, .state = STANDS,
		    .generation = 1);
}

struct producer {
	int tx;
	int number;
};

#define EACH 500

/* Sends EACH messages: who it is, and a number that counts. */
static long produce_fn(void *arg)
{
	struct producer *p = arg;
	int i;

	for (i = 0; i < EACH; i++) {
		int message[2] = { p->number, i };

		if (write(p->tx, message, sizeof(message)) != sizeof(message))
			return -1;
	}
	return 0;
}

/* Each consumer takes a few messages and a part of one, and leaves. */
TEST_LONG(channel, standing_receivers_that_come_and_go_under_load_lose_nothing)
{
	struct umpsc_info want = { .state = STANDS, .generation = 1 };
	int message[2], rx, tx, i, round, received = 0, next[2] = {};
	struct umpsc_thread t[2];
	struct producer p[2];
	__u64 stop;

	tx = ASSERT_FD(open_sender(STANDING));
	for (i = 0; i < 2; i++) {
		p[i] = (struct producer){ .tx = tx, .number = i };
		ASSERT_EQ(0, umpsc_thread_start(&t[i], produce_fn, &p[i]));
	}
	stop = umpsc_now_ns() + UMPSC_PATIENCE * 1000000000ULL;
	for (round = 0; received < 2 * EACH && umpsc_now_ns() < stop; round++) {
		rx = ASSERT_FD(umpsc_open(STANDING, O_RDONLY | O_NONBLOCK));
		for (i = 0; i < round % 7; i++) {
			if (read(rx, message, sizeof(message)) !=
			    sizeof(message))
				break;
			ASSERT_EQ(0, message[0] & ~1);
			ASSERT_EQ(next[message[0]], message[1]);
			next[message[0]]++;
			received++;
		}
		if (round % 2 && read(rx, message, 5) > 0)
			EXPECT_EQ(3, umpsc_fionread(rx));
		EXPECT_EQ(0, close(rx));
	}
	EXPECT_EQ(2 * EACH, received);
	for (i = 0; i < 2; i++) {
		ASSERT_TRUE(umpsc_thread_join(&t[i]));
		EXPECT_EQ(0, t[i].ret);
	}
	EXPECT_EQ(0, close(tx));
	ASSERT_EQ(0, umpsc_info(self->standing, &want));
	EXPECT_EQ(2 * EACH, want.sent);
	EXPECT_EQ(2 * EACH, want.received);
	EXPECT_EQ(8 * 2 * EACH, want.received_bytes);
	EXPECT_EQ(0, want.messages);
	EXPECT_EQ(0, want.bytes);
	EXPECT_EQ(0, want.discarded);
	EXPECT_EQ(0, want.strong);
	EXPECT_EQ(STANDS, want.state);
}

TEST_HARNESS_MAIN
