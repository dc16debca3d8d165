/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader of multipart bodies. The first byte is the size of the pieces in which the body
 * arrives; what comes out must be the same as when it arrives at once.
 */
#include "agent/multipart.h"
#include "base/str.h"

#include <assert.h>
#include <stdlib.h>

enum { TEXT_MAX = 16 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put(struct buf *out, const void *p, size_t n)
{
	int r = buf_append(out, p, n);

	assert(r == 0);
}

static void put_param(const struct multipart *m, const char *name, struct buf *out)
{
	auto_free char *value = NULL;
	int r = multipart_param(m, name, &value);

	assert(r >= 0 && (r == 0) == (value == NULL));
	if (value != NULL)
		put(out, value, strlen(value) + 1);
}

/* Takes one event down. Return: whether it was the last. */
static bool put_event(const struct multipart *m, int event, const char *data, size_t len,
		      struct buf *out)
{
	if (event == MULTIPART_DATA) {
		assert(len > 0);
		put(out, data, len);
		return false;
	}
	put(out, &event, sizeof(event));
	if (event == MULTIPART_PART) {
		put_param(m, "name", out);
		put_param(m, "filename", out);
	}
	return event < 0;
}

static void read_body(const char *p, size_t n, size_t step, struct buf *out)
{
	struct multipart m;
	const char *data = NULL;
	size_t len = 0;
	bool failed = false;
	int r = multipart_init(&m, "multipart/form-data; boundary=\"b-B\"");

	assert(r == 0);
	for (size_t i = 0; i < n && !failed; i += step) {
		const char *at = p + i;
		size_t left = MIN(step, n - i);

		while (!failed && (r = multipart_next(&m, &at, &left, &data, &len)) != 0)
			failed = put_event(&m, r, data, len, out);
		assert(failed || left == 0);
	}
	multipart_done(&m);
}

/* The boundary comes from a client as well. */
static void read_type(const char *text)
{
	struct multipart m;

	if (multipart_init(&m, text) < 0)
		return;
	assert(m.len > 4 && m.len <= 4 + MULTIPART_BOUNDARY_MAX);
	multipart_done(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_buf whole = BUF_INIT(TEXT_MAX);
	auto_buf pieces = BUF_INIT(TEXT_MAX);
	auto_free char *text = NULL;

	if (size < 2)
		return 0;
	text = malloc(size);
	assert(text != NULL);
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	read_body(text, size - 1, size - 1, &whole);
	read_body(text, size - 1, data[0] != 0 ? data[0] : 1, &pieces);
	assert(whole.len == pieces.len &&
	       memcmp(buf_str(&whole), buf_str(&pieces), whole.len) == 0);
	read_type(text);
	return 0;
}
