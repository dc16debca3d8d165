/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/leaks.h"

#include "base/dir.h"
#include "base/fd.h"
#include "base/file.h"
#include "net/net.h"
#include "os/cgroup.h"
#include "os/link.h"
#include "os/netns.h"
#include "os/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mntent.h>
#include <stdlib.h>
#include <unistd.h>

enum { PROCS_MAX = 1 << 20, TABLES_MAX = 1 << 20, MOUNT_LINE_MAX = 8192 };

const char *thing_kind_name(enum thing_kind kind)
{
	static const char *const names[] = {
		[THING_CGROUP] = "cgroup",      [THING_PROCESS] = "process",
		[THING_LINK] = "link",          [THING_NETNS] = "netns",
		[THING_MOUNT] = "mount",        [THING_LOOP] = "loop",
		[THING_TABLE] = "nft table",    [THING_RUN_DIRECTORY] = "run directory",
		[THING_CGROUP_ROOT] = "cgroup", [THING_DATA] = "data",
	};
	static_assert(ARRAY_SIZE(names) == THING_N, "each kind has a name");

	return names[kind];
}

static void thing_done(struct thing *t)
{
	free(t->name);
	free(t->detail);
	free(t->error);
}

void things_free(struct things *list)
{
	vec_foreach (t, list)
		thing_done(t);
	things_done(list);
}

void things_drop(struct things *list, size_t at)
{
	thing_done(&list->at[at]);
	list->n--;
	memmove(&list->at[at], &list->at[at + 1], (list->n - at) * sizeof(list->at[0]));
}

const struct intent *intents_find(const struct intents *intents, const struct sandbox_id *id)
{
	vec_foreach (i, intents) {
		if (id_equal(&i->id, id))
			return i;
	}
	return NULL;
}

/* A look under way. */
struct look {
	const struct instance_view *view;
	const struct intents *before;
	struct things *out;
	char prefix[16]; /* of the names that are looked for */
};

/* @id_text: where the id of the thing's owner stands; no id: nobody's. */
static struct thing *found(struct look *l, enum thing_kind kind, const char *name,
			   const char *id_text)
{
	struct thing t = { .kind = kind, .name = str_dup(name) };

	if (id_parse(id_text, &t.id) < 0)
		t.id.s[0] = '\0';
	things_push(l->out, t);
	return &l->out->at[l->out->n - 1];
}

/* Names that are ids, in a directory. Return: 0 (also without one); -errno. */
static int look_directory(struct look *l, int dirfd, enum thing_kind kind)
{
	auto_dir *d = NULL;
	const struct dirent *entry;
	struct sandbox_id id;
	int r;

	if (dirfd < 0)
		return 0;
	r = dir_open_at(dirfd, ".", 0, &d);
	if (r < 0)
		return r;
	while ((r = dir_next(d, &entry)) > 0) {
		if (id_parse(entry->d_name, &id) == 0)
			found(l, kind, entry->d_name, entry->d_name);
	}
	return r;
}

static int see_cgroup(const char *name, void *arg)
{
	struct look *l = arg;
	struct thing *t = found(l, THING_CGROUP, name, name);
	int pid = cgroup_first_pid(l->view->cgroup_fd, name);

	if (pid > 0)
		t->detail = str_printf("process %d is in it", pid);
	return 0;
}

/* No process of ours is born there. */
static int look_processes(struct look *l)
{
	auto_buf procs = BUF_INIT(PROCS_MAX);
	int r = file_read_at(l->view->cgroup_fd, "cgroup.procs", &procs);
	char *rest = NULL;
	const char *pid;

	if (r < 0)
		return r;
	if (*buf_str(&procs) != '\0')
		rest = buf_head(&procs);
	while (rest != NULL && (pid = strsep(&rest, "\n")) != NULL) {
		if (pid[0] != '\0')
			found(l, THING_PROCESS, pid, "");
	}
	return 0;
}

static int look_cgroups(struct look *l)
{
	auto_free char *name = str_printf("vivarium-%s", l->view->tag.s);
	int r;

	if (l->view->cgroup_fd < 0)
		return 0;
	r = cgroup_list(l->view->cgroup_fd, see_cgroup, l);
	if (r == 0)
		r = look_processes(l);
	if (r == 0)
		found(l, THING_CGROUP_ROOT, name, "");
	/* It was removed while it was open. */
	return r == -ENOENT || r == -ENODEV ? 0 : r;
}

static int see_link(const struct link_info *link, void *arg)
{
	struct look *l = arg;
	struct thing *t;

	if (!str_starts(link->name, l->prefix))
		return 0;
	t = found(l, THING_LINK, link->name, link->alias);
	t->of_network = net_slot_named(l->view->net, link->name);
	if (link->alias[0] != '\0')
		t->detail = str_printf("alias %s", link->alias);
	return 0;
}

static int see_netns(const char *name, void *arg)
{
	struct look *l = arg;
	struct thing *t;

	if (!str_starts(name, l->prefix) || doctor_probe_alive(name, &l->view->tag))
		return 0;
	t = found(l, THING_NETNS, name, "");
	t->of_network = net_slot_named(l->view->net, name);
	return 0;
}

static struct thing *find_thing(const struct things *list, enum thing_kind kind, const char *name)
{
	vec_foreach (t, list) {
		if (t->kind == kind && streq(t->name, name))
			return t;
	}
	return NULL;
}

static bool known_before(const struct sandbox_id *id, void *arg)
{
	const struct look *l = arg;

	return intents_find(l->before, id) != NULL;
}

/* Neither the pool's, nor being made or removed right now, nor of an intent from before. */
static void see_unowned_slot(const struct net_slot *slot, void *arg)
{
	struct look *l = arg;
	struct thing *link = find_thing(l->out, THING_LINK, slot->link);
	struct thing *netns = find_thing(l->out, THING_NETNS, slot->netns);

	if (link != NULL)
		link->of_network = false;
	if (netns != NULL)
		netns->of_network = false;
	if (link != NULL && netns != NULL)
		netns->id = link->id;
}

static int look_network(struct look *l, struct op *op)
{
	auto_close int nl = netns_rtnl(-1);
	int r = nl;

	snprintf(l->prefix, sizeof(l->prefix), "viv%s-", l->view->tag.s);
	if (r >= 0)
		r = link_list(nl, see_link, l);
	if (r < 0)
		return err_errno(&op->err, -r, "list the links of %s", l->view->tag.s);
	snprintf(l->prefix, sizeof(l->prefix), "viv-%s-", l->view->tag.s);
	r = netns_list(see_netns, l);
	if (r < 0)
		return err_errno(&op->err, -r, "list the namespaces of %s", l->view->tag.s);
	r = net_survey(l->view->net, known_before, see_unowned_slot, l, op);
	return MIN(r, 0);
}

/* What follows "<dir>/" in a path; NULL when it does not lie below. */
static const char *below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && path[n] == '/' && path[n + 1] != '\0' ? path + n + 1
										   : NULL;
}

/* Where the sandboxes' own directories are, without links in it. */
struct roots {
	char *sandboxes; /* owned; "" = there is none */
	char *run;
};

static void roots_done(struct roots *roots)
{
	free(roots->sandboxes);
	free(roots->run);
}

static char *real_path(const char *path)
{
	char *real = realpath(path, NULL);

	return real != NULL ? real : str_dup("");
}

static void roots_init(struct roots *roots, const struct instance_view *view)
{
	auto_free char *sandboxes = str_printf("%s/sandboxes", view->state_dir);

	roots->sandboxes = real_path(sandboxes);
	roots->run = real_path(view->run_dir);
}

/* Whether a path lies in one of the two; @id gets the name directly below. */
static bool within(const struct roots *roots, const char *path, char id[NAME_MAX + 1])
{
	const char *rest = roots->run[0] != '\0' ? below(path, roots->run) : NULL;

	if (rest == NULL && roots->sandboxes[0] != '\0')
		rest = below(path, roots->sandboxes);
	if (rest == NULL)
		return false;
	str_copy(id, MIN(strcspn(rest, "/") + 1, (size_t)NAME_MAX + 1), rest);
	return true;
}

static void close_mounts(FILE **f)
{
	if (*f != NULL)
		endmntent(*f);
}

static int look_mounts(struct look *l, const struct roots *roots)
{
	cleanup(close_mounts) FILE *f = setmntent("/proc/self/mounts", "re");
	char strings[MOUNT_LINE_MAX];
	char id[NAME_MAX + 1];
	struct mntent m;

	if (f == NULL)
		return -errno;
	while (getmntent_r(f, &m, strings, sizeof(strings)) != NULL) {
		/* The cgroup hierarchy that vivd mounts stays for the host's life. */
		if (!within(roots, m.mnt_dir, id) || streq(m.mnt_type, "cgroup2"))
			continue;
		found(l, THING_MOUNT, m.mnt_dir, id)->detail = str_printf("of %s", m.mnt_fsname);
	}
	return 0;
}

static void see_loop(struct look *l, const struct roots *roots, const char *device)
{
	auto_free char *path = str_printf("/sys/block/%s/loop/backing_file", device);
	auto_buf file = BUF_INIT(PATH_MAX + 32);
	char id[NAME_MAX + 1];

	if (file_read_at(AT_FDCWD, path, &file) < 0 || file.len == 0)
		return;                       /* no loop, or not in use */
	buf_head(&file)[file.len - 1] = '\0'; /* the newline */
	if (within(roots, buf_head(&file), id))
		found(l, THING_LOOP, device, id)->detail = str_printf("of %s", buf_head(&file));
}

static int look_loops(struct look *l, const struct roots *roots)
{
	auto_dir *d = NULL;
	const struct dirent *entry;
	int r = dir_open_at(AT_FDCWD, "/sys/block", 0, &d);

	if (r < 0)
		return r;
	while ((r = dir_next(d, &entry)) > 0) {
		if (str_starts(entry->d_name, "loop"))
			see_loop(l, roots, entry->d_name);
	}
	return r;
}

static int look_table(struct look *l, struct op *op)
{
	static const char *const argv[] = { "nft", "list", "tables", "inet", NULL };
	auto_free char *name = str_printf("vivarium_%s", l->view->tag.s);
	auto_free char *line = str_printf("table inet %s\n", name);
	auto_buf tables = BUF_INIT(TABLES_MAX);
	struct op child = op_child(op, DOCTOR_PROBE_TIMEOUT_MS);

	if (spawn_run(argv, NULL, &tables, &child) < 0) {
		op->err = child.err;
		return err_wrap(&op->err, "list the nft tables");
	}
	if (strstr(buf_str(&tables), line) != NULL)
		found(l, THING_TABLE, name, "");
	return 0;
}

static int look_files(struct look *l, struct op *op)
{
	cleanup(roots_done) struct roots roots = { NULL, NULL };
	int r;

	roots_init(&roots, l->view);
	r = look_mounts(l, &roots);
	if (r == 0)
		r = look_loops(l, &roots);
	if (r == 0)
		r = look_directory(l, l->view->run_fd, THING_RUN_DIRECTORY);
	if (r == 0)
		r = look_directory(l, l->view->sandboxes_fd, THING_DATA);
	return r < 0 ? err_errno(&op->err, -r, "look for what is left of %s", l->view->tag.s) : 0;
}

static int by_kind(const void *a, const void *b)
{
	const struct thing *one = a;
	const struct thing *two = b;

	if (one->kind != two->kind)
		return one->kind < two->kind ? -1 : 1;
	return strverscmp(one->name, two->name);
}

int leaks_look(const struct instance_view *view, const struct intents *before, struct things *out,
	       struct op *op)
{
	struct look l = { .view = view, .before = before, .out = out };
	int r = look_cgroups(&l);

	if (r < 0)
		return err_errno(&op->err, -r, "look into the cgroup of %s", view->tag.s);
	r = look_network(&l, op);
	if (r == 0)
		r = look_files(&l, op);
	/* While a daemon serves, the table is its own, and the program may be missing. */
	if (r == 0 && !view->served)
		r = look_table(&l, op);
	if (out->n > 0)
		qsort(out->at, out->n, sizeof(out->at[0]), by_kind);
	return r;
}

static bool is_shared(enum thing_kind kind)
{
	return kind == THING_TABLE || kind == THING_CGROUP_ROOT;
}

static bool has_owner(const struct instance_view *view, const struct intents *intents,
		      const struct thing *t)
{
	if (is_shared(t->kind))
		return view->served || intents->n > 0;
	return t->of_network || (t->id.s[0] != '\0' && intents_find(intents, &t->id) != NULL);
}

void leaks_keep(const struct instance_view *view, const struct intents *intents,
		struct things *list)
{
	for (size_t i = list->n; i-- > 0;) {
		if (has_owner(view, intents, &list->at[i]))
			things_drop(list, i);
	}
}

static void free_things(struct things *list)
{
	things_free(list);
}

int leaks_confirm(const struct instance_view *view, const struct intents *intents, bool fixed,
		  struct things *list, struct op *op)
{
	cleanup(free_things) struct things now = { 0 };
	int r = leaks_look(view, intents, &now, op);

	if (r < 0)
		return r;
	leaks_keep(view, intents, &now);
	for (size_t i = list->n; i-- > 0;) {
		struct thing *t = &list->at[i];

		t->gone = find_thing(&now, t->kind, t->name) == NULL;
		if (t->gone && !fixed)
			things_drop(list, i);
	}
	return 0;
}
