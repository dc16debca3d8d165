/* SPDX-License-Identifier: Apache-2.0 */
/* The end of the guest; for PID 1 only. */
#pragma once

/** power_end() - end all processes, make the disks clean, end the VM */
_Noreturn void power_end(void);

/** power_fatal() - say on the console why the agent cannot go on, then end the VM */
_Noreturn void power_fatal(const char *why);

/** power_say() - write a line, which ends in a newline, to the console */
void power_say(const char *line);
