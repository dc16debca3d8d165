/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Removing what nobody owns, and telling of it. The list is in the order of its kinds: a cgroup
 * with its processes goes before the slot and the mounts that they use, and those before
 * directories. When one thing of an id cannot be removed, the later ones of this id are left
 * alone: no directory is deleted under a living process or through a mount.
 */
#include "base/fd.h"
#include "base/file.h"
#include "base/parse.h"
#include "os/cgroup.h"
#include "os/link.h"
#include "os/netns.h"
#include "sandbox/leaks.h"
#include "sandbox/sweep.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/loop.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

struct fix {
	const struct instance_view *view;
	struct things *list;
	bool delete_data;
	bool swept; /* slots were swept already */
};

static int fix_cgroup(struct fix *f, const struct thing *t, struct op *op)
{
	return sweep_cgroup(f->view->cgroup_fd, t->name, op);
}

/* Whether a process is in the instance's cgroup itself. */
static bool is_inside(int cgroup_fd, const char *pid)
{
	auto_free char *line = str_printf("\n%s\n", pid);
	auto_buf procs = BUF_INIT(1 << 20);

	return buf_puts(&procs, "\n") == 0 &&
	       file_read_at(cgroup_fd, "cgroup.procs", &procs) == 0 &&
	       strstr(buf_str(&procs), line) != NULL;
}

/* By a pidfd that was opened before the last look, so that it is no other process of that pid. */
static int fix_process(struct fix *f, const struct thing *t, struct op *op)
{
	auto_close int fd = -1;
	uint64_t pid;
	int r = parse_u64(t->name, 1, INT_MAX, &pid);

	if (r == 0)
		fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
	if (fd < 0 || !is_inside(f->view->cgroup_fd, t->name))
		return 0;
	if (syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) < 0)
		return err_errno(&op->err, errno, "kill process %s", t->name);
	r = op_wait_fd(op, fd, POLLIN, -1);
	return r < 0 ? err_errno(&op->err, -r, "wait for the end of process %s", t->name) : 0;
}

/* Only what is in the list may go, whatever has come since. */
static bool is_kept(const struct sandbox_id *id, void *arg)
{
	const struct fix *f = arg;

	vec_foreach (t, f->list) {
		if (id_equal(&t->id, id))
			return false;
	}
	return true;
}

/* All slots at the first of them, by what the network knows of them. */
static int fix_slots(struct fix *f, struct op *op)
{
	if (f->swept)
		return 0;
	f->swept = true;
	return sweep_slots(f->view->net, is_kept, f, op);
}

static int fix_link(struct fix *f, const struct thing *t, struct op *op)
{
	auto_close int nl = netns_rtnl(-1);
	int r;

	if (net_slot_named(f->view->net, t->name))
		return fix_slots(f, op);
	r = nl < 0 ? nl : link_delete(nl, t->name);
	return r < 0 && r != -ENODEV ? err_errno(&op->err, -r, "delete link %s", t->name) : 0;
}

static int fix_netns(struct fix *f, const struct thing *t, struct op *op)
{
	int r;

	if (net_slot_named(f->view->net, t->name))
		return fix_slots(f, op);
	r = netns_delete(t->name);
	return r < 0 ? err_errno(&op->err, -r, "delete network namespace %s", t->name) : 0;
}

static int fix_mount(struct fix *f, const struct thing *t, struct op *op)
{
	(void)f;
	if (umount2(t->name, UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT)
		return err_errno(&op->err, errno, "unmount %s", t->name);
	return 0;
}

static int fix_loop(struct fix *f, const struct thing *t, struct op *op)
{
	auto_free char *path = str_printf("/dev/%s", t->name);
	auto_close int fd = open(path, O_RDWR | O_CLOEXEC);

	(void)f;
	if (fd < 0)
		return err_errno(&op->err, errno, "open %s", path);
	if (ioctl(fd, LOOP_CLR_FD, 0) < 0 && errno != ENXIO)
		return err_errno(&op->err, errno, "detach %s", path);
	return 0;
}

static int fix_run_directory(struct fix *f, const struct thing *t, struct op *op)
{
	return sweep_run_directory(f->view->run_fd, t->name, op);
}

static int fix_table(struct fix *f, const struct thing *t, struct op *op)
{
	(void)t;
	return net_teardown(f->view->net, &op->err);
}

static int fix_cgroup_root(struct fix *f, const struct thing *t, struct op *op)
{
	(void)t;
	return cgroup_close_root(f->view->cgroup_fd, op);
}

static int fix_data(struct fix *f, const struct thing *t, struct op *op)
{
	int r;

	if (!f->delete_data)
		return 0;
	r = file_remove_tree_at(f->view->sandboxes_fd, t->name);
	return r < 0 ? err_errno(&op->err, -r, "remove sandbox directory %s", t->name) : 0;
}

static int (*const fixers[])(struct fix *f, const struct thing *t, struct op *op) = {
	[THING_CGROUP] = fix_cgroup,
	[THING_PROCESS] = fix_process,
	[THING_LINK] = fix_link,
	[THING_NETNS] = fix_netns,
	[THING_MOUNT] = fix_mount,
	[THING_LOOP] = fix_loop,
	[THING_RUN_DIRECTORY] = fix_run_directory,
	[THING_TABLE] = fix_table,
	[THING_CGROUP_ROOT] = fix_cgroup_root,
	[THING_DATA] = fix_data,
};
static_assert(ARRAY_SIZE(fixers) == THING_N, "each kind can be removed");

/* A thing of the same id that could not be removed; NULL = none. */
static const struct thing *obstacle(const struct things *list, const struct thing *t)
{
	for (const struct thing *other = list->at; t->id.s[0] != '\0' && other < t; other++) {
		if (other->error != NULL && id_equal(&other->id, &t->id))
			return other;
	}
	return NULL;
}

void leaks_fix(const struct instance_view *view, bool delete_data, struct things *list)
{
	struct fix f = { .view = view, .list = list, .delete_data = delete_data };

	vec_foreach (t, list) {
		const struct thing *before = obstacle(list, t);
		struct op op;

		op_init(&op, SWEEP_TIMEOUT_MS, -1);
		if (before != NULL)
			t->error = str_printf("left alone, since %s %s is still there",
					      thing_kind_name(before->kind), before->name);
		else if (fixers[t->kind](&f, t, &op) < 0)
			t->error = str_dup(op.err.msg);
	}
}

static char *leak_advice(const struct thing *t)
{
	if (t->error != NULL)
		return NULL;
	if (t->kind == THING_DATA)
		return str_dup("look at it; sudo viv doctor --fix --delete removes it");
	return str_dup("sudo viv doctor --fix");
}

static void report_one(const struct thing *t, struct doctor_report *report)
{
	struct doctor_item item = { .area = thing_kind_name(t->kind), .name = str_dup(t->name) };

	item.verdict = t->gone ? DOCTOR_FIXED : DOCTOR_LEAK;
	item.what = str_printf("%s%s%s%s", t->name, t->detail != NULL ? " (" : "",
			       t->detail != NULL ? t->detail : "", t->detail != NULL ? ")" : "");
	if (t->gone) {
		item.why = str_dup("it was nobody's and was removed");
	} else {
		item.why = t->error != NULL ? str_dup(t->error)
			   : t->kind == THING_DATA
				   ? str_dup("the data of a sandbox that no row of the store knows")
				   : str_dup("no sandbox owns it");
		item.advice = leak_advice(t);
	}
	doctor_add(report, item);
}

void leaks_report(const struct things *leaks, struct doctor_report *report)
{
	vec_foreach (t, leaks)
		report_one(t, report);
}

static bool there_is(const struct things *all, enum thing_kind kind, const struct sandbox_id *id)
{
	vec_foreach (t, all) {
		if (t->kind == kind && id_equal(&t->id, id))
			return true;
	}
	return false;
}

/* What is wrong with an intent that has been as it is all the time; false = nothing. */
static bool judge_intent(const struct intent *i, const struct things *all, struct doctor_item *item)
{
	bool has_data = there_is(all, THING_DATA, &i->id);
	bool has_vm = there_is(all, THING_CGROUP, &i->id);

	if (i->unsure || i->leaked) {
		item->verdict = DOCTOR_LEAK;
		item->why = str_dup(i->unsure ? "it cannot be told whether its VM is alive"
					      : "not all that it held could be released");
		item->advice = str_dup("vivd goes on trying; its log says what fails");
	} else if (i->state == DB_CREATING || i->state == DB_DELETING ||
		   (i->state == DB_READY && !i->kept)) {
		item->verdict = DOCTOR_DEGRADED;
		item->why = str_dup("vivd ended while it was at it");
		item->advice = str_dup("vivd removes it when it starts");
	} else if (!has_data) {
		item->verdict = DOCTOR_LEAK;
		item->why = str_dup("its directory is gone, and with it its disk");
		item->advice = str_printf("viv rm %s", i->id.s);
	} else if (i->state == DB_RUNNING && !has_vm) {
		item->verdict = DOCTOR_DEGRADED;
		item->why = str_dup("its VM is gone; its disk is there");
		item->advice = str_dup("vivd notes it when it starts");
	}
	return item->verdict != DOCTOR_OK;
}

void intents_report(const struct intents *before, const struct intents *after,
		    const struct things *all, struct doctor_report *report)
{
	vec_foreach (i, after) {
		const struct intent *old = intents_find(before, &i->id);
		struct doctor_item item = { .area = "sandbox" };

		if (old == NULL || old->busy || i->busy || old->state != i->state ||
		    !judge_intent(i, all, &item))
			continue;
		item.name = str_dup(i->id.s);
		item.what = str_printf("%s%s%s is %s", i->id.s, i->name[0] != '\0' ? " " : "",
				       i->name, db_state_name(i->state));
		doctor_add(report, item);
	}
}
