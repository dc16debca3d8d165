/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ids are values, checked once when they are made or parsed. A sandbox id is 20 characters of
 * [a-z0-9], E2B's form: safe in host names, paths and kernel names.
 */
#pragma once

#include "base/err.h"
#include "base/macros.h"

enum { SANDBOX_ID_LEN = 20, NAME_MAX_LEN = 63, TAG_LEN = 4 };

struct sandbox_id {
	char s[SANDBOX_ID_LEN + 1];
};

/* The four characters [a-z0-9] that tell the kernel objects of one state directory from others'. */
struct instance_tag {
	char s[TAG_LEN + 1];
};

/** id_new() - a random sandbox id: 'i' and 19 characters of getrandom(2) (98 bits) */
struct sandbox_id id_new(void);

/** id_parse() - read an id. Return: 0; -EINVAL when it has not the form of one */
must_check int id_parse(const char *s, struct sandbox_id *out);

/** id_equal() - whether two ids are the same */
bool id_equal(const struct sandbox_id *a, const struct sandbox_id *b);

/** tag_new() - a random instance tag */
struct instance_tag tag_new(void);

/** tag_parse() - read a tag. Return: 0; -EINVAL */
must_check int tag_parse(const char *s, struct instance_tag *out);

/**
 * name_valid() - whether a string can name a sandbox or template: 1 to 63 characters of
 * [a-z0-9_.-], the first of them [a-z0-9]
 */
bool name_valid(const char *s);

/**
 * name_check() - refuse what name_valid() does not take
 * @what:	whose name it is to be, as "template"
 *
 * Return: 0; -EINVAL with @e set (ERR_INVALID: what a name is).
 */
must_check int name_check(const char *what, const char *name, struct err *e);

/** random_hex() - fill @out with @n_chars random hex digits and a NUL; aborts without getrandom */
void random_hex(char *out, size_t n_chars);
