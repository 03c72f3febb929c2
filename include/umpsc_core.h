/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The channel, as umpsc_mod.c drives it.  umpsc_core.c documents each function.
 */
#ifndef _UMPSC_CORE_H
#define _UMPSC_CORE_H

#include <linux/gfp.h>
#include <linux/ktime.h>
#include <linux/poll.h>
#include <linux/types.h>
#include <linux/uio.h>
#include <linux/wait.h>

#include <uapi/linux/umpsc.h>

#include "umpsc_queue.h"

/*
 * For all that users make the kernel keep: charged to their memory cgroup, and
 * refused rather than paid for by the OOM killer.
 */
#define UMPSC_GFP (GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL | __GFP_NOWARN)

struct umpsc_channel;
struct umpsc_ledger;
struct umpsc_run;
struct umpsc_seg;

/* How a channel begins, see "A channel's life" in umpsc_core.c. */
enum umpsc_life {
	/* Claimed, and with one sender. */
	UMPSC_LIFE_PRIVATE,
	/* Held until it is claimed and joined. */
	UMPSC_LIFE_NODE,
	/* Held until it is abandoned. */
	UMPSC_LIFE_STANDING,
};

/**
 * struct umpsc_pos - a place in the queue: a record, or bytes in one
 * @run: the run, NULL for "the oldest, if there is one"
 * @p: the next byte
 * @n: bytes from @p to the end of this piece of the run
 * @seg: the piece after it
 * @left: records of the run from here on
 */
struct umpsc_pos {
	struct umpsc_run *run;
	u8 *p;
	size_t n;
	struct umpsc_seg *seg;
	u32 left;
};

/**
 * struct umpsc_take - a receive between its peek and its commit
 * @pos: where the next receive will begin
 * @offset: bytes of that message's payload that are gone by then
 * @part: the byte after these; where @offset is not 0
 * @last: youngest run that is used up, or NULL
 * @count: messages taken
 * @bytes: their payload
 * @memory: what the runs up to @last hold
 * @used: bytes of the packed batch
 * @need: bytes that the first message would need, where it did not fit
 */
struct umpsc_take {
	struct umpsc_pos pos;
	u32 offset;
	struct umpsc_pos part;
	struct umpsc_run *last;
	u64 count;
	u64 bytes;
	u64 memory;
	size_t used;
	size_t need;
};

/**
 * enum umpsc_wait - what a receive does where nothing is queued, or a signal comes
 * @UMPSC_WAIT: wait for a message; -ERESTARTSYS on a signal
 * @UMPSC_NOWAIT: -EAGAIN; -ERESTARTSYS on a signal, where another receive is waited for
 * @UMPSC_NOWAIT_ASYNC: -EAGAIN; no signal but SIGKILL is an error, as nobody would
 *	restart the call
 */
enum umpsc_wait {
	UMPSC_WAIT,
	UMPSC_NOWAIT,
	UMPSC_NOWAIT_ASYNC,
};

int umpsc_core_init(void);
void umpsc_core_exit(void);
void umpsc_core_query(struct umpsc_query *query);

int umpsc_memory_charge(size_t bytes, bool must, u32 *account);
void umpsc_memory_uncharge(size_t bytes, u32 account);

struct umpsc_channel *umpsc_channel_new(enum umpsc_life life, u32 flags,
					const struct umpsc_limits *limits,
					u64 generation,
					struct umpsc_ledger *ledger);
struct umpsc_channel *umpsc_channel_get(struct umpsc_channel *ch);
void umpsc_channel_put(struct umpsc_channel *ch);
bool umpsc_channel_ended(struct umpsc_channel *ch);
bool umpsc_channel_waiting(struct umpsc_channel *ch);
void umpsc_channel_abandon(struct umpsc_channel *ch);
void umpsc_channel_info(struct umpsc_channel *ch, struct umpsc_info *info);
u64 umpsc_channel_new_id(struct umpsc_channel *ch);

struct umpsc_ledger *umpsc_ledger_new(void);
void umpsc_ledger_put(struct umpsc_ledger *ledger);
void umpsc_ledger_close(struct umpsc_ledger *ledger);
int umpsc_ledger_info(struct umpsc_ledger *ledger, struct umpsc_info *info);

int umpsc_sender_join(struct umpsc_channel *ch);
void umpsc_sender_leave(struct umpsc_channel *ch);
void umpsc_weak_join(struct umpsc_channel *ch);
void umpsc_weak_leave(struct umpsc_channel *ch);
int umpsc_receiver_claim(struct umpsc_channel *ch);
void umpsc_receiver_close(struct umpsc_channel *ch);
void umpsc_receiver_leave(struct umpsc_channel *ch);

ssize_t umpsc_send(struct umpsc_channel *ch, u64 sender, struct iov_iter *from);
int umpsc_send_batch(struct umpsc_channel *ch, u64 sender,
		     struct iov_iter *from);

ssize_t umpsc_read(struct umpsc_channel *ch, struct iov_iter *to,
		   enum umpsc_wait wait);
int umpsc_recv_begin(struct umpsc_channel *ch, struct umpsc_take *t,
		     struct iov_iter *to, u32 max, enum umpsc_wait wait,
		     ktime_t *deadline);
int umpsc_recv_commit(struct umpsc_channel *ch, struct umpsc_take *t);
void umpsc_recv_abort(struct umpsc_channel *ch);
int umpsc_receiver_unread(struct umpsc_channel *ch);

struct wait_queue_head *umpsc_receiver_wait_queue(struct umpsc_channel *ch);
struct wait_queue_head *umpsc_sender_wait_queue(struct umpsc_channel *ch);
__poll_t umpsc_receiver_poll(struct umpsc_channel *ch);
__poll_t umpsc_sender_poll(struct umpsc_channel *ch);
__poll_t umpsc_weak_poll(struct umpsc_channel *ch);

#endif /* _UMPSC_CORE_H */
