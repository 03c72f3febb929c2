/* SPDX-License-Identifier: MIT */
/*
 * libumpsc: channels of the umpsc kernel module, from C and C++
 *
 * A handle is a file descriptor: poll(2) it, pass it on, close(2) it.  Nothing
 * here hides one.  umpsc(7) tells how channels behave, <linux/umpsc.h> has the
 * structures that the kernel shares.
 *
 * Errors: every function that can fail returns -1 (or NULL) and sets errno, as
 * system calls do.  On an error nothing was sent, received or made, and outputs
 * are as they were, but where it is said.  umpsc_strerror() puts errno in words.
 * A handle of another role is ENOTTY, or EBADF where reading or writing is what
 * it cannot do; a descriptor that is none is EBADF, and one of another kind of
 * file ENOTTY, or what that file says.
 *
 * Signals: a call that waits ends with EINTR when a signal handler has run (with
 * SA_RESTART the kernel goes on waiting, to the same deadline, without returning).
 * A signal handler may call every function marked "signal-safe", if it saves
 * errno; the others allocate memory, or use a struct umpsc_batch, which the
 * handler may have interrupted.
 *
 * Threads: there is no state outside the arguments, and no thread is started.
 * Any number of threads may use one handle at a time; one batch is for one
 * thread at a time.  fork(2) needs no care: the child shares the handles.
 *
 * New descriptors are always close-on-exec.  Where a function takes @flags, they
 * are O_NONBLOCK or 0, for the new handle's file; all else is EINVAL.
 */
#ifndef _UMPSC_H
#define _UMPSC_H

#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <linux/umpsc.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Nodes ------------------------------------------------------------- */

/* Bytes that every path of umpsc_path() fits in, its NUL included. */
#define UMPSC_PATH_MAX 48

/**
 * umpsc_path - the path of a node: NAME gives /dev/umpsc-NAME
 * @name: the node's name; NULL or "" stands for /dev/umpsc
 * @path: where it goes
 * @size: bytes there; UMPSC_PATH_MAX is always enough
 *
 * Looks at the name only: the node need not exist.  Signal-safe.
 *
 * Return: 0, or -1: EINVAL: not a name (1 to 31 bytes of [A-Za-z0-9_-]);
 * ERANGE: @size is too small.
 */
int umpsc_path(const char *name, char *path, size_t size);

/**
 * umpsc_open_sender - a new sender of a node's channel
 * umpsc_open_receiver - be the receiver of a node's channel
 * umpsc_open_manager - open a node to manage it; takes no part in its channel
 * @name: the node's name, or NULL or "" for /dev/umpsc; with a '/' in it, a path
 * @flags: O_NONBLOCK or 0
 *
 * Never makes a file, and checks before and after opening that what is there is
 * a node of umpsc.  Never waits.  Signal-safe.
 *
 * Return: the descriptor, or -1: ENOENT: no such node, or the module is not
 * loaded; ENODEV: what is there is not an umpsc node, but a file that somebody
 * made in its place, say; ENXIO: the node has been removed, or it is /dev/umpsc
 * and only manages (mailbox=0); EACCES: its mode; EBUSY: another file is the
 * receiver; EINVAL: @name or @flags; or another error of open(2).
 */
int umpsc_open_sender(const char *name, int flags);
int umpsc_open_receiver(const char *name, int flags);
int umpsc_open_manager(const char *name, int flags);

/**
 * umpsc_attach - be the lasting consumer of an ordinary node
 * @name: as for umpsc_open_receiver()
 * @flags: O_NONBLOCK or 0, for both handles
 * @receiver: where the receiver goes
 * @sender: where a sender of the same channel goes, or -1
 *
 * The channel of an ordinary node ends when its last sender has gone.  A consumer
 * that is to stay keeps a sender of its own, which is what this opens first, so
 * that no end can come between the two.  Close both when done.  The node must
 * allow reading and writing.
 *
 * -1 in *@sender: another consumer went just then, and the receiver got the
 * channel after that one, whose senders have come and gone already (or there is no
 * descriptor or memory left for a sender, which is no reason to drop a receiver).
 * Receive what is in it, to the end, close it and attach again.  A loop that attaches
 * again after each end (there may be others: the node is removed, somebody closes)
 * needs no special case.  A standing node needs none of this: open its receiver.
 * Signal-safe.
 *
 * Return: 0, or -1 as umpsc_open_receiver(); then both outputs are -1.
 */
int umpsc_attach(const char *name, int flags, int *receiver, int *sender);

/* Takes the size of the structure, as the caller knows it. */
int umpsc_create_sized(int manager, void *args, size_t size);

/**
 * umpsc_create - make a node
 * @manager: a manager of any node
 * @args: what it shall be, from the name on; major and minor are filled in
 *
 * The path exists when this returns, if /dev is devtmpfs.  Signal-safe.
 *
 * Return: 0, or -1: EPERM: needs CAP_SYS_ADMIN in the initial user namespace;
 * EINVAL: name, mode, owner, flags; EEXIST: there is one of that name; ENOSPC:
 * there are 4096 nodes; ENOMEM.
 */
static inline int umpsc_create(int manager, struct umpsc_create_args *args)
{
	return umpsc_create_sized(manager, args, sizeof(*args));
}

/**
 * umpsc_remove - remove a node
 * @manager: a manager of any node
 * @name: the node's name, not a path
 *
 * A channel without a receiver is discarded; one that has a receiver goes on, and
 * cannot be opened any more.  Signal-safe.
 *
 * Return: 0, or -1: EPERM: as for umpsc_create(), and always for /dev/umpsc (NULL
 * or ""); EINVAL: not a name; ENOENT: no such node.
 */
int umpsc_remove(int manager, const char *name);

/* ---- Channels and handles ---------------------------------------------- */

/* Takes the size of the structure, as the caller knows it. */
int umpsc_channel_sized(int manager, void *args, size_t size);

/**
 * umpsc_channel_with - a private channel, with flags and limits
 * @manager: a manager of any node
 * @args: flags and limits; receiver_fd and sender_fd are filled in
 *
 * Signal-safe.
 *
 * Return: 0, or -1: EINVAL; EMFILE, ENFILE: no room for two files; EDQUOT: the
 * user's quota or the module's ceiling; ENOMEM.
 */
static inline int umpsc_channel_with(int manager,
				     struct umpsc_channel_args *args)
{
	return umpsc_channel_sized(manager, args, sizeof(*args));
}

/**
 * umpsc_channel - a private channel (Tokio: unbounded_channel)
 * @sender: where its sender goes
 * @receiver: where its receiver goes
 *
 * Opens /dev/umpsc for it, and closes it again.  Signal-safe.
 *
 * Return: 0, or -1 as umpsc_open_manager() and umpsc_channel_with(); then both
 * outputs are -1.
 */
int umpsc_channel(int *sender, int *receiver);

/**
 * umpsc_sender_clone - another sender of the channel (Tokio: UnboundedSender::clone)
 * @sender: a sender
 * @flags: O_NONBLOCK or 0
 *
 * dup(2) gives another descriptor of the same sender; this gives another sender,
 * with an id of its own.  Signal-safe.
 *
 * Return: the descriptor, or -1: EINVAL: @flags; EMFILE; ENFILE; EDQUOT: the user's
 * quota or the module's ceiling; ENOMEM.
 */
int umpsc_sender_clone(int sender, int flags);

/**
 * umpsc_sender_downgrade - a weak sender, which keeps no channel open (Tokio: downgrade)
 * @sender: a sender, which stays what it is
 * @flags: O_NONBLOCK or 0
 *
 * Signal-safe.
 *
 * Return: the descriptor, or -1 as umpsc_sender_clone().
 */
int umpsc_sender_downgrade(int sender, int flags);

/**
 * umpsc_weak_clone - another weak sender (Tokio: WeakUnboundedSender::clone)
 * @weak: a weak sender
 * @flags: O_NONBLOCK or 0
 *
 * Signal-safe.
 *
 * Return: the descriptor, or -1 as umpsc_sender_clone().
 */
int umpsc_weak_clone(int weak, int flags);

/**
 * umpsc_weak_upgrade - a sender, if the channel still has one (Tokio: upgrade)
 * @weak: a weak sender, which stays what it is
 * @flags: O_NONBLOCK or 0
 *
 * Signal-safe.
 *
 * Return: the descriptor, or -1: ESHUTDOWN: the last sender has gone; or as
 * umpsc_sender_clone().
 */
int umpsc_weak_upgrade(int weak, int flags);

/**
 * umpsc_receiver_sender - a sender of this receiver's channel
 * @receiver: a receiver
 * @flags: O_NONBLOCK or 0
 *
 * Signal-safe.
 *
 * Return: the descriptor, or -1 as umpsc_weak_upgrade().
 */
int umpsc_receiver_sender(int receiver, int flags);

/**
 * umpsc_close - no more sends; what was accepted can be received (Tokio: close)
 * @receiver: a receiver; its descriptor stays open
 *
 * Closing twice is no error.  To drop a handle is close(2).  Signal-safe.
 *
 * Return: 0 or -1.
 */
int umpsc_close(int receiver);

/**
 * umpsc_closed - wait until no more can be sent (Tokio: closed)
 * @sender: a sender or weak sender
 * @timeout_ns: how long at most, in ns from now; UMPSC_NO_DEADLINE for ever, 0
 *	only looks
 *
 * Signal-safe.
 *
 * Return: 0 once the receiver has closed or gone, or -1: ETIMEDOUT; EINTR, with
 * SA_RESTART as well.
 */
int umpsc_closed(int sender, uint64_t timeout_ns);

/* ---- Batches ----------------------------------------------------------- */

/**
 * struct umpsc_batch - messages in a row, to send or as they were received
 * @addr: the records, packed as in <linux/umpsc.h>
 * @size: bytes that there is room for at @addr
 * @used: bytes of records there, the padding of the last one included
 * @count: messages there
 * @next: where umpsc_batch_next() goes on
 * @room: what umpsc_batch_reserve() has set aside
 * @need: after EMSGSIZE or ENOMEM of a receive, what @size must be for the next
 *	message; else 0
 * @fixed: the memory is the caller's: it does not grow
 * @pad: 0
 *
 * All zeroes, which is UMPSC_BATCH_INIT, is an empty batch whose memory comes from
 * malloc() and grows with what it has to hold; umpsc_batch_free() frees it.
 * Looking at the fields is fine; change them by calls only.  A batch is filled by
 * umpsc_batch_add() or by a receive, read by umpsc_batch_next(), and sent, as often
 * as one likes, by umpsc_send_batch().
 */
struct umpsc_batch {
	void *addr;
	size_t size;
	size_t used;
	size_t count;
	size_t next;
	size_t room;
	size_t need;
	size_t fixed;
	size_t pad[2];
};

/* An empty batch that allocates. */
#define UMPSC_BATCH_INIT                   \
	{                                  \
		NULL, 0, 0, 0, 0, 0, 0, 0, \
		{                          \
			0, 0               \
		}                          \
	}

/**
 * struct umpsc_message - one message of a batch, as umpsc_batch_next() finds it
 * @data: its payload, which lies in the batch: there until the batch is changed
 * @len: bytes of it; 0 is a message too
 * @seq: its place in the channel's one order, from 0
 * @sender: id of the handle that sent it, unique in the channel, from 1; 0: none
 * @time_ns: CLOCK_MONOTONIC of the send, where the channel has UMPSC_TIMESTAMP,
 *	else 0
 * @flags: UMPSC_REST where its first part went out by read(2)
 * @has_creds: 1 where the record has room for @creds, else 0
 * @creds: who sent it, where the channel has UMPSC_CREDS (umpsc_info.flags),
 *	else 0; do not take a zero for root without having asked
 * @record: where its record begins, for what else a newer kernel has to tell
 * @hdr: bytes of its header there, from @record to @data
 * @pad: 0
 *
 * All but @data and @len come from the kernel in what was received; in a batch
 * from elsewhere they are what somebody wrote.
 */
struct umpsc_message {
	const void *data;
	size_t len;
	uint64_t seq;
	uint64_t sender;
	uint64_t time_ns;
	uint32_t flags;
	uint32_t has_creds;
	struct umpsc_creds creds;
	const void *record;
	size_t hdr;
	uint64_t pad[2];
};

/**
 * umpsc_batch_init_fixed - a batch in memory of the caller's, which never grows
 * @batch: the batch; what it was before is forgotten, not freed
 * @addr: the memory
 * @size: its bytes; a message takes UMPSC_RECORD_SIZE(UMPSC_RECORD_HDR, its length),
 *	and a received one up to UMPSC_RECORD_SIZE(UMPSC_RECORD_HDR_MAX, its length)
 *
 * Signal-safe, as are all calls on such a batch, if it is the handler's own.
 */
void umpsc_batch_init_fixed(struct umpsc_batch *batch, void *addr, size_t size);

/**
 * umpsc_batch_wrap - records from elsewhere, as a batch to read or to send
 * @batch: the batch; what it was before is forgotten, not freed
 * @addr: the records, which are never written to
 * @len: their bytes
 *
 * Goes over all of them, and trusts none.  There is no room for others: adding is
 * ENOBUFS, receiving EMSGSIZE.
 * Signal-safe.
 *
 * Return: 0, or -1: EBADMSG: malformed; @batch then holds the records ahead of
 * the first that is.
 */
int umpsc_batch_wrap(struct umpsc_batch *batch, const void *addr, size_t len);

/**
 * umpsc_batch_clear - forget what is in it, and keep the memory
 * @batch: the batch
 *
 * Signal-safe.
 */
void umpsc_batch_clear(struct umpsc_batch *batch);

/**
 * umpsc_batch_free - free its memory; it is an empty batch that allocates again
 * @batch: the batch; a fixed one's memory is left alone
 */
void umpsc_batch_free(struct umpsc_batch *batch);

/**
 * umpsc_batch_add - put a message behind the others
 * @batch: the batch
 * @data: its payload; must not lie in @batch
 * @len: bytes of it
 *
 * Return: 0, or -1: ENOMEM; ENOBUFS: a fixed batch is full; EMSGSIZE: longer than
 * UMPSC_LEN_MAX.  The batch is then as it was.
 */
int umpsc_batch_add(struct umpsc_batch *batch, const void *data, size_t len);

/**
 * umpsc_batch_addv - umpsc_batch_add() of a message in pieces
 * @batch: the batch
 * @iov: the pieces
 * @iovcnt: how many
 *
 * Return: as umpsc_batch_add(); EINVAL: @iovcnt is negative.
 */
int umpsc_batch_addv(struct umpsc_batch *batch, const struct iovec *iov,
		     int iovcnt);

/**
 * umpsc_batch_reserve - room for a message, to fill in where it will lie
 * umpsc_batch_commit - put it behind the others
 * @batch: the batch
 * @len: for reserve, the most bytes it may have; for commit, those it has
 *
 * For payload that comes from read(2) and the like, without copying it once more.
 * Any other change of the batch between the two gives the room up.
 *
 * Return: reserve: where the payload goes, or NULL as umpsc_batch_add().
 * commit: 0, or -1: EINVAL: nothing was reserved, or less than @len.
 */
void *umpsc_batch_reserve(struct umpsc_batch *batch, size_t len);
int umpsc_batch_commit(struct umpsc_batch *batch, size_t len);

/**
 * umpsc_batch_next - the next message of a batch
 * @batch: the batch; it begins with its first message
 * @message: what it is
 *
 * Return: 1; 0: there are no more; -1: EBADMSG: what comes is malformed, which no
 * kernel gives.
 */
int umpsc_batch_next(struct umpsc_batch *batch, struct umpsc_message *message);

/**
 * umpsc_batch_rewind - umpsc_batch_next() begins anew
 * @batch: the batch
 *
 * Signal-safe.
 */
void umpsc_batch_rewind(struct umpsc_batch *batch);

/**
 * umpsc_record_next - the next record in memory that is no batch
 * @addr: packed records, at any alignment
 * @len: their bytes
 * @at: where the next begins, from 0; moved behind it
 * @message: what it is
 *
 * Goes by umpsc_record.hdr, and reads no byte outside @addr and @len whatever is in
 * there.  Signal-safe.
 *
 * Return: 1; 0: there are no more; -1: EBADMSG: it is malformed, or does not end,
 * with its padding, inside of @len; *@at stays.
 */
int umpsc_record_next(const void *addr, size_t len, size_t *at,
		      struct umpsc_message *message);

/* ---- Sending ----------------------------------------------------------- */

/**
 * umpsc_send - send one message (Tokio: send)
 * @sender: a sender
 * @data: its payload
 * @len: bytes of it; 0 sends an empty message, which write(2) does not
 *
 * Never waits for the receiver.  Signal-safe.
 *
 * Return: 0, or -1 with nothing sent: EPIPE: the receiver has closed or gone (no
 * SIGPIPE); EMSGSIZE: longer than the channel or the module takes; ENOBUFS: the
 * channel's limit; EDQUOT: the user's or the module's; ENOMEM; EFAULT; EBADF: not
 * a sender.
 */
int umpsc_send(int sender, const void *data, size_t len);

/**
 * umpsc_sendv - umpsc_send() of a message in pieces
 * @sender: a sender
 * @iov: the pieces
 * @iovcnt: how many, up to IOV_MAX
 *
 * Signal-safe.
 *
 * Return: as umpsc_send(); EINVAL: @iovcnt.
 */
int umpsc_sendv(int sender, const struct iovec *iov, int iovcnt);

/**
 * umpsc_send_batch - send all messages of a batch, one behind the other, or none
 * @sender: a sender
 * @batch: the batch, which stays as it is
 *
 * Signal-safe.
 *
 * Return: how many messages that were, 0 for an empty batch, or -1 as umpsc_send();
 * ENOTTY: not a sender; EMSGSIZE: also above 2 GiB together; EINVAL: a record is
 * malformed.
 */
int umpsc_send_batch(int sender, const struct umpsc_batch *batch);

/* ---- Receiving --------------------------------------------------------- */

/* For time-outs and deadlines. */
#define UMPSC_MSEC 1000000ULL
#define UMPSC_SEC 1000000000ULL

/**
 * umpsc_deadline - the time that is so far from now
 * @timeout_ns: how far, in ns; what the clock cannot hold is UMPSC_NO_DEADLINE
 *
 * Signal-safe.
 *
 * Return: the time in ns of CLOCK_MONOTONIC.
 */
uint64_t umpsc_deadline(uint64_t timeout_ns);

/**
 * umpsc_recv_until - receive up to so many messages, until a deadline
 * @receiver: a receiver
 * @batch: where they go; what was in it is forgotten first, on an error too
 * @max: most messages; 0 returns 0 at once
 * @deadline_ns: of CLOCK_MONOTONIC, as umpsc_deadline() gives it;
 *	UMPSC_NO_DEADLINE never comes, and one in the past does not wait
 *
 * Waits for one message, and takes with it what is there and fits, without
 * waiting for more.  A batch that allocates has 64 KiB at least, and grows where
 * one message needs more.
 *
 * Return: how many were received; 0: the end, no more will come; -1 with nothing
 * received: EAGAIN: nothing is queued, and the handle is non-blocking; ETIMEDOUT;
 * EINTR; EMSGSIZE: the next message does not fit a fixed batch, which must have
 * umpsc_batch.need bytes; ENOMEM: likewise for one that allocates, it stays
 * queued; EFAULT; ENOTTY: not a receiver.
 */
int umpsc_recv_until(int receiver, struct umpsc_batch *batch, unsigned int max,
		     uint64_t deadline_ns);

/**
 * umpsc_recv_many - receive up to so many messages (Tokio: recv_many)
 * umpsc_try_recv_many - the same, if there are any
 * umpsc_recv_many_timeout - the same, waiting so long at most
 * @receiver: a receiver
 * @batch: where they go, for umpsc_batch_next()
 * @max: most messages; 0 returns 0 at once
 * @timeout_ns: from now, in ns
 *
 * Return: as umpsc_recv_until(); umpsc_try_recv_many() never waits, and has EAGAIN
 * where nothing is queued, also on a handle that is not non-blocking.
 */
int umpsc_recv_many(int receiver, struct umpsc_batch *batch, unsigned int max);
int umpsc_try_recv_many(int receiver, struct umpsc_batch *batch,
			unsigned int max);
int umpsc_recv_many_timeout(int receiver, struct umpsc_batch *batch,
			    unsigned int max, uint64_t timeout_ns);

/**
 * umpsc_recv - receive one message (Tokio: recv)
 * umpsc_try_recv - the same, if there is one (Tokio: try_recv)
 * umpsc_recv_timeout - the same, waiting so long at most (Tokio: timeout)
 * @receiver: a receiver
 * @batch: memory for it, to be used again for the next; umpsc_batch_free() in the end
 * @message: what it is; it lies in @batch
 * @timeout_ns: from now, in ns
 *
 * A message is received whole.  Where there are many, umpsc_recv_many() is faster.
 *
 * Return: 1; 0: the end; or -1 as umpsc_recv_until() and umpsc_try_recv_many().
 */
int umpsc_recv(int receiver, struct umpsc_batch *batch,
	       struct umpsc_message *message);
int umpsc_try_recv(int receiver, struct umpsc_batch *batch,
		   struct umpsc_message *message);
int umpsc_recv_timeout(int receiver, struct umpsc_batch *batch,
		       struct umpsc_message *message, uint64_t timeout_ns);

/* ---- Looking ----------------------------------------------------------- */

/* Take the size of the structure, as the caller knows it. */
int umpsc_info_sized(int handle, void *info, size_t size);
int umpsc_query_sized(int handle, void *query, size_t size);

/**
 * umpsc_info - all that is known of a channel and this handle
 * @handle: any handle; a manager stands for its node's current channel
 * @info: see <linux/umpsc.h>; what the running kernel does not know is 0
 *
 * Signal-safe.
 *
 * Return: 0, or -1: ENXIO: a manager whose node was removed.
 */
static inline int umpsc_info(int handle, struct umpsc_info *info)
{
	return umpsc_info_sized(handle, info, sizeof(*info));
}

/**
 * umpsc_query - version, features, limits and totals of the module
 * @handle: any handle
 * @query: see <linux/umpsc.h>
 *
 * Signal-safe.
 *
 * Return: 0 or -1.
 */
static inline int umpsc_query(int handle, struct umpsc_query *query)
{
	return umpsc_query_sized(handle, query, sizeof(*query));
}

/**
 * umpsc_len - messages queued (Tokio: len)
 * umpsc_bytes - bytes of payload queued
 * umpsc_strong_count - senders there are (Tokio: strong_count)
 * umpsc_weak_count - weak senders there are (Tokio: weak_count)
 * @handle: any handle, a sender as well
 *
 * Each is exact at one instant of the call.  Signal-safe.
 *
 * Return: the count, or -1 as umpsc_info().
 */
int64_t umpsc_len(int handle);
int64_t umpsc_bytes(int handle);
int64_t umpsc_strong_count(int handle);
int64_t umpsc_weak_count(int handle);

/**
 * umpsc_is_empty - whether no message is queued (Tokio: is_empty)
 * umpsc_is_closed - whether no message can be sent any more (Tokio: is_closed)
 * @handle: any handle
 *
 * Closed: the receiver has closed or gone, or the last sender has gone and none can
 * come.  Messages may be queued all the same.  Signal-safe.
 *
 * Return: 1, 0, or -1 as umpsc_info().
 */
int umpsc_is_empty(int handle);
int umpsc_is_closed(int handle);

/**
 * umpsc_same_channel - whether two handles are of one channel (Tokio: same_channel)
 * @handle: any handle
 * @other: any descriptor
 *
 * Signal-safe.
 *
 * Return: 1; 0, also where @other is no handle; or -1: EBADF: one is no
 * descriptor.
 */
int umpsc_same_channel(int handle, int other);

/* ---- Errors ------------------------------------------------------------ */

/**
 * umpsc_strerror - what an error number means to a user of umpsc
 * @error: as errno has it
 *
 * Errors that umpsc gives a meaning of its own are told in its words, the others as
 * the C library tells them, in English.  Signal-safe.
 *
 * Return: a constant string, without a full stop.
 */
const char *umpsc_strerror(int error);

#ifdef __cplusplus
}
#endif

#endif /* _UMPSC_H */
