/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef VPATCH_GUEST_H
#define VPATCH_GUEST_H

#include <linux/module.h>
#include <linux/types.h>

#include "uapi/vpatch_mailbox.h"

#define VPATCH_GUEST_VERSION	"0.2.0"

enum vpatch_state {
	VPATCH_IDLE,
	VPATCH_PATCHING,
	VPATCH_UNPATCHING,
};

enum vpatch_result {
	VPATCH_RESULT_NONE,
	VPATCH_RESULT_PATCHED,
	VPATCH_RESULT_UNPATCHED,
	VPATCH_RESULT_FAILED,
};

/**
 * struct vpatch_status - what is known of the running or the last transition
 * @state:	direction of the running transition, %VPATCH_IDLE if none runs
 * @patch:	livepatch in, or last in, transition; empty if unknown or none
 * @last_us:	how long the last transition took
 * @result:	how the last one ended
 */
struct vpatch_status {
	enum vpatch_state	state;
	char			patch[MODULE_NAME_LEN];
	u64			last_us;
	enum vpatch_result	result;
};

/**
 * struct vpatch_help - how the host has helped the running or last transition
 * @retries:	how often it started the kernel's completion work
 * @signals:	how often it had the kernel signal
 * @switched:	tasks that it says to have moved itself
 * @last_pause_us: how long it says to have paused the guest, in all
 */
struct vpatch_help {
	u32	retries;
	u32	signals;
	u32	switched;
	u32	last_pause_us;
};

/* transition.c */
bool vpatch_transition_runs(void);
enum vpatch_state vpatch_proven_target(void);
unsigned int vpatch_count_pending(void);

/* mailbox.c */
extern struct vpatch_mailbox vpatch_mailbox;

void vpatch_mailbox_init(void);
void vpatch_mailbox_open(void);
void vpatch_mailbox_close(void);
bool vpatch_mailbox_assist(void);
void vpatch_mailbox_event(u32 kind, s32 value);
bool vpatch_mailbox_tick(void);
bool vpatch_mailbox_serve(void);
void vpatch_mailbox_drop(void);
void vpatch_mailbox_watch(void);
void vpatch_mailbox_rest(void);

/* actions.c */
int vpatch_action_retry(const struct vpatch_host_half *command);
int vpatch_action_resched(const struct vpatch_host_half *command);
int vpatch_action_signal(const struct vpatch_host_half *command);
int vpatch_action_report(const struct vpatch_host_half *command);
void vpatch_help_reset(void);
void vpatch_help_read(struct vpatch_help *copy);
int vpatch_help_emit_blockers(char *buf);

/* watch.c */
int vpatch_watch_init(void);
void vpatch_watch_exit(void);
int vpatch_watch_unpatch(const char *patch);
void vpatch_watch_status(struct vpatch_status *status);

/* sysfs.c */
int vpatch_sysfs_init(void);
void vpatch_sysfs_exit(void);

#endif /* VPATCH_GUEST_H */
