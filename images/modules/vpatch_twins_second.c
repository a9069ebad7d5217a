// SPDX-License-Identifier: GPL-2.0-only
#include <linux/compiler.h>
#include <linux/sysfs.h>

#include "vpatch_twins.h"

static noinline __noclone ssize_t vpatch_twin(char *buf)
{
	return sysfs_emit(buf, "original second\n");
}

ssize_t vpatch_twins_second(char *buf)
{
	return vpatch_twin(buf);
}
