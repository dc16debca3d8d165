/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A running VM's disk gets a new top layer by three commands: the file of the layer becomes a node
 * out of a descriptor set, the format a node over it, both while the guest runs; and while it
 * stands still `blockdev-snapshot` (qemu-state.c) puts that one above what the disk was, which is
 * read-only from then on.
 *
 * Which node is on top is asked for each time, so that it does not matter which daemon switched
 * last. A node's name follows from the file that it is, so whoever has a disk's files knows which
 * of them QEMU has. The descriptor sets stay as long as their nodes: QEMU opens the file by them
 * again when a layer becomes read-only one day.
 *
 * Layers below the top one may become one, in a new file. That becomes a node, too, over the same
 * one as the lowest of those that it holds, and `blockdev-reopen` of the node above puts it below
 * that one. The guest's requests wait for it, about a millisecond. Nodes that are part of nothing
 * any more are deleted; QEMU refuses to delete others, so all but those of the chain are tried.
 * The same way goes what a daemon that was killed half-way left.
 */
#include "vmm/qemu-internal.h"

#include "base/json.h"
#include "base/parse.h"
#include "base/str.h"
#include "vmm/qmp.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define FDSET_PATH "/dev/fdset/"

void qemu_node_name(char kind, int fd, char out[QEMU_NODE_SIZE])
{
	struct stat st = { 0 };

	ignore_err(fstat(fd, &st)); /* of an open file: it cannot fail */
	snprintf(out, QEMU_NODE_SIZE, "%c%jx-%jx", kind, (uintmax_t)st.st_dev,
		 (uintmax_t)st.st_ino);
}

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

int qemu_disk_event(struct qemu *q, enum vmm_event *out, struct op *op)
{
	auto_json *blocks = NULL;
	int r = qmp_execute(q->qmp, "query-block", NULL, &blocks, op);
	const json_t *block;
	size_t i;

	*out = VMM_EVENT_IO_ERROR;
	json_array_foreach(blocks, i, block)
	{
		const char *status = json_string_value(json_object_get(block, "io-status"));

		if (status != NULL && streq(status, "nospace"))
			*out = VMM_EVENT_NO_SPACE;
	}
	return r;
}

static int add_node(struct qemu *q, json_t *node, struct op *op)
{
	auto_json *args = node;

	return qmp_execute(q->qmp, "blockdev-add", args, NULL, op);
}

/* Return: whether it is gone; one that is in use stays. */
static bool delete_node(struct qemu *q, const char *name, const struct op *op)
{
	auto_json *args = json_pack("{ss}", "node-name", name);
	struct op child = op_child(op, 0);

	return qmp_execute(q->qmp, "blockdev-del", args, NULL, &child) == 0;
}

static void remove_set(struct qemu *q, uint64_t set, const struct op *op)
{
	struct op child = op_child(op, 0);

	ignore_err(qmp_remove_fds(q->qmp, set, &child)); /* then it goes with QEMU */
}

/* The file of an image as a node. Return: 0; -errno with op->err set. */
static int add_file(struct qemu *q, int fd, bool writable, uint64_t *out_set, struct op *op)
{
	auto_free char *path = NULL;
	char name[QEMU_NODE_SIZE];
	int r = qmp_add_fd(q->qmp, fd, out_set, op);

	if (r < 0)
		return r;
	qemu_node_name('f', fd, name);
	path = str_printf(FDSET_PATH "%ju", (uintmax_t)*out_set);
	r = add_node(q,
		     json_pack("{ss ss ss ss sb}", "driver", "file", "node-name", name, "filename",
			       path, "discard", "unmap", "read-only", !writable),
		     op);
	if (r < 0)
		remove_set(q, *out_set, op);
	return r;
}

static void delete_file(struct qemu *q, const char *name, uint64_t set, const struct op *op)
{
	delete_node(q, name, op);
	remove_set(q, set, op);
}

static int add_layer(struct qemu *q, const struct qemu_layer *layer, bool qcow2, struct op *op)
{
	json_t *node = json_pack("{ss ss ss ss ss}", "driver", qcow2 ? "qcow2" : "raw", "node-name",
				 layer->image, "file", layer->file, "discard", "unmap",
				 "detect-zeroes", "unmap");

	/* A name of a backing file in the layer is never followed. */
	if (qcow2)
		json_object_set_new(node, "backing", json_null());
	return add_node(q, node, op);
}

int qemu_layer_add(struct qemu *q, const struct vmm_image *top, struct qemu_layer *out,
		   struct op *op)
{
	struct qemu_layer layer = { 0 };
	auto_free char *below = NULL;
	int r = query_top(q, &below, op);

	if (r == 0 && str_fit(layer.below, sizeof(layer.below), "%s", below) < 0)
		r = err_set(&op->err, ERR_VMM, "the VM's disk is the node %.40s, not one of ours",
			    below);
	if (r == 0)
		r = add_file(q, top->fd, true, &layer.set, op);
	if (r < 0)
		return r;
	qemu_node_name('f', top->fd, layer.file);
	qemu_node_name('d', top->fd, layer.image);
	r = add_layer(q, &layer, top->format == VMM_IMAGE_QCOW2, op);
	if (r < 0)
		delete_file(q, layer.file, layer.set, op); /* the first error counts */
	else
		*out = layer;
	return r;
}

void qemu_layer_drop(struct qemu *q, const struct qemu_layer *layer, const struct op *op)
{
	if (delete_node(q, layer->image, op))
		delete_file(q, layer->file, layer->set, op);
}

/* What the node of an image is, in a chain. */
static json_t *node_of(const struct vmm_image *image, const struct vmm_image *below, bool top)
{
	bool qcow2 = image->format == VMM_IMAGE_QCOW2;
	char file[QEMU_NODE_SIZE];
	char name[QEMU_NODE_SIZE];
	char under[QEMU_NODE_SIZE];
	json_t *node;

	qemu_node_name('f', image->fd, file);
	qemu_node_name('d', image->fd, name);
	node = json_pack("{ss ss ss ss ss sb}", "driver", qcow2 ? "qcow2" : "raw", "node-name",
			 name, "file", file, "discard", "unmap", "detect-zeroes",
			 top ? "unmap" : "off", "read-only", !top);
	if (below != NULL)
		qemu_node_name('d', below->fd, under);
	if (qcow2)
		json_object_set_new(node, "backing",
				    below != NULL ? json_string(under) : json_null());
	return node;
}

static const json_t *find_node(const json_t *nodes, const char *name)
{
	const json_t *node;
	size_t i;

	json_array_foreach(nodes, i, node)
	{
		if (streq(json_string_value(json_object_get(node, "node-name")), name))
			return node;
	}
	return NULL;
}

static bool has_image(const json_t *nodes, const struct vmm_image *image)
{
	char name[QEMU_NODE_SIZE];

	qemu_node_name('d', image->fd, name);
	return find_node(nodes, name) != NULL;
}

static int query_nodes(struct qemu *q, json_t **out, struct op *op)
{
	auto_json *args = json_pack("{sb}", "flat", true);

	return qmp_execute(q->qmp, "query-named-block-nodes", args, out, op);
}

/* Deletes a node if nothing needs it; with the node of a file goes its descriptor set. */
static bool try_delete(struct qemu *q, const json_t *node, const struct op *op)
{
	const char *name = json_string_value(json_object_get(node, "node-name"));
	const char *path = json_string_value(json_object_get(node, "file"));
	uint64_t set;

	if (name == NULL || !delete_node(q, name, op))
		return false;
	if (name[0] == 'f' && path != NULL && str_starts(path, FDSET_PATH) &&
	    parse_u64(path + strlen(FDSET_PATH), 0, INT64_MAX, &set) == 0)
		remove_set(q, set, op);
	return true;
}

/* Whether a node is that of an image of a chain, or of its file. */
static bool is_of_chain(const json_t *node, const struct vmm_image *chain, size_t n)
{
	const char *name = json_string_value(json_object_get(node, "node-name"));
	char image[QEMU_NODE_SIZE];
	bool is = false;

	for (size_t i = 0; i < n && name != NULL && !is; i++) {
		qemu_node_name(name[0], chain[i].fd, image);
		is = streq(image, name);
	}
	return is;
}

/* Deletes all nodes but those of a chain, unless they are in use. Return: 0 with those that are
 * left; -errno with op->err set. */
static int sweep_nodes(struct qemu *q, const struct vmm_image *chain, size_t n, json_t **out,
		       struct op *op)
{
	bool again = true;
	int r = 0;

	while (again && r == 0) {
		auto_json *nodes = NULL;
		const json_t *node;
		size_t i;

		again = false;
		r = query_nodes(q, &nodes, op);
		json_array_foreach(nodes, i, node)
		{
			if (!is_of_chain(node, chain, n))
				again = try_delete(q, node, op) || again;
		}
		if (r == 0 && !again)
			*out = json_incref(nodes);
	}
	return r;
}

static int add_image(struct qemu *q, const struct vmm_image *image, const struct vmm_image *below,
		     struct op *op)
{
	char file[QEMU_NODE_SIZE];
	uint64_t set;
	int r;

	qemu_node_name('f', image->fd, file);
	delete_node(q, file, op); /* as far as this a killed daemon may have come */
	r = add_file(q, image->fd, false, &set, op);
	if (r == 0) {
		r = add_node(q, node_of(image, below, false), op);
		if (r < 0)
			delete_file(q, file, set, op);
	}
	return r;
}

static int reopen(struct qemu *q, json_t *node, struct op *op)
{
	auto_json *args = json_pack("{s[o]}", "options", node);

	return qmp_execute(q->qmp, "blockdev-reopen", args, NULL, op);
}

/* From the lowest image on: what QEMU has not is added, and put below what it has. @all: what it
 * has is put over what is below it in any case. */
static int build_chain(struct qemu *q, const json_t *nodes, const struct vmm_image *chain, size_t n,
		       bool all, struct op *op)
{
	bool fresh = false;
	int r = 0;

	for (size_t i = n; i-- > 0 && r == 0;) {
		const struct vmm_image *below = i + 1 < n ? &chain[i + 1] : NULL;

		if (!has_image(nodes, &chain[i])) {
			r = add_image(q, &chain[i], below, op);
			fresh = true;
		} else if (fresh || (all && below != NULL)) {
			r = reopen(q, node_of(&chain[i], below, i == 0), op);
			fresh = false;
		}
	}
	return r;
}

/* The index in @chain of the image that the guest writes to; -errno with op->err set. */
static int find_top(struct qemu *q, const struct vmm_image *chain, size_t n, struct op *op)
{
	auto_free char *top = NULL;
	char name[QEMU_NODE_SIZE];
	int r = query_top(q, &top, op);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		qemu_node_name('d', chain[i].fd, name);
		if (streq(name, top))
			return (int)i;
	}
	return err_set(&op->err, ERR_VMM, "the VM writes to a layer that its disk has not");
}

/* Whether QEMU has the images of a chain, two nodes each, and no others. */
static bool is_chain(const json_t *nodes, const struct vmm_image *chain, size_t n)
{
	bool has = json_array_size(nodes) == 2 * n;

	for (size_t i = 0; i < n && has; i++)
		has = has_image(nodes, &chain[i]);
	return has;
}

/* As a rule there is a new file in place of some. What a killed daemon left half done is seen by
 * what cannot be deleted then; so all are gone through, each of which makes the guest's requests
 * wait for a moment. */
static int change_chain(struct qemu *q, const json_t *nodes, const struct vmm_image *chain,
			size_t n, struct op *op)
{
	auto_json *left = NULL;
	auto_json *rest = NULL;
	int r = build_chain(q, nodes, chain, n, false, op);

	if (r == 0)
		r = sweep_nodes(q, chain, n, &left, op);
	if (r < 0 || is_chain(left, chain, n))
		return r;
	r = build_chain(q, left, chain, n, true, op);
	if (r == 0)
		r = sweep_nodes(q, chain, n, &rest, op);
	if (r == 0 && !is_chain(rest, chain, n))
		return err_set(&op->err, ERR_VMM, "the VM's disk is not what it should be");
	return r;
}

int qemu_set_chain(struct vmm *vmm, const struct vmm_image *chain, size_t n, size_t *out_top,
		   struct op *op)
{
	struct qemu *q = qemu_of(vmm);
	auto_json *nodes = NULL;
	int top = find_top(q, chain, n, op);
	int r = top < 0 ? top : query_nodes(q, &nodes, op);

	if (r == 0 && !is_chain(nodes, chain + top, n - (size_t)top))
		r = change_chain(q, nodes, chain + top, n - (size_t)top, op);
	if (r < 0)
		return err_wrap(&op->err, "change the layers of the VM's disk");
	*out_top = (size_t)top;
	return 0;
}

/* The layer has this size already; what is wanted is that the device tells of it. */
int qemu_grow_disk(struct vmm *vmm, uint64_t bytes, struct op *op)
{
	struct qemu *q = qemu_of(vmm);
	auto_free char *top = NULL;
	auto_json *args = NULL;
	int r = query_top(q, &top, op);

	if (r < 0)
		return r;
	args = json_pack("{ss sI}", "node-name", top, "size", (json_int_t)bytes);
	return qmp_execute(q->qmp, "block_resize", args, NULL, op);
}
