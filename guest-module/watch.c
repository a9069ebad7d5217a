// SPDX-License-Identifier: GPL-2.0-only
/*
 * Watching livepatch transitions.
 *
 * The kernel tells nobody when a transition starts or ends. A livepatch is
 * enabled by its module's init, that is between MODULE_STATE_COMING and
 * MODULE_STATE_LIVE, or MODULE_STATE_GOING where init failed. The rest is in
 * the tasks, see transition.c.
 *
 * Nothing announces the start of an unpatch transition: user space writes the
 * livepatch's name to /sys/kernel/vpatch/watch before it disables it.
 *
 * Only while a transition is in sight, a work item looks once a jiffy, and
 * ten times a second at one that lasts.
 */
#include <linux/jiffies.h>
#include <linux/ktime.h>
#include <linux/lockdep.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "vpatch_guest.h"

/* How long after a write to "watch" the transition must have started. */
#define VPATCH_START_LIMIT	(10 * HZ)

/* A transition that lasts longer than this is looked at less often. */
#define VPATCH_LONG		(3 * HZ)

enum watch_phase {
	WATCH_NONE,	/* nothing in sight, no work queued */
	WATCH_ARMED,	/* told of an unpatch transition, none seen yet */
	WATCH_LOADING,	/* a livepatch module is in its init */
	WATCH_RUNNING,	/* a transition has been seen */
};

/**
 * struct watch - the one transition in sight, and the last one
 * @lock:	protects all fields but @work
 * @work:	looks again while @phase is not %WATCH_NONE
 * @phase:	what is being waited for
 * @target:	direction of the transition, as last seen
 * @loading:	livepatch module between COMING and LIVE or GOING, else NULL;
 *		compared, never followed
 * @loading_start: when @loading was seen first
 * @start:	when the watch began
 * @since:	jiffies when it began
 * @limit:	jiffies at which %WATCH_ARMED is given up
 * @patch:	name of the livepatch, empty if unknown
 * @last_us:	how long the last transition took
 * @result:	how the last one ended
 */
struct watch {
	struct mutex		lock;	/* all fields but @work */
	struct delayed_work	work;
	enum watch_phase	phase;
	enum vpatch_state	target;
	const struct module	*loading;
	ktime_t			loading_start;
	ktime_t			start;
	unsigned long		since;
	unsigned long		limit;
	char			patch[MODULE_NAME_LEN];
	u64			last_us;
	enum vpatch_result	result;
};

static struct watch watch = {
	.lock = __MUTEX_INITIALIZER(watch.lock),
};

static void watch_begin(enum watch_phase phase, enum vpatch_state target,
			const char *patch, ktime_t start)
{
	lockdep_assert_held(&watch.lock);

	watch.phase = phase;
	watch.target = target;
	watch.start = start;
	watch.since = jiffies;
	strscpy(watch.patch, patch, sizeof(watch.patch));
	mod_delayed_work(system_wq, &watch.work, 1);
}

static void watch_end(enum vpatch_result result)
{
	lockdep_assert_held(&watch.lock);

	watch.phase = WATCH_NONE;
	watch.last_us = ktime_us_delta(ktime_get(), watch.start);
	watch.result = result;
}

/* The transition that runs was not announced: find out what can be known. */
static void watch_adopt(enum vpatch_state proven)
{
	/*
	 * Without a pending task every task, this one too, is at the target;
	 * the kernel is about to end the transition.
	 */
	if (proven == VPATCH_IDLE)
		proven = READ_ONCE(current->patch_state) ==
			 KLP_TRANSITION_UNPATCHED ? VPATCH_UNPATCHING :
						    VPATCH_PATCHING;
	watch_begin(WATCH_RUNNING, proven, "", ktime_get());
}

static void watch_look_at_running(void)
{
	enum vpatch_state proven = vpatch_proven_target();

	if (watch.phase == WATCH_NONE) {
		watch_adopt(proven);
		return;
	}
	if (watch.phase == WATCH_ARMED) {
		watch.phase = WATCH_RUNNING;
		watch.start = ktime_get();
	}
	/* Anyone may reverse the transition at any time. */
	if (proven != VPATCH_IDLE)
		watch.target = proven;
}

/* Takes one look at the kernel and moves the watch on. */
static void watch_look(void)
{
	lockdep_assert_held(&watch.lock);

	if (vpatch_transition_runs()) {
		watch_look_at_running();
		return;
	}

	switch (watch.phase) {
	case WATCH_NONE:
		break;
	case WATCH_ARMED:
		if (time_after_eq(jiffies, watch.limit))
			watch.phase = WATCH_NONE;
		break;
	case WATCH_LOADING:
		/* Not begun, ended or refused: the end of init will tell. */
		break;
	case WATCH_RUNNING:
		watch_end(watch.target == VPATCH_PATCHING ?
			  VPATCH_RESULT_PATCHED : VPATCH_RESULT_UNPATCHED);
		break;
	}
}

static void watch_work(struct work_struct *work)
{
	mutex_lock(&watch.lock);
	watch_look();
	if (watch.phase != WATCH_NONE)
		mod_delayed_work(system_wq, &watch.work,
				 time_after(jiffies, watch.since + VPATCH_LONG) ?
				 HZ / 10 : 1);
	mutex_unlock(&watch.lock);
}

/* The init of a livepatch module, which enables the patch, is about to run. */
static void watch_coming(const struct module *mod)
{
	watch_look();
	watch.loading = mod;
	watch.loading_start = ktime_get();
	/*
	 * While another transition runs the kernel refuses this patch. Should
	 * that one end in time, watch_live() turns to this one.
	 */
	if (watch.phase != WATCH_RUNNING)
		watch_begin(WATCH_LOADING, VPATCH_PATCHING, mod->name,
			    watch.loading_start);
}

/* Its init has succeeded: the patch's transition runs, or is over already. */
static void watch_live(const struct module *mod)
{
	if (watch.phase == WATCH_LOADING && watch.loading == mod)
		watch.phase = WATCH_RUNNING;
	else
		watch_begin(WATCH_RUNNING, VPATCH_PATCHING, mod->name,
			    watch.loading == mod ? watch.loading_start :
						   ktime_get());
	watch.loading = NULL;
	watch_look();
}

/* Its init has failed, unless it is an old module that is being unloaded. */
static void watch_going(const struct module *mod)
{
	if (watch.loading != mod)
		return;
	watch.loading = NULL;
	if (watch.phase == WATCH_LOADING)
		watch_end(VPATCH_RESULT_FAILED);
	watch_look();
}

static int watch_module_event(struct notifier_block *nb, unsigned long event,
			      void *data)
{
	const struct module *mod = data;

	if (!mod->klp)
		return NOTIFY_DONE;

	mutex_lock(&watch.lock);
	switch (event) {
	case MODULE_STATE_COMING:
		watch_coming(mod);
		break;
	case MODULE_STATE_LIVE:
		watch_live(mod);
		break;
	case MODULE_STATE_GOING:
		watch_going(mod);
		break;
	}
	mutex_unlock(&watch.lock);

	return NOTIFY_DONE;
}

static struct notifier_block watch_nb = {
	.notifier_call = watch_module_event,
};

/**
 * vpatch_watch_unpatch() - announce that a livepatch will be disabled
 * @patch: name of its module
 *
 * Return: 0; -EINVAL if this can be no module's name; -EBUSY while another
 * livepatch is in transition
 */
int vpatch_watch_unpatch(const char *patch)
{
	int ret = 0;

	if (!*patch || strlen(patch) >= MODULE_NAME_LEN)
		return -EINVAL;

	mutex_lock(&watch.lock);
	watch_look();
	switch (watch.phase) {
	case WATCH_NONE:
	case WATCH_ARMED:
		watch_begin(WATCH_ARMED, VPATCH_UNPATCHING, patch, ktime_get());
		watch.limit = jiffies + VPATCH_START_LIMIT;
		break;
	case WATCH_LOADING:
	case WATCH_RUNNING:
		/* A reversal of what is being watched needs no second watch. */
		if (!*watch.patch)
			strscpy(watch.patch, patch, sizeof(watch.patch));
		else if (strcmp(watch.patch, patch))
			ret = -EBUSY;
		break;
	}
	mutex_unlock(&watch.lock);

	return ret;
}

/**
 * vpatch_watch_status() - what is known of the running or the last transition
 * @status: filled in
 */
void vpatch_watch_status(struct vpatch_status *status)
{
	mutex_lock(&watch.lock);
	watch_look();
	status->state = VPATCH_IDLE;
	if (watch.phase == WATCH_RUNNING ||
	    (watch.phase == WATCH_LOADING && vpatch_transition_runs()))
		status->state = watch.target;
	strscpy(status->patch, watch.patch, sizeof(status->patch));
	status->last_us = watch.last_us;
	status->result = watch.result;
	mutex_unlock(&watch.lock);
}

int vpatch_watch_init(void)
{
	int ret;

	INIT_DELAYED_WORK(&watch.work, watch_work);

	ret = register_module_notifier(&watch_nb);
	if (ret)
		return ret;

	/* A transition may be running already. */
	mutex_lock(&watch.lock);
	watch_look();
	mutex_unlock(&watch.lock);

	return 0;
}

void vpatch_watch_exit(void)
{
	unregister_module_notifier(&watch_nb);
	/* Nobody but the work itself queues it from here on. */
	cancel_delayed_work_sync(&watch.work);
}
