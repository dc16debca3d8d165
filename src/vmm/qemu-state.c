/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A saved VM is two things: its memory, which vmm/memfile.h reads from and writes to QEMU's process
 * without QEMU, and the state of its devices and CPUs, which QEMU writes as a migration stream that
 * has no memory in it (xen-save-devices-state, which needs no Xen: 0.2 MB, 2 to 5 ms).
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

int qemu_save_devices(struct vmm *vmm, int fd, struct op *op)
{
	struct qemu *q = qemu_of(vmm);
	auto_json *args = NULL;
	auto_free char *path = NULL;
	uint64_t set;
	int r = qmp_add_fd(q->qmp, fd, &set, op);

	if (r < 0)
		return r;
	path = str_printf("/dev/fdset/%ju", (uintmax_t)set);
	args = json_pack("{ss}", "filename", path);
	r = qmp_execute(q->qmp, "xen-save-devices-state", args, NULL, op);
	if (r == 0)
		r = qmp_remove_fds(q->qmp, set, op);
	return r;
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
