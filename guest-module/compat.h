/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Differences between the kernels this module builds for, each with the commit
 * that made it.
 */
#ifndef VPATCH_COMPAT_H
#define VPATCH_COMPAT_H

#include <linux/livepatch.h>

/*
 * d927752f287f ("livepatch: Rename KLP_* to KLP_TRANSITION_*") renamed the
 * values of task_struct.patch_state.
 */
#ifndef KLP_TRANSITION_IDLE
#define KLP_TRANSITION_IDLE		KLP_UNDEFINED
#define KLP_TRANSITION_UNPATCHED	KLP_UNPATCHED
#define KLP_TRANSITION_PATCHED		KLP_PATCHED
#endif

#endif /* VPATCH_COMPAT_H */
