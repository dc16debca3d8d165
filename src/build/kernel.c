/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * linux-image-cloud-amd64 is an empty package that depends on the newest linux-image-<version>.
 * That one is downloaded by apt-get, which checks its signature and leaves the host's packages
 * alone, unpacked by dpkg-deb in a stage below kernels/, and taken apart there: the stage's "k"
 * becomes kernels/<version>/ by one rename, when all in it is durable.
 */
#include "template/kernel.h"

#include "base/buf.h"
#include "base/dir.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "build/build.h"
#include "build/kernel-internal.h"
#include "os/spawn.h"
#include "template/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { APT_OUTPUT_MAX = 65536, FETCH_STEPS = 4 };

static const char meta_package[] = "linux-image-cloud-amd64";
static const char image_prefix[] = "linux-image-";

static void tell_step(const struct progress *progress, unsigned at, const char *what)
{
	if (progress != NULL && progress->step != NULL)
		progress->step(at, FETCH_STEPS, what, progress->arg);
}

/* What a line of a program's output is told to. */
struct teller {
	const struct progress *progress;
};

static void tell_detail(const char *line, void *arg)
{
	const struct progress *progress = ((const struct teller *)arg)->progress;

	if (progress != NULL && progress->detail != NULL)
		progress->detail(line, progress->arg);
}

/* The version out of "  Depends: linux-image-6.1.0-56-cloud-amd64", the first such line. */
static int parse_depends(char *text, char out[KERNEL_VERSION_SIZE])
{
	char *line;

	while ((line = strsep(&text, "\n")) != NULL) {
		char *word = strstr(line, "Depends: ");

		if (word == NULL)
			continue;
		word += strlen("Depends: ");
		if (!str_starts(word, image_prefix))
			continue;
		word += strlen(image_prefix);
		word[strcspn(word, " \t:")] = '\0';
		if (!kernel_version_valid(word))
			continue;
		str_copy(out, KERNEL_VERSION_SIZE, word);
		return 0;
	}
	return -ENOENT;
}

static int newest_version(char out[KERNEL_VERSION_SIZE], struct op *op)
{
	static const char *const argv[] = { "apt-cache", "depends", meta_package, NULL };
	auto_buf text = BUF_INIT(APT_OUTPUT_MAX);
	struct op query = op_child(op, 0);
	int r = spawn_run(argv, NULL, &text, &query);

	if (r < 0 && (query.err.code == ENOENT || op_check(op) < 0)) {
		op->err = query.err;
		return err_wrap(&op->err, "look up the newest guest kernel");
	}
	/* apt-cache fails in the same way whether it has no lists or no such package. */
	if (r < 0 || parse_depends(buf_head(&text), out) < 0)
		return err_set(
			&op->err, ERR_SYSTEM,
			"apt does not know %s: run \"apt-get update\" (as root; it is in Debian's "
			"component \"main\" for amd64), then try again",
			meta_package);
	return 0;
}

/* The one .deb in a directory, as a path in new memory. */
static int find_deb(const char *dir, char **out)
{
	auto_dir *d = NULL;
	const struct dirent *entry;
	int r = dir_open_at(AT_FDCWD, dir, 0, &d);

	while (r >= 0 && (r = dir_next(d, &entry)) > 0) {
		if (!str_ends(entry->d_name, ".deb"))
			continue;
		*out = str_printf("%s/%s", dir, entry->d_name);
		return 0;
	}
	return r < 0 ? r : -ENOENT;
}

/* env -C: apt-get downloads into the current directory, which all threads share. */
static int download(const char *dir, const char *version, const struct progress *progress,
		    char **out_deb, struct op *op)
{
	auto_free char *package = str_printf("%s%s", image_prefix, version);
	/* As root apt would become the user _apt, who may not write into our directory. */
	const char *argv[] = { "env",
			       "-C",
			       dir,
			       "LC_ALL=C.UTF-8",
			       "apt-get",
			       "-o",
			       "APT::Sandbox::User=root",
			       "-o",
			       "Acquire::Retries=2",
			       "download",
			       package,
			       NULL };
	struct teller teller = { .progress = progress };
	int r = spawn_run_lines(argv, tell_detail, &teller, op);

	if (r < 0)
		return err_wrap(&op->err,
				"download %s (if it is no longer there, run \"apt-get "
				"update\")",
				package);
	r = find_deb(dir, out_deb);
	return r < 0 ? err_errno(&op->err, -r, "find the downloaded %s", package) : 0;
}

static int fill(const char *dir, const char *tree, const char *version, struct err *e)
{
	auto_free char *bzimage = str_printf("%s/boot/vmlinuz-%s", tree, version);
	auto_free char *modules = str_printf("%s/lib/modules/%s", tree, version);
	auto_free char *moved = str_printf("%s/usr/lib/modules/%s", tree, version);
	auto_free char *vmlinux = str_printf("%s/vmlinux", dir);
	auto_free char *out = str_printf("%s/modules", dir);
	int r = mkdir(dir, 0755) < 0 || chmod(dir, 0755) < 0 ? -errno : 0;

	if (r < 0)
		return err_errno(e, -r, "make %s", dir);
	r = vmlinux_extract(bzimage, vmlinux, e);
	if (r < 0)
		return r;
	/* Packages newer than Debian 12 have their modules below usr/. */
	return modules_collect(access(modules, F_OK) == 0 ? modules : moved, out, e);
}

static int publish(int kernels_fd, const char *dir, const char *version, struct err *e)
{
	auto_close int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0)
		return err_errno(e, errno, "write %s", dir);
	if (renameat(AT_FDCWD, dir, kernels_fd, version) < 0) {
		/* Another process was first; its kernel is the same. */
		if (errno == ENOTEMPTY || errno == EEXIST)
			return 0;
		return err_errno(e, errno, "rename %s to %s", dir, version);
	}
	return fsync(kernels_fd) < 0 ? err_errno(e, errno, "write the kernels' directory") : 0;
}

int kernel_unpack(int kernels_fd, const char *stage, const char *deb, const char *version,
		  struct op *op)
{
	auto_free char *tree = str_printf("%s/tree", stage);
	auto_free char *dir = str_printf("%s/k", stage);
	const char *argv[] = { "dpkg-deb", "-x", deb, tree, NULL };
	int r = spawn_run(argv, NULL, NULL, op);

	if (r < 0)
		return err_wrap(&op->err, "unpack the guest kernel %s", version);
	r = fill(dir, tree, version, &op->err);
	if (r < 0)
		return r;
	return publish(kernels_fd, dir, version, &op->err);
}

static int fetch(const char *kernels, const char *version, const struct progress *progress,
		 struct op *op)
{
	auto_close int kernels_fd = open(kernels, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_stage stage = { .fd = -1 };
	auto_free char *stage_path = NULL;
	auto_free char *deb = NULL;
	int r;

	if (kernels_fd < 0)
		return err_errno(&op->err, errno, "open %s", kernels);
	r = stage_begin(kernels_fd, KERNEL_STAGE, true, &stage);
	if (r < 0)
		return err_errno(&op->err, -r, "make a temporary directory in %s", kernels);
	stage_path = str_printf("%s/%s", kernels, stage.name);
	tell_step(progress, 2, "download the guest kernel");
	r = download(stage_path, version, progress, &deb, op);
	if (r < 0)
		return r;
	tell_step(progress, 3, "unpack the guest kernel");
	return kernel_unpack(kernels_fd, stage_path, deb, version, op);
}

int kernel_fetch(const char *state_dir, struct kernel *out, const struct progress *progress,
		 struct op *op)
{
	auto_free char *kernels = str_printf("%s/kernels", state_dir);
	char version[KERNEL_VERSION_SIZE];
	int r = file_mkdirs(kernels);

	if (r < 0)
		return err_errno(&op->err, -r, "make %s", kernels);
	tell_step(progress, 1, "look up the newest guest kernel");
	r = newest_version(version, op);
	if (r < 0)
		return r;
	if (kernel_find(state_dir, version, out, NULL) != 0) {
		r = fetch(kernels, version, progress, op);
		if (r < 0)
			return r;
	}
	tell_step(progress, FETCH_STEPS, "guest kernel is ready");
	r = kernel_find(state_dir, version, out, &op->err);
	return r > 0 ? err_errno(&op->err, ENOENT, "open guest kernel %s", version) : r;
}
