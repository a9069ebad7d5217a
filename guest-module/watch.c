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
 * Only while a transition is in sight, and for a moment after it, a timer fires
 * each millisecond, less often at a transition that lasts. It compares, and
 * leaves what there is to do to a work item. At rest there is neither.
 */
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/hrtimer.h>
#include <linux/jiffies.h>
#include <linux/ktime.h>
#include <linux/lockdep.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <linux/string.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "vpatch_guest.h"

/* How long after a write to "watch" the transition must have started. */
#define VPATCH_START_LIMIT	(10 * HZ)

/* How often the direction of a transition that runs is made sure of. */
#define VPATCH_ASK		(HZ / 10)

/* For how long after a transition the host may still report. */
#define VPATCH_LINGER		(HZ / 2)

/* The timer's period: the first while start or last command are this recent. */
#define VPATCH_YOUNG_MS		2000
#define VPATCH_OLD_MS		10000
#define VPATCH_PERIOD_YOUNG	(1 * NSEC_PER_MSEC)
#define VPATCH_PERIOD		(10 * NSEC_PER_MSEC)
#define VPATCH_PERIOD_OLD	(100 * NSEC_PER_MSEC)

/* The phases move on at least this often, or with each firing of the timer. */
#define VPATCH_LOOK_NS		(4 * NSEC_PER_MSEC)

/* So many firings after it was queued the work is moved to the next CPU. */
#define VPATCH_PATIENCE		2

enum watch_phase {
	WATCH_NONE,	/* nothing in sight; the timer may still run */
	WATCH_ARMED,	/* told of an unpatch transition, none seen yet */
	WATCH_LOADING,	/* a livepatch module is in its init */
	WATCH_RUNNING,	/* a transition has been seen */
};

/**
 * struct watch - the one transition in sight, and the last one
 * @lock:	protects all fields down to @result
 * @phase:	what is being waited for
 * @target:	direction of the transition, as last seen
 * @started:	a transition was seen since the watch began
 * @looking:	the timer runs
 * @leaving:	the module is being unloaded: the timer starts no more
 * @loading:	livepatch module between COMING and LIVE or GOING, else NULL;
 *		compared, never followed
 * @loading_start: when @loading was seen first
 * @start:	when the watch began
 * @active:	when it began, or when the last command came
 * @limit:	jiffies at which %WATCH_ARMED is given up
 * @rest:	jiffies at which the timer stops in %WATCH_NONE
 * @asked:	jiffies when all tasks were asked for the direction
 * @patch:	name of the livepatch, empty if unknown
 * @last_us:	how long the last transition took
 * @result:	how the last one ended
 * @timer:	fires while @looking; started and stopped under @lock
 * @work:	looks, and does commands
 * @period:	of @timer in ns; written under @lock
 * @seen:	whether a transition ran at the last look; written under @lock
 * @looked:	when the work was queued last; the timer's own
 * @waited:	how often the timer has found it still queued; the timer's own
 * @cpu:	where the work is queued; the timer's own
 */
struct watch {
	struct mutex		lock;	/* all fields down to @result */
	enum watch_phase	phase;
	enum vpatch_state	target;
	bool			started;
	bool			looking;
	bool			leaving;
	const struct module	*loading;
	ktime_t			loading_start;
	ktime_t			start;
	ktime_t			active;
	unsigned long		limit;
	unsigned long		rest;
	unsigned long		asked;
	char			patch[MODULE_NAME_LEN];
	u64			last_us;
	enum vpatch_result	result;

	struct hrtimer		timer;
	struct delayed_work	work;
	u64			period;
	bool			seen;
	ktime_t			looked;
	unsigned int		waited;
	unsigned int		cpu;
};

static struct watch watch = {
	.lock = __MUTEX_INITIALIZER(watch.lock),
};

/*
 * A kernel thread that does not let go of its CPU keeps that CPU's workers from
 * running. mod_delayed_work_on() may be called in hard interrupt context.
 */
static void watch_queue(void)
{
	if (delayed_work_pending(&watch.work)) {
		if (++watch.waited < VPATCH_PATIENCE)
			return;
		watch.cpu = cpumask_next(watch.cpu, cpu_online_mask);
		if (watch.cpu >= nr_cpu_ids)
			watch.cpu = cpumask_first(cpu_online_mask);
	}
	watch.waited = 0;
	mod_delayed_work_on(watch.cpu, system_highpri_wq, &watch.work, 0);
}

static enum hrtimer_restart watch_tick(struct hrtimer *timer)
{
	ktime_t now = ktime_get();
	bool command = vpatch_mailbox_tick();

	if (command || vpatch_transition_runs() != READ_ONCE(watch.seen) ||
	    delayed_work_pending(&watch.work) ||
	    ktime_to_ns(ktime_sub(now, watch.looked)) >= VPATCH_LOOK_NS) {
		watch.looked = now;
		watch_queue();
	}
	hrtimer_forward_now(timer, ns_to_ktime(READ_ONCE(watch.period)));

	return HRTIMER_RESTART;
}

static u64 watch_period(void)
{
	s64 age = ktime_ms_delta(ktime_get(), watch.active);

	if (watch.phase == WATCH_NONE)
		return VPATCH_PERIOD;
	if (age < VPATCH_YOUNG_MS)
		return VPATCH_PERIOD_YOUNG;

	return age < VPATCH_OLD_MS ? VPATCH_PERIOD : VPATCH_PERIOD_OLD;
}

/* Starts the timer, or has it fire sooner or later than it was going to. */
static void watch_set_timer(void)
{
	u64 period = watch_period();

	lockdep_assert_held(&watch.lock);

	if (watch.leaving || (watch.looking && period == watch.period))
		return;

	/* An armed timer must not be moved on by its own function. */
	hrtimer_cancel(&watch.timer);
	WRITE_ONCE(watch.period, period);
	if (!watch.looking) {
		watch.looking = true;
		watch.looked = ktime_get();
		watch.cpu = raw_smp_processor_id();
		vpatch_mailbox_watch();
	}
	hrtimer_start(&watch.timer, ns_to_ktime(period), HRTIMER_MODE_REL_HARD);
}

static void watch_stop_timer(void)
{
	lockdep_assert_held(&watch.lock);

	hrtimer_cancel(&watch.timer);
	watch.looking = false;
	vpatch_mailbox_rest();
}

static void watch_begin(enum watch_phase phase, enum vpatch_state target,
			const char *patch, ktime_t start)
{
	lockdep_assert_held(&watch.lock);

	watch.phase = phase;
	watch.target = target;
	watch.started = false;
	watch.start = start;
	watch.active = ktime_get();
	strscpy(watch.patch, patch, sizeof(watch.patch));
	if (watch.looking)
		vpatch_mailbox_drop();
	watch_set_timer();
}

static void watch_started(void)
{
	if (watch.started)
		return;
	watch.started = true;
	vpatch_help_reset();
	vpatch_mailbox_event(VPATCH_EVENT_START,
			     watch.target == VPATCH_PATCHING);
}

static void watch_end(enum vpatch_result result)
{
	static const s32 values[] = {
		[VPATCH_RESULT_PATCHED]		= 1,
		[VPATCH_RESULT_UNPATCHED]	= 0,
		[VPATCH_RESULT_FAILED]		= -1,
	};

	lockdep_assert_held(&watch.lock);

	/* It was over before the first look: what is shown is older. */
	if (!watch.started)
		vpatch_help_reset();
	watch.phase = WATCH_NONE;
	watch.rest = jiffies + VPATCH_LINGER;
	watch.last_us = ktime_us_delta(ktime_get(), watch.start);
	watch.result = result;
	vpatch_mailbox_event(VPATCH_EVENT_END, values[result]);
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
	enum vpatch_state proven;

	/* To ask all tasks is dear: once started, it is done now and then. */
	if (watch.started && watch.phase == WATCH_RUNNING &&
	    time_before(jiffies, watch.asked + VPATCH_ASK))
		return;
	watch.asked = jiffies;
	proven = vpatch_proven_target();

	if (watch.phase == WATCH_NONE) {
		watch_adopt(proven);
	} else if (watch.phase == WATCH_ARMED) {
		watch.phase = WATCH_RUNNING;
		watch.start = ktime_get();
	}
	/* Anyone may reverse the transition at any time. */
	if (proven != VPATCH_IDLE)
		watch.target = proven;
	watch_started();
}

/* Takes one look at the kernel and moves the watch on. */
static void watch_look(void)
{
	bool runs = vpatch_transition_runs();

	lockdep_assert_held(&watch.lock);

	WRITE_ONCE(watch.seen, runs);
	if (runs) {
		watch_look_at_running();
		return;
	}

	switch (watch.phase) {
	case WATCH_NONE:
		break;
	case WATCH_ARMED:
		if (time_after_eq(jiffies, watch.limit)) {
			watch.phase = WATCH_NONE;
			watch.rest = jiffies;
		}
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
	/* First the look: a report is about the transition that it finds. */
	watch_look();
	if (watch.looking) {
		if (vpatch_mailbox_serve())
			watch.active = ktime_get();
		if (watch.phase == WATCH_NONE &&
		    time_after_eq(jiffies, watch.rest))
			watch_stop_timer();
		else
			watch_set_timer();
	}
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
	hrtimer_setup(&watch.timer, watch_tick, CLOCK_MONOTONIC,
		      HRTIMER_MODE_REL_HARD);

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
	/* From here on the timer is not started any more ... */
	mutex_lock(&watch.lock);
	watch.leaving = true;
	hrtimer_cancel(&watch.timer);
	mutex_unlock(&watch.lock);
	/* ... and nobody else queues the work. */
	cancel_delayed_work_sync(&watch.work);
	/* The host may just be writing a command, even if looking has ended. */
	msleep(VPATCH_GRACE_MS);
}
