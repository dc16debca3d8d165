/* SPDX-License-Identifier: Apache-2.0 */
#include "template/start.h"

#include "base/fd.h"
#include "base/file.h"
#include "base/sha256.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define START_FILE "start.json"

enum { FILE_BYTES_MAX = 8 * TEMPLATE_START_MAX };

static int open_dir(const struct template *t, struct err *e)
{
	const char *end = strrchr(t->root_path, '/');
	auto_free char *dir =
		str_printf("%.*s", end != NULL ? (int)(end - t->root_path) : 0, t->root_path);
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? err_errno(e, errno, "open template %s", t->name) : fd;
}

static int take(const json_t *o, const char *key, char *out, size_t size)
{
	const char *text = json_string_value(json_object_get(o, key));

	return text == NULL ? -EBADMSG : str_fit(out, size, "%s", text);
}

static int parse(const struct buf *text, struct template_start *out)
{
	auto_json *o = json_loadb(text->len > 0 ? buf_head(text) : "", text->len, 0, NULL);
	char hex[SHA256_HEX_SIZE];
	struct sha256 sha;
	int r = take(o, "startCmd", out->command, sizeof(out->command));

	if (r == 0)
		r = take(o, "readyCmd", out->ready, sizeof(out->ready));
	if (r < 0 || out->command[0] == '\0')
		return -EBADMSG;
	sha256_init(&sha);
	sha256_add(&sha, buf_head(text), text->len);
	sha256_hex(&sha, hex);
	str_copy(out->id, sizeof(out->id), hex);
	return 0;
}

int template_start_read(const struct template *t, struct template_start *out, struct err *e)
{
	auto_close int fd = open_dir(t, e);
	auto_buf text = BUF_INIT(FILE_BYTES_MAX);
	int r;

	*out = (struct template_start){ .id = "" };
	if (fd < 0)
		return fd;
	r = file_read_at(fd, START_FILE, &text);
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = parse(&text, out);
	if (r == 0)
		return 0;
	return err_set(e, ERR_SYSTEM,
		       "template %s: its " START_FILE
		       " cannot be read (%s); say the command again with `viv template warm`",
		       t->name, strerrordesc_np(-r));
}

static int check(const char *command, const char *ready, struct err *e)
{
	if (strlen(command) > TEMPLATE_START_MAX || strlen(ready) > TEMPLATE_START_MAX)
		return err_set(e, ERR_INVALID,
			       "a start command and its condition have at most %d bytes each",
			       TEMPLATE_START_MAX);
	if (command[0] == '\0' && ready[0] != '\0')
		return err_set(e, ERR_INVALID,
			       "there is a condition to be ready (%.100s), but no start command",
			       ready);
	return 0;
}

static int forget(const struct template *t, int fd, struct err *e)
{
	int r = unlinkat(fd, START_FILE, 0) < 0 && errno != ENOENT ? -errno : file_sync_dir(fd);

	return r < 0 ? err_errno(e, -r, "remove the start command of template %s", t->name) : 0;
}

int template_start_write(const struct template *t, const char *command, const char *ready,
			 struct err *e)
{
	auto_close int fd = -1;
	auto_json *o = NULL;
	auto_free char *text = NULL;
	int r = check(command, ready, e);

	if (r < 0)
		return r;
	fd = open_dir(t, e);
	if (fd < 0)
		return fd;
	if (command[0] == '\0')
		return forget(t, fd, e);
	o = json_pack("{s:s, s:s}", "startCmd", command, "readyCmd", ready);
	text = o != NULL ? json_dumps(o, JSON_COMPACT) : NULL;
	if (text == NULL)
		return err_set(e, ERR_INVALID, "the start command is no UTF-8 text");
	r = file_write_atomic_at(fd, START_FILE, text, strlen(text), 0600);
	return r < 0 ? err_errno(e, -r, "write the start command of template %s", t->name) : 0;
}
