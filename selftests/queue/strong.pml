/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The strong word of umpsc_core.c: increment unless zero, last drop, unhold
 *
 * A node's channel starts with the hold alone.  One opens it for writing and one for
 * reading, both look at it, and it is abandoned, or not; the first sender gives out
 * a weak one, which is upgraded, or comes too late.  The strong word is one word
 * and read-modify-writes, so everybody sees its changes in one order, and what else
 * they share is under q.lock, a section of which is one step: no memory model is
 * needed (end.pml has the order of the last drop and what was sent).
 *
 * Never: the word leaves zero; it is not the handles and the hold (under q.lock);
 * nobody, or more than one, finds that he made it zero, and so wakes all; the sender
 * that joins makes it zero by giving up the hold; UPGRADE gets a sender of a channel
 * that has ended; the channel of a node that nobody can reach any more does not end.
 *
 * TWIN 1 resurrect: umpsc_sender_join() increments even from zero
 * TWIN 2 torn_join: umpsc_sender_join() tests for zero and increments in two steps
 * TWIN 3 torn_leave: umpsc_sender_leave() decrements and tests for zero in two steps
 * TWIN 4 hold_kept: umpsc_channel_unhold_locked() gives the hold up, and leaves ch->hold
 * TWIN 5 unhold_unlocked: umpsc_channel_unhold_locked() tests ch->hold outside of the lock
 * TWIN 6 joined_first: umpsc_sender_join() sets ch->joined and gives up the hold before it increments
 * TWIN 7 claim_silent: umpsc_receiver_claim() forgets that its unhold was the last drop
 */
#include "twin.pml"

byte strong = 1;
/* Under q.lock. */
bool hold = true;
bool claimed, joined;
/* How many sender files there are, how often the word became zero, who was told. */
byte files, zeros, wakes;
bool given;

inline strong_drop(last)
{
	assert(strong);
	strong--;
	last = strong == 0;
	zeros = zeros + last
}

/* umpsc_channel_unhold_locked(); @had is for one who asked before */
inline unhold_locked(had)
{
	last = false;
	if
	:: had && claimed && joined ->
		hold = (twin == 4);
		strong_drop(last)
	:: else
	fi
}

/* umpsc_sender_join(): @ok */
inline join()
{
	if
	:: twin == 6 ->
		d_step {
			joined = true;
			unhold_locked(hold);
			assert(!last)
		}
	:: else
	fi;
	if
	:: twin == 2 ->
		ok = strong != 0;
		d_step {
			strong = strong + ok;
			files = files + ok
		}
	:: else ->
		d_step {
			ok = strong != 0 || twin == 1;
			strong = strong + ok;
			files = files + ok
		}
	fi;
	assert(!ok || !zeros);
	if
	:: ok && twin != 6 ->
		had = hold;
		d_step {
			if
			:: twin != 5 -> had = hold
			:: else
			fi;
			joined = true;
			unhold_locked(had);
			assert(!last);
			had = false
		}
	:: else
	fi
}

/* umpsc_sender_leave() */
inline leave()
{
	if
	:: twin == 3 ->
		d_step {
			assert(strong);
			strong--;
			files--;
			zeros = zeros + (strong == 0)
		};
		last = strong == 0
	:: else ->
		d_step {
			files--;
			strong_drop(last)
		}
	fi;
	if
	:: last -> wakes++
	:: else
	fi
}

/* Opens the node for writing, gives out a weak sender, leaves. */
proctype writer()
{
	bool ok, last, had;

	join();
	if
	:: ok ->
		given = true;
		leave()
	:: else
	fi
}

/* UPGRADE by the weak sender. */
proctype weak()
{
	bool ok, last, had;

end_never_given:
	given;
	join();
	if
	:: ok -> leave()
	:: else -> assert(zeros)
	fi
}

/* umpsc_receiver_claim() */
proctype reader()
{
	bool last, had;

	had = hold;
	d_step {
		if
		:: twin != 5 -> had = hold
		:: else
		fi;
		if
		:: strong ->
			claimed = true;
			unhold_locked(had)
		:: else
		fi;
		had = false
	};
	if
	:: last && twin != 7 -> wakes++
	:: else
	fi
}

/* umpsc_channel_abandon(), of one that is claimed, or nothing */
proctype manager()
{
	bool last;

end_never_claimed:
	if
	:: claimed ->
		d_step {
			if
			:: hold ->
				hold = false;
				strong_drop(last)
			:: else
			fi
		};
		if
		:: last -> wakes++
		:: else
		fi
	:: true
	fi
}

/* umpsc_channel_info(), at any time */
proctype info()
{
	d_step {
		assert(strong == files + hold);
		assert(!hold || strong)
	}
}

init {
	atomic {
		twin_init();
		run writer();
		run weak();
		run reader();
		run manager();
		run info()
	}
	/* The weak sender is never given where nobody could open for writing. */
	timeout;
	assert(!files && strong == hold);
	assert(zeros <= 1 && zeros == !strong);
	assert(wakes == zeros);
	assert(!strong || !claimed || !joined)
}
