/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What include/umpsc_queue.h needs of the kernel, for userspace
 *
 * The mapping is the kernel's own meaning in C11 terms, so that a sanitizer is told
 * nothing that is not so: acquire and release are these, WRITE_ONCE() is a relaxed
 * store, and the lock orders what its holders do and nothing else.  The lock knows
 * its holder, and lockdep_assert_held() aborts for anybody else.
 *
 * SHIM_MEASURE leaves nothing but what the kernel does: no perturbation, no holder.
 *
 * For a twin that has to be found out: BROKEN_LOCK makes the lock let everybody in.
 */
#ifndef _UMPSC_QUEUE_SHIM_H
#define _UMPSC_QUEUE_SHIM_H

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include <linux/types.h>

typedef __u32 u32;
typedef __u64 u64;

#define ____cacheline_aligned_in_smp __attribute__((aligned(64)))

/* The calling thread: the address is its name, the value its dice. */
static __thread u32 shim_self = 1;

static inline u32 shim_random(void)
{
	u32 x = shim_self;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	shim_self = x;
	return x;
}

static inline void shim_relax(void)
{
	__builtin_ia32_pause();
}

/* Called between the accesses that matter: now and then, leave time for others. */
static inline void shim_perturb(void)
{
#ifndef SHIM_MEASURE
	u32 dice = shim_random();
	u32 n;

	if (!(dice % 2048))
		sched_yield();
	else if (!(dice % 16))
		for (n = dice >> 25; n; n--)
			shim_relax();
#endif
}

/* Any load or store of the header that orders something. */
#define smp_load_acquire(p)                                              \
	({                                                               \
		__auto_type shim_at = (p);                               \
		__typeof__(*shim_at) shim_value;                         \
		shim_perturb();                                          \
		shim_value = __atomic_load_n(shim_at, __ATOMIC_ACQUIRE); \
		shim_perturb();                                          \
		shim_value;                                              \
	})

/* Its partner. */
#define smp_store_release(p, value)                           \
	do {                                                  \
		shim_perturb();                               \
		__atomic_store_n(p, value, __ATOMIC_RELEASE); \
	} while (0)

#define READ_ONCE(x) __atomic_load_n(&(x), __ATOMIC_RELAXED)

#define WRITE_ONCE(x, value)                                     \
	do {                                                     \
		shim_perturb();                                  \
		__atomic_store_n(&(x), value, __ATOMIC_RELAXED); \
	} while (0)

struct shim_lock {
	bool locked;
	const void *owner;
};

#define raw_spinlock_t struct shim_lock

static inline void raw_spin_lock_init(raw_spinlock_t *lock)
{
	lock->locked = false;
	lock->owner = NULL;
}

/* As in the kernel, the way that waits is out of line. */
static __attribute__((noinline, cold, unused)) void
shim_lock_slowpath(raw_spinlock_t *lock)
{
	unsigned int tries = 0;

	do {
		while (READ_ONCE(lock->locked)) {
			/* Its holder may have been preempted. */
			if (++tries % 64)
				shim_relax();
			else
				sched_yield();
		}
	} while (__atomic_exchange_n(&lock->locked, true, __ATOMIC_ACQUIRE));
}

static inline void raw_spin_lock(raw_spinlock_t *lock)
{
#ifndef BROKEN_LOCK
	if (__atomic_exchange_n(&lock->locked, true, __ATOMIC_ACQUIRE))
		shim_lock_slowpath(lock);
#endif
#ifndef SHIM_MEASURE
	__atomic_store_n(&lock->owner, &shim_self, __ATOMIC_RELAXED);
#endif
}

static inline bool raw_spin_trylock(raw_spinlock_t *lock)
{
#ifndef BROKEN_LOCK
	if (__atomic_exchange_n(&lock->locked, true, __ATOMIC_ACQUIRE))
		return false;
#endif
#ifndef SHIM_MEASURE
	__atomic_store_n(&lock->owner, &shim_self, __ATOMIC_RELAXED);
#endif
	return true;
}

static inline bool raw_spin_is_locked(raw_spinlock_t *lock)
{
	return READ_ONCE(lock->locked);
}

static inline bool shim_lock_is_held(raw_spinlock_t *lock)
{
#if defined(BROKEN_LOCK) || defined(SHIM_MEASURE)
	return true;
#endif
	return __atomic_load_n(&lock->owner, __ATOMIC_RELAXED) == &shim_self;
}

static inline void shim_assert(bool ok, const char *file, int line,
			       const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
	abort();
}

#define lockdep_assert_held(lock) \
	shim_assert(shim_lock_is_held(lock), __FILE__, __LINE__, "held: " #lock)

static inline void raw_spin_unlock(raw_spinlock_t *lock)
{
#ifndef SHIM_MEASURE
	lockdep_assert_held(lock);
	__atomic_store_n(&lock->owner, NULL, __ATOMIC_RELAXED);
#endif
	__atomic_store_n(&lock->locked, false, __ATOMIC_RELEASE);
}

/* There are no interrupts to turn off. */
#define raw_spin_lock_irqsave(lock, flags) \
	do {                               \
		(flags) = 0;               \
		raw_spin_lock(lock);       \
	} while (0)

#define raw_spin_trylock_irqsave(lock, flags) \
	((flags) = 0, raw_spin_trylock(lock))

#define raw_spin_unlock_irqrestore(lock, flags) \
	do {                                    \
		(void)(flags);                  \
		raw_spin_unlock(lock);          \
	} while (0)

#define cpu_relax() shim_relax()

#endif /* _UMPSC_QUEUE_SHIM_H */
