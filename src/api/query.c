/* SPDX-License-Identifier: Apache-2.0 */
#include "api/query.h"

#include "base/buf.h"
#include "base/parse.h"
#include "base/str.h"
#include "http/codec.h"

enum { WORDS_MAX = 256 };

int query_text(const char *query, const char *name, char **out, struct err *e)
{
	int r = http_query_get(query, name, out);

	return r < 0 ? err_set(e, ERR_INVALID, "parameter '%s' is badly encoded", name) : 0;
}

/* NOLINTNEXTLINE(readability-function-size): a name and its range, as in the header */
int query_u64(const char *query, const char *name, uint64_t min, uint64_t max, uint64_t *out,
	      struct err *e)
{
	auto_free char *text = NULL;
	int r = query_text(query, name, &text, e);

	if (r < 0 || text == NULL)
		return r;
	if (parse_u64(text, min, max, out) < 0)
		return err_set(e, ERR_INVALID, "parameter '%s' must be %llu to %llu", name,
			       (unsigned long long)min, (unsigned long long)max);
	return 1;
}

static int refuse_choice(const char *name, const char *const *words, struct err *e)
{
	auto_buf all = BUF_INIT(WORDS_MAX);

	for (const char *const *w = words; *w != NULL; w++)
		ignore_err(buf_printf(&all, "%s%s", w == words ? "" : ", ",
				      *w)); /* what is too long is cut */
	return err_set(e, ERR_INVALID, "parameter '%s' must be one of %s", name, buf_str(&all));
}

int query_choice(const char *query, const char *name, const char *const *words, size_t *out,
		 struct err *e)
{
	auto_free char *text = NULL;
	int r = query_text(query, name, &text, e);

	if (r < 0 || text == NULL)
		return r;
	for (size_t i = 0; words[i] != NULL; i++) {
		if (!streq(text, words[i]))
			continue;
		*out = i;
		return 1;
	}
	return refuse_choice(name, words, e);
}

int query_page(const char *query, uint64_t *out_ms, char *out_id, size_t id_size, struct err *e)
{
	auto_free char *token = NULL;
	char *id;
	int r = query_text(query, "nextToken", &token, e);

	if (r < 0 || token == NULL || token[0] == '\0')
		return r;
	id = strchr(token, '-');
	if (id != NULL)
		*id++ = '\0';
	if (id == NULL || parse_u64(token, 0, UINT64_MAX, out_ms) < 0 ||
	    str_fit(out_id, id_size, "%s", id) < 0)
		return err_set(e, ERR_INVALID,
			       "parameter 'nextToken' is not one that was given out");
	return 1;
}

void page_token(uint64_t ms, const char *id, char out[PAGE_TOKEN_SIZE])
{
	ignore_err(str_fit(out, PAGE_TOKEN_SIZE, "%llu-%s", (unsigned long long)ms, id)); /* fits */
}
