/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration file that is read without complaint can be printed, and reads the same again. */
#include "base/buf.h"
#include "base/str.h"
#include "daemon/config.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *print(const struct config *c, size_t *n)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, n);

	if (out == NULL || config_print(c, out) < 0 || fclose(out) != 0)
		abort();
	return text;
}

static void read_again(const char *text, size_t n, const struct config *first)
{
	struct config again;
	struct err e = { 0 };

	config_init(&again);
	if (config_read_text(&again, text, n, "fuzz", &e) < 0)
		abort();
	for (size_t i = 0; config_key(i) != NULL; i++) {
		if (!streq(first->values[i].text, again.values[i].text))
			abort();
	}
	config_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config c;
	struct err e = { 0 };

	config_init(&c);
	if (config_read_text(&c, (const char *)data, size, "fuzz", &e) == 0 &&
	    config_check(&c, &e) == 0) {
		size_t n = 0;
		auto_free char *text = print(&c, &n);

		read_again(text, n, &c);
	} else if (!err_is_set(&e)) {
		abort();
	}
	config_done(&c);
	return 0;
}
