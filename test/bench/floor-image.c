/* SPDX-License-Identifier: Apache-2.0 */
#include "floor-image.h"

#include "base/fd.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

static void close_dir(DIR **d)
{
	if (*d != NULL)
		closedir(*d);
}

static int open_file(const char *dir, const char *name, struct op *op)
{
	auto_free char *path = str_printf("%s/%s", dir, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? err_errno(&op->err, errno, "open %s", path) : fd;
}

/* The one file of the image that is called after its contents. */
static int open_memory_image(const char *dir, uint64_t *out_id, struct op *op)
{
	cleanup(close_dir) DIR *d = opendir(dir);
	const struct dirent *entry;

	while (d != NULL && (entry = readdir(d)) != NULL) {
		if (!str_starts(entry->d_name, "image-"))
			continue;
		*out_id = strtoull(entry->d_name + strlen("image-"), NULL, 16);
		return open_file(dir, entry->d_name, op);
	}
	return err_set(&op->err, ERR_NOT_FOUND, "no memory image in %s", dir);
}

int floor_image_open(const char *dir, const char *shim, struct vmm_restore *out, struct op *op)
{
	if (dir == NULL)
		return 0;
	out->devices_fd = open_file(dir, "devices", op);
	if (out->devices_fd >= 0)
		out->diff_fd = open_file(dir, "memory", op);
	if (out->diff_fd >= 0)
		out->image_fd = open_memory_image(dir, &out->image_id, op);
	if (out->image_fd >= 0)
		out->shim_fd = open_file("", shim, op);
	return MIN(out->shim_fd, 0);
}

void floor_image_close(struct vmm_restore *restore)
{
	fd_close(&restore->devices_fd);
	fd_close(&restore->image_fd);
	fd_close(&restore->diff_fd);
	fd_close(&restore->shim_fd);
}
