/* SPDX-License-Identifier: Apache-2.0 */
/*
 * viv-hook serving: what is to be posted comes from vivd over HOOK_CONTROL_FD (base/hookwords.h),
 * what came of it goes back. It keeps nothing: who is to get what, how often and when is vivd's.
 */
#pragma once

#include "base/err.h"

/** hook_serve() - serve until vivd ends it. Return: 0; -errno with @e set */
must_check int hook_serve(struct err *e);
