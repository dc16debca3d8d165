/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A process is running until its leader is reaped; from then on its pid is
 * nobody's and signals are refused. It is over when what it had written was read, and its end is
 * told then. It stays for 30 s so that a client that lost its connection gets the end by Connect
 * (expired = false), and after that only as long as a listener or a grandchild's pipe is left. The
 * one timer is the process's deadline while it runs and the 30 s when it is over.
 *
 * A client that goes away does not end a process; its Connect-Timeout-Ms does, connected or not.
 *
 * With a terminal there are three descriptors of its master: the one of the process, for its size
 * and foreground group, and copies for input and output, since a loop watches a descriptor once.
 * The first two are closed when the leader has ended. The last lives until everyone who has the
 * terminal is gone, as pipes do: closing it would hang them up.
 */
#include "agent/process.h"

#include "agent/agent.h"
#include "agent/handle.h"
#include "agent/input.h"
#include "agent/output.h"
#include "agent/pty.h"
#include "agent/signals.h"
#include "agent/spawn.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LINGER_MS = 30000 };

/* What all rings have together: an eighth of the memory, within these. */
static const uint64_t OUTPUT_MIN_BYTES = 8 << 20;
static const uint64_t OUTPUT_MAX_BYTES = 128 << 20;

struct process {
	struct process *next;
	struct agent *agent;
	pid_t pid;      /* also of its session and group */
	char *tag;      /* NULL = none */
	char *user;     /* who it was started as */
	json_t *config; /* of a running one */
	int pty;        /* owned; -1 = none */
	struct input input;
	struct output output;
	struct process_tap tap; /* zeroed = none */
	int wait_status;        /* once it is not running */
	uv_timer_t *timer;
	bool running;
	bool lingering; /* the timer for the late clients was started */
	bool expired;   /* too late for them */
};

/* Gives back the memory of those that are gone, which is in pieces between what is left: when the
 * last one that has ended goes, or after a while if there is always another. */
static void trim(const struct agent *a)
{
	static uint64_t trimmed_ns;
	uint64_t now = clock_now_ns();
	bool last = true;

	for (const struct process *p = a->processes; p != NULL; p = p->next)
		last = last && p->running;
	if (!last && now - trimmed_ns < NS_PER_S)
		return;
	trimmed_ns = now;
	malloc_trim(0);
}

static void process_free(struct process *p)
{
	struct agent *a = p->agent;
	struct process **at = &a->processes;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	fd_close(&p->pty);
	input_done(&p->input, "the process has ended");
	output_done(&p->output);
	handle_timer_free(&p->timer);
	json_decref(p->config);
	free(p->tag);
	free(p->user);
	free(p);
	trim(a);
}

static void process_expire(struct process *p)
{
	p->expired = true;
	ignore_err(uv_timer_stop(p->timer)); /* cannot fail */
	output_forget(&p->output);
	if (output_is_idle(&p->output))
		process_free(p);
}

static void on_linger_end(uv_timer_t *timer)
{
	process_expire(timer->data);
}

static void start_timer(struct process *p, uv_timer_cb fn, uint64_t ms)
{
	uv_update_time(&p->agent->loop);
	ignore_err(uv_timer_start(p->timer, fn, ms, 0)); /* the handle is not closing */
}

static void tell_tap(struct process *p)
{
	struct process_tap tap = p->tap;

	process_tap(p, NULL);
	if (tap.on_end != NULL)
		tap.on_end(p->wait_status, tap.arg);
}

static void on_output_change(void *arg)
{
	struct process *p = arg;

	if (p->expired && output_is_idle(&p->output)) {
		process_free(p);
		return;
	}
	if (!p->lingering && output_is_over(&p->output)) {
		p->lingering = true;
		start_timer(p, on_linger_end, LINGER_MS);
		tell_tap(p);
	}
}

static void on_deadline(uv_timer_t *timer)
{
	struct process *p = timer->data;

	ignore_err(process_kill(p, SIGKILL, true)); /* it is running, or the timer were not */
	output_fail_starter(&p->output, CONNECT_DEADLINE_EXCEEDED,
			    "the process ran longer than Connect-Timeout-Ms and was killed");
}

/* The ends of the child's stdin, stdout, stderr. With a terminal, slave is all of the child's ends,
 * and ours are two: to write and to read. */
struct stdio {
	int child[3];
	int ours[3];
	int slave;
};

#define STDIO_INIT                                                                                 \
	{                                                                                          \
		.child = { -1, -1, -1 }, .ours = { -1, -1, -1 }, .slave = -1                       \
	}

static void stdio_close(struct stdio *s)
{
	for (size_t i = 0; i < ARRAY_SIZE(s->child); i++) {
		fd_close(&s->child[i]);
		fd_close(&s->ours[i]);
	}
	fd_close(&s->slave);
}

#define auto_stdio cleanup(stdio_close) struct stdio

static int stdio_open_pty(struct stdio *s, const struct process_spec *spec, int *out_master)
{
	int r = pty_open(spec->user, *spec->pty, out_master, &s->slave);

	for (size_t i = 0; r == 0 && i < 2; i++) {
		s->ours[i] = fcntl(*out_master, F_DUPFD_CLOEXEC, 0);
		r = s->ours[i] < 0 ? -errno : 0;
	}
	return r;
}

static int stdio_open_pipes(struct stdio *s, bool with_stdin)
{
	for (size_t i = with_stdin ? 0 : 1; i < ARRAY_SIZE(s->child); i++) {
		int fds[2];

		if (pipe2(fds, O_CLOEXEC) < 0)
			return -errno;
		s->child[i] = fds[i == 0 ? 0 : 1];
		s->ours[i] = fds[i == 0 ? 1 : 0];
	}
	if (!with_stdin)
		s->child[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return s->child[0] < 0 ? -errno : 0;
}

static void explain_exec(int code, const char *name, struct connect_error *e)
{
	if (code == ENOENT || code == ENOTDIR)
		ignore_err(connect_error_set(e, CONNECT_NOT_FOUND, "command not found: %s", name));
	else if (code == E2BIG)
		ignore_err(connect_error_set(e, CONNECT_INVALID_ARGUMENT,
					     "arguments and environment are too long for %s",
					     name));
	else if (code == ENOMEM || code == EAGAIN)
		ignore_err(connect_error_set(e, CONNECT_RESOURCE_EXHAUSTED, "cannot start %s: %s",
					     name, strerror(code)));
	else
		ignore_err(connect_error_set(e, CONNECT_PERMISSION_DENIED,
					     "not executable: %s (%s)", name, strerror(code)));
}

static void explain(enum spawn_stage stage, int code, const struct process_spec *spec,
		    struct connect_error *e)
{
	const char *name = spec->argv[0];

	switch (stage) {
	case SPAWN_EXEC:
		explain_exec(code, name, e);
		break;
	case SPAWN_CWD:
		ignore_err(connect_error_set(e, CONNECT_INVALID_ARGUMENT, "cwd '%s' %s%s",
					     spec->cwd,
					     code == ENOENT ? "does not exist" : "cannot be used: ",
					     code == ENOENT ? "" : strerror(code)));
		break;
	case SPAWN_USER:
		ignore_err(connect_error_set(e, CONNECT_PERMISSION_DENIED,
					     "cannot become user '%s': %s", spec->user->name,
					     strerror(code)));
		break;
	case SPAWN_FORK:
	case SPAWN_CGROUP:
	case SPAWN_SESSION:
	case SPAWN_STDIO:
		ignore_err(connect_error_set(e, CONNECT_RESOURCE_EXHAUSTED, "cannot start %s: %s",
					     name, strerror(code)));
		break;
	}
}

/* The memory for output is used up: what is only kept to be replayed goes first. */
static void reclaim(void *arg)
{
	const struct process *p = arg;

	for (struct process *other = p->agent->processes; other != NULL; other = other->next)
		output_reclaim(&other->output);
}

/* Makes the process's pipes part of the loop; before the spawn, so that nothing can fail after it.
 */
static int attach(struct process *p, struct stdio *stdio)
{
	const struct output_source source = {
		.fds = &stdio->ours[1],
		.pty = stdio->slave >= 0,
		.budget = &p->agent->output,
		.on_change = on_output_change,
		.reclaim = reclaim,
		.arg = p,
	};
	int r = input_init(&p->input, &p->agent->loop, &stdio->ours[0], source.pty);

	return r < 0 ? r : output_init(&p->output, &p->agent->loop, &source);
}

static pid_t start(struct process *p, const struct process_spec *spec, struct connect_error *e)
{
	auto_stdio stdio = STDIO_INIT;
	enum spawn_stage stage = SPAWN_STDIO;
	struct spawn_spec child = { .argv = spec->argv,
				    .envp = spec->envp,
				    .path = spec->path,
				    .cwd = spec->cwd,
				    .user = spec->user,
				    .procs_fd =
					    p->agent->rehearsing ? -1 : p->agent->freezer.procs_fd,
				    .tty = spec->pty != NULL };
	pid_t pid = child.tty ? stdio_open_pty(&stdio, spec, &p->pty)
			      : stdio_open_pipes(&stdio, spec->with_stdin);

	if (pid == 0)
		pid = attach(p, &stdio);
	for (size_t i = 0; i < ARRAY_SIZE(child.stdio); i++)
		child.stdio[i] = child.tty ? stdio.slave : stdio.child[i];
	if (pid == 0)
		pid = spawn(&child, &stage);
	if (pid < 0)
		explain(stage, -pid, spec, e);
	return pid;
}

/* Whether another one may start; makes room among those that have ended. */
static int check_room(struct agent *a, struct connect_error *e)
{
	struct process *oldest = NULL;
	size_t running = 0;
	size_t ended = 0;

	for (struct process *p = a->processes; p != NULL; p = p->next) {
		if (p->lingering && !p->expired) {
			oldest = p;
			ended++;
		}
		running += p->running;
	}
	if (a->frozen && !a->rehearsing)
		return connect_error_set(e, CONNECT_UNAVAILABLE,
					 "the sandbox is being saved: try again");
	if (running >= PROCESSES_MAX)
		return connect_error_set(e, CONNECT_RESOURCE_EXHAUSTED,
					 "%d processes run already: end some of them",
					 PROCESSES_MAX);
	if (ended >= ENDED_MAX)
		process_expire(oldest);
	return 0;
}

static int check_tag(struct agent *a, const char *tag, struct connect_error *e)
{
	const struct process *p = tag != NULL ? process_find(a, 0, tag, false) : NULL;

	if (p == NULL)
		return 0;
	return connect_error_set(e, CONNECT_ALREADY_EXISTS,
				 "process %d runs with the tag '%.128s' already", p->pid, tag);
}

void process_init(struct agent *a)
{
	struct sysinfo info;
	uint64_t bytes = OUTPUT_MIN_BYTES;

	if (sysinfo(&info) == 0)
		bytes = (uint64_t)info.totalram * info.mem_unit / 8;
	bytes = MIN(MAX(bytes, OUTPUT_MIN_BYTES), OUTPUT_MAX_BYTES);
	a->output = (struct ring_budget){ .max_bytes = (size_t)bytes };
}

struct process *process_start(struct agent *a, const struct process_spec *spec,
			      struct connect_error *e)
{
	struct process *p;
	pid_t pid;

	if (check_tag(a, spec->tag, e) < 0 || check_room(a, e) < 0)
		return NULL;
	p = xcalloc(1, sizeof(*p));
	p->agent = a;
	p->pty = -1;
	p->next = a->processes;
	a->processes = p;
	p->tag = spec->tag != NULL ? strdup(spec->tag) : NULL;
	p->user = strdup(spec->user->name);
	if (p->user == NULL || (spec->tag != NULL && p->tag == NULL))
		pid = connect_error_set(e, CONNECT_RESOURCE_EXHAUSTED, "out of memory");
	else
		pid = start(p, spec, e);
	if (pid < 0) {
		process_free(p);
		return NULL;
	}
	p->pid = pid;
	p->running = true;
	p->config = json_incref(spec->config);
	p->timer = handle_timer_new(&a->loop, p);
	if (spec->timeout_ms != 0)
		start_timer(p, on_deadline, spec->timeout_ms);
	return p;
}

struct process *process_find(struct agent *a, int64_t pid, const char *tag, bool ended_too)
{
	for (struct process *p = a->processes; p != NULL; p = p->next) {
		if (!p->running && (!ended_too || p->expired))
			continue;
		if (pid != 0 ? p->pid == pid : p->tag != NULL && tag != NULL && streq(p->tag, tag))
			return p;
	}
	return NULL;
}

void process_listen(struct process *p, struct connect_call *c, struct output_listen spec)
{
	spec.pid = p->pid;
	output_listen(&p->output, c, &spec);
}

void process_tap(struct process *p, const struct process_tap *tap)
{
	p->tap = tap != NULL ? *tap : (struct process_tap){ 0 };
	output_tap(&p->output, p->tap.on_data, p->tap.arg);
}

struct input *process_input(struct process *p)
{
	return &p->input;
}

int process_resize(struct process *p, struct pty_size size)
{
	return p->pty < 0 ? -ENOTTY : pty_resize(p->pty, size);
}

/* What a terminal sends to its foreground group and to nobody else. */
static bool is_of_keys(int signal)
{
	return signal == SIGINT || signal == SIGQUIT || signal == SIGTSTP || signal == SIGWINCH;
}

int process_kill(const struct process *p, int signal, bool group)
{
	pid_t front = group && p->pty >= 0 ? pty_foreground(p->pty) : 0;
	int r = front > 0 ? kill(-front, signal) : 0;

	/* The front may have ended just now; what the process itself gets decides. */
	if (front <= 0 || (front != p->pid && !is_of_keys(signal)))
		r = kill(group ? -p->pid : p->pid, signal);
	return r < 0 ? -errno : 0;
}

json_t *process_list(const struct agent *a)
{
	json_t *list = json_array();

	for (const struct process *p = a->processes; p != NULL; p = p->next) {
		json_t *entry;

		if (!p->running)
			continue;
		entry = json_pack("{s:O, s:I, s:s*, s:s, s:b}", "config", p->config, "pid",
				  (json_int_t)p->pid, "tag", p->tag, "user", p->user, "pty",
				  p->pty >= 0);
		ignore_err(json_array_append_new(list, entry)); /* without memory: left out */
	}
	return json_pack("{s:o}", "processes", list);
}

/* The text of the end event. "signal" is ours: 128 + signal is what a shell makes of it. */
static char *end_event(int wait_status)
{
	char status[SIGNAL_TEXT_SIZE];
	auto_free char *error = NULL;
	char *text;
	bool exited = WIFEXITED(wait_status);
	int code = exited ? WEXITSTATUS(wait_status) : -1;

	if (exited) {
		snprintf(status, sizeof(status), "exit status %d", code);
		if (code != 0)
			error = str_printf(",\"error\":\"%s\"", status);
	} else {
		signal_text(WTERMSIG(wait_status), WCOREDUMP(wait_status), status);
		error = str_printf(",\"error\":\"%s\",\"signal\":%d", status,
				   WTERMSIG(wait_status));
	}
	text = str_printf(
		"{\"event\":{\"end\":{\"exitCode\":%d,\"exited\":%s,\"status\":\"%s\"%s}}}", code,
		exited ? "true" : "false", status, error != NULL ? error : "");
	return text;
}

void process_reaped(struct agent *a, pid_t pid, int wait_status)
{
	struct process *p = process_find(a, pid, NULL, false);

	if (p == NULL)
		return;
	p->running = false;
	p->wait_status = wait_status;
	ignore_err(uv_timer_stop(p->timer)); /* cannot fail */
	json_decref(p->config);
	p->config = NULL;
	fd_close(&p->pty);
	input_done(&p->input, "the process has ended");
	output_finish(&p->output, end_event(wait_status));
}

void process_free_all(struct agent *a)
{
	while (a->processes != NULL) {
		struct process *p = a->processes;

		if (p->running)
			ignore_err(process_kill(p, SIGKILL, true)); /* gone is as good */
		process_free(p);
	}
}
