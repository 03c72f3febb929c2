// SPDX-License-Identifier: GPL-2.0-only
/*
 * UMPSC_CREDS: each message tells who sent it, as the receiver's namespaces know
 * the sender.
 */
#include "umpsc_test.h"

#define NAME "creds"
#define HDR (sizeof(struct umpsc_record) + sizeof(struct umpsc_creds))
#define SIZE(len) UMPSC_RECORD_SIZE(HDR, len)

/* What uids and gids become that a user namespace does not know. */
#define OVERFLOW_ID 65534

/* Users and groups that nobody else in the machine has. */
#define REAL_UID 1001
#define EFFECTIVE_UID 1002
#define REAL_GID 2001
#define EFFECTIVE_GID 2002

static unsigned char buf[1 << 16] __attribute__((aligned(8)));

FIXTURE(channel)
{
	int rx;
	int tx;
	struct umpsc_info m;
	struct umpsc_creds me;
};

FIXTURE_SETUP(channel)
{
	ASSERT_EQ(0, umpsc_private_with(&self->rx, &self->tx, UMPSC_CREDS, 0, 0,
					NULL));
	self->m.state = UMPSC_STATE_CLAIMED;
	self->m.flags = UMPSC_CREDS;
	self->m.strong = 1;
	self->me.pid = getpid();
	self->me.uid = getuid();
	self->me.gid = getgid();
}

FIXTURE_TEARDOWN(channel)
{
	EXPECT_EMPTY(self->rx);
	EXPECT_STATE(self->rx, UMPSC_ROLE_RECEIVER, &self->m);
	close(self->rx);
	close(self->tx);
}

/* What INFO says to both ends is the model. */
#define EXPECT_BOTH()                                       \
	EXPECT_VIEWS(&self->m, UMPSC_VIEW_SENDER(self->tx), \
		     UMPSC_VIEW_RECEIVER(self->rx))

/* The model after @n messages of @bytes in all went through. */
static void model_passed(struct umpsc_info *m, __u64 n, __u64 bytes)
{
	umpsc_model_send(m, n, bytes);
	umpsc_model_receive(m, n, bytes);
}

/* A record of a channel with UMPSC_CREDS, and what it says of the sender. */
static void expect_record(struct __test_metadata *_metadata, int line,
			  const struct umpsc_record *r, const void *data,
			  size_t len, const struct umpsc_creds *want)
{
	struct umpsc_creds got;
	size_t i;

	ASSERT_NE(NULL, r) TH_LOG("line %d", line);
	ASSERT_EQ(HDR, r->hdr) TH_LOG("line %d", line);
	ASSERT_EQ(len, r->len) TH_LOG("line %d", line);
	memcpy(&got, r + 1, sizeof(got));
	EXPECT_EQ(want->pid, got.pid) TH_LOG("line %d", line);
	EXPECT_EQ(want->uid, got.uid) TH_LOG("line %d", line);
	EXPECT_EQ(want->gid, got.gid) TH_LOG("line %d", line);
	EXPECT_EQ(0, got.pad) TH_LOG("line %d", line);
	EXPECT_EQ(0, memcmp(umpsc_record_data(r), data, len))
	TH_LOG("other data than expected, line %d", line);
	for (i = HDR + len; i < SIZE(len); i++)
		EXPECT_EQ(0, ((const unsigned char *)r)[i])
	TH_LOG("padding, line %d", line);
}

#define EXPECT_RECORD(r, data, len, want) \
	expect_record(_metadata, __LINE__, r, data, len, want)

/* RECV without waiting gives this message into just its size; returns its header. */
static struct umpsc_record expect_from(struct __test_metadata *_metadata,
				       int line, int fd,
				       const struct umpsc_creds *want,
				       const void *data, size_t len)
{
	unsigned char *got = malloc(SIZE(len) + 1);
	const struct umpsc_record *r = (void *)got;
	struct umpsc_record ret;
	__u64 used, need;

	ASSERT_NE(NULL, got);
	memset(got, UMPSC_POISON, SIZE(len) + 1);
	ASSERT_EQ(1, umpsc_recv(fd, got, SIZE(len), 1, 0, &used, &need))
	TH_LOG("RECV: %s, line %d", strerror(errno), line);
	EXPECT_EQ(SIZE(len), used) TH_LOG("line %d", line);
	EXPECT_EQ(0, need) TH_LOG("line %d", line);
	EXPECT_EQ(UMPSC_POISON, got[SIZE(len)]) TH_LOG("line %d", line);
	expect_record(_metadata, line, r, data, len, want);
	ret = *r;
	free(got);
	return ret;
}

static struct umpsc_record expect_text_from(struct __test_metadata *_metadata,
					    int line, int fd,
					    const struct umpsc_creds *want,
					    const char *string)
{
	return expect_from(_metadata, line, fd, want, string, strlen(string));
}

#define EXPECT_FROM(fd, want, string) \
	expect_text_from(_metadata, __LINE__, fd, want, string)
#define EXPECT_DATA_FROM(fd, want, data, len) \
	expect_from(_metadata, __LINE__, fd, want, data, len)

/* ---- Processes that send and receive ------------------------------------ */

/* What a child is to do, and what came of it; shared with it. */
struct job {
	int fd;
	const char *text;
	int count;
	struct umpsc_creds creds[8];
	bool (*prepare)(void);
	atomic_int pid; /* of who did it, as known here */
};

static struct job *job_new(struct __test_metadata *_metadata, int fd,
			   const char *text)
{
	struct job *job = mmap(NULL, sizeof(*job), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, job);
	job->fd = fd;
	job->text = text;
	return job;
}

static bool job_send(struct job *job)
{
	size_t len = strlen(job->text);

	return write(job->fd, job->text, len) == (ssize_t)len;
}

/* Receives all that is queued, and keeps who sent it. */
static bool job_receive(struct job *job)
{
	const struct umpsc_record *r;
	__u64 used, need;
	size_t pos = 0;
	int i;

	memset(buf, UMPSC_POISON, sizeof(buf));
	job->count = umpsc_recv(job->fd, buf, sizeof(buf),
				ARRAY_SIZE(job->creds), 0, &used, &need);
	for (i = 0; i < job->count; i++) {
		r = umpsc_batch_next(buf, used, &pos);
		if (!r || r->hdr != HDR)
			return false;
		memcpy(&job->creds[i], r + 1, sizeof(job->creds[i]));
	}
	return job->count >= 0;
}

/* Does the job in a child, after job->prepare. */
static bool job_in_child(struct job *job, bool (*fn)(struct job *job))
{
	pid_t pid = fork();

	if (!pid)
		_exit((job->prepare && !job->prepare()) || !fn(job));
	job->pid = pid;
	return pid > 0 && umpsc_wait_child(pid) == 0;
}

/*
 * Does the job in a child of a child, which lives in the namespaces that
 * job->prepare made for children.
 */
static bool job_in_grandchild(struct job *job, bool (*fn)(struct job *job))
{
	pid_t pid = fork(), inner;

	if (!pid) {
		if (!job->prepare())
			_exit(1);
		inner = fork();
		if (!inner)
			_exit(!fn(job));
		job->pid = inner;
		_exit(inner < 0 || umpsc_wait_child(inner) != 0);
	}
	return pid > 0 && umpsc_wait_child(pid) == 0;
}

static bool in_other_ids(void)
{
	return !setresgid(REAL_GID, EFFECTIVE_GID, 0) &&
	       !setresuid(REAL_UID, EFFECTIVE_UID, 0);
}

static bool in_pid_namespace(void)
{
	return !unshare(CLONE_NEWPID);
}

static bool in_user_namespace(void)
{
	return !unshare(CLONE_NEWUSER);
}

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done = write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	close(fd);
	return done;
}

/* One in which root is user 5 and group 7, and nobody else is known. */
static bool in_mapped_user_namespace(void)
{
	return !unshare(CLONE_NEWUSER) &&
	       write_file("/proc/self/setgroups", "deny") &&
	       write_file("/proc/self/uid_map", "5 0 1") &&
	       write_file("/proc/self/gid_map", "7 0 1");
}

/* ---- What the record says ----------------------------------------------- */

TEST_LONG(channel, write_tells_who_sent_it)
{
	struct umpsc_record r;
	int i;

	EXPECT_BOTH();
	for (i = 0; i < 3; i++) {
		EXPECT_WRITE(self->tx, "message");
		umpsc_model_send(&self->m, 1, 7);
		EXPECT_BOTH();
		EXPECT_EQ(7, umpsc_fionread(self->rx));
		r = EXPECT_FROM(self->rx, &self->me, "message");
		EXPECT_EQ(i, r.seq);
		EXPECT_EQ(1, r.sender);
		EXPECT_EQ(0, r.time_ns);
		EXPECT_EQ(0, r.flags);
		umpsc_model_receive(&self->m, 1, 7);
		EXPECT_BOTH();
	}
}

TEST_LONG(channel, send_tells_who_sent_each_message_of_a_batch)
{
	struct umpsc_batch b = {};
	unsigned char data[128];
	struct umpsc_record r;
	__u64 bytes = 0;
	int i, tx;

	for (i = 0; i < 100; i++) {
		umpsc_fill(data, i, i);
		umpsc_batch_add(&b, data, i);
		bytes += i;
	}
	tx = ASSERT_FD(umpsc_clone(self->tx, 0));
	ASSERT_EQ(100, umpsc_batch_send(tx, &b));
	close(tx);
	umpsc_model_send(&self->m, 100, bytes);
	EXPECT_BOTH();
	for (i = 0; i < 100; i++) {
		umpsc_fill(data, i, i);
		r = EXPECT_DATA_FROM(self->rx, &self->me, data, i);
		EXPECT_EQ(i, r.seq);
		EXPECT_EQ(2, r.sender);
		EXPECT_EQ(0, r.time_ns);
		EXPECT_EQ(0, r.flags);
		umpsc_model_receive(&self->m, 1, i);
	}
	EXPECT_BOTH();
	umpsc_batch_free(&b);
}

/* Lengths about the edges of pages, of the kernel's pieces and of powers of two. */
static size_t edge_lens(size_t *lens)
{
	static const size_t around[] = { 12256, 12272, 16384, 65536, 1 << 20 };
	size_t n = 0, i, len;

	for (len = 0; len <= 70; len++)
		lens[n++] = len;
	for (len = 3980; len <= 4100; len++)
		lens[n++] = len;
	for (len = 8060; len <= 8200; len++)
		lens[n++] = len;
	for (i = 0; i < ARRAY_SIZE(around); i++)
		for (len = around[i] - 1; len <= around[i] + 1; len++)
			lens[n++] = len;
	return n;
}

TEST_LONG(channel, every_size_arrives_byte_for_byte)
{
	unsigned char *data = malloc((1 << 20) + 64);
	struct umpsc_batch b = {};
	size_t lens[512], n, i;
	__u64 used, need;

	ASSERT_NE(NULL, data);
	n = edge_lens(lens);
	for (i = 0; i < n; i++) {
		umpsc_fill(data, lens[i], i);
		b.len = 0;
		umpsc_batch_add(&b, data, lens[i]);
		ASSERT_EQ(1, umpsc_batch_send(self->tx, &b));
		EXPECT_ERR(EMSGSIZE,
			   umpsc_recv(self->rx, data, SIZE(lens[i]) - 1, 1, 0,
				      &used, &need));
		EXPECT_EQ(0, used);
		EXPECT_EQ(SIZE(lens[i]), need);
		/* What did not fit is not to be found in the buffer. */
		EXPECT_TRUE(umpsc_filled(data, lens[i], i));
		EXPECT_DATA_FROM(self->rx, &self->me, data, lens[i]);
		model_passed(&self->m, 1, lens[i]);
		if (!lens[i])
			continue;
		ASSERT_EQ(lens[i], write(self->tx, data, lens[i]));
		EXPECT_DATA_FROM(self->rx, &self->me, data, lens[i]);
		model_passed(&self->m, 1, lens[i]);
	}
	EXPECT_BOTH();
	umpsc_batch_free(&b);
	free(data);
}

TEST_LONG(channel, mixed_batch_of_empty_and_large_messages)
{
	static const size_t lens[] = { 0, 1,	  0,	70000, 7,    0,
				       0, 4048,	  4064, 9000,  8,    3968,
				       0, 300000, 0,	5,     4096, 0 };
	const size_t count = ARRAY_SIZE(lens), size = 1 << 20;
	unsigned char *data = malloc(size), *got = malloc(size);
	struct umpsc_batch b = {};
	const struct umpsc_record *r;
	__u64 used, need, bytes = 0;
	size_t i, turn, pos, want = 0;

	ASSERT_TRUE(data && got);
	for (i = 0; i < count; i++) {
		umpsc_fill(data, lens[i], i);
		umpsc_batch_add(&b, data, lens[i]);
		bytes += lens[i];
		want += SIZE(lens[i]);
	}
	for (turn = 0; turn < 3; turn++) {
		ASSERT_EQ(count, umpsc_batch_send(self->tx, &b));
		umpsc_model_send(&self->m, count, bytes);
		EXPECT_BOTH();
		memset(got, UMPSC_POISON, size);
		ASSERT_EQ(count, umpsc_recv(self->rx, got, want, 100, 0, &used,
					    &need));
		EXPECT_EQ(want, used);
		EXPECT_EQ(0, need);
		EXPECT_EQ(UMPSC_POISON, got[want]);
		for (i = 0, pos = 0; i < count; i++) {
			r = umpsc_batch_next(got, used, &pos);
			umpsc_fill(data, lens[i], i);
			EXPECT_RECORD(r, data, lens[i], &self->me);
			EXPECT_EQ(turn * count + i, r->seq);
			EXPECT_EQ(1, r->sender);
		}
		umpsc_model_receive(&self->m, count, bytes);
		EXPECT_BOTH();
	}
	umpsc_batch_free(&b);
	free(data);
	free(got);
}

TEST_LONG(channel, recv_after_read_gives_the_rest)
{
	const struct umpsc_record *r;
	struct umpsc_batch b = {};
	__u64 used, need;
	size_t pos = 0;

	umpsc_batch_add(&b, "one", 3);
	umpsc_batch_add(&b, "twotwotwo", 9);
	umpsc_batch_add(&b, "three", 5);
	ASSERT_EQ(3, umpsc_batch_send(self->tx, &b));
	umpsc_batch_free(&b);
	umpsc_model_send(&self->m, 3, 17);
	EXPECT_FROM(self->rx, &self->me, "one");
	umpsc_model_receive(&self->m, 1, 3);
	ASSERT_EQ(3, read(self->rx, buf, 3));
	EXPECT_BOTH();

	EXPECT_ERR(EMSGSIZE,
		   umpsc_recv(self->rx, buf, SIZE(6) - 1, 9, 0, &used, &need));
	EXPECT_EQ(0, used);
	EXPECT_EQ(SIZE(6), need);
	EXPECT_EQ(6, umpsc_fionread(self->rx));
	EXPECT_BOTH();

	memset(buf, UMPSC_POISON, sizeof(buf));
	ASSERT_EQ(2,
		  umpsc_recv(self->rx, buf, sizeof(buf), 9, 0, &used, &need));
	EXPECT_EQ(SIZE(6) + SIZE(5), used);
	EXPECT_EQ(0, need);
	EXPECT_EQ(UMPSC_POISON, buf[used]);
	umpsc_model_receive(&self->m, 2, 14);
	EXPECT_BOTH();
	r = umpsc_batch_next(buf, used, &pos);
	EXPECT_RECORD(r, "twotwo", 6, &self->me);
	EXPECT_EQ(UMPSC_REST, r->flags);
	EXPECT_EQ(1, r->seq);
	r = umpsc_batch_next(buf, used, &pos);
	EXPECT_RECORD(r, "three", 5, &self->me);
	EXPECT_EQ(0, r->flags);
	EXPECT_EQ(2, r->seq);
}

TEST_LONG(channel, read_shows_no_creds)
{
	size_t len;

	for (len = 1; len < 9000; len += len < 100 ? 1 : 397) {
		umpsc_fill(buf, len, len);
		ASSERT_EQ(len, write(self->tx, buf, len));
		EXPECT_EQ(len, umpsc_fionread(self->rx));
		memset(buf, UMPSC_POISON, sizeof(buf));
		ASSERT_EQ(len, read(self->rx, buf, sizeof(buf)));
		EXPECT_TRUE(umpsc_filled(buf, len, len));
		EXPECT_EQ(UMPSC_POISON, buf[len]);
		model_passed(&self->m, 1, len);
	}
	EXPECT_BOTH();
}

TEST_LONG(channel, recv_takes_what_fits_the_buffer_and_max)
{
	struct umpsc_batch b = {};
	__u64 used, need;
	int i;

	for (i = 0; i < 20; i++)
		umpsc_batch_add(&b, "0123456789", 10);
	ASSERT_EQ(20, umpsc_batch_send(self->tx, &b));
	umpsc_batch_free(&b);
	umpsc_model_send(&self->m, 20, 200);

	EXPECT_EQ(0,
		  umpsc_recv(self->rx, buf, sizeof(buf), 0, 0, &used, &need));
	EXPECT_EQ(0, used);
	EXPECT_EQ(0, need);
	/* As much as two records would need with a plain header. */
	EXPECT_EQ(1, umpsc_recv(self->rx, buf, 2 * 48, 99, 0, &used, &need));
	EXPECT_EQ(SIZE(10), used);
	EXPECT_EQ(0, need);
	EXPECT_EQ(3, umpsc_recv(self->rx, buf, 4 * SIZE(10) - 1, 99, 0, &used,
				&need));
	EXPECT_EQ(3 * SIZE(10), used);
	EXPECT_EQ(0, need);
	EXPECT_EQ(4,
		  umpsc_recv(self->rx, buf, 4 * SIZE(10), 99, 0, &used, &need));
	EXPECT_EQ(4 * SIZE(10), used);
	EXPECT_EQ(5,
		  umpsc_recv(self->rx, buf, sizeof(buf), 5, 0, &used, &need));
	EXPECT_EQ(5 * SIZE(10), used);
	umpsc_model_receive(&self->m, 13, 130);
	EXPECT_BOTH();
	EXPECT_ERR(EMSGSIZE,
		   umpsc_recv(self->rx, buf, SIZE(10) - 1, 9, 0, &used, &need));
	EXPECT_EQ(0, used);
	EXPECT_EQ(SIZE(10), need);
	EXPECT_ERR(EMSGSIZE, umpsc_recv(self->rx, buf, 0, 9, 0, &used, &need));
	EXPECT_EQ(SIZE(10), need);
	EXPECT_BOTH();
	EXPECT_EQ(7,
		  umpsc_recv(self->rx, buf, sizeof(buf), -1, 0, &used, &need));
	EXPECT_EQ(7 * SIZE(10), used);
	umpsc_model_receive(&self->m, 7, 70);
	EXPECT_BOTH();
}

TEST_LONG(channel, efault_anywhere_takes_nothing)
{
	const size_t page = sysconf(_SC_PAGESIZE),
		     size = SIZE(5) + SIZE(0) + SIZE(99);
	unsigned char *end = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const struct umpsc_record *r;
	struct umpsc_info before;
	struct umpsc_batch b = {};
	unsigned char data[99];
	__u64 used, need;
	size_t cut, pos = 0;

	ASSERT_NE(MAP_FAILED, end);
	end += page;
	ASSERT_EQ(0, munmap(end, page));
	umpsc_fill(data, sizeof(data), 1);
	umpsc_batch_add(&b, "first", 5);
	umpsc_batch_add(&b, "", 0);
	umpsc_batch_add(&b, data, sizeof(data));
	ASSERT_EQ(3, umpsc_batch_send(self->tx, &b));
	umpsc_batch_free(&b);
	umpsc_model_send(&self->m, 3, 104);
	ASSERT_EQ(0, umpsc_info(self->rx, &before));
	for (cut = 0; cut < size; cut++) {
		EXPECT_ERR(EFAULT, umpsc_recv(self->rx, end - cut, size, 9, 0,
					      &used, &need));
		EXPECT_UNCHANGED(self->rx, &before);
	}
	ASSERT_EQ(3,
		  umpsc_recv(self->rx, end - size, size, 9, 0, &used, &need));
	umpsc_model_receive(&self->m, 3, 104);
	EXPECT_EQ(size, used);
	r = umpsc_batch_next(end - size, used, &pos);
	EXPECT_RECORD(r, "first", 5, &self->me);
	EXPECT_EQ(0, r->seq);
	r = umpsc_batch_next(end - size, used, &pos);
	EXPECT_RECORD(r, "", 0, &self->me);
	r = umpsc_batch_next(end - size, used, &pos);
	EXPECT_RECORD(r, data, sizeof(data), &self->me);
	EXPECT_EQ(2, r->seq);
	munmap(end - page, page);
}

static bool job_forward(struct job *job)
{
	return umpsc_send(job->fd, buf, job->count) == 3;
}

TEST_LONG(channel, received_batch_can_be_sent_on_as_it_lies)
{
	struct job *job = job_new(_metadata, self->tx, "");
	struct umpsc_creds forwarder = self->me;
	struct umpsc_batch b = {};
	unsigned char data[5000];
	__u64 used, need;
	int rx, tx;

	umpsc_fill(data, sizeof(data), 1);
	umpsc_batch_add(&b, "one", 3);
	umpsc_batch_add(&b, "", 0);
	umpsc_batch_add(&b, data, sizeof(data));
	ASSERT_EQ(3, umpsc_batch_send(self->tx, &b));
	umpsc_batch_free(&b);
	ASSERT_EQ(3,
		  umpsc_recv(self->rx, buf, sizeof(buf), 9, 0, &used, &need));

	/* To a plain channel: without. */
	ASSERT_EQ(0, umpsc_private(&rx, &tx));
	ASSERT_EQ(3, umpsc_send(tx, buf, used));
	EXPECT_TEXT(rx, "one");
	EXPECT_TEXT(rx, "");
	EXPECT_MESSAGE(rx, data, sizeof(data));
	close(rx);
	close(tx);

	/* To one with creds, by somebody else: with those of who forwards. */
	job->prepare = in_other_ids;
	job->count = used;
	ASSERT_TRUE(job_in_child(job, job_forward));
	forwarder.pid = job->pid;
	forwarder.uid = REAL_UID;
	forwarder.gid = REAL_GID;
	EXPECT_EQ(3, EXPECT_FROM(self->rx, &forwarder, "one").seq);
	EXPECT_EQ(4, EXPECT_FROM(self->rx, &forwarder, "").seq);
	EXPECT_DATA_FROM(self->rx, &forwarder, data, sizeof(data));
	model_passed(&self->m, 3, 5003);
	model_passed(&self->m, 3, 5003);
	EXPECT_BOTH();
}

/* ---- Who it is ---------------------------------------------------------- */

TEST_LONG(channel, ids_are_the_real_ones)
{
	struct job *job = job_new(_metadata, self->tx, "other");
	struct umpsc_creds want;

	job->prepare = in_other_ids;
	ASSERT_TRUE(job_in_child(job, job_send));
	want = (struct umpsc_creds){ job->pid, REAL_UID, REAL_GID, 0 };
	EXPECT_NE(self->me.pid, want.pid);
	EXPECT_FROM(self->rx, &want, "other");
	model_passed(&self->m, 1, 5);
	EXPECT_WRITE(self->tx, "mine");
	EXPECT_FROM(self->rx, &self->me, "mine");
	model_passed(&self->m, 1, 4);
}

TEST_LONG(channel, sender_that_is_dead_is_still_told)
{
	struct umpsc_creds want[8];
	const struct umpsc_record *r;
	__u64 used, need;
	struct job *job;
	size_t pos = 0;
	int i;

	for (i = 0; i < 8; i++) {
		want[i] = self->me;
		if (i % 2) {
			EXPECT_WRITE(self->tx, "mine");
			continue;
		}
		job = job_new(_metadata, self->tx, "dead");
		ASSERT_TRUE(job_in_child(job, job_send));
		want[i].pid = job->pid;
		EXPECT_ERR(ESRCH, kill(job->pid, 0));
	}
	ASSERT_EQ(8,
		  umpsc_recv(self->rx, buf, sizeof(buf), 9, 0, &used, &need));
	for (i = 0; i < 8; i++) {
		r = umpsc_batch_next(buf, used, &pos);
		EXPECT_RECORD(r, i % 2 ? "mine" : "dead", 4, &want[i]);
	}
	model_passed(&self->m, 8, 32);
}

/* Also where each send gets the memory of the one before. */
TEST_LONG(channel, senders_in_turn_are_told_apart)
{
	struct job *job = job_new(_metadata, self->tx, "theirs");
	struct umpsc_creds want;
	int i;

	job->prepare = in_other_ids;
	for (i = 0; i < 20; i++) {
		ASSERT_TRUE(job_in_child(job, job_send));
		want = (struct umpsc_creds){ job->pid, REAL_UID, REAL_GID, 0 };
		EXPECT_FROM(self->rx, &want, "theirs");
		EXPECT_WRITE(self->tx, "mine..");
		EXPECT_FROM(self->rx, &self->me, "mine..");
		model_passed(&self->m, 1, 6);
		model_passed(&self->m, 1, 6);
	}
}

static bool job_send_passed(struct job *job)
{
	job->fd = umpsc_take_fd(job->fd);
	return job_send(job);
}

TEST_LONG(channel, passed_handle_tells_who_sends_and_not_who_opened)
{
	struct umpsc_creds want;
	struct job *job;
	int sock[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	ASSERT_EQ(0, umpsc_pass_fd(sock[0], self->tx));
	job = job_new(_metadata, sock[1], "passed");
	job->prepare = in_other_ids;
	ASSERT_TRUE(job_in_child(job, job_send_passed));
	want = (struct umpsc_creds){ job->pid, REAL_UID, REAL_GID, 0 };
	EXPECT_EQ(1, EXPECT_FROM(self->rx, &want, "passed").sender);
	model_passed(&self->m, 1, 6);
	close(sock[0]);
	close(sock[1]);
}

/* A handle that a child makes and its parent uses. */
static bool job_clone(struct job *job)
{
	int fd = umpsc_clone(job->fd, 0);

	return fd >= 0 && !umpsc_pass_fd(job->count, fd);
}

TEST_LONG(channel, handle_made_by_another_tells_who_sends)
{
	struct job *job = job_new(_metadata, self->tx, "");
	int sock[2], tx;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	job->count = sock[1];
	job->prepare = in_other_ids;
	ASSERT_TRUE(job_in_child(job, job_clone));
	tx = ASSERT_FD(umpsc_take_fd(sock[0]));
	EXPECT_WRITE(tx, "mine");
	EXPECT_EQ(2, EXPECT_FROM(self->rx, &self->me, "mine").sender);
	model_passed(&self->m, 1, 4);
	close(tx);
	close(sock[0]);
	close(sock[1]);
}

#ifdef SYS_setresuid32
#define SYS_SETRESUID SYS_setresuid32
#define SYS_SETRESGID SYS_setresgid32
#else
#define SYS_SETRESUID SYS_setresuid
#define SYS_SETRESGID SYS_setresgid
#endif

/* The bare system calls, which the library would make in every thread. */
static long send_with_ids_of_the_thread(void *arg)
{
	if (syscall(SYS_SETRESGID, REAL_GID, -1, -1) ||
	    syscall(SYS_SETRESUID, REAL_UID, -1, -1))
		return -1;
	return write(*(int *)arg, "thread", 6);
}

TEST_LONG(channel, thread_tells_its_process_and_its_own_ids)
{
	struct umpsc_creds want = self->me;
	struct umpsc_thread t;

	want.uid = REAL_UID;
	want.gid = REAL_GID;
	ASSERT_EQ(0, umpsc_thread_start(&t, send_with_ids_of_the_thread,
					&self->tx));
	ASSERT_TRUE(umpsc_thread_join(&t));
	ASSERT_EQ(6, t.ret);
	EXPECT_NE(self->me.pid, t.tid);
	EXPECT_FROM(self->rx, &want, "thread");
	EXPECT_WRITE(self->tx, "main");
	EXPECT_FROM(self->rx, &self->me, "main");
	model_passed(&self->m, 1, 6);
	model_passed(&self->m, 1, 4);
}

/* ---- Namespaces --------------------------------------------------------- */

static bool job_send_as_init(struct job *job)
{
	return getpid() == 1 && job_send(job);
}

TEST_LONG(channel, sender_in_a_pid_namespace_has_its_outer_pid)
{
	struct job *job = job_new(_metadata, self->tx, "inner");
	struct umpsc_creds want = self->me;

	job->prepare = in_pid_namespace;
	ASSERT_TRUE(job_in_grandchild(job, job_send_as_init));
	want.pid = job->pid;
	EXPECT_LT(1, want.pid);
	EXPECT_FROM(self->rx, &want, "inner");
	model_passed(&self->m, 1, 5);
}

/* Somebody from outside sends, then the receiver itself and a child of it. */
static bool job_receive_as_init(struct job *job)
{
	struct job inner = { .fd = job->count, .text = "inner" };

	return getpid() == 1 && job_send(&inner) &&
	       job_in_child(&inner, job_send) && job_receive(job);
}

TEST_LONG(channel, receiver_in_a_pid_namespace_sees_no_pid_of_outside)
{
	struct job *job = job_new(_metadata, self->rx, "");

	EXPECT_WRITE(self->tx, "outer");
	job->count = self->tx;
	job->prepare = in_pid_namespace;
	ASSERT_TRUE(job_in_grandchild(job, job_receive_as_init));
	ASSERT_EQ(3, job->count);
	EXPECT_EQ(0, job->creds[0].pid);
	EXPECT_EQ(self->me.uid, job->creds[0].uid);
	EXPECT_EQ(self->me.gid, job->creds[0].gid);
	EXPECT_EQ(1, job->creds[1].pid);
	EXPECT_EQ(2, job->creds[2].pid);
	umpsc_model_send(&self->m, 3, 15);
	umpsc_model_receive(&self->m, 3, 15);
}

TEST_LONG(channel, receiver_in_a_user_namespace_sees_overflow_ids)
{
	struct job *job = job_new(_metadata, self->rx, "");

	EXPECT_WRITE(self->tx, "root");
	job->prepare = in_user_namespace;
	ASSERT_TRUE(job_in_child(job, job_receive));
	ASSERT_EQ(1, job->count);
	EXPECT_EQ(self->me.pid, job->creds[0].pid);
	EXPECT_EQ(OVERFLOW_ID, job->creds[0].uid);
	EXPECT_EQ(OVERFLOW_ID, job->creds[0].gid);
	model_passed(&self->m, 1, 4);
}

TEST_LONG(channel, receiver_in_a_user_namespace_sees_mapped_ids)
{
	struct job *send = job_new(_metadata, self->tx, "other");
	struct job *job = job_new(_metadata, self->rx, "");

	EXPECT_WRITE(self->tx, "mine.");
	send->prepare = in_other_ids;
	ASSERT_TRUE(job_in_child(send, job_send));
	job->prepare = in_mapped_user_namespace;
	ASSERT_TRUE(job_in_child(job, job_receive));
	ASSERT_EQ(2, job->count);
	EXPECT_EQ(self->me.pid, job->creds[0].pid);
	EXPECT_EQ(5, job->creds[0].uid);
	EXPECT_EQ(7, job->creds[0].gid);
	EXPECT_EQ(send->pid, job->creds[1].pid);
	EXPECT_EQ(OVERFLOW_ID, job->creds[1].uid);
	EXPECT_EQ(OVERFLOW_ID, job->creds[1].gid);
	umpsc_model_send(&self->m, 2, 10);
	umpsc_model_receive(&self->m, 2, 10);
}

TEST_LONG(channel, sender_in_a_user_namespace_has_its_outer_ids)
{
	struct job *job = job_new(_metadata, self->tx, "inner");
	struct umpsc_creds want = self->me;

	job->prepare = in_mapped_user_namespace;
	ASSERT_TRUE(job_in_child(job, job_send));
	want.pid = job->pid;
	EXPECT_FROM(self->rx, &want, "inner");
	model_passed(&self->m, 1, 5);
}

/* ---- Channels ----------------------------------------------------------- */

TEST_LONG(channel, channel_without_the_flag_tells_nobody)
{
	int rx, tx;

	ASSERT_EQ(0, umpsc_private_with(&rx, &tx, UMPSC_TIMESTAMP, 0, 0, NULL));
	EXPECT_WRITE(tx, "plain");
	EXPECT_EQ(UMPSC_RECORD_HDR, EXPECT_TEXT(rx, "plain").hdr);
	close(rx);
	close(tx);
}

TEST_LONG(channel, creds_and_timestamp)
{
	struct umpsc_info want = {
		.state = UMPSC_STATE_CLAIMED,
		.flags = UMPSC_CREDS | UMPSC_TIMESTAMP,
		.strong = 1,
	};
	struct umpsc_batch b = {};
	__u64 before, after;
	struct umpsc_info info;
	struct umpsc_record r;
	int rx, tx, i;

	ASSERT_EQ(0, umpsc_private_with(&rx, &tx, want.flags, 0, 0, NULL));
	umpsc_batch_add(&b, "batch", 5);
	umpsc_batch_add(&b, "", 0);
	before = umpsc_now_ns();
	EXPECT_WRITE(tx, "write");
	ASSERT_EQ(2, umpsc_batch_send(tx, &b));
	after = umpsc_now_ns();
	umpsc_model_send(&want, 3, 10);
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_RECEIVER(rx));
	ASSERT_EQ(0, umpsc_info(rx, &info));
	EXPECT_LT(0, info.oldest_ns);
	EXPECT_LE(info.oldest_ns, umpsc_now_ns() - before);
	for (i = 0; i < 3; i++) {
		static const char *const texts[] = { "write", "batch", "" };

		r = EXPECT_FROM(rx, &self->me, texts[i]);
		EXPECT_EQ(i, r.seq);
		EXPECT_LE(before, r.time_ns);
		EXPECT_LE(r.time_ns, after);
	}
	umpsc_model_receive(&want, 3, 10);
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_RECEIVER(rx));
	umpsc_batch_free(&b);
	close(rx);
	close(tx);
}

static bool job_open_and_send(struct job *job)
{
	job->fd = umpsc_open(NAME, O_WRONLY);
	return job_send(job);
}

TEST_LONG(channel, successor_on_a_standing_node_sees_who_sent)
{
	struct umpsc_info want = {
		.state = UMPSC_STATE_CLAIMED | UMPSC_STATE_STANDING,
		.flags = UMPSC_CREDS,
		.strong = 0,
	};
	struct job *job = job_new(_metadata, -1, "standing");
	struct umpsc_creds creds = self->me;
	int rx;

	umpsc_node_remove(NAME);
	ASSERT_EQ(0,
		  umpsc_node_create(NAME, UMPSC_CREDS | UMPSC_STANDING, NULL));
	rx = ASSERT_FD(umpsc_open(NAME, O_RDONLY));
	EXPECT_STATE(rx, UMPSC_ROLE_RECEIVER, &want);
	ASSERT_TRUE(job_in_child(job, job_open_and_send));
	creds.pid = job->pid;
	/* It goes in the middle of a message, which then is whole again. */
	ASSERT_EQ(5, read(rx, buf, 5));
	close(rx);
	rx = ASSERT_FD(umpsc_open(NAME, O_RDONLY));
	umpsc_model_send(&want, 1, 8);
	EXPECT_STATE(rx, UMPSC_ROLE_RECEIVER, &want);
	EXPECT_EQ(0, EXPECT_FROM(rx, &creds, "standing").flags);
	umpsc_model_receive(&want, 1, 8);
	EXPECT_STATE(rx, UMPSC_ROLE_RECEIVER, &want);
	close(rx);
	EXPECT_EQ(0, umpsc_node_remove(NAME));
}

/* ---- What it costs ------------------------------------------------------ */

TEST_LONG(channel, memory_and_totals_go_back)
{
	struct umpsc_query before, q;
	struct umpsc_batch b = {};
	struct umpsc_info info;
	int rx, tx, i;

	ASSERT_EQ(0, umpsc_query(self->rx, &before));
	for (i = 0; i < 50; i++)
		umpsc_batch_add(&b, buf, i * 97);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, umpsc_private_with(&rx, &tx, UMPSC_CREDS, 0, 0,
						NULL));
		EXPECT_WRITE(tx, "small");
		ASSERT_EQ(60000, write(tx, buf, 60000));
		ASSERT_EQ(50, umpsc_batch_send(tx, &b));
		ASSERT_EQ(0, umpsc_info(tx, &info));
		EXPECT_EQ(52, info.messages);
		EXPECT_LT(info.bytes, info.memory);
		ASSERT_EQ(0, umpsc_query(self->rx, &q));
		EXPECT_EQ(before.channels + 1, q.channels);
		EXPECT_EQ(before.messages + 52, q.messages);
		EXPECT_EQ(before.bytes + info.bytes, q.bytes);
		/* Received, or discarded with its receiver. */
		while (!i &&
		       umpsc_recv(rx, buf, sizeof(buf), -1, 0, NULL, NULL) > 0)
			;
		close(i ? rx : -1);
		ASSERT_EQ(0, umpsc_info(tx, &info));
		EXPECT_EQ(0, info.memory);
		EXPECT_EQ(0, info.messages);
		EXPECT_EQ(i ? 52 : 0, info.discarded);
		close(i ? -1 : rx);
		close(tx);
		EXPECT_TRUE(UMPSC_UNTIL(!umpsc_query(self->rx, &q) &&
					!memcmp(&before, &q, sizeof(q))));
	}
	umpsc_batch_free(&b);
}

/* Every way in which what a send holds is given up; job->count: a deaf channel. */
static bool job_send_in_all_ways(struct job *job)
{
	struct umpsc_batch b = {};
	struct umpsc_record *r;
	int rx, tx, i;

	for (i = 0; i < 3; i++) {
		umpsc_batch_add(&b, "received", 8);
		if (!job_send(job) || umpsc_batch_send(job->fd, &b) != i + 1)
			return false;
	}
	/* Refused: closed, malformed, not to be read. */
	if (umpsc_batch_send(job->count, &b) >= 0 || errno != EPIPE ||
	    write(job->count, "deaf", 4) >= 0 || errno != EPIPE ||
	    umpsc_send(job->fd, b.data, b.len - 1) >= 0 || errno != EINVAL ||
	    umpsc_send(job->fd, NULL, 4096) >= 0 || errno != EFAULT ||
	    syscall(SYS_write, job->fd, NULL, 4096L) >= 0 || errno != EFAULT)
		return false;
	/* Packed anew, then discarded. */
	r = (void *)b.data;
	r->hdr = 40;
	r->len = 0;
	if (umpsc_private_with(&rx, &tx, UMPSC_CREDS, 0, 0, NULL) ||
	    umpsc_send(tx, b.data, 40) != 1 || write(tx, "lost", 4) != 4)
		return false;
	close(rx);
	return close(tx) == 0;
}

TEST_LONG(channel, no_process_is_held_for_longer_than_its_message)
{
	const long children = 200;
	long before, after, i;
	struct job *job;
	int rx, deaf;

	before = umpsc_slab_objects("pid");
	if (before < 0)
		SKIP(return, "no slab cache named pid in /proc/slabinfo");
	ASSERT_EQ(0, umpsc_private_with(&rx, &deaf, UMPSC_CREDS, 0, 0, NULL));
	ASSERT_EQ(0, umpsc_close(rx));
	job = job_new(_metadata, self->tx, "text");
	job->count = deaf;
	for (i = 0; i < children; i++)
		ASSERT_TRUE(job_in_child(job, job_send_in_all_ways));
	umpsc_model_send(&self->m, 9 * children, 60 * children);
	/* While it is queued, its sender's pid is. */
	EXPECT_LE(before + children * 3 / 4, umpsc_slab_objects("pid"));
	while (umpsc_recv(self->rx, buf, sizeof(buf), -1, 0, NULL, NULL) > 0)
		;
	self->m.messages = 0;
	self->m.bytes = 0;
	self->m.received = self->m.sent;
	self->m.received_bytes = self->m.sent_bytes;
	/* Once RCU has let go of them. */
	EXPECT_TRUE(UMPSC_UNTIL((after = umpsc_slab_objects("pid")) <
				before + children / 4))
	TH_LOG("%ld pids before, %ld after", before, after);
	close(rx);
	close(deaf);
}

TEST_HARNESS_MAIN
