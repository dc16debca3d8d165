/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The processes that clients started. One lives from process_start() until its leader was reaped,
 * its end was kept for late clients, nobody listens, and no grandchild holds its output open.
 */
#pragma once

#include "agent/connect.h"
#include "agent/user.h"

#include <sys/types.h>

struct agent;
struct process;

/* Everything is borrowed. */
struct process_spec {
	const char *const *argv; /* ended by NULL */
	const char *const *envp; /* ended by NULL */
	const char *path;        /* PATH among them */
	const char *cwd;         /* absolute */
	const struct user *user;
	const char *tag;     /* NULL = none */
	json_t *config;      /* as List gives it */
	bool with_stdin;     /* else /dev/null */
	uint64_t timeout_ms; /* after which the group is killed; 0 = never */
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

/** process_listen() - stream events to a call; @starter: the call that started it */
void process_listen(struct process *p, struct connect_call *c, bool starter);

/** process_input() - the stdin of a running process */
struct input *process_input(struct process *p);

/** process_kill() - send a signal to a running process or to its group. Return: 0; -errno */
must_check int process_kill(const struct process *p, int signal, bool group);

/** process_list() - the running ones as {"processes": […]}; a new reference */
json_t *process_list(const struct agent *a);

/** process_reaped() - a child was reaped; nothing happens if it is none of these */
void process_reaped(struct agent *a, pid_t pid, int wait_status);

/** process_free_all() - kill the groups of all that run, and free everything */
void process_free_all(struct agent *a);
