/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The host's table "vivarium_<tag>" speaks of all slots of an instance by the wildcard viv<tag>-*
 * and by sets, so that it has the same few rules for one slot as for 512. It is replaced as one
 * transaction at each start of the daemon and stays when the daemon ends, as the slots do. Before
 * each claim of a slot we look whether it is still there.
 *
 *	guest to host	Answers to the host's own connections, on whatever address of the host; and
 *			port 53 of the resolver, where that runs on the host.
 *
 *	guest to slots	Nothing, of any instance.
 *
 *	guest to out	No private or link-local range but the resolver's port 53.
 *
 *	out to guest	Answers only. Guests are reached through the host.
 *
 * An accept here is not the last word: a chain of other software on the same hook (the policy of
 * docker's FORWARD is drop) may still drop. Such a chain needs its own rule for viv<tag>-*; we
 * change nobody else's.
 *
 * Outside of our table and our links one thing is changed: net.ipv4.ip_forward is switched on when
 * it is off and there is a default route, that is, somewhere to forward to.
 */
#include "net/net-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "os/link.h"
#include "os/netns.h"
#include "os/nft.h"
#include "os/spawn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter.h>
#include <stdio.h>

#define IP_FORWARD "/proc/sys/net/ipv4/ip_forward"

struct nft_call {
	const char *rules;
	struct op *op;
};

static int run_nft(void *arg)
{
	static const char *const argv[] = { "nft", "-f", "-", NULL };
	const struct nft_call *call = arg;

	return spawn_run(argv, call->rules, NULL, call->op);
}

int net_nft(int netns_fd, const char *rules, struct op *op)
{
	struct nft_call call = { .rules = rules, .op = op };
	int r = netns_fd < 0 ? run_nft(&call) : netns_call(netns_fd, run_nft, &call);

	if (r < 0 && !err_is_set(&op->err))
		return err_errno(&op->err, -r, "enter the network namespace to run nft");
	return r;
}

static uint32_t parse_resolver(const char *line)
{
	struct in_addr in;
	uint32_t addr;
	char text[INET_ADDRSTRLEN];

	if (sscanf(line, " nameserver %15[0-9.]", text) != 1 || inet_pton(AF_INET, text, &in) != 1)
		return 0;
	addr = ntohl(in.s_addr);
	return addr >> 24 == 127 ? 0 : addr;
}

static uint32_t read_resolver(const char *path)
{
	auto_buf text = BUF_INIT(65536);
	const char *line;

	if (file_read_at(AT_FDCWD, path, &text) < 0)
		return 0;
	for (line = buf_str(&text); *line != '\0'; line += strcspn(line, "\n") + 1) {
		uint32_t addr = parse_resolver(line);

		if (addr != 0)
			return addr;
		if (strchr(line, '\n') == NULL)
			return 0;
	}
	return 0;
}

uint32_t net_resolver(void)
{
	uint32_t addr = read_resolver("/etc/resolv.conf");

	/* a stub on loopback: ask what is behind it */
	return addr != 0 ? addr : read_resolver("/run/systemd/resolve/resolv.conf");
}

static const char table[] =
	/* so that the deletion finds one */
	"table inet vivarium_%1$s {}\n"
	"delete table inet vivarium_%1$s\n"
	"table inet vivarium_%1$s {\n"
	"	set blocked {\n"
	"		type ipv4_addr; flags interval\n"
	"		elements = { " NET_BLOCKED_ELEMENTS " }\n"
	"	}\n"
	"	set resolvers {\n"
	"		type ipv4_addr\n"
	"		%3$s\n"
	"	}\n"
	"	chain input {\n"
	"		type filter hook input priority filter; policy accept\n"
	"		iifname \"viv%1$s-*\" jump to_host\n"
	"	}\n"
	"	chain to_host {\n"
	"		ct state established,related accept\n"
	"		ip saddr %2$s ip daddr @resolvers meta l4proto { tcp, udp } th dport 53 "
	"accept\n"
	"		drop\n"
	"	}\n"
	"	chain forward {\n"
	"		type filter hook forward priority filter; policy accept\n"
	"		iifname \"viv%1$s-*\" jump from_guest\n"
	"		oifname \"viv%1$s-*\" jump to_guest\n"
	"	}\n"
	"	chain from_guest {\n"
	"		ip saddr != %2$s drop\n"
	"		meta nfproto != ipv4 drop\n"
	"		oifname \"viv*\" drop\n"
	"		ct state vmap { established : accept, related : accept, invalid : drop }\n"
	"		ip daddr @resolvers meta l4proto { tcp, udp } th dport 53 accept\n"
	"		ip daddr @blocked drop\n"
	"		accept\n"
	"	}\n"
	"	chain to_guest {\n"
	"		ct state established,related accept\n"
	"		drop\n"
	"	}\n"
	"	chain postrouting {\n"
	"		type nat hook postrouting priority srcnat; policy accept\n"
	"		ip saddr %2$s oifname != \"viv*\" masquerade\n"
	"	}\n"
	"}\n";

int net_host_setup(struct net *net, struct op *op)
{
	auto_buf rules = BUF_INIT(8192);
	uint32_t resolver = net_resolver();
	char block[32], elements[48] = "";
	int r = str_fit(block, sizeof(block), IPV4_FMT "/%d", IPV4_ARG(net->block),
			32 - NET_BLOCK_BITS);

	if (r == 0 && resolver != 0)
		r = str_fit(elements, sizeof(elements), "elements = { " IPV4_FMT " }",
			    IPV4_ARG(resolver));
	if (r == 0)
		r = buf_printf(&rules, table, net->tag.s, block, elements);
	if (r < 0)
		return err_errno(&op->err, -r, "write the rules of table vivarium_%s", net->tag.s);
	r = net_nft(-1, buf_str(&rules), op);
	if (r < 0)
		return err_wrap(&op->err, "make nft table vivarium_%s", net->tag.s);
	atomic_store(&net->resolver, resolver);
	return 0;
}

int net_host_remove(struct net *net, struct op *op)
{
	auto_free char *rules = str_printf("table inet vivarium_%1$s {}\n"
					   "delete table inet vivarium_%1$s\n",
					   net->tag.s);
	int r = net_nft(-1, rules, op);

	return r < 0 ? err_wrap(&op->err, "remove nft table vivarium_%s", net->tag.s) : 0;
}

/* A reload of the host's own firewall usually begins with "flush ruleset", which is all tables. */
static int host_table(struct net *net, struct op *op)
{
	char name[32];
	int r = str_fit(name, sizeof(name), "vivarium_%s", net->tag.s);

	if (r == 0)
		r = nft_has_table(NFPROTO_INET, name);
	if (r < 0)
		return err_errno(&op->err, -r, "look for nft table vivarium_%s", net->tag.s);
	if (r > 0)
		return 0;
	log_warning("net.table_gone", kv_str("table", name), kv_str("then", "made again"));
	return net_host_setup(net, op);
}

static int host_forward(int nl, struct op *op)
{
	auto_buf value = BUF_INIT(16);
	int r = file_read_at(AT_FDCWD, IP_FORWARD, &value);

	if (r < 0)
		return err_errno(&op->err, -r, "read %s", IP_FORWARD);
	if (buf_str(&value)[0] != '0')
		return 0;
	r = link_has_default_route(nl);
	if (r < 0)
		return err_errno(&op->err, -r, "look for a default route");
	if (r == 0)
		return 0;
	r = file_write_at(AT_FDCWD, IP_FORWARD, "1");
	if (r < 0)
		return err_errno(&op->err, -r,
				 "switch on forwarding, without which sandboxes have no network: "
				 "write 1 to %s",
				 IP_FORWARD);
	log_info("net.forwarding_enabled", kv_str("sysctl", "net.ipv4.ip_forward"));
	return 0;
}

int net_host_check(struct net *net, int nl, struct op *op)
{
	int r = host_table(net, op);

	return r < 0 ? r : host_forward(nl, op);
}

/*
 * The resolver of the host changes when a laptop changes its network. New slots use the new one;
 * the old one stays in the set for the slots that were made with it.
 */
int net_host_resolver(struct net *net, uint32_t resolver, struct op *op)
{
	auto_free char *rules = NULL;
	int r;

	if (resolver == 0 || resolver == atomic_load(&net->resolver))
		return 0;
	rules = str_printf("add element inet vivarium_%s resolvers { " IPV4_FMT " }\n", net->tag.s,
			   IPV4_ARG(resolver));
	r = net_nft(-1, rules, op);
	if (r < 0)
		return err_wrap(&op->err, "open the way to resolver " IPV4_FMT, IPV4_ARG(resolver));
	atomic_store(&net->resolver, resolver);
	return 0;
}
