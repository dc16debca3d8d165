/* SPDX-License-Identifier: Apache-2.0 */
/* A command in a guest, asked of its agent as vivd's clients do. */
#pragma once

#include "base/op.h"

#include <netinet/in.h>

/* Whom to ask. All is borrowed. */
struct floor_guest {
	struct in_addr addr; /* as the host sees it */
	const char *token;
	int vmm_pidfd; /* its POLLIN ends the wait */
};

/**
 * floor_exec() - start a process and wait for the first byte of its output
 * @request:	JSON of Process/Start
 *
 * Return: 0; -errno with op->err set.
 */
must_check int floor_exec(const struct floor_guest *guest, const char *request, struct op *op);
