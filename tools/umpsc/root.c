// SPDX-License-Identifier: MIT
/*
 * Files of the system, below UMPSC_SYSROOT where that is set
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "root.h"

#define CHUNK 4096

/* With a root of its own, links lead to where they would if that were the system's. */
static int open_below(const char *root, const char *path, int flags)
{
	struct open_how how = {
		.flags = flags | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT,
	};
	int dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC), fd, error;

	if (dir < 0)
		return -1;
	fd = syscall(SYS_openat2, dir, path, &how, sizeof(how));
	error = errno;
	close(dir);
	errno = error;
	return fd;
}

static int open_path(const char *path, int flags)
{
	const char *root = getenv("UMPSC_SYSROOT");

	if (root && *root)
		return open_below(root, path, flags);
	return open(path, flags | O_CLOEXEC);
}

static int stat_path(const char *path, int flags, struct stat *st)
{
	int fd = open_path(path, O_PATH | flags), ret;

	if (fd < 0)
		return -1;
	ret = fstat(fd, st);
	close(fd);
	return ret;
}

bool root_exists(const char *path)
{
	struct stat st;

	return !root_stat(path, &st);
}

int root_stat(const char *path, struct stat *st)
{
	return stat_path(path, 0, st);
}

int root_lstat(const char *path, struct stat *st)
{
	return stat_path(path, O_NOFOLLOW, st);
}

DIR *root_opendir(const char *path)
{
	int fd = open_path(path, O_RDONLY | O_DIRECTORY);

	return fd < 0 ? NULL : fdopendir(fd);
}

int root_open(const char *path)
{
	return open_path(path, O_RDONLY | O_NOCTTY | O_NONBLOCK);
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
	int fd = open_path(path, O_PATH | O_NOFOLLOW);
	char *target;
	ssize_t n;

	if (fd < 0)
		return NULL;
	target = allocate(PATH_MAX);
	n = readlinkat(fd, "", target, PATH_MAX - 1);
	close(fd);
	if (n < 0) {
		free(target);
		return NULL;
	}
	target[n] = '\0';
	return target;
}
