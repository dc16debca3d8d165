/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoints: a VM's devices, memory and disk of one instant, restorable any number of times.
 *
 * Theory of operation. A checkpoint is the directory `checkpoints/<generation>/` of its owner (a
 * sandbox, or a template):
 *
 *	manifest.json	what it was made of and with; written last
 *	devices		state of devices and CPUs (vmm_cut_begin())
 *	memory		what the guest's memory differs from its image by (vmm/memfile.h)
 *	image-<id>	that image, a link; absent when the memory began as zeros
 *	layer/		the disk, shared with its owner and with what was made from it (disk_link())
 *
 * It is made as `checkpoints/new/`, synced, and renamed when it is whole; from then on nothing of
 * it is ever written to, and nothing of it is another's: the links count who needs a file. So a
 * checkpoint goes by deleting its directory, whoever was made from it.
 */
#pragma once

#include "base/op.h"
#include "template/kernel.h"
#include "template/start.h"
#include "vmm/memfile.h"

enum { CMDLINE_SIZE = 256 };

struct checkpoint {
	uint64_t generation; /* >= 1, of its owner */
	uint64_t parent;     /* generation that it came after; 0 = none */
	bool kept;           /* made by hand: it goes by hand only */
	uint64_t created_ms; /* CLOCK_REALTIME */
	unsigned cpus;
	uint64_t memory_mib;
	uint64_t disk_mib;
	char vmm[64];          /* name and version */
	char cpu[160];         /* accel_cpu(): what the CPU depends on */
	char acceleration[16]; /* "kvm" or "tcg" */
	char disk_driver[16];
	char kernel_version[KERNEL_VERSION_SIZE]; /* of the guest, for people */
	char agent_version[32];
	char initramfs[KERNEL_INITRAMFS_SIZE]; /* that a template's image booted; "" = not said */
	char start[TEMPLATE_START_ID_SIZE];    /* what was started in a template's; "" = nothing */
	char cmdline[CMDLINE_SIZE];            /* of the kernel, that it booted; "" = not said */
	uint64_t image_id;                     /* 0 = none */
	uint64_t devices_bytes;
	uint64_t devices_sum; /* XXH3 */
	struct memory_stat memory;
};

/** checkpoint_vmm_version() - of the VMM that saved it, if that is the one of a name ("qemu"); NULL
 * if not; lives as long as @c */
const char *checkpoint_vmm_version(const struct checkpoint *c, const char *name);

/** checkpoint_begin() - make an empty directory for a new one, in place of what a killed process
 * left. Return: descriptor; -errno with op->err set */
must_check int checkpoint_begin(int owner_fd, struct op *op);

/** checkpoint_abort() - forget one that was begun; absent = success. Return: 0; -errno, op->err set
 */
must_check int checkpoint_abort(int owner_fd, struct op *op);

/**
 * checkpoint_commit() - make one that was begun whole and durable, under its generation
 * @fd:	of checkpoint_begin(), with all its files in it
 *
 * Return: 0; -errno with op->err set, and it is as it was.
 */
must_check int checkpoint_commit(int owner_fd, int fd, const struct checkpoint *c, struct op *op);

/** checkpoint_sum_devices() - size and checksum of the file devices in a directory. Return: 0;
 * -errno */
must_check int checkpoint_sum_devices(int fd, uint64_t *out_bytes, uint64_t *out_sum);

/** checkpoint_parse() - read the text of a manifest.json. Return: 0; -EBADMSG it is none, or not
 * byte for byte what was written */
must_check int checkpoint_parse(const char *text, size_t n, struct checkpoint *out);

/**
 * checkpoint_open() - find a checkpoint and read what it was made of
 *
 * Sizes and checksums are compared as far as that takes no time: of the manifest and the devices
 * here; of the memory when it is restored, of the image by image_check(), of the disk when it is
 * opened. Return: descriptor of its directory; -errno with op->err set: ERR_NOT_FOUND
 * there is none; ERR_INVALID names the file that is missing or damaged.
 */
must_check int checkpoint_open(int owner_fd, uint64_t generation, struct checkpoint *out,
			       struct op *op);

/** checkpoint_move() - give a whole checkpoint to another owner on the same file system, under its
 * number, durably. Return: 0; -errno with op->err set, and it is as it was */
must_check int checkpoint_move(int from_fd, int to_fd, uint64_t generation, struct op *op);

/**
 * checkpoint_link() - share a whole checkpoint with another owner on the same file system
 * @fd:		of checkpoint_open()
 * @c:		what that said
 *
 * It has the same number there, durably. Return: 0; -errno with op->err set: nothing is left.
 */
must_check int checkpoint_link(int fd, int to_fd, const struct checkpoint *c, struct op *op);

/** checkpoint_open_disk() - find a checkpoint of which only the disk is wanted; the rest may be
 * damaged. Return: descriptor of its directory; -errno with op->err set, as checkpoint_open() */
must_check int checkpoint_open_disk(int owner_fd, uint64_t generation, struct op *op);

/** checkpoint_read() - only what a checkpoint was made of. Return: 0; -ENOENT; -EBADMSG; -errno */
must_check int checkpoint_read(int owner_fd, uint64_t generation, struct checkpoint *out);

/**
 * checkpoint_peek() - what the files of a checkpoint take, without looking into them
 * @out_bytes:	allocated; without its disk and without its memory image, which others share
 *
 * Return: descriptor of its directory; -errno.
 */
must_check int checkpoint_peek(int owner_fd, uint64_t generation, uint64_t *out_bytes);

/** checkpoint_remove() - delete one; absent = success. Return: 0; -errno with op->err set */
must_check int checkpoint_remove(int owner_fd, uint64_t generation, struct op *op);

/**
 * checkpoint_tidy() - delete what a newer checkpoint made useless: all but @current that nobody
 * wanted to keep, and the rest of those whose deletion was cut short; one that cannot be read stays
 *
 * Return: 0; -errno with op->err set: the first failure, the others are tried all the same.
 */
must_check int checkpoint_tidy(int owner_fd, uint64_t current, struct op *op);

/** checkpoint_unfinished() - whether one was begun and not ended. Return: 1; 0; -errno */
must_check int checkpoint_unfinished(int owner_fd);

VEC_DEFINE(generations, uint64_t)

/** checkpoint_list() - the generations that are there, rising. Return: 0; -errno, op->err set */
must_check int checkpoint_list(int owner_fd, struct generations *out, struct op *op);
