/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * mmdebstrap runs in a mount and a pid namespace of its own, and dies with us: so whatever ends it,
 * none of the mounts that it makes in the new root is left on the host, and none of its programs.
 * Then the user is made, and what tells of the building host is removed.
 */
#include "base/buf.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "build/template-internal.h"
#include "os/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ARGS_MAX = 24 + APT_LINES_MAX, REASON_SIZE = 360, REASON_LINES = 2, SOURCES_MAX = 16384 };

static const char include[] =
	"--include=bash,coreutils,procps,iproute2,ca-certificates,curl,git,python3,"
	"python-is-python3,python3-pip,python3-venv,ncurses-bin,sudo,iputils-ping,libcap2-bin,less,"
	"vim-tiny,xz-utils,unzip";

/* What mmdebstrap says at the beginning of each of its stages. */
static const struct {
	const char *line;
	enum build_step step;
	const char *what;
} stages[] = {
	{ "I: running apt-get update", BUILD_LISTS, "fetch the package lists" },
	{ "I: downloading packages", BUILD_DOWNLOAD, "download packages" },
	{ "I: extracting archives", BUILD_UNPACK, "unpack the essential packages" },
	{ "I: installing essential", BUILD_ESSENTIAL, "install the essential packages" },
	{ "I: installing remaining", BUILD_PACKAGES, "download and install all other packages" },
	{ "I: cleaning package lists", BUILD_CLEAN, "clean up" },
};

/* Files of the new root. */
static const struct {
	const char *path;
	unsigned mode;
	const char *text; /* NULL = removed */
} files[] = {
	/* Without !fqdn, sudo asks a name server for the sandbox's name. */
	{ "etc/sudoers.d/user", 0440, "Defaults !fqdn\nuser ALL=(ALL:ALL) NOPASSWD: ALL\n" },
	{ "etc/default/locale", 0644, "LANG=C.UTF-8\n" },
	/* The whole sandbox is one environment: pip may install beside Debian's packages. */
	{ "etc/pip.conf", 0644, "[global]\nbreak-system-packages = true\n" },
	{ "etc/machine-id", 0644, "" },
	{ "etc/resolv.conf", 0, NULL },
	{ "etc/hostname", 0, NULL },
	{ "etc/hosts", 0, NULL },
	{ "etc/apt/apt.conf.d/99mmdebstrap", 0, NULL },
};

/* Follows mmdebstrap's output. */
struct follower {
	const struct progress *progress;
	char reason[REASON_SIZE]; /* its first lines of error */
	unsigned reason_lines;
	bool more; /* the next line explains the one before */
};

static void keep_reason(struct follower *f, const char *text)
{
	size_t used = strlen(f->reason);

	if (f->reason_lines++ >= REASON_LINES)
		return;
	snprintf(f->reason + used, sizeof(f->reason) - used, "%s%s", used > 0 ? "; " : "", text);
}

static void on_line(const char *text, void *arg)
{
	struct follower *f = arg;

	for (size_t i = 0; i < ARRAY_SIZE(stages); i++)
		if (str_starts(text, stages[i].line))
			build_tell(f->progress, stages[i].step, BUILD_STEP_N, stages[i].what);
	if (str_starts(text, "E: "))
		keep_reason(f, text + strlen("E: "));
	else if (f->more || str_starts(text, "dpkg: error"))
		keep_reason(f, text + strspn(text, " "));
	f->more = str_starts(text, "dpkg: error");
	build_detail(f->progress, text);
}

static int run_mmdebstrap(const char *const *argv, const struct progress *progress, struct op *op)
{
	struct follower f = { .progress = progress };
	struct op child = op_child(op, 0);
	int r = spawn_run_lines(argv, on_line, &f, &child);

	if (r == 0)
		return 0;
	op->err = child.err;
	if (op_check(op) == 0 && f.reason[0] != '\0') {
		op->err = (struct err){ 0 };
		return err_set(&op->err, ERR_SYSTEM,
			       "mmdebstrap failed: %s (does \"apt-get update\" work on this host?)",
			       f.reason);
	}
	return err_wrap(&op->err, "install Debian into the template");
}

/* The options may hold a proxy's password: a file for root alone, not an argument. */
static int write_options(const char *path, const char *options, struct err *e)
{
	int r = file_write_atomic_at(AT_FDCWD, path, options, strlen(options), 0600);

	return r < 0 ? err_errno(e, -r, "write %s", path) : 0;
}

static int bootstrap(const struct rootfs_spec *spec, const struct apt_setup *apt,
		     const struct progress *progress, struct op *op)
{
	auto_free char *tmpdir = str_printf("TMPDIR=%s", spec->dir);
	auto_free char *options = str_printf("%s/apt.conf", spec->dir);
	auto_free char *aptopt = str_printf("--aptopt=%s", options);
	char program[PATH_MAX];
	const char *argv[ARGS_MAX] = { "env",
				       tmpdir,
				       "unshare",
				       "--mount",
				       "--pid",
				       "--fork",
				       "--kill-child",
				       "--mount-proc",
				       program,
				       "--mode=root",
				       "--verbose",
				       "--variant=minbase",
				       "--format=directory",
				       include };
	size_t n = 0;
	int r = spawn_find("mmdebstrap", program, sizeof(program), &op->err);

	if (r < 0)
		return r;
	while (argv[n] != NULL)
		n++;
	if (apt->options != NULL) {
		r = write_options(options, apt->options, &op->err);
		if (r < 0)
			return r;
		argv[n++] = aptopt;
	}
	argv[n++] = "bookworm";
	argv[n++] = spec->root;
	if (spec->mirror != NULL)
		argv[n++] = spec->mirror;
	for (size_t i = 0; i < apt->n_lines; i++)
		argv[n++] = apt->lines[i];
	return run_mmdebstrap(argv, progress, op);
}

static int add_user(const char *root, struct op *op)
{
	const char *const argv[] = { "chroot", root,           "useradd", "--create-home", "--uid",
				     "1000",   "--user-group", "--shell", "/bin/bash",     "user",
				     NULL };

	return spawn_run(argv, NULL, NULL, op) < 0 ? err_wrap(&op->err, "make the template's user")
						   : 0;
}

/* Whatever umask we have. */
static int write_file(int root_fd, const char *path, const char *text, unsigned mode)
{
	int r = file_write_atomic_at(root_fd, path, text, strlen(text), mode);

	if (r < 0)
		return r;
	return fchmodat(root_fd, path, mode, 0) < 0 ? -errno : 0;
}

/* The sources without the names and passwords that the host may have in their URIs. */
static int write_sources(int root_fd, const struct apt_setup *apt, struct err *e)
{
	auto_buf text = BUF_INIT(SOURCES_MAX);
	int r = 0;

	for (size_t i = 0; r == 0 && i < apt->n_lines; i++) {
		const char *line = apt->lines[i];
		size_t scheme = strcspn(line, "/") + 2; /* behind "deb http://" */
		size_t host = scheme + strcspn(line + scheme, "@/");

		host = line[host] == '@' ? host + 1 : scheme;
		r = buf_printf(&text, "%.*s%s\n", (int)scheme, line, line + host);
	}
	if (r == 0)
		r = write_file(root_fd, "etc/apt/sources.list", buf_str(&text), 0644);
	return r < 0 ? err_errno(e, -r, "write the template's etc/apt/sources.list") : 0;
}

static int write_files(const char *root, const struct apt_setup *apt, struct err *e)
{
	auto_close int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return err_errno(e, errno, "open the template's root %s", root);
	if (apt->n_lines > 0 && write_sources(fd, apt, e) < 0)
		return err_wrap(e, "set up the template's apt");
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		int r = files[i].text != NULL
				? write_file(fd, files[i].path, files[i].text, files[i].mode)
				: file_remove_tree_at(fd, files[i].path);

		if (r < 0)
			return err_errno(e, -r, "set up the template's %s", files[i].path);
	}
	return 0;
}

int rootfs_make(const struct rootfs_spec *spec, const struct progress *progress, struct op *op)
{
	cleanup(apt_setup_done) struct apt_setup apt = { .n_lines = 0 };
	int r = apt_setup_read(spec->mirror == NULL, &apt, op);

	if (r == 0)
		r = bootstrap(spec, &apt, progress, op);
	if (r == 0)
		r = add_user(spec->root, op);
	return r < 0 ? r : write_files(spec->root, &apt, &op->err);
}
