/* SPDX-License-Identifier: MIT */
/*
 * Users and groups by name
 *
 * As /etc/passwd and /etc/group have them: a static program cannot ask anybody else.
 */
#ifndef _USERS_H
#define _USERS_H

#include <stdbool.h>
#include <stdint.h>

/* The name, or the number where there is none; allocated. */
char *user_name(uint32_t uid);
char *group_name(uint32_t gid);

/* A name or a number: true, or false where there is no such one. */
bool user_parse(const char *text, uint32_t *uid);
bool group_parse(const char *text, uint32_t *gid);

#endif /* _USERS_H */
