/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Warm templates: a template may have images of a VM that was booted from it (doc/theory/warm.md).
 * A create for which there is one restores it instead of booting; after a create that booted, an
 * image for the next one is made in the background. All functions are called on the loop thread.
 */
#pragma once

#include "base/vec.h"
#include "sandbox/sandbox.h"
#include "store/pools.h"

/* An image that is there. */
struct warm_image {
	uint64_t generation; /* its number among the template's */
	unsigned cpus;
	uint64_t memory_mib;
	uint64_t disk_mib;
	uint64_t created_ms;   /* CLOCK_REALTIME */
	uint64_t used_ms;      /* when a sandbox was last made of it */
	uint64_t bytes;        /* that it takes on the host, beside its template's disk */
	char acceleration[16]; /* "kvm" or "tcg" */
	bool usable; /* a create may use it: kernel, agent, VMM and CPU are those of now */
};
VEC_DEFINE(warm_image_list, struct warm_image)

/** warm_list() - the images of a template, in order of their making. Return: 0; -errno with @e set
 */
must_check int warm_list(struct manager *m, const char *template_name, struct warm_image_list *out,
			 struct err *e);

/** warm_is_making() - whether an image of a template is being made, or waits for it */
bool warm_is_making(const struct manager *m, const char *template_name);

/* How the making of an image ended: @e is NULL, or the error. */
typedef void (*warm_done_fn)(const struct err *e, void *arg);

/* An image that is wanted. All of it stays the caller's. */
struct warm_request {
	struct db_sandbox *spec;    /* template_name, cpus, memory_mib, disk_mib; 0 and "" mean the
				  * default */
	const char *start;          /* what the template's sandboxes run from the beginning from now
				  * on (template/start.h); "" = nothing; NULL = what they do now */
	const char *ready;          /* with @start: when that is ready; NULL = when it runs */
	const struct db_pool *pool; /* that the template has from now on; NULL = as it is */
};

/**
 * warm_make() - make an image of a template now, unless there is one
 * @done:	called once, later, on the loop; not when this function itself fails
 *
 * Return: 0 it is under way; 1 there is one already, and @done is not called; -errno with @e set.
 */
must_check int warm_make(struct manager *m, const struct warm_request *request, warm_done_fn done,
			 void *arg, struct err *e);

/* What became of the last making that did not come off. */
struct warm_failure {
	char template_name[NAME_MAX_LEN + 1];
	char error[sizeof(((struct err *)NULL)->msg)];
	uint64_t again_ms; /* none is made behind a create before; CLOCK_REALTIME */
};

/** warm_failure() - what the last making failed with; borrowed; NULL it was not of this template,
 * or an image was made since */
const struct warm_failure *warm_failure(const struct manager *m, const char *template_name);

/** warm_owns() - whether the VM that an image is being made of has this id: what it has on the host
 * is no leftover, though no sandbox owns it */
bool warm_owns(const struct manager *m, const struct sandbox_id *id);
