/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR MIT) */
/*
 * umpsc: unbounded channels with many senders and one receiver
 *
 * Every handle is an open file.  On a node (/dev/umpsc, /dev/umpsc-NAME) the
 * access mode of open(2) is the role: O_WRONLY is a sender, O_RDONLY the
 * receiver, O_RDWR the manager, which has no role in the channel.  Weak senders
 * come from DOWNGRADE.
 *
 * Common to all calls: unknown flags and non-zero padding are EINVAL, a command
 * unknown or of another role is ENOTTY, memory that cannot be read or written
 * EFAULT.  A structure may grow at its end: commands are told apart by type,
 * number and direction, and the size that the caller compiled in is free.  One
 * smaller than the first version is EINVAL, one larger than the kernel's whose
 * tail is not zero E2BIG; in output-only structures (QUERY, INFO) the kernel
 * fills what both sides know and zeroes the rest.  The layout is the same for
 * 32- and 64-bit callers.
 */
#ifndef _UAPI_LINUX_UMPSC_H
#define _UAPI_LINUX_UMPSC_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Version of this interface, as QUERY gives it. */
#define UMPSC_ABI_VERSION 1

/* Longest name of a node, without the terminating NUL. */
#define UMPSC_NAME_MAX 31

/* Largest message that any limit can allow, in bytes. */
#define UMPSC_LEN_MAX (1ULL << 30)

/* A deadline that never comes, see struct umpsc_recv_args. */
#define UMPSC_NO_DEADLINE (~0ULL)

/* ---- Messages ---------------------------------------------------------- */

/*
 * Bytes of a record's header on send, and on receive from a channel without
 * further per-message data.  Readers go by @hdr, never by this.
 */
#define UMPSC_RECORD_HDR 32
#define UMPSC_RECORD_HDR_MAX 256

/* Where the record after one with this header and payload begins. */
#define UMPSC_RECORD_ALIGN 8
#define UMPSC_RECORD_SIZE(hdr, len)                               \
	(((__u64)(hdr) + (__u64)(len) + UMPSC_RECORD_ALIGN - 1) & \
	 ~(__u64)(UMPSC_RECORD_ALIGN - 1))

/* umpsc_record.flags, on receive: the message's first part went out by read(2). */
#define UMPSC_REST (1U << 0)

/**
 * struct umpsc_record - one message of a packed batch
 * @len: bytes of payload; 0 is a message too
 * @hdr: bytes from the record's start to its payload, a multiple of 8 from
 *	UMPSC_RECORD_HDR to UMPSC_RECORD_HDR_MAX; on send 0 means
 *	UMPSC_RECORD_HDR
 * @flags: on receive UMPSC_REST or 0; on send UMPSC_REST is ignored and any
 *	other flag is EINVAL
 * @seq: on receive the message's place in the channel's one order, from 0
 * @sender: on receive the id of the handle that sent it, unique in the channel,
 *	from 1; 0 when no handle did
 * @time_ns: on receive CLOCK_MONOTONIC in ns, read in the send, where the
 *	channel has UMPSC_TIMESTAMP; else 0
 *
 * A packed batch is a run of records.  The payload follows the header, and the
 * next record begins at the next multiple of 8.  What the kernel fills in is
 * ignored on send, so a batch can be sent on as it was received.  Padding is
 * ignored on send and zero on receive.
 */
struct umpsc_record {
	__u32 len;
	__u16 hdr;
	__u16 flags;
	__u64 seq;
	__u64 sender;
	__u64 time_ns;
};

/**
 * struct umpsc_creds - who sent a message, behind struct umpsc_record
 * @pid: the process, as the receiver's pid namespace knows it; 0 where it does not
 * @uid: its real user, as the receiver's user namespace has it, or the overflow id
 * @gid: its real group, likewise
 * @pad: 0
 *
 * In records received from a channel with UMPSC_CREDS, whose @hdr is at least
 * sizeof(struct umpsc_record) + sizeof(struct umpsc_creds).
 */
struct umpsc_creds {
	__u32 pid;
	__u32 uid;
	__u32 gid;
	__u32 pad;
};

/**
 * struct umpsc_send_args - SEND: send a packed batch, all of it or nothing
 * @addr: address of the batch
 * @len: its bytes, the padding of the last record included
 * @flags: 0
 * @pad: 0
 */
struct umpsc_send_args {
	__u64 addr;
	__u64 len;
	__u32 flags;
	__u32 pad;
};

/**
 * struct umpsc_recv_args - RECV: receive a packed batch
 * @addr: address of the buffer
 * @len: its bytes
 * @deadline_ns: when to give up waiting: absolute, CLOCK_MONOTONIC of the
 *	caller's time namespace, in ns; UMPSC_NO_DEADLINE for never
 * @max: most messages to receive; 0 returns 0 at once and takes nothing
 * @flags: 0
 * @used: out: bytes of the batch, the padding of the last record included
 * @need: out: on EMSGSIZE the bytes that the first message needs, else 0
 *
 * @used and @need are written on every result but EFAULT, and before any
 * message is taken.
 */
struct umpsc_recv_args {
	__u64 addr;
	__u64 len;
	__u64 deadline_ns;
	__u32 max;
	__u32 flags;
	__u64 used;
	__u64 need;
};

/* ---- Channels and nodes ------------------------------------------------ */

/* Channel flags: the kernel notes in each message when it was sent, and by whom. */
#define UMPSC_TIMESTAMP (1U << 0)
#define UMPSC_CREDS (1U << 2)
/*
 * Node flag: the node's channel does not end while senders come and go, and a
 * receiver that goes without CLOSE leaves it, with what is queued, to the next.
 */
#define UMPSC_STANDING (1U << 1)

/**
 * struct umpsc_limits - a channel's own limits, 0 for none
 * @max_len: bytes of one message (EMSGSIZE above it)
 * @max_msgs: messages queued (ENOBUFS)
 * @max_bytes: bytes of payload queued (ENOBUFS)
 */
struct umpsc_limits {
	__u64 max_len;
	__u64 max_msgs;
	__u64 max_bytes;
};

/**
 * struct umpsc_channel_args - CHANNEL: make a private channel
 * @flags: channel flags: UMPSC_TIMESTAMP, UMPSC_CREDS
 * @receiver_flags: O_NONBLOCK or 0, for the receiver's file
 * @sender_flags: O_NONBLOCK or 0, for the sender's file
 * @pad: 0
 * @limits: the channel's limits
 * @receiver_fd: out
 * @sender_fd: out
 */
struct umpsc_channel_args {
	__u32 flags;
	__u32 receiver_flags;
	__u32 sender_flags;
	__u32 pad;
	struct umpsc_limits limits;
	__s32 receiver_fd;
	__s32 sender_fd;
};

/**
 * struct umpsc_create_args - CREATE: make a node, /dev/umpsc-NAME
 * @name: NAME, 1 to 31 bytes of [A-Za-z0-9_-], NUL to the end
 * @mode: permission bits of the node; 0 means 0660
 * @uid: its owner, as the caller's user namespace has it
 * @gid: its group, likewise
 * @flags: UMPSC_STANDING, and channel flags for its channels
 * @limits: limits of its channels
 * @major: out: device number
 * @minor: out
 */
struct umpsc_create_args {
	char name[UMPSC_NAME_MAX + 1];
	__u32 mode;
	__u32 uid;
	__u32 gid;
	__u32 flags;
	struct umpsc_limits limits;
	__u32 major;
	__u32 minor;
};

/**
 * struct umpsc_remove_args - REMOVE: remove a node
 * @name: as in struct umpsc_create_args
 * @flags: 0
 * @pad: 0
 */
struct umpsc_remove_args {
	char name[UMPSC_NAME_MAX + 1];
	__u32 flags;
	__u32 pad;
};

/* ---- Looking ----------------------------------------------------------- */

/* umpsc_query.features: what this kernel can do. */
#define UMPSC_FEATURE_TIMESTAMP (1ULL << 0)
#define UMPSC_FEATURE_STANDING (1ULL << 1)
#define UMPSC_FEATURE_LIMITS (1ULL << 2)
#define UMPSC_FEATURE_CREDS (1ULL << 3)

/**
 * struct umpsc_query - QUERY: the module
 * @abi: UMPSC_ABI_VERSION of the kernel
 * @nodes_max: most nodes that can exist at a time
 * @features: UMPSC_FEATURE_*
 * @max_len: largest message that the module takes now, in bytes
 * @nodes: nodes that exist
 * @channels: channels that exist
 * @messages: messages queued in all of them
 * @bytes: their payload
 * @memory: bytes of kernel memory that messages, channels and handles hold, slack
 *	included
 * @max_bytes: most of these (EDQUOT)
 * @max_user_bytes: most of these for one user, by the real uid that sent or opened,
 *	unless it has CAP_SYS_RESOURCE (EDQUOT)
 * @reserve_bytes: available memory of the machine below which @memory does not grow
 *	(ENOMEM)
 */
struct umpsc_query {
	__u32 abi;
	__u32 nodes_max;
	__u64 features;
	__u64 max_len;
	__u64 nodes;
	__u64 channels;
	__u64 messages;
	__u64 bytes;
	__u64 memory;
	__u64 max_bytes;
	__u64 max_user_bytes;
	__u64 reserve_bytes;
};

/* umpsc_info.role */
#define UMPSC_ROLE_MANAGER 0
#define UMPSC_ROLE_SENDER 1
#define UMPSC_ROLE_WEAK 2
#define UMPSC_ROLE_RECEIVER 3

/* umpsc_info.state */
#define UMPSC_STATE_CLOSED \
	(1U << 0) /* no more sends: CLOSE, or the receiver went */
#define UMPSC_STATE_RECEIVER_GONE (1U << 1) /* ... and it went */
#define UMPSC_STATE_CLAIMED (1U << 2) /* a file is the receiver */
#define UMPSC_STATE_STANDING (1U << 3) /* of a standing node */
#define UMPSC_STATE_ENDED \
	(1U << 4) /* closed, or no strong sender can be any more */

/**
 * struct umpsc_info - INFO: a channel and the asking handle
 * @role: of this handle, UMPSC_ROLE_*
 * @state: UMPSC_STATE_*
 * @flags: channel flags
 * @pad: 0
 * @channel: id of the channel, unique until the machine reboots
 * @generation: which of its node's channels this is, from 1; 0 for a private one
 * @handle: this sender's or weak sender's id in the channel, else 0
 * @messages: messages queued (Tokio: UnboundedReceiver::len)
 * @bytes: their payload
 * @strong: sender files (Tokio: strong_count)
 * @weak: weak sender files (Tokio: weak_count)
 * @sent: messages ever accepted
 * @sent_bytes: their payload
 * @received: messages ever received
 * @received_bytes: their payload
 * @discarded: messages freed unread, when their receiver went or their node
 * @refused_closed: sends refused with EPIPE; a batch counts once, here and below
 * @refused_size: with EMSGSIZE
 * @refused_limit: with ENOBUFS
 * @refused_quota: with EDQUOT
 * @refused_memory: with ENOMEM
 * @most_messages: most messages ever queued at a time
 * @most_bytes: most payload
 * @memory: bytes of kernel memory that the queued messages hold, slack included; of a
 *	page that small ones share, each its part
 * @wakeups: times that a send woke the receiver, or what polls for it
 * @oldest_ns: age of the oldest queued message in ns, with UMPSC_TIMESTAMP, else 0
 * @limits: the channel's limits
 *
 * Each figure is exact at one instant of the call.  A manager tells of its
 * node's current channel; where there is none, all but @role is 0.
 */
struct umpsc_info {
	__u32 role;
	__u32 state;
	__u32 flags;
	__u32 pad;
	__u64 channel;
	__u64 generation;
	__u64 handle;
	__u64 messages;
	__u64 bytes;
	__u64 strong;
	__u64 weak;
	__u64 sent;
	__u64 sent_bytes;
	__u64 received;
	__u64 received_bytes;
	__u64 discarded;
	__u64 refused_closed;
	__u64 refused_size;
	__u64 refused_limit;
	__u64 refused_quota;
	__u64 refused_memory;
	__u64 most_messages;
	__u64 most_bytes;
	__u64 memory;
	__u64 wakeups;
	__u64 oldest_ns;
	struct umpsc_limits limits;
};

/* ---- Calls ------------------------------------------------------------- */

/* Type 0xD5, numbers 0x00 to 0x3F. */
#define UMPSC_IOC_TYPE 0xD5

/*
 * QUERY, on any handle: the module's version, features, limits and totals.
 */
#define UMPSC_IOC_QUERY _IOR(UMPSC_IOC_TYPE, 0x00, struct umpsc_query)

/*
 * CHANNEL, on a manager: a private channel (Tokio: unbounded_channel).  It
 * starts with one sender.  Both files are close-on-exec.
 * EINVAL; EMFILE, ENFILE: no room for two files; EDQUOT: the user's quota or the
 * module's ceiling; ENOMEM.
 */
#define UMPSC_IOC_CHANNEL _IOWR(UMPSC_IOC_TYPE, 0x01, struct umpsc_channel_args)

/*
 * CREATE, on a manager: a node.  EPERM without CAP_SYS_ADMIN in the initial user
 * namespace; EINVAL: not a name, a mode, a user or a group; EEXIST: there is a
 * node of that name; ENOSPC: there are 4096; ENOMEM.
 */
#define UMPSC_IOC_CREATE _IOWR(UMPSC_IOC_TYPE, 0x02, struct umpsc_create_args)

/*
 * REMOVE, on a manager: remove a node.  A channel without a receiver ends and
 * its messages are discarded; one with a receiver can no longer be joined by
 * opening.  EPERM: as for CREATE, and always for /dev/umpsc (the empty name);
 * EINVAL: not a name; ENOENT: no such node.
 */
#define UMPSC_IOC_REMOVE _IOW(UMPSC_IOC_TYPE, 0x03, struct umpsc_remove_args)

/*
 * SEND, on a sender: a batch, contiguous in the channel's order (Tokio: send).
 * Never waits for the receiver.  Returns how many messages were accepted: all,
 * or on an error none.  EPIPE: the receiver closed or went; EINVAL: a record is
 * malformed or does not end inside the batch; EMSGSIZE: a message above the
 * channel's or the module's limit, or a batch above 2 GiB; ENOBUFS: the
 * channel's limit; EDQUOT: the user's quota or the module's ceiling; ENOMEM: the
 * kernel, the memory cgroup or the reserve.
 */
#define UMPSC_IOC_SEND _IOW(UMPSC_IOC_TYPE, 0x10, struct umpsc_send_args)

/*
 * CLONE, on a sender or weak sender: another handle of the same kind (Tokio:
 * Clone).  DOWNGRADE, on a sender: a weak sender (Tokio: downgrade).  UPGRADE,
 * on a weak sender: a sender; ESHUTDOWN once there is no strong sender left
 * (Tokio: upgrade).  SENDER, on the receiver: a sender; ESHUTDOWN likewise.
 * The argument is 0 or O_NONBLOCK, else EINVAL.  Returns the new fd, which is
 * close-on-exec.  EMFILE, ENFILE, EDQUOT, ENOMEM.
 */
#define UMPSC_IOC_CLONE _IO(UMPSC_IOC_TYPE, 0x11)
#define UMPSC_IOC_DOWNGRADE _IO(UMPSC_IOC_TYPE, 0x12)
#define UMPSC_IOC_UPGRADE _IO(UMPSC_IOC_TYPE, 0x13)
#define UMPSC_IOC_SENDER _IO(UMPSC_IOC_TYPE, 0x22)

/*
 * RECV, on the receiver: waits for a message, then takes what is there, up to
 * umpsc_recv_args.max messages and the buffer (Tokio: recv, recv_many,
 * try_recv).  Returns how many; 0 is the end, unless max is 0.  On an error
 * nothing was taken.  EAGAIN: nothing queued, and the file is non-blocking;
 * ETIMEDOUT: past the deadline; EINTR; EMSGSIZE: the first message does not fit
 * the buffer.
 */
#define UMPSC_IOC_RECV _IOWR(UMPSC_IOC_TYPE, 0x20, struct umpsc_recv_args)

/*
 * CLOSE, on the receiver: no more sends; what was accepted stays receivable
 * (Tokio: close).  Idempotent.  Takes no argument.
 */
#define UMPSC_IOC_CLOSE _IO(UMPSC_IOC_TYPE, 0x21)

/*
 * INFO, on any handle: counts.  ENXIO: a manager whose node was removed.
 */
#define UMPSC_IOC_INFO _IOR(UMPSC_IOC_TYPE, 0x30, struct umpsc_info)

/*
 * SAME, on any handle: 1 if the fd given as the argument is a handle of the same
 * channel, else 0 (Tokio: same_channel).  A manager stands for its node's
 * current channel.  EBADF: no such fd.
 */
#define UMPSC_IOC_SAME _IO(UMPSC_IOC_TYPE, 0x31)

#endif /* _UAPI_LINUX_UMPSC_H */
