// SPDX-License-Identifier: MIT
/*
 * How far something that takes long has come, on a terminal
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "command.h"
#include "human.h"
#include "progress.h"
#include "terminal.h"

/* What is done sooner needs no progress shown. */
#define LONG_NS (700 * NSEC_PER_MSEC)
#define DRAW_NS (200 * NSEC_PER_MSEC)

#define BAR_MIN 10
#define BAR_MAX 40

void progress_begin(struct progress *progress, const char *label,
		    uint64_t total)
{
	progress->label = label;
	progress->total = total;
	progress->enabled = isatty(STDERR_FILENO);
	progress->shown = false;
	progress->begun_ns = now_ns();
	progress->drawn_ns = 0;
}

/* " 45% [########------------] " in @width characters, or nothing where too narrow. */
static char *progress_bar(double part, size_t width)
{
	char bar[BAR_MAX + 1];
	size_t len = width, i;

	if (len > BAR_MAX)
		len = BAR_MAX;
	if (len < BAR_MIN)
		return text_format("%3.0f%%", part * 100);
	for (i = 0; i < len; i++)
		bar[i] = i < part * len ? '#' : '-';
	bar[len] = '\0';
	return text_format("%3.0f%% [%s]", part * 100, bar);
}

/* "12.3 of 27.1 MiB, 120000 messages, 3.1 MiB/s, 5 s left" */
static char *progress_text(const struct progress *progress, uint64_t bytes,
			   uint64_t messages, uint64_t elapsed)
{
	char done[HUMAN_MAX], total[HUMAN_MAX], rate[HUMAN_MAX];
	double per_ns = (double)bytes / elapsed;
	char left[HUMAN_MAX];
	const char *unit = human_plural(messages, "message", "messages");

	human_bytes(bytes, done);
	human_bytes(per_ns * NSEC_PER_SEC, rate);
	if (!progress->total)
		return text_format("%s, %" PRIu64 " %s, %s/s", done, messages,
				   unit, rate);
	human_bytes(progress->total, total);
	if (!bytes || bytes > progress->total)
		snprintf(left, sizeof(left), "?");
	else
		human_duration((progress->total - bytes) / per_ns, left);
	return text_format("%s of %s, %" PRIu64 " %s, %s/s, %s left", done,
			   total, messages, unit, rate, left);
}

static void progress_draw(struct progress *progress, uint64_t bytes,
			  uint64_t messages, uint64_t elapsed)
{
	size_t columns = terminal_columns(STDERR_FILENO), used;
	char *text, *bar, *line;
	double part = 0;

	text = progress_text(progress, bytes, messages, elapsed);
	used = strlen(progress->label) + strlen(text) + strlen(": 100% [] ");
	if (progress->total) {
		part = (double)bytes / progress->total;
		if (part > 1)
			part = 1;
		bar = progress_bar(part,
				   columns > used ? columns - used - 1 : 0);
	} else {
		bar = text_copy("");
	}
	line = text_format("%s: %s%s%s", progress->label, bar, *bar ? " " : "",
			   text);
	/* The last column stays free, or the cursor might go to the next line. */
	fprintf(stderr, "\r%.*s\033[K", columns > 1 ? (int)columns - 1 : 0,
		line);
	fflush(stderr);
	free(line);
	free(bar);
	free(text);
	progress->shown = true;
}

void progress_update(struct progress *progress, uint64_t bytes,
		     uint64_t messages)
{
	uint64_t now;

	if (!progress->enabled)
		return;
	now = now_ns();
	if (now - progress->begun_ns < LONG_NS ||
	    now - progress->drawn_ns < DRAW_NS)
		return;
	progress->drawn_ns = now;
	progress_draw(progress, bytes, messages, now - progress->begun_ns);
}

void progress_end(struct progress *progress)
{
	if (progress->shown)
		fputs("\r\033[K", stderr);
	progress->shown = false;
	progress->enabled = false;
}
