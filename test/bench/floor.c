/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The floor under `viv run -- /bin/sh -c 'true; echo'`: what is left of it without a daemon. It
 * starts the QEMU that vivd starts, by the same driver, so with the same files, command line and
 * jail; waits for the agent's line; tells the guest who it is; starts the command; and stops its
 * clock at the first byte of output. All that a daemon could have done before it was asked is done
 * before the clock starts: the network slot with its tap, the disk layer, opened, the cgroup, the
 * directories, the choice of kernel and initramfs. What is left out altogether: intent records,
 * HTTP between client and daemon, the proxy, hand-overs between threads, the console's log.
 *
 * With --image it restores a checkpoint instead of booting, as vivd does, from its files: a new
 * sandbox of it, or with --resume the one that was saved, whose clock stops when the guest knows
 * who it is. With --save=MIB so much of the guest's memory is written to, and the VM saved. With
 * --parallel=N there are N at the same time, and "all_ms" is when the last of them had output.
 *
 * Each boot gets a sandbox id, slot, layer and cgroup of its own; after it all of that is removed,
 * also after a failure or a signal. One line of JSON per boot: milliseconds from the start of the
 * clock to the end of each part, and what the preparation took.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/json.h"
#include "base/str.h"
#include "disk/disk.h"
#include "guest/guest.h"
#include "net/net.h"
#include "os/cgroup.h"
#include "template/kernel.h"
#include "template/template.h"
#include "vmm/vmm.h"

#include "floor-exec.h"
#include "floor-image.h"
#include "floor-options.h"
#include "floor-save.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	BOOT_TIMEOUT_MS = 120000,
	CLEAN_TIMEOUT_MS = 30000,
	PROBE_TIMEOUT_MS = 10000,
	TOKEN_HEX_LEN = 64,
	BYTES_PER_MIB = 1 << 20,
	/* As vivd's defaults (src/daemon/config.c). */
	NETWORK_ADDR = 0x0a0b0000,
	NETWORK_PREFIX = 16,
	VMM_UID_BASE = 1879048192,
};

static const char command[] = "{\"process\":{\"cmd\":\"/bin/sh\",\"args\":[\"-c\",\"true; echo\"],"
			      "\"envs\":{}},\"stdin\":true}";
static const char stir[] = "{\"process\":{\"cmd\":\"/bin/sh\",\"args\":[\"-c\",\"head -c %juM "
			   "/dev/zero | tr '\\\\0' Z "
			   ">/dev/shm/stirred; echo\"],\"envs\":{}},\"stdin\":true}";

/* What all boots share. */
struct floor {
	const struct floor_options *options;
	int cancel_fd; /* signals; owned */
	int work_fd;   /* owned */
	struct instance_tag tag;
	char cgroup_name[32];
	int cgroup_fd;   /* owned */
	struct net *net; /* owned */
	struct template template;
	struct kernel kernel;
	char initrd[512];
};

/* One boot: what is made before the clock starts, and the times. */
struct boot {
	const struct floor *f;
	struct sandbox_id id;
	char run_name[32];
	char token[TOKEN_HEX_LEN + 1];
	int dirfd;     /* owned; holds the layer */
	int run_dirfd; /* owned */
	int cgroup_fd; /* owned */
	struct net_slot slot;
	struct disk disk;
	struct vmm *vmm;            /* owned */
	struct vmm_restore restore; /* its descriptors are owned */
	uint64_t slot_ns;
	uint64_t layer_ns;
	uint64_t start_ns; /* the clock */
	uint64_t spawn_ns;
	uint64_t ready_ns;
	uint64_t init_ns;
	uint64_t byte_ns;
	struct floor_save saved;
	pthread_t thread;
	struct op op;
	int result;
};

static int open_signals(void)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

static int open_host(struct floor *f, struct err *e)
{
	struct net_config net = { .tag = f->tag,
				  .range_addr = NETWORK_ADDR,
				  .range_prefix = NETWORK_PREFIX };
	auto_free char *mount = str_printf("%s/cgroup", f->options->work_dir);
	int r;

	f->cancel_fd = open_signals();
	if (f->cancel_fd < 0)
		return err_errno(e, -f->cancel_fd, "set up signals");
	f->work_fd = open(f->options->work_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (f->work_fd < 0)
		return err_errno(e, errno, "open directory %s", f->options->work_dir);
	r = net_open(&net, &f->net, e);
	if (r < 0)
		return r;
	r = str_fit(f->cgroup_name, sizeof(f->cgroup_name), "vivarium-%s", f->tag.s);
	return r < 0 ? r : cgroup_open_root(f->cgroup_name, mount, &f->cgroup_fd, e);
}

/* Finds the files; the driver measures the host's counter here, as vivd does when it starts. */
static int find_files(struct floor *f, struct op *op)
{
	const char *state_dir = f->options->state_dir;
	char version[32];
	int r = vmm_probe(vmm_driver(NULL), NULL, version, sizeof(version), op);

	if (r == 0)
		r = template_open(state_dir, "base", &f->template, &op->err);
	if (r == 0)
		r = kernel_find(state_dir, NULL, &f->kernel, &op->err);
	if (r < 0)
		return r;
	return kernel_initramfs(state_dir, &f->kernel, f->options->agent, f->initrd,
				sizeof(f->initrd), op);
}

static int floor_open(struct floor *f, struct err *e)
{
	struct op op;
	int r = open_host(f, e);

	if (r < 0)
		return r;
	op_init(&op, PROBE_TIMEOUT_MS, f->cancel_fd);
	r = find_files(f, &op);
	if (r < 0)
		*e = op.err;
	return r;
}

static void floor_close(struct floor *f)
{
	struct err e = { 0 };
	struct op op;

	op_init(&op, CLEAN_TIMEOUT_MS, -1);
	if (f->net != NULL && net_teardown(f->net, &e) < 0)
		fprintf(stderr, "floor: %s\n", e.msg);
	if (f->cgroup_fd >= 0 && cgroup_close_root(f->cgroup_fd, &op) < 0)
		fprintf(stderr, "floor: %s\n", op.err.msg);
	net_close(f->net);
	fd_close(&f->cgroup_fd);
	fd_close(&f->work_fd);
	fd_close(&f->cancel_fd);
}

static int make_dir(const struct floor *f, const char *name, struct err *e)
{
	int fd;

	if (mkdirat(f->work_fd, name, 0700) < 0)
		return err_errno(e, errno, "make directory %s", name);
	fd = openat(f->work_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? err_errno(e, errno, "open directory %s", name) : fd;
}

static int make_layer(struct boot *b, struct op *op)
{
	struct disk_spec spec = {
		.dirfd = b->dirfd,
		.base_path = b->f->template.root_path,
		.size_bytes = b->f->options->disk_mib * BYTES_PER_MIB,
	};
	uint64_t start_ns = clock_now_ns();
	auto_close int from = -1;
	int r;

	if (b->f->options->image != NULL) {
		from = open(b->f->options->image, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = from < 0 ? err_errno(&op->err, errno, "open %s", b->f->options->image)
			     : disk_clone(disk_driver(NULL), from, &spec, op);
	} else {
		r = disk_create(disk_driver(NULL), &spec, op);
	}
	b->layer_ns = clock_now_ns() - start_ns;
	return r < 0 ? r : disk_open(disk_driver(NULL), &spec, &b->disk, op);
}

static int make_slot(struct boot *b, struct op *op)
{
	uint64_t start_ns = clock_now_ns();
	int r = net_slot_acquire(b->f->net, &b->id, &b->slot, op);

	b->slot_ns = clock_now_ns() - start_ns;
	return r < 0 ? r : net_slot_tap(&b->slot, op);
}

static int boot_prepare(struct boot *b, struct op *op)
{
	int r;

	random_hex(b->token, TOKEN_HEX_LEN);
	r = str_fit(b->run_name, sizeof(b->run_name), "run-%s", b->id.s);
	if (r < 0)
		return r;
	b->dirfd = make_dir(b->f, b->id.s, &op->err);
	if (b->dirfd < 0)
		return b->dirfd;
	b->run_dirfd = make_dir(b->f, b->run_name, &op->err);
	if (b->run_dirfd < 0)
		return b->run_dirfd;
	r = make_layer(b, op);
	if (r == 0)
		r = make_slot(b, op);
	if (r == 0)
		r = floor_image_open(b->f->options->image, b->f->options->shim, &b->restore, op);
	if (r < 0)
		return r;
	b->cgroup_fd = cgroup_create(b->f->cgroup_fd, b->id.s, op);
	return b->cgroup_fd < 0 ? b->cgroup_fd : 0;
}

static int start_vmm(struct boot *b, struct op *op)
{
	const struct floor_options *o = b->f->options;
	struct vmm_image images[DISK_CHAIN_MAX];
	unsigned uid = VMM_UID_BASE + (net_block(b->f->net) - NETWORK_ADDR) / 2 + b->slot.number;
	struct vmm_spec spec = {
		.id = b->id,
		.accel = o->accel,
		.cpus = (unsigned)o->cpus,
		.memory_mib = o->memory_mib,
		.restore = o->image != NULL ? &b->restore : NULL,
		.kernel = b->f->kernel.vmlinux,
		.initrd = b->f->initrd,
		.disk = images,
		.n_disk = b->disk.n,
		.tap_fd = b->slot.tap_fd,
		.mac = NET_GUEST_MAC,
		.netns_fd = b->slot.netns_fd,
		.cgroup_fd = b->cgroup_fd,
		.uid = uid,
		.gid = uid,
		.run_dirfd = b->run_dirfd,
	};

	for (size_t i = 0; i < b->disk.n; i++) {
		images[i].fd = b->disk.chain[i].fd;
		images[i].format =
			b->disk.chain[i].format == DISK_QCOW2 ? VMM_IMAGE_QCOW2 : VMM_IMAGE_RAW;
	}
	return vmm_start(vmm_driver(NULL), &spec, &b->vmm, op);
}

static void drop_console(const char *p, size_t n, void *arg)
{
	(void)p;
	(void)n;
	(void)arg;
}

static int say_identity(struct boot *b, struct op *op)
{
	const struct guest_wake wake = { .clone = !b->f->options->resume };
	auto_json *env = json_object();
	struct guest_identity who = {
		.id = b->id.s,
		.template_id = b->f->template.name,
		.hostname = b->id.s,
		.default_user = b->f->template.user,
		.default_workdir = b->f->template.workdir,
		.access_token = b->token,
		.env = env,
		.wake = b->f->options->image != NULL ? &wake : NULL,
	};
	char version[32];

	return guest_init(b->slot.addr, &who, vmm_pidfd(b->vmm), version, sizeof(version), op);
}

static struct floor_guest guest_of(const struct boot *b)
{
	return (struct floor_guest){ b->slot.addr, b->token, vmm_pidfd(b->vmm) };
}

static int await_guest(struct boot *b, struct op *op)
{
	if (b->f->options->image != NULL)
		return vmm_resume(b->vmm, op);
	return guest_wait_ready(vmm_console_fd(b->vmm), vmm_pidfd(b->vmm), drop_console, NULL, op);
}

static int boot_measure(struct boot *b, struct op *op)
{
	int r;

	b->start_ns = clock_now_ns();
	r = start_vmm(b, op);
	b->spawn_ns = clock_now_ns();
	if (r == 0)
		r = await_guest(b, op);
	b->ready_ns = clock_now_ns();
	if (r == 0)
		r = say_identity(b, op);
	b->init_ns = clock_now_ns();
	if (r == 0 && !b->f->options->resume) {
		struct floor_guest guest = guest_of(b);

		r = floor_exec(&guest, command, op);
	}
	b->byte_ns = clock_now_ns();
	return r;
}

/* Whatever fails here is told and leaves the rest to be removed still. */
static void clean_told(const char *what, int r, const struct err *e)
{
	if (r < 0)
		fprintf(stderr, "floor: %s: %s\n", what,
			err_is_set(e) ? e->msg : strerrordesc_np(-r));
}

static void boot_clean(struct boot *b)
{
	struct op op;

	op_init(&op, CLEAN_TIMEOUT_MS, -1);
	if (b->vmm != NULL)
		clean_told("end the VMM", vmm_stop(b->vmm, &op), &op.err);
	vmm_free(b->vmm);
	fd_close(&b->cgroup_fd);
	clean_told("remove the cgroup", cgroup_remove(b->f->cgroup_fd, b->id.s, &op), &op.err);
	net_slot_done(&b->slot);
	clean_told("remove the slot", net_slot_release(b->f->net, &b->id, &op), &op.err);
	disk_done(&b->disk);
	floor_image_close(&b->restore);
	fd_close(&b->run_dirfd);
	fd_close(&b->dirfd);
	clean_told("remove the layer", file_remove_tree_at(b->f->work_fd, b->id.s), &op.err);
	clean_told("remove the run directory", file_remove_tree_at(b->f->work_fd, b->run_name),
		   &op.err);
}

static double ms(uint64_t ns)
{
	return (double)ns / NS_PER_MS;
}

/* The guest's memory becomes another than the image's, and stays when the command has ended. */
static int save(struct boot *b, struct op *op)
{
	struct floor_guest guest = guest_of(b);
	char request[sizeof(stir) + 32];
	int r = str_fit(request, sizeof(request), stir, (uintmax_t)b->f->options->save_mib);

	if (r == 0)
		r = floor_exec(&guest, request, op);
	return r < 0 ? r : floor_save(b->vmm, &b->restore, &guest, b->run_dirfd, &b->saved, op);
}

static void print_times(const struct boot *b)
{
	printf("{\"spawn_ms\": %.3f, \"ready_ms\": %.3f, \"init_ms\": %.3f, "
	       "\"first_byte_ms\": %.3f, \"slot_make_ms\": %.3f, \"layer_create_ms\": %.3f",
	       ms(b->spawn_ns - b->start_ns), ms(b->ready_ns - b->start_ns),
	       ms(b->init_ns - b->start_ns), ms(b->byte_ns - b->start_ns), ms(b->slot_ns),
	       ms(b->layer_ns));
	if (b->f->options->save)
		printf(", \"stall_ms\": %.3f, \"durable_ms\": %.3f, \"stored_pages\": %ju",
		       ms(b->saved.stall_ns), ms(b->saved.durable_ns),
		       (uintmax_t)b->saved.stored_pages);
	printf("}\n");
	fflush(stdout);
}

static struct boot boot_init(const struct floor *f)
{
	struct boot b = { .f = f,
			  .id = id_new(),
			  .dirfd = -1,
			  .run_dirfd = -1,
			  .cgroup_fd = -1,
			  .slot = NET_SLOT_INIT,
			  .restore = FLOOR_IMAGE_INIT };

	op_init(&b.op, BOOT_TIMEOUT_MS, f->cancel_fd);
	return b;
}

static int boot_once(const struct floor *f, struct err *e)
{
	struct boot b = boot_init(f);
	int r = boot_prepare(&b, &b.op);

	if (r == 0)
		r = boot_measure(&b, &b.op);
	if (r == 0 && f->options->save)
		r = save(&b, &b.op);
	boot_clean(&b);
	if (r < 0) {
		*e = b.op.err;
		return r;
	}
	print_times(&b);
	return 0;
}

static void *boot_thread(void *arg)
{
	struct boot *b = arg;

	b->result = boot_measure(b, &b->op);
	return NULL;
}

/* All of them at once. Return: nanoseconds until the last one had output. */
static uint64_t run_all(struct boot *boots, size_t n)
{
	uint64_t start_ns = clock_now_ns();
	uint64_t end_ns = start_ns;
	size_t started = 0;

	while (started < n &&
	       pthread_create(&boots[started].thread, NULL, boot_thread, &boots[started]) == 0)
		started++;
	for (size_t i = started; i < n; i++)
		boots[i].result = err_set(&boots[i].op.err, ERR_SYSTEM, "no thread for it");
	for (size_t i = 0; i < started; i++) {
		pthread_join(boots[i].thread, NULL);
		end_ns = MAX(end_ns, boots[i].byte_ns);
	}
	return end_ns - start_ns;
}

static int boot_parallel(const struct floor *f, struct err *e)
{
	size_t n = f->options->parallel;
	auto_free struct boot *boots = xcalloc(n, sizeof(*boots));
	uint64_t all_ns = 0;
	int r = 0;

	for (size_t i = 0; i < n; i++)
		boots[i] = boot_init(f);
	for (size_t i = 0; i < n && r == 0; i++)
		r = boots[i].result = boot_prepare(&boots[i], &boots[i].op);
	if (r == 0)
		all_ns = run_all(boots, n);
	for (size_t i = 0; i < n; i++) {
		boot_clean(&boots[i]);
		if (boots[i].result < 0 && !err_is_set(e))
			*e = boots[i].op.err;
	}
	if (err_is_set(e))
		return -EIO;
	printf("{\"all_ms\": %.3f}\n", ms(all_ns));
	fflush(stdout);
	return 0;
}

int main(int argc, char **argv)
{
	struct floor_options options = {
		.accel = VMM_ACCEL_TCG, .cpus = 1, .memory_mib = 512, .disk_mib = 5120, .boots = 1
	};
	struct floor f = { .options = &options,
			   .cancel_fd = -1,
			   .work_fd = -1,
			   .tag = tag_new(),
			   .cgroup_fd = -1 };
	struct err e = { 0 };
	int r;

	if (floor_options_read(argc, argv, &options) < 0) {
		fprintf(stderr, "usage: viv-floor --state-dir DIR --work-dir DIR --agent FILE\n"
				"       [--accel tcg|kvm] [--cpus N] [--memory MIB] [--disk MIB] "
				"[--boots N] [--parallel N]\n"
				"       [--image DIR --shim FILE [--resume] [--save MIB]]\n");
		return EXIT_FAILURE;
	}
	r = floor_open(&f, &e);
	for (uint64_t i = 0; r == 0 && i < options.boots; i++)
		r = options.parallel > 0 ? boot_parallel(&f, &e) : boot_once(&f, &e);
	if (r < 0)
		fprintf(stderr, "floor: %s\n", e.msg);
	floor_close(&f);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
