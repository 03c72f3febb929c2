/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The look of umpsc_receiver_look() for a receive that does not wait
 *
 * A sender sends, and once that has returned somebody is told of it, by means that
 * order nothing: he may have looked at a clock.  He receives without waiting.
 *
 * Never: he is told that nothing is queued (EAGAIN).
 *
 * TWIN 1 unlocked: umpsc_receive_begin() believes the state word that it read without the lock
 * TWIN 2 unpublished: umpsc_send() returns before it publishes
 */
#define THREADS 2
#define WORDS 2
#define PLAINS 1
#define LOCKS 1
#define HISTORY 3

#include "memory.pml"

#define STATE 0
#define TOLD 1
#define Q_LOCK 0

#define ENTRY 2

/* umpsc_publish() */
inline publish()
{
	lock(Q_LOCK);
	load(STATE, RELAXED, r);
	store(STATE, RELAXED, r + ENTRY);
	unlock(Q_LOCK)
}

proctype sender(byte me)
{
	byte r;

	if
	:: twin != 2 ->
		publish();
		store(TOLD, RELAXED, 1)
	:: else ->
		store(TOLD, RELAXED, 1);
		publish()
	fi
}

proctype receiver(byte me)
{
	byte told, state;

	load(TOLD, RELAXED, told);
	if
	:: told && twin == 1 ->
		load(STATE, RELAXED, state);
		assert(state)
	:: told && twin != 1 ->
		lock(Q_LOCK);
		load(STATE, RELAXED, state);
		unlock(Q_LOCK);
		assert(state)
	:: else
	fi
}

init {
	atomic {
		memory_init();
		run sender(0);
		run receiver(1)
	}
	_nr_pr == 1
}
