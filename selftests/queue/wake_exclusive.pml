/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * WAKE of umpsc_core.c: exclusive pollers (EPOLLEXCLUSIVE)
 *
 * Two pollers wait on rx_wait, and a third joins, looks, and waits if there is
 * nothing; three senders send a message each.  A wake-up ends the wait of one poller,
 * which then does nothing at all.  Their entries stay on rx_wait, as those of an epoll
 * do.  All that they share is under q.lock or under rx_wait.lock, so a section is one
 * step, and no memory model is needed.
 *
 * Never: a poller waits in the end, and a message came after the last wake-up and
 * the last look.  (A wake-up is for all that was sent before it: sends that come
 * between one that wakes and its second look have one for all of them.)
 *
 * TWIN 1 not_set: umpsc_wake_receiver() does not set rx_watched again
 * TWIN 2 not_again: umpsc_wake_receiver() does not ask what was sent in the meantime
 * TWIN 3 asked_before: umpsc_wake_receiver() asks for it in a section before the one that sets rx_watched
 * TWIN 4 look_before_join: a poller looks before it joins
 */
#include "twin.pml"

#define POLLERS 3
#define SENDERS 3

/* Under q.lock; no message is received here. */
byte sent;
bool watched;
/* rx_wait: how many entries it has, and who waits at his; under its lock. */
byte joined;
bool waits[POLLERS];
/* What had been sent when somebody was woken or looked last. */
byte covered;

#define SOMEBODY_WAITS (waits[0] || waits[1] || waits[2])

/* umpsc_wake_receiver_once() */
inline wake_once()
{
	d_step {
		if
		:: waits[0] -> waits[0] = false; covered = sent
		:: !waits[0] && waits[1] -> waits[1] = false; covered = sent
		:: !waits[0] && !waits[1] && waits[2] -> waits[2] = false; covered = sent
		:: else
		fi;
		others = joined > 0
	}
}

/* umpsc_publish(), umpsc_wake_receiver() */
proctype sender()
{
	byte mine, now_sent;
	bool more, others;

	d_step {
		sent++;
		mine = sent;
		more = watched;
		watched = false
	}
	if
	:: more ->
		wake_once();
		if
		:: others && twin != 1 ->
			if
			:: twin == 3 -> now_sent = sent
			:: else
			fi;
			d_step {
				watched = true;
				if
				:: twin != 3 -> now_sent = sent
				:: else
				fi;
				more = now_sent != mine && twin != 2;
				now_sent = 0;
				others = false
			};
			if
			:: more -> wake_once()
			:: else
			fi
		:: else
		fi
	:: else
	fi
}

/* umpsc_receiver_poll() */
inline look()
{
	d_step {
		watched = true;
		seen = sent > 0;
		covered = sent
	}
}

/* add_wait_queue_exclusive() and the look */
proctype poller(byte n)
{
	bool seen;

	if
	:: twin == 4 -> look()
	:: else
	fi;
	d_step {
		joined++;
		waits[n] = true
	}
	if
	:: twin != 4 -> look()
	:: else
	fi;
	if
	:: seen -> waits[n] = false
	:: else
	fi
}

init {
	byte i;

	atomic {
		twin_init();
		for (i : 1 .. SENDERS) {
			run sender()
		}
		watched = true;
		for (i : 1 .. POLLERS - 1) {
			joined++;
			waits[i] = true
		}
		run poller(0)
	}
	_nr_pr == 1;
	assert(covered == sent || !SOMEBODY_WAITS)
}
