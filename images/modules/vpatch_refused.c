// SPDX-License-Identifier: GPL-2.0-only
/*
 * A livepatch that every kernel refuses to load: the function it means to
 * change does not exist. Built more than once (see Kbuild):
 *
 *   REFUSED_FUNCTION	the name of that function
 *   REFUSED_POSITION	its position, 0 if not given
 */
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/stringify.h>

#ifndef REFUSED_FUNCTION
#define REFUSED_FUNCTION	vpatch_no_such_function
#endif
#ifndef REFUSED_POSITION
#define REFUSED_POSITION	0
#endif

static int refused_function(void)
{
	return 0;
}

static struct klp_func vmlinux_funcs[] = {
	{
		.old_name = __stringify(REFUSED_FUNCTION),
		.new_func = refused_function,
		.old_sympos = REFUSED_POSITION,
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

static int __init vpatch_refused_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit vpatch_refused_exit(void)
{
}

module_init(vpatch_refused_init);
module_exit(vpatch_refused_exit);

MODULE_LICENSE("GPL");
MODULE_VERSION("1");
MODULE_DESCRIPTION("vpatch: livepatch of a function that does not exist");
MODULE_INFO(livepatch, "Y");
