/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * SPARE and ARENA of umpsc_core.c: a used-up run serves again, if there is no arena
 *
 * Two runs are used up, by two receives one after the other (a receive holds rx_lock),
 * and are put into the spare or freed; two sends want a run, and find the spare or
 * not; one of them then fills an arena, publishes what it cut from it, and drops the
 * arena again, or does not; a third receive takes what was published.  What is in a run
 * is plain data: its memory, read by its new owner, and its payload, read by the receive
 * and written by the next send.
 *
 * Never: a run has two owners, or is touched by one who was not handed what the
 * last one did; one is freed twice, or by somebody who does not own it; one is lost;
 * there are both a spare and an arena once all was received.
 *
 * TWIN 1 take_torn: umpsc_spare_take() loads the spare and stores NULL
 * TWIN 2 take_relaxed: the xchg of umpsc_spare_take() is relaxed
 * TWIN 3 put_relaxed: umpsc_take_commit() stores its run without a release
 * TWIN 4 put_unlocked: umpsc_take_commit() puts its run after it has let rx_lock go
 * TWIN 5 put_used: umpsc_take_commit() reads the link after it put the run
 * TWIN 6 put_no_look: umpsc_take_commit() puts its run beside an arena
 * TWIN 7 free_no_look: umpsc_take_commit() leaves the spare that it finds beside an arena
 * TWIN 8 free_torn: umpsc_spare_free() loads the spare and stores NULL
 * TWIN 9 fill_late: umpsc_arena_fill() stores the arena once what was cut from it is published
 */
#define THREADS 5
#define WORDS 2
#define PLAINS 4
#define LOCKS 2
#define HISTORY 9

#include "memory.pml"

#define SPARE 0
#define ARENA 1
#define RX_LOCK 0
#define Q_LOCK 1
/* A run's name is its number from 1; 0 is NULL. */
#define RUNS 2
#define PAYLOAD(it) ((it) - 1)
#define LINK(it) (RUNS + (it) - 1)

/* Who owns a run: NOBODY where it is the spare's; and for good, where freed. */
#define NOBODY 100
#define FREED 101
byte owner[RUNS + 1];

/* What was cut from the arena. */
#define NOT_YET 0
#define YES 1
#define NEVER 2
byte published;

/* In place of the spare that was seen: do not put one. */
#define NO_PUT 255

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

/* umpsc_spare_free(); with the local old */
inline spare_free()
{
	load(SPARE, RELAXED, old);
	if
	:: old && twin == 8 ->
		load(SPARE, ACQUIRE, old);
		store(SPARE, RELEASE, 0)
	:: old && twin != 8 ->
		exchange(SPARE, ACQUIRE, RELEASE, old, 0)
	:: else
	fi;
	if
	:: old ->
		own(old);
		run_free(old)
	:: else
	fi
}

/* umpsc_take_commit(), of a run that may be the spare: mine, which was read; or 0 */
inline take_commit()
{
	load(ARENA, RELAXED, arena);
	load(SPARE, RELAXED, old);
	if
	:: arena && twin != 6 ->
		if
		:: twin != 7 -> spare_free()
		:: else
		fi;
		old = NO_PUT
	:: else ->
		if
		:: old || !mine -> old = NO_PUT
		:: else
		fi
	fi;
	if
	:: old == NO_PUT ->
		if
		:: mine -> run_free(mine)
		:: else
		fi
	:: else ->
		if
		:: twin != 5 -> plain_read(LINK(mine), r)
		:: else
		fi;
		d_step {
			assert(owner[mine] == me);
			owner[mine] = NOBODY
		}
		store(SPARE, twin != 3, mine);
		if
		:: twin == 5 -> plain_read(LINK(mine), r)
		:: else
		fi
	fi
}

proctype receive(byte me; byte mine)
{
	byte old, arena, r;

	lock(RX_LOCK);
	plain_read(PAYLOAD(mine), r);
	if
	:: twin == 4 -> unlock(RX_LOCK)
	:: else
	fi;
	take_commit();
	if
	:: twin != 4 -> unlock(RX_LOCK)
	:: else
	fi
}

/* Of what was cut from an arena, which is no spare. */
proctype receive_cut(byte me)
{
	byte old, arena, r;
	byte mine = 0;

	lock(RX_LOCK);
	published != NOT_YET;
	lock(Q_LOCK);
	unlock(Q_LOCK);
	if
	:: published == YES -> take_commit()
	:: else
	fi;
	unlock(RX_LOCK)
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

/* umpsc_arena_fill(), and umpsc_publish() */
inline arena_fill()
{
	if
	:: twin != 9 -> store(ARENA, RELAXED, 1)
	:: else
	fi;
	lock(Q_LOCK);
	published = YES;
	unlock(Q_LOCK);
	if
	:: twin == 9 -> store(ARENA, RELAXED, 1)
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
	:: fills && it -> published = NEVER
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
		run send(3, true);
		run receive_cut(4)
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
