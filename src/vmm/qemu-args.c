/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line of a sandbox's QEMU (why each option is as it is: doc/theory/qemu.md).
 *
 * No option names a file of the host but QEMU's own: the kernel and the initrd are opened by
 * /proc/self/fd, disks come in descriptor sets, sockets as descriptors, entropy from getrandom(2).
 */
#include "vmm/qemu-internal.h"

#include "base/str.h"
#include "base/vec.h"
#include "vmm/tsc.h"

#include <jansson.h>

VEC_DEFINE(texts, char *)

struct qemu_args {
	struct texts argv;
};

/* Debian's kernels tick at 250 Hz; loops per jiffy follow from the rate of the counter. */
enum { GUEST_HZ = 250 };

static void add(struct qemu_args *args, const char *option, char *value)
{
	texts_push(&args->argv, str_dup(option));
	if (value != NULL)
		texts_push(&args->argv, value);
}

/* Adds an option whose value is JSON, which is taken over. */
static void add_json(struct qemu_args *args, const char *option, json_t *value)
{
	char *text = json_dumps(value, JSON_COMPACT);

	if (text == NULL)
		abort(); /* no memory, as with xcalloc() */
	json_decref(value);
	add(args, option, text);
}

/* A restored guest's begins as an image that it maps privately, or as zeros; a booted one's too. */
static void add_memory(struct qemu_args *args, const struct vmm_spec *spec)
{
	bool image = spec->restore != NULL && spec->restore->image_fd >= 0;
	auto_free char *file = image ? str_printf("memory-backend-file,share=off,"
						  "mem-path=/proc/self/fd/%d",
						  QEMU_FD_IMAGE)
				     : str_dup("memory-backend-ram");

	add(args, "-object", str_printf("%s,id=ram,size=%juM", file, (uintmax_t)spec->memory_mib));
}

static void add_machine(struct qemu_args *args, const struct vmm_spec *spec)
{
	bool kvm = spec->accel == VMM_ACCEL_KVM;
	unsigned revision;

	add(args, "-name", str_printf("guest=%s", spec->id.s));
	add(args, "-nodefaults", NULL);
	add(args, "-no-user-config", NULL);
	add(args, "-no-reboot", NULL);
	add(args, "-display", str_dup("none"));
	add(args, "-sandbox",
	    str_dup("on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"));
	add_memory(args, spec);
	/* Without merging: equal pages of two owners would tell one about the other by timing. */
	add(args, "-machine",
	    str_dup("microvm,acpi=on,memory-backend=ram,mem-merge=off,dump-guest-core=off"));
	add(args, "-accel", str_dup(kvm ? "kvm" : "tcg"));
	/* TCG goes through `rep movsb` byte by byte, and with ERMS guests copy and clear by it. */
	add(args, "-cpu", str_dup(kvm ? "max" : "max,-erms"));
	add(args, "-smp", str_printf("%u", spec->cpus));
	add(args, "-m", str_printf("%juM", (uintmax_t)spec->memory_mib));
	revision = qemu_revision(spec->restore != NULL ? spec->restore->version : NULL);
	add(args, "-global",
	    str_printf("virtio-mmio.force-legacy=%s", revision == 1 ? "false" : "true"));
}

#define KERNEL_WORDS                                                                               \
	"console=ttyS0 quiet panic=-1 reboot=t cryptomgr.notests tsc=reliable no_timer_check"

const char *qemu_kernel_words(enum vmm_accel accel)
{
	return accel == VMM_ACCEL_KVM ? KERNEL_WORDS : KERNEL_WORDS " mitigations=off norandmaps";
}

static void add_kernel(struct qemu_args *args, const struct vmm_spec *spec)
{
	auto_free char *clock = str_dup("");
	uint64_t khz = tsc_khz();

	if (spec->accel != VMM_ACCEL_KVM) {
		free_ptr(&clock);
		clock = str_printf(" tsc_early_khz=%ju lpj=%ju", (uintmax_t)khz,
				   (uintmax_t)(khz * 1000 / GUEST_HZ));
	}
	add(args, "-kernel", str_printf("/proc/self/fd/%d", QEMU_FD_KERNEL));
	if (spec->initrd != NULL)
		add(args, "-initrd", str_printf("/proc/self/fd/%d", QEMU_FD_INITRD));
	add(args, "-append",
	    str_printf("%s%s %s", qemu_kernel_words(spec->accel), clock,
		       spec->cmdline != NULL ? spec->cmdline : ""));
}

/*
 * Nothing is loaded before its memory is in place, and no vCPU runs before it is told to. The saved
 * state is of devices only, without what says which machine it is of. No kernel: QEMU would hold a
 * copy of it, 14 MB for each VM; a reboot ends the VM in any case.
 */
static void add_restore(struct qemu_args *args)
{
	add(args, "-S", NULL);
	add(args, "-incoming", str_dup("defer"));
	add(args, "-global", str_dup("migration.send-configuration=off"));
}

/*
 * The console waits for its connection, which was made before QEMU began, so that it is there
 * before the guest's first byte. The control socket's is taken by the main loop.
 */
static void add_channels(struct qemu_args *args)
{
	add(args, "-chardev", str_printf("socket,id=qmp,fd=%d,server=on,wait=off", QEMU_FD_QMP));
	add(args, "-mon", str_dup("chardev=qmp,mode=control"));
	add(args, "-chardev",
	    str_printf("socket,id=console,fd=%d,server=on,wait=on", QEMU_FD_CONSOLE));
	add(args, "-serial", str_dup("chardev:console"));
}

/* One image of the chain: the file in its descriptor set, and the format over it. */
static void add_image(struct qemu_args *args, const struct vmm_spec *spec, size_t i)
{
	bool top = i == 0;
	bool last = i + 1 == spec->n_disk;
	char file[QEMU_NODE_SIZE];
	char node[QEMU_NODE_SIZE];
	char below[QEMU_NODE_SIZE] = "";
	auto_free char *path = str_printf("/dev/fdset/%zu", i);
	const char *format = spec->disk[i].format == VMM_IMAGE_QCOW2 ? "qcow2" : "raw";
	json_t *image;

	qemu_node_name('f', spec->disk[i].fd, file);
	qemu_node_name('d', spec->disk[i].fd, node);
	if (!last)
		qemu_node_name('d', spec->disk[i + 1].fd, below);
	add(args, "-add-fd", str_printf("fd=%d,set=%zu", QEMU_FD_DISK + (int)i, i));
	add_json(args, "-blockdev",
		 json_pack("{ss ss ss ss sb}", "driver", "file", "node-name", file, "filename",
			   path, "discard", "unmap", "read-only", !top));
	image = json_pack("{ss ss ss ss ss sb}", "driver", format, "node-name", node, "file", file,
			  "discard", "unmap", "detect-zeroes", top ? "unmap" : "off", "read-only",
			  !top);
	/* The chain is what we say: a name of a backing file in the image is never followed. */
	if (spec->disk[i].format == VMM_IMAGE_QCOW2)
		json_object_set_new(image, "backing", last ? json_null() : json_string(below));
	add_json(args, "-blockdev", image);
}

static void add_devices(struct qemu_args *args, const struct vmm_spec *spec)
{
	char top[QEMU_NODE_SIZE];

	/* A node is defined before the one that is on top of it. */
	for (size_t i = spec->n_disk; i > 0; i--)
		add_image(args, spec, i - 1);
	if (spec->n_disk > 0) {
		qemu_node_name('d', spec->disk[0].fd, top);
		add(args, "-device",
		    str_printf("virtio-blk-device,drive=%s,werror=stop,rerror=stop", top));
	}
	if (spec->tap_fd >= 0) {
		add(args, "-netdev", str_printf("tap,id=net0,fd=%d", QEMU_FD_TAP));
		add_json(args, "-device",
			 json_pack("{ss ss ss}", "driver", "virtio-net-device", "netdev", "net0",
				   "mac", spec->mac));
	}
	add(args, "-object", str_dup("rng-builtin,id=rng0"));
	add(args, "-device", str_dup("virtio-rng-device,rng=rng0"));
}

struct qemu_args *qemu_args_new(const char *binary, const struct vmm_spec *spec)
{
	struct qemu_args *args = xcalloc(1, sizeof(*args));

	add(args, binary, NULL);
	add_machine(args, spec);
	if (spec->restore != NULL)
		add_restore(args);
	else
		add_kernel(args, spec);
	add_channels(args);
	add_devices(args, spec);
	texts_push(&args->argv, NULL);
	return args;
}

const char *const *qemu_args_argv(const struct qemu_args *args)
{
	return (const char *const *)args->argv.at;
}

void qemu_args_free(struct qemu_args *args)
{
	if (args == NULL)
		return;
	vec_foreach (text, &args->argv)
		free(*text);
	texts_done(&args->argv);
	free(args);
}
