// SPDX-License-Identifier: MIT
/*
 * umpsc holders: who has handles of which node, and what keeps the module loaded
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "handles.h"
#include "human.h"
#include "json.h"
#include "node.h"
#include "table.h"
#include "users.h"

static const char usage[] =
	"Usage: umpsc holders [OPTION]... [NODE]...\n"
	"List the handles that processes have open, those of private channels included, and\n"
	"the nodes whose messages keep the module loaded.\n"
	"\n"
	"  -j, --json    an array with an object for each handle\n"
	"\n"
	"Of other users' processes only root sees the handles.\n";

static const struct option options[] = { { "json", no_argument, NULL, 'j' },
					 {} };

static const struct column columns[] = {
	{ "NODE", false },    { "CHANNEL", true }, { "ROLE", false },
	{ "PID", true },      { "FD", true },	   { "USER", false },
	{ "COMMAND", false },
};

/* The name of the node that a handle came from, or "" for a private channel. */
static const char *handle_node(const struct handle *h)
{
	if (!*h->device)
		return "";
	return strcmp(h->device, "umpsc") ? h->device + strlen("umpsc-") :
					    h->device;
}

static bool handle_wanted(const struct handle *h, const struct node *nodes,
			  size_t n, bool all)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (!strcmp(h->device, nodes[i].device))
			return true;
	return all;
}

/* By node, and there by channel; else by process, as they were found. */
static int compare_by_node(const void *a, const void *b)
{
	const struct handle *x = a, *y = b;
	int order = strcmp(x->device, y->device);

	if (!order)
		order = (x->channel > y->channel) - (x->channel < y->channel);
	if (!order)
		order = x->pid == y->pid ? x->fd - y->fd : x->pid - y->pid;
	return order;
}

/* ---- For people ----------------------------------------------------------- */

static void list_handle(struct table *table, const struct handle *h)
{
	char *user = user_name(h->uid);

	/* A node's channel by its number there; a private one has its id only. */
	table_cell(table, "%s", *h->device ? handle_node(h) : "(private)");
	if (h->channel)
		table_cell(table, "%" PRIu64,
			   *h->device ? h->generation : h->channel);
	else
		table_cell(table, "-");
	table_cell(table, "%s", h->role);
	table_cell(table, "%d", h->pid);
	table_cell(table, "%d", h->fd);
	table_cell(table, "%s", user);
	table_cell(table, "%s", h->comm);
	free(user);
}

/* What keeps the module loaded beside handles. */
static void say_waiting(const struct node *nodes, size_t n)
{
	struct figures f;
	size_t i;

	for (i = 0; i < n; i++) {
		if (!node_figures(&nodes[i], &f) || !f.depth || f.claimed ||
		    f.closed)
			continue;
		printf("%s: %" PRIu64
		       " %s for a receiver and %s the module loaded\n",
		       nodes[i].name, f.depth,
		       human_plural(f.depth, "message waits", "messages wait"),
		       human_plural(f.depth, "keeps", "keep"));
	}
}

static void print_people(const struct handles *handles,
			 const struct node *nodes, size_t n, bool all)
{
	struct table table = TABLE(columns);
	size_t i;

	for (i = 0; i < handles->count; i++)
		if (handle_wanted(&handles->all[i], nodes, n, all))
			list_handle(&table, &handles->all[i]);
	if (table.ncells)
		table_print(&table, stdout, 0, SIZE_MAX);
	table_clear(&table);
	say_waiting(nodes, n);
	if (handles->hidden)
		say("%zu %s of other users not shown; root sees them",
		    handles->hidden,
		    human_plural(handles->hidden, "process", "processes"));
}

/* ---- JSON ----------------------------------------------------------------- */

static void print_json(const struct handles *handles, const struct node *nodes,
		       size_t n, bool all)
{
	struct json json = { .out = stdout };
	const struct handle *h;
	size_t i;

	json_open(&json, NULL, '[');
	for (i = 0; i < handles->count; i++) {
		h = &handles->all[i];
		if (!handle_wanted(h, nodes, n, all))
			continue;
		json_break(&json);
		json_open(&json, NULL, '{');
		json_text(&json, "node", handle_node(h));
		json_number(&json, "channel", h->channel);
		json_number(&json, "generation", h->generation);
		json_text(&json, "role", h->role);
		json_number(&json, "handle", h->id);
		json_number(&json, "pid", h->pid);
		json_number(&json, "fd", h->fd);
		json_number(&json, "uid", h->uid);
		json_text(&json, "command", h->comm);
		json_close(&json, '}');
	}
	json_break(&json);
	json_close(&json, ']');
	puts("");
}

/* ---- The command ---------------------------------------------------------- */

static int holders_run(int argc, char **argv)
{
	struct handles handles;
	struct node *nodes;
	bool json = false, all;
	int option;
	size_t n;

	while ((option = next_option(&command_holders, argc, argv, "j",
				     options)) != -1)
		json = true;
	all = optind == argc;
	n = node_arguments(&command_holders, argc, argv, &nodes);
	handles = handles_scan();
	if (handles.count)
		qsort(handles.all, handles.count, sizeof(*handles.all),
		      compare_by_node);
	(json ? print_json : print_people)(&handles, nodes, n, all);
	handles_free(&handles);
	stdout_done();
	return STATUS_OK;
}

const struct command command_holders = {
	.name = "holders",
	.summary = "list who has handles open",
	.usage = usage,
	.run = holders_run,
};
