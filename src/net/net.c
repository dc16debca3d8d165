/* SPDX-License-Identifier: Apache-2.0 */
#include "net/net-internal.h"

#include "base/fd.h"
#include "base/parse.h"
#include "base/str.h"
#include "os/link.h"
#include "os/netns.h"

#include <errno.h>
#include <stdlib.h>

enum { NFT_TIMEOUT_MS = 10000 };

/* "<prefix>7": 7; but neither "07" nor "512". */
static int number_of(const char *name, const char *prefix)
{
	uint64_t n;

	if (!str_starts(name, prefix))
		return -1;
	name += strlen(prefix);
	if (name[0] == '0' && name[1] != '\0')
		return -1;
	return parse_u64(name, 0, NET_SLOTS_MAX - 1, &n) < 0 ? -1 : (int)n;
}

int net_link_number(const struct net *net, const char *link)
{
	return number_of(link, net->link_prefix);
}

int net_netns_number(const struct net *net, const char *netns)
{
	return number_of(netns, net->netns_prefix);
}

bool net_slot_named(const struct net *net, const char *name)
{
	return net_link_number(net, name) >= 0 || net_netns_number(net, name) >= 0;
}

static void name_links(struct net *net, const struct instance_tag *tag)
{
	net->block_fd = -1;
	net->tag = *tag;
	/* both fit: a tag has four characters */
	ignore_err(str_fit(net->link_prefix, sizeof(net->link_prefix), "viv%s-", tag->s));
	ignore_err(str_fit(net->netns_prefix, sizeof(net->netns_prefix), "viv-%s-", tag->s));
}

struct net *net_open_remains(const struct instance_tag *tag, uint32_t block)
{
	struct net *net = xcalloc(1, sizeof(*net));

	name_links(net, tag);
	net->block = block;
	return net;
}

static void close_net(struct net **net)
{
	net_close(*net);
}

int net_open(const struct net_config *config, struct net **out, struct err *e)
{
	cleanup(close_net) struct net *net = xcalloc(1, sizeof(*net));
	auto_close int nl = netns_rtnl(-1);
	struct op op;
	int r;

	name_links(net, &config->tag);
	net->pool_size = config->pool_size;
	if (nl < 0)
		return err_errno(e, -nl, "open an rtnetlink socket");
	r = net_block_take(net, config, nl, e);
	if (r < 0)
		return r;
	op_init(&op, NFT_TIMEOUT_MS, -1);
	r = net_host_setup(net, &op);
	if (r == 0)
		r = net_host_check(net, nl, &op);
	if (r < 0) {
		*e = op.err;
		return r;
	}
	*out = take_ptr(&net);
	return 0;
}

uint32_t net_block(const struct net *net)
{
	return net->block;
}

void net_close(struct net *net)
{
	if (net == NULL)
		return;
	fd_close(&net->block_fd);
	free(net);
}

struct leftover {
	const struct net *net;
	bool found;
};

static int check_link(const struct link_info *link, void *arg)
{
	struct leftover *leftover = arg;

	leftover->found |= net_link_number(leftover->net, link->name) >= 0;
	return 0;
}

int net_teardown(struct net *net, struct err *e)
{
	struct leftover leftover = { .net = net };
	auto_close int nl = netns_rtnl(-1);
	struct op op;
	int r = nl < 0 ? nl : link_list(nl, check_link, &leftover);

	if (r < 0)
		return err_errno(e, -r, "list the links of instance %s", net->tag.s);
	if (leftover.found)
		return 0;
	op_init(&op, NFT_TIMEOUT_MS, -1);
	r = net_host_remove(net, &op);
	if (r < 0)
		*e = op.err;
	return r;
}
