/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The schema, as the steps that made it. It holds what a sandbox is meant to be, and nothing that
 * ends with a process or a boot.
 */
#include "store/db-internal.h"

const char *const schema_migrations[] = {
	/* 0 -> 1 */
	"CREATE TABLE instance ("
	"  one INTEGER PRIMARY KEY CHECK (one = 1),"
	"  tag TEXT NOT NULL,"
	"  net_block INTEGER NOT NULL DEFAULT 0"
	") STRICT;"
	"CREATE TABLE sandbox ("
	"  id TEXT PRIMARY KEY NOT NULL,"
	"  name TEXT NOT NULL,"
	"  template_name TEXT NOT NULL,"
	"  state TEXT NOT NULL,"
	"  cpus INTEGER NOT NULL,"
	"  memory_mib INTEGER NOT NULL,"
	"  disk_mib INTEGER NOT NULL,"
	"  user TEXT NOT NULL,"
	"  workdir TEXT NOT NULL,"
	"  env_json TEXT NOT NULL,"
	"  metadata_json TEXT NOT NULL,"
	"  access_token TEXT NOT NULL,"
	"  timeout_s INTEGER NOT NULL,"
	"  created_ms INTEGER NOT NULL,"
	"  started_ms INTEGER NOT NULL,"
	"  end_ms INTEGER NOT NULL,"
	"  kernel_version TEXT NOT NULL,"
	"  vmm_name TEXT NOT NULL,"
	"  vmm_version TEXT NOT NULL,"
	"  vivd_version TEXT NOT NULL,"
	"  agent_version TEXT NOT NULL,"
	"  disk_driver TEXT NOT NULL,"
	"  last_error TEXT NOT NULL,"
	"  leaked INTEGER NOT NULL"
	") STRICT;"
	"CREATE UNIQUE INDEX sandbox_name ON sandbox (name) WHERE name != '';"
	"CREATE INDEX sandbox_created ON sandbox (created_ms);",
	/* 1 -> 2 */
	"ALTER TABLE sandbox ADD COLUMN acceleration TEXT NOT NULL DEFAULT '';",
	/* 2 -> 3 */
	"CREATE TABLE api_key ("
	"  id TEXT PRIMARY KEY NOT NULL,"
	"  name TEXT NOT NULL UNIQUE,"
	"  prefix TEXT NOT NULL,"
	"  hash BLOB NOT NULL,"
	"  created_ms INTEGER NOT NULL,"
	"  last_used_ms INTEGER NOT NULL"
	") STRICT;",
	/* 3 -> 4 */
	"ALTER TABLE sandbox ADD COLUMN allow_out TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE sandbox ADD COLUMN deny_out TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE sandbox ADD COLUMN internet_access TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE sandbox ADD COLUMN traffic_token TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE sandbox ADD COLUMN mask_host TEXT NOT NULL DEFAULT '';",
	/* 4 -> 5 */
	"ALTER TABLE sandbox ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;",
	/* 5 -> 6 */
	"ALTER TABLE sandbox ADD COLUMN auto_pause INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE sandbox ADD COLUMN auto_pause_disk_only INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE sandbox ADD COLUMN auto_resume INTEGER NOT NULL DEFAULT 0;",
	/* 6 -> 7: events, written by whatever changes a sandbox (store/events.h). Those of over 7
	 * days go, and those that are more than 100000. A change that is none to a client (pausing,
	 * resuming, deleting) has no event, unless it is a way back: then it is an error. */
	"ALTER TABLE sandbox ADD COLUMN cause TEXT NOT NULL DEFAULT '';"
	"CREATE TABLE event ("
	"  id INTEGER PRIMARY KEY AUTOINCREMENT,"
	"  at_ms INTEGER NOT NULL,"
	"  type TEXT NOT NULL,"
	"  sandbox TEXT NOT NULL,"
	"  name TEXT NOT NULL,"
	"  template_name TEXT NOT NULL,"
	"  cause TEXT NOT NULL,"
	"  error TEXT NOT NULL,"
	"  generation INTEGER NOT NULL"
	") STRICT;"
	"CREATE INDEX event_at ON event (at_ms);"
	"CREATE INDEX event_sandbox ON event (sandbox, id);"
	"CREATE VIEW event_new AS SELECT * FROM event;"
	"CREATE TRIGGER event_write INSTEAD OF INSERT ON event_new WHEN NEW.type IS NOT NULL BEGIN"
	"  INSERT INTO event"
	"    (at_ms, type, sandbox, name, template_name, cause, error, generation)"
	"    VALUES (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), NEW.type,"
	"      NEW.sandbox, NEW.name, NEW.template_name, NEW.cause, NEW.error, NEW.generation);"
	"  DELETE FROM event WHERE id <= last_insert_rowid() - 100000"
	"    OR at_ms < CAST((julianday('now') - 2440594.5) * 86400000 AS INTEGER);"
	" END;"
	"CREATE TRIGGER event_created AFTER INSERT ON sandbox BEGIN"
	"  INSERT INTO event_new (type, sandbox, name, template_name, cause, error, generation)"
	"    VALUES ('created', NEW.id, NEW.name, NEW.template_name, '', '', NEW.generation);"
	" END;"
	"CREATE TRIGGER event_state AFTER UPDATE ON sandbox WHEN OLD.state != NEW.state BEGIN"
	"  INSERT INTO event_new (type, sandbox, name, template_name, cause, error, generation)"
	"    VALUES (CASE"
	"      WHEN NEW.state = 'running' AND OLD.state = 'resuming' THEN 'resumed'"
	"      WHEN NEW.state = 'running' AND OLD.state = 'pausing' AND NEW.last_error != ''"
	"        THEN 'error'"
	"      WHEN NEW.state = 'running' THEN 'running'"
	"      WHEN NEW.state IN ('paused', 'stopped') AND OLD.state IN ('resuming', 'starting')"
	"        THEN 'error'"
	"      WHEN NEW.state IN ('paused', 'stopped') THEN NEW.state"
	"      WHEN NEW.state = 'deleting' AND OLD.state = 'creating' AND NEW.last_error != ''"
	"        THEN 'error'"
	"      END, NEW.id, NEW.name, NEW.template_name, NEW.cause, NEW.last_error,"
	"      NEW.generation);"
	" END;"
	"CREATE TRIGGER event_checkpoint AFTER UPDATE ON sandbox"
	" WHEN OLD.state = 'running' AND NEW.state = 'running' AND NEW.generation > OLD.generation"
	" BEGIN"
	"  INSERT INTO event_new (type, sandbox, name, template_name, cause, error, generation)"
	"    VALUES ('checkpointed', NEW.id, NEW.name, NEW.template_name, NEW.cause, '',"
	"      NEW.generation);"
	" END;"
	"CREATE TRIGGER event_killed AFTER DELETE ON sandbox BEGIN"
	"  INSERT INTO event_new (type, sandbox, name, template_name, cause, error, generation)"
	"    VALUES ('killed', OLD.id, OLD.name, OLD.template_name, OLD.cause, OLD.last_error,"
	"      OLD.generation);"
	" END;",
	/* 7 -> 8: pools (store/pools.h). Of what waits in one there is no event: it is created
	 * when a create gets it, and its end before that is nobody's. */
	"CREATE TABLE pool ("
	"  template_name TEXT PRIMARY KEY NOT NULL,"
	"  cpus INTEGER NOT NULL,"
	"  memory_mib INTEGER NOT NULL,"
	"  disk_mib INTEGER NOT NULL,"
	"  size INTEGER NOT NULL"
	") STRICT;"
	"DROP TRIGGER event_created;"
	"DROP TRIGGER event_killed;"
	"CREATE TRIGGER event_created AFTER INSERT ON sandbox WHEN NEW.state != 'ready' BEGIN"
	"  INSERT INTO event_new (type, sandbox, name, template_name, cause, error, generation)"
	"    VALUES ('created', NEW.id, NEW.name, NEW.template_name, '', '', NEW.generation);"
	" END;"
	"CREATE TRIGGER event_claimed AFTER UPDATE ON sandbox"
	" WHEN OLD.state = 'ready' AND NEW.state != 'ready' BEGIN"
	"  INSERT INTO event_new (type, sandbox, name, template_name, cause, error, generation)"
	"    VALUES ('created', NEW.id, NEW.name, NEW.template_name, '', '', NEW.generation);"
	" END;"
	"CREATE TRIGGER event_killed AFTER DELETE ON sandbox WHEN OLD.state != 'ready' BEGIN"
	"  INSERT INTO event_new (type, sandbox, name, template_name, cause, error, generation)"
	"    VALUES ('killed', OLD.id, OLD.name, OLD.template_name, OLD.cause, OLD.last_error,"
	"      OLD.generation);"
	" END;",
	/* 8 -> 9: what becomes of a sandbox whose VM failed. */
	"ALTER TABLE sandbox ADD COLUMN restart_max INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE sandbox ADD COLUMN restart_tries INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE sandbox ADD COLUMN restarting INTEGER NOT NULL DEFAULT 0;",
	/* 9 -> 10: idle timeouts. */
	("ALTER TABLE sandbox ADD COLUMN idle_s INTEGER NOT NULL DEFAULT 0;"
	 "ALTER TABLE sandbox ADD COLUMN idle_kill INTEGER NOT NULL DEFAULT 0;"),
	/* 10 -> 11: what is wrong with one that runs is an event, too. */
	"CREATE TRIGGER event_error AFTER UPDATE ON sandbox"
	" WHEN OLD.state = 'running' AND NEW.state = 'running' AND NEW.last_error != ''"
	"   AND NEW.last_error != OLD.last_error"
	" BEGIN"
	"  INSERT INTO event_new (type, sandbox, name, template_name, cause, error, generation)"
	"    VALUES ('error', NEW.id, NEW.name, NEW.template_name, NEW.cause, NEW.last_error,"
	"      NEW.generation);"
	" END;",
};

unsigned schema_version(void)
{
	return ARRAY_SIZE(schema_migrations);
}
