/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a sandbox used over time: three rings of samples, in less than 20 KiB.
 *
 *	level		a sample each	for
 *	SERIES_FINE	1 s		10 min
 *	SERIES_MID	30 s		2 h
 *	SERIES_COARSE	5 min		24 h
 *
 * Theory of operation. A sample has its place in a ring by the number of its period (Unix time
 * divided by the period's length), so that no time is kept with it; a period without a sample is a
 * gap. The record of a period that is not over yet is written anew with each sample: the mean of
 * the CPU, the last of all else. When the clock goes back, what lies in the future is forgotten.
 * Sizes are floating numbers of 24 bits: exact below 512 KiB, else short by less than 1 in 500 000.
 *
 * Pure: no clock, no I/O, no pointers, so that it can be written to a file as it is.
 */
#pragma once

#include "base/macros.h"

enum series_level { SERIES_FINE, SERIES_MID, SERIES_COARSE, SERIES_LEVEL_N };

enum {
	SERIES_FINE_N = 600,
	SERIES_MID_N = 240,
	SERIES_COARSE_N = 288,
	SERIES_RECORDS = SERIES_FINE_N + SERIES_MID_N + SERIES_COARSE_N,
	SERIES_RECORD_BYTES = 17,
	SERIES_CPU_MAX = 10000, /* hundredths of a percent */
	SERIES_BYTES_MAX = 20 * 1024,
};

/* What the guest's part of a sample is worth. */
enum series_guest {
	SERIES_GUEST_NONE, /* it never told: its fields are 0 */
	SERIES_GUEST_LAST, /* what it told last */
	SERIES_GUEST_NOW,  /* told for this sample */
};

struct series_sample {
	uint64_t unix_s;   /* of its period's beginning */
	unsigned cpu;      /* 0 to SERIES_CPU_MAX: of all of its CPUs */
	uint64_t host_mem; /* bytes that its VMM has for itself */
	uint64_t host_disk;
	enum series_guest guest;
	uint64_t mem_used; /* bytes, as the guest sees them */
	uint64_t mem_cache;
	uint64_t disk_used;
};

struct series_record {
	uint8_t bytes[SERIES_RECORD_BYTES];
};

struct series_ring {
	uint64_t newest;  /* number of the newest period; of an empty ring nothing */
	uint64_t cpu_sum; /* of the samples in it */
	uint64_t n;       /* samples in it; 0 = the ring is empty */
};

/* Zeroed = empty. */
struct series {
	uint64_t first_s; /* Unix time of the first sample; 0 = none yet */
	struct series_ring rings[SERIES_LEVEL_N];
	struct series_record records[SERIES_RECORDS];
};
static_assert(sizeof(struct series) <= SERIES_BYTES_MAX, "what a sandbox's samples may take");

/** series_period_s() - seconds between two samples of a level */
unsigned series_period_s(enum series_level level);

/** series_push() - add a sample, to all levels; another one of the same second replaces it in the
 * finest */
void series_push(struct series *s, const struct series_sample *sample);

/** series_level_since() - the finest level that reaches back to @from_s (Unix time), or to the
 * first sample if that is later */
enum series_level series_level_since(const struct series *s, uint64_t from_s);

/** series_each() - call @fn for each sample of a level that begins within [@from_s, @to_s], oldest
 * first */
void series_each(const struct series *s, enum series_level level, uint64_t from_s, uint64_t to_s,
		 void (*fn)(const struct series_sample *sample, void *arg), void *arg);

/** series_last() - the newest sample of the finest level. Return: whether there is one */
bool series_last(const struct series *s, struct series_sample *out);

/** series_is_valid() - whether it may be used: one of any bytes, such as a file had, may not */
bool series_is_valid(const struct series *s);
