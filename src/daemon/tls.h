/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS, by a process of its own. vivd accepts connections, keeps one end of a socket pair for each
 * and serves it as HTTP; the accepted socket and the other end go to viv-tls, which translates
 * between them. So vivd never has the private key or libssl in its memory, viv-tls never has more
 * than sockets, and nothing but vivd holds the listening socket: it is free when vivd ends.
 *
 * viv-tls that ends takes its connections along, and another one is started, with back-off; until
 * it is there, clients wait in the kernel's queue.
 */
#pragma once

#include "base/err.h"
#include "http/server.h"

struct tls;

struct tls_spec {
	const char
		*cert; /* paths of PEM files, looked up anew for each process and reload; copied */
	const char *key;
	const char *domain; /* that the certificate should be for; NULL = none; copied */
	unsigned uid;       /* of viv-tls, and its gid */
	unsigned max_connections;
	struct http_server *server; /* gets the clear side; borrowed, outlives tls_close() */
};

/**
 * tls_open() - start viv-tls and accept
 * @listen_fd:	listening TCP socket that does not block; owned from now on
 * @out:	tls_close() ends it
 *
 * Waits until viv-tls has the certificate: a bad one is an error here. Return: 0; -errno with @e
 * set.
 */
must_check int tls_open(uv_loop_t *loop, const struct tls_spec *spec, int listen_fd,
			struct tls **out, struct err *e);

/** tls_reload() - have the files read anew; connections go on with what they began with. What comes
 * of it is logged */
void tls_reload(struct tls *t);

/** tls_close() - stop accepting and end viv-tls; the loop must still run for close callbacks */
void tls_close(struct tls *t);
