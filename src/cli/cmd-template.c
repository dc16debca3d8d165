/* SPDX-License-Identifier: Apache-2.0 */
/* viv template: what sandboxes are made from, and the images that are kept of it. */
#include "base/limits.h"
#include "base/parse.h"
#include "base/str.h"
#include "cli/each.h"
#include "cli/template-import.h"

#include <getopt.h>
#include <limits.h>
#include <stdio.h>

struct wish {
	bool json;
	json_t *image; /* owned; the request of warm */
};

static void wish_done(struct wish *w)
{
	json_decref(w->image);
}

static char *target_of(const char *name, const char *rest, struct op *op)
{
	return cli_target("/templates/", name, rest, "template", op);
}

static void print_snapshot(const json_t *t, const json_t *snapshot)
{
	printf("%-24s  %.19sZ  %6s  %6s  %6s  %6s  snapshot of %s\n", json_text(t, "templateID"),
	       json_text(t, "createdAt"), size_text(json_mib(t, "diskSizeMB")).s, "-",
	       size_text(json_bytes(snapshot, "allocatedBytes")).s, "-",
	       json_text(snapshot, "sandboxID"));
}

static void print_template(const json_t *t)
{
	const json_t *own = json_object_get(t, "vivarium");
	const json_t *images = json_object_get(own, "images");
	const json_t *pool = json_object_get(own, "pool");
	char ready[16] = "-";
	uint64_t bytes = 0;
	const json_t *image;
	size_t i;

	json_array_foreach(images, i, image) bytes += json_bytes(image, "bytes");
	if (pool != NULL)
		snprintf(ready, sizeof(ready), "%lld/%lld", json_number(pool, "ready"),
			 json_number(pool, "size"));
	printf("%-24s  %.19sZ  %6s  %6zu  %6s  %6s%s\n", json_text(t, "templateID"),
	       json_text(t, "createdAt"), size_text(json_bytes(own, "rootBytes")).s,
	       json_array_size(images), size_text(bytes).s, ready,
	       json_is_true(json_object_get(own, "making")) ? "  one is being made" : "");
}

static int run_ls(struct cli *cli, int argc, const struct wish *w)
{
	auto_json *templates = NULL;
	const json_t *t;
	struct op op;
	size_t i;

	if (argc > 1)
		return cli_usage(&verb_template, "ls takes no argument");
	op_init(&op, 0, cli->signal_fd);
	if (cli_call(cli, "GET", "/templates", NULL, &templates, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	if (w->json)
		return cli_print_json(templates);
	printf("%-24s  %-20s  %6s  %6s  %6s  %6s\n", "NAME", "BUILT", "DISK", "IMAGES", "SIZE",
	       "READY");
	json_array_foreach(templates, i, t)
	{
		const json_t *own = json_object_get(t, "vivarium");
		const json_t *snapshot = json_object_get(own, "snapshot");

		if (snapshot != NULL)
			print_snapshot(t, snapshot);
		else
			print_template(t);
	}
	return EXIT_OK;
}

static int run_inspect(struct cli *cli, int argc, char **argv)
{
	auto_free char *target = NULL;
	auto_json *t = NULL;
	struct op op;

	if (argc != 2)
		return cli_usage(&verb_template, "say which template");
	op_init(&op, 0, cli->signal_fd);
	target = target_of(argv[1], "", &op);
	if (cli_call(cli, "GET", target, NULL, &t, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	return cli_print_json(t);
}

static void print_image(const json_t *image)
{
	printf("    %lld CPUs, %s memory, %s disk: %s, made %.19sZ, used %.19sZ\n",
	       json_number(image, "cpus"), size_text(json_mib(image, "memoryMB")).s,
	       size_text(json_mib(image, "diskSizeMB")).s,
	       json_is_true(json_object_get(image, "usable")) ? "ready" : "of no use any more",
	       json_text(image, "createdAt"), json_text(image, "usedAt"));
}

static bool has_usable(const json_t *images)
{
	const json_t *image;
	size_t i;

	json_array_foreach(images, i, image)
	{
		if (json_is_true(json_object_get(image, "usable")))
			return true;
	}
	return false;
}

static void print_pool(const json_t *pool)
{
	printf("    pool: %lld of %lld ready, %s of memory, %s of disk\n",
	       json_number(pool, "ready"), json_number(pool, "size"),
	       size_text(json_bytes(pool, "memoryBytes")).s,
	       size_text(json_bytes(pool, "diskBytes")).s);
	if (json_text(pool, "lastError")[0] != '\0')
		printf("    the pool is not full: %s; tried again after %.19sZ\n",
		       json_text(pool, "lastError"), json_text(pool, "retryAt"));
}

static void print_status(const json_t *t)
{
	const json_t *own = json_object_get(t, "vivarium");
	const json_t *images = json_object_get(own, "images");
	const json_t *image;
	size_t i;

	printf("%s: %s%s\n", json_text(t, "templateID"), has_usable(images) ? "warm" : "cold",
	       json_is_true(json_object_get(own, "making")) ? ", an image is being made" : "");
	json_array_foreach(images, i, image) print_image(image);
	if (json_object_get(own, "pool") != NULL)
		print_pool(json_object_get(own, "pool"));
	if (json_text(own, "startCmd")[0] != '\0')
		printf("    starts: %s\n", json_text(own, "startCmd"));
	if (json_text(own, "readyCmd")[0] != '\0')
		printf("    is ready by: %s\n", json_text(own, "readyCmd"));
	if (json_text(own, "lastError")[0] != '\0')
		printf("    the last image failed: %s; tried again after %.19sZ\n",
		       json_text(own, "lastError"), json_text(own, "retryAt"));
}

static int status_of_all(struct cli *cli)
{
	auto_json *templates = NULL;
	const json_t *t;
	struct op op;
	size_t i;

	op_init(&op, 0, cli->signal_fd);
	if (cli_call(cli, "GET", "/templates", NULL, &templates, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	json_array_foreach(templates, i, t) print_status(t);
	return EXIT_OK;
}

static int status_of(struct cli *cli, const char *name, const void *arg, struct op *op)
{
	auto_free char *target = target_of(name, "", op);
	auto_json *t = NULL;
	int r = cli_call(cli, "GET", target, NULL, &t, op);

	(void)arg;
	if (r == 0)
		print_status(t);
	return r;
}

/* What is done with a template by one call. */
struct change {
	const char *method;
	const char *rest; /* of the target */
	const json_t *body;
};

static int change_one(struct cli *cli, const char *name, const void *arg, struct op *op)
{
	const struct change *c = arg;
	auto_free char *target = target_of(name, c->rest, op);
	int r = cli_call(cli, c->method, target, c->body, NULL, op);

	if (r == 0)
		puts(name);
	return r;
}

/* Return: 0; an exit code, after saying why. */
static int set_number(struct wish *w, const char *key, uint64_t number)
{
	if (json_object_set_new(w->image, key, json_integer((json_int_t)number)) == 0)
		return 0;
	return cli_usage(&verb_template, "no memory");
}

static int set_text(struct wish *w, const char *key, const char *text)
{
	if (json_object_set_new(w->image, key, json_string(text)) == 0)
		return 0;
	return cli_usage(&verb_template, "%s is no UTF-8 text", key);
}

/* How many a pool is to have. */
static int set_pool(struct wish *w, const char *key, const char *text)
{
	uint64_t number;

	if (parse_u64(text, 0, POOL_SIZE_MAX, &number) < 0)
		return cli_usage(&verb_template, "a pool has 0 to %d sandboxes, not %s",
				 POOL_SIZE_MAX, text);
	return set_number(w, key, number);
}

static int take_option(struct wish *w, int c)
{
	uint64_t number;

	switch (c) {
	case 's':
		return set_text(w, "startCmd", optarg);
	case 'r':
		return set_text(w, "readyCmd", optarg);
	case 'j':
		w->json = true;
		return 0;
	case 'c':
		if (parse_u64(optarg, 1, INT_MAX, &number) < 0)
			return cli_usage(&verb_template, "--cpus %s is no number", optarg);
		return set_number(w, "cpus", number);
	case 'p':
		return set_pool(w, "pool", optarg);
	case 'm':
	case 'd':
		if (parse_size_mib(optarg, &number) < 0 || number < 1 || number > INT_MAX)
			return cli_usage(&verb_template,
					 "%s is no size; say for example 512M or 2G", optarg);
		return set_number(w, c == 'm' ? "memoryMB" : "diskSizeMB", number);
	default:
		return EXIT_USAGE;
	}
}

/* "-3", which getopt(3) takes for an option that there is not; NULL = there is none. */
static const char *find_negative(char **argv)
{
	for (char **at = argv; *at != NULL && !streq(*at, "--"); at++) {
		const char *digits = *at + 1;

		if ((*at)[0] == '-' && digits[0] != '\0' &&
		    digits[strspn(digits, "0123456789")] == '\0')
			return *at;
	}
	return NULL;
}

/* Return: 0; an exit code, after saying why. */
static int parse(int argc, char **argv, struct wish *w)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "cpus", required_argument, NULL, 'c' },
		{ "memory", required_argument, NULL, 'm' },
		{ "disk", required_argument, NULL, 'd' },
		{ "pool", required_argument, NULL, 'p' },
		{ "start", required_argument, NULL, 's' },
		{ "ready", required_argument, NULL, 'r' },
		{ 0 },
	};
	const char *negative = find_negative(argv);
	int code = 0;
	int c;

	w->image = json_object();
	if (negative != NULL)
		return cli_usage(&verb_template,
				 "%s is negative: a pool has 0 to %d sandboxes, and sizes are from "
				 "1 up",
				 negative, POOL_SIZE_MAX);
	while (code == 0 && (c = getopt_long(argc, argv, "", options, NULL)) != -1)
		code = take_option(w, c);
	return code;
}

/* viv template pool NAME N */
static int run_pool(struct cli *cli, int argc, char **argv, struct wish *w)
{
	char *names[] = { argc > 1 ? argv[1] : NULL, NULL };
	int code;

	if (argc != 3)
		return cli_usage(&verb_template, "say which template, and how many");
	code = set_pool(w, "size", argv[2]);
	if (code != 0)
		return code;
	return each_name(cli, names, change_one, &(struct change){ "PUT", "/pool", w->image });
}

static bool has_own(const struct wish *w)
{
	return json_object_get(w->image, "startCmd") != NULL ||
	       json_object_get(w->image, "readyCmd") != NULL ||
	       json_object_get(w->image, "pool") != NULL;
}

/* Whether the options are those of what is to be done. Return: 0; an exit code, after saying why.
 */
static int check_options(const struct wish *w, const char *what)
{
	bool is_warm = streq(what, "warm");

	if (w->json && !streq(what, "ls"))
		return cli_usage(&verb_template, "--json is for ls");
	if (!is_warm && has_own(w))
		return cli_usage(&verb_template, "--start, --ready and --pool are for warm");
	if (!is_warm && !streq(what, "pool") && json_object_size(w->image) > 0)
		return cli_usage(&verb_template, "sizes are for warm and pool");
	return 0;
}

static int run(struct cli *cli, int argc, char **argv)
{
	cleanup(wish_done) struct wish w = { .json = false };
	const char *what;
	int code = parse(argc, argv, &w);

	if (code != 0)
		return code;
	argc -= optind;
	argv += optind;
	what = argc > 0 ? argv[0] : "";
	code = check_options(&w, what);
	if (code != 0)
		return code;
	if (streq(what, "import"))
		return template_import(cli, argc, argv);
	if (streq(what, "ls"))
		return run_ls(cli, argc, &w);
	if (streq(what, "inspect"))
		return run_inspect(cli, argc, argv);
	if (streq(what, "status"))
		return argc > 1 ? each_name(cli, argv + 1, status_of, NULL) : status_of_all(cli);
	if (argc < 2 && (streq(what, "warm") || streq(what, "rm")))
		return cli_usage(&verb_template, "say which templates");
	if (streq(what, "warm"))
		return each_name(cli, argv + 1, change_one,
				 &(struct change){ "POST", "/warm", w.image });
	if (streq(what, "pool"))
		return run_pool(cli, argc, argv, &w);
	if (streq(what, "rm"))
		return each_name(cli, argv + 1, change_one, &(struct change){ "DELETE", "", NULL });
	return cli_usage(&verb_template, "say ls, inspect, status, import, warm, pool or rm");
}

const struct verb verb_template = {
	.name = "template",
	.usage = "ls [--json] | inspect NAME | status [NAME...] | import NAME FILE |\n"
		 "       warm [SIZES] [--pool N] [--start CMD [--ready WHAT]] NAME... |\n"
		 "       pool [SIZES] NAME N | rm NAME...",
	.summary = "List templates, import and warm them, remove them",
	.help = "  --json         of ls: as JSON\n"
		"  --cpus N       of warm and pool: CPUs of the sandboxes that it is for\n"
		"  --memory SIZE  of warm and pool: their memory, e.g. 512M or 2G\n"
		"  --disk SIZE    of warm and pool: their disk\n"
		"  --pool N       of warm: then keep N sandboxes ready, as pool does\n"
		"  --start CMD    of warm: what runs in each sandbox from its beginning; '' "
		"nothing\n"
		"  --ready WHAT   of warm: when that is ready: a port, a URL, or a command that\n"
		"                 succeeds then\n"
		"\n"
		"pool keeps N sandboxes of NAME ready, restored and frozen, so that a create of "
		"these\n"
		"sizes need only wake one; with 0, none any more.\n"
		"\n"
		"import makes template NAME from FILE: a tar of `docker save`, `podman save` or\n"
		"`docker export`, or an OCI layout, as a directory or its tar.\n",
	.run = run,
};
