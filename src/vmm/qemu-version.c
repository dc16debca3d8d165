/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which QEMU there is, and which revision of our machine it is to be: what one machine saved is
 * loaded by the same machine only. A version is "7.2.22+2": QEMU's and the revision. Revisions that
 * are made no more can still be restored:
 *
 *	1	virtio-mmio of virtio 1.x; "7.2.22" is of this one
 *	2	legacy virtio-mmio: the saved state is 17 KiB instead of 146, and written 3 ms
 *		sooner, since QEMU saves the addresses of all 1024 queues that each device of
 *		virtio 1.x might have
 */
#include "vmm/qemu-internal.h"

#include "base/buf.h"
#include "base/parse.h"
#include "base/str.h"
#include "os/spawn.h"
#include "vmm/qmp.h"
#include "vmm/tsc.h"

#include <errno.h>

unsigned qemu_revision(const char *version)
{
	const char *plus = version != NULL ? strchr(version, '+') : NULL;
	uint64_t n = 0;

	if (version == NULL)
		return QEMU_REVISION;
	if (plus == NULL)
		return 1;
	return parse_u64(plus + 1, 1, QEMU_REVISION, &n) == 0 ? (unsigned)n : 0;
}

/* @program: QEMU's own version, which ends where it does, or at what is not of it */
static int compose(const char *program, unsigned revision, char *out, size_t size)
{
	int n = (int)strspn(program, "0123456789.");

	if (n == 0)
		return -EINVAL;
	return revision == 1 ? str_fit(out, size, "%.*s", n, program)
			     : str_fit(out, size, "%.*s+%u", n, program, revision);
}

bool qemu_restores(const char *version, const char *saved)
{
	char same[VMM_VERSION_SIZE];
	unsigned revision = qemu_revision(saved);

	return revision != 0 && compose(version, revision, same, sizeof(same)) == 0 &&
	       streq(same, saved);
}

int qemu_version_found(struct qemu *q, const struct vmm_restore *restore, struct op *op)
{
	const char *saved = restore != NULL ? restore->version : NULL;
	char *version = q->vmm.version;

	if (compose(qmp_version(q->qmp), qemu_revision(saved), version, VMM_VERSION_SIZE) < 0)
		return err_set(&op->err, ERR_VMM, "QEMU does not tell its version");
	if (saved != NULL && !streq(saved, version))
		return err_set(&op->err, ERR_CONFLICT,
			       "its memory was saved by QEMU %s, and this is %s now", saved,
			       version);
	return 0;
}

/* "QEMU emulator version 7.2.22 (Debian …)" */
static int parse_version(struct buf *text, char *out, size_t size)
{
	static const char before[] = "QEMU emulator version ";
	const char *at = strstr(buf_str(text), before);

	return at == NULL ? -EINVAL : compose(at + strlen(before), QEMU_REVISION, out, size);
}

int qemu_probe(const char *binary, char *out_version, size_t size, struct op *op)
{
	const char *program = binary != NULL ? binary : QEMU_PROGRAM;
	const char *version[] = { program, "--version", NULL };
	const char *machines[] = { program, "-M", "help", NULL };
	auto_buf text = BUF_INIT(1 << 16);
	int r;

	tsc_begin(); /* the programs take longer */
	r = spawn_run(version, NULL, &text, op);
	if (r < 0)
		return r;
	if (parse_version(&text, out_version, size) < 0)
		return err_set(&op->err, ERR_UNSUPPORTED, "%s does not tell its version", program);
	buf_clear(&text);
	r = spawn_run(machines, NULL, &text, op);
	if (r < 0)
		return r;
	if (strstr(buf_str(&text), "microvm") == NULL)
		return err_set(&op->err, ERR_UNSUPPORTED, "%s %s has no machine \"microvm\"",
			       program, out_version);
	if (tsc_khz() == 0) /* found here, and not while the first sandbox waits */
		return err_set(&op->err, ERR_UNSUPPORTED,
			       "the rate of this host's time stamp counter cannot be measured");
	return 0;
}
