/* SPDX-License-Identifier: MIT */
/*
 * The command: what all of its parts share
 *
 * One file for each subcommand, and one for each thing that several of them do.
 * A subcommand is a function that gets its own argc and argv, and returns an exit
 * status or ends by die().
 */
#ifndef _COMMAND_H
#define _COMMAND_H

#include <getopt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Exit statuses; umpsc(1) says them. */
enum exit_status {
	STATUS_OK = 0,
	STATUS_FAILED = 1,
	STATUS_USAGE = 2,
	STATUS_NO_NODE = 3,
	STATUS_TIMEOUT = 4,
	STATUS_ENDED = 5,
	STATUS_BUSY = 6,
	STATUS_DENIED = 7,
};

/**
 * struct command - a subcommand
 * @name: as it is typed
 * @summary: one line, for the list of all of them
 * @usage: what --help says
 * @run: does it
 */
struct command {
	const char *name;
	const char *summary;
	const char *usage;
	int (*run)(int argc, char **argv);
};

extern const struct command command_create;
extern const struct command command_rm;
extern const struct command command_ls;
extern const struct command command_send;
extern const struct command command_recv;
extern const struct command command_stat;
extern const struct command command_top;
extern const struct command command_wait;
extern const struct command command_holders;
extern const struct command command_doctor;

#define ARRAY_SIZE(array) (sizeof(array) / sizeof(*(array)))
#define PRINTF(text, first) __attribute__((format(printf, text, first)))

/* ---- Options (command.c) ------------------------------------------------ */

/**
 * next_option - getopt_long() for a subcommand, with --help and errors done
 * @command: the subcommand
 * @argc: as its function got it
 * @argv: likewise
 * @letters: as for getopt_long(); "h" is added
 * @options: those that also have a name; --help is added
 *
 * Return: the option's letter, or -1 behind the last one.
 */
int next_option(const struct command *command, int argc, char **argv,
		const char *letters, const struct option *options);

/* The command line is wrong: say how, and where to read more; exit status 2. */
void misused(const struct command *command, const char *format, ...)
	PRINTF(2, 3) __attribute__((noreturn));

/* ---- Saying it (say.c) --------------------------------------------------- */

/* To standard error, with "umpsc: " ahead of it. */
void say(const char *format, ...) PRINTF(1, 2);

/* say(), and exit. */
void die(enum exit_status status, const char *format, ...) PRINTF(2, 3)
	__attribute__((noreturn));

/* Flush standard output; if that fails, say so and exit. */
void stdout_done(void);

/* ---- Memory (memory.c) --------------------------------------------------- */

/* These end the command where there is no memory. */
void *allocate(size_t size);
void *reallocate(void *old, size_t size);
char *text_copy(const char *text);
char *text_format(const char *format, ...) PRINTF(1, 2);
char *text_vformat(const char *format, va_list args) PRINTF(1, 0);

/**
 * array_grow - room for one more element
 * @array: allocated elements, or NULL
 * @count: how many are used
 * @size: bytes of one
 *
 * Return: the array, which may have moved; it has room for more than @count.
 */
void *array_grow(void *array, size_t count, size_t size);

#endif /* _COMMAND_H */
