/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The probe: a VM that is started as a sandbox's is, with one CPU, little memory, no disk and no
 * network. Its guest's first process says that it runs, and ends the VM (viv.probe).
 *
 * /dev/kvm can open, make VMs and still not run Linux: the guest then does nothing, or next to it,
 * while the VMM spins. So that this is noticed soon, the kernel is made to say what it does on the
 * console, from its first instruction on: a silent console is a guest that does not come on.
 *
 * The probe has the name of a sandbox that is in no row: if the daemon dies now, the sweep at the
 * start of the next one removes it like any other leftover.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "os/cgroup.h"
#include "sandbox/accel-internal.h"
#include "sandbox/sandbox-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

/* 8 s are far more than a guest needs under KVM that is worth using. Of these, 3 may be silent. */
enum { PROBE_MEMORY_MIB = 256, CLEAN_TIMEOUT_MS = 10000, SILENT_SHARE = 3, TIMEOUT_SHARE = 8 };

/* After the driver's "quiet", which it undoes; notices only, since each byte costs a VM exit. */
static const char probe_cmdline[] = "viv.probe loglevel=6 earlyprintk=ttyS0,115200";

struct probe {
	const struct manager *m;
	struct sandbox_id id;
	int run_dirfd;
	int cgroup_fd;
	struct vmm *vmm;
	struct op op; /* its deadline is the sooner of the next two */
	uint64_t end_ns;
	uint64_t silent_end_ns; /* moves on with each byte */
	uint64_t silent_ns;
};

/* Above those of all slots that a range can have. */
static unsigned probe_uid(const struct manager *m)
{
	return m->config.vmm_uid_base + (1U << (31 - m->config.net_prefix));
}

static void set_deadline(struct probe *p)
{
	p->silent_end_ns = clock_now_ns() + p->silent_ns;
	p->op.deadline_ns = MIN(p->end_ns, p->silent_end_ns);
}

/* The console spoke: the guest comes on. */
static void on_console(const char *text, size_t n, void *arg)
{
	struct probe *p = arg;

	(void)text;
	(void)n;
	set_deadline(p);
}

static int make_places(struct probe *p)
{
	if (mkdirat(p->m->run_fd, p->id.s, 0700) < 0)
		return err_errno(&p->op.err, errno, "make run directory %s", p->id.s);
	p->run_dirfd =
		openat(p->m->run_fd, p->id.s, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (p->run_dirfd < 0)
		return err_errno(&p->op.err, errno, "open run directory %s", p->id.s);
	p->cgroup_fd = cgroup_create(p->m->cgroup_fd, p->id.s, &p->op);
	return MIN(p->cgroup_fd, 0);
}

static int start_vmm(struct probe *p, const struct kernel *kernel, const char *initrd)
{
	unsigned uid = probe_uid(p->m);
	struct vmm_spec spec = {
		.id = p->id,
		.binary = p->m->config.vmm_binary,
		.accel = accel_for_vmm(p->m, "kvm"),
		.cpus = 1,
		.memory_mib = PROBE_MEMORY_MIB,
		.kernel = kernel->vmlinux,
		.initrd = initrd,
		.cmdline = probe_cmdline,
		.tap_fd = -1,
		.netns_fd = -1,
		.cgroup_fd = p->cgroup_fd,
		.uid = uid,
		.gid = uid,
		.run_dirfd = p->run_dirfd,
	};

	return vmm_start(p->m->vmm, &spec, &p->vmm, &p->op);
}

/* What is said of a guest that did not come up in time. */
static int say_timeout(struct probe *p)
{
	log_info("acceleration.probe_timeout", kv_str("error", p->op.err.msg));
	p->op.err = (struct err){ 0 };
	if (p->silent_end_ns < p->end_ns)
		err_set(&p->op.err, ERR_TIMEOUT,
			"a guest under KVM did not reach userspace: its console was silent for "
			"%.1f s",
			(double)p->silent_ns / (double)NS_PER_S);
	else
		err_set(&p->op.err, ERR_TIMEOUT,
			"a guest under KVM did not reach userspace within %ju s",
			(uintmax_t)(p->m->config.kvm_probe_timeout_ms / MS_PER_S));
	return -ETIMEDOUT;
}

static int run_guest(struct probe *p, const struct kernel *kernel, const char *initrd)
{
	uint64_t timeout_ns = p->m->config.kvm_probe_timeout_ms * NS_PER_MS;
	int r;

	p->end_ns = p->silent_end_ns = p->op.deadline_ns = clock_now_ns() + timeout_ns;
	p->silent_ns = timeout_ns / TIMEOUT_SHARE * SILENT_SHARE;
	r = start_vmm(p, kernel, initrd);
	if (r == 0) {
		set_deadline(p); /* a busy host that is slow to start a VMM is no silent guest */
		r = guest_wait_ready(vmm_console_fd(p->vmm), vmm_pidfd(p->vmm), on_console, p,
				     &p->op);
	}
	if (r == 0)
		return 0;
	r = op_check(&p->op);
	if (r == -ECANCELED)
		return r;
	return r == -ETIMEDOUT ? say_timeout(p)
			       : err_wrap(&p->op.err, "a guest under KVM did not come up");
}

/* Whatever came of it: the VM ends, and its places go. It is not cancelled. */
static void clean_up(struct probe *p)
{
	struct op op;
	int r;

	op_init(&op, CLEAN_TIMEOUT_MS, -1);
	if (p->vmm != NULL)
		ignore_err(vmm_stop(p->vmm, &op)); /* what does not end now ends with its cgroup */
	vmm_free(p->vmm);
	fd_close(&p->cgroup_fd);
	fd_close(&p->run_dirfd);
	op_init(&op, CLEAN_TIMEOUT_MS, -1);
	r = cgroup_remove(p->m->cgroup_fd, p->id.s, &op);
	if (r == 0) {
		r = file_remove_tree_at(p->m->run_fd, p->id.s);
		if (r < 0)
			err_errno(&op.err, -r, "remove run directory %s", p->id.s);
	}
	if (r < 0)
		log_warning("acceleration.probe_left", kv_str("id", p->id.s),
			    kv_str("error", op.err.msg),
			    kv_str("hint", "the next start of vivd tries again"));
}

int accel_probe(const struct manager *m, const struct sandbox_id *id, const struct kernel *kernel,
		uint64_t *out_ms, struct op *op)
{
	struct probe p = { .m = m, .id = *id, .run_dirfd = -1, .cgroup_fd = -1, .op = *op };
	uint64_t start_ns;
	char initrd[512];
	int r = kernel_initramfs(m->config.state_dir, kernel, m->config.agent_path, initrd,
				 sizeof(initrd), &p.op);

	if (r == 0)
		r = make_places(&p);
	start_ns = clock_now_ns();
	if (r == 0)
		r = run_guest(&p, kernel, initrd);
	*out_ms = (clock_now_ns() - start_ns) / NS_PER_MS;
	clean_up(&p);
	op->err = p.op.err;
	return r;
}
