/* SPDX-License-Identifier: Apache-2.0 */
/* Writing diffs: straight from a paused guest, or begun while it runs. */
#include "vmm/memfile-internal.h"

#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

VEC_DEFINE(diff_runs, struct memory_diff_run)

enum { CHUNK_PAGES = 1024, READ_PAGES = RAM_RUN_PAGES_MAX, ROOM_SLACK_PAGES = 4096 };

/* While the guest runs: passes at most, and what is few enough to be left for the stop. Pages that
 * it writes to all the time are best left alone: each pass costs it a fault for each of them. */
enum { PASSES_MAX = 4, FEW_PAGES = 1024 };
static_assert((int)PASSES_MAX < (int)MEMORY_DIFF_PASSES_MAX,
	      "one more when the guest stands still");

enum { PAGE_SEEN = 1, PAGE_LOGGED = 2 };

/* The pages that count are gathered in a chunk and written when it is full. */
struct writer {
	const struct memory_image *image;
	int fd;
	unsigned char *pages; /* of each page of the guest what was done with it; owned; NULL = each
				 comes once */
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
	free(w->pages);
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

/* Whether it has to be in the file. Also as the image has it, if there is another of it before. */
static bool counts(struct writer *w, uint32_t page, bool differs)
{
	if (w->pages == NULL)
		return differs;
	differs = differs || (w->pages[page] & PAGE_LOGGED) != 0;
	w->pages[page] |= differs ? PAGE_SEEN | PAGE_LOGGED : PAGE_SEEN;
	return differs;
}

static int add_page(struct writer *w, uint32_t page, const unsigned char *bytes)
{
	static const unsigned char zeros[RAM_PAGE_BYTES];
	const struct memory_image *image = w->image;
	const unsigned char *base =
		image->bytes != NULL ? image->bytes + (uint64_t)page * RAM_PAGE_BYTES : zeros;
	bool zero = memory_page_is_zero(bytes);

	if (!counts(w, page,
		    zero ? !memory_page_is_zero(base) : memcmp(bytes, base, RAM_PAGE_BYTES) != 0))
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
	w.stat.owned_pages = ram_runs_pages(&runs);
	*out = w.stat;
	return 0;
}

struct memory_saving {
	struct ram ram; /* its pidfd is borrowed */
	int track_fd;   /* of ram_track(); owned; -1 = nobody tracks: nothing is written yet */
	struct memory_image image;
	int fd;
	struct writer w;
	struct ram_runs rest; /* what is not in the file as the paused guest has it */
	unsigned char *room;  /* mapped; NULL = none */
	uint64_t room_bytes;
	bool copied; /* the rest is in the room, one run behind the other */
};

/* How many pages were written to since they were tracked last. */
static int count_written(const struct memory_saving *s, uint64_t *out, struct err *e)
{
	cleanup(ram_runs_done) struct ram_runs runs = { 0 };
	int r = ram_scan(&s->ram, &runs, e);

	*out = 0;
	vec_foreach (run, &runs)
		*out += run->written ? run->n : 0;
	return r;
}

/* What changed meanwhile, once more. */
static int write_again(struct memory_saving *s, struct op *op)
{
	cleanup(ram_runs_done) struct ram_runs runs = { 0 };
	int r = ram_track_again(&s->ram, &runs, &op->err);

	return r < 0 ? r : save_runs(&s->w, &s->ram, &runs, op);
}

/* All of it, then what changed meanwhile, until that is little or does not get less. */
static int write_ahead(struct memory_saving *s, const struct ram_runs *runs, struct op *op)
{
	uint64_t before = ram_runs_pages(runs);
	int r = save_runs(&s->w, &s->ram, runs, op);

	for (int pass = 1; pass < PASSES_MAX && r == 0; pass++) {
		uint64_t n;

		r = count_written(s, &n, &op->err);
		if (r < 0 || n <= FEW_PAGES || n > before / 2)
			break;
		r = write_again(s, op);
		before = n;
	}
	if (r == 0)
		r = flush(&s->w);
	return r < 0 ? save_error(r, op) : 0;
}

static int begin(struct memory_saving *s, struct op *op)
{
	cleanup(ram_runs_done) struct ram_runs runs = { 0 };
	int r = writer_init(&s->w, &s->image, s->ram.bytes, s->fd, &op->err);

	if (r < 0)
		return r;
	s->w.pages = calloc(s->ram.bytes / RAM_PAGE_BYTES, 1);
	if (s->w.pages == NULL)
		return err_errno(&op->err, ENOMEM, "save the guest's memory");
	r = ram_track(&s->ram, &runs, &s->track_fd, &op->err);
	return r <= 0 ? r : write_ahead(s, &runs, op);
}

int memory_saving_new(const struct ram *ram, struct memory_image *image, int *fd,
		      struct memory_saving **out, struct op *op)
{
	struct memory_saving *s = xcalloc(1, sizeof(*s));
	int r;

	s->ram = *ram;
	s->track_fd = -1;
	s->image = *image;
	*image = (struct memory_image)MEMORY_IMAGE_INIT;
	s->fd = take_fd(fd);
	r = begin(s, op);
	if (r < 0)
		memory_saving_free(s);
	else
		*out = s;
	return r;
}

void memory_saving_push(struct memory_saving *s)
{
	ignore_err(sync_file_range(s->fd, 0, 0, SYNC_FILE_RANGE_WRITE)); /* the sync says it */
}

/* Huge pages are faster to get; where there are none it does not matter. */
static int map_room(struct memory_saving *s, uint64_t bytes)
{
	void *room = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (room == MAP_FAILED)
		return -errno;
	s->room = room;
	s->room_bytes = bytes;
	madvise(room, bytes, MADV_HUGEPAGE);
	return madvise(room, bytes, MADV_POPULATE_WRITE) < 0 && errno != EINVAL ? -errno : 0;
}

static int no_room(int r, uint64_t bytes, struct err *e)
{
	return err_errno(e, -r, "get %ju bytes for a copy of the guest's memory", (uintmax_t)bytes);
}

int memory_saving_room(struct memory_saving *s, struct err *e)
{
	cleanup(ram_runs_done) struct ram_runs runs = { 0 };
	int r = s->track_fd >= 0 ? 0 : ram_scan(&s->ram, &runs, e);
	uint64_t pages = ram_runs_pages(&runs) + ROOM_SLACK_PAGES;
	uint64_t bytes = MIN(pages * RAM_PAGE_BYTES, s->ram.bytes);

	if (r < 0)
		return r;
	r = map_room(s, bytes);
	return r < 0 ? no_room(r, bytes, e) : 0;
}

/* For more than was thought: slower, but right. */
static int grow_room(struct memory_saving *s, uint64_t bytes, struct err *e)
{
	void *room;

	if (bytes <= s->room_bytes)
		return 0;
	room = mremap(s->room, s->room_bytes, bytes, MREMAP_MAYMOVE);
	if (room == MAP_FAILED)
		return no_room(-errno, bytes, e);
	s->room = room;
	s->room_bytes = bytes;
	return 0;
}

/* Of pages that the guest does not own: what is in the file all the same. It gave them back. */
static void add_given_back(struct memory_saving *s, uint64_t page, uint64_t end)
{
	for (; page < end; page++) {
		if ((s->w.pages[page] & PAGE_LOGGED) != 0)
			ram_runs_add(&s->rest, page, 1, true);
	}
}

/* Of pages that it owns: what was written to since it was seen, or was never seen. */
static void add_stale(struct memory_saving *s, const struct ram_run *run)
{
	for (uint64_t page = run->first; page < (uint64_t)run->first + run->n; page++) {
		if (run->written || s->w.pages[page] == 0)
			ram_runs_add(&s->rest, page, 1, true);
	}
}

static int find_rest(struct memory_saving *s, struct err *e)
{
	cleanup(ram_runs_done) struct ram_runs owned = { 0 };
	uint64_t page = 0;
	int r = ram_scan(&s->ram, &owned, e);

	if (r < 0)
		return r;
	vec_foreach (run, &owned) {
		add_given_back(s, page, run->first);
		add_stale(s, run);
		page = (uint64_t)run->first + run->n;
	}
	add_given_back(s, page, s->ram.bytes / RAM_PAGE_BYTES);
	s->w.stat.owned_pages = ram_runs_pages(&owned);
	return 0;
}

int memory_saving_copy(struct memory_saving *s, struct err *e)
{
	int r;

	assert(s->room != NULL);
	r = find_rest(s, e);
	if (r == 0)
		r = grow_room(s, ram_runs_pages(&s->rest) * RAM_PAGE_BYTES, e);
	if (r == 0)
		r = ram_read(&s->ram, s->rest.at, s->rest.n, s->room, e);
	s->copied = r == 0;
	return r;
}

static int save_copy(struct memory_saving *s, struct op *op)
{
	const unsigned char *at = s->room;
	int r = 0;

	for (size_t i = 0; i < s->rest.n && r == 0; i++) {
		r = add_run(&s->w, s->rest.at[i], at, op);
		at += (size_t)s->rest.at[i].n * RAM_PAGE_BYTES;
	}
	return r;
}

int memory_saving_finish(struct memory_saving *s, struct memory_stat *out, struct op *op)
{
	int r = s->copied ? save_copy(s, op) : find_rest(s, &op->err);

	if (r == 0 && !s->copied)
		r = save_runs(&s->w, &s->ram, &s->rest, op);
	if (r == 0)
		r = finish(&s->w, s->ram.bytes);
	if (r < 0)
		return save_error(r, op);
	*out = s->w.stat;
	return 0;
}

void memory_saving_free(struct memory_saving *s)
{
	if (s == NULL)
		return;
	if (s->track_fd >= 0)
		ram_untrack(&s->ram, take_fd(&s->track_fd));
	if (s->room != NULL)
		munmap(s->room, s->room_bytes);
	ram_runs_done(&s->rest);
	writer_done(&s->w);
	memory_image_done(&s->image);
	fd_close(&s->fd);
	free(s);
}
