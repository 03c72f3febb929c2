/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * WAKE of umpsc_core.c: the look of umpsc_take_commit()
 *
 * A multishot poll of io_uring joins rx_wait and looks, once; then it turns each
 * wake-up into an event, and never looks again.  A reader fetches, and receives, all or
 * some of that, until the queue is empty, which it finds without the lock, and then
 * waits for an event.  It takes without the lock, too, unless it sees somebody on
 * rx_wait.  A sender sends three messages.
 *
 * Never: the reader waits for ever (an invalid end state).
 *
 * TWIN 1 no_look: umpsc_take_commit() does not count a look
 * TWIN 2 active_early: umpsc_take_commit() knows waitqueue_active() from before the receive asked for the count
 * TWIN 3 look_before_join: the poll looks before it joins
 * TWIN 4 look_unlocked: umpsc_take_commit() counts without the lock
 * TWIN 5 answers_all: umpsc_wake_receiver() answers all looks, also those after its publication
 */
#define THREADS 3
#define WORDS 4
#define PLAINS 1
#define LOCKS 2
#define HISTORY 8

#include "memory.pml"

#define STATE 0
#define WAITING 1
#define TAKEN 2
#define ANSWERED 3
#define LOOKS 0
#define Q_LOCK 0
#define WAIT_LOCK 1

#define ENTRY 2
#define TOTAL 3

/* Under rx_wait.lock, which stands for the order that the ring of io_uring makes. */
bool event;

/* umpsc_deliver() */
proctype sender(byte me)
{
	byte r, n, look;
	bool wake;

	do
	:: n < TOTAL ->
		lock(Q_LOCK);
		load(STATE, RELAXED, r);
		store(STATE, RELAXED, r + ENTRY);
		plain_read(LOOKS, look);
		load(ANSWERED, RELAXED, r);
		wake = r < look;
		unlock(Q_LOCK);
		if
		:: wake ->
			if
			:: twin == 5 ->
				lock(Q_LOCK);
				plain_read(LOOKS, look);
				unlock(Q_LOCK)
			:: else
			fi;
			lock(WAIT_LOCK);
			store(ANSWERED, RELAXED, look);
			load(WAITING, RELAXED, r);
			event = event || r;
			unlock(WAIT_LOCK)
		:: else
		fi;
		n++
	:: else -> break
	od
}

inline count_look()
{
	plain_read(LOOKS, r);
	plain_write(LOOKS, r + 1)
}

/* umpsc_receiver_look() */
inline look()
{
	lock(Q_LOCK);
	count_look();
	load(TAKEN, ACQUIRE, taken);
	load(STATE, RELAXED, r);
	unlock(Q_LOCK);
	r = r / ENTRY - taken
}

proctype poll(byte me)
{
	byte r, taken;

	if
	:: twin == 3 -> look()
	:: else
	fi;
	lock(WAIT_LOCK);
	store(WAITING, RELAXED, 1);
	unlock(WAIT_LOCK);
	if
	:: twin != 3 -> look()
	:: else
	fi;
	if
	:: r ->
		lock(WAIT_LOCK);
		event = true;
		unlock(WAIT_LOCK)
	:: else
	fi
}

/* umpsc_take_link(): what is fetched, or more where some is */
inline fetch()
{
	if
	:: fetched == taken || more ->
		lock(Q_LOCK);
		load(STATE, RELAXED, r);
		unlock(Q_LOCK);
		fetched = r / ENTRY
	:: else
	fi
}

/* umpsc_take_commit() of @count */
inline commit()
{
	if
	:: twin != 2 -> load(WAITING, RELAXED, joined)
	:: else
	fi;
	if
	:: joined && twin != 4 -> lock(Q_LOCK)
	:: else
	fi;
	store(TAKEN, RELEASE, taken + count);
	if
	:: joined && twin != 1 ->
		if
		:: twin != 2 -> load(WAITING, RELAXED, r)
		:: else -> r = 1
		fi;
		if
		:: r -> count_look()
		:: else
		fi
	:: else
	fi;
	if
	:: joined && twin != 4 -> unlock(Q_LOCK)
	:: else
	fi;
	taken = taken + count
}

proctype reader(byte me)
{
	byte r, count, taken, fetched;
	bool joined, more;

	do
	:: taken < TOTAL ->
		if
		:: twin == 2 -> load(WAITING, RELAXED, joined)
		:: else
		fi;
		load(STATE, RELAXED, count);
		if
		:: count / ENTRY > taken ->
			if
			:: more = true
			:: more = false
			fi;
			fetch();
			if
			:: count = 1
			:: count = fetched - taken
			fi;
			commit()
		:: else ->
			/* EAGAIN */
			event;
			lock(WAIT_LOCK);
			event = false;
			unlock(WAIT_LOCK)
		fi;
		d_step {
			r = 0;
			count = 0;
			joined = false;
			more = false
		}
	:: else -> break
	od
}

init {
	atomic {
		memory_init();
		run sender(0);
		run poll(1);
		run reader(2)
	}
	_nr_pr == 1
}
