// SPDX-License-Identifier: MIT
/*
 * umpsc rm: remove nodes
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <umpsc.h>

#include "human.h"
#include "node.h"
#include "open.h"

static const char usage[] =
	"Usage: umpsc rm [OPTION]... NODE...\n"
	"Remove nodes.  Needs root.\n"
	"\n"
	"A node where messages wait for a receiver is left alone, since they would be lost.\n"
	"Where there is a receiver, it can still take what is queued; no sender can join.\n"
	"\n"
	"  -f, --force    discard what waits\n";

static const struct option options[] = { { "force", no_argument, NULL, 'f' },
					 {} };

/* Says why not, and returns the status. */
static int refused(const struct node *node, int error)
{
	switch (error) {
	case EPERM:
		if (!strcmp(node->device, "umpsc"))
			say("%s: /dev/umpsc cannot be removed, it goes with the module",
			    node->name);
		else
			say("%s: removing nodes needs root (CAP_SYS_ADMIN)",
			    node->name);
		return STATUS_DENIED;
	case ENOENT:
		say("%s: there is no such node; 'umpsc ls' lists those there are",
		    node->name);
		return STATUS_NO_NODE;
	default:
		say("%s: %s", node->name, umpsc_strerror(error));
		return STATUS_FAILED;
	}
}

static int remove_one(const struct node *node, int manager, bool force)
{
	bool first = !strcmp(node->device, "umpsc");
	struct figures f;

	if (!force && !first && node_figures(node, &f) && f.depth &&
	    !f.claimed && !f.closed) {
		say("%s: %llu %s there; see 'umpsc recv', or discard with 'umpsc rm --force'",
		    node->name, (unsigned long long)f.depth,
		    human_plural(f.depth, "message waits", "messages wait"));
		return STATUS_BUSY;
	}
	if (umpsc_remove(manager, first ? "" : node->name))
		return refused(node, errno);
	return STATUS_OK;
}

static int rm(int argc, char **argv)
{
	int option, manager, ret, status = STATUS_OK;
	bool force = false;
	struct node first;

	while ((option = next_option(&command_rm, argc, argv, "f", options)) !=
	       -1)
		force = true;
	if (optind == argc)
		misused(&command_rm, "it takes one NODE or more");

	first = node_parse(&command_rm, "umpsc");
	manager = node_open(&first, OPEN_MANAGER);
	for (; optind < argc; optind++) {
		struct node node = node_parse(&command_rm, argv[optind]);

		/* Of several failures the first one is told. */
		ret = remove_one(&node, manager, force);
		if (!status)
			status = ret;
	}
	close(manager);
	return status;
}

const struct command command_rm = {
	.name = "rm",
	.summary = "remove nodes",
	.usage = usage,
	.run = rm,
};
