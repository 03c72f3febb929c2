/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * STOCK of umpsc_core.c: what is charged ahead, in a word that anyone may take away
 *
 * Two tasks of an account each charge and uncharge, on one CPU, where each may be moved
 * between any two of its steps; the work that returns the stocks comes once, at any
 * time.  The word is changed by read-modify-writes alone, so everybody sees its changes
 * in one order, and the accounts are under umpsc_accounts_lock, a section of which is
 * made of steps, as the word is changed without it meanwhile: no memory model is needed.
 *
 * Never: a byte is lost, or given twice; an account pays for what another one holds; one
 * that is freed is debited, or has something in the stock; something stays charged when
 * all was uncharged and the stock is returned.
 *
 * TWIN 1 charge_torn: umpsc_charge() loads the word and stores it
 * TWIN 2 uncharge_torn: umpsc_memory_uncharge() loads the word and stores it
 * TWIN 3 uncharge_full_torn: umpsc_memory_uncharge() loads the word and stores 0, where it is full
 * TWIN 4 empty_torn: umpsc_stocks_empty() loads the word and stores 0
 * TWIN 5 refill_torn: umpsc_account_charge_locked() loads the word and stores the new one
 * TWIN 6 refill_forgets: umpsc_account_charge_locked() does not debit what was in the word
 * TWIN 7 charge_of_any: umpsc_charge() takes from a stock of another account
 * TWIN 8 uncharge_of_any: umpsc_memory_uncharge() adds to a stock of another account
 */
#include "twin.pml"

#define ACCOUNTS 2
/* Of the stock, and what is charged at a time: one is used at once. */
#define MOST 2
#define AHEAD 2

/* The word. */
byte id, bytes;
/* umpsc_accounts_lock, and what is under it. */
bool locked;
byte charged[ACCOUNTS + 1];
/* What the tasks hold. */
byte held[ACCOUNTS + 1];

inline lock()
{
	d_step {
		!locked -> locked = true
	}
}

inline unlock()
{
	locked = false
}

inline word_load()
{
	d_step {
		w_id = id;
		w_bytes = bytes
	}
}

inline word_store(new_id, new_bytes)
{
	d_step {
		id = new_id;
		bytes = new_bytes
	}
}

/* @done: whether the word was (w_id, w_bytes) and is the new one now; else it is loaded. */
inline word_cmpxchg(torn, new_id, new_bytes)
{
	if
	:: torn ->
		word_store(new_id, new_bytes);
		done = true
	:: else ->
		d_step {
			done = id == w_id && bytes == w_bytes;
			if
			:: done ->
				id = new_id;
				bytes = new_bytes
			:: else ->
				w_id = id;
				w_bytes = bytes
			fi
		}
	fi
}

/* Out: (w_id, w_bytes). */
inline word_xchg(torn, new_id, new_bytes)
{
	if
	:: torn ->
		word_load();
		word_store(new_id, new_bytes)
	:: else ->
		d_step {
			w_id = id;
			w_bytes = bytes;
			id = new_id;
			bytes = new_bytes
		}
	fi
}

/* umpsc_account_debit_locked(): at 0 the account is freed. */
inline debit_locked(a, n)
{
	d_step {
		assert(charged[a] >= n);
		charged[a] = charged[a] - n
	}
}

/* umpsc_stock_empty_locked() */
inline stock_empty_locked()
{
	if
	:: w_bytes -> debit_locked(w_id, w_bytes)
	:: else
	fi
}

/* umpsc_stocks_empty() */
inline stocks_empty()
{
	lock();
	word_xchg(twin == 4, 0, 0);
	stock_empty_locked();
	unlock()
}

/* umpsc_charge() */
inline charge()
{
	done = false;
	word_load();
	do
	:: !done && w_bytes && (w_id == me || twin == 7) ->
		word_cmpxchg(twin == 1, w_id, w_bytes - 1)
	:: else -> break
	od;
	if
	:: !done ->
		lock();
		charged[me] = charged[me] + AHEAD;
		word_xchg(twin == 5, me, AHEAD - 1);
		if
		:: twin != 6 -> stock_empty_locked()
		:: else
		fi;
		unlock()
	:: else
	fi;
	held[me]++
}

/* umpsc_memory_uncharge() */
inline uncharge()
{
	held[me]--;
	done = false;
	n = 1;
	word_load();
	do
	:: !done && (!w_bytes || w_id == me || twin == 8) ->
		if
		:: w_bytes + 1 > MOST ->
			word_cmpxchg(twin == 3, 0, 0);
			if
			:: done ->
				n = n + w_bytes;
				done = false;
				break
			:: else
			fi
		:: else -> word_cmpxchg(twin == 2, me, w_bytes + 1)
		fi
	:: else -> break
	od;
	if
	:: !done ->
		lock();
		debit_locked(me, n);
		unlock()
	:: else
	fi
}

proctype task(byte me)
{
	byte w_id, w_bytes, n;
	bool done;

	charge();
	charge();
	uncharge();
	uncharge()
}

proctype work()
{
	byte w_id, w_bytes;

	stocks_empty()
}

init {
	byte w_id, w_bytes;

	atomic {
		twin_init();
		run task(1);
		run task(2);
		run work()
	}
	_nr_pr == 1;
	assert(!bytes || charged[id] == bytes);
	stocks_empty();
	assert(!charged[1] && !charged[2])
}
