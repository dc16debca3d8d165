/* SPDX-License-Identifier: Apache-2.0 */
/* A sandbox's agent, as verbs talk to it: by HTTP through vivd, in the Connect protocol's JSON. */
#pragma once

#include "cli/cli.h"

/* Whom requests go to and who they are for. Zeroed is fine for guest_done(). */
struct guest {
	struct cli *cli;
	json_t *sandbox;   /* its detail; owned */
	const char *id;    /* in it */
	const char *token; /* in it; "" = the sandbox asks for none */
	const char *user;  /* who a command runs as; borrowed; NULL = the sandbox's default */
};

enum { GUEST_FIELDS_MAX = 8, GUEST_AUTH_SIZE = 512 };

/* The headers of a request to an agent. */
struct guest_fields {
	struct http_field at[GUEST_FIELDS_MAX];
	char auth[GUEST_AUTH_SIZE];
	char port[8];
};

/** guest_init() - the agent of a sandbox; takes over the reference to its detail */
void guest_init(struct guest *g, struct cli *cli, json_t *sandbox);

/** guest_find() - the agent of a sandbox by its name, id or prefix. Return: 0; -errno, op->err set
 */
must_check int guest_find(struct guest *g, struct cli *cli, const char *name, struct op *op);

/** guest_done() - free; idempotent */
void guest_done(struct guest *g);

#define auto_guest cleanup(guest_done) struct guest

/**
 * guest_fields_init() - headers that name the sandbox, its token and the user
 * @f:		ended by a NULL name; points into itself, so it must not be copied
 *
 * Return: 0; -errno with @e set.
 */
must_check int guest_fields_init(struct guest_fields *f, const struct guest *g,
				 const char *content_type, struct err *e);

/**
 * guest_call() - one unary call of process.Process on a connection of its own
 * @request:	borrowed
 * @out:	the reply, new reference; NULL = not wanted
 *
 * Thread: any. Return: 0; -errno with op->err set: the agent's message (ERR_NOT_FOUND, ERR_AGENT),
 * or why it is out of reach.
 */
must_check int guest_call(const struct guest *g, const char *method, const json_t *request,
			  json_t **out, struct op *op);

/**
 * guest_refused() - set op->err from a reply that is not the one that was asked for
 * @what:	for the message
 *
 * Return: -errno.
 */
int guest_refused(const struct guest *g, struct http_client *c, const char *what, struct op *op);

/** guest_selector() - {"pid": n} for digits, else {"tag": text}; new reference; NULL: not UTF-8 */
json_t *guest_selector(const char *text);

/** guest_is_pid() - whether a text means a pid, so that it cannot be a tag */
bool guest_is_pid(const char *text);

enum { GUEST_ENVELOPE_HEAD_BYTES = 5, GUEST_ENVELOPE_END = 0x02 };

/** guest_put_envelope() - append a message as an envelope. Return: 0; -EILSEQ; -EMSGSIZE; -ENOMEM
 */
must_check int guest_put_envelope(struct buf *out, const json_t *message);

/** guest_put_envelope_head() - append the head of an envelope of @n bytes; as buf_append() */
must_check int guest_put_envelope_head(struct buf *out, size_t n);
