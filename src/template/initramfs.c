/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The initramfs: the agent as /init, the kernel's modules, and the directories that the agent needs
 * before it has the root disk. Not compressed: the guest would spend longer on that than on reading
 * it. Its name carries the digest of what the kernel's directory does not already fix: the agent.
 */
#include "base/fd.h"
#include "base/file.h"
#include "base/mapped.h"
#include "base/sha256.h"
#include "base/str.h"
#include "base/vec.h"
#include "template/cpio.h"
#include "template/kernel-internal.h"
#include "template/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* To be raised when the contents change with the same agent. */
static const char format_version[] = "vivarium initramfs 1";

enum { NAME_DIGITS = 16, NAME_SIZE = KERNEL_INITRAMFS_SIZE, CONSOLE_MAJOR = 5, CONSOLE_MINOR = 1 };

struct image {
	const char *path; /* of the initramfs, for messages */
	struct cpio cpio;
	struct err *e;
};

static void name_image(const struct mapped *agent, char out[NAME_SIZE])
{
	struct sha256 sha;
	char hex[SHA256_HEX_SIZE];

	sha256_init(&sha);
	sha256_add(&sha, format_version, sizeof(format_version));
	sha256_add(&sha, agent->p, agent->n);
	sha256_hex(&sha, hex);
	snprintf(out, NAME_SIZE, KERNEL_INITRAMFS_PREFIX "%.*s", NAME_DIGITS, hex);
}

/*
 * The name for an agent that this thread has seen before costs no digest. A file that was replaced
 * has another inode or another time.
 */
int kernel_initramfs_name(const char *agent_path, char out[KERNEL_INITRAMFS_SIZE], struct err *e)
{
	static _Thread_local struct {
		struct stat st;
		char name[NAME_SIZE];
	} last;
	auto_mapped agent = { 0 };
	struct stat st;
	int r;

	if (stat(agent_path, &st) < 0)
		return err_errno(e, errno, "read the guest agent %s", agent_path);
	if (st.st_ino != last.st.st_ino || st.st_dev != last.st.st_dev ||
	    st.st_size != last.st.st_size ||
	    memcmp(&st.st_mtim, &last.st.st_mtim, sizeof(st.st_mtim)) != 0) {
		r = mapped_open(AT_FDCWD, agent_path, &agent);
		if (r == 0 && agent.n == 0)
			r = -ENOEXEC;
		if (r < 0)
			return err_errno(e, -r, "read the guest agent %s", agent_path);
		name_image(&agent, last.name);
		last.st = st;
	}
	str_copy(out, NAME_SIZE, last.name);
	return 0;
}

static int add(struct image *image, const struct cpio_entry *entry)
{
	int r = cpio_add(&image->cpio, entry);

	return r < 0 ? err_errno(image->e, -r, "write %s into %s", entry->path, image->path) : 0;
}

static int add_file(struct image *image, const char *path, mode_t mode, const struct mapped *data)
{
	return add(image,
		   &(struct cpio_entry){
			   .path = path, .mode = S_IFREG | mode, .data = data->p, .n = data->n });
}

static int add_module(struct image *image, int modules_fd, const char *name)
{
	auto_free char *path = str_printf("modules/%s", name);
	auto_mapped data = { 0 };
	int r = mapped_open(modules_fd, name, &data);

	if (r < 0)
		return err_errno(image->e, -r, "open guest kernel module %s", name);
	return add_file(image, path, 0644, &data);
}

static int add_modules(struct image *image, int kernel_fd)
{
	auto_close int fd = openat(kernel_fd, "modules", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_buf order = BUF_INIT(65536);
	const char *line;
	char *rest;
	int r;

	if (fd < 0)
		return err_errno(image->e, errno, "open the guest kernel's modules");
	r = file_read_at(fd, "order", &order);
	if (r < 0)
		return err_errno(image->e, -r, "read the order of the guest kernel's modules");
	r = add_module(image, fd, "order");
	rest = *buf_str(&order) != '\0' ? buf_head(&order) : NULL;
	while (r == 0 && (line = strsep(&rest, "\n")) != NULL)
		if (*line != '\0')
			r = add_module(image, fd, line);
	return r;
}

static int add_all(struct image *image, const struct mapped *agent, int kernel_fd)
{
	static const char *const directories[] = { "dev", "modules", "newroot", "proc", "sys" };
	const struct cpio_entry console = { .path = "dev/console",
					    .mode = S_IFCHR | 0600,
					    .device_major = CONSOLE_MAJOR,
					    .device_minor = CONSOLE_MINOR };
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(directories); i++)
		r = add(image,
			&(struct cpio_entry){ .path = directories[i], .mode = S_IFDIR | 0755 });
	if (r == 0)
		r = add(image, &console);
	if (r == 0)
		r = add_file(image, "init", 0755, agent);
	return r < 0 ? r : add_modules(image, kernel_fd);
}

static int write_image(int fd, const char *path, const struct mapped *agent, int kernel_fd,
		       struct err *e)
{
	struct image image = { .path = path, .cpio = { .fd = fd }, .e = e };
	int r = add_all(&image, agent, kernel_fd);

	if (r < 0)
		return r;
	r = cpio_end(&image.cpio);
	if (r < 0)
		return err_errno(e, -r, "write %s", path);
	/* For a VMM without privileges. */
	return fchmod(fd, 0644) < 0 ? err_errno(e, errno, "chmod %s", path) : 0;
}

static int make_image(int kernel_fd, const char *name, const char *path, const char *agent_path,
		      struct err *e)
{
	auto_stage stage = { .fd = -1 };
	auto_mapped agent = { 0 };
	int r = mapped_open(AT_FDCWD, agent_path, &agent);

	if (r < 0)
		return err_errno(e, -r, "read the guest agent %s", agent_path);
	r = stage_begin(kernel_fd, KERNEL_INITRAMFS_STAGE, false, &stage);
	if (r < 0)
		return err_errno(e, -r, "create %s", path);
	r = write_image(stage.fd, path, &agent, kernel_fd, e);
	if (r < 0)
		return r;
	r = stage_commit(&stage, name);
	return r < 0 ? err_errno(e, -r, "create %s", path) : 0;
}

int kernel_initramfs(const char *state_dir, const struct kernel *kernel, const char *agent_path,
		     char *out_path, size_t size, struct op *op)
{
	auto_free char *dir = str_printf("%s/kernels/%s", state_dir, kernel->version);
	auto_free char *path = NULL;
	auto_close int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char name[NAME_SIZE];
	int r;

	if (dirfd < 0)
		return err_errno(&op->err, errno, "open guest kernel %s", dir);
	r = kernel_initramfs_name(agent_path, name, &op->err);
	if (r < 0)
		return r;
	path = str_printf("%s/%s", dir, name);
	if (faccessat(dirfd, name, F_OK, 0) < 0) {
		r = make_image(dirfd, name, path, agent_path, &op->err);
		if (r < 0)
			return r;
	}
	r = str_fit(out_path, size, "%s", path);
	return r < 0 ? err_errno(&op->err, -r, "initramfs path %s", path) : 0;
}
