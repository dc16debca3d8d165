/* SPDX-License-Identifier: Apache-2.0 */
/* Ownership of JSON values by scope; for those who use jansson anyway. Nothing in base needs it. */
#pragma once

#include "base/macros.h"

#include <jansson.h>

/** json_done() - clean-up handler behind auto_json */
static inline void json_done(json_t **j)
{
	json_decref(*j);
}

#define auto_json cleanup(json_done) json_t
