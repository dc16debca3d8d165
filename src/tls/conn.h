/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection: a client's TLS on one side, the same bytes in the clear on the other.
 *
 * Theory of operation. OpenSSL reads and writes the client's socket itself; libuv only says when
 * that, or the clear side, is ready. After each such word conn_settle() moves what can be moved,
 * then asks for exactly what is missing. Each direction has one buffer, which is filled only when
 * it is empty: so a reader that is behind stops the writer, through the kernel's own buffers, and a
 * connection costs a bounded amount, and nothing but OpenSSL's state while it is idle.
 *
 * Ends. The client's close_notify becomes a shutdown of the clear side for writing, and a shutdown
 * by vivd a close_notify; the other direction goes on. vivd shuts a side down before it closes it,
 * unless it breaks off a reply: so an end that begins with a close becomes a reset of the client's
 * connection, behind what was written before. A client that ends without a close_notify is one that
 * went away.
 *
 * Deadlines: for the handshake, and for a client that takes nothing of what waits for it. Idle
 * connections are ended by vivd.
 */
#pragma once

#include "base/macros.h"

#include <openssl/ssl.h>
#include <uv.h>

struct tls_conn;

/** tls_conn_list - connections that are open, and how many there are */
struct tls_conn_list {
	struct tls_conn *first;
	unsigned n;
};

/**
 * tls_conn_new() - begin a handshake
 * @list:	that it is in until its end
 * @client, @clear:	connected sockets that do not block; owned from now on
 *
 * Without memory both are closed.
 */
void tls_conn_new(uv_loop_t *loop, struct tls_conn_list *list, SSL_CTX *ctx, int client, int clear);

/** tls_conn_close_all() - end all connections of a list at once */
void tls_conn_close_all(struct tls_conn_list *list);
