/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a template of a disk, as a plan. All happens in a stage,
 * `templates/.<name>.build-<random>/`, whose lock dies with vivd: what a killed one leaves is
 * removed by the next build there.
 *
 * What is on the disk was written by a guest, so the programs that read it as a file system run
 * without any privilege, as a user of their own, and are given nothing but that file.
 */
#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"
#include "os/lock.h"
#include "os/spawn.h"
#include "sandbox/flatten-internal.h"
#include "sandbox/steps.h"
#include "template/publish.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define IMAGE "root.img"

/* Where an ext4 file system says what it is. */
enum { SUPER_OFFSET = 1024, SUPER_BYTES = 1024, SUPER_MAGIC = 0xef53 };
enum { MAGIC_AT = 0x38, BLOCKS_AT = 0x4, BLOCKS_HIGH_AT = 0x150, BLOCK_SIZE_AT = 0x18 };
enum { BLOCK_SIZE_LEAST = 1024, BLOCK_SIZE_MOST_LOG = 6 };

void flat_draft_done(struct flat_draft *d)
{
	stage_done(&d->stage);
	fd_close(&d->image_fd);
	fd_close(&d->lock_fd);
	fd_close(&d->templates_fd);
	free_ptr(&d->env_json);
}

/* As builds do it (build/build.c), so that one at a time makes a template of this name. */
static int lock_name(struct flat_draft *d, struct op *op)
{
	auto_free char *name = str_printf(".%s.lock", d->template.name);
	int r;

	d->lock_fd = openat(d->templates_fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (d->lock_fd < 0)
		return err_errno(&op->err, errno, "open templates/%s", name);
	r = lock_try(d->lock_fd);
	if (r == -EWOULDBLOCK)
		return err_set(&op->err, ERR_CONFLICT, "template %s is being built; try again",
			       d->template.name);
	return r < 0 ? err_errno(&op->err, -r, "lock templates/%s", name) : 0;
}

static int stage_acquire(struct sandbox *sb, struct op *op)
{
	struct flat_draft *d = sb->res.flat;
	auto_free char *path = str_printf("%s/templates", sb->m->config.state_dir);
	auto_free char *prefix = str_printf(".%s" TEMPLATE_STAGE, d->template.name);
	int r;

	d->templates_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->templates_fd < 0)
		return err_errno(&op->err, errno, "open %s", path);
	r = lock_name(d, op);
	if (r < 0)
		return r;
	r = stage_begin(d->templates_fd, prefix, true, &d->stage);
	if (r < 0)
		return err_errno(&op->err, -r, "make a temporary directory in %s", path);
	/* Whatever umask we have: VMMs, which are not root, read it. */
	if (mkdirat(d->stage.fd, "out", 0755) < 0 || fchmodat(d->stage.fd, "out", 0755, 0) < 0)
		return err_errno(&op->err, errno, "make a directory in %s/%s", path, d->stage.name);
	d->image_fd =
		openat(d->stage.fd, "out/" IMAGE, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return d->image_fd < 0 ? err_errno(&op->err, errno, "make the template's image") : 0;
}

static int stage_release(struct sandbox *sb, struct op *op)
{
	struct flat_draft *d = sb->res.flat;

	(void)op;
	stage_done(&d->stage);
	fd_close(&d->lock_fd);
	return 0;
}

static int export_acquire(struct sandbox *sb, struct op *op)
{
	const struct flat_draft *d = sb->res.flat;
	struct disk_spec spec = disk_spec_of(sb);

	spec.dirfd = d->disk_dirfd;
	return disk_export(sb->m->disk, &spec, d->image_fd, op);
}

/* Runs a program of e2fsprogs on the image. */
static int run_tool(struct sandbox *sb, const char *const *argv, struct op *op)
{
	/* Behind those of VMMs, of the probe of KVM, and of viv-tls. */
	unsigned uid = sb->m->config.vmm_uid_base + (1U << (31 - sb->m->config.net_prefix)) + 2;
	int fd = sb->res.flat->image_fd;
	int r;

	if (fchown(fd, uid, uid) < 0)
		return err_errno(&op->err, errno, "give the image to %s", argv[0]);
	r = spawn_run_jailed(argv, fd, uid, op);
	if (r == 0 && fchown(fd, 0, 0) < 0)
		r = err_errno(&op->err, errno, "take the image back");
	return r;
}

/* Its journal is replayed, and what is wrong repaired. */
static int repair_acquire(struct sandbox *sb, struct op *op)
{
	static const char *const argv[] = { "e2fsck", "-f", "-y", "/proc/self/fd/3", NULL };
	struct op own = op_child(op, 0);
	int r = run_tool(sb, argv, &own);

	/* That it repaired something is an exit code, too: the step "check" tells. */
	if (r == 0 || op_check(op) == 0)
		return 0;
	op->err = own.err;
	return r;
}

/* Nothing may be wrong any more. */
static int check_acquire(struct sandbox *sb, struct op *op)
{
	static const char *const argv[] = { "e2fsck", "-f", "-n", "/proc/self/fd/3", NULL };
	int r = run_tool(sb, argv, op);

	return r < 0 ? err_wrap(&op->err, "the disk's file system") : 0;
}

/*
 * What belongs to one machine alone is not for all that are made of it. Its id becomes what it was
 * before the first boot: there, and empty (machine-id(5)). Keys of a server of ssh are made by the
 * distribution's own means, where there is one.
 */
static int anonymize_acquire(struct sandbox *sb, struct op *op)
{
	static const char *const requests[] = {
		"rm /etc/machine-id",
		"write /dev/null /etc/machine-id",
		"set_inode_field /etc/machine-id mode 0100444",
		"rm /var/lib/dbus/machine-id",
		"rm /etc/ssh/ssh_host_rsa_key",
		"rm /etc/ssh/ssh_host_rsa_key.pub",
		"rm /etc/ssh/ssh_host_ecdsa_key",
		"rm /etc/ssh/ssh_host_ecdsa_key.pub",
		"rm /etc/ssh/ssh_host_ed25519_key",
		"rm /etc/ssh/ssh_host_ed25519_key.pub",
	};
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(requests) && r == 0; i++) {
		const char *const argv[] = { "debugfs",         "-w", "-R", requests[i],
					     "/proc/self/fd/3", NULL };

		r = run_tool(sb, argv, op); /* what is not there is no error of its */
	}
	return r;
}

static uint32_t read_le32(const unsigned char *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

/* The size of the file system. Return: 0; -EBADMSG it is none; -errno. */
static int file_system_bytes(int fd, uint64_t *out)
{
	unsigned char super[SUPER_BYTES];
	uint64_t blocks;
	uint32_t log;
	ssize_t n = pread(fd, super, sizeof(super), SUPER_OFFSET);

	if (n < 0)
		return -errno;
	if (n < (ssize_t)sizeof(super) || (read_le32(super + MAGIC_AT) & 0xffff) != SUPER_MAGIC)
		return -EBADMSG;
	log = read_le32(super + BLOCK_SIZE_AT);
	blocks = (uint64_t)read_le32(super + BLOCKS_HIGH_AT) << 32 | read_le32(super + BLOCKS_AT);
	if (log > BLOCK_SIZE_MOST_LOG ||
	    __builtin_mul_overflow(blocks, (uint64_t)BLOCK_SIZE_LEAST << log, out))
		return -EBADMSG;
	return 0;
}

static int shrink_acquire(struct sandbox *sb, struct op *op)
{
	static const char *const shrink[] = { "resize2fs", "-M", "/proc/self/fd/3", NULL };
	int fd = sb->res.flat->image_fd;
	uint64_t bytes = 0;
	struct stat st;
	int r = run_tool(sb, shrink, op);

	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return err_errno(&op->err, errno, "look at the template's image");
	r = file_system_bytes(fd, &bytes);
	if (r == 0 && (bytes == 0 || bytes > (uint64_t)st.st_size))
		r = -EBADMSG;
	if (r == 0 && ftruncate(fd, (off_t)bytes) < 0)
		r = -errno;
	return r < 0 ? err_errno(&op->err, -r, "shrink the template's image") : 0;
}

/* What runs in the sandboxes of the template that the sandbox began as; nothing if that is gone. */
static int copy_start(const struct sandbox *sb, const char *image_path, struct op *op)
{
	const struct flat_draft *d = sb->res.flat;
	struct template to = d->template;
	struct template from;
	struct template_start start;
	struct err gone = { 0 };
	int r;

	if (template_open(sb->m->config.state_dir, d->source, &from, &gone) < 0)
		return 0;
	r = template_start_read(&from, &start, &op->err);
	if (r < 0 || start.command[0] == '\0')
		return r;
	r = str_fit(to.root_path, sizeof(to.root_path), "%s", image_path);
	return r < 0 ? err_errno(&op->err, -r, "write the template's start command")
		     : template_start_write(&to, start.command, start.ready, &op->err);
}

static int seal_acquire(struct sandbox *sb, struct op *op)
{
	struct flat_draft *d = sb->res.flat;
	auto_free char *source = str_printf("sandbox %s", sb->row.id.s);
	auto_free char *path =
		str_printf("%s/templates/%s/out/" IMAGE, sb->m->config.state_dir, d->stage.name);
	auto_json *env = json_loads(d->env_json, 0, NULL);
	auto_json *image = json_pack("{s:O, s:s}", "env", env, "source", source);
	auto_close int out = -1;
	int r = image == NULL
			? err_errno(&op->err, ENOMEM, "write the template's manifest")
			: template_seal(path, &d->template.root_bytes, d->template.sha256, op);

	if (r == 0)
		r = copy_start(sb, path, op);
	if (r < 0)
		return r;
	out = openat(d->stage.fd, "out", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (out < 0)
		return err_errno(&op->err, errno, "open the template's directory");
	r = template_write_manifest(out, &d->template, image, &op->err);
	if (r == 0 && fsync(out) < 0)
		r = err_errno(&op->err, errno, "write the template's directory");
	return r;
}

/* From here on sandboxes can be made of it; a failure behind it leaves a whole template. */
static int publish_acquire(struct sandbox *sb, struct op *op)
{
	struct flat_draft *d = sb->res.flat;

	return template_publish(d->templates_fd, d->stage.name, &d->template, op);
}

static const struct step flatten_steps[] = {
	{ "stage", STEP_VOLATILE, stage_acquire, stage_release, NULL },
	{ "export", STEP_VOLATILE, export_acquire, NULL, NULL },
	{ "repair", STEP_VOLATILE, repair_acquire, NULL, NULL },
	{ "anonymize", STEP_VOLATILE, anonymize_acquire, NULL, NULL },
	{ "check", STEP_VOLATILE, check_acquire, NULL, NULL },
	{ "shrink", STEP_VOLATILE, shrink_acquire, NULL, NULL },
	{ "seal", STEP_VOLATILE, seal_acquire, NULL, NULL },
	{ "publish", STEP_VOLATILE, publish_acquire, NULL, NULL },
};

const struct plan flatten_plan = { "flatten", flatten_steps, ARRAY_SIZE(flatten_steps) };
