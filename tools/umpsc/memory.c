// SPDX-License-Identifier: MIT
/*
 * Memory that is there, or the command ends
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"

void *reallocate(void *old, size_t size)
{
	void *new = realloc(old, size ? size : 1);

	if (!new)
		die(STATUS_FAILED, "no memory for %zu bytes", size);
	return new;
}

void *allocate(size_t size)
{
	return memset(reallocate(NULL, size), 0, size);
}

char *text_copy(const char *text)
{
	return text_format("%s", text);
}

char *text_vformat(const char *format, va_list args)
{
	char *text;

	if (vasprintf(&text, format, args) < 0)
		die(STATUS_FAILED, "no memory");
	return text;
}

char *text_format(const char *format, ...)
{
	va_list args;
	char *text;

	va_start(args, format);
	text = text_vformat(format, args);
	va_end(args);
	return text;
}

void *array_grow(void *array, size_t count, size_t size)
{
	/* At each power of two it has become full. */
	if (count & (count - 1))
		return array;
	return reallocate(array, (count ? 2 * count : 1) * size);
}
