/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console is all that is heard of a guest before its agent listens: the agent's line, or why
 * there will be none. Its bytes are the guest's: lines are cut at a bound and shown only as
 * printable text.
 */
#include "base/str.h"
#include "guest/guest.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

enum { LINE_SIZE = 512, SHOWN_SIZE = 256, READ_BYTES = 4096 };

static const char panic_word[] = "Kernel panic";

struct lines {
	char at[LINE_SIZE]; /* the line that is being read */
	size_t n;
	char last[SHOWN_SIZE]; /* the last complete one that is not empty, to be shown */
};

static void show(char out[SHOWN_SIZE], const char *line)
{
	str_copy(out, SHOWN_SIZE, line);
	for (char *p = out; *p != '\0'; p++)
		if (*p < ' ' || *p > '~')
			*p = '?';
}

/* Return: 1 the agent is ready; 0 go on; -errno with @e set. */
static int judge(const char *line, struct err *e)
{
	const char *fatal = strstr(line, GUEST_FATAL_PREFIX);
	const char *panic = strstr(line, panic_word);
	char shown[SHOWN_SIZE];

	if (strstr(line, GUEST_READY_LINE) != NULL)
		return 1;
	if (fatal != NULL) {
		show(shown, fatal + strlen(GUEST_FATAL_PREFIX));
		return err_set(e, ERR_AGENT, "the guest agent gave up: %s", shown);
	}
	if (panic != NULL) {
		show(shown, panic);
		return err_set(e, ERR_AGENT, "the guest's kernel stopped: %s", shown);
	}
	return 0;
}

static int end_line(struct lines *l, struct err *e)
{
	while (l->n > 0 && l->at[l->n - 1] == '\r')
		l->n--;
	l->at[l->n] = '\0';
	if (l->n > 0)
		show(l->last, l->at);
	l->n = 0;
	return judge(l->at, e);
}

static int take(struct lines *l, const char *p, size_t n, struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		int r;

		if (p[i] != '\n') {
			/* What is beyond the bound is dropped; a NUL would hide what follows it. */
			if (l->n < LINE_SIZE - 1 && p[i] != '\0')
				l->at[l->n++] = p[i];
			continue;
		}
		r = end_line(l, e);
		if (r != 0)
			return r;
	}
	return 0;
}

static int refuse_end(const struct lines *l, struct err *e)
{
	if (l->last[0] == '\0')
		return err_set(e, ERR_VMM, "the VMM ended before the guest said anything");
	return err_set(e, ERR_VMM, "the VMM ended before the guest was ready; its last words: %s",
		       l->last);
}

static int refuse_wait(int r, const struct lines *l, struct err *e)
{
	if (r == -ETIMEDOUT)
		return err_set(e, ERR_AGENT,
			       "the guest did not get ready in time; its last words: %s",
			       l->last[0] != '\0' ? l->last : "none");
	return err_errno(e, -r, "wait for the guest");
}

int guest_wait_ready(int console_fd, int vmm_pidfd,
		     void (*feed)(const char *p, size_t n, void *arg), void *arg, struct op *op)
{
	struct lines lines = { 0 };

	for (;;) {
		char chunk[READ_BYTES];
		ssize_t n;
		/* A console that never falls silent would keep the wait from seeing the deadline.
		 */
		int r = op_check(op);

		if (r == 0)
			r = op_wait_fd(op, console_fd, POLLIN, vmm_pidfd);
		if (r < 0)
			return refuse_wait(r, &lines, &op->err);
		n = read(console_fd, chunk, sizeof(chunk));
		if (n < 0 && (errno == EINTR || (errno == EAGAIN && r == 1)))
			continue;
		/* End of file, EIO of a terminal whose other end is gone, or nothing left after the
		 * VMM's end: all say the same. */
		if (n <= 0)
			return refuse_end(&lines, &op->err);
		feed(chunk, (size_t)n, arg);
		r = take(&lines, chunk, (size_t)n, &op->err);
		if (r != 0)
			return r < 0 ? r : 0;
	}
}
