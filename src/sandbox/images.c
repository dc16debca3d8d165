/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/images.h"

#include "base/dir.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "os/sum.h"
#include "os/work.h"
#include "sandbox/sandbox-internal.h"
#include "sandbox/warm-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <xxhash.h>

#define IMAGE_PREFIX "image-"
#define IMAGE_NAME   IMAGE_PREFIX "%016" PRIx64

/* A vivd that was just started has other work. Whoever needs an image sooner reads it himself. */
enum { NAME_SIZE = 32, CHECK_AFTER_MS = 5000 };

static bool parse_name(const char *name, uint64_t *out_id)
{
	const char *digits = name + strlen(IMAGE_PREFIX);

	if (!str_starts(name, IMAGE_PREFIX) || strlen(digits) != 16 ||
	    strspn(digits, "0123456789abcdef") != 16)
		return false;
	*out_id = strtoull(digits, NULL, 16);
	return true;
}

int image_find(int dirfd, uint64_t *out_id)
{
	auto_dir *d = NULL;
	const struct dirent *entry;
	int r = dir_open_at(dirfd, ".", 0, &d);

	if (r < 0)
		return r;
	while ((r = dir_next(d, &entry)) > 0) {
		if (parse_name(entry->d_name, out_id))
			return 1;
	}
	return r;
}

int image_name(int dirfd, const char *from, uint64_t id)
{
	char name[NAME_SIZE];

	snprintf(name, sizeof(name), IMAGE_NAME, id);
	return renameat(dirfd, from, dirfd, name) < 0 ? -errno : 0;
}

int image_open(int dirfd, uint64_t id)
{
	char name[NAME_SIZE];
	int fd;

	snprintf(name, sizeof(name), IMAGE_NAME, id);
	fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

int image_unlink(int dirfd, uint64_t id)
{
	char name[NAME_SIZE];

	snprintf(name, sizeof(name), IMAGE_NAME, id);
	return unlinkat(dirfd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

int image_link(int from_dirfd, int to_dirfd, uint64_t id)
{
	auto_free char *dir = NULL;
	auto_free char *path = NULL;
	char name[NAME_SIZE];

	if (id == 0)
		return 0;
	snprintf(name, sizeof(name), IMAGE_NAME, id);
	if (linkat(from_dirfd, name, to_dirfd, name, 0) == 0 || errno == EEXIST)
		return 0;
	if (errno != EXDEV && errno != EMLINK)
		return -errno;
	dir = fd_path(from_dirfd);
	path = str_printf("%s/%s", dir, name);
	return symlinkat(path, to_dirfd, name) < 0 ? -errno : 0;
}

/* The number of a file that is the image @id. */
static uint64_t number_of(const struct file_mark *mark, uint64_t id)
{
	return XXH3_64bits_withSeed(mark, sizeof(*mark), id);
}

static atomic_uint_fast64_t *place_of(struct known_images *known, uint64_t number)
{
	return &known->at[number % ARRAY_SIZE(known->at)];
}

static int read_image(int fd, uint64_t id, const char *where, struct op *op)
{
	uint64_t sum = 0;
	int r = file_sum(fd, op, &sum);

	if (r == -ECANCELED)
		return err_set(&op->err, ERR_CANCELLED, "read the memory image: cancelled");
	if (r < 0)
		return err_errno(&op->err, -r, "read the memory image of %s", where);
	if (MAX(sum, (uint64_t)1) != id) /* as memory_image_checksum(), which is never 0 */
		return err_set(&op->err, ERR_INVALID,
			       "checkpoint %s: its memory image is damaged: its bytes are %016jx",
			       where, (uintmax_t)sum);
	return 0;
}

int image_check(struct known_images *known, int dirfd, uint64_t id, struct op *op)
{
	auto_close int fd = id != 0 ? image_open(dirfd, id) : -1;
	auto_free char *where = NULL;
	struct file_mark mark;
	uint64_t number;
	int r;

	if (id == 0)
		return 0;
	r = fd < 0 ? fd : file_mark(fd, &mark);
	if (r < 0)
		return err_errno(&op->err, -r, "open the checkpoint's memory image");
	number = number_of(&mark, id);
	if (atomic_load(place_of(known, number)) == number)
		return 0;
	where = fd_path(dirfd);
	r = read_image(fd, id, where, op);
	if (r == 0) /* what is written meanwhile changes the mark, so it is read again */
		atomic_store(place_of(known, number), number);
	return r;
}

void image_note(struct known_images *known, int fd, uint64_t id)
{
	struct file_mark mark;
	uint64_t number;

	if (file_mark(fd, &mark) < 0)
		return;
	number = number_of(&mark, id);
	atomic_store(place_of(known, number), number);
}

/* The reading of all images: first the timer waits, then a worker reads. */
struct images_check {
	struct manager *m;
	int cancel_fd; /* owned */
	uv_timer_t later;
	bool reads;
	struct op op;
};

static void check_one(struct images_check *k, int template_fd, uint64_t generation)
{
	struct op op = op_child(&k->op, 0);
	struct checkpoint c;
	auto_close int fd = checkpoint_open(template_fd, generation, &c, &op);

	if (fd >= 0 && image_check(&k->m->known_images, fd, c.image_id, &op) == 0)
		return;
	if (op.err.kind != ERR_CANCELLED)
		log_error("warm.damaged", kv_str("error", op.err.msg));
}

static void check_template(struct images_check *k, const struct template *t)
{
	auto_close int fd = warm_open_template(t);
	struct generations all = { 0 };

	if (fd < 0 || checkpoint_list(fd, &all, &k->op) < 0)
		return; /* it goes right now */
	for (size_t i = all.n; i-- > 0 && op_check(&k->op) == 0;)
		check_one(k, fd, all.at[i]);
	generations_done(&all);
}

static void check_work(void *arg)
{
	struct images_check *k = arg;
	struct templates all = { 0 };

	if (template_list(k->m->config.state_dir, &all, &k->op.err) < 0)
		log_warning("warm.not_checked", kv_str("error", k->op.err.msg));
	vec_foreach (t, &all)
		check_template(k, t);
	templates_done(&all);
}

static void on_closed(uv_handle_t *handle)
{
	struct images_check *k = handle->data;

	fd_close(&k->cancel_fd);
	free(k);
}

static void check_done(void *arg)
{
	struct images_check *k = arg;
	struct manager *m = k->m;

	m->images_check = NULL;
	uv_close((uv_handle_t *)&k->later, on_closed);
	m->n_busy--;
	manager_operation_ended(m);
}

static void on_later(uv_timer_t *timer)
{
	struct images_check *k = timer->data;

	k->reads = true;
	k->m->n_busy++;
	work_submit(k->m->loop, check_work, check_done, k);
}

void images_start(struct manager *m)
{
	struct images_check *k = xcalloc(1, sizeof(*k));

	k->m = m;
	k->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); /* -1: it is waited for */
	op_init(&k->op, 0, k->cancel_fd);
	m->images_check = k;
	uv_timer_init(m->loop, &k->later);
	k->later.data = k;
	uv_timer_start(&k->later, on_later, CHECK_AFTER_MS, 0);
}

void images_cancel(struct manager *m)
{
	struct images_check *k = m->images_check;

	if (k != NULL && k->reads) {
		ignore_err(eventfd_write(k->cancel_fd, 1)); /* by ones it fits */
		return;
	}
	m->images_check = NULL;
	if (k != NULL)
		uv_close((uv_handle_t *)&k->later, on_closed);
}
