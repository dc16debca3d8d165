/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Seals: what a file of a disk was when nobody wrote to it any more. A layer that has another one
 * above it never changes, nor does a base. So each gets, while nobody waits, an extended attribute
 * with the checksum of its bytes and what it looked like from outside (struct file_mark). It
 * belongs to the file and not to a name of it, so all disks that share the file have it.
 *
 * Whoever opens such a file compares the looks, and reads it only when these are others. A file
 * without a seal (it was not made yet, or the file system has no attributes) is believed.
 */
#pragma once

#include "base/op.h"

/**
 * seal_make() - seal a file that nobody writes to, unless it is sealed
 * @fd:	for reading; borrowed
 *
 * It takes as long as reading all of it. Return: 0 (also where there can be none); -ECANCELED and
 * -ETIMEDOUT by @op, whose error is not set; -errno.
 */
must_check int seal_make(int fd, const struct op *op);

/**
 * seal_check() - whether a file is what it was when it was sealed
 * @path:	for messages
 * @all:	read it in any case
 *
 * Return: 0 (also if it has no seal); -errno with op->err set (ERR_INVALID names the file).
 */
must_check int seal_check(int fd, const char *path, bool all, struct op *op);
