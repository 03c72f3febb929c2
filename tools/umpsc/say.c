// SPDX-License-Identifier: MIT
/*
 * Messages for the user
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"

static void say_args(const char *format, va_list args)
{
	/* What was printed before comes before. */
	fflush(stdout);
	fputs("umpsc: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
}

void say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say_args(format, args);
	va_end(args);
}

void die(enum exit_status status, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say_args(format, args);
	va_end(args);
	exit(status);
}

void stdout_done(void)
{
	if (fflush(stdout) || ferror(stdout))
		die(STATUS_FAILED, "standard output: %s", strerror(errno));
}
