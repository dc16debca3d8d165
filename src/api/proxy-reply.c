/* SPDX-License-Identifier: Apache-2.0 */
#include "api/proxy-reply.h"

#include "api/traffic.h"
#include "base/buf.h"
#include "base/str.h"

enum { PAGE_MAX_BYTES = 16384 };

static const char page_start[] =
	"<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"
	"<meta name=\"viewport\" content=\"width=device-width\">\n"
	"<style>body{font:1.1em/1.5 sans-serif;max-width:36em;margin:15vh auto;padding:0 1em}"
	"h1{font-size:1.3em}</style>\n";

static bool is_browser(const struct http_exchange *x)
{
	const char *accept = http_head_get(http_exchange_head(x), "Accept");

	return accept != NULL && strcasestr(accept, "text/html") != NULL;
}

/* Appends text with all that HTML would read as markup escaped. Return: 0; -errno. */
static int append_escaped(struct buf *out, const char *text)
{
	for (; *text != '\0'; text++) {
		int r = strchr("<>&\"'", *text) != NULL
				? buf_printf(out, "&#%d;", (unsigned char)*text)
				: buf_append(out, text, 1);

		if (r < 0)
			return r;
	}
	return 0;
}

static int make_page(struct buf *page, int status, const char *message, const char *hint)
{
	const char *title = http_status_text(status);
	int r = buf_printf(page, "%s<title>%d %s</title>\n<h1>", page_start, status, title);

	if (r == 0)
		r = append_escaped(page, message);
	if (r == 0)
		r = buf_printf(page, "</h1>\n<p>");
	if (r == 0)
		r = append_escaped(page, hint);
	return r < 0 ? r : buf_printf(page, "</p>\n<p>%d %s</p>\n</html>\n", status, title);
}

/* Takes @value, which has message and code. */
static void answer(struct http_exchange *x, const char *hint, json_t *value)
{
	static const struct http_field fields[] = {
		{ "Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'" },
		{ "Cache-Control", "no-store" },
		{ NULL, NULL },
	};
	const char *message = json_string_value(json_object_get(value, "message"));
	int status = (int)json_integer_value(json_object_get(value, "code"));
	auto_buf page = BUF_INIT(PAGE_MAX_BYTES);

	if (message == NULL || !is_browser(x) || make_page(&page, status, message, hint) < 0) {
		reply_json(x, value != NULL ? status : 500, NULL, value);
		return;
	}
	reply_bytes(x, status, fields, "text/html; charset=utf-8", buf_str(&page), page.len);
	json_decref(value);
}

void proxy_reply_gone(struct http_exchange *x, const struct target *t)
{
	auto_free char *hint = str_printf("There is no sandbox %s, or it does not run.", t->id);

	answer(x, hint,
	       json_pack("{s:s, s:s, s:i}", "sandboxId", t->id, "message",
			 "The sandbox was not found", "code", 502));
}

void proxy_reply_changing(struct http_exchange *x, const struct target *t)
{
	answer(x, "It is being paused, resumed or started. Load this page again.",
	       json_pack("{s:s, s:s, s:i}", "sandboxId", t->id, "message",
			 "The sandbox is changing its state; try again", "code", 409));
}

void proxy_reply_asleep(struct http_exchange *x, const struct target *t, const struct err *e)
{
	int status = err_kind_http(e->kind);

	/* A 502 would tell clients that the sandbox is no more. */
	answer(x, "It is paused, and could not be woken.",
	       json_pack("{s:s, s:o, s:i}", "sandboxId", t->id, "message", json_of_text(e->msg),
			 "code", status == 502 ? 503 : status));
}

static void answer_of_port(struct http_exchange *x, const struct target *t, int status,
			   const char *message, const char *hint)
{
	answer(x, hint,
	       json_pack("{s:s, s:s, s:i, s:i}", "sandboxId", t->id, "message", message, "port",
			 t->port, "code", status));
}

void proxy_reply_closed(struct http_exchange *x, const struct target *t)
{
	auto_free char *hint = str_printf("Nothing listens on port %u of sandbox %s. Start a "
					  "server there, then load this page again.",
					  t->port, t->id);

	answer_of_port(x, t, 502, "The sandbox is running but port is not open", hint);
}

void proxy_reply_hung_up(struct http_exchange *x, const struct target *t)
{
	auto_free char *hint = str_printf("What listens on port %u of sandbox %s ended the "
					  "connection, or does not speak HTTP.",
					  t->port, t->id);

	answer_of_port(x, t, 502, "The sandbox is running but its server gave no answer", hint);
}

void proxy_reply_busy(struct http_exchange *x, const struct target *t)
{
	auto_free char *hint = str_printf("Port %u of sandbox %s is open on its loopback only, "
					  "and too many connections lead there. A server that "
					  "listens on 0.0.0.0 has no such limit.",
					  t->port, t->id);

	answer_of_port(x, t, 503, "The sandbox is running but has too many connections", hint);
}

void proxy_reply_not_public(struct http_exchange *x, const struct target *t)
{
	auto_free char *hint = str_printf("Requests to the ports of sandbox %s need its traffic "
					  "access token, in the header " TRAFFIC_TOKEN_HEADER ".",
					  t->id);

	answer(x, hint,
	       json_pack("{s:s, s:s, s:i}", "sandboxId", t->id, "message",
			 "The traffic access token is missing or wrong", "code", 403));
}

void proxy_reply_host_only(struct http_exchange *x)
{
	answer(x, "This path of the sandbox's agent is not for clients.",
	       json_pack("{s:s, s:o, s:i}", "message", "not found", "path",
			 json_of_text(http_exchange_head(x)->path), "code", 404));
}

void proxy_reply_bad(struct http_exchange *x, const struct err *e)
{
	int status = err_kind_http(e->kind);

	answer(x, "The address of a sandbox's port is PORT-ID, a dot, and the domain.",
	       json_pack("{s:i, s:o, s:s}", "code", status, "message", json_of_text(e->msg),
			 "error_code", err_kind_name(e->kind)));
}
