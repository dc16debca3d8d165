/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/doors.h"

#include "api/api.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "daemon/address.h"
#include "daemon/helper.h"
#include "daemon/hooks.h"
#include "daemon/listen.h"
#include "daemon/tls.h"

#include <stdlib.h>
#include <sys/resource.h>

enum {
	/* A peer that takes nothing of a reply for so long is gone; over the unix socket it may be
	 * a terminal that was stopped, and has all the time that it wants. */
	WRITE_TIMEOUT_MS = 300000,
	CONNECTIONS_MAX = 4096,
	DESCRIPTORS_SHARE = 8, /* of all descriptors, to one way in from outside */
};

enum door { DOOR_UNIX, DOOR_TCP, DOOR_PROXY, DOOR_TLS, DOOR_N };

struct doors {
	uv_loop_t *loop;
	struct api *api;
	struct http_server *servers[DOOR_N]; /* NULL = not open */
	struct tls *tls;                     /* NULL = not served */
};

/* So that those from outside never take all descriptors, with one more each to a sandbox. */
static unsigned connections_max(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return CONNECTIONS_MAX;
	return (unsigned)MIN(MAX(limit.rlim_cur / DESCRIPTORS_SHARE, 1), (rlim_t)CONNECTIONS_MAX);
}

static void open_server(struct doors *d, enum door door)
{
	struct http_server_config config = {
		.handler = door == DOOR_PROXY ? api_handle_proxy : api_handle,
		.arg = d->api,
	};

	if (door != DOOR_UNIX) {
		config.remote = true;
		config.write_timeout_ms = WRITE_TIMEOUT_MS;
		config.max_connections = connections_max();
	}
	d->servers[door] = http_server_new(d->loop, &config);
}

/* Listens on the address of a setting @key. */
static int open_tcp(struct doors *d, enum door door, const char *key, const char *value,
		    struct err *e)
{
	auto_close int fd = -1;
	struct address address;
	char text[ADDRESS_TEXT_SIZE];
	int r;

	if (address_parse(value, &address) < 0)
		return err_set(e, ERR_INTERNAL, "setting %s = %s is no address", key, value);
	fd = listen_tcp(&address, e);
	if (fd < 0)
		return fd;
	address_print(&address, text);
	open_server(d, door);
	r = http_server_listen_fd(d->servers[door], take_fd(&fd));
	if (r < 0)
		return err_errno(e, -r, "listen on %s", text);
	log_info("vivd.listens", kv_str(key, text));
	if (!address_is_loopback(&address))
		log_warning(
			"vivd.listens_in_public", kv_str(key, text),
			kv_str("risk", "without TLS, whoever is on the way reads keys and data"));
	return 0;
}

static int open_tls(struct doors *d, const struct config *c, struct err *e)
{
	auto_close int fd = -1;
	struct address address;
	char text[ADDRESS_TEXT_SIZE];
	struct tls_spec spec;
	int r;

	if (address_parse(c->tls_listen, &address) < 0)
		return err_set(e, ERR_INTERNAL, "setting tls_listen = %s is no address",
			       c->tls_listen);
	fd = listen_tcp(&address, e);
	if (fd < 0)
		return fd;
	address_print(&address, text);
	open_server(d, DOOR_TLS);
	spec = (struct tls_spec){
		.cert = c->tls_cert,
		.key = c->tls_key,
		.domain = c->domain,
		.uid = helper_uid(c, HELPER_TLS),
		.max_connections = connections_max(),
		.server = d->servers[DOOR_TLS],
	};
	r = tls_open(d->loop, &spec, take_fd(&fd), &d->tls, e);
	if (r < 0)
		return err_wrap(e, "setting tls_listen = %s", c->tls_listen);
	api_set_domain_port(d->api, address_port(&address));
	log_info("vivd.listens", kv_str("tls_listen", text));
	return 0;
}

static int open_unix(struct doors *d, const char *path, struct err *e)
{
	auto_close int fd = listen_unix(path, e);
	int r;

	if (fd < 0)
		return fd;
	open_server(d, DOOR_UNIX);
	r = http_server_listen_fd(d->servers[DOOR_UNIX], take_fd(&fd));
	return r < 0 ? err_errno(e, -r, "listen on %s", path) : 0;
}

static int check_keys(struct doors *d, const char *key, const char *value, struct err *e)
{
	int r = api_check_keys(d->api, e);

	return r < 0 ? err_wrap(e, "setting %s = %s", key, value) : 0;
}

int doors_open(uv_loop_t *loop, struct manager *m, const struct config *c, struct doors **out,
	       struct err *e)
{
	struct doors *d = xcalloc(1, sizeof(*d));
	int r = 0;

	*out = d;
	d->loop = loop;
	d->api = api_new(m, c->domain);
	if (hooks_possible())
		api_allow_webhooks(d->api, streq(c->webhook_private, "on"));
	if (c->listen != NULL)
		r = check_keys(d, "listen", c->listen, e);
	if (r == 0 && c->listen != NULL)
		r = open_tcp(d, DOOR_TCP, "listen", c->listen, e);
	if (r == 0 && c->proxy_listen != NULL)
		r = open_tcp(d, DOOR_PROXY, "proxy_listen", c->proxy_listen, e);
	if (r == 0 && c->tls_listen != NULL)
		r = check_keys(d, "tls_listen", c->tls_listen, e);
	if (r == 0 && c->tls_listen != NULL)
		r = open_tls(d, c, e);
	return r < 0 ? r : open_unix(d, c->socket, e);
}

void doors_reload(struct doors *d)
{
	if (d->tls != NULL)
		tls_reload(d->tls);
}

void doors_close(struct doors *d)
{
	if (d != NULL && d->tls != NULL)
		tls_close(take_ptr(&d->tls));
	for (size_t i = 0; d != NULL && i < DOOR_N; i++) {
		if (d->servers[i] != NULL)
			http_server_free(take_ptr(&d->servers[i]));
	}
}

void doors_free(struct doors *d)
{
	if (d == NULL)
		return;
	api_free(d->api);
	free(d);
}
