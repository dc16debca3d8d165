/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/metrics.h"

#include "base/json.h"

static const json_int_t bytes_max = (json_int_t)1 << 50;

static const struct {
	const char *key;
	size_t offset;
} fields[] = {
	{ "mem_total", offsetof(struct guest_metrics, mem_total) },
	{ "mem_used", offsetof(struct guest_metrics, mem_used) },
	{ "mem_cache", offsetof(struct guest_metrics, mem_cache) },
	{ "disk_total", offsetof(struct guest_metrics, disk_total) },
	{ "disk_used", offsetof(struct guest_metrics, disk_used) },
};

int guest_metrics_parse(const char *body, size_t n, struct guest_metrics *out, struct err *e)
{
	auto_json *o = json_loadb(body, n, 0, NULL);
	struct guest_metrics m = { 0 };

	if (!json_is_object(o))
		return err_set(e, ERR_AGENT,
			       "the guest agent's answer to GET /metrics is no object");
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		const json_t *value = json_object_get(o, fields[i].key);
		json_int_t bytes = json_integer_value(value);

		if (!json_is_integer(value) || bytes < 0 || bytes > bytes_max)
			return err_set(e, ERR_AGENT,
				       "the guest agent's answer to GET /metrics has no '%s' that "
				       "can be",
				       fields[i].key);
		*(uint64_t *)(void *)((char *)&m + fields[i].offset) = (uint64_t)bytes;
	}
	if (m.mem_used > m.mem_total || m.disk_used > m.disk_total)
		return err_set(e, ERR_AGENT,
			       "the guest agent's answer to GET /metrics has more in use than "
			       "there is");
	*out = m;
	return 0;
}
