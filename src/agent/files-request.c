/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/files-request.h"

#include "agent/agent.h"
#include "agent/caller.h"
#include "agent/identity.h"
#include "agent/reply.h"
#include "agent/signature.h"
#include "base/clock.h"
#include "base/parse.h"
#include "base/str.h"

#include <errno.h>
#include <stdlib.h>

/* A client that stops reading leaves up to 320 KiB with us, so this bounds them at 40 MiB. */
enum { TRANSFERS_MAX = 128 };

static unsigned n_transfers; /* of the loop's thread */

int files_query_get(const struct http_head *head, const char *name, char **out,
		    struct files_error *e)
{
	int r = http_query_get(head->query, name, out);

	if (r == -ENOMEM)
		return files_error_set(e, 503, "out of memory");
	if (r < 0)
		return files_error_set(e, 400, "query is malformed");
	return 0;
}

static int check_signature(const struct agent *a, const struct http_head *head,
			   const struct signature_claim *claim, struct files_error *e)
{
	auto_free char *signature = NULL;
	uint64_t expires = UINT64_MAX;

	if (files_query_get(head, "signature", &signature, e) < 0)
		return -EPROTO;
	if (signature == NULL)
		return files_error_set(e, 401, "missing signature query parameter");
	if (claim->expiration != NULL && parse_u64(claim->expiration, 0, INT64_MAX, &expires) < 0)
		return files_error_set(e, 400, "signature_expiration is not a number of seconds");
	if (!signature_ok(signature, claim, a->identity.access_token))
		return files_error_set(e, 401, "invalid signature");
	if (expires < clock_realtime_ms() / MS_PER_S)
		return files_error_set(e, 401, "signature is already expired");
	return 0;
}

/* A token that is there must be right; without one the signature counts. */
static int authorize(const struct agent *a, const struct http_head *head, const char *operation,
		     const struct files_request *r, struct files_error *e)
{
	const char *token = http_head_get(head, "X-Access-Token");
	auto_free char *expiration = NULL;
	struct signature_claim claim = {
		.path = r->path != NULL ? r->path : "",
		.operation = operation,
		.username = r->username != NULL ? r->username : "",
	};

	if (a->identity.access_token == NULL)
		return 0;
	if (token != NULL && token[0] != '\0') {
		if (identity_token_ok(&a->identity, token))
			return 0;
		return files_error_set(e, 401, "access token present in header but does not match");
	}
	if (files_query_get(head, "signature_expiration", &expiration, e) < 0)
		return -EPROTO;
	claim.expiration = expiration;
	return check_signature(a, head, &claim, e);
}

int files_request_read(const struct agent *a, const struct http_head *head, const char *operation,
		       struct files_request *out, struct files_error *e)
{
	struct connect_error why = { 0 };

	if (files_query_get(head, "path", &out->path, e) < 0 ||
	    files_query_get(head, "username", &out->username, e) < 0 ||
	    authorize(a, head, operation, out, e) < 0)
		return -EPROTO;
	if (caller_find(a, out->username, &out->user, &why) < 0)
		return files_error_set(e, connect_code_http(why.code), "%s", why.msg);
	return 0;
}

int files_request_resolve(const struct agent *a, const struct files_request *r, const char *path,
			  char out[PATH_MAX], struct files_error *e)
{
	struct connect_error why = { 0 };

	if (caller_path(a, &r->user, path, out, &why) < 0)
		return files_error_set(e, connect_code_http(why.code), "%s", why.msg);
	return 0;
}

void files_request_done(struct files_request *r)
{
	user_done(&r->user);
	free(r->path);
	free(r->username);
	*r = (struct files_request){ 0 };
}

int files_request_path(const struct agent *a, const struct http_head *head, const char *operation,
		       char out[PATH_MAX], struct files_error *e)
{
	cleanup(files_request_done) struct files_request r = { .path = NULL };

	if (files_request_read(a, head, operation, &r, e) < 0)
		return -EPROTO;
	return files_request_resolve(a, &r, r.path != NULL ? r.path : "", out, e);
}

void files_reply_error(struct http_exchange *x, const struct files_error *e)
{
	reply_error(x, e->status, "%s", e->msg);
}

int files_transfer_begin(struct files_error *e)
{
	if (n_transfers >= TRANSFERS_MAX)
		return files_error_set(e, 429, "more than %d transfers at once: try again later",
				       TRANSFERS_MAX);
	n_transfers++;
	return 0;
}

void files_transfer_end(void)
{
	n_transfers--;
}
