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
 *   CUM_WARN		the kernel warns, some seconds after the load
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

static struct klp_object objs[] = {
	{ .funcs = vmlinux_funcs },
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

#ifdef CUM_WARN
/* Long enough for the host to have verified the patch. */
#define CUM_WARN_AFTER	(10 * HZ)

static void cum_warn(struct work_struct *work)
{
	WARN(1, KBUILD_MODNAME ": a warning, as this module is meant to\n");
}

static DECLARE_DELAYED_WORK(warn_work, cum_warn);

static void cum_start(void)
{
	schedule_delayed_work(&warn_work, CUM_WARN_AFTER);
}

static void cum_stop(void)
{
	cancel_delayed_work_sync(&warn_work);
}
#else
static void cum_start(void)
{
}

static void cum_stop(void)
{
}
#endif

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
	cum_stop();
}

module_init(vpatch_cum_init);
module_exit(vpatch_cum_exit);

MODULE_LICENSE("GPL");
MODULE_VERSION(__stringify(CUM_VERSION));
MODULE_DESCRIPTION("vpatch: cumulative livepatch of a family");
MODULE_INFO(livepatch, "Y");
