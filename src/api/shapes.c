/* SPDX-License-Identifier: Apache-2.0 */
/* How sandboxes look in JSON: E2B's fields, and our own in the object `vivarium`. */
#include "api/api-internal.h"
#include "api/network-request.h"
#include "base/clock.h"
#include "base/str.h"

#include <arpa/inet.h>

const char api_envd_version[] = "0.6.13";
/* Dead in E2B's API, but its clients require a string. */
static const char client_id[] = "vivarium";
/* Far enough for "no deadline" where a client insists on a date. */
static const uint64_t no_deadline_ms = 253370764800000; /* year 9999 */

static json_t *json_of_map(const char *text)
{
	json_t *map = json_loads(text, 0, NULL);

	return map != NULL ? map : json_object();
}

static void set_text(json_t *o, const char *key, const char *value)
{
	/* A field without memory for it is missing; the reply says so by its absence. */
	if (value[0] != '\0')
		ignore_err(json_object_set_new(o, key, json_of_text(value)));
}

static void set_time(json_t *o, const char *key, uint64_t ms)
{
	ignore_err(json_object_set_new(o, key, json_of_time(ms))); /* as set_text() */
}

/* E2B knows running and paused; what is between is neither, and `vivarium.state` is exact. */
static const char *e2b_state(enum db_state s)
{
	return s == DB_PAUSED || s == DB_STOPPED || s == DB_RESUMING || s == DB_STARTING
		       ? "paused"
		       : "running";
}

static json_t *own_fields(const struct sandbox *sb)
{
	const struct db_sandbox *row = sandbox_row(sb);
	json_t *own = json_pack("{s:s, s:i, s:I, s:I, s:I}", "state", db_state_name(row->state),
				"cpus", row->cpus, "memoryMB", (json_int_t)row->memory_mib,
				"diskSizeMB", (json_int_t)row->disk_mib, "diskAllocatedBytes",
				(json_int_t)sandbox_disk_allocated(sb));

	if (row->generation != 0)
		ignore_err(json_object_set_new(own, "generation",
					       json_integer((json_int_t)row->generation)));
	set_text(own, "name", row->name);
	set_text(own, "condition", sandbox_condition(sb));
	set_text(own, "lastError", row->last_error);
	set_time(own, "createdAt", row->created_ms);
	if (row->end_ms != 0)
		set_time(own, "deadline", row->end_ms);
	return own;
}

static json_t *timing_of(const struct plan_timing *t)
{
	json_t *steps = json_array();

	for (size_t i = 0; i < t->n; i++)
		ignore_err(json_array_append_new(
			steps,
			json_pack("{s:s, s:f, s:f}", "step", t->steps[i].name, "ms",
				  (double)t->steps[i].ns / NS_PER_MS, "waitMs",
				  (double)t->steps[i].waited_ns / NS_PER_MS))); /* as set_text() */
	return steps;
}

/* The manager's own share of the last start: all but the waits for the VMM and the agent. */
static double manager_ms(const struct sandbox *sb)
{
	const struct plan_timing *t = sandbox_timing(sb);

	return (double)(t->total_ns - t->waited_ns) / NS_PER_MS;
}

/* The checkpoint that it is at, or came from last. */
static void set_checkpoint(json_t *own, const struct sandbox *sb)
{
	uint64_t generation = sandbox_row(sb)->generation;

	if (generation == 0)
		return;
	ignore_err(json_object_set_new(own, "generation", json_integer((json_int_t)generation)));
	ignore_err(json_object_set_new(
		own, "checkpointBytes",
		json_integer((json_int_t)sandbox_checkpoint_allocated(sb)))); /* as set_text() */
}

static void set_idle(json_t *own, const struct db_sandbox *row)
{
	if (row->idle_s == 0)
		return;
	ignore_err(json_object_set_new(own, "idle",
				       json_integer((json_int_t)row->idle_s))); /* as set_text() */
	set_text(own, "onIdle", row->idle_kill ? "kill" : "pause");
}

static void set_restart(json_t *own, const struct db_sandbox *row)
{
	auto_free char *policy = row->restart_max > 0
					 ? str_printf("on-failure:%ju", (uintmax_t)row->restart_max)
					 : str_dup("no");

	set_text(own, "restart", policy);
	if (row->restart_max == 0)
		return;
	ignore_err(json_object_set_new(
		own, "restartTries",
		json_integer((json_int_t)row->restart_tries))); /* as set_text() */
	ignore_err(json_object_set_new(own, "restarting", json_boolean(row->restarting)));
}

static json_t *own_fields_in_full(const struct sandbox *sb)
{
	const struct db_sandbox *row = sandbox_row(sb);
	json_t *own = own_fields(sb);
	char text[INET_ADDRSTRLEN];
	struct in_addr addr;

	set_text(own, "user", row->user);
	set_text(own, "workdir", row->workdir);
	set_restart(own, row);
	set_idle(own, row);
	set_text(own, "kernelVersion", row->kernel_version);
	set_text(own, "vmm", row->vmm_name);
	set_text(own, "vmmVersion", row->vmm_version);
	set_text(own, "vivdVersion", row->vivd_version);
	set_text(own, "agentVersion", row->agent_version);
	set_text(own, "diskDriver", row->disk_driver);
	set_text(own, "acceleration", row->acceleration);
	set_text(own, "origin", sandbox_origin(sb));
	set_checkpoint(own, sb);
	if (sandbox_address(sb, &addr, NULL) == 0)
		set_text(own, "address", inet_ntop(AF_INET, &addr, text, sizeof(text)));
	if (sandbox_pid(sb) != 0)
		ignore_err(json_object_set_new(own, "vmmPid", json_integer(sandbox_pid(sb))));
	ignore_err(json_object_set_new(own, "env", json_of_map(row->env_json)));
	ignore_err(json_object_set_new(own, "createSteps", timing_of(sandbox_timing(sb))));
	if (sandbox_pause_timing(sb)->n > 0)
		ignore_err(json_object_set_new(own, "pauseSteps",
					       timing_of(sandbox_pause_timing(sb))));
	ignore_err(json_object_set_new(own, "managerMs", json_real(manager_ms(sb))));
	return own;
}

json_t *json_of_sandbox(const struct api *api, const struct sandbox *sb)
{
	const struct db_sandbox *row = sandbox_row(sb);
	json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:o}", "sandboxID", row->id.s, "templateID",
			      row->template_name, "clientID", client_id, "envdVersion",
			      api_envd_version, "vivarium", own_fields(sb));

	set_text(o, "envdAccessToken", row->access_token);
	set_text(o, "domain", api->public_domain != NULL ? api->public_domain : "");
	set_text(o, "trafficAccessToken", row->traffic_token);
	return o;
}

static json_t *listed(const struct sandbox *sb, json_t *own)
{
	const struct db_sandbox *row = sandbox_row(sb);
	json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:I, s:I, s:o, s:o}", "sandboxID",
			      row->id.s, "templateID", row->template_name, "clientID", client_id,
			      "envdVersion", api_envd_version, "state", e2b_state(row->state),
			      "cpuCount", row->cpus, "memoryMB", (json_int_t)row->memory_mib,
			      "diskSizeMB", (json_int_t)row->disk_mib, "metadata",
			      json_of_map(row->metadata_json), "vivarium", own);

	set_time(o, "startedAt", row->started_ms);
	set_time(o, "endAt", row->end_ms != 0 ? row->end_ms : no_deadline_ms);
	return o;
}

json_t *json_of_listed(const struct sandbox *sb)
{
	return listed(sb, own_fields(sb));
}

/* What was never said is not there. */
static void set_network(json_t *o, const struct db_sandbox *row)
{
	const char *internet = row->egress.internet_access;
	json_t *network = json_of_network(row);

	if (network != NULL)
		ignore_err(json_object_set_new(o, "network", network)); /* as set_text() */
	if (internet[0] != '\0')
		ignore_err(json_object_set_new(o, "allowInternetAccess",
					       json_boolean(streq(internet, "true"))));
}

static json_t *lifecycle_of(const struct db_sandbox *row)
{
	return json_pack("{s:s, s:b}", "onTimeout", row->auto_pause ? "pause" : "kill",
			 "autoResume", row->auto_resume);
}

json_t *json_of_detail(const struct api *api, const struct sandbox *sb)
{
	json_t *o = listed(sb, own_fields_in_full(sb));

	set_text(o, "envdAccessToken", sandbox_row(sb)->access_token);
	set_text(o, "domain", api->public_domain != NULL ? api->public_domain : "");
	set_network(o, sandbox_row(sb));
	ignore_err(json_object_set_new(o, "lifecycle",
				       lifecycle_of(sandbox_row(sb)))); /* as set_text() */
	return o;
}
