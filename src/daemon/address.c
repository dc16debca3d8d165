/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/address.h"

#include "base/parse.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

/* The host between the brackets, or before the one colon. Return: 0; -EINVAL. */
static int split(const char *text, char host[INET6_ADDRSTRLEN], uint16_t *out_port)
{
	bool bracket = text[0] == '[';
	const char *start = text + bracket;
	const char *end = strchr(start, bracket ? ']' : ':');
	const char *port = end != NULL ? end + bracket : NULL;
	uint64_t number;

	if (end == NULL || end - start >= INET6_ADDRSTRLEN || *port != ':' ||
	    parse_u64(port + 1, 0, UINT16_MAX, &number) < 0)
		return -EINVAL;
	str_copy(host, (size_t)(end - start) + 1, start);
	*out_port = (uint16_t)number;
	return 0;
}

int address_parse(const char *text, struct address *out)
{
	char host[INET6_ADDRSTRLEN];
	uint16_t port;

	*out = (struct address){ .len = 0 };
	if (split(text, host, &port) < 0)
		return -EINVAL;
	if (text[0] == '[') {
		out->u.v6 =
			(struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(port) };
		out->len = sizeof(out->u.v6);
		return inet_pton(AF_INET6, host, &out->u.v6.sin6_addr) == 1 ? 0 : -EINVAL;
	}
	out->u.v4 = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port) };
	out->len = sizeof(out->u.v4);
	return inet_pton(AF_INET, host, &out->u.v4.sin_addr) == 1 ? 0 : -EINVAL;
}

bool address_is_loopback(const struct address *a)
{
	if (a->u.any.sa_family == AF_INET6)
		return IN6_IS_ADDR_LOOPBACK(&a->u.v6.sin6_addr);
	return ntohl(a->u.v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}

unsigned address_port(const struct address *a)
{
	return ntohs(a->u.any.sa_family == AF_INET6 ? a->u.v6.sin6_port : a->u.v4.sin_port);
}

void address_print(const struct address *a, char out[ADDRESS_TEXT_SIZE])
{
	char host[INET6_ADDRSTRLEN] = "";

	if (a->u.any.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &a->u.v6.sin6_addr, host, sizeof(host));
		snprintf(out, ADDRESS_TEXT_SIZE, "[%s]:%u", host, ntohs(a->u.v6.sin6_port));
	} else {
		inet_ntop(AF_INET, &a->u.v4.sin_addr, host, sizeof(host));
		snprintf(out, ADDRESS_TEXT_SIZE, "%s:%u", host, ntohs(a->u.v4.sin_port));
	}
}
