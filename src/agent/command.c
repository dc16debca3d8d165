/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/command.h"

#include "agent/agent.h"
#include "agent/caller.h"
#include "agent/environ.h"
#include "base/str.h"

#include <stdlib.h>

void command_done(struct command *c)
{
	user_done(&c->user);
}

/* The strings stay the request's. NULL without memory. */
static const char **make_argv(const struct command *s)
{
	size_t n = json_array_size(s->args);
	const char **argv = calloc(n + 2, sizeof(*argv));

	if (argv == NULL)
		return NULL;
	argv[0] = s->cmd;
	for (size_t i = 0; i < n; i++)
		argv[i + 1] = json_string_value(json_array_get(s->args, i));
	return argv;
}

static json_t *make_config(const struct command *s)
{
	return json_pack("{s:s, s:o, s:o, s:s*}", "cmd", s->cmd, "args",
			 s->args != NULL ? json_incref(s->args) : json_array(), "envs",
			 s->envs != NULL ? json_incref(s->envs) : json_object(), "cwd", s->cwd);
}

struct process *command_start(struct agent *a, const struct command *s, uint64_t timeout_ms,
			      struct connect_error *e)
{
	auto_environment env = { 0 };
	auto_free const char **argv = make_argv(s);
	char cwd[PATH_MAX];
	json_t *config;
	struct process *p;

	if (argv == NULL) {
		ignore_err(connect_error_set(e, CONNECT_RESOURCE_EXHAUSTED, "out of memory"));
		return NULL;
	}
	if (caller_path(a, &s->user, s->cwd != NULL ? s->cwd : "", cwd, e) < 0 ||
	    environment_make(&s->user, a->identity.env, s->envs, &env, e) < 0)
		return NULL;
	config = make_config(s);
	p = process_start(a,
			  &(struct process_spec){
				  .argv = argv,
				  .envp = env.envp,
				  .path = json_string_value(json_object_get(env.vars, "PATH")),
				  .cwd = cwd,
				  .user = &s->user,
				  .tag = s->tag,
				  .config = config,
				  .pty = s->pty.cols != 0 ? &s->pty : NULL,
				  .with_stdin = s->with_stdin,
				  .timeout_ms = timeout_ms,
			  },
			  e);
	json_decref(config);
	return p;
}
