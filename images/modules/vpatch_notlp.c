// SPDX-License-Identifier: GPL-2.0-only
/* An ordinary module, no livepatch: vpatch must refuse it. */
#include <linux/module.h>

static int __init vpatch_notlp_init(void)
{
	return 0;
}

static void __exit vpatch_notlp_exit(void)
{
}

module_init(vpatch_notlp_init);
module_exit(vpatch_notlp_exit);

MODULE_LICENSE("GPL");
MODULE_VERSION("1");
MODULE_DESCRIPTION("vpatch: a module that is no livepatch");
