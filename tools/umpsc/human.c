// SPDX-License-Identifier: MIT
/*
 * Numbers as people read and write them
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "command.h"
#include "human.h"

/* A unit, as text and in the base unit. */
struct unit {
	const char *name;
	double worth;
};

/* @value in the largest of @units, in growing order, of which it is one or more. */
static const char *human(double value, const struct unit *units, size_t n,
			 char *text)
{
	const struct unit *unit = units;
	size_t i;

	/* What would be rounded to 1024.0 or 60.0 of a unit is 1.0 of the next. */
	for (i = 1; i < n; i++)
		if (value >= units[i].worth - units[i - 1].worth * 0.05)
			unit = &units[i];
	snprintf(text, HUMAN_MAX, unit == units ? "%.0f %s" : "%.1f %s",
		 value / unit->worth, unit->name);
	return text;
}

const char *human_bytes(uint64_t bytes, char *text)
{
	static const struct unit units[] = {
		{ "B", 1 },
		{ "KiB", 1ULL << 10 },
		{ "MiB", 1ULL << 20 },
		{ "GiB", 1ULL << 30 },
		{ "TiB", 1ULL << 40 },
		{ "PiB", 1ULL << 50 },
		{ "EiB", 1ULL << 60 },
	};

	return human(bytes, units, ARRAY_SIZE(units), text);
}

const char *human_count(uint64_t count, char *text)
{
	static const struct unit units[] = {
		{ "", 1 },     { "M", 1e6 },  { "G", 1e9 },
		{ "T", 1e12 }, { "P", 1e15 },
	};

	if (count >= 10000000)
		return human(count, units, ARRAY_SIZE(units), text);
	snprintf(text, HUMAN_MAX, "%llu", (unsigned long long)count);
	return text;
}

const char *human_duration(uint64_t ns, char *text)
{
	static const struct unit units[] = {
		{ "ns", 1 },	  { "us", 1e3 },   { "ms", 1e6 },
		{ "s", 1e9 },	  { "min", 60e9 }, { "h", 3600e9 },
		{ "d", 86400e9 },
	};

	return human(ns, units, ARRAY_SIZE(units), text);
}

const char *human_plural(uint64_t count, const char *one, const char *many)
{
	return count == 1 ? one : many;
}

const char *human_mode(unsigned int mode, char *text)
{
	static const char letters[] = "rwxrwxrwx";
	int i;

	for (i = 0; i < 9; i++)
		text[i] = mode & (0400U >> i) ? letters[i] : '-';
	text[i] = '\0';
	return text;
}

/*
 * A number and one of @units, or a number of the first of them; rounded to a whole
 * one.  Case does not matter, and there may be a blank between the two.
 */
static bool parse(const char *text, const struct unit *units, size_t n,
		  uint64_t *value)
{
	double number;
	char *end;
	size_t i;

	/* Neither a sign nor "inf" nor hexadecimal. */
	if (!isdigit((unsigned char)*text) && *text != '.')
		return false;
	if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
		return false;
	errno = 0;
	number = strtod(text, &end);
	if (end == text || errno)
		return false;
	while (*end == ' ')
		end++;
	for (i = 0; i < n; i++)
		if (!strcasecmp(end, units[i].name))
			break;
	if (*end && i == n)
		return false;
	number = number * units[*end ? i : 0].worth + 0.5;
	if (number >= 18446744073709551616.0)
		return false;
	*value = (uint64_t)number;
	return true;
}

bool parse_bytes(const char *text, uint64_t *bytes)
{
	static const struct unit units[] = {
		{ "B", 1 },
		{ "K", 1ULL << 10 },
		{ "KiB", 1ULL << 10 },
		{ "M", 1ULL << 20 },
		{ "MiB", 1ULL << 20 },
		{ "G", 1ULL << 30 },
		{ "GiB", 1ULL << 30 },
		{ "T", 1ULL << 40 },
		{ "TiB", 1ULL << 40 },
	};

	return parse(text, units, ARRAY_SIZE(units), bytes);
}

bool parse_duration(const char *text, uint64_t *ns)
{
	static const struct unit units[] = {
		{ "s", 1e9 },	 { "ms", 1e6 },	   { "us", 1e3 },
		{ "ns", 1 },	 { "m", 60e9 },	   { "min", 60e9 },
		{ "h", 3600e9 }, { "d", 86400e9 },
	};

	return parse(text, units, ARRAY_SIZE(units), ns);
}

bool parse_count(const char *text, uint64_t *count)
{
	unsigned long long value;
	char *end;

	if (!isdigit((unsigned char)*text))
		return false;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (*end || errno)
		return false;
	*count = value;
	return true;
}
