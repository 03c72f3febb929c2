/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the kernel notes of its own events.
 */
#ifndef _UMPSC_TRACEFS_H
#define _UMPSC_TRACEFS_H

#include "umpsc_test.h"

#include <sys/mount.h>

#define UMPSC_TRACING "/sys/kernel/tracing/"

static inline bool umpsc_trace_set(const char *name, const char *value)
{
	char path[128];
	ssize_t ret;
	int fd;

	snprintf(path, sizeof(path), UMPSC_TRACING "%s", name);
	fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	ret = fd < 0 ? -1 : write(fd, value, strlen(value));
	close(fd);
	return ret == (ssize_t)strlen(value);
}

static inline bool umpsc_trace_event_set(const char *event, const char *name,
					 const char *value)
{
	char path[96];

	snprintf(path, sizeof(path), "events/%s/%s", event, name);
	return umpsc_trace_set(path, value);
}

/* From now on the kernel notes each @event, as "sched/sched_waking", of @filter. */
static inline bool umpsc_trace_begin(const char *event, const char *filter)
{
	if (access(UMPSC_TRACING "trace", F_OK))
		mount("tracefs", UMPSC_TRACING, "tracefs", 0, NULL);
	return umpsc_trace_set("tracing_on", "0") &&
	       umpsc_trace_event_set(event, "filter", filter) &&
	       umpsc_trace_event_set(event, "enable", "1") &&
	       umpsc_trace_set("trace", "\n") &&
	       umpsc_trace_set("tracing_on", "1");
}

/* How often that was, of what was noted with @what; or -1. */
static inline int umpsc_trace_end(const char *event, const char *what)
{
	static char text[1 << 16];
	char *at = text;
	int n = 0;

	if (!umpsc_trace_set("tracing_on", "0") ||
	    umpsc_read_file(UMPSC_TRACING "trace", text, sizeof(text)) < 0 ||
	    !umpsc_trace_event_set(event, "enable", "0") ||
	    !umpsc_trace_event_set(event, "filter", "0"))
		return -1;
	for (; (at = strstr(at, what)); at++)
		n++;
	return n;
}

#endif /* _UMPSC_TRACEFS_H */
