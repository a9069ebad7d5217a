// SPDX-License-Identifier: GPL-2.0-only
/*
 * A kprobe with a post handler at the start of version_proc_show(). While this
 * module is loaded the kernel refuses livepatches of that function: both want
 * to decide where execution goes on.
 */
#include <linux/kprobes.h>
#include <linux/module.h>

static void probe_post(struct kprobe *p, struct pt_regs *regs,
		       unsigned long flags)
{
}

static struct kprobe probe = {
	.symbol_name = "version_proc_show",
	.post_handler = probe_post,
};

static int __init vpatch_kprobe_init(void)
{
	return register_kprobe(&probe);
}

static void __exit vpatch_kprobe_exit(void)
{
	unregister_kprobe(&probe);
}

module_init(vpatch_kprobe_init);
module_exit(vpatch_kprobe_exit);

MODULE_LICENSE("GPL");
MODULE_VERSION("1");
MODULE_DESCRIPTION("vpatch: a kprobe where a livepatch would be");
