/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/stop-all.h"

#include "base/json.h"
#include "base/str.h"
#include "http/client.h"

#include <errno.h>
#include <stdio.h>

enum { REPLY_MAX_BYTES = 64 << 20 };

/* One of them; @error is NULL when it is stopped. */
static void tell_one(const char *id, const char *name, const char *error)
{
	const char *called = name != NULL && name[0] != '\0' ? name : id;

	if (error == NULL)
		puts(called);
	else
		fprintf(stderr, "vivd: %s: %s\n", called, error);
}

static int end(size_t failed, size_t n, struct err *e)
{
	if (fflush(stdout) != 0)
		return err_errno(e, errno, "say which sandboxes are stopped");
	if (failed == 0)
		return 0;
	err_set(e, ERR_SYSTEM, "%zu of %zu sandboxes could not be stopped, and run on", failed, n);
	return -EIO;
}

int stop_all_tell(const struct rest_result *results, size_t n, struct err *e)
{
	size_t failed = 0;

	for (size_t i = 0; i < n; i++) {
		bool stopped = !err_is_set(&results[i].error);

		tell_one(results[i].id.s, results[i].name, stopped ? NULL : results[i].error.msg);
		failed += !stopped;
	}
	return end(failed, n, e);
}

static int tell_answer(const json_t *all, struct err *e)
{
	const json_t *result;
	size_t failed = 0;
	size_t i;

	json_array_foreach(all, i, result)
	{
		const json_t *error = json_object_get(result, "error");
		const char *id = json_string_value(json_object_get(result, "sandboxID"));
		const char *why = json_string_value(json_object_get(error, "message"));

		tell_one(id != NULL ? id : "?", json_string_value(json_object_get(result, "name")),
			 error == NULL ? NULL : (why != NULL ? why : "for a reason not said"));
		failed += error != NULL;
	}
	return end(failed, json_array_size(all), e);
}

int stop_all_ask(const char *socket, struct err *e)
{
	static const char body[] = "{\"memory\":false}";
	static const struct http_field fields[] = { { "Content-Type", "application/json" },
						    { NULL, NULL } };
	auto_http_client client = HTTP_CLIENT_INIT;
	auto_buf reply = BUF_INIT(REPLY_MAX_BYTES);
	auto_json *all = NULL;
	struct op op;
	int r;

	op_init(&op, 0, -1);
	r = http_client_connect_unix(&client, socket, &op);
	if (r == -ENOENT || r == -ECONNREFUSED)
		return 1;
	if (r == 0)
		r = http_client_call(&client, "POST", "/sandboxes/pause", fields, body,
				     sizeof(body) - 1, &reply, &op);
	if (r < 0) {
		*e = op.err;
		return r;
	}
	all = json_loadb(buf_head(&reply), reply.len, 0, NULL);
	if (r != 200 || !json_is_array(all))
		return err_set(e, ERR_SYSTEM,
			       "the vivd at %s, asked to stop all sandboxes, answered %d", socket,
			       r);
	return tell_answer(all, e);
}
