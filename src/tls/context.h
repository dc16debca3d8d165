/* SPDX-License-Identifier: Apache-2.0 */
/* What all connections share: certificate, key and the rules of the protocol. */
#pragma once

#include "base/err.h"

#include <openssl/ssl.h>

/* How long a certificate is good, and for whom. */
struct tls_term {
	int64_t not_after_s; /* seconds since 1970 */
	bool covers;         /* it is for names under the domain */
};

struct tls_identity {
	SSL_CTX *ctx; /* owned; NULL = none */
	struct tls_term term;
};

/**
 * tls_identity_load() - a context from PEM files
 * @cert_fd:	the certificate, then those that lead to its root; borrowed
 * @key_fd:	its private key, without a password; borrowed
 * @domain:	that names are looked for under; NULL = none
 * @out:	tls_identity_done() frees it
 *
 * TLS 1.2 with forward secrecy and authenticated ciphers, or 1.3; ALPN is http/1.1. Return: 0;
 * -errno with @e set.
 */
must_check int tls_identity_load(int cert_fd, int key_fd, const char *domain,
				 struct tls_identity *out, struct err *e);

/** tls_identity_done() - drop the context, which lives on in its connections; idempotent */
void tls_identity_done(struct tls_identity *id);

/**
 * tls_term_read() - what a certificate says of itself; its key is not needed
 * @cert_fd:	a PEM file, whose first certificate is read; borrowed
 * @domain:	that names are looked for under; NULL = none
 *
 * Return: 0; -errno with @e set.
 */
must_check int tls_term_read(int cert_fd, const char *domain, struct tls_term *out, struct err *e);

/** tls_error() - set an error of OpenSSL's last one, with its reason. Return: -EINVAL */
int tls_error(struct err *e, const char *what);
