/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The host calls POST /init when the guest has booted, and again after every
 * restore, before anybody else may talk to the sandbox: {id, templateId, hostname, timestampMs,
 * entropy, env, accessToken, defaultUser, defaultWorkdir}. All of it replaces what was there. The
 * request is checked whole before anything is changed; a kernel that refuses a part is an error
 * that the host sees, since a sandbox with a clone's random numbers must not be handed out. What
 * belongs to the machine (clock, host name, entropy, files in /run/e2b) is set only by PID 1: an
 * agent that runs on a host for a test changes nothing of it.
 */
#include "agent/identity.h"

#include "agent/agent.h"
#include "agent/environ.h"
#include "agent/field.h"
#include "agent/reply.h"
#include "agent/wake.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "viv-config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { INIT_BODY_MAX = 1 << 20, ENTROPY_MAX_BYTES = 4096 };

static const char run_dir[] = "/run/e2b";

/* The request, borrowed from its JSON but for the entropy. */
struct init {
	const char *id;
	const char *template_id;
	const char *hostname;
	const char *access_token;
	const char *default_user;
	const char *default_workdir;
	json_t *env;
	uint64_t timestamp_ms; /* 0 = not given */
	char *entropy;
	size_t n_entropy;
	bool restored; /* and what follows is of that */
	struct wake wake;
};

static void init_done(struct init *init)
{
	free(init->entropy);
}

#define auto_init cleanup(init_done) struct init

void identity_init(struct identity *id)
{
	*id = (struct identity){ .default_user = str_dup("root"), .env = json_object() };
}

void identity_done(struct identity *id)
{
	free(id->access_token);
	free(id->default_user);
	free(id->default_workdir);
	json_decref(id->env);
	*id = (struct identity){ 0 };
}

bool identity_token_ok(const struct identity *id, const char *token)
{
	const char *want = id->access_token;
	unsigned char differ = 0;

	if (want == NULL)
		return true;
	if (token == NULL || strlen(token) != strlen(want))
		return false;
	/* All of it, so that the time says nothing of where it differs. */
	for (size_t i = 0; want[i] != '\0'; i++)
		differ |= (unsigned char)(want[i] ^ token[i]);
	return differ == 0;
}

/* {"clone": bool, "rehearsal": bool, "diskBytes": number}; absent = booted */
static void read_wake(const json_t *json, struct init *init)
{
	const json_t *wake = json_object_get(json, "wake");

	init->restored = json_is_object(wake);
	init->wake.clone = json_is_true(json_object_get(wake, "clone"));
	init->wake.rehearsal = json_is_true(json_object_get(wake, "rehearsal"));
	init->wake.disk_bytes = (uint64_t)MAX(
		json_integer_value(json_object_get(wake, "diskBytes")), (json_int_t)0);
}

static int read_init(const json_t *json, struct init *init, struct connect_error *e)
{
	if (field_string(json, "id", &init->id, e) < 0 ||
	    field_string(json, "templateId", &init->template_id, e) < 0 ||
	    field_string(json, "hostname", &init->hostname, e) < 0 ||
	    field_string(json, "accessToken", &init->access_token, e) < 0 ||
	    field_string(json, "defaultUser", &init->default_user, e) < 0 ||
	    field_string(json, "defaultWorkdir", &init->default_workdir, e) < 0 ||
	    field_strings(json, "env", false, &init->env, e) < 0 ||
	    field_u64(json, "timestampMs", INT64_MAX, &init->timestamp_ms, e) < 0 ||
	    field_bytes(json, "entropy", &init->entropy, &init->n_entropy, e) < 0)
		return -EPROTO;
	read_wake(json, init);
	if (init->n_entropy > ENTROPY_MAX_BYTES)
		return connect_error_set(e, CONNECT_INVALID_ARGUMENT,
					 "entropy of %zu bytes is more than %d", init->n_entropy,
					 ENTROPY_MAX_BYTES);
	return init->env != NULL ? environment_check(init->env, e) : 0;
}

static int add_entropy(const struct init *init)
{
	auto_close int fd = -1;
	auto_free struct rand_pool_info *pool = NULL;

	if (init->n_entropy == 0)
		return 0;
	pool = xcalloc(1, sizeof(*pool) + ENTROPY_MAX_BYTES);
	pool->entropy_count = (int)init->n_entropy * 8;
	pool->buf_size = (int)init->n_entropy;
	memcpy(pool->buf, init->entropy, init->n_entropy);
	fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (ioctl(fd, RNDADDENTROPY, pool) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0)
		return -errno;
	return 0;
}

static int set_clock(uint64_t ms)
{
	const struct timespec now = { .tv_sec = (time_t)(ms / MS_PER_S),
				      .tv_nsec = (long)(ms % MS_PER_S) * NS_PER_MS };

	if (ms == 0)
		return 0;
	return clock_settime(CLOCK_REALTIME, &now) < 0 ? -errno : 0;
}

static int write_run_file(int dir_fd, const char *name, const char *value)
{
	if (value == NULL)
		return 0;
	return file_write_atomic_at(dir_fd, name, value, strlen(value), 0644);
}

static int write_run_files(const struct init *init)
{
	auto_close int dir_fd = -1;
	int r = file_mkdirs(run_dir);

	if (r < 0)
		return r;
	dir_fd = open(run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0)
		return -errno;
	r = write_run_file(dir_fd, ".E2B_SANDBOX", "true");
	if (r == 0)
		r = write_run_file(dir_fd, ".E2B_SANDBOX_ID", init->id);
	if (r == 0)
		r = write_run_file(dir_fd, ".E2B_TEMPLATE_ID", init->template_id);
	return r;
}

static int set_hostname(const char *name)
{
	if (name == NULL || name[0] == '\0')
		return 0;
	return sethostname(name, strlen(name)) < 0 ? -errno : 0;
}

static int machine_error(struct connect_error *e, const char *what, int r)
{
	return connect_error_set(e, CONNECT_INTERNAL, "%s: %s", what, strerror(-r));
}

static int set_machine(const struct init *init, struct connect_error *e)
{
	int r = add_entropy(init);

	if (r < 0)
		return machine_error(e, "add entropy", r);
	r = set_clock(init->timestamp_ms);
	if (r < 0)
		return machine_error(e, "set the clock", r);
	r = set_hostname(init->hostname);
	if (r < 0)
		return machine_error(e, "set the host name", r);
	r = write_run_files(init);
	if (r < 0)
		return machine_error(e, "write files in /run/e2b", r);
	return 0;
}

static char *dup_unless_empty(const char *s)
{
	return s != NULL && s[0] != '\0' ? str_dup(s) : NULL;
}

static void set_var(json_t *env, const char *name, const char *value)
{
	if (value != NULL)
		ignore_err(json_object_set_new(env, name, json_string(value))); /* UTF-8: parsed */
}

static void set_identity(struct identity *id, const struct init *init)
{
	identity_done(id);
	identity_init(id);
	id->access_token = dup_unless_empty(init->access_token);
	id->default_workdir = dup_unless_empty(init->default_workdir);
	if (init->default_user != NULL && init->default_user[0] != '\0') {
		free(id->default_user);
		id->default_user = str_dup(init->default_user);
	}
	set_var(id->env, "E2B_SANDBOX", "true");
	set_var(id->env, "E2B_SANDBOX_ID", init->id);
	set_var(id->env, "E2B_TEMPLATE_ID", init->template_id);
	if (init->env != NULL)
		ignore_err(json_object_update(id->env, init->env)); /* both are objects */
}

/* The last act: the processes of a restored guest go on, and see nothing older than this. */
static int wake(struct agent *a, const struct init *init, struct connect_error *e)
{
	const char *what;
	int r = a->is_init && init->restored ? wake_up(a, &init->wake, &what) : 0;

	return r < 0 ? machine_error(e, what, r) : 0;
}

static void on_init_body(struct http_exchange *x, const char *body, size_t n, void *arg)
{
	struct agent *a = arg;
	struct connect_error e = { 0 };
	auto_init init = { 0 };
	json_t *json = NULL;
	int r = connect_message_parse(body, n, &json, &e);

	if (r == 0)
		r = read_init(json, &init, &e);
	if (r == 0 && a->is_init)
		r = set_machine(&init, &e);
	if (r == 0) {
		set_identity(&a->identity, &init);
		r = wake(a, &init, &e);
	}
	if (r == 0) {
		reply_json(x, 200, json_pack("{s:s}", "version", VIV_VERSION));
	} else {
		reply_error(x, connect_code_http(e.code), "%s", e.msg);
	}
	json_decref(json);
}

void identity_serve_init(struct http_exchange *x, const struct route_params *params, void *arg)
{
	(void)params;
	http_body_collect(x, INIT_BODY_MAX, on_init_body, arg);
}

void identity_serve_envs(struct http_exchange *x, const struct route_params *params, void *arg)
{
	const struct agent *a = arg;

	(void)params;
	reply_json(x, 200, json_incref(a->identity.env));
}
