/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reader of multipart/form-data (RFC 7578, RFC 2046 section 5.1), in any pieces and of any length:
 * of a body nothing is kept but the headers of the current part. No I/O.
 */
#pragma once

#include "base/buf.h"

enum {
	MULTIPART_BOUNDARY_MAX = 70,
	MULTIPART_HEAD_MAX = 16384, /* bytes of all headers of one part */
};

/* What was found; the caller goes on until MORE. */
enum multipart_event {
	MULTIPART_MORE, /* all bytes are used up */
	MULTIPART_PART, /* the headers of a part are complete: multipart_param() reads them */
	MULTIPART_DATA, /* bytes of the part */
	MULTIPART_DONE, /* the part is complete */
	MULTIPART_END,  /* so is the whole; what follows is ignored */
};

struct multipart {
	int state;
	char delimiter[4 + MULTIPART_BOUNDARY_MAX + 1]; /* CR LF "--" boundary */
	size_t len;                                     /* of the delimiter */
	size_t matched;                                 /* bytes of it that came last */
	size_t virtual; /* of these, what is no data if it is none */
	bool in_part;
	struct buf head;
	char *disposition; /* the part's Content-Disposition; NULL = none */
};

/**
 * multipart_init() - start reading
 * @content_type:	of the request, with the boundary
 *
 * Return: 0; -EINVAL without a usable boundary. multipart_done() frees.
 */
must_check int multipart_init(struct multipart *m, const char *content_type);

/**
 * multipart_next() - read on
 * @p, @n:	the bytes left; moved on by what was used
 * @out:	bytes of the part after MULTIPART_DATA: within @p or the reader, borrowed until the
 *		next call
 *
 * Return: enum multipart_event; -EBADMSG what follows a boundary is neither its end nor a part, or
 * a header is none; -EMSGSIZE the headers of a part are over MULTIPART_HEAD_MAX; -ENOMEM.
 */
must_check int multipart_next(struct multipart *m, const char **p, size_t *n, const char **out,
			      size_t *out_n);

/** multipart_is_complete() - whether the last boundary came */
bool multipart_is_complete(const struct multipart *m);

/**
 * multipart_param() - a parameter of the current part's Content-Disposition ("name", "filename")
 * @out:	new memory that the caller frees; unchanged when absent
 *
 * Return: 1 found; 0 absent; -ENOMEM.
 */
must_check int multipart_param(const struct multipart *m, const char *name, char **out);

/** multipart_done() - free; idempotent on a zeroed one */
void multipart_done(struct multipart *m);
