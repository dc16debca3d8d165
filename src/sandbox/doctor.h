/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The doctor: what this host has and lacks, what is used because of it, and what is left on it that
 * no intent owns.
 *
 * Theory of operation. Leaks are found by looking at the host (links, namespaces, cgroups, mounts,
 * loops, directories), each thing known by a name with the instance's tag or by a path below its
 * directories; only then the list is held against the intents. With a daemon the look is a worker's
 * and the intents are the loop's, which goes on meanwhile. So they are read twice, before and after
 * the look: what belongs to a sandbox of either time is no leak. What is left after that never gets
 * an owner any more, since an id is made with its row and never again, and may be removed.
 *
 * What could hang a system call (a device, a file system) is tried in a process of its own, which
 * is ended when it does not answer.
 */
#pragma once

#include "base/vec.h"
#include "sandbox/sandbox.h"

enum doctor_verdict {
	DOCTOR_OK,
	DOCTOR_DEGRADED, /* sandboxes work, with less speed or comfort */
	DOCTOR_MISSING,  /* sandboxes need it */
	DOCTOR_LEAK,     /* of ours, and nobody owns it */
	DOCTOR_FIXED,    /* was one, and is gone */
	DOCTOR_VERDICT_N
};

/* Strings are owned, but for @area; NULL = none. */
struct doctor_item {
	const char *area; /* "disk"; of leaks their kind: "link"; static storage */
	enum doctor_verdict verdict;
	char *name;   /* what was looked at, for programs; of leaks the thing's own name */
	char *what;   /* what was found */
	char *why;    /* what that means, which driver is used because of it */
	char *advice; /* package or setting that would help */
};

VEC_DEFINE(doctor_items, struct doctor_item)

struct doctor_report {
	struct doctor_items items;
};

/** doctor_report_done() - free the items; idempotent */
void doctor_report_done(struct doctor_report *report);

/** doctor_verdict_name() - "ok", "degraded", "missing", "leak", "fixed"; static storage */
const char *doctor_verdict_name(enum doctor_verdict verdict);

/** doctor_report_verdict() - of all: the first of missing, leak, degraded that there is, else ok */
enum doctor_verdict doctor_report_verdict(const struct doctor_report *report);

/** doctor_report_code() - the exit code for a verdict: 0 sandboxes work, 1 something that they need
 * is missing, 3 leaks are left */
int doctor_report_code(const struct doctor_report *report);

struct doctor_request {
	bool fix;         /* remove what is volatile */
	bool delete_data; /* with @fix: and the directories of sandboxes that no row owns */
};

/**
 * doctor_start() - look at the host and the instance of a daemon
 * @done:	called once, later, on the loop; the report is borrowed
 *
 * Thread: loop; the work is a worker's. A shutdown waits for it.
 * Return: 0; -errno with @e set: refused.
 */
must_check int doctor_start(struct manager *m, const struct doctor_request *request,
			    void (*done)(const struct doctor_report *report, void *arg), void *arg,
			    struct err *e);

/**
 * doctor_run() - look at the host and at an instance without a daemon
 * @out:	to be freed with doctor_report_done(), also after a failure
 *
 * Nothing is made that was not there. While another vivd has the instance, only the host is looked
 * at, and @request may not ask for a fix.
 * Thread: main. Return: 0; -errno with @e set.
 */
must_check int doctor_run(const struct manager_config *config, const struct doctor_request *request,
			  struct doctor_report *out, struct err *e);

/* The first argument of a vivd that is started to try one thing (doctor-probe.c). */
#define DOCTOR_PROBE_FLAG "--probe"

/** doctor_probe_main() - try one thing and print the outcome; what main() returns
 * @argv:	name of the probe and its argument, behind the flag */
int doctor_probe_main(int argc, char **argv);
