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
static unsigned int found;
/* Where @json.out is set; the object of the last finding is still open. */
static struct json json;

static void close_finding(void)
{
	if (!json.out || !found)
		return;
	json_close(&json, ']');
	json_close(&json, '}');
}

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

void check_found(enum severity severity, const char *id, const char *format,
		 ...)
{
	const char *name = severity == PROBLEM ? "problem" : "warning";
	va_list args;
	char *what;

	va_start(args, format);
	what = text_vformat(format, args);
	va_end(args);
	close_finding();
	found++;
	if (json.out) {
		json_break(&json);
		json_open(&json, NULL, '{');
		json_text(&json, "id", id);
		json_text(&json, "severity", name);
		json_text(&json, "what", what);
		json_open(&json, "remedy", '[');
	} else {
		printf("%-8s %s [%s]\n", name, what, id);
	}
	free(what);
}

void check_remedy(const char *format, ...)
{
	va_list args;
	char *line;

	va_start(args, format);
	line = text_vformat(format, args);
	va_end(args);
	if (json.out)
		json_text(&json, NULL, line);
	else
		printf("         -> %s\n", line);
	free(line);
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
	close_finding();
	if (json.out) {
		json_break(&json);
		json_close(&json, ']');
		putchar('\n');
	} else if (!quiet && found) {
		printf("\n%u %s found\n", found,
		       human_plural(found, "trouble", "troubles"));
	} else if (!quiet) {
		puts("\nno trouble found");
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
