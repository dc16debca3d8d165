/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/serve.h"

#include "agent/clock.h"
#include "agent/exec.h"
#include "agent/files-tar.h"
#include "agent/files.h"
#include "agent/freeze.h"
#include "agent/fs.h"
#include "agent/identity.h"
#include "agent/loopback.h"
#include "agent/metrics.h"
#include "agent/process-rpc.h"
#include "agent/process.h"
#include "agent/reply.h"
#include "base/guestwords.h"
#include "base/str.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

enum { ALLOW_SIZE = 64 };

static void serve_health(struct http_exchange *x, const struct route_params *params, void *arg)
{
	(void)params;
	(void)arg;
	reply_empty(x, 204);
}

/* One service per file. What the host alone may call is kept from clients by its proxy; /health and
 * what the host alone calls are the paths that need no token, /files looks at it itself. */
static const struct route routes[] = {
	{ "GET", "/health", serve_health },
	{ "POST", "/init", identity_serve_init },
	{ "GET", GUEST_LOOPBACK_PATH "/{port}", loopback_serve },
	{ "POST", "/freeze", freeze_serve },
	{ "POST", "/unfreeze", freeze_serve_undo },
	{ "GET", "/clock", clock_serve },
	{ "POST", "/clock/{by}", clock_serve_set },
	{ "GET", "/envs", identity_serve_envs },
	{ "GET", "/metrics", metrics_serve },
	{ "POST", "/exec", exec_serve },
	{ "GET", "/files", files_serve_get },
	{ "POST", "/files", files_serve_post },
	{ "POST", "/files/compose", files_serve_compose },
	{ "GET", "/files/tar", files_serve_tar_get },
	{ "POST", "/files/tar", files_serve_tar_post },
	{ "POST", "/filesystem.Filesystem/{method}", fs_serve },
	{ "POST", "/process.Process/{method}", process_serve },
};

static bool needs_token(const struct http_head *head)
{
	static const char *const open_paths[] = { "/health", "/init", "/files", "/freeze",
						  "/unfreeze" };

	for (size_t i = 0; i < ARRAY_SIZE(open_paths); i++)
		if (streq(head->path, open_paths[i]))
			return false;
	return true;
}

static void reply_not_allowed(struct http_exchange *x, const char *allow)
{
	const struct http_field fields[] = { { "Allow", allow }, { NULL, NULL } };
	static const char text[] = "{\"code\":405,\"message\":\"method not allowed\"}";

	http_reply(x, 405, fields, "application/json", text, sizeof(text) - 1);
}

static void on_request(struct http_exchange *x, void *arg)
{
	struct agent *a = arg;
	const struct http_head *head = http_exchange_head(x);
	struct route_params params = { 0 };
	char allow[ALLOW_SIZE] = "";
	const struct route *route;

	if (needs_token(head) &&
	    !identity_token_ok(&a->identity, http_head_get(head, "X-Access-Token"))) {
		reply_error(x, 401, "unauthorized: X-Access-Token is missing or wrong");
		return;
	}
	route = route_find(routes, ARRAY_SIZE(routes), head, &params, allow, sizeof(allow));
	if (route != NULL)
		route->fn(x, &params, a);
	else if (allow[0] != '\0')
		reply_not_allowed(x, allow);
	else
		reply_error(x, 404, "no such path: %.256s", head->path);
}

/* As PID 1 all orphans end up here; those that are no process of ours are only reaped. */
static void on_child(uv_signal_t *handle, int number)
{
	struct agent *a = handle->data;
	int status;
	pid_t pid;

	(void)number;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		process_reaped(a, pid, status);
}

static void on_stop(uv_signal_t *handle, int number)
{
	(void)number;
	uv_stop(handle->loop);
}

static int watch_signal(struct agent *a, uv_signal_t *handle, uv_signal_cb fn, int number)
{
	int r = uv_signal_init(&a->loop, handle);

	handle->data = a;
	return r < 0 ? r : uv_signal_start(handle, fn, number);
}

static int watch_signals(struct agent *a)
{
	static const int stop[] = { SIGTERM, SIGINT, SIGPWR };
	int r = watch_signal(a, &a->on_child, on_child, SIGCHLD);

	static_assert(ARRAY_SIZE(stop) == ARRAY_SIZE(a->on_stop), "a handle per signal");
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(stop); i++)
		r = watch_signal(a, &a->on_stop[i], on_stop, stop[i]);
	return r;
}

int serve_start(struct agent *a, int listen_fd, struct err *e)
{
	const struct http_server_config config = { .handler = on_request, .arg = a };
	const struct sigaction ignore = { .sa_handler = SIG_IGN };
	int r;

	identity_init(&a->identity);
	process_init(a);
	if (sigaction(SIGPIPE, &ignore, NULL) < 0)
		return err_errno(e, errno, "ignore SIGPIPE");
	r = uv_loop_init(&a->loop);
	if (r < 0)
		return err_errno(e, -r, "make the event loop");
	r = watch_signals(a);
	if (r < 0)
		return err_errno(e, -r, "watch signals");
	a->server = http_server_new(&a->loop, &config);
	r = http_server_listen_fd(a->server, listen_fd);
	if (r < 0)
		return err_errno(e, -r, "accept connections");
	/* Whoever ended before the handler was there sent its SIGCHLD to nobody. */
	on_child(&a->on_child, SIGCHLD);
	return 0;
}

void serve_run(struct agent *a)
{
	uv_run(&a->loop, UV_RUN_DEFAULT);
}

void serve_stop(struct agent *a)
{
	http_server_free(a->server);
	forward_abort_all(&a->loopback);
	process_free_all(a);
	fs_stop(a);
	uv_close((uv_handle_t *)&a->on_child, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(a->on_stop); i++)
		uv_close((uv_handle_t *)&a->on_stop[i], NULL);
	uv_run(&a->loop, UV_RUN_DEFAULT);
	ignore_err(uv_loop_close(&a->loop)); /* a handle left over is freed by the exit */
	identity_done(&a->identity);
}
