// SPDX-License-Identifier: GPL-2.0-only
/*
 * Demo, second version: replaces the first. /proc/cmdline ends in vpatch_demo=2,
 * and /proc/execdomains has a second line. It carries a state, so the kernel
 * refuses to load the first version on top of it.
 */
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>

#include "proc_text.h"

/* The longest command line of x86 is 2048 bytes. */
static char cmdline[4096];

static int demo_cmdline_proc_show(struct seq_file *m, void *v)
{
	seq_printf(m, "%s vpatch_demo=2\n", cmdline);
	return 0;
}

static int demo_execdomains_proc_show(struct seq_file *m, void *v)
{
	seq_puts(m, "0-0\tLinux           \t[kernel]\n");
	seq_puts(m, "0-0\tvpatch_demo=2   \t[livepatch]\n");
	return 0;
}

static struct klp_func vmlinux_funcs[] = {
	{
		.old_name = "cmdline_proc_show",
		.new_func = demo_cmdline_proc_show,
	},
	{
		.old_name = "execdomains_proc_show",
		.new_func = demo_execdomains_proc_show,
	},
	{ }
};

static struct klp_object objs[] = {
	{ .funcs = vmlinux_funcs },
	{ }
};

#define VPATCH_DEMO_STATE	0x76700001

static struct klp_state states[] = {
	{ .id = VPATCH_DEMO_STATE, .version = 1 },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
	.states = states,
	.replace = true,
};

static int __init vpatch_demo_v2_init(void)
{
	int ret;

	ret = vpatch_proc_text("/proc/cmdline", " vpatch_demo=", cmdline,
			       sizeof(cmdline));
	if (ret)
		return ret;

	return klp_enable_patch(&patch);
}

static void __exit vpatch_demo_v2_exit(void)
{
}

module_init(vpatch_demo_v2_init);
module_exit(vpatch_demo_v2_exit);

MODULE_LICENSE("GPL");
MODULE_VERSION("2");
MODULE_DESCRIPTION("vpatch: demo fix, second version");
MODULE_INFO(livepatch, "Y");
