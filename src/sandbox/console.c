/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/console.h"

#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
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

void console_feed(struct console *c, const char *p, size_t n)
{
	size_t keep = MIN(n, (size_t)CONSOLE_RING_BYTES);
	const char *tail = p + (n - keep);

	if (c->ring.len + keep > CONSOLE_RING_BYTES)
		buf_consume(&c->ring, c->ring.len + keep - CONSOLE_RING_BYTES);
	/* Without memory these bytes are missing from the ring; the guest goes on. */
	ignore_err(buf_append(&c->ring, tail, keep));
	log_bytes(c, tail, keep);
}

/* Feeds the end of the file. Return: its size; -errno. */
static int64_t read_back(struct console *c, int fd)
{
	auto_free char *end = xcalloc(1, CONSOLE_RING_BYTES);
	off_t size = lseek(fd, 0, SEEK_END);
	ssize_t n;

	if (size < 0 || lseek(fd, MAX(size - CONSOLE_RING_BYTES, 0), SEEK_SET) < 0)
		return -errno;
	n = fd_read_full(fd, end, CONSOLE_RING_BYTES);
	if (n < 0)
		return n;
	console_feed(c, end, (size_t)n);
	return size;
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
}
