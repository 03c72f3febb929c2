/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The queue of a channel: many producers, one consumer, intrusive links.
 *
 *	            push    pop     peek, next    len
 *	push        lock    lock    -             -
 *	pop         lock    n/a     one consumer  -
 *
 * Producers serialise by @lock, from any context: it is a raw spinlock taken
 * with interrupts off, over a fixed handful of instructions.  So a producer
 * waits for nothing but the same few instructions of others, a link is never
 * half in the queue, and whoever holds the lock sees everything at one instant:
 * the owner of the queue keeps its own counters under it too.
 *
 * There is one consumer at a time; its caller sees to that.  It looks at links
 * without the lock (peek, next), and takes it to pop them.  A link stays where it
 * is until it is popped, and only the consumer pops, so what peek and next return
 * cannot vanish.  It belongs to the consumer alone after pop.
 *
 * The state word tells everyone, without the lock, whether the queue is closed
 * and how many entries it holds.  A link can carry several entries.
 *
 * QUEUE_BARRIER: push stores the link (release) and then the state word (release).
 *   - consumer: load-acquire of the state word, count > 0, then load-acquire of
 *     the head.  It cannot see the count without the link: peek after a count
 *     above 0 is never NULL.
 *   - consumer: load-acquire of a link, then the plain reads of what it carries.
 *     It cannot see the link without what the producer wrote before push.
 *
 * This file also compiles in userspace: it needs bool, u64, raw_spinlock_t,
 * raw_spin_lock_init(), smp_load_acquire(), smp_store_release(), WRITE_ONCE() and
 * lockdep_assert_held(); taking the lock is the caller's.
 */
#ifndef _UMPSC_QUEUE_H
#define _UMPSC_QUEUE_H

#ifdef __KERNEL__
#include <linux/lockdep.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#endif

/* The state word: bit 0 is "closed", the rest counts entries. */
#define UMPSC_CLOSED 1ULL
#define UMPSC_ENTRY 2ULL

/**
 * struct umpsc_link - what is queued, embedded in the owner's structure
 * @next: the younger neighbour; written under the queue's lock
 */
struct umpsc_link {
	struct umpsc_link *next;
};

/**
 * struct umpsc_queue - the queue
 * @lock: serialises all writes to it
 * @state: the state word; written under @lock, read anywhere
 * @head: the oldest link or NULL; written under @lock, read by the consumer
 * @tail: the youngest link, stale when @head is NULL; under @lock
 */
struct umpsc_queue {
	raw_spinlock_t lock;
	u64 state;
	struct umpsc_link *head;
	struct umpsc_link *tail;
};

static inline void umpsc_queue_init(struct umpsc_queue *q)
{
	raw_spin_lock_init(&q->lock);
	q->state = 0;
	q->head = NULL;
	q->tail = NULL;
}

/* Anyone: the state word, not older than the caller's last acquire. */
static inline u64 umpsc_queue_state(struct umpsc_queue *q)
{
	/* QUEUE_BARRIER, with the release in umpsc_queue_set_state_locked(). */
	return smp_load_acquire(&q->state);
}

/* Anyone: how many entries are queued, exact at one instant, as old as the state. */
static inline u64 umpsc_queue_len(struct umpsc_queue *q)
{
	return umpsc_queue_state(q) / UMPSC_ENTRY;
}

static inline bool umpsc_queue_closed(struct umpsc_queue *q)
{
	return umpsc_queue_state(q) & UMPSC_CLOSED;
}

static inline void umpsc_queue_set_state_locked(struct umpsc_queue *q,
						u64 state)
{
	lockdep_assert_held(&q->lock);
	/* QUEUE_BARRIER, with the acquire in umpsc_queue_state(). */
	smp_store_release(&q->state, state);
}

/*
 * Multi producer: append @link, which carries @entries.  The caller has made sure
 * that the queue is not closed.
 */
static inline void umpsc_queue_push_locked(struct umpsc_queue *q,
					   struct umpsc_link *link, u64 entries)
{
	struct umpsc_link **at;

	lockdep_assert_held(&q->lock);
	at = q->head ? &q->tail->next : &q->head;
	link->next = NULL;
	/* QUEUE_BARRIER, with the acquire in umpsc_queue_peek() and _next(). */
	smp_store_release(at, link);
	q->tail = link;
	umpsc_queue_set_state_locked(q, q->state + entries * UMPSC_ENTRY);
}

/* Single consumer: the oldest link; not NULL after umpsc_queue_len() was not 0. */
static inline struct umpsc_link *umpsc_queue_peek(struct umpsc_queue *q)
{
	/* QUEUE_BARRIER, with the release in umpsc_queue_push_locked(). */
	return smp_load_acquire(&q->head);
}

/* Single consumer: the link after @link, or NULL. */
static inline struct umpsc_link *umpsc_queue_next(struct umpsc_link *link)
{
	/* QUEUE_BARRIER, with the release in umpsc_queue_push_locked(). */
	return smp_load_acquire(&link->next);
}

/*
 * Single consumer: @entries are gone, and with them all links up to and including
 * @last (NULL: none).  Returns the chain of them, oldest first, NULL behind @last.
 */
static inline struct umpsc_link *umpsc_queue_pop_locked(struct umpsc_queue *q,
							struct umpsc_link *last,
							u64 entries)
{
	struct umpsc_link *first = NULL;

	lockdep_assert_held(&q->lock);
	if (last) {
		first = q->head;
		/* A release as all stores to it; what it shows is no news. */
		smp_store_release(&q->head, last->next);
		last->next = NULL;
	}
	umpsc_queue_set_state_locked(q, q->state - entries * UMPSC_ENTRY);
	return first;
}

/* Close for good and take everything out.  No consumer may be looking. */
static inline struct umpsc_link *umpsc_queue_drain_locked(struct umpsc_queue *q)
{
	struct umpsc_link *first = q->head;

	lockdep_assert_held(&q->lock);
	WRITE_ONCE(q->head, NULL);
	umpsc_queue_set_state_locked(q, UMPSC_CLOSED);
	return first;
}

#endif /* _UMPSC_QUEUE_H */
