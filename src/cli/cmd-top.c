/* SPDX-License-Identifier: Apache-2.0 */
/*
 * viv top: one screen of what uses most. The terminal is given back as it was, however it ends:
 * signals come by a descriptor, so each way out is a return.
 */
#include "base/str.h"
#include "cli/terminal.h"
#include "cli/usage.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { KEY_CTRL_C = 3, KEYS_MAX = 16, HEAD_LINES = 3 };

#define SCREEN_ENTER "\033[?1049h\033[?25l"
#define SCREEN_LEAVE "\033[?25h\033[?1049l"
#define SCREEN_HOME  "\033[H"
#define LINE_END     "\033[K\r\n" /* a raw terminal takes each byte as it is */
#define SCREEN_REST  "\033[J"

enum order { BY_CPU, BY_MEMORY, BY_DISK, BY_NAME, ORDER_N };

static const char *const order_names[] = {
	[BY_CPU] = "CPU", [BY_MEMORY] = "memory", [BY_DISK] = "disk", [BY_NAME] = "name"
};
static_assert(ARRAY_SIZE(order_names) == ORDER_N, "each order has a name");

struct screen {
	struct terminal terminal;
	bool on;
};

static void screen_leave(struct screen *s)
{
	if (!s->on)
		return;
	s->on = false;
	fputs(SCREEN_LEAVE, stdout);
	fflush(stdout);
	terminal_give_back(&s->terminal);
}

/* Return: 0; -errno, @e set. */
static int screen_enter(struct screen *s, struct err *e)
{
	int r = terminal_take(&s->terminal, e);

	if (r < 0)
		return r;
	s->on = true;
	fputs(SCREEN_ENTER, stdout);
	return 0;
}

static int compare_names(const struct usage_row *a, const struct usage_row *b)
{
	int order = strcmp(a->name, b->name);

	return order != 0 ? order : strcmp(a->id, b->id);
}

static int by_name(const void *a, const void *b)
{
	return compare_names(a, b);
}

/* The larger first; what does not run is last. */
static int by_number(double a, double b, const struct usage_row *ra, const struct usage_row *rb)
{
	if (ra->sampled != rb->sampled)
		return ra->sampled ? -1 : 1;
	if (a > b || a < b)
		return a > b ? -1 : 1;
	return compare_names(ra, rb);
}

static int by_cpu(const void *a, const void *b)
{
	const struct usage_row *ra = a;
	const struct usage_row *rb = b;

	return by_number(ra->cpu, rb->cpu, ra, rb);
}

static int by_memory(const void *a, const void *b)
{
	const struct usage_row *ra = a;
	const struct usage_row *rb = b;

	return by_number((double)ra->host_mem, (double)rb->host_mem, ra, rb);
}

static int by_disk(const void *a, const void *b)
{
	const struct usage_row *ra = a;
	const struct usage_row *rb = b;

	return by_number((double)ra->host_disk, (double)rb->host_disk, ra, rb);
}

static void sort(struct usage_rows *rows, enum order order)
{
	static int (*const fns[])(const void *, const void *) = {
		[BY_CPU] = by_cpu, [BY_MEMORY] = by_memory, [BY_DISK] = by_disk, [BY_NAME] = by_name
	};

	if (rows->n > 1)
		qsort(rows->at, rows->n, sizeof(rows->at[0]), fns[order]);
}

/* One line, cut to @columns. */
static void put_line(const char *text, unsigned columns, const char *end)
{
	printf("%.*s%s", (int)columns, text, end);
}

static void print_summary(const struct usage_rows *rows, unsigned columns, const char *end)
{
	size_t running = 0;
	double cpu = 0;
	uint64_t mem = 0;
	auto_free char *text = NULL;

	vec_foreach (row, rows) {
		if (!row->sampled)
			continue;
		running++;
		cpu += row->cpu;
		mem += row->host_mem;
	}
	text = str_printf("%zu sandboxes, %zu running; they use %.1f %% of a CPU and %.1f MiB of "
			  "the host",
			  rows->n, running, cpu, (double)mem / (1024 * 1024));
	put_line(text, columns, end);
}

/* The table, as many rows as fit into @lines. */
static void print_rows(const struct usage_rows *rows, unsigned lines, unsigned columns,
		       const char *end)
{
	for (size_t i = 0; i <= MIN(rows->n, (size_t)lines); i++) {
		char *text = NULL;
		size_t size;
		FILE *f = open_memstream(&text, &size);

		if (f == NULL)
			abort();
		if (i == 0)
			usage_print_head(f);
		else
			usage_print_row(f, &rows->at[i - 1]);
		fclose(f);
		put_line(text, columns, end);
		free(text);
	}
}

static void draw(struct screen *s, struct usage_rows *rows, enum order order)
{
	auto_free char *keys = str_printf("by %s; c, m, d, n: sort by CPU, memory, disk, name; "
					  "q: quit",
					  order_names[order]);

	struct terminal_size size;

	/* Drawn every second: a new size needs no more haste. After SIGCONT it is raw again. */
	ignore_err(terminal_read_signals(&s->terminal));
	size = terminal_size();
	sort(rows, order);
	fputs(SCREEN_HOME, stdout);
	print_summary(rows, size.cols, LINE_END);
	put_line(keys, size.cols, LINE_END);
	print_rows(rows, size.rows > HEAD_LINES + 1 ? size.rows - HEAD_LINES - 1 : 0, size.cols,
		   LINE_END);
	fputs(SCREEN_REST, stdout);
	fflush(stdout);
}

/* Return: whether to go on. */
static bool take_keys(enum order *order)
{
	static const char letters[] = "cmdn";
	char keys[KEYS_MAX];
	ssize_t n = read(STDIN_FILENO, keys, sizeof(keys));

	for (ssize_t i = 0; i < n; i++) {
		const char *letter = keys[i] != '\0' ? strchr(letters, keys[i]) : NULL;

		if (keys[i] == 'q' || keys[i] == KEY_CTRL_C)
			return false;
		if (letter != NULL)
			*order = (enum order)(letter - letters);
	}
	return n > 0; /* else the terminal is gone */
}

/* Return: an exit code; the reason for a failure is in @op. */
static int watch(struct cli *cli, struct screen *s, struct op *op)
{
	struct usage_rows rows = { 0 };
	enum order order = BY_CPU;
	bool stale = true;
	int code = EXIT_OK;
	int r = 0;

	while (r >= 0) {
		op_init(op, 0, cli->signal_fd);
		if (stale) {
			usage_rows_done(&rows);
			r = usage_fetch(cli, NULL, 0, &rows, op);
		}
		if (r < 0)
			break;
		draw(s, &rows, order);
		r = usage_wait(cli, STDIN_FILENO);
		stale = r == 0;
		if (r > 0 && !take_keys(&order))
			break;
	}
	if (r < 0)
		code = r == -ECANCELED || op->err.kind == ERR_CANCELLED ? usage_interrupted(cli)
									: EXIT_FAILED;
	usage_rows_done(&rows);
	return code;
}

static int watch_on_screen(struct cli *cli)
{
	cleanup(screen_leave) struct screen s = { .terminal = TERMINAL_INIT };
	struct op op;
	int code;

	op_init(&op, 0, -1);
	if (screen_enter(&s, &op.err) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	code = watch(cli, &s, &op);
	screen_leave(&s);
	return code == EXIT_FAILED ? cli_fail(cli, &op, EXIT_FAILED) : code;
}

static int print_once(struct cli *cli)
{
	struct usage_rows rows = { 0 };
	struct op op;
	int r;

	op_init(&op, 0, cli->signal_fd);
	r = usage_fetch(cli, NULL, 0, &rows, &op);
	if (r == 0) {
		sort(&rows, BY_CPU);
		print_summary(&rows, USAGE_COLUMNS, "\n");
		print_rows(&rows, UINT32_MAX, USAGE_COLUMNS, "\n");
	}
	usage_rows_done(&rows);
	return r < 0 ? cli_fail(cli, &op, EXIT_FAILED) : EXIT_OK;
}

static int run(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { { "once", no_argument, NULL, 'o' }, { 0 } };
	bool once = false;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == '?')
			return EXIT_USAGE;
		once = true;
	}
	if (optind < argc)
		return cli_usage(&verb_top, "it takes no '%s'", argv[optind]);
	if (once)
		return print_once(cli);
	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
		return cli_usage(&verb_top, "it needs a terminal; --once does not");
	return watch_on_screen(cli);
}

const struct verb verb_top = {
	.name = "top",
	.usage = "[--once]",
	.summary = "Show which sandboxes use most, on one screen",
	.help = "  --once  print it once, for scripts\n"
		"\n"
		"Keys: c, m, d, n sort by CPU, memory, disk, name; q ends it.\n",
	.run = run,
};
