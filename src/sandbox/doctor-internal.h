/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the doctor share. */
#pragma once

#include "sandbox/doctor.h"

#include "base/op.h"
#include "base/str.h"

enum { DOCTOR_PROBE_TIMEOUT_MS = 5000, DOCTOR_PROBE_TEXT_SIZE = 160 };

struct room_memory;

/* What the checks of the host are told. All is borrowed. */
struct doctor_host {
	const struct manager_config *config;
	struct instance_tag tag;      /* for the names of what is made for a moment */
	const char *acceleration;     /* "kvm" or "tcg", what new sandboxes get; NULL = not known */
	const char *acceleration_why; /* NULL = not known */
	const struct room_memory *memory; /* of a daemon's sandboxes; NULL = without one */
};

/** doctor_add() - put an item into a report; its strings move there */
void doctor_add(struct doctor_report *report, struct doctor_item item);

/** doctor_check_host() - all of the following. Thread: worker or main */
void doctor_check_host(const struct doctor_host *host, struct doctor_report *report);

/** doctor_check_devices() - acceleration, disk drivers, userfaultfd, clocks */
void doctor_check_devices(const struct doctor_host *host, struct doctor_report *report);

/** doctor_check_network() - nftables, namespaces, taps, the way out */
void doctor_check_network(const struct doctor_host *host, struct doctor_report *report);

/** doctor_check_room() - directories, memory, and limits of processes, files and threads */
void doctor_check_room(const struct doctor_host *host, struct doctor_report *report);

/** doctor_check_tls() - the certificate, where TLS is served */
void doctor_check_tls(const struct doctor_host *host, struct doctor_report *report);

/** doctor_check_parts() - root, kernel, cgroups, VMM, programs, guest kernel, template, agent */
void doctor_check_parts(const struct doctor_host *host, struct doctor_report *report);

/* The outcome of a probe. */
struct doctor_probe {
	int code;                          /* 0; else the errno that it met; ETIMEDOUT: it hung */
	char text[DOCTOR_PROBE_TEXT_SIZE]; /* of what it found, or of what it was doing */
};

/**
 * doctor_probe() - try one thing in a process of its own, which is /proc/self/exe
 * @name:	"kvm", "device-mapper", "reflink", "netns", "tun", "userfaultfd"
 * @arg:	its argument, "" = none
 * @timeout_ms:	then the process is ended
 */
void doctor_probe(const char *name, const char *arg, uint64_t timeout_ms, struct doctor_probe *out);

/** doctor_probe_parse() - read what a probe printed: "<errno> <text>". Return: 0; -EBADMSG */
must_check int doctor_probe_parse(const char *line, struct doctor_probe *out);

/** doctor_probe_alive() - whether a namespace is that of a probe which runs right now */
bool doctor_probe_alive(const char *netns, const struct instance_tag *tag);
