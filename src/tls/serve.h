/* SPDX-License-Identifier: Apache-2.0 */
/*
 * viv-tls serving: certificates and connections come from vivd over TLS_CONTROL_FD
 * (base/tlswords.h). It runs as nobody, with no way to anything but the sockets that it is given.
 */
#pragma once

#include "base/err.h"

struct tls_serve_spec {
	const char *domain; /* that certificates should be for; NULL = none */
	unsigned max;       /* connections at a time; more are closed */
};

/** tls_serve() - serve until vivd ends. Return: 0; -errno with @e set */
must_check int tls_serve(const struct tls_serve_spec *spec, struct err *e);
