/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * END of umpsc_core.c, and the state word that closes
 *
 * Two senders send a message each and leave, a closer closes or does not, and the
 * receiver receives as umpsc_receive_begin() does, without the lock, or looks as
 * umpsc_receiver_look() does, with it, until it finds the end.  Links are not here,
 * and what was taken is the receiver's own count (queue_order.pml has them both).
 *
 * Never: the end is found while a message that was accepted is not received, or a
 * message is accepted after it; one is accepted after CLOSE, or refused without.
 *
 * TWIN 1 leave_release: umpsc_sender_leave(), the drop of the strong word, is relaxed
 * TWIN 2 gone_acquire: umpsc_senders_gone() lacks smp_acquire__after_ctrl_dep()
 * TWIN 3 count_first: umpsc_receive_begin() asks for the count before the strong word
 * TWIN 4 closed_last: umpsc_receive_begin() asks for the count before the closed bit
 * TWIN 5 look_count_first: umpsc_receiver_look() asks for the count before the strong word
 * TWIN 6 closed_unlocked: umpsc_publish() tests the closed bit before it takes the lock
 */
#define THREADS 4
#define WORDS 2
#define PLAINS 1
#define LOCKS 1
#define HISTORY 7

#include "memory.pml"

#define STATE 0
#define STRONG 1
#define Q_LOCK 0

#define CLOSED 1
#define ENTRY 2

byte accepted;
bool close_begun, close_returned, end_found;

/* umpsc_publish(), umpsc_sender_leave() */
proctype sender(byte me)
{
	byte state;
	bool late;

	late = close_returned;
	if
	:: twin == 6 -> load(STATE, RELAXED, state)
	:: else
	fi;
	lock(Q_LOCK);
	if
	:: twin != 6 -> load(STATE, RELAXED, state)
	:: else
	fi;
	if
	:: !(state & CLOSED) ->
		load(STATE, RELAXED, state);
		store(STATE, RELAXED, state + ENTRY);
		d_step {
			accepted++;
			assert(!late && !end_found)
		}
	:: else ->
		assert(close_begun)
	fi;
	unlock(Q_LOCK);
	/* END: refcount_dec_and_test() */
	exchange(STRONG, ACQUIRE, twin != 1, state, state - 1)
}

/* umpsc_receiver_close() */
proctype closer(byte me)
{
	byte state;

	if
	:: true ->
		close_begun = true;
		lock(Q_LOCK);
		load(STATE, RELAXED, state);
		store(STATE, RELAXED, state | CLOSED);
		unlock(Q_LOCK);
		close_returned = true
	:: true
	fi
}

/* umpsc_senders_gone() */
inline senders_gone(result)
{
	load(STRONG, twin != 2, state);
	result = state == 0
}

/* umpsc_receive_begin() up to the sleep: @ended, @count */
inline receive_look()
{
	if
	:: twin == 3 ->
		load(STATE, RELAXED, count);
		senders_gone(ended);
		ended = ended || (count & CLOSED)
	:: twin == 4 ->
		senders_gone(ended);
		load(STATE, RELAXED, count);
		load(STATE, RELAXED, state);
		ended = ended || (state & CLOSED)
	:: else ->
		senders_gone(ended);
		load(STATE, RELAXED, state);
		ended = ended || (state & CLOSED);
		load(STATE, RELAXED, count)
	fi;
	count = count / ENTRY - taken
}

/* umpsc_receiver_look(): @ended, @count */
inline receiver_look()
{
	if
	:: twin != 5 -> senders_gone(ended)
	:: else
	fi;
	lock(Q_LOCK);
	load(STATE, RELAXED, count);
	unlock(Q_LOCK);
	if
	:: twin == 5 -> senders_gone(ended)
	:: else
	fi;
	ended = ended || (count & CLOSED);
	count = count / ENTRY - taken
}

proctype receiver(byte me)
{
	byte state, count, taken;
	bool ended;

	do
	:: true ->
		if
		:: true -> receive_look()
		:: true -> receiver_look()
		fi;
		if
		:: count ->
			/* umpsc_take_link(), umpsc_take_commit(), of one */
			lock(Q_LOCK);
			load(STATE, RELAXED, state);
			unlock(Q_LOCK);
			assert(state / ENTRY > taken);
			taken++
		:: !count && ended -> break
		:: else
		fi;
		d_step {
			state = 0;
			count = 0;
			ended = false
		}
	od;
	atomic {
		end_found = true;
		assert(taken == accepted)
	}
}

init {
	atomic {
		memory_init();
		LAST(STRONG) = 2;
		run sender(0);
		run sender(1);
		run closer(2);
		run receiver(3)
	}
	_nr_pr == 1;
	assert(LAST(STATE) / ENTRY == accepted && LAST(STRONG) == 0)
}
