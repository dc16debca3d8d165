/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cgroup v2. Each VMM is born in a fresh cgroup below the instance's, so that finding and killing
 * it needs no pid and cannot hit a recycled one. A directory that was ever killed by cgroup.kill
 * kills the next child that is cloned into it (kernel 6.18, measured): directories are never used
 * twice, create removes a leftover first.
 */
#pragma once

#include "base/op.h"

/** cgroup_find_mount() - where a cgroup v2 hierarchy is mounted writable: the usual place if it is
 * one, else the first. Return: 0; -ENOENT; -errno */
must_check int cgroup_find_mount(char *out, size_t size);

/** cgroup_open_existing() - open the cgroup of an instance, making nothing.
 * Return: directory descriptor, caller owns; -ENOENT; -errno */
must_check int cgroup_open_existing(const char *name);

/**
 * cgroup_open_root() - open, making it if need be, the cgroup of an instance
 * @name:	"vivarium-<tag>"
 * @mount_dir:	where to mount a cgroup2 hierarchy when the host has none mounted (made if missing)
 * @out_fd:	directory descriptor; caller owns
 *
 * Thread: main or worker. Return: 0; -errno with @e set.
 */
must_check int cgroup_open_root(const char *name, const char *mount_dir, int *out_fd,
				struct err *e);

/** cgroup_create() - make a fresh child cgroup (a leftover is killed and removed first).
 * Return: its directory descriptor, caller owns; -errno, op->err set */
must_check int cgroup_create(int root_fd, const char *name, struct op *op);

/**
 * cgroup_remove() - kill all processes in a child cgroup, wait until it is empty, remove it
 *
 * Thread: worker. Return: 0 (also when absent); -errno, op->err set (-ETIMEDOUT: still populated).
 */
must_check int cgroup_remove(int root_fd, const char *name, struct op *op);

/** cgroup_first_pid() - a process in a child cgroup. Return: pid > 0; 0 empty; -ENOENT absent;
 * -errno */
must_check int cgroup_first_pid(int root_fd, const char *name);

/**
 * cgroup_oom_kills() - how many processes of a cgroup the kernel has ended for want of memory, by
 * whosever limit
 * @fd:		the cgroup
 *
 * Return: 0; -ENOENT the kernel does not count, without a memory controller here; -errno.
 */
must_check int cgroup_oom_kills(int fd, uint64_t *out);

/** cgroup_list() - call @fn for each child's name; ends at the first that returns < 0.
 * Return: 0; what @fn returned; -errno */
must_check int cgroup_list(int root_fd, int (*fn)(const char *name, void *arg), void *arg);

/**
 * cgroup_unmount() - undo cgroup_open_root()'s own mount, once the instance's cgroup is gone
 * @mount_dir:	as given to that, like @name; nothing of it may be open any more
 *
 * Return: 0 (also when there is no such mount, the cgroup is there or others use it); -errno.
 */
must_check int cgroup_unmount(const char *name, const char *mount_dir);

/** cgroup_close_root() - remove the instance's cgroup if it has no children; @root_fd stays open.
 * Return: 0 (also when children are left); -errno, op->err set */
must_check int cgroup_close_root(int root_fd, struct op *op);
