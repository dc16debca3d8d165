/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors are values: no malloc, so that they cross threads and survive a lack of memory.
 *
 * Leaf functions (base, os) return -errno. From the drivers up, a function that can explain takes
 * a `struct err *` last. The first error wins: once set, later calls only add context.
 */
#pragma once

#include "base/macros.h"

/* One line per kind: name, API code text, HTTP status (doc/theory/errors.md). */
#define ERR_KINDS(X)                                                                               \
	X(NONE, "ok", 200)                                                                         \
	X(INVALID, "invalid", 400)                                                                 \
	X(UNAUTHORIZED, "unauthorized", 401)                                                       \
	X(NOT_FOUND, "not_found", 404)                                                             \
	X(CONFLICT, "conflict", 409)                                                               \
	X(EXHAUSTED, "sandbox_capacity_unavailable", 503)                                          \
	X(LIMITED, "limited", 429)                                                                 \
	X(UNSUPPORTED, "unsupported", 501)                                                         \
	X(TIMEOUT, "timeout", 504)                                                                 \
	X(CANCELLED, "cancelled", 499)                                                             \
	X(VMM, "vmm_failed", 502)                                                                  \
	X(AGENT, "agent_failed", 502)                                                              \
	X(SYSTEM, "system", 500)                                                                   \
	X(INTERNAL, "internal_server_error", 500)

enum err_kind {
#define X(name, text, status) ERR_##name,
	ERR_KINDS(X)
#undef X
		ERR_KIND_N
};

/* A zeroed struct is "no error". `code` is the errno behind it, or 0. */
struct err {
	enum err_kind kind;
	int code;
	char msg[512];
};

/**
 * err_set() - set an error of a kind, with a message that names action and object
 * @e:		the error; NULL is allowed; unchanged if it is set already
 * @kind:	not ERR_NONE
 * @fmt:	printf format of the message
 *
 * Thread: any. Return: a negative errno that fits the kind, so that one can set and return.
 */
int err_set(struct err *e, enum err_kind kind, const char *fmt, ...) printf_like(3, 4);

/**
 * err_errno() - set an error from an errno: the message gets ": <strerror>" at its end
 * @e:		the error; NULL is allowed; unchanged if it is set already
 * @code:	a positive errno; the kind follows from it (ENOENT: ERR_NOT_FOUND stays ERR_SYSTEM,
 *		since a missing file of ours is no missing resource; ENOSPC, ENOMEM, EDQUOT:
 *		ERR_EXHAUSTED; ETIMEDOUT: ERR_TIMEOUT; ECANCELED: ERR_CANCELLED; else ERR_SYSTEM)
 * @fmt:	printf format of what was attempted ("open base image %s")
 *
 * Thread: any. Return: -code.
 */
int err_errno(struct err *e, int code, const char *fmt, ...) printf_like(3, 4);

/**
 * err_wrap() - put context before the message of an error that is set; keeps kind and code
 * @e:		the error; NULL is allowed
 * @fmt:	printf format of the context ("resume %s")
 *
 * Thread: any. Return: -code of the error, or a negative errno that fits its kind.
 */
int err_wrap(struct err *e, const char *fmt, ...) printf_like(2, 3);

/* clang-tidy sees one file at a time: it is told that these give negative numbers. */
#ifdef __clang_analyzer__
static inline int err_negative(int r)
{
	if (r >= 0)
		__builtin_unreachable();
	return r;
}
#define err_set(...)   err_negative(err_set(__VA_ARGS__))
#define err_errno(...) err_negative(err_errno(__VA_ARGS__))
#define err_wrap(...)  err_negative(err_wrap(__VA_ARGS__))
#endif

/** err_kind_name() - the kind as API clients see it ("not_found"); static storage */
const char *err_kind_name(enum err_kind kind);

/** err_kind_http() - the HTTP status of a kind, 200 for ERR_NONE */
int err_kind_http(enum err_kind kind);

/** err_is_set() - whether an error was set */
static inline bool err_is_set(const struct err *e)
{
	return e->kind != ERR_NONE;
}
