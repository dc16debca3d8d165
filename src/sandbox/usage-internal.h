/* SPDX-License-Identifier: Apache-2.0 */
/* What df and prune share. */
#pragma once

#include "sandbox/sandbox-internal.h"
#include "sandbox/usage.h"

/* The template that a sandbox's layer lies over. */
struct layer_base {
	char version[NAME_MAX_LEN + 80]; /* "<template>@<digest>" */
};
VEC_DEFINE(layer_bases, struct layer_base)

/* What a worker sees; @usage of it is handed out. */
struct survey {
	struct usage usage;
	struct layer_bases bases;
	char unsure[256]; /* of the first layer that does not tell its base: which, and why; "" */
};

/** survey_init() - what is told by the manager. Thread: loop */
void survey_init(struct survey *s, const struct manager *m);

/** survey_run() - see it all. Thread: worker. Return: 0; -errno with op->err set */
must_check int survey_run(struct survey *s, const char *agent_path, struct op *op);

/** survey_judge() - say in each item of the cache which sandbox needs it. Thread: loop */
void survey_judge(struct survey *s, const struct manager *m);

/** survey_done() - free it; idempotent */
void survey_done(struct survey *s);
