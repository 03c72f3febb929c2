/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Differences between kernel versions, in the spelling of the newest one.
 *
 * Included ahead of everything else by Kbuild; no other file asks for a version.
 */
#ifndef _UMPSC_COMPAT_H
#define _UMPSC_COMPAT_H

#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 1, 0)
#error "umpsc needs Linux 6.1 or newer"
#endif

#ifndef CONFIG_64BIT
#error "umpsc needs a 64-bit kernel (32-bit programs are fine)"
#endif

/* SPARE: an xchg() and a plain store of one word never fall into each other. */
#ifndef CONFIG_ARCH_SUPPORTS_ATOMIC_RMW
#error "umpsc needs a machine that has an atomic exchange"
#endif

/*
 * User copies that check the user's side only are exported where they are out of line;
 * elsewhere they take the way that checks the kernel's object, too.
 */
#ifdef CONFIG_X86_64
#define umpsc_copy_from_user _copy_from_user
#define umpsc_copy_to_user _copy_to_user
#else
#define umpsc_copy_from_user copy_from_user
#define umpsc_copy_to_user copy_to_user
#endif

/* struct device_type's devnode() takes a const device since 6.2. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define UMPSC_DEVNODE_CONST
#else
#define UMPSC_DEVNODE_CONST const
#endif

#endif /* _UMPSC_COMPAT_H */
