// SPDX-License-Identifier: GPL-2.0-only
/*
 * Nodes: making and removing them, who may, what they look like from outside, and
 * what keeps the module loaded.
 */
#include "umpsc_test.h"

#include <grp.h>
#include <linux/capability.h>
#include <sys/klog.h>
#include <sys/prctl.h>
#include <sys/sysmacros.h>

/* syslog(2) */
#define KLOG_READ_ALL 3

#define NAME "nodes"
#define OTHER "nodes-other"
#define NOBODY 65534
#define CHARACTERS                   \
	"abcdefghijklmnopqrstuvwxyz" \
	"ABCDEFGHIJKLMNOPQRSTUVWXYZ" \
	"0123456789_-"
#define LONGEST "Longest-name_of-31-characters_x"

static_assert(sizeof(LONGEST) == UMPSC_NAME_MAX + 1, "longest name");

FIXTURE(node)
{
	int manager;
	struct umpsc_query before;
	char dir[32]; /* for device files of the test's own */
};

FIXTURE_SETUP(node)
{
	umpsc_node_remove(NAME);
	umpsc_node_remove(OTHER);
	self->manager = ASSERT_FD(umpsc_open_manager());
	ASSERT_EQ(0, umpsc_query(self->manager, &self->before));
	mkdir("/tmp", 01777);
	snprintf(self->dir, sizeof(self->dir), "/tmp/umpsc.XXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->dir));
	ASSERT_EQ(0, chmod(self->dir, 0755));
}

FIXTURE_TEARDOWN(node)
{
	struct umpsc_query q;
	char path[64];

	umpsc_node_remove(NAME);
	umpsc_node_remove(OTHER);
	EXPECT_EQ(0, umpsc_query(self->manager, &q));
	EXPECT_EQ(self->before.nodes, q.nodes);
	snprintf(path, sizeof(path), "%s/dev", self->dir);
	unlink(path);
	rmdir(self->dir);
	close(self->manager);
}

/* What a valid CREATE has. */
static struct umpsc_create_args create_args(const char *name)
{
	struct umpsc_create_args args = { .mode = 0600 };

	umpsc_set_name(args.name, name);
	return args;
}

/* CREATE as create_args() has it. */
static int create(int manager, const char *name)
{
	struct umpsc_create_args args = create_args(name);

	return umpsc_create(manager, &args);
}

static const char *node_path(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s%s%s", UMPSC_NODE, *name ? "-" : "",
		 name);
	return path;
}

static const char *class_path(const char *name, const char *file)
{
	static char path[128];

	snprintf(path, sizeof(path), "/sys/class/umpsc/umpsc%s%s%s",
		 *name ? "-" : "", name, file);
	return path;
}

static __u64 count_nodes(struct __test_metadata *_metadata, int manager)
{
	struct umpsc_query q;

	ASSERT_EQ(0, umpsc_query(manager, &q));
	return q.nodes;
}

/* ---- CREATE and REMOVE ------------------------------------------------------ */

TEST_LONG(node, create_makes_a_device_and_remove_removes_it)
{
	struct umpsc_create_args args = create_args(NAME);
	char text[64], want[64];
	struct stat st;
	int tx, rx, i;

	for (i = 0; i < 20; i++) {
		EXPECT_ERR(ENOENT, stat(node_path(NAME), &st));
		ASSERT_EQ(0, umpsc_create(self->manager, &args));
		EXPECT_EQ(self->before.nodes + 1,
			  count_nodes(_metadata, self->manager));
		/* It is there once CREATE has returned. */
		ASSERT_EQ(0, stat(node_path(NAME), &st));
		EXPECT_EQ(S_IFCHR | 0600, st.st_mode);
		EXPECT_EQ(major(st.st_rdev), args.major);
		EXPECT_EQ(minor(st.st_rdev), args.minor);
		snprintf(want, sizeof(want), "%u:%u\n", args.major, args.minor);
		EXPECT_LT(0, umpsc_read_file(class_path(NAME, "/dev"), text,
					     sizeof(text)));
		EXPECT_STREQ(want, text);

		tx = ASSERT_FD(umpsc_open(NAME, O_WRONLY));
		rx = ASSERT_FD(umpsc_open(NAME, O_RDONLY));
		EXPECT_WRITE(tx, "works");
		EXPECT_TEXT(rx, "works");
		close(tx);
		close(rx);

		ASSERT_EQ(0, umpsc_remove(self->manager, NAME));
		EXPECT_ERR(ENOENT, stat(node_path(NAME), &st));
		EXPECT_ERR(ENOENT, access(class_path(NAME, ""), F_OK));
		EXPECT_EQ(self->before.nodes,
			  count_nodes(_metadata, self->manager));
	}
}

TEST_LONG(node, any_nodes_manager_makes_and_removes_nodes)
{
	int manager;

	ASSERT_EQ(0, create(self->manager, NAME));
	manager = ASSERT_FD(umpsc_open(NAME, O_RDWR));
	EXPECT_EQ(0, create(manager, OTHER));
	EXPECT_EQ(self->before.nodes + 2,
		  count_nodes(_metadata, self->manager));
	EXPECT_EQ(0, umpsc_remove(manager, OTHER));
	EXPECT_EQ(0, umpsc_remove(manager, NAME));
	EXPECT_EQ(0, create(manager, NAME));
	close(manager);
	EXPECT_EQ(0, umpsc_remove(self->manager, NAME));
}

TEST_LONG(node, dev_umpsc_has_the_first_minor)
{
	struct umpsc_create_args args = create_args(NAME);
	char text[64], want[64];
	struct stat st;

	ASSERT_EQ(0, umpsc_create(self->manager, &args));
	ASSERT_EQ(0, stat(UMPSC_NODE, &st));
	EXPECT_EQ(args.major, major(st.st_rdev));
	EXPECT_EQ(0, minor(st.st_rdev));
	snprintf(want, sizeof(want), "%u:0\n", args.major);
	EXPECT_LT(0,
		  umpsc_read_file(class_path("", "/dev"), text, sizeof(text)));
	EXPECT_STREQ(want, text);
}

/* So that DeviceAllow=char-umpsc works. */
TEST_LONG(node, region_and_class_are_named_umpsc)
{
	struct umpsc_create_args args = create_args(NAME);
	char text[8192], want[64], *blocks;

	ASSERT_EQ(0, umpsc_create(self->manager, &args));
	ASSERT_LT(0, umpsc_read_file("/proc/devices", text, sizeof(text)));
	blocks = strstr(text, "Block devices");
	if (blocks)
		*blocks = 0;
	snprintf(want, sizeof(want), "\n%3u umpsc\n", args.major);
	EXPECT_NE(NULL, strstr(text, want))
	{
		TH_LOG("no %s in %s", want, text);
	}
	EXPECT_EQ(0, access("/sys/class/umpsc/umpsc", F_OK));
	EXPECT_EQ(0, access(class_path(NAME, ""), F_OK));
	ASSERT_LT(0, umpsc_read_file(class_path(NAME, "/uevent"), text,
				     sizeof(text)));
	EXPECT_NE(NULL, strstr(text, "DEVNAME=umpsc-" NAME "\n"));
}

TEST_LONG(node, mode_uid_and_gid_are_as_create_says)
{
	static const struct {
		__u32 mode, uid, gid, want;
	} table[] = {
		{ 0, 0, 0, 0660 },
		{ 0, 1000, 0, 0660 },
		{ 0, 0, 1000, 0660 },
		{ 0600, 1234, 4321, 0600 },
		{ 0620, 0, 42, 0620 },
		{ 0666, NOBODY, NOBODY, 0666 },
		{ 0777, 0x7fffffff, 0xfffffffe, 0777 },
		{ 0400, 0xfffffffe, 0, 0400 },
		{ 0001, 0, 0, 0001 },
	};
	struct umpsc_create_args args;
	struct stat st;
	int i;

	for (i = 0; i < ARRAY_SIZE(table); i++) {
		args = create_args(NAME);
		args.mode = table[i].mode;
		args.uid = table[i].uid;
		args.gid = table[i].gid;
		/* Not masked. */
		umask(0777);
		ASSERT_EQ(0, umpsc_create(self->manager, &args));
		ASSERT_EQ(0, stat(node_path(NAME), &st));
		EXPECT_EQ(S_IFCHR | table[i].want, st.st_mode);
		EXPECT_EQ(table[i].uid, st.st_uid);
		EXPECT_EQ(table[i].gid, st.st_gid);
		ASSERT_EQ(0, umpsc_remove(self->manager, NAME));
	}
}

TEST_LONG(node, flags_and_limits_are_those_of_its_channels)
{
	struct umpsc_create_args args = create_args(NAME);
	struct umpsc_info want = {
		.state = UMPSC_STATE_STANDING,
		.flags = UMPSC_TIMESTAMP,
		.strong = 1,
		.limits = {
			.max_len = 11,
			.max_msgs = 22,
			.max_bytes = 33,
		},
	};
	int tx, rx, i;

	args.flags = UMPSC_TIMESTAMP | UMPSC_STANDING;
	args.limits = want.limits;
	ASSERT_EQ(0, umpsc_create(self->manager, &args));
	for (i = 1; i <= 2; i++) {
		tx = ASSERT_FD(umpsc_open(NAME, O_WRONLY));
		want.generation = i;
		EXPECT_STATE(tx, UMPSC_ROLE_SENDER, &want);
		rx = ASSERT_FD(umpsc_open(NAME, O_RDONLY));
		EXPECT_EQ(0, umpsc_close(rx));
		close(rx);
		close(tx);
	}
}

TEST_LONG(node, every_name_of_1_to_31_letters_digits_underscores_and_dashes)
{
	char name[UMPSC_NAME_MAX + 1] = LONGEST;
	const char *c;
	size_t len;

	for (c = CHARACTERS; *c; c++) {
		char one[2] = { *c };

		EXPECT_EQ(0, create(self->manager, one))
		{
			TH_LOG("CREATE of '%s': %s", one, strerror(errno));
		}
		EXPECT_EQ(0, access(node_path(one), F_OK));
		EXPECT_EQ(0, umpsc_remove(self->manager, one));
	}
	for (len = UMPSC_NAME_MAX; len; len--) {
		name[len] = 0;
		EXPECT_EQ(0, create(self->manager, name))
		{
			TH_LOG("CREATE of '%s': %s", name, strerror(errno));
		}
		EXPECT_EQ(0, access(node_path(name), F_OK));
	}
	/* Each of its own, though each begins as the next. */
	EXPECT_EQ(self->before.nodes + UMPSC_NAME_MAX,
		  count_nodes(_metadata, self->manager));
	umpsc_set_name(name, LONGEST);
	for (len = UMPSC_NAME_MAX; len; len--) {
		name[len] = 0;
		EXPECT_EQ(0, umpsc_remove(self->manager, name));
		EXPECT_ERR(ENOENT, access(node_path(name), F_OK));
	}
}

/* Both calls refuse it, and no node comes or goes. */
static void refuse_name(struct __test_metadata *_metadata, int manager,
			const char *name, int remove_err)
{
	struct umpsc_create_args create = create_args("");
	struct umpsc_remove_args remove = {};
	__u64 nodes = count_nodes(_metadata, manager);

	memcpy(create.name, name, sizeof(create.name));
	memcpy(remove.name, name, sizeof(remove.name));
	EXPECT_ERR(EINVAL, umpsc_create(manager, &create));
	EXPECT_ERR(remove_err, ioctl(manager, UMPSC_IOC_REMOVE, &remove));
	EXPECT_EQ(nodes, count_nodes(_metadata, manager))
	{
		TH_LOG("name '%.32s'", name);
	}
}

TEST_LONG(node, every_other_name_is_einval)
{
	char name[UMPSC_NAME_MAX + 1];
	int c, at;

	ASSERT_EQ(0, create(self->manager, NAME));
	for (c = 1; c < 256; c++) {
		if (strchr(CHARACTERS, c))
			continue;
		umpsc_set_name(name, NAME);
		name[1] = c;
		refuse_name(_metadata, self->manager, name, EINVAL);
		umpsc_set_name(name, LONGEST);
		name[UMPSC_NAME_MAX - 1] = c;
		refuse_name(_metadata, self->manager, name, EINVAL);
		umpsc_set_name(name, "");
		name[0] = c;
		refuse_name(_metadata, self->manager, name, EINVAL);
	}
	/* Not ended, or something behind the end. */
	umpsc_set_name(name, LONGEST "y");
	refuse_name(_metadata, self->manager, name, EINVAL);
	for (at = strlen(NAME) + 1; at <= UMPSC_NAME_MAX; at++) {
		umpsc_set_name(name, NAME);
		name[at] = 'x';
		refuse_name(_metadata, self->manager, name, EINVAL);
	}
	umpsc_set_name(name, "");
	name[UMPSC_NAME_MAX] = 'x';
	refuse_name(_metadata, self->manager, name, EINVAL);
	/* None is /dev/umpsc. */
	umpsc_set_name(name, "");
	refuse_name(_metadata, self->manager, name, EPERM);
	EXPECT_EQ(0, access(node_path(NAME), F_OK));
	EXPECT_EQ(0, access(UMPSC_NODE, F_OK));
}

TEST_LONG(node, files_of_a_node_have_no_offset)
{
	struct umpsc_create_args args = create_args(NAME);
	char byte = 'x';
	int rx, tx;

	ASSERT_EQ(0, umpsc_create(self->manager, &args));
	tx = ASSERT_FD(umpsc_open(NAME, O_WRONLY));
	rx = ASSERT_FD(umpsc_open(NAME, O_RDONLY));
	EXPECT_ERR(ESPIPE, pwrite(tx, &byte, 1, 0));
	EXPECT_ERR(ESPIPE, lseek(tx, 0, SEEK_CUR));
	EXPECT_WRITE(tx, "kept");
	EXPECT_ERR(ESPIPE, pread(rx, &byte, 1, 0));
	EXPECT_ERR(ESPIPE, lseek(rx, 0, SEEK_SET));
	EXPECT_TEXT(rx, "kept");
	close(tx);
	close(rx);
}

TEST_LONG(node, create_of_a_name_that_exists_is_eexist)
{
	struct umpsc_create_args args = create_args(NAME);
	static char log[1 << 20];
	struct stat before, after;
	struct umpsc_info info;
	int tx, len;

	ASSERT_EQ(0, umpsc_create(self->manager, &args));
	ASSERT_EQ(0, stat(node_path(NAME), &before));
	tx = ASSERT_FD(umpsc_open(NAME, O_WRONLY));
	EXPECT_WRITE(tx, "kept");
	ASSERT_EQ(0, umpsc_info(tx, &info));
	args.mode = 0666;
	args.uid = 1;
	args.flags = UMPSC_STANDING;
	args.limits.max_msgs = 1;
	EXPECT_ERR(EEXIST, umpsc_create(self->manager, &args));
	/* The driver core would refuse it as well, but not in silence. */
	len = klogctl(KLOG_READ_ALL, log, sizeof(log));
	ASSERT_LT(0, len);
	EXPECT_EQ(NULL, memmem(log, len, "duplicate filename", 18));
	EXPECT_UNCHANGED(tx, &info);
	ASSERT_EQ(0, stat(node_path(NAME), &after));
	EXPECT_EQ(before.st_mode, after.st_mode);
	EXPECT_EQ(before.st_uid, after.st_uid);
	EXPECT_EQ(before.st_rdev, after.st_rdev);
	EXPECT_EQ(self->before.nodes + 1,
		  count_nodes(_metadata, self->manager));
	close(tx);
}

TEST_LONG(node, remove_of_a_name_that_does_not_exist_is_enoent)
{
	EXPECT_ERR(ENOENT, umpsc_remove(self->manager, NAME));
	ASSERT_EQ(0, create(self->manager, NAME "x"));
	EXPECT_ERR(ENOENT, umpsc_remove(self->manager, NAME));
	EXPECT_ERR(ENOENT, umpsc_remove(self->manager, "umpsc"));
	EXPECT_EQ(0, umpsc_remove(self->manager, NAME "x"));
	EXPECT_ERR(ENOENT, umpsc_remove(self->manager, NAME "x"));
	EXPECT_EQ(self->before.nodes, count_nodes(_metadata, self->manager));
}

/* The most of the time of this program, also where nothing else slows it down. */
TEST_F_TIMEOUT(node, at_most_4096_nodes, 2 * UMPSC_TEST_TIMEOUT)
{
	unsigned int room = 4096 - self->before.nodes, i;
	__u64 start = umpsc_now_ns();
	char name[32];

	for (i = 0; i < room; i++) {
		snprintf(name, sizeof(name), "full-%u", i);
		ASSERT_EQ(0, create(self->manager, name))
		{
			TH_LOG("node %u: %s", i, strerror(errno));
		}
	}
	EXPECT_EQ(4096, count_nodes(_metadata, self->manager));
	EXPECT_ERR(ENOSPC, create(self->manager, NAME));
	EXPECT_EQ(4096, count_nodes(_metadata, self->manager));
	EXPECT_ERR(ENOENT, access(node_path(NAME), F_OK));
	EXPECT_ERR(EEXIST, create(self->manager, "full-0"));
	/* The last one works, and room is made by removing any. */
	EXPECT_EQ(0, access(node_path(name), R_OK | W_OK));
	EXPECT_EQ(0, umpsc_remove(self->manager, "full-7"));
	EXPECT_EQ(0, create(self->manager, NAME));
	EXPECT_ERR(ENOSPC, create(self->manager, "full-7"));
	EXPECT_EQ(0, umpsc_remove(self->manager, NAME));
	for (i = 0; i < room; i++) {
		snprintf(name, sizeof(name), "full-%u", i);
		if (i != 7)
			EXPECT_EQ(0, umpsc_remove(self->manager, name));
	}
	EXPECT_EQ(self->before.nodes, count_nodes(_metadata, self->manager));
	TH_LOG("%llu ms", (umpsc_now_ns() - start) / 1000000);
}

/* ---- Who may ------------------------------------------------------------------ */

/* Becomes a user with one group, and no capability but those in @caps. */
static int become(uid_t uid, gid_t gid, unsigned int caps)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2] = {
		{ .effective = caps, .permitted = caps },
	};

	if (prctl(PR_SET_KEEPCAPS, 1) || setgroups(1, &gid) ||
	    setresgid(gid, gid, gid) || setresuid(uid, uid, uid))
		return -1;
	return syscall(SYS_capset, &header, data);
}

/* CREATE and REMOVE are EPERM here, whatever else is wrong; the rest works. */
static void may_not(struct __test_metadata *_metadata, int manager)
{
	struct umpsc_create_args args = create_args(OTHER);
	struct umpsc_remove_args remove = { .name = NAME };
	struct umpsc_channel_args channel = {};
	__u64 nodes = count_nodes(_metadata, manager);

	EXPECT_ERR(EPERM, umpsc_create(manager, &args));
	EXPECT_ERR(EPERM, umpsc_remove(manager, NAME));
	EXPECT_ERR(EPERM, umpsc_remove(manager, OTHER));
	EXPECT_ERR(EPERM, umpsc_remove(manager, ""));
	EXPECT_ERR(EPERM, create(manager, NAME));
	EXPECT_ERR(EPERM, create(manager, "no name"));
	args.flags = -1;
	EXPECT_ERR(EPERM, umpsc_create(manager, &args));
	remove.flags = -1;
	EXPECT_ERR(EPERM, ioctl(manager, UMPSC_IOC_REMOVE, &remove));
	/* A structure that is not one comes first. */
	EXPECT_ERR(EINVAL,
		   ioctl(manager, UMPSC_IOC_REMOVE & ~IOCSIZE_MASK, &remove));
	EXPECT_EQ(nodes, count_nodes(_metadata, manager));
	EXPECT_ERR(ENOENT, access(node_path(OTHER), F_OK));
	EXPECT_EQ(0, access(node_path(NAME), F_OK));

	EXPECT_EQ(0, umpsc_channel(manager, &channel));
	EXPECT_WRITE(channel.sender_fd, "works");
	EXPECT_TEXT(channel.receiver_fd, "works");
	EXPECT_EQ(0, close(channel.sender_fd));
	EXPECT_EQ(0, close(channel.receiver_fd));
}

TEST_LONG(node, create_and_remove_are_eperm_for_a_user)
{
	pid_t pid;

	ASSERT_EQ(0, create(self->manager, NAME));
	pid = fork();
	if (!pid) {
		ASSERT_EQ(0, become(NOBODY, NOBODY, 0));
		may_not(_metadata, self->manager);
		_exit(0);
	}
	EXPECT_EQ(0, umpsc_wait_child(pid));
}

TEST_LONG(node, create_and_remove_are_eperm_for_root_without_cap_sys_admin)
{
	pid_t pid;

	ASSERT_EQ(0, create(self->manager, NAME));
	pid = fork();
	if (!pid) {
		ASSERT_EQ(0, become(0, 0, ~(1U << CAP_SYS_ADMIN)));
		may_not(_metadata, self->manager);
		_exit(0);
	}
	EXPECT_EQ(0, umpsc_wait_child(pid));
}

TEST_LONG(node, create_and_remove_are_eperm_for_root_of_a_user_namespace)
{
	int manager;
	pid_t pid;

	ASSERT_EQ(0, create(self->manager, NAME));
	pid = fork();
	if (!pid) {
		ASSERT_EQ(0, unshare(CLONE_NEWUSER));
		may_not(_metadata, self->manager);
		_exit(0);
	}
	EXPECT_EQ(0, umpsc_wait_child(pid));

	/* Also with a manager that it opened itself. */
	ASSERT_EQ(0, chmod(node_path(NAME), 0666));
	pid = fork();
	if (!pid) {
		ASSERT_EQ(0, unshare(CLONE_NEWUSER));
		manager = ASSERT_FD(umpsc_open(NAME, O_RDWR));
		may_not(_metadata, manager);
		_exit(0);
	}
	EXPECT_EQ(0, umpsc_wait_child(pid));
}

TEST_LONG(node, cap_sys_admin_is_enough_to_create_and_remove)
{
	struct umpsc_create_args args = create_args(NAME);
	pid_t pid;

	pid = fork();
	if (!pid) {
		ASSERT_EQ(0, become(NOBODY, NOBODY, 1U << CAP_SYS_ADMIN));
		args.uid = 1;
		args.gid = 2;
		EXPECT_EQ(0, umpsc_create(self->manager, &args));
		EXPECT_EQ(0, access(node_path(NAME), F_OK));
		EXPECT_EQ(0, umpsc_remove(self->manager, NAME));
		_exit(0);
	}
	EXPECT_EQ(0, umpsc_wait_child(pid));
}

/* Opens a node as that user in every mode: each gives 0 or the error expected. */
static void try_modes(struct __test_metadata *_metadata, const char *name,
		      uid_t uid, gid_t gid, int write_err, int read_err)
{
	int both_err = write_err ? write_err : read_err;
	const struct {
		int flags, err;
	} modes[] = {
		{ O_WRONLY, write_err },
		{ O_RDONLY, read_err },
		{ O_RDWR, both_err },
	};
	int i, fd;
	pid_t pid;

	pid = fork();
	if (pid) {
		EXPECT_EQ(0, umpsc_wait_child(pid));
		return;
	}
	ASSERT_EQ(0, become(uid, gid, 0));
	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		errno = 0;
		fd = umpsc_open(name, modes[i].flags);
		EXPECT_EQ(modes[i].err, errno)
		{
			TH_LOG("uid %u gid %u mode %d", uid, gid,
			       modes[i].flags);
		}
		EXPECT_EQ(!modes[i].err, fd >= 0);
		if (fd >= 0)
			close(fd);
	}
	_exit(0);
}

TEST_LONG(node, permission_to_write_is_to_send_and_to_read_is_to_receive)
{
	static const struct {
		__u32 mode;
		int owner_write, owner_read;
		int group_write, group_read;
		int other_write, other_read;
	} table[] = {
		{ 0600, 0, 0, EACCES, EACCES, EACCES, EACCES },
		{ 0620, 0, 0, 0, EACCES, EACCES, EACCES },
		{ 0640, 0, 0, EACCES, 0, EACCES, EACCES },
		{ 0660, 0, 0, 0, 0, EACCES, EACCES },
		{ 0622, 0, 0, 0, EACCES, 0, EACCES },
		{ 0666, 0, 0, 0, 0, 0, 0 },
		{ 0420, EACCES, 0, 0, EACCES, EACCES, EACCES },
		{ 0111, EACCES, EACCES, EACCES, EACCES, EACCES, EACCES },
	};
	struct umpsc_create_args args;
	int i;

	for (i = 0; i < ARRAY_SIZE(table); i++) {
		args = create_args(NAME);
		args.mode = table[i].mode;
		args.uid = 1000;
		args.gid = 2000;
		ASSERT_EQ(0, umpsc_create(self->manager, &args));
		try_modes(_metadata, NAME, 1000, 1000, table[i].owner_write,
			  table[i].owner_read);
		try_modes(_metadata, NAME, 1001, 2000, table[i].group_write,
			  table[i].group_read);
		try_modes(_metadata, NAME, NOBODY, NOBODY, table[i].other_write,
			  table[i].other_read);
		ASSERT_EQ(0, umpsc_remove(self->manager, NAME));
	}
	/* /dev/umpsc itself is for root and its group, unless loaded otherwise. */
	try_modes(_metadata, "", NOBODY, 0, 0, 0);
	try_modes(_metadata, "", NOBODY, NOBODY, EACCES, EACCES);
}

/* With no right to write: it writes to itself. */
TEST_LONG(node, receiver_may_ask_for_a_sender_whatever_the_mode_is)
{
	struct umpsc_create_args args = create_args(NAME);
	pid_t pid;
	int rx, tx;

	args.mode = 0640;
	args.gid = 2000;
	ASSERT_EQ(0, umpsc_create(self->manager, &args));
	pid = fork();
	if (!pid) {
		ASSERT_EQ(0, become(1001, 2000, 0));
		EXPECT_ERR(EACCES, umpsc_open(NAME, O_WRONLY));
		rx = ASSERT_FD(umpsc_open(NAME, O_RDONLY));
		tx = ASSERT_FD(umpsc_sender(rx, 0));
		EXPECT_WRITE(tx, "to myself");
		EXPECT_TEXT(rx, "to myself");
		_exit(0);
	}
	EXPECT_EQ(0, umpsc_wait_child(pid));
}

/* ---- Device numbers -------------------------------------------------------------- */

TEST_LONG(node, minors_are_handed_out_cyclically)
{
	struct umpsc_create_args args = create_args(NAME);
	__u32 last = 0, major = 0;
	int i;

	for (i = 0; i < 20; i++) {
		ASSERT_EQ(0, umpsc_create(self->manager, &args));
		if (i) {
			EXPECT_EQ(major, args.major);
			/* 2^20 of them: it will not begin again here. */
			EXPECT_EQ(last + 1, args.minor);
		}
		EXPECT_NE(0, args.minor);
		last = args.minor;
		major = args.major;
		ASSERT_EQ(0, umpsc_remove(self->manager, NAME));
	}
}

/* As a container has it. */
TEST_LONG(node, device_file_of_a_removed_node_is_enxio_for_ever)
{
	static const int modes[] = {
		O_RDONLY,
		O_WRONLY,
		O_RDWR,
		O_RDONLY | O_NONBLOCK,
	};
	struct umpsc_create_args args = create_args(NAME);
	char path[64];
	int i, tx, other;
	__u64 nodes;

	ASSERT_EQ(0, umpsc_create(self->manager, &args));
	snprintf(path, sizeof(path), "%s/dev", self->dir);
	ASSERT_EQ(0,
		  mknod(path, S_IFCHR | 0600, makedev(args.major, args.minor)));
	/* Another way to the same node ... */
	tx = ASSERT_FD(umpsc_open(NAME, O_WRONLY));
	other = ASSERT_FD(open(path, O_RDONLY | O_CLOEXEC));
	EXPECT_EQ(1, umpsc_same(tx, other));
	EXPECT_WRITE(tx, "through");
	EXPECT_TEXT(other, "through");
	close(tx);
	close(other);

	/* ... and to none, also when there is one of that name again. */
	ASSERT_EQ(0, umpsc_remove(self->manager, NAME));
	nodes = count_nodes(_metadata, self->manager);
	for (i = 0; i < ARRAY_SIZE(modes); i++)
		EXPECT_ERR(ENXIO, open(path, modes[i] | O_CLOEXEC));
	EXPECT_EQ(nodes, count_nodes(_metadata, self->manager));
	ASSERT_EQ(0, create(self->manager, NAME));
	ASSERT_EQ(0, create(self->manager, OTHER));
	for (i = 0; i < ARRAY_SIZE(modes); i++)
		EXPECT_ERR(ENXIO, open(path, modes[i] | O_CLOEXEC));
	tx = ASSERT_FD(umpsc_open(NAME, O_WRONLY));
	EXPECT_INFO(tx, UMPSC_ROLE_SENDER, .strong = 1, .generation = 1,
		    .handle = 1);
	close(tx);
}

TEST_LONG(node, minor_that_was_never_a_node_is_enxio)
{
	char path[64];
	struct stat st;

	ASSERT_EQ(0, stat(UMPSC_NODE, &st));
	snprintf(path, sizeof(path), "%s/dev", self->dir);
	ASSERT_EQ(0, mknod(path, S_IFCHR | 0600,
			   makedev(major(st.st_rdev), (1 << 20) - 1)));
	EXPECT_ERR(ENXIO, open(path, O_RDONLY | O_CLOEXEC));
	EXPECT_ERR(ENXIO, open(path, O_WRONLY | O_CLOEXEC));
	EXPECT_ERR(ENXIO, open(path, O_RDWR | O_CLOEXEC));
}

/* ---- All at once -------------------------------------------------------------------- */

#define THREADS 4
#define ROUNDS 60

struct worker {
	int manager;
	int number;
	long created;
	long removed;
	long accepted;
	const char *what; /* that failed */
};

/* Makes, uses and removes one of two nodes while three others do. */
static long work(void *arg)
{
	struct worker *w = arg;
	const char *name;
	int i, fd;

	for (i = 0; i < ROUNDS; i++) {
		name = (i + w->number) % 3 ? NAME : OTHER;
		w->what = "CREATE";
		if (!create(w->manager, name))
			w->created++;
		else if (errno != EEXIST)
			return -1;
		w->what = "O_WRONLY";
		fd = umpsc_open(name, O_WRONLY);
		if (fd >= 0) {
			w->what = "write";
			if (write(fd, "x", 1) == 1)
				w->accepted++;
			else if (errno != EPIPE)
				return -1;
			close(fd);
		} else if (errno != ENOENT && errno != ENXIO) {
			return -1;
		}
		w->what = "O_RDONLY";
		fd = umpsc_open(name, O_RDONLY | O_NONBLOCK);
		if (fd >= 0)
			close(fd);
		else if (errno != ENOENT && errno != ENXIO && errno != EBUSY)
			return -1;
		if (i % 2)
			continue;
		w->what = "REMOVE";
		if (!umpsc_remove(w->manager, name))
			w->removed++;
		else if (errno != ENOENT)
			return -1;
	}
	return 0;
}

TEST_LONG(node, concurrent_create_open_and_remove_leave_nothing_behind)
{
	struct umpsc_thread t[THREADS];
	struct worker w[THREADS];
	long created = 0, removed = 0, accepted = 0, left = 0;
	int i, kmsg = ASSERT_FD(umpsc_log_open());
	struct umpsc_query q;
	char line[2048];
	ssize_t n;

	for (i = 0; i < THREADS; i++) {
		w[i] = (struct worker){ .manager = self->manager, .number = i };
		ASSERT_EQ(0, umpsc_thread_start(&t[i], work, &w[i]));
	}
	for (i = 0; i < THREADS; i++) {
		ASSERT_TRUE(umpsc_thread_join(&t[i]));
		EXPECT_EQ(0, t[i].ret)
		{
			TH_LOG("%s: %s", w[i].what, strerror(t[i].err));
		}
		created += w[i].created;
		removed += w[i].removed;
		accepted += w[i].accepted;
	}
	/* No name was given to Linux twice, which it does not like. */
	while ((n = read(kmsg, line, sizeof(line) - 1)) > 0) {
		line[n] = 0;
		EXPECT_EQ(NULL, strstr(line, "sysfs: "));
	}
	EXPECT_EQ(EAGAIN, errno);
	close(kmsg);
	/* Each name was made once for each time that it went. */
	left += !access(node_path(NAME), F_OK);
	left += !access(node_path(OTHER), F_OK);
	EXPECT_EQ(created, removed + left);
	EXPECT_EQ(self->before.nodes + left,
		  count_nodes(_metadata, self->manager));
	EXPECT_LT(0, removed);
	EXPECT_LT(0, accepted);
	umpsc_remove(self->manager, NAME);
	umpsc_remove(self->manager, OTHER);
	EXPECT_ERR(ENOENT, access(class_path(NAME, ""), F_OK));
	EXPECT_ERR(ENOENT, access(class_path(OTHER, ""), F_OK));
	EXPECT_TRUE(UMPSC_UNTIL(!umpsc_query(self->manager, &q) &&
				!memcmp(&self->before, &q, sizeof(q))))
	{
		TH_LOG("%llu nodes, %llu channels, %llu messages", q.nodes,
		       q.channels, q.messages);
	}
}

/* ---- What keeps the module loaded ------------------------------------------------------ */

FIXTURE(reference)
{
	long base;
};

FIXTURE_SETUP(reference)
{
	umpsc_node_remove(NAME);
	umpsc_node_remove(OTHER);
	ASSERT_EQ(0, umpsc_node_create(NAME, 0, NULL));
	ASSERT_EQ(0, umpsc_node_create(OTHER, UMPSC_STANDING, NULL));
	self->base = umpsc_module_refs();
	ASSERT_LE(0, self->base);
}

FIXTURE_TEARDOWN(reference)
{
	umpsc_node_remove(NAME);
	umpsc_node_remove(OTHER);
	EXPECT_TRUE(UMPSC_UNTIL(umpsc_module_refs() == self->base));
}

/* The module has @more references than before the test. */
#define EXPECT_REFERENCES(more) \
	expect_references(_metadata, __LINE__, self->base + (more))

static void expect_references(struct __test_metadata *_metadata, int line,
			      long want)
{
	EXPECT_TRUE(UMPSC_UNTIL(umpsc_module_refs() == want))
	{
		TH_LOG("... %ld references, not %ld, line %d",
		       umpsc_module_refs(), want, line);
	}
}

static void echo(struct __test_metadata *_metadata, const char *name,
		 const char *text)
{
	int tx = ASSERT_FD(umpsc_open(name, O_WRONLY));

	EXPECT_WRITE(tx, text);
	EXPECT_EQ(0, close(tx));
}

TEST_LONG(reference, every_open_handle_holds_the_module)
{
	struct umpsc_channel_args args = {};
	int manager, weak, fd, i;

	for (i = 0; i < 3; i++) {
		fd = ASSERT_FD(umpsc_open(NAME, i)); /* 0, 1, 2: all modes */
		/* One for the device, one for the role's operations. */
		EXPECT_LE(self->base + 2, umpsc_module_refs());
		close(fd);
		EXPECT_REFERENCES(0);
	}
	manager = ASSERT_FD(umpsc_open(NAME, O_RDWR));
	ASSERT_EQ(0, umpsc_channel(manager, &args));
	close(manager);
	weak = ASSERT_FD(umpsc_downgrade(args.sender_fd, 0));
	EXPECT_LE(self->base + 3, umpsc_module_refs());
	close(args.sender_fd);
	EXPECT_LE(self->base + 2, umpsc_module_refs());
	close(args.receiver_fd);
	EXPECT_LE(self->base + 1, umpsc_module_refs());
	close(weak);
	EXPECT_REFERENCES(0);
}

TEST_LONG(reference, unclaimed_channel_with_messages_holds_one_until_drained)
{
	static const char *const names[] = { NAME, OTHER };
	struct umpsc_batch b = {};
	int rx, tx, i;

	for (i = 0; i < 2; i++) {
		echo(_metadata, names[i], "one");
		EXPECT_REFERENCES(1);
		echo(_metadata, names[i], "two");
		EXPECT_REFERENCES(1);
		rx = ASSERT_FD(umpsc_open(names[i], O_RDONLY));
		EXPECT_TEXT(rx, "one");
		EXPECT_TEXT(rx, "two");
		close(rx);
		EXPECT_REFERENCES(0);

		/* An empty message is a message. */
		tx = ASSERT_FD(umpsc_open(names[i], O_WRONLY));
		umpsc_batch_add(&b, NULL, 0);
		EXPECT_EQ(1, umpsc_batch_send(tx, &b));
		umpsc_batch_free(&b);
		close(tx);
		EXPECT_REFERENCES(1);
		rx = ASSERT_FD(umpsc_open(names[i], O_RDONLY));
		EXPECT_MESSAGE(rx, "", 0);
		close(rx);
		EXPECT_REFERENCES(0);

		/* None is none. */
		tx = ASSERT_FD(umpsc_open(names[i], O_WRONLY));
		close(tx);
		EXPECT_REFERENCES(0);
	}
}

TEST_LONG(reference, one_for_each_channel)
{
	echo(_metadata, NAME, "x");
	EXPECT_REFERENCES(1);
	echo(_metadata, OTHER, "x");
	EXPECT_REFERENCES(2);
	echo(_metadata, NAME, "x");
	echo(_metadata, OTHER, "x");
	EXPECT_REFERENCES(2);
	EXPECT_EQ(0, umpsc_node_remove(OTHER));
	EXPECT_REFERENCES(1);
	EXPECT_EQ(0, umpsc_node_remove(NAME));
	EXPECT_REFERENCES(0);
}

TEST_LONG(reference, remove_gives_it_back)
{
	int tx;

	echo(_metadata, NAME, "discarded");
	EXPECT_REFERENCES(1);
	EXPECT_EQ(0, umpsc_node_remove(NAME));
	EXPECT_REFERENCES(0);

	/* A sender that is still there only holds its own. */
	tx = ASSERT_FD(umpsc_open(OTHER, O_WRONLY));
	EXPECT_WRITE(tx, "discarded");
	EXPECT_EQ(0, umpsc_node_remove(OTHER));
	EXPECT_ERR(EPIPE, write(tx, "late", 4));
	EXPECT_LT(self->base, umpsc_module_refs());
	close(tx);
	EXPECT_REFERENCES(0);
}

TEST_LONG(reference, ordinary_receivers_going_gives_it_back)
{
	int rx;

	echo(_metadata, NAME, "discarded");
	EXPECT_REFERENCES(1);
	rx = ASSERT_FD(umpsc_open(NAME, O_RDONLY));
	close(rx);
	EXPECT_REFERENCES(0);
}

TEST_LONG(reference, standing_receivers_going_takes_one_for_what_it_leaves)
{
	int rx, tx;

	rx = ASSERT_FD(umpsc_open(OTHER, O_RDONLY));
	echo(_metadata, OTHER, "one");
	echo(_metadata, OTHER, "two");
	close(rx);
	EXPECT_REFERENCES(1);
	rx = ASSERT_FD(umpsc_open(OTHER, O_RDONLY));
	EXPECT_TEXT(rx, "one");
	close(rx);
	EXPECT_REFERENCES(1);
	rx = ASSERT_FD(umpsc_open(OTHER, O_RDONLY));
	EXPECT_TEXT(rx, "two");
	close(rx);
	EXPECT_REFERENCES(0);

	/* The sender is the last to leave. */
	rx = ASSERT_FD(umpsc_open(OTHER, O_RDONLY));
	tx = ASSERT_FD(umpsc_open(OTHER, O_WRONLY));
	close(rx);
	EXPECT_WRITE(tx, "three");
	close(tx);
	EXPECT_REFERENCES(1);

	/* CLOSE ends it: what the receiver then leaves is discarded. */
	rx = ASSERT_FD(umpsc_open(OTHER, O_RDONLY));
	EXPECT_EQ(0, umpsc_close(rx));
	close(rx);
	EXPECT_REFERENCES(0);
}

/* Not by open files alone: a clone of a node's sender is no file of the node. */
TEST_LONG(reference, message_of_the_last_clone_holds_one)
{
	int tx = ASSERT_FD(umpsc_open(NAME, O_WRONLY));
	int clone = ASSERT_FD(umpsc_clone(tx, 0)), weak, rx;

	weak = ASSERT_FD(umpsc_downgrade(clone, 0));
	close(tx);
	EXPECT_WRITE(clone, "kept");
	close(clone);
	close(weak);
	EXPECT_REFERENCES(1);
	rx = ASSERT_FD(umpsc_open(NAME, O_RDONLY));
	EXPECT_TEXT(rx, "kept");
	close(rx);
	EXPECT_REFERENCES(0);
}

TEST_HARNESS_MAIN
