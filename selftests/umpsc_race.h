/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Calls that meet: two or three threads that do something at the same time, again
 * and again, each after a random moment that is tuned to make them meet.
 */
#ifndef _UMPSC_RACE_H
#define _UMPSC_RACE_H

#include "umpsc_test.h"

/* A race goes on for this many rounds, or for that long and a few rounds. */
#define RACE_ROUNDS (1500 * umpsc_longer())
#define RACE_ROUNDS_LEAST 30
#define RACE_MS 1000

struct racer;

/*
 * The caller of race_begin() and @n racers.  In each round the racers run @fn, and
 * the caller does its own part between race_go() and race_wait(); each waits a
 * random moment first.
 */
struct race {
	pthread_barrier_t begin;
	pthread_barrier_t end;
	atomic_int there;
	bool stop;
	void (*fn)(struct racer *racer);
	struct racer *racers;
	int n;
	__u64 seed;
	__u64 until;
	__u64 delay; /* at most, of the caller; see race_was() */
	unsigned int least; /* rounds, however long they take */
	unsigned int rounds;
};

struct racer {
	struct race *race;
	struct umpsc_thread t;
	__u64 seed;
	/* The round's, for fn to use. */
	int fd;
	int other;
	long ret;
	int err;
	int accepted;
	int refused;
	int k;
	bool waited;
};

/* After the barrier, which wakes one after the other: at the same time, if it can be. */
static inline void race_meet(struct race *race)
{
	int spins = 20000;

	race->there++;
	while (race->there <= race->n && spins--)
		;
}

static inline void race_moment(__u64 *seed, __u64 most)
{
	__u64 spins = umpsc_random(seed) % most;

	while (spins--)
		atomic_signal_fence(memory_order_seq_cst);
}

static inline long racer_fn(void *arg)
{
	struct racer *racer = arg;
	struct race *race = racer->race;

	for (;;) {
		pthread_barrier_wait(&race->begin);
		if (race->stop)
			return 0;
		race_meet(race);
		race_moment(&racer->seed, 1000);
		race->fn(racer);
		pthread_barrier_wait(&race->end);
	}
}

static inline bool race_begin(struct race *race, struct racer *racers, int n,
			      void (*fn)(struct racer *racer))
{
	int i;

	*race = (struct race){
		.fn = fn,
		.racers = racers,
		.n = n,
		.seed = umpsc_now_ns(),
		.until = umpsc_chance_until(RACE_MS),
		.delay = 2000,
		.least = RACE_ROUNDS_LEAST,
	};
	if (pthread_barrier_init(&race->begin, NULL, n + 1) ||
	    pthread_barrier_init(&race->end, NULL, n + 1))
		return false;
	for (i = 0; i < n; i++) {
		racers[i] = (struct racer){
			.race = race,
			.seed = race->seed + i + 1,
		};
		if (umpsc_thread_start(&racers[i].t, racer_fn, &racers[i]))
			return false;
	}
	return true;
}

/* Is there to be another round?  Longer than usual, while there is patience, unless @met. */
static inline bool race_next_until(struct race *race, bool met)
{
	__u64 until = race->until;

	if (!met)
		until += UMPSC_PATIENCE * 1000000000ULL;
	if ((met && race->rounds >= RACE_ROUNDS) ||
	    (race->rounds >= race->least && umpsc_now_ns() > until))
		return false;
	race->rounds++;
	race->there = 0;
	return true;
}

/* Is there to be another round? */
static inline bool race_next(struct race *race)
{
	return race_next_until(race, true);
}

/* Now; and then comes the caller's own part. */
static inline void race_go(struct race *race)
{
	pthread_barrier_wait(&race->begin);
	race_meet(race);
	race_moment(&race->seed, race->delay);
}

/* All have done theirs. */
static inline void race_wait(struct race *race)
{
	pthread_barrier_wait(&race->end);
}

/* Was it early in this round, with a random moment of at most *@most?  Then later. */
static inline void race_tune(__u64 *most, bool early)
{
	if (early && *most < 10000000)
		*most += *most / 8;
	else if (!early && *most > 100)
		*most -= *most / 8;
}

/* Was the caller early in this round?  Then it waits longer in the next. */
static inline void race_was(struct race *race, bool early)
{
	race_tune(&race->delay, early);
}

static inline bool race_end(struct race *race, struct racer *racers)
{
	bool ended = true;
	int i;

	race->stop = true;
	pthread_barrier_wait(&race->begin);
	for (i = 0; i < race->n; i++)
		ended &= umpsc_thread_join(&racers[i].t);
	return ended;
}

/* ---- Nothing is left ------------------------------------------------------- */

/* All that the test made is closed and gone; @before is from race_query(). */
static inline void race_expect_nothing_left(struct __test_metadata *_metadata,
					    const struct umpsc_query *before)
{
	int manager = ASSERT_FD(umpsc_open_manager());
	struct umpsc_query q;

	/* Without what is charged ahead; but some is freed in the background. */
	EXPECT_TRUE(UMPSC_UNTIL(!umpsc_query(manager, &q) &&
				q.memory == before->memory))
	TH_LOG("%llu bytes, not %llu", q.memory, before->memory);
	EXPECT_EQ(before->channels, q.channels);
	EXPECT_EQ(before->messages, q.messages);
	EXPECT_EQ(before->bytes, q.bytes);
	EXPECT_EQ(before->nodes, q.nodes);
	close(manager);
}

static inline void race_query(struct __test_metadata *_metadata,
			      struct umpsc_query *q)
{
	int manager = ASSERT_FD(umpsc_open_manager());

	ASSERT_EQ(0, umpsc_query(manager, q));
	close(manager);
}

#endif /* _UMPSC_RACE_H */
