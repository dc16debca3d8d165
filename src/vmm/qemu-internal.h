/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the QEMU driver only. */
#pragma once

#include "vmm/vmm-driver.h"

/* The numbers of the descriptors that QEMU is given; its disks follow one another from the last. */
enum {
	QEMU_FD_QMP = 10,
	QEMU_FD_CONSOLE,
	QEMU_FD_KERNEL,
	QEMU_FD_INITRD,
	QEMU_FD_TAP,
	QEMU_FD_DEVICES,
	QEMU_FD_IMAGE,
	QEMU_FD_SHIM,
	QEMU_FD_DISK,
	QEMU_DISKS_MAX = 64,
};

#define QEMU_PROGRAM "qemu-system-x86_64"

enum { QEMU_REVISION = 2 }; /* of the machine that is made now (qemu-version.c) */

enum { QEMU_NODE_SIZE = 32 }; /* of a block node's name, with its end */

struct qmp;

/* A layer that QEMU has as two nodes, which are part of nothing yet. */
struct qemu_layer {
	uint64_t set; /* of the file's descriptor */
	char file[QEMU_NODE_SIZE];
	char image[QEMU_NODE_SIZE];
	char below[QEMU_NODE_SIZE]; /* what it is to be put on */
};

/* What was prepared for a cut. */
struct qemu_cut {
	bool has_devices;
	uint64_t devices_set; /* of the descriptor that the devices are written to */
	bool has_layer;
	struct qemu_layer layer;
};

struct qemu {
	struct vmm vmm;
	struct qmp *qmp; /* owned */
	bool closed;     /* the end of the connection was told */
	struct qemu_cut cut;
};

/** qemu_of() - the object of a VM of this driver */
static inline struct qemu *qemu_of(const struct vmm *vmm)
{
	return container_of((uintptr_t)vmm, struct qemu, vmm);
}

/** qemu_revision() - of the machine that a version names, 0 = none that is known; NULL names the
 * one that is made now */
unsigned qemu_revision(const char *version);

/**
 * qemu_version_found() - keep what a QEMU that was started says of its version
 * @restore:	what it is to load; NULL = nothing
 *
 * Return: 0; -errno with op->err set: ERR_CONFLICT, another one has saved that.
 */
must_check int qemu_version_found(struct qemu *q, const struct vmm_restore *restore, struct op *op);

/** qemu_probe(), qemu_restores() - as vmm_ops wants them */
must_check int qemu_probe(const char *binary, char *out_version, size_t size, struct op *op);
bool qemu_restores(const char *version, const char *saved);

/** qemu_load() - fill a QEMU that waits for it with a saved state. Return: 0; -errno, op->err set
 */
must_check int qemu_load(struct qemu *q, const struct vmm_restore *restore, struct op *op);

/**
 * qemu_node_name() - the name of the block node of an image, which follows from the file that it is
 * @kind:	'd' = the image, 'f' = its file
 * @fd:		of that file; borrowed
 */
void qemu_node_name(char kind, int fd, char out[QEMU_NODE_SIZE]);

/**
 * qemu_layer_add() - have QEMU open a layer for its disk
 * @top:	as in struct vmm_cut
 *
 * Return: 0; -errno with op->err set: QEMU has nothing of it.
 */
must_check int qemu_layer_add(struct qemu *q, const struct vmm_image *top, struct qemu_layer *out,
			      struct op *op);

/** qemu_disk_event() - what the VM that stands still because of its disk said of that: *@out is
 * VMM_EVENT_NO_SPACE or VMM_EVENT_IO_ERROR. Return: 0; -errno with op->err set */
must_check int qemu_disk_event(struct qemu *q, enum vmm_event *out, struct op *op);

/** qemu_layer_drop() - have QEMU close it again, unless its disk has it */
void qemu_layer_drop(struct qemu *q, const struct qemu_layer *layer, const struct op *op);

/** qemu_cut_prepare(), qemu_cut_begin(), qemu_cut_finish(), qemu_cut_done(), qemu_set_chain(),
 * qemu_grow_disk(), qemu_ram() - as vmm_ops wants them */
must_check int qemu_cut_prepare(struct vmm *vmm, const struct vmm_cut *cut, struct op *op);
must_check int qemu_cut_begin(struct vmm *vmm, struct op *op);
must_check int qemu_cut_finish(struct vmm *vmm, struct op *op);
void qemu_cut_done(struct vmm *vmm, const struct op *op);
must_check int qemu_set_chain(struct vmm *vmm, const struct vmm_image *chain, size_t n,
			      size_t *out_top, struct op *op);
must_check int qemu_grow_disk(struct vmm *vmm, uint64_t bytes, struct op *op);
must_check int qemu_ram(struct vmm *vmm, uint64_t *out_address, uint64_t *out_bytes, struct op *op);

struct qemu_args;

/**
 * qemu_args_new() - the command line for a VM
 * @binary:	path of QEMU
 *
 * Return: the arguments; qemu_args_free() frees them.
 */
struct qemu_args *qemu_args_new(const char *binary, const struct vmm_spec *spec);

/** qemu_kernel_words() - see vmm_kernel_words() */
const char *qemu_kernel_words(enum vmm_accel accel);

/** qemu_args_argv() - the arguments, ended by NULL; borrowed */
const char *const *qemu_args_argv(const struct qemu_args *args);

/** qemu_args_free() - free a command line; NULL is allowed */
void qemu_args_free(struct qemu_args *args);
