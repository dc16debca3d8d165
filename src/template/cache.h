/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lies in kernels/ and templates/, to be counted and cleared away.
 *
 * Theory of operation. What may go is taken away in two steps: cache_discard() gives it the name of
 * a dead maker's stage (stage.c), by one rename, so that nobody finds it any more; cache_delete()
 * removes it, which takes time. When the second never comes, the next build in this directory does
 * it. Whether a sandbox uses something is for the caller to know; here stays what is the newest,
 * current or linked, what is being built, and all of it when the directory is a link to elsewhere,
 * where others may use it.
 */
#pragma once

#include "base/op.h"
#include "base/vec.h"

enum cache_kind {
	CACHE_KERNEL,
	CACHE_INITRAMFS,
	CACHE_TEMPLATE,
	CACHE_TEMPORARY, /* of builds */
	CACHE_KIND_N
};

struct cache_item {
	enum cache_kind kind;
	/* Owned. A kernel's version, "<version>/initramfs-<digest>", "<template>@<digest>"; of
	 * temporary ones the path below the state directory. */
	char *name;
	uint64_t bytes; /* allocated; of a kernel without its initramfs images */
	char *needed;   /* why it stays; owned; NULL = nothing is known to need it */
};
VEC_DEFINE(cache_items, struct cache_item)

/** cache_kind_name() - "kernel", "initramfs", "template", "temporary"; static storage */
const char *cache_kind_name(enum cache_kind kind);

/** cache_items_free() - free a list with what it owns; idempotent */
void cache_items_free(struct cache_items *items);

/** cache_need() - say why an item stays, unless that is said already */
void cache_need(struct cache_item *item, const char *fmt, ...) printf_like(2, 3);

/**
 * cache_list() - list kernels, initramfs images, templates and temporary files
 * @agent_path:	the agent whose initramfs images are current
 *
 * Thread: worker. Return: 0; -errno with op->err set.
 */
must_check int cache_list(const char *state_dir, const char *agent_path, struct cache_items *out,
			  struct op *op);

/**
 * cache_discard() - take an item that nothing needs away from its name
 *
 * Quick. Its name is then that of a temporary one.
 * Return: 0; 1 it is needed after all, item->needed says by what; -errno with @e set.
 */
must_check int cache_discard(const char *state_dir, struct cache_item *item, struct err *e);

/** cache_delete() - remove a discarded or temporary item. Return: 0; -errno with @e set */
must_check int cache_delete(const char *state_dir, const struct cache_item *item, struct err *e);

/** cache_template_of() - the template's directory in a path of a root image,
 * ".../templates/<template>@<digest>/root.img" or, as the disks of images have it,
 * "../../<template>@<digest>/root.img", into an array of @size bytes.
 * Return: 0; -ENOENT the path is none of that form */
must_check int cache_template_of(const char *path, char *out, size_t size);
