/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The rules inside a slot's namespace, between the guest on tap0 and the host on up0. They hold
 * without the host's table: either alone keeps a guest in.
 *
 *	host to guest	A connection to the slot's address goes to 169.254.0.21, whatever its port,
 *			and seems to come from the gateway: the guest sees the same peer in every
 *			slot, and its own networks may overlap with the host's.
 *
 *	guest to out	Only from its own address, to nothing in the blocked set, masqueraded as the
 *			slot's address.
 *
 *	guest to DNS	Port 53 of the gateway is the host's resolver, wherever that is. Translated
 *			connections from tap0 are these only, and pass.
 *
 *	guest to here	Nothing.
 */
#include "net/net-internal.h"

static const char head[] =
	/* so that the deletion finds one: the rules of a slot that waited may be replaced */
	"table ip vivarium {}\n"
	"delete table ip vivarium\n"
	"table ip vivarium {\n"
	"	set blocked {\n"
	"		type ipv4_addr; flags interval\n"
	"		elements = { " NET_BLOCKED " }\n"
	"	}\n"
	"	chain spoof {\n"
	"		type filter hook prerouting priority raw; policy accept\n"
	"		iifname \"tap0\" ip saddr != 169.254.0.21 drop\n"
	"	}\n"
	"	chain input {\n"
	"		type filter hook input priority filter; policy drop\n"
	"	}\n"
	"	chain forward {\n"
	"		type filter hook forward priority filter; policy drop\n"
	"		ct state vmap { established : accept, related : accept, invalid : drop }\n"
	"		iifname \"up0\" oifname \"tap0\" accept\n"
	"		iifname \"tap0\" oifname \"up0\" ct status dnat accept\n"
	"		iifname \"tap0\" oifname \"up0\" ip daddr != @blocked accept\n"
	"	}\n"
	"	chain out {\n"
	"		type nat hook postrouting priority srcnat; policy accept\n"
	"		oifname \"up0\" masquerade\n"
	"		oifname \"tap0\" snat to 169.254.0.22\n"
	"	}\n"
	"	chain in {\n"
	"		type nat hook prerouting priority dstnat; policy accept\n"
	"		iifname \"up0\" dnat to 169.254.0.21\n";

int net_policy(uint32_t resolver, struct buf *out)
{
	int r = buf_puts(out, head);

	if (r == 0 && resolver != 0)
		r = buf_printf(out,
			       "		iifname \"tap0\" ip daddr 169.254.0.22 "
			       "meta l4proto { tcp, udp } th dport 53 dnat to " IPV4_FMT "\n",
			       IPV4_ARG(resolver));
	if (r == 0)
		r = buf_puts(out, "	}\n}\n");
	return r;
}
