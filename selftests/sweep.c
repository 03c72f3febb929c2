// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fault sweep: on each path of each call the first, second, third ... allocation
 * or user copy fails, until none is left to fail.  After each failure the whole
 * state is what it was before, and the same call then does what it should.
 *
 * A path is a call and what it meets, a variant; EXPECTED lists them all, so that
 * none can be lost.  Linux fails what a thread asks for with
 * /proc/thread-self/fail-nth, in its own code on the way as in ours.  It needs
 * CONFIG_FAILSLAB, _FAIL_PAGE_ALLOC and _FAULT_INJECTION_USERCOPY.
 */
#include "umpsc_memory.h"

#include <liburing.h>
#include <sys/epoll.h>

/* A path says what is other than with most. */
#pragma GCC diagnostic ignored "-Woverride-init"

#define NAME "sweep"
#define NODE UMPSC_NODE "-" NAME
#define SYSFS "/sys/class/umpsc/umpsc-" NAME
#define NO_FAULTS "this kernel has no fault injection"

/* Messages of all shapes: one piece, one above a page, with pages, with many. */
#define SMALL 100
#define WHOLE 6000
#define PAGED 20000
#define HUGE (1 << 18)

/* No path has so many allocations and copies that this is not the end of it. */
#define TRIES_MAX 20000

#define ROOM 4096

static unsigned char out[HUGE + ROOM];
static unsigned char in[HUGE + ROOM] __attribute__((aligned(8)));

/* ---- Faults ------------------------------------------------------------- */

#define DEBUGFS "/sys/kernel/debug/"

/* The addresses of a function of Linux, from @start to @end. */
static bool function_range(const char *name, unsigned long long *start,
			   unsigned long long *end)
{
	FILE *symbols = fopen("/proc/kallsyms", "re");
	unsigned long long addr;
	char symbol[256];
	int pass;

	*start = 0;
	*end = ~0ULL;
	if (!symbols)
		return false;
	/* They are not in order. */
	for (pass = 0; pass < 2; pass++) {
		rewind(symbols);
		while (fscanf(symbols, "%llx %*c %255s%*[^\n]", &addr,
			      symbol) == 2) {
			if (!pass && !strcmp(symbol, name))
				*start = addr;
			if (pass && addr > *start && addr < *end)
				*end = addr;
		}
	}
	fclose(symbols);
	return *start;
}

/*
 * Of @kind, what @function calls is all that fails ("require"), or all that does not
 * ("reject").
 */
static bool faults_filter(const char *kind, const char *how,
			  const char *function)
{
	unsigned long long start, end;
	char path[128], text[32];

	if (!function_range(function, &start, &end))
		return false;
	snprintf(path, sizeof(path), DEBUGFS "%s/%s-start", kind, how);
	snprintf(text, sizeof(text), "0x%llx", start);
	if (!umpsc_write_file(path, text))
		return false;
	snprintf(path, sizeof(path), DEBUGFS "%s/%s-end", kind, how);
	snprintf(text, sizeof(text), "0x%llx", end);
	return umpsc_write_file(path, text);
}

/*
 * What the slab allocator and kmemleak need for themselves does not fail: both make
 * do without, and as they need it only now and then, the count would slip by it, and
 * so over a failure.
 */
static bool faults_spare_allocators(void)
{
	return faults_filter("fail_page_alloc", "reject", "allocate_slab") &&
	       faults_filter("failslab", "reject", "__alloc_object");
}

/* All else does, also single pages and what may wait; and without a word. */
static bool faults_set_up(void)
{
	char text[32];

	/* Of the boot's first test: /proc/kallsyms is long. */
	if (umpsc_read_file(DEBUGFS "failslab/reject-end", text, sizeof(text)) >
		    0 &&
	    strtoull(text, NULL, 0))
		return true;
	return umpsc_write_file(DEBUGFS "failslab/ignore-gfp-wait", "N") &&
	       umpsc_write_file(DEBUGFS "failslab/verbose", "0") &&
	       umpsc_write_file(DEBUGFS "fail_page_alloc/ignore-gfp-wait",
				"N") &&
	       umpsc_write_file(DEBUGFS "fail_page_alloc/min-order", "0") &&
	       umpsc_write_file(DEBUGFS "fail_page_alloc/verbose", "0") &&
	       umpsc_write_file(DEBUGFS "fail_usercopy/verbose", "0") &&
	       faults_spare_allocators();
}

/* Only what @function calls fails; NULL: everything does again. */
static bool faults_only_in(const char *function)
{
	static const char *const kinds[] = { "failslab", "fail_page_alloc",
					     "fail_usercopy" };
	char path[128];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (function) {
			if (!faults_filter(kinds[i], "require", function))
				return false;
			continue;
		}
		snprintf(path, sizeof(path), DEBUGFS "%s/require-start",
			 kinds[i]);
		if (!umpsc_write_file(path, "0"))
			return false;
		snprintf(path, sizeof(path), DEBUGFS "%s/require-end",
			 kinds[i]);
		if (!umpsc_write_file(path, "0xffffffffffffffff"))
			return false;
	}
	return true;
}

/* The @n-th allocation or copy of this thread fails, from its next call on. */
static bool faults_arm(int fd, unsigned int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", n);

	return pwrite(fd, text, len, 0) == len;
}

/* Whether it has failed by now; if not, it will not. */
static bool faults_disarm(int fd)
{
	char text[16] = {};
	bool fired;

	/* To ask is a copy too, and may be the one that fails. */
	fired = pread(fd, text, sizeof(text) - 1, 0) > 0 && !atoi(text);
	while (!faults_arm(fd, 0))
		;
	return fired;
}

/* ---- What a call meets --------------------------------------------------- */

struct shot {
	struct umpsc_query query;
	struct umpsc_info info[6];
	long refs;
	int fds;
	int unread;
	bool node;
	bool sysfs;
};

/* What a call returns: what the path says, or what it would be needless to say. */
enum what {
	RETURNS_RET,
	RETURNS_LEN,
	RETURNS_COUNT,
	RETURNS_FILE,
};

/* What is there, for all tries or for each. */
struct world {
	/* Kept for all tries. */
	int manager;
	int faults;
	int kmsg;

	/* Made anew for each: a private channel; or -1. */
	int rx;
	int tx;
	int weak;
	/* A manager of the node, and another handle of its channel. */
	int node;
	int other;
	/* What the call made. */
	int made;
	/* Of epoll and io_uring. */
	int epoll;
	struct io_uring ring;
	bool has_ring;
	/* Its request waits, and is for the call to resume. */
	bool waiting;
	/* The real one, if it is not root. */
	uid_t user;
	/* The module's own limits, and whether one was lowered. */
	struct umpsc_limits_saved limits;
	bool lowered;

	struct umpsc_batch batch;
	struct umpsc_channel_args channel;
	__u64 used;
	__u64 need;
};

struct path {
	/* The private channel: flags, limits, and whether its receiver may wait. */
	__u32 flags;
	struct umpsc_limits limits;
	bool waits;
	/*
	 * Its messages, those of the call too, and how many are queued ahead of these:
	 * each one a send, or all of them together.
	 */
	size_t len;
	__u32 count;
	__u32 ahead;
	bool together;
	__u16 hdr;
	/* The access mode of an open, flags of the node. */
	int access;
	__u32 node_flags;
	/* At most so many messages, or bytes; and what a read has taken before. */
	size_t most;
	size_t gone;
	/* The handle that is asked. */
	size_t handle;

	void (*meet)(struct __test_metadata *_metadata, struct world *self,
		     const struct path *variant);
	long (*call)(struct world *self, const struct path *variant);
	void (*done)(struct __test_metadata *_metadata, struct world *self,
		     const struct path *variant);
	/* What it returns: if it makes a file, what INFO says of that; its error. */
	enum what what;
	struct umpsc_info info;
	long ret;
	int err;
	/* So many failures there are at least, by what the call has to do. */
	unsigned int least;
	/* Linux needs memory for it before the module is called. */
	bool early;
	/* A page of the channel's own comes or goes by it. */
	bool keeps;
};

FIXTURE(path)
{
	struct world world;
};

FIXTURE_VARIANT(path)
{
	struct path path;
};

#define SWEEP_OF(...) UMPSC_VARIANT(.path = { __VA_ARGS__ })

#define HANDLE(name) offsetof(struct world, name)

static int handle_of(struct world *self, size_t handle)
{
	return *(int *)((char *)self + handle);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

FIXTURE_SETUP(path)
{
	struct world *world = &self->world;

	memset(world, 0, sizeof(*world));
	world->rx = -1;
	world->tx = -1;
	world->weak = -1;
	world->node = -1;
	world->other = -1;
	world->made = -1;
	world->epoll = -1;
	world->faults = open(UMPSC_FAIL_NTH, O_RDWR | O_CLOEXEC);
	if (world->faults < 0)
		SKIP(return, NO_FAULTS);
	/* The frame of a signal would have its faults, too. */
	umpsc_timer_stop();
	ASSERT_TRUE(faults_set_up());
	world->kmsg = ASSERT_FD(umpsc_log_open());
	world->manager = ASSERT_FD(umpsc_open_manager());
	ASSERT_TRUE(umpsc_limits_save(&world->limits));
	umpsc_node_remove(NAME);
	umpsc_fill(out, sizeof(out), 1);
	/* A page that comes late is an allocation of the call that touches it. */
	ASSERT_EQ(0, mlockall(MCL_CURRENT | MCL_FUTURE));
}

static bool world_raise_limits(struct world *self)
{
	if (self->lowered && !umpsc_limits_restore(&self->limits))
		return false;
	self->lowered = false;
	return true;
}

/*
 * Nothing userspace does prints a warning.  That a device or its directory could not
 * be added the kernel's own core says, in one line; for which node it could not be
 * loaded, the module does; and that the machine is slow is said of anything.
 */
static void expect_quiet_log(struct __test_metadata *_metadata, int kmsg)
{
	char line[2048];
	bool known;
	ssize_t n;

	while ((n = read(kmsg, line, sizeof(line) - 1)) > 0) {
		line[n] = 0;
		known = strstr(line, "kobject_add_internal failed for umpsc") ||
			strstr(line, "kobject: can not set name properly!") ||
			strstr(line, "umpsc: channels: no node") ||
			strstr(line, "hrtimer: interrupt took");
		EXPECT_TRUE(known)
		{
			TH_LOG("the kernel says: %s", line);
		}
	}
	EXPECT_EQ(EAGAIN, errno);
}

FIXTURE_TEARDOWN(path)
{
	if (self->world.faults < 0)
		return;
	EXPECT_TRUE(world_raise_limits(&self->world));
	expect_quiet_log(_metadata, self->world.kmsg);
	close(self->world.kmsg);
	close(self->world.manager);
	close(self->world.faults);
}

static void world_make(struct __test_metadata *_metadata, struct world *self,
		       const struct path *variant)
{
	ASSERT_EQ(0, umpsc_private_with(&self->rx, &self->tx, variant->flags,
					variant->waits ? 0 : O_NONBLOCK, 0,
					&variant->limits));
	self->weak = ASSERT_FD(umpsc_downgrade(self->tx, 0));
	memset(in, UMPSC_POISON, sizeof(in));
	if (variant->meet)
		variant->meet(_metadata, self, variant);
}

static void world_unmake(struct world *self)
{
	close_fd(&self->made);
	close_fd(&self->other);
	close_fd(&self->node);
	close_fd(&self->weak);
	close_fd(&self->tx);
	close_fd(&self->rx);
	close_fd(&self->epoll);
	if (self->has_ring)
		io_uring_queue_exit(&self->ring);
	self->has_ring = false;
	self->waiting = false;
	setreuid(0, -1);
	world_raise_limits(self);
	umpsc_batch_free(&self->batch);
	umpsc_node_remove(NAME);
}

/* ---- The whole state ----------------------------------------------------- */

static const size_t handles[] = { HANDLE(rx),	HANDLE(tx),    HANDLE(weak),
				  HANDLE(node), HANDLE(other), HANDLE(made) };

static void shoot(struct __test_metadata *_metadata, struct world *self,
		  struct shot *shot)
{
	size_t i;
	int fd;

	memset(shot, 0, sizeof(*shot));
	ASSERT_EQ(0, umpsc_query(self->manager, &shot->query));
	for (i = 0; i < ARRAY_SIZE(handles); i++) {
		fd = handle_of(self, handles[i]);
		if (fd < 0)
			continue;
		ASSERT_EQ(0, umpsc_info(fd, &shot->info[i]));
	}
	shot->unread = self->rx < 0 ? -1 : umpsc_fionread(self->rx);
	shot->refs = umpsc_module_refs();
	shot->fds = umpsc_count_fds();
	shot->node = !access(NODE, F_OK);
	shot->sysfs = !access(SYSFS, F_OK);
}

/* All is as it was, but for @refused sends of the private channel. */
static void expect_shot(struct __test_metadata *_metadata, struct world *self,
			const struct shot *before, __u64 refused, bool keeps)
{
	struct umpsc_info info;
	struct shot now;
	size_t i;

	shoot(_metadata, self, &now);
	EXPECT_EQ(before->query.nodes, now.query.nodes);
	EXPECT_EQ(before->query.channels, now.query.channels);
	EXPECT_EQ(before->query.messages, now.query.messages);
	EXPECT_EQ(before->query.bytes, now.query.bytes);
	EXPECT_TRUE(keeps || before->query.memory == now.query.memory);
	EXPECT_EQ(before->refs, now.refs);
	EXPECT_EQ(before->fds, now.fds);
	EXPECT_EQ(before->unread, now.unread);
	EXPECT_EQ(before->node, now.node);
	EXPECT_EQ(before->sysfs, now.sysfs);
	for (i = 0; i < ARRAY_SIZE(handles); i++) {
		if (handle_of(self, handles[i]) < 0)
			continue;
		info = before->info[i];
		if (i < 3)
			info.refused_memory += refused;
		EXPECT_UNCHANGED(handle_of(self, handles[i]), &info);
	}
}

/* ---- Messages ------------------------------------------------------------ */

/* Message @i of all that a path has; what lies before it is there as well. */
static const unsigned char *message(unsigned int i)
{
	return out + UMPSC_RECORD_HDR_MAX + i;
}

static void batch_make(struct world *self, const struct path *variant)
{
	size_t extra = variant->hdr ? variant->hdr - UMPSC_RECORD_HDR : 0;
	struct umpsc_record *r;
	__u32 i;

	for (i = variant->ahead; i < variant->count; i++) {
		r = umpsc_batch_add(&self->batch, message(i) - extra,
				    extra + variant->len);
		r->len = variant->len;
		r->hdr = UMPSC_RECORD_HDR + extra;
	}
}

static void meet_batch(struct __test_metadata *_metadata, struct world *self,
		       const struct path *variant)
{
	batch_make(self, variant);
}

/* A backlog, so that small runs share a page. */
static void meet_backlog(struct __test_metadata *_metadata, struct world *self,
			 const struct path *variant)
{
	__u32 i;

	for (i = 0; i < variant->ahead; i++)
		ASSERT_EQ(variant->len,
			  write(self->tx, message(i), variant->len));
	batch_make(self, variant);
}

/* A user who has nothing yet: the call opens the account. */
static void meet_new_user(struct __test_metadata *_metadata, struct world *self,
			  const struct path *variant)
{
	ASSERT_EQ(0, setreuid(++self->user, -1));
}

static void meet_batch_of_new_user(struct __test_metadata *_metadata,
				   struct world *self,
				   const struct path *variant)
{
	batch_make(self, variant);
	meet_new_user(_metadata, self, variant);
}

/*
 * Such a user, and the module holds all it may: the account is opened, and freed again
 * when it cannot be charged, each time that there is a reason to look once more.
 */
static void meet_ceiling(struct __test_metadata *_metadata, struct world *self,
			 const struct path *variant)
{
	struct umpsc_query q;

	batch_make(self, variant);
	ASSERT_EQ(0, umpsc_query(self->manager, &q));
	self->lowered = true;
	ASSERT_TRUE(umpsc_limit_set("max_bytes", q.memory));
	meet_new_user(_metadata, self, variant);
}

/* The messages are queued. */
static void meet_messages(struct __test_metadata *_metadata, struct world *self,
			  const struct path *variant)
{
	__u32 i;

	if (variant->together) {
		batch_make(self, variant);
		ASSERT_EQ(variant->count,
			  umpsc_batch_send(self->tx, &self->batch));
		return;
	}
	for (i = 0; i < variant->count; i++)
		ASSERT_EQ(variant->len,
			  write(self->tx, message(i), variant->len));
}

/* One was received, and what held it waits to be used again. */
static void meet_spare(struct __test_metadata *_metadata, struct world *self,
		       const struct path *variant)
{
	ASSERT_EQ(variant->len, write(self->tx, message(0), variant->len));
	ASSERT_EQ(variant->len, read(self->rx, in, sizeof(in)));
}

static void meet_closed(struct __test_metadata *_metadata, struct world *self,
			const struct path *variant)
{
	ASSERT_EQ(0, umpsc_close(self->rx));
}

static void meet_end(struct __test_metadata *_metadata, struct world *self,
		     const struct path *variant)
{
	close_fd(&self->tx);
}

/* The first part of the first message has been read. */
static void meet_rest(struct __test_metadata *_metadata, struct world *self,
		      const struct path *variant)
{
	meet_messages(_metadata, self, variant);
	ASSERT_EQ(variant->gone, read(self->rx, in, variant->gone));
}

static void meet_empties(struct __test_metadata *_metadata, struct world *self,
			 const struct path *variant)
{
	struct umpsc_batch empties = {};
	int i;

	for (i = 0; i < 3; i++)
		umpsc_batch_add(&empties, NULL, 0);
	ASSERT_EQ(3, umpsc_batch_send(self->tx, &empties));
	umpsc_batch_free(&empties);
	meet_messages(_metadata, self, variant);
}

/* In @in are @n records, of the messages from @first on; from @gone in the first. */
static void expect_records(struct __test_metadata *_metadata,
			   struct world *self, const struct path *variant,
			   __u32 n, __u32 first, size_t gone)
{
	size_t hdr = UMPSC_RECORD_HDR, pos = 0;
	const struct umpsc_record *r;
	struct umpsc_creds creds;
	__u32 i;

	if (variant->flags & UMPSC_CREDS)
		hdr += sizeof(creds);
	for (i = 0; i < n; i++, gone = 0) {
		r = umpsc_batch_next(in, self->used, &pos);
		ASSERT_NE(NULL, r);
		ASSERT_EQ(hdr, r->hdr);
		ASSERT_EQ(variant->len - gone, r->len);
		EXPECT_EQ(gone ? UMPSC_REST : 0, r->flags);
		EXPECT_EQ(!!(variant->flags & UMPSC_TIMESTAMP), !!r->time_ns);
		EXPECT_EQ(0, memcmp(message(first + i) + gone,
				    umpsc_record_data(r), r->len));
		if (variant->flags & UMPSC_CREDS) {
			memcpy(&creds, r + 1, sizeof(creds));
			EXPECT_EQ(getpid(), creds.pid);
		}
	}
	EXPECT_EQ(self->used, pos);
}

static long receive(struct world *self, size_t size, __u32 most)
{
	return umpsc_recv(self->rx, in, size, most, 0, &self->used,
			  &self->need);
}

/* Exactly the messages from @first on are queued, and go out right. */
static void expect_queued(struct __test_metadata *_metadata, struct world *self,
			  const struct path *variant, __u32 first)
{
	__u32 n = variant->count - first;
	struct umpsc_info info;

	ASSERT_EQ(0, umpsc_info(self->rx, &info));
	EXPECT_EQ(n, info.messages);
	EXPECT_EQ(n * variant->len, info.bytes);
	if (!n)
		return;
	ASSERT_EQ(n, receive(self, sizeof(in), 1000));
	expect_records(_metadata, self, variant, n, first, 0);
	ASSERT_EQ(0, umpsc_info(self->rx, &info));
	EXPECT_EQ(0, info.messages);
	EXPECT_EQ(0, info.memory);
}

/* ---- Sending -------------------------------------------------------------- */

static long call_write(struct world *self, const struct path *variant)
{
	return write(self->tx, message(variant->ahead), variant->len);
}

/* In @n pieces of which no two are alike. */
static long write_pieces(struct world *self, const struct path *variant, int n)
{
	struct iovec iov[32];
	size_t at = 0, len;
	int i;

	for (i = 0; i < n; i++, at += len) {
		len = i == n - 1 ? variant->len - at :
				   variant->len / n + i - n / 2;
		iov[i] = (struct iovec){ (void *)(message(0) + at), len };
	}
	return writev(self->tx, iov, n);
}

static long call_writev(struct world *self, const struct path *variant)
{
	return write_pieces(self, variant, 3);
}

/* More than the kernel has room for without an allocation. */
static long call_writev_many(struct world *self, const struct path *variant)
{
	return write_pieces(self, variant, 20);
}

static long call_pwritev2(struct world *self, const struct path *variant)
{
	struct iovec iov = { (void *)message(0), variant->len };

	return pwritev2(self->tx, &iov, 1, -1, RWF_NOWAIT);
}

static long call_send(struct world *self, const struct path *variant)
{
	return umpsc_batch_send(self->tx, &self->batch);
}

static void done_sent(struct __test_metadata *_metadata, struct world *self,
		      const struct path *variant)
{
	expect_queued(_metadata, self, variant, 0);
}

static void done_none_sent(struct __test_metadata *_metadata,
			   struct world *self, const struct path *variant)
{
	struct umpsc_info info;

	ASSERT_EQ(0, umpsc_info(self->tx, &info));
	EXPECT_EQ(0, info.messages);
	EXPECT_EQ(0, info.sent);
}

#define WRITE(size, ...)                                                \
	.call = call_write, .done = done_sent, .len = size, .count = 1, \
	.what = RETURNS_LEN, __VA_ARGS__
#define SEND(number, size, ...)                                                \
	.meet = meet_batch, .call = call_send, .done = done_sent, .len = size, \
	.count = number, .together = true, .what = RETURNS_COUNT, __VA_ARGS__

/*
 * The account and the user, three times: first, without the quota, as the tests have
 * CAP_SYS_RESOURCE, and once nothing is charged ahead any more.
 */
#define LEAST_AT_THE_CEILING 6
#define BEYOND_THE_CEILING(how, before, ...)                         \
	.meet = meet_ceiling, .call = how, .ret = -1, .err = EDQUOT, \
	.least = (before) + LEAST_AT_THE_CEILING, __VA_ARGS__

/* The run and the copy; a run with pages: each of them, and a copy for each piece. */
FIXTURE_VARIANT_ADD(path, write_small)
SWEEP_OF(WRITE(SMALL, .least = 2));
FIXTURE_VARIANT_ADD(path, write_two_pages_in_one_piece)
SWEEP_OF(WRITE(WHOLE, .least = 2));
FIXTURE_VARIANT_ADD(path, write_with_pages)
SWEEP_OF(WRITE(PAGED, .least = 10));
FIXTURE_VARIANT_ADD(path, write_huge)
SWEEP_OF(WRITE(HUGE, .least = 128));
FIXTURE_VARIANT_ADD(path, write_with_creds)
SWEEP_OF(WRITE(SMALL, .flags = UMPSC_CREDS, .least = 2));
FIXTURE_VARIANT_ADD(path, write_with_creds_and_pages)
SWEEP_OF(WRITE(PAGED, .flags = UMPSC_CREDS, .least = 10));
FIXTURE_VARIANT_ADD(path, write_with_a_time)
SWEEP_OF(WRITE(SMALL, .flags = UMPSC_TIMESTAMP, .least = 2));
FIXTURE_VARIANT_ADD(path, write_into_what_was_used_before)
SWEEP_OF(WRITE(SMALL, .meet = meet_spare, .keeps = true, .least = 1));
FIXTURE_VARIANT_ADD(path, write_into_what_was_used_before_creds)
SWEEP_OF(WRITE(SMALL, .meet = meet_spare, .keeps = true, .flags = UMPSC_CREDS,
	       .least = 1));
FIXTURE_VARIANT_ADD(path, write_of_another_size_than_was_used_before)
SWEEP_OF(WRITE(PAGED, .meet = meet_spare, .keeps = true, .least = 10));
FIXTURE_VARIANT_ADD(path, write_to_a_closed_channel)
SWEEP_OF(.meet = meet_closed, .call = call_write, .done = done_none_sent,
	 .len = SMALL, .ret = -1, .err = EPIPE);
FIXTURE_VARIANT_ADD(path, write_to_a_full_channel)
SWEEP_OF(.limits = { .max_bytes = SMALL - 1 }, .call = call_write,
	 .done = done_none_sent, .len = SMALL, .ret = -1, .err = ENOBUFS,
	 .least = 2);
FIXTURE_VARIANT_ADD(path, write_to_a_full_channel_with_creds)
SWEEP_OF(.flags = UMPSC_CREDS, .limits = { .max_bytes = SMALL - 1 },
	 .call = call_write, .done = done_none_sent, .len = SMALL, .ret = -1,
	 .err = ENOBUFS, .least = 2);
FIXTURE_VARIANT_ADD(path, write_above_the_limit)
SWEEP_OF(.limits = { .max_len = SMALL - 1 }, .call = call_write,
	 .done = done_none_sent, .len = SMALL, .ret = -1, .err = EMSGSIZE);
/*
 * The copy, as a run of its own is made where there is no page.  For a new user the
 * account and the user besides.
 */
FIXTURE_VARIANT_ADD(path, write_that_begins_a_page_for_many)
SWEEP_OF(WRITE(SMALL, .meet = meet_backlog, .keeps = true, .ahead = 16,
	       .count = 17, .least = 1));
FIXTURE_VARIANT_ADD(path, write_into_a_page_for_many)
SWEEP_OF(WRITE(SMALL, .meet = meet_backlog, .keeps = true, .ahead = 20,
	       .count = 21, .least = 1));
FIXTURE_VARIANT_ADD(path, write_into_a_page_for_many_with_creds)
SWEEP_OF(WRITE(SMALL, .meet = meet_backlog, .keeps = true, .flags = UMPSC_CREDS,
	       .ahead = 20, .count = 21, .least = 1));
FIXTURE_VARIANT_ADD(path, write_behind_a_full_page_for_many)
SWEEP_OF(WRITE(SMALL, .meet = meet_backlog, .keeps = true, .ahead = 41,
	       .count = 42, .least = 1));
FIXTURE_VARIANT_ADD(path, write_of_a_new_user)
SWEEP_OF(WRITE(SMALL, .meet = meet_new_user, .least = 4));
FIXTURE_VARIANT_ADD(path, write_of_a_new_user_beyond_the_ceiling)
SWEEP_OF(BEYOND_THE_CEILING(call_write, 0, .done = done_none_sent,
			    .len = SMALL));
FIXTURE_VARIANT_ADD(path, writev_of_three)
SWEEP_OF(WRITE(PAGED, .call = call_writev, .least = 12));
FIXTURE_VARIANT_ADD(path, writev_of_twenty)
SWEEP_OF(WRITE(PAGED, .call = call_writev_many, .least = 29, .early = true));
FIXTURE_VARIANT_ADD(path, pwritev2_nowait)
SWEEP_OF(WRITE(SMALL, .call = call_pwritev2, .least = 2));

/* The arguments, the run, the batch. */
FIXTURE_VARIANT_ADD(path, send_of_nothing)
SWEEP_OF(.call = call_send, .done = done_none_sent, .least = 1);
FIXTURE_VARIANT_ADD(path, send_one)
SWEEP_OF(SEND(1, SMALL, .least = 3));
FIXTURE_VARIANT_ADD(path, send_three)
SWEEP_OF(SEND(3, SMALL, .least = 3));
FIXTURE_VARIANT_ADD(path, send_two_pages_in_one_piece)
SWEEP_OF(SEND(50, SMALL, .least = 3));
FIXTURE_VARIANT_ADD(path, send_into_a_page_for_many)
SWEEP_OF(SEND(3, SMALL, .meet = meet_backlog, .keeps = true, .ahead = 20,
	      .count = 23, .least = 2));
FIXTURE_VARIANT_ADD(path, send_with_pages)
SWEEP_OF(SEND(200, SMALL, .least = 14));
FIXTURE_VARIANT_ADD(path, send_huge)
SWEEP_OF(SEND(2, HUGE / 2, .least = 128));
FIXTURE_VARIANT_ADD(path, send_with_creds)
SWEEP_OF(SEND(3, SMALL, .flags = UMPSC_CREDS, .least = 3));
FIXTURE_VARIANT_ADD(path, send_with_a_time)
SWEEP_OF(SEND(3, SMALL, .flags = UMPSC_TIMESTAMP, .least = 3));
FIXTURE_VARIANT_ADD(path, send_of_another_header)
SWEEP_OF(SEND(3, SMALL, .hdr = 64, .least = 4));
FIXTURE_VARIANT_ADD(path, send_of_another_header_with_pages)
SWEEP_OF(SEND(100, SMALL, .hdr = UMPSC_RECORD_HDR_MAX, .least = 20));
FIXTURE_VARIANT_ADD(path, send_of_another_header_with_creds)
SWEEP_OF(SEND(3, SMALL, .hdr = 64, .flags = UMPSC_CREDS, .least = 4));
FIXTURE_VARIANT_ADD(path, send_to_a_full_channel)
SWEEP_OF(.limits = { .max_msgs = 2 }, .meet = meet_batch, .call = call_send,
	 .done = done_none_sent, .count = 3, .len = SMALL, .ret = -1,
	 .err = ENOBUFS, .least = 3);
FIXTURE_VARIANT_ADD(path, send_above_the_limit)
SWEEP_OF(.limits = { .max_len = SMALL - 1 }, .meet = meet_batch,
	 .call = call_send, .done = done_none_sent, .count = 3, .len = SMALL,
	 .ret = -1, .err = EMSGSIZE, .least = 3);
FIXTURE_VARIANT_ADD(path, send_of_a_new_user)
SWEEP_OF(SEND(3, SMALL, .meet = meet_batch_of_new_user, .least = 5));
FIXTURE_VARIANT_ADD(path, send_of_a_new_user_beyond_the_ceiling)
SWEEP_OF(BEYOND_THE_CEILING(call_send, 1, .done = done_none_sent, .count = 3,
			    .len = SMALL));

/* ---- Receiving ------------------------------------------------------------ */

static long call_recv(struct world *self, const struct path *variant)
{
	return receive(self, sizeof(in), variant->most ? variant->most : 1000);
}

static long call_recv_short(struct world *self, const struct path *variant)
{
	return receive(self, UMPSC_RECORD_HDR, 1);
}

static long call_recv_of_none(struct world *self, const struct path *variant)
{
	return receive(self, sizeof(in), 0);
}

static void done_received(struct __test_metadata *_metadata, struct world *self,
			  const struct path *variant)
{
	EXPECT_EQ(0, self->need);
	expect_records(_metadata, self, variant, variant->ret, 0, 0);
	expect_queued(_metadata, self, variant, variant->ret);
}

static void done_rest_received(struct __test_metadata *_metadata,
			       struct world *self, const struct path *variant)
{
	expect_records(_metadata, self, variant, 1, 0, variant->gone);
	expect_queued(_metadata, self, variant, 1);
}

/* Nothing was received, and the outputs are those of none. */
static void done_none_received(struct __test_metadata *_metadata,
			       struct world *self, const struct path *variant)
{
	EXPECT_EQ(0, self->used);
	EXPECT_EQ(variant->err == EMSGSIZE ?
			  UMPSC_RECORD_SIZE(UMPSC_RECORD_HDR, variant->len) :
			  0,
		  self->need);
	expect_queued(_metadata, self, variant, 0);
}

static long call_read(struct world *self, const struct path *variant)
{
	return read(self->rx, in, variant->most ? variant->most : sizeof(in));
}

static long call_readv(struct world *self, const struct path *variant)
{
	struct iovec iov[] = { { in, 10 },
			       { in + 10, 5000 },
			       { in + 5010, sizeof(in) - 5010 } };

	return readv(self->rx, iov, 3);
}

static long call_preadv2(struct world *self, const struct path *variant)
{
	struct iovec iov = { in, sizeof(in) };

	return preadv2(self->rx, &iov, 1, -1, RWF_NOWAIT);
}

/* So many bytes were read, and the rest of the message is still there. */
static void done_read(struct __test_metadata *_metadata, struct world *self,
		      const struct path *variant)
{
	size_t rest = variant->len - variant->ret;

	EXPECT_EQ(0, memcmp(in, message(0), variant->ret));
	if (!rest) {
		expect_queued(_metadata, self, variant, 1);
		return;
	}
	EXPECT_EQ(rest, umpsc_fionread(self->rx));
	ASSERT_EQ(rest, read(self->rx, in, sizeof(in)));
	EXPECT_EQ(0, memcmp(in, message(0) + variant->ret, rest));
	expect_queued(_metadata, self, variant, 1);
}

static void done_rest_read(struct __test_metadata *_metadata,
			   struct world *self, const struct path *variant)
{
	EXPECT_EQ(0, memcmp(in, message(0) + variant->gone, variant->ret));
	expect_queued(_metadata, self, variant, 1);
}

static void done_none_read(struct __test_metadata *_metadata,
			   struct world *self, const struct path *variant)
{
	expect_queued(_metadata, self, variant, 0);
}

#define RECV(number, size, result, ...)                                  \
	.meet = meet_messages, .call = call_recv, .done = done_received, \
	.count = number, .len = size, .ret = result, __VA_ARGS__
#define READ(size, result, ...)                                      \
	.meet = meet_messages, .call = call_read, .done = done_read, \
	.count = 2, .len = size, .ret = result, __VA_ARGS__

/* The arguments, and a copy for each piece of what is there. */
FIXTURE_VARIANT_ADD(path, recv_one)
SWEEP_OF(RECV(1, SMALL, 1, .least = 2));
FIXTURE_VARIANT_ADD(path, recv_of_three_sends)
SWEEP_OF(RECV(3, SMALL, 3, .least = 4));
FIXTURE_VARIANT_ADD(path, recv_of_a_batch)
SWEEP_OF(RECV(3, SMALL, 3, .together = true, .least = 2));
FIXTURE_VARIANT_ADD(path, recv_of_a_part_of_a_batch)
SWEEP_OF(RECV(3, SMALL, 1, .together = true, .most = 1, .least = 2));
FIXTURE_VARIANT_ADD(path, recv_with_pages)
SWEEP_OF(RECV(2, PAGED, 2, .least = 11));
FIXTURE_VARIANT_ADD(path, recv_huge)
SWEEP_OF(RECV(1, HUGE, 1, .least = 65));
FIXTURE_VARIANT_ADD(path, recv_with_creds)
SWEEP_OF(RECV(3, SMALL, 3, .together = true, .flags = UMPSC_CREDS,
	      .least = 10));
FIXTURE_VARIANT_ADD(path, recv_with_creds_and_pages)
SWEEP_OF(RECV(2, PAGED, 2, .flags = UMPSC_CREDS, .least = 13));
FIXTURE_VARIANT_ADD(path, recv_with_a_time)
SWEEP_OF(RECV(3, SMALL, 3, .flags = UMPSC_TIMESTAMP, .least = 4));
FIXTURE_VARIANT_ADD(path, recv_of_a_rest)
SWEEP_OF(RECV(2, PAGED, 1, .meet = meet_rest, .done = done_rest_received,
	      .gone = SMALL, .most = 1, .least = 7));
FIXTURE_VARIANT_ADD(path, recv_into_too_small_a_buffer)
SWEEP_OF(RECV(2, SMALL, -1, .call = call_recv_short, .done = done_none_received,
	      .err = EMSGSIZE, .least = 1));
FIXTURE_VARIANT_ADD(path, recv_of_none)
SWEEP_OF(RECV(2, SMALL, 0, .call = call_recv_of_none,
	      .done = done_none_received, .least = 1));
FIXTURE_VARIANT_ADD(path, recv_when_nothing_is_there)
SWEEP_OF(.call = call_recv, .done = done_none_received, .ret = -1,
	 .err = EAGAIN, .least = 1);
FIXTURE_VARIANT_ADD(path, recv_past_its_deadline)
SWEEP_OF(.waits = true, .call = call_recv, .done = done_none_received,
	 .ret = -1, .err = ETIMEDOUT, .least = 1);
FIXTURE_VARIANT_ADD(path, recv_of_the_end)
SWEEP_OF(.meet = meet_end, .call = call_recv, .done = done_none_received,
	 .least = 1);

FIXTURE_VARIANT_ADD(path, read_small)
SWEEP_OF(READ(SMALL, SMALL, .least = 1));
FIXTURE_VARIANT_ADD(path, read_of_a_part)
SWEEP_OF(READ(PAGED, WHOLE, .most = WHOLE, .least = 2));
FIXTURE_VARIANT_ADD(path, read_of_the_rest)
SWEEP_OF(READ(PAGED, PAGED - WHOLE, .meet = meet_rest, .done = done_rest_read,
	      .gone = WHOLE, .least = 4));
FIXTURE_VARIANT_ADD(path, read_with_pages)
SWEEP_OF(READ(PAGED, PAGED, .least = 5));
FIXTURE_VARIANT_ADD(path, read_huge)
SWEEP_OF(READ(HUGE, HUGE, .count = 1, .least = 64));
FIXTURE_VARIANT_ADD(path, read_behind_empty_messages)
SWEEP_OF(READ(SMALL, SMALL, .meet = meet_empties, .least = 1));
FIXTURE_VARIANT_ADD(path, readv_of_three)
SWEEP_OF(READ(PAGED, PAGED, .call = call_readv, .least = 7));
FIXTURE_VARIANT_ADD(path, preadv2_nowait)
SWEEP_OF(READ(SMALL, SMALL, .call = call_preadv2, .least = 1));
FIXTURE_VARIANT_ADD(path, read_when_nothing_is_there)
SWEEP_OF(.call = call_read, .done = done_none_read, .ret = -1, .err = EAGAIN);
FIXTURE_VARIANT_ADD(path, read_of_the_end)
SWEEP_OF(.meet = meet_end, .call = call_read, .done = done_none_read);

/* ---- Handles of handles ---------------------------------------------------- */

static long call_clone(struct world *self, const struct path *variant)
{
	self->made = umpsc_clone(handle_of(self, variant->handle), 0);
	return self->made;
}

static long call_downgrade(struct world *self, const struct path *variant)
{
	self->made = umpsc_downgrade(handle_of(self, variant->handle), 0);
	return self->made;
}

static long call_upgrade(struct world *self, const struct path *variant)
{
	self->made = umpsc_upgrade(handle_of(self, variant->handle), 0);
	return self->made;
}

static long call_sender(struct world *self, const struct path *variant)
{
	self->made = umpsc_sender(handle_of(self, variant->handle), O_NONBLOCK);
	return self->made;
}

/* The new file is what the path says, and close-on-exec. */
static void done_made(struct __test_metadata *_metadata, struct world *self,
		      const struct path *variant)
{
	struct umpsc_info info;

	EXPECT_EQ(FD_CLOEXEC, fcntl(self->made, F_GETFD));
	ASSERT_EQ(0, umpsc_info(self->made, &info));
	EXPECT_EQ(variant->info.role, info.role);
	EXPECT_EQ(variant->info.state, info.state);
	EXPECT_EQ(variant->info.strong, info.strong);
	EXPECT_EQ(variant->info.weak, info.weak);
	EXPECT_EQ(variant->info.messages, info.messages);
	EXPECT_EQ(variant->info.generation, info.generation);
}

#define MAKES(how, of, is, ...)                                            \
	.call = how, .handle = HANDLE(of), .done = done_made,              \
	.what = RETURNS_FILE,                                              \
	.info = { .role = is, .state = UMPSC_STATE_CLAIMED, __VA_ARGS__ }, \
	.least = 3

/* The handle, the file and its name. */
FIXTURE_VARIANT_ADD(path, clone)
SWEEP_OF(MAKES(call_clone, tx, UMPSC_ROLE_SENDER, .strong = 2, .weak = 1));
FIXTURE_VARIANT_ADD(path, clone_of_a_new_user)
SWEEP_OF(MAKES(call_clone, tx, UMPSC_ROLE_SENDER, .strong = 2, .weak = 1),
	 .meet = meet_new_user, .least = 5);
FIXTURE_VARIANT_ADD(path, clone_of_a_new_user_beyond_the_ceiling)
SWEEP_OF(BEYOND_THE_CEILING(call_clone, 0, .handle = HANDLE(tx)));
FIXTURE_VARIANT_ADD(path, clone_of_a_weak_sender)
SWEEP_OF(MAKES(call_clone, weak, UMPSC_ROLE_WEAK, .strong = 1, .weak = 2));
FIXTURE_VARIANT_ADD(path, downgrade)
SWEEP_OF(MAKES(call_downgrade, tx, UMPSC_ROLE_WEAK, .strong = 1, .weak = 2));
FIXTURE_VARIANT_ADD(path, upgrade)
SWEEP_OF(MAKES(call_upgrade, weak, UMPSC_ROLE_SENDER, .strong = 2, .weak = 1));
FIXTURE_VARIANT_ADD(path, upgrade_after_the_last_sender)
SWEEP_OF(.meet = meet_end, .call = call_upgrade, .handle = HANDLE(weak),
	 .ret = -1, .err = ESHUTDOWN, .least = 3);
FIXTURE_VARIANT_ADD(path, sender_of_the_receiver)
SWEEP_OF(MAKES(call_sender, rx, UMPSC_ROLE_SENDER, .strong = 2, .weak = 1));
FIXTURE_VARIANT_ADD(path, sender_of_the_receiver_after_the_last_one)
SWEEP_OF(.meet = meet_end, .call = call_sender, .handle = HANDLE(rx), .ret = -1,
	 .err = ESHUTDOWN, .least = 3);

static long call_channel(struct world *self, const struct path *variant)
{
	self->channel = (struct umpsc_channel_args){
		.flags = variant->flags,
		.limits = variant->limits,
	};
	return umpsc_channel(self->manager, &self->channel);
}

static void done_channel(struct __test_metadata *_metadata, struct world *self,
			 const struct path *variant)
{
	EXPECT_EQ(1, umpsc_same(self->channel.receiver_fd,
				self->channel.sender_fd));
	EXPECT_WRITE(self->channel.sender_fd, "x");
	EXPECT_EQ(1, read(self->channel.receiver_fd, in, 10));
	close(self->channel.receiver_fd);
	close(self->channel.sender_fd);
}

/* The arguments, two files, the channel, the arguments back. */
FIXTURE_VARIANT_ADD(path, channel)
SWEEP_OF(.call = call_channel, .done = done_channel, .least = 9);
FIXTURE_VARIANT_ADD(path, channel_with_flags_and_limits)
SWEEP_OF(.call = call_channel, .done = done_channel,
	 .flags = UMPSC_CREDS | UMPSC_TIMESTAMP,
	 .limits = { .max_len = 1000, .max_msgs = 10, .max_bytes = 5000 },
	 .least = 9);
FIXTURE_VARIANT_ADD(path, channel_of_a_new_user)
SWEEP_OF(.meet = meet_new_user, .call = call_channel, .done = done_channel,
	 .least = 11);
FIXTURE_VARIANT_ADD(path, channel_of_a_new_user_beyond_the_ceiling)
SWEEP_OF(BEYOND_THE_CEILING(call_channel, 1));

/* ---- Nodes ------------------------------------------------------------------ */

static void meet_node(struct __test_metadata *_metadata, struct world *self,
		      const struct path *variant)
{
	ASSERT_EQ(0, umpsc_node_create(NAME, variant->node_flags, NULL));
	self->node = ASSERT_FD(umpsc_open(NAME, O_RDWR));
}

static void meet_node_and_new_user(struct __test_metadata *_metadata,
				   struct world *self,
				   const struct path *variant)
{
	meet_node(_metadata, self, variant);
	meet_new_user(_metadata, self, variant);
}

static void meet_node_and_ceiling(struct __test_metadata *_metadata,
				  struct world *self,
				  const struct path *variant)
{
	meet_node(_metadata, self, variant);
	meet_ceiling(_metadata, self, variant);
}

static void node_write(struct __test_metadata *_metadata)
{
	int tx = ASSERT_FD(umpsc_open(NAME, O_WRONLY));

	EXPECT_WRITE(tx, "one");
	EXPECT_WRITE(tx, "two");
	close(tx);
}

/* The node's messages wait for a receiver; their sender has gone. */
static void meet_waiting(struct __test_metadata *_metadata, struct world *self,
			 const struct path *variant)
{
	meet_node(_metadata, self, variant);
	node_write(_metadata);
}

/* A receiver waits for its first sender. */
static void meet_claimed(struct __test_metadata *_metadata, struct world *self,
			 const struct path *variant)
{
	meet_node(_metadata, self, variant);
	self->other = ASSERT_FD(umpsc_open(NAME, O_RDONLY | O_NONBLOCK));
}

/* A sender waits for its receiver. */
static void meet_joined(struct __test_metadata *_metadata, struct world *self,
			const struct path *variant)
{
	meet_node(_metadata, self, variant);
	self->other = ASSERT_FD(umpsc_open(NAME, O_WRONLY));
}

/* The node's first channel has ended. */
static void meet_ended(struct __test_metadata *_metadata, struct world *self,
		       const struct path *variant)
{
	meet_claimed(_metadata, self, variant);
	node_write(_metadata);
	close_fd(&self->other);
}

/* The receiver of a standing node went in the middle of a message. */
static void meet_left(struct __test_metadata *_metadata, struct world *self,
		      const struct path *variant)
{
	int rx;

	meet_waiting(_metadata, self, variant);
	rx = ASSERT_FD(umpsc_open(NAME, O_RDONLY));
	ASSERT_EQ(1, read(rx, in, 1));
	close(rx);
}

static long call_open(struct world *self, const struct path *variant)
{
	self->made = umpsc_open(NAME, variant->access | O_NONBLOCK);
	return self->made;
}

/* The node leads there: its manager tells of the same channel as the new handle. */
static void done_opened(struct __test_metadata *_metadata, struct world *self,
			const struct path *variant)
{
	struct umpsc_info info;

	done_made(_metadata, self, variant);
	if (variant->access == O_RDWR)
		return;
	EXPECT_EQ(1, umpsc_same(self->node, self->made));
	ASSERT_EQ(0, umpsc_info(self->node, &info));
	EXPECT_EQ(variant->info.strong, info.strong);
	if (variant->access == O_WRONLY) {
		EXPECT_WRITE(self->made, "three");
		return;
	}
	if (!variant->info.messages)
		return;
	EXPECT_TEXT(self->made, "one");
	EXPECT_TEXT(self->made, "two");
	EXPECT_EQ(0, umpsc_fionread(self->made));
}

#define OPEN(is, mode, met, ...)                                             \
	.call = call_open, .access = mode, .meet = met, .done = done_opened, \
	.what = RETURNS_FILE, .info = { .role = is, __VA_ARGS__ }
#define OPEN_SENDER(met, ...) \
	OPEN(UMPSC_ROLE_SENDER, O_WRONLY, met, __VA_ARGS__)
#define OPEN_RECEIVER(met, ...)                                                \
	OPEN(UMPSC_ROLE_RECEIVER, O_RDONLY, met, .state = UMPSC_STATE_CLAIMED, \
	     __VA_ARGS__)

/* The path's name and its copy, the file, the handle; the channel, if it is new. */
FIXTURE_VARIANT_ADD(path, open_manager)
SWEEP_OF(OPEN(UMPSC_ROLE_MANAGER, O_RDWR, meet_node), .least = 4);
FIXTURE_VARIANT_ADD(path, open_manager_of_a_new_user)
SWEEP_OF(OPEN(UMPSC_ROLE_MANAGER, O_RDWR, meet_node_and_new_user), .least = 6);
FIXTURE_VARIANT_ADD(path, open_first_sender_of_a_new_user)
SWEEP_OF(OPEN_SENDER(meet_node_and_new_user, .strong = 1, .generation = 1),
	 .least = 7);
FIXTURE_VARIANT_ADD(path, open_first_sender_of_a_new_user_beyond_the_ceiling)
SWEEP_OF(BEYOND_THE_CEILING(call_open, 3, .meet = meet_node_and_ceiling,
			    .access = O_WRONLY));
FIXTURE_VARIANT_ADD(path, open_first_sender)
SWEEP_OF(OPEN_SENDER(meet_node, .strong = 1, .generation = 1), .least = 5);
FIXTURE_VARIANT_ADD(path, open_sender_beside_waiting_messages)
SWEEP_OF(OPEN_SENDER(meet_waiting, .strong = 1, .messages = 2, .generation = 1),
	 .least = 4);
FIXTURE_VARIANT_ADD(path, open_sender_beside_another)
SWEEP_OF(OPEN_SENDER(meet_joined, .strong = 2, .generation = 1), .least = 4);
FIXTURE_VARIANT_ADD(path, open_sender_for_who_waits)
SWEEP_OF(OPEN_SENDER(meet_claimed, .state = UMPSC_STATE_CLAIMED, .strong = 1,
		     .generation = 1),
	 .least = 4);
FIXTURE_VARIANT_ADD(path, open_sender_after_the_end)
SWEEP_OF(OPEN_SENDER(meet_ended, .strong = 1, .generation = 2), .least = 5);
FIXTURE_VARIANT_ADD(path, open_sender_of_a_standing_node)
SWEEP_OF(OPEN_SENDER(meet_left, .state = UMPSC_STATE_STANDING, .strong = 1,
		     .messages = 2, .generation = 1),
	 .node_flags = UMPSC_STANDING, .least = 4);
FIXTURE_VARIANT_ADD(path, open_receiver_first)
SWEEP_OF(OPEN_RECEIVER(meet_node, .generation = 1), .least = 5);
FIXTURE_VARIANT_ADD(path, open_receiver_first_of_a_new_user)
SWEEP_OF(OPEN_RECEIVER(meet_node_and_new_user, .generation = 1), .least = 7);
FIXTURE_VARIANT_ADD(path, open_receiver_of_waiting_messages)
SWEEP_OF(OPEN_RECEIVER(meet_waiting,
		       .state = UMPSC_STATE_CLAIMED | UMPSC_STATE_ENDED,
		       .messages = 2, .generation = 1),
	 .least = 4);
FIXTURE_VARIANT_ADD(path, open_receiver_for_who_joined)
SWEEP_OF(OPEN_RECEIVER(meet_joined, .strong = 1, .generation = 1), .least = 4);
FIXTURE_VARIANT_ADD(path, open_receiver_after_the_end)
SWEEP_OF(OPEN_RECEIVER(meet_ended, .generation = 2), .least = 5);
FIXTURE_VARIANT_ADD(path, open_receiver_of_a_standing_node)
SWEEP_OF(OPEN_RECEIVER(meet_left,
		       .state = UMPSC_STATE_CLAIMED | UMPSC_STATE_STANDING,
		       .messages = 2, .generation = 1),
	 .node_flags = UMPSC_STANDING, .least = 4);
FIXTURE_VARIANT_ADD(path, open_receiver_beside_another)
SWEEP_OF(.meet = meet_claimed, .call = call_open, .access = O_RDONLY, .ret = -1,
	 .err = EBUSY, .least = 4);
FIXTURE_VARIANT_ADD(path, sender_of_a_node_s_receiver)
SWEEP_OF(MAKES(call_sender, other, UMPSC_ROLE_SENDER, .strong = 1,
	       .generation = 1),
	 .meet = meet_claimed);

static long call_create(struct world *self, const struct path *variant)
{
	struct umpsc_create_args args = {
		.name = NAME,
		.mode = 0604,
		.flags = variant->node_flags,
	};

	return umpsc_create(self->manager, &args);
}

static void done_created(struct __test_metadata *_metadata, struct world *self,
			 const struct path *variant)
{
	struct stat st;
	int fd;

	EXPECT_EQ(0, access(SYSFS, F_OK));
	ASSERT_EQ(0, stat(NODE, &st));
	EXPECT_EQ(S_IFCHR | 0604, st.st_mode);
	fd = ASSERT_FD(umpsc_open(NAME, O_WRONLY));
	close(fd);
}

/* The arguments, the node, its number and name, all of a device; the arguments back. */
FIXTURE_VARIANT_ADD(path, create)
SWEEP_OF(.call = call_create, .done = done_created, .least = 20);
FIXTURE_VARIANT_ADD(path, create_standing)
SWEEP_OF(.call = call_create, .done = done_created,
	 .node_flags = UMPSC_STANDING | UMPSC_CREDS, .least = 20);

static long call_remove(struct world *self, const struct path *variant)
{
	return umpsc_remove(self->manager, NAME);
}

static void done_removed(struct __test_metadata *_metadata, struct world *self,
			 const struct path *variant)
{
	struct umpsc_info info;

	EXPECT_NE(0, access(NODE, F_OK));
	EXPECT_NE(0, access(SYSFS, F_OK));
	EXPECT_ERR(ENXIO, umpsc_info(self->node, &info));
	if (self->other < 0)
		return;
	ASSERT_EQ(0, umpsc_info(self->other, &info));
	EXPECT_TRUE(info.state & UMPSC_STATE_ENDED);
}

/* The arguments; nothing that comes then can be refused. */
FIXTURE_VARIANT_ADD(path, remove)
SWEEP_OF(.meet = meet_node, .call = call_remove, .done = done_removed,
	 .least = 1);
FIXTURE_VARIANT_ADD(path, remove_with_waiting_messages)
SWEEP_OF(.meet = meet_waiting, .call = call_remove, .done = done_removed,
	 .least = 1);
FIXTURE_VARIANT_ADD(path, remove_with_a_receiver)
SWEEP_OF(.meet = meet_claimed, .call = call_remove, .done = done_removed,
	 .least = 1);
FIXTURE_VARIANT_ADD(path, remove_with_a_sender)
SWEEP_OF(.meet = meet_joined, .call = call_remove, .done = done_removed,
	 .least = 1);
FIXTURE_VARIANT_ADD(path, remove_of_a_standing_node)
SWEEP_OF(.meet = meet_left, .call = call_remove, .done = done_removed,
	 .node_flags = UMPSC_STANDING, .least = 1);

/* ---- Ends -------------------------------------------------------------------- */

static long call_close(struct world *self, const struct path *variant)
{
	return umpsc_close(self->rx);
}

static void done_closed(struct __test_metadata *_metadata, struct world *self,
			const struct path *variant)
{
	EXPECT_ERR(EPIPE, write(self->tx, "x", 1));
	expect_queued(_metadata, self, variant, 0);
	EXPECT_END(self->rx);
}

FIXTURE_VARIANT_ADD(path, close)
SWEEP_OF(.meet = meet_messages, .call = call_close, .done = done_closed,
	 .count = 3, .len = SMALL);

/* The last close of a file, which is over whatever it returns. */
static long call_drop(struct world *self, const struct path *variant)
{
	int *fd = (int *)((char *)self + variant->handle);
	int dropped = *fd;

	*fd = -1;
	return close(dropped);
}

static void done_receiver_dropped(struct __test_metadata *_metadata,
				  struct world *self,
				  const struct path *variant)
{
	struct umpsc_info info;

	ASSERT_EQ(0, umpsc_info(self->tx, &info));
	EXPECT_EQ(variant->count, info.discarded);
	EXPECT_EQ(0, info.memory);
	EXPECT_EQ(UMPSC_STATE_CLOSED | UMPSC_STATE_RECEIVER_GONE |
			  UMPSC_STATE_ENDED,
		  info.state);
}

static void done_sender_dropped(struct __test_metadata *_metadata,
				struct world *self, const struct path *variant)
{
	expect_queued(_metadata, self, variant, 0);
	EXPECT_END(self->rx);
}

static void done_weak_dropped(struct __test_metadata *_metadata,
			      struct world *self, const struct path *variant)
{
	struct umpsc_info info;

	ASSERT_EQ(0, umpsc_info(self->tx, &info));
	EXPECT_EQ(0, info.weak);
	EXPECT_EQ(1, info.strong);
}

FIXTURE_VARIANT_ADD(path, drop_receiver_with_messages)
SWEEP_OF(.meet = meet_messages, .call = call_drop, .handle = HANDLE(rx),
	 .done = done_receiver_dropped, .count = 3, .len = PAGED);
FIXTURE_VARIANT_ADD(path, drop_last_sender)
SWEEP_OF(.meet = meet_messages, .call = call_drop, .handle = HANDLE(tx),
	 .done = done_sender_dropped, .count = 3, .len = SMALL);
FIXTURE_VARIANT_ADD(path, drop_weak_sender)
SWEEP_OF(.call = call_drop, .handle = HANDLE(weak), .done = done_weak_dropped);

/* ---- Looking ------------------------------------------------------------------ */

static long call_query(struct world *self, const struct path *variant)
{
	struct umpsc_query q;

	return umpsc_query(self->tx, &q);
}

static long call_info(struct world *self, const struct path *variant)
{
	struct umpsc_info info;

	return umpsc_info(handle_of(self, variant->handle), &info);
}

static long call_same(struct world *self, const struct path *variant)
{
	return umpsc_same(self->rx, self->tx);
}

static long call_fionread(struct world *self, const struct path *variant)
{
	return umpsc_fionread(self->rx);
}

static long call_poll(struct world *self, const struct path *variant)
{
	return umpsc_poll(handle_of(self, variant->handle), 0);
}

static void meet_epoll(struct __test_metadata *_metadata, struct world *self,
		       const struct path *variant)
{
	meet_messages(_metadata, self, variant);
	self->epoll = ASSERT_FD(epoll_create1(EPOLL_CLOEXEC));
}

static long call_epoll(struct world *self, const struct path *variant)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT };

	return epoll_ctl(self->epoll, EPOLL_CTL_ADD,
			 handle_of(self, variant->handle), &event);
}

static void done_epoll(struct __test_metadata *_metadata, struct world *self,
		       const struct path *variant)
{
	struct epoll_event event;

	EXPECT_EQ(variant->handle != HANDLE(weak),
		  epoll_wait(self->epoll, &event, 1, 0));
}

/* What is in a file, in @in. */
static long look_into(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;
	int err;

	if (fd < 0)
		return -1;
	n = read(fd, in, ROOM - 1);
	err = errno;
	close(fd);
	errno = err;
	if (n < 0)
		return -1;
	in[n] = 0;
	return 0;
}

static long call_fdinfo(struct world *self, const struct path *variant)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d",
		 handle_of(self, variant->handle));
	return look_into(path);
}

/* A figure of the node in sysfs, likewise. */
static long call_sysfs(struct world *self, const struct path *variant)
{
	return look_into(SYSFS "/queued");
}

static void done_sysfs(struct __test_metadata *_metadata, struct world *self,
		       const struct path *variant)
{
	EXPECT_EQ(0, strcmp((char *)in, "2\n"));
}

static void done_fdinfo(struct __test_metadata *_metadata, struct world *self,
			const struct path *variant)
{
	EXPECT_NE(NULL, strstr((char *)in, "umpsc-messages:\t3\n"));
	EXPECT_NE(NULL, strstr((char *)in, "umpsc-limit-bytes:\t0\n"));
}

#define LOOK(how, of, ...)                                                    \
	.meet = meet_messages, .call = how, .handle = HANDLE(of), .count = 3, \
	.len = SMALL, .done = done_none_read, __VA_ARGS__

FIXTURE_VARIANT_ADD(path, query)
SWEEP_OF(LOOK(call_query, tx, .least = 1));
FIXTURE_VARIANT_ADD(path, info_of_the_receiver)
SWEEP_OF(LOOK(call_info, rx, .least = 1));
FIXTURE_VARIANT_ADD(path, info_of_a_sender)
SWEEP_OF(LOOK(call_info, tx, .least = 1));
FIXTURE_VARIANT_ADD(path, info_of_a_weak_sender)
SWEEP_OF(LOOK(call_info, weak, .least = 1));
FIXTURE_VARIANT_ADD(path, info_of_a_manager)
SWEEP_OF(LOOK(call_info, manager, .least = 1));
FIXTURE_VARIANT_ADD(path, same)
SWEEP_OF(LOOK(call_same, rx, .ret = 1));
FIXTURE_VARIANT_ADD(path, fionread)
SWEEP_OF(LOOK(call_fionread, rx, .ret = SMALL));
FIXTURE_VARIANT_ADD(path, poll_receiver)
SWEEP_OF(LOOK(call_poll, rx, .ret = UMPSC_POLL_IN, .least = 1));
FIXTURE_VARIANT_ADD(path, poll_sender)
SWEEP_OF(LOOK(call_poll, tx, .ret = UMPSC_POLL_OUT, .least = 1));
FIXTURE_VARIANT_ADD(path, poll_weak_sender)
SWEEP_OF(LOOK(call_poll, weak, .least = 1));
FIXTURE_VARIANT_ADD(path, poll_manager)
SWEEP_OF(LOOK(call_poll, manager, .ret = POLLERR, .least = 1));
FIXTURE_VARIANT_ADD(path, epoll_receiver)
SWEEP_OF(LOOK(call_epoll, rx, .meet = meet_epoll, .done = done_epoll,
	      .least = 2));
FIXTURE_VARIANT_ADD(path, epoll_sender)
SWEEP_OF(LOOK(call_epoll, tx, .meet = meet_epoll, .done = done_epoll,
	      .least = 2));
FIXTURE_VARIANT_ADD(path, epoll_weak_sender)
SWEEP_OF(LOOK(call_epoll, weak, .meet = meet_epoll, .done = done_epoll,
	      .least = 2));
FIXTURE_VARIANT_ADD(path, fdinfo_of_the_receiver)
SWEEP_OF(LOOK(call_fdinfo, rx, .done = done_fdinfo, .least = 4));
FIXTURE_VARIANT_ADD(path, fdinfo_of_a_sender)
SWEEP_OF(LOOK(call_fdinfo, tx, .done = done_fdinfo, .least = 4));
FIXTURE_VARIANT_ADD(path, fdinfo_of_a_weak_sender)
SWEEP_OF(LOOK(call_fdinfo, weak, .done = done_fdinfo, .least = 4));
FIXTURE_VARIANT_ADD(path, fdinfo_of_a_manager)
SWEEP_OF(LOOK(call_fdinfo, manager, .least = 4));

FIXTURE_VARIANT_ADD(path, figure_of_a_node)
SWEEP_OF(.meet = meet_waiting, .call = call_sysfs, .done = done_sysfs,
	 .least = 4);

/* ---- io_uring ------------------------------------------------------------------ */

static void meet_ring(struct __test_metadata *_metadata, struct world *self,
		      const struct path *variant)
{
	ASSERT_EQ(0, io_uring_queue_init(8, &self->ring, 0));
	self->has_ring = true;
}

static void meet_ring_and_messages(struct __test_metadata *_metadata,
				   struct world *self,
				   const struct path *variant)
{
	meet_messages(_metadata, self, variant);
	meet_ring(_metadata, self, variant);
}

/* The result of the request, which must be there. */
static int ring_result(struct io_uring *ring)
{
	struct io_uring_cqe *cqe;
	int ret = io_uring_peek_cqe(ring, &cqe);

	if (ret)
		return ret;
	ret = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return ret;
}

/* Submit the request, unless it is there from the try before, and wait: its result. */
static long ring_run(struct world *self,
		     void (*prepare)(struct io_uring_sqe *sqe,
				     struct world *self,
				     const struct path *variant),
		     const struct path *variant)
{
	int ret;

	if (!io_uring_sq_ready(&self->ring))
		prepare(io_uring_get_sqe(&self->ring), self, variant);
	ret = io_uring_submit_and_wait(&self->ring, 1);
	if (ret == 1)
		ret = ring_result(&self->ring);
	else if (!ret)
		ret = -EAGAIN;
	errno = -ret;
	return ret < 0 ? -1 : ret;
}

static void prepare_write(struct io_uring_sqe *sqe, struct world *self,
			  const struct path *variant)
{
	io_uring_prep_write(sqe, self->tx, message(0), variant->len, 0);
}

static void prepare_read(struct io_uring_sqe *sqe, struct world *self,
			 const struct path *variant)
{
	io_uring_prep_read(sqe, self->rx, in, sizeof(in), 0);
}

static void prepare_poll(struct io_uring_sqe *sqe, struct world *self,
			 const struct path *variant)
{
	io_uring_prep_poll_add(sqe, self->rx, POLLIN);
}

static long call_uring_write(struct world *self, const struct path *variant)
{
	return ring_run(self, prepare_write, variant);
}

static long call_uring_read(struct world *self, const struct path *variant)
{
	return ring_run(self, prepare_read, variant);
}

/* Only that it waits: 0, or what became of the request. */
static long call_uring_read_to_wait(struct world *self,
				    const struct path *variant)
{
	int ret;

	if (!io_uring_sq_ready(&self->ring))
		prepare_read(io_uring_get_sqe(&self->ring), self, variant);
	ret = io_uring_submit(&self->ring);
	if (!ret)
		ret = -EAGAIN;
	else if (ret == 1)
		ret = io_uring_cq_ready(&self->ring) ?
			      ring_result(&self->ring) :
			      0;
	errno = -ret;
	return ret < 0 ? -1 : ret;
}

/* The message that comes then is read, by a thread of Linux where the poll was not armed. */
static void done_waited(struct __test_metadata *_metadata, struct world *self,
			const struct path *variant)
{
	struct io_uring_cqe *cqe;
	struct umpsc_info info;

	ASSERT_EQ(variant->len, write(self->tx, message(0), variant->len));
	ASSERT_EQ(0, io_uring_wait_cqe(&self->ring, &cqe));
	EXPECT_EQ(variant->len, ring_result(&self->ring));
	EXPECT_EQ(0, memcmp(in, message(0), variant->len));
	expect_queued(_metadata, self, variant, 1);
	/* Which may hold the file a little longer. */
	close_fd(&self->rx);
	EXPECT_TRUE(UMPSC_UNTIL(!umpsc_info(self->tx, &info) &&
				info.state & UMPSC_STATE_RECEIVER_GONE));
}

/* A read waits; messages have come, and it goes on when the thread next asks. */
static void meet_waiting_read(struct __test_metadata *_metadata,
			      struct world *self, const struct path *variant)
{
	ASSERT_EQ(0, io_uring_queue_init(8, &self->ring,
					 IORING_SETUP_SINGLE_ISSUER |
						 IORING_SETUP_DEFER_TASKRUN));
	self->has_ring = true;
	prepare_read(io_uring_get_sqe(&self->ring), self, variant);
	ASSERT_EQ(1, io_uring_submit(&self->ring));
	ASSERT_EQ(0, io_uring_cq_ready(&self->ring));
	self->waiting = true;
	meet_messages(_metadata, self, variant);
	ASSERT_EQ(0, io_uring_cq_ready(&self->ring));
}

static long call_uring_read_resumed(struct world *self,
				    const struct path *variant)
{
	int ret;

	if (!self->waiting)
		return ring_run(self, prepare_read, variant);
	self->waiting = false;
	ret = io_uring_submit_and_wait(&self->ring, 1);
	if (!ret)
		ret = ring_result(&self->ring);
	errno = -ret;
	return ret < 0 ? -1 : ret;
}

static long call_uring_poll(struct world *self, const struct path *variant)
{
	return ring_run(self, prepare_poll, variant);
}

FIXTURE_VARIANT_ADD(path, uring_write)
SWEEP_OF(WRITE(PAGED, .meet = meet_ring, .call = call_uring_write, .least = 10,
	       .early = true));
FIXTURE_VARIANT_ADD(path, uring_read)
SWEEP_OF(READ(PAGED, PAGED, .meet = meet_ring_and_messages,
	      .call = call_uring_read, .least = 5));
FIXTURE_VARIANT_ADD(path, uring_read_to_wait)
SWEEP_OF(.waits = true, .meet = meet_ring, .call = call_uring_read_to_wait,
	 .done = done_waited, .count = 1, .len = PAGED);
FIXTURE_VARIANT_ADD(path, uring_read_that_waited)
SWEEP_OF(READ(PAGED, PAGED, .waits = true, .meet = meet_waiting_read,
	      .call = call_uring_read_resumed, .least = 5));
FIXTURE_VARIANT_ADD(path, uring_poll)
SWEEP_OF(READ(SMALL, POLLIN, .meet = meet_ring_and_messages,
	      .call = call_uring_poll, .done = done_none_read));

/* ---- The sweep of a path -------------------------------------------------------- */

static bool went_well(const struct path *variant, long ret, int err)
{
	switch (variant->what) {
	case RETURNS_FILE:
		return ret >= 0;
	case RETURNS_LEN:
		return ret == (long)variant->len;
	case RETURNS_COUNT:
		return ret == variant->count - variant->ahead;
	default:
		return ret == variant->ret && (ret >= 0 || err == variant->err);
	}
}

/* How a call ends for which there was no memory, or whose copy failed. */
static bool is_failure(long ret, int err)
{
	return ret < 0 && (err == ENOMEM || err == EFAULT || err == EAGAIN);
}

/* The sends that were refused by this failure, as INFO counts them. */
static __u64 refused_by(struct world *self, const struct path *variant,
			const struct shot *before, int err)
{
	struct umpsc_info info;

	if (err != ENOMEM ||
	    (variant->done != done_sent && variant->done != done_none_sent))
		return 0;
	if (!variant->early || umpsc_info(self->tx, &info))
		return 1;
	return info.refused_memory != before->info[0].refused_memory;
}

struct tally {
	unsigned int failures;
	unsigned int survived;
};

/* The path once, where the @n-th allocation or copy fails; false if there is none. */
static bool sweep_once(struct __test_metadata *_metadata, struct world *self,
		       const struct path *variant, unsigned int n,
		       struct tally *tally)
{
	struct shot before;
	bool fired;
	long ret;
	int err;

	world_make(_metadata, self, variant);
	shoot(_metadata, self, &before);
	ASSERT_TRUE(faults_arm(self->faults, n));
	errno = 0;
	ret = variant->call(self, variant);
	err = errno;
	fired = faults_disarm(self->faults);
	tally->failures += fired;
	if (went_well(variant, ret, err)) {
		tally->survived += fired;
	} else {
		ASSERT_TRUE(fired && is_failure(ret, err))
		{
			TH_LOG("returned %ld: %s", ret, strerror(err));
		}
		expect_shot(_metadata, self, &before,
			    refused_by(self, variant, &before, err),
			    variant->keeps);
		errno = 0;
		ret = variant->call(self, variant);
		ASSERT_TRUE(went_well(variant, ret, errno))
		{
			TH_LOG("repeated, it returned %ld: %s", ret,
			       strerror(errno));
		}
	}
	if (variant->done)
		variant->done(_metadata, self, variant);
	world_unmake(self);
	return fired;
}

/*
 * What fails without consequence may be what the allocator needed this once, as a table
 * of who pays for a new slab: the one of the call that it hid is met when the same
 * number is tried again.
 */
#define AGAIN_MAX 3

static struct tally sweep(struct __test_metadata *_metadata, struct world *self,
			  const struct path *variant)
{
	unsigned int n = 1, again = 0, survived = 0;
	struct tally tally = {};
	struct shot idle;

	shoot(_metadata, self, &idle);
	while (sweep_once(_metadata, self, variant, n, &tally)) {
		expect_shot(_metadata, self, &idle, 0, false);
		/* One failure tells enough. */
		ASSERT_EQ(0, _metadata->exit_code)
		{
			TH_LOG("when allocation or copy %u failed", n);
		}
		if (tally.survived == survived || again++ == AGAIN_MAX) {
			ASSERT_GT(TRIES_MAX, ++n);
			again = 0;
		}
		survived = tally.survived;
	}
	expect_shot(_metadata, self, &idle, 0, false);
	return tally;
}

/* What was hidden by such a thing earlier in the call is met by another sweep. */
#define SWEEPS 2
#define SWEEPS_MAX 6

TEST_LONG(path, each_failure_leaves_the_state_and_the_call_can_be_repeated)
{
	__u64 start = umpsc_now_ns();
	unsigned int most = 0;
	struct tally tally;
	int i;

	for (i = 0; i < SWEEPS_MAX; i++) {
		if (i >= SWEEPS && most >= variant->path.least)
			break;
		tally = sweep(_metadata, &self->world, &variant->path);
		if (most < tally.failures - tally.survived)
			most = tally.failures - tally.survived;
		TH_LOG("%u failures, %u of them without consequence, %llu ms",
		       tally.failures, tally.survived,
		       (umpsc_now_ns() - start) / 1000000);
	}
	EXPECT_LE(variant->path.least, most);
}

/* ---- Loading ---------------------------------------------------------------------- */

#define MODULE "/umpsc.ko"

/* So many allocations at least are those of the module alone, before those of "channels". */
#define FAILURES_ALONE 150

FIXTURE(load)
{
	int faults;
	int kmsg;
	int module;
};

FIXTURE_VARIANT(load)
{
	const char *params;
	__u64 nodes;
	/* Where the sweep begins, and how many failures it meets that have consequences. */
	unsigned int first;
	unsigned int least;
};

/* The work queue, the region, the class, the device file; each node as by CREATE. */
FIXTURE_VARIANT_ADD(load, alone)
UMPSC_VARIANT(.params = "", .nodes = 1, .first = 1, .least = 10 + 15);
FIXTURE_VARIANT_ADD(load, with_nodes)
UMPSC_VARIANT(.params = "channels=one:standing mode=0600", .nodes = 2,
	      .first = FAILURES_ALONE, .least = 15);

FIXTURE_SETUP(load)
{
	self->faults = open(UMPSC_FAIL_NTH, O_RDWR | O_CLOEXEC);
	if (self->faults < 0)
		SKIP(return, NO_FAULTS);
	umpsc_timer_stop();
	ASSERT_TRUE(faults_set_up());
	/* Linux needs a lot to load any module, and none of that is ours. */
	ASSERT_TRUE(faults_only_in("do_one_initcall"));
	/* And it prints a backtrace where a cache cannot be made. */
	ASSERT_TRUE(faults_filter("failslab", "reject",
				  "__kmem_cache_create_args"));
	ASSERT_TRUE(faults_filter("fail_page_alloc", "reject",
				  "__kmem_cache_create_args"));
	self->kmsg = ASSERT_FD(umpsc_log_open());
	self->module = ASSERT_FD(open(MODULE, O_RDONLY | O_CLOEXEC));
	ASSERT_EQ(0, syscall(SYS_delete_module, "umpsc", O_NONBLOCK));
}

FIXTURE_TEARDOWN(load)
{
	if (self->faults < 0)
		return;
	EXPECT_TRUE(faults_only_in(NULL));
	EXPECT_TRUE(faults_spare_allocators());
	EXPECT_EQ(0, syscall(SYS_finit_module, self->module, "", 0));
	expect_quiet_log(_metadata, self->kmsg);
	close(self->kmsg);
	close(self->module);
	close(self->faults);
}

static void expect_nothing_loaded(struct __test_metadata *_metadata)
{
	static const char *const paths[] = {
		"/sys/module/umpsc",
		"/sys/class/umpsc",
		"/sys/devices/virtual/umpsc",
		UMPSC_NODE,
	};
	static char text[65536];
	int left = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(paths); i++)
		left += !access(paths[i], F_OK);
	EXPECT_EQ(0, left);
	ASSERT_LT(0, umpsc_read_file("/proc/devices", text, sizeof(text)));
	EXPECT_EQ(NULL, strstr(text, "umpsc"));
	ASSERT_LE(0, umpsc_read_file("/proc/modules", text, sizeof(text)));
	EXPECT_EQ(NULL, strstr(text, "umpsc"));
}

TEST_LONG(load, each_failure_leaves_nothing_and_it_can_be_loaded)
{
	unsigned int n, failures = 0, survived = 0;
	struct umpsc_query q;
	int ret = -1, err, fd;
	bool fired = true;

	for (n = variant->first; fired; n++) {
		ASSERT_GT(TRIES_MAX, n);
		ASSERT_TRUE(faults_arm(self->faults, n));
		errno = 0;
		ret = syscall(SYS_finit_module, self->module, variant->params,
			      0);
		err = errno;
		fired = faults_disarm(self->faults);
		failures += fired;
		if (ret) {
			ASSERT_TRUE(fired);
			EXPECT_EQ(ENOMEM, err);
			expect_nothing_loaded(_metadata);
			continue;
		}
		survived += fired;
		fd = ASSERT_FD(umpsc_open_manager());
		ASSERT_EQ(0, umpsc_query(fd, &q));
		EXPECT_EQ(variant->nodes, q.nodes);
		close(fd);
		ASSERT_EQ(0, syscall(SYS_delete_module, "umpsc", O_NONBLOCK));
		expect_nothing_loaded(_metadata);
		ASSERT_EQ(0, _metadata->exit_code)
		TH_LOG("when number %u failed", n);
	}
	EXPECT_LE(variant->least, failures - survived);
	/* The other sweep began where this one had been. */
	if (variant->first == 1)
		EXPECT_LE(FAILURES_ALONE, failures);
	TH_LOG("%u failures, %u of them without consequence", failures,
	       survived);
}

TEST_HARNESS_MAIN
