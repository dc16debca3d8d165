/* SPDX-License-Identifier: Apache-2.0 */
/* Errors of the file transfers, as HTTP has them. Values, so that they cross threads. */
#pragma once

#include "base/macros.h"

#include <sys/types.h>

struct files_error {
	int status; /* 0 = none */
	char msg[512];
};

/** files_error_set() - set an error; the first one wins. Return: -EPROTO, to set and return */
int files_error_set(struct files_error *e, int status, const char *fmt, ...) printf_like(3, 4);

/**
 * files_error_errno() - set an error that a system call gave
 * @code:	positive errno; the status follows from it
 * @what:	what was attempted ("open")
 * @path:	with which file
 *
 * Return: -EPROTO.
 */
int files_error_errno(struct files_error *e, int code, const char *what, const char *path);

/** files_check_regular() - refuse what is no regular file: opening a device may do something, and a
 * pipe may have no other end. Return: 0; -EPROTO with @e set */
must_check int files_check_regular(mode_t mode, const char *path, struct files_error *e);
