/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/usage.h"

#include "base/buf.h"
#include "base/str.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum {
	BATCH = 100, /* vivd's most */
	TARGET_MAX = 8192,
	SIZE_TEXT = 16,
	REFRESH_MS = 1000,
	MIB = 1024 * 1024,
	KIB = 1024,
};

static uint64_t bytes_of(const json_t *o, const char *key)
{
	json_int_t n = json_number(o, key);

	return n > 0 ? (uint64_t)n : 0;
}

static void add_row(struct usage_rows *rows, const json_t *sandbox)
{
	const json_t *own = json_object_get(sandbox, "vivarium");
	struct usage_row row = {
		.mem_limit = bytes_of(own, "memoryMB") * MIB,
		.disk_limit = bytes_of(own, "diskSizeMB") * MIB,
	};

	str_copy(row.id, sizeof(row.id), json_text(sandbox, "sandboxID"));
	str_copy(row.name, sizeof(row.name), json_text(own, "name"));
	str_copy(row.state, sizeof(row.state), json_text(own, "state"));
	usage_rows_push(rows, row);
}

static void take_sample(struct usage_row *row, const json_t *sample)
{
	const json_t *own = json_object_get(sample, "vivarium");

	/* A sandbox that does not run uses nothing now, whatever it used last. */
	row->sampled = sample != NULL && streq(row->state, "running");
	row->told = row->sampled && !streq(json_text(own, "guest"), "none");
	row->cpu = json_number_value(json_object_get(sample, "cpuUsedPct")) *
		   (double)json_number(sample, "cpuCount");
	row->host_mem = bytes_of(own, "hostMemBytes");
	row->host_disk = bytes_of(own, "hostDiskBytes");
	row->mem_used = bytes_of(sample, "memUsed");
	row->disk_used = bytes_of(sample, "diskUsed");
}

/* Samples of @n rows, BATCH at most. */
static int fetch_samples(struct cli *cli, struct usage_row *rows, size_t n, struct op *op)
{
	auto_buf target = BUF_INIT(TARGET_MAX);
	auto_json *reply = NULL;
	int r = buf_puts(&target, "/sandboxes/metrics?sandbox_ids=");

	for (size_t i = 0; r == 0 && i < n; i++)
		r = buf_printf(&target, "%s%s", i == 0 ? "" : ",", rows[i].id);
	if (r < 0)
		return err_errno(&op->err, -r, "ask for metrics");
	r = cli_call(cli, "GET", buf_str(&target), NULL, &reply, op);
	for (size_t i = 0; r == 0 && i < n; i++)
		take_sample(&rows[i],
			    json_object_get(json_object_get(reply, "sandboxes"), rows[i].id));
	return r;
}

static int fetch_all(struct cli *cli, struct usage_rows *out, struct op *op)
{
	auto_json *all = json_array();
	const json_t *sandbox;
	size_t i;
	int r = cli_list(cli, "", all, op);

	if (r < 0)
		return r;
	json_array_foreach(all, i, sandbox)
	{
		add_row(out, sandbox);
	}
	return 0;
}

static int fetch_named(struct cli *cli, char *const *names, size_t n, struct usage_rows *out,
		       struct op *op)
{
	for (size_t i = 0; i < n; i++) {
		auto_json *detail = NULL;
		int r = cli_find(cli, names[i], &detail, op);

		if (r < 0)
			return r;
		add_row(out, detail);
	}
	return 0;
}

int usage_fetch(struct cli *cli, char *const *names, size_t n_names, struct usage_rows *out,
		struct op *op)
{
	size_t first = out->n;
	int r = names == NULL ? fetch_all(cli, out, op) : fetch_named(cli, names, n_names, out, op);

	for (size_t i = first; r == 0 && i < out->n; i += BATCH)
		r = fetch_samples(cli, &out->at[i], MIN(out->n - i, (size_t)BATCH), op);
	return r;
}

static void print_size(char out[SIZE_TEXT], uint64_t bytes)
{
	static const char units[] = "KMGTP";
	double n = (double)bytes / KIB;
	size_t unit = 0;

	while (n >= KIB && units[unit + 1] != '\0') {
		n /= KIB;
		unit++;
	}
	ignore_err(str_fit(out, SIZE_TEXT, "%.*f%c", n < 10 && unit > 0 ? 1 : 0, n,
			   units[unit])); /* fits */
}

void usage_print_head(FILE *to)
{
	fprintf(to, "%-20s  %-16s  %-8s  %7s  %15s  %9s  %15s  %10s", "ID", "NAME", "STATE",
		"CPU %", "MEMORY / LIMIT", "IN GUEST", "DISK / SIZE", "IN GUEST");
}

void usage_print_row(FILE *to, const struct usage_row *row)
{
	char cpu[SIZE_TEXT] = "-";
	char sizes[6][SIZE_TEXT] = { "-", "", "-", "-", "", "-" };

	print_size(sizes[1], row->mem_limit);
	print_size(sizes[4], row->disk_limit);
	if (row->sampled) {
		ignore_err(str_fit(cpu, sizeof(cpu), "%.1f", row->cpu)); /* fits */
		print_size(sizes[0], row->host_mem);
		print_size(sizes[3], row->host_disk);
	}
	if (row->told) {
		print_size(sizes[2], row->mem_used);
		print_size(sizes[5], row->disk_used);
	}
	fprintf(to, "%-20.20s  %-16.16s  %-8.8s  %7s  %6s / %6s  %9s  %6s / %6s  %10s", row->id,
		row->name[0] != '\0' ? row->name : "-", row->state, cpu, sizes[0], sizes[1],
		sizes[2], sizes[3], sizes[4], sizes[5]);
}

int usage_wait(struct cli *cli, int key_fd)
{
	struct op op;
	int r;

	op_init(&op, REFRESH_MS, cli->signal_fd);
	r = op_wait_fd(&op, key_fd, POLLIN, -1);
	return r == -ETIMEDOUT ? 0 : r;
}

int usage_interrupted(struct cli *cli)
{
	struct signalfd_siginfo info;

	if (read(cli->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info) ||
	    info.ssi_signo == SIGINT)
		return EXIT_OK;
	return EXIT_SIGNAL_BASE + (int)info.ssi_signo;
}
