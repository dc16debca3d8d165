/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The doctor without a daemon. It holds the instance's locks meanwhile, so that no vivd starts in
 * between, and opens what is there, but makes nothing: what there is not, nothing can leak from.
 */
#include "base/fd.h"
#include "base/file.h"
#include "net/net.h"
#include "os/cgroup.h"
#include "sandbox/accel-internal.h"
#include "sandbox/doctor-internal.h"
#include "sandbox/doctor.h"
#include "sandbox/leaks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

enum { LOOK_TIMEOUT_MS = 30000 };

struct instance {
	int lock_fds[2];
	struct db_instance row;
	struct intents intents;
	struct instance_view view; /* owns its descriptors and its net */
};

static void instance_done(struct instance *i)
{
	intents_done(&i->intents);
	net_close(i->view.net);
	fd_close(&i->view.cgroup_fd);
	fd_close(&i->view.run_fd);
	fd_close(&i->view.sandboxes_fd);
	fd_close(&i->lock_fds[1]);
	fd_close(&i->lock_fds[0]);
}

/* Return: 1 it is ours; 0 there is no such directory; -EBUSY a vivd has it; -errno with @e set. */
static int lock_dir(const char *dir, int *out_fd, struct err *e)
{
	auto_free char *path = str_printf("%s/vivd.lock", dir);
	auto_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int r;

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0)
		return err_errno(e, errno, "open %s", path);
	r = flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
	if (r == -EWOULDBLOCK)
		return -EBUSY;
	if (r < 0)
		return err_errno(e, -r, "lock %s", path);
	*out_fd = take_fd(&fd);
	return 1;
}

static int add_intent(struct db_sandbox *row, void *arg)
{
	struct intent i = { .id = row->id, .state = row->state, .leaked = row->leaked };

	str_copy(i.name, sizeof(i.name), row->name);
	intents_push(arg, i);
	db_sandbox_done(row);
	return 0;
}

/* Return: 1; 0 there is no store yet; -errno with @e set. */
static int read_store(struct instance *i, const char *state_dir, struct err *e)
{
	auto_free char *path = str_printf("%s/vivarium.db", state_dir);
	struct db *db = NULL;
	int r;

	if (access(path, F_OK) < 0)
		return 0;
	r = db_open(path, &db, e);
	if (r == 0)
		r = db_instance_get(db, &i->row, e);
	if (r == 0)
		r = db_sandbox_each(db, add_intent, &i->intents, e);
	db_close(db);
	return r < 0 ? r : 1;
}

/* Return: 0 open, or @out is -1; -errno with @e set. */
static int open_if_there(const char *path, int *out, struct err *e)
{
	*out = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *out < 0 && errno != ENOENT ? err_errno(e, errno, "open directory %s", path) : 0;
}

static int open_view(struct instance *i, const struct manager_config *config, struct err *e)
{
	auto_free char *sandboxes = str_printf("%s/sandboxes", config->state_dir);
	auto_free char *cgroup = str_printf("vivarium-%s", i->row.tag.s);
	int r;

	i->view.tag = i->row.tag;
	i->view.state_dir = config->state_dir;
	i->view.run_dir = config->run_dir;
	i->view.net = net_open_remains(&i->row.tag, i->row.net_block);
	r = open_if_there(sandboxes, &i->view.sandboxes_fd, e);
	if (r == 0)
		r = open_if_there(config->run_dir, &i->view.run_fd, e);
	if (r < 0)
		return r;
	i->view.cgroup_fd = cgroup_open_existing(cgroup);
	if (i->view.cgroup_fd < 0 && i->view.cgroup_fd != -ENOENT)
		return err_errno(e, -i->view.cgroup_fd, "open cgroup %s", cgroup);
	return 0;
}

/* Return: 1 it is open; 0 there is none; -EBUSY a vivd has it; -errno with @e set. */
static int instance_open(struct instance *i, const struct manager_config *config, struct err *e)
{
	int r = lock_dir(config->state_dir, &i->lock_fds[0], e);

	if (r <= 0)
		return r;
	r = lock_dir(config->run_dir, &i->lock_fds[1], e);
	if (r >= 0)
		r = read_store(i, config->state_dir, e);
	if (r <= 0)
		return r;
	r = open_view(i, config, e);
	return r < 0 ? r : 1;
}

static void free_things(struct things *list)
{
	things_free(list);
}

static int look(const struct instance *i, const struct doctor_request *request,
		struct doctor_report *report, struct err *e)
{
	cleanup(free_things) struct things leaks = { 0 };
	struct op op;
	int r;

	op_init(&op, LOOK_TIMEOUT_MS, -1);
	r = leaks_look(&i->view, &i->intents, &leaks, &op);
	if (r == 0) {
		intents_report(&i->intents, &i->intents, &leaks, report);
		leaks_keep(&i->view, &i->intents, &leaks);
		if (request->fix) {
			leaks_fix(&i->view, request->delete_data, &leaks);
			r = leaks_confirm(&i->view, &i->intents, true, &leaks, &op);
		}
	}
	if (r < 0) {
		*e = op.err;
		return r;
	}
	leaks_report(&leaks, report);
	return 0;
}

static void say_not_looked(struct doctor_report *report, const char *what, const char *advice)
{
	doctor_add(report, (struct doctor_item){ .area = "leaks",
						 .verdict = DOCTOR_DEGRADED,
						 .name = str_dup("look"),
						 .what = str_dup(what),
						 .why = str_dup("what is left of this instance was "
								"not looked for"),
						 .advice = str_dup(advice) });
}

/* What a vivd of this boot has found out. */
static bool read_record(const char *state_dir, struct accel_record *out)
{
	auto_buf boot_id = BUF_INIT(64);

	if (accel_record_read(state_dir, out) < 0 ||
	    file_read_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", &boot_id) < 0)
		return false;
	buf_head(&boot_id)[strcspn(buf_str(&boot_id), "\n")] = '\0';
	return out->key.boot_id[0] != '\0' && streq(out->key.boot_id, buf_head(&boot_id));
}

static int visit(struct instance *i, const struct manager_config *config,
		 const struct doctor_request *request, struct doctor_report *out, struct err *e)
{
	auto_free char *busy = str_printf("a vivd that is running uses %s", config->state_dir);
	struct doctor_host host = { .config = config, .tag = tag_new() };
	struct accel_record record;
	struct err why = { 0 };
	int r = instance_open(i, config, &why);

	if (r < 0 && request->fix)
		return r == -EBUSY && !err_is_set(&why)
			       ? err_set(e, ERR_CONFLICT, "%s: let it do that, by viv doctor --fix",
					 busy)
			       : err_set(e, why.kind, "%s", why.msg);
	if (r > 0)
		host.tag = i->row.tag;
	if (!streq(config->acceleration, "auto")) {
		host.acceleration = config->acceleration;
		host.acceleration_why = "the setting says so";
	} else if (read_record(config->state_dir, &record)) {
		host.acceleration = record.kvm ? "kvm" : "tcg";
		host.acceleration_why = record.why;
	}
	doctor_check_host(&host, out);
	if (r < 0)
		say_not_looked(out, err_is_set(&why) ? why.msg : busy, "sudo viv doctor");
	return r <= 0 ? 0 : look(i, request, out, e);
}

int doctor_run(const struct manager_config *config, const struct doctor_request *request,
	       struct doctor_report *out, struct err *e)
{
	cleanup(instance_done) struct instance i = {
		.lock_fds = { -1, -1 },
		.view = { .cgroup_fd = -1, .run_fd = -1, .sandboxes_fd = -1 },
	};

	return visit(&i, config, request, out, e);
}
