/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files that choose the acceleration. */
#pragma once

#include "base/op.h"
#include "sandbox/accel.h"
#include "template/kernel.h"
#include "vmm/vmm.h"

struct accel;

/* What a verdict holds for: with another one of these, KVM may work or not. */
struct accel_key {
	char boot_id[64];
	char host_kernel[128]; /* release */
	char guest_kernel[KERNEL_VERSION_SIZE];
	char vmm[64]; /* name and version */
	char cpu[128];
};

/* A verdict as <state>/acceleration.json keeps it. */
struct accel_record {
	struct accel_key key;
	bool kvm;
	char why[ACCEL_WHY_SIZE];
};

enum { ACCEL_RECORD_MAX_BYTES = 4096 };

/** accel_new() - the state of an open manager, with what its setting says */
struct accel *accel_new(const struct manager *m);

/** accel_free() - NULL is allowed; no probe runs any more */
void accel_free(struct accel *a);

/** accel_cancel() - end a probe that runs; a shutdown waits for the end of it as for an operation's
 */
void accel_cancel(struct manager *m);

/** accel_for_vmm() - what the VMM of a sandbox of acceleration @name is started with */
enum vmm_accel accel_for_vmm(const struct manager *m, const char *name);

/** accel_agent_timeout_ms() - how long a guest of acceleration @name may take to come up */
uint64_t accel_agent_timeout_ms(const struct manager *m, const char *name);

/** accel_explain() - say in front of an error of a guest's start that it was under KVM, and by what
 * setting; nothing of one under TCG */
void accel_explain(const struct manager *m, const char *name, struct err *e);

/**
 * accel_probe() - boot a guest under KVM as far as userspace, and leave nothing of it behind
 * @id:		for its names on the host
 * @out_ms:	how long that took
 *
 * Thread: worker; takes at most the setting kvm_probe_timeout_s and the clean-up.
 * Return: 0 it came up; -ETIMEDOUT it did not, op->err says how; -ECANCELED; other -errno with
 * op->err set: it could not be started, or died.
 */
must_check int accel_probe(const struct manager *m, const struct sandbox_id *id,
			   const struct kernel *kernel, uint64_t *out_ms, struct op *op);

/** accel_cpu() - what a guest's CPU depends on, as checkpoints record it: under TCG nothing but the
 * VMM, under KVM the host's CPU */
void accel_cpu(const char *acceleration, char *out, size_t size);

/** accel_clean() - make a text printable ASCII, in place */
void accel_clean(char *text);

/** accel_key_find() - the key of this host, now */
void accel_key_find(const struct manager *m, const struct kernel *kernel, struct accel_key *out);

/** accel_key_equal() - whether a verdict for @a holds for @b; never if the boot is not known */
bool accel_key_equal(const struct accel_key *a, const struct accel_key *b);

/** accel_record_parse() - read the text of an acceleration.json. Return: 0; -EBADMSG it is none */
must_check int accel_record_parse(const char *text, size_t n, struct accel_record *out);

/** accel_record_read() - read acceleration.json of a state directory. Return: 0; -ENOENT missing,
 * too large or corrupt */
must_check int accel_record_read(const char *state_dir, struct accel_record *out);

/** accel_record_write() - replace acceleration.json of a state directory. Return: 0; -errno */
must_check int accel_record_write(const char *state_dir, const struct accel_record *record);
