/* SPDX-License-Identifier: Apache-2.0 */
#include "build/prepare.h"

#include "build/build.h"
#include "build/view.h"
#include "os/spawn.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STAT_BLOCK_BYTES = 512 };
static const unsigned parts = 2;
static const char base[] = "base";

/* What the host's package lists name may be gone from the archive: then with new lists. */
static int get_kernel(const struct prepare_spec *spec, struct view *v, struct op *op)
{
	static const char *const update[] = { "apt-get", "update", NULL };
	struct progress progress = view_begin_part(v, 1, "guest kernel");
	struct op first = op_child(op, 0);
	struct op refresh = op_child(op, 0);
	struct kernel kernel;
	int r = kernel_fetch(spec->state_dir, &kernel, &progress, &first);

	if (r == 0)
		return 0;
	op->err = first.err;
	if (op_check(op) < 0 || op->err.kind == ERR_EXHAUSTED)
		return r;
	progress.step(1, 1, "refresh the package lists", progress.arg);
	if (spawn_run_lines(update, progress.detail, progress.arg, &refresh) < 0)
		return r;
	op->err = (struct err){ 0 };
	return kernel_fetch(spec->state_dir, &kernel, &progress, op);
}

static int build_base(const struct prepare_spec *spec, struct view *v, struct op *op)
{
	struct progress progress = view_begin_part(v, 2, "base template");
	struct template_build_spec build = {
		.state_dir = spec->state_dir,
		.name = base,
		.free_mib = spec->root_free_mib,
	};

	return template_build_base(&build, &progress, op);
}

static int prepare(struct view *v, void *arg, struct op *op)
{
	const struct prepare_spec *spec = arg;
	struct kernel kernel;
	bool want_kernel = spec->force || kernel_find(spec->state_dir, NULL, &kernel, NULL) < 0;
	bool want_base = spec->force || !template_exists(spec->state_dir, base);
	int r = 0;

	if ((want_kernel || want_base) && geteuid() != 0)
		return err_set(&op->err, ERR_UNSUPPORTED,
			       "preparing %s has to be done by root: sudo vivd prepare",
			       spec->state_dir);
	if (want_kernel)
		r = get_kernel(spec, v, op);
	if (r == 0 && want_base)
		r = build_base(spec, v, op);
	return r;
}

static int sum_up(const struct prepare_spec *spec, const struct view *v, struct err *e)
{
	struct kernel kernel;
	struct template t;
	struct stat vmlinux;
	struct stat root;
	int r = kernel_find(spec->state_dir, NULL, &kernel, e);

	if (r >= 0)
		r = template_open(spec->state_dir, base, &t, e);
	if (r < 0)
		return r;
	if (stat(kernel.vmlinux, &vmlinux) < 0 || stat(t.root_path, &root) < 0)
		return err_errno(e, errno, "look at what was prepared in %s", spec->state_dir);
	fprintf(stderr,
		"%s is ready (%llu s): guest kernel %s (%llu MB), template %s "
		"(%llu MB on disk, %llu MB as a guest's smallest disk)\n",
		spec->state_dir, view_elapsed_s(v), kernel.version,
		(unsigned long long)vmlinux.st_blocks * STAT_BLOCK_BYTES / 1000000, base,
		(unsigned long long)root.st_blocks * STAT_BLOCK_BYTES / 1000000,
		(unsigned long long)t.root_bytes / 1000000);
	return 0;
}

int prepare_run(const struct prepare_spec *spec, struct err *e)
{
	struct view v = { .parts = parts };
	struct prepare_spec copy = *spec;
	int r = view_run(&v, prepare, &copy, e);

	return r < 0 ? r : sum_up(spec, &v, e);
}
