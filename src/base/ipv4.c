/* SPDX-License-Identifier: Apache-2.0 */
#include "base/ipv4.h"

#include "base/parse.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <errno.h>

enum { ADDR_BITS = 32 };

int ipv4_net_parse(const char *text, struct ipv4_net *out)
{
	size_t n = strcspn(text, "/");
	uint64_t prefix = ADDR_BITS;
	char host[INET_ADDRSTRLEN];
	struct in_addr in;

	if (n >= sizeof(host))
		return -EINVAL;
	str_copy(host, n + 1, text);
	if (inet_pton(AF_INET, host, &in) != 1 ||
	    (text[n] == '/' && parse_u64(text + n + 1, 0, ADDR_BITS, &prefix) < 0))
		return -EINVAL;
	*out = (struct ipv4_net){ ntohl(in.s_addr), (unsigned)prefix };
	return 0;
}

uint32_t ipv4_net_mask(unsigned prefix_len)
{
	return prefix_len == 0 ? 0 : ~(uint32_t)0 << (ADDR_BITS - prefix_len);
}

bool ipv4_net_within(const struct ipv4_net *inner, const struct ipv4_net *outer)
{
	return inner->prefix_len >= outer->prefix_len &&
	       ((inner->addr ^ outer->addr) & ipv4_net_mask(outer->prefix_len)) == 0;
}
