/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libuv handles on the heap. libuv frees a handle's memory only after a turn of the loop; these own
 * themselves, so that what they belong to can be freed at once.
 */
#pragma once

#include "base/macros.h"

#include <uv.h>

/** handle_timer_new() - a stopped timer; its data is @data */
uv_timer_t *handle_timer_new(uv_loop_t *loop, void *data);

/** handle_timer_free() - stop and free *@t, set it to NULL; idempotent */
void handle_timer_free(uv_timer_t **t);

/**
 * handle_poll_new() - a watcher of a descriptor, not started; its data is @data
 * @fd:		made non-blocking; not owned
 * @out:	the watcher
 *
 * Return: 0; -errno.
 */
must_check int handle_poll_new(uv_loop_t *loop, int fd, void *data, uv_poll_t **out);

/** handle_poll_free() - stop and free *@p, set it to NULL; idempotent; call before closing the fd
 */
void handle_poll_free(uv_poll_t **p);
