// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test of consistency: two functions that belong together. The livepatch
 * vpatch_pair_lp replaces both. As long as each task is switched only outside
 * of them, the old outer function calls only the old inner one, and the new
 * outer one only the new.
 *
 * Files in /sys/kernel/vpatch_pair:
 *
 *   control     (write) "start" starts a kernel thread on each online CPU that
 *               calls the outer function again and again, spins outside of it
 *               for as long, and calls schedule() ("vpatch_pair/CPU");
 *               EBUSY if they run. "stop" ends them, if they run
 *   call        (read) calls the outer function once, in the reader, and
 *               gives the version that ran: 1 or 2
 *   calls       (read) how often the outer function has been called
 *   violations  (read) how often it met the wrong inner function
 *   version     (read) of the outer function that ran last; 0 at first
 *
 * Unloading the module ends the threads.
 */
#include <linux/cpu.h>
#include <linux/err.h>
#include <linux/kobject.h>
#include <linux/kthread.h>
#include <linux/lockdep.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <linux/sysfs.h>

#include "vpatch_pair.h"

static struct vpatch_pair pair = {
	.inner = vpatch_pair_inner,
};

/* Protects workers and running. */
static DEFINE_MUTEX(pair_lock);
static DEFINE_PER_CPU(struct task_struct *, workers);
static bool running;

noinline __noclone int vpatch_pair_inner(void)
{
	return 1;
}

noinline __noclone int vpatch_pair_outer(struct vpatch_pair *p)
{
	return vpatch_pair_work(p, 1);
}

/* As long as a call takes: where the host may switch a worker. */
static void pair_rest(void)
{
	u64 end = ktime_get_ns() + VPATCH_PAIR_ROUNDS * VPATCH_PAIR_ROUND_NS;

	while (ktime_get_ns() < end)
		cpu_relax();
}

static int pair_thread(void *unused)
{
	while (!kthread_should_stop()) {
		vpatch_pair_outer(&pair);
		pair_rest();
		/*
		 * An unpatch transition ends with a wait for RCU tasks. From
		 * Linux 6.4 on cond_resched() would move the thread itself.
		 */
		schedule();
	}

	return 0;
}

static void pair_stop(void)
{
	int cpu;

	lockdep_assert_held(&pair_lock);

	for_each_possible_cpu(cpu) {
		if (!per_cpu(workers, cpu))
			continue;
		kthread_stop(per_cpu(workers, cpu));
		per_cpu(workers, cpu) = NULL;
	}
	running = false;
}

static int pair_start(void)
{
	struct task_struct *task;
	int ret = 0;
	int cpu;

	lockdep_assert_held(&pair_lock);

	if (running)
		return -EBUSY;

	cpus_read_lock();
	for_each_online_cpu(cpu) {
		task = kthread_create(pair_thread, NULL, "vpatch_pair/%d", cpu);
		if (IS_ERR(task)) {
			ret = PTR_ERR(task);
			break;
		}
		kthread_bind(task, cpu);
		per_cpu(workers, cpu) = task;
		wake_up_process(task);
	}
	cpus_read_unlock();
	running = true;
	if (ret)
		pair_stop();

	return ret;
}

static ssize_t control_store(struct kobject *kobj, struct kobj_attribute *attr,
			     const char *buf, size_t count)
{
	int ret = 0;

	mutex_lock(&pair_lock);
	if (sysfs_streq(buf, "start"))
		ret = pair_start();
	else if (sysfs_streq(buf, "stop"))
		pair_stop();
	else
		ret = -EINVAL;
	mutex_unlock(&pair_lock);

	return ret ? ret : count;
}

static struct kobj_attribute control_attr = __ATTR_WO(control);

static ssize_t call_show(struct kobject *kobj, struct kobj_attribute *attr,
			 char *buf)
{
	return sysfs_emit(buf, "%d\n", vpatch_pair_outer(&pair));
}

static struct kobj_attribute call_attr = __ATTR_RO(call);

static ssize_t calls_show(struct kobject *kobj, struct kobj_attribute *attr,
			  char *buf)
{
	return sysfs_emit(buf, "%lld\n", atomic64_read(&pair.calls));
}

static struct kobj_attribute calls_attr = __ATTR_RO(calls);

static ssize_t violations_show(struct kobject *kobj,
			       struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%lld\n", atomic64_read(&pair.violations));
}

static struct kobj_attribute violations_attr = __ATTR_RO(violations);

static ssize_t version_show(struct kobject *kobj, struct kobj_attribute *attr,
			    char *buf)
{
	return sysfs_emit(buf, "%d\n", READ_ONCE(pair.version));
}

static struct kobj_attribute version_attr = __ATTR_RO(version);

static struct attribute *pair_attrs[] = {
	&control_attr.attr,
	&call_attr.attr,
	&calls_attr.attr,
	&violations_attr.attr,
	&version_attr.attr,
	NULL
};

static const struct attribute_group pair_group = {
	.attrs = pair_attrs,
};

static struct kobject *pair_kobj;

static int __init vpatch_pair_init(void)
{
	int ret;

	pair_kobj = kobject_create_and_add("vpatch_pair", kernel_kobj);
	if (!pair_kobj)
		return -ENOMEM;

	ret = sysfs_create_group(pair_kobj, &pair_group);
	if (ret)
		kobject_put(pair_kobj);

	return ret;
}

static void __exit vpatch_pair_exit(void)
{
	/* Waits for the writers: nobody starts threads after that. */
	kobject_put(pair_kobj);

	mutex_lock(&pair_lock);
	pair_stop();
	mutex_unlock(&pair_lock);
}

module_init(vpatch_pair_init);
module_exit(vpatch_pair_exit);

MODULE_LICENSE("GPL");
MODULE_VERSION("1");
MODULE_DESCRIPTION("vpatch: two functions that only work together");
