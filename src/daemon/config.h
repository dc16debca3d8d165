/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings of vivd. One table in config.c says of each its name, type, default, bounds and help;
 * the name in the file (state_dir), in the environment (VIVARIUM_STATE_DIR) and of the flag
 * (--state-dir) follow from it. Later wins: default, file, environment, flag.
 */
#pragma once

#include "base/err.h"
#include "base/log.h"

#include <stdio.h>

#define CONFIG_DEFAULT_FILE "/etc/vivarium/vivd.conf"

enum { CONFIG_SETTINGS_MAX = 48, CONFIG_FILE_MAX_BYTES = 65536, CONFIG_ORIGIN_SIZE = 320 };

enum config_source { CONFIG_DEFAULT, CONFIG_FILE, CONFIG_ENV, CONFIG_FLAG };

/* What a setting was given as. */
struct config_value {
	char *text; /* owned */
	enum config_source source;
	unsigned line; /* of the file */
};

/* Strings are NULL when empty, and belong to values[]. */
struct config {
	const char *command; /* "serve", "prepare", "cert", "doctor" or "config"; static storage */
	bool force;          /* of prepare and cert */
	bool fix;            /* of doctor, as the next two */
	bool delete_data;
	bool json;
	bool stop_all; /* of serve: stop all sandboxes instead, and end */
	int ready_fd;  /* gets "ready\n" when requests are served; -1 = nobody waits; borrowed */

	const char *state_dir;
	const char *run_dir;
	const char *socket;
	enum log_level log_level;
	const char *vmm;
	const char *vmm_binary;
	const char *acceleration;
	const char *disk;
	unsigned default_cpus;
	unsigned max_cpus;
	uint64_t default_memory_mib;
	uint64_t max_memory_mib; /* 0 = the host's */
	uint64_t default_disk_mib;
	unsigned agent_start_timeout_s;
	unsigned tcg_timeout_factor;
	unsigned kvm_probe_timeout_s;
	unsigned agent_probe_s;
	unsigned agent_probe_timeout_s;
	unsigned pause_drain_ms;
	unsigned pause_parallel;
	uint32_t network_addr; /* host byte order */
	unsigned network_prefix;
	unsigned slot_pool;
	unsigned warm_images;
	const char *warm_behind;
	uint64_t pool_memory_mib; /* 0 = a share of the host's */
	unsigned memory_overcommit;
	uint64_t memory_reserve_mib; /* 0 = a share of the host's */
	uint64_t disk_reserve_mib;   /* 0 = a share of the file system's */
	unsigned vmm_uid_base;
	unsigned worker_threads;
	const char *agent;
	uint64_t root_free_mib;
	const char *listen;
	const char *listen_public; /* "on" or "off" */
	const char *proxy_listen;
	const char *tls_listen;
	const char *tls_cert;
	const char *tls_key;
	const char *domain;
	const char *webhook_private; /* "on" or "off" */
	const char *fault;
	const char *kvm_stand_in;

	char *file; /* that was read, owned; NULL = none */
	struct config_value values[CONFIG_SETTINGS_MAX];
};

/**
 * config_load() - settings from file, environment and command line
 * @out:	to be freed with config_done() after success
 *
 * --help and --version are answered on stdout.
 * Return: 0; 1 answered, nothing is to be done and nothing to be freed; -errno with @e set: it
 * names file and line, variable or flag, and what is allowed.
 */
must_check int config_load(int argc, char **argv, struct config *out, struct err *e);

/** config_done() - free what the settings own; idempotent after a successful load or init */
void config_done(struct config *c);

/** config_print() - effective settings, each with where it came from, in the form of a file.
 * Return: 0; -errno */
must_check int config_print(const struct config *c, FILE *out);

/** config_help() - what `vivd --help` says */
void config_help(FILE *out);

/** config_init() - all defaults */
void config_init(struct config *c);

/**
 * config_read_text() - apply the text of a configuration file
 * @name:	of the file, for messages
 *
 * Return: 0; -errno with @e set.
 */
must_check int config_read_text(struct config *c, const char *text, size_t n, const char *name,
				struct err *e);

/** config_check() - what concerns several settings at once, and defaults that depend on others.
 * Return: 0; -errno with @e set */
must_check int config_check(struct config *c, struct err *e);

/* The rest is shared by config.c and config-load.c. */

/** config_find() - number of a setting by its key, -1 if there is none */
int config_find(const char *key, size_t n);

/** config_key() - key of a setting by number, NULL past the last */
const char *config_key(size_t setting);

/** config_set() - parse and keep a value. Return: 0; -errno with @e set */
must_check int config_set(struct config *c, size_t setting, const char *text,
			  const struct config_value *from, struct err *e);

/** config_origin() - where a value came from: "default", "FILE:12", "VIVARIUM_KEY", "--key" */
void config_origin(const struct config *c, size_t setting, const struct config_value *from,
		   char out[CONFIG_ORIGIN_SIZE]);

/** config_env_name() - "VIVARIUM_STATE_DIR" of a setting; caller frees */
char *config_env_name(size_t setting);

/** config_flag_name() - "--state-dir" of a setting; caller frees */
char *config_flag_name(size_t setting);

/** config_unknown() - set the error for a key that is no setting. Return: -EINVAL */
int config_unknown(const char *where, const char *what, struct err *e);
