/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/process-rpc.h"

#include "agent/agent.h"
#include "agent/caller.h"
#include "agent/command.h"
#include "agent/field.h"
#include "agent/input.h"
#include "agent/process.h"
#include "agent/signals.h"
#include "base/str.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

/* The size in a field "pty"; zero if there is no such field. Return: 0; -EPROTO with @e set. */
static int read_pty(const json_t *request, struct pty_size *out, struct connect_error *e)
{
	json_t *pty = NULL;
	json_t *size = NULL;
	uint64_t cols = 0;
	uint64_t rows = 0;

	if (field_object(request, "pty", &pty, e) < 0 || field_object(pty, "size", &size, e) < 0 ||
	    field_u64(size, "cols", UINT16_MAX, &cols, e) < 0 ||
	    field_u64(size, "rows", UINT16_MAX, &rows, e) < 0)
		return -EPROTO;
	if (pty != NULL && (cols == 0 || rows == 0))
		return connect_error_set(e, CONNECT_INVALID_ARGUMENT,
					 "field 'pty' needs a size of 1 to %d cols and rows",
					 UINT16_MAX);
	*out = (struct pty_size){ .cols = (uint16_t)cols, .rows = (uint16_t)rows };
	return 0;
}

static int read_start(const json_t *request, struct command *s, struct connect_error *e)
{
	json_t *process = NULL;

	if (field_object(request, "process", &process, e) < 0)
		return -EPROTO;
	if (process == NULL)
		return connect_error_set(e, CONNECT_INVALID_ARGUMENT, "field 'process' is missing");
	s->with_stdin = true;
	if (field_string(process, "cmd", &s->cmd, e) < 0 ||
	    field_string(process, "cwd", &s->cwd, e) < 0 ||
	    field_strings(process, "args", true, &s->args, e) < 0 ||
	    field_strings(process, "envs", false, &s->envs, e) < 0 ||
	    field_string(request, "tag", &s->tag, e) < 0 || read_pty(request, &s->pty, e) < 0 ||
	    field_bool(request, "stdin", &s->with_stdin, e) < 0)
		return -EPROTO;
	if (s->cmd == NULL || s->cmd[0] == '\0')
		return connect_error_set(e, CONNECT_INVALID_ARGUMENT, "field 'cmd' is missing");
	if (s->tag != NULL && s->tag[0] == '\0')
		s->tag = NULL;
	return 0;
}

static void rpc_start(struct agent *a, struct connect_call *c, const json_t *request)
{
	struct connect_error e = { 0 };
	struct output_listen spec = { .starter = true };
	auto_command s = { 0 };
	struct process *p = NULL;

	if (caller_of_call(a, c, &s.user, &e) == 0 && read_start(request, &s, &e) == 0 &&
	    field_bool(request, "endOnly", &spec.end_only, &e) == 0)
		p = command_start(a, &s, connect_timeout_ms(c), &e);
	if (p == NULL)
		connect_fail(c, &e);
	else
		process_listen(p, c, spec);
}

/* The process that a request selects, or NULL with the error set. */
static struct process *select_process(struct agent *a, const json_t *request, bool ended_too,
				      struct connect_error *e)
{
	json_t *selector = NULL;
	const char *tag = NULL;
	uint64_t pid = 0;
	struct process *p;

	if (field_object(request, "process", &selector, e) < 0 ||
	    field_u64(selector, "pid", INT32_MAX, &pid, e) < 0 ||
	    field_string(selector, "tag", &tag, e) < 0)
		return NULL;
	if (pid == 0 && tag == NULL) {
		ignore_err(connect_error_set(e, CONNECT_INVALID_ARGUMENT,
					     "field 'process' needs a pid or a tag"));
		return NULL;
	}
	p = process_find(a, (int64_t)pid, tag, ended_too);
	if (p == NULL && pid != 0)
		ignore_err(connect_error_set(e, CONNECT_NOT_FOUND,
					     "process with pid %llu not found",
					     (unsigned long long)pid));
	else if (p == NULL)
		ignore_err(connect_error_set(e, CONNECT_NOT_FOUND,
					     "process with tag '%.128s' not found", tag));
	return p;
}

/*
 * The positions in a field "resumeFrom"; one that is absent is 0.
 * Return: 1; 0 there is no such field; -EPROTO with @e set.
 */
static int read_positions(const json_t *request, uint64_t out[OUTPUT_STREAM_N],
			  struct connect_error *e)
{
	json_t *from = NULL;

	if (field_object(request, "resumeFrom", &from, e) < 0 ||
	    field_u64(from, "stdout", INT64_MAX, &out[OUTPUT_STDOUT], e) < 0 ||
	    field_u64(from, "stderr", INT64_MAX, &out[OUTPUT_STDERR], e) < 0 ||
	    field_u64(from, "pty", INT64_MAX, &out[OUTPUT_PTY], e) < 0)
		return -EPROTO;
	return from != NULL;
}

static void rpc_connect(struct agent *a, struct connect_call *c, const json_t *request)
{
	struct connect_error e = { 0 };
	struct process *p = select_process(a, request, true, &e);
	uint64_t from[OUTPUT_STREAM_N] = { 0 };
	struct output_listen spec = { 0 };
	int r = p == NULL ? -EPROTO : read_positions(request, from, &e);

	if (r > 0)
		spec.from = from;
	if (r < 0 || field_bool(request, "endOnly", &spec.end_only, &e) < 0)
		connect_fail(c, &e);
	else
		process_listen(p, c, spec);
}

static void rpc_list(struct agent *a, struct connect_call *c, const json_t *request)
{
	(void)request;
	connect_reply(c, process_list(a));
}

static void rpc_send_input(struct agent *a, struct connect_call *c, const json_t *request)
{
	struct connect_error e = { 0 };
	struct process *p = select_process(a, request, false, &e);

	if (p == NULL)
		connect_fail(c, &e);
	else
		input_send(process_input(p), c, request);
}

/* The first message says which process; input.c takes the others. */
static void rpc_stream_input(struct agent *a, struct connect_call *c, const json_t *first)
{
	struct connect_error e = { 0 };
	struct process *p = NULL;
	json_t *start = NULL;

	if (field_object(first, "start", &start, &e) == 0 && start == NULL)
		ignore_err(connect_error_set(&e, CONNECT_INVALID_ARGUMENT,
					     "the first message must have a field 'start'"));
	else if (start != NULL)
		p = select_process(a, start, false, &e);
	if (p == NULL)
		connect_fail(c, &e);
	else
		input_stream(process_input(p), c);
}

static void rpc_close_stdin(struct agent *a, struct connect_call *c, const json_t *request)
{
	struct connect_error e = { 0 };
	struct process *p = select_process(a, request, false, &e);

	if (p == NULL)
		connect_fail(c, &e);
	else
		input_close(process_input(p), c);
}

static int read_signal(const json_t *request, int *out, struct connect_error *e)
{
	json_t *value = field_get(request, "signal");
	const char *name = json_string_value(value);
	uint64_t number = 0;

	*out = name != NULL ? signal_parse(name) : -EINVAL;
	if (*out < 0) {
		if (name == NULL &&
		    field_u64(request, "signal", (uint64_t)SIGRTMAX, &number, e) < 0)
			return -EPROTO;
		*out = (int)number;
	}
	if (*out == 0)
		return connect_error_set(e, CONNECT_INVALID_ARGUMENT, "unknown signal '%.64s'",
					 name != NULL ? name : "");
	return 0;
}

static void rpc_send_signal(struct agent *a, struct connect_call *c, const json_t *request)
{
	struct connect_error e = { 0 };
	struct process *p = select_process(a, request, false, &e);
	bool group = false;
	int number;
	int r;

	if (p == NULL || read_signal(request, &number, &e) < 0 ||
	    field_bool(request, "group", &group, &e) < 0) {
		connect_fail(c, &e);
		return;
	}
	r = process_kill(p, number, group);
	if (r < 0)
		connect_failf(c, CONNECT_INTERNAL, "send signal %d: %s", number, strerror(-r));
	else
		connect_reply(c, json_object());
}

static void rpc_update(struct agent *a, struct connect_call *c, const json_t *request)
{
	struct connect_error e = { 0 };
	struct process *p = select_process(a, request, false, &e);
	struct pty_size size = { 0 };
	int r = 0;

	if (p == NULL || read_pty(request, &size, &e) < 0) {
		connect_fail(c, &e);
		return;
	}
	if (size.cols != 0)
		r = process_resize(p, size);
	if (r == -ENOTTY)
		connect_failf(c, CONNECT_FAILED_PRECONDITION, "the process has no pty");
	else if (r < 0)
		connect_failf(c, CONNECT_INTERNAL, "resize the pty: %s", strerror(-r));
	else
		connect_reply(c, json_object());
}

static const char keepalive[] = "{\"event\":{\"keepalive\":{}}}";

static const struct connect_method methods[] = {
	{ "Start", rpc_start, .stream = true, .own_deadline = true, .keepalive = keepalive },
	{ "Connect", rpc_connect, .stream = true, .keepalive = keepalive },
	{ "List", rpc_list },
	{ "SendInput", rpc_send_input },
	{ "StreamInput", rpc_stream_input, .stream = true, .client_stream = true },
	{ "CloseStdin", rpc_close_stdin },
	{ "SendSignal", rpc_send_signal },
	{ "Update", rpc_update },
};

void process_serve(struct http_exchange *x, const struct route_params *params, void *arg)
{
	connect_serve(arg, x, methods, ARRAY_SIZE(methods), params->at[0]);
}
