/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * ARENA of umpsc_core.c: when the page that runs are cut from is free, or free again
 *
 * Two senders cut runs from a page that has room for two, write and publish them; once
 * it is full it begins anew, if all that were cut are freed, or is retired; in the end it
 * is dropped.  Two receives at a time take what was published, read it and free it, after
 * they have let rx_lock go.  What is in a run is plain data, and so is a page that is freed.
 *
 * Never: the page is freed twice, or not at all; a run is written while its former owner
 * still uses it; one is cut, or used, after the page was freed, or the page is freed by
 * one who was not handed all uses of it.
 *
 * TWIN 1 uncut_unreleased: the decrement of umpsc_arena_uncut() hands nothing on
 * TWIN 2 uncut_unacquired: who frees the page in umpsc_arena_uncut() is handed nothing
 * TWIN 3 uncut_torn: umpsc_arena_uncut() decrements and tests in two steps
 * TWIN 4 retire_relaxed: who frees the page in umpsc_arena_retire() is handed nothing
 * TWIN 5 retire_looks: umpsc_arena_retire() frees an idle page, and counts nothing
 * TWIN 6 idle_relaxed: umpsc_arena_is_idle() loads refs relaxed
 * TWIN 7 refs_kept: umpsc_arena_take() begins anew with the refs as they are
 * TWIN 8 cut_unlocked: umpsc_arena_take() does not take arena_lock
 */
#define THREADS 4
#define WORDS 1
#define PLAINS 2
#define LOCKS 2
#define HISTORY 12

#include "memory.pml"

#define REFS 0
/* What refs begins with, as there are no negative bytes. */
#define ZERO 10
#define SLOTS 2
#define ARENA_LOCK 0
#define Q_LOCK 1
#define NO_SLOT 255

/* Under arena_lock. */
byte used, cut;
bool dropped;
/* Under q.lock. */
bool queued[SLOTS];
/* Senders that have more to send. */
byte senders = 2;
bool freed;

/* umpsc_arena_free() */
inline arena_free()
{
	assert(!freed);
	freed = true;
	plain_write(0, 0);
	plain_write(1, 0)
}

/* umpsc_arena_retire(), by who took it out of the channel */
inline arena_retire()
{
	if
	:: twin == 5 ->
		load(REFS, ACQUIRE, refs);
		refs = refs + cut
	:: else ->
		exchange(REFS, twin != 4, RELEASE, refs, refs + cut);
		refs = refs + cut
	fi;
	if
	:: refs == ZERO -> arena_free()
	:: else
	fi
}

/* umpsc_arena_uncut() */
inline arena_uncut()
{
	if
	:: twin == 3 ->
		exchange(REFS, ACQUIRE, RELEASE, refs, refs - 1);
		load(REFS, ACQUIRE, refs)
	:: else ->
		exchange(REFS, twin != 2, twin != 1, refs, refs - 1);
		refs = refs - 1
	fi;
	if
	:: refs == ZERO -> arena_free()
	:: else
	fi
}

inline arena_lock()
{
	if
	:: twin != 8 -> lock(ARENA_LOCK)
	:: else
	fi
}

inline arena_unlock()
{
	if
	:: twin != 8 -> unlock(ARENA_LOCK)
	:: else
	fi
}

inline arena_cut()
{
	slot = used;
	used = slot + 1;
	cut++
}

/* umpsc_arena_take(): @slot, or NO_SLOT and the run is another one */
inline arena_take()
{
	mine = false;
	slot = NO_SLOT;
	arena_lock();
	if
	:: dropped
	:: !dropped && used < SLOTS -> arena_cut()
	:: else ->
		/* umpsc_arena_is_idle() */
		load(REFS, twin != 6, refs);
		if
		:: refs == ZERO - cut ->
			if
			:: twin != 7 -> store(REFS, RELAXED, ZERO)
			:: else
			fi;
			used = 0;
			cut = 0;
			arena_cut()
		:: else ->
			dropped = true;
			mine = true
		fi
	fi;
	arena_unlock();
	if
	:: mine -> arena_retire()
	:: else
	fi
}

/* umpsc_arena_drop() */
inline arena_drop()
{
	arena_lock();
	mine = !dropped;
	dropped = true;
	arena_unlock();
	if
	:: mine -> arena_retire()
	:: else
	fi
}

proctype sender(byte me; byte n)
{
	byte slot, refs;
	bool mine;

	do
	:: n ->
		n--;
		arena_take();
		if
		:: slot != NO_SLOT ->
			assert(!freed);
			plain_write(slot, 1);
			atomic {
				lock(Q_LOCK);
				assert(!queued[slot]);
				queued[slot] = true;
				unlock(Q_LOCK)
			}
		:: else
		fi
	:: else -> break
	od;
	atomic {
		senders--;
		slot = senders
	}
	if
	:: !slot -> arena_drop()
	:: else
	fi
}

proctype receive(byte me)
{
	byte slot, refs;

	do
	:: atomic {
		queued[0] || queued[1] ->
		lock(Q_LOCK);
		if
		:: queued[0] -> slot = 0
		:: queued[1] -> slot = 1
		fi;
		queued[slot] = false;
		unlock(Q_LOCK)
	   };
		assert(!freed);
		plain_read(slot, refs);
		assert(refs == 1);
		arena_uncut()
	:: !senders && !queued[0] && !queued[1] -> break
	od
}

init {
	atomic {
		memory_init();
		word[REFS].at[0].value = ZERO;
		run sender(0, 2);
		run sender(1, 1);
		run receive(2);
		run receive(3)
	}
	_nr_pr == 1;
	assert(freed)
}
