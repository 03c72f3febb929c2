/* SPDX-License-Identifier: MIT */
/*
 * What the files of umpsc-bench share.
 *
 * A subject is one row of the result: one peer in one case.  Subjects of a group
 * are opened together and measured in turns, so that whatever the machine does
 * meanwhile meets all of them.
 */
#ifndef _UMPSC_BENCH_H
#define _UMPSC_BENCH_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <liburing.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define NORETURN __attribute__((noreturn))

/* The most messages of a batch, and bytes of a message. */
#define BATCH_MAX 64
#define BYTES_MAX 65536

#define MILLION 1000000

/**
 * struct conduit - two ends that a message goes through
 * @tx: where it goes in; an id for System V, else an fd
 * @rx: where it comes out
 * @path: its name, if it has one
 */
struct conduit {
	int tx;
	int rx;
	char path[64];
};

/**
 * struct transport - a way from one process to another
 * @name: of the peer
 * @open: for messages of @bytes, @queue of which have to fit; 0 or -errno
 * @send: one message; data has room for 8 bytes before it
 * @recv: one message, whole; blocks
 * @join: what a further producer sends by, or NULL: the same end
 * @close: both ends
 */
struct transport {
	const char *name;
	int (*open)(struct conduit *c, size_t bytes, size_t queue);
	void (*send)(struct conduit *c, char *data, size_t bytes);
	void (*recv)(struct conduit *c, char *data, size_t bytes);
	int (*join)(struct conduit *c);
	void (*close)(struct conduit *c);
};

/**
 * struct subject - one row
 * @name: the case
 * @peer: whose row it is; "umpsc" is the product
 * @bytes: of a message
 * @producers: processes or tasks that send; 0 where nothing is sent
 * @batch: messages of a call; in backlog and close, messages that are queued
 * @metric: insn, ns or bytes
 * @group: subjects with the same number take turns
 * @count: messages of one sample, 0: as many as make a sample long enough
 * @samples_max: samples to take at most, 0: as many as are asked for
 * @worst: the figure is the greatest of the samples, whatever the clock
 * @packed: the batch is one call
 * @open: 0 or -errno; the subject cannot be measured here
 * @run: deal with @n messages; returns the time that took, or bytes
 * @close: undoes @open
 * @transport: for the cases that have one
 * @c: its conduits
 * @buffer: of BATCH_MAX messages, with room for headers
 * @private: what else the case needs
 * @child: another process, 0: none
 * @samples: what was measured, for one message
 * @taken: how many
 * @calls: system calls for one message, below 0: not counted
 * @error: why it was not measured, or 0
 */
struct subject {
	const char *name;
	const char *peer;
	unsigned int bytes;
	unsigned int producers;
	unsigned int batch;
	const char *metric;
	unsigned int group;
	unsigned int count;
	unsigned int samples_max;
	bool worst;
	bool packed;
	int (*open)(struct subject *s);
	double (*run)(struct subject *s, unsigned int n);
	void (*close)(struct subject *s);

	const struct transport *transport;
	struct conduit c[2];
	char *buffer;
	void *private;
	int child;
	double *samples;
	unsigned int taken;
	double calls;
	int error;
};

/* What was asked for. */
struct options {
	bool quick;
	bool native;
	bool progress;
	unsigned int samples;
	unsigned int loop;
	const char *cases;
	const char *peer;
	unsigned int bytes;
};

extern struct options options;

double now_ns(void);
pid_t process_new(void);
void process_end(pid_t pid);
void other_cpu(void);
void NORETURN die(const char *what);
struct subject *subject_add(const char *name, const char *peer);
unsigned int group_new(void);

const struct transport *transport_find(const char *name);
int umpsc_channel(struct conduit *c);

void idle_case(void);
void speed_cases(void);
void memory_cases(void);

#endif /* _UMPSC_BENCH_H */
