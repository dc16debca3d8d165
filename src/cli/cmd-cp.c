/* SPDX-License-Identifier: Apache-2.0 */
/*
 * viv cp: files and trees between here and a sandbox, as one tar stream over its agent's
 * /files/tar. What a sandbox sends is not trusted: os/unpack.h.
 */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/guest.h"
#include "os/pack.h"
#include "os/unpack.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { PIECE_BYTES = 65536, TARGET_MAX_BYTES = 16384, OK_STATUS = 200 };

/* One end of a copy. */
struct end {
	char *sandbox;    /* NULL = here; owned */
	const char *path; /* "-" here: a tar stream on stdin or stdout */
};

struct copy {
	bool archive;
	bool follow;
	const char *user; /* NULL = the sandbox's default */
	struct end from;
	struct end to;
	struct guest guest;
	struct http_client client;
	struct op op;
};

static void copy_done(struct copy *c)
{
	free(c->from.sandbox);
	free(c->to.sandbox);
	guest_done(&c->guest);
	http_client_done(&c->client);
}

static bool is_stream(const struct end *end)
{
	return end->sandbox == NULL && streq(end->path, "-");
}

/* A path as its last part says: what it is called elsewhere, and whether it means a directory. */
struct source {
	char *name;     /* owned; "" = its contents */
	bool means_dir; /* so a link is followed */
};

static void source_done(struct source *s)
{
	free(s->name);
}

static void source_of(const char *path, struct source *out)
{
	size_t n = strlen(path);
	size_t from;

	out->means_dir = n > 0 && path[n - 1] == '/';
	while (n > 0 && path[n - 1] == '/')
		n--;
	for (from = n; from > 0 && path[from - 1] != '/'; from--)
		;
	out->name = str_printf("%.*s", (int)(n - from), path + from);
	if (!streq(out->name, ".") && !streq(out->name, "..") && out->name[0] != '\0')
		return;
	out->name[0] = '\0';
	out->means_dir = true;
}

/* Appends "<mark><key>=<value>" to a target. */
static int add_param(struct buf *target, char mark, const char *key, const char *value)
{
	int r = buf_printf(target, "%c%s=", mark, key);

	for (const char *p = value; r == 0 && *p != '\0'; p++) {
		bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
			     (*p >= '0' && *p <= '9') || strchr("-._~/", *p) != NULL;

		r = plain ? buf_append(target, p, 1)
			  : buf_printf(target, "%%%02X", (unsigned char)*p);
	}
	return r;
}

static int begin_target(struct copy *c, const char *path, struct buf *target)
{
	int r = buf_puts(target, "/files/tar");

	if (r == 0)
		r = add_param(target, '?', "path", path);
	if (r == 0 && c->user != NULL)
		r = add_param(target, '&', "username", c->user);
	return r;
}

static int too_long(struct copy *c)
{
	return err_set(&c->op.err, ERR_INVALID, "the names are too long");
}

/* Finds the sandbox and connects to vivd once more: the first connection may end between. */
static int reach(struct copy *c, struct cli *cli, const char *sandbox, struct guest_fields *fields)
{
	int r = guest_find(&c->guest, cli, sandbox, &c->op);

	if (r == 0)
		r = guest_fields_init(fields, &c->guest, "application/x-tar", &c->op.err);
	return r < 0 ? r : http_client_connect_unix(&c->client, cli->socket, &c->op);
}

/* Reads the reply to an upload. */
static int finish_upload(struct copy *c)
{
	auto_buf reply = BUF_INIT(PIECE_BYTES);
	auto_json *json = NULL;
	json_int_t skipped;
	ssize_t n = http_client_head(&c->client, &c->op);

	if (n < 0)
		return (int)n;
	if (c->client.head.status != OK_STATUS)
		return guest_refused(&c->guest, &c->client, "a copy", &c->op);
	do {
		n = http_client_read(&c->client, &reply, &c->op);
	} while (n > 0);
	if (n < 0)
		return (int)n;
	json = json_loadb(buf_str(&reply), reply.len, 0, NULL);
	skipped = json_number(json, "skipped");
	if (skipped > 0)
		fprintf(stderr, "viv: left out %lld devices and pipes\n", (long long)skipped);
	return 0;
}

/* Waits as long as it takes for more of stdin. Return: bytes; 0 its end; -errno. */
static ssize_t read_stdin(struct copy *c, char *piece)
{
	for (;;) {
		int r = op_wait_fd(&c->op, STDIN_FILENO, POLLIN, -1);
		ssize_t n = r < 0 ? r : read(STDIN_FILENO, piece, PIECE_BYTES);

		if (r < 0)
			return err_errno(&c->op.err, -r, "wait for stdin");
		if (n >= 0)
			return n;
		if (errno != EINTR && errno != EAGAIN)
			return err_errno(&c->op.err, errno, "read stdin");
	}
}

/* Sends the body; @p NULL = stdin. Return: 0; -errno with the error set. */
static int send_body(struct copy *c, struct pack *p)
{
	auto_free char *piece = xcalloc(1, PIECE_BYTES);
	int r = 0;

	while (r == 0) {
		ssize_t n = p != NULL ? pack_read(p, piece, PIECE_BYTES, &c->op.err)
				      : read_stdin(c, piece);

		if (n < 0)
			return (int)n;
		if (n == 0)
			return MIN(http_client_finish(&c->client, &c->op), 0);
		r = http_client_write(&c->client, piece, (size_t)n, &c->op);
	}
	return MIN(r, 0); /* 1: it has been answered already */
}

static void on_left_out(const char *name, void *arg)
{
	(void)arg;
	fprintf(stderr, "viv: left out %s, a socket\n", name);
}

static int upload_target(struct copy *c, const struct source *from, struct buf *target)
{
	const char *dest = c->to.path;
	int r = begin_target(c, dest, target);

	if (r == 0 && from != NULL)
		r = add_param(target, '&', "name", from->name);
	if (r == 0 && dest[0] != '\0' && dest[strlen(dest) - 1] == '/')
		r = add_param(target, '&', "dir", "1");
	if (r == 0 && c->archive)
		r = add_param(target, '&', "owner", "keep");
	return r < 0 ? too_long(c) : 0;
}

/* @p NULL = what comes is a stream already. */
static int upload(struct copy *c, struct cli *cli, const struct source *from, struct pack *p)
{
	auto_buf target = BUF_INIT(TARGET_MAX_BYTES);
	struct guest_fields fields;
	int r = upload_target(c, from, &target);

	if (r == 0)
		r = reach(c, cli, c->to.sandbox, &fields);
	if (r == 0)
		r = http_client_start(&c->client, "POST", buf_str(&target), fields.at, &c->op);
	if (r == 0)
		r = send_body(c, p);
	return r < 0 ? r : finish_upload(c);
}

static int copy_in(struct copy *c, struct cli *cli)
{
	cleanup(source_done) struct source from = { 0 };
	struct pack *p = NULL;
	int r;

	if (is_stream(&c->from))
		return upload(c, cli, NULL, NULL);
	source_of(c->from.path, &from);
	r = pack_open(c->from.path,
		      &(struct pack_spec){
			      .name = from.name[0] != '\0' ? from.name : "contents",
			      .follow_root = from.means_dir,
			      .follow_all = c->follow,
			      .on_skip = on_left_out,
		      },
		      &p, &c->op.err);
	if (r == 0)
		r = upload(c, cli, &from, p);
	pack_free(p);
	return r;
}

static int download_target(struct copy *c, const struct source *from, struct buf *target)
{
	int r = begin_target(c, c->from.path, target);

	if (r == 0 && from->name[0] != '\0')
		r = add_param(target, '&', "name", from->name);
	if (r == 0 && (c->follow || from->means_dir))
		r = add_param(target, '&', "follow", c->follow ? "all" : "top");
	return r < 0 ? too_long(c) : 0;
}

/* Return: 0 the stream has begun; -errno. */
static int begin_download(struct copy *c, struct cli *cli, const struct source *from)
{
	auto_buf target = BUF_INIT(TARGET_MAX_BYTES);
	struct guest_fields fields;
	int r = download_target(c, from, &target);

	if (r == 0)
		r = reach(c, cli, c->from.sandbox, &fields);
	if (r == 0)
		r = http_client_send(&c->client, "GET", buf_str(&target), fields.at, NULL, 0,
				     &c->op);
	if (r == 0)
		r = http_client_head(&c->client, &c->op);
	if (r == 0 && c->client.head.status != OK_STATUS)
		r = guest_refused(&c->guest, &c->client, "a copy", &c->op);
	return r;
}

static int write_stdout(struct copy *c, const char *p, size_t n)
{
	while (n > 0) {
		int r = op_wait_fd(&c->op, STDOUT_FILENO, POLLOUT, -1);
		ssize_t w = r < 0 ? r : write(STDOUT_FILENO, p, n);

		if (r < 0)
			return err_errno(&c->op.err, -r, "wait for stdout");
		if (w < 0 && errno != EINTR && errno != EAGAIN)
			return err_errno(&c->op.err, errno, "write to stdout");
		p += MAX(w, 0);
		n -= (size_t)MAX(w, 0);
	}
	return 0;
}

/* Passes the reply on; @u NULL = to stdout. */
static int receive(struct copy *c, struct unpack *u)
{
	auto_buf piece = BUF_INIT(PIECE_BYTES);

	for (;;) {
		ssize_t n = http_client_read(&c->client, &piece, &c->op);
		int r;

		if (n < 0)
			return err_wrap(&c->op.err, "the sandbox's files ended early");
		if (n == 0)
			return u != NULL ? unpack_finish(u, &c->op.err) : 0;
		r = u != NULL ? unpack_feed(u, buf_head(&piece), piece.len, &c->op.err)
			      : write_stdout(c, buf_head(&piece), piece.len);
		if (r < 0)
			return r;
		buf_clear(&piece);
	}
}

static void on_special(const char *path, void *arg)
{
	auto_free char *plain = plain_text(path);

	(void)arg;
	fprintf(stderr, "viv: left out %s, a device or pipe\n", plain);
}

static int copy_out(struct copy *c, struct cli *cli)
{
	cleanup(source_done) struct source from = { 0 };
	const char *dest = c->to.path;
	struct unpack *u = NULL;
	int r;

	source_of(c->from.path, &from);
	r = begin_download(c, cli, &from);
	if (r < 0)
		return r;
	if (!is_stream(&c->to))
		u = unpack_new(&(struct unpack_spec){
			.dest = dest,
			.name = from.name,
			.must_be_dir = dest[0] != '\0' && dest[strlen(dest) - 1] == '/',
			.keep_owner = c->archive,
			.on_skip = on_special,
		});
	r = receive(c, u);
	unpack_free(u);
	return r;
}

/* SANDBOX:PATH, else a path of here; one with a colon is told apart by a slash before it. */
static void take_end(const char *text, struct end *out)
{
	size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_.-");

	out->path = text;
	if (n == 0 || text[n] != ':' || text[0] == '.')
		return;
	out->sandbox = str_printf("%.*s", (int)n, text);
	out->path = text + n + 1;
}

/* Return: 0; an exit code, after saying why. */
static int parse(int argc, char **argv, struct copy *c)
{
	static const struct option options[] = {
		{ "archive", no_argument, NULL, 'a' },
		{ "follow-link", no_argument, NULL, 'L' },
		{ "user", required_argument, NULL, 'u' },
		{ 0 },
	};
	int o;

	while ((o = getopt_long(argc, argv, "aLu:", options, NULL)) != -1) {
		if (o == '?')
			return EXIT_USAGE;
		c->archive = c->archive || o == 'a';
		c->follow = c->follow || o == 'L';
		if (o == 'u')
			c->user = optarg;
	}
	if (argc - optind != 2)
		return cli_usage(&verb_cp, "say what to copy, and where to");
	take_end(argv[optind], &c->from);
	take_end(argv[optind + 1], &c->to);
	if ((c->from.sandbox == NULL) == (c->to.sandbox == NULL))
		return cli_usage(&verb_cp, "one of both must be in a sandbox, SANDBOX:PATH, and "
					   "the other here");
	if (is_stream(&c->to) && isatty(STDOUT_FILENO))
		return cli_usage(&verb_cp, "a tar stream is nothing for a terminal");
	return 0;
}

static int run(struct cli *cli, int argc, char **argv)
{
	cleanup(copy_done) struct copy c = { .client = HTTP_CLIENT_INIT };
	int r = parse(argc, argv, &c);

	if (r != 0)
		return r;
	op_init(&c.op, 0, cli->signal_fd);
	r = c.to.sandbox != NULL ? copy_in(&c, cli) : copy_out(&c, cli);
	return r < 0 ? cli_fail(cli, &c.op, EXIT_FAILED) : EXIT_OK;
}

const struct verb verb_cp = {
	.name = "cp",
	.usage = "[-a] [-L] [-u USER] SANDBOX:PATH PATH|-\n"
		 "       viv cp [-a] [-L] [-u USER] PATH|- SANDBOX:PATH",
	.summary = "Copy files and directories from or to a sandbox",
	.help = "  -a, --archive      keep owners and set-user-id bits\n"
		"  -L, --follow-link  copy what symbolic links lead to\n"
		"  -u, --user USER    whose they become in the sandbox (the sandbox's default "
		"user)\n",
	.run = run,
};
