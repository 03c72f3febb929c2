/* SPDX-License-Identifier: MIT */
/*
 * Opening nodes, for those who use them
 */
#ifndef _OPEN_H
#define _OPEN_H

#include "node.h"

/* What is wanted of a node. */
enum open_role {
	OPEN_SENDER,
	OPEN_RECEIVER,
	OPEN_MANAGER,
};

/* A descriptor; or the command ends, having said why and what to do. */
int node_open(const struct node *node, enum open_role role);

/* The same, for errno as node_open() would have found it. */
void node_open_failed(const struct node *node, int error)
	__attribute__((noreturn));

#endif /* _OPEN_H */
