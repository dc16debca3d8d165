/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. Start is a server stream of envelopes (1 byte of flags, 4 bytes of length,
 * JSON): first the pid, then output as it comes, then the end, then an envelope with the end flag.
 * The main thread polls that stream and the signals; stdin goes on a thread of its own
 * (stdin-pump.c), since the process may not read it for ever while it writes; a signal is one call
 * on a third connection.
 */
#include "cli/exec.h"

#include "base/base64.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "cli/exec-internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum {
	ENVELOPE_HEAD_BYTES = 5,
	ENVELOPE_MAX_BYTES = 8 << 20,
	FLAG_END = 0x02,
	SIGNAL_TIMEOUT_MS = 10000,
};

struct exec {
	struct cli *cli;
	const struct exec_spec *spec;
	struct http_client stream;
	struct buf in; /* bytes of envelopes */
	struct stdin_pump pump;
	json_int_t pid;     /* 0 until the process started */
	int pending_signal; /* came before the pid did */
	int code;           /* exit code; -1 = not known yet */
	bool done;          /* the end envelope came */
	struct op op;
};

static int exit_code_of(const json_t *end)
{
	json_int_t signal = json_number(end, "signal");

	return signal > 0 ? EXIT_SIGNAL_BASE + (int)(signal & 0x7f)
			  : (int)(json_number(end, "exitCode") & 0xff);
}

static void pass_signal(struct exec *x, int signo)
{
	auto_http_client c = HTTP_CLIENT_INIT;
	auto_json *request = NULL;
	char name[32];
	struct op op;

	if (x->pid == 0) {
		x->pending_signal = signo;
		return;
	}
	op_init(&op, SIGNAL_TIMEOUT_MS, -1);
	snprintf(name, sizeof(name), "SIGNAL_SIG%s", sigabbrev_np(signo));
	request = json_pack("{s:{s:I}, s:s, s:b}", "process", "pid", x->pid, "signal", name,
			    "group", 1);
	/* A process that just ended needs no signal any more; anything else shows in the stream. */
	if (http_client_connect_unix(&c, x->cli->socket, &op) == 0)
		ignore_err(exec_unary(&c, x->spec, "SendSignal", request, &op));
}

static void on_start(struct exec *x, const json_t *start)
{
	json_int_t pid = json_number(start, "pid");
	struct err e = { 0 };

	if (x->pid != 0 || pid <= 0)
		return; /* there is one process, whatever a guest says */
	x->pid = pid;
	if (stdin_pump_start(&x->pump, x->cli, x->spec, x->pid, &e) < 0)
		fprintf(stderr, "viv: %s; the command gets no input\n", e.msg);
	if (x->pending_signal != 0)
		pass_signal(x, x->pending_signal);
}

/* Whoever shares our terminal may have set it non-blocking; that is no reason to lose output. */
static int write_all(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t w = write(fd, p, n);

		if (w < 0 && errno == EAGAIN) {
			struct pollfd room = { .fd = fd, .events = POLLOUT };

			w = poll(&room, 1, -1) < 0 ? -1 : 0;
		}
		if (w < 0 && errno != EINTR)
			return -errno;
		p += MAX(w, 0);
		n -= (size_t)MAX(w, 0);
	}
	return 0;
}

static int write_out(struct exec *x, int fd, const char *text)
{
	auto_free char *bytes = NULL;
	size_t n = 0;
	int r = base64_decode(text, strlen(text), &bytes, &n);

	if (r < 0)
		return err_set(&x->op.err, ERR_AGENT, "the agent sent output that is not base64");
	r = write_all(fd, bytes, n);
	if (r == -EPIPE) {
		/* Nobody reads us any more: the command learns it as it would in a pipe. */
		pass_signal(x, SIGPIPE);
		return 0;
	}
	return r < 0 ? err_errno(&x->op.err, -r, "write the command's output") : 0;
}

static int on_event(struct exec *x, const json_t *event)
{
	const json_t *data = json_object_get(event, "data");
	const char *text;

	if (json_object_get(event, "start") != NULL)
		on_start(x, json_object_get(event, "start"));
	else if ((text = json_string_value(json_object_get(data, "stdout"))) != NULL)
		return write_out(x, STDOUT_FILENO, text);
	else if ((text = json_string_value(json_object_get(data, "stderr"))) != NULL)
		return write_out(x, STDERR_FILENO, text);
	else if (json_object_get(event, "end") != NULL)
		x->code = exit_code_of(json_object_get(event, "end"));
	return 0;
}

/* The agent's codes for what a shell would say about a command that it cannot run. */
static void on_stream_error(struct exec *x, const json_t *error)
{
	const char *code = json_text(error, "code");
	const char *message = json_text(error, "message");

	fprintf(stderr, "viv: %s\n", message[0] != '\0' ? message : code);
	if (x->pid == 0 && streq(code, "not_found"))
		x->code = EXIT_NOT_FOUND;
	else if (x->pid == 0 && streq(code, "permission_denied"))
		x->code = EXIT_NOT_EXECUTABLE;
	else
		x->code = EXIT_VIV;
}

static int on_envelope(struct exec *x, unsigned flags, const char *p, size_t n)
{
	auto_json *o = json_loadb(p, n, 0, NULL);
	const json_t *error = json_object_get(o, "error");

	if (o == NULL)
		return err_set(&x->op.err, ERR_AGENT, "the agent sent what is not JSON");
	if ((flags & FLAG_END) == 0)
		return on_event(x, json_object_get(o, "event"));
	x->done = true;
	if (error != NULL)
		on_stream_error(x, error);
	return 0;
}

static int take_envelopes(struct exec *x)
{
	while (!x->done && x->in.len >= ENVELOPE_HEAD_BYTES) {
		const char *p = buf_head(&x->in);
		uint32_t n;
		int r;

		memcpy(&n, p + 1, sizeof(n));
		n = ntohl(n);
		if (n > ENVELOPE_MAX_BYTES - ENVELOPE_HEAD_BYTES)
			return err_set(&x->op.err, ERR_AGENT,
				       "the agent sent an envelope of %u bytes", n);
		if (x->in.len < ENVELOPE_HEAD_BYTES + n)
			return 0;
		r = on_envelope(x, (unsigned char)p[0], p + ENVELOPE_HEAD_BYTES, n);
		if (r < 0)
			return r;
		buf_consume(&x->in, ENVELOPE_HEAD_BYTES + n);
	}
	return 0;
}

/* Reads what has arrived. Return: 0; -errno, x->op.err set. */
static int read_stream(struct exec *x)
{
	while (!x->done) {
		ssize_t n = http_client_read_ready(&x->stream, &x->in, &x->op);
		int r;

		if (n == -EAGAIN)
			return 0;
		if (n < 0)
			return err_wrap(&x->op.err, "sandbox %s ended, or its stream broke",
					x->spec->id);
		r = take_envelopes(x);
		if (r < 0)
			return r;
		if (n == 0 && !x->done)
			return err_set(&x->op.err, ERR_AGENT,
				       "the stream of the command ended early");
	}
	return 0;
}

static void read_signals(struct exec *x)
{
	struct signalfd_siginfo info;

	while (read(x->cli->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		pass_signal(x, (int)info.ssi_signo);
}

static int follow(struct exec *x)
{
	int r = read_stream(x);

	while (r == 0 && !x->done) {
		struct pollfd p[] = { { .fd = x->stream.fd, .events = POLLIN },
				      { .fd = x->cli->signal_fd, .events = POLLIN } };

		if (poll(p, ARRAY_SIZE(p), -1) < 0 && errno != EINTR)
			return err_errno(&x->op.err, errno, "poll");
		if (p[1].revents != 0)
			read_signals(x);
		if (p[0].revents != 0)
			r = read_stream(x);
	}
	return r;
}

static json_t *start_request(const struct exec_spec *spec)
{
	json_t *args = json_array();
	json_t *process;

	for (char *const *arg = spec->argv + 1; *arg != NULL; arg++) {
		if (json_array_append_new(args, json_string(*arg)) < 0) {
			json_decref(args);
			return NULL;
		}
	}
	process = json_pack("{s:s, s:o, s:O?}", "cmd", spec->argv[0], "args", args, "envs",
			    spec->env);
	if (process != NULL && spec->workdir != NULL &&
	    json_object_set_new(process, "cwd", json_string(spec->workdir)) < 0) {
		json_decref(process);
		return NULL;
	}
	return json_pack("{s:o, s:b}", "process", process, "stdin", 1);
}

static int envelope_of(const json_t *request, struct buf *out)
{
	auto_free char *text = request == NULL ? NULL : json_dumps(request, JSON_COMPACT);
	uint32_t n;
	int r;

	if (text == NULL)
		return -EILSEQ;
	n = htonl((uint32_t)strlen(text));
	r = buf_append(out, "\0", 1);
	if (r == 0)
		r = buf_append(out, &n, sizeof(n));
	return r < 0 ? r : buf_puts(out, text);
}

/* A reply that is no stream: the proxy or the agent refused. */
static int refused(struct exec *x)
{
	auto_buf body = BUF_INIT(65536);
	auto_json *o = NULL;
	ssize_t n;

	while ((n = http_client_read(&x->stream, &body, &x->op)) > 0)
		;
	if (n < 0)
		return (int)n;
	o = json_loadb(buf_str(&body), body.len, 0, NULL);
	return err_set(&x->op.err, ERR_AGENT, "sandbox %s: %s (%d)", x->spec->id,
		       json_text(o, "message"), x->stream.head.status);
}

static int start(struct exec *x)
{
	auto_buf body = BUF_INIT(ENVELOPE_MAX_BYTES);
	auto_json *request = start_request(x->spec);
	struct exec_fields fields;
	int r = envelope_of(request, &body);

	if (r < 0)
		return err_set(&x->op.err, ERR_INVALID,
			       "the command, its arguments, environment and directory must be "
			       "UTF-8 and of at most 8 MiB");
	r = exec_fields_init(&fields, x->spec, "application/connect+json", &x->op.err);
	if (r == 0)
		r = http_client_connect_unix(&x->stream, x->cli->socket, &x->op);
	if (r == 0)
		r = http_client_send(&x->stream, "POST", "/process.Process/Start", fields.at,
				     buf_head(&body), body.len, &x->op);
	if (r == 0)
		r = http_client_head(&x->stream, &x->op);
	if (r < 0)
		return r;
	return x->stream.head.status == 200 ? 0 : refused(x);
}

int exec_run(struct cli *cli, const struct exec_spec *spec)
{
	struct exec x = {
		.cli = cli,
		.spec = spec,
		.stream = HTTP_CLIENT_INIT,
		.in = BUF_INIT(ENVELOPE_MAX_BYTES + 65536),
		.code = -1,
	};
	int r;

	op_init(&x.op, 0, cli->signal_fd);
	r = start(&x);
	x.op.cancel_fd = -1; /* from here on signals are the command's */
	if (r == 0)
		r = follow(&x);
	stdin_pump_stop(&x.pump);
	http_client_done(&x.stream);
	buf_done(&x.in);
	if (r < 0)
		return cli_fail(cli, &x.op, EXIT_VIV);
	if (x.code < 0)
		fprintf(stderr, "viv: the agent did not say how the command ended\n");
	return x.code < 0 ? EXIT_VIV : x.code;
}
