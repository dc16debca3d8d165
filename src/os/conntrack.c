/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A delete request without a whole tuple flushes the table. With CTA_FILTER (kernel 5.8) it is
 * narrowed to entries that agree with the given tuple in the fields named by flags; we name one
 * address of the original direction, its source or its destination.
 */
#include "os/conntrack.h"

#include "base/fd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <string.h>
#include <sys/socket.h>

/* Of the kernel's nf_internals.h: CTA_FILTER_F_CTA_IP_SRC and _DST, not in its exported headers. */
enum { FILTER_IP_SRC = 1 << 0, FILTER_IP_DST = 1 << 1 };

static int exchange(int nl, const struct nlmsghdr *h)
{
	char reply[1024];
	ssize_t n;

	if (send(nl, h, h->nlmsg_len, 0) < 0)
		return -errno;
	do
		n = recv(nl, reply, sizeof(reply), 0);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return mnl_cb_run(reply, (size_t)n, h->nlmsg_seq, 0, NULL, NULL) < 0 ? -errno : 0;
}

static int forget(int nl, uint32_t addr, uint32_t filter)
{
	char buf[512] = { 0 };
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct nlattr *tuple, *ip, *flags;
	struct nfgenmsg *nfg;

	h->nlmsg_type = (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_DELETE;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	h->nlmsg_seq = filter;
	nfg = mnl_nlmsg_put_extra_header(h, sizeof(*nfg));
	nfg->nfgen_family = AF_INET;
	/* without a version, the family would not count */
	nfg->version = 1;
	tuple = mnl_attr_nest_start(h, CTA_TUPLE_ORIG);
	ip = mnl_attr_nest_start(h, CTA_TUPLE_IP);
	mnl_attr_put_u32(h, filter == FILTER_IP_SRC ? CTA_IP_V4_SRC : CTA_IP_V4_DST, htonl(addr));
	mnl_attr_nest_end(h, ip);
	mnl_attr_nest_end(h, tuple);
	flags = mnl_attr_nest_start(h, CTA_FILTER);
	mnl_attr_put_u32(h, CTA_FILTER_ORIG_FLAGS, filter);
	mnl_attr_nest_end(h, flags);
	return exchange(nl, h);
}

int conntrack_forget(uint32_t addr)
{
	auto_close int nl = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	int r;

	if (nl < 0)
		return errno == EPROTONOSUPPORT ? 0 : -errno;
	r = forget(nl, addr, FILTER_IP_SRC);
	if (r == 0)
		r = forget(nl, addr, FILTER_IP_DST);
	/* EINVAL: the module is not there, so nothing is tracked; or the kernel is older than 5.8
	 */
	return r == -EINVAL ? 0 : r;
}
