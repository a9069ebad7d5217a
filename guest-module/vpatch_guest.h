/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef VPATCH_GUEST_H
#define VPATCH_GUEST_H

#include <linux/module.h>
#include <linux/types.h>

#define VPATCH_GUEST_VERSION	"0.1.0"

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

/* transition.c */
bool vpatch_transition_runs(void);
enum vpatch_state vpatch_proven_target(void);
unsigned int vpatch_count_pending(void);

/* watch.c */
int vpatch_watch_init(void);
void vpatch_watch_exit(void);
int vpatch_watch_unpatch(const char *patch);
void vpatch_watch_status(struct vpatch_status *status);

/* sysfs.c */
int vpatch_sysfs_init(void);
void vpatch_sysfs_exit(void);

#endif /* VPATCH_GUEST_H */
