/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The steps of a cold-booted sandbox. Each name on the host derives from the sandbox's id
 * (directories, cgroup, alias of the slot's link), so that a release needs nothing else; the
 * resources only hold what is open right now.
 *
 * Order matters on the way back: the VMM goes first, and with its cgroup every process of it,
 * before the slot, the directories and the disk layer that it uses.
 */
#include "sandbox/steps.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "guest/start.h"
#include "os/cgroup.h"
#include "sandbox/accel-internal.h"
#include "sandbox/handles.h"
#include "sandbox/listen.h"
#include "sandbox/sandbox-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MIB = 1024 * 1024, START_TIMEOUT_MS = 300 * MS_PER_S };

/* Opens <parent>/<id>. Return: descriptor; -errno. */
static int open_dir(int parent_fd, const char *id)
{
	int fd = openat(parent_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int make_dir(int parent_fd, const char *id, const char *what, struct op *op)
{
	int fd;

	if (mkdirat(parent_fd, id, 0700) < 0)
		return err_errno(&op->err, errno, "make %s %s", what, id);
	fd = open_dir(parent_fd, id);
	return fd < 0 ? err_errno(&op->err, -fd, "open %s %s", what, id) : fd;
}

static int adopt_dir(int parent_fd, const char *id, int *fd)
{
	int r;

	fd_close(fd);
	r = open_dir(parent_fd, id);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	*fd = r;
	return 1;
}

int statedir_acquire(struct sandbox *sb, struct op *op)
{
	int fd = make_dir(sb->m->sandboxes_fd, sb->row.id.s, "sandbox directory", op);

	if (fd < 0)
		return fd;
	sb->res.dirfd = fd;
	return 0;
}

int statedir_release(struct sandbox *sb, struct op *op)
{
	int r;

	fd_close(&sb->res.dirfd);
	r = file_remove_tree_at(sb->m->sandboxes_fd, sb->row.id.s);
	return r < 0 ? err_errno(&op->err, -r, "remove sandbox directory %s", sb->row.id.s) : 0;
}

int statedir_adopt(struct sandbox *sb, struct op *op)
{
	int r = adopt_dir(sb->m->sandboxes_fd, sb->row.id.s, &sb->res.dirfd);

	return r < 0 ? err_errno(&op->err, -r, "open sandbox directory %s", sb->row.id.s) : r;
}

struct disk_spec disk_spec_of(const struct sandbox *sb)
{
	return (struct disk_spec){
		.dirfd = sb->res.dirfd,
		.base_path = sb->res.template.root_path,
		.size_bytes = sb->row.disk_mib * MIB,
	};
}

static int layer_acquire(struct sandbox *sb, struct op *op)
{
	struct disk_spec spec = disk_spec_of(sb);
	int r = disk_create(sb->m->disk, &spec, op);

	return r < 0 ? r : durable_begin(sb, op);
}

int layer_release(struct sandbox *sb, struct op *op)
{
	auto_close int dirfd = open_dir(sb->m->sandboxes_fd, sb->row.id.s);

	if (dirfd == -ENOENT)
		return 0;
	if (dirfd < 0)
		return err_errno(&op->err, -dirfd, "open sandbox directory %s", sb->row.id.s);
	return disk_release(sb->m->disk, dirfd, op);
}

static int layer_adopt(struct sandbox *sb, struct op *op)
{
	return disk_exists(sb->m->disk, sb->res.dirfd, op);
}

int rundir_acquire(struct sandbox *sb, struct op *op)
{
	int fd;
	int r = file_remove_tree_at(sb->m->run_fd, sb->row.id.s); /* of an earlier start */

	if (r < 0)
		return err_errno(&op->err, -r, "remove old run directory %s", sb->row.id.s);
	fd = make_dir(sb->m->run_fd, sb->row.id.s, "run directory", op);
	if (fd < 0)
		return fd;
	sb->res.run_dirfd = fd;
	r = console_open(&sb->res.console, fd);
	return r < 0 ? err_errno(&op->err, -r, "open console log of %s", sb->row.id.s) : 0;
}

int rundir_release(struct sandbox *sb, struct op *op)
{
	int r;

	fd_close(&sb->res.console.log_fd); /* what was printed last stays in memory */
	fd_close(&sb->res.run_dirfd);
	r = file_remove_tree_at(sb->m->run_fd, sb->row.id.s);
	return r < 0 ? err_errno(&op->err, -r, "remove run directory %s", sb->row.id.s) : 0;
}

static int rundir_adopt(struct sandbox *sb, struct op *op)
{
	int r = adopt_dir(sb->m->run_fd, sb->row.id.s, &sb->res.run_dirfd);

	if (r > 0 && sb->res.console.log_fd < 0)
		ignore_err(console_open(&sb->res.console, sb->res.run_dirfd)); /* only a log */
	return r < 0 ? err_errno(&op->err, -r, "open run directory %s", sb->row.id.s) : r;
}

/* A new slot's guest may go everywhere; there is none yet. */
int slot_acquire(struct sandbox *sb, struct op *op)
{
	cleanup(net_egress_done) struct net_egress egress = { 0 };
	int r = egress_read(sb, &egress, &op->err);

	if (r < 0)
		return r;
	r = net_slot_acquire(sb->m->net, &sb->row.id, &sb->res.slot, op);
	pool_wake(sb->m);
	if (r < 0 || net_egress_is_open(&egress))
		return r;
	return net_slot_egress(&sb->res.slot, &egress, op);
}

int slot_release(struct sandbox *sb, struct op *op)
{
	net_slot_done(&sb->res.slot);
	return net_slot_release(sb->m->net, &sb->row.id, op);
}

/* Its rules may be those of before a change that was cut short, or another version's. */
static int slot_adopt(struct sandbox *sb, struct op *op)
{
	cleanup(net_egress_done) struct net_egress egress = { 0 };
	int r;

	net_slot_done(&sb->res.slot);
	r = net_slot_adopt(sb->m->net, &sb->row.id, &sb->res.slot, op);
	if (r <= 0)
		return r;
	r = egress_read(sb, &egress, &op->err);
	if (r == 0)
		r = net_slot_renew(sb->m->net, &sb->res.slot, &egress, op);
	return r < 0 ? r : 1;
}

int cgroup_acquire(struct sandbox *sb, struct op *op)
{
	int fd = cgroup_create(sb->m->cgroup_fd, sb->row.id.s, op);

	if (fd < 0)
		return fd;
	sb->res.cgroup_fd = fd;
	return 0;
}

int cgroup_release(struct sandbox *sb, struct op *op)
{
	fd_close(&sb->res.cgroup_fd);
	return cgroup_remove(sb->m->cgroup_fd, sb->row.id.s, op);
}

static int cgroup_adopt(struct sandbox *sb, struct op *op)
{
	int r = adopt_dir(sb->m->cgroup_fd, sb->row.id.s, &sb->res.cgroup_fd);

	return r < 0 ? err_errno(&op->err, -r, "open cgroup of %s", sb->row.id.s) : r;
}

/* A uid of its own for each slot of each instance: no VMM can signal or trace another's. */
static unsigned vmm_uid(const struct sandbox *sb)
{
	const struct manager *m = sb->m;
	uint32_t block = net_block(m->net) - m->config.net_range;

	return m->config.vmm_uid_base + block / 2 + sb->res.slot.number;
}

/* A hint for people and for speed; without it nothing is different. */
static void write_handles(const struct sandbox *sb)
{
	struct handles h = HANDLES_INIT;

	h.pid = vmm_pid(sb->res.vmm);
	str_copy(h.netns, sizeof(h.netns), sb->res.slot.netns);
	str_copy(h.tap, sizeof(h.tap), sb->res.slot.tap);
	ignore_err(str_fit(h.cgroup, sizeof(h.cgroup), "%s/%s", sb->m->cgroup_name,
			   sb->row.id.s)); /* fits */
	handles_complete(&h);
	ignore_err(handles_write(sb->res.run_dirfd, &h));
}

void disk_images(const struct disk *d, struct vmm_image out[DISK_CHAIN_MAX])
{
	for (size_t i = 0; i < d->n; i++) {
		out[i] = (struct vmm_image){
			.format =
				d->chain[i].format == DISK_QCOW2 ? VMM_IMAGE_QCOW2 : VMM_IMAGE_RAW,
			.fd = d->chain[i].fd,
		};
	}
}

static int start_with_disk(struct sandbox *sb, struct vmm_spec *spec, const struct disk *disk,
			   struct op *op)
{
	struct vmm_image images[DISK_CHAIN_MAX];
	unsigned uid = vmm_uid(sb);
	int r;

	disk_images(disk, images);
	spec->id = sb->row.id;
	spec->binary = sb->m->config.vmm_binary;
	spec->accel = accel_for_vmm(sb->m, sb->row.acceleration);
	spec->cpus = sb->row.cpus;
	spec->memory_mib = sb->row.memory_mib;
	spec->disk = images;
	spec->n_disk = disk->n;
	spec->tap_fd = sb->res.slot.tap_fd;
	spec->mac = NET_GUEST_MAC;
	spec->netns_fd = sb->res.slot.netns_fd;
	spec->cgroup_fd = sb->res.cgroup_fd;
	spec->uid = uid;
	spec->gid = uid;
	spec->run_dirfd = sb->res.run_dirfd;
	r = vmm_start(sb->m->vmm, spec, &sb->res.vmm, op);
	spec->disk = NULL; /* it is ours */
	if (r < 0)
		accel_explain(sb->m, sb->row.acceleration, &op->err);
	return r;
}

int vmm_step_start(struct sandbox *sb, struct vmm_spec *spec, struct op *op)
{
	struct disk_spec disk_spec = disk_spec_of(sb);
	cleanup(disk_done) struct disk disk = { .n = 0 };
	int r = disk_open(sb->m->disk, &disk_spec, &disk, op);

	if (r == 0)
		r = net_slot_tap(&sb->res.slot, op);
	if (r == 0)
		r = start_with_disk(sb, spec, &disk, op);
	fd_close(&sb->res.slot.tap_fd); /* the VMM has its own; the tap goes with it */
	if (r == 0)
		write_handles(sb);
	return r;
}

/* A booted guest's memory begins as zeros, whatever the sandbox was restored from before. */
static int forget_image(struct sandbox *sb, struct op *op)
{
	uint64_t id = 0;
	int r = image_find(sb->res.dirfd, &id);

	if (r > 0)
		r = image_unlink(sb->res.dirfd, id);
	return r < 0 ? err_errno(&op->err, -r, "remove the memory image") : 0;
}

int vmm_acquire(struct sandbox *sb, struct op *op)
{
	struct vmm_spec spec = { 0 };
	struct kernel kernel;
	char initrd[512];
	int r = kernel_find(sb->m->config.state_dir, sb->row.kernel_version, &kernel, &op->err);

	if (r < 0)
		return r;
	if (r == 1)
		log_warning("sandbox.kernel_gone", kv_str("id", sb->row.id.s),
			    kv_str("recorded", sb->row.kernel_version),
			    kv_str("booting", kernel.version));
	r = kernel_initramfs(sb->m->config.state_dir, &kernel, sb->m->config.agent_path, initrd,
			     sizeof(initrd), op);
	if (r < 0)
		return r;
	r = forget_image(sb, op);
	if (r < 0)
		return r;
	str_copy(sb->res.kernel_version, sizeof(sb->res.kernel_version), kernel.version);
	spec.kernel = kernel.vmlinux;
	spec.initrd = initrd;
	spec.cmdline = sb->res.kernel_words;
	return vmm_step_start(sb, &spec, op);
}

int vmm_release(struct sandbox *sb, struct op *op)
{
	int r = 0;

	if (sb->res.vmm != NULL) {
		r = vmm_stop(sb->res.vmm, op);
		vmm_free(sb->res.vmm);
		sb->res.vmm = NULL;
	}
	return r; /* one that we have no handle of ends with its cgroup */
}

static int vmm_step_adopt(struct sandbox *sb, struct op *op)
{
	int pid = cgroup_first_pid(sb->m->cgroup_fd, sb->row.id.s);

	if (pid == 0 || pid == -ENOENT)
		return 0;
	if (pid < 0)
		return err_errno(&op->err, -pid, "read cgroup of %s", sb->row.id.s);
	vmm_free(take_ptr(&sb->res.vmm)); /* of an earlier attempt; it has room for one of us */
	return vmm_adopt(sb->m->vmm, &sb->row.id, sb->res.run_dirfd, pid, &sb->res.vmm, op);
}

static void feed_console(const char *p, size_t n, void *arg)
{
	console_feed(arg, p, n);
}

/* Puts the last console lines behind an error: they usually say why a guest did not come up. */
static int explain_with_console(struct sandbox *sb, struct op *op, int r)
{
	auto_free char *tail = console_tail(&sb->res.console, 240);
	size_t used = strlen(op->err.msg);

	if (tail[0] != '\0' && op->err.kind != ERR_CANCELLED &&
	    str_fit(op->err.msg + used, sizeof(op->err.msg) - used, "; console: %s", tail) < 0)
		op->err.msg[used] = '\0';
	return r;
}

int agent_acquire(struct sandbox *sb, struct op *op)
{
	struct listening l;
	int r;

	listen_begin(&l, sb, op, accel_agent_timeout_ms(sb->m, sb->row.acceleration));
	r = guest_wait_ready(vmm_console_fd(sb->res.vmm), vmm_pidfd(sb->res.vmm), feed_console,
			     &sb->res.console, &l.op);
	if (r == 0)
		r = identity_tell(&sb->row, sb->res.slot.addr, vmm_pidfd(sb->res.vmm), NULL,
				  sb->res.agent_version, &l.op);
	r = listen_end(&l, r, op);
	if (r == 0 || vmm_frozen(sb->res.vmm) != VMM_EVENT_NONE)
		return r;
	accel_explain(sb->m, sb->row.acceleration, &op->err);
	return explain_with_console(sb, op, r);
}

/* Of others, as fast as they are. */
static int run_start(struct sandbox *sb, const struct template_start *start, struct op *op)
{
	const struct guest_start what = {
		.addr = sb->res.slot.addr,
		.vmm_pidfd = vmm_pidfd(sb->res.vmm),
		.token = sb->row.access_token,
		.command = start->command,
		.ready = start->ready,
	};
	struct listening l;

	listen_begin(&l, sb, op, START_TIMEOUT_MS);
	return listen_end(&l, guest_start_run(&what, &l.op), op);
}

int start_acquire(struct sandbox *sb, struct op *op)
{
	struct template_start start;
	int r = template_start_read(&sb->res.template, &start, &op->err);

	if (r < 0 || start.command[0] == '\0')
		return r;
	str_copy(sb->res.start, sizeof(sb->res.start), start.id);
	return run_start(sb, &start, op);
}

/* What the template that a sandbox began as has started now. */
static int start_again(struct sandbox *sb, struct op *op)
{
	struct template *t = &sb->res.template;
	struct template_start start = { .id = "" };
	int r = template_open(sb->m->config.state_dir, sb->res.start_from, t, &op->err);

	if (r == 0)
		r = template_start_read(t, &start, &op->err);
	str_copy(sb->res.start, sizeof(sb->res.start), start.id);
	return r < 0 || start.command[0] == '\0' ? r : run_start(sb, &start, op);
}

/*
 * A sandbox that is booted again runs what its template starts, too. But its owner has to get into
 * it, whatever became of that: if it does not come up, or its template is gone, the sandbox runs
 * all the same.
 */
static int restart_acquire(struct sandbox *sb, struct op *op)
{
	struct op child = op_child(op, 0);

	if (start_again(sb, &child) == 0 || child.err.kind == ERR_NOT_FOUND)
		return 0;
	err_wrap(&child.err, "what template %s starts", sb->res.start_from);
	log_warning("sandbox.start_command", kv_str("id", sb->row.id.s),
		    kv_str("error", child.err.msg));
	free(sb->res.start_fault);
	sb->res.start_fault = str_dup(child.err.msg);
	return 0;
}

static const struct step create_steps[] = {
	{ "statedir", STEP_DATA, statedir_acquire, statedir_release, statedir_adopt },
	{ "layer", STEP_DATA, layer_acquire, layer_release, layer_adopt },
	{ "rundir", STEP_VOLATILE, rundir_acquire, rundir_release, rundir_adopt },
	{ "slot", STEP_VOLATILE, slot_acquire, slot_release, slot_adopt },
	{ "cgroup", STEP_VOLATILE, cgroup_acquire, cgroup_release, cgroup_adopt },
	{ "vmm", STEP_VOLATILE, vmm_acquire, vmm_release, vmm_step_adopt },
	{ "agent", STEP_VOLATILE, agent_acquire, NULL, NULL },
	{ "start", STEP_VOLATILE, start_acquire, NULL, NULL },
	{ "durable", STEP_VOLATILE, durable_acquire, NULL, NULL },
};
static_assert(ARRAY_SIZE(create_steps) <= PLAN_STEPS_MAX, "every step's time is kept");

const struct plan create_plan = { "create", create_steps, ARRAY_SIZE(create_steps) };

/* What a stopped sandbox still has is not a step here: its directory and its disk stay if the start
 * fails. */
static const struct step start_steps[] = {
	{ "rundir", STEP_VOLATILE, rundir_acquire, rundir_release, NULL },
	{ "slot", STEP_VOLATILE, slot_acquire, slot_release, NULL },
	{ "cgroup", STEP_VOLATILE, cgroup_acquire, cgroup_release, NULL },
	{ "vmm", STEP_VOLATILE, vmm_acquire, vmm_release, NULL },
	{ "agent", STEP_VOLATILE, agent_acquire, NULL, NULL },
	{ "start", STEP_VOLATILE, restart_acquire, NULL, NULL },
};

const struct plan start_plan = { "start", start_steps, ARRAY_SIZE(start_steps) };

void resources_close(struct resources *res)
{
	fd_close(&res->origin_fd);
	fd_close(&res->draft_fd);
	fd_close(&res->draft_owner_fd);
	disk_merge_done(&res->merged);
	vmm_free(take_ptr(&res->vmm));
	net_slot_done(&res->slot);
	fd_close(&res->cgroup_fd);
	fd_close(&res->run_dirfd);
	fd_close(&res->dirfd);
	console_done(&res->console);
	free(take_ptr(&res->start_fault));
}
