/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/hook-message.h"

#include "base/base64.h"
#include "base/clock.h"
#include "base/hookwords.h"
#include "base/id.h"
#include "base/sha256.h"
#include "base/str.h"

#include <errno.h>
#include <stdio.h>

enum {
	UUID_SIZE = 37,
	HEX_OF_UUID = 31,     /* random digits of one */
	METADATA_MAX = 16384, /* bytes; of more nothing is told */
	STATUS_MAX = 999,
	BACK_OFF_MS = 1000,
	BACK_OFF_MAX_MS = 15 * 60 * 1000,
	DOUBLINGS_MAX = 20,
};

/* E2B's words for its events, and words of that kind for ours. */
static const struct {
	const char *type;
	const char *label;
} labels[] = {
	{ "created", "create" },
	{ "running", "run" },
	{ "paused", "pause" },
	{ "resumed", "resume" },
	{ "checkpointed", "checkpoint" },
	{ "stopped", "stop" },
	{ "killed", "kill" },
	{ "error", "error" },
};

static const char *label_of(const char *type)
{
	for (size_t i = 0; i < ARRAY_SIZE(labels); i++) {
		if (streq(labels[i].type, type))
			return labels[i].label;
	}
	return type;
}

static void uuid_of_hex(const char *hex, char version, char out[UUID_SIZE])
{
	snprintf(out, UUID_SIZE, "%.8s-%.4s-%c%.3s-8%.3s-%.12s", hex, hex + 8, version, hex + 12,
		 hex + 15, hex + 18);
}

/* Clients want UUIDs; one of the same words is always the same (version 8). */
static void uuid_of(const struct hook_delivery *d, const char *kind, const char *name,
		    char out[UUID_SIZE])
{
	auto_free char *words = str_printf("%s %s %s", d->tag, kind, name);
	char hex[SHA256_HEX_SIZE];
	struct sha256 sha;

	sha256_init(&sha);
	sha256_add(&sha, words, strlen(words));
	sha256_hex(&sha, hex);
	uuid_of_hex(hex, '8', out);
}

static void uuid_of_number(const struct hook_delivery *d, const char *kind, uint64_t n,
			   char out[UUID_SIZE])
{
	char name[24];

	snprintf(name, sizeof(name), "%llu", (unsigned long long)n);
	uuid_of(d, kind, name, out);
}

static bool add(json_t *o, const char *key, json_t *value)
{
	return json_object_set_new(o, key, value) == 0;
}

/* The run that has ended with this event. */
static bool add_execution(json_t *data, const struct hook_delivery *d)
{
	const struct db_event *event = d->event;
	uint64_t began_ms = d->facts->running_ms;
	char began[CLOCK_RFC3339_SIZE];

	if (began_ms == 0 || (!streq(event->type, "killed") && !streq(event->type, "paused")))
		return true;
	clock_rfc3339(began_ms, began);
	return add(data, "execution",
		   json_pack("{s:s, s:I, s:I, s:I}", "started_at", began, "vcpu_count",
			     (json_int_t)d->facts->cpus, "memory_mb",
			     (json_int_t)d->facts->memory_mib, "execution_time",
			     (json_int_t)(event->at_ms > began_ms ? event->at_ms - began_ms : 0)));
}

/* What only we tell. */
static json_t *own_fields(const struct db_event *event)
{
	json_t *o = json_pack("{s:I}", "event", (json_int_t)event->id);
	bool all = o != NULL;

	if (event->name[0] != '\0')
		all = all && add(o, "name", json_string(event->name));
	if (event->cause[0] != '\0')
		all = all && add(o, "cause", json_string(event->cause));
	if (event->error[0] != '\0') /* a guest's words may be no UTF-8; the events have them */
		all = all && (add(o, "error", json_string(event->error)) ||
			      add(o, "error", json_string("see GET /events")));
	if (event->generation > 0)
		all = all && add(o, "generation", json_integer((json_int_t)event->generation));
	if (all)
		return o;
	json_decref(o);
	return NULL;
}

static json_t *event_data(const struct hook_delivery *d)
{
	const char *text = d->facts->metadata_json;
	json_t *metadata = strlen(text) <= METADATA_MAX ? json_loads(text, 0, NULL) : NULL;
	json_t *data = json_pack("{s:o, s:o}", "sandbox_metadata",
				 metadata != NULL ? metadata : json_object(), "vivarium",
				 own_fields(d->event));

	if (data != NULL && add_execution(data, d))
		return data;
	json_decref(data);
	return NULL;
}

char *hook_body(const struct hook_delivery *d)
{
	const struct db_event *event = d->event;
	auto_free char *type = str_printf(EVENT_TYPE_PREFIX "%s", event->type);
	auto_free char *run =
		str_printf("%s %llu", event->sandbox, (unsigned long long)d->facts->execution);
	char id[UUID_SIZE];
	char execution[UUID_SIZE];
	char build[UUID_SIZE];
	char team[UUID_SIZE];
	char time[CLOCK_RFC3339_SIZE];
	auto_json *o = NULL;

	uuid_of_number(d, "event", event->id, id);
	uuid_of(d, "execution", run, execution);
	uuid_of(d, "build", event->template_name, build);
	uuid_of(d, "team", "", team);
	clock_rfc3339(event->at_ms, time);
	o = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:s, s:s, s:s, s:s, s:s}", "version",
		      "v2", "id", id, "type", type, "timestamp", time, "event_category",
		      "lifecycle", "event_label", label_of(event->type), "event_data",
		      event_data(d), "sandbox_id", event->sandbox, "sandbox_execution_id",
		      execution, "sandbox_template_id", event->template_name, "sandbox_build_id",
		      build, "sandbox_team_id", team);
	return o != NULL ? json_dumps(o, JSON_COMPACT) : NULL;
}

static char *e2b_signature(const char *secret, const char *body)
{
	unsigned char digest[SHA256_BYTES];
	char text[BASE64_ENCODED_LEN(SHA256_BYTES)];
	struct sha256 sha;
	size_t n;

	sha256_init(&sha);
	sha256_add(&sha, secret, strlen(secret));
	sha256_add(&sha, body, strlen(body));
	sha256_end(&sha, digest);
	n = base64_encode(digest, sizeof(digest), text);
	while (n > 0 && text[n - 1] == '=')
		n--;
	return str_printf("e2b-signature: %.*s", (int)n, text);
}

static char *own_signature(const struct hook_delivery *d, const char *body)
{
	auto_free char *time = str_printf("%llu", (unsigned long long)(d->now_ms / MS_PER_S));
	const char *secret = d->webhook->secret;
	char hex[SHA256_HEX_SIZE];
	struct hmac hmac;

	hmac_init(&hmac, secret, strlen(secret));
	hmac_add(&hmac, time, strlen(time));
	hmac_add(&hmac, ".", 1);
	hmac_add(&hmac, body, strlen(body));
	hmac_hex(&hmac, hex);
	return str_printf("Vivarium-Signature: t=%s,v1=%s", time, hex);
}

json_t *hook_message(const struct hook_delivery *d, const char *body)
{
	auto_free char *theirs = e2b_signature(d->webhook->secret, body);
	auto_free char *ours = own_signature(d, body);
	auto_free char *id = str_printf("e2b-webhook-id: %s", d->webhook->id);
	auto_free char *delivery = NULL;
	char hex[HEX_OF_UUID + 1];
	char uuid[UUID_SIZE];

	random_hex(hex, HEX_OF_UUID);
	uuid_of_hex(hex, '4', uuid);
	delivery = str_printf("e2b-delivery-id: %s", uuid);
	return json_pack("{s:I, s:s, s:b, s:[s, s, s, s, s, s, s], s:s}", "n", (json_int_t)d->n,
			 "url", d->webhook->url, "private", d->any_address, "fields",
			 "Content-Type: application/json", "Expect:", id, delivery,
			 "e2b-signature-version: v1", theirs, ours, "body", body);
}

/* Its words, as far as they are fit for a log and a client. */
static void copy_error(const char *text, char out[WEBHOOK_ERROR_MAX])
{
	str_copy(out, WEBHOOK_ERROR_MAX, text);
	for (char *c = out; *c != '\0'; c++) {
		if (*c < ' ' || *c > '~')
			*c = '?';
	}
}

int hook_result_parse(const char *text, size_t n, struct hook_result *out)
{
	auto_json *o = json_loadb(text, n, 0, NULL);
	struct hook_result r = { 0 };
	const char *error = NULL;
	json_int_t number = 0;
	json_int_t status = 0;

	if (json_unpack(o, "{s:I, s:I, s:s}", "n", &number, "status", &status, "error", &error) <
		    0 ||
	    number < 0 || status < 0 || status > STATUS_MAX)
		return -EBADMSG;
	r.n = (uint64_t)number;
	r.status = (unsigned)status;
	if (status == 0)
		copy_error(error[0] != '\0' ? error : "no reply", r.error);
	else if (status < 200 || status > 299)
		snprintf(r.error, sizeof(r.error), "it answered with status %u", r.status);
	*out = r;
	return 0;
}

uint64_t hook_back_off_ms(unsigned tries, uint32_t chance)
{
	unsigned doublings = MIN(tries - 1, (unsigned)DOUBLINGS_MAX);
	uint64_t whole = MIN((uint64_t)BACK_OFF_MS << doublings, (uint64_t)BACK_OFF_MAX_MS);

	return whole / 2 + chance % (whole / 2 + 1);
}
