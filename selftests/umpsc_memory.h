/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of memory share: the module's limits, memory cgroups, the
 * figures of the machine, and being somebody else.
 */
#ifndef _UMPSC_MEMORY_H
#define _UMPSC_MEMORY_H

#include "umpsc_test.h"

#define UMPSC_PARAMETERS "/sys/module/umpsc/parameters/"
#define UMPSC_CGROUPS "/sys/fs/cgroup"

static inline bool umpsc_write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	n = write(fd, text, strlen(text));
	close(fd);
	return n == (ssize_t)strlen(text);
}

/* The number in a file, after @key where that is not "", or -1. */
static inline long long umpsc_read_number(const char *path, const char *key)
{
	static char text[1 << 16];
	size_t len = strlen(key);
	char *line, *rest;

	if (umpsc_read_file(path, text, sizeof(text)) < 0)
		return -1;
	for (line = strtok_r(text, "\n", &rest); line;
	     line = strtok_r(NULL, "\n", &rest))
		if (!strncmp(line, key, len) &&
		    (!len || strchr(" :\t", line[len])))
			return strtoll(line + len + !!len, NULL, 10);
	return -1;
}

/* ---- The module's limits -------------------------------------------------- */

static inline bool umpsc_limit_write(const char *name, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), UMPSC_PARAMETERS "%s", name);
	return umpsc_write_file(path, text);
}

static inline bool umpsc_limit_set(const char *name, __u64 value)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", value);
	return umpsc_limit_write(name, text);
}

static const char *const umpsc_limit_names[] = {
	"max_len",
	"max_bytes",
	"max_user_bytes",
	"reserve_bytes",
};

#define UMPSC_LIMITS ARRAY_SIZE(umpsc_limit_names)

/* All limits, to be set again at the end. */
struct umpsc_limits_saved {
	char text[UMPSC_LIMITS][32];
};

static inline bool umpsc_limits_save(struct umpsc_limits_saved *saved)
{
	char path[128];
	size_t i;

	for (i = 0; i < UMPSC_LIMITS; i++) {
		snprintf(path, sizeof(path), UMPSC_PARAMETERS "%s",
			 umpsc_limit_names[i]);
		if (umpsc_read_file(path, saved->text[i],
				    sizeof(saved->text[i])) <= 0)
			return false;
	}
	return true;
}

static inline bool umpsc_limits_restore(const struct umpsc_limits_saved *saved)
{
	bool good = true;
	size_t i;

	for (i = 0; i < UMPSC_LIMITS; i++)
		good &= umpsc_limit_write(umpsc_limit_names[i], saved->text[i]);
	return good;
}

/*
 * A lower "max_bytes", where each page that is allocated is checked, and takes as long
 * as ten: to fill half of the memory, and to free that, would take minutes.
 */
static inline bool umpsc_limit_where_slow(void)
{
	return access(UMPSC_FAIL_NTH, F_OK) ||
	       umpsc_limit_set("max_bytes", 96 << 20);
}

/* ---- Memory cgroups -------------------------------------------------------- */

/* Makes cgroup @name; @max: memory.max, or NULL. */
static inline bool umpsc_cgroup_make(const char *name, const char *max)
{
	char path[128];

	umpsc_write_file(UMPSC_CGROUPS "/cgroup.subtree_control", "+memory");
	snprintf(path, sizeof(path), UMPSC_CGROUPS "/%s", name);
	if (mkdir(path, 0755) && errno != EEXIST)
		return false;
	snprintf(path, sizeof(path), UMPSC_CGROUPS "/%s/memory.max", name);
	return umpsc_write_file(path, max ? max : "max");
}

/* The calling process goes there; "" is the root. */
static inline bool umpsc_cgroup_enter(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), UMPSC_CGROUPS "/%s/cgroup.procs", name);
	return umpsc_write_file(path, "0");
}

/* May wait for the last process there to be gone. */
static inline bool umpsc_cgroup_remove(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), UMPSC_CGROUPS "/%s", name);
	return UMPSC_UNTIL(!rmdir(path) || errno == ENOENT);
}

static inline long long umpsc_cgroup_current(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), UMPSC_CGROUPS "/%s/memory.current", name);
	return umpsc_read_number(path, "");
}

/* ---- The machine ------------------------------------------------------------ */

static inline long long umpsc_oom_kills(void)
{
	return umpsc_read_number("/proc/vmstat", "oom_kill");
}

/* Bytes, of a line of /proc/meminfo. */
static inline long long umpsc_meminfo(const char *key)
{
	long long kilobytes = umpsc_read_number("/proc/meminfo", key);

	return kilobytes < 0 ? -1 : kilobytes * 1024;
}

/* Pages in all slab caches of the module. */
static inline void umpsc_log_memory(struct __test_metadata *_metadata,
				    const char *when)
{
	static char text[1 << 17];
	unsigned long active, objects, size, per_slab, pages, slabs;
	unsigned long total = 0;
	char *line, *rest, name[64];

	if (umpsc_read_file("/proc/slabinfo", text, sizeof(text)) < 0)
		text[0] = 0;
	for (line = strtok_r(text, "\n", &rest); line;
	     line = strtok_r(NULL, "\n", &rest)) {
		if (sscanf(line,
			   "umpsc-%60s %lu %lu %lu %lu %lu : tunables %*u %*u %*u : slabdata %*u %lu",
			   name, &active, &objects, &size, &per_slab, &pages,
			   &slabs) != 7)
			continue;
		total += slabs * pages;
		if (active > 1000)
			TH_LOG("%s: umpsc-%s: %lu objects of %lu bytes", when,
			       name, active, size);
	}
	TH_LOG("%s: %lld MiB available, %lu MiB of slabs, %lld killed, %lld stalls, %lld stolen",
	       when, umpsc_meminfo("MemAvailable") >> 20, total >> 8,
	       umpsc_oom_kills(),
	       umpsc_read_number("/proc/vmstat", "allocstall_normal"),
	       umpsc_read_number("/proc/vmstat", "pgsteal_direct"));
}

/* What the module holds, or all ones. */
static inline __u64 umpsc_memory_held(int fd)
{
	struct umpsc_query q;

	return umpsc_query(fd, &q) ? ~0ULL : q.memory;
}

/* ---- Somebody else ------------------------------------------------------------ */

/* From now on an ordinary user, by the real and the effective id. */
static inline bool umpsc_become(uid_t real, uid_t effective)
{
	return !setresgid(real, real, real) &&
	       !setresuid(real, effective, effective);
}

/*
 * Runs what follows, a statement or a block, in a child, whose assertions are this
 * test's, and waits for it.
 */
#define UMPSC_CHILD(...)                              \
	do {                                          \
		pid_t __pid = fork();                 \
		ASSERT_LE(0, __pid);                  \
		if (!__pid) {                         \
			__VA_ARGS__;                  \
			_exit(0);                     \
		}                                     \
		EXPECT_EQ(0, umpsc_wait_child(__pid)) \
		TH_LOG("child of line %d", __LINE__); \
	} while (0)

#endif /* _UMPSC_MEMORY_H */
