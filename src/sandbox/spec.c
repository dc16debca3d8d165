/* SPDX-License-Identifier: Apache-2.0 */
/* What a sandbox may be: checks a wish, and fills in what it left open. */
#include "base/json.h"
#include "base/str.h"
#include "sandbox/sandbox-internal.h"

enum { MIN_MEMORY_MIB = 64, MAX_DISK_MIB = 16 * 1024 * 1024, MIB = 1024 * 1024 };

int spec_check_name(const char *name, struct err *e)
{
	return name[0] == '\0' ? 0 : name_check("sandbox", name, e);
}

static int check_cpus(const struct manager *m, unsigned cpus, struct err *e)
{
	if (cpus >= 1 && cpus <= m->config.max_cpus)
		return 0;
	return err_set(e, ERR_INVALID, "cpus %u: a sandbox has 1 to %u CPUs (setting max_cpus)",
		       cpus, m->config.max_cpus);
}

static int check_memory(const struct manager *m, uint64_t mib, struct err *e)
{
	uint64_t most =
		m->config.max_memory_mib != 0 ? m->config.max_memory_mib : m->host_memory_mib;

	if (mib >= MIN_MEMORY_MIB && mib <= most)
		return 0;
	if (mib > most && m->config.max_memory_mib == 0)
		return err_set(e, ERR_INVALID,
			       "memory %llu MiB: this host has %llu MiB; ask for less",
			       (unsigned long long)mib, (unsigned long long)most);
	return err_set(e, ERR_INVALID, "memory %llu MiB: a sandbox has %d to %llu MiB",
		       (unsigned long long)mib, MIN_MEMORY_MIB, (unsigned long long)most);
}

/* The smallest disk, MiB. */
static uint64_t least_disk(const struct template *t)
{
	return (t->root_bytes + MIB - 1) / MIB;
}

static int check_disk(uint64_t mib, const struct template *t, struct err *e)
{
	uint64_t least = least_disk(t);

	if (mib > MAX_DISK_MIB)
		return err_set(e, ERR_INVALID, "disk %llu MiB: at most %d MiB",
			       (unsigned long long)mib, MAX_DISK_MIB);
	if (mib < least)
		return err_set(e, ERR_INVALID,
			       "disk %llu MiB is smaller than template %s, which needs %llu MiB",
			       (unsigned long long)mib, t->name, (unsigned long long)least);
	return 0;
}

static void set_default(char **field, const char *value)
{
	if ((*field)[0] == '\0')
		db_set_str(field, value);
}

int spec_merge_env(struct db_sandbox *spec, json_t *below, struct err *e)
{
	auto_json *own = json_loads(spec->env_json, 0, NULL);
	auto_free char *text = NULL;

	if (below != NULL && own != NULL && json_object_update(below, own) == 0)
		text = json_dumps(below, JSON_COMPACT);
	if (text == NULL)
		return err_set(e, ERR_EXHAUSTED, "no memory for the sandbox's environment");
	db_set_str(&spec->env_json, text);
	return 0;
}

int spec_add_env(const struct template *t, struct db_sandbox *spec, struct err *e)
{
	auto_json *env = NULL;
	int r = template_env(t, &env, e);

	if (r < 0 || json_object_size(env) == 0)
		return r;
	return spec_merge_env(spec, env, e);
}

/* Templates have no tags: "base:default" is "base". */
static void drop_default_tag(char *name)
{
	if (str_ends(name, ":default"))
		name[strlen(name) - strlen(":default")] = '\0';
}

int spec_complete(struct manager *m, struct db_sandbox *spec, struct template *out, struct err *e)
{
	int r;

	set_default(&spec->template_name, "base");
	set_default(&spec->env_json, "{}");
	set_default(&spec->metadata_json, "{}");
	if (spec->cpus == 0)
		spec->cpus = m->config.default_cpus;
	if (spec->memory_mib == 0)
		spec->memory_mib = m->config.default_memory_mib;
	drop_default_tag(spec->template_name);
	if (!name_valid(spec->template_name))
		return err_set(e, ERR_NOT_FOUND, "template '%s' not found", spec->template_name);
	r = template_open(m->config.state_dir, spec->template_name, out, e);
	if (r == 0 && spec->disk_mib == 0)
		spec->disk_mib = MAX(m->config.default_disk_mib, least_disk(out));
	if (r == 0)
		r = spec_check_name(spec->name, e);
	if (r == 0)
		r = check_cpus(m, spec->cpus, e);
	if (r == 0)
		r = check_memory(m, spec->memory_mib, e);
	if (r == 0)
		r = check_disk(spec->disk_mib, out, e);
	if (r == 0)
		r = spec_add_env(out, spec, e);
	if (r < 0)
		return r;
	set_default(&spec->user, out->user);
	set_default(&spec->workdir, out->workdir);
	return 0;
}
