/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A system call that hangs cannot be ended from within the process that made it. So each probe is a
 * process: this very program, started with "--probe NAME ARG", which prints "<errno> <text>" and
 * ends. The one who asked kills it when it does not answer in time; what it made for a moment has
 * no name, or one that carries its pid, by which a leftover can be told from what is in use.
 */
#include "base/fd.h"
#include "base/parse.h"
#include "os/netns.h"
#include "os/spawn.h"
#include "sandbox/doctor-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/dm-ioctl.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { REFLINK_BYTES = 4096, OUTPUT_MAX = 4096 };

static const char self_path[] = "/proc/self/exe";

/* Sets an outcome; the text does not carry the errno's words. */
static void say(struct doctor_probe *out, int code, const char *fmt, ...) printf_like(3, 4);

static void say(struct doctor_probe *out, int code, const char *fmt, ...)
{
	va_list ap;

	out->code = code;
	va_start(ap, fmt);
	vsnprintf(out->text, sizeof(out->text), fmt, ap);
	va_end(ap);
}

static int open_device(const char *path, struct doctor_probe *out)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		say(out, errno, "open %s", path);
	return fd;
}

static void probe_kvm(const char *arg, struct doctor_probe *out)
{
	auto_close int fd = open_device("/dev/kvm", out);
	int version = fd < 0 ? 0 : ioctl(fd, KVM_GET_API_VERSION, 0);

	(void)arg;
	if (fd < 0)
		return;
	if (version != KVM_API_VERSION)
		say(out, version < 0 ? errno : EPROTO, "ask /dev/kvm for its version");
	else
		say(out, 0, "/dev/kvm opens, API version %d", version);
}

static void probe_dm(const char *arg, struct doctor_probe *out)
{
	auto_close int fd = open_device("/dev/mapper/control", out);
	struct dm_ioctl dm = {
		.version = { DM_VERSION_MAJOR, 0, 0 },
		.data_size = sizeof(dm),
		.data_start = sizeof(dm),
	};

	(void)arg;
	if (fd < 0)
		return;
	if (ioctl(fd, DM_VERSION, &dm) < 0)
		say(out, errno, "ask device-mapper for its version");
	else
		say(out, 0, "device-mapper %u.%u answers", dm.version[0], dm.version[1]);
}

/* With files that have no name: nothing is left of them, however this ends. */
static void probe_reflink(const char *dir, struct doctor_probe *out)
{
	static const char data[REFLINK_BYTES] = { 1 };
	auto_close int from = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	auto_close int to = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (from < 0 || to < 0)
		say(out, errno, "make a temporary file in %.80s", dir);
	else if (fd_write_all(from, data, sizeof(data)) < 0)
		say(out, EIO, "write a temporary file in %.80s", dir);
	else if (ioctl(to, FICLONE, from) < 0)
		say(out, errno, "clone a file in %.80s", dir);
	else
		say(out, 0, "%.80s clones files", dir);
}

static void probe_tun(const char *arg, struct doctor_probe *out)
{
	auto_close int fd = open_device("/dev/net/tun", out);
	unsigned features = 0;

	(void)arg;
	if (fd < 0)
		return;
	if (ioctl(fd, TUNGETFEATURES, &features) < 0)
		say(out, errno, "ask /dev/net/tun what it can do");
	else if ((features & IFF_VNET_HDR) == 0)
		say(out, EOPNOTSUPP, "make a tap with IFF_VNET_HDR");
	else
		say(out, 0, "taps can be made");
}

static int open_userfaultfd(void)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	int refused = errno;
	auto_close int device = -1;

	if (fd >= 0)
		return fd;
	device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (device < 0)
		return -refused;
	fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

static void probe_userfaultfd(const char *arg, struct doctor_probe *out)
{
	auto_close int fd = open_userfaultfd();

	(void)arg;
	if (fd < 0)
		say(out, -fd, "make a userfaultfd");
	else
		say(out, 0, "userfaultfd works");
}

static void netns_prefix(const char *tag, char out[32])
{
	snprintf(out, 32, "viv-%.4s-probe-", tag);
}

static void probe_netns(const char *tag, struct doctor_probe *out)
{
	auto_close int fd = -1;
	struct err e = { 0 };
	char name[64];
	int r;

	netns_prefix(tag, name);
	snprintf(name + strlen(name), sizeof(name) - strlen(name), "%d", (int)getpid());
	r = netns_create(name, &e);
	if (r == 0) {
		fd = netns_open(name);
		r = fd < 0 ? fd : 0;
	}
	if (netns_delete(name) < 0 && r == 0)
		r = -EIO;
	if (r < 0)
		say(out, -r, "make and remove network namespace %s", name);
	else
		say(out, 0, "network namespaces can be made and removed");
}

bool doctor_probe_alive(const char *netns, const struct instance_tag *tag)
{
	char prefix[32];
	uint64_t pid;

	netns_prefix(tag->s, prefix);
	return str_starts(netns, prefix) &&
	       parse_u64(netns + strlen(prefix), 1, INT_MAX, &pid) == 0 &&
	       (kill((pid_t)pid, 0) == 0 || errno == EPERM);
}

static const struct {
	const char *name;
	void (*run)(const char *arg, struct doctor_probe *out);
} probes[] = {
	{ "kvm", probe_kvm }, { "device-mapper", probe_dm }, { "reflink", probe_reflink },
	{ "tun", probe_tun }, { "netns", probe_netns },      { "userfaultfd", probe_userfaultfd },
};

int doctor_probe_main(int argc, char **argv)
{
	struct doctor_probe out = { .code = EINVAL };

	for (size_t i = 0; argc == 2 && i < ARRAY_SIZE(probes); i++) {
		if (!streq(probes[i].name, argv[0]))
			continue;
		probes[i].run(argv[1], &out);
		printf("%d %s\n", out.code, out.text);
		return fflush(stdout) == 0 ? 0 : 1;
	}
	fprintf(stderr, "vivd: there is no such probe\n");
	return 1;
}

int doctor_probe_parse(const char *line, struct doctor_probe *out)
{
	const char *space = strchr(line, ' ');
	char number[8];
	uint64_t code;

	if (space == NULL || (size_t)(space - line) >= sizeof(number))
		return -EBADMSG;
	str_copy(number, (size_t)(space - line) + 1, line);
	if (parse_u64(number, 0, 4095, &code) < 0)
		return -EBADMSG;
	out->code = (int)code;
	str_copy(out->text, sizeof(out->text), space + 1);
	out->text[strcspn(out->text, "\n")] = '\0';
	return 0;
}

void doctor_probe(const char *name, const char *arg, uint64_t timeout_ms, struct doctor_probe *out)
{
	const char *argv[] = { self_path, DOCTOR_PROBE_FLAG, name, arg, NULL };
	auto_buf output = BUF_INIT(OUTPUT_MAX);
	struct op op;
	int r;

	op_init(&op, timeout_ms, -1);
	r = spawn_run(argv, NULL, &output, &op);
	if (r == 0 && doctor_probe_parse(buf_str(&output), out) == 0)
		return;
	if (op.err.kind == ERR_TIMEOUT || r == -ETIMEDOUT)
		say(out, ETIMEDOUT, "the probe \"%s\" did not answer in %llu ms and was ended",
		    name, (unsigned long long)timeout_ms);
	else
		say(out, EIO, "the probe \"%s\" failed: %.100s", name, op.err.msg);
}
