/* SPDX-License-Identifier: Apache-2.0 */
/* Signed URLs of files: who has one needs no token. */
#pragma once

#include "base/macros.h"

/* What a signature covers: all as the client sent it. */
struct signature_claim {
	const char *path;
	const char *operation; /* "read" or "write" */
	const char *username;
	const char *expiration; /* seconds since 1970; NULL = never */
};

/** signature_ok() - whether a signature is the one for a claim, made with the sandbox's @token */
bool signature_ok(const char *signature, const struct signature_claim *claim, const char *token);
