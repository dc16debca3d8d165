/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/stdin-pump.h"

#include "base/base64.h"
#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { CHUNK_BYTES = 48 * 1024, PIECE_BYTES = CHUNK_BYTES + DETACH_KEYS_MAX };

/* A data message has no blanks: the agent reads such ones past its JSON parser. */
static const char data_tail[] = "\"}}}";
enum { MESSAGE_MAX_BYTES = BASE64_ENCODED_LEN(PIECE_BYTES) + 64 };

/* The stream, while it is open, and the memory for what goes into it. */
struct input_stream {
	struct http_client client;
	struct buf message;
	char chunk[CHUNK_BYTES]; /* as it was read */
	char piece[PIECE_BYTES]; /* as it is sent */
};

static void stream_free(struct input_stream **s)
{
	http_client_done(&(*s)->client);
	buf_done(&(*s)->message);
	free(*s);
}

/* Return: 0; 1 the other side wants no more; -errno. */
static int send_message(struct input_stream *s, struct op *op)
{
	int r = http_client_write(&s->client, buf_head(&s->message), s->message.len, op);

	buf_clear(&s->message);
	return r;
}

/* Begins the stream: it says for which process it is. Return: as send_message(). */
static int open_stream(struct input_stream *s, const struct stdin_pump *p, struct op *op)
{
	auto_json *start = json_pack("{s:{s:{s:I}}}", "start", "process", "pid", p->pid);
	struct guest_fields fields;
	int r = guest_fields_init(&fields, p->guest, "application/connect+json", &op->err);

	if (r == 0)
		r = guest_put_envelope(&s->message, start);
	if (r == 0)
		r = http_client_connect_unix(&s->client, p->guest->cli->socket, op);
	if (r == 0)
		r = http_client_start(&s->client, "POST", "/process.Process/StreamInput", fields.at,
				      op);
	return r < 0 ? r : send_message(s, op);
}

/* Return: as send_message(). */
static int send_piece(struct input_stream *s, const struct stdin_pump *p, size_t n, struct op *op)
{
	const char *head =
		p->pty ? "{\"data\":{\"input\":{\"pty\":\"" : "{\"data\":{\"input\":{\"stdin\":\"";
	size_t encoded = BASE64_ENCODED_LEN(n);
	char *room;
	int r = s->client.fd < 0 ? open_stream(s, p, op) : 0;

	if (r == 0)
		r = guest_put_envelope_head(&s->message,
					    strlen(head) + encoded + strlen(data_tail));
	if (r == 0)
		r = buf_puts(&s->message, head);
	if (r == 0)
		r = buf_reserve(&s->message, encoded, &room);
	if (r != 0)
		return r;
	buf_commit(&s->message, base64_encode(s->piece, n, room));
	r = buf_puts(&s->message, data_tail);
	return r < 0 ? r : send_message(s, op);
}

/* The end of our input: once all was written, which the answer to the stream says, the process's
 * own. It may have ended by itself, or want no more: nothing is left to be said then. */
static void send_end(struct input_stream *s, const struct stdin_pump *p, struct op *op)
{
	auto_json *request = json_pack("{s:{s:I}}", "process", "pid", p->pid);

	if (s->client.fd >= 0 &&
	    (http_client_finish(&s->client, op) != 0 || http_client_head(&s->client, op) < 0))
		return;
	if (!p->pty)
		ignore_err(guest_call(p->guest, "CloseStdin", request, NULL, op));
}

/* Return: > 0 bytes in s->piece, or 0 of them when all are held back; 0 with *@out_end: no more
 * come; -errno. */
static ssize_t read_piece(struct input_stream *s, struct stdin_pump *p, bool *out_end,
			  const struct op *op)
{
	int ready = op_wait_fd(op, STDIN_FILENO, POLLIN, s->client.fd);
	size_t len = 0;
	ssize_t n;

	if (ready != 1)
		return ready < 0 ? ready : -EPIPE; /* answered before our end: nobody reads it */
	n = read(STDIN_FILENO, s->chunk, CHUNK_BYTES);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	*out_end = n <= 0;
	if (n > 0 && detach_filter(&p->detach, s->chunk, (size_t)n, s->piece, &len))
		ignore_err(eventfd_write(p->detach_fd, 1)); /* it cannot overflow by ones */
	return (ssize_t)len;
}

/* Ends with stdin, or with the process: then nobody wants the rest. */
static void *pump(void *arg)
{
	struct stdin_pump *p = arg;
	cleanup(stream_free) struct input_stream *s = xcalloc(1, sizeof(*s));
	bool end = false;
	struct op op;
	int r = 0;

	s->client = (struct http_client)HTTP_CLIENT_INIT;
	buf_init(&s->message, MESSAGE_MAX_BYTES);
	op_init(&op, 0, p->cancel_fd);
	while (r == 0 && !end) {
		ssize_t n = read_piece(s, p, &end, &op);

		if (n > 0)
			r = send_piece(s, p, (size_t)n, &op);
		else
			r = (int)n;
	}
	if (r == 0)
		send_end(s, p, &op);
	return NULL;
}

int stdin_pump_start(struct stdin_pump *p, struct err *e)
{
	int r;

	p->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	p->detach_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->cancel_fd < 0 || p->detach_fd < 0)
		return err_errno(e, errno, "make an eventfd");
	r = pthread_create(&p->thread, NULL, pump, p);
	if (r != 0)
		return err_errno(e, r, "start a thread for stdin");
	p->running = true;
	return 0;
}

void stdin_pump_stop(struct stdin_pump *p)
{
	if (p->running) {
		ignore_err(eventfd_write(p->cancel_fd, 1)); /* it cannot overflow by ones */
		pthread_join(p->thread, NULL);
	}
	p->running = false;
	fd_close(&p->cancel_fd);
	fd_close(&p->detach_fd);
}
