/* SPDX-License-Identifier: Apache-2.0 */
/* What viv-floor is asked for. */
#pragma once

#include "vmm/vmm.h"

struct floor_options {
	const char *state_dir;
	const char *work_dir; /* on the file system of the state directory */
	const char *agent;
	enum vmm_accel accel;
	uint64_t cpus;
	uint64_t memory_mib;
	uint64_t disk_mib;
	uint64_t boots;
	const char *image; /* directory of a checkpoint; NULL = boot */
	const char *shim;
	uint64_t parallel;
	uint64_t save_mib;
	bool save;
	bool resume; /* it goes on, instead of becoming another one */
};

/** floor_options_read() - from the command line, over what @o has; borrows. Return: 0; -EINVAL */
must_check int floor_options_read(int argc, char **argv, struct floor_options *o);
