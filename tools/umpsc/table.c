// SPDX-License-Identifier: MIT
/*
 * Tables: columns that are as wide as what is in them
 */
#include <stdlib.h>
#include <string.h>

#include "table.h"

#define GAP 2

void table_cell(struct table *table, const char *format, ...)
{
	va_list args;
	char *text, *c;

	va_start(args, format);
	text = text_vformat(format, args);
	va_end(args);
	for (c = text; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
	table->cells =
		array_grow(table->cells, table->ncells, sizeof(*table->cells));
	table->cells[table->ncells++] = text;
}

void table_clear(struct table *table)
{
	while (table->ncells)
		free(table->cells[--table->ncells]);
	free(table->cells);
	table->cells = NULL;
}

static size_t column_width(const struct table *table, size_t column)
{
	size_t width = strlen(table->columns[column].title), i;

	for (i = column; i < table->ncells; i += table->ncolumns)
		if (strlen(table->cells[i]) > width)
			width = strlen(table->cells[i]);
	return width;
}

/* One line, of which cell(i) is the text in column i. */
static char *table_line(const struct table *table, const size_t *widths,
			char *const *cells)
{
	const char *cell;
	size_t len, i;
	char *line;
	FILE *out;

	out = open_memstream(&line, &len);
	if (!out)
		die(STATUS_FAILED, "no memory");
	for (i = 0; i < table->ncolumns; i++) {
		cell = cells ? cells[i] : table->columns[i].title;
		fprintf(out, "%*s%*s", i ? GAP : 0, "",
			(int)(table->columns[i].right ? widths[i] : -widths[i]),
			cell);
	}
	fclose(out);
	/* Nothing but blanks behind the last cell. */
	while (len && line[len - 1] == ' ')
		line[--len] = '\0';
	return line;
}

void table_print(const struct table *table, FILE *out, size_t width,
		 size_t rows)
{
	size_t *widths = allocate(table->ncolumns * sizeof(*widths));
	char *const *cells = NULL;
	size_t i, row;
	char *line;

	for (i = 0; i < table->ncolumns; i++)
		widths[i] = column_width(table, i);
	if (rows > table->ncells / table->ncolumns)
		rows = table->ncells / table->ncolumns;
	for (row = 0; row <= rows; row++) {
		line = table_line(table, widths, cells);
		fprintf(out, "%.*s\n", width ? (int)width : (int)strlen(line),
			line);
		free(line);
		cells = table->cells + row * table->ncolumns;
	}
	free(widths);
}
