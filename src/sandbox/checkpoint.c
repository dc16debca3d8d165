/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/checkpoint.h"

#include "base/buf.h"
#include "base/dir.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/json.h"
#include "base/parse.h"
#include "base/sha256.h"
#include "base/str.h"
#include "disk/disk.h"
#include "sandbox/images.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define DIR_NAME    "checkpoints"
#define NEW_NAME    "new"
#define MANIFEST    "manifest.json"
#define GONE_PREFIX "gone-"
#define NAME_FORMAT "%" PRIu64

/* A manifest ends with the digest of all that is before this. Those of version 1 have none. */
#define DIGEST_BEGIN ",\n  \"sha256\": \""
#define DIGEST_END   "\"\n}"

enum { MANIFEST_VERSION = 2, MANIFEST_MAX_BYTES = 65536, DEVICES_MAX_BYTES = 64 << 20 };
enum { DIGEST_BYTES = sizeof(DIGEST_BEGIN) - 1 + SHA256_HEX_SIZE - 1 + sizeof(DIGEST_END) - 1 };
enum { SHORT_NAME_SIZE = 32, STAT_BLOCK_BYTES = 512 };

static int open_dir(int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int checkpoint_begin(int owner_fd, struct op *op)
{
	auto_close int all = -1;
	int fd;
	int r = mkdirat(owner_fd, DIR_NAME, 0700) < 0 && errno != EEXIST ? -errno : 0;

	if (r == 0)
		all = open_dir(owner_fd, DIR_NAME);
	if (r == 0)
		r = all < 0 ? all : file_remove_tree_at(all, NEW_NAME);
	if (r == 0 && mkdirat(all, NEW_NAME, 0700) < 0)
		r = -errno;
	fd = r < 0 ? r : open_dir(all, NEW_NAME);
	return fd < 0 ? err_errno(&op->err, -fd, "make a directory for a checkpoint") : fd;
}

int checkpoint_abort(int owner_fd, struct op *op)
{
	int r = file_remove_tree_at(owner_fd, DIR_NAME "/" NEW_NAME);

	unlinkat(owner_fd, DIR_NAME, AT_REMOVEDIR); /* if it was the only one */
	return r < 0 ? err_errno(&op->err, -r, "remove an unfinished checkpoint") : 0;
}

const char *checkpoint_vmm_version(const struct checkpoint *c, const char *name)
{
	size_t n = strlen(name);

	return str_starts(c->vmm, name) && c->vmm[n] == ' ' ? c->vmm + n + 1 : NULL;
}

static json_t *json_of_hex(uint64_t number)
{
	char text[17];

	snprintf(text, sizeof(text), "%016" PRIx64, number);
	return json_string(text);
}

static json_t *json_of_memory(const struct memory_stat *m)
{
	return json_pack("{s:I, s:I, s:I, s:I}", "ownedPages", (json_int_t)m->owned_pages,
			 "storedPages", (json_int_t)m->stored_pages, "zeroPages",
			 (json_int_t)m->zero_pages, "fileBytes", (json_int_t)m->file_bytes);
}

static json_t *manifest_of(const struct checkpoint *c)
{
	return json_pack("{s:i, s:I, s:I, s:b, s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:s, s:s, s:s,"
			 " s:s, s:s, s:s, s:o, s:I, s:o, s:o}",
			 "version", MANIFEST_VERSION, "generation", (json_int_t)c->generation,
			 "parent", (json_int_t)c->parent, "kept", c->kept, "createdMs",
			 (json_int_t)c->created_ms, "cpus", (json_int_t)c->cpus, "memoryMiB",
			 (json_int_t)c->memory_mib, "diskMiB", (json_int_t)c->disk_mib, "vmm",
			 c->vmm, "cpu", c->cpu, "acceleration", c->acceleration, "diskDriver",
			 c->disk_driver, "kernel", c->kernel_version, "agent", c->agent_version,
			 "initramfs", c->initramfs, "start", c->start, "cmdline", c->cmdline,
			 "image", json_of_hex(c->image_id), "devicesBytes",
			 (json_int_t)c->devices_bytes, "devicesSum", json_of_hex(c->devices_sum),
			 "memory", json_of_memory(&c->memory));
}

static void digest_of(const char *text, size_t n, char out[SHA256_HEX_SIZE])
{
	struct sha256 sha;

	sha256_init(&sha);
	sha256_add(&sha, text, n);
	sha256_hex(&sha, out);
}

static int write_manifest(int fd, const struct checkpoint *c)
{
	auto_json *manifest = manifest_of(c);
	auto_free char *body = manifest != NULL ? json_dumps(manifest, JSON_INDENT(2)) : NULL;
	auto_free char *text = NULL;
	char digest[SHA256_HEX_SIZE];
	size_t n;

	if (body == NULL)
		return -ENOMEM;
	n = strlen(body) - strlen("\n}");
	digest_of(body, n, digest);
	text = str_printf("%.*s" DIGEST_BEGIN "%s" DIGEST_END, (int)n, body, digest);
	return file_write_atomic_at(fd, MANIFEST, text, strlen(text), 0600);
}

static int sync_file(int dirfd, const char *name)
{
	auto_close int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return fdatasync(fd) < 0 ? -errno : 0;
}

int checkpoint_commit(int owner_fd, int fd, const struct checkpoint *c, struct op *op)
{
	auto_close int all = open_dir(owner_fd, DIR_NAME);
	char name[SHORT_NAME_SIZE];
	int r = all < 0 ? all : sync_file(fd, "devices");

	snprintf(name, sizeof(name), NAME_FORMAT, c->generation);
	if (r == 0)
		r = sync_file(fd, "memory");
	if (r == 0)
		r = write_manifest(fd, c); /* syncs the directory, too */
	if (r == 0 && renameat2(all, NEW_NAME, all, name, RENAME_NOREPLACE) < 0)
		r = -errno;
	if (r == 0)
		r = file_sync_dir(all);
	if (r == 0)
		r = file_sync_dir(owner_fd);
	return r < 0 ? err_errno(&op->err, -r, "complete checkpoint %s", name) : 0;
}

static int parse_hex(const char *text, uint64_t *out)
{
	char *end;

	if (text == NULL || strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
		return -EBADMSG;
	*out = strtoull(text, &end, 16);
	return 0;
}

/* A text of a manifest into an array; too long is as bad as missing. */
static int take_text(const json_t *m, const char *key, char *out, size_t size)
{
	const char *text = json_string_value(json_object_get(m, key));

	return text != NULL ? str_fit(out, size, "%s", text) : -EBADMSG;
}

/* As take_text(), but it may be missing. */
static int take_optional(const json_t *m, const char *key, char *out, size_t size)
{
	if (json_object_get(m, key) != NULL)
		return take_text(m, key, out, size);
	out[0] = '\0';
	return 0;
}

static int take_number(const json_t *m, const char *key, uint64_t *out)
{
	const json_t *number = json_object_get(m, key);

	if (!json_is_integer(number) || json_integer_value(number) < 0)
		return -EBADMSG;
	*out = (uint64_t)json_integer_value(number);
	return 0;
}

static int take_memory(const json_t *m, struct memory_stat *out)
{
	const json_t *memory = json_object_get(m, "memory");
	int r = take_number(memory, "ownedPages", &out->owned_pages);

	if (r == 0)
		r = take_number(memory, "storedPages", &out->stored_pages);
	if (r == 0)
		r = take_number(memory, "zeroPages", &out->zero_pages);
	return r < 0 ? r : take_number(memory, "fileBytes", &out->file_bytes);
}

/* @whole: a digest was there, and right. */
static int take_numbers(const json_t *m, bool whole, struct checkpoint *c)
{
	uint64_t version = 0;
	uint64_t cpus = 0;
	int r = take_number(m, "version", &version);

	if (r == 0)
		r = take_number(m, "generation", &c->generation);
	if (r == 0)
		r = take_number(m, "parent", &c->parent);
	if (r == 0)
		r = take_number(m, "createdMs", &c->created_ms);
	if (r == 0)
		r = take_number(m, "cpus", &cpus);
	if (r == 0)
		r = take_number(m, "memoryMiB", &c->memory_mib);
	if (r == 0)
		r = take_number(m, "diskMiB", &c->disk_mib);
	if (r == 0)
		r = take_number(m, "devicesBytes", &c->devices_bytes);
	c->cpus = (unsigned)cpus;
	c->kept = json_is_true(json_object_get(m, "kept"));
	if (r < 0 || version < 1 || version > MANIFEST_VERSION || (version > 1 && !whole) ||
	    cpus == 0 || cpus > UINT_MAX)
		return -EBADMSG;
	return c->generation > c->parent && c->memory_mib > 0 && c->disk_mib > 0 ? 0 : -EBADMSG;
}

static int take_texts(const json_t *m, struct checkpoint *c)
{
	int r = take_text(m, "vmm", c->vmm, sizeof(c->vmm));

	if (r == 0)
		r = take_text(m, "cpu", c->cpu, sizeof(c->cpu));
	if (r == 0)
		r = take_text(m, "acceleration", c->acceleration, sizeof(c->acceleration));
	if (r == 0)
		r = take_text(m, "diskDriver", c->disk_driver, sizeof(c->disk_driver));
	if (r == 0)
		r = take_text(m, "kernel", c->kernel_version, sizeof(c->kernel_version));
	if (r == 0)
		r = take_text(m, "agent", c->agent_version, sizeof(c->agent_version));
	if (r == 0)
		r = take_optional(m, "initramfs", c->initramfs, sizeof(c->initramfs));
	if (r == 0)
		r = take_optional(m, "start", c->start, sizeof(c->start));
	if (r == 0)
		r = take_optional(m, "cmdline", c->cmdline, sizeof(c->cmdline));
	if (r == 0)
		r = parse_hex(json_string_value(json_object_get(m, "image")), &c->image_id);
	if (r == 0)
		r = parse_hex(json_string_value(json_object_get(m, "devicesSum")), &c->devices_sum);
	return r;
}

/* Whether a manifest ends with its digest. Return: 1; 0 it has none; -EBADMSG it is another one's.
 */
static int check_digest(const char *text, size_t n)
{
	const char *at = text + n - MIN(n, (size_t)DIGEST_BYTES);
	char digest[SHA256_HEX_SIZE];

	if (n < DIGEST_BYTES || memcmp(at, DIGEST_BEGIN, strlen(DIGEST_BEGIN)) != 0 ||
	    memcmp(text + n - strlen(DIGEST_END), DIGEST_END, strlen(DIGEST_END)) != 0)
		return 0;
	digest_of(text, (size_t)(at - text), digest);
	return memcmp(at + strlen(DIGEST_BEGIN), digest, strlen(digest)) == 0 ? 1 : -EBADMSG;
}

int checkpoint_parse(const char *text, size_t n, struct checkpoint *out)
{
	auto_json *m = json_loadb(text, n, 0, NULL);
	struct checkpoint c = { 0 };
	int whole = check_digest(text, n);
	int r = json_is_object(m) && whole >= 0 ? take_numbers(m, whole > 0, &c) : -EBADMSG;

	if (r == 0)
		r = take_texts(m, &c);
	if (r == 0)
		r = take_memory(m, &c.memory);
	if (r < 0)
		return -EBADMSG;
	*out = c;
	return 0;
}

static int read_manifest(int fd, struct checkpoint *out)
{
	auto_buf text = BUF_INIT(MANIFEST_MAX_BYTES);
	int r = file_read_at(fd, MANIFEST, &text);

	return r < 0 ? r : checkpoint_parse(buf_str(&text), text.len, out);
}

int checkpoint_sum_devices(int dirfd, uint64_t *out_bytes, uint64_t *out_sum)
{
	auto_buf bytes = BUF_INIT(DEVICES_MAX_BYTES);
	int r = file_read_at(dirfd, "devices", &bytes);

	if (r < 0)
		return r;
	*out_bytes = bytes.len;
	*out_sum = XXH3_64bits(buf_head(&bytes), bytes.len);
	return 0;
}

static int check_devices(int fd, const struct checkpoint *c, const char *path, struct err *e)
{
	uint64_t bytes = 0;
	uint64_t sum = 0;
	int r = checkpoint_sum_devices(fd, &bytes, &sum);

	if (r < 0)
		return err_set(e, ERR_INVALID, "checkpoint %s: its file devices: %s", path,
			       strerror(-r));
	if (bytes != c->devices_bytes || sum != c->devices_sum)
		return err_set(e, ERR_INVALID, "checkpoint %s: its file devices is damaged", path);
	return 0;
}

/* Of an image only its size: image_check() reads it, if that was not done before. A VM whose
 * mapping is longer than its file would end at the first page behind that. */
static int check_image(int fd, const struct checkpoint *c, const char *path, struct err *e)
{
	auto_close int image = image_open(fd, c->image_id);
	struct stat st;

	if (image < 0 || fstat(image, &st) < 0)
		return err_set(e, ERR_INVALID, "checkpoint %s: its memory image: %s", path,
			       strerror(image < 0 ? -image : errno));
	if ((uint64_t)st.st_size != c->memory_mib << 20)
		return err_set(e, ERR_INVALID, "checkpoint %s: its memory image has another size",
			       path);
	return 0;
}

static int check_files(int fd, const struct checkpoint *c, const char *path, struct err *e)
{
	struct stat st;
	int r;

	if (fstatat(fd, "memory", &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set(e, ERR_INVALID, "checkpoint %s: its file memory: %s", path,
			       strerror(errno));
	if ((uint64_t)st.st_size != c->memory.file_bytes)
		return err_set(e, ERR_INVALID, "checkpoint %s: its file memory has another size",
			       path);
	r = c->image_id != 0 ? check_image(fd, c, path, e) : 0;
	return r < 0 ? r : check_devices(fd, c, path, e);
}

int checkpoint_open_disk(int owner_fd, uint64_t generation, struct op *op)
{
	auto_free char *name = str_printf(DIR_NAME "/" NAME_FORMAT, generation);
	int fd = open_dir(owner_fd, name);

	if (fd == -ENOENT)
		return err_set(&op->err, ERR_NOT_FOUND, "there is no checkpoint %ju",
			       (uintmax_t)generation);
	if (fd < 0)
		return err_errno(&op->err, -fd, "open checkpoint %ju", (uintmax_t)generation);
	return fd;
}

int checkpoint_open(int owner_fd, uint64_t generation, struct checkpoint *out, struct op *op)
{
	auto_close int fd = checkpoint_open_disk(owner_fd, generation, op);
	auto_free char *path = NULL;
	struct checkpoint c;
	int r;

	if (fd < 0)
		return fd;
	path = fd_path(fd);
	r = read_manifest(fd, &c);
	if (r < 0 || c.generation != generation)
		return err_set(&op->err, ERR_INVALID, "checkpoint %s: its manifest.json: %s", path,
			       r == -ENOENT ? "it is missing" : "it is damaged");
	r = check_files(fd, &c, path, &op->err);
	if (r < 0)
		return r;
	*out = c;
	return take_fd(&fd);
}

int checkpoint_move(int from_fd, int to_fd, uint64_t generation, struct op *op)
{
	auto_free char *name = str_printf(DIR_NAME "/" NAME_FORMAT, generation);
	auto_close int all = -1;
	int r = mkdirat(to_fd, DIR_NAME, 0700) < 0 && errno != EEXIST ? -errno : 0;

	if (r == 0)
		r = file_sync_dir(to_fd);
	if (r == 0 && renameat2(from_fd, name, to_fd, name, RENAME_NOREPLACE) < 0)
		r = -errno;
	if (r == 0)
		r = all = open_dir(to_fd, DIR_NAME);
	if (r >= 0)
		r = file_sync_dir(all);
	return r < 0 ? err_errno(&op->err, -r, "move checkpoint %ju", (uintmax_t)generation) : 0;
}

static int link_files(int fd, int draft, const struct checkpoint *c, struct op *op)
{
	static const char *const files[] = { "devices", "memory" };
	int r = image_link(fd, draft, c->image_id);

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(files); i++)
		r = linkat(fd, files[i], draft, files[i], 0) < 0 ? -errno : 0;
	return r < 0 ? err_errno(&op->err, -r, "share checkpoint %ju", (uintmax_t)c->generation)
		     : disk_link(fd, draft, op);
}

int checkpoint_link(int fd, int to_fd, const struct checkpoint *c, struct op *op)
{
	auto_close int draft = checkpoint_begin(to_fd, op);
	int r = draft < 0 ? draft : link_files(fd, draft, c, op);

	if (r == 0)
		r = checkpoint_commit(to_fd, draft, c, op);
	if (r < 0 && draft >= 0)
		ignore_err(file_remove_tree_at(to_fd, DIR_NAME "/" NEW_NAME)); /* the first error */
	return r;
}

int checkpoint_peek(int owner_fd, uint64_t generation, uint64_t *out_bytes)
{
	static const char *const files[] = { "manifest.json", "devices", "memory" };
	auto_free char *name = str_printf(DIR_NAME "/" NAME_FORMAT, generation);
	int fd = open_dir(owner_fd, name);
	uint64_t bytes = 0;
	struct stat st;

	for (size_t i = 0; fd >= 0 && i < ARRAY_SIZE(files); i++) {
		if (fstatat(fd, files[i], &st, AT_SYMLINK_NOFOLLOW) == 0)
			bytes += (uint64_t)st.st_blocks * STAT_BLOCK_BYTES;
	}
	if (fd >= 0)
		*out_bytes = bytes;
	return fd;
}

int checkpoint_remove(int owner_fd, uint64_t generation, struct op *op)
{
	auto_free char *name = str_printf(DIR_NAME "/" NAME_FORMAT, generation);
	auto_free char *going = str_printf(DIR_NAME "/" GONE_PREFIX NAME_FORMAT, generation);
	int r = file_remove_tree_at(owner_fd, going); /* of one that was killed */

	/* Renamed first: half a checkpoint never bears the name of a whole one. */
	if (r == 0 && renameat(owner_fd, name, owner_fd, going) < 0 && errno != ENOENT)
		r = -errno;
	if (r == 0)
		r = file_remove_tree_at(owner_fd, going);
	return r < 0 ? err_errno(&op->err, -r, "remove checkpoint %ju", (uintmax_t)generation) : 0;
}

int checkpoint_read(int owner_fd, uint64_t generation, struct checkpoint *out)
{
	auto_free char *name = str_printf(DIR_NAME "/" NAME_FORMAT, generation);
	auto_close int fd = open_dir(owner_fd, name);
	int r = fd < 0 ? fd : read_manifest(fd, out);

	return fd >= 0 && r == -ENOENT ? -EBADMSG : r;
}

int checkpoint_unfinished(int owner_fd)
{
	if (faccessat(owner_fd, DIR_NAME "/" NEW_NAME, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 1;
	return errno == ENOENT ? 0 : -errno;
}

static int compare_generations(const void *a, const void *b)
{
	const uint64_t *x = a;
	const uint64_t *y = b;

	return (*x > *y) - (*x < *y);
}

static bool parse_generation(const char *name, uint64_t *out)
{
	return name[0] >= '1' && name[0] <= '9' && parse_u64(name, 1, UINT64_MAX, out) == 0;
}

int checkpoint_list(int owner_fd, struct generations *out, struct op *op)
{
	auto_dir *d = NULL;
	const struct dirent *entry;
	uint64_t generation;
	int r = dir_open_at(owner_fd, DIR_NAME, O_NOFOLLOW, &d);

	if (r == -ENOENT)
		return 0;
	while (r >= 0 && (r = dir_next(d, &entry)) > 0) {
		if (parse_generation(entry->d_name, &generation))
			generations_push(out, generation);
	}
	if (r < 0)
		return err_errno(&op->err, -r, "list checkpoints");
	if (out->n > 1)
		qsort(out->at, out->n, sizeof(out->at[0]), compare_generations);
	return 0;
}

/* Finishes the deletions that a killed process was in. */
static int remove_gone(int owner_fd)
{
	auto_dir *d = NULL;
	const struct dirent *entry;
	int first = 0;
	int r = dir_open_at(owner_fd, DIR_NAME, O_NOFOLLOW, &d);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	while ((r = dir_next(d, &entry)) > 0) {
		if (str_starts(entry->d_name, GONE_PREFIX))
			r = file_remove_tree_at(dirfd(d), entry->d_name);
		first = first < 0 ? first : MIN(r, 0);
	}
	return first < 0 ? first : r;
}

/* Whether a checkpoint is there because nobody deleted it yet. */
static bool is_passing(int owner_fd, uint64_t generation)
{
	struct checkpoint c;

	return checkpoint_read(owner_fd, generation, &c) == 0 && !c.kept;
}

int checkpoint_tidy(int owner_fd, uint64_t current, struct op *op)
{
	struct generations all = { 0 };
	int first = remove_gone(owner_fd);
	int r = 0;

	if (first < 0)
		err_errno(&op->err, -first, "finish the removal of a checkpoint");
	r = checkpoint_list(owner_fd, &all, op);
	for (size_t i = 0; r == 0 && i < all.n; i++) {
		if (all.at[i] != current && is_passing(owner_fd, all.at[i]) &&
		    checkpoint_remove(owner_fd, all.at[i], op) < 0)
			first = -EIO;
	}
	generations_done(&all);
	return r < 0 ? r : first;
}
