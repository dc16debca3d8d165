/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A saved VM is two things: its memory, which vmm/memfile.h reads from and writes to QEMU's process
 * without QEMU, and the state of its devices and CPUs, which QEMU writes as a migration stream that
 * has no memory in it (xen-save-devices-state, which needs no Xen: 17 KiB, 1 ms).
 *
 * All that a save needs of QEMU is told it while the guest runs yet: the descriptor, and the disk's
 * next layer. What is left for the moment in which it stands still are two short commands, sent
 * together, and QEMU works on them while the memory is copied.
 *
 * Restoring: QEMU is started with the same devices and `-incoming defer -S`. Its memory maps the
 * image, or is empty; the pages of the diff are written into it from outside; then it loads the
 * stream from a descriptor, and is a paused VM like any other.
 *
 * Where guest memory lies in QEMU's address space is asked for: the monitor's gpa2hva of guest
 * address 0, which on this machine is the beginning of its one block of memory.
 */
#include "vmm/qemu-internal.h"

#include "base/json.h"
#include "base/str.h"
#include "vmm/memfile.h"
#include "vmm/qmp.h"

#include <errno.h>
#include <stdlib.h>

static int prepare(struct qemu *q, const struct vmm_cut *cut, struct op *op)
{
	int r = 0;

	if (cut->devices_fd >= 0) {
		r = qmp_add_fd(q->qmp, cut->devices_fd, &q->cut.devices_set, op);
		q->cut.has_devices = r == 0;
	}
	if (r == 0 && cut->top != NULL) {
		r = qemu_layer_add(q, cut->top, &q->cut.layer, op);
		q->cut.has_layer = r == 0;
	}
	return r;
}

int qemu_cut_prepare(struct vmm *vmm, const struct vmm_cut *cut, struct op *op)
{
	struct qemu *q = qemu_of(vmm);
	int r;

	qemu_cut_done(vmm, op); /* of one that was given up */
	r = prepare(q, cut, op);
	if (r < 0)
		qemu_cut_done(vmm, op);
	return r < 0 ? err_wrap(&op->err, "get the VM ready to be saved") : 0;
}

/*
 * With vCPUs that stand still and requests that have ended neither of the commands writes to the
 * guest's memory. What the guest wrote is in the disk's files: "stop" has flushed it. `live` would
 * have QEMU give up its images for another host, and open each layer again when it goes on (7 ms).
 */
int qemu_cut_begin(struct vmm *vmm, struct op *op)
{
	struct qemu *q = qemu_of(vmm);
	const struct qemu_layer *layer = &q->cut.layer;
	auto_free char *path = str_printf("/dev/fdset/%ju", (uintmax_t)q->cut.devices_set);
	auto_json *save = json_pack("{ss sb}", "filename", path, "live", false);
	auto_json *snapshot = json_pack("{ss ss}", "node", layer->below, "overlay", layer->image);
	struct qmp_command commands[2];
	size_t n = 0;

	if (q->cut.has_devices)
		commands[n++] = (struct qmp_command){ "xen-save-devices-state", save };
	if (q->cut.has_layer)
		commands[n++] = (struct qmp_command){ "blockdev-snapshot", snapshot };
	if (n == 0)
		return err_set(&op->err, ERR_INTERNAL, "save the VM: nothing was prepared");
	return qmp_begin(q->qmp, commands, n, op);
}

int qemu_cut_finish(struct vmm *vmm, struct op *op)
{
	struct qemu *q = qemu_of(vmm);
	int r = qmp_finish(q->qmp, op);

	if (r == 0)
		q->cut.has_layer = false; /* it is the disk's */
	return r;
}

void qemu_cut_done(struct vmm *vmm, const struct op *op)
{
	struct qemu *q = qemu_of(vmm);
	struct op child = op_child(op, 0);

	if (q->cut.has_devices) /* else it goes with QEMU */
		ignore_err(qmp_remove_fds(q->qmp, q->cut.devices_set, &child));
	if (q->cut.has_layer)
		qemu_layer_drop(q, &q->cut.layer, op);
	q->cut = (struct qemu_cut){ 0 };
}

/* "Host virtual address for 0x0 (ram) is 0x7f0123400000" */
static int parse_address(const char *text, uint64_t *out)
{
	static const char before[] = " is 0x";
	const char *at = text != NULL ? strstr(text, before) : NULL;
	char *end;

	if (at == NULL)
		return -EBADMSG;
	at += strlen(before);
	*out = strtoull(at, &end, 16);
	return end != at && *out != 0 && *out % RAM_PAGE_BYTES == 0 ? 0 : -EBADMSG;
}

static int query_address(struct qemu *q, uint64_t *out, struct op *op)
{
	auto_json *args = json_pack("{ss}", "command-line", "gpa2hva 0");
	auto_json *text = NULL;
	int r = qmp_execute(q->qmp, "human-monitor-command", args, &text, op);

	if (r == 0 && parse_address(json_string_value(text), out) < 0)
		return err_set(&op->err, ERR_VMM,
			       "QEMU does not say where the guest's memory lies: %.80s",
			       json_string_value(text) != NULL ? json_string_value(text) : "");
	return r;
}

static int query_bytes(struct qemu *q, uint64_t *out, struct op *op)
{
	auto_json *sizes = NULL;
	int r = qmp_execute(q->qmp, "query-memory-size-summary", NULL, &sizes, op);
	json_int_t bytes = json_integer_value(json_object_get(sizes, "base-memory"));

	if (r == 0 && (bytes <= 0 || bytes % RAM_PAGE_BYTES != 0))
		return err_set(&op->err, ERR_VMM,
			       "QEMU does not say how much memory the guest has");
	if (r == 0)
		*out = (uint64_t)bytes;
	return r;
}

int qemu_ram(struct vmm *vmm, uint64_t *out_address, uint64_t *out_bytes, struct op *op)
{
	struct qemu *q = qemu_of(vmm);
	int r = query_address(q, out_address, op);

	return r < 0 ? r : query_bytes(q, out_bytes, op);
}

static int load_memory(struct qemu *q, const struct vmm_restore *restore, struct op *op)
{
	struct ram ram = { .pid = q->vmm.process.pid, .pidfd = q->vmm.process.pidfd };
	int r;

	if (restore->diff_fd < 0)
		return 0;
	r = qemu_ram(&q->vmm, &ram.address, &ram.bytes, op);
	return r < 0 ? r : memory_restore(&ram, restore->image_id, restore->diff_fd, op);
}

/* Waits for the end of the load, which QEMU tells by an event. */
static int await_loaded(struct qemu *q, struct op *op)
{
	for (;;) {
		auto_json *event = NULL;
		const char *status;
		int r = qmp_await_event(q->qmp, &event, op);

		if (r < 0)
			return r;
		if (!streq(json_string_value(json_object_get(event, "event")), "MIGRATION"))
			continue;
		status = json_string_value(
			json_object_get(json_object_get(event, "data"), "status"));
		if (status != NULL && streq(status, "completed"))
			return 0;
		if (status != NULL && streq(status, "failed"))
			return err_set(&op->err, ERR_VMM, "QEMU could not load the saved devices");
	}
}

static int load_devices(struct qemu *q, struct op *op)
{
	auto_json *events =
		json_pack("{s[{ss sb}]}", "capabilities", "capability", "events", "state", true);
	auto_free char *uri = str_printf("fd:%d", QEMU_FD_DEVICES);
	auto_json *args = json_pack("{ss}", "uri", uri);
	int r = qmp_execute(q->qmp, "migrate-set-capabilities", events, NULL, op);

	if (r == 0)
		r = qmp_execute(q->qmp, "migrate-incoming", args, NULL, op);
	return r < 0 ? r : await_loaded(q, op);
}

int qemu_load(struct qemu *q, const struct vmm_restore *restore, struct op *op)
{
	int r = load_memory(q, restore, op);

	if (r == 0)
		r = load_devices(q, op);
	return r < 0 ? err_wrap(&op->err, "restore the VM") : 0;
}
