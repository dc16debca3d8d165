/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/hooks.h"

#include "base/clock.h"
#include "base/hookwords.h"
#include "base/log.h"
#include "base/str.h"
#include "daemon/helper.h"
#include "daemon/hook-message.h"
#include "daemon/program.h"
#include "os/work.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	AT_ONCE_EACH = 4, /* posts of one webhook, and 1 while it fails */
	MORE_MAX = 14,   /* posts beside the first ones of their webhooks: these have room always */
	IDLE_MS = 30000, /* without anything to post, until viv-hook is ended */
	STUCK_MS = 60000,   /* no post takes so long: viv-hook is at fault */
	REST_MS = 10000,    /* when the store cannot be written */
	BACK_OFF_MS = 1000, /* before viv-hook is started again; doubled each time */
	BACK_OFF_MAX_MS = 60000,
	WELL_MS = 60000,   /* who lived that long starts from there again */
	STATUS_GONE = 410, /* the receiver wants no more */
};

static_assert((int)WEBHOOKS_MAX + MORE_MAX <= HOOK_POSTS_MAX, "the first of each has room");

/* A post under way. */
struct flight {
	uint64_t n; /* 0 = none */
	char webhook[WEBHOOK_ID_LEN + 1];
	struct sandbox_id sandbox;
	uint64_t event;
	unsigned tries; /* that failed before */
	uint64_t sent_ns;
};

struct hooks {
	uv_loop_t *loop;
	struct db *db;
	struct db_watch watch;
	struct instance_tag tag;
	char *program; /* owned */
	unsigned uid;
	bool any_address;
	uv_timer_t timer; /* the next time that there may be something to do */
	struct helper worker;
	uv_poll_t *control; /* of the worker; they are memory of their own, for libuv's close */
	uv_poll_t *exit;
	struct helper fresh;  /* what a start gave */
	struct err start_err; /* or why it gave none */
	uint64_t used_ns;     /* when the worker had something to do last */
	uint64_t rest_ns;     /* until when there is no start, or no use of the store */
	unsigned back_off_ms;
	struct flight flights[HOOK_POSTS_MAX];
	size_t n_flights;
	size_t n_more; /* those beside the first ones of their webhooks */
	uint64_t last_n;
	bool starting; /* a thread of the pool is at it */
	bool wanted;   /* something is due, and there is no worker */
	bool full;     /* the worker takes no more right now */
	bool closing;
	bool closed; /* the timer is */
};

static void hooks_free(struct hooks *h)
{
	if (!h->closed || h->starting)
		return;
	free(h->program);
	free(h);
}

static void on_timer(uv_timer_t *timer);

/* Has hooks_pump() called soon, on a turn of the loop of its own. */
static void pump_in(struct hooks *h, uint64_t ms)
{
	if (!h->closing)
		uv_timer_start(&h->timer, on_timer, ms, 0);
}

static struct flight *flight_find(struct hooks *h, uint64_t n)
{
	for (size_t i = 0; i < ARRAY_SIZE(h->flights); i++) {
		if (h->flights[i].n == n)
			return &h->flights[i];
	}
	return NULL;
}

static unsigned flights_of(const struct hooks *h, const char *webhook)
{
	unsigned n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(h->flights); i++)
		n += h->flights[i].n != 0 && streq(h->flights[i].webhook, webhook);
	return n;
}

static bool is_under_way(const struct hooks *h, const char *webhook, const char *sandbox)
{
	for (size_t i = 0; i < ARRAY_SIZE(h->flights); i++) {
		const struct flight *f = &h->flights[i];

		if (f->n != 0 && streq(f->webhook, webhook) && streq(f->sandbox.s, sandbox))
			return true;
	}
	return false;
}

static int disable(const struct db_webhook *w, void *arg)
{
	struct db_webhook off = *w;
	struct err e = { 0 };

	off.enabled = false;
	log_warning("hook.disabled", kv_str("webhook", w->id), kv_str("url", w->url),
		    kv_str("why", "it answered with status 410, Gone"));
	if (db_webhook_update(arg, &off, &e) < 0)
		log_error("hook.disable_failed", kv_str("webhook", w->id), kv_str("why", e.msg));
	return -ECANCELED; /* the walk has nothing more for us */
}

static void log_result(const struct flight *f, const char *error, uint64_t wait_ms)
{
	enum log_level level = f->tries == 0 ? LOG_LEVEL_WARNING : LOG_LEVEL_DEBUG;

	if (error[0] == '\0')
		log_debug("hook.delivered", kv_str("webhook", f->webhook),
			  kv_u64("event", f->event));
	else
		log_at(level, "hook.failed", kv_str("webhook", f->webhook),
		       kv_u64("event", f->event), kv_u64("tries", f->tries + 1),
		       kv_u64("again_in_ms", wait_ms), kv_str("why", error));
}

/* What came of a post, @error "" = it was delivered: written, and then it is under way no more. */
static void finish(struct hooks *h, struct flight *f, unsigned status, const char *error)
{
	struct db_delivery_result result = { .webhook = f->webhook,
					     .sandbox = f->sandbox.s,
					     .event = f->event,
					     .at_ms = clock_realtime_ms(),
					     .error = error };
	struct err e = { 0 };
	uint32_t chance = 0;
	uint64_t wait_ms = 0;

	if (error[0] != '\0') {
		ssize_t n = getrandom(&chance, sizeof(chance), 0);

		(void)n; /* without chance it is the shortest wait */
		wait_ms = hook_back_off_ms(f->tries + 1, chance);
		result.due_ms = result.at_ms + wait_ms;
	}
	log_result(f, error, wait_ms);
	if (db_delivery_done(h->db, &result, &e) < 0) {
		log_error("hook.write_failed", kv_str("webhook", f->webhook),
			  kv_u64("event", f->event), kv_str("why", e.msg));
		h->rest_ns = clock_now_ns() + (uint64_t)REST_MS * NS_PER_MS;
	}
	if (status == STATUS_GONE)
		ignore_err(db_webhook_each(h->db, f->webhook, disable, h->db, NULL)); /* logged */
	h->n_more -= flights_of(h, f->webhook) > 1;
	*f = (struct flight){ .n = 0 };
	h->n_flights--;
	h->used_ns = clock_now_ns();
}

static void worker_end(struct hooks *h)
{
	helper_unwatch(&h->control);
	helper_unwatch(&h->exit);
	helper_drop(&h->worker);
}

/* One event may be what it died of: all that were under way count as tried. */
static void worker_gone(struct hooks *h, const char *why)
{
	uint64_t lived_ms = (clock_now_ns() - h->worker.started_ns) / NS_PER_MS;

	worker_end(h);
	if (lived_ms >= WELL_MS)
		h->back_off_ms = BACK_OFF_MS;
	log_error("hook.worker_ended", kv_str("why", why), kv_u64("again_in_ms", h->back_off_ms));
	h->rest_ns = clock_now_ns() + (uint64_t)h->back_off_ms * NS_PER_MS;
	h->back_off_ms = MIN(2 * h->back_off_ms, BACK_OFF_MAX_MS);
	for (size_t i = 0; i < ARRAY_SIZE(h->flights); i++) {
		if (h->flights[i].n != 0)
			finish(h, &h->flights[i], 0, "viv-hook ended");
	}
	pump_in(h, 0);
}

/* Return: 1 there may be more; 0 not now; -errno it is gone or talks nonsense. */
static int take_result(struct hooks *h)
{
	char text[HOOK_RESULT_MAX];
	ssize_t n = recv(h->worker.control, text, sizeof(text), MSG_DONTWAIT | MSG_TRUNC);
	struct hook_result result;
	struct flight *f;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0)
		return -EPIPE;
	if ((size_t)n > sizeof(text) || hook_result_parse(text, (size_t)n, &result) < 0)
		return -EBADMSG;
	f = result.n != 0 ? flight_find(h, result.n) : NULL;
	if (f == NULL)
		return -EBADMSG;
	finish(h, f, result.status, result.error);
	return 1;
}

static void on_control(uv_poll_t *handle, int status, int events)
{
	struct hooks *h = handle->data;
	int r = status < 0 ? status : 1;

	(void)events;
	while (r > 0)
		r = take_result(h);
	h->full = false;
	if (r < 0)
		worker_gone(h, r == -EBADMSG ? "it talks nonsense" : "viv-hook ended");
	else
		pump_in(h, 0);
}

static void on_exit_of_worker(uv_poll_t *handle, int status, int events)
{
	(void)status;
	(void)events;
	worker_gone(handle->data, "viv-hook was killed or failed");
}

static void start_work(void *arg)
{
	struct hooks *h = arg;
	const char *argv[] = { h->program, "serve", NULL };

	ignore_err(helper_start(argv, h->uid, &h->fresh, &h->start_err)); /* start_done() looks */
}

static void worker_up(struct hooks *h)
{
	int r;

	h->worker = h->fresh;
	h->fresh = (struct helper)HELPER_INIT;
	r = helper_watch(h->loop, h->worker.control, on_control, h, &h->control);
	if (r == 0)
		r = helper_watch(h->loop, h->worker.process.pidfd, on_exit_of_worker, h, &h->exit);
	if (r < 0) {
		worker_gone(h, "vivd cannot watch it: out of memory or of epoll watches");
		return;
	}
	log_debug("hook.worker_started", kv_u64("pid", (uint64_t)h->worker.process.pid));
	h->used_ns = clock_now_ns();
	h->full = false;
	pump_in(h, 0);
}

static void start_done(void *arg)
{
	struct hooks *h = arg;

	h->starting = false;
	if (h->closing) {
		helper_drop(&h->fresh);
		hooks_free(h);
		return;
	}
	if (h->fresh.process.pid != 0) {
		worker_up(h);
		return;
	}
	log_error("hook.start_failed", kv_str("why", h->start_err.msg),
		  kv_u64("again_in_ms", h->back_off_ms));
	h->rest_ns = clock_now_ns() + (uint64_t)h->back_off_ms * NS_PER_MS;
	h->back_off_ms = MIN(2 * h->back_off_ms, BACK_OFF_MAX_MS);
	pump_in(h, 0);
}

static void worker_start(struct hooks *h)
{
	h->starting = true;
	h->start_err = (struct err){ 0 };
	work_submit(h->loop, start_work, start_done, h);
}

/* What hooks_pump() knows of the webhook that it is at. */
struct pump {
	struct hooks *h;
	const struct db_webhook *webhook;
	unsigned under_way;
	unsigned most; /* that may be */
};

/* Return: 0; -EAGAIN not now; -errno: it cannot be posted. */
static int send_delivery(struct pump *p, const struct db_delivery *d, uint64_t n)
{
	struct db_event_facts facts = { 0 };
	struct hook_delivery delivery = { .n = n,
					  .webhook = p->webhook,
					  .event = &d->event,
					  .facts = &facts,
					  .tag = p->h->tag.s,
					  .now_ms = clock_realtime_ms(),
					  .any_address = p->h->any_address };
	auto_free char *body = NULL;
	auto_free char *text = NULL;
	auto_json *message = NULL;

	if (db_event_facts(p->h->db, d->event.sandbox, d->event.id, &facts, NULL) < 0)
		return -EIO;
	body = hook_body(&delivery);
	db_event_facts_done(&facts);
	message = body != NULL ? hook_message(&delivery, body) : NULL;
	text = message != NULL ? json_dumps(message, JSON_COMPACT) : NULL;
	if (text == NULL)
		return -ENOMEM;
	if (strlen(text) > HOOK_MESSAGE_MAX)
		return -EMSGSIZE;
	if (send(p->h->worker.control, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return -errno;
	return 0;
}

static int post(const struct db_delivery *d, void *arg)
{
	struct pump *p = arg;
	struct hooks *h = p->h;
	struct flight *f = flight_find(h, 0);
	int r;

	if (is_under_way(h, p->webhook->id, d->event.sandbox))
		return 0;
	if (h->worker.process.pid == 0) {
		h->wanted = true;
		return -ECANCELED;
	}
	if (f == NULL || p->under_way >= p->most || (p->under_way > 0 && h->n_more >= MORE_MAX))
		return -ECANCELED;
	r = send_delivery(p, d, h->last_n + 1);
	if (r < 0) { /* a result, the end of viv-hook or the timer leads here again */
		h->full = true;
		return -ECANCELED;
	}
	*f = (struct flight){
		.n = ++h->last_n, .event = d->event.id, .tries = d->tries, .sent_ns = clock_now_ns()
	};
	str_copy(f->webhook, sizeof(f->webhook), p->webhook->id);
	str_copy(f->sandbox.s, sizeof(f->sandbox.s), d->event.sandbox);
	h->n_flights++;
	h->n_more += p->under_way > 0;
	p->under_way++;
	h->used_ns = f->sent_ns;
	return 0;
}

static int pump_webhook(const struct db_webhook *w, void *arg)
{
	struct hooks *h = arg;
	struct pump p = { .h = h,
			  .webhook = w,
			  .under_way = flights_of(h, w->id),
			  .most = w->failed_ms > w->delivered_ms ? 1 : AT_ONCE_EACH };
	struct db_due due = { .webhook = w->id, .now_ms = clock_realtime_ms() };
	int r;

	if (!w->enabled || h->wanted || h->full || h->n_flights >= HOOK_POSTS_MAX)
		return 0;
	/* Those that are under way are due as well, and come first. */
	due.limit = p.most + p.under_way;
	r = db_delivery_each(h->db, &due, post, &p, NULL);
	return r == -ECANCELED ? 0 : r;
}

static bool is_stuck(const struct hooks *h)
{
	uint64_t now = clock_now_ns();

	for (size_t i = 0; i < ARRAY_SIZE(h->flights); i++) {
		const struct flight *f = &h->flights[i];

		if (f->n != 0 && now - f->sent_ns > (uint64_t)STUCK_MS * NS_PER_MS)
			return true;
	}
	return false;
}

/* Until when nothing happens by itself; 0 = for ever. */
static uint64_t next_ms(struct hooks *h)
{
	uint64_t now = clock_realtime_ms();
	uint64_t due = 0;
	uint64_t wait = h->worker.process.pid != 0 ? (uint64_t)IDLE_MS : 0;

	if (h->full)
		return MS_PER_S;
	if (db_delivery_next(h->db, now, &due, NULL) < 0)
		return REST_MS;
	if (due > now && (wait == 0 || due - now < wait))
		wait = due - now;
	return wait;
}

static void hooks_pump(struct hooks *h)
{
	uint64_t now = clock_now_ns();
	uint64_t wait;

	if (h->rest_ns > now) {
		pump_in(h, (h->rest_ns - now) / NS_PER_MS + 1);
		return;
	}
	if (is_stuck(h)) {
		worker_gone(h, "it does not answer");
		return;
	}
	h->wanted = false;
	h->full = false;
	if (db_webhook_each(h->db, NULL, pump_webhook, h, NULL) < 0)
		h->full = true; /* looked at again soon */
	if (h->wanted && !h->starting)
		worker_start(h);
	if (h->worker.process.pid != 0 && h->n_flights == 0 && !h->full &&
	    now - h->used_ns >= (uint64_t)IDLE_MS * NS_PER_MS)
		worker_end(h);
	wait = next_ms(h);
	if (wait > 0)
		pump_in(h, wait);
}

static void on_timer(uv_timer_t *timer)
{
	hooks_pump(timer->data);
}

static void on_change(void *arg)
{
	pump_in(arg, 0);
}

static void timer_closed(uv_handle_t *handle)
{
	struct hooks *h = handle->data;

	h->closed = true;
	hooks_free(h);
}

bool hooks_possible(void)
{
	auto_free char *program = program_find("viv-hook");

	return access(program, X_OK) == 0;
}

int hooks_open(uv_loop_t *loop, struct db *db, const struct hooks_spec *spec, struct hooks **out,
	       struct err *e)
{
	struct db_instance instance;
	struct hooks *h;
	int r = db_instance_get(db, &instance, e);

	if (r == 0)
		r = db_delivery_hurry(db, e);
	if (r < 0)
		return r;
	h = xcalloc(1, sizeof(*h));
	*h = (struct hooks){ .loop = loop,
			     .db = db,
			     .tag = instance.tag,
			     .program = program_find("viv-hook"),
			     .uid = spec->uid,
			     .any_address = spec->any_address,
			     .worker = HELPER_INIT,
			     .fresh = HELPER_INIT,
			     .back_off_ms = BACK_OFF_MS };
	uv_timer_init(loop, &h->timer);
	h->timer.data = h;
	h->watch = (struct db_watch){ .what = DB_WATCH_EVENTS | DB_WATCH_WEBHOOKS,
				      .fn = on_change,
				      .arg = h };
	db_watch_add(db, &h->watch);
	pump_in(h, 0);
	*out = h;
	return 0;
}

void hooks_close(struct hooks *h)
{
	if (h == NULL)
		return;
	h->closing = true;
	db_watch_remove(h->db, &h->watch);
	worker_end(h);
	uv_close((uv_handle_t *)&h->timer, timer_closed);
}
