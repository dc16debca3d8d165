/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/make.h"

#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "tls/context.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	SERIAL_BYTES = 16,
	DAYS = 397, /* what clients accept of certificates at most is a little more */
	DAY_S = 24 * 60 * 60,
	EARLIER_S = 60 * 60, /* guests' and others' clocks may be late */
};

/* A certificate and its key. */
struct pair {
	X509 *cert;    /* owned */
	EVP_PKEY *key; /* owned */
};

static void pair_done(struct pair *p)
{
	X509_free(p->cert);
	EVP_PKEY_free(p->key); /* wipes it */
	*p = (struct pair){ NULL };
}

struct extension {
	int nid;
	const char *value;
};

static int add_extensions(X509 *cert, X509 *issuer, const struct extension *list, struct err *e)
{
	X509V3_CTX ctx;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	for (; list->value != NULL; list++) {
		X509_EXTENSION *x = X509V3_EXT_conf_nid(NULL, &ctx, list->nid, list->value);
		int added = x != NULL && X509_add_ext(cert, x, -1);

		X509_EXTENSION_free(x);
		if (!added)
			return tls_error(e, "add an extension to the certificate");
	}
	return 0;
}

static int set_serial(X509 *cert)
{
	unsigned char bytes[SERIAL_BYTES];
	BIGNUM *n;
	bool ok;

	if (RAND_bytes(bytes, sizeof(bytes)) != 1)
		return -EIO;
	bytes[0] = (bytes[0] & 0x7f) | 0x40; /* positive, and of this length */
	n = BN_bin2bn(bytes, sizeof(bytes), NULL);
	ok = n != NULL && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(cert)) != NULL;
	BN_free(n);
	return ok ? 0 : -ENOMEM;
}

static bool set_name(X509_NAME *name, const char *text)
{
	return X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)text,
					  -1, -1, 0) == 1;
}

/* A certificate with all but extensions and signature. */
static int pair_begin(struct pair *p, const char *name, X509 *issuer, struct err *e)
{
	p->key = EVP_EC_gen("P-256");
	p->cert = X509_new();
	if (p->key == NULL || p->cert == NULL || set_serial(p->cert) < 0)
		return tls_error(e, "make a key and a certificate");
	if (X509_set_version(p->cert, X509_VERSION_3) != 1 ||
	    X509_gmtime_adj(X509_getm_notBefore(p->cert), -(long)EARLIER_S) == NULL ||
	    X509_gmtime_adj(X509_getm_notAfter(p->cert), (long)DAYS * DAY_S) == NULL ||
	    X509_set_pubkey(p->cert, p->key) != 1 ||
	    !set_name(X509_get_subject_name(p->cert), name) ||
	    X509_set_issuer_name(p->cert,
				 X509_get_subject_name(issuer != NULL ? issuer : p->cert)) != 1)
		return tls_error(e, "fill in the certificate");
	return 0;
}

static int sign(struct pair *p, EVP_PKEY *key, struct err *e)
{
	return X509_sign(p->cert, key, EVP_sha256()) > 0 ? 0 : tls_error(e, "sign the certificate");
}

static int make_authority(struct pair *ca, const char *domain, struct err *e)
{
	auto_free char *only = str_printf("critical,permitted;DNS:%s", domain);
	const struct extension extensions[] = {
		{ NID_basic_constraints, "critical,CA:TRUE,pathlen:0" },
		{ NID_key_usage, "critical,keyCertSign,cRLSign" },
		{ NID_subject_key_identifier, "hash" },
		{ NID_name_constraints, only },
		{ 0, NULL },
	};
	int r = pair_begin(ca, "Vivarium, this machine's own authority", NULL, e);

	if (r == 0)
		r = add_extensions(ca->cert, ca->cert, extensions, e);
	return r < 0 ? r : sign(ca, ca->key, e);
}

static int make_leaf(struct pair *leaf, const struct pair *ca, const char *domain, struct err *e)
{
	auto_free char *names = str_printf("DNS:%s,DNS:*.%s", domain, domain);
	const struct extension extensions[] = {
		{ NID_basic_constraints, "critical,CA:FALSE" },
		{ NID_key_usage, "critical,digitalSignature" },
		{ NID_ext_key_usage, "serverAuth" },
		{ NID_subject_alt_name, names },
		{ NID_subject_key_identifier, "hash" },
		{ NID_authority_key_identifier, "keyid" },
		{ 0, NULL },
	};
	int r = pair_begin(leaf, "Vivarium sandboxes", ca->cert, e);

	if (r == 0)
		r = add_extensions(leaf->cert, ca->cert, extensions, e);
	return r < 0 ? r : sign(leaf, ca->key, e);
}

/* Writes what @put puts into memory, and wipes that. */
static int write_pem(int dirfd, const char *name, mode_t mode, const struct pair *p, bool key,
		     struct err *e)
{
	BIO *out = BIO_new(BIO_s_secmem());
	char *text = NULL;
	long n = 0;
	int ok = out != NULL &&
		 (key ? PEM_write_bio_PKCS8PrivateKey(out, p->key, NULL, NULL, 0, NULL, NULL)
		      : PEM_write_bio_X509(out, p->cert));
	int r;

	if (ok != 1) {
		BIO_free(out);
		return tls_error(e, "write a certificate or a key");
	}
	n = BIO_get_mem_data(out, &text);
	r = file_write_atomic_at(dirfd, name, text, (size_t)n, mode);
	BIO_free(out);
	return r < 0 ? err_errno(e, -r, "write %s", name) : 0;
}

static int write_all(int dirfd, const struct pair *ca, const struct pair *leaf, struct err *e)
{
	int r = write_pem(dirfd, "key.pem", 0600, leaf, true, e);

	if (r == 0)
		r = write_pem(dirfd, "cert.pem", 0644, leaf, false, e);
	return r < 0 ? r : write_pem(dirfd, "ca.pem", 0644, ca, false, e);
}

/* Puts a complete directory in the place of one that may be there, which goes. */
static int put_in_place(const char *fresh, const char *dir, struct err *e)
{
	int r;

	if (rename(fresh, dir) == 0)
		return 0;
	if (errno != ENOTEMPTY && errno != EEXIST)
		return err_errno(e, errno, "put %s in place", dir);
	if (renameat2(AT_FDCWD, fresh, AT_FDCWD, dir, RENAME_EXCHANGE) < 0)
		return err_errno(e, errno, "put %s in place", dir);
	r = file_remove_tree_at(AT_FDCWD, fresh);
	return r < 0 ? err_errno(e, -r, "remove the old certificate in %s", fresh) : 0;
}

/* Made aside, so that certificate and key fit together whenever somebody looks. */
static int write_dir(const char *dir, const struct pair *ca, const struct pair *leaf, struct err *e)
{
	auto_free char *fresh = str_printf("%s.new", dir);
	auto_close int dirfd = -1;
	int r = file_remove_tree_at(AT_FDCWD, fresh);

	if (r < 0 && r != -ENOENT)
		return err_errno(e, -r, "remove %s", fresh);
	r = file_mkdirs(fresh);
	if (r < 0)
		return err_errno(e, -r, "make %s", fresh);
	dirfd = open(fresh, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return err_errno(e, errno, "open %s", fresh);
	r = write_all(dirfd, ca, leaf, e);
	return r < 0 ? r : put_in_place(fresh, dir, e);
}

int tls_make(const char *dir, const char *domain, struct err *e)
{
	cleanup(pair_done) struct pair ca = { NULL };
	cleanup(pair_done) struct pair leaf = { NULL };
	int r = make_authority(&ca, domain, e);

	if (r == 0)
		r = make_leaf(&leaf, &ca, domain, e);
	EVP_PKEY_free(take_ptr(&ca.key));
	return r < 0 ? r : write_dir(dir, &ca, &leaf, e);
}
