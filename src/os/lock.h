/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/op.h"

/**
 * lock_try() - take the exclusive lock (flock) of an open file if nobody has it
 *
 * Return: 0; -EWOULDBLOCK; -errno.
 */
must_check int lock_try(int fd);

/**
 * lock_wait() - wait for the exclusive lock of an open file
 *
 * Thread: worker or main. Return: 0; -errno with op->err set (-ETIMEDOUT and -ECANCELED: the op
 * ended first).
 */
must_check int lock_wait(int fd, struct op *op);
