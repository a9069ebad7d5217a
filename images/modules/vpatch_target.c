// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test target: functions to patch, and tasks that stay inside them on demand.
 *
 * Files in /sys/kernel/vpatch_target:
 *
 *   value    (read)  text from vpatch_target_value(): "original"
 *   state    (read)  tasks inside each function, for example
 *                    "sleeping=1 blocked=0 spinning=0"
 *   control  (write) one of these commands:
 *
 *     sleep                 the writer sleeps in vpatch_target_sleep(), in
 *                           TASK_INTERRUPTIBLE; a signal handled without
 *                           SA_RESTART ends it with EINTR, livepatch's sends
 *                           it out of the kernel and back in
 *     block                 the writer waits in vpatch_target_block(), in
 *                           TASK_UNINTERRUPTIBLE
 *     thread sleep          the same in a kernel thread, "vpt_sleep"
 *     thread block          the same in a kernel thread, "vpt_block"
 *     thread nap            "vpt_nap" sleeps in vpatch_target_nap(); any
 *                           wake-up ends it, after which it sleeps outside
 *     thread spin           "vpt_spin" spins in vpatch_target_spin() and
 *                           calls cond_resched()
 *     thread spin-schedule  "vpt_spin" spins and calls schedule()
 *     thread poll           "vpt_poll" spins and calls cond_resched(), in a
 *                           function that vpatch_target_lp does not change
 *     thread poll-schedule  "vpt_poll" spins there and calls schedule()
 *     thread spin-burst     "vpt_burst" spins in such a function, too, and
 *                           calls cond_resched() only each 40 ms
 *     release               lets all of them go and ends the threads
 *
 *   A thread command takes a CPU number as its last word to run there only.
 *   There is at most one thread of each name: a second one is EBUSY. A nap
 *   counts as sleeping; threads in functions not changed are not counted.
 *
 * Unloading the module releases everybody first.
 */
#include <linux/cpumask.h>
#include <linux/err.h>
#include <linux/kobject.h>
#include <linux/kstrtox.h>
#include <linux/ktime.h>
#include <linux/lockdep.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched/signal.h>
#include <linux/string.h>
#include <linux/sysfs.h>

#include "vpatch_target.h"

/* How long a burst keeps its CPU. */
#define TARGET_BURST_MS		40

enum target_mode {
	TARGET_SLEEP,
	TARGET_NAP,
	TARGET_BLOCK,
	TARGET_SPIN,
	TARGET_POLL,
	TARGET_BURST,
	TARGET_MODES
};

struct target_command {
	const char		*name;
	enum target_mode	mode;
	enum vpatch_spin	spin;
};

static const struct target_command thread_commands[] = {
	{ "sleep", TARGET_SLEEP },
	{ "block", TARGET_BLOCK },
	{ "nap", TARGET_NAP },
	{ "spin", TARGET_SPIN, VPATCH_SPIN_RESCHED },
	{ "spin-schedule", TARGET_SPIN, VPATCH_SPIN_SCHEDULE },
	{ "poll", TARGET_POLL, VPATCH_SPIN_RESCHED },
	{ "poll-schedule", TARGET_POLL, VPATCH_SPIN_SCHEDULE },
	{ "spin-burst", TARGET_BURST },
};

static const char * const thread_names[TARGET_MODES] = {
	[TARGET_SLEEP] = "vpt_sleep",
	[TARGET_NAP] = "vpt_nap",
	[TARGET_BLOCK] = "vpt_block",
	[TARGET_SPIN] = "vpt_spin",
	[TARGET_POLL] = "vpt_poll",
	[TARGET_BURST] = "vpt_burst",
};

static struct vpatch_hold hold = {
	.wait = __WAIT_QUEUE_HEAD_INITIALIZER(hold.wait),
	.epoch = ATOMIC_INIT(0),
};

static atomic_t inside[TARGET_MODES];

/**
 * struct target_thread - a kernel thread inside one of the functions
 * @task:	the thread, or NULL
 * @command:	what it does
 * @epoch:	the epoch in which it was started
 */
struct target_thread {
	struct task_struct		*task;
	const struct target_command	*command;
	int				epoch;
};

/* Protects threads[] and leaving, and each new epoch. */
static DEFINE_MUTEX(target_lock);
static struct target_thread threads[TARGET_MODES];
/* The module is being unloaded: nobody may enter any more. */
static bool leaving;

noinline __noclone ssize_t vpatch_target_value(char *buf)
{
	return sysfs_emit(buf, "original\n");
}

noinline __noclone int vpatch_target_sleep(struct vpatch_hold *h, int epoch)
{
	return vpatch_hold_sleep(h, epoch);
}

noinline __noclone int vpatch_target_nap(struct vpatch_hold *h, int epoch)
{
	vpatch_hold_nap(h, epoch);
	return 0;
}

noinline __noclone int vpatch_target_block(struct vpatch_hold *h, int epoch)
{
	vpatch_hold_block(h, epoch);
	return 0;
}

noinline __noclone int vpatch_target_spin(struct vpatch_hold *h, int epoch,
					  enum vpatch_spin how)
{
	vpatch_hold_spin(h, epoch, how);
	return 0;
}

/* These two are not replaced by vpatch_target_lp. */
static noinline __noclone void target_poll(int epoch, enum vpatch_spin how)
{
	vpatch_hold_spin(&hold, epoch, how);
}

static noinline __noclone void target_burst(int epoch)
{
	ktime_t end;

	while (vpatch_held(&hold, epoch)) {
		end = ktime_add_ms(ktime_get(), TARGET_BURST_MS);
		while (ktime_before(ktime_get(), end))
			cpu_relax();
		cond_resched();
	}
}

static int target_enter(const struct target_command *command, int epoch)
{
	int ret = 0;

	atomic_inc(&inside[command->mode]);
	switch (command->mode) {
	case TARGET_SLEEP:
		ret = vpatch_target_sleep(&hold, epoch);
		break;
	case TARGET_NAP:
		ret = vpatch_target_nap(&hold, epoch);
		break;
	case TARGET_BLOCK:
		ret = vpatch_target_block(&hold, epoch);
		break;
	case TARGET_SPIN:
		ret = vpatch_target_spin(&hold, epoch, command->spin);
		break;
	case TARGET_POLL:
		target_poll(epoch, command->spin);
		break;
	case TARGET_BURST:
		target_burst(epoch);
		break;
	case TARGET_MODES:
		break;
	}
	atomic_dec(&inside[command->mode]);

	return ret;
}

static int target_thread(void *data)
{
	const struct target_thread *thread = data;

	target_enter(thread->command, thread->epoch);
	/* Only the stop is left to come, whatever wakes the thread before. */
	for (;;) {
		set_current_state(TASK_INTERRUPTIBLE);
		if (kthread_should_stop())
			break;
		schedule();
	}
	__set_current_state(TASK_RUNNING);

	return 0;
}

static int target_start(const struct target_command *command, int cpu)
{
	struct target_thread *thread = &threads[command->mode];
	struct task_struct *task;

	lockdep_assert_held(&target_lock);

	if (thread->task)
		return -EBUSY;

	thread->command = command;
	thread->epoch = atomic_read(&hold.epoch);
	task = kthread_create(target_thread, thread, "%s",
			      thread_names[command->mode]);
	if (IS_ERR(task))
		return PTR_ERR(task);
	if (cpu >= 0)
		kthread_bind(task, cpu);
	thread->task = task;
	wake_up_process(task);

	return 0;
}

static void target_release(void)
{
	int i;

	lockdep_assert_held(&target_lock);

	atomic_inc(&hold.epoch);
	wake_up_all(&hold.wait);
	for (i = 0; i < TARGET_MODES; i++) {
		if (!threads[i].task)
			continue;
		kthread_stop(threads[i].task);
		threads[i].task = NULL;
	}
}

/* The writer itself goes in. */
static int target_enter_self(enum target_mode mode)
{
	const struct target_command command = { .mode = mode };
	int epoch;

	mutex_lock(&target_lock);
	epoch = atomic_read(&hold.epoch);
	if (leaving) {
		mutex_unlock(&target_lock);
		return -ENODEV;
	}
	mutex_unlock(&target_lock);

	return target_enter(&command, epoch);
}

/* @text: what follows the word "thread" */
static int target_thread_command(char *text)
{
	const char *name = strsep(&text, " ");
	int cpu = -1;
	int i, ret;

	if (text) {
		ret = kstrtoint(text, 10, &cpu);
		if (ret)
			return ret;
		if (cpu < 0 || cpu >= nr_cpu_ids || !cpu_online(cpu))
			return -EINVAL;
	}

	for (i = 0; i < ARRAY_SIZE(thread_commands); i++) {
		if (strcmp(name, thread_commands[i].name))
			continue;
		mutex_lock(&target_lock);
		ret = leaving ? -ENODEV : target_start(&thread_commands[i], cpu);
		mutex_unlock(&target_lock);
		return ret;
	}

	return -EINVAL;
}

static ssize_t control_store(struct kobject *kobj, struct kobj_attribute *attr,
			     const char *buf, size_t count)
{
	char text[32];
	char *command;
	int ret = 0;

	if (count >= sizeof(text))
		return -EINVAL;
	strscpy(text, buf, sizeof(text));
	command = strim(text);

	if (!strcmp(command, "sleep")) {
		ret = target_enter_self(TARGET_SLEEP);
	} else if (!strcmp(command, "block")) {
		ret = target_enter_self(TARGET_BLOCK);
	} else if (!strcmp(command, "release")) {
		mutex_lock(&target_lock);
		target_release();
		mutex_unlock(&target_lock);
	} else if (str_has_prefix(command, "thread ")) {
		ret = target_thread_command(command + strlen("thread "));
	} else {
		ret = -EINVAL;
	}

	return ret ? ret : count;
}

static struct kobj_attribute control_attr = __ATTR_WO(control);

static ssize_t value_show(struct kobject *kobj, struct kobj_attribute *attr,
			  char *buf)
{
	return vpatch_target_value(buf);
}

static struct kobj_attribute value_attr = __ATTR_RO(value);

static ssize_t state_show(struct kobject *kobj, struct kobj_attribute *attr,
			  char *buf)
{
	return sysfs_emit(buf, "sleeping=%d blocked=%d spinning=%d\n",
			  atomic_read(&inside[TARGET_SLEEP]) +
			  atomic_read(&inside[TARGET_NAP]),
			  atomic_read(&inside[TARGET_BLOCK]),
			  atomic_read(&inside[TARGET_SPIN]));
}

static struct kobj_attribute state_attr = __ATTR_RO(state);

static struct attribute *target_attrs[] = {
	&control_attr.attr,
	&value_attr.attr,
	&state_attr.attr,
	NULL
};

static const struct attribute_group target_group = {
	.attrs = target_attrs,
};

static struct kobject *target_kobj;

static int __init vpatch_target_init(void)
{
	int ret;

	target_kobj = kobject_create_and_add("vpatch_target", kernel_kobj);
	if (!target_kobj)
		return -ENOMEM;

	ret = sysfs_create_group(target_kobj, &target_group);
	if (ret)
		kobject_put(target_kobj);

	return ret;
}

static void __exit vpatch_target_exit(void)
{
	mutex_lock(&target_lock);
	leaving = true;
	target_release();
	mutex_unlock(&target_lock);

	/* Waits for the writers, who are on their way out. */
	kobject_put(target_kobj);
}

module_init(vpatch_target_init);
module_exit(vpatch_target_exit);

MODULE_LICENSE("GPL");
MODULE_VERSION("1");
MODULE_DESCRIPTION("vpatch: functions to patch, and tasks that stay in them");
