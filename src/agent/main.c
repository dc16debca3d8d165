/* SPDX-License-Identifier: Apache-2.0 */
/*
 * viv-agent. As PID 1 of a guest it boots the system, then serves; started by hand it only serves,
 * on an address given, which is how it is tested on a host.
 */
#include "agent/boot.h"
#include "agent/freeze.h"
#include "agent/listen.h"
#include "agent/power.h"
#include "agent/serve.h"
#include "base/fd.h"
#include "base/guestwords.h"
#include "base/log.h"
#include "base/str.h"
#include "viv-config.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { MMAP_BYTES = 131072 };

static const char usage[] = "usage: viv-agent --listen ADDR:PORT|unix:PATH [--root-user-only]\n"
			    "       viv-agent --version\n";

/* Large requests give their memory back, and it stays that way however many there were. */
static void set_malloc(void)
{
	ignore_err(mallopt(M_MMAP_THRESHOLD, MMAP_BYTES)); /* the values are valid */
	ignore_err(mallopt(M_TRIM_THRESHOLD, MMAP_BYTES));
	ignore_err(mallopt(M_ARENA_MAX, 1));
}

/* Descriptors 0 to 2 are taken, so that no pipe or socket of ours becomes one of them. */
static int fill_stdio(struct err *e)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR); /* not CLOEXEC, as stdio is not */
		if (fd < 0)
			return err_errno(e, errno, "open /dev/null");
	} while (fd <= STDERR_FILENO);
	fd_close(&fd);
	return 0;
}

/* The services of a guest are the host's to use: from inside they are not reached at all. */
static int guest_start(struct agent *a, struct err *e)
{
	struct boot_config config = { 0 };
	int fd;

	if (boot_run(&config, e) < 0)
		return -1;
	if (config.probe) {
		power_say(GUEST_READY_LINE "\n");
		power_end();
	}
	if (config.debug)
		log_setup(LOG_LEVEL_DEBUG);
	if (fill_stdio(e) < 0)
		return -1;
	if (freeze_setup(&a->freezer, e) < 0)
		return -1;
	fd = listen_tcp_any(GUEST_PORT, config.net ? "eth0" : NULL, e);
	if (fd < 0)
		return -1;
	return serve_start(a, fd, e);
}

static _Noreturn void guest_main(void)
{
	struct agent a = { .is_init = true, .freezer = FREEZER_NONE };
	struct err e = { 0 };

	if (guest_start(&a, &e) < 0)
		power_fatal(e.msg);
	power_say(GUEST_READY_LINE "\n");
	serve_run(&a);
	power_end();
}

static int host_main(const char *where, bool root_only)
{
	struct agent a = { .root_only = root_only, .freezer = FREEZER_NONE };
	struct err e = { 0 };
	int fd = -1;

	if (fill_stdio(&e) == 0)
		fd = listen_open(where, &e);
	if (fd < 0 || serve_start(&a, fd, &e) < 0) {
		fprintf(stderr, "viv-agent: %s\n", e.msg);
		return EXIT_FAILURE;
	}
	listen_announce(fd, where, stdout);
	serve_run(&a);
	serve_stop(&a);
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "listen", required_argument, NULL, 'l' },
						 { "root-user-only", no_argument, NULL, 'r' },
						 { "version", no_argument, NULL, 'v' },
						 { "help", no_argument, NULL, 'h' },
						 { 0 } };
	const char *where = NULL;
	bool root_only = false;
	int option;

	set_malloc();
	if (getpid() == 1)
		guest_main();
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'l':
			where = optarg;
			break;
		case 'r':
			root_only = true;
			break;
		case 'v':
			printf("viv-agent %s\n", VIV_VERSION);
			return EXIT_SUCCESS;
		case 'h':
			fputs(usage, stdout);
			return EXIT_SUCCESS;
		default:
			fputs(usage, stderr);
			return EXIT_FAILURE;
		}
	}
	if (where == NULL || optind != argc) {
		fputs(usage, stderr);
		return EXIT_FAILURE;
	}
	return host_main(where, root_only);
}
