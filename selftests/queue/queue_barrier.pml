/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * QUEUE_BARRIER of include/umpsc_queue.h
 *
 * Two producers push three links with four entries; the consumer asks for the
 * count, or not, walks the links without the lock, and pops what it has taken,
 * also a part of a link's entries, as umpsc_take_batch() and umpsc_take_commit() of
 * umpsc_core.c do.  What a link carries is plain data.
 *
 * Never: peek is NULL after a count above 0, or fewer entries are linked than were
 * counted; a payload is not what was written before push, or is read before it was
 * handed over; an entry is lost, doubled or out of order; a chain that was popped
 * goes on behind its last link.
 *
 * TWIN 1 state_release: umpsc_queue_set_state_locked() stores relaxed
 * TWIN 2 state_acquire: umpsc_queue_state() loads relaxed
 * TWIN 3 link_release: umpsc_queue_push_locked() stores the link relaxed
 * TWIN 4 peek_acquire: umpsc_queue_peek() loads relaxed
 * TWIN 5 next_acquire: umpsc_queue_next() loads relaxed
 * TWIN 6 order: push stores the state word first and then the link
 * TWIN 7 unlocked: push does not take the lock
 * TWIN 8 chain: umpsc_queue_pop_locked() leaves last->next as it is
 *
 * The release of umpsc_queue_pop_locked() to the head is relaxed in all of this:
 * what it shows is no news to the only thread that reads it.
 */
#define THREADS 3
#define LINKS 3
#define WORDS 5
#define PLAINS 4
#define LOCKS 1
#define HISTORY 9

#include "memory.pml"

#define STATE 0
#define HEAD 1
/* A link's name is its number from 1; 0 is NULL. */
#define NEXT(link) (1 + (link))
#define PAYLOAD(link) ((link) - 1)
#define TAIL 3
#define Q_LOCK 0
#define GARBAGE 99

#define ENTRY 2
#define TOTAL 4

/* What a link carries, and what its place in the order has come to be. */
#define entries(link) ((link) == 2 -> 2 : 1)
byte pushed;
byte place[LINKS + 1];

inline set_state(new)
{
	store(STATE, twin != 1, new)
}

/* umpsc_queue_push_locked(), by a producer with the locals tmp and tail. */
inline push_locked(link)
{
	place[link] = pushed;
	pushed = pushed + entries(link);
	load(HEAD, RELAXED, tmp);
	store(NEXT(link), RELAXED, 0);
	if
	:: twin == 6 ->
		load(STATE, RELAXED, state);
		set_state(state + entries(link) * ENTRY)
	:: else
	fi;
	if
	:: tmp ->
		plain_read(TAIL, tail);
		store(NEXT(tail), twin != 3, link)
	:: else ->
		store(HEAD, twin != 3, link)
	fi;
	plain_write(TAIL, link);
	if
	:: twin != 6 ->
		load(STATE, RELAXED, state);
		set_state(state + entries(link) * ENTRY)
	:: else
	fi
}

/* umpsc_publish() */
inline publish(link)
{
	plain_write(PAYLOAD(link), 10 + link);
	if
	:: twin != 7 -> lock(Q_LOCK)
	:: else
	fi;
	push_locked(link);
	if
	:: twin != 7 -> unlock(Q_LOCK)
	:: else
	fi
}

proctype producer(byte me)
{
	byte tmp, tail, state;

	if
	:: me == 0 ->
		publish(1);
		publish(2)
	:: else ->
		publish(3)
	fi
}

/* umpsc_take_run(): @link: the place, or 0 where nothing more is queued. */
inline take_run()
{
	if
	:: !link ->
		if
		:: last -> load(NEXT(last), twin != 5, link)
		:: else -> load(HEAD, twin != 4, link)
		fi;
		if
		:: link ->
			assert(link <= LINKS);
			left = entries(link);
			/* The order, and what was written before push. */
			assert(place[link] == taken + count);
			plain_read(PAYLOAD(link), tmp);
			assert(tmp == 10 + link)
		:: else
		fi
	:: else
	fi;
	tmp = 0
}

/* umpsc_queue_pop_locked(), and a walk along what it returned. */
inline pop()
{
	lock(Q_LOCK);
	if
	:: last ->
		load(HEAD, RELAXED, first);
		load(NEXT(last), RELAXED, tmp);
		store(HEAD, RELAXED, tmp);
		if
		:: twin != 8 -> store(NEXT(last), RELAXED, 0)
		:: else
		fi
	:: else
	fi;
	load(STATE, RELAXED, tmp);
	assert(tmp / ENTRY >= count);
	set_state(tmp - count * ENTRY);
	unlock(Q_LOCK);
	do
	:: first ->
		last = first;
		load(NEXT(first), RELAXED, tmp);
		assert(tmp || place[first] + entries(first) <= taken + count);
		assert(!tmp || place[tmp] + entries(tmp) <= taken + count);
		first = tmp
	:: else -> break
	od;
	tmp = 0;
	first = 0;
	last = 0
}

proctype consumer(byte me)
{
	byte link, left, last, first, count, taken, counted, tmp;

	do
	:: taken < TOTAL ->
		if
		:: true ->
			/* umpsc_receive_begin() */
			load(STATE, twin != 2, counted);
			counted = counted / ENTRY
		:: true ->
			/* umpsc_receiver_unread(), which asks for no count */
			take_run();
			counted = 0
		fi;
		if
		:: counted ->
			take_run();
			assert(link);
			do
			:: link ->
				count++;
				left--;
				if
				:: !left -> last = link; link = 0
				:: else
				fi;
				if
				:: true -> take_run()
				:: true -> counted = 0; break
				fi
			:: else -> break
			od;
			/* Unless it had enough, it found what was counted. */
			assert(count >= counted);
			pop();
			taken = taken + count;
			count = 0;
			counted = 0
		:: else
		fi
	:: else -> break
	od;
	assert(!link);
	load(STATE, ACQUIRE, tmp);
	assert(tmp == 0);
	load(HEAD, ACQUIRE, tmp);
	assert(tmp == 0)
}

init {
	atomic {
		memory_init();
		for (t_ : 1 .. LINKS) {
			word[NEXT(t_)].at[0].value = GARBAGE
		}
		t_ = 0;
		run producer(0);
		run producer(1);
		run consumer(2)
	}
	_nr_pr == 1;
	assert(LAST(STATE) == 0 && LAST(HEAD) == 0 && pushed == TOTAL)
}
