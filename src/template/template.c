/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * templates/<name> is a link to templates/<name>@<digest>/, the directory of one build. A name's
 * new build replaces the link in one rename; the directory before it stays, for the sandboxes whose
 * layers lie over its image. A reader follows the link once and uses the directory's own name from
 * then on, so that manifest and image are always of one build.
 */
#include "template/template.h"

#include "base/buf.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/json.h"
#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MANIFEST_FORMAT = 1, MANIFEST_BYTES_MAX = 1 << 20, SECTOR_BYTES = 512 };
static const int64_t ROOT_BYTES_MAX = (int64_t)1 << 50;

static const char rebuild[] = "build it anew: \"vivd prepare --force\", or \"viv template import\"";

/* The directory of a template's newest build. Return: 0; -ENOENT; -EINVAL a link to elsewhere;
 * -errno */
static int build_dir(const char *state_dir, const char *name, char **out)
{
	auto_free char *path = str_printf("%s/templates/%s", state_dir, name);
	char target[NAME_MAX + 1];
	ssize_t n = readlink(path, target, sizeof(target) - 1);

	if (n < 0 && errno == EINVAL) { /* no link, but the directory itself */
		*out = take_ptr(&path);
		return 0;
	}
	if (n < 0)
		return -errno;
	target[n] = '\0';
	if (strchr(target, '/') != NULL)
		return -EINVAL;
	*out = str_printf("%s/templates/%s", state_dir, target);
	return 0;
}

bool template_exists(const char *state_dir, const char *name)
{
	struct template t;

	return template_open(state_dir, name, &t, NULL) == 0;
}

static bool hex_valid(const char *s)
{
	return strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64;
}

bool template_user_valid(const char *s)
{
	size_t n = strlen(s);

	if (n == 0 || n >= sizeof(((struct template *)NULL)->user))
		return false;
	for (; *s != '\0'; s++)
		if (!isgraph((unsigned char)*s) || *s == ':' || *s == '/')
			return false;
	return true;
}

static bool workdir_valid(const char *s)
{
	return strlen(s) < sizeof(((struct template *)NULL)->workdir) &&
	       (s[0] == '/' || s[0] == '\0');
}

static int refuse(struct err *e, const char *name, const char *dir, const char *why)
{
	return err_set(e, ERR_SYSTEM, "template %s: %s/manifest.json: %s; %s", name, dir, why,
		       rebuild);
}

/* Absent is as good as empty. */
static bool env_valid(const json_t *env)
{
	const char *name;
	json_t *value;

	if (env != NULL && !json_is_object(env))
		return false;
	json_object_foreach((json_t *)(uintptr_t)env, name, value)
	{
		if (name[0] == '\0' || strchr(name, '=') != NULL || !json_is_string(value))
			return false;
	}
	return true;
}

/* What jansson's types leave open; NULL = all is well. */
static const char *wrong_field(const json_t *j)
{
	int64_t bytes = json_integer_value(json_object_get(j, "root_bytes"));

	if (bytes <= 0 || bytes > ROOT_BYTES_MAX || bytes % SECTOR_BYTES != 0)
		return "root_bytes is no size of a disk";
	if (!hex_valid(json_string_value(json_object_get(j, "sha256"))))
		return "sha256 is no digest";
	if (!template_user_valid(json_string_value(json_object_get(j, "user"))))
		return "user is no user name";
	if (!workdir_valid(json_string_value(json_object_get(j, "workdir"))))
		return "workdir is no absolute path";
	if (json_integer_value(json_object_get(j, "created_ms")) < 0)
		return "created_ms is no time";
	if (!env_valid(json_object_get(j, "env")))
		return "env is no object of names and strings";
	return NULL;
}

static int parse_manifest(json_t *j, const char *dir, struct template *out, struct err *e)
{
	json_int_t format = 0;
	json_int_t root_bytes;
	json_int_t created_ms;
	const char *sha256;
	const char *user;
	const char *workdir;
	const char *wrong;
	json_error_t why;

	if (json_unpack_ex(j, &why, 0, "{s:I}", "format", &format) == 0 &&
	    format != MANIFEST_FORMAT)
		return refuse(e, out->name, dir, "its format is not known to this version");
	if (json_unpack_ex(j, &why, 0, "{s:I, s:I, s:s, s:s, s:s, s:I}", "format", &format,
			   "root_bytes", &root_bytes, "sha256", &sha256, "user", &user, "workdir",
			   &workdir, "created_ms", &created_ms) < 0)
		return refuse(e, out->name, dir, why.text);
	wrong = wrong_field(j);
	if (wrong != NULL)
		return refuse(e, out->name, dir, wrong);
	out->root_bytes = (uint64_t)root_bytes;
	out->created_ms = (uint64_t)created_ms;
	str_copy(out->sha256, sizeof(out->sha256), sha256);
	str_copy(out->user, sizeof(out->user), user);
	str_copy(out->workdir, sizeof(out->workdir), workdir);
	return 0;
}

/* The JSON of a build's manifest; new reference. */
static int load_manifest(const char *dir, const char *name, json_t **out, struct err *e)
{
	auto_free char *path = str_printf("%s/manifest.json", dir);
	auto_buf text = BUF_INIT(MANIFEST_BYTES_MAX);
	json_error_t why;
	int r = file_read_at(AT_FDCWD, path, &text);

	if (r < 0)
		return err_set(e, ERR_SYSTEM, "template %s: read %s: %s; %s", name, path,
			       strerrordesc_np(-r), rebuild);
	*out = json_loadb(buf_str(&text), text.len, JSON_REJECT_DUPLICATES, &why);
	return *out == NULL ? refuse(e, name, dir, why.text) : 0;
}

static int read_manifest(const char *dir, struct template *out, struct err *e)
{
	auto_json *j = NULL;
	int r = load_manifest(dir, out->name, &j, e);

	return r < 0 ? r : parse_manifest(j, dir, out, e);
}

int template_env(const struct template *t, json_t **out, struct err *e)
{
	const char *slash = strrchr(t->root_path, '/');
	auto_free char *dir =
		str_printf("%.*s", slash != NULL ? (int)(slash - t->root_path) : 0, t->root_path);
	auto_json *j = NULL;
	json_t *env;
	int r = load_manifest(dir, t->name, &j, e);

	if (r < 0)
		return r;
	env = json_object_get(j, "env");
	if (!env_valid(env))
		return refuse(e, t->name, dir, "env is no object of names and strings");
	*out = env != NULL ? json_incref(env) : json_object();
	return *out == NULL ? err_errno(e, ENOMEM, "read the environment of template %s", t->name)
			    : 0;
}

static int check_image(const struct template *t, struct err *e)
{
	struct stat st;

	if (stat(t->root_path, &st) < 0)
		return err_set(e, ERR_SYSTEM, "template %s: %s: %s; %s", t->name, t->root_path,
			       strerrordesc_np(errno), rebuild);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != t->root_bytes)
		return err_set(e, ERR_SYSTEM,
			       "template %s: %s is not the file of %llu bytes that was built; %s",
			       t->name, t->root_path, (unsigned long long)t->root_bytes, rebuild);
	return 0;
}

int template_open(const char *state_dir, const char *name, struct template *out, struct err *e)
{
	auto_free char *dir = NULL;
	struct template t = { .root_bytes = 0 };
	int r = name_check("template", name, e);

	if (r < 0)
		return r;
	r = build_dir(state_dir, name, &dir);
	if (r == -ENOENT)
		return err_set(e, ERR_NOT_FOUND,
			       "no template %s in %s/templates; \"vivd prepare\" makes base, and "
			       "\"viv template import\" others",
			       name, state_dir);
	if (r < 0)
		return err_errno(e, -r, "open template %s in %s/templates", name, state_dir);
	str_copy(t.name, sizeof(t.name), name);
	r = str_fit(t.root_path, sizeof(t.root_path), "%s/root.img", dir);
	if (r < 0)
		return err_errno(e, -r, "template %s: path of its image", name);
	r = read_manifest(dir, &t, e);
	if (r == 0)
		r = check_image(&t, e);
	if (r == 0)
		*out = t;
	return r;
}

int template_write_manifest(int dirfd, const struct template *t, const json_t *image, struct err *e)
{
	auto_json *j =
		json_pack("{s:i, s:I, s:s, s:s, s:s, s:I}", "format", MANIFEST_FORMAT, "root_bytes",
			  (json_int_t)t->root_bytes, "sha256", t->sha256, "user", t->user,
			  "workdir", t->workdir, "created_ms", (json_int_t)t->created_ms);
	auto_free char *text = NULL;
	auto_free char *line = NULL;
	int r;

	if (j != NULL &&
	    (image == NULL || json_object_update_missing(j, (json_t *)(uintptr_t)image) == 0))
		text = json_dumps(j, JSON_INDENT(2));
	if (text == NULL)
		return err_errno(e, ENOMEM, "write the manifest of template %s", t->name);
	if (strlen(text) >= MANIFEST_BYTES_MAX)
		return err_set(e, ERR_INVALID,
			       "template %s: the image's environment and commands are longer than "
			       "%d bytes",
			       t->name, MANIFEST_BYTES_MAX);
	line = str_printf("%s\n", text);
	r = file_write_atomic_at(dirfd, "manifest.json", line, strlen(line), 0644);
	return r < 0 ? err_errno(e, -r, "write the manifest of template %s", t->name) : 0;
}
