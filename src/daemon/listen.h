/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/err.h"
#include "daemon/address.h"

/**
 * listen_unix() - a listening unix socket with mode 0660, of group vivarium where that exists
 * @path:	a socket file left there by an earlier daemon is replaced: the caller holds the lock
 *		of its directory
 *
 * Return: descriptor, caller owns; -errno with @e set.
 */
must_check int listen_unix(const char *path, struct err *e);

/**
 * listen_tcp() - a listening TCP socket
 * @address:	of which the port is set to the real one where it was 0
 *
 * Return: descriptor, caller owns; -errno with @e set.
 */
must_check int listen_tcp(struct address *address, struct err *e);
