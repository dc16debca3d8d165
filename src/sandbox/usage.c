/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/usage.h"

#include "base/dir.h"
#include "base/fd.h"
#include "base/str.h"
#include "base/tree.h"
#include "os/work.h"
#include "sandbox/metrics-internal.h"
#include "sandbox/usage-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

enum { MIB = 1024 * 1024 };

void survey_init(struct survey *s, const struct manager *m)
{
	*s = (struct survey){ .usage = { .state_dir = m->config.state_dir,
					 .run_dir = m->config.run_dir } };
}

void survey_done(struct survey *s)
{
	cache_items_free(&s->usage.cache);
	usage_sandboxes_done(&s->usage.sandboxes);
	usage_snapshots_done(&s->usage.snapshots);
	layer_bases_done(&s->bases);
}

/* @owner: "sandbox abc" */
static void be_unsure(struct survey *s, const char *owner, const char *why)
{
	if (s->unsure[0] == '\0')
		snprintf(s->unsure, sizeof(s->unsure), "%s of %.140s may lie over it", why, owner);
}

static bool is_known(const char *name)
{
	static const char *const known[] = { "layer",   "layer.new",  "checkpoints",
					     "passing", METRICS_FILE, METRICS_FILE ".tmp" };

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (streq(name, known[i]))
			return true;
	}
	return str_starts(name, "image-"); /* that its memory began as */
}

/* Whether there is nothing in a sandbox's directory but what this version knows of. */
static bool is_plain(int dirfd)
{
	auto_dir *d = NULL;
	const struct dirent *entry;
	int r = dir_open_at(dirfd, ".", 0, &d);

	while (r >= 0 && (r = dir_next(d, &entry)) > 0) {
		if (!is_known(entry->d_name))
			return false;
	}
	return r == 0;
}

/* The template under the disk of a sandbox, or of a checkpoint. */
static void see_disk(struct survey *s, int dirfd, const char *owner)
{
	struct layer_base base;
	char path[PATH_MAX];
	struct stat st;
	int r = disk_base(dirfd, path, sizeof(path));

	if (r == 0 && fstatat(dirfd, "layer", &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
		return;
	if (r <= 0 || cache_template_of(path, base.version, sizeof(base.version)) < 0)
		be_unsure(s, owner, "the disk layer, which does not tell its template,");
	else
		layer_bases_push(&s->bases, base);
}

/* A paused sandbox has no disk but its checkpoint's. */
static void see_checkpoints(struct survey *s, int dirfd, const char *owner)
{
	cleanup(generations_done) struct generations all = { 0 };
	struct op op;

	op_init(&op, 0, -1);
	if (checkpoint_list(dirfd, &all, &op) < 0)
		be_unsure(s, owner, "a checkpoint, which cannot be read,");
	vec_foreach (generation, &all) {
		auto_free char *name = str_printf("checkpoints/%ju", (uintmax_t)*generation);
		auto_close int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (fd >= 0)
			see_disk(s, fd, owner);
	}
}

static void see_base(struct survey *s, int dirfd, const char *owner)
{
	if (!is_plain(dirfd))
		be_unsure(s, owner, "something unknown in the directory");
	see_disk(s, dirfd, owner);
	see_checkpoints(s, dirfd, owner);
}

/* What removing a directory frees. Return: 1; 0 it is gone; -errno with op->err set. */
static int count_own(const char *path, uint64_t *out, struct op *op)
{
	int r = tree_own(path, out);

	if (r == -ENOENT)
		return 0;
	return r < 0 ? err_errno(&op->err, -r, "count what %s takes", path) : 1;
}

static int see_sandbox(struct survey *s, int sandboxes_fd, const char *name, struct op *op)
{
	auto_free char *path = str_printf("%s/sandboxes/%s", s->usage.state_dir, name);
	auto_free char *owner = str_printf("sandbox %s", name);
	auto_close int dirfd =
		openat(sandboxes_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct usage_sandbox sandbox = { .known = false };
	int r;

	if (dirfd < 0 && errno == ENOENT)
		return 0; /* it was removed just now */
	if (dirfd < 0 || id_parse(name, &sandbox.id) < 0) {
		be_unsure(s, owner, "what is in the place");
		return 0;
	}
	see_base(s, dirfd, owner);
	r = count_own(path, &sandbox.bytes, op);
	if (r > 0)
		usage_sandboxes_push(&s->usage.sandboxes, sandbox);
	return MIN(r, 0);
}

/* Also one that is being made, or deleted: its disk is there. */
static int see_snapshot(struct survey *s, int snapshots_fd, const char *name, struct op *op)
{
	auto_free char *path = str_printf("%s/snapshots/%s", s->usage.state_dir, name);
	auto_free char *owner = str_printf("snapshot %s", name);
	auto_close int dirfd =
		openat(snapshots_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct usage_snapshot snapshot = { .bytes = 0 };
	int r;

	if (dirfd < 0 && errno == ENOENT)
		return 0; /* as above */
	if (dirfd < 0 || str_fit(snapshot.name, sizeof(snapshot.name), "%s", name) < 0) {
		be_unsure(s, owner, "what is in the place");
		return 0;
	}
	see_checkpoints(s, dirfd, owner);
	r = count_own(path, &snapshot.bytes, op);
	if (r > 0)
		usage_snapshots_push(&s->usage.snapshots, snapshot);
	return MIN(r, 0);
}

/* Sees all that is in a directory of the state directory. */
static int see_all(struct survey *s, const char *dir,
		   int (*see)(struct survey *s, int dirfd, const char *name, struct op *op),
		   struct op *op)
{
	auto_free char *path = str_printf("%s/%s", s->usage.state_dir, dir);
	auto_dir *d = NULL;
	const struct dirent *entry;
	int r = dir_open_at(AT_FDCWD, path, 0, &d);

	while (r >= 0 && (r = dir_next(d, &entry)) > 0) {
		r = see(s, dirfd(d), entry->d_name, op);
		if (r != 0)
			return r;
	}
	return r < 0 ? err_errno(&op->err, -r, "read %s", path) : 0;
}

static int free_bytes(const char *path, uint64_t *out, struct op *op)
{
	struct statvfs fs;

	if (statvfs(path, &fs) < 0)
		return err_errno(&op->err, errno, "look for free space in %s", path);
	*out = (uint64_t)fs.f_bavail * fs.f_frsize;
	return 0;
}

int survey_run(struct survey *s, const char *agent_path, struct op *op)
{
	struct usage *u = &s->usage;
	auto_free char *sandboxes = str_printf("%s/sandboxes", u->state_dir); /* where it fills */
	int r = cache_list(u->state_dir, agent_path, &u->cache, op);

	if (r == 0)
		r = see_all(s, "sandboxes", see_sandbox, op);
	if (r == 0)
		r = see_all(s, "snapshots", see_snapshot, op);
	if (r < 0)
		return r;
	r = tree_allocated(u->run_dir, &u->run_bytes);
	if (r < 0)
		return err_errno(&op->err, -r, "count what %s takes", u->run_dir);
	r = free_bytes(sandboxes, &u->state_free_bytes, op);
	return r < 0 ? r : free_bytes(u->run_dir, &u->run_free_bytes, op);
}

/* What is under way may use any kernel, and a template that no layer records yet. */
static bool is_starting(const struct sandbox *sb)
{
	return sb->row.state == DB_CREATING || sb->row.state == DB_STARTING ||
	       sb->row.state == DB_RESUMING;
}

static void judge_by_sandbox(struct cache_item *item, const struct sandbox *sb)
{
	const char *id = sb->row.id.s;
	char version[sizeof(((struct layer_base *)NULL)->version)];

	switch (item->kind) {
	case CACHE_KERNEL:
		if (streq(item->name, sb->row.kernel_version))
			cache_need(item, "sandbox %s boots it", id);
		if (is_starting(sb))
			cache_need(item, "sandbox %s is being started", id);
		break;
	case CACHE_INITRAMFS:
		if (is_starting(sb))
			cache_need(item, "sandbox %s is being started", id);
		break;
	case CACHE_TEMPLATE:
		if (cache_template_of(sb->res.template.root_path, version, sizeof(version)) == 0 &&
		    streq(version, item->name))
			cache_need(item, "sandbox %s is made from it", id);
		break;
	case CACHE_TEMPORARY:
	case CACHE_KIND_N:
		break;
	}
}

static void judge_by_layers(struct cache_item *item, const struct survey *s)
{
	if (item->kind != CACHE_TEMPLATE)
		return;
	vec_foreach (base, &s->bases) {
		if (streq(base->version, item->name))
			cache_need(item, "the disk of a sandbox or snapshot lies over it");
	}
	if (s->unsure[0] != '\0')
		cache_need(item, "%s", s->unsure);
}

void survey_judge(struct survey *s, const struct manager *m)
{
	vec_foreach (item, &s->usage.cache) {
		vec_foreach (sb, &m->all)
			judge_by_sandbox(item, *sb);
		judge_by_layers(item, s);
	}
	vec_foreach (sandbox, &s->usage.sandboxes) {
		vec_foreach (sb, &m->all) {
			if (!id_equal(&(*sb)->row.id, &sandbox->id))
				continue;
			sandbox->known = true;
			str_copy(sandbox->name, sizeof(sandbox->name), (*sb)->row.name);
			if ((*sb)->row.state == DB_READY)
				str_copy(sandbox->pool, sizeof(sandbox->pool),
					 (*sb)->row.template_name);
		}
	}
}

/* df under way. */
struct look {
	struct manager *m;
	struct survey survey;
	struct op op;
	int result;
	void (*done)(const struct usage *usage, const struct err *e, void *arg);
	void *arg;
};

static void look_work(void *arg)
{
	struct look *l = arg;

	op_init(&l->op, 0, -1);
	l->result = survey_run(&l->survey, l->m->config.agent_path, &l->op);
}

static void see_room(struct usage *u, const struct manager *m)
{
	struct room_disk disk;

	if (room_disk(&m->config, &disk) == 0)
		u->state_reserve_bytes = disk.reserve * MIB;
	room_memory(m, &u->memory);
}

static void look_done(void *arg)
{
	struct look *l = arg;
	struct manager *m = l->m;

	if (l->result == 0) {
		survey_judge(&l->survey, m);
		see_room(&l->survey.usage, m);
		l->done(&l->survey.usage, NULL, l->arg);
	} else {
		l->done(NULL, &l->op.err, l->arg);
	}
	survey_done(&l->survey);
	free(l);
	manager_look_ended(m);
}

int usage_start(struct manager *m,
		void (*done)(const struct usage *usage, const struct err *e, void *arg), void *arg,
		struct err *e)
{
	struct look *l;
	int r = manager_check_open(m, e);

	if (r < 0)
		return r;
	l = xcalloc(1, sizeof(*l));
	*l = (struct look){ .m = m, .done = done, .arg = arg };
	survey_init(&l->survey, m);
	m->n_looking++;
	work_submit(m->loop, look_work, look_done, l);
	return 0;
}
