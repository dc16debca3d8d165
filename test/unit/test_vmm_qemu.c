/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver against the real QEMU under TCG, with the guest of vmm_guest.h. With VIV_TEST_KERNEL
 * (an uncompressed vmlinux) three real kernels are booted at once as well.
 */
#include "vmm_guest.h"

START_TEST(drivers)
{
	ck_assert_ptr_eq(vmm_driver("qemu"), vmm_driver(NULL));
	ck_assert_ptr_null(vmm_driver("none"));
	ck_assert_str_eq(vmm_name(vmm_driver(NULL)), "qemu");
	ck_assert((vmm_caps(vmm_driver(NULL)) & VMM_CAP_PAUSE) != 0);
}
END_TEST

START_TEST(probe)
{
	char version[VMM_VERSION_SIZE];

	ck_assert_msg(vmm_probe(vmm_driver(NULL), NULL, version, sizeof(version), &op) == 0, "%s",
		      op.err.msg);
	ck_assert_uint_gt(strspn(version, "0123456789"), 0);
	ck_assert_int_lt(vmm_probe(vmm_driver(NULL), "/bin/true", version, sizeof(version), &op),
			 0);
	ck_assert_str_eq(op.err.msg, "/bin/true does not tell its version");
}
END_TEST

/* Of the same program, and of a machine that it makes, or made once. */
START_TEST(whose_state_is_restored)
{
	static const char *const yes[] = { "7.2.22+2", "7.2.22" };
	static const char *const no[] = { "7.2.22+1", "7.2.22+3",  "7.2.22+", "7.2.2",
					  "7.2.23+2", "7.2.22+2x", "",        "x" };

	for (size_t i = 0; i < ARRAY_SIZE(yes); i++)
		ck_assert_msg(vmm_restores(vmm_driver(NULL), "7.2.22+2", yes[i]), "%s", yes[i]);
	for (size_t i = 0; i < ARRAY_SIZE(no); i++)
		ck_assert_msg(!vmm_restores(vmm_driver(NULL), "7.2.22+2", no[i]), "%s", no[i]);
}
END_TEST

START_TEST(hello_and_echo)
{
	struct vmm_spec spec = test_spec();
	char version[VMM_VERSION_SIZE];

	ck_assert_int_eq(vmm_probe(vmm_driver(NULL), NULL, version, sizeof(version), &op), 0);
	start(&spec);
	ck_assert_str_eq(vmm_version(vmm), version);
	ck_assert(vmm_running(vmm));
	ck_assert_int_eq(cgroup_first_pid(cgroup_root, "vm"), vmm_pid(vmm));
	expect(vmm, "hello\n");
	send_text("abc");
	expect(vmm, "abc");
	ck_assert_int_eq(vmm_next_event(vmm), VMM_EVENT_NONE);
	ck_assert_int_eq(vmm_stop(vmm, &op), 0);
	ck_assert_int_eq(vmm_reap(vmm), 128 + SIGKILL);
	ck_assert_int_eq(cgroup_first_pid(cgroup_root, "vm"), 0);
	ck_assert_int_eq(vmm_stop(vmm, &op), 0);
}
END_TEST

START_TEST(pause_and_resume)
{
	struct vmm_spec spec = test_spec();

	start(&spec);
	expect(vmm, "hello\n");
	ck_assert_msg(vmm_pause(vmm, &op) == 0, "%s", op.err.msg);
	ck_assert(!vmm_running(vmm));
	expect_event(VMM_EVENT_STOPPED);
	ck_assert_int_eq(vmm_pause(vmm, &op), 0);
	send_text("x");
	expect_silence(100);
	ck_assert_msg(vmm_resume(vmm, &op) == 0, "%s", op.err.msg);
	expect_event(VMM_EVENT_RUNNING);
	expect(vmm, "x");
	ck_assert_int_eq(vmm_stop(vmm, &op), 0);
}
END_TEST

static void assert_status(const char *text, const char *line)
{
	ck_assert_msg(strstr(text, line) != NULL, "no %s in %s", line, text);
}

START_TEST(is_jailed)
{
	struct vmm_spec spec = test_spec();
	auto_buf status = BUF_INIT(1 << 16);
	char path[64];

	start(&spec);
	snprintf(path, sizeof(path), "/proc/%d/status", vmm_pid(vmm));
	ck_assert_int_eq(file_read_at(AT_FDCWD, path, &status), 0);
	assert_status(buf_str(&status), "\nUid:\t64321\t64321\t64321\t64321");
	assert_status(buf_str(&status), "\nGid:\t64321\t64321\t64321\t64321");
	assert_status(buf_str(&status), "\nCapEff:\t0000000000000000");
	assert_status(buf_str(&status), "\nCapBnd:\t0000000000000000");
	assert_status(buf_str(&status), "\nNoNewPrivs:\t1");
	assert_status(buf_str(&status), "\nSeccomp:\t2");
	ck_assert_int_eq(vmm_stop(vmm, &op), 0);
}
END_TEST

START_TEST(guest_ends)
{
	struct vmm_spec spec = test_spec();

	start(&spec);
	expect(vmm, "hello\n");
	send_text("q");
	expect_event(VMM_EVENT_SHUTDOWN);
	expect_event(VMM_EVENT_CLOSED);
	ck_assert_int_eq(vmm_next_event(vmm), VMM_EVENT_NONE);
	ck_assert_int_eq(op_wait_fd(&op, vmm_pidfd(vmm), POLLIN, -1), 1);
	ck_assert_int_lt(vmm_pause(vmm, &op), 0);
	ck_assert_int_eq(op.err.kind, ERR_VMM);
	ck_assert_int_eq(vmm_reap(vmm), 0);
	ck_assert_int_eq(vmm_pidfd(vmm), -1);
}
END_TEST

START_TEST(killed)
{
	struct vmm_spec spec = test_spec();

	start(&spec);
	ck_assert_int_eq(kill(vmm_pid(vmm), SIGKILL), 0);
	ck_assert_int_eq(op_wait_fd(&op, vmm_pidfd(vmm), POLLIN, -1), 1);
	expect_event(VMM_EVENT_CLOSED);
	ck_assert(!vmm_running(vmm));
	ck_assert_int_eq(vmm_reap(vmm), 128 + SIGKILL);
}
END_TEST

/* What a daemon does that comes after one which died while the guest was frozen. */
START_TEST(adopt)
{
	struct vmm_spec spec = test_spec();
	pid_t pid;

	start(&spec);
	expect(vmm, "hello\n");
	ck_assert_int_eq(vmm_pause(vmm, &op), 0);
	pid = vmm_pid(vmm);
	vmm_free(take_ptr(&vmm));

	ck_assert_msg(vmm_adopt(vmm_driver(NULL), &spec.id, run_fd, pid, &vmm, &op) == 1, "%s",
		      op.err.msg);
	ck_assert(!vmm_running(vmm));
	ck_assert_int_eq(vmm_resume(vmm, &op), 0);
	ck_assert(vmm_running(vmm));
	send_text("again");
	expect(vmm, "again");
	ck_assert_int_eq(vmm_stop(vmm, &op), 0);
	ck_assert_int_eq(vmm_reap(vmm), 128 + SIGKILL);
}
END_TEST

START_TEST(adopt_of_the_gone_and_of_others)
{
	const char *argv[] = { "/bin/sleep", "60", NULL };
	struct spawn_spec other = SPAWN_SPEC_INIT;
	struct process p = PROCESS_INIT;
	struct vmm_spec spec = test_spec();
	struct vmm *found = NULL;
	pid_t pid;

	start(&spec);
	pid = vmm_pid(vmm);
	vmm_free(take_ptr(&vmm));

	/* Another process than the one that answers: unsure, and nobody is touched. */
	other.argv = argv;
	ck_assert_int_eq(spawn_process(&other, &p, &op.err), 0);
	ck_assert_int_lt(vmm_adopt(vmm_driver(NULL), &spec.id, run_fd, p.pid, &found, &op), 0);
	ck_assert_ptr_nonnull(strstr(op.err.msg, "answers at"));
	op.err = (struct err){ 0 };
	ck_assert_int_eq(kill(p.pid, SIGKILL), 0);
	ck_assert_int_eq(op_wait_fd(&op, p.pidfd, POLLIN, -1), 1);
	ck_assert_int_eq(spawn_reap(&p, NULL), 1);

	ck_assert_int_eq(cgroup_remove(cgroup_root, "vm", &op), 0);
	ck_assert_int_eq(vmm_adopt(vmm_driver(NULL), &spec.id, run_fd, pid, &found, &op), 0);
	ck_assert_ptr_null(found);
}
END_TEST

START_TEST(corrupt_kernel)
{
	struct vmm_spec spec = test_spec();

	ck_assert_int_eq(truncate(kernel, 100), 0);
	ck_assert_int_lt(vmm_start(vmm_driver(NULL), &spec, &vmm, &op), 0);
	ck_assert_int_eq(op.err.kind, ERR_VMM);
	ck_assert_msg(strstr(op.err.msg, "QEMU ended with code 1: ") != NULL, "%s", op.err.msg);
	ck_assert_msg(strstr(op.err.msg, "waiting for connection") == NULL, "%s", op.err.msg);
	ck_assert_int_eq(cgroup_first_pid(cgroup_root, "vm"), 0);
}
END_TEST

START_TEST(bad_specs)
{
	struct vmm_spec spec = test_spec();

	spec.binary = "/nonexistent/qemu-system-x86_64";
	ck_assert_int_eq(vmm_start(vmm_driver(NULL), &spec, &vmm, &op), -ENOENT);
	ck_assert_ptr_nonnull(strstr(op.err.msg, "qemu-system-x86"));
	op.err = (struct err){ 0 };
	spec = test_spec();
	spec.uid = 0;
	ck_assert_int_eq(vmm_start(vmm_driver(NULL), &spec, &vmm, &op), -EINVAL);
	op.err = (struct err){ 0 };
	spec = test_spec();
	spec.memory_mib = 1;
	ck_assert_int_eq(vmm_start(vmm_driver(NULL), &spec, &vmm, &op), -EINVAL);
	op.err = (struct err){ 0 };
	spec = test_spec();
	ck_assert_int_eq(chmod(kernel, 0600), 0);
	ck_assert_int_eq(vmm_start(vmm_driver(NULL), &spec, &vmm, &op), -EINVAL);
	ck_assert_ptr_nonnull(strstr(op.err.msg, "chmod a+r"));
}
END_TEST

START_TEST(past_the_deadline)
{
	struct vmm_spec spec = test_spec();

	op_init(&op, 3, -1);
	ck_assert_int_lt(vmm_start(vmm_driver(NULL), &spec, &vmm, &op), 0);
	ck_assert_int_eq(op.err.kind, ERR_TIMEOUT);
	ck_assert_int_eq(cgroup_first_pid(cgroup_root, "vm"), 0);
	op_init(&op, patient_ms(20000), -1);
}
END_TEST

static void tell(struct qmp *qmp, const char *command, const char *line)
{
	json_t *args = line != NULL ? json_pack("{ss}", "command-line", line) : NULL;

	ck_assert_msg(qmp_execute(qmp, command, args, NULL, &op) == 0, "%s", op.err.msg);
	json_decref(args);
}

/* Lets QEMU do I/O on the disk as the guest would, and end; what it printed comes with its log. */
static void disk_io(const char *const *commands, struct buf *out)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	auto_close int pidfd = pidfd_open(vmm_pid(vmm), 0);
	struct qmp *qmp = NULL;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	vmm_free(take_ptr(&vmm)); /* it serves one client */
	ck_assert_int_eq(str_fit(a.sun_path, sizeof(a.sun_path), "%s/qmp.sock", dir), 0);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	ck_assert_int_eq(qmp_new(fd, &qmp), 0);
	ck_assert_msg(qmp_handshake(qmp, &op) == 0, "%s", op.err.msg);
	for (size_t i = 0; commands[i] != NULL; i++) {
		auto_free char *line = str_printf(
			"qemu-io -d /machine/peripheral-anon/device[0] \"%s\"", commands[i]);

		tell(qmp, "human-monitor-command", line);
	}
	tell(qmp, "quit", NULL);
	qmp_free(qmp);
	ck_assert_int_eq(op_wait_fd(&op, pidfd, POLLIN, -1), 1);
	ck_assert_int_eq(file_read_at(run_fd, "vmm.log", out), 0);
}

/* A disk of two images whose files only we may open, under a path that the VMM may not enter. */
START_TEST(disk_by_descriptors)
{
	char base[96];
	char top[96];
	char head[5] = "";
	const char *make[] = { "qemu-img", "create", "-q", "-f", "qcow2", top, "16M", NULL };
	static const char *const io[] = {
		"read -P 0x62 0 1",
		"write -P 0x63 0 1",
		"read -P 0x63 0 1",
		"read -P 0x73 2 1",
		NULL,
	};
	struct vmm_spec spec = test_spec();
	auto_buf said = BUF_INIT(1 << 16);
	struct vmm_image chain[2] = { { .format = VMM_IMAGE_QCOW2, .fd = -1 },
				      { .format = VMM_IMAGE_RAW, .fd = -1 } };

	snprintf(base, sizeof(base), "%s/base", dir);
	snprintf(top, sizeof(top), "%s/top", dir);
	write_file(base, "base", 4, 0);
	ck_assert_int_eq(truncate(base, 16 << 20), 0);
	ck_assert_int_eq(chmod(base, 0400), 0);
	ck_assert_msg(spawn_run(make, NULL, NULL, &op) == 0, "%s", op.err.msg);
	ck_assert_int_eq(chmod(top, 0600), 0);
	chain[0].fd = open(top, O_RDWR | O_CLOEXEC);
	chain[1].fd = open(base, O_RDONLY | O_CLOEXEC);
	spec.disk = chain;
	spec.n_disk = 2;
	start(&spec);
	close(chain[0].fd);
	close(chain[1].fd);
	disk_io(io, &said);
	ck_assert_msg(strstr(buf_str(&said), "wrote 1/1 bytes at offset 0") != NULL, "%s",
		      buf_str(&said));
	ck_assert_ptr_nonnull(strstr(buf_str(&said), "read 1/1 bytes at offset 2"));
	ck_assert_ptr_null(strstr(buf_str(&said), "Pattern verification failed"));

	/* The base is as it was, and what was written is in the top. */
	chain[1].fd = open(base, O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(read(chain[1].fd, head, 4), 4);
	ck_assert_str_eq(head, "base");
	close(chain[1].fd);
}
END_TEST

/* The tap is used in the namespace that it was made in; the VMM is born there too. */
START_TEST(network_by_descriptors)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, .ifr_name = "tap0" };
	struct vmm_spec spec = test_spec();
	auto_close int host_netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	auto_close int netns = -1;
	struct stat ours;
	struct stat its;
	char path[64];

	ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
	netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	spec.tap_fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(spec.tap_fd, 0);
	ck_assert_int_eq(ioctl(spec.tap_fd, TUNSETIFF, &ifr), 0);
	ck_assert_int_eq(setns(host_netns, CLONE_NEWNET), 0);
	spec.netns_fd = netns;
	spec.mac = "02:76:69:76:00:01";
	start(&spec);
	close(spec.tap_fd);
	expect(vmm, "hello\n");
	snprintf(path, sizeof(path), "/proc/%d/ns/net", vmm_pid(vmm));
	ck_assert_int_eq(stat(path, &its), 0);
	ck_assert_int_eq(fstat(netns, &ours), 0);
	ck_assert_uint_eq(its.st_ino, ours.st_ino);
	ck_assert_int_eq(vmm_stop(vmm, &op), 0);
}
END_TEST

START_TEST(rate_of_the_counter)
{
	uint64_t khz = tsc_khz();

	ck_assert_uint_gt(khz, 100000);
	ck_assert_uint_lt(khz, 20000000);
	ck_assert_uint_eq(tsc_khz(), khz);
}
END_TEST

/* A kernel without root file system panics, and says so even when it is quiet. */
START_TEST(real_kernels_at_once)
{
	const char *path = getenv("VIV_TEST_KERNEL");
	struct vmm *vmms[BOOTS];
	char name[16];

	op_init(&op, patient_ms(60000), -1);
	for (int i = 0; i < BOOTS; i++) {
		auto_close int own_cgroup = -1;
		auto_close int own_dir = -1;
		struct vmm_spec spec = test_spec();

		snprintf(name, sizeof(name), "vm%d", i);
		ck_assert_int_eq(mkdirat(run_fd, name, 0700), 0);
		own_dir = openat(run_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		own_cgroup = cgroup_create(cgroup_root, name, &op);
		spec.kernel = path;
		spec.memory_mib = 256;
		spec.run_dirfd = own_dir;
		spec.cgroup_fd = own_cgroup;
		start(&spec);
		vmms[i] = take_ptr(&vmm);
	}
	for (int i = 0; i < BOOTS; i++)
		expect(vmms[i], "Kernel panic - not syncing: VFS");
	for (int i = 0; i < BOOTS; i++) {
		ck_assert_int_eq(vmm_stop(vmms[i], &op), 0);
		vmm_free(vmms[i]);
	}
}
END_TEST

static void add_tests(TCase *t)
{
	tcase_add_test(t, drivers);
	tcase_add_test(t, probe);
	tcase_add_test(t, whose_state_is_restored);
	tcase_add_test(t, hello_and_echo);
	tcase_add_test(t, pause_and_resume);
	tcase_add_test(t, is_jailed);
	tcase_add_test(t, guest_ends);
	tcase_add_test(t, killed);
	tcase_add_test(t, adopt);
	tcase_add_test(t, adopt_of_the_gone_and_of_others);
	tcase_add_test(t, corrupt_kernel);
	tcase_add_test(t, bad_specs);
	tcase_add_test(t, past_the_deadline);
	tcase_add_test(t, disk_by_descriptors);
	tcase_add_test(t, network_by_descriptors);
	tcase_add_test(t, rate_of_the_counter);
	if (getenv("VIV_TEST_KERNEL") != NULL)
		tcase_add_test(t, real_kernels_at_once);
	else
		printf("skipped: real_kernels_at_once: VIV_TEST_KERNEL names no vmlinux\n");
}

int main(void)
{
	Suite *s = suite_create("vmm_qemu");
	TCase *t = tcase_create("qemu");
	SRunner *sr;
	int failed;

	tcase_add_unchecked_fixture(t, setup_all, teardown_all);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 90);
	add_tests(t);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
