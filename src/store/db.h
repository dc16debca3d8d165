/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Intents: what each sandbox IS. SQLite, WAL, synchronous=FULL, one writer (the loop thread),
 * prepared statements. No pid, tap, loop or dm name is ever in it: those are in the kernel, and as
 * a hint in handles.json.
 */
#pragma once

#include "base/err.h"
#include "base/id.h"

struct db;

enum db_state { /* as stored; DESIGN section 6 */
		DB_CREATING,
		DB_RUNNING,
		DB_PAUSING,
		DB_PAUSED,
		DB_RESUMING,
		DB_STARTING,
		DB_STOPPED,
		DB_DELETING,
		DB_READY, /* made ahead of any create: nobody's, and no event tells of it */
		DB_STATE_N
};

/** db_state_name() - "creating", … ; static storage */
const char *db_state_name(enum db_state s);

/* Where a sandbox may go, as its user said. Strings are as in struct db_sandbox. */
struct db_egress {
	char *allow_out;       /* IPv4 networks with one blank between them (net/egress.h) */
	char *deny_out;        /* as above */
	char *internet_access; /* "true"; "false" = everything is denied, too; "" = not said */
};

/* One sandbox. Strings are owned by the row (new memory, never NULL: "" = not set). */
struct db_sandbox {
	struct sandbox_id id;
	char *name; /* unique among sandboxes; "" = none */
	char *template_name;
	enum db_state state;
	unsigned cpus;
	uint64_t memory_mib;
	uint64_t disk_mib;
	char *user; /* default user of commands */
	char *workdir;
	char *env_json;      /* JSON object of strings */
	char *metadata_json; /* JSON object of strings */
	char *access_token;  /* "" = not secured */
	struct db_egress egress;
	char *traffic_token;       /* that its ports ask for; "" = they are open to all */
	char *mask_host;           /* the Host that servers in it see; "" = as sent */
	uint64_t timeout_s;        /* as asked for at create; 0 = none */
	bool auto_pause;           /* at its deadline it is paused, not removed */
	bool auto_pause_disk_only; /* and then only its disk is kept */
	bool auto_resume;          /* requests to it wake it when it is paused */
	uint64_t created_ms;       /* CLOCK_REALTIME */
	uint64_t started_ms;
	uint64_t end_ms;      /* deadline, CLOCK_REALTIME; 0 = none */
	char *kernel_version; /* recorded when it was first booted */
	char *vmm_name;
	char *vmm_version;
	char *vivd_version;
	char *agent_version;
	char *disk_driver;
	char *acceleration;  /* "kvm" or "tcg", with what it was booted; "" = not recorded */
	uint64_t generation; /* checkpoint that it is at, or came from last; 0 = none */
	char *last_error;    /* "" = none */
	char *cause; /* of the change of state under way, as of events; "" = somebody asked */
	bool leaked; /* a release failed; the reaper tries again */
	uint64_t restart_max;   /* how often it is started again when its VM failed; 0 = never */
	uint64_t restart_tries; /* how often that was in a row; a long life or a person ends one */
	bool restarting;        /* it is stopped, and will be started again */
	uint64_t idle_s;        /* unused for so long it is paused, 0 = for any time */
	bool idle_kill;         /* or then removed */
};

/** db_sandbox_init() - all strings "" and numbers 0 */
void db_sandbox_init(struct db_sandbox *row);

/** db_sandbox_done() - free the strings; idempotent after init */
void db_sandbox_done(struct db_sandbox *row);

/** db_set_str() - replace an owned string of a row by a copy of @value (NULL = "") */
void db_set_str(char **field, const char *value);

/** db_egress_init() - nothing said */
void db_egress_init(struct db_egress *egress);

/** db_egress_done() - free the strings; idempotent after init */
void db_egress_done(struct db_egress *egress);

/* The row of the state directory itself. */
struct db_instance {
	struct instance_tag tag; /* made with the file */
	uint32_t net_block;      /* hint for net_open(); 0 = none */
};

/**
 * db_open() - open, make or migrate the store
 * @path:	vivarium.db
 *
 * A file of a newer schema is refused, naming both versions; a corrupt one too.
 * Thread: loop. Return: 0; -errno with @e set.
 */
must_check int db_open(const char *path, struct db **out, struct err *e);

/** db_close() - close; NULL is allowed */
void db_close(struct db *db);

/** db_instance_get(), db_instance_set_net_block() */
must_check int db_instance_get(struct db *db, struct db_instance *out, struct err *e);
must_check int db_instance_set_net_block(struct db *db, uint32_t block, struct err *e);

/** db_sandbox_insert() - reserve an id and name. Return: 0; -EEXIST with ERR_CONFLICT: the name is
 * taken (the message names it); -errno */
must_check int db_sandbox_insert(struct db *db, const struct db_sandbox *row, struct err *e);

/** db_sandbox_update() - write a whole row by id. Return: 0; -ENOENT; -errno with @e set */
must_check int db_sandbox_update(struct db *db, const struct db_sandbox *row, struct err *e);

/** db_sandbox_delete() - remove a row. Return: 0 (also if absent); -errno with @e set */
must_check int db_sandbox_delete(struct db *db, const struct sandbox_id *id, struct err *e);

/** db_sandbox_each() - read all rows in order of creation; @fn takes ownership of the row's
 * strings, and ends the walk with < 0. Return: 0; what @fn returned; -errno with @e set */
must_check int db_sandbox_each(struct db *db, int (*fn)(struct db_sandbox *row, void *arg),
			       void *arg, struct err *e);
