// SPDX-License-Identifier: MIT
/*
 * umpsc and its peers, as ways from one process to another.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/umpsc.h>

/* A message that was cut, or not taken, would make every figure a lie. */
static void whole(ssize_t done, size_t bytes, const char *what)
{
	if (done == (ssize_t)bytes)
		return;
	if (done >= 0)
		errno = EMSGSIZE;
	die(what);
}

/* Limits of the machine that were raised, and what they were. */
static struct {
	const char *path;
	unsigned long old;
} limits[8];
static unsigned int n_limits;
static pid_t limits_owner;

static void limits_restore(void)
{
	FILE *file;

	/* Children end, too. */
	if (getpid() != limits_owner)
		return;
	while (n_limits) {
		file = fopen(limits[--n_limits].path, "w");
		if (!file)
			continue;
		fprintf(file, "%lu\n", limits[n_limits].old);
		fclose(file);
	}
}

/*
 * Some limits can only be raised here, until we end; where they cannot, open says so.
 */
static void limit_raise(const char *path, unsigned long value)
{
	unsigned long old = 0;
	FILE *file;

	if (n_limits == ARRAY_SIZE(limits))
		return;
	file = fopen(path, "r+");
	if (!file)
		return;
	if (fscanf(file, "%lu", &old) == 1 && old < value) {
		if (!limits_owner) {
			limits_owner = getpid();
			atexit(limits_restore);
		}
		limits[n_limits].path = path;
		limits[n_limits++].old = old;
		rewind(file);
		fprintf(file, "%lu\n", value);
	}
	fclose(file);
}

static void fd_send(struct conduit *c, char *data, size_t bytes)
{
	whole(write(c->tx, data, bytes), bytes, "write");
}

static void fd_recv(struct conduit *c, char *data, size_t bytes)
{
	whole(read(c->rx, data, bytes), bytes, "read");
}

static void fd_close(struct conduit *c)
{
	if (c->rx != c->tx)
		close(c->rx);
	close(c->tx);
}

/* ---- umpsc -------------------------------------------------------------- */

/* A private channel: 0 or -errno. */
int umpsc_channel(struct conduit *c)
{
	static int manager = -1;
	struct umpsc_channel_args args = {};

	if (manager < 0)
		manager = open("/dev/umpsc", O_RDWR | O_CLOEXEC);
	if (manager < 0 || ioctl(manager, UMPSC_IOC_CHANNEL, &args))
		return -errno;
	c->rx = args.receiver_fd;
	c->tx = args.sender_fd;
	return 0;
}

static int umpsc_open(struct conduit *c, size_t bytes, size_t queue)
{
	(void)bytes;
	(void)queue;
	return umpsc_channel(c);
}

static int umpsc_join(struct conduit *c)
{
	int fd = ioctl(c->tx, UMPSC_IOC_CLONE, 0);

	if (fd < 0)
		die("CLONE");
	return fd;
}

/* ---- Pipes -------------------------------------------------------------- */

static int pipe_open_flags(struct conduit *c, size_t need, int flags)
{
	int fds[2], err;

	if (pipe2(fds, O_CLOEXEC | flags))
		return -errno;
	c->rx = fds[0];
	c->tx = fds[1];
	/* What a pipe holds by default is sixteen pages. */
	if (need >= 65536 && fcntl(c->tx, F_SETPIPE_SZ,
				   need > 1 << 20 ? (int)need : 1 << 20) < 0) {
		err = -errno;
		fd_close(c);
		return err;
	}
	return 0;
}

static int pipe_open(struct conduit *c, size_t bytes, size_t queue)
{
	return pipe_open_flags(c, bytes * queue, 0);
}

static int pipe_packet_open(struct conduit *c, size_t bytes, size_t queue)
{
	return pipe_open_flags(c, bytes * queue, O_DIRECT);
}

/* It splits what is above a page into packets of one. */
static void pipe_packet_recv(struct conduit *c, char *data, size_t bytes)
{
	ssize_t n;

	for (; bytes; data += n, bytes -= n) {
		n = read(c->rx, data, bytes);
		if (n <= 0)
			die("read from a pipe of packets");
	}
}

/* ---- Sockets ------------------------------------------------------------ */

static int unix_open(struct conduit *c, size_t need, int type)
{
	int fds[2], err, room = need > 1 << 20 ? 8 * need : 8 << 20;

	if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds))
		return -errno;
	c->rx = fds[0];
	c->tx = fds[1];
	/* As much as fits a socket by default will do for most. */
	if (need > 65536 && setsockopt(c->tx, SOL_SOCKET, SO_SNDBUFFORCE, &room,
				       sizeof(room))) {
		err = -errno;
		fd_close(c);
		return err;
	}
	return 0;
}

static int unix_dgram_open(struct conduit *c, size_t bytes, size_t queue)
{
	return unix_open(c, bytes * queue, SOCK_DGRAM);
}

static int unix_seqpacket_open(struct conduit *c, size_t bytes, size_t queue)
{
	return unix_open(c, bytes * queue, SOCK_SEQPACKET);
}

static void unix_send(struct conduit *c, char *data, size_t bytes)
{
	whole(send(c->tx, data, bytes, 0), bytes, "send");
}

static void unix_recv(struct conduit *c, char *data, size_t bytes)
{
	whole(recv(c->rx, data, bytes, 0), bytes, "recv");
}

/* ---- Message queues ----------------------------------------------------- */

/* Ten messages are what a queue holds unless an administrator says otherwise. */
#define MQ_MESSAGES 10

static int mqueue_open(struct conduit *c, size_t bytes, size_t queue)
{
	struct mq_attr attr = { .mq_maxmsg = MQ_MESSAGES, .mq_msgsize = bytes };
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };
	static unsigned int number;
	char name[64];

	(void)queue;
	limit_raise("/proc/sys/fs/mqueue/msgsize_max", BYTES_MAX);
	setrlimit(RLIMIT_MSGQUEUE, &limit);
	snprintf(name, sizeof(name), "/umpsc-bench-%d-%u", (int)getpid(),
		 number++);
	c->tx = mq_open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600,
			&attr);
	if (c->tx < 0)
		return -errno;
	mq_unlink(name);
	c->rx = c->tx;
	return 0;
}

static void mqueue_send(struct conduit *c, char *data, size_t bytes)
{
	whole(mq_send(c->tx, data, bytes, 0), 0, "mq_send");
}

static void mqueue_recv(struct conduit *c, char *data, size_t bytes)
{
	whole(mq_receive(c->rx, data, bytes, NULL), bytes, "mq_receive");
}

static int sysv_open(struct conduit *c, size_t bytes, size_t queue)
{
	struct msqid_ds state;
	int err;

	limit_raise("/proc/sys/kernel/msgmax", BYTES_MAX);
	limit_raise("/proc/sys/kernel/msgmnb", 4 * BYTES_MAX);
	c->tx = msgget(IPC_PRIVATE, 0600);
	if (c->tx < 0)
		return -errno;
	c->rx = c->tx;
	err = msgctl(c->tx, IPC_STAT, &state) ? -errno : 0;
	if (!err && state.msg_qbytes >= bytes * queue)
		return 0;
	if (!err)
		err = -EMSGSIZE;
	msgctl(c->tx, IPC_RMID, NULL);
	return err;
}

/* The type of the message is a long ahead of it. */
static void sysv_send(struct conduit *c, char *data, size_t bytes)
{
	long *type = (long *)data - 1;

	*type = 1;
	whole(msgsnd(c->tx, type, bytes, 0), 0, "msgsnd");
}

static void sysv_recv(struct conduit *c, char *data, size_t bytes)
{
	long *type = (long *)data - 1;

	whole(msgrcv(c->rx, type, bytes, 0, 0), bytes, "msgrcv");
}

static void sysv_close(struct conduit *c)
{
	msgctl(c->tx, IPC_RMID, NULL);
}

/* ---- Signals without data ----------------------------------------------- */

static int eventfd_open(struct conduit *c, size_t bytes, size_t queue)
{
	(void)queue;
	if (bytes != sizeof(uint64_t))
		return -EMSGSIZE;
	c->tx = eventfd(0, EFD_CLOEXEC);
	c->rx = c->tx;
	return c->tx < 0 ? -errno : 0;
}

/* ------------------------------------------------------------------------- */

static const struct transport transports[] = {
	{ "umpsc", umpsc_open, fd_send, fd_recv, umpsc_join, fd_close },
	{ "pipe", pipe_open, fd_send, fd_recv, NULL, fd_close },
	{ "pipe-packet", pipe_packet_open, fd_send, pipe_packet_recv, NULL,
	  fd_close },
	{ "unix-dgram", unix_dgram_open, unix_send, unix_recv, NULL, fd_close },
	{ "unix-seqpacket", unix_seqpacket_open, unix_send, unix_recv, NULL,
	  fd_close },
	{ "mqueue", mqueue_open, mqueue_send, mqueue_recv, NULL, fd_close },
	{ "sysv", sysv_open, sysv_send, sysv_recv, NULL, sysv_close },
	{ "eventfd", eventfd_open, fd_send, fd_recv, NULL, fd_close },
};

const struct transport *transport_find(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(transports); i++)
		if (!strcmp(transports[i].name, name))
			return &transports[i];
	errno = ENOENT;
	die(name);
}
