/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory that stalls who uses it, in the middle of a call.
 */
#ifndef _UMPSC_STALL_H
#define _UMPSC_STALL_H

#include "umpsc_test.h"

#include <linux/userfaultfd.h>

/* Pages that fault until stall_end(). */
struct stall {
	int uffd;
	unsigned char *map;
	size_t len;
};

static inline bool stall_new(struct stall *s, size_t pages)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };

	/* Who faults in a call does not sleep while a signal waits for its return. */
	umpsc_timer_stop();
	s->len = pages * sysconf(_SC_PAGESIZE);
	s->map = mmap(NULL, s->len, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	s->uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (s->map == MAP_FAILED || s->uffd < 0 ||
	    ioctl(s->uffd, UFFDIO_API, &api))
		return false;
	reg.range.start = (uintptr_t)s->map;
	reg.range.len = s->len;
	return !ioctl(s->uffd, UFFDIO_REGISTER, &reg);
}

/* Waits until somebody has run into it. */
static inline bool stall_hit(struct stall *s)
{
	struct pollfd p = { .fd = s->uffd, .events = POLLIN };
	struct uffd_msg msg;

	return umpsc_poll_fds(&p, 1, UMPSC_PATIENCE * 1000) == 1 &&
	       read(s->uffd, &msg, sizeof(msg)) == sizeof(msg) &&
	       msg.event == UFFD_EVENT_PAGEFAULT;
}

/* The @pages from number @first on have @data, and who stalled there goes on. */
static inline bool stall_fill_some(struct stall *s, size_t first, size_t pages,
				   const void *data)
{
	size_t size = sysconf(_SC_PAGESIZE);
	struct uffdio_copy copy = {
		.dst = (uintptr_t)s->map + first * size,
		.src = (uintptr_t)data,
		.len = pages * size,
	};

	return !ioctl(s->uffd, UFFDIO_COPY, &copy);
}

/* All of them have. */
static inline bool stall_fill(struct stall *s, const void *data)
{
	return stall_fill_some(s, 0, s->len / sysconf(_SC_PAGESIZE), data);
}

static inline void stall_end(struct stall *s)
{
	close(s->uffd);
	munmap(s->map, s->len);
}

#endif /* _UMPSC_STALL_H */
