/* SPDX-License-Identifier: Apache-2.0 */
/* `vivd doctor`: the doctor where no daemon runs. */
#pragma once

#include "sandbox/doctor.h"

struct doctor_command {
	struct doctor_request request;
	bool json;
};

/** doctor_command() - look, fix if asked to, and print the report on stdout.
 * Return: the exit code of doctor_report_code(); -errno with @e set */
must_check int doctor_command(const struct manager_config *config,
			      const struct doctor_command *command, struct err *e);
