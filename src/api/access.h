/* SPDX-License-Identifier: Apache-2.0 */
/* Who may call the API. */
#pragma once

#include "api/api-internal.h"
#include "store/keys.h"

enum { KEY_HEX_LEN = 40, KEY_TEXT_SIZE = 4 + KEY_HEX_LEN + 1 };

/** access_is_local() - whether a request came over the unix socket: the right to open that is the
 * right to everything, and no key is asked for */
bool access_is_local(const struct http_exchange *x);

/** access_hash() - what the store keeps of a key's text */
void access_hash(const char *key, unsigned char out[KEY_HASH_BYTES]);

/** access_check() - whether a request may use the API: it is local, or has a key (X-API-KEY, or
 * Authorization: Bearer). Otherwise it is answered, with 401 */
bool access_check(struct api *api, struct http_exchange *x);
