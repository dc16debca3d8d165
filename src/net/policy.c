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
 *	guest to DNS	Port 53 of the gateway is the host's resolver, wherever that is. What is
 *			translated towards its destination is these two only, and passes.
 *
 *	guest to out	Only from its own address, to nothing in the blocked set, and as the
 *			sandbox's egress says; masqueraded as the slot's address.
 *
 *	guest to here	Nothing.
 *
 *	IPv6		Nothing, from nowhere; the namespace has it switched off, too.
 *
 * The egress is two chains, to_world and from_world, which see every packet that passes between the
 * guest and the world, not only the first of a connection. So what is denied is cut from the moment
 * the chains change: no connection that was tracked before lives on, and none has to be looked for
 * and forgotten, which could not be one step with the change. A guest whose packet is refused is
 * told at once (a TCP reset, else ICMP); what comes in of a cut connection is dropped.
 *
 * Both chains are replaced by one transaction of nft. A packet is judged by the chains of before or
 * by those of after, never by a part of each, since the kernel chooses once per packet, and the
 * networks are in sets that belong to their rules. The chains on the kernel's hooks, and with them
 * the address translation of what is connected, stay.
 *
 * Both halves have a mark, a digest in the comment of a rule, which is set with what it tells of.
 * It is how a daemon that comes after a crash, or is of another version, learns whether the kernel
 * has what the store says.
 */
#include "net/net-internal.h"

#include "base/str.h"
#include "os/netns.h"
#include "os/nft.h"

#include <linux/netfilter.h>

enum { NETS_MAX_BYTES = NET_EGRESS_MAX * 20, RULES_MAX_BYTES = 4 * NETS_MAX_BYTES + 8192 };

/* %s is the mark. */
static const char head[] =
	/* so that the deletion finds one: the rules of a slot that waited may be replaced */
	"table inet vivarium {}\n"
	"delete table inet vivarium\n"
	"table inet vivarium {\n"
	"	set blocked {\n"
	"		type ipv4_addr; flags interval\n"
	"		elements = { " NET_BLOCKED_ELEMENTS " }\n"
	"	}\n"
	"	chain spoof {\n"
	"		type filter hook prerouting priority raw; policy accept\n"
	"		meta nfproto != ipv4 drop\n"
	"		iifname \"tap0\" ip saddr != 169.254.0.21 drop\n"
	"	}\n"
	"	chain input {\n"
	"		type filter hook input priority filter; policy drop\n"
	"	}\n"
	"	chain refuse {\n"
	"		meta l4proto tcp reject with tcp reset\n"
	"		reject with icmp type admin-prohibited\n"
	"	}\n"
	"	chain to_world {\n"
	"	}\n"
	"	chain from_world {\n"
	"	}\n"
	"	chain forward {\n"
	"		type filter hook forward priority filter; policy drop\n"
	"		ct state invalid drop comment \"%s\"\n"
	"		ct status dnat accept\n"
	"		iifname \"tap0\" oifname \"up0\" goto to_world\n"
	"		iifname \"up0\" oifname \"tap0\" goto from_world\n"
	"	}\n"
	"	chain out {\n"
	"		type nat hook postrouting priority srcnat; policy accept\n"
	"		oifname \"up0\" masquerade\n"
	"		oifname \"tap0\" snat ip to 169.254.0.22\n"
	"	}\n"
	"	chain in {\n"
	"		type nat hook prerouting priority dstnat; policy accept\n"
	"		iifname \"up0\" dnat ip to 169.254.0.21\n";

/* The hole for DNS, and the end of the table. */
static int write_tail(uint32_t resolver, struct buf *out)
{
	int r = 0;

	if (resolver != 0)
		r = buf_printf(out,
			       "		iifname \"tap0\" ip daddr 169.254.0.22 "
			       "meta l4proto { tcp, udp } th dport 53 dnat ip to " IPV4_FMT "\n",
			       IPV4_ARG(resolver));
	return r == 0 ? buf_puts(out, "	}\n}\n") : r;
}

/* "ip daddr { 192.0.2.1/32, ... } accept"; nothing for no networks. */
static int write_rule(struct buf *out, const char *field, const struct ipv4_nets *nets,
		      const char *verdict)
{
	const char *comma = "";
	int r;

	if (nets->n == 0)
		return 0;
	r = buf_printf(out, "		ip %s {", field);
	vec_foreach (net, nets) {
		if (r == 0)
			r = buf_printf(out, "%s " IPV4_NET_FMT, comma, IPV4_NET_ARG(*net));
		comma = ",";
	}
	return r == 0 ? buf_printf(out, " } %s\n", verdict) : r;
}

/* What both chains say of the guest's peers. */
static int write_egress(struct buf *out, const struct net_egress *egress, const char *field,
			const char *denied)
{
	int r = write_rule(out, field, &egress->allow, "accept");

	if (r == 0)
		r = write_rule(out, field, &egress->deny, denied);
	return r == 0 ? buf_puts(out, "		accept\n	}\n") : r;
}

/* ICMP errors of the routers on the way pass: without them large packets would get lost. */
static int write_chains(struct buf *out, const struct net_egress *egress, const char *mark)
{
	int r = buf_printf(out,
			   "flush chain inet vivarium to_world\n"
			   "flush chain inet vivarium from_world\n"
			   "table inet vivarium {\n"
			   "	chain to_world {\n"
			   "		ip daddr @blocked drop comment \"%s\"\n",
			   mark);

	if (r == 0)
		r = write_egress(out, egress, "daddr", "goto refuse");
	if (r == 0)
		r = buf_puts(out, "	chain from_world {\n"
				  "		ct state related accept\n"
				  "		ct state != established drop\n");
	if (r == 0)
		r = write_egress(out, egress, "saddr", "drop");
	return r == 0 ? buf_puts(out, "}\n") : r;
}

/* 64 bits of FNV-1a: it tells versions apart, nobody has to be kept from guessing one. */
static void digest(struct buf *text, char out[NET_MARK_SIZE])
{
	uint64_t h = 0xcbf29ce484222325U;

	for (const char *p = buf_str(text); *p != '\0'; p++)
		h = (h ^ (unsigned char)*p) * 0x100000001b3U;
	ignore_err(str_fit(out, NET_MARK_SIZE, "%016llx", (unsigned long long)h)); /* it fits */
}

/* Written twice: with an empty mark, of which the mark is the digest, and with it. */
static int write_marked_egress(const struct net_egress *egress, struct net_rules *rules)
{
	int r = write_chains(&rules->egress, egress, "");

	if (r < 0)
		return r;
	digest(&rules->egress, rules->egress_mark);
	buf_clear(&rules->egress);
	return write_chains(&rules->egress, egress, rules->egress_mark);
}

static int write_base(uint32_t resolver, struct net_rules *rules, const char *mark)
{
	int r;

	buf_clear(&rules->base);
	r = buf_printf(&rules->base, head, mark);
	return r == 0 ? write_tail(resolver, &rules->base) : r;
}

void net_rules_done(struct net_rules *rules)
{
	buf_done(&rules->base);
	buf_done(&rules->egress);
}

int net_rules_write(uint32_t resolver, const struct net_egress *egress, struct net_rules *rules)
{
	int r;

	buf_init(&rules->base, RULES_MAX_BYTES);
	buf_init(&rules->egress, RULES_MAX_BYTES);
	r = write_base(resolver, rules, "");
	if (r < 0)
		return r;
	digest(&rules->base, rules->base_mark);
	r = write_base(resolver, rules, rules->base_mark);
	return r == 0 ? write_marked_egress(egress, rules) : r;
}

struct marks {
	char base[NET_MARK_SIZE];
	char egress[NET_MARK_SIZE];
};

static int read_marks(void *arg)
{
	struct marks *marks = arg;
	int r = nft_rule_comment(NFPROTO_INET, "vivarium", "forward", marks->base, NET_MARK_SIZE);

	return r < 0 ? r
		     : nft_rule_comment(NFPROTO_INET, "vivarium", "to_world", marks->egress,
					NET_MARK_SIZE);
}

int net_rules_compare(int netns_fd, const struct net_rules *rules, bool *out_base, bool *out_egress)
{
	struct marks marks = { "", "" };
	int r = netns_call(netns_fd, read_marks, &marks);

	if (r < 0)
		return r;
	*out_base = streq(marks.base, rules->base_mark);
	*out_egress = streq(marks.egress, rules->egress_mark);
	return 0;
}
