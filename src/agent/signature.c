/* SPDX-License-Identifier: Apache-2.0 */
/*
 * "v1_" and the base64, without padding, of SHA-256 over "path:operation:username:token" and, if it
 * expires, ":seconds".
 *
 * The digest is libcrypto's, by its old functions: a static binary grows by 24 KB with them, and by
 * 3.6 MB with the new ones, which look for algorithms in providers.
 */
#define OPENSSL_API_COMPAT 10101
#include "agent/signature.h"

#include "base/base64.h"
#include "base/str.h"

#include <openssl/sha.h>

static const char version[] = "v1_";

static void add(SHA256_CTX *sha, const char *s)
{
	SHA256_Update(sha, s, strlen(s));
}

static void digest(const struct signature_claim *claim, const char *token,
		   unsigned char out[SHA256_DIGEST_LENGTH])
{
	const char *const parts[] = { claim->path, claim->operation, claim->username, token,
				      claim->expiration };
	SHA256_CTX sha;

	SHA256_Init(&sha);
	for (size_t i = 0; i < ARRAY_SIZE(parts) && parts[i] != NULL; i++) {
		if (i > 0)
			add(&sha, ":");
		add(&sha, parts[i]);
	}
	SHA256_Final(out, &sha);
}

bool signature_ok(const char *signature, const struct signature_claim *claim, const char *token)
{
	unsigned char sum[SHA256_DIGEST_LENGTH];
	char want[BASE64_ENCODED_LEN(SHA256_DIGEST_LENGTH)];
	unsigned char differ = 0;
	size_t n;

	digest(claim, token, sum);
	n = base64_encode(sum, sizeof(sum), want) - 1; /* 32 bytes end with one '=' */
	if (!str_starts(signature, version))
		return false;
	signature += strlen(version);
	if (strlen(signature) != n)
		return false;
	/* All of it, so that the time says nothing of where it differs. */
	for (size_t i = 0; i < n; i++)
		differ |= (unsigned char)(signature[i] ^ want[i]);
	return differ == 0;
}
