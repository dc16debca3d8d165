/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of api/ share. */
#pragma once

#include "api/api.h"
#include "base/json.h"
#include "http/router.h"

struct snapshot;

enum { API_BODY_MAX = 1024 * 1024 };

struct event_feed;

struct api {
	struct manager *m;
	struct event_feed *events;
	bool webhooks;       /* there is who posts to them */
	bool any_address;    /* and does so wherever they are */
	char *domain;        /* owned; NULL = sandboxes have no names but localhost's */
	char *public_domain; /* the same as clients are told it, maybe with a port; owned */
};

/* The envd version whose API the agent serves, as E2B's clients compare it. */
extern const char api_envd_version[];

/* Lets pages of any origin read a reply; ended by a NULL name. */
extern const struct http_field api_cors_fields[];

/** json_of_text() - a string; of one that is not UTF-8 (a path, a guest's words), or was cut within
 * a character, all but ASCII is shown as '?'. New reference; NULL without memory */
json_t *json_of_text(const char *text);

/** json_of_time() - a time as E2B writes it (RFC 3339, UTC, milliseconds); null for 0, "never". New
 * reference; NULL without memory
 * @ms:	since 1970 */
json_t *json_of_time(uint64_t ms);

/** reply_bytes() - answer; every reply of ours goes through here or reply_start(), and gets
 * api_cors_fields
 * @fields:	extra headers ended by a NULL name, or NULL */
void reply_bytes(struct http_exchange *x, int status, const struct http_field *fields,
		 const char *content_type, const void *body, size_t n);

/** reply_start() - begin a reply whose end is not known; http_reply_write() and http_reply_end()
 * follow. Fields as of reply_bytes() */
void reply_start(struct http_exchange *x, int status, const struct http_field *fields);

/** api_is_preflight() - whether a browser asks what a page may send */
bool api_is_preflight(const struct http_head *head);

/** reply_preflight() - it may send all */
void reply_preflight(struct http_exchange *x);

/** reply_json() - answer with a JSON value, whose reference is taken over
 * @fields:	extra headers ended by a NULL name, or NULL */
void reply_json(struct http_exchange *x, int status, const struct http_field *fields,
		json_t *value);

/** json_of_error() - an error's kind, HTTP status and message; new reference */
json_t *json_of_error(const struct err *e);

/** reply_error() - answer with an error's kind, HTTP status and message */
void reply_error(struct http_exchange *x, const struct err *e);

/** reply_empty() - 204 */
void reply_empty(struct http_exchange *x);

/** json_of_sandbox() - E2B's Sandbox (the reply of create); new reference */
json_t *json_of_sandbox(const struct api *api, const struct sandbox *sb);

/** json_of_listed() - E2B's ListedSandbox with our `vivarium` object; new reference */
json_t *json_of_listed(const struct sandbox *sb);

/** json_of_detail() - E2B's SandboxDetail with our `vivarium` object in full; new reference */
json_t *json_of_detail(const struct api *api, const struct sandbox *sb);

/** json_of_snapshot() - E2B's SnapshotInfo with our `vivarium` object; new reference */
json_t *json_of_snapshot(const struct snapshot *s);

/** api_proxy() - serve a request that is for a sandbox. Return: whether it was */
bool api_proxy(struct api *api, struct http_exchange *x);

/** api_find() - the sandbox that a request's path names, for what runs when its body is there.
 * Return: borrowed; NULL with @e set */
struct sandbox *api_find(struct api *api, struct http_exchange *x, struct err *e);

/** api_params() - the path parameters of a request once more, for what runs when its body is there.
 * Return: 0; -ENOENT */
must_check int api_params(const struct http_head *head, struct route_params *out);

/* Handlers, as in struct route; @arg is the struct api. */
void sandboxes_create_v1(struct http_exchange *x, const struct route_params *p, void *arg);
void sandboxes_create_v2(struct http_exchange *x, const struct route_params *p, void *arg);
void sandboxes_list(struct http_exchange *x, const struct route_params *p, void *arg);
void sandboxes_list_v1(struct http_exchange *x, const struct route_params *p, void *arg);
void sandboxes_get(struct http_exchange *x, const struct route_params *p, void *arg);
void sandboxes_delete(struct http_exchange *x, const struct route_params *p, void *arg);
void sandboxes_timeout(struct http_exchange *x, const struct route_params *p, void *arg);
void sandboxes_refreshes(struct http_exchange *x, const struct route_params *p, void *arg);
void sandboxes_connect_v1(struct http_exchange *x, const struct route_params *p, void *arg);
void sandboxes_connect_v2(struct http_exchange *x, const struct route_params *p, void *arg);
void sandboxes_pause(struct http_exchange *x, const struct route_params *p, void *arg);
void sandboxes_pause_all(struct http_exchange *x, const struct route_params *p, void *arg);
void sandboxes_fork(struct http_exchange *x, const struct route_params *p, void *arg);
void sandboxes_rollback(struct http_exchange *x, const struct route_params *p, void *arg);
void checkpoints_create(struct http_exchange *x, const struct route_params *p, void *arg);
void checkpoints_list(struct http_exchange *x, const struct route_params *p, void *arg);
void checkpoints_delete(struct http_exchange *x, const struct route_params *p, void *arg);
void sandboxes_flatten(struct http_exchange *x, const struct route_params *p, void *arg);
void snapshots_create(struct http_exchange *x, const struct route_params *p, void *arg);
void snapshots_list(struct http_exchange *x, const struct route_params *p, void *arg);
void sandboxes_resume(struct http_exchange *x, const struct route_params *p, void *arg);
void sandboxes_ping(struct http_exchange *x, const struct route_params *p, void *arg);
void sandboxes_patch(struct http_exchange *x, const struct route_params *p, void *arg);
void sandboxes_port(struct http_exchange *x, const struct route_params *p, void *arg);
void sandboxes_exec(struct http_exchange *x, const struct route_params *p, void *arg);
void sandboxes_network(struct http_exchange *x, const struct route_params *p, void *arg);
void api_absent(struct http_exchange *x, const struct route_params *p, void *arg);
void templates_list(struct http_exchange *x, const struct route_params *p, void *arg);
void templates_get(struct http_exchange *x, const struct route_params *p, void *arg);
void templates_delete(struct http_exchange *x, const struct route_params *p, void *arg);
void templates_pool(struct http_exchange *x, const struct route_params *p, void *arg);
void templates_warm(struct http_exchange *x, const struct route_params *p, void *arg);
void sandboxes_console(struct http_exchange *x, const struct route_params *p, void *arg);
void doctor_get(struct http_exchange *x, const struct route_params *p, void *arg);
void doctor_post(struct http_exchange *x, const struct route_params *p, void *arg);
void usage_get(struct http_exchange *x, const struct route_params *p, void *arg);
void prune_post(struct http_exchange *x, const struct route_params *p, void *arg);
void logs_get_v1(struct http_exchange *x, const struct route_params *p, void *arg);
void logs_get_v2(struct http_exchange *x, const struct route_params *p, void *arg);
void metrics_get(struct http_exchange *x, const struct route_params *p, void *arg);
void metrics_latest(struct http_exchange *x, const struct route_params *p, void *arg);
void metrics_prometheus(struct http_exchange *x, const struct route_params *p, void *arg);
void events_get(struct http_exchange *x, const struct route_params *p, void *arg);
void webhooks_create(struct http_exchange *x, const struct route_params *p, void *arg);
void webhooks_list(struct http_exchange *x, const struct route_params *p, void *arg);
void webhooks_get(struct http_exchange *x, const struct route_params *p, void *arg);
void webhooks_patch(struct http_exchange *x, const struct route_params *p, void *arg);
void webhooks_delete(struct http_exchange *x, const struct route_params *p, void *arg);
void keys_create(struct http_exchange *x, const struct route_params *p, void *arg);
void keys_list(struct http_exchange *x, const struct route_params *p, void *arg);
void keys_delete(struct http_exchange *x, const struct route_params *p, void *arg);
void api_version(struct http_exchange *x, const struct route_params *p, void *arg);
void api_health(struct http_exchange *x, const struct route_params *p, void *arg);
