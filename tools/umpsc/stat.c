// SPDX-License-Identifier: MIT
/*
 * umpsc stat: all figures of nodes, for people, as JSON, or for Prometheus
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "human.h"
#include "json.h"
#include "node.h"
#include "root.h"
#include "users.h"

static const char usage[] =
	"Usage: umpsc stat [OPTION]... [NODE]...\n"
	"Tell all figures of nodes.\n"
	"\n"
	"  -j, --json          an array with an object for each node\n"
	"  -p, --prometheus    as Prometheus reads it, for node_exporter's textfile collector\n"
	"\n"
	"What is sent, received, discarded and refused is counted over all channels that\n"
	"the node has led to; the rest is of the current one.\n";

static const struct option options[] = { { "json", no_argument, NULL, 'j' },
					 { "prometheus", no_argument, NULL,
					   'p' },
					 {} };

/**
 * struct sample - a node and its figures
 * @node: the node
 * @f: of one look
 */
struct sample {
	const struct node *node;
	struct figures f;
};

/* ---- For people --------------------------------------------------------- */

/* "12 messages, 4.1 KiB" */
static void print_amount(uint64_t messages, uint64_t bytes)
{
	char text[HUMAN_MAX];

	printf("%" PRIu64 " %s, %s", messages,
	       human_plural(messages, "message", "messages"),
	       human_bytes(bytes, text));
}

static void print_label(const char *label)
{
	printf("  %-11s", label);
}

static void print_head(const struct sample *s)
{
	char mode[HUMAN_MAX], *user, *group;
	struct stat st;

	printf("%s: %s, %s", s->node->name, s->node->path,
	       s->f.standing ? "standing" : "ordinary");
	if (root_lstat(s->node->path, &st)) {
		puts(" (the device file is missing)");
		return;
	}
	user = user_name(st.st_uid);
	group = group_name(st.st_gid);
	printf(", %s %s %s\n", human_mode(st.st_mode, mode), user, group);
	free(user);
	free(group);
}

static void print_channel(const struct figures *f)
{
	print_label("channel");
	if (!f->channel) {
		puts("none begun yet");
		return;
	}
	printf("number %" PRIu64 ", %s; %" PRIu64 " %s", f->generation,
	       f->closed ? "closed" :
	       f->ended	 ? "ended" :
			   "open",
	       f->strong, human_plural(f->strong, "sender", "senders"));
	if (f->weak)
		printf(" and %" PRIu64 " weak", f->weak);
	puts(f->claimed ? ", a receiver" : ", no receiver");
}

static void print_queue(const struct figures *f)
{
	char text[HUMAN_MAX];

	print_label("queued");
	print_amount(f->depth, f->bytes);
	if (f->memory)
		printf(" in %s of memory", human_bytes(f->memory, text));
	if (f->oldest_ns)
		printf(", the oldest for %s",
		       human_duration(f->oldest_ns, text));
	puts("");
	if (f->queued != f->depth) {
		print_label("");
		print_amount(f->queued - f->depth, f->queued_bytes - f->bytes);
		puts(" in older channels");
	}
	print_label("at most");
	print_amount(f->most_messages, f->most_bytes);
	puts(" at a time");
}

static void print_refused(const struct figures *f)
{
	const struct {
		uint64_t count;
		const char *why;
	} causes[] = {
		{ f->refused_closed, "the receiver had gone" },
		{ f->refused_size, "too long" },
		{ f->refused_limit, "the channel was full" },
		{ f->refused_quota, "over a quota" },
		{ f->refused_memory, "no memory" },
	};
	const char *separator = " (";
	size_t i;

	print_label("refused");
	printf("%" PRIu64 " %s", f->refused,
	       human_plural(f->refused, "send", "sends"));
	for (i = 0; i < ARRAY_SIZE(causes); i++) {
		if (!causes[i].count)
			continue;
		printf("%s%" PRIu64 " %s", separator, causes[i].count,
		       causes[i].why);
		separator = ", ";
	}
	puts(f->refused ? ")" : "");
}

static void print_totals(const struct figures *f)
{
	print_label("sent");
	print_amount(f->sent, f->sent_bytes);
	puts("");
	print_label("received");
	print_amount(f->received, f->received_bytes);
	puts("");
	print_label("discarded");
	printf("%" PRIu64 " %s\n", f->discarded,
	       human_plural(f->discarded, "message", "messages"));
	print_refused(f);
}

static void print_limits(const struct figures *f)
{
	char text[HUMAN_MAX];
	const char *separator = "";

	print_label("limits");
	if (!f->limit_len && !f->limit_msgs && !f->limit_bytes) {
		puts("none of its own");
		return;
	}
	if (f->limit_len) {
		printf("%s a message", human_bytes(f->limit_len, text));
		separator = ", ";
	}
	if (f->limit_msgs) {
		printf("%s%" PRIu64 " %s queued", separator, f->limit_msgs,
		       human_plural(f->limit_msgs, "message", "messages"));
		separator = ", ";
	}
	if (f->limit_bytes)
		printf("%s%s queued", separator,
		       human_bytes(f->limit_bytes, text));
	puts("");
}

static void print_one(const struct sample *s)
{
	const struct figures *f = &s->f;

	print_head(s);
	print_channel(f);
	print_queue(f);
	print_totals(f);
	print_limits(f);
	if (f->timestamp || f->creds) {
		print_label("notes");
		printf("%s%s%s of each message\n", f->timestamp ? "time" : "",
		       f->timestamp && f->creds ? " and " : "",
		       f->creds ? "sender" : "");
	}
}

static void print_people(const struct sample *samples, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++) {
		if (i)
			puts("");
		print_one(&samples[i]);
	}
}

/* ---- JSON ---------------------------------------------------------------- */

static void print_json_one(struct json *json, const struct sample *s)
{
	const struct figure *figure;
	uint64_t value;

	json_break(json);
	json_open(json, NULL, '{');
	json_text(json, "node", s->node->name);
	json_text(json, "path", s->node->path);
	for (figure = node_figures_all; figure->name; figure++) {
		value = figure_value(&s->f, figure);
		if (figure->flag)
			json_bool(json, figure->name, value);
		else
			json_number(json, figure->name, value);
	}
	json_close(json, '}');
}

static void print_json(const struct sample *samples, size_t n)
{
	struct json json = { .out = stdout };
	size_t i;

	json_open(&json, NULL, '[');
	for (i = 0; i < n; i++)
		print_json_one(&json, &samples[i]);
	json_break(&json);
	json_close(&json, ']');
	puts("");
}

/* ---- Prometheus ---------------------------------------------------------- */

/**
 * struct metric - a figure as Prometheus calls it
 * @name: without "umpsc_"
 * @type: gauge or counter
 * @help: what it is
 * @label: of its own, beside the node's, or NULL
 * @offset: in struct figures
 */
struct metric {
	const char *name;
	const char *type;
	const char *help;
	const char *label;
	size_t offset;
};

#define METRIC(name, type, field, help)                                 \
	{                                                               \
		name, type, help, NULL, offsetof(struct figures, field) \
	}
#define REFUSED(cause)                                                  \
	{                                                               \
		"refused_total", "counter", "Sends refused, by cause.", \
			"cause=\"" #cause "\"",                         \
			offsetof(struct figures, refused_##cause)       \
	}

static const struct metric metrics[] = {
	METRIC("queued_messages", "gauge", depth,
	       "Messages queued in the current channel."),
	METRIC("queued_bytes", "gauge", bytes, "Their payload."),
	METRIC("memory_bytes", "gauge", memory,
	       "Kernel memory that they hold."),
	METRIC("oldest_seconds", "gauge", oldest_ns,
	       "Age of the oldest message, where the node notes times."),
	METRIC("senders", "gauge", strong, "Senders of the current channel."),
	METRIC("weak_senders", "gauge", weak,
	       "Weak senders of the current channel."),
	METRIC("receivers", "gauge", claimed,
	       "Receivers of the current channel, 0 or 1."),
	METRIC("most_messages", "gauge", most_messages,
	       "Most messages ever queued at a time."),
	METRIC("most_bytes", "gauge", most_bytes,
	       "Most bytes ever queued at a time."),
	METRIC("limit_len_bytes", "gauge", limit_len,
	       "Longest message; 0: no limit of the node's own."),
	METRIC("limit_messages", "gauge", limit_msgs,
	       "Most messages that may be queued; 0: no limit."),
	METRIC("limit_bytes", "gauge", limit_bytes,
	       "Most bytes that may be queued; 0: no limit."),
	METRIC("channels_total", "counter", generation,
	       "Channels that the node has led to."),
	METRIC("sent_messages_total", "counter", sent, "Messages accepted."),
	METRIC("sent_bytes_total", "counter", sent_bytes, "Their payload."),
	METRIC("received_messages_total", "counter", received,
	       "Messages received."),
	METRIC("received_bytes_total", "counter", received_bytes,
	       "Their payload."),
	METRIC("discarded_messages_total", "counter", discarded,
	       "Messages freed unread."),
	METRIC("wakeups_total", "counter", wakeups,
	       "Times that a send woke the receiver."),
	REFUSED(closed),
	REFUSED(size),
	REFUSED(limit),
	REFUSED(quota),
	REFUSED(memory),
};

static void print_metric(const struct metric *m, const struct sample *samples,
			 size_t n)
{
	uint64_t value;
	size_t i;

	for (i = 0; i < n; i++) {
		/* Names of nodes need no escapes. */
		printf("umpsc_%s{node=\"%s\"%s%s} ", m->name,
		       samples[i].node->name, m->label ? "," : "",
		       m->label ? m->label : "");
		value = *(const uint64_t *)((const char *)&samples[i].f +
					    m->offset);
		if (m->offset == offsetof(struct figures, oldest_ns))
			printf("%.9f\n", value / 1e9);
		else
			printf("%" PRIu64 "\n", value);
	}
}

static void print_prometheus(const struct sample *samples, size_t n)
{
	const char *last = "";
	size_t i;

	for (i = 0; i < ARRAY_SIZE(metrics); i++) {
		/* All of one name follow each other. */
		if (strcmp(metrics[i].name, last))
			printf("# HELP umpsc_%s %s\n# TYPE umpsc_%s %s\n",
			       metrics[i].name, metrics[i].help,
			       metrics[i].name, metrics[i].type);
		last = metrics[i].name;
		print_metric(&metrics[i], samples, n);
	}
}

/* ---- The command --------------------------------------------------------- */

static int run_stat(int argc, char **argv)
{
	void (*print)(const struct sample *samples, size_t n) = print_people;
	struct sample *samples;
	size_t n, i, seen = 0;
	struct node *nodes;
	int option;

	while ((option = next_option(&command_stat, argc, argv, "jp",
				     options)) != -1)
		print = option == 'j' ? print_json : print_prometheus;
	n = node_arguments(&command_stat, argc, argv, &nodes);
	samples = allocate(n * sizeof(*samples));
	for (i = 0; i < n; i++) {
		samples[seen].node = &nodes[i];
		/* One that went meanwhile is not there. */
		seen += node_figures(&nodes[i], &samples[seen].f);
	}
	print(samples, seen);
	free(samples);
	stdout_done();
	return STATUS_OK;
}

const struct command command_stat = {
	.name = "stat",
	.summary = "tell all figures of nodes (--json, --prometheus)",
	.usage = usage,
	.run = run_stat,
};
