/* SPDX-License-Identifier: MIT */
/*
 * JSON, written as it comes (RFC 8259)
 *
 * Each value has a key, but those of an array, and the outermost one: NULL there.
 * Commas are put where they belong.
 */
#ifndef _JSON_H
#define _JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/**
 * struct json - a text that is being written
 * @out: where to
 * @more: a value stands ahead of the next one
 * @broken: the next value or bracket is to begin a line
 */
struct json {
	FILE *out;
	bool more;
	bool broken;
};

/* @bracket: '{' or '['; the closing one is '}' or ']'. */
void json_open(struct json *json, const char *key, char bracket);
void json_close(struct json *json, char bracket);

/* What comes next, value or bracket, begins a line. */
void json_break(struct json *json);

void json_number(struct json *json, const char *key, uint64_t value);
void json_bool(struct json *json, const char *key, bool value);

/* A text.  Bytes that are not UTF-8 become U+FFFD each. */
void json_text(struct json *json, const char *key, const char *text);

/*
 * Any bytes: as a text under @key if they are UTF-8, else in base64 (RFC 4648)
 * under @key_base64.
 */
void json_bytes(struct json *json, const char *key, const char *key_base64,
		const void *bytes, size_t len);

#endif /* _JSON_H */
