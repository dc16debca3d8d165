/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What vivd and viv-hook say to each other: JSON objects, one a message, over a SOCK_SEQPACKET
 * socket pair.
 *
 * vivd sends {"n": number, "url": text, "private": whether any address will do, "fields": ["Name:
 * value", …], "body": text}, and gets for each, in any order, {"n": the same, "status": of the
 * reply, "error": ""}, or with the status 0 why there was none. End of file ends viv-hook.
 */
#pragma once

enum {
	HOOK_CONTROL_FD = 3,
	HOOK_MESSAGE_MAX = 128 * 1024, /* bytes; the kernel takes 200 KiB */
	HOOK_RESULT_MAX = 1024,
	HOOK_POSTS_MAX = 64, /* at a time */
};
