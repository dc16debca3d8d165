/* SPDX-License-Identifier: Apache-2.0 */
/* What has to be there: rights, a kernel that is new enough, cgroups, programs, and what
 * `vivd prepare` makes. */
#include "base/file.h"
#include "os/cgroup.h"
#include "os/spawn.h"
#include "sandbox/doctor-internal.h"
#include "template/kernel.h"
#include "template/template.h"
#include "vmm/vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { KERNEL_MAJOR = 5, KERNEL_MINOR = 14, VERSION_SIZE = 64 };

static void check_root(struct doctor_report *report)
{
	struct doctor_item item = { .area = "host", .name = str_dup("root") };

	if (geteuid() == 0) {
		item.what = str_dup("running as root");
	} else {
		item.verdict = DOCTOR_MISSING;
		item.what = str_printf("running as user %u", (unsigned)geteuid());
		item.why = str_dup("vivd makes namespaces, cgroups and VMs; what follows was seen "
				   "without the rights to");
		item.advice = str_dup("sudo viv doctor");
	}
	doctor_add(report, item);
}

static void check_kernel(struct doctor_report *report)
{
	struct doctor_item item = { .area = "kernel", .name = str_dup("version") };
	struct utsname uts = { .release = "unknown" };
	unsigned major = 0;
	unsigned minor = 0;

	if (uname(&uts) < 0 ||
	    sscanf(uts.release, "%3u.%5u", &major, &minor) != 2) /* NOLINT(cert-err34-c) */
		major = 0;
	item.what = str_printf("Linux %s", uts.release);
	if (major < KERNEL_MAJOR || (major == KERNEL_MAJOR && minor < KERNEL_MINOR)) {
		item.verdict = DOCTOR_MISSING;
		item.why = str_dup("VMMs are ended by cgroup.kill");
		item.advice = str_printf("a kernel of %d.%d or newer", KERNEL_MAJOR, KERNEL_MINOR);
	}
	doctor_add(report, item);
}

static bool kernel_knows_cgroup2(void)
{
	auto_buf text = BUF_INIT(65536);

	return file_read_at(AT_FDCWD, "/proc/filesystems", &text) == 0 &&
	       strstr(buf_str(&text), "\tcgroup2\n") != NULL;
}

static void check_cgroup_mount(const struct doctor_host *host, const char *mount,
			       struct doctor_report *report)
{
	struct doctor_item item = { .area = "cgroup", .name = str_dup("mount") };

	if (mount != NULL) {
		item.what = str_printf("cgroup v2 is mounted at %s", mount);
	} else if (kernel_knows_cgroup2()) {
		item.verdict = DOCTOR_DEGRADED;
		item.what = str_dup("no cgroup v2 is mounted");
		item.why = str_printf("vivd mounts one at %s/cgroup", host->config->run_dir);
	} else {
		item.verdict = DOCTOR_MISSING;
		item.what = str_dup("the kernel has no cgroup v2");
		item.why =
			str_dup("VMMs are started in cgroups, and ended and found again by them");
		item.advice = str_dup("a kernel with CONFIG_CGROUPS");
	}
	doctor_add(report, item);
}

/* Whether a list "cpu memory pids" has a word. */
static bool has_word(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = strstr(list, word); p != NULL; p = strstr(p + n, word)) {
		if ((p == list || p[-1] == ' ') && (p[n] == ' ' || p[n] == '\0' || p[n] == '\n'))
			return true;
	}
	return false;
}

static void check_controllers(const char *mount, struct doctor_report *report)
{
	static const char *const wanted[] = { "cpu", "memory", "pids" };
	struct doctor_item item = { .area = "cgroup", .name = str_dup("controllers") };
	auto_free char *path = str_printf("%s/cgroup.controllers", mount);
	auto_buf have = BUF_INIT(4096);
	char lacks[64] = "";
	size_t used = 0;

	if (file_read_at(AT_FDCWD, path, &have) < 0)
		buf_clear(&have); /* then it has none */
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		if (!has_word(buf_str(&have), wanted[i]))
			used += (size_t)snprintf(lacks + used, sizeof(lacks) - used, " %s",
						 wanted[i]);
	}
	if (used == 0) {
		item.what = str_dup("cpu, memory and pids are there");
	} else {
		item.verdict = DOCTOR_DEGRADED;
		item.what = str_printf("cgroup v2 lacks:%s", lacks);
		item.why = str_dup("what a VMM takes of these is neither counted nor bounded");
		item.advice = str_dup("boot with systemd.unified_cgroup_hierarchy=1, or "
				      "cgroup_no_v1=all");
	}
	doctor_add(report, item);
}

static void check_cgroups(const struct doctor_host *host, struct doctor_report *report)
{
	char mount[PATH_MAX];
	bool mounted = cgroup_find_mount(mount, sizeof(mount)) == 0;

	check_cgroup_mount(host, mounted ? mount : NULL, report);
	if (mounted)
		check_controllers(mount, report);
}

static void check_vmm(const struct doctor_host *host, struct doctor_report *report)
{
	const struct vmm_ops *vmm = vmm_driver(host->config->vmm);
	struct doctor_item item = { .area = "vmm", .name = str_dup(host->config->vmm) };
	char version[VERSION_SIZE];
	struct op op;

	op_init(&op, DOCTOR_PROBE_TIMEOUT_MS, -1);
	if (vmm == NULL)
		err_set(&op.err, ERR_INVALID, "setting vmm: no driver '%s'", host->config->vmm);
	else if (vmm_probe(vmm, host->config->vmm_binary, version, sizeof(version), &op) == 0)
		item.what = str_printf("%s %s", vmm_name(vmm), version);
	if (item.what == NULL) {
		item.verdict = DOCTOR_MISSING;
		item.what = str_dup(op.err.msg);
		item.why = str_dup("no sandbox can be started without it");
		item.advice = str_dup(host->config->vmm_binary != NULL
					      ? "setting vmm_binary"
					      : "install the package qemu-system-x86");
	}
	doctor_add(report, item);
}

static void check_program(const char *program, const char *use, enum doctor_verdict without,
			  struct doctor_report *report)
{
	struct doctor_item item = { .area = "programs", .name = str_dup(program) };
	char path[PATH_MAX];
	struct err e = { 0 };

	if (spawn_find(program, path, sizeof(path), &e) == 0) {
		item.what = str_dup(path);
	} else {
		const char *advice = strstr(e.msg, "install ");

		item.verdict = without;
		item.what = str_printf("%s is missing", program);
		item.why = str_dup(use);
		if (advice != NULL)
			item.advice = str_dup(advice);
	}
	doctor_add(report, item);
}

/* It is built where libcurl is. */
static void check_hook(const struct doctor_host *host, struct doctor_report *report)
{
	struct doctor_item item = { .area = "programs", .name = str_dup("viv-hook") };
	const char *path = host->config->hook_program;

	if (access(path, X_OK) == 0) {
		item.what = str_dup(path);
	} else {
		item.verdict = DOCTOR_DEGRADED;
		item.what = str_printf("%s: %s", path, strerrordesc_np(errno));
		item.why = str_dup("webhooks cannot be made, and those that there are get nothing");
		item.advice = str_dup("sudo apt-get install libcurl4-openssl-dev, then build and "
				      "install Vivarium again");
	}
	doctor_add(report, item);
}

static bool check_guest_kernel(const struct doctor_host *host, struct doctor_report *report)
{
	struct doctor_item item = { .area = "prepared", .name = str_dup("kernel") };
	struct kernel kernel;
	struct err e = { 0 };

	if (kernel_find(host->config->state_dir, NULL, &kernel, &e) == 0) {
		item.what = str_printf("guest kernel %s", kernel.version);
	} else {
		item.verdict = DOCTOR_MISSING;
		item.what = str_dup(e.msg);
		item.why = str_dup("no sandbox can be started without it");
		item.advice = str_dup("sudo vivd prepare");
	}
	doctor_add(report, item);
	return item.verdict == DOCTOR_OK;
}

static bool check_template(const struct doctor_host *host, struct doctor_report *report)
{
	struct doctor_item item = { .area = "prepared", .name = str_dup("template") };
	struct template base;
	struct err e = { 0 };

	if (template_open(host->config->state_dir, "base", &base, &e) == 0) {
		item.what = str_printf("template base, %llu MiB",
				       (unsigned long long)base.root_bytes >> 20);
	} else {
		item.verdict = DOCTOR_MISSING;
		item.what = str_dup(e.msg);
		item.why = str_dup("it is what sandboxes are made from, if they do not say");
		item.advice = str_dup("sudo vivd prepare");
	}
	doctor_add(report, item);
	return item.verdict == DOCTOR_OK;
}

static void check_agent(const struct doctor_host *host, struct doctor_report *report)
{
	struct doctor_item item = { .area = "prepared", .name = str_dup("agent") };
	const char *path = host->config->agent_path;

	if (access(path, R_OK | X_OK) == 0) {
		item.what = str_dup(path);
	} else {
		item.verdict = DOCTOR_MISSING;
		item.what = str_printf("the guest agent %s: %s", path, strerrordesc_np(errno));
		item.why = str_dup("it is the first process of each guest");
		item.advice = str_dup("install Vivarium whole, or setting agent");
	}
	doctor_add(report, item);
}

void doctor_check_parts(const struct doctor_host *host, struct doctor_report *report)
{
	enum doctor_verdict without;
	bool prepared;

	check_root(report);
	check_kernel(report);
	check_cgroups(host, report);
	check_vmm(host, report);
	prepared = check_guest_kernel(host, report);
	prepared = check_template(host, report) && prepared;
	check_agent(host, report);
	/* What is prepared already can be used without what prepares it. */
	without = prepared ? DOCTOR_DEGRADED : DOCTOR_MISSING;
	check_program("mmdebstrap", "vivd prepare cannot make templates", without, report);
	check_program("mke2fs", "vivd prepare cannot make templates", without, report);
	check_program("qemu-img", "disk layers cannot be checked or converted by hand",
		      DOCTOR_DEGRADED, report);
	check_hook(host, report);
}

void doctor_check_host(const struct doctor_host *host, struct doctor_report *report)
{
	doctor_check_parts(host, report);
	doctor_check_devices(host, report);
	doctor_check_network(host, report);
	doctor_check_tls(host, report);
	doctor_check_room(host, report);
}
