/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * libmnl builds the requests and walks the replies; the socket is a plain descriptor, so that it
 * can be made inside a namespace and used from anywhere. A request is answered by one
 * acknowledgement, a dump by any number of messages and an end mark. A dump that ran while the
 * kernel's list changed is marked as such and may have missed an entry: it is collected first and
 * repeated until it is whole, and only then given to the caller, who therefore may change links
 * from its callback. Each call reads its reply to the end, so that a socket is ready for the next
 * request.
 */
#include "os/link.h"

#include "base/str.h"
#include "base/vec.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <stdatomic.h>
#include <sys/socket.h>

enum { REQUEST_SIZE = 1024, REPLY_SIZE = 32768, DUMP_TRIES = 100, ERRNO_MAX = 4095 };

VEC_DEFINE(links, struct link_info)
VEC_DEFINE(addrs, struct link_addr)
VEC_DEFINE(routes, struct link_route)

#define auto_links  cleanup(links_done) struct links
#define auto_addrs  cleanup(addrs_done) struct addrs
#define auto_routes cleanup(routes_done) struct routes

static unsigned next_seq(void)
{
	static atomic_uint seq;

	return atomic_fetch_add(&seq, 1) + 1;
}

static struct nlmsghdr *request(char buf[REQUEST_SIZE], uint16_t type, unsigned flags)
{
	struct nlmsghdr *h;

	memset(buf, 0, REQUEST_SIZE);
	h = mnl_nlmsg_put_header(buf);
	h->nlmsg_type = type;
	h->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	h->nlmsg_seq = next_seq();
	return h;
}

/*
 * Look at the frames of a reply before libmnl does, which takes a length of 2 GiB for a negative
 * one. And note and take off a dump's mark of interruption: libmnl would stop there, and the rest
 * of the dump would be read as the answer to the next request.
 */
static int check_frames(char *reply, size_t n, bool *interrupted)
{
	while (n >= sizeof(struct nlmsghdr)) {
		struct nlmsghdr *h = (void *)reply;
		size_t step;

		if (h->nlmsg_len < sizeof(*h) || h->nlmsg_len > n)
			return -EPROTO;
		*interrupted |= (h->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
		h->nlmsg_flags &= (uint16_t)~NLM_F_DUMP_INTR;
		step = MIN(MNL_ALIGN(h->nlmsg_len), n);
		reply += step;
		n -= step;
	}
	return 0;
}

/* Returns 0 at the end of the reply; the kernel's -errno; -EINTR for a dump that must be repeated.
 */
static int exchange(int nl, const struct nlmsghdr *h, mnl_cb_t cb, void *arg)
{
	auto_free char *reply = xcalloc(1, REPLY_SIZE);
	bool interrupted = false;
	ssize_t n;
	int r;

	if (send(nl, h, h->nlmsg_len, MSG_NOSIGNAL) < 0)
		return -errno;
	do {
		do
			n = recv(nl, reply, REPLY_SIZE, MSG_TRUNC);
		while (n < 0 && errno == EINTR);
		if (n < 0)
			return -errno;
		if (n == 0 || n > REPLY_SIZE)
			return -EPROTO;
		r = check_frames(reply, (size_t)n, &interrupted);
		if (r < 0)
			return r;
		r = mnl_cb_run(reply, (size_t)n, h->nlmsg_seq, 0, cb, arg);
	} while (r > MNL_CB_STOP);
	if (r >= 0)
		return interrupted ? -EINTR : 0;
	return errno > 0 && errno <= ERRNO_MAX ? -errno : -EPROTO;
}

static int change(int nl, struct nlmsghdr *h)
{
	return exchange(nl, h, NULL, NULL);
}

static struct nlmsghdr *link_request(char buf[REQUEST_SIZE], uint16_t type, unsigned flags,
				     const char *name)
{
	struct nlmsghdr *h = request(buf, type, NLM_F_ACK | flags);

	mnl_nlmsg_put_extra_header(h, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(h, IFLA_IFNAME, name);
	return h;
}

int link_add_veth(int nl, const char *name, const char *peer, int peer_netns_fd)
{
	char buf[REQUEST_SIZE];
	struct nlattr *info, *data, *other;
	struct nlmsghdr *h;

	if (strlen(name) >= IFNAMSIZ || strlen(peer) >= IFNAMSIZ)
		return -ENAMETOOLONG;
	h = link_request(buf, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, name);
	info = mnl_attr_nest_start(h, IFLA_LINKINFO);
	mnl_attr_put_strz(h, IFLA_INFO_KIND, "veth");
	data = mnl_attr_nest_start(h, IFLA_INFO_DATA);
	other = mnl_attr_nest_start(h, VETH_INFO_PEER);
	mnl_nlmsg_put_extra_header(h, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(h, IFLA_IFNAME, peer);
	mnl_attr_put_u32(h, IFLA_NET_NS_FD, (uint32_t)peer_netns_fd);
	mnl_attr_nest_end(h, other);
	mnl_attr_nest_end(h, data);
	mnl_attr_nest_end(h, info);
	return change(nl, h);
}

int link_delete(int nl, const char *name)
{
	char buf[REQUEST_SIZE];

	if (strlen(name) >= IFNAMSIZ)
		return -ENAMETOOLONG;
	return change(nl, link_request(buf, RTM_DELLINK, 0, name));
}

int link_set_up(int nl, const char *name)
{
	char buf[REQUEST_SIZE];
	struct nlmsghdr *h;
	struct ifinfomsg *ifi;

	if (strlen(name) >= IFNAMSIZ)
		return -ENAMETOOLONG;
	h = link_request(buf, RTM_NEWLINK, 0, name);
	ifi = mnl_nlmsg_get_payload(h);
	ifi->ifi_flags = IFF_UP;
	ifi->ifi_change = IFF_UP;
	return change(nl, h);
}

int link_set_alias(int nl, const char *name, const char *alias)
{
	char buf[REQUEST_SIZE];
	struct nlmsghdr *h;

	if (strlen(name) >= IFNAMSIZ || strlen(alias) >= sizeof(((struct link_info *)0)->alias))
		return -ENAMETOOLONG;
	h = link_request(buf, RTM_NEWLINK, 0, name);
	mnl_attr_put(h, IFLA_IFALIAS, strlen(alias), alias);
	return change(nl, h);
}

struct find {
	const char *name;
	int index;
};

static int find_index_cb(const struct nlmsghdr *h, void *arg)
{
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(h);
	struct find *find = arg;

	if (h->nlmsg_type == RTM_NEWLINK && mnl_nlmsg_get_payload_len(h) >= sizeof(*ifi))
		find->index = ifi->ifi_index;
	return MNL_CB_OK;
}

/* The index of a link in the namespace of the socket, which is not the caller's: no
 * if_nametoindex(). */
static int link_index(int nl, const char *name)
{
	char buf[REQUEST_SIZE];
	struct find find = { .name = name };
	int r;

	if (strlen(name) >= IFNAMSIZ)
		return -ENAMETOOLONG;
	r = exchange(nl, link_request(buf, RTM_GETLINK, 0, name), find_index_cb, &find);
	if (r < 0)
		return r;
	return find.index > 0 ? find.index : -ENODEV;
}

int link_sync(int nl, const char *name)
{
	/* to answer for a single link the kernel brings its state up to date */
	int index = link_index(nl, name);

	return index < 0 ? index : 0;
}

int link_add_addr(int nl, const char *name, uint32_t addr, unsigned prefix_len)
{
	char buf[REQUEST_SIZE];
	int index = link_index(nl, name);
	struct nlmsghdr *h;
	struct ifaddrmsg *ifa;

	if (index < 0)
		return index;
	h = request(buf, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
	ifa = mnl_nlmsg_put_extra_header(h, sizeof(*ifa));
	ifa->ifa_family = AF_INET;
	ifa->ifa_prefixlen = (uint8_t)prefix_len;
	ifa->ifa_index = (unsigned)index;
	mnl_attr_put_u32(h, IFA_LOCAL, htonl(addr));
	mnl_attr_put_u32(h, IFA_ADDRESS, htonl(addr));
	return change(nl, h);
}

int link_add_neigh(int nl, const char *name, uint32_t addr, const unsigned char mac[6])
{
	char buf[REQUEST_SIZE];
	int index = link_index(nl, name);
	struct nlmsghdr *h;
	struct ndmsg *nd;

	if (index < 0)
		return index;
	h = request(buf, RTM_NEWNEIGH, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE);
	nd = mnl_nlmsg_put_extra_header(h, sizeof(*nd));
	nd->ndm_family = AF_INET;
	nd->ndm_ifindex = index;
	nd->ndm_state = NUD_PERMANENT;
	mnl_attr_put_u32(h, NDA_DST, htonl(addr));
	mnl_attr_put(h, NDA_LLADDR, 6, mac);
	return change(nl, h);
}

int link_add_default_route(int nl, uint32_t gateway)
{
	char buf[REQUEST_SIZE];
	struct nlmsghdr *h = request(buf, RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
	struct rtmsg *rt = mnl_nlmsg_put_extra_header(h, sizeof(*rt));

	rt->rtm_family = AF_INET;
	rt->rtm_table = RT_TABLE_MAIN;
	rt->rtm_protocol = RTPROT_STATIC;
	rt->rtm_scope = RT_SCOPE_UNIVERSE;
	rt->rtm_type = RTN_UNICAST;
	mnl_attr_put_u32(h, RTA_GATEWAY, htonl(gateway));
	return change(nl, h);
}

/* The payload behind a message's fixed part of @size; NULL when the message is of another type or
 * short. */
static const void *message(const struct nlmsghdr *h, uint16_t type, size_t size)
{
	if (h->nlmsg_type != type || mnl_nlmsg_get_payload_len(h) < size)
		return NULL;
	return mnl_nlmsg_get_payload(h);
}

static void copy_text(char *dst, size_t size, const struct nlattr *attr)
{
	size_t n = strnlen(mnl_attr_get_payload(attr), mnl_attr_get_payload_len(attr));

	n = MIN(n, size - 1);
	memcpy(dst, mnl_attr_get_payload(attr), n);
	dst[n] = '\0';
}

/* An attribute of four bytes; @fallback when it has another size. */
static uint32_t get_u32(const struct nlattr *attr, uint32_t fallback)
{
	return mnl_attr_get_payload_len(attr) == sizeof(uint32_t) ? mnl_attr_get_u32(attr)
								  : fallback;
}

static int link_attr(const struct nlattr *attr, void *arg)
{
	struct link_info *link = arg;

	if (mnl_attr_get_type(attr) == IFLA_IFNAME)
		copy_text(link->name, sizeof(link->name), attr);
	else if (mnl_attr_get_type(attr) == IFLA_IFALIAS)
		copy_text(link->alias, sizeof(link->alias), attr);
	return MNL_CB_OK;
}

static int links_cb(const struct nlmsghdr *h, void *arg)
{
	const struct ifinfomsg *ifi = message(h, RTM_NEWLINK, sizeof(*ifi));
	struct link_info link = { 0 };

	if (ifi == NULL)
		return MNL_CB_OK;
	link.index = ifi->ifi_index;
	link.up = (ifi->ifi_flags & IFF_UP) != 0;
	mnl_attr_parse(h, sizeof(*ifi), link_attr, &link);
	links_push(arg, link);
	return MNL_CB_OK;
}

static int addr_attr(const struct nlattr *attr, void *arg)
{
	struct link_addr *addr = arg;

	if (mnl_attr_get_type(attr) == IFA_LOCAL)
		addr->addr = ntohl(get_u32(attr, 0));
	return MNL_CB_OK;
}

static int addrs_cb(const struct nlmsghdr *h, void *arg)
{
	const struct ifaddrmsg *ifa = message(h, RTM_NEWADDR, sizeof(*ifa));
	struct link_addr addr = { 0 };

	if (ifa == NULL || ifa->ifa_family != AF_INET || ifa->ifa_prefixlen > 32)
		return MNL_CB_OK;
	addr.index = (int)ifa->ifa_index;
	addr.prefix_len = ifa->ifa_prefixlen;
	mnl_attr_parse(h, sizeof(*ifa), addr_attr, &addr);
	addrs_push(arg, addr);
	return MNL_CB_OK;
}

struct route_reply {
	struct link_route route;
	uint32_t table;
};

static int route_attr(const struct nlattr *attr, void *arg)
{
	struct route_reply *reply = arg;

	if (mnl_attr_get_type(attr) == RTA_TABLE)
		reply->table = get_u32(attr, reply->table);
	else if (mnl_attr_get_type(attr) == RTA_DST)
		reply->route.dst = ntohl(get_u32(attr, 0));
	else if (mnl_attr_get_type(attr) == RTA_OIF)
		reply->route.index = (int)get_u32(attr, 0);
	return MNL_CB_OK;
}

static int routes_cb(const struct nlmsghdr *h, void *arg)
{
	const struct rtmsg *rt = message(h, RTM_NEWROUTE, sizeof(*rt));
	struct route_reply reply = { 0 };

	if (rt == NULL || rt->rtm_family != AF_INET || rt->rtm_dst_len > 32 ||
	    (rt->rtm_flags & RTM_F_CLONED) != 0)
		return MNL_CB_OK;
	reply.table = rt->rtm_table;
	reply.route.prefix_len = rt->rtm_dst_len;
	reply.route.usable = rt->rtm_type == RTN_UNICAST;
	mnl_attr_parse(h, sizeof(*rt), route_attr, &reply);
	if (reply.table != RT_TABLE_LOCAL)
		routes_push(arg, reply.route);
	return MNL_CB_OK;
}

static int dump_links(int nl, struct links *out)
{
	char buf[REQUEST_SIZE];
	int r = -EINTR;

	for (int i = 0; i < DUMP_TRIES && r == -EINTR; i++) {
		struct nlmsghdr *h = request(buf, RTM_GETLINK, NLM_F_DUMP);

		mnl_nlmsg_put_extra_header(h, sizeof(struct ifinfomsg));
		mnl_attr_put_u32(h, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
		out->n = 0;
		r = exchange(nl, h, links_cb, out);
	}
	return r;
}

static int dump_addrs(int nl, struct addrs *out)
{
	char buf[REQUEST_SIZE];
	int r = -EINTR;

	for (int i = 0; i < DUMP_TRIES && r == -EINTR; i++) {
		struct nlmsghdr *h = request(buf, RTM_GETADDR, NLM_F_DUMP);
		struct ifaddrmsg *ifa = mnl_nlmsg_put_extra_header(h, sizeof(*ifa));

		ifa->ifa_family = AF_INET;
		out->n = 0;
		r = exchange(nl, h, addrs_cb, out);
	}
	return r;
}

static int dump_routes(int nl, struct routes *out)
{
	char buf[REQUEST_SIZE];
	int r = -EINTR;

	for (int i = 0; i < DUMP_TRIES && r == -EINTR; i++) {
		struct nlmsghdr *h = request(buf, RTM_GETROUTE, NLM_F_DUMP);
		struct rtmsg *rt = mnl_nlmsg_put_extra_header(h, sizeof(*rt));

		rt->rtm_family = AF_INET;
		out->n = 0;
		r = exchange(nl, h, routes_cb, out);
	}
	return r;
}

int link_list(int nl, int (*fn)(const struct link_info *link, void *arg), void *arg)
{
	auto_links found = { 0 };
	int r = dump_links(nl, &found);

	for (size_t i = 0; i < found.n && r >= 0; i++)
		r = fn(&found.at[i], arg);
	return r < 0 ? r : 0;
}

int link_list_addrs(int nl, int (*fn)(const struct link_addr *addr, void *arg), void *arg)
{
	auto_addrs found = { 0 };
	int r = dump_addrs(nl, &found);

	for (size_t i = 0; i < found.n && r >= 0; i++)
		r = fn(&found.at[i], arg);
	return r < 0 ? r : 0;
}

int link_list_routes(int nl, int (*fn)(const struct link_route *route, void *arg), void *arg)
{
	auto_routes found = { 0 };
	int r = dump_routes(nl, &found);

	for (size_t i = 0; i < found.n && r >= 0; i++)
		r = fn(&found.at[i], arg);
	return r < 0 ? r : 0;
}

int link_has_default_route(int nl)
{
	auto_routes found = { 0 };
	int r = dump_routes(nl, &found);

	if (r < 0)
		return r;
	for (size_t i = 0; i < found.n; i++)
		if (found.at[i].prefix_len == 0 && found.at[i].usable)
			return 1;
	return 0;
}
