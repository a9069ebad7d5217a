// SPDX-License-Identifier: GPL-2.0-only
/*
 * The guest's half of vpatch: shows livepatch transitions in /sys/kernel/vpatch,
 * and lets the host help them along through the mailbox.
 *
 * At rest it has neither thread nor timer. See
 * Documentation/ABI/testing/sysfs-kernel-vpatch for the files.
 */
#include <linux/init.h>
#include <linux/module.h>

#include "vpatch_guest.h"

static int __init vpatch_guest_init(void)
{
	int ret;

	vpatch_mailbox_init();
	ret = vpatch_watch_init();
	if (ret)
		return ret;

	ret = vpatch_sysfs_init();
	if (ret) {
		vpatch_watch_exit();
		return ret;
	}
	vpatch_mailbox_open();

	return 0;
}

static void __exit vpatch_guest_exit(void)
{
	vpatch_mailbox_close();
	/* First the readers, who can start a watch, then the watch. */
	vpatch_sysfs_exit();
	vpatch_watch_exit();
}

module_init(vpatch_guest_init);
module_exit(vpatch_guest_exit);

MODULE_LICENSE("GPL");
MODULE_VERSION(VPATCH_GUEST_VERSION);
MODULE_DESCRIPTION("vpatch: the guest's half of livepatch transitions");
