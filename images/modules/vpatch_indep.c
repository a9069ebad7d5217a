// SPDX-License-Identifier: GPL-2.0-only
/*
 * A livepatch independent of the demo: it replaces no other and changes another
 * function. /proc/version ends in vpatch_indep=1; with another INDEP_NUMBER (see
 * Kbuild) in that.
 */
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/stringify.h>

#include "proc_text.h"

#ifndef INDEP_NUMBER
#define INDEP_NUMBER	1
#endif

static char version[1024];

static int indep_version_proc_show(struct seq_file *m, void *v)
{
	seq_printf(m, "%s vpatch_indep=" __stringify(INDEP_NUMBER) "\n", version);
	return 0;
}

static struct klp_func vmlinux_funcs[] = {
	{
		.old_name = "version_proc_show",
		.new_func = indep_version_proc_show,
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
};

static int __init vpatch_indep_init(void)
{
	int ret;

	ret = vpatch_proc_text("/proc/version", " vpatch_indep=", version,
			       sizeof(version));
	if (ret)
		return ret;

	return klp_enable_patch(&patch);
}

static void __exit vpatch_indep_exit(void)
{
}

module_init(vpatch_indep_init);
module_exit(vpatch_indep_exit);

MODULE_LICENSE("GPL");
MODULE_VERSION(__stringify(INDEP_NUMBER));
MODULE_DESCRIPTION("vpatch: livepatch beside the demo");
MODULE_INFO(livepatch, "Y");
