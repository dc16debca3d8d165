/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Templates: GET /templates, GET /v2/templates, GET and DELETE /templates/{id}, and, which E2B has
 * not, POST /templates/{id}/warm: make an image of a booted VM now, and answer when it is there,
 * and PUT /templates/{id}/pool: keep sandboxes ready. `startCmd` and `readyCmd` are what E2B calls
 * so in a build.
 */
#include "sandbox/templates.h"
#include "api/api-internal.h"
#include "api/body.h"
#include "api/late-reply.h"
#include "base/str.h"
#include "sandbox/ready.h"
#include "sandbox/snapshots.h"
#include "sandbox/warm.h"
#include "template/start.h"

#include <stdio.h>
#include <string.h>

enum { UUID_SIZE = 37 };

/* Clients want a UUID for a build: it is told from the digest of the build's disk. */
static void build_id(const struct template *t, char out[UUID_SIZE])
{
	const char *h = t->sha256;

	snprintf(out, UUID_SIZE, "%.8s-%.4s-4%.3s-8%.3s-%.12s", h, h + 8, h + 13, h + 17, h + 20);
}

static json_t *json_of_image(const struct warm_image *image)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:o, s:o, s:I, s:s, s:b}", "generation",
			 (json_int_t)image->generation, "cpus", (json_int_t)image->cpus, "memoryMB",
			 (json_int_t)image->memory_mib, "diskSizeMB", (json_int_t)image->disk_mib,
			 "createdAt", json_of_time(image->created_ms), "usedAt",
			 json_of_time(image->used_ms), "bytes", (json_int_t)image->bytes,
			 "acceleration", image->acceleration, "usable", image->usable);
}

static void add_start(json_t *o, const struct template *t)
{
	struct template_start start;

	if (template_start_read(t, &start, NULL) < 0 || start.command[0] == '\0')
		return;
	ignore_err(json_object_set_new(o, "startCmd", json_of_text(start.command)));
	ignore_err(json_object_set_new(o, "readyCmd", json_of_text(start.ready)));
}

static void add_failure(json_t *o, const struct warm_failure *failure)
{
	if (failure == NULL)
		return;
	ignore_err(json_object_set_new(o, "lastError", json_of_text(failure->error)));
	ignore_err(json_object_set_new(o, "retryAt", json_of_time(failure->again_ms)));
}

static void add_pool(json_t *o, struct manager *m, const char *name)
{
	struct ready_view v;
	json_t *pool;

	if (!ready_view(m, name, &v))
		return;
	pool = json_pack("{s:i, s:i, s:i, s:I, s:I, s:I, s:I}", "size", (int)v.wish.size, "ready",
			 (int)v.ready, "cpus", (int)v.wish.cpus, "memoryMB",
			 (json_int_t)v.wish.memory_mib, "diskSizeMB", (json_int_t)v.wish.disk_mib,
			 "memoryBytes", (json_int_t)v.memory_bytes, "diskBytes",
			 (json_int_t)v.disk_bytes);
	if (pool != NULL && v.error[0] != '\0')
		ignore_err(json_object_set_new(pool, "lastError", json_of_text(v.error)));
	if (pool != NULL && v.again_ms != 0)
		ignore_err(json_object_set_new(pool, "retryAt", json_of_time(v.again_ms)));
	ignore_err(json_object_set_new(o, "pool", pool)); /* no memory: it is not told */
}

/* Our own fields. */
static json_t *own_fields(struct manager *m, const struct template *t)
{
	struct warm_image_list images = { 0 };
	json_t *list = json_array();
	json_t *o;

	/* One that was removed just now has none. */
	ignore_err(warm_list(m, t->name, &images, NULL));
	vec_foreach (image, &images)
		ignore_err(json_array_append_new(list, json_of_image(image))); /* no memory: 500 */
	warm_image_list_done(&images);
	o = json_pack("{s:s, s:s, s:s, s:I, s:o, s:b}", "sha256", t->sha256, "user", t->user,
		      "workdir", t->workdir, "rootBytes", (json_int_t)t->root_bytes, "images", list,
		      "making", warm_is_making(m, t->name));
	add_start(o, t);
	add_failure(o, warm_failure(m, t->name));
	add_pool(o, m, t->name);
	return o;
}

static json_t *json_of_build(struct manager *m, const struct template *t)
{
	struct template_sizes sizes = template_sizes(m, t);
	char uuid[UUID_SIZE];

	build_id(t, uuid);
	return json_pack("{s:s, s:s, s:o, s:o, s:o, s:i, s:I, s:I}", "buildID", uuid, "status",
			 "ready", "createdAt", json_of_time(t->created_ms), "updatedAt",
			 json_of_time(t->created_ms), "finishedAt", json_of_time(t->created_ms),
			 "cpuCount", sizes.cpus, "memoryMB", (json_int_t)sizes.memory_mib,
			 "diskSizeMB", (json_int_t)sizes.disk_mib);
}

/* What both forms of E2B's Template have. */
static json_t *json_of_template(struct manager *m, const struct template *t)
{
	return json_pack("{s:s, s:[s], s:[s], s:b, s:o, s:o, s:n, s:i, s:o}", "templateID", t->name,
			 "names", t->name, "aliases", t->name, "public", false, "createdAt",
			 json_of_time(t->created_ms), "updatedAt", json_of_time(t->created_ms),
			 "lastSpawnedAt", "spawnCount", 0, "vivarium", own_fields(m, t));
}

static json_t *json_of_listed_template(struct manager *m, const struct template *t)
{
	struct template_sizes sizes = template_sizes(m, t);
	json_t *o = json_of_template(m, t);
	char uuid[UUID_SIZE];

	build_id(t, uuid);
	if (o != NULL &&
	    json_object_update_new(o,
				   json_pack("{s:s, s:s, s:i, s:I, s:I, s:s, s:n, s:i}", "buildID",
					     uuid, "buildStatus", "ready", "cpuCount", sizes.cpus,
					     "memoryMB", (json_int_t)sizes.memory_mib, "diskSizeMB",
					     (json_int_t)sizes.disk_mib, "envdVersion",
					     api_envd_version, "createdBy", "buildCount", 1)) == 0)
		return o;
	json_decref(o);
	return NULL;
}

/* A snapshot as a template of one build, which is itself. */
static json_t *json_of_snapshot_build(const struct snapshot *s)
{
	const struct checkpoint *c = &s->checkpoint;
	char uuid[UUID_SIZE];

	snprintf(uuid, sizeof(uuid), "%08llx-0000-4000-8000-%012llx",
		 (unsigned long long)(c->devices_sum >> 32), (unsigned long long)s->created_ms);
	return json_pack("{s:s, s:s, s:o, s:o, s:o, s:i, s:I, s:I}", "buildID", uuid, "status",
			 err_is_set(&s->fault) ? "error" : "ready", "createdAt",
			 json_of_time(s->created_ms), "updatedAt", json_of_time(s->created_ms),
			 "finishedAt", json_of_time(s->created_ms), "cpuCount", c->cpus, "memoryMB",
			 (json_int_t)c->memory_mib, "diskSizeMB", (json_int_t)c->disk_mib);
}

static json_t *json_of_snapshot_template(const struct snapshot *s)
{
	auto_json *info = json_of_snapshot(s);

	return json_pack("{s:O, s:O, s:O, s:b, s:o, s:o, s:n, s:i, s:{s:O}}", "templateID",
			 json_object_get(info, "snapshotID"), "names",
			 json_object_get(info, "names"), "aliases", json_object_get(info, "names"),
			 "public", false, "createdAt", json_of_time(s->created_ms), "updatedAt",
			 json_of_time(s->created_ms), "lastSpawnedAt", "spawnCount", 0, "vivarium",
			 "snapshot", json_object_get(info, "vivarium"));
}

static json_t *json_of_listed_snapshot(const struct snapshot *s)
{
	json_t *o = json_of_snapshot_template(s);
	auto_json *build = json_of_snapshot_build(s);

	if (o != NULL && build != NULL &&
	    json_object_update_new(o,
				   json_pack("{s:O, s:O, s:O, s:O, s:O, s:s, s:n, s:i}", "buildID",
					     json_object_get(build, "buildID"), "buildStatus",
					     json_object_get(build, "status"), "cpuCount",
					     json_object_get(build, "cpuCount"), "memoryMB",
					     json_object_get(build, "memoryMB"), "diskSizeMB",
					     json_object_get(build, "diskSizeMB"), "envdVersion",
					     api_envd_version, "createdBy", "buildCount", 1)) == 0)
		return o;
	json_decref(o);
	return NULL;
}

/* What sandboxes can be made of, too. */
static void list_snapshots(struct manager *m, json_t *list)
{
	struct snapshot_views all = snapshots_all(m);

	vec_foreach (s, &all)
		ignore_err(json_array_append_new(list, json_of_listed_snapshot(*s))); /* as above */
	snapshot_views_done(&all);
}

void templates_list(struct http_exchange *x, const struct route_params *p, void *arg)
{
	struct api *api = arg;
	struct templates templates = { 0 };
	json_t *list = json_array();
	struct err e = { 0 };

	(void)p;
	if (manager_templates(api->m, &templates, &e) < 0) {
		json_decref(list);
		reply_error(x, &e);
		return;
	}
	vec_foreach (t, &templates)
		ignore_err(json_array_append_new(list, json_of_listed_template(api->m, t)));
	templates_done(&templates);
	list_snapshots(api->m, list);
	reply_json(x, 200, NULL, list);
}

static void reply_snapshot(struct http_exchange *x, const struct snapshot *s)
{
	json_t *o = json_of_snapshot_template(s);

	if (o != NULL)
		ignore_err(json_object_set_new(
			o, "builds", json_pack("[o]", json_of_snapshot_build(s)))); /* as above */
	reply_json(x, 200, NULL, o);
}

void templates_get(struct http_exchange *x, const struct route_params *p, void *arg)
{
	struct api *api = arg;
	const struct snapshot *s = snapshot_find(api->m, p->at[0]);
	struct template t;
	struct err e = { 0 };
	json_t *o;

	if (s != NULL) {
		reply_snapshot(x, s);
		return;
	}
	if (manager_template(api->m, p->at[0], &t, &e) < 0) {
		reply_error(x, &e);
		return;
	}
	o = json_of_template(api->m, &t);
	if (o != NULL)
		ignore_err(json_object_set_new(
			o, "builds", json_pack("[o]", json_of_build(api->m, &t)))); /* as above */
	reply_json(x, 200, NULL, o);
}

static void on_done(const struct err *e, void *arg)
{
	struct http_exchange *x = late_reply_take(arg);

	if (x != NULL && e == NULL)
		reply_empty(x);
	else if (x != NULL)
		reply_error(x, e);
}

/* Only they have tags, and names that no template has. */
static bool is_snapshot(const struct api *api, const char *id)
{
	return strchr(id, ':') != NULL || snapshot_is_name(api->m, id);
}

void templates_delete(struct http_exchange *x, const struct route_params *p, void *arg)
{
	struct api *api = arg;
	struct late_reply *late = late_reply_new(x);
	struct err e = { 0 };
	int r;

	if (is_snapshot(api, p->at[0]))
		r = snapshot_remove_start(api->m, p->at[0], on_done, late, &e);
	else
		r = template_remove_start(api->m, p->at[0], on_done, late, &e);
	if (r == 0)
		return;
	late_reply_take(late);
	reply_error(x, &e);
}

/* Sizes of sandboxes that are to be: of one that is not said, 0. */
static int read_sizes(const json_t *o, struct db_pool *out, struct err *e)
{
	int64_t cpus = 0;
	int64_t memory_mib = 0;
	int64_t disk_mib = 0;
	int r = body_int(o, "cpus", 1, &cpus, e);

	if (r >= 0)
		r = body_int(o, "memoryMB", 1, &memory_mib, e);
	if (r >= 0)
		r = body_int(o, "diskSizeMB", 1, &disk_mib, e);
	if (r < 0)
		return r;
	if (cpus > UINT16_MAX)
		return err_set(e, ERR_INVALID, "field 'cpus' is too large");
	out->cpus = (unsigned)cpus;
	out->memory_mib = (uint64_t)memory_mib;
	out->disk_mib = (uint64_t)disk_mib;
	return 0;
}

/* Return: as body_int(). */
static int read_size(const json_t *o, const char *key, struct db_pool *out, struct err *e)
{
	int64_t size = 0;
	int r = body_int(o, key, 0, &size, e);

	if (r > 0 && size > POOL_SIZE_MAX)
		return err_set(e, ERR_INVALID, "field '%s': a pool has at most %d sandboxes", key,
			       POOL_SIZE_MAX);
	out->size = (unsigned)size;
	return r;
}

/* The template that a request is about. Return: 0; -errno with @e set. */
static int read_template(struct http_exchange *x, struct db_pool *out, struct err *e)
{
	const struct http_head *head = http_exchange_head(x);
	struct route_params params;

	if (api_params(head, &params) < 0)
		return err_set(e, ERR_NOT_FOUND, "no endpoint %s", head->path);
	if (!name_valid(params.at[0]))
		return err_set(e, ERR_NOT_FOUND, "template '%.80s' not found", params.at[0]);
	str_copy(out->template_name, sizeof(out->template_name), params.at[0]);
	return 0;
}

/* Return: 0; -errno with @e set. */
static int read_start(const json_t *o, struct warm_request *out, struct err *e)
{
	int r = body_text(o, "startCmd", &out->start, e);

	if (r >= 0)
		r = body_text(o, "readyCmd", &out->ready, e);
	if (r >= 0 && out->ready != NULL && out->start == NULL)
		r = err_set(e, ERR_INVALID, "field 'readyCmd' is for a 'startCmd'");
	return MIN(r, 0);
}

/* Return: as warm_make(). */
static int make(struct http_exchange *x, struct api *api, const char *text, size_t n,
		struct late_reply *late, struct err *e)
{
	auto_json *body = NULL;
	struct db_pool pool = { .size = 0 };
	struct db_sandbox spec;
	struct warm_request request = { .spec = &spec };
	int r = read_template(x, &pool, e);

	if (r == 0)
		r = body_object(text, n, true, &body, e);
	if (r == 0)
		r = read_sizes(body, &pool, e);
	if (r == 0)
		r = read_start(body, &request, e);
	if (r == 0)
		r = read_size(body, "pool", &pool, e);
	if (r < 0)
		return r;
	request.pool = r > 0 ? &pool : NULL;
	db_sandbox_init(&spec);
	db_set_str(&spec.template_name, pool.template_name);
	spec.cpus = pool.cpus;
	spec.memory_mib = pool.memory_mib;
	spec.disk_mib = pool.disk_mib;
	r = warm_make(api->m, &request, on_done, late, e);
	db_sandbox_done(&spec);
	return r;
}

static void warm_body(struct http_exchange *x, const char *text, size_t n, void *arg)
{
	struct late_reply *late = late_reply_new(x);
	struct err e = { 0 };
	int r = make(x, arg, text, n, late, &e);

	if (r == 0)
		return; /* on_done() answers */
	late_reply_take(late);
	if (r > 0)
		reply_empty(x);
	else
		reply_error(x, &e);
}

void templates_warm(struct http_exchange *x, const struct route_params *p, void *arg)
{
	(void)p;
	http_body_collect(x, API_BODY_MAX, warm_body, arg);
}

static int set_pool(struct http_exchange *x, struct api *api, const char *text, size_t n,
		    struct err *e)
{
	auto_json *body = NULL;
	struct db_pool pool = { .size = 0 };
	int r = read_template(x, &pool, e);

	if (r == 0)
		r = body_object(text, n, false, &body, e);
	if (r == 0)
		r = read_sizes(body, &pool, e);
	if (r == 0)
		r = read_size(body, "size", &pool, e);
	if (r == 0)
		r = err_set(e, ERR_INVALID, "field 'size' is missing: how many are kept ready");
	return r < 0 ? r : ready_set(api->m, &pool, e);
}

static void pool_body(struct http_exchange *x, const char *text, size_t n, void *arg)
{
	struct err e = { 0 };

	if (set_pool(x, arg, text, n, &e) == 0)
		reply_empty(x);
	else
		reply_error(x, &e);
}

void templates_pool(struct http_exchange *x, const struct route_params *p, void *arg)
{
	(void)p;
	http_body_collect(x, API_BODY_MAX, pool_body, arg);
}
