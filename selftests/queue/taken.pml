/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * TAKEN of umpsc_core.c: the counts of both sides, and what is made of them
 *
 * A sender sends three messages of two bytes each; the receiver fetches and takes
 * them, all or some, and then goes or stays; somebody asks for all figures, once at any
 * time.  A section under q.lock is made of steps, for the receiver takes without it
 * meanwhile.  Each step is seen by all: what the seqcount orders is the kernel's matter,
 * and what the acquire of the count orders is in queue_order.pml.
 *
 * Never: the figures are of different instants, or negative; the high-water mark is
 * below what is queued after a send, or above what ever was; what was received is not
 * what the receiver got; messages are neither queued nor received nor discarded.
 *
 * TWIN 1 no_seq: umpsc_channel_info() does not ask taken_seq whether a receive went on
 * TWIN 2 seq_early: umpsc_take_unlink() ends the section of taken_seq before it counts the bytes
 * TWIN 3 info_unlocked: umpsc_channel_info() does not take q.lock
 * TWIN 4 mark_too_far: umpsc_mark_most_locked() adds what was sent to it, and not what was taken
 * TWIN 5 discarded: umpsc_channel_shut_locked() does not count what it discards
 * TWIN 6 shut_bytes: umpsc_channel_shut_locked() does not count the bytes as taken
 */
#include "twin.pml"

#define TOTAL 3
#define BYTES 2

/* q.lock */
bool locked;
/* Under q.lock. */
byte sent, sent_bytes, most, until, discarded;
bool closed;
/* The receiver's. */
byte taken, taken_bytes, taken_seq;
/* What the receiver got, and the most that was ever queued. */
byte got, ever;

inline lock()
{
	d_step {
		!locked -> locked = true
	}
}

inline unlock()
{
	d_step {
		assert(locked);
		locked = false
	}
}

/* umpsc_publish() */
proctype sender()
{
	byte n, r;

	do
	:: n < TOTAL ->
		lock();
		if
		:: closed ->
			unlock();
			break
		:: else
		fi;
		d_step {
			sent++;
			if
			:: sent - taken > ever -> ever = sent - taken
			:: else
			fi
		}
		sent_bytes = sent_bytes + BYTES;
		/* umpsc_mark_most_locked() */
		if
		:: sent > until ->
			r = taken;
			d_step {
				if
				:: sent - r > most -> most = sent - r
				:: else
				fi;
				if
				:: twin == 4 -> until = most + sent
				:: else -> until = most + r
				fi;
				r = 0
			}
		:: else
		fi;
		assert(sent - taken <= most && most <= ever);
		unlock();
		n++
	:: else -> break
	od
}

/* umpsc_take_unlink(), of @n */
inline take()
{
	taken_seq++;
	d_step {
		taken = taken + n;
		got = got + n
	}
	if
	:: twin == 2 -> taken_seq++
	:: else
	fi;
	taken_bytes = taken_bytes + n * BYTES;
	if
	:: twin != 2 -> taken_seq++
	:: else
	fi
}

/* umpsc_channel_shut_locked() */
inline shut()
{
	lock();
	closed = true;
	if
	:: twin != 5 -> discarded = sent - taken
	:: else
	fi;
	if
	:: twin != 6 -> taken_bytes = sent_bytes
	:: else
	fi;
	taken = sent;
	unlock()
}

proctype receiver()
{
	byte fetched, n;

	do
	:: got < TOTAL ->
		if
		:: fetched == got && sent > taken ->
			lock();
			fetched = sent;
			unlock()
		:: fetched > got ->
			if
			:: n = 1
			:: n = fetched - got
			fi;
			take();
			n = 0
		:: true ->
			shut();
			break
		fi
	:: else -> break
	od
}

/* umpsc_channel_info() */
proctype info()
{
	byte seq, r, bytes, g;

	if
	:: twin != 3 -> lock()
	:: else
	fi;
	do
	:: true ->
		seq = taken_seq;
		d_step {
			r = taken;
			g = got
		}
		bytes = taken_bytes;
		if
		:: twin == 1 || seq == taken_seq && !(seq & 1) -> break
		:: else ->
			if
			:: twin != 3 ->
				unlock();
				lock()
			:: else
			fi
		fi
	od;
	assert(r <= sent && bytes <= sent_bytes);
	assert(sent_bytes - bytes == BYTES * (sent - r));
	assert(r - discarded == g);
	if
	:: twin != 3 -> unlock()
	:: else
	fi
}

init {
	atomic {
		twin_init();
		run sender();
		run receiver();
		run info()
	}
	_nr_pr == 1;
	assert(got + discarded == sent && taken == sent);
	assert(taken_bytes == sent_bytes && sent_bytes == BYTES * sent);
	assert(most <= ever)
}
