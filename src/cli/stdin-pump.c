/* SPDX-License-Identifier: Apache-2.0 */
#include "base/base64.h"
#include "base/fd.h"
#include "base/str.h"
#include "cli/exec-internal.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { CHUNK_BYTES = 48 * 1024, REPLY_MAX_BYTES = 65536 };

int exec_fields_init(struct exec_fields *f, const struct exec_spec *spec, const char *content_type,
		     struct err *e)
{
	struct http_field *at = f->at;

	*at++ = (struct http_field){ "Content-Type", content_type };
	*at++ = (struct http_field){ "Connect-Protocol-Version", "1" };
	*at++ = (struct http_field){ "E2b-Sandbox-Id", spec->id };
	*at++ = (struct http_field){ "E2b-Sandbox-Port", "49983" };
	if (spec->token[0] != '\0')
		*at++ = (struct http_field){ "X-Access-Token", spec->token };
	if (spec->user != NULL) {
		char plain[256];
		size_t n;

		if (str_fit(plain, sizeof(plain), "%s:", spec->user) < 0)
			return err_set(e, ERR_INVALID, "user name '%.40s...' is too long",
				       spec->user);
		str_copy(f->auth, sizeof(f->auth), "Basic ");
		n = strlen(f->auth);
		f->auth[n + base64_encode(plain, strlen(plain), f->auth + n)] = '\0';
		*at++ = (struct http_field){ "Authorization", f->auth };
	}
	*at = (struct http_field){ NULL, NULL };
	return 0;
}

int exec_unary(struct http_client *c, const struct exec_spec *spec, const char *method,
	       const json_t *request, struct op *op)
{
	auto_buf reply = BUF_INIT(REPLY_MAX_BYTES);
	auto_free char *text = json_dumps(request, JSON_COMPACT);
	struct exec_fields fields;
	char target[64];
	int r = exec_fields_init(&fields, spec, "application/json", &op->err);

	if (r == 0)
		r = str_fit(target, sizeof(target), "/process.Process/%s", method);
	if (r < 0)
		return r;
	if (text == NULL)
		return err_set(&op->err, ERR_SYSTEM, "no memory for a request");
	r = http_client_call(c, "POST", target, fields.at, text, strlen(text), &reply, op);
	if (r < 0)
		return r;
	if (r != 200)
		return err_set(&op->err, ERR_AGENT, "%s: %s", method, buf_str(&reply));
	return 0;
}

static int send_piece(struct http_client *c, const struct stdin_pump *p, const char *data, size_t n,
		      struct op *op)
{
	auto_free char *text = xcalloc(1, BASE64_ENCODED_LEN(CHUNK_BYTES));
	size_t len = base64_encode(data, n, text);
	auto_json *request = json_pack("{s:{s:I}, s:{s:s%}}", "process", "pid", p->pid, "input",
				       "stdin", text, len);

	return exec_unary(c, p->spec, "SendInput", request, op);
}

static int send_end(struct http_client *c, const struct stdin_pump *p, struct op *op)
{
	auto_json *request = json_pack("{s:{s:I}}", "process", "pid", p->pid);

	return exec_unary(c, p->spec, "CloseStdin", request, op);
}

/* Input may come after a long pause, when the connection of the last piece is closed. */
static int reconnect(struct http_client *c, const struct stdin_pump *p, struct op *op)
{
	if (cli_still_open(c))
		return 0;
	http_client_done(c);
	return http_client_connect_unix(c, p->cli->socket, op);
}

/* Ends with stdin, or with the process: then nobody wants the rest. */
static void *pump(void *arg)
{
	struct stdin_pump *p = arg;
	auto_http_client c = HTTP_CLIENT_INIT;
	auto_free char *chunk = xcalloc(1, CHUNK_BYTES);
	struct op op;
	int r = 0;

	op_init(&op, 0, p->cancel_fd);
	while (r == 0) {
		ssize_t n;

		if (op_wait_fd(&op, STDIN_FILENO, POLLIN, -1) < 0)
			return NULL;
		n = read(STDIN_FILENO, chunk, CHUNK_BYTES);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		r = reconnect(&c, p, &op);
		if (r == 0 && n <= 0) {
			ignore_err(send_end(&c, p, &op)); /* it may have ended by itself */
			return NULL;
		}
		if (r == 0)
			r = send_piece(&c, p, chunk, (size_t)n, &op);
	}
	return NULL;
}

int stdin_pump_start(struct stdin_pump *p, const struct cli *cli, const struct exec_spec *spec,
		     json_int_t pid, struct err *e)
{
	auto_close int cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int r;

	if (cancel_fd < 0)
		return err_errno(e, errno, "make an eventfd");
	*p = (struct stdin_pump){ .cli = cli, .spec = spec, .pid = pid, .cancel_fd = cancel_fd };
	r = pthread_create(&p->thread, NULL, pump, p);
	if (r != 0)
		return err_errno(e, r, "start a thread for stdin");
	take_fd(&cancel_fd);
	p->running = true;
	return 0;
}

void stdin_pump_stop(struct stdin_pump *p)
{
	if (!p->running)
		return;
	ignore_err(eventfd_write(p->cancel_fd, 1)); /* it cannot overflow by ones */
	pthread_join(p->thread, NULL);
	fd_close(&p->cancel_fd);
	p->running = false;
}
