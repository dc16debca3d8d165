/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/upload.h"

#include "agent/agent.h"
#include "agent/files-write.h"
#include "agent/gunzip.h"
#include "agent/multipart.h"
#include "agent/path.h"
#include "agent/text.h"
#include "base/str.h"
#include "base/vec.h"

#include <errno.h>
#include <stdlib.h>
#include <strings.h>

enum { UPLOAD_FILES_MAX = 4096 };

static const char multipart_type[] = "multipart/";
static const char stream_type[] = "application/octet-stream";

VEC_DEFINE(paths, char *)

struct upload {
	const struct files_request *request;
	const struct metadata_items *metadata;
	char *workdir;            /* of the sandbox when the upload began; NULL = none */
	struct gunzip *gunzip;    /* NULL = the body comes as it is */
	struct multipart *parts;  /* NULL = the body is the file */
	struct files_writer file; /* the current one, if it is open */
	struct paths written;
};

static bool has_type(const char *value, const char *type)
{
	return value != NULL && strncasecmp(value, type, strlen(type)) == 0;
}

static int set_encoding(struct upload *u, const char *value, struct files_error *e)
{
	if (value == NULL || value[0] == '\0' || strcasecmp(value, "identity") == 0)
		return 0;
	if (strcasecmp(value, "gzip") != 0 && strcasecmp(value, "x-gzip") != 0)
		return files_error_set(
			e, 400, "unsupported Content-Encoding '%.64s': send gzip or none", value);
	u->gunzip = gunzip_new();
	return u->gunzip != NULL ? 0 : files_error_set(e, 503, "out of memory");
}

static int set_type(struct upload *u, const char *value, struct files_error *e)
{
	if (has_type(value, stream_type)) {
		if (u->request->path == NULL)
			return files_error_set(e, 400,
					       "query parameter 'path' is needed for a body of %s",
					       stream_type);
		return 0;
	}
	if (!has_type(value, multipart_type))
		return files_error_set(e, 400,
				       "unsupported Content-Type '%.128s': send "
				       "multipart/form-data or %s",
				       value != NULL ? value : "", stream_type);
	u->parts = xcalloc(1, sizeof(*u->parts));
	if (multipart_init(u->parts, value) < 0)
		return files_error_set(e, 400, "Content-Type '%.128s' has no usable boundary",
				       value);
	return 0;
}

int upload_new(const struct agent *a, const struct http_head *head,
	       const struct files_request *request, const struct metadata_items *metadata,
	       struct upload **out, struct files_error *e)
{
	struct upload *u = xcalloc(1, sizeof(*u));

	u->request = request;
	u->metadata = metadata;
	u->file = (struct files_writer)FILES_WRITER_INIT;
	if (a->identity.default_workdir != NULL)
		u->workdir = str_dup(a->identity.default_workdir);
	if (set_encoding(u, http_head_get(head, "Content-Encoding"), e) < 0 ||
	    set_type(u, http_head_get(head, "Content-Type"), e) < 0) {
		upload_free(u);
		return -EPROTO;
	}
	*out = u;
	return 0;
}

static int check_new(const struct upload *u, const char *path, struct files_error *e)
{
	if (u->written.n >= UPLOAD_FILES_MAX)
		return files_error_set(e, 400, "more than %d files in one upload",
				       UPLOAD_FILES_MAX);
	vec_foreach (at, &u->written)
		if (streq(*at, path))
			return files_error_set(
				e, 400, "more than one file for path '%.400s' in one upload", path);
	return 0;
}

static int open_file(struct upload *u, const char *given, struct files_error *e)
{
	char path[PATH_MAX];
	int r = path_resolve(given, u->request->user.home, u->workdir, path);

	if (r < 0)
		return files_error_set(e, 400, "invalid path '%.128s'", given);
	if (check_new(u, path, e) < 0 ||
	    files_writer_open(&u->file, path, &u->request->user, u->metadata, e) < 0)
		return -EPROTO;
	paths_push(&u->written, str_dup(path));
	return 0;
}

/* The headers of a part are there: parts that are not named "file" are passed over. */
static int begin_part(struct upload *u, struct files_error *e)
{
	auto_free char *name = NULL;
	auto_free char *filename = NULL;
	const char *path = u->request->path;

	if (multipart_param(u->parts, "name", &name) < 0 ||
	    multipart_param(u->parts, "filename", &filename) < 0)
		return files_error_set(e, 503, "out of memory");
	if (name == NULL || !streq(name, "file"))
		return 0;
	if (path == NULL || path[0] == '\0')
		path = filename;
	if (path == NULL || path[0] == '\0')
		return files_error_set(e, 400,
				       "the path is given neither by the query nor by a filename");
	return open_file(u, path, e);
}

static int bad_multipart(int r, struct files_error *e)
{
	if (r == -EMSGSIZE)
		return files_error_set(e, 400, "headers of a part are larger than %d bytes",
				       MULTIPART_HEAD_MAX);
	if (r == -ENOMEM)
		return files_error_set(e, 503, "out of memory");
	return files_error_set(e, 400, "malformed multipart body");
}

static int feed_parts(struct upload *u, const char *p, size_t n, struct files_error *e)
{
	const char *data = NULL;
	size_t len = 0;
	int r = 0;

	while (r == 0 && n > 0) {
		int event = multipart_next(u->parts, &p, &n, &data, &len);

		if (event < 0)
			return bad_multipart(event, e);
		if (event == MULTIPART_PART)
			r = begin_part(u, e);
		else if (event == MULTIPART_DATA && u->file.fd >= 0)
			r = files_writer_add(&u->file, data, len, e);
		else if (event == MULTIPART_DONE && u->file.fd >= 0)
			r = files_writer_close(&u->file, e);
	}
	return r;
}

/* Bytes as the client meant them. */
static int feed_plain(struct upload *u, const char *p, size_t n, struct files_error *e)
{
	if (u->parts != NULL)
		return feed_parts(u, p, n, e);
	if (u->file.fd < 0 && open_file(u, u->request->path, e) < 0)
		return -EPROTO;
	return files_writer_add(&u->file, p, n, e);
}

static int feed_gzip(struct upload *u, const char *p, size_t n, struct files_error *e)
{
	const char *out;
	size_t len;
	int r;

	do {
		r = gunzip_next(u->gunzip, &p, &n, &out, &len);
		if (r == -ENOMEM)
			return files_error_set(e, 503, "out of memory");
		if (r < 0)
			return files_error_set(e, 400, "the body is damaged or no gzip");
		r = len > 0 ? feed_plain(u, out, len, e) : 0;
	} while (r == 0 && len > 0);
	return r;
}

int upload_feed(struct upload *u, const char *p, size_t n, struct files_error *e)
{
	return u->gunzip != NULL ? feed_gzip(u, p, n, e) : feed_plain(u, p, n, e);
}

static int check_complete(const struct upload *u, struct files_error *e)
{
	if (u->gunzip != NULL && !gunzip_is_complete(u->gunzip))
		return files_error_set(e, 400, "the gzip body is incomplete");
	if (u->parts != NULL && !multipart_is_complete(u->parts))
		return files_error_set(e, 400, "the multipart body is incomplete");
	if (u->parts != NULL && u->written.n == 0)
		return files_error_set(e, 400, "the multipart body has no part named 'file'");
	return 0;
}

static json_t *file_json(const char *path, const struct metadata_items *metadata)
{
	json_t *json = json_pack("{s:o, s:o, s:s}", "path", text_json(path), "name",
				 text_json(path_name(path)), "type", "file");

	if (metadata->n > 0)
		ignore_err(json_object_set_new(json, "metadata", metadata_json(metadata)));
	return json; /* without memory it is NULL, which no list takes */
}

int upload_finish(struct upload *u, json_t **out, struct files_error *e)
{
	json_t *list;

	if (check_complete(u, e) < 0)
		return -EPROTO;
	/* Nothing came: an empty file. */
	if (u->parts == NULL && u->written.n == 0 && open_file(u, u->request->path, e) < 0)
		return -EPROTO;
	if (u->file.fd >= 0 && files_writer_close(&u->file, e) < 0)
		return -EPROTO;
	list = json_array();
	vec_foreach (path, &u->written)
		ignore_err(json_array_append_new(list, file_json(*path, u->metadata)));
	*out = list;
	return 0;
}

void upload_free(struct upload *u)
{
	if (u == NULL)
		return;
	files_writer_done(&u->file);
	if (u->parts != NULL)
		multipart_done(u->parts);
	free(u->parts);
	gunzip_free(u->gunzip);
	vec_foreach (path, &u->written)
		free(*path);
	paths_done(&u->written);
	free(u->workdir);
	free(u);
}
