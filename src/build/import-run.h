/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "build/build.h"

/**
 * import_run() - template_import(), with its progress on stderr
 *
 * SIGINT and SIGTERM end it and leave nothing behind. Thread: main, before any other thread exists.
 * Return: 0; -errno with @e set.
 */
must_check int import_run(const struct template_import_spec *spec, struct err *e);
