/* SPDX-License-Identifier: Apache-2.0 */
/* The words that the host and the guest agent share. */
#pragma once

enum { GUEST_PORT = 49983 };

/* The console line by which the agent says that it listens; written once per boot, with a newline.
 */
#define GUEST_READY_LINE "viv-agent: ready"

/* What the console line begins with by which the agent says why it cannot go on. */
#define GUEST_FATAL_PREFIX "viv-agent: fatal: "
