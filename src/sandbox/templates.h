/* SPDX-License-Identifier: Apache-2.0 */
/* Templates as the daemon's clients see them. Loop thread. */
#pragma once

#include "sandbox/sandbox.h"
#include "template/template.h"

/** manager_templates() - all templates, by name. Return: 0; -errno with @e set */
must_check int manager_templates(const struct manager *m, struct templates *out, struct err *e);

/** manager_template() - one by name. Return: 0; -errno with @e set (ERR_NOT_FOUND) */
must_check int manager_template(const struct manager *m, const char *name, struct template *out,
				struct err *e);

/* What a sandbox of it has that does not say. */
struct template_sizes {
	unsigned cpus;
	uint64_t memory_mib;
	uint64_t disk_mib;
};

/** template_sizes() - the default sizes of a template's sandboxes */
struct template_sizes template_sizes(const struct manager *m, const struct template *t);

/**
 * template_remove_start() - remove a template with its images
 * @done:	called once, later, on the loop, with NULL or the error; not when this function
 *		itself fails
 *
 * Return: 0 it is under way; -errno with @e set (ERR_NOT_FOUND; ERR_INVALID: a sandbox is of it, or
 * it is another's).
 */
must_check int template_remove_start(struct manager *m, const char *name,
				     void (*done)(const struct err *e, void *arg), void *arg,
				     struct err *e);
