/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/macros.h"

/**
 * stale_reset() - reset the guest's TCP connections to elsewhere, whose other ends know nothing of
 * a VM that was restored; who uses them gets ECONNABORTED at once, and not a hang
 *
 * Connections within the guest stay, and those to the agent, which the host has reset itself.
 * (SOCK_DESTROY of sock_diag(7), module tcp_diag.) Return: 0; -errno.
 */
must_check int stale_reset(void);
