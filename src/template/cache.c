/* SPDX-License-Identifier: Apache-2.0 */
#include "template/cache.h"

#include "base/dir.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/id.h"
#include "base/str.h"
#include "base/tree.h"
#include "template/kernel-internal.h"
#include "template/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RANDOM_CHARS = 12 };

static const char elsewhere[] = "its directory is a link: others may use it";
static const char being_built[] = "it is being built";

const char *cache_kind_name(enum cache_kind kind)
{
	static const char *const names[] = {
		[CACHE_KERNEL] = "kernel",
		[CACHE_INITRAMFS] = "initramfs",
		[CACHE_TEMPLATE] = "template",
		[CACHE_TEMPORARY] = "temporary",
	};
	static_assert(ARRAY_SIZE(names) == CACHE_KIND_N, "each kind has a name");

	return names[kind];
}

void cache_items_free(struct cache_items *items)
{
	vec_foreach (item, items) {
		free(item->name);
		free(item->needed);
	}
	cache_items_done(items);
}

void cache_need(struct cache_item *item, const char *fmt, ...)
{
	char why[256];
	va_list ap;

	if (item->needed != NULL)
		return;
	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	item->needed = str_dup(why);
}

/* A list under way. */
struct listing {
	const char *state_dir;
	struct cache_items *out;
	struct op *op;
	char newest[KERNEL_VERSION_SIZE];    /* "" = there is no kernel */
	char current[KERNEL_INITRAMFS_SIZE]; /* name of the initramfs images that are; "" = unknown
					      */
	bool linked;                         /* the directory that is read is a link to elsewhere */
};

/* Adds what lies at a path below the state directory. Return: its item; NULL when it is gone, or
 * with op->err set. */
static struct cache_item *add(struct listing *l, enum cache_kind kind, const char *name,
			      const char *path)
{
	auto_free char *full = str_printf("%s/%s", l->state_dir, path);
	struct cache_item item = { .kind = kind };
	int r = tree_allocated(full, &item.bytes);

	if (r < 0) {
		if (r != -ENOENT)
			err_errno(&l->op->err, -r, "count what %s takes", full);
		return NULL;
	}
	item.name = str_dup(name);
	if (l->linked)
		cache_need(&item, "%s", elsewhere);
	cache_items_push(l->out, item);
	return &l->out->at[l->out->n - 1];
}

/* A maker that lives holds a lock on it. */
static bool is_locked(const char *state_dir, const char *path)
{
	auto_free char *full = str_printf("%s/%s", state_dir, path);
	auto_close int fd = open(full, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0;
}

static void add_temporary(struct listing *l, const char *path)
{
	struct cache_item *item = add(l, CACHE_TEMPORARY, path, path);

	if (item != NULL && is_locked(l->state_dir, path))
		cache_need(item, "%s", being_built);
}

/* Calls @fn for each name in a directory below the state directory; one that is not there is
 * empty. Return: 0; -errno with op->err set. */
static int each_name(struct listing *l, const char *dir,
		     void (*fn)(struct listing *l, const char *dir, const char *name))
{
	auto_free char *full = str_printf("%s/%s", l->state_dir, dir);
	auto_dir *d = NULL;
	const struct dirent *entry;
	int r = dir_open_at(AT_FDCWD, full, 0, &d);

	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	while (r >= 0 && !err_is_set(&l->op->err) && (r = dir_next(d, &entry)) > 0)
		fn(l, dir, entry->d_name);
	if (r < 0)
		return err_errno(&l->op->err, -r, "read %s", full);
	return err_is_set(&l->op->err) ? -EIO : 0;
}

static void see_in_kernel(struct listing *l, const char *dir, const char *name)
{
	auto_free char *path = str_printf("%s/%s", dir, name);
	struct cache_item *item;

	if (str_starts(name, KERNEL_INITRAMFS_STAGE)) {
		add_temporary(l, path);
		return;
	}
	if (!str_starts(name, KERNEL_INITRAMFS_PREFIX))
		return;
	item = add(l, CACHE_INITRAMFS, path + strlen("kernels/"), path);
	if (item == NULL)
		return;
	if (l->current[0] == '\0')
		cache_need(item, "the agent cannot be read, whose images are to stay");
	else if (streq(name, l->current))
		cache_need(item, "it carries the agent that is installed");
}

/* What items from a place on take. */
static uint64_t bytes_from(const struct listing *l, size_t from)
{
	uint64_t bytes = 0;

	for (size_t i = from; i < l->out->n; i++)
		bytes += l->out->at[i].bytes;
	return bytes;
}

static void see_kernel(struct listing *l, const char *dir, const char *name)
{
	auto_free char *path = str_printf("%s/%s", dir, name);
	size_t at = l->out->n;
	struct cache_item *item;

	if (str_starts(name, KERNEL_STAGE)) {
		add_temporary(l, path);
		return;
	}
	if (name[0] == '.')
		return;
	item = add(l, CACHE_KERNEL, name, path);
	if (item == NULL)
		return;
	if (streq(name, l->newest))
		cache_need(item, "it is the newest, which new sandboxes boot");
	ignore_err(each_name(l, path, see_in_kernel)); /* op->err says it, and ends the walk */
	l->out->at[at].bytes -= MIN(l->out->at[at].bytes, bytes_from(l, at + 1));
}

/* Whether a name in templates/ is that of a build's stage: ".<template>.build-<random>". */
static bool is_template_stage(const char *name)
{
	return name[0] == '.' && strstr(name, TEMPLATE_STAGE) != NULL;
}

static void see_template(struct listing *l, const char *dir, const char *name)
{
	auto_free char *path = str_printf("%s/%s", dir, name);
	auto_free char *full = str_printf("%s/%s", l->state_dir, path);
	struct cache_item *item;
	struct stat st;

	if (is_template_stage(name)) {
		add_temporary(l, path);
		return;
	}
	if (name[0] == '.' || lstat(full, &st) < 0 || !S_ISDIR(st.st_mode))
		return;
	item = add(l, CACHE_TEMPLATE, name, path);
	if (item != NULL && strchr(name, '@') == NULL)
		cache_need(item, "it is the template itself");
}

/* What a name in templates/ links to is that template's newest version. */
static void see_template_link(struct listing *l, const char *dir, const char *name)
{
	auto_free char *full = str_printf("%s/%s/%s", l->state_dir, dir, name);
	char target[NAME_MAX + 1];
	ssize_t n = readlink(full, target, sizeof(target) - 1);

	if (n < 0)
		return;
	target[n] = '\0';
	vec_foreach (item, l->out) {
		if (item->kind == CACHE_TEMPLATE && streq(item->name, target))
			cache_need(item, "it is what template %s is now", name);
	}
}

static bool is_link(const char *state_dir, const char *name)
{
	auto_free char *path = str_printf("%s/%s", state_dir, name);
	struct stat st;

	return lstat(path, &st) == 0 && S_ISLNK(st.st_mode);
}

int cache_list(const char *state_dir, const char *agent_path, struct cache_items *out,
	       struct op *op)
{
	struct listing l = { .state_dir = state_dir, .out = out, .op = op };
	struct kernel newest;
	int r;

	if (kernel_find(state_dir, NULL, &newest, NULL) == 0)
		str_copy(l.newest, sizeof(l.newest), newest.version);
	if (kernel_initramfs_name(agent_path, l.current, NULL) < 0)
		l.current[0] = '\0';
	l.linked = is_link(state_dir, "kernels");
	r = each_name(&l, "kernels", see_kernel);
	l.linked = is_link(state_dir, "templates");
	if (r == 0)
		r = each_name(&l, "templates", see_template);
	return r < 0 ? r : each_name(&l, "templates", see_template_link);
}

/* The name of the stage that an item becomes, below the state directory. */
static char *stage_path(const struct cache_item *item)
{
	char random[RANDOM_CHARS + 1];
	const char *end;

	random_hex(random, RANDOM_CHARS);
	switch (item->kind) {
	case CACHE_KERNEL:
		return str_printf("kernels/" KERNEL_STAGE "%s", random);
	case CACHE_INITRAMFS:
		end = strrchr(item->name, '/');
		return str_printf("kernels/%.*s/" KERNEL_INITRAMFS_STAGE "%s",
				  (int)(end - item->name), item->name, random);
	case CACHE_TEMPLATE:
		end = strchrnul(item->name, '@');
		return str_printf("templates/.%.*s" TEMPLATE_STAGE "%s", (int)(end - item->name),
				  item->name, random);
	case CACHE_TEMPORARY:
	case CACHE_KIND_N:
		break;
	}
	return str_dup(item->name);
}

static int rename_away(const char *state_dir, struct cache_item *item, struct err *e)
{
	const char *dir = item->kind == CACHE_TEMPLATE ? "templates" : "kernels";
	auto_free char *from = str_printf("%s/%s/%s", state_dir, dir, item->name);
	auto_free char *path = stage_path(item);
	auto_free char *to = str_printf("%s/%s", state_dir, path);

	if (rename(from, to) < 0)
		return err_errno(e, errno, "take away %s", from);
	free(item->name);
	item->name = take_ptr(&path);
	return 0;
}

/* Whether a version is what its template's name links to, now. */
static bool is_current(const char *state_dir, const char *version)
{
	auto_free char *link = str_printf("%s/templates/%.*s", state_dir,
					  (int)(strchrnul(version, '@') - version), version);
	char target[NAME_MAX + 1];
	ssize_t n = readlink(link, target, sizeof(target) - 1);

	if (n < 0)
		return false;
	target[n] = '\0';
	return streq(target, version);
}

/* A build holds its lock from before it has a version's directory until that is linked to. */
static int discard_template(const char *state_dir, struct cache_item *item, struct err *e)
{
	auto_free char *lock_path =
		str_printf("%s/templates/.%.*s.lock", state_dir,
			   (int)(strchrnul(item->name, '@') - item->name), item->name);
	auto_close int lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (lock < 0)
		return err_errno(e, errno, "open %s", lock_path);
	if (flock(lock, LOCK_EX | LOCK_NB) < 0) {
		cache_need(item, "a build of this template is under way");
		return 1;
	}
	if (is_current(state_dir, item->name)) {
		cache_need(item, "it is what the template is now");
		return 1;
	}
	return rename_away(state_dir, item, e);
}

int cache_discard(const char *state_dir, struct cache_item *item, struct err *e)
{
	if (item->needed != NULL)
		return 1;
	switch (item->kind) {
	case CACHE_KERNEL:
	case CACHE_INITRAMFS:
		return rename_away(state_dir, item, e);
	case CACHE_TEMPLATE:
		return discard_template(state_dir, item, e);
	case CACHE_TEMPORARY:
	case CACHE_KIND_N:
		break;
	}
	return 0;
}

int cache_delete(const char *state_dir, const struct cache_item *item, struct err *e)
{
	auto_free char *path = str_printf("%s/%s", state_dir, item->name);
	auto_close int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	int r;

	/* Locked as the sweep of stages does it: no other takes it for its own meanwhile. */
	if (fd < 0)
		return errno == ENOENT ? 0 : err_errno(e, errno, "open %s", path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return err_set(e, ERR_CONFLICT, "%s is in use", path);
	r = file_remove_tree_at(AT_FDCWD, path);
	return r < 0 ? err_errno(e, -r, "remove %s", path) : 0;
}

/* Whether what is before a template's directory in a path is where templates are: as seen from
 * anywhere, or from the disk of an image, which is made beside them. */
static bool leads_to_templates(const char *path, size_t n)
{
	static const char dir[] = "/templates/";
	static const char beside[] = "../../";
	const size_t n_dir = sizeof(dir) - 1;

	return (n >= n_dir && memcmp(path + n - n_dir, dir, n_dir) == 0) ||
	       (n == sizeof(beside) - 1 && memcmp(path, beside, n) == 0);
}

int cache_template_of(const char *path, char *out, size_t size)
{
	const char *end = strrchr(path, '/');
	const char *start = end;

	if (end == NULL)
		return -ENOENT;
	while (start > path && start[-1] != '/')
		start--;
	if (start == end || (size_t)(end - start) >= size ||
	    !leads_to_templates(path, (size_t)(start - path)))
		return -ENOENT;
	str_copy(out, (size_t)(end - start) + 1, start);
	return 0;
}
