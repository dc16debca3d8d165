/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The streams of one destination, cut or drained together. A drain is over when no stream needs its
 * upstream any more: whatever ends a stream, or its upstream's part in it, looks whether it is.
 */
#include "http/proxy-internal.h"

#include "base/clock.h"

#include <errno.h>

static bool needs_upstream(const struct proxy_conn *p)
{
	return p->state != PROXY_ENDING && p->state != PROXY_OVER;
}

bool proxy_end_in_sight(const struct proxy_conn *p)
{
	return p->state <= PROXY_HEAD ||
	       (p->state == PROXY_BODY &&
		(p->body.kind == HTTP_BODY_LENGTH || p->body.kind == HTTP_BODY_NONE));
}

void proxy_group_check(struct proxy_group *g)
{
	void (*on_drained)(void *arg) = g->on_drained;

	if (on_drained == NULL)
		return;
	for (const struct proxy_conn *p = g->first; p != NULL; p = p->next) {
		if (needs_upstream(p))
			return;
	}
	g->on_drained = NULL;
	on_drained(g->on_drained_arg);
}

void proxy_group_remove(struct proxy_conn *p)
{
	if (p->link == NULL)
		return;
	*p->link = p->next;
	if (p->next != NULL)
		p->next->link = p->link;
	p->link = NULL;
	p->spec.group->n--;
	p->spec.group->used_ns = clock_now_ns();
	proxy_group_check(p->spec.group);
}

void proxy_group_add(struct proxy_group *g, struct proxy_conn *p)
{
	p->next = g->first;
	p->link = &g->first;
	if (p->next != NULL)
		p->next->link = &p->next;
	g->first = p;
	g->n++;
	g->used_ns = clock_now_ns();
}

void proxy_abort_all(struct proxy_group *g, int code)
{
	while (g->first != NULL)
		proxy_abort(g->first, code);
}

/* Resets what needs its upstream: all, or those streams that have no end in sight. */
static void group_reset(struct proxy_group *g, bool all)
{
	struct proxy_conn *next;

	for (struct proxy_conn *p = g->first; p != NULL; p = next) {
		next = p->next;
		if (needs_upstream(p) && (all || !proxy_end_in_sight(p)))
			proxy_abort(p, ESHUTDOWN);
	}
}

void proxy_drain(struct proxy_group *g, void (*done)(void *arg), void *arg)
{
	group_reset(g, false);
	g->on_drained = done;
	g->on_drained_arg = arg;
	proxy_group_check(g);
}

void proxy_drain_end(struct proxy_group *g)
{
	if (g->on_drained != NULL)
		group_reset(g, true);
}
