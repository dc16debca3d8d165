/* SPDX-License-Identifier: Apache-2.0 */
#include "hook/post.h"

#include "base/public.h"
#include "base/str.h"
#include "viv-config.h"

#include <netdb.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	CONNECT_MS = 5000,
	TOTAL_MS = 15000,
	REPLY_MAX = 65536, /* bytes of head or body; from there on nobody listens */
	KEEP_TEXT = 200,
};

struct post {
	CURL *easy; /* owned, as the next two */
	struct curl_slist *fields;
	json_t *message;
	json_int_t n;
	bool any_address;
	char refused[NI_MAXHOST]; /* an address that was not connected to; "" = none */
	size_t got_bytes;
	char error[CURL_ERROR_SIZE];
};

/* The place of the check: the address is the one that connect(2) is called with next. */
static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct post *p = arg;

	if (purpose != CURLSOCKTYPE_IPCXN)
		return CURL_SOCKET_BAD;
	if (!p->any_address && !address_is_public(&address->addr, address->addrlen)) {
		if (getnameinfo(&address->addr, address->addrlen, p->refused, sizeof(p->refused),
				NULL, 0, NI_NUMERICHOST) != 0)
			str_copy(p->refused, sizeof(p->refused), "that it has");
		return CURL_SOCKET_BAD;
	}
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static size_t drop_bytes(char *bytes, size_t size, size_t n, void *arg)
{
	struct post *p = arg;

	(void)bytes;
	p->got_bytes += size * n;
	return p->got_bytes > REPLY_MAX ? 0 : size * n;
}

static int add_fields(struct post *p, const json_t *fields)
{
	const json_t *field;
	size_t i;

	json_array_foreach(fields, i, field)
	{
		const char *text = json_string_value(field);
		struct curl_slist *more = text != NULL ? curl_slist_append(p->fields, text) : NULL;

		if (more == NULL)
			return -1;
		p->fields = more;
	}
	return 0;
}

/* Return: whether all could be set. */
static bool set_request(struct post *p, const char *url, const char *body, size_t n)
{
	CURL *c = p->easy;
	CURLcode r = CURLE_OK;

	r |= curl_easy_setopt(c, CURLOPT_URL, url);
	r |= curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	r |= curl_easy_setopt(c, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	r |= curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
	r |= curl_easy_setopt(c, CURLOPT_PROXY, ""); /* not even one of the environment's */
	r |= curl_easy_setopt(c, CURLOPT_POST, 1L);
	r |= curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)n);
	r |= curl_easy_setopt(c, CURLOPT_POSTFIELDS, body);
	r |= curl_easy_setopt(c, CURLOPT_HTTPHEADER, p->fields);
	r |= curl_easy_setopt(c, CURLOPT_USERAGENT, "vivarium/" VIV_VERSION);
	r |= curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	r |= curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	return r == CURLE_OK;
}

static bool set_limits(struct post *p)
{
	CURL *c = p->easy;
	CURLcode r = CURLE_OK;

	r |= curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
	r |= curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)TOTAL_MS);
	r |= curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	r |= curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	r |= curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, p);
	r |= curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, drop_bytes);
	r |= curl_easy_setopt(c, CURLOPT_WRITEDATA, p);
	r |= curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, drop_bytes);
	r |= curl_easy_setopt(c, CURLOPT_HEADERDATA, p);
	r |= curl_easy_setopt(c, CURLOPT_ERRORBUFFER, p->error);
	r |= curl_easy_setopt(c, CURLOPT_PRIVATE, p);
	return r == CURLE_OK;
}

int post_begin(CURLM *multi, json_t *message, struct post **out, struct err *e)
{
	struct post *p = xcalloc(1, sizeof(*p));
	json_t *fields = NULL;
	const char *url = NULL;
	const char *body = NULL;
	size_t n = 0;
	int any = 0;

	p->message = json_incref(message);
	if (json_unpack(message, "{s:I, s:s, s:b, s:o, s:s%}", "n", &p->n, "url", &url, "private",
			&any, "fields", &fields, "body", &body, &n) < 0) {
		post_end(NULL, p);
		return err_set(e, ERR_INVALID, "vivd sent a message that is none");
	}
	p->any_address = any != 0;
	p->easy = curl_easy_init();
	if (p->easy == NULL || add_fields(p, fields) < 0 || !set_request(p, url, body, n) ||
	    !set_limits(p) || curl_multi_add_handle(multi, p->easy) != CURLM_OK) {
		post_end(NULL, p);
		return err_set(e, ERR_EXHAUSTED, "no memory for a request");
	}
	*out = p;
	return 0;
}

struct post *post_of(CURL *easy)
{
	struct post *p = NULL;

	curl_easy_getinfo(easy, CURLINFO_PRIVATE, &p);
	return p;
}

json_t *post_result(const struct post *p, CURLcode code)
{
	char why[KEEP_TEXT] = "";
	long status = 0;

	curl_easy_getinfo(p->easy, CURLINFO_RESPONSE_CODE, &status);
	/* What was cut off behind a whole status is no matter. */
	if (code != CURLE_OK && !(code == CURLE_WRITE_ERROR && p->got_bytes > REPLY_MAX))
		status = 0;
	if (status == 0 && p->refused[0] != '\0')
		snprintf(why, sizeof(why), "its address %.60s is not one of the internet",
			 p->refused);
	else if (status == 0 && p->error[0] != '\0')
		str_copy(why, sizeof(why), p->error);
	else if (status == 0)
		str_copy(why, sizeof(why),
			 code != CURLE_OK ? curl_easy_strerror(code) : "it gave no status");
	for (char *c = why; *c != '\0'; c++) {
		if (*c < ' ' || *c > '~') /* parts of names that are the other side's */
			*c = '?';
	}
	return json_pack("{s:I, s:I, s:s}", "n", p->n, "status", (json_int_t)status, "error", why);
}

void post_end(CURLM *multi, struct post *p)
{
	if (p == NULL)
		return;
	if (multi != NULL)
		curl_multi_remove_handle(multi, p->easy);
	curl_easy_cleanup(p->easy);
	curl_slist_free_all(p->fields);
	json_decref(p->message);
	free(p);
}
