/* SPDX-License-Identifier: Apache-2.0 */
#define OPENSSL_API_COMPAT 10101
#include "base/sha256.h"

#include <openssl/crypto.h>
#include <string.h>

enum { BLOCK_BYTES = 64, INNER_PAD = 0x36, OUTER_PAD = 0x5c };

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

static void begin_padded(struct sha256 *sha, const unsigned char key[BLOCK_BYTES],
			 unsigned char pad)
{
	unsigned char block[BLOCK_BYTES];

	for (size_t i = 0; i < BLOCK_BYTES; i++)
		block[i] = key[i] ^ pad;
	sha256_init(sha);
	sha256_add(sha, block, sizeof(block));
}

void hmac_init(struct hmac *hmac, const void *key, size_t n)
{
	unsigned char block[BLOCK_BYTES] = { 0 };

	if (n <= BLOCK_BYTES) {
		memcpy(block, key, n);
	} else {
		struct sha256 sha;

		sha256_init(&sha);
		sha256_add(&sha, key, n);
		sha256_end(&sha, block);
	}
	begin_padded(&hmac->inner, block, INNER_PAD);
	begin_padded(&hmac->outer, block, OUTER_PAD);
}

void hmac_add(struct hmac *hmac, const void *p, size_t n)
{
	sha256_add(&hmac->inner, p, n);
}

void hmac_hex(struct hmac *hmac, char out[SHA256_HEX_SIZE])
{
	unsigned char inner[SHA256_BYTES];

	sha256_end(&hmac->inner, inner);
	sha256_add(&hmac->outer, inner, sizeof(inner));
	sha256_hex(&hmac->outer, out);
}
