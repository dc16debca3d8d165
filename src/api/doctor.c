/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /doctor: GET looks, POST {"fix": true, "delete": true} also removes leaks. The report is JSON, or
 * a table for who accepts text/plain; the header Vivarium-Verdict has what counts of it.
 */
#include "api/api-internal.h"
#include "api/doctor-view.h"
#include "api/host-request.h"
#include "api/late-reply.h"
#include "base/str.h"

#include <stdlib.h>

struct visit {
	struct late_reply *late;
	bool text; /* a table was asked for */
};

static void on_report(const struct doctor_report *report, void *arg)
{
	auto_free struct visit *v = arg;
	struct http_exchange *x = late_reply_take(v->late);
	enum doctor_verdict verdict = doctor_report_verdict(report);
	const struct http_field fields[] = { { "Vivarium-Verdict", doctor_verdict_name(verdict) },
					     { NULL, NULL } };
	auto_free char *text = NULL;

	if (x == NULL)
		return;
	if (!v->text) {
		reply_json(x, 200, fields, doctor_json(report));
		return;
	}
	text = doctor_text(report);
	reply_bytes(x, 200, fields, "text/plain; charset=utf-8", text, strlen(text));
}

static void start(struct http_exchange *x, struct api *api, const struct doctor_request *request)
{
	struct visit *v = xcalloc(1, sizeof(*v));
	struct err e = { 0 };

	v->text = http_head_has_token(http_exchange_head(x), "Accept", "text/plain");
	v->late = late_reply_new(x);
	if (doctor_start(api->m, request, on_report, v, &e) == 0)
		return;
	late_reply_take(v->late);
	free(v);
	reply_error(x, &e);
}

void doctor_get(struct http_exchange *x, const struct route_params *p, void *arg)
{
	const struct doctor_request request = { .fix = false };

	(void)p;
	start(x, arg, &request);
}

static int parse(const char *body, size_t n, struct doctor_request *out, struct err *e)
{
	auto_json *o = n == 0 ? json_object() : json_loadb(body, n, JSON_REJECT_DUPLICATES, NULL);
	json_error_t why;
	int fix = 0;
	int delete_data = 0;

	if (o == NULL)
		return err_set(e, ERR_INVALID, "the body is not JSON");
	if (json_unpack_ex(o, &why, JSON_STRICT, "{s?b, s?b}", "fix", &fix, "delete",
			   &delete_data) < 0)
		return err_set(e, ERR_INVALID,
			       "the body can have 'fix' and 'delete', both true or "
			       "false: %s",
			       why.text);
	if (delete_data != 0 && fix == 0)
		return err_set(e, ERR_INVALID, "'delete' goes with 'fix' only");
	*out = (struct doctor_request){ .fix = fix != 0, .delete_data = delete_data != 0 };
	return 0;
}

static void on_body(struct http_exchange *x, const char *body, size_t n, void *arg)
{
	struct doctor_request request;
	struct err e = { 0 };

	if (!host_check_local(x))
		return;
	if (parse(body, n, &request, &e) < 0)
		reply_error(x, &e);
	else
		start(x, arg, &request);
}

void doctor_post(struct http_exchange *x, const struct route_params *p, void *arg)
{
	(void)p;
	http_body_collect(x, API_BODY_MAX, on_body, arg);
}
