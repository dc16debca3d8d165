/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's table of tracked connections. */
#pragma once

#include "base/macros.h"

/**
 * conntrack_forget() - drop what is tracked of an address in the caller's namespace
 * @addr:	IPv4, host byte order
 *
 * All connections that it began or that were begun to it. Blocks for the kernel's answer only.
 * Return: 0 (also without connection tracking); -errno.
 */
must_check int conntrack_forget(uint32_t addr);
