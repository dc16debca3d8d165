/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * Every byte goes through qmp_feed(), which cuts lines and sorts the objects: the greeting, events
 * (queued), the replies that are awaited (by their ids, which follow one another), and late ones to
 * commands that were given up at their deadline, which are dropped. Any fault of the peer breaks
 * the client for good: q->broken is what every later call returns.
 *
 * The event descriptor is an epoll set of the socket and of an eventfd that is readable while
 * events are queued: an event that arrived during a command is not lost to who polls. A broken
 * client leaves the eventfd readable, until the end of the connection was reported once by
 * qmp_next_event().
 *
 * The queue holds the newest QMP_EVENTS_MAX events: the VMM's state is what the last ones say.
 *
 * After SHUTDOWN no command waits any longer: QEMU is leaving its main loop. What it has not begun
 * by then it never answers, and QEMU 7.2 even hangs in its clean-up with such a command in its
 * queue, so that the connection does not end either (seen in one of six deaths at boot on a busy
 * host: the main thread polls for ever in monitor_cleanup()).
 */
#include "vmm/qmp.h"

#include "base/buf.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { QMP_READ_BYTES = 4096 };

struct qmp {
	int fd;        /* owned */
	int epoll_fd;  /* owned; polls the two others */
	int queued_fd; /* owned eventfd: events are queued, or the end is not reported yet */
	int broken;    /* 0, or the -errno that ended it */
	bool greeted;
	char version[32];
	bool ending; /* SHUTDOWN arrived */
	uint64_t last_id;
	const char *names[QMP_COMMANDS_MAX]; /* of the commands up to last_id; borrowed */
	size_t n_names;
	size_t n_awaited;    /* of these, how many have no reply yet */
	json_t *reply;       /* to the last one; NULL = not there yet */
	json_t *refusal;     /* of the first one that was refused; NULL = none */
	const char *refused; /* its name */
	struct buf in;
	json_t *events[QMP_EVENTS_MAX]; /* ring */
	unsigned first;
	unsigned n_events;
};

static void free_text(char **s)
{
	free(*s);
}

static int watch(struct qmp *q, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN };

	return epoll_ctl(q->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

static int open_fds(struct qmp *q)
{
	int r = fd_set_nonblock(q->fd, true);

	if (r < 0)
		return r;
	q->queued_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->queued_fd < 0)
		return -errno;
	q->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (q->epoll_fd < 0)
		return -errno;
	r = watch(q, q->queued_fd);
	return r < 0 ? r : watch(q, q->fd);
}

int qmp_new(int fd, struct qmp **out)
{
	struct qmp *q = xcalloc(1, sizeof(*q));
	int r;

	q->fd = fd;
	q->epoll_fd = -1;
	q->queued_fd = -1;
	buf_init(&q->in, QMP_LINE_MAX);
	r = open_fds(q);
	if (r < 0) {
		qmp_free(q);
		return r;
	}
	*out = q;
	return 0;
}

void qmp_free(struct qmp *q)
{
	if (q == NULL)
		return;
	for (unsigned i = 0; i < q->n_events; i++)
		json_decref(q->events[(q->first + i) % QMP_EVENTS_MAX]);
	json_decref(q->reply);
	json_decref(q->refusal);
	buf_done(&q->in);
	fd_close(&q->epoll_fd);
	fd_close(&q->queued_fd);
	fd_close(&q->fd);
	free(q);
}

static void mark_queued(struct qmp *q)
{
	ignore_err(eventfd_write(q->queued_fd, 1)); /* fails only when it is readable already */
}

static void clear_queued(struct qmp *q)
{
	eventfd_t n;

	ignore_err(eventfd_read(q->queued_fd, &n)); /* fails only when it is clear already */
}

static int broke(struct qmp *q, int r)
{
	if (q->broken == 0) {
		q->broken = r;
		/* The socket stays readable at its end: from here on only the eventfd speaks. */
		ignore_err(epoll_ctl(q->epoll_fd, EPOLL_CTL_DEL, q->fd, NULL));
		mark_queued(q);
	}
	return q->broken;
}

/* By a command of ours, "quit", it ends after it has answered that. */
static bool ends(const json_t *event)
{
	const json_t *data = json_object_get(event, "data");
	const char *reason = json_string_value(json_object_get(data, "reason"));

	return streq(json_string_value(json_object_get(event, "event")), "SHUTDOWN") &&
	       (reason == NULL || !streq(reason, "host-qmp-quit"));
}

static void queue_event(struct qmp *q, json_t *event)
{
	q->ending = q->ending || ends(event);
	if (q->n_events == QMP_EVENTS_MAX) {
		json_decref(q->events[q->first]);
		q->first = (q->first + 1) % QMP_EVENTS_MAX;
		q->n_events--;
	}
	q->events[(q->first + q->n_events++) % QMP_EVENTS_MAX] = json_incref(event);
	mark_queued(q);
}

/* Of the commands that were sent together QEMU answers the first one first. */
static int take_reply(struct qmp *q, json_t *msg)
{
	json_t *id = json_object_get(msg, "id");

	if (!json_is_integer(id))
		return -EBADMSG;
	if (q->n_awaited == 0 || (uint64_t)json_integer_value(id) != q->last_id - q->n_awaited + 1)
		return 0;
	if (json_object_get(msg, "error") != NULL && q->refusal == NULL) {
		q->refusal = json_incref(msg);
		q->refused = q->names[q->n_names - q->n_awaited];
	}
	if (--q->n_awaited == 0)
		q->reply = json_incref(msg);
	return 0;
}

/* {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}, …}, …} */
static void take_greeting(struct qmp *q, json_t *greeting)
{
	int major, minor, micro;

	q->greeted = true;
	if (json_unpack(greeting, "{s{s{si si si}}}", "version", "qemu", "major", &major, "minor",
			&minor, "micro", &micro) == 0)
		ignore_err(str_fit(q->version, sizeof(q->version), "%d.%d.%d", major, minor,
				   micro)); /* fits */
}

static int take_line(struct qmp *q, const char *line, size_t n)
{
	auto_json *msg = json_loadb(line, n, 0, NULL);

	if (!json_is_object(msg))
		return -EBADMSG;
	if (json_is_string(json_object_get(msg, "event"))) {
		queue_event(q, msg);
		return 0;
	}
	if (json_object_get(msg, "return") != NULL || json_object_get(msg, "error") != NULL)
		return take_reply(q, msg);
	if (json_object_get(msg, "QMP") == NULL)
		return -EBADMSG;
	take_greeting(q, json_object_get(msg, "QMP"));
	return 0;
}

static bool is_blank(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != ' ' && p[i] != '\t' && p[i] != '\r')
			return false;
	return true;
}

static int take_lines(struct qmp *q)
{
	int r = 0;

	while (r == 0 && q->in.len > 0) {
		const char *line = buf_head(&q->in);
		const char *end = memchr(line, '\n', q->in.len);
		size_t n;

		if (end == NULL)
			break;
		n = (size_t)(end - line);
		if (!is_blank(line, n))
			r = take_line(q, line, n);
		buf_consume(&q->in, n + 1);
	}
	if (q->in.len == 0)
		buf_done(&q->in); /* mostly it waits for long, and there is one for each VM */
	return r;
}

int qmp_feed(struct qmp *q, const char *p, size_t n)
{
	while (n > 0 && q->broken == 0) {
		size_t part = MIN(n, QMP_READ_BYTES);
		int r = buf_append(&q->in, p, part);

		if (r == 0)
			r = take_lines(q);
		if (r < 0)
			return broke(q, r);
		p += part;
		n -= part;
	}
	return q->broken;
}

/* Reads what is there. Return: 0 (also when there is nothing); -errno when it broke. */
static int read_some(struct qmp *q)
{
	char chunk[QMP_READ_BYTES];
	ssize_t n;

	if (q->broken != 0)
		return q->broken;
	n = recv(q->fd, chunk, sizeof(chunk), 0);
	if (n > 0)
		return qmp_feed(q, chunk, (size_t)n);
	if (n == 0)
		return broke(q, -ECONNRESET);
	if (errno == EAGAIN || errno == EINTR)
		return 0;
	return broke(q, -errno);
}

/* Sends what the socket takes, with a descriptor beside it; -1 = none. */
static ssize_t send_some(struct qmp *q, const char *p, size_t n, int fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr head;
	} control = { .head = { .cmsg_level = SOL_SOCKET,
				.cmsg_type = SCM_RIGHTS,
				.cmsg_len = CMSG_LEN(sizeof(int)) } };
	struct iovec part = { .iov_base = (void *)(uintptr_t)p, .iov_len = n };
	struct msghdr msg = { .msg_iov = &part, .msg_iovlen = 1 };

	if (fd >= 0) {
		memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control.bytes);
	}
	return sendmsg(q->fd, &msg, MSG_NOSIGNAL);
}

static int send_all(struct qmp *q, const char *p, size_t n, int fd, struct op *op)
{
	while (n > 0) {
		ssize_t sent = send_some(q, p, n, fd);
		int r;

		if (sent >= 0) {
			p += sent;
			n -= (size_t)sent;
			fd = -1; /* it went with the first byte */
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return broke(q, -errno);
		r = op_wait_fd(op, q->fd, POLLOUT, -1);
		if (r < 0)
			return broke(q, r); /* half a command is out: no other can follow */
	}
	return 0;
}

static int explain(int r, const char *what, struct op *op)
{
	if (r == -ETIMEDOUT || r == -ECANCELED)
		return err_errno(&op->err, -r, "wait for QEMU to answer %s", what);
	if (r == -EBADMSG || r == -EMSGSIZE) {
		err_set(&op->err, ERR_VMM, "QEMU's answer to %s is no valid QMP", what);
		return r;
	}
	if (r == -ESHUTDOWN)
		err_set(&op->err, ERR_VMM,
			"QEMU ends (the guest powered off, rebooted or crashed) and does not "
			"answer %s",
			what);
	else
		err_set(&op->err, ERR_VMM, "QEMU closed its control connection during %s", what);
	return -ECONNRESET;
}

static int read_more(struct qmp *q, const struct op *op)
{
	int r = op_wait_fd(op, q->fd, POLLIN, -1);

	return r < 0 ? r : read_some(q);
}

static int refuse(const json_t *reply, const char *command, struct op *op)
{
	const json_t *error = json_object_get(reply, "error");
	const char *class = json_string_value(json_object_get(error, "class"));
	const char *desc = json_string_value(json_object_get(error, "desc"));

	return err_set(&op->err, ERR_VMM, "QEMU refused %s: %s (%s)", command,
		       desc != NULL ? desc : "no reason given", class != NULL ? class : "no class");
}

static int write_command(struct buf *out, const struct qmp_command *command, uint64_t id)
{
	auto_json *msg = json_object();
	cleanup(free_text) char *text = NULL;
	int r = json_object_set_new(msg, "execute", json_string(command->name));

	if (r == 0 && command->args != NULL)
		r = json_object_set_new(msg, "arguments", json_deep_copy(command->args));
	if (r == 0)
		r = json_object_set_new(msg, "id", json_integer((json_int_t)id));
	if (r == 0)
		text = json_dumps(msg, JSON_COMPACT);
	return text != NULL ? buf_printf(out, "%s\n", text) : -ENOMEM;
}

/* Whatever was awaited before is no more. @fd goes with the first one; -1 = none. */
static int send_commands(struct qmp *q, const struct qmp_command *commands, size_t n, int fd,
			 struct op *op)
{
	auto_buf lines = BUF_INIT(QMP_LINE_MAX);
	int r = q->broken;

	assert(n >= 1 && n <= QMP_COMMANDS_MAX);
	json_decref(take_ptr(&q->reply));
	json_decref(take_ptr(&q->refusal));
	q->n_names = n;
	q->n_awaited = n;
	for (size_t i = 0; i < n && r == 0; i++) {
		q->names[i] = commands[i].name;
		r = write_command(&lines, &commands[i], ++q->last_id);
	}
	if (r == 0)
		r = send_all(q, buf_head(&lines), lines.len, fd, op);
	if (r == 0)
		return 0;
	q->n_awaited = 0;
	return explain(r, commands[0].name, op);
}

int qmp_begin(struct qmp *q, const struct qmp_command *commands, size_t n, struct op *op)
{
	return send_commands(q, commands, n, -1, op);
}

int qmp_finish(struct qmp *q, struct op *op)
{
	while (q->n_awaited > 0) {
		int r = q->broken;

		if (r == 0)
			r = q->ending ? -ESHUTDOWN : read_more(q, op);
		if (r < 0)
			return explain(r, q->names[q->n_names - q->n_awaited], op);
	}
	return q->refusal != NULL ? refuse(q->refusal, q->refused, op) : 0;
}

static int execute(struct qmp *q, const struct qmp_command *command, int fd, json_t **out,
		   struct op *op)
{
	int r = send_commands(q, command, 1, fd, op);

	if (r == 0)
		r = qmp_finish(q, op);
	if (r == 0 && out != NULL)
		*out = json_incref(json_object_get(q->reply, "return"));
	return r;
}

int qmp_execute(struct qmp *q, const char *command, const json_t *args, json_t **out, struct op *op)
{
	return execute(q, &(struct qmp_command){ command, args }, -1, out, op);
}

int qmp_add_fd(struct qmp *q, int fd, uint64_t *out_set, struct op *op)
{
	auto_json *added = NULL;
	const json_t *set;
	int r = execute(q, &(struct qmp_command){ "add-fd", NULL }, fd, &added, op);

	if (r < 0)
		return r;
	set = json_object_get(added, "fdset-id");
	if (!json_is_integer(set))
		return err_set(&op->err, ERR_VMM, "QEMU's answer to add-fd names no set");
	*out_set = (uint64_t)json_integer_value(set);
	return 0;
}

int qmp_remove_fds(struct qmp *q, uint64_t set, struct op *op)
{
	auto_json *args = json_pack("{sI}", "fdset-id", (json_int_t)set);

	return qmp_execute(q, "remove-fd", args, NULL, op);
}

int qmp_handshake(struct qmp *q, struct op *op)
{
	while (!q->greeted) {
		int r = q->broken != 0 ? q->broken : read_more(q, op);

		if (r < 0)
			return explain(r, "the first contact", op);
	}
	return qmp_execute(q, "qmp_capabilities", NULL, NULL, op);
}

const char *qmp_version(const struct qmp *q)
{
	return q->version;
}

int qmp_event_fd(const struct qmp *q)
{
	return q->epoll_fd;
}

int qmp_await_event(struct qmp *q, json_t **out, struct op *op)
{
	int r;

	while ((r = qmp_next_event(q, out)) == 0) {
		r = op_wait_fd(op, q->epoll_fd, POLLIN, -1);
		if (r < 0)
			break;
	}
	return r < 0 ? explain(r, "what it was asked", op) : 0;
}

int qmp_next_event(struct qmp *q, json_t **out)
{
	int r = q->n_events == 0 ? read_some(q) : 0;

	if (q->n_events > 0) {
		*out = q->events[q->first];
		q->first = (q->first + 1) % QMP_EVENTS_MAX;
		q->n_events--;
		if (q->n_events == 0 && q->broken == 0)
			clear_queued(q);
		return 1;
	}
	if (r < 0)
		clear_queued(q);
	return r;
}
