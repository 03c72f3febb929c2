// SPDX-License-Identifier: GPL-2.0-only
/*
 * Figures of nodes in sysfs: what they say, who may read them, that totals are
 * exact over all channels that a node has led to, and that looking changes nothing.
 */
#include "umpsc_test.h"

#include <sys/resource.h>

#define NAME "sysfs"
#define OTHER "sysfs-other"
#define NOBODY 65534
#define DIR_OF "/sys/class/umpsc/umpsc"

/* A file, and what of INFO it is; with a bit, of that field a 0 or a 1. */
struct attr {
	const char *name;
	struct umpsc_figure figure;
	__u32 bit;
};

/* Of the node's current channel: what INFO tells a manager. */
static const struct attr current_attrs[] = {
	{ "standing", __UMPSC_FIGURE(state, false), UMPSC_STATE_STANDING },
	{ "timestamp", __UMPSC_FIGURE(flags, false), UMPSC_TIMESTAMP },
	{ "creds", __UMPSC_FIGURE(flags, false), UMPSC_CREDS },
	{ "limit_len", __UMPSC_FIGURE(limits.max_len, false) },
	{ "limit_msgs", __UMPSC_FIGURE(limits.max_msgs, false) },
	{ "limit_bytes", __UMPSC_FIGURE(limits.max_bytes, false) },
	{ "channel", __UMPSC_FIGURE(channel, false) },
	{ "generation", __UMPSC_FIGURE(generation, false) },
	{ "claimed", __UMPSC_FIGURE(state, false), UMPSC_STATE_CLAIMED },
	{ "closed", __UMPSC_FIGURE(state, false), UMPSC_STATE_CLOSED },
	{ "ended", __UMPSC_FIGURE(state, false), UMPSC_STATE_ENDED },
	{ "depth", __UMPSC_FIGURE(messages, false) },
	{ "bytes", __UMPSC_FIGURE(bytes, false) },
	{ "memory", __UMPSC_FIGURE(memory, false) },
	{ "strong", __UMPSC_FIGURE(strong, false) },
	{ "weak", __UMPSC_FIGURE(weak, false) },
};

/* Over all channels of the node. */
static const struct attr total_attrs[] = {
	{ "queued", __UMPSC_FIGURE(messages, false) },
	{ "queued_bytes", __UMPSC_FIGURE(bytes, false) },
	{ "sent", __UMPSC_FIGURE(sent, false) },
	{ "sent_bytes", __UMPSC_FIGURE(sent_bytes, false) },
	{ "received", __UMPSC_FIGURE(received, false) },
	{ "received_bytes", __UMPSC_FIGURE(received_bytes, false) },
	{ "discarded", __UMPSC_FIGURE(discarded, false) },
	{ "refused_closed", __UMPSC_FIGURE(refused_closed, false) },
	{ "refused_size", __UMPSC_FIGURE(refused_size, false) },
	{ "refused_limit", __UMPSC_FIGURE(refused_limit, false) },
	{ "refused_quota", __UMPSC_FIGURE(refused_quota, false) },
	{ "refused_memory", __UMPSC_FIGURE(refused_memory, false) },
	{ "most_messages", __UMPSC_FIGURE(most_messages, false) },
	{ "most_bytes", __UMPSC_FIGURE(most_bytes, false) },
	{ "wakeups", __UMPSC_FIGURE(wakeups, false) },
};

/* Neither a field of INFO nor the same from one look to the next. */
static const char *const other_attrs[] = { "oldest_ns", "refused" };

static const char *attr_path(const char *node, const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), DIR_OF "%s%s/%s", *node ? "-" : "", node,
		 name);
	return path;
}

/* The number that is all of the file, or -1 (and none of the figures is that). */
static __u64 attr_read(const char *node, const char *name)
{
	char text[64], *end;
	__u64 value;

	if (umpsc_read_file(attr_path(node, name), text, sizeof(text)) <= 0)
		return -1;
	value = strtoull(text, &end, 10);
	return end != text && !strcmp(end, "\n") ? value : (__u64)-1;
}

static __u64 attr_want(const struct attr *attr, const struct umpsc_info *info)
{
	__u64 value = umpsc_figure(info, &attr->figure);

	return attr->bit ? !!(value & attr->bit) : value;
}

static void expect_attrs(struct __test_metadata *_metadata, int line,
			 const char *node, const struct attr *attrs, size_t n,
			 const struct umpsc_info *info)
{
	size_t i;

	for (i = 0; i < n; i++)
		EXPECT_EQ(attr_want(&attrs[i], info),
			  attr_read(node, attrs[i].name))
		{
			TH_LOG("... %s of '%s', line %d", attrs[i].name, node,
			       line);
		}
}

/* The current channel's figures are what a manager's INFO says. */
static void expect_current(struct __test_metadata *_metadata, int line,
			   const char *node)
{
	int manager = ASSERT_FD(umpsc_open(node, O_RDWR));
	struct umpsc_info info;

	ASSERT_EQ(0, umpsc_info(manager, &info));
	expect_attrs(_metadata, line, node, current_attrs,
		     ARRAY_SIZE(current_attrs), &info);
	close(manager);
}

#define EXPECT_CURRENT(node) expect_current(_metadata, __LINE__, node)

static void expect_totals(struct __test_metadata *_metadata, int line,
			  const char *node, const struct umpsc_info *want)
{
	expect_attrs(_metadata, line, node, total_attrs,
		     ARRAY_SIZE(total_attrs), want);
	EXPECT_EQ(want->refused_closed + want->refused_size +
			  want->refused_limit + want->refused_quota +
			  want->refused_memory,
		  attr_read(node, "refused"))
	{
		TH_LOG("... refused of '%s', line %d", node, line);
	}
}

/* EXPECT_TOTALS(node, .sent = 1, .messages = 1, ...); others 0 */
#define EXPECT_TOTALS(node, ...)                 \
	expect_totals(_metadata, __LINE__, node, \
		      &((struct umpsc_info){ __VA_ARGS__ }))

FIXTURE(sysfs)
{
	int fds;
};

FIXTURE_SETUP(sysfs)
{
	umpsc_node_remove(NAME);
	umpsc_node_remove(OTHER);
	ASSERT_EQ(0, umpsc_node_create(NAME, 0, NULL));
	self->fds = umpsc_count_fds();
}

FIXTURE_TEARDOWN(sysfs)
{
	EXPECT_EQ(self->fds, umpsc_count_fds());
	umpsc_node_remove(NAME);
	umpsc_node_remove(OTHER);
}

/* ---- The files --------------------------------------------------------- */

static bool attr_known(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(current_attrs); i++)
		if (!strcmp(name, current_attrs[i].name))
			return true;
	for (i = 0; i < ARRAY_SIZE(total_attrs); i++)
		if (!strcmp(name, total_attrs[i].name))
			return true;
	for (i = 0; i < ARRAY_SIZE(other_attrs); i++)
		if (!strcmp(name, other_attrs[i]))
			return true;
	return false;
}

/* All of them, and none that is not tested here; what every device has aside. */
TEST_LONG(sysfs, figures_are_files_of_mode_0444)
{
	DIR *dir = opendir(attr_path(NAME, ""));
	struct dirent *entry;
	unsigned int n = 0;
	struct stat st;

	ASSERT_NE(NULL, dir);
	while ((entry = readdir(dir))) {
		ASSERT_EQ(0, fstatat(dirfd(dir), entry->d_name, &st,
				     AT_SYMLINK_NOFOLLOW));
		if (!S_ISREG(st.st_mode) || !strcmp(entry->d_name, "dev") ||
		    !strcmp(entry->d_name, "uevent"))
			continue;
		n++;
		EXPECT_TRUE(attr_known(entry->d_name))
		{
			TH_LOG("no test knows %s", entry->d_name);
		}
		EXPECT_EQ(S_IFREG | 0444, st.st_mode)
		{
			TH_LOG("%s", entry->d_name);
		}
		EXPECT_EQ(0, st.st_uid);
	}
	closedir(dir);
	EXPECT_EQ(ARRAY_SIZE(current_attrs) + ARRAY_SIZE(total_attrs) +
			  ARRAY_SIZE(other_attrs),
		  n);
}

TEST_LONG(sysfs, anyone_may_read_the_figures_of_a_node_that_he_may_not_open)
{
	int tx = ASSERT_FD(umpsc_open(NAME, O_WRONLY));
	pid_t pid;

	EXPECT_WRITE(tx, "secret");
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		ASSERT_EQ(0, setresgid(NOBODY, NOBODY, NOBODY));
		ASSERT_EQ(0, setresuid(NOBODY, NOBODY, NOBODY));
		EXPECT_ERR(EACCES, umpsc_open(NAME, O_RDONLY));
		EXPECT_EQ(1, attr_read(NAME, "depth"));
		EXPECT_EQ(6, attr_read(NAME, "sent_bytes"));
		EXPECT_ERR(EACCES, open(attr_path(NAME, "depth"), O_WRONLY));
		_exit(0);
	}
	EXPECT_EQ(0, umpsc_wait_child(pid));
	close(tx);
}

/* Whoever looks is no receiver, begins no channel and leaves no trace. */
TEST_LONG(sysfs, looking_changes_nothing)
{
	int manager = ASSERT_FD(umpsc_open(NAME, O_RDWR));
	struct umpsc_info info;
	int tx;

	EXPECT_TOTALS(NAME);
	EXPECT_CURRENT(NAME);
	EXPECT_EQ(0, attr_read(NAME, "channel"));
	EXPECT_INFO(manager, UMPSC_ROLE_MANAGER);

	tx = ASSERT_FD(umpsc_open(NAME, O_WRONLY));
	EXPECT_WRITE(tx, "stays");
	ASSERT_EQ(0, umpsc_info(tx, &info));
	EXPECT_TOTALS(NAME, .messages = 1, .bytes = 5, .sent = 1,
		      .sent_bytes = 5, .most_messages = 1, .most_bytes = 5);
	EXPECT_CURRENT(NAME);
	EXPECT_UNCHANGED(tx, &info);
	close(tx);
	close(manager);
}

TEST_LONG(sysfs, node_without_a_channel_tells_its_flags_and_limits)
{
	const struct umpsc_limits limits = {
		.max_len = 11,
		.max_msgs = 22,
		.max_bytes = 33,
	};
	struct umpsc_info want = {
		.flags = UMPSC_TIMESTAMP | UMPSC_CREDS,
		.state = UMPSC_STATE_STANDING,
		.limits = limits,
	};
	int tx;

	ASSERT_EQ(0, umpsc_node_create(OTHER, want.flags | UMPSC_STANDING,
				       &limits));
	expect_attrs(_metadata, __LINE__, OTHER, current_attrs,
		     ARRAY_SIZE(current_attrs), &want);
	tx = ASSERT_FD(umpsc_open(OTHER, O_WRONLY));
	EXPECT_CURRENT(OTHER);
	EXPECT_EQ(22, attr_read(OTHER, "limit_msgs"));
	close(tx);
}

TEST_LONG(sysfs, figures_are_those_of_the_current_channel)
{
	int tx, wx, rx, tx2;

	tx = ASSERT_FD(umpsc_open(NAME, O_WRONLY));
	EXPECT_CURRENT(NAME);
	wx = ASSERT_FD(umpsc_downgrade(tx, 0));
	EXPECT_WRITE(tx, "one");
	EXPECT_WRITE(tx, "two");
	EXPECT_CURRENT(NAME);
	EXPECT_EQ(1, attr_read(NAME, "strong"));
	EXPECT_EQ(1, attr_read(NAME, "weak"));
	EXPECT_EQ(2, attr_read(NAME, "depth"));
	EXPECT_EQ(6, attr_read(NAME, "bytes"));
	EXPECT_EQ(0, attr_read(NAME, "claimed"));
	rx = ASSERT_FD(umpsc_open(NAME, O_RDONLY));
	EXPECT_CURRENT(NAME);
	EXPECT_EQ(1, attr_read(NAME, "claimed"));
	EXPECT_TEXT(rx, "one");
	EXPECT_CURRENT(NAME);
	EXPECT_EQ(1, attr_read(NAME, "generation"));
	EXPECT_EQ(0, umpsc_close(rx));
	EXPECT_CURRENT(NAME);
	EXPECT_EQ(1, attr_read(NAME, "ended"));
	EXPECT_EQ(1, attr_read(NAME, "closed"));

	/* What is left of the old channel is not the new one's. */
	tx2 = ASSERT_FD(umpsc_open(NAME, O_WRONLY));
	EXPECT_CURRENT(NAME);
	EXPECT_EQ(2, attr_read(NAME, "generation"));
	EXPECT_EQ(0, attr_read(NAME, "depth"));
	EXPECT_EQ(0, attr_read(NAME, "ended"));
	EXPECT_EQ(1, attr_read(NAME, "queued"));
	close(tx);
	close(wx);
	close(rx);
	close(tx2);
	EXPECT_CURRENT(NAME);
}

TEST_LONG(sysfs, oldest_ns_is_the_age_of_the_oldest_message)
{
	__u64 before, age;
	int tx, rx;

	ASSERT_EQ(0, umpsc_node_create(OTHER, UMPSC_TIMESTAMP, NULL));
	tx = ASSERT_FD(umpsc_open(OTHER, O_WRONLY));
	rx = ASSERT_FD(umpsc_open(OTHER, O_RDONLY));
	EXPECT_EQ(0, attr_read(OTHER, "oldest_ns"));
	before = umpsc_now_ns();
	EXPECT_WRITE(tx, "old");
	umpsc_nap_ms(20);
	EXPECT_WRITE(tx, "young");
	age = attr_read(OTHER, "oldest_ns");
	EXPECT_LE(20000000, age);
	EXPECT_GE(umpsc_now_ns() - before, age);
	EXPECT_TEXT(rx, "old");
	EXPECT_TEXT(rx, "young");
	EXPECT_EQ(0, attr_read(OTHER, "oldest_ns"));
	close(tx);
	close(rx);
}

/* ---- Totals ------------------------------------------------------------ */

/* An old channel goes on to count while the node leads to the next ones. */
TEST_LONG(sysfs, totals_span_old_channels_that_are_still_drained)
{
	int tx, rx, tx2, rx2;

	tx = ASSERT_FD(umpsc_open(NAME, O_WRONLY));
	rx = ASSERT_FD(umpsc_open(NAME, O_RDONLY));
	EXPECT_WRITE(tx, "one");
	EXPECT_WRITE(tx, "two");
	EXPECT_WRITE(tx, "three");
	EXPECT_EQ(0, umpsc_close(rx));

	tx2 = ASSERT_FD(umpsc_open(NAME, O_WRONLY));
	EXPECT_EQ(2, attr_read(NAME, "generation"));
	EXPECT_TOTALS(NAME, .messages = 3, .bytes = 11, .sent = 3,
		      .sent_bytes = 11, .most_messages = 3, .most_bytes = 11);
	EXPECT_WRITE(tx2, "next");
	EXPECT_TOTALS(NAME, .messages = 4, .bytes = 15, .sent = 4,
		      .sent_bytes = 15, .most_messages = 3, .most_bytes = 11);

	/* Received from the old one, refused there, and discarded there. */
	EXPECT_TEXT(rx, "one");
	EXPECT_TOTALS(NAME, .messages = 3, .bytes = 12, .sent = 4,
		      .sent_bytes = 15, .received = 1, .received_bytes = 3,
		      .most_messages = 3, .most_bytes = 11);
	EXPECT_ERR(EPIPE, write(tx, "x", 1));
	EXPECT_ERR(EPIPE, write(tx, "x", 1));
	close(rx);
	EXPECT_TOTALS(NAME, .messages = 1, .bytes = 4, .sent = 4,
		      .sent_bytes = 15, .received = 1, .received_bytes = 3,
		      .discarded = 2, .refused_closed = 2, .most_messages = 3,
		      .most_bytes = 11);

	/* Its last handle goes, and takes nothing along. */
	close(tx);
	EXPECT_TOTALS(NAME, .messages = 1, .bytes = 4, .sent = 4,
		      .sent_bytes = 15, .received = 1, .received_bytes = 3,
		      .discarded = 2, .refused_closed = 2, .most_messages = 3,
		      .most_bytes = 11);
	rx2 = ASSERT_FD(umpsc_open(NAME, O_RDONLY));
	EXPECT_TEXT(rx2, "next");
	close(tx2);
	close(rx2);
	EXPECT_TOTALS(NAME, .sent = 4, .sent_bytes = 15, .received = 2,
		      .received_bytes = 7, .discarded = 2, .refused_closed = 2,
		      .most_messages = 3, .most_bytes = 11);
}

TEST_LONG(sysfs, totals_count_what_was_refused_by_cause)
{
	const struct umpsc_limits limits = { .max_len = 4, .max_msgs = 1 };
	int tx, rx, i;

	ASSERT_EQ(0, umpsc_node_create(OTHER, 0, &limits));
	for (i = 1; i <= 3; i++) {
		tx = ASSERT_FD(umpsc_open(OTHER, O_WRONLY));
		rx = ASSERT_FD(umpsc_open(OTHER, O_RDONLY));
		EXPECT_ERR(EMSGSIZE, write(tx, "12345", 5));
		EXPECT_WRITE(tx, "1234");
		EXPECT_ERR(ENOBUFS, write(tx, "1", 1));
		EXPECT_ERR(ENOBUFS, write(tx, "1", 1));
		close(rx);
		EXPECT_ERR(EPIPE, write(tx, "1", 1));
		EXPECT_TOTALS(OTHER, .sent = i, .sent_bytes = 4 * i,
			      .discarded = i, .refused_size = i,
			      .refused_limit = 2 * i, .refused_closed = i,
			      .most_messages = 1, .most_bytes = 4);
		close(tx);
	}
}

/* Not the sum: the most that was ever queued in one channel. */
TEST_LONG(sysfs, high_water_is_the_highest_of_all_channels)
{
	static const unsigned int most[] = { 2, 5, 3 };
	unsigned int i, n;
	int tx;

	for (i = 0; i < ARRAY_SIZE(most); i++) {
		tx = ASSERT_FD(umpsc_open(NAME, O_WRONLY));
		for (n = 0; n < most[i]; n++)
			EXPECT_WRITE(tx, "xx");
		close(tx);
		/* The receiver's going ends that channel. */
		close(ASSERT_FD(umpsc_open(NAME, O_RDONLY)));
		EXPECT_EQ(i ? 5 : 2, attr_read(NAME, "most_messages"));
		EXPECT_EQ(i ? 10 : 4, attr_read(NAME, "most_bytes"));
	}
	EXPECT_TOTALS(NAME, .sent = 10, .sent_bytes = 20, .discarded = 10,
		      .most_messages = 5, .most_bytes = 10);
}

TEST_LONG(sysfs, totals_are_of_one_node)
{
	int tx = ASSERT_FD(umpsc_open(NAME, O_WRONLY)), rx;

	ASSERT_EQ(0, umpsc_node_create(OTHER, UMPSC_STANDING, NULL));
	EXPECT_WRITE(tx, "x");
	EXPECT_TOTALS(OTHER);
	EXPECT_TOTALS(NAME, .messages = 1, .bytes = 1, .sent = 1,
		      .sent_bytes = 1, .most_messages = 1, .most_bytes = 1);
	close(tx);

	/* A node of the same name begins anew, also while an old handle lives. */
	rx = ASSERT_FD(umpsc_open(NAME, O_RDONLY));
	EXPECT_EQ(0, umpsc_node_remove(NAME));
	EXPECT_EQ(0, umpsc_node_create(NAME, 0, NULL));
	EXPECT_TEXT(rx, "x");
	EXPECT_TOTALS(NAME);
	close(rx);
	EXPECT_TOTALS(NAME);
}

#define CHURN_ROUNDS 60
#define CHURN_MESSAGES 20

/* Channel after channel of a node: partly received, the rest discarded. */
static long churn_fn(void *arg)
{
	char buf[4096];
	int i, n, tx, rx;

	for (i = 0; i < CHURN_ROUNDS; i++) {
		tx = umpsc_open(NAME, O_WRONLY);
		rx = umpsc_open(NAME, O_RDONLY);
		if (tx < 0 || rx < 0)
			return -1;
		for (n = 0; n < CHURN_MESSAGES; n++)
			if (write(tx, "xyz", 3) != 3)
				return -1;
		for (n = 0; n < i % CHURN_MESSAGES; n++)
			if (umpsc_recv(rx, buf, sizeof(buf), 1, 0, NULL,
				       NULL) != 1)
				return -1;
		close(rx);
		if (write(tx, "late", 4) != -1)
			return -1;
		close(tx);
	}
	return 0;
}

/* Seen from beside, no figure ever goes back, also when a channel is freed. */
TEST_LONG(sysfs, totals_only_grow_while_channels_come_and_go)
{
	static const char *const names[] = {
		"sent",	     "sent_bytes",     "received",   "received_bytes",
		"discarded", "refused_closed", "generation", "most_messages",
	};
	__u64 last[ARRAY_SIZE(names)] = {}, value, looks = 0, received = 0;
	struct umpsc_thread churn;
	unsigned int i;

	for (i = 0; i < CHURN_ROUNDS; i++)
		received += i % CHURN_MESSAGES;
	ASSERT_EQ(0, umpsc_thread_start(&churn, churn_fn, NULL));
	while (!churn.done) {
		for (i = 0; i < ARRAY_SIZE(names); i++) {
			value = attr_read(NAME, names[i]);
			ASSERT_LE(last[i], value)
			{
				TH_LOG("%s", names[i]);
			}
			last[i] = value;
		}
		looks++;
	}
	ASSERT_TRUE(umpsc_thread_join(&churn));
	EXPECT_EQ(0, churn.ret);
	EXPECT_LT(0, looks);
	value = CHURN_ROUNDS * CHURN_MESSAGES;
	EXPECT_TOTALS(NAME, .sent = value, .sent_bytes = 3 * value,
		      .received = received, .received_bytes = 3 * received,
		      .discarded = value - received,
		      .refused_closed = CHURN_ROUNDS,
		      .most_messages = CHURN_MESSAGES,
		      .most_bytes = 3 * CHURN_MESSAGES);
}

#define LEAVERS 2000

/* Ended channels of a node, each kept by a sender. */
static int leavers[LEAVERS];

/* They go, from both ends of the list in which they are looked at. */
static long leave_fn(void *arg)
{
	int i;

	for (i = 0; i < LEAVERS / 2; i++)
		if (close(leavers[i]) || close(leavers[LEAVERS - 1 - i]))
			return -1;
	return 0;
}

/* A sum over so many takes a while, and they go while it is made. */
TEST_LONG(sysfs, total_is_exact_while_its_channels_go)
{
	struct rlimit limit = { LEAVERS + 100, LEAVERS + 100 };
	struct umpsc_thread leave;
	__u64 looks = 0;
	int i, rx;

	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	for (i = 0; i < LEAVERS; i++) {
		leavers[i] = ASSERT_FD(umpsc_open(NAME, O_WRONLY));
		rx = ASSERT_FD(umpsc_open(NAME, O_RDONLY));
		ASSERT_EQ(1, write(leavers[i], "x", 1));
		close(rx);
	}
	EXPECT_EQ(LEAVERS, attr_read(NAME, "sent"));
	ASSERT_EQ(0, umpsc_thread_start(&leave, leave_fn, NULL));
	while (!leave.done) {
		ASSERT_EQ(LEAVERS, attr_read(NAME, "sent"));
		looks++;
	}
	ASSERT_TRUE(umpsc_thread_join(&leave));
	EXPECT_EQ(0, leave.ret);
	TH_LOG("%llu looks", looks);
	EXPECT_LT(0, looks);
	EXPECT_TOTALS(NAME, .sent = LEAVERS, .sent_bytes = LEAVERS,
		      .discarded = LEAVERS, .most_messages = 1,
		      .most_bytes = 1);
}

/* ---- Removal ----------------------------------------------------------- */

TEST_LONG(sysfs, file_that_is_open_while_its_node_is_removed_is_enodev)
{
	char text[64];
	int total, own;

	total = ASSERT_FD(open(attr_path(NAME, "sent"), O_RDONLY));
	own = ASSERT_FD(open(attr_path(NAME, "depth"), O_RDONLY));
	EXPECT_EQ(2, pread(total, text, sizeof(text), 0));
	EXPECT_EQ(0, umpsc_node_remove(NAME));
	EXPECT_ERR(ENODEV, pread(total, text, sizeof(text), 0));
	EXPECT_ERR(ENODEV, pread(own, text, sizeof(text), 0));
	EXPECT_ERR(ENOENT, open(attr_path(NAME, "sent"), O_RDONLY));
	/* One of that name is another one. */
	EXPECT_EQ(0, umpsc_node_create(NAME, 0, NULL));
	EXPECT_ERR(ENODEV, pread(total, text, sizeof(text), 0));
	EXPECT_EQ(0, attr_read(NAME, "sent"));
	close(total);
	close(own);
}

static atomic_bool reading;

/* Reads every figure of a node that comes and goes; each there, gone or going. */
static long reader_fn(void *arg)
{
	char text[64];
	long got = 0;
	size_t i;
	int fd;

	while (reading) {
		for (i = 0; i < ARRAY_SIZE(total_attrs); i++) {
			char path[128];

			snprintf(path, sizeof(path), DIR_OF "-%s/%s", NAME,
				 i % 2 ? total_attrs[i].name :
					 current_attrs[i].name);
			fd = open(path, O_RDONLY | O_CLOEXEC);
			if (fd < 0 && (errno == ENOENT || errno == ENODEV))
				continue;
			if (fd < 0)
				return -1;
			if (read(fd, text, sizeof(text)) > 0)
				got++;
			else if (errno != ENODEV)
				return -1;
			close(fd);
		}
	}
	return got;
}

/* The removal waits for who is reading, and he for nothing that it holds. */
TEST_LONG(sysfs, reading_while_nodes_come_and_go_blocks_nobody)
{
	struct umpsc_thread readers[2];
	unsigned int i;
	int tx;

	reading = true;
	for (i = 0; i < ARRAY_SIZE(readers); i++)
		ASSERT_EQ(0, umpsc_thread_start(&readers[i], reader_fn, NULL));
	for (i = 0; i < 100; i++) {
		tx = umpsc_open(NAME, O_WRONLY);
		EXPECT_LE(0, tx);
		EXPECT_WRITE(tx, "x");
		EXPECT_EQ(0, umpsc_node_remove(NAME));
		EXPECT_EQ(0, umpsc_node_create(NAME, 0, NULL));
		close(tx);
	}
	reading = false;
	for (i = 0; i < ARRAY_SIZE(readers); i++) {
		ASSERT_TRUE(umpsc_thread_join(&readers[i]));
		EXPECT_LT(0, readers[i].ret)
		{
			TH_LOG("%s", strerror(readers[i].err));
		}
	}
}

TEST_HARNESS_MAIN
