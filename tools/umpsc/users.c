// SPDX-License-Identifier: MIT
/*
 * Users and groups by name
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "human.h"
#include "root.h"
#include "users.h"

#define PASSWD "/etc/passwd"
#define GROUP "/etc/group"

/*
 * Both files have lines NAME:PASSWORD:NUMBER:...  Returns the line of which @name
 * is the name, or, where that is NULL, @id the number; split, in *@text.
 */
static char *line_find(const char *path, const char *name, uint32_t id,
		       uint32_t *number, char **text)
{
	char *rest, *line, *fields[3], *end;
	size_t i;

	*text = root_read(path, NULL);
	rest = *text;
	while (rest && (line = strsep(&rest, "\n"))) {
		for (i = 0; i < 3 && line; i++)
			fields[i] = strsep(&line, ":");
		if (i < 3)
			continue;
		*number = strtoul(fields[2], &end, 10);
		if (end == fields[2] || *end)
			continue;
		if (name ? !strcmp(fields[0], name) : *number == id)
			return fields[0];
	}
	return NULL;
}

static char *name_of(const char *path, uint32_t id)
{
	char *text, *name;
	uint32_t number;

	name = line_find(path, NULL, id, &number, &text);
	name = name ? text_copy(name) : text_format("%u", id);
	free(text);
	return name;
}

static bool number_of(const char *path, const char *name, uint32_t *id)
{
	uint64_t value;
	bool found;
	char *text;

	if (parse_count(name, &value) && value < UINT32_MAX) {
		*id = value;
		return true;
	}
	found = line_find(path, name, 0, id, &text);
	free(text);
	return found;
}

char *user_name(uint32_t uid)
{
	return name_of(PASSWD, uid);
}

char *group_name(uint32_t gid)
{
	return name_of(GROUP, gid);
}

bool user_parse(const char *text, uint32_t *uid)
{
	return number_of(PASSWD, text, uid);
}

bool group_parse(const char *text, uint32_t *gid)
{
	return number_of(GROUP, text, gid);
}
