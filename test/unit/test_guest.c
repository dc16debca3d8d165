/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "guest/guest.h"
#include "guest/start.h"
#include "patience.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SEEN_MAX = 1 << 20, REQUEST_MAX = 65536, OP_MS = 5000 };

/* ---- console ---- */

struct console {
	int read_fd;
	int write_fd;
	int vmm_fd; /* stands for a pidfd: a pipe whose other end is closed when "the VMM" ends */
	int vmm_end_fd;
	struct buf seen;
	struct op op;
};

static struct console con;

static void console_init(void)
{
	int a[2];
	int b[2];

	ck_assert_int_eq(pipe2(a, O_CLOEXEC | O_NONBLOCK), 0);
	ck_assert_int_eq(pipe2(b, O_CLOEXEC), 0);
	con = (struct console){ .read_fd = a[0],
				.write_fd = a[1],
				.vmm_fd = b[0],
				.vmm_end_fd = b[1],
				.seen = BUF_INIT(SEEN_MAX) };
	op_init(&con.op, patient_ms(OP_MS), -1);
}

static void console_done(void)
{
	fd_close(&con.read_fd);
	fd_close(&con.write_fd);
	fd_close(&con.vmm_fd);
	fd_close(&con.vmm_end_fd);
	buf_done(&con.seen);
}

static void see(const char *p, size_t n, void *arg)
{
	ck_assert_int_eq(buf_append(arg, p, n), 0);
}

static void say(const char *text)
{
	ck_assert_int_eq(fd_write_all(con.write_fd, text, strlen(text)), 0);
}

static int wait_ready(void)
{
	return guest_wait_ready(con.read_fd, con.vmm_fd, see, &con.seen, &con.op);
}

static void assert_error(enum err_kind kind, const char *text)
{
	ck_assert_int_eq(con.op.err.kind, kind);
	ck_assert_msg(strstr(con.op.err.msg, text) != NULL, "\"%s\" has no \"%s\"", con.op.err.msg,
		      text);
}

START_TEST(ready)
{
	say("[    0.1] booting\r\nviv-agent: boot kernel=1ms\r\nviv-agent: ready\r\n");
	ck_assert_int_eq(wait_ready(), 0);
	ck_assert_str_eq(buf_str(&con.seen), "[    0.1] booting\r\nviv-agent: boot kernel=1ms\r\n"
					     "viv-agent: ready\r\n");
}
END_TEST

static void *say_slowly(void *arg)
{
	for (const char *p = arg; *p != '\0'; p++) {
		char one[2] = { *p, '\0' };
		int pending;

		say(one);
		do { /* until it was read, so that each byte is a read of its own */
			sched_yield();
			ck_assert_int_eq(ioctl(con.read_fd, FIONREAD, &pending), 0);
		} while (pending > 0);
	}
	return NULL;
}

START_TEST(ready_split_over_reads)
{
	static char text[] = "noise\r\nviv-agent: not ready\r\nviv-agent: ready\r\n";
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, say_slowly, text), 0);
	ck_assert_int_eq(wait_ready(), 0);
	pthread_join(thread, NULL);
	ck_assert_str_eq(buf_str(&con.seen), text);
}
END_TEST

START_TEST(fatal)
{
	say("viv-agent: fatal: mount the root disk \x1b[31m/dev/vda: No such device\r\n");
	ck_assert_int_lt(wait_ready(), 0);
	assert_error(ERR_AGENT, "gave up: mount the root disk ?[31m/dev/vda: No such device");
}
END_TEST

START_TEST(panics)
{
	say("[    1.3] Kernel panic - not syncing: VFS: no root\r\n");
	ck_assert_int_lt(wait_ready(), 0);
	assert_error(ERR_AGENT, "Kernel panic - not syncing: VFS: no root");
}
END_TEST

START_TEST(vmm_ends)
{
	say("last\r\nwords");
	fd_close(&con.vmm_end_fd);
	ck_assert_int_lt(wait_ready(), 0);
	assert_error(ERR_VMM, "last");
	ck_assert_str_eq(buf_str(&con.seen), "last\r\nwords");
}
END_TEST

START_TEST(vmm_ends_after_ready)
{
	say("viv-agent: ready\n");
	fd_close(&con.vmm_end_fd);
	ck_assert_int_eq(wait_ready(), 0);
}
END_TEST

START_TEST(console_closed)
{
	fd_close(&con.write_fd);
	ck_assert_int_lt(wait_ready(), 0);
	assert_error(ERR_VMM, "before the guest said anything");
}
END_TEST

START_TEST(too_late)
{
	op_init(&con.op, 20, -1);
	say("so far\n");
	ck_assert_int_lt(wait_ready(), 0);
	assert_error(ERR_AGENT, "so far");
}
END_TEST

START_TEST(cancelled)
{
	int p[2];

	ck_assert_int_eq(pipe2(p, O_CLOEXEC), 0);
	op_init(&con.op, patient_ms(OP_MS), p[0]);
	fd_close(&p[1]);
	ck_assert_int_eq(wait_ready(), -ECANCELED);
	ck_assert_int_eq(con.op.err.kind, ERR_CANCELLED);
	fd_close(&p[0]);
}
END_TEST

static void *flood(void *arg)
{
	static char text[4096];

	(void)arg;
	memset(text, 'x', sizeof(text));
	/* Ends with EPIPE or EAGAIN on a full pipe that nobody reads any more. */
	for (;;) {
		struct pollfd p = { .fd = con.write_fd, .events = POLLOUT };

		if (poll(&p, 1, 200) != 1 || write(con.write_fd, text, sizeof(text)) < 0)
			return NULL;
	}
}

static void see_nothing(const char *p, size_t n, void *arg)
{
	(void)p;
	(void)n;
	(void)arg;
}

START_TEST(flood_meets_deadline)
{
	uint64_t start_ns = clock_now_ns();
	pthread_t thread;

	op_init(&con.op, 50, -1);
	ck_assert_int_eq(pthread_create(&thread, NULL, flood, NULL), 0);
	ck_assert_int_lt(guest_wait_ready(con.read_fd, con.vmm_fd, see_nothing, NULL, &con.op), 0);
	ck_assert_uint_lt(clock_now_ns() - start_ns, 2 * NS_PER_S);
	assert_error(ERR_AGENT, "in time");
	pthread_join(thread, NULL);
}
END_TEST

/* ---- agent ---- */

/* A server for one request: keeps it, answers with a text of the test's. */
struct server {
	int listen_fd;
	const char *answer;
	struct buf request;
	pthread_t thread;
};

static struct server server;

static bool request_complete(struct buf *in)
{
	const char *text = buf_str(in);
	const char *end = strstr(text, "\r\n\r\n");
	const char *length = strcasestr(text, "Content-Length:");

	if (end == NULL)
		return false;
	if (length == NULL || length > end)
		return true;
	return strlen(end + 4) >= strtoul(length + strlen("Content-Length:"), NULL, 10);
}

static void *serve(void *arg)
{
	auto_close int fd = accept4(server.listen_fd, NULL, NULL, SOCK_CLOEXEC);

	(void)arg;
	while (fd >= 0 && !request_complete(&server.request)) {
		char chunk[4096];
		ssize_t n = read(fd, chunk, sizeof(chunk));

		if (n <= 0 || buf_append(&server.request, chunk, (size_t)n) < 0)
			return NULL;
	}
	ignore_err(fd_write_all(fd, server.answer, strlen(server.answer))); /* the test will see */
	return NULL;
}

/* The agent's port is fixed, so each test has a loopback of its own. */
static void enter_netns(void)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	auto_close int s = -1;

	ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
	s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(ioctl(s, SIOCSIFFLAGS, &ifr), 0);
}

static void server_start(const char *answer)
{
	const int one = 1;
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_port = htons(GUEST_PORT),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	server = (struct server){ .listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
				  .answer = answer,
				  .request = BUF_INIT(REQUEST_MAX) };
	ck_assert_int_eq(setsockopt(server.listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)),
			 0);
	ck_assert_int_eq(bind(server.listen_fd, (struct sockaddr *)&in, sizeof(in)), 0);
	ck_assert_int_eq(listen(server.listen_fd, 1), 0);
	ck_assert_int_eq(pthread_create(&server.thread, NULL, serve, NULL), 0);
}

static void server_stop(void)
{
	pthread_join(server.thread, NULL);
	fd_close(&server.listen_fd);
}

static int init(const struct guest_identity *identity, char version[32], struct op *op)
{
	struct in_addr addr = { .s_addr = htonl(INADDR_LOOPBACK) };

	op_init(op, patient_ms(OP_MS), -1);
	return guest_init(addr, identity, -1, version, 32, op);
}

#define OK_VERSION                                                                                 \
	"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 19\r\n\r\n"          \
	"{\"version\":\"1.2.3\"}"

static const char *string_of(const json_t *json, const char *key)
{
	return json_string_value(json_object_get(json, key));
}

START_TEST(init_whole)
{
	json_t *env = json_pack("{s:s}", "KEY", "ü \"quoted\"");
	const struct guest_identity identity = { .id = "i0123456789abcdefghi",
						 .template_id = "base",
						 .hostname = "box",
						 .default_user = "user",
						 .default_workdir = "/work",
						 .access_token = "secret",
						 .env = env };
	char version[32];
	json_t *sent;
	struct op op;

	server_start(OK_VERSION);
	ck_assert_msg(init(&identity, version, &op) == 0, "%s", op.err.msg);
	server_stop();
	ck_assert_str_eq(version, "1.2.3");
	ck_assert(str_starts(buf_str(&server.request), "POST /init HTTP/1.1\r\n"));
	sent = json_loads(strstr(buf_str(&server.request), "\r\n\r\n") + 4, 0, NULL);
	ck_assert_ptr_nonnull(sent);
	ck_assert_str_eq(string_of(sent, "id"), identity.id);
	ck_assert_str_eq(string_of(sent, "templateId"), "base");
	ck_assert_str_eq(string_of(sent, "hostname"), "box");
	ck_assert_str_eq(string_of(sent, "defaultUser"), "user");
	ck_assert_str_eq(string_of(sent, "defaultWorkdir"), "/work");
	ck_assert_str_eq(string_of(sent, "accessToken"), "secret");
	ck_assert(json_equal(json_object_get(sent, "env"), env));
	ck_assert_uint_eq(strlen(string_of(sent, "entropy")), 44);
	ck_assert_int_lt(llabs((long long)clock_realtime_ms() -
			       json_integer_value(json_object_get(sent, "timestampMs"))),
			 OP_MS);
	json_decref(sent);
	json_decref(env);
}
END_TEST

static char *entropy_sent(void)
{
	const struct guest_identity identity = { .id = "x" };
	char version[32];
	char *entropy;
	json_t *sent;
	struct op op;

	server_start(OK_VERSION);
	ck_assert_msg(init(&identity, version, &op) == 0, "%s", op.err.msg);
	server_stop();
	sent = json_loads(strstr(buf_str(&server.request), "\r\n\r\n") + 4, 0, NULL);
	ck_assert_uint_eq(json_object_size(sent), 3); /* what is not known is not sent */
	entropy = str_dup(string_of(sent, "entropy"));
	json_decref(sent);
	buf_done(&server.request);
	return entropy;
}

START_TEST(init_entropy_is_fresh)
{
	auto_free char *first = entropy_sent();
	auto_free char *second = entropy_sent();

	ck_assert_str_ne(first, second);
}
END_TEST

START_TEST(init_refused)
{
	const struct guest_identity identity = { .id = "x" };
	char version[32];
	struct op op;

	server_start("HTTP/1.1 400 Bad Request\r\nContent-Length: 40\r\n\r\n"
		     "{\"code\":400,\"message\":\"hostname is bad\"}");
	ck_assert_int_lt(init(&identity, version, &op), 0);
	server_stop();
	ck_assert_int_eq(op.err.kind, ERR_AGENT);
	ck_assert(str_ends(op.err.msg, "400: hostname is bad"));
}
END_TEST

START_TEST(init_without_version)
{
	const struct guest_identity identity = { .id = "x" };
	char version[32];
	struct op op;

	server_start("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
	ck_assert_int_lt(init(&identity, version, &op), 0);
	server_stop();
	ck_assert_int_eq(op.err.kind, ERR_AGENT);
}
END_TEST

START_TEST(init_nobody_there)
{
	const struct guest_identity identity = { .id = "x" };
	char version[32];
	struct op op;

	ck_assert_int_lt(init(&identity, version, &op), 0);
	ck_assert(str_starts(op.err.msg, "reach the guest agent"));
}
END_TEST

START_TEST(init_bad_text)
{
	const struct guest_identity identity = { .id = "x", .hostname = "\xff\xfe" };
	char version[32];
	struct op op;

	server_start(OK_VERSION);
	ck_assert_int_lt(init(&identity, version, &op), 0);
	server_stop();
	ck_assert_int_eq(op.err.kind, ERR_INVALID);
}
END_TEST

START_TEST(conditions_to_be_ready)
{
	static const char *const good[] = { "",
					    "1",
					    "65535",
					    "true",
					    "8000/tcp",
					    "http://localhost",
					    "http://localhost:8000/a?b=c",
					    "http://127.0.0.1:1/",
					    "http://[::1]/",
					    "http://[::1]:8080",
					    "curl http://x/" };
	static const char *const bad[] = { "0",
					   "65536",
					   "99999999999999999999",
					   "http://",
					   "http:///x",
					   "http://example.com/",
					   "http://localhost:0/",
					   "http://localhost:x/",
					   "http://localhost:80:80/",
					   "http://localhost/a b",
					   "http://localhost/\r\nX: y",
					   "http://user@localhost/" };

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		struct err e = { 0 };

		ck_assert_msg(guest_ready_check(good[i], &e) == 0, "%s: %s", good[i], e.msg);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct err e = { 0 };

		ck_assert_msg(guest_ready_check(bad[i], &e) < 0, "%s", bad[i]);
		ck_assert_int_eq(e.kind, ERR_INVALID);
	}
}
END_TEST

START_TEST(health)
{
	struct in_addr addr = { .s_addr = htonl(INADDR_LOOPBACK) };
	struct op op;

	op_init(&op, patient_ms(OP_MS), -1);
	server_start("HTTP/1.1 204 No Content\r\n\r\n");
	ck_assert_msg(guest_health(addr, -1, &op) == 0, "%s", op.err.msg);
	server_stop();
	ck_assert(str_starts(buf_str(&server.request), "GET /health HTTP/1.1\r\n"));
	buf_done(&server.request);
	server_start("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 5\r\n\r\nbroke");
	ck_assert_int_lt(guest_health(addr, -1, &op), 0);
	server_stop();
	ck_assert_ptr_nonnull(strstr(op.err.msg, "broke"));
}
END_TEST

static TCase *console_case(void)
{
	TCase *tc = tcase_create("console");

	tcase_add_checked_fixture(tc, console_init, console_done);
	tcase_add_test(tc, ready);
	tcase_add_test(tc, ready_split_over_reads);
	tcase_add_test(tc, fatal);
	tcase_add_test(tc, panics);
	tcase_add_test(tc, vmm_ends);
	tcase_add_test(tc, vmm_ends_after_ready);
	tcase_add_test(tc, console_closed);
	tcase_add_test(tc, too_late);
	tcase_add_test(tc, cancelled);
	tcase_add_test(tc, flood_meets_deadline);
	return tc;
}

static TCase *agent_case(void)
{
	TCase *tc = tcase_create("agent");

	tcase_add_checked_fixture(tc, enter_netns, NULL);
	tcase_add_test(tc, init_whole);
	tcase_add_test(tc, init_entropy_is_fresh);
	tcase_add_test(tc, init_refused);
	tcase_add_test(tc, init_without_version);
	tcase_add_test(tc, init_nobody_there);
	tcase_add_test(tc, init_bad_text);
	tcase_add_test(tc, health);
	tcase_add_test(tc, conditions_to_be_ready);
	return tc;
}

int main(void)
{
	Suite *s = suite_create("guest");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, console_case());
	suite_add_tcase(s, agent_case());
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
