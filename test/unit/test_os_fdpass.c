/* SPDX-License-Identifier: Apache-2.0 */
#include "os/fdpass.h"

#include "base/fd.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int ends[2];

static void setup(void)
{
	int kind = SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK;

	ck_assert_int_eq(socketpair(AF_UNIX, kind, 0, ends), 0);
}

static void teardown(void)
{
	fd_close(&ends[0]);
	fd_close(&ends[1]);
}

/* The number that the next descriptor gets: the same before and after means that none was kept. */
static int next_fd(void)
{
	auto_close int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	return fd;
}

static bool same_file(int a, int b)
{
	struct stat of_a;
	struct stat of_b;

	ck_assert_int_eq(fstat(a, &of_a), 0);
	ck_assert_int_eq(fstat(b, &of_b), 0);
	return of_a.st_dev == of_b.st_dev && of_a.st_ino == of_b.st_ino;
}

/* Sends @n descriptors, more than fdpass_send() would. */
static void send_many(const char *text, const int *fds, size_t n)
{
	char control[CMSG_SPACE(8 * sizeof(int))] = { 0 };
	struct iovec io = { .iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text) };
	struct msghdr m = { .msg_iov = &io,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = CMSG_SPACE(n * sizeof(int)) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	ck_assert_uint_le(m.msg_controllen, sizeof(control));
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	ck_assert_int_eq(sendmsg(ends[0], &m, 0), (ssize_t)strlen(text));
}

START_TEST(descriptors_arrive)
{
	auto_close int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	auto_close int zero = open("/dev/zero", O_RDONLY); /* not close-on-exec: its copy is */
	const int sent[] = { null, zero };
	char text[4];

	for (size_t n = 0; n <= FDPASS_MAX; n++) {
		int got[FDPASS_MAX];

		ck_assert_int_eq(fdpass_send(ends[0], "word", 4, sent, n), 0);
		ck_assert_int_eq(fdpass_recv(ends[1], text, sizeof(text), got), 1);
		ck_assert_mem_eq(text, "word", 4);
		for (size_t i = 0; i < FDPASS_MAX; i++) {
			if (i >= n) {
				ck_assert_int_eq(got[i], -1);
				continue;
			}
			ck_assert(same_file(got[i], sent[i]));
			ck_assert_int_ne(got[i], sent[i]);
			ck_assert_int_eq(fcntl(got[i], F_GETFD), FD_CLOEXEC);
			fd_close(&got[i]);
		}
	}
}
END_TEST

START_TEST(messages_keep_their_bounds)
{
	int got[FDPASS_MAX];
	char text[2];

	ck_assert_int_eq(fdpass_send(ends[0], "ab", 2, NULL, 0), 0);
	ck_assert_int_eq(fdpass_send(ends[0], "cd", 2, NULL, 0), 0);
	ck_assert_int_eq(fdpass_recv(ends[1], text, 2, got), 1);
	ck_assert_mem_eq(text, "ab", 2);
	ck_assert_int_eq(fdpass_recv(ends[1], text, 2, got), 1);
	ck_assert_mem_eq(text, "cd", 2);
	ck_assert_int_eq(fdpass_recv(ends[1], text, 2, got), -EAGAIN);
	fd_close(&ends[0]);
	ck_assert_int_eq(fdpass_recv(ends[1], text, 2, got), 0);
}
END_TEST

/* A message of another size, or with more descriptors than there is place for, is refused, the next
 * one is read, and no descriptor of it is kept. */
START_TEST(strange_messages)
{
	auto_close int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	const int fds[] = { null, null, null, null };
	int next = next_fd();
	int got[FDPASS_MAX];
	char text[4];

	ck_assert_int_eq(fdpass_send(ends[0], "abc", 3, fds, 2), 0);
	ck_assert_int_eq(fdpass_send(ends[0], "abcde", 5, fds, 1), 0);
	send_many("abcd", fds, 3);
	send_many("abcd", fds, 4);
	ck_assert_int_eq(fdpass_send(ends[0], "good", 4, NULL, 0), 0);
	for (int i = 0; i < 4; i++) {
		ck_assert_int_eq(fdpass_recv(ends[1], text, sizeof(text), got), -EBADMSG);
		for (size_t k = 0; k < FDPASS_MAX; k++)
			ck_assert_int_eq(got[k], -1);
	}
	ck_assert_int_eq(fdpass_recv(ends[1], text, sizeof(text), got), 1);
	ck_assert_mem_eq(text, "good", 4);
	ck_assert_int_eq(next_fd(), next);
}
END_TEST

START_TEST(a_full_socket)
{
	auto_close int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int sent = 0;
	int got[FDPASS_MAX];
	char text[64] = { 0 };
	int r;

	while ((r = fdpass_send(ends[0], text, sizeof(text), &null, 1)) == 0)
		sent++;
	ck_assert_int_eq(r, -EAGAIN);
	ck_assert_int_gt(sent, 0);
	for (int i = 0; i < sent; i++) {
		ck_assert_int_eq(fdpass_recv(ends[1], text, sizeof(text), got), 1);
		fd_close(&got[0]);
	}
	ck_assert_int_eq(fdpass_recv(ends[1], text, sizeof(text), got), -EAGAIN);
}
END_TEST

/* No signal, and nothing is left of what could not be sent. */
START_TEST(a_peer_that_is_gone)
{
	auto_close int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int got[FDPASS_MAX];
	char text[4];

	fd_close(&ends[1]);
	ck_assert_int_eq(fdpass_send(ends[0], "word", 4, &null, 1), -EPIPE);
	ck_assert_int_eq(fdpass_recv(ends[0], text, sizeof(text), got), 0);
	ck_assert_int_eq(fdpass_send(null, "word", 4, NULL, 0), -ENOTSOCK);
	ck_assert_int_eq(fdpass_recv(null, text, sizeof(text), got), -ENOTSOCK);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("os_fdpass");
	TCase *c = tcase_create("os_fdpass");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, descriptors_arrive);
	tcase_add_test(c, messages_keep_their_bounds);
	tcase_add_test(c, strange_messages);
	tcase_add_test(c, a_full_socket);
	tcase_add_test(c, a_peer_that_is_gone);
	suite_add_tcase(s, c);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
