/* SPDX-License-Identifier: Apache-2.0 */
/* Writing diffs, straight from a paused guest or from a copy of what it owned. */
#include "vmm/memfile-internal.h"

#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

VEC_DEFINE(diff_runs, struct memory_diff_run)

enum { CHUNK_PAGES = 1024, READ_PAGES = RAM_RUN_PAGES_MAX, ROOM_SLACK_PAGES = 4096 };

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

/* How many runs from this one on fit together into a buffer of READ_PAGES. */
static size_t runs_at_once(const struct ram_runs *runs, size_t first)
{
	uint32_t pages = 0;
	size_t n = 0;

	while (first + n < runs->n && pages + runs->at[first + n].n <= READ_PAGES)
		pages += runs->at[first + n++].n;
	return n;
}

static int save_some(struct writer *w, const struct ram *ram, const struct ram_run *runs, size_t n,
		     unsigned char *pages, struct op *op)
{
	int r = ram_read(ram, runs, n, pages, &op->err);

	for (size_t i = 0; i < n && r == 0; i++) {
		r = add_run(w, runs[i], pages, op);
		pages += (size_t)runs[i].n * RAM_PAGE_BYTES;
	}
	return r;
}

/* Reads through a buffer that stays in the processor's cache. */
static int save_runs(struct writer *w, const struct ram *ram, const struct ram_runs *runs,
		     struct op *op)
{
	unsigned char *pages = aligned_alloc(RAM_PAGE_BYTES, (size_t)READ_PAGES * RAM_PAGE_BYTES);
	int r = pages != NULL ? 0 : -ENOMEM;

	for (size_t i = 0, n; i < runs->n && r == 0; i += n) {
		n = runs_at_once(runs, i);
		r = save_some(w, ram, &runs->at[i], n, pages, op);
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
	struct ram ram; /* its pidfd is borrowed */
	int track_fd;   /* of ram_track(); owned; -1 = nobody tracks */
	struct ram_runs runs;
	unsigned char *room; /* mapped; NULL = none */
	uint64_t room_bytes;
	uint32_t room_pages; /* of these are used */
	uint32_t
		*places; /* of each page of the guest 1 + its place in the room; 0 = none; mapped */
};

static uint64_t places_bytes(const struct memory_capture *c)
{
	return c->ram.bytes / RAM_PAGE_BYTES * sizeof(c->places[0]);
}

/* Maps room. Huge pages are faster to get; where there are none it does not matter. */
static void *map_room(uint64_t bytes, struct err *e)
{
	void *room = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (room == MAP_FAILED) {
		ignore_err(err_errno(e, errno, "get %ju bytes for a copy of the guest's memory",
				     (uintmax_t)bytes));
		return NULL;
	}
	madvise(room, bytes, MADV_HUGEPAGE);
	return room;
}

/* Touches all of a part of it. */
static int touch_room(unsigned char *room, uint64_t bytes, struct err *e)
{
	if (madvise(room, bytes, MADV_POPULATE_WRITE) < 0 && errno != EINVAL)
		return err_errno(e, errno, "get %ju bytes for a copy of the guest's memory",
				 (uintmax_t)bytes);
	return 0;
}

static int get_room(struct memory_capture *c, uint64_t pages, struct err *e)
{
	uint64_t bytes =
		MIN(pages + ROOM_SLACK_PAGES, c->ram.bytes / RAM_PAGE_BYTES) * RAM_PAGE_BYTES;

	c->room = map_room(bytes, e);
	if (c->room == NULL)
		return -ENOMEM;
	c->room_bytes = bytes;
	c->places = map_room(places_bytes(c), e);
	return c->places == NULL ? -ENOMEM : touch_room(c->room, bytes, e);
}

/* For more than was thought: slower, but right. */
static int grow_room(struct memory_capture *c, uint64_t pages, struct err *e)
{
	uint64_t bytes = pages * RAM_PAGE_BYTES;
	void *room;

	if (bytes <= c->room_bytes)
		return 0;
	room = mremap(c->room, c->room_bytes, bytes, MREMAP_MAYMOVE);
	if (room == MAP_FAILED)
		return err_errno(e, errno, "get %ju bytes for a copy of the guest's memory",
				 (uintmax_t)bytes);
	c->room = room;
	c->room_bytes = bytes;
	return 0;
}

/* Copies runs behind what is there already. */
static int copy_runs(struct memory_capture *c, const struct ram_runs *runs, struct err *e)
{
	uint64_t pages = c->room_pages + ram_runs_pages(runs);
	int r = grow_room(c, pages, e);

	if (r == 0)
		r = ram_read(&c->ram, runs->at, runs->n,
			     c->room + (size_t)c->room_pages * RAM_PAGE_BYTES, e);
	if (r < 0)
		return r;
	vec_foreach (run, runs) {
		for (uint32_t i = 0; i < run->n; i++)
			c->places[run->first + i] = ++c->room_pages;
	}
	return 0;
}

/* Where nothing is tracked only the room is got, since all would have to be copied again. */
static int prepare(struct memory_capture *c, struct err *e)
{
	cleanup(ram_runs_done) struct ram_runs runs = { 0 };
	int tracked = ram_track(&c->ram, &runs, &c->track_fd, e);
	int r = tracked == 0 ? ram_scan(&c->ram, &runs, e) : MIN(tracked, 0);

	if (r == 0)
		r = get_room(c, ram_runs_pages(&runs), e);
	return r < 0 || tracked == 0 ? r : copy_runs(c, &runs, e);
}

int memory_capture_new(const struct ram *ram, struct memory_capture **out, struct err *e)
{
	struct memory_capture *c = xcalloc(1, sizeof(*c));
	int r;

	c->ram = *ram;
	c->track_fd = -1;
	r = prepare(c, e);
	if (r < 0)
		memory_capture_free(c);
	else
		*out = c;
	return r;
}

/* The part of a run that has to be copied: written to since it was, or not copied at all. */
static void add_stale(struct ram_runs *stale, const struct memory_capture *c,
		      const struct ram_run *run)
{
	if (run->written) {
		ram_runs_push(stale, *run);
		return;
	}
	for (uint32_t page = run->first; page < run->first + run->n; page++) {
		if (c->places[page] == 0)
			ram_runs_push(stale, (struct ram_run){ .first = page, .n = 1 });
	}
}

int memory_capture_take(struct memory_capture *c, struct err *e)
{
	cleanup(ram_runs_done) struct ram_runs stale = { 0 };
	int r = ram_scan(&c->ram, &c->runs, e);

	if (r < 0)
		return r;
	vec_foreach (run, &c->runs)
		add_stale(&stale, c, run);
	return copy_runs(c, &stale, e);
}

static void end_tracking(struct memory_capture *c)
{
	if (c->track_fd >= 0)
		ram_untrack(&c->ram, take_fd(&c->track_fd));
}

static int add_captured(struct writer *w, const struct memory_capture *c, struct ram_run run,
			struct op *op)
{
	int r = op_check(op);

	for (uint32_t page = run.first; page < run.first + run.n && r == 0; page++)
		r = add_page(w, page, c->room + (uint64_t)(c->places[page] - 1) * RAM_PAGE_BYTES);
	w->stat.owned_pages += run.n;
	return r;
}

int memory_capture_save(struct memory_capture *c, const struct memory_image *image, int fd,
			struct memory_stat *out, struct op *op)
{
	cleanup(writer_done) struct writer w = { 0 };
	int r = writer_init(&w, image, c->ram.bytes, fd, &op->err);

	end_tracking(c);
	for (size_t i = 0; i < c->runs.n && r == 0; i++)
		r = add_captured(&w, c, c->runs.at[i], op);
	if (r == 0)
		r = finish(&w, c->ram.bytes);
	if (r < 0)
		return save_error(r, op);
	*out = w.stat;
	return 0;
}

void memory_capture_free(struct memory_capture *c)
{
	if (c == NULL)
		return;
	end_tracking(c);
	ram_runs_done(&c->runs);
	if (c->room != NULL)
		munmap(c->room, c->room_bytes);
	if (c->places != NULL)
		munmap(c->places, places_bytes(c));
	free(c);
}
