/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JSON of images: index, manifest and configuration of the OCI image specification (and of
 * Docker's registry, which differ in media types alone), and the manifest.json of `docker save`.
 * Whoever wrote it is not trusted; nothing but what is checked here comes out.
 */
#pragma once

#include "base/err.h"
#include "base/json.h"
#include "base/vec.h"

enum {
	OCI_DIGEST_SIZE = 65,       /* of a sha256 in hex */
	OCI_DOCUMENT_MAX = 4 << 20, /* bytes of a JSON */
	OCI_LAYERS_MAX = 512,
	OCI_USER_SIZE = 128,
	OCI_WORKDIR_SIZE = 256,
};
#define OCI_BYTES_ANY UINT64_MAX

/* A file of the image. */
struct oci_part {
	char *path;                   /* below the image's directory; owned */
	char sha256[OCI_DIGEST_SIZE]; /* "" = it is not said */
	uint64_t bytes;               /* OCI_BYTES_ANY = it is not said */
};
VEC_DEFINE(oci_parts, struct oci_part)

struct oci_manifest {
	struct oci_part config;
	struct oci_parts layers; /* lowest first */
};

struct oci_digest {
	char sha256[OCI_DIGEST_SIZE];
};
VEC_DEFINE(oci_digests, struct oci_digest)

struct oci_config {
	struct oci_digests diff_ids; /* of the layers, decompressed */
	json_t *image;               /* {env, entrypoint, cmd} for a template's manifest; owned */
	char user[OCI_USER_SIZE];    /* name or number, without group; "" = root */
	char workdir[OCI_WORKDIR_SIZE]; /* absolute; "/" = it is not said */
};

/** oci_part_done() - free what it owns; idempotent */
void oci_part_done(struct oci_part *part);

/** oci_manifest_done() - free what it owns; idempotent */
void oci_manifest_done(struct oci_manifest *m);

/** oci_config_done() - free what it owns; idempotent */
void oci_config_done(struct oci_config *c);

/**
 * oci_index_parse() - choose the one image for linux and an architecture from an index
 * @arch:	as Go calls it: "amd64"
 * @out:	its manifest, or an index again; oci_part_done() frees it
 *
 * Return: 1 it is an index again; 0 it is a manifest; -errno with @e set.
 */
must_check int oci_index_parse(const char *text, size_t n, const char *arch, struct oci_part *out,
			       struct err *e);

/** oci_manifest_parse() - a manifest; oci_manifest_done() frees @out. Return: 0; -errno with @e set
 */
must_check int oci_manifest_parse(const char *text, size_t n, struct oci_manifest *out,
				  struct err *e);

/** oci_saved_parse() - the one image of `docker save`: manifest.json; as oci_manifest_parse() */
must_check int oci_saved_parse(const char *text, size_t n, struct oci_manifest *out, struct err *e);

/**
 * oci_config_parse() - an image's configuration
 * @arch:	the one that it has to be for
 *
 * Return: 0, oci_config_done() frees @out; -errno with @e set.
 */
must_check int oci_config_parse(const char *text, size_t n, const char *arch,
				struct oci_config *out, struct err *e);
