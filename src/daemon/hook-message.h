/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is posted to a webhook: E2B's payload and headers, and ours. No process here and no store,
 * so it can be tested and fuzzed.
 *
 * E2B's signature is a hash of secret and body, one behind the other, which does not say when it
 * was made and is no MAC; so there is one of ours beside it:
 *
 *	e2b-signature:      base64 without padding of SHA-256(secret body)
 *	Vivarium-Signature: t=SECONDS,v1=HEX, HEX = HMAC-SHA256(secret, "SECONDS.body")
 */
#pragma once

#include "base/json.h"
#include "store/webhooks.h"

/* What one delivery is of; all borrowed. */
struct hook_delivery {
	uint64_t n; /* by which its result is known */
	const struct db_webhook *webhook;
	const struct db_event *event;
	const struct db_event_facts *facts;
	const char *tag; /* of the instance: numbers of events are its own */
	uint64_t now_ms; /* CLOCK_REALTIME */
	bool any_address;
};

/* What came of one. */
struct hook_result {
	uint64_t n;
	unsigned status;               /* of HTTP; 0 = none came */
	char error[WEBHOOK_ERROR_MAX]; /* why it was not delivered; "" = it was */
};

/** hook_body() - the JSON that is posted; caller frees; NULL without memory */
char *hook_body(const struct hook_delivery *d);

/** hook_message() - what viv-hook is sent (base/hookwords.h); new reference; NULL without memory */
json_t *hook_message(const struct hook_delivery *d, const char *body);

/** hook_result_parse() - what viv-hook answers; it may have been taken over by who it spoke with.
 * Return: 0; -EBADMSG */
must_check int hook_result_parse(const char *text, size_t n, struct hook_result *out);

/**
 * hook_back_off_ms() - how long to wait before the next try
 * @tries:	that failed, at least 1
 * @chance:	any number: the wait is between a half and the whole of 1 s, doubled with each try,
 *		up to 15 min
 */
uint64_t hook_back_off_ms(unsigned tries, uint32_t chance);
