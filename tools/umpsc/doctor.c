// SPDX-License-Identifier: MIT
/*
 * umpsc doctor: find what keeps umpsc from working, and say what to do
 *
 * All that it reads lies below UMPSC_SYSROOT; it opens no node and changes nothing.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "doctor.h"
#include "human.h"
#include "json.h"

static const char usage[] =
	"Usage: umpsc doctor [OPTION]...\n"
	"Find what keeps umpsc from working, and say what to do about it.\n"
	"\n"
	"  -q, --quiet    only what was found\n"
	"  -j, --json     an array with an object for each finding\n"
	"\n"
	"Ends with status 1 where something was found.\n";

static const struct option options[] = { { "quiet", no_argument, NULL, 'q' },
					 { "json", no_argument, NULL, 'j' },
					 {} };

static bool quiet;
static struct json json = { .out = NULL };
static unsigned int found;

void check_ok(const char *format, ...)
{
	va_list args;

	if (quiet || json.out)
		return;
	va_start(args, format);
	fputs("ok       ", stdout);
	vprintf(format, args);
	putchar('\n');
	va_end(args);
}

static void print_found(const char *severity, const char *id, const char *what,
			char *remedy)
{
	char *line;

	printf("%-8s %s [%s]\n", severity, what, id);
	while ((line = strsep(&remedy, "\n")))
		printf("         -> %s\n", line);
}

void check_found(enum severity severity, const char *id, char *what,
		 char *remedy)
{
	const char *name = severity == PROBLEM ? "problem" : "warning";

	found++;
	if (json.out) {
		json_break(&json);
		json_open(&json, NULL, '{');
		json_text(&json, "id", id);
		json_text(&json, "severity", name);
		json_text(&json, "what", what);
		json_text(&json, "remedy", remedy);
		json_close(&json, '}');
	} else {
		print_found(name, id, what, remedy);
	}
	free(what);
	free(remedy);
}

static int doctor_run(int argc, char **argv)
{
	int option;

	while ((option = next_option(&command_doctor, argc, argv, "qj",
				     options)) != -1) {
		if (option == 'q')
			quiet = true;
		else
			json.out = stdout;
	}
	if (optind < argc)
		misused(&command_doctor, "it takes no argument");

	if (json.out)
		json_open(&json, NULL, '[');
	check_module();
	check_nodes();
	check_limits();
	if (json.out) {
		json_break(&json);
		json_close(&json, ']');
		putchar('\n');
	} else if (!quiet) {
		if (found)
			printf("\n%u %s found\n", found,
			       human_plural(found, "trouble", "troubles"));
		else
			printf("\nno trouble found\n");
	}
	stdout_done();
	return found ? STATUS_FAILED : STATUS_OK;
}

const struct command command_doctor = {
	.name = "doctor",
	.summary = "find what keeps umpsc from working, and what to do",
	.usage = usage,
	.run = doctor_run,
};
