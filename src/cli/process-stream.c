/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/process-stream.h"

#include "base/base64.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

int process_stream_open(struct process_stream *s, const struct guest *g, const char *method,
			const json_t *request, struct op *op)
{
	auto_buf body = BUF_INIT(PROCESS_ENVELOPE_MAX_BYTES);
	struct guest_fields fields;
	char target[64];
	int r = guest_put_envelope(&body, request);

	if (r < 0)
		return err_set(&op->err, ERR_INVALID,
			       "the command, its arguments, environment and directory must be "
			       "UTF-8 and of at most 8 MiB");
	s->sandbox = g->id;
	s->starts = streq(method, "Start");
	r = str_fit(target, sizeof(target), "/process.Process/%s", method);
	if (r == 0)
		r = guest_fields_init(&fields, g, "application/connect+json", &op->err);
	if (r == 0)
		r = http_client_connect_unix(&s->client, g->cli->socket, op);
	if (r == 0)
		r = http_client_send(&s->client, "POST", target, fields.at, buf_head(&body),
				     body.len, op);
	if (r == 0)
		r = http_client_head(&s->client, op);
	if (r < 0)
		return r;
	return s->client.head.status == 200 ? 0 : guest_refused(g, &s->client, method, op);
}

static int exit_code_of(const json_t *end)
{
	json_int_t signal = json_number(end, "signal");

	return signal > 0 ? EXIT_SIGNAL_BASE + (int)(signal & 0x7f)
			  : (int)(json_number(end, "exitCode") & 0xff);
}

/* What a shell would say of a command that it cannot run, by the agent's codes. */
static int failure_code_of(const struct process_stream *s, const char *code)
{
	if (s->starts && !s->started && streq(code, "not_found"))
		return EXIT_NOT_FOUND;
	if (s->starts && !s->started && streq(code, "permission_denied"))
		return EXIT_NOT_EXECUTABLE;
	return EXIT_VIV;
}

/* Return: 1; -errno, op->err set. */
static int read_output(struct process_stream *s, const json_t *data, struct process_event *out,
		       struct op *op)
{
	const json_t *text = json_object_get(data, "stderr");
	int r;

	*out = (struct process_event){ .kind = PROCESS_OUTPUT, .fd = STDERR_FILENO };
	if (text == NULL) {
		out->fd = STDOUT_FILENO;
		text = json_object_get(data, "stdout") ?: json_object_get(data, "pty");
	}
	r = text == NULL ? -EINVAL
			 : base64_decode(json_string_value(text) ?: "*", json_string_length(text),
					 &s->bytes, &out->n);
	if (r < 0)
		return err_set(&op->err, ERR_AGENT, "the agent sent output that is not base64");
	out->bytes = s->bytes;
	return 1;
}

/* Return: 1; 0 it tells us nothing; -errno, op->err set. */
static int read_event(struct process_stream *s, const json_t *event, struct process_event *out,
		      struct op *op)
{
	const json_t *start = json_object_get(event, "start");
	const json_t *data = json_object_get(event, "data");
	const json_t *end = json_object_get(event, "end");

	if (data != NULL)
		return read_output(s, data, out, op);
	if (end != NULL) {
		*out = (struct process_event){ .kind = PROCESS_ENDED, .code = exit_code_of(end) };
		return 1;
	}
	/* There is one process, whatever a guest says. */
	if (start == NULL || s->started || json_number(start, "pid") <= 0)
		return 0;
	s->started = true;
	*out = (struct process_event){ .kind = PROCESS_STARTED,
				       .pid = json_number(start, "pid"),
				       .pty = json_is_true(json_object_get(start, "pty")) };
	return 1;
}

/* Reads the whole envelope in s->message. Return: 1; 0 it tells us nothing; -errno, op->err set. */
static int read_message(struct process_stream *s, unsigned flags, struct process_event *out,
			struct op *op)
{
	const json_t *error = json_object_get(s->message, "error");
	const char *code = json_text(error, "code");
	const char *message = json_text(error, "message");

	if (s->message == NULL)
		return err_set(&op->err, ERR_AGENT, "the agent sent what is not JSON");
	if ((flags & GUEST_ENVELOPE_END) == 0)
		return read_event(s, json_object_get(s->message, "event"), out, op);
	s->over = true;
	if (error == NULL)
		return 0;
	*out = (struct process_event){ .kind = PROCESS_FAILED,
				       .code = failure_code_of(s, code),
				       .message = message[0] != '\0' ? message : code };
	return 1;
}

/* What the last event pointed into is not needed any more. */
static void drop_last(struct process_stream *s)
{
	json_decref(s->message);
	s->message = NULL;
	free(take_ptr(&s->bytes));
}

/* Return: 1 an event; 0 not one in what has arrived; -errno, op->err set. */
static int take_envelopes(struct process_stream *s, struct process_event *out, struct op *op)
{
	int r = 0;

	while (r == 0 && !s->over && s->in.len >= GUEST_ENVELOPE_HEAD_BYTES) {
		const char *p = buf_head(&s->in);
		unsigned flags = (unsigned char)p[0];
		uint32_t n;

		memcpy(&n, p + 1, sizeof(n));
		n = ntohl(n);
		if (n > PROCESS_ENVELOPE_MAX_BYTES - GUEST_ENVELOPE_HEAD_BYTES)
			return err_set(&op->err, ERR_AGENT,
				       "the agent sent an envelope of %u bytes", n);
		if (s->in.len < GUEST_ENVELOPE_HEAD_BYTES + n)
			return 0;
		drop_last(s);
		s->message = json_loadb(p + GUEST_ENVELOPE_HEAD_BYTES, n, 0, NULL);
		buf_consume(&s->in, GUEST_ENVELOPE_HEAD_BYTES + n);
		r = read_message(s, flags, out, op);
	}
	return r;
}

int process_stream_next(struct process_stream *s, struct process_event *out, struct op *op)
{
	for (;;) {
		int r = take_envelopes(s, out, op);
		ssize_t n;

		if (r != 0 || s->over)
			return r;
		n = http_client_read_ready(&s->client, &s->in, op);
		if (n == -EAGAIN)
			return -EAGAIN;
		if (n < 0)
			return err_wrap(&op->err, "sandbox %s ended, or its stream broke",
					s->sandbox);
		if (n == 0)
			return err_set(&op->err, ERR_AGENT,
				       "the stream of the command ended early");
	}
}

int process_stream_wait(struct process_stream *s, struct process_event *out, struct op *op)
{
	int r;

	while ((r = process_stream_next(s, out, op)) == -EAGAIN) {
		r = op_wait_fd(op, s->client.fd, POLLIN, -1);
		if (r < 0)
			return err_errno(&op->err, -r, "wait for the command");
	}
	return r;
}

void process_stream_done(struct process_stream *s)
{
	drop_last(s);
	http_client_done(&s->client);
	buf_done(&s->in);
}
