// SPDX-License-Identifier: GPL-2.0-only
/*
 * The transition that runs, by what its tasks show:
 *
 *  - task_struct.patch_state of every task, the idle ones included, is
 *    KLP_TRANSITION_IDLE when no transition runs, and something else while one
 *    does. init_task is exported and tells.
 *  - A task with TIF_PATCH_PENDING set has not reached the target yet, so the
 *    target is the opposite of its patch_state.
 */
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>

#include "compat.h"
#include "vpatch_guest.h"

/**
 * vpatch_transition_runs() - whether a transition runs now
 *
 * Return: true from before the first task is told until after the last has moved
 */
bool vpatch_transition_runs(void)
{
	return READ_ONCE(init_task.patch_state) != KLP_TRANSITION_IDLE;
}

/**
 * vpatch_proven_target() - where the running transition goes
 *
 * The state is read before the flag: the kernel sets the state after it has
 * cleared the flag, so a flag that is still set belongs to the state read.
 *
 * Return: the target that a pending task proves, %VPATCH_IDLE if none is pending
 */
enum vpatch_state vpatch_proven_target(void)
{
	enum vpatch_state target = VPATCH_IDLE;
	struct task_struct *group, *task;
	int state;

	rcu_read_lock();
	for_each_process_thread(group, task) {
		state = READ_ONCE(task->patch_state);
		/* Pairs with the barrier in klp_update_patch_state(). */
		smp_rmb();
		if (!klp_patch_pending(task))
			continue;
		if (state == KLP_TRANSITION_UNPATCHED)
			target = VPATCH_PATCHING;
		else if (state == KLP_TRANSITION_PATCHED)
			target = VPATCH_UNPATCHING;
		else
			continue;
		goto out;
	}
out:
	rcu_read_unlock();
	return target;
}

/**
 * vpatch_count_pending() - number of tasks that the transition waits for
 *
 * The idle tasks are not on the kernel's list of tasks and not counted.
 *
 * Return: the number, 0 if no transition runs
 */
unsigned int vpatch_count_pending(void)
{
	struct task_struct *group, *task;
	unsigned int count = 0;

	if (!vpatch_transition_runs())
		return 0;

	rcu_read_lock();
	for_each_process_thread(group, task) {
		if (klp_patch_pending(task))
			count++;
	}
	rcu_read_unlock();

	return count;
}
