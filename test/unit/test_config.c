/* SPDX-License-Identifier: Apache-2.0 */
/* Settings of vivd: their sources, their bounds, and what is said of a wrong one. */
#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "daemon/config.h"
#include "viv-config.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { ARGS_MAX = 8 };

static char path[] = "/tmp/viv-config-XXXXXX";

static void setup(void)
{
	fd_close(&(int){ mkstemp(path) });
	/* What the tests were started with does not count. */
	for (size_t i = 0; config_key(i) != NULL; i++) {
		auto_free char *name = config_env_name(i);

		unsetenv(name);
	}
}

static void teardown(void)
{
	unlink(path);
}

static void write_file(const char *text)
{
	ck_assert_int_eq(file_write_atomic_at(AT_FDCWD, path, text, strlen(text), 0600), 0);
}

/* config_load() with the file of this test and up to two more arguments. */
static int load(const char *one, const char *two, struct config *c, struct err *e)
{
	char *argv[ARGS_MAX] = { str_dup("vivd"), str_printf("--config=%s", path) };
	int n = 2;
	int r;

	if (one != NULL)
		argv[n++] = str_dup(one);
	if (two != NULL)
		argv[n++] = str_dup(two);
	r = config_load(n, argv, c, e);
	for (int i = 0; i < n; i++) /* nothing of the config points there */
		free(argv[i]);
	return r;
}

static struct config load_ok(const char *one, const char *two)
{
	struct config c;
	struct err e = { 0 };

	ck_assert_msg(load(one, two, &c, &e) == 0, "%s", e.msg);
	return c;
}

/* The settings are refused, and the message has all of @parts in it. */
static void refused(const char *flag, const char *const *parts, size_t n)
{
	struct config c;
	struct err e = { 0 };

	ck_assert_int_lt(load(flag, NULL, &c, &e), 0);
	ck_assert_int_eq(e.kind, ERR_INVALID);
	for (size_t i = 0; i < n; i++)
		ck_assert_msg(strstr(e.msg, parts[i]) != NULL, "no '%s' in: %s", parts[i], e.msg);
}

#define flag_refused(flag, ...)                                                                    \
	refused(flag, (const char *const[]){ __VA_ARGS__ },                                        \
		ARRAY_SIZE(((const char *const[]){ __VA_ARGS__ })))

#define file_refused(text, ...)                                                                    \
	do {                                                                                       \
		write_file(text);                                                                  \
		flag_refused(NULL, __VA_ARGS__);                                                   \
	} while (0)

START_TEST(test_defaults)
{
	struct config c = load_ok(NULL, NULL);

	ck_assert_str_eq(c.command, "serve");
	ck_assert_int_eq(c.ready_fd, -1);
	ck_assert(!c.force);
	ck_assert_str_eq(c.state_dir, "/var/lib/vivarium");
	ck_assert_str_eq(c.run_dir, "/run/vivarium");
	ck_assert_str_eq(c.socket, "/run/vivarium/vivd.sock");
	ck_assert_int_eq(c.log_level, LOG_LEVEL_INFO);
	ck_assert_str_eq(c.vmm, "qemu");
	ck_assert_ptr_null(c.vmm_binary);
	ck_assert_str_eq(c.acceleration, "auto");
	ck_assert_str_eq(c.disk, "qcow2");
	ck_assert_uint_eq(c.default_cpus, 1);
	ck_assert_uint_eq(c.max_cpus, 64);
	ck_assert_uint_eq(c.default_memory_mib, 512);
	ck_assert_uint_eq(c.max_memory_mib, 0);
	ck_assert_uint_eq(c.default_disk_mib, 5120);
	ck_assert_uint_eq(c.agent_start_timeout_s, 30);
	ck_assert_uint_eq(c.tcg_timeout_factor, 3);
	ck_assert_uint_eq(c.kvm_probe_timeout_s, 8);
	ck_assert_uint_eq(c.pause_drain_ms, 5000);
	ck_assert_str_eq(c.kvm_stand_in, "kvm");
	ck_assert_uint_eq(c.network_addr, 0x0a0b0000);
	ck_assert_uint_eq(c.network_prefix, 16);
	ck_assert_uint_eq(c.slot_pool, 4);
	ck_assert_uint_eq(c.warm_images, 4);
	ck_assert_str_eq(c.warm_behind, "on");
	ck_assert_uint_eq(c.vmm_uid_base, 0x70000000);
	ck_assert_uint_eq(c.worker_threads, 16);
	ck_assert(str_ends(c.agent, "/viv-agent"));
	ck_assert_ptr_null(c.listen);
	ck_assert_ptr_null(c.fault);
	config_done(&c);
	config_done(&c);
}
END_TEST

START_TEST(test_order_of_sources)
{
	struct config c;

	write_file("default_cpus = 2\nmax_cpus = 10\nworker_threads = 7\n");
	setenv("VIVARIUM_MAX_CPUS", "20", 1);
	setenv("VIVARIUM_WORKER_THREADS", "8", 1);
	setenv("VIVARIUM_LOG_LEVEL", "", 1); /* as if it were not there */
	c = load_ok("--worker-threads=9", NULL);
	ck_assert_uint_eq(c.default_cpus, 2);
	ck_assert_uint_eq(c.max_cpus, 20);
	ck_assert_uint_eq(c.worker_threads, 9);
	ck_assert_int_eq(c.log_level, LOG_LEVEL_INFO);
	config_done(&c);
}
END_TEST

START_TEST(test_file_form)
{
	struct config c;

	write_file("# comment\n"
		   "\n"
		   "   # another\n"
		   "state_dir=/srv/a b#c\t# the end\r\n"
		   "\trun_dir\t=\t/run/x  \n"
		   "vmm_binary =# by its name\n"
		   "default_memory = 2GiB # two\n"
		   "log_level = debug");
	c = load_ok(NULL, NULL);
	ck_assert_str_eq(c.state_dir, "/srv/a b#c");
	ck_assert_str_eq(c.run_dir, "/run/x");
	ck_assert_str_eq(c.socket, "/run/x/vivd.sock");
	ck_assert_ptr_null(c.vmm_binary);
	ck_assert_uint_eq(c.default_memory_mib, 2048);
	ck_assert_int_eq(c.log_level, LOG_LEVEL_DEBUG);
	config_done(&c);
}
END_TEST

START_TEST(test_bad_files)
{
	char long_line[1200];

	file_refused("\n\ncolour = red\n", path, ":3:", "no setting 'colour'", "state_dir",
		     "network_range");
	file_refused("default_cpus = 1\n# x\ndefault_cpus = 2\n", ":3:", "line 1 already");
	file_refused("default_cpus\n", ":1:", "'default_cpus' is no line 'key = value'");
	file_refused("= 3\n", ":1:", "no setting ''");
	file_refused("default_cpus = many\n", ":1:", "default_cpus cannot be 'many'",
		     "a number from 1 to 255");
	file_refused("default_cpus = 0\n", "a number from 1 to 255");
	file_refused("default_memory = 1M\n", "a size from 64M");
	file_refused("default_disk = 5 apples\n", "such as 512M or 2G");
	file_refused("acceleration = hvf\n", "auto|tcg|kvm");
	file_refused("acceleration = tcg|kvm\n", "acceleration cannot be 'tcg|kvm'");
	file_refused("acceleration =\n", "auto|tcg|kvm");
	file_refused("log_level = loud\n", "error|warning|info|debug");
	file_refused("state_dir = var/lib\n", "an absolute path");
	file_refused("state_dir =\n", "an absolute path");
	file_refused("state_dir = /a\001b\n", "control characters");
	file_refused("vmm_uid_base = 0\n", "65536");
	file_refused("slot_pool = 65\n", "a number from 0 to 64");
	file_refused("warm_images = 65\n", "a number from 0 to 64");
	file_refused("slot_pool = -1\n", "a number from 0 to 64");
	memset(long_line, 'x', sizeof(long_line) - 1);
	long_line[sizeof(long_line) - 1] = '\0';
	file_refused(long_line, ":1:", "longer than 1023 bytes");
}
END_TEST

START_TEST(test_networks)
{
	static const char *const bad[] = {
		"10.11.0.0",
		"10.11.0.0/23",
		"10.0.0.0/7",
		"10.11.0.1/16",
		"10.11.0.0/16x",
		"10.11/16",
		"127.0.0.0/16",
		"169.254.0.0/16",
		"224.0.0.0/8",
		"0.0.0.0/8",
		"fd00::/16",
		"/16",
		"",
		"10.11.0.0/",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		auto_free char *flag = str_printf("--network-range=%s", bad[i]);

		flag_refused(flag, "--network-range:", "IPv4 network such as 10.11.0.0/16");
	}
	for (unsigned prefix = 8; prefix <= 22; prefix++) {
		auto_free char *flag = str_printf("--network-range=10.0.0.0/%u", prefix);
		struct config c = load_ok(flag, NULL);

		ck_assert_uint_eq(c.network_prefix, prefix);
		ck_assert_uint_eq(c.network_addr, 0x0a000000);
		config_done(&c);
	}
}
END_TEST

START_TEST(test_several_at_once)
{
	auto_free char *long_dir = str_printf("--run-dir=/%0100d", 0);
	auto_free char *long_state_dir = str_printf("--state-dir=/%0250d", 0);

	file_refused("default_cpus = 8\nmax_cpus = 4\n", ":1:", "more than max_cpus");
	file_refused("max_memory = 256M\n", "default: default_memory", "more than max_memory");
	file_refused("listen = 3999\n", ":1:", "listen cannot be '3999'", "[::1]:3999");
	file_refused("listen = [::]:3999\n", ":1:", "other machines", "listen_public");
	file_refused("domain = .org\n", ":1:", "domain cannot be '.org'", "lower case");
	write_file("");
	flag_refused(long_dir, "at most 107 bytes");
	flag_refused(long_state_dir, "default: tls_cert cannot be", "at most 255 bytes");
}
END_TEST

START_TEST(test_command_line)
{
	char *missing[] = { str_dup("vivd"), str_dup("--config"), str_dup("/nonexistent/x"), NULL };
	struct config c = load_ok("prepare", "--force");
	struct err e = { 0 };

	ck_assert_str_eq(c.command, "prepare");
	ck_assert(c.force);
	config_done(&c);
	c = load_ok("--ready-fd=3", "config");
	ck_assert_str_eq(c.command, "config");
	ck_assert_int_eq(c.ready_fd, 3);
	config_done(&c);
	c = load_ok("--default-cpus", "3");
	ck_assert_uint_eq(c.default_cpus, 3);
	config_done(&c);
	c = load_ok("--fault=create.slot.before=fail", NULL);
	ck_assert_str_eq(c.fault, "create.slot.before=fail");
	config_done(&c);

	flag_refused("--colour=red", "no setting '--colour=red'");
	flag_refused("--default-cpus", "write --default-cpus=VALUE");
	flag_refused("--default-cpus=x", "--default-cpus: default_cpus cannot be 'x'");
	flag_refused("--force=yes", "--force=yes");
	flag_refused("--ready-fd=x", "--ready-fd");
	flag_refused("dance", "'dance' is no command");
	ck_assert_int_lt(load("config", "prepare", &c, &e), 0);
	ck_assert_ptr_nonnull(strstr(e.msg, "'config' already"));

	e = (struct err){ 0 };
	ck_assert_int_eq(config_load(3, missing, &c, &e), -ENOENT);
	ck_assert_ptr_nonnull(strstr(e.msg, "/nonexistent/x"));
	for (int i = 0; i < 3; i++)
		free(missing[i]);
}
END_TEST

START_TEST(test_environment)
{
	struct config c;
	struct err e = { 0 };

	setenv("VIVARIUM_DEFAULT_DISK", "huge", 1);
	ck_assert_int_lt(load(NULL, NULL, &c, &e), 0);
	ck_assert_ptr_nonnull(
		strstr(e.msg, "VIVARIUM_DEFAULT_DISK: default_disk cannot be 'huge'"));
}
END_TEST

static char *capture(const struct config *c)
{
	char *text = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&text, &n);

	if (c != NULL)
		ck_assert_int_eq(config_print(c, out), 0);
	else
		config_help(out);
	ck_assert_int_eq(fclose(out), 0);
	return text;
}

START_TEST(test_print)
{
	auto_free char *origin = str_printf(" # %s:2\n", path);
	auto_free char *text = NULL;
	struct config c;

	write_file("# x\ndefault_cpus = 2\n");
	setenv("VIVARIUM_MAX_CPUS", "20", 1);
	c = load_ok("--run-dir=/run/x", NULL);
	text = capture(&c);
	config_done(&c);
	ck_assert_ptr_nonnull(strstr(text, "default_cpus = 2 "));
	ck_assert_ptr_nonnull(strstr(text, origin));
	ck_assert_ptr_nonnull(strstr(text, " # VIVARIUM_MAX_CPUS\n"));
	ck_assert_ptr_nonnull(strstr(text, " # --run-dir\n"));
	ck_assert_ptr_nonnull(strstr(text, "socket = /run/x/vivd.sock "));
	ck_assert_ptr_nonnull(strstr(text, " # default\n"));
	ck_assert_ptr_null(strstr(text, "\nfault"));

	unsetenv("VIVARIUM_MAX_CPUS"); /* what was printed can be read as a file */
	write_file(text);
	c = load_ok(NULL, NULL);
	ck_assert_uint_eq(c.max_cpus, 20);
	ck_assert_str_eq(c.run_dir, "/run/x");
	config_done(&c);
}
END_TEST

START_TEST(test_help_has_every_setting)
{
	auto_free char *text = capture(NULL);

	for (size_t i = 0; config_key(i) != NULL; i++) {
		auto_free char *flag = config_flag_name(i);
		bool hidden = streq(flag, "--fault") || streq(flag, "--kvm-stand-in");

		ck_assert_msg((strstr(text, flag) != NULL) == !hidden, "%s", flag);
	}
	ck_assert_ptr_nonnull(strstr(text, "auto|tcg|kvm"));
	ck_assert_ptr_nonnull(strstr(text, "(default 10.11.0.0/16)"));
}
END_TEST

/* The built agent lies beside the program; here is none, so it is the installed one. */
START_TEST(test_agent_of_the_build)
{
	struct config c = load_ok("--agent=/opt/viv-agent", NULL);

	ck_assert_str_eq(c.agent, "/opt/viv-agent");
	config_done(&c);
	c = load_ok(NULL, NULL);
	ck_assert_str_eq(c.agent, VIV_LIBEXECDIR "/viv-agent");
	config_done(&c);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("config");
	TCase *tc = tcase_create("config");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_defaults);
	tcase_add_test(tc, test_order_of_sources);
	tcase_add_test(tc, test_file_form);
	tcase_add_test(tc, test_bad_files);
	tcase_add_test(tc, test_networks);
	tcase_add_test(tc, test_several_at_once);
	tcase_add_test(tc, test_command_line);
	tcase_add_test(tc, test_environment);
	tcase_add_test(tc, test_print);
	tcase_add_test(tc, test_help_has_every_setting);
	tcase_add_test(tc, test_agent_of_the_build);
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
