/* SPDX-License-Identifier: Apache-2.0 */
/* Sandboxes that wait in pools: how they get there, are found, and leave. */
#include "sandbox/ready-internal.h"

#include "base/str.h"

#include <poll.h>
#include <stdlib.h>

bool ready_is_of(const struct sandbox *sb, const struct tended *pool)
{
	return sb->row.state == DB_READY && streq(sb->row.template_name, pool->wish.template_name);
}

bool ready_is_made_of(const struct sandbox *sb, const struct template *t,
		      const struct checkpoint *image, uint64_t disk_mib)
{
	const struct checkpoint *origin = &sb->res.origin;

	return streq(sb->res.template.root_path, t->root_path) &&
	       origin->generation == image->generation && origin->image_id == image->image_id &&
	       origin->created_ms == image->created_ms && sb->row.disk_mib == disk_mib;
}

static bool has_ended(const struct sandbox *sb)
{
	struct pollfd fd = { .fd = vmm_pidfd(sb->res.vmm), .events = POLLIN };

	return poll(&fd, 1, 0) != 0;
}

struct sandbox *ready_find(const struct manager *m, const struct template *t,
			   const struct checkpoint *image, const struct db_sandbox *spec)
{
	vec_foreach (at, &m->all) {
		struct sandbox *sb = *at;

		if (sb->member != NULL && ready_is_made_of(sb, t, image, spec->disk_mib) &&
		    !has_ended(sb))
			return sb;
	}
	return NULL;
}

static void on_process_closed(uv_handle_t *process)
{
	free(process->data);
}

void ready_leave(struct sandbox *sb)
{
	struct member *member = take_ptr(&sb->member);

	if (member == NULL)
		return;
	proc_meter_done(&member->meter);
	uv_close((uv_handle_t *)&member->process, on_process_closed);
}

static void on_process(uv_poll_t *process, int status, int events)
{
	struct sandbox *sb = ((struct member *)process->data)->sb;
	struct ready *rd = sb->m->ready;
	struct tended *pool = ready_pool(rd, sb->row.template_name);
	struct err why = { 0 };

	(void)status;
	(void)events;
	err_set(&why, ERR_VMM, "the VMM of %s, which was ready, ended", sb->row.id.s);
	if (pool != NULL)
		ready_back_off(rd, pool, "ready.died", &why);
	sandbox_start_destroy(sb);
}

int ready_keep(struct sandbox *sb)
{
	struct member *member = xcalloc(1, sizeof(*member));
	int r = uv_poll_init(sb->m->loop, &member->process, vmm_pidfd(sb->res.vmm));

	if (r < 0) {
		free(member);
		return r;
	}
	member->sb = sb;
	member->meter = (struct proc_meter)PROC_METER_INIT;
	member->process.data = member;
	ignore_err(proc_meter_open(vmm_pid(sb->res.vmm), vmm_pidfd(sb->res.vmm),
				   &member->meter)); /* only to tell what it takes */
	uv_poll_start(&member->process, UV_READABLE, on_process);
	sb->member = member;
	return 0;
}

void ready_end_members(struct manager *m, const struct tended *pool)
{
	for (size_t i = m->all.n; i-- > 0;) {
		struct sandbox *sb = m->all.at[i];

		if (sb->member != NULL && (pool == NULL || ready_is_of(sb, pool)))
			sandbox_start_destroy(sb);
	}
}
