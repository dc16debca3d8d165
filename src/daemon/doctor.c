/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/doctor.h"

#include "api/doctor-view.h"
#include "base/str.h"

#include <errno.h>
#include <stdio.h>

static int print(const struct doctor_report *report, bool json, struct err *e)
{
	auto_json *value = json ? doctor_json(report) : NULL;
	auto_free char *text = json ? json_dumps(value, JSON_INDENT(2)) : doctor_text(report);

	if (text == NULL)
		return err_errno(e, ENOMEM, "write the report");
	if (fprintf(stdout, "%s%s", text, json ? "\n" : "") < 0 || fflush(stdout) != 0)
		return err_errno(e, errno, "write the report");
	return 0;
}

int doctor_command(const struct manager_config *config, const struct doctor_command *command,
		   struct err *e)
{
	cleanup(doctor_report_done) struct doctor_report report = { 0 };
	int r = 0;

	if (command->request.delete_data && !command->request.fix)
		return err_set(e, ERR_INVALID, "--delete goes with --fix only");
	r = doctor_run(config, &command->request, &report, e);
	if (r == 0)
		r = print(&report, command->json, e);
	return r < 0 ? r : doctor_report_code(&report);
}
