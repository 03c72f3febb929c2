// SPDX-License-Identifier: MIT
/*
 * JSON, written as it comes (RFC 8259)
 */
#include <string.h>

#include "json.h"

/*
 * Bytes of the character that @text begins with, or 0: it is not UTF-8 (RFC 3629:
 * neither longer than need be, nor half of a pair, nor above U+10FFFF).
 */
static size_t utf8_len(const unsigned char *text, size_t len)
{
	unsigned char low = 0x80, high = 0xbf;
	size_t n, i;

	if (text[0] < 0x80)
		return 1;
	if (text[0] >= 0xc2 && text[0] <= 0xdf)
		n = 2;
	else if (text[0] >= 0xe0 && text[0] <= 0xef)
		n = 3;
	else if (text[0] >= 0xf0 && text[0] <= 0xf4)
		n = 4;
	else
		return 0;
	if (n > len)
		return 0;
	if (text[0] == 0xe0)
		low = 0xa0;
	else if (text[0] == 0xed)
		high = 0x9f;
	else if (text[0] == 0xf0)
		low = 0x90;
	else if (text[0] == 0xf4)
		high = 0x8f;
	for (i = 1; i < n; i++, low = 0x80, high = 0xbf)
		if (text[i] < low || text[i] > high)
			return 0;
	return n;
}

static bool is_utf8(const unsigned char *text, size_t len)
{
	size_t n;

	for (; len; text += n, len -= n) {
		n = utf8_len(text, len);
		if (!n)
			return false;
	}
	return true;
}

static void write_character(FILE *out, const unsigned char *c, size_t n)
{
	static const char short_for[] = "\b\f\n\r\t\"\\";
	static const char letters[] = "bfnrt\"\\";
	const char *found;

	if (!n) {
		fputs("\\ufffd", out);
		return;
	}
	found = *c ? strchr(short_for, *c) : NULL;
	if (found)
		fprintf(out, "\\%c", letters[found - short_for]);
	else if (*c < 0x20 || *c == 0x7f)
		fprintf(out, "\\u%04x", *c);
	else
		fwrite(c, 1, n, out);
}

static void write_string(FILE *out, const unsigned char *text, size_t len)
{
	size_t n;

	fputc('"', out);
	for (; len; text += n, len -= n) {
		n = utf8_len(text, len);
		write_character(out, text, n);
		if (!n)
			n = 1;
	}
	fputc('"', out);
}

static void write_base64(FILE *out, const unsigned char *bytes, size_t len)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	unsigned int group;
	size_t n, i;

	fputc('"', out);
	for (; len; bytes += n, len -= n) {
		n = len < 3 ? len : 3;
		group = 0;
		for (i = 0; i < 3; i++)
			group = group << 8 | (i < n ? bytes[i] : 0);
		for (i = 0; i < 4; i++)
			fputc(i <= n ? digits[group >> (18 - 6 * i) & 0x3f] :
				       '=',
			      out);
	}
	fputc('"', out);
}

static void write_break(struct json *json)
{
	if (json->broken)
		fputc('\n', json->out);
	json->broken = false;
}

static void write_key(struct json *json, const char *key)
{
	if (json->more)
		fputc(',', json->out);
	json->more = true;
	write_break(json);
	if (!key)
		return;
	write_string(json->out, (const unsigned char *)key, strlen(key));
	fputc(':', json->out);
}

void json_open(struct json *json, const char *key, char bracket)
{
	write_key(json, key);
	fputc(bracket, json->out);
	json->more = false;
}

void json_close(struct json *json, char bracket)
{
	write_break(json);
	fputc(bracket, json->out);
	json->more = true;
}

void json_break(struct json *json)
{
	json->broken = true;
}

void json_number(struct json *json, const char *key, uint64_t value)
{
	write_key(json, key);
	fprintf(json->out, "%llu", (unsigned long long)value);
}

void json_bool(struct json *json, const char *key, bool value)
{
	write_key(json, key);
	fputs(value ? "true" : "false", json->out);
}

void json_text(struct json *json, const char *key, const char *text)
{
	write_key(json, key);
	write_string(json->out, (const unsigned char *)text, strlen(text));
}

void json_bytes(struct json *json, const char *key, const char *key_base64,
		const void *bytes, size_t len)
{
	if (is_utf8(bytes, len)) {
		write_key(json, key);
		write_string(json->out, bytes, len);
	} else {
		write_key(json, key_base64);
		write_base64(json->out, bytes, len);
	}
}
