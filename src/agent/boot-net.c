/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every sandbox sees the same network: its place in the world is made outside, around it. The
 * gateway's neighbour entry is permanent, so that the first packet needs no ARP answer and a
 * restored sandbox finds the gateway of its new place at once.
 */
#include "agent/boot-internal.h"
#include "base/fd.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static const char eth[] = "eth0";
static const uint32_t guest_addr = 0xa9fe0015;    /* 169.254.0.21 */
static const uint32_t gateway_addr = 0xa9fe0016;  /* 169.254.0.22 */
static const uint32_t network_mask = 0xfffffffcu; /* /30 */
static const unsigned char gateway_mac[6] = { 0x02, 0x76, 0x69, 0x76, 0x00, 0x02 };

static void set_addr(struct sockaddr *out, uint32_t addr)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(addr) };

	memcpy(out, &in, sizeof(in));
}

static int link_up(int s, const char *name)
{
	struct ifreq ifr = { 0 };

	str_copy(ifr.ifr_name, sizeof(ifr.ifr_name), name);
	if (ioctl(s, SIOCGIFFLAGS, &ifr) < 0)
		return -errno;
	ifr.ifr_flags = (short)(ifr.ifr_flags | IFF_UP);
	return ioctl(s, SIOCSIFFLAGS, &ifr) < 0 ? -errno : 0;
}

static int set_address(int s)
{
	struct ifreq ifr = { 0 };

	str_copy(ifr.ifr_name, sizeof(ifr.ifr_name), eth);
	set_addr(&ifr.ifr_addr, guest_addr);
	if (ioctl(s, SIOCSIFADDR, &ifr) < 0)
		return -errno;
	set_addr(&ifr.ifr_netmask, network_mask);
	return ioctl(s, SIOCSIFNETMASK, &ifr) < 0 ? -errno : 0;
}

static int set_neighbour(int s)
{
	struct arpreq arp = { .arp_flags = ATF_PERM | ATF_COM };

	str_copy(arp.arp_dev, sizeof(arp.arp_dev), eth);
	set_addr(&arp.arp_pa, gateway_addr);
	arp.arp_ha.sa_family = ARPHRD_ETHER;
	memcpy(arp.arp_ha.sa_data, gateway_mac, sizeof(gateway_mac));
	return ioctl(s, SIOCSARP, &arp) < 0 ? -errno : 0;
}

static int set_route(int s)
{
	struct rtentry route = { .rt_flags = RTF_UP | RTF_GATEWAY };

	set_addr(&route.rt_dst, INADDR_ANY);
	set_addr(&route.rt_genmask, INADDR_ANY);
	set_addr(&route.rt_gateway, gateway_addr);
	return ioctl(s, SIOCADDRT, &route) < 0 ? -errno : 0;
}

static int set_up_eth(int s, struct err *e)
{
	int r = set_address(s);

	if (r < 0)
		return err_errno(e, -r, "give %s its address", eth);
	r = link_up(s, eth);
	if (r < 0)
		return err_errno(e, -r, "set %s up", eth);
	r = set_neighbour(s);
	if (r < 0)
		return err_errno(e, -r, "note the gateway's hardware address");
	r = set_route(s);
	return r < 0 ? err_errno(e, -r, "set the default route") : 0;
}

int boot_net(bool with_eth, struct err *e)
{
	auto_close int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int r;

	if (s < 0)
		return err_errno(e, errno, "open a network socket");
	r = link_up(s, "lo");
	if (r < 0)
		return err_errno(e, -r, "set lo up");
	return with_eth ? set_up_eth(s, e) : 0;
}
