/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/memfile.h"

#include "base/fd.h"
#include "vmm/memfile-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

int memory_image_map(int fd, uint64_t id, struct memory_image *out, struct err *e)
{
	struct stat st;
	void *bytes;

	if (fstat(fd, &st) < 0)
		return err_errno(e, errno, "look at the memory image");
	if (st.st_size <= 0 || st.st_size % RAM_PAGE_BYTES != 0)
		return err_set(e, ERR_INVALID, "the memory image has %jd bytes, no whole pages",
			       (intmax_t)st.st_size);
	bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (bytes == MAP_FAILED)
		return err_errno(e, errno, "map the memory image");
	*out = (struct memory_image){ .bytes = bytes,
				      .size_bytes = (uint64_t)st.st_size,
				      .id = id };
	return 0;
}

uint64_t memory_image_checksum(const struct memory_image *image)
{
	uint64_t sum = XXH3_64bits(image->bytes, image->size_bytes);

	return sum != 0 ? sum : 1;
}

void memory_image_done(struct memory_image *image)
{
	if (image->bytes != NULL)
		munmap((void *)(uintptr_t)image->bytes, image->size_bytes);
	*image = (struct memory_image)MEMORY_IMAGE_INIT;
}

bool memory_page_is_zero(const unsigned char *page)
{
	const uint64_t *words = (const void *)page;

	for (size_t i = 0; i < RAM_PAGE_BYTES / sizeof(*words); i += 8) {
		if ((words[i] | words[i + 1] | words[i + 2] | words[i + 3] | words[i + 4] |
		     words[i + 5] | words[i + 6] | words[i + 7]) != 0)
			return false;
	}
	return true;
}
