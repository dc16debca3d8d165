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
 * With --image it restores a template's image instead of booting, as vivd does, from its files.
 *
 * Each boot gets a sandbox id, slot, layer and cgroup of its own; after it all of that is removed,
 * also after a failure or a signal. One line of JSON per boot: milliseconds from the start of the
 * clock to the end of each part, and what the preparation took.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/json.h"
#include "base/parse.h"
#include "base/str.h"
#include "disk/disk.h"
#include "guest/guest.h"
#include "http/client.h"
#include "net/net.h"
#include "os/cgroup.h"
#include "template/kernel.h"
#include "template/template.h"
#include "vmm/vmm.h"

#include "floor-image.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
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
	ENVELOPE_HEAD_BYTES = 5,
	REPLY_BYTES_MAX = 1 << 20,
	BYTES_PER_MIB = 1 << 20,
	NUMBER_MAX = 1 << 24,
	/* As vivd's defaults (src/daemon/config.c). */
	NETWORK_ADDR = 0x0a0b0000,
	NETWORK_PREFIX = 16,
	VMM_UID_BASE = 1879048192,
};

static const char command[] = "{\"process\":{\"cmd\":\"/bin/sh\",\"args\":[\"-c\",\"true; echo\"],"
			      "\"envs\":{}},\"stdin\":true}";

struct options {
	const char *state_dir;
	const char *work_dir; /* on the file system of the state directory */
	const char *agent;
	enum vmm_accel accel;
	uint64_t cpus;
	uint64_t memory_mib;
	uint64_t disk_mib;
	uint64_t boots;
	const char *image; /* directory of a template's image; NULL = boot */
	const char *shim;
};

/* What all boots share. */
struct floor {
	const struct options *options;
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
	const struct options *o = b->f->options;
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
	const struct guest_wake wake = { .clone = true };
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

/* Return: 1 an envelope with output came; 0 more has to; -errno with @e set. */
static int look_for_output(struct buf *in, struct err *e)
{
	while (in->len >= ENVELOPE_HEAD_BYTES) {
		auto_json *o = NULL;
		const json_t *event;
		uint32_t n;

		memcpy(&n, buf_head(in) + 1, sizeof(n));
		n = ntohl(n);
		if (in->len - ENVELOPE_HEAD_BYTES < n)
			return 0;
		o = json_loadb(buf_head(in) + ENVELOPE_HEAD_BYTES, n, 0, NULL);
		event = json_object_get(o, "event");
		if (json_object_get(json_object_get(event, "data"), "stdout") != NULL)
			return 1;
		if (o == NULL || json_object_get(o, "error") != NULL ||
		    json_object_get(event, "end") != NULL)
			return err_set(e, ERR_AGENT, "the command ended without output: %.200s",
				       buf_head(in) + ENVELOPE_HEAD_BYTES);
		buf_consume(in, ENVELOPE_HEAD_BYTES + n);
	}
	return 0;
}

static int read_output(struct http_client *c, struct op *op)
{
	auto_buf in = BUF_INIT(REPLY_BYTES_MAX);

	for (;;) {
		ssize_t n = http_client_read(c, &in, op);
		int r;

		if (n < 0)
			return (int)n;
		if (c->head.status != 200)
			return err_set(&op->err, ERR_AGENT, "the agent answered with %d: %s",
				       c->head.status, buf_str(&in));
		r = n == 0 ? err_set(&op->err, ERR_AGENT, "the stream ended early")
			   : look_for_output(&in, &op->err);
		if (r != 0)
			return r < 0 ? r : 0;
	}
}

static int run_command(struct boot *b, struct op *op)
{
	struct http_field fields[] = { { "Content-Type", "application/connect+json" },
				       { "Connect-Protocol-Version", "1" },
				       { "X-Access-Token", b->token },
				       { NULL, NULL } };
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_port = htons(GUEST_PORT),
				  .sin_addr = b->slot.addr };
	auto_http_client c = HTTP_CLIENT_INIT;
	auto_buf body = BUF_INIT(sizeof(command) + ENVELOPE_HEAD_BYTES);
	uint32_t n = htonl((uint32_t)strlen(command));
	int r = buf_append(&body, "\0", 1);

	if (r == 0)
		r = buf_append(&body, &n, sizeof(n));
	if (r == 0)
		r = buf_puts(&body, command);
	if (r < 0)
		return err_errno(&op->err, -r, "write the request");
	r = http_client_connect(&c, (const struct sockaddr *)&in, sizeof(in), vmm_pidfd(b->vmm),
				op);
	if (r == 0)
		r = http_client_send(&c, "POST", "/process.Process/Start", fields, buf_head(&body),
				     body.len, op);
	if (r == 0)
		r = http_client_head(&c, op);
	return r < 0 ? r : read_output(&c, op);
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
	if (r == 0)
		r = run_command(b, op);
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

static int boot_once(const struct floor *f, struct err *e)
{
	struct boot b = {
		.f = f,
		.id = id_new(),
		.dirfd = -1,
		.run_dirfd = -1,
		.cgroup_fd = -1,
		.slot = NET_SLOT_INIT,
		.restore = { .devices_fd = -1, .image_fd = -1, .diff_fd = -1, .shim_fd = -1 }
	};
	struct op op;
	int r;

	op_init(&op, BOOT_TIMEOUT_MS, f->cancel_fd);
	r = boot_prepare(&b, &op);
	if (r == 0)
		r = boot_measure(&b, &op);
	boot_clean(&b);
	if (r < 0) {
		*e = op.err;
		return r;
	}
	printf("{\"spawn_ms\": %.3f, \"ready_ms\": %.3f, \"init_ms\": %.3f, "
	       "\"first_byte_ms\": %.3f, \"slot_make_ms\": %.3f, \"layer_create_ms\": %.3f}\n",
	       ms(b.spawn_ns - b.start_ns), ms(b.ready_ns - b.start_ns), ms(b.init_ns - b.start_ns),
	       ms(b.byte_ns - b.start_ns), ms(b.slot_ns), ms(b.layer_ns));
	fflush(stdout);
	return 0;
}

static int read_accel(const char *text, enum vmm_accel *out)
{
	if (!streq(text, "tcg") && !streq(text, "kvm"))
		return -EINVAL;
	*out = streq(text, "kvm") ? VMM_ACCEL_KVM : VMM_ACCEL_TCG;
	return 0;
}

static int read_options(int argc, char **argv, struct options *o)
{
	static const struct option known[] = {
		{ "state-dir", required_argument, NULL, 's' },
		{ "work-dir", required_argument, NULL, 'w' },
		{ "agent", required_argument, NULL, 'a' },
		{ "accel", required_argument, NULL, 'x' },
		{ "cpus", required_argument, NULL, 'c' },
		{ "memory", required_argument, NULL, 'm' },
		{ "disk", required_argument, NULL, 'd' },
		{ "boots", required_argument, NULL, 'n' },
		{ "image", required_argument, NULL, 'i' },
		{ "shim", required_argument, NULL, 'h' },
		{ 0 },
	};
	int r = 0;
	int c;

	while (r == 0 && (c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		uint64_t *number = c == 'c'   ? &o->cpus
				   : c == 'm' ? &o->memory_mib
				   : c == 'd' ? &o->disk_mib
					      : &o->boots;

		if (c == 's')
			o->state_dir = optarg;
		else if (c == 'w')
			o->work_dir = optarg;
		else if (c == 'a')
			o->agent = optarg;
		else if (c == 'i')
			o->image = optarg;
		else if (c == 'h')
			o->shim = optarg;
		else if (c == 'x')
			r = read_accel(optarg, &o->accel);
		else
			r = c == '?' ? -EINVAL : parse_u64(optarg, 1, NUMBER_MAX, number);
	}
	if (r < 0 || o->state_dir == NULL || o->work_dir == NULL || o->agent == NULL)
		return -EINVAL;
	return (o->image == NULL) == (o->shim == NULL) ? 0 : -EINVAL;
}

int main(int argc, char **argv)
{
	struct options options = {
		.accel = VMM_ACCEL_TCG, .cpus = 1, .memory_mib = 512, .disk_mib = 5120, .boots = 1
	};
	struct floor f = { .options = &options,
			   .cancel_fd = -1,
			   .work_fd = -1,
			   .tag = tag_new(),
			   .cgroup_fd = -1 };
	struct err e = { 0 };
	int r;

	if (read_options(argc, argv, &options) < 0) {
		fprintf(stderr, "usage: viv-floor --state-dir DIR --work-dir DIR --agent FILE\n"
				"       [--accel tcg|kvm] [--cpus N] [--memory MIB] [--disk MIB] "
				"[--boots N]\n       [--image DIR --shim FILE]\n");
		return EXIT_FAILURE;
	}
	r = floor_open(&f, &e);
	for (uint64_t i = 0; r == 0 && i < options.boots; i++)
		r = boot_once(&f, &e);
	if (r < 0)
		fprintf(stderr, "floor: %s\n", e.msg);
	floor_close(&f);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
