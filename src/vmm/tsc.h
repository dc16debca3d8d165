/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/macros.h"

/**
 * tsc_begin() - begin to measure what tsc_khz() tells
 *
 * For who has something else to do meanwhile. Thread: any; never waits. Later calls do nothing.
 */
void tsc_begin(void);

/**
 * tsc_khz() - the rate of this host's time stamp counter
 *
 * A guest under TCG reads the host's counter. Told its rate, the guest's kernel need not calibrate
 * it against an emulated timer, which fails on a busy host and leaves the boot hanging. Found once
 * per process; the first call may take what is left of 50 ms since tsc_begin().
 *
 * Thread: worker or main. Return: kHz; 0 when unknown.
 */
uint64_t tsc_khz(void);
