/* SPDX-License-Identifier: Apache-2.0 */
/* What all services of the agent share. Everything runs on the loop's thread. */
#pragma once

#include "agent/ring.h"
#include "base/macros.h"
#include "http/forward.h"

#include <jansson.h>
#include <uv.h>

struct http_server;
struct process;
struct watcher;

/* Who this sandbox is; set by POST /init, again after every restore. */
struct identity {
	char *access_token;    /* NULL = none is asked for */
	char *default_user;    /* never NULL */
	char *default_workdir; /* NULL = the user's home */
	json_t *env;           /* object of strings: the environment of all processes; never NULL */
};

/* The cgroup of what clients start, by its files (freeze.h); all -1 = they stay in ours. */
struct freezer {
	int procs_fd;
	int freeze_fd;
	int events_fd;
};

#define FREEZER_NONE ((struct freezer){ -1, -1, -1 })

struct agent {
	uv_loop_t loop;
	uv_signal_t on_child;
	uv_signal_t on_stop[3];
	struct http_server *server;
	struct identity identity;
	struct process *processes; /* newest first */
	struct watcher *watchers;  /* those that are asked for events, not streams */
	struct ring_budget output; /* for the output of all processes */
	struct forward_group loopback;
	struct freezer freezer;
	bool frozen;     /* nothing may be started, */
	bool rehearsing; /* but by the host, which gives this guest to nobody yet: see wake.h */
	bool is_init;   /* PID 1 of a guest: sets its clock, host name and entropy, reaps orphans */
	bool root_only; /* no user but root is served */
};
