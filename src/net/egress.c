/* SPDX-License-Identifier: Apache-2.0 */
#include "net/egress.h"

#include "base/str.h"
#include "net/net-internal.h"

#include <errno.h>

enum { NET_TEXT_SIZE = sizeof("255.255.255.255/32") };

static const struct ipv4_net never[] = { NET_BLOCKED(IPV4_NET) };

void net_egress_done(struct net_egress *egress)
{
	ipv4_nets_done(&egress->allow);
	ipv4_nets_done(&egress->deny);
}

bool net_egress_is_open(const struct net_egress *egress)
{
	return egress->deny.n == 0;
}

int net_egress_read(struct ipv4_nets *list, const char *text)
{
	size_t n;

	for (; *text != '\0'; text += n + (text[n] == ' ')) {
		char one[NET_TEXT_SIZE];
		struct ipv4_net net;

		n = strcspn(text, " ");
		if (n >= sizeof(one))
			return -EINVAL;
		str_copy(one, n + 1, text);
		if (ipv4_net_parse(one, &net) < 0)
			return -EINVAL;
		if (list->n == NET_EGRESS_MAX)
			return -E2BIG;
		net.addr &= ipv4_net_mask(net.prefix_len);
		ipv4_nets_push(list, net);
	}
	return 0;
}

/* By address; of networks that begin alike the widest first. */
static int compare(const void *a, const void *b)
{
	const struct ipv4_net *x = a;
	const struct ipv4_net *y = b;

	if (x->addr != y->addr)
		return x->addr < y->addr ? -1 : 1;
	return (int)x->prefix_len - (int)y->prefix_len;
}

/* Two networks overlap only if one contains the other; which, if sorted, comes first. */
void net_egress_merge(struct ipv4_nets *list)
{
	size_t kept = 0;

	if (list->n == 0)
		return;
	qsort(list->at, list->n, sizeof(list->at[0]), compare);
	for (size_t i = 1; i < list->n; i++) {
		if (!ipv4_net_within(&list->at[i], &list->at[kept]))
			list->at[++kept] = list->at[i];
	}
	list->n = kept + 1;
}

const struct ipv4_net *net_never_reached(const struct ipv4_net *net)
{
	for (size_t i = 0; i < ARRAY_SIZE(never); i++) {
		if (ipv4_net_within(net, &never[i]))
			return &never[i];
	}
	return NULL;
}
