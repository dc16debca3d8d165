/* SPDX-License-Identifier: Apache-2.0 */
#include "os/nft.h"

#include "base/fd.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>
#include <sys/socket.h>

enum { REQUEST_SIZE = 512, REPLY_SIZE = 2048 };

int nft_has_table(int family, const char *name)
{
	auto_close int nl = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	char buf[REQUEST_SIZE] = { 0 };
	char reply[REPLY_SIZE];
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct nfgenmsg *nfg = mnl_nlmsg_put_extra_header(h, sizeof(*nfg));
	ssize_t n;

	if (nl < 0)
		return errno == EPROTONOSUPPORT ? 0 : -errno;
	if (strlen(name) >= NFT_TABLE_MAXNAMELEN)
		return -ENAMETOOLONG;
	h->nlmsg_type = (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETTABLE;
	h->nlmsg_flags = NLM_F_REQUEST;
	nfg->nfgen_family = (uint8_t)family;
	mnl_attr_put_strz(h, NFTA_TABLE_NAME, name);
	if (send(nl, h, h->nlmsg_len, 0) < 0)
		return -errno;
	do
		n = recv(nl, reply, sizeof(reply), 0);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (mnl_cb_run(reply, (size_t)n, 0, 0, NULL, NULL) >= 0)
		return 1;
	/* EINVAL: nftables is not there, so nothing is in it */
	return errno == ENOENT || errno == EINVAL ? 0 : -errno;
}
