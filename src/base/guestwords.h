/* SPDX-License-Identifier: Apache-2.0 */
/* The words that the host and the guest agent share. */
#pragma once

enum { GUEST_PORT = 49983 };

/* Where the agent makes a connection one to a port of the guest's loopback, and what its Upgrade
 * header says; the port's number follows. */
#define GUEST_LOOPBACK_PATH     "/loopback"
#define GUEST_LOOPBACK_PROTOCOL "tcp"

/* The console line by which the agent says that it listens; written once per boot, with a newline.
 */
#define GUEST_READY_LINE "viv-agent: ready"

/* What the console line begins with by which the agent says why it cannot go on. */
#define GUEST_FATAL_PREFIX "viv-agent: fatal: "
