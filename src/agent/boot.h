/* SPDX-License-Identifier: Apache-2.0 */
/* From the kernel's first process in the initramfs to a root file system in which commands can run.
 */
#pragma once

#include "base/err.h"

/* What the kernel command line says: words that begin with "viv.". */
struct boot_config {
	char root[64]; /* viv.root=/dev/vda: block device of the root file system */
	bool net;      /* viv.net=off: leave eth0 alone */
	bool debug;    /* viv.debug: log more */
	bool probe;    /* viv.probe: say that userspace runs, and end */
};

/**
 * boot_run() - mount, load modules, move into the root disk, bring up the network
 * @out:	filled on success
 *
 * For PID 1, once, with stdin to stderr on the console or closed. Takes the initramfs apart, so
 * there is no way back after a failure but to say why and to power off. Ends with one line of
 * timings on stderr.
 *
 * With viv.probe nothing is done after the modules: neither disk nor network is needed.
 *
 * Return: 0; -errno with @e set.
 */
must_check int boot_run(struct boot_config *out, struct err *e);
