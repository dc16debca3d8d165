/* SPDX-License-Identifier: Apache-2.0 */
#include "api/webhook-request.h"

#include "api/body.h"
#include "base/parse.h"
#include "base/public.h"
#include "base/str.h"

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <strings.h>

enum { PORT_DIGITS_MAX = 5, TYPE_MAX = 63 };

/* Those of ours, and what E2B has besides, which may be asked for, though nothing of the kind ever
 * happens here: a client's list of events is to be taken as it is. */
static const char known_types[] = EVENT_TYPES "updated ";

static bool skip_scheme(const char **url)
{
	static const char *const schemes[] = { "https://", "http://" };

	for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
		if (strncasecmp(*url, schemes[i], strlen(schemes[i])) == 0) {
			*url += strlen(schemes[i]);
			return true;
		}
	}
	return false;
}

/* The host of "host", "host:port" or "[address]:port", of @n bytes. Return: 0; -EINVAL. */
static int take_host(const char *authority, size_t n, char *out, size_t size)
{
	static const char plain[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
	bool bracket = n > 0 && authority[0] == '[';
	const char *host = bracket ? authority + 1 : authority;
	size_t len = strspn(host, bracket ? "0123456789abcdefABCDEF:." : plain);
	const char *rest = host + len;
	char port[PORT_DIGITS_MAX + 1];
	uint64_t number;

	if (len == 0 || len >= size || host + len > authority + n || (bracket && *rest++ != ']'))
		return -EINVAL;
	str_copy(out, len + 1, host);
	if (rest == authority + n)
		return 0;
	if (*rest++ != ':' || (size_t)(authority + n - rest) >= sizeof(port))
		return -EINVAL;
	str_copy(port, (size_t)(authority + n - rest) + 1, rest);
	return parse_u64(port, 1, UINT16_MAX, &number);
}

int webhook_url_check(const char *url, bool any_address, struct err *e)
{
	const char *authority = url;
	char host[NI_MAXHOST];
	size_t n = strlen(url);

	if (n > WEBHOOK_URL_MAX)
		return err_set(e, ERR_INVALID, "field 'url' has more than %d bytes",
			       WEBHOOK_URL_MAX);
	for (const char *c = url; *c != '\0'; c++) {
		if (*c <= ' ' || *c > '~' || *c == '\\' || *c == '#')
			return err_set(e, ERR_INVALID,
				       "field 'url' has a character that a URL cannot have, or a "
				       "fragment: encode it");
	}
	if (!skip_scheme(&authority))
		return err_set(e, ERR_INVALID, "field 'url' must begin with https:// or http://");
	n = strcspn(authority, "/?");
	if (memchr(authority, '@', n) != NULL)
		return err_set(e, ERR_INVALID,
			       "field 'url' must not have a user or password: the signature tells "
			       "that a request is vivd's");
	if (take_host(authority, n, host, sizeof(host)) < 0)
		return err_set(e, ERR_INVALID,
			       "field 'url' must name a host (letters, digits, '.', '-') or an "
			       "address, and maybe a port");
	if (!any_address && !address_text_is_public(host))
		return err_set(e, ERR_INVALID,
			       "field 'url': %.80s is not on the internet; vivd posts to loopback "
			       "and private addresses only with the setting webhook_private = on",
			       host);
	return 0;
}

/* What people can read, and a terminal shows: no control characters. */
static int check_text(const char *key, const char *text, size_t max, struct err *e)
{
	if (strlen(text) > max)
		return err_set(e, ERR_INVALID, "field '%s' has more than %zu bytes", key, max);
	for (const char *c = text; *c != '\0'; c++) {
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			return err_set(e, ERR_INVALID, "field '%s' has a control character", key);
	}
	return 0;
}

/* Our word for a type of E2B's, or of ours: " created ". */
static bool type_word(const json_t *value, char *out, size_t size)
{
	const char *text = json_string_value(value);
	size_t n = strlen(EVENT_TYPE_PREFIX);

	if (text == NULL || !str_starts(text, EVENT_TYPE_PREFIX) ||
	    strpbrk(text + n, " ") != NULL || text[n] == '\0')
		return false;
	return str_fit(out, size, " %s ", text + n) == 0 && strstr(known_types, out) != NULL;
}

static void add_type(char **kinds, const char *word)
{
	char *longer;

	if (strstr(*kinds, word) != NULL)
		return;
	longer = str_printf("%s%s", *kinds, (*kinds)[0] == '\0' ? word : word + 1);
	free(*kinds);
	*kinds = longer;
}

static int bad_events(struct err *e)
{
	return err_set(e, ERR_INVALID,
		       "field 'events' must be a list of " EVENT_TYPE_PREFIX
		       "created, running, paused, resumed, checkpointed, stopped, killed, error "
		       "(or updated, which never comes)");
}

static int take_kinds(const json_t *o, char **out, struct err *e)
{
	const json_t *list = json_object_get(o, "events");
	const json_t *value;
	char word[TYPE_MAX + 1];
	size_t i;

	if (list == NULL || json_is_null(list))
		return 0;
	if (!json_is_array(list) || json_array_size(list) == 0)
		return bad_events(e);
	*out = str_dup("");
	json_array_foreach(list, i, value)
	{
		if (!type_word(value, word, sizeof(word)))
			return bad_events(e);
		add_type(out, word);
	}
	return 0;
}

int webhook_request_read(const json_t *o, bool any_address, struct webhook_request *out,
			 struct err *e)
{
	struct webhook_request *r = out;
	int given;

	*r = (struct webhook_request){ .enabled = true };
	if (body_text(o, "name", &r->name, e) < 0 || body_text(o, "url", &r->url, e) < 0 ||
	    body_text(o, "signatureSecret", &r->secret, e) < 0)
		return -EINVAL;
	given = body_bool(o, "enabled", &r->enabled, e);
	r->has_enabled = given > 0;
	if (given < 0 || take_kinds(o, &r->kinds, e) < 0)
		return -EINVAL;
	if (r->name != NULL && check_text("name", r->name, WEBHOOK_NAME_MAX, e) < 0)
		return -EINVAL;
	if (r->secret != NULL && r->secret[0] == '\0')
		return err_set(e, ERR_INVALID, "field 'signatureSecret' must not be empty");
	if (r->secret != NULL &&
	    check_text("signatureSecret", r->secret, WEBHOOK_SECRET_MAX, e) < 0)
		return -EINVAL;
	return r->url != NULL ? webhook_url_check(r->url, any_address, e) : 0;
}

void webhook_request_done(struct webhook_request *request)
{
	free(take_ptr(&request->kinds));
}
