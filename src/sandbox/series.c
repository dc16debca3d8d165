/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/series.h"

enum {
	SIZE_BYTES = 3, /* of a size in a record: 5 bits of exponent, 19 of mantissa */
	MANTISSA_BITS = 19,
	EXPONENT_MAX = 31,
	N_SIZES = 5,
	CPU_BITS = 14, /* 0 = no sample, else the CPU + 1; the guest's part is above it */
};
static_assert(2 + N_SIZES * SIZE_BYTES == SERIES_RECORD_BYTES, "all of a record is used");
static_assert(SERIES_CPU_MAX + 1 < 1 << CPU_BITS, "the CPU fits");

static const struct {
	unsigned period_s;
	unsigned first; /* record */
	unsigned n;
} levels[SERIES_LEVEL_N] = {
	[SERIES_FINE] = { 1, 0, SERIES_FINE_N },
	[SERIES_MID] = { 30, SERIES_FINE_N, SERIES_MID_N },
	[SERIES_COARSE] = { 300, SERIES_FINE_N + SERIES_MID_N, SERIES_COARSE_N },
};

/* Far beyond any clock, and far from overflowing. */
static const uint64_t period_max = UINT64_C(1) << 40;

unsigned series_period_s(enum series_level level)
{
	return levels[level].period_s;
}

static uint32_t pack_size(uint64_t v)
{
	const uint32_t one = 1U << MANTISSA_BITS;
	unsigned exponent;

	if (v < one)
		return (uint32_t)v;
	exponent = 64 - (unsigned)__builtin_clzll(v) - MANTISSA_BITS; /* 1 or more */
	if (exponent > EXPONENT_MAX)
		return (uint32_t)EXPONENT_MAX << MANTISSA_BITS | (one - 1);
	return exponent << MANTISSA_BITS | ((uint32_t)(v >> (exponent - 1)) & (one - 1));
}

static uint64_t unpack_size(uint32_t packed)
{
	const uint32_t one = 1U << MANTISSA_BITS;
	uint32_t exponent = packed >> MANTISSA_BITS;
	uint64_t mantissa = packed & (one - 1);

	return exponent == 0 ? mantissa : (mantissa | one) << (exponent - 1);
}

static void put_size(struct series_record *r, size_t i, uint64_t v)
{
	uint8_t *at = &r->bytes[2 + i * SIZE_BYTES];
	uint32_t packed = pack_size(v);

	at[0] = (uint8_t)packed;
	at[1] = (uint8_t)(packed >> 8);
	at[2] = (uint8_t)(packed >> 16);
}

static uint64_t get_size(const struct series_record *r, size_t i)
{
	const uint8_t *at = &r->bytes[2 + i * SIZE_BYTES];

	return unpack_size((uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16);
}

static void encode(struct series_record *r, const struct series_sample *s, unsigned cpu)
{
	unsigned head = (cpu + 1) | (unsigned)s->guest << CPU_BITS;

	r->bytes[0] = (uint8_t)head;
	r->bytes[1] = (uint8_t)(head >> 8);
	put_size(r, 0, s->host_mem);
	put_size(r, 1, s->host_disk);
	put_size(r, 2, s->mem_used);
	put_size(r, 3, s->mem_cache);
	put_size(r, 4, s->disk_used);
}

/* Return: whether there is a sample. */
static bool decode(const struct series_record *r, struct series_sample *out)
{
	unsigned head = (unsigned)r->bytes[0] | (unsigned)r->bytes[1] << 8;
	unsigned cpu = head & ((1U << CPU_BITS) - 1);
	unsigned guest = head >> CPU_BITS;

	*out = (struct series_sample){
		.cpu = cpu > 0 ? MIN(cpu - 1, (unsigned)SERIES_CPU_MAX) : 0,
		.host_mem = get_size(r, 0),
		.host_disk = get_size(r, 1),
		.guest = (enum series_guest)MIN(guest, (unsigned)SERIES_GUEST_NOW),
		.mem_used = get_size(r, 2),
		.mem_cache = get_size(r, 3),
		.disk_used = get_size(r, 4),
	};
	return cpu > 0;
}

static size_t place(enum series_level level, uint64_t period)
{
	return levels[level].first + period % levels[level].n;
}

/* Forgets what lies in the periods from @from to @to. */
static void forget(struct series *s, enum series_level level, uint64_t from, uint64_t to)
{
	uint64_t n = MIN(to - from + 1, (uint64_t)levels[level].n);

	for (uint64_t i = 0; i < n; i++)
		s->records[place(level, from + i)] = (struct series_record){ { 0 } };
}

/* Makes @period the newest. */
static void move_to(struct series *s, enum series_level level, uint64_t period)
{
	struct series_ring *ring = &s->rings[level];

	if (ring->n > 0 && period == ring->newest)
		return;
	if (ring->n > 0 && period > ring->newest)
		forget(s, level, ring->newest + 1, period);
	else if (ring->n > 0)
		forget(s, level, period + 1, ring->newest);
	*ring = (struct series_ring){ .newest = period };
}

void series_push(struct series *s, const struct series_sample *sample)
{
	unsigned cpu = MIN(sample->cpu, (unsigned)SERIES_CPU_MAX);

	if (s->first_s == 0 || sample->unix_s < s->first_s)
		s->first_s = sample->unix_s;
	for (enum series_level level = 0; level < SERIES_LEVEL_N; level++) {
		struct series_ring *ring = &s->rings[level];
		uint64_t period = sample->unix_s / levels[level].period_s;

		move_to(s, level, period);
		ring->cpu_sum += cpu;
		ring->n++;
		encode(&s->records[place(level, period)], sample,
		       (unsigned)(ring->cpu_sum / ring->n));
	}
}

/* The oldest period that a ring can hold. */
static uint64_t oldest(const struct series *s, enum series_level level)
{
	uint64_t end = s->rings[level].newest + 1;

	return end > levels[level].n ? end - levels[level].n : 0;
}

enum series_level series_level_since(const struct series *s, uint64_t from_s)
{
	uint64_t since = MAX(from_s, s->first_s);
	enum series_level level = SERIES_FINE;

	while (level < SERIES_COARSE && oldest(s, level) * levels[level].period_s > since)
		level++;
	return level;
}

/* NOLINTNEXTLINE(readability-function-size): a range and a callback, as in the header */
void series_each(const struct series *s, enum series_level level, uint64_t from_s, uint64_t to_s,
		 void (*fn)(const struct series_sample *sample, void *arg), void *arg)
{
	uint64_t period_s = levels[level].period_s;

	if (s->rings[level].n == 0)
		return;
	for (uint64_t p = oldest(s, level); p <= s->rings[level].newest; p++) {
		struct series_sample sample;
		uint64_t unix_s = p * period_s;

		if (unix_s < from_s || unix_s > to_s ||
		    !decode(&s->records[place(level, p)], &sample))
			continue;
		sample.unix_s = unix_s;
		fn(&sample, arg);
	}
}

bool series_last(const struct series *s, struct series_sample *out)
{
	const struct series_ring *ring = &s->rings[SERIES_FINE];

	if (ring->n == 0 || !decode(&s->records[place(SERIES_FINE, ring->newest)], out))
		return false;
	out->unix_s = ring->newest;
	return true;
}

bool series_is_valid(const struct series *s)
{
	for (enum series_level level = 0; level < SERIES_LEVEL_N; level++) {
		const struct series_ring *ring = &s->rings[level];

		if (ring->newest > period_max || ring->n > period_max ||
		    ring->cpu_sum / SERIES_CPU_MAX > ring->n)
			return false;
	}
	return true;
}
