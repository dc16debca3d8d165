/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * QEMU runs jailed (os/spawn.h), with a user id of its own and its seccomp filter, and gets
 * everything as a descriptor: what it may touch is what it was given. The kernel and the initrd it
 * opens again by /proc/self/fd, since it takes them by name only; so these two files must be
 * readable by all, while their directories need not be.
 *
 * Its two sockets, qmp.sock and console.sock, are made here and passed as listening sockets. We
 * connect before QEMU is started: the kernel keeps both connections in the backlog. QEMU takes the
 * console's before it builds the machine (wait=on, which so never waits), and the control
 * connection when its main loop begins. So no byte of the console is lost, and the guest starts at
 * once: no -S, no "cont" and no round trip between. The sockets stay, for the daemon that adopts
 * the VM after this one.
 *
 * When QEMU dies, both connections end, because we hold no copy of its listening sockets. The
 * reason is in vmm.log, its stderr.
 */
#include "vmm/qemu-internal.h"

#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"
#include "vmm/qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char qmp_name[] = "qmp.sock";
static const char console_name[] = "console.sock";
static const char log_name[] = "vmm.log";

enum { LOG_TAIL_BYTES = 400, DEATH_WAIT_MS = 1000, KILL_WAIT_MS = 5000 };

/* What is open only while QEMU is started. */
struct files {
	int qmp;
	int console;
	int kernel;
	int initrd;
	int log;
};

static void files_done(struct files *f)
{
	fd_close(&f->qmp);
	fd_close(&f->console);
	fd_close(&f->kernel);
	fd_close(&f->initrd);
	fd_close(&f->log);
}

static void qemu_free(struct vmm *vmm)
{
	struct qemu *q = qemu_of(vmm);

	qmp_free(q->qmp);
	free(q);
}

static void free_vmm(struct qemu **q)
{
	if (*q != NULL)
		vmm_free(&(*q)->vmm);
}

static struct qemu *qemu_new(const struct sandbox_id *id)
{
	struct qemu *q = xcalloc(1, sizeof(*q));

	vmm_base_init(&q->vmm, &qemu_ops, id);
	return q;
}

/* By the directory's descriptor, because paths of sockets are limited to 107 bytes. */
static int socket_address(struct sockaddr_un *out, int dirfd, const char *name)
{
	*out = (struct sockaddr_un){ .sun_family = AF_UNIX };
	return str_fit(out->sun_path, sizeof(out->sun_path), "/proc/self/fd/%d/%s", dirfd, name);
}

static int listen_at(int dirfd, const char *name)
{
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un a;
	int r = socket_address(&a, dirfd, name);

	if (fd < 0)
		return -errno;
	if (r < 0)
		return r;
	if (unlinkat(dirfd, name, 0) < 0 && errno != ENOENT)
		return -errno;
	if (fchmod(fd, 0600) < 0) /* before bind(2): the file has this mode from birth */
		return -errno;
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 1) < 0)
		return -errno;
	return take_fd(&fd);
}

static int connect_at(int dirfd, const char *name)
{
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un a;
	int r = socket_address(&a, dirfd, name);

	if (fd < 0)
		return -errno;
	if (r < 0)
		return r;
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return -errno;
	return take_fd(&fd);
}

static int connect_qmp(struct qemu *q, int dirfd)
{
	int fd = connect_at(dirfd, qmp_name);

	return fd < 0 ? fd : qmp_new(fd, &q->qmp);
}

static int open_image(const char *path, int *out_fd, struct err *e)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, errno, "open %s", path);
	if (!S_ISREG(st.st_mode) || (st.st_mode & S_IROTH) == 0)
		return err_set(
			e, ERR_INVALID,
			"%s must be a file that all may read (chmod a+r): a VMM has no rights",
			path);
	*out_fd = take_fd(&fd);
	return 0;
}

static int open_files(struct files *f, const struct vmm_spec *spec, struct err *e)
{
	bool boots = spec->restore == NULL;
	int r = boots ? open_image(spec->kernel, &f->kernel, e) : 0;

	if (r == 0 && boots && spec->initrd != NULL)
		r = open_image(spec->initrd, &f->initrd, e);
	if (r < 0)
		return r;
	f->log = openat(spec->run_dirfd, log_name,
			O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
	if (f->log < 0)
		return err_errno(e, errno, "make %s", log_name);
	f->qmp = listen_at(spec->run_dirfd, qmp_name);
	if (f->qmp < 0)
		return err_errno(e, -f->qmp, "listen at %s", qmp_name);
	f->console = listen_at(spec->run_dirfd, console_name);
	if (f->console < 0)
		return err_errno(e, -f->console, "listen at %s", console_name);
	return 0;
}

static int connect_both(struct qemu *q, int run_dirfd, struct err *e)
{
	int r = connect_qmp(q, run_dirfd);

	if (r < 0)
		return err_errno(e, -r, "connect to %s", qmp_name);
	q->vmm.console_fd = connect_at(run_dirfd, console_name);
	if (q->vmm.console_fd < 0)
		return err_errno(e, -q->vmm.console_fd, "connect to %s", console_name);
	return 0;
}

static void add_fd(struct spawn_fd *fds, size_t *n, int from, int to)
{
	if (from >= 0)
		fds[(*n)++] = (struct spawn_fd){ from, to };
}

static size_t fill_fds(const struct files *f, const struct vmm_spec *spec, struct spawn_fd *fds)
{
	size_t n = 0;

	fds[n++] = (struct spawn_fd){ f->log, STDOUT_FILENO };
	fds[n++] = (struct spawn_fd){ f->log, STDERR_FILENO };
	fds[n++] = (struct spawn_fd){ f->qmp, QEMU_FD_QMP };
	fds[n++] = (struct spawn_fd){ f->console, QEMU_FD_CONSOLE };
	add_fd(fds, &n, f->kernel, QEMU_FD_KERNEL);
	add_fd(fds, &n, f->initrd, QEMU_FD_INITRD);
	add_fd(fds, &n, spec->tap_fd, QEMU_FD_TAP);
	if (spec->restore != NULL) {
		add_fd(fds, &n, spec->restore->devices_fd, QEMU_FD_DEVICES);
		add_fd(fds, &n, spec->restore->image_fd, QEMU_FD_IMAGE);
		add_fd(fds, &n, spec->restore->shim_fd, QEMU_FD_SHIM);
	}
	for (size_t i = 0; i < spec->n_disk; i++)
		fds[n++] = (struct spawn_fd){ spec->disk[i].fd, QEMU_FD_DISK + (int)i };
	return n;
}

/* Under KVM the process needs the group that /dev/kvm belongs to, since it opens it by name. */
static int choose_gid(const struct vmm_spec *spec, unsigned *out, struct err *e)
{
	unsigned kvm_gid = 0;
	int r = spec->accel == VMM_ACCEL_KVM ? vmm_kvm_check(&kvm_gid, e) : 0;

	*out = kvm_gid != 0 ? kvm_gid : spec->gid;
	return r;
}

static void free_args(struct qemu_args **args)
{
	qemu_args_free(*args);
}

/* Opened by the dynamic loader by its descriptor: QEMU may not see where it lies. */
static const char shim_variable[] = "LD_PRELOAD=/proc/self/fd/%d";

static int spawn_qemu(struct qemu *q, const struct vmm_spec *spec, const struct files *f,
		      struct err *e)
{
	char path[PATH_MAX];
	struct spawn_fd fds[QEMU_FD_DISK + QEMU_DISKS_MAX];
	cleanup(free_args) struct qemu_args *args = NULL;
	char preload[sizeof(shim_variable) + 8];
	const char *const shim_env[] = { preload, "LANG=C.UTF-8", NULL };
	struct spawn_spec s = SPAWN_SPEC_INIT;
	int r = spawn_find(spec->binary != NULL ? spec->binary : QEMU_PROGRAM, path, sizeof(path),
			   e);

	if (r == 0)
		r = choose_gid(spec, &s.gid, e);
	if (r < 0)
		return r;
	args = qemu_args_new(path, spec);
	s.argv = qemu_args_argv(args);
	if (spec->restore != NULL && spec->restore->shim_fd >= 0)
		s.envp = shim_env;
	snprintf(preload, sizeof(preload), shim_variable, QEMU_FD_SHIM);
	s.fds = fds;
	s.n_fds = fill_fds(f, spec, fds);
	s.cgroup_fd = spec->cgroup_fd;
	s.netns_fd = spec->netns_fd;
	s.uid = spec->uid;
	s.jail = true;
	s.setsid = true;
	return spawn_process(&s, &q->vmm.process, e);
}

/* Adds a line to what the log says, cleaned of what could disturb a terminal. */
static void add_line(char *out, size_t size, const char *line)
{
	size_t n = strlen(out);

	snprintf(out + n, size - n, "%s%s", n > 0 ? "; " : "", line);
	for (char *p = out + n; *p != '\0'; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
}

/* The last lines of the log in one. */
static void log_tail(int log_fd, char *out, size_t size)
{
	char text[LOG_TAIL_BYTES + 1];
	off_t end = lseek(log_fd, 0, SEEK_END);
	ssize_t n = pread(log_fd, text, LOG_TAIL_BYTES, MAX(end - LOG_TAIL_BYTES, 0));
	char *rest = text;
	char *line;

	out[0] = '\0';
	text[MAX(n, 0)] = '\0';
	if (end > LOG_TAIL_BYTES && strchr(text, '\n') != NULL)
		rest = strchr(text, '\n') + 1; /* the first line is not whole */
	while ((line = strsep(&rest, "\n")) != NULL)
		if (*line != '\0' && strstr(line, "info: QEMU waiting for connection") == NULL)
			add_line(out, size, line);
	if (out[0] == '\0')
		str_copy(out, size, "nothing in its log");
}

/* After a failed start: if QEMU died, its own words are the error; if it lives, it is ended. */
static int start_failed(struct qemu *q, int log_fd, struct op *op)
{
	char said[LOG_TAIL_BYTES];
	struct op end;

	op_init(&end, err_is_set(&op->err) && op->err.kind == ERR_VMM ? DEATH_WAIT_MS : 1, -1);
	if (op_wait_fd(&end, q->vmm.process.pidfd, POLLIN, -1) == 1) {
		int code = vmm_reap(&q->vmm);

		log_tail(log_fd, said, sizeof(said));
		op->err = (struct err){ 0 };
		return err_set(&op->err, ERR_VMM, "QEMU ended with code %d: %s", code, said);
	}
	op_init(&end, KILL_WAIT_MS, -1);
	if (vmm_base_kill(&q->vmm, &end) < 0)
		return err_wrap(&op->err, "start QEMU (which could not be ended)");
	return err_wrap(&op->err, "start QEMU");
}

static int query_running(struct qemu *q, struct op *op)
{
	auto_json *status = NULL;
	int r = qmp_execute(q->qmp, "query-status", NULL, &status, op);
	const char *state;

	if (r < 0)
		return r;
	q->vmm.running = json_is_true(json_object_get(status, "running"));
	state = json_string_value(json_object_get(status, "status"));
	if (state != NULL && streq(state, "io-error"))
		return qemu_disk_event(q, &q->vmm.frozen, op);
	return 0;
}

static int qemu_start(const struct vmm_spec *spec, struct vmm **out, struct op *op)
{
	cleanup(files_done) struct files files = { -1, -1, -1, -1, -1 };
	cleanup(free_vmm) struct qemu *q = qemu_new(&spec->id);
	int r;

	if (spec->n_disk > QEMU_DISKS_MAX)
		return err_set(&op->err, ERR_INVALID, "a disk of more than %d images",
			       QEMU_DISKS_MAX);
	r = open_files(&files, spec, &op->err);
	if (r == 0)
		r = connect_both(q, spec->run_dirfd, &op->err);
	if (r == 0)
		r = spawn_qemu(q, spec, &files, &op->err);
	if (r < 0)
		return r;
	fd_close(
		&files.qmp); /* QEMU's alone from here on, so that its death ends our connections */
	fd_close(&files.console);
	r = qmp_handshake(q->qmp, op);
	if (r == 0)
		r = qemu_version_found(q, spec->restore, op);
	if (r == 0 && spec->restore != NULL)
		r = qemu_load(q, spec->restore, op);
	if (r == 0)
		r = query_running(q, op);
	if (r < 0)
		return start_failed(q, files.log, op);
	*out = &take_ptr(&q)->vmm;
	return 0;
}

/*
 * Opens the process that is to be QEMU's and makes sure that it is the one which answers: the
 * kernel keeps the pid that listened last with each connection. Return: 1; 0 it is gone; -errno.
 */
static int adopt_process(struct qemu *q, pid_t pid, int run_dirfd, struct op *op)
{
	struct pollfd ended = { .events = POLLIN };
	int r;

	q->vmm.process.pid = pid;
	q->vmm.process.pidfd = pidfd_open(pid, 0);
	if (q->vmm.process.pidfd < 0)
		return errno == ESRCH ? 0 : err_errno(&op->err, errno, "open process %d", pid);
	r = connect_qmp(q, run_dirfd);
	ended.fd = q->vmm.process.pidfd;
	if (poll(&ended, 1, 0) == 1)
		return 0;
	return r < 0 ? err_errno(&op->err, -r, "connect to %s", qmp_name) : 1;
}

static int check_peer(struct qemu *q, int run_dirfd, struct op *op)
{
	auto_close int fd = connect_at(run_dirfd, console_name);
	struct ucred peer = { 0 };
	socklen_t size = sizeof(peer);

	if (fd < 0)
		return err_errno(&op->err, -fd, "connect to %s", console_name);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return err_errno(&op->err, errno, "ask who listens at %s", console_name);
	if (peer.pid != q->vmm.process.pid)
		return err_set(&op->err, ERR_VMM, "process %d answers at %s, not %d", peer.pid,
			       console_name, q->vmm.process.pid);
	q->vmm.console_fd = take_fd(&fd);
	return 0;
}

static int qemu_adopt(const struct sandbox_id *id, int run_dirfd, pid_t pid, struct vmm **out,
		      struct op *op)
{
	cleanup(free_vmm) struct qemu *q = qemu_new(id);
	int r = adopt_process(q, pid, run_dirfd, op);

	if (r <= 0)
		return r;
	r = check_peer(q, run_dirfd, op);
	if (r == 0)
		r = qmp_handshake(q->qmp, op);
	if (r == 0)
		r = query_running(q, op);
	if (r < 0)
		return err_wrap(&op->err, "adopt QEMU of %s", id->s);
	*out = &take_ptr(&q)->vmm;
	return 1;
}

static int qemu_pause(struct vmm *vmm, struct op *op)
{
	return qmp_execute(qemu_of(vmm)->qmp, "stop", NULL, NULL, op);
}

static int qemu_resume(struct vmm *vmm, struct op *op)
{
	return qmp_execute(qemu_of(vmm)->qmp, "cont", NULL, NULL, op);
}

static int qemu_event_fd(const struct vmm *vmm)
{
	return qmp_event_fd(qemu_of(vmm)->qmp);
}

static enum vmm_event event_of(const json_t *event)
{
	static const struct {
		const char *name;
		enum vmm_event event;
	} table[] = {
		{ "STOP", VMM_EVENT_STOPPED },
		{ "RESUME", VMM_EVENT_RUNNING },
		{ "GUEST_PANICKED", VMM_EVENT_PANIC },
	};
	const char *name = json_string_value(json_object_get(event, "event"));
	const json_t *data = json_object_get(event, "data");
	const char *action = json_string_value(json_object_get(data, "action"));

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (streq(name, table[i].name))
			return table[i].event;
	/* Or by a signal, which is no word of the guest's. */
	if (streq(name, "SHUTDOWN"))
		return json_is_true(json_object_get(data, "guest")) ? VMM_EVENT_SHUTDOWN
								    : VMM_EVENT_NONE;
	if (streq(name, "BLOCK_IO_ERROR") && action != NULL && streq(action, "stop"))
		return json_is_true(json_object_get(data, "nospace")) ? VMM_EVENT_NO_SPACE
								      : VMM_EVENT_IO_ERROR;
	return VMM_EVENT_NONE;
}

static enum vmm_event qemu_next_event(struct vmm *vmm)
{
	struct qemu *q = qemu_of(vmm);
	enum vmm_event event = VMM_EVENT_NONE;

	while (event == VMM_EVENT_NONE) {
		auto_json *msg = NULL;
		int r = qmp_next_event(q->qmp, &msg);

		if (r == 0 || (r < 0 && q->closed))
			return VMM_EVENT_NONE;
		q->closed = r < 0;
		event = r < 0 ? VMM_EVENT_CLOSED : event_of(msg);
	}
	return event;
}

const struct vmm_ops qemu_ops = {
	.name = "qemu",
	.caps = VMM_CAP_PAUSE | VMM_CAP_SNAPSHOT,
	.kernel_words = qemu_kernel_words,
	.probe = qemu_probe,
	.restores = qemu_restores,
	.start = qemu_start,
	.adopt = qemu_adopt,
	.pause = qemu_pause,
	.resume = qemu_resume,
	.cut_prepare = qemu_cut_prepare,
	.cut_begin = qemu_cut_begin,
	.cut_finish = qemu_cut_finish,
	.cut_done = qemu_cut_done,
	.set_chain = qemu_set_chain,
	.grow_disk = qemu_grow_disk,
	.ram = qemu_ram,
	.event_fd = qemu_event_fd,
	.next_event = qemu_next_event,
	.free = qemu_free,
};
