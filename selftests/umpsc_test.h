/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of umpsc share.
 *
 * Wrappers named like a call return what the system call does, with errno, and
 * poison every output first.  Macros in capitals assert; EXPECT_STATE and its
 * kin compare the whole state of a channel as INFO tells it with a model, a
 * struct umpsc_info that the test carries along (umpsc_model_send() and so on).
 *
 * With libumpsc's <umpsc.h> included first, its calls take the place of the
 * wrappers, and of what is made of them.
 *
 * Use TEST_LONG, so that slow emulation has time, and _metadata is shared with
 * forked children, which may therefore assert too.  Threads must not.
 *
 * With UMPSC_TIMER_US in the environment a signal comes every so many microseconds.
 * Calls start again after it, but for some, as poll() and nanosleep(), which SA_RESTART
 * does not heed: use umpsc_poll_fds(), umpsc_epoll_wait(), umpsc_nap_us() and umpsc_hang().
 */
#ifndef _UMPSC_TEST_H
#define _UMPSC_TEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <glob.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/umpsc.h>

/* Comparisons in the harness mix literals with fields of any type. */
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wunused-parameter"
/* setjmp in the harness, once the test is inlined there. */
#pragma GCC diagnostic ignored "-Wclobbered"
/* The harness takes every value for an integer, also a pointer of 32 bits. */
#pragma GCC diagnostic ignored "-Wpointer-to-int-cast"
/* A model names what is not zero. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

#include "kselftest/kselftest_harness.h"

/* Seconds that a test may take, and that it waits for what must happen. */
#define UMPSC_TEST_TIMEOUT 120
#define UMPSC_PATIENCE umpsc_patience_seconds()

/* How many times as slow as usual the machine is, as UMPSC_SLOW tells. */
static inline unsigned int umpsc_slow(void)
{
	const char *slow = getenv("UMPSC_SLOW");
	int n = slow ? atoi(slow) : 1;

	return n > 0 ? n : 1;
}

/* Tests have so much longer.  This comes after the harness has registered them. */
static void __attribute__((constructor)) umpsc_stretch_timeouts(void)
{
	struct __fixture_metadata *f;
	struct __test_metadata *t;

	for (f = __fixture_list; f; f = f->next)
		for (t = f->tests; t; t = t->next)
			t->timeout *= umpsc_slow();
}

#define TEST_LONG(fixture, name) \
	TEST_F_TIMEOUT(fixture, name, UMPSC_TEST_TIMEOUT)

#define UMPSC_POISON 0xcc
#define UMPSC_POISON_FD ((__s32)0xcccccccc)
#define UMPSC_POISON_U32 0xccccccccU
#define UMPSC_POISON_U64 0xccccccccccccccccULL

#define UMPSC_NODE "/dev/umpsc"

/* There where the kernel injects faults; it then checks much else, and is slow. */
#define UMPSC_FAIL_NTH "/proc/thread-self/fail-nth"

/* What poll() says of each handle. */
#define UMPSC_POLL_IN (POLLIN | POLLRDNORM)
#define UMPSC_POLL_HUP (POLLHUP | POLLRDHUP)
#define UMPSC_POLL_OUT (POLLOUT | POLLWRNORM)

/* What follows FIXTURE_VARIANT_ADD(), in a form on which all tools agree. */
#define UMPSC_VARIANT(...)  \
	{                   \
		__VA_ARGS__ \
	}

/* ---- A timer that fires all the time ----------------------------------- */

#define UMPSC_TIMER_SIGNAL SIGRTMAX

/* Fixed when the program starts, and 0 once a test has stopped the timer. */
static long umpsc_timer_us;
static timer_t umpsc_timer;

static void umpsc_timer_fired(int signal)
{
}

/* No process inherits a timer by fork(), or keeps one across exec(). */
static void umpsc_timer_arm(void)
{
	struct sigevent event = {
		.sigev_notify = SIGEV_SIGNAL,
		.sigev_signo = UMPSC_TIMER_SIGNAL,
	};
	struct timespec every = {
		.tv_sec = umpsc_timer_us / 1000000,
		.tv_nsec = umpsc_timer_us % 1000000 * 1000,
	};
	struct itimerspec spec = { .it_interval = every, .it_value = every };

	if (!umpsc_timer_us)
		return;
	if (timer_create(CLOCK_MONOTONIC, &event, &umpsc_timer) ||
	    timer_settime(umpsc_timer, 0, &spec, NULL)) {
		perror("UMPSC_TIMER_US");
		abort();
	}
}

static void __attribute__((constructor)) umpsc_timer_init(void)
{
	struct sigaction action = {
		.sa_handler = umpsc_timer_fired,
		.sa_flags = SA_RESTART,
	};
	const char *us = getenv("UMPSC_TIMER_US");

	umpsc_timer_us = us && atol(us) > 0 ? atol(us) : 0;
	if (!umpsc_timer_us)
		return;
	if (sigaction(UMPSC_TIMER_SIGNAL, &action, NULL) ||
	    pthread_atfork(NULL, NULL, umpsc_timer_arm)) {
		perror("UMPSC_TIMER_US");
		abort();
	}
	umpsc_timer_arm();
}

/*
 * From now on, in this test and its children, only signals come that it sends itself:
 * for a test of what signals or wake-ups do.  One that is pending is forgotten.
 */
static inline void umpsc_timer_stop(void)
{
	if (!umpsc_timer_us)
		return;
	umpsc_timer_us = 0;
	timer_delete(umpsc_timer);
	signal(UMPSC_TIMER_SIGNAL, SIG_IGN);
}

/* ---- Time -------------------------------------------------------------- */

static inline __u64 umpsc_clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static inline __u64 umpsc_now_ns(void)
{
	return umpsc_clock_ns(CLOCK_MONOTONIC);
}

/* What this process has had of the CPUs. */
static inline __u64 umpsc_cpu_ns(void)
{
	return umpsc_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

/* The whole of it, whatever signals come. */
static inline void umpsc_nap_us(unsigned int us)
{
	struct timespec ts = {
		.tv_sec = us / 1000000,
		.tv_nsec = us % 1000000 * 1000L,
	};

	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

static inline void umpsc_nap_ms(unsigned int ms)
{
	umpsc_nap_us(ms * 1000);
}

/* Waits to be killed. */
static inline void __attribute__((noreturn)) umpsc_hang(void)
{
	for (;;)
		pause();
}

/* When a wait of @timeout_ms ends, which may be -1: never. */
static inline __u64 umpsc_end_ns(int timeout_ms)
{
	return timeout_ms < 0 ? UINT64_MAX :
				umpsc_now_ns() + timeout_ms * 1000000ULL;
}

/* What is left of it. */
static inline int umpsc_left_ms(__u64 end)
{
	__u64 now = umpsc_now_ns();

	if (end == UINT64_MAX)
		return -1;
	return now < end ? (end - now + 999999) / 1000000 : 0;
}

/* 40 or longer, or as the environment has it: who expects failures need not wait as long. */
static inline int umpsc_patience_seconds(void)
{
	static int seconds;
	const char *env;

	if (!seconds) {
		env = getenv("UMPSC_PATIENCE");
		seconds = env && atoi(env) > 0 ? atoi(env) : 40 * umpsc_slow();
	}
	return seconds;
}

/* How many times as long as for a quick look tests of chance go on, as UMPSC_LONGER tells. */
static inline unsigned int umpsc_longer(void)
{
	const char *longer = getenv("UMPSC_LONGER");
	int n = longer ? atoi(longer) : 1;

	return n > 0 ? n : 1;
}

/* Until when a test of chance goes on that takes @ms for a quick look. */
static inline __u64 umpsc_chance_until(__u64 ms)
{
	return umpsc_now_ns() + ms * umpsc_longer() * 1000000;
}

/* One more look, a millisecond on, while there is patience; starts with 0 in @stop. */
static inline bool umpsc_patience(__u64 *stop)
{
	__u64 now = umpsc_now_ns();

	if (!*stop)
		*stop = now + UMPSC_PATIENCE * 1000000000ULL;
	if (now >= *stop)
		return false;
	umpsc_nap_ms(1);
	return true;
}

/* Looks every millisecond until @cond holds: true, or false when out of patience. */
#define UMPSC_UNTIL(cond)                                              \
	({                                                             \
		bool __held;                                           \
		for (__u64 __stop = 0;                                 \
		     !(__held = !!(cond)) && umpsc_patience(&__stop);) \
			;                                              \
		__held;                                                \
	})

/* ---- Errors ------------------------------------------------------------ */

static inline void umpsc_expect_err(struct __test_metadata *_metadata, int line,
				    int want, const char *call, long ret)
{
	int err = errno;

	EXPECT_EQ(-1, ret)
	{
		TH_LOG("... %s, line %d", call, line);
	}
	EXPECT_EQ(want, err)
	{
		TH_LOG("... %s: %s, line %d", call, strerror(err), line);
	}
}

/* @call returns -1 with errno @err. */
#define EXPECT_ERR(err, call)                             \
	umpsc_expect_err(_metadata, __LINE__, err, #call, \
			 (errno = 0, (long)(call)))

static inline int umpsc_assert_fd(struct __test_metadata *_metadata, int line,
				  const char *call, int fd)
{
	ASSERT_LE(0, fd)
	{
		TH_LOG("... %s: %s, line %d", call, strerror(errno), line);
	}
	return fd;
}

/* @call returns a file descriptor, which is the value. */
#define ASSERT_FD(call) umpsc_assert_fd(_metadata, __LINE__, #call, call)

#ifndef _UMPSC_H

/* ---- Calls ------------------------------------------------------------- */

static inline int umpsc_query(int fd, struct umpsc_query *q)
{
	memset(q, UMPSC_POISON, sizeof(*q));
	return ioctl(fd, UMPSC_IOC_QUERY, q);
}

static inline int umpsc_info(int fd, struct umpsc_info *info)
{
	memset(info, UMPSC_POISON, sizeof(*info));
	return ioctl(fd, UMPSC_IOC_INFO, info);
}

/* The caller sets what goes in; the two fds are poisoned here. */
static inline int umpsc_channel(int manager, struct umpsc_channel_args *args)
{
	args->receiver_fd = UMPSC_POISON_FD;
	args->sender_fd = UMPSC_POISON_FD;
	return ioctl(manager, UMPSC_IOC_CHANNEL, args);
}

static inline int umpsc_create(int manager, struct umpsc_create_args *args)
{
	args->major = UMPSC_POISON_U32;
	args->minor = UMPSC_POISON_U32;
	return ioctl(manager, UMPSC_IOC_CREATE, args);
}

/* Fills the field of a name, which may also be one too long for a NUL. */
static inline void umpsc_set_name(char *field, const char *name)
{
	memset(field, 0, UMPSC_NAME_MAX + 1);
	memcpy(field, name, strnlen(name, UMPSC_NAME_MAX + 1));
}

static inline int umpsc_remove(int manager, const char *name)
{
	struct umpsc_remove_args args = {};

	umpsc_set_name(args.name, name);
	return ioctl(manager, UMPSC_IOC_REMOVE, &args);
}

static inline int umpsc_clone(int fd, unsigned long flags)
{
	return ioctl(fd, UMPSC_IOC_CLONE, flags);
}

static inline int umpsc_downgrade(int fd, unsigned long flags)
{
	return ioctl(fd, UMPSC_IOC_DOWNGRADE, flags);
}

static inline int umpsc_upgrade(int fd, unsigned long flags)
{
	return ioctl(fd, UMPSC_IOC_UPGRADE, flags);
}

static inline int umpsc_sender(int fd, unsigned long flags)
{
	return ioctl(fd, UMPSC_IOC_SENDER, flags);
}

static inline int umpsc_close(int fd)
{
	return ioctl(fd, UMPSC_IOC_CLOSE, 0UL);
}

static inline int umpsc_same(int fd, int other)
{
	return ioctl(fd, UMPSC_IOC_SAME, (unsigned long)other);
}

/* SEND of @len bytes at @addr, which need not be a batch. */
static inline long umpsc_send(int fd, const void *addr, __u64 len)
{
	struct umpsc_send_args args = {
		.addr = (uintptr_t)addr,
		.len = len,
	};

	return ioctl(fd, UMPSC_IOC_SEND, &args);
}

/* @used and @need may be NULL. */
static inline long umpsc_recv(int fd, void *buf, __u64 len, __u32 max,
			      __u64 deadline_ns, __u64 *used, __u64 *need)
{
	struct umpsc_recv_args args = {
		.addr = (uintptr_t)buf,
		.len = len,
		.deadline_ns = deadline_ns,
		.max = max,
		.used = UMPSC_POISON_U64,
		.need = UMPSC_POISON_U64,
	};
	long ret = ioctl(fd, UMPSC_IOC_RECV, &args);

	if (used)
		*used = args.used;
	if (need)
		*need = args.need;
	return ret;
}

/* What FIONREAD says, or -1. */
static inline int umpsc_fionread(int fd)
{
	int left = UMPSC_POISON_FD;

	if (ioctl(fd, FIONREAD, &left))
		return -1;
	return left;
}

/* ---- Files ------------------------------------------------------------- */

/* Opens /dev/umpsc-@name, or /dev/umpsc where @name is "". */
static inline int umpsc_open(const char *name, int flags)
{
	char path[sizeof(UMPSC_NODE) + 1 + UMPSC_NAME_MAX];

	snprintf(path, sizeof(path), "%s%s%s", UMPSC_NODE, *name ? "-" : "",
		 name);
	return open(path, flags | O_CLOEXEC);
}

static inline int umpsc_open_manager(void)
{
	return umpsc_open("", O_RDWR);
}

/* A private channel; @limits may be NULL. */
static inline int umpsc_private_with(int *receiver, int *sender, __u32 flags,
				     __u32 receiver_flags, __u32 sender_flags,
				     const struct umpsc_limits *limits)
{
	struct umpsc_channel_args args = {
		.flags = flags,
		.receiver_flags = receiver_flags,
		.sender_flags = sender_flags,
	};
	int manager = umpsc_open_manager();
	int ret, err;

	*receiver = -1;
	*sender = -1;
	if (manager < 0)
		return -1;
	if (limits)
		args.limits = *limits;
	ret = umpsc_channel(manager, &args);
	err = errno;
	close(manager);
	errno = err;
	if (ret)
		return ret;
	*receiver = args.receiver_fd;
	*sender = args.sender_fd;
	return 0;
}

static inline int umpsc_private(int *receiver, int *sender)
{
	return umpsc_private_with(receiver, sender, 0, 0, 0, NULL);
}

/* A node of mode 0600; @limits may be NULL. */
static inline int umpsc_node_create(const char *name, __u32 flags,
				    const struct umpsc_limits *limits)
{
	struct umpsc_create_args args = {
		.mode = 0600,
		.flags = flags,
	};
	int manager = umpsc_open_manager();
	int ret, err;

	if (manager < 0)
		return -1;
	umpsc_set_name(args.name, name);
	if (limits)
		args.limits = *limits;
	ret = umpsc_create(manager, &args);
	err = errno;
	close(manager);
	errno = err;
	return ret;
}

static inline int umpsc_node_remove(const char *name)
{
	int manager = umpsc_open_manager();
	int ret, err;

	if (manager < 0)
		return -1;
	ret = umpsc_remove(manager, name);
	err = errno;
	close(manager);
	errno = err;
	return ret;
}

#endif /* _UMPSC_H */

/* Open file descriptors of this process. */
static inline int umpsc_count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = -3; /* ".", ".." and the directory's own */

	if (!dir)
		return -1;
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* The number that the next fd will get: also one that no file has may be taken. */
static inline int umpsc_next_fd(int any)
{
	int fd = dup(any);

	close(fd);
	return fd;
}

/* What is in a small file, as a string; its length or -1. */
static inline ssize_t umpsc_read_file(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t n = 0;
	ssize_t ret;

	*buf = 0;
	if (fd < 0)
		return -1;
	while (n < size - 1) {
		ret = read(fd, buf + n, size - 1 - n);
		if (ret < 0 && errno == EINTR)
			continue;
		if (ret <= 0)
			break;
		n += ret;
	}
	close(fd);
	buf[n] = 0;
	return n;
}

/*
 * Objects in use in the slab caches whose names match @pattern, or -1 where the kernel
 * does not tell.  What was freed, and held back by a CPU or by KASAN, is let go first.
 */
static inline long umpsc_slab_objects(const char *pattern)
{
	char path[128], line[512], name[64];
	long objects, sum = -1;
	glob_t caches;
	size_t i;
	FILE *f;
	int fd;

	snprintf(path, sizeof(path), "/sys/kernel/slab/%s/shrink", pattern);
	if (!glob(path, 0, NULL, &caches)) {
		for (i = 0; i < caches.gl_pathc; i++) {
			fd = open(caches.gl_pathv[i], O_WRONLY | O_CLOEXEC);
			if (fd < 0)
				continue;
			if (write(fd, "1", 1) != 1)
				perror(caches.gl_pathv[i]);
			close(fd);
		}
		globfree(&caches);
	}
	f = fopen("/proc/slabinfo", "re");
	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%63s %ld", name, &objects) == 2 &&
		    !fnmatch(pattern, name, 0))
			sum = (sum < 0 ? 0 : sum) + objects;
	fclose(f);
	return sum;
}

/* What keeps the module loaded: how many files and nodes, or -1. */
static inline long umpsc_module_refs(void)
{
	char text[32];

	if (umpsc_read_file("/sys/module/umpsc/refcnt", text, sizeof(text)) <=
	    0)
		return -1;
	return atol(text);
}

/* The kernel's log from now on, a line each read, or -1. */
static inline int umpsc_log_open(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0)
		lseek(fd, 0, SEEK_END);
	return fd;
}

/* What /proc/self/fd says of @fd. */
static inline ssize_t umpsc_fd_name(int fd, char *buf, size_t size)
{
	char path[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, buf, size - 1);
	buf[n < 0 ? 0 : n] = 0;
	return n;
}

/* Sends @fd over a socket. */
static inline int umpsc_pass_fd(int sock, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = {};
	char byte = 'f';
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
	return sendmsg(sock, &msg, 0) == 1 ? 0 : -1;
}

/* Receives what umpsc_pass_fd() sent: an fd, or -1. */
static inline int umpsc_take_fd(int sock)
{
	char control[CMSG_SPACE(sizeof(int))] = {};
	char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg;
	int fd = -1;

	if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) != 1)
		return -1;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (cmsg && cmsg->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(cmsg), sizeof(int));
	return fd;
}

/* poll(), which a signal does not end. */
static inline int umpsc_poll_fds(struct pollfd *fds, nfds_t n, int timeout_ms)
{
	__u64 end = umpsc_end_ns(timeout_ms);
	int ret = poll(fds, n, timeout_ms);

	while (ret < 0 && errno == EINTR)
		ret = poll(fds, n, umpsc_left_ms(end));
	return ret;
}

/* epoll_wait(), which a signal does not end. */
static inline int umpsc_epoll_wait(int epoll, struct epoll_event *events,
				   int max, int timeout_ms)
{
	__u64 end = umpsc_end_ns(timeout_ms);
	int ret = epoll_wait(epoll, events, max, timeout_ms);

	while (ret < 0 && errno == EINTR)
		ret = epoll_wait(epoll, events, max, umpsc_left_ms(end));
	return ret;
}

/*
 * What there is of @events, and of what is always told, on @fd within @timeout_ms; -1
 * on an error.  A poll() that waits to the end looks once more then, and what it finds is
 * none: nobody woke it.
 */
static inline int umpsc_poll_for(int fd, short events, int timeout_ms)
{
	__u64 end = umpsc_now_ns() + timeout_ms * 1000000ULL;
	struct pollfd p = { .fd = fd, .events = events };
	int ret = umpsc_poll_fds(&p, 1, timeout_ms);

	if (ret < 0)
		return -1;
	return timeout_ms && umpsc_now_ns() >= end ? 0 : p.revents;
}

/* The same, of every event. */
static inline int umpsc_poll(int fd, int timeout_ms)
{
	return umpsc_poll_for(fd,
			      POLLIN | POLLPRI | POLLOUT | POLLRDHUP |
				      POLLRDNORM | POLLRDBAND | POLLWRNORM |
				      POLLWRBAND,
			      timeout_ms);
}

static inline void umpsc_expect_poll(struct __test_metadata *_metadata,
				     int line, int want, int fd)
{
	int events = umpsc_poll(fd, 0);

	EXPECT_EQ(want, events)
	{
		TH_LOG("... poll: 0x%x, not 0x%x, line %d",
		       (unsigned int)events, (unsigned int)want, line);
	}
}

/* poll() says exactly @events of @fd, now. */
#define EXPECT_POLL(events, fd) \
	umpsc_expect_poll(_metadata, __LINE__, events, fd)

#ifndef _UMPSC_H

/* ---- Batches ----------------------------------------------------------- */

/* A packed batch under construction; starts as {}, ends with umpsc_batch_free(). */
struct umpsc_batch {
	unsigned char *data;
	size_t len;
	size_t room;
};

/*
 * Appends a record, with what the kernel ignores filled with poison, and
 * returns it, for a test that wants to spoil one field.
 */
static inline struct umpsc_record *
umpsc_batch_add(struct umpsc_batch *b, const void *payload, __u32 len)
{
	size_t size = UMPSC_RECORD_SIZE(UMPSC_RECORD_HDR, len);
	struct umpsc_record *r;

	if (b->room - b->len < size) {
		b->room = (b->len + size) * 2;
		b->data = realloc(b->data, b->room);
		if (!b->data)
			abort();
	}
	r = (void *)(b->data + b->len);
	memset(r, UMPSC_POISON, size);
	r->len = len;
	r->hdr = UMPSC_RECORD_HDR;
	r->flags = 0;
	if (len)
		memcpy((unsigned char *)r + UMPSC_RECORD_HDR, payload, len);
	b->len += size;
	return r;
}

static inline long umpsc_batch_send(int fd, const struct umpsc_batch *b)
{
	return umpsc_send(fd, b->data, b->len);
}

static inline void umpsc_batch_free(struct umpsc_batch *b)
{
	free(b->data);
	*b = (struct umpsc_batch){};
}

/* Payload of a received record. */
static inline const void *umpsc_record_data(const struct umpsc_record *r)
{
	return (const unsigned char *)r + r->hdr;
}

/*
 * The record at *@pos of a received batch of @used bytes, or NULL when there is
 * none, or one that does not lie inside the batch; moves *@pos behind it.
 */
static inline const struct umpsc_record *
umpsc_batch_next(const void *buf, size_t used, size_t *pos)
{
	const struct umpsc_record *r;
	size_t size;

	if (used - *pos < sizeof(*r))
		return NULL;
	r = (const void *)((const unsigned char *)buf + *pos);
	size = UMPSC_RECORD_SIZE(r->hdr, r->len);
	if (r->hdr < UMPSC_RECORD_HDR || r->hdr > UMPSC_RECORD_HDR_MAX ||
	    r->hdr % 8 || size > used - *pos)
		return NULL;
	*pos += size;
	return r;
}

#endif /* _UMPSC_H */

/* ---- The whole state --------------------------------------------------- */

static inline void umpsc_model_send(struct umpsc_info *m, __u64 messages,
				    __u64 bytes)
{
	m->messages += messages;
	m->bytes += bytes;
	m->sent += messages;
	m->sent_bytes += bytes;
	if (m->messages > m->most_messages)
		m->most_messages = m->messages;
	if (m->bytes > m->most_bytes)
		m->most_bytes = m->bytes;
}

static inline void umpsc_model_receive(struct umpsc_info *m, __u64 messages,
				       __u64 bytes)
{
	m->messages -= messages;
	m->bytes -= bytes;
	m->received += messages;
	m->received_bytes += bytes;
}

static inline void umpsc_model_discard(struct umpsc_info *m)
{
	m->discarded += m->messages;
	m->messages = 0;
	m->bytes = 0;
}

/* A figure of INFO, and whether a model without it leaves it open. */
struct umpsc_figure {
	size_t offset;
	const char *name;
	bool open;
};

#define __UMPSC_FIGURE(field, open)                              \
	{                                                        \
		offsetof(struct umpsc_info, field), #field, open \
	}

/* Those before the channel's id have 32 bits, the others 64. */
static inline __u64 umpsc_figure(const struct umpsc_info *info,
				 const struct umpsc_figure *figure)
{
	const char *at = (const char *)info + figure->offset;
	__u32 small;
	__u64 value;

	if (figure->offset < offsetof(struct umpsc_info, channel)) {
		memcpy(&small, at, sizeof(small));
		return small;
	}
	memcpy(&value, at, sizeof(value));
	return value;
}

static const struct umpsc_figure umpsc_figures[] = {
	__UMPSC_FIGURE(role, false),
	__UMPSC_FIGURE(state, false),
	__UMPSC_FIGURE(flags, false),
	__UMPSC_FIGURE(pad, false),
	__UMPSC_FIGURE(channel, true),
	__UMPSC_FIGURE(generation, true),
	__UMPSC_FIGURE(handle, true),
	__UMPSC_FIGURE(messages, false),
	__UMPSC_FIGURE(bytes, false),
	__UMPSC_FIGURE(strong, false),
	__UMPSC_FIGURE(weak, false),
	__UMPSC_FIGURE(sent, false),
	__UMPSC_FIGURE(sent_bytes, false),
	__UMPSC_FIGURE(received, false),
	__UMPSC_FIGURE(received_bytes, false),
	__UMPSC_FIGURE(discarded, false),
	__UMPSC_FIGURE(refused_closed, false),
	__UMPSC_FIGURE(refused_size, false),
	__UMPSC_FIGURE(refused_limit, false),
	__UMPSC_FIGURE(refused_quota, false),
	__UMPSC_FIGURE(refused_memory, false),
	__UMPSC_FIGURE(most_messages, false),
	__UMPSC_FIGURE(most_bytes, false),
	__UMPSC_FIGURE(memory, true),
	__UMPSC_FIGURE(wakeups, true),
	__UMPSC_FIGURE(oldest_ns, true),
	__UMPSC_FIGURE(limits.max_len, false),
	__UMPSC_FIGURE(limits.max_msgs, false),
	__UMPSC_FIGURE(limits.max_bytes, false),
};

static inline void umpsc_compare_info(struct __test_metadata *_metadata,
				      int line, int fd,
				      const struct umpsc_info *want,
				      const struct umpsc_info *got)
{
	const struct umpsc_figure *f;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(umpsc_figures); i++) {
		f = &umpsc_figures[i];
		if (f->open && !umpsc_figure(want, f))
			continue;
		EXPECT_EQ(umpsc_figure(want, f), umpsc_figure(got, f))
		{
			TH_LOG("... INFO.%s of fd %d, line %d", f->name, fd,
			       line);
		}
	}
}

/*
 * Compares all that INFO says to @fd, a handle of @role, with @want, but for the
 * ids, memory, wakeups and the age: those are compared where @want has them,
 * and must be plausible otherwise.  Returns what INFO said.
 */
static inline struct umpsc_info
umpsc_expect_state(struct __test_metadata *_metadata, int line, int fd,
		   __u32 role, const struct umpsc_info *want)
{
	struct umpsc_info model = *want;
	struct umpsc_info got;

	model.role = role;
	ASSERT_EQ(0, umpsc_info(fd, &got))
	{
		TH_LOG("... INFO in line %d: %s", line, strerror(errno));
	}
	umpsc_compare_info(_metadata, line, fd, &model, &got);
	EXPECT_EQ(role == UMPSC_ROLE_SENDER || role == UMPSC_ROLE_WEAK,
		  got.handle != 0)
	{
		TH_LOG("... INFO.handle %llu of fd %d, line %d", got.handle, fd,
		       line);
	}
	EXPECT_LE(got.bytes, got.memory)
	{
		TH_LOG("... INFO.memory of fd %d, line %d", fd, line);
	}
	EXPECT_EQ(got.messages != 0, got.memory != 0)
	{
		TH_LOG("... INFO.memory %llu of fd %d, line %d", got.memory, fd,
		       line);
	}
	return got;
}

/* EXPECT_STATE(fd, UMPSC_ROLE_SENDER, &model) */
#define EXPECT_STATE(fd, role, want) \
	umpsc_expect_state(_metadata, __LINE__, fd, role, want)

/* EXPECT_INFO(fd, UMPSC_ROLE_SENDER, .state = ..., .messages = 1, ...); others 0 */
#define EXPECT_INFO(fd, role, ...) \
	EXPECT_STATE(fd, role, &((struct umpsc_info){ __VA_ARGS__ }))

/* A handle, for EXPECT_VIEWS. */
struct umpsc_view {
	int fd;
	__u32 role;
};

#define UMPSC_VIEW_MANAGER(fd) ((struct umpsc_view){ fd, UMPSC_ROLE_MANAGER })
#define UMPSC_VIEW_SENDER(fd) ((struct umpsc_view){ fd, UMPSC_ROLE_SENDER })
#define UMPSC_VIEW_WEAK(fd) ((struct umpsc_view){ fd, UMPSC_ROLE_WEAK })
#define UMPSC_VIEW_RECEIVER(fd) ((struct umpsc_view){ fd, UMPSC_ROLE_RECEIVER })

static inline void umpsc_expect_views(struct __test_metadata *_metadata,
				      int line, const struct umpsc_info *want,
				      const struct umpsc_view *views, size_t n)
{
	struct umpsc_info model = *want;
	struct umpsc_info got;
	size_t i;

	for (i = 0; i < n; i++) {
		got = umpsc_expect_state(_metadata, line, views[i].fd,
					 views[i].role, &model);
		/* They speak of one channel. */
		model.channel = got.channel;
		model.generation = got.generation;
	}
}

/*
 * The same state from each of several handles:
 * EXPECT_VIEWS(&model, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_RECEIVER(rx));
 */
#define EXPECT_VIEWS(want, ...)                                      \
	umpsc_expect_views(                                          \
		_metadata, __LINE__, want,                           \
		(const struct umpsc_view[]){ __VA_ARGS__ },          \
		sizeof((const struct umpsc_view[]){ __VA_ARGS__ }) / \
			sizeof(struct umpsc_view))

/* INFO says to @fd what it said before, but for the age. */
static inline void umpsc_expect_unchanged(struct __test_metadata *_metadata,
					  int line, int fd,
					  const struct umpsc_info *before)
{
	struct umpsc_info got;

	ASSERT_EQ(0, umpsc_info(fd, &got))
	{
		TH_LOG("... INFO in line %d: %s", line, strerror(errno));
	}
	got.oldest_ns = before->oldest_ns;
	umpsc_compare_info(_metadata, line, fd, before, &got);
	EXPECT_EQ(0, memcmp(before, &got, sizeof(got)))
	{
		TH_LOG("... INFO of fd %d changed, line %d", fd, line);
	}
}

#define EXPECT_UNCHANGED(fd, before) \
	umpsc_expect_unchanged(_metadata, __LINE__, fd, before)

/* ---- Messages ---------------------------------------------------------- */

static inline void umpsc_expect_write(struct __test_metadata *_metadata,
				      int line, int fd, const char *string)
{
	ssize_t n = write(fd, string, strlen(string));

	EXPECT_EQ((ssize_t)strlen(string), n)
	{
		TH_LOG("... write: %s, line %d", strerror(errno), line);
	}
}

/* write() takes the whole of a string. */
#define EXPECT_WRITE(fd, string) \
	umpsc_expect_write(_metadata, __LINE__, fd, string)

#ifndef _UMPSC_H

/* RECV without waiting gives this message, well-formed; returns its header. */
static inline struct umpsc_record
umpsc_expect_message(struct __test_metadata *_metadata, int line, int fd,
		     const void *data, size_t len)
{
	size_t size = UMPSC_RECORD_SIZE(UMPSC_RECORD_HDR_MAX, len) + 64;
	struct umpsc_record r = {};
	unsigned char *buf = malloc(size);
	size_t zeroes = 0, poison = 0, i;
	__u64 used, need;

	ASSERT_NE(NULL, buf);
	memset(buf, UMPSC_POISON, size);
	ASSERT_EQ(1, umpsc_recv(fd, buf, size, 1, 0, &used, &need))
	{
		TH_LOG("... RECV in line %d: %s", line, strerror(errno));
	}
	memcpy(&r, buf, sizeof(r));
	ASSERT_EQ(UMPSC_RECORD_HDR, r.hdr)
	{
		TH_LOG("... of the message in line %d", line);
	}
	ASSERT_EQ(len, r.len)
	{
		TH_LOG("... of the message in line %d", line);
	}
	EXPECT_EQ(0, memcmp(buf + r.hdr, data, len))
	{
		TH_LOG("... other data than expected in line %d: %.*s", line,
		       (int)len, (char *)buf + r.hdr);
	}
	EXPECT_EQ(UMPSC_RECORD_SIZE(r.hdr, r.len), used)
	{
		TH_LOG("... of the message in line %d", line);
	}
	EXPECT_EQ(0, need)
	{
		TH_LOG("... of the message in line %d", line);
	}
	for (i = r.hdr + r.len; i < UMPSC_RECORD_SIZE(r.hdr, r.len); i++)
		zeroes += !buf[i];
	for (; i < size; i++)
		poison += buf[i] == UMPSC_POISON;
	EXPECT_EQ(UMPSC_RECORD_SIZE(r.hdr, r.len) - r.hdr - r.len, zeroes)
	{
		TH_LOG("... padding that is not zero in line %d", line);
	}
	EXPECT_EQ(size - UMPSC_RECORD_SIZE(r.hdr, r.len), poison)
	{
		TH_LOG("... written behind the batch in line %d", line);
	}
	free(buf);
	return r;
}

static inline struct umpsc_record
umpsc_expect_text(struct __test_metadata *_metadata, int line, int fd,
		  const char *string)
{
	return umpsc_expect_message(_metadata, line, fd, string,
				    strlen(string));
}

#define EXPECT_MESSAGE(fd, data, len) \
	umpsc_expect_message(_metadata, __LINE__, fd, data, len)
#define EXPECT_TEXT(fd, string) \
	umpsc_expect_text(_metadata, __LINE__, fd, string)

/* Nothing is queued, and the channel has not ended. */
static inline void umpsc_expect_empty(struct __test_metadata *_metadata,
				      int line, int fd)
{
	int err = fcntl(fd, F_GETFL) & O_NONBLOCK ? EAGAIN : ETIMEDOUT;
	unsigned char buf[64];
	__u64 used, need;

	errno = 0;
	EXPECT_EQ(-1, umpsc_recv(fd, buf, sizeof(buf), 1, 0, &used, &need))
	{
		TH_LOG("... line %d", line);
	}
	EXPECT_EQ(err, errno) TH_LOG("line %d", line);
	EXPECT_EQ(0, used) TH_LOG("line %d", line);
	EXPECT_EQ(0, need) TH_LOG("line %d", line);
}

#define EXPECT_EMPTY(fd) umpsc_expect_empty(_metadata, __LINE__, fd)

/* Nothing is queued, and nothing will be: to RECV and to read(). */
static inline void umpsc_expect_end(struct __test_metadata *_metadata, int line,
				    int fd)
{
	unsigned char buf[64];
	__u64 used, need;

	/* Else read() would wait. */
	ASSERT_EQ(0, umpsc_recv(fd, buf, sizeof(buf), 1, 0, &used, &need))
	{
		TH_LOG("... line %d: %s", line, strerror(errno));
	}
	EXPECT_EQ(0, used) TH_LOG("line %d", line);
	EXPECT_EQ(0, need) TH_LOG("line %d", line);
	EXPECT_EQ(0, read(fd, buf, sizeof(buf)))
	{
		TH_LOG("... line %d: %s", line, strerror(errno));
	}
}

#define EXPECT_END(fd) umpsc_expect_end(_metadata, __LINE__, fd)

#endif /* _UMPSC_H */

/* ---- Threads and processes --------------------------------------------- */

/*
 * Waits until the task, of this process or a child, is asleep in system call
 * @nr (-1: any but those in which a thread only starts or ends): the kernel
 * gives its number only once the task is off the CPU.
 */
static inline bool umpsc_is_asleep(pid_t tid, long nr)
{
	char path[64], buf[256], *end;
	long got;

	snprintf(path, sizeof(path), "/proc/%d/syscall", tid);
	if (umpsc_read_file(path, buf, sizeof(buf)) <= 0)
		return false;
	got = strtol(buf, &end, 10);
	if (end == buf)
		return false;
	return nr == -1 ? got >= 0 && got != SYS_futex : got == nr;
}

static inline bool umpsc_wait_asleep(pid_t tid, long nr)
{
	return UMPSC_UNTIL(umpsc_is_asleep(tid, nr));
}

/* The calling thread stays on @cpu. */
static inline bool umpsc_run_on(int cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	return !sched_setaffinity(0, sizeof(one), &one);
}

/* Waits until a child has exited, at most UMPSC_PATIENCE: its status, or -1. */
static inline int umpsc_wait_child(pid_t pid)
{
	int status = -1;

	if (UMPSC_UNTIL(waitpid(pid, &status, WNOHANG) == pid))
		return status;
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return -1;
}

/*
 * A thread that may block: runs @fn(@arg), keeps what it returned and errno.
 * It must not assert.
 */
struct umpsc_thread {
	pthread_t thread;
	atomic_int tid;
	atomic_bool done;
	long (*fn)(void *arg);
	void *arg;
	long ret;
	int err;
};

static inline void *__umpsc_thread(void *data)
{
	struct umpsc_thread *t = data;

	t->tid = syscall(SYS_gettid);
	errno = 0;
	t->ret = t->fn(t->arg);
	t->err = errno;
	t->done = true;
	return NULL;
}

/* 0 or an error number. */
static inline int umpsc_thread_start(struct umpsc_thread *t,
				     long (*fn)(void *arg), void *arg)
{
	memset(t, 0, sizeof(*t));
	t->fn = fn;
	t->arg = arg;
	return pthread_create(&t->thread, NULL, __umpsc_thread, t);
}

/* True once @t is asleep in system call @nr, as umpsc_wait_asleep(). */
static inline bool umpsc_thread_asleep(struct umpsc_thread *t, long nr)
{
	return UMPSC_UNTIL(t->tid) && umpsc_wait_asleep(t->tid, nr);
}

/* True once @t has ended and been joined; false when out of patience. */
static inline bool umpsc_thread_join(struct umpsc_thread *t)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += UMPSC_PATIENCE;
	return !pthread_timedjoin_np(t->thread, NULL, &ts);
}

#ifndef _UMPSC_H

/* A receive for umpsc_thread_start(umpsc_receive_fn): RECV, or read() when !max. */
struct umpsc_receive {
	alignas(8) unsigned char buf[4096];
	int fd;
	__u32 max;
	__u64 deadline_ns;
	__u64 used;
	__u64 need;
};

static inline long umpsc_receive_fn(void *arg)
{
	struct umpsc_receive *r = arg;

	memset(r->buf, UMPSC_POISON, sizeof(r->buf));
	if (!r->max)
		return read(r->fd, r->buf, sizeof(r->buf));
	return umpsc_recv(r->fd, r->buf, sizeof(r->buf), r->max, r->deadline_ns,
			  &r->used, &r->need);
}

#endif /* _UMPSC_H */

/* ---- Patterns ---------------------------------------------------------- */

/* The next of a run of random numbers; any *@state will do. */
static inline __u64 umpsc_random(__u64 *state)
{
	__u64 z = (*state += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

/* Fills @buf with bytes that tell @seed and their place. */
static inline void umpsc_fill(void *buf, size_t len, __u64 seed)
{
	unsigned char *p = buf;
	__u64 word;

	for (; len >= sizeof(word); len -= sizeof(word), p += sizeof(word)) {
		word = umpsc_random(&seed);
		memcpy(p, &word, sizeof(word));
	}
	word = umpsc_random(&seed);
	memcpy(p, &word, len);
}

/* Are these the bytes of umpsc_fill(), from byte @from on? */
static inline bool umpsc_filled_from(const void *buf, size_t from, size_t len,
				     __u64 seed)
{
	const unsigned char *p = buf;
	__u64 word;
	size_t n;

	seed += from / sizeof(word) * 0x9e3779b97f4a7c15ULL;
	for (from %= sizeof(word); len; from = 0, len -= n, p += n) {
		word = umpsc_random(&seed);
		n = sizeof(word) - from;
		if (n > len)
			n = len;
		if (memcmp(p, (unsigned char *)&word + from, n))
			return false;
	}
	return true;
}

static inline bool umpsc_filled(const void *buf, size_t len, __u64 seed)
{
	return umpsc_filled_from(buf, 0, len, seed);
}

#endif /* _UMPSC_TEST_H */
