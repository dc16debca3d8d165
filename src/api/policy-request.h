/* SPDX-License-Identifier: Apache-2.0 */
/* The fields restart, idle and onIdle of the object `vivarium`, of a new sandbox and of one that is
 * there. No HTTP here, so it can be fuzzed. */
#pragma once

#include "base/err.h"
#include "sandbox/sandbox.h"

#include <jansson.h>

/**
 * policy_request_take() - read them as a merge patch: what is left out stays, what is null is none
 * @own:	the object `vivarium`
 * @policy:	what is now, and then what is to be
 *
 * Return: 0; -errno with @e set (ERR_INVALID).
 */
must_check int policy_request_take(const json_t *own, struct sandbox_policy *policy, struct err *e);
