/* SPDX-License-Identifier: MIT */
/*
 * Received messages, on their way to standard output
 *
 * What was received cannot be put back.  So the output is asked for room before
 * messages are taken, and what could not be written all the same is saved to a file.
 */
#ifndef _OUTPUT_H
#define _OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <umpsc.h>

#include "framing.h"

/**
 * struct output - messages to be written
 * @framing: how
 * @flags: of the channel: what is known of each message
 * @generation: of the channel
 * @stream: puts together @text, @len bytes, which are to be written
 * @ends: where each message in it ends; allocated
 * @count: how many these are
 */
struct output {
	enum framing framing;
	uint32_t flags;
	uint64_t generation;
	FILE *stream;
	char *text;
	size_t len;
	size_t *ends;
	size_t count;
};

/* Is standard output something that may be full or go away, as a pipe? */
bool output_is_stream(void);

/* Put a message behind the others. */
void output_add(struct output *output, const struct umpsc_message *m);

/**
 * output_write - write them
 * @output: the messages; none are left, whatever comes
 * @signals: a descriptor that is readable when it shall be given up
 *
 * What cannot be written is saved to a file, and the user told of it.
 *
 * Return: 0, or an error number: EINTR where it was given up.
 */
int output_write(struct output *output, int signals);

/* Save what is from message @from on, since @why, and tell the user. */
void output_save(struct output *output, size_t from, const char *why);

#endif /* _OUTPUT_H */
