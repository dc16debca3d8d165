/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POST /exec, for people with curl: one command, one request, one reply with all that it wrote.
 *
 * Theory of operation. The process is one like any other, with a tap that keeps the beginning of
 * its output; what is more than is kept is counted out, never waited for, and the reply says so.
 * The request's end is the process's: whoever goes away, or comes to its timeout, has the group
 * killed. The tap's on_end is what frees a call whose process runs; nobody else does meanwhile but
 * a client that leaves.
 */
#include "agent/exec.h"

#include "agent/agent.h"
#include "agent/caller.h"
#include "agent/command.h"
#include "agent/field.h"
#include "agent/handle.h"
#include "agent/input.h"
#include "agent/reply.h"
#include "base/base64.h"
#include "base/clock.h"
#include "base/str.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

enum {
	EXECS_MAX = 64,           /* at once: what they keep is bounded with them */
	KEPT_MAX_BYTES = 1 << 20, /* of each stream */
	TIMEOUT_S = 60,
	TIMEOUT_MAX_S = 7 * 24 * 3600,
	CHARACTER_MAX_BYTES = 4,
};

struct exec {
	struct http_exchange *x;
	struct agent *agent;
	struct process *process; /* NULL = it has ended, or never began */
	uv_timer_t *timer;
	struct buf kept[2]; /* stdout, stderr */
	bool truncated[2];
	bool timed_out;
};

/* What a request asks for. */
struct wish {
	json_t *body; /* owned */
	json_t *args; /* owned; what is behind the command */
	char *input;  /* owned; NULL = no stdin */
	size_t n_input;
	uint64_t timeout_s; /* 0 = none */
	struct command command;
};

static unsigned n_execs; /* of the loop's thread */

static void wish_done(struct wish *w)
{
	command_done(&w->command);
	json_decref(w->args);
	json_decref(w->body);
	free(w->input);
}

static void exec_free(struct exec *x)
{
	handle_timer_free(&x->timer);
	buf_done(&x->kept[OUTPUT_STDOUT]);
	buf_done(&x->kept[OUTPUT_STDERR]);
	free(x);
	n_execs--;
}

static void on_data(enum output_stream s, const void *p, size_t n, void *arg)
{
	struct exec *x = arg;
	struct buf *kept = &x->kept[s];
	size_t fits = MIN(n, buf_room(kept));

	if (buf_append(kept, p, fits) < 0 || fits < n)
		x->truncated[s] = true;
}

/* What was kept as text; one cut within a character loses that. NULL: it is no UTF-8. */
static json_t *text_of(const struct exec *x, enum output_stream s)
{
	const struct buf *kept = &x->kept[s];
	size_t most = x->truncated[s] ? MIN(kept->len, (size_t)CHARACTER_MAX_BYTES - 1) : 0;
	json_t *text = NULL;

	for (size_t cut = 0; text == NULL && cut <= most; cut++)
		text = json_stringn(kept->len > 0 ? buf_head(kept) : "", kept->len - cut);
	return text;
}

static json_t *base64_of(const struct buf *kept)
{
	auto_free char *text = malloc(BASE64_ENCODED_LEN(kept->len) + 1);

	if (text == NULL)
		return NULL;
	return json_stringn(text,
			    base64_encode(kept->len > 0 ? buf_head(kept) : "", kept->len, text));
}

/* One encoding for both streams: a program that reads them decides once. */
static json_t *reply_of(const struct exec *x, int wait_status)
{
	json_t *out = text_of(x, OUTPUT_STDOUT);
	json_t *err = text_of(x, OUTPUT_STDERR);
	bool text = out != NULL && err != NULL;
	int code = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);

	if (!text) {
		json_decref(out);
		json_decref(err);
		out = base64_of(&x->kept[OUTPUT_STDOUT]);
		err = base64_of(&x->kept[OUTPUT_STDERR]);
	}
	return json_pack("{s:o, s:o, s:s, s:i, s:b, s:b}", "stdout", out, "stderr", err, "encoding",
			 text ? "utf-8" : "base64", "exitCode", code, "truncated",
			 x->truncated[OUTPUT_STDOUT] || x->truncated[OUTPUT_STDERR], "timedOut",
			 x->timed_out);
}

static const struct http_exchange_events no_events;

static void on_end(int wait_status, void *arg)
{
	struct exec *x = arg;
	struct http_exchange *exchange = x->x;
	json_t *reply = reply_of(x, wait_status);

	exec_free(x);
	http_exchange_bind(exchange, &no_events, NULL);
	reply_json(exchange, reply != NULL ? 200 : 503,
		   reply != NULL ? reply
				 : json_pack("{s:i, s:s}", "code", 503, "message",
					     "out of memory for the output"));
}

static void kill_group(const struct exec *x)
{
	ignore_err(process_kill(x->process, SIGKILL, true)); /* gone is as good */
}

static void on_close(struct http_exchange *exchange, bool complete, void *arg)
{
	struct exec *x = arg;

	(void)exchange;
	(void)complete;
	process_tap(x->process, NULL);
	kill_group(x);
	exec_free(x);
}

static void on_timeout(uv_timer_t *timer)
{
	struct exec *x = timer->data;

	x->timed_out = true;
	kill_group(x);
}

static const struct http_exchange_events exec_events = { .on_close = on_close };

/* The end of a process comes from the loop, so nothing of this is called from within. */
static void follow(struct exec *x, struct process *p, uint64_t timeout_s)
{
	x->process = p;
	http_exchange_bind(x->x, &exec_events, x);
	process_tap(p, &(struct process_tap){ .on_data = on_data, .on_end = on_end, .arg = x });
	if (timeout_s == 0)
		return;
	x->timer = handle_timer_new(&x->agent->loop, x);
	uv_update_time(&x->agent->loop);
	ignore_err(uv_timer_start(x->timer, on_timeout, timeout_s * MS_PER_S,
				  0)); /* the handle is not closing */
}

/* A line for the shell, or a program and its arguments. */
static int read_command(struct wish *w, struct connect_error *e)
{
	const char *line = NULL;
	json_t *args = NULL;

	if (field_string(w->body, "cmd", &line, e) < 0 ||
	    field_strings(w->body, "args", true, &args, e) < 0)
		return -EPROTO;
	if ((line != NULL) == (args != NULL))
		return connect_error_set(e, CONNECT_INVALID_ARGUMENT,
					 "say what to run by one of the fields 'cmd' (a line for "
					 "the shell) and 'args' (a program and its arguments)");
	if (line != NULL) {
		w->command.cmd = "/bin/sh";
		w->args = json_pack("[s, s]", "-c", line);
	} else if (json_array_size(args) > 0) {
		w->command.cmd = json_string_value(json_array_get(args, 0));
		w->args = json_copy(args);
		ignore_err(json_array_remove(w->args, 0)); /* it has one */
	}
	if (w->command.cmd == NULL || w->command.cmd[0] == '\0')
		return connect_error_set(e, CONNECT_INVALID_ARGUMENT,
					 "field 'args' names no program");
	w->command.args = w->args;
	return w->args != NULL ? 0
			       : connect_error_set(e, CONNECT_RESOURCE_EXHAUSTED, "out of memory");
}

static int read_stdin(struct wish *w, struct connect_error *e)
{
	const char *encoding = "utf-8";
	const json_t *input = field_get(w->body, "stdin");

	if (field_string(w->body, "stdinEncoding", &encoding, e) < 0)
		return -EPROTO;
	if (!streq(encoding, "utf-8") && !streq(encoding, "base64"))
		return connect_error_set(e, CONNECT_INVALID_ARGUMENT,
					 "field 'stdinEncoding' must be utf-8 or base64");
	if (input == NULL)
		return 0;
	w->command.with_stdin = true;
	if (streq(encoding, "base64"))
		return MIN(field_bytes(w->body, "stdin", &w->input, &w->n_input, e), 0);
	if (!json_is_string(input))
		return connect_error_set(e, CONNECT_INVALID_ARGUMENT,
					 "field 'stdin' must be a string");
	w->n_input = json_string_length(input);
	w->input = malloc(w->n_input + 1);
	if (w->input == NULL)
		return connect_error_set(e, CONNECT_RESOURCE_EXHAUSTED, "out of memory");
	memcpy(w->input, json_string_value(input), w->n_input);
	return 0;
}

static int check_keys(const json_t *body, struct connect_error *e)
{
	static const char *const known[] = { "cmd",  "args",  "envs",          "cwd",
					     "user", "stdin", "stdinEncoding", "timeout" };
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)body, key, v)
	{
		bool found = false;

		for (size_t i = 0; i < ARRAY_SIZE(known); i++)
			found = found || streq(key, known[i]);
		if (!found)
			return connect_error_set(e, CONNECT_INVALID_ARGUMENT,
						 "field '%.64s' is unknown", key);
	}
	return 0;
}

static int read_wish(const struct agent *a, struct wish *w, struct connect_error *e)
{
	const char *user = NULL;

	w->timeout_s = TIMEOUT_S;
	if (check_keys(w->body, e) < 0 || read_command(w, e) < 0 ||
	    field_string(w->body, "cwd", &w->command.cwd, e) < 0 ||
	    field_strings(w->body, "envs", false, &w->command.envs, e) < 0 ||
	    field_u64(w->body, "timeout", TIMEOUT_MAX_S, &w->timeout_s, e) < 0 ||
	    field_string(w->body, "user", &user, e) < 0 || read_stdin(w, e) < 0)
		return -EPROTO;
	return caller_find(a, user, &w->command.user, e);
}

/* All that a request can get wrong is 400: a command that is not found is no sandbox that is not,
 * and an unknown user no missing key. */
static int status_of(enum connect_code code)
{
	return code == CONNECT_RESOURCE_EXHAUSTED || code == CONNECT_INTERNAL
		       ? connect_code_http(code)
		       : 400;
}

static void on_body(struct http_exchange *exchange, const char *body, size_t n, void *arg)
{
	cleanup(wish_done) struct wish w = { 0 };
	struct agent *a = arg;
	struct connect_error e = { 0 };
	struct process *p = NULL;
	struct exec *x;

	if (n_execs >= EXECS_MAX)
		ignore_err(connect_error_set(&e, CONNECT_RESOURCE_EXHAUSTED,
					     "more than %d commands at once wait for their end by "
					     "/exec: try again later",
					     EXECS_MAX));
	else if (connect_message_parse(body, n, &w.body, &e) == 0 && read_wish(a, &w, &e) == 0)
		p = command_start(a, &w.command, 0, &e);
	if (p == NULL) {
		reply_error(exchange, status_of(e.code), "%s", e.msg);
		return;
	}
	x = xcalloc(1, sizeof(*x));
	*x = (struct exec){ .x = exchange, .agent = a };
	for (size_t i = 0; i < ARRAY_SIZE(x->kept); i++)
		buf_init(&x->kept[i], KEPT_MAX_BYTES);
	n_execs++;
	follow(x, p, w.timeout_s);
	if (w.command.with_stdin)
		input_give(process_input(p), take_ptr(&w.input), w.n_input);
}

void exec_serve(struct http_exchange *x, const struct route_params *params, void *arg)
{
	(void)params;
	http_body_collect(x, CONNECT_MESSAGE_MAX, on_body, arg);
}
