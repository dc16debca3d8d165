/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets. */
#pragma once

#include "base/err.h"

#include <stdio.h>

/**
 * listen_tcp_any() - listen on a port of all IPv4 addresses
 * @device:	only what comes in by this interface is accepted, and nothing from this machine
 *		itself; NULL = any
 *
 * Return: descriptor; -errno with @e set.
 */
must_check int listen_tcp_any(uint16_t port, const char *device, struct err *e);

/**
 * listen_open() - listen where a command line says
 * @where:	"ADDR:PORT" (IPv4; port 0 = any free one) or "unix:PATH"
 *
 * Return: descriptor; -errno with @e set.
 */
must_check int listen_open(const char *where, struct err *e);

/** listen_announce() - write "listening on …" with the actual port */
void listen_announce(int fd, const char *where, FILE *out);
