/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of snapshots, and their removal.
 *
 * Theory of operation. The truth are the directories `snapshots/<name>:<tag>/`, each of them whole
 * or not there; the table is read from them when vivd starts, and follows on the loop. An entry
 * holds its directory open, so that what is read through it is of one snapshot, whatever has the
 * name by now. Names that begin with a dot are what a killed vivd was making or deleting.
 *
 * One that is removed, or replaced, loses its name at once. Its files go when no create reads them
 * any more; sandboxes that were made of it have links of their own.
 */
#include "base/dir.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "os/work.h"
#include "sandbox/snapshot-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { RANDOM_CHARS = 16 };

/* What somebody waits for who removes one or more. */
struct removal {
	unsigned open; /* snapshots whose files are still there */
	struct err e;
	void (*done)(const struct err *e, void *arg);
	void *arg;
};

struct entry {
	struct snapshot s; /* first: the others see no more */
	struct manager *m;
	int dirfd; /* owned; -1 = it cannot be opened */
	char dir[SNAPSHOT_DIR_SIZE];
	unsigned users;
	bool retired;            /* it has no name any more */
	struct removal *removal; /* owned by all of its entries; NULL = nobody waits */
	struct op op;
	int result;
};
VEC_DEFINE(entries, struct entry *)
VEC_DEFINE(snapshot_names, struct snapshot_name)

struct snapshots {
	struct entries all; /* oldest first */
	struct snapshot_names making;
};

static bool same_name(const struct snapshot_name *a, const struct snapshot_name *b)
{
	return streq(a->name, b->name) && streq(a->tag, b->tag);
}

static struct entry *entry_of(const struct snapshot *s)
{
	return container_of((struct snapshot *)(uintptr_t)s, struct entry, s);
}

static void entry_free(struct entry *en)
{
	snapshot_done(&en->s);
	fd_close(&en->dirfd);
	free(en);
}

static struct entry *entry_open(struct manager *m, const struct snapshot_name *id)
{
	struct entry *en = xcalloc(1, sizeof(*en));

	en->m = m;
	en->s.id = *id;
	snapshot_id(&en->s, en->dir);
	en->dirfd =
		openat(m->snapshots_fd, en->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (en->dirfd < 0)
		err_errno(&en->s.fault, errno, "open snapshot %s", en->dir);
	else
		snapshot_read(m->disk, en->dirfd, &en->s);
	if (err_is_set(&en->s.fault))
		log_warning("snapshot.damaged", kv_str("snapshot", en->dir),
			    kv_str("error", en->s.fault.msg));
	return en;
}

/* Return: < 0 when @a was made before @b; names decide between equals. */
static int compare_places(const struct snapshot *a, const struct snapshot *b)
{
	char a_id[SNAPSHOT_ID_SIZE];
	char b_id[SNAPSHOT_ID_SIZE];

	if (a->created_ms != b->created_ms)
		return a->created_ms < b->created_ms ? -1 : 1;
	snapshot_id(a, a_id);
	snapshot_id(b, b_id);
	return strcmp(a_id, b_id);
}

static void insert(struct snapshots *t, struct entry *en)
{
	size_t at;

	entries_push(&t->all, en);
	for (at = t->all.n - 1; at > 0; at--) {
		if (compare_places(&t->all.at[at - 1]->s, &en->s) <= 0)
			break;
		t->all.at[at] = t->all.at[at - 1];
	}
	t->all.at[at] = en;
}

static void take_out(struct snapshots *t, const struct entry *en)
{
	size_t at = 0;

	while (at < t->all.n && t->all.at[at] != en)
		at++;
	assert(at < t->all.n);
	memmove(&t->all.at[at], &t->all.at[at + 1], (t->all.n - at - 1) * sizeof(t->all.at[0]));
	t->all.n--;
}

static struct entry *find(const struct snapshots *t, const struct snapshot_name *id)
{
	vec_foreach (en, &t->all) {
		if (same_name(&(*en)->s.id, id))
			return *en;
	}
	return NULL;
}

static void see(struct manager *m, const char *name)
{
	struct snapshot_name id;
	int r;

	if (name[0] != '.') {
		if (snapshot_name_parse(name, &id, NULL) == 0 && id.tag[0] != '\0')
			insert(m->snapshots, entry_open(m, &id));
		else
			log_warning("snapshot.unknown", kv_str("name", name));
		return;
	}
	if (!str_starts(name, SNAPSHOT_NEW) && !str_starts(name, SNAPSHOT_GONE))
		return;
	r = file_remove_tree_at(m->snapshots_fd, name);
	log_info("snapshot.swept", kv_str("name", name),
		 kv_str("error", r < 0 ? strerror(-r) : ""));
}

int snapshots_open(struct manager *m, struct err *e)
{
	auto_free char *path = str_printf("%s/snapshots", m->config.state_dir);
	auto_dir *d = NULL;
	const struct dirent *entry;
	int r = file_mkdirs(path);

	if (r < 0)
		return err_errno(e, -r, "make directory %s", path);
	m->snapshots = xcalloc(1, sizeof(*m->snapshots));
	m->snapshots_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = m->snapshots_fd < 0 ? -errno : dir_open_at(m->snapshots_fd, ".", 0, &d);
	if (r < 0)
		return err_errno(e, -r, "open directory %s", path);
	while ((r = dir_next(d, &entry)) > 0)
		see(m, entry->d_name);
	return r < 0 ? err_errno(e, -r, "read directory %s", path) : 0;
}

void snapshots_close(struct manager *m)
{
	struct snapshots *t = take_ptr(&m->snapshots);

	if (t == NULL)
		return;
	vec_foreach (en, &t->all)
		entry_free(*en);
	entries_done(&t->all);
	snapshot_names_done(&t->making);
	fd_close(&m->snapshots_fd);
	free(t);
}

const struct snapshot *snapshot_find(const struct manager *m, const char *text)
{
	struct snapshot_name id;
	struct entry *en;

	if (snapshot_name_parse(text, &id, NULL) < 0)
		return NULL;
	if (id.tag[0] == '\0')
		str_copy(id.tag, sizeof(id.tag), SNAPSHOT_DEFAULT_TAG);
	en = find(m->snapshots, &id);
	return en != NULL ? &en->s : NULL;
}

bool snapshot_is_name(const struct manager *m, const char *name)
{
	vec_foreach (en, &m->snapshots->all) {
		if (streq((*en)->s.id.name, name))
			return true;
	}
	return false;
}

struct snapshot_views snapshots_all(const struct manager *m)
{
	const struct entries *all = &m->snapshots->all;
	struct snapshot_views views = { 0 };

	for (size_t i = all->n; i-- > 0;)
		snapshot_views_push(&views, &all->at[i]->s);
	return views;
}

static bool is_making(const struct snapshots *t, const struct snapshot_name *id)
{
	vec_foreach (other, &t->making) {
		if (same_name(other, id))
			return true;
	}
	return false;
}

static int refuse_making(const struct snapshot_name *id, struct err *e)
{
	return err_set(e, ERR_CONFLICT, "snapshot %s:%s is being made; try again", id->name,
		       id->tag);
}

int snapshots_reserve(struct manager *m, const struct snapshot_name *id, struct err *e)
{
	if (is_making(m->snapshots, id))
		return refuse_making(id, e);
	snapshot_names_push(&m->snapshots->making, *id);
	return 0;
}

static void unreserve(struct snapshots *t, const struct snapshot_name *id)
{
	for (size_t i = 0; i < t->making.n; i++) {
		if (same_name(&t->making.at[i], id)) {
			t->making.at[i] = t->making.at[--t->making.n];
			return;
		}
	}
}

static void removal_end(struct removal *r)
{
	if (r == NULL || --r->open > 0)
		return;
	r->done(err_is_set(&r->e) ? &r->e : NULL, r->arg);
	free(r);
}

static void delete_work(void *arg)
{
	struct entry *en = arg;
	int r = file_sync_dir(en->m->snapshots_fd);

	if (r == 0)
		r = file_remove_tree_at(en->m->snapshots_fd, en->dir);
	en->result = r;
	if (r < 0)
		err_errno(&en->op.err, -r, "remove snapshot %s:%s", en->s.id.name, en->s.id.tag);
}

static void delete_done(void *arg)
{
	struct entry *en = arg;
	struct manager *m = en->m;

	if (en->result < 0) {
		log_error("snapshot.remove_failed", kv_str("error", en->op.err.msg));
		if (en->removal != NULL && !err_is_set(&en->removal->e))
			en->removal->e = en->op.err;
	} else {
		log_info("snapshot.removed", kv_str("name", en->s.id.name),
			 kv_str("tag", en->s.id.tag));
	}
	removal_end(en->removal);
	entry_free(en);
	m->n_busy--;
	manager_operation_ended(m);
}

static void delete_files(struct entry *en)
{
	op_init(&en->op, 0, -1);
	work_submit(en->m->loop, delete_work, delete_done, en);
}

/* It lies in snapshots/@dir by now, and nobody finds it any more. */
static void retire(struct entry *en, const char *dir, struct removal *removal)
{
	take_out(en->m->snapshots, en);
	str_copy(en->dir, sizeof(en->dir), dir);
	en->retired = true;
	en->removal = removal;
	en->m->n_busy++;
	if (en->users == 0)
		delete_files(en);
}

const struct snapshot *snapshots_settle(struct manager *m, const struct snapshot_draft *draft,
					bool made)
{
	struct snapshots *t = m->snapshots;
	struct entry *old = find(t, &draft->info.id);
	struct entry *en;

	unreserve(t, &draft->info.id);
	if (!made)
		return NULL;
	if (draft->replaced && old != NULL)
		retire(old, draft->stage, NULL);
	en = entry_open(m, &draft->info.id);
	insert(t, en);
	return &en->s;
}

int snapshot_hold(const struct snapshot *s)
{
	struct entry *en = entry_of(s);

	en->users++;
	return en->dirfd;
}

void snapshot_let_go(const struct snapshot *s)
{
	struct entry *en = entry_of(s);

	if (--en->users == 0 && en->retired)
		delete_files(en);
}

static bool is_meant(const struct entry *en, const struct snapshot_name *wanted)
{
	return streq(en->s.id.name, wanted->name) &&
	       (wanted->tag[0] == '\0' || streq(en->s.id.tag, wanted->tag));
}

static int check_removal(const struct manager *m, const struct snapshot_name *wanted, size_t *out_n,
			 struct err *e)
{
	const struct snapshots *t = m->snapshots;
	int r = manager_check_open(m, e);

	*out_n = 0;
	if (r < 0)
		return r;
	vec_foreach (en, &t->all) {
		if (!is_meant(*en, wanted))
			continue;
		if (is_making(t, &(*en)->s.id))
			return refuse_making(&(*en)->s.id, e);
		(*out_n)++;
	}
	if (*out_n > 0)
		return 0;
	return err_set(e, ERR_NOT_FOUND, "snapshot '%s%s%s' not found", wanted->name,
		       wanted->tag[0] != '\0' ? ":" : "", wanted->tag);
}

/* Takes its name away. Return: 0; -errno with @e set. */
static int take_name(struct entry *en, struct removal *removal, struct err *e)
{
	char random[RANDOM_CHARS + 1];
	char gone[SNAPSHOT_DIR_SIZE];
	int dir = en->m->snapshots_fd;

	random_hex(random, RANDOM_CHARS);
	ignore_err(str_fit(gone, sizeof(gone), SNAPSHOT_GONE "%s", random)); /* fits */
	if (renameat(dir, en->dir, dir, gone) < 0)
		return err_errno(e, errno, "remove snapshot %s", en->dir);
	removal->open++;
	retire(en, gone, removal);
	return 0;
}

int snapshot_remove_start(struct manager *m, const char *text,
			  void (*done)(const struct err *e, void *arg), void *arg, struct err *e)
{
	struct snapshot_name wanted;
	struct removal *removal;
	size_t n = 0;
	int r = snapshot_name_parse(text, &wanted, e);

	if (r == 0)
		r = check_removal(m, &wanted, &n, e);
	if (r < 0)
		return r;
	removal = xcalloc(1, sizeof(*removal));
	*removal = (struct removal){ .open = 1, .done = done, .arg = arg };
	for (size_t i = m->snapshots->all.n; i-- > 0 && r == 0;) {
		if (is_meant(m->snapshots->all.at[i], &wanted))
			r = take_name(m->snapshots->all.at[i], removal, e);
	}
	if (r < 0 && removal->open == 1) {
		free(removal);
		return r;
	}
	if (r < 0)
		removal->e = *e; /* some go, and then it is told */
	removal_end(removal);
	return 0;
}
