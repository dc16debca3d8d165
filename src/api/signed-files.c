/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signed URLs of files, "/files?path=P&signature=S", say nothing of their sandbox when all are
 * served at one address. The signature is "v1_" and the base64, without padding, of SHA-256 over
 * "path:operation:username:token" and, if it expires, ":seconds": so the sandbox is the one whose
 * token gives it. What comes before the token is hashed once, what follows once per sandbox.
 */
#include "api/signed-files.h"

#include "base/base64.h"
#include "base/sha256.h"
#include "base/str.h"

enum { SUM_TEXT_SIZE = BASE64_ENCODED_LEN(SHA256_BYTES) };

struct search {
	struct sha256 before;   /* over what comes before the token */
	const char *expiration; /* NULL = never */
	const char *sum;        /* the signature behind its version */
	struct sandbox *found;
};

bool signed_files_asked(const struct http_head *head)
{
	auto_free char *signature = NULL;

	/* One that cannot be read is there, too. */
	return streq(head->path, "/files") &&
	       http_query_get(head->query, "signature", &signature) != 0;
}

static void add(struct sha256 *sha, const char *s)
{
	sha256_add(sha, s, strlen(s));
}

/* Goes on behind a match, and compares all bytes: the time tells nothing. */
static void try_one(struct sandbox *sb, void *arg)
{
	struct search *s = arg;
	const struct db_sandbox *row = sandbox_row(sb);
	unsigned char digest[SHA256_BYTES];
	char sum[SUM_TEXT_SIZE];
	struct sha256 sha = s->before;
	size_t n;

	if (row->state != DB_RUNNING || row->access_token[0] == '\0')
		return;
	add(&sha, row->access_token);
	if (s->expiration != NULL) {
		add(&sha, ":");
		add(&sha, s->expiration);
	}
	sha256_end(&sha, digest);
	n = base64_encode(digest, sizeof(digest), sum) - 1; /* 32 bytes end with one '=' */
	if (strlen(s->sum) == n && secret_equal(s->sum, sum, n))
		s->found = sb;
}

static void hash_before(struct sha256 *sha, const char *path, const char *operation,
			const char *username)
{
	const char *const parts[] = { path, operation, username };

	sha256_init(sha);
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		add(sha, parts[i] != NULL ? parts[i] : "");
		add(sha, ":");
	}
}

struct sandbox *signed_files_find(struct api *api, const struct http_head *head)
{
	static const char version[] = "v1_";
	auto_free char *signature = NULL;
	auto_free char *path = NULL;
	auto_free char *username = NULL;
	auto_free char *expiration = NULL;
	struct search s = { .found = NULL };

	if (http_query_get(head->query, "signature", &signature) <= 0 ||
	    http_query_get(head->query, "path", &path) < 0 ||
	    http_query_get(head->query, "username", &username) < 0 ||
	    http_query_get(head->query, "signature_expiration", &expiration) < 0 ||
	    !str_starts(signature, version))
		return NULL;
	hash_before(&s.before, path, streq(head->method, "POST") ? "write" : "read", username);
	s.expiration = expiration;
	s.sum = signature + strlen(version);
	manager_each(api->m, try_one, &s);
	return s.found;
}
