/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mapped.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

int mapped_open(int dirfd, const char *path, struct mapped *out)
{
	auto_close int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *p;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	*out = (struct mapped){ 0 };
	if (st.st_size == 0)
		return 0;
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	*out = (struct mapped){ .p = p, .n = (size_t)st.st_size };
	return 0;
}

void mapped_done(struct mapped *m)
{
	if (m->p != NULL)
		munmap((void *)(uintptr_t)m->p, m->n);
	*m = (struct mapped){ 0 };
}
