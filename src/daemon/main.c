/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vivd: reads its configuration, opens the manager (which adopts what an earlier daemon left
 * running), serves the API, and ends on SIGTERM or SIGINT once no operation runs. VMs are not tied
 * to its life.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "daemon/cert.h"
#include "daemon/config.h"
#include "daemon/doctor.h"
#include "daemon/doors.h"
#include "daemon/helper.h"
#include "daemon/hooks.h"
#include "daemon/prepare.h"
#include "daemon/program.h"
#include "daemon/stop-all.h"
#include "os/work.h"
#include "sandbox/accel.h"
#include "sandbox/fault.h"
#include "sandbox/usage.h"
#include "viv-config.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DESCRIPTORS_MIN = 256, DESCRIPTORS_MAX = 65536 };

struct daemon {
	uv_loop_t loop;
	uv_signal_t signals[2];
	uv_signal_t hangup;
	uv_signal_t pause_all;
	struct manager *manager;
	struct doors *doors;
	struct hooks *hooks;
	bool stopping;
	bool pausing_all; /* a signal's pauses are under way */
	int stopped_all;  /* how --stop-all ended */
	struct err error; /* of that */
};

static void close_signals(struct daemon *d)
{
	for (size_t i = 0; i < ARRAY_SIZE(d->signals); i++)
		uv_close((uv_handle_t *)&d->signals[i], NULL);
	uv_close((uv_handle_t *)&d->hangup, NULL);
	uv_close((uv_handle_t *)&d->pause_all, NULL);
}

static void on_quiet(void *arg)
{
	struct daemon *d = arg;

	doors_close(d->doors);
	hooks_close(take_ptr(&d->hooks));
	close_signals(d);
}

static void stop(struct daemon *d)
{
	if (d->stopping)
		return;
	d->stopping = true;
	manager_shutdown(d->manager, on_quiet, d);
}

static void on_signal(uv_signal_t *handle, int signo)
{
	struct daemon *d = handle->data;

	log_info("vivd.stopping", kv_str("signal", strsignal(signo)));
	for (size_t i = 0; i < ARRAY_SIZE(d->signals); i++)
		uv_signal_stop(
			&d->signals[i]); /* a second one ends us at once: that is safe, too */
	stop(d);
}

static void on_all_paused(const struct rest_result *results, size_t n, void *arg)
{
	struct daemon *d = arg;
	uint64_t failed = 0;

	for (size_t i = 0; i < n; i++) {
		if (!err_is_set(&results[i].error))
			continue;
		failed++;
		log_error("sandbox.pause_all_failed", kv_str("id", results[i].id.s),
			  kv_str("error", results[i].error.msg));
	}
	log_info("vivd.paused_all", kv_u64("paused", n - failed), kv_u64("failed", failed));
	d->pausing_all = false;
}

/* The host goes down, or whoever looks after the sandboxes is lost. */
static void on_pause_all(uv_signal_t *handle, int signo)
{
	struct daemon *d = handle->data;

	(void)signo;
	if (d->doors == NULL || d->stopping || d->pausing_all)
		return;
	log_info("vivd.pausing_all");
	d->pausing_all = true;
	sandbox_rest_all(d->manager, true, on_all_paused, d);
}

static void on_all_stopped(const struct rest_result *results, size_t n, void *arg)
{
	struct daemon *d = arg;

	d->stopped_all = stop_all_tell(results, n, &d->error);
	stop(d);
}

/* A new certificate is in the place of the old one, or a terminal is gone, which is nothing. */
static void on_hangup(uv_signal_t *handle, int signo)
{
	struct daemon *d = handle->data;

	(void)signo;
	if (d->doors != NULL)
		doors_reload(d->doors);
}

static void watch_signals(struct daemon *d)
{
	static const int numbers[] = { SIGTERM, SIGINT };

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		uv_signal_init(&d->loop, &d->signals[i]);
		d->signals[i].data = d;
		uv_signal_start(&d->signals[i], on_signal, numbers[i]);
	}
	uv_signal_init(&d->loop, &d->hangup);
	d->hangup.data = d;
	uv_signal_start(&d->hangup, on_hangup, SIGHUP);
	uv_signal_init(&d->loop, &d->pause_all);
	d->pause_all.data = d;
	uv_signal_start(&d->pause_all, on_pause_all, SIGUSR1);
}

static struct manager_config manager_config_of(const struct config *c, const char *tls_program,
					       const char *hook_program)
{
	return (struct manager_config){
		.state_dir = c->state_dir,
		.run_dir = c->run_dir,
		.vmm = c->vmm,
		.vmm_binary = c->vmm_binary,
		.acceleration = c->acceleration,
		.kvm_stand_in = c->kvm_stand_in,
		.disk = c->disk,
		.agent_path = c->agent,
		.version = VIV_VERSION,
		.tls_cert = c->tls_listen != NULL ? c->tls_cert : NULL,
		.tls_domain = c->domain,
		.tls_program = tls_program,
		.hook_program = hook_program,
		.fault = c->fault,
		.net_range = c->network_addr,
		.net_prefix = c->network_prefix,
		/* What is made ahead is of no use to who only stops. */
		.slot_pool = c->stop_all ? 0 : c->slot_pool,
		.warm_images = c->stop_all ? 0 : c->warm_images,
		.warm_behind = streq(c->warm_behind, "on"),
		.pool_memory_mib = c->pool_memory_mib,
		.vmm_uid_base = c->vmm_uid_base,
		.default_cpus = c->default_cpus,
		.max_cpus = c->max_cpus,
		.default_memory_mib = c->default_memory_mib,
		.max_memory_mib = c->max_memory_mib,
		.default_disk_mib = c->default_disk_mib,
		.agent_timeout_ms = (uint64_t)c->agent_start_timeout_s * MS_PER_S,
		.tcg_timeout_factor = c->tcg_timeout_factor,
		.kvm_probe_timeout_ms = (uint64_t)c->kvm_probe_timeout_s * MS_PER_S,
		.pause_drain_ms = c->pause_drain_ms,
		.pause_parallel = c->pause_parallel,
		.agent_probe_s = c->agent_probe_s,
		.agent_probe_timeout_s = c->agent_probe_timeout_s,
		.memory_overcommit = c->memory_overcommit,
		.memory_reserve_mib = c->memory_reserve_mib,
		.disk_reserve_mib = c->disk_reserve_mib,
	};
}

/* Tells whoever started us that requests are served from now on. */
static void say_ready(const struct config *c)
{
	static const char word[] = "ready\n";
	int fd = c->ready_fd;

	log_info("vivd.ready", kv_str("version", VIV_VERSION), kv_str("socket", c->socket),
		 kv_str("state_dir", c->state_dir));
	if (fd < 0)
		return;
	ignore_err(fd_write_all(fd, word, sizeof(word) - 1)); /* it may have stopped waiting */
	fd_close(&fd);
}

static void begin(struct daemon *d, const struct config *c)
{
	if (c->stop_all) {
		sandbox_rest_all(d->manager, false, on_all_stopped, d);
		return;
	}
	accel_start(d->manager);
	prune_at_start(d->manager);
	say_ready(c);
}

static int open_hooks(struct daemon *d, const struct config *c, struct err *e)
{
	const struct hooks_spec spec = { .uid = helper_uid(c, HELPER_HOOK),
					 .any_address = streq(c->webhook_private, "on") };

	return hooks_open(&d->loop, manager_store(d->manager), &spec, &d->hooks, e);
}

static int serve(const struct config *c, struct err *e)
{
	auto_free char *tls_program = program_find("viv-tls");
	auto_free char *hook_program = program_find("viv-hook");
	const struct manager_config config = manager_config_of(c, tls_program, hook_program);
	struct daemon d = { .doors = NULL };
	int r;

	umask(0022);
	mallopt(M_ARENA_MAX, 2); /* workers mostly wait: an arena for each is memory for nothing */
	work_setup(c->worker_threads + 1); /* a probe of KVM takes no operation's place */
	uv_loop_init(&d.loop);
	watch_signals(&d);
	r = manager_open(&d.loop, &config, &d.manager, e);
	if (r == 0 && !c->stop_all)
		r = open_hooks(&d, c, e);
	if (r == 0 && !c->stop_all)
		r = doors_open(&d.loop, d.manager, c, &d.doors, e);
	if (r == 0)
		begin(&d, c);
	else if (d.manager != NULL)
		stop(&d);
	else
		close_signals(&d);
	uv_run(&d.loop,
	       UV_RUN_DEFAULT); /* until a signal; or, after a failure, until all is closed */
	if (d.manager != NULL)
		manager_close(d.manager);
	doors_free(d.doors);
	uv_run(&d.loop, UV_RUN_DEFAULT); /* what those two closed */
	if (uv_loop_close(&d.loop) < 0)
		log_warning("vivd.handles_left");
	if (r == 0 && !c->stop_all) {
		unlink(c->socket);
		log_info("vivd.stopped");
	}
	if (d.stopped_all < 0)
		*e = d.error;
	return r < 0 ? r : d.stopped_all;
}

/* As many descriptors as we may have: each connection is one or two. */
static void raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = MAX(limit.rlim_cur, MIN(limit.rlim_max, (rlim_t)DESCRIPTORS_MAX));
	ignore_err(setrlimit(RLIMIT_NOFILE, &limit)); /* then with those that we have */
}

/* What a handful of sandboxes take; with less, the first of them would fail in odd places. */
static int check_descriptors(struct err *e)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return err_errno(e, errno, "ask for the limit of open files");
	if (limit.rlim_cur >= DESCRIPTORS_MIN)
		return 0;
	return err_set(
		e, ERR_INVALID,
		"vivd may have %llu files open, and needs %d at least: raise the hard limit, by "
		"LimitNOFILE= in its unit or \"ulimit -Hn\" of who starts it",
		(unsigned long long)limit.rlim_cur, DESCRIPTORS_MIN);
}

/* 0 to 2 are open, writes to a closed pipe fail instead of killing us, and nobody traces us. */
static int prepare_process(struct err *e)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	int fd;

	do {
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (fd < 0)
			return err_errno(e, errno, "open /dev/null");
	} while (fd <= STDERR_FILENO);
	fd_close(&fd);
	raise_descriptors();
	if (sigaction(SIGPIPE, &ignore, NULL) < 0 || sigaction(SIGHUP, &ignore, NULL) < 0)
		return err_errno(e, errno, "set up signals");
	return 0;
}

static int run_serve(const struct config *c, struct err *e)
{
	int r;

	if (geteuid() != 0)
		return err_set(e, ERR_INVALID, "vivd has to be root: it makes namespaces and VMs");
	r = check_descriptors(e);
	if (r < 0)
		return r;
	if (c->fault != NULL && !fault_valid(c->fault))
		return err_set(e, ERR_INVALID, "setting fault: '%s' is no PLAN.STEP.WHEN=ACTION",
			       c->fault);
	r = c->stop_all ? stop_all_ask(c->socket, e) : 1;
	return r == 1 ? serve(c, e) : r;
}

static int run_doctor(const struct config *c, struct err *e)
{
	auto_free char *tls_program = program_find("viv-tls");
	auto_free char *hook_program = program_find("viv-hook");
	const struct manager_config config = manager_config_of(c, tls_program, hook_program);
	struct doctor_command command = {
		.request = { .fix = c->fix, .delete_data = c->delete_data },
		.json = c->json,
	};

	return doctor_command(&config, &command, e);
}

/* Return: an exit code; -errno with @e set. */
static int run_command(const struct config *c, struct err *e)
{
	if (streq(c->command, "doctor"))
		return run_doctor(c, e);
	if (streq(c->command, "prepare"))
		return prepare_exec(c, e);
	if (streq(c->command, "cert"))
		return cert_run(c, e);
	if (streq(c->command, "config"))
		return config_print(c, stdout);
	return run_serve(c, e);
}

int main(int argc, char **argv)
{
	struct config config;
	struct err e = { 0 };
	int r = prepare_process(&e);

	if (r == 0 && argc > 1 && streq(argv[1], DOCTOR_PROBE_FLAG))
		return doctor_probe_main(argc - 2, argv + 2);
	if (r == 0)
		r = config_load(argc, argv, &config, &e);
	if (r > 0)
		return 0; /* --help and --version said what they had to */
	if (r == 0) {
		log_setup(config.log_level);
		r = run_command(&config, &e);
		config_done(&config);
	}
	if (r < 0)
		fprintf(stderr, "vivd: %s\n", e.msg);
	return r < 0 ? 1 : r;
}
