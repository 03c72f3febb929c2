// SPDX-License-Identifier: MIT
/*
 * libumpsc, see umpsc.h
 *
 * What is marked signal-safe there makes system calls and touches its arguments,
 * and no more.  Records are read and written by memcpy(): they may lie at any
 * address.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "umpsc.h"

#define NODE "/dev/umpsc"

/* What a batch that allocates has at least, to receive and to send. */
#define RECEIVE_MIN 65536
#define SEND_MIN 4096

#define CREDS_END (sizeof(struct umpsc_record) + sizeof(struct umpsc_creds))

_Static_assert(sizeof(NODE) + 1 + UMPSC_NAME_MAX <= UMPSC_PATH_MAX,
	       "a path fits UMPSC_PATH_MAX");
_Static_assert(sizeof(struct umpsc_record) == UMPSC_RECORD_HDR,
	       "the record is the first version's header");

static int fail(int error)
{
	errno = error;
	return -1;
}

/* close(), with the errno of what failed before it. */
static void close_quietly(int fd)
{
	int error = errno;

	close(fd);
	errno = error;
}

/* A call whose structure has the size that our caller knows. */
static int ioctl_sized(int fd, unsigned int dir, unsigned int nr, void *arg,
		       size_t size)
{
	if (size > _IOC_SIZEMASK)
		return fail(EINVAL);
	return ioctl(fd, _IOC(dir, UMPSC_IOC_TYPE, nr, size), arg);
}

/* ---- Nodes ------------------------------------------------------------- */

static bool name_ok(const char *name)
{
	size_t len = strnlen(name, UMPSC_NAME_MAX + 1), i;
	char c;

	for (i = 0; i < len; i++) {
		/* isalnum() goes by the locale. */
		c = name[i];
		if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') &&
		    !(c >= '0' && c <= '9') && c != '_' && c != '-')
			return false;
	}
	return len && len <= UMPSC_NAME_MAX;
}

int umpsc_path(const char *name, char *path, size_t size)
{
	size_t len = 0;

	if (name && *name) {
		if (!name_ok(name))
			return fail(EINVAL);
		len = strlen(name) + 1;
	}
	if (sizeof(NODE) + len > size)
		return fail(ERANGE);
	memcpy(path, NODE, sizeof(NODE));
	if (len) {
		path[sizeof(NODE) - 1] = '-';
		memcpy(path + sizeof(NODE), name, len);
	}
	return 0;
}

static bool is_node(int fd)
{
	struct umpsc_query query;
	struct stat st;

	return !fstat(fd, &st) && S_ISCHR(st.st_mode) &&
	       !umpsc_query(fd, &query);
}

static int node_open(const char *name, int access, int flags)
{
	char buf[UMPSC_PATH_MAX];
	const char *path = buf;
	struct stat st;
	int fd;

	if (flags & ~O_NONBLOCK)
		return fail(EINVAL);
	if (name && strchr(name, '/'))
		path = name;
	else if (umpsc_path(name, buf, sizeof(buf)))
		return -1;

	/* A FIFO in the node's place would make open() wait. */
	if (stat(path, &st))
		return -1;
	if (!S_ISCHR(st.st_mode))
		return fail(ENODEV);
	fd = open(path, access | flags | O_CLOEXEC | O_NOCTTY);
	if (fd >= 0 && !is_node(fd)) {
		close(fd);
		return fail(ENODEV);
	}
	return fd;
}

int umpsc_open_sender(const char *name, int flags)
{
	return node_open(name, O_WRONLY, flags);
}

int umpsc_open_receiver(const char *name, int flags)
{
	return node_open(name, O_RDONLY, flags);
}

int umpsc_open_manager(const char *name, int flags)
{
	return node_open(name, O_RDWR, flags);
}

/* Whether another file is the receiver: 1, 0, or -1 and errno. */
static int node_is_busy(const char *name)
{
	int manager = umpsc_open_manager(name, 0);
	struct umpsc_info info;
	int ret;

	if (manager < 0)
		return -1;
	ret = umpsc_info(manager, &info);
	close_quietly(manager);
	if (ret)
		return -1;
	return info.state & UMPSC_STATE_CLAIMED &&
	       !(info.state & UMPSC_STATE_ENDED);
}

/* Whether nothing is there to be received, and nothing will be. */
static bool is_at_end(int receiver)
{
	return umpsc_is_closed(receiver) == 1 && umpsc_is_empty(receiver) == 1;
}

int umpsc_attach(const char *name, int flags, int *receiver, int *sender)
{
	int rx, tx, busy;

	*receiver = -1;
	*sender = -1;
	for (;;) {
		/*
		 * A sender that comes and goes ends the channel of a receiver that
		 * waits for its first one.  So look before there is a sender.
		 */
		busy = node_is_busy(name);
		if (busy)
			return busy > 0 ? fail(EBUSY) : -1;
		tx = umpsc_open_sender(name, flags);
		if (tx < 0)
			return -1;
		rx = umpsc_open_receiver(name, flags);
		if (rx < 0) {
			close_quietly(tx);
			return -1;
		}
		if (umpsc_same_channel(rx, tx))
			break;
		/*
		 * The sender's channel has ended in between, and this is the one after
		 * it.  Dropping the receiver would discard what was sent there.
		 */
		close(tx);
		tx = umpsc_receiver_sender(rx, flags);
		if (tx >= 0 || !is_at_end(rx))
			break;
		close(rx);
	}
	*receiver = rx;
	*sender = tx;
	return 0;
}

int umpsc_create_sized(int manager, void *args, size_t size)
{
	return ioctl_sized(manager, _IOC_READ | _IOC_WRITE,
			   _IOC_NR(UMPSC_IOC_CREATE), args, size);
}

int umpsc_remove(int manager, const char *name)
{
	struct umpsc_remove_args args = { .flags = 0 };
	size_t len = name ? strnlen(name, sizeof(args.name)) : 0;

	if (len > UMPSC_NAME_MAX)
		return fail(EINVAL);
	if (len)
		memcpy(args.name, name, len);
	return ioctl(manager, UMPSC_IOC_REMOVE, &args);
}

/* ---- Channels and handles ---------------------------------------------- */

int umpsc_channel_sized(int manager, void *args, size_t size)
{
	return ioctl_sized(manager, _IOC_READ | _IOC_WRITE,
			   _IOC_NR(UMPSC_IOC_CHANNEL), args, size);
}

int umpsc_channel(int *sender, int *receiver)
{
	struct umpsc_channel_args args = { .flags = 0 };
	int manager, ret;

	*sender = -1;
	*receiver = -1;
	manager = umpsc_open_manager(NULL, 0);
	if (manager < 0)
		return -1;
	ret = umpsc_channel_with(manager, &args);
	close_quietly(manager);
	if (ret)
		return -1;
	*sender = args.sender_fd;
	*receiver = args.receiver_fd;
	return 0;
}

/* Senders and weak senders have CLONE in common: see that it is the one meant. */
static int clone_of_role(int fd, __u32 role, int flags)
{
	struct umpsc_info info;

	if (umpsc_info(fd, &info))
		return -1;
	if (info.role != role)
		return fail(ENOTTY);
	return ioctl(fd, UMPSC_IOC_CLONE, (unsigned long)flags);
}

int umpsc_sender_clone(int sender, int flags)
{
	return clone_of_role(sender, UMPSC_ROLE_SENDER, flags);
}

int umpsc_sender_downgrade(int sender, int flags)
{
	return ioctl(sender, UMPSC_IOC_DOWNGRADE, (unsigned long)flags);
}

int umpsc_weak_clone(int weak, int flags)
{
	return clone_of_role(weak, UMPSC_ROLE_WEAK, flags);
}

int umpsc_weak_upgrade(int weak, int flags)
{
	return ioctl(weak, UMPSC_IOC_UPGRADE, (unsigned long)flags);
}

int umpsc_receiver_sender(int receiver, int flags)
{
	return ioctl(receiver, UMPSC_IOC_SENDER, (unsigned long)flags);
}

int umpsc_close(int receiver)
{
	return ioctl(receiver, UMPSC_IOC_CLOSE, 0UL);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * UMPSC_SEC + ts.tv_nsec;
}

uint64_t umpsc_deadline(uint64_t timeout_ns)
{
	uint64_t now = now_ns();

	return timeout_ns < UMPSC_NO_DEADLINE - now ? now + timeout_ns :
						      UMPSC_NO_DEADLINE;
}

/* poll() until something is to be told, or a deadline. */
static int poll_until(struct pollfd *pollfd, uint64_t deadline_ns)
{
	struct timespec ts;
	uint64_t now, left;
	int n;

	for (;;) {
		now = now_ns();
		left = deadline_ns > now ? deadline_ns - now : 0;
		/* A day at a time fits every time_t. */
		if (left > 86400 * UMPSC_SEC)
			left = 86400 * UMPSC_SEC;
		ts.tv_sec = left / UMPSC_SEC;
		ts.tv_nsec = left % UMPSC_SEC;
		n = ppoll(pollfd, 1, &ts, NULL);
		if (n)
			return n;
		if (deadline_ns != UMPSC_NO_DEADLINE && now_ns() >= deadline_ns)
			return fail(ETIMEDOUT);
	}
}

int umpsc_closed(int sender, uint64_t timeout_ns)
{
	/* ERR and HUP come unasked. */
	struct pollfd pollfd = { .fd = sender };
	uint64_t deadline_ns = umpsc_deadline(timeout_ns);
	struct umpsc_info info;

	if (umpsc_info(sender, &info))
		return -1;
	if (info.role != UMPSC_ROLE_SENDER && info.role != UMPSC_ROLE_WEAK)
		return fail(ENOTTY);
	if (poll_until(&pollfd, deadline_ns) < 0)
		return -1;
	return pollfd.revents & POLLNVAL ? fail(EBADF) : 0;
}

/* ---- Batches ----------------------------------------------------------- */

void umpsc_batch_init_fixed(struct umpsc_batch *batch, void *addr, size_t size)
{
	*batch = (struct umpsc_batch){
		.addr = addr,
		.size = size,
		.fixed = 1,
	};
}

int umpsc_batch_wrap(struct umpsc_batch *batch, const void *addr, size_t len)
{
	struct umpsc_message message;
	int ret;

	/* No room at all: so nothing is ever written there. */
	umpsc_batch_init_fixed(batch, (void *)addr, 0);
	while ((ret = umpsc_record_next(addr, len, &batch->used, &message)) > 0)
		batch->count++;
	return ret;
}

void umpsc_batch_clear(struct umpsc_batch *batch)
{
	batch->used = 0;
	batch->count = 0;
	batch->next = 0;
	batch->room = 0;
	batch->need = 0;
}

void umpsc_batch_free(struct umpsc_batch *batch)
{
	if (!batch->fixed)
		free(batch->addr);
	memset(batch, 0, sizeof(*batch));
}

/* See that a message of @len bytes fits behind the others: 0, or -1 and errno. */
static int batch_make_room(struct umpsc_batch *batch, size_t len)
{
	uint64_t size;
	void *addr;

	if (len > UMPSC_LEN_MAX)
		return fail(EMSGSIZE);
	size = batch->used + UMPSC_RECORD_SIZE(UMPSC_RECORD_HDR, len);
	if (size <= batch->size)
		return 0;
	if (batch->fixed)
		return fail(ENOBUFS);
	/* Twice as much, so that each byte is copied a few times at most. */
	if (size < 2 * (uint64_t)batch->size)
		size = 2 * (uint64_t)batch->size;
	if (size < SEND_MIN)
		size = SEND_MIN;
	if (size > PTRDIFF_MAX)
		return fail(ENOMEM);
	addr = realloc(batch->addr, size);
	if (!addr)
		return -1;
	batch->addr = addr;
	batch->size = size;
	return 0;
}

/* Make a message of the @len bytes that lie where the next one's payload does. */
static void batch_append(struct umpsc_batch *batch, size_t len)
{
	struct umpsc_record record = {
		.len = len,
		.hdr = UMPSC_RECORD_HDR,
	};
	size_t size = UMPSC_RECORD_SIZE(UMPSC_RECORD_HDR, len);
	char *at = (char *)batch->addr + batch->used;

	memcpy(at, &record, sizeof(record));
	memset(at + UMPSC_RECORD_HDR + len, 0, size - UMPSC_RECORD_HDR - len);
	batch->used += size;
	batch->count++;
	batch->room = 0;
}

static char *batch_payload(struct umpsc_batch *batch)
{
	return (char *)batch->addr + batch->used + UMPSC_RECORD_HDR;
}

void *umpsc_batch_reserve(struct umpsc_batch *batch, size_t len)
{
	batch->room = 0;
	if (batch_make_room(batch, len))
		return NULL;
	/* One more: to reserve no bytes is something, too. */
	batch->room = len + 1;
	return batch_payload(batch);
}

int umpsc_batch_commit(struct umpsc_batch *batch, size_t len)
{
	if (len >= batch->room)
		return fail(EINVAL);
	batch_append(batch, len);
	return 0;
}

/* The bytes of all pieces; more than a message may have where they overflow. */
static size_t iov_len(const struct iovec *iov, int iovcnt)
{
	size_t len = 0;
	int i;

	for (i = 0; i < iovcnt; i++)
		if (__builtin_add_overflow(len, iov[i].iov_len, &len))
			return SIZE_MAX;
	return len;
}

int umpsc_batch_addv(struct umpsc_batch *batch, const struct iovec *iov,
		     int iovcnt)
{
	char *at;
	int i;

	if (iovcnt < 0)
		return fail(EINVAL);
	at = umpsc_batch_reserve(batch, iov_len(iov, iovcnt));
	if (!at)
		return -1;
	for (i = 0; i < iovcnt; i++) {
		/* No bytes may lie at NULL, which memcpy() does not take. */
		if (iov[i].iov_len)
			memcpy(at, iov[i].iov_base, iov[i].iov_len);
		at += iov[i].iov_len;
	}
	batch_append(batch, at - batch_payload(batch));
	return 0;
}

int umpsc_batch_add(struct umpsc_batch *batch, const void *data, size_t len)
{
	struct iovec iov = { .iov_base = (void *)data, .iov_len = len };

	return umpsc_batch_addv(batch, &iov, 1);
}

void umpsc_batch_rewind(struct umpsc_batch *batch)
{
	batch->next = 0;
}

int umpsc_batch_next(struct umpsc_batch *batch, struct umpsc_message *message)
{
	return umpsc_record_next(batch->addr, batch->used, &batch->next,
				 message);
}

int umpsc_record_next(const void *addr, size_t len, size_t *at,
		      struct umpsc_message *message)
{
	struct umpsc_record record;
	const char *start;
	size_t left, hdr;

	if (*at == len)
		return 0;
	if (*at > len || len - *at < sizeof(record))
		return fail(EBADMSG);
	start = (const char *)addr + *at;
	left = len - *at;
	memcpy(&record, start, sizeof(record));
	hdr = record.hdr ? record.hdr : UMPSC_RECORD_HDR;
	if (hdr < UMPSC_RECORD_HDR || hdr > UMPSC_RECORD_HDR_MAX ||
	    hdr % UMPSC_RECORD_ALIGN ||
	    UMPSC_RECORD_SIZE(hdr, record.len) > left)
		return fail(EBADMSG);

	*message = (struct umpsc_message){
		.data = start + hdr,
		.len = record.len,
		.seq = record.seq,
		.sender = record.sender,
		.time_ns = record.time_ns,
		.flags = record.flags,
		.has_creds = hdr >= CREDS_END,
		.record = start,
		.hdr = hdr,
	};
	if (message->has_creds)
		memcpy(&message->creds, start + sizeof(record),
		       sizeof(message->creds));
	*at += UMPSC_RECORD_SIZE(hdr, record.len);
	return 1;
}

/* ---- Sending ----------------------------------------------------------- */

static int send_records(int sender, const void *addr, size_t len)
{
	struct umpsc_send_args args = {
		.addr = (uintptr_t)addr,
		.len = len,
	};

	return ioctl(sender, UMPSC_IOC_SEND, &args);
}

static int send_empty(int sender)
{
	struct umpsc_record record = { .hdr = UMPSC_RECORD_HDR };

	return send_records(sender, &record, sizeof(record)) < 0 ? -1 : 0;
}

/* Nothing but what is no sender writes a part. */
static int send_result(ssize_t written, size_t len)
{
	if (written < 0)
		return -1;
	return (size_t)written == len ? 0 : fail(EBADF);
}

int umpsc_send(int sender, const void *data, size_t len)
{
	if (!len)
		return send_empty(sender);
	return send_result(write(sender, data, len), len);
}

int umpsc_sendv(int sender, const struct iovec *iov, int iovcnt)
{
	size_t len;

	if (iovcnt < 0 || iovcnt > IOV_MAX)
		return fail(EINVAL);
	len = iov_len(iov, iovcnt);
	if (!len)
		return send_empty(sender);
	if (len > UMPSC_LEN_MAX)
		return fail(EMSGSIZE);
	return send_result(writev(sender, iov, iovcnt), len);
}

int umpsc_send_batch(int sender, const struct umpsc_batch *batch)
{
	return send_records(sender, batch->addr, batch->used);
}

/* ---- Receiving --------------------------------------------------------- */

/* Memory for @size bytes, whose content is of no use: 0, or -1 and errno. */
static int batch_enlarge(struct umpsc_batch *batch, uint64_t size)
{
	void *addr;

	if (size <= batch->size)
		return 0;
	if (size > PTRDIFF_MAX)
		return fail(ENOMEM);
	addr = malloc(size);
	if (!addr)
		return -1;
	free(batch->addr);
	batch->addr = addr;
	batch->size = size;
	return 0;
}

int umpsc_recv_until(int receiver, struct umpsc_batch *batch, unsigned int max,
		     uint64_t deadline_ns)
{
	struct umpsc_recv_args args = {
		.deadline_ns = deadline_ns,
		.max = max,
	};
	int n;

	umpsc_batch_clear(batch);
	if (!batch->fixed && batch_enlarge(batch, RECEIVE_MIN))
		return -1;
	for (;;) {
		args.addr = (uintptr_t)batch->addr;
		args.len = batch->size;
		n = ioctl(receiver, UMPSC_IOC_RECV, &args);
		if (n >= 0)
			break;
		if (errno != EMSGSIZE)
			return -1;
		batch->need = args.need;
		if (batch->fixed || args.need <= batch->size)
			return -1;
		/* Somebody else may take it, and then this happens again. */
		if (batch_enlarge(batch, args.need))
			return -1;
		batch->need = 0;
	}
	batch->used = args.used;
	batch->count = n;
	return n;
}

int umpsc_recv_many(int receiver, struct umpsc_batch *batch, unsigned int max)
{
	return umpsc_recv_until(receiver, batch, max, UMPSC_NO_DEADLINE);
}

int umpsc_try_recv_many(int receiver, struct umpsc_batch *batch,
			unsigned int max)
{
	int n = umpsc_recv_until(receiver, batch, max, 0);

	return n < 0 && errno == ETIMEDOUT ? fail(EAGAIN) : n;
}

int umpsc_recv_many_timeout(int receiver, struct umpsc_batch *batch,
			    unsigned int max, uint64_t timeout_ns)
{
	return umpsc_recv_until(receiver, batch, max,
				umpsc_deadline(timeout_ns));
}

/* Of a receive of one message into @batch. */
static int received_one(int n, struct umpsc_batch *batch,
			struct umpsc_message *message)
{
	return n > 0 ? umpsc_batch_next(batch, message) : n;
}

int umpsc_recv(int receiver, struct umpsc_batch *batch,
	       struct umpsc_message *message)
{
	return received_one(umpsc_recv_many(receiver, batch, 1), batch,
			    message);
}

int umpsc_try_recv(int receiver, struct umpsc_batch *batch,
		   struct umpsc_message *message)
{
	return received_one(umpsc_try_recv_many(receiver, batch, 1), batch,
			    message);
}

int umpsc_recv_timeout(int receiver, struct umpsc_batch *batch,
		       struct umpsc_message *message, uint64_t timeout_ns)
{
	return received_one(umpsc_recv_many_timeout(receiver, batch, 1,
						    timeout_ns),
			    batch, message);
}

/* ---- Looking ----------------------------------------------------------- */

int umpsc_info_sized(int handle, void *info, size_t size)
{
	return ioctl_sized(handle, _IOC_READ, _IOC_NR(UMPSC_IOC_INFO), info,
			   size);
}

int umpsc_query_sized(int handle, void *query, size_t size)
{
	return ioctl_sized(handle, _IOC_READ, _IOC_NR(UMPSC_IOC_QUERY), query,
			   size);
}

int64_t umpsc_len(int handle)
{
	struct umpsc_info info;

	return umpsc_info(handle, &info) ? -1 : (int64_t)info.messages;
}

int64_t umpsc_bytes(int handle)
{
	struct umpsc_info info;

	return umpsc_info(handle, &info) ? -1 : (int64_t)info.bytes;
}

int64_t umpsc_strong_count(int handle)
{
	struct umpsc_info info;

	return umpsc_info(handle, &info) ? -1 : (int64_t)info.strong;
}

int64_t umpsc_weak_count(int handle)
{
	struct umpsc_info info;

	return umpsc_info(handle, &info) ? -1 : (int64_t)info.weak;
}

int umpsc_is_empty(int handle)
{
	struct umpsc_info info;

	return umpsc_info(handle, &info) ? -1 : !info.messages;
}

int umpsc_is_closed(int handle)
{
	struct umpsc_info info;

	if (umpsc_info(handle, &info))
		return -1;
	return !!(info.state & UMPSC_STATE_ENDED);
}

int umpsc_same_channel(int handle, int other)
{
	return ioctl(handle, UMPSC_IOC_SAME, (unsigned long)other);
}

/* ---- Errors ------------------------------------------------------------ */

static const struct {
	int error;
	const char *text;
} meanings[] = {
	{ EAGAIN, "nothing is queued" },
	{ EBADMSG, "malformed record" },
	{ EBUSY, "another file is the receiver" },
	{ EDQUOT, "the user's or the module's limit is reached" },
	{ EEXIST, "there is a node of that name" },
	{ EMSGSIZE, "the message is too long, or the memory for it too small" },
	{ ENOBUFS, "the limit of the channel, or of the batch, is reached" },
	{ ENODEV, "what is there is not a node of umpsc" },
	{ ENOENT, "no such node, or the module umpsc is not loaded" },
	{ ENOMEM, "the kernel or the memory cgroup has no memory for it" },
	{ ENOSPC, "there are as many nodes as there can be" },
	{ ENOTTY, "not a handle of umpsc, or not one that has this call" },
	{ ENXIO, "the node has been removed, or it can only be managed" },
	{ EPERM, "needs CAP_SYS_ADMIN in the initial user namespace" },
	{ EPIPE, "the receiver has closed the channel, or has gone" },
	{ ESHUTDOWN, "the last sender has gone" },
	{ ETIMEDOUT, "it did not happen in time" },
};

const char *umpsc_strerror(int error)
{
	const char *text;
	size_t i;

	for (i = 0; i < sizeof(meanings) / sizeof(*meanings); i++)
		if (meanings[i].error == error)
			return meanings[i].text;
	text = strerrordesc_np(error);
	return text ? text : "Unknown error";
}
