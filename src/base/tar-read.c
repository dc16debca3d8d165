/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A stream is blocks: a head, then as many as its data fill, then the next
 * head; zero blocks are its end. Heads of some types carry in their data what is too long for the
 * head that follows: it is collected, bounded, and then put over what that head says.
 */
#include "base/parse.h"
#include "base/str.h"
#include "base/tar-internal.h"
#include "base/vec.h"

#include <errno.h>
#include <stdlib.h>

enum { PREFIX_PATH_SIZE = 155 + 1 + TAR_NAME_BYTES + 1, KEY_MAX_LEN = 320 };

/* What a record's key begins with that is an extended attribute: its name follows. */
static const char xattr_key[] = "SCHILY.xattr.";

VEC_DEFINE(tar_xattrs, struct tar_xattr)

static const uint64_t SIZE_MAX_BYTES = INT64_MAX - TAR_BLOCK_BYTES;

enum state { STATE_HEAD, STATE_EXTENSION, STATE_DATA, STATE_PADDING, STATE_END };

struct tar_reader {
	enum state state;
	char block[TAR_BLOCK_BYTES]; /* of a head */
	size_t n_block;
	struct buf extension; /* data of the head that is no entry */
	char extension_type;
	uint64_t left;   /* of the data */
	uint64_t padded; /* of what fills its last block */
	bool skipped;    /* nobody is told of what is read */
	bool ends;       /* TAR_DONE comes next */
	/* What extensions said of the next entry. */
	char *path; /* owned; NULL = nothing */
	char *link; /* owned; NULL = nothing */
	struct tar_entry ext;
	bool has_size, has_uid, has_gid, has_mtime;
	struct tar_xattrs next_xattrs; /* strings owned, as those of `xattrs` */
	/* The entry, and what its strings point into. */
	struct tar_entry entry;
	char name[PREFIX_PATH_SIZE];
	char target[TAR_NAME_BYTES + 1];
	char *entry_path; /* owned; NULL = `name` */
	char *entry_link; /* owned; NULL = `target` */
	struct tar_xattrs xattrs;
};

static void drop_xattrs(struct tar_xattrs *xattrs)
{
	vec_foreach (xattr, xattrs) {
		free(xattr->name);
		free(xattr->value);
	}
	tar_xattrs_done(xattrs);
}

struct tar_reader *tar_reader_new(void)
{
	struct tar_reader *r = xcalloc(1, sizeof(*r));

	buf_init(&r->extension, TAR_EXTENSION_MAX_BYTES);
	return r;
}

void tar_reader_free(struct tar_reader *r)
{
	if (r == NULL)
		return;
	buf_done(&r->extension);
	free(r->path);
	free(r->link);
	free(r->entry_path);
	free(r->entry_link);
	drop_xattrs(&r->next_xattrs);
	drop_xattrs(&r->xattrs);
	free(r);
}

/* Sets a malformed stream's error; a reader that failed is of no more use. */
static int malformed(struct err *e, const char *why)
{
	err_set(e, ERR_INVALID, "the tar stream is malformed: %s", why);
	return -EPROTO;
}

static bool is_zero(const char *block)
{
	return block[0] == '\0' && memcmp(block, block + 1, TAR_BLOCK_BYTES - 1) == 0;
}

/* Octal digits amid blanks and NULs, or, with the first bit set, big-endian bytes. Return: 0;
 * -EINVAL. */
static int get_number(const char *field, size_t size, uint64_t *out)
{
	const unsigned char *p = (const unsigned char *)field;
	uint64_t value = 0;
	size_t i = 0;

	if (p[0] == 0xff)
		return -EINVAL; /* negative */
	if ((p[0] & 0x80) != 0) {
		value = p[0] & 0x7f;
		for (i = 1; i < size; i++) {
			if (value > UINT64_MAX >> 8)
				return -EINVAL;
			value = value << 8 | p[i];
		}
		*out = value;
		return 0;
	}
	while (i < size && p[i] == ' ')
		i++;
	for (; i < size && p[i] >= '0' && p[i] <= '7'; i++)
		value = value << 3 | (p[i] - (unsigned)'0'); /* 12 digits are 36 bits */
	while (i < size && (p[i] == ' ' || p[i] == '\0'))
		i++;
	*out = value;
	return i == size ? 0 : -EINVAL;
}

static bool checksum_fits(const struct tar_head *h)
{
	const unsigned char *bytes = (const unsigned char *)h;
	size_t from = offsetof(struct tar_head, checksum);
	uint64_t said;
	unsigned sum = 0;

	for (size_t i = 0; i < sizeof(*h); i++)
		sum += i >= from && i < from + sizeof(h->checksum) ? (unsigned)' ' : bytes[i];
	return get_number(h->checksum, sizeof(h->checksum), &said) == 0 && said == sum;
}

static void copy_field(char *out, const char *field, size_t size)
{
	size_t n = strnlen(field, size);

	memcpy(out, field, n);
	out[n] = '\0';
}

/* Only POSIX's heads have a prefix there; GNU's have times. */
static void copy_path(char out[PREFIX_PATH_SIZE], const struct tar_head *h)
{
	size_t n = 0;

	if (memcmp(h->magic, "ustar", 6) == 0 && h->prefix[0] != '\0') {
		n = strnlen(h->prefix, sizeof(h->prefix));
		memcpy(out, h->prefix, n);
		out[n++] = '/';
	}
	copy_field(out + n, h->name, sizeof(h->name));
}

/* "12.5", "-0.25": seconds, whose fraction always counts forward. Return: 0; -EINVAL. */
static int parse_time(const char *text, int64_t *out_s, uint32_t *out_ns)
{
	bool negative = text[0] == '-';
	size_t n_whole = strcspn(text + negative, ".");
	const char *fraction = text + negative + n_whole;
	char whole[24];
	uint64_t s;
	uint32_t ns = 0;
	uint32_t unit = TAR_NS_PER_S / 10;

	if (n_whole >= sizeof(whole))
		return -EINVAL;
	memcpy(whole, text + negative, n_whole);
	whole[n_whole] = '\0';
	if (parse_u64(whole, 0, INT64_MAX - 1, &s) < 0)
		return -EINVAL;
	for (fraction += *fraction == '.'; *fraction != '\0'; fraction++, unit /= 10) {
		if (*fraction < '0' || *fraction > '9')
			return -EINVAL;
		ns += unit * (uint32_t)(*fraction - '0');
	}
	*out_s = negative ? -(int64_t)s : (int64_t)s;
	if (negative && ns > 0) {
		*out_s -= 1;
		ns = TAR_NS_PER_S - ns;
	}
	*out_ns = ns;
	return 0;
}

static void set_string(char **field, const char *value)
{
	free(*field);
	*field = str_dup(value);
}

static int take_number(const char *value, uint64_t max, uint64_t *out, bool *has, struct err *e)
{
	if (parse_u64(value, 0, max, out) < 0)
		return malformed(e, "a number of an extension is none");
	*has = true;
	return 0;
}

/* The same attribute said twice is the later one. */
static int take_xattr(struct tar_reader *r, const char *name, const char *value, size_t n,
		      struct err *e)
{
	char *copy;

	if (name[0] == '\0' || r->next_xattrs.n == TAR_XATTRS_MAX)
		return malformed(e, "an entry has too many extended attributes, or one of no name");
	copy = xcalloc(1, n + 1); /* bounded, as its extension is */
	memcpy(copy, value, n);
	tar_xattrs_push(&r->next_xattrs, (struct tar_xattr){ str_dup(name), copy, n });
	return 0;
}

static int take_record(struct tar_reader *r, const char *key, const char *value, size_t n,
		       struct err *e)
{
	if (str_starts(key, xattr_key))
		return take_xattr(r, key + strlen(xattr_key), value, n, e);
	if (strlen(value) != n)
		return malformed(e, "a record of an extension has a NUL");
	if (streq(key, "path"))
		set_string(&r->path, value);
	else if (streq(key, "linkpath"))
		set_string(&r->link, value);
	else if (streq(key, "size"))
		return take_number(value, SIZE_MAX_BYTES, &r->ext.size_bytes, &r->has_size, e);
	else if (streq(key, "uid"))
		return take_number(value, UINT32_MAX, &r->ext.uid, &r->has_uid, e);
	else if (streq(key, "gid"))
		return take_number(value, UINT32_MAX, &r->ext.gid, &r->has_gid, e);
	else if (str_starts(key, "GNU.sparse."))
		return err_set(e, ERR_UNSUPPORTED,
			       "the tar stream has a sparse file (%s), which "
			       "is not read: make it without --sparse",
			       key);
	else if (streq(key, "mtime")) {
		if (parse_time(value, &r->ext.mtime_s, &r->ext.mtime_ns) < 0)
			return malformed(e, "a time of an extension is none");
		r->has_mtime = true;
	}
	return 0;
}

/* "<length> <key>=<value>\n", again and again. */
static int take_records(struct tar_reader *r, struct err *e)
{
	char *p = buf_head(&r->extension);
	size_t n = r->extension.len;

	while (n > 0) {
		char *end = NULL;
		unsigned long long len = p[0] >= '1' && p[0] <= '9' ? strtoull(p, &end, 10) : 0;
		char *eq;
		int res;

		if (end == NULL || *end != ' ' || len > n || p + len <= end + 1 ||
		    p[len - 1] != '\n')
			return malformed(e, "an extension is no list of records");
		p[len - 1] = '\0';
		eq = memchr(end + 1, '=', (size_t)(p + len - (end + 1)));
		if (eq == NULL || eq - end > KEY_MAX_LEN ||
		    memchr(end + 1, '\0', (size_t)(eq - (end + 1))) != NULL)
			return malformed(e, "a record of an extension has no key");
		*eq = '\0';
		res = take_record(r, end + 1, eq + 1, (size_t)(p + len - 1 - (eq + 1)), e);
		if (res < 0)
			return -EPROTO;
		p += len;
		n -= (size_t)len;
	}
	return 0;
}

/* An extension is complete. */
static int take_extension(struct tar_reader *r, struct err *e)
{
	/* The NUL behind it also ends the search for digits in the last record. */
	const char *text = buf_str(&r->extension);
	int res = 0;

	if (r->extension_type == TAR_GNU_PATH)
		set_string(&r->path, text);
	else if (r->extension_type == TAR_GNU_LINK)
		set_string(&r->link, text);
	else if (r->extension_type == TAR_PAX && r->extension.len > 0)
		res = take_records(r, e);
	buf_clear(&r->extension);
	return res;
}

static void begin_data(struct tar_reader *r, uint64_t size, enum state state)
{
	r->left = size;
	r->padded = tar_padding(size);
	r->state = state;
}

/* What extensions said goes over what the head says, once. */
static void apply_extensions(struct tar_reader *r)
{
	struct tar_entry *entry = &r->entry;

	free(r->entry_path);
	free(r->entry_link);
	r->entry_path = take_ptr(&r->path);
	r->entry_link = take_ptr(&r->link);
	entry->path = r->entry_path != NULL ? r->entry_path : r->name;
	entry->link = r->entry_link != NULL ? r->entry_link : r->target;
	if (r->has_size)
		entry->size_bytes = r->ext.size_bytes;
	if (r->has_uid)
		entry->uid = r->ext.uid;
	if (r->has_gid)
		entry->gid = r->ext.gid;
	if (r->has_mtime) {
		entry->mtime_s = r->ext.mtime_s;
		entry->mtime_ns = r->ext.mtime_ns;
	}
	r->has_size = r->has_uid = r->has_gid = r->has_mtime = false;
	drop_xattrs(&r->xattrs);
	r->xattrs = r->next_xattrs;
	r->next_xattrs = (struct tar_xattrs){ 0 };
	entry->xattrs = r->xattrs.at;
	entry->n_xattrs = r->xattrs.n;
}

static enum tar_type type_of(const struct tar_head *h, const char *path)
{
	size_t n = strlen(path);

	if (h->type == '\0' || h->type == TAR_CONTIGUOUS || h->type == TAR_FILE)
		return n > 0 && path[n - 1] == '/' ? TAR_DIR : TAR_FILE;
	return (enum tar_type)h->type;
}

/* Old heads have other things there. */
static uint32_t device_number(const char field[8])
{
	uint64_t n = 0;

	return get_number(field, 8, &n) == 0 && n <= UINT32_MAX ? (uint32_t)n : 0;
}

static int read_numbers(const struct tar_head *h, struct tar_entry *out)
{
	uint64_t mode = 0;
	uint64_t mtime = 0;

	*out = (struct tar_entry){ .path = "", .link = "" };
	if (get_number(h->mode, sizeof(h->mode), &mode) < 0 ||
	    get_number(h->uid, sizeof(h->uid), &out->uid) < 0 ||
	    get_number(h->gid, sizeof(h->gid), &out->gid) < 0 ||
	    get_number(h->size, sizeof(h->size), &out->size_bytes) < 0 || out->uid > UINT32_MAX ||
	    out->gid > UINT32_MAX || out->size_bytes > SIZE_MAX_BYTES)
		return -EINVAL;
	out->dev_major = device_number(h->dev_major);
	out->dev_minor = device_number(h->dev_minor);
	/* A time that makes no sense, or is before the epoch, is no reason to give up. */
	if (get_number(h->mtime, sizeof(h->mtime), &mtime) == 0 && mtime <= INT64_MAX)
		out->mtime_s = (int64_t)mtime;
	out->mode = (uint32_t)(mode & 07777);
	return 0;
}

/* Return: 1 an entry begins; 0 something else; -EPROTO with @e set. */
static int begin_entry(struct tar_reader *r, const struct tar_head *h, struct err *e)
{
	copy_path(r->name, h);
	copy_field(r->target, h->link, sizeof(h->link));
	apply_extensions(r);
	r->entry.type = type_of(h, r->entry.path);
	r->skipped = r->entry.type < TAR_FILE || r->entry.type > TAR_FIFO;
	if (h->type == TAR_GNU_SPARSE) {
		err_set(e, ERR_UNSUPPORTED,
			"the tar stream has a sparse file, which is not read: make it without "
			"--sparse");
		return -EPROTO;
	}
	/* Some say a size for what has no data. */
	if (r->entry.type != TAR_FILE && !r->skipped)
		r->entry.size_bytes = 0;
	begin_data(r, r->entry.size_bytes, STATE_DATA);
	return !r->skipped;
}

static int take_head(struct tar_reader *r, struct err *e)
{
	const struct tar_head *h = (const struct tar_head *)(const void *)r->block;

	r->n_block = 0;
	if (is_zero(r->block)) {
		r->state = STATE_END;
		return 0;
	}
	if (!checksum_fits(h) || read_numbers(h, &r->entry) < 0)
		return malformed(e, "it has a head that is none");
	if (h->type != TAR_PAX && h->type != TAR_PAX_GLOBAL && h->type != TAR_GNU_PATH &&
	    h->type != TAR_GNU_LINK)
		return begin_entry(r, h, e);
	if (r->entry.size_bytes > TAR_EXTENSION_MAX_BYTES)
		return malformed(e, "an extension is too long");
	r->extension_type = h->type;
	begin_data(r, r->entry.size_bytes, STATE_EXTENSION);
	return 0;
}

static void advance(const char **p, size_t *n, size_t len)
{
	*p += len;
	*n -= len;
}

static int read_head(struct tar_reader *r, const char **p, size_t *n, struct err *e)
{
	size_t len = MIN(*n, sizeof(r->block) - r->n_block);

	memcpy(r->block + r->n_block, *p, len);
	r->n_block += len;
	advance(p, n, len);
	return r->n_block == sizeof(r->block) ? take_head(r, e) : 0;
}

static int read_extension(struct tar_reader *r, const char **p, size_t *n, struct err *e)
{
	size_t len = (size_t)MIN((uint64_t)*n, r->left);

	if (buf_append(&r->extension, *p, len) < 0)
		return malformed(e, "an extension is too long");
	advance(p, n, len);
	r->left -= len;
	if (r->left > 0)
		return 0;
	r->state = STATE_PADDING;
	r->skipped = true;
	return take_extension(r, e);
}

/* Return: whether there is a piece that somebody wants. */
static bool read_data(struct tar_reader *r, const char **p, size_t *n, const char **out,
		      size_t *out_len)
{
	size_t len = (size_t)MIN((uint64_t)*n, r->left);

	*out = *p;
	*out_len = len;
	advance(p, n, len);
	r->left -= len;
	if (r->left == 0) {
		r->state = STATE_PADDING;
		r->ends = !r->skipped;
	}
	return len > 0 && !r->skipped;
}

static void read_padding(struct tar_reader *r, const char **p, size_t *n)
{
	size_t len = (size_t)MIN((uint64_t)*n, r->padded);

	advance(p, n, len);
	r->padded -= len;
	if (r->padded == 0)
		r->state = STATE_HEAD;
}

/* One step. Return: an event; -EPROTO with @e set. */
static int step(struct tar_reader *r, const char **p, size_t *n, const char **out, size_t *out_len,
		struct err *e)
{
	int res;

	switch (r->state) {
	case STATE_HEAD:
		res = read_head(r, p, n, e);
		return res < 0 ? res : (res > 0 ? TAR_ENTRY : TAR_MORE);
	case STATE_EXTENSION:
		res = read_extension(r, p, n, e);
		return res < 0 ? res : TAR_MORE;
	case STATE_DATA:
		return read_data(r, p, n, out, out_len) ? TAR_DATA : TAR_MORE;
	case STATE_PADDING:
		read_padding(r, p, n);
		return TAR_MORE;
	case STATE_END:
		advance(p, n, *n);
		return TAR_MORE;
	}
	return TAR_MORE;
}

/* NOLINTNEXTLINE(readability-function-size): the parts of an event, as in the header */
int tar_next(struct tar_reader *r, const char **p, size_t *n, const char **out_data,
	     size_t *out_len, struct err *e)
{
	for (;;) {
		bool idle = r->state == STATE_DATA && r->left == 0;
		int event;

		if (r->ends) {
			r->ends = false;
			return TAR_DONE;
		}
		if (*n == 0 && !idle)
			return TAR_MORE;
		event = step(r, p, n, out_data, out_len, e);
		if (event != TAR_MORE)
			return event;
	}
}

const struct tar_entry *tar_reader_entry(const struct tar_reader *r)
{
	return &r->entry;
}

bool tar_reader_is_complete(const struct tar_reader *r)
{
	return r->state == STATE_END || (r->state == STATE_HEAD && r->n_block == 0) ||
	       (r->state == STATE_PADDING && r->padded == 0);
}
