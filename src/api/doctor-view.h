/* SPDX-License-Identifier: Apache-2.0 */
/* A doctor's report as programs and as people read it; also for `vivd doctor`. */
#pragma once

#include "base/json.h"
#include "sandbox/doctor.h"

/** doctor_json() - {"verdict", "items": [{"area", "name", "verdict", "what", "why", "advice"}]};
 * new reference; NULL without memory */
json_t *doctor_json(const struct doctor_report *report);

/** doctor_text() - a table, what it means in short below it; caller frees */
char *doctor_text(const struct doctor_report *report);
