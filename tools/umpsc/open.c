// SPDX-License-Identifier: MIT
/*
 * Opening nodes, for those who use them
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <umpsc.h>

#include "handles.h"
#include "human.h"
#include "open.h"
#include "root.h"
#include "users.h"

/* Who is the receiver, as "cat, process 123"; allocated.  NULL: it cannot be seen. */
static char *receiver_of(const struct node *node)
{
	struct handles handles = handles_scan();
	char *who = NULL;
	size_t i;

	for (i = 0; i < handles.count && !who; i++)
		/* One that drains an older channel is in nobody's way. */
		if (!strcmp(handles.all[i].role, "receiver") &&
		    !strcmp(handles.all[i].device, node->device) &&
		    !strstr(handles.all[i].state, "ended"))
			who = text_format("%s, process %d", handles.all[i].comm,
					  handles.all[i].pid);
	handles_free(&handles);
	return who;
}

static void __attribute__((noreturn)) refuse_busy(const struct node *node)
{
	char *who = receiver_of(node);

	die(STATUS_BUSY,
	    "%s: has a receiver already (%s); a node has one at a time",
	    node->name,
	    who ? who : "of another user; 'sudo umpsc holders' shows it");
}

static void __attribute__((noreturn)) refuse_access(const struct node *node)
{
	char mode[HUMAN_MAX];
	struct stat st;

	if (root_stat(node->path, &st))
		die(STATUS_DENIED, "%s: no access to %s", node->name,
		    node->path);
	die(STATUS_DENIED,
	    "%s: no access: %s is %s %s %s; 'umpsc doctor' says what to do",
	    node->name, node->path, human_mode(st.st_mode, mode),
	    user_name(st.st_uid), group_name(st.st_gid));
}

void node_open_failed(const struct node *node, int error)
{
	switch (error) {
	case ENOENT:
		node_missing(node);
	case ENODEV:
		die(STATUS_NO_NODE,
		    "%s: %s is no node, but some file; see 'umpsc doctor'",
		    node->name, node->path);
	case ENXIO:
		if (!strcmp(node->device, "umpsc"))
			die(STATUS_NO_NODE,
			    "%s: /dev/umpsc leads to no channel (mailbox=0); see 'umpsc ls' for others",
			    node->name);
		die(STATUS_NO_NODE,
		    "%s: the node has been removed; 'umpsc create %s' makes it anew",
		    node->name, node->name);
	case EACCES:
	case EPERM:
		refuse_access(node);
	case EBUSY:
		refuse_busy(node);
	default:
		die(STATUS_FAILED, "%s: opening %s: %s", node->name, node->path,
		    umpsc_strerror(error));
	}
}

int node_open(const struct node *node, enum open_role role)
{
	int fd;

	switch (role) {
	case OPEN_SENDER:
		fd = umpsc_open_sender(node->path, 0);
		break;
	case OPEN_RECEIVER:
		fd = umpsc_open_receiver(node->path, 0);
		break;
	default:
		fd = umpsc_open_manager(node->path, 0);
		break;
	}
	if (fd < 0)
		node_open_failed(node, errno);
	return fd;
}
