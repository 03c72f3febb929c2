/* SPDX-License-Identifier: MIT */
/*
 * The terminal: its size, and one that shows a changing picture
 */
#ifndef _TERMINAL_H
#define _TERMINAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Its size; 80 by 24 where it does not say. */
size_t terminal_columns(int fd);
size_t terminal_rows(int fd);

/*
 * Take the terminal that standard input and output are over: what is typed comes
 * key by key, and the screen is one of its own, which goes when terminal_leave() is
 * called, or when the command ends, by a signal too.
 */
void terminal_enter(void);
void terminal_leave(void);

/* What terminal_wait() can return beside a key. */
#define TERMINAL_TIMEOUT (-1)
#define TERMINAL_RESIZED (-2)
#define TERMINAL_GONE (-3)

/* Wait for a key, at most that long. */
int terminal_wait(uint64_t ns);

#endif /* _TERMINAL_H */
