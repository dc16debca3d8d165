/* SPDX-License-Identifier: Apache-2.0 */
/* What the two halves of exec share. */
#pragma once

#include "cli/exec.h"

#include <pthread.h>

/* Sends stdin to a process, on a thread and a connection of its own, as fast as the process takes
 * it. */
struct stdin_pump {
	const struct cli *cli;
	const struct exec_spec *spec;
	json_int_t pid;
	int cancel_fd; /* eventfd; owned */
	bool running;
	pthread_t thread;
};

enum { EXEC_FIELDS_MAX = 8, EXEC_AUTH_SIZE = 512 };

/* The headers of a request to the sandbox's agent. */
struct exec_fields {
	struct http_field at[EXEC_FIELDS_MAX];
	char auth[EXEC_AUTH_SIZE];
};

/** exec_fields_init() - headers that name the sandbox, the token and the user */
must_check int exec_fields_init(struct exec_fields *f, const struct exec_spec *spec,
				const char *content_type, struct err *e);

/** exec_unary() - one unary call of process.Process on a connected client.
 * Return: 0; -errno with op->err set (ERR_AGENT: the agent refused) */
must_check int exec_unary(struct http_client *c, const struct exec_spec *spec, const char *method,
			  const json_t *request, struct op *op);

/** stdin_pump_start() - begin to send stdin. Return: 0; -errno with @e set */
must_check int stdin_pump_start(struct stdin_pump *p, const struct cli *cli,
				const struct exec_spec *spec, json_int_t pid, struct err *e);

/** stdin_pump_stop() - end it, wherever it is, and wait for the thread; idempotent */
void stdin_pump_stop(struct stdin_pump *p);
