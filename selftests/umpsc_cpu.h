/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Who has a CPU, and who gives it up.
 */
#ifndef _UMPSC_CPU_H
#define _UMPSC_CPU_H

#include "umpsc_test.h"

/* A thread of real time that sleeps and measures how late it is, on one CPU. */
struct umpsc_watch {
	struct umpsc_thread thread;
	int cpu;
	atomic_bool ready;
	atomic_bool stop;
	__u64 latest;
};

/* So often it wants the CPU. */
#define UMPSC_WATCH_MS 2

static inline long umpsc_watch_fn(void *arg)
{
	struct sched_param fifo = { .sched_priority = 50 };
	struct umpsc_watch *w = arg;
	__u64 start, late;

	if (!umpsc_run_on(w->cpu) || sched_setscheduler(0, SCHED_FIFO, &fifo))
		return -1;
	w->ready = true;
	while (!w->stop) {
		start = umpsc_now_ns();
		umpsc_nap_ms(UMPSC_WATCH_MS);
		late = umpsc_now_ns() - start;
		if (late > w->latest)
			w->latest = late;
	}
	return 0;
}

static inline bool umpsc_watch_start(struct umpsc_watch *w, int cpu)
{
	*w = (struct umpsc_watch){ .cpu = cpu };
	return !umpsc_thread_start(&w->thread, umpsc_watch_fn, w) &&
	       UMPSC_UNTIL(w->ready || w->thread.done) && w->ready;
}

static inline bool umpsc_watch_stop(struct umpsc_watch *w)
{
	w->stop = true;
	return umpsc_thread_join(&w->thread) && !w->thread.ret;
}

/* How often task @tid has left its CPU to another that was to run, or -1. */
static inline long umpsc_preempted(pid_t tid)
{
	const char *key = "\nnonvoluntary_ctxt_switches:";
	char path[64], text[4096], *at;

	snprintf(path, sizeof(path), "/proc/%d/status", tid);
	if (umpsc_read_file(path, text, sizeof(text)) < 0)
		return -1;
	at = strstr(text, key);
	return at ? atol(at + strlen(key)) : -1;
}

/*
 * In a call of @ns on a CPU with a watch, a task has to give its CPU up more often than
 * so: a fiftieth of what the watch asks for, since a busy host stalls the CPU for most
 * of that time.
 */
static inline long umpsc_preempted_least(__u64 ns)
{
	return ns / (50 * UMPSC_WATCH_MS * 1000000ULL);
}

#endif /* _UMPSC_CPU_H */
