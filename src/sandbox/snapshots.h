/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots: checkpoints of sandboxes under names of their own, from which new sandboxes are made
 * at any time, whatever became of their source (doc/theory/checkpoints.md). As in sandbox.h: loop
 * thread; what takes time is called back for.
 */
#pragma once

#include "base/vec.h"
#include "sandbox/checkpoint.h"
#include "sandbox/checkpoints.h"
#include "sandbox/sandbox.h"

#define SNAPSHOT_DEFAULT_TAG "default"

/* "<name>:<tag>", a snapshot's id for clients. */
enum { SNAPSHOT_ID_SIZE = 2 * NAME_MAX_LEN + 2 };

struct snapshot_name {
	char name[NAME_MAX_LEN + 1];
	char tag[NAME_MAX_LEN + 1]; /* "" = none was said */
};

/**
 * snapshot_name_parse() - read "NAME" or "NAME:TAG", in lower case from then on
 *
 * Thread: any. Return: 0; -errno with @e set (ERR_INVALID: it can name no snapshot).
 */
must_check int snapshot_name_parse(const char *text, struct snapshot_name *out, struct err *e);

/* What is known of one. Strings are owned. */
struct snapshot {
	struct snapshot_name id; /* its tag is there */
	bool named;              /* by a user; else its name is an id of ours */
	struct sandbox_id source;
	char *template_name; /* of the source */
	char *user;          /* of commands; "" = the agent's default, as the next */
	char *workdir;
	char *env_json;
	uint64_t created_ms; /* CLOCK_REALTIME */
	uint64_t bytes;      /* allocated: devices, memory and layers, shared ones too */
	struct checkpoint checkpoint;
	struct err fault; /* set: it cannot be used; of the rest only id is there */
};
VEC_DEFINE(snapshot_views, const struct snapshot *)

/** snapshot_id() - its id for clients */
void snapshot_id(const struct snapshot *s, char out[SNAPSHOT_ID_SIZE]);

/** snapshot_find() - by "NAME:TAG", or "NAME" for its default tag. Return: borrowed until the loop
 * runs again; NULL = there is none */
const struct snapshot *snapshot_find(const struct manager *m, const char *text);

/** snapshot_is_name() - whether there is one of a name, with whatever tag */
bool snapshot_is_name(const struct manager *m, const char *name);

/** snapshots_all() - all of them, the newest first; borrowed until the loop runs again; the caller
 * calls snapshot_views_done() */
struct snapshot_views snapshots_all(const struct manager *m);

/**
 * snapshot_made_fn - how the making of one ended
 * @s:		borrowed; NULL with @e set on failure
 * @t:		how long a running source stood still; NULL = it was paused
 */
typedef void (*snapshot_made_fn)(const struct snapshot *s, const struct taken *t,
				 const struct err *e, void *arg);

/**
 * sandbox_snapshot() - make a snapshot of a sandbox: a running one goes on, a paused one stays so
 * @name:	as for snapshot_name_parse(); NULL = it gets an id. One of that name and tag is
 *		replaced when the new one is whole
 * @done:	called once, later, on the loop; not when this function itself fails
 *
 * Return: 0 it is under way; -errno with @e set (ERR_INVALID: name; ERR_CONFLICT: a template has
 * the name, one is being made under it, or the sandbox is changing; ERR_NOT_FOUND: it is stopped).
 */
must_check int sandbox_snapshot(struct sandbox *sb, const char *name, snapshot_made_fn done,
				void *arg, struct err *e);

/**
 * snapshot_remove_start() - delete a snapshot; sandboxes that were made of it need nothing of it
 * @text:	"NAME:TAG", or "NAME" for all its tags
 * @done:	called once, later, on the loop, with NULL or the error; not when this function
 *		itself fails
 *
 * Return: 0 it is under way; -errno with @e set (ERR_NOT_FOUND; ERR_CONFLICT: it is being made).
 */
must_check int snapshot_remove_start(struct manager *m, const char *text,
				     void (*done)(const struct err *e, void *arg), void *arg,
				     struct err *e);
