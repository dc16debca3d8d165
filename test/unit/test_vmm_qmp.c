/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The peer's words are written into the socket before the client asks: the ids that it will use are
 * known, they count from 1.
 */
#include "vmm/qmp.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "patience.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define GREETING  "{\"QMP\": {\"version\": {}, \"capabilities\": [\"oob\"]}}\r\n"
#define EMPTY(id) "{\"return\": {}, \"id\": " #id "}\r\n"

static struct op op;
static struct qmp *qmp;
static int peer;

static void setup(void)
{
	int pair[2];

	op_init(&op, patient_ms(5000), -1);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	ck_assert_int_eq(qmp_new(pair[0], &qmp), 0);
	peer = pair[1];
}

static void teardown(void)
{
	qmp_free(qmp);
	fd_close(&peer);
}

static void say(const char *text)
{
	ck_assert_int_eq(fd_write_all(peer, text, strlen(text)), 0);
}

static void assert_heard(const char *text)
{
	char got[4096];
	ssize_t n = recv(peer, got, sizeof(got) - 1, MSG_DONTWAIT);

	ck_assert_int_gt(n, 0);
	got[n] = '\0';
	ck_assert_str_eq(got, text);
}

static void assert_readable(bool readable)
{
	struct pollfd p = { .fd = qmp_event_fd(qmp), .events = POLLIN };

	ck_assert_int_eq(poll(&p, 1, 0), readable);
}

static void assert_event(const char *name)
{
	json_t *event = NULL;

	assert_readable(true);
	ck_assert_int_eq(qmp_next_event(qmp, &event), 1);
	ck_assert_str_eq(json_string_value(json_object_get(event, "event")), name);
	json_decref(event);
}

static void assert_no_event(void)
{
	json_t *event = NULL;

	ck_assert_int_eq(qmp_next_event(qmp, &event), 0);
	assert_readable(false);
}

/* The peer as a thread: it answers each line with the next of these, the first without being asked.
 */
static void *answer(void *arg)
{
	const char *const *lines = arg;

	for (size_t i = 0; lines[i] != NULL; i++) {
		char c = '\0';

		while (i > 0 && c != '\n' && recv(peer, &c, 1, 0) == 1)
			;
		say(lines[i]);
	}
	return NULL;
}

START_TEST(handshake)
{
	static const char *lines[] = { GREETING, EMPTY(1), NULL };
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, answer, lines), 0);
	ck_assert_msg(qmp_handshake(qmp, &op) == 0, "%s", op.err.msg);
	pthread_join(thread, NULL);
	assert_no_event();
}
END_TEST

START_TEST(command_on_the_wire)
{
	say(EMPTY(1));
	ck_assert_int_eq(qmp_execute(qmp, "stop", NULL, NULL, &op), 0);
	assert_heard("{\"execute\":\"stop\",\"id\":1}\n");
}
END_TEST

START_TEST(command_with_arguments)
{
	json_t *args = json_pack("{ss}", "name", "x");
	json_t *out = NULL;

	say("{\"return\": {\"running\": true}, \"id\": 1}\n");
	ck_assert_int_eq(qmp_execute(qmp, "query-status", args, &out, &op), 0);
	ck_assert(json_is_true(json_object_get(out, "running")));
	assert_heard("{\"execute\":\"query-status\",\"arguments\":{\"name\":\"x\"},\"id\":1}\n");
	json_decref(out);
	json_decref(args);
}
END_TEST

START_TEST(events_between)
{
	say("{\"event\": \"STOP\"}\n{\"event\": \"RESUME\"}\n" EMPTY(1) "{\"event\": \"LATE\"}\n");
	ck_assert_int_eq(qmp_execute(qmp, "cont", NULL, NULL, &op), 0);
	assert_event("STOP");
	assert_event("RESUME");
	assert_event("LATE");
	assert_no_event();
}
END_TEST

START_TEST(events_without_command)
{
	assert_no_event();
	say("{\"event\": \"STOP\"}\n");
	assert_event("STOP");
	assert_no_event();
}
END_TEST

START_TEST(newest_events_are_kept)
{
	auto_buf text = BUF_INIT(1 << 16);

	for (int i = 0; i < QMP_EVENTS_MAX + 3; i++)
		ck_assert_int_eq(buf_printf(&text, "{\"event\": \"E%d\"}\n", i), 0);
	ck_assert_int_eq(qmp_feed(qmp, buf_head(&text), text.len), 0);
	assert_event("E3");
	for (int i = 1; i < QMP_EVENTS_MAX; i++) {
		json_t *event = NULL;

		ck_assert_int_eq(qmp_next_event(qmp, &event), 1);
		json_decref(event);
	}
	assert_no_event();
}
END_TEST

START_TEST(refusal)
{
	static const char *lines[] = {
		"",
		"{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"no such\"}, \"id\": 1}\n",
		EMPTY(2),
		NULL,
	};
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, answer, lines), 0);
	ck_assert_int_lt(qmp_execute(qmp, "bogus", NULL, NULL, &op), 0);
	ck_assert_int_eq(op.err.kind, ERR_VMM);
	ck_assert_str_eq(op.err.msg, "QEMU refused bogus: no such (CommandNotFound)");
	op.err = (struct err){ 0 };
	ck_assert_int_eq(qmp_execute(qmp, "stop", NULL, NULL, &op), 0);
	pthread_join(thread, NULL);
}
END_TEST

START_TEST(commands_that_are_sent_together)
{
	const struct qmp_command commands[] = { { "one", NULL },
						{ "two", NULL },
						{ "three", NULL } };

	ck_assert_int_eq(qmp_begin(qmp, commands, 3, &op), 0);
	assert_heard("{\"execute\":\"one\",\"id\":1}\n{\"execute\":\"two\",\"id\":2}\n"
		     "{\"execute\":\"three\",\"id\":3}\n");
	say(EMPTY(1) EMPTY(2) "{\"event\": \"STOP\"}\n" EMPTY(3));
	ck_assert_msg(qmp_finish(qmp, &op) == 0, "%s", op.err.msg);
	assert_event("STOP");
	assert_no_event();
}
END_TEST

START_TEST(the_first_refusal_is_told)
{
	const struct qmp_command commands[] = { { "one", NULL },
						{ "two", NULL },
						{ "three", NULL } };
	static const char refused[] =
		"{\"error\": {\"class\": \"GenericError\", \"desc\": \"%s\"}, \"id\": %d}\n";
	char lines[512];

	snprintf(lines, sizeof(lines), refused, "this", 2);
	snprintf(lines + strlen(lines), sizeof(lines) - strlen(lines), refused, "that", 3);
	ck_assert_int_eq(qmp_begin(qmp, commands, 3, &op), 0);
	say(EMPTY(1));
	say(lines);
	ck_assert_int_lt(qmp_finish(qmp, &op), 0);
	ck_assert_str_eq(op.err.msg, "QEMU refused two: this (GenericError)");
	op.err = (struct err){ 0 };
	say(EMPTY(4));
	ck_assert_int_eq(qmp_execute(qmp, "four", NULL, NULL, &op), 0);
}
END_TEST

/* What was begun and is of no interest any more does not stand in the way of another command. */
START_TEST(commands_that_nobody_waits_for)
{
	const struct qmp_command commands[] = { { "one", NULL }, { "two", NULL } };
	json_t *out = NULL;

	ck_assert_int_eq(qmp_begin(qmp, commands, 2, &op), 0);
	say("{\"return\": 1, \"id\": 1}\n"
	    "{\"error\": {\"class\": \"x\", \"desc\": \"y\"}, \"id\": 2}\n"
	    "{\"return\": 3, \"id\": 3}\n");
	ck_assert_int_eq(qmp_execute(qmp, "three", NULL, &out, &op), 0);
	ck_assert_int_eq(json_integer_value(out), 3);
	json_decref(out);
}
END_TEST

START_TEST(late_reply_is_dropped)
{
	json_t *out = NULL;

	op_init(&op, 20, -1);
	ck_assert_int_eq(qmp_execute(qmp, "slow", NULL, NULL, &op), -ETIMEDOUT);
	ck_assert_int_eq(op.err.kind, ERR_TIMEOUT);
	op_init(&op, patient_ms(5000), -1);
	say("{\"return\": 1, \"id\": 1}\n{\"return\": 2, \"id\": 2}\n");
	ck_assert_int_eq(qmp_execute(qmp, "next", NULL, &out, &op), 0);
	ck_assert_int_eq(json_integer_value(out), 2);
	json_decref(out);
}
END_TEST

START_TEST(deadline_before_the_greeting)
{
	uint64_t begin = clock_now_ns();

	op_init(&op, 50, -1);
	ck_assert_int_eq(qmp_handshake(qmp, &op), -ETIMEDOUT);
	ck_assert_uint_ge(clock_now_ns() - begin, 49 * NS_PER_MS);
}
END_TEST

START_TEST(cancelled)
{
	int ends[2];

	ck_assert_int_eq(pipe(ends), 0);
	ck_assert_int_eq(write(ends[1], "x", 1), 1);
	op.cancel_fd = ends[0];
	ck_assert_int_eq(qmp_execute(qmp, "stop", NULL, NULL, &op), -ECANCELED);
	close(ends[0]);
	close(ends[1]);
}
END_TEST

static const char *const garbage[] = {
	"nonsense\n",
	"[1]\n",
	"{}\n",
	"{\"return\": {}}\n",
	"{\"return\": {}, \"id\": \"1\"}\n",
	"{\"event\": 1}\n",
	"\xff\xfe{}\n",
	"{\"QMP\": \n",
};

START_TEST(garbage_breaks_it)
{
	json_t *event = NULL;

	say(garbage[_i]);
	say(EMPTY(1));
	ck_assert_int_eq(qmp_execute(qmp, "stop", NULL, NULL, &op), -EBADMSG);
	ck_assert_int_eq(op.err.kind, ERR_VMM);
	ck_assert_int_eq(qmp_next_event(qmp, &event), -EBADMSG);
	assert_readable(false);
	op.err = (struct err){ 0 };
	ck_assert_int_eq(qmp_execute(qmp, "stop", NULL, NULL, &op), -EBADMSG);
}
END_TEST

START_TEST(oversize_line)
{
	auto_free char *line = xcalloc(1, QMP_LINE_MAX + 1);

	memset(line, ' ', QMP_LINE_MAX + 1);
	ck_assert_int_eq(qmp_feed(qmp, line, QMP_LINE_MAX), 0);
	ck_assert_int_eq(qmp_feed(qmp, line, 1), -EMSGSIZE);
	ck_assert_int_eq(qmp_execute(qmp, "stop", NULL, NULL, &op), -EMSGSIZE);
}
END_TEST

START_TEST(end_of_connection)
{
	json_t *event = NULL;

	say("{\"event\": \"SHUTDOWN\"}\n");
	fd_close(&peer);
	ck_assert_int_eq(qmp_execute(qmp, "stop", NULL, NULL, &op), -ECONNRESET);
	ck_assert_int_eq(op.err.kind, ERR_VMM);
	ck_assert_ptr_nonnull(strstr(op.err.msg, "closed its control connection"));
	assert_readable(true);
	if (qmp_next_event(qmp, &event) == 1) { /* unless the send failed first */
		json_decref(event);
		assert_readable(true);
	}
	ck_assert_int_lt(qmp_next_event(qmp, &event), 0);
	assert_readable(false);
}
END_TEST

/* Its socket stays open, as QEMU's does when it hangs at its end. */
START_TEST(no_answer_after_a_shutdown)
{
	say("{\"event\": \"STOP\"}\n{\"event\": \"SHUTDOWN\"}\n");
	op_init(&op, patient_ms(20000), -1);
	ck_assert_int_eq(qmp_execute(qmp, "query-status", NULL, NULL, &op), -ECONNRESET);
	ck_assert_int_eq(op.err.kind, ERR_VMM);
	ck_assert_ptr_nonnull(strstr(op.err.msg, "does not answer query-status"));
	assert_event("STOP");
	assert_event("SHUTDOWN");
	assert_no_event();
	op_init(&op, patient_ms(20000), -1);
	ck_assert_int_eq(qmp_execute(qmp, "stop", NULL, NULL, &op), -ECONNRESET);
}
END_TEST

/* What it answered before it said so counts. */
START_TEST(answer_before_a_shutdown)
{
	say("{\"return\": {}, \"id\": 1}\n{\"event\": \"SHUTDOWN\"}\n");
	ck_assert_int_eq(qmp_execute(qmp, "quit", NULL, NULL, &op), 0);
}
END_TEST

START_TEST(byte_by_byte)
{
	static const char text[] = GREETING "\r\n{\"event\": \"A\"}\n{\"event\": \"B\"}\n";

	for (size_t i = 0; i < sizeof(text) - 1; i++)
		ck_assert_int_eq(qmp_feed(qmp, &text[i], 1), 0);
	assert_event("A");
	assert_event("B");
	assert_no_event();
}
END_TEST

/* A peer that does not read: the command waits for room, and the deadline ends that too. */
START_TEST(peer_that_does_not_read)
{
	auto_free char *big = xcalloc(1, 1000001);
	json_t *args;

	memset(big, 'x', 1000000);
	args = json_pack("{ss}", "x", big);
	op_init(&op, 50, -1);
	ck_assert_int_eq(qmp_execute(qmp, "big", args, NULL, &op), -ETIMEDOUT);
	op_init(&op, 50, -1);
	ck_assert_int_lt(qmp_execute(qmp, "stop", NULL, NULL, &op), 0);
	json_decref(args);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("vmm_qmp");
	TCase *t = tcase_create("qmp");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 30);
	tcase_add_test(t, handshake);
	tcase_add_test(t, command_on_the_wire);
	tcase_add_test(t, command_with_arguments);
	tcase_add_test(t, events_between);
	tcase_add_test(t, events_without_command);
	tcase_add_test(t, newest_events_are_kept);
	tcase_add_test(t, refusal);
	tcase_add_test(t, commands_that_are_sent_together);
	tcase_add_test(t, the_first_refusal_is_told);
	tcase_add_test(t, commands_that_nobody_waits_for);
	tcase_add_test(t, late_reply_is_dropped);
	tcase_add_test(t, deadline_before_the_greeting);
	tcase_add_test(t, cancelled);
	tcase_add_loop_test(t, garbage_breaks_it, 0, (int)ARRAY_SIZE(garbage));
	tcase_add_test(t, oversize_line);
	tcase_add_test(t, end_of_connection);
	tcase_add_test(t, no_answer_after_a_shutdown);
	tcase_add_test(t, answer_before_a_shutdown);
	tcase_add_test(t, byte_by_byte);
	tcase_add_test(t, peer_that_does_not_read);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
