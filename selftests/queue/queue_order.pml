/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * QUEUE_ORDER of include/umpsc_queue.h
 *
 * Two producers push three links with four entries; the consumer asks for the
 * count, or not, fetches, walks what is fetched without the lock, and pops what it has
 * taken, also a part of a link's entries, as umpsc_take_batch() and umpsc_take_commit()
 * of umpsc_core.c do.  Or they are two links, somebody asks for the length once, with
 * the lock or without, and the consumer may have gone: then all is drained, once and for
 * all.  What a link carries, and where it leads, is plain data.
 *
 * Never: nothing is fetched after a count above 0; a payload is not what was written
 * before push; a link, or the tail, is touched by one who was not handed what others did
 * to it; an entry is lost, doubled or out of order; a chain that was popped goes on
 * behind its last link; a length is negative, or, under the lock, not of what is pushed.
 *
 * TWIN 1 len_relaxed: umpsc_queue_len() loads what was taken relaxed
 * TWIN 2 pop_relaxed: umpsc_queue_pop() stores what was taken relaxed
 * TWIN 3 len_order: umpsc_queue_len() loads the state word first
 * TWIN 4 push_unlocked: push does not take the lock
 * TWIN 5 fetch_unlocked: fetch does not take the lock
 * TWIN 6 count_early: push counts before it takes the lock
 * TWIN 7 count_late: push counts after it has let the lock go
 * TWIN 8 chain: umpsc_queue_pop() leaves last->next as it is
 * TWIN 9 overwritten: fetch takes the place of the chain instead of joining it
 * TWIN 10 last_stale: fetch joins the chain, and leaves its youngest as it was
 * TWIN 11 head_kept: fetch leaves the head as it is
 * TWIN 12 tail_kept: fetch leaves the tail as it is, in the youngest that it took
 * TWIN 13 drain_relaxed: umpsc_queue_drain_locked() stores what was taken relaxed
 * TWIN 14 uninitialised: nobody calls umpsc_link_init()
 */
#define THREADS 4
#define LINKS 3
#define WORDS 3
#define PLAINS 7
#define LOCKS 1
#define HISTORY 8

#include "memory.pml"

#define STATE 0
#define HEAD 1
#define TAKEN 2
/* A link's name is its number from 1; 0 is NULL. */
#define PAYLOAD(link) ((link) - 1)
#define NEXT(link) (LINKS + (link) - 1)
/* The link whose next one it is, or 0: the head. */
#define TAIL 6
#define Q_LOCK 0
#define GARBAGE 99

#define ENTRY 2
/* Of the entries. */
byte total;
/* Somebody looks. */
bool looked_at;
/* Under the lock: the state word's bit. */
bool closed;

/* What a link carries, and what its place in the order has come to be. */
#define entries(link) ((link) == 2 -> 2 : 1)
byte pushed;
byte place[LINKS + 1];

inline count_of(link)
{
	load(STATE, RELAXED, tmp);
	store(STATE, RELAXED, tmp + entries(link) * ENTRY);
	tmp = 0
}

/* umpsc_queue_push_locked(), by a producer with the locals tmp and tail. */
inline push_locked(link)
{
	d_step {
		place[link] = pushed;
		pushed = pushed + entries(link)
	}
	plain_read(TAIL, tail);
	if
	:: tail -> plain_write(NEXT(tail), link)
	:: else -> store(HEAD, RELAXED, link)
	fi;
	plain_write(TAIL, link);
	tail = 0
}

/* umpsc_publish() */
inline publish(link)
{
	plain_write(PAYLOAD(link), 10 + link);
	/* umpsc_link_init() */
	plain_write(NEXT(link), (twin == 14 -> GARBAGE : 0));
	if
	:: twin == 6 -> count_of(link)
	:: else
	fi;
	if
	:: twin != 4 -> lock(Q_LOCK)
	:: else
	fi;
	if
	:: !closed ->
		push_locked(link);
		if
		:: twin != 6 && twin != 7 -> count_of(link)
		:: else
		fi
	:: else
	fi;
	if
	:: twin != 4 -> unlock(Q_LOCK)
	:: else
	fi;
	if
	:: twin == 7 -> count_of(link)
	:: else
	fi
}

proctype producer(byte me)
{
	byte tmp, tail;

	if
	:: me == 0 ->
		publish(1);
		if
		:: !looked_at -> publish(2)
		:: else
		fi
	:: else ->
		publish(3)
	fi
}

/* umpsc_queue_fetch_locked() */
inline fetch()
{
	if
	:: twin != 5 -> lock(Q_LOCK)
	:: else
	fi;
	load(HEAD, RELAXED, tmp);
	if
	:: tmp ->
		if
		:: fetched && twin != 9 -> plain_write(NEXT(fetched_last), tmp)
		:: else -> fetched = tmp
		fi;
		if
		:: twin == 10 && fetched_last
		:: else -> plain_read(TAIL, fetched_last)
		fi;
		if
		:: twin != 11 -> store(HEAD, RELAXED, 0)
		:: else
		fi;
		if
		:: twin != 12 -> plain_write(TAIL, 0)
		:: else
		fi
	:: else
	fi;
	if
	:: twin != 5 -> unlock(Q_LOCK)
	:: else
	fi;
	tmp = 0
}

/* umpsc_take_fetched() */
inline take_fetched()
{
	if
	:: last -> plain_read(NEXT(last), link)
	:: else -> link = fetched
	fi
}

/* umpsc_take_run(): @link: the place, or 0 where nothing more is queued. */
inline take_run()
{
	if
	:: !link ->
		take_fetched();
		if
		:: !link ->
			/* umpsc_queue_unfetched() */
			tmp = 1;
			if
			:: last -> load(HEAD, RELAXED, tmp)
			:: else
			fi;
			if
			:: tmp ->
				fetch();
				take_fetched()
			:: else
			fi
		:: else
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

/* umpsc_queue_pop(), and a walk along what it returned. */
inline pop()
{
	first = 0;
	if
	:: last ->
		first = fetched;
		plain_read(NEXT(last), fetched);
		if
		:: twin != 8 -> plain_write(NEXT(last), 0)
		:: else
		fi
	:: else
	fi;
	store(TAKEN, twin != 2, taken + count);
	do
	:: first ->
		plain_read(NEXT(first), tmp);
		assert(tmp || place[first] + entries(first) <= taken + count);
		assert(!tmp || place[tmp] + entries(tmp) <= taken + count);
		first = tmp
	:: else -> break
	od;
	tmp = 0;
	last = 0
}

proctype consumer(byte me)
{
	byte link, left, last, first, count, taken, counted, tmp;
	byte fetched, fetched_last;

	do
	:: taken < total ->
		if
		:: true ->
			/* umpsc_receive_begin() */
			load(STATE, RELAXED, counted);
			counted = counted / ENTRY - taken
		:: !looked_at ->
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
				:: true -> break
				fi
			:: else -> break
			od;
			pop();
			taken = taken + count;
			count = 0;
			counted = 0
		:: else
		fi
	:: else -> break
	od;
	assert(!link && !fetched);
	load(STATE, RELAXED, tmp);
	assert(tmp == total * ENTRY);
	load(HEAD, RELAXED, tmp);
	assert(tmp == 0)
}

/* umpsc_queue_drain_locked() */
proctype drainer(byte me)
{
	byte first, tmp;

	lock(Q_LOCK);
	closed = true;
	load(HEAD, RELAXED, first);
	store(HEAD, RELAXED, 0);
	plain_write(TAIL, 0);
	load(STATE, RELAXED, tmp);
	store(TAKEN, twin != 13, tmp / ENTRY);
	unlock(Q_LOCK);
	tmp = 0;
	do
	:: first ->
		plain_read(PAYLOAD(first), tmp);
		assert(tmp == 10 + first);
		plain_read(NEXT(first), tmp);
		first = tmp
	:: else -> break
	od
}

/* umpsc_queue_len(), of anybody */
inline queue_len()
{
	if
	:: twin == 3 ->
		load(STATE, RELAXED, state);
		load(TAKEN, ACQUIRE, taken)
	:: else ->
		load(TAKEN, twin != 1, taken);
		load(STATE, RELAXED, state)
	fi;
	assert(state / ENTRY >= taken)
}

proctype looker(byte me)
{
	byte taken, state;

	if
	:: true -> queue_len()
	:: true ->
		lock(Q_LOCK);
		queue_len();
		/* That of one instant: nothing is pushed meanwhile. */
		assert(twin || state == LAST(STATE));
		unlock(Q_LOCK)
	fi
}

init {
	atomic {
		memory_init();
		for (t_ : 1 .. LINKS) {
			plain[NEXT(t_)].value = GARBAGE
		}
		t_ = 0;
		if
		:: looked_at = true; total = 2; run looker(3)
		:: looked_at = false; total = 4
		fi;
		run producer(0);
		run producer(1);
		if
		:: true -> run consumer(2)
		:: looked_at -> run drainer(2)
		fi
	}
	_nr_pr == 1;
	assert(LAST(STATE) == pushed * ENTRY && LAST(HEAD) == 0);
	assert(LAST(TAKEN) == pushed && (closed || pushed == total))
}
