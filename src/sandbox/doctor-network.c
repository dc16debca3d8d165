/* SPDX-License-Identifier: Apache-2.0 */
/* What sandboxes' networks need: nftables, namespaces, taps, and a way out. */
#include "base/fd.h"
#include "base/file.h"
#include "net/net.h"
#include "os/link.h"
#include "os/netns.h"
#include "os/spawn.h"
#include "sandbox/doctor-internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>

#define IP_FORWARD "/proc/sys/net/ipv4/ip_forward"

/* What the kernel has to know, of all that our tables use; it is only checked. */
static const char sample_rules[] =
	"table inet vivarium_probe {\n"
	"	set addresses { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 } }\n"
	"	chain forward {\n"
	"		type filter hook forward priority filter; policy accept\n"
	"		ct state vmap { established : accept, invalid : drop }\n"
	"		ip daddr @addresses drop\n"
	"	}\n"
	"	chain postrouting {\n"
	"		type nat hook postrouting priority srcnat; policy accept\n"
	"		masquerade\n"
	"	}\n"
	"}\n";

static void check_nft(struct doctor_report *report)
{
	static const char *const argv[] = { "nft", "-c", "-f", "-", NULL };
	struct doctor_item item = { .area = "network", .name = str_dup("nft") };
	char path[PATH_MAX];
	struct op op;
	int r;

	op_init(&op, DOCTOR_PROBE_TIMEOUT_MS, -1);
	r = spawn_find("nft", path, sizeof(path), &op.err);
	if (r == 0)
		r = spawn_run(argv, sample_rules, NULL, &op);
	if (r == 0) {
		item.what = str_printf("%s, and the kernel takes our rules", path);
	} else {
		item.verdict = DOCTOR_MISSING;
		item.what = str_dup(op.err.msg);
		item.why = str_dup("no network slot can be made without it");
		item.advice = str_dup(r == -ENOENT ? "install the package nftables"
						   : "a kernel with nf_tables, nf_nat and "
						     "nf_conntrack; as root");
	}
	doctor_add(report, item);
}

static void check_probe(const char *name, const char *arg, const char *advice,
			struct doctor_report *report)
{
	struct doctor_item item = { .area = "network", .name = str_dup(name) };
	struct doctor_probe probe;

	doctor_probe(name, arg, DOCTOR_PROBE_TIMEOUT_MS, &probe);
	if (probe.code == 0) {
		item.what = str_dup(probe.text);
	} else {
		item.verdict = DOCTOR_MISSING;
		item.what = str_printf("%s: %s", probe.text, strerrordesc_np(probe.code));
		item.why = str_dup("no network slot can be made without it");
		item.advice = str_dup(advice);
	}
	doctor_add(report, item);
}

static void check_forwarding(struct doctor_report *report)
{
	struct doctor_item item = { .area = "network", .name = str_dup("forwarding") };
	auto_close int nl = netns_rtnl(-1);
	auto_buf value = BUF_INIT(16);
	bool on = file_read_at(AT_FDCWD, IP_FORWARD, &value) == 0 && buf_str(&value)[0] != '0';
	int route = nl < 0 ? nl : link_has_default_route(nl);

	if (route > 0) {
		item.what = str_printf("the host has a default route, and IPv4 forwarding is %s",
				       on ? "on" : "off");
		if (!on)
			item.why = str_dup("vivd switches it on when it makes a slot");
	} else {
		item.verdict = DOCTOR_DEGRADED;
		item.what = str_dup("the host has no default route");
		item.why = str_dup("sandboxes reach nothing outside");
	}
	doctor_add(report, item);
}

static void check_resolver(struct doctor_report *report)
{
	struct doctor_item item = { .area = "network", .name = str_dup("resolver") };
	struct in_addr addr = { .s_addr = htonl(net_resolver()) };
	char text[INET_ADDRSTRLEN];

	if (addr.s_addr != 0) {
		item.what = str_printf("sandboxes ask the host's resolver %s",
				       inet_ntop(AF_INET, &addr, text, sizeof(text)));
	} else {
		item.verdict = DOCTOR_DEGRADED;
		item.what = str_dup("the host has no IPv4 resolver but on a loopback address");
		item.why = str_dup("names cannot be looked up inside sandboxes");
		item.advice = str_dup("put a nameserver that is no loopback address into "
				      "/etc/resolv.conf");
	}
	doctor_add(report, item);
}

void doctor_check_network(const struct doctor_host *host, struct doctor_report *report)
{
	check_nft(report);
	check_probe("netns", host->tag.s,
		    "a kernel with network namespaces; as root, and not in "
		    "a container without CAP_SYS_ADMIN",
		    report);
	check_probe("tun", "",
		    "load the kernel module: modprobe tun; a container needs the device "
		    "/dev/net/tun",
		    report);
	check_forwarding(report);
	check_resolver(report);
}
