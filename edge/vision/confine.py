"""What a camera's child process gives up before it touches a foreign byte.

Stand-alone: Python 3.8 and its standard library, because the child may be the system's Python and
must get by with nothing of doord's but its own two files. Landlock(7); linux/landlock.h, linux/prctl.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Iterable

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # of every architecture
_RULE_PATH, _RULE_PORT = 1, 2

_EXECUTE, _WRITE, _READ, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_FILE_RIGHTS = (1, 13), (2, 14), (3, 15)  # ABI, bits: REFER came with 2, TRUNCATE with 3
_CONNECT_TCP, _BIND_TCP = 1 << 1, 1 << 0  # ABI 4
_SCOPED = 0b11  # ABI 6: no abstract unix socket and no signal out of the sandbox

SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/opt", "/proc", "/sys", "/run/udev")
"""Read and run: interpreter, libraries, and what describes the machine."""
ETC = (
    *("ssl", "ca-certificates", "pki", "ld.so.cache", "localtime", "alternatives"),
    *("resolv.conf", "hosts", "host.conf", "nsswitch.conf", "gai.conf", "services"),
    *("libcamera", "glvnd", "vulkan", "nv_tegra_release", "nvidia-container-runtime"),
)
"""The parts of /etc that a decoder reads; never all of it: doord's configuration is there too."""
NODES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")

_SECCOMP, _FILTER = 22, 2  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO | EPERM
_UNKNOWN = 0x00050026  # SECCOMP_RET_ERRNO | ENOSYS: libc then takes clone(2), whose flags can be looked at
_LOAD, _EQUAL, _ANY_BIT, _AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06  # 32 bits, linux/bpf_common.h
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16  # in struct seccomp_data, little endian
_X32 = 0x40000000  # x86-64's second table of calls begins here
_THREAD = 0x10000  # CLONE_THREAD
_OWNERS = 8, 10, 15  # F_SETOWN, F_SETSIG, F_SETOWN_EX: whom the kernel sends which signal, SIGKILL too
_OWNERS_TOO = 0x8901, 0x8902  # FIOSETOWN, SIOCSPGRP
_PROGRAMS = "execve", "execveat"
_REFUSED = (
    *("ptrace", "process_vm_readv", "process_vm_writev", "kill", "tkill", "rt_sigqueueinfo"),
    *("rt_tgsigqueueinfo", "pidfd_send_signal", "pidfd_getfd", "io_uring_setup", "setpriority"),
    *("sched_setparam", "sched_setscheduler", "sched_setaffinity", "sched_setattr", "ioprio_set"),
)
_JUDGED = "socket", "tgkill", "fcntl", "ioctl", "prlimit64", "fork", "vfork", "clone", "clone3"
_NAMES = (*_REFUSED, *_PROGRAMS, *_JUDGED)
# AUDIT_ARCH_*, and the numbers of _NAMES, asm/unistd.h
_CALLS: dict[str, tuple[int, tuple[int | None, ...]]] = {
    "x86_64": (
        0xC000003E,
        (
            *(101, 310, 311, 62, 200, 129, 297, 424, 438, 425, 141, 142, 144, 203, 314, 251),
            *(59, 322, 41, 234, 72, 16, 302, 57, 58, 56, 435),
        ),
    ),
    "aarch64": (
        0xC00000B7,
        (
            *(117, 270, 271, 129, 130, 138, 240, 424, 438, 425, 140, 118, 119, 122, 274, 30),
            *(221, 281, 198, 131, 25, 29, 261, None, None, 220, 435),
        ),
    ),
}

_SCORE = 800  # when memory is short this process goes first, not the door's


def leash(data_bytes: int | None) -> None:
    """Die with the parent, gain no powers, leave no core, and own at most `data_bytes` of memory."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if data_bytes is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (data_bytes, data_bytes))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:  # noqa: PTH123
        score.write(str(_SCORE))


def confine(devices: Iterable[str], ports: Iterable[int] | None) -> str | None:
    """Landlock for this thread and all it starts from now on; why not, or None.

    Args:
        devices: paths that may be read and written beside the harmless nodes of /dev.
        ports: of TCP that may be connected to; None: any. Waits for the kernel to know (ABI 4).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    abi = libc.syscall(_CREATE_RULESET, None, 0, 1)
    if abi < 1:
        return f"this kernel or this unit has no Landlock ({os.strerror(ctypes.get_errno())})"
    bits = [bits for since, bits in _FILE_RIGHTS if abi >= since][-1]
    handled = (1 << bits) - 1
    net = _CONNECT_TCP | _BIND_TCP if abi >= 4 and ports is not None else 0
    attributes = struct.pack("=QQQ", handled, net, _SCOPED if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = libc.syscall(_CREATE_RULESET, attributes, size, 0)
    if ruleset < 0:
        return f"Landlock: {os.strerror(ctypes.get_errno())}"
    try:
        for path in _readable():
            _allow(libc, ruleset, path, _EXECUTE | _READ | _READ_DIR)
        for path in (*NODES, *devices):
            _allow(libc, ruleset, path, _READ | _WRITE | _READ_DIR)
        for port in (ports or ()) if net else ():
            rule = struct.pack("=QQ", _CONNECT_TCP, port)
            libc.syscall(_ADD_RULE, ruleset, _RULE_PORT, rule, 0)
        if libc.syscall(_RESTRICT_SELF, ruleset, 0) < 0:
            return f"Landlock: {os.strerror(ctypes.get_errno())}"
    finally:
        os.close(ruleset)
    return None


def filter_calls(may_exec: bool) -> str | None:
    """No unix socket, no hand on other processes, and no child process unless `may_exec`; why not, or None.

    A unix socket is what the daemon takes orders by, from whoever is its user: Landlock does not
    know of connecting to one. io_uring would open sockets behind this filter's back. The daemon is of
    the same user, so its limits and priority could be changed, and it could be signalled as a pipe's owner.
    A child's child would outlive it: PR_SET_PDEATHSIG is not inherited. seccomp(2).
    """
    known = _CALLS.get(os.uname().machine)
    if known is None:
        return f"no system calls are known of {os.uname().machine}"
    arch, numbers = known
    number = dict(zip(_NAMES, numbers))  # noqa: B905  # Python 3.8 knows no strict
    program = [(_LOAD, 0, 0, _ARCH_AT), (_EQUAL, 1, 0, arch), (_RETURN, 0, 0, _REFUSE)]
    program += [(_LOAD, 0, 0, _NUMBER_AT), (_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _REFUSE)]
    for name in _REFUSED if may_exec else (*_REFUSED, *_PROGRAMS, "fork", "vfork"):
        program += _always(number[name], _REFUSE)
    program += _by_argument(number["socket"], 0, _EQUAL, (int(socket.AF_UNIX),), _REFUSE, _ALLOW)
    program += _by_argument(number["tgkill"], 0, _EQUAL, (os.getpid(),), _ALLOW, _REFUSE)  # abort() is one
    program += _by_argument(number["prlimit64"], 0, _EQUAL, (0,), _ALLOW, _REFUSE)  # getrlimit(3): of itself
    program += _by_argument(number["fcntl"], 1, _EQUAL, _OWNERS, _REFUSE, _ALLOW)
    program += _by_argument(number["ioctl"], 1, _EQUAL, _OWNERS_TOO, _REFUSE, _ALLOW)
    if not may_exec:
        program += _by_argument(number["clone"], 0, _ANY_BIT, (_THREAD,), _ALLOW, _REFUSE)
        program += _always(number["clone3"], _UNKNOWN)
    return _install([*program, (_RETURN, 0, 0, _ALLOW)])


def _install(program: list[tuple[int, int, int, int]]) -> str | None:
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    head = struct.pack("@HP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SECCOMP, _FILTER, head, 0, 0) < 0:
        return f"seccomp: {os.strerror(ctypes.get_errno())}"
    return None


def _always(number: int | None, verdict: int) -> list[tuple[int, int, int, int]]:
    """One call, whatever its arguments; None: this machine has none such."""
    return [] if number is None else [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, verdict)]


def _by_argument(
    number: int | None, place: int, test: int, values: tuple[int, ...], hit: int, miss: int
) -> list[tuple[int, int, int, int]]:
    """One call, judged by the lower half of one of its arguments; any other goes on behind."""
    assert number is not None
    body = [(_LOAD, 0, 0, _ARGUMENTS_AT + 8 * place)]
    for value in values:
        body += [(test, 0, 1, value), (_RETURN, 0, 0, hit)]
    body += [(_RETURN, 0, 0, miss)]
    return [(_EQUAL, 0, len(body), number), *body]


def _readable() -> list[str]:
    # the interpreter's own folders: a virtual environment lies anywhere
    python = {sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path}
    own = [path for path in sorted(python) if path.startswith("/") and path != "/"]
    return [*SYSTEM, *(f"/etc/{name}" for name in ETC), *own]


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    try:
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # not of this machine
    try:
        rights &= ~0 if os.path.isdir(path) else ~_READ_DIR  # noqa: PTH112  # EINVAL for a file
        libc.syscall(_ADD_RULE, ruleset, _RULE_PATH, struct.pack("=Qi", rights, beneath), 0)
    finally:
        os.close(beneath)
