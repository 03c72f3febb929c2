// SPDX-License-Identifier: GPL-2.0-only
/*
 * The channel: queue, counts, life, wait and wake, memory
 *
 * Knows no struct file and no ioctl number; umpsc_mod.c drives it, and a caller in
 * the kernel could.  The user's view is in include/uapi/linux/umpsc.h.
 *
 * Lifetime
 *	Every handle (sender, weak sender, receiver) and the node that leads to a
 *	channel hold a reference (umpsc_channel_get, _put).  A queued run belongs to
 *	the queue; a receive owns the runs that it has popped, and frees them.  Wait
 *	queues live in the channel, which every file that polls them pins, so they
 *	cannot vanish under a poller, and a waker still holds its own reference.
 *	A ledger is held by its node and by each of the node's channels.
 *
 * Locks, outer first
 *	ledger.lock		which channels of a node there are
 *	  q.lock		see below
 *	rx_lock			one receive at a time; held while it copies to the user
 *	  q.lock		raw, interrupts off: the queue, the counts, the life
 *	rx_wait.lock		the wait queues' own; nothing is taken inside
 *	tx_wait.lock
 *	Nothing is allocated, freed, copied or woken under q.lock.
 *
 * Two words decide everything
 *	The state word (in the queue): closed, and messages accepted and not yet
 *	received.  Written under q.lock; a send is accepted or refused there, and that
 *	is its place in the order.
 *	The strong word: sender files, and one for the hold of the node.  A send needs
 *	a sender, so once it is zero no message can come; every way up is "increment
 *	unless zero", so zero is for ever.
 *
 *	                  S>0, open  S>0, closed  S>0, receiver gone  S=0
 *	send              ok         EPIPE        EPIPE               -
 *	join (any way)    ok         ok           ok                  ESHUTDOWN
 *	sender's ERR      no         yes          yes                 -
 *	receiver's HUP    no         yes          -                   yes
 *	receive, queued   message    message      -                   message
 *	receive, empty    wait       end          -                   end
 *
 * A channel's life
 *	A private channel starts claimed and with one sender.  A node's channel starts
 *	with the hold in the strong word alone, and gives it up once it was both
 *	claimed and joined; a standing one keeps it until it is abandoned.
 *
 * END: the end never overtakes a message
 *	A receiver asks whether the channel has ended first, and only then whether a
 *	message is queued:
 *
 *	receiver				last sender
 *	  strong word: acquire, zero		  accepted: state word + 1
 *	  state word: empty => the end		  strong word: release, zero
 *
 *	Who reads zero sees what was accepted before it.  The other way round, the send
 *	and the drop could both fall between the two looks, and a message be lost.
 *	Closed and empty is one look at one word, or two in the same order.
 *
 * WAKE: no wake-up is lost, and no needless one is made
 *	rx_watched says that somebody may be waiting who has not been woken since he
 *	last looked.  A waiter first joins rx_wait and then, under q.lock, sets it and
 *	looks; a send, under q.lock, publishes, reads and clears it, and after the lock
 *	wakes if it was set.  The lock puts one before the other:
 *
 *	waiter					sender
 *	  join rx_wait				  lock; publish; was it set?
 *	  lock; set; look; unlock		  unlock; wake rx_wait if so
 *
 *	Either the look comes second and sees the message, or the send does, and finds
 *	it set and the waiter on rx_wait.  N sends wake a receiver that does not run
 *	once.  poll() is such a look, and so is a receive that takes something while
 *	somebody is on rx_wait: an edge-triggered epoll and a multishot poll of io_uring
 *	need not poll again to see what arrives after it.
 *	tx_watched does the same for senders that wait for room; being refused for the
 *	limits is a look of theirs.
 *	The changes that come once, close and the last drop, wake unconditionally.
 *
 * SPARE: a send reuses what a receive has just used up
 *	One run of at most two pages waits in ch->spare.  Senders and the receiver
 *	take it out and put one in by xchg, so whoever has it in hand has it alone.  A
 *	sender takes it only for a run that would be of the same shape and be charged to
 *	the same memory cgroup; if it does not suit, it is freed.
 */
#include <linux/atomic.h>
#include <linux/cgroup.h>
#include <linux/cred.h>
#include <linux/hrtimer.h>
#include <linux/kref.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/minmax.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/pid.h>
#include <linux/poll.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <linux/uidgid.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "umpsc_core.h"

/**
 * struct umpsc_seg - a page of a run's records, after those in the run itself
 * @next: the page after it, or NULL
 * @data: records, going on from the piece before
 */
struct umpsc_seg {
	struct umpsc_seg *next;
	u8 data[PAGE_SIZE - sizeof(void *)];
};

static_assert(sizeof(struct umpsc_seg) == PAGE_SIZE);
static_assert(sizeof_field(struct umpsc_seg, data) % UMPSC_RECORD_ALIGN == 0);

/**
 * struct umpsc_run_creds - who sent a run, in a channel with UMPSC_CREDS
 * @pid: the sending process; a reference
 * @uid: its real user
 * @gid: its real group
 *
 * Ahead of the run's records.
 */
struct umpsc_run_creds {
	struct pid *pid;
	kuid_t uid;
	kgid_t gid;
};

static_assert(sizeof(struct umpsc_run_creds) % UMPSC_RECORD_ALIGN == 0);

/**
 * struct umpsc_run - what one send accepted: one publication
 * @link: in the queue
 * @segs: the pieces after @data, or NULL
 * @cgroup: id of the memory cgroup that it is charged to
 * @memory: bytes that it holds, slack and pages included
 * @count: records
 * @data: with UMPSC_CREDS struct umpsc_run_creds first; then records, packed as RECV
 *	hands them out; a record, also a header, may go on in the next piece
 *
 * Fixed after publication but for the records' seq, which the receiver writes.
 */
struct umpsc_run {
	struct umpsc_link link;
	struct umpsc_seg *segs;
	u64 cgroup;
	u32 memory;
	u32 count;
	u8 data[] __aligned(UMPSC_RECORD_ALIGN);
};

/* The largest run that is one piece, and the largest that is kept as a spare. */
#define UMPSC_RUN_WHOLE (2 * PAGE_SIZE)

/* A batch of 42 messages of 64 bytes has to fit a page, a single one 128 bytes. */
static_assert(sizeof(struct umpsc_run) == 32);
static_assert(sizeof(struct umpsc_record) == UMPSC_RECORD_HDR);

/**
 * struct umpsc_ledger - what the channels of a node have counted, all together
 * @ref: the node, and each of its channels
 * @lock: guards the rest
 * @channels: those that exist, the current one and older ones
 * @freed: sums over those that no longer do
 *
 * A channel counts for itself alone, in words that its sends and receives write
 * anyway, and goes on to count when its node leads to another one already: it may
 * be drained, discarded or refuse sends for long.  Its figures move to @freed in
 * one step with its leaving @channels, so that a sum over both misses none and
 * has none twice, whatever becomes of whom meanwhile.
 */
struct umpsc_ledger {
	struct kref ref;

	/* Guards the rest. */
	struct mutex lock;
	struct list_head channels;
	struct umpsc_info freed;
};

/**
 * struct umpsc_channel - a channel
 *
 * Fixed after creation:
 * @id: unique for the boot
 * @generation: which of its node's channels, from 1; 0 for a private one
 * @flags: channel flags
 * @limits: the channel's own limits
 * @standing: keeps the hold until it is abandoned
 * @ledger: of its node; NULL for a private one
 *
 * Under ledger->lock:
 * @in_ledger: among its node's channels
 *
 * Atomic:
 * @ref: handles, and the node that leads to it
 * @strong: the strong word
 * @weak: weak sender files
 * @ids: ids of handles given out
 *
 * With locks of their own:
 * @rx_wait: where the receiver waits
 * @tx_wait: where senders and weak senders wait
 * @wakeups: of the receiver by a send; under rx_wait.lock
 * @spare: see SPARE
 * @free_work: frees @doomed
 * @doomed: a backlog; belongs to @free_work once that is queued
 *
 * The receiver's, written under q.lock by a receive, which holds rx_lock, or while
 * there is no receiver.  Either lock is enough to read them:
 * @rx_lock: held through a receive
 * @pos: the receiver's place
 * @offset: bytes of the message at @pos that read() took
 * @part: the byte after these; where @offset is not 0
 *
 * Under q.lock, which each send and each receive takes once:
 * @q: the queue, with the state word
 * @rx_watched: see WAKE
 * @tx_watched: see WAKE
 * @full: a send was refused for the limits, and the queue not yet at half of them
 * @hold: the node's part in the strong word is there
 * @claimed: a file is the receiver
 * @joined: has had a sender
 * @gone: the receiver went for good
 * @bytes: payload queued
 * @memory: what the queued runs hold
 * @most_messages: high-water mark of messages queued
 * @most_bytes: high-water mark of @bytes
 * @sent: messages accepted
 * @sent_bytes: their payload
 * @received: messages; also the next one's seq
 * @received_bytes: their payload
 * @refused_closed: sends refused with EPIPE
 * @refused_size: with EMSGSIZE
 * @refused_limit: with ENOBUFS
 * @refused_memory: with ENOMEM
 */
struct umpsc_channel {
	u64 id;
	u64 generation;
	u32 flags;
	struct umpsc_limits limits;
	bool standing;
	struct umpsc_ledger *ledger;

	struct list_head in_ledger;

	struct kref ref;
	refcount_t strong;
	atomic_t weak;
	atomic64_t ids;

	struct wait_queue_head rx_wait;
	struct wait_queue_head tx_wait;
	u64 wakeups;
	struct umpsc_run *spare;
	struct work_struct free_work;
	struct umpsc_link *doomed;

	/* One receive at a time. */
	struct mutex rx_lock;
	struct umpsc_pos pos;
	u32 offset;
	struct umpsc_pos part;

	struct umpsc_queue q ____cacheline_aligned_in_smp;
	bool rx_watched;
	bool tx_watched;
	bool full;
	bool hold;
	bool claimed;
	bool joined;
	bool gone;
	u64 bytes;
	u64 memory;
	u64 most_messages;
	u64 most_bytes;
	u64 sent;
	u64 sent_bytes;
	u64 received;
	u64 received_bytes;
	u64 refused_closed;
	u64 refused_size;
	u64 refused_limit;
	u64 refused_memory;
};

static_assert(sizeof(struct umpsc_channel) <= 1024);

/* What is queued in all channels; a sum over the CPUs is the figure. */
struct umpsc_totals {
	s64 messages;
	s64 bytes;
};

static DEFINE_PER_CPU(struct umpsc_totals, umpsc_totals);
static atomic64_t umpsc_channels;

/* Ids begin at the time of loading, so that a later load gives out later ones. */
static atomic64_t umpsc_channel_ids;

static struct workqueue_struct *umpsc_wq;

static unsigned long umpsc_max_len = 16UL << 20;
module_param_named(max_len, umpsc_max_len, ulong, 0644);
MODULE_PARM_DESC(max_len, "largest message, in bytes (at most 1 GiB)");

/* ---- Runs -------------------------------------------------------------- */

/* How many small steps a loop makes between two chances for other tasks. */
#define UMPSC_RESCHED 64

/* Let other tasks run; true if the caller is being killed and may stop. */
static bool umpsc_breathe(void)
{
	cond_resched();
	return fatal_signal_pending(current);
}

static size_t umpsc_record_size(u32 len)
{
	return UMPSC_RECORD_SIZE(UMPSC_RECORD_HDR, len);
}

static struct umpsc_run_creds *umpsc_run_creds(struct umpsc_run *run)
{
	return (struct umpsc_run_creds *)run->data;
}

/* Bytes of @run->data ahead of the records. */
static size_t umpsc_run_prefix(struct umpsc_channel *ch)
{
	return ch->flags & UMPSC_CREDS ? sizeof(struct umpsc_run_creds) : 0;
}

static void umpsc_run_init_creds(struct umpsc_channel *ch,
				 struct umpsc_run *run)
{
	if (ch->flags & UMPSC_CREDS)
		*umpsc_run_creds(run) = (struct umpsc_run_creds){
			.pid = get_pid(task_tgid(current)),
			.uid = current_uid(),
			.gid = current_gid(),
		};
}

static void umpsc_run_deinit_creds(struct umpsc_channel *ch,
				   struct umpsc_run *run)
{
	if (ch->flags & UMPSC_CREDS)
		put_pid(umpsc_run_creds(run)->pid);
}

/* Free what was allocated for a run. */
static void umpsc_run_dealloc(struct umpsc_run *run)
{
	struct umpsc_seg *seg, *next;

	for (seg = run->segs; seg; seg = next) {
		next = seg->next;
		free_page((unsigned long)seg);
		cond_resched();
	}
	kfree(run);
}

static void umpsc_run_free(struct umpsc_channel *ch, struct umpsc_run *run)
{
	umpsc_run_deinit_creds(ch, run);
	umpsc_run_dealloc(run);
}

/* Free a chain that was taken out of the queue. */
static void umpsc_runs_free(struct umpsc_channel *ch, struct umpsc_link *link)
{
	struct umpsc_run *run;

	while (link) {
		run = container_of(link, struct umpsc_run, link);
		link = link->next;
		umpsc_run_free(ch, run);
		cond_resched();
	}
}

/* The memory cgroup that an allocation of the caller is charged to; 0: not his own. */
static u64 umpsc_current_cgroup(void)
{
#ifdef CONFIG_MEMCG
	u64 id;

	if (current->active_memcg)
		return 0;
	/* As good as rcu_read_lock(), and in line. */
	preempt_disable();
	id = cgroup_id(task_css(current, memory_cgrp_id)->cgroup);
	preempt_enable();
	return id;
#else
	return 1;
#endif
}

/* SPARE: the spare if a run of @memory for @cgroup can be made of it, or NULL. */
static struct umpsc_run *umpsc_spare_take(struct umpsc_channel *ch,
					  size_t memory, bool paged, u64 cgroup)
{
	struct umpsc_run *run;

	if (!READ_ONCE(ch->spare))
		return NULL;
	run = xchg(&ch->spare, NULL);
	if (!run || (run->memory == memory && !run->segs == !paged &&
		     run->cgroup == cgroup))
		return run;
	umpsc_run_dealloc(run);
	return NULL;
}

/* SPARE: nobody will receive, and so nobody send, any more. */
static void umpsc_spare_drop(struct umpsc_channel *ch)
{
	struct umpsc_run *run = xchg(&ch->spare, NULL);

	if (run)
		umpsc_run_dealloc(run);
}

/* SPARE: done with a chain of runs; one of them may serve again. */
static void umpsc_spare_put(struct umpsc_channel *ch, struct umpsc_link *link)
{
	struct umpsc_run *run = container_of(link, struct umpsc_run, link);

	if (link && run->memory <= UMPSC_RUN_WHOLE && run->cgroup &&
	    !READ_ONCE(ch->spare)) {
		link = link->next;
		umpsc_run_deinit_creds(ch, run);
		run = xchg(&ch->spare, run);
		if (run)
			umpsc_run_dealloc(run);
	}
	umpsc_runs_free(ch, link);
}

static int umpsc_run_add_segs(struct umpsc_run *run, size_t count)
{
	struct umpsc_seg **at = &run->segs;
	struct umpsc_seg *seg;

	for (; count; count--) {
		if (umpsc_breathe())
			return -EINTR;
		seg = (struct umpsc_seg *)__get_free_page(UMPSC_GFP);
		if (!seg)
			return -ENOMEM;
		seg->next = NULL;
		*at = seg;
		at = &seg->next;
	}
	return 0;
}

/*
 * A run with room for @packed bytes of records.  Where one piece would hold more
 * memory than pages and a piece for the odd rest, it is these.
 */
static struct umpsc_run *umpsc_run_new(struct umpsc_channel *ch, size_t packed)
{
	size_t prefix = sizeof(struct umpsc_run) + umpsc_run_prefix(ch);
	size_t whole = kmalloc_size_roundup(prefix + packed);
	size_t size = whole, memory = whole, segs = 0, rest;
	u64 cgroup = umpsc_current_cgroup();
	struct umpsc_run *run;
	int err;

	might_sleep();
	if (whole > PAGE_SIZE) {
		segs = packed / sizeof_field(struct umpsc_seg, data);
		rest = packed % sizeof_field(struct umpsc_seg, data);
		/* The first header always has its place in the run itself. */
		rest = max(rest, sizeof(struct umpsc_record));
		if (prefix + rest > PAGE_SIZE) {
			rest = sizeof(struct umpsc_record);
			segs++;
		}
		size = kmalloc_size_roundup(prefix + rest);
		memory = size + segs * PAGE_SIZE;
		if (whole <= UMPSC_RUN_WHOLE && whole <= memory) {
			segs = 0;
			size = whole;
			memory = whole;
		}
	}

	run = umpsc_spare_take(ch, memory, segs, cgroup);
	if (run) {
		umpsc_run_init_creds(ch, run);
		return run;
	}

	run = kmalloc(size, UMPSC_GFP);
	if (!run)
		return ERR_PTR(-ENOMEM);
	run->segs = NULL;
	run->cgroup = cgroup;
	run->memory = memory;
	err = umpsc_run_add_segs(run, segs);
	if (err) {
		umpsc_run_dealloc(run);
		return ERR_PTR(err);
	}
	umpsc_run_init_creds(ch, run);
	return run;
}

/* Bytes of @run->data: all that it has room for. */
static size_t umpsc_run_inline(const struct umpsc_run *run)
{
	size_t size = run->memory;

	/* Without its pages; what is left of it is at most one. */
	if (run->segs)
		size = (size - 1) % PAGE_SIZE + 1;
	return size - sizeof(*run);
}

/* ---- Places in a run --------------------------------------------------- */

static void umpsc_pos_start(struct umpsc_channel *ch, struct umpsc_pos *pos,
			    struct umpsc_run *run)
{
	size_t prefix = umpsc_run_prefix(ch);

	pos->run = run;
	pos->p = run->data + prefix;
	pos->n = umpsc_run_inline(run) - prefix;
	pos->seg = run->segs;
	pos->left = run->count;
}

/*
 * The bytes at @pos, at most @len of them, that lie together; steps over them.
 * Within what is packed there is always a next piece.
 */
static inline u8 *umpsc_pos_piece(struct umpsc_pos *pos, size_t len,
				  size_t *piece)
{
	u8 *p;

	if (unlikely(!pos->n)) {
		pos->p = pos->seg->data;
		pos->n = sizeof(pos->seg->data);
		pos->seg = pos->seg->next;
	}
	p = pos->p;
	*piece = min(len, pos->n);
	pos->p += *piece;
	pos->n -= *piece;
	return p;
}

static void umpsc_pos_skip_pieces(struct umpsc_pos *pos, size_t len)
{
	size_t piece;

	for (; len; len -= piece)
		umpsc_pos_piece(pos, len, &piece);
}

static inline void umpsc_pos_skip(struct umpsc_pos *pos, size_t len)
{
	if (unlikely(len > pos->n)) {
		umpsc_pos_skip_pieces(pos, len);
		return;
	}
	pos->p += len;
	pos->n -= len;
}

static void umpsc_pos_read(struct umpsc_pos *pos, void *to, size_t len)
{
	size_t piece;
	u8 *p;

	for (; len; len -= piece, to += piece) {
		p = umpsc_pos_piece(pos, len, &piece);
		memcpy(to, p, piece);
	}
}

static void umpsc_pos_write(struct umpsc_pos *pos, const void *from, size_t len)
{
	size_t piece;
	u8 *p;

	for (; len; len -= piece, from += piece) {
		p = umpsc_pos_piece(pos, len, &piece);
		memcpy(p, from, piece);
	}
}

static inline void umpsc_pos_zero(struct umpsc_pos *pos, size_t len)
{
	size_t piece;
	u8 *p;

	for (; len; len -= piece) {
		p = umpsc_pos_piece(pos, len, &piece);
		memset(p, 0, piece);
	}
}

static void umpsc_pos_move(struct umpsc_pos *to, struct umpsc_pos *from,
			   size_t len)
{
	size_t piece;
	u8 *p;

	for (; len; len -= piece) {
		p = umpsc_pos_piece(from, len, &piece);
		umpsc_pos_write(to, p, piece);
		cond_resched();
	}
}

/*
 * User copies go through the functions that check the user's side only: a piece is
 * within its run by construction, and to find that out again from the slab takes
 * longer than a small copy.
 */
static int umpsc_pos_copy_from_user(struct umpsc_pos *pos, size_t len,
				    struct iov_iter *from)
{
	size_t piece;
	u8 *p;

	while (len) {
		p = umpsc_pos_piece(pos, len, &piece);
		if (_copy_from_iter(p, piece, from) != piece)
			return -EFAULT;
		len -= piece;
		if (len && umpsc_breathe())
			return -EINTR;
	}
	return 0;
}

static int umpsc_pos_copy_to_user(struct umpsc_pos *pos, size_t len,
				  struct iov_iter *to)
{
	size_t piece;
	u8 *p;

	while (len) {
		p = umpsc_pos_piece(pos, len, &piece);
		if (_copy_to_iter(p, piece, to) != piece)
			return -EFAULT;
		len -= piece;
		if (len && umpsc_breathe())
			return -EINTR;
	}
	return 0;
}

static struct umpsc_record *umpsc_pos_copy_header(const struct umpsc_pos *pos,
						  struct umpsc_record *copy)
{
	struct umpsc_pos at = *pos;

	umpsc_pos_read(&at, copy, sizeof(*copy));
	return copy;
}

static void umpsc_pos_copy_header_back(const struct umpsc_pos *pos,
				       const struct umpsc_record *copy)
{
	struct umpsc_pos at = *pos;

	umpsc_pos_write(&at, copy, sizeof(*copy));
}

/* The header of the record at @pos: in place, or where it goes on, in @copy. */
static inline struct umpsc_record *umpsc_pos_header(const struct umpsc_pos *pos,
						    struct umpsc_record *copy)
{
	if (unlikely(pos->n < sizeof(*copy)))
		return umpsc_pos_copy_header(pos, copy);
	return (struct umpsc_record *)pos->p;
}

/* Number the record at @pos, whose header is @rec.  Nothing else of it is written. */
static inline void umpsc_pos_set_seq(const struct umpsc_pos *pos,
				     struct umpsc_record *rec, u64 seq)
{
	struct umpsc_pos at = *pos;

	if (likely(pos->n >= sizeof(*rec))) {
		rec->seq = seq;
		return;
	}
	umpsc_pos_skip_pieces(&at, offsetof(struct umpsc_record, seq));
	umpsc_pos_write(&at, &seq, sizeof(seq));
}

/* What umpsc_pos_header() returned was changed. */
static inline void umpsc_pos_set_header(const struct umpsc_pos *pos,
					const struct umpsc_record *rec)
{
	if (unlikely(pos->n < sizeof(*rec)))
		umpsc_pos_copy_header_back(pos, rec);
}

/* ---- Sending: prepare -------------------------------------------------- */

/**
 * umpsc_core_max_len - largest message that any channel takes now, in bytes
 */
unsigned long umpsc_core_max_len(void)
{
	return min_t(u64, READ_ONCE(umpsc_max_len), UMPSC_LEN_MAX);
}

static u64 umpsc_channel_max_len(struct umpsc_channel *ch)
{
	u64 max = umpsc_core_max_len();

	return ch->limits.max_len ? min(max, ch->limits.max_len) : max;
}

static u64 umpsc_channel_time(struct umpsc_channel *ch)
{
	return ch->flags & UMPSC_TIMESTAMP ? ktime_get_ns() : 0;
}

/*
 * Count a send refused while it was prepared, and give its error on.  What publish
 * refuses it counts itself.
 */
static int umpsc_channel_refuse(struct umpsc_channel *ch, int err)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&ch->q.lock, flags);
	switch (err) {
	case -EPIPE:
		ch->refused_closed++;
		break;
	case -EMSGSIZE:
		ch->refused_size++;
		break;
	case -ENOMEM:
		ch->refused_memory++;
		break;
	}
	raw_spin_unlock_irqrestore(&ch->q.lock, flags);
	return err;
}

static struct umpsc_run *umpsc_prepare(struct umpsc_channel *ch, u64 sender,
				       struct iov_iter *from)
{
	size_t len = iov_iter_count(from);
	struct umpsc_record *rec;
	struct umpsc_run *run;
	struct umpsc_pos pos;
	int err;

	if (len > umpsc_channel_max_len(ch))
		return ERR_PTR(-EMSGSIZE);

	run = umpsc_run_new(ch, umpsc_record_size(len));
	if (IS_ERR(run))
		return run;
	run->count = 1;

	umpsc_pos_start(ch, &pos, run);
	/* In place: the first piece has room for it. */
	rec = (struct umpsc_record *)pos.p;
	rec->len = len;
	rec->hdr = sizeof(*rec);
	rec->flags = 0;
	rec->seq = 0;
	rec->sender = sender;
	rec->time_ns = umpsc_channel_time(ch);
	umpsc_pos_skip(&pos, sizeof(*rec));
	err = umpsc_pos_copy_from_user(&pos, len, from);
	if (err) {
		umpsc_run_free(ch, run);
		return ERR_PTR(err);
	}
	umpsc_pos_zero(&pos, umpsc_record_size(len) - sizeof(*rec) - len);
	return run;
}

/**
 * struct umpsc_batch - what the check of a batch found
 * @count: records
 * @bytes: their payload
 * @packed: bytes of the records as the kernel keeps them
 * @foreign: some header has another size than the kernel's own
 */
struct umpsc_batch {
	u32 count;
	u64 bytes;
	u64 packed;
	bool foreign;
};

static bool umpsc_hdr_ok(size_t hdr)
{
	return hdr >= UMPSC_RECORD_HDR && hdr <= UMPSC_RECORD_HDR_MAX &&
	       hdr % UMPSC_RECORD_ALIGN == 0;
}

/*
 * Check the batch in @run, as it came from the user, record by record, and put
 * into each header and padding what the kernel says there.
 */
static int umpsc_batch_check(struct umpsc_channel *ch, struct umpsc_run *run,
			     size_t left, u64 sender, struct umpsc_batch *batch)
{
	u64 max_len = umpsc_channel_max_len(ch);
	u64 time_ns = umpsc_channel_time(ch);
	struct umpsc_record *rec, copy;
	struct umpsc_pos pos;
	size_t size, hdr;
	u32 len;

	*batch = (struct umpsc_batch){};
	umpsc_pos_start(ch, &pos, run);
	for (; left; left -= size) {
		if (left < sizeof(*rec))
			return -EINVAL;
		rec = umpsc_pos_header(&pos, &copy);
		len = rec->len;
		hdr = rec->hdr ? rec->hdr : sizeof(*rec);
		if (!umpsc_hdr_ok(hdr) || rec->flags & ~UMPSC_REST)
			return -EINVAL;
		size = UMPSC_RECORD_SIZE(hdr, len);
		if (size > left)
			return -EINVAL;
		if (len > max_len)
			return -EMSGSIZE;

		batch->count++;
		batch->bytes += len;
		batch->packed += umpsc_record_size(len);
		batch->foreign |= hdr != sizeof(*rec);

		rec->hdr = hdr;
		rec->flags = 0;
		rec->seq = 0;
		rec->sender = sender;
		rec->time_ns = time_ns;
		umpsc_pos_set_header(&pos, rec);
		umpsc_pos_skip(&pos, hdr + len);
		if (size > hdr + len)
			umpsc_pos_zero(&pos, size - hdr - len);
		if (!(batch->count % UMPSC_RESCHED) && umpsc_breathe())
			return -EINTR;
	}
	return 0;
}

/* The same records in a run of their own, each with a header of the kernel's size. */
static struct umpsc_run *umpsc_batch_repack(struct umpsc_channel *ch,
					    struct umpsc_run *old,
					    const struct umpsc_batch *batch)
{
	struct umpsc_record *rec, copy;
	struct umpsc_pos from, to;
	struct umpsc_run *run;
	size_t hdr;
	u32 i;

	run = umpsc_run_new(ch, batch->packed);
	if (IS_ERR(run))
		return run;

	umpsc_pos_start(ch, &from, old);
	umpsc_pos_start(ch, &to, run);
	for (i = 0; i < batch->count; i++) {
		rec = umpsc_pos_header(&from, &copy);
		hdr = rec->hdr;
		rec->hdr = sizeof(*rec);
		umpsc_pos_write(&to, rec, sizeof(*rec));
		umpsc_pos_skip(&from, hdr);
		/* The payload, and the padding, which is zero by now. */
		umpsc_pos_move(&to, &from,
			       umpsc_record_size(rec->len) - sizeof(*rec));
	}
	return run;
}

static struct umpsc_run *umpsc_prepare_batch(struct umpsc_channel *ch,
					     u64 sender, struct iov_iter *from,
					     u64 *bytes)
{
	size_t len = iov_iter_count(from);
	struct umpsc_run *run, *repacked;
	struct umpsc_batch batch;
	struct umpsc_pos pos;
	int err;

	if (len > MAX_RW_COUNT)
		return ERR_PTR(-EMSGSIZE);
	/* The last record's padding is part of the batch. */
	if (len % UMPSC_RECORD_ALIGN)
		return ERR_PTR(-EINVAL);

	run = umpsc_run_new(ch, len);
	if (IS_ERR(run))
		return run;
	umpsc_pos_start(ch, &pos, run);
	err = umpsc_pos_copy_from_user(&pos, len, from);
	if (!err)
		err = umpsc_batch_check(ch, run, len, sender, &batch);
	if (err) {
		umpsc_run_free(ch, run);
		return ERR_PTR(err);
	}

	if (batch.foreign) {
		repacked = umpsc_batch_repack(ch, run, &batch);
		umpsc_run_free(ch, run);
		if (IS_ERR(repacked))
			return repacked;
		run = repacked;
	}
	run->count = batch.count;
	*bytes = batch.bytes;
	return run;
}

/* ---- Sending: publish, wake --------------------------------------------- */

static bool umpsc_below(u64 value, u64 limit)
{
	return !limit || value < limit;
}

static bool umpsc_at_half(u64 value, u64 limit)
{
	return !limit || value <= limit / 2;
}

/* May a sender that waits for room try again? */
static bool umpsc_has_room_locked(struct umpsc_channel *ch)
{
	u64 len = ch->q.state / UMPSC_ENTRY;

	lockdep_assert_held(&ch->q.lock);
	if (ch->full && umpsc_at_half(len, ch->limits.max_msgs) &&
	    umpsc_at_half(ch->bytes, ch->limits.max_bytes))
		ch->full = false;
	return !ch->full && umpsc_below(len, ch->limits.max_msgs) &&
	       umpsc_below(ch->bytes, ch->limits.max_bytes);
}

static bool umpsc_fits_locked(struct umpsc_channel *ch, u64 count, u64 bytes)
{
	const struct umpsc_limits *limits = &ch->limits;
	u64 len = ch->q.state / UMPSC_ENTRY;

	lockdep_assert_held(&ch->q.lock);
	return (!limits->max_msgs || len + count <= limits->max_msgs) &&
	       (!limits->max_bytes || ch->bytes + bytes <= limits->max_bytes);
}

/*
 * Wake the receiver: every waiting task, and one of the exclusive pollers.  Returns
 * whether others of those are left.
 */
static bool umpsc_wake_receiver_once(struct umpsc_channel *ch)
{
	struct wait_queue_head *wq = &ch->rx_wait;
	struct wait_queue_entry *youngest;
	bool others = false;
	unsigned long flags;

	spin_lock_irqsave(&wq->lock, flags);
	/* No barrier: WAKE joined under this very lock. */
	if (waitqueue_active(wq)) {
		ch->wakeups++;
		__wake_up_locked_key(wq, TASK_INTERRUPTIBLE,
				     poll_to_key(EPOLLIN | EPOLLRDNORM));
	}
	/* Exclusive entries come behind all others. */
	if (waitqueue_active(wq)) {
		youngest = list_last_entry(&wq->head, struct wait_queue_entry,
					   entry);
		others = youngest->flags & WQ_FLAG_EXCLUSIVE;
	}
	spin_unlock_irqrestore(&wq->lock, flags);
	return others;
}

/*
 * WAKE: after a publication that found the channel watched.  @sent is what had been
 * sent with it.  While exclusive pollers are left, the next send is to wake one of
 * them, since the woken one may not look at all; what was sent in the meantime wakes
 * one for all of it.
 */
static void umpsc_wake_receiver(struct umpsc_channel *ch, u64 sent)
{
	unsigned long flags;
	bool more = true;

	while (more && umpsc_wake_receiver_once(ch)) {
		raw_spin_lock_irqsave(&ch->q.lock, flags);
		ch->rx_watched = true;
		more = ch->sent != sent;
		sent = ch->sent;
		raw_spin_unlock_irqrestore(&ch->q.lock, flags);
	}
}

/* Close and the last drop: whoever waits for anything is to look again. */
static void umpsc_wake_all(struct umpsc_channel *ch)
{
	wake_up_interruptible_all(&ch->rx_wait);
	wake_up_interruptible_all(&ch->tx_wait);
}

static void umpsc_totals_add(s64 messages, s64 bytes)
{
	this_cpu_add(umpsc_totals.messages, messages);
	this_cpu_add(umpsc_totals.bytes, bytes);
}

/*
 * Accept @run, whose payload is @bytes, or refuse it.  For any context.  Only the
 * closed bit and the channel's limits can refuse; a run refused stays the caller's.
 * @wake: out: 0, or what is to be given to umpsc_wake_receiver().
 */
static int umpsc_publish(struct umpsc_channel *ch, struct umpsc_run *run,
			 u64 bytes, u64 *wake)
{
	u64 count = run->count;
	unsigned long flags;
	u64 len;

	raw_spin_lock_irqsave(&ch->q.lock, flags);
	if (ch->q.state & UMPSC_CLOSED) {
		ch->refused_closed++;
		raw_spin_unlock_irqrestore(&ch->q.lock, flags);
		return -EPIPE;
	}
	if (!umpsc_fits_locked(ch, count, bytes)) {
		ch->refused_limit++;
		ch->full = true;
		/* WAKE: a look. */
		ch->tx_watched = true;
		raw_spin_unlock_irqrestore(&ch->q.lock, flags);
		return -ENOBUFS;
	}

	/* The point of no return: from here on the run is the receiver's. */
	umpsc_queue_push_locked(&ch->q, &run->link, count);
	ch->bytes += bytes;
	ch->memory += run->memory;
	ch->sent += count;
	ch->sent_bytes += bytes;
	len = ch->q.state / UMPSC_ENTRY;
	ch->most_messages = max(ch->most_messages, len);
	ch->most_bytes = max(ch->most_bytes, ch->bytes);
	*wake = ch->rx_watched ? ch->sent : 0;
	ch->rx_watched = false;
	raw_spin_unlock_irqrestore(&ch->q.lock, flags);

	umpsc_totals_add(count, bytes);
	return 0;
}

/* Publish and wake.  A run refused is freed. */
static int umpsc_deliver(struct umpsc_channel *ch, struct umpsc_run *run,
			 u64 bytes)
{
	u64 wake;
	int err;

	err = umpsc_publish(ch, run, bytes, &wake);
	if (err) {
		umpsc_run_free(ch, run);
		return err;
	}
	if (wake)
		umpsc_wake_receiver(ch, wake);
	return 0;
}

/**
 * umpsc_send - send one message (Tokio: UnboundedSender::send)
 * @ch: the channel; the caller holds a sender of it
 * @sender: that sender's id
 * @from: the payload, all of it
 *
 * Never waits for the receiver or another sender; may wait for memory.  On an
 * error nothing was accepted and nothing is kept.
 *
 * Return: the payload's bytes; -EPIPE: closed; -EMSGSIZE: too long for the channel
 * or the module; -ENOBUFS: the channel's limits; -ENOMEM; -EFAULT; -EINTR: killed.
 */
ssize_t umpsc_send(struct umpsc_channel *ch, u64 sender, struct iov_iter *from)
{
	size_t len = iov_iter_count(from);
	struct umpsc_run *run;
	int err;

	if (umpsc_queue_closed(&ch->q))
		return umpsc_channel_refuse(ch, -EPIPE);

	run = umpsc_prepare(ch, sender, from);
	if (IS_ERR(run))
		return umpsc_channel_refuse(ch, PTR_ERR(run));

	err = umpsc_deliver(ch, run, len);
	return err ? err : len;
}

/**
 * umpsc_send_batch - send a packed batch, all of it or nothing
 * @ch: the channel; the caller holds a sender of it
 * @sender: that sender's id
 * @from: the records
 *
 * As umpsc_send().  The batch is contiguous in the order.
 *
 * Return: how many messages were accepted, 0 for an empty batch; errors as of
 * umpsc_send(), and -EINVAL: not a batch.
 */
int umpsc_send_batch(struct umpsc_channel *ch, u64 sender,
		     struct iov_iter *from)
{
	struct umpsc_run *run;
	u64 bytes = 0;
	int count, err;

	if (umpsc_queue_closed(&ch->q))
		return umpsc_channel_refuse(ch, -EPIPE);
	if (!iov_iter_count(from))
		return 0;

	run = umpsc_prepare_batch(ch, sender, from, &bytes);
	if (IS_ERR(run))
		return umpsc_channel_refuse(ch, PTR_ERR(run));

	count = run->count;
	err = umpsc_deliver(ch, run, bytes);
	return err ? err : count;
}

/* ---- Receiving: wait --------------------------------------------------- */

/* Is the strong word zero?  What was accepted before that is visible then. */
static bool umpsc_senders_gone(struct umpsc_channel *ch)
{
	if (refcount_read(&ch->strong))
		return false;
	/* END: pairs with the release in umpsc_sender_leave(). */
	smp_acquire__after_ctrl_dep();
	return true;
}

/**
 * umpsc_channel_ended - has the channel ended?
 * @ch: the channel
 *
 * Closed, the receiver gone, or the strong word zero; for ever, then.  What was
 * accepted may still be queued.
 */
bool umpsc_channel_ended(struct umpsc_channel *ch)
{
	return umpsc_senders_gone(ch) || umpsc_queue_closed(&ch->q);
}

/* WAKE: is there anything for a receiver?  If not now, it wants to be woken. */
static u64 umpsc_receiver_look(struct umpsc_channel *ch, bool *ended)
{
	unsigned long flags;
	u64 state;

	/* END: this before the queue. */
	*ended = umpsc_senders_gone(ch);
	raw_spin_lock_irqsave(&ch->q.lock, flags);
	ch->rx_watched = true;
	state = ch->q.state;
	raw_spin_unlock_irqrestore(&ch->q.lock, flags);
	*ended |= state & UMPSC_CLOSED;
	return state / UMPSC_ENTRY;
}

/*
 * Sleep until there is something for a receiver.  0, -ERESTARTSYS: a signal came,
 * or -ETIMEDOUT: @deadline passed (NULL: none).
 */
static int umpsc_receiver_sleep(struct umpsc_channel *ch, ktime_t *deadline)
{
	bool expired = false, ended;
	DEFINE_WAIT(wait);
	u64 slack;
	int err;

	for (;;) {
		err = prepare_to_wait_event(&ch->rx_wait, &wait,
					    TASK_INTERRUPTIBLE);
		if (umpsc_receiver_look(ch, &ended) || ended) {
			err = 0;
			break;
		}
		if (err)
			break;
		if (expired) {
			err = -ETIMEDOUT;
			break;
		}
		slack = current->timer_slack_ns;
		expired = !schedule_hrtimeout_range(deadline, slack,
						    HRTIMER_MODE_ABS);
	}
	finish_wait(&ch->rx_wait, &wait);
	return err;
}

/*
 * Wait for a message.  1: there is one, and rx_lock is held; 0: the end; or an
 * error.  @deadline may be NULL.
 */
static int umpsc_receive_begin(struct umpsc_channel *ch, bool nowait,
			       ktime_t *deadline)
{
	bool ended;
	int err;

	might_sleep();
	for (;;) {
		/* END: this first. */
		ended = umpsc_channel_ended(ch);
		if (umpsc_queue_len(&ch->q)) {
			/* May wait for another receive's copy, never for a message. */
			if (mutex_lock_interruptible(&ch->rx_lock))
				return -ERESTARTSYS;
			if (umpsc_queue_len(&ch->q))
				return 1;
			mutex_unlock(&ch->rx_lock);
			continue;
		}
		if (ended)
			return 0;
		if (nowait) {
			/*
			 * Under the lock: a send that had returned before the
			 * caller did what he did last is seen, on any CPU.
			 */
			if (umpsc_receiver_look(ch, &ended))
				continue;
			return ended ? 0 : -EAGAIN;
		}
		err = umpsc_receiver_sleep(ch, deadline);
		if (err)
			return err;
	}
}

/* ---- Receiving: peek, copy, then unlink ---------------------------------- */

/* The run at the place of @t, or NULL where nothing more is queued. */
static struct umpsc_run *umpsc_take_run(struct umpsc_channel *ch,
					struct umpsc_take *t)
{
	struct umpsc_link *link;

	lockdep_assert_held(&ch->rx_lock);
	if (!t->pos.run) {
		link = t->last ? umpsc_queue_next(&t->last->link) :
				 umpsc_queue_peek(&ch->q);
		if (!link)
			return NULL;
		umpsc_pos_start(ch, &t->pos,
				container_of(link, struct umpsc_run, link));
	}
	return t->pos.run;
}

static void umpsc_take_start(struct umpsc_channel *ch, struct umpsc_take *t)
{
	lockdep_assert_held(&ch->rx_lock);
	t->pos = ch->pos;
	t->offset = ch->offset;
	t->last = NULL;
	t->count = 0;
	t->bytes = 0;
	t->memory = 0;
}

/*
 * @count more records of the run are taken, @bytes of payload; t->pos is behind
 * them if some of the run are left.
 */
static void umpsc_take_records(struct umpsc_take *t, u32 count, u64 bytes)
{
	struct umpsc_run *run = t->pos.run;

	t->count += count;
	t->bytes += bytes;
	t->offset = 0;
	t->pos.left -= count;
	if (!t->pos.left) {
		t->last = run;
		t->memory += run->memory;
		t->pos.run = NULL;
	}
}

/* The record at t->pos is taken. */
static void umpsc_take_record(struct umpsc_take *t, u32 len)
{
	if (t->pos.left > 1)
		umpsc_pos_skip(&t->pos, umpsc_record_size(len));
	umpsc_take_records(t, 1, len);
}

/*
 * Unlink what was taken, and free it.  Ends what umpsc_receive_begin() began.
 * -EINTR and nothing is taken where the caller is being killed, since nobody will
 * see the copy.
 */
static int umpsc_take_commit(struct umpsc_channel *ch, struct umpsc_take *t)
{
	struct umpsc_link *last = t->last ? &t->last->link : NULL;
	struct umpsc_link *used_up;
	unsigned long flags;
	bool room = false;

	lockdep_assert_held(&ch->rx_lock);
	if (fatal_signal_pending(current)) {
		mutex_unlock(&ch->rx_lock);
		return -EINTR;
	}

	/* The point of no return. */
	raw_spin_lock_irqsave(&ch->q.lock, flags);
	used_up = umpsc_queue_pop_locked(&ch->q, last, t->count);
	ch->pos = t->pos;
	ch->offset = t->offset;
	if (t->offset)
		ch->part = t->part;
	ch->bytes -= t->bytes;
	ch->memory -= t->memory;
	ch->received += t->count;
	ch->received_bytes += t->bytes;
	if ((ch->full || ch->tx_watched) && umpsc_has_room_locked(ch)) {
		room = ch->tx_watched;
		ch->tx_watched = false;
	}
	/* WAKE: a look, for all that joined before. */
	if (waitqueue_active(&ch->rx_wait))
		ch->rx_watched = true;
	raw_spin_unlock_irqrestore(&ch->q.lock, flags);
	mutex_unlock(&ch->rx_lock);

	umpsc_totals_add(-t->count, -t->bytes);
	umpsc_spare_put(ch, used_up);
	if (room)
		__wake_up(&ch->tx_wait, TASK_INTERRUPTIBLE, 0,
			  poll_to_key(EPOLLOUT | EPOLLWRNORM));
	return 0;
}

/*
 * Copy bytes of the next message that has any, at most what @to wants; 0 after so
 * many empty ones that the caller had better look around.
 */
static ssize_t umpsc_take_bytes(struct umpsc_channel *ch, struct umpsc_take *t,
				struct iov_iter *to)
{
	struct umpsc_record *rec, copy;
	size_t len, total;
	int err;

	umpsc_take_start(ch, t);
	while (t->count < UMPSC_RESCHED && umpsc_take_run(ch, t)) {
		rec = umpsc_pos_header(&t->pos, &copy);
		total = rec->len;
		if (!total) {
			umpsc_take_record(t, 0);
			continue;
		}
		if (t->offset) {
			t->part = ch->part;
		} else {
			t->part = t->pos;
			umpsc_pos_skip(&t->part, sizeof(*rec));
		}
		len = min(total - t->offset, iov_iter_count(to));
		err = umpsc_pos_copy_to_user(&t->part, len, to);
		if (err)
			return err;
		t->offset += len;
		if (t->offset == total)
			umpsc_take_record(t, total);
		return len;
	}
	return 0;
}

/**
 * umpsc_read - receive bytes of one message
 * @ch: the channel; the caller is its receiver
 * @to: where to; not empty
 * @nowait: do not wait for a message
 *
 * The first bytes of the next message, or the next ones of it; never of two.  It
 * counts as received when its last byte is.  Empty messages are passed over, and
 * taken; a fault in the copy leaves those right before the message as well.
 *
 * Return: bytes, or 0 at the end; on an error no byte was taken: -EAGAIN,
 * -ERESTARTSYS, -EFAULT, -EINTR: killed.
 */
ssize_t umpsc_read(struct umpsc_channel *ch, struct iov_iter *to, bool nowait)
{
	struct umpsc_take t;
	ssize_t ret;
	int err;

	for (;;) {
		err = umpsc_receive_begin(ch, nowait, NULL);
		if (err <= 0)
			return err;
		ret = umpsc_take_bytes(ch, &t, to);
		if (ret < 0) {
			mutex_unlock(&ch->rx_lock);
			return ret;
		}
		err = umpsc_take_commit(ch, &t);
		if (err)
			return err;
		if (ret)
			return ret;
		/* Only empty messages, and who knows how many more. */
		cond_resched();
		if (signal_pending(current))
			return -ERESTARTSYS;
	}
}

/* Bytes of the header that the channel's records have on receive. */
static size_t umpsc_channel_hdr(struct umpsc_channel *ch)
{
	size_t hdr = sizeof(struct umpsc_record);

	if (ch->flags & UMPSC_CREDS)
		hdr += sizeof(struct umpsc_creds);
	return hdr;
}

/* The creds of @run as the receiver's namespaces see them. */
static struct umpsc_creds umpsc_creds_here(struct umpsc_run *run)
{
	const struct umpsc_run_creds *creds = umpsc_run_creds(run);

	return (struct umpsc_creds){
		.pid = pid_vnr(creds->pid),
		.uid = from_kuid_munged(current_user_ns(), creds->uid),
		.gid = from_kgid_munged(current_user_ns(), creds->gid),
	};
}

/*
 * The record at t->pos, with a header made for it: what is left of a message whose
 * first part went out by read(), and any in a channel whose header is not the one
 * that is stored.
 */
static int umpsc_take_remade(struct umpsc_channel *ch, struct umpsc_take *t,
			     struct iov_iter *to)
{
	struct {
		struct umpsc_record rec;
		struct umpsc_creds creds;
		u8 padding[UMPSC_RECORD_ALIGN];
	} out = {};
	size_t hdr = umpsc_channel_hdr(ch), size, padding;
	struct umpsc_record *rec, copy;
	u32 len;
	int err;

	rec = umpsc_pos_header(&t->pos, &copy);
	len = rec->len;
	out.rec = *rec;
	out.rec.len = len - t->offset;
	out.rec.hdr = hdr;
	out.rec.seq = ch->received + t->count;
	size = UMPSC_RECORD_SIZE(hdr, out.rec.len);
	if (size > iov_iter_count(to)) {
		t->need = size;
		return 0;
	}
	if (t->offset) {
		out.rec.flags = UMPSC_REST;
		t->part = ch->part;
	} else {
		t->part = t->pos;
		umpsc_pos_skip(&t->part, sizeof(*rec));
	}
	if (ch->flags & UMPSC_CREDS)
		out.creds = umpsc_creds_here(t->pos.run);

	if (copy_to_iter(&out, hdr, to) != hdr)
		return -EFAULT;
	err = umpsc_pos_copy_to_user(&t->part, out.rec.len, to);
	if (err)
		return err;
	padding = size - hdr - out.rec.len;
	if (copy_to_iter(out.padding, padding, to) != padding)
		return -EFAULT;

	umpsc_take_record(t, len);
	return 1;
}

/*
 * As many whole records of the run at t->pos as @to and @max allow, numbered, in
 * one copy.  Returns how many, which may be none.
 */
static int umpsc_take_from_run(struct umpsc_channel *ch, struct umpsc_take *t,
			       struct iov_iter *to, u32 max)
{
	size_t space = iov_iter_count(to), used = 0;
	u64 seq = ch->received + t->count;
	struct umpsc_pos pos = t->pos;
	struct umpsc_record *rec, copy;
	u64 bytes = 0;
	size_t size;
	u32 count;
	int err;

	max = min(max, t->pos.left);
	for (count = 0; count < max; count++) {
		rec = umpsc_pos_header(&pos, &copy);
		size = umpsc_record_size(rec->len);
		if (size > space - used) {
			t->need = size;
			break;
		}
		umpsc_pos_set_seq(&pos, rec, seq + count);
		used += size;
		bytes += rec->len;
		umpsc_pos_skip(&pos, size);
		if (!((count + 1) % UMPSC_RESCHED) && umpsc_breathe())
			return -EINTR;
	}
	if (!count)
		return 0;
	err = umpsc_pos_copy_to_user(&t->pos, used, to);
	if (err)
		return err;
	umpsc_take_records(t, count, bytes);
	return count;
}

/* Copy what is there, up to @max messages and the space of @to. */
static int umpsc_take_batch(struct umpsc_channel *ch, struct umpsc_take *t,
			    struct iov_iter *to, u32 max)
{
	size_t space = iov_iter_count(to);
	u32 steps = 0;
	int ret;

	umpsc_take_start(ch, t);
	while (t->count < max && umpsc_take_run(ch, t)) {
		if (t->offset || ch->flags & UMPSC_CREDS)
			ret = umpsc_take_remade(ch, t, to);
		else
			ret = umpsc_take_from_run(ch, t, to, max - t->count);
		if (!(++steps % UMPSC_RESCHED) && umpsc_breathe())
			return -EINTR;
		if (ret < 0)
			return ret;
		if (!ret)
			break;
	}
	if (!t->count)
		return -EMSGSIZE;
	t->need = 0;
	t->used = space - iov_iter_count(to);
	return t->count;
}

/**
 * umpsc_recv_begin - receive a packed batch: peek and copy (Tokio: recv_many)
 * @ch: the channel; the caller is its receiver
 * @t: what is about to be taken; out, also on an error
 * @to: the buffer
 * @max: most messages, above 0
 * @nowait: do not wait for a message
 * @deadline: until when to wait, CLOCK_MONOTONIC, or NULL
 *
 * Waits for a message, then copies what is there.  Nothing is taken before
 * umpsc_recv_commit().
 *
 * Return: how many messages; the caller has to commit or abort then, and no other
 * receive goes on until it does.  0 at the end.  -EAGAIN, -ETIMEDOUT, -ERESTARTSYS,
 * -EMSGSIZE: the first message does not fit (t->need), -EFAULT.
 */
int umpsc_recv_begin(struct umpsc_channel *ch, struct umpsc_take *t,
		     struct iov_iter *to, u32 max, bool nowait,
		     ktime_t *deadline)
{
	int ret;

	t->used = 0;
	t->need = 0;
	ret = umpsc_receive_begin(ch, nowait, deadline);
	if (ret <= 0)
		return ret;
	/* The count is the return value of a system call. */
	ret = umpsc_take_batch(ch, t, to, min_t(u32, max, INT_MAX));
	if (ret < 0)
		mutex_unlock(&ch->rx_lock);
	return ret;
}

/**
 * umpsc_recv_commit - receive a packed batch: take what was copied
 * @ch: the channel
 * @t: as umpsc_recv_begin() left it
 *
 * Return: 0, or -EINTR and nothing was taken: the caller is being killed.
 */
int umpsc_recv_commit(struct umpsc_channel *ch, struct umpsc_take *t)
{
	return umpsc_take_commit(ch, t);
}

/**
 * umpsc_recv_abort - receive a packed batch: take nothing after all
 * @ch: the channel
 */
void umpsc_recv_abort(struct umpsc_channel *ch)
{
	mutex_unlock(&ch->rx_lock);
}

/**
 * umpsc_receiver_unread - bytes left of the next message
 * @ch: the channel; the caller is its receiver
 *
 * Return: bytes, 0 where the next message is empty or there is none; -ERESTARTSYS.
 */
int umpsc_receiver_unread(struct umpsc_channel *ch)
{
	struct umpsc_record *rec, copy;
	struct umpsc_take t;
	int len = 0;

	if (mutex_lock_interruptible(&ch->rx_lock))
		return -ERESTARTSYS;
	umpsc_take_start(ch, &t);
	if (umpsc_take_run(ch, &t)) {
		rec = umpsc_pos_header(&t.pos, &copy);
		len = rec->len - t.offset;
	}
	mutex_unlock(&ch->rx_lock);
	return len;
}

/* ---- Polling ----------------------------------------------------------- */

/**
 * umpsc_receiver_wait_queue - where the receiver waits
 * @ch: the channel
 */
struct wait_queue_head *umpsc_receiver_wait_queue(struct umpsc_channel *ch)
{
	return &ch->rx_wait;
}

/**
 * umpsc_sender_wait_queue - where senders and weak senders wait, likewise
 * @ch: the channel
 */
struct wait_queue_head *umpsc_sender_wait_queue(struct umpsc_channel *ch)
{
	return &ch->tx_wait;
}

/**
 * umpsc_receiver_poll - the receiver's events (Tokio: is_empty, is_closed)
 * @ch: the channel
 *
 * To be called after joining umpsc_receiver_wait_queue(), see WAKE.
 */
__poll_t umpsc_receiver_poll(struct umpsc_channel *ch)
{
	__poll_t events = 0;
	bool ended;

	if (umpsc_receiver_look(ch, &ended))
		events |= EPOLLIN | EPOLLRDNORM;
	if (ended)
		events |= EPOLLIN | EPOLLRDNORM | EPOLLHUP | EPOLLRDHUP;
	return events;
}

/**
 * umpsc_sender_poll - a sender's events (Tokio: closed, is_closed)
 * @ch: the channel
 *
 * To be called after joining umpsc_sender_wait_queue(), see WAKE.
 */
__poll_t umpsc_sender_poll(struct umpsc_channel *ch)
{
	__poll_t events = 0;
	unsigned long flags;

	raw_spin_lock_irqsave(&ch->q.lock, flags);
	if (ch->q.state & UMPSC_CLOSED)
		events = EPOLLERR;
	else if (umpsc_has_room_locked(ch))
		events = EPOLLOUT | EPOLLWRNORM;
	else
		ch->tx_watched = true;
	raw_spin_unlock_irqrestore(&ch->q.lock, flags);
	return events;
}

/**
 * umpsc_weak_poll - a weak sender's events
 * @ch: the channel
 *
 * To be called after joining umpsc_sender_wait_queue().
 */
__poll_t umpsc_weak_poll(struct umpsc_channel *ch)
{
	__poll_t events = 0;

	if (umpsc_queue_closed(&ch->q))
		events |= EPOLLERR;
	if (umpsc_senders_gone(ch))
		events |= EPOLLHUP;
	return events;
}

/* ---- The books of a node ------------------------------------------------- */

/**
 * umpsc_ledger_new - the books of a node
 *
 * Return: a ledger, with one reference; or NULL.
 */
struct umpsc_ledger *umpsc_ledger_new(void)
{
	struct umpsc_ledger *ledger;

	ledger = kzalloc(sizeof(*ledger), UMPSC_GFP);
	if (!ledger)
		return NULL;
	kref_init(&ledger->ref);
	mutex_init(&ledger->lock);
	INIT_LIST_HEAD(&ledger->channels);
	return ledger;
}

static void umpsc_ledger_free(struct kref *ref)
{
	kfree(container_of(ref, struct umpsc_ledger, ref));
}

/**
 * umpsc_ledger_put - give a reference back
 * @ledger: the ledger, or NULL
 */
void umpsc_ledger_put(struct umpsc_ledger *ledger)
{
	if (ledger)
		kref_put(&ledger->ref, umpsc_ledger_free);
}

/* @ch is new, and of @ledger's node; or of no node. */
static void umpsc_ledger_enter(struct umpsc_ledger *ledger,
			       struct umpsc_channel *ch)
{
	ch->ledger = ledger;
	if (!ledger)
		return;
	kref_get(&ledger->ref);
	mutex_lock(&ledger->lock);
	list_add(&ch->in_ledger, &ledger->channels);
	mutex_unlock(&ledger->lock);
}

/* What a channel counts up, and the highest of its marks. */
static void umpsc_info_add(struct umpsc_info *sum,
			   const struct umpsc_info *info)
{
	sum->messages += info->messages;
	sum->bytes += info->bytes;
	sum->sent += info->sent;
	sum->sent_bytes += info->sent_bytes;
	sum->received += info->received;
	sum->received_bytes += info->received_bytes;
	sum->discarded += info->discarded;
	sum->refused_closed += info->refused_closed;
	sum->refused_size += info->refused_size;
	sum->refused_limit += info->refused_limit;
	sum->refused_quota += info->refused_quota;
	sum->refused_memory += info->refused_memory;
	sum->wakeups += info->wakeups;
	sum->most_messages = max(sum->most_messages, info->most_messages);
	sum->most_bytes = max(sum->most_bytes, info->most_bytes);
}

static void umpsc_ledger_add_locked(struct umpsc_ledger *ledger,
				    struct umpsc_info *sum,
				    struct umpsc_channel *ch)
{
	struct umpsc_info info = {};

	lockdep_assert_held(&ledger->lock);
	umpsc_channel_info(ch, &info);
	umpsc_info_add(sum, &info);
}

/* Nobody holds @ch any more: what it counted is final. */
static void umpsc_ledger_leave(struct umpsc_channel *ch)
{
	struct umpsc_ledger *ledger = ch->ledger;

	if (!ledger)
		return;
	mutex_lock(&ledger->lock);
	umpsc_ledger_add_locked(ledger, &ledger->freed, ch);
	list_del(&ch->in_ledger);
	mutex_unlock(&ledger->lock);
	umpsc_ledger_put(ledger);
}

/**
 * umpsc_ledger_info - what all channels of a node have counted
 * @ledger: the node's
 * @info: out: sums of messages and bytes queued, of those sent, received and
 *	discarded, of sends refused and of wakeups, and the highest of the high-water
 *	marks; the rest is 0
 *
 * Each channel's figures are of one instant; the channels are asked in turn.
 */
void umpsc_ledger_info(struct umpsc_ledger *ledger, struct umpsc_info *info)
{
	struct umpsc_channel *ch;

	mutex_lock(&ledger->lock);
	*info = ledger->freed;
	list_for_each_entry(ch, &ledger->channels, in_ledger) {
		umpsc_ledger_add_locked(ledger, info, ch);
		/* Handles can keep any number of ended channels. */
		cond_resched();
	}
	mutex_unlock(&ledger->lock);
}

/* ---- Life -------------------------------------------------------------- */

static void umpsc_channel_free_work(struct work_struct *work);

/**
 * umpsc_channel_new - a new channel
 * @life: how it begins
 * @flags: channel flags, checked
 * @limits: its limits; 0 for none
 * @generation: which of its node's channels it is, 0 for a private one
 * @ledger: its node's, NULL for a private one
 *
 * Return: the channel, with one reference; or ERR_PTR(-ENOMEM).
 */
struct umpsc_channel *umpsc_channel_new(enum umpsc_life life, u32 flags,
					const struct umpsc_limits *limits,
					u64 generation,
					struct umpsc_ledger *ledger)
{
	bool private = life == UMPSC_LIFE_PRIVATE;
	struct umpsc_channel *ch;

	ch = kzalloc(sizeof(*ch), UMPSC_GFP);
	if (!ch)
		return ERR_PTR(-ENOMEM);

	ch->id = atomic64_inc_return(&umpsc_channel_ids);
	ch->generation = generation;
	ch->flags = flags;
	ch->limits = *limits;
	kref_init(&ch->ref);
	refcount_set(&ch->strong, 1);
	init_waitqueue_head(&ch->rx_wait);
	init_waitqueue_head(&ch->tx_wait);
	INIT_WORK(&ch->free_work, umpsc_channel_free_work);
	mutex_init(&ch->rx_lock);
	umpsc_queue_init(&ch->q);
	ch->hold = !private;
	ch->standing = life == UMPSC_LIFE_STANDING;
	ch->claimed = private;
	ch->joined = private;
	atomic64_inc(&umpsc_channels);
	umpsc_ledger_enter(ledger, ch);
	return ch;
}

/**
 * umpsc_channel_get - another reference
 * @ch: the channel
 */
struct umpsc_channel *umpsc_channel_get(struct umpsc_channel *ch)
{
	kref_get(&ch->ref);
	return ch;
}

static void umpsc_channel_release(struct kref *ref)
{
	struct umpsc_channel *ch = container_of(ref, struct umpsc_channel, ref);

	/* Its receiver or its node went before, and took what was queued along. */
	WARN_ON_ONCE(umpsc_queue_len(&ch->q) || ch->memory);
	umpsc_ledger_leave(ch);
	atomic64_dec(&umpsc_channels);
	umpsc_spare_drop(ch);
	kfree(ch);
}

/**
 * umpsc_channel_put - give a reference back
 * @ch: the channel
 */
void umpsc_channel_put(struct umpsc_channel *ch)
{
	kref_put(&ch->ref, umpsc_channel_release);
}

/**
 * umpsc_channel_new_id - an id for a handle, unique in the channel, from 1
 * @ch: the channel
 */
u64 umpsc_channel_new_id(struct umpsc_channel *ch)
{
	return atomic64_inc_return(&ch->ids);
}

/**
 * umpsc_channel_waiting - do messages wait for a receiver to claim the channel?
 * @ch: the channel
 */
bool umpsc_channel_waiting(struct umpsc_channel *ch)
{
	unsigned long flags;
	bool waiting;

	raw_spin_lock_irqsave(&ch->q.lock, flags);
	waiting = !ch->claimed && ch->q.state / UMPSC_ENTRY;
	raw_spin_unlock_irqrestore(&ch->q.lock, flags);
	return waiting;
}

/* Give up the hold if it has served.  True if the strong word became zero by that. */
static bool umpsc_channel_unhold_locked(struct umpsc_channel *ch)
{
	lockdep_assert_held(&ch->q.lock);
	if (!ch->hold || ch->standing || !ch->claimed || !ch->joined)
		return false;
	ch->hold = false;
	return refcount_dec_and_test(&ch->strong);
}

/**
 * umpsc_sender_join - count one more strong sender (Tokio: clone, upgrade)
 * @ch: the channel
 *
 * Increment unless zero.  On a node's channel the first sender and the receiver
 * together end its hold.
 *
 * Return: 0, or -ESHUTDOWN: the strong word is zero, for ever.
 */
int umpsc_sender_join(struct umpsc_channel *ch)
{
	unsigned long flags;

	if (!refcount_inc_not_zero(&ch->strong))
		return -ESHUTDOWN;
	raw_spin_lock_irqsave(&ch->q.lock, flags);
	ch->joined = true;
	/* Not the last one: the caller's own is counted. */
	umpsc_channel_unhold_locked(ch);
	raw_spin_unlock_irqrestore(&ch->q.lock, flags);
	return 0;
}

/**
 * umpsc_sender_leave - one strong sender is gone; the last one ends the channel
 * @ch: the channel
 */
void umpsc_sender_leave(struct umpsc_channel *ch)
{
	/* END: a release, after all that this sender sent. */
	if (refcount_dec_and_test(&ch->strong))
		umpsc_wake_all(ch);
}

/**
 * umpsc_weak_join - count one more weak sender (Tokio: downgrade)
 * @ch: the channel
 */
void umpsc_weak_join(struct umpsc_channel *ch)
{
	atomic_inc(&ch->weak);
}

/**
 * umpsc_weak_leave - one weak sender is gone
 * @ch: the channel
 */
void umpsc_weak_leave(struct umpsc_channel *ch)
{
	atomic_dec(&ch->weak);
}

/**
 * umpsc_receiver_claim - become the receiver of a node's channel
 * @ch: the channel
 *
 * Return: 0; -EBUSY: there is one; -ESHUTDOWN: the channel has ended.
 */
int umpsc_receiver_claim(struct umpsc_channel *ch)
{
	unsigned long flags;
	bool last = false;
	int err = 0;

	raw_spin_lock_irqsave(&ch->q.lock, flags);
	if (ch->q.state & UMPSC_CLOSED || !refcount_read(&ch->strong)) {
		err = -ESHUTDOWN;
	} else if (ch->claimed) {
		err = -EBUSY;
	} else {
		ch->claimed = true;
		last = umpsc_channel_unhold_locked(ch);
	}
	raw_spin_unlock_irqrestore(&ch->q.lock, flags);

	if (last)
		umpsc_wake_all(ch);
	return err;
}

/**
 * umpsc_receiver_close - no more sends (Tokio: UnboundedReceiver::close)
 * @ch: the channel
 *
 * What was accepted stays receivable.  Idempotent.
 */
void umpsc_receiver_close(struct umpsc_channel *ch)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&ch->q.lock, flags);
	umpsc_queue_set_state_locked(&ch->q, ch->q.state | UMPSC_CLOSED);
	raw_spin_unlock_irqrestore(&ch->q.lock, flags);
	umpsc_wake_all(ch);
}

static void umpsc_channel_free_work(struct work_struct *work)
{
	struct umpsc_channel *ch =
		container_of(work, struct umpsc_channel, free_work);

	umpsc_runs_free(ch, ch->doomed);
	umpsc_channel_put(ch);
}

/* Free a backlog here, or, where that would keep a kernel thread, in our own. */
static void umpsc_channel_free_backlog(struct umpsc_channel *ch,
				       struct umpsc_link *backlog)
{
	umpsc_spare_drop(ch);
	if (current->flags & PF_KTHREAD && backlog) {
		/* Once in a channel's life, since it is closed by now. */
		ch->doomed = backlog;
		umpsc_channel_get(ch);
		queue_work(umpsc_wq, &ch->free_work);
		return;
	}
	umpsc_runs_free(ch, backlog);
}

/*
 * Close for good and take out what is queued, for the caller to free, with its
 * count and payload.  There is no receiver, or it is the caller and no receive
 * goes on, so nobody else is at the receiver's place.
 */
static struct umpsc_link *umpsc_channel_shut_locked(struct umpsc_channel *ch,
						    u64 *count, u64 *bytes)
{
	lockdep_assert_held(&ch->q.lock);
	*count = ch->q.state / UMPSC_ENTRY;
	*bytes = ch->bytes;
	ch->gone = true;
	ch->claimed = false;
	ch->bytes = 0;
	ch->memory = 0;
	ch->pos = (struct umpsc_pos){};
	ch->offset = 0;
	return umpsc_queue_drain_locked(&ch->q);
}

/**
 * umpsc_receiver_leave - the receiver goes
 * @ch: the channel
 *
 * A standing channel that was not closed is left for the next receiver, whole: a
 * message that was read in part begins anew.  Any other is closed, and what was
 * not received is freed.
 */
void umpsc_receiver_leave(struct umpsc_channel *ch)
{
	struct umpsc_link *backlog;
	unsigned long flags;
	u64 count, bytes;

	raw_spin_lock_irqsave(&ch->q.lock, flags);
	/* A standing one that was abandoned has lost its hold. */
	if (ch->standing && ch->hold && !(ch->q.state & UMPSC_CLOSED)) {
		ch->claimed = false;
		ch->offset = 0;
		raw_spin_unlock_irqrestore(&ch->q.lock, flags);
		return;
	}
	backlog = umpsc_channel_shut_locked(ch, &count, &bytes);
	raw_spin_unlock_irqrestore(&ch->q.lock, flags);

	umpsc_totals_add(-count, -bytes);
	umpsc_wake_all(ch);
	umpsc_channel_free_backlog(ch, backlog);
}

/**
 * umpsc_channel_abandon - the node no longer leads to the channel
 * @ch: the channel
 *
 * An unclaimed channel ends as if its receiver had gone.  A claimed one loses the
 * hold, also a standing one.  The caller sees to it that nobody claims it
 * meanwhile.
 */
void umpsc_channel_abandon(struct umpsc_channel *ch)
{
	struct umpsc_link *backlog = NULL;
	u64 count = 0, bytes = 0;
	unsigned long flags;
	bool ended = false;

	raw_spin_lock_irqsave(&ch->q.lock, flags);
	if (!ch->claimed && !ch->gone) {
		backlog = umpsc_channel_shut_locked(ch, &count, &bytes);
		ended = true;
	}
	if (ch->hold) {
		ch->hold = false;
		ended |= refcount_dec_and_test(&ch->strong);
	}
	raw_spin_unlock_irqrestore(&ch->q.lock, flags);

	umpsc_totals_add(-count, -bytes);
	if (ended)
		umpsc_wake_all(ch);
	umpsc_channel_free_backlog(ch, backlog);
}

/* ---- Looking ----------------------------------------------------------- */

static u64 umpsc_channel_oldest_locked(struct umpsc_channel *ch)
{
	struct umpsc_pos pos = ch->pos;
	u64 time_ns;

	lockdep_assert_held(&ch->q.lock);
	if (!(ch->flags & UMPSC_TIMESTAMP) || !ch->q.head)
		return 0;
	if (!pos.run)
		umpsc_pos_start(ch, &pos,
				container_of(ch->q.head, struct umpsc_run,
					     link));
	/* And not the header as a whole, whose seq a receive may be writing. */
	umpsc_pos_skip(&pos, offsetof(struct umpsc_record, time_ns));
	umpsc_pos_read(&pos, &time_ns, sizeof(time_ns));
	return ktime_get_ns() - time_ns;
}

/**
 * umpsc_channel_info - all figures of a channel (Tokio: len, strong_count, ...)
 * @ch: the channel
 * @info: out, but for role and handle
 *
 * All figures but wakeups and weak are of one instant.
 */
void umpsc_channel_info(struct umpsc_channel *ch, struct umpsc_info *info)
{
	unsigned long flags;
	u32 strong, state = 0;

	info->flags = ch->flags;
	info->channel = ch->id;
	info->generation = ch->generation;
	info->limits = ch->limits;
	info->weak = atomic_read(&ch->weak);
	info->wakeups = READ_ONCE(ch->wakeups);

	raw_spin_lock_irqsave(&ch->q.lock, flags);
	strong = refcount_read(&ch->strong);
	info->strong = strong - ch->hold;
	info->messages = ch->q.state / UMPSC_ENTRY;
	info->bytes = ch->bytes;
	info->received = ch->received;
	info->received_bytes = ch->received_bytes;
	info->sent = ch->sent;
	info->sent_bytes = ch->sent_bytes;
	info->discarded = ch->sent - ch->received - info->messages;
	info->refused_closed = ch->refused_closed;
	info->refused_size = ch->refused_size;
	info->refused_limit = ch->refused_limit;
	info->refused_memory = ch->refused_memory;
	info->most_messages = ch->most_messages;
	info->most_bytes = ch->most_bytes;
	info->memory = ch->memory;
	info->oldest_ns = umpsc_channel_oldest_locked(ch);
	if (ch->q.state & UMPSC_CLOSED)
		state |= UMPSC_STATE_CLOSED;
	if (ch->gone)
		state |= UMPSC_STATE_RECEIVER_GONE;
	if (ch->claimed)
		state |= UMPSC_STATE_CLAIMED;
	if (ch->standing)
		state |= UMPSC_STATE_STANDING;
	if (!strong || ch->q.state & UMPSC_CLOSED)
		state |= UMPSC_STATE_ENDED;
	raw_spin_unlock_irqrestore(&ch->q.lock, flags);
	info->state = state;
}

/**
 * umpsc_core_totals - what there is in all channels
 * @channels: out: how many there are
 * @messages: out: queued in them
 * @bytes: out: their payload
 */
void umpsc_core_totals(u64 *channels, u64 *messages, u64 *bytes)
{
	s64 m = 0, b = 0;
	int cpu;

	for_each_possible_cpu(cpu) {
		m += READ_ONCE(per_cpu(umpsc_totals.messages, cpu));
		b += READ_ONCE(per_cpu(umpsc_totals.bytes, cpu));
	}
	*channels = atomic64_read(&umpsc_channels);
	/* The CPUs are not read at one instant. */
	*messages = max(m, 0LL);
	*bytes = max(b, 0LL);
}

/* ---- Init and exit ------------------------------------------------------ */

/**
 * umpsc_core_init - before any other call
 *
 * Return: 0 or -ENOMEM.
 */
int umpsc_core_init(void)
{
	atomic64_set(&umpsc_channel_ids, ktime_get_boottime_ns());
	umpsc_wq = alloc_workqueue("umpsc", WQ_UNBOUND, 0);
	return umpsc_wq ? 0 : -ENOMEM;
}

/**
 * umpsc_core_exit - after all channels were put
 */
void umpsc_core_exit(void)
{
	destroy_workqueue(umpsc_wq);
}
