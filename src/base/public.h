/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which addresses are of the internet. What a client says where to connect to (a webhook) is asked
 * about here with the address that is connected to, after its name was resolved: a name may mean
 * another one each time.
 */
#pragma once

#include "base/macros.h"

#include <sys/socket.h>

/**
 * address_is_public() - whether an address is one of the internet's
 * @n:		bytes of @addr
 *
 * Not: loopback, private, shared (CGNAT), link-local, multicast, reserved ones, those for
 * documentation and benchmarks, IPv6 outside 2000::/3, and what carries an IPv4 address that is
 * none (v4-mapped, NAT64), or may be delivered to one (6to4, Teredo); any other family.
 */
bool address_is_public(const struct sockaddr *addr, size_t n);

/** address_text_is_public() - the same of an address as text; a name of a host counts as public,
 * but for localhost's */
bool address_text_is_public(const char *host);
