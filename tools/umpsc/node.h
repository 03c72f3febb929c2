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

/*
 * The figures of a node, as files in sysfs with these names: flag() of each that is
 * 0 or 1, number() of each other one.
 */
#define NODE_FIGURES(flag, number)                                                    \
	flag(standing) flag(timestamp) flag(creds) number(limit_len) number(          \
		limit_msgs) number(limit_bytes) number(channel)                       \
		number(generation) flag(claimed) flag(closed) flag(ended) number(     \
			depth) number(bytes) number(memory) number(strong)            \
			number(weak) number(oldest_ns) number(queued) number(         \
				queued_bytes) number(sent) number(sent_bytes)         \
				number(received) number(received_bytes) number(       \
					discarded) number(refused)                    \
					number(refused_closed) number(                \
						refused_size) number(refused_limit)   \
						number(refused_quota) number(         \
							refused_memory)               \
							number(most_messages) number( \
								most_bytes)           \
								number(wakeups)

#define NODE_FIGURE(name) uint64_t name;
/**
 * struct figures - what sysfs tells of a node; umpsc(4) explains each
 */
struct figures {
	NODE_FIGURES(NODE_FIGURE, NODE_FIGURE)
};

#undef NODE_FIGURE

/* Is the module loaded? */
bool module_loaded(void);

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

/* All figures; false where there is no such node, or no more. */
bool node_figures(const struct node *node, struct figures *figures);

#endif /* _NODE_H */
