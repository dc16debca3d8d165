/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One POST to a webhook. Who receives it is foreign, and so is the address that its name has this
 * time: the check is of the address that is connected to, and redirects are not followed. Of the
 * reply only its status counts.
 */
#pragma once

#include "base/err.h"
#include "base/json.h"

#include <curl/curl.h>

struct post;

/**
 * post_begin() - add a POST to those that run
 * @message:	as vivd sends it (base/hookwords.h); a reference is kept
 * @out:	post_end() ends it
 *
 * Return: 0; -errno with @e set: the message is none, or there is no memory.
 */
must_check int post_begin(CURLM *multi, json_t *message, struct post **out, struct err *e);

/** post_of() - the POST of a handle that curl tells of */
struct post *post_of(CURL *easy);

/** post_result() - what is said to vivd of one that ended with @code; new reference, NULL without
 * memory */
json_t *post_result(const struct post *p, CURLcode code);

/** post_end() - end one and free it; NULL is allowed */
void post_end(CURLM *multi, struct post *p);
