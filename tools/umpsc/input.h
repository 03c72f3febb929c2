/* SPDX-License-Identifier: MIT */
/*
 * Messages from a file or standard input
 */
#ifndef _INPUT_H
#define _INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "framing.h"

/**
 * struct input - a stream that is taken apart
 * @name: as messages to the user name it
 * @fd: where it comes from
 * @framing: how the messages lie in it
 * @chomp: leave the newline of a line away
 * @longest: a message that is longer cannot be sent
 * @number: messages taken so far: the last one's number, from 1
 * @bytes: bytes that these took of the stream
 * @buffer: what was read and is not yet taken, from @start to @end of @size bytes
 * @ended: nothing more can be read
 *
 * The rest is input.c's own.
 */
struct input {
	const char *name;
	int fd;
	enum framing framing;
	bool chomp;
	uint64_t longest;
	uint64_t number;
	uint64_t bytes;

	char *buffer;
	size_t start;
	size_t end;
	size_t size;
	size_t scanned;
	bool ended;
};

/* What input_next() found. */
enum input_result {
	INPUT_END,
	INPUT_MESSAGE,
	/* Reading failed: errno. */
	INPUT_ERROR,
	/* The next message is longer than input.longest. */
	INPUT_TOO_LONG,
	/* With a length ahead: the stream ends inside of a message. */
	INPUT_CUT,
	/* There is none yet, and it was not to wait. */
	INPUT_LATER,
};

/* @path: a file, or "-" for standard input.  False with errno. */
bool input_open(struct input *input, const char *path);
void input_close(struct input *input);

/**
 * input_next - the next message
 * @input: the stream
 * @wait: wait for it
 * @data: where it lies, until the next call
 * @len: bytes of it
 */
enum input_result input_next(struct input *input, bool wait, const char **data,
			     size_t *len);

/* "line 3 of NAME", "message 3 of NAME" or "NAME", for the user; allocated. */
char *input_place(const struct input *input, uint64_t number);

#endif /* _INPUT_H */
