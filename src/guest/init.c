/* SPDX-License-Identifier: Apache-2.0 */
#include "base/base64.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"
#include "guest/guest.h"
#include "http/client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
	ENTROPY_BYTES = 32,
	ENTROPY_TEXT_SIZE = BASE64_ENCODED_LEN(ENTROPY_BYTES) + 1,
	REPLY_BYTES_MAX = 65536,
	SHOWN_SIZE = 256,
};

static int connect_guest(struct http_client *c, struct in_addr addr, int vmm_pidfd, struct op *op)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_port = htons(GUEST_PORT),
				  .sin_addr = addr };

	return http_client_connect(c, (const struct sockaddr *)&in, sizeof(in), vmm_pidfd, op);
}

/* Fresh random bytes as base64. */
static void make_entropy(char out[ENTROPY_TEXT_SIZE])
{
	unsigned char bytes[ENTROPY_BYTES];

	/* So few bytes are never cut short; without them no guest may be handed out. */
	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		abort();
	out[base64_encode(bytes, sizeof(bytes), out)] = '\0';
	explicit_bzero(bytes, sizeof(bytes));
}

static json_t *json_of_wake(const struct guest_wake *wake)
{
	return json_pack("{s:b, s:b, s:I}", "clone", wake->clone, "rehearsal", wake->rehearsal,
			 "diskBytes", (json_int_t)wake->disk_bytes);
}

/* Fields that are not known are left out. */
static char *encode(const struct guest_identity *identity)
{
	const struct guest_wake *wake = identity->wake;
	auto_json *json = NULL;
	char entropy[ENTROPY_TEXT_SIZE];

	make_entropy(entropy);
	json = json_pack("{s:s, s:s*, s:s*, s:s*, s:s*, s:s*, s:O*, s:s, s:I}", "id", identity->id,
			 "templateId", identity->template_id, "hostname", identity->hostname,
			 "defaultUser", identity->default_user, "defaultWorkdir",
			 identity->default_workdir, "accessToken", identity->access_token, "env",
			 identity->env, "entropy", entropy, "timestampMs",
			 (json_int_t)clock_realtime_ms());
	if (json != NULL && wake != NULL &&
	    json_object_set_new(json, "wake", json_of_wake(wake)) < 0)
		return NULL;
	return json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
}

/* The agent's own words when it sent some ({"message": "…"}), else the beginning of what it sent.
 */
static int refuse_status(const char *what, int status, struct buf *reply, struct err *e)
{
	auto_json *json = json_loads(buf_str(reply), 0, NULL);
	const char *message = json_string_value(json_object_get(json, "message"));
	char shown[SHOWN_SIZE];

	str_copy(shown, sizeof(shown), message != NULL ? message : buf_str(reply));
	for (char *p = shown; *p != '\0'; p++)
		if (*p < ' ' || *p > '~')
			*p = '?';
	return err_set(e, ERR_AGENT, "the guest agent answered %s with HTTP status %d: %s", what,
		       status, shown);
}

static int read_version(struct buf *reply, char *out, size_t size, struct err *e)
{
	auto_json *json = json_loads(buf_str(reply), 0, NULL);
	const char *version = json_string_value(json_object_get(json, "version"));

	if (version == NULL)
		return err_set(e, ERR_AGENT,
			       "the guest agent's answer to POST /init has no version");
	str_copy(out, size, version);
	return 0;
}

int guest_init(struct in_addr addr, const struct guest_identity *identity, int vmm_pidfd,
	       char *out_version, size_t size, struct op *op)
{
	static const struct http_field fields[] = { { "Content-Type", "application/json" },
						    { NULL, NULL } };
	auto_buf reply = BUF_INIT(REPLY_BYTES_MAX);
	auto_http_client c = HTTP_CLIENT_INIT;
	auto_free char *body = NULL;
	int r = connect_guest(&c, addr, vmm_pidfd, op);

	if (r < 0)
		return err_wrap(&op->err, "reach the guest agent");
	body = encode(
		identity); /* behind the connect, whose time the guest's clock would be late by */
	if (body == NULL)
		return err_set(&op->err, ERR_INVALID,
			       "the identity of %s cannot be sent: it has text that is no UTF-8",
			       identity->id);
	r = http_client_call(&c, "POST", "/init", fields, body, strlen(body), &reply, op);
	if (r < 0)
		return err_wrap(&op->err, "tell the guest who it is");
	if (r != 200)
		return refuse_status("POST /init", r, &reply, &op->err);
	return read_version(&reply, out_version, size, &op->err);
}

/* A call whose answer is only whether it went well. */
struct plain_call {
	const char *method;
	const char *path;
	const char *body; /* "" = none */
	const char *what; /* for the message */
};

static const struct plain_call freeze_call = { "POST", "/freeze", "{\"sync\":false}",
					       "freeze the guest's processes" };
static const struct plain_call thaw_call = { "POST", "/unfreeze", "",
					     "thaw the guest's processes" };
static const struct plain_call health_call = { "GET", "/health", "", "ask for the guest's health" };

static int begin_plain(struct http_client *c, const struct plain_call *call, struct op *op)
{
	int r = http_client_send(c, call->method, call->path, NULL, call->body, strlen(call->body),
				 op);

	return r < 0 ? err_wrap(&op->err, "%s", call->what) : 0;
}

static int finish_plain(struct http_client *c, const struct plain_call *call, struct op *op)
{
	auto_buf reply = BUF_INIT(REPLY_BYTES_MAX);
	int r = http_client_reply(c, &reply, op);

	if (r < 0)
		return err_wrap(&op->err, "%s", call->what);
	if (r != 200 && r != 204)
		return refuse_status(call->path, r, &reply, &op->err);
	return 0;
}

static int call_on(struct http_client *c, const struct plain_call *call, struct op *op)
{
	int r = begin_plain(c, call, op);

	return r < 0 ? r : finish_plain(c, call, op);
}

static int call_plain(struct in_addr addr, int vmm_pidfd, const struct plain_call *call,
		      struct op *op)
{
	auto_http_client c = HTTP_CLIENT_INIT;
	int r = connect_guest(&c, addr, vmm_pidfd, op);

	return r < 0 ? err_wrap(&op->err, "reach the guest agent") : call_on(&c, call, op);
}

int guest_line_open(struct guest_line *line, struct in_addr addr, int vmm_pidfd, struct op *op)
{
	int r;

	assert(line->client == NULL);
	line->client = xcalloc(1, sizeof(*line->client));
	*line->client = (struct http_client)HTTP_CLIENT_INIT;
	r = connect_guest(line->client, addr, vmm_pidfd, op);
	r = r < 0 ? err_wrap(&op->err, "reach the guest agent")
		  : call_on(line->client, &health_call, op);
	if (r < 0)
		guest_line_done(line);
	return r;
}

int guest_line_freeze(struct guest_line *line, struct op *op)
{
	return call_on(line->client, &freeze_call, op);
}

int guest_line_begin_thaw(struct guest_line *line, struct op *op)
{
	return begin_plain(line->client, &thaw_call, op);
}

int guest_line_finish_thaw(struct guest_line *line, struct op *op)
{
	return finish_plain(line->client, &thaw_call, op);
}

void guest_line_done(struct guest_line *line)
{
	struct http_client *client = take_ptr(&line->client);

	if (client != NULL)
		http_client_done(client);
	free(client);
}

int guest_freeze(struct in_addr addr, bool sync, int vmm_pidfd, struct op *op)
{
	const struct plain_call with_sync = { "POST", "/freeze", "", freeze_call.what };

	return call_plain(addr, vmm_pidfd, sync ? &with_sync : &freeze_call, op);
}

int guest_thaw(struct in_addr addr, int vmm_pidfd, struct op *op)
{
	return call_plain(addr, vmm_pidfd, &thaw_call, op);
}

int guest_health(struct in_addr addr, int vmm_pidfd, struct op *op)
{
	return call_plain(addr, vmm_pidfd, &health_call, op);
}
