/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest for tests of VMMs: a kernel of 49 bytes that says "hello" on the serial port and then
 * sends back what it receives, until a 'q' makes it triple-fault.
 */
#pragma once

#include "vmm/vmm.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "os/cgroup.h"
#include "os/spawn.h"
#include "patience.h"
#include "vmm/qmp.h"
#include "vmm/tsc.h"

#include <check.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { GUEST_BASE = 0x100000, GUEST_OFFSET = 0x1000, TEST_UID = 64321, BOOTS = 3 };

/* 32-bit protected mode, as PVH enters it. */
static const unsigned char guest_code[] = {
	0xba, 0xf8, 0x03, 0x00, 0x00,             /* mov $0x3f8,%edx */
	0xbe, 0x80, 0x00, 0x10, 0x00,             /* mov $text,%esi */
	0xac,                                     /* 1: lodsb */
	0x84, 0xc0, 0x74, 0x03,                   /* test %al,%al; jz 2f */
	0xee, 0xeb, 0xf8,                         /* out %al,(%dx); jmp 1b */
	0xba, 0xfd, 0x03, 0x00, 0x00,             /* 2: mov $0x3fd,%edx */
	0xec, 0xa8, 0x01, 0x74, 0xf6,             /* in (%dx),%al; test $1,%al; jz 2b */
	0xba, 0xf8, 0x03, 0x00, 0x00, 0xec,       /* mov $0x3f8,%edx; in (%dx),%al */
	0x3c, 0x71, 0x74, 0x03,                   /* cmp $'q',%al; je 3f */
	0xee, 0xeb, 0xe9,                         /* out %al,(%dx); jmp 2b */
	0x0f, 0x01, 0x1d, 0x90, 0x00, 0x10, 0x00, /* 3: lidt empty */
	0xcc,                                     /* int3 */
};

struct guest_image {
	unsigned char code[0x80];
	char text[0x10]; /* at 0x100080 */
	char empty[16];  /* at 0x100090: an interrupt table without entries */
};

struct guest_file {
	Elf64_Ehdr head;
	Elf64_Phdr load;
	Elf64_Phdr note;
	Elf64_Nhdr note_head;
	char note_name[4];
	uint32_t note_entry;
};

static struct op op;
static char base_dir[32];
static char dir[64];
static char kernel[96];
static int run_fd = -1;
static int cgroup_root = -1;
static int cgroup_fd = -1;
static struct vmm *vmm;

static inline void write_file(const char *path, const void *p, size_t n, off_t off)
{
	auto_close int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(lseek(fd, off, SEEK_SET), off);
	ck_assert_int_eq(fd_write_all(fd, p, n), 0);
}

static inline void make_kernel(void)
{
	struct guest_image image = { .text = "hello\n" };
	struct guest_file f = {
		.head = {
			.e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
			.e_type = ET_EXEC,
			.e_machine = EM_X86_64,
			.e_version = EV_CURRENT,
			.e_entry = GUEST_BASE,
			.e_phoff = offsetof(struct guest_file, load),
			.e_ehsize = sizeof(Elf64_Ehdr),
			.e_phentsize = sizeof(Elf64_Phdr),
			.e_phnum = 2,
		},
		.load = {
			.p_type = PT_LOAD,
			.p_flags = PF_R | PF_W | PF_X,
			.p_offset = GUEST_OFFSET,
			.p_vaddr = GUEST_BASE,
			.p_paddr = GUEST_BASE,
			.p_filesz = sizeof(image),
			.p_memsz = sizeof(image),
		},
		.note = {
			.p_type = PT_NOTE,
			.p_offset = offsetof(struct guest_file, note_head),
			.p_filesz = 20,
			.p_memsz = 20,
			.p_align = 4,
		},
		.note_head = { .n_namesz = 4, .n_descsz = 4, .n_type = 18 }, /* PHYS32_ENTRY */
		.note_name = "Xen",
		.note_entry = GUEST_BASE,
	};

	memcpy(image.code, guest_code, sizeof(guest_code));
	write_file(kernel, &f, sizeof(f), 0);
	write_file(kernel, &image, sizeof(image), GUEST_OFFSET);
}

/* Once, in the parent of all tests: what a failing test leaves goes with these two. */
static inline void setup_all(void)
{
	op_init(&op, patient_ms(20000), -1);
	snprintf(base_dir, sizeof(base_dir), "/tmp/viv-test-vmm-%d", getpid());
	ck_assert_int_eq(mkdir(base_dir, 0700), 0);
	ck_assert_msg(cgroup_open_root(strrchr(base_dir, '/') + 1, "/tmp/viv-test-cgroup",
				       &cgroup_root, &op.err) == 0,
		      "%s", op.err.msg);
}

static inline void teardown_all(void)
{
	auto_close int parent = openat(cgroup_root, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	op_init(&op, patient_ms(20000), -1);
	ck_assert_msg(cgroup_remove(parent, strrchr(base_dir, '/') + 1, &op) == 0, "%s",
		      op.err.msg);
	fd_close(&cgroup_root);
	ck_assert_int_eq(file_remove_tree_at(AT_FDCWD, base_dir), 0);
}

static inline void setup(void)
{
	op_init(&op, patient_ms(20000), -1);
	snprintf(dir, sizeof(dir), "%s/run", base_dir);
	ck_assert_int_eq(file_remove_tree_at(AT_FDCWD, dir), 0);
	ck_assert_int_eq(mkdir(dir, 0700), 0);
	snprintf(kernel, sizeof(kernel), "%s/kernel", dir);
	run_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	make_kernel();
	cgroup_fd = cgroup_create(cgroup_root, "vm", &op);
	ck_assert_msg(cgroup_fd >= 0, "%s", op.err.msg);
}

static inline void teardown(void)
{
	op.err = (struct err){ 0 };
	vmm_free(take_ptr(&vmm));
	ck_assert_msg(cgroup_remove(cgroup_root, "vm", &op) == 0, "%s", op.err.msg);
	fd_close(&cgroup_fd);
	fd_close(&run_fd);
}

static inline struct vmm_spec test_spec(void)
{
	return (struct vmm_spec){
		.id = id_new(),
		.cpus = 1,
		.memory_mib = 64,
		.kernel = kernel,
		.tap_fd = -1,
		.netns_fd = -1,
		.cgroup_fd = cgroup_fd,
		.uid = TEST_UID,
		.gid = TEST_UID,
		.run_dirfd = run_fd,
	};
}

static inline void start(const struct vmm_spec *spec)
{
	ck_assert_msg(vmm_start(vmm_driver(NULL), spec, &vmm, &op) == 0, "%s", op.err.msg);
}

/* Reads the console until it has said what is expected. */
static inline void expect(struct vmm *v, const char *text)
{
	auto_buf got = BUF_INIT(1 << 20);

	while (strstr(buf_str(&got), text) == NULL) {
		char chunk[4096];
		int r = op_wait_fd(&op, vmm_console_fd(v), POLLIN, vmm_pidfd(v));
		ssize_t n;

		ck_assert_msg(r == 1, "no \"%s\" (%d) in: %s", text, r, buf_str(&got));
		n = read(vmm_console_fd(v), chunk, sizeof(chunk));
		ck_assert_int_gt(n, 0);
		ck_assert_int_eq(buf_append(&got, chunk, (size_t)n), 0);
	}
}

static inline void send_text(const char *text)
{
	ck_assert_int_eq(write(vmm_console_fd(vmm), text, strlen(text)), (ssize_t)strlen(text));
}

static inline void expect_silence(int ms)
{
	struct pollfd p = { .fd = vmm_console_fd(vmm), .events = POLLIN };

	ck_assert_int_eq(poll(&p, 1, ms), 0);
}

static inline void expect_event(enum vmm_event event)
{
	ck_assert_int_eq(op_wait_fd(&op, vmm_event_fd(vmm), POLLIN, -1), 1);
	ck_assert_int_eq(vmm_next_event(vmm), event);
}
