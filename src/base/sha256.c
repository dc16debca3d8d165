/* SPDX-License-Identifier: Apache-2.0 */
#define OPENSSL_API_COMPAT 10101
#include "base/sha256.h"

#include <openssl/crypto.h>

void sha256_init(struct sha256 *sha)
{
	SHA256_Init(&sha->ctx);
}

void sha256_add(struct sha256 *sha, const void *p, size_t n)
{
	SHA256_Update(&sha->ctx, p, n);
}

void sha256_end(struct sha256 *sha, unsigned char out[SHA256_BYTES])
{
	SHA256_Final(out, &sha->ctx);
}

void sha256_hex(struct sha256 *sha, char out[SHA256_HEX_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	unsigned char bytes[SHA256_BYTES];

	sha256_end(sha, bytes);
	for (size_t i = 0; i < SHA256_BYTES; i++) {
		out[2 * i] = digits[bytes[i] >> 4];
		out[2 * i + 1] = digits[bytes[i] & 15];
	}
	out[SHA256_HEX_SIZE - 1] = '\0';
}

bool secret_equal(const void *a, const void *b, size_t n)
{
	return CRYPTO_memcmp(a, b, n) == 0;
}
