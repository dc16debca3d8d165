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
	REFRESH_MS = 1000,
};

static void add_row(struct usage_rows *rows, const json_t *sandbox)
{
	const json_t *own = json_object_get(sandbox, "vivarium");
	struct usage_row row = {
		.mem_limit = json_mib(own, "memoryMB"),
		.disk_limit = json_mib(own, "diskSizeMB"),
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
	row->host_mem = json_bytes(own, "hostMemBytes");
	row->host_disk = json_bytes(own, "hostDiskBytes");
	row->mem_used = json_bytes(sample, "memUsed");
	row->disk_used = json_bytes(sample, "diskUsed");
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

void usage_print_head(FILE *to)
{
	fprintf(to, "%-20s  %-16s  %-8s  %7s  %15s  %9s  %15s  %10s", "ID", "NAME", "STATE",
		"CPU %", "MEMORY / LIMIT", "IN GUEST", "DISK / SIZE", "IN GUEST");
}

static struct size_text if_known(bool known, uint64_t bytes)
{
	return known ? size_text(bytes) : (struct size_text){ "-" };
}

void usage_print_row(FILE *to, const struct usage_row *row)
{
	char cpu[16] = "-";

	if (row->sampled)
		ignore_err(str_fit(cpu, sizeof(cpu), "%.1f", row->cpu)); /* fits */
	fprintf(to, "%-20.20s  %-16.16s  %-8.8s  %7s  %6s / %6s  %9s  %6s / %6s  %10s", row->id,
		row->name[0] != '\0' ? row->name : "-", row->state, cpu,
		if_known(row->sampled, row->host_mem).s, size_text(row->mem_limit).s,
		if_known(row->told, row->mem_used).s, if_known(row->sampled, row->host_disk).s,
		size_text(row->disk_limit).s, if_known(row->told, row->disk_used).s);
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
