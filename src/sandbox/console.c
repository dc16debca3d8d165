/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/console.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static const char log_name[] = "console.log";

/* Starts the file anew with what the ring holds. */
static int rewrite_log(struct console *c)
{
	if (ftruncate(c->log_fd, 0) < 0)
		return -errno;
	c->log_bytes = c->ring.len;
	return fd_write_all(c->log_fd, buf_head(&c->ring), c->ring.len);
}

static void log_bytes(struct console *c, const char *p, size_t n)
{
	int r;

	if (c->log_fd < 0)
		return;
	if (c->log_bytes + n > (uint64_t)2 * CONSOLE_RING_BYTES) {
		r = rewrite_log(c);
	} else {
		c->log_bytes += n;
		r = fd_write_all(c->log_fd, p, n);
	}
	if (r < 0)
		fd_close(&c->log_fd);
}

/* Every second mark goes, so that what is left still reaches back to the first. */
static void thin_marks(struct console_marks *marks)
{
	for (size_t i = 0; 2 * i < marks->n; i++)
		marks->at[i] = marks->at[2 * i];
	marks->n = (marks->n + 1) / 2;
}

/* Those that no byte of the ring belongs to any more go. */
static void drop_old_marks(struct console_marks *marks, uint64_t first)
{
	size_t old = 0;

	while (old + 1 < marks->n && marks->at[old + 1].at <= first)
		old++;
	if (old == 0)
		return;
	marks->n -= old;
	memmove(marks->at, &marks->at[old], marks->n * sizeof(marks->at[0]));
}

static void mark(struct console *c, uint64_t ms)
{
	struct console_marks *marks = &c->marks;

	if (marks->n > 0 && ms >= marks->at[marks->n - 1].ms &&
	    ms < marks->at[marks->n - 1].ms + CONSOLE_MARK_MS)
		return;
	drop_old_marks(marks, c->fed - c->ring.len);
	if (marks->n == CONSOLE_MARKS)
		thin_marks(marks);
	console_marks_push(marks, (struct console_mark){ .at = c->fed, .ms = ms });
}

uint64_t console_mark_time(const struct console_marks *marks, uint64_t at)
{
	uint64_t ms = 0;

	for (size_t i = 0; i < marks->n && marks->at[i].at <= at; i++)
		ms = marks->at[i].ms;
	return ms;
}

static void feed(struct console *c, const char *p, size_t n, uint64_t ms)
{
	size_t keep = MIN(n, (size_t)CONSOLE_RING_BYTES);
	const char *tail = p + (n - keep);

	if (c->ring.len + keep > CONSOLE_RING_BYTES)
		buf_consume(&c->ring, c->ring.len + keep - CONSOLE_RING_BYTES);
	mark(c, ms);
	c->fed += n;
	/* Without memory these bytes are missing from the ring; the guest goes on. */
	if (buf_append(&c->ring, tail, keep) < 0)
		buf_clear(&c->ring);
	log_bytes(c, tail, keep);
}

void console_feed(struct console *c, const char *p, size_t n)
{
	feed(c, p, n, clock_realtime_ms());
}

/* Feeds the end of the file. Return: its size; -errno. */
static int64_t read_back(struct console *c, int fd)
{
	auto_free char *end = xcalloc(1, CONSOLE_RING_BYTES);
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st) < 0 || lseek(fd, MAX(st.st_size - CONSOLE_RING_BYTES, 0), SEEK_SET) < 0)
		return -errno;
	n = fd_read_full(fd, end, CONSOLE_RING_BYTES);
	if (n < 0)
		return n;
	/* All that is known of when it came: it was there by then. */
	if (n > 0)
		feed(c, end, (size_t)n,
		     (uint64_t)st.st_mtim.tv_sec * MS_PER_S +
			     (uint64_t)st.st_mtim.tv_nsec / NS_PER_MS);
	return st.st_size;
}

int console_open(struct console *c, int run_dirfd)
{
	auto_close int fd = openat(run_dirfd, log_name,
				   O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
	int64_t size = fd < 0 ? -errno : read_back(c, fd);

	if (size < 0)
		return (int)size;
	c->log_bytes = (uint64_t)size;
	c->log_fd = take_fd(&fd);
	return 0;
}

char *console_tail(const struct console *c, size_t max)
{
	size_t n = MIN(c->ring.len, max);
	const char *from = n == 0 ? "" : buf_head(&c->ring) + (c->ring.len - n);
	const char *line = n < c->ring.len ? memchr(from, '\n', n) : NULL;
	char *out;
	size_t used = 0;

	if (line != NULL) {
		n -= (size_t)(line + 1 - from);
		from = line + 1;
	}
	out = xcalloc(n + 1, 1);
	for (size_t i = 0; i < n; i++) {
		unsigned char ch = (unsigned char)from[i];

		if ((ch >= ' ' && ch != 0x7f) || ch == '\n' || ch == '\t')
			out[used++] = from[i];
	}
	return out;
}

void console_done(struct console *c)
{
	fd_close(&c->log_fd);
	buf_done(&c->ring);
	console_marks_done(&c->marks);
}
