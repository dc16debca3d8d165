/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which images of a template there are, which of them fits, and which of them go.
 *
 * An image is a checkpoint of the template's directory. It fits a create when it is of the sizes
 * that are asked for, or has a smaller disk, and is of the kernel and its command line, the agent,
 * the VMM, the CPU, the disk driver and the start command that a boot would have now: one that does
 * not is not used, and in time goes as the longest unused.
 *
 * Whoever uses an image holds a shared lock (flock) on its directory until the sandbox has its own
 * links to it; whoever removes one holds an exclusive lock, and takes another image if it cannot
 * get it. The time of last use is the directory's.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "base/tree.h"
#include "sandbox/accel-internal.h"
#include "sandbox/warm-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct warm_wish warm_wish_of(const struct db_sandbox *row)
{
	return (struct warm_wish){ row->cpus, row->memory_mib, row->disk_mib, false };
}

int warm_open_template(const struct template *t)
{
	const char *end = strrchr(t->root_path, '/');
	auto_free char *dir = str_printf("%.*s", (int)(end - t->root_path), t->root_path);
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

const char warm_kernel_words[] = "init_on_free=1";

void warm_cmdline(const struct manager *m, const char *acceleration, char out[CMDLINE_SIZE])
{
	enum vmm_accel accel = accel_for_vmm(m, acceleration);

	snprintf(out, CMDLINE_SIZE, "%s %s", vmm_kernel_words(m->vmm, accel), warm_kernel_words);
}

/* What a boot would have now. */
struct present {
	char vmm[sizeof(((struct checkpoint *)NULL)->vmm)];
	char cpu[sizeof(((struct checkpoint *)NULL)->cpu)];
	const char *acceleration;
	const char *disk_driver;
	char initramfs[KERNEL_INITRAMFS_SIZE];
	char cmdline[CMDLINE_SIZE];
	struct kernel kernel;
	struct template_start start;
};

static int look_at_present(const struct manager *m, const struct template *t, struct present *out)
{
	int r = kernel_find(m->config.state_dir, NULL, &out->kernel, NULL);

	if (r == 0)
		r = template_start_read(t, &out->start, NULL);
	if (r == 0)
		r = kernel_initramfs_name(m->config.agent_path, out->initramfs, NULL);
	if (r < 0)
		return r;
	out->acceleration = manager_acceleration(m)->name;
	out->disk_driver = disk_name(m->disk);
	snprintf(out->vmm, sizeof(out->vmm), "%s %s", vmm_name(m->vmm), m->vmm_version);
	accel_cpu(out->acceleration, out->cpu, sizeof(out->cpu));
	warm_cmdline(m, out->acceleration, out->cmdline);
	return 0;
}

static bool is_present(const struct checkpoint *c, const struct present *p)
{
	return streq(c->vmm, p->vmm) && streq(c->cpu, p->cpu) &&
	       streq(c->acceleration, p->acceleration) && streq(c->disk_driver, p->disk_driver) &&
	       streq(c->initramfs, p->initramfs) && streq(c->kernel_version, p->kernel.version) &&
	       streq(c->start, p->start.id) && streq(c->cmdline, p->cmdline);
}

/* A disk is grown when a sandbox is made of the image; it cannot shrink. */
static bool is_of_size(const struct checkpoint *c, struct warm_wish wish)
{
	return c->cpus == wish.cpus && c->memory_mib == wish.memory_mib &&
	       (wish.exact ? c->disk_mib == wish.disk_mib : c->disk_mib <= wish.disk_mib);
}

/* Against its removal, which may have been faster. */
static bool lock_for_use(int fd)
{
	struct stat st;

	return flock(fd, LOCK_SH | LOCK_NB) == 0 && fstat(fd, &st) == 0 && st.st_nlink > 0;
}

/* Return: descriptor; -ENOENT it is another one, or none any more. */
static int open_fitting(int template_fd, uint64_t generation, const struct present *p,
			struct warm_wish wish, struct checkpoint *out)
{
	struct checkpoint c;
	struct op op;
	auto_close int fd = -1;

	op_init(&op, 0, -1);
	fd = checkpoint_open(template_fd, generation, &c, &op);
	if (fd < 0 && op.err.kind != ERR_NOT_FOUND)
		log_warning("warm.damaged", kv_str("error", op.err.msg));
	if (fd < 0 || !is_of_size(&c, wish) || !is_present(&c, p) || !lock_for_use(fd))
		return -ENOENT;
	*out = c;
	return take_fd(&fd);
}

/* One of this very size, rather than one whose disk has to grow. */
static int find_fitting(int template_fd, const struct generations *known, const struct present *p,
			struct warm_wish wish, struct checkpoint *out)
{
	struct warm_wish tries[] = { wish, wish };
	int fd = -ENOENT;

	tries[0].exact = true;
	for (size_t n = 0; n < (wish.exact ? 1 : ARRAY_SIZE(tries)) && fd < 0; n++) {
		for (size_t i = known->n; i-- > 0 && fd < 0;)
			fd = open_fitting(template_fd, known->at[i], p, tries[n], out);
	}
	return fd;
}

int warm_find(const struct manager *m, const struct template *t, struct warm_wish wish,
	      struct checkpoint *out)
{
	auto_close int template_fd = m->config.warm_images > 0 ? warm_open_template(t) : -ENOENT;
	struct generations known = { 0 };
	struct present present;
	struct op op;
	int fd = -ENOENT;

	op_init(&op, 0, -1);
	if (template_fd < 0 || checkpoint_list(template_fd, &known, &op) < 0 || known.n == 0)
		return -ENOENT;
	if (look_at_present(m, t, &present) == 0)
		fd = find_fitting(template_fd, &known, &present, wish, out);
	generations_done(&known);
	if (fd >= 0 && futimens(fd, NULL) < 0)
		log_debug("warm.not_touched", kv_str("error", strerror(errno)));
	return fd;
}

/* An image, and when it was used last. */
struct used {
	uint64_t generation;
	struct timespec at;
};
VEC_DEFINE(used_list, struct used)

static int compare_used(const void *a, const void *b)
{
	const struct used *x = a;
	const struct used *y = b;

	if (x->at.tv_sec != y->at.tv_sec)
		return (x->at.tv_sec > y->at.tv_sec) - (x->at.tv_sec < y->at.tv_sec);
	return (x->at.tv_nsec > y->at.tv_nsec) - (x->at.tv_nsec < y->at.tv_nsec);
}

/* Return: descriptor of an image's directory, whatever is in it; -errno. */
static int open_raw(int template_fd, uint64_t generation)
{
	auto_free char *path = str_printf("checkpoints/%ju", (uintmax_t)generation);
	int fd = openat(template_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static void see_used(int template_fd, uint64_t generation, struct used_list *out)
{
	auto_close int fd = open_raw(template_fd, generation);
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0)
		used_list_push(out, (struct used){ generation, st.st_mtim });
}

/* Return: whether it is gone. */
static bool drop(int template_fd, uint64_t generation)
{
	auto_close int fd = open_raw(template_fd, generation);
	struct op op;

	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return false;
	op_init(&op, 0, -1);
	if (checkpoint_remove(template_fd, generation, &op) < 0) {
		log_warning("warm.not_removed", kv_str("error", op.err.msg));
		return false;
	}
	log_info("warm.removed", kv_u64("generation", generation));
	return true;
}

void warm_forget(const struct template *t, uint64_t generation)
{
	auto_close int fd = warm_open_template(t);

	if (fd >= 0)
		ignore_err(!drop(fd, generation)); /* one that is in use will fail there, too */
}

void warm_drop_old(int template_fd, unsigned keep)
{
	struct generations known = { 0 };
	struct used_list list = { 0 };
	struct op op;
	size_t left;

	op_init(&op, 0, -1);
	if (checkpoint_list(template_fd, &known, &op) < 0)
		log_warning("warm.not_removed", kv_str("error", op.err.msg));
	vec_foreach (generation, &known)
		see_used(template_fd, *generation, &list);
	if (list.n > 1)
		qsort(list.at, list.n, sizeof(list.at[0]), compare_used);
	left = list.n;
	for (size_t i = 0; i < list.n && left > keep; i++)
		left -= drop(template_fd, list.at[i].generation);
	generations_done(&known);
	used_list_done(&list);
}

/* @base_bytes: what the base of its disk takes, which is the template's own. */
static void see_image(int template_fd, uint64_t generation, uint64_t base_bytes,
		      const struct present *present, struct warm_image_list *out)
{
	auto_free char *path = NULL;
	struct checkpoint c;
	struct stat st;
	struct op op;
	auto_close int fd = -1;
	struct warm_image image = { .generation = generation };

	op_init(&op, 0, -1);
	fd = checkpoint_open(template_fd, generation, &c, &op);
	if (fd < 0 || fstat(fd, &st) < 0)
		return;
	path = str_printf("/proc/self/fd/%d/.", fd);
	if (tree_allocated(path, &image.bytes) < 0)
		image.bytes = 0;
	image.bytes -= MIN(image.bytes, base_bytes);
	image.cpus = c.cpus;
	image.memory_mib = c.memory_mib;
	image.disk_mib = c.disk_mib;
	image.created_ms = c.created_ms;
	image.used_ms =
		(uint64_t)st.st_mtim.tv_sec * MS_PER_S + (uint64_t)st.st_mtim.tv_nsec / NS_PER_MS;
	image.usable = present != NULL && is_present(&c, present);
	str_copy(image.acceleration, sizeof(image.acceleration), c.acceleration);
	warm_image_list_push(out, image);
}

int warm_list(struct manager *m, const char *template_name, struct warm_image_list *out,
	      struct err *e)
{
	auto_close int fd = -1;
	struct generations known = { 0 };
	struct present present;
	struct template t;
	uint64_t base_bytes;
	struct op op;
	bool knows;
	int r = template_open(m->config.state_dir, template_name, &t, e);

	if (r < 0)
		return r;
	if (tree_allocated(t.root_path, &base_bytes) < 0)
		base_bytes = 0;
	op_init(&op, 0, -1);
	knows = look_at_present(m, &t, &present) == 0;
	fd = warm_open_template(&t);
	if (fd < 0 || checkpoint_list(fd, &known, &op) < 0)
		return err_set(e, ERR_SYSTEM, "template %s: its images cannot be listed",
			       template_name);
	vec_foreach (generation, &known)
		see_image(fd, *generation, base_bytes, knows ? &present : NULL, out);
	generations_done(&known);
	return 0;
}
