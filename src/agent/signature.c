/* SPDX-License-Identifier: Apache-2.0 */
/*
 * "v1_" and the base64, without padding, of SHA-256 over "path:operation:username:token" and, if it
 * expires, ":seconds".
 */
#include "agent/signature.h"

#include "base/base64.h"
#include "base/sha256.h"
#include "base/str.h"

static const char version[] = "v1_";

static void add(struct sha256 *sha, const char *s)
{
	sha256_add(sha, s, strlen(s));
}

static void digest(const struct signature_claim *claim, const char *token,
		   unsigned char out[SHA256_BYTES])
{
	const char *const parts[] = { claim->path, claim->operation, claim->username, token,
				      claim->expiration };
	struct sha256 sha;

	sha256_init(&sha);
	for (size_t i = 0; i < ARRAY_SIZE(parts) && parts[i] != NULL; i++) {
		if (i > 0)
			add(&sha, ":");
		add(&sha, parts[i]);
	}
	sha256_end(&sha, out);
}

bool signature_ok(const char *signature, const struct signature_claim *claim, const char *token)
{
	unsigned char sum[SHA256_BYTES];
	char want[BASE64_ENCODED_LEN(SHA256_BYTES)];
	size_t n;

	digest(claim, token, sum);
	n = base64_encode(sum, sizeof(sum), want) - 1; /* 32 bytes end with one '=' */
	if (!str_starts(signature, version))
		return false;
	signature += strlen(version);
	return strlen(signature) == n && secret_equal(signature, want, n);
}
