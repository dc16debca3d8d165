/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. Programs are used to listen on 127.0.0.1 or ::1 only, where nothing from
 * outside arrives. The host's proxy, refused at the guest's address, sends
 *
 *	GET /loopback/{port}		101, and the connection is one to that port
 *	Connection: Upgrade		502 nobody listens there either
 *	Upgrade: tcp			503 there are too many already; 400, 426 malformed
 *
 * The path is the host's alone, as /init is. Its proxy keeps clients from it, who reach as much by
 * the proxy itself; the agent does not listen where processes of the guest could connect to it, who
 * have the loopback anyway. The port belongs to whom it did: nothing is bound, forwarded or looked
 * for before somebody asks.
 */
#include "agent/loopback.h"

#include "agent/agent.h"
#include "agent/reply.h"
#include "base/guestwords.h"
#include "base/parse.h"
#include "base/str.h"

#include <errno.h>
#include <netinet/in.h>
#include <strings.h>

/* A peer that does not read leaves 64 KiB each way with us, so this bounds them at 64 MiB; what
 * some leave in pipes instead is bounded there. */
enum { CONNECTIONS_MAX = 512 };

static void on_fail(struct http_exchange *x, int code, void *arg)
{
	(void)arg;
	if (code == EMFILE || code == ENFILE || code == ENOMEM)
		reply_error(x, 503, "connect to the loopback: %s", strerror(code));
	else
		reply_error(x, 502, "nobody listens on that port of the loopback: %s",
			    strerror(code));
}

static void set_addresses(struct forward_spec *spec, uint16_t port)
{
	const struct sockaddr_in v4 = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	const struct sockaddr_in6 v6 = {
		.sin6_family = AF_INET6,
		.sin6_port = htons(port),
		.sin6_addr = IN6ADDR_LOOPBACK_INIT,
	};

	memcpy(&spec->addrs[0], &v4, sizeof(v4));
	memcpy(&spec->addrs[1], &v6, sizeof(v6));
	spec->n_addrs = 2;
}

static bool asks_for_tcp(const struct http_head *head)
{
	const char *protocol = http_head_get(head, "Upgrade");

	return head->upgrade && strcasecmp(protocol, GUEST_LOOPBACK_PROTOCOL) == 0;
}

static void reply_upgrade_required(struct http_exchange *x)
{
	static const struct http_field fields[] = {
		{ "Connection", "Upgrade" },
		{ "Upgrade", GUEST_LOOPBACK_PROTOCOL },
		{ NULL, NULL },
	};
	static const char text[] = "{\"code\":426,\"message\":\"this path needs Upgrade: tcp\"}";

	http_reply(x, 426, fields, "application/json", text, sizeof(text) - 1);
}

void loopback_serve(struct http_exchange *x, const struct route_params *params, void *arg)
{
	const struct http_head *head = http_exchange_head(x);
	struct agent *a = arg;
	struct forward_spec spec = {
		.group = &a->loopback,
		.protocol = GUEST_LOOPBACK_PROTOCOL,
		.on_fail = on_fail,
	};
	uint64_t port;

	if (parse_u64(params->at[0], 1, UINT16_MAX, &port) < 0) {
		reply_error(x, 400, "'%.32s' is no port", params->at[0]);
	} else if (!asks_for_tcp(head)) {
		reply_upgrade_required(x);
	} else if (head->body != HTTP_BODY_NONE) {
		reply_error(x, 400, "an upgrade to tcp has no body");
	} else if (a->loopback.n >= CONNECTIONS_MAX) {
		reply_error(x, 503, "more than %d connections to the loopback at once",
			    CONNECTIONS_MAX);
	} else {
		set_addresses(&spec, (uint16_t)port);
		forward_start(&a->loop, x, &spec);
	}
}
