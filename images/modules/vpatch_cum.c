// SPDX-License-Identifier: GPL-2.0-only
/*
 * A family of cumulative livepatches, built more than once (see Kbuild): the
 * text vpatch_demo=cumVERSION at the end of /proc/cmdline, and a second line in
 * /proc/execdomains.
 *
 *   CUM_VERSION	version of the module and of its state
 *   CUM_CMDLINE_ONLY	a function less: /proc/execdomains is not changed
 *   CUM_STATE_TWICE	the state is listed twice
 *   CUM_STATELESS	no state: may be replaced by anything
 *   CUM_WARN		the kernel warns, ten seconds after the load
 *   CUM_LATE_WARN	it warns three seconds after the transition's end, by the
 *			work of a post-patch callback
 */
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/stringify.h>
#include <linux/workqueue.h>

#include "proc_text.h"

#define CUM_STATE	0x76700010
#define CUM_WORD	"vpatch_demo=cum" __stringify(CUM_VERSION)

/* The longest command line of x86 is 2048 bytes. */
static char cmdline[4096];

static int cum_cmdline_proc_show(struct seq_file *m, void *v)
{
	seq_printf(m, "%s " CUM_WORD "\n", cmdline);
	return 0;
}

#ifndef CUM_CMDLINE_ONLY
static int cum_execdomains_proc_show(struct seq_file *m, void *v)
{
	seq_puts(m, "0-0\tLinux           \t[kernel]\n");
	seq_puts(m, "0-0\t" CUM_WORD "\t[livepatch]\n");
	return 0;
}
#endif

static struct klp_func vmlinux_funcs[] = {
	{
		.old_name = "cmdline_proc_show",
		.new_func = cum_cmdline_proc_show,
	},
#ifndef CUM_CMDLINE_ONLY
	{
		.old_name = "execdomains_proc_show",
		.new_func = cum_execdomains_proc_show,
	},
#endif
	{ }
};

#if defined(CUM_WARN) || defined(CUM_LATE_WARN)
static void cum_warn(struct work_struct *work)
{
	WARN(1, KBUILD_MODNAME ": a warning, as this module is meant to\n");
}

static DECLARE_DELAYED_WORK(warn_work, cum_warn);

static void warn_after(unsigned int seconds)
{
	schedule_delayed_work(&warn_work, seconds * HZ);
}

static void warn_no_more(void)
{
	cancel_delayed_work_sync(&warn_work);
}
#else
static void warn_no_more(void)
{
}
#endif

static void cum_start(void)
{
#ifdef CUM_WARN
	/* Long enough for the host to have verified the patch. */
	warn_after(10);
#endif
}

#ifdef CUM_LATE_WARN
static void post_patch(struct klp_object *obj)
{
	warn_after(3);
}

/* Not called where another patch replaces this one: there the exit has to do. */
static void pre_unpatch(struct klp_object *obj)
{
	warn_no_more();
}

#define CALLBACKS { .post_patch = post_patch, .pre_unpatch = pre_unpatch }
#else
#define CALLBACKS { }
#endif

static struct klp_object objs[] = {
	{ .funcs = vmlinux_funcs, .callbacks = CALLBACKS },
	{ }
};

#ifndef CUM_STATELESS
static struct klp_state states[] = {
	{ .id = CUM_STATE, .version = CUM_VERSION },
#ifdef CUM_STATE_TWICE
	{ .id = CUM_STATE, .version = CUM_VERSION },
#endif
	{ }
};
#endif

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
#ifndef CUM_STATELESS
	.states = states,
#endif
	.replace = true,
};

static int __init vpatch_cum_init(void)
{
	int ret;

	ret = vpatch_proc_text("/proc/cmdline", " vpatch_demo=", cmdline,
			       sizeof(cmdline));
	if (ret)
		return ret;

	ret = klp_enable_patch(&patch);
	if (!ret)
		cum_start();

	return ret;
}

static void __exit vpatch_cum_exit(void)
{
	warn_no_more();
}

module_init(vpatch_cum_init);
module_exit(vpatch_cum_exit);

MODULE_LICENSE("GPL");
MODULE_VERSION(__stringify(CUM_VERSION));
MODULE_DESCRIPTION("vpatch: cumulative livepatch of a family");
MODULE_INFO(livepatch, "Y");
