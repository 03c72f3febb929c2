// SPDX-License-Identifier: MIT
/*
 * The cases about time: what a message, or a call, costs.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
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

/*
 * umpsc: SEND, RECV, of one buffer.  Its records are made once, as are the headers that
 * mmsg asks for: what a program does to have a batch ready is not measured.
 */
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

/* ---- stream: producers and a reader, each a process --------------------- */

/* Messages of one sample: enough for the queues to fill, and for all to take turns. */
#define STREAM_MESSAGES 20000
#define STREAM_MESSAGES_QUICK 2000
#define STREAM_SAMPLES 8
#define STREAM_PRODUCERS_MAX 8
#define GATE_NS 20e6

static void NORETURN stream_produce(struct subject *s, int gate, unsigned int n)
{
	struct conduit c = s->c[0];
	char go;

	other_cpu();
	if (s->transport->join)
		c.tx = s->transport->join(&c);
	if (read(gate, &go, 1) != 1)
		die("waiting for the start");
	for (; n; n--)
		s->transport->send(&c, message(s), s->bytes);
	_exit(0);
}

static double stream_run(struct subject *s, unsigned int n)
{
	pid_t pids[STREAM_PRODUCERS_MAX];
	double start, ns;
	unsigned int i;
	int gate[2];

	if (pipe2(gate, O_CLOEXEC))
		die("pipe");
	for (i = 0; i < s->producers; i++) {
		pids[i] = process_new();
		if (!pids[i])
			stream_produce(s, gate[0], n / s->producers);
	}
	/*
	 * Time for all of them to come to the gate; awake, as a scheduler that owes
	 * something to a reader that slept would switch to it for each message.
	 */
	for (start = now_ns(); now_ns() - start < GATE_NS;)
		sched_yield();
	start = now_ns();
	if (write(gate[1], "gogogogo", s->producers) != (int)s->producers)
		die("starting the producers");
	for (i = n / s->producers * s->producers; i; i--)
		s->transport->recv(&s->c[0], message(s), s->bytes);
	ns = now_ns() - start;
	for (i = 0; i < s->producers; i++)
		process_end(pids[i]);
	close(gate[0]);
	close(gate[1]);
	return ns;
}

static void stream_add(const char *peer, unsigned int producers)
{
	struct subject *s = subject_add("stream", peer);

	s->bytes = 64;
	s->producers = producers;
	s->count = options.quick ? STREAM_MESSAGES_QUICK : STREAM_MESSAGES;
	s->samples_max = STREAM_SAMPLES;
	s->transport = transport_find(peer);
	s->open = transport_open;
	s->run = stream_run;
	s->close = transport_close;
}

/* ---- wake: there and back, to somebody who sleeps ------------------------ */

#define WAKE_AGAIN 1
#define WAKE_STOP 2

static void NORETURN wake_echo(struct subject *s)
{
	uint64_t data[2];

	other_cpu();
	do {
		s->transport->recv(&s->c[0], (char *)&data[1], s->bytes);
		s->transport->send(&s->c[1], (char *)&data[1], s->bytes);
	} while (data[1] != WAKE_STOP);
	_exit(0);
}

static double wake_run(struct subject *s, unsigned int n)
{
	uint64_t data[2] = { 0, WAKE_AGAIN };
	double start = now_ns();

	for (; n; n--) {
		s->transport->send(&s->c[0], (char *)&data[1], s->bytes);
		s->transport->recv(&s->c[1], (char *)&data[1], s->bytes);
	}
	return now_ns() - start;
}

static void wake_close(struct subject *s)
{
	uint64_t data[2] = { 0, WAKE_STOP };

	s->transport->send(&s->c[0], (char *)&data[1], s->bytes);
	process_end(s->child);
	s->transport->close(&s->c[0]);
	s->transport->close(&s->c[1]);
}

static int wake_open(struct subject *s)
{
	int err = transport_open(s);

	if (err)
		return err;
	err = s->transport->open(&s->c[1], s->bytes, s->batch);
	if (err) {
		transport_close(s);
		return err;
	}
	s->child = process_new();
	if (!s->child)
		wake_echo(s);
	return 0;
}

static void wake_add(const char *peer)
{
	struct subject *s = subject_add("wake", peer);

	s->bytes = sizeof(uint64_t);
	s->transport = transport_find(peer);
	s->open = wake_open;
	s->run = wake_run;
	s->close = wake_close;
}

/* ---- uring: a write and the read after it, in one submission ------------- */

static int uring_open(struct subject *s)
{
	struct io_uring *ring = calloc(1, sizeof(*ring));
	int err;

	if (!ring)
		return -ENOMEM;
	err = io_uring_queue_init(4, ring, 0);
	if (!err) {
		err = transport_open(s);
		if (err)
			io_uring_queue_exit(ring);
	}
	if (err)
		free(ring);
	s->private = ring;
	return err;
}

static double uring_run(struct subject *s, unsigned int n)
{
	struct io_uring *ring = s->private;
	struct io_uring_cqe *cqes[2];
	struct io_uring_sqe *sqe;
	double start = now_ns();

	for (; n; n--) {
		sqe = io_uring_get_sqe(ring);
		io_uring_prep_write(sqe, s->c[0].tx, message(s), s->bytes, 0);
		io_uring_sqe_set_flags(sqe, IOSQE_IO_LINK);
		sqe = io_uring_get_sqe(ring);
		io_uring_prep_read(sqe, s->c[0].rx, message(s), s->bytes, 0);
		if (io_uring_submit_and_wait(ring, 2) != 2 ||
		    io_uring_peek_batch_cqe(ring, cqes, 2) != 2)
			die("io_uring");
		if (cqes[0]->res != (int)s->bytes ||
		    cqes[1]->res != (int)s->bytes)
			die("write or read by io_uring");
		io_uring_cq_advance(ring, 2);
	}
	return now_ns() - start;
}

static void uring_close(struct subject *s)
{
	transport_close(s);
	io_uring_queue_exit(s->private);
	free(s->private);
}

static void uring_add(const char *peer)
{
	struct subject *s = subject_add("uring", peer);

	s->bytes = 64;
	s->transport = transport_find(peer);
	s->open = uring_open;
	s->run = uring_run;
	s->close = uring_close;
}

/* ---- backlog: a pair where many messages are queued ---------------------- */

static int backlog_open(struct subject *s)
{
	int err = umpsc_channel(&s->c[0]);
	unsigned int i;

	for (i = 0; !err && i < s->batch; i++)
		s->transport->send(&s->c[0], message(s), s->bytes);
	return err;
}

static void backlog_add(unsigned int queued)
{
	struct subject *s = subject_add("backlog", "umpsc");

	s->bytes = 64;
	s->batch = queued;
	s->transport = transport_find("umpsc");
	s->open = backlog_open;
	s->run = pair_run;
	s->close = transport_close;
}

/* ---- create, clone: made and closed -------------------------------------- */

static int create_open(struct subject *s)
{
	int err = transport_open(s);

	if (!err)
		transport_close(s);
	return err;
}

static double create_run(struct subject *s, unsigned int n)
{
	double start = now_ns();

	for (; n; n--) {
		if (transport_open(s))
			die(s->peer);
		transport_close(s);
	}
	return now_ns() - start;
}

static void create_close(struct subject *s)
{
	(void)s;
}

static void create_add(const char *peer)
{
	struct subject *s = subject_add("create", peer);

	s->bytes = 8;
	s->producers = 0;
	s->transport = transport_find(peer);
	s->open = create_open;
	s->run = create_run;
	s->close = create_close;
}

static double clone_umpsc_run(struct subject *s, unsigned int n)
{
	double start = now_ns();

	for (; n; n--)
		close(s->transport->join(&s->c[0]));
	return now_ns() - start;
}

/* The only way to a further file of a pipe is by a name. */
static int clone_fifo_open(struct subject *s)
{
	snprintf(s->c[0].path, sizeof(s->c[0].path), "/tmp/umpsc-bench-%d",
		 (int)getpid());
	if (mkfifo(s->c[0].path, 0600))
		return -errno;
	s->c[0].tx = open(s->c[0].path, O_RDWR | O_CLOEXEC);
	return s->c[0].tx < 0 ? -errno : 0;
}

static double clone_fifo_run(struct subject *s, unsigned int n)
{
	double start = now_ns();
	int fd;

	for (; n; n--) {
		fd = open(s->c[0].path, O_WRONLY | O_CLOEXEC);
		if (fd < 0)
			die(s->c[0].path);
		close(fd);
	}
	return now_ns() - start;
}

static void clone_fifo_close(struct subject *s)
{
	close(s->c[0].tx);
	unlink(s->c[0].path);
}

static void clone_case(void)
{
	struct subject *s;

	group_new();
	s = subject_add("clone", "umpsc");
	s->producers = 0;
	s->transport = transport_find("umpsc");
	s->open = transport_open;
	s->run = clone_umpsc_run;
	s->close = transport_close;

	s = subject_add("clone", "fifo");
	s->producers = 0;
	s->open = clone_fifo_open;
	s->run = clone_fifo_run;
	s->close = clone_fifo_close;
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
	static const char *const stream_peers[] = { "umpsc", "pipe",
						    "unix-seqpacket",
						    "mqueue" };
	static const unsigned int stream_producers[] = { 1, 4 };
	static const char *const wake_peers[] = { "umpsc", "eventfd", "pipe" };
	static const char *const uring_peers[] = { "umpsc", "pipe" };
	static const char *const create_peers[] = { "umpsc", "pipe",
						    "unix-seqpacket",
						    "eventfd" };
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
	for (i = 0; i < ARRAY_SIZE(stream_producers); i++) {
		group_new();
		for (j = 0; j < ARRAY_SIZE(stream_peers); j++)
			stream_add(stream_peers[j], stream_producers[i]);
	}
	group_new();
	for (i = 0; i < ARRAY_SIZE(wake_peers); i++)
		wake_add(wake_peers[i]);
	group_new();
	for (i = 0; i < ARRAY_SIZE(uring_peers); i++)
		uring_add(uring_peers[i]);
	group_new();
	for (i = 0; i < ARRAY_SIZE(create_peers); i++)
		create_add(create_peers[i]);
	clone_case();
	group_new();
	backlog_add(1000);
	backlog_add(MILLION);
}
