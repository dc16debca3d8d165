/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What exists on the host of an instance, as the host shows it, and what of it has no owner. The
 * doctor's alone.
 */
#pragma once

#include "base/vec.h"
#include "sandbox/doctor-internal.h"
#include "sandbox/sandbox.h"

/* In the order in which they can be removed: processes first, then what they used. */
enum thing_kind {
	THING_CGROUP,
	THING_PROCESS, /* in the instance's cgroup itself */
	THING_LINK,
	THING_NETNS,
	THING_MOUNT,
	THING_LOOP,
	THING_RUN_DIRECTORY,
	THING_TABLE,       /* nftables: one for all sandboxes */
	THING_CGROUP_ROOT, /* the instance's cgroup: as above */
	THING_DATA,        /* a sandbox's directory */
	THING_N
};

struct net;

struct thing {
	enum thing_kind kind;
	char *name;           /* as the host has it; owned */
	struct sandbox_id id; /* that its name says; "" = none */
	char *detail;         /* for people; owned; NULL = none */
	bool of_network;      /* a slot's link or namespace that the network counts as its own */
	bool gone;            /* was removed */
	char *error;          /* why it was not; owned; NULL = none */
};
VEC_DEFINE(things, struct thing)

/* An intent, as it was at one time. */
struct intent {
	struct sandbox_id id;
	char name[NAME_MAX_LEN + 1];
	enum db_state state;
	bool busy;   /* an operation is under way */
	bool leaked; /* a release failed; it will be tried again */
	bool unsure; /* its adoption could not be decided */
	bool kept;   /* it waits in the pool of a daemon that serves */
};
VEC_DEFINE(intents, struct intent)

/* An instance to look at; all is borrowed. Descriptors are -1 when there is no such directory. */
struct instance_view {
	struct instance_tag tag;
	const char *state_dir;
	const char *run_dir;
	struct net *net;
	int cgroup_fd;
	int run_fd;
	int sandboxes_fd;
	bool served; /* by a daemon: what its sandboxes share is in use */
};

/** thing_kind_name() - "cgroup", "link", …; static storage */
const char *thing_kind_name(enum thing_kind kind);

/** things_free() - free a list with what it owns; idempotent */
void things_free(struct things *list);

/**
 * leaks_look() - list what exists on the host of an instance, owned or not
 * @before:	intents from before the look
 *
 * Thread: worker. Return: 0; -errno with op->err set: the list is not complete.
 */
must_check int leaks_look(const struct instance_view *view, const struct intents *before,
			  struct things *out, struct op *op);

/** things_drop() - take a thing out of a list, by its place */
void things_drop(struct things *list, size_t at);

/** leaks_keep() - take out of a list what belongs to an intent of these or is in use by all */
void leaks_keep(const struct instance_view *view, const struct intents *intents,
		struct things *list);

/**
 * leaks_fix() - remove what is in a list, which leaks_keep() has left
 * @delete_data:	also what a user might miss
 *
 * Thread: worker. Says in a thing why it could not be removed.
 */
void leaks_fix(const struct instance_view *view, bool delete_data, struct things *list);

/**
 * leaks_confirm() - look again at what is in a list
 * @intents:	as for leaks_keep()
 * @fixed:	whether what is gone was to be removed, and stays in the list with that; else
 *		it was somebody's after all, and is taken out
 *
 * Thread: worker. Return: 0; -errno with op->err set.
 */
must_check int leaks_confirm(const struct instance_view *view, const struct intents *intents,
			     bool fixed, struct things *list, struct op *op);

/** leaks_report() - put a list into a report */
void leaks_report(const struct things *leaks, struct doctor_report *report);

/**
 * intents_report() - put intents whose things are gone into a report
 * @before, @after:	from both sides of the look; only what stayed as it was is judged
 * @all:	what leaks_look() listed
 */
void intents_report(const struct intents *before, const struct intents *after,
		    const struct things *all, struct doctor_report *report);

/** intents_find() - by id; NULL = none */
const struct intent *intents_find(const struct intents *intents, const struct sandbox_id *id);
