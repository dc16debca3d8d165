/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/entry.h"

#include "agent/metadata.h"
#include "agent/path.h"
#include "agent/text.h"
#include "base/str.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { PERMISSION_BITS = 0777 };

/* The letters of what a file is, in Go's order. */
static const struct {
	mode_t type;
	const char *letters;
} type_letters[] = {
	{ S_IFDIR, "d" }, { S_IFLNK, "L" },  { S_IFBLK, "D" },
	{ S_IFIFO, "p" }, { S_IFSOCK, "S" }, { S_IFCHR, "Dc" },
};

void entry_permissions(mode_t mode, char out[ENTRY_PERMISSIONS_SIZE])
{
	static const char bits[] = "rwxrwxrwx";
	const char *type = "";
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(type_letters); i++)
		if ((mode & S_IFMT) == type_letters[i].type)
			type = type_letters[i].letters;
	if (type[0] != '\0')
		out[n++] = type[0];
	if (mode & S_ISUID)
		out[n++] = 'u';
	if (mode & S_ISGID)
		out[n++] = 'g';
	if (type[0] != '\0' && type[1] != '\0')
		out[n++] = type[1];
	if (mode & S_ISVTX)
		out[n++] = 't';
	if (n == 0)
		out[n++] = '-';
	for (unsigned i = 0; i < strlen(bits); i++)
		out[n++] = (char)(mode & (0400U >> i) ? bits[i] : '-');
	out[n] = '\0';
}

void entry_time(const struct timespec *t, char out[ENTRY_TIME_SIZE])
{
	struct tm tm;

	out[0] = '\0';
	if (gmtime_r(&t->tv_sec, &tm) == NULL || tm.tm_year < 1 - 1900 || tm.tm_year > 9999 - 1900)
		return;
	snprintf(out, ENTRY_TIME_SIZE, "%04d-%02d-%02dT%02d:%02d:%02d.%09ldZ", tm.tm_year + 1900,
		 tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, t->tv_nsec);
}

static const char *type_name(mode_t mode)
{
	if (S_ISREG(mode))
		return "FILE_TYPE_FILE";
	if (S_ISDIR(mode))
		return "FILE_TYPE_DIRECTORY";
	return S_ISLNK(mode) ? "FILE_TYPE_SYMLINK" : "FILE_TYPE_UNSPECIFIED";
}

/* Where a link leads to in the end; what it says if that is nowhere. New memory; NULL without. */
static char *link_target(const char *path)
{
	char *target = realpath(path, NULL);
	char text[PATH_MAX];
	ssize_t n;

	if (target != NULL)
		return target;
	n = readlink(path, text, sizeof(text) - 1);
	if (n < 0)
		return NULL;
	text[n] = '\0';
	return strdup(text);
}

/* Everything that is said of each file. */
static json_t *common_json(const char *path, const struct stat *st, mode_t mode,
			   struct owners *owners)
{
	char permissions[ENTRY_PERMISSIONS_SIZE];
	char owner[OWNER_NAME_SIZE];
	char group[OWNER_NAME_SIZE];
	char size[24];

	entry_permissions(st->st_mode, permissions);
	owners_user(owners, st->st_uid, owner);
	owners_group(owners, st->st_gid, group);
	snprintf(size, sizeof(size), "%lld", (long long)st->st_size); /* as protobuf's JSON */
	return json_pack("{s:o, s:s, s:o, s:s, s:i, s:s, s:o, s:o}", "name",
			 text_json(path_name(path)), "type", type_name(mode), "path",
			 text_json(path), "size", size, "mode",
			 S_ISLNK(mode) ? 0 : (int)(mode & PERMISSION_BITS), "permissions",
			 permissions, "owner", text_json(owner), "group", text_json(group));
}

int entry_json(const char *path, struct owners *owners, json_t **out)
{
	auto_free char *target = NULL;
	char modified[ENTRY_TIME_SIZE];
	json_t *metadata = NULL;
	struct stat st;
	struct stat at_end;
	json_t *json;

	if (lstat(path, &st) < 0)
		return -errno;
	at_end = st;
	if (S_ISLNK(st.st_mode)) {
		target = link_target(path);
		ignore_err(stat(path, &at_end)); /* a link to nowhere stays one */
	}
	json = common_json(path, &st, at_end.st_mode, owners);
	if (json == NULL)
		return -ENOMEM;
	entry_time(&st.st_mtim, modified);
	if (modified[0] != '\0')
		ignore_err(json_object_set_new(json, "modifiedTime", json_string(modified)));
	if (target != NULL)
		ignore_err(json_object_set_new(json, "symlinkTarget", text_json(target)));
	if (!S_ISLNK(at_end.st_mode))
		metadata = metadata_read(path);
	if (metadata != NULL)
		ignore_err(json_object_set_new(json, "metadata", metadata));
	*out = json; /* what had no memory above is missing, as if it were not there */
	return 0;
}
