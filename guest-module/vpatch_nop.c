// SPDX-License-Identifier: GPL-2.0-only
/*
 * An empty cumulative livepatch: it changes nothing and replaces every other, so
 * that all functions are the original ones again. The kernel wants at least one
 * object, which may have no functions.
 */
#include <linux/livepatch.h>
#include <linux/module.h>

static struct klp_func no_funcs[] = {
	{ }
};

static struct klp_object objs[] = {
	{ .funcs = no_funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
	.replace = true,
};

static int __init vpatch_nop_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit vpatch_nop_exit(void)
{
}

module_init(vpatch_nop_init);
module_exit(vpatch_nop_exit);

MODULE_LICENSE("GPL");
MODULE_VERSION("1");
MODULE_DESCRIPTION("vpatch: empty cumulative livepatch");
MODULE_INFO(livepatch, "Y");
