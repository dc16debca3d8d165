/* SPDX-License-Identifier: Apache-2.0 */
/* `vivd cert`: a certificate for use on this host. */
#pragma once

#include "daemon/config.h"

/** cert_run() - have viv-tls make a certificate for the setting domain in state_dir, and say what
 * to do with it. Return: 0; -errno with @e set */
must_check int cert_run(const struct config *c, struct err *e);
