/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Named network namespaces, in /run/netns as iproute2 has them (so `ip netns` shows ours). setns(2)
 * never happens on a thread that lives on: sockets and taps are opened inside a namespace by a
 * short-lived helper thread and used from anywhere (passt's way).
 */
#pragma once

#include "base/err.h"

/** netns_create() - make a namespace with its loopback up. Return: 0; -EEXIST; -errno, @e set */
must_check int netns_create(const char *name, struct err *e);

/** netns_open() - open a namespace. Return: descriptor, caller owns; -ENOENT absent or no namespace
 * (a leftover file after a reboot); -errno */
must_check int netns_open(const char *name);

/** netns_delete() - remove a namespace and its leftover file. Return: 0 (also if absent); -errno */
must_check int netns_delete(const char *name);

/** netns_list() - call @fn for each name in /run/netns; ends at the first that returns < 0 */
must_check int netns_list(int (*fn)(const char *name, void *arg), void *arg);

/**
 * netns_call() - run a function inside a namespace, on a helper thread that ends with it
 * @fn:		returns >= 0 or -errno
 *
 * Return: what @fn returned; -errno.
 */
must_check int netns_call(int netns_fd, int (*fn)(void *arg), void *arg);

/** netns_rtnl() - an rtnetlink socket inside a namespace (-1 = the caller's). Return: descriptor,
 * caller owns; -errno */
must_check int netns_rtnl(int netns_fd);

/**
 * netns_tap() - make a tap device inside a namespace
 * @name:	device name
 * @mac:	six bytes for the host's side of it
 *
 * IFF_TAP | IFF_NO_PI | IFF_VNET_HDR. Not persistent: it goes when the last descriptor closes.
 * Return: descriptor, caller owns; -errno.
 */
must_check int netns_tap(int netns_fd, const char *name, const unsigned char mac[6]);
