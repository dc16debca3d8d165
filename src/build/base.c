/* SPDX-License-Identifier: Apache-2.0 */
/* The base template: Debian 12, as E2B's users know it. */
#include "base/str.h"
#include "build/template-internal.h"

static const uint64_t SPACE_BYTES = 1200000000; /* tree, packages and image at their largest */

static int make_root(const struct root_job *job, struct template *t, json_t **out_image,
		     struct op *op)
{
	const struct template_build_spec *build = job->arg;
	struct rootfs_spec spec = { .dir = job->dir, .root = job->root, .mirror = build->mirror };

	(void)out_image;
	str_copy(t->user, sizeof(t->user), "user");
	return rootfs_make(&spec, job->progress, op);
}

int template_build_base(const struct template_build_spec *spec, const struct progress *progress,
			struct op *op)
{
	struct template_build_spec copy = *spec;

	return template_build(&(struct recipe){ .state_dir = spec->state_dir,
						.name = spec->name,
						.free_mib = spec->free_mib,
						.space_bytes = SPACE_BYTES,
						.steps = BUILD_STEP_N,
						.shared = true,
						.make_root = make_root,
						.arg = &copy },
			      progress, op);
}
