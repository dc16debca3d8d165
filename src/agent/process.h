/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The processes that clients started. One lives from process_start() until its leader was reaped,
 * its end was kept for late clients, nobody listens, and no grandchild holds its output open.
 */
#pragma once

#include "agent/connect.h"
#include "agent/output.h"
#include "agent/pty.h"
#include "agent/user.h"

#include <sys/types.h>

enum {
	PROCESSES_MAX = 1024, /* that run */
	ENDED_MAX = 1024,     /* whose end is kept; more and the oldest are forgotten early */
};

struct agent;
struct process;

/* Everything is borrowed. */
struct process_spec {
	const char *const *argv; /* ended by NULL */
	const char *const *envp; /* ended by NULL */
	const char *path;        /* PATH among them */
	const char *cwd;         /* absolute */
	const struct user *user;
	const char *tag;            /* NULL = none */
	json_t *config;             /* as List gives it */
	const struct pty_size *pty; /* NULL = pipes */
	bool with_stdin;            /* else /dev/null; a terminal is always an input */
	uint64_t timeout_ms;        /* after which the group is killed; 0 = never */
};

/** process_start() - start a process in its own session. Return: the process; NULL with @e set */
struct process *process_start(struct agent *a, const struct process_spec *spec,
			      struct connect_error *e);

/**
 * process_find() - look a process up
 * @pid:	0 = by @tag
 * @ended_too:	also one that has ended, as long as its end is kept
 *
 * Return: the newest that fits; NULL.
 */
struct process *process_find(struct agent *a, int64_t pid, const char *tag, bool ended_too);

/** process_init() - before the first process: how much memory their output may take */
void process_init(struct agent *a);

/** process_listen() - stream events to a call; @spec as of output_listen(), without a pid */
void process_listen(struct process *p, struct connect_call *c, struct output_listen spec);

/* Who gets all that a process writes and its end, in one piece of memory or another of its own. */
struct process_tap {
	void (*on_data)(enum output_stream s, const void *p, size_t n, void *arg);
	void (*on_end)(int wait_status, void *arg); /* the last call: all was written and read */
	void *arg;
};

/** process_tap() - tell @tap, which is copied, of a process that was just started; NULL = nobody.
 * After on_end the process is no longer the tap's to use */
void process_tap(struct process *p, const struct process_tap *tap);

/** process_input() - the stdin or terminal of a running process */
struct input *process_input(struct process *p);

/** process_resize() - set the size of its terminal. Return: 0; -ENOTTY it has none; -errno */
must_check int process_resize(struct process *p, struct pty_size size);

/**
 * process_kill() - send a signal to a running process
 * @group:	to its process group too; with a terminal, to the foreground group, and to the
 *		process's own unless the signal is one that keys send
 *
 * Return: 0; -errno.
 */
must_check int process_kill(const struct process *p, int signal, bool group);

/** process_list() - the running ones as {"processes": […]}; a new reference */
json_t *process_list(const struct agent *a);

/** process_reaped() - a child was reaped; nothing happens if it is none of these */
void process_reaped(struct agent *a, pid_t pid, int wait_status);

/** process_free_all() - kill the groups of all that run, and free everything */
void process_free_all(struct agent *a);
