/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A watcher belongs either to a stream (WatchDir), with which it ends, or to
 * the agent's list, where clients ask for its events by id (CreateWatcher …) until they remove it.
 *
 * The watch itself is used by jobs on the pool only, one at a time ("busy"): first to make it, then
 * each time its descriptor is readable to collect what happened. Between jobs the loop waits for
 * the descriptor, unless the client of a stream is behind: then the kernel's queue fills, and its
 * overflow ends the stream. The events of a watcher that nobody asks for are kept up to a bound,
 * and then it fails; either way a client learns that changes were lost.
 *
 * Whoever loses a watcher while it is busy marks it as an orphan, and the end of the job frees it.
 */
#include "agent/fs.h"

#include "agent/agent.h"
#include "agent/caller.h"
#include "agent/entry.h"
#include "agent/field.h"
#include "agent/fs-internal.h"
#include "agent/handle.h"
#include "agent/text.h"
#include "agent/watch.h"
#include "base/id.h"
#include "base/str.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/vfs.h>

enum {
	WATCHERS_MAX = 64,    /* without a stream */
	EVENTS_MAX = 4 << 20, /* bytes that are kept, or collected at once */
	WATCHER_ID_DIGITS = 16,
};

struct watcher {
	struct watcher *next;
	struct agent *agent;
	struct job job;
	bool busy;
	bool orphan; /* nobody has it: to be freed when it is not busy */
	bool listed;
	bool again; /* events were asked for while a job was at it */
	char id[WATCHER_ID_DIGITS + 2];
	struct connect_call *call;  /* of the stream, of CreateWatcher; NULL = answered or gone */
	struct connect_call *asker; /* who waits for events; NULL = nobody */
	char path[PATH_MAX];
	bool recursive;
	bool with_entry;
	bool network_too;
	struct watch *watch;
	uv_poll_t *poll;
	struct owners owners; /* for one collection */
	struct buf found;     /* events of the last job: JSON texts, each with a NUL */
	struct buf kept;      /* events for whoever asks, in the same form */
	struct connect_error error;
};

static const char *const event_names[] = {
	[WATCH_CREATE] = "EVENT_TYPE_CREATE", [WATCH_WRITE] = "EVENT_TYPE_WRITE",
	[WATCH_REMOVE] = "EVENT_TYPE_REMOVE", [WATCH_RENAME] = "EVENT_TYPE_RENAME",
	[WATCH_CHMOD] = "EVENT_TYPE_CHMOD",
};
static_assert(ARRAY_SIZE(event_names) == WATCH_EVENT_N, "each event has a name");

static void watcher_free(struct watcher *w)
{
	handle_poll_free(&w->poll);
	watch_free(w->watch);
	buf_done(&w->found);
	buf_done(&w->kept);
	free(w);
}

static void abandon(struct watcher *w)
{
	w->orphan = true;
	if (!w->busy)
		watcher_free(w);
}

/* On the pool. */

static bool is_network(const char *path)
{
	static const uint32_t types[] = { NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, CIFS_SUPER_MAGIC,
					  SMB2_SUPER_MAGIC, FUSE_SUPER_MAGIC };
	struct statfs st;

	if (statfs(path, &st) < 0)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if ((uint32_t)st.f_type == types[i])
			return true;
	return false;
}

static void run_open(struct job *job)
{
	struct watcher *w = container_of(job, struct watcher, job);

	if (!w->network_too && is_network(w->path))
		ignore_err(connect_error_set(
			&w->error, CONNECT_INVALID_ARGUMENT,
			"cannot watch '%.400s': it is on a network file system", w->path));
	else
		ignore_err(watch_open(w->path, w->recursive, &w->watch, &w->error));
	/* The error is looked at when the job is done. */
}

/* What the file is now; none for one that is not there under this name any more. */
static json_t *event_entry(struct watcher *w, enum watch_event event, const char *name)
{
	char path[PATH_MAX];
	json_t *entry = NULL;

	if (!w->with_entry || event == WATCH_REMOVE || event == WATCH_RENAME)
		return NULL;
	if (str_fit(path, sizeof(path), "%s%s%s", streq(w->path, "/") ? "" : w->path,
		    streq(name, ".") ? "" : "/", streq(name, ".") ? "" : name) < 0 ||
	    entry_json(path, &w->owners, &entry) < 0)
		return NULL;
	return entry;
}

static int on_event(enum watch_event event, const char *name, void *arg)
{
	struct watcher *w = arg;
	json_t *json = json_pack("{s:o, s:s}", "name", text_json(name), "type", event_names[event]);
	json_t *entry = event_entry(w, event, name);

	if (entry != NULL)
		ignore_err(json_object_set_new(json, "entry", entry));
	if (fs_json_append(&w->found, json) < 0 || buf_append(&w->found, "", 1) < 0)
		return connect_error_set(&w->error, CONNECT_DATA_LOSS,
					 "more changes at once than could be kept: some were lost");
	return 0;
}

static void run_collect(struct job *job)
{
	struct watcher *w = container_of(job, struct watcher, job);

	ignore_err(watch_read(w->watch, on_event, w, &w->error)); /* looked at when it is done */
	owners_done(&w->owners);
}

/* On the loop. */

static void start(struct watcher *w, void (*run)(struct job *job), void (*done)(struct job *job))
{
	w->busy = true;
	job_start(&w->agent->loop, &w->job, run, done);
}

static void on_collected(struct job *job);

static void collect(struct watcher *w)
{
	ignore_err(uv_poll_stop(w->poll)); /* cannot fail */
	start(w, run_collect, on_collected);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	(void)status; /* reading tells it better */
	(void)events;
	collect(poll->data);
}

/* Waits for what happens next. */
static void await(struct watcher *w)
{
	int r = uv_poll_start(w->poll, UV_READABLE, on_readable);

	assert(r == 0); /* the handle is open and its descriptor ours */
}

/* Sends what was found; the client may leave at any of it. */
static void send_found(struct watcher *w)
{
	auto_buf message = BUF_INIT(EVENTS_MAX + 64);
	const char *text = buf_str(&w->found);
	const char *end = text + w->found.len;

	for (; text < end && w->call != NULL; text += strlen(text) + 1) {
		buf_clear(&message);
		if (buf_printf(&message, "{\"filesystem\":%s}", text) == 0)
			connect_send(w->call, buf_head(&message), message.len);
		else
			connect_abort(take_ptr(&w->call));
	}
	buf_done(&w->found);
}

static void stream_go_on(struct watcher *w)
{
	if (w->call == NULL || w->error.code != CONNECT_OK) {
		struct connect_call *c = take_ptr(&w->call);

		if (c != NULL)
			connect_fail(c, &w->error);
		watcher_free(w);
	} else if (!connect_blocked(w->call)) {
		await(w);
	}
}

/* A watcher that has failed needs its resources no more; what it has found is still asked for. */
static void retire(struct watcher *w)
{
	handle_poll_free(&w->poll);
	watch_free(take_ptr(&w->watch));
}

static void keep_found(struct watcher *w)
{
	if (buf_append(&w->kept, buf_str(&w->found), w->found.len) < 0)
		ignore_err(connect_error_set(&w->error, CONNECT_DATA_LOSS,
					     "more changes than are kept for a watcher that is not "
					     "asked: some were lost"));
	buf_done(&w->found);
}

/* The events that were kept, as a reply; when there are none, the error that ended the watch. */
static void answer(struct watcher *w, struct connect_call *c)
{
	static const char head[] = "{\"events\":[";
	auto_buf reply = BUF_INIT(EVENTS_MAX + 64);

	if (w->error.code != CONNECT_OK && w->kept.len == 0) {
		connect_fail(c, &w->error);
		return;
	}
	for (char *p = buf_head(&w->kept), *end = p + w->kept.len; p < end; p++)
		if (*p == '\0')
			*p = ',';
	if (w->kept.len > 0)
		w->kept.len--; /* the last comma */
	if (buf_puts(&reply, head) < 0 || buf_append(&reply, buf_head(&w->kept), w->kept.len) < 0 ||
	    buf_puts(&reply, "]}") < 0)
		connect_failf(c, CONNECT_RESOURCE_EXHAUSTED, "out of memory");
	else
		connect_reply_text(c, buf_str(&reply), reply.len);
	buf_done(&w->kept);
}

static void list_go_on(struct watcher *w)
{
	struct connect_call *asker;

	keep_found(w);
	if (w->again && w->asker != NULL && w->error.code == CONNECT_OK) {
		w->again = false;
		collect(w);
		return;
	}
	asker = take_ptr(&w->asker);
	if (asker != NULL)
		answer(w, asker);
	if (w->error.code == CONNECT_OK)
		await(w);
	else
		retire(w);
}

static void on_collected(struct job *job)
{
	struct watcher *w = container_of(job, struct watcher, job);

	/* Still busy while sending, so that a client that leaves frees nothing under us. */
	if (!w->orphan && !w->listed)
		send_found(w);
	w->busy = false;
	if (w->orphan)
		watcher_free(w);
	else if (w->listed)
		list_go_on(w);
	else
		stream_go_on(w);
}

static void on_stream_drain(void *arg)
{
	struct watcher *w = arg;

	if (!w->busy && w->poll != NULL)
		await(w);
}

static void on_stream_gone(void *arg)
{
	struct watcher *w = arg;

	w->call = NULL;
	abandon(w);
}

static const struct connect_events stream_events = {
	.on_drain = on_stream_drain,
	.on_gone = on_stream_gone,
};

/* The watch is made, or not. Return: 0; -EPROTO with the error set. */
static int opened(struct watcher *w)
{
	int r;

	if (w->error.code != CONNECT_OK)
		return -EPROTO;
	r = handle_poll_new(&w->agent->loop, watch_fd(w->watch), w, &w->poll);
	if (r < 0)
		return connect_error_set(&w->error, CONNECT_INTERNAL, "watch '%.400s': %s", w->path,
					 strerror(-r));
	return 0;
}

static void on_stream_opened(struct job *job)
{
	static const char text[] = "{\"start\":{}}";
	struct watcher *w = container_of(job, struct watcher, job);

	if (!w->orphan && opened(w) == 0)
		connect_send(w->call, text, strlen(text));
	w->busy = false;
	if (w->orphan)
		watcher_free(w);
	else
		stream_go_on(w);
}

static void on_list_opened(struct job *job)
{
	struct watcher *w = container_of(job, struct watcher, job);
	struct connect_call *c = take_ptr(&w->call);

	w->busy = false;
	if (w->orphan) {
		watcher_free(w);
		return;
	}
	if (opened(w) < 0) {
		connect_fail(c, &w->error);
		watcher_free(w);
		return;
	}
	w->id[0] = 'w';
	random_hex(w->id + 1, WATCHER_ID_DIGITS);
	w->listed = true;
	w->next = w->agent->watchers;
	w->agent->watchers = w;
	await(w);
	connect_reply(c, json_pack("{s:s}", "watcherId", w->id));
}

static int read_request(struct watcher *w, const json_t *request, struct connect_error *e)
{
	cleanup(user_done) struct user user = { 0 };
	const char *path = "";

	if (caller_of_call(w->agent, w->call, &user, e) < 0 ||
	    field_string(request, "path", &path, e) < 0 ||
	    field_bool(request, "recursive", &w->recursive, e) < 0 ||
	    field_bool(request, "includeEntry", &w->with_entry, e) < 0 ||
	    field_bool(request, "allowNetworkMounts", &w->network_too, e) < 0)
		return -EPROTO;
	return caller_path(w->agent, &user, path, w->path, e);
}

static void make(struct agent *a, struct connect_call *c, const json_t *request,
		 void (*opened_fn)(struct job *job))
{
	struct watcher *w = xcalloc(1, sizeof(*w));
	struct connect_error e = { 0 };

	w->agent = a;
	w->call = c;
	buf_init(&w->found, EVENTS_MAX);
	buf_init(&w->kept, EVENTS_MAX);
	if (read_request(w, request, &e) < 0) {
		connect_fail(c, &e);
		watcher_free(w);
		return;
	}
	connect_bind(c, &stream_events, w);
	start(w, run_open, opened_fn);
}

void fs_watch_dir(struct agent *a, struct connect_call *c, const json_t *request)
{
	make(a, c, request, on_stream_opened);
}

void fs_create_watcher(struct agent *a, struct connect_call *c, const json_t *request)
{
	unsigned n = 0;

	for (const struct watcher *w = a->watchers; w != NULL; w = w->next)
		n++;
	if (n >= WATCHERS_MAX)
		connect_failf(c, CONNECT_RESOURCE_EXHAUSTED,
			      "there are %d watchers already: remove some", WATCHERS_MAX);
	else
		make(a, c, request, on_list_opened);
}

/* Where the list has the watcher that a request names; NULL with the error set. */
static struct watcher **find(struct agent *a, const json_t *request, struct connect_error *e)
{
	const char *id = "";

	if (field_string(request, "watcherId", &id, e) < 0)
		return NULL;
	for (struct watcher **at = &a->watchers; *at != NULL; at = &(*at)->next)
		if (streq((*at)->id, id))
			return at;
	ignore_err(connect_error_set(e, CONNECT_NOT_FOUND, "watcher '%.64s' not found", id));
	return NULL;
}

static void on_asker_gone(void *arg)
{
	struct watcher *w = arg;

	w->asker = NULL;
}

static const struct connect_events asker_events = { .on_gone = on_asker_gone };

void fs_get_watcher_events(struct agent *a, struct connect_call *c, const json_t *request)
{
	struct connect_error e = { 0 };
	struct watcher **at = find(a, request, &e);
	struct watcher *w = at != NULL ? *at : NULL;

	if (w == NULL) {
		connect_fail(c, &e);
	} else if (w->error.code != CONNECT_OK || w->asker != NULL) {
		answer(w, c);
	} else {
		/* What happened up to now is to be in it. */
		w->asker = c;
		connect_bind(c, &asker_events, w);
		w->again = w->busy;
		if (!w->busy)
			collect(w);
	}
}

/* Takes a watcher out of the list and ends it. */
static void end(struct watcher **at)
{
	struct watcher *w = *at;
	struct connect_call *asker = take_ptr(&w->asker);

	*at = w->next;
	if (asker != NULL)
		connect_failf(asker, CONNECT_NOT_FOUND, "watcher '%s' was removed", w->id);
	abandon(w);
}

void fs_remove_watcher(struct agent *a, struct connect_call *c, const json_t *request)
{
	struct connect_error e = { 0 };
	struct watcher **at = find(a, request, &e);

	if (at == NULL) {
		connect_fail(c, &e);
		return;
	}
	end(at);
	connect_reply(c, json_object());
}

void fs_stop(struct agent *a)
{
	while (a->watchers != NULL)
		end(&a->watchers);
}
