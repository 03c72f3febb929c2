/* SPDX-License-Identifier: MIT */
/*
 * Handles that processes have open, as /proc tells
 *
 * One for each descriptor: fork(2) and dup(2) give several of one handle.  What is
 * under way through a socket, or held by io_uring alone, no process shows.
 */
#ifndef _HANDLES_H
#define _HANDLES_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/**
 * struct handle - a descriptor of a handle
 * @pid: the process
 * @uid: its owner
 * @fd: the descriptor's number
 * @comm: the process's command; allocated
 * @role: sender, weak, receiver or manager; allocated
 * @device: the node that it came from, as sysfs calls it, or ""; allocated
 * @state: of its channel: closed, claimed, ...; allocated
 * @channel: the channel's id, 0 for a manager of a node that has none
 * @generation: which of its node's channels it is, 0 for a private one
 * @id: a sender's or weak sender's, else 0
 * @messages: queued in its channel
 */
struct handle {
	pid_t pid;
	uid_t uid;
	int fd;
	char *comm;
	char *role;
	char *device;
	char *state;
	uint64_t channel;
	uint64_t generation;
	uint64_t id;
	uint64_t messages;
};

/**
 * struct handles - what a look at all processes found
 * @all: the handles, by process and descriptor
 * @count: how many
 * @hidden: processes whose descriptors this user may not see
 */
struct handles {
	struct handle *all;
	size_t count;
	size_t hidden;
};

struct handles handles_scan(void);
void handles_free(struct handles *handles);

#endif /* _HANDLES_H */
