// SPDX-License-Identifier: GPL-2.0-only
/*
 * A livepatch that changes no function and only has callbacks, for the kernel
 * itself and for vpatch_target. Each one says in the kernel log which it is.
 *
 *   pre_patch_ret=-19  the pre-patch callbacks fail with -ENODEV: the load of
 *                      this module, or later of vpatch_target, is refused
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/livepatch.h>
#include <linux/module.h>

static int pre_patch_ret;
module_param(pre_patch_ret, int, 0644);
MODULE_PARM_DESC(pre_patch_ret, "What the pre-patch callbacks return (0)");

static void say(const char *callback, struct klp_object *obj)
{
	pr_info("%s: %s\n", callback, obj->name ? obj->name : "vmlinux");
}

static int pre_patch(struct klp_object *obj)
{
	say("pre_patch", obj);
	return pre_patch_ret;
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

static struct klp_func no_funcs[] = {
	{ }
};

static struct klp_object objs[] = {
	{ .funcs = no_funcs, .callbacks = CALLBACKS },
	{ .name = "vpatch_target", .funcs = no_funcs, .callbacks = CALLBACKS },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
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
MODULE_VERSION("1");
MODULE_DESCRIPTION("vpatch: livepatch with callbacks");
MODULE_INFO(livepatch, "Y");
