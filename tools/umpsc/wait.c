// SPDX-License-Identifier: MIT
/*
 * umpsc wait: wait until a node is empty, or its channel has ended
 *
 * By looking again and again, since there is nothing to wait on without a handle,
 * and a handle would change what is waited for.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <umpsc.h>

#include "clock.h"
#include "human.h"
#include "node.h"

static const char usage[] =
	"Usage: umpsc wait [OPTION]... NODE\n"
	"Wait until nothing is queued, without taking part.\n"
	"\n"
	"  -e, --empty           until nothing is queued (the default)\n"
	"  -c, --closed          until the channel that the node leads to has ended: its\n"
	"                        receiver has closed or gone, or its last sender has; where\n"
	"                        none has begun, until the first one has\n"
	"  -t, --timeout=TIME    end with status 4 after so long\n"
	"\n"
	"With --empty and --closed, until both hold.  TIME is in seconds, or with a unit:\n"
	"500ms, 2m.  Ends with status 3 where the node is removed.\n";

static const struct option options[] = { { "empty", no_argument, NULL, 'e' },
					 { "closed", no_argument, NULL, 'c' },
					 { "timeout", required_argument, NULL,
					   't' },
					 {} };

/* From one look to the next: at first soon, then less often. */
#define LOOK_FIRST_NS (5 * NSEC_PER_MSEC)
#define LOOK_LAST_NS (200 * NSEC_PER_MSEC)

/**
 * struct waiting - what is waited for
 * @node: where
 * @number: of its device
 * @empty: that nothing is queued
 * @closed: that the channel has ended
 * @generation: which channel of the node that is
 */
struct waiting {
	struct node node;
	char *number;
	bool empty;
	bool closed;
	uint64_t generation;
};

static bool holds(const struct waiting *w, const struct figures *f)
{
	bool over = f->generation > w->generation ||
		    (f->generation == w->generation && f->ended);

	return (!w->empty || !f->queued) && (!w->closed || over);
}

/* Ends the command where the node has gone, even if one of its name is there again. */
static struct figures look(const struct waiting *w)
{
	struct figures f;
	char *number;
	bool there;

	there = node_figures(&w->node, &f);
	number = node_number(&w->node);
	if (!there || !number || !w->number || strcmp(number, w->number))
		die(STATUS_NO_NODE, "%s: the node has been removed",
		    w->node.name);
	free(number);
	return f;
}

static int wait_run(int argc, char **argv)
{
	uint64_t timeout = UMPSC_NO_DEADLINE, start = now_ns(), now;
	uint64_t pause = LOOK_FIRST_NS;
	struct waiting w = {};
	char text[HUMAN_MAX];
	struct figures f;
	int option;

	while ((option = next_option(&command_wait, argc, argv,
				     "ect:", options)) != -1) {
		if (option == 'e')
			w.empty = true;
		else if (option == 'c')
			w.closed = true;
		else if (!parse_duration(optarg, &timeout))
			misused(&command_wait, "'%s' is not a time", optarg);
	}
	if (argc - optind != 1)
		misused(&command_wait, "it takes one NODE");
	if (!w.closed)
		w.empty = true;
	w.node = node_find(&command_wait, argv[optind]);
	w.number = node_number(&w.node);

	for (;;) {
		f = look(&w);
		/* Generations count from 1. */
		if (!w.generation)
			w.generation = f.generation ? f.generation : 1;
		if (holds(&w, &f))
			return STATUS_OK;
		now = now_ns();
		if (now - start >= timeout)
			break;
		if (pause > timeout - (now - start))
			pause = timeout - (now - start);
		sleep_ns(pause);
		pause = pause < LOOK_LAST_NS / 2 ? 2 * pause : LOOK_LAST_NS;
	}
	die(STATUS_TIMEOUT, "%s: after %s still %s", w.node.name,
	    human_duration(timeout, text),
	    w.empty && f.queued ? "not empty" : "open");
}

const struct command command_wait = {
	.name = "wait",
	.summary = "wait until a node is empty, or its channel has ended",
	.usage = usage,
	.run = wait_run,
};
