// SPDX-License-Identifier: MIT
/*
 * Nodes: their names, and their figures in sysfs
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "node.h"
#include "root.h"

#define FIRST "umpsc"
#define PREFIX "umpsc-"
#define NOT_LOADED                                                \
	"the module umpsc is not loaded; 'modprobe umpsc' loads " \
	"it, and 'umpsc doctor' says why it does not"
#define NAME_CHARACTERS              \
	"abcdefghijklmnopqrstuvwxyz" \
	"ABCDEFGHIJKLMNOPQRSTUVWXYZ" \
	"0123456789_-"

#define NUMBER(name)                                         \
	{                                                    \
#name, offsetof(struct figures, name), false \
	}
#define FLAG(name)                                          \
	{                                                   \
#name, offsetof(struct figures, name), true \
	}

const struct figure node_figures_all[] = { FLAG(standing),
					   FLAG(timestamp),
					   FLAG(creds),
					   NUMBER(limit_len),
					   NUMBER(limit_msgs),
					   NUMBER(limit_bytes),
					   NUMBER(channel),
					   NUMBER(generation),
					   FLAG(claimed),
					   FLAG(closed),
					   FLAG(ended),
					   NUMBER(depth),
					   NUMBER(bytes),
					   NUMBER(memory),
					   NUMBER(strong),
					   NUMBER(weak),
					   NUMBER(oldest_ns),
					   NUMBER(queued),
					   NUMBER(queued_bytes),
					   NUMBER(sent),
					   NUMBER(sent_bytes),
					   NUMBER(received),
					   NUMBER(received_bytes),
					   NUMBER(discarded),
					   NUMBER(refused),
					   NUMBER(refused_closed),
					   NUMBER(refused_size),
					   NUMBER(refused_limit),
					   NUMBER(refused_quota),
					   NUMBER(refused_memory),
					   NUMBER(most_messages),
					   NUMBER(most_bytes),
					   NUMBER(wakeups),
					   {} };

bool module_loaded(void)
{
	return root_exists("/sys/module/umpsc");
}

static bool name_ok(const char *name)
{
	size_t len = strlen(name);

	return len && len <= UMPSC_NAME_MAX &&
	       strspn(name, NAME_CHARACTERS) == len;
}

/* The node that is @device in sysfs, "umpsc" or "umpsc-NAME"; false: none can be. */
static bool node_of_device(struct node *node, const char *device)
{
	const char *name = device;

	if (strcmp(device, FIRST)) {
		if (strncmp(device, PREFIX, strlen(PREFIX)))
			return false;
		name += strlen(PREFIX);
		if (!name_ok(name))
			return false;
	}
	snprintf(node->name, sizeof(node->name), "%s", name);
	snprintf(node->device, sizeof(node->device), "%s", device);
	node->path = text_format("/dev/%s", device);
	return true;
}

static bool device_exists(const char *device)
{
	char *path = text_format(NODE_CLASS "/%s", device);
	bool exists = root_exists(path);

	free(path);
	return exists;
}

/* By its number, since a device file may lie and be named anywhere. */
static char *device_of_file(const char *path)
{
	char *link, *target, *device;
	struct stat st;

	if (stat(path, &st) || !S_ISCHR(st.st_mode))
		return NULL;
	link = text_format("/sys/dev/char/%u:%u", major(st.st_rdev),
			   minor(st.st_rdev));
	target = root_readlink(link);
	free(link);
	if (!target)
		return NULL;
	device = text_copy(basename(target));
	free(target);
	return device;
}

static struct node node_of_path(const struct command *command, const char *path)
{
	char *device = device_of_file(path);
	struct node node;

	if (!device)
		device = text_copy(basename(path));
	if (!node_of_device(&node, device))
		misused(command, "'%s' is not the path of a node", path);
	free(device);
	free(node.path);
	node.path = text_copy(path);
	return node;
}

struct node node_named(const struct command *command, const char *name)
{
	char *device = text_format(PREFIX "%s", name);
	struct node node;

	if (!node_of_device(&node, device))
		misused(command,
			"'%s' is no name: 1 to %d of the characters A-Z a-z 0-9 _ -",
			name, UMPSC_NAME_MAX);
	free(device);
	return node;
}

struct node node_parse(const struct command *command, const char *text)
{
	struct node node = {};
	char *device;

	if (strchr(text, '/'))
		return node_of_path(command, text);
	if (!strcmp(text, FIRST)) {
		node_of_device(&node, text);
		return node;
	}
	/* As /dev and /sys have it, which is what one copies from there. */
	device = text_format(PREFIX "%s", text);
	if (!strncmp(text, PREFIX, strlen(PREFIX)) && !device_exists(device) &&
	    node_of_device(&node, text)) {
		free(device);
		return node;
	}
	free(device);
	return node_named(command, text);
}

void node_missing(const struct node *node)
{
	if (!module_loaded())
		die(STATUS_NO_NODE, "%s: %s", node->name, NOT_LOADED);
	die(STATUS_NO_NODE,
	    "%s: there is no such node; 'umpsc ls' lists those there are, 'umpsc create %s' makes it",
	    node->name, node->name);
}

struct node node_find(const struct command *command, const char *text)
{
	struct node node = node_parse(command, text);

	if (!device_exists(node.device))
		node_missing(&node);
	return node;
}

static int node_compare(const void *a, const void *b)
{
	const struct node *x = a, *y = b;

	return strcmp(x->device, y->device);
}

size_t node_list(struct node **nodes)
{
	DIR *dir = root_opendir(NODE_CLASS);
	struct dirent *entry;
	struct node node;
	size_t n = 0;

	*nodes = NULL;
	if (!dir)
		return 0;
	while ((entry = readdir(dir))) {
		if (!node_of_device(&node, entry->d_name))
			continue;
		*nodes = array_grow(*nodes, n, sizeof(**nodes));
		(*nodes)[n++] = node;
	}
	closedir(dir);
	if (n)
		qsort(*nodes, n, sizeof(**nodes), node_compare);
	return n;
}

size_t node_arguments(const struct command *command, int argc, char **argv,
		      struct node **nodes)
{
	size_t n = 0;

	if (optind == argc) {
		if (!module_loaded())
			die(STATUS_NO_NODE, "%s", NOT_LOADED);
		return node_list(nodes);
	}
	*nodes = NULL;
	for (; optind < argc; optind++) {
		*nodes = array_grow(*nodes, n, sizeof(**nodes));
		(*nodes)[n++] = node_find(command, argv[optind]);
	}
	return n;
}

char *node_number(const struct node *node)
{
	char *path = text_format(NODE_CLASS "/%s/dev", node->device);
	char *number = root_read(path, NULL);

	free(path);
	return number;
}

bool node_figures(const struct node *node, struct figures *figures)
{
	const struct figure *figure;
	uint64_t *value;
	char *path;
	bool ok;

	for (figure = node_figures_all; figure->name; figure++) {
		path = text_format(NODE_CLASS "/%s/%s", node->device,
				   figure->name);
		value = (uint64_t *)((char *)figures + figure->offset);
		ok = root_number(path, value);
		free(path);
		if (!ok)
			return false;
	}
	return true;
}
