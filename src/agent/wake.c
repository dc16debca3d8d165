/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/wake.h"

#include "agent/boot-internal.h"
#include "agent/freeze.h"
#include "agent/stale.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { UUID_SIZE = 37, MACHINE_ID_SIZE = 33 };

static const char run_dir[] = "/run/vivarium";
static const char boot_id[] = "/proc/sys/kernel/random/boot_id";

/* In place: who has the file open, or mounted over another one, sees the new content. */
static int write_in_place(const char *path, int flags, const char *text)
{
	auto_close int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | flags, 0644);

	return fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));
}

/* Random bits as a version 4 UUID, RFC 9562. */
static int make_uuid(char out[UUID_SIZE])
{
	unsigned char b[16];

	if (getrandom(b, sizeof(b), 0) != sizeof(b))
		return -EIO;
	b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
	b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
	snprintf(out, UUID_SIZE,
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
		 b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
		 b[15]);
	return 0;
}

/* The kernel's own cannot be set: another file lies over it. */
static int renew_boot_id(void)
{
	auto_free char *path = str_printf("%s/boot_id", run_dir);
	bool mounted = access(path, F_OK) == 0;
	char line[UUID_SIZE + 1];
	char uuid[UUID_SIZE];
	int r = make_uuid(uuid);

	if (r < 0)
		return r;
	snprintf(line, sizeof(line), "%s\n", uuid);
	r = write_in_place(path, O_CREAT, line);
	if (r == 0 && !mounted && mount(path, boot_id, NULL, MS_BIND, NULL) < 0)
		r = -errno;
	return r;
}

/* Where there is one: machine-id(5), and D-Bus's older copy if it is no link to that. */
static int renew_machine_id(void)
{
	static const char *const paths[] = { "/etc/machine-id", "/var/lib/dbus/machine-id" };
	char line[MACHINE_ID_SIZE + 1];
	char uuid[UUID_SIZE];
	size_t n = 0;
	int r = make_uuid(uuid);

	for (const char *p = uuid; r == 0 && *p != '\0'; p++)
		if (*p != '-')
			line[n++] = *p;
	line[n] = '\n';
	line[n + 1] = '\0';
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(paths); i++) {
		r = write_in_place(paths[i], 0, line);
		if (r == -ENOENT || r == -ELOOP || r == -ENOTDIR)
			r = 0;
	}
	return r;
}

/* How often this memory was restored: whoever keeps what a clone must not have looks here. */
static int count_generation(void)
{
	static uint64_t generation;
	auto_free char *path = str_printf("%s/generation", run_dir);
	auto_free char *line = str_printf("%ju\n", (uintmax_t)++generation);
	int r = file_mkdirs(run_dir);

	return r < 0 ? r : write_in_place(path, O_CREAT, line);
}

int wake_up(struct agent *a, const struct wake *wake, const char **out_what)
{
	int r;

	*out_what = "reset stale connections";
	r = stale_reset();
	if (r < 0)
		return r;
	*out_what = "write /run/vivarium/generation";
	r = count_generation();
	if (r < 0)
		return r;
	*out_what = "renew the boot id";
	r = wake->clone ? renew_boot_id() : 0;
	if (r < 0)
		return r;
	*out_what = "renew the machine id";
	r = wake->clone ? renew_machine_id() : 0;
	if (r < 0)
		return r;
	*out_what = "grow the root file system to its disk";
	r = wake->disk_bytes > 0 ? boot_disk_grow(wake->disk_bytes) : 0;
	if (r < 0)
		return r;
	a->rehearsing = wake->rehearsal;
	*out_what = "thaw the processes";
	return wake->rehearsal ? 0 : freeze_thaw(a);
}
