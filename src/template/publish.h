/* SPDX-License-Identifier: Apache-2.0 */
/* The end of every making of a template, however it was made. */
#pragma once

#include "template/template.h"

/**
 * template_check_name() - whether a template may be made under a name: snapshots and templates have
 * one namespace, since sandboxes are made of both by name
 * @dirfd:	of templates/
 *
 * Return: 0; -errno with @e set (ERR_INVALID: it is no name; ERR_CONFLICT: a snapshot has it).
 */
must_check int template_check_name(int dirfd, const char *name, struct err *e);

/**
 * template_seal() - make an image read-only and durable
 * @out_bytes:	its size
 * @out_sha256:	its digest, hex
 *
 * Return: 0; -errno with op->err set.
 */
must_check int template_seal(const char *path, uint64_t *out_bytes, char out_sha256[65],
			     struct op *op);

/**
 * template_publish() - make a template of what was made, in place of one that has its name
 * @dirfd:	of templates/
 * @stage:	name of a directory in there, whose out/ has the image and its manifest, durable
 *
 * The caller holds the lock of the name. Return: 0; -errno with op->err set (ERR_CONFLICT: a
 * snapshot of this name was made meanwhile).
 */
must_check int template_publish(int dirfd, const char *stage, const struct template *t,
				struct op *op);
