/* SPDX-License-Identifier: Apache-2.0 */
#include "api/traffic.h"

#include "base/buf.h"
#include "base/str.h"

#include <openssl/crypto.h>

enum { HOST_MAX_BYTES = 1024 };

bool traffic_may_pass(const struct db_sandbox *row, const struct http_head *head)
{
	const char *given = http_head_get(head, TRAFFIC_TOKEN_HEADER);
	size_t n = strlen(row->traffic_token);

	if (n == 0)
		return true;
	return given != NULL && strlen(given) == n &&
	       CRYPTO_memcmp(given, row->traffic_token, n) == 0;
}

char *traffic_host(const struct db_sandbox *row, unsigned port)
{
	static const char variable[] = "${PORT}";
	auto_buf host = BUF_INIT(HOST_MAX_BYTES);
	const char *text = row->mask_host;
	const char *next;
	int r = 0;

	if (text[0] == '\0')
		return NULL;
	for (; r == 0 && (next = strstr(text, variable)) != NULL; text = next + strlen(variable))
		r = buf_printf(&host, "%.*s%u", (int)(next - text), text, port);
	if (r == 0)
		r = buf_puts(&host, text);
	return r == 0 ? buf_steal(&host) : NULL; /* a mask is short: it fits */
}
