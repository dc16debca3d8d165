/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The initramfs: the agent as /init, the kernel's modules, and the directories that the agent needs
 * before it has the root disk. Not compressed: the guest would spend longer on that than on reading
 * it. Its name carries the digest of what the kernel's directory does not already fix: the agent.
 */
#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "base/vec.h"
#include "template/kernel-internal.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* To be raised when the contents change with the same agent. */
static const char format_version[] = "vivarium initramfs 1";

enum {
	NAME_HEX_BYTES = 8,
	NAME_SIZE = KERNEL_INITRAMFS_SIZE,
	CONSOLE_MAJOR = 5,
	CONSOLE_MINOR = 1
};

struct image {
	const char *path; /* of the initramfs, for messages */
	struct archive *a;
	struct err *e;
};

static void writer_free(struct archive **a)
{
	archive_write_free(*a);
}

static void digest_free(EVP_MD_CTX **ctx)
{
	EVP_MD_CTX_free(*ctx);
}

static void entry_free(struct archive_entry **entry)
{
	archive_entry_free(*entry);
}

static int name_image(const struct mapped *agent, char out[NAME_SIZE])
{
	cleanup(digest_free) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	unsigned char md[EVP_MAX_MD_SIZE];
	size_t used;

	if (ctx == NULL || EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1 ||
	    EVP_DigestUpdate(ctx, format_version, sizeof(format_version)) != 1 ||
	    EVP_DigestUpdate(ctx, agent->p, agent->n) != 1 ||
	    EVP_DigestFinal_ex(ctx, md, NULL) != 1)
		return -ENOMEM;
	used = (size_t)snprintf(out, NAME_SIZE, KERNEL_INITRAMFS_PREFIX);
	for (size_t i = 0; i < NAME_HEX_BYTES; i++, used += 2)
		snprintf(out + used, NAME_SIZE - used, "%02x", md[i]);
	return 0;
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
		if (r == 0)
			r = agent.n == 0 ? -ENOEXEC : name_image(&agent, last.name);
		if (r < 0)
			return err_errno(e, -r, "read the guest agent %s", agent_path);
		last.st = st;
	}
	str_copy(out, NAME_SIZE, last.name);
	return 0;
}

static int add(struct image *image, const char *path, mode_t mode, const struct mapped *data)
{
	cleanup(entry_free) struct archive_entry *entry = archive_entry_new();

	if (entry == NULL)
		return err_errno(image->e, ENOMEM, "write %s", image->path);
	archive_entry_set_pathname(entry, path);
	archive_entry_set_mode(entry, mode);
	archive_entry_set_nlink(entry, 1);
	archive_entry_set_mtime(entry, 0, 0); /* same contents, same bytes */
	archive_entry_set_size(entry, data != NULL ? (la_int64_t)data->n : 0);
	if (S_ISCHR(mode)) {
		archive_entry_set_rdevmajor(entry, CONSOLE_MAJOR);
		archive_entry_set_rdevminor(entry, CONSOLE_MINOR);
	}
	if (archive_write_header(image->a, entry) != ARCHIVE_OK ||
	    (data != NULL && archive_write_data(image->a, data->p, data->n) != (la_ssize_t)data->n))
		return err_set(image->e, ERR_SYSTEM, "write %s into %s: %s", path, image->path,
			       archive_error_string(image->a));
	return 0;
}

static int add_module(struct image *image, int modules_fd, const char *name)
{
	auto_free char *path = str_printf("modules/%s", name);
	auto_mapped data = { 0 };
	int r = mapped_open(modules_fd, name, &data);

	if (r < 0)
		return err_errno(image->e, -r, "open guest kernel module %s", name);
	return add(image, path, S_IFREG | 0644, &data);
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
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(directories); i++)
		r = add(image, directories[i], S_IFDIR | 0755, NULL);
	if (r == 0)
		r = add(image, "dev/console", S_IFCHR | 0600, NULL);
	if (r == 0)
		r = add(image, "init", S_IFREG | 0755, agent);
	return r < 0 ? r : add_modules(image, kernel_fd);
}

static int write_image(int fd, const char *path, const struct mapped *agent, int kernel_fd,
		       struct err *e)
{
	cleanup(writer_free) struct archive *a = archive_write_new();
	struct image image = { .path = path, .a = a, .e = e };
	int r;

	if (a == NULL)
		return err_errno(e, ENOMEM, "write %s", path);
	if (archive_write_set_format_cpio_newc(a) != ARCHIVE_OK ||
	    archive_write_open_fd(a, fd) != ARCHIVE_OK)
		return err_set(e, ERR_SYSTEM, "write %s: %s", path, archive_error_string(a));
	r = add_all(&image, agent, kernel_fd);
	if (r < 0)
		return r;
	if (archive_write_close(a) != ARCHIVE_OK)
		return err_set(e, ERR_SYSTEM, "write %s: %s", path, archive_error_string(a));
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
