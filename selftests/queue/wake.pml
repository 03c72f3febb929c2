/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * WAKE of umpsc_core.c: a receiver that sleeps
 *
 * Two senders send a message each and stay, or one sends and both leave; the
 * receiver receives, and sleeps, as umpsc_receive_begin() and _sleep() do, until it
 * has all there is or finds the end.  Where they stay, the first may be preempted for
 * ever when it has published, before the second one sends.  Whether somebody is on
 * rx_wait is a word that can be read without its lock; who is woken is decided under
 * it.
 *
 * Never: the receiver sleeps for ever (an invalid end state); a look is answered by
 * two wake-ups, or rx_looks is touched outside of q.lock; the end overtakes a message.
 *
 * TWIN 1 look_before_join: umpsc_receiver_sleep() looks before it joins rx_wait
 * TWIN 2 look_then_set: umpsc_receiver_look() counts after it looked, under the lock again
 * TWIN 3 test_then_publish: umpsc_publish() asks for looks before it publishes, and lets the lock go between
 * TWIN 4 not_answered: umpsc_wake_receiver() leaves rx_answered as it is
 * TWIN 5 look_unlocked: umpsc_receiver_look() counts without the lock
 * TWIN 6 leave_if_active: the last umpsc_sender_leave() wakes if it sees somebody on rx_wait, without its lock
 * TWIN 7 leave_if_looked: the last umpsc_sender_leave() wakes only if there was a look to answer before its drop
 * TWIN 8 answered_early: umpsc_publish() sets rx_answered
 */
#define THREADS 3
#define WORDS 4
#define PLAINS 1
#define LOCKS 2
#define HISTORY 15

#include "memory.pml"

#define STATE 0
#define STRONG 1
#define WAITING 2
#define ANSWERED 3
#define LOOKS 0
#define Q_LOCK 0
#define WAIT_LOCK 1

#define ENTRY 2

/* The receiver's task state, and the last look that a wake-up was for. */
bool running;
byte answered;
/* Which of the two it is: no drop is there to make good for a wake-up lost. */
bool stay;
/* The first sender goes no further than to publish, which it has done. */
bool preempted, published;

/* __wake_up() of a waiter that leaves rx_wait by it; with the local r, and under its lock */
inline wake_up_locked()
{
	load(WAITING, RELAXED, r);
	if
	:: r ->
		running = true;
		store(WAITING, RELAXED, 0)
	:: else
	fi
}

inline wake_up()
{
	lock(WAIT_LOCK);
	wake_up_locked();
	unlock(WAIT_LOCK)
}

inline test_looks()
{
	plain_read(LOOKS, look);
	load(ANSWERED, RELAXED, r);
	wake = r < look;
	if
	:: wake && twin == 8 -> store(ANSWERED, RELAXED, look)
	:: else
	fi
}

/* umpsc_wake_receiver() */
inline wake_receiver()
{
	lock(WAIT_LOCK);
	load(ANSWERED, RELAXED, r);
	if
	:: r < look || twin == 8 ->
		/* Once. */
		assert(answered < look);
		answered = look;
		if
		:: twin != 4 && twin != 8 -> store(ANSWERED, RELAXED, look)
		:: else
		fi;
		wake_up_locked()
	:: else
	fi;
	unlock(WAIT_LOCK)
}

/* umpsc_deliver() */
inline send()
{
	lock(Q_LOCK);
	if
	:: twin == 3 ->
		test_looks();
		unlock(Q_LOCK);
		lock(Q_LOCK)
	:: else
	fi;
	load(STATE, RELAXED, r);
	store(STATE, RELAXED, r + ENTRY);
	if
	:: twin != 3 -> test_looks()
	:: else
	fi;
	published = true;
	unlock(Q_LOCK);
	if
	:: preempted && me == 0 ->
end_preempted:
		false
	:: else
	fi;
	if
	:: wake -> wake_receiver()
	:: else
	fi
}

/* umpsc_sender_leave() */
inline leave()
{
	wake = 1;
	if
	:: twin == 7 ->
		lock(Q_LOCK);
		test_looks();
		unlock(Q_LOCK)
	:: else
	fi;
	exchange(STRONG, ACQUIRE, RELEASE, r, r - 1);
	if
	:: r == 1 && twin == 6 ->
		load(WAITING, RELAXED, r);
		if
		:: r -> wake_up()
		:: else
		fi
	:: r == 1 && twin != 6 && wake ->
		/* umpsc_wake_all() */
		wake_up()
	:: else
	fi
}

proctype sender(byte me)
{
	byte r, look;
	bool wake;

	if
	:: preempted && me == 1 -> published
	:: else
	fi;
	if
	:: stay || me == 0 -> send()
	:: else
	fi;
	if
	:: !stay -> leave()
	:: else
	fi
}

inline count_look()
{
	looks++;
	plain_write(LOOKS, looks)
}

/* umpsc_receiver_look(): @ended, @count */
inline receiver_look()
{
	load(STRONG, ACQUIRE, r);
	ended = r == 0;
	if
	:: twin != 5 -> lock(Q_LOCK)
	:: else
	fi;
	if
	:: twin != 2 -> count_look()
	:: else
	fi;
	load(STATE, RELAXED, count);
	if
	:: twin != 5 -> unlock(Q_LOCK)
	:: else
	fi;
	if
	:: twin == 2 ->
		lock(Q_LOCK);
		count_look();
		unlock(Q_LOCK)
	:: else
	fi;
	count = count / ENTRY - taken
}

/* prepare_to_wait() */
inline join()
{
	lock(WAIT_LOCK);
	load(WAITING, RELAXED, r);
	if
	:: !r -> store(WAITING, RELAXED, 1)
	:: else
	fi;
	running = false;
	unlock(WAIT_LOCK)
}

/* umpsc_receiver_sleep() */
inline receiver_sleep()
{
	if
	:: twin == 1 ->
		receiver_look();
		join()
	:: else ->
		join();
		receiver_look()
	fi;
	if
	:: count || ended
	:: else ->
		/* schedule() */
		running
	fi;
	/* finish_wait() */
	lock(WAIT_LOCK);
	load(WAITING, RELAXED, r);
	if
	:: r -> store(WAITING, RELAXED, 0)
	:: else
	fi;
	running = true;
	unlock(WAIT_LOCK)
}

/* umpsc_take_link(), umpsc_take_commit() of all that was counted */
inline take()
{
	lock(Q_LOCK);
	load(STATE, RELAXED, r);
	unlock(Q_LOCK);
	assert(r / ENTRY >= taken + count);
	load(WAITING, RELAXED, r);
	if
	:: r ->
		lock(Q_LOCK);
		load(WAITING, RELAXED, r);
		if
		:: r -> count_look()
		:: else
		fi;
		unlock(Q_LOCK)
	:: else
	fi;
	taken = taken + count
}

proctype receiver(byte me)
{
	byte r, count, taken, looks;
	bool ended;

	do
	:: stay && taken == 2 -> break
	:: else ->
		load(STRONG, ACQUIRE, r);
		ended = r == 0;
		load(STATE, RELAXED, count);
		count = count / ENTRY - taken;
		if
		:: count -> take()
		:: !count && ended -> break
		:: else -> receiver_sleep()
		fi;
		d_step {
			r = 0;
			count = 0;
			ended = false
		}
	od;
	assert(taken == (stay -> 2 : 1))
}

init {
	atomic {
		memory_init();
		LAST(STRONG) = 2;
		running = true;
		if
		:: stay = true
		:: stay = true; preempted = true
		:: stay = false
		fi;
		run sender(0);
		run sender(1);
		run receiver(2)
	}
	_nr_pr == (preempted -> 2 : 1)
}
