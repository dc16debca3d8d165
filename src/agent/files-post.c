/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/files.h"

#include "agent/files-transfer.h"
#include "agent/reply.h"
#include "agent/upload.h"
#include "base/str.h"

#include <errno.h>
#include <stdlib.h>

struct post {
	struct files_transfer t;
	struct files_request request;
	struct metadata_items metadata;
	struct upload *upload;
	json_t *written; /* the reply, once the upload is finished */
};

static void post_free(struct files_transfer *t)
{
	struct post *p = container_of(t, struct post, t);

	upload_free(p->upload);
	files_request_done(&p->request);
	metadata_done(&p->metadata);
	json_decref(p->written);
	free(p);
}

static int prepare(struct files_transfer *t, const struct http_head *head)
{
	struct post *p = container_of(t, struct post, t);

	if (files_request_read(t->agent, head, "write", &p->request, &t->error) < 0 ||
	    metadata_parse(head, &p->metadata, &t->error) < 0)
		return -EPROTO;
	return upload_new(t->agent, head, &p->request, &p->metadata, &p->upload, &t->error);
}

static void feed(struct files_transfer *t)
{
	struct post *p = container_of(t, struct post, t);

	ignore_err(upload_feed(p->upload, t->piece, t->n, &t->error)); /* it is looked at */
}

static void finish(struct files_transfer *t)
{
	struct post *p = container_of(t, struct post, t);

	ignore_err(upload_finish(p->upload, &p->written, &t->error)); /* it is looked at */
}

static void reply(struct files_transfer *t)
{
	struct post *p = container_of(t, struct post, t);

	reply_json(t->x, 200, take_ptr(&p->written));
}

static const struct files_transfer_ops ops = {
	.prepare = prepare,
	.feed = feed,
	.finish = finish,
	.reply = reply,
	.free = post_free,
};

void files_serve_post(struct http_exchange *x, const struct route_params *params, void *arg)
{
	struct post *p = xcalloc(1, sizeof(*p));

	(void)params;
	files_transfer_serve(&p->t, x, arg, &ops);
}
