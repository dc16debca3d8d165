/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/gunzip.h"

#include <errno.h>
#include <stdlib.h>
#include <zlib.h>

enum {
	OUT_BYTES = 65536,
	GZIP_WINDOW = 16 + MAX_WBITS, /* zlib's word for: gzip, any window */
};

struct gunzip {
	z_stream z;
	bool complete; /* at the end of a member */
	char out[OUT_BYTES];
};

struct gunzip *gunzip_new(void)
{
	struct gunzip *g = calloc(1, sizeof(*g));

	if (g != NULL && inflateInit2(&g->z, GZIP_WINDOW) != Z_OK) {
		free(g);
		return NULL;
	}
	return g;
}

void gunzip_free(struct gunzip *g)
{
	if (g != NULL)
		inflateEnd(&g->z);
	free(g);
}

bool gunzip_is_complete(const struct gunzip *g)
{
	return g->complete;
}

/* Decodes until the output is full or the member or the input ends. */
static int decode(struct gunzip *g)
{
	if (g->complete && inflateReset(&g->z) != Z_OK)
		return -EBADMSG;
	g->complete = false;
	switch (inflate(&g->z, Z_NO_FLUSH)) {
	case Z_STREAM_END:
		g->complete = true;
		return 0;
	case Z_OK:
	case Z_BUF_ERROR: /* nothing could be done: more input is needed */
		return 0;
	case Z_MEM_ERROR:
		return -ENOMEM;
	default:
		return -EBADMSG;
	}
}

int gunzip_next(struct gunzip *g, const char **p, size_t *n, const char **out, size_t *out_n)
{
	int r = 0;

	g->z.next_in = (z_const Bytef *)(uintptr_t)*p;
	g->z.avail_in = (uInt)*n;
	g->z.next_out = (Bytef *)g->out;
	g->z.avail_out = OUT_BYTES;
	do {
		/* Output may be left within, but behind the end of a member there is none. */
		if (g->complete && g->z.avail_in == 0)
			break;
		r = decode(g);
	} while (r == 0 && g->z.avail_in > 0 && g->z.avail_out > 0);
	*p += *n - g->z.avail_in;
	*n = g->z.avail_in;
	*out = g->out;
	*out_n = OUT_BYTES - g->z.avail_out;
	return r;
}
