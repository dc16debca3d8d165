/* SPDX-License-Identifier: Apache-2.0 */
/* The certificate that clients of the API are shown. viv-tls reads it, for whom X.509 is trade; the
 * key is not looked at. */
#include "base/clock.h"
#include "base/parse.h"
#include "base/tlswords.h"
#include "os/spawn.h"
#include "sandbox/doctor-internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

enum { OUTPUT_MAX = 4096, DAY_S = 24 * 60 * 60 };

static const char unreachable[] = "clients that come by TLS go away again: neither the API nor a "
				  "sandbox's port is reached";
static const char remedy[] = "sudo vivd cert --force makes one, in tls/ of state_dir, or renew "
			     "your own; then systemctl reload vivd";

/* What viv-tls says of a certificate: "<seconds since 1970> <0 or 1>". */
static int parse_term(char *line, uint64_t *not_after_s, bool *covers)
{
	char *space = strchr(line, ' ');

	if (space == NULL)
		return -EBADMSG;
	*space = '\0';
	space[1 + strcspn(space + 1, "\n")] = '\0';
	if (parse_bool(space + 1, covers) < 0)
		return -EBADMSG;
	return parse_u64(line, 0, UINT64_MAX / MS_PER_S, not_after_s);
}

static int read_term(const struct manager_config *config, uint64_t *not_after_s, bool *covers,
		     struct err *e)
{
	const char *domain = config->tls_domain != NULL ? config->tls_domain : "";
	auto_free char *name = str_printf("%.*s", (int)strcspn(domain, ":"), domain);
	const char *argv[] = { config->tls_program, "term", config->tls_cert,
			       name[0] != '\0' ? name : NULL, NULL };
	auto_buf output = BUF_INIT(OUTPUT_MAX);
	auto_free char *line = NULL;
	struct op op;

	op_init(&op, DOCTOR_PROBE_TIMEOUT_MS, -1);
	if (spawn_run(argv, NULL, &output, &op) < 0) {
		*e = op.err;
		return err_wrap(e, "look at certificate %s", config->tls_cert);
	}
	line = buf_steal(&output);
	if (parse_term(line, not_after_s, covers) < 0)
		return err_set(e, ERR_INTERNAL, "viv-tls said nonsense of %s", config->tls_cert);
	return 0;
}

static void judge_term(const struct manager_config *config, uint64_t not_after_s, bool covers,
		       struct doctor_item *item)
{
	uint64_t now_s = clock_realtime_ms() / MS_PER_S;
	char when[CLOCK_RFC3339_SIZE];

	clock_rfc3339(not_after_s * MS_PER_S, when);
	item->what = str_printf("certificate %s %s %s", config->tls_cert,
				not_after_s <= now_s ? "expired at" : "expires at", when);
	if (not_after_s <= now_s) {
		item->verdict = DOCTOR_MISSING;
		item->why = str_dup(unreachable);
	} else if (!covers) {
		item->verdict = DOCTOR_DEGRADED;
		item->why = str_printf("it is not for the names below %s: who asks for one of them "
				       "goes away again",
				       config->tls_domain);
	} else if (not_after_s - now_s < (uint64_t)TLS_EXPIRY_DAYS * DAY_S) {
		item->verdict = DOCTOR_DEGRADED;
		item->why = str_printf("in %" PRIu64 " days nobody accepts it any more",
				       (not_after_s - now_s) / DAY_S);
	}
	if (item->verdict != DOCTOR_OK)
		item->advice = str_dup(remedy);
}

void doctor_check_tls(const struct doctor_host *host, struct doctor_report *report)
{
	struct doctor_item item = { .area = "tls", .name = str_dup("certificate") };
	uint64_t not_after_s = 0;
	bool covers = false;
	struct err e = { 0 };

	if (host->config->tls_cert == NULL) {
		free(item.name);
		return;
	}
	if (read_term(host->config, &not_after_s, &covers, &e) == 0) {
		judge_term(host->config, not_after_s, covers, &item);
	} else {
		item.verdict = DOCTOR_MISSING;
		item.what = str_dup(e.msg);
		item.why = str_dup(unreachable);
		item.advice = str_dup(remedy);
	}
	doctor_add(report, item);
}
