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
};

unsigned schema_version(void)
{
	return ARRAY_SIZE(schema_migrations);
}
