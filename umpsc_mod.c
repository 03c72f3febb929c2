// SPDX-License-Identifier: GPL-2.0-only
/*
 * The module: nodes, files, ioctls, init and exit
 *
 * A file is a handle, and its file_operations are its role.  A node is a character
 * device; the access mode with which it is opened picks the role.  The channel
 * itself is umpsc_core.c's.
 *
 * Lifetime
 *	A file owns a struct umpsc_handle, which holds the channel (but a manager's,
 *	which has none, and a new file's before it is given one) and the node that it
 *	came from, if any.  A node holds its current channel, and the ledger in which
 *	all of its channels count.  Files pin the module; a channel that waits with
 *	messages for a receiver, and has no file, is pinned by its node (node->pinned).
 *
 * Locks, outer first
 *	umpsc_nodes_lock	which nodes there are; spans device_add and device_del
 *	  (sysfs)		device_del waits for attributes that are being shown
 *	    node->lock		what the node leads to
 *	      (the channel's)
 *	So showing an attribute must not take umpsc_nodes_lock.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/anon_inodes.h>
#include <linux/bits.h>
#include <linux/capability.h>
#include <linux/cdev.h>
#include <linux/ctype.h>
#include <linux/device.h>
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/idr.h>
#include <linux/ioctl.h>
#include <linux/kdev_t.h>
#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/random.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/stat.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include <linux/time_namespace.h>
#include <linux/uaccess.h>
#include <linux/uidgid.h>
#include <linux/uio.h>

#include <asm/ioctls.h>

#include "umpsc_core.h"

#define UMPSC_NODES_MAX 4096
#define UMPSC_MINORS (MINORMASK + 1)
#define UMPSC_MODE 0660
#define UMPSC_CHANNEL_FLAGS (UMPSC_TIMESTAMP | UMPSC_CREDS)

static char *umpsc_channels_param = "";
module_param_named(channels, umpsc_channels_param, charp, 0444);
MODULE_PARM_DESC(channels, "nodes to make: NAME[:standing],...");

static unsigned short umpsc_mode_param;
module_param_named(mode, umpsc_mode_param, ushort, 0444);
MODULE_PARM_DESC(mode, "permission bits of these nodes (0660)");

static unsigned int umpsc_uid_param;
module_param_named(uid, umpsc_uid_param, uint, 0444);
MODULE_PARM_DESC(uid, "owner of these nodes (0)");

static unsigned int umpsc_gid_param;
module_param_named(gid, umpsc_gid_param, uint, 0444);
MODULE_PARM_DESC(gid, "group of these nodes (0)");

static bool umpsc_mailbox_param = true;
module_param_named(mailbox, umpsc_mailbox_param, bool, 0444);
MODULE_PARM_DESC(mailbox, "does /dev/umpsc lead to a channel? (Y)");

/**
 * struct umpsc_node - a device node and the channel that it leads to
 * @dev: the device; its reference count is the node's
 * @lock: guards what follows it
 * @name: NAME of /dev/umpsc-NAME, empty for /dev/umpsc; fixed
 * @mode: permission bits; fixed
 * @uid: owner; fixed
 * @gid: group; fixed
 * @flags: UMPSC_STANDING and channel flags; fixed
 * @limits: of its channels; fixed
 * @mailbox: leads to channels at all; fixed
 * @ledger: in which its channels count; fixed
 * @ch: the current channel, or NULL where none was begun yet
 * @generation: how many channels were begun
 * @pinned: holds the module for @ch, which waits with messages for a receiver
 * @removed: leads nowhere any more
 */
struct umpsc_node {
	struct device dev;
	char name[UMPSC_NAME_MAX + 1];
	umode_t mode;
	kuid_t uid;
	kgid_t gid;
	u32 flags;
	struct umpsc_limits limits;
	bool mailbox;
	struct umpsc_ledger *ledger;

	/* Guards the rest. */
	struct mutex lock;
	struct umpsc_channel *ch;
	u64 generation;
	bool pinned;
	bool removed;
};

/**
 * struct umpsc_handle - what a file is to a channel; fixed after creation
 * @ch: the channel; NULL for a manager
 * @node: the node that it came from, or NULL
 * @id: a sender's or weak sender's id in the channel, else 0
 * @account: who pays for it
 */
struct umpsc_handle {
	struct umpsc_channel *ch;
	struct umpsc_node *node;
	u64 id;
	u32 account;
};

static dev_t umpsc_region;
static struct cdev umpsc_cdev;

static DEFINE_MUTEX(umpsc_nodes_lock);
/* By minor; both under umpsc_nodes_lock. */
static DEFINE_IDR(umpsc_nodes);
static unsigned int umpsc_nodes_count;
/* Nodes cannot be opened yet, and are not announced; under umpsc_nodes_lock. */
static bool umpsc_loading = true;

static const struct file_operations umpsc_manager_fops;
static const struct file_operations umpsc_sender_fops;
static const struct file_operations umpsc_weak_fops;
static const struct file_operations umpsc_receiver_fops;

/* ---- Nodes ------------------------------------------------------------- */

static struct umpsc_node *umpsc_node_of(const struct device *dev)
{
	return container_of(dev, struct umpsc_node, dev);
}

static struct umpsc_node *umpsc_node_get(struct umpsc_node *node)
{
	if (node)
		get_device(&node->dev);
	return node;
}

static void umpsc_node_put(struct umpsc_node *node)
{
	if (node)
		put_device(&node->dev);
}

static void umpsc_node_release(struct device *dev)
{
	struct umpsc_node *node = umpsc_node_of(dev);

	umpsc_ledger_put(node->ledger);
	kfree(node);
}

/*
 * The channel that @node leads to, for the caller to put; NULL where none was begun,
 * -ENXIO where the node was removed.
 */
static struct umpsc_channel *umpsc_node_current(struct umpsc_node *node)
{
	struct umpsc_channel *ch;

	mutex_lock(&node->lock);
	if (node->removed)
		ch = ERR_PTR(-ENXIO);
	else
		ch = node->ch ? umpsc_channel_get(node->ch) : NULL;
	mutex_unlock(&node->lock);
	return ch;
}

/* ---- Figures of a node, in sysfs ------------------------------------------ */

/**
 * struct umpsc_attr - a figure of a node, as a file for everyone to read
 * @attr: the file
 * @offset: of a figure of 64 bits in struct umpsc_info
 * @bit: or a bit of umpsc_info.state, or of umpsc_node.flags
 */
struct umpsc_attr {
	struct device_attribute attr;
	union {
		size_t offset;
		u32 bit;
	};
};

static const struct umpsc_attr *umpsc_attr_of(struct device_attribute *attr)
{
	return container_of(attr, struct umpsc_attr, attr);
}

/* What INFO tells a manager of the node; without a channel, what the next will have. */
static int umpsc_node_info(struct umpsc_node *node, struct umpsc_info *info)
{
	struct umpsc_channel *ch;

	memset(info, 0, sizeof(*info));
	info->limits = node->limits;
	ch = umpsc_node_current(node);
	if (IS_ERR_OR_NULL(ch))
		return PTR_ERR(ch);
	umpsc_channel_info(ch, info);
	umpsc_channel_put(ch);
	return 0;
}

static ssize_t umpsc_attr_emit(struct device_attribute *attr,
			       const struct umpsc_info *info, char *buf)
{
	const char *figures = (const char *)info;

	return sysfs_emit(buf, "%llu\n",
			  *(u64 *)(figures + umpsc_attr_of(attr)->offset));
}

/* Of the current channel. */
static ssize_t umpsc_attr_show(struct device *dev,
			       struct device_attribute *attr, char *buf)
{
	struct umpsc_info info;
	int err;

	err = umpsc_node_info(umpsc_node_of(dev), &info);
	return err ? err : umpsc_attr_emit(attr, &info, buf);
}

static ssize_t umpsc_attr_show_state(struct device *dev,
				     struct device_attribute *attr, char *buf)
{
	struct umpsc_info info;
	int err;

	err = umpsc_node_info(umpsc_node_of(dev), &info);
	if (err)
		return err;
	return sysfs_emit(buf, "%d\n",
			  !!(info.state & umpsc_attr_of(attr)->bit));
}

/* Of the node, for good. */
static ssize_t umpsc_attr_show_flag(struct device *dev,
				    struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n",
			  !!(umpsc_node_of(dev)->flags &
			     umpsc_attr_of(attr)->bit));
}

/* Of all channels that the node has led to. */
static ssize_t umpsc_attr_show_total(struct device *dev,
				     struct device_attribute *attr, char *buf)
{
	struct umpsc_info info;
	int err;

	err = umpsc_ledger_info(umpsc_node_of(dev)->ledger, &info);
	return err ? err : umpsc_attr_emit(attr, &info, buf);
}

static ssize_t umpsc_attr_show_refused(struct device *dev,
				       struct device_attribute *attr, char *buf)
{
	struct umpsc_info info;
	int err;

	err = umpsc_ledger_info(umpsc_node_of(dev)->ledger, &info);
	if (err)
		return err;
	return sysfs_emit(buf, "%llu\n",
			  info.refused_closed + info.refused_size +
				  info.refused_limit + info.refused_quota +
				  info.refused_memory);
}

#define UMPSC_ATTR(_name, _show, ...)                                 \
	static struct umpsc_attr umpsc_attr_##_name = {               \
		.attr = __ATTR(_name, 0444, _show, NULL), __VA_ARGS__ \
	}
#define UMPSC_ATTR_CURRENT(_name, _figure) \
	UMPSC_ATTR(_name, umpsc_attr_show, \
		   .offset = offsetof(struct umpsc_info, _figure))
#define UMPSC_ATTR_TOTAL(_name, _figure)         \
	UMPSC_ATTR(_name, umpsc_attr_show_total, \
		   .offset = offsetof(struct umpsc_info, _figure))

UMPSC_ATTR(standing, umpsc_attr_show_flag, .bit = UMPSC_STANDING);
UMPSC_ATTR(timestamp, umpsc_attr_show_flag, .bit = UMPSC_TIMESTAMP);
UMPSC_ATTR(creds, umpsc_attr_show_flag, .bit = UMPSC_CREDS);
UMPSC_ATTR_CURRENT(limit_len, limits.max_len);
UMPSC_ATTR_CURRENT(limit_msgs, limits.max_msgs);
UMPSC_ATTR_CURRENT(limit_bytes, limits.max_bytes);

UMPSC_ATTR_CURRENT(channel, channel);
UMPSC_ATTR_CURRENT(generation, generation);
UMPSC_ATTR(claimed, umpsc_attr_show_state, .bit = UMPSC_STATE_CLAIMED);
UMPSC_ATTR(closed, umpsc_attr_show_state, .bit = UMPSC_STATE_CLOSED);
UMPSC_ATTR(ended, umpsc_attr_show_state, .bit = UMPSC_STATE_ENDED);
UMPSC_ATTR_CURRENT(depth, messages);
UMPSC_ATTR_CURRENT(bytes, bytes);
UMPSC_ATTR_CURRENT(memory, memory);
UMPSC_ATTR_CURRENT(strong, strong);
UMPSC_ATTR_CURRENT(weak, weak);
UMPSC_ATTR_CURRENT(oldest_ns, oldest_ns);

UMPSC_ATTR_TOTAL(queued, messages);
UMPSC_ATTR_TOTAL(queued_bytes, bytes);
UMPSC_ATTR_TOTAL(sent, sent);
UMPSC_ATTR_TOTAL(sent_bytes, sent_bytes);
UMPSC_ATTR_TOTAL(received, received);
UMPSC_ATTR_TOTAL(received_bytes, received_bytes);
UMPSC_ATTR_TOTAL(discarded, discarded);
UMPSC_ATTR(refused, umpsc_attr_show_refused);
UMPSC_ATTR_TOTAL(refused_closed, refused_closed);
UMPSC_ATTR_TOTAL(refused_size, refused_size);
UMPSC_ATTR_TOTAL(refused_limit, refused_limit);
UMPSC_ATTR_TOTAL(refused_quota, refused_quota);
UMPSC_ATTR_TOTAL(refused_memory, refused_memory);
UMPSC_ATTR_TOTAL(most_messages, most_messages);
UMPSC_ATTR_TOTAL(most_bytes, most_bytes);
UMPSC_ATTR_TOTAL(wakeups, wakeups);

static struct attribute *umpsc_node_attrs[] = {
	&umpsc_attr_standing.attr.attr,
	&umpsc_attr_timestamp.attr.attr,
	&umpsc_attr_creds.attr.attr,
	&umpsc_attr_limit_len.attr.attr,
	&umpsc_attr_limit_msgs.attr.attr,
	&umpsc_attr_limit_bytes.attr.attr,
	&umpsc_attr_channel.attr.attr,
	&umpsc_attr_generation.attr.attr,
	&umpsc_attr_claimed.attr.attr,
	&umpsc_attr_closed.attr.attr,
	&umpsc_attr_ended.attr.attr,
	&umpsc_attr_depth.attr.attr,
	&umpsc_attr_bytes.attr.attr,
	&umpsc_attr_memory.attr.attr,
	&umpsc_attr_strong.attr.attr,
	&umpsc_attr_weak.attr.attr,
	&umpsc_attr_oldest_ns.attr.attr,
	&umpsc_attr_queued.attr.attr,
	&umpsc_attr_queued_bytes.attr.attr,
	&umpsc_attr_sent.attr.attr,
	&umpsc_attr_sent_bytes.attr.attr,
	&umpsc_attr_received.attr.attr,
	&umpsc_attr_received_bytes.attr.attr,
	&umpsc_attr_discarded.attr.attr,
	&umpsc_attr_refused.attr.attr,
	&umpsc_attr_refused_closed.attr.attr,
	&umpsc_attr_refused_size.attr.attr,
	&umpsc_attr_refused_limit.attr.attr,
	&umpsc_attr_refused_quota.attr.attr,
	&umpsc_attr_refused_memory.attr.attr,
	&umpsc_attr_most_messages.attr.attr,
	&umpsc_attr_most_bytes.attr.attr,
	&umpsc_attr_wakeups.attr.attr,
	NULL,
};
ATTRIBUTE_GROUPS(umpsc_node);

/* ---- Coming and going of nodes --------------------------------------------- */

static char *umpsc_node_devnode(UMPSC_DEVNODE_CONST struct device *dev,
				umode_t *mode, kuid_t *uid, kgid_t *gid)
{
	struct umpsc_node *node = umpsc_node_of(dev);

	/* Asked for the name only, which is the device's, there is no @mode. */
	if (mode)
		*mode = node->mode;
	if (uid)
		*uid = node->uid;
	if (gid)
		*gid = node->gid;
	return NULL;
}

static struct class umpsc_class = {
	.name = "umpsc",
};

static const struct device_type umpsc_node_type = {
	.name = "umpsc",
	.devnode = umpsc_node_devnode,
	.groups = umpsc_node_groups,
	.release = umpsc_node_release,
};

static bool umpsc_name_ok(const char *name)
{
	size_t len = strnlen(name, UMPSC_NAME_MAX + 1), i;

	if (!len || len > UMPSC_NAME_MAX)
		return false;
	for (i = 0; i < len; i++)
		if (!isascii(name[i]) ||
		    (!isalnum(name[i]) && name[i] != '-' && name[i] != '_'))
			return false;
	/* Behind it, as with all padding. */
	return !memchr_inv(name + len, 0, UMPSC_NAME_MAX + 1 - len);
}

static struct umpsc_node *umpsc_node_find_locked(const char *name)
{
	struct umpsc_node *node;
	int minor;

	lockdep_assert_held(&umpsc_nodes_lock);
	idr_for_each_entry(&umpsc_nodes, node, minor)
		if (!strcmp(node->name, name))
			return node;
	return NULL;
}

/* The node of @minor, for the caller to put; or NULL. */
static struct umpsc_node *umpsc_node_lookup(unsigned int minor)
{
	struct umpsc_node *node;

	mutex_lock(&umpsc_nodes_lock);
	node = umpsc_node_get(idr_find(&umpsc_nodes, minor));
	mutex_unlock(&umpsc_nodes_lock);
	return node;
}

/*
 * Make a node, of @args, checked, but for the owner and group there.  Returns its
 * minor; -EEXIST, -ENOSPC, -ENOMEM, or what device_add() says.
 */
static int umpsc_node_create(const struct umpsc_create_args *args, kuid_t uid,
			     kgid_t gid, bool mailbox)
{
	struct umpsc_node *node;
	int minor, err;

	node = kzalloc(sizeof(*node), UMPSC_GFP);
	if (!node)
		return -ENOMEM;
	strscpy(node->name, args->name, sizeof(node->name));
	node->mode = args->mode ? args->mode : UMPSC_MODE;
	node->uid = uid;
	node->gid = gid;
	node->flags = args->flags;
	node->limits = args->limits;
	node->mailbox = mailbox;
	mutex_init(&node->lock);
	device_initialize(&node->dev);
	node->dev.class = &umpsc_class;
	node->dev.type = &umpsc_node_type;
	node->ledger = umpsc_ledger_new();
	if (!node->ledger) {
		umpsc_node_put(node);
		return -ENOMEM;
	}

	mutex_lock(&umpsc_nodes_lock);
	err = -EEXIST;
	if (umpsc_node_find_locked(node->name))
		goto err_unlock;
	err = -ENOSPC;
	if (umpsc_nodes_count == UMPSC_NODES_MAX)
		goto err_unlock;
	/* Cyclically: an old device file must not lead to a new channel. */
	minor = idr_alloc_cyclic(&umpsc_nodes, node, 0, UMPSC_MINORS,
				 GFP_KERNEL);
	if (minor < 0) {
		err = minor;
		goto err_unlock;
	}
	node->dev.devt = MKDEV(MAJOR(umpsc_region), minor);
	dev_set_uevent_suppress(&node->dev, umpsc_loading);
	err = dev_set_name(&node->dev, *node->name ? "umpsc-%s" : "umpsc%s",
			   node->name);
	if (err)
		goto err_minor;
	err = device_add(&node->dev);
	if (err)
		goto err_minor;
	WRITE_ONCE(umpsc_nodes_count, umpsc_nodes_count + 1);
	mutex_unlock(&umpsc_nodes_lock);
	return minor;

err_minor:
	idr_remove(&umpsc_nodes, minor);
err_unlock:
	mutex_unlock(&umpsc_nodes_lock);
	umpsc_node_put(node);
	return err;
}

/* Let go of what the current channel is held by.  Under node->lock. */
static void umpsc_node_unpin_locked(struct umpsc_node *node)
{
	lockdep_assert_held(&node->lock);
	if (node->pinned) {
		node->pinned = false;
		module_put(THIS_MODULE);
	}
}

/*
 * A file of @ch was released: if it leaves messages behind that wait for a receiver,
 * the node pins the module.  The file itself still does, so that this cannot fail.
 */
static void umpsc_node_pin(struct umpsc_node *node, struct umpsc_channel *ch)
{
	mutex_lock(&node->lock);
	if (node->ch == ch && !node->pinned && umpsc_channel_waiting(ch)) {
		__module_get(THIS_MODULE);
		node->pinned = true;
	}
	mutex_unlock(&node->lock);
}

/*
 * Take @node out of the world.  Returns its channel, for the caller to abandon and
 * put once it has let go of the lock; or NULL.
 */
static struct umpsc_channel *umpsc_node_detach_locked(struct umpsc_node *node)
{
	struct umpsc_channel *ch;

	lockdep_assert_held(&umpsc_nodes_lock);
	idr_remove(&umpsc_nodes, MINOR(node->dev.devt));
	WRITE_ONCE(umpsc_nodes_count, umpsc_nodes_count - 1);
	umpsc_ledger_close(node->ledger);
	device_del(&node->dev);

	mutex_lock(&node->lock);
	node->removed = true;
	ch = node->ch;
	node->ch = NULL;
	umpsc_node_unpin_locked(node);
	mutex_unlock(&node->lock);

	umpsc_node_put(node);
	return ch;
}

/* A node no longer leads to @ch, if there was one. */
static void umpsc_node_abandon(struct umpsc_channel *ch)
{
	if (ch) {
		umpsc_channel_abandon(ch);
		umpsc_channel_put(ch);
	}
}

static int umpsc_node_remove(const char *name)
{
	struct umpsc_channel *ch = NULL;
	struct umpsc_node *node;

	mutex_lock(&umpsc_nodes_lock);
	node = umpsc_node_find_locked(name);
	if (node)
		ch = umpsc_node_detach_locked(node);
	mutex_unlock(&umpsc_nodes_lock);
	umpsc_node_abandon(ch);
	return node ? 0 : -ENOENT;
}

/* Undo umpsc_node_create(), unless somebody else was faster. */
static void umpsc_node_uncreate(int minor)
{
	struct umpsc_channel *ch = NULL;
	struct umpsc_node *node;

	mutex_lock(&umpsc_nodes_lock);
	node = idr_find(&umpsc_nodes, minor);
	if (node)
		ch = umpsc_node_detach_locked(node);
	mutex_unlock(&umpsc_nodes_lock);
	umpsc_node_abandon(ch);
}

/*
 * The channel that the node leads to now; begins the next one where there is none
 * or it has ended.  @over is then set to the old one, for the caller to abandon.
 */
static struct umpsc_channel *
umpsc_node_channel_locked(struct umpsc_node *node, struct umpsc_channel **over)
{
	bool standing = node->flags & UMPSC_STANDING;
	struct umpsc_channel *ch;

	lockdep_assert_held(&node->lock);
	if (node->removed || !node->mailbox)
		return ERR_PTR(-ENXIO);
	if (node->ch && !umpsc_channel_ended(node->ch))
		return node->ch;

	ch = umpsc_channel_new(standing ? UMPSC_LIFE_STANDING : UMPSC_LIFE_NODE,
			       node->flags & ~UMPSC_STANDING, &node->limits,
			       node->generation + 1, node->ledger);
	if (IS_ERR(ch))
		return ch;
	node->generation++;
	*over = node->ch;
	node->ch = ch;
	return ch;
}

/*
 * Open the node as a sender or as the receiver.  Returns a reference to the channel
 * that was joined or claimed.
 */
static struct umpsc_channel *umpsc_node_enter(struct umpsc_node *node,
					      bool receiver)
{
	struct umpsc_channel *ch, *over;
	int err;

	do {
		over = NULL;
		mutex_lock(&node->lock);
		ch = umpsc_node_channel_locked(node, &over);
		if (IS_ERR(ch)) {
			mutex_unlock(&node->lock);
			return ch;
		}
		if (receiver) {
			err = umpsc_receiver_claim(ch);
			if (!err)
				umpsc_node_unpin_locked(node);
		} else {
			err = umpsc_sender_join(ch);
		}
		umpsc_channel_get(ch);
		mutex_unlock(&node->lock);

		umpsc_node_abandon(over);
		if (err)
			umpsc_channel_put(ch);
		/* It ended between the two looks: the next one, then. */
	} while (err == -ESHUTDOWN);
	return err ? ERR_PTR(err) : ch;
}

/* ---- Handles ----------------------------------------------------------- */

/* Of @node; @must: whatever the limits. */
static struct umpsc_handle *umpsc_handle_new(struct umpsc_node *node, bool must)
{
	struct umpsc_handle *h;
	u32 account;
	int err;

	err = umpsc_memory_charge(sizeof(*h), must, &account);
	if (err)
		return ERR_PTR(err);
	h = kzalloc(sizeof(*h), UMPSC_GFP);
	if (!h) {
		umpsc_memory_uncharge(sizeof(*h), account);
		return ERR_PTR(-ENOMEM);
	}
	h->account = account;
	h->node = umpsc_node_get(node);
	return h;
}

static void umpsc_handle_free(struct umpsc_handle *h)
{
	if (h->ch)
		umpsc_channel_put(h->ch);
	umpsc_node_put(h->node);
	umpsc_memory_uncharge(sizeof(*h), h->account);
	kfree(h);
}

/* What a strong sender or a receiver leaves behind has to keep the module. */
static void umpsc_handle_leave_messages(struct umpsc_handle *h)
{
	if (h->node)
		umpsc_node_pin(h->node, h->ch);
}

static int umpsc_manager_release(struct inode *inode, struct file *file)
{
	umpsc_handle_free(file->private_data);
	return 0;
}

static int umpsc_sender_release(struct inode *inode, struct file *file)
{
	struct umpsc_handle *h = file->private_data;

	if (h->ch) {
		umpsc_sender_leave(h->ch);
		umpsc_handle_leave_messages(h);
	}
	umpsc_handle_free(h);
	return 0;
}

static int umpsc_weak_release(struct inode *inode, struct file *file)
{
	struct umpsc_handle *h = file->private_data;

	if (h->ch)
		umpsc_weak_leave(h->ch);
	umpsc_handle_free(h);
	return 0;
}

static int umpsc_receiver_release(struct inode *inode, struct file *file)
{
	struct umpsc_handle *h = file->private_data;

	if (h->ch) {
		umpsc_receiver_leave(h->ch);
		umpsc_handle_leave_messages(h);
	}
	umpsc_handle_free(h);
	return 0;
}

/*
 * What makes a file of each role.  Its access mode keeps the VFS from calling what
 * is not for it.
 */
struct umpsc_role {
	const char *name;
	const struct file_operations *fops;
	unsigned int access;
};

static const struct umpsc_role umpsc_sender_role = {
	.name = "[umpsc-sender]",
	.fops = &umpsc_sender_fops,
	.access = O_WRONLY,
};

/* Neither for reading nor for writing. */
static const struct umpsc_role umpsc_weak_role = {
	.name = "[umpsc-weak]",
	.fops = &umpsc_weak_fops,
	.access = O_ACCMODE,
};

static const struct umpsc_role umpsc_receiver_role = {
	.name = "[umpsc-receiver]",
	.fops = &umpsc_receiver_fops,
	.access = O_RDONLY,
};

static void umpsc_file_init(struct inode *inode, struct file *file)
{
	stream_open(inode, file);
	file->f_mode |= FMODE_NOWAIT;
}

/*
 * Give @file, which has none yet, its channel: the reference and the count in its
 * role that the caller got.
 */
static void umpsc_file_bind(struct file *file, struct umpsc_channel *ch)
{
	struct umpsc_handle *h = file->private_data;

	h->ch = ch;
	if (file->f_op != &umpsc_receiver_fops)
		h->id = umpsc_channel_new_id(ch);
}

/* Where memory is short, these are not refused: they receive what holds it, or end it. */
static bool umpsc_brings_memory(unsigned int access)
{
	return access == O_RDONLY ||
	       (access == O_RDWR &&
		ns_capable_noaudit(&init_user_ns, CAP_SYS_RESOURCE));
}

static int umpsc_open(struct inode *inode, struct file *file)
{
	unsigned int access = file->f_flags & O_ACCMODE;
	const struct file_operations *fops;
	struct umpsc_channel *ch;
	struct umpsc_node *node;
	int err;

	if (file->f_flags & O_DIRECT || access == O_ACCMODE)
		return -EINVAL;
	if (access == O_RDWR)
		fops = &umpsc_manager_fops;
	else if (access == O_WRONLY)
		fops = &umpsc_sender_fops;
	else
		fops = &umpsc_receiver_fops;

	/* Everything that fails comes first: entering leaves its mark. */
	node = umpsc_node_lookup(iminor(inode));
	if (!node)
		return -ENXIO;
	file->private_data =
		umpsc_handle_new(node, umpsc_brings_memory(access));
	umpsc_node_put(node);
	if (IS_ERR(file->private_data))
		return PTR_ERR(file->private_data);
	err = -ENXIO;
	if (!fops_get(fops))
		goto err_handle;

	if (access != O_RDWR) {
		ch = umpsc_node_enter(node, access == O_RDONLY);
		err = PTR_ERR_OR_ZERO(ch);
		if (err)
			goto err_fops;
	}
	umpsc_file_init(inode, file);
	replace_fops(file, fops);
	if (access != O_RDWR)
		umpsc_file_bind(file, ch);
	return 0;

err_fops:
	fops_put(fops);
err_handle:
	umpsc_handle_free(file->private_data);
	return err;
}

static const struct file_operations umpsc_node_fops = {
	.owner = THIS_MODULE,
	.open = umpsc_open,
};

/* ---- New files --------------------------------------------------------- */

/* The flags that a caller may give a new file. */
static bool umpsc_file_flags_ok(unsigned long flags)
{
	return !(flags & ~(unsigned long)O_NONBLOCK);
}

/*
 * A file of @role, of @node if any, without a channel so far: it can be put without
 * a trace.
 */
static struct file *umpsc_file_new(const struct umpsc_role *role,
				   struct umpsc_node *node, unsigned int flags)
{
	struct umpsc_handle *h;
	struct file *file;

	h = umpsc_handle_new(node, false);
	if (IS_ERR(h))
		return ERR_CAST(h);
	file = anon_inode_getfile(role->name, role->fops, h,
				  role->access | flags);
	if (IS_ERR(file)) {
		umpsc_handle_free(h);
		return file;
	}
	umpsc_file_init(file_inode(file), file);
	return file;
}

/*
 * One more sender, or weak sender, of @h's channel, as a file with @flags.
 * Returns its fd; -EINVAL, -ESHUTDOWN, -EMFILE, -ENFILE, -ENOMEM.
 */
static long umpsc_sender_fd(struct umpsc_handle *h,
			    const struct umpsc_role *role, unsigned long flags)
{
	struct umpsc_channel *ch = h->ch;
	struct file *file;
	int fd, err = 0;

	if (!umpsc_file_flags_ok(flags))
		return -EINVAL;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	file = umpsc_file_new(role, h->node, flags);
	if (IS_ERR(file)) {
		err = PTR_ERR(file);
		goto err_fd;
	}
	/* Joining comes last: it can end a node's hold for good. */
	if (role == &umpsc_weak_role)
		umpsc_weak_join(ch);
	else
		err = umpsc_sender_join(ch);
	if (err)
		goto err_file;
	umpsc_file_bind(file, umpsc_channel_get(ch));
	fd_install(fd, file);
	return fd;

err_file:
	fput(file);
err_fd:
	put_unused_fd(fd);
	return err;
}

/* ---- Calls on every handle ---------------------------------------------- */

/*
 * Copy an output-only structure: what both sides know of it, and zeroes where the
 * caller knows more.
 */
static long umpsc_copy_out(void __user *to, size_t to_size, const void *from,
			   size_t size)
{
	if (copy_to_user(to, from, min(size, to_size)))
		return -EFAULT;
	if (to_size > size && clear_user(to + size, to_size - size))
		return -EFAULT;
	return 0;
}

/* Copy an input structure, see copy_struct_from_user(); @min: its first version. */
static __always_inline long umpsc_copy_in(void *to, size_t size, size_t min,
					  const void __user *from,
					  size_t from_size)
{
	/* As nearly all callers have it; its size is known to the compiler. */
	if (likely(from_size == size))
		return copy_from_user(to, from, size) ? -EFAULT : 0;
	if (from_size < min)
		return -EINVAL;
	return copy_struct_from_user(to, size, from, from_size);
}

static long umpsc_ioctl_query(void __user *arg, size_t size)
{
	struct umpsc_query query = {
		.abi = UMPSC_ABI_VERSION,
		.nodes_max = UMPSC_NODES_MAX,
		.features = UMPSC_FEATURE_TIMESTAMP | UMPSC_FEATURE_STANDING |
			    UMPSC_FEATURE_LIMITS | UMPSC_FEATURE_CREDS,
		.nodes = READ_ONCE(umpsc_nodes_count),
	};

	umpsc_core_query(&query);
	return umpsc_copy_out(arg, size, &query, sizeof(query));
}

static u32 umpsc_file_role(struct file *file)
{
	if (file->f_op == &umpsc_sender_fops)
		return UMPSC_ROLE_SENDER;
	if (file->f_op == &umpsc_weak_fops)
		return UMPSC_ROLE_WEAK;
	if (file->f_op == &umpsc_receiver_fops)
		return UMPSC_ROLE_RECEIVER;
	return UMPSC_ROLE_MANAGER;
}

/* The channel of @h, or of a manager's node; for the caller to put, or NULL. */
static struct umpsc_channel *umpsc_handle_channel(struct umpsc_handle *h)
{
	if (h->ch)
		return umpsc_channel_get(h->ch);
	return umpsc_node_current(h->node);
}

static int umpsc_file_info(struct file *file, struct umpsc_info *info)
{
	struct umpsc_handle *h = file->private_data;
	struct umpsc_channel *ch;

	memset(info, 0, sizeof(*info));
	info->role = umpsc_file_role(file);
	info->handle = h->id;

	ch = umpsc_handle_channel(h);
	if (IS_ERR(ch))
		return PTR_ERR(ch);
	if (ch) {
		umpsc_channel_info(ch, info);
		umpsc_channel_put(ch);
	}
	return 0;
}

static long umpsc_ioctl_info(struct file *file, void __user *arg, size_t size)
{
	struct umpsc_info info;
	int err;

	err = umpsc_file_info(file, &info);
	if (err)
		return err;
	return umpsc_copy_out(arg, size, &info, sizeof(info));
}

static bool umpsc_file_is_ours(struct file *file)
{
	return file->f_op == &umpsc_manager_fops ||
	       file->f_op == &umpsc_sender_fops ||
	       file->f_op == &umpsc_weak_fops ||
	       file->f_op == &umpsc_receiver_fops;
}

/* The channel for SAME: none at all where there is none to lead to. */
static struct umpsc_channel *umpsc_file_channel(struct file *file)
{
	struct umpsc_channel *ch;

	if (!umpsc_file_is_ours(file))
		return NULL;
	ch = umpsc_handle_channel(file->private_data);
	return IS_ERR(ch) ? NULL : ch;
}

static long umpsc_ioctl_same(struct file *file, unsigned long arg)
{
	struct umpsc_channel *a, *b;
	struct file *other;
	bool same;

	if (arg > INT_MAX)
		return -EBADF;
	other = fget(arg);
	if (!other)
		return -EBADF;
	a = umpsc_file_channel(file);
	b = umpsc_file_channel(other);
	same = a && a == b;
	if (a)
		umpsc_channel_put(a);
	if (b)
		umpsc_channel_put(b);
	fput(other);
	return same;
}

/*
 * A command by type, number and direction; the size is the caller's version of the
 * structure.
 */
#define UMPSC_CMD(cmd) ((cmd) & ~(unsigned int)IOCSIZE_MASK)

static long umpsc_ioctl_any(struct file *file, unsigned int cmd,
			    unsigned long arg)
{
	void __user *uarg = (void __user *)arg;

	switch (UMPSC_CMD(cmd)) {
	case UMPSC_CMD(UMPSC_IOC_QUERY):
		return umpsc_ioctl_query(uarg, _IOC_SIZE(cmd));
	case UMPSC_CMD(UMPSC_IOC_INFO):
		return umpsc_ioctl_info(file, uarg, _IOC_SIZE(cmd));
	case UMPSC_CMD(UMPSC_IOC_SAME):
		return umpsc_ioctl_same(file, arg);
	default:
		return -ENOTTY;
	}
}

static void umpsc_show_fdinfo(struct seq_file *m, struct file *file)
{
	static const char *const roles[] = {
		[UMPSC_ROLE_MANAGER] = "manager",
		[UMPSC_ROLE_SENDER] = "sender",
		[UMPSC_ROLE_WEAK] = "weak",
		[UMPSC_ROLE_RECEIVER] = "receiver",
	};
	/* By the bits of umpsc_info.state. */
	static const char *const states[] = {
		"closed", "receiver-gone", "claimed", "standing", "ended",
	};
	struct umpsc_handle *h = file->private_data;
	struct umpsc_info info;
	const char *separator = "";
	size_t i;

	/* A removed node leaves its manager with zeroes. */
	(void)umpsc_file_info(file, &info);

	seq_printf(m, "umpsc-role:\t%s\n", roles[info.role]);
	if (h->node)
		seq_printf(m, "umpsc-node:\t%s\n", dev_name(&h->node->dev));
	seq_puts(m, "umpsc-state:\t");
	for (i = 0; i < ARRAY_SIZE(states); i++) {
		if (!(info.state & BIT(i)))
			continue;
		seq_printf(m, "%s%s", separator, states[i]);
		separator = " ";
	}
	seq_putc(m, '\n');
	seq_printf(m, "umpsc-flags:\t%u\n", info.flags);

#define UMPSC_SHOW(name, value) \
	seq_printf(m, "umpsc-" name ":\t%llu\n", info.value)
	UMPSC_SHOW("channel", channel);
	UMPSC_SHOW("generation", generation);
	UMPSC_SHOW("handle", handle);
	UMPSC_SHOW("messages", messages);
	UMPSC_SHOW("bytes", bytes);
	UMPSC_SHOW("strong", strong);
	UMPSC_SHOW("weak", weak);
	UMPSC_SHOW("sent", sent);
	UMPSC_SHOW("sent-bytes", sent_bytes);
	UMPSC_SHOW("received", received);
	UMPSC_SHOW("received-bytes", received_bytes);
	UMPSC_SHOW("discarded", discarded);
	UMPSC_SHOW("refused-closed", refused_closed);
	UMPSC_SHOW("refused-size", refused_size);
	UMPSC_SHOW("refused-limit", refused_limit);
	UMPSC_SHOW("refused-quota", refused_quota);
	UMPSC_SHOW("refused-memory", refused_memory);
	UMPSC_SHOW("most-messages", most_messages);
	UMPSC_SHOW("most-bytes", most_bytes);
	UMPSC_SHOW("memory", memory);
	UMPSC_SHOW("wakeups", wakeups);
	UMPSC_SHOW("oldest-ns", oldest_ns);
	UMPSC_SHOW("limit-len", limits.max_len);
	UMPSC_SHOW("limit-msgs", limits.max_msgs);
	UMPSC_SHOW("limit-bytes", limits.max_bytes);
#undef UMPSC_SHOW
}

/* ---- The manager ------------------------------------------------------- */

static long umpsc_ioctl_channel(void __user *arg, size_t size)
{
	struct file *receiver, *sender;
	struct umpsc_channel_args args;
	struct umpsc_channel *ch;
	long err;

	static_assert(sizeof(args) == _IOC_SIZE(UMPSC_IOC_CHANNEL));

	err = umpsc_copy_in(&args, sizeof(args), sizeof(args), arg, size);
	if (err)
		return err;
	if (args.flags & ~UMPSC_CHANNEL_FLAGS || args.pad ||
	    !umpsc_file_flags_ok(args.receiver_flags) ||
	    !umpsc_file_flags_ok(args.sender_flags))
		return -EINVAL;

	args.receiver_fd = get_unused_fd_flags(O_CLOEXEC);
	if (args.receiver_fd < 0)
		return args.receiver_fd;
	args.sender_fd = get_unused_fd_flags(O_CLOEXEC);
	if (args.sender_fd < 0) {
		err = args.sender_fd;
		goto err_receiver_fd;
	}
	receiver =
		umpsc_file_new(&umpsc_receiver_role, NULL, args.receiver_flags);
	err = PTR_ERR_OR_ZERO(receiver);
	if (err)
		goto err_sender_fd;
	sender = umpsc_file_new(&umpsc_sender_role, NULL, args.sender_flags);
	err = PTR_ERR_OR_ZERO(sender);
	if (err)
		goto err_receiver;
	ch = umpsc_channel_new(UMPSC_LIFE_PRIVATE, args.flags, &args.limits, 0,
			       NULL);
	err = PTR_ERR_OR_ZERO(ch);
	if (err)
		goto err_sender;
	err = umpsc_copy_out(arg, sizeof(args), &args, sizeof(args));
	if (err)
		goto err_channel;

	umpsc_file_bind(receiver, ch);
	umpsc_file_bind(sender, umpsc_channel_get(ch));
	fd_install(args.receiver_fd, receiver);
	fd_install(args.sender_fd, sender);
	return 0;

err_channel:
	umpsc_channel_put(ch);
err_sender:
	fput(sender);
err_receiver:
	fput(receiver);
err_sender_fd:
	put_unused_fd(args.sender_fd);
err_receiver_fd:
	put_unused_fd(args.receiver_fd);
	return err;
}

static long umpsc_ioctl_create(void __user *arg, size_t size)
{
	struct umpsc_create_args args;
	kuid_t uid;
	kgid_t gid;
	int minor;
	long err;

	static_assert(sizeof(args) == _IOC_SIZE(UMPSC_IOC_CREATE));

	err = umpsc_copy_in(&args, sizeof(args), sizeof(args), arg, size);
	if (err)
		return err;
	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	uid = make_kuid(current_user_ns(), args.uid);
	gid = make_kgid(current_user_ns(), args.gid);
	if (!umpsc_name_ok(args.name) || args.mode & ~0777U ||
	    args.flags & ~(UMPSC_CHANNEL_FLAGS | UMPSC_STANDING) ||
	    !uid_valid(uid) || !gid_valid(gid))
		return -EINVAL;

	minor = umpsc_node_create(&args, uid, gid, true);
	if (minor < 0)
		return minor;
	args.major = MAJOR(umpsc_region);
	args.minor = minor;
	err = umpsc_copy_out(arg, sizeof(args), &args, sizeof(args));
	if (err)
		umpsc_node_uncreate(minor);
	return err;
}

static long umpsc_ioctl_remove(void __user *arg, size_t size)
{
	struct umpsc_remove_args args;
	long err;

	static_assert(sizeof(args) == _IOC_SIZE(UMPSC_IOC_REMOVE));

	err = umpsc_copy_in(&args, sizeof(args), sizeof(args), arg, size);
	if (err)
		return err;
	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	if (args.flags || args.pad)
		return -EINVAL;
	if (!memchr_inv(args.name, 0, sizeof(args.name)))
		return -EPERM;
	if (!umpsc_name_ok(args.name))
		return -EINVAL;

	return umpsc_node_remove(args.name);
}

static long umpsc_manager_ioctl(struct file *file, unsigned int cmd,
				unsigned long arg)
{
	void __user *uarg = (void __user *)arg;

	switch (UMPSC_CMD(cmd)) {
	case UMPSC_CMD(UMPSC_IOC_CHANNEL):
		return umpsc_ioctl_channel(uarg, _IOC_SIZE(cmd));
	case UMPSC_CMD(UMPSC_IOC_CREATE):
		return umpsc_ioctl_create(uarg, _IOC_SIZE(cmd));
	case UMPSC_CMD(UMPSC_IOC_REMOVE):
		return umpsc_ioctl_remove(uarg, _IOC_SIZE(cmd));
	default:
		return umpsc_ioctl_any(file, cmd, arg);
	}
}

static __poll_t umpsc_manager_poll(struct file *file,
				   struct poll_table_struct *pt)
{
	return EPOLLERR;
}

static const struct file_operations umpsc_manager_fops = {
	.owner = THIS_MODULE,
	.release = umpsc_manager_release,
	.poll = umpsc_manager_poll,
	.unlocked_ioctl = umpsc_manager_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.show_fdinfo = umpsc_show_fdinfo,
};

/* ---- The sender -------------------------------------------------------- */

/* What write(2) takes; writev(2) and io_uring go by the one below. */
static ssize_t umpsc_sender_write(struct file *file, const char __user *buf,
				  size_t len, loff_t *ppos)
{
	struct umpsc_handle *h = file->private_data;
	struct iov_iter from __uninitialized;

	if (!len)
		return 0;
	iov_iter_ubuf(&from, ITER_SOURCE, (void __user *)buf, len);
	return umpsc_send(h->ch, h->id, &from);
}

static ssize_t umpsc_sender_write_iter(struct kiocb *iocb,
				       struct iov_iter *from)
{
	struct umpsc_handle *h = iocb->ki_filp->private_data;

	if (!iov_iter_count(from))
		return 0;
	return umpsc_send(h->ch, h->id, from);
}

static __poll_t umpsc_sender_file_poll(struct file *file,
				       struct poll_table_struct *pt)
{
	struct umpsc_handle *h = file->private_data;

	poll_wait(file, umpsc_sender_wait_queue(h->ch), pt);
	return umpsc_sender_poll(h->ch);
}

static long umpsc_ioctl_send(struct umpsc_handle *h, void __user *arg,
			     size_t size)
{
	struct umpsc_send_args args;
	struct iov_iter from;
	long err;

	static_assert(sizeof(args) == _IOC_SIZE(UMPSC_IOC_SEND));

	err = umpsc_copy_in(&args, sizeof(args), sizeof(args), arg, size);
	if (err)
		return err;
	if (args.flags || args.pad)
		return -EINVAL;
	if (args.len > SIZE_MAX)
		return -EMSGSIZE;
	iov_iter_ubuf(&from, ITER_SOURCE, u64_to_user_ptr(args.addr), args.len);
	return umpsc_send_batch(h->ch, h->id, &from);
}

static long umpsc_sender_ioctl(struct file *file, unsigned int cmd,
			       unsigned long arg)
{
	struct umpsc_handle *h = file->private_data;

	switch (UMPSC_CMD(cmd)) {
	case UMPSC_CMD(UMPSC_IOC_SEND):
		return umpsc_ioctl_send(h, (void __user *)arg, _IOC_SIZE(cmd));
	case UMPSC_CMD(UMPSC_IOC_CLONE):
		return umpsc_sender_fd(h, &umpsc_sender_role, arg);
	case UMPSC_CMD(UMPSC_IOC_DOWNGRADE):
		return umpsc_sender_fd(h, &umpsc_weak_role, arg);
	default:
		return umpsc_ioctl_any(file, cmd, arg);
	}
}

static const struct file_operations umpsc_sender_fops = {
	.owner = THIS_MODULE,
	.release = umpsc_sender_release,
	.write = umpsc_sender_write,
	.write_iter = umpsc_sender_write_iter,
	.poll = umpsc_sender_file_poll,
	.unlocked_ioctl = umpsc_sender_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.show_fdinfo = umpsc_show_fdinfo,
};

/* ---- The weak sender ---------------------------------------------------- */

static __poll_t umpsc_weak_file_poll(struct file *file,
				     struct poll_table_struct *pt)
{
	struct umpsc_handle *h = file->private_data;

	poll_wait(file, umpsc_sender_wait_queue(h->ch), pt);
	return umpsc_weak_poll(h->ch);
}

static long umpsc_weak_ioctl(struct file *file, unsigned int cmd,
			     unsigned long arg)
{
	struct umpsc_handle *h = file->private_data;

	switch (UMPSC_CMD(cmd)) {
	case UMPSC_CMD(UMPSC_IOC_CLONE):
		return umpsc_sender_fd(h, &umpsc_weak_role, arg);
	case UMPSC_CMD(UMPSC_IOC_UPGRADE):
		return umpsc_sender_fd(h, &umpsc_sender_role, arg);
	default:
		return umpsc_ioctl_any(file, cmd, arg);
	}
}

static const struct file_operations umpsc_weak_fops = {
	.owner = THIS_MODULE,
	.release = umpsc_weak_release,
	.poll = umpsc_weak_file_poll,
	.unlocked_ioctl = umpsc_weak_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.show_fdinfo = umpsc_show_fdinfo,
};

/* ---- The receiver ------------------------------------------------------ */

static enum umpsc_wait umpsc_file_wait(struct file *file)
{
	return file->f_flags & O_NONBLOCK ? UMPSC_NOWAIT : UMPSC_WAIT;
}

/* What read(2) takes; readv(2) and io_uring go by the one below. */
static ssize_t umpsc_receiver_read(struct file *file, char __user *buf,
				   size_t len, loff_t *ppos)
{
	struct umpsc_handle *h = file->private_data;
	struct iov_iter to __uninitialized;

	if (!len)
		return 0;
	iov_iter_ubuf(&to, ITER_DEST, buf, len);
	return umpsc_read(h->ch, &to, umpsc_file_wait(file));
}

static ssize_t umpsc_receiver_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	struct file *file = iocb->ki_filp;
	struct umpsc_handle *h = file->private_data;
	enum umpsc_wait wait = umpsc_file_wait(file);

	if (!iov_iter_count(to))
		return 0;
	if (iocb->ki_flags & IOCB_NOWAIT)
		wait = is_sync_kiocb(iocb) ? UMPSC_NOWAIT : UMPSC_NOWAIT_ASYNC;
	return umpsc_read(h->ch, to, wait);
}

static __poll_t umpsc_receiver_file_poll(struct file *file,
					 struct poll_table_struct *pt)
{
	struct umpsc_handle *h = file->private_data;

	poll_wait(file, umpsc_receiver_wait_queue(h->ch), pt);
	return umpsc_receiver_poll(h->ch);
}

/* From CLOCK_MONOTONIC of the caller's time namespace to the kernel's own. */
static ktime_t umpsc_deadline(u64 ns)
{
	ktime_t deadline = min_t(u64, ns, KTIME_MAX);
	struct timespec64 ts = {};
	ktime_t offset;

	timens_add_monotonic(&ts);
	offset = timespec64_to_ktime(ts);
	if (offset < 0 && deadline > KTIME_MAX + offset)
		return KTIME_MAX;
	return max(deadline - offset, 0LL);
}

static long umpsc_ioctl_recv(struct file *file, void __user *arg, size_t size)
{
	struct umpsc_handle *h = file->private_data;
	struct umpsc_recv_args __user *uargs = arg;
	struct umpsc_take take __uninitialized;
	struct umpsc_recv_args args;
	ktime_t deadline, *until = NULL;
	struct iov_iter to;
	long ret, err;

	static_assert(sizeof(args) == _IOC_SIZE(UMPSC_IOC_RECV));

	ret = umpsc_copy_in(&args, sizeof(args), sizeof(args), arg, size);
	if (ret)
		return ret;
	take.used = 0;
	take.need = 0;
	if (args.flags) {
		ret = -EINVAL;
	} else if (args.max) {
		iov_iter_ubuf(&to, ITER_DEST, u64_to_user_ptr(args.addr),
			      min_t(u64, args.len, MAX_RW_COUNT));
		if (args.deadline_ns != UMPSC_NO_DEADLINE) {
			deadline = umpsc_deadline(args.deadline_ns);
			until = &deadline;
		}
		ret = umpsc_recv_begin(h->ch, &take, &to, args.max,
				       umpsc_file_wait(file), until);
	}
	if (ret == -EFAULT)
		return ret;

	/* While nothing is taken yet. */
	if (put_user(take.used, &uargs->used) ||
	    put_user(take.need, &uargs->need)) {
		if (ret > 0)
			umpsc_recv_abort(h->ch);
		return -EFAULT;
	}
	if (ret > 0) {
		err = umpsc_recv_commit(h->ch, &take);
		if (err)
			return err;
	}
	return ret;
}

static long umpsc_ioctl_close(struct umpsc_handle *h)
{
	umpsc_receiver_close(h->ch);
	return 0;
}

static long umpsc_ioctl_fionread(struct umpsc_handle *h, int __user *arg)
{
	int len;

	len = umpsc_receiver_unread(h->ch);
	if (len < 0)
		return len;
	return put_user(len, arg);
}

static long umpsc_receiver_ioctl(struct file *file, unsigned int cmd,
				 unsigned long arg)
{
	struct umpsc_handle *h = file->private_data;

	if (cmd == FIONREAD)
		return umpsc_ioctl_fionread(h, (int __user *)arg);

	switch (UMPSC_CMD(cmd)) {
	case UMPSC_CMD(UMPSC_IOC_RECV):
		return umpsc_ioctl_recv(file, (void __user *)arg,
					_IOC_SIZE(cmd));
	case UMPSC_CMD(UMPSC_IOC_CLOSE):
		return umpsc_ioctl_close(h);
	case UMPSC_CMD(UMPSC_IOC_SENDER):
		return umpsc_sender_fd(h, &umpsc_sender_role, arg);
	default:
		return umpsc_ioctl_any(file, cmd, arg);
	}
}

static const struct file_operations umpsc_receiver_fops = {
	.owner = THIS_MODULE,
	.release = umpsc_receiver_release,
	.read = umpsc_receiver_read,
	.read_iter = umpsc_receiver_read_iter,
	.poll = umpsc_receiver_file_poll,
	.unlocked_ioctl = umpsc_receiver_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.show_fdinfo = umpsc_show_fdinfo,
};

/* ---- Init and exit ------------------------------------------------------ */

static void umpsc_nodes_remove_all(void)
{
	struct umpsc_channel *ch;
	struct umpsc_node *node;
	int minor;

	mutex_lock(&umpsc_nodes_lock);
	idr_for_each_entry(&umpsc_nodes, node, minor) {
		ch = umpsc_node_detach_locked(node);
		/* Nobody can be waiting for the lock, and nothing is queued. */
		umpsc_node_abandon(ch);
	}
	mutex_unlock(&umpsc_nodes_lock);
	idr_destroy(&umpsc_nodes);
}

/* One item of channels=, which is taken apart: NAME or NAME:standing. */
static int __init umpsc_node_parse(char *item, struct umpsc_create_args *args)
{
	char *flag = strchr(item, ':');

	if (flag) {
		*flag++ = '\0';
		if (strcmp(flag, "standing"))
			return -EINVAL;
		args->flags |= UMPSC_STANDING;
	}
	if (strscpy(args->name, item, sizeof(args->name)) < 0 ||
	    !umpsc_name_ok(args->name))
		return -EINVAL;
	return 0;
}

/* /dev/umpsc, and what the module parameters ask for. */
static int __init umpsc_nodes_load(void)
{
	struct umpsc_create_args args = { .mode = umpsc_mode_param };
	kuid_t uid = make_kuid(&init_user_ns, umpsc_uid_param);
	kgid_t gid = make_kgid(&init_user_ns, umpsc_gid_param);
	char *list, *rest, *item;
	int err;

	if (umpsc_mode_param & ~0777 || !uid_valid(uid) || !gid_valid(gid)) {
		pr_err("mode, uid or gid is not one\n");
		return -EINVAL;
	}
	err = umpsc_node_create(&args, uid, gid, umpsc_mailbox_param);
	if (err < 0)
		return err;
	/* Where the last load's nodes left off is not known: far from there, most likely. */
	idr_set_cursor(&umpsc_nodes, 1 + get_random_u32() % (UMPSC_MINORS - 1));
	if (!*umpsc_channels_param)
		return 0;

	list = kstrdup(umpsc_channels_param, GFP_KERNEL);
	if (!list)
		return -ENOMEM;
	rest = list;
	while ((item = strsep(&rest, ","))) {
		args = (struct umpsc_create_args){ .mode = umpsc_mode_param };
		err = umpsc_node_parse(item, &args);
		if (!err)
			err = umpsc_node_create(&args, uid, gid, true);
		if (err < 0) {
			pr_err("channels: no node '%s': error %d\n", item, err);
			break;
		}
	}
	kfree(list);
	/* modprobe takes EEXIST for "is loaded already", and is content. */
	return err == -EEXIST ? -EINVAL : min(err, 0);
}

/* The nodes that were made while loading can be opened. */
static void __init umpsc_nodes_announce(void)
{
	struct umpsc_node *node;
	int minor;

	mutex_lock(&umpsc_nodes_lock);
	umpsc_loading = false;
	idr_for_each_entry(&umpsc_nodes, node, minor) {
		if (!dev_get_uevent_suppress(&node->dev))
			continue;
		dev_set_uevent_suppress(&node->dev, 0);
		kobject_uevent(&node->dev.kobj, KOBJ_ADD);
	}
	mutex_unlock(&umpsc_nodes_lock);
}

static int __init umpsc_init(void)
{
	int err;

	err = umpsc_core_init();
	if (err)
		return err;
	err = alloc_chrdev_region(&umpsc_region, 0, UMPSC_MINORS, "umpsc");
	if (err)
		goto err_core;
	err = class_register(&umpsc_class);
	if (err)
		goto err_region;
	err = umpsc_nodes_load();
	if (err)
		goto err_nodes;
	/* Last: once a node can be opened, loading must not fail. */
	cdev_init(&umpsc_cdev, &umpsc_node_fops);
	umpsc_cdev.owner = THIS_MODULE;
	err = cdev_add(&umpsc_cdev, umpsc_region, UMPSC_MINORS);
	if (err)
		goto err_nodes;
	umpsc_nodes_announce();
	return 0;

err_nodes:
	umpsc_nodes_remove_all();
	class_unregister(&umpsc_class);
err_region:
	unregister_chrdev_region(umpsc_region, UMPSC_MINORS);
err_core:
	umpsc_core_exit();
	return err;
}

static void __exit umpsc_exit(void)
{
	cdev_del(&umpsc_cdev);
	umpsc_nodes_remove_all();
	class_unregister(&umpsc_class);
	unregister_chrdev_region(umpsc_region, UMPSC_MINORS);
	umpsc_core_exit();
}

module_init(umpsc_init);
module_exit(umpsc_exit);

MODULE_DESCRIPTION("Unbounded channels with many senders and one receiver");
MODULE_VERSION("0.1.0");
MODULE_LICENSE("GPL");
