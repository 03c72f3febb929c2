// SPDX-License-Identifier: MIT
/*
 * Files of the system, below UMPSC_SYSROOT where that is set
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "root.h"

#define CHUNK 4096

char *root_path(const char *path)
{
	const char *root = getenv("UMPSC_SYSROOT");

	return text_format("%s%s", root ? root : "", path);
}

bool root_exists(const char *path)
{
	struct stat st;

	return !root_stat(path, &st);
}

int root_stat(const char *path, struct stat *st)
{
	char *full = root_path(path);
	int ret = stat(full, st);

	free(full);
	return ret;
}

int root_lstat(const char *path, struct stat *st)
{
	char *full = root_path(path);
	int ret = lstat(full, st);

	free(full);
	return ret;
}

DIR *root_opendir(const char *path)
{
	char *full = root_path(path);
	DIR *dir = opendir(full);

	free(full);
	return dir;
}

int root_open(const char *path)
{
	char *full = root_path(path);
	int fd = open(full, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	free(full);
	return fd;
}

char *root_read(const char *path, size_t *len)
{
	size_t used = 0, room = CHUNK;
	int fd = root_open(path), err;
	char *text;
	ssize_t n;

	if (fd < 0)
		return NULL;
	text = allocate(room + 1);
	for (;;) {
		n = read(fd, text + used, room - used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		used += n;
		if (used == room) {
			room *= 2;
			text = reallocate(text, room + 1);
		}
	}
	err = errno;
	close(fd);
	if (n < 0) {
		free(text);
		errno = err;
		return NULL;
	}
	text[used] = '\0';
	if (len)
		*len = used;
	return text;
}

char *root_line(const char *path)
{
	char *text = root_read(path, NULL);

	if (text)
		text[strcspn(text, "\n")] = '\0';
	return text;
}

bool root_number(const char *path, uint64_t *value)
{
	char *text = root_read(path, NULL), *end;

	if (!text)
		return false;
	*value = strtoull(text, &end, 10);
	if (end == text)
		errno = EINVAL;
	free(text);
	return end != text;
}

char *root_readlink(const char *path)
{
	char *full = root_path(path), *target;
	ssize_t n;

	target = allocate(PATH_MAX);
	n = readlink(full, target, PATH_MAX - 1);
	free(full);
	if (n < 0) {
		free(target);
		return NULL;
	}
	target[n] = '\0';
	return target;
}
