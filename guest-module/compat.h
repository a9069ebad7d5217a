/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Differences between the kernels this module builds for, each with the commit
 * that made it.
 */
#ifndef VPATCH_COMPAT_H
#define VPATCH_COMPAT_H

#include <linux/hrtimer.h>
#include <linux/livepatch.h>
#include <linux/version.h>

/*
 * d927752f287f ("livepatch: Rename KLP_* to KLP_TRANSITION_*") renamed the
 * values of task_struct.patch_state.
 */
#ifndef KLP_TRANSITION_IDLE
#define KLP_TRANSITION_IDLE		KLP_UNDEFINED
#define KLP_TRANSITION_UNPATCHED	KLP_UNPATCHED
#define KLP_TRANSITION_PATCHED		KLP_PATCHED
#endif

/* 908a1d775422 ("hrtimers: Introduce hrtimer_setup() to replace hrtimer_init()") */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
static inline void hrtimer_setup(struct hrtimer *timer,
				 enum hrtimer_restart (*function)(struct hrtimer *),
				 clockid_t clock, enum hrtimer_mode mode)
{
	hrtimer_init(timer, clock, mode);
	timer->function = function;
}
#endif

#endif /* VPATCH_COMPAT_H */
