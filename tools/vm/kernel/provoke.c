// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bugs on purpose, one for each checker of the kernels that are built here, to see
 * that it speaks up.  insmod provoke.ko bug=NAME commits one, and fails.
 */
#include <linux/kernel.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/timer.h>

static char *bug = "";
module_param(bug, charp, 0);
MODULE_PARM_DESC(bug, "which one");

static int index = 4;
module_param(index, int, 0);
MODULE_PARM_DESC(index, "where there is nothing, in an array of 4");

static DEFINE_MUTEX(first);
static DEFINE_MUTEX(second);
static DEFINE_SPINLOCK(lock);
static int __rcu *pointer;
static int small[4];
static int shared;

static void kasan(void)
{
	char *p = kmalloc(24, GFP_KERNEL);

	if (p)
		WRITE_ONCE(p[24 + 4], 1);
	kfree(p);
}

static void ubsan(void)
{
	small[index] = 1;
}

static void leak(void)
{
	void *p = kmalloc(200, GFP_KERNEL);

	/* Nobody knows it any more. */
	OPTIMIZER_HIDE_VAR(p);
}

static void rcu(void)
{
	(void)rcu_dereference(pointer);
}

static void sleep(void)
{
	spin_lock(&lock);
	might_sleep();
	spin_unlock(&lock);
}

static void timer_run(struct timer_list *timer)
{
}

static void object(void)
{
	struct timer_list *timer = kzalloc(sizeof(*timer), GFP_KERNEL);

	if (!timer)
		return;
	timer_setup(timer, timer_run, 0);
	timer->expires = jiffies + 1000 * HZ;
	add_timer(timer);
	kfree(timer);
}

static void locks(void)
{
	mutex_lock(&first);
	mutex_lock(&second);
	mutex_unlock(&second);
	mutex_unlock(&first);

	mutex_lock(&second);
	mutex_lock(&first);
	mutex_unlock(&first);
	mutex_unlock(&second);
}

static int race_run(void *unused)
{
	while (!kthread_should_stop()) {
		shared++;
		cond_resched();
	}
	return 0;
}

static void race(void)
{
	struct task_struct *other = kthread_run(race_run, NULL, "race");
	unsigned long until = jiffies + 5 * HZ;

	if (IS_ERR(other))
		return;
	while (time_before(jiffies, until)) {
		shared++;
		cond_resched();
	}
	kthread_stop(other);
}

static const struct {
	const char *name;
	void (*commit)(void);
} bugs[] = {
	{ "kasan", kasan }, { "ubsan", ubsan }, { "leak", leak },
	{ "rcu", rcu },	    { "sleep", sleep }, { "object", object },
	{ "lock", locks },  { "race", race },
};

static int __init provoke_init(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bugs); i++) {
		if (strcmp(bugs[i].name, bug))
			continue;
		pr_info("provoke: %s\n", bug);
		bugs[i].commit();
		return -ECANCELED;
	}
	return -EINVAL;
}
module_init(provoke_init);

MODULE_DESCRIPTION("Bugs on purpose");
MODULE_LICENSE("GPL");
