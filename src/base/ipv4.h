/* SPDX-License-Identifier: Apache-2.0 */
/* IPv4 networks as values; addresses are in host byte order. */
#pragma once

#include "base/macros.h"

struct ipv4_net {
	uint32_t addr;       /* bits behind the prefix may be set; they mean nothing */
	unsigned prefix_len; /* 0 to 32 */
};

/* Networks that are not of the internet, as X(a, b, c, d, prefix length): nothing of ours goes to
 * them in others' name. */
#define IPV4_INTERNAL(X)                                                                           \
	X(0, 0, 0, 0, 8)                                                                           \
	X(10, 0, 0, 0, 8)                                                                          \
	X(100, 64, 0, 0, 10)                                                                       \
	X(127, 0, 0, 0, 8)                                                                         \
	X(169, 254, 0, 0, 16)                                                                      \
	X(172, 16, 0, 0, 12)                                                                       \
	X(192, 168, 0, 0, 16)                                                                      \
	X(198, 18, 0, 0, 15)                                                                       \
	X(224, 0, 0, 0, 4)                                                                         \
	X(240, 0, 0, 0, 4)

/* One of them as a struct ipv4_net of an array. */
#define IPV4_NET(a, b, c, d, len)                                                                  \
	{ (uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (d), len },

/* How one is printed: "192.0.2.0/24". */
#define IPV4_NET_FMT "%u.%u.%u.%u/%u"
#define IPV4_NET_ARG(net)                                                                          \
	(net).addr >> 24, (net).addr >> 16 & 255, (net).addr >> 8 & 255, (net).addr & 255,         \
		(net).prefix_len

/** ipv4_net_parse() - read "192.0.2.0/24", or "192.0.2.1" for one address. Return: 0; -EINVAL */
must_check int ipv4_net_parse(const char *text, struct ipv4_net *out);

/** ipv4_net_mask() - the bits of an address that a prefix of @prefix_len (0 to 32) covers */
uint32_t ipv4_net_mask(unsigned prefix_len);

/** ipv4_net_within() - whether every address of a network is in another (or the same) one */
bool ipv4_net_within(const struct ipv4_net *inner, const struct ipv4_net *outer);
