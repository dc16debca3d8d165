/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the connection of an upgrade request one to an address: what comes behind its head goes
 * there byte by byte, whatever it is (http/tunnel.h). Loop thread only.
 */
#pragma once

#include "http/server.h"

#include <sys/socket.h>

enum { FORWARD_ADDRESSES_MAX = 2 };

/* Forwarded connections, so that all of them can be cut at once; embedded by the owner. */
struct forward_group {
	struct forward *first;
	size_t n;
};

struct forward_spec {
	struct sockaddr_storage addrs[FORWARD_ADDRESSES_MAX]; /* tried in this order */
	size_t n_addrs;
	struct forward_group *group; /* must outlive its connections */
	const char *protocol;        /* of the Upgrade header; static */
	void (*on_fail)(struct http_exchange *x, int code, void *arg);
	/* none accepts: code is a positive errno, of the last; it must answer the exchange */
	void *arg;
};

/**
 * forward_start() - answer an exchange with 101 as soon as one of the addresses has accepted
 * @x:		an upgrade request without a body; bound here
 *
 * There is no deadline but the client's patience: its leaving ends the attempt. A connection to
 * itself, which the kernel makes when it picks the very port that is asked for and nobody listens
 * there, counts as refused.
 */
void forward_start(uv_loop_t *loop, struct http_exchange *x, const struct forward_spec *spec);

/** forward_abort_all() - reset every connection of a group, towards both sides */
void forward_abort_all(struct forward_group *g);
