/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef VPATCH_TWINS_H
#define VPATCH_TWINS_H

#include <linux/types.h>

/* Calls the second of the two functions named vpatch_twin(). */
ssize_t vpatch_twins_second(char *buf);

#endif /* VPATCH_TWINS_H */
