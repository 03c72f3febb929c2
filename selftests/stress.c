// SPDX-License-Identifier: GPL-2.0-only
/*
 * Many senders, many messages, and every race that the contract decides: nothing is
 * lost, doubled or out of order, counts are exact, and nothing is left behind.
 */
#include "umpsc_race.h"

/* ---- A million messages ----------------------------------------------------- */

#define SENDERS 4
#define EACH 250000
/* Where emulation is slow, senders stop earlier, and the test says at what number. */
#define SECONDS 40

/* What message @n of sender @who looks like: 8 to 200 bytes. */
static size_t message_make(unsigned char *to, __u32 who, __u32 n)
{
	__u64 seed = (__u64)who << 32 | n;
	__u64 r = umpsc_random(&seed);
	size_t len = 8 + r % 193;

	memset(to, r >> 8, len);
	memcpy(to, &who, sizeof(who));
	memcpy(to + sizeof(who), &n, sizeof(n));
	return len;
}

/* Shared with the senders. */
struct tally {
	atomic_uint sent[SENDERS];
};

/* Sends by write and, every eighth time, a batch of up to 64. */
static bool million_send(int tx, __u32 who, struct tally *tally)
{
	__u64 until = umpsc_now_ns() + SECONDS * 1000000000ULL;
	__u64 seed = who;
	struct umpsc_batch b = {};
	unsigned char data[256];
	__u32 n = 0, count, i;
	size_t len;

	while (n < EACH && umpsc_now_ns() < until) {
		if (umpsc_random(&seed) % 8) {
			len = message_make(data, who, n);
			if (write(tx, data, len) != (ssize_t)len)
				return false;
			n++;
			continue;
		}
		count = 1 + umpsc_random(&seed) % 64;
		if (count > EACH - n)
			count = EACH - n;
		b.len = 0;
		for (i = 0; i < count; i++) {
			len = message_make(data, who, n + i);
			umpsc_batch_add(&b, data, len);
		}
		if (umpsc_batch_send(tx, &b) != count)
			return false;
		n += count;
	}
	tally->sent[who] = n;
	return true;
}

/* What has been received, and the part of a message that read() gave. */
struct received {
	__u32 next[SENDERS];
	unsigned char part[256];
	size_t have;
};

/* More bytes of the message that is being put together; false if it is wrong. */
static bool received_bytes(struct received *r, const void *data, size_t len)
{
	unsigned char want[256];
	__u32 who;

	if (len > sizeof(r->part) - r->have)
		return false;
	memcpy(r->part + r->have, data, len);
	r->have += len;
	if (r->have < 8)
		return true;
	memcpy(&who, r->part, sizeof(who));
	if (who >= SENDERS)
		return false;
	/* Of each sender the next one, or it is lost, doubled or out of order. */
	len = message_make(want, who, r->next[who]);
	if (r->have > len || memcmp(want, r->part, r->have))
		return false;
	if (r->have == len) {
		r->next[who]++;
		r->have = 0;
	}
	return true;
}

/* Objects in use in the caches that a channel's memory comes from, or -1. */
static long slab_objects(void)
{
	long common = umpsc_slab_objects("kmalloc-*");
	long own = umpsc_slab_objects("umpsc-*");

	return common < 0 || own < 0 ? -1 : common + own;
}

/* Objects of unrelated work that come and go. */
#define SLAB_NOISE 3000

FIXTURE(million)
{
	int rx;
	int tx[SENDERS];
	struct tally *tally;
	struct umpsc_query before;
};

FIXTURE_SETUP(million)
{
	int i;

	race_query(_metadata, &self->before);
	self->tally = mmap(NULL, sizeof(*self->tally), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->tally);
	ASSERT_EQ(0, umpsc_private(&self->rx, &self->tx[0]));
	for (i = 1; i < SENDERS; i++)
		self->tx[i] = ASSERT_FD(umpsc_clone(self->tx[0], 0));
}

FIXTURE_TEARDOWN(million)
{
	close(self->rx);
	race_expect_nothing_left(_metadata, &self->before);
}

TEST_LONG(million, messages_of_four_processes)
{
	static unsigned char buf[1 << 14] __attribute__((aligned(8)));
	__u64 used, seq = 0, seed = 1, start = umpsc_now_ns(), took;
	struct received r = {};
	const struct umpsc_record *rec;
	struct umpsc_info info;
	pid_t child[SENDERS];
	__u32 total = 0;
	long slab, n;
	size_t pos;
	int i, j;

	slab = slab_objects();
	ASSERT_LT(0, slab);
	for (i = 0; i < SENDERS; i++) {
		child[i] = fork();
		ASSERT_LE(0, child[i]);
		if (child[i])
			continue;
		/* Its own handle only, so that the end comes with the last. */
		for (j = 0; j < SENDERS; j++)
			if (j != i)
				close(self->tx[j]);
		close(self->rx);
		_exit(million_send(self->tx[i], i, self->tally) ? 0 : 1);
	}
	for (i = 0; i < SENDERS; i++)
		close(self->tx[i]);

	for (;;) {
		if (umpsc_random(&seed) % 4 == 0) {
			n = read(self->rx, buf, 1 + umpsc_random(&seed) % 250);
			ASSERT_LE(0, n);
			if (!n)
				break;
			ASSERT_TRUE(received_bytes(&r, buf, n));
			seq += !r.have;
			continue;
		}
		n = umpsc_recv(self->rx, buf, sizeof(buf),
			       1 + umpsc_random(&seed) % 300, UMPSC_NO_DEADLINE,
			       &used, NULL);
		ASSERT_LE(0, n);
		if (!n)
			break;
		for (pos = 0; n; n--) {
			rec = umpsc_batch_next(buf, used, &pos);
			ASSERT_NE(NULL, rec);
			ASSERT_EQ(seq++, rec->seq);
			ASSERT_EQ(r.have ? UMPSC_REST : 0, rec->flags);
			ASSERT_TRUE(received_bytes(&r, umpsc_record_data(rec),
						   rec->len));
			ASSERT_EQ(0, r.have);
			/* Sender ids from 1, in the order in which they were made. */
			ASSERT_EQ(*(__u32 *)r.part + 1, rec->sender);
		}
		ASSERT_EQ(used, pos);
	}
	took = umpsc_now_ns() - start;

	EXPECT_EQ(0, r.have);
	for (i = 0; i < SENDERS; i++) {
		EXPECT_EQ(0, umpsc_wait_child(child[i]));
		EXPECT_EQ(self->tally->sent[i], r.next[i]);
		total += r.next[i];
	}
	EXPECT_EQ(total, seq);
	ASSERT_EQ(0, umpsc_info(self->rx, &info));
	EXPECT_EQ(total, info.sent);
	EXPECT_EQ(total, info.received);
	EXPECT_EQ(info.sent_bytes, info.received_bytes);
	EXPECT_EQ(0, info.messages);
	EXPECT_EQ(0, info.bytes);
	EXPECT_EQ(0, info.memory);
	EXPECT_EQ(0, info.strong);
	/* Where a message leaked, it would be some hundred thousand objects. */
	EXPECT_LE(slab_objects() - slab, SLAB_NOISE);
	EXPECT_LE(SENDERS * 10000, total);
	fprintf(stderr, "# %d processes, %u messages, %llu ms\n", SENDERS,
		total, took / 1000000);
}

/* ---- Who returned before another began ------------------------------------------ */

#define ORDER_SENDERS 3
#define ORDER_EACH 100000
#define ORDER_MS 2000
/* Every so many sends there is a batch. */
#define ORDER_BATCH 8

/* A message: which send it is of, and what the ticket was before that one began. */
struct order_message {
	__u32 who;
	__u32 n;
	__u32 begin;
};

struct order_sender {
	int tx;
	__u32 who;
	atomic_uint *ticket;
	__u32 sent; /* messages */
	__u32 sends;
	__u32 end[ORDER_EACH]; /* of each send: the ticket it took when it had returned */
};

static bool order_send_once(struct order_sender *s, struct umpsc_batch *b)
{
	struct order_message m = { .who = s->who, .n = s->sends };
	__u32 i, count = s->sends % ORDER_BATCH ? 1 : 3;
	bool sent;

	if (count == 1) {
		m.begin = *s->ticket;
		sent = write(s->tx, &m, sizeof(m)) == sizeof(m);
	} else {
		b->len = 0;
		m.begin = *s->ticket;
		for (i = 0; i < count; i++)
			umpsc_batch_add(b, &m, sizeof(m));
		sent = umpsc_batch_send(s->tx, b) == count;
	}
	s->end[s->sends++] = ++*s->ticket;
	s->sent += count;
	return sent;
}

static long order_send_fn(void *arg)
{
	__u64 until = umpsc_chance_until(ORDER_MS);
	struct order_sender *s = arg;
	struct umpsc_batch b = {};
	bool sent = true;

	while (sent && s->sends < ORDER_EACH && umpsc_now_ns() < until)
		sent = order_send_once(s, &b);
	umpsc_batch_free(&b);
	close(s->tx);
	return sent ? 0 : -1;
}

/* Takes all messages up to the end, in their order: how many, or -1. */
static long order_receive(int rx, struct order_message *m, size_t max)
{
	static unsigned char buf[1 << 14] __attribute__((aligned(8)));
	const struct umpsc_record *r;
	size_t pos, total = 0;
	__u64 used;
	long n;

	while ((n = umpsc_recv(rx, buf, sizeof(buf), 256, UMPSC_NO_DEADLINE,
			       &used, NULL)) > 0) {
		for (pos = 0; n; n--) {
			r = umpsc_batch_next(buf, used, &pos);
			if (!r || r->len != sizeof(*m) || total == max)
				return -1;
			memcpy(&m[total++], umpsc_record_data(r), sizeof(*m));
		}
		/* Leave the CPUs to the senders, who are to meet. */
		umpsc_nap_ms(1);
	}
	return n ? -1 : (long)total;
}

FIXTURE(order)
{
	struct umpsc_query before;
};

FIXTURE_SETUP(order)
{
	race_query(_metadata, &self->before);
}

FIXTURE_TEARDOWN(order)
{
	race_expect_nothing_left(_metadata, &self->before);
}

/*
 * Each sender reads a ticket that all share before a send, and takes the next one after
 * it.  So a send had returned before another began where its end is not above the
 * other's begin, and it has to come first.
 */
TEST_LONG(order, send_that_returned_before_another_began_comes_first)
{
	const size_t max = (size_t)ORDER_SENDERS * ORDER_EACH * 3;
	struct order_sender *s = calloc(ORDER_SENDERS, sizeof(*s));
	struct order_message *m = calloc(max, sizeof(*m));
	struct umpsc_thread t[ORDER_SENDERS];
	__u32 sent = 0, latest = 0, turns = 0;
	atomic_uint ticket = 0;
	long i, n;
	int rx;

	ASSERT_TRUE(s && m);
	ASSERT_EQ(0, umpsc_private(&rx, &s[0].tx));
	for (i = 0; i < ORDER_SENDERS; i++) {
		if (i)
			s[i].tx = ASSERT_FD(umpsc_clone(s[0].tx, 0));
		s[i].who = i;
		s[i].ticket = &ticket;
	}
	for (i = 0; i < ORDER_SENDERS; i++)
		ASSERT_EQ(0, umpsc_thread_start(&t[i], order_send_fn, &s[i]));
	n = order_receive(rx, m, max);
	for (i = 0; i < ORDER_SENDERS; i++) {
		ASSERT_TRUE(umpsc_thread_join(&t[i]));
		EXPECT_EQ(0, t[i].ret);
		sent += s[i].sent;
	}
	ASSERT_EQ(sent, n);

	for (i = 0; i < n; i++) {
		ASSERT_LT(m[i].who, ORDER_SENDERS);
		ASSERT_LT(m[i].n, s[m[i].who].sends);
		/* None of those before it began when it had returned. */
		ASSERT_LT(latest, s[m[i].who].end[m[i].n])
		TH_LOG("message %ld, send %u of sender %u, returned before one ahead of it began",
		       i, m[i].n, m[i].who);
		if (m[i].begin > latest)
			latest = m[i].begin;
		turns += i && m[i].who != m[i - 1].who;
	}
	TH_LOG("%ld messages, %u turns", n, turns);
	EXPECT_LT(ORDER_SENDERS, turns);
	close(rx);
	free(m);
	free(s);
}

/* ---- Nothing stays ------------------------------------------------------------ */

FIXTURE(leak)
{
	struct umpsc_query before;
};

FIXTURE_SETUP(leak)
{
	race_query(_metadata, &self->before);
}

FIXTURE_TEARDOWN(leak)
{
	race_expect_nothing_left(_metadata, &self->before);
}

/* Free memory in KiB, or -1. */
static long mem_free(void)
{
	long value = -1;
	char line[256];
	FILE *f = fopen("/proc/meminfo", "re");

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "MemFree: %ld", &value) == 1)
			break;
	fclose(f);
	return value;
}

/* A channel that goes in one of the ways it can, with messages in it or not. */
static bool channel_once(int i)
{
	static unsigned char data[20000];
	struct umpsc_batch b = {};
	int rx, tx, other = -1;
	bool ok = true;

	if (umpsc_private(&rx, &tx))
		return false;
	if (i % 3)
		other = i % 3 == 1 ? umpsc_clone(tx, 0) :
				     umpsc_downgrade(tx, 0);
	if (i % 4)
		ok &= write(tx, data, 1 + i % 300) == 1 + i % 300;
	if (i % 7 == 3)
		ok &= write(tx, data, sizeof(data)) == sizeof(data);
	if (i % 5 == 2) {
		umpsc_batch_add(&b, data, i % 100);
		umpsc_batch_add(&b, data, 9000);
		umpsc_batch_add(&b, data, 1);
		ok &= umpsc_batch_send(tx, &b) == 3;
		umpsc_batch_free(&b);
	}
	if (i % 6 == 5)
		ok &= !umpsc_close(rx);
	if (i % 8 == 1)
		ok &= read(rx, data, 1) >= 0;
	if (i % 2) {
		close(tx);
		close(rx);
	} else {
		close(rx);
		ok &= write(tx, data, 1) == -1 && errno == EPIPE;
		close(tx);
	}
	if (other >= 0)
		close(other);
	return ok;
}

TEST_LONG(leak, channels_that_come_and_go)
{
	const int rounds = 3000;
	long objects, after, kib;
	bool back;
	int i;

	for (i = 0; i < 500; i++)
		ASSERT_TRUE(channel_once(i | 2)) TH_LOG("round %d", i);
	objects = slab_objects();
	kib = mem_free();
	ASSERT_LT(0, objects);
	ASSERT_LT(0, kib);
	for (i = 0; i < rounds; i++)
		ASSERT_TRUE(channel_once(i | 2)) TH_LOG("round %d", i);
	/* RCU and the like give back what they hold in their own time. */
	back = UMPSC_UNTIL((after = slab_objects()) < objects + SLAB_NOISE);
	EXPECT_TRUE(back)
	TH_LOG("slab objects: %ld before, %ld after", objects, after);
	EXPECT_LT(kib - mem_free(), 32 << 10);
}

TEST_LONG(leak, large_messages_give_their_pages_back)
{
	const size_t len = 1 << 20;
	unsigned char *data = malloc(len);
	struct umpsc_info info;
	int rx, tx, i, round;
	long kib;

	ASSERT_NE(NULL, data);
	umpsc_fill(data, len, 1);
	ASSERT_EQ(0, umpsc_private(&rx, &tx));
	ASSERT_EQ(len, write(tx, data, len));
	ASSERT_EQ(len, read(rx, data, len));
	kib = mem_free();
	for (round = 0; round < 5; round++) {
		for (i = 0; i < 20; i++)
			ASSERT_EQ(len, write(tx, data, len));
		ASSERT_EQ(0, umpsc_info(rx, &info));
		EXPECT_EQ(20 * len, info.bytes);
		EXPECT_LE(20 * len, info.memory);
		/* A large message costs no more than its pages. */
		EXPECT_LE(info.memory, 20 * (len + 2 * 4096));
		for (i = 0; i < 20; i++)
			ASSERT_EQ(len, read(rx, data, len));
		ASSERT_EQ(0, umpsc_info(rx, &info));
		EXPECT_EQ(0, info.memory);
	}
	/* 100 MiB went through. */
	EXPECT_LT(kib - mem_free(), 32 << 10);
	close(rx);
	close(tx);
	free(data);
}

TEST_LONG(leak, large_backlog_is_freed_with_its_receiver)
{
	unsigned char data[64] = {};
	struct umpsc_batch b = {};
	long objects, after, kib;
	struct umpsc_info info;
	int rx, tx, i;
	bool back;

	for (i = 0; i < 100; i++)
		umpsc_batch_add(&b, data, i % 64);
	ASSERT_EQ(0, umpsc_private(&rx, &tx));
	objects = slab_objects();
	kib = mem_free();
	for (i = 0; i < 30000; i++)
		ASSERT_EQ(64, write(tx, data, 64));
	for (i = 0; i < 1000; i++)
		ASSERT_EQ(100, umpsc_batch_send(tx, &b));
	ASSERT_EQ(0, umpsc_info(tx, &info));
	EXPECT_EQ(130000, info.messages);
	/* Small ones share pages. */
	EXPECT_LT(objects + 30000 / 40 + 1000, slab_objects());
	close(rx);
	ASSERT_EQ(0, umpsc_info(tx, &info));
	EXPECT_EQ(0, info.messages);
	EXPECT_EQ(0, info.memory);
	EXPECT_EQ(130000, info.discarded);
	back = UMPSC_UNTIL((after = slab_objects()) < objects + SLAB_NOISE);
	EXPECT_TRUE(back)
	TH_LOG("slab objects: %ld before, %ld after", objects, after);
	EXPECT_LT(kib - mem_free(), 32 << 10);
	close(tx);
	umpsc_batch_free(&b);
}

/* ---- Races ------------------------------------------------------------------- */

FIXTURE(race)
{
	struct race race;
	struct racer racers[3];
	struct umpsc_query before;
};

FIXTURE_SETUP(race)
{
	race_query(_metadata, &self->before);
}

FIXTURE_TEARDOWN(race)
{
	race_expect_nothing_left(_metadata, &self->before);
}

/* Which of what it sends message @n of send_some() is: 0 is alone, 1 to 3 are a batch. */
static int some_place(const struct racer *r, int n)
{
	return (n + r->k % 2) % 4;
}

/* What it looks like: no two are alike, but for the empty one in each batch. */
static size_t some_make(const struct racer *r, int n, unsigned char to[5])
{
	static const size_t lens[] = { 1, 3, 0, 5 };
	int who = r - r->race->racers;

	memset(to, who * 32 + n, 5);
	return lens[some_place(r, n)];
}

/* Sends single messages and batches of three until it is refused, at most six times. */
static void send_some(struct racer *r)
{
	struct umpsc_batch b = {};
	unsigned char data[5];
	size_t len;
	long ret;
	int i, n;

	r->accepted = 0;
	r->refused = 0;
	r->err = 0;
	for (i = 0; i < 6; i++) {
		n = r->accepted;
		len = some_make(r, n, data);
		if (some_place(r, n)) {
			b.len = 0;
			for (; some_place(r, n); n++) {
				len = some_make(r, n, data);
				umpsc_batch_add(&b, data, len);
			}
			ret = umpsc_batch_send(r->fd, &b);
		} else {
			ret = write(r->fd, data, len);
		}
		if (ret < 0) {
			r->err = errno;
			r->refused++;
			break;
		}
		r->accepted += ret;
	}
	umpsc_batch_free(&b);
}

/* Takes what there is: how many. */
static int drain(int rx)
{
	unsigned char buf[1024];
	int n = 0;
	long ret;

	while ((ret = umpsc_recv(rx, buf, sizeof(buf), 5, 0, NULL, NULL)) > 0)
		n += ret;
	return ret ? -errno : n;
}

/*
 * Takes what there is of what two of send_some() sent, whose handles are called @ids:
 * how many, all of them whole, each sender's in turn, and no batch torn; or -1.
 */
static int drain_some(int rx, const struct racer *r, const __u64 ids[2])
{
	alignas(8) unsigned char buf[1024];
	const struct umpsc_record *rec;
	int next[2] = {}, n = 0, i = 0;
	unsigned char want[5];
	__u64 used;
	size_t pos, len;
	long ret;

	while ((ret = umpsc_recv(rx, buf, sizeof(buf), 5, 0, &used, NULL)) >
	       0) {
		for (pos = 0; ret && (rec = umpsc_batch_next(buf, used, &pos));
		     ret--) {
			/* In the middle of a batch it is the same one's. */
			if (some_place(&r[i], next[i]) < 2)
				i = rec->sender == ids[1];
			len = some_make(&r[i], next[i], want);
			if (rec->sender != ids[i] || rec->seq != n ||
			    rec->len != len ||
			    memcmp(umpsc_record_data(rec), want, len))
				return -1;
			next[i]++;
			n++;
		}
		if (ret)
			return -1;
	}
	return ret ? -1 : n;
}

TEST_LONG(race, each_send_against_close_is_delivered_or_epipe)
{
	struct racer *r = self->racers;
	__u64 delivered = 0, refused = 0;
	int rx, tx, accepted, i;
	struct umpsc_info info;
	__u64 ids[2];

	ASSERT_TRUE(race_begin(&self->race, r, 2, send_some));
	while (race_next_until(&self->race, delivered && refused)) {
		ASSERT_EQ(0, umpsc_private(&rx, &tx));
		r[0].fd = tx;
		r[1].fd = ASSERT_FD(umpsc_clone(tx, 0));
		r[0].k = self->race.rounds;
		r[1].k = self->race.rounds / 2;
		for (i = 0; i < 2; i++) {
			ASSERT_EQ(0, umpsc_info(r[i].fd, &info));
			ids[i] = info.handle;
		}
		race_go(&self->race);
		ASSERT_EQ(0, umpsc_close(rx));
		/* What was accepted by then is there now; no more comes. */
		accepted = drain_some(rx, r, ids);
		race_wait(&self->race);
		ASSERT_EQ(r[0].accepted + r[1].accepted, accepted);
		ASSERT_EQ(0, drain(rx));
		ASSERT_EQ(r[0].refused ? EPIPE : 0, r[0].err);
		ASSERT_EQ(r[1].refused ? EPIPE : 0, r[1].err);
		ASSERT_EQ(0, umpsc_info(rx, &info));
		ASSERT_EQ(accepted, info.sent);
		ASSERT_EQ(accepted, info.received);
		ASSERT_EQ(r[0].refused + r[1].refused, info.refused_closed);
		ASSERT_EQ(0, info.messages);
		ASSERT_EQ(0, info.memory);
		ASSERT_EQ(2, info.strong);
		race_was(&self->race,
			 r[0].refused && r[1].refused && accepted < 4);
		delivered += accepted;
		refused += info.refused_closed;
		close(rx);
		close(tx);
		close(r[1].fd);
	}
	ASSERT_TRUE(race_end(&self->race, r));
	TH_LOG("%u rounds, %llu delivered, %llu refused", self->race.rounds,
	       delivered, refused);
	EXPECT_LT(0, delivered);
	EXPECT_LT(0, refused);
}

TEST_LONG(race, each_send_against_receiver_drop_is_discarded_or_epipe)
{
	struct racer *r = self->racers;
	__u64 discarded = 0, refused = 0;
	struct umpsc_info info;
	struct umpsc_query q;
	int rx, tx;

	ASSERT_TRUE(race_begin(&self->race, r, 2, send_some));
	while (race_next_until(&self->race, discarded && refused)) {
		ASSERT_EQ(0, umpsc_private(&rx, &tx));
		r[0].fd = tx;
		r[1].fd = ASSERT_FD(umpsc_clone(tx, 0));
		r[0].k = self->race.rounds;
		r[1].k = self->race.rounds / 2;
		race_go(&self->race);
		close(rx);
		race_wait(&self->race);
		/* Freed by now, all of it, although the senders are there. */
		ASSERT_EQ(0, umpsc_info(tx, &info));
		ASSERT_EQ(r[0].accepted + r[1].accepted, info.sent);
		ASSERT_EQ(info.sent, info.discarded);
		ASSERT_EQ(0, info.received);
		ASSERT_EQ(r[0].refused ? EPIPE : 0, r[0].err);
		ASSERT_EQ(r[1].refused ? EPIPE : 0, r[1].err);
		ASSERT_EQ(r[0].refused + r[1].refused, info.refused_closed);
		ASSERT_EQ(0, info.messages);
		ASSERT_EQ(0, info.bytes);
		ASSERT_EQ(0, info.memory);
		ASSERT_EQ(0, umpsc_query(tx, &q));
		ASSERT_EQ(self->before.messages, q.messages);
		ASSERT_EQ(self->before.bytes, q.bytes);
		race_was(&self->race,
			 r[0].refused && r[1].refused && info.discarded < 4);
		discarded += info.discarded;
		refused += info.refused_closed;
		close(tx);
		close(r[1].fd);
	}
	ASSERT_TRUE(race_end(&self->race, r));
	TH_LOG("%u rounds, %llu discarded, %llu refused", self->race.rounds,
	       discarded, refused);
	EXPECT_LT(0, discarded);
	EXPECT_LT(0, refused);
}

/* Sends k messages and is gone. */
static void send_and_go(struct racer *r)
{
	int i;

	r->accepted = 0;
	for (i = 0; i < r->k; i++)
		r->accepted += write(r->fd, "x", 1) == 1;
	close(r->fd);
}

TEST_LONG(race, end_never_overtakes_a_message)
{
	struct racer *r = self->racers;
	unsigned char buf[256];
	struct umpsc_info info;
	int rx, tx, n, how;
	long ret;

	ASSERT_TRUE(race_begin(&self->race, r, 2, send_and_go));
	while (race_next(&self->race)) {
		ASSERT_EQ(0, umpsc_private(&rx, &tx));
		r[0].fd = tx;
		r[1].fd = ASSERT_FD(umpsc_clone(tx, 0));
		r[0].k = self->race.rounds % 3;
		r[1].k = self->race.rounds / 3 % 3;
		how = self->race.rounds % 4;
		race_go(&self->race);
		for (n = 0;; n += ret) {
			if (how > 1) {
				ret = umpsc_poll(rx, UMPSC_PATIENCE * 1000);
				ASSERT_LT(0, ret);
			}
			ret = how % 2 ?
				      read(rx, buf, sizeof(buf)) :
				      umpsc_recv(rx, buf, sizeof(buf), 1,
						 UMPSC_NO_DEADLINE, NULL, NULL);
			ASSERT_LE(0, ret);
			if (!ret)
				break;
		}
		race_wait(&self->race);
		ASSERT_EQ(r[0].k + r[1].k, n);
		ASSERT_EQ(r[0].k, r[0].accepted);
		ASSERT_EQ(r[1].k, r[1].accepted);
		ASSERT_EQ(0, umpsc_info(rx, &info));
		ASSERT_EQ(n, info.received);
		ASSERT_EQ(n, info.sent);
		ASSERT_EQ(0, info.strong);
		ASSERT_EQ(UMPSC_STATE_CLAIMED | UMPSC_STATE_ENDED, info.state);
		close(rx);
	}
	ASSERT_TRUE(race_end(&self->race, r));
	TH_LOG("%u rounds", self->race.rounds);
}

/* And what the weak sender other says then. */
static void close_and_poll(struct racer *r)
{
	r->ret = close(r->fd);
	r->err = umpsc_poll(r->other, 0);
}

TEST_LONG(race, upgrade_or_the_last_drop_exactly_one_wins)
{
	struct racer *r = self->racers;
	int rx, tx, weak, up, won = 0, lost = 0;
	struct umpsc_info info;
	bool from_rx;

	ASSERT_TRUE(race_begin(&self->race, r, 1, close_and_poll));
	while (race_next_until(&self->race, won && lost)) {
		ASSERT_EQ(0,
			  umpsc_private_with(&rx, &tx, 0, O_NONBLOCK, 0, NULL));
		weak = ASSERT_FD(umpsc_downgrade(tx, 0));
		r[0].fd = tx;
		r[0].other = weak;
		from_rx = self->race.rounds % 2;
		race_go(&self->race);
		up = from_rx ? umpsc_sender(rx, 0) : umpsc_upgrade(weak, 0);
		race_wait(&self->race);
		race_was(&self->race, up >= 0);
		/* If it was zero for a moment, it is for ever. */
		ASSERT_EQ(up >= 0 ? 0 : POLLHUP, r[0].err);
		if (up >= 0) {
			won++;
			ASSERT_EQ(0, umpsc_info(weak, &info));
			ASSERT_EQ(1, info.strong);
			ASSERT_EQ(1, info.weak);
			ASSERT_EQ(UMPSC_STATE_CLAIMED, info.state);
			ASSERT_EQ(0, umpsc_poll(rx, 0));
			ASSERT_EQ(0, umpsc_poll(weak, 0));
			ASSERT_EQ(1, write(up, "x", 1));
			ASSERT_EQ(1, drain(rx) == -EAGAIN);
			close(up);
		} else {
			lost++;
			ASSERT_EQ(ESHUTDOWN, errno);
		}
		/* Now it is zero, for ever. */
		ASSERT_EQ(0, umpsc_info(weak, &info));
		ASSERT_EQ(0, info.strong);
		ASSERT_EQ(UMPSC_STATE_CLAIMED | UMPSC_STATE_ENDED, info.state);
		ASSERT_EQ(POLLHUP, umpsc_poll(weak, 0));
		ASSERT_EQ(0, drain(rx));
		ASSERT_EQ(-1, umpsc_upgrade(weak, 0));
		ASSERT_EQ(ESHUTDOWN, errno);
		ASSERT_EQ(-1, umpsc_sender(rx, 0));
		ASSERT_EQ(ESHUTDOWN, errno);
		close(rx);
		close(weak);
	}
	ASSERT_TRUE(race_end(&self->race, r));
	TH_LOG("%u rounds: won %d, lost %d", self->race.rounds, won, lost);
	EXPECT_LT(0, won);
	EXPECT_LT(0, lost);
}

/* Sends so often that others meet it in the middle of it. */
static void send_ten(struct racer *r)
{
	int i;

	r->accepted = 0;
	for (i = 0; i < 10; i++)
		r->accepted += write(r->fd, "other", 5) == 5;
}

/* What has been sent shows, in every way to ask, while others are in the middle of it. */
TEST_LONG(race, returned_send_shows_while_others_send)
{
	struct racer *r = self->racers;
	struct umpsc_info info;
	int rx, tx, i;

	ASSERT_EQ(0, umpsc_private_with(&rx, &tx, 0, O_NONBLOCK, 0, NULL));
	ASSERT_TRUE(race_begin(&self->race, r, 2, send_ten));
	for (i = 0; i < 2; i++)
		r[i].fd = ASSERT_FD(umpsc_clone(tx, 0));
	/* Their sends are to be met after this one, so it does not wait. */
	self->race.delay = 200;
	while (race_next(&self->race)) {
		race_go(&self->race);
		ASSERT_EQ(3, write(tx, "own", 3));
		for (i = 0; i < 20; i++)
			ASSERT_EQ(UMPSC_POLL_IN, umpsc_poll(rx, 0))
		TH_LOG("round %u", self->race.rounds);
		ASSERT_EQ(0, umpsc_info(rx, &info));
		ASSERT_LE(1, info.messages);
		ASSERT_LE(3, umpsc_fionread(rx));
		race_wait(&self->race);
		ASSERT_EQ(10, r[0].accepted);
		ASSERT_EQ(10, r[1].accepted);
		ASSERT_EQ(-EAGAIN, drain(rx));
		ASSERT_EQ(0, umpsc_poll(rx, 0));
	}
	ASSERT_TRUE(race_end(&self->race, r));
	TH_LOG("%u rounds", self->race.rounds);
	for (i = 0; i < 2; i++)
		close(r[i].fd);
	close(rx);
	close(tx);
}

/* Handles of every kind that come and go; what is left is what was there. */
static void churn(struct racer *r)
{
	int i, tx, weak, up;

	r->err = 0;
	for (i = 0; i < 20; i++) {
		tx = umpsc_clone(r->fd, 0);
		weak = umpsc_downgrade(tx, 0);
		up = umpsc_upgrade(weak, 0);
		if (tx < 0 || weak < 0 || up < 0)
			r->err = errno;
		if (write(up, "x", 1) != 1)
			r->err = errno;
		close(tx);
		close(up);
		close(weak);
	}
}

TEST_LONG(race, counts_are_exact_after_handles_came_and_went)
{
	struct racer *r = self->racers;
	struct umpsc_info info;
	int rx, tx, i, taken = 0;
	unsigned int sent = 0;

	ASSERT_EQ(0, umpsc_private(&rx, &tx));
	ASSERT_TRUE(race_begin(&self->race, r, 3, churn));
	for (i = 0; i < 3; i++)
		r[i].fd = tx;
	while (self->race.rounds < 100 && race_next(&self->race)) {
		race_go(&self->race);
		ASSERT_EQ(0, umpsc_info(rx, &info));
		/* Each of the three has at most two and one more. */
		ASSERT_LE(1, info.strong);
		ASSERT_LE(info.strong, 7);
		ASSERT_LE(info.weak, 3);
		ASSERT_EQ(info.sent, info.received + info.messages);
		race_wait(&self->race);
		sent += 60;
		for (i = 0; i < 3; i++)
			ASSERT_EQ(0, r[i].err);
		ASSERT_EQ(0, umpsc_info(rx, &info));
		ASSERT_EQ(1, info.strong);
		ASSERT_EQ(0, info.weak);
		ASSERT_EQ(sent, info.sent);
		while (taken < sent) {
			unsigned char buf[4096];

			i = umpsc_recv(rx, buf, sizeof(buf), 64, 0, NULL, NULL);
			ASSERT_LT(0, i);
			taken += i;
		}
	}
	ASSERT_TRUE(race_end(&self->race, r));
	TH_LOG("%u rounds", self->race.rounds);
	close(rx);
	close(tx);
}

/*
 * Messages of units, each of which tells its message and its place there; every
 * second has many.  A read() gets whole units, however short it is.
 */
#define SHARED 120
#define SHARED_UNITS 12

static __u16 shared_unit(int n, int place)
{
	return n * SHARED_UNITS + place;
}

static int shared_units(int n)
{
	return n % 2 ? SHARED_UNITS : 1;
}

/* With @few only some at a time, so that they get no page together. */
static bool shared_send(int tx, bool few)
{
	__u16 units[SHARED_UNITS];
	ssize_t len;
	int n, i;

	for (n = 0; n < SHARED; n++) {
		for (i = 0; i < shared_units(n); i++)
			units[i] = shared_unit(n, i);
		len = i * sizeof(*units);
		if (write(tx, units, len) != len)
			return false;
		if (few && n % 4 == 3)
			umpsc_nap_us(1);
	}
	return true;
}

/* The units that a thread got, as it got them. */
struct share {
	__u16 got[SHARED * SHARED_UNITS];
	int n;
};

static struct share shares[3];

/* Adds @len bytes of one message; false if that is no run of units or goes back. */
static bool share_add(struct share *s, const void *data, size_t len)
{
	size_t i, n = len / sizeof(*s->got);
	__u16 *got = s->got + s->n;

	if (!n || len % sizeof(*got) || n > ARRAY_SIZE(s->got) - s->n)
		return false;
	memcpy(got, data, len);
	for (i = 1; i < n; i++)
		if (got[i] != got[i - 1] + 1)
			return false;
	if (s->n && got[0] <= got[-1])
		return false;
	s->n += n;
	return got[0] / SHARED_UNITS == got[n - 1] / SHARED_UNITS;
}

/* A record is a message from where it was to its end, and its header says so. */
static bool share_add_record(struct share *s, const struct umpsc_record *rec)
{
	const void *data = umpsc_record_data(rec);
	__u16 first;

	memcpy(&first, data, sizeof(first));
	return share_add(s, data, rec->len) &&
	       rec->seq == first / SHARED_UNITS &&
	       rec->flags == (first % SHARED_UNITS ? UMPSC_REST : 0) &&
	       s->got[s->n - 1] ==
		       shared_unit(rec->seq, shared_units(rec->seq) - 1);
}

/* Blocking receives through one file from several threads, and parts of messages. */
static void receive_to_the_end(struct racer *r)
{
	alignas(8) unsigned char buf[512];
	struct share *s = &shares[r - r->race->racers];
	const struct umpsc_record *rec;
	size_t pos, max;
	__u64 used;
	long ret;

	s->n = 0;
	for (;;) {
		max = umpsc_random(&r->seed) % 8;
		if (max > 3) {
			ret = read(r->fd, buf, (max - 3) * sizeof(*s->got));
			if (ret > 0 && !share_add(s, buf, ret))
				ret = -EBADMSG;
			/* So that others get parts of the same message. */
			sched_yield();
		} else {
			ret = umpsc_recv(r->fd, buf, sizeof(buf), max + 1,
					 UMPSC_NO_DEADLINE, &used, NULL);
			for (pos = 0; ret > 0 && pos < used;) {
				rec = umpsc_batch_next(buf, used, &pos);
				if (!rec || !share_add_record(s, rec))
					ret = -EBADMSG;
			}
		}
		if (ret <= 0)
			break;
	}
	r->err = ret == -1 ? errno : -ret;
}

/*
 * Has each unit come to exactly one thread?  Then, how many messages went to several of
 * them; else -1.
 */
static int shares_joined(void)
{
	unsigned char owner[SHARED * SHARED_UNITS] = {};
	int i, k, n, several = 0, all = 0;
	const unsigned char *units;
	bool parted;

	for (i = 0; i < ARRAY_SIZE(shares); i++) {
		for (k = 0; k < shares[i].n; k++, all++) {
			n = shares[i].got[k];
			if (n >= ARRAY_SIZE(owner) || owner[n])
				return -1;
			owner[n] = i + 1;
		}
	}
	for (n = 0; n < SHARED; n++) {
		units = &owner[shared_unit(n, 0)];
		parted = false;
		for (k = 0; k < shared_units(n); k++, all--) {
			if (!units[k])
				return -1;
			parted |= units[k] != units[0];
		}
		several += parted;
	}
	return all ? -1 : several;
}

TEST_LONG(race, receives_through_one_file_get_each_message_once)
{
	struct racer *r = self->racers;
	int rx, tx, i, several, parted = 0;
	struct umpsc_info info;

	ASSERT_TRUE(race_begin(&self->race, r, 3, receive_to_the_end));
	while (self->race.rounds < 500 &&
	       race_next_until(&self->race, parted)) {
		ASSERT_EQ(0, umpsc_private(&rx, &tx));
		for (i = 0; i < 3; i++)
			r[i].fd = rx;
		/* They wait for each message, or fight for what is there. */
		if (self->race.rounds / 2 % 2) {
			ASSERT_TRUE(shared_send(tx, false));
			race_go(&self->race);
		} else {
			race_go(&self->race);
			ASSERT_TRUE(shared_send(tx, self->race.rounds / 4 % 2));
		}
		if (self->race.rounds % 2) {
			ASSERT_EQ(0, umpsc_close(rx));
		} else {
			close(tx);
			tx = -1;
		}
		race_wait(&self->race);
		for (i = 0; i < 3; i++)
			ASSERT_EQ(0, r[i].err);
		several = shares_joined();
		ASSERT_LE(0, several);
		parted += several;
		ASSERT_EQ(0, umpsc_info(rx, &info));
		ASSERT_EQ(SHARED, info.received);
		ASSERT_EQ(0, info.messages);
		ASSERT_EQ(0, info.memory);
		close(rx);
		if (tx >= 0)
			close(tx);
	}
	ASSERT_TRUE(race_end(&self->race, r));
	TH_LOG("%u rounds, %d messages went to several threads",
	       self->race.rounds, parted);
	EXPECT_LT(0, parted);
}

/* ---- INFO in the middle of it ---------------------------------------------------- */

/* Every message has as many bytes, and all are in a batch of so many or alone. */
#define INFO_LEN 40
#define INFO_BATCH 5
/* So many may wait before the sender does. */
#define INFO_BACKLOG 2000
#define INFO_MS 1000

/* The handles of info_send_fn() and info_receive_fn(), and what they tell each other. */
struct info_pair {
	int rx;
	int tx;
	atomic_bool stop;
	atomic_ulong sent;
	atomic_ulong received;
};

/* Sends, one or a batch, until it is to stop; and then goes, so that the end comes. */
static long info_send_fn(void *arg)
{
	unsigned char data[INFO_LEN] = {};
	struct info_pair *p = arg;
	struct umpsc_batch b = {};
	bool sent = true;
	int i;

	for (i = 0; i < INFO_BATCH; i++)
		umpsc_batch_add(&b, data, sizeof(data));
	for (i = 0; sent && !p->stop; i++) {
		if (i % 3) {
			sent = write(p->tx, data, sizeof(data)) == INFO_LEN;
			p->sent++;
		} else {
			sent = umpsc_batch_send(p->tx, &b) == INFO_BATCH;
			p->sent += INFO_BATCH;
		}
		while (p->sent - p->received > INFO_BACKLOG && !p->stop)
			umpsc_nap_us(50);
	}
	umpsc_batch_free(&b);
	close(p->tx);
	return sent ? 0 : -1;
}

/* Receives by RECV, whole batches or parts of them, and by read(), half a message or one. */
static long info_receive_fn(void *arg)
{
	alignas(8) unsigned char buf[1024];
	struct info_pair *p = arg;
	bool half = false;
	__u64 seed = 1, r;
	long ret;

	do {
		r = umpsc_random(&seed);
		/* So that some wait, and are received with others behind them. */
		if (!(r >> 32 & 31) && !p->stop)
			umpsc_nap_us(200);
		if (r % 4) {
			ret = umpsc_recv(p->rx, buf, sizeof(buf), 2 + r / 4 % 7,
					 UMPSC_NO_DEADLINE, NULL, NULL);
			half = false;
			p->received += ret;
		} else {
			ret = read(p->rx, buf,
				   r / 4 % 2 ? INFO_LEN : INFO_LEN / 2);
			half = !half && ret == INFO_LEN / 2;
			p->received += ret > 0 && !half;
		}
	} while (ret > 0);
	return ret;
}

/* A sender, a receiver, and a third handle that asks all the time. */
TEST_LONG(race, info_is_of_one_instant_while_messages_come_and_go)
{
	__u64 until = umpsc_chance_until(INFO_MS), last = 0, looks = 0;
	__u64 moved = 0, most = until + UMPSC_PATIENCE * 1000000000ULL;
	struct umpsc_thread sender, receiver;
	struct info_pair pair = {};
	struct umpsc_info info;
	int weak;

	ASSERT_EQ(0, umpsc_private(&pair.rx, &pair.tx));
	weak = ASSERT_FD(umpsc_downgrade(pair.tx, 0));
	ASSERT_EQ(0, umpsc_thread_start(&receiver, info_receive_fn, &pair));
	ASSERT_EQ(0, umpsc_thread_start(&sender, info_send_fn, &pair));
	while (umpsc_now_ns() < (moved < 10 ? most : until)) {
		ASSERT_EQ(0, umpsc_info(weak, &info));
		looks++;
		moved += info.messages && info.received != last;
		last = info.received;
		ASSERT_EQ(info.messages * INFO_LEN, info.bytes);
		ASSERT_EQ(info.received * INFO_LEN, info.received_bytes);
		ASSERT_EQ(info.sent * INFO_LEN, info.sent_bytes);
		ASSERT_EQ(info.sent,
			  info.received + info.messages + info.discarded);
		ASSERT_EQ(0, info.discarded);
		/* A run is held until the last of its messages was taken. */
		ASSERT_EQ(!info.messages, !info.memory);
		ASSERT_LE(info.messages, info.most_messages);
		ASSERT_LE(info.bytes, info.most_bytes);
	}
	pair.stop = true;
	ASSERT_TRUE(umpsc_thread_join(&sender));
	ASSERT_TRUE(umpsc_thread_join(&receiver));
	EXPECT_EQ(0, sender.ret);
	EXPECT_EQ(0, receiver.ret);
	ASSERT_EQ(0, umpsc_info(weak, &info));
	EXPECT_EQ(pair.sent, info.received);
	EXPECT_EQ(info.sent, info.received);
	EXPECT_EQ(0, info.messages);
	EXPECT_EQ(0, info.bytes);
	EXPECT_EQ(0, info.memory);
	TH_LOG("%llu looks at %llu messages; in %llu some were queued and others just received",
	       looks, info.sent, moved);
	/* They did go on together. */
	EXPECT_LE(10, moved);
	close(pair.rx);
	close(weak);
}

/* ---- Races on a node ------------------------------------------------------------ */

#define NODE "stress-test"

FIXTURE(node_race)
{
	struct race race;
	struct racer racers[3];
	struct umpsc_query before;
};

FIXTURE_VARIANT(node_race)
{
	__u32 flags;
};

FIXTURE_VARIANT_ADD(node_race, ordinary)
UMPSC_VARIANT(.flags = 0);

FIXTURE_VARIANT_ADD(node_race, standing)
UMPSC_VARIANT(.flags = UMPSC_STANDING);

FIXTURE_SETUP(node_race)
{
	umpsc_node_remove(NODE);
	race_query(_metadata, &self->before);
	ASSERT_EQ(0, umpsc_node_create(NODE, variant->flags, NULL));
}

FIXTURE_TEARDOWN(node_race)
{
	umpsc_node_remove(NODE);
	race_expect_nothing_left(_metadata, &self->before);
}

/* echo > NODE */
static void join_send_drop(struct racer *r)
{
	int fd = umpsc_open(NODE, O_WRONLY);

	r->err = 0;
	if (fd < 0 || write(fd, &r->k, sizeof(r->k)) != sizeof(r->k))
		r->err = errno;
	close(fd);
}

TEST_LONG(node_race, every_message_of_who_comes_and_goes_is_received_once)
{
	const bool standing = variant->flags & UMPSC_STANDING;
	struct racer *r = self->racers;
	struct umpsc_info info;
	int manager, rx = -1, i, k, n, ends = 0;
	__u32 seen;
	ssize_t ret;

	manager = ASSERT_FD(umpsc_open(NODE, O_RDWR));
	ASSERT_TRUE(race_begin(&self->race, r, 3, join_send_drop));
	while (race_next(&self->race)) {
		for (i = 0; i < 3; i++)
			r[i].k = self->race.rounds * 4 + i;
		race_go(&self->race);
		for (n = 0, seen = 0; n < 3;) {
			/* Claims are this thread's alone, and never EBUSY. */
			if (rx < 0)
				rx = ASSERT_FD(umpsc_open(NODE, O_RDONLY));
			ret = read(rx, &k, sizeof(k));
			ASSERT_LE(0, ret);
			if (!ret) {
				/* All senders of this channel have gone. */
				ASSERT_FALSE(standing);
				ends++;
				close(rx);
				rx = -1;
				continue;
			}
			ASSERT_EQ(sizeof(k), ret);
			ASSERT_EQ(self->race.rounds, k / 4);
			ASSERT_LE(k % 4, 2);
			ASSERT_EQ(0, seen & 1U << k % 4);
			seen |= 1U << k % 4;
			n++;
			/* A standing one goes on with the next receiver. */
			if (standing && n == self->race.rounds % 4) {
				close(rx);
				rx = -1;
			}
		}
		race_wait(&self->race);
		for (i = 0; i < 3; i++)
			ASSERT_EQ(0, r[i].err);
		ASSERT_EQ(0, umpsc_info(manager, &info));
		ASSERT_EQ(0, info.strong);
		ASSERT_EQ(0, info.messages);
		ASSERT_EQ(0, info.memory);
		ASSERT_EQ(info.sent, info.received);
		if (standing)
			ASSERT_EQ(self->race.rounds * 3, info.received);
		if (!standing && rx >= 0) {
			ASSERT_EQ(0, read(rx, &k, sizeof(k)));
			close(rx);
			rx = -1;
		}
	}
	ASSERT_TRUE(race_end(&self->race, r));
	TH_LOG("%u rounds, %d more channels", self->race.rounds, ends);
	close(rx);
	close(manager);
}

static void claim(struct racer *r)
{
	r->fd = umpsc_open(NODE, O_RDONLY | O_NONBLOCK);
	r->err = r->fd < 0 ? errno : 0;
}

TEST_LONG(node_race, exactly_one_of_several_claims_wins)
{
	struct racer *r = self->racers;
	struct umpsc_info info;
	int manager, rx, err, i, won;

	manager = ASSERT_FD(umpsc_open(NODE, O_RDWR));
	ASSERT_TRUE(race_begin(&self->race, r, 3, claim));
	while (race_next(&self->race)) {
		race_go(&self->race);
		rx = umpsc_open(NODE, O_RDONLY | O_NONBLOCK);
		err = rx < 0 ? errno : 0;
		race_wait(&self->race);
		won = rx >= 0;
		ASSERT_EQ(won ? 0 : EBUSY, err);
		for (i = 0; i < 3; i++) {
			won += r[i].fd >= 0;
			ASSERT_EQ(r[i].fd >= 0 ? 0 : EBUSY, r[i].err);
		}
		ASSERT_EQ(1, won);
		ASSERT_EQ(0, umpsc_info(manager, &info));
		ASSERT_TRUE(info.state & UMPSC_STATE_CLAIMED);
		for (i = 0; i < 3; i++)
			if (r[i].fd >= 0)
				close(r[i].fd);
		if (rx >= 0)
			close(rx);
	}
	ASSERT_TRUE(race_end(&self->race, r));
	TH_LOG("%u rounds", self->race.rounds);
	close(manager);
}

/* Opens for writing and sends until the channel or the node is gone. */
static void join_and_send(struct racer *r)
{
	int fd = umpsc_open(NODE, O_WRONLY);
	int i;

	r->accepted = 0;
	r->err = 0;
	if (fd < 0) {
		r->err = errno;
		return;
	}
	for (i = 0; i < 4; i++) {
		if (write(fd, "x", 1) != 1) {
			r->err = errno;
			break;
		}
		r->accepted++;
	}
	close(fd);
}

TEST_LONG(node_race, removal_against_senders_leaves_nothing)
{
	struct racer *r = self->racers;
	int i, accepted = 0, refused = 0;
	struct umpsc_query q;

	ASSERT_TRUE(race_begin(&self->race, r, 2, join_and_send));
	while (race_next(&self->race)) {
		race_go(&self->race);
		ASSERT_EQ(0, umpsc_node_remove(NODE));
		race_wait(&self->race);
		for (i = 0; i < 2; i++) {
			ASSERT_TRUE(!r[i].err || r[i].err == EPIPE ||
				    r[i].err == ENXIO || r[i].err == ENOENT)
			TH_LOG("%s", strerror(r[i].err));
			accepted += r[i].accepted;
			refused += !!r[i].err;
		}
		race_was(&self->race, r[0].accepted + r[1].accepted < 2);
		race_query(_metadata, &q);
		ASSERT_EQ(self->before.messages, q.messages);
		ASSERT_EQ(self->before.bytes, q.bytes);
		ASSERT_EQ(self->before.channels, q.channels);
		ASSERT_EQ(self->before.nodes, q.nodes);
		ASSERT_EQ(0, umpsc_node_create(NODE, variant->flags, NULL));
		/* devtmpfs makes the file before CREATE returns. */
	}
	ASSERT_TRUE(race_end(&self->race, r));
	TH_LOG("%u rounds: %d accepted, %d refused", self->race.rounds,
	       accepted, refused);
}

/* A number each time, without end, through one handle. */
static void send_numbers(struct racer *r)
{
	int i;

	for (i = 0; i < 5; i++, r->k++)
		if (write(r->fd, &r->k, sizeof(r->k)) != sizeof(r->k))
			r->err = errno;
}

FIXTURE(succession)
{
	struct race race;
	struct racer racers[1];
	struct umpsc_query before;
};

FIXTURE_SETUP(succession)
{
	umpsc_node_remove(NODE);
	race_query(_metadata, &self->before);
	ASSERT_EQ(0, umpsc_node_create(NODE, UMPSC_STANDING, NULL));
}

FIXTURE_TEARDOWN(succession)
{
	umpsc_node_remove(NODE);
	race_expect_nothing_left(_metadata, &self->before);
}

/* A receiver is replaced again and again, also in the middle of a message. */
TEST_LONG(succession, successor_goes_on_with_the_next_message)
{
	struct racer *r = self->racers;
	int rx, n, k, next = 0;
	unsigned char part[2];
	ssize_t ret;

	ASSERT_TRUE(race_begin(&self->race, r, 1, send_numbers));
	r[0].fd = ASSERT_FD(umpsc_open(NODE, O_WRONLY));
	while (race_next(&self->race)) {
		race_go(&self->race);
		rx = ASSERT_FD(umpsc_open(NODE, O_RDONLY | O_NONBLOCK));
		for (n = self->race.rounds % 7; n; n--) {
			ret = read(rx, &k, sizeof(k));
			if (ret < 0) {
				ASSERT_EQ(EAGAIN, errno);
				continue;
			}
			ASSERT_EQ(sizeof(k), ret);
			ASSERT_EQ(next++, k);
		}
		ret = read(rx, part, sizeof(part));
		ASSERT_TRUE(ret == 2 || (ret == -1 && errno == EAGAIN));
		close(rx);
		race_wait(&self->race);
		ASSERT_EQ(0, r[0].err);
	}
	close(r[0].fd);
	rx = ASSERT_FD(umpsc_open(NODE, O_RDONLY | O_NONBLOCK));
	while (read(rx, &k, sizeof(k)) == sizeof(k))
		ASSERT_EQ(next++, k);
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_EQ(r[0].k, next);
	close(rx);
	ASSERT_TRUE(race_end(&self->race, r));
	TH_LOG("%u rounds, %d messages", self->race.rounds, next);
}

TEST_HARNESS_MAIN
