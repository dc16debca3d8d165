/* SPDX-License-Identifier: Apache-2.0 */
#include "api/doctor-view.h"

#include "api/api-internal.h"
#include "base/buf.h"
#include "base/str.h"

enum { TEXT_MAX_BYTES = 4 << 20 };

static json_t *text_or_null(const char *text)
{
	return text != NULL ? json_of_text(text) : json_null();
}

json_t *doctor_json(const struct doctor_report *report)
{
	enum doctor_verdict verdict = doctor_report_verdict(report);
	json_t *items = json_array();

	vec_foreach (item, &report->items)
		ignore_err(json_array_append_new(
			items,
			json_pack("{s:s, s:o, s:s, s:o, s:o, s:o}", "area", item->area, "name",
				  text_or_null(item->name), "verdict",
				  doctor_verdict_name(item->verdict), "what",
				  text_or_null(item->what), "why", text_or_null(item->why),
				  "advice", text_or_null(item->advice)))); /* no memory: 500 */
	return json_pack("{s:s, s:o}", "verdict", doctor_verdict_name(verdict), "items", items);
}

static int put_item(struct buf *out, const struct doctor_item *item)
{
	int r = buf_printf(out, "%-14s %-9s %s\n", item->area, doctor_verdict_name(item->verdict),
			   item->what);

	if (r == 0 && item->why != NULL)
		r = buf_printf(out, "%24s %s\n", "", item->why);
	if (r == 0 && item->advice != NULL)
		r = buf_printf(out, "%24s -> %s\n", "", item->advice);
	return r;
}

static int put_sum(struct buf *out, const struct doctor_report *report)
{
	unsigned n[DOCTOR_VERDICT_N] = { 0 };
	int r;

	vec_foreach (item, &report->items)
		n[item->verdict]++;
	r = buf_puts(out, n[DOCTOR_MISSING] > 0 ? "\nSandboxes do not work here: "
						: "\nSandboxes work here: ");
	if (r == 0)
		r = buf_printf(out, "%u missing, %u degraded, ", n[DOCTOR_MISSING],
			       n[DOCTOR_DEGRADED]);
	if (r == 0 && n[DOCTOR_FIXED] > 0)
		r = buf_printf(out, "%u leaks removed, ", n[DOCTOR_FIXED]);
	return r < 0 ? r : buf_printf(out, "%u leaks left.\n", n[DOCTOR_LEAK]);
}

char *doctor_text(const struct doctor_report *report)
{
	auto_buf out = BUF_INIT(TEXT_MAX_BYTES);
	int r = buf_printf(&out, "%-14s %-9s %s\n", "AREA", "VERDICT", "WHAT");

	vec_foreach (item, &report->items) {
		if (r == 0)
			r = put_item(&out, item);
	}
	if (r == 0)
		r = put_sum(&out, report);
	return r < 0 ? str_dup("the report is too long to be shown; ask for JSON\n")
		     : buf_steal(&out);
}
