/* SPDX-License-Identifier: MIT */
/*
 * Nodes: their names, and their figures in sysfs
 *
 * Nothing here opens a node: looking changes nothing.
 */
#ifndef _NODE_H
#define _NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/umpsc.h>

#include "command.h"

#define NODE_CLASS "/sys/class/umpsc"

/**
 * struct node - a node, which need not exist
 * @name: NAME of /dev/umpsc-NAME; "umpsc" for /dev/umpsc
 * @device: what sysfs calls it, "umpsc-NAME"
 * @path: of the device file; allocated
 */
struct node {
	char name[UMPSC_NAME_MAX + 1];
	char device[sizeof("umpsc-") + UMPSC_NAME_MAX];
	char *path;
};

/**
 * struct figures - what sysfs tells of a node, in files with these names
 *
 * umpsc(4) explains each.
 */
struct figures {
	uint64_t standing;
	uint64_t timestamp;
	uint64_t creds;
	uint64_t limit_len;
	uint64_t limit_msgs;
	uint64_t limit_bytes;
	uint64_t channel;
	uint64_t generation;
	uint64_t claimed;
	uint64_t closed;
	uint64_t ended;
	uint64_t depth;
	uint64_t bytes;
	uint64_t memory;
	uint64_t strong;
	uint64_t weak;
	uint64_t oldest_ns;
	uint64_t queued;
	uint64_t queued_bytes;
	uint64_t sent;
	uint64_t sent_bytes;
	uint64_t received;
	uint64_t received_bytes;
	uint64_t discarded;
	uint64_t refused;
	uint64_t refused_closed;
	uint64_t refused_size;
	uint64_t refused_limit;
	uint64_t refused_quota;
	uint64_t refused_memory;
	uint64_t most_messages;
	uint64_t most_bytes;
	uint64_t wakeups;
};

/**
 * struct figure - one of them
 * @name: its name
 * @offset: where it is in struct figures
 * @flag: it is 0 or 1
 */
struct figure {
	const char *name;
	size_t offset;
	bool flag;
};

/* All of them; NULL is the name behind the last. */
extern const struct figure node_figures_all[];

static inline uint64_t figure_value(const struct figures *figures,
				    const struct figure *figure)
{
	return *(const uint64_t *)((const char *)figures + figure->offset);
}

/* Is the module loaded? */
bool module_loaded(void);

/* The node /dev/umpsc-@name; ends the command if @name cannot be one. */
struct node node_named(const struct command *command, const char *name);

/* The node that the user calls @text; ends the command if it cannot be one. */
struct node node_parse(const struct command *command, const char *text);

/* As node_parse(), but ends the command where there is no such node. */
struct node node_find(const struct command *command, const char *text);

/* "/dev/umpsc-NAME is not there", with what to do about it; exit status 3. */
void node_missing(const struct node *node) __attribute__((noreturn));

/**
 * node_list - all nodes, /dev/umpsc first, then by name
 * @nodes: where they go, allocated
 *
 * Return: how many.
 */
size_t node_list(struct node **nodes);

/**
 * node_arguments - the nodes that a command line names, or all of them
 * @command: the subcommand
 * @argc: as its function got it, with optind at the first of them
 * @argv: likewise
 * @nodes: where they go, allocated
 *
 * Ends the command where one of them does not exist, or the module is not loaded.
 *
 * Return: how many.
 */
size_t node_arguments(const struct command *command, int argc, char **argv,
		      struct node **nodes);

/*
 * The number of its device, allocated; NULL where there is no such node.  One that is
 * removed and made anew has another.
 */
char *node_number(const struct node *node);

/* All figures; false where there is no such node, or no more. */
bool node_figures(const struct node *node, struct figures *figures);

#endif /* _NODE_H */
