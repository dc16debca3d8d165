# SPDX-License-Identifier: Apache-2.0
"""A daemon whose state is on a small disk, and what must be true of the host that it is on."""

import contextlib
import os
import pathlib
import time

import vivarium


class Place:
    """Has an instance; whatever is done to it, the host holds what its rows say, once all is quiet."""

    instance = None

    def get(self, path):
        return self.instance.get(path)

    def rows(self):
        found = self.instance.query("SELECT id, state, leaked FROM sandbox")
        return {i: (state, leaked) for i, state, leaked in found}

    def templates(self):
        """What lies in the directory of templates, images with it."""
        top = self.instance.state / "templates"
        return sorted(str(p.relative_to(top)) for p in [*top.glob("*"), *top.glob("*@*/checkpoints/*")]
                      if p.suffix != ".lock")

    def vmm(self, sandbox):
        return self.get(f"/sandboxes/{sandbox}")["vivarium"]["vmmPid"]

    @contextlib.contextmanager
    def full_disk(self):
        """Nothing fits on the disk that holds the state."""
        filler = self.instance.state / "filler"
        fs = os.statvfs(self.instance.state)
        size = fs.f_bavail * fs.f_frsize
        try:
            with open(filler, "wb") as f:
                while size >= fs.f_frsize:
                    try:
                        os.posix_fallocate(f.fileno(), os.fstat(f.fileno()).st_size, size)
                    except OSError:  # others took some
                        size //= 2
            yield
        finally:
            filler.unlink()

    def settle(self):
        """Waits until nothing is under way: no state between two, nothing half made, what is gone has gone."""
        def quiet():
            half = [f for f in vivarium.files(self.instance) if f.endswith((".tmp", "layer.new", "/passing"))]
            staged = [t for t in self.templates() if t.startswith(".")]
            moving = [r for r in self.rows().values() if r[0] not in ("running", "paused", "stopped") or r[1]]
            return not half and not staged and not moving

        vivarium.wait_for(quiet, what=f"all is quiet: {self.rows()}, {self.templates()}")

    def check_host(self):
        """Soon, for a death takes a moment to be seen, what is on the host is what the rows say."""
        end = time.monotonic() + 20 * vivarium.PATIENCE
        while True:
            self.settle()
            try:
                return self.compare_host()
            except AssertionError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def compare_host(self):
        left = vivarium.inventory(self.instance, self.instance.tag)
        rows = self.rows()
        alive = {i for i, (state, _) in rows.items() if state == "running"}
        mounts = [m for m in left["mounts"] if str(self.instance.state) not in m]
        counts = {kind: len(left[kind]) for kind in ("processes", "netns", "links")}
        assert counts == dict.fromkeys(counts, len(alive)) and len(mounts) == len(alive), (left, rows)
        assert set(left["cgroups"]) == {".", *alive}, (left["cgroups"], rows)
        assert left["loops"] == []
        parts = [pathlib.PurePath(f).parts for f in left["files"]]
        assert {p[1] for p in parts if p[0] == "run"} == alive, (left["files"], rows)
        assert {p[2] for p in parts if p[:2] == ("state", "sandboxes")} == set(rows), (left["files"], rows)
        snapshots = {p[2] for p in parts if p[:2] == ("state", "snapshots")}
        assert snapshots == {s["snapshotID"] for s in self.get("/snapshots")}
