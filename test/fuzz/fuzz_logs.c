/* SPDX-License-Identifier: Apache-2.0 */
/* A guest may write anything to its console; lines of the log are printable, not empty, in order. */
#include "sandbox/console.h"
#include "sandbox/journal.h"
#include "sandbox/logs.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct log_lines *lines)
{
	uint64_t before = 0;

	vec_foreach (line, lines) {
		if (line->ms < before || line->text[0] == '\0')
			abort();
		before = line->ms;
		for (const char *p = line->text; *p != '\0'; p++) {
			unsigned char c = (unsigned char)*p;

			if ((c < ' ' && c != '\t') || c == 0x7f)
				abort();
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct log_query q = { .to_ms = UINT64_MAX, .limit = SIZE_MAX, .least = LOG_LEVEL_DEBUG };
	struct console console = CONSOLE_INIT;
	struct journal journal = { 0 };
	struct log_lines lines = { 0 };
	struct log_snapshot *s;

	console_feed(&console, (const char *)data, size / 2);
	console_feed(&console, (const char *)data + size / 2, size - size / 2);
	journal_add(&journal, 1, LOG_LEVEL_INFO, "%.*s", (int)size,
		    size > 0 ? (const char *)data : "");
	s = log_snapshot_of(&console, &journal);
	log_snapshot_select(s, &q, &lines);
	check(&lines);
	log_lines_free(&lines);
	log_snapshot_free(s);
	journal_done(&journal);
	console_done(&console);
	return 0;
}
