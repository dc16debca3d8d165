/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A bzImage is a small loader with the kernel as a compressed payload behind it. The loader would
 * spend 0.2 s of each emulated boot on decompressing, so that is done once, here, and the VMM gets
 * the ELF file, which it enters by PVH.
 *
 * The boot protocol (Documentation/arch/x86/boot.rst) gives the payload's place: at payload_offset
 * behind the setup sectors, payload_length bytes, of which the last four are the size of the
 * uncompressed kernel. gzip's own trailer serves as those four; every other compression has them
 * appended, where they are no part of the stream. They are what tells a cut file from a whole one.
 */
#include "base/fd.h"
#include "base/mapped.h"
#include "build/kernel-internal.h"

#include <elf.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	SETUP_SECTS_OFF = 0x1f1,
	HEADER_MAGIC_OFF = 0x202,
	PROTOCOL_OFF = 0x206,
	PAYLOAD_OFFSET_OFF = 0x248,
	PAYLOAD_LENGTH_OFF = 0x24c,
	HEADER_END = 0x250,
	SECTOR_BYTES = 512,
	SETUP_SECTS_DEFAULT = 4,
	PROTOCOL_WITH_PAYLOAD = 0x0208,
	SIZE_BYTES = 4,
	XEN_ELFNOTE_PHYS32_ENTRY = 18,
	NOTE_ALIGN = 4,
};

struct payload {
	const unsigned char *p;
	size_t n;            /* of the compressed stream alone */
	uint32_t size_after; /* bytes when decompressed */
};

static uint32_t le32_at(const unsigned char *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

static uint16_t le16_at(const unsigned char *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return le16toh(v);
}

static int find_payload(const struct mapped *image, struct payload *out)
{
	size_t sects;
	uint64_t start;
	uint64_t n;

	if (image->n < HEADER_END || memcmp(image->p + HEADER_MAGIC_OFF, "HdrS", 4) != 0 ||
	    le16_at(image->p + PROTOCOL_OFF) < PROTOCOL_WITH_PAYLOAD)
		return -EINVAL;
	sects = image->p[SETUP_SECTS_OFF];
	if (sects == 0)
		sects = SETUP_SECTS_DEFAULT;
	start = (sects + 1) * SECTOR_BYTES + (uint64_t)le32_at(image->p + PAYLOAD_OFFSET_OFF);
	n = le32_at(image->p + PAYLOAD_LENGTH_OFF);
	if (n <= SIZE_BYTES || start > image->n || n > image->n - start)
		return -EINVAL;
	out->p = image->p + start;
	out->n = n;
	out->size_after = le32_at(out->p + n - SIZE_BYTES);
	if (out->p[0] != 0x1f || out->p[1] != 0x8b) /* gzip */
		out->n -= SIZE_BYTES;
	return 0;
}

static size_t note_round(size_t n)
{
	return (n + NOTE_ALIGN - 1) & ~(size_t)(NOTE_ALIGN - 1);
}

/* @n bytes of notes: whether one of them is the PVH entry. */
static bool notes_have_pvh(const unsigned char *p, size_t n)
{
	Elf64_Nhdr note;

	while (n >= sizeof(note)) {
		size_t name_bytes;
		size_t whole;

		memcpy(&note, p, sizeof(note));
		name_bytes = note_round(note.n_namesz);
		whole = sizeof(note) + name_bytes + note_round(note.n_descsz);
		if (whole > n)
			return false;
		if (note.n_type == XEN_ELFNOTE_PHYS32_ENTRY && note.n_namesz == sizeof("Xen") &&
		    memcmp(p + sizeof(note), "Xen", sizeof("Xen")) == 0)
			return true;
		p += whole;
		n -= whole;
	}
	return false;
}

static bool has_pvh_entry(const struct mapped *elf, const Elf64_Ehdr *head)
{
	for (unsigned i = 0; i < head->e_phnum; i++) {
		Elf64_Phdr ph;

		memcpy(&ph, elf->p + head->e_phoff + i * sizeof(ph), sizeof(ph));
		if (ph.p_type != PT_NOTE)
			continue;
		if (ph.p_offset > elf->n || ph.p_filesz > elf->n - ph.p_offset)
			return false;
		if (notes_have_pvh(elf->p + ph.p_offset, ph.p_filesz))
			return true;
	}
	return false;
}

static int check_elf(const char *bzimage, const struct mapped *elf, struct err *e)
{
	Elf64_Ehdr head;

	if (elf->n < sizeof(head))
		return err_set(e, ERR_SYSTEM, "%s: its payload is no kernel", bzimage);
	memcpy(&head, elf->p, sizeof(head));
	if (memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 || head.e_ident[EI_CLASS] != ELFCLASS64 ||
	    head.e_ident[EI_DATA] != ELFDATA2LSB || head.e_machine != EM_X86_64)
		return err_set(e, ERR_SYSTEM, "%s: its payload is no x86-64 ELF kernel", bzimage);
	if (head.e_phentsize != sizeof(Elf64_Phdr) || head.e_phoff > elf->n ||
	    head.e_phnum * sizeof(Elf64_Phdr) > elf->n - head.e_phoff)
		return err_set(e, ERR_SYSTEM, "%s: the kernel's program headers are corrupt",
			       bzimage);
	if (!has_pvh_entry(elf, &head))
		return err_set(e, ERR_UNSUPPORTED,
			       "%s: the kernel has no PVH entry (it needs CONFIG_PVH=y)", bzimage);
	return 0;
}

static int extract(const char *bzimage, const struct payload *payload, const char *out,
		   struct err *e)
{
	auto_close int fd = open(out, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	auto_mapped elf = { 0 };
	uint64_t bytes;
	int r;

	if (fd < 0)
		return err_errno(e, errno, "create %s", out);
	r = inflate_to_fd(bzimage, payload->p, payload->n, fd, &bytes, e);
	if (r < 0)
		return r;
	if (bytes != payload->size_after)
		return err_set(e, ERR_SYSTEM, "%s is corrupt: its kernel has %llu of %u bytes",
			       bzimage, (unsigned long long)bytes, payload->size_after);
	r = mapped_open(AT_FDCWD, out, &elf);
	if (r < 0)
		return err_errno(e, -r, "read back %s", out);
	r = check_elf(bzimage, &elf, e);
	if (r < 0)
		return r;
	/* For a VMM without privileges. */
	if (fchmod(fd, 0644) < 0 || fsync(fd) < 0)
		return err_errno(e, errno, "write %s", out);
	return 0;
}

int vmlinux_extract(const char *bzimage, const char *out, struct err *e)
{
	auto_mapped image = { 0 };
	struct payload payload;
	int r = mapped_open(AT_FDCWD, bzimage, &image);

	if (r < 0)
		return err_errno(e, -r, "open kernel image %s", bzimage);
	if (find_payload(&image, &payload) < 0)
		return err_set(e, ERR_SYSTEM, "%s is no bzImage, or is cut short", bzimage);
	r = extract(bzimage, &payload, out, e);
	if (r < 0)
		unlink(out);
	return r;
}
