// SPDX-License-Identifier: GPL-2.0-only
/*
 * Livepatch for vpatch_pair: version 2 of both its functions.
 */
#include <linux/livepatch.h>
#include <linux/module.h>

#include "vpatch_pair.h"

static int patched_inner(void)
{
	return 2;
}

static int patched_outer(struct vpatch_pair *pair)
{
	return vpatch_pair_work(pair, 2);
}

static struct klp_func pair_funcs[] = {
	{ .old_name = "vpatch_pair_inner", .new_func = patched_inner },
	{ .old_name = "vpatch_pair_outer", .new_func = patched_outer },
	{ }
};

static struct klp_object objs[] = {
	{ .name = "vpatch_pair", .funcs = pair_funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init vpatch_pair_lp_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit vpatch_pair_lp_exit(void)
{
}

module_init(vpatch_pair_lp_init);
module_exit(vpatch_pair_lp_exit);

MODULE_LICENSE("GPL");
MODULE_VERSION("1");
MODULE_DESCRIPTION("vpatch: livepatch for the pair of functions");
MODULE_INFO(livepatch, "Y");
