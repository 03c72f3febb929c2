/* SPDX-License-Identifier: MIT */
/*
 * Kernel modules as files
 */
#ifndef _KO_H
#define _KO_H

#include <stdbool.h>
#include <stddef.h>

/* Is @name that of the module umpsc: umpsc.ko, perhaps compressed? */
bool ko_name(const char *name);

/**
 * ko_find - the module's file among those of a kernel
 * @dir: a directory, as /lib/modules/RELEASE; searched through, but not its links
 *
 * Return: its path, allocated; or NULL.
 */
char *ko_find(const char *dir);

/**
 * ko_read - a module's bytes, uncompressed
 * @path: its file
 * @len: where their number goes
 *
 * Return: the bytes, allocated; or NULL where it cannot be read, or what it was
 * compressed with is not installed.
 */
char *ko_read(const char *path, size_t *len);

/* What modinfo(8) says of @key, allocated; or NULL. */
char *ko_info(const char *image, size_t len, const char *key);

/* Is a signature appended? */
bool ko_signed(const char *image, size_t len);

#endif /* _KO_H */
