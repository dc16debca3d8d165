/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/freeze.h"

#include "agent/job.h"
#include "agent/reply.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/op.h"
#include "base/parse.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define CGROUP "/sys/fs/cgroup/sandbox"

enum { FROZEN_TIMEOUT_MS = 3000, EVENTS_MAX_BYTES = 4096, BODY_MAX = 1024 };
enum { AT_ONCE_MS = 20 }; /* so long may the loop wait for what mostly takes less than one */

struct freeze {
	struct job job;
	struct agent *agent;
	struct http_exchange *x; /* NULL = who asked is gone */
	bool sync;
	int result;
};

/* They stay open: to open one takes the emulated guest as long as to freeze all there is. */
int freeze_setup(struct freezer *out, struct err *e)
{
	if (mkdir(CGROUP, 0755) < 0 && errno != EEXIST)
		return err_errno(e, errno, "make the cgroup " CGROUP);
	out->procs_fd = open(CGROUP "/cgroup.procs", O_WRONLY | O_CLOEXEC);
	out->freeze_fd = open(CGROUP "/cgroup.freeze", O_WRONLY | O_CLOEXEC);
	out->events_fd = open(CGROUP "/cgroup.events", O_RDONLY | O_CLOEXEC);
	if (out->procs_fd < 0 || out->freeze_fd < 0 || out->events_fd < 0)
		return err_errno(e, errno, "open the files of " CGROUP);
	return 0;
}

/* @state: "1" everything shall stand still, "0" go on */
static int wish(const struct freezer *f, const char *state)
{
	return pwrite(f->freeze_fd, state, 1, 0) < 0 ? -errno : 0;
}

/* Whether the kernel says so. The descriptor becomes ready (POLLPRI) when the file changes. */
static int is_frozen(int fd)
{
	char text[EVENTS_MAX_BYTES];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	uint64_t frozen;
	int r;

	if (n < 0)
		return -errno;
	text[n] = '\0';
	r = parse_keyed(text, "frozen", &frozen);
	return r < 0 ? r : frozen != 0;
}

/*
 * Processes stand still when they have run once more, which they do while others let them: no event
 * is waited for, since the kernel's thread that sends it may come many milliseconds later.
 */
static int await_frozen_here(int fd)
{
	uint64_t end_ns = clock_now_ns() + AT_ONCE_MS * NS_PER_MS;
	int r;

	while ((r = is_frozen(fd)) == 0 && clock_now_ns() < end_ns)
		sched_yield();
	return r;
}

static int await_frozen(int fd)
{
	struct op op;
	int r;

	op_init(&op, FROZEN_TIMEOUT_MS, -1);
	while ((r = is_frozen(fd)) == 0) {
		r = op_wait_fd(&op, fd, POLLPRI, -1);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : 0;
}

static void freeze_work(struct job *job)
{
	struct freeze *f = container_of(job, struct freeze, job);

	f->result = await_frozen(f->agent->freezer.events_fd);
	if (f->result == 0 && f->sync)
		sync();
}

static void freeze_done(struct job *job)
{
	struct freeze *f = container_of(job, struct freeze, job);
	static const struct http_exchange_events nothing = { 0 };

	if (f->result < 0)
		ignore_err(freeze_thaw(f->agent)); /* the first error counts */
	if (f->x != NULL) {
		http_exchange_bind(f->x, &nothing, NULL);
		if (f->result == 0)
			reply_empty(f->x, 204);
		else
			reply_error(f->x, 500, "freeze the processes: %s", strerror(-f->result));
	}
	free(f);
}

static void on_close(struct http_exchange *x, bool complete, void *arg)
{
	struct freeze *f = arg;

	(void)x;
	(void)complete;
	f->x = NULL;
}

static void start(struct http_exchange *x, struct agent *a, bool with_sync)
{
	static const struct http_exchange_events events = { .on_close = on_close };
	struct freeze *f = xcalloc(1, sizeof(*f));

	/* Whatever is started from now on would wait for itself. */
	a->frozen = true;
	*f = (struct freeze){ .agent = a, .x = x, .sync = with_sync };
	http_exchange_bind(x, &events, f);
	f->result = wish(&a->freezer, "1");
	if (f->result < 0 || (!with_sync && await_frozen_here(a->freezer.events_fd) == 1))
		freeze_done(&f->job);
	else
		job_start(&a->loop, &f->job, freeze_work, freeze_done);
}

/* {"sync": false}: what is not on the disk yet is in the memory that is saved with it. */
static void on_body(struct http_exchange *x, const char *body, size_t n, void *arg)
{
	auto_json *o = n > 0 ? json_loadb(body, n, JSON_REJECT_DUPLICATES, NULL) : json_object();
	const json_t *with_sync = json_object_get(o, "sync");

	if (!json_is_object(o) || (with_sync != NULL && !json_is_boolean(with_sync)))
		reply_error(x, 400, "the body must be {\"sync\": true or false}");
	else
		start(x, arg, !json_is_false(with_sync));
}

void freeze_serve(struct http_exchange *x, const struct route_params *params, void *arg)
{
	const struct agent *a = arg;

	(void)params;
	if (a->freezer.freeze_fd < 0)
		reply_error(x, 501, "only the agent of a guest can freeze its processes");
	else
		http_body_collect(x, BODY_MAX, on_body, arg);
}

int freeze_thaw(struct agent *a)
{
	int r = a->freezer.freeze_fd < 0 ? 0 : wish(&a->freezer, "0");

	if (r == 0)
		a->frozen = false;
	return r;
}

void freeze_serve_undo(struct http_exchange *x, const struct route_params *params, void *arg)
{
	int r = freeze_thaw(arg);

	(void)params;
	if (r == 0)
		reply_empty(x, 204);
	else
		reply_error(x, 500, "thaw the processes: %s", strerror(-r));
}
