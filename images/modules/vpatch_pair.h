/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the pair of functions and the livepatch for it share. The livepatch gets
 * all it needs through the functions' arguments, so that neither module depends
 * on the other and they may be loaded in any order.
 */
#ifndef VPATCH_PAIR_H
#define VPATCH_PAIR_H

#include <linux/atomic.h>
#include <linux/compiler.h>
#include <linux/ktime.h>
#include <linux/printk.h>
#include <linux/processor.h>
#include <linux/sched.h>

/* One call of the outer function takes about 100 us. */
#define VPATCH_PAIR_ROUNDS	8
#define VPATCH_PAIR_ROUND_NS	12000

/**
 * struct vpatch_pair - what both versions of the outer function work on
 * @inner:	the inner function by its original address: which version of it
 *		a call reaches is decided for each call, by the caller's patch
 *		state
 * @calls:	calls of the outer function that have returned
 * @violations:	calls of the inner function that met the other version
 * @version:	of the outer function, as last called
 */
struct vpatch_pair {
	int		(*inner)(void);
	atomic64_t	calls;
	atomic64_t	violations;
	int		version;
};

/* The body of both versions of the outer function. */
static inline int vpatch_pair_work(struct vpatch_pair *pair, int version)
{
	int (*inner)(void);
	u64 end = ktime_get_ns();
	int met;
	int i;

	/* Read each time: the compiler must not come to know whom it calls. */
	for (i = 0; i < VPATCH_PAIR_ROUNDS; i++) {
		inner = READ_ONCE(pair->inner);
		met = inner();
		if (met != version) {
			atomic64_inc(&pair->violations);
			pr_warn("vpatch_pair: %s (%d): outer %d met inner %d in round %d\n",
				current->comm, current->pid, version, met, i);
		}
		end += VPATCH_PAIR_ROUND_NS;
		while (ktime_get_ns() < end)
			cpu_relax();
	}
	WRITE_ONCE(pair->version, version);
	atomic64_inc(&pair->calls);

	return version;
}

/*
 * The functions to patch. They are not static so that the compiler makes
 * neither copies of them nor versions with other arguments.
 */
int vpatch_pair_inner(void);
int vpatch_pair_outer(struct vpatch_pair *pair);

#endif /* VPATCH_PAIR_H */
