/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A running VM's disk gets a new top layer by three commands: the file of the layer becomes a node
 * out of a descriptor set, the format a node over it, and `blockdev-snapshot` puts that one above
 * what the disk was, which is read-only from then on.
 *
 * Which node is on top is asked for each time, so that it does not matter which daemon switched
 * last. The names of new nodes bear the number of their descriptor set, which is no other's as long
 * as the node lives. The set stays: QEMU opens the file by it again when the layer becomes
 * read-only one day.
 */
#include "vmm/qemu-internal.h"

#include "base/json.h"
#include "base/str.h"
#include "vmm/qmp.h"

#include <stdlib.h>

/* The name of the node that the guest's disk is; caller frees; NULL = it has none. */
static char *top_node(const json_t *blocks)
{
	const json_t *block;
	size_t i;

	json_array_foreach(blocks, i, block)
	{
		const json_t *inserted = json_object_get(block, "inserted");
		const char *name = json_string_value(json_object_get(inserted, "node-name"));

		if (name != NULL)
			return str_dup(name);
	}
	return NULL;
}

static int query_top(struct qemu *q, char **out, struct op *op)
{
	auto_json *blocks = NULL;
	int r = qmp_execute(q->qmp, "query-block", NULL, &blocks, op);

	if (r < 0)
		return r;
	*out = top_node(blocks);
	return *out != NULL ? 0 : err_set(&op->err, ERR_VMM, "QEMU says that the VM has no disk");
}

static int add_node(struct qemu *q, json_t *node, struct op *op)
{
	auto_json *args = node;

	return qmp_execute(q->qmp, "blockdev-add", args, NULL, op);
}

/* After a failure, whose error counts. */
static void delete_node(struct qemu *q, const char *name, const struct op *op)
{
	auto_json *args = json_pack("{ss}", "node-name", name);
	struct op child = op_child(op, 0);

	ignore_err(qmp_execute(q->qmp, "blockdev-del", args, NULL, &child));
}

static int put_on_top(struct qemu *q, const char *file, const char *layer, bool qcow2,
		      struct op *op)
{
	auto_free char *top = NULL;
	auto_json *args = NULL;
	json_t *node = json_pack("{ss ss ss ss ss}", "driver", qcow2 ? "qcow2" : "raw", "node-name",
				 layer, "file", file, "discard", "unmap", "detect-zeroes", "unmap");
	int r;

	/* A name of a backing file in the layer is never followed. */
	if (qcow2)
		json_object_set_new(node, "backing", json_null());
	r = add_node(q, node, op);
	if (r < 0)
		return r;
	r = query_top(q, &top, op);
	if (r == 0) {
		args = json_pack("{ss ss}", "node", top, "overlay", layer);
		r = qmp_execute(q->qmp, "blockdev-snapshot", args, NULL, op);
	}
	if (r < 0)
		delete_node(q, layer, op);
	return r;
}

static int add_layer(struct qemu *q, uint64_t set, bool qcow2, struct op *op)
{
	auto_free char *file = str_printf("layer-file%ju", (uintmax_t)set);
	auto_free char *layer = str_printf("layer%ju", (uintmax_t)set);
	auto_free char *path = str_printf("/dev/fdset/%ju", (uintmax_t)set);
	int r = add_node(q,
			 json_pack("{ss ss ss ss}", "driver", "file", "node-name", file, "filename",
				   path, "discard", "unmap"),
			 op);

	if (r < 0)
		return r;
	r = put_on_top(q, file, layer, qcow2, op);
	if (r < 0)
		delete_node(q, file, op);
	return r;
}

int qemu_switch_disk(struct vmm *vmm, const struct vmm_image *top, struct op *op)
{
	struct qemu *q = qemu_of(vmm);
	uint64_t set;
	int r = qmp_add_fd(q->qmp, top->fd, &set, op);

	if (r < 0)
		return r;
	r = add_layer(q, set, top->format == VMM_IMAGE_QCOW2, op);
	if (r < 0) {
		struct op child = op_child(op, 0);

		ignore_err(qmp_remove_fds(q->qmp, set, &child)); /* the first error counts */
		return err_wrap(&op->err, "put a layer on the VM's disk");
	}
	return 0;
}
