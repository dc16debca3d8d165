/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "api/api-internal.h"

/** signed_files_asked() - whether a request is for a signed URL of a file: it names no sandbox, its
 * signature does */
bool signed_files_asked(const struct http_head *head);

/** signed_files_find() - the running sandbox by whose token such a request is signed; borrowed,
 * NULL if there is none. Whether it has expired is the agent's to say */
struct sandbox *signed_files_find(struct api *api, const struct http_head *head);
