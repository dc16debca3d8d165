/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/start.h"

#include "base/base64.h"
#include "base/clock.h"
#include "base/guestwords.h"
#include "base/json.h"
#include "base/parse.h"
#include "base/str.h"
#include "http/client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	ENVELOPE_HEAD_BYTES = 5,
	REPLY_BYTES_MAX = 4 << 20, /* both streams of a condition's command */
	LOOK_AGAIN_MS = 100,
	LOOK_TIMEOUT_S = 60, /* for one look by a command */
	PORT_MAX = 65535,
	SEEN_SIZE = 160,
	LINE_SIZE = 100,
	LAST_LINE_TIMEOUT_MS = 5000,
};

#define START_TARGET   "/process.Process/Start"
#define CONNECT_TARGET "/process.Process/Connect"

static const char http_scheme[] = "http://";
static const char tag[] = "start"; /* by which the agent finds it again */

/* What was started, as the agent tells of it: that it began, and its end. */
struct started {
	struct http_client c;
	struct buf in;
	bool over;      /* nothing more will be told */
	char ended[48]; /* how; "" = it runs, or nobody can tell */
};

static void started_done(struct started *st)
{
	http_client_done(&st->c);
	buf_done(&st->in);
}

/* What a condition asks for. */
struct ready {
	uint64_t port;       /* 0 = a command */
	char authority[128]; /* of a URL; "" = only the port */
	const char *path;    /* of a URL */
};

static bool is_loopback(const char *host)
{
	return streq(host, "localhost") || streq(host, "127.0.0.1") || streq(host, "[::1]");
}

/* http://localhost:8000/health */
static int parse_url(const char *url, struct ready *out)
{
	const char *rest = url + strlen(http_scheme);
	size_t n = strcspn(rest, "/?#");
	char host[sizeof(out->authority)];
	char *colon;

	if (str_fit(out->authority, sizeof(out->authority), "%.*s", (int)n, rest) < 0)
		return -EINVAL;
	str_copy(host, sizeof(host), out->authority);
	colon = strrchr(host, ':');
	out->port = 80;
	if (colon != NULL && strchr(colon, ']') == NULL) {
		*colon = '\0';
		if (parse_u64(colon + 1, 1, PORT_MAX, &out->port) < 0)
			return -EINVAL;
	}
	out->path = rest[n] == '/' ? rest + n : "/";
	return is_loopback(host) && strpbrk(rest, " \t\r\n#") == NULL ? 0 : -EINVAL;
}

static int parse_ready(const char *text, struct ready *out)
{
	*out = (struct ready){ .port = 0 };
	if (strncmp(text, http_scheme, strlen(http_scheme)) == 0)
		return parse_url(text, out);
	if (text[0] == '\0' || text[strspn(text, "0123456789")] != '\0')
		return 0;
	return parse_u64(text, 1, PORT_MAX, &out->port);
}

int guest_ready_check(const char *ready, struct err *e)
{
	struct ready r;

	if (parse_ready(ready, &r) == 0)
		return 0;
	return err_set(
		e, ERR_INVALID,
		"'%.100s' is nothing that can be waited for: say a port (8000), a URL on the "
		"guest itself (http://localhost:8000/health), or a command",
		ready);
}

static int connect_agent(struct http_client *c, const struct guest_start *s, struct op *op)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_port = htons(GUEST_PORT),
				  .sin_addr = s->addr };

	return http_client_connect(c, (const struct sockaddr *)&in, sizeof(in), s->vmm_pidfd, op);
}

/* Takes a message out of what came of a stream. Return: 1, @out may be NULL: it is no JSON; 0 more
 * has to come. */
static int take_message(struct buf *in, json_t **out)
{
	uint32_t n;

	if (in->len < ENVELOPE_HEAD_BYTES)
		return 0;
	memcpy(&n, buf_head(in) + 1, sizeof(n));
	n = ntohl(n);
	if (in->len - ENVELOPE_HEAD_BYTES < n)
		return 0;
	*out = json_loadb(buf_head(in) + ENVELOPE_HEAD_BYTES, n, 0, NULL);
	buf_consume(in, ENVELOPE_HEAD_BYTES + n);
	return 1;
}

/* Return: 1 it runs; 0 more has to come; -errno with @e set. */
static int look_for_start(struct buf *in, struct err *e)
{
	auto_json *o = NULL;
	auto_free char *text = NULL;

	if (take_message(in, &o) == 0)
		return 0;
	if (json_object_get(json_object_get(o, "event"), "start") != NULL)
		return 1;
	text = json_dumps(o, JSON_COMPACT);
	return err_set(e, ERR_AGENT, "the guest agent did not start it: %.150s",
		       text != NULL ? text : "it says nothing that can be read");
}

/* Sends a request of the agent's RPC, whose envelope is @body. */
static int send_rpc(struct http_client *c, const struct guest_start *s, const char *target,
		    const char *body, struct op *op)
{
	struct http_field fields[] = { { "Content-Type", "application/connect+json" },
				       { "Connect-Protocol-Version", "1" },
				       { "X-Access-Token", s->token },
				       { NULL, NULL } };
	auto_buf envelope = BUF_INIT(strlen(body) + ENVELOPE_HEAD_BYTES);
	uint32_t n = htonl((uint32_t)strlen(body));
	int r = buf_append(&envelope, "\0", 1);

	if (s->token == NULL || s->token[0] == '\0')
		fields[2].name = NULL;
	if (r == 0)
		r = buf_append(&envelope, &n, sizeof(n));
	if (r == 0)
		r = buf_puts(&envelope, body);
	if (r < 0)
		return err_errno(&op->err, -r, "write the request");
	r = http_client_send(c, "POST", target, fields, buf_head(&envelope), envelope.len, op);
	return r < 0 ? r : http_client_head(c, op);
}

/* Its output is not asked for, so that nobody has to read it before it can go on. */
static int launch(const struct guest_start *s, struct started *st, struct op *op)
{
	auto_json *o = json_pack("{s:{s:s, s:[s, s], s:{}}, s:b, s:s, s:b}", "process", "cmd",
				 "/bin/sh", "args", "-c", s->command, "envs", "stdin", false, "tag",
				 tag, "endOnly", true);
	auto_free char *body = o != NULL ? json_dumps(o, JSON_COMPACT) : NULL;
	int r;

	if (body == NULL)
		return err_set(&op->err, ERR_INVALID, "the start command is no UTF-8 text");
	r = connect_agent(&st->c, s, op);
	if (r == 0)
		r = send_rpc(&st->c, s, START_TARGET, body, op);
	while (r == 0) {
		ssize_t n = http_client_read(&st->c, &st->in, op);

		if (n < 0)
			return (int)n;
		if (st->c.head.status != 200 || n == 0)
			return err_set(&op->err, ERR_AGENT,
				       "the guest agent answered with HTTP status %d: %.100s",
				       st->c.head.status, buf_str(&st->in));
		r = look_for_start(&st->in, &op->err);
	}
	return r < 0 ? r : 0;
}

/* Reads, without waiting, what the agent tells. A stream that breaks tells nothing any more.
 * Return: its end, a new reference; NULL there is none. */
static json_t *hear_end(struct started *st)
{
	json_t *message;
	json_t *end = NULL;
	ssize_t n = 0;
	struct op op;

	op_init(&op, 0, -1);
	while (!st->over && (n = http_client_read_ready(&st->c, &st->in, &op)) > 0)
		;
	st->over = st->over || n != -EAGAIN;
	while (end == NULL && take_message(&st->in, &message) > 0) {
		end = json_incref(json_object_get(json_object_get(message, "event"), "end"));
		json_decref(message);
	}
	return end;
}

/* Appends what a message of the agent says that was written. */
static void add_output(const json_t *message, struct buf *out)
{
	const json_t *data = json_object_get(json_object_get(message, "event"), "data");
	static const char *const streams[] = { "stdout", "stderr" };

	for (size_t i = 0; i < ARRAY_SIZE(streams); i++) {
		const json_t *piece = json_object_get(data, streams[i]);
		auto_free char *text = NULL;
		size_t n = 0;

		if (json_is_string(piece) &&
		    base64_decode(json_string_value(piece), json_string_length(piece), &text, &n) ==
			    0)
			ignore_err(buf_append(out, text, n)); /* it holds all that an agent keeps */
	}
}

/* The last line that is not empty, as far as it is text; a guest may write anything. */
static void copy_last_line(const char *text, size_t n, char out[LINE_SIZE])
{
	size_t begin;

	while (n > 0 && (unsigned char)text[n - 1] <= ' ')
		n--;
	begin = n;
	while (begin > 0 && text[begin - 1] != '\n' && text[begin - 1] != '\r')
		begin--;
	n = MIN(n - begin, (size_t)LINE_SIZE - 1);
	for (size_t i = 0; i < n; i++)
		out[i] = (unsigned char)text[begin + i] < ' ' ? '?' : text[begin + i];
	out[n] = '\0';
}

/* What it wrote last, which the agent keeps for a while; "" = nothing, or it is not told. */
static void last_line(const struct guest_start *s, char out[LINE_SIZE], struct op *parent)
{
	auto_free char *body = str_printf("{\"process\":{\"tag\":\"%s\"}}", tag);
	auto_http_client c = HTTP_CLIENT_INIT;
	auto_buf in = BUF_INIT(REPLY_BYTES_MAX);
	auto_buf text = BUF_INIT(REPLY_BYTES_MAX);
	struct op op = op_child(parent, LAST_LINE_TIMEOUT_MS);
	int r = connect_agent(&c, s, &op);
	json_t *message;

	if (r == 0)
		r = send_rpc(&c, s, CONNECT_TARGET, body, &op);
	while (r == 0 && http_client_read(&c, &in, &op) > 0) {
		while (take_message(&in, &message) > 0) {
			add_output(message, &text);
			json_decref(message);
		}
	}
	copy_last_line(buf_head(&text), text.len, out);
}

/* What puts itself into the background ends, and all is well; with any other end it cannot become
 * ready. Return: 0; -errno with op->err set. */
static int check_runs(const struct guest_start *s, struct started *st, struct op *op)
{
	auto_json *end = hear_end(st);
	const char *status = json_string_value(json_object_get(end, "status"));
	char line[LINE_SIZE] = "";

	if (end == NULL)
		return 0;
	st->over = true;
	str_copy(st->ended, sizeof(st->ended), status != NULL ? status : "nobody knows how");
	if (json_integer_value(json_object_get(end, "exitCode")) == 0)
		return 0;
	last_line(s, line, op);
	return err_set(&op->err, ERR_AGENT, "it ended before it was ready: %s%s%s", st->ended,
		       line[0] != '\0' ? "; it wrote last: " : ", and it wrote nothing", line);
}

int guest_start_rehearse(const struct guest_start *s, struct op *op)
{
	static const char body[] = "{\"process\":{\"cmd\":\"/bin/sh\",\"args\":[\"-c\","
				   "\"true; echo\"],\"envs\":{}},\"stdin\":true}";
	auto_http_client c = HTTP_CLIENT_INIT;
	auto_buf in = BUF_INIT(REPLY_BYTES_MAX);
	int r = connect_agent(&c, s, op);
	ssize_t n;

	if (r == 0)
		r = send_rpc(&c, s, START_TARGET, body, op);
	if (r < 0)
		return r;
	while ((n = http_client_read(&c, &in, op)) > 0)
		;
	return n < 0 ? (int)n : 0;
}

/* Has the agent lead to a port of its loopback. Return: 1 it does; 0 nobody listens there; -errno.
 */
static int reach_port(struct http_client *c, const struct guest_start *s, uint64_t port,
		      struct op *op)
{
	static const struct http_field fields[] = { { "Connection", "Upgrade" },
						    { "Upgrade", GUEST_LOOPBACK_PROTOCOL },
						    { NULL, NULL } };
	char target[sizeof(GUEST_LOOPBACK_PATH) + 8];
	auto_buf reply = BUF_INIT(REPLY_BYTES_MAX);
	int r = connect_agent(c, s, op);

	snprintf(target, sizeof(target), GUEST_LOOPBACK_PATH "/%u", (unsigned)port);
	if (r == 0)
		r = http_client_call(c, "GET", target, fields, "", 0, &reply, op);
	return r < 0 ? r : r == 101;
}

/* "HTTP/1.1 200 OK". Return: the status; 0 that is no HTTP. */
static int parse_status(const char *line)
{
	static const char head[] = "HTTP/1.";
	char digits[4] = "";
	uint64_t status;

	if (strncmp(line, head, strlen(head)) != 0 || strlen(line) < strlen("HTTP/1.1 200"))
		return 0;
	memcpy(digits, line + strlen("HTTP/1.1 "), 3);
	return parse_u64(digits, 100, 599, &status) == 0 ? (int)status : 0;
}

/* Return: the status of its reply; 0 it gave none that is HTTP; -errno with op->err set. */
static int read_status(struct http_client *c, struct op *op)
{
	auto_buf in = BUF_INIT(REPLY_BYTES_MAX);
	ssize_t n = 1;

	while (n > 0 && (in.len == 0 || strchr(buf_str(&in), '\n') == NULL))
		n = http_client_read(c, &in, op);
	if (n == -ECONNRESET)
		op->err = (struct err){ 0 }; /* it hung up: it is not ready */
	else if (n < 0)
		return (int)n;
	return parse_status(buf_str(&in));
}

static int ask_url(struct http_client *c, const struct ready *ready, struct op *op)
{
	auto_free char *request = str_printf("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n"
					     "\r\n",
					     ready->path, ready->authority);
	size_t n = strlen(request);
	ssize_t w = send(c->fd, request, n, MSG_NOSIGNAL); /* fits into an empty socket */

	return w == (ssize_t)n ? read_status(c, op) : 0;
}

/* Return: 1 it is ready; 0 not yet, @seen says what was seen; -errno with op->err set. */
static int look_at_port(const struct guest_start *s, const struct ready *ready,
			char seen[SEEN_SIZE], struct op *op)
{
	auto_http_client c = HTTP_CLIENT_INIT;
	int r = reach_port(&c, s, ready->port, op);

	if (r == 0)
		snprintf(seen, SEEN_SIZE, "nobody listens on port %u", (unsigned)ready->port);
	if (r <= 0 || ready->authority[0] == '\0')
		return r;
	r = ask_url(&c, ready, op);
	if (r < 0)
		return r;
	snprintf(seen, SEEN_SIZE, "it answers with HTTP status %d", r);
	return r >= 200 && r < 400;
}

static int look_by_command(const struct guest_start *s, char seen[SEEN_SIZE], struct op *op)
{
	struct http_field fields[] = { { "Content-Type", "application/json" },
				       { "X-Access-Token", s->token },
				       { NULL, NULL } };
	auto_json *o = json_pack("{s:s, s:i}", "cmd", s->ready, "timeout", LOOK_TIMEOUT_S);
	auto_free char *body = o != NULL ? json_dumps(o, JSON_COMPACT) : NULL;
	auto_http_client c = HTTP_CLIENT_INIT;
	auto_buf reply = BUF_INIT(REPLY_BYTES_MAX);
	auto_json *result = NULL;
	int code;
	int r;

	if (body == NULL)
		return err_set(&op->err, ERR_INVALID, "the condition is no UTF-8 text");
	if (s->token == NULL || s->token[0] == '\0')
		fields[1].name = NULL;
	r = connect_agent(&c, s, op);
	if (r == 0)
		r = http_client_call(&c, "POST", "/exec", fields, body, strlen(body), &reply, op);
	if (r < 0)
		return r;
	result = json_loads(buf_str(&reply), 0, NULL);
	if (r != 200 || json_unpack(result, "{s:i}", "exitCode", &code) < 0)
		return err_set(&op->err, ERR_AGENT,
			       "the guest agent answered /exec with %d: %.100s", r,
			       buf_str(&reply));
	snprintf(seen, SEEN_SIZE, "its condition ended with code %d", code);
	return code == 0;
}

static int wait_ready(const struct guest_start *s, const struct ready *ready, struct started *st,
		      struct op *op)
{
	char seen[SEEN_SIZE] = "nothing was seen of it";
	int r = 0;

	while (r == 0) {
		struct op moment = op_child(op, LOOK_AGAIN_MS);

		r = ready->port != 0 ? look_at_port(s, ready, seen, op)
				     : look_by_command(s, seen, op);
		if (r == 0 && check_runs(s, st, op) < 0)
			return -ECHILD;
		if (r == 0 &&
		    op_wait_fd(&moment, st->over ? -1 : st->c.fd, POLLIN, s->vmm_pidfd) == 2)
			return err_set(&op->err, ERR_VMM, "the VM ended meanwhile");
		if (r == 0 && op_check(op) < 0)
			r = err_errno(&op->err, -op_check(op), "wait");
	}
	return r > 0 ? 0
		     : err_wrap(&op->err, "not ready (%s%s%s)", seen,
				st->ended[0] != '\0' ? "; it ended itself: " : "", st->ended);
}

int guest_start_run(const struct guest_start *start, struct op *op)
{
	cleanup(started_done) struct started st = { .c = HTTP_CLIENT_INIT,
						    .in = BUF_INIT(REPLY_BYTES_MAX) };
	struct ready ready;
	int r = guest_ready_check(start->ready, &op->err);

	if (r == 0)
		r = launch(start, &st, op);
	if (r == 0 && start->ready[0] != '\0') {
		ignore_err(parse_ready(start->ready, &ready)); /* it was checked */
		r = wait_ready(start, &ready, &st, op);
	}
	return r < 0 ? err_wrap(&op->err, "start '%.60s'", start->command) : 0;
}
