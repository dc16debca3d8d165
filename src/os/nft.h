/* SPDX-License-Identifier: Apache-2.0 */
/* nftables, as far as a look at them goes; rules are written by nft(8). */
#pragma once

#include "base/macros.h"

/**
 * nft_has_table() - whether the caller's network namespace has a table
 * @family:	NFPROTO_INET and so on
 *
 * Blocks for the kernel's answer only. Return: 1; 0; -errno.
 */
must_check int nft_has_table(int family, const char *name);

/**
 * nft_rule_comment() - the first comment of a chain's rules, in the caller's network namespace
 * @family:	NFPROTO_INET and so on
 * @out:	array of @size bytes; "" when there is no such chain or comment; a longer one is cut
 *
 * Blocks for the kernel's answer only. Return: 0; -errno.
 */
must_check int nft_rule_comment(int family, const char *table, const char *chain, char *out,
				size_t size);
