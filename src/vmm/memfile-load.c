/* SPDX-License-Identifier: Apache-2.0 */
/* Reading diffs: nothing of a file is believed before its checksum was compared. */
#include "vmm/memfile-internal.h"

#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { BATCH_PAGES = 1024, BATCH_RUNS = 512 };
static_assert((int)BATCH_PAGES >= (int)RAM_RUN_PAGES_MAX, "each run fits");

struct diff {
	int fd;
	struct memory_diff_header header;
	struct memory_diff_run *runs; /* owned */
	size_t next;                  /* run */
	uint64_t off_bytes;           /* of its pages */
	unsigned char *pages;         /* BATCH_PAGES; owned */
};

/* Some runs and their pages. */
struct batch {
	struct ram_run runs[BATCH_RUNS];
	size_t n;
	size_t n_pages;
	bool zero; /* their pages are zeros */
};

static void diff_done(struct diff *d)
{
	free(d->runs);
	free(d->pages);
}

static int damaged(struct err *e, const char *what)
{
	return err_set(e, ERR_INVALID, "the memory file is damaged: %s", what);
}

static int read_at(int fd, void *p, size_t n, uint64_t off_bytes, struct err *e)
{
	int r = fd_pread_all(fd, p, n, off_bytes);

	if (r == -ENODATA)
		return damaged(e, "it is cut off");
	return r < 0 ? err_errno(e, -r, "read the memory file") : 0;
}

static int check_header(const struct memory_diff_header *h, uint64_t ram_bytes, uint64_t image_id,
			struct err *e)
{
	if (memcmp(h->magic, MEMORY_DIFF_MAGIC, sizeof(h->magic)) != 0)
		return damaged(e, "it does not begin as one");
	if (h->header_sum != XXH3_64bits(h, offsetof(struct memory_diff_header, header_sum)))
		return damaged(e, "its header");
	if (h->version < MEMORY_DIFF_OLDEST || h->version > MEMORY_DIFF_VERSION ||
	    h->page_bytes != RAM_PAGE_BYTES)
		return err_set(e, ERR_INVALID, "the memory file is of version %u, not %d to %d",
			       h->version, MEMORY_DIFF_OLDEST, MEMORY_DIFF_VERSION);
	if (h->ram_bytes != ram_bytes)
		return err_set(e, ERR_INVALID,
			       "the memory file is of a guest with %ju bytes of memory, not %ju",
			       (uintmax_t)h->ram_bytes, (uintmax_t)ram_bytes);
	if (h->image_id != image_id)
		return err_set(e, ERR_INVALID,
			       "the memory file belongs to the memory image %016jx, not to %016jx",
			       (uintmax_t)h->image_id, (uintmax_t)image_id);
	return 0;
}

/* The sizes that the header tells are checked against the file before memory is got for them. */
static int check_sizes(const struct diff *d, struct err *e)
{
	const struct memory_diff_header *h = &d->header;
	uint64_t most = h->ram_bytes / RAM_PAGE_BYTES * MEMORY_DIFF_PASSES_MAX;
	struct stat st;

	if (h->n_runs > most || h->data_pages > most)
		return damaged(e, "its sizes");
	if (fstat(d->fd, &st) < 0)
		return err_errno(e, errno, "look at the memory file");
	if ((uint64_t)st.st_size != MEMORY_DIFF_HEADER_BYTES + h->data_pages * RAM_PAGE_BYTES +
					    h->n_runs * sizeof(struct memory_diff_run))
		return damaged(e, "it is cut off or too long");
	return 0;
}

/* Runs lie within the memory, and have as many pages as the header says. */
static int check_runs(const struct diff *d, struct err *e)
{
	uint64_t n_pages = d->header.ram_bytes / RAM_PAGE_BYTES;
	uint64_t stored = 0;

	for (size_t i = 0; i < d->header.n_runs; i++) {
		const struct memory_diff_run *run = &d->runs[i];

		if (run->n == 0 || run->n > RAM_RUN_PAGES_MAX || run->zero > 1 ||
		    (uint64_t)run->first + run->n > n_pages)
			return damaged(e, "its table");
		stored += run->zero != 0 ? 0 : run->n;
	}
	return stored == d->header.data_pages ? 0 : damaged(e, "its table");
}

static int read_table(struct diff *d, struct err *e)
{
	size_t bytes = d->header.n_runs * sizeof(d->runs[0]);
	int r;

	d->runs = calloc(MAX(d->header.n_runs, (uint64_t)1), sizeof(d->runs[0]));
	if (d->runs == NULL)
		return err_errno(e, ENOMEM, "read the memory file");
	r = read_at(d->fd, d->runs, bytes,
		    MEMORY_DIFF_HEADER_BYTES + d->header.data_pages * RAM_PAGE_BYTES, e);
	if (r < 0)
		return r;
	if (d->header.table_sum != XXH3_64bits(d->runs, bytes))
		return damaged(e, "its table");
	return check_runs(d, e);
}

static int diff_open(struct diff *d, int fd, uint64_t ram_bytes, uint64_t image_id, struct err *e)
{
	int r;

	*d = (struct diff){ .fd = fd, .off_bytes = MEMORY_DIFF_HEADER_BYTES };
	r = read_at(fd, &d->header, sizeof(d->header), 0, e);
	if (r == 0)
		r = check_header(&d->header, ram_bytes, image_id, e);
	if (r == 0)
		r = check_sizes(d, e);
	if (r == 0)
		r = read_table(d, e);
	if (r < 0)
		return r;
	d->pages = aligned_alloc(RAM_PAGE_BYTES, (size_t)BATCH_PAGES * RAM_PAGE_BYTES);
	return d->pages != NULL ? 0 : err_errno(e, ENOMEM, "read the memory file");
}

/* Reads the bytes of the next runs, as many as fit, and checks them. */
static int read_pages(struct diff *d, size_t first, size_t end, struct err *e)
{
	const unsigned char *at = d->pages;
	size_t bytes = 0;
	int r;

	for (size_t i = first; i < end; i++)
		bytes += d->runs[i].zero != 0 ? 0 : (size_t)d->runs[i].n * RAM_PAGE_BYTES;
	r = read_at(d->fd, d->pages, bytes, d->off_bytes, e);
	for (size_t i = first; i < end && r == 0; i++) {
		size_t n = (size_t)d->runs[i].n * RAM_PAGE_BYTES;

		if (d->runs[i].zero != 0)
			continue;
		if (d->runs[i].sum != XXH3_64bits(at, n))
			r = damaged(e, "pages of the guest");
		at += n;
	}
	d->off_bytes += bytes;
	return r;
}

/*
 * The next runs of one kind, with their pages in d->pages. Zeros are a batch of their own, for
 * which the buffer is cleared. Return: 1; 0 at the end; -errno with @e set.
 */
static int next_batch(struct diff *d, struct batch *out, struct err *e)
{
	size_t first = d->next;
	uint16_t zero;
	int r;

	if (first == d->header.n_runs)
		return 0;
	zero = d->runs[first].zero;
	*out = (struct batch){ .zero = zero != 0 };
	while (d->next < d->header.n_runs && out->n < BATCH_RUNS && d->runs[d->next].zero == zero &&
	       out->n_pages + d->runs[d->next].n <= BATCH_PAGES) {
		const struct memory_diff_run *run = &d->runs[d->next++];

		out->runs[out->n++] = (struct ram_run){ .first = run->first, .n = run->n };
		out->n_pages += run->n;
	}
	if (zero != 0)
		memset(d->pages, 0, out->n_pages * RAM_PAGE_BYTES);
	r = zero != 0 ? 0 : read_pages(d, first, d->next, e);
	return r < 0 ? r : 1;
}

int memory_restore(const struct ram *ram, uint64_t image_id, int fd, struct op *op)
{
	cleanup(diff_done) struct diff d = { .fd = -1 };
	struct batch batch;
	int r = diff_open(&d, fd, ram->bytes, image_id, &op->err);

	while (r == 0 && (r = next_batch(&d, &batch, &op->err)) > 0)
		r = ram_write(ram, batch.runs, batch.n, d.pages, &op->err);
	return r;
}

int memory_verify(int fd, uint64_t ram_bytes, uint64_t image_id, struct op *op)
{
	cleanup(diff_done) struct diff d = { .fd = -1 };
	struct batch batch;
	int r = diff_open(&d, fd, ram_bytes, image_id, &op->err);

	while (r == 0 && (r = next_batch(&d, &batch, &op->err)) > 0)
		r = 0;
	return r;
}

static int put_bytes(int fd, uint64_t page, const unsigned char *pages, size_t n, struct err *e)
{
	ssize_t w = pwrite(fd, pages, n * RAM_PAGE_BYTES, (off_t)(page * RAM_PAGE_BYTES));

	if (w < 0)
		return err_errno(e, errno, "write the memory image");
	if ((size_t)w != n * RAM_PAGE_BYTES)
		return err_errno(e, ENOSPC, "write the memory image");
	return 0;
}

/* Writes pages where they belong in a fresh file, in which zeros are holes. */
static int put_pages(int fd, uint64_t page, const unsigned char *pages, size_t n, struct err *e)
{
	size_t i = 0;
	int r = 0;

	while (i < n && r == 0) {
		size_t first = i;

		if (memory_page_is_zero(pages + i++ * RAM_PAGE_BYTES))
			continue;
		while (i < n && !memory_page_is_zero(pages + i * RAM_PAGE_BYTES))
			i++;
		r = put_bytes(fd, page + first, pages + first * RAM_PAGE_BYTES, i - first, e);
	}
	return r;
}

/* Over what was written there before. @zeros: as many pages */
static int put_zeros(int fd, struct ram_run run, const unsigned char *zeros, struct err *e)
{
	int r = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  (off_t)run.first * RAM_PAGE_BYTES, (off_t)run.n * RAM_PAGE_BYTES);

	if (r < 0 && errno == EOPNOTSUPP) /* a file system without holes */
		return put_bytes(fd, run.first, zeros, run.n, e);
	return r < 0 ? err_errno(e, errno, "write the memory image") : 0;
}

static int put_image(const struct memory_image *image, int fd, struct op *op)
{
	uint64_t end = image->bytes != NULL ? image->size_bytes / RAM_PAGE_BYTES : 0;
	int r = 0;

	for (uint64_t page = 0; page < end && r == 0; page += RAM_RUN_PAGES_MAX) {
		r = op_check(op);
		if (r == 0)
			r = put_pages(fd, page, image->bytes + page * RAM_PAGE_BYTES,
				      MIN(end - page, (uint64_t)RAM_RUN_PAGES_MAX), &op->err);
	}
	return r;
}

static int put_batch(const struct diff *d, const struct batch *batch, int fd, struct op *op)
{
	const unsigned char *at = d->pages;
	int r = op_check(op);

	for (size_t i = 0; i < batch->n && r == 0; i++) {
		struct ram_run run = batch->runs[i];

		r = batch->zero ? put_zeros(fd, run, at, &op->err)
				: put_bytes(fd, run.first, at, run.n, &op->err);
		at += (size_t)run.n * RAM_PAGE_BYTES;
	}
	return r;
}

int memory_merge(const struct memory_image *image, int diff_fd, uint64_t ram_bytes, int fd,
		 struct op *op)
{
	cleanup(diff_done) struct diff d = { .fd = -1 };
	struct batch batch;
	int r = 0;

	if (image->bytes != NULL && image->size_bytes != ram_bytes)
		r = err_set(&op->err, ERR_INVALID,
			    "the memory image has %ju bytes, but the guest's memory %ju",
			    (uintmax_t)image->size_bytes, (uintmax_t)ram_bytes);
	if (r == 0)
		r = diff_open(&d, diff_fd, ram_bytes, image->id, &op->err);
	if (r == 0 && ftruncate(fd, (off_t)ram_bytes) < 0)
		return err_errno(&op->err, errno, "make the memory image");
	if (r == 0)
		r = put_image(image, fd, op);
	while (r == 0 && (r = next_batch(&d, &batch, &op->err)) > 0)
		r = put_batch(&d, &batch, fd, op);
	if (r < 0 && !err_is_set(&op->err))
		return err_errno(&op->err, -r, "write the memory image");
	return r;
}
