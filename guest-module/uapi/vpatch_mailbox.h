/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR Apache-2.0 */
/*
 * The mailbox: one page in the guest through which the host helps a livepatch
 * transition along. The module owns the page; the host finds it by the symbol
 * "vpatch_mailbox" and reads and writes guest memory directly.
 *
 * Each half has one writer. The host fills in a command, and last its sequence
 * number (release). While a transition is in sight the module looks once a
 * millisecond (acquire), copies the command, sees whether the number is still
 * the same, checks all of the copy, does it, stores the result, and last the
 * number as acknowledged (release). Numbers go up by one and skip 0.
 *
 * The module goes on looking for half a second after a transition. Then a
 * command stays where it is. When the next transition comes in sight, the
 * module refuses what it has not taken yet unseen, with ESTALE.
 *
 * When the module is unloaded the page goes back to the guest's kernel. The
 * host writes only while it reads the magic, and 1 in @watching, and within
 * %VPATCH_GRACE_MS from before it has read them; the module lives at least that
 * much longer than the magic.
 *
 * All fields are little-endian and naturally aligned, with no hidden padding.
 * The host goes by version, size and features, and ignores what it does not
 * know; the module believes nothing.
 */
#ifndef _UAPI_VPATCH_MAILBOX_H
#define _UAPI_VPATCH_MAILBOX_H

#include <linux/types.h>

#define VPATCH_MAILBOX_SYMBOL	"vpatch_mailbox"
#define VPATCH_MAILBOX_MAGIC	0x786f626863746170ULL	/* "patchbox" */
#define VPATCH_MAILBOX_VERSION	1
#define VPATCH_MAILBOX_SIZE	4096
#define VPATCH_HALF_SIZE	2048

#define VPATCH_MAX_CPUS		4096	/* that can be named in a command */
#define VPATCH_MAX_TEXT		1024
#define VPATCH_EVENTS		64
#define VPATCH_GRACE_MS		100	/* from the end of the magic to the page's */

/* Bits of vpatch_guest_half.features: commands that are understood. */
#define VPATCH_FEATURE_RETRY	0x1U
#define VPATCH_FEATURE_RESCHED	0x2U
#define VPATCH_FEATURE_SIGNAL	0x4U
#define VPATCH_FEATURE_REPORT	0x8U

/* vpatch_host_half.command */
#define VPATCH_COMMAND_NONE	0
/* Run the kernel's own completion work now, on @cpu. Needs @work. */
#define VPATCH_COMMAND_RETRY	1
/* Interrupt the CPUs in @cpus, so that what runs there passes the kernel's exit. */
#define VPATCH_COMMAND_RESCHED	2
/*
 * Have the kernel wake and signal the tasks not yet moved, as it does by itself
 * after 15 s, and retry. Needs @work and @signals.
 */
#define VPATCH_COMMAND_SIGNAL	3
/* Nothing but what every command does: show what it reports in /sys/kernel/vpatch. */
#define VPATCH_COMMAND_REPORT	4

#define VPATCH_ANY_CPU		0xffffffffU

/* vpatch_mailbox_event.kind */
#define VPATCH_EVENT_WATCH	1	/* looking began; value: 0 */
#define VPATCH_EVENT_START	2	/* transition seen; value: target, 1 patched, 0 unpatched */
#define VPATCH_EVENT_COMMAND	3	/* command done; value: which */
#define VPATCH_EVENT_REFUSED	4	/* command refused; value: -errno */
#define VPATCH_EVENT_END	5	/* it is over; value: 1 patched, 0 unpatched, -1 failed */
#define VPATCH_EVENT_REST	6	/* looking ended; value: 0 */

/**
 * struct vpatch_mailbox_event - something the module saw or did
 * @time_ns:	CLOCK_MONOTONIC of the guest
 * @kind:	VPATCH_EVENT_*
 * @value:	see there
 */
struct vpatch_mailbox_event {
	__u64	time_ns;
	__u32	kind;
	__s32	value;
};

/**
 * struct vpatch_guest_half - written by the module only
 * @magic:	%VPATCH_MAILBOX_MAGIC, stored last when the module is loaded, and
 *		cleared first when it is unloaded
 * @version:	%VPATCH_MAILBOX_VERSION
 * @size:	%VPATCH_MAILBOX_SIZE
 * @features:	VPATCH_FEATURE_* bits; 0 while the module's parameter "assist" is off
 * @watching:	1 while the module looks for commands, else 0
 * @instance:	random number of this load of the module
 * @acked:	sequence number of the last command done or refused
 * @result:	of that one: 0 or -errno
 * @wakeups:	how often the module's timer has fired
 * @retries:	how often the completion work was started for the host
 * @rescheds:	how often CPUs were interrupted for the host
 * @signals:	how often tasks were signalled for the host
 * @event_count: events stored since the module was loaded, modulo 2^32
 * @reserved:	0
 * @events:	a ring: the newest is events[(event_count - 1) % VPATCH_EVENTS]
 * @unused:	0
 */
struct vpatch_guest_half {
	__u64	magic;
	__u32	version;
	__u32	size;
	__u32	features;
	__u32	watching;
	__u64	instance;
	__u32	acked;
	__s32	result;
	__u32	wakeups;
	__u32	retries;
	__u32	rescheds;
	__u32	signals;
	__u32	event_count;
	__u32	reserved;
	struct vpatch_mailbox_event events[VPATCH_EVENTS];
	__u8	unused[VPATCH_HALF_SIZE - 64 - VPATCH_EVENTS * 16];
};

/**
 * struct vpatch_host_half - written by the host only
 * @sequence:	number of the command below, stored last
 * @command:	VPATCH_COMMAND_*
 * @cpu:	for a retry: where, or %VPATCH_ANY_CPU
 * @switched:	tasks that the host has moved itself, in this transition
 * @last_pause_us: how long the guest was paused, in this transition
 * @text_size:	bytes of @text, at most %VPATCH_MAX_TEXT
 * @work:	address of klp_transition_work
 * @signals:	address of klp_signals_cnt
 * @cpus:	for a resched: one bit a CPU
 * @text:	lines about tasks that hold the transition up
 * @unused:	0
 */
struct vpatch_host_half {
	__u32	sequence;
	__u32	command;
	__u32	cpu;
	__u32	switched;
	__u32	last_pause_us;
	__u32	text_size;
	__u64	work;
	__u64	signals;
	__u64	cpus[VPATCH_MAX_CPUS / 64];
	char	text[VPATCH_MAX_TEXT];
	__u8	unused[VPATCH_HALF_SIZE - 40 - VPATCH_MAX_CPUS / 8 - VPATCH_MAX_TEXT];
};

/**
 * struct vpatch_mailbox - the page
 * @guest:	what the module tells
 * @host:	what the host asks
 */
struct vpatch_mailbox {
	struct vpatch_guest_half	guest;
	struct vpatch_host_half		host;
};

#endif /* _UAPI_VPATCH_MAILBOX_H */
