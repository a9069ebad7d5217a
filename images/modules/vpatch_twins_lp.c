// SPDX-License-Identifier: GPL-2.0-only
/*
 * Livepatch for vpatch_twins, built more than once (see Kbuild):
 *
 *   TWINS_POSITION	which of the two: 1 or 2 are right, 0 stands for a name
 *			that is unique, and 3 for nothing
 */
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/sysfs.h>

static ssize_t patched_twin(char *buf)
{
	return sysfs_emit(buf, "patched\n");
}

static struct klp_func twins_funcs[] = {
	{
		.old_name = "vpatch_twin",
		.new_func = patched_twin,
		.old_sympos = TWINS_POSITION,
	},
	{ }
};

static struct klp_object objs[] = {
	{ .name = "vpatch_twins", .funcs = twins_funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init vpatch_twins_lp_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit vpatch_twins_lp_exit(void)
{
}

module_init(vpatch_twins_lp_init);
module_exit(vpatch_twins_lp_exit);

MODULE_LICENSE("GPL");
MODULE_VERSION("1");
MODULE_DESCRIPTION("vpatch: livepatch for one of two functions of one name");
MODULE_INFO(livepatch, "Y");
