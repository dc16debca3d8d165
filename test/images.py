# SPDX-License-Identifier: Apache-2.0
"""Small images for tests: root file systems of a few of the host's own programs, packed as others pack theirs."""

import gzip
import hashlib
import io
import json
import os
import pathlib
import platform
import shutil
import subprocess
import tarfile

ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
PROGRAMS = ["sh", "ls", "cat", "env", "id", "pwd", "stat", "sha256sum", "bash"]
PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1234:1234::/home/app:/bin/sh\n"


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Tree:
    """A tar in the making."""

    def __init__(self):
        self.data = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.data, mode="w", format=tarfile.PAX_FORMAT)

    def add(self, name, data=b"", kind=tarfile.REGTYPE, **fields):
        info = tarfile.TarInfo(name)
        info.type, info.size, info.mtime = kind, len(data) if kind == tarfile.REGTYPE else 0, 1600000000
        info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
        # tarfile writes headers as text: what is not UTF-8 survives as surrogates.
        xattrs = fields.pop("xattrs", {})
        info.pax_headers = {f"SCHILY.xattr.{k}": v for k, v in xattrs.items()}
        for key, value in fields.items():
            setattr(info, key, value)
        self.tar.addfile(info, io.BytesIO(data))
        return self

    def dir(self, name, **fields):
        return self.add(name, kind=tarfile.DIRTYPE, **fields)

    def link(self, name, to, **fields):
        return self.add(name, kind=tarfile.SYMTYPE, linkname=to, mode=0o777, **fields)

    def hard(self, name, to):
        return self.add(name, kind=tarfile.LNKTYPE, linkname=to)

    def done(self):
        self.tar.close()
        return self.data.getvalue()


def libraries(program):
    out = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    words = [w for line in out.splitlines() for w in line.split()]
    return sorted({w for w in words if w.startswith("/")})


def minimal(programs=PROGRAMS):
    """A root with a shell and a few tools, as a layer."""
    tree = Tree().dir("etc").dir("usr").dir("usr/bin").dir("home").dir("home/app", uid=1234, gid=1234)
    tree.dir("root", mode=0o700).link("bin", "usr/bin").add("etc/passwd", PASSWD.encode())
    tree.add("etc/group", b"root:x:0:\napp:x:1234:\n")
    done = set()
    for name in programs:
        path = shutil.which(name)
        tree.add(f"usr/bin/{name}", pathlib.Path(path).read_bytes(), mode=0o755)
        for lib in libraries(path):
            if lib not in done:
                tree.add(lib.lstrip("/"), pathlib.Path(lib).read_bytes(), mode=0o755)
                done.add(lib)
    return tree.done()


def config(layers, **fields):
    return json.dumps({"architecture": ARCH, "os": "linux", "config": fields,
                       "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(l)}" for l in layers]}}).encode()


def zstd(data):
    return subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, check=True).stdout


class Layout:
    """An OCI layout as a directory."""

    def __init__(self, where):
        self.dir = pathlib.Path(where)
        (self.dir / "blobs" / "sha256").mkdir(parents=True)
        (self.dir / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def blob(self, data, **more):
        (self.dir / "blobs" / "sha256" / sha256(data)).write_bytes(data)
        return {"digest": f"sha256:{sha256(data)}", "size": len(data), **more}

    def image(self, layers, pack=(lambda d: d,), **fields):
        """Writes an image; `pack` compresses the layers, in turns. Returns its manifest's descriptor."""
        packed = [self.blob(pack[i % len(pack)](layer), mediaType="application/vnd.oci.image.layer.v1.tar")
                  for i, layer in enumerate(layers)]
        manifest = {"schemaVersion": 2, "config": self.blob(config(layers, **fields)), "layers": packed}
        return self.blob(json.dumps(manifest).encode(), mediaType="application/vnd.oci.image.manifest.v1+json")

    def index(self, *manifests):
        (self.dir / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": list(manifests)}))
        return self.dir


def pack(directory, path):
    """A directory's contents as a tar file."""
    with tarfile.open(path, "w") as tar:
        for name in sorted(os.listdir(directory)):
            tar.add(pathlib.Path(directory) / name, arcname=name)
    return path


def saved(path, layers, **fields):
    """What `docker save` made for long."""
    tree = Tree()
    conf = config(layers, **fields)
    names = []
    for layer in layers:
        names.append(f"{sha256(layer)}/layer.tar")
        tree.dir(sha256(layer)).add(names[-1], layer)
    tree.add(f"{sha256(conf)}.json", conf)
    tree.add("manifest.json", json.dumps([{"Config": f"{sha256(conf)}.json", "RepoTags": ["a:b"],
                                           "Layers": names}]).encode())
    path.write_bytes(tree.done())
    return path


__all__ = ["Tree", "Layout", "minimal", "config", "saved", "pack", "gzip", "zstd", "sha256", "ARCH"]
