/* SPDX-License-Identifier: Apache-2.0 */
/* What the host's apt knows: where Debian 12 comes from, and by which proxy. */
#include "base/buf.h"
#include "base/str.h"
#include "build/template-internal.h"
#include "os/spawn.h"

#include <errno.h>

enum { APT_OUTPUT_MAX = 262144 };

/* Neither backports nor proposed updates: a sandbox gets what Debian calls stable. */
static const char *const suites[] = { "bookworm", "bookworm-updates", "bookworm-security" };

static bool has_line(const struct apt_setup *apt, const char *line)
{
	for (size_t i = 0; i < apt->n_lines; i++)
		if (streq(apt->lines[i], line))
			return true;
	return false;
}

/* "Debian|bookworm|deb URI bookworm main" */
static void take_target(struct apt_setup *apt, char *text)
{
	const char *origin = strsep(&text, "|");
	const char *codename = strsep(&text, "|");
	bool known = false;

	if (text == NULL || !streq(origin, "Debian") || apt->n_lines == APT_LINES_MAX)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(suites); i++)
		known = known || streq(codename, suites[i]);
	/* A medium or a directory of the host means nothing to a guest. */
	if (!str_starts(text, "deb http://") && !str_starts(text, "deb https://"))
		return;
	if (!known || has_line(apt, text))
		return;
	apt->lines[apt->n_lines++] = str_dup(text);
}

/* Security updates without what they update are no system. */
static void drop_incomplete(struct apt_setup *apt)
{
	for (size_t i = 0; i < apt->n_lines; i++)
		if (strstr(apt->lines[i], " bookworm ") != NULL)
			return;
	while (apt->n_lines > 0)
		free_ptr(&apt->lines[--apt->n_lines]);
}

/* Asks a program of apt. Return: 0, also with no answer; -errno with op->err set. */
static int ask(const char *const *argv, struct buf *out, struct op *op)
{
	struct op query = op_child(op, 0);
	int r = spawn_run(argv, NULL, out, &query);

	if (r == 0)
		return 0;
	buf_clear(out);
	r = op_check(op);
	return r < 0 ? err_errno(&op->err, -r, "ask apt for its sources") : 0;
}

static int read_sources(struct apt_setup *apt, struct op *op)
{
	static const char *const argv[] = {
		"apt-get",
		"indextargets",
		"--format",
		"$(ORIGIN)|$(CODENAME)|deb $(REPO_URI) $(CODENAME) $(COMPONENT)",
		"Created-By: Packages",
		NULL,
	};
	auto_buf text = BUF_INIT(APT_OUTPUT_MAX);
	auto_free char *copy = NULL;
	char *rest;
	char *line;
	int r = ask(argv, &text, op);

	if (r < 0)
		return r;
	copy = str_dup(buf_str(&text));
	rest = copy;
	while ((line = strsep(&rest, "\n")) != NULL)
		take_target(apt, line);
	drop_incomplete(apt);
	return 0;
}

static int read_options(struct apt_setup *apt, struct op *op)
{
	static const char *const argv[] = { "apt-config", "dump", "Acquire", NULL };
	auto_buf text = BUF_INIT(APT_OUTPUT_MAX);
	auto_buf options = BUF_INIT(APT_OUTPUT_MAX);
	auto_free char *copy = NULL;
	char *rest;
	char *line;
	int r = ask(argv, &text, op);

	if (r < 0)
		return r;
	copy = str_dup(buf_str(&text));
	rest = copy;
	while (r == 0 && (line = strsep(&rest, "\n")) != NULL)
		if (str_starts(line, "Acquire::")) /* no warnings */
			r = buf_printf(&options, "%s\n", line);
	if (r < 0)
		return err_errno(&op->err, -r, "keep the options of apt");
	if (options.len > 0)
		apt->options = buf_steal(&options);
	return 0;
}

int apt_setup_read(bool sources, struct apt_setup *out, struct op *op)
{
	cleanup(apt_setup_done) struct apt_setup apt = { .n_lines = 0 };
	int r = sources ? read_sources(&apt, op) : 0;

	if (r == 0)
		r = read_options(&apt, op);
	if (r < 0)
		return r;
	*out = apt;
	apt = (struct apt_setup){ .n_lines = 0 };
	return 0;
}

void apt_setup_done(struct apt_setup *apt)
{
	while (apt->n_lines > 0)
		free_ptr(&apt->lines[--apt->n_lines]);
	free_ptr(&apt->options);
}
