/* SPDX-License-Identifier: Apache-2.0 */
/* Where settings come from: the file, the environment, the command line. */
#include "daemon/config.h"

#include "base/file.h"
#include "base/parse.h"
#include "base/str.h"
#include "viv-config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

enum { LINE_MAX_BYTES = 1024, FD_MAX = 1023 };

/* What the command line says; strings are borrowed from argv. */
struct args {
	char **next;         /* arguments that were not looked at yet; ended by NULL */
	const char *command; /* NULL = none */
	const char *config_file;
	bool force;
	bool fix;
	bool delete_data;
	bool json;
	bool stop_all;
	bool help;
	bool version;
	int ready_fd;
	const char *flags[CONFIG_SETTINGS_MAX]; /* by setting; NULL = not given */
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* Cuts blanks off both ends, in place. */
static char *trim(char *s)
{
	size_t n;

	while (is_blank(*s))
		s++;
	n = strlen(s);
	while (n > 0 && is_blank(s[n - 1]))
		n--;
	s[n] = '\0';
	return s;
}

/* A comment begins with a # at the start of a line or behind a blank. */
static void cut_comment(char *line)
{
	for (char *p = line; *p != '\0'; p++) {
		if (*p == '#' && (p == line || is_blank(p[-1]))) {
			*p = '\0';
			return;
		}
	}
}

static int read_line(struct config *c, char *line, unsigned number, struct err *e)
{
	struct config_value from = { .source = CONFIG_FILE, .line = number };
	auto_free char *where = str_printf("%s:%u", c->file, number);
	char *equals;
	char *key;
	char *value;
	int setting;

	cut_comment(line);
	key = trim(line);
	if (key[0] == '\0')
		return 0;
	equals = strchr(key, '=');
	if (equals == NULL)
		return err_set(e, ERR_INVALID, "%s: '%.80s' is no line 'key = value'", where, key);
	*equals = '\0';
	key = trim(key);
	value = trim(equals + 1);
	if (value[0] == '#') /* a comment behind nothing */
		value[0] = '\0';
	setting = config_find(key, strlen(key));
	if (setting < 0)
		return config_unknown(where, key, e);
	if (c->values[setting].source == CONFIG_FILE)
		return err_set(e, ERR_INVALID, "%s: %s was set in line %u already", where, key,
			       c->values[setting].line);
	return config_set(c, (size_t)setting, value, &from, e);
}

int config_read_text(struct config *c, const char *text, size_t n, const char *name, struct err *e)
{
	const char *end = text + n;
	unsigned number = 0;
	int r = 0;

	free(c->file);
	c->file = str_dup(name);
	while (r == 0 && text < end) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		size_t len = (size_t)((newline != NULL ? newline : end) - text);
		char line[LINE_MAX_BYTES];

		number++;
		if (len >= sizeof(line))
			return err_set(e, ERR_INVALID, "%s:%u: the line is longer than %d bytes",
				       name, number, LINE_MAX_BYTES - 1);
		if (memchr(text, '\0', len) != NULL)
			return err_set(e, ERR_INVALID, "%s:%u: there is a NUL byte", name, number);
		memcpy(line, text, len);
		line[len] = '\0';
		r = read_line(c, line, number, e);
		text += len + 1;
	}
	return r;
}

static int read_file(struct config *c, const char *path, struct err *e)
{
	auto_buf text = BUF_INIT(CONFIG_FILE_MAX_BYTES);
	int r = file_read_at(AT_FDCWD, path != NULL ? path : CONFIG_DEFAULT_FILE, &text);

	if (r == -ENOENT && path == NULL)
		return 0;
	if (path == NULL)
		path = CONFIG_DEFAULT_FILE;
	if (r == -EMSGSIZE)
		return err_set(e, ERR_INVALID, "configuration %s: larger than %d bytes", path,
			       CONFIG_FILE_MAX_BYTES);
	if (r < 0)
		return err_errno(e, -r, "read configuration %s", path);
	return config_read_text(c, buf_str(&text), text.len, path, e);
}

static int read_environment(struct config *c, struct err *e)
{
	for (size_t i = 0; config_key(i) != NULL; i++) {
		struct config_value from = { .source = CONFIG_ENV };
		auto_free char *name = config_env_name(i);
		const char *value = getenv(name);
		int r = value != NULL && value[0] != '\0' ? config_set(c, i, value, &from, e) : 0;

		if (r < 0)
			return r;
	}
	return 0;
}

static int read_flags(struct config *c, const struct args *args, struct err *e)
{
	for (size_t i = 0; config_key(i) != NULL; i++) {
		struct config_value from = { .source = CONFIG_FLAG };
		int r = args->flags[i] != NULL ? config_set(c, i, args->flags[i], &from, e) : 0;

		if (r < 0)
			return r;
	}
	return 0;
}

/* Whether an argument is --@name or --@name=VALUE; *@value is NULL in the first case. */
static bool is_flag(const char *arg, const char *name, const char **value)
{
	size_t n = strlen(name);

	if (strncmp(arg, name, n) != 0 || (arg[n] != '\0' && arg[n] != '='))
		return false;
	*value = arg[n] == '=' ? arg + n + 1 : NULL;
	return true;
}

/* The value of a flag that has one: behind its '=', or else the next argument. NULL with @e set. */
static const char *need_value(struct args *args, const char *name, const char *value, struct err *e)
{
	if (value == NULL && *args->next != NULL)
		value = *args->next++;
	if (value == NULL)
		err_set(e, ERR_INVALID, "%s: write %s=VALUE", name, name);
	return value;
}

static int parse_ready_fd(struct args *args, const char *value, struct err *e)
{
	uint64_t fd;

	value = need_value(args, "--ready-fd", value, e);
	if (value == NULL)
		return -EINVAL;
	if (parse_u64(value, 0, FD_MAX, &fd) < 0)
		return err_set(e, ERR_INVALID, "--ready-fd: a descriptor from 0 to %d", FD_MAX);
	args->ready_fd = (int)fd;
	return 1;
}

/* Flags that are no settings. Return: 1 it was one; 0; -errno with @e set. */
static int parse_own_flag(struct args *args, const char *arg, struct err *e)
{
	const char *value = NULL;

	if (is_flag(arg, "--config", &value)) {
		args->config_file = need_value(args, "--config", value, e);
		return args->config_file != NULL ? 1 : -EINVAL;
	}
	if (is_flag(arg, "--ready-fd", &value))
		return parse_ready_fd(args, value, e);
	if (streq(arg, "--help") || streq(arg, "-h"))
		args->help = true;
	else if (streq(arg, "--version"))
		args->version = true;
	else if (streq(arg, "--force"))
		args->force = true;
	else if (streq(arg, "--fix"))
		args->fix = true;
	else if (streq(arg, "--delete"))
		args->delete_data = true;
	else if (streq(arg, "--json"))
		args->json = true;
	else if (streq(arg, "--stop-all"))
		args->stop_all = true;
	else
		return 0;
	return 1;
}

static int parse_setting_flag(struct args *args, const char *arg, struct err *e)
{
	for (size_t i = 0; config_key(i) != NULL; i++) {
		auto_free char *name = config_flag_name(i);
		const char *value;

		if (!is_flag(arg, name, &value))
			continue;
		args->flags[i] = need_value(args, name, value, e);
		return args->flags[i] != NULL ? 0 : -EINVAL;
	}
	return config_unknown("command line", arg, e);
}

static int parse_command(struct args *args, const char *arg, struct err *e)
{
	static const char *const commands[] = { "serve", "prepare", "cert", "doctor", "config" };

	if (args->command != NULL)
		return err_set(e, ERR_INVALID, "'%.80s': there is the command '%s' already", arg,
			       args->command);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (streq(arg, commands[i])) {
			args->command = commands[i];
			return 0;
		}
	}
	return err_set(e, ERR_INVALID,
		       "'%.80s' is no command; there are prepare, cert, doctor and config", arg);
}

static int parse_args(struct args *args, struct err *e)
{
	int r = 0;

	while (r >= 0 && *args->next != NULL) {
		const char *arg = *args->next++;

		if (arg[0] != '-') {
			r = parse_command(args, arg, e);
			continue;
		}
		r = parse_own_flag(args, arg, e);
		if (r == 0)
			r = parse_setting_flag(args, arg, e);
	}
	return r < 0 ? r : 0;
}

static int load(struct config *c, const struct args *args, struct err *e)
{
	int r = read_file(c, args->config_file, e);

	if (r == 0)
		r = read_environment(c, e);
	if (r == 0)
		r = read_flags(c, args, e);
	if (r == 0)
		r = config_check(c, e);
	if (args->command != NULL)
		c->command = args->command;
	c->force = args->force;
	c->fix = args->fix;
	c->delete_data = args->delete_data;
	c->json = args->json;
	c->stop_all = args->stop_all;
	if (r == 0 && c->stop_all && !streq(c->command, "serve"))
		r = err_set(e, ERR_INVALID, "--stop-all goes with no command");
	c->ready_fd = args->ready_fd;
	return r;
}

int config_load(int argc, char **argv, struct config *out, struct err *e)
{
	struct args args = { .next = argv + (argc > 0), .ready_fd = -1 };
	struct config c;
	int r = parse_args(&args, e);

	if (r < 0)
		return r;
	if (args.help || args.version) {
		if (args.help)
			config_help(stdout);
		else
			printf("vivd %s\n", VIV_VERSION);
		return 1;
	}
	config_init(&c);
	r = load(&c, &args, e);
	if (r < 0) {
		config_done(&c);
		return r;
	}
	*out = c;
	return 0;
}
