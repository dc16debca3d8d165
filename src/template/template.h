/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Image templates: a read-only root disk and what is known of it. They lie in
 * <state>/templates/<name>/ as `root.img` (raw ext4, sparse, read-only) and `manifest.json`, are
 * made under a temporary name and renamed when complete; nothing changes them afterwards. <name> is
 * a link to <name>@<digest>/: a rebuilt template is a new directory, and layers keep the base they
 * lie over.
 */
#pragma once

#include "base/id.h"
#include "base/json.h"
#include "base/op.h"
#include "base/vec.h"

struct template
{
	char name[NAME_MAX_LEN + 1];
	char root_path[512]; /* absolute path of root.img */
	uint64_t root_bytes; /* its size: the smallest disk of a sandbox */
	char sha256[65];     /* of root.img, hex */
	char user[64];       /* default user of commands ("user") */
	char workdir[256];   /* default directory; "" = the user's home */
	uint64_t created_ms; /* CLOCK_REALTIME */
};

/**
 * template_open() - read a template's manifest
 * @state_dir:	the daemon's state directory
 *
 * Thread: any (reads one small file). Return: 0; -errno with @e set (ERR_NOT_FOUND names the
 * template and how to make it; a corrupt manifest is ERR_SYSTEM and named).
 */
must_check int template_open(const char *state_dir, const char *name, struct template *out,
			     struct err *e);

/** template_exists() - whether a complete template of that name is there */
bool template_exists(const char *state_dir, const char *name);

/** template_user_valid() - whether a template's commands can run as a user of that name */
bool template_user_valid(const char *name);

/**
 * template_env() - the environment that a template gives its sandboxes
 * @t:		of template_open(); the very build that it found is asked
 * @out:	new object of strings, {} = none; the caller's
 *
 * Thread: any (reads one small file). Return: 0; -errno with @e set.
 */
must_check int template_env(const struct template *t, json_t **out, struct err *e);

/**
 * template_write_manifest() - write manifest.json durably
 * @image:	what the image says that the template was made from, borrowed; NULL = there is none.
 *		"env" is an object of strings; "entrypoint", "cmd" and "source" are for people
 *
 * Return: 0; -errno with @e set (ERR_INVALID: @image says too much).
 */
must_check int template_write_manifest(int dirfd, const struct template *t, const json_t *image,
				       struct err *e);

VEC_DEFINE(templates, struct template)

/** template_list() - all templates that are whole, by name. Return: 0; -errno with @e set */
must_check int template_list(const char *state_dir, struct templates *out, struct err *e);

/**
 * template_remove() - remove a template with its images: its name at once, and then its files
 *
 * Disks over it hold links to what they need. Thread: worker. Return: 0; -errno with @e set
 * (ERR_NOT_FOUND; ERR_CONFLICT: it is being built).
 */
must_check int template_remove(const char *state_dir, const char *name, struct err *e);
