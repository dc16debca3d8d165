/* SPDX-License-Identifier: Apache-2.0 */
#include "base/public.h"

#include "base/ipv4.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <strings.h>

/* IANA's special-purpose registries, as of 2024, for both families. */
static const struct ipv4_net internal[] = {
	IPV4_INTERNAL(IPV4_NET)    /* as of guests */
	IPV4_NET(192, 0, 0, 0, 24) /* protocols */
	IPV4_NET(192, 0, 2, 0, 24) /* documentation, as two more */
	IPV4_NET(198, 51, 100, 0, 24) IPV4_NET(203, 0, 113, 0, 24)
		IPV4_NET(192, 88, 99, 0, 24) /* relays of 6to4 */
};

struct ipv6_net {
	unsigned char addr[16];
	unsigned prefix_len; /* of whole bytes, or of up to 7 bits in the last */
};

static const struct ipv6_net mapped = { .addr = { [10] = 0xff, [11] = 0xff }, .prefix_len = 96 };
static const struct ipv6_net nat64 = { .addr = { 0, 0x64, 0xff, 0x9b }, .prefix_len = 96 };
static const struct ipv6_net unicast = { .addr = { 0x20 }, .prefix_len = 3 };

/* Of unicast: protocols (with Teredo and benchmarks), documentation, 6to4. */
static const struct ipv6_net special[] = {
	{ .addr = { 0x20, 0x01 }, .prefix_len = 23 },
	{ .addr = { 0x20, 0x01, 0x0d, 0xb8 }, .prefix_len = 32 },
	{ .addr = { 0x20, 0x02 }, .prefix_len = 16 },
	{ .addr = { 0x3f, 0xff }, .prefix_len = 20 },
};

static bool ipv4_is_public(uint32_t addr)
{
	const struct ipv4_net one = { addr, 32 };

	for (size_t i = 0; i < ARRAY_SIZE(internal); i++) {
		if (ipv4_net_within(&one, &internal[i]))
			return false;
	}
	return true;
}

static bool within(const unsigned char addr[16], const struct ipv6_net *net)
{
	unsigned whole = net->prefix_len / 8;
	unsigned bits = net->prefix_len % 8;

	return memcmp(addr, net->addr, whole) == 0 &&
	       (bits == 0 || ((addr[whole] ^ net->addr[whole]) & 0xff00 >> bits & 0xff) == 0);
}

static bool ipv6_is_public(const unsigned char addr[16])
{
	if (within(addr, &mapped) || within(addr, &nat64)) {
		uint32_t inner;

		memcpy(&inner, addr + 12, sizeof(inner));
		return ipv4_is_public(ntohl(inner));
	}
	for (size_t i = 0; i < ARRAY_SIZE(special); i++) {
		if (within(addr, &special[i]))
			return false;
	}
	return within(addr, &unicast);
}

bool address_is_public(const struct sockaddr *addr, size_t n)
{
	struct sockaddr_in in4;
	struct sockaddr_in6 in6;

	if (n >= sizeof(in4) && addr->sa_family == AF_INET) {
		memcpy(&in4, addr, sizeof(in4));
		return ipv4_is_public(ntohl(in4.sin_addr.s_addr));
	}
	if (n >= sizeof(in6) && addr->sa_family == AF_INET6) {
		memcpy(&in6, addr, sizeof(in6));
		return ipv6_is_public(in6.sin6_addr.s6_addr);
	}
	return false;
}

bool address_text_is_public(const char *host)
{
	struct in6_addr in6;
	struct in_addr in4;

	/* The old forms, 127.1 and 0x7f000001, are ones that resolvers know. */
	if (inet_aton(host, &in4) != 0)
		return ipv4_is_public(ntohl(in4.s_addr));
	if (inet_pton(AF_INET6, host, &in6) == 1)
		return ipv6_is_public(in6.s6_addr);
	return strcasecmp(host, "localhost") != 0 && strcasecmp(host, "localhost.") != 0;
}
