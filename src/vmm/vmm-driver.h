/* SPDX-License-Identifier: Apache-2.0 */
/* What a VMM driver implements. Reached only through the wrappers of vmm.h. */
#pragma once

#include "os/spawn.h"
#include "vmm/vmm.h"

/* First member of each driver's object. */
struct vmm {
	const struct vmm_ops *ops;
	struct sandbox_id id;
	struct process process; /* owned pidfd; -1 after it was reaped */
	int exit_code;          /* after it was reaped; -1 = unknown */
	int console_fd;         /* owned */
	char version[VMM_VERSION_SIZE];
	bool running;          /* its vCPUs run, as far as replies and events told */
	bool guest_ended;      /* VMM_EVENT_SHUTDOWN was taken */
	enum vmm_event frozen; /* by what of its disk; VMM_EVENT_NONE = it is not */
};

/* Ops block, on workers, and set op->err when they fail. None is NULL; caps say what may be called.
 */
struct vmm_ops {
	const char *name;
	unsigned caps;
	const char *(*kernel_words)(enum vmm_accel accel);
	int (*probe)(const char *binary, char *out_version, size_t size, struct op *op);
	bool (*restores)(const char *version, const char *saved);
	int (*start)(const struct vmm_spec *spec, struct vmm **out, struct op *op);
	int (*adopt)(const struct sandbox_id *id, int run_dirfd, pid_t pid, struct vmm **out,
		     struct op *op);
	int (*pause)(struct vmm *vmm, struct op *op);
	int (*resume)(struct vmm *vmm, struct op *op);
	int (*cut_prepare)(struct vmm *vmm, const struct vmm_cut *cut, struct op *op);
	int (*cut_begin)(struct vmm *vmm, struct op *op);
	int (*cut_finish)(struct vmm *vmm, struct op *op);
	void (*cut_done)(struct vmm *vmm, const struct op *op);
	int (*set_chain)(struct vmm *vmm, const struct vmm_image *chain, size_t n, size_t *out_top,
			 struct op *op);
	int (*grow_disk)(struct vmm *vmm, uint64_t bytes, struct op *op);
	int (*ram)(struct vmm *vmm, uint64_t *out_address, uint64_t *out_bytes, struct op *op);
	int (*event_fd)(const struct vmm *vmm);
	enum vmm_event (*next_event)(struct vmm *vmm);
	void (*free)(
		struct vmm *vmm); /* the driver's own and the object; the base is done by then */
};

extern const struct vmm_ops qemu_ops;

/** vmm_base_init() - fill in the part that all drivers' objects share */
void vmm_base_init(struct vmm *vmm, const struct vmm_ops *ops, const struct sandbox_id *id);

/** vmm_base_done() - close what the shared part holds */
void vmm_base_done(struct vmm *vmm);

/** vmm_base_kill() - end the process and wait until it is gone. Return: 0; -errno, op->err not set
 */
must_check int vmm_base_kill(struct vmm *vmm, const struct op *op);
