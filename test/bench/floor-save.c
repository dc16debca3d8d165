/* SPDX-License-Identifier: Apache-2.0 */
#include "floor-save.h"

#include "base/clock.h"
#include "base/fd.h"
#include "guest/guest.h"
#include "vmm/memfile.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static int make_file(int dirfd, const char *name, int access, struct op *op)
{
	int fd = openat(dirfd, name, access | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	return fd < 0 ? err_errno(&op->err, errno, "make the file %s", name) : fd;
}

/* What of memory can be written while the guest runs. */
static int write_ahead(struct vmm *vmm, const struct vmm_restore *restore, int dirfd,
		       struct memory_saving **out, struct op *op)
{
	cleanup(memory_image_done) struct memory_image image = MEMORY_IMAGE_INIT;
	auto_close int fd = make_file(dirfd, "memory", O_RDWR, op);
	struct ram ram;
	int r = fd < 0 ? fd
		       : memory_image_map(restore->image_fd, restore->image_id, &image, &op->err);

	if (r == 0)
		r = vmm_ram(vmm, &ram, op);
	return r < 0 ? r : memory_saving_new(&ram, &image, &fd, out, op);
}

/* What is left for the moment in which the guest stands still. */
static int save_stopped(struct vmm *vmm, struct memory_saving *saving, struct memory_stat *stat,
			struct op *op)
{
	int r = vmm_pause(vmm, op);

	if (r == 0)
		r = vmm_cut_begin(vmm, op);
	if (r == 0)
		r = memory_saving_finish(saving, stat, op);
	return r < 0 ? r : vmm_cut_finish(vmm, op);
}

static int sync_both(int dirfd, int devices, struct op *op)
{
	auto_close int memory = openat(dirfd, "memory", O_RDONLY | O_CLOEXEC);

	if (memory < 0 || fsync(devices) < 0 || fsync(memory) < 0 || fsync(dirfd) < 0)
		return err_errno(&op->err, errno, "sync what was saved");
	return 0;
}

int floor_save(struct vmm *vmm, const struct vmm_restore *restore, const struct floor_guest *guest,
	       int dirfd, struct floor_save *out, struct op *op)
{
	auto_close int devices = make_file(dirfd, "devices", O_WRONLY, op);
	struct vmm_cut cut = { .devices_fd = devices };
	struct memory_saving *saving = NULL;
	struct memory_stat stat = { 0 };
	uint64_t start_ns = clock_now_ns();
	uint64_t halt_ns;
	int r = devices < 0 ? devices : vmm_cut_prepare(vmm, &cut, op);

	if (r == 0)
		r = write_ahead(vmm, restore, dirfd, &saving, op);
	if (r == 0)
		r = guest_freeze(guest->addr, true, guest->vmm_pidfd, op);
	halt_ns = clock_now_ns();
	if (r == 0)
		r = save_stopped(vmm, saving, &stat, op);
	out->stall_ns = clock_now_ns() - halt_ns;
	memory_saving_free(saving);
	if (r == 0)
		r = sync_both(dirfd, devices, op);
	out->durable_ns = clock_now_ns() - start_ns;
	out->stored_pages = stat.stored_pages;
	return r;
}
