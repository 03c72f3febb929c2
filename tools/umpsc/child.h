/* SPDX-License-Identifier: MIT */
/*
 * A command that gets a message
 */
#ifndef _CHILD_H
#define _CHILD_H

#include <stdbool.h>
#include <stdint.h>

#include <umpsc.h>

/**
 * child_run - run a command in a shell, with a message on its standard input
 * @command: the command
 * @m: the message; UMPSC_SEQ, ... in the environment tell what is known of it
 * @flags: of the channel: what is known
 * @why: NULL where the command succeeded, else what became of it, as "ended with
 *	status 3"; allocated
 *
 * Return: did the command get the message?
 */
bool child_run(const char *command, const struct umpsc_message *m,
	       uint32_t flags, char **why);

#endif /* _CHILD_H */
