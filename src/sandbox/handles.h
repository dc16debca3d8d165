/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handles.json in a sandbox's run directory: what is currently true of it, as a hint for people and
 * for speed. Whatever it says is checked against the kernel; a missing, stale or corrupt one
 * changes nothing but time.
 */
#pragma once

#include "base/macros.h"

#include <sys/types.h>

enum { HANDLES_MAX_BYTES = 65536 };

/* "" and 0 = not set. */
struct handles {
	pid_t pid;           /* of the VMM */
	uint64_t start_time; /* field 22 of /proc/PID/stat: with the pid, it names a process for
				ever */
	char boot_id[40];    /* of the host's boot that all of this belongs to */
	char netns[64];
	char tap[16];
	char cgroup[64];
	char base_loop[32];
	char cow_loop[32];
	char dm_name[128];
	char dm_device[32];
};

#define HANDLES_INIT                                                                               \
	{                                                                                          \
		.pid = 0                                                                           \
	}

/** handles_complete() - fill in start_time of the pid and boot_id from /proc */
void handles_complete(struct handles *h);

/** handles_write() - write handles.json into a run directory (renamed into place). Return: 0;
 * -errno */
must_check int handles_write(int run_dirfd, const struct handles *h);

/** handles_parse() - read the text of a handles.json; unknown keys and values of a wrong type are
 * left out. Return: 0; -EBADMSG not a JSON object */
must_check int handles_parse(const char *text, size_t n, struct handles *out);

/** handles_read() - read handles.json of a run directory. Return: 0; -ENOENT missing, too large or
 * corrupt */
must_check int handles_read(int run_dirfd, struct handles *out);
