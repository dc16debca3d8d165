/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOG_LINE_MAX = 4096 };

static const struct {
	const char *name;
	char prio; /* syslog(3) priority, for the journal */
} levels[] = {
	[LOG_LEVEL_ERROR] = { "error", '3' },
	[LOG_LEVEL_WARNING] = { "warning", '4' },
	[LOG_LEVEL_INFO] = { "info", '6' },
	[LOG_LEVEL_DEBUG] = { "debug", '7' },
};
static_assert(ARRAY_SIZE(levels) == LOG_LEVEL_N, "every level has a name");

static atomic_int lowest = LOG_LEVEL_INFO;

void log_setup(enum log_level level)
{
	atomic_store(&lowest, (int)level);
}

int log_level_parse(const char *s, enum log_level *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		if (streq(s, levels[i].name)) {
			*out = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

/* The journal says which file it reads from: an inherited variable may be about another one. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	char own[64];
	struct stat st;

	if (stream == NULL || fstat(STDERR_FILENO, &st) < 0)
		return false;
	return str_fit(own, sizeof(own), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino) ==
		       0 &&
	       streq(own, stream);
}

static bool is_plain(const char *s)
{
	if (*s == '\0')
		return false;
	for (; *s != '\0'; s++) {
		if (*s <= ' ' || *s == '"' || *s == '=' || *s == '\\' || *s == 0x7f)
			return false;
	}
	return true;
}

static int put_quoted(struct buf *b, const char *s)
{
	int r = buf_puts(b, "\"");

	for (; r == 0 && *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			r = buf_printf(b, "\\%c", c);
		else if (c == '\n')
			r = buf_puts(b, "\\n");
		else if (c < ' ' || c == 0x7f)
			r = buf_printf(b, "\\x%02x", c);
		else
			r = buf_append(b, s, 1);
	}
	return r < 0 ? r : buf_puts(b, "\"");
}

static int put_kv(struct buf *b, const struct kv *kv)
{
	size_t before = b->len;
	int r = buf_printf(b, " %s=", kv->key);

	if (r == 0 && kv->str == NULL)
		r = buf_printf(b, "%llu", (unsigned long long)kv->num);
	else if (r == 0)
		r = is_plain(kv->str) ? buf_puts(b, kv->str) : put_quoted(b, kv->str);
	if (r < 0)
		b->len = before; /* half a field would be read as a whole one */
	return r;
}

void log_event(enum log_level level, const char *event, const struct kv *kvs, size_t n)
{
	auto_buf b = BUF_INIT(LOG_LINE_MAX - 1);
	char when[CLOCK_RFC3339_SIZE];
	int r;

	if ((int)level > atomic_load(&lowest))
		return;
	if (stderr_is_journal()) {
		r = buf_printf(&b, "<%c>event=%s", levels[level].prio, event);
	} else {
		clock_rfc3339(clock_realtime_ms(), when);
		r = buf_printf(&b, "time=%s level=%s event=%s", when, levels[level].name, event);
	}
	for (size_t i = 0; r == 0 && i < n; i++)
		r = put_kv(&b, &kvs[i]);
	/* A line that is too long loses its last fields; a log that cannot be written has no
	 * reader. There is always room for the newline. */
	b.max++;
	ignore_err(buf_puts(&b, "\n"));
	ignore_err(fd_write_all(STDERR_FILENO, buf_head(&b), b.len));
}
