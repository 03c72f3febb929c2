// SPDX-License-Identifier: MIT
/*
 * Handles that processes have open, as /proc tells
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "handles.h"
#include "root.h"

/* The text behind "@key:" and blanks in fdinfo, allocated; or NULL. */
static char *fdinfo_text(const char *fdinfo, const char *key)
{
	size_t len = strlen(key);
	const char *line;

	for (line = fdinfo; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, len) || line[len] != ':')
			continue;
		line += len + 1;
		line += strspn(line, "\t ");
		return text_format("%.*s", (int)strcspn(line, "\n"), line);
	}
	return NULL;
}

static uint64_t fdinfo_number(const char *fdinfo, const char *key)
{
	char *text = fdinfo_text(fdinfo, key);
	uint64_t value = text ? strtoull(text, NULL, 10) : 0;

	free(text);
	return value;
}

/*
 * Can what @target is a link to be a handle?  A node's device file has some path,
 * in whatever root; all else that is open has names with a colon, as sockets.
 */
static bool target_may_be(const char *target)
{
	return !strncmp(target, "anon_inode:[umpsc-", 18) || *target == '/' ||
	       *target == '(';
}

static bool handle_read(pid_t pid, const char *fd, struct handle *handle)
{
	char *path, *target, *fdinfo;
	bool may_be;

	path = text_format("/proc/%d/fd/%s", pid, fd);
	target = root_readlink(path);
	may_be = target && target_may_be(target);
	free(target);
	free(path);
	if (!may_be)
		return false;

	path = text_format("/proc/%d/fdinfo/%s", pid, fd);
	fdinfo = root_read(path, NULL);
	free(path);
	handle->role = fdinfo ? fdinfo_text(fdinfo, "umpsc-role") : NULL;
	if (!handle->role) {
		free(fdinfo);
		return false;
	}
	handle->fd = atoi(fd);
	handle->device = fdinfo_text(fdinfo, "umpsc-node");
	if (!handle->device)
		handle->device = text_copy("");
	handle->state = fdinfo_text(fdinfo, "umpsc-state");
	if (!handle->state)
		handle->state = text_copy("");
	handle->channel = fdinfo_number(fdinfo, "umpsc-channel");
	handle->generation = fdinfo_number(fdinfo, "umpsc-generation");
	handle->id = fdinfo_number(fdinfo, "umpsc-handle");
	handle->messages = fdinfo_number(fdinfo, "umpsc-messages");
	free(fdinfo);
	return true;
}

/* The command's first word without its directory, or the name of a kernel thread. */
static char *process_command(pid_t pid)
{
	char *path = text_format("/proc/%d/comm", pid);
	char *comm = root_line(path);

	free(path);
	return comm ? comm : text_copy("?");
}

static void process_scan(pid_t pid, struct handles *handles)
{
	char *path = text_format("/proc/%d/fd", pid);
	DIR *dir = root_opendir(path);
	struct handle handle = {};
	struct dirent *entry;
	struct stat st;

	free(path);
	if (!dir) {
		handles->hidden += errno == EACCES;
		return;
	}
	path = text_format("/proc/%d", pid);
	while ((entry = readdir(dir))) {
		if (!isdigit((unsigned char)*entry->d_name) ||
		    !handle_read(pid, entry->d_name, &handle))
			continue;
		handle.pid = pid;
		handle.uid = root_stat(path, &st) ? 0 : st.st_uid;
		handle.comm = process_command(pid);
		handles->all = array_grow(handles->all, handles->count,
					  sizeof(*handles->all));
		handles->all[handles->count++] = handle;
	}
	free(path);
	closedir(dir);
}

static int handle_compare(const void *a, const void *b)
{
	const struct handle *x = a, *y = b;

	return x->pid == y->pid ? x->fd - y->fd : x->pid - y->pid;
}

struct handles handles_scan(void)
{
	struct handles handles = {};
	struct dirent *entry;
	DIR *dir = root_opendir("/proc");

	if (!dir)
		die(STATUS_FAILED, "/proc: %s", strerror(errno));
	while ((entry = readdir(dir)))
		if (isdigit((unsigned char)*entry->d_name))
			process_scan(atoi(entry->d_name), &handles);
	closedir(dir);
	if (handles.count)
		qsort(handles.all, handles.count, sizeof(*handles.all),
		      handle_compare);
	return handles;
}

void handles_free(struct handles *handles)
{
	struct handle *h;

	while (handles->count) {
		h = &handles->all[--handles->count];
		free(h->comm);
		free(h->role);
		free(h->device);
		free(h->state);
	}
	free(handles->all);
	handles->all = NULL;
}
