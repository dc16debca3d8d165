/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates for one's own machine: an authority made for the occasion, and one certificate of it
 * for a domain and all names below. The authority may sign for that domain only, and its key is
 * forgotten as soon as it has signed: who trusts it trusts this one certificate, and nobody can
 * make more of them.
 */
#pragma once

#include "base/err.h"

/**
 * tls_make() - make a directory with ca.pem, cert.pem and key.pem (0600)
 * @dir:	replaced as a whole if it is there
 * @domain:	in lower case, of two labels or more
 *
 * Return: 0; -errno with @e set.
 */
must_check int tls_make(const char *dir, const char *domain, struct err *e);
