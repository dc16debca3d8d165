/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/context.h"

#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { PEM_MAX_BYTES = 256 << 10 };

/* The text of a PEM file; wiped when it goes, for it may be a key. */
struct pem {
	char *text;
	size_t n;
};

static void pem_done(struct pem *p)
{
	if (p->text != NULL)
		explicit_bzero(p->text, PEM_MAX_BYTES);
	free(take_ptr(&p->text));
}

static int pem_read(int fd, const char *what, struct pem *out, struct err *e)
{
	cleanup(pem_done) struct pem p = { .text = xcalloc(1, PEM_MAX_BYTES) };
	ssize_t r;

	do {
		r = pread(fd, p.text + p.n, PEM_MAX_BYTES - p.n, (off_t)p.n);
		if (r < 0 && errno != EINTR)
			return err_errno(e, errno, "read the %s", what);
		p.n += (size_t)MAX(r, 0);
	} while (r != 0 && p.n < PEM_MAX_BYTES);
	if (p.n == PEM_MAX_BYTES)
		return err_set(e, ERR_INVALID, "the %s is larger than %d bytes", what,
			       PEM_MAX_BYTES - 1);
	*out = (struct pem){ .text = take_ptr(&p.text), .n = p.n };
	return 0;
}

int tls_error(struct err *e, const char *what)
{
	const char *why = ERR_reason_error_string(ERR_peek_last_error());

	ERR_clear_error();
	return err_set(e, ERR_INVALID, "%s: %s", what, why != NULL ? why : "no reason given");
}

static void bio_free(BIO **b)
{
	BIO_free(*b);
}

static void x509_free(X509 **x)
{
	X509_free(*x);
}

static void key_free(EVP_PKEY **k)
{
	EVP_PKEY_free(*k);
}

/* There is nobody to ask for a password. */
static int no_password(char *buf, int size, int rwflag, void *arg)
{
	(void)buf;
	(void)size;
	(void)rwflag;
	(void)arg;
	return 0;
}

static int64_t seconds_of(const ASN1_TIME *t)
{
	struct tm tm;

	return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

static bool covers(X509 *cert, const char *domain)
{
	auto_free char *name = domain != NULL ? str_printf("0-x.%s", domain) : NULL;

	return name == NULL || X509_check_host(cert, name, strlen(name), 0, NULL) == 1;
}

/* The rest of the file leads to a root. */
static int use_chain(SSL_CTX *ctx, BIO *in, struct err *e)
{
	X509 *next;

	while ((next = PEM_read_bio_X509(in, NULL, no_password, NULL)) != NULL) {
		if (SSL_CTX_add0_chain_cert(ctx, next) != 1) {
			X509_free(next);
			return tls_error(e, "use the certificate's chain");
		}
	}
	if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		return tls_error(e, "read the certificate's chain");
	ERR_clear_error();
	return 0;
}

/* The first of a file; the rest of it is left in @in. NULL with @e set. */
static X509 *first_certificate(BIO *in, struct err *e)
{
	X509 *cert = in != NULL ? PEM_read_bio_X509(in, NULL, no_password, NULL) : NULL;

	if (cert == NULL)
		tls_error(e, "read the certificate (PEM)");
	return cert;
}

static struct tls_term term_of(X509 *cert, const char *domain)
{
	return (struct tls_term){ .not_after_s = seconds_of(X509_get0_notAfter(cert)),
				  .covers = covers(cert, domain) };
}

static int use_certificate(struct tls_identity *id, int fd, const char *domain, struct err *e)
{
	cleanup(pem_done) struct pem pem = { .text = NULL };
	cleanup(bio_free) BIO *in = NULL;
	cleanup(x509_free) X509 *cert = NULL;
	int r = pem_read(fd, "certificate", &pem, e);

	if (r < 0)
		return r;
	in = BIO_new_mem_buf(pem.text, (int)pem.n);
	cert = first_certificate(in, e);
	if (cert == NULL)
		return -EINVAL;
	if (SSL_CTX_use_certificate(id->ctx, cert) != 1)
		return tls_error(e, "use the certificate");
	id->term = term_of(cert, domain);
	return use_chain(id->ctx, in, e);
}

int tls_term_read(int cert_fd, const char *domain, struct tls_term *out, struct err *e)
{
	cleanup(pem_done) struct pem pem = { .text = NULL };
	cleanup(bio_free) BIO *in = NULL;
	cleanup(x509_free) X509 *cert = NULL;
	int r = pem_read(cert_fd, "certificate", &pem, e);

	if (r < 0)
		return r;
	ERR_clear_error();
	in = BIO_new_mem_buf(pem.text, (int)pem.n);
	cert = first_certificate(in, e);
	if (cert == NULL)
		return -EINVAL;
	*out = term_of(cert, domain);
	return 0;
}

static int use_key(SSL_CTX *ctx, int fd, struct err *e)
{
	cleanup(pem_done) struct pem pem = { .text = NULL };
	cleanup(bio_free) BIO *in = NULL;
	cleanup(key_free) EVP_PKEY *key = NULL;
	int r = pem_read(fd, "key", &pem, e);

	if (r < 0)
		return r;
	in = BIO_new_mem_buf(pem.text, (int)pem.n);
	key = in != NULL ? PEM_read_bio_PrivateKey(in, NULL, no_password, NULL) : NULL;
	if (key == NULL)
		return tls_error(e, "read the key (PEM, without a password)");
	if (SSL_CTX_use_PrivateKey(ctx, key) != 1 || SSL_CTX_check_private_key(ctx) != 1)
		return tls_error(e, "use the key with the certificate");
	return 0;
}

/* http/1.1 is all that is spoken behind us; who insists on something else is told at once. */
static int select_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
			   const unsigned char *in, unsigned in_len, void *arg)
{
	static const unsigned char ours[] = "\x08http/1.1";
	unsigned char *found;
	int r;

	(void)ssl;
	(void)arg;
	r = SSL_select_next_proto(&found, out_len, ours, sizeof(ours) - 1, in, in_len);
	*out = found;
	return r == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int set_rules(SSL_CTX *ctx, struct err *e)
{
	static const char ciphers[] = "ECDHE+AESGCM:ECDHE+CHACHA20"; /* of TLS 1.2 */

	if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
	    SSL_CTX_set_cipher_list(ctx, ciphers) != 1)
		return tls_error(e, "set the rules of TLS");
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
					 SSL_OP_CIPHER_SERVER_PREFERENCE |
					 SSL_OP_PRIORITIZE_CHACHA);
	/* Idle connections hold no buffers; a write goes on from where the copy of it lies then. */
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
				      SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* tickets need no memory */
	SSL_CTX_set_alpn_select_cb(ctx, select_protocol, NULL);
	return 0;
}

int tls_identity_load(int cert_fd, int key_fd, const char *domain, struct tls_identity *out,
		      struct err *e)
{
	cleanup(tls_identity_done) struct tls_identity id = { .ctx = NULL };
	int r;

	ERR_clear_error();
	id.ctx = SSL_CTX_new(TLS_server_method());
	if (id.ctx == NULL)
		return tls_error(e, "make a TLS context");
	r = set_rules(id.ctx, e);
	if (r == 0)
		r = use_certificate(&id, cert_fd, domain, e);
	if (r == 0)
		r = use_key(id.ctx, key_fd, e);
	if (r < 0)
		return r;
	*out = id;
	id.ctx = NULL;
	return 0;
}

void tls_identity_done(struct tls_identity *id)
{
	SSL_CTX_free(take_ptr(&id->ctx));
}
