// SPDX-License-Identifier: GPL-2.0-only
/*
 * The binary interface: layout, numbers, and what is refused before it has any
 * effect.  Every refusal comes from a valid call with one thing spoilt, and is
 * followed by a look at everything that could have changed.
 */

/* No holes: so offsets and sizes fix the type of every field. */
#pragma GCC diagnostic push
#pragma GCC diagnostic error "-Wpadded"
#include <linux/umpsc.h>
#pragma GCC diagnostic pop

#include "umpsc_test.h"

/* ---- Layout, the same for 32- and 64-bit callers ------------------------ */

#define FIELD(type, field, at) \
	static_assert(offsetof(struct type, field) == (at), #type "." #field)
#define SIZE(type, bytes) static_assert(sizeof(struct type) == (bytes), #type)

FIELD(umpsc_record, len, 0);
FIELD(umpsc_record, hdr, 4);
FIELD(umpsc_record, flags, 6);
FIELD(umpsc_record, seq, 8);
FIELD(umpsc_record, sender, 16);
FIELD(umpsc_record, time_ns, 24);
SIZE(umpsc_record, 32);

FIELD(umpsc_creds, pid, 0);
FIELD(umpsc_creds, uid, 4);
FIELD(umpsc_creds, gid, 8);
FIELD(umpsc_creds, pad, 12);
SIZE(umpsc_creds, 16);

FIELD(umpsc_send_args, addr, 0);
FIELD(umpsc_send_args, len, 8);
FIELD(umpsc_send_args, flags, 16);
FIELD(umpsc_send_args, pad, 20);
SIZE(umpsc_send_args, 24);

FIELD(umpsc_recv_args, addr, 0);
FIELD(umpsc_recv_args, len, 8);
FIELD(umpsc_recv_args, deadline_ns, 16);
FIELD(umpsc_recv_args, max, 24);
FIELD(umpsc_recv_args, flags, 28);
FIELD(umpsc_recv_args, used, 32);
FIELD(umpsc_recv_args, need, 40);
SIZE(umpsc_recv_args, 48);

FIELD(umpsc_limits, max_len, 0);
FIELD(umpsc_limits, max_msgs, 8);
FIELD(umpsc_limits, max_bytes, 16);
SIZE(umpsc_limits, 24);

FIELD(umpsc_channel_args, flags, 0);
FIELD(umpsc_channel_args, receiver_flags, 4);
FIELD(umpsc_channel_args, sender_flags, 8);
FIELD(umpsc_channel_args, pad, 12);
FIELD(umpsc_channel_args, limits, 16);
FIELD(umpsc_channel_args, receiver_fd, 40);
FIELD(umpsc_channel_args, sender_fd, 44);
SIZE(umpsc_channel_args, 48);

FIELD(umpsc_create_args, name, 0);
FIELD(umpsc_create_args, mode, 32);
FIELD(umpsc_create_args, uid, 36);
FIELD(umpsc_create_args, gid, 40);
FIELD(umpsc_create_args, flags, 44);
FIELD(umpsc_create_args, limits, 48);
FIELD(umpsc_create_args, major, 72);
FIELD(umpsc_create_args, minor, 76);
SIZE(umpsc_create_args, 80);

FIELD(umpsc_remove_args, name, 0);
FIELD(umpsc_remove_args, flags, 32);
FIELD(umpsc_remove_args, pad, 36);
SIZE(umpsc_remove_args, 40);

FIELD(umpsc_query, abi, 0);
FIELD(umpsc_query, nodes_max, 4);
FIELD(umpsc_query, features, 8);
FIELD(umpsc_query, max_len, 16);
FIELD(umpsc_query, nodes, 24);
FIELD(umpsc_query, channels, 32);
FIELD(umpsc_query, messages, 40);
FIELD(umpsc_query, bytes, 48);
FIELD(umpsc_query, memory, 56);
FIELD(umpsc_query, max_bytes, 64);
FIELD(umpsc_query, max_user_bytes, 72);
FIELD(umpsc_query, reserve_bytes, 80);
SIZE(umpsc_query, 88);

FIELD(umpsc_info, role, 0);
FIELD(umpsc_info, state, 4);
FIELD(umpsc_info, flags, 8);
FIELD(umpsc_info, pad, 12);
FIELD(umpsc_info, channel, 16);
FIELD(umpsc_info, generation, 24);
FIELD(umpsc_info, handle, 32);
FIELD(umpsc_info, messages, 40);
FIELD(umpsc_info, bytes, 48);
FIELD(umpsc_info, strong, 56);
FIELD(umpsc_info, weak, 64);
FIELD(umpsc_info, sent, 72);
FIELD(umpsc_info, sent_bytes, 80);
FIELD(umpsc_info, received, 88);
FIELD(umpsc_info, received_bytes, 96);
FIELD(umpsc_info, discarded, 104);
FIELD(umpsc_info, refused_closed, 112);
FIELD(umpsc_info, refused_size, 120);
FIELD(umpsc_info, refused_limit, 128);
FIELD(umpsc_info, refused_quota, 136);
FIELD(umpsc_info, refused_memory, 144);
FIELD(umpsc_info, most_messages, 152);
FIELD(umpsc_info, most_bytes, 160);
FIELD(umpsc_info, memory, 168);
FIELD(umpsc_info, wakeups, 176);
FIELD(umpsc_info, oldest_ns, 184);
FIELD(umpsc_info, limits, 192);
SIZE(umpsc_info, 216);

static_assert(UMPSC_IOC_QUERY == 0x8058d500, "QUERY");
static_assert(UMPSC_IOC_CHANNEL == 0xc030d501, "CHANNEL");
static_assert(UMPSC_IOC_CREATE == 0xc050d502, "CREATE");
static_assert(UMPSC_IOC_REMOVE == 0x4028d503, "REMOVE");
static_assert(UMPSC_IOC_SEND == 0x4018d510, "SEND");
static_assert(UMPSC_IOC_CLONE == 0x0000d511, "CLONE");
static_assert(UMPSC_IOC_DOWNGRADE == 0x0000d512, "DOWNGRADE");
static_assert(UMPSC_IOC_UPGRADE == 0x0000d513, "UPGRADE");
static_assert(UMPSC_IOC_RECV == 0xc030d520, "RECV");
static_assert(UMPSC_IOC_CLOSE == 0x0000d521, "CLOSE");
static_assert(UMPSC_IOC_SENDER == 0x0000d522, "SENDER");
static_assert(UMPSC_IOC_INFO == 0x80d8d530, "INFO");
static_assert(UMPSC_IOC_SAME == 0x0000d531, "SAME");

static_assert(UMPSC_ABI_VERSION == 1, "version");
static_assert(UMPSC_NAME_MAX == 31, "name");
static_assert(UMPSC_LEN_MAX == 0x40000000, "len");
static_assert(UMPSC_NO_DEADLINE == 0xffffffffffffffff, "deadline");
static_assert(UMPSC_RECORD_HDR == 32, "hdr");
static_assert(UMPSC_RECORD_HDR_MAX == 256, "hdr");
static_assert(UMPSC_RECORD_ALIGN == 8, "align");
static_assert(UMPSC_RECORD_SIZE(32, 0) == 32, "size");
static_assert(UMPSC_RECORD_SIZE(32, 1) == 40, "size");
static_assert(UMPSC_RECORD_SIZE(48, 8) == 56, "size");
static_assert(UMPSC_RECORD_SIZE(32, 0xffffffffU) == 0x100000020, "size");
static_assert(UMPSC_REST == 1, "flag");
static_assert(UMPSC_TIMESTAMP == 1, "flag");
static_assert(UMPSC_STANDING == 2, "flag");
static_assert(UMPSC_CREDS == 4, "flag");
static_assert(UMPSC_FEATURE_TIMESTAMP == 1, "feature");
static_assert(UMPSC_FEATURE_STANDING == 2, "feature");
static_assert(UMPSC_FEATURE_LIMITS == 4, "feature");
static_assert(UMPSC_FEATURE_CREDS == 8, "feature");
static_assert(UMPSC_ROLE_MANAGER == 0, "role");
static_assert(UMPSC_ROLE_SENDER == 1, "role");
static_assert(UMPSC_ROLE_WEAK == 2, "role");
static_assert(UMPSC_ROLE_RECEIVER == 3, "role");
static_assert(UMPSC_STATE_CLOSED == 1, "state");
static_assert(UMPSC_STATE_RECEIVER_GONE == 2, "state");
static_assert(UMPSC_STATE_CLAIMED == 4, "state");
static_assert(UMPSC_STATE_STANDING == 8, "state");
static_assert(UMPSC_STATE_ENDED == 16, "state");

/* ---- Every kind of handle ----------------------------------------------- */

enum {
	MANAGER,
	NODE_SENDER,
	NODE_RECEIVER,
	SENDER,
	WEAK,
	RECEIVER,
	HANDLES,
};

static const __u32 role_of[HANDLES] = {
	[MANAGER] = UMPSC_ROLE_MANAGER,
	[NODE_SENDER] = UMPSC_ROLE_SENDER,
	[NODE_RECEIVER] = UMPSC_ROLE_RECEIVER,
	[SENDER] = UMPSC_ROLE_SENDER,
	[WEAK] = UMPSC_ROLE_WEAK,
	[RECEIVER] = UMPSC_ROLE_RECEIVER,
};

#define ROLE(role) (1U << UMPSC_ROLE_##role)
#define ANY_ROLE (ROLE(MANAGER) | ROLE(SENDER) | ROLE(WEAK) | ROLE(RECEIVER))

struct command {
	const char *name;
	unsigned int cmd;
	unsigned int roles;
	int handle; /* one that it works on */
};

#define COMMAND(name, roles, handle)                     \
	{                                                \
#name, UMPSC_IOC_##name, (roles), handle \
	}

static const struct command commands[] = {
	COMMAND(QUERY, ANY_ROLE, MANAGER),
	COMMAND(CHANNEL, ROLE(MANAGER), MANAGER),
	COMMAND(CREATE, ROLE(MANAGER), MANAGER),
	COMMAND(REMOVE, ROLE(MANAGER), MANAGER),
	COMMAND(SEND, ROLE(SENDER), SENDER),
	COMMAND(CLONE, ROLE(SENDER) | ROLE(WEAK), SENDER),
	COMMAND(DOWNGRADE, ROLE(SENDER), SENDER),
	COMMAND(UPGRADE, ROLE(WEAK), WEAK),
	COMMAND(RECV, ROLE(RECEIVER), RECEIVER),
	COMMAND(CLOSE, ROLE(RECEIVER), RECEIVER),
	COMMAND(SENDER, ROLE(RECEIVER), RECEIVER),
	COMMAND(INFO, ANY_ROLE, MANAGER),
	COMMAND(SAME, ANY_ROLE, MANAGER),
};

/* The command with another size. */
static unsigned int sized(unsigned int cmd, size_t size)
{
	return (cmd & ~IOCSIZE_MASK) | size << IOCSIZE_SHIFT;
}

static bool has_input(unsigned int cmd)
{
	return _IOC_DIR(cmd) & _IOC_WRITE;
}

static bool has_struct(unsigned int cmd)
{
	return _IOC_DIR(cmd) != _IOC_NONE;
}

/* The argument of any command, with room for a later version. */
union args {
	struct umpsc_query query;
	struct umpsc_channel_args channel;
	struct umpsc_create_args create;
	struct umpsc_remove_args remove;
	struct umpsc_send_args send;
	struct umpsc_recv_args recv;
	struct umpsc_info info;
	unsigned char bytes[512];
};

/* ---- The fixture: two channels, a message in each, every kind of handle --- */

#define NAME "abi"
#define NEW_NAME "abi-new"

FIXTURE(call)
{
	int fd[HANDLES];
	struct umpsc_info info[HANDLES];
	struct umpsc_query empty; /* before there was any of this */
	struct umpsc_query query;
	int fds;
	struct umpsc_batch batch;
	unsigned char buf[256];
};

static void look(struct __test_metadata *_metadata, FIXTURE_DATA(call) * self)
{
	int i;

	for (i = 0; i < HANDLES; i++)
		ASSERT_EQ(0, umpsc_info(self->fd[i], &self->info[i]));
	ASSERT_EQ(0, umpsc_query(self->fd[MANAGER], &self->query));
	self->fds = umpsc_count_fds();
}

/* Nothing changed since look(); @what and @detail tell which refusal is to blame. */
static void unchanged(struct __test_metadata *_metadata,
		      FIXTURE_DATA(call) * self, const char *what, long detail)
{
	struct umpsc_query query;
	int failed = _metadata->exit_code;
	int i;

	_metadata->exit_code = KSFT_PASS;
	for (i = 0; i < HANDLES; i++)
		EXPECT_UNCHANGED(self->fd[i], &self->info[i]);
	EXPECT_EQ(0, umpsc_query(self->fd[MANAGER], &query));
	EXPECT_EQ(0, memcmp(&query, &self->query, sizeof(query)));
	EXPECT_EQ(self->query.nodes, query.nodes);
	EXPECT_EQ(self->query.channels, query.channels);
	EXPECT_EQ(self->query.messages, query.messages);
	EXPECT_EQ(self->fds, umpsc_count_fds());
	if (_metadata->exit_code)
		TH_LOG("... changed by a refused %s (0x%lx)", what,
		       (unsigned long)detail);
	else
		_metadata->exit_code = failed;
}

static void refused(struct __test_metadata *_metadata,
		    FIXTURE_DATA(call) * self, int err, long ret,
		    const char *what, long detail)
{
	int got = errno;

	EXPECT_EQ(-1, ret)
	{
		TH_LOG("... %s (0x%lx)", what, (unsigned long)detail);
	}
	EXPECT_EQ(err, got)
	{
		TH_LOG("... %s (0x%lx): %s", what, (unsigned long)detail,
		       strerror(got));
	}
	unchanged(_metadata, self, what, detail);
}

/* @call gives -1 with @err, and changes nothing. */
#define REFUSED(err, call, what, detail) \
	refused(_metadata, self, err, (errno = 0, (long)(call)), what, detail)

/* What a valid call has in memory. */
static void fill(FIXTURE_DATA(call) * self, unsigned int cmd, union args *args)
{
	memset(args, 0, sizeof(*args));
	switch (cmd) {
	case UMPSC_IOC_CREATE:
		umpsc_set_name(args->create.name, NEW_NAME);
		args->create.mode = 0600;
		break;
	case UMPSC_IOC_REMOVE:
		umpsc_set_name(args->remove.name, NAME);
		break;
	case UMPSC_IOC_SEND:
		args->send.addr = (uintptr_t)self->batch.data;
		args->send.len = self->batch.len;
		break;
	case UMPSC_IOC_RECV:
		args->recv.addr = (uintptr_t)self->buf;
		args->recv.len = sizeof(self->buf);
		args->recv.max = 1;
		break;
	default:
		break;
	}
}

/* What a valid call has as its argument. */
static unsigned long argument(FIXTURE_DATA(call) * self, unsigned int cmd,
			      union args *args)
{
	if (cmd == UMPSC_IOC_SAME)
		return self->fd[SENDER];
	if (!has_struct(cmd))
		return 0;
	fill(self, cmd, args);
	return (unsigned long)args;
}

FIXTURE_SETUP(call)
{
	umpsc_node_remove(NAME);
	umpsc_node_remove(NEW_NAME);
	self->fd[MANAGER] = ASSERT_FD(umpsc_open_manager());
	ASSERT_EQ(0, umpsc_query(self->fd[MANAGER], &self->empty));
	close(self->fd[MANAGER]);
	ASSERT_EQ(0, umpsc_node_create(NAME, 0, NULL));
	self->fd[MANAGER] = ASSERT_FD(umpsc_open(NAME, O_RDWR));
	self->fd[NODE_SENDER] = ASSERT_FD(umpsc_open(NAME, O_WRONLY));
	self->fd[NODE_RECEIVER] = ASSERT_FD(umpsc_open(NAME, O_RDONLY));
	ASSERT_EQ(0, umpsc_private(&self->fd[RECEIVER], &self->fd[SENDER]));
	self->fd[WEAK] = ASSERT_FD(umpsc_downgrade(self->fd[SENDER], 0));
	EXPECT_WRITE(self->fd[NODE_SENDER], "node");
	EXPECT_WRITE(self->fd[SENDER], "private");
	umpsc_batch_add(&self->batch, "new", 3);
	look(_metadata, self);
}

FIXTURE_TEARDOWN(call)
{
	int i;

	for (i = 0; i < HANDLES; i++)
		close(self->fd[i]);
	umpsc_batch_free(&self->batch);
	EXPECT_EQ(0, umpsc_node_remove(NAME));
	EXPECT_ERR(ENOENT, umpsc_node_remove(NEW_NAME));
}

/* ---- Numbers ------------------------------------------------------------ */

/* The first version of every call by its literal number. */
TEST_LONG(call, first_version_has_its_numbers_for_ever)
{
	int tx = self->fd[SENDER], rx = self->fd[RECEIVER];
	int manager = self->fd[MANAGER];
	union args args;
	int fd;

	memset(&args, UMPSC_POISON, sizeof(args));
	ASSERT_EQ(0, ioctl(manager, 0x8058d500UL, &args));
	EXPECT_EQ(1, args.query.abi);

	fill(self, UMPSC_IOC_CREATE, &args);
	ASSERT_EQ(0, ioctl(manager, 0xc050d502UL, &args));
	fd = ASSERT_FD(umpsc_open(NEW_NAME, O_WRONLY));
	close(fd);
	fill(self, UMPSC_IOC_REMOVE, &args);
	umpsc_set_name(args.remove.name, NEW_NAME);
	ASSERT_EQ(0, ioctl(manager, 0x4028d503UL, &args));
	EXPECT_ERR(ENOENT, umpsc_open(NEW_NAME, O_WRONLY));

	fill(self, UMPSC_IOC_CHANNEL, &args);
	ASSERT_EQ(0, ioctl(manager, 0xc030d501UL, &args));
	EXPECT_EQ(0, close(args.channel.receiver_fd));
	EXPECT_EQ(0, close(args.channel.sender_fd));

	fill(self, UMPSC_IOC_SEND, &args);
	EXPECT_EQ(1, ioctl(tx, 0x4018d510UL, &args));
	fd = ASSERT_FD(ioctl(tx, 0xd511UL, 0));
	EXPECT_INFO(fd, UMPSC_ROLE_SENDER, .state = UMPSC_STATE_CLAIMED,
		    .messages = 2, .bytes = 10, .strong = 2, .weak = 1,
		    .sent = 2, .sent_bytes = 10, .most_messages = 2,
		    .most_bytes = 10, .handle = 3);
	close(fd);
	fd = ASSERT_FD(ioctl(tx, 0xd512UL, 0));
	close(fd);
	fd = ASSERT_FD(ioctl(self->fd[WEAK], 0xd513UL, 0));
	close(fd);
	fd = ASSERT_FD(ioctl(rx, 0xd522UL, 0));
	close(fd);

	fill(self, UMPSC_IOC_RECV, &args);
	EXPECT_EQ(1, ioctl(rx, 0xc030d520UL, &args));
	EXPECT_EQ(40, args.recv.used);
	EXPECT_EQ(0, memcmp(self->buf + 32, "private", 8));
	EXPECT_EQ(0, ioctl(rx, 0xd521UL, 0));

	memset(&args, UMPSC_POISON, sizeof(args));
	ASSERT_EQ(0, ioctl(tx, 0x80d8d530UL, &args));
	EXPECT_EQ(1, args.info.messages);
	EXPECT_EQ(1, ioctl(tx, 0xd531UL, rx));
	EXPECT_EQ(0, ioctl(tx, 0xd531UL, manager));
}

TEST_LONG(call, query_tells_of_the_module)
{
	struct umpsc_query before = self->query, q;
	int rx, tx, i;

	EXPECT_EQ(1, before.abi);
	EXPECT_EQ(4096, before.nodes_max);
	EXPECT_EQ(UMPSC_FEATURE_TIMESTAMP | UMPSC_FEATURE_STANDING |
			  UMPSC_FEATURE_LIMITS | UMPSC_FEATURE_CREDS,
		  before.features);
	EXPECT_EQ(16 << 20, before.max_len);
	EXPECT_LE(1, self->empty.nodes);
	EXPECT_EQ(self->empty.nodes + 1, before.nodes);
	EXPECT_EQ(self->empty.channels + 2, before.channels);
	EXPECT_EQ(self->empty.messages + 2, before.messages);
	EXPECT_EQ(self->empty.bytes + 11, before.bytes);

	for (i = 0; i < HANDLES; i++) {
		ASSERT_EQ(0, umpsc_query(self->fd[i], &q));
		EXPECT_EQ(0, memcmp(&before, &q, sizeof(q)));
	}

	ASSERT_EQ(0, umpsc_private(&rx, &tx));
	EXPECT_WRITE(tx, "12345");
	ASSERT_EQ(0, umpsc_query(tx, &q));
	EXPECT_EQ(before.nodes, q.nodes);
	EXPECT_EQ(before.channels + 1, q.channels);
	EXPECT_EQ(before.messages + 1, q.messages);
	EXPECT_EQ(before.bytes + 5, q.bytes);

	ASSERT_EQ(0, umpsc_node_create(NEW_NAME, 0, NULL));
	ASSERT_EQ(0, umpsc_query(tx, &q));
	EXPECT_EQ(before.nodes + 1, q.nodes);
	EXPECT_EQ(before.channels + 1, q.channels);
	ASSERT_EQ(0, umpsc_node_remove(NEW_NAME));

	EXPECT_TEXT(rx, "12345");
	ASSERT_EQ(0, umpsc_query(tx, &q));
	EXPECT_EQ(before.messages, q.messages);
	EXPECT_EQ(before.bytes, q.bytes);

	close(rx);
	close(tx);
	EXPECT_TRUE(UMPSC_UNTIL(!umpsc_query(self->fd[MANAGER], &q) &&
				q.channels == before.channels));
	EXPECT_EQ(0, memcmp(&before, &q, sizeof(q)));
}

/* ---- Commands ----------------------------------------------------------- */

TEST_LONG(call, command_of_another_role_is_enotty)
{
	const struct command *c;
	union args args;
	unsigned long arg;
	int h, refusals = 0;

	for (c = commands; c < commands + ARRAY_SIZE(commands); c++) {
		for (h = 0; h < HANDLES; h++) {
			if (c->roles & 1U << role_of[h])
				continue;
			arg = argument(self, c->cmd, &args);
			REFUSED(ENOTTY, ioctl(self->fd[h], c->cmd, arg),
				c->name, h);
			refusals++;
		}
	}
	/* CHANNEL, CREATE, REMOVE 5 each; SEND 4, CLONE 3, ... */
	EXPECT_EQ(15 + 4 + 3 + 4 + 5 + 4 + 4 + 4, refusals);
}

TEST_LONG(call, every_handle_answers_query_info_and_same)
{
	struct umpsc_query query;
	struct umpsc_info info;
	int h, other, same;

	for (h = 0; h < HANDLES; h++) {
		EXPECT_EQ(0, umpsc_query(self->fd[h], &query));
		EXPECT_EQ(0, umpsc_info(self->fd[h], &info));
		EXPECT_EQ(role_of[h], info.role);
		for (other = 0; other < HANDLES; other++) {
			same = (h <= NODE_RECEIVER) == (other <= NODE_RECEIVER);
			EXPECT_EQ(same,
				  umpsc_same(self->fd[h], self->fd[other]))
			{
				TH_LOG("SAME of %d and %d", h, other);
			}
		}
	}
	unchanged(_metadata, self, "question", 0);
}

TEST_LONG(call, unknown_command_is_enotty)
{
	static const unsigned int dirs[] = {
		_IOC_NONE,
		_IOC_READ,
		_IOC_WRITE,
		_IOC_READ | _IOC_WRITE,
	};
	unsigned int nr, i, known, cmd;
	union args args;
	int h;

	memset(&args, 0, sizeof(args));
	for (nr = 0; nr < 0x100; nr++) {
		known = 0;
		for (i = 0; i < ARRAY_SIZE(commands); i++)
			known |= _IOC_NR(commands[i].cmd) == nr;
		if (known)
			continue;
		for (i = 0; i < ARRAY_SIZE(dirs); i++) {
			cmd = _IOC(dirs[i], UMPSC_IOC_TYPE, nr,
				   dirs[i] ? 8 : 0);
			for (h = 0; h < HANDLES; h++)
				EXPECT_ERR(ENOTTY,
					   ioctl(self->fd[h], cmd, &args));
		}
	}
	unchanged(_metadata, self, "unknown number", 0);

	/* Ours, of another type. */
	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		cmd = commands[i].cmd ^ (1U << _IOC_TYPESHIFT);
		argument(self, commands[i].cmd, &args);
		REFUSED(ENOTTY, ioctl(self->fd[commands[i].handle], cmd, &args),
			commands[i].name, cmd);
	}
}

TEST_LONG(call, wrong_direction_is_enotty)
{
	const struct command *c;
	unsigned int dir, cmd;
	unsigned long arg;
	union args args;

	for (c = commands; c < commands + ARRAY_SIZE(commands); c++) {
		for (dir = 0; dir < 4; dir++) {
			if (dir == _IOC_DIR(c->cmd))
				continue;
			cmd = _IOC(dir, UMPSC_IOC_TYPE, _IOC_NR(c->cmd),
				   _IOC_SIZE(c->cmd));
			arg = argument(self, c->cmd, &args);
			REFUSED(ENOTTY, ioctl(self->fd[c->handle], cmd, arg),
				c->name, cmd);
		}
	}
}

/* ---- Sizes -------------------------------------------------------------- */

TEST_LONG(call, struct_smaller_than_the_first_version_is_einval)
{
	const struct command *c;
	unsigned long arg;
	union args args;
	size_t size;

	for (c = commands; c < commands + ARRAY_SIZE(commands); c++) {
		if (!has_input(c->cmd))
			continue;
		for (size = 0; size < _IOC_SIZE(c->cmd); size++) {
			arg = argument(self, c->cmd, &args);
			REFUSED(EINVAL,
				ioctl(self->fd[c->handle], sized(c->cmd, size),
				      arg),
				c->name, size);
		}
	}
}

TEST_LONG(call, larger_struct_with_another_tail_is_e2big)
{
	const struct command *c;
	unsigned long arg;
	union args args;
	size_t first, at;

	for (c = commands; c < commands + ARRAY_SIZE(commands); c++) {
		if (!has_input(c->cmd))
			continue;
		first = _IOC_SIZE(c->cmd);
		for (at = first; at < first + 24; at++) {
			arg = argument(self, c->cmd, &args);
			args.bytes[at] = 1;
			REFUSED(E2BIG,
				ioctl(self->fd[c->handle],
				      sized(c->cmd, first + 24), arg),
				c->name, at);
		}
		arg = argument(self, c->cmd, &args);
		args.bytes[first] = 0x80;
		REFUSED(E2BIG,
			ioctl(self->fd[c->handle], sized(c->cmd, first + 1),
			      arg),
			c->name, first);
	}
}

TEST_LONG(call, larger_struct_with_a_tail_of_zeroes_works)
{
	static const size_t more[] = { 1, 8, 100, 400 };
	int manager = self->fd[MANAGER];
	struct umpsc_info want = self->info[SENDER];
	union args args, zero = {};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(more); i++) {
		fill(self, UMPSC_IOC_CHANNEL, &args);
		args.bytes[sizeof(args.channel) + more[i]] = UMPSC_POISON;
		EXPECT_EQ(0, ioctl(manager,
				   sized(UMPSC_IOC_CHANNEL,
					 sizeof(args.channel) + more[i]),
				   &args));
		EXPECT_EQ(1, umpsc_same(args.channel.receiver_fd,
					args.channel.sender_fd));
		EXPECT_EQ(0, close(args.channel.receiver_fd));
		EXPECT_EQ(0, close(args.channel.sender_fd));
		EXPECT_EQ(0, memcmp(args.bytes + sizeof(args.channel),
				    zero.bytes, more[i]));
		EXPECT_EQ(UMPSC_POISON,
			  args.bytes[sizeof(args.channel) + more[i]]);

		fill(self, UMPSC_IOC_CREATE, &args);
		EXPECT_EQ(0, ioctl(manager,
				   sized(UMPSC_IOC_CREATE,
					 sizeof(args.create) + more[i]),
				   &args));
		EXPECT_NE(0, args.create.major);

		fill(self, UMPSC_IOC_REMOVE, &args);
		umpsc_set_name(args.remove.name, NEW_NAME);
		EXPECT_EQ(0, ioctl(manager,
				   sized(UMPSC_IOC_REMOVE,
					 sizeof(args.remove) + more[i]),
				   &args));

		fill(self, UMPSC_IOC_SEND, &args);
		EXPECT_EQ(1, ioctl(self->fd[SENDER],
				   sized(UMPSC_IOC_SEND,
					 sizeof(args.send) + more[i]),
				   &args));
		umpsc_model_send(&want, 1, 3);
		want.handle = 1;
		want.memory = 0;
		EXPECT_STATE(self->fd[SENDER], UMPSC_ROLE_SENDER, &want);

		fill(self, UMPSC_IOC_RECV, &args);
		EXPECT_EQ(1, ioctl(self->fd[RECEIVER],
				   sized(UMPSC_IOC_RECV,
					 sizeof(args.recv) + more[i]),
				   &args));
		EXPECT_EQ(40, args.recv.used);
		umpsc_model_receive(&want, 1, i ? 3 : 7);
		EXPECT_STATE(self->fd[SENDER], UMPSC_ROLE_SENDER, &want);
	}
	EXPECT_EQ(self->fds, umpsc_count_fds());
}

/* Bytes of @bytes from @from to @to that are @value. */
static size_t count_bytes(const unsigned char *bytes, size_t from, size_t to,
			  unsigned char value)
{
	size_t n = 0;

	for (; from < to; from++)
		n += bytes[from] == value;
	return n;
}

TEST_LONG(call, output_only_structs_are_as_long_as_both_sides_know)
{
	static const unsigned int cmds[] = { UMPSC_IOC_QUERY, UMPSC_IOC_INFO };
	union args whole, args;
	size_t i, size, ours;
	int h;

	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		ours = _IOC_SIZE(cmds[i]);
		for (h = 0; h < HANDLES; h++) {
			memset(&whole, UMPSC_POISON, sizeof(whole));
			ASSERT_EQ(0, ioctl(self->fd[h], cmds[i], &whole));
			EXPECT_EQ(sizeof(whole) - ours,
				  count_bytes(whole.bytes, ours, sizeof(whole),
					      UMPSC_POISON));
			for (size = 8; size <= ours + 64; size += 4) {
				memset(&args, UMPSC_POISON, sizeof(args));
				ASSERT_EQ(0,
					  ioctl(self->fd[h],
						sized(cmds[i], size), &args));
				EXPECT_EQ(0, memcmp(&whole, &args,
						    size < ours ? size : ours));
				if (size > ours)
					EXPECT_EQ(size - ours,
						  count_bytes(args.bytes, ours,
							      size, 0));
				EXPECT_EQ(sizeof(args) - size,
					  count_bytes(args.bytes, size,
						      sizeof(args),
						      UMPSC_POISON))
				{
					TH_LOG("size %zu, handle %d", size, h);
				}
			}
		}
	}
	unchanged(_metadata, self, "question", 0);
}

/* ---- Fields ------------------------------------------------------------- */

struct field {
	const char *name;
	unsigned int cmd;
	int handle;
	size_t offset;
	__u32 known; /* bits that are allowed */
};

#define FIELD32(CMD, handle, type, field, known)                             \
	{                                                                    \
#CMD "." #field, UMPSC_IOC_##CMD, handle,                    \
			offsetof(struct umpsc_##type, field), (__u32)(known) \
	}

#define CHANNEL_FLAGS (UMPSC_TIMESTAMP | UMPSC_CREDS)

static const struct field flag_fields[] = {
	FIELD32(CHANNEL, MANAGER, channel_args, flags, CHANNEL_FLAGS),
	FIELD32(CHANNEL, MANAGER, channel_args, receiver_flags, O_NONBLOCK),
	FIELD32(CHANNEL, MANAGER, channel_args, sender_flags, O_NONBLOCK),
	FIELD32(CREATE, MANAGER, create_args, flags,
		CHANNEL_FLAGS | UMPSC_STANDING),
	FIELD32(CREATE, MANAGER, create_args, mode, 0777),
	FIELD32(REMOVE, MANAGER, remove_args, flags, 0),
	FIELD32(SEND, SENDER, send_args, flags, 0),
	FIELD32(SEND, NODE_SENDER, send_args, flags, 0),
	FIELD32(RECV, RECEIVER, recv_args, flags, 0),
	FIELD32(RECV, NODE_RECEIVER, recv_args, flags, 0),
};

static const struct field pad_fields[] = {
	FIELD32(CHANNEL, MANAGER, channel_args, pad, 0),
	FIELD32(REMOVE, MANAGER, remove_args, pad, 0),
	FIELD32(SEND, SENDER, send_args, pad, 0),
	FIELD32(SEND, NODE_SENDER, send_args, pad, 0),
};

static void spoil_bits(struct __test_metadata *_metadata,
		       FIXTURE_DATA(call) * self, const struct field *fields,
		       size_t n)
{
	const struct field *f;
	union args args;
	__u32 bit, value;

	for (f = fields; f < fields + n; f++) {
		for (bit = 1; bit; bit <<= 1) {
			if (bit & f->known)
				continue;
			fill(self, f->cmd, &args);
			memcpy(&value, args.bytes + f->offset, sizeof(value));
			value |= bit;
			memcpy(args.bytes + f->offset, &value, sizeof(value));
			REFUSED(EINVAL,
				ioctl(self->fd[f->handle], f->cmd, &args),
				f->name, bit);
		}
	}
}

TEST_LONG(call, unknown_flag_is_einval)
{
	spoil_bits(_metadata, self, flag_fields, ARRAY_SIZE(flag_fields));
}

TEST_LONG(call, known_flags_are_accepted_and_told)
{
	struct umpsc_info want = { .state = UMPSC_STATE_CLAIMED, .strong = 1 };
	int manager = self->fd[MANAGER], rx, tx;
	union args args;
	__u32 flags;

	for (flags = 0; flags < 8; flags++) {
		want.flags = flags & ~UMPSC_STANDING;
		want.state &= ~UMPSC_STATE_STANDING;
		fill(self, UMPSC_IOC_CHANNEL, &args);
		args.channel.flags = want.flags;
		ASSERT_EQ(0, umpsc_channel(manager, &args.channel));
		rx = args.channel.receiver_fd;
		tx = args.channel.sender_fd;
		EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx),
			     UMPSC_VIEW_RECEIVER(rx));
		close(rx);
		close(tx);

		if (flags & UMPSC_STANDING)
			want.state |= UMPSC_STATE_STANDING;
		fill(self, UMPSC_IOC_CREATE, &args);
		args.create.flags = flags;
		ASSERT_EQ(0, umpsc_create(manager, &args.create));
		rx = ASSERT_FD(umpsc_open(NEW_NAME, O_RDONLY));
		tx = ASSERT_FD(umpsc_open(NEW_NAME, O_WRONLY));
		EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx),
			     UMPSC_VIEW_RECEIVER(rx));
		close(rx);
		close(tx);
		ASSERT_EQ(0, umpsc_node_remove(NEW_NAME));
	}
}

TEST_LONG(call, padding_that_is_not_zero_is_einval)
{
	spoil_bits(_metadata, self, pad_fields, ARRAY_SIZE(pad_fields));
}

TEST_LONG(call, no_user_and_no_group_are_einval)
{
	union args args;

	fill(self, UMPSC_IOC_CREATE, &args);
	args.create.uid = -1;
	REFUSED(EINVAL, umpsc_create(self->fd[MANAGER], &args.create), "uid",
		-1);
	fill(self, UMPSC_IOC_CREATE, &args);
	args.create.gid = -1;
	REFUSED(EINVAL, umpsc_create(self->fd[MANAGER], &args.create), "gid",
		-1);
}

TEST_LONG(call, flags_of_a_new_handle_are_0_or_o_nonblock)
{
	static const struct {
		const char *name;
		unsigned int cmd;
		int handle;
	} calls[] = {
		{ "CLONE", UMPSC_IOC_CLONE, SENDER },
		{ "CLONE", UMPSC_IOC_CLONE, NODE_SENDER },
		{ "CLONE", UMPSC_IOC_CLONE, WEAK },
		{ "DOWNGRADE", UMPSC_IOC_DOWNGRADE, SENDER },
		{ "DOWNGRADE", UMPSC_IOC_DOWNGRADE, NODE_SENDER },
		{ "UPGRADE", UMPSC_IOC_UPGRADE, WEAK },
		{ "SENDER", UMPSC_IOC_SENDER, RECEIVER },
		{ "SENDER", UMPSC_IOC_SENDER, NODE_RECEIVER },
	};
	unsigned long bit;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(calls); i++) {
		for (bit = 1; bit; bit <<= 1) {
			if (bit == O_NONBLOCK)
				continue;
			REFUSED(EINVAL,
				ioctl(self->fd[calls[i].handle], calls[i].cmd,
				      bit),
				calls[i].name, bit);
			REFUSED(EINVAL,
				ioctl(self->fd[calls[i].handle], calls[i].cmd,
				      bit | O_NONBLOCK),
				calls[i].name, bit | O_NONBLOCK);
		}
	}
}

/* ---- Records on send ---------------------------------------------------- */

/* A batch of three, of which the @at-th is for the caller to spoil. */
static struct umpsc_record *three(struct umpsc_batch *b, int at)
{
	size_t start = 0;
	int i;

	umpsc_batch_free(b);
	for (i = 0; i < 3; i++) {
		if (i == at)
			start = b->len;
		umpsc_batch_add(b, "abcdefghijklm", 11 + i);
	}
	return (void *)(b->data + start);
}

TEST_LONG(call, malformed_record_is_einval_for_the_whole_batch)
{
	int tx = self->fd[SENDER];
	struct umpsc_batch b = {};
	struct umpsc_record *r;
	unsigned int hdr, bit;
	size_t len;
	int at;

	for (at = 0; at < 3; at++) {
		for (hdr = 0; hdr < 0x10000; hdr += hdr < 300 ? 1 : 4088) {
			/* A header that is right must still end inside. */
			if (!hdr || hdr == UMPSC_RECORD_HDR ||
			    (hdr > 32 && hdr <= 256 && hdr % 8 == 0))
				continue;
			r = three(&b, at);
			r->hdr = hdr;
			REFUSED(EINVAL, umpsc_batch_send(tx, &b), "hdr", hdr);
		}
		for (bit = 2; bit < 0x10000; bit <<= 1) {
			r = three(&b, at);
			r->flags = bit;
			REFUSED(EINVAL, umpsc_batch_send(tx, &b), "flags", bit);
		}
	}
	/* The last record does not end inside the batch. */
	for (bit = 1; bit; bit <<= 1) {
		r = three(&b, 2);
		if (UMPSC_RECORD_SIZE(32, r->len | bit) == 32 + 16)
			continue;
		/* Above the module's limit it may as well be too long. */
		if (bit >= 16 << 20)
			break;
		r->len |= bit;
		REFUSED(EINVAL, umpsc_batch_send(tx, &b), "len", bit);
	}
	r = three(&b, 2);
	r->hdr = 40;
	REFUSED(EINVAL, umpsc_batch_send(tx, &b), "hdr behind the end", 40);
	three(&b, 0);
	for (len = 1; len < b.len; len++) {
		/* Where a record ends, padding included, the batch is whole. */
		if (len == 48 || len == 96)
			continue;
		REFUSED(EINVAL, umpsc_send(tx, b.data, len), "batch's length",
			len);
	}
	umpsc_batch_free(&b);
}

TEST_LONG(call, what_the_kernel_fills_is_ignored_on_send)
{
	int tx = self->fd[SENDER], rx = self->fd[RECEIVER];
	struct umpsc_record *r, got;
	struct umpsc_batch b = {};
	int at;

	EXPECT_TEXT(rx, "private");
	for (at = 0; at < 3; at++) {
		/* seq, sender, time_ns and padding are poison in it. */
		r = three(&b, at);
		r->flags = UMPSC_REST;
		if (at == 1)
			r->hdr = 0;
		EXPECT_EQ(3, umpsc_batch_send(tx, &b));
		got = EXPECT_TEXT(rx, "abcdefghijk");
		EXPECT_EQ(1 + 3 * at, got.seq);
		EXPECT_EQ(1, got.sender);
		EXPECT_EQ(0, got.time_ns);
		EXPECT_EQ(0, got.flags);
		got = EXPECT_TEXT(rx, "abcdefghijkl");
		EXPECT_EQ(2 + 3 * at, got.seq);
		EXPECT_EQ(0, got.flags);
		got = EXPECT_TEXT(rx, "abcdefghijklm");
		EXPECT_EQ(3 + 3 * at, got.seq);
		EXPECT_EQ(0, got.flags);
	}
	umpsc_batch_free(&b);
}

TEST_LONG(call, longer_header_on_send_is_skipped)
{
	int tx = self->fd[SENDER], rx = self->fd[RECEIVER];
	unsigned char batch[2 * 512];
	struct umpsc_record *r;
	unsigned int hdr;

	EXPECT_TEXT(rx, "private");
	for (hdr = 32; hdr <= 256; hdr += 8) {
		memset(batch, UMPSC_POISON, sizeof(batch));
		r = (void *)batch;
		*r = (struct umpsc_record){ .len = 5, .hdr = hdr };
		memcpy(batch + hdr, "first", 5);
		r = (void *)(batch + hdr + 8);
		*r = (struct umpsc_record){ .len = 6, .hdr = hdr };
		memcpy(batch + hdr + 8 + hdr, "second", 6);
		EXPECT_EQ(2, umpsc_send(tx, batch, 2 * (hdr + 8)));
		EXPECT_TEXT(rx, "first");
		EXPECT_TEXT(rx, "second");
		EXPECT_EMPTY(rx);
	}
}

/* ---- Addresses ---------------------------------------------------------- */

/* An address of the kernel's own. */
#ifdef __LP64__
#define KERNEL_MEMORY 0xffff888000000000UL
#else
#define KERNEL_MEMORY 0xfffff000UL
#endif

/* Two pages of which only the first is there; the second's address. */
static unsigned char *half_mapped(struct __test_metadata *_metadata, int flags)
{
	size_t page = sysconf(_SC_PAGESIZE);
	unsigned char *p = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	ASSERT_NE(MAP_FAILED, p);
	ASSERT_EQ(0, munmap(p + page, page));
	return p + page;
}

TEST_LONG(call, struct_at_a_bad_address_is_efault)
{
	static const unsigned long nowhere[] = {
		0UL, 8UL, -4096UL, ~(~0UL >> 1), KERNEL_MEMORY,
	};
	unsigned char *end = half_mapped(_metadata, 0);
	const struct command *c;
	union args args;
	size_t i, size, cut;

	for (c = commands; c < commands + ARRAY_SIZE(commands); c++) {
		if (!has_struct(c->cmd))
			continue;
		for (i = 0; i < ARRAY_SIZE(nowhere); i++)
			REFUSED(EFAULT,
				ioctl(self->fd[c->handle], c->cmd, nowhere[i]),
				c->name, nowhere[i]);
		size = _IOC_SIZE(c->cmd);
		fill(self, c->cmd, &args);
		for (cut = 1; cut < size; cut++) {
			memcpy(end - cut, &args, cut);
			REFUSED(EFAULT,
				ioctl(self->fd[c->handle], c->cmd, end - cut),
				c->name, cut);
		}
	}
}

TEST_LONG(call, tail_at_a_bad_address_is_efault)
{
	unsigned char *end = half_mapped(_metadata, 0);
	const struct command *c;
	union args args;
	size_t size;

	for (c = commands; c < commands + ARRAY_SIZE(commands); c++) {
		if (!has_struct(c->cmd))
			continue;
		size = _IOC_SIZE(c->cmd);
		fill(self, c->cmd, &args);
		memcpy(end - size, &args, size);
		REFUSED(EFAULT,
			ioctl(self->fd[c->handle], sized(c->cmd, size + 8),
			      end - size),
			c->name, size);
	}
}

/* Nothing comes of a call that could not tell what it made. */
TEST_LONG(call, outputs_that_cannot_be_written_are_efault)
{
	size_t page = sysconf(_SC_PAGESIZE);
	unsigned char *p = half_mapped(_metadata, 0) - page;
	const struct command *c;
	char path[64];

	snprintf(path, sizeof(path), "%s-%s", UMPSC_NODE, NEW_NAME);
	for (c = commands; c < commands + ARRAY_SIZE(commands); c++) {
		if (!(_IOC_DIR(c->cmd) & _IOC_READ))
			continue;
		ASSERT_EQ(0, mprotect(p, page, PROT_READ | PROT_WRITE));
		fill(self, c->cmd, (union args *)p);
		ASSERT_EQ(0, mprotect(p, page, PROT_READ));
		REFUSED(EFAULT, ioctl(self->fd[c->handle], c->cmd, p), c->name,
			0);
		EXPECT_ERR(ENOENT, access(path, F_OK));
	}
}

TEST_LONG(call, buffer_at_a_bad_address_is_efault)
{
	unsigned char *end = half_mapped(_metadata, 0);
	int tx = self->fd[SENDER], rx = self->fd[RECEIVER];
	__u64 used, need;
	size_t cut;

	REFUSED(EFAULT, umpsc_send(tx, NULL, 40), "SEND", 0);
	REFUSED(EFAULT, umpsc_send(tx, (void *)-4096UL, 40), "SEND", -4096);
	REFUSED(EFAULT, umpsc_recv(rx, NULL, 40, 1, 0, &used, &need), "RECV",
		0);
	REFUSED(EFAULT, umpsc_recv(rx, (void *)-4096UL, 40, 1, 0, &used, &need),
		"RECV", -4096);
	/* The library's declarations rule NULL out. */
	REFUSED(EFAULT, syscall(SYS_write, tx, NULL, 1), "write", 0);
	REFUSED(EFAULT, syscall(SYS_read, rx, NULL, 1), "read", 0);
	REFUSED(EFAULT, ioctl(rx, FIONREAD, NULL), "FIONREAD", 0);
	for (cut = 1; cut < 40; cut++) {
		memcpy(end - cut, self->batch.data,
		       cut < self->batch.len ? cut : self->batch.len);
		if (cut < 35)
			REFUSED(EFAULT,
				umpsc_send(tx, end - cut, self->batch.len),
				"SEND", cut);
		REFUSED(EFAULT,
			umpsc_recv(rx, end - cut, 40, 1, 0, &used, &need),
			"RECV", cut);
	}
}

/* ---- 32-bit callers ----------------------------------------------------- */

#ifdef __x86_64__
/* The system call of a 32-bit program; -errno. */
static long ioctl32(int fd, unsigned int cmd, unsigned long arg)
{
	long ret;

	__asm__ volatile("int $0x80"
			 : "=a"(ret)
			 : "a"(54), "b"(fd), "c"(cmd), "d"(arg)
			 : "memory", "r8", "r9", "r10", "r11");
	return (int)ret;
}

TEST_LONG(call, one_layout_for_32_bit_callers)
{
	struct {
		union args args;
		unsigned char batch[64];
		unsigned char buf[256];
	} *low = mmap(NULL, sizeof(*low), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	unsigned long arg = (unsigned long)&low->args;
	int manager = self->fd[MANAGER], rx, tx, weak, fd;
	struct umpsc_info want = { .state = UMPSC_STATE_CLAIMED, .strong = 1 };

	ASSERT_NE(MAP_FAILED, low);
	ASSERT_EQ(arg, (__u32)arg);

	EXPECT_EQ(0, ioctl32(manager, UMPSC_IOC_QUERY, arg));
	EXPECT_EQ(0, memcmp(&self->query, low, sizeof(self->query)));
	EXPECT_EQ(-ENOTTY, ioctl32(manager, UMPSC_IOC_CLONE, 0));
	EXPECT_EQ(-EFAULT, ioctl32(manager, UMPSC_IOC_QUERY, 0));

	fill(self, UMPSC_IOC_CREATE, &low->args);
	EXPECT_EQ(0, ioctl32(manager, UMPSC_IOC_CREATE, arg));
	EXPECT_EQ(-EEXIST, ioctl32(manager, UMPSC_IOC_CREATE, arg));
	fill(self, UMPSC_IOC_REMOVE, &low->args);
	umpsc_set_name(low->args.remove.name, NEW_NAME);
	EXPECT_EQ(0, ioctl32(manager, UMPSC_IOC_REMOVE, arg));

	fill(self, UMPSC_IOC_CHANNEL, &low->args);
	ASSERT_EQ(0, ioctl32(manager, UMPSC_IOC_CHANNEL, arg));
	rx = low->args.channel.receiver_fd;
	tx = low->args.channel.sender_fd;
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_RECEIVER(rx));

	memcpy(low->batch, self->batch.data, self->batch.len);
	low->args.send = (struct umpsc_send_args){
		.addr = (uintptr_t)low->batch,
		.len = self->batch.len,
	};
	EXPECT_EQ(1, ioctl32(tx, UMPSC_IOC_SEND, arg));
	umpsc_model_send(&want, 1, 3);
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_RECEIVER(rx));
	EXPECT_EQ(0, ioctl32(tx, UMPSC_IOC_INFO, arg));
	want.handle = low->args.info.handle;
	EXPECT_EQ(1, low->args.info.messages);
	EXPECT_EQ(UMPSC_ROLE_SENDER, low->args.info.role);
	want.handle = 0;

	fd = ASSERT_FD(ioctl32(tx, UMPSC_IOC_CLONE, O_NONBLOCK));
	weak = ASSERT_FD(ioctl32(tx, UMPSC_IOC_DOWNGRADE, 0));
	want.strong++;
	want.weak++;
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_SENDER(fd),
		     UMPSC_VIEW_WEAK(weak), UMPSC_VIEW_RECEIVER(rx));
	close(fd);
	fd = ASSERT_FD(ioctl32(weak, UMPSC_IOC_UPGRADE, 0));
	close(fd);
	fd = ASSERT_FD(ioctl32(rx, UMPSC_IOC_SENDER, 0));
	close(fd);
	close(weak);
	want.strong--;
	want.weak--;
	EXPECT_EQ(1, ioctl32(tx, UMPSC_IOC_SAME, rx));
	EXPECT_EQ(-EBADF, ioctl32(tx, UMPSC_IOC_SAME, -1));

	EXPECT_EQ(0, ioctl32(rx, FIONREAD, arg));
	EXPECT_EQ(3, low->args.bytes[0]);
	memset(low->buf, UMPSC_POISON, sizeof(low->buf));
	low->args.recv = (struct umpsc_recv_args){
		.addr = (uintptr_t)low->buf,
		.len = sizeof(low->buf),
		.max = 1,
	};
	EXPECT_EQ(1, ioctl32(rx, UMPSC_IOC_RECV, arg));
	EXPECT_EQ(40, low->args.recv.used);
	EXPECT_EQ(0, memcmp(low->buf + 32, "new\0\0\0\0", 8));
	umpsc_model_receive(&want, 1, 3);
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_RECEIVER(rx));
	EXPECT_EQ(0, ioctl32(rx, UMPSC_IOC_CLOSE, 0));
	want.state |= UMPSC_STATE_CLOSED | UMPSC_STATE_ENDED;
	EXPECT_VIEWS(&want, UMPSC_VIEW_SENDER(tx), UMPSC_VIEW_RECEIVER(rx));
	close(rx);
	close(tx);
}
#endif

TEST_HARNESS_MAIN
