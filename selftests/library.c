// SPDX-License-Identifier: GPL-2.0-only
/*
 * libumpsc: each of its functions, and each error that it tells of.
 */
#define _GNU_SOURCE

#include <umpsc.h>

#include "umpsc_test.h"

#include <grp.h>
#include <limits.h>
#include <sys/epoll.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/un.h>

#define NAME "library"
#define PATH UMPSC_NODE "-" NAME
#define NOBODY 65534

#define ENDED UMPSC_STATE_ENDED

/* Some file that is no handle, and a descriptor that is none. */
#define NO_FD 999

/* ---- What the tests share ------------------------------------------------ */

static void expect_role(struct __test_metadata *_metadata, int line, int fd,
			__u32 role)
{
	struct umpsc_info info;

	memset(&info, UMPSC_POISON, sizeof(info));
	EXPECT_EQ(0, umpsc_info(fd, &info)) TH_LOG("... line %d", line);
	EXPECT_EQ(role, info.role) TH_LOG("... line %d", line);
}

#define EXPECT_ROLE(role, fd) expect_role(_metadata, __LINE__, fd, role)

/* A new handle is close-on-exec, and non-blocking where that was asked for. */
static void expect_flags(struct __test_metadata *_metadata, int line, int fd,
			 int flags)
{
	EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD)) TH_LOG("... line %d", line);
	EXPECT_EQ(flags, fcntl(fd, F_GETFL) & O_NONBLOCK)
	{
		TH_LOG("... line %d", line);
	}
}

#define EXPECT_FLAGS(flags, fd) expect_flags(_metadata, __LINE__, fd, flags)

/* The next message, whole; and what a receive without waiting says of its place. */
static void expect_text(struct __test_metadata *_metadata, int line, int rx,
			const char *text)
{
	struct umpsc_batch batch = UMPSC_BATCH_INIT;
	struct umpsc_message m;

	ASSERT_EQ(1, umpsc_try_recv(rx, &batch, &m))
	{
		TH_LOG("... %s, line %d", strerror(errno), line);
	}
	ASSERT_EQ(strlen(text), m.len) TH_LOG("... line %d", line);
	EXPECT_EQ(0, memcmp(text, m.data, m.len))
	{
		TH_LOG("... got '%.*s', line %d", (int)m.len,
		       (const char *)m.data, line);
	}
	umpsc_batch_free(&batch);
}

#define EXPECT_NEXT(rx, text) expect_text(_metadata, __LINE__, rx, text)

/* A receive that does not wait, without a message: 0, or -1 and errno. */
static int nothing(int rx)
{
	struct umpsc_batch batch = UMPSC_BATCH_INIT;
	struct umpsc_message m;
	int ret = umpsc_try_recv(rx, &batch, &m);
	int err = errno;

	umpsc_batch_free(&batch);
	errno = err;
	return ret;
}

#define EXPECT_NOTHING(rx) EXPECT_ERR(EAGAIN, nothing(rx))
#define EXPECT_AT_END(rx) EXPECT_EQ(0, nothing(rx))

/* From now on the process has no descriptor below @more above those that it has. */
static void limit_fds(struct __test_metadata *_metadata, int more)
{
	struct rlimit limit;
	int fd = ASSERT_FD(dup(0));

	close(fd);
	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = fd + more;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
}

static void unlimit_fds(struct __test_metadata *_metadata)
{
	struct rlimit limit;

	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = limit.rlim_max;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
}

/* From now on no memory can be had that is not there already. */
static void limit_memory(struct __test_metadata *_metadata, rlim_t bytes)
{
	struct rlimit limit;

	ASSERT_EQ(0, getrlimit(RLIMIT_AS, &limit));
	limit.rlim_cur = bytes;
	ASSERT_EQ(0, setrlimit(RLIMIT_AS, &limit));
}

/* @size bytes behind which there is no memory. */
static unsigned char *guarded(struct __test_metadata *_metadata, size_t size)
{
	size_t page = sysconf(_SC_PAGESIZE), whole;
	unsigned char *addr;

	whole = (size + page - 1) / page * page;
	addr = mmap(NULL, whole + page, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, addr);
	ASSERT_EQ(0, mprotect(addr + whole, page, PROT_NONE));
	return addr + whole - size;
}

/* A child that is nobody, until it ends. */
static void become_nobody(struct __test_metadata *_metadata)
{
	ASSERT_EQ(0, setgroups(0, NULL));
	ASSERT_EQ(0, setresgid(NOBODY, NOBODY, NOBODY));
	ASSERT_EQ(0, setresuid(NOBODY, NOBODY, NOBODY));
}

#define EXPECT_CHILD(pid) EXPECT_EQ(0, umpsc_wait_child(pid))

/* ---- Nodes --------------------------------------------------------------- */

/* An ordinary node, and a manager of another. */
FIXTURE(nodes)
{
	int fds;
	int manager;
	struct umpsc_create_args created;
};

FIXTURE_SETUP(nodes)
{
	self->fds = umpsc_count_fds();
	self->manager = ASSERT_FD(umpsc_open_manager(NULL, 0));
	umpsc_remove(self->manager, NAME);
	self->created = (struct umpsc_create_args){
		.name = NAME,
		.mode = 0600,
		.major = UMPSC_POISON_U32,
		.minor = UMPSC_POISON_U32,
	};
	ASSERT_EQ(0, umpsc_create(self->manager, &self->created));
}

FIXTURE_TEARDOWN(nodes)
{
	umpsc_remove(self->manager, NAME);
	close(self->manager);
	/* Neither what succeeded nor what failed left a descriptor. */
	EXPECT_EQ(self->fds, umpsc_count_fds());
}

TEST(path_of_a_node_is_dev_umpsc_and_its_name)
{
	static const char longest[] = "0123456789012345678901234567890";
	static const char *const bad[] = {
		"a b",	      "a/b",
		"/dev/umpsc", ".",
		"\xc3\xa4",   "umpsc\n",
		"a:b",	      "01234567890123456789012345678901",
	};
	static const char chars[] = "azAZ09_-";
	char path[UMPSC_PATH_MAX + 1], one[2] = {};
	size_t i, size;
	int c;

	ASSERT_EQ(UMPSC_NAME_MAX, strlen(longest));
	EXPECT_EQ(0, umpsc_path(NULL, path, sizeof(path)));
	EXPECT_STREQ("/dev/umpsc", path);
	EXPECT_EQ(0, umpsc_path("", path, sizeof(path)));
	EXPECT_STREQ("/dev/umpsc", path);
	EXPECT_EQ(0, umpsc_path(chars, path, sizeof(path)));
	EXPECT_STREQ("/dev/umpsc-azAZ09_-", path);
	for (size = 0; size <= UMPSC_PATH_MAX; size++) {
		memset(path, UMPSC_POISON, sizeof(path));
		if (size <= strlen("/dev/umpsc-") + strlen(longest)) {
			EXPECT_ERR(ERANGE, umpsc_path(longest, path, size));
			EXPECT_EQ((char)UMPSC_POISON, path[0]);
		} else {
			EXPECT_EQ(0, umpsc_path(longest, path, size));
			EXPECT_EQ(0, strncmp(path, "/dev/umpsc-0", 12));
			EXPECT_STREQ(longest, path + 11);
		}
		EXPECT_EQ((char)UMPSC_POISON, path[size]);
	}
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		EXPECT_ERR(EINVAL, umpsc_path(bad[i], path, sizeof(path)));
	for (c = 1; c < 256; c++) {
		one[0] = c;
		EXPECT_EQ(c < 128 && (isalnum(c) || c == '_' || c == '-') ? 0 :
									    -1,
			  umpsc_path(one, path, sizeof(path)))
		{
			TH_LOG("... of character %d", c);
		}
	}
}

TEST_LONG(nodes, open_is_by_role)
{
	int mx, tx, rx, flags;

	for (flags = 0;; flags = O_NONBLOCK) {
		mx = ASSERT_FD(umpsc_open_manager(NAME, flags));
		tx = ASSERT_FD(umpsc_open_sender(NAME, flags));
		rx = ASSERT_FD(umpsc_open_receiver(NAME, flags));
		EXPECT_ROLE(UMPSC_ROLE_MANAGER, mx);
		EXPECT_ROLE(UMPSC_ROLE_SENDER, tx);
		EXPECT_ROLE(UMPSC_ROLE_RECEIVER, rx);
		EXPECT_FLAGS(flags, mx);
		EXPECT_FLAGS(flags, tx);
		EXPECT_FLAGS(flags, rx);
		EXPECT_EQ(1, umpsc_same_channel(tx, rx));
		EXPECT_EQ(0, umpsc_send(tx, "hello", 5));
		EXPECT_NEXT(rx, "hello");
		close(rx);
		close(tx);
		close(mx);
		if (flags)
			break;
	}
}

TEST_LONG(nodes, open_takes_no_name_for_dev_umpsc_and_a_path_for_itself)
{
	static const char *const names[] = { PATH, "./umpsc-" NAME,
					     "../dev/umpsc-" NAME };
	int tx, rx, named;
	size_t i;

	tx = ASSERT_FD(umpsc_open_sender(NULL, 0));
	rx = ASSERT_FD(umpsc_open_receiver("", 0));
	EXPECT_EQ(1, umpsc_same_channel(tx, rx));
	close(tx);
	close(rx);

	named = ASSERT_FD(umpsc_open_sender(NAME, 0));
	EXPECT_EQ(0, umpsc_same_channel(named, self->manager));
	ASSERT_EQ(0, chdir("/dev"));
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		tx = ASSERT_FD(umpsc_open_sender(names[i], 0));
		EXPECT_EQ(1, umpsc_same_channel(named, tx));
		close(tx);
	}
	close(named);
}

/* Each of the three ways to open fails with @err. */
static void expect_no_open(struct __test_metadata *_metadata, int line, int err,
			   const char *name, int flags)
{
	static int (*const opens[])(const char *name, int flags) = {
		umpsc_open_sender,
		umpsc_open_receiver,
		umpsc_open_manager,
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(opens); i++) {
		errno = 0;
		EXPECT_EQ(-1, opens[i](name, flags));
		EXPECT_EQ(err, errno)
		{
			TH_LOG("... %s of '%s', way %zu, line %d",
			       strerror(errno), name, i, line);
		}
	}
}

#define EXPECT_NO_OPEN(err, name, flags) \
	expect_no_open(_metadata, __LINE__, err, name, flags)

TEST_LONG(nodes, open_makes_no_file)
{
	char dir[] = "/tmp/umpsc-library-XXXXXX";

	EXPECT_NO_OPEN(ENOENT, "there-is-none", 0);
	EXPECT_EQ(-1, access(PATH "-there-is-none", F_OK));
	ASSERT_NE(NULL, mkdtemp(dir));
	ASSERT_EQ(0, chdir(dir));
	EXPECT_NO_OPEN(ENOENT, "./none", 0);
	/* Through a link that leads nowhere neither. */
	ASSERT_EQ(0, symlink("behind", "link"));
	EXPECT_NO_OPEN(ENOENT, "./link", 0);
	EXPECT_EQ(-1, access("behind", F_OK));
	EXPECT_EQ(0, unlink("link"));
	EXPECT_EQ(0, chdir("/"));
	/* It would not be empty if anything were there. */
	EXPECT_EQ(0, rmdir(dir));
}

TEST_LONG(nodes, open_of_what_is_no_node_is_enodev)
{
	struct sockaddr_un address = {
		.sun_family = AF_UNIX,
		.sun_path = "socket",
	};
	char dir[] = "/tmp/umpsc-library-XXXXXX", content[32];
	int sock, tx;

	ASSERT_NE(NULL, mkdtemp(dir));
	ASSERT_EQ(0, chdir(dir));
	ASSERT_EQ(0, system("printf content > file"));
	ASSERT_EQ(0, mkfifo("fifo", 0600));
	ASSERT_EQ(0, mkdir("dir", 0700));
	ASSERT_EQ(0, symlink("file", "link"));
	sock = ASSERT_FD(socket(AF_UNIX, SOCK_STREAM, 0));
	ASSERT_EQ(0, bind(sock, (void *)&address, sizeof(address)));

	EXPECT_NO_OPEN(ENODEV, "./file", 0);
	EXPECT_NO_OPEN(ENODEV, "./link", 0);
	/* Opening it would wait for the other end. */
	EXPECT_NO_OPEN(ENODEV, "./fifo", 0);
	EXPECT_NO_OPEN(ENODEV, "./dir", 0);
	EXPECT_NO_OPEN(ENODEV, "./socket", 0);
	EXPECT_NO_OPEN(ENODEV, "/dev/null", 0);
	EXPECT_NO_OPEN(ENODEV, "/dev/zero", 0);
	EXPECT_EQ(7, umpsc_read_file("file", content, sizeof(content)));
	EXPECT_STREQ("content", content);

	/* A link to a node is as good as the node. */
	EXPECT_EQ(0, unlink("link"));
	ASSERT_EQ(0, symlink(PATH, "link"));
	tx = ASSERT_FD(umpsc_open_sender("./link", 0));
	EXPECT_ROLE(UMPSC_ROLE_SENDER, tx);
	close(tx);
	close(sock);
	EXPECT_EQ(0, chdir("/"));
	EXPECT_EQ(0, system("rm -r /tmp/umpsc-library-*"));
}

TEST_LONG(nodes, open_tells_each_error)
{
	int rx, fds;
	pid_t pid;

	EXPECT_NO_OPEN(EINVAL, "not a name", 0);
	EXPECT_NO_OPEN(EINVAL, "01234567890123456789012345678901", 0);
	EXPECT_NO_OPEN(EINVAL, NAME, O_CREAT);
	EXPECT_NO_OPEN(EINVAL, NAME, O_CLOEXEC);
	EXPECT_NO_OPEN(EINVAL, NAME, O_RDWR);
	EXPECT_NO_OPEN(EINVAL, NAME, -1);
	EXPECT_NO_OPEN(ENOENT, "/tmp/there/is/none", 0);
	EXPECT_NO_OPEN(ENOTDIR, "/dev/null/none", 0);

	rx = ASSERT_FD(umpsc_open_receiver(NAME, 0));
	EXPECT_ERR(EBUSY, umpsc_open_receiver(NAME, 0));
	close(rx);

	pid = fork();
	if (!pid) {
		become_nobody(_metadata);
		EXPECT_NO_OPEN(EACCES, NAME, 0);
		_exit(0);
	}
	EXPECT_CHILD(pid);

	fds = umpsc_count_fds();
	limit_fds(_metadata, 0);
	EXPECT_NO_OPEN(EMFILE, NAME, 0);
	unlimit_fds(_metadata);
	EXPECT_EQ(fds, umpsc_count_fds());
}

TEST_LONG(nodes, open_of_a_removed_node_is_enxio)
{
	const char *stale = "/tmp/umpsc-stale";
	int tx;

	unlink(stale);
	ASSERT_EQ(0, mknod(stale, S_IFCHR | 0600,
			   makedev(self->created.major, self->created.minor)));
	tx = ASSERT_FD(umpsc_open_sender(stale, 0));
	close(tx);
	EXPECT_EQ(0, umpsc_remove(self->manager, NAME));
	EXPECT_NO_OPEN(ENXIO, stale, 0);
	EXPECT_NO_OPEN(ENOENT, NAME, 0);
	EXPECT_EQ(0, unlink(stale));
}

TEST_LONG(nodes, create_makes_what_was_asked_for)
{
	struct umpsc_create_args args = {
		.name = NAME "-2",
		.mode = 0640,
		.uid = 12,
		.gid = 34,
		.flags = UMPSC_STANDING | UMPSC_TIMESTAMP,
		.limits = { .max_len = 100, .max_msgs = 10, .max_bytes = 1000 },
	};
	struct umpsc_info info;
	struct stat st;
	int tx;

	EXPECT_EQ(0, umpsc_create(self->manager, &args));
	ASSERT_EQ(0, stat(UMPSC_NODE "-" NAME "-2", &st));
	EXPECT_EQ(S_IFCHR | 0640, st.st_mode);
	EXPECT_EQ(12, st.st_uid);
	EXPECT_EQ(34, st.st_gid);
	EXPECT_EQ(makedev(args.major, args.minor), st.st_rdev);
	tx = ASSERT_FD(umpsc_open_sender(NAME "-2", 0));
	EXPECT_EQ(0, umpsc_info(tx, &info));
	EXPECT_EQ(UMPSC_STATE_STANDING, info.state);
	EXPECT_EQ(UMPSC_TIMESTAMP, info.flags);
	EXPECT_EQ(100, info.limits.max_len);
	EXPECT_EQ(10, info.limits.max_msgs);
	EXPECT_EQ(1000, info.limits.max_bytes);
	close(tx);
	EXPECT_EQ(0, umpsc_remove(self->manager, NAME "-2"));
	EXPECT_EQ(-1, stat(UMPSC_NODE "-" NAME "-2", &st));
}

TEST_LONG(nodes, create_tells_each_error)
{
	struct umpsc_create_args args = self->created;
	int tx, pipes[2];
	pid_t pid;

	EXPECT_ERR(EEXIST, umpsc_create(self->manager, &args));
	args.mode = 01000;
	EXPECT_ERR(EINVAL, umpsc_create(self->manager, &args));
	args.mode = 0600;
	args.flags = 1 << 31;
	EXPECT_ERR(EINVAL, umpsc_create(self->manager, &args));
	args.flags = 0;
	memset(args.name, 'x', sizeof(args.name));
	EXPECT_ERR(EINVAL, umpsc_create(self->manager, &args));
	memset(args.name, 0, sizeof(args.name));
	EXPECT_ERR(EINVAL, umpsc_create(self->manager, &args));

	memcpy(args.name, "other", 5);
	pid = fork();
	if (!pid) {
		become_nobody(_metadata);
		EXPECT_ERR(EPERM, umpsc_create(self->manager, &args));
		EXPECT_ERR(EPERM, umpsc_remove(self->manager, NAME));
		_exit(0);
	}
	EXPECT_CHILD(pid);
	tx = ASSERT_FD(umpsc_open_sender(NAME, 0));
	ASSERT_EQ(0, pipe(pipes));
	EXPECT_ERR(ENOTTY, umpsc_create(tx, &args));
	EXPECT_ERR(ENOTTY, umpsc_create(pipes[0], &args));
	EXPECT_ERR(EBADF, umpsc_create(NO_FD, &args));
	EXPECT_ERR(EFAULT, umpsc_create(self->manager, (void *)1));
	close(pipes[0]);
	close(pipes[1]);
	close(tx);
	EXPECT_EQ(-1, access(UMPSC_NODE "-other", F_OK));
}

TEST_LONG(nodes, remove_tells_each_error)
{
	int tx = ASSERT_FD(umpsc_open_sender(NAME, 0));
	char longer[200] = {};

	EXPECT_ERR(EPERM, umpsc_remove(self->manager, NULL));
	EXPECT_ERR(EPERM, umpsc_remove(self->manager, ""));
	EXPECT_ERR(EINVAL, umpsc_remove(self->manager, PATH));
	EXPECT_ERR(EINVAL, umpsc_remove(self->manager,
					"01234567890123456789012345678901"));
	memset(longer, 'x', sizeof(longer) - 1);
	EXPECT_ERR(EINVAL, umpsc_remove(self->manager, longer));
	EXPECT_ERR(ENOENT, umpsc_remove(self->manager, "there-is-none"));
	EXPECT_ERR(ENOTTY, umpsc_remove(tx, NAME));
	EXPECT_ERR(EBADF, umpsc_remove(NO_FD, NAME));
	EXPECT_EQ(0, umpsc_remove(self->manager, NAME));
	EXPECT_ERR(ENOENT, umpsc_remove(self->manager, NAME));
	/* The handle is left with a channel that nobody can receive from. */
	EXPECT_ERR(EPIPE, umpsc_send(tx, "x", 1));
	close(tx);
}

/* ---- Attaching ------------------------------------------------------------ */

TEST_LONG(nodes, attached_consumer_stays_while_senders_come_and_go)
{
	int rx, tx, other, i;

	for (i = 0; i < 2; i++) {
		rx = UMPSC_POISON_FD;
		tx = UMPSC_POISON_FD;
		ASSERT_EQ(0, umpsc_attach(NAME, i * O_NONBLOCK, &rx, &tx));
		EXPECT_ROLE(UMPSC_ROLE_RECEIVER, rx);
		EXPECT_ROLE(UMPSC_ROLE_SENDER, tx);
		EXPECT_FLAGS(i * O_NONBLOCK, rx);
		EXPECT_FLAGS(i * O_NONBLOCK, tx);
		EXPECT_EQ(1, umpsc_same_channel(rx, tx));
		EXPECT_EQ(1, umpsc_strong_count(rx));

		other = ASSERT_FD(umpsc_open_sender(NAME, 0));
		EXPECT_EQ(0, umpsc_send(other, "came", 4));
		close(other);
		EXPECT_NEXT(rx, "came");
		EXPECT_NOTHING(rx);
		EXPECT_EQ(0, umpsc_is_closed(rx));
		close(tx);
		EXPECT_AT_END(rx);
		close(rx);
	}
}

TEST_LONG(nodes, attaching_finds_what_waited_on_the_node)
{
	int rx, tx;

	tx = ASSERT_FD(umpsc_open_sender(NAME, 0));
	EXPECT_EQ(0, umpsc_send(tx, "waited", 6));
	close(tx);
	ASSERT_EQ(0, umpsc_attach(NAME, 0, &rx, &tx));
	EXPECT_NEXT(rx, "waited");
	EXPECT_NOTHING(rx);
	close(tx);
	close(rx);
}

TEST_LONG(nodes, attaching_tells_each_error_and_disturbs_nobody)
{
	int rx, tx, holder, fds, more;

	/* A sender that came and went would end this one's channel. */
	holder = ASSERT_FD(umpsc_open_receiver(NAME, 0));
	rx = UMPSC_POISON_FD;
	tx = UMPSC_POISON_FD;
	EXPECT_ERR(EBUSY, umpsc_attach(NAME, 0, &rx, &tx));
	EXPECT_EQ(-1, rx);
	EXPECT_EQ(-1, tx);
	EXPECT_NOTHING(holder);
	EXPECT_EQ(0, umpsc_is_closed(holder));
	close(holder);

	EXPECT_ERR(ENOENT, umpsc_attach("there-is-none", 0, &rx, &tx));
	EXPECT_ERR(ENODEV, umpsc_attach("/dev/null", 0, &rx, &tx));
	EXPECT_ERR(EINVAL, umpsc_attach("no name", 0, &rx, &tx));
	EXPECT_ERR(EINVAL, umpsc_attach(NAME, O_CREAT, &rx, &tx));
	fds = umpsc_count_fds();
	for (more = 0; more < 2; more++) {
		limit_fds(_metadata, more);
		EXPECT_ERR(EMFILE, umpsc_attach(NAME, 0, &rx, &tx));
		unlimit_fds(_metadata);
		EXPECT_EQ(-1, rx);
		EXPECT_EQ(-1, tx);
		EXPECT_EQ(fds, umpsc_count_fds());
	}
	ASSERT_EQ(0, umpsc_attach(NAME, 0, &rx, &tx));
	close(rx);
	close(tx);
}

/*
 * A child that attaches and is stopped ahead of its third open(), the receiver's.
 * What it got it passes on through the socket.
 */
struct attacher {
	pid_t pid;
	int sock;
};

static void attach_in_child(int sock)
{
	int rx, tx;

	/* A tracer sees each signal. */
	umpsc_timer_stop();
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
	if (umpsc_attach(NAME, 0, &rx, &tx))
		_exit(1);
	if (umpsc_pass_fd(sock, rx) || (tx >= 0 && umpsc_pass_fd(sock, tx)))
		_exit(2);
	_exit(0);
}

static bool at_open(pid_t pid)
{
	struct __ptrace_syscall_info info = { .op = PTRACE_SYSCALL_INFO_NONE };

	ptrace(PTRACE_GET_SYSCALL_INFO, pid, (void *)sizeof(info), &info);
	return info.op == PTRACE_SYSCALL_INFO_ENTRY &&
	       info.entry.nr == SYS_openat;
}

static void attacher_start(struct __test_metadata *_metadata,
			   struct attacher *attacher)
{
	int socks[2], status, opens = 0;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks));
	attacher->pid = fork();
	ASSERT_LE(0, attacher->pid);
	if (!attacher->pid)
		attach_in_child(socks[1]);
	close(socks[1]);
	attacher->sock = socks[0];
	ASSERT_EQ(attacher->pid, waitpid(attacher->pid, &status, 0));
	ASSERT_EQ(0, ptrace(PTRACE_SETOPTIONS, attacher->pid, NULL,
			    PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL));
	while (opens < 3) {
		ASSERT_EQ(0, ptrace(PTRACE_SYSCALL, attacher->pid, NULL, NULL));
		ASSERT_EQ(attacher->pid, waitpid(attacher->pid, &status, 0));
		ASSERT_TRUE(WIFSTOPPED(status));
		ASSERT_EQ(SIGTRAP | 0x80, WSTOPSIG(status));
		opens += at_open(attacher->pid);
	}
}

/* Lets it go on: the receiver that it got, and the sender, or -1. */
static void attacher_end(struct __test_metadata *_metadata,
			 struct attacher *attacher, int *rx, int *tx)
{
	ASSERT_EQ(0, ptrace(PTRACE_DETACH, attacher->pid, NULL, NULL));
	EXPECT_CHILD(attacher->pid);
	*rx = ASSERT_FD(umpsc_take_fd(attacher->sock));
	*tx = umpsc_take_fd(attacher->sock);
	close(attacher->sock);
}

/* Somebody else receives from the channel that was to be attached to, and goes. */
static void end_channel(struct __test_metadata *_metadata)
{
	int rx = ASSERT_FD(umpsc_open_receiver(NAME, 0));

	close(rx);
}

TEST_LONG(nodes, attacher_overtaken_by_a_channel_with_senders_joins_it)
{
	struct attacher attacher;
	int rx, tx, other;

	attacher_start(_metadata, &attacher);
	end_channel(_metadata);
	other = ASSERT_FD(umpsc_open_sender(NAME, 0));
	EXPECT_EQ(0, umpsc_send(other, "kept", 4));
	attacher_end(_metadata, &attacher, &rx, &tx);
	ASSERT_LE(0, tx);
	EXPECT_EQ(1, umpsc_same_channel(rx, tx));
	EXPECT_EQ(1, umpsc_same_channel(rx, other));
	EXPECT_EQ(2, umpsc_strong_count(rx));
	close(other);
	EXPECT_NEXT(rx, "kept");
	EXPECT_NOTHING(rx);
	close(tx);
	EXPECT_AT_END(rx);
	close(rx);
}

TEST_LONG(nodes, attacher_overtaken_by_a_channel_that_ended_gets_its_messages)
{
	struct attacher attacher;
	int rx, tx, other;

	attacher_start(_metadata, &attacher);
	end_channel(_metadata);
	other = ASSERT_FD(umpsc_open_sender(NAME, 0));
	EXPECT_EQ(0, umpsc_send(other, "kept", 4));
	close(other);
	attacher_end(_metadata, &attacher, &rx, &tx);
	EXPECT_EQ(-1, tx);
	EXPECT_NEXT(rx, "kept");
	EXPECT_AT_END(rx);
	close(rx);
}

TEST_LONG(nodes, attacher_overtaken_by_an_empty_channel_that_ended_starts_over)
{
	struct attacher attacher;
	struct umpsc_info info;
	int rx, tx, other;

	attacher_start(_metadata, &attacher);
	end_channel(_metadata);
	other = ASSERT_FD(umpsc_open_sender(NAME, 0));
	close(other);
	attacher_end(_metadata, &attacher, &rx, &tx);
	ASSERT_LE(0, tx);
	EXPECT_EQ(1, umpsc_same_channel(rx, tx));
	EXPECT_NOTHING(rx);
	EXPECT_EQ(0, umpsc_info(rx, &info));
	EXPECT_EQ(3, info.generation);
	close(tx);
	close(rx);
}

TEST_LONG(nodes, attacher_overtaken_by_another_is_ebusy)
{
	struct attacher attacher;
	int other;

	attacher_start(_metadata, &attacher);
	other = ASSERT_FD(umpsc_open_receiver(NAME, 0));
	ASSERT_EQ(0, ptrace(PTRACE_DETACH, attacher.pid, NULL, NULL));
	EXPECT_EQ(1, WEXITSTATUS(umpsc_wait_child(attacher.pid)));
	EXPECT_EQ(-1, umpsc_take_fd(attacher.sock));
	close(attacher.sock);
	close(other);
}

/* ---- Handles ------------------------------------------------------------- */

enum {
	SENDER,
	WEAK,
	RECEIVER,
	MANAGER,
	HANDLES,
};

/* A private channel with a handle of each role, a manager, and a pipe. */
FIXTURE(handles)
{
	int fds;
	int fd[HANDLES];
	int pipe[2];
};

FIXTURE_SETUP(handles)
{
	self->fds = umpsc_count_fds();
	self->fd[SENDER] = UMPSC_POISON_FD;
	self->fd[RECEIVER] = UMPSC_POISON_FD;
	ASSERT_EQ(0, umpsc_channel(&self->fd[SENDER], &self->fd[RECEIVER]));
	self->fd[WEAK] = ASSERT_FD(umpsc_sender_downgrade(self->fd[SENDER], 0));
	self->fd[MANAGER] = ASSERT_FD(umpsc_open_manager(NULL, 0));
	ASSERT_EQ(0, pipe2(self->pipe, O_CLOEXEC));
}

FIXTURE_TEARDOWN(handles)
{
	int i;

	close(self->pipe[0]);
	close(self->pipe[1]);
	for (i = 0; i < HANDLES; i++)
		if (self->fd[i] >= 0)
			close(self->fd[i]);
	EXPECT_EQ(self->fds, umpsc_count_fds());
}

static void drop(FIXTURE_DATA(handles) * self, int handle)
{
	close(self->fd[handle]);
	self->fd[handle] = -1;
}

TEST_LONG(handles, channel_has_a_sender_and_a_receiver)
{
	EXPECT_ROLE(UMPSC_ROLE_SENDER, self->fd[SENDER]);
	EXPECT_ROLE(UMPSC_ROLE_RECEIVER, self->fd[RECEIVER]);
	EXPECT_FLAGS(0, self->fd[SENDER]);
	EXPECT_FLAGS(0, self->fd[RECEIVER]);
	EXPECT_EQ(1, umpsc_same_channel(self->fd[SENDER], self->fd[RECEIVER]));
	EXPECT_INFO(self->fd[SENDER], UMPSC_ROLE_SENDER,
		    .state = UMPSC_STATE_CLAIMED, .strong = 1, .weak = 1);
}

TEST_LONG(handles, channel_without_room_for_its_files_leaves_nothing)
{
	int tx, rx, fds = umpsc_count_fds(), more;

	for (more = 0; more < 3; more++) {
		tx = UMPSC_POISON_FD;
		rx = UMPSC_POISON_FD;
		limit_fds(_metadata, more);
		EXPECT_ERR(EMFILE, umpsc_channel(&tx, &rx));
		unlimit_fds(_metadata);
		EXPECT_EQ(-1, tx);
		EXPECT_EQ(-1, rx);
		EXPECT_EQ(fds, umpsc_count_fds());
	}
}

TEST_LONG(handles, channel_with_flags_and_limits)
{
	struct umpsc_channel_args args = {
		.flags = UMPSC_TIMESTAMP | UMPSC_CREDS,
		.receiver_flags = O_NONBLOCK,
		.limits = { .max_len = 8, .max_msgs = 2, .max_bytes = 12 },
		.receiver_fd = UMPSC_POISON_FD,
		.sender_fd = UMPSC_POISON_FD,
	};
	struct umpsc_info info;

	ASSERT_EQ(0, umpsc_channel_with(self->fd[MANAGER], &args));
	EXPECT_FLAGS(O_NONBLOCK, args.receiver_fd);
	EXPECT_FLAGS(0, args.sender_fd);
	EXPECT_EQ(0, umpsc_info(args.receiver_fd, &info));
	EXPECT_EQ(UMPSC_TIMESTAMP | UMPSC_CREDS, info.flags);
	EXPECT_EQ(8, info.limits.max_len);
	EXPECT_EQ(2, info.limits.max_msgs);
	EXPECT_EQ(12, info.limits.max_bytes);
	close(args.receiver_fd);
	close(args.sender_fd);

	args.flags = UMPSC_STANDING;
	EXPECT_ERR(EINVAL, umpsc_channel_with(self->fd[MANAGER], &args));
	args.flags = 0;
	args.sender_flags = O_APPEND;
	EXPECT_ERR(EINVAL, umpsc_channel_with(self->fd[MANAGER], &args));
	args.sender_flags = 0;
	EXPECT_ERR(ENOTTY, umpsc_channel_with(self->fd[SENDER], &args));
	EXPECT_ERR(EBADF, umpsc_channel_with(NO_FD, &args));
	EXPECT_ERR(EFAULT, umpsc_channel_with(self->fd[MANAGER], (void *)1));
}

struct maker {
	const char *name;
	int (*make)(int fd, int flags);
	int from;
	__u32 role;
};

static const struct maker makers[] = {
	{ "umpsc_sender_clone", umpsc_sender_clone, SENDER, UMPSC_ROLE_SENDER },
	{ "umpsc_sender_downgrade", umpsc_sender_downgrade, SENDER,
	  UMPSC_ROLE_WEAK },
	{ "umpsc_weak_clone", umpsc_weak_clone, WEAK, UMPSC_ROLE_WEAK },
	{ "umpsc_weak_upgrade", umpsc_weak_upgrade, WEAK, UMPSC_ROLE_SENDER },
	{ "umpsc_receiver_sender", umpsc_receiver_sender, RECEIVER,
	  UMPSC_ROLE_SENDER },
};

TEST_LONG(handles, each_handle_is_made_from_its_own_role)
{
	const struct maker *m;
	int i, fd, flags;

	for (m = makers; m < makers + ARRAY_SIZE(makers); m++) {
		for (i = 0; i < HANDLES; i++) {
			if (i == m->from)
				continue;
			EXPECT_ERR(ENOTTY, m->make(self->fd[i], 0));
		}
		EXPECT_ERR(ENOTTY, m->make(self->pipe[0], 0));
		EXPECT_ERR(EBADF, m->make(NO_FD, 0));
		EXPECT_ERR(EBADF, m->make(-1, 0));
		EXPECT_ERR(EINVAL, m->make(self->fd[m->from], O_CLOEXEC));
		EXPECT_ERR(EINVAL, m->make(self->fd[m->from], -1));
		limit_fds(_metadata, 0);
		EXPECT_ERR(EMFILE, m->make(self->fd[m->from], 0));
		unlimit_fds(_metadata);
		EXPECT_EQ(1, umpsc_strong_count(self->fd[RECEIVER]));
		EXPECT_EQ(1, umpsc_weak_count(self->fd[RECEIVER]));

		for (flags = 0;; flags = O_NONBLOCK) {
			fd = ASSERT_FD(m->make(self->fd[m->from], flags));
			EXPECT_ROLE(m->role, fd);
			EXPECT_FLAGS(flags, fd);
			EXPECT_EQ(1, umpsc_same_channel(fd, self->fd[SENDER]));
			EXPECT_EQ(1 + (m->role == UMPSC_ROLE_SENDER),
				  umpsc_strong_count(fd));
			EXPECT_EQ(1 + (m->role == UMPSC_ROLE_WEAK),
				  umpsc_weak_count(fd));
			close(fd);
			if (flags)
				break;
		}
		if (!__test_passed(_metadata)) {
			TH_LOG("... it is about %s", m->name);
			break;
		}
	}
}

TEST_LONG(handles, upgrade_and_sender_are_eshutdown_without_a_sender)
{
	int tx;

	tx = ASSERT_FD(umpsc_weak_upgrade(self->fd[WEAK], 0));
	drop(self, SENDER);
	EXPECT_EQ(0, umpsc_send(tx, "last", 4));
	close(tx);
	EXPECT_ERR(ESHUTDOWN, umpsc_weak_upgrade(self->fd[WEAK], 0));
	EXPECT_ERR(ESHUTDOWN, umpsc_receiver_sender(self->fd[RECEIVER], 0));
	EXPECT_NEXT(self->fd[RECEIVER], "last");
	EXPECT_AT_END(self->fd[RECEIVER]);
}

TEST_LONG(handles, close_refuses_sends_and_keeps_what_was_sent)
{
	int i;

	EXPECT_EQ(0, umpsc_send(self->fd[SENDER], "before", 6));
	for (i = 0; i < HANDLES; i++)
		if (i != RECEIVER)
			EXPECT_ERR(ENOTTY, umpsc_close(self->fd[i]));
	EXPECT_ERR(EBADF, umpsc_close(NO_FD));
	EXPECT_EQ(0, umpsc_close(self->fd[RECEIVER]));
	EXPECT_EQ(0, umpsc_close(self->fd[RECEIVER]));
	EXPECT_ERR(EPIPE, umpsc_send(self->fd[SENDER], "after", 5));
	EXPECT_NEXT(self->fd[RECEIVER], "before");
	EXPECT_AT_END(self->fd[RECEIVER]);
}

static long closed_fn(void *arg)
{
	return umpsc_closed(*(int *)arg, UMPSC_NO_DEADLINE);
}

/* The same, which a signal does not end. */
static long closed_for_sure_fn(void *arg)
{
	long ret;

	do {
		ret = closed_fn(arg);
	} while (ret && errno == EINTR);
	return ret;
}

TEST_LONG(handles, closed_waits_for_the_receiver_to_close_or_go)
{
	int handles[] = { SENDER, WEAK }, *tx = &self->fd[SENDER];
	int *rx = &self->fd[RECEIVER], drops, i;
	struct umpsc_thread t;

	for (drops = 0; drops < 2; drops++) {
		for (i = 0; i < 2; i++) {
			drop(self, SENDER);
			drop(self, RECEIVER);
			drop(self, WEAK);
			ASSERT_EQ(0, umpsc_channel(tx, rx));
			self->fd[WEAK] =
				ASSERT_FD(umpsc_sender_downgrade(*tx, 0));
			ASSERT_EQ(0, umpsc_thread_start(&t, closed_for_sure_fn,
							&self->fd[handles[i]]));
			ASSERT_TRUE(umpsc_thread_asleep(&t, -1));
			EXPECT_EQ(0, umpsc_send(*tx, "x", 1));
			EXPECT_TRUE(umpsc_thread_asleep(&t, -1));
			EXPECT_EQ(0, drops ? close(*rx) : umpsc_close(*rx));
			if (drops)
				*rx = -1;
			ASSERT_TRUE(umpsc_thread_join(&t));
			EXPECT_EQ(0, t.ret);
			/* And from then on without waiting. */
			EXPECT_EQ(0, umpsc_closed(self->fd[handles[i]], 0));
		}
	}
}

TEST_LONG(handles, closed_of_a_weak_sender_sees_the_last_sender_go)
{
	struct umpsc_thread t;

	ASSERT_EQ(0,
		  umpsc_thread_start(&t, closed_for_sure_fn, &self->fd[WEAK]));
	ASSERT_TRUE(umpsc_thread_asleep(&t, -1));
	drop(self, SENDER);
	ASSERT_TRUE(umpsc_thread_join(&t));
	EXPECT_EQ(0, t.ret);
}

static void on_signal(int sig)
{
	(void)sig;
}

static void catch_signal(struct __test_metadata *_metadata, int flags)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = flags };

	ASSERT_EQ(0, sigaction(SIGUSR1, &sa, NULL));
}

TEST_LONG(handles, closed_tells_each_error)
{
	struct umpsc_thread t;
	__u64 begin = umpsc_now_ns();

	/* That a signal ends it is one of them. */
	umpsc_timer_stop();
	EXPECT_ERR(ETIMEDOUT, umpsc_closed(self->fd[SENDER], 0));
	EXPECT_ERR(ETIMEDOUT, umpsc_closed(self->fd[WEAK], 30 * UMPSC_MSEC));
	EXPECT_LE(30 * UMPSC_MSEC, umpsc_now_ns() - begin);
	EXPECT_ERR(ENOTTY, umpsc_closed(self->fd[RECEIVER], 0));
	EXPECT_ERR(ENOTTY, umpsc_closed(self->fd[MANAGER], 0));
	EXPECT_ERR(ENOTTY, umpsc_closed(self->pipe[0], 0));
	EXPECT_ERR(EBADF, umpsc_closed(NO_FD, 0));

	catch_signal(_metadata, SA_RESTART);
	ASSERT_EQ(0, umpsc_thread_start(&t, closed_fn, &self->fd[SENDER]));
	ASSERT_TRUE(umpsc_thread_asleep(&t, -1));
	ASSERT_EQ(0, pthread_kill(t.thread, SIGUSR1));
	ASSERT_TRUE(umpsc_thread_join(&t));
	EXPECT_EQ(-1, t.ret);
	EXPECT_EQ(EINTR, t.err);
}

/* ---- Batches ------------------------------------------------------------- */

/* Memory behind which there is none. */
FIXTURE(reader)
{
	size_t size;
	unsigned char *addr;
};

FIXTURE_SETUP(reader)
{
	self->size = 1024;
	self->addr = guarded(_metadata, self->size);
}

FIXTURE_TEARDOWN(reader)
{
}

/* The header of the record at @at, and where the one behind it begins. */
static size_t look_at(const void *addr, size_t at, struct umpsc_record *r)
{
	memcpy(r, (const char *)addr + at, sizeof(*r));
	return at + UMPSC_RECORD_SIZE(r->hdr, r->len);
}

TEST(batch_lies_as_the_kernel_takes_it)
{
	struct umpsc_batch batch = UMPSC_BATCH_INIT;
	struct umpsc_message m;
	struct umpsc_record r;
	unsigned char data[300];
	size_t at = 0, end, i;

	for (i = 0; i < sizeof(data); i++) {
		umpsc_fill(data, i, i);
		ASSERT_EQ(0, umpsc_batch_add(&batch, data, i));
		EXPECT_EQ(i + 1, batch.count);
	}
	EXPECT_LE(batch.used, batch.size);
	for (i = 0; i < sizeof(data); i++) {
		end = look_at(batch.addr, at, &r);
		ASSERT_LE(end, batch.used);
		EXPECT_EQ(i, r.len);
		EXPECT_EQ(UMPSC_RECORD_HDR, r.hdr);
		EXPECT_EQ(0, r.flags);
		EXPECT_EQ(0, r.seq);
		EXPECT_EQ(0, r.sender);
		EXPECT_EQ(0, r.time_ns);
		at += r.hdr;
		EXPECT_TRUE(umpsc_filled((char *)batch.addr + at, i, i));
		for (at += i; at < end; at++)
			EXPECT_EQ(0, ((char *)batch.addr)[at]);

		ASSERT_EQ(1, umpsc_batch_next(&batch, &m));
		EXPECT_EQ(i, m.len);
		EXPECT_EQ((char *)batch.addr + end -
				  UMPSC_RECORD_SIZE(r.hdr, i),
			  m.record);
		EXPECT_EQ((char *)m.record + UMPSC_RECORD_HDR, m.data);
		EXPECT_EQ(UMPSC_RECORD_HDR, m.hdr);
		EXPECT_EQ(0, m.has_creds);
	}
	EXPECT_EQ(batch.used, at);
	EXPECT_EQ(0, umpsc_batch_next(&batch, &m));
	EXPECT_EQ(0, umpsc_batch_next(&batch, &m));
	umpsc_batch_rewind(&batch);
	EXPECT_EQ(1, umpsc_batch_next(&batch, &m));
	EXPECT_EQ(0, m.len);

	umpsc_batch_clear(&batch);
	EXPECT_EQ(0, batch.count);
	EXPECT_EQ(0, batch.used);
	EXPECT_NE(0, batch.size);
	EXPECT_EQ(0, umpsc_batch_next(&batch, &m));
	umpsc_batch_free(&batch);
	EXPECT_EQ(NULL, batch.addr);
	EXPECT_EQ(0, batch.size);
	/* It begins anew. */
	EXPECT_EQ(0, umpsc_batch_add(&batch, "x", 1));
	umpsc_batch_free(&batch);
	umpsc_batch_free(&batch);
}

TEST(batch_takes_messages_in_pieces)
{
	struct iovec iov[] = {
		{ "ab", 2 },
		{ NULL, 0 },
		{ "c", 1 },
		{ "defghijk", 8 },
	};
	struct iovec most[] = { { "", SIZE_MAX }, { "", 2 } };
	struct umpsc_batch batch = UMPSC_BATCH_INIT;
	struct umpsc_message m;

	EXPECT_EQ(0, umpsc_batch_addv(&batch, iov, ARRAY_SIZE(iov)));
	EXPECT_EQ(0, umpsc_batch_addv(&batch, NULL, 0));
	EXPECT_EQ(0, umpsc_batch_add(&batch, NULL, 0));
	EXPECT_ERR(EINVAL, umpsc_batch_addv(&batch, iov, -1));
	/* Their sum is 1, where it overflows. */
	EXPECT_ERR(EMSGSIZE, umpsc_batch_addv(&batch, most, 2));
	EXPECT_ERR(EMSGSIZE, umpsc_batch_add(&batch, "", UMPSC_LEN_MAX + 1));
	EXPECT_EQ(3, batch.count);
	ASSERT_EQ(1, umpsc_batch_next(&batch, &m));
	ASSERT_EQ(11, m.len);
	EXPECT_EQ(0, memcmp("abcdefghijk", m.data, m.len));
	ASSERT_EQ(1, umpsc_batch_next(&batch, &m));
	EXPECT_EQ(0, m.len);
	ASSERT_EQ(1, umpsc_batch_next(&batch, &m));
	EXPECT_EQ(0, m.len);
	EXPECT_EQ(0, umpsc_batch_next(&batch, &m));
	umpsc_batch_free(&batch);
}

TEST(batch_reserves_room_and_takes_what_was_filled)
{
	struct umpsc_batch batch = UMPSC_BATCH_INIT;
	struct umpsc_message m;
	char *at;

	EXPECT_ERR(EINVAL, umpsc_batch_commit(&batch, 0));
	at = umpsc_batch_reserve(&batch, 100000);
	ASSERT_NE(NULL, at);
	EXPECT_EQ(0, batch.count);
	memset(at, 'x', 100000);
	EXPECT_ERR(EINVAL, umpsc_batch_commit(&batch, 100001));
	EXPECT_EQ(0, umpsc_batch_commit(&batch, 3));
	/* It was given up by that. */
	EXPECT_ERR(EINVAL, umpsc_batch_commit(&batch, 0));
	at = umpsc_batch_reserve(&batch, 0);
	ASSERT_NE(NULL, at);
	EXPECT_ERR(EINVAL, umpsc_batch_commit(&batch, 1));
	EXPECT_EQ(0, umpsc_batch_commit(&batch, 0));

	ASSERT_NE(NULL, umpsc_batch_reserve(&batch, 10));
	EXPECT_EQ(0, umpsc_batch_add(&batch, "other", 5));
	EXPECT_ERR(EINVAL, umpsc_batch_commit(&batch, 10));
	ASSERT_NE(NULL, umpsc_batch_reserve(&batch, 10));
	errno = 0;
	EXPECT_EQ(NULL, umpsc_batch_reserve(&batch, UMPSC_LEN_MAX + 1));
	EXPECT_EQ(EMSGSIZE, errno);
	EXPECT_ERR(EINVAL, umpsc_batch_commit(&batch, 0));
	ASSERT_NE(NULL, umpsc_batch_reserve(&batch, 10));
	umpsc_batch_clear(&batch);
	EXPECT_ERR(EINVAL, umpsc_batch_commit(&batch, 10));

	at = umpsc_batch_reserve(&batch, 8);
	ASSERT_NE(NULL, at);
	memcpy(at, "12345678", 8);
	EXPECT_EQ(0, umpsc_batch_commit(&batch, 8));
	ASSERT_EQ(1, umpsc_batch_next(&batch, &m));
	EXPECT_EQ(8, m.len);
	EXPECT_EQ(0, memcmp("12345678", m.data, 8));
	EXPECT_EQ(0, umpsc_batch_next(&batch, &m));
	umpsc_batch_free(&batch);
}

TEST(fixed_batch_keeps_to_its_memory)
{
	size_t size = UMPSC_RECORD_SIZE(UMPSC_RECORD_HDR, 5) +
		      UMPSC_RECORD_SIZE(UMPSC_RECORD_HDR, 16);
	unsigned char *addr = guarded(_metadata, size);
	struct umpsc_batch batch, before;
	struct umpsc_message m;
	size_t len;

	memset(addr, UMPSC_POISON, size);
	umpsc_batch_init_fixed(&batch, addr, size);
	EXPECT_EQ(0, umpsc_batch_add(&batch, "first", 5));
	/* Nothing of what was there goes out in the padding. */
	EXPECT_EQ(0, memcmp("\0\0\0", addr + UMPSC_RECORD_HDR + 5, 3));
	for (len = 17; len < 100; len++) {
		before = batch;
		EXPECT_ERR(ENOBUFS,
			   umpsc_batch_add(&batch, "0123456789abcdefg", len));
		errno = 0;
		EXPECT_EQ(NULL, umpsc_batch_reserve(&batch, len));
		EXPECT_EQ(ENOBUFS, errno);
		EXPECT_EQ(0, memcmp(&before, &batch, sizeof(batch)));
	}
	EXPECT_EQ(0, umpsc_batch_add(&batch, "0123456789abcdef", 16));
	EXPECT_EQ(size, batch.used);
	EXPECT_EQ(addr, batch.addr);
	EXPECT_ERR(ENOBUFS, umpsc_batch_add(&batch, "", 0));
	EXPECT_EQ(1, umpsc_batch_next(&batch, &m));
	EXPECT_EQ(0, memcmp("first", m.data, m.len));
	EXPECT_EQ(1, umpsc_batch_next(&batch, &m));
	EXPECT_EQ(0, memcmp("0123456789abcdef", m.data, m.len));
	umpsc_batch_free(&batch);
	/* It was not freed. */
	EXPECT_EQ(0, memcmp("first", addr + UMPSC_RECORD_HDR, 5));
}

TEST(batch_without_memory_stays_as_it_was)
{
	struct umpsc_batch batch = UMPSC_BATCH_INIT, before;
	struct umpsc_message m;

	ASSERT_EQ(0, umpsc_batch_add(&batch, "there", 5));
	before = batch;
	limit_memory(_metadata, 4096);
	EXPECT_ERR(ENOMEM, umpsc_batch_add(&batch, "", 512UL << 20));
	errno = 0;
	EXPECT_EQ(NULL, umpsc_batch_reserve(&batch, 512UL << 20));
	EXPECT_EQ(ENOMEM, errno);
	limit_memory(_metadata, RLIM_INFINITY);
	EXPECT_EQ(0, memcmp(&before, &batch, sizeof(batch)));
	EXPECT_EQ(0, umpsc_batch_add(&batch, "more", 4));
	EXPECT_EQ(1, umpsc_batch_next(&batch, &m));
	EXPECT_EQ(0, memcmp("there", m.data, 5));
	umpsc_batch_free(&batch);
}

/* A record at @at: its payload is @len bytes of @c. Returns the end. */
static size_t put_record(unsigned char *addr, size_t at, __u16 hdr, __u32 len,
			 char c)
{
	struct umpsc_record r = {
		.len = len,
		.hdr = hdr,
		.seq = 100 + at,
		.sender = 200 + at,
		.time_ns = 300 + at,
		.flags = UMPSC_REST,
	};
	size_t header = hdr ? hdr : UMPSC_RECORD_HDR;
	size_t size = UMPSC_RECORD_SIZE(header, len);

	memset(addr + at, UMPSC_POISON, size);
	memcpy(addr + at, &r, sizeof(r));
	memset(addr + at + header, c, len);
	return at + size;
}

TEST_LONG(reader, goes_by_the_header_size)
{
	size_t at, hdr, end, begin, align;
	unsigned char buf[4096];
	struct umpsc_message m;

	/* At no alignment a byte more or less is read. */
	for (align = 0; align < 8; align++) {
		end = 0;
		for (hdr = UMPSC_RECORD_HDR; hdr <= UMPSC_RECORD_HDR_MAX;
		     hdr += 24)
			end = put_record(buf + align, end, hdr, hdr / 8, 'p');
		at = 0;
		for (hdr = UMPSC_RECORD_HDR; hdr <= UMPSC_RECORD_HDR_MAX;
		     hdr += 24) {
			begin = at;
			memset(&m, UMPSC_POISON, sizeof(m));
			ASSERT_EQ(1,
				  umpsc_record_next(buf + align, end, &at, &m));
			EXPECT_EQ(buf + align + begin, m.record);
			EXPECT_EQ(buf + align + begin + hdr, m.data);
			EXPECT_EQ(hdr, m.hdr);
			ASSERT_EQ(hdr / 8, m.len);
			EXPECT_EQ('p', *(char *)m.data);
			EXPECT_EQ('p', ((char *)m.data)[m.len - 1]);
			EXPECT_EQ(100 + begin, m.seq);
			EXPECT_EQ(200 + begin, m.sender);
			EXPECT_EQ(300 + begin, m.time_ns);
			EXPECT_EQ(UMPSC_REST, m.flags);
			EXPECT_EQ(hdr >= 48, m.has_creds);
			EXPECT_EQ(hdr >= 48 ? UMPSC_POISON_U32 : 0,
				  m.creds.pid);
			EXPECT_EQ(hdr >= 48 ? UMPSC_POISON_U32 : 0,
				  m.creds.uid);
			EXPECT_EQ(hdr >= 48 ? UMPSC_POISON_U32 : 0,
				  m.creds.gid);
			EXPECT_EQ(0, m.pad[0] | m.pad[1]);
		}
		EXPECT_EQ(end, at);
		EXPECT_EQ(0, umpsc_record_next(buf + align, end, &at, &m));
	}
	/* The largest header there can be, and what comes after it. */
	end = put_record(buf, 0, UMPSC_RECORD_HDR_MAX, 3, 'z');
	at = 0;
	EXPECT_EQ(1, umpsc_record_next(buf, end, &at, &m));
	hdr = UMPSC_RECORD_HDR_MAX + UMPSC_RECORD_ALIGN;
	end = put_record(buf, 0, hdr, 3, 'z');
	at = 0;
	EXPECT_ERR(EBADMSG, umpsc_record_next(buf, end, &at, &m));
	/* What SEND takes for the usual header. */
	end = put_record(buf, 0, 0, 3, 'z');
	at = 0;
	EXPECT_EQ(1, umpsc_record_next(buf, end, &at, &m));
	EXPECT_EQ(UMPSC_RECORD_HDR, m.hdr);
	EXPECT_EQ(end, at);
}

/* The reader refuses what is at @at of @len bytes, and stays where it is. */
static void expect_malformed(struct __test_metadata *_metadata, int line,
			     const void *addr, size_t len, size_t at)
{
	struct umpsc_message m, before;
	size_t was = at;

	memset(&m, UMPSC_POISON, sizeof(m));
	before = m;
	errno = 0;
	EXPECT_EQ(-1, umpsc_record_next(addr, len, &at, &m));
	EXPECT_EQ(EBADMSG, errno) TH_LOG("... line %d", line);
	EXPECT_EQ(was, at) TH_LOG("... line %d", line);
	EXPECT_EQ(0, memcmp(&before, &m, sizeof(m)));
}

#define EXPECT_MALFORMED(addr, len, at) \
	expect_malformed(_metadata, __LINE__, addr, len, at)

TEST_LONG(reader, refuses_malformed_records)
{
	size_t first = UMPSC_RECORD_SIZE(UMPSC_RECORD_HDR, 4);
	size_t size = first + UMPSC_RECORD_SIZE(40, 11), at, len;
	unsigned char *addr = self->addr + self->size - size;
	struct umpsc_message m;
	__u32 hdr, bad;

	ASSERT_EQ(first, put_record(addr, 0, UMPSC_RECORD_HDR, 4, 'a'));
	ASSERT_EQ(size, put_record(addr, first, 40, 11, 'b'));
	/* Cut off at every byte. */
	for (len = 1; len < first; len++)
		EXPECT_MALFORMED(addr, len, 0);
	for (len = first + 1; len < size; len++) {
		at = 0;
		EXPECT_EQ(1, umpsc_record_next(addr, len, &at, &m));
		EXPECT_EQ(first, at);
		EXPECT_MALFORMED(addr, len, first);
	}
	EXPECT_MALFORMED(addr, size, size + 1);
	EXPECT_MALFORMED(addr, size, SIZE_MAX);
	/* Every size of a header: the second record has 56 bytes. */
	for (hdr = 0; hdr <= UINT16_MAX; hdr++) {
		bad = hdr;
		memcpy(addr + first + 4, &bad, 2);
		at = first;
		if (hdr == 0 || hdr == 32 || hdr == 40) {
			EXPECT_EQ(1, umpsc_record_next(addr, size, &at, &m));
			EXPECT_EQ(hdr ? hdr : 32, m.hdr);
		} else {
			EXPECT_MALFORMED(addr, size, first);
		}
	}
	ASSERT_EQ(size, put_record(addr, first, 40, 11, 'b'));
	/* Lengths: those that fit with their padding, and no other. */
	for (bad = 0; bad <= 16; bad++) {
		memcpy(addr + first, &bad, 4);
		at = first;
		EXPECT_EQ(1, umpsc_record_next(addr, size, &at, &m));
		EXPECT_EQ(bad, m.len);
	}
	for (len = 17; len < 4096; len++) {
		bad = len < 64 ? len : UINT32_MAX - (len - 64);
		memcpy(addr + first, &bad, 4);
		EXPECT_MALFORMED(addr, size, first);
	}
}

/* Whatever lies there: no read outside, no end to no loop, no part of a record. */
TEST_LONG(reader, survives_random_bytes)
{
	size_t at, was, used, i;
	unsigned char *begin;
	struct umpsc_message m;
	__u64 state = 42, sum = 0, valid = 0, malformed = 0;
	int round, ret;

	for (round = 0; round < 20000; round++) {
		for (used = 0; used < 600;)
			used = put_record(self->addr, used,
					  32 + umpsc_random(&state) % 5 * 8,
					  umpsc_random(&state) % 90, 'r');
		begin = self->addr + self->size - used;
		memmove(begin, self->addr, used);
		for (i = umpsc_random(&state) % 4; i; i--)
			begin[umpsc_random(&state) % used] =
				umpsc_random(&state);
		at = 0;
		for (;;) {
			was = at;
			ret = umpsc_record_next(begin, used, &at, &m);
			if (ret <= 0)
				break;
			ASSERT_LT(was, at);
			ASSERT_LE(at, used);
			ASSERT_LE(m.hdr + m.len, at - was);
			ASSERT_EQ(begin + was + m.hdr, m.data);
			for (i = 0; i < m.len; i++)
				sum += ((unsigned char *)m.data)[i];
			valid++;
		}
		ASSERT_EQ(was, at);
		ASSERT_EQ(ret == 0, at == used);
		malformed += ret < 0;
	}
	/* It was about both. */
	EXPECT_LT(20000, valid);
	EXPECT_LT(500, malformed);
	EXPECT_LT(0, sum);
}

TEST(wrapped_records_are_checked_and_never_written_to)
{
	struct umpsc_batch batch, made = UMPSC_BATCH_INIT;
	struct umpsc_message m;
	size_t half;

	ASSERT_EQ(0, umpsc_batch_add(&made, "one", 3));
	half = made.used;
	ASSERT_EQ(0, umpsc_batch_add(&made, "two", 3));
	memset(&batch, UMPSC_POISON, sizeof(batch));
	EXPECT_EQ(0, umpsc_batch_wrap(&batch, made.addr, made.used));
	EXPECT_EQ(2, batch.count);
	EXPECT_EQ(made.used, batch.used);
	EXPECT_ERR(ENOBUFS, umpsc_batch_add(&batch, "", 0));
	EXPECT_EQ(1, umpsc_batch_next(&batch, &m));
	EXPECT_EQ(0, memcmp("one", m.data, m.len));
	EXPECT_EQ(1, umpsc_batch_next(&batch, &m));
	EXPECT_EQ(0, memcmp("two", m.data, m.len));
	EXPECT_EQ(0, umpsc_batch_next(&batch, &m));
	umpsc_batch_clear(&batch);
	EXPECT_ERR(ENOBUFS, umpsc_batch_add(&batch, "", 0));
	umpsc_batch_free(&batch);

	EXPECT_EQ(0, umpsc_batch_wrap(&batch, NULL, 0));
	EXPECT_EQ(0, umpsc_batch_next(&batch, &m));
	/* What is whole ahead of the damage can be had. */
	EXPECT_ERR(EBADMSG, umpsc_batch_wrap(&batch, made.addr, made.used - 1));
	EXPECT_EQ(1, batch.count);
	EXPECT_EQ(half, batch.used);
	EXPECT_EQ(1, umpsc_batch_next(&batch, &m));
	EXPECT_EQ(0, umpsc_batch_next(&batch, &m));
	umpsc_batch_free(&made);
}

/* ---- Sending ------------------------------------------------------------- */

/* A channel of at most 8 bytes a message, 3 messages and 20 bytes. */
FIXTURE(limited)
{
	int tx;
	int rx;
};

FIXTURE_SETUP(limited)
{
	struct umpsc_channel_args args = {
		.limits = { .max_len = 8, .max_msgs = 3, .max_bytes = 20 },
	};
	int manager = ASSERT_FD(umpsc_open_manager(NULL, 0));

	ASSERT_EQ(0, umpsc_channel_with(manager, &args));
	close(manager);
	self->tx = args.sender_fd;
	self->rx = args.receiver_fd;
}

FIXTURE_TEARDOWN(limited)
{
	close(self->tx);
	close(self->rx);
}

TEST_LONG(limited, each_limit_refuses_every_way_of_sending)
{
	struct iovec iov[] = { { "12345", 5 }, { "6789", 4 } };
	struct umpsc_batch batch = UMPSC_BATCH_INIT;
	int i;

	ASSERT_EQ(0, umpsc_batch_add(&batch, "123456789", 9));
	EXPECT_ERR(EMSGSIZE, umpsc_send(self->tx, "123456789", 9));
	EXPECT_ERR(EMSGSIZE, umpsc_sendv(self->tx, iov, 2));
	EXPECT_ERR(EMSGSIZE, umpsc_send_batch(self->tx, &batch));
	EXPECT_EQ(0, umpsc_len(self->tx));

	/* All or nothing: two of these three would have room. */
	umpsc_batch_clear(&batch);
	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, umpsc_batch_add(&batch, "12345678", 8));
	EXPECT_ERR(ENOBUFS, umpsc_send_batch(self->tx, &batch));
	EXPECT_EQ(0, umpsc_len(self->tx));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, umpsc_send(self->tx, "", 0));
	EXPECT_ERR(ENOBUFS, umpsc_send(self->tx, "", 0));
	EXPECT_ERR(ENOBUFS, umpsc_send(self->tx, "x", 1));
	EXPECT_ERR(ENOBUFS, umpsc_sendv(self->tx, iov, 1));
	EXPECT_EQ(3, umpsc_len(self->tx));
	EXPECT_NEXT(self->rx, "");
	EXPECT_EQ(0, umpsc_sendv(self->tx, iov, 1));
	umpsc_batch_free(&batch);
}

#define CEILING "/sys/module/umpsc/parameters/max_bytes"

static int write_ceiling(const char *value)
{
	int fd = open(CEILING, O_WRONLY), ret;

	ret = fd < 0 || write(fd, value, strlen(value)) < 0 ? -1 : 0;
	close(fd);
	return ret;
}

TEST_LONG(handles, modules_ceiling_refuses_every_way_of_sending)
{
	struct umpsc_batch batch = UMPSC_BATCH_INIT;
	static char data[1 << 20], before[32];
	struct iovec iov = { data, sizeof(data) };
	int tx = self->fd[SENDER], ret[3], err[3], i;

	ASSERT_EQ(0, umpsc_batch_add(&batch, data, sizeof(data)));
	ASSERT_LT(0, umpsc_read_file(CEILING, before, sizeof(before)));
	/* Others run into it as well, so nothing may end the test before it is undone. */
	ASSERT_EQ(0, write_ceiling("1"));
	ret[0] = umpsc_send(tx, data, sizeof(data));
	err[0] = errno;
	ret[1] = umpsc_sendv(tx, &iov, 1);
	err[1] = errno;
	ret[2] = umpsc_send_batch(tx, &batch);
	err[2] = errno;
	ASSERT_EQ(0, write_ceiling(before));
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(-1, ret[i]);
		EXPECT_EQ(EDQUOT, err[i]);
	}
	EXPECT_EQ(0, umpsc_len(tx));
	EXPECT_EQ(0, umpsc_send(tx, data, sizeof(data)));
	umpsc_batch_free(&batch);
}

TEST_LONG(handles, each_way_of_sending_is_a_message)
{
	struct iovec iov[] = { { "in ", 3 }, { NULL, 0 }, { "pieces", 6 } };
	struct umpsc_batch batch = UMPSC_BATCH_INIT;
	int tx = self->fd[SENDER], rx = self->fd[RECEIVER];

	EXPECT_EQ(0, umpsc_send(tx, "whole", 5));
	EXPECT_EQ(0, umpsc_send(tx, "", 0));
	EXPECT_EQ(0, umpsc_send(tx, NULL, 0));
	EXPECT_EQ(0, umpsc_sendv(tx, iov, 3));
	EXPECT_EQ(0, umpsc_sendv(tx, iov + 1, 1));
	EXPECT_EQ(0, umpsc_sendv(tx, NULL, 0));
	EXPECT_EQ(0, umpsc_send_batch(tx, &batch));
	ASSERT_EQ(0, umpsc_batch_add(&batch, "first", 5));
	ASSERT_EQ(0, umpsc_batch_add(&batch, "", 0));
	ASSERT_EQ(0, umpsc_batch_add(&batch, "third", 5));
	EXPECT_EQ(3, umpsc_send_batch(tx, &batch));
	EXPECT_EQ(3, umpsc_send_batch(tx, &batch));
	umpsc_batch_free(&batch);
	EXPECT_EQ(12, umpsc_len(tx));

	EXPECT_NEXT(rx, "whole");
	EXPECT_NEXT(rx, "");
	EXPECT_NEXT(rx, "");
	EXPECT_NEXT(rx, "in pieces");
	EXPECT_NEXT(rx, "");
	EXPECT_NEXT(rx, "");
	EXPECT_NEXT(rx, "first");
	EXPECT_NEXT(rx, "");
	EXPECT_NEXT(rx, "third");
	EXPECT_NEXT(rx, "first");
	EXPECT_NEXT(rx, "");
	EXPECT_NEXT(rx, "third");
	EXPECT_NOTHING(rx);
}

TEST_LONG(handles, sending_tells_each_error)
{
	struct iovec iov[] = { { "x", 1 }, { "", SIZE_MAX } };
	struct iovec many[IOV_MAX + 1] = {};
	struct umpsc_batch batch = UMPSC_BATCH_INIT, bad;
	int tx = self->fd[SENDER], i;
	char junk[64] = {};
	void *large;

	ASSERT_EQ(0, umpsc_batch_add(&batch, "x", 1));
	for (i = 0; i < HANDLES; i++) {
		if (i == SENDER)
			continue;
		EXPECT_ERR(i == MANAGER ? EINVAL : EBADF,
			   umpsc_send(self->fd[i], "x", 1));
		EXPECT_ERR(i == MANAGER ? EINVAL : EBADF,
			   umpsc_sendv(self->fd[i], iov, 1));
		EXPECT_ERR(ENOTTY, umpsc_send(self->fd[i], "", 0));
		EXPECT_ERR(ENOTTY, umpsc_send_batch(self->fd[i], &batch));
	}
	EXPECT_ERR(EBADF, umpsc_send(NO_FD, "x", 1));
	EXPECT_ERR(EBADF, umpsc_send(NO_FD, "", 0));
	EXPECT_ERR(EBADF, umpsc_sendv(NO_FD, iov, 1));
	EXPECT_ERR(EBADF, umpsc_send_batch(NO_FD, &batch));
	EXPECT_ERR(ENOTTY, umpsc_send_batch(self->pipe[1], &batch));

	EXPECT_ERR(EFAULT, umpsc_send(tx, (void *)1, 8));
	EXPECT_ERR(EINVAL, umpsc_sendv(tx, iov, -1));
	EXPECT_ERR(EINVAL, umpsc_sendv(tx, many, IOV_MAX + 1));
	EXPECT_ERR(EMSGSIZE, umpsc_sendv(tx, iov, 2));
	/* Nothing of it is looked at. */
	large = mmap(NULL, UMPSC_LEN_MAX + 4096, PROT_READ,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, large);
	EXPECT_ERR(EMSGSIZE, umpsc_send(tx, large, UMPSC_LEN_MAX + 1));
	munmap(large, UMPSC_LEN_MAX + 4096);
	/* A batch that somebody spoiled. */
	umpsc_batch_init_fixed(&bad, junk, sizeof(junk));
	ASSERT_EQ(0, umpsc_batch_add(&bad, "x", 1));
	junk[4] = 33;
	EXPECT_ERR(EINVAL, umpsc_send_batch(tx, &bad));
	bad.addr = (void *)8;
	EXPECT_ERR(EFAULT, umpsc_send_batch(tx, &bad));
	EXPECT_EQ(0, umpsc_len(tx));

	/* No signal comes with it. */
	EXPECT_EQ(0, umpsc_close(self->fd[RECEIVER]));
	EXPECT_ERR(EPIPE, umpsc_send(tx, "x", 1));
	EXPECT_ERR(EPIPE, umpsc_send(tx, "", 0));
	EXPECT_ERR(EPIPE, umpsc_sendv(tx, iov, 1));
	EXPECT_ERR(EPIPE, umpsc_send_batch(tx, &batch));
	umpsc_batch_clear(&batch);
	EXPECT_ERR(EPIPE, umpsc_send_batch(tx, &batch));
	umpsc_batch_free(&batch);
}

/* ---- Receiving ----------------------------------------------------------- */

TEST_LONG(handles, received_message_tells_all_that_is_known)
{
	struct umpsc_channel_args args = {
		.flags = UMPSC_TIMESTAMP | UMPSC_CREDS,
	};
	struct umpsc_batch batch = UMPSC_BATCH_INIT;
	__u64 begin = umpsc_now_ns(), handle;
	struct umpsc_message m;
	struct umpsc_info info;
	char byte;
	int i;

	ASSERT_EQ(0, umpsc_channel_with(self->fd[MANAGER], &args));
	EXPECT_EQ(0, umpsc_info(args.sender_fd, &info));
	handle = info.handle;
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, umpsc_send(args.sender_fd, "hello", 5));
	EXPECT_EQ(1, read(args.receiver_fd, &byte, 1));
	for (i = 0; i < 3; i++) {
		memset(&m, UMPSC_POISON, sizeof(m));
		ASSERT_EQ(1, umpsc_recv(args.receiver_fd, &batch, &m));
		EXPECT_EQ(i, m.seq);
		EXPECT_EQ(handle, m.sender);
		EXPECT_LE(begin, m.time_ns);
		EXPECT_LE(m.time_ns, umpsc_now_ns());
		EXPECT_EQ(i ? 0 : UMPSC_REST, m.flags);
		EXPECT_EQ(i ? 5 : 4, m.len);
		EXPECT_EQ(0, memcmp(i ? "hello" : "ello", m.data, m.len));
		EXPECT_EQ(1, m.has_creds);
		EXPECT_EQ(getpid(), m.creds.pid);
		EXPECT_EQ(getuid(), m.creds.uid);
		EXPECT_EQ(getgid(), m.creds.gid);
		EXPECT_EQ(1, batch.count);
		/* It is the one there is. */
		EXPECT_EQ(0, umpsc_batch_next(&batch, &m));
	}
	umpsc_batch_free(&batch);
	close(args.receiver_fd);
	close(args.sender_fd);
}

TEST_LONG(handles, batch_grows_for_what_is_received)
{
	static const size_t sizes[] = { 0,     1,      65536, 65537,
					10000, 300000, 7,     5 << 20 };
	int tx = self->fd[SENDER], rx = self->fd[RECEIVER];
	struct umpsc_batch batch = UMPSC_BATCH_INIT;
	struct umpsc_message m;
	unsigned char *data = malloc(5 << 20);
	size_t i;

	ASSERT_NE(NULL, data);
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		umpsc_fill(data, sizes[i], i);
		ASSERT_EQ(0, umpsc_send(tx, data, sizes[i]));
	}
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		ASSERT_EQ(1, umpsc_recv(rx, &batch, &m));
		ASSERT_EQ(sizes[i], m.len);
		EXPECT_TRUE(umpsc_filled(m.data, m.len, i));
		EXPECT_EQ(0, batch.need);
	}
	EXPECT_NOTHING(rx);
	umpsc_batch_free(&batch);
	free(data);
}

TEST_LONG(handles, fixed_batch_that_is_too_small_keeps_the_message)
{
	size_t size = UMPSC_RECORD_SIZE(UMPSC_RECORD_HDR, 100);
	unsigned char *addr = guarded(_metadata, size), data[100];
	int tx = self->fd[SENDER], rx = self->fd[RECEIVER];
	struct umpsc_batch batch;
	struct umpsc_message m;
	size_t i;

	umpsc_fill(data, sizeof(data), 7);
	ASSERT_EQ(0, umpsc_send(tx, data, sizeof(data)));
	for (i = 0; i < size; i++) {
		umpsc_batch_init_fixed(&batch, addr + size - i, i);
		EXPECT_ERR(EMSGSIZE, umpsc_recv(rx, &batch, &m));
		EXPECT_EQ(size, batch.need);
		EXPECT_EQ(0, batch.used);
		EXPECT_EQ(0, batch.count);
	}
	/* Nothing is ever received into what was wrapped. */
	ASSERT_EQ(0, umpsc_batch_wrap(&batch, NULL, 0));
	EXPECT_ERR(EMSGSIZE, umpsc_recv(rx, &batch, &m));
	EXPECT_EQ(1, umpsc_len(rx));
	umpsc_batch_init_fixed(&batch, addr, size);
	ASSERT_EQ(1, umpsc_recv(rx, &batch, &m));
	EXPECT_EQ(0, batch.need);
	EXPECT_EQ(addr + UMPSC_RECORD_HDR, m.data);
	EXPECT_TRUE(umpsc_filled(m.data, m.len, 7));
}

TEST_LONG(handles, without_memory_the_message_stays)
{
	int tx = self->fd[SENDER], rx = self->fd[RECEIVER];
	struct umpsc_batch batch = UMPSC_BATCH_INIT, empty = UMPSC_BATCH_INIT;
	size_t size = 8 << 20, i;
	struct umpsc_message m;
	void *data = malloc(size), *spare[64];

	ASSERT_NE(NULL, data);
	umpsc_fill(data, size, 1);
	ASSERT_EQ(0, umpsc_send(tx, "small", 5));
	ASSERT_EQ(1, umpsc_recv(rx, &batch, &m));
	ASSERT_EQ(0, umpsc_send(tx, data, size));
	limit_memory(_metadata, 4096);
	EXPECT_ERR(ENOMEM, umpsc_recv(rx, &batch, &m));
	EXPECT_EQ(UMPSC_RECORD_SIZE(UMPSC_RECORD_HDR, size), batch.need);
	EXPECT_EQ(0, batch.used);
	/* Use up what malloc() has: then a new batch cannot begin. */
	for (i = 0; i < ARRAY_SIZE(spare); i++)
		spare[i] = malloc(65536);
	EXPECT_EQ(NULL, spare[ARRAY_SIZE(spare) - 1]);
	EXPECT_ERR(ENOMEM, umpsc_recv(rx, &empty, &m));
	EXPECT_EQ(0, empty.need);
	limit_memory(_metadata, RLIM_INFINITY);
	for (i = 0; i < ARRAY_SIZE(spare); i++)
		free(spare[i]);
	EXPECT_EQ(1, umpsc_len(rx));
	ASSERT_EQ(1, umpsc_recv(rx, &batch, &m));
	EXPECT_EQ(size, m.len);
	EXPECT_TRUE(umpsc_filled(m.data, m.len, 1));
	umpsc_batch_free(&batch);
	umpsc_batch_free(&empty);
	free(data);
}

TEST_LONG(handles, recv_many_takes_up_to_max_and_what_fits)
{
	int tx = self->fd[SENDER], rx = self->fd[RECEIVER];
	struct umpsc_batch batch = UMPSC_BATCH_INIT, fixed;
	struct umpsc_message m;
	__u64 room[3 * 5]; /* 3 messages of 8 bytes */
	int i, n;

	for (i = 0; i < 20; i++)
		ASSERT_EQ(0, umpsc_send(tx, &i, sizeof(i)));
	EXPECT_EQ(0, umpsc_recv_many(rx, &batch, 0));
	EXPECT_EQ(5, umpsc_recv_many(rx, &batch, 5));
	EXPECT_EQ(5, batch.count);
	for (i = 0; i < 5; i++) {
		ASSERT_EQ(1, umpsc_batch_next(&batch, &m));
		EXPECT_EQ(i, m.seq);
		EXPECT_EQ(i, *(int *)m.data);
	}
	EXPECT_EQ(0, umpsc_batch_next(&batch, &m));
	umpsc_batch_init_fixed(&fixed, room, sizeof(room));
	EXPECT_EQ(3, umpsc_recv_many(rx, &fixed, 100));
	EXPECT_EQ(1, umpsc_batch_next(&fixed, &m));
	EXPECT_EQ(5, *(int *)m.data);
	/* What was read before is forgotten. */
	EXPECT_EQ(1, umpsc_try_recv_many(rx, &batch, 1));
	EXPECT_EQ(1, umpsc_batch_next(&batch, &m));
	EXPECT_EQ(8, *(int *)m.data);
	n = umpsc_recv_many_timeout(rx, &batch, UINT32_MAX, UMPSC_SEC);
	EXPECT_EQ(11, n);
	/* A received batch can be sent on as it lies. */
	EXPECT_EQ(11, umpsc_send_batch(tx, &batch));
	EXPECT_EQ(11, umpsc_recv_until(rx, &batch, 100, 0));
	EXPECT_EQ(1, umpsc_batch_next(&batch, &m));
	EXPECT_EQ(9, *(int *)m.data);
	EXPECT_EQ(20, m.seq);
	EXPECT_ERR(EAGAIN, umpsc_try_recv_many(rx, &batch, 100));
	EXPECT_EQ(0, batch.count);
	EXPECT_EQ(0, umpsc_batch_next(&batch, &m));
	umpsc_batch_free(&batch);
}

TEST_LONG(handles, time_outs_are_not_early)
{
	struct umpsc_batch batch = UMPSC_BATCH_INIT;
	int rx = self->fd[RECEIVER];
	struct umpsc_message m;
	__u64 begin;

	begin = umpsc_now_ns();
	EXPECT_ERR(ETIMEDOUT,
		   umpsc_recv_timeout(rx, &batch, &m, 40 * UMPSC_MSEC));
	EXPECT_LE(40 * UMPSC_MSEC, umpsc_now_ns() - begin);
	begin = umpsc_now_ns();
	EXPECT_ERR(ETIMEDOUT,
		   umpsc_recv_many_timeout(rx, &batch, 9, 40 * UMPSC_MSEC));
	EXPECT_LE(40 * UMPSC_MSEC, umpsc_now_ns() - begin);
	begin = umpsc_now_ns();
	EXPECT_ERR(ETIMEDOUT,
		   umpsc_recv_until(rx, &batch, 9, begin + 40 * UMPSC_MSEC));
	EXPECT_LE(40 * UMPSC_MSEC, umpsc_now_ns() - begin);
	EXPECT_ERR(ETIMEDOUT, umpsc_recv_timeout(rx, &batch, &m, 0));
	EXPECT_ERR(EAGAIN, umpsc_try_recv(rx, &batch, &m));

	begin = umpsc_now_ns();
	EXPECT_LE(begin + 5 * UMPSC_SEC, umpsc_deadline(5 * UMPSC_SEC));
	EXPECT_GE(umpsc_now_ns(), umpsc_deadline(0) - UMPSC_SEC);
	EXPECT_EQ(UMPSC_NO_DEADLINE, umpsc_deadline(UMPSC_NO_DEADLINE));
	EXPECT_EQ(UMPSC_NO_DEADLINE, umpsc_deadline(UMPSC_NO_DEADLINE - 1));
	EXPECT_NE(UMPSC_NO_DEADLINE, umpsc_deadline(UMPSC_NO_DEADLINE / 2));

	/* They say nothing where something is there, or the end is. */
	EXPECT_EQ(0, umpsc_send(self->fd[SENDER], "x", 1));
	EXPECT_EQ(1, umpsc_recv_timeout(rx, &batch, &m, 0));
	drop(self, SENDER);
	EXPECT_EQ(0, umpsc_recv_timeout(rx, &batch, &m, UMPSC_SEC));
	EXPECT_EQ(0, umpsc_recv(rx, &batch, &m));
	EXPECT_EQ(0, umpsc_recv_many(rx, &batch, 10));
	umpsc_batch_free(&batch);
}

/* A receive that may wait. */
struct waiter {
	int rx;
	__u64 timeout_ns;
	char text[32];
};

static long waiter_fn(void *arg)
{
	struct umpsc_batch batch = UMPSC_BATCH_INIT;
	struct waiter *w = arg;
	struct umpsc_message m;
	int ret, err;

	ret = umpsc_recv_timeout(w->rx, &batch, &m, w->timeout_ns);
	err = errno;
	if (ret == 1 && m.len < sizeof(w->text))
		memcpy(w->text, m.data, m.len);
	umpsc_batch_free(&batch);
	errno = err;
	return ret;
}

TEST_LONG(handles, waiting_receive_gets_the_message_or_the_end)
{
	struct waiter w = { .rx = self->fd[RECEIVER] };
	int i, *tx = &self->fd[SENDER];
	struct umpsc_thread t;

	for (i = 0; i < 3; i++) {
		memset(w.text, 0, sizeof(w.text));
		w.timeout_ns = i ? UMPSC_NO_DEADLINE : 3600 * UMPSC_SEC;
		ASSERT_EQ(0, umpsc_thread_start(&t, waiter_fn, &w));
		ASSERT_TRUE(umpsc_thread_asleep(&t, SYS_ioctl));
		EXPECT_EQ(0, i < 2 ? umpsc_send(*tx, "woken", 5) : close(*tx));
		ASSERT_TRUE(umpsc_thread_join(&t));
		EXPECT_EQ(i < 2, t.ret);
		EXPECT_STREQ(i < 2 ? "woken" : "", w.text);
	}
	*tx = -1;
}

TEST_LONG(handles, signal_ends_a_receive_that_waits_unless_it_restarts)
{
	struct waiter w = {
		.rx = self->fd[RECEIVER],
		.timeout_ns = UMPSC_NO_DEADLINE,
	};
	struct umpsc_thread t;

	catch_signal(_metadata, 0);
	ASSERT_EQ(0, umpsc_thread_start(&t, waiter_fn, &w));
	ASSERT_TRUE(umpsc_thread_asleep(&t, SYS_ioctl));
	ASSERT_EQ(0, pthread_kill(t.thread, SIGUSR1));
	ASSERT_TRUE(umpsc_thread_join(&t));
	EXPECT_EQ(-1, t.ret);
	EXPECT_EQ(EINTR, t.err);

	catch_signal(_metadata, SA_RESTART);
	ASSERT_EQ(0, umpsc_thread_start(&t, waiter_fn, &w));
	ASSERT_TRUE(umpsc_thread_asleep(&t, SYS_ioctl));
	ASSERT_EQ(0, pthread_kill(t.thread, SIGUSR1));
	EXPECT_EQ(0, umpsc_send(self->fd[SENDER], "after", 5));
	ASSERT_TRUE(umpsc_thread_join(&t));
	EXPECT_EQ(1, t.ret);
	EXPECT_STREQ("after", w.text);
}

TEST_LONG(handles, receiving_tells_each_error)
{
	struct umpsc_batch batch = UMPSC_BATCH_INIT, bad;
	struct umpsc_message m;
	int rx = self->fd[RECEIVER], i;

	for (i = 0; i < HANDLES; i++) {
		if (i == RECEIVER)
			continue;
		EXPECT_ERR(ENOTTY, umpsc_recv(self->fd[i], &batch, &m));
		EXPECT_ERR(ENOTTY, umpsc_try_recv(self->fd[i], &batch, &m));
		EXPECT_ERR(ENOTTY, umpsc_recv_many(self->fd[i], &batch, 1));
	}
	EXPECT_ERR(ENOTTY, umpsc_recv(self->pipe[0], &batch, &m));
	EXPECT_ERR(EBADF, umpsc_recv(NO_FD, &batch, &m));

	ASSERT_EQ(0, umpsc_send(self->fd[SENDER], "kept", 4));
	umpsc_batch_init_fixed(&bad, (void *)8, 4096);
	EXPECT_ERR(EFAULT, umpsc_recv(rx, &bad, &m));
	EXPECT_EQ(0, bad.used);
	EXPECT_NEXT(rx, "kept");

	/* A handle that is non-blocking does not wait, whatever the time-out. */
	ASSERT_EQ(0, fcntl(rx, F_SETFL, O_NONBLOCK));
	EXPECT_ERR(EAGAIN, umpsc_recv(rx, &batch, &m));
	EXPECT_ERR(EAGAIN, umpsc_recv_many(rx, &batch, 10));
	EXPECT_ERR(EAGAIN, umpsc_recv_timeout(rx, &batch, &m, UMPSC_SEC));
	EXPECT_ERR(EAGAIN, umpsc_try_recv(rx, &batch, &m));
	umpsc_batch_free(&batch);
}

/* ---- Looking ------------------------------------------------------------- */

/* The same counts through each handle of the channel. */
static void expect_counts(struct __test_metadata *_metadata,
			  FIXTURE_DATA(handles) * self, int line, int messages,
			  int bytes, int strong, int weak, int closed)
{
	int i, fd;

	for (i = SENDER; i <= RECEIVER; i++) {
		fd = self->fd[i];
		if (fd < 0)
			continue;
		EXPECT_EQ(messages, umpsc_len(fd)) TH_LOG("... line %d", line);
		EXPECT_EQ(bytes, umpsc_bytes(fd)) TH_LOG("... line %d", line);
		EXPECT_EQ(!messages, umpsc_is_empty(fd))
		{
			TH_LOG("... line %d", line);
		}
		EXPECT_EQ(strong, umpsc_strong_count(fd))
		{
			TH_LOG("... line %d", line);
		}
		EXPECT_EQ(weak, umpsc_weak_count(fd))
		{
			TH_LOG("... line %d", line);
		}
		EXPECT_EQ(closed, umpsc_is_closed(fd))
		{
			TH_LOG("... handle %d, line %d", i, line);
		}
	}
}

#define EXPECT_COUNTS(messages, bytes, strong, weak, closed)              \
	expect_counts(_metadata, self, __LINE__, messages, bytes, strong, \
		      weak, closed)

TEST_LONG(handles, counts_are_the_same_from_every_handle)
{
	int tx;

	EXPECT_COUNTS(0, 0, 1, 1, 0);
	EXPECT_EQ(0, umpsc_send(self->fd[SENDER], "12345", 5));
	EXPECT_EQ(0, umpsc_send(self->fd[SENDER], "", 0));
	EXPECT_COUNTS(2, 5, 1, 1, 0);
	tx = ASSERT_FD(umpsc_sender_clone(self->fd[SENDER], 0));
	EXPECT_COUNTS(2, 5, 2, 1, 0);
	drop(self, SENDER);
	EXPECT_COUNTS(2, 5, 1, 1, 0);
	close(tx);
	/* Closed, and yet not empty. */
	EXPECT_COUNTS(2, 5, 0, 1, 1);
	EXPECT_NEXT(self->fd[RECEIVER], "12345");
	EXPECT_COUNTS(1, 0, 0, 1, 1);
	EXPECT_NEXT(self->fd[RECEIVER], "");
	EXPECT_COUNTS(0, 0, 0, 1, 1);
	drop(self, WEAK);
	EXPECT_COUNTS(0, 0, 0, 0, 1);
}

TEST_LONG(handles, is_closed_from_close_or_the_receivers_going_on)
{
	EXPECT_COUNTS(0, 0, 1, 1, 0);
	EXPECT_EQ(0, umpsc_close(self->fd[RECEIVER]));
	EXPECT_COUNTS(0, 0, 1, 1, 1);
	drop(self, RECEIVER);
	EXPECT_COUNTS(0, 0, 1, 1, 1);
}

TEST_LONG(handles, looking_tells_each_error)
{
	int64_t (*const counts[])(int handle) = {
		umpsc_len,
		umpsc_bytes,
		umpsc_strong_count,
		umpsc_weak_count,
	};
	int (*const is[])(int handle) = { umpsc_is_empty, umpsc_is_closed };
	int pipes = self->pipe[0];
	struct umpsc_query query;
	struct umpsc_info info;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(counts); i++) {
		EXPECT_ERR(EBADF, counts[i](NO_FD));
		EXPECT_ERR(ENOTTY, counts[i](pipes));
		EXPECT_EQ(0, counts[i](self->fd[MANAGER]));
	}
	for (i = 0; i < ARRAY_SIZE(is); i++) {
		EXPECT_ERR(EBADF, is[i](NO_FD));
		EXPECT_ERR(ENOTTY, is[i](pipes));
	}
	EXPECT_ERR(EBADF, umpsc_info(NO_FD, &info));
	EXPECT_ERR(ENOTTY, umpsc_info(pipes, &info));
	EXPECT_ERR(EFAULT, umpsc_info(self->fd[SENDER], (void *)1));
	EXPECT_ERR(EBADF, umpsc_query(NO_FD, &query));
	EXPECT_ERR(ENOTTY, umpsc_query(pipes, &query));
	EXPECT_ERR(EFAULT, umpsc_query(self->fd[SENDER], (void *)1));
	EXPECT_ERR(EBADF, umpsc_same_channel(self->fd[SENDER], NO_FD));
	EXPECT_ERR(EBADF, umpsc_same_channel(self->fd[SENDER], -1));
	EXPECT_ERR(EBADF, umpsc_same_channel(NO_FD, self->fd[SENDER]));
	EXPECT_ERR(ENOTTY, umpsc_same_channel(pipes, self->fd[SENDER]));
	EXPECT_EQ(0, umpsc_same_channel(self->fd[SENDER], pipes));
}

TEST_LONG(handles, same_channel_is_of_handles_of_one_channel)
{
	int tx, rx, i, j;

	ASSERT_EQ(0, umpsc_channel(&tx, &rx));
	for (i = SENDER; i <= RECEIVER; i++) {
		for (j = SENDER; j <= RECEIVER; j++)
			EXPECT_EQ(1,
				  umpsc_same_channel(self->fd[i], self->fd[j]));
		EXPECT_EQ(0, umpsc_same_channel(self->fd[i], tx));
		EXPECT_EQ(0, umpsc_same_channel(rx, self->fd[i]));
	}
	close(tx);
	close(rx);
}

TEST_LONG(nodes, info_of_a_removed_nodes_manager_is_enxio)
{
	int mx = ASSERT_FD(umpsc_open_manager(NAME, 0));
	struct umpsc_info info;

	EXPECT_EQ(0, umpsc_len(mx));
	EXPECT_EQ(0, umpsc_remove(mx, NAME));
	EXPECT_ERR(ENXIO, umpsc_info(mx, &info));
	EXPECT_ERR(ENXIO, umpsc_len(mx));
	EXPECT_ERR(ENXIO, umpsc_is_closed(mx));
	close(mx);
}

TEST_LONG(handles, query_tells_of_the_module)
{
	struct umpsc_query query;
	int i;

	for (i = 0; i < HANDLES; i++) {
		memset(&query, UMPSC_POISON, sizeof(query));
		ASSERT_EQ(0, umpsc_query(self->fd[i], &query));
		EXPECT_EQ(UMPSC_ABI_VERSION, query.abi);
		EXPECT_EQ(4096, query.nodes_max);
		EXPECT_LE(1, query.nodes);
		EXPECT_LE(1, query.channels);
		EXPECT_LT(0, query.max_len);
	}
}

/* Programs that were compiled with other headers than the library. */
TEST_LONG(handles, structures_of_other_sizes)
{
	struct {
		struct umpsc_info info;
		__u8 tail[64];
	} info;
	struct {
		struct umpsc_query query;
		__u8 tail[64];
	} query;
	struct {
		struct umpsc_channel_args channel;
		__u8 tail[64];
	} channel = { .channel.receiver_fd = UMPSC_POISON_FD };
	struct {
		struct umpsc_create_args create;
		__u8 tail[64];
	} create = { .create = { .name = NAME } };
	int manager = self->fd[MANAGER];
	size_t i;

	/* Newer ones: what the kernel does not know is 0. */
	memset(&info, UMPSC_POISON, sizeof(info));
	memset(&query, UMPSC_POISON, sizeof(query));
	EXPECT_EQ(0, umpsc_info_sized(manager, &info, sizeof(info)));
	EXPECT_EQ(0, umpsc_query_sized(manager, &query, sizeof(query)));
	for (i = 0; i < 64; i++)
		EXPECT_EQ(0, info.tail[i] | query.tail[i]);
	EXPECT_EQ(0, umpsc_channel_sized(manager, &channel, sizeof(channel)));
	EXPECT_EQ(1, umpsc_same_channel(channel.channel.receiver_fd,
					channel.channel.sender_fd));
	close(channel.channel.receiver_fd);
	close(channel.channel.sender_fd);
	EXPECT_EQ(0, umpsc_create_sized(manager, &create, sizeof(create)));
	EXPECT_EQ(0, umpsc_remove(manager, NAME));
	channel.tail[63] = 1;
	create.tail[63] = 1;
	EXPECT_ERR(E2BIG,
		   umpsc_channel_sized(manager, &channel, sizeof(channel)));
	EXPECT_ERR(E2BIG, umpsc_create_sized(manager, &create, sizeof(create)));

	/* Older ones: nothing is written behind them. */
	memset(&info, UMPSC_POISON, sizeof(info));
	EXPECT_EQ(0, umpsc_info_sized(manager, &info, 16));
	EXPECT_EQ(UMPSC_ROLE_MANAGER, info.info.role);
	EXPECT_EQ(UMPSC_POISON_U64, info.info.channel);
	/* Nothing is so old, or so new. */
	EXPECT_ERR(EINVAL, umpsc_channel_sized(manager, &channel,
					       sizeof(channel.channel) - 1));
	EXPECT_ERR(EINVAL, umpsc_create_sized(manager, &create,
					      sizeof(create.create) - 1));
	EXPECT_ERR(EINVAL, umpsc_info_sized(manager, &info, 1 << 14));
	EXPECT_ERR(EINVAL, umpsc_query_sized(manager, &query, SIZE_MAX));
	EXPECT_ERR(EINVAL, umpsc_channel_sized(manager, &channel, 1 << 14));
	EXPECT_ERR(EINVAL, umpsc_create_sized(manager, &create, 1 << 14));
}

/* ---- Errors -------------------------------------------------------------- */

TEST(strerror_has_words_for_every_error)
{
	static const int ours[] = { EAGAIN,    EBADMSG,	 EBUSY,	 EDQUOT, EEXIST,
				    EMSGSIZE,  ENOBUFS,	 ENODEV, ENOENT, ENOMEM,
				    ENOSPC,    ENOTTY,	 ENXIO,	 EPERM,	 EPIPE,
				    ESHUTDOWN, ETIMEDOUT };
	static const int others[] = { 0,      EBADF,  EFAULT, EINTR,
				      EINVAL, EMFILE, EACCES, ENFILE };
	const char *text;
	size_t i, j;

	for (i = 0; i < ARRAY_SIZE(ours); i++) {
		text = umpsc_strerror(ours[i]);
		EXPECT_LT(10, strlen(text));
		EXPECT_NE('.', text[strlen(text) - 1]);
		EXPECT_NE(0, strcmp(text, strerror(ours[i])));
		for (j = 0; j < i; j++)
			EXPECT_NE(0, strcmp(text, umpsc_strerror(ours[j])));
	}
	for (i = 0; i < ARRAY_SIZE(others); i++)
		EXPECT_STREQ(strerror(others[i]), umpsc_strerror(others[i]));
	EXPECT_STREQ("Unknown error", umpsc_strerror(123456));
	EXPECT_STREQ("Unknown error", umpsc_strerror(-1));
	EXPECT_STREQ("Unknown error", umpsc_strerror(-EPIPE));
}

/* ---- Signals ------------------------------------------------------------- */

static atomic_int handled, failed_in_handler, in_handler, allocated;

/* The linker lets the library call these in place of malloc() and its like. */
__typeof__(malloc) __real_malloc, __wrap_malloc;
__typeof__(realloc) __real_realloc, __wrap_realloc;
__typeof__(free) __real_free, __wrap_free;

void *__wrap_malloc(size_t size)
{
	allocated += in_handler;
	return __real_malloc(size);
}

void *__wrap_realloc(void *addr, size_t size)
{
	allocated += in_handler;
	return __real_realloc(addr, size);
}

void __wrap_free(void *addr)
{
	allocated += in_handler;
	__real_free(addr);
}

/* Each call of the handler, or the line of the first that failed. */
#define IN_HANDLER(cond)                              \
	do {                                          \
		if (!(cond) && !failed_in_handler)    \
			failed_in_handler = __LINE__; \
	} while (0)

static void all_signal_safe_calls(int sig)
{
	int err = errno, tx, rx, weak, fd, mx;
	char path[UMPSC_PATH_MAX];
	struct umpsc_query query;
	struct umpsc_message m;
	struct umpsc_info info;
	struct umpsc_create_args create = { .name = NAME };
	struct umpsc_batch batch, wrapped;
	__u64 memory[64];

	(void)sig;
	in_handler = 1;
	IN_HANDLER(!umpsc_path(NAME, path, sizeof(path)));
	mx = umpsc_open_manager(NULL, 0);
	IN_HANDLER(mx >= 0 && !umpsc_query(mx, &query));
	IN_HANDLER(!umpsc_create(mx, &create));
	IN_HANDLER(!umpsc_attach(NAME, 0, &rx, &tx));
	close(tx);
	close(rx);
	IN_HANDLER(!umpsc_remove(mx, NAME));
	close(mx);
	IN_HANDLER(!umpsc_channel(&tx, &rx));
	weak = umpsc_sender_downgrade(tx, 0);
	fd = umpsc_weak_upgrade(weak, 0);
	IN_HANDLER(fd >= 0 && umpsc_same_channel(fd, rx) == 1);
	close(fd);
	umpsc_batch_init_fixed(&batch, memory, sizeof(memory));
	IN_HANDLER(!umpsc_batch_add(&batch, "batch", 5));
	IN_HANDLER(umpsc_batch_reserve(&batch, 8));
	IN_HANDLER(!umpsc_batch_wrap(&wrapped, batch.addr, batch.used));
	IN_HANDLER(umpsc_batch_next(&wrapped, &m) == 1);
	umpsc_batch_rewind(&wrapped);
	IN_HANDLER(umpsc_send_batch(tx, &batch) == 1);
	IN_HANDLER(!umpsc_send(tx, "send", 4));
	IN_HANDLER(umpsc_len(weak) == 2);
	IN_HANDLER(umpsc_recv(rx, &batch, &m) == 1 && m.len == 5);
	IN_HANDLER(umpsc_try_recv(rx, &batch, &m) == 1 && m.len == 4);
	IN_HANDLER(umpsc_recv_timeout(rx, &batch, &m, 1) == -1);
	IN_HANDLER(errno == ETIMEDOUT && umpsc_strerror(errno));
	IN_HANDLER(!umpsc_close(rx) && !umpsc_closed(tx, 0));
	IN_HANDLER(!umpsc_info(tx, &info) && umpsc_is_closed(tx) == 1);
	close(weak);
	close(tx);
	close(rx);
	handled++;
	in_handler = 0;
	errno = err;
}

/* A handler that interrupts malloc() must not come there again. */
TEST_LONG(handles, signal_safe_calls_in_a_handler_that_interrupts_the_others)
{
	struct sigaction sa = { .sa_handler = all_signal_safe_calls };
	struct itimerval timer = {};
	struct umpsc_batch batch;
	struct umpsc_message m;
	int tx, rx, seen = 0;
	__u64 state = 1, i;

	ASSERT_EQ(0, umpsc_channel(&tx, &rx));
	/* Another signal would end umpsc_closed() there. */
	sigaddset(&sa.sa_mask, UMPSC_TIMER_SIGNAL);
	ASSERT_EQ(0, sigaction(SIGALRM, &sa, NULL));
	while (handled < 100 && !failed_in_handler) {
		if (seen <= handled) {
			seen = handled + 1;
			timer.it_value.tv_usec = 1 + umpsc_random(&state) % 999;
			ASSERT_EQ(0, setitimer(ITIMER_REAL, &timer, NULL));
		}
		batch = (struct umpsc_batch)UMPSC_BATCH_INIT;
		for (i = 0; i < 20; i++)
			ASSERT_EQ(0, umpsc_batch_add(&batch, &i, sizeof(i)));
		ASSERT_EQ(20, umpsc_send_batch(tx, &batch));
		ASSERT_EQ(20, umpsc_try_recv_many(rx, &batch, 100));
		for (i = 0; i < 20; i++) {
			ASSERT_EQ(1, umpsc_batch_next(&batch, &m));
			ASSERT_EQ(i, *(__u64 *)m.data);
		}
		umpsc_batch_free(&batch);
	}
	EXPECT_EQ(0, failed_in_handler) TH_LOG("... in the handler's line");
	EXPECT_EQ(0, allocated);
	EXPECT_EQ(-1, access(PATH, F_OK));
	close(tx);
	close(rx);
}

TEST_HARNESS_MAIN
