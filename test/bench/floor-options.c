/* SPDX-License-Identifier: Apache-2.0 */
#include "floor-options.h"

#include "base/parse.h"
#include "base/str.h"

#include <errno.h>
#include <getopt.h>

enum { NUMBER_MAX = 1 << 24 };

static int read_accel(const char *text, enum vmm_accel *out)
{
	if (!streq(text, "tcg") && !streq(text, "kvm"))
		return -EINVAL;
	*out = streq(text, "kvm") ? VMM_ACCEL_KVM : VMM_ACCEL_TCG;
	return 0;
}

static uint64_t *number_of(struct floor_options *o, int c)
{
	switch (c) {
	case 'c':
		return &o->cpus;
	case 'm':
		return &o->memory_mib;
	case 'd':
		return &o->disk_mib;
	case 'n':
		return &o->boots;
	case 'p':
		return &o->parallel;
	case 'v':
		return &o->save_mib;
	default:
		return NULL;
	}
}

int floor_options_read(int argc, char **argv, struct floor_options *o)
{
	static const struct option known[] = {
		{ "state-dir", required_argument, NULL, 's' },
		{ "work-dir", required_argument, NULL, 'w' },
		{ "agent", required_argument, NULL, 'a' },
		{ "accel", required_argument, NULL, 'x' },
		{ "cpus", required_argument, NULL, 'c' },
		{ "memory", required_argument, NULL, 'm' },
		{ "disk", required_argument, NULL, 'd' },
		{ "boots", required_argument, NULL, 'n' },
		{ "image", required_argument, NULL, 'i' },
		{ "shim", required_argument, NULL, 'h' },
		{ "parallel", required_argument, NULL, 'p' },
		{ "save", required_argument, NULL, 'v' },
		{ "resume", no_argument, NULL, 'r' },
		{ 0 },
	};
	int r = 0;
	int c;

	while (r == 0 && (c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		uint64_t *number = number_of(o, c);

		if (c == 's')
			o->state_dir = optarg;
		else if (c == 'w')
			o->work_dir = optarg;
		else if (c == 'a')
			o->agent = optarg;
		else if (c == 'i')
			o->image = optarg;
		else if (c == 'h')
			o->shim = optarg;
		else if (c == 'r')
			o->resume = true;
		else if (c == 'x')
			r = read_accel(optarg, &o->accel);
		else
			r = number == NULL ? -EINVAL : parse_u64(optarg, 0, NUMBER_MAX, number);
		o->save |= c == 'v';
	}
	if (r < 0 || o->state_dir == NULL || o->work_dir == NULL || o->agent == NULL)
		return -EINVAL;
	if ((o->image == NULL) != (o->shim == NULL))
		return -EINVAL;
	return o->image != NULL || (!o->resume && !o->save) ? 0 : -EINVAL;
}
