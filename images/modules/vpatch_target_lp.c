// SPDX-License-Identifier: GPL-2.0-only
/*
 * Livepatch for vpatch_target. /sys/kernel/vpatch_target/value reads "patched".
 * The functions that tasks stay in are replaced by equal ones: a task inside
 * holds up the transition, in either direction.
 */
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/sysfs.h>

#include "vpatch_target.h"

static ssize_t patched_value(char *buf)
{
	return sysfs_emit(buf, "patched\n");
}

static int patched_sleep(struct vpatch_hold *hold, int epoch)
{
	return vpatch_hold_sleep(hold, epoch);
}

static int patched_nap(struct vpatch_hold *hold, int epoch)
{
	vpatch_hold_nap(hold, epoch);
	return 0;
}

static int patched_block(struct vpatch_hold *hold, int epoch)
{
	vpatch_hold_block(hold, epoch);
	return 0;
}

static int patched_spin(struct vpatch_hold *hold, int epoch,
			enum vpatch_spin how)
{
	vpatch_hold_spin(hold, epoch, how);
	return 0;
}

static struct klp_func target_funcs[] = {
	{ .old_name = "vpatch_target_value", .new_func = patched_value },
	{ .old_name = "vpatch_target_sleep", .new_func = patched_sleep },
	{ .old_name = "vpatch_target_nap", .new_func = patched_nap },
	{ .old_name = "vpatch_target_block", .new_func = patched_block },
	{ .old_name = "vpatch_target_spin", .new_func = patched_spin },
	{ }
};

static struct klp_object objs[] = {
	{ .name = "vpatch_target", .funcs = target_funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init vpatch_target_lp_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit vpatch_target_lp_exit(void)
{
}

module_init(vpatch_target_lp_init);
module_exit(vpatch_target_lp_exit);

MODULE_LICENSE("GPL");
MODULE_VERSION("1");
MODULE_DESCRIPTION("vpatch: livepatch for the test target");
MODULE_INFO(livepatch, "Y");
