/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of flattening. */
#pragma once

#include "sandbox/flatten.h"
#include "sandbox/sandbox-internal.h"
#include "template/stage.h"

/* A template that is being made of a sandbox's disk (steps-flatten.c). */
struct flat_draft {
	struct template template;      /* its name, user and workdir are set before */
	char *env_json;                /* of its sandboxes; owned */
	char source[NAME_MAX_LEN + 1]; /* template whose start command it gets */
	int disk_dirfd;                /* whose disk it is; borrowed */
	int templates_fd;              /* owned; -1, as the next two */
	int lock_fd;
	int image_fd;
	struct stage stage;
};

/** flat_draft_done() - close and free; the stage goes with what is in it; idempotent */
void flat_draft_done(struct flat_draft *d);

/* Makes a template of the disk that res.flat names. */
extern const struct plan flatten_plan;
