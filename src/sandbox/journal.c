/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/journal.h"

#include "base/clock.h"
#include "base/str.h"

#include <stdio.h>
#include <stdlib.h>

void journal_add(struct journal *j, uint64_t ms, enum log_level level, const char *fmt, ...)
{
	char text[JOURNAL_TEXT_MAX];
	struct journal_entries *all = &j->entries;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (all->n == JOURNAL_MAX) {
		free(all->at[0].text);
		all->n--;
		memmove(&all->at[0], &all->at[1], all->n * sizeof(all->at[0]));
	}
	journal_entries_push(all, (struct journal_entry){ .ms = ms != 0 ? ms : clock_realtime_ms(),
							  .level = level,
							  .text = str_dup(text) });
}

void journal_done(struct journal *j)
{
	vec_foreach (entry, &j->entries)
		free(entry->text);
	journal_entries_done(&j->entries);
}
