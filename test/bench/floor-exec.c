/* SPDX-License-Identifier: Apache-2.0 */
#include "floor-exec.h"

#include "base/buf.h"
#include "base/guestwords.h"
#include "base/json.h"
#include "http/client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

enum { ENVELOPE_HEAD_BYTES = 5, REPLY_BYTES_MAX = 1 << 20 };

/* Return: 1 an envelope with output came; 0 more has to; -errno with @e set. */
static int look_for_output(struct buf *in, struct err *e)
{
	while (in->len >= ENVELOPE_HEAD_BYTES) {
		auto_json *o = NULL;
		const json_t *event;
		uint32_t n;

		memcpy(&n, buf_head(in) + 1, sizeof(n));
		n = ntohl(n);
		if (in->len - ENVELOPE_HEAD_BYTES < n)
			return 0;
		o = json_loadb(buf_head(in) + ENVELOPE_HEAD_BYTES, n, 0, NULL);
		event = json_object_get(o, "event");
		if (json_object_get(json_object_get(event, "data"), "stdout") != NULL)
			return 1;
		if (o == NULL || json_object_get(o, "error") != NULL ||
		    json_object_get(event, "end") != NULL)
			return err_set(e, ERR_AGENT, "the command ended without output: %.200s",
				       buf_head(in) + ENVELOPE_HEAD_BYTES);
		buf_consume(in, ENVELOPE_HEAD_BYTES + n);
	}
	return 0;
}

static int read_output(struct http_client *c, struct op *op)
{
	auto_buf in = BUF_INIT(REPLY_BYTES_MAX);

	for (;;) {
		ssize_t n = http_client_read(c, &in, op);
		int r;

		if (n < 0)
			return (int)n;
		if (c->head.status != 200)
			return err_set(&op->err, ERR_AGENT, "the agent answered with %d: %s",
				       c->head.status, buf_str(&in));
		r = n == 0 ? err_set(&op->err, ERR_AGENT, "the stream ended early")
			   : look_for_output(&in, &op->err);
		if (r != 0)
			return r < 0 ? r : 0;
	}
}

int floor_exec(const struct floor_guest *guest, const char *request, struct op *op)
{
	struct http_field fields[] = { { "Content-Type", "application/connect+json" },
				       { "Connect-Protocol-Version", "1" },
				       { "X-Access-Token", guest->token },
				       { NULL, NULL } };
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_port = htons(GUEST_PORT),
				  .sin_addr = guest->addr };
	auto_http_client c = HTTP_CLIENT_INIT;
	auto_buf body = BUF_INIT(strlen(request) + ENVELOPE_HEAD_BYTES);
	uint32_t n = htonl((uint32_t)strlen(request));
	int r = buf_append(&body, "\0", 1);

	if (r == 0)
		r = buf_append(&body, &n, sizeof(n));
	if (r == 0)
		r = buf_puts(&body, request);
	if (r < 0)
		return err_errno(&op->err, -r, "write the request");
	r = http_client_connect(&c, (const struct sockaddr *)&in, sizeof(in), guest->vmm_pidfd, op);
	if (r == 0)
		r = http_client_send(&c, "POST", "/process.Process/Start", fields, buf_head(&body),
				     body.len, op);
	if (r == 0)
		r = http_client_head(&c, op);
	return r < 0 ? r : read_output(&c, op);
}
