/* SPDX-License-Identifier: Apache-2.0 */
#include "base/dir.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "template/cache.h"
#include "template/template.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static int compare_names(const void *a, const void *b)
{
	const struct template *x = a;
	const struct template *y = b;

	return strcmp(x->name, y->name);
}

int template_list(const char *state_dir, struct templates *out, struct err *e)
{
	auto_free char *path = str_printf("%s/templates", state_dir);
	auto_dir *d = NULL;
	const struct dirent *entry;
	struct template t;
	int r = dir_open_at(AT_FDCWD, path, 0, &d);

	if (r == -ENOENT)
		return 0;
	while (r >= 0 && (r = dir_next(d, &entry)) > 0) {
		if (name_valid(entry->d_name) &&
		    template_open(state_dir, entry->d_name, &t, NULL) == 0)
			templates_push(out, t);
	}
	if (r < 0)
		return err_errno(e, -r, "read %s", path);
	if (out->n > 1)
		qsort(out->at, out->n, sizeof(out->at[0]), compare_names);
	return 0;
}

/* Takes the name away, under the lock that builds hold, so that none is under way. */
static int unlink_name(const char *state_dir, const char *name, struct err *e)
{
	auto_free char *path = str_printf("%s/templates/%s", state_dir, name);
	auto_free char *lock_path = str_printf("%s/templates/.%s.lock", state_dir, name);
	auto_close int lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (lock < 0)
		return err_errno(e, errno, "open %s", lock_path);
	if (flock(lock, LOCK_EX | LOCK_NB) < 0)
		return err_set(e, ERR_CONFLICT, "template %s is being built; try again", name);
	return unlink(path) < 0 ? err_errno(e, errno, "remove %s", path) : 0;
}

int template_remove(const char *state_dir, const char *name, struct err *e)
{
	auto_free char *path = str_printf("%s/templates/%s", state_dir, name);
	char version[NAME_MAX + 1];
	struct cache_item item = { .kind = CACHE_TEMPLATE };
	ssize_t n = readlink(path, version, sizeof(version) - 1);
	int r;

	if (n < 0)
		return errno == ENOENT ? err_set(e, ERR_NOT_FOUND, "no template %s", name)
				       : err_errno(e, errno, "remove template %s", name);
	version[n] = '\0';
	r = unlink_name(state_dir, name, e);
	if (r < 0)
		return r;
	item.name = str_dup(version);
	r = cache_discard(state_dir, &item, e);
	if (r == 0)
		r = cache_delete(state_dir, &item, e);
	free(item.name);
	free(item.needed);
	return MIN(r, 0);
}
