/* SPDX-License-Identifier: MIT */
/*
 * Files of the system, below UMPSC_SYSROOT where that is set
 *
 * For all that looks: sysfs, proc, /dev, /etc, /lib.  A path is absolute.
 */
#ifndef _ROOT_H
#define _ROOT_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "command.h"

bool root_exists(const char *path);

/* stat() and lstat(): 0 or -1 with errno. */
int root_stat(const char *path, struct stat *st);
int root_lstat(const char *path, struct stat *st);

/* opendir(), or NULL with errno. */
DIR *root_opendir(const char *path);

/* Open for reading: an fd, or -1 with errno.  Never waits. */
int root_open(const char *path);

/**
 * root_read - all of a file
 * @path: its path
 * @len: where its length goes, or NULL
 *
 * Return: its bytes, allocated, with a NUL behind them; or NULL with errno.
 */
char *root_read(const char *path, size_t *len);

/* The first line of a file without its newline, allocated; or NULL with errno. */
char *root_line(const char *path);

/* The number that a file begins with: true, or false with errno. */
bool root_number(const char *path, uint64_t *value);

/* Where a link leads, allocated; or NULL with errno. */
char *root_readlink(const char *path);

#endif /* _ROOT_H */
