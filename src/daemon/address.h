/* SPDX-License-Identifier: Apache-2.0 */
/* TCP addresses as they are written in settings: 127.0.0.1:3999, [::1]:3999. */
#pragma once

#include "base/macros.h"

#include <netinet/in.h>

enum { ADDRESS_TEXT_SIZE = INET6_ADDRSTRLEN + 8 };

/* In @u is what bind(2) wants. */
struct address {
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} u;
	socklen_t len;
};

/** address_parse() - read a literal IPv4 or IPv6 address with a port, 0 to 65535. Return: 0;
 * -EINVAL */
must_check int address_parse(const char *text, struct address *out);

/** address_is_loopback() - whether only this machine can reach it */
bool address_is_loopback(const struct address *a);

/** address_port() - its port, 0 to 65535 */
unsigned address_port(const struct address *a);

/** address_print() - the same form as is parsed */
void address_print(const struct address *a, char out[ADDRESS_TEXT_SIZE]);
