// SPDX-License-Identifier: GPL-2.0-only
/*
 * The queue of include/umpsc_queue.h, unchanged, under real threads
 *
 * Producers and the consumer do what umpsc_core.c does around it, with the same
 * accesses: umpsc_publish(), umpsc_receive_begin(), umpsc_take_link(),
 * umpsc_take_batch(), umpsc_take_commit(), umpsc_receiver_unread(), _close() and
 * _leave(), the strong word, the spare and that there is none beside an arena.
 * A third party only looks, with the lock and without.  What a run carries is written
 * and read with plain accesses, so that a sanitizer sees whatever order the queue does
 * not make; what the checks need beside it goes from thread to thread relaxed, and
 * makes none.
 *
 *	stress PRODUCERS MILLISECONDS		rounds until the time is over
 *	stress unit				one thread, step by step
 *	stress unheld push|close|fetch|drain	must abort: the lock is another's
 *	stress unheld pop			needs no lock
 *
 * Status 0: all is well; 1: a check failed, and says which.
 */
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "shim.h"

#include <umpsc_queue.h>

#define ENTRIES_MAX 6
#define ROUND_ENTRIES 6000
#define PRODUCERS_MAX 8

#define CHECK(ok)                                                        \
	do {                                                             \
		if (!(ok)) {                                             \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, \
				__LINE__, #ok);                          \
			_exit(1);                                        \
		}                                                        \
	} while (0)

/* What one send accepted.  Fixed after the push. */
struct run {
	u64 payload[ENTRIES_MAX];
	struct umpsc_link link;
	u64 order;
	u64 first;
	unsigned int producer;
	unsigned int count;
};

/* How a round ends. */
enum ending {
	/* The producers leave; what they sent is received. */
	LEAVE,
	/* Closed by another thread; what was accepted is received. */
	CLOSE,
	/* The receiver goes, and takes out what is left. */
	DRAIN,
	ENDINGS
};

struct channel {
	struct umpsc_queue q;
	/* Under q.lock. */
	u64 sent;
	u64 most;
	u64 most_until;
	/* Atomic. */
	unsigned int strong;
	struct run *spare;
	bool arena_locked;
	/* That there is one; written by who has set arena_locked. */
	bool arena;

	enum ending ending;
	/* When it ends, if it is not by the producers. */
	u64 enough;
	pthread_barrier_t start;

	/* What the checks need, see relaxed_load(). */
	u64 returned;
	u64 taking;
	bool close_returned;
	bool over;
};

struct producer {
	struct channel *ch;
	pthread_t thread;
	unsigned int id;
	u64 accepted;
	u64 refused;
};

struct consumer {
	struct channel *ch;
	/* The place, as struct umpsc_pos: the run, what is left of it. */
	struct run *run;
	unsigned int left;
	u64 received;
	u64 next[PRODUCERS_MAX];
};

/*
 * Between the checks of several threads.  Relaxed, for more would order what the
 * queue has to order.  The order that the checks rely on is that of the compiler
 * and of an x86, on which this runs.
 */
#define relaxed_load(p)                                             \
	({                                                          \
		__atomic_signal_fence(__ATOMIC_SEQ_CST);            \
		u64 relaxed = __atomic_load_n(p, __ATOMIC_RELAXED); \
		__atomic_signal_fence(__ATOMIC_SEQ_CST);            \
		relaxed;                                            \
	})

#define relaxed_store(p, value)                               \
	do {                                                  \
		__atomic_signal_fence(__ATOMIC_SEQ_CST);      \
		__atomic_store_n(p, value, __ATOMIC_RELAXED); \
		__atomic_signal_fence(__ATOMIC_SEQ_CST);      \
	} while (0)

static void relaxed_max(u64 *p, u64 value)
{
	u64 old = relaxed_load(p);

	while (old < value &&
	       !__atomic_compare_exchange_n(p, &old, value, false,
					    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

static u64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ULL + ts.tv_nsec / 1000000;
}

static u64 payload(unsigned int producer, u64 n)
{
	return (n + 1) * 0x9e3779b97f4a7c15ULL ^ producer;
}

static struct run *run_of(struct umpsc_link *link)
{
	return (struct run *)((char *)link - offsetof(struct run, link));
}

/* ---- The spare, as umpsc_spare_take() and _free(), and the arena --------- */

#define xchg(p, value) __atomic_exchange_n(p, value, __ATOMIC_SEQ_CST)

/* As umpsc_arena_fill() and _drop(), in turn. */
static void arena_change(struct channel *ch)
{
	if (__atomic_exchange_n(&ch->arena_locked, true, __ATOMIC_ACQUIRE))
		return;
	WRITE_ONCE(ch->arena, !ch->arena);
	__atomic_store_n(&ch->arena_locked, false, __ATOMIC_RELEASE);
}

static struct run *run_new(struct channel *ch)
{
	struct run *run = NULL;

	if (READ_ONCE(ch->spare))
		run = xchg(&ch->spare, NULL);
	if (!run && !(shim_random() % 16))
		arena_change(ch);
	if (!run)
		run = malloc(sizeof(*run));
	CHECK(run);
	return run;
}

static void spare_free(struct channel *ch)
{
	if (READ_ONCE(ch->spare))
		free(xchg(&ch->spare, NULL));
}

/* ---- Producers ----------------------------------------------------------- */

/* As umpsc_mark_most_locked(). */
static void mark_most_locked(struct channel *ch)
{
	u64 taken, sent = umpsc_queue_pushed(&ch->q);

	if (sent > ch->most_until) {
		taken = READ_ONCE(ch->q.taken);
		if (sent - taken > ch->most)
			ch->most = sent - taken;
		ch->most_until = ch->most + taken;
	}
	CHECK(sent - READ_ONCE(ch->q.taken) <= ch->most);
}

/* As umpsc_publish(): false if refused.  @order: out: its place in the order. */
static bool publish(struct channel *ch, struct run *run, u64 *order)
{
	u64 count = run->count;

	umpsc_link_init(&run->link);
	raw_spin_lock(&ch->q.lock);
	if (umpsc_queue_closed(&ch->q)) {
		raw_spin_unlock(&ch->q.lock);
		return false;
	}
	*order = ch->sent;
	run->order = ch->sent;
	umpsc_queue_push_locked(&ch->q, &run->link, count);
	ch->sent += count;
	CHECK(umpsc_queue_pushed(&ch->q) == ch->sent);
	mark_most_locked(ch);
	raw_spin_unlock(&ch->q.lock);
	return true;
}

/* What is so after a send returned, whose entries go from @order to @end. */
static void check_sent(struct channel *ch, u64 end)
{
	u64 len = umpsc_queue_len(&ch->q);
	u64 taking = relaxed_load(&ch->taking);

	/* All that was not about to be taken is counted. */
	CHECK(taking >= end || len >= end - taking);
	relaxed_max(&ch->returned, end);
}

static bool send_one(struct producer *p)
{
	struct channel *ch = p->ch;
	unsigned int count = 1 + shim_random() % ENTRIES_MAX;
	u64 returned, order;
	struct run *run;
	unsigned int i;
	bool closed;

	closed = relaxed_load(&ch->close_returned);
	returned = relaxed_load(&ch->returned);
	if (closed)
		CHECK(umpsc_queue_closed(&ch->q));

	run = run_new(ch);
	run->producer = p->id;
	run->first = p->accepted;
	run->count = count;
	for (i = 0; i < count; i++)
		run->payload[i] = payload(p->id, p->accepted + i);

	if (!publish(ch, run, &order)) {
		CHECK(ch->ending != LEAVE);
		free(run);
		p->refused++;
		return false;
	}
	/* What returned before this began comes before it. */
	CHECK(order >= returned);
	/* Once closed, or refused, for ever. */
	CHECK(!closed && !p->refused);
	p->accepted += count;
	check_sent(ch, order + count);
	return true;
}

static void *producer_main(void *arg)
{
	struct producer *p = arg;
	struct channel *ch = p->ch;

	shim_self = 0x1000193 * (p->id + 1) ^ now_ms();
	pthread_barrier_wait(&ch->start);
	while (p->accepted < ROUND_ENTRIES && p->refused < 4)
		send_one(p);
	/* END: as refcount_dec_and_test(). */
	__atomic_fetch_sub(&ch->strong, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* CLOSE comes from another thread than the one that receives. */
static void *closer_main(void *arg)
{
	struct channel *ch = arg;

	while (relaxed_load(&ch->returned) < ch->enough)
		sched_yield();
	raw_spin_lock(&ch->q.lock);
	umpsc_queue_close_locked(&ch->q);
	raw_spin_unlock(&ch->q.lock);
	relaxed_store(&ch->close_returned, true);
	return NULL;
}

/* ---- Who only looks ------------------------------------------------------ */

/* As umpsc_channel_info(): under the lock the one number stands still. */
static void look_locked(struct channel *ch)
{
	u64 pushed, before, len, after;

	raw_spin_lock(&ch->q.lock);
	pushed = umpsc_queue_pushed(&ch->q);
	before = READ_ONCE(ch->q.taken);
	len = umpsc_queue_len(&ch->q);
	after = READ_ONCE(ch->q.taken);
	CHECK(pushed == ch->sent && umpsc_queue_pushed(&ch->q) == pushed);
	CHECK(before <= after && after <= pushed);
	CHECK(len <= pushed - before && len >= pushed - after);
	raw_spin_unlock(&ch->q.lock);
}

static void *looker_main(void *arg)
{
	u64 len, pushed, taken, last_pushed = 0, last_taken = 0;
	struct channel *ch = arg;

	shim_self = 0x9e3779b1 ^ now_ms();
	pthread_barrier_wait(&ch->start);
	while (!relaxed_load(&ch->over)) {
		len = umpsc_queue_len(&ch->q);
		pushed = umpsc_queue_pushed(&ch->q);
		/* Not negative, in particular. */
		CHECK(len <= pushed);
		taken = READ_ONCE(ch->q.taken);
		CHECK(pushed >= last_pushed && taken >= last_taken);
		last_pushed = pushed;
		last_taken = taken;
		/* As umpsc_receive_begin() before it has rx_lock: no data race. */
		(void)umpsc_queue_some(&ch->q);
		if (!(shim_random() % 32))
			look_locked(ch);
		if (!(shim_random() % 64))
			sched_yield();
	}
	return NULL;
}

/* ---- The consumer -------------------------------------------------------- */

/* The run is what its producer wrote, and has its place in all orders. */
static void check_run(struct consumer *c, struct run *run, u64 order)
{
	unsigned int i;

	CHECK(run->order == order);
	CHECK(run->producer < PRODUCERS_MAX);
	CHECK(run->first == c->next[run->producer]);
	CHECK(run->count >= 1 && run->count <= ENTRIES_MAX);
	for (i = 0; i < run->count; i++)
		CHECK(run->payload[i] ==
		      payload(run->producer, run->first + i));
	c->next[run->producer] += run->count;
}

/* As umpsc_take_fetched(): what is behind @last. */
static struct umpsc_link *take_fetched(struct consumer *c, struct run *last)
{
	return last ? umpsc_queue_next(&last->link) :
		      umpsc_queue_peek(&c->ch->q);
}

/* As umpsc_take_link(). */
static struct umpsc_link *take_link(struct consumer *c, struct run *last)
{
	struct umpsc_queue *q = &c->ch->q;
	struct umpsc_link *link = take_fetched(c, last);

	if (link || (last && !umpsc_queue_unfetched(q)))
		return link;
	umpsc_queue_fetch(q);
	return take_fetched(c, last);
}

/* As umpsc_take_run(), with what is taken already: @last and @count. */
static bool take_run(struct consumer *c, struct run *last, u64 count)
{
	struct umpsc_link *link;

	if (c->run)
		return true;
	link = take_link(c, last);
	if (!link)
		return false;
	c->run = run_of(link);
	c->left = c->run->count;
	check_run(c, c->run, c->received + count);
	return true;
}

/* As umpsc_take_commit(). */
static void commit(struct consumer *c, struct run *last, u64 count)
{
	/* Where there are limits, or somebody on rx_wait. */
	bool locked = !(shim_random() % 8);
	struct channel *ch = c->ch;
	struct umpsc_link *link, *next;
	bool at_last = !last;
	struct run *run;

	relaxed_store(&ch->taking, c->received + count);
	if (locked)
		raw_spin_lock(&ch->q.lock);
	link = umpsc_queue_pop(&ch->q, last ? &last->link : NULL, count);
	if (locked)
		raw_spin_unlock(&ch->q.lock);
	c->received += count;
	CHECK(ch->q.taken == c->received);

	CHECK(!link == !last);
	if (READ_ONCE(ch->arena)) {
		spare_free(ch);
	} else if (link && !READ_ONCE(ch->spare)) {
		run = run_of(link);
		link = link->next;
		at_last = run == last;
		CHECK(run->order + run->count <= c->received);
		/* SPARE: its next sender sees all that was done to it. */
		smp_store_release(&ch->spare, run);
	}
	for (; link; link = next) {
		run = run_of(link);
		next = link->next;
		at_last = run == last;
		CHECK(run->order + run->count <= c->received);
		free(run);
	}
	CHECK(at_last);
}

/* Receive up to @max entries; the sends of @least of them have returned. */
static void receive(struct consumer *c, u64 max, u64 least)
{
	struct run *last = NULL;
	unsigned int n;
	u64 count = 0;

	while (count < max && take_run(c, last, count)) {
		n = c->left < max - count ? c->left : max - count;
		count += n;
		c->left -= n;
		if (!c->left) {
			last = c->run;
			c->run = NULL;
		}
	}
	/* What has been seen counted is fetched; and what has returned is seen. */
	CHECK(count && (count == max || count >= least));
	commit(c, last, count);
}

static void consume(struct consumer *c)
{
	struct channel *ch = c->ch;
	u64 returned, least, len;
	bool ended;

	while (ch->ending != DRAIN || c->received < ch->enough) {
		/* END: this first. */
		ended = !smp_load_acquire(&ch->strong) ||
			umpsc_queue_closed(&ch->q);
		returned = relaxed_load(&ch->returned);
		len = umpsc_queue_len(&ch->q);
		CHECK(c->received + len >= returned);
		/* As umpsc_receive_begin(), which asks for no number. */
		CHECK(umpsc_queue_some(&ch->q) || !len);
		least = returned > c->received ? returned - c->received : 0;
		if (len)
			receive(c, 1 + shim_random() % 24, least);
		else if (ended)
			break;
		else if (shim_random() % 2)
			/* As umpsc_receiver_unread(), which asks for no count. */
			take_run(c, NULL, 0);
		else
			sched_yield();
	}
}

/* As umpsc_receiver_leave(). */
static void drain(struct consumer *c)
{
	struct channel *ch = c->ch;
	struct umpsc_link *link, *next;
	unsigned int taken = 0;
	struct run *run;
	u64 count;

	relaxed_store(&ch->taking, UINT64_MAX);
	raw_spin_lock(&ch->q.lock);
	count = umpsc_queue_len(&ch->q);
	CHECK(count == ch->sent - c->received);
	link = umpsc_queue_drain_locked(&ch->q);
	raw_spin_unlock(&ch->q.lock);
	relaxed_store(&ch->close_returned, true);

	CHECK(umpsc_queue_closed(&ch->q) && !umpsc_queue_len(&ch->q));
	CHECK(!umpsc_queue_peek(&ch->q) && !umpsc_queue_unfetched(&ch->q));
	if (c->run) {
		CHECK(link == &c->run->link);
		taken = c->run->count - c->left;
	}
	for (; link; link = next) {
		run = run_of(link);
		next = link->next;
		if (run != c->run)
			check_run(c, run, c->received);
		c->received += run->count - taken;
		count -= run->count - taken;
		taken = 0;
		free(run);
	}
	/* The count was of what was linked. */
	CHECK(!count);
	c->run = NULL;
}

/* ---- Rounds -------------------------------------------------------------- */

static void round_run(unsigned int producers, enum ending ending, u64 *entries,
		      u64 *refused)
{
	struct producer p[PRODUCERS_MAX] = {};
	struct channel ch = {};
	struct consumer c = { .ch = &ch };
	pthread_t closer, looker;
	u64 accepted = 0;
	unsigned int i;

	umpsc_queue_init(&ch.q);
	ch.strong = producers;
	ch.ending = ending;
	ch.enough = shim_random() % (producers * ROUND_ENTRIES / 2);
	CHECK(!pthread_barrier_init(&ch.start, NULL, producers + 2));
	for (i = 0; i < producers; i++) {
		p[i].ch = &ch;
		p[i].id = i;
		CHECK(!pthread_create(&p[i].thread, NULL, producer_main,
				      &p[i]));
	}
	CHECK(!pthread_create(&looker, NULL, looker_main, &ch));
	if (ending == CLOSE)
		CHECK(!pthread_create(&closer, NULL, closer_main, &ch));

	pthread_barrier_wait(&ch.start);
	consume(&c);
	if (ending == DRAIN)
		drain(&c);

	for (i = 0; i < producers; i++)
		CHECK(!pthread_join(p[i].thread, NULL));
	if (ending == CLOSE)
		CHECK(!pthread_join(closer, NULL));
	relaxed_store(&ch.over, true);
	CHECK(!pthread_join(looker, NULL));
	for (i = 0; i < producers; i++) {
		CHECK(c.next[i] == p[i].accepted);
		accepted += p[i].accepted;
		*refused += p[i].refused;
	}
	CHECK(c.received == accepted && ch.sent == accepted && !c.run);
	CHECK(ch.q.state ==
	      accepted * UMPSC_ENTRY + (ending == LEAVE ? 0 : UMPSC_CLOSED));
	CHECK(ch.q.taken == accepted && !ch.q.head && !ch.q.fetched);
	CHECK(ch.most <= accepted && !ch.most == !accepted);
	/* Who filled the arena may have been refused, else. */
	CHECK(!ch.spare || !ch.arena || ending != LEAVE);
	*entries += accepted;
	free(ch.spare);
	pthread_barrier_destroy(&ch.start);
}

static int stress(unsigned int producers, u64 ms)
{
	u64 entries = 0, refused = 0, rounds = 0, end = now_ms() + ms;

	CHECK(producers >= 1 && producers <= PRODUCERS_MAX);
	shim_self = now_ms() | 1;
	do {
		round_run(producers, rounds % ENDINGS, &entries, &refused);
		rounds++;
	} while (now_ms() < end || rounds < ENDINGS);
	printf("%u producers: %llu rounds, %llu entries, %llu refused\n",
	       producers, (unsigned long long)rounds,
	       (unsigned long long)entries, (unsigned long long)refused);
	return 0;
}

/* ---- Step by step -------------------------------------------------------- */

static void check_queue(struct umpsc_queue *q, u64 pushed, u64 taken,
			bool closed, struct umpsc_link *fetched,
			struct umpsc_link *unfetched)
{
	CHECK(umpsc_queue_pushed(q) == pushed);
	CHECK(q->taken == taken);
	CHECK(umpsc_queue_len(q) == pushed - taken);
	CHECK(umpsc_queue_some(q) == (pushed != taken));
	CHECK(umpsc_queue_closed(q) == closed);
	CHECK(q->state == pushed * UMPSC_ENTRY + closed);
	CHECK(umpsc_queue_peek(q) == fetched);
	CHECK(umpsc_queue_unfetched(q) == !!unfetched);
	CHECK(q->head == unfetched);
}

static void push(struct umpsc_queue *q, struct umpsc_link *link, u64 entries)
{
	umpsc_link_init(link);
	umpsc_queue_push_locked(q, link, entries);
}

static int unit(void)
{
	struct umpsc_link a, b, c, d;
	struct umpsc_queue q;

	memset(&q, 0x5a, sizeof(q));
	umpsc_queue_init(&q);
	check_queue(&q, 0, 0, false, NULL, NULL);
	CHECK(!shim_lock_is_held(&q.lock));
	raw_spin_lock(&q.lock);
	CHECK(shim_lock_is_held(&q.lock));
	umpsc_queue_fetch_locked(&q);
	check_queue(&q, 0, 0, false, NULL, NULL);

	/* Links are initialised, whatever they hold. */
	memset(&a, 0x5a, sizeof(a));
	push(&q, &a, 1);
	check_queue(&q, 1, 0, false, NULL, &a);
	CHECK(!umpsc_queue_next(&a));
	b.next = &a;
	push(&q, &b, 3);
	check_queue(&q, 4, 0, false, NULL, &a);
	CHECK(umpsc_queue_next(&a) == &b && !umpsc_queue_next(&b));

	/* All of them are fetched; once. */
	umpsc_queue_fetch_locked(&q);
	check_queue(&q, 4, 0, false, &a, NULL);
	umpsc_queue_fetch_locked(&q);
	check_queue(&q, 4, 0, false, &a, NULL);
	CHECK(umpsc_queue_next(&a) == &b && !umpsc_queue_next(&b));

	/* A push leaves the chain that is fetched alone; the next fetch joins it. */
	c.next = &c;
	push(&q, &c, 2);
	check_queue(&q, 6, 0, false, &a, &c);
	CHECK(!umpsc_queue_next(&b) && !umpsc_queue_next(&c));
	umpsc_queue_fetch_locked(&q);
	check_queue(&q, 6, 0, false, &a, NULL);
	CHECK(umpsc_queue_next(&b) == &c && !umpsc_queue_next(&c));
	push(&q, &d, 1);
	umpsc_queue_fetch_locked(&q);
	check_queue(&q, 7, 0, false, &a, NULL);
	CHECK(umpsc_queue_next(&c) == &d && !umpsc_queue_next(&d));

	/* A part of a link's entries, and a link with a part of the next one's. */
	CHECK(umpsc_queue_pop(&q, &a, 2) == &a);
	CHECK(!a.next);
	check_queue(&q, 7, 2, false, &b, NULL);
	CHECK(!umpsc_queue_pop(&q, NULL, 1));
	check_queue(&q, 7, 3, false, &b, NULL);

	/* Several at once, up to the last; a push starts anew. */
	CHECK(umpsc_queue_pop(&q, &c, 3) == &b);
	CHECK(b.next == &c && !c.next);
	check_queue(&q, 7, 6, false, &d, NULL);
	CHECK(umpsc_queue_pop(&q, &d, 1) == &d);
	check_queue(&q, 7, 7, false, NULL, NULL);
	push(&q, &b, 1);
	push(&q, &a, 1);
	check_queue(&q, 9, 7, false, NULL, &b);
	CHECK(umpsc_queue_next(&b) == &a && !umpsc_queue_next(&a));

	/* Closed, and what is in it stays. */
	umpsc_queue_close_locked(&q);
	check_queue(&q, 9, 7, true, NULL, &b);
	umpsc_queue_close_locked(&q);
	umpsc_queue_fetch_locked(&q);
	check_queue(&q, 9, 7, true, &b, NULL);
	CHECK(umpsc_queue_pop(&q, &b, 1) == &b);
	check_queue(&q, 9, 8, true, &a, NULL);
	CHECK(umpsc_queue_drain_locked(&q) == &a);
	CHECK(!a.next);
	check_queue(&q, 9, 9, true, NULL, NULL);
	CHECK(!umpsc_queue_drain_locked(&q));
	check_queue(&q, 9, 9, true, NULL, NULL);

	/* Draining closes, and takes what is fetched before what is not. */
	umpsc_queue_init(&q);
	raw_spin_lock(&q.lock);
	push(&q, &a, 1ULL << 62);
	check_queue(&q, 1ULL << 62, 0, false, NULL, &a);
	umpsc_queue_fetch_locked(&q);
	push(&q, &b, 1);
	check_queue(&q, (1ULL << 62) + 1, 0, false, &a, &b);
	CHECK(umpsc_queue_drain_locked(&q) == &a);
	CHECK(a.next == &b && !b.next);
	check_queue(&q, (1ULL << 62) + 1, (1ULL << 62) + 1, true, NULL, NULL);
	raw_spin_unlock(&q.lock);
	CHECK(!shim_lock_is_held(&q.lock));
	return 0;
}

static void *hold_main(void *arg)
{
	raw_spin_lock(arg);
	return NULL;
}

/* Do what needs the lock while another thread has it; pop needs none. */
static int unheld(const char *what)
{
	struct umpsc_link link;
	struct umpsc_queue q;
	pthread_t thread;

	umpsc_queue_init(&q);
	raw_spin_lock(&q.lock);
	push(&q, &link, 2);
	umpsc_queue_fetch_locked(&q);
	raw_spin_unlock(&q.lock);
	CHECK(!pthread_create(&thread, NULL, hold_main, &q.lock));
	CHECK(!pthread_join(thread, NULL));

	if (!strcmp(what, "push"))
		umpsc_queue_push_locked(&q, &link, 1);
	else if (!strcmp(what, "close"))
		umpsc_queue_close_locked(&q);
	else if (!strcmp(what, "fetch"))
		umpsc_queue_fetch_locked(&q);
	else if (!strcmp(what, "drain"))
		umpsc_queue_drain_locked(&q);
	else if (!strcmp(what, "pop"))
		CHECK(umpsc_queue_pop(&q, &link, 2) == &link &&
		      !umpsc_queue_len(&q));
	else
		return 2;
	return 0;
}

int main(int argc, char **argv)
{
	/* Whoever waits for ever is ended. */
	alarm(50);
	if (argc == 2 && !strcmp(argv[1], "unit"))
		return unit();
	if (argc == 3 && !strcmp(argv[1], "unheld"))
		return unheld(argv[2]);
	if (argc == 3)
		return stress(atoi(argv[1]), atoi(argv[2]));
	fprintf(stderr,
		"usage: stress PRODUCERS MILLISECONDS | unit | unheld WHAT\n");
	return 2;
}
