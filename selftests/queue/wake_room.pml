/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * WAKE of umpsc_core.c: senders that wait for room
 *
 * A channel holds one message, or three.  Two senders send two each.  One that is
 * refused waits for an event of its poll, which joined tx_wait before and does not
 * look again; or one first looks, as umpsc_sender_poll() does, and waits where there
 * is no room.  The receiver takes one at a time, under q.lock as everywhere in a channel
 * with limits.  What they share is under it, and a section is one step; a wake-up comes
 * after it.
 *
 * Never: a sender waits for ever, though the receiver takes all there is (an invalid
 * end state).
 *
 * TWIN 1 refused_unseen: umpsc_publish(), when it refuses, does not set tx_watched
 * TWIN 2 poll_unseen: umpsc_sender_poll(), where there is no room, does not set tx_watched
 * TWIN 3 set_later: umpsc_publish() sets tx_watched in a section after the one that refuses
 * TWIN 4 cleared_early: umpsc_take_commit() clears tx_watched also where it makes no room yet
 * TWIN 5 no_look: umpsc_take_commit() does not look for room
 * TWIN 6 commit_unlocked: umpsc_take_commit() looks whether somebody waits, and then takes, without q.lock
 */
#include "twin.pml"

#define SENDERS 2
#define EACH 2

byte limit;
/* Under q.lock. */
byte queued;
/* ch->full, ch->tx_watched */
bool over, watched;
/* What the two polls have to say since their owner looked or was refused. */
bool event[SENDERS];

/* umpsc_has_room_locked() */
inline has_room_locked(room)
{
	if
	:: over && queued <= limit / 2 -> over = false
	:: else
	fi;
	room = !over && queued < limit
}

proctype sender(byte n)
{
	byte sent;
	bool room;

	do
	:: sent < EACH ->
		if
		:: true ->
			/* umpsc_sender_poll() */
			d_step {
				has_room_locked(room);
				event[n] = room;
				watched = watched || !room && twin != 2
			}
			event[n];
			room = false
		:: true
		fi;
		/* umpsc_publish() */
		d_step {
			room = queued < limit;
			event[n] = room;
			if
			:: room ->
				queued++;
				sent++
			:: else ->
				over = true;
				watched = watched || twin != 1 && twin != 3
			fi
		}
		if
		:: !room && twin == 3 -> watched = true
		:: else
		fi;
		event[n];
		room = false
	:: else -> break
	od
}

/* umpsc_take_commit() */
proctype receiver()
{
	byte taken;
	bool room, wake, unlocked;

	do
	:: taken < SENDERS * EACH ->
		if
		:: twin == 6 && queued > 0 -> unlocked = !over && !watched
		:: twin != 6
		fi;
		d_step {
			queued > 0 -> queued--;
			taken++;
			if
			:: (over || watched) && twin != 5 && !unlocked ->
				has_room_locked(room);
				wake = room && watched;
				watched = watched && !room && twin != 4
			:: else
			fi;
			room = false
		}
		if
		:: wake ->
			d_step {
				event[0] = true;
				event[1] = true;
				wake = false
			}
		:: else
		fi
	:: else -> break
	od
}

init {
	atomic {
		twin_init();
		if
		:: limit = 1
		:: limit = 3
		fi;
		run sender(0);
		run sender(1);
		run receiver()
	}
	_nr_pr == 1
}
