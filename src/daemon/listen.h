/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/err.h"

/**
 * listen_unix() - a listening unix socket with mode 0660, of group vivarium where that exists
 * @path:	a socket file left there by an earlier daemon is replaced: the caller holds the lock
 *		of its directory
 *
 * Return: descriptor, caller owns; -errno with @e set.
 */
must_check int listen_unix(const char *path, struct err *e);
