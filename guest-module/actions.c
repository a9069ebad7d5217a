// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the host's commands do. The kernel exports neither its completion work
 * nor its count of retries: the host says where they are, and is believed only
 * if this kernel's own symbol table gives that address exactly that name.
 *
 * The functions are called one at a time, by vpatch_mailbox_serve().
 */
#include <linux/cpu.h>
#include <linux/cpumask.h>
#include <linux/ctype.h>
#include <linux/errno.h>
#include <linux/gfp.h>
#include <linux/kallsyms.h>
#include <linux/kstrtox.h>
#include <linux/mutex.h>
#include <linux/smp.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include <linux/workqueue.h>

#include "vpatch_guest.h"

/*
 * The kernel signals when its count of retries is a multiple of this: its
 * SIGNALS_TIMEOUT, in kernel/livepatch/transition.c.
 */
#define KLP_SIGNAL_COUNT	15

/* What sysfs shows; the lock protects all of it. */
static DEFINE_MUTEX(help_lock);
static struct vpatch_help help;
static char blockers[VPATCH_MAX_TEXT + 1];

/* Addresses found to be right. */
static struct delayed_work *klp_work;
static unsigned int *klp_signals;

/* True if the core kernel has an object @name of at least @size bytes there. */
static bool is_symbol(unsigned long address, const char *name, size_t size)
{
	static char text[KSYM_SYMBOL_LEN];
	unsigned long found;
	char *rest = text;

	/* "name+0xoffset/0xsize", and " [module]" for a module's */
	sprint_symbol(text, address);
	if (strcmp(strsep(&rest, "+"), name) || !rest)
		return false;
	if (strcmp(strsep(&rest, "/"), "0x0") || !rest)
		return false;

	return !kstrtoul(rest, 16, &found) && found >= size;
}

static struct delayed_work *find_work(u64 address)
{
	struct delayed_work *work = (struct delayed_work *)address;

	if (!address)
		return NULL;
	if (work == klp_work)
		return work;
	if (!is_symbol(address, "klp_transition_work", sizeof(*work)))
		return NULL;
	if (!is_symbol((unsigned long)READ_ONCE(work->work.func),
		       "klp_transition_work_fn", 1))
		return NULL;
	if (READ_ONCE(work->timer.function) != delayed_work_timer_fn)
		return NULL;
	klp_work = work;

	return work;
}

static unsigned int *find_signals(u64 address)
{
	unsigned int *signals = (unsigned int *)address;

	if (!address)
		return NULL;
	if (signals == klp_signals)
		return signals;
	if (!is_symbol(address, "klp_signals_cnt", sizeof(*signals)))
		return NULL;
	klp_signals = signals;

	return signals;
}

static void count(u32 *shown, u32 *counter)
{
	mutex_lock(&help_lock);
	++*shown;
	mutex_unlock(&help_lock);
	WRITE_ONCE(*counter, READ_ONCE(*counter) + 1);
}

static int start_work(struct delayed_work *work, u32 cpu)
{
	int ret = 0;

	cpus_read_lock();
	if (cpu == VPATCH_ANY_CPU)
		mod_delayed_work(system_highpri_wq, work, 0);
	else if (cpu >= nr_cpu_ids)
		ret = -EINVAL;
	else if (!cpu_online(cpu))
		ret = -ENODEV;
	else
		mod_delayed_work_on(cpu, system_highpri_wq, work, 0);
	cpus_read_unlock();

	if (!ret)
		count(&help.retries, &vpatch_mailbox.guest.retries);

	return ret;
}

/**
 * vpatch_action_retry() - run the kernel's completion work now
 * @command: with @work and @cpu
 *
 * Return: 0; -EINVAL for a wrong address or CPU; -ENODEV if that CPU is
 * offline; -EAGAIN if no transition runs
 */
int vpatch_action_retry(const struct vpatch_host_half *command)
{
	struct delayed_work *work = find_work(command->work);

	if (!work)
		return -EINVAL;
	if (!vpatch_transition_runs())
		return -EAGAIN;

	return start_work(work, command->cpu);
}

/**
 * vpatch_action_signal() - have the kernel signal the tasks not yet moved
 * @command: with @work and @signals
 *
 * The kernel's own write to the count may come between, a second time is then
 * needed.
 *
 * Return: 0; -EINVAL for a wrong address; -EAGAIN if no transition runs
 */
int vpatch_action_signal(const struct vpatch_host_half *command)
{
	struct delayed_work *work = find_work(command->work);
	unsigned int *signals = find_signals(command->signals);

	if (!work || !signals)
		return -EINVAL;
	if (!vpatch_transition_runs())
		return -EAGAIN;

	WRITE_ONCE(*signals, KLP_SIGNAL_COUNT);
	count(&help.signals, &vpatch_mailbox.guest.signals);

	return start_work(work, VPATCH_ANY_CPU);
}

static int copy_cpus(struct cpumask *mask, const u64 *cpus)
{
	unsigned int cpu;

	for (cpu = 0; cpu < VPATCH_MAX_CPUS; cpu++) {
		if (!(cpus[cpu / 64] & BIT_ULL(cpu % 64)))
			continue;
		if (cpu >= nr_cpu_ids)
			return -EINVAL;
		cpumask_set_cpu(cpu, mask);
	}

	return cpumask_empty(mask) ? -EINVAL : 0;
}

static void pass_exit(void *unused)
{
	/* The interrupt's end is what matters. */
}

/**
 * vpatch_action_resched() - have CPUs pass the kernel's exit or the idle loop
 * @command: with @cpus
 *
 * CPUs that are offline are left out.
 *
 * Return: 0; -EINVAL if no CPU is named, or one that cannot exist; -EAGAIN if
 * no transition runs; -ENOMEM
 */
int vpatch_action_resched(const struct vpatch_host_half *command)
{
	cpumask_var_t mask;
	int ret;

	if (!zalloc_cpumask_var(&mask, GFP_KERNEL))
		return -ENOMEM;

	ret = copy_cpus(mask, command->cpus);
	if (ret)
		goto out;
	if (!vpatch_transition_runs()) {
		ret = -EAGAIN;
		goto out;
	}

	/* Nothing finer is exported; CPUs that are not idle do not notice. */
	wake_up_all_idle_cpus();
	preempt_disable();
	/* Waits, so that no CPU is in pass_exit() when the module goes. */
	smp_call_function_many(mask, pass_exit, NULL, true);
	preempt_enable();
	WRITE_ONCE(vpatch_mailbox.guest.rescheds,
		   READ_ONCE(vpatch_mailbox.guest.rescheds) + 1);
out:
	free_cpumask_var(mask);

	return ret;
}

static bool is_text(const char *text, size_t size)
{
	size_t i;

	for (i = 0; i < size; i++) {
		if (text[i] != '\n' && (!isascii(text[i]) || !isprint(text[i])))
			return false;
	}

	return true;
}

/**
 * vpatch_action_report() - show what the host tells with any command
 * @command: with @switched, @last_pause_us, @text and @text_size
 *
 * Return: 0; -EINVAL if the text is too long or not printable ASCII
 */
int vpatch_action_report(const struct vpatch_host_half *command)
{
	u32 size = command->text_size;

	if (size > VPATCH_MAX_TEXT || !is_text(command->text, size))
		return -EINVAL;

	mutex_lock(&help_lock);
	help.switched = command->switched;
	help.last_pause_us = command->last_pause_us;
	memcpy(blockers, command->text, size);
	blockers[size] = '\0';
	mutex_unlock(&help_lock);

	return 0;
}

/**
 * vpatch_help_reset() - a transition starts: nobody has helped it yet
 */
void vpatch_help_reset(void)
{
	mutex_lock(&help_lock);
	help.retries = 0;
	help.signals = 0;
	help.switched = 0;
	help.last_pause_us = 0;
	blockers[0] = '\0';
	mutex_unlock(&help_lock);
}

/**
 * vpatch_help_read() - how the running or the last transition was helped
 * @copy: filled in
 */
void vpatch_help_read(struct vpatch_help *copy)
{
	mutex_lock(&help_lock);
	*copy = help;
	mutex_unlock(&help_lock);
}

/**
 * vpatch_help_emit_blockers() - the host's text
 * @buf: a sysfs file's
 *
 * Return: bytes written, at least the newline
 */
int vpatch_help_emit_blockers(char *buf)
{
	size_t len;
	int ret;

	mutex_lock(&help_lock);
	len = strlen(blockers);
	ret = sysfs_emit(buf, "%s%s", blockers,
			 len && blockers[len - 1] == '\n' ? "" : "\n");
	mutex_unlock(&help_lock);

	return ret;
}
