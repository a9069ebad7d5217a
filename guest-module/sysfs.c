// SPDX-License-Identifier: GPL-2.0-only
/*
 * /sys/kernel/vpatch: see Documentation/ABI/testing/sysfs-kernel-vpatch.
 */
#include <linux/kobject.h>
#include <linux/string.h>
#include <linux/sysfs.h>

#include "vpatch_guest.h"

static const char * const state_names[] = {
	[VPATCH_IDLE]		= "idle",
	[VPATCH_PATCHING]	= "patching",
	[VPATCH_UNPATCHING]	= "unpatching",
};

static const char * const result_names[] = {
	[VPATCH_RESULT_NONE]		= "none",
	[VPATCH_RESULT_PATCHED]		= "patched",
	[VPATCH_RESULT_UNPATCHED]	= "unpatched",
	[VPATCH_RESULT_FAILED]		= "failed",
};

static ssize_t version_show(struct kobject *kobj, struct kobj_attribute *attr,
			    char *buf)
{
	return sysfs_emit(buf, "%s\n", VPATCH_GUEST_VERSION);
}

static struct kobj_attribute version_attr = __ATTR_RO(version);

static ssize_t state_show(struct kobject *kobj, struct kobj_attribute *attr,
			  char *buf)
{
	struct vpatch_status status;

	vpatch_watch_status(&status);

	return sysfs_emit(buf, "%s\n", state_names[status.state]);
}

static struct kobj_attribute state_attr = __ATTR_RO(state);

static ssize_t patch_show(struct kobject *kobj, struct kobj_attribute *attr,
			  char *buf)
{
	struct vpatch_status status;

	vpatch_watch_status(&status);

	return sysfs_emit(buf, "%s\n", status.patch);
}

static struct kobj_attribute patch_attr = __ATTR_RO(patch);

static ssize_t pending_show(struct kobject *kobj, struct kobj_attribute *attr,
			    char *buf)
{
	return sysfs_emit(buf, "%u\n", vpatch_count_pending());
}

static struct kobj_attribute pending_attr = __ATTR_RO(pending);

static ssize_t last_transition_us_show(struct kobject *kobj,
				       struct kobj_attribute *attr, char *buf)
{
	struct vpatch_status status;

	vpatch_watch_status(&status);

	return sysfs_emit(buf, "%llu\n", status.last_us);
}

static struct kobj_attribute last_transition_us_attr =
	__ATTR_RO(last_transition_us);

static ssize_t last_result_show(struct kobject *kobj,
				struct kobj_attribute *attr, char *buf)
{
	struct vpatch_status status;

	vpatch_watch_status(&status);

	return sysfs_emit(buf, "%s\n", result_names[status.result]);
}

static struct kobj_attribute last_result_attr = __ATTR_RO(last_result);

static ssize_t assist_show(struct kobject *kobj, struct kobj_attribute *attr,
			   char *buf)
{
	return sysfs_emit(buf, "%d\n", vpatch_mailbox_assist());
}

static struct kobj_attribute assist_attr = __ATTR_RO(assist);

static ssize_t retries_show(struct kobject *kobj, struct kobj_attribute *attr,
			    char *buf)
{
	struct vpatch_help help;

	vpatch_help_read(&help);

	return sysfs_emit(buf, "%u\n", help.retries);
}

static struct kobj_attribute retries_attr = __ATTR_RO(retries);

static ssize_t signals_show(struct kobject *kobj, struct kobj_attribute *attr,
			    char *buf)
{
	struct vpatch_help help;

	vpatch_help_read(&help);

	return sysfs_emit(buf, "%u\n", help.signals);
}

static struct kobj_attribute signals_attr = __ATTR_RO(signals);

static ssize_t switched_show(struct kobject *kobj, struct kobj_attribute *attr,
			     char *buf)
{
	struct vpatch_help help;

	vpatch_help_read(&help);

	return sysfs_emit(buf, "%u\n", help.switched);
}

static struct kobj_attribute switched_attr = __ATTR_RO(switched);

static ssize_t last_pause_us_show(struct kobject *kobj,
				  struct kobj_attribute *attr, char *buf)
{
	struct vpatch_help help;

	vpatch_help_read(&help);

	return sysfs_emit(buf, "%u\n", help.last_pause_us);
}

static struct kobj_attribute last_pause_us_attr = __ATTR_RO(last_pause_us);

static ssize_t blockers_show(struct kobject *kobj, struct kobj_attribute *attr,
			     char *buf)
{
	return vpatch_help_emit_blockers(buf);
}

static struct kobj_attribute blockers_attr = __ATTR_RO(blockers);

static ssize_t wakeups_show(struct kobject *kobj, struct kobj_attribute *attr,
			    char *buf)
{
	return sysfs_emit(buf, "%u\n",
			  READ_ONCE(vpatch_mailbox.guest.wakeups));
}

static struct kobj_attribute wakeups_attr = __ATTR_RO(wakeups);

static ssize_t watch_store(struct kobject *kobj, struct kobj_attribute *attr,
			   const char *buf, size_t count)
{
	char name[MODULE_NAME_LEN];
	size_t len = count;
	int ret;

	if (len && buf[len - 1] == '\n')
		len--;
	/* Shorter than the buffer, with no NUL and no blank inside. */
	if (!len || len >= sizeof(name) || strnlen(buf, len) != len)
		return -EINVAL;
	memcpy(name, buf, len);
	name[len] = '\0';
	if (strpbrk(name, " \t\n/"))
		return -EINVAL;

	ret = vpatch_watch_unpatch(name);

	return ret ? ret : count;
}

static struct kobj_attribute watch_attr = __ATTR_WO(watch);

static struct attribute *vpatch_attrs[] = {
	&version_attr.attr,
	&state_attr.attr,
	&patch_attr.attr,
	&pending_attr.attr,
	&last_transition_us_attr.attr,
	&last_result_attr.attr,
	&assist_attr.attr,
	&retries_attr.attr,
	&signals_attr.attr,
	&switched_attr.attr,
	&last_pause_us_attr.attr,
	&blockers_attr.attr,
	&wakeups_attr.attr,
	&watch_attr.attr,
	NULL
};

static const struct attribute_group vpatch_group = {
	.attrs = vpatch_attrs,
};

static struct kobject *vpatch_kobj;

int vpatch_sysfs_init(void)
{
	int ret;

	vpatch_kobj = kobject_create_and_add("vpatch", kernel_kobj);
	if (!vpatch_kobj)
		return -ENOMEM;

	ret = sysfs_create_group(vpatch_kobj, &vpatch_group);
	if (ret)
		kobject_put(vpatch_kobj);

	return ret;
}

void vpatch_sysfs_exit(void)
{
	/* Also waits for those who are reading or writing a file. */
	kobject_put(vpatch_kobj);
}
