/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/guest.h"

#include "base/base64.h"
#include "base/guestwords.h"
#include "base/parse.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

enum { REPLY_MAX_BYTES = 4 << 20 };

void guest_init(struct guest *g, struct cli *cli, json_t *sandbox)
{
	g->cli = cli;
	g->sandbox = sandbox;
	g->id = json_text(sandbox, "sandboxID");
	g->token = json_text(sandbox, "envdAccessToken");
}

int guest_find(struct guest *g, struct cli *cli, const char *name, struct op *op)
{
	json_t *sandbox = NULL;
	int r = cli_find(cli, name, &sandbox, op);

	if (r == 0)
		guest_init(g, cli, sandbox);
	return r;
}

void guest_done(struct guest *g)
{
	json_decref(g->sandbox);
	*g = (struct guest){ 0 };
}

int guest_fields_init(struct guest_fields *f, const struct guest *g, const char *content_type,
		      struct err *e)
{
	struct http_field *at = f->at;

	snprintf(f->port, sizeof(f->port), "%d", GUEST_PORT);
	*at++ = (struct http_field){ "Content-Type", content_type };
	*at++ = (struct http_field){ "Connect-Protocol-Version", "1" };
	*at++ = (struct http_field){ "E2b-Sandbox-Id", g->id };
	*at++ = (struct http_field){ "E2b-Sandbox-Port", f->port };
	if (g->token[0] != '\0')
		*at++ = (struct http_field){ "X-Access-Token", g->token };
	if (g->user != NULL) {
		char plain[256];
		size_t n;

		if (str_fit(plain, sizeof(plain), "%s:", g->user) < 0)
			return err_set(e, ERR_INVALID, "user name '%.40s...' is too long", g->user);
		str_copy(f->auth, sizeof(f->auth), "Basic ");
		n = strlen(f->auth);
		f->auth[n + base64_encode(plain, strlen(plain), f->auth + n)] = '\0';
		*at++ = (struct http_field){ "Authorization", f->auth };
	}
	*at = (struct http_field){ NULL, NULL };
	return 0;
}

/* vivd's own answer when no VM runs: that of one that runs names the port, an agent's none. */
static bool is_at_rest(int status, const json_t *o)
{
	return status == 502 && json_object_get(o, "sandboxId") != NULL &&
	       json_object_get(o, "port") == NULL;
}

/* Says what to do, by the state in which it was found. */
static int at_rest(const struct guest *g, struct op *op)
{
	const char *state = json_text(json_object_get(g->sandbox, "vivarium"), "state");
	const char *verb = streq(state, "paused")    ? "resume"
			   : streq(state, "stopped") ? "start"
						     : NULL;

	if (verb == NULL)
		return err_set(&op->err, ERR_CONFLICT,
			       "sandbox %s does not run any more; `viv ls` shows those that do",
			       g->id);
	return err_set(&op->err, ERR_CONFLICT, "sandbox %s is %s; `viv %s %s` has it run again",
		       g->id, state, verb, g->id);
}

/* The agent's words, or those of vivd, for why it does not do what was asked. */
static int explain(const struct guest *g, int status, struct buf *body, const char *what,
		   struct op *op)
{
	auto_json *o = json_loadb(buf_str(body), body->len, 0, NULL);
	const char *message = json_text(o, "message");
	bool none = status == 404 && streq(json_text(o, "code"), "not_found");

	if (is_at_rest(status, o))
		return at_rest(g, op);
	if (message[0] == '\0')
		return err_set(&op->err, ERR_AGENT, "sandbox %s: %s is answered with %d", g->id,
			       what, status);
	return err_set(&op->err, none ? ERR_NOT_FOUND : ERR_AGENT, "sandbox %s: %s", g->id,
		       message);
}

int guest_refused(const struct guest *g, struct http_client *c, const char *what, struct op *op)
{
	auto_buf body = BUF_INIT(65536);
	ssize_t n;

	while ((n = http_client_read(c, &body, op)) > 0)
		;
	return n < 0 ? (int)n : explain(g, c->head.status, &body, what, op);
}

int guest_call(const struct guest *g, const char *method, const json_t *request, json_t **out,
	       struct op *op)
{
	auto_http_client c = HTTP_CLIENT_INIT;
	auto_buf reply = BUF_INIT(REPLY_MAX_BYTES);
	auto_free char *text = json_dumps(request, JSON_COMPACT);
	struct guest_fields fields;
	char target[64];
	int r = guest_fields_init(&fields, g, "application/json", &op->err);

	if (r == 0 && text == NULL)
		return err_set(&op->err, ERR_INVALID, "%s: what is asked for is not UTF-8", method);
	if (r == 0)
		r = str_fit(target, sizeof(target), "/process.Process/%s", method);
	if (r == 0)
		r = http_client_connect_unix(&c, g->cli->socket, op);
	if (r == 0)
		r = http_client_call(&c, "POST", target, fields.at, text, strlen(text), &reply, op);
	if (r < 0)
		return r;
	if (r != 200)
		return explain(g, r, &reply, method, op);
	if (out == NULL)
		return 0;
	*out = json_loadb(buf_str(&reply), reply.len, 0, NULL);
	return *out != NULL ? 0
			    : err_set(&op->err, ERR_AGENT,
				      "sandbox %s: the answer to %s is not JSON", g->id, method);
}

bool guest_is_pid(const char *text)
{
	return text[0] != '\0' && strspn(text, "0123456789") == strlen(text);
}

json_t *guest_selector(const char *text)
{
	uint64_t pid;

	if (!guest_is_pid(text))
		return json_pack("{s:s}", "tag", text);
	/* One that no process can have finds none. */
	if (parse_u64(text, 1, INT32_MAX, &pid) < 0)
		pid = INT32_MAX;
	return json_pack("{s:I}", "pid", (json_int_t)pid);
}

int guest_put_envelope_head(struct buf *out, size_t n)
{
	const uint32_t len = htonl((uint32_t)n);
	int r = buf_append(out, "\0", 1);

	return r < 0 ? r : buf_append(out, &len, sizeof(len));
}

int guest_put_envelope(struct buf *out, const json_t *message)
{
	auto_free char *text = message == NULL ? NULL : json_dumps(message, JSON_COMPACT);
	int r;

	if (text == NULL)
		return -EILSEQ;
	r = guest_put_envelope_head(out, strlen(text));
	return r < 0 ? r : buf_puts(out, text);
}
