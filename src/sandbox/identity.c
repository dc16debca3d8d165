/* SPDX-License-Identifier: Apache-2.0 */
/* Who a guest is: its row, as its agent is told, at the start and when it changes. */
#include "base/json.h"
#include "base/str.h"
#include "os/work.h"
#include "sandbox/sandbox-internal.h"

#include <stdlib.h>

enum { TELL_TIMEOUT_MS = 15000 };

/* A change on its way to the agent. */
struct change {
	struct manager *m;
	struct db_sandbox row; /* what the agent is told: a copy, for the worker */
	char *old_user;
	char *old_env_json;
	struct in_addr addr;
	struct op op;
	int result;
	void (*done)(struct sandbox *sb, const struct err *e, void *arg);
	void *arg;
};

int identity_tell(const struct db_sandbox *row, struct in_addr addr, int vmm_pidfd,
		  const struct guest_wake *wake, char out_version[AGENT_VERSION_SIZE],
		  struct op *op)
{
	auto_json *env = json_loads(row->env_json, 0, NULL);
	struct guest_identity who = {
		.id = row->id.s,
		.template_id = row->template_name,
		.hostname = row->name[0] != '\0' ? row->name : row->id.s,
		.default_user = row->user,
		.default_workdir = row->workdir,
		.access_token = row->access_token[0] != '\0' ? row->access_token : NULL,
		.env = env,
		.wake = wake,
	};

	return guest_init(addr, &who, vmm_pidfd, out_version, AGENT_VERSION_SIZE, op);
}

static void change_free(struct change *c)
{
	db_sandbox_done(&c->row);
	free(c->old_user);
	free(c->old_env_json);
	free(c);
}

static void tell_work(void *arg)
{
	struct change *c = arg;
	char version[AGENT_VERSION_SIZE];

	c->result = identity_tell(&c->row, c->addr, -1, NULL, version, &c->op);
}

/* The agent does not know: what the row says is not so. */
static void take_back(struct sandbox *sb, const struct change *c)
{
	db_set_str(&sb->row.user, c->old_user);
	db_set_str(&sb->row.env_json, c->old_env_json);
	sandbox_write(sb);
}

static void tell_done(void *arg)
{
	struct change *c = arg;
	struct manager *m = c->m;
	struct sandbox *sb = sandbox_by_id(m, &c->row.id);

	if (sb != NULL)
		sb->changing = false;
	if (sb != NULL && c->result < 0)
		take_back(sb, c);
	if (sb == NULL && c->result == 0)
		c->result = err_set(&c->op.err, ERR_NOT_FOUND, "sandbox %s is gone", c->row.id.s);
	if (c->result < 0)
		c->done(NULL, &c->op.err, c->arg);
	else
		c->done(sb, NULL, c->arg);
	change_free(c);
	m->n_busy--;
	manager_operation_ended(m);
}

/* What the worker reads, since the row is the loop's. */
static struct change *change_new(const struct sandbox *sb)
{
	struct change *c = xcalloc(1, sizeof(*c));

	c->m = sb->m;
	db_sandbox_init(&c->row);
	c->row.id = sb->row.id;
	db_set_str(&c->row.name, sb->row.name);
	db_set_str(&c->row.template_name, sb->row.template_name);
	db_set_str(&c->row.user, sb->row.user);
	db_set_str(&c->row.workdir, sb->row.workdir);
	db_set_str(&c->row.env_json, sb->row.env_json);
	db_set_str(&c->row.access_token, sb->row.access_token);
	c->old_user = str_dup(sb->row.user);
	c->old_env_json = str_dup(sb->row.env_json);
	c->addr = sb->res.slot.addr;
	op_init(&c->op, TELL_TIMEOUT_MS, -1);
	return c;
}

int sandbox_change(struct sandbox *sb, const char *user, const char *env_json,
		   void (*done)(struct sandbox *sb, const struct err *e, void *arg), void *arg,
		   struct err *e)
{
	struct change *c;
	int r = sandbox_check_usable(sb, e);

	if (r < 0)
		return r;
	c = change_new(sb);
	db_set_str(&c->row.user, user != NULL ? user : sb->row.user);
	db_set_str(&c->row.env_json, env_json != NULL ? env_json : sb->row.env_json);
	db_set_str(&sb->row.user, c->row.user);
	db_set_str(&sb->row.env_json, c->row.env_json);
	r = db_sandbox_update(sb->m->db, &sb->row, e);
	if (r < 0) {
		db_set_str(&sb->row.user, c->old_user);
		db_set_str(&sb->row.env_json, c->old_env_json);
		change_free(c);
		return r;
	}
	c->done = done;
	c->arg = arg;
	sb->changing = true;
	sb->m->n_busy++;
	work_submit(sb->m->loop, tell_work, tell_done, c);
	return 0;
}
