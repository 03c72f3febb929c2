// SPDX-License-Identifier: MIT
/*
 * The cases about time: what a message, or a call, costs.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/umpsc.h>

static const unsigned int sizes[] = { 8, 64, 512, 4096, 65536 };

/* System V wants 8 bytes ahead of the message. */
static char *message(struct subject *s)
{
	return s->buffer + 64;
}

/* ---- pair: one message in, the same one out ----------------------------- */

static int transport_open(struct subject *s)
{
	return s->transport->open(&s->c[0], s->bytes, s->batch);
}

static void transport_close(struct subject *s)
{
	s->transport->close(&s->c[0]);
}

static double pair_run(struct subject *s, unsigned int n)
{
	const struct transport *t = s->transport;
	char *data = message(s);
	double start = now_ns();

	for (; n; n--) {
		t->send(&s->c[0], data, s->bytes);
		t->recv(&s->c[0], data, s->bytes);
	}
	return now_ns() - start;
}

static void pair_add(const char *peer, unsigned int bytes)
{
	struct subject *s = subject_add("pair", peer);

	s->bytes = bytes;
	s->transport = transport_find(peer);
	s->open = transport_open;
	s->run = pair_run;
	s->close = transport_close;
}

/* ---- batch: many messages in, the same ones out ------------------------- */

/* umpsc: SEND, RECV.  The receiver's buffer is the second half of ours. */
static int batch_umpsc_open(struct subject *s)
{
	struct umpsc_send_args *send;
	size_t size = UMPSC_RECORD_SIZE(UMPSC_RECORD_HDR, s->bytes);
	unsigned int i;

	for (i = 0; i < s->batch; i++)
		*(struct umpsc_record *)(s->buffer + i * size) =
			(struct umpsc_record){ .len = s->bytes };
	send = calloc(1, sizeof(*send));
	if (!send)
		return -ENOMEM;
	send->addr = (uintptr_t)s->buffer;
	send->len = s->batch * size;
	s->private = send;
	return umpsc_channel(&s->c[0]);
}

static double batch_umpsc_run(struct subject *s, unsigned int n)
{
	struct umpsc_send_args *send = s->private;
	size_t size = UMPSC_RECORD_SIZE(UMPSC_RECORD_HDR, s->bytes);
	struct umpsc_recv_args recv = {
		.addr = send->addr,
		.len = send->len,
		.deadline_ns = UMPSC_NO_DEADLINE,
		.max = s->batch,
	};
	unsigned int i;
	double start;

	/* Peers use the same buffer. */
	for (i = 0; i < s->batch; i++)
		*(struct umpsc_record *)(s->buffer + i * size) =
			(struct umpsc_record){ .len = s->bytes };
	start = now_ns();
	for (; n; n -= s->batch) {
		if (ioctl(s->c[0].tx, UMPSC_IOC_SEND, send) != (int)s->batch)
			die("SEND");
		if (ioctl(s->c[0].rx, UMPSC_IOC_RECV, &recv) != (int)s->batch)
			die("RECV");
	}
	return now_ns() - start;
}

static void batch_umpsc_close(struct subject *s)
{
	transport_close(s);
	free(s->private);
}

/* A pipe: each message written, all of them read at once. */
static double batch_pipe_run(struct subject *s, unsigned int n)
{
	size_t all = (size_t)s->batch * s->bytes;
	double start = now_ns();
	unsigned int i;

	for (; n; n -= s->batch) {
		for (i = 0; i < s->batch; i++)
			s->transport->send(&s->c[0], s->buffer + i * s->bytes,
					   s->bytes);
		if (read(s->c[0].rx, s->buffer, all) != (ssize_t)all)
			die("read of a batch from a pipe");
	}
	return now_ns() - start;
}

/* A socket: sendmmsg, recvmmsg. */
struct mmsg {
	struct mmsghdr msgs[BATCH_MAX];
	struct iovec iovs[BATCH_MAX];
};

static int batch_mmsg_open(struct subject *s)
{
	struct mmsg *m = calloc(1, sizeof(*m));
	unsigned int i;

	if (!m)
		return -ENOMEM;
	for (i = 0; i < s->batch; i++) {
		m->iovs[i].iov_base = s->buffer + i * s->bytes;
		m->iovs[i].iov_len = s->bytes;
		m->msgs[i].msg_hdr.msg_iov = &m->iovs[i];
		m->msgs[i].msg_hdr.msg_iovlen = 1;
	}
	s->private = m;
	return transport_open(s);
}

static double batch_mmsg_run(struct subject *s, unsigned int n)
{
	struct mmsg *m = s->private;
	double start = now_ns();

	for (; n; n -= s->batch) {
		if (sendmmsg(s->c[0].tx, m->msgs, s->batch, 0) != (int)s->batch)
			die("sendmmsg");
		if (recvmmsg(s->c[0].rx, m->msgs, s->batch, 0, NULL) !=
		    (int)s->batch)
			die("recvmmsg");
		if (m->msgs[s->batch - 1].msg_len != s->bytes)
			die("recvmmsg, cut");
	}
	return now_ns() - start;
}

static void batch_mmsg_close(struct subject *s)
{
	transport_close(s);
	free(s->private);
}

static struct subject *batch_add(const char *peer, const char *transport,
				 unsigned int bytes)
{
	struct subject *s = subject_add("batch", peer);

	s->bytes = bytes;
	s->batch = BATCH_MAX;
	s->transport = transport_find(transport);
	return s;
}

static void batch_case(unsigned int bytes)
{
	struct subject *s;

	group_new();
	s = batch_add("umpsc", "umpsc", bytes);
	s->open = batch_umpsc_open;
	s->run = batch_umpsc_run;
	s->close = batch_umpsc_close;

	s = batch_add("pipe-64", "pipe", bytes);
	s->open = transport_open;
	s->run = batch_pipe_run;
	s->close = transport_close;

	s = batch_add("mmsg", "unix-seqpacket", bytes);
	s->open = batch_mmsg_open;
	s->run = batch_mmsg_run;
	s->close = batch_mmsg_close;
}

/* ---- floor: what nothing can be cheaper than ---------------------------- */

static int floor_open(struct subject *s)
{
	const char *path = s->private;

	s->c[0].tx = -1;
	if (path)
		s->c[0].tx = open(path, O_RDWR | O_CLOEXEC);
	return path && s->c[0].tx < 0 ? -errno : 0;
}

static void floor_close(struct subject *s)
{
	if (s->private)
		close(s->c[0].tx);
}

static double floor_getppid_run(struct subject *s, unsigned int n)
{
	double start = now_ns();

	(void)s;
	for (; n; n--)
		syscall(SYS_getppid);
	return now_ns() - start;
}

static double floor_write_run(struct subject *s, unsigned int n)
{
	double start = now_ns();

	for (; n; n--)
		if (write(s->c[0].tx, s->buffer, s->bytes) < 0)
			die("write to /dev/null");
	return now_ns() - start;
}

static double floor_read_run(struct subject *s, unsigned int n)
{
	double start = now_ns();

	for (; n; n--)
		if (read(s->c[0].tx, s->buffer, s->bytes) < 0)
			die("read from /dev/zero");
	return now_ns() - start;
}

static void floor_add(const char *peer, const char *path, unsigned int bytes,
		      double (*run)(struct subject *s, unsigned int n))
{
	struct subject *s = subject_add("floor", peer);

	s->bytes = bytes;
	s->private = (void *)path;
	s->open = floor_open;
	s->run = run;
	s->close = floor_close;
}

/* ------------------------------------------------------------------------- */

void speed_cases(void)
{
	static const char *const pair_peers[] = {
		"umpsc",	  "pipe",   "pipe-packet", "unix-dgram",
		"unix-seqpacket", "mqueue", "sysv",
	};
	size_t i, j;

	group_new();
	floor_add("getppid", NULL, 0, floor_getppid_run);
	floor_add("null-write", "/dev/null", 64, floor_write_run);
	floor_add("zero-read", "/dev/zero", 64, floor_read_run);

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		group_new();
		for (j = 0; j < ARRAY_SIZE(pair_peers); j++)
			pair_add(pair_peers[j], sizes[i]);
	}
	for (i = 0; i < ARRAY_SIZE(sizes); i++)
		batch_case(sizes[i]);
}
