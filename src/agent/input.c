/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/input.h"

#include "agent/handle.h"
#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct input_item {
	struct input_item *next;
	struct input *input;
	struct connect_call *call; /* NULL = nobody waits for the answer any more */
	char *data;                /* owned; NULL = close the pipe */
	size_t n;
	size_t off; /* written */
};

static const char closed_text[] = "the process has no open stdin";

static void item_free(struct input_item *item)
{
	free(item->data);
	free(item);
}

static void item_unlink(struct input_item *item)
{
	struct input *in = item->input;
	struct input_item **at = &in->first;

	while (*at != item)
		at = &(*at)->next;
	*at = item->next;
	if (in->tail == &item->next)
		in->tail = at;
}

/* The client left. What the process has seen a part of it sees whole; the rest is dropped, so that
 * no more memory waits here than clients wait. */
static void on_item_gone(void *arg)
{
	struct input_item *item = arg;

	item->call = NULL;
	if (item->off > 0)
		return;
	item_unlink(item);
	item_free(item);
}

static const struct connect_events item_events = { .on_gone = on_item_gone };

static void item_finish(struct input_item *item, const char *why)
{
	struct connect_call *c = item->call;

	item_unlink(item);
	item_free(item);
	if (c == NULL)
		return;
	if (why == NULL)
		connect_reply(c, json_object());
	else
		connect_failf(c, CONNECT_FAILED_PRECONDITION, "%s", why);
}

static void pipe_close(struct input *in)
{
	handle_poll_free(&in->poll);
	fd_close(&in->fd);
	in->waiting = false;
}

/* Writes what goes into the pipe. Return: 0 the item is done; -EAGAIN; -errno. */
static int item_write(struct input_item *item)
{
	while (item->off < item->n) {
		ssize_t n = write(item->input->fd, item->data + item->off, item->n - item->off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		item->off += (size_t)n;
	}
	return 0;
}

static void input_run(struct input *in);

static void on_writable(uv_poll_t *poll, int status, int events)
{
	(void)status; /* an error shows in the write */
	(void)events;
	input_run(poll->data);
}

static void set_waiting(struct input *in, bool on)
{
	int r;

	if (in->poll == NULL || in->waiting == on)
		return;
	r = on ? uv_poll_start(in->poll, UV_WRITABLE, on_writable) : uv_poll_stop(in->poll);
	assert(r == 0); /* the handle is open and its descriptor ours */
	in->waiting = on;
}

static void input_run(struct input *in)
{
	while (in->first != NULL) {
		struct input_item *item = in->first;
		int r;

		if (in->fd < 0) {
			item_finish(item, closed_text);
			continue;
		}
		r = item_write(item);
		if (r == -EAGAIN) {
			set_waiting(in, true);
			return;
		}
		if (r < 0 || item->data == NULL)
			pipe_close(in);
		item_finish(item, r < 0 ? "the process has closed its stdin" : NULL);
	}
	set_waiting(in, false);
}

static void input_push(struct input *in, struct connect_call *c, char *data, size_t n)
{
	struct input_item *item = xcalloc(1, sizeof(*item));

	*item = (struct input_item){ .input = in, .call = c, .data = data, .n = n };
	connect_bind(c, &item_events, item);
	*in->tail = item;
	in->tail = &item->next;
	if (in->first == item)
		input_run(in);
}

int input_init(struct input *in, uv_loop_t *loop, int *fd)
{
	int r;

	*in = (struct input){ .fd = -1 };
	in->tail = &in->first;
	if (*fd < 0)
		return 0;
	r = handle_poll_new(loop, *fd, in, &in->poll);
	if (r < 0)
		return r;
	in->fd = take_fd(fd);
	return 0;
}

void input_done(struct input *in, const char *why)
{
	if (in->tail == NULL)
		return;
	pipe_close(in);
	while (in->first != NULL)
		item_finish(in->first, why);
}

void input_write(struct input *in, struct connect_call *c, char *data, size_t n)
{
	input_push(in, c, data, n);
}

void input_close(struct input *in, struct connect_call *c)
{
	if (in->fd < 0)
		connect_failf(c, CONNECT_FAILED_PRECONDITION, "%s", closed_text);
	else
		input_push(in, c, NULL, 0);
}
