// SPDX-License-Identifier: GPL-2.0-only
/*
 * A livepatch with callbacks for the kernel itself and for vpatch_target. Each
 * one says in the kernel log which it is. It changes no function. It is built
 * more than once (see Kbuild):
 *
 *   CALLBACKS_VERSION	version of the module, 1 if not given
 *   CALLBACKS_REPLACE	cumulative
 *   CALLBACKS_RET	what the pre-patch callbacks return at first, 0 if not
 *			given
 *   CALLBACKS_BUSY	changes vpatch_target_block(), where a task may hold the
 *			transition up, and has callbacks for vpatch_pair as well
 *   CALLBACKS_SHADOW	the kernel's pre-patch callback counts its calls in a
 *			shadow variable, which nobody frees
 *
 * Its parameter:
 *
 *   pre_patch_ret=-19  the pre-patch callbacks fail with -ENODEV: the load of
 *                      this module, or later of vpatch_target, is refused
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/sched/task.h>
#include <linux/stringify.h>

#include "vpatch_target.h"

#ifndef CALLBACKS_VERSION
#define CALLBACKS_VERSION	1
#endif
#ifndef CALLBACKS_RET
#define CALLBACKS_RET		0
#endif

static int pre_patch_ret = CALLBACKS_RET;
module_param(pre_patch_ret, int, 0644);
MODULE_PARM_DESC(pre_patch_ret, "What the pre-patch callbacks return");

static void say(const char *callback, struct klp_object *obj)
{
	pr_info("%s: %s\n", callback, obj->name ? obj->name : "vmlinux");
}

#ifdef CALLBACKS_SHADOW
#define CALLBACKS_SHADOW_ID	0x76700020

static int count_call(void)
{
	int *calls;

	calls = klp_shadow_get_or_alloc(&init_task, CALLBACKS_SHADOW_ID,
					sizeof(*calls), GFP_KERNEL, NULL, NULL);
	if (!calls)
		return -ENOMEM;
	pr_info("shadow variable: %d\n", ++*calls);

	return 0;
}
#else
static int count_call(void)
{
	return 0;
}
#endif

static int pre_patch(struct klp_object *obj)
{
	int ret;

	say("pre_patch", obj);
	ret = obj->name ? 0 : count_call();

	return ret ? ret : pre_patch_ret;
}

static void post_patch(struct klp_object *obj)
{
	say("post_patch", obj);
}

static void pre_unpatch(struct klp_object *obj)
{
	say("pre_unpatch", obj);
}

static void post_unpatch(struct klp_object *obj)
{
	say("post_unpatch", obj);
}

#define CALLBACKS {			\
	.pre_patch = pre_patch,		\
	.post_patch = post_patch,	\
	.pre_unpatch = pre_unpatch,	\
	.post_unpatch = post_unpatch,	\
}

#ifdef CALLBACKS_BUSY
static int patched_block(struct vpatch_hold *hold, int epoch)
{
	vpatch_hold_block(hold, epoch);
	return 0;
}
#endif

static struct klp_func no_funcs[] = {
	{ }
};

static struct klp_func target_funcs[] = {
#ifdef CALLBACKS_BUSY
	{ .old_name = "vpatch_target_block", .new_func = patched_block },
#endif
	{ }
};

static struct klp_object objs[] = {
	{ .funcs = no_funcs, .callbacks = CALLBACKS },
	{
		.name = "vpatch_target",
		.funcs = target_funcs,
		.callbacks = CALLBACKS,
	},
#ifdef CALLBACKS_BUSY
	{ .name = "vpatch_pair", .funcs = no_funcs, .callbacks = CALLBACKS },
#endif
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
#ifdef CALLBACKS_REPLACE
	.replace = true,
#endif
};

static int __init vpatch_callbacks_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit vpatch_callbacks_exit(void)
{
}

module_init(vpatch_callbacks_init);
module_exit(vpatch_callbacks_exit);

MODULE_LICENSE("GPL");
MODULE_VERSION(__stringify(CALLBACKS_VERSION));
MODULE_DESCRIPTION("vpatch: livepatch with callbacks");
MODULE_INFO(livepatch, "Y");
