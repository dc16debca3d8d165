/* SPDX-License-Identifier: Apache-2.0 */
#include "base/op.h"

#include "base/clock.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>

void op_init(struct op *op, uint64_t timeout_ms, int cancel_fd)
{
	static atomic_uint_fast64_t last_id;

	*op = (struct op){
		.id = atomic_fetch_add(&last_id, 1) + 1,
		.deadline_ns = timeout_ms == 0 ? 0 : clock_now_ns() + timeout_ms * NS_PER_MS,
		.cancel_fd = cancel_fd,
	};
}

struct op op_child(const struct op *parent, uint64_t timeout_ms)
{
	struct op child = *parent;
	uint64_t deadline_ns = clock_now_ns() + timeout_ms * NS_PER_MS;

	child.err = (struct err){ 0 };
	if (timeout_ms != 0 && (parent->deadline_ns == 0 || deadline_ns < parent->deadline_ns))
		child.deadline_ns = deadline_ns;
	return child;
}

int op_poll_ms(const struct op *op)
{
	uint64_t now = clock_now_ns();
	uint64_t ms;

	if (op->deadline_ns == 0)
		return -1;
	if (now >= op->deadline_ns)
		return 0;
	ms = (op->deadline_ns - now + NS_PER_MS - 1) / NS_PER_MS;
	return ms > INT_MAX ? INT_MAX : (int)ms;
}

int op_check(const struct op *op)
{
	struct pollfd p = { .fd = op->cancel_fd, .events = POLLIN };

	if (op->cancel_fd >= 0 && poll(&p, 1, 0) == 1)
		return -ECANCELED;
	return op_poll_ms(op) == 0 ? -ETIMEDOUT : 0;
}

static int look(const struct op *op)
{
	return op->watch != NULL ? op->watch->look(op->watch->arg) : 0;
}

static int wait_fd(const struct op *op, int fd, short events, int also_fd)
{
	struct pollfd p[] = {
		{ .fd = fd, .events = events },
		{ .fd = also_fd, .events = POLLIN },
		{ .fd = op->cancel_fd, .events = POLLIN },
		{ .fd = op->watch != NULL ? op->watch->fd : -1, .events = POLLIN },
	};

	for (;;) {
		int r = look(op);
		int n;

		if (r < 0)
			return r;
		n = poll(p, ARRAY_SIZE(p), op_poll_ms(op));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (p[2].revents != 0)
			return -ECANCELED;
		if (p[0].revents != 0)
			return 1;
		if (p[1].revents != 0)
			return 2;
		if (n == 0 && op_poll_ms(op) == 0)
			return -ETIMEDOUT;
	}
}

int op_wait_fd(const struct op *op, int fd, short events, int also_fd)
{
	uint64_t start_ns = clock_now_ns();
	int r = wait_fd(op, fd, events, also_fd);

	if (op->waited_ns != NULL)
		*op->waited_ns += clock_now_ns() - start_ns;
	return r;
}
