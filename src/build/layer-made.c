/* SPDX-License-Identifier: Apache-2.0 */
#include "build/layer-made.h"

#include "base/str.h"

#include <errno.h>
#include <stdlib.h>

enum { FIRST_CAP = 1024 };
static const uint64_t FNV_BASIS = UINT64_C(0xcbf29ce484222325);
static const uint64_t FNV_PRIME = UINT64_C(0x100000001b3);

void layer_made_done(struct layer_made *made)
{
	free(made->slots);
	*made = (struct layer_made){ 0 };
}

static uint64_t add_bytes(uint64_t hash, const void *p, size_t n)
{
	const unsigned char *bytes = p;

	for (size_t i = 0; i < n; i++)
		hash = (hash ^ bytes[i]) * FNV_PRIME;
	return hash;
}

static uint64_t key_of(ino_t dir, const char *name)
{
	uint64_t hash = add_bytes(FNV_BASIS, &dir, sizeof(dir));

	hash = add_bytes(hash, name, strlen(name));
	return hash != 0 ? hash : 1;
}

/* Where a key is, or would go. There is a free slot always. */
static size_t slot_of(const uint64_t *slots, size_t cap, uint64_t key)
{
	size_t i = (size_t)(key ^ key >> 32) & (cap - 1);

	while (slots[i] != 0 && slots[i] != key)
		i = (i + 1) & (cap - 1);
	return i;
}

/* Never more than half full. */
static int grow(struct layer_made *made)
{
	size_t cap = made->cap != 0 ? made->cap * 2 : FIRST_CAP;
	uint64_t *slots = calloc(cap, sizeof(*slots));

	if (slots == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < made->cap; i++)
		if (made->slots[i] != 0)
			slots[slot_of(slots, cap, made->slots[i])] = made->slots[i];
	free(made->slots);
	made->slots = slots;
	made->cap = cap;
	return 0;
}

int layer_made_add(struct layer_made *made, ino_t dir, const char *name)
{
	uint64_t key = key_of(dir, name);
	size_t slot;

	if (made->n * 2 >= made->cap) {
		int r = grow(made);

		if (r < 0)
			return r;
	}
	slot = slot_of(made->slots, made->cap, key);
	made->n += made->slots[slot] == 0;
	made->slots[slot] = key;
	return 0;
}

bool layer_made_has(const struct layer_made *made, ino_t dir, const char *name)
{
	uint64_t key = key_of(dir, name);

	return made->cap != 0 && made->slots[slot_of(made->slots, made->cap, key)] == key;
}
