// SPDX-License-Identifier: MIT
/*
 * Kernel modules as files
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "command.h"
#include "ko.h"
#include "root.h"

#define NAME "umpsc.ko"
#define SIGNATURE "~Module signature appended~\n"
#define CHUNK 65536

static const struct compression {
	const char *suffix;
	const char *program;
} compressions[] = {
	{ ".xz", "xz" },
	{ ".zst", "zstd" },
	{ ".gz", "gzip" },
};

static const struct compression *compression_of(const char *path)
{
	const char *suffix = strrchr(path, '.');
	size_t i;

	for (i = 0; suffix && i < ARRAY_SIZE(compressions); i++)
		if (!strcmp(suffix, compressions[i].suffix))
			return &compressions[i];
	return NULL;
}

bool ko_name(const char *name)
{
	const char *rest = name + strlen(NAME);

	return !strncmp(name, NAME, strlen(NAME)) &&
	       (!*rest || compression_of(rest));
}

char *ko_find(const char *dir)
{
	DIR *stream = root_opendir(dir);
	char *found = NULL, *path;
	struct dirent *entry;
	struct stat st;

	while (stream && !found && (entry = readdir(stream))) {
		if (entry->d_name[0] == '.')
			continue;
		path = text_format("%s/%s", dir, entry->d_name);
		if (root_lstat(path, &st))
			st.st_mode = 0;
		if (S_ISDIR(st.st_mode))
			found = ko_find(path);
		else if (ko_name(entry->d_name))
			found = text_copy(path);
		free(path);
	}
	if (stream)
		closedir(stream);
	return found;
}

/* All that can be read from @fd. */
static char *read_all(int fd, size_t *len)
{
	size_t room = CHUNK;
	char *bytes = allocate(room);
	ssize_t n;

	*len = 0;
	for (;;) {
		n = read(fd, bytes + *len, room - *len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		*len += n;
		if (*len == room) {
			room *= 2;
			bytes = reallocate(bytes, room);
		}
	}
	return bytes;
}

static void __attribute__((noreturn))
run_program(const char *program, int in, int out)
{
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	execlp(program, program, "-dc", (char *)NULL);
	_exit(127);
}

static char *decompress(const char *program, int file, size_t *len)
{
	int ends[2], status = -1;
	char *bytes;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		return NULL;
	pid = fork();
	if (!pid)
		run_program(program, file, ends[1]);
	close(ends[1]);
	bytes = read_all(ends[0], len);
	close(ends[0]);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status) {
		free(bytes);
		return NULL;
	}
	return bytes;
}

char *ko_read(const char *path, size_t *len)
{
	const struct compression *compression = compression_of(path);
	char *bytes;
	int fd;

	if (!compression)
		return root_read(path, len);
	fd = root_open(path);
	if (fd < 0)
		return NULL;
	bytes = decompress(compression->program, fd, len);
	close(fd);
	return bytes;
}

char *ko_info(const char *image, size_t len, const char *key)
{
	/* In the section .modinfo, KEY=VALUE with a NUL behind each. */
	char *pattern = text_format("%c%s=", '\0', key);
	size_t size = strlen(key) + 2;
	const char *found, *value;

	found = memmem(image, len, pattern, size);
	free(pattern);
	if (!found)
		return NULL;
	value = found + size;
	return text_format("%.*s", (int)strnlen(value, image + len - value),
			   value);
}

bool ko_signed(const char *image, size_t len)
{
	size_t size = strlen(SIGNATURE);

	return len > size && !memcmp(image + len - size, SIGNATURE, size);
}
