/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP codec, as bytes of a request and as bytes of a response.
 *
 * Invariants: bytes that arrive one by one give what they give at once; a head that was parsed is
 * parsed the same after it was written again. Differential: what the codec accepts as a request,
 * http-parser must read in the same way: where it ends, method, target, headers, body, keep-alive.
 * (The other direction does not hold: the codec refuses on purpose what http-parser lets pass.)
 */
#include "base/str.h"
#include "http/codec.h"

#include <http_parser.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum { INPUT_MAX = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the run; not assert(), so that it says so in every build. */
#define require(cond)                                                                              \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                 \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* What was read of a stream of messages, as text. */
struct reader {
	bool requests;
	bool in_body;
	bool over; /* an error, or bytes that are no HTTP any more */
	struct buf in;
	struct http_head head;
	struct http_body body;
	struct buf seen;
};

static void note(struct reader *r, const char *what, const char *s)
{
	require(buf_printf(&r->seen, "%s %s\n", what, s) == 0);
}

static void note_number(struct reader *r, const char *what, int64_t n)
{
	require(buf_printf(&r->seen, "%s %lld\n", what, (long long)n) == 0);
}

static void note_head(struct reader *r)
{
	const struct http_head *h = &r->head;

	note(r, "method", r->requests ? h->method : "");
	note(r, "path", r->requests ? h->path : "");
	note(r, "query", r->requests ? h->query : "");
	note(r, "reason", r->requests ? "" : h->reason);
	note_number(r, "status", h->status);
	note_number(r, "minor", h->minor);
	note_number(r, "body", h->body);
	note_number(r, "length", (int64_t)h->content_length);
	note_number(r, "flags", h->keep_alive << 1 | h->upgrade);
	for (size_t i = 0; i < h->n_headers; i++)
		note(r, h->headers[i].name, h->headers[i].value);
}

static int read_head(struct reader *r)
{
	struct err e = { 0 };
	int n;

	http_head_done(&r->head);
	n = r->requests ? http_head_parse_request(&r->in, &r->head, &e)
			: http_head_parse_response(&r->in, "GET", &r->head, &e);
	require((n < 0) == err_is_set(&e));
	if (n <= 0)
		return n;
	require(r->head.n_headers <= HTTP_HEADERS_MAX);
	note_head(r);
	http_body_init(&r->body, &r->head);
	r->in_body = true;
	return 1;
}

/* Return: 1 something was used up; 0 more bytes are needed; -errno. */
static int read_body(struct reader *r)
{
	size_t before = r->in.len;
	const char *data = NULL;
	size_t used = 0;
	size_t len = 0;
	int n = http_body_next(&r->body, buf_head(&r->in), r->in.len, &used, &data, &len);

	if (n < 0)
		return n;
	require(used <= before && len <= used);
	require(len == 0 || (data >= buf_head(&r->in) && data + len <= buf_head(&r->in) + used));
	require(buf_append(&r->seen, data, len) == 0);
	buf_consume(&r->in, used);
	if (!r->body.done)
		return used > 0;
	note(r, "\nend", "");
	r->in_body = false;
	return 1;
}

static void feed(struct reader *r, const uint8_t *data, size_t size)
{
	int n = 1;

	require(buf_append(&r->in, data, size) == 0);
	while (n > 0 && !r->over) {
		n = r->in_body ? read_body(r) : read_head(r);
		r->over = n < 0;
	}
	if (n < 0)
		note_number(r, "error", n);
}

static void reader_init(struct reader *r, bool requests)
{
	*r = (struct reader){ .requests = requests,
			      .in = BUF_INIT(INPUT_MAX),
			      .seen = BUF_INIT(16 * INPUT_MAX) };
}

static void reader_done(struct reader *r)
{
	buf_done(&r->in);
	buf_done(&r->seen);
	http_head_done(&r->head);
}

static void check_bytewise(const uint8_t *data, size_t size, bool requests)
{
	struct reader whole;
	struct reader bytes;

	reader_init(&whole, requests);
	reader_init(&bytes, requests);
	feed(&whole, data, size);
	for (size_t i = 0; i < size && !bytes.over; i++)
		feed(&bytes, data + i, 1);
	require(streq(buf_str(&whole.seen), buf_str(&bytes.seen)));
	require(whole.seen.len == bytes.seen.len);
	reader_done(&whole);
	reader_done(&bytes);
}

/* What http-parser saw of one request. */
struct oracle {
	struct buf target;
	struct buf body;
	struct buf fields; /* "name\0value\0" each; names and values may come in pieces */
	bool in_value;
	bool heads_done;
	bool done;
	bool keep_alive;
};

static int add(struct buf *b, const char *p, size_t n)
{
	require(buf_append(b, p, n) == 0);
	return 0;
}

static int on_url(http_parser *p, const char *at, size_t n)
{
	return add(&((struct oracle *)p->data)->target, at, n);
}

static int on_field(http_parser *p, const char *at, size_t n)
{
	struct oracle *o = p->data;

	if (o->heads_done)
		return 0; /* a trailer */
	if (o->in_value)
		add(&o->fields, "\n", 1);
	o->in_value = false;
	return add(&o->fields, at, n);
}

static int on_value(http_parser *p, const char *at, size_t n)
{
	struct oracle *o = p->data;

	if (o->heads_done)
		return 0;
	if (!o->in_value)
		add(&o->fields, ":", 1);
	o->in_value = true;
	return add(&o->fields, at, n);
}

static int on_headers_complete(http_parser *p)
{
	struct oracle *o = p->data;

	if (o->in_value)
		add(&o->fields, "\n", 1);
	o->heads_done = true;
	o->keep_alive = http_should_keep_alive(p) != 0;
	return 0;
}

static int on_body(http_parser *p, const char *at, size_t n)
{
	return add(&((struct oracle *)p->data)->body, at, n);
}

static int on_complete(http_parser *p)
{
	((struct oracle *)p->data)->done = true;
	http_parser_pause(p, 1);
	return 0;
}

static const http_parser_settings oracle_settings = {
	.on_url = on_url,
	.on_header_field = on_field,
	.on_header_value = on_value,
	.on_headers_complete = on_headers_complete,
	.on_body = on_body,
	.on_message_complete = on_complete,
};

struct accepted {
	struct http_head head;
	struct buf body;
	size_t head_len;
	size_t len;    /* of the whole message */
	bool complete; /* the body, too */
};

/*
 * Known differences, all of http-parser's making: it has a list of methods; it looks into trailers,
 * which we drop; it takes a tab for a part of the values that it reads itself; it takes a longer
 * name that begins with Transfer-Encoding for that.
 */
static bool is_known_difference(const http_parser *p, const char *text, const struct accepted *a)
{
	enum http_errno code = HTTP_PARSER_ERRNO(p);
	static const char coding[] = "Transfer-Encoding";

	if (code == HPE_INVALID_METHOD || memchr(text, '\t', a->head_len) != NULL)
		return true;
	for (size_t i = 0; i < a->head.n_headers; i++) {
		const char *name = a->head.headers[i].name;

		if (strncasecmp(name, coding, strlen(coding)) == 0 && strlen(name) > strlen(coding))
			return true;
	}
	return (p->flags & F_TRAILING) != 0 &&
	       (code == HPE_INVALID_CONTENT_LENGTH || code == HPE_UNEXPECTED_CONTENT_LENGTH);
}

static void compare_fields(const struct http_head *h, struct oracle *o)
{
	const char *at = buf_str(&o->fields);

	for (size_t i = 0; i < h->n_headers; i++) {
		size_t name_len = strlen(h->headers[i].name);
		size_t value_len = strlen(h->headers[i].value);

		require(strncmp(at, h->headers[i].name, name_len) == 0 && at[name_len] == ':');
		at += name_len + 1;
		require(strncmp(at, h->headers[i].value, value_len) == 0);
		at += value_len;
		at += strspn(at, " ");
		require(*at == '\n');
		at++;
	}
	require(*at == '\0');
}

/* http-parser lets keep-alive win over close in HTTP/1.0; and a list with other than tokens in it
 * ends its search. */
static bool is_connection_plain(const struct http_head *h)
{
	if (h->minor == 0 && http_head_has_token(h, "Connection", "close"))
		return false;
	for (size_t i = 0; i < h->n_headers; i++) {
		const char *value = h->headers[i].value;

		if (strcasecmp(h->headers[i].name, "Connection") == 0 &&
		    strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-, ") !=
			    strlen(value))
			return false;
	}
	return true;
}

static void compare(const char *data, size_t size, struct accepted *a)
{
	struct oracle o = { .target = BUF_INIT(INPUT_MAX),
			    .body = BUF_INIT(INPUT_MAX),
			    .fields = BUF_INIT(INPUT_MAX) };
	http_parser p = { .data = &o };
	size_t used;

	http_parser_init(&p, HTTP_REQUEST);
	used = http_parser_execute(&p, &oracle_settings, data, size);
	if (!is_known_difference(&p, data, a)) {
		require(HTTP_PARSER_ERRNO(&p) == (a->complete ? HPE_PAUSED : HPE_OK));
		require(o.heads_done && o.done == a->complete);
		require(streq(http_method_str((enum http_method)p.method), a->head.method));
		require(streq(buf_str(&o.target), a->head.target));
		require(p.http_major == 1 && p.http_minor == a->head.minor);
		require((p.upgrade != 0) == a->head.upgrade || !is_connection_plain(&a->head));
		require(o.keep_alive == a->head.keep_alive || !is_connection_plain(&a->head));
		require(o.body.len == a->body.len);
		require(memcmp(buf_str(&o.body), buf_str(&a->body), o.body.len) == 0);
		require(!a->complete || used == a->len);
		compare_fields(&a->head, &o);
	}
	buf_done(&o.target);
	buf_done(&o.body);
	buf_done(&o.fields);
}

static int accept_body(struct buf *in, struct accepted *a)
{
	struct http_body body;
	size_t used = 1;

	http_body_init(&body, &a->head);
	while (used > 0 && !body.done) {
		const char *data = NULL;
		size_t len = 0;

		if (http_body_next(&body, buf_head(in), in->len, &used, &data, &len) < 0)
			return -1;
		require(buf_append(&a->body, data, len) == 0);
		buf_consume(in, used);
	}
	a->complete = body.done;
	return 0;
}

/* The head, written and parsed again. */
static void check_round_trip(const struct http_head *h)
{
	struct http_field fields[HTTP_HEADERS_MAX + 1] = { 0 };
	struct buf text = BUF_INIT(2 * HTTP_HEAD_MAX);
	struct http_head again;
	struct err e = { 0 };

	for (size_t i = 0; i < h->n_headers; i++)
		fields[i] = (struct http_field){ h->headers[i].name, h->headers[i].value };
	require(http_write_request(&text, h->method, h->target, fields) == 0);
	/* Written with a blank behind each colon and as HTTP/1.1, it may have become too long. */
	if (text.len <= HTTP_HEAD_MAX) {
		require(http_head_parse_request(&text, &again, &e) == 1 && text.len == 0);
		require(streq(h->target, again.target) && h->n_headers == again.n_headers);
		require(h->body == again.body && h->content_length == again.content_length);
		for (size_t i = 0; i < h->n_headers; i++)
			require(streq(h->headers[i].value, again.headers[i].value));
		http_head_done(&again);
	}
	buf_done(&text);
}

/* Compares the requests at the front of the input, one after the other, with http-parser. */
static void check_requests(const uint8_t *data, size_t size)
{
	struct buf in = BUF_INIT(INPUT_MAX);
	bool more = true;

	require(buf_append(&in, data, size) == 0);
	while (more) {
		const char *start = (const char *)data + (size - in.len);
		struct accepted a = { .body = BUF_INIT(INPUT_MAX) };
		struct err e = { 0 };

		more = http_head_parse_request(&in, &a.head, &e) == 1;
		if (!more)
			break;
		a.head_len = size - in.len - (size_t)(start - (const char *)data);
		check_round_trip(&a.head);
		more = accept_body(&in, &a) == 0;
		a.len = size - in.len - (size_t)(start - (const char *)data);
		if (more)
			compare(start, (size_t)((const char *)data + size - start), &a);
		more = more && a.complete;
		buf_done(&a.body);
		http_head_done(&a.head);
	}
	buf_done(&in);
}

static void check_query(const uint8_t *data, size_t size)
{
	auto_free char *text = malloc(size + 1);
	auto_free char *decoded = NULL;
	char *value = NULL;

	require(text != NULL);
	memcpy(text, data, size);
	text[size] = '\0';
	if (http_percent_decode(text, size, true, &decoded) == 0)
		require(strlen(decoded) <= size);
	if (http_query_get(text, "a", &value) == 1)
		free(value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > INPUT_MAX)
		return 0;
	check_bytewise(data, size, true);
	check_bytewise(data, size, false);
	check_requests(data, size);
	check_query(data, size);
	return 0;
}
