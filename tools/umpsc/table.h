/* SPDX-License-Identifier: MIT */
/*
 * Tables: columns that are as wide as what is in them
 */
#ifndef _TABLE_H
#define _TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "command.h"

/**
 * struct column - how a column looks
 * @title: above it
 * @right: numbers stand at its right side
 */
struct column {
	const char *title;
	bool right;
};

/**
 * struct table - a table that is being filled, row by row and from left to right
 * @columns: its columns
 * @ncolumns: how many
 * @cells: what is in it, allocated
 * @ncells: how many that are
 */
struct table {
	const struct column *columns;
	size_t ncolumns;
	char **cells;
	size_t ncells;
};

#define TABLE(array)                                           \
	{                                                      \
		.columns = array,                              \
		.ncolumns = sizeof(array) / sizeof((array)[0]) \
	}

/* The next cell.  What cannot be printed becomes a question mark. */
void table_cell(struct table *table, const char *format, ...) PRINTF(2, 3);

/**
 * table_print - print it, with its titles
 * @table: the table
 * @out: where to
 * @width: cut lines that are longer; 0: none
 * @rows: at most that many, the titles aside
 */
void table_print(const struct table *table, FILE *out, size_t width,
		 size_t rows);

/* Forget what is in it. */
void table_clear(struct table *table);

#endif /* _TABLE_H */
