/* SPDX-License-Identifier: Apache-2.0 */
/* Writing heads and chunks. What would break framing is refused; a failure leaves the buffer as it
 * was. */
#include "base/str.h"
#include "http/codec-internal.h"
#include "http/codec.h"

#include <errno.h>

static bool all_of(const char *s, bool (*is)(char c))
{
	while (*s != '\0' && is(*s))
		s++;
	return *s == '\0';
}

static bool fields_ok(const struct http_field *fields)
{
	for (; fields->name != NULL; fields++) {
		if (fields->name[0] == '\0' || !all_of(fields->name, http_is_token) ||
		    !all_of(fields->value, http_is_text))
			return false;
	}
	return true;
}

static int put_fields(struct buf *out, const struct http_field *fields)
{
	for (; fields->name != NULL; fields++) {
		int r = buf_printf(out, "%s: %s\r\n", fields->name, fields->value);

		if (r < 0)
			return r;
	}
	return buf_puts(out, "\r\n");
}

/* Takes back what was appended behind @len bytes if @r is a failure. */
static int keep_or_cut(struct buf *out, size_t len, int r)
{
	if (r < 0)
		out->len = len;
	return r;
}

int http_write_request(struct buf *out, const char *method, const char *target,
		       const struct http_field *fields)
{
	size_t before = out->len;
	int r;

	if (method[0] == '\0' || !all_of(method, http_is_token) || target[0] == '\0' ||
	    !all_of(target, http_is_target) || !fields_ok(fields))
		return -EINVAL;
	r = buf_printf(out, "%s %s HTTP/1.1\r\n", method, target);
	if (r == 0)
		r = put_fields(out, fields);
	return keep_or_cut(out, before, r);
}

int http_write_response(struct buf *out, int status, const struct http_field *fields)
{
	size_t before = out->len;
	int r;

	if (status < 100 || status > 599 || !fields_ok(fields))
		return -EINVAL;
	r = buf_printf(out, "HTTP/1.1 %d %s\r\n", status, http_status_text(status));
	if (r == 0)
		r = put_fields(out, fields);
	return keep_or_cut(out, before, r);
}

int http_write_chunk(struct buf *out, const void *p, size_t n)
{
	size_t before = out->len;
	int r;

	if (n == 0)
		return 0; /* it would end the body */
	r = buf_printf(out, "%zx\r\n", n);
	if (r == 0)
		r = buf_append(out, p, n);
	if (r == 0)
		r = buf_puts(out, "\r\n");
	return keep_or_cut(out, before, r);
}

int http_write_last_chunk(struct buf *out)
{
	return buf_puts(out, "0\r\n\r\n");
}

/* RFC 9110 section 15, and the ones of RFC 6585 and of API clients that go away (499). */
static const char *const status_texts[600] = {
	[100] = "Continue",
	[101] = "Switching Protocols",
	[200] = "OK",
	[201] = "Created",
	[202] = "Accepted",
	[203] = "Non-Authoritative Information",
	[204] = "No Content",
	[205] = "Reset Content",
	[206] = "Partial Content",
	[300] = "Multiple Choices",
	[301] = "Moved Permanently",
	[302] = "Found",
	[303] = "See Other",
	[304] = "Not Modified",
	[307] = "Temporary Redirect",
	[308] = "Permanent Redirect",
	[400] = "Bad Request",
	[401] = "Unauthorized",
	[402] = "Payment Required",
	[403] = "Forbidden",
	[404] = "Not Found",
	[405] = "Method Not Allowed",
	[406] = "Not Acceptable",
	[407] = "Proxy Authentication Required",
	[408] = "Request Timeout",
	[409] = "Conflict",
	[410] = "Gone",
	[411] = "Length Required",
	[412] = "Precondition Failed",
	[413] = "Content Too Large",
	[414] = "URI Too Long",
	[415] = "Unsupported Media Type",
	[416] = "Range Not Satisfiable",
	[417] = "Expectation Failed",
	[421] = "Misdirected Request",
	[422] = "Unprocessable Content",
	[426] = "Upgrade Required",
	[428] = "Precondition Required",
	[429] = "Too Many Requests",
	[431] = "Request Header Fields Too Large",
	[499] = "Client Closed Request",
	[500] = "Internal Server Error",
	[501] = "Not Implemented",
	[502] = "Bad Gateway",
	[503] = "Service Unavailable",
	[504] = "Gateway Timeout",
	[505] = "HTTP Version Not Supported",
	[507] = "Insufficient Storage",
};

const char *http_status_text(int status)
{
	if (status < 0 || status >= (int)ARRAY_SIZE(status_texts) || status_texts[status] == NULL)
		return "Unknown";
	return status_texts[status];
}
