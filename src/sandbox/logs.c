/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/logs.h"

#include "base/guestwords.h"
#include "base/str.h"
#include "sandbox/sandbox-internal.h"

#include <stdlib.h>

enum { ESCAPE = 0x1b, DELETE = 0x7f };

struct log_snapshot {
	char *console; /* bytes; owned */
	size_t n;
	uint64_t first; /* offset of the first of them */
	struct console_marks marks;
	struct journal journal; /* texts are owned */
};

static const struct {
	const char *word;
	enum log_level level;
} levels[] = {
	{ GUEST_FATAL_PREFIX, LOG_LEVEL_ERROR },
	{ "Kernel panic", LOG_LEVEL_ERROR },
	{ "BUG: ", LOG_LEVEL_ERROR },
	{ "Oops: ", LOG_LEVEL_ERROR },
	{ "Out of memory", LOG_LEVEL_ERROR },
	{ "I/O error", LOG_LEVEL_ERROR },
	{ "EXT4-fs error", LOG_LEVEL_ERROR },
	{ "WARNING: ", LOG_LEVEL_WARNING },
	{ "EXT4-fs warning", LOG_LEVEL_WARNING },
	{ "segfault at", LOG_LEVEL_WARNING },
	{ "blocked for more than", LOG_LEVEL_WARNING },
};

struct log_snapshot *log_snapshot_of(const struct console *c, const struct journal *j)
{
	struct log_snapshot *s = xcalloc(1, sizeof(*s));

	vec_foreach (entry, &j->entries)
		journal_add(&s->journal, entry->ms, entry->level, "%s", entry->text);
	if (c == NULL || c->ring.len == 0)
		return s;
	s->n = c->ring.len;
	s->console = xcalloc(s->n, 1);
	memcpy(s->console, buf_head(&c->ring), s->n);
	s->first = c->fed - s->n;
	vec_foreach (mark, &c->marks)
		console_marks_push(&s->marks, *mark);
	return s;
}

struct log_snapshot *log_snapshot_take(const struct sandbox *sb)
{
	return log_snapshot_of(sb->busy ? NULL : &sb->res.console, &sb->journal);
}

void log_snapshot_free(struct log_snapshot *s)
{
	if (s == NULL)
		return;
	journal_done(&s->journal);
	console_marks_done(&s->marks);
	free(s->console);
	free(s);
}

/* The byte behind a terminal sequence that begins at @i: "ESC [ … letter", else ESC alone. */
static size_t skip_escape(const char *p, size_t n, size_t i)
{
	if (i + 1 >= n || p[i + 1] != '[')
		return i + 1;
	i += 2;
	while (i < n && (p[i] < '@' || p[i] > '~'))
		i++;
	return i < n ? i + 1 : n;
}

/* A line as printable text; caller frees. */
static char *clean(const char *p, size_t n)
{
	char *out = xcalloc(n + 1, 1);
	size_t used = 0;
	size_t i = 0;

	while (i < n) {
		unsigned char c = (unsigned char)p[i];

		if (c == ESCAPE) {
			i = skip_escape(p, n, i);
			continue;
		}
		if ((c >= ' ' && c != DELETE) || c == '\t')
			out[used++] = p[i];
		i++;
	}
	while (used > 0 && (out[used - 1] == ' ' || out[used - 1] == '\t'))
		used--;
	out[used] = '\0';
	return out;
}

static enum log_level level_of(const char *text)
{
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		if (strstr(text, levels[i].word) != NULL)
			return levels[i].level;
	}
	return LOG_LEVEL_INFO;
}

/* Takes @line over. */
static void add(struct log_lines *out, struct log_line line, const struct log_query *q)
{
	if (line.text[0] != '\0' && line.ms >= q->from_ms && line.ms <= q->to_ms &&
	    line.level <= q->least && (q->search == NULL || strstr(line.text, q->search) != NULL))
		log_lines_push(out, line);
	else
		free(line.text);
}

static void add_console(const struct log_snapshot *s, const struct log_query *q,
			struct log_lines *out)
{
	size_t at = 0;

	/* The ring begins anywhere: what is left of its first line is not shown. */
	while (s->first > 0 && at < s->n && s->console[at] != '\n')
		at++;
	while (at < s->n) {
		const char *line = s->console + at;
		const char *end = memchr(line, '\n', s->n - at);
		size_t n = end != NULL ? (size_t)(end - line) : s->n - at;
		struct log_line l = { .ms = console_mark_time(&s->marks, s->first + at),
				      .console = true,
				      .text = clean(line, n) };

		l.level = level_of(l.text);
		add(out, l, q);
		at += n + 1;
	}
}

static void add_journal(const struct log_snapshot *s, const struct log_query *q,
			struct log_lines *out)
{
	vec_foreach (entry, &s->journal.entries) {
		struct log_line l = { .ms = entry->ms,
				      .level = entry->level,
				      .text = clean(entry->text, strlen(entry->text)) };

		add(out, l, q);
	}
}

/* Merges two runs, whose lines stay in their order also where the clock was set back. */
static void merge(const struct log_lines *a, const struct log_lines *b, struct log_lines *out)
{
	size_t i = 0;
	size_t k = 0;

	while (i < a->n || k < b->n) {
		if (k == b->n || (i < a->n && a->at[i].ms <= b->at[k].ms))
			log_lines_push(out, a->at[i++]);
		else
			log_lines_push(out, b->at[k++]);
	}
}

static void reverse(struct log_lines *lines)
{
	for (size_t i = 0; i < lines->n / 2; i++) {
		struct log_line line = lines->at[i];

		lines->at[i] = lines->at[lines->n - 1 - i];
		lines->at[lines->n - 1 - i] = line;
	}
}

void log_snapshot_select(const struct log_snapshot *s, const struct log_query *q,
			 struct log_lines *out)
{
	struct log_lines console = { 0 };
	struct log_lines journal = { 0 };

	add_console(s, q, &console);
	add_journal(s, q, &journal);
	merge(&journal, &console, out);
	log_lines_done(&console);
	log_lines_done(&journal);
	if (q->backward)
		reverse(out);
	while (out->n > q->limit)
		free(out->at[--out->n].text);
}

void log_lines_free(struct log_lines *lines)
{
	vec_foreach (line, lines)
		free(line->text);
	log_lines_done(lines);
}
