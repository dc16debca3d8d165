/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A template from an image, by the way of all templates (build.c): its root is the image's layers,
 * one over the other (layer.h). What comes as a tar is unpacked first, into the build's directory;
 * then it is seen whether it is an image, or a root file system itself. All of it takes place below
 * a directory that only root can enter, so set-user-id programs and devices of a foreign image are
 * of no use to anybody meanwhile.
 *
 * Trusted is nothing: each blob is as long as is said and has the digest that is said, or nothing
 * becomes of the import (doc/theory/import.md).
 */
#include "base/buf.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "build/import-source.h"
#include "build/layer-path.h"
#include "build/layer.h"
#include "build/template-internal.h"
#include "build/unwrap.h"
#include "os/unpack-parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { STEP_READ = 1, STEP_LAYERS, STEP_IMAGE, STEP_HASH, STEP_N = STEP_HASH };
enum { PIECE_BYTES = 65536, PASSWD_BYTES_MAX = 1 << 20, TOLD_BYTES = 64 << 20 };
static const uint64_t SPACE_BYTES = 64000000; /* less is not worth a try */
static const uint64_t ENTRIES_MAX = 4000000;

/* What a runtime puts into a container, and the agent into a sandbox: not the image's. */
static const char *const foreign[] = { "etc/resolv.conf", "etc/hostname", "etc/hosts", ".dockerenv",
				       "run/.containerenv" };

struct import {
	const struct template_import_spec *spec;
	struct import_report report;
	const struct root_job *job;
};

/* One tar stream on its way into a tree. */
struct flow {
	const char *what; /* for people */
	int fd;           /* borrowed */
	int root_fd;      /* borrowed */
	bool whiteouts;
	struct layer_account *account;
	const struct progress *progress;
	char file_sha256[SHA256_HEX_SIZE]; /* what came of it */
	char data_sha256[SHA256_HEX_SIZE];
};

static void unwrap_end(struct unwrap **u)
{
	unwrap_free(*u);
}

static void layer_end(struct layer **l)
{
	layer_free(*l);
}

static void tell_bytes(const struct flow *f, uint64_t bytes)
{
	char text[128];

	snprintf(text, sizeof(text), "%s, %llu MB", f->what, (unsigned long long)bytes / 1000000);
	build_detail(f->progress, text);
}

static int pump(struct flow *f, struct unwrap *from, struct layer *to, struct op *op)
{
	auto_free char *piece = xcalloc(1, PIECE_BYTES);
	uint64_t bytes = 0;
	uint64_t told = 0;
	ssize_t n;

	while ((n = unwrap_read(from, piece, PIECE_BYTES, &op->err)) > 0) {
		int r = op_check(op);

		if (r < 0)
			return err_errno(&op->err, -r, "unpack");
		r = layer_feed(to, piece, (size_t)n, &op->err);
		if (r < 0)
			return r;
		bytes += (uint64_t)n;
		if (bytes - told >= TOLD_BYTES) {
			tell_bytes(f, bytes);
			told = bytes;
		}
	}
	return n < 0 ? (int)n : layer_finish(to, &op->err);
}

static int flow_run(struct flow *f, struct op *op)
{
	cleanup(unwrap_end) struct unwrap *from = NULL;
	cleanup(layer_end) struct layer *to =
		layer_new(&(struct layer_spec){ f->root_fd, f->whiteouts, f->account });
	int r = unwrap_open(f->what, f->fd, &from, &op->err);

	if (r == 0)
		r = pump(f, from, to, op);
	if (r < 0)
		return err_wrap(&op->err, "unpack %s", f->what);
	unwrap_digests(from, f->file_sha256, f->data_sha256);
	return 0;
}

/* How much may come of an image: half of what is free, since its disk takes as much again. */
static int open_account(const char *dir, struct layer_account *out, struct err *e)
{
	struct statvfs fs;

	if (statvfs(dir, &fs) < 0)
		return err_errno(e, errno, "look for free space in %s", dir);
	*out = (struct layer_account){ .bytes_left = (uint64_t)fs.f_bavail * fs.f_frsize / 2,
				       .entries_left = ENTRIES_MAX };
	return 0;
}

static void close_account(struct import *i, const struct layer_account *account)
{
	i->report.devices_left_out += account->devices_left_out;
	i->report.xattrs_left_out += account->xattrs_left_out;
}

/* Whatever umask we have. Return: fd; -errno with @e set. */
static int make_dir(const char *path, struct err *e)
{
	int fd;

	if (mkdir(path, 0755) < 0 || chmod(path, 0755) < 0)
		return err_errno(e, errno, "make %s", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? err_errno(e, errno, "open %s", path) : fd;
}

static int check_digests(const struct import_source *s, size_t n, const struct flow *f,
			 struct err *e)
{
	const struct oci_part *layer = &s->manifest.layers.at[n];

	if (layer->sha256[0] != '\0' && !streq(layer->sha256, f->file_sha256))
		return err_set(e, ERR_INVALID, "%s is corrupt: its digest is %s instead of %s",
			       f->what, f->file_sha256, layer->sha256);
	if (!streq(s->config.diff_ids.at[n].sha256, f->data_sha256))
		return err_set(e, ERR_INVALID,
			       "%s is corrupt: decompressed, its digest is %s instead of %s",
			       f->what, f->data_sha256, s->config.diff_ids.at[n].sha256);
	return 0;
}

static int add_layer(struct import *i, const struct import_source *s, size_t n, int root_fd,
		     struct layer_account *account, struct op *op)
{
	auto_free char *what = str_printf("layer %zu of %zu", n + 1, s->manifest.layers.n);
	auto_close int fd = import_source_open(s, &s->manifest.layers.at[n], &op->err);
	struct flow flow = { .what = what,
			     .fd = fd,
			     .root_fd = root_fd,
			     .whiteouts = true,
			     .account = account,
			     .progress = i->job->progress };
	int r;

	if (fd < 0)
		return fd;
	build_detail(i->job->progress, what);
	r = flow_run(&flow, op);
	return r < 0 ? r : check_digests(s, n, &flow, &op->err);
}

static int add_layers(struct import *i, const struct import_source *s, int root_fd, struct op *op)
{
	struct layer_account account;
	int r = open_account(i->job->dir, &account, &op->err);

	build_tell(i->job->progress, STEP_LAYERS, STEP_N, "unpack the layers");
	for (size_t n = 0; r == 0 && n < s->manifest.layers.n; n++)
		r = add_layer(i, s, n, root_fd, &account, op);
	if (r == 0)
		close_account(i, &account);
	i->report.layers = (unsigned)s->manifest.layers.n;
	return r;
}

/* Unpacks the file, whatever it holds. */
static int unpack_file(struct import *i, int fd, int tree_fd, struct op *op)
{
	struct layer_account account;
	struct flow flow = { .what = i->spec->from,
			     .fd = fd,
			     .root_fd = tree_fd,
			     .account = &account,
			     .progress = i->job->progress };
	int r = open_account(i->job->dir, &account, &op->err);

	if (r == 0)
		r = flow_run(&flow, op);
	if (r == 0 && !import_source_is_image(tree_fd))
		close_account(i, &account);
	return r;
}

/* Opens the directory with the image. Return: 1 it is the root itself; 0; -errno with op->err set.
 */
static int open_source(struct import *i, const char *tree, int *out_fd, struct op *op)
{
	auto_close int fd = open(i->spec->from, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	auto_close int tree_fd = -1;
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(&op->err, errno, "open %s", i->spec->from);
	if (S_ISDIR(st.st_mode) && import_source_is_image(fd)) {
		*out_fd = take_fd(&fd);
		return 0;
	}
	if (!S_ISREG(st.st_mode) || st.st_size == 0)
		return err_set(&op->err, ERR_INVALID,
			       "%s is neither a tar file nor a directory with an OCI layout in it",
			       i->spec->from);
	tree_fd = make_dir(tree, &op->err);
	if (tree_fd < 0)
		return tree_fd;
	r = unpack_file(i, fd, tree_fd, op);
	if (r < 0)
		return r;
	r = !import_source_is_image(tree_fd);
	*out_fd = take_fd(&tree_fd);
	return r;
}

/* The name that a number has in a passwd file, or the name itself if it is there. */
static const char *find_user(char *passwd, const char *user)
{
	char *rest = passwd;
	char *line;

	while ((line = strsep(&rest, "\n")) != NULL) {
		const char *name = strsep(&line, ":");
		const char *uid;

		strsep(&line, ":");
		uid = strsep(&line, ":");
		if (uid != NULL && (streq(name, user) || streq(uid, user)))
			return name;
	}
	return NULL;
}

static int read_passwd(int root_fd, struct buf *out)
{
	uint64_t bytes;
	auto_close int fd = layer_open_file(root_fd, "etc/passwd", &bytes);
	char piece[4096];
	ssize_t n;

	if (fd < 0)
		return fd;
	while ((n = fd_read_full(fd, piece, sizeof(piece))) > 0)
		if (buf_append(out, piece, (size_t)n) < 0)
			return -EMSGSIZE;
	return (int)n;
}

/* Commands run as the image's user, or as root, if it has none that is there. */
static int set_user(struct import *i, const char *user, int root_fd, struct template *t,
		    struct err *e)
{
	auto_buf text = BUF_INIT(PASSWD_BYTES_MAX);
	auto_free char *passwd = NULL;
	const char *name;
	int r;

	str_copy(t->user, sizeof(t->user), "root");
	if (user[0] == '\0' || streq(user, "0") || streq(user, "root"))
		return 0;
	r = read_passwd(root_fd, &text);
	if (r < 0 && r != -ENOENT)
		return err_errno(e, -r, "read the image's etc/passwd");
	passwd = str_dup(buf_str(&text));
	name = find_user(passwd, user);
	if (name != NULL && template_user_valid(name))
		str_copy(t->user, sizeof(t->user), name);
	else
		str_copy(i->report.lost_user, sizeof(i->report.lost_user), user);
	return 0;
}

/* As a runtime does, the image's directory is made if it is not there. */
static int set_workdir(const char *workdir, int root_fd, struct template *t, struct err *e)
{
	auto_free char *clean = NULL;
	auto_close int fd = -1;
	int r = unpack_path(workdir + 1, &clean, e);

	if (r < 0)
		return err_wrap(e, "the image's WorkingDir");
	fd = layer_make_dirs(root_fd, clean, NULL, NULL);
	if (fd < 0)
		return err_errno(e, -fd, "make the image's WorkingDir %s", workdir);
	snprintf(t->workdir, sizeof(t->workdir), "/%s", clean);
	return 0;
}

static int remove_foreign(int root_fd, struct err *e)
{
	for (size_t n = 0; n < ARRAY_SIZE(foreign); n++) {
		const char *slash = strrchr(foreign[n], '/');
		auto_free char *dir = str_printf(
			"%.*s", slash != NULL ? (int)(slash - foreign[n]) : 0, foreign[n]);
		auto_close int fd = layer_open_dir(root_fd, dir, O_PATH);
		int r = fd < 0 ? 0
			       : file_remove_tree_at(fd, slash != NULL ? slash + 1 : foreign[n]);

		if (r < 0)
			return err_errno(e, -r, "remove the image's %s", foreign[n]);
	}
	return 0;
}

static int finish_root(struct import *i, const struct import_source *s, int root_fd,
		       struct template *t, struct op *op)
{
	bool image = s->config.image != NULL;
	int r = set_user(i, s->config.user, root_fd, t, &op->err);

	if (r == 0)
		r = set_workdir(image ? s->config.workdir : "/", root_fd, t, &op->err);
	return r < 0 ? r : remove_foreign(root_fd, &op->err);
}

static int make_root(const struct root_job *job, struct template *t, json_t **out_image,
		     struct op *op)
{
	struct import *i = job->arg;
	cleanup(import_source_done) struct import_source s = IMPORT_SOURCE_INIT;
	auto_free char *tree = str_printf("%s/archive", job->dir);
	auto_close int root_fd = -1;
	int r;

	i->job = job;
	build_tell(job->progress, STEP_READ, STEP_N, "read the image");
	r = open_source(i, tree, &s.dir_fd, op);
	if (r > 0) {
		if (rename(tree, job->root) < 0)
			return err_errno(&op->err, errno, "rename %s", tree);
		return finish_root(i, &s, s.dir_fd, t, op);
	}
	if (r == 0)
		r = import_source_read(&s, &op->err);
	if (r < 0)
		return r;
	root_fd = make_dir(job->root, &op->err);
	if (root_fd < 0)
		return root_fd;
	r = add_layers(i, &s, root_fd, op);
	if (r == 0)
		r = finish_root(i, &s, root_fd, t, op);
	if (r == 0)
		*out_image = json_incref(s.config.image);
	return r;
}

int template_import(const struct template_import_spec *spec, struct import_report *out,
		    const struct progress *progress, struct op *op)
{
	struct import import = { .spec = spec };
	int r = template_build(&(struct recipe){ .state_dir = spec->state_dir,
						 .name = spec->name,
						 .free_mib = spec->free_mib,
						 .space_bytes = SPACE_BYTES,
						 .steps = STEP_N,
						 .make_root = make_root,
						 .arg = &import },
			       progress, op);

	if (r == 0)
		*out = import.report;
	return r;
}
