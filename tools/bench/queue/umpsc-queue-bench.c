// SPDX-License-Identifier: GPL-2.0-only
/*
 * umpsc-queue-bench: the queue of a channel with its state word, and other ways to
 * build one, in userspace
 *
 * umpsc-queue-bench [-t THREADS] [-n SAMPLES] [-q] [-p] [-c CASES] [-1 KIND MESSAGES]
 *	-t: only with so many threads; -q: short samples; -p: tell how far it is;
 *	-1: only put MESSAGES through KIND, in one thread, for a tool that counts;
 *	-c is for umpsc-bench
 *
 * One thread puts a message in and takes it out.  Of two and more, one takes and
 * the others put.  A message costs what its sender does to publish it and what the
 * receiver does to take it: no memory is allocated, no bytes are copied.  The rows
 * are those of umpsc-bench.
 *
 * The kinds do the same duties, but for wfcqueue and mutex, which are measured as
 * they are: a word that can be closed, and that counts what was accepted and not
 * yet taken; once a message was put, who takes sees it.
 *
 * What was chosen, and why: what costs is a line that both sides write for each
 * message.  Nanoseconds a message with 1, 2, 4 and 8 threads, of one run on two CPUs
 * that share a cache (others are off by a third, above all with 2 threads):
 *
 *	a list under a spinlock		24 166 105  92	counted apart, taken whole  24 23 25 25
 *	a stack (llist)			42  88  51  47	counted apart		    33 22 25 25
 *	an exchanged tail (xchg)	43  90  71  62	counted apart		    34 35 40 40
 *	wfcqueue			22  13  16  18	with a state word	    38 107 80 67
 *	umpsc				26  15  17  18
 *
 * umpsc's queue is the spinlock's, counted apart by the two sides and taken whole, and
 * it waits a moment where it finds the lock held.  llist is as fast, but what was put
 * comes out of it the other way round: who takes has to turn a backlog over before he
 * has its first message, however long it is.  An exchanged tail has moments at which a
 * put message cannot be reached.  And whoever holds the lock sees all that was put at
 * one instant.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <assert.h>
#include <err.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define _LGPL_SOURCE
#include <urcu/wfcqueue.h>

#define SHIM_MEASURE
#include "shim.h"
#include "umpsc_queue.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define LINE 64

#define THREADS_MAX 8
#define MESSAGES 400000
#define MESSAGES_QUICK 20000
/* Enough for a median where a virtual CPU moves nearer to another one and away. */
#define SAMPLES 45
#define SAMPLES_QUICK 3

/* Messages of one sender that are under way at most, so that caches hold them. */
#define WINDOW 1024

/**
 * struct node - a message
 * @link: in umpsc's queue
 * @wfc: in liburcu's
 * @next: in the others
 * @busy: under way
 * @pad: to the end of the line
 */
struct node {
	union {
		struct umpsc_link link;
		struct cds_wfcq_node wfc;
		struct node *next;
	};
	bool busy;
	char pad[LINE - 2 * sizeof(void *)];
};

/*
 * One kind uses some of it.  What senders write and what the receiver writes is on
 * lines of its own, and so is each kind.
 */
struct queue {
	struct umpsc_queue umpsc;
	char pad_umpsc[LINE];

	u64 state;
	struct node *tail;
	struct node *list;
	bool locked;
	char pad_senders[LINE];

	struct node *head;
	u64 taken;
	char pad_receiver[LINE];
	struct node stub;

	struct cds_wfcq_tail wfc_tail;
	char pad_wfc_tail[LINE];
	struct __cds_wfcq_head wfc_head;
	char pad_wfc_head[LINE];

	pthread_mutex_t mutex;
};

enum role {
	PRODUCE,
	CONSUME,
	BOTH,
};

/* What one thread has to do. */
struct work {
	enum role role;
	struct queue *queue;
	struct node *nodes;
	unsigned int messages;
};

struct kind {
	const char *name;
	void (*work)(struct work *w);
};

/* ---- Loops, into which each kind is inlined ------------------------------ */

typedef bool (*push_fn)(struct queue *q, struct node *node);
typedef struct node *(*pop_fn)(struct queue *q);

/* Out of line, so that no kind's loop has its registers taken. */
static __attribute__((noinline, cold)) void wait_a_little(unsigned int *tries)
{
	/* There may be fewer CPUs than threads. */
	if (++*tries % 64)
		shim_relax();
	else
		sched_yield();
}

static __always_inline void produce(struct queue *q, struct node *nodes,
				    unsigned int n, push_fn push)
{
	unsigned int i, tries = 0;
	struct node *node;

	for (i = 0; i < n; i++) {
		node = &nodes[i % WINDOW];
		while (__atomic_load_n(&node->busy, __ATOMIC_ACQUIRE))
			wait_a_little(&tries);
		node->busy = true;
		if (!push(q, node))
			errx(1, "the queue is closed");
	}
}

static __always_inline void consume(struct queue *q, unsigned int n, pop_fn pop)
{
	unsigned int tries = 0;
	struct node *node;

	while (n) {
		node = pop(q);
		if (!node) {
			wait_a_little(&tries);
			continue;
		}
		__atomic_store_n(&node->busy, false, __ATOMIC_RELEASE);
		n--;
	}
}

static __always_inline void both(struct queue *q, struct node *nodes,
				 unsigned int n, push_fn push, pop_fn pop)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		if (!push(q, &nodes[i % WINDOW]) || !pop(q))
			errx(1, "a message is missing");
}

static __always_inline void work(struct work *w, push_fn push, pop_fn pop)
{
	switch (w->role) {
	case PRODUCE:
		produce(w->queue, w->nodes, w->messages, push);
		break;
	case CONSUME:
		consume(w->queue, w->messages, pop);
		break;
	case BOTH:
		both(w->queue, w->nodes, w->messages, push, pop);
		break;
	}
}

/* ---- umpsc: as umpsc_core.c drives include/umpsc_queue.h ----------------- */

static __always_inline bool umpsc_push(struct queue *q, struct node *node)
{
	bool open;

	umpsc_link_init(&node->link);
	raw_spin_lock(&q->umpsc.lock);
	open = !umpsc_queue_closed(&q->umpsc);
	if (open)
		umpsc_queue_push_locked(&q->umpsc, &node->link, 1);
	raw_spin_unlock(&q->umpsc.lock);
	return open;
}

static __always_inline struct node *umpsc_pop(struct queue *q)
{
	struct umpsc_link *link;

	if (!umpsc_queue_some(&q->umpsc))
		return NULL;
	link = umpsc_queue_peek(&q->umpsc);
	if (!link) {
		umpsc_queue_fetch(&q->umpsc);
		link = umpsc_queue_peek(&q->umpsc);
	}
	umpsc_queue_pop(&q->umpsc, link, 1);
	return (struct node *)link;
}

static void umpsc_work(struct work *w)
{
	work(w, umpsc_push, umpsc_pop);
}

/*
 * ---- The state word of the others ------------------------------------------
 *
 * Of one word, @state: closed, and what was accepted and not yet taken; both sides
 * write it.  Split: senders write @state, closed and what was accepted; the receiver
 * writes @taken, in a line of its own.  What is queued is their difference, at an
 * instant at which @taken did not change.
 */

static __always_inline bool state_accept(struct queue *q)
{
	u64 old = __atomic_fetch_add(&q->state, UMPSC_ENTRY, __ATOMIC_ACQUIRE);

	if (!(old & UMPSC_CLOSED))
		return true;
	__atomic_fetch_sub(&q->state, UMPSC_ENTRY, __ATOMIC_RELEASE);
	return false;
}

static __always_inline bool state_empty(struct queue *q, bool split)
{
	u64 state = __atomic_load_n(&q->state, __ATOMIC_ACQUIRE);

	return (split ? state - q->taken : state) < UMPSC_ENTRY;
}

static __always_inline void state_taken(struct queue *q, bool split)
{
	if (split)
		__atomic_store_n(&q->taken, q->taken + UMPSC_ENTRY,
				 __ATOMIC_RELEASE);
	else
		__atomic_fetch_sub(&q->state, UMPSC_ENTRY, __ATOMIC_RELEASE);
}

/* ---- spinlock: a list, its lock taken by an exchange --------------------- */

static __always_inline void spin_lock(struct queue *q)
{
	unsigned int tries = 0;

	while (__atomic_exchange_n(&q->locked, true, __ATOMIC_ACQUIRE))
		while (__atomic_load_n(&q->locked, __ATOMIC_RELAXED))
			wait_a_little(&tries);
}

static __always_inline void spin_unlock(struct queue *q)
{
	__atomic_store_n(&q->locked, false, __ATOMIC_RELEASE);
}

static __always_inline void list_push_locked(struct queue *q, struct node *node)
{
	node->next = NULL;
	if (q->list)
		q->tail->next = node;
	else
		q->list = node;
	q->tail = node;
}

static __always_inline struct node *list_pop_locked(struct queue *q)
{
	struct node *node = q->list;

	if (node)
		q->list = node->next;
	return node;
}

static __always_inline bool spin_push(struct queue *q, struct node *node)
{
	bool open;

	spin_lock(q);
	open = !(q->state & UMPSC_CLOSED);
	if (open) {
		list_push_locked(q, node);
		__atomic_store_n(&q->state, q->state + UMPSC_ENTRY,
				 __ATOMIC_RELEASE);
	}
	spin_unlock(q);
	return open;
}

static __always_inline struct node *spin_pop(struct queue *q)
{
	struct node *node;

	if (state_empty(q, false))
		return NULL;
	spin_lock(q);
	node = list_pop_locked(q);
	__atomic_store_n(&q->state, q->state - UMPSC_ENTRY, __ATOMIC_RELEASE);
	spin_unlock(q);
	return node;
}

static void spin_work(struct work *w)
{
	work(w, spin_push, spin_pop);
}

/* Split, and the receiver takes the whole list at once. */
static __always_inline struct node *spin_split_pop(struct queue *q)
{
	struct node *node = q->head;

	if (!node) {
		if (state_empty(q, true))
			return NULL;
		spin_lock(q);
		node = q->list;
		q->list = NULL;
		spin_unlock(q);
	}
	q->head = node->next;
	state_taken(q, true);
	return node;
}

static void spin_split_work(struct work *w)
{
	work(w, spin_push, spin_split_pop);
}

/* ---- llist: a stack by compare-and-exchange, taken whole and reversed ---- */

static __always_inline bool llist_push(struct queue *q, struct node *node)
{
	if (!state_accept(q))
		return false;
	node->next = __atomic_load_n(&q->tail, __ATOMIC_RELAXED);
	while (!__atomic_compare_exchange_n(&q->tail, &node->next, node, false,
					    __ATOMIC_RELEASE, __ATOMIC_RELAXED))
		;
	return true;
}

static __always_inline struct node *llist_take(struct queue *q, bool split)
{
	struct node *node = q->head, *stack, *next;

	if (!node) {
		/* What was accepted may not yet be on the stack. */
		if (state_empty(q, split) ||
		    !__atomic_load_n(&q->tail, __ATOMIC_RELAXED))
			return NULL;
		stack = __atomic_exchange_n(&q->tail, NULL, __ATOMIC_ACQUIRE);
		for (; stack; stack = next) {
			next = stack->next;
			stack->next = node;
			node = stack;
		}
	}
	q->head = node->next;
	state_taken(q, split);
	return node;
}

static __always_inline struct node *llist_pop(struct queue *q)
{
	return llist_take(q, false);
}

static __always_inline struct node *llist_split_pop(struct queue *q)
{
	return llist_take(q, true);
}

static void llist_work(struct work *w)
{
	work(w, llist_push, llist_pop);
}

static void llist_split_work(struct work *w)
{
	work(w, llist_push, llist_split_pop);
}

/* ---- xchg: the tail by an exchange, the link behind it after that -------- */

static __always_inline void xchg_append(struct queue *q, struct node *node)
{
	struct node *before;

	node->next = NULL;
	before = __atomic_exchange_n(&q->tail, node, __ATOMIC_ACQ_REL);
	__atomic_store_n(&before->next, node, __ATOMIC_RELEASE);
}

static __always_inline bool xchg_push(struct queue *q, struct node *node)
{
	if (!state_accept(q))
		return false;
	xchg_append(q, node);
	return true;
}

static __always_inline struct node *xchg_next(struct node *node)
{
	return __atomic_load_n(&node->next, __ATOMIC_ACQUIRE);
}

static __always_inline struct node *xchg_take(struct queue *q, bool split)
{
	struct node *node = q->head, *next = xchg_next(node);

	if (node == &q->stub) {
		/* What was accepted may not yet be linked. */
		if (!next || state_empty(q, split))
			return NULL;
		node = next;
		q->head = node;
		next = xchg_next(node);
	}
	if (!next) {
		/* The youngest cannot go unless another one is behind it. */
		if (node == __atomic_load_n(&q->tail, __ATOMIC_ACQUIRE))
			xchg_append(q, &q->stub);
		next = xchg_next(node);
		if (!next)
			return NULL;
	}
	q->head = next;
	state_taken(q, split);
	return node;
}

static __always_inline struct node *xchg_pop(struct queue *q)
{
	return xchg_take(q, false);
}

static __always_inline struct node *xchg_split_pop(struct queue *q)
{
	return xchg_take(q, true);
}

static void xchg_work(struct work *w)
{
	work(w, xchg_push, xchg_pop);
}

static void xchg_split_work(struct work *w)
{
	work(w, xchg_push, xchg_split_pop);
}

/* ---- wfcqueue: liburcu's, alone and with the state word ------------------ */

static __always_inline bool wfc_push(struct queue *q, struct node *node)
{
	cds_wfcq_node_init(&node->wfc);
	cds_wfcq_enqueue(&q->wfc_head, &q->wfc_tail, &node->wfc);
	return true;
}

/* Its blocking form sleeps where a link is not there yet. */
static __always_inline struct node *wfc_pop(struct queue *q)
{
	struct cds_wfcq_node *node =
		__cds_wfcq_dequeue_nonblocking(&q->wfc_head, &q->wfc_tail);

	return node == CDS_WFCQ_WOULDBLOCK ? NULL : (struct node *)node;
}

static void wfc_work(struct work *w)
{
	work(w, wfc_push, wfc_pop);
}

static __always_inline bool wfc_state_push(struct queue *q, struct node *node)
{
	return state_accept(q) && wfc_push(q, node);
}

static __always_inline struct node *wfc_state_pop(struct queue *q)
{
	struct node *node;

	if (state_empty(q, false))
		return NULL;
	node = wfc_pop(q);
	if (node)
		state_taken(q, false);
	return node;
}

static void wfc_state_work(struct work *w)
{
	work(w, wfc_state_push, wfc_state_pop);
}

/* ---- mutex: what a program would do without thinking --------------------- */

static __always_inline bool mutex_push(struct queue *q, struct node *node)
{
	pthread_mutex_lock(&q->mutex);
	list_push_locked(q, node);
	pthread_mutex_unlock(&q->mutex);
	return true;
}

static __always_inline struct node *mutex_pop(struct queue *q)
{
	struct node *node;

	pthread_mutex_lock(&q->mutex);
	node = list_pop_locked(q);
	pthread_mutex_unlock(&q->mutex);
	return node;
}

static void mutex_work(struct work *w)
{
	work(w, mutex_push, mutex_pop);
}

static const struct kind kinds[] = {
	{ "umpsc", umpsc_work },
	{ "wfcqueue", wfc_work },
	{ "mutex", mutex_work },
	{ "spinlock", spin_work },
	{ "spinlock-split", spin_split_work },
	{ "llist", llist_work },
	{ "llist-split", llist_split_work },
	{ "xchg", xchg_work },
	{ "xchg-split", xchg_split_work },
	{ "wfcqueue-state", wfc_state_work },
};

/* ---- Measuring ----------------------------------------------------------- */

static _Alignas(LINE) struct queue queue;
static _Alignas(LINE) struct node nodes[THREADS_MAX][WINDOW];

static_assert(sizeof(struct node) == LINE, "a message is a line");

struct worker {
	pthread_t thread;
	const struct kind *kind;
	pthread_barrier_t *start;
	unsigned int index;
	struct work work;
};

static void queue_init(void)
{
	memset(&queue, 0, sizeof(queue));
	memset(nodes, 0, sizeof(nodes));
	umpsc_queue_init(&queue.umpsc);
	__cds_wfcq_init(&queue.wfc_head, &queue.wfc_tail);
	pthread_mutex_init(&queue.mutex, NULL);
}

/* The tail is a stack's top, or the last of a chain that begins with the stub. */
static void queue_init_for(const struct kind *kind)
{
	queue_init();
	if (!strncmp(kind->name, "xchg", 4)) {
		queue.head = &queue.stub;
		queue.tail = &queue.stub;
	}
}

static double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

static void cpu_pin(unsigned int index)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(index % sysconf(_SC_NPROCESSORS_ONLN), &cpus);
	/* Where that is not allowed, the scheduler decides. */
	pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus);
}

static void *worker_run(void *arg)
{
	struct worker *w = arg;

	cpu_pin(w->index);
	pthread_barrier_wait(w->start);
	w->kind->work(&w->work);
	return NULL;
}

/* Nanoseconds for each message. */
static double sample(const struct kind *kind, unsigned int threads,
		     unsigned int messages)
{
	struct worker workers[THREADS_MAX];
	unsigned int i, each = messages / (threads > 1 ? threads - 1 : 1);
	pthread_barrier_t barrier;
	struct work mine;
	double start, ns;

	queue_init_for(kind);
	if (threads == 1) {
		mine = (struct work){ BOTH, &queue, nodes[0], each };
		start = now_ns();
		kind->work(&mine);
		return (now_ns() - start) / each;
	}
	pthread_barrier_init(&barrier, NULL, threads);
	for (i = 1; i < threads; i++) {
		workers[i] = (struct worker){
			.kind = kind,
			.start = &barrier,
			.index = i,
			.work = { PRODUCE, &queue, nodes[i], each },
		};
		if (pthread_create(&workers[i].thread, NULL, worker_run,
				   &workers[i]))
			err(1, "thread");
	}
	pthread_barrier_wait(&barrier);
	mine = (struct work){ CONSUME, &queue, NULL, each * (threads - 1) };
	start = now_ns();
	kind->work(&mine);
	ns = now_ns() - start;
	for (i = 1; i < threads; i++)
		pthread_join(workers[i].thread, NULL);
	pthread_barrier_destroy(&barrier);
	return ns / (each * (threads - 1));
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void row_print(const char *peer, unsigned int threads, double *samples,
		      unsigned int n)
{
	struct utsname kernel;

	uname(&kernel);
	qsort(samples, n, sizeof(*samples), compare_doubles);
	printf("row\t%s\tqueue\t%s\t0\t%u\t1\tns\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t-1\n",
	       kernel.release, peer, threads, samples[n / 2], samples[0],
	       samples[n / 4], samples[n / 2], samples[n * 3 / 4],
	       samples[n - 1]);
	fflush(stdout);
}

/* In turns: A B A B. */
static void measure(unsigned int threads, unsigned int n, unsigned int messages)
{
	static double samples[ARRAY_SIZE(kinds)][1000];
	unsigned int round, i;

	for (round = 0; round < n; round++)
		for (i = 0; i < ARRAY_SIZE(kinds); i++)
			samples[i][round] =
				sample(&kinds[i], threads, messages);
	for (i = 0; i < ARRAY_SIZE(kinds); i++)
		row_print(kinds[i].name, threads, samples[i], n);
}

static int run_one(const char *name, unsigned int messages)
{
	struct work mine = { BOTH, &queue, nodes[0], messages };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (strcmp(kinds[i].name, name))
			continue;
		queue_init_for(&kinds[i]);
		kinds[i].work(&mine);
		return 0;
	}
	errx(2, "no such kind: %s", name);
}

static int misused(void)
{
	fputs("usage: umpsc-queue-bench [-t THREADS] [-n SAMPLES] [-q] [-p]\n"
	      "       umpsc-queue-bench -1 KIND MESSAGES\n",
	      stderr);
	return 2;
}

int main(int argc, char **argv)
{
	unsigned int only = 0, n = SAMPLES, messages = MESSAGES, threads;
	bool progress = false;
	int option;

	while ((option = getopt(argc, argv, "1:c:n:pqt:")) != -1) {
		switch (option) {
		case '1':
			if (optind + 1 != argc)
				return misused();
			return run_one(optarg, atoi(argv[optind]));
		case 'c':
			break;
		case 'n':
			n = atoi(optarg);
			break;
		case 'p':
			progress = true;
			break;
		case 'q':
			n = SAMPLES_QUICK;
			messages = MESSAGES_QUICK;
			break;
		case 't':
			only = atoi(optarg);
			break;
		default:
			return misused();
		}
	}
	if (optind < argc || n < 1 || n > 1000 || only > THREADS_MAX)
		return misused();
	cpu_pin(0);
	for (threads = 1; threads <= THREADS_MAX; threads *= 2) {
		if (only && only != threads)
			continue;
		if (progress)
			fprintf(stderr, "\rqueue, %u threads ", threads);
		measure(threads, n, messages);
	}
	if (progress)
		fputs("\r                    \r", stderr);
	return 0;
}
