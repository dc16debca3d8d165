/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel offers: acceleration, disk drivers, userfaultfd, clocks. */
#include "base/file.h"
#include "sandbox/doctor-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/timex.h>

enum { CPUINFO_MAX = 1 << 20 };

/* Whether all CPUs, or the first at least, show a flag in /proc/cpuinfo. */
static bool cpu_flag(const char *cpuinfo, const char *flag)
{
	const char *line = strstr(cpuinfo, "\nflags");
	size_t n = strlen(flag);
	const char *end;

	if (line == NULL)
		return false;
	end = strchrnul(line + 1, '\n');
	for (const char *p = strstr(line, flag); p != NULL && p < end; p = strstr(p + n, flag)) {
		if (p[-1] == ' ' && (p[n] == ' ' || p[n] == '\n' || p[n] == '\0'))
			return true;
	}
	return false;
}

static const char *read_cpuinfo(struct buf *out)
{
	/* Without it no flag is there, which is what is said then. */
	ignore_err(file_read_at(AT_FDCWD, "/proc/cpuinfo", out));
	return buf_str(out);
}

static char *kvm_advice(const struct doctor_probe *probe, const char *cpuinfo)
{
	if (probe->code == EACCES || probe->code == EPERM)
		return str_dup("run as root, and let this container or unit use /dev/kvm");
	if (probe->code != ENOENT && probe->code != ENODEV && probe->code != ENXIO)
		return NULL;
	if (cpu_flag(cpuinfo, "vmx"))
		return str_dup("load the kernel module: modprobe kvm_intel");
	if (cpu_flag(cpuinfo, "svm"))
		return str_dup("load the kernel module: modprobe kvm_amd");
	return str_dup("switch virtualisation on in the firmware; in a virtual machine: ask for "
		       "nested virtualisation");
}

static void check_kvm(const struct doctor_host *host, const char *cpuinfo,
		      struct doctor_report *report)
{
	struct doctor_item item = { .area = "acceleration", .name = str_dup("kvm") };
	bool kvm = host->acceleration != NULL && streq(host->acceleration, "kvm");
	struct doctor_probe probe;

	doctor_probe("kvm", "", DOCTOR_PROBE_TIMEOUT_MS, &probe);
	if (probe.code == 0) {
		item.what = str_dup(probe.text);
	} else {
		item.what = str_printf("%s: %s", probe.text, strerrordesc_np(probe.code));
		item.advice = kvm_advice(&probe, cpuinfo);
	}
	item.verdict = kvm && probe.code == 0 ? DOCTOR_OK : DOCTOR_DEGRADED;
	if (host->acceleration == NULL)
		item.why = str_dup("vivd finds out whether guests come up under it; until it "
				   "knows, they run under TCG");
	else
		item.why = str_printf("guests run under %s: %s", kvm ? "KVM" : "TCG",
				      host->acceleration_why);
	doctor_add(report, item);
}

static void check_dm(const struct doctor_host *host, struct doctor_report *report)
{
	struct doctor_item item = { .area = "disk", .name = str_dup("device-mapper") };
	struct doctor_probe probe;

	doctor_probe("device-mapper", "", DOCTOR_PROBE_TIMEOUT_MS, &probe);
	item.verdict = probe.code == 0 ? DOCTOR_OK : DOCTOR_DEGRADED;
	item.why = str_printf("disk layers are %s, which needs nothing of the kernel",
			      host->config->disk);
	if (probe.code == 0) {
		item.what = str_dup(probe.text);
	} else {
		item.what = str_printf("%s: %s", probe.text, strerrordesc_np(probe.code));
		item.advice = str_dup("a kernel with dm_mod: modprobe dm_mod dm_snapshot");
	}
	doctor_add(report, item);
}

static void check_reflink(const struct doctor_host *host, struct doctor_report *report)
{
	struct doctor_item item = { .area = "disk", .name = str_dup("reflink") };
	struct doctor_probe probe;

	doctor_probe("reflink", host->config->state_dir, DOCTOR_PROBE_TIMEOUT_MS, &probe);
	item.verdict = probe.code == 0 ? DOCTOR_OK : DOCTOR_DEGRADED;
	item.why = str_printf("disk layers are %s files over one shared image", host->config->disk);
	if (probe.code == 0) {
		item.what = str_dup(probe.text);
	} else {
		item.what = str_printf("%s: %s", probe.text, strerrordesc_np(probe.code));
		if (probe.code == EOPNOTSUPP || probe.code == ENOTTY || probe.code == EINVAL)
			item.advice = str_printf("%s on a file system of btrfs or xfs",
						 host->config->state_dir);
	}
	doctor_add(report, item);
}

static void check_userfaultfd(struct doctor_report *report)
{
	struct doctor_item item = { .area = "kernel", .name = str_dup("userfaultfd") };
	struct doctor_probe probe;

	doctor_probe("userfaultfd", "", DOCTOR_PROBE_TIMEOUT_MS, &probe);
	if (probe.code == 0) {
		item.what = str_dup(probe.text);
	} else {
		item.verdict = DOCTOR_DEGRADED;
		item.what = str_printf("%s: %s", probe.text, strerrordesc_np(probe.code));
		item.why =
			str_dup("memory cannot be loaded page by page, when a guest asks for it");
		item.advice = str_dup("a kernel with CONFIG_USERFAULTFD; as root, or "
				      "vm.unprivileged_userfaultfd = 1");
	}
	doctor_add(report, item);
}

static void check_tsc(const char *cpuinfo, struct doctor_report *report)
{
	static const char path[] =
		"/sys/devices/system/clocksource/clocksource0/current_clocksource";
	auto_buf source = BUF_INIT(64);
	bool steady = cpu_flag(cpuinfo, "constant_tsc") && cpu_flag(cpuinfo, "nonstop_tsc");
	struct doctor_item item = { .area = "clock", .name = str_dup("tsc") };
	const char *name = "unknown";

	if (file_read_at(AT_FDCWD, path, &source) == 0 && source.len > 0) {
		buf_head(&source)[source.len - 1] = '\0'; /* the newline */
		name = buf_head(&source);
	}
	item.what = str_printf("%s TSC, the host's clock source is %s",
			       steady ? "constant and never stopping" : "no steady", name);
	if (!steady || !streq(name, "tsc")) {
		item.verdict = DOCTOR_DEGRADED;
		item.why = str_dup("guests take the TSC for a reliable clock: their time may drift "
				   "from the host's");
	}
	doctor_add(report, item);
}

static void check_clock(struct doctor_report *report)
{
	struct doctor_item item = { .area = "clock", .name = str_dup("synchronised") };
	struct timex tx = { .modes = 0 };
	int state = adjtimex(&tx);

	if (state >= 0 && state != TIME_ERROR && (tx.status & STA_UNSYNC) == 0) {
		item.what = str_dup("the host's clock is synchronised");
	} else {
		item.verdict = DOCTOR_DEGRADED;
		item.what = str_dup("nothing keeps the host's clock right");
		item.why = str_dup("guests get their time of day from it");
		item.advice = str_dup("install the package systemd-timesyncd, or chrony");
	}
	doctor_add(report, item);
}

void doctor_check_devices(const struct doctor_host *host, struct doctor_report *report)
{
	auto_buf text = BUF_INIT(CPUINFO_MAX);
	const char *cpuinfo = read_cpuinfo(&text);

	check_kvm(host, cpuinfo, report);
	check_dm(host, report);
	check_reflink(host, report);
	check_userfaultfd(report);
	check_tsc(cpuinfo, report);
	check_clock(report);
}
