/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/templates.h"

#include "base/log.h"
#include "base/str.h"
#include "os/work.h"
#include "sandbox/ready-internal.h"
#include "sandbox/sandbox-internal.h"
#include "sandbox/warm.h"

#include <stdlib.h>

enum { MIB = 1024 * 1024 };

int manager_templates(const struct manager *m, struct templates *out, struct err *e)
{
	return template_list(m->config.state_dir, out, e);
}

int manager_template(const struct manager *m, const char *name, struct template *out, struct err *e)
{
	if (!name_valid(name))
		return err_set(e, ERR_NOT_FOUND, "template '%.80s' not found", name);
	return template_open(m->config.state_dir, name, out, e);
}

struct template_sizes template_sizes(const struct manager *m, const struct template *t)
{
	return (struct template_sizes){
		.cpus = m->config.default_cpus,
		.memory_mib = m->config.default_memory_mib,
		.disk_mib = MAX(m->config.default_disk_mib, (t->root_bytes + MIB - 1) / MIB),
	};
}

/* A removal under way. */
struct removal {
	struct manager *m;
	char name[NAME_MAX_LEN + 1];
	struct err e;
	int result;
	void (*done)(const struct err *e, void *arg);
	void *arg;
};

static void remove_work(void *arg)
{
	struct removal *r = arg;

	r->result = template_remove(r->m->config.state_dir, r->name, &r->e);
}

static void remove_done(void *arg)
{
	struct removal *r = arg;
	struct manager *m = r->m;

	if (r->result == 0) {
		log_info("template.removed", kv_str("template", r->name));
		ready_forget(m, r->name);
	}
	r->done(r->result < 0 ? &r->e : NULL, r->arg);
	free(r);
	m->n_busy--;
	manager_operation_ended(m);
}

static int check_unused(const struct manager *m, const char *name, struct err *e)
{
	vec_foreach (sb, &m->all) {
		if ((*sb)->row.state != DB_READY && streq((*sb)->row.template_name, name))
			return err_set(e, ERR_INVALID,
				       "template %s: sandbox %s is of it; remove that first", name,
				       (*sb)->row.id.s);
	}
	if (warm_is_making(m, name))
		return err_set(e, ERR_CONFLICT, "template %s: an image of it is being made", name);
	return 0;
}

int template_remove_start(struct manager *m, const char *name,
			  void (*done)(const struct err *e, void *arg), void *arg, struct err *e)
{
	struct removal *r;
	struct template t;
	int rc = manager_template(m, name, &t, e);

	if (rc == 0)
		rc = check_unused(m, name, e);
	if (rc == 0)
		rc = manager_check_open(m, e);
	if (rc < 0)
		return rc;
	r = xcalloc(1, sizeof(*r));
	*r = (struct removal){ .m = m, .done = done, .arg = arg };
	str_copy(r->name, sizeof(r->name), name);
	m->n_busy++;
	work_submit(m->loop, remove_work, remove_done, r);
	return 0;
}
