# SPDX-License-Identifier: Apache-2.0
"""Runs a program as a systemd unit would confine it, where no systemd runs.

usage: confined.py UNIT PROGRAM [ARGUMENT]...

Of the unit's settings these are applied: CapabilityBoundingSet, NoNewPrivileges, SystemCallFilter
with SystemCallErrorNumber, RestrictAddressFamilies, RestrictSUIDSGID, LockPersonality, LimitNOFILE.
"""

import ctypes
import errno
import os
import re
import resource
import socket
import subprocess
import sys

PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
ACT_ALLOW, ACT_ERRNO = 0x7FFF0000, 0x00050000
CMP_NE, CMP_EQ, CMP_MASKED_EQ = 1, 4, 7
S_ISUID_ISGID = (0o4000, 0o2000)
# Argument that holds the mode of a new file or the new mode.
MODE_ARGUMENT = {"chmod": 1, "fchmod": 1, "fchmodat": 2, "mkdir": 1, "mkdirat": 2, "mknod": 1,
                 "mknodat": 2, "creat": 1, "open": 2, "openat": 3}

libc = ctypes.CDLL(None, use_errno=True)


class Comparison(ctypes.Structure):
    """struct scmp_arg_cmp"""

    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64),
                ("b", ctypes.c_uint64)]


def settings_of(unit):
    """Each setting with its words; repeated ones add up, as systemd's lists do."""
    found = {}
    for line in open(unit):
        match = re.match(r"([A-Z]\w+)=(.*)", line)
        if match:
            found.setdefault(match[1], []).extend(match[2].split())
    return found


def expand(names):
    """System calls of a filter, whose groups systemd knows."""
    calls, todo = set(), list(names) + ["@default"]
    while todo:
        name = todo.pop()
        if name.startswith("@"):
            out = subprocess.run(["systemd-analyze", "syscall-filter", name], check=True,
                                 capture_output=True, text=True).stdout
            todo += [w for line in out.splitlines()[1:] for w in line.split("#")[0].split()]
        else:
            calls.add(name)
    return calls


class Filter:
    def __init__(self, default):
        self.lib = ctypes.CDLL("libseccomp.so.2")
        self.lib.seccomp_init.restype = ctypes.c_void_p
        self.context = ctypes.c_void_p(self.lib.seccomp_init(ctypes.c_uint32(default)))

    def add(self, action, call, *comparisons):
        number = self.lib.seccomp_syscall_resolve_name(call.encode())
        if number < 0:
            return  # of another architecture, or newer than the library
        array = (Comparison * len(comparisons))(*comparisons)
        r = self.lib.seccomp_rule_add_array(self.context, ctypes.c_uint32(action), number,
                                            len(comparisons), array)
        assert r == 0, (call, r)

    def load(self):
        r = self.lib.seccomp_load(self.context)
        assert r == 0, r


def filter_calls(unit):
    code = getattr(errno, unit["SystemCallErrorNumber"][0])
    f = Filter(ACT_ERRNO | code)
    for call in expand(unit["SystemCallFilter"]):
        f.add(ACT_ALLOW, call)
    f.load()


def refuse_set_id():
    f = Filter(ACT_ALLOW)
    f.add(ACT_ERRNO | errno.ENOSYS, "openat2")
    for call, argument in MODE_ARGUMENT.items():
        for bit in S_ISUID_ISGID:
            f.add(ACT_ERRNO | errno.EPERM, call, Comparison(argument, CMP_MASKED_EQ, bit, bit))
    f.load()


def refuse_families(names):
    f = Filter(ACT_ALLOW)
    allowed = {int(getattr(socket, name)) for name in names}
    for family in set(range(64)) - allowed:
        f.add(ACT_ERRNO | errno.EAFNOSUPPORT, "socket", Comparison(0, CMP_EQ, family, 0))
    f.load()


def lock_personality():
    f = Filter(ACT_ALLOW)
    f.add(ACT_ERRNO | errno.EPERM, "personality", Comparison(0, CMP_NE, 0, 0))
    f.load()


def bound_capabilities(names):
    out = subprocess.run(["systemd-analyze", "capability"], check=True, capture_output=True, text=True)
    for line in out.stdout.splitlines():
        name, _, number = line.partition(" ")
        if name.startswith("cap_") and name.upper() not in names:
            libc.prctl(PR_CAPBSET_DROP, int(number), 0, 0, 0)


def confine(path):
    unit = settings_of(path)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    nofile = min(int(unit["LimitNOFILE"][0]), hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (nofile, nofile))
    bound_capabilities(unit["CapabilityBoundingSet"])
    if unit["NoNewPrivileges"] == ["yes"] and libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "no new privileges")
    if unit.get("RestrictSUIDSGID") == ["yes"]:
        refuse_set_id()
    if unit.get("LockPersonality") == ["yes"]:
        lock_personality()
    refuse_families(unit["RestrictAddressFamilies"])
    filter_calls(unit)


if __name__ == "__main__":
    confine(sys.argv[1])
    os.execv(sys.argv[2], sys.argv[2:])
