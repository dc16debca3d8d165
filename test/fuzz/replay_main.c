/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target over all files of the directories given, for builds without libFuzzer. */
#include "base/buf.h"
#include "base/file.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INPUT_MAX_BYTES = 16 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(int dirfd, const char *name)
{
	auto_buf input = BUF_INIT(INPUT_MAX_BYTES);
	int r = file_read_at(dirfd, name, &input);

	if (r < 0)
		return r;
	/* Exactly as large as the input, so that a sanitizer sees a read behind it. */
	uint8_t *copy = malloc(MAX(input.len, (size_t)1));

	if (copy == NULL)
		abort();
	memcpy(copy, buf_str(&input), input.len);
	LLVMFuzzerTestOneInput(copy, input.len);
	free(copy);
	return 0;
}

/* Return: how many files were run; -1 with the reason on stderr. */
static int replay_dir(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int n = 0;

	if (dir == NULL) {
		perror(path);
		return -1;
	}
	while (n >= 0 && (entry = readdir(dir)) != NULL) {
		int r = entry->d_name[0] == '.' ? 1 : replay_file(dirfd(dir), entry->d_name);

		if (r < 0)
			fprintf(stderr, "%s/%s: %s\n", path, entry->d_name, strerror(-r));
		n = r < 0 ? -1 : n + (r == 0);
	}
	closedir(dir);
	return n;
}

int main(int argc, char **argv)
{
	int total = 0;

	for (int i = 1; i < argc; i++) {
		int n = replay_dir(argv[i]);

		if (n < 0)
			return EXIT_FAILURE;
		total += n;
	}
	printf("%d inputs\n", total);
	return total > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
