/* SPDX-License-Identifier: Apache-2.0 */
/* The manager: opens what all sandboxes of an instance share, and lets go of it. */
#include "base/dir.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "os/cgroup.h"
#include "sandbox/accel-internal.h"
#include "sandbox/metrics-internal.h"
#include "sandbox/ready-internal.h"
#include "sandbox/rests.h"
#include "sandbox/room-internal.h"
#include "sandbox/sandbox-internal.h"
#include "sandbox/snapshot-internal.h"
#include "sandbox/warm-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

enum { LOCK_TIMEOUT_MS = 300, LOCK_RETRY_MS = 10 };
enum { PROBE_TIMEOUT_MS = 10000, MIB = 1024 * 1024 };

static char *dup_or_null(const char *s)
{
	return s != NULL && s[0] != '\0' ? str_dup(s) : NULL;
}

/* How much of a path is its directory, with the slash. */
static int dir_bytes(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL ? (int)(slash + 1 - path) : 0;
}

static void copy_config(struct manager_config *to, const struct manager_config *from)
{
	*to = *from;
	to->state_dir = str_dup(from->state_dir);
	to->run_dir = str_dup(from->run_dir);
	to->vmm = str_dup(from->vmm);
	to->vmm_binary = dup_or_null(from->vmm_binary);
	to->acceleration = str_dup(from->acceleration);
	to->kvm_stand_in = str_dup(from->kvm_stand_in);
	to->disk = str_dup(from->disk);
	to->agent_path = str_dup(from->agent_path);
	to->vmm_shim_path =
		str_printf("%.*sviv-vmm-shim.so", dir_bytes(from->agent_path), from->agent_path);
	to->version = str_dup(from->version);
	to->fault = dup_or_null(from->fault);
}

static void free_config(struct manager_config *c)
{
	const char *const owned[] = { c->state_dir,    c->run_dir,      c->vmm,
				      c->vmm_binary,   c->acceleration, c->disk,
				      c->agent_path,   c->version,      c->fault,
				      c->kvm_stand_in, c->vmm_shim_path };

	for (size_t i = 0; i < ARRAY_SIZE(owned); i++)
		free((void *)(uintptr_t)owned[i]);
	*c = (struct manager_config){ 0 };
}

static bool has_mark(const char *path)
{
	static const char *const marks[] = { "vivd.lock", "vivd.log", "viv-start.lock", "kernels",
					     "templates" };

	for (size_t i = 0; i < ARRAY_SIZE(marks); i++) {
		auto_free char *mark = str_printf("%s/%s", path, marks[i]);

		if (access(mark, F_OK) == 0)
			return true;
	}
	return false;
}

/* Return: 1; 0 there is something; -errno. */
static int is_empty(const char *path)
{
	auto_dir *d = NULL;
	const struct dirent *first;
	int r = dir_open_at(AT_FDCWD, path, 0, &d);

	if (r == 0)
		r = dir_next(d, &first);
	return r < 0 ? r : r == 0;
}

/*
 * A program that a vivd was about to start when it was killed shares the lock until its exec, which
 * is over in a moment and which nothing tells of.
 */
static int take_lock(int fd)
{
	struct op op;
	int r;

	op_init(&op, LOCK_TIMEOUT_MS, -1);
	while ((r = flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0) == -EWOULDBLOCK &&
	       op_check(&op) == 0) {
		struct op moment = op_child(&op, LOCK_RETRY_MS);

		ignore_err(op_wait_fd(&moment, -1, 0, -1));
	}
	return r;
}

/* Makes a directory and takes the lock that keeps a second daemon off it. */
static int lock_dir(const char *path, unsigned mode, int *out_lock, struct err *e)
{
	auto_free char *lock_path = str_printf("%s/vivd.lock", path);
	auto_close int fd = -1;
	int r = file_mkdirs(path);

	if (r < 0)
		return err_errno(e, -r, "make directory %s", path);
	r = has_mark(path) ? 1 : is_empty(path);
	if (r < 0)
		return err_errno(e, -r, "read directory %s", path);
	if (r == 0)
		return err_set(
			e, ERR_INVALID,
			"directory %s holds other things; give vivd one of its own (--state-dir, "
			"--run-dir)",
			path);
	if (chmod(path, mode) < 0)
		return err_errno(e, errno, "set mode of %s", path);
	fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(e, errno, "open %s", lock_path);
	r = take_lock(fd);
	if (r == -EWOULDBLOCK)
		return err_set(
			e, ERR_CONFLICT,
			"another vivd uses %s; end it, or give this one directories of its own "
			"(--state-dir, --run-dir)",
			path);
	if (r < 0)
		return err_errno(e, -r, "lock %s", lock_path);
	*out_lock = take_fd(&fd);
	return 0;
}

static int open_dirs(struct manager *m, struct err *e)
{
	auto_free char *sandboxes = str_printf("%s/sandboxes", m->config.state_dir);
	int r = lock_dir(m->config.state_dir, 0700, &m->lock_fds[0], e);

	if (r == 0)
		r = lock_dir(m->config.run_dir, 0711, &m->lock_fds[1], e);
	if (r < 0)
		return r;
	r = file_mkdirs(sandboxes);
	if (r < 0)
		return err_errno(e, -r, "make directory %s", sandboxes);
	m->sandboxes_fd = open(sandboxes, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (m->sandboxes_fd < 0)
		return err_errno(e, errno, "open directory %s", sandboxes);
	m->run_fd = open(m->config.run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (m->run_fd < 0)
		return err_errno(e, errno, "open directory %s", m->config.run_dir);
	return 0;
}

static int open_net(struct manager *m, struct db_instance *instance, struct err *e)
{
	struct net_config config = {
		.tag = m->tag,
		.range_addr = m->config.net_range,
		.range_prefix = m->config.net_prefix,
		.block_hint = instance->net_block,
		.pool_size = m->config.slot_pool,
	};
	int r = net_open(&config, &m->net, e);

	if (r < 0 || net_block(m->net) == instance->net_block)
		return r;
	return db_instance_set_net_block(m->db, net_block(m->net), e);
}

/* Where cgroup v2 is mounted on a host that has it nowhere; caller frees. */
static char *cgroup_mount(const struct manager *m)
{
	return str_printf("%s/cgroup", m->config.run_dir);
}

static int open_instance(struct manager *m, struct err *e)
{
	auto_free char *db_path = str_printf("%s/vivarium.db", m->config.state_dir);
	auto_free char *mount_dir = cgroup_mount(m);
	struct db_instance instance = { 0 };
	int r = db_open(db_path, &m->db, e);

	if (r == 0)
		r = db_instance_get(m->db, &instance, e);
	if (r < 0)
		return r;
	m->tag = instance.tag;
	r = open_net(m, &instance, e);
	if (r < 0)
		return r;
	r = str_fit(m->cgroup_name, sizeof(m->cgroup_name), "vivarium-%s", m->tag.s);
	return r < 0 ? r : cgroup_open_root(m->cgroup_name, mount_dir, &m->cgroup_fd, e);
}

/* A VMM that is missing is no reason not to start: what exists can still be seen and removed. */
static void probe_vmm(struct manager *m)
{
	struct op op;

	op_init(&op, PROBE_TIMEOUT_MS, -1);
	if (vmm_probe(m->vmm, m->config.vmm_binary, m->vmm_version, sizeof(m->vmm_version), &op) <
	    0)
		log_warning("vmm.unusable", kv_str("vmm", vmm_name(m->vmm)),
			    kv_str("error", op.err.msg));
}

static int find_drivers(struct manager *m, struct err *e)
{
	m->vmm = vmm_driver(m->config.vmm);
	if (m->vmm == NULL)
		return err_set(e, ERR_INVALID, "setting vmm: no driver '%s'", m->config.vmm);
	m->disk = disk_driver(m->config.disk);
	if (m->disk == NULL)
		return err_set(e, ERR_INVALID, "setting disk: no driver '%s'", m->config.disk);
	return 0;
}

static uint64_t host_memory_mib(void)
{
	struct sysinfo info;

	return sysinfo(&info) < 0 ? 0 : (uint64_t)info.totalram * info.mem_unit / MIB;
}

int manager_open(uv_loop_t *loop, const struct manager_config *config, struct manager **out,
		 struct err *e)
{
	struct manager *m = xcalloc(1, sizeof(*m));
	int r;

	*m = (struct manager){ .loop = loop,
			       .lock_fds = { -1, -1 },
			       .sandboxes_fd = -1,
			       .snapshots_fd = -1,
			       .run_fd = -1,
			       .cgroup_fd = -1 };
	copy_config(&m->config, config);
	m->host_memory_mib = host_memory_mib();
	m->oom_kills = death_oom_kills();
	m->accel = accel_new(m);
	r = find_drivers(m, e);
	if (r == 0)
		r = open_dirs(m, e);
	if (r == 0)
		r = open_instance(m, e);
	if (r == 0)
		r = snapshots_open(m, e);
	if (r == 0) {
		probe_vmm(m);
		r = reconcile(m, e);
	}
	if (r == 0)
		r = ready_open(m, e);
	if (r < 0) {
		manager_close(m);
		return r;
	}
	room_tell_limits();
	pool_open(m);
	warm_open(m);
	images_start(m);
	ready_idle(m);
	*out = m;
	return 0;
}

int manager_check_open(const struct manager *m, struct err *e)
{
	if (m->closing)
		return err_set(e, ERR_EXHAUSTED,
			       "vivd is shutting down; try again when it is back");
	return 0;
}

int manager_check_can_save(const struct manager *m, struct err *e)
{
	if ((vmm_caps(m->vmm) & VMM_CAP_SNAPSHOT) == 0)
		return err_set(e, ERR_UNSUPPORTED, "%s cannot save the memory of a sandbox",
			       vmm_name(m->vmm));
	return 0;
}

void manager_operation_ended(struct manager *m)
{
	void (*closed)(void *arg) = m->closed;

	if (!m->closing && m->n_busy == 0) {
		ready_idle(m);
		warm_idle(m);
		kernels_idle(m);
	}
	if (!m->closing || m->n_busy + m->n_looking > 0 || closed == NULL)
		return;
	m->closed = NULL;
	/* Tunnels into sandboxes are nobody's exchanges any more: only we can end them. */
	vec_foreach (at, &m->all)
		proxy_abort_all(&(*at)->streams, 0);
	pool_close(m);
	ready_close(m);
	warm_close(m);
	kernels_close(m);
	closed(m->closed_arg);
}

void manager_look_ended(struct manager *m)
{
	m->n_looking--;
	if (m->closing)
		manager_operation_ended(m);
}

void manager_shutdown(struct manager *m, void (*done)(void *arg), void *arg)
{
	m->closing = true;
	m->closed = done;
	m->closed_arg = arg;
	vec_foreach (at, &m->all) {
		struct sandbox *sb = *at;

		watch_stop(sb);
		merge_forget(sb);
		restart_forget(sb);
		sandbox_hurry(sb);
		proxy_drain_end(&sb->streams);
		if (sb->cancel_fd >= 0)
			sandbox_cancel_create(m, &sb->row.id);
	}
	rests_close(m);
	reap_stop(m);
	accel_cancel(m);
	warm_cancel(m);
	images_cancel(m);
	ready_end(m);
	manager_operation_ended(m);
}

/* Slots that nobody claimed are of no use without a daemon. */
static void drain_pool(struct manager *m)
{
	struct err e = { 0 };

	if (net_pool_drain(m->net, &e) < 0)
		log_warning("net.drain_failed", kv_str("error", e.msg));
}

/* A clean end with nothing left of ours leaves nothing behind; anything else stays for the next
 * daemon. */
static void remove_shared(struct manager *m)
{
	auto_free char *mount_dir = cgroup_mount(m);
	struct err e = { 0 };
	struct op op;
	int r;

	if (net_teardown(m->net, &e) < 0)
		log_warning("net.teardown_failed", kv_str("error", e.msg));
	op_init(&op, PROBE_TIMEOUT_MS, -1);
	if (cgroup_close_root(m->cgroup_fd, &op) < 0)
		log_warning("cgroup.teardown_failed", kv_str("error", op.err.msg));
	fd_close(&m->cgroup_fd);
	r = cgroup_unmount(m->cgroup_name, mount_dir);
	if (r < 0)
		log_warning("cgroup.unmount_failed", kv_str("mount", mount_dir),
			    kv_str("error", strerrordesc_np(-r)));
}

void manager_close(struct manager *m)
{
	if (m->closing)
		drain_pool(m);
	if (m->closing && m->all.n == 0)
		remove_shared(m);
	vec_foreach (at, &m->all)
		meter_save(*at);
	while (m->all.n > 0)
		sandbox_free(m->all.at[0]);
	sandbox_list_done(&m->all);
	snapshots_close(m);
	accel_free(m->accel);
	if (m->net != NULL)
		net_close(m->net);
	db_close(m->db);
	fd_close(&m->cgroup_fd);
	fd_close(&m->sandboxes_fd);
	fd_close(&m->run_fd);
	fd_close(&m->lock_fds[1]);
	fd_close(&m->lock_fds[0]);
	free_config(&m->config);
	free(m);
}

uv_loop_t *manager_uv_loop(const struct manager *m)
{
	return m->loop;
}

struct db *manager_store(const struct manager *m)
{
	return m->db;
}

/* Kernels come and go by `vivd prepare`, a process of its own: what was found is good for as long
 * as their directory is the same. The loop waits for one stat() then, of an inode in memory. */
static void look_for_kernel(struct manager *m)
{
	auto_free char *path = str_printf("%s/kernels", m->config.state_dir);
	struct kernel kernel = { .version = "" };
	struct stat st = { 0 };
	bool there = stat(path, &st) == 0;

	if (there && st.st_mtim.tv_sec == m->kernels_changed.tv_sec &&
	    st.st_mtim.tv_nsec == m->kernels_changed.tv_nsec)
		return;
	if (kernel_find(m->config.state_dir, NULL, &kernel, NULL) < 0)
		kernel.version[0] = '\0';
	str_copy(m->newest_kernel, sizeof(m->newest_kernel), kernel.version);
	m->kernels_changed = st.st_mtim;
}

struct manager_versions manager_versions(struct manager *m)
{
	look_for_kernel(m);
	return (struct manager_versions){
		.vivd = m->config.version,
		.vmm = vmm_name(m->vmm),
		.vmm_version = m->vmm_version,
		.kernel = m->newest_kernel,
	};
}
