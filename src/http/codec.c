/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Heads of requests and responses.
 *
 * Theory of operation. A head is looked for from the front of the buffer each time; nothing is
 * parsed before its empty line is there, so bytes that arrive one by one give the result that they
 * give at once. The exceptions are faults that cannot get better by more bytes: a line that ends
 * without CR, a first byte that begins no message, a head over the limit.
 *
 * A complete head is copied into memory of its own, and its strings are cut out in place: the CR of
 * each line, the colon and the blanks around a value become NULs. Behind the copy there is room for
 * the path and the query, which would overlap the target otherwise. Messages of errors quote only
 * what was checked to be a token, since they end up in logs and in JSON.
 */
#include "http/codec.h"

#include "base/parse.h"
#include "base/str.h"
#include "http/codec-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <strings.h>

/* Sets why a message is refused; the value is -EBADMSG. */
#define malformed(e, ...) (err_set((e), ERR_INVALID, __VA_ARGS__), -EBADMSG)

static int too_large(struct err *e, const char *what, int limit)
{
	err_set(e, ERR_INVALID, "head has over %d %s", limit, what);
	return -EMSGSIZE;
}

/*
 * Finds the empty line that ends a head.
 *
 * Return: 1 with its end in @out_len; 0 more bytes are needed; -EMSGSIZE; -EBADMSG.
 */
static int find_end(const struct buf *in, size_t *out_len, struct err *e)
{
	const char *start = buf_head(in);
	const char *line = start;
	const char *end = start + MIN(in->len, (size_t)HTTP_HEAD_MAX);
	const char *lf;

	while ((lf = memchr(line, '\n', (size_t)(end - line))) != NULL) {
		if (lf == line || lf[-1] != '\r')
			return malformed(e, "line ends without CR");
		if (lf == line + 1) {
			*out_len = (size_t)(lf + 1 - start);
			return 1;
		}
		line = lf + 1;
	}
	if (in->len >= HTTP_HEAD_MAX)
		return too_large(e, "bytes", HTTP_HEAD_MAX);
	return 0;
}

/* Cuts off the line at *@at, which ends with CRLF; @out_len counts neither of them. */
static char *take_line(char **at, size_t *out_len)
{
	char *line = *at;
	char *lf = rawmemchr(line, '\n');

	lf[-1] = '\0';
	*out_len = (size_t)(lf - 1 - line);
	*at = lf + 1;
	return line;
}

static bool is_text(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (!http_is_text(s[i]))
			return false;
	}
	return true;
}

static size_t token_length(const char *s)
{
	size_t n = 0;

	while (http_is_token(s[n]))
		n++;
	return n;
}

static int parse_header(char *line, size_t n, struct http_header *out, struct err *e)
{
	size_t name_len = token_length(line);
	char *value = line + name_len + 1;
	char *end = line + n;

	if (!is_text(line, n))
		return malformed(e, "header '%.*s' has a control character",
				 (int)MIN(name_len, (size_t)64), line);
	if (http_is_blank(line[0]))
		return malformed(e, "header is folded over several lines");
	if (name_len == 0)
		return malformed(e, "header line does not begin with a name");
	if (line[name_len] != ':')
		return malformed(e, "header '%.*s' has no colon behind its name",
				 (int)MIN(name_len, (size_t)64), line);
	line[name_len] = '\0';
	while (http_is_blank(*value))
		value++;
	while (end > value && http_is_blank(end[-1]))
		end--;
	*end = '\0';
	*out = (struct http_header){ .name = line, .value = value };
	return 0;
}

/* Parses the lines from @at to the empty one. */
static int parse_headers(struct http_head *h, char *at, struct err *e)
{
	size_t n;
	char *line;

	while ((line = take_line(&at, &n)), n > 0) {
		int r;

		if (h->n_headers == HTTP_HEADERS_MAX)
			return too_large(e, "headers", HTTP_HEADERS_MAX);
		r = parse_header(line, n, &h->headers[h->n_headers], e);
		if (r < 0)
			return r;
		h->n_headers++;
	}
	return 0;
}

/* @s is "HTTP/x.y" and ends there. */
static int parse_version(struct http_head *h, const char *s, struct err *e)
{
	bool shape = strlen(s) == 8 && str_starts(s, "HTTP/") && s[6] == '.' && s[5] >= '0' &&
		     s[5] <= '9' && s[7] >= '0' && s[7] <= '9';

	if (!shape)
		return malformed(e, "first line has no HTTP version");
	if (s[5] != '1' || s[7] > '1') {
		err_set(e, ERR_UNSUPPORTED, "%s is not supported; use HTTP/1.1", s);
		return -EPROTONOSUPPORT;
	}
	h->minor = s[7] - '0';
	return 0;
}

static int check_target(const struct http_head *h, struct err *e)
{
	if (streq(h->method, "OPTIONS") && streq(h->target, "*"))
		return 0;
	if (streq(h->method, "CONNECT") || h->target[0] != '/')
		return malformed(e, "request target is not a path");
	for (const char *c = h->target; *c != '\0'; c++) {
		if (!http_is_target(*c))
			return malformed(e, "request target has a character to be escaped");
	}
	return 0;
}

/* Makes path and query of the target, in memory of the target's size + 1. */
static void split_target(struct http_head *h, char *room)
{
	size_t n = strlen(h->target);
	char *mark;

	memcpy(room, h->target, n + 1);
	h->path = room;
	mark = strchr(room, '?');
	h->query = mark != NULL ? mark + 1 : room + n;
	if (mark != NULL)
		*mark = '\0';
}

/* "GET /path?query HTTP/1.1"; a copy of the target is made in @room. */
static int parse_request_line(struct http_head *h, char *line, size_t n, char *room, struct err *e)
{
	size_t method_len = token_length(line);
	char *target = line + method_len + 1;
	char *space;
	int r;

	if (!is_text(line, n))
		return malformed(e, "request line has a control character");
	if (method_len == 0 || line[method_len] != ' ')
		return malformed(e, "request line has no method");
	line[method_len] = '\0';
	space = strchr(target, ' ');
	if (space == NULL)
		return malformed(e, "request line has no HTTP version");
	*space = '\0';
	h->method = line;
	h->target = target;
	r = parse_version(h, space + 1, e);
	if (r < 0)
		return r;
	r = check_target(h, e);
	if (r < 0)
		return r;
	split_target(h, room);
	return 0;
}

/* "HTTP/1.1 404 Not Found"; some servers leave out the blank before an empty reason. */
static int parse_status_line(struct http_head *h, char *line, size_t n, struct err *e)
{
	enum { VERSION_LEN = 8, CODE_LEN = 3, REASON_AT = VERSION_LEN + 1 + CODE_LEN };
	uint64_t status;
	char *code = line + VERSION_LEN + 1;
	bool reason;
	int r;

	if (!is_text(line, n))
		return malformed(e, "status line has a control character");
	if (n < REASON_AT || line[VERSION_LEN] != ' ')
		return malformed(e, "first line is no HTTP status line");
	line[VERSION_LEN] = '\0';
	r = parse_version(h, line, e);
	if (r < 0)
		return r;
	reason = line[REASON_AT] == ' ';
	if (reason)
		line[REASON_AT] = '\0';
	if (parse_u64(code, 100, 599, &status) < 0)
		return malformed(e, "status line has no status from 100 to 599");
	h->status = (int)status;
	h->reason = reason ? line + REASON_AT + 1 : "";
	return 0;
}

/* Finds a header that may be there only once; @out is NULL before, and stays so if it is absent. */
static int get_single(const struct http_head *h, const char *name, const char **out, struct err *e)
{
	for (size_t i = 0; i < h->n_headers; i++) {
		if (strcasecmp(h->headers[i].name, name) != 0)
			continue;
		if (*out != NULL)
			return malformed(e, "message has two %s headers", name);
		*out = h->headers[i].value;
	}
	return 0;
}

/* Sets body and content_length from what the headers say. */
static int parse_framing(struct http_head *h, struct err *e)
{
	const char *length = NULL;
	const char *coding = NULL;
	int r = get_single(h, "Content-Length", &length, e);

	if (r == 0)
		r = get_single(h, "Transfer-Encoding", &coding, e);
	if (r < 0)
		return r;
	h->body = HTTP_BODY_NONE;
	if (length != NULL && coding != NULL)
		return malformed(e, "message has both Content-Length and Transfer-Encoding");
	if (coding != NULL && strcasecmp(coding, "chunked") != 0) {
		err_set(e, ERR_UNSUPPORTED, "Transfer-Encoding is not supported but for chunked");
		return -EOPNOTSUPP;
	}
	if (coding != NULL && h->minor == 0)
		return malformed(e, "chunked body in HTTP/1.0");
	if (coding != NULL)
		h->body = HTTP_BODY_CHUNKED;
	if (length != NULL) {
		if (parse_u64(length, 0, INT64_MAX, &h->content_length) < 0)
			return malformed(e, "Content-Length is no number of bytes");
		h->body = HTTP_BODY_LENGTH;
	}
	return 0;
}

static void parse_connection(struct http_head *h)
{
	bool close = http_head_has_token(h, "Connection", "close");

	h->keep_alive =
		!close && (h->minor == 1 || http_head_has_token(h, "Connection", "keep-alive"));
	h->upgrade = http_head_get(h, "Upgrade") != NULL &&
		     http_head_has_token(h, "Connection", "upgrade");
}

/* RFC 9112 section 6.3: what follows a response depends on its status and the request, too. */
static void apply_status(struct http_head *h, const char *request_method)
{
	bool head = streq(request_method, "HEAD");
	bool connect = streq(request_method, "CONNECT") && h->status / 100 == 2;

	if (h->status == 101 || connect)
		h->body = HTTP_BODY_TUNNEL;
	else if (head || h->status < 200 || h->status == 204 || h->status == 304)
		h->body = HTTP_BODY_NONE;
	else if (h->body == HTTP_BODY_NONE)
		h->body = HTTP_BODY_EOF;
	if (h->body == HTTP_BODY_TUNNEL || h->body == HTTP_BODY_EOF)
		h->keep_alive = false;
	if (h->body != HTTP_BODY_LENGTH)
		h->content_length = 0;
}

/* Parses the copy in h->text; a response if @request_method is set. */
static int parse_text(struct http_head *h, const char *request_method, char *room, struct err *e)
{
	char *at = h->text;
	size_t n;
	char *line = take_line(&at, &n);
	const char *host = NULL;
	int r;

	if (request_method != NULL)
		r = parse_status_line(h, line, n, e);
	else
		r = parse_request_line(h, line, n, room, e);
	if (r == 0)
		r = parse_headers(h, at, e);
	if (r == 0)
		r = parse_framing(h, e);
	if (r == 0 && request_method == NULL)
		r = get_single(h, "Host", &host, e);
	if (r < 0)
		return r;
	parse_connection(h);
	if (request_method != NULL)
		apply_status(h, request_method);
	return 0;
}

static int parse_head(struct buf *in, const char *request_method, struct http_head *out,
		      struct err *e)
{
	cleanup(http_head_done) struct http_head h = { 0 };
	size_t n = 0;
	int r = find_end(in, &n, e);

	if (r <= 0)
		return r;
	h.text = malloc(2 * n); /* the target is shorter than the head */
	if (h.text == NULL)
		return err_errno(e, ENOMEM, "read a head of %zu bytes", n);
	memcpy(h.text, buf_head(in), n);
	r = parse_text(&h, request_method, h.text + n, e);
	if (r < 0)
		return r;
	buf_consume(in, n);
	*out = h;
	h.text = NULL; /* it is the caller's now */
	return 1;
}

int http_head_parse_request(struct buf *in, struct http_head *out, struct err *e)
{
	while (in->len >= 2 && memcmp(buf_head(in), "\r\n", 2) == 0)
		buf_consume(in, 2);
	if (in->len == 0 || (in->len == 1 && *buf_head(in) == '\r'))
		return 0;
	if (!http_is_token(*buf_head(in)))
		return malformed(e, "request begins with no method");
	return parse_head(in, NULL, out, e);
}

int http_head_parse_response(struct buf *in, const char *request_method, struct http_head *out,
			     struct err *e)
{
	if (in->len == 0)
		return 0;
	if (*buf_head(in) != 'H')
		return malformed(e, "response does not begin with HTTP/");
	return parse_head(in, request_method, out, e);
}

void http_head_done(struct http_head *h)
{
	free(h->text);
	*h = (struct http_head){ 0 };
}

const char *http_head_get(const struct http_head *h, const char *name)
{
	for (size_t i = 0; i < h->n_headers; i++) {
		if (strcasecmp(h->headers[i].name, name) == 0)
			return h->headers[i].value;
	}
	return NULL;
}

/* Whether a comma-separated list has a token. */
static bool list_has(const char *list, const char *token)
{
	size_t n = strlen(token);

	for (;; list++) {
		const char *end;
		size_t len;

		list += strspn(list, " \t");
		end = list + strcspn(list, ",");
		len = (size_t)(end - list);
		while (len > 0 && http_is_blank(list[len - 1]))
			len--;
		if (len == n && strncasecmp(list, token, n) == 0)
			return true;
		list = end;
		if (*list == '\0')
			return false;
	}
}

bool http_head_has_token(const struct http_head *h, const char *name, const char *token)
{
	for (size_t i = 0; i < h->n_headers; i++) {
		if (strcasecmp(h->headers[i].name, name) == 0 &&
		    list_has(h->headers[i].value, token))
			return true;
	}
	return false;
}
