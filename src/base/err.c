/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include "base/str.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	int http;
} kinds[] = {
#define X(name, text, status) [ERR_##name] = { text, status },
	ERR_KINDS(X)
#undef X
};
static_assert(ARRAY_SIZE(kinds) == ERR_KIND_N, "every kind has a name and a status");

const char *err_kind_name(enum err_kind kind)
{
	return kinds[kind].name;
}

int err_kind_http(enum err_kind kind)
{
	return kinds[kind].http;
}

static enum err_kind kind_of_errno(int code)
{
	switch (code) {
	case ENOSPC:
	case ENOMEM:
	case EDQUOT:
	case EMFILE:
	case ENFILE:
		return ERR_EXHAUSTED;
	case ETIMEDOUT:
		return ERR_TIMEOUT;
	case ECANCELED:
		return ERR_CANCELLED;
	default:
		return ERR_SYSTEM;
	}
}

static int errno_of(const struct err *e)
{
	static const int codes[ERR_KIND_N] = {
		[ERR_INVALID] = EINVAL,         [ERR_UNAUTHORIZED] = EACCES,
		[ERR_NOT_FOUND] = ENOENT,       [ERR_CONFLICT] = EBUSY,
		[ERR_EXHAUSTED] = ENOSPC,       [ERR_LIMITED] = EAGAIN,
		[ERR_UNSUPPORTED] = EOPNOTSUPP, [ERR_TIMEOUT] = ETIMEDOUT,
		[ERR_CANCELLED] = ECANCELED,
	};

	if (e->code != 0)
		return -e->code;
	return codes[e->kind] != 0 ? -codes[e->kind] : -EIO;
}

/* Adds to a message what still fits of a text. */
static void append(struct err *e, const char *text)
{
	size_t used = strlen(e->msg);

	str_copy(e->msg + used, sizeof(e->msg) - used, text);
}

int(err_set)(struct err *e, enum err_kind kind, const char *fmt, ...)
{
	struct err tmp = { .kind = kind };
	va_list ap;

	if (e != NULL && !err_is_set(e)) {
		e->kind = kind;
		e->code = 0;
		va_start(ap, fmt);
		vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
		va_end(ap);
	}
	return errno_of(&tmp);
}

int(err_errno)(struct err *e, int code, const char *fmt, ...)
{
	if (e != NULL && !err_is_set(e)) {
		char reason[128];
		va_list ap;

		e->kind = kind_of_errno(code);
		e->code = code;
		va_start(ap, fmt);
		vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
		va_end(ap);
		append(e, ": ");
		append(e, strerror_r(code, reason, sizeof(reason)));
	}
	return -code;
}

int(err_wrap)(struct err *e, const char *fmt, ...)
{
	char old[sizeof(e->msg)];
	va_list ap;

	if (e == NULL)
		return -EIO;
	memcpy(old, e->msg, sizeof(old));
	if (!err_is_set(e))
		e->kind = ERR_INTERNAL;
	va_start(ap, fmt);
	vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	append(e, ": ");
	append(e, old);
	return errno_of(e);
}
