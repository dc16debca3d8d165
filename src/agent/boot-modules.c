/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/boot-internal.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ORDER_BYTES_MAX = 65536 };

static int load(int dirfd, const char *name)
{
	auto_close int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST)
		return -errno;
	return 0;
}

int boot_modules(struct err *e)
{
	auto_close int dirfd = open("/modules", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_buf order = BUF_INIT(ORDER_BYTES_MAX);
	const char *name;
	char *rest;
	int r = dirfd < 0 ? -errno : file_read_at(dirfd, "order", &order);

	if (r < 0)
		return err_errno(e, -r, "read /modules/order of the initramfs");
	rest = *buf_str(&order) != '\0' ? buf_head(&order) : NULL;
	while ((name = strsep(&rest, "\n")) != NULL) {
		r = *name != '\0' ? load(dirfd, name) : 0;
		if (r < 0)
			return err_errno(e, -r, "load kernel module %s", name);
	}
	return 0;
}
