// SPDX-License-Identifier: MIT
/*
 * umpsc ls: list nodes
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "human.h"
#include "node.h"
#include "root.h"
#include "table.h"
#include "users.h"

static const char usage[] =
	"Usage: umpsc ls [OPTION]... [NODE]...\n"
	"List nodes, with what is queued and who is there.\n"
	"\n"
	"  -q, --quiet    names only\n"
	"\n"
	"'umpsc stat' tells more, and in JSON.\n";

static const struct option options[] = { { "quiet", no_argument, NULL, 'q' },
					 {} };

static const struct column columns[] = {
	{ "NODE", false },   { "KIND", false },	  { "MESSAGES", true },
	{ "BYTES", true },   { "SENDERS", true }, { "RECEIVER", false },
	{ "ACCESS", false },
};

static void list_access(struct table *table, const struct node *node)
{
	char mode[HUMAN_MAX], *user, *group;
	struct stat st;

	if (root_lstat(node->path, &st)) {
		table_cell(table, "%s is missing", node->path);
		return;
	}
	user = user_name(st.st_uid);
	group = group_name(st.st_gid);
	table_cell(table, "%s %s %s", human_mode(st.st_mode, mode), user,
		   group);
	free(user);
	free(group);
}

static void list_one(struct table *table, const struct node *node)
{
	char text[HUMAN_MAX];
	struct figures f;

	/* One that went meanwhile is not there. */
	if (!node_figures(node, &f))
		return;
	table_cell(table, "%s", node->name);
	table_cell(table, "%s", f.standing ? "standing" : "ordinary");
	table_cell(table, "%llu", (unsigned long long)f.depth);
	table_cell(table, "%s", human_bytes(f.bytes, text));
	table_cell(table, "%llu", (unsigned long long)f.strong);
	table_cell(table, "%s", f.claimed ? "yes" : "-");
	list_access(table, node);
}

static int ls(int argc, char **argv)
{
	struct table table = TABLE(columns);
	struct node *nodes;
	bool quiet = false;
	int option;
	size_t n, i;

	while ((option = next_option(&command_ls, argc, argv, "q", options)) !=
	       -1)
		quiet = true;
	n = node_arguments(&command_ls, argc, argv, &nodes);
	for (i = 0; i < n; i++) {
		if (quiet)
			puts(nodes[i].name);
		else
			list_one(&table, &nodes[i]);
	}
	if (!quiet)
		table_print(&table, stdout, 0, SIZE_MAX);
	table_clear(&table);
	stdout_done();
	return STATUS_OK;
}

const struct command command_ls = {
	.name = "ls",
	.summary = "list nodes",
	.usage = usage,
	.run = ls,
};
