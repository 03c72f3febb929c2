// SPDX-License-Identifier: MIT
/*
 * umpsc create: make a node
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <umpsc.h>

#include "human.h"
#include "node.h"
#include "open.h"
#include "users.h"

static const char usage[] =
	"Usage: umpsc create [OPTION]... NAME\n"
	"Make the node /dev/umpsc-NAME, and print its path.  Needs root.\n"
	"\n"
	"  -s, --standing          keep what is sent for the next receiver when one goes,\n"
	"                          and do not end when the last sender goes\n"
	"  -m, --mode=MODE         who may use it, in octal (default 0660)\n"
	"  -o, --owner=USER        its owner (default: you)\n"
	"  -g, --group=GROUP       its group (default: yours)\n"
	"  -t, --timestamp         note when each message was sent\n"
	"  -c, --creds             note who sent each message\n"
	"      --max-len=BYTES     longest message\n"
	"      --max-messages=N    most messages queued\n"
	"      --max-bytes=BYTES   most bytes queued\n"
	"\n"
	"BYTES may have a unit: 64K, 16M, 2G.  0 is no limit.\n";

static const struct option options[] = {
	{ "standing", no_argument, NULL, 's' },
	{ "mode", required_argument, NULL, 'm' },
	{ "owner", required_argument, NULL, 'o' },
	{ "group", required_argument, NULL, 'g' },
	{ "timestamp", no_argument, NULL, 't' },
	{ "creds", no_argument, NULL, 'c' },
	{ "max-len", required_argument, NULL, 'L' },
	{ "max-messages", required_argument, NULL, 'M' },
	{ "max-bytes", required_argument, NULL, 'B' },
	{}
};

static uint32_t parse_mode(const char *text)
{
	unsigned long mode;
	char *end;

	mode = strtoul(text, &end, 8);
	if (end == text || *end || *text == '-' || mode > 0777)
		misused(&command_create,
			"'%s' is not a mode: octal, as 0660, up to 0777", text);
	if (!mode)
		misused(&command_create, "with mode 0 nobody could use it");
	return mode;
}

static uint64_t parse_limit(const char *text, bool bytes)
{
	uint64_t value;

	if (bytes ? !parse_bytes(text, &value) : !parse_count(text, &value))
		misused(&command_create, "'%s' is not a limit", text);
	return value;
}

static void parse_option(int option, struct umpsc_create_args *args)
{
	switch (option) {
	case 's':
		args->flags |= UMPSC_STANDING;
		break;
	case 'm':
		args->mode = parse_mode(optarg);
		break;
	case 'o':
		if (!user_parse(optarg, &args->uid))
			misused(&command_create, "there is no user '%s'",
				optarg);
		break;
	case 'g':
		if (!group_parse(optarg, &args->gid))
			misused(&command_create, "there is no group '%s'",
				optarg);
		break;
	case 't':
		args->flags |= UMPSC_TIMESTAMP;
		break;
	case 'c':
		args->flags |= UMPSC_CREDS;
		break;
	case 'L':
		args->limits.max_len = parse_limit(optarg, true);
		break;
	case 'M':
		args->limits.max_msgs = parse_limit(optarg, false);
		break;
	case 'B':
		args->limits.max_bytes = parse_limit(optarg, true);
		break;
	}
}

static void __attribute__((noreturn)) refuse(const struct node *node, int error)
{
	switch (error) {
	case EEXIST:
		die(STATUS_BUSY,
		    "%s: the node exists; 'umpsc rm %s' removes it", node->name,
		    node->name);
	case EPERM:
		die(STATUS_DENIED,
		    "%s: making nodes needs root (CAP_SYS_ADMIN)", node->name);
	case ENOSPC:
		die(STATUS_FAILED,
		    "%s: there are as many nodes as there can be; 'umpsc rm' removes some",
		    node->name);
	default:
		die(STATUS_FAILED, "%s: %s", node->name, umpsc_strerror(error));
	}
}

static int create(int argc, char **argv)
{
	struct umpsc_create_args args = { .uid = geteuid(), .gid = getegid() };
	struct node node, first;
	int option, manager;

	while ((option = next_option(&command_create, argc, argv, "sm:o:g:tc",
				     options)) != -1)
		parse_option(option, &args);
	if (argc - optind != 1)
		misused(&command_create, "it takes one NAME");

	node = node_named(&command_create, argv[optind]);
	memcpy(args.name, node.name, strlen(node.name));

	first = node_parse(&command_create, "umpsc");
	manager = node_open(&first, OPEN_MANAGER);
	if (umpsc_create(manager, &args))
		refuse(&node, errno);
	close(manager);
	puts(node.path);
	stdout_done();
	return STATUS_OK;
}

const struct command command_create = {
	.name = "create",
	.summary = "make a node",
	.usage = usage,
	.run = create,
};
