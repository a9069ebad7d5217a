/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the test target and the livepatch for it share. The livepatch gets all
 * it needs through the functions' arguments, so that neither module depends on
 * the other and they may be loaded in any order.
 */
#ifndef VPATCH_TARGET_H
#define VPATCH_TARGET_H

#include <linux/atomic.h>
#include <linux/kthread.h>
#include <linux/sched.h>
#include <linux/types.h>
#include <linux/wait.h>

/**
 * struct vpatch_hold - what keeps a task inside one of the functions
 * @wait:	where sleepers and blocked tasks wait
 * @epoch:	grows with each release; a task stays while it is the same
 */
struct vpatch_hold {
	wait_queue_head_t	wait;
	atomic_t		epoch;
};

enum vpatch_spin {
	VPATCH_SPIN_RESCHED,	/* call cond_resched() */
	VPATCH_SPIN_SCHEDULE,	/* call schedule() */
};

/* True while nobody has released the tasks that entered at @epoch. */
static inline bool vpatch_held(struct vpatch_hold *hold, int epoch)
{
	return atomic_read(&hold->epoch) == epoch;
}

static inline int vpatch_hold_sleep(struct vpatch_hold *hold, int epoch)
{
	return wait_event_interruptible(hold->wait, !vpatch_held(hold, epoch));
}

/* Any wake-up ends it, also one that has nothing to do with the hold. */
static inline void vpatch_hold_nap(struct vpatch_hold *hold, int epoch)
{
	DEFINE_WAIT(wait);

	prepare_to_wait(&hold->wait, &wait, TASK_INTERRUPTIBLE);
	if (vpatch_held(hold, epoch))
		schedule();
	finish_wait(&hold->wait, &wait);
}

static inline void vpatch_hold_block(struct vpatch_hold *hold, int epoch)
{
	wait_event(hold->wait, !vpatch_held(hold, epoch));
}

static inline void vpatch_hold_spin(struct vpatch_hold *hold, int epoch,
				    enum vpatch_spin how)
{
	while (vpatch_held(hold, epoch)) {
		if (how == VPATCH_SPIN_RESCHED)
			cond_resched();
		else
			schedule();
		cpu_relax();
	}
}

/*
 * The functions to patch. They are not static so that the compiler makes
 * neither copies of them nor versions with other arguments.
 */
ssize_t vpatch_target_value(char *buf);
int vpatch_target_sleep(struct vpatch_hold *h, int epoch);
int vpatch_target_nap(struct vpatch_hold *h, int epoch);
int vpatch_target_block(struct vpatch_hold *h, int epoch);
int vpatch_target_spin(struct vpatch_hold *h, int epoch, enum vpatch_spin how);

#endif /* VPATCH_TARGET_H */
