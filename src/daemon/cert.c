/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/cert.h"

#include "base/op.h"
#include "base/str.h"
#include "daemon/address.h"
#include "daemon/program.h"
#include "os/spawn.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static const char default_listen[] = "127.0.0.1:8443";

static int check_domain(const char *name, struct err *e)
{
	const char *dot = strchr(name, '.');

	if (name[0] != '\0' && dot != NULL && dot[1] != '\0')
		return 0;
	return err_set(e, ERR_INVALID,
		       "say for which domain: vivd cert --domain=vivarium.localhost. It has a dot, "
		       "since clients accept no *.%s",
		       name[0] != '\0' ? name : "NAME");
}

/* What a client adds to the domain: a port that is not 443. */
static char *port_suffix(const struct config *c)
{
	const char *colon = strchr(c->domain, ':');
	struct address a;

	if (colon != NULL)
		return str_dup(colon);
	if (address_parse(c->tls_listen != NULL ? c->tls_listen : default_listen, &a) < 0 ||
	    address_port(&a) == 443)
		return str_dup("");
	return str_printf(":%u", address_port(&a));
}

static int say_what_next(const struct config *c, const char *name, const char *dir)
{
	auto_free char *port = port_suffix(c);

	printf("# Settings of vivd (/etc/vivarium/vivd.conf); then restart it, or send it SIGHUP "
	       "if it\n"
	       "# serves TLS already:\n"
	       "#   domain = %s\n#   tls_listen = %s\n"
	       "# The names have to lead here: *.localhost does with most resolvers, others need "
	       "a\n"
	       "# wildcard entry in the DNS. Clients, with an API key (viv key create):\n"
	       "sudo cat %s/ca.pem > vivarium-ca.pem\n"
	       "export E2B_DOMAIN=%s%s\n"
	       "export NODE_EXTRA_CA_CERTS=$PWD/vivarium-ca.pem # node\n"
	       "export SSL_CERT_FILE=$PWD/vivarium-ca.pem # Python, curl: in place of all others\n"
	       "export E2B_API_KEY=$(sudo viv key create)\n",
	       c->domain, c->tls_listen != NULL ? c->tls_listen : default_listen, dir, name, port);
	return fflush(stdout) != 0 ? -EIO : 0;
}

int cert_run(const struct config *c, struct err *e)
{
	auto_free char *name =
		c->domain == NULL ? str_dup("")
				  : str_printf("%.*s", (int)strcspn(c->domain, ":"), c->domain);
	auto_free char *program = program_find("viv-tls");
	auto_free char *dir = str_printf("%s/tls", c->state_dir);
	auto_free char *cert = str_printf("%s/cert.pem", dir);
	const char *argv[] = { program, "make", dir, name, NULL };
	struct op op;
	int r = check_domain(name, e);

	if (r < 0)
		return r;
	if (!c->force && access(cert, F_OK) == 0)
		return err_set(
			e, ERR_CONFLICT,
			"%s is there already; --force makes another, which clients have to be "
			"told to trust anew",
			cert);
	umask(0022);
	op_init(&op, 0, -1);
	if (spawn_run(argv, NULL, NULL, &op) < 0) {
		*e = op.err;
		return err_wrap(e, "make a certificate in %s", dir);
	}
	return say_what_next(c, name, dir);
}
