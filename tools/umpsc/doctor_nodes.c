// SPDX-License-Identifier: MIT
/*
 * umpsc doctor: nodes, their device files and who may use them, and limits
 */
#include <grp.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "doctor.h"
#include "human.h"
#include "node.h"
#include "root.h"
#include "users.h"

#define PARAMETERS "/sys/module/umpsc/parameters/"
#define CONFIGURATION "/etc/modprobe.d/umpsc.conf"

/* ---- Device files ---------------------------------------------------------- */

static const char *type_name(mode_t mode)
{
	if (S_ISREG(mode))
		return "a regular file";
	if (S_ISDIR(mode))
		return "a directory";
	if (S_ISLNK(mode))
		return "a link";
	return "something else";
}

/* Is @st the device that sysfs says the node is? */
static bool is_the_device(const struct node *node, const struct stat *st)
{
	char *path = text_format(NODE_CLASS "/%s/dev", node->device);
	char *number = root_line(path), *want;
	bool same;

	free(path);
	want = text_format("%u:%u", major(st->st_rdev), minor(st->st_rdev));
	same = number && !strcmp(number, want);
	free(want);
	free(number);
	return same;
}

/* May the user open it, for reading or for writing?  For root, it may. */
static bool may_open(const struct stat *st)
{
	gid_t groups[NGROUPS_MAX];
	int n, i;

	if (!geteuid())
		return true;
	if (st->st_uid == geteuid())
		return st->st_mode & 0600;
	n = getgroups(NGROUPS_MAX, groups);
	for (i = 0; i < n; i++)
		if (st->st_gid == groups[i])
			return st->st_mode & 0060;
	if (st->st_gid == getegid())
		return st->st_mode & 0060;
	return st->st_mode & 0006;
}

static void found_no_access(const struct node *node, const struct stat *st)
{
	char *owner = user_name(st->st_uid), *group = group_name(st->st_gid);
	char *you = user_name(geteuid()), mode[HUMAN_MAX];

	check_found(PROBLEM, "no-access",
		    "you (%s) may not use %s, which is %s %s %s", you,
		    node->path, human_mode(st->st_mode, mode), owner, group);
	/* Nobody should become a member of root's group for it. */
	if (st->st_mode & 0060 && st->st_gid) {
		check_remedy("usermod -aG %s %s, and log in anew", group, you);
	} else {
		check_remedy("options umpsc gid=NUMBER in " CONFIGURATION);
		check_remedy("and then modprobe -r umpsc && modprobe umpsc");
		if (strcmp(node->device, "umpsc"))
			check_remedy("or umpsc create --group=GROUP %s, anew",
				     node->name);
	}
	free(you);
	free(group);
	free(owner);
}

static void found_wrong_file(const struct node *node, const char *id,
			     const char *what)
{
	check_found(PROBLEM, id, "%s is %s and not the node", node->path, what);
	check_remedy("it was there before the module was; see what it is");
	check_remedy("rm %s && modprobe -r umpsc && modprobe umpsc",
		     node->path);
}

static void check_node(const struct node *node)
{
	char mode[HUMAN_MAX], *owner, *group;
	struct stat st;

	if (root_lstat(node->path, &st)) {
		check_found(PROBLEM, "node-missing",
			    "there is no %s, though the node exists",
			    node->path);
		check_remedy("mount devtmpfs on /dev");
		check_remedy("in a container: --device=%s", node->path);
	} else if (!S_ISCHR(st.st_mode)) {
		found_wrong_file(node, "node-is-a-file", type_name(st.st_mode));
	} else if (!is_the_device(node, &st)) {
		found_wrong_file(node, "node-is-another", "another device");
	} else if (!may_open(&st)) {
		found_no_access(node, &st);
	} else {
		owner = user_name(st.st_uid);
		group = group_name(st.st_gid);
		check_ok("%s, %s %s %s", node->path,
			 human_mode(st.st_mode, mode), owner, group);
		free(group);
		free(owner);
	}
}

static bool is_node(const struct node *nodes, size_t n, const char *device)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (!strcmp(nodes[i].device, device))
			return true;
	return false;
}

/* What is named like a node in /dev, and is none. */
static void check_leftovers(const struct node *nodes, size_t n)
{
	DIR *dir = root_opendir("/dev");
	struct dirent *entry;
	struct stat st;
	char *path;

	while (dir && (entry = readdir(dir))) {
		if ((strcmp(entry->d_name, "umpsc") &&
		     strncmp(entry->d_name, "umpsc-", strlen("umpsc-"))) ||
		    is_node(nodes, n, entry->d_name))
			continue;
		path = text_format("/dev/%s", entry->d_name);
		if (!root_lstat(path, &st)) {
			check_found(WARNING, "left-over",
				    "%s is %s, but there is no such node", path,
				    S_ISCHR(st.st_mode) ?
					    "a device" :
					    type_name(st.st_mode));
			check_remedy("rm %s", path);
		}
		free(path);
	}
	if (dir)
		closedir(dir);
}

void check_nodes(void)
{
	struct node *nodes;
	size_t n, i;

	n = node_list(&nodes);
	for (i = 0; i < n; i++)
		check_node(&nodes[i]);
	check_leftovers(nodes, n);
	for (i = 0; i < n; i++)
		free(nodes[i].path);
	free(nodes);
}

/* ---- Limits ----------------------------------------------------------------- */

/* Of these three nothing can be sent where one is 0. */
static void check_ceilings(void)
{
	static const struct {
		const char *name;
		const char *what;
	} ceilings[] = {
		{ "max_len", "a message" },
		{ "max_bytes", "all channels" },
		{ "max_user_bytes", "a user's messages" },
	};
	char *path, text[HUMAN_MAX];
	uint64_t value;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(ceilings); i++) {
		path = text_format(PARAMETERS "%s", ceilings[i].name);
		if (root_number(path, &value) && !value) {
			check_found(PROBLEM, "limit-0",
				    "nothing can be sent, the module's %s is 0",
				    ceilings[i].name);
			check_remedy("echo BYTES > %s", path);
		} else if (root_number(path, &value)) {
			check_ok("%s may have up to %s", ceilings[i].what,
				 human_bytes(value, text));
		}
		free(path);
	}
}

/* Memory that programs can still get, in bytes; 0 where it cannot be told. */
static uint64_t memory_available(void)
{
	char *text = root_read("/proc/meminfo", NULL), *line;
	unsigned long long kib = 0;

	line = text ? strstr(text, "MemAvailable:") : NULL;
	if (line && sscanf(line, "MemAvailable: %llu kB", &kib) != 1)
		kib = 0;
	free(text);
	return kib * 1024;
}

static void check_reserve(void)
{
	char there[HUMAN_MAX], reserve[HUMAN_MAX];
	uint64_t value, available = memory_available();

	if (!root_number(PARAMETERS "reserve_bytes", &value) || !available)
		return;
	human_bytes(available, there);
	human_bytes(value, reserve);
	if (available >= value) {
		check_ok("%s of memory available, %s of it reserved", there,
			 reserve);
		return;
	}
	check_found(WARNING, "no-memory",
		    "%s of memory available, less than the reserve of %s",
		    there, reserve);
	check_remedy("until there is more, sends can fail; see umpsc stat");
}

static void check_full(const struct node *node, const struct figures *f)
{
	if ((!f->limit_msgs || f->depth < f->limit_msgs) &&
	    (!f->limit_bytes || f->bytes < f->limit_bytes))
		return;
	check_found(WARNING, "full",
		    "%s is full, and refuses sends: %" PRIu64 " %s queued",
		    node->name, f->depth,
		    human_plural(f->depth, "message is", "messages are"));
	if (f->claimed)
		check_remedy("see its receiver: umpsc holders %s", node->name);
	else
		check_remedy("start a receiver: umpsc recv %s", node->name);
}

static void check_refused(const struct node *node, const struct figures *f)
{
	if (f->refused_memory) {
		check_found(WARNING, "refused-memory",
			    "%s: %" PRIu64 " %s refused for want of memory",
			    node->name, f->refused_memory,
			    human_plural(f->refused_memory, "send was",
					 "sends were"));
		check_remedy("see the senders' cgroup, and umpsc stat");
	}
	if (f->refused_quota) {
		check_found(WARNING, "refused-quota",
			    "%s: %" PRIu64 " %s refused by a quota", node->name,
			    f->refused_quota,
			    human_plural(f->refused_quota, "send was",
					 "sends were"));
		check_remedy("see the limits in " PARAMETERS
			     ", and 'umpsc stat'");
	}
}

void check_limits(void)
{
	struct node *nodes;
	struct figures f;
	size_t n, i;

	check_ceilings();
	check_reserve();
	n = node_list(&nodes);
	for (i = 0; i < n; i++) {
		if (node_figures(&nodes[i], &f)) {
			check_full(&nodes[i], &f);
			check_refused(&nodes[i], &f);
		}
		free(nodes[i].path);
	}
	free(nodes);
}
