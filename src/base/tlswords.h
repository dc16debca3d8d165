/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What vivd and viv-tls say to each other: messages of one size over a SOCK_SEQPACKET socket pair,
 * some with descriptors. Both are of one build, so the struct is the format.
 *
 * vivd sends TLS_USE with two files, certificate chain and key, and gets TLS_USED or TLS_REFUSED
 * for each; and TLS_SERVE with two sockets, a client's that it accepted, and one end of a pair
 * whose other end it serves in the clear. End of file, either way, ends viv-tls.
 */
#pragma once

#include <stdint.h>

enum {
	TLS_CONTROL_FD = 3,
	TLS_TEXT_SIZE = 240,
	TLS_EXPIRY_DAYS = 14, /* before a certificate's end, from when on that is a warning */
};

enum tls_word { TLS_USE = 1, TLS_SERVE, TLS_USED, TLS_REFUSED };

struct tls_message {
	uint32_t word;            /* enum tls_word */
	uint32_t covers;          /* of TLS_USED: whether the certificate is for *.<domain>, too */
	int64_t not_after_s;      /* of TLS_USED: when it expires, seconds since 1970 */
	char text[TLS_TEXT_SIZE]; /* of TLS_REFUSED: why; with a NUL */
};
