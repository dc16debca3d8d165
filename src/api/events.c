/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /events (after, limit, sandbox): what befell sandboxes, as a list, or, for who accepts
 * text/event-stream, as server-sent events, which go on: those after an id (Last-Event-ID, as a
 * browser sends it when it comes back, or the parameter), or without one only what is new.
 *
 * Theory of operation. Each client has a place in the one order that the store keeps, and is sent
 * what is behind it until there is no more or the client is behind; the store's word that there is
 * something new wakes all of them. So nothing is queued for anybody, nothing is lost on the way,
 * and a client that was away goes on where it was, whatever was restarted meanwhile.
 */
#include "api/events.h"
#include "api/query.h"
#include "base/parse.h"
#include "base/str.h"
#include "store/events.h"

#include <errno.h>
#include <stdlib.h>

enum {
	LIMIT_USUAL = 100,
	LIMIT_MAX = 1000,
	BATCH = 64,          /* events that are read at once */
	FOLLOWERS_MAX = 128, /* each may leave some of its output with us */
	SILENCE_MS = 15000,  /* after it something is said, so that who is gone is noticed */
	EVENT_MAX_BYTES = 65536,
};

/* One client. */
struct follower {
	struct follower *next;
	struct api *api;
	struct http_exchange *x;
	uv_timer_t *timer;
	uint64_t after;  /* the last event that it was sent, or does not want */
	char *sandbox;   /* owned; NULL = all */
	bool fed;        /* something was sent since the timer was set */
	struct buf text; /* of one event */
};

struct event_feed {
	struct db *db;
	struct db_watch watch;
	struct follower *followers;
	size_t n;
};

/* What a request asks for. */
struct wish {
	uint64_t after;
	bool placed; /* it says after what */
	uint64_t limit;
	char *sandbox; /* owned; NULL = all */
};

static void wish_done(struct wish *w)
{
	free(w->sandbox);
}

static json_t *json_of_event(const struct db_event *event)
{
	json_t *o = json_pack("{s:I, s:s, s:o, s:s, s:s}", "id", (json_int_t)event->id, "type",
			      event->type, "timestamp", json_of_time(event->at_ms), "sandboxID",
			      event->sandbox, "templateID", event->template_name);

	/* Without memory one of these is missing; they only inform. */
	if (event->name[0] != '\0')
		ignore_err(json_object_set_new(o, "name", json_string(event->name)));
	if (event->cause[0] != '\0')
		ignore_err(json_object_set_new(o, "cause", json_string(event->cause)));
	if (event->error[0] != '\0')
		ignore_err(json_object_set_new(o, "error", json_of_text(event->error)));
	if (event->generation > 0)
		ignore_err(json_object_set_new(o, "generation",
					       json_integer((json_int_t)event->generation)));
	return o;
}

static void on_closed(uv_handle_t *handle)
{
	free(handle);
}

static void follower_free(struct follower *f)
{
	struct event_feed *feed = f->api->events;
	struct follower **at = &feed->followers;

	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	feed->n--;
	uv_close((uv_handle_t *)f->timer, on_closed);
	buf_done(&f->text);
	free(f->sandbox);
	free(f);
}

static int add_event(const struct db_event *event, void *arg)
{
	struct follower *f = arg;
	auto_json *o = json_of_event(event);
	auto_free char *json = o != NULL ? json_dumps(o, JSON_COMPACT) : NULL;

	if (json == NULL || buf_printf(&f->text, "id: %ju\nevent: %s\ndata: %s\n\n",
				       (uintmax_t)event->id, event->type, json) < 0)
		return -ENOMEM;
	f->after = event->id;
	return 0;
}

/* Sends what is behind the client's place, unless it is behind itself: then on_drain goes on.
 * Return: 0; -errno: it was cut off, and @f is gone. */
static int feed_one(struct follower *f)
{
	while (!http_reply_blocked(f->x)) {
		const struct db_event_query q = { f->after, BATCH, f->sandbox };
		struct err e = { 0 };
		uint64_t before = f->after;
		int r;

		buf_clear(&f->text);
		r = db_event_each(f->api->events->db, &q, add_event, f, &e);
		/* A full buffer ends a batch; what does not fit into an empty one never will. */
		if (r < 0 && (r != -ENOMEM || f->after == before)) {
			http_exchange_abort(f->x);
			return r;
		}
		if (f->after == before)
			return 0;
		f->fed = true;
		http_reply_write(f->x, buf_head(&f->text), f->text.len);
	}
	return 0;
}

static void on_timer(uv_timer_t *timer);

/* Has the client looked after soon, or when it was silent for long. */
static void look_after(struct follower *f, uint64_t ms)
{
	ignore_err(uv_timer_start(f->timer, on_timer, ms, 0)); /* the handle is not closing */
}

static void on_timer(uv_timer_t *timer)
{
	struct follower *f = timer->data;

	if (feed_one(f) < 0)
		return;
	if (!f->fed && !http_reply_blocked(f->x))
		http_reply_write(f->x, ":\n\n", 3);
	f->fed = false;
	look_after(f, SILENCE_MS);
}

/* The store is not to be used within: each is fed from its timer. */
static void on_event(void *arg)
{
	const struct event_feed *feed = arg;

	for (struct follower *f = feed->followers; f != NULL; f = f->next) {
		f->fed = true; /* nothing has to be said if none of it is for it */
		look_after(f, 0);
	}
}

static void on_drain(struct http_exchange *x, void *arg)
{
	(void)x;
	look_after(arg, 0);
}

static void on_close(struct http_exchange *x, bool complete, void *arg)
{
	(void)x;
	(void)complete;
	follower_free(arg);
}

static void follow(struct api *api, struct http_exchange *x, struct wish *w)
{
	static const struct http_exchange_events events = { .on_drain = on_drain,
							    .on_close = on_close };
	static const struct http_field fields[] = { { "Content-Type", "text/event-stream" },
						    { "Cache-Control", "no-store" },
						    { NULL, NULL } };
	struct event_feed *feed = api->events;
	struct follower *f = xcalloc(1, sizeof(*f));

	*f = (struct follower){ .next = feed->followers,
				.api = api,
				.x = x,
				.timer = xcalloc(1, sizeof(*f->timer)),
				.after = w->after,
				.sandbox = take_ptr(&w->sandbox),
				.text = BUF_INIT(EVENT_MAX_BYTES) };
	feed->followers = f;
	feed->n++;
	uv_timer_init(manager_uv_loop(api->m), f->timer);
	f->timer->data = f;
	http_exchange_bind(x, &events, f);
	reply_start(x, 200, fields);
	look_after(f, 0);
}

static int append(const struct db_event *event, void *list)
{
	return json_array_append_new(list, json_of_event(event));
}

static void reply_list(struct api *api, struct http_exchange *x, const struct wish *w)
{
	const struct db_event_query q = { w->after, w->limit, w->sandbox };
	auto_json *list = json_array();
	struct err e = { 0 };

	if (db_event_each(api->events->db, &q, append, list, &e) < 0) {
		err_set(&e, ERR_INTERNAL, "no memory for the list of events");
		reply_error(x, &e);
		return;
	}
	reply_json(x, 200, NULL, json_incref(list));
}

static bool wants_stream(const struct http_head *head)
{
	const char *accept = http_head_get(head, "Accept");

	return accept != NULL && strstr(accept, "text/event-stream") != NULL;
}

/* The sandbox by its name or id; one that is gone still has events, by its id. */
static int find_sandbox(const struct api *api, struct wish *w, struct err *e)
{
	const struct sandbox *sb;
	struct sandbox_id id;

	if (w->sandbox == NULL || id_parse(w->sandbox, &id) == 0)
		return 0;
	sb = manager_find(api->m, w->sandbox, e);
	if (sb == NULL)
		return -ENOENT;
	free(w->sandbox);
	w->sandbox = str_dup(sandbox_row(sb)->id.s);
	return 0;
}

static int read_wish(const struct api *api, const struct http_head *head, struct wish *w,
		     struct err *e)
{
	const char *last = http_head_get(head, "Last-Event-ID");
	int r = query_u64(head->query, "after", 0, INT64_MAX, &w->after, e);

	w->limit = LIMIT_USUAL;
	w->placed = r > 0;
	if (r >= 0)
		r = query_u64(head->query, "limit", 1, LIMIT_MAX, &w->limit, e);
	if (r >= 0)
		r = query_text(head->query, "sandbox", &w->sandbox, e);
	if (r >= 0)
		r = find_sandbox(api, w, e);
	if (r < 0 || last == NULL)
		return r;
	w->placed = true;
	return parse_u64(last, 0, INT64_MAX, &w->after) < 0
		       ? err_set(e, ERR_INVALID, "header Last-Event-ID must be the id of an event")
		       : 0;
}

void events_get(struct http_exchange *x, const struct route_params *p, void *arg)
{
	cleanup(wish_done) struct wish w = { .sandbox = NULL };
	const struct http_head *head = http_exchange_head(x);
	struct api *api = arg;
	struct err e = { 0 };
	bool stream = wants_stream(head);
	int r = read_wish(api, head, &w, &e);

	(void)p;
	if (r >= 0 && stream && api->events->n >= FOLLOWERS_MAX)
		r = err_set(&e, ERR_LIMITED, "%d clients follow events already", FOLLOWERS_MAX);
	if (r >= 0 && stream && !w.placed)
		r = db_event_last(api->events->db, &w.after, &e);
	if (r < 0)
		reply_error(x, &e);
	else if (stream)
		follow(api, x, &w);
	else
		reply_list(api, x, &w);
}

struct event_feed *event_feed_new(struct manager *m)
{
	struct event_feed *feed = xcalloc(1, sizeof(*feed));

	feed->db = manager_store(m);
	feed->watch = (struct db_watch){ .what = DB_WATCH_EVENTS, .fn = on_event, .arg = feed };
	db_watch_add(feed->db, &feed->watch);
	return feed;
}

void event_feed_free(struct event_feed *feed)
{
	if (feed == NULL)
		return;
	assert(feed->followers == NULL);
	free(feed);
}
