/* SPDX-License-Identifier: Apache-2.0 */
/* Signals by name and as text. */
#pragma once

#include "base/macros.h"

enum { SIGNAL_TEXT_SIZE = 64 };

/** signal_parse() - the number of "SIGNAL_SIGTERM" or "SIGTERM". Return: number; -EINVAL */
must_check int signal_parse(const char *name);

/** signal_text() - how a process ended by a signal: "signal: killed", "signal: 34" */
void signal_text(int number, bool dumped_core, char out[SIGNAL_TEXT_SIZE]);
