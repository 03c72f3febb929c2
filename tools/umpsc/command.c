// SPDX-License-Identifier: MIT
/*
 * umpsc, the command: see umpsc(1)
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "root.h"

#define OPTIONS_MAX 32

static const struct command *const commands[] = {
	&command_create,  &command_rm,	   &command_ls,	 &command_send,
	&command_recv,	  &command_stat,   &command_top, &command_wait,
	&command_holders, &command_doctor,
};

static void print_help(FILE *out)
{
	size_t i;

	fputs("Usage: umpsc COMMAND [OPTION]... [ARGUMENT]...\n"
	      "Channels of the umpsc kernel module: make, use and watch them.\n"
	      "\n",
	      out);
	for (i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(out, "  %-9s %s\n", commands[i]->name,
			commands[i]->summary);
	fputs("\n"
	      "A NODE is a NAME as in 'umpsc create NAME', or a path such as /dev/umpsc-NAME;\n"
	      "'umpsc' alone is /dev/umpsc.  'umpsc COMMAND --help' tells the options, umpsc(1)\n"
	      "everything.\n",
	      out);
}

static void print_version(void)
{
	char *loaded = root_line("/sys/module/umpsc/version");

	printf("umpsc %s (%s%s)\n", VERSION, loaded ? "module " : "the module ",
	       loaded ? loaded : "is not loaded");
	free(loaded);
}

void misused(const struct command *command, const char *format, ...)
{
	va_list args;
	char *text;

	va_start(args, format);
	text = text_vformat(format, args);
	va_end(args);
	if (command)
		die(STATUS_USAGE, "%s: %s; 'umpsc %s --help' tells more",
		    command->name, text, command->name);
	die(STATUS_USAGE, "%s; 'umpsc --help' tells more", text);
}

static const char *long_name(const struct option *options, int letter)
{
	for (; options->name; options++)
		if (options->val == letter)
			return options->name;
	return NULL;
}

/* Does "--NAME" or "--NAME=VALUE" begin like an option? */
static bool begins_like_one(const struct option *options, const char *text)
{
	size_t len = strcspn(text + 2, "=");

	for (; options->name; options++)
		if (!strncmp(options->name, text + 2, len))
			return true;
	return false;
}

/* What was wrong with the option for which getopt_long() returned @answer. */
static void __attribute__((noreturn))
refuse_option(const struct command *command, const struct option *options,
	      char **argv, int answer)
{
	const char *name = optopt ? long_name(options, optopt) : NULL;

	if (answer == ':' && name)
		misused(command, "--%s needs a value", name);
	if (answer == ':')
		misused(command, "-%c needs a value", optopt);
	if (name)
		misused(command, "--%s takes no value", name);
	if (optopt)
		misused(command, "there is no option -%c", optopt);
	if (begins_like_one(options, argv[optind - 1]))
		misused(command, "several options begin with %s",
			argv[optind - 1]);
	misused(command, "there is no option %s", argv[optind - 1]);
}

int next_option(const struct command *command, int argc, char **argv,
		const char *letters, const struct option *options)
{
	struct option all[OPTIONS_MAX] = { { "help", no_argument, NULL, 'h' } };
	char with_help[64];
	size_t n;
	int c;

	for (n = 1; options && options->name && n < OPTIONS_MAX - 1; n++)
		all[n] = *options++;
	/* A colon ahead tells a missing value from an unknown option. */
	snprintf(with_help, sizeof(with_help), ":h%s", letters);
	opterr = 0;
	c = getopt_long(argc, argv, with_help, all, NULL);
	if (c == 'h') {
		fputs(command->usage, stdout);
		stdout_done();
		exit(STATUS_OK);
	}
	if (c == '?' || c == ':')
		refuse_option(command, all, argv, c);
	return c;
}

static const struct command *command_find(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(commands[i]->name, name))
			return commands[i];
	misused(NULL, "there is no command '%s'", name);
}

/*
 * What is opened must not become standard output because there is none: in its place
 * goes what cannot be written, or read.
 */
static void standard_files(void)
{
	int fd;

	for (fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			open("/dev/null", fd ? O_RDONLY : O_WRONLY);
}

int main(int argc, char **argv)
{
	const struct command *command;

	standard_files();
	if (argc < 2) {
		print_help(stderr);
		return STATUS_USAGE;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		print_version();
	} else if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") ||
		   (!strcmp(argv[1], "help") && argc == 2)) {
		print_help(stdout);
	} else if (!strcmp(argv[1], "help")) {
		fputs(command_find(argv[2])->usage, stdout);
	} else {
		command = command_find(argv[1]);
		return command->run(argc - 1, argv + 1);
	}
	stdout_done();
	return STATUS_OK;
}
