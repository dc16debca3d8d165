/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot.json, and the name of a snapshot, may hold anything; what is read of it is of the form
 * that the rest relies on. */
#include "base/str.h"
#include "sandbox/snapshot-internal.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool fact)
{
	if (!fact)
		abort();
}

static void try_name(const uint8_t *data, size_t size)
{
	auto_free char *text = str_printf("%.*s", (int)MIN(size, (size_t)4096), (const char *)data);
	struct snapshot_name name;
	struct snapshot s = { 0 };
	char id[SNAPSHOT_ID_SIZE];

	if (snapshot_name_parse(text, &name, NULL) < 0)
		return;
	require(name_valid(name.name));
	require(strspn(name.tag, "abcdefghijklmnopqrstuvwxyz0123456789_.-") == strlen(name.tag));
	if (name.tag[0] == '\0')
		return;
	s.id = name;
	snapshot_id(&s, id);
	require(id[0] != '.' && strchr(id, '/') == NULL);
	require(strlen(id) == strlen(name.name) + 1 + strlen(name.tag));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct snapshot s = { 0 };
	struct snapshot again = { 0 };
	auto_free char *text = NULL;

	try_name(data, size);
	if (snapshot_parse((const char *)data, size, &s) < 0) {
		require(s.user == NULL && s.env_json == NULL && s.checkpoint.generation == 0);
		return 0;
	}
	require(s.checkpoint.generation >= 1 && strlen(s.source.s) == SANDBOX_ID_LEN);
	text = snapshot_describe(&s);
	require(text != NULL && snapshot_parse(text, strlen(text), &again) == 0);
	require(streq(s.env_json, again.env_json) && streq(s.user, again.user));
	require(s.created_ms == again.created_ms && s.named == again.named);
	snapshot_done(&s);
	snapshot_done(&again);
	return 0;
}
