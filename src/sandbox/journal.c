/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/journal.h"

#include "base/clock.h"
#include "base/str.h"

#include <stdio.h>
#include <stdlib.h>

void journal_add(struct journal *j, uint64_t ms, enum log_level level, const char *fmt, ...)
{
	char text[JOURNAL_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (j->n == JOURNAL_MAX) {
		free(j->at[0].text);
		j->n--;
		memmove(&j->at[0], &j->at[1], j->n * sizeof(j->at[0]));
	}
	j->at[j->n++] = (struct journal_entry){ .ms = ms != 0 ? ms : clock_realtime_ms(),
						.level = level,
						.text = str_dup(text) };
}

void journal_done(struct journal *j)
{
	for (size_t i = 0; i < j->n; i++)
		free(j->at[i].text);
	j->n = 0;
}
