/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a guest may go outside: networks that are allowed and denied on top of what no guest ever
 * reaches. To what is in both it may go; to what is in neither, too.
 */
#pragma once

#include "base/err.h"
#include "base/ipv4.h"
#include "base/vec.h"

/* The most networks in a list. */
enum { NET_EGRESS_MAX = 1000 };

VEC_DEFINE(ipv4_nets, struct ipv4_net)

/* Zeroed, it denies nothing. */
struct net_egress {
	struct ipv4_nets allow;
	struct ipv4_nets deny;
};

/** net_egress_done() - free the lists; idempotent */
void net_egress_done(struct net_egress *egress);

/** net_egress_is_open() - whether it denies nothing */
bool net_egress_is_open(const struct net_egress *egress);

/**
 * net_egress_read() - add networks to a list
 * @text:	as in "192.0.2.1 198.51.100.0/24", with one blank between them; "" = none
 *
 * Return: 0; -EINVAL; -E2BIG the list would have more than NET_EGRESS_MAX.
 */
must_check int net_egress_read(struct ipv4_nets *list, const char *text);

/** net_egress_merge() - sort a list and take out what other networks of it contain */
void net_egress_merge(struct ipv4_nets *list);

/**
 * net_never_reached() - whether no guest reaches any address of a network, whatever is allowed:
 * this host, private and shared networks, link-local and metadata addresses, benchmarks,
 * multicast, reserved
 *
 * Return: the range that it is in, static storage; NULL = a guest may reach some of it.
 */
const struct ipv4_net *net_never_reached(const struct ipv4_net *net);
