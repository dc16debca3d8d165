/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/exec.h"

#include "base/str.h"
#include "cli/process-stream.h"
#include "cli/session.h"

#include <stdio.h>
#include <stdlib.h>

static int read_keys(const char *text, struct detach *out)
{
	return detach_parse(out, text != NULL ? text : DETACH_DEFAULT);
}

int exec_check(const struct verb *verb, const struct exec_options *options)
{
	struct detach keys;

	if (read_keys(options->detach_keys, &keys) < 0)
		return cli_usage(verb,
				 "--detach-keys %s: say keys like ctrl-p,ctrl-q or x, at most %d",
				 options->detach_keys, DETACH_KEYS_MAX);
	if (options->tag != NULL && (options->tag[0] == '\0' || guest_is_pid(options->tag)))
		return cli_usage(verb,
				 "--tag '%s': a tag is not empty and not all digits, which "
				 "are a pid",
				 options->tag);
	if (options->tty && !options->detached && !terminal_is_there()) {
		fprintf(stderr,
			"viv %s: --tty: standard input is not a terminal; without --tty it is "
			"passed on as it is\n",
			verb->name);
		return EXIT_VIV;
	}
	return 0;
}

/* The environment of the command: with a terminal, what kind ours is, unless the user says. */
static json_t *make_env(const struct exec_options *options)
{
	json_t *env = options->env != NULL ? json_copy(options->env) : json_object();
	const char *term = getenv("TERM");

	if (options->tty && json_object_get(env, "TERM") == NULL &&
	    json_object_set_new(env, "TERM",
				json_string(term != NULL && term[0] != '\0' ? term : "xterm")) <
		    0) {
		json_decref(env);
		return NULL;
	}
	return env;
}

static json_t *make_args(char *const *argv)
{
	json_t *args = json_array();

	for (char *const *arg = argv + 1; *arg != NULL; arg++) {
		if (json_array_append_new(args, json_string(*arg)) < 0) {
			json_decref(args);
			return NULL;
		}
	}
	return args;
}

/* NULL when something of it is not UTF-8. */
static json_t *start_request(const struct exec_spec *spec, struct terminal_size size)
{
	const struct exec_options *o = spec->options;
	auto_json *pty = NULL;

	if (o->tty)
		pty = json_pack("{s:{s:i, s:i}}", "size", "cols", size.cols, "rows", size.rows);
	/* Of what it writes nothing must get lost with a stream that nobody stays to read. */
	return json_pack("{s:{s:s, s:o, s:o, s:s*}, s:b, s:b, s:O*, s:s*}", "process", "cmd",
			 spec->argv[0], "args", make_args(spec->argv), "envs", make_env(o), "cwd",
			 o->workdir, "endOnly", o->detached, "stdin",
			 !o->detached || o->interactive, "pty", pty, "tag", o->tag);
}

/* Starts it, and leaves when it has. */
static int run_detached(const struct guest *g, const json_t *request, bool *out_left)
{
	auto_process_stream stream = PROCESS_STREAM_INIT;
	struct process_event event = { .kind = PROCESS_ENDED };
	struct op op;
	int r;

	op_init(&op, 0, g->cli->signal_fd);
	r = process_stream_open(&stream, g, "Start", request, &op);
	if (r == 0)
		r = process_stream_wait(&stream, &event, &op);
	if (r < 0)
		return cli_fail(g->cli, &op, EXIT_VIV);
	if (r > 0 && event.kind == PROCESS_STARTED) {
		printf("%lld\n", (long long)event.pid);
		*out_left = true;
		return EXIT_OK;
	}
	fprintf(stderr, "viv: %s\n",
		event.kind == PROCESS_FAILED ? event.message : "the agent started nothing");
	return event.kind == PROCESS_FAILED ? event.code : EXIT_VIV;
}

/* Tells a person who has left a process by the keys how to come back. */
static void say_left(const struct guest *g, json_int_t pid)
{
	fprintf(stderr, "\r\nviv: left process %lld; viv attach %s %lld comes back to it\n",
		(long long)pid, g->id, (long long)pid);
}

int exec_run(const struct exec_spec *spec, bool *out_left)
{
	struct terminal_size size = terminal_size();
	auto_json *request = start_request(spec, size);
	struct detach keys = { 0 };
	struct session_end end;
	bool left = false;

	if (spec->options->detached) {
		end.code = run_detached(spec->guest, request, &left);
	} else {
		ignore_err(read_keys(spec->options->detach_keys, &keys)); /* exec_check() did */
		end = session_run(&(struct session_spec){
			.guest = spec->guest,
			.method = "Start",
			.request = request,
			.size = size,
			.keys = &keys,
			.input = true,
			.signals = true,
			.own = true,
			.second_interrupt_ends = spec->second_interrupt_ends,
		});
		left = end.detached;
		if (left)
			say_left(spec->guest, end.pid);
	}
	if (out_left != NULL)
		*out_left = left;
	return end.code;
}

int exec_attach(const struct attach_spec *spec)
{
	auto_json *request = json_pack("{s:o}", "process", guest_selector(spec->process));
	struct detach keys = { 0 };
	struct session_end end;

	ignore_err(read_keys(spec->detach_keys, &keys)); /* exec_check() did */
	end = session_run(&(struct session_spec){
		.guest = spec->guest,
		.method = "Connect",
		.request = request,
		.keys = &keys,
		.input = spec->input,
		.signals = spec->signals,
	});
	if (end.detached)
		say_left(spec->guest, end.pid);
	return end.code;
}

int exec_wait(const struct guest *g, const char *process)
{
	auto_json *request =
		json_pack("{s:o, s:b}", "process", guest_selector(process), "endOnly", 1);

	return session_run(&(struct session_spec){
				   .guest = g,
				   .method = "Connect",
				   .request = request,
			   })
		.code;
}
