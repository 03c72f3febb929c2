/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory, as weak as the models need it
 *
 * Spin knows one memory that everybody sees alike.  Here each atomic word keeps all
 * values that it ever had, in order, and each thread has a view: the oldest value
 * of each word that it may still read.  A load takes any value from there on, so
 * loads are reordered and stores reach others late and in any order.  A release
 * hands the view of its thread on with the value, and an acquire that reads this
 * value takes it over; so does a lock, from holder to holder.  A read-modify-write
 * reads the last value, and hands on what was handed on with that.  This is C11's
 * release and acquire, and so weaker than the kernel's: an address dependency
 * orders nothing here.
 *
 * Plain data has one value, and whoever touches it without having been handed what
 * others did to it (by vector clocks, as ThreadSanitizer does it) fails "no_race".
 * This also finds a store that overtakes an earlier load; what is not here is that
 * for two atomic words, and two stores to one word in an order other than that in
 * which they are made: all words in these models are written under a lock, by
 * read-modify-writes, or by one thread alone.
 *
 * A model defines THREADS, WORDS, PLAINS, LOCKS and HISTORY, and each of its
 * processes knows its number as "me".  litmus.pml tests this file.
 */
#include "twin.pml"

#define RELAXED false
#define ACQUIRE true
#define RELEASE true

typedef View {
	byte word[WORDS];
	byte clock[THREADS]
};

typedef Value {
	byte value;
	View handed
};

typedef Word {
	byte last;
	Value at[HISTORY]
};

typedef Plain {
	byte value;
	byte writer;
	byte written;
	byte seen[THREADS]
};

typedef Lock {
	bool held;
	View handed
};

byte i_, t_;
bool no_race, history_suffices;
View view[THREADS];
bool touched[THREADS];
Word word[WORDS];
Plain plain[PLAINS];
Lock locks[LOCKS];

#define CLOCK(me) view[me].clock[me]

/* To be called first, in an atomic of init. */
inline memory_init()
{
	twin_init();
	no_race = true;
	for (i_ : 0 .. THREADS - 1) {
		CLOCK(i_) = 1
	}
	i_ = 0
}

inline view_join(to, from)
{
	for (i_ : 0 .. WORDS - 1) {
		if
		:: to.word[i_] < from.word[i_] -> to.word[i_] = from.word[i_]
		:: else
		fi
	}
	for (i_ : 0 .. THREADS - 1) {
		if
		:: to.clock[i_] < from.clock[i_] -> to.clock[i_] = from.clock[i_]
		:: else
		fi
	}
	i_ = 0
}

/* What the thread does to plain data from now on is not what it hands on now. */
inline view_hand_on(to)
{
	view_join(to, view[me]);
	if
	:: touched[me] ->
		touched[me] = false;
		CLOCK(me) = CLOCK(me) + 1
	:: else
	fi
}

inline load(w, order, result)
{
	atomic {
		t_ = view[me].word[w];
		do
		:: t_ < word[w].last -> t_++
		:: break
		od;
		d_step {
			result = word[w].at[t_].value;
			view[me].word[w] = t_;
			if
			:: order -> view_join(view[me], word[w].at[t_].handed)
			:: else
			fi;
			t_ = 0
		}
	}
}

/* A model that fails this needs more HISTORY; it says nothing about the code. */
inline history_check(w)
{
	history_suffices = word[w].last < HISTORY - 1;
	assert(history_suffices)
}

inline store(w, order, new)
{
	d_step {
		history_check(w);
		word[w].last++;
		word[w].at[word[w].last].value = new;
		view[me].word[w] = word[w].last;
		if
		:: order -> view_hand_on(word[w].at[word[w].last].handed)
		:: else
		fi
	}
}

/* @old: out: the value before; @new may use it. */
inline exchange(w, acquire, release, old, new)
{
	d_step {
		history_check(w);
		t_ = word[w].last;
		old = word[w].at[t_].value;
		if
		:: acquire -> view_join(view[me], word[w].at[t_].handed)
		:: else
		fi;
		word[w].last++;
		word[w].at[t_ + 1].value = new;
		view_join(word[w].at[t_ + 1].handed, word[w].at[t_].handed);
		view[me].word[w] = t_ + 1;
		if
		:: release -> view_hand_on(word[w].at[t_ + 1].handed)
		:: else
		fi;
		t_ = 0
	}
}

/* What is there in the end, for the assertions. */
#define LAST(w) word[w].at[word[w].last].value

inline lock(l)
{
	d_step {
		!locks[l].held -> locks[l].held = true;
		view_join(view[me], locks[l].handed)
	}
}

inline unlock(l)
{
	d_step {
		assert(locks[l].held);
		locks[l].held = false;
		view_hand_on(locks[l].handed)
	}
}

inline plain_check_written(p)
{
	if
	:: plain[p].written > view[me].clock[plain[p].writer] -> no_race = false
	:: else
	fi
}

inline plain_read(p, result)
{
	d_step {
		plain_check_written(p);
		assert(no_race);
		touched[me] = true;
		plain[p].seen[me] = CLOCK(me);
		result = plain[p].value
	}
}

inline plain_write(p, new)
{
	d_step {
		plain_check_written(p);
		for (i_ : 0 .. THREADS - 1) {
			if
			:: plain[p].seen[i_] > view[me].clock[i_] -> no_race = false
			:: else
			fi;
			plain[p].seen[i_] = 0
		}
		i_ = 0;
		assert(no_race);
		touched[me] = true;
		plain[p].writer = me;
		plain[p].written = CLOCK(me);
		plain[p].value = new
	}
}
