/* SPDX-License-Identifier: Apache-2.0 */
#include "build/oci.h"

#include "base/str.h"

#include <errno.h>
#include <stdlib.h>

enum { HEX_LEN = OCI_DIGEST_SIZE - 1 };
static const char digest_prefix[] = "sha256:";
static const char attestation[] = "vnd.docker.reference.type";

void oci_part_done(struct oci_part *part)
{
	free(take_ptr(&part->path));
}

void oci_manifest_done(struct oci_manifest *m)
{
	oci_part_done(&m->config);
	vec_foreach (layer, &m->layers)
		oci_part_done(layer);
	oci_parts_done(&m->layers);
}

void oci_config_done(struct oci_config *c)
{
	oci_digests_done(&c->diff_ids);
	json_decref(c->image);
	c->image = NULL;
}

static int refuse(struct err *e, const char *what, const char *why)
{
	return err_set(e, ERR_INVALID, "the image's %s is malformed: %s", what, why);
}

static int load(const char *text, size_t n, const char *what, json_t **out, struct err *e)
{
	json_error_t why;

	*out = json_loadb(text, n, 0, &why);
	return *out == NULL ? refuse(e, what, why.text) : 0;
}

/* "" for what is no string. */
static const char *text_of(const json_t *o, const char *key)
{
	const char *text = json_string_value(json_object_get(o, key));

	return text != NULL ? text : "";
}

static int parse_digest(const char *text, char out[OCI_DIGEST_SIZE], const char *what,
			struct err *e)
{
	const char *hex;

	if (!str_starts(text, digest_prefix))
		return err_set(e, ERR_UNSUPPORTED,
			       "the image's %s has a digest \"%.80s\": only sha256 "
			       "is known",
			       what, text);
	hex = text + strlen(digest_prefix);
	if (strlen(hex) != HEX_LEN || strspn(hex, "0123456789abcdef") != HEX_LEN)
		return refuse(e, what, "a digest is none");
	str_copy(out, OCI_DIGEST_SIZE, hex);
	return 0;
}

/* A descriptor: {"digest": "sha256:…", "size": n}. */
static int parse_part(const json_t *o, const char *what, struct oci_part *out, struct err *e)
{
	json_int_t size = json_integer_value(json_object_get(o, "size"));
	int r = parse_digest(text_of(o, "digest"), out->sha256, what, e);

	if (r < 0)
		return r;
	if (size <= 0)
		return refuse(e, what, "a part has no size");
	out->bytes = (uint64_t)size;
	out->path = str_printf("blobs/sha256/%s", out->sha256);
	return 0;
}

static bool is_index(const json_t *o)
{
	const char *type = text_of(o, "mediaType");

	return streq(type, "application/vnd.oci.image.index.v1+json") ||
	       streq(type, "application/vnd.docker.distribution.manifest.list.v2+json");
}

/* Without a platform it may be for any; what tells of another image is none. */
static bool is_candidate(const json_t *o, const char *arch)
{
	const json_t *platform = json_object_get(o, "platform");

	if (json_object_get(json_object_get(o, "annotations"), attestation) != NULL)
		return false;
	return platform == NULL || (streq(text_of(platform, "os"), "linux") &&
				    streq(text_of(platform, "architecture"), arch));
}

int oci_index_parse(const char *text, size_t n, const char *arch, struct oci_part *out,
		    struct err *e)
{
	auto_json *j = NULL;
	cleanup(oci_part_done) struct oci_part part = { .path = NULL };
	const json_t *chosen = NULL;
	const json_t *o;
	size_t found = 0;
	size_t i;
	int r = load(text, n, "index", &j, e);

	if (r < 0)
		return r;
	json_array_foreach(json_object_get(j, "manifests"), i, o)
	{
		if (!is_candidate(o, arch))
			continue;
		chosen = o;
		found++;
	}
	if (found != 1)
		return err_set(e, ERR_INVALID,
			       "there are %zu images for linux/%s in it: save one of them alone",
			       found, arch);
	r = parse_part(chosen, "index", &part, e);
	if (r < 0)
		return r;
	*out = part;
	part.path = NULL;
	return is_index(chosen);
}

static int check_layers(const json_t *layers, const char *what, struct err *e)
{
	if (!json_is_array(layers))
		return refuse(e, what, "it has no list of layers");
	if (json_array_size(layers) > OCI_LAYERS_MAX)
		return err_set(e, ERR_UNSUPPORTED, "the image has more than %d layers",
			       OCI_LAYERS_MAX);
	return 0;
}

static int parse_layers(const json_t *layers, struct oci_parts *out, struct err *e)
{
	const json_t *o;
	size_t i;
	int r = check_layers(layers, "manifest", e);

	if (r < 0)
		return r;
	json_array_foreach(layers, i, o)
	{
		struct oci_part part = { .path = NULL };

		r = parse_part(o, "manifest", &part, e);
		if (r < 0)
			return r;
		oci_parts_push(out, part);
	}
	return 0;
}

int oci_manifest_parse(const char *text, size_t n, struct oci_manifest *out, struct err *e)
{
	cleanup(oci_manifest_done) struct oci_manifest m = { .layers = { 0 } };
	auto_json *j = NULL;
	int r = load(text, n, "manifest", &j, e);

	if (r == 0)
		r = parse_part(json_object_get(j, "config"), "manifest", &m.config, e);
	if (r == 0)
		r = parse_layers(json_object_get(j, "layers"), &m.layers, e);
	if (r < 0)
		return r;
	*out = m;
	m = (struct oci_manifest){ .layers = { 0 } };
	return 0;
}

static int saved_part(const json_t *name, struct oci_part *out, struct err *e)
{
	const char *path = json_string_value(name);

	if (path == NULL || path[0] == '\0')
		return refuse(e, "manifest.json", "a file has no name");
	*out = (struct oci_part){ .path = str_dup(path), .bytes = OCI_BYTES_ANY };
	return 0;
}

static int saved_layers(const json_t *layers, struct oci_parts *out, struct err *e)
{
	const json_t *name;
	size_t i;
	int r = check_layers(layers, "manifest.json", e);

	if (r < 0)
		return r;
	json_array_foreach(layers, i, name)
	{
		struct oci_part part;

		r = saved_part(name, &part, e);
		if (r < 0)
			return r;
		oci_parts_push(out, part);
	}
	return 0;
}

int oci_saved_parse(const char *text, size_t n, struct oci_manifest *out, struct err *e)
{
	cleanup(oci_manifest_done) struct oci_manifest m = { .layers = { 0 } };
	auto_json *j = NULL;
	const json_t *image;
	int r = load(text, n, "manifest.json", &j, e);

	if (r < 0)
		return r;
	if (json_array_size(j) != 1)
		return err_set(e, ERR_INVALID, "there are %zu images in it: save one of them alone",
			       json_array_size(j));
	image = json_array_get(j, 0);
	r = saved_part(json_object_get(image, "Config"), &m.config, e);
	if (r == 0)
		r = saved_layers(json_object_get(image, "Layers"), &m.layers, e);
	if (r < 0)
		return r;
	*out = m;
	m = (struct oci_manifest){ .layers = { 0 } };
	return 0;
}

static int parse_diff_ids(const json_t *ids, struct oci_digests *out, struct err *e)
{
	const json_t *id;
	size_t i;

	if (!json_is_array(ids) || json_array_size(ids) > OCI_LAYERS_MAX)
		return refuse(e, "configuration", "it has no list of layers");
	json_array_foreach(ids, i, id)
	{
		struct oci_digest digest;
		const char *text = json_string_value(id);
		int r = parse_digest(text != NULL ? text : "", digest.sha256, "configuration", e);

		if (r < 0)
			return r;
		oci_digests_push(out, digest);
	}
	return 0;
}

/* ["NAME=value", …] as an object; of a name said twice the later counts. NULL without memory, or
 * with @e set. */
static json_t *parse_env(const json_t *list, struct err *e)
{
	auto_json *env = json_object();
	const json_t *item;
	size_t i;

	json_array_foreach(list, i, item)
	{
		const char *text = json_string_value(item);
		const char *eq = text != NULL ? strchr(text, '=') : NULL;
		char *name;
		int r;

		if (text == NULL || eq == text) {
			refuse(e, "configuration", "a variable of its environment has no name");
			return NULL;
		}
		if (eq == NULL) /* it asks for one of the host's */
			continue;
		name = strndup(text, (size_t)(eq - text));
		r = name == NULL ? -1 : json_object_set_new(env, name, json_string(eq + 1));
		free(name);
		if (r < 0)
			return NULL;
	}
	return take_ptr(&env);
}

/* A command: a list of strings; null and absent are none. */
static int check_words(const json_t *words, struct err *e)
{
	const json_t *word;
	size_t i;

	if (words != NULL && !json_is_null(words) && !json_is_array(words))
		return refuse(e, "configuration", "its Entrypoint or Cmd is no list");
	json_array_foreach(words, i, word)
	{
		if (!json_is_string(word))
			return refuse(e, "configuration", "its Entrypoint or Cmd has no words");
	}
	return 0;
}

static int parse_image(const json_t *config, json_t **out, struct err *e)
{
	json_t *entrypoint = json_object_get(config, "Entrypoint");
	json_t *cmd = json_object_get(config, "Cmd");
	json_t *env;
	int r = check_words(entrypoint, e);

	if (r == 0)
		r = check_words(cmd, e);
	if (r < 0)
		return r;
	env = parse_env(json_object_get(config, "Env"), e);
	if (env != NULL)
		*out = json_pack("{s:o, s:O*, s:O*}", "env", env, "entrypoint",
				 json_is_array(entrypoint) ? entrypoint : NULL, "cmd",
				 json_is_array(cmd) ? cmd : NULL);
	return *out == NULL ? err_errno(e, ENOMEM, "read the image's configuration") : 0;
}

/* Without the group of "user:group": commands have the user's own. */
static int parse_user(const json_t *config, char out[OCI_USER_SIZE], struct err *e)
{
	const char *user = text_of(config, "User");

	if (strcspn(user, ":") >= OCI_USER_SIZE)
		return refuse(e, "configuration", "the name of its User is too long");
	str_copy(out, strcspn(user, ":") + 1, user);
	return 0;
}

static int parse_workdir(const json_t *config, char out[OCI_WORKDIR_SIZE], struct err *e)
{
	const char *dir = text_of(config, "WorkingDir");

	if (str_fit(out, OCI_WORKDIR_SIZE, "/%s", dir + strspn(dir, "/")) < 0)
		return err_set(e, ERR_UNSUPPORTED,
			       "the image's WorkingDir is longer than %d bytes: %.80s…",
			       OCI_WORKDIR_SIZE - 1, dir);
	return 0;
}

/* Old images do not say. */
static int check_platform(const json_t *j, const char *arch, struct err *e)
{
	const char *os = text_of(j, "os");
	const char *its_arch = text_of(j, "architecture");

	if ((os[0] == '\0' || streq(os, "linux")) && (its_arch[0] == '\0' || streq(its_arch, arch)))
		return 0;
	return err_set(e, ERR_UNSUPPORTED,
		       "the image is for %.40s/%.40s, and this host runs linux/%s",
		       os[0] != '\0' ? os : "?", its_arch[0] != '\0' ? its_arch : "?", arch);
}

int oci_config_parse(const char *text, size_t n, const char *arch, struct oci_config *out,
		     struct err *e)
{
	cleanup(oci_config_done) struct oci_config c = { .image = NULL };
	auto_json *j = NULL;
	const json_t *config;
	int r = load(text, n, "configuration", &j, e);

	if (r == 0)
		r = check_platform(j, arch, e);
	if (r < 0)
		return r;
	config = json_object_get(j, "config");
	r = parse_diff_ids(json_object_get(json_object_get(j, "rootfs"), "diff_ids"), &c.diff_ids,
			   e);
	if (r == 0)
		r = parse_image(config, &c.image, e);
	if (r == 0)
		r = parse_user(config, c.user, e);
	if (r == 0)
		r = parse_workdir(config, c.workdir, e);
	if (r < 0)
		return r;
	*out = c;
	c = (struct oci_config){ .image = NULL };
	return 0;
}
