/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "daemon/config.h"

/**
 * prepare_exec() - become viv-build, which gets a state directory its kernel and base template
 *
 * Return: only when that failed, -errno with @e set.
 */
must_check int prepare_exec(const struct config *config, struct err *e);
