/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON of an image, whichever of its kinds the first byte says: what comes out is within its
 * bounds, and names nothing but sha256 digests and what is below the image's directory. */
#include "base/str.h"
#include "build/oci.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void check_digest(const char *hex)
{
	require(strlen(hex) == OCI_DIGEST_SIZE - 1 &&
		strspn(hex, "0123456789abcdef") == OCI_DIGEST_SIZE - 1);
}

static void check_part(const struct oci_part *part, bool saved)
{
	require(part->path != NULL && part->path[0] != '\0');
	if (saved)
		return;
	check_digest(part->sha256);
	require(str_ends(part->path, part->sha256) && part->bytes > 0 && part->bytes <= INT64_MAX);
}

static int read_manifest(const char *text, size_t n, bool saved, struct err *e)
{
	struct oci_manifest m;
	int r = saved ? oci_saved_parse(text, n, &m, e) : oci_manifest_parse(text, n, &m, e);

	if (r < 0)
		return r;
	check_part(&m.config, saved);
	require(m.layers.n <= OCI_LAYERS_MAX);
	vec_foreach (layer, &m.layers)
		check_part(layer, saved);
	oci_manifest_done(&m);
	return 0;
}

static int read_index(const char *text, size_t n, struct err *e)
{
	struct oci_part part;
	int r = oci_index_parse(text, n, "amd64", &part, e);

	if (r < 0)
		return r;
	check_part(&part, false);
	oci_part_done(&part);
	return 0;
}

static int read_config(const char *text, size_t n, struct err *e)
{
	struct oci_config c;
	const char *name;
	json_t *value;
	int r = oci_config_parse(text, n, "amd64", &c, e);

	if (r < 0)
		return r;
	require(c.workdir[0] == '/' && strlen(c.workdir) < OCI_WORKDIR_SIZE &&
		strlen(c.user) < OCI_USER_SIZE && strchr(c.user, ':') == NULL);
	vec_foreach (id, &c.diff_ids)
		check_digest(id->sha256);
	json_object_foreach(json_object_get(c.image, "env"), name, value)
		require(name[0] != '\0' && strchr(name, '=') == NULL && json_is_string(value));
	oci_config_done(&c);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data + 1;
	struct err e = { 0 };
	int r;

	if (size < 1)
		return 0;
	if (data[0] == 'i')
		r = read_index(text, size - 1, &e);
	else if (data[0] == 'c')
		r = read_config(text, size - 1, &e);
	else
		r = read_manifest(text, size - 1, data[0] == 's', &e);
	require((r < 0) == err_is_set(&e));
	return 0;
}
