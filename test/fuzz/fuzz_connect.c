/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's readers of a client's bytes: the envelope with the message in it, and the headers.
 * The first byte is the size of the pieces in which the rest arrives.
 */
#include "agent/envelope.h"
#include "agent/field.h"
#include "agent/signals.h"
#include "base/base64.h"
#include "base/str.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_fields(const json_t *message)
{
	struct connect_error e = { 0 };
	json_t *process = NULL;
	const char *text = NULL;
	char *bytes = NULL;
	uint64_t number = 0;
	bool flag = true;
	size_t n = 0;

	ignore_err(field_object(message, "process", &process, &e)); /* broken input is the point */
	ignore_err(field_string(process, "cmd", &text, &e));
	ignore_err(field_strings(process, "args", true, &process, &e));
	ignore_err(field_bool(message, "stdin", &flag, &e));
	if (field_u64(message, "pid", INT32_MAX, &number, &e) > 0)
		assert(number <= INT32_MAX);
	if (field_string(message, "signal", &text, &e) == 0 && text != NULL)
		ignore_err(signal_parse(text));
	if (field_bytes(message, "stdin", &bytes, &n, &e) > 0)
		free(bytes);
}

static void read_envelope(const char *p, size_t n, size_t step)
{
	struct envelope_reader r = ENVELOPE_READER_INIT;
	struct connect_error e = { 0 };
	json_t *message = NULL;
	json_t *error;
	int failed = 0;

	for (size_t i = 0; i < n && failed == 0; i += step)
		failed = envelope_feed(&r, p + i, MIN(step, n - i), &e);
	if (failed == 0)
		failed = envelope_finish(&r, &e);
	if (failed == 0)
		failed = connect_message_parse(buf_str(&r.message), r.message.len, &message, &e);
	if (failed == 0)
		read_fields(message);
	assert((failed == 0) == (e.code == CONNECT_OK));
	error = connect_error_json(&e);
	assert(error != NULL);
	json_decref(error);
	json_decref(message);
	envelope_reader_done(&r);
}

static void read_headers(const char *text)
{
	struct connect_error e = { 0 };
	auto_free char *user = NULL;
	uint64_t ms;

	ignore_err(connect_timeout_parse(text, &ms, &e)); /* broken input is the point */
	ignore_err(connect_basic_user(text, &user, &e));
	connect_content_type_is(text, "application/json");
	assert(connect_keepalive_ms(text) >= 1000);
}

/* What decodes must come out the same after encoding and decoding again. */
static void read_base64(const char *p, size_t n)
{
	auto_free char *bytes = NULL;
	auto_free char *again = NULL;
	auto_free char *text = NULL;
	size_t n_bytes;
	size_t n_again;
	int r;

	if (base64_decode(p, n, &bytes, &n_bytes) < 0)
		return;
	text = malloc(BASE64_ENCODED_LEN(n_bytes) + 1);
	assert(text != NULL);
	r = base64_decode(text, base64_encode(bytes, n_bytes, text), &again, &n_again);
	assert(r == 0 && n_again == n_bytes && memcmp(again, bytes, n_bytes) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_free char *text = NULL;

	if (size == 0)
		return 0;
	text = malloc(size);
	assert(text != NULL);
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	read_envelope(text, size - 1, data[0] != 0 ? data[0] : 1);
	read_headers(text);
	read_base64(text, size - 1);
	return 0;
}
