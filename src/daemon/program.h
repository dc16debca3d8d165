/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/macros.h"

/** program_find() - the path of a program that belongs to this vivd: beside it, where both were
 * built, else in libexec; caller frees */
char *program_find(const char *name);
