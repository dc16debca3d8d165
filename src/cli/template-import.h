/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

struct cli;

/** template_import() - viv template import NAME FILE: become the program that makes templates;
 * argv[0] is "import". Return: an exit code, when that failed */
int template_import(struct cli *cli, int argc, char **argv);
