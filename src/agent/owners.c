/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/owners.h"

#include "base/parse.h"
#include "base/str.h"

#include <stdio.h>

/* The files are the guest's: a huge one is read so far and no further. */
enum { OWNERS_MAX = 16384, LINE_SIZE = 4096 };

static void close_file(FILE **f)
{
	if (*f != NULL)
		fclose(*f);
}

/* Reads "name:password:id:…", the form that both files share. */
static void read_line(char *line, struct owner_names *names)
{
	char *rest = line;
	const char *name = strsep(&rest, ":");
	const char *password = strsep(&rest, ":");
	const char *id_text = strsep(&rest, ":\n");
	uint64_t id;

	if (password != NULL && id_text != NULL && parse_u64(id_text, 0, UINT32_MAX, &id) == 0)
		owner_names_push(names, (struct owner_name){ id, str_dup(name) });
}

/* Not by fgetpwent(3): its one buffer is the loop's thread's, and this runs on others. */
static void read_names(const char *path, struct owner_names *names)
{
	cleanup(close_file) FILE *f = fopen(path, "re");
	char line[LINE_SIZE];

	while (f != NULL && names->n < OWNERS_MAX && fgets(line, sizeof(line), f) != NULL)
		read_line(line, names);
}

static void find(const struct owner_names *names, uint64_t id, char out[OWNER_NAME_SIZE])
{
	vec_foreach (entry, names) {
		if (entry->id != id)
			continue;
		str_copy(out, OWNER_NAME_SIZE, entry->name);
		return;
	}
	snprintf(out, OWNER_NAME_SIZE, "%llu", (unsigned long long)id);
}

void owners_user(struct owners *o, uid_t id, char out[OWNER_NAME_SIZE])
{
	if (!o->have_users)
		read_names("/etc/passwd", &o->users);
	o->have_users = true;
	find(&o->users, id, out);
}

void owners_group(struct owners *o, gid_t id, char out[OWNER_NAME_SIZE])
{
	if (!o->have_groups)
		read_names("/etc/group", &o->groups);
	o->have_groups = true;
	find(&o->groups, id, out);
}

static void names_free(struct owner_names *names)
{
	vec_foreach (entry, names)
		free(entry->name);
	owner_names_done(names);
}

void owners_done(struct owners *o)
{
	names_free(&o->users);
	names_free(&o->groups);
	*o = (struct owners){ 0 };
}
