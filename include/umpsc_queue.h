/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The queue of a channel: many producers, one consumer, intrusive links.
 *
 *	            push    fetch   peek, next, pop   len
 *	push        lock    lock    -                 -
 *	fetch       lock    n/a     one consumer      -
 *
 * Producers serialise by @lock, from any context: it is a raw spinlock taken
 * with interrupts off, over a fixed handful of instructions.  So a producer
 * waits for nothing but the same few instructions of others, a link is never
 * half in the queue, and whoever holds the lock sees all that was pushed at one
 * instant: the owner of the queue keeps the producers' counters under it too.
 *
 * There is one consumer at a time; its caller sees to that.  It fetches what was
 * pushed, all at once and under the lock, into a chain of its own, and peeks, walks
 * and pops there with no lock at all: what it writes for each link is in lines that
 * no producer writes, and the lines that producers write it does not write but to
 * fetch.  A link stays where it is until it is popped, and belongs to the consumer
 * alone after that.
 *
 * What is queued is what was pushed less what was popped, whether it is fetched yet
 * or not.  Entries are counted, of which a link can carry several, by those who write
 * the counts: producers in the state word, which also says whether the queue is
 * closed, and the consumer in @taken.
 *
 * QUEUE_ORDER
 *   - The lock hands a link over, with all that its producer wrote before push.
 *   - Push counts under the lock: the consumer that has seen the count finds the link
 *     fetched, or fetches it, when it has waited for the lock.
 *   - @taken is at most what the state word has counted, as the consumer pops what
 *     it has fetched.  So who reads @taken first, and then the state word, gets no
 *     negative difference (acquire, with the release in pop).  For the consumer, and
 *     under the lock, where one of the two stands still, it is the length at one
 *     instant.
 *
 * This file also compiles in userspace: it needs bool, u64, raw_spinlock_t,
 * raw_spin_lock_init(), raw_spin_is_locked(), raw_spin_lock_irqsave(),
 * raw_spin_trylock_irqsave(), raw_spin_unlock_irqrestore(), cpu_relax(),
 * READ_ONCE(), WRITE_ONCE(), smp_load_acquire(), smp_store_release(),
 * ____cacheline_aligned_in_smp and lockdep_assert_held().  Where a name ends in
 * _locked, taking the lock is the caller's.
 */
#ifndef _UMPSC_QUEUE_H
#define _UMPSC_QUEUE_H

#ifdef __KERNEL__
#include <linux/cache.h>
#include <linux/lockdep.h>
#include <linux/spinlock.h>
#include <linux/processor.h>
#include <linux/types.h>
#endif

/* The state word: bit 0 is "closed", the rest counts entries ever pushed. */
#define UMPSC_CLOSED 1ULL
#define UMPSC_ENTRY 2ULL

/* See umpsc_queue_fetch(): a few microseconds, and so many times. */
#define UMPSC_FETCH_PAUSES 64
#define UMPSC_FETCH_LOOKS 8

/**
 * struct umpsc_link - what is queued, embedded in the owner's structure
 * @next: the younger neighbour; written under the queue's lock until it is fetched
 */
struct umpsc_link {
	struct umpsc_link *next;
};

/**
 * struct umpsc_queue - the queue
 *
 * The consumer's:
 * @fetched: the oldest link of its chain, or NULL
 * @fetched_last: where the youngest has its next one, stale when @fetched is NULL
 * @taken: entries ever popped; read anywhere
 *
 * The producers', under @lock:
 * @lock: serialises them, and the fetch
 * @state: the state word; read anywhere
 * @head: the oldest link that is not fetched, or NULL; read by the consumer
 * @tail: where the next link goes: into the youngest, or @head
 */
struct umpsc_queue {
	struct umpsc_link *fetched;
	struct umpsc_link **fetched_last;
	u64 taken;

	raw_spinlock_t lock ____cacheline_aligned_in_smp;
	u64 state;
	struct umpsc_link *head;
	struct umpsc_link **tail;
};

static inline void umpsc_queue_init(struct umpsc_queue *q)
{
	raw_spin_lock_init(&q->lock);
	q->state = 0;
	q->head = NULL;
	q->tail = &q->head;
	q->fetched = NULL;
	q->fetched_last = NULL;
	q->taken = 0;
}

static inline bool umpsc_queue_closed(struct umpsc_queue *q)
{
	return READ_ONCE(q->state) & UMPSC_CLOSED;
}

/* Anyone: entries ever pushed. */
static inline u64 umpsc_queue_pushed(struct umpsc_queue *q)
{
	return READ_ONCE(q->state) / UMPSC_ENTRY;
}

/* Anyone: entries queued; for whom it is exact, see QUEUE_ORDER. */
static inline u64 umpsc_queue_len(struct umpsc_queue *q)
{
	/* QUEUE_ORDER, with the release in umpsc_queue_pop(). */
	u64 taken = smp_load_acquire(&q->taken);

	return umpsc_queue_pushed(q) - taken;
}

/* Close for good; what was pushed stays. */
static inline void umpsc_queue_close_locked(struct umpsc_queue *q)
{
	lockdep_assert_held(&q->lock);
	WRITE_ONCE(q->state, q->state | UMPSC_CLOSED);
}

/* Before a push, and outside the lock: nothing comes behind @link yet. */
static inline void umpsc_link_init(struct umpsc_link *link)
{
	link->next = NULL;
}

/*
 * Multi producer: append @link, which carries @entries and was initialised.  The
 * caller has made sure that the queue is not closed.
 */
static inline void umpsc_queue_push_locked(struct umpsc_queue *q,
					   struct umpsc_link *link, u64 entries)
{
	lockdep_assert_held(&q->lock);
	WRITE_ONCE(*q->tail, link);
	q->tail = &link->next;
	WRITE_ONCE(q->state, q->state + entries * UMPSC_ENTRY);
}

/* Single consumer: is there anything to fetch?  A push that goes on may be missed. */
static inline bool umpsc_queue_unfetched(struct umpsc_queue *q)
{
	return READ_ONCE(q->head);
}

/* Single consumer: all that was pushed comes to its own chain. */
static inline void umpsc_queue_fetch_locked(struct umpsc_queue *q)
{
	lockdep_assert_held(&q->lock);
	if (!q->head)
		return;
	if (q->fetched)
		*q->fetched_last = q->head;
	else
		WRITE_ONCE(q->fetched, q->head);
	q->fetched_last = q->tail;
	WRITE_ONCE(q->head, NULL);
	q->tail = &q->head;
}

/* Anyone: is anything queued?  As umpsc_queue_len(), but the consumer looks at its own. */
static inline bool umpsc_queue_some(struct umpsc_queue *q)
{
	return READ_ONCE(q->fetched) || umpsc_queue_len(q);
}

/* Single consumer: fetch, unless somebody has the lock. */
static inline bool umpsc_queue_try_fetch(struct umpsc_queue *q)
{
	unsigned long flags;

	if (raw_spin_is_locked(&q->lock))
		return false;
	if (!raw_spin_trylock_irqsave(&q->lock, flags))
		return false;
	umpsc_queue_fetch_locked(q);
	raw_spin_unlock_irqrestore(&q->lock, flags);
	return true;
}

/*
 * Single consumer: fetch.  Where producers are at work, each look at the lock takes
 * its line away from them, and there is more to fetch if the consumer waits between
 * two looks.  After some it queues for the lock.
 */
static inline void umpsc_queue_fetch(struct umpsc_queue *q)
{
	unsigned int looks, i;
	unsigned long flags;

	for (looks = 0; looks < UMPSC_FETCH_LOOKS; looks++) {
		if (umpsc_queue_try_fetch(q))
			return;
		for (i = 0; i < UMPSC_FETCH_PAUSES; i++)
			cpu_relax();
	}
	raw_spin_lock_irqsave(&q->lock, flags);
	umpsc_queue_fetch_locked(q);
	raw_spin_unlock_irqrestore(&q->lock, flags);
}

/* Single consumer: the oldest link that is fetched, or NULL. */
static inline struct umpsc_link *umpsc_queue_peek(struct umpsc_queue *q)
{
	return q->fetched;
}

/* Single consumer: the link after @link that is fetched, or NULL. */
static inline struct umpsc_link *umpsc_queue_next(struct umpsc_link *link)
{
	return link->next;
}

/*
 * Single consumer: @entries are gone, and with them all links up to and including
 * @last (NULL: none).  Returns the chain of them, oldest first, NULL behind @last.
 */
static inline struct umpsc_link *
umpsc_queue_pop(struct umpsc_queue *q, struct umpsc_link *last, u64 entries)
{
	struct umpsc_link *first = NULL;

	if (last) {
		first = q->fetched;
		WRITE_ONCE(q->fetched, last->next);
		last->next = NULL;
	}
	/* QUEUE_ORDER, with the acquire in umpsc_queue_len(). */
	smp_store_release(&q->taken, q->taken + entries);
	return first;
}

/* Close for good and take everything out.  No consumer may be looking. */
static inline struct umpsc_link *umpsc_queue_drain_locked(struct umpsc_queue *q)
{
	struct umpsc_link *first;

	umpsc_queue_close_locked(q);
	umpsc_queue_fetch_locked(q);
	first = q->fetched;
	WRITE_ONCE(q->fetched, NULL);
	/* A release as in umpsc_queue_pop(). */
	smp_store_release(&q->taken, umpsc_queue_pushed(q));
	return first;
}

#endif /* _UMPSC_QUEUE_H */
