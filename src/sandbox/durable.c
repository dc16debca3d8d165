/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A sandbox is handed out when its disk is durable, and not before: whoever was told of it finds
 * it again after a power cut, with all that its guest was told is written. But nobody waits for
 * the disk first. As soon as the files are there a thread of its own syncs them, once each, while
 * the VMM is started and the guest is woken; the last step of the plan waits for its end.
 *
 * Until then the row says that the sandbox is being created or resumed. After a power cut the next
 * daemon unwinds such a row, with the disk, or goes back to the checkpoint, and reads nothing of
 * what may be there in part. A daemon that is killed loses nothing: what was written is the
 * kernel's.
 */
#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "sandbox/steps.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

struct syncing {
	const struct disk_ops *disk;
	int dirfd;    /* of the sandbox; owned */
	int above_fd; /* the directory that it is in; borrowed */
	pthread_t thread;
	bool has_thread;
	struct op op;
	int result;
};

static void *sync_all(void *arg)
{
	struct syncing *s = arg;

	s->result = disk_sync(s->disk, s->dirfd, &s->op);
	if (s->result < 0)
		return NULL;
	s->result = file_sync_dir(s->above_fd);
	if (s->result < 0)
		err_errno(&s->op.err, -s->result, "sync the directory of sandboxes");
	return NULL;
}

static bool start_thread(struct syncing *s)
{
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&s->thread, NULL, sync_all, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r == 0;
}

static void syncing_free(struct syncing *s)
{
	fd_close(&s->dirfd);
	free(s);
}

int durable_begin(struct sandbox *sb, struct op *op)
{
	auto_close int dirfd = fcntl(sb->res.dirfd, F_DUPFD_CLOEXEC, 3);
	struct syncing *s;

	durable_end(&sb->res); /* of an attempt that failed */
	if (dirfd < 0)
		return err_errno(&op->err, errno, "open the sandbox's directory again");
	s = xcalloc(1, sizeof(*s));
	s->disk = sb->m->disk;
	s->dirfd = take_fd(&dirfd);
	s->above_fd = sb->m->sandboxes_fd;
	op_init(&s->op, 0, -1);
	s->has_thread = start_thread(s);
	sb->res.syncing = s;
	return 0;
}

int durable_acquire(struct sandbox *sb, struct op *op)
{
	struct syncing *s = take_ptr(&sb->res.syncing);
	int r;

	if (s->has_thread)
		pthread_join(s->thread, NULL);
	else
		sync_all(s);
	r = s->result;
	if (r < 0)
		op->err = s->op.err;
	syncing_free(s);
	return r;
}

void durable_end(struct resources *res)
{
	struct syncing *s = take_ptr(&res->syncing);

	if (s == NULL)
		return;
	if (s->has_thread)
		pthread_join(s->thread, NULL);
	syncing_free(s);
}
