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

static int write_memory(struct vmm *vmm, const struct vmm_restore *restore, int fd,
			uint64_t *out_pages, struct op *op)
{
	cleanup(memory_image_done) struct memory_image image = MEMORY_IMAGE_INIT;
	struct memory_stat stat = { 0 };
	struct ram ram;
	int r = memory_image_map(restore->image_fd, restore->image_id, &image, &op->err);

	if (r == 0)
		r = vmm_ram(vmm, &ram, op);
	if (r == 0)
		r = memory_save(&ram, &image, fd, &stat, op);
	*out_pages = stat.stored_pages;
	return r;
}

int floor_save(struct vmm *vmm, const struct vmm_restore *restore, const struct floor_guest *guest,
	       int dirfd, struct floor_save *out, struct op *op)
{
	auto_close int devices = make_file(dirfd, "devices", O_WRONLY, op);
	auto_close int memory = make_file(dirfd, "memory", O_RDWR, op);
	struct vmm_cut cut = { .devices_fd = devices };
	uint64_t start_ns = clock_now_ns();
	uint64_t halt_ns;
	int r = MIN(MIN(devices, memory), 0);

	if (r == 0)
		r = guest_freeze(guest->addr, true, guest->vmm_pidfd, op);
	if (r == 0)
		r = vmm_cut_prepare(vmm, &cut, op);
	halt_ns = clock_now_ns();
	if (r == 0)
		r = vmm_pause(vmm, op);
	if (r == 0)
		r = vmm_cut_begin(vmm, op);
	if (r == 0)
		r = write_memory(vmm, restore, memory, &out->stored_pages, op);
	if (r == 0)
		r = vmm_cut_finish(vmm, op);
	out->stall_ns = clock_now_ns() - halt_ns;
	if (r == 0 && (fsync(devices) < 0 || fsync(memory) < 0 || fsync(dirfd) < 0))
		r = err_errno(&op->err, errno, "sync what was saved");
	out->durable_ns = clock_now_ns() - start_ns;
	return r;
}
