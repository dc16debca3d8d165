/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of warm templates. */
#pragma once

#include "sandbox/sandbox-internal.h"
#include "sandbox/warm.h"
#include "template/stage.h"

/* The VM that an image is made of. It is a sandbox in no table and no row: nobody sees it, and
 * whatever is left of one when vivd is killed belongs to nobody and is swept. */
struct warm_vm {
	struct sandbox sb;
	int template_fd;    /* directory of the template; locked against other makers; owned; -1 */
	int templates_fd;   /* the one that is in; owned; -1 */
	struct stage stage; /* sb.res.dirfd is the same directory */
	char initramfs[KERNEL_INITRAMFS_SIZE];
	char cmdline[CMDLINE_SIZE];
};

/* What images have on their kernels' command lines beside what the VMM puts there. */
extern const char warm_kernel_words[];

/** warm_cmdline() - the command line of the kernel of an image that is made now. Thread: any */
void warm_cmdline(const struct manager *m, const char *acceleration, char out[CMDLINE_SIZE]);

/* Makes an image: boots, saves, and publishes it as a checkpoint of the template. What it holds is
 * released in any case. */
extern const struct plan warm_plan;

/* What an image must be like for a sandbox. */
struct warm_wish {
	unsigned cpus;
	uint64_t memory_mib;
	uint64_t disk_mib; /* or less, since a disk can be grown, */
	bool exact;        /* but not here */
};

/** warm_wish_of() - what a row asks for, when all of it is filled in */
struct warm_wish warm_wish_of(const struct db_sandbox *row);

/** warm_open_template() - open the directory of a template. Return: descriptor; -errno */
must_check int warm_open_template(const struct template *t);

/**
 * warm_find() - look for an image that a sandbox of a template may be made of
 *
 * Reads a few small files. Return: descriptor of the checkpoint, locked against removal for as long
 * as it is open; -ENOENT there is none that is whole and fits.
 */
must_check int warm_find(const struct manager *m, const struct template *t, struct warm_wish wish,
			 struct checkpoint *out);

/**
 * warm_drop_old() - remove the images of a template that were used the longest ago, down to a
 * number; those in use stay
 *
 * Thread: worker.
 */
void warm_drop_old(int template_fd, unsigned keep);

/** warm_forget() - remove an image that was of no use. Thread: worker */
void warm_forget(const struct template *t, uint64_t generation);

/** warm_open() - make images when they are wanted, from now on */
void warm_open(struct manager *m);

/** warm_check() - whether images of templates can be made. Return: 0; -errno with @e set */
must_check int warm_check(const struct manager *m, struct err *e);

/** warm_want() - a sandbox had to be booted: have an image like it made when nothing else is done
 */
void warm_want(struct manager *m, const struct db_sandbox *row);

/** warm_idle() - no operation runs: what is wanted may begin in a moment */
void warm_idle(struct manager *m);

/** warm_cancel() - at shutdown: end what is under way */
void warm_cancel(struct manager *m);

/** warm_close() - no operation runs any more */
void warm_close(struct manager *m);
