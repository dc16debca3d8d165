/* SPDX-License-Identifier: Apache-2.0 */
/* Programs that are a part of vivd in a process of their own (viv-tls, viv-hook). */
#pragma once

#include "base/err.h"

/**
 * part_begin() - set the process up, before it has anything that others want
 * @control_fd:	where vivd has put the socket to it; does not block from now on
 * @name:	the program's, for the error of who starts it by hand
 *
 * Nobody of the same uid may look into its memory, and a peer that is gone is an error of the
 * write, no signal. Return: 0; -errno with @e set.
 */
must_check int part_begin(int control_fd, const char *name, struct err *e);
