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
 * the last look.
 *
 * TWIN 1 answered: umpsc_wake_receiver() sets rx_answered also where there are exclusive pollers
 * TWIN 2 asked_late: umpsc_wake_receiver() asks for them in a section after the one in which it wakes and answers
 * TWIN 3 look_before_join: a poller looks before it joins
 */
#include "twin.pml"

#define POLLERS 3
#define SENDERS 3

/* Under q.lock; no message is received here. */
byte sent, looks;
/* rx_wait: how many entries it has, and who waits at his; under its lock. */
byte joined, answered;
bool waits[POLLERS];
/* What had been sent when somebody was woken or looked last. */
byte covered;

#define SOMEBODY_WAITS (waits[0] || waits[1] || waits[2])

/* umpsc_publish(), umpsc_wake_receiver() */
proctype sender()
{
	byte look;
	bool wake;

	d_step {
		sent++;
		look = looks;
		wake = answered < look
	}
	if
	:: wake ->
		d_step {
			if
			:: answered < look ->
				if
				:: !joined || twin == 1 || twin == 2 -> answered = look
				:: else
				fi;
				if
				:: waits[0] -> waits[0] = false; covered = sent
				:: !waits[0] && waits[1] -> waits[1] = false; covered = sent
				:: !waits[0] && !waits[1] && waits[2] -> waits[2] = false; covered = sent
				:: else
				fi
			:: else
			fi
		};
		if
		:: twin == 2 ->
			d_step {
				if
				:: joined && answered == look -> answered = look - 1
				:: else
				fi
			}
		:: else
		fi
	:: else
	fi
}

/* umpsc_receiver_poll() */
inline look()
{
	d_step {
		looks++;
		seen = sent > 0;
		covered = sent
	}
}

/* add_wait_queue_exclusive() and the look */
proctype poller(byte n)
{
	bool seen;

	if
	:: twin == 3 -> look()
	:: else
	fi;
	d_step {
		joined++;
		waits[n] = true
	}
	if
	:: twin != 3 -> look()
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
		looks = 1;
		for (i : 1 .. POLLERS - 1) {
			joined++;
			waits[i] = true
		}
		run poller(0)
	}
	_nr_pr == 1;
	assert(covered == sent || !SOMEBODY_WAITS)
}
