/* SPDX-License-Identifier: Apache-2.0 */
/* What a snapshot's directory says of it: snapshot.json, and its checkpoint's manifest. */
#include "base/buf.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/json.h"
#include "base/str.h"
#include "sandbox/snapshot-internal.h"

#include <ctype.h>
#include <errno.h>

enum { FILE_VERSION = 1, FILE_MAX_BYTES = 1 << 20 };

static bool is_uuid(const char *s)
{
	static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
	size_t i = 0;

	for (; s[i] != '\0' && form[i] != '\0'; i++) {
		if (form[i] == '-' ? s[i] != '-' : !isxdigit((unsigned char)s[i]))
			return false;
	}
	return s[i] == form[i];
}

static bool tag_valid(const char *s)
{
	size_t n = strlen(s);

	return n >= 1 && n <= NAME_MAX_LEN &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_.-") == n && !is_uuid(s);
}

int snapshot_name_parse(const char *text, struct snapshot_name *out, struct err *e)
{
	auto_free char *lower = str_dup(text);
	struct snapshot_name name = { .tag = "" };
	char *tag;

	for (char *c = lower; *c != '\0'; c++)
		*c = (char)tolower((unsigned char)*c);
	tag = strchr(lower, ':');
	if (tag != NULL)
		*tag++ = '\0';
	if (strchr(lower, '/') != NULL)
		return err_set(e, ERR_INVALID,
			       "name '%.140s': names have no namespaces here; leave out what is "
			       "before the '/'",
			       text);
	if (!name_valid(lower))
		return err_set(e, ERR_INVALID,
			       "name '%.140s': a snapshot's name is 1 to %d of a-z 0-9 _ . -, a "
			       "letter or digit first, and maybe ':' and a tag",
			       text, NAME_MAX_LEN);
	if (tag != NULL && !tag_valid(tag))
		return err_set(e, ERR_INVALID,
			       "name '%.140s': a tag is 1 to %d of a-z 0-9 _ . -, and no UUID",
			       text, NAME_MAX_LEN);
	str_copy(name.name, sizeof(name.name), lower);
	str_copy(name.tag, sizeof(name.tag), tag != NULL ? tag : "");
	*out = name;
	return 0;
}

void snapshot_id(const struct snapshot *s, char out[SNAPSHOT_ID_SIZE])
{
	ignore_err(str_fit(out, SNAPSHOT_ID_SIZE, "%s:%s", s->id.name, s->id.tag)); /* fits */
}

void snapshot_done(struct snapshot *s)
{
	free_ptr(&s->template_name);
	free_ptr(&s->user);
	free_ptr(&s->workdir);
	free_ptr(&s->env_json);
}

char *snapshot_describe(const struct snapshot *s)
{
	auto_json *env = json_loads(s->env_json, 0, NULL);
	auto_json *o = json_pack("{s:i, s:b, s:s, s:s, s:s, s:s, s:O, s:I, s:I}", "version",
				 FILE_VERSION, "named", s->named, "source", s->source.s, "template",
				 s->template_name, "user", s->user, "workdir", s->workdir, "env",
				 env, "createdMs", (json_int_t)s->created_ms, "generation",
				 (json_int_t)s->checkpoint.generation);

	return o != NULL ? json_dumps(o, JSON_INDENT(2)) : NULL;
}

static bool strings_only(const json_t *env)
{
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)env, name, value)
	{
		if (name[0] == '\0' || strchr(name, '=') != NULL || !json_is_string(value))
			return false;
	}
	return true;
}

int snapshot_parse(const char *text, size_t n, struct snapshot *out)
{
	auto_json *o = json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL);
	const char *source;
	const char *template_name;
	const char *user;
	const char *workdir;
	json_t *env;
	json_int_t created;
	json_int_t generation;
	struct sandbox_id id;
	int version;
	int named;

	if (json_unpack(o, "{s:i, s:b, s:s, s:s, s:s, s:s, s:o, s:I, s:I}", "version", &version,
			"named", &named, "source", &source, "template", &template_name, "user",
			&user, "workdir", &workdir, "env", &env, "createdMs", &created,
			"generation", &generation) < 0)
		return -EBADMSG;
	if (version != FILE_VERSION || id_parse(source, &id) < 0 || !json_is_object(env) ||
	    !strings_only(env) || created < 0 || generation < 1)
		return -EBADMSG;
	out->env_json = json_dumps(env, JSON_COMPACT);
	if (out->env_json == NULL)
		return -EBADMSG;
	out->source = id;
	out->named = named != 0;
	out->template_name = str_dup(template_name);
	out->user = str_dup(user);
	out->workdir = str_dup(workdir);
	out->created_ms = (uint64_t)created;
	out->checkpoint.generation = (uint64_t)generation;
	return 0;
}

static int read_parts(const struct disk_ops *disk, int dirfd, struct snapshot *out)
{
	auto_buf text = BUF_INIT(FILE_MAX_BYTES);
	auto_close int fd = -1;
	int r = file_read_at(dirfd, "snapshot.json", &text);

	if (r == 0)
		r = snapshot_parse(buf_str(&text), text.len, out);
	if (r < 0)
		return err_set(&out->fault, ERR_SYSTEM, "its snapshot.json: %s", strerror(-r));
	r = checkpoint_read(dirfd, out->checkpoint.generation, &out->checkpoint);
	if (r == 0)
		r = fd = checkpoint_peek(dirfd, out->checkpoint.generation, &out->bytes);
	if (r < 0)
		return err_set(&out->fault, ERR_SYSTEM, "its checkpoint: %s", strerror(-r));
	out->bytes += disk_allocated(disk, fd);
	return 0;
}

void snapshot_read(const struct disk_ops *disk, int dirfd, struct snapshot *out)
{
	ignore_err(read_parts(disk, dirfd, out)); /* the fault says it */
}
