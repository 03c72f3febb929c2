/* SPDX-License-Identifier: MIT */
/*
 * Numbers as people read and write them
 */
#ifndef _HUMAN_H
#define _HUMAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Room for any of the texts below. */
#define HUMAN_MAX 32

/* Each writes into @text, of HUMAN_MAX bytes, and returns it. */

/* "512 B", "4.1 KiB" */
const char *human_bytes(uint64_t bytes, char *text);

/* "9999999", then "12.3 M" */
const char *human_count(uint64_t count, char *text);

/* "3 ms", "2.5 s", "12 min" */
const char *human_duration(uint64_t ns, char *text);

/* "message" or "messages" */
const char *human_plural(uint64_t count, const char *one, const char *many);

/* "rw-rw----", for permission bits */
const char *human_mode(unsigned int mode, char *text);

/* "64", "64K", "1.5 MiB": bytes; false if it is none. */
bool parse_bytes(const char *text, uint64_t *bytes);

/* "2", "1.5s", "500ms", "2m", "1h": ns; false if it is none. */
bool parse_duration(const char *text, uint64_t *ns);

/* A whole number, or false. */
bool parse_count(const char *text, uint64_t *count);

#endif /* _HUMAN_H */
