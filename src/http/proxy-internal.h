/* SPDX-License-Identifier: Apache-2.0 */
/* Heads as the proxy passes them on (RFC 9110 section 7.6.1). */
#pragma once

#include "http/proxy.h"

enum { PROXY_FIELDS_MAX = HTTP_HEADERS_MAX + 6 + PROXY_REQUEST_FIELDS_MAX };

/**
 * proxy_request_write() - the head of a request as the upstream gets it
 * @h:		as the client sent it
 * @out:	appended to
 *
 * Return: 0; -errno, of which -EINVAL is the client's doing.
 */
must_check int proxy_request_write(struct buf *out, const struct http_head *h,
				   const struct proxy_spec *spec);

/** proxy_response_fields() - the headers of a response as the client gets them, with those of @more
 * (NULL = none) that it does not have; ended by a NULL name; they borrow from @h and @more */
void proxy_response_fields(struct http_field out[PROXY_FIELDS_MAX], const struct http_head *h,
			   const struct http_field *more);

/** proxy_switch_fields() - as proxy_response_fields(), of a 101 */
void proxy_switch_fields(struct http_field out[PROXY_FIELDS_MAX], const struct http_head *h);

/** proxy_response_length() - the length that a response announces, which for HEAD is not that of
 * its body; -1 = none */
int64_t proxy_response_length(const struct http_head *h);
