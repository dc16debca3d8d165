/* SPDX-License-Identifier: Apache-2.0 */
#include "build/import-run.h"

#include "base/str.h"
#include "build/view.h"

#include <stdio.h>

struct work {
	const struct template_import_spec *spec;
	const char *what; /* for people */
	struct import_report report;
};

static int do_import(struct view *v, void *arg, struct op *op)
{
	struct work *w = arg;
	struct progress progress = view_begin_part(v, 1, w->what);

	return template_import(w->spec, &w->report, &progress, op);
}

static void tell_left_out(const struct import_report *report)
{
	if (report->lost_user[0] != '\0')
		fprintf(stderr,
			"the image has no user %s in its /etc/passwd: commands run as root\n",
			report->lost_user);
	if (report->devices_left_out > 0)
		fprintf(stderr, "left out %llu devices, which cannot be made here\n",
			(unsigned long long)report->devices_left_out);
	if (report->xattrs_left_out > 0)
		fprintf(stderr,
			"left out %llu extended attributes, which this file system does not take\n",
			(unsigned long long)report->xattrs_left_out);
}

static int sum_up(const struct work *w, const struct view *v, struct err *e)
{
	struct template t;
	int r = template_open(w->spec->state_dir, w->spec->name, &t, e);

	if (r < 0)
		return r;
	tell_left_out(&w->report);
	fprintf(stderr, "template %s is ready (%llu s): ", t.name, view_elapsed_s(v));
	if (w->report.layers > 0)
		fprintf(stderr, "%u layers", w->report.layers);
	else
		fprintf(stderr, "a root file system");
	fprintf(stderr, ", commands as %s in %s, %llu MB as a guest's smallest disk\n", t.user,
		t.workdir, (unsigned long long)t.root_bytes / 1000000);
	return 0;
}

int import_run(const struct template_import_spec *spec, struct err *e)
{
	auto_free char *what = str_printf("template %.64s", spec->name);
	struct view v = { .parts = 1 };
	struct work work = { .spec = spec, .what = what };
	int r = view_run(&v, do_import, &work, e);

	return r < 0 ? r : sum_up(&work, &v, e);
}
