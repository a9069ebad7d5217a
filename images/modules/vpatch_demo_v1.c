// SPDX-License-Identifier: GPL-2.0-only
/*
 * Demo, first version: a cumulative livepatch that adds the word vpatch_demo=1
 * to /proc/cmdline.
 */
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>

#include "proc_text.h"

/* The longest command line of x86 is 2048 bytes. */
static char cmdline[4096];

static int demo_cmdline_proc_show(struct seq_file *m, void *v)
{
	seq_printf(m, "%s vpatch_demo=1\n", cmdline);
	return 0;
}

static struct klp_func vmlinux_funcs[] = {
	{
		.old_name = "cmdline_proc_show",
		.new_func = demo_cmdline_proc_show,
	},
	{ }
};

static struct klp_object objs[] = {
	{ .funcs = vmlinux_funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
	.replace = true,
};

static int __init vpatch_demo_v1_init(void)
{
	int ret;

	ret = vpatch_proc_text("/proc/cmdline", " vpatch_demo=", cmdline,
			       sizeof(cmdline));
	if (ret)
		return ret;

	return klp_enable_patch(&patch);
}

static void __exit vpatch_demo_v1_exit(void)
{
}

module_init(vpatch_demo_v1_init);
module_exit(vpatch_demo_v1_exit);

MODULE_LICENSE("GPL");
MODULE_VERSION("1");
MODULE_DESCRIPTION("vpatch: demo fix, first version");
MODULE_INFO(livepatch, "Y");
