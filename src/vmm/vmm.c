/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vmm-driver.h"

#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/stat.h>

static const uint64_t MEMORY_MIB_MIN = 64;
static const uint64_t MEMORY_MIB_MAX = 1024 * 1024;

enum { CPUS_MAX = 64 };

/* The first is the default. */
static const struct vmm_ops *const drivers[] = {
	&qemu_ops,
};

const struct vmm_ops *vmm_driver(const char *name)
{
	if (name == NULL)
		return drivers[0];
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++)
		if (streq(drivers[i]->name, name))
			return drivers[i];
	return NULL;
}

const char *vmm_name(const struct vmm_ops *ops)
{
	return ops->name;
}

unsigned vmm_caps(const struct vmm_ops *ops)
{
	return ops->caps;
}

const char *vmm_kernel_words(const struct vmm_ops *ops, enum vmm_accel accel)
{
	return ops->kernel_words(accel);
}

void vmm_base_init(struct vmm *vmm, const struct vmm_ops *ops, const struct sandbox_id *id)
{
	*vmm = (struct vmm){
		.ops = ops,
		.id = *id,
		.process = PROCESS_INIT,
		.exit_code = -1,
		.console_fd = -1,
	};
}

void vmm_base_done(struct vmm *vmm)
{
	fd_close(&vmm->process.pidfd);
	fd_close(&vmm->console_fd);
}

static bool has_ended(const struct vmm *vmm)
{
	struct pollfd p = { .fd = vmm->process.pidfd, .events = POLLIN };

	return p.fd < 0 || poll(&p, 1, 0) == 1;
}

static int check_op(struct op *op, const char *verb)
{
	int r = op_check(op);

	return r < 0 ? err_errno(&op->err, -r, "%s", verb) : 0;
}

static int check_spec(const struct vmm_spec *spec, struct err *e)
{
	if (spec->cpus < 1 || spec->cpus > CPUS_MAX)
		return err_set(e, ERR_INVALID, "a VM has 1 to %d CPUs, not %u", CPUS_MAX,
			       spec->cpus);
	if (spec->memory_mib < MEMORY_MIB_MIN || spec->memory_mib > MEMORY_MIB_MAX)
		return err_set(e, ERR_INVALID, "a VM has %ju to %ju MiB of memory, not %ju",
			       (uintmax_t)MEMORY_MIB_MIN, (uintmax_t)MEMORY_MIB_MAX,
			       (uintmax_t)spec->memory_mib);
	if (spec->uid == 0 || spec->gid == 0)
		return err_set(e, ERR_INVALID, "a VMM never runs as root");
	if ((spec->kernel == NULL && spec->restore == NULL) ||
	    (spec->tap_fd >= 0 && spec->mac == NULL))
		return err_set(
			e, ERR_INVALID,
			"a VM needs a kernel or a saved state, and a MAC address with a tap");
	return 0;
}

int vmm_probe(const struct vmm_ops *ops, const char *binary, char *out_version, size_t size,
	      struct op *op)
{
	int r = check_op(op, "probe the VMM");

	return r < 0 ? r : ops->probe(binary, out_version, size, op);
}

bool vmm_restores(const struct vmm_ops *ops, const char *version, const char *saved)
{
	return ops->restores(version, saved);
}

int vmm_kvm_check(unsigned *out_gid, struct err *e)
{
	static const char path[] = "/dev/kvm";
	const mode_t others = S_IROTH | S_IWOTH;
	const mode_t group = S_IRGRP | S_IWGRP;
	struct stat st;
	int code = stat(path, &st) < 0 ? errno : 0;

	if (code == ENOENT)
		return err_set(e, ERR_UNSUPPORTED, "no %s", path);
	if (code != 0)
		return err_errno(e, code, "look at %s", path);
	*out_gid = 0;
	if ((st.st_mode & others) == others)
		return 0;
	if ((st.st_mode & group) != group || st.st_gid == 0)
		return err_set(e, ERR_UNSUPPORTED,
			       "no permission: %s is root's alone, and a VMM never runs as root "
			       "(chgrp kvm %s; chmod 0660 %s)",
			       path, path, path);
	*out_gid = st.st_gid;
	return 0;
}

int vmm_start(const struct vmm_ops *ops, const struct vmm_spec *spec, struct vmm **out,
	      struct op *op)
{
	int r = check_op(op, "start a VM");

	if (r == 0)
		r = check_spec(spec, &op->err);
	if (r == 0 && spec->restore != NULL && (ops->caps & VMM_CAP_SNAPSHOT) == 0)
		return err_set(&op->err, ERR_UNSUPPORTED, "%s cannot restore VMs", ops->name);
	return r < 0 ? r : ops->start(spec, out, op);
}

int vmm_adopt(const struct vmm_ops *ops, const struct sandbox_id *id, int run_dirfd, pid_t pid,
	      struct vmm **out, struct op *op)
{
	int r = check_op(op, "adopt a VM");

	return r < 0 ? r : ops->adopt(id, run_dirfd, pid, out, op);
}

static int check_control(const struct vmm *vmm, unsigned cap, const char *verb, struct op *op)
{
	int r = check_op(op, verb);

	if (r < 0)
		return r;
	if ((vmm->ops->caps & cap) == 0)
		return err_set(&op->err, ERR_UNSUPPORTED, "%s: not possible with %s", verb,
			       vmm->ops->name);
	if (has_ended(vmm))
		return err_set(&op->err, ERR_VMM, "%s: the VMM of %s has ended", verb, vmm->id.s);
	return 0;
}

int vmm_pause(struct vmm *vmm, struct op *op)
{
	int r = check_control(vmm, VMM_CAP_PAUSE, "pause the VM", op);

	if (r == 0)
		r = vmm->ops->pause(vmm, op);
	if (r == 0)
		vmm->running = false;
	return r;
}

int vmm_resume(struct vmm *vmm, struct op *op)
{
	int r = check_control(vmm, VMM_CAP_PAUSE, "resume the VM", op);

	if (r == 0)
		r = vmm->ops->resume(vmm, op);
	if (r == 0) {
		vmm->running = true;
		vmm->frozen = VMM_EVENT_NONE;
	}
	return r;
}

int vmm_cut_prepare(struct vmm *vmm, const struct vmm_cut *cut, struct op *op)
{
	int r = check_control(vmm, VMM_CAP_SNAPSHOT, "get the VM ready to be saved", op);

	return r < 0 ? r : vmm->ops->cut_prepare(vmm, cut, op);
}

int vmm_cut_begin(struct vmm *vmm, struct op *op)
{
	int r = check_control(vmm, VMM_CAP_SNAPSHOT, "save the VM", op);

	if (r == 0 && vmm->running)
		return err_set(&op->err, ERR_CONFLICT, "save the VM: its vCPUs run");
	return r < 0 ? r : vmm->ops->cut_begin(vmm, op);
}

int vmm_cut_finish(struct vmm *vmm, struct op *op)
{
	int r = check_control(vmm, VMM_CAP_SNAPSHOT, "save the VM", op);

	return r < 0 ? r : vmm->ops->cut_finish(vmm, op);
}

void vmm_cut_done(struct vmm *vmm, const struct op *op)
{
	if (!has_ended(vmm))
		vmm->ops->cut_done(vmm, op);
}

int vmm_set_chain(struct vmm *vmm, const struct vmm_image *chain, size_t n, size_t *out_top,
		  struct op *op)
{
	int r = check_control(vmm, VMM_CAP_SNAPSHOT, "change the VM's disk layers", op);

	return r < 0 ? r : vmm->ops->set_chain(vmm, chain, n, out_top, op);
}

int vmm_grow_disk(struct vmm *vmm, uint64_t bytes, struct op *op)
{
	int r = check_control(vmm, VMM_CAP_SNAPSHOT, "grow the VM's disk", op);

	return r < 0 ? r : vmm->ops->grow_disk(vmm, bytes, op);
}

int vmm_ram(struct vmm *vmm, struct ram *out, struct op *op)
{
	struct ram ram = { .pid = vmm->process.pid, .pidfd = vmm->process.pidfd };
	int r = check_control(vmm, VMM_CAP_SNAPSHOT, "find the VM's memory", op);

	if (r == 0)
		r = vmm->ops->ram(vmm, &ram.address, &ram.bytes, op);
	if (r == 0)
		*out = ram;
	return r;
}

bool vmm_running(const struct vmm *vmm)
{
	return vmm->running && !has_ended(vmm);
}

const char *vmm_version(const struct vmm *vmm)
{
	return vmm->version;
}

enum vmm_event vmm_frozen(const struct vmm *vmm)
{
	return vmm->frozen;
}

pid_t vmm_pid(const struct vmm *vmm)
{
	return vmm->process.pid;
}

int vmm_pidfd(const struct vmm *vmm)
{
	return vmm->process.pidfd;
}

int vmm_console_fd(const struct vmm *vmm)
{
	return vmm->console_fd;
}

int vmm_event_fd(const struct vmm *vmm)
{
	return vmm->ops->event_fd(vmm);
}

enum vmm_event vmm_next_event(struct vmm *vmm)
{
	enum vmm_event event = vmm->ops->next_event(vmm);

	if (event == VMM_EVENT_RUNNING)
		vmm->frozen = VMM_EVENT_NONE;
	else if (event == VMM_EVENT_NO_SPACE || event == VMM_EVENT_IO_ERROR)
		vmm->frozen = event;
	if (event == VMM_EVENT_RUNNING)
		vmm->running = true;
	else if (event != VMM_EVENT_NONE && event != VMM_EVENT_CLOSED)
		vmm->running = false;
	if (event == VMM_EVENT_SHUTDOWN)
		vmm->guest_ended = true;
	return event;
}

bool vmm_guest_ended(const struct vmm *vmm)
{
	return vmm->guest_ended;
}

static int look(void *arg)
{
	struct vmm *vmm = arg;

	while (vmm_next_event(vmm) != VMM_EVENT_NONE)
		;
	if (vmm->frozen == VMM_EVENT_NONE)
		return 0;
	return vmm->frozen == VMM_EVENT_NO_SPACE ? -ENOSPC : -EIO;
}

void vmm_listen(struct vmm *vmm, struct op_watch *watch, struct op *op)
{
	*watch = (struct op_watch){ .fd = vmm_event_fd(vmm), .look = look, .arg = vmm };
	op->watch = watch;
}

int vmm_reap(struct vmm *vmm)
{
	int code;

	if (vmm->process.pidfd >= 0 && spawn_reap(&vmm->process, &code) == 1)
		vmm->exit_code = code;
	return vmm->exit_code;
}

int vmm_kill(const struct vmm *vmm)
{
	if (vmm->process.pidfd < 0 ||
	    pidfd_send_signal(vmm->process.pidfd, SIGKILL, NULL, 0) == 0 || errno == ESRCH)
		return 0;
	return -errno;
}

int vmm_base_kill(struct vmm *vmm, const struct op *op)
{
	int r = vmm_kill(vmm);

	if (r < 0 || vmm->process.pidfd < 0)
		return r;
	r = op_wait_fd(op, vmm->process.pidfd, POLLIN, -1);
	if (r < 0)
		return r;
	vmm_reap(vmm);
	return 0;
}

int vmm_stop(struct vmm *vmm, struct op *op)
{
	int r = vmm_base_kill(vmm, op);

	vmm->running = false;
	return r < 0 ? err_errno(&op->err, -r, "end the VMM of %s", vmm->id.s) : 0;
}

void vmm_free(struct vmm *vmm)
{
	if (vmm == NULL)
		return;
	vmm_base_done(vmm);
	vmm->ops->free(vmm);
}
