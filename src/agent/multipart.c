/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 *	PREAMBLE -delimiter-> AFTER --CR-LF-> HEAD -empty line-> BODY -delimiter-> AFTER
 *	                        | "--"
 *	                        +-> EPILOGUE
 *
 * A delimiter is CR LF "--" and the boundary. Since no CR can be within a boundary, bytes that
 * begin like a delimiter and then differ are plain data, and the search goes on with the byte that
 * differs. Such a beginning may be in one piece and the rest in the next: the bytes seen are not
 * kept, they are known to be the delimiter's own. At the very beginning, and behind the headers of
 * a part without a body, the CR LF of the line before counts as the delimiter's ("virtual").
 */
#include "agent/multipart.h"

#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <strings.h>

enum state { PREAMBLE, AFTER, AFTER_DASH, PADDING, AFTER_CR, HEAD, BODY, EPILOGUE };

enum { LINE_END_BYTES = 2 };

/* Reads a token or a quoted string, in which a backslash makes the next quote or backslash plain;
 * others stand for themselves, as in a path of Windows. Return: behind it. */
static const char *read_value(const char *s, char *out)
{
	if (*s != '"') {
		size_t n = strcspn(s, "; \t");

		memcpy(out, s, n);
		out[n] = '\0';
		return s + n;
	}
	for (s++; *s != '\0' && *s != '"'; s++) {
		if (*s == '\\' && (s[1] == '"' || s[1] == '\\'))
			s++;
		*out++ = *s;
	}
	*out = '\0';
	return *s == '"' ? s + 1 : s;
}

/* One parameter, "name=token" or "name="quoted"", and whether it is @name. Return: behind it. */
static const char *read_param(const char *s, const char *name, char *value, bool *out_is)
{
	const char *key = s + strspn(s, " \t");
	size_t n = strcspn(key, "=; \t");

	*out_is = false;
	s = key + n;
	if (*s != '=')
		return s;
	*out_is = n == strlen(name) && strncasecmp(key, name, n) == 0;
	return read_value(s + 1, value);
}

/* A parameter of "value; name=token; name="quoted"". Return: 1 found; 0 absent; -ENOMEM. */
static int find_param(const char *header, const char *name, char **out)
{
	auto_free char *value = malloc(strlen(header) + 1);
	const char *s = header + strcspn(header, ";");
	bool found = false;

	if (value == NULL)
		return -ENOMEM;
	while (*s == ';' && !found) {
		s = read_param(s + 1, name, value, &found);
		s += strcspn(s, ";");
	}
	if (found)
		*out = take_ptr(&value);
	return found;
}

static bool boundary_ok(const char *boundary)
{
	size_t n = strlen(boundary);

	if (n == 0 || n > MULTIPART_BOUNDARY_MAX || boundary[n - 1] == ' ')
		return false;
	for (; *boundary != '\0'; boundary++)
		if (*boundary < ' ' || *boundary > '~')
			return false;
	return true;
}

int multipart_init(struct multipart *m, const char *content_type)
{
	auto_free char *boundary = NULL;
	int r = find_param(content_type, "boundary", &boundary);

	if (r < 0)
		return r;
	if (r == 0 || !boundary_ok(boundary))
		return -EINVAL;
	*m = (struct multipart){
		.state = PREAMBLE,
		.matched = LINE_END_BYTES,
		.virtual = LINE_END_BYTES,
		.head = BUF_INIT(MULTIPART_HEAD_MAX),
	};
	r = str_fit(m->delimiter, sizeof(m->delimiter), "\r\n--%s", boundary);
	assert(r == 0); /* its length was checked */
	m->len = strlen(m->delimiter);
	return 0;
}

void multipart_done(struct multipart *m)
{
	buf_done(&m->head);
	free(m->disposition);
	m->disposition = NULL;
}

bool multipart_is_complete(const struct multipart *m)
{
	return m->state == EPILOGUE;
}

int multipart_param(const struct multipart *m, const char *name, char **out)
{
	return m->disposition != NULL ? find_param(m->disposition, name, out) : 0;
}

static void use(const char **p, size_t *n, size_t used)
{
	*p += used;
	*n -= used;
}

/* The bytes from the front that are surely no part of a delimiter. */
static size_t plain_bytes(const struct multipart *m, const char *p, size_t n)
{
	const char *end = p + n;

	for (const char *at = p; (at = memchr(at, '\r', (size_t)(end - at))) != NULL; at++)
		if (memcmp(at, m->delimiter, MIN(m->len, (size_t)(end - at))) == 0)
			return (size_t)(at - p);
	return n;
}

/* Goes on with a delimiter. Return: whether it is complete or more bytes are needed; else it is
 * none.
 */
static bool match_delimiter(struct multipart *m, const char **p, size_t *n)
{
	size_t want = MIN(m->len - m->matched, *n);

	if (memcmp(*p, m->delimiter + m->matched, want) != 0)
		return false;
	m->matched += want;
	use(p, n, want);
	return true;
}

/* Preamble and body. */
static int read_body(struct multipart *m, const char **p, size_t *n, const char **out,
		     size_t *out_n)
{
	size_t plain = m->matched == 0 ? plain_bytes(m, *p, *n) : 0;
	bool in_part = m->in_part;

	*out = *p;
	*out_n = plain;
	use(p, n, plain);
	if (plain == 0 && !match_delimiter(m, p, n)) {
		*out = m->delimiter + m->virtual;
		*out_n = m->matched - m->virtual;
		m->matched = 0;
		m->virtual = 0;
	}
	if (m->matched == m->len) {
		m->state = AFTER;
		m->in_part = false;
		return in_part ? MULTIPART_DONE : MULTIPART_MORE;
	}
	return in_part && *out_n > 0 ? MULTIPART_DATA : MULTIPART_MORE;
}

/* What may follow a boundary: "--", or blanks and the end of the line. */
static int read_after(struct multipart *m, char c)
{
	switch ((enum state)m->state) {
	case AFTER:
		if (c == '-') {
			m->state = AFTER_DASH;
			return MULTIPART_MORE;
		}
		m->state = PADDING;
		return read_after(m, c);
	case PADDING:
		if (c == '\r')
			m->state = AFTER_CR;
		return c == '\r' || c == ' ' || c == '\t' ? MULTIPART_MORE : -EBADMSG;
	case AFTER_DASH:
		m->state = EPILOGUE;
		return c == '-' ? MULTIPART_END : -EBADMSG;
	case AFTER_CR:
		m->state = HEAD;
		buf_clear(&m->head);
		return c == '\n' ? MULTIPART_MORE : -EBADMSG;
	case PREAMBLE:
	case HEAD:
	case BODY:
	case EPILOGUE:
		break;
	}
	return -EBADMSG;
}

/* Takes one header line, without its end. */
static int read_header(struct multipart *m, char *line)
{
	static const char wanted[] = "Content-Disposition:";

	if (strchr(line, ':') == NULL)
		return -EBADMSG;
	if (strncasecmp(line, wanted, strlen(wanted)) != 0 || m->disposition != NULL)
		return 0;
	m->disposition = strdup(line + strlen(wanted));
	return m->disposition != NULL ? 0 : -ENOMEM;
}

/* All lines of the head are there, the empty one at last. */
static int read_lines(struct multipart *m)
{
	char *line;
	char *end;
	int r = 0;

	if (memchr(buf_head(&m->head), '\0', m->head.len) != NULL)
		return -EBADMSG;
	buf_str(&m->head); /* with a NUL behind it */
	for (line = buf_head(&m->head); r == 0; line = end + 1) {
		end = strchr(line, '\n');
		if (end == NULL || end == line || end[-1] != '\r')
			return -EBADMSG;
		if (end == line + 1)
			return 0;
		end[-1] = '\0';
		r = read_header(m, line);
	}
	return r;
}

static int read_headers(struct multipart *m)
{
	int r;

	free(m->disposition);
	m->disposition = NULL;
	r = read_lines(m);
	if (r < 0)
		return r;
	m->state = BODY;
	m->in_part = true;
	m->matched = LINE_END_BYTES;
	m->virtual = LINE_END_BYTES;
	buf_done(&m->head);
	return MULTIPART_PART;
}

static bool head_is_complete(const struct buf *head)
{
	const char *p = buf_head(head);

	if (head->len < LINE_END_BYTES || memcmp(p + head->len - 2, "\r\n", 2) != 0)
		return false;
	return head->len == LINE_END_BYTES ||
	       (head->len >= 4 && memcmp(p + head->len - 4, "\r\n", 2) == 0);
}

static int read_head(struct multipart *m, const char **p, size_t *n)
{
	const char *newline = memchr(*p, '\n', *n);
	size_t take = newline != NULL ? (size_t)(newline - *p) + 1 : *n;
	int r = buf_append(&m->head, *p, take);

	if (r < 0)
		return r;
	use(p, n, take);
	return head_is_complete(&m->head) ? read_headers(m) : MULTIPART_MORE;
}

static int step(struct multipart *m, const char **p, size_t *n, const char **out, size_t *out_n)
{
	char c;

	switch ((enum state)m->state) {
	case PREAMBLE:
	case BODY:
		return read_body(m, p, n, out, out_n);
	case HEAD:
		return read_head(m, p, n);
	case EPILOGUE:
		use(p, n, *n);
		return MULTIPART_MORE;
	case AFTER:
	case AFTER_DASH:
	case PADDING:
	case AFTER_CR:
		break;
	}
	c = **p;
	use(p, n, 1);
	return read_after(m, c);
}

int multipart_next(struct multipart *m, const char **p, size_t *n, const char **out, size_t *out_n)
{
	int r = MULTIPART_MORE;

	while (r == MULTIPART_MORE && *n > 0)
		r = step(m, p, n, out, out_n);
	return r;
}
