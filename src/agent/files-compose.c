/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POST /files/compose: {source_paths, destination, username} makes one file of many and removes
 * these. The new file comes into being under another name beside the destination and takes its
 * place whole, so that a failure leaves everything as it was.
 */
#include "agent/files.h"

#include "agent/agent.h"
#include "agent/caller.h"
#include "agent/dirs.h"
#include "agent/field.h"
#include "agent/files-request.h"
#include "agent/job.h"
#include "agent/path.h"
#include "agent/reply.h"
#include "agent/text.h"
#include "base/fd.h"
#include "base/str.h"
#include "base/vec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	BODY_MAX = 1 << 20,
	SOURCES_MAX = 4096,
	FILE_MODE = 0644,
	COPY_BYTES = 1 << 30, /* at most, by one call of the kernel */
	PIECE_BYTES = 8192,
};

VEC_DEFINE(sources, char *)

struct compose {
	struct job job;
	struct http_exchange *x; /* NULL = closed */
	struct agent *agent;
	struct user user;
	struct sources sources;
	char destination[PATH_MAX];
	char temporary[PATH_MAX]; /* "" = there is none */
	bool busy;                /* the job runs */
	struct files_error error;
};

static void compose_free(struct compose *c)
{
	vec_foreach (path, &c->sources)
		free(*path);
	sources_done(&c->sources);
	user_done(&c->user);
	free(c);
	files_transfer_end();
}

static int check_source(const char *path, struct files_error *e)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return files_error_errno(e, errno, "open", path);
	return files_check_regular(st.st_mode, path, e);
}

/* By the kernel where it can (reflinks, no copy through us), else by hand. Return: bytes; -errno.
 */
static ssize_t copy_some(int from, int to)
{
	ssize_t n = copy_file_range(from, NULL, to, NULL, COPY_BYTES, 0);
	char piece[PIECE_BYTES];
	int r;

	if (n > 0)
		return n;
	if (n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO))
		return -errno;
	n = read(from, piece, sizeof(piece));
	if (n <= 0)
		return n < 0 ? -errno : 0;
	r = fd_write_all(to, piece, (size_t)n);
	return r < 0 ? r : n;
}

static int append(int to, const char *path, struct files_error *e)
{
	auto_close int from = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	ssize_t n;

	if (from < 0)
		return files_error_errno(e, errno, "open", path);
	while ((n = copy_some(from, to)) > 0)
		;
	return n < 0 ? files_error_errno(e, (int)-n, "copy", path) : 0;
}

static int make_temporary(struct compose *c)
{
	const char *name = path_name(c->destination);
	auto_close int fd = -1;

	if (str_fit(c->temporary, sizeof(c->temporary), "%.*s.%.200s.XXXXXX",
		    (int)(name - c->destination), c->destination, name) < 0)
		return files_error_errno(&c->error, ENAMETOOLONG, "make", c->destination);
	fd = mkostemp(c->temporary, O_CLOEXEC);
	if (fd < 0) {
		c->temporary[0] = '\0';
		return files_error_errno(&c->error, errno, "make", c->destination);
	}
	if (fchmod(fd, FILE_MODE) < 0 || fchown(fd, c->user.uid, c->user.gid) < 0)
		return files_error_errno(&c->error, errno, "set the owner of", c->destination);
	return take_fd(&fd);
}

static int put_together(struct compose *c)
{
	auto_close int to = -1;
	int r;

	vec_foreach (path, &c->sources)
		if (check_source(*path, &c->error) < 0)
			return -EPROTO;
	r = dirs_make_parent(c->destination, &c->user);
	if (r < 0)
		return files_error_errno(&c->error, -r, "make the directory of", c->destination);
	to = make_temporary(c);
	if (to < 0)
		return to;
	vec_foreach (path, &c->sources)
		if (append(to, *path, &c->error) < 0)
			return -EPROTO;
	if (rename(c->temporary, c->destination) < 0)
		return files_error_errno(&c->error, errno, "replace", c->destination);
	c->temporary[0] = '\0';
	vec_foreach (path, &c->sources)
		ignore_err(unlink(*path)); /* named twice, or gone by itself: all the same */
	return 0;
}

static void run(struct job *job)
{
	struct compose *c = container_of(job, struct compose, job);

	ignore_err(put_together(c)); /* the error is looked at when the job is done */
	if (c->temporary[0] != '\0')
		ignore_err(unlink(c->temporary)); /* nothing more can be done about it */
}

static void on_done(struct job *job)
{
	struct compose *c = container_of(job, struct compose, job);

	c->busy = false;
	if (c->x == NULL)
		compose_free(c);
	else if (c->error.status != 0)
		files_reply_error(c->x, &c->error);
	else
		reply_json(c->x, 200,
			   json_pack("{s:o, s:o, s:s}", "path", text_json(c->destination), "name",
				     text_json(path_name(c->destination)), "type", "file"));
}

static void on_close(struct http_exchange *x, bool complete, void *arg)
{
	struct compose *c = arg;

	(void)x;
	(void)complete;
	c->x = NULL;
	if (!c->busy)
		compose_free(c);
}

static const struct http_exchange_events events = { .on_close = on_close };

static int read_sources(struct compose *c, json_t *list, struct connect_error *e)
{
	char path[PATH_MAX];
	json_t *item;
	size_t i;

	if (json_array_size(list) == 0 || json_array_size(list) > SOURCES_MAX)
		return connect_error_set(e, CONNECT_INVALID_ARGUMENT,
					 "field 'source_paths' must have 1 to %d paths",
					 SOURCES_MAX);
	json_array_foreach(list, i, item)
	{
		if (caller_path(c->agent, &c->user, json_string_value(item), path, e) < 0)
			return -EPROTO;
		if (streq(path, c->destination))
			return connect_error_set(e, CONNECT_INVALID_ARGUMENT,
						 "'%.400s' is source and destination", path);
		sources_push(&c->sources, str_dup(path));
	}
	return 0;
}

static int read_request(struct compose *c, const json_t *request, struct connect_error *e)
{
	const char *destination = NULL;
	const char *username = NULL;
	json_t *list = NULL;

	if (field_strings(request, "sourcePaths", true, &list, e) < 0 ||
	    field_string(request, "destination", &destination, e) < 0 ||
	    field_string(request, "username", &username, e) < 0 ||
	    caller_find(c->agent, username, &c->user, e) < 0)
		return -EPROTO;
	if (destination == NULL || destination[0] == '\0')
		return connect_error_set(e, CONNECT_INVALID_ARGUMENT,
					 "field 'destination' is missing");
	if (caller_path(c->agent, &c->user, destination, c->destination, e) < 0)
		return -EPROTO;
	return read_sources(c, list, e);
}

static void on_body(struct http_exchange *x, const char *body, size_t n, void *arg)
{
	struct compose *c = arg;
	struct connect_error e = { 0 };
	json_t *request = NULL;
	int r = connect_message_parse(body, n, &request, &e);

	if (r == 0)
		r = read_request(c, request, &e);
	json_decref(request);
	if (r < 0) {
		reply_error(x, connect_code_http(e.code), "%s", e.msg);
		return;
	}
	c->busy = true;
	job_start(&c->agent->loop, &c->job, run, on_done);
}

void files_serve_compose(struct http_exchange *x, const struct route_params *params, void *arg)
{
	struct files_error e = { 0 };
	struct compose *c;

	(void)params;
	if (files_transfer_begin(&e) < 0) {
		files_reply_error(x, &e);
		return;
	}
	c = xcalloc(1, sizeof(*c));
	c->x = x;
	c->agent = arg;
	http_exchange_bind(x, &events, c);
	http_body_collect(x, BODY_MAX, on_body, c);
}
