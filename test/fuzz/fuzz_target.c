/* SPDX-License-Identifier: Apache-2.0 */
/* A head names a sandbox and port of the right form, none, or is refused with a reason. */
#include "api/route-target.h"
#include "base/str.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void check(const struct http_head *head, const char *domain)
{
	struct target t = { 0 };
	struct err e = { 0 };
	int r = target_parse(head, domain, &t, &e);

	if (r < 0) {
		require(e.kind == ERR_INVALID && e.msg[0] != '\0');
	} else if (r > 0) {
		size_t n = strlen(t.id);

		require(!err_is_set(&e) && t.port != 0 && n > 0);
		require(strspn(t.id, "abcdefghijklmnopqrstuvwxyz0123456789") == n);
		t.port = 49983;
		require(target_is_host_only(&t, head->path) || !str_starts(head->path, "/init/"));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_buf in = BUF_INIT(HTTP_HEAD_MAX);
	struct http_head head = { 0 };

	if (buf_append(&in, data, size) == 0 && http_head_parse_request(&in, &head, NULL) == 1) {
		check(&head, NULL);
		check(&head, "box.example.org");
	}
	http_head_done(&head);
	return 0;
}
