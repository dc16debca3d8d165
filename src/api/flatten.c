/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POST /sandboxes/{id}/flatten {"name": ...}: a template of a sandbox's disk (ours; E2B has no word
 * for it). A client that goes away ends nothing of it.
 */
#include "sandbox/flatten.h"
#include "api/api-internal.h"
#include "api/body.h"
#include "api/late-reply.h"
#include "base/str.h"

#include <sys/stat.h>

enum { STAT_BLOCK_BYTES = 512 };

static json_t *json_of_made(const struct template *t)
{
	struct stat st;
	uint64_t bytes =
		stat(t->root_path, &st) == 0 ? (uint64_t)st.st_blocks * STAT_BLOCK_BYTES : 0;

	return json_pack("{s:s, s:[s], s:{s:I, s:I}}", "templateID", t->name, "names", t->name,
			 "vivarium", "rootBytes", (json_int_t)t->root_bytes, "allocatedBytes",
			 (json_int_t)bytes);
}

static void on_flattened(const struct template *t, const struct err *e, void *arg)
{
	struct http_exchange *x = late_reply_take(arg);

	if (x == NULL)
		return;
	if (e != NULL)
		reply_error(x, e);
	else
		reply_json(x, 201, NULL, json_of_made(t));
}

static int start(struct http_exchange *x, struct sandbox *sb, const json_t *body, struct err *e)
{
	const char *name = json_string_value(json_object_get(body, "name"));
	struct late_reply *late;
	int r;

	if (name == NULL)
		return err_set(e, ERR_INVALID, "field 'name' must say what the template is called");
	late = late_reply_new(x);
	r = sandbox_flatten(sb, name, on_flattened, late, e);
	if (r < 0)
		late_reply_take(late);
	return r;
}

static void flatten_body(struct http_exchange *x, const char *text, size_t n, void *arg)
{
	auto_json *body = NULL;
	struct err e = { 0 };
	struct sandbox *sb = api_find(arg, x, &e);

	if (sb == NULL || body_object(text, n, false, &body, &e) < 0 || start(x, sb, body, &e) < 0)
		reply_error(x, &e);
}

void sandboxes_flatten(struct http_exchange *x, const struct route_params *p, void *arg)
{
	(void)p;
	http_body_collect(x, API_BODY_MAX, flatten_body, arg);
}
