/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/macros.h"

/**
 * sig_reset() - all signals to their default action, and none blocked, for a child before its exec
 *
 * Async-signal-safe. Return: 0; -errno.
 */
must_check int sig_reset(void);
