/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The kernel package has no modules.dep: depmod makes that where a kernel is installed, which this
 * one never is. So dependencies come from their source, the "depends=" word in the .modinfo section
 * of each module, and paths from modules.order. Walking depth first writes each module behind those
 * that it needs, which is the order in which the guest loads them.
 *
 * '-' and '_' are the same in module names; names are compared with '_'.
 */
#include "base/buf.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/mapped.h"
#include "base/str.h"
#include "base/vec.h"
#include "build/kernel-internal.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LIST_BYTES_MAX = 4 << 20, MODULE_NAME_SIZE = 64, DEPTH_MAX = 16 };

/* The last is for the agent, which resets the connections of a restored guest. */
static const char *const wanted[] = {
	"virtio_mmio",    "virtio_blk", "virtio_net", "virtio_console",
	"virtio_balloon", "virtio_rng", "tcp_diag",
};

struct module {
	char name[MODULE_NAME_SIZE];
	const char *path; /* below the tree, without the suffix of a compression; borrowed */
	bool builtin;
	bool done; /* in the order already, or on its way there */
};

VEC_DEFINE(modules, struct module)

struct collect {
	int tree_fd;
	int out_fd;
	struct buf lists[2]; /* modules.order and modules.builtin; module paths point into them */
	struct modules known;
	struct buf order;
	struct err *e;
};

static void collect_done(struct collect *c)
{
	fd_close(&c->tree_fd);
	fd_close(&c->out_fd);
	for (size_t i = 0; i < ARRAY_SIZE(c->lists); i++)
		buf_done(&c->lists[i]);
	modules_done(&c->known);
	buf_done(&c->order);
}

/* The module's name out of "kernel/drivers/virtio/virtio_mmio.ko". */
static void name_of_path(const char *path, char name[MODULE_NAME_SIZE])
{
	const char *slash = strrchr(path, '/');

	str_copy(name, MODULE_NAME_SIZE, slash != NULL ? slash + 1 : path);
	name[strcspn(name, ".")] = '\0';
	for (char *p = name; *p != '\0'; p++)
		if (*p == '-')
			*p = '_';
}

static struct module *find(struct collect *c, const char *name)
{
	vec_foreach (m, &c->known) {
		if (streq(m->name, name))
			return m;
	}
	return NULL;
}

static int read_list(struct collect *c, struct buf *list, const char *file, bool builtin)
{
	char *rest;
	char *line;
	int r;

	buf_init(list, LIST_BYTES_MAX);
	r = file_read_at(c->tree_fd, file, list);
	if (r < 0)
		return err_errno(c->e, -r, "read %s of the kernel package", file);
	/* buf_str() ends the text; the lines become strings where they are. */
	rest = *buf_str(list) != '\0' ? buf_head(list) : NULL;
	while ((line = strsep(&rest, "\n")) != NULL) {
		struct module m = { .path = line, .builtin = builtin };

		if (*line == '\0')
			continue;
		name_of_path(line, m.name);
		modules_push(&c->known, m);
	}
	return 0;
}

static bool section_at(const struct mapped *elf, const Elf64_Ehdr *head, unsigned i,
		       Elf64_Shdr *out)
{
	if (i >= head->e_shnum)
		return false;
	memcpy(out, elf->p + head->e_shoff + i * sizeof(*out), sizeof(*out));
	return out->sh_type != SHT_NOBITS && out->sh_offset <= elf->n &&
	       out->sh_size <= elf->n - out->sh_offset;
}

/* The .modinfo section: strings "key=value", each with its NUL. */
static int find_modinfo(const struct mapped *elf, const char **out, size_t *out_n)
{
	Elf64_Shdr names;
	Elf64_Ehdr head;

	if (elf->n < sizeof(head))
		return -ENOEXEC;
	memcpy(&head, elf->p, sizeof(head));
	if (memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 || head.e_ident[EI_CLASS] != ELFCLASS64 ||
	    head.e_shentsize != sizeof(Elf64_Shdr) || head.e_shoff > elf->n ||
	    head.e_shnum * sizeof(Elf64_Shdr) > elf->n - head.e_shoff ||
	    !section_at(elf, &head, head.e_shstrndx, &names))
		return -ENOEXEC;
	for (unsigned i = 1; i < head.e_shnum; i++) {
		static const char title[] = ".modinfo";
		Elf64_Shdr s;

		if (!section_at(elf, &head, i, &s) || s.sh_name >= names.sh_size ||
		    names.sh_size - s.sh_name < sizeof(title) || s.sh_size == 0 ||
		    memcmp(elf->p + names.sh_offset + s.sh_name, title, sizeof(title)) != 0)
			continue;
		*out = (const char *)elf->p + s.sh_offset;
		*out_n = s.sh_size;
		return (*out)[s.sh_size - 1] == '\0' ? 0 : -ENOEXEC;
	}
	return -ENOEXEC;
}

/* What a module depends on, "a,b", as new memory; "" when it needs nothing. */
static int read_depends(int dirfd, const char *file, char **out)
{
	auto_mapped elf = { 0 };
	const char *info = NULL;
	size_t n = 0;
	int r = mapped_open(dirfd, file, &elf);

	if (r == 0)
		r = find_modinfo(&elf, &info, &n);
	if (r < 0)
		return r;
	for (const char *p = info; p < info + n; p += strlen(p) + 1) {
		if (!str_starts(p, "depends="))
			continue;
		*out = str_dup(p + strlen("depends="));
		return 0;
	}
	return -ENOEXEC;
}

static int write_module(struct collect *c, const char *from, const struct mapped *in,
			const char *file)
{
	auto_close int fd = openat(c->out_fd, file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	int r;

	if (fd < 0)
		return err_errno(c->e, errno, "create module %s", file);
	if (!str_ends(from, ".ko")) {
		r = inflate_to_fd(from, in->p, in->n, fd, NULL, c->e);
		if (r < 0)
			return r;
	} else {
		r = fd_write_all(fd, in->p, in->n);
		if (r < 0)
			return err_errno(c->e, -r, "write module %s", file);
	}
	return fsync(fd) < 0 ? err_errno(c->e, errno, "write module %s", file) : 0;
}

static int copy_module(struct collect *c, const struct module *m, const char *file)
{
	static const char *const suffixes[] = { "", ".xz", ".zst", ".gz" };

	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		auto_free char *from = str_printf("%s%s", m->path, suffixes[i]);
		auto_mapped in = { 0 };
		int r = mapped_open(c->tree_fd, from, &in);

		if (r == -ENOENT)
			continue;
		if (r < 0)
			return err_errno(c->e, -r, "open kernel module %s", from);
		return write_module(c, from, &in, file);
	}
	return err_set(c->e, ERR_SYSTEM, "the kernel package lists %s but does not have it",
		       m->path);
}

static int collect(struct collect *c, const char *name, unsigned depth)
{
	struct module *m = find(c, name);
	auto_free char *depends = NULL;
	char file[MODULE_NAME_SIZE + 4];
	char *rest;
	char *next;
	int r;

	if (m == NULL)
		return err_set(c->e, ERR_UNSUPPORTED, "the kernel has no driver %s", name);
	if (m->builtin || m->done)
		return 0;
	if (depth > DEPTH_MAX)
		return err_set(c->e, ERR_SYSTEM, "kernel module %s: dependencies too deep", name);
	m->done = true;
	snprintf(file, sizeof(file), "%s.ko", m->name);
	r = copy_module(c, m, file);
	if (r < 0)
		return r;
	r = read_depends(c->out_fd, file, &depends);
	if (r < 0)
		return err_errno(c->e, -r, "read the dependencies of kernel module %s", name);
	rest = depends;
	while ((next = strsep(&rest, ",")) != NULL) {
		char needed[MODULE_NAME_SIZE];

		if (*next == '\0')
			continue;
		name_of_path(next, needed);
		r = collect(c, needed, depth + 1);
		if (r < 0)
			return r;
	}
	r = buf_printf(&c->order, "%s\n", file);
	return r < 0 ? err_errno(c->e, -r, "note the order of kernel module %s", name) : 0;
}

int modules_collect(const char *tree, const char *out, struct err *e)
{
	cleanup(collect_done) struct collect c = {
		.tree_fd = open(tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
		.out_fd = -1,
		.order = BUF_INIT(LIST_BYTES_MAX),
		.e = e,
	};
	int r;

	if (c.tree_fd < 0)
		return err_errno(e, errno, "open the kernel's modules in %s", tree);
	if (mkdir(out, 0755) < 0)
		return err_errno(e, errno, "make %s", out);
	c.out_fd = open(out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (c.out_fd < 0)
		return err_errno(e, errno, "open %s", out);
	r = read_list(&c, &c.lists[0], "modules.builtin", true);
	if (r == 0)
		r = read_list(&c, &c.lists[1], "modules.order", false);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(wanted); i++)
		r = collect(&c, wanted[i], 0);
	if (r < 0)
		return r;
	r = file_write_atomic_at(c.out_fd, "order", buf_head(&c.order), c.order.len, 0644);
	return r < 0 ? err_errno(e, -r, "write %s/order", out) : 0;
}
