// SPDX-License-Identifier: MIT
/*
 * umpsc top: watch nodes
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "handles.h"
#include "human.h"
#include "node.h"
#include "table.h"
#include "terminal.h"

static const char usage[] =
	"Usage: umpsc top [OPTION]... [NODE]...\n"
	"Watch what is queued, how fast it comes and goes, and who is there.\n"
	"\n"
	"  -d, --delay=TIME      from one look to the next (default 1 s)\n"
	"  -n, --iterations=N    end after so many\n"
	"  -s, --sort=KEY        name, messages (the default), bytes, age, in, out, senders or\n"
	"                        holders\n"
	"  -r, --reverse         the other way round\n"
	"\n"
	"On a terminal the letter that a KEY begins with sorts by it, r reverses, and q ends;\n"
	"elsewhere each look is printed below the last.  TIME is in seconds, or with a unit:\n"
	"500ms, 2m.\n";

static const struct option options[] = {
	{ "delay", required_argument, NULL, 'd' },
	{ "iterations", required_argument, NULL, 'n' },
	{ "sort", required_argument, NULL, 's' },
	{ "reverse", no_argument, NULL, 'r' },
	{}
};

static const struct column columns[] = {
	{ "NODE", false },   { "MESSAGES", true }, { "BYTES", true },
	{ "AGE", true },     { "IN/s", true },	   { "OUT/s", true },
	{ "SENDERS", true }, { "HOLDERS", true },  { "RECEIVER", false },
};

/* So soon there are the first rates, at the latest. */
#define FIRST_NS (250 * NSEC_PER_MSEC)

/* Lines of the screen that are not of nodes: two ahead, titles, one behind. */
#define LINES_AROUND 4

/**
 * struct row - a node as it was seen
 * @node: the node
 * @f: its figures
 * @in: messages sent in a second, since the look before
 * @out: received
 * @rated: there was a look before
 * @holders: processes that have handles of it
 * @receiver: which of them is the receiver, "" where there is none
 */
struct row {
	struct node node;
	struct figures f;
	double in;
	double out;
	bool rated;
	uint64_t holders;
	char receiver[48];
};

/**
 * struct look - all rows at one time
 * @rows: allocated
 * @count: how many
 * @at_ns: when
 */
struct look {
	struct row *rows;
	size_t count;
	uint64_t at_ns;
};

/**
 * struct watching - what is watched and how
 * @argc: of the command
 * @argv: the nodes' names, from @first on; none: all nodes
 * @first: see @argv
 * @delay_ns: from one look to the next
 * @iterations: looks left
 * @key: what to sort by
 * @reverse: the other way round
 * @look: the last one
 */
struct watching {
	int argc;
	char **argv;
	int first;
	uint64_t delay_ns;
	uint64_t iterations;
	const struct sort_key *key;
	bool reverse;
	struct look look;
};

/* ---- Looking -------------------------------------------------------------- */

static const struct row *row_find(const struct look *look, const char *device)
{
	size_t i;

	for (i = 0; i < look->count; i++)
		if (!strcmp(look->rows[i].node.device, device))
			return &look->rows[i];
	return NULL;
}

static void row_rate(struct row *row, const struct look *before, uint64_t now)
{
	const struct row *old = row_find(before, row->node.device);
	double seconds = (double)(now - before->at_ns) / NSEC_PER_SEC;

	/* One of that name that was made anew has counted less. */
	if (!old || row->f.sent < old->f.sent ||
	    row->f.received < old->f.received || seconds <= 0)
		return;
	row->in = (row->f.sent - old->f.sent) / seconds;
	row->out = (row->f.received - old->f.received) / seconds;
	row->rated = true;
}

static void row_holders(struct row *row, const struct handles *handles)
{
	const struct handle *h;
	pid_t last = 0;
	size_t i;

	snprintf(row->receiver, sizeof(row->receiver), "%s",
		 row->f.claimed ? "yes" : "-");
	for (i = 0; i < handles->count; i++) {
		h = &handles->all[i];
		if (strcmp(h->device, row->node.device))
			continue;
		/* They are in the order of processes. */
		row->holders += h->pid != last;
		last = h->pid;
		if (!strcmp(h->role, "receiver") &&
		    h->channel == row->f.channel)
			snprintf(row->receiver, sizeof(row->receiver),
				 "%s (%d)", h->comm, h->pid);
	}
}

static void look_free(struct look *look)
{
	while (look->count)
		free(look->rows[--look->count].node.path);
	free(look->rows);
	look->rows = NULL;
}

/* The nodes that are there now, of those that are wanted. */
static size_t wanted_nodes(const struct watching *w, struct node **nodes)
{
	size_t n = 0;
	int i;

	if (w->first == w->argc)
		return node_list(nodes);
	*nodes = NULL;
	for (i = w->first; i < w->argc; i++) {
		*nodes = array_grow(*nodes, n, sizeof(**nodes));
		(*nodes)[n++] = node_parse(&command_top, w->argv[i]);
	}
	return n;
}

static void look_again(struct watching *w)
{
	struct handles handles = handles_scan();
	struct look now = { .at_ns = now_ns() };
	struct node *nodes;
	struct row row;
	size_t n, i;

	n = wanted_nodes(w, &nodes);
	for (i = 0; i < n; i++) {
		row = (struct row){ .node = nodes[i] };
		if (!node_figures(&row.node, &row.f)) {
			free(row.node.path);
			continue;
		}
		row_rate(&row, &w->look, now.at_ns);
		row_holders(&row, &handles);
		now.rows = array_grow(now.rows, now.count, sizeof(*now.rows));
		now.rows[now.count++] = row;
	}
	free(nodes);
	handles_free(&handles);
	look_free(&w->look);
	w->look = now;
}

/* ---- Sorting -------------------------------------------------------------- */

static int compare(double a, double b)
{
	/* The most comes first. */
	return (a < b) - (a > b);
}

static int compare_name(const struct row *a, const struct row *b)
{
	return strcmp(a->node.device, b->node.device);
}

static int compare_messages(const struct row *a, const struct row *b)
{
	return compare(a->f.depth, b->f.depth);
}

static int compare_bytes(const struct row *a, const struct row *b)
{
	return compare(a->f.bytes, b->f.bytes);
}

static int compare_age(const struct row *a, const struct row *b)
{
	return compare(a->f.oldest_ns, b->f.oldest_ns);
}

static int compare_in(const struct row *a, const struct row *b)
{
	return compare(a->in, b->in);
}

static int compare_out(const struct row *a, const struct row *b)
{
	return compare(a->out, b->out);
}

static int compare_senders(const struct row *a, const struct row *b)
{
	return compare(a->f.strong, b->f.strong);
}

static int compare_holders(const struct row *a, const struct row *b)
{
	return compare(a->holders, b->holders);
}

static const struct sort_key {
	const char *name;
	int (*compare)(const struct row *a, const struct row *b);
} sort_keys[] = {
	{ "name", compare_name },	{ "messages", compare_messages },
	{ "bytes", compare_bytes },	{ "age", compare_age },
	{ "in", compare_in },		{ "out", compare_out },
	{ "senders", compare_senders }, { "holders", compare_holders },
};

static int compare_rows(const void *a, const void *b, void *watching)
{
	const struct watching *w = watching;
	int order = w->key->compare(a, b);

	/* Of equals the order stays the same from look to look. */
	if (!order)
		return compare_name(a, b);
	return w->reverse ? -order : order;
}

/* ---- Showing -------------------------------------------------------------- */

static void show_rate(struct table *table, const struct row *row, double rate)
{
	char text[HUMAN_MAX];

	if (row->rated)
		table_cell(table, "%s", human_count(rate + 0.5, text));
	else
		table_cell(table, "-");
}

static void show_row(struct table *table, const struct row *row)
{
	char text[HUMAN_MAX];

	table_cell(table, "%s", row->node.name);
	table_cell(table, "%s", human_count(row->f.depth, text));
	table_cell(table, "%s", human_bytes(row->f.bytes, text));
	if (row->f.oldest_ns)
		table_cell(table, "%s", human_duration(row->f.oldest_ns, text));
	else
		table_cell(table, "-");
	show_rate(table, row, row->in);
	show_rate(table, row, row->out);
	table_cell(table, "%s", human_count(row->f.strong, text));
	table_cell(table, "%s", human_count(row->holders, text));
	table_cell(table, "%s", row->receiver);
}

static void show_summary(const struct watching *w, FILE *out)
{
	uint64_t messages = 0, bytes = 0;
	char text[HUMAN_MAX], clock[16];
	time_t now = time(NULL);
	struct tm tm;
	size_t i;

	for (i = 0; i < w->look.count; i++) {
		messages += w->look.rows[i].f.depth;
		bytes += w->look.rows[i].f.bytes;
	}
	localtime_r(&now, &tm);
	strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
	fprintf(out, "%s  %zu %s", clock, w->look.count,
		human_plural(w->look.count, "node", "nodes"));
	fprintf(out, ", %" PRIu64 " %s, %s queued; by %s%s\n", messages,
		human_plural(messages, "message", "messages"),
		human_bytes(bytes, text), w->key->name,
		w->reverse ? ", reversed" : "");
}

/* At most @rows lines of nodes, and of each line @width characters (0: all). */
static void show(struct watching *w, FILE *out, size_t width, size_t rows)
{
	struct table table = TABLE(columns);
	size_t i;

	qsort_r(w->look.rows, w->look.count, sizeof(*w->look.rows),
		compare_rows, w);
	for (i = 0; i < w->look.count; i++)
		show_row(&table, &w->look.rows[i]);
	table_print(&table, out, width, rows);
	table_clear(&table);
}

static void show_plain(struct watching *w)
{
	show_summary(w, stdout);
	show(w, stdout, 0, SIZE_MAX);
	stdout_done();
}

/* @rows lines of @text, cut to @width, each over what was there before. */
static void draw_lines(const char *text, size_t width, size_t rows, FILE *out)
{
	const char *line = text;
	size_t len, n;

	fputs("\033[H", out);
	for (n = 0; *line && n < rows; line += len + (line[len] == '\n'), n++) {
		len = strcspn(line, "\n");
		if (n)
			fputs("\r\n", out);
		/* The third line are the titles. */
		fprintf(out, "\033[K%s%.*s%s", n == 2 ? "\033[7m" : "",
			(int)(len < width ? len : width), line,
			n == 2 ? "\033[0m" : "");
	}
	fputs("\033[J", out);
}

static void show_screen(struct watching *w)
{
	size_t width = terminal_columns(STDOUT_FILENO);
	size_t rows = terminal_rows(STDOUT_FILENO), room;
	char *text;
	size_t len;
	FILE *out;

	out = open_memstream(&text, &len);
	if (!out)
		die(STATUS_FAILED, "no memory");
	room = rows > LINES_AROUND ? rows - LINES_AROUND : 0;
	show_summary(w, out);
	fputs("a title's first letter sorts by it, r reverses, q ends\n", out);
	show(w, out, width, room);
	if (w->look.count > room)
		fprintf(out, "... and %zu more", w->look.count - room);
	fclose(out);
	draw_lines(text, width, rows, stdout);
	free(text);
	stdout_done();
}

/* ---- The command ---------------------------------------------------------- */

static const struct sort_key *key_of_letter(int letter)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sort_keys); i++)
		if (*sort_keys[i].name == letter)
			return &sort_keys[i];
	return NULL;
}

/* Until it is time to look again; false: the user wants no more. */
static bool handle_keys(struct watching *w, uint64_t until)
{
	const struct sort_key *key;
	uint64_t now;
	int c;

	while ((now = now_ns()) < until) {
		c = terminal_wait(until - now);
		if (c == 'q' || c == TERMINAL_GONE)
			return false;
		if (c == ' ')
			return true;
		key = c > 0 ? key_of_letter(c) : NULL;
		if (key)
			w->key = key;
		if (c == 'r')
			w->reverse = !w->reverse;
		if (c != TERMINAL_TIMEOUT)
			show_screen(w);
	}
	return true;
}

static uint64_t first_delay(const struct watching *w)
{
	return w->delay_ns < FIRST_NS ? w->delay_ns : FIRST_NS;
}

static void watch_screen(struct watching *w)
{
	uint64_t delay = first_delay(w);

	terminal_enter();
	do {
		look_again(w);
		show_screen(w);
		if (!--w->iterations)
			break;
		if (!handle_keys(w, now_ns() + delay))
			break;
		delay = w->delay_ns;
	} while (true);
	terminal_leave();
}

static void watch_plain(struct watching *w)
{
	look_again(w);
	sleep_ns(first_delay(w));
	do {
		look_again(w);
		show_plain(w);
		if (!--w->iterations)
			break;
		puts("");
		stdout_done();
		sleep_ns(w->delay_ns);
	} while (true);
}

static const struct sort_key *parse_key(const char *text)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sort_keys); i++)
		if (!strcmp(sort_keys[i].name, text))
			return &sort_keys[i];
	misused(&command_top, "'%s' is nothing to sort by", text);
}

/* A terminal that can be drawn on, and typed on? */
static bool on_screen(void)
{
	const char *term = getenv("TERM");

	return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && term && *term &&
	       strcmp(term, "dumb");
}

static int top_run(int argc, char **argv)
{
	struct watching w = {
		.argc = argc,
		.argv = argv,
		.delay_ns = NSEC_PER_SEC,
		.iterations = UINT64_MAX,
		.key = parse_key("messages"),
	};
	struct node *nodes;
	int option;

	while ((option = next_option(&command_top, argc, argv, "d:n:s:r",
				     options)) != -1) {
		if (option == 'd' &&
		    (!parse_duration(optarg, &w.delay_ns) || !w.delay_ns))
			misused(&command_top, "'%s' is not a time", optarg);
		if (option == 'n' &&
		    (!parse_count(optarg, &w.iterations) || !w.iterations))
			misused(&command_top, "'%s' is not a number of looks",
				optarg);
		if (option == 's')
			w.key = parse_key(optarg);
		if (option == 'r')
			w.reverse = true;
	}
	w.first = optind;
	/* All of them are to be there at first. */
	node_arguments(&command_top, argc, argv, &nodes);

	if (on_screen())
		watch_screen(&w);
	else
		watch_plain(&w);
	return STATUS_OK;
}

const struct command command_top = {
	.name = "top",
	.summary = "watch nodes: what is queued, how fast, who is there",
	.usage = usage,
	.run = top_run,
};
