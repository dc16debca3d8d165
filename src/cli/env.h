/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "cli/cli.h"

/** env_add() - add "NAME=VALUE", or NAME with the value it has here, to an object of strings.
 * Return: 0 (also when NAME is not set here); -1 no name, or not UTF-8 */
must_check int env_add(json_t *env, const char *text);
