// SPDX-License-Identifier: MIT
/*
 * umpsc-bench: what a message costs through umpsc and through its peers
 *
 * umpsc-bench [-c CASE[,CASE]...] [-P PEER] [-b BYTES] [-n SAMPLES] [-q] [-N] [-p]
 *		[-l MESSAGES]
 *	-c, -P, -b: only these cases, this peer, messages of this size; -n: samples of
 *	each subject; -q: quick, for tests; -p: a progress bar on standard error;
 *	-N: this is a machine's own clock: nanoseconds, the median, pinned to a CPU,
 *	and what cannot be measured is told and left out;
 *	-l: measure nothing, but say "running" and how many system calls a message
 *	takes, and go through so many messages, for tools that look on
 *
 * Without -N the clock has to count instructions (tools/vm/run --icount): the
 * figure is then the minimum of the samples, each of which, but those of streams, is
 * shorter than the time between two ticks of the timer.
 *
 * Standard output is "begin" behind an empty line, as a virtual machine that had to be
 * started again may have said something before, and then one line for each row, its
 * fields apart by tabs:
 *	row KERNEL CASE PEER BYTES PRODUCERS BATCH METRIC VALUE MIN Q1 MEDIAN Q3 MAX CALLS
 *	absent KERNEL CASE PEER BYTES PRODUCERS BATCH REASON
 */
#include "bench.h"

#include <err.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Without a clock of its own each boot does work for a while after its init began. */
#define SETTLE_SECONDS 5

/* How long a sample takes: less than 4 ms, the time between two ticks. */
#define SAMPLE_NS 1000000

#define SUBJECTS_MAX 256
#define SAMPLES 20
#define SAMPLES_QUICK 5
#define BAR 40

struct options options;

static struct subject subjects[SUBJECTS_MAX];
static unsigned int n_subjects;
static unsigned int n_groups;
static struct utsname kernel;

double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

void NORETURN die(const char *what)
{
	err(1, "%s", what);
}

/* ---- Processes ---------------------------------------------------------- */

/* The first of those that we may run on is the measuring process's. */
static cpu_set_t cpus_allowed;

static void cpu_pin(unsigned int number)
{
	cpu_set_t cpus;
	int cpu = -1;

	do {
		while (!CPU_ISSET(++cpu, &cpus_allowed))
			;
	} while (number--);
	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		die("pinning to a CPU");
}

static void measuring_cpu(void)
{
	if (sched_getaffinity(0, sizeof(cpus_allowed), &cpus_allowed))
		die("the CPUs that there are");
	cpu_pin(0);
}

/* For what runs beside the measuring process: where there is another CPU, on that. */
void other_cpu(void)
{
	if (CPU_COUNT(&cpus_allowed) > 1)
		cpu_pin(1);
}

/* A child that dies with us. */
pid_t process_new(void)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

void process_end(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		die("waiting for a process");
	if (status)
		errx(1, "a process failed: status %#x", status);
}

/* ---- Subjects ----------------------------------------------------------- */

static bool case_wanted(const char *name)
{
	const char *at = options.cases;
	size_t len = strlen(name);

	if (!at)
		return true;
	for (; at; at = strchr(at, ',')) {
		at += *at == ',';
		if (!strncmp(at, name, len) && (!at[len] || at[len] == ','))
			return true;
	}
	return false;
}

unsigned int group_new(void)
{
	return n_groups++;
}

/* Valid until the next call if the case is not wanted. */
struct subject *subject_add(const char *name, const char *peer)
{
	struct subject *s = &subjects[n_subjects];

	if (n_subjects == SUBJECTS_MAX)
		errx(1, "more than %d subjects", SUBJECTS_MAX);
	*s = (struct subject){
		.name = name,
		.peer = peer,
		.producers = 1,
		.batch = 1,
		.metric = options.native ? "ns" : "insn",
		.group = n_groups - 1,
		.calls = -1,
	};
	if (case_wanted(name))
		n_subjects++;
	return s;
}

/* What is to be measured can only be told when all is known of a subject. */
static void subjects_choose(void)
{
	unsigned int i, n = 0;

	for (i = 0; i < n_subjects; i++)
		if ((!options.peer ||
		     !strcmp(options.peer, subjects[i].peer)) &&
		    (!options.bytes || options.bytes == subjects[i].bytes))
			subjects[n++] = subjects[i];
	n_subjects = n;
}

/* ---- System calls, counted by the kernel -------------------------------- */

static long tracepoint_id(void)
{
	static const char path[] =
		"/sys/kernel/tracing/events/raw_syscalls/sys_enter/id";
	FILE *file = fopen(path, "r");
	long id = -1;

	if (!file)
		return -1;
	if (fscanf(file, "%ld", &id) != 1)
		id = -1;
	fclose(file);
	return id;
}

/* Of @pid (0: us) and of those that it starts; -1 where the kernel does not tell. */
static int calls_open(pid_t pid)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_TRACEPOINT,
		.size = sizeof(attr),
		.inherit = 1,
	};
	long id = tracepoint_id();

	if (id < 0)
		return -1;
	attr.config = id;
	return syscall(SYS_perf_event_open, &attr, pid, -1, -1,
		       PERF_FLAG_FD_CLOEXEC);
}

static uint64_t calls_read(int fd)
{
	uint64_t count = 0;

	if (fd >= 0 && read(fd, &count, sizeof(count)) != sizeof(count))
		die("counting system calls");
	return count;
}

static uint64_t calls_of_run(struct subject *s, unsigned int n, int own,
			     int other)
{
	uint64_t before = calls_read(own) + calls_read(other);

	s->run(s, n);
	return calls_read(own) + calls_read(other) - before;
}

/* What two runs have in common is not the messages'. */
static void subject_count_calls(struct subject *s, unsigned int n)
{
	int own, other = -1;
	double once, twice;

	/* Those that are measured once, or in bytes, are not about calls. */
	if (s->worst || !strcmp(s->metric, "bytes"))
		return;
	own = calls_open(0);
	if (own < 0)
		return;
	if (s->child)
		other = calls_open(s->child);
	once = calls_of_run(s, n, own, other);
	twice = calls_of_run(s, 2 * n, own, other);
	/* Less for more: something else was counted as well. */
	if (twice >= once)
		s->calls = (twice - once) / n;
	close(own);
	if (other >= 0)
		close(other);
}

/* ---- Measuring ---------------------------------------------------------- */

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Of the sorted samples, the one with @part of them below it. */
static double subject_quantile(struct subject *s, double part)
{
	return s->samples[(unsigned int)(part * (s->taken - 1) + 0.5)];
}

static void subject_print_absent(struct subject *s)
{
	const char *why = strerror(s->error);

	if (!strcmp(s->peer, "umpsc") && access("/dev/umpsc", F_OK))
		why = "there is no /dev/umpsc";
	printf("absent\t%s\t%s\t%s\t%u\t%u\t%u\t%s\n", kernel.release, s->name,
	       s->peer, s->bytes, s->producers, s->batch, why);
	fflush(stdout);
}

static void subject_print(struct subject *s)
{
	static const double quantiles[] = { 0, 0.25, 0.5, 0.75, 1 };
	double which = options.native ? 0.5 : 0;
	size_t i;

	if (s->worst)
		which = 1;
	qsort(s->samples, s->taken, sizeof(*s->samples), compare_doubles);
	printf("row\t%s\t%s\t%s\t%u\t%u\t%u\t%s\t%.2f", kernel.release, s->name,
	       s->peer, s->bytes, s->producers, s->batch, s->metric,
	       subject_quantile(s, which));
	for (i = 0; i < ARRAY_SIZE(quantiles); i++)
		printf("\t%.2f", subject_quantile(s, quantiles[i]));
	printf("\t%.2f\n", s->calls);
	fflush(stdout);
}

static void *buffer_new(void)
{
	/* Headers, and what lies ahead of the first, take less than a page a message. */
	size_t size = BATCH_MAX * (BYTES_MAX + 4096);
	char *buffer = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (buffer == MAP_FAILED)
		die("memory");
	memset(buffer, 'm', size);
	return buffer;
}

static unsigned int subject_calibrate(struct subject *s)
{
	unsigned int n = 1, least = s->batch > 1 && s->batch <= BATCH_MAX ?
					    s->batch :
					    1;
	double ns;

	if (s->count)
		return s->count;
	/* The first run of all warms up; the time of a later one is the measure. */
	s->run(s, 4 * least);
	for (n = 4 * least;; n *= 2) {
		ns = s->run(s, n);
		if (ns > SAMPLE_NS / 8 || n > 1U << 24)
			break;
	}
	n = SAMPLE_NS / (ns / n);
	return n < least ? least : n / least * least;
}

static void progress(unsigned int done, const struct subject *s)
{
	unsigned int filled = done * BAR / n_subjects;

	if (!options.progress)
		return;
	if (done < n_subjects)
		fprintf(stderr, "\r[%-*.*s] %3u%%  %s %s %-24u", BAR, filled,
			"########################################",
			100 * done / n_subjects, s->name, s->peer, s->bytes);
	else
		fprintf(stderr, "\r%*s\r", BAR + 60, "");
}

/* Subjects of one group are opened together and sampled in turns: A B A B. */
static void group_run(struct subject *first, unsigned int n, char *buffer)
{
	unsigned int i, round, rounds = options.samples;
	struct subject *s;

	for (i = 0; i < n; i++) {
		s = &first[i];
		s->buffer = buffer;
		s->error = -s->open(s);
		if (s->error)
			continue;
		s->samples = calloc(rounds, sizeof(*s->samples));
		if (!s->samples)
			die("memory");
		s->count = subject_calibrate(s);
	}
	for (round = 0; round < rounds; round++) {
		for (i = 0; i < n; i++) {
			s = &first[i];
			if (s->error ||
			    (s->samples_max && round >= s->samples_max))
				continue;
			s->samples[s->taken++] = s->run(s, s->count) / s->count;
		}
	}
	for (i = 0; i < n; i++) {
		s = &first[i];
		if (s->error) {
			subject_print_absent(s);
			continue;
		}
		subject_count_calls(s, s->count);
		s->close(s);
		subject_print(s);
	}
}

/* For a profiler: nothing but the messages of one subject. */
static void subject_loop(struct subject *s, char *buffer)
{
	unsigned int n;

	s->buffer = buffer;
	s->error = -s->open(s);
	if (s->error) {
		subject_print_absent(s);
		return;
	}
	s->count = subject_calibrate(s);
	subject_count_calls(s, s->count);
	printf("running\t%.4f\n", s->calls);
	fflush(stdout);
	/* Time for what prints it. */
	sleep(1);
	for (n = 0; n < options.loop; n += s->count)
		s->run(s, s->count);
	s->close(s);
}

static int misused(void)
{
	fputs("usage: umpsc-bench [-c CASE[,CASE]...] [-P PEER] [-b BYTES] [-n SAMPLES] [-q]\n"
	      "                   [-N] [-p] [-l MESSAGES]\n",
	      stderr);
	return 2;
}

int main(int argc, char **argv)
{
	unsigned int at, n;
	char *buffer;
	int option;

	while ((option = getopt(argc, argv, "b:c:l:n:P:qNp")) != -1) {
		switch (option) {
		case 'b':
			options.bytes = atoi(optarg);
			break;
		case 'l':
			options.loop = atoi(optarg);
			break;
		case 'P':
			options.peer = optarg;
			break;
		case 'c':
			options.cases = optarg;
			break;
		case 'n':
			options.samples = atoi(optarg);
			break;
		case 'q':
			options.quick = true;
			break;
		case 'N':
			options.native = true;
			break;
		case 'p':
			options.progress = true;
			break;
		default:
			return misused();
		}
	}
	if (optind < argc)
		return misused();
	if (!options.samples)
		options.samples = options.quick ? SAMPLES_QUICK : SAMPLES;
	uname(&kernel);
	measuring_cpu();
	if (!options.native)
		sleep(SETTLE_SECONDS);

	idle_case();
	speed_cases();
	memory_cases();
	subjects_choose();
	if (!n_subjects)
		errx(2, "no such case");
	buffer = buffer_new();
	if (options.loop) {
		for (at = 0; at < n_subjects; at++)
			subject_loop(&subjects[at], buffer);
		return 0;
	}
	puts("\nbegin");
	for (at = 0; at < n_subjects; at += n) {
		progress(at, &subjects[at]);
		n = 1;
		while (at + n < n_subjects &&
		       subjects[at + n].group == subjects[at].group)
			n++;
		group_run(&subjects[at], n, buffer);
	}
	progress(n_subjects, NULL);
	return 0;
}
