/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/handles.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>

#define FILE_NAME    "handles.json"
#define BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"

enum { PROC_MAX_BYTES = 4096, STAT_FIELD_NAME = 2, STAT_FIELD_START_TIME = 22 };

struct text_field {
	const char *key;
	size_t offset;
	size_t size;
};

#define TEXT(name)                                                                                 \
	{                                                                                          \
#name, offsetof(struct handles, name), sizeof(((struct handles *)NULL)->name)      \
	}

static const struct text_field text_fields[] = {
	TEXT(boot_id),   TEXT(netns),    TEXT(tap),     TEXT(cgroup),
	TEXT(base_loop), TEXT(cow_loop), TEXT(dm_name), TEXT(dm_device),
};

/* The name of the program, field 2, is in parentheses and may hold anything, also parentheses. */
static uint64_t read_start_time(pid_t pid)
{
	auto_free char *path = str_printf("/proc/%d/stat", pid);
	auto_buf text = BUF_INIT(PROC_MAX_BYTES);
	const char *at;

	if (pid <= 0 || file_read_at(AT_FDCWD, path, &text) < 0)
		return 0;
	at = strrchr(buf_str(&text), ')');
	for (int field = STAT_FIELD_NAME; at != NULL && field < STAT_FIELD_START_TIME; field++)
		at = strchr(at + 1, ' ');
	return at != NULL ? strtoull(at, NULL, 10) : 0;
}

static void read_boot_id(char *out, size_t size)
{
	auto_buf text = BUF_INIT(PROC_MAX_BYTES);

	if (file_read_at(AT_FDCWD, BOOT_ID_FILE, &text) < 0)
		return;
	str_copy(out, size, buf_str(&text));
	out[strcspn(out, "\n")] = '\0';
}

void handles_complete(struct handles *h)
{
	h->start_time = read_start_time(h->pid);
	read_boot_id(h->boot_id, sizeof(h->boot_id));
}

static void put(json_t *object, const char *key, json_t *value)
{
	if (json_object_set_new(object, key, value) < 0)
		abort(); /* no memory, or a name of ours that is no UTF-8 */
}

int handles_write(int run_dirfd, const struct handles *h)
{
	auto_json *object = json_object();
	auto_free char *text = NULL;

	if (h->pid != 0)
		put(object, "pid", json_integer(h->pid));
	if (h->start_time != 0)
		put(object, "start_time", json_integer((json_int_t)h->start_time));
	for (size_t i = 0; i < ARRAY_SIZE(text_fields); i++) {
		const char *value = (const char *)h + text_fields[i].offset;

		if (value[0] != '\0')
			put(object, text_fields[i].key, json_string(value));
	}
	text = json_dumps(object, JSON_INDENT(2));
	if (text == NULL)
		return -ENOMEM;
	return file_write_hint_at(run_dirfd, FILE_NAME, text, strlen(text), 0600);
}

int handles_parse(const char *text, size_t n, struct handles *out)
{
	auto_json *object = json_loadb(text, n, 0, NULL);
	struct handles h = HANDLES_INIT;
	json_int_t number;

	if (!json_is_object(object))
		return -EBADMSG;
	number = json_integer_value(json_object_get(object, "pid"));
	if (number > 0 && number <= INT_MAX)
		h.pid = (pid_t)number;
	number = json_integer_value(json_object_get(object, "start_time"));
	if (number > 0)
		h.start_time = (uint64_t)number;
	for (size_t i = 0; i < ARRAY_SIZE(text_fields); i++) {
		const struct text_field *f = &text_fields[i];
		const char *value = json_string_value(json_object_get(object, f->key));

		if (value != NULL && strlen(value) < f->size)
			str_copy((char *)&h + f->offset, f->size, value);
	}
	*out = h;
	return 0;
}

int handles_read(int run_dirfd, struct handles *out)
{
	auto_buf text = BUF_INIT(HANDLES_MAX_BYTES);

	if (file_read_at(run_dirfd, FILE_NAME, &text) < 0)
		return -ENOENT;
	return handles_parse(buf_str(&text), text.len, out) < 0 ? -ENOENT : 0;
}
