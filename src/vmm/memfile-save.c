/* SPDX-License-Identifier: Apache-2.0 */
/* Writing diffs, straight from a paused guest or from a copy of what it owned. */
#include "vmm/memfile-internal.h"

#include "base/str.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

VEC_DEFINE(diff_runs, struct memory_diff_run)

enum { CHUNK_PAGES = 1024, ROOM_SLACK_PAGES = 4096 };

/* Pages come in rising order; those that count are gathered in a chunk and written when it is full.
 */
struct writer {
	const struct memory_image *image;
	int fd;
	unsigned char *chunk; /* CHUNK_PAGES pages; owned */
	size_t chunk_pages;
	uint64_t off_bytes; /* in the file, where the chunk goes */
	struct diff_runs runs;
	uint64_t hashed_runs;
	struct memory_stat stat;
};

static void writer_done(struct writer *w)
{
	diff_runs_done(&w->runs);
	free(w->chunk);
}

static int write_all_at(int fd, const void *p, size_t n, uint64_t off_bytes)
{
	const char *at = p;

	while (n > 0) {
		ssize_t w = pwrite(fd, at, n, (off_t)off_bytes);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return -errno;
		at += w;
		off_bytes += (uint64_t)w;
		n -= (size_t)w;
	}
	return 0;
}

static int flush(struct writer *w)
{
	size_t n = w->chunk_pages * RAM_PAGE_BYTES;
	const unsigned char *at = w->chunk;
	int r;

	/* No run crosses a chunk's end, so each is whole here. */
	for (; w->hashed_runs < w->runs.n; w->hashed_runs++) {
		struct memory_diff_run *run = &w->runs.at[w->hashed_runs];

		if (run->zero != 0)
			continue;
		run->sum = XXH3_64bits(at, (size_t)run->n * RAM_PAGE_BYTES);
		at += (size_t)run->n * RAM_PAGE_BYTES;
	}
	r = write_all_at(w->fd, w->chunk, n, w->off_bytes);
	w->off_bytes += n;
	w->chunk_pages = 0;
	return r;
}

static void note_page(struct writer *w, uint32_t page, bool zero)
{
	struct memory_diff_run *last =
		w->runs.n > w->hashed_runs ? &w->runs.at[w->runs.n - 1] : NULL;

	if (last != NULL && last->first + last->n == page && last->n < RAM_RUN_PAGES_MAX &&
	    (last->zero != 0) == zero)
		last->n++;
	else
		diff_runs_push(&w->runs,
			       (struct memory_diff_run){ .first = page, .n = 1, .zero = zero });
}

static int add_page(struct writer *w, uint32_t page, const unsigned char *bytes)
{
	static const unsigned char zeros[RAM_PAGE_BYTES];
	const struct memory_image *image = w->image;
	const unsigned char *base =
		image->bytes != NULL ? image->bytes + (uint64_t)page * RAM_PAGE_BYTES : zeros;
	bool zero = memory_page_is_zero(bytes);

	if (zero ? memory_page_is_zero(base) : memcmp(bytes, base, RAM_PAGE_BYTES) == 0)
		return 0;
	if (!zero && w->chunk_pages == CHUNK_PAGES) {
		int r = flush(w);

		if (r < 0)
			return r;
	}
	note_page(w, page, zero);
	w->stat.stored_pages += !zero;
	w->stat.zero_pages += zero;
	if (!zero)
		memcpy(w->chunk + w->chunk_pages++ * RAM_PAGE_BYTES, bytes, RAM_PAGE_BYTES);
	return 0;
}

static int add_run(struct writer *w, struct ram_run run, const unsigned char *pages, struct op *op)
{
	int r = op_check(op);

	for (uint32_t i = 0; i < run.n && r == 0; i++)
		r = add_page(w, run.first + i, pages + (size_t)i * RAM_PAGE_BYTES);
	w->stat.owned_pages += run.n;
	return r;
}

/* All of its page: where there is nothing else, the file ends behind it all the same. */
static int write_header(struct writer *w, uint64_t ram_bytes)
{
	unsigned char page[MEMORY_DIFF_HEADER_BYTES] = { 0 };
	size_t table_bytes = w->runs.n * sizeof(w->runs.at[0]);
	struct memory_diff_header h = {
		.magic = MEMORY_DIFF_MAGIC,
		.version = MEMORY_DIFF_VERSION,
		.page_bytes = RAM_PAGE_BYTES,
		.ram_bytes = ram_bytes,
		.image_id = w->image->id,
		.n_runs = w->runs.n,
		.data_pages = w->stat.stored_pages,
		.table_sum = XXH3_64bits(w->runs.at, table_bytes),
	};

	h.header_sum = XXH3_64bits(&h, offsetof(struct memory_diff_header, header_sum));
	memcpy(page, &h, sizeof(h));
	return write_all_at(w->fd, page, sizeof(page), 0);
}

static int finish(struct writer *w, uint64_t ram_bytes)
{
	size_t table_bytes = w->runs.n * sizeof(w->runs.at[0]);
	int r = flush(w);

	if (r == 0)
		r = write_all_at(w->fd, w->runs.at, table_bytes, w->off_bytes);
	if (r == 0)
		r = write_header(w, ram_bytes);
	w->stat.file_bytes = w->off_bytes + table_bytes;
	return r;
}

static int writer_init(struct writer *w, const struct memory_image *image, uint64_t ram_bytes,
		       int fd, struct err *e)
{
	*w = (struct writer){ .image = image, .fd = fd, .off_bytes = MEMORY_DIFF_HEADER_BYTES };
	if (image->bytes != NULL && image->size_bytes != ram_bytes)
		return err_set(e, ERR_INVALID,
			       "the memory image has %ju bytes, but the guest's memory %ju",
			       (uintmax_t)image->size_bytes, (uintmax_t)ram_bytes);
	w->chunk = aligned_alloc(RAM_PAGE_BYTES, (size_t)CHUNK_PAGES * RAM_PAGE_BYTES);
	return w->chunk != NULL ? 0 : err_errno(e, ENOMEM, "save the guest's memory");
}

static int save_error(int r, struct op *op)
{
	return err_is_set(&op->err) ? r : err_errno(&op->err, -r, "write the guest's memory");
}

/* Reads run after run through a buffer of one. */
static int save_runs(struct writer *w, const struct ram *ram, const struct ram_runs *runs,
		     struct op *op)
{
	unsigned char *pages =
		aligned_alloc(RAM_PAGE_BYTES, (size_t)RAM_RUN_PAGES_MAX * RAM_PAGE_BYTES);
	int r = pages != NULL ? 0 : -ENOMEM;

	for (size_t i = 0; i < runs->n && r == 0; i++) {
		r = ram_read(ram, &runs->at[i], 1, pages, &op->err);
		if (r == 0)
			r = add_run(w, runs->at[i], pages, op);
	}
	free(pages);
	return r;
}

int memory_save(const struct ram *ram, const struct memory_image *image, int fd,
		struct memory_stat *out, struct op *op)
{
	cleanup(writer_done) struct writer w = { 0 };
	cleanup(ram_runs_done) struct ram_runs runs = { 0 };
	int r = writer_init(&w, image, ram->bytes, fd, &op->err);

	if (r == 0)
		r = ram_scan(ram, &runs, &op->err);
	if (r == 0)
		r = save_runs(&w, ram, &runs, op);
	if (r == 0)
		r = finish(&w, ram->bytes);
	if (r < 0)
		return save_error(r, op);
	*out = w.stat;
	return 0;
}

struct memory_capture {
	struct ram_runs runs;
	uint64_t ram_bytes;
	unsigned char *room; /* mapped; NULL = none */
	uint64_t room_bytes;
};

/* Maps room and touches all of it. */
static int get_room(struct memory_capture *c, uint64_t bytes, struct err *e)
{
	void *room = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (room == MAP_FAILED)
		return err_errno(e, errno, "get %ju bytes for a copy of the guest's memory",
				 (uintmax_t)bytes);
	if (c->room != NULL)
		munmap(c->room, c->room_bytes);
	c->room = room;
	c->room_bytes = bytes;
	return 0;
}

int memory_capture_new(const struct ram *ram, struct memory_capture **out, struct err *e)
{
	cleanup(ram_runs_done) struct ram_runs runs = { 0 };
	struct memory_capture *c;
	int r = ram_scan(ram, &runs, e);

	if (r < 0)
		return r;
	c = xcalloc(1, sizeof(*c));
	c->ram_bytes = ram->bytes;
	r = get_room(
		c, MIN(ram->bytes, (ram_runs_pages(&runs) + ROOM_SLACK_PAGES) * RAM_PAGE_BYTES), e);
	if (r < 0) {
		free(c);
		return r;
	}
	*out = c;
	return 0;
}

int memory_capture_take(struct memory_capture *c, const struct ram *ram, struct err *e)
{
	uint64_t bytes;
	int r = ram_scan(ram, &c->runs, e);

	if (r < 0)
		return r;
	bytes = ram_runs_pages(&c->runs) * RAM_PAGE_BYTES;
	if (bytes > c->room_bytes) /* it was fast meanwhile: slower, but right */
		r = get_room(c, bytes, e);
	return r < 0 ? r : ram_read(ram, c->runs.at, c->runs.n, c->room, e);
}

int memory_capture_save(struct memory_capture *c, const struct memory_image *image, int fd,
			struct memory_stat *out, struct op *op)
{
	cleanup(writer_done) struct writer w = { 0 };
	const unsigned char *at = c->room;
	int r = writer_init(&w, image, c->ram_bytes, fd, &op->err);

	for (size_t i = 0; i < c->runs.n && r == 0; i++) {
		r = add_run(&w, c->runs.at[i], at, op);
		at += (size_t)c->runs.at[i].n * RAM_PAGE_BYTES;
	}
	if (r == 0)
		r = finish(&w, c->ram_bytes);
	if (r < 0)
		return save_error(r, op);
	*out = w.stat;
	return 0;
}

void memory_capture_free(struct memory_capture *c)
{
	if (c == NULL)
		return;
	ram_runs_done(&c->runs);
	if (c->room != NULL)
		munmap(c->room, c->room_bytes);
	free(c);
}
