/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/fault.h"

#include "base/str.h"

#include <signal.h>
#include <unistd.h>

bool fault_valid(const char *rule)
{
	size_t dots = 0;
	const char *action = strchr(rule, '=');

	for (const char *p = rule; action != NULL && p < action; p++)
		dots += *p == '.';
	return dots == 2 &&
	       (streq(action, "=fail") || streq(action, "=kill") || streq(action, "=stop"));
}

int fault_point(const char *rule, const char *plan, const char *step, const char *when,
		struct err *e)
{
	char point[128];

	if (rule == NULL || *rule == '\0')
		return 0;
	if (str_fit(point, sizeof(point), "%s.%s.%s=", plan, step, when) < 0 ||
	    !str_starts(rule, point))
		return 0;
	if (streq(rule + strlen(point), "stop")) {
		raise(SIGSTOP);
		return 0;
	}
	if (streq(rule + strlen(point), "kill"))
		kill(getpid(), SIGKILL);
	return err_set(e, ERR_INTERNAL, "fault injected at %s.%s.%s", plan, step, when);
}
