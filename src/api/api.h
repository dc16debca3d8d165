/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP API: E2B's control plane, our own resources beside it, and the proxy into the sandboxes,
 * all on the same listeners. Over TCP the API needs a key; what is for a sandbox does not. Thin: a
 * request becomes a call of the manager, its outcome a reply. The loop thread only. Errors are
 * {"code": HTTP status, "message": text, "error_code": kind}.
 */
#pragma once

#include "http/server.h"
#include "sandbox/sandbox.h"

struct api;

/**
 * api_new() - an API over a manager, which must outlive it
 * @domain:	that sandboxes have names under, PORT-ID.DOMAIN, in lower case; a :PORT behind it is
 *		where clients find it, and told them with it; NULL = none
 */
struct api *api_new(struct manager *m, const char *domain);

/** api_set_domain_port() - tell clients a port with the domain, unless it came with one: what
 * serves it was bound. 443 is what they take without being told */
void api_set_domain_port(struct api *api, unsigned port);

/** api_allow_webhooks() - from now on webhooks can be made: somebody posts to them
 * @any_address:	also to loopback and private addresses */
void api_allow_webhooks(struct api *api, bool any_address);

/** api_check_keys() - whether TCP may be served. Return: 0; -errno with @e set: nobody has a key */
must_check int api_check_keys(struct api *api, struct err *e);

/** api_free() - after the server that uses it; NULL is allowed */
void api_free(struct api *api);

/** api_handle() - handler for an http server; @arg is the struct api */
void api_handle(struct http_exchange *x, void *arg);

/** api_handle_proxy() - handler for a server that is the way to sandboxes only: what names none is
 * 404; @arg is the struct api */
void api_handle_proxy(struct http_exchange *x, void *arg);
