/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtual machine monitors: one interface, several drivers, each a child process per sandbox.
 * Callers see only these wrappers, which check capabilities and state, and the bits in caps. All
 * functions block (workers) and take the op's deadline; none logs. A VMM is not tied to the
 * daemon's life: it runs on when the daemon dies, and vmm_adopt() finds it again. A VM is for one
 * thread at a time: while a worker has it, the loop neither reads its console nor takes its events.
 */
#pragma once

#include "base/buf.h"
#include "base/id.h"
#include "base/op.h"
#include "vmm/ram.h"

#include <sys/types.h>

enum vmm_caps {
	VMM_CAP_PAUSE = 1 << 0,    /* vmm_pause(), vmm_resume() */
	VMM_CAP_SNAPSHOT = 1 << 1, /* vmm_cut_prepare(), _begin(), _finish(), vmm_set_chain(),
				    * vmm_ram(), and to start restored */
};

enum vmm_accel { VMM_ACCEL_AUTO, VMM_ACCEL_TCG, VMM_ACCEL_KVM, VMM_ACCEL_N };

enum vmm_image_format { VMM_IMAGE_RAW, VMM_IMAGE_QCOW2 };

struct vmm_image {
	enum vmm_image_format format;
	int fd; /* borrowed */
};

/* What a restored VM begins with, instead of a kernel. All is borrowed for the call. */
struct vmm_restore {
	const char *version; /* of the VMM that saved it; NULL = as one is that is started now */
	int devices_fd;      /* what vmm_cut_begin() wrote, at its beginning */
	int image_fd;        /* memory image (vmm/memfile.h), opened for reading only: it is mapped
			    * privately, and no VMM is able to change it; -1 = zeros */
	uint64_t image_id;   /* of it; 0 = none */
	int diff_fd;         /* what is laid over it; -1 = nothing */
	int shim_fd; /* viv-vmm-shim.so, which all may read; needed with an image; without it
			      ram_track() cannot see what the guest writes; -1 = none */
};

/* What to start. Everything is borrowed for the call. */
struct vmm_spec {
	struct sandbox_id id;
	const char *binary; /* path of the VMM; NULL = the driver's default in PATH */
	enum vmm_accel accel;
	unsigned cpus;                     /* 1 .. 64 */
	uint64_t memory_mib;               /* 64 .. 1 TiB; anonymous memory */
	const struct vmm_restore *restore; /* NULL = boot the kernel */
	const char
		*kernel; /* uncompressed vmlinux (PVH); a file that all may read, as the initrd */
	const char *initrd;           /* NULL = none */
	const char *cmdline;          /* added to what the driver needs */
	const struct vmm_image *disk; /* the root disk's chain, top first */
	size_t n_disk;
	int tap_fd; /* -1 = no network */
	const char *mac;
	int netns_fd;      /* -1 = the daemon's */
	int cgroup_fd;     /* fresh; -1 = none */
	unsigned uid, gid; /* what it becomes; never 0 */
	int run_dirfd;     /* its sockets and log are made here: qmp.sock, console.sock, vmm.log */
};

struct vmm; /* first member of each driver's object */
struct vmm_ops;

/* What a running VMM told us that nobody asked for. */
enum vmm_event {
	VMM_EVENT_NONE,
	VMM_EVENT_STOPPED, /* vCPUs do not run */
	VMM_EVENT_RUNNING,
	VMM_EVENT_NO_SPACE, /* frozen by a full host disk */
	VMM_EVENT_IO_ERROR, /* frozen by a failing one */
	VMM_EVENT_PANIC,    /* guest kernel panicked */
	VMM_EVENT_SHUTDOWN, /* guest powered off or rebooted; the process will end */
	VMM_EVENT_CLOSED,   /* the control connection ended */
};

enum { VMM_VERSION_SIZE = 48 };

/** vmm_driver() - find a driver by name ("qemu"), or the default with NULL; NULL if unknown */
const struct vmm_ops *vmm_driver(const char *name);

/** vmm_name(), vmm_caps() - of a driver */
const char *vmm_name(const struct vmm_ops *ops);
unsigned vmm_caps(const struct vmm_ops *ops);

/** vmm_kernel_words() - what a driver has on the command line of each kernel that it boots, but for
 * what it measures of the host anew each time; static */
const char *vmm_kernel_words(const struct vmm_ops *ops, enum vmm_accel accel);

/**
 * vmm_probe() - is the VMM there and usable here?
 * @binary:		as in struct vmm_spec
 * @out_version:	array of @size bytes, VMM_VERSION_SIZE are enough: "7.2.22+2", the
 *			program's, and which revision of our machine the driver has it make
 *
 * Return: 0; -errno with op->err set: what is missing, and the package that has it.
 */
must_check int vmm_probe(const struct vmm_ops *ops, const char *binary, char *out_version,
			 size_t size, struct op *op);

/** vmm_restores() - whether a VMM of a version that vmm_probe() told goes on with what one of the
 * version @saved has saved */
bool vmm_restores(const struct vmm_ops *ops, const char *version, const char *saved);

/**
 * vmm_kvm_check() - is there a /dev/kvm, and may a VMM, which has no rights, open it?
 * @out_gid:	the group that it needs for that; 0 = any
 *
 * That it can be opened does not mean that a guest runs under it. Return: 0; -errno with @e set.
 */
must_check int vmm_kvm_check(unsigned *out_gid, struct err *e);

/**
 * vmm_start() - spawn and configure a VM and let it run; a restored one is left paused, just as it
 * was saved, until vmm_resume()
 * @out:	a started VM; vmm_free() forgets it, vmm_stop() ends it
 *
 * CPUs, memory, accelerator, network and number of disks of a restored VM are as they were when it
 * was saved. ERR_INVALID with op->err set: what it was saved to is damaged, or is another VM's.
 * After a failure no process is left, but sockets in the run directory and the cgroup may be.
 * Return: 0; -errno with op->err set: ERR_VMM with the last lines of its log when it died.
 */
must_check int vmm_start(const struct vmm_ops *ops, const struct vmm_spec *spec, struct vmm **out,
			 struct op *op);

/**
 * vmm_adopt() - find a VM that an earlier daemon started
 * @pid:	a process of its cgroup
 *
 * Return: 1 it answers, @out is set; 0 it is gone; -errno with op->err set when unsure.
 */
must_check int vmm_adopt(const struct vmm_ops *ops, const struct sandbox_id *id, int run_dirfd,
			 pid_t pid, struct vmm **out, struct op *op);

/** vmm_pause(), vmm_resume() - stop and continue the vCPUs. Return: 0; -errno with op->err set */
must_check int vmm_pause(struct vmm *vmm, struct op *op);
must_check int vmm_resume(struct vmm *vmm, struct op *op);

/* What a VM does while it is paused, so that it can be saved and may go on. */
struct vmm_cut {
	int devices_fd; /* gets the state of all devices and CPUs, without memory: an empty file,
			   opened for writing only; borrowed until vmm_cut_prepare() returns; not
			   synced here */
	const struct vmm_image *top; /* an empty layer whose size is the disk's, for the VM to write
					to from now on, over all that its disk was; as borrowed;
					NULL = none */
};

/**
 * vmm_cut_prepare() - have a VM, running or not, get ready for a cut: all that takes long and does
 * not need that it stands still
 *
 * vmm_cut_done() ends what this began, whatever came of it. Return: 0; -errno with op->err set.
 */
must_check int vmm_cut_prepare(struct vmm *vmm, const struct vmm_cut *cut, struct op *op);

/**
 * vmm_cut_begin() - have a paused VM make the cut that was prepared, and do not wait for it
 *
 * What its memory holds does not change meanwhile. Return: 0; -errno with op->err set.
 */
must_check int vmm_cut_begin(struct vmm *vmm, struct op *op);

/**
 * vmm_cut_finish() - wait for the end of it
 *
 * Return: 0 its devices are written, and nothing below the new layer is written to any more; -errno
 * with op->err set: whether the VM has the layer then is not known, unless it had refused it.
 */
must_check int vmm_cut_finish(struct vmm *vmm, struct op *op);

/** vmm_cut_done() - have the VM forget what was prepared and is of no more use; idempotent */
void vmm_cut_done(struct vmm *vmm, const struct op *op);

/**
 * vmm_set_chain() - have a VM, running or not, read its disk through other layers than before,
 * which read the same; what it does not need any more it closes
 * @chain:	of the disk, top first, to the base; borrowed. The VM writes to one of them, and has
 *		never had those above that
 * @out_top:	index of the one that it writes to
 *
 * It costs next to nothing if the VM has them already. Return: 0; -errno with op->err set: the VM
 * reads through layers that it was told of earlier, or through these.
 */
must_check int vmm_set_chain(struct vmm *vmm, const struct vmm_image *chain, size_t n,
			     size_t *out_top, struct op *op);

/**
 * vmm_grow_disk() - tell the guest of a restored VM that its disk is larger than when it was saved
 * @bytes:	size of the disk's top layer
 *
 * The guest hears of it when its vCPUs run. Return: 0; -errno with op->err set.
 */
must_check int vmm_grow_disk(struct vmm *vmm, uint64_t bytes, struct op *op);

/** vmm_ram() - where the guest's memory lies; borrows from @vmm. Return: 0; -errno, op->err set */
must_check int vmm_ram(struct vmm *vmm, struct ram *out, struct op *op);

/** vmm_running() - whether its vCPUs run, as far as replies and the events taken so far tell; an
 * adopted VM tells at once */
bool vmm_running(const struct vmm *vmm);

/** vmm_frozen() - whether it stands still because its disk could not be used: VMM_EVENT_NO_SPACE,
 * VMM_EVENT_IO_ERROR, or VMM_EVENT_NONE; as vmm_running(). vmm_resume() has it try again */
enum vmm_event vmm_frozen(const struct vmm *vmm);

/** vmm_version() - of what was started, as vmm_probe() tells it and the VMM itself said; "" of an
 * adopted one; lives as long as @vmm */
const char *vmm_version(const struct vmm *vmm);

/** vmm_pid(), vmm_pidfd() - its process; the pidfd is borrowed and readable when it ended */
pid_t vmm_pid(const struct vmm *vmm);
int vmm_pidfd(const struct vmm *vmm);

/** vmm_console_fd() - the guest's serial console, non-blocking, borrowed; -1 if it is not open. It
 * has to be read all the time: a guest whose console nobody reads gets slow */
int vmm_console_fd(const struct vmm *vmm);

/** vmm_event_fd() - readable when vmm_next_event() has something; borrowed; -1 if there is none */
int vmm_event_fd(const struct vmm *vmm);

/** vmm_next_event() - take an event that arrived; never waits. Return: an event, VMM_EVENT_NONE */
enum vmm_event vmm_next_event(struct vmm *vmm);

/**
 * vmm_listen() - have the waits of an op for a VM's guest end when the VM says that it stands still
 * @watch:	is filled in; lives as long as @op waits, and so does @vmm
 * @op:		not one that the VM itself is asked with meanwhile
 *
 * Such a wait ends with -ENOSPC or -EIO (vmm_frozen()). Other events are taken, too, and forgotten
 * but for what vmm_running() and vmm_guest_ended() tell.
 */
void vmm_listen(struct vmm *vmm, struct op_watch *watch, struct op *op);

/** vmm_guest_ended() - whether VMM_EVENT_SHUTDOWN was taken: no command is answered any more */
bool vmm_guest_ended(const struct vmm *vmm);

/** vmm_reap() - after the pidfd became readable: take the exit status. Return: exit code, 128 +
 * signal, or -1 when unknown (it was not our child) */
int vmm_reap(struct vmm *vmm);

/** vmm_kill() - end the VM, and leave it to who watches vmm_pidfd() to see that.
 * Return: 0, also when it is gone; -errno */
must_check int vmm_kill(const struct vmm *vmm);

/** vmm_stop() - end the VM now and wait until its process is gone. Return: 0; -errno, op->err set
 */
must_check int vmm_stop(struct vmm *vmm, struct op *op);

/** vmm_free() - forget it: closes descriptors; the process stays as it is; NULL is allowed */
void vmm_free(struct vmm *vmm);
