/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What runs in each sandbox of a template from its beginning: a command, and how to tell that it is
 * ready. It lies beside the template's disk as `start.json`, and may be changed; a template that is
 * built anew has none.
 */
#pragma once

#include "template/template.h"

enum { TEMPLATE_START_MAX = 4096, TEMPLATE_START_ID_SIZE = 17 };

struct template_start {
	char command[TEMPLATE_START_MAX + 1]; /* a line for the shell; "" = nothing is started */
	char ready[TEMPLATE_START_MAX + 1];   /* a port, a URL on the guest's loopback, or a line
					       * for the shell; "" = when it runs */
	char id[TEMPLATE_START_ID_SIZE]; /* tells one from any other; "" = nothing is started */
};

/** template_start_read() - what is started; nothing if nobody said. Thread: any (reads one small
 * file). Return: 0; -errno with @e set */
must_check int template_start_read(const struct template *t, struct template_start *out,
				   struct err *e);

/**
 * template_start_write() - say what is started from now on, durably
 * @command:	"" = nothing
 *
 * Return: 0; -errno with @e set (ERR_INVALID: too long, or a condition without a command).
 */
must_check int template_start_write(const struct template *t, const char *command,
				    const char *ready, struct err *e);
