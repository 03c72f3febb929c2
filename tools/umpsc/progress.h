/* SPDX-License-Identifier: MIT */
/*
 * How far something that takes long has come, on a terminal
 */
#ifndef _PROGRESS_H
#define _PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

/**
 * struct progress - what is being shown
 * @label: at its left
 * @total: bytes there will be, 0 where that is not known
 * @enabled: standard error is a terminal
 * @shown: the line is there
 * @begun_ns: when it began
 * @drawn_ns: when it was last drawn
 */
struct progress {
	const char *label;
	uint64_t total;
	bool enabled;
	bool shown;
	uint64_t begun_ns;
	uint64_t drawn_ns;
};

void progress_begin(struct progress *progress, const char *label,
		    uint64_t total);

/* @bytes of it are done, @messages; draws now and then, and nothing at first. */
void progress_update(struct progress *progress, uint64_t bytes,
		     uint64_t messages);

/* Take the line away. */
void progress_end(struct progress *progress);

#endif /* _PROGRESS_H */
