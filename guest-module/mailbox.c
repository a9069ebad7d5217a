// SPDX-License-Identifier: GPL-2.0-only
/*
 * The mailbox: uapi/vpatch_mailbox.h says what it holds and who writes what.
 *
 * The host may write anything into the page at any time, also into the guest's
 * half. What the module goes by is kept in "mailbox", and only shown in the
 * page.
 */
#include <linux/build_bug.h>
#include <linux/errno.h>
#include <linux/ktime.h>
#include <linux/lockdep.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/random.h>
#include <linux/string.h>

#include "vpatch_guest.h"

#ifdef __BIG_ENDIAN
#error "the mailbox is little-endian"
#endif

static_assert(sizeof(struct vpatch_mailbox_event) == 16);
static_assert(offsetof(struct vpatch_guest_half, events) == 64);
static_assert(sizeof(struct vpatch_guest_half) == VPATCH_HALF_SIZE);
static_assert(offsetof(struct vpatch_host_half, work) == 24);
static_assert(sizeof(struct vpatch_host_half) == VPATCH_HALF_SIZE);
static_assert(offsetof(struct vpatch_mailbox, host) == VPATCH_HALF_SIZE);
static_assert(sizeof(struct vpatch_mailbox) == VPATCH_MAILBOX_SIZE);

/* The host finds the page by this symbol, so it is not static. */
struct vpatch_mailbox vpatch_mailbox __aligned(VPATCH_MAILBOX_SIZE);

/**
 * struct mailbox - the module's own idea of the mailbox
 * @lock:	protects all fields but @acked, and the order of what is written
 *		into the guest's half; taken inside the watch's lock
 * @acked:	sequence number of the last command answered; written by
 *		vpatch_mailbox_serve() only, read by the timer
 * @events:	events stored so far
 * @command:	copy of the host's half
 */
static struct mailbox {
	struct mutex		lock;	/* all but @acked, the guest's half */
	u32			acked;
	u32			events;
	struct vpatch_host_half	command;
} mailbox = {
	.lock = __MUTEX_INITIALIZER(mailbox.lock),
};

static bool assist = true;

static void show_features(void)
{
	WRITE_ONCE(vpatch_mailbox.guest.features,
		   vpatch_mailbox_assist() ?
		   VPATCH_FEATURE_RETRY | VPATCH_FEATURE_RESCHED |
		   VPATCH_FEATURE_SIGNAL | VPATCH_FEATURE_REPORT : 0);
}

static int assist_set(const char *value, const struct kernel_param *param)
{
	int ret = param_set_bool(value, param);

	if (!ret)
		show_features();

	return ret;
}

static const struct kernel_param_ops assist_ops = {
	.flags = KERNEL_PARAM_OPS_FL_NOARG,
	.set = assist_set,
	.get = param_get_bool,
};

module_param_cb(assist, &assist_ops, &assist, 0644);
MODULE_PARM_DESC(assist, "let the host help transitions along (default: on)");

/**
 * vpatch_mailbox_assist() - whether the host may command
 *
 * Return: the module's parameter
 */
bool vpatch_mailbox_assist(void)
{
	return READ_ONCE(assist);
}

static void store_event(u32 kind, s32 value)
{
	struct vpatch_mailbox_event *event;

	lockdep_assert_held(&mailbox.lock);

	event = &vpatch_mailbox.guest.events[mailbox.events % VPATCH_EVENTS];
	WRITE_ONCE(event->time_ns, ktime_get_ns());
	WRITE_ONCE(event->kind, kind);
	WRITE_ONCE(event->value, value);
	/* The host reads the count first. */
	smp_store_release(&vpatch_mailbox.guest.event_count, ++mailbox.events);
}

/**
 * vpatch_mailbox_event() - tell the host of something
 * @kind:	VPATCH_EVENT_*
 * @value:	see there
 */
void vpatch_mailbox_event(u32 kind, s32 value)
{
	mutex_lock(&mailbox.lock);
	store_event(kind, value);
	mutex_unlock(&mailbox.lock);
}

/**
 * vpatch_mailbox_tick() - the timer has fired
 *
 * Called in hard interrupt context.
 *
 * Return: true if there is a command to be served
 */
bool vpatch_mailbox_tick(void)
{
	u32 sequence = READ_ONCE(vpatch_mailbox.host.sequence);

	WRITE_ONCE(vpatch_mailbox.guest.wakeups,
		   READ_ONCE(vpatch_mailbox.guest.wakeups) + 1);

	return sequence && sequence != READ_ONCE(mailbox.acked);
}

static void acknowledge(u32 sequence, int result)
{
	lockdep_assert_held(&mailbox.lock);

	if (result)
		store_event(VPATCH_EVENT_REFUSED, result);
	else
		store_event(VPATCH_EVENT_COMMAND, mailbox.command.command);
	WRITE_ONCE(mailbox.acked, sequence);
	WRITE_ONCE(vpatch_mailbox.guest.result, result);
	/* The host reads the number first, then the result. */
	smp_store_release(&vpatch_mailbox.guest.acked, sequence);
}

static int run_command(const struct vpatch_host_half *command)
{
	int ret;

	if (!vpatch_mailbox_assist())
		return -EPERM;
	ret = vpatch_action_report(command);
	if (ret)
		return ret;

	switch (command->command) {
	case VPATCH_COMMAND_RETRY:
		return vpatch_action_retry(command);
	case VPATCH_COMMAND_RESCHED:
		return vpatch_action_resched(command);
	case VPATCH_COMMAND_SIGNAL:
		return vpatch_action_signal(command);
	case VPATCH_COMMAND_REPORT:
		return 0;
	default:
		return -EINVAL;
	}
}

/**
 * vpatch_mailbox_serve() - do the command that waits, if there is one
 *
 * Return: true if it was one that helps the transition along
 */
bool vpatch_mailbox_serve(void)
{
	bool served = false;
	u32 sequence;
	int result;

	mutex_lock(&mailbox.lock);
	/* Pairs with the host's release: the command is older than this. */
	sequence = smp_load_acquire(&vpatch_mailbox.host.sequence);
	if (!sequence || sequence == mailbox.acked)
		goto out;
	memcpy(&mailbox.command, &vpatch_mailbox.host, sizeof(mailbox.command));
	/* The copy is complete before the number is read again. */
	smp_rmb();
	/* The host is writing: the next tick will look again. */
	if (READ_ONCE(vpatch_mailbox.host.sequence) != sequence)
		goto out;
	result = run_command(&mailbox.command);
	acknowledge(sequence, result);
	served = !result && mailbox.command.command != VPATCH_COMMAND_REPORT;
out:
	mutex_unlock(&mailbox.lock);

	return served;
}

/**
 * vpatch_mailbox_drop() - another transition is in sight
 *
 * A command from before was meant for the one before.
 */
void vpatch_mailbox_drop(void)
{
	u32 sequence;

	mutex_lock(&mailbox.lock);
	sequence = READ_ONCE(vpatch_mailbox.host.sequence);
	if (sequence && sequence != mailbox.acked)
		acknowledge(sequence, -ESTALE);
	mutex_unlock(&mailbox.lock);
}

/**
 * vpatch_mailbox_watch() - looking for commands begins
 */
void vpatch_mailbox_watch(void)
{
	vpatch_mailbox_drop();
	mutex_lock(&mailbox.lock);
	store_event(VPATCH_EVENT_WATCH, 0);
	WRITE_ONCE(vpatch_mailbox.guest.watching, 1);
	mutex_unlock(&mailbox.lock);
}

/**
 * vpatch_mailbox_rest() - looking for commands ends
 */
void vpatch_mailbox_rest(void)
{
	mutex_lock(&mailbox.lock);
	WRITE_ONCE(vpatch_mailbox.guest.watching, 0);
	store_event(VPATCH_EVENT_REST, 0);
	mutex_unlock(&mailbox.lock);
}

void vpatch_mailbox_init(void)
{
	vpatch_mailbox.guest.version = VPATCH_MAILBOX_VERSION;
	vpatch_mailbox.guest.size = VPATCH_MAILBOX_SIZE;
	vpatch_mailbox.guest.instance = get_random_u64();
	show_features();
}

/**
 * vpatch_mailbox_open() - all is in place: the host may use the mailbox
 */
void vpatch_mailbox_open(void)
{
	/* The host reads the magic first. */
	smp_store_release(&vpatch_mailbox.guest.magic, VPATCH_MAILBOX_MAGIC);
}

/**
 * vpatch_mailbox_close() - nobody will look for commands any more
 */
void vpatch_mailbox_close(void)
{
	WRITE_ONCE(vpatch_mailbox.guest.magic, 0);
	/* What follows in the unloading is not seen before the magic is gone. */
	smp_wmb();
}
