// SPDX-License-Identifier: MIT
/*
 * Messages from a file or standard input
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "input.h"

#define CHUNK 65536

bool input_open(struct input *input, const char *path)
{
	bool standard = !strcmp(path, "-");

	input->name = standard ? "standard input" : path;
	input->fd = standard ? STDIN_FILENO :
			       open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	return input->fd >= 0;
}

void input_close(struct input *input)
{
	if (input->fd > STDERR_FILENO)
		close(input->fd);
	free(input->buffer);
	input->buffer = NULL;
}

/*
 * Read more behind what is there.  INPUT_MESSAGE: there may be one now, or the
 * stream has ended; else why not.
 */
static enum input_result input_read(struct input *input, bool wait)
{
	struct pollfd readable = { .fd = input->fd, .events = POLLIN };
	size_t used = input->end - input->start;
	ssize_t n;

	if (!wait && !poll(&readable, 1, 0))
		return INPUT_LATER;

	if (input->start) {
		memmove(input->buffer, input->buffer + input->start, used);
		input->start = 0;
		input->end = used;
	}
	if (input->size - used < CHUNK) {
		input->size = 2 * (used + CHUNK);
		input->buffer = reallocate(input->buffer, input->size);
	}
	do {
		n = read(input->fd, input->buffer + used, input->size - used);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return INPUT_ERROR;
	input->end += n;
	input->ended = !n;
	return INPUT_MESSAGE;
}

/* A message of @len bytes, @skip bytes from the start, @after ahead of the next. */
static enum input_result input_take(struct input *input, size_t skip,
				    size_t size, size_t after,
				    const char **data, size_t *len)
{
	if (size > input->longest)
		return INPUT_TOO_LONG;
	*data = input->buffer + input->start + skip;
	*len = size;
	input->start += skip + size + after;
	input->bytes += skip + size + after;
	input->scanned = 0;
	input->number++;
	return INPUT_MESSAGE;
}

/* The next of messages that end with @delimiter, which is kept or left away. */
static enum input_result input_delimited(struct input *input, bool wait,
					 char delimiter, bool keep,
					 const char **data, size_t *len)
{
	const char *start, *found = NULL;
	enum input_result result;
	size_t used;

	for (;;) {
		start = input->buffer + input->start;
		used = input->end - input->start;
		if (used > input->scanned)
			found = memchr(start + input->scanned, delimiter,
				       used - input->scanned);
		if (found)
			return input_take(input, 0, found - start + keep, !keep,
					  data, len);
		/* The last one may lack its delimiter. */
		if (input->ended && used)
			return input_take(input, 0, used, 0, data, len);
		if (input->ended)
			return INPUT_END;
		if (used > input->longest)
			return INPUT_TOO_LONG;
		input->scanned = used;
		result = input_read(input, wait);
		if (result != INPUT_MESSAGE)
			return result;
	}
}

static enum input_result input_prefixed(struct input *input, bool wait,
					const char **data, size_t *len)
{
	const unsigned char *prefix;
	enum input_result result;
	size_t used, size = 0;

	for (;;) {
		used = input->end - input->start;
		if (used >= FRAMING_PREFIX) {
			prefix = (unsigned char *)input->buffer + input->start;
			size = (size_t)prefix[0] << 24 | prefix[1] << 16 |
			       prefix[2] << 8 | prefix[3];
			if (size > input->longest)
				return INPUT_TOO_LONG;
			if (used - FRAMING_PREFIX >= size)
				return input_take(input, FRAMING_PREFIX, size,
						  0, data, len);
		}
		if (input->ended)
			return used ? INPUT_CUT : INPUT_END;
		result = input_read(input, wait);
		if (result != INPUT_MESSAGE)
			return result;
	}
}

/* All of the stream is one message, also where it is empty. */
static enum input_result input_whole(struct input *input, bool wait,
				     const char **data, size_t *len)
{
	enum input_result result;

	if (input->number)
		return INPUT_END;
	while (!input->ended) {
		if (input->end > input->longest)
			return INPUT_TOO_LONG;
		result = input_read(input, wait);
		if (result != INPUT_MESSAGE)
			return result;
	}
	return input_take(input, 0, input->end, 0, data, len);
}

enum input_result input_next(struct input *input, bool wait, const char **data,
			     size_t *len)
{
	switch (input->framing) {
	case FRAMING_NUL:
		return input_delimited(input, wait, '\0', false, data, len);
	case FRAMING_PREFIXED:
		return input_prefixed(input, wait, data, len);
	case FRAMING_WHOLE:
		return input_whole(input, wait, data, len);
	default:
		return input_delimited(input, wait, '\n', !input->chomp, data,
				       len);
	}
}

char *input_place(const struct input *input, uint64_t number)
{
	if (input->framing == FRAMING_WHOLE)
		return text_copy(input->name);
	return text_format("%s %llu of %s",
			   input->framing == FRAMING_LINES ? "line" : "message",
			   (unsigned long long)number, input->name);
}
