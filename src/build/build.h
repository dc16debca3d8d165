/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How kernels and templates come into a state directory. It is the work of a program of its own,
 * viv-build, so that the daemon holds neither the code nor the libraries that it takes.
 */
#pragma once

#include "template/kernel.h"
#include "template/template.h"

/* Says what is being done: step @at of @of, and a line of detail that replaces the one before. */
struct progress {
	void (*step)(unsigned at, unsigned of, const char *what, void *arg);
	void (*detail)(const char *text, void *arg);
	void *arg;
};

/**
 * kernel_fetch() - get Debian's cloud kernel from the package archive and unpack it into kernels/
 *
 * Return: 0 it is there, with @out filled; -errno with op->err set.
 */
must_check int kernel_fetch(const char *state_dir, struct kernel *out,
			    const struct progress *progress, struct op *op);

struct template_build_spec {
	const char *state_dir;
	const char *name;   /* "base" */
	uint64_t free_mib;  /* room left in the image beyond its contents */
	const char *mirror; /* Debian mirror or sources file; NULL = as the host is set up */
};

/**
 * template_build_base() - make the Debian 12 base template with mmdebstrap and mke2fs
 *
 * Nothing is left behind by a failure or a kill but a temporary directory that the next build
 * removes. Thread: worker or main. Return: 0; -errno with op->err set.
 */
must_check int template_build_base(const struct template_build_spec *spec,
				   const struct progress *progress, struct op *op);

struct template_import_spec {
	const char *state_dir;
	const char *name;
	const char *from;  /* a tar (compressed or not), or a directory that is an OCI layout */
	uint64_t free_mib; /* room left in the image beyond its contents */
};

/* What came of an import, for people. */
struct import_report {
	unsigned layers;           /* 0 = it was a root file system, not an image */
	char lost_user[64];        /* the image's user, which it does not have; "" = all is well */
	uint64_t devices_left_out; /* for want of the right to make them */
	uint64_t xattrs_left_out;  /* for want of a file system that takes them */
};

/**
 * template_import() - make a template from an image: of `docker save`, an OCI layout, or a root
 * file system in a tar
 *
 * Nothing is left behind by a failure or a kill but a temporary directory that the next import of
 * this name removes. Thread: worker or main. Return: 0; -errno with op->err set.
 */
must_check int template_import(const struct template_import_spec *spec, struct import_report *out,
			       const struct progress *progress, struct op *op);
