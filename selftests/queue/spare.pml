/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * SPARE of umpsc_core.c: a used-up run serves again
 *
 * Two runs are used up, by two receives that may come at once (rx_lock is given up
 * before a run is put), and are put into the spare or freed; two sends want a run,
 * and find the spare or allocate; in the end the spare is dropped.  What is in a run
 * is plain data: its memory, read by its new owner, and its payload, read by the
 * receive and written by the next send.
 *
 * Never: a run has two owners, or is touched by one who was not handed what the
 * last one did; one is freed twice, or by somebody who does not own it; one is lost.
 *
 * TWIN 1 take_torn: umpsc_spare_take() loads the spare and stores NULL
 * TWIN 2 put_torn: umpsc_spare_put() stores its run and frees nothing
 * TWIN 3 take_relaxed: the xchg of umpsc_spare_take() is relaxed
 * TWIN 4 put_relaxed: the xchg of umpsc_spare_put() is relaxed
 * TWIN 5 put_used: umpsc_spare_put() reads the link after it put the run
 */
#define THREADS 4
#define WORDS 1
#define PLAINS 4
#define LOCKS 1
#define HISTORY 8

#include "memory.pml"

#define SPARE 0
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

/* The end of umpsc_take_commit(): @it was read, and is put */
proctype receive(byte me; byte it)
{
	byte old, r;

	plain_read(PAYLOAD(it), r);
	load(SPARE, RELAXED, old);
	if
	:: old -> old = it
	:: else ->
		if
		:: twin != 5 -> plain_read(LINK(it), r)
		:: else
		fi;
		assert(owner[it] == me);
		owner[it] = NOBODY;
		if
		:: twin == 2 ->
			store(SPARE, RELEASE, it);
			old = 0
		:: else ->
			exchange(SPARE, twin != 4, twin != 4, old, it)
		fi;
		if
		:: twin == 5 -> plain_read(LINK(it), r)
		:: else
		fi;
		if
		:: old -> own(old)
		:: else
		fi
	fi;
	if
	:: old -> run_free(old)
	:: else
	fi
}

/* umpsc_spare_take(), and the send that writes the run, or one of another shape */
proctype send(byte me)
{
	byte it, r;

	load(SPARE, RELAXED, it);
	if
	:: it && twin == 1 ->
		load(SPARE, ACQUIRE, it);
		store(SPARE, RELEASE, 0)
	:: it && twin != 1 ->
		exchange(SPARE, twin != 3, twin != 3, it, 0)
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

init {
	byte r;

	atomic {
		memory_init();
		owner[1] = 0;
		owner[2] = 1;
		run receive(0, 1);
		run receive(1, 2);
		run send(2);
		run send(3)
	}
	_nr_pr == 1;
	/* Freed, a send's, or the spare, which is dropped: none is lost. */
	d_step {
		for (r : 1 .. RUNS) {
			assert(owner[r] != NOBODY || LAST(SPARE) == r);
			assert(owner[r] != 0 || r != 1);
			assert(owner[r] != 1 || r != 2)
		}
	}
}
