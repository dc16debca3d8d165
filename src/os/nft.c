/* SPDX-License-Identifier: Apache-2.0 */
#include "os/nft.h"

#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <sys/socket.h>

enum { REQUEST_SIZE = 512, REPLY_SIZE = 8192 };

/* The type of a comment among what nft(8) keeps beside a rule: type, length, value, each a byte
 * but the value. The kernel does not look at it. */
enum { USERDATA_COMMENT = 0, USERDATA_HEAD = 2 };

static struct nlmsghdr *request(char buf[REQUEST_SIZE], unsigned type, unsigned flags, int family)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct nfgenmsg *nfg = mnl_nlmsg_put_extra_header(h, sizeof(*nfg));

	h->nlmsg_type = (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type);
	h->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	nfg->nfgen_family = (uint8_t)family;
	return h;
}

/* Calls @fn for each message of the answer. Return: 0; -errno: also -ENOENT, and -EINVAL when
 * nftables is not there. */
static int ask(int nl, const struct nlmsghdr *h, mnl_cb_t fn, void *arg)
{
	char reply[REPLY_SIZE];
	ssize_t n;
	int r;

	if (send(nl, h, h->nlmsg_len, 0) < 0)
		return -errno;
	do {
		do
			n = recv(nl, reply, sizeof(reply), 0);
		while (n < 0 && errno == EINTR);
		if (n < 0)
			return -errno;
		r = mnl_cb_run(reply, (size_t)n, 0, 0, fn, arg);
	} while (r > MNL_CB_STOP && (h->nlmsg_flags & NLM_F_DUMP) != 0);
	return r < 0 ? -errno : 0;
}

int nft_has_table(int family, const char *name)
{
	auto_close int nl = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	char buf[REQUEST_SIZE] = { 0 };
	struct nlmsghdr *h = request(buf, NFT_MSG_GETTABLE, 0, family);
	int r;

	if (nl < 0)
		return errno == EPROTONOSUPPORT ? 0 : -errno;
	if (strlen(name) >= NFT_TABLE_MAXNAMELEN)
		return -ENAMETOOLONG;
	mnl_attr_put_strz(h, NFTA_TABLE_NAME, name);
	r = ask(nl, h, NULL, NULL);
	if (r == 0)
		return 1;
	/* EINVAL: nftables is not there, so nothing is in it */
	return r == -ENOENT || r == -EINVAL ? 0 : r;
}

struct comment {
	char *out;
	size_t size;
};

static void find_comment(const struct nlattr *userdata, const struct comment *comment)
{
	const unsigned char *p = mnl_attr_get_payload(userdata);
	size_t n = mnl_attr_get_payload_len(userdata);

	while (n >= USERDATA_HEAD && n - USERDATA_HEAD >= p[1]) {
		size_t len = p[1];

		if (p[0] == USERDATA_COMMENT && len > 0 && p[USERDATA_HEAD + len - 1] == '\0') {
			str_copy(comment->out, comment->size, (const char *)p + USERDATA_HEAD);
			return;
		}
		p += USERDATA_HEAD + len;
		n -= USERDATA_HEAD + len;
	}
}

static int on_attribute(const struct nlattr *attr, void *arg)
{
	struct comment *comment = arg;

	if (comment->out[0] == '\0' && mnl_attr_get_type(attr) == NFTA_RULE_USERDATA)
		find_comment(attr, comment);
	return MNL_CB_OK;
}

static int on_rule(const struct nlmsghdr *h, void *arg)
{
	return mnl_attr_parse(h, sizeof(struct nfgenmsg), on_attribute, arg);
}

int nft_rule_comment(int family, const char *table, const char *chain, char *out, size_t size)
{
	auto_close int nl = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	struct comment comment = { .out = out, .size = size };
	char buf[REQUEST_SIZE] = { 0 };
	struct nlmsghdr *h = request(buf, NFT_MSG_GETRULE, NLM_F_DUMP, family);
	int r;

	out[0] = '\0';
	if (nl < 0)
		return errno == EPROTONOSUPPORT ? 0 : -errno;
	if (strlen(table) >= NFT_TABLE_MAXNAMELEN || strlen(chain) >= NFT_CHAIN_MAXNAMELEN)
		return -ENAMETOOLONG;
	mnl_attr_put_strz(h, NFTA_RULE_TABLE, table);
	mnl_attr_put_strz(h, NFTA_RULE_CHAIN, chain);
	r = ask(nl, h, on_rule, &comment);
	return r == -ENOENT || r == -EINVAL ? 0 : r;
}
