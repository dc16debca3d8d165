/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SHA-256. The digest is libcrypto's, linked in statically and by its old functions: a program
 * grows by 24 KB with them. With the new ones, which look for algorithms in providers, it would be
 * 3.6 MB, and at run time 2 MiB of memory for a shared library.
 */
#pragma once

#include "base/macros.h"

#include <openssl/sha.h>

enum { SHA256_BYTES = 32, SHA256_HEX_SIZE = 2 * SHA256_BYTES + 1 };
static_assert((int)SHA256_BYTES == SHA256_DIGEST_LENGTH, "one length of a digest");

/* A digest under way; a copy goes on from the same place. It owns nothing. */
struct sha256 {
	SHA256_CTX ctx;
};

/** sha256_init() - begin a digest */
void sha256_init(struct sha256 *sha);

/** sha256_add() - more of what is digested */
void sha256_add(struct sha256 *sha, const void *p, size_t n);

/** sha256_end() - the digest; @sha is used up */
void sha256_end(struct sha256 *sha, unsigned char out[SHA256_BYTES]);

/** sha256_hex() - the digest in lower case, with a NUL; @sha is used up */
void sha256_hex(struct sha256 *sha, char out[SHA256_HEX_SIZE]);

/** secret_equal() - whether @n bytes are the same; the time does not tell where they differ */
bool secret_equal(const void *a, const void *b, size_t n);

/* An HMAC-SHA256 (RFC 2104) under way. */
struct hmac {
	struct sha256 inner;
	struct sha256 outer;
};

/** hmac_init() - begin one with a key of any length */
void hmac_init(struct hmac *hmac, const void *key, size_t n);

/** hmac_add() - more of what is authenticated */
void hmac_add(struct hmac *hmac, const void *p, size_t n);

/** hmac_hex() - the code in lower case, with a NUL; @hmac is used up */
void hmac_hex(struct hmac *hmac, char out[SHA256_HEX_SIZE]);
