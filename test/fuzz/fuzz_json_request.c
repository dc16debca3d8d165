/* SPDX-License-Identifier: Apache-2.0 */
/* The body of a create, in both generations: a wish that is whole, or a refusal that says why. */
#include "api/body.h"
#include "api/change-request.h"
#include "api/create-request.h"
#include "api/network-request.h"
#include "api/webhook-request.h"
#include "base/json.h"
#include "base/str.h"
#include "net/egress.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

/* What the store keeps of a map: nothing when it was not given, else an object of strings. */
static void check_map(const char *text)
{
	auto_json *map = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	const char *key;
	json_t *value;

	if (text[0] == '\0')
		return;
	require(json_is_object(map));
	json_object_foreach(map, key, value) require(json_is_string(value));
}

/* What the store has of networks can be read from it, and no guest gets what none may have. */
static void check_egress(const struct db_egress *egress)
{
	struct net_egress nets = { 0 };

	require(net_egress_read(&nets.allow, egress->allow_out) == 0);
	require(net_egress_read(&nets.deny, egress->deny_out) == 0);
	vec_foreach (net, &nets.allow)
		require(net_never_reached(net) == NULL);
	net_egress_merge(&nets.allow);
	net_egress_merge(&nets.deny);
	for (size_t i = 1; i < nets.deny.n; i++)
		require(nets.deny.at[i - 1].addr < nets.deny.at[i].addr &&
			!ipv4_net_within(&nets.deny.at[i], &nets.deny.at[i - 1]));
	net_egress_done(&nets);
}

static void check_accepted(const struct db_sandbox *row, bool v2)
{
	require(row->template_name[0] != '\0');
	require(row->timeout_s <= INT32_MAX);
	require(row->access_token[0] != '\0' || !v2);
	check_map(row->env_json);
	check_map(row->metadata_json);
	check_egress(&row->egress);
}

static void parse(const char *body, size_t n, bool v2)
{
	struct db_sandbox row;
	struct err e = { 0 };

	db_sandbox_init(&row);
	if (create_request_parse(body, n, v2, &row, &e) == 0) {
		require(!err_is_set(&e));
		check_accepted(&row, v2);
	} else {
		require(e.kind == ERR_INVALID && e.msg[0] != '\0');
	}
	db_sandbox_done(&row);
}

static void parse_change(const char *body, size_t n)
{
	struct change_request change = { 0 };
	struct db_sandbox row;
	struct err e = { 0 };

	db_sandbox_init(&row);
	db_set_str(&row.env_json, "{\"A\":\"1\"}");
	if (change_request_parse(body, n, &row, &change, &e) == 0) {
		require(!err_is_set(&e));
		require(change.user == NULL || change.user[0] != '\0');
		require(change.policy.idle_s > 0 || !change.policy.idle_kill);
		require(change.policy.restart_max <= 1000000 && change.policy.idle_s <= INT_MAX);
		if (change.env_json != NULL)
			check_map(change.env_json);
	} else {
		require(e.kind == ERR_INVALID && e.msg[0] != '\0');
	}
	change_request_done(&change);
	db_sandbox_done(&row);
}

static void parse_network(const char *body, size_t n)
{
	struct db_egress egress;
	struct err e = { 0 };

	db_egress_init(&egress);
	if (network_request_parse(body, n, &egress, &e) == 0) {
		require(!err_is_set(&e));
		check_egress(&egress);
	} else {
		require(e.kind == ERR_INVALID && e.msg[0] != '\0');
	}
	db_egress_done(&egress);
}

static void parse_webhook(const char *body, size_t n)
{
	struct webhook_request request = { .kinds = NULL };
	auto_json *o = NULL;
	struct err e = { 0 };

	if (body_object(body, n, false, &o, &e) < 0)
		return;
	if (webhook_request_read(o, false, &request, &e) == 0) {
		require(!err_is_set(&e));
		require(request.url == NULL || strpbrk(request.url, " \r\n@#\\") == NULL ||
			strchr(request.url + 8, '/') != NULL);
		require(request.kinds == NULL || request.kinds[0] == ' ');
	} else {
		require(e.kind == ERR_INVALID && e.msg[0] != '\0');
	}
	webhook_request_done(&request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	parse((const char *)data, size, false);
	parse((const char *)data, size, true);
	parse_change((const char *)data, size);
	parse_network((const char *)data, size);
	parse_webhook((const char *)data, size);
	return 0;
}
