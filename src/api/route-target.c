/* SPDX-License-Identifier: Apache-2.0 */
#include "api/route-target.h"

#include "base/guestwords.h"
#include "base/parse.h"
#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <strings.h>

enum { HOST_SIZE = 512 };

static const char id_header[] = "E2b-Sandbox-Id";
static const char port_header[] = "E2b-Sandbox-Port";

bool target_is_host_only(const struct target *t, const char *path)
{
	static const char *const paths[] = { "/init",     "/freeze",           "/unfreeze",
					     "/collapse", "/fsfreeze",         "/fsthaw",
					     "/upgrade",  GUEST_LOOPBACK_PATH, "/clock" };
	auto_free char *plain = NULL;
	const char *from;

	if (t->port != GUEST_PORT)
		return false;
	if (http_percent_decode(path, strlen(path), false, &plain) < 0)
		return true; /* nobody can tell what it names */
	from = plain;
	while (from[0] == '/' && from[1] == '/')
		from++;
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		size_t n = strlen(paths[i]);

		if (strncasecmp(from, paths[i], n) == 0 && (from[n] == '\0' || from[n] == '/'))
			return true;
	}
	return false;
}

/* Reads a port and an id; what follows a '-' in the id is dropped: <id>-<client id> is an old form.
 * Return: 0; -EINVAL. */
static int take_parts(const char *port, const char *id, struct target *out)
{
	uint64_t number = 0;
	char *dash;

	if (str_fit(out->id, sizeof(out->id), "%s", id) < 0 ||
	    parse_u64(port, 1, UINT16_MAX, &number) < 0)
		return -EINVAL;
	dash = strchr(out->id, '-');
	if (dash != NULL)
		*dash = '\0';
	out->port = (uint16_t)number;
	for (const char *p = out->id; *p != '\0'; p++) {
		if (!(*p >= 'a' && *p <= 'z') && !(*p >= '0' && *p <= '9'))
			return -EINVAL;
	}
	return out->id[0] != '\0' ? 0 : -EINVAL;
}

static int from_headers(const char *id, const char *port, struct target *out, struct err *e)
{
	if (id == NULL || port == NULL)
		return err_set(e, ERR_INVALID, "both headers are needed: %s and %s", id_header,
			       port_header);
	if (take_parts(port, id, out) < 0)
		return err_set(e, ERR_INVALID,
			       "headers %s: %.64s, %s: %.16s name no sandbox and port", id_header,
			       id, port_header, port);
	return 1;
}

/* The host's name in lower case, without the port and the root's dot. Return: whether it fits. */
static bool plain_host(const char *host, char name[HOST_SIZE])
{
	size_t n = strcspn(host, ":"); /* an IPv6 address, cut there, is no name of ours either */

	if (n >= HOST_SIZE)
		return false;
	if (n > 0 && host[n - 1] == '.')
		n--;
	str_copy(name, n + 1, host);
	for (char *p = name; *p != '\0'; p++)
		*p = (char)tolower((unsigned char)*p);
	return true;
}

static int from_host(const char *host, const char *domain, struct target *out, struct err *e)
{
	char label[HOST_SIZE];
	char *rest;
	char *id;

	if (!plain_host(host, label))
		return 0;
	rest = strchr(label, '.');
	if (rest == NULL)
		return 0;
	*rest++ = '\0';
	if (!streq(rest, "localhost") && (domain == NULL || !streq(rest, domain)))
		return 0;
	id = strchr(label, '-');
	if (id == NULL || label[0] < '0' || label[0] > '9')
		return 0; /* such as api.<domain> */
	*id++ = '\0';
	if (take_parts(label, id, out) < 0)
		return err_set(e, ERR_INVALID,
			       "host %.80s names no sandbox and port: it should be PORT-ID.%s",
			       host, rest);
	return 1;
}

int target_parse(const struct http_head *head, const char *domain, struct target *out,
		 struct err *e)
{
	const char *id = http_head_get(head, id_header);
	const char *port = http_head_get(head, port_header);
	const char *host = http_head_get(head, "Host");

	if (id != NULL || port != NULL)
		return from_headers(id, port, out, e);
	return host != NULL ? from_host(host, domain, out, e) : 0;
}
