/* SPDX-License-Identifier: Apache-2.0 */
/* viv-tls without vivd: certificates, and connections whose client is a thread of the test. */
#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "tls/conn.h"
#include "tls/context.h"
#include "tls/make.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char domain[] = "box.example.org";
enum { MUCH_BYTES = 4 << 20, PEM_TOO_LARGE = 300 << 10 };

static char dir[] = "/tmp/viv-tls-XXXXXX";

static char *path_of(const char *set, const char *file)
{
	return str_printf("%s/%s/%s", dir, set, file);
}

static void setup(void)
{
	static const char *const sets[] = { "one", "two" };
	struct sigaction ignore = { .sa_handler = SIG_IGN };

	ck_assert_int_eq(sigaction(SIGPIPE, &ignore, NULL), 0); /* as viv-tls does */
	ck_assert_ptr_nonnull(mkdtemp(dir));
	for (size_t i = 0; i < ARRAY_SIZE(sets); i++) {
		auto_free char *set = str_printf("%s/%s", dir, sets[i]);
		struct err e = { 0 };

		ck_assert_msg(tls_make(set, domain, &e) == 0, "%s", e.msg);
	}
}

static void teardown(void)
{
	ck_assert_int_eq(file_remove_tree_at(AT_FDCWD, dir), 0);
}

static int open_file(const char *set, const char *file)
{
	auto_free char *path = path_of(set, file);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	ck_assert_msg(fd >= 0, "%s", path);
	return fd;
}

static int load(int cert, int key, const char *for_domain, struct tls_identity *out, struct err *e)
{
	auto_close int cert_fd = cert;
	auto_close int key_fd = key;

	return tls_identity_load(cert_fd, key_fd, for_domain, out, e);
}

static void refused(int cert, int key, const char *why)
{
	struct tls_identity id = { .ctx = NULL };
	struct err e = { 0 };

	ck_assert_int_lt(load(cert, key, domain, &id, &e), 0);
	ck_assert_int_eq(e.kind, ERR_INVALID);
	ck_assert_msg(strstr(e.msg, why) != NULL, "no '%s' in: %s", why, e.msg);
	ck_assert_ptr_null(id.ctx);
}

/* A file of some bytes, and the number of times that they are in it. */
static int made_of(const char *bytes, size_t times)
{
	auto_free char *path = path_of("one", "made");
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	for (size_t i = 0; i < times; i++)
		ck_assert_int_eq(fd_write_all(fd, bytes, strlen(bytes)), 0);
	return fd;
}

START_TEST(test_what_is_made_can_be_used)
{
	struct tls_identity id = { .ctx = NULL };
	auto_free char *key = path_of("one", "key.pem");
	auto_close int cert = open_file("one", "cert.pem");
	struct tls_term term = { 0 };
	struct err e = { 0 };
	struct stat st;

	ck_assert_msg(load(open_file("one", "cert.pem"), open_file("one", "key.pem"), domain, &id,
			   &e) == 0,
		      "%s", e.msg);
	ck_assert(id.term.covers && id.term.not_after_s > (int64_t)time(NULL));
	ck_assert_int_eq(stat(key, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	/* The doctor asks without the key; names of another domain are not covered. */
	ck_assert_int_eq(tls_term_read(cert, domain, &term, &e), 0);
	ck_assert(term.covers && term.not_after_s == id.term.not_after_s);
	ck_assert_int_eq(tls_term_read(cert, "example.org", &term, &e), 0);
	ck_assert(!term.covers);
	ck_assert_int_eq(tls_term_read(cert, NULL, &term, &e), 0);
	ck_assert(term.covers);
	tls_identity_done(&id);
	tls_identity_done(&id); /* idempotent */
}
END_TEST

START_TEST(test_what_is_of_no_use_is_refused)
{
	static const char begin[] = "-----BEGIN CERTIFICATE-----\nAAAA\n";

	refused(open_file("one", "cert.pem"), open_file("two", "key.pem"), "use the key");
	refused(open_file("one", "key.pem"), open_file("one", "key.pem"), "read the certificate");
	refused(open_file("one", "cert.pem"), open_file("one", "cert.pem"), "read the key");
	refused(made_of("", 0), open_file("one", "key.pem"), "read the certificate");
	refused(made_of(begin, 1), open_file("one", "key.pem"), "read the certificate");
	refused(made_of("0123456789", PEM_TOO_LARGE / 10), open_file("one", "key.pem"), "larger");
}
END_TEST

/* What a client does, on a thread of its own; both ends block there. */
struct client {
	SSL_CTX *ctx;
	int tls;
	int clear;
	bool (*run)(struct client *c, SSL *ssl);
	bool well;
};

static void *client_main(void *arg)
{
	struct client *c = arg;
	SSL *ssl = SSL_new(c->ctx);

	SSL_set_fd(ssl, c->tls);
	c->well = c->run(c, ssl);
	SSL_free(ssl);
	fd_close(&c->tls);
	fd_close(&c->clear);
	return NULL;
}

/* Serves one connection with this client until it has ended. Return: whether all went well. */
static bool serve(bool (*run)(struct client *c, SSL *ssl))
{
	struct client c = { .ctx = SSL_CTX_new(TLS_client_method()), .run = run };
	struct tls_identity id = { .ctx = NULL };
	struct tls_conn_list list = { .first = NULL };
	struct err e = { 0 };
	pthread_t thread;
	uv_loop_t loop;
	int tls[2];
	int clear[2];

	ck_assert_int_eq(
		load(open_file("one", "cert.pem"), open_file("one", "key.pem"), domain, &id, &e),
		0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, tls), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, clear), 0);
	ck_assert_int_eq(fd_set_nonblock(tls[0], true), 0);
	ck_assert_int_eq(fd_set_nonblock(clear[0], true), 0);
	c.tls = tls[1];
	c.clear = clear[1];
	ck_assert_int_eq(uv_loop_init(&loop), 0);
	tls_conn_new(&loop, &list, id.ctx, tls[0], clear[0]);
	ck_assert_uint_eq(list.n, 1);
	tls_identity_done(&id); /* it lives on in the connection */
	ck_assert_int_eq(pthread_create(&thread, NULL, client_main, &c), 0);
	ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
	ck_assert_uint_eq(list.n, 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_int_eq(uv_loop_close(&loop), 0); /* no handle was forgotten */
	SSL_CTX_free(c.ctx);
	return c.well;
}

static bool both_ways(struct client *c, SSL *ssl)
{
	char text[16] = "";

	if (SSL_connect(ssl) != 1 || SSL_write(ssl, "question", 8) != 8 ||
	    fd_read_full(c->clear, text, 8) != 8 || !streq(text, "question"))
		return false;
	/* The client has said all: an end, and the answer still comes. */
	if (SSL_shutdown(ssl) < 0 || read(c->clear, text, 1) != 0 ||
	    fd_write_all(c->clear, "answer", 6) < 0 || shutdown(c->clear, SHUT_WR) < 0)
		return false;
	memset(text, 0, sizeof(text));
	return SSL_read(ssl, text, sizeof(text)) == 6 && streq(text, "answer") &&
	       SSL_read(ssl, text, 1) == 0 && SSL_get_error(ssl, 0) == SSL_ERROR_ZERO_RETURN;
}

START_TEST(test_both_ways)
{
	ck_assert(serve(both_ways));
}
END_TEST

struct writer {
	int fd;
	const char *bytes;
};

static void *write_much(void *arg)
{
	struct writer *w = arg;

	ignore_err(fd_write_all(w->fd, w->bytes, MUCH_BYTES)); /* the reader misses it */
	shutdown(w->fd, SHUT_WR);
	return NULL;
}

/* More than all buffers between hold. */
static bool much(struct client *c, SSL *ssl)
{
	auto_free char *bytes = xcalloc(1, MUCH_BYTES);
	auto_free char *back = xcalloc(1, MUCH_BYTES);
	struct writer w = { .fd = c->clear, .bytes = bytes };
	size_t n = 0;
	pthread_t thread;
	int r = 0;

	for (size_t i = 0; i < MUCH_BYTES; i++)
		bytes[i] = (char)(i * 7 + i / 4096);
	if (SSL_connect(ssl) != 1 || pthread_create(&thread, NULL, write_much, &w) != 0)
		return false;
	while (n < MUCH_BYTES && (r = SSL_read(ssl, back + n, (int)(MUCH_BYTES - n))) > 0)
		n += (size_t)r;
	pthread_join(thread, NULL);
	return n == MUCH_BYTES && memcmp(bytes, back, MUCH_BYTES) == 0 &&
	       SSL_read(ssl, back, 1) == 0 && SSL_shutdown(ssl) >= 0;
}

START_TEST(test_much)
{
	ck_assert(serve(much));
}
END_TEST

/* Whether there is no connection, and nobody behind it hears of one. */
static bool gets_nowhere(struct client *c, SSL *ssl)
{
	char byte;

	return SSL_connect(ssl) != 1 && read(c->clear, &byte, 1) <= 0;
}

static bool too_old(struct client *c, SSL *ssl)
{
	return SSL_set_max_proto_version(ssl, TLS1_1_VERSION) == 1 && gets_nowhere(c, ssl);
}

static bool of_http2_only(struct client *c, SSL *ssl)
{
	return SSL_set_alpn_protos(ssl, (const unsigned char *)"\x02h2", 3) == 0 &&
	       gets_nowhere(c, ssl);
}

static bool without_secrecy(struct client *c, SSL *ssl)
{
	return SSL_set_max_proto_version(ssl, TLS1_2_VERSION) == 1 &&
	       SSL_set_cipher_list(ssl, "AES128-GCM-SHA256") == 1 && gets_nowhere(c, ssl);
}

static bool plain_http(struct client *c, SSL *ssl)
{
	static const char request[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
	char bytes[256];

	(void)ssl;
	if (fd_write_all(c->tls, request, sizeof(request) - 1) < 0)
		return false;
	while (read(c->tls, bytes, sizeof(bytes)) > 0)
		; /* an alert */
	return read(c->clear, bytes, 1) <= 0;
}

START_TEST(test_who_gets_nowhere)
{
	ck_assert(serve(too_old));
	ck_assert(serve(of_http2_only));
	ck_assert(serve(without_secrecy));
	ck_assert(serve(plain_http));
}
END_TEST

/* Without its close_notify: it went away, and who answers it is told so. */
static bool breaks_off(struct client *c, SSL *ssl)
{
	char byte;

	if (SSL_connect(ssl) != 1 || SSL_write(ssl, "x", 1) != 1 || read(c->clear, &byte, 1) != 1)
		return false;
	fd_close(&c->tls);
	return read(c->clear, &byte, 1) <= 0;
}

START_TEST(test_a_client_that_goes_away)
{
	ck_assert(serve(breaks_off));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("tls");
	TCase *tc = tcase_create("tls");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_what_is_made_can_be_used);
	tcase_add_test(tc, test_what_is_of_no_use_is_refused);
	tcase_add_test(tc, test_both_ways);
	tcase_add_test(tc, test_much);
	tcase_add_test(tc, test_who_gets_nowhere);
	tcase_add_test(tc, test_a_client_that_goes_away);
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
