// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test target: two functions of one name, vpatch_twin(), one in each source file
 * of the module. A livepatch has to say which by its position.
 *
 * Files in /sys/kernel/vpatch_twins: "first" and "second" (read) give the text
 * of each.
 */
#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/sysfs.h>

#include "vpatch_twins.h"

static noinline __noclone ssize_t vpatch_twin(char *buf)
{
	return sysfs_emit(buf, "original first\n");
}

static ssize_t first_show(struct kobject *kobj, struct kobj_attribute *attr,
			  char *buf)
{
	return vpatch_twin(buf);
}

static struct kobj_attribute first_attr = __ATTR_RO(first);

static ssize_t second_show(struct kobject *kobj, struct kobj_attribute *attr,
			   char *buf)
{
	return vpatch_twins_second(buf);
}

static struct kobj_attribute second_attr = __ATTR_RO(second);

static struct attribute *twins_attrs[] = {
	&first_attr.attr,
	&second_attr.attr,
	NULL
};

static const struct attribute_group twins_group = {
	.attrs = twins_attrs,
};

static struct kobject *twins_kobj;

static int __init vpatch_twins_init(void)
{
	int ret;

	twins_kobj = kobject_create_and_add("vpatch_twins", kernel_kobj);
	if (!twins_kobj)
		return -ENOMEM;

	ret = sysfs_create_group(twins_kobj, &twins_group);
	if (ret)
		kobject_put(twins_kobj);

	return ret;
}

static void __exit vpatch_twins_exit(void)
{
	kobject_put(twins_kobj);
}

module_init(vpatch_twins_init);
module_exit(vpatch_twins_exit);

MODULE_LICENSE("GPL");
MODULE_VERSION("1");
MODULE_DESCRIPTION("vpatch: two functions of one name");
