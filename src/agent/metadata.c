/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/metadata.h"

#include "agent/text.h"
#include "base/str.h"
#include "http/codec.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/xattr.h>

enum {
	KEY_MAX = 246,       /* with the prefix it is what the kernel allows for a name */
	METADATA_MAX = 4096, /* bytes of all names and values */
	NAME_SIZE = 256,
};

static const char header_prefix[] = "X-Metadata-";
static const char prefix[] = "user.e2b.";

static bool is_printable(const char *s)
{
	for (; *s != '\0'; s++)
		if (*s < ' ' || *s > '~')
			return false;
	return true;
}

static bool has_key(const struct metadata_items *items, const char *key)
{
	vec_foreach (item, items)
		if (strcasecmp(item->key, key) == 0)
			return true;
	return false;
}

static char *lower_case(const char *s)
{
	char *copy = str_dup(s);

	for (char *p = copy; *p != '\0'; p++)
		*p = (char)tolower((unsigned char)*p);
	return copy;
}

/* Return: the bytes that it counts for; -EPROTO with @e set. */
static int check_item(const char *key, const char *value, struct files_error *e)
{
	size_t n = strlen(key);

	if (n == 0)
		return files_error_set(e, 400, "header %s has no key", header_prefix);
	if (n > KEY_MAX)
		return files_error_set(e, 400, "metadata key '%.32s…' is longer than %d bytes", key,
				       KEY_MAX);
	if (!is_printable(key) || !is_printable(value))
		return files_error_set(e, 400, "metadata '%.128s' is not printable ASCII", key);
	return (int)(strlen(prefix) + n + strlen(value));
}

int metadata_parse(const struct http_head *head, struct metadata_items *out, struct files_error *e)
{
	int total = 0;

	for (size_t i = 0; i < head->n_headers; i++) {
		const struct http_header *h = &head->headers[i];
		const char *key = h->name + strlen(header_prefix);
		int n;

		if (strncasecmp(h->name, header_prefix, strlen(header_prefix)) != 0 ||
		    has_key(out, key))
			continue;
		n = check_item(key, h->value, e);
		if (n < 0)
			return n;
		total += n;
		if (total > METADATA_MAX)
			return files_error_set(e, 400, "metadata is larger than %d bytes",
					       METADATA_MAX);
		metadata_items_push(out,
				    (struct metadata_item){ lower_case(key), str_dup(h->value) });
	}
	return 0;
}

/* The names of a file's attributes, each with a NUL. Return: bytes of them; -errno. */
static ssize_t list_names(int fd, const char *path, char **out)
{
	ssize_t n = fd >= 0 ? flistxattr(fd, NULL, 0) : listxattr(path, NULL, 0);
	auto_free char *names = NULL;

	if (n <= 0)
		return n < 0 ? -errno : 0;
	names = malloc((size_t)n);
	if (names == NULL)
		return -ENOMEM;
	n = fd >= 0 ? flistxattr(fd, names, (size_t)n) : listxattr(path, names, (size_t)n);
	if (n < 0)
		return -errno;
	*out = take_ptr(&names);
	return n;
}

static int remove_all(int fd)
{
	auto_free char *names = NULL;
	ssize_t n = list_names(fd, NULL, &names);

	if (n < 0)
		return n == -ENOTSUP ? 0 : (int)n;
	for (const char *name = names; name < names + n; name += strlen(name) + 1)
		if (str_starts(name, prefix) && fremovexattr(fd, name) < 0 && errno != ENODATA)
			return -errno;
	return 0;
}

static int store_one(int fd, const struct metadata_item *item)
{
	char name[NAME_SIZE];
	int r = str_fit(name, sizeof(name), "%s%s", prefix, item->key);

	if (r < 0)
		return r;
	return fsetxattr(fd, name, item->value, strlen(item->value), 0) < 0 ? -errno : 0;
}

int metadata_store(int fd, const char *path, const struct metadata_items *items,
		   struct files_error *e)
{
	int r = remove_all(fd);

	vec_foreach (item, items) {
		if (r == 0)
			r = store_one(fd, item);
	}
	if (r == -ENOTSUP)
		return files_error_set(e, 400, "the file system of '%.400s' keeps no metadata",
				       path);
	return r < 0 ? files_error_errno(e, -r, "store the metadata of", path) : 0;
}

json_t *metadata_json(const struct metadata_items *items)
{
	json_t *json = json_object();

	vec_foreach (item, items)
		ignore_err(json_object_set_new(json, item->key, text_json(item->value)));
	return json; /* without memory the reply as a whole is not made */
}

/* Adds one attribute. Return: bytes that its value has; 0 if it is none of ours. */
static size_t read_one(const char *path, const char *name, json_t *json)
{
	char value[METADATA_MAX + 1];
	ssize_t n;

	if (!str_starts(name, prefix))
		return 0;
	n = getxattr(path, name, value, sizeof(value) - 1);
	if (n < 0)
		return 0;
	value[n] = '\0';
	/* A key that is no UTF-8 is none that a client has set. */
	ignore_err(json_object_set_new(json, name + strlen(prefix), text_json(value)));
	return (size_t)n;
}

json_t *metadata_read(const char *path)
{
	auto_free char *names = NULL;
	ssize_t n = list_names(-1, path, &names);
	size_t total = 0;
	json_t *json;

	if (n <= 0)
		return NULL;
	json = json_object();
	for (const char *name = names; name < names + n && total <= METADATA_MAX;
	     name += strlen(name) + 1)
		total += read_one(path, name, json);
	if (json_object_size(json) > 0)
		return json;
	json_decref(json);
	return NULL;
}

void metadata_done(struct metadata_items *items)
{
	vec_foreach (item, items) {
		free(item->key);
		free(item->value);
	}
	metadata_items_done(items);
}
