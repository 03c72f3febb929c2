/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * SPARE and ARENA of umpsc_core.c: a used-up run serves again, if there is no arena
 *
 * Two runs are used up, by two receives one after the other (a receive holds rx_lock),
 * and are put into the spare or freed; two sends want a run, and find the spare or
 * not; one of them then fills an arena, and drops it again, or does not.  What is in a
 * run is plain data: its memory, read by its new owner, and its payload, read by the
 * receive and written by the next send.
 *
 * Never: a run has two owners, or is touched by one who was not handed what the
 * last one did; one is freed twice, or by somebody who does not own it; one is lost;
 * at rest there are both a spare and an arena.
 *
 * TWIN 1 take_torn: umpsc_spare_take() loads the spare and stores NULL
 * TWIN 2 take_relaxed: the xchg of umpsc_spare_take() is relaxed
 * TWIN 3 put_relaxed: umpsc_spare_put() stores its run, as a release, instead of the xchg
 * TWIN 4 put_no_look: umpsc_spare_put() does not look for an arena
 * TWIN 5 put_look_first: umpsc_spare_put() looks for an arena before it puts the run, and not after
 * TWIN 6 put_unlocked: umpsc_take_commit() puts its run after it has let rx_lock go
 * TWIN 7 put_used: umpsc_take_commit() reads the link after it put the run
 * TWIN 8 put_back_torn: umpsc_spare_put() takes its run back without asking whether it is there
 * TWIN 9 fill_no_look: umpsc_arena_fill() does not take the spare
 * TWIN 10 fill_order: umpsc_arena_fill() takes the spare before it stores the arena
 * TWIN 11 fill_relaxed: the xchg of umpsc_arena_fill() is relaxed
 */
#define THREADS 4
#define WORDS 2
#define PLAINS 4
#define LOCKS 1
#define HISTORY 9

#include "memory.pml"

#define SPARE 0
#define ARENA 1
#define RX_LOCK 0
/* A run's name is its number from 1; 0 is NULL. */
#define RUNS 2
#define PAYLOAD(it) ((it) - 1)
#define LINK(it) (RUNS + (it) - 1)

/* Who owns a run: NOBODY where it is the spare's; and for good, where freed. */
#define NOBODY 100
#define FREED 101
byte owner[RUNS + 1];

inline own(it)
{
	d_step {
		assert(owner[it] == NOBODY);
		owner[it] = me
	}
}

/* umpsc_run_free(), which reads and ends it */
inline run_free(it)
{
	plain_write(PAYLOAD(it), 0);
	plain_write(LINK(it), 0);
	d_step {
		assert(owner[it] == me);
		owner[it] = FREED
	}
}

/* Take the spare out, and free it. */
inline spare_free(it, order)
{
	exchange(SPARE, order, order, it, 0);
	if
	:: it ->
		own(it);
		run_free(it)
	:: else
	fi
}

/* umpsc_spare_put(), of the run mine; with the locals old and arena */
inline spare_put()
{
	d_step {
		assert(owner[mine] == me);
		owner[mine] = NOBODY
	}
	if
	:: twin == 3 -> store(SPARE, RELEASE, mine)
	:: else -> exchange(SPARE, ACQUIRE, RELEASE, old, mine)
	fi;
	if
	:: twin != 5 -> load(ARENA, RELAXED, arena)
	:: else
	fi;
	if
	:: arena && twin != 4 && twin != 8 -> spare_free(old, ACQUIRE)
	:: arena && twin == 8 ->
		store(SPARE, RELEASE, 0);
		own(mine);
		run_free(mine)
	:: else
	fi
}

/* umpsc_take_commit(), as far as the run it has used up goes, which was read */
proctype receive(byte me; byte mine)
{
	byte old, arena, r;

	lock(RX_LOCK);
	plain_read(PAYLOAD(mine), r);
	if
	:: twin == 6 -> unlock(RX_LOCK)
	:: else
	fi;
	load(SPARE, RELAXED, old);
	load(ARENA, RELAXED, arena);
	if
	:: old || arena ->
		if
		:: twin != 6 -> unlock(RX_LOCK)
		:: else
		fi;
		run_free(mine)
	:: else ->
		if
		:: twin != 7 -> plain_read(LINK(mine), r)
		:: else
		fi;
		spare_put();
		if
		:: twin == 7 -> plain_read(LINK(mine), r)
		:: else
		fi;
		if
		:: twin != 6 -> unlock(RX_LOCK)
		:: else
		fi
	fi
}

/* umpsc_spare_take(), and the send that writes the run, or one of another shape */
inline spare_take()
{
	load(SPARE, RELAXED, it);
	if
	:: it && twin == 1 ->
		load(SPARE, ACQUIRE, it);
		store(SPARE, RELEASE, 0)
	:: it && twin != 1 ->
		exchange(SPARE, twin != 2, twin != 2, it, 0)
	:: else
	fi;
	if
	:: it ->
		own(it);
		if
		:: true ->
			plain_write(LINK(it), 1);
			plain_write(PAYLOAD(it), 1)
		:: true ->
			/* It does not suit. */
			run_free(it)
		fi
	:: else
	fi
}

/* umpsc_arena_fill() */
inline arena_fill()
{
	if
	:: twin == 10 -> spare_free(it, ACQUIRE)
	:: else
	fi;
	store(ARENA, RELAXED, 1);
	if
	:: twin != 9 && twin != 10 -> spare_free(it, twin != 11)
	:: else
	fi
}

proctype send(byte me; bool fills)
{
	byte it;

	spare_take();
	if
	:: fills && !it ->
		arena_fill();
		if
		:: true -> store(ARENA, RELAXED, 0)
		:: true
		fi
	:: else
	fi
}

init {
	byte r;

	atomic {
		memory_init();
		owner[1] = 0;
		owner[2] = 1;
		run receive(0, 1);
		run receive(1, 2);
		run send(2, false);
		run send(3, true)
	}
	_nr_pr == 1;
	assert(!LAST(SPARE) || !LAST(ARENA));
	/* Freed, a send's, or the spare, which is dropped: none is lost. */
	d_step {
		for (r : 1 .. RUNS) {
			assert(owner[r] != NOBODY || LAST(SPARE) == r);
			assert(owner[r] != 0 || r != 1);
			assert(owner[r] != 1 || r != 2)
		}
	}
}
