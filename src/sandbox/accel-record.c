/* SPDX-License-Identifier: Apache-2.0 */
/* acceleration.json: the last verdict, and what it holds for. A hint: without it one is probed. */
#include "base/buf.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/json.h"
#include "base/str.h"
#include "sandbox/accel-internal.h"
#include "sandbox/sandbox-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <unistd.h>

static const char file_name[] = "acceleration.json";
static const char boot_id_file[] = "/proc/sys/kernel/random/boot_id";
static const char cpu_file[] = "/proc/cpuinfo";

/* What is read of cpu_file: more than its first CPU, the second is like it. */
enum { CPU_BYTES = 8192 };

struct text_field {
	const char *name;
	size_t offset;
	size_t size;
};

#define TEXT(member)                                                                               \
	{                                                                                          \
#member, offsetof(struct accel_key, member),                                       \
			sizeof(((struct accel_key *)NULL)->member)                                 \
	}

static const struct text_field key_fields[] = {
	TEXT(boot_id), TEXT(host_kernel), TEXT(guest_kernel), TEXT(vmm), TEXT(cpu),
};

void accel_clean(char *text)
{
	for (char *p = text; *p != '\0'; p++)
		if (*p < ' ' || *p > '~')
			*p = '?';
}

/* The value of a line "model name : Intel …" in the text of /proc/cpuinfo. */
static void find_cpu(const char *text, char *out, size_t size)
{
	const char *at = strstr(text, "model name");

	if (at == NULL)
		return;
	at += strcspn(at, ":\n");
	at += strspn(at, ": \t");
	str_copy(out, size, at);
	out[strcspn(out, "\n")] = '\0';
}

static void read_boot_id(char *out, size_t size)
{
	auto_buf text = BUF_INIT(size - 1);

	if (file_read_at(AT_FDCWD, boot_id_file, &text) < 0)
		return;
	str_copy(out, size, buf_str(&text));
	out[strcspn(out, "\n")] = '\0';
}

static void read_cpu(char *out, size_t size)
{
	char text[CPU_BYTES];
	auto_close int fd = open(cpu_file, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	text[MAX(n, 0)] = '\0';
	find_cpu(text, out, size);
}

void accel_cpu(const char *acceleration, char *out, size_t size)
{
	char model[sizeof(((struct accel_key *)NULL)->cpu)] = "";

	if (streq(acceleration, "kvm"))
		read_cpu(model, sizeof(model));
	accel_clean(model);
	snprintf(out, size, "%s%s%s", acceleration, model[0] != '\0' ? " on " : "", model);
}

void accel_key_find(const struct manager *m, const struct kernel *kernel, struct accel_key *out)
{
	struct accel_key key = { .boot_id = "" };
	struct utsname host;

	read_boot_id(key.boot_id, sizeof(key.boot_id));
	if (uname(&host) == 0)
		str_copy(key.host_kernel, sizeof(key.host_kernel), host.release);
	str_copy(key.guest_kernel, sizeof(key.guest_kernel), kernel->version);
	snprintf(key.vmm, sizeof(key.vmm), "%s %s", vmm_name(m->vmm), m->vmm_version);
	read_cpu(key.cpu, sizeof(key.cpu));
	for (size_t i = 0; i < ARRAY_SIZE(key_fields); i++)
		accel_clean((char *)&key + key_fields[i].offset);
	*out = key;
}

bool accel_key_equal(const struct accel_key *a, const struct accel_key *b)
{
	bool equal = a->boot_id[0] != '\0';

	for (size_t i = 0; i < ARRAY_SIZE(key_fields); i++)
		equal = equal && streq((const char *)a + key_fields[i].offset,
				       (const char *)b + key_fields[i].offset);
	return equal;
}

/* A text of the file, as we write it: there, short enough, printable ASCII. */
static int read_text(const json_t *object, const char *name, char *out, size_t size)
{
	const char *text = json_string_value(json_object_get(object, name));

	if (text == NULL || str_fit(out, size, "%s", text) < 0)
		return -EBADMSG;
	accel_clean(out);
	return streq(out, text) ? 0 : -EBADMSG;
}

int accel_record_parse(const char *text, size_t n, struct accel_record *out)
{
	auto_json *object = json_loadb(text, n, 0, NULL);
	struct accel_record record = { .kvm = false };
	char name[8];
	int r = read_text(object, "acceleration", name, sizeof(name));

	if (r == 0)
		r = read_text(object, "why", record.why, sizeof(record.why));
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(key_fields); i++)
		r = read_text(object, key_fields[i].name,
			      (char *)&record.key + key_fields[i].offset, key_fields[i].size);
	if (r < 0)
		return r;
	record.kvm = streq(name, "kvm");
	if (!record.kvm && !streq(name, "tcg"))
		return -EBADMSG;
	*out = record;
	return 0;
}

int accel_record_read(const char *state_dir, struct accel_record *out)
{
	auto_free char *path = str_printf("%s/%s", state_dir, file_name);
	auto_buf text = BUF_INIT(ACCEL_RECORD_MAX_BYTES);

	if (file_read_at(AT_FDCWD, path, &text) < 0)
		return -ENOENT;
	return accel_record_parse(buf_str(&text), text.len, out) < 0 ? -ENOENT : 0;
}

static void put(json_t *object, const char *name, const char *value)
{
	if (json_object_set_new(object, name, json_string(value)) < 0)
		abort(); /* no memory: the texts are ASCII */
}

int accel_record_write(const char *state_dir, const struct accel_record *record)
{
	auto_free char *path = str_printf("%s/%s", state_dir, file_name);
	auto_json *object = json_object();
	auto_free char *text = NULL;

	put(object, "acceleration", record->kvm ? "kvm" : "tcg");
	put(object, "why", record->why);
	for (size_t i = 0; i < ARRAY_SIZE(key_fields); i++)
		put(object, key_fields[i].name, (const char *)&record->key + key_fields[i].offset);
	text = json_dumps(object, JSON_INDENT(2));
	if (text == NULL)
		return -ENOMEM;
	return file_write_atomic_at(AT_FDCWD, path, text, strlen(text), 0600);
}
