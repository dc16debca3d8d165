/* SPDX-License-Identifier: Apache-2.0 */
/*
 * viv-tls: the part of vivd that speaks TLS, in a process of its own: it alone has the private key
 * and OpenSSL's protocol code in its memory. vivd starts it; nobody else does.
 */
#include "base/fd.h"
#include "base/parse.h"
#include "base/str.h"
#include "tls/context.h"
#include "tls/make.h"
#include "tls/serve.h"
#include "viv-config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

enum { CONNECTIONS_MAX = 65536 };

static const char usage[] = "Usage:\n"
			    "  viv-tls serve MAX [DOMAIN]    as vivd starts it\n"
			    "  viv-tls make DIR DOMAIN       as `vivd cert` starts it\n"
			    "  viv-tls term CERT [DOMAIN]    as the doctor starts it\n"
			    "  viv-tls --help | --version\n";

static int run_serve(int argc, char **argv, struct err *e)
{
	struct tls_serve_spec spec = { .domain = argc > 3 ? argv[3] : NULL };
	uint64_t max;

	if (argc < 3 || argc > 4 || parse_u64(argv[2], 1, CONNECTIONS_MAX, &max) < 0)
		return err_set(e, ERR_INVALID, "serve needs a number of connections, 1 to %d",
			       CONNECTIONS_MAX);
	spec.max = (unsigned)max;
	return tls_serve(&spec, e);
}

/* "<seconds since 1970 of its end> <1 if it is for names under the domain, else 0>" */
static int run_term(const char *cert, const char *domain, struct err *e)
{
	auto_close int fd = open(cert, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct tls_term term;
	int r;

	if (fd < 0)
		return err_errno(e, errno, "open %s", cert);
	r = tls_term_read(fd, domain, &term, e);
	if (r < 0)
		return r;
	printf("%lld %d\n", (long long)MAX(term.not_after_s, 0), term.covers);
	return fflush(stdout) != 0 ? err_errno(e, errno, "write to stdout") : 0;
}

static int run(int argc, char **argv, struct err *e)
{
	if (argc > 1 && streq(argv[1], "serve"))
		return run_serve(argc, argv, e);
	if (argc == 4 && streq(argv[1], "make"))
		return tls_make(argv[2], argv[3], e);
	if ((argc == 3 || argc == 4) && streq(argv[1], "term"))
		return run_term(argv[2], argv[3], e);
	return err_set(e, ERR_INVALID, "vivd starts this program; see vivd(8)");
}

int main(int argc, char **argv)
{
	struct err e = { 0 };

	if (argc == 2 && (streq(argv[1], "--help") || streq(argv[1], "-h"))) {
		fputs(usage, stdout);
		return 0;
	}
	if (argc == 2 && streq(argv[1], "--version")) {
		printf("viv-tls %s\n", VIV_VERSION);
		return 0;
	}
	if (run(argc, argv, &e) == 0)
		return 0;
	fprintf(stderr, "viv-tls: %s\n", e.msg);
	return 1;
}
