/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A block is 1024 addresses of a range that all instances on a host share. Who holds it is asked of
 * the kernel only: while a daemon lives it has the abstract socket "vivarium-net-<block>" bound,
 * and while its slots live the block's addresses are on links that carry its tag. The socket is
 * bound first, so of two daemons that start together one sees the other.
 *
 * An instance that has slots stays in their block: the slots' addresses follow from it. Otherwise
 * the block of the last time is taken, or else the first that is free. Free is what no one holds
 * and what overlaps with no address and no route of the host: a sandbox in the range of the host's
 * own network would hide a part of it. Routes shorter than /8 are default routes in parts (VPNs
 * split 0/0).
 */
#include "net/net-internal.h"

#include "base/fd.h"
#include "base/str.h"
#include "base/vec.h"
#include "os/link.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { DEFAULT_ROUTE_MAX = 7 };

struct network {
	uint32_t addr;
	unsigned prefix_len;
};

VEC_DEFINE(networks, struct network)
VEC_DEFINE(indices, int)

struct survey {
	const struct net *net;
	struct indices own;     /* our slots' links */
	struct networks others; /* what the host uses besides */
	uint32_t own_block;     /* where our slots are; 0 = we have none */
};

static void survey_done(struct survey *survey)
{
	indices_done(&survey->own);
	networks_done(&survey->others);
}

static int survey_link(const struct link_info *link, void *arg)
{
	struct survey *survey = arg;

	if (net_link_number(survey->net, link->name) >= 0)
		indices_push(&survey->own, link->index);
	return 0;
}

static bool is_own(const struct survey *survey, int index)
{
	for (size_t i = 0; i < survey->own.n; i++)
		if (survey->own.at[i] == index)
			return true;
	return false;
}

static int survey_addr(const struct link_addr *addr, void *arg)
{
	struct survey *survey = arg;

	if (is_own(survey, addr->index))
		survey->own_block = addr->addr & ~(uint32_t)(NET_BLOCK_SIZE - 1);
	else
		networks_push(&survey->others, (struct network){ addr->addr, addr->prefix_len });
	return 0;
}

static int survey_route(const struct link_route *route, void *arg)
{
	struct survey *survey = arg;

	if (route->prefix_len > DEFAULT_ROUTE_MAX && !is_own(survey, route->index))
		networks_push(&survey->others, (struct network){ route->dst, route->prefix_len });
	return 0;
}

static int survey_host(struct survey *survey, int nl)
{
	int r = link_list(nl, survey_link, survey);

	if (r == 0)
		r = link_list_addrs(nl, survey_addr, survey);
	if (r == 0)
		r = link_list_routes(nl, survey_route, survey);
	return r;
}

/* The widest network that overlaps with a block; NULL = none. */
static const struct network *find_overlap(const struct survey *survey, uint32_t block)
{
	const struct network *widest = NULL;

	for (size_t i = 0; i < survey->others.n; i++) {
		const struct network *other = &survey->others.at[i];
		unsigned common = MIN(other->prefix_len, 32U - NET_BLOCK_BITS);

		if (common != 0 && (other->addr ^ block) >> (32 - common) != 0)
			continue;
		if (widest == NULL || other->prefix_len < widest->prefix_len)
			widest = other;
	}
	return widest;
}

/* Return: 0; -EADDRINUSE another daemon has it; -errno */
static int hold(struct net *net, uint32_t block)
{
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	socklen_t len;
	int r;

	if (fd < 0)
		return -errno;
	/* sun_path[0] stays 0: an abstract name, which goes with the socket */
	r = str_fit(sun.sun_path + 1, sizeof(sun.sun_path) - 1, "vivarium-net-" IPV4_FMT,
		    IPV4_ARG(block));
	if (r < 0)
		return r;
	len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(sun.sun_path + 1));
	if (bind(fd, (const struct sockaddr *)&sun, len) < 0)
		return -errno;
	net->block = block;
	net->block_fd = take_fd(&fd);
	return 0;
}

/* Hold a block unless the host or another instance uses it. Return: 0; 1 it is not free; -errno */
static int try_block(struct net *net, uint32_t block, int nl)
{
	cleanup(survey_done) struct survey survey = { .net = net };
	int r = hold(net, block);

	if (r == -EADDRINUSE)
		return 1;
	if (r == 0)
		r = survey_host(&survey, nl);
	if (r == 0 && find_overlap(&survey, block) != NULL)
		r = 1;
	if (r != 0)
		fd_close(&net->block_fd);
	return r;
}

static int keep_block(struct net *net, uint32_t block, struct err *e)
{
	int r = hold(net, block);

	if (r == -EADDRINUSE)
		return err_set(
			e, ERR_CONFLICT,
			"the sandboxes of this state directory have their addresses in " IPV4_FMT
			"/%d, which another vivd holds: end that one, or all of these sandboxes",
			IPV4_ARG(block), 32 - NET_BLOCK_BITS);
	if (r < 0)
		return err_errno(e, -r, "hold address block " IPV4_FMT, IPV4_ARG(block));
	return 0;
}

static int no_block(const struct net_config *config, const struct survey *survey, struct err *e)
{
	const struct network *other = find_overlap(survey, config->range_addr);
	char why[64] = "other instances of vivd hold them";

	if (other != NULL)
		ignore_err(str_fit(why, sizeof(why), "the host uses " IPV4_FMT "/%u",
				   IPV4_ARG(other->addr), other->prefix_len)); /* it fits */
	return err_set(e, ERR_EXHAUSTED,
		       "all address blocks of " IPV4_FMT
		       "/%u are taken (%s): set network_range to a "
		       "range that is free on this host",
		       IPV4_ARG(config->range_addr), config->range_prefix, why);
}

static int choose_block(struct net *net, const struct net_config *config, int nl, struct err *e)
{
	cleanup(survey_done) struct survey survey = { .net = net };
	unsigned blocks = 1U << (32 - NET_BLOCK_BITS - config->range_prefix);
	unsigned hint = (config->block_hint - config->range_addr) >> NET_BLOCK_BITS;
	int r = survey_host(&survey, nl);

	if (r < 0)
		return err_errno(e, -r, "list the host's addresses and routes");
	if (survey.own_block != 0)
		return keep_block(net, survey.own_block, e);
	if (config->block_hint == 0 || hint >= blocks)
		hint = 0;
	for (unsigned i = 0; i < blocks; i++) {
		/* the hint first, then the others in their order */
		unsigned number = i == 0 ? hint : i <= hint ? i - 1 : i;
		uint32_t block = config->range_addr + number * NET_BLOCK_SIZE;

		if (find_overlap(&survey, block) != NULL)
			continue;
		r = try_block(net, block, nl);
		if (r < 0)
			return err_errno(e, -r, "hold address block " IPV4_FMT, IPV4_ARG(block));
		if (r == 0)
			return 0;
	}
	return no_block(config, &survey, e);
}

int net_block_take(struct net *net, const struct net_config *config, int nl, struct err *e)
{
	struct net_config c = *config;

	if (c.range_prefix < 8 || c.range_prefix > 32 - NET_BLOCK_BITS)
		return err_set(
			e, ERR_INVALID,
			"network_range " IPV4_FMT
			"/%u: a range between /8 and /%d is needed, of %d addresses for each "
			"instance",
			IPV4_ARG(c.range_addr), c.range_prefix, 32 - NET_BLOCK_BITS,
			NET_BLOCK_SIZE);
	c.range_addr &= ~(uint32_t)0 << (32 - c.range_prefix);
	return choose_block(net, &c, nl, e);
}
