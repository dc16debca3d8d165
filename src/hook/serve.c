/* SPDX-License-Identifier: Apache-2.0 */
#include "hook/serve.h"

#include "base/hookwords.h"
#include "base/part.h"
#include "base/str.h"
#include "hook/post.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { WAIT_MS = 60000, CONNECTIONS_KEPT = 8 };

struct serve {
	CURLM *multi;
	char *in; /* owned; HOOK_MESSAGE_MAX */
};

/* Waits for room: vivd reads its results at once, or is gone, which ends this too. */
static int tell(const json_t *result)
{
	auto_free char *text = result != NULL ? json_dumps(result, JSON_COMPACT) : NULL;
	struct pollfd p = { .fd = HOOK_CONTROL_FD, .events = POLLOUT };

	if (text == NULL)
		return -ENOMEM;
	while (send(HOOK_CONTROL_FD, text, strlen(text), MSG_NOSIGNAL) < 0) {
		if (errno != EAGAIN || poll(&p, 1, WAIT_MS) <= 0)
			return -errno;
	}
	return 0;
}

static int end_posts(struct serve *s)
{
	CURLMsg *m;
	int left;
	int r = 0;

	while (r == 0 && (m = curl_multi_info_read(s->multi, &left)) != NULL) {
		CURLcode code = m->data.result;
		struct post *p = post_of(m->easy_handle);
		auto_json *result = NULL;

		if (m->msg != CURLMSG_DONE)
			continue;
		result = post_result(p, code);
		post_end(s->multi, p);
		r = tell(result);
	}
	return r;
}

/* Return: 1 there may be more; 0 not now; -errno, -EPIPE: vivd ended it. */
static int take_message(struct serve *s, struct err *e)
{
	ssize_t n = recv(HOOK_CONTROL_FD, s->in, HOOK_MESSAGE_MAX, MSG_DONTWAIT);
	auto_json *message = NULL;
	struct post *p;
	int r;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0)
		return -EPIPE;
	message = json_loadb(s->in, (size_t)n, JSON_ALLOW_NUL, NULL);
	r = post_begin(s->multi, message, &p, e);
	return r < 0 ? r : 1;
}

static int serve_on(struct serve *s, struct err *e)
{
	struct curl_waitfd control = { .fd = HOOK_CONTROL_FD, .events = CURL_WAIT_POLLIN };
	int running;
	int r;

	if (curl_multi_perform(s->multi, &running) != CURLM_OK)
		return err_set(e, ERR_SYSTEM, "curl fails");
	r = end_posts(s);
	if (r < 0)
		return r;
	if (curl_multi_poll(s->multi, &control, 1, WAIT_MS, NULL) != CURLM_OK)
		return err_set(e, ERR_SYSTEM, "curl cannot wait");
	while ((r = take_message(s, e)) > 0)
		;
	return r;
}

int hook_serve(struct err *e)
{
	auto_free char *in = xcalloc(1, HOOK_MESSAGE_MAX);
	struct serve s = { .in = in };
	int r = part_begin(HOOK_CONTROL_FD, "viv-hook", e);

	if (r < 0)
		return r;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return err_set(e, ERR_SYSTEM, "curl cannot be set up");
	s.multi = curl_multi_init();
	if (s.multi == NULL)
		return err_set(e, ERR_EXHAUSTED, "no memory for curl");
	curl_multi_setopt(s.multi, CURLMOPT_MAXCONNECTS, (long)CONNECTIONS_KEPT);
	while ((r = serve_on(&s, e)) == 0)
		;
	/* What runs ends with the process: a resolver of curl's would be waited for. */
	return err_is_set(e) || r != -EPIPE ? r : 0;
}
