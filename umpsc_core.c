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
 *	ledger.walk_lock	one walk of a node's channels at a time
 *	  ledger.lock		which channels of a node there are
 *	    q.lock		see below
 *	rx_lock			one receive at a time; held while it copies to the user
 *	  q.lock		raw, interrupts off: the queue, the senders' counts, the life
 *	  umpsc_accounts_lock	see below; where an unused spare is freed
 *	arena_lock		raw: cutting runs from the arena
 *	umpsc_accounts_lock	raw: who is charged how much; nothing is taken inside
 *	rx_wait.lock		the wait queues' own; nothing is taken inside
 *	tx_wait.lock
 *	Nothing is allocated, freed, copied or woken under q.lock.
 *
 *	A message like the last one costs its sender two locked instructions: it takes
 *	the spare, and q.lock.  It costs the receiver three: rx_lock, its release, and
 *	q.lock, under which all is fetched that was sent.  tools/bench/profile shows them.
 *
 * Two words decide everything
 *	The state word (in the queue): closed, and messages accepted.  Written under
 *	q.lock; a send is accepted or refused there, and that is its place in the order.
 *	What is queued of them is what the receiver has not taken, which it counts.
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
 *	  state word: all taken => the end	  strong word: release, zero
 *
 *	Who reads zero sees what was accepted before it.  The other way round, the send
 *	and the drop could both fall between the two looks, and a message be lost.
 *	Closed and empty is two looks in the same order, or under q.lock.
 *
 * WAKE: no wake-up is lost, and no needless one is made
 *	Looks are numbered, and rx_answered is the last that a wake-up was for; if it is
 *	not the last of all, somebody may be waiting who was not woken since he looked.
 *	A waiter first joins rx_wait and then, under q.lock, looks; a send, under q.lock,
 *	publishes and compares the two, and after the lock answers the look that it saw:
 *
 *	waiter					sender
 *	  join rx_wait				  lock; publish; a look to answer?  unlock
 *	  lock; looks + 1; look; unlock		  rx_wait.lock; answered = look; wake
 *
 *	Either the look comes second and sees the message, or the send does, and knows of
 *	it.  If it is answered already, whoever did so wakes all that had joined before
 *	it, in one section of rx_wait.lock, and their next look is still to come, as its
 *	number would be seen.  It counts as answered there and not earlier, so that a
 *	sender that is preempted on its way to the wake-up leaves it to the next one; and
 *	a wake-up that comes late answers no look that it does not know of.
 *	N sends wake a receiver that does not run once.  poll() is a look, and so is a
 *	receive that takes something while somebody is on rx_wait: an edge-triggered
 *	epoll and a multishot poll of io_uring need not poll again to see what arrives
 *	after it.
 *	tx_watched is set by senders that wait for room, and cleared by the receive that
 *	makes it, under q.lock; being refused for the limits is a look of theirs.
 *
 * TAKEN: who counts what
 *	Senders write the line of q.lock alone, and the receiver its own lines, so that
 *	neither waits for the other's at each message.  A sender adds to what was sent, a
 *	receive to what was taken, and what is queued is the difference: exact for whoever
 *	holds q.lock, as no send goes on, at the instant at which he reads what was taken.
 *	taken_seq lets him read all of that at one.
 *	A high-water mark is looked at where it may rise: not before more was sent than it
 *	was above what had been taken when it was looked at last.
 *	Where others need to see a receive happen at once, it commits under q.lock: to make
 *	room in a channel with limits, to move its place in one with UMPSC_TIMESTAMP, whose
 *	oldest message may be asked about, and while somebody is on rx_wait.
 *	The changes that come once, close and the last drop, wake unconditionally.
 *
 * SPARE: a send reuses what a receive has just used up
 *	One run of at most 8 KiB waits in ch->spare.  Senders take it out by xchg, so
 *	whoever has it in hand has it alone; a receive puts it there, if there is none,
 *	and no other does while it holds rx_lock, so a plain release is enough.
 *	A sender takes it only for a run of the same shape and account; else it is freed.
 *
 * ARENA: small runs of a backlog share pages
 *	Once more than a few messages wait, small runs are cut one after the other from
 *	a page, ch->arena, which belongs to one account.  To cut is a matter of a few
 *	instructions under arena_lock, which is only tried: who does not get it, and who
 *	is of another account, allocates a run of its own instead, so nobody waits.
 *	Runs are freed in any order.  arena->refs counts down with each of them, and the
 *	count of those that were cut is added when no more will be:
 *
 *	  cut, cut, cut		 refs 0		free one	 refs -1
 *	  retire: add 3		 refs 2		free two	 refs 0: the page is free
 *
 *	So it is zero only after the last of these steps, whichever it is, and a send
 *	needs no atomic operation for it.  Where all that were cut are freed already, a
 *	full arena begins anew instead.
 *	A channel keeps a spare or an arena: a receive puts no spare beside an arena, and
 *	takes out the one that it finds there.  Who fills an arena publishes what is cut
 *	from it, so whoever receives that sees the arena, or that it is gone; where that
 *	send fails, both may stay until the next send or receive:
 *
 *	receive					sender
 *	  no arena seen: put the spare		  fill the arena; publish
 *	  fetch; an arena?  take the spare out	  (it found no spare before)
 */
#include <linux/atomic.h>
#include <linux/capability.h>
#include <linux/cgroup.h>
#include <linux/cred.h>
#include <linux/hashtable.h>
#include <linux/hrtimer.h>
#include <linux/kref.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/log2.h>
#include <linux/minmax.h>
#include <linux/mm.h>
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
#include <linux/seqlock.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>
#include <linux/uidgid.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "umpsc_core.h"

/* Bytes of an object in the largest of the caches that runs are made of. */
#define UMPSC_OBJECT_MAX (PAGE_SIZE - sizeof(void *))

/**
 * struct umpsc_seg - a page of a run's records, after those in the run itself
 * @next: the page after it, or NULL
 * @data: records, going on from the piece before
 */
struct umpsc_seg {
	struct umpsc_seg *next;
	u8 data[UMPSC_OBJECT_MAX - sizeof(struct umpsc_seg *)];
};

#define UMPSC_SEG_DATA sizeof_field(struct umpsc_seg, data)

static_assert(sizeof(struct umpsc_seg) == UMPSC_OBJECT_MAX);
static_assert(UMPSC_SEG_DATA % UMPSC_RECORD_ALIGN == 0);

/**
 * struct umpsc_run_creds - who sent a run, in a channel with UMPSC_CREDS
 * @pid: the sending process; a reference
 * @uid: its real user
 * @gid: its real group
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
 * @account: who pays for its memory; 0: it is cut from an arena, which is paid for
 * @packed: bytes of its records, as they lie
 * @bytes: of these, payload
 * @count: records
 * @data: with UMPSC_CREDS struct umpsc_run_creds first; then, where not all of it fits
 *	one object, the pointer to the first of its segs; then records, packed as RECV
 *	hands them out; a record, also a header, may go on in the next piece
 *
 * Fixed after publication but for the records' seq, which the receiver may correct.
 */
struct umpsc_run {
	struct umpsc_link link;
	u32 account;
	u32 packed;
	u32 bytes;
	u32 count;
	u8 data[] __aligned(UMPSC_RECORD_ALIGN);
};

/* A batch of 42 messages of 64 bytes has to fit a page, a single one 128 bytes. */
static_assert(sizeof(struct umpsc_run) == 24);
static_assert(sizeof(struct umpsc_record) == UMPSC_RECORD_HDR);

/**
 * struct umpsc_arena - a page that small runs are cut from, see ARENA
 * @refs: less one for each run freed; more by @cut once it is retired
 * @account: who pays for it
 * @used: bytes of @data that are cut, under arena_lock
 * @cut: runs that are, under arena_lock
 * @data: runs
 */
struct umpsc_arena {
	atomic_t refs;
	u32 account;
	u32 used;
	u32 cut;
	u8 data[UMPSC_OBJECT_MAX - 4 * sizeof(u32)];
};

static_assert(sizeof(struct umpsc_arena) == UMPSC_OBJECT_MAX);
static_assert(offsetof(struct umpsc_arena, data) % UMPSC_RECORD_ALIGN == 0);

#define UMPSC_ARENA_DATA sizeof_field(struct umpsc_arena, data)

/* The largest run that is cut from an arena: few are lost at its end. */
#define UMPSC_ARENA_RUN (UMPSC_ARENA_DATA / 6)

/* So many messages have to wait before a page for many is taken. */
#define UMPSC_ARENA_BACKLOG 16

/* Most bytes of records in a run that is kept as a spare, which is 8 KiB at most. */
#define UMPSC_SPARE_PACKED (2 * UMPSC_SEG_DATA - 256)

/**
 * struct umpsc_ledger - what the channels of a node have counted, all together
 * @ref: the node, and each of its channels
 * @closed: the node is being removed, and wants nobody to read on
 * @walk_lock: held by who walks the channels, over all of his walk
 * @lock: guards the rest
 * @channels: those that exist, the current one and older ones
 * @freed: sums over those that no longer do
 * @walk: number of the walk that goes on, or of the last one
 * @sum: what that one has found
 *
 * A channel counts for itself alone, in words that its sends and receives write
 * anyway, and goes on to count when its node leads to another one already: it may
 * be drained, discarded or refuse sends for long.  Its figures move to @freed in
 * one step with its leaving @channels, so that a sum over both misses none and
 * has none twice, whatever becomes of whom meanwhile.
 *
 * There may be any number of channels, as handles keep ended ones, and who opens or
 * closes one waits for @lock.  So a walk lets it go every few channels.  It begins
 * with @freed; one that leaves before the walk has come to it goes to @sum as well.
 */
struct umpsc_ledger {
	struct kref ref;
	bool closed;
	/* One walk at a time. */
	struct mutex walk_lock;

	/* Guards the rest. */
	struct mutex lock;
	struct list_head channels;
	struct umpsc_info freed;
	u32 walk;
	struct umpsc_info sum;
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
 * @run_whole: bytes of records in the largest run that is one object of a page
 * @run_twice_min: least bytes of records in a run that is one of two pages
 * @run_twice_max: most
 * @account: who pays for the channel itself
 * @ledger: of its node; NULL for a private one
 *
 * Under ledger->lock:
 * @in_ledger: among its node's channels
 * @walked: number of the last walk that has come to it
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
 * @arena_lock: see ARENA; guards the next two
 * @arena: see ARENA
 * @arena_filling: a sender allocates the next one
 * @free_work: frees @doomed
 * @doomed: a backlog; belongs to @free_work once that is queued
 *
 * The receiver's, written by a receive, which holds rx_lock, or under q.lock while
 * there is no receiver:
 * @rx_lock: held through a receive
 * @pos: the receiver's place; with UMPSC_TIMESTAMP, written under q.lock
 * @offset: bytes of the message at @pos that read() took
 * @part: the byte after these; where @offset is not 0
 * @commit_locked: see TAKEN; fixed after creation
 * @taken_seq: guards the next two and what @q counts as taken, see TAKEN
 * @taken_bytes: payload of the messages taken, ever
 * @taken_memory: what their runs held
 *
 * The queue, with the state word and what was taken:
 * @q: see there
 *
 * Under q.lock, which each send takes once:
 * @rx_looks: see WAKE
 * @rx_answered: see WAKE; written under rx_wait.lock instead
 * @tx_watched: see WAKE
 * @full: a send was refused for the limits, and the queue not yet at half of them
 * @hold: the node's part in the strong word is there
 * @claimed: a file is the receiver
 * @joined: has had a sender
 * @gone: the receiver went for good
 * @sent_bytes: payload of the messages accepted, ever
 * @sent_memory: what their runs held
 * @most_messages_until: messages accepted, up to which @most_messages stands
 * @most_bytes_until: @sent_bytes, up to which @most_bytes stands
 * @most_messages: high-water mark of messages queued
 * @most_bytes: high-water mark of payload queued
 * @discarded: messages taken that were not received
 * @discarded_bytes: their payload
 * @refused_closed: sends refused with EPIPE
 * @refused_size: with EMSGSIZE
 * @refused_limit: with ENOBUFS
 * @refused_memory: with ENOMEM
 * @refused_quota: with EDQUOT
 */
struct umpsc_channel {
	u64 id;
	u64 generation;
	u32 flags;
	struct umpsc_limits limits;
	bool standing;
	u32 run_whole;
	u32 run_twice_min;
	u32 run_twice_max;
	u32 account;
	struct umpsc_ledger *ledger;

	struct list_head in_ledger;
	u32 walked;

	struct kref ref;
	refcount_t strong;
	atomic_t weak;
	atomic64_t ids;

	struct wait_queue_head rx_wait;
	struct wait_queue_head tx_wait;
	u64 wakeups;
	struct umpsc_run *spare;
	raw_spinlock_t arena_lock;
	struct umpsc_arena *arena;
	bool arena_filling;
	struct work_struct free_work;
	struct umpsc_link *doomed;

	/* One receive at a time. */
	struct mutex rx_lock;
	struct umpsc_pos pos;
	u32 offset;
	bool commit_locked;
	struct umpsc_pos part;
	seqcount_t taken_seq;
	u64 taken_bytes;
	u64 taken_memory;

	struct umpsc_queue q;
	u64 rx_looks;
	u64 rx_answered;
	bool tx_watched;
	bool full;
	bool hold;
	bool claimed;
	bool joined;
	bool gone;
	u64 sent_bytes;
	u64 sent_memory;
	u64 most_messages_until;
	u64 most_bytes_until;
	u64 most_messages;
	u64 most_bytes;
	u64 discarded;
	u64 discarded_bytes;
	u64 refused_closed;
	u64 refused_size;
	u64 refused_limit;
	u64 refused_memory;
	u64 refused_quota;
};

/* What a channel holds itself. */
#define UMPSC_CHANNEL_MEMORY 1024

/* Locks that are watched are larger. */
static_assert(IS_ENABLED(CONFIG_DEBUG_LOCK_ALLOC) ||
	      sizeof(struct umpsc_channel) <= UMPSC_CHANNEL_MEMORY);

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

/* Parameters too, but to change one is more than to store it; see umpsc_limit_set(). */
static unsigned long umpsc_max_bytes;
static unsigned long umpsc_max_user_bytes;
static unsigned long umpsc_reserve_bytes;

/* ---- Who pays ------------------------------------------------------------ */

/*
 * Memory that users make the module hold is charged to an account: one for each user
 * in each memory cgroup.  What a user has on all accounts is under the user's quota,
 * the sum of all under the module's ceiling, and growth stops while the machine is
 * short of memory.  The memory cgroup itself is the allocator's matter; the account
 * is how a spare knows its own.  It is read before the allocation: if another task
 * moves the caller to another cgroup in between, that memory is of both.
 *
 * STOCK: most charges touch neither the accounts nor their lock.  Each CPU has a stock
 * of bytes that are charged ahead to one account, in one word, (id, bytes), that only
 * changes by cmpxchg and xchg.  Anyone on any CPU may thus take it away, as the work
 * does that returns the stocks at rest, and a charge that would fail otherwise.  An
 * account with bytes in a stock is not empty, and only empty ones are freed: who
 * finds an id in a stock, or in a run, has an account that stays.
 *
 * OVER: where a limit is set below what is held already, all that is freed is given
 * back, until that is no longer so: what a stock, a spare or an arena has is charged
 * already, and nobody would ask whether it still may be used.
 */

/**
 * struct umpsc_user - what a user has on all accounts; under umpsc_accounts_lock
 * @node: in umpsc_users
 * @uid: the user
 * @accounts: how many there are
 * @bytes: on them
 * @over: he has more than his quota, since it was lowered; see OVER
 */
struct umpsc_user {
	struct hlist_node node;
	kuid_t uid;
	unsigned long accounts;
	unsigned long bytes;
	bool over;
};

/**
 * struct umpsc_account - what a user has in a memory cgroup; under umpsc_accounts_lock
 * @by_who: in umpsc_accounts_by_who, or in umpsc_accounts_empty
 * @by_id: in umpsc_accounts_by_id
 * @user: the user; NULL in umpsc_accounts_empty where others use it
 * @cgroup: id of the memory cgroup; 0: it is another task's than the charged one's
 * @id: not 0
 * @bytes: charged, those in stocks included; freed when they are none
 */
struct umpsc_account {
	struct hlist_node by_who;
	struct hlist_node by_id;
	struct umpsc_user *user;
	u64 cgroup;
	u32 id;
	unsigned long bytes;
};

/**
 * struct umpsc_stock - a CPU's bytes that are charged ahead
 * @word: id of the account and bytes, or 0; see STOCK
 * @cgroup: of whoever was charged last on this CPU
 * @uid: likewise
 * @id: the account; 0 where it was freed
 *
 * All but @word belong to the CPU, with preemption off, or, @id to be set to 0, to
 * whoever holds umpsc_accounts_lock.
 */
struct umpsc_stock {
	atomic64_t word;
	u64 cgroup;
	kuid_t uid;
	u32 id;
};

/* Bytes that are charged ahead at a time, and that stay in a stock at most. */
#define UMPSC_STOCK_MAX SZ_64K

/* How often growth looks at the memory that is left. */
#define UMPSC_GROWTH SZ_1M

static DEFINE_PER_CPU(struct umpsc_stock, umpsc_stocks);

/* Guards the accounts, and what is charged in all. */
static DEFINE_RAW_SPINLOCK(umpsc_accounts_lock);
static DEFINE_HASHTABLE(umpsc_users, 8);
/* A user may have as many as he can make cgroups. */
static DEFINE_HASHTABLE(umpsc_accounts_by_who, 12);
static DEFINE_HASHTABLE(umpsc_accounts_by_id, 12);
/* Accounts that are empty, to be freed when the lock is let go of. */
static HLIST_HEAD(umpsc_accounts_empty);
static u32 umpsc_account_ids;
static unsigned long umpsc_charged;
/* What may be charged before the next look at the memory that is left. */
static unsigned long umpsc_growth_checked;

static void umpsc_stocks_return(struct work_struct *work);
static DECLARE_DELAYED_WORK(umpsc_stocks_work, umpsc_stocks_return);

/* Free accounts that were taken out of umpsc_accounts_empty under the lock. */
static void umpsc_accounts_free(struct hlist_head *empty)
{
	struct umpsc_account *account;
	struct hlist_node *next;

	hlist_for_each_entry_safe(account, next, empty, by_who) {
		kfree(account->user);
		kfree(account);
	}
}

/* OVER: how many users have more than their quota, and whether all have too much. */
static unsigned int umpsc_users_over;
static bool umpsc_all_over;
/* OVER: either; written under umpsc_accounts_lock. */
static bool umpsc_over __read_mostly;

/* OVER: @user, or all, may have less now. */
static void umpsc_over_update_locked(struct umpsc_user *user)
{
	lockdep_assert_held(&umpsc_accounts_lock);
	if (!umpsc_over)
		return;
	if (user->over && user->bytes <= READ_ONCE(umpsc_max_user_bytes)) {
		user->over = false;
		umpsc_users_over--;
	}
	if (umpsc_charged <= READ_ONCE(umpsc_max_bytes))
		umpsc_all_over = false;
	WRITE_ONCE(umpsc_over, umpsc_all_over || umpsc_users_over);
}

/* OVER: the limits have changed. */
static void umpsc_over_find_locked(void)
{
	struct umpsc_user *user;
	int bucket;

	lockdep_assert_held(&umpsc_accounts_lock);
	umpsc_users_over = 0;
	hash_for_each(umpsc_users, bucket, user, node) {
		user->over = user->bytes > READ_ONCE(umpsc_max_user_bytes);
		umpsc_users_over += user->over;
	}
	umpsc_all_over = umpsc_charged > READ_ONCE(umpsc_max_bytes);
	WRITE_ONCE(umpsc_over, umpsc_all_over || umpsc_users_over);
}

static u64 umpsc_stock_word(u32 id, u32 bytes)
{
	return (u64)id << 32 | bytes;
}

/* The stocks are at rest when nothing was charged for a while. */
static void umpsc_stocks_arm(void)
{
	if (!delayed_work_pending(&umpsc_stocks_work))
		queue_delayed_work(umpsc_wq, &umpsc_stocks_work, HZ / 2);
}

/* The memory cgroup that an allocation of the caller is charged to; 0: not his own. */
static inline u64 umpsc_current_cgroup(void)
{
#ifdef CONFIG_MEMCG
	lockdep_assert_preemption_disabled();
	if (current->active_memcg)
		return 0;
	/* As good as rcu_read_lock(), and in line. */
	return cgroup_id(task_css(current, memory_cgrp_id)->cgroup);
#else
	return 1;
#endif
}

/* The account of the caller if he was charged last on this CPU, or 0. */
static inline u32 umpsc_current_account(void)
{
	const struct umpsc_stock *stock;
	u32 id = 0;
	u64 cgroup;

	preempt_disable();
	stock = this_cpu_ptr(&umpsc_stocks);
	cgroup = umpsc_current_cgroup();
	if (stock->cgroup == cgroup && uid_eq(stock->uid, current_uid()) &&
	    cgroup)
		id = READ_ONCE(stock->id);
	preempt_enable();
	return id;
}

static struct umpsc_account *umpsc_account_find_locked(u32 id)
{
	struct umpsc_account *account;

	lockdep_assert_held(&umpsc_accounts_lock);
	hash_for_each_possible(umpsc_accounts_by_id, account, by_id, id)
		if (account->id == id)
			return account;
	return NULL;
}

static u64 umpsc_account_key(kuid_t uid, u64 cgroup)
{
	return cgroup ^ ((u64)__kuid_val(uid) << 32);
}

static struct umpsc_account *umpsc_account_of_locked(kuid_t uid, u64 cgroup)
{
	struct umpsc_account *account;

	lockdep_assert_held(&umpsc_accounts_lock);
	hash_for_each_possible(umpsc_accounts_by_who, account, by_who,
			       umpsc_account_key(uid, cgroup))
		if (account->cgroup == cgroup &&
		    uid_eq(account->user->uid, uid))
			return account;
	return NULL;
}

static struct umpsc_user *umpsc_user_find_locked(kuid_t uid)
{
	struct umpsc_user *user;

	lockdep_assert_held(&umpsc_accounts_lock);
	hash_for_each_possible(umpsc_users, user, node, __kuid_val(uid))
		if (uid_eq(user->uid, uid))
			return user;
	return NULL;
}

/**
 * struct umpsc_account_parts - what a new account is made of, allocated ahead
 * @account: or NULL, once it is used
 * @user: likewise
 */
struct umpsc_account_parts {
	struct umpsc_account *account;
	struct umpsc_user *user;
};

/* Open an account, without bytes.  Uses up of @parts what it needs. */
static struct umpsc_account *
umpsc_account_new_locked(struct umpsc_account_parts *parts, kuid_t uid,
			 u64 cgroup)
{
	struct umpsc_account *account = parts->account;
	struct umpsc_user *user = umpsc_user_find_locked(uid);

	lockdep_assert_held(&umpsc_accounts_lock);
	if (!user) {
		user = parts->user;
		parts->user = NULL;
		*user = (struct umpsc_user){ .uid = uid };
		hash_add(umpsc_users, &user->node, __kuid_val(uid));
	}
	parts->account = NULL;
	do {
		umpsc_account_ids++;
	} while (!umpsc_account_ids ||
		 umpsc_account_find_locked(umpsc_account_ids));
	*account = (struct umpsc_account){
		.user = user,
		.cgroup = cgroup,
		.id = umpsc_account_ids,
	};
	hash_add(umpsc_accounts_by_who, &account->by_who,
		 umpsc_account_key(uid, cgroup));
	hash_add(umpsc_accounts_by_id, &account->by_id, account->id);
	user->accounts++;
	return account;
}

/* Take @bytes off @account, which is freed once it is empty. */
static void umpsc_account_debit_locked(struct umpsc_account *account,
				       unsigned long bytes)
{
	struct umpsc_user *user = account->user;
	struct umpsc_stock *stock;
	int cpu;

	lockdep_assert_held(&umpsc_accounts_lock);
	umpsc_charged -= bytes;
	umpsc_growth_checked =
		min(umpsc_growth_checked, umpsc_charged + UMPSC_GROWTH);
	user->bytes -= bytes;
	account->bytes -= bytes;
	umpsc_over_update_locked(user);
	if (account->bytes)
		return;
	for_each_possible_cpu(cpu) {
		stock = per_cpu_ptr(&umpsc_stocks, cpu);
		if (stock->id == account->id)
			WRITE_ONCE(stock->id, 0);
	}
	hash_del(&account->by_who);
	hash_del(&account->by_id);
	if (--user->accounts)
		account->user = NULL;
	else
		hash_del(&user->node);
	hlist_add_head(&account->by_who, &umpsc_accounts_empty);
}

/* What was in a stock is charged no longer. */
static void umpsc_stock_empty_locked(u64 word)
{
	struct umpsc_account *account;

	lockdep_assert_held(&umpsc_accounts_lock);
	if (!(u32)word)
		return;
	account = umpsc_account_find_locked(word >> 32);
	umpsc_account_debit_locked(account, (u32)word);
}

/* Whether a stock with @word has something to give, and, with @uid, if it is that user's. */
static bool umpsc_stock_is_of_locked(u64 word, const kuid_t *uid)
{
	struct umpsc_account *account;

	lockdep_assert_held(&umpsc_accounts_lock);
	if (!(u32)word || !uid)
		return (u32)word;
	/* Or it was given away and spent since. */
	account = umpsc_account_find_locked(word >> 32);
	return account && uid_eq(account->user->uid, *uid);
}

/* Empty all stocks, or those of @uid. */
static void umpsc_stocks_empty(const kuid_t *uid)
{
	struct umpsc_stock *stock;
	HLIST_HEAD(empty);
	u64 word;
	int cpu;

	for_each_possible_cpu(cpu) {
		stock = per_cpu_ptr(&umpsc_stocks, cpu);
		raw_spin_lock(&umpsc_accounts_lock);
		word = atomic64_read(&stock->word);
		if (umpsc_stock_is_of_locked(word, uid)) {
			word = atomic64_xchg(&stock->word, 0);
			umpsc_stock_empty_locked(word);
		}
		hlist_move_list(&umpsc_accounts_empty, &empty);
		raw_spin_unlock(&umpsc_accounts_lock);
		umpsc_accounts_free(&empty);
	}
}

static void umpsc_stocks_return(struct work_struct *work)
{
	umpsc_stocks_empty(NULL);
}

/* Whether @bytes more are within the module's limit. */
static bool umpsc_all_fits(unsigned long bytes)
{
	unsigned long max = READ_ONCE(umpsc_max_bytes);
	unsigned long charged = READ_ONCE(umpsc_charged);

	return charged <= max && bytes <= max - charged;
}

/**
 * enum umpsc_bounds - what bounds a charge
 * @UMPSC_BOUND: the user's quota, the module's ceiling, and the reserve
 * @UMPSC_EXEMPT: not the quota
 * @UMPSC_UNBOUND: nothing
 */
enum umpsc_bounds {
	UMPSC_BOUND,
	UMPSC_EXEMPT,
	UMPSC_UNBOUND,
};

/* Whether @bytes more are within the limits of @user and of the module. */
static bool umpsc_charge_fits_locked(const struct umpsc_user *user,
				     unsigned long bytes,
				     enum umpsc_bounds bounds)
{
	unsigned long user_max = READ_ONCE(umpsc_max_user_bytes);

	lockdep_assert_held(&umpsc_accounts_lock);
	if (bounds == UMPSC_UNBOUND)
		return true;
	if (!umpsc_all_fits(bytes))
		return false;
	return bounds == UMPSC_EXEMPT ||
	       (user->bytes <= user_max && bytes <= user_max - user->bytes);
}

/*
 * Charge @account, with as much ahead as the limits allow, which goes into this CPU's
 * stock.  @looked: there is memory for the next UMPSC_GROWTH as well.  -EDQUOT, and an
 * account that was opened for this is freed.
 */
static int umpsc_account_charge_locked(struct umpsc_account *account,
				       size_t bytes, enum umpsc_bounds bounds,
				       bool looked)
{
	struct umpsc_stock *stock = this_cpu_ptr(&umpsc_stocks);
	size_t all = max_t(size_t, bytes, UMPSC_STOCK_MAX);
	u64 word;

	lockdep_assert_held(&umpsc_accounts_lock);
	/* Beyond the quota not: not all of a user's tasks are exempt. */
	if (bounds != UMPSC_BOUND || umpsc_over ||
	    !umpsc_charge_fits_locked(account->user, all, UMPSC_BOUND))
		all = bytes;
	if (!umpsc_charge_fits_locked(account->user, all, bounds)) {
		if (!account->bytes)
			umpsc_account_debit_locked(account, 0);
		return -EDQUOT;
	}
	account->bytes += all;
	account->user->bytes += all;
	umpsc_charged += all;
	if (looked)
		umpsc_growth_checked = umpsc_charged + UMPSC_GROWTH;

	stock->uid = account->user->uid;
	stock->cgroup = account->cgroup;
	stock->id = account->id;
	if (all > bytes) {
		word = umpsc_stock_word(account->id, all - bytes);
		umpsc_stock_empty_locked(atomic64_xchg(&stock->word, word));
	}
	return 0;
}

/* Whether the reserve is whole, also with @bytes less. */
static bool umpsc_memory_is_left(size_t bytes)
{
	unsigned long left = max(si_mem_available(), 0L) << PAGE_SHIFT;

	return left >= bytes && left - bytes >= READ_ONCE(umpsc_reserve_bytes);
}

/*
 * May the module grow by @bytes, as far as the memory that is left goes?  Looks at it
 * once for each UMPSC_GROWTH, and says in @looked whether it did.
 */
static bool umpsc_may_grow(size_t bytes, bool *looked)
{
	bytes = max_t(size_t, bytes, UMPSC_STOCK_MAX);
	*looked = READ_ONCE(umpsc_charged) + bytes >
		  READ_ONCE(umpsc_growth_checked);
	return !*looked || umpsc_memory_is_left(bytes);
}

/*
 * A charge past the stocks.  -ENOMEM: the reserve, or no memory for an account;
 * -EDQUOT: the user's quota or the module's ceiling.
 */
static int umpsc_charge_account(size_t bytes, enum umpsc_bounds bounds, u32 *id)
{
	struct umpsc_account_parts parts = {};
	bool emptied = false, looked = false;
	struct umpsc_account *account;
	kuid_t uid = current_uid();
	HLIST_HEAD(empty);
	u64 cgroup;
	int err;

	if (bounds != UMPSC_UNBOUND && !umpsc_may_grow(bytes, &looked))
		return -ENOMEM;
	for (;;) {
		raw_spin_lock(&umpsc_accounts_lock);
		cgroup = umpsc_current_cgroup();
		account = umpsc_account_of_locked(uid, cgroup);
		if (!account && parts.account)
			account = umpsc_account_new_locked(&parts, uid, cgroup);
		err = -EAGAIN;
		if (account) {
			*id = account->id;
			err = umpsc_account_charge_locked(account, bytes,
							  bounds, looked);
		}
		hlist_move_list(&umpsc_accounts_empty, &empty);
		raw_spin_unlock(&umpsc_accounts_lock);
		umpsc_accounts_free(&empty);

		if (err == -EAGAIN) {
			/* One of them may be left over from an earlier round. */
			if (!parts.account)
				parts.account = kmalloc(sizeof(*parts.account),
							UMPSC_GFP);
			if (!parts.user)
				parts.user =
					kmalloc(sizeof(*parts.user), UMPSC_GFP);
			if (parts.account && parts.user)
				continue;
			err = -ENOMEM;
		} else if (err == -EDQUOT && bounds == UMPSC_BOUND &&
			   capable(CAP_SYS_RESOURCE)) {
			bounds = UMPSC_EXEMPT;
			continue;
		} else if (err == -EDQUOT && !emptied) {
			emptied = true;
			/* For what is beyond the limit by itself, none is of use. */
			if (bytes > READ_ONCE(umpsc_max_bytes) ||
			    (bounds == UMPSC_BOUND &&
			     bytes > READ_ONCE(umpsc_max_user_bytes)))
				break;
			/* At his quota, only his own are. */
			umpsc_stocks_empty(umpsc_all_fits(bytes) ? &uid : NULL);
			continue;
		}
		break;
	}
	kfree(parts.account);
	kfree(parts.user);
	umpsc_stocks_arm();
	return err;
}

/* Charge @bytes to the caller, whose account umpsc_current_account() may know as @id. */
static int umpsc_charge(size_t bytes, enum umpsc_bounds bounds, u32 *id)
{
	struct umpsc_stock *stock = raw_cpu_ptr(&umpsc_stocks);
	s64 word = atomic64_read(&stock->word);

	/* Any CPU's stock will do, if it is of this account. */
	while (*id && !READ_ONCE(umpsc_over) && (u64)word >> 32 == *id &&
	       (u32)word >= bytes)
		if (atomic64_try_cmpxchg(&stock->word, &word, word - bytes))
			return 0;
	return umpsc_charge_account(bytes, bounds, id);
}

/**
 * umpsc_memory_charge - charge memory that the caller makes the module hold
 * @bytes: how much
 * @must: whatever the limits: little, and what is held cannot be freed without it
 * @account: out: for umpsc_memory_uncharge()
 *
 * Return: 0; -EDQUOT: the user's quota or the module's ceiling; -ENOMEM: the reserve,
 * or no memory for an account.
 */
int umpsc_memory_charge(size_t bytes, bool must, u32 *account)
{
	*account = umpsc_current_account();
	return umpsc_charge(bytes, must ? UMPSC_UNBOUND : UMPSC_BOUND, account);
}

/**
 * umpsc_memory_uncharge - memory that was charged is free again
 * @bytes: how much
 * @account: what umpsc_memory_charge() gave
 */
void umpsc_memory_uncharge(size_t bytes, u32 account)
{
	struct umpsc_account *owner;
	struct umpsc_stock *stock = raw_cpu_ptr(&umpsc_stocks);
	s64 word = atomic64_read(&stock->word);
	HLIST_HEAD(empty);

	while (!READ_ONCE(umpsc_over) &&
	       (!(u32)word || (u64)word >> 32 == account)) {
		if (unlikely((u32)word + bytes > UMPSC_STOCK_MAX)) {
			/* So that the next ones find room. */
			if (!atomic64_try_cmpxchg(&stock->word, &word, 0))
				continue;
			bytes += (u32)word;
			break;
		}
		if (!atomic64_try_cmpxchg(&stock->word, &word,
					  umpsc_stock_word(account,
							   (u32)word + bytes)))
			continue;
		umpsc_stocks_arm();
		return;
	}
	raw_spin_lock(&umpsc_accounts_lock);
	owner = umpsc_account_find_locked(account);
	umpsc_account_debit_locked(owner, bytes);
	hlist_move_list(&umpsc_accounts_empty, &empty);
	raw_spin_unlock(&umpsc_accounts_lock);
	umpsc_accounts_free(&empty);
}

/* What is charged and held: without what is charged ahead. */
static u64 umpsc_memory_held(void)
{
	s64 held;
	int cpu;

	raw_spin_lock(&umpsc_accounts_lock);
	held = umpsc_charged;
	for_each_possible_cpu(cpu)
		held -= (u32)atomic64_read(&per_cpu(umpsc_stocks, cpu).word);
	raw_spin_unlock(&umpsc_accounts_lock);
	/* A stock may have been filled by an uncharge since. */
	return max(held, 0LL);
}

/* A limit that is changed holds at once, also for what is charged ahead. */
static int umpsc_limit_set(const char *value, const struct kernel_param *param)
{
	int err = param_set_ulong(value, param);

	if (err)
		return err;
	raw_spin_lock(&umpsc_accounts_lock);
	umpsc_growth_checked = 0;
	umpsc_over_find_locked();
	raw_spin_unlock(&umpsc_accounts_lock);
	umpsc_stocks_empty(NULL);
	return 0;
}

static const struct kernel_param_ops umpsc_limit_ops = {
	.set = umpsc_limit_set,
	.get = param_get_ulong,
};

module_param_cb(max_bytes, &umpsc_limit_ops, &umpsc_max_bytes, 0644);
__MODULE_PARM_TYPE(max_bytes, "ulong");
MODULE_PARM_DESC(max_bytes, "bytes that the module may hold (half of RAM)");

module_param_cb(max_user_bytes, &umpsc_limit_ops, &umpsc_max_user_bytes, 0644);
__MODULE_PARM_TYPE(max_user_bytes, "ulong");
MODULE_PARM_DESC(max_user_bytes,
		 "bytes of these for each user (a quarter of max_bytes)");

module_param_cb(reserve_bytes, &umpsc_limit_ops, &umpsc_reserve_bytes, 0644);
__MODULE_PARM_TYPE(reserve_bytes, "ulong");
MODULE_PARM_DESC(reserve_bytes,
		 "available memory below which it does not grow (1/8 of RAM)");

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

/*
 * The caches of runs.  A constructor, which need not do anything, keeps the allocator
 * from zeroing what will be overwritten at once; it makes it put a pointer behind each
 * object, which the size has to leave room for.
 */
static const struct {
	u32 size;
	const char *name;
} umpsc_cache_kinds[] = {
	{ 96, "umpsc-96" },
	{ 128, "umpsc-128" },
	{ 192, "umpsc-192" },
	{ 256, "umpsc-256" },
	{ 512, "umpsc-512" },
	{ 1024, "umpsc-1024" },
	{ 2048, "umpsc-2048" },
	{ PAGE_SIZE, "umpsc-page" },
	{ 2 * PAGE_SIZE, "umpsc-2page" },
};

/* umpsc_cache_of() goes by these sizes. */
static_assert(PAGE_SIZE == SZ_4K);

/* Of segments and arenas. */
#define UMPSC_CACHE_PAGE (ARRAY_SIZE(umpsc_cache_kinds) - 2)

static struct kmem_cache *umpsc_caches[ARRAY_SIZE(umpsc_cache_kinds)];

static void umpsc_object_init(void *object)
{
}

/* Which cache has objects of @size bytes. */
static unsigned int umpsc_cache_of(size_t size)
{
	/* In steps of 32 bytes. */
	static const u8 small[] = { 0, 0, 0, 1, 2, 2, 3, 3 };

	size += sizeof(void *) - 1;
	if (size < 256)
		return small[size / 32];
	return fls(size) - 5;
}

/* Bytes of @run->data ahead of everything else. */
static size_t umpsc_run_prefix(struct umpsc_channel *ch)
{
	return ch->flags & UMPSC_CREDS ? sizeof(struct umpsc_run_creds) : 0;
}

/*
 * Whether a run of @packed bytes of records has segments.  Not where it fits an object
 * of a page; nor where one of two pages holds no more than it would in pieces.
 */
static inline bool umpsc_is_paged(struct umpsc_channel *ch, size_t packed)
{
	return unlikely(packed > ch->run_whole) &&
	       (packed < ch->run_twice_min || packed > ch->run_twice_max);
}

/*
 * Bytes of records in a run itself; the rest is in segments, all but the last of them
 * full.  They are few, so that a large message holds no more than its pages; but the
 * first header always has its place in the run.
 */
static size_t umpsc_run_inline(struct umpsc_channel *ch, size_t packed)
{
	size_t rest;

	if (!umpsc_is_paged(ch, packed))
		return packed;
	rest = packed % UMPSC_SEG_DATA;
	if (rest > ch->run_whole - sizeof(struct umpsc_seg *))
		rest = 0;
	return max(rest, sizeof(struct umpsc_record));
}

/* Bytes of a run itself, without segments. */
static inline size_t umpsc_run_size(struct umpsc_channel *ch, size_t packed)
{
	/* What is not records in an object of all that a whole run may have. */
	return UMPSC_OBJECT_MAX - ch->run_whole + packed;
}

/* What umpsc_is_paged() goes by. */
static void umpsc_channel_init_shapes(struct umpsc_channel *ch)
{
	size_t head = sizeof(struct umpsc_run) + umpsc_run_prefix(ch);

	ch->run_whole = UMPSC_OBJECT_MAX - head;
	ch->run_twice_max = ch->run_whole + PAGE_SIZE;
	/* In pieces: a page, and a rest that does not fit half of one. */
	ch->run_twice_min = UMPSC_SEG_DATA + PAGE_SIZE / 2 - sizeof(void *) -
			    sizeof(struct umpsc_seg *) - head +
			    UMPSC_RECORD_ALIGN;
}

/**
 * struct umpsc_shape - how a run is stored
 * @cache: of the run itself
 * @segs: how many
 * @memory: bytes that it holds, slack included
 */
struct umpsc_shape {
	unsigned int cache;
	u32 segs;
	size_t memory;
};

static inline struct umpsc_shape umpsc_shape_of(struct umpsc_channel *ch,
						size_t packed)
{
	size_t here = umpsc_run_inline(ch, packed);
	size_t size = umpsc_run_size(ch, here);
	struct umpsc_shape shape = {};

	if (umpsc_is_paged(ch, packed)) {
		size += sizeof(struct umpsc_seg *);
		shape.segs = DIV_ROUND_UP(packed - here, UMPSC_SEG_DATA);
	}
	shape.cache = umpsc_cache_of(size);
	shape.memory = umpsc_cache_kinds[shape.cache].size +
		       (size_t)shape.segs * PAGE_SIZE;
	return shape;
}

static bool umpsc_is_same_shape(struct umpsc_channel *ch, size_t a, size_t b)
{
	struct umpsc_shape x, y;

	if (likely(a == b))
		return true;
	x = umpsc_shape_of(ch, a);
	y = umpsc_shape_of(ch, b);
	return x.cache == y.cache && x.segs == y.segs;
}

static struct umpsc_run_creds *umpsc_run_creds(struct umpsc_run *run)
{
	return (struct umpsc_run_creds *)run->data;
}

/* The pointer to the first segment of a run that is paged. */
static struct umpsc_seg **umpsc_run_segs(struct umpsc_channel *ch,
					 struct umpsc_run *run)
{
	return (struct umpsc_seg **)(run->data + umpsc_run_prefix(ch));
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

/* More than once does no harm. */
static void umpsc_run_deinit_creds(struct umpsc_channel *ch,
				   struct umpsc_run *run)
{
	if (ch->flags & UMPSC_CREDS) {
		put_pid(umpsc_run_creds(run)->pid);
		umpsc_run_creds(run)->pid = NULL;
	}
}

/* What @run holds of the memory; of an arena, its part. */
static inline size_t umpsc_run_memory(struct umpsc_channel *ch,
				      struct umpsc_run *run)
{
	if (!run->account)
		return umpsc_run_size(ch, run->packed);
	return umpsc_shape_of(ch, run->packed).memory;
}

static void umpsc_arena_free(struct umpsc_arena *arena)
{
	umpsc_memory_uncharge(PAGE_SIZE, arena->account);
	kmem_cache_free(umpsc_caches[UMPSC_CACHE_PAGE], arena);
}

/* ARENA: a run is freed. */
static void umpsc_arena_uncut(struct umpsc_run *run)
{
	struct umpsc_arena *arena =
		(struct umpsc_arena *)((unsigned long)run & PAGE_MASK);

	/* Full order: whoever frees the page comes after all uses of it. */
	if (unlikely(atomic_dec_and_test(&arena->refs)))
		umpsc_arena_free(arena);
}

/* ARENA: nothing more will be cut from @arena, which may be NULL. */
static void umpsc_arena_retire(struct umpsc_arena *arena)
{
	if (arena && !atomic_add_return(arena->cut, &arena->refs))
		umpsc_arena_free(arena);
}

/* ARENA: are all runs freed that were cut?  Then none is cut but by the caller. */
static bool umpsc_arena_is_idle(struct umpsc_arena *arena)
{
	/* Acquire: what is cut next is written after the last use of what was there. */
	return atomic_read_acquire(&arena->refs) == -(int)arena->cut;
}

static struct umpsc_run *umpsc_arena_cut(struct umpsc_arena *arena, size_t size)
{
	struct umpsc_run *run;

	if (arena->used + size > UMPSC_ARENA_DATA)
		return NULL;
	run = (struct umpsc_run *)(arena->data + arena->used);
	run->account = 0;
	arena->used += size;
	arena->cut++;
	return run;
}

/* Free what was allocated for a run, and uncharge it. */
static void umpsc_run_dealloc(struct umpsc_channel *ch, struct umpsc_run *run)
{
	struct umpsc_seg *seg, *next;
	struct umpsc_shape shape;

	if (!run->account) {
		umpsc_arena_uncut(run);
		return;
	}
	shape = umpsc_shape_of(ch, run->packed);
	if (shape.segs) {
		for (seg = *umpsc_run_segs(ch, run); seg; seg = next) {
			next = seg->next;
			kmem_cache_free(umpsc_caches[UMPSC_CACHE_PAGE], seg);
			cond_resched();
		}
	}
	umpsc_memory_uncharge(shape.memory, run->account);
	kmem_cache_free(umpsc_caches[shape.cache], run);
}

/* A new arena, with a first run of @size cut from it; or NULL. */
static struct umpsc_run *umpsc_arena_fill(struct umpsc_channel *ch, size_t size,
					  u32 account)
{
	struct umpsc_arena *arena = NULL;
	struct umpsc_run *run = NULL;

	if (!umpsc_charge(PAGE_SIZE, UMPSC_BOUND, &account)) {
		arena = kmem_cache_alloc(umpsc_caches[UMPSC_CACHE_PAGE],
					 UMPSC_GFP);
		if (!arena)
			umpsc_memory_uncharge(PAGE_SIZE, account);
	}
	if (arena) {
		atomic_set(&arena->refs, 0);
		arena->account = account;
		arena->used = 0;
		arena->cut = 0;
		run = umpsc_arena_cut(arena, size);
	}

	raw_spin_lock(&ch->arena_lock);
	ch->arena_filling = false;
	if (arena)
		WRITE_ONCE(ch->arena, arena);
	raw_spin_unlock(&ch->arena_lock);
	return run;
}

/*
 * ARENA: a run of @size, cut for @account; or NULL, and the caller is to allocate one
 * of its own.
 */
static struct umpsc_run *umpsc_arena_take(struct umpsc_channel *ch, size_t size,
					  u32 account)
{
	struct umpsc_arena *arena, *old = NULL;
	struct umpsc_run *run = NULL;
	bool fill = false;

	if (!raw_spin_trylock(&ch->arena_lock))
		return NULL;
	arena = ch->arena;
	if (arena && arena->account == account) {
		run = umpsc_arena_cut(arena, size);
		if (!run && umpsc_arena_is_idle(arena)) {
			atomic_set(&arena->refs, 0);
			arena->used = 0;
			arena->cut = 0;
			run = umpsc_arena_cut(arena, size);
		}
		fill = !run;
	} else {
		/* Not another account's while it is in use. */
		fill = !arena || umpsc_arena_is_idle(arena);
	}
	fill = fill && !ch->arena_filling;
	if (fill) {
		ch->arena_filling = true;
		old = arena;
		WRITE_ONCE(ch->arena, NULL);
	}
	raw_spin_unlock(&ch->arena_lock);

	umpsc_arena_retire(old);
	return fill ? umpsc_arena_fill(ch, size, account) : run;
}

/* ARENA: let go of it, or, with @idle, only if nothing is in use of it. */
static void umpsc_arena_drop(struct umpsc_channel *ch, bool idle)
{
	struct umpsc_arena *arena;

	raw_spin_lock(&ch->arena_lock);
	arena = ch->arena;
	if (arena && idle && !umpsc_arena_is_idle(arena))
		arena = NULL;
	if (arena)
		WRITE_ONCE(ch->arena, NULL);
	raw_spin_unlock(&ch->arena_lock);
	umpsc_arena_retire(arena);
}

static void umpsc_run_free(struct umpsc_channel *ch, struct umpsc_run *run)
{
	umpsc_run_deinit_creds(ch, run);
	umpsc_run_dealloc(ch, run);
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

/*
 * SPARE: the spare if a run of @packed bytes for @account can be made of it, or NULL.
 * It stays charged.
 */
static inline struct umpsc_run *umpsc_spare_take(struct umpsc_channel *ch,
						 size_t packed, u32 account)
{
	struct umpsc_run *run;

	if (!READ_ONCE(ch->spare))
		return NULL;
	run = xchg(&ch->spare, NULL);
	if (!run)
		return NULL;
	if (run->account == account &&
	    umpsc_is_same_shape(ch, run->packed, packed)) {
		run->packed = packed;
		return run;
	}
	umpsc_run_dealloc(ch, run);
	return NULL;
}

/* SPARE: @run, which is used up, if it may serve again, and is ready to; or NULL. */
static inline struct umpsc_run *umpsc_spare_of(struct umpsc_channel *ch,
					       struct umpsc_run *run)
{
	if (!run->account || run->packed > UMPSC_SPARE_PACKED ||
	    unlikely(READ_ONCE(umpsc_over)))
		return NULL;
	umpsc_run_deinit_creds(ch, run);
	return run;
}

/* SPARE: free it, if there is one. */
static inline void umpsc_spare_free(struct umpsc_channel *ch)
{
	struct umpsc_run *run;

	if (!READ_ONCE(ch->spare))
		return;
	run = xchg(&ch->spare, NULL);
	if (run)
		umpsc_run_dealloc(ch, run);
}

/* SPARE, ARENA: let go of both.  Whoever still sends or receives may make new ones. */
static void umpsc_spare_drop(struct umpsc_channel *ch)
{
	umpsc_spare_free(ch);
	umpsc_arena_drop(ch, false);
}

static int umpsc_run_add_segs(struct umpsc_seg **at, u32 count)
{
	struct umpsc_seg *seg;

	*at = NULL;
	for (; count; count--) {
		if (umpsc_breathe())
			return -EINTR;
		/* Many may have been charged, and not allocated what they saw left. */
		if (count % (UMPSC_GROWTH / PAGE_SIZE) == 0 &&
		    !umpsc_memory_is_left(0))
			return -ENOMEM;
		seg = kmem_cache_alloc(umpsc_caches[UMPSC_CACHE_PAGE],
				       UMPSC_GFP);
		if (!seg)
			return -ENOMEM;
		seg->next = NULL;
		*at = seg;
		at = &seg->next;
	}
	return 0;
}

static struct umpsc_run *umpsc_run_alloc(struct umpsc_channel *ch,
					 size_t packed, u32 account)
{
	struct umpsc_shape shape = umpsc_shape_of(ch, packed);
	struct umpsc_run *run;
	int err;

	/* Larger ones have the spare, if there is no arena. */
	if (unlikely(READ_ONCE(ch->arena)) &&
	    umpsc_run_size(ch, packed) > UMPSC_ARENA_RUN)
		umpsc_arena_drop(ch, true);
	err = umpsc_charge(shape.memory, UMPSC_BOUND, &account);
	if (err)
		return ERR_PTR(err);
	run = kmem_cache_alloc(umpsc_caches[shape.cache], UMPSC_GFP);
	if (!run) {
		umpsc_memory_uncharge(shape.memory, account);
		return ERR_PTR(-ENOMEM);
	}
	run->account = account;
	run->packed = packed;
	if (shape.segs) {
		err = umpsc_run_add_segs(umpsc_run_segs(ch, run), shape.segs);
		if (err) {
			umpsc_run_dealloc(ch, run);
			return ERR_PTR(err);
		}
	}
	return run;
}

/* SPARE, ARENA: a run for @account that is charged already; or NULL. */
static __always_inline struct umpsc_run *
umpsc_run_reuse(struct umpsc_channel *ch, size_t packed, u32 account)
{
	struct umpsc_run *run;

	run = umpsc_spare_take(ch, packed, account);
	if (run || umpsc_run_size(ch, packed) > UMPSC_ARENA_RUN ||
	    (!READ_ONCE(ch->arena) &&
	     umpsc_queue_len(&ch->q) < UMPSC_ARENA_BACKLOG))
		return run;
	run = umpsc_arena_take(ch, umpsc_run_size(ch, packed), account);
	if (run)
		run->packed = packed;
	return run;
}

/* A run with room for @packed bytes of records. */
static __always_inline struct umpsc_run *umpsc_run_new(struct umpsc_channel *ch,
						       size_t packed)
{
	u32 account = umpsc_current_account();
	struct umpsc_run *run = NULL;

	might_sleep();
	if (unlikely(READ_ONCE(umpsc_over)))
		umpsc_spare_drop(ch);
	else
		run = umpsc_run_reuse(ch, packed, account);
	if (!run)
		run = umpsc_run_alloc(ch, packed, account);
	if (!IS_ERR(run))
		umpsc_run_init_creds(ch, run);
	return run;
}

/* ---- Places in a run --------------------------------------------------- */

static inline void umpsc_pos_start(struct umpsc_channel *ch,
				   struct umpsc_pos *pos, struct umpsc_run *run)
{
	pos->run = run;
	pos->p = run->data + umpsc_run_prefix(ch);
	pos->n = umpsc_run_inline(ch, run->packed);
	pos->left = run->count;
	pos->seg = NULL;
	if (umpsc_is_paged(ch, run->packed)) {
		pos->p += sizeof(struct umpsc_seg *);
		pos->seg = *umpsc_run_segs(ch, run);
	}
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

/* Lets other tasks run, so with spinlocks held no more than a header. */
static void umpsc_pos_skip_pieces(struct umpsc_pos *pos, size_t len)
{
	unsigned int steps = 0;
	size_t piece;

	for (; len; len -= piece) {
		umpsc_pos_piece(pos, len, &piece);
		if (!(++steps % UMPSC_RESCHED))
			cond_resched();
	}
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
 * longer than a small copy.  So does the way through the kinds of iterator, where it
 * is the one that system calls make.
 */
static inline bool umpsc_copy_from(void *to, size_t len, struct iov_iter *from)
{
	if (unlikely(!iter_is_ubuf(from)))
		return _copy_from_iter(to, len, from) == len;
	if (umpsc_copy_from_user(to, from->ubuf + from->iov_offset, len))
		return false;
	from->iov_offset += len;
	from->count -= len;
	return true;
}

static inline bool umpsc_copy_to(const void *from, size_t len,
				 struct iov_iter *to)
{
	if (unlikely(!iter_is_ubuf(to)))
		return _copy_to_iter(from, len, to) == len;
	if (umpsc_copy_to_user(to->ubuf + to->iov_offset, from, len))
		return false;
	to->iov_offset += len;
	to->count -= len;
	return true;
}

static int umpsc_pos_copy_pieces_from_user(struct umpsc_pos *pos, size_t len,
					   struct iov_iter *from)
{
	size_t piece;
	u8 *p;

	while (len) {
		p = umpsc_pos_piece(pos, len, &piece);
		if (!umpsc_copy_from(p, piece, from))
			return -EFAULT;
		len -= piece;
		if (len && umpsc_breathe())
			return -EINTR;
	}
	return 0;
}

static inline int umpsc_pos_copy_from_user(struct umpsc_pos *pos, size_t len,
					   struct iov_iter *from)
{
	if (unlikely(len > pos->n))
		return umpsc_pos_copy_pieces_from_user(pos, len, from);
	if (!umpsc_copy_from(pos->p, len, from))
		return -EFAULT;
	pos->p += len;
	pos->n -= len;
	return 0;
}

static int umpsc_pos_copy_pieces_to_user(struct umpsc_pos *pos, size_t len,
					 struct iov_iter *to)
{
	size_t piece;
	u8 *p;

	while (len) {
		p = umpsc_pos_piece(pos, len, &piece);
		if (!umpsc_copy_to(p, piece, to))
			return -EFAULT;
		len -= piece;
		if (len && umpsc_breathe())
			return -EINTR;
	}
	return 0;
}

static inline int umpsc_pos_copy_to_user(struct umpsc_pos *pos, size_t len,
					 struct iov_iter *to)
{
	if (unlikely(len > pos->n))
		return umpsc_pos_copy_pieces_to_user(pos, len, to);
	if (!umpsc_copy_to(pos->p, len, to))
		return -EFAULT;
	pos->p += len;
	pos->n -= len;
	return 0;
}

/* The len of the record at @pos: a piece ends between words of a record. */
static inline u32 umpsc_pos_len(const struct umpsc_pos *pos)
{
	const u8 *p = likely(pos->n) ? pos->p : pos->seg->data;

	return ((const struct umpsc_record *)p)->len;
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

/* The largest message that any channel takes now, in bytes. */
static unsigned long umpsc_core_max_len(void)
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
	case -EDQUOT:
		ch->refused_quota++;
		break;
	}
	raw_spin_unlock_irqrestore(&ch->q.lock, flags);
	return err;
}

/*
 * The first part of a send, which can fail and sleep.
 *
 * Records are numbered ahead, with what will be right if nobody else sends before this
 * is published; a receive has a look at the first of each run, and numbers them anew
 * where it was not.
 */
static u64 umpsc_likely_seq(struct umpsc_channel *ch)
{
	return umpsc_queue_pushed(&ch->q);
}

static __always_inline struct umpsc_run *
umpsc_prepare(struct umpsc_channel *ch, u64 sender, struct iov_iter *from)
{
	size_t len = iov_iter_count(from), packed = umpsc_record_size(len);
	struct umpsc_record *rec;
	struct umpsc_run *run;
	struct umpsc_pos pos __uninitialized;
	int err;

	if (len > umpsc_channel_max_len(ch))
		return ERR_PTR(-EMSGSIZE);

	run = umpsc_run_new(ch, packed);
	if (IS_ERR(run))
		return run;
	run->bytes = len;
	run->count = 1;

	umpsc_pos_start(ch, &pos, run);
	/* In place: the first piece has room for it. */
	rec = (struct umpsc_record *)pos.p;
	rec->len = len;
	rec->hdr = sizeof(*rec);
	rec->flags = 0;
	rec->seq = umpsc_likely_seq(ch);
	rec->sender = sender;
	rec->time_ns = umpsc_channel_time(ch);
	umpsc_pos_skip(&pos, sizeof(*rec));
	err = umpsc_pos_copy_from_user(&pos, len, from);
	if (err) {
		umpsc_run_free(ch, run);
		return ERR_PTR(err);
	}
	umpsc_pos_zero(&pos, packed - sizeof(*rec) - len);
	return run;
}

/**
 * struct umpsc_batch - the check of a batch, as far as it has come
 * @sender: the sender's id
 * @time_ns: when it was sent, or 0
 * @max_len: longest message allowed
 * @seq: the next record's
 * @count: records
 * @bytes: their payload
 * @excess: bytes by which headers are larger than the kernel's own
 */
struct umpsc_batch {
	u64 sender;
	u64 time_ns;
	u64 max_len;
	u64 seq;
	u32 count;
	u64 bytes;
	size_t excess;
};

static bool umpsc_hdr_ok(size_t hdr)
{
	return hdr >= UMPSC_RECORD_HDR && hdr <= UMPSC_RECORD_HDR_MAX &&
	       hdr % UMPSC_RECORD_ALIGN == 0;
}

/* Check the record at @pos, with @left bytes of batch from there; returns its size. */
static ssize_t umpsc_batch_check_one(struct umpsc_batch *batch,
				     struct umpsc_pos *pos, size_t left)
{
	struct umpsc_record *rec, copy;
	size_t size, hdr;
	u32 len;

	if (left < sizeof(*rec))
		return -EINVAL;
	rec = umpsc_pos_header(pos, &copy);
	len = rec->len;
	hdr = rec->hdr ? rec->hdr : sizeof(*rec);
	if (!umpsc_hdr_ok(hdr) || rec->flags & ~UMPSC_REST)
		return -EINVAL;
	size = UMPSC_RECORD_SIZE(hdr, len);
	if (size > left)
		return -EINVAL;
	if (len > batch->max_len)
		return -EMSGSIZE;

	batch->excess += hdr - sizeof(*rec);
	batch->bytes += len;
	rec->hdr = hdr;
	rec->flags = 0;
	rec->seq = batch->seq++;
	rec->sender = batch->sender;
	rec->time_ns = batch->time_ns;
	umpsc_pos_set_header(pos, rec);
	umpsc_pos_skip(pos, hdr + len);
	umpsc_pos_zero(pos, size - hdr - len);
	return size;
}

/* The first word of a record, which is looked at as one. */
union umpsc_head {
	struct {
		u32 len;
		u16 hdr;
		u16 flags;
	};
	u64 word;
};

static inline bool umpsc_record_has(const struct umpsc_record *rec, u64 mask)
{
	union umpsc_head head;

	memcpy(&head, rec, sizeof(head));
	return head.word & mask;
}

/*
 * The same for all records at @pos that are whole in this piece, as most are, and in
 * the @left bytes of the batch, and whose header needs no check.  Returns the bytes
 * of these.  A function of its own, so that all it needs stays in registers.
 */
static noinline size_t umpsc_batch_check_piece(struct umpsc_batch *batch,
					       struct umpsc_pos *pos,
					       size_t left)
{
	/* A size and flags that are to be checked. */
	const union umpsc_head odd = {
		.hdr = (u16)~UMPSC_RECORD_HDR,
		.flags = (u16)~UMPSC_REST,
	};
	/* A payload that is to be padded. */
	const union umpsc_head ragged = { .len = UMPSC_RECORD_ALIGN - 1 };
	const u64 sender = batch->sender, time_ns = batch->time_ns;
	const u64 max_len = batch->max_len;
	size_t n = min(pos->n, left), size, pad, padding = 0;
	u64 seq = batch->seq;
	u8 *p = pos->p;

	/* A piece ends between words of a record, so what is looked at is there. */
	while (n) {
		struct umpsc_record *rec = (struct umpsc_record *)p;

		size = sizeof(*rec) + rec->len;
		if (unlikely(size > n || rec->len > max_len))
			break;
		if (unlikely(umpsc_record_has(rec, odd.word | ragged.word))) {
			if (umpsc_record_has(rec, odd.word))
				break;
			pad = -size % UMPSC_RECORD_ALIGN;
			memset(p + size, 0, pad);
			size += pad;
			padding += pad;
		}
		rec->hdr = sizeof(*rec);
		rec->flags = 0;
		rec->seq = seq++;
		rec->sender = sender;
		rec->time_ns = time_ns;
		p += size;
		n -= size;
	}
	size = p - (u8 *)pos->p;
	batch->bytes += size - padding -
			(seq - batch->seq) * sizeof(struct umpsc_record);
	batch->seq = seq;
	umpsc_pos_skip(pos, size);
	return size;
}

/*
 * Check the batch in @run, as it came from the user, record by record, and put
 * into each header and padding what the kernel says there.
 */
static int umpsc_batch_check(struct umpsc_channel *ch, struct umpsc_run *run,
			     size_t left, u64 sender, struct umpsc_batch *batch)
{
	u64 first = umpsc_likely_seq(ch);
	struct umpsc_pos pos;
	ssize_t size;

	*batch = (struct umpsc_batch){
		.sender = sender,
		.time_ns = umpsc_channel_time(ch),
		.max_len = umpsc_channel_max_len(ch),
		.seq = first,
	};
	umpsc_pos_start(ch, &pos, run);
	for (;;) {
		left -= umpsc_batch_check_piece(batch, &pos, left);
		if (!left)
			break;
		/* The next one goes over to another piece, or is odd. */
		size = umpsc_batch_check_one(batch, &pos, left);
		if (size < 0)
			return size;
		left -= size;
		if (!left)
			break;
		if (umpsc_breathe())
			return -EINTR;
	}
	batch->count = batch->seq - first;
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

	run = umpsc_run_new(ch, old->packed - batch->excess);
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
		if (!((i + 1) % UMPSC_RESCHED) && umpsc_breathe()) {
			umpsc_run_free(ch, run);
			return ERR_PTR(-EINTR);
		}
	}
	return run;
}

static struct umpsc_run *umpsc_prepare_batch(struct umpsc_channel *ch,
					     u64 sender, struct iov_iter *from)
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

	if (batch.excess) {
		repacked = umpsc_batch_repack(ch, run, &batch);
		umpsc_run_free(ch, run);
		if (IS_ERR(repacked))
			return repacked;
		run = repacked;
	}
	run->count = batch.count;
	run->bytes = batch.bytes;
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

/* Payload queued. */
static u64 umpsc_bytes_locked(struct umpsc_channel *ch)
{
	lockdep_assert_held(&ch->q.lock);
	return ch->sent_bytes - READ_ONCE(ch->taken_bytes);
}

/* May a sender that waits for room try again? */
static bool umpsc_has_room_locked(struct umpsc_channel *ch)
{
	u64 len = umpsc_queue_len(&ch->q), bytes = umpsc_bytes_locked(ch);

	lockdep_assert_held(&ch->q.lock);
	if (ch->full && umpsc_at_half(len, ch->limits.max_msgs) &&
	    umpsc_at_half(bytes, ch->limits.max_bytes))
		ch->full = false;
	return !ch->full && umpsc_below(len, ch->limits.max_msgs) &&
	       umpsc_below(bytes, ch->limits.max_bytes);
}

static bool umpsc_fits_locked(struct umpsc_channel *ch, u64 count, u64 bytes)
{
	const struct umpsc_limits *limits = &ch->limits;

	lockdep_assert_held(&ch->q.lock);
	return (!limits->max_msgs ||
		umpsc_queue_len(&ch->q) + count <= limits->max_msgs) &&
	       (!limits->max_bytes ||
		umpsc_bytes_locked(ch) + bytes <= limits->max_bytes);
}

/* TAKEN: more was sent, and what is queued may be more than ever. */
static inline void umpsc_mark_most_locked(struct umpsc_channel *ch)
{
	u64 taken, sent = umpsc_queue_pushed(&ch->q);

	lockdep_assert_held(&ch->q.lock);
	if (sent > ch->most_messages_until) {
		taken = READ_ONCE(ch->q.taken);
		ch->most_messages = max(ch->most_messages, sent - taken);
		ch->most_messages_until = ch->most_messages + taken;
	}
	if (ch->sent_bytes > ch->most_bytes_until) {
		taken = READ_ONCE(ch->taken_bytes);
		ch->most_bytes = max(ch->most_bytes, ch->sent_bytes - taken);
		ch->most_bytes_until = ch->most_bytes + taken;
	}
}

/* Is one of those who wait an exclusive poller? */
static bool umpsc_has_exclusive(struct wait_queue_head *wq)
{
	lockdep_assert_held(&wq->lock);
	/* Their entries come behind all others. */
	return waitqueue_active(wq) &&
	       list_last_entry(&wq->head, struct wait_queue_entry, entry)
			       ->flags &
		       WQ_FLAG_EXCLUSIVE;
}

/*
 * WAKE: answer the looks up to @look, unless another send did it meanwhile.  Wakes
 * every waiting task, and one of the exclusive pollers: the next send is to wake one of
 * these as well, since the woken one may not look at all.
 */
static void umpsc_wake_receiver(struct umpsc_channel *ch, u64 look)
{
	void *key = poll_to_key(EPOLLIN | EPOLLRDNORM);
	struct wait_queue_head *wq = &ch->rx_wait;
	unsigned long flags;

	spin_lock_irqsave(&wq->lock, flags);
	if (ch->rx_answered < look) {
		if (!umpsc_has_exclusive(wq))
			WRITE_ONCE(ch->rx_answered, look);
		/* No barrier: WAKE joined under this very lock. */
		if (waitqueue_active(wq)) {
			ch->wakeups++;
			__wake_up_locked_key(wq, TASK_INTERRUPTIBLE, key);
		}
	}
	spin_unlock_irqrestore(&wq->lock, flags);
}

/* Close and the last drop: whoever waits for anything is to look again. */
static void umpsc_wake_all(struct umpsc_channel *ch)
{
	wake_up_interruptible_all(&ch->rx_wait);
	wake_up_interruptible_all(&ch->tx_wait);
}

static inline void umpsc_totals_add(s64 messages, s64 bytes)
{
	this_cpu_add(umpsc_totals.messages, messages);
	this_cpu_add(umpsc_totals.bytes, bytes);
}

/*
 * Accept @run or refuse it.  For any context.  Only the
 * closed bit and the channel's limits can refuse; a run refused stays the caller's.
 * @look: out: 0, or the look that is to be answered by umpsc_wake_receiver().
 */
static __always_inline int umpsc_publish(struct umpsc_channel *ch,
					 struct umpsc_run *run, u64 *look)
{
	size_t memory = umpsc_run_memory(ch, run);
	u64 count = run->count, bytes = run->bytes;
	unsigned long flags;

	umpsc_link_init(&run->link);
	raw_spin_lock_irqsave(&ch->q.lock, flags);
	if (umpsc_queue_closed(&ch->q)) {
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
	ch->sent_bytes += bytes;
	ch->sent_memory += memory;
	umpsc_mark_most_locked(ch);
	*look = READ_ONCE(ch->rx_answered) < ch->rx_looks ? ch->rx_looks : 0;
	raw_spin_unlock_irqrestore(&ch->q.lock, flags);

	umpsc_totals_add(count, bytes);
	return 0;
}

/* Publish and wake.  A run refused is freed. */
static __always_inline int umpsc_deliver(struct umpsc_channel *ch,
					 struct umpsc_run *run)
{
	u64 look;
	int err;

	err = umpsc_publish(ch, run, &look);
	if (err) {
		umpsc_run_free(ch, run);
		return err;
	}
	if (look)
		umpsc_wake_receiver(ch, look);
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
 * or the module; -ENOBUFS: the channel's limits; -ENOMEM; -EDQUOT: the user's quota or
 * the module's ceiling; -EFAULT; -EINTR: killed.
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

	err = umpsc_deliver(ch, run);
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
	int count, err;

	if (umpsc_queue_closed(&ch->q))
		return umpsc_channel_refuse(ch, -EPIPE);
	if (!iov_iter_count(from))
		return 0;

	run = umpsc_prepare_batch(ch, sender, from);
	if (IS_ERR(run))
		return umpsc_channel_refuse(ch, PTR_ERR(run));

	count = run->count;
	err = umpsc_deliver(ch, run);
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
	u64 len;

	/* END: this before the queue. */
	*ended = umpsc_senders_gone(ch);
	raw_spin_lock_irqsave(&ch->q.lock, flags);
	ch->rx_looks++;
	*ended |= umpsc_queue_closed(&ch->q);
	len = umpsc_queue_len(&ch->q);
	raw_spin_unlock_irqrestore(&ch->q.lock, flags);
	return len;
}

/*
 * Sleep until there may be something for a receiver.  0: look again; -ERESTARTSYS: a
 * signal came; -ETIMEDOUT: @deadline passed (NULL: none).
 */
static int umpsc_receiver_sleep(struct umpsc_channel *ch, ktime_t *deadline)
{
	bool expired = false, ended;
	DEFINE_WAIT(wait);
	int err = 0;

	for (;;) {
		prepare_to_wait(&ch->rx_wait, &wait, TASK_INTERRUPTIBLE);
		if (umpsc_receiver_look(ch, &ended) || ended)
			break;
		if (signal_pending(current)) {
			err = -ERESTARTSYS;
			break;
		}
		if (expired) {
			err = -ETIMEDOUT;
			break;
		}
		if (!deadline) {
			schedule();
			break;
		}
		if (schedule_hrtimeout_range(deadline, current->timer_slack_ns,
					     HRTIMER_MODE_ABS))
			break;
		expired = true;
	}
	finish_wait(&ch->rx_wait, &wait);
	return err;
}

/*
 * Wait for a message.  1: there is one, and rx_lock is held; 0: the end; or an
 * error.  @deadline may be NULL.
 */
static inline int umpsc_receive_begin(struct umpsc_channel *ch,
				      enum umpsc_wait wait, ktime_t *deadline)
{
	bool ended;
	int err;

	might_lock(&ch->rx_lock);
	for (;;) {
		if (umpsc_queue_some(&ch->q)) {
			/* May wait for another receive's copy, never for a message. */
			if (mutex_lock_interruptible(&ch->rx_lock)) {
				if (wait != UMPSC_NOWAIT_ASYNC)
					return -ERESTARTSYS;
				if (mutex_lock_killable(&ch->rx_lock))
					return -EINTR;
			}
			if (likely(umpsc_queue_some(&ch->q)))
				return 1;
			mutex_unlock(&ch->rx_lock);
		}
		/* END: this before the queue. */
		if (umpsc_channel_ended(ch)) {
			if (umpsc_queue_len(&ch->q))
				continue;
			return 0;
		}
		if (wait != UMPSC_WAIT) {
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

/* The link behind what @t has taken, or NULL where no more is fetched. */
static inline struct umpsc_link *umpsc_take_fetched(struct umpsc_channel *ch,
						    struct umpsc_take *t)
{
	return t->last ? umpsc_queue_next(&t->last->link) :
			 umpsc_queue_peek(&ch->q);
}

static inline struct umpsc_link *umpsc_take_link(struct umpsc_channel *ch,
						 struct umpsc_take *t)
{
	struct umpsc_link *link = umpsc_take_fetched(ch, t);

	/* The first one has been seen counted: QUEUE_ORDER. */
	if (link || (t->last && !umpsc_queue_unfetched(&ch->q)))
		return link;
	umpsc_queue_fetch(&ch->q);
	return umpsc_take_fetched(ch, t);
}

/* The run at the place of @t, or NULL where nothing more is queued. */
static inline struct umpsc_run *umpsc_take_run(struct umpsc_channel *ch,
					       struct umpsc_take *t)
{
	struct umpsc_link *link;

	lockdep_assert_held(&ch->rx_lock);
	if (!t->pos.run) {
		link = umpsc_take_link(ch, t);
		if (!link)
			return NULL;
		umpsc_pos_start(ch, &t->pos,
				container_of(link, struct umpsc_run, link));
	}
	return t->pos.run;
}

static inline void umpsc_take_start(struct umpsc_channel *ch,
				    struct umpsc_take *t)
{
	lockdep_assert_held(&ch->rx_lock);
	if (ch->pos.run)
		t->pos = ch->pos;
	else
		t->pos.run = NULL;
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
static inline void umpsc_take_records(struct umpsc_channel *ch,
				      struct umpsc_take *t, u32 count,
				      u64 bytes)
{
	struct umpsc_run *run = t->pos.run;

	t->count += count;
	t->bytes += bytes;
	t->offset = 0;
	t->pos.left -= count;
	if (!t->pos.left) {
		t->last = run;
		t->memory += umpsc_run_memory(ch, run);
		t->pos.run = NULL;
	}
}

/* The record at t->pos is taken. */
static inline void umpsc_take_record(struct umpsc_channel *ch,
				     struct umpsc_take *t, u32 len)
{
	if (t->pos.left > 1)
		umpsc_pos_skip(&t->pos, umpsc_record_size(len));
	umpsc_take_records(ch, t, 1, len);
}

/* TAKEN: unlink what was taken, count it, and move on. */
static inline struct umpsc_link *umpsc_take_unlink(struct umpsc_channel *ch,
						   struct umpsc_take *t)
{
	struct umpsc_link *used_up;

	/* Who reads the counts waits for them to be consistent. */
	preempt_disable();
	raw_write_seqcount_begin(&ch->taken_seq);
	used_up = umpsc_queue_pop(&ch->q, t->last ? &t->last->link : NULL,
				  t->count);
	WRITE_ONCE(ch->taken_bytes, ch->taken_bytes + t->bytes);
	WRITE_ONCE(ch->taken_memory, ch->taken_memory + t->memory);
	raw_write_seqcount_end(&ch->taken_seq);
	preempt_enable();
	if (t->pos.run)
		ch->pos = t->pos;
	else
		ch->pos.run = NULL;
	ch->offset = t->offset;
	if (t->offset)
		ch->part = t->part;
	return used_up;
}

/* TAKEN: where others see it happen.  @room: out: a sender waits for room, and has it. */
static struct umpsc_link *umpsc_take_unlink_locked(struct umpsc_channel *ch,
						   struct umpsc_take *t,
						   bool *room)
{
	struct umpsc_link *used_up;
	unsigned long flags;

	raw_spin_lock_irqsave(&ch->q.lock, flags);
	used_up = umpsc_take_unlink(ch, t);
	if ((ch->full || ch->tx_watched) && umpsc_has_room_locked(ch)) {
		*room = ch->tx_watched;
		ch->tx_watched = false;
	}
	/* WAKE: a look, for all that joined before. */
	if (waitqueue_active(&ch->rx_wait))
		ch->rx_looks++;
	raw_spin_unlock_irqrestore(&ch->q.lock, flags);
	return used_up;
}

/*
 * Unlink what was taken, and free it.  Ends what umpsc_receive_begin() began.
 * -EINTR and nothing is taken where the caller is being killed, since nobody will
 * see the copy.
 */
static __always_inline int umpsc_take_commit(struct umpsc_channel *ch,
					     struct umpsc_take *t)
{
	struct umpsc_run *spare = NULL;
	struct umpsc_link *used_up;
	bool room = false;

	lockdep_assert_held(&ch->rx_lock);
	if (fatal_signal_pending(current)) {
		mutex_unlock(&ch->rx_lock);
		return -EINTR;
	}

	/* The point of no return. */
	if (t->last)
		spare = umpsc_spare_of(ch,
				       container_of(umpsc_queue_peek(&ch->q),
						    struct umpsc_run, link));
	/* WAKE: whoever joins after this has a look of his own. */
	if (ch->commit_locked || waitqueue_active(&ch->rx_wait))
		used_up = umpsc_take_unlink_locked(ch, t, &room);
	else
		used_up = umpsc_take_unlink(ch, t);
	if (unlikely(READ_ONCE(ch->arena))) {
		umpsc_spare_free(ch);
	} else if (spare && !READ_ONCE(ch->spare)) {
		used_up = used_up->next;
		/* SPARE: its next sender sees all that was done to it. */
		smp_store_release(&ch->spare, spare);
	}
	mutex_unlock(&ch->rx_lock);

	if (room)
		__wake_up(&ch->tx_wait, TASK_INTERRUPTIBLE, 0,
			  poll_to_key(EPOLLOUT | EPOLLWRNORM));
	umpsc_totals_add(-t->count, -t->bytes);
	umpsc_runs_free(ch, used_up);
	return 0;
}

/*
 * Many empty messages in a row: let others run.  More may come all the time, so where
 * the caller does not wait, or has a signal, this ends past what was queued when that
 * was seen first, @until.  1: that is all; 0: go on; -EINTR: killed.
 */
static int umpsc_take_breathe(struct umpsc_channel *ch,
			      const struct umpsc_take *t, u64 *until,
			      enum umpsc_wait wait)
{
	if (t->count % UMPSC_RESCHED)
		return 0;
	if (umpsc_breathe())
		return -EINTR;
	if (wait == UMPSC_WAIT && !signal_pending(current))
		return 0;
	if (!*until)
		*until = umpsc_queue_len(&ch->q);
	return t->count >= *until;
}

/*
 * Copy bytes of the next message that has any, at most what @to wants; or 0, past
 * empty ones.
 */
static __always_inline ssize_t umpsc_take_bytes(struct umpsc_channel *ch,
						struct umpsc_take *t,
						struct iov_iter *to,
						enum umpsc_wait wait)
{
	struct umpsc_pos part __uninitialized;
	size_t len, total;
	u64 until = 0;
	int err;

	umpsc_take_start(ch, t);
	while (umpsc_take_run(ch, t)) {
		total = umpsc_pos_len(&t->pos);
		if (unlikely(!total)) {
			umpsc_take_record(ch, t, 0);
			err = umpsc_take_breathe(ch, t, &until, wait);
			if (err < 0)
				return err;
			if (err)
				break;
			continue;
		}
		if (unlikely(t->offset)) {
			part = ch->part;
		} else {
			part = t->pos;
			umpsc_pos_skip(&part, sizeof(struct umpsc_record));
		}
		len = min(total - t->offset, iov_iter_count(to));
		err = umpsc_pos_copy_to_user(&part, len, to);
		if (err)
			return err;
		t->offset += len;
		if (likely(t->offset == total))
			umpsc_take_record(ch, t, total);
		else
			t->part = part;
		return len;
	}
	return 0;
}

/*
 * A caller that does not wait took nothing but empty messages, all that were there when
 * he came.  What came since is told to whoever waits, as he need not try again.
 */
static int umpsc_read_nothing(struct umpsc_channel *ch)
{
	bool ended;

	if (umpsc_receiver_look(ch, &ended))
		wake_up_interruptible_poll(&ch->rx_wait, EPOLLIN | EPOLLRDNORM);
	else if (ended)
		return 0;
	return -EAGAIN;
}

/**
 * umpsc_read - receive bytes of one message
 * @ch: the channel; the caller is its receiver
 * @to: where to; not empty
 * @wait: whether to wait for a message
 *
 * The first bytes of the next message, or the next ones of it; never of two.  It
 * counts as received when its last byte is.  Empty messages before it are passed
 * over, and taken with it, or not at all; where nothing but empty ones is queued, they
 * are taken, and it goes on as if nothing had been.
 *
 * Return: bytes, or 0 at the end; on an error no byte was taken: -EAGAIN,
 * -ERESTARTSYS, -EFAULT, -EINTR: killed.
 */
ssize_t umpsc_read(struct umpsc_channel *ch, struct iov_iter *to,
		   enum umpsc_wait wait)
{
	struct umpsc_take t __uninitialized;
	bool signalled = false;
	ssize_t ret;
	int err;

	for (;;) {
		err = umpsc_receive_begin(ch, wait, NULL);
		if (err <= 0)
			return err;
		ret = umpsc_take_bytes(ch, &t, to, wait);
		if (ret < 0) {
			mutex_unlock(&ch->rx_lock);
			return ret;
		}
		err = umpsc_take_commit(ch, &t);
		if (err)
			return err;
		if (ret)
			return ret;
		if (umpsc_breathe())
			return -EINTR;
		if (wait != UMPSC_WAIT)
			return umpsc_read_nothing(ch);
		/* More may come all the time; a look at the end is due. */
		if (signalled)
			return -ERESTARTSYS;
		signalled = signal_pending(current);
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
	out.rec.seq = ch->q.taken + t->count;
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

	if (!umpsc_copy_to(&out, hdr, to))
		return -EFAULT;
	err = umpsc_pos_copy_to_user(&t->part, out.rec.len, to);
	if (err)
		return err;
	padding = size - hdr - out.rec.len;
	if (!umpsc_copy_to(out.padding, padding, to))
		return -EFAULT;

	umpsc_take_record(ch, t, len);
	return 1;
}

/*
 * Number the records from t->pos on anew.  To stop half way, for one who is killed, would
 * leave numbers of both kinds to the next receiver.
 */
static void umpsc_take_renumber(struct umpsc_channel *ch, struct umpsc_take *t)
{
	u64 seq = ch->q.taken + t->count;
	struct umpsc_record *rec, copy;
	struct umpsc_pos pos = t->pos;
	u32 i;

	for (i = 0; i < t->pos.left; i++) {
		rec = umpsc_pos_header(&pos, &copy);
		umpsc_pos_set_seq(&pos, rec, seq + i);
		umpsc_pos_skip(&pos, umpsc_record_size(rec->len));
		if (!((i + 1) % UMPSC_RESCHED))
			cond_resched();
	}
}

/*
 * See to it that the records from t->pos on have their numbers, as they were guessed
 * when they were sent.  All of them do or, as the first one shows, none.
 */
static inline void umpsc_take_number(struct umpsc_channel *ch,
				     struct umpsc_take *t)
{
	const struct umpsc_record *rec;
	struct umpsc_record copy;

	rec = umpsc_pos_header(&t->pos, &copy);
	if (unlikely(rec->seq != ch->q.taken + t->count))
		umpsc_take_renumber(ch, t);
}

/* As many whole records of the run at t->pos as @to and @max allow, maybe none. */
static int umpsc_take_some_of_run(struct umpsc_channel *ch,
				  struct umpsc_take *t, struct iov_iter *to,
				  u32 max)
{
	size_t space = iov_iter_count(to), used = 0;
	struct umpsc_pos pos = t->pos;
	u32 count = 0, len;
	u64 bytes = 0;
	size_t size;
	int err;

	for (max = min(max, t->pos.left); count < max; count++) {
		len = umpsc_pos_len(&pos);
		size = umpsc_record_size(len);
		if (size > space - used) {
			t->need = size;
			break;
		}
		used += size;
		bytes += len;
		umpsc_pos_skip(&pos, size);
		if (!((count + 1) % UMPSC_RESCHED) && umpsc_breathe())
			return -EINTR;
	}
	if (!count)
		return 0;
	err = umpsc_pos_copy_to_user(&t->pos, used, to);
	if (err)
		return err;
	umpsc_take_records(ch, t, count, bytes);
	return count;
}

/*
 * The same in one step where all of the run fits, as it mostly does.  Returns how many
 * records were taken.
 */
static inline int umpsc_take_from_run(struct umpsc_channel *ch,
				      struct umpsc_take *t, struct iov_iter *to,
				      u32 max)
{
	struct umpsc_run *run = t->pos.run;
	int err;

	umpsc_take_number(ch, t);
	if (t->pos.left != run->count || run->count > max ||
	    run->packed > iov_iter_count(to))
		return umpsc_take_some_of_run(ch, t, to, max);

	err = umpsc_pos_copy_to_user(&t->pos, run->packed, to);
	if (err)
		return err;
	umpsc_take_records(ch, t, run->count, run->bytes);
	return run->count;
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
 * @t: what is about to be taken; out, t->used and t->need also on an error
 * @to: the buffer
 * @max: most messages, above 0
 * @wait: whether to wait for a message
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
		     struct iov_iter *to, u32 max, enum umpsc_wait wait,
		     ktime_t *deadline)
{
	int ret;

	t->used = 0;
	t->need = 0;
	ret = umpsc_receive_begin(ch, wait, deadline);
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
	if (umpsc_queue_closed(&ch->q))
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
	mutex_init(&ledger->walk_lock);
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
	ch->walked = ledger->walk - 1;
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

/* Nobody holds @ch any more: what it counted is final. */
static void umpsc_ledger_leave(struct umpsc_channel *ch)
{
	struct umpsc_ledger *ledger = ch->ledger;
	struct umpsc_info info = {};

	if (!ledger)
		return;
	umpsc_channel_info(ch, &info);
	mutex_lock(&ledger->lock);
	umpsc_info_add(&ledger->freed, &info);
	if (ch->walked != ledger->walk)
		umpsc_info_add(&ledger->sum, &info);
	list_del(&ch->in_ledger);
	mutex_unlock(&ledger->lock);
	umpsc_ledger_put(ledger);
}

/**
 * umpsc_ledger_close - let nobody wait for those who read a ledger
 * @ledger: the node's; umpsc_ledger_info() fails from now on
 */
void umpsc_ledger_close(struct umpsc_ledger *ledger)
{
	WRITE_ONCE(ledger->closed, true);
}

/* What keeps a walk from going on, or 0. */
static int umpsc_ledger_walk_error(const struct umpsc_ledger *ledger)
{
	if (READ_ONCE(ledger->closed))
		return -ENODEV;
	return fatal_signal_pending(current) ? -EINTR : 0;
}

static int umpsc_ledger_walk(struct umpsc_ledger *ledger,
			     struct umpsc_info *sum)
{
	struct umpsc_channel *ch;
	unsigned int n = 0;
	LIST_HEAD(place);
	int err = 0;

	lockdep_assert_held(&ledger->walk_lock);
	mutex_lock(&ledger->lock);
	ledger->walk++;
	ledger->sum = ledger->freed;
	list_add(&place, &ledger->channels);
	while (!err && !list_is_last(&place, &ledger->channels)) {
		struct umpsc_info info = {};

		ch = list_first_entry(&place, struct umpsc_channel, in_ledger);
		umpsc_channel_info(ch, &info);
		umpsc_info_add(&ledger->sum, &info);
		ch->walked = ledger->walk;
		list_move(&place, &ch->in_ledger);
		if (++n % UMPSC_RESCHED == 0) {
			mutex_unlock(&ledger->lock);
			cond_resched();
			err = umpsc_ledger_walk_error(ledger);
			mutex_lock(&ledger->lock);
		}
	}
	list_del(&place);
	*sum = ledger->sum;
	mutex_unlock(&ledger->lock);
	return err;
}

/**
 * umpsc_ledger_info - what all channels of a node have counted
 * @ledger: the node's
 * @info: out: sums of messages and bytes queued, of those sent, received and
 *	discarded, of sends refused and of wakeups, and the highest of the high-water
 *	marks; the rest is 0
 *
 * Each channel's figures are of one instant; the channels are asked in turn.
 *
 * Return: 0; -ENODEV: the ledger was closed; -EINTR: the caller was killed.
 */
int umpsc_ledger_info(struct umpsc_ledger *ledger, struct umpsc_info *info)
{
	int err;

	err = mutex_lock_killable(&ledger->walk_lock);
	if (err)
		return err;
	err = umpsc_ledger_walk_error(ledger);
	if (!err)
		err = umpsc_ledger_walk(ledger, info);
	mutex_unlock(&ledger->walk_lock);
	return err;
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
 * Return: the channel, with one reference; or -ENOMEM, -EDQUOT.
 */
struct umpsc_channel *umpsc_channel_new(enum umpsc_life life, u32 flags,
					const struct umpsc_limits *limits,
					u64 generation,
					struct umpsc_ledger *ledger)
{
	bool private = life == UMPSC_LIFE_PRIVATE;
	struct umpsc_channel *ch;
	u32 account;
	int err;

	err = umpsc_memory_charge(UMPSC_CHANNEL_MEMORY, false, &account);
	if (err)
		return ERR_PTR(err);
	ch = kzalloc(sizeof(*ch), UMPSC_GFP);
	if (!ch) {
		umpsc_memory_uncharge(UMPSC_CHANNEL_MEMORY, account);
		return ERR_PTR(-ENOMEM);
	}

	ch->id = atomic64_inc_return(&umpsc_channel_ids);
	ch->generation = generation;
	ch->flags = flags;
	ch->limits = *limits;
	ch->account = account;
	umpsc_channel_init_shapes(ch);
	kref_init(&ch->ref);
	refcount_set(&ch->strong, 1);
	init_waitqueue_head(&ch->rx_wait);
	init_waitqueue_head(&ch->tx_wait);
	INIT_WORK(&ch->free_work, umpsc_channel_free_work);
	mutex_init(&ch->rx_lock);
	seqcount_init(&ch->taken_seq);
	ch->commit_locked = ch->limits.max_msgs || ch->limits.max_bytes ||
			    ch->flags & UMPSC_TIMESTAMP;
	raw_spin_lock_init(&ch->arena_lock);
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
	WARN_ON_ONCE(umpsc_queue_len(&ch->q) ||
		     ch->sent_memory != ch->taken_memory);
	umpsc_ledger_leave(ch);
	atomic64_dec(&umpsc_channels);
	umpsc_spare_drop(ch);
	umpsc_memory_uncharge(UMPSC_CHANNEL_MEMORY, ch->account);
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
	waiting = !ch->claimed && umpsc_queue_len(&ch->q);
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
	if (umpsc_queue_closed(&ch->q) || !refcount_read(&ch->strong)) {
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
	umpsc_queue_close_locked(&ch->q);
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
	*count = umpsc_queue_len(&ch->q);
	*bytes = umpsc_bytes_locked(ch);
	ch->gone = true;
	ch->claimed = false;
	ch->discarded = *count;
	ch->discarded_bytes = *bytes;
	ch->taken_bytes = ch->sent_bytes;
	ch->taken_memory = ch->sent_memory;
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
	if (ch->standing && ch->hold && !umpsc_queue_closed(&ch->q)) {
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
	struct umpsc_link *link;
	struct umpsc_pos pos;
	u64 time_ns;

	lockdep_assert_held(&ch->q.lock);
	if (!(ch->flags & UMPSC_TIMESTAMP))
		return 0;
	link = ch->q.fetched ?: ch->q.head;
	if (!link)
		return 0;
	pos = ch->pos;
	if (!pos.run)
		umpsc_pos_start(ch, &pos,
				container_of(link, struct umpsc_run, link));
	/* And not the header as a whole, whose seq a receive may be writing. */
	umpsc_pos_skip(&pos, offsetof(struct umpsc_record, time_ns));
	umpsc_pos_read(&pos, &time_ns, sizeof(time_ns));
	return ktime_get_ns() - time_ns;
}

/* TAKEN: the three at one instant; false where a receive is just writing them. */
static bool umpsc_taken_read(struct umpsc_channel *ch, u64 *messages,
			     u64 *bytes, u64 *memory)
{
	unsigned int seq = raw_seqcount_begin(&ch->taken_seq);

	*messages = READ_ONCE(ch->q.taken);
	*bytes = READ_ONCE(ch->taken_bytes);
	*memory = READ_ONCE(ch->taken_memory);
	return !read_seqcount_retry(&ch->taken_seq, seq);
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
	u64 taken, taken_bytes, taken_memory;
	unsigned long flags;
	u32 strong, state = 0;

	info->flags = ch->flags;
	info->channel = ch->id;
	info->generation = ch->generation;
	info->limits = ch->limits;
	info->weak = atomic_read(&ch->weak);
	info->wakeups = READ_ONCE(ch->wakeups);

	raw_spin_lock_irqsave(&ch->q.lock, flags);
	/* TAKEN: without the lock meanwhile, as the receiver may be interrupted. */
	while (!umpsc_taken_read(ch, &taken, &taken_bytes, &taken_memory)) {
		raw_spin_unlock_irqrestore(&ch->q.lock, flags);
		cpu_relax();
		raw_spin_lock_irqsave(&ch->q.lock, flags);
	}
	strong = refcount_read(&ch->strong);
	info->strong = strong - ch->hold;
	info->sent = umpsc_queue_pushed(&ch->q);
	info->sent_bytes = ch->sent_bytes;
	info->messages = info->sent - taken;
	info->bytes = info->sent_bytes - taken_bytes;
	info->memory = ch->sent_memory - taken_memory;
	info->discarded = ch->discarded;
	info->received = taken - ch->discarded;
	info->received_bytes = taken_bytes - ch->discarded_bytes;
	info->refused_closed = ch->refused_closed;
	info->refused_size = ch->refused_size;
	info->refused_limit = ch->refused_limit;
	info->refused_memory = ch->refused_memory;
	info->refused_quota = ch->refused_quota;
	info->most_messages = ch->most_messages;
	info->most_bytes = ch->most_bytes;
	info->oldest_ns = umpsc_channel_oldest_locked(ch);
	if (umpsc_queue_closed(&ch->q))
		state |= UMPSC_STATE_CLOSED;
	if (ch->gone)
		state |= UMPSC_STATE_RECEIVER_GONE;
	if (ch->claimed)
		state |= UMPSC_STATE_CLAIMED;
	if (ch->standing)
		state |= UMPSC_STATE_STANDING;
	if (!strong || umpsc_queue_closed(&ch->q))
		state |= UMPSC_STATE_ENDED;
	raw_spin_unlock_irqrestore(&ch->q.lock, flags);
	info->state = state;
}

/**
 * umpsc_core_query - the module's limits, and what there is in all channels
 * @query: out, but for what is not the core's
 */
void umpsc_core_query(struct umpsc_query *query)
{
	s64 m = 0, b = 0;
	int cpu;

	for_each_possible_cpu(cpu) {
		m += READ_ONCE(per_cpu(umpsc_totals.messages, cpu));
		b += READ_ONCE(per_cpu(umpsc_totals.bytes, cpu));
	}
	query->channels = atomic64_read(&umpsc_channels);
	/* The CPUs are not read at one instant. */
	query->messages = max(m, 0LL);
	query->bytes = max(b, 0LL);
	query->memory = umpsc_memory_held();
	query->max_len = umpsc_core_max_len();
	query->max_bytes = READ_ONCE(umpsc_max_bytes);
	query->max_user_bytes = READ_ONCE(umpsc_max_user_bytes);
	query->reserve_bytes = READ_ONCE(umpsc_reserve_bytes);
}

/* ---- Init and exit ------------------------------------------------------ */

static struct kmem_cache *umpsc_cache_new(unsigned int i)
{
	const char *name = umpsc_cache_kinds[i].name;
	size_t size = umpsc_cache_kinds[i].size - sizeof(void *);
	/* An arena is found by its address. */
	size_t align = i == UMPSC_CACHE_PAGE ? PAGE_SIZE : sizeof(void *);

	/* User copies may be checked against what is declared: all of it. */
	return kmem_cache_create_usercopy(name, size, align, SLAB_ACCOUNT, 0,
					  size, umpsc_object_init);
}

static void umpsc_caches_destroy(void)
{
	size_t i;

	/* Those that there are. */
	for (i = 0; i < ARRAY_SIZE(umpsc_caches); i++)
		kmem_cache_destroy(umpsc_caches[i]);
}

/**
 * umpsc_core_init - before any other call
 *
 * Return: 0 or -ENOMEM.
 */
int umpsc_core_init(void)
{
	u64 ram = (u64)totalram_pages() << PAGE_SHIFT;
	size_t i;

	if (!umpsc_max_bytes)
		umpsc_max_bytes = ram / 2;
	if (!umpsc_max_user_bytes)
		umpsc_max_user_bytes = umpsc_max_bytes / 4;
	if (!umpsc_reserve_bytes)
		umpsc_reserve_bytes = ram / 8;
	atomic64_set(&umpsc_channel_ids, ktime_get_boottime_ns());

	for (i = 0; i < ARRAY_SIZE(umpsc_caches); i++) {
		umpsc_caches[i] = umpsc_cache_new(i);
		if (!umpsc_caches[i])
			goto err_caches;
	}
	umpsc_wq = alloc_workqueue("umpsc", WQ_UNBOUND, 0);
	if (umpsc_wq)
		return 0;

err_caches:
	umpsc_caches_destroy();
	return -ENOMEM;
}

/**
 * umpsc_core_exit - after all channels were put
 */
void umpsc_core_exit(void)
{
	/* What is being freed there may fill a stock, which is the last to do so. */
	flush_workqueue(umpsc_wq);
	cancel_delayed_work_sync(&umpsc_stocks_work);
	destroy_workqueue(umpsc_wq);
	umpsc_stocks_empty(NULL);
	umpsc_caches_destroy();
}
