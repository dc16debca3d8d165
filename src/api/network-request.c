/* SPDX-License-Identifier: Apache-2.0 */
#include "api/network-request.h"

#include "api/body.h"
#include "base/buf.h"
#include "base/str.h"
#include "net/egress.h"

#include <ctype.h>

enum { LIST_MAX_BYTES = NET_EGRESS_MAX * 20, MASK_MAX_LEN = 255, TOKEN_HEX_LEN = 64 };

/* Says what is wrong with an entry of a list: mostly it is one that E2B has and we have not. */
static int refuse_entry(const char *field, const char *text, struct err *e)
{
	if (strchr(text, ':') != NULL)
		return err_set(
			e, ERR_INVALID,
			"field '%s': '%.100s' is no IPv4 address or range; sandboxes have no "
			"IPv6",
			field, text);
	for (const char *p = text; *p != '\0'; p++) {
		if (isalpha((unsigned char)*p) == 0)
			continue;
		return err_set(e, ERR_INVALID,
			       "field '%s': '%.100s' is a domain, which is not supported by this "
			       "version of vivd; name IPv4 addresses or ranges",
			       field, text);
	}
	return err_set(e, ERR_INVALID,
		       "field '%s': '%.100s' is no IPv4 address or range, such as 192.0.2.1 or "
		       "192.0.2.0/24",
		       field, text);
}

/* What could never be reached is not taken for allowed. */
static int check_allowed(const char *field, const char *text, const struct ipv4_net *net,
			 struct err *e)
{
	const struct ipv4_net *range = net_never_reached(net);

	if (range == NULL)
		return 0;
	return err_set(e, ERR_INVALID,
		       "field '%s': '%.100s' is in " IPV4_NET_FMT ", which no sandbox may reach",
		       field, text, IPV4_NET_ARG(*range));
}

static int take_entry(const json_t *v, const char *field, bool allow, struct buf *list,
		      struct err *e)
{
	const char *text = json_string_value(v);
	struct ipv4_net net;
	int r = 0;

	if (text == NULL)
		return err_set(e, ERR_INVALID, "field '%s' must be a list of strings", field);
	if (ipv4_net_parse(text, &net) < 0)
		return refuse_entry(field, text, e);
	if (allow)
		r = check_allowed(field, text, &net, e);
	if (r < 0)
		return r;
	r = buf_printf(list, "%s%s", list->len > 0 ? " " : "", text);
	return r < 0 ? err_set(e, ERR_INVALID, "field '%s' is too long", field) : 0;
}

/* "allowOut" and "denyOut": absent and null leave *@out as it is. @in names the object. */
static int take_list(const json_t *o, const char *in, const char *key, char **out, struct err *e)
{
	auto_free char *field = str_printf("%s%s", in, key);
	const json_t *v = json_object_get(o, key);
	auto_buf list = BUF_INIT(LIST_MAX_BYTES);

	if (v == NULL || json_is_null(v))
		return 0;
	if (!json_is_array(v))
		return err_set(e, ERR_INVALID, "field '%s' must be a list of strings", field);
	if (json_array_size(v) > NET_EGRESS_MAX)
		return err_set(e, ERR_INVALID, "field '%s' has more than %d entries", field,
			       NET_EGRESS_MAX);
	for (size_t i = 0; i < json_array_size(v); i++) {
		int r = take_entry(json_array_get(v, i), field, streq(key, "allowOut"), &list, e);

		if (r < 0)
			return r;
	}
	db_set_str(out, buf_str(&list));
	return 0;
}

static int take_lists(const json_t *o, const char *in, struct db_egress *out, struct err *e)
{
	int r = take_list(o, in, "allowOut", &out->allow_out, e);

	return r < 0 ? r : take_list(o, in, "denyOut", &out->deny_out, e);
}

static int take_internet_access(const json_t *o, struct db_egress *out, struct err *e)
{
	const json_t *v = json_object_get(o, "allow_internet_access");

	if (v == NULL || json_is_null(v))
		return 0;
	if (!json_is_boolean(v))
		return err_set(e, ERR_INVALID,
			       "field 'allow_internet_access' must be true or false");
	db_set_str(&out->internet_access, json_is_true(v) ? "true" : "false");
	return 0;
}

static bool is_one_of(const char *key, const char *const *known, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (streq(key, known[i]))
			return true;
	}
	return false;
}

/* What is not known may be there if it asks for nothing. */
static int check_keys(const json_t *o, const char *in, const char *const *known, size_t n,
		      struct err *e)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)o, key, v)
	{
		if (!is_one_of(key, known, n) && !body_asks_nothing(v))
			return err_set(e, ERR_INVALID,
				       "field '%s%.64s' is not supported by this version of vivd",
				       in, key);
	}
	return 0;
}

/* Ports that are not public have a token, whose guard is of use only if the agent has one, too. */
static int take_public_traffic(const json_t *network, struct db_sandbox *out, struct err *e)
{
	const json_t *v = json_object_get(network, "allowPublicTraffic");
	char hex[TOKEN_HEX_LEN + 1];

	if (v == NULL || json_is_null(v) || json_is_true(v))
		return 0;
	if (!json_is_false(v))
		return err_set(e, ERR_INVALID,
			       "field 'network.allowPublicTraffic' must be true or false");
	if (out->access_token[0] == '\0')
		return err_set(
			e, ERR_INVALID,
			"field 'network.allowPublicTraffic' can be false only with 'secure'");
	random_hex(hex, TOKEN_HEX_LEN);
	db_set_str(&out->traffic_token, hex);
	return 0;
}

/* A host, with a port or without, in which ${PORT} may stand for the port that is asked for. */
static bool is_mask(const char *text)
{
	static const char host[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				   "-._:[]";
	static const char port[] = "${PORT}";

	if (*text == '\0' || strlen(text) > MASK_MAX_LEN)
		return false;
	while (*text != '\0') {
		if (str_starts(text, port))
			text += strlen(port);
		else if (strchr(host, *text) != NULL)
			text++;
		else
			return false;
	}
	return true;
}

static int take_mask_host(const json_t *network, struct db_sandbox *out, struct err *e)
{
	const json_t *v = json_object_get(network, "maskRequestHost");
	const char *text = json_string_value(v);

	if (v == NULL || json_is_null(v))
		return 0;
	if (text == NULL || !is_mask(text))
		return err_set(e, ERR_INVALID,
			       "field 'network.maskRequestHost' must be a host, such as "
			       "'localhost:${PORT}'");
	db_set_str(&out->mask_host, text);
	return 0;
}

int network_request_take(const json_t *o, struct db_sandbox *out, struct err *e)
{
	static const char *const known[] = { "allowOut", "denyOut", "allowPublicTraffic",
					     "maskRequestHost" };
	static const char in[] = "network.";
	const json_t *network = json_object_get(o, "network");
	int r = take_internet_access(o, &out->egress, e);

	if (r < 0 || network == NULL || json_is_null(network))
		return r;
	if (!json_is_object(network))
		return err_set(e, ERR_INVALID, "field 'network' must be an object");
	r = check_keys(network, in, known, ARRAY_SIZE(known), e);
	if (r == 0)
		r = take_lists(network, in, &out->egress, e);
	if (r == 0)
		r = take_public_traffic(network, out, e);
	return r < 0 ? r : take_mask_host(network, out, e);
}

int network_request_parse(const char *body, size_t n, struct db_egress *out, struct err *e)
{
	static const char *const known[] = { "allowOut", "denyOut", "allow_internet_access" };
	auto_json *o = NULL;
	int r = body_object(body, n, false, &o, e);

	if (r == 0)
		r = check_keys(o, "", known, ARRAY_SIZE(known), e);
	if (r == 0)
		r = take_internet_access(o, out, e);
	return r < 0 ? r : take_lists(o, "", out, e);
}

/* The list as the client wrote it. */
static json_t *json_of_list(const char *text)
{
	json_t *list = json_array();
	size_t n;

	for (; *text != '\0'; text += n + (text[n] == ' ')) {
		n = strcspn(text, " ");
		/* without memory for it, the reply is short of one; the rules are not */
		ignore_err(json_array_append_new(list, json_stringn(text, n)));
	}
	return list;
}

json_t *json_of_network(const struct db_sandbox *row)
{
	const struct db_egress *egress = &row->egress;
	bool public = row->traffic_token[0] == '\0';
	json_t *o;

	if (egress->allow_out[0] == '\0' && egress->deny_out[0] == '\0' && public &&
	    row->mask_host[0] == '\0')
		return NULL;
	o = json_pack("{s:o, s:o, s:b}", "allowOut", json_of_list(egress->allow_out), "denyOut",
		      json_of_list(egress->deny_out), "allowPublicTraffic", public);
	if (row->mask_host[0] != '\0')
		ignore_err(json_object_set_new(o, "maskRequestHost",
					       json_string(row->mask_host))); /* as above */
	return o;
}
