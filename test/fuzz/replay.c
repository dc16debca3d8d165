/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target over the files of a directory, for builds without libFuzzer. */
#include "base/buf.h"
#include "base/file.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

enum { SEED_MAX_BYTES = 16 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(DIR *dir, const char *name)
{
	auto_buf seed = BUF_INIT(SEED_MAX_BYTES);

	if (file_read_at(dirfd(dir), name, &seed) < 0) {
		fprintf(stderr, "cannot read %s\n", name);
		return -1;
	}
	return LLVMFuzzerTestOneInput((const uint8_t *)buf_str(&seed), seed.len);
}

int main(int argc, char **argv)
{
	DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
	struct dirent *entry;
	unsigned n = 0;

	if (dir == NULL) {
		fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
		return EXIT_FAILURE;
	}
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		if (replay(dir, entry->d_name) != 0)
			return EXIT_FAILURE;
		n++;
	}
	closedir(dir);
	printf("%u inputs\n", n);
	return n > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
