/* SPDX-License-Identifier: Apache-2.0 */
#include "base/id.h"

#include "base/str.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz0123456789";

enum {
	ALPHABET_LEN = sizeof(alphabet) - 1,
	UNBIASED = 256 - 256 % ALPHABET_LEN,
	/* Enough for any id or token. Up to 256 bytes getrandom(2) neither blocks nor is
	 * interrupted once seeded. */
	BATCH = 64,
};

/* Random bytes that one call gave, and how many of them are used. */
struct batch {
	unsigned char bytes[BATCH];
	size_t n_used;
};

#define BATCH_EMPTY ((struct batch){ .n_used = BATCH })

static unsigned char random_byte(struct batch *b)
{
	if (b->n_used == BATCH) {
		if (getrandom(b->bytes, BATCH, 0) != BATCH)
			abort();
		b->n_used = 0;
	}
	return b->bytes[b->n_used++];
}

/* Uniform: bytes past the last whole multiple of the alphabet are drawn again. */
static void random_chars(char *out, size_t n)
{
	struct batch batch = BATCH_EMPTY;

	for (size_t i = 0; i < n; i++) {
		unsigned char b = random_byte(&batch);

		while (b >= UNBIASED)
			b = random_byte(&batch);
		out[i] = alphabet[b % ALPHABET_LEN];
	}
	out[n] = '\0';
}

static bool all_of_alphabet(const char *s, size_t n)
{
	if (strnlen(s, n + 1) != n)
		return false;
	return strspn(s, alphabet) == n;
}

struct sandbox_id id_new(void)
{
	struct sandbox_id id;

	id.s[0] = 'i';
	random_chars(id.s + 1, SANDBOX_ID_LEN - 1);
	return id;
}

int id_parse(const char *s, struct sandbox_id *out)
{
	if (!all_of_alphabet(s, SANDBOX_ID_LEN))
		return -EINVAL;
	str_copy(out->s, sizeof(out->s), s);
	return 0;
}

bool id_equal(const struct sandbox_id *a, const struct sandbox_id *b)
{
	return streq(a->s, b->s);
}

struct instance_tag tag_new(void)
{
	struct instance_tag tag;

	random_chars(tag.s, TAG_LEN);
	return tag;
}

int tag_parse(const char *s, struct instance_tag *out)
{
	if (!all_of_alphabet(s, TAG_LEN))
		return -EINVAL;
	str_copy(out->s, sizeof(out->s), s);
	return 0;
}

bool name_valid(const char *s)
{
	size_t n = strnlen(s, NAME_MAX_LEN + 1);

	if (n == 0 || n > NAME_MAX_LEN || strchr(alphabet, s[0]) == NULL)
		return false;
	return strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_.-") == n;
}

int name_check(const char *what, const char *name, struct err *e)
{
	if (name_valid(name))
		return 0;
	return err_set(
		e, ERR_INVALID,
		"\"%.80s\" can be no %s's name: that is 1 to %d characters of a-z 0-9 _ . -, "
		"a letter or digit first",
		name, what, NAME_MAX_LEN);
}

void random_hex(char *out, size_t n_chars)
{
	static const char digits[] = "0123456789abcdef";
	struct batch batch = BATCH_EMPTY;

	for (size_t i = 0; i < n_chars; i++)
		out[i] = digits[random_byte(&batch) & 15];
	out[n_chars] = '\0';
}
