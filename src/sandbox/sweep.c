/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/sweep.h"

#include "base/file.h"
#include "base/log.h"
#include "os/cgroup.h"

int sweep_cgroup(int root_fd, const char *name, struct op *op)
{
	int r;

	log_warning("sweep.cgroup", kv_str("name", name));
	r = cgroup_remove(root_fd, name, op);
	if (r < 0)
		log_error("sweep.failed", kv_str("cgroup", name), kv_str("error", op->err.msg));
	return r;
}

int sweep_run_directory(int run_fd, const char *name, struct op *op)
{
	int r;

	log_warning("sweep.run_directory", kv_str("id", name));
	r = file_remove_tree_at(run_fd, name);
	if (r == 0)
		return 0;
	err_errno(&op->err, -r, "remove run directory %s", name);
	log_error("sweep.failed", kv_str("run_directory", name), kv_str("error", op->err.msg));
	return r;
}

int sweep_slots(struct net *net, bool (*known)(const struct sandbox_id *id, void *arg), void *arg,
		struct op *op)
{
	int r = net_sweep(net, known, arg, op);

	if (r < 0)
		log_error("sweep.failed", kv_str("slots", op->err.msg));
	else if (r > 0)
		log_warning("sweep.slots", kv_u64("removed", (uint64_t)r));
	return MIN(r, 0);
}
