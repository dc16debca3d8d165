/* SPDX-License-Identifier: Apache-2.0 */
#include "base/parse.h"
#include "base/str.h"
#include "http/proxy-internal.h"

#include <strings.h>

/* Hop-by-hop, and what is written anew; trailers are dropped. */
static const char *const own_headers[] = {
	"Connection",        "Keep-Alive", "Proxy-Connection", "TE",     "Trailer",
	"Transfer-Encoding", "Upgrade",    "Content-Length",   "Expect", "Host",
};

static bool header_passes(const struct http_head *h, const char *name, const char *const *drop)
{
	for (size_t i = 0; i < ARRAY_SIZE(own_headers); i++) {
		if (strcasecmp(name, own_headers[i]) == 0)
			return false;
	}
	for (; drop != NULL && *drop != NULL; drop++) {
		if (strcasecmp(name, *drop) == 0)
			return false;
	}
	return !http_head_has_token(h, "Connection", name);
}

/* Copies the headers that are passed on. Return: how many there are now. */
static size_t fields_pass(struct http_field *out, size_t n, const struct http_head *h,
			  const char *const *drop)
{
	for (size_t i = 0; i < h->n_headers; i++) {
		if (header_passes(h, h->headers[i].name, drop))
			out[n++] = (struct http_field){ h->headers[i].name, h->headers[i].value };
	}
	return n;
}

static void fields_upgrade(struct http_field *out, size_t n, const struct http_head *h)
{
	out[n++] = (struct http_field){ "Connection", "Upgrade" };
	out[n] = (struct http_field){ "Upgrade", http_head_get(h, "Upgrade") };
}

int proxy_request_write(struct buf *out, const struct http_head *h, const struct proxy_spec *spec)
{
	struct http_field fields[PROXY_FIELDS_MAX] = { 0 };
	const char *host = spec->host ?: http_head_get(h, "Host");
	const char *length = http_head_get(h, "Content-Length");
	size_t n;

	fields[0] = (struct http_field){ "Host", host ?: "" };
	n = fields_pass(fields, 1, h, spec->drop_headers);
	for (const struct http_field *f = spec->request_fields; f != NULL && f->name != NULL; f++)
		fields[n++] = *f;
	if (h->body == HTTP_BODY_CHUNKED)
		fields[n++] = (struct http_field){ "Transfer-Encoding", "chunked" };
	else if (length != NULL)
		fields[n++] = (struct http_field){ "Content-Length", length };
	if (h->upgrade)
		fields_upgrade(fields, n, h);
	else
		fields[n] = (struct http_field){ "Connection", "close" };
	return http_write_request(out, h->method, spec->target ?: h->target, fields);
}

void proxy_response_fields(struct http_field out[PROXY_FIELDS_MAX], const struct http_head *h,
			   const struct http_field *more)
{
	size_t n = fields_pass(out, 0, h, NULL);

	for (; more != NULL && more->name != NULL; more++) {
		if (n < HTTP_HEADERS_MAX && http_head_get(h, more->name) == NULL)
			out[n++] = *more;
	}
	out[n] = (struct http_field){ NULL, NULL };
}

void proxy_switch_fields(struct http_field out[PROXY_FIELDS_MAX], const struct http_head *h)
{
	size_t n = fields_pass(out, 0, h, NULL);

	fields_upgrade(out, n, h);
	out[n + 2] = (struct http_field){ NULL, NULL };
}

int64_t proxy_response_length(const struct http_head *h)
{
	const char *text = http_head_get(h, "Content-Length");
	uint64_t n;

	if (h->body == HTTP_BODY_CHUNKED || h->body == HTTP_BODY_EOF || text == NULL)
		return -1;
	return parse_u64(text, 0, INT64_MAX, &n) < 0 ? -1 : (int64_t)n;
}
