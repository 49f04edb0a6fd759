"""In the guest, as user doord: tries what the unit takes away, and what it must leave; JSON to a file.

Run twice: by the unit (a drop-in's ExecStartPre, whose sandbox is the daemon's) and outside of it, so that
what is refused there is refused by the unit and not by something else.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

STATE = Path("/var/lib/doord")
TASKS = 150  # more than the unit's TasksMax
_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWUSER, _NO_RANDOMIZE = 0x10000000, 0x0040000


def call(name: str, *arguments: int) -> None:
    if getattr(_LIBC, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


def opened(path: str, flags: int) -> None:
    os.close(os.open(path, flags))


def writable_mount(path: str) -> None:
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, path)


def own_file() -> Path:
    path = STATE / "probe"
    path.touch()
    return path


def many_tasks() -> None:
    children: list[int] = []
    try:
        while len(children) < TASKS:
            child = os.fork()
            if not child:
                time.sleep(120)
                os._exit(0)
            children.append(child)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def new_user_namespace() -> None:
    child = os.fork()
    if not child:
        _LIBC.unshare(_CLONE_NEWUSER)
        os._exit(ctypes.get_errno())
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise OSError(code, "unshare")


TAKEN: dict[str, Callable[[], object]] = {
    "ProtectSystem": lambda: Path("/srv/open/probe").write_text(""),
    "ProtectHome": lambda: os.listdir("/home"),  # noqa: PTH208
    "PrivateTmp": lambda: Path("/tmp/of-others").read_text(),
    "ProtectProc": lambda: os.stat("/proc/1"),  # noqa: PTH116
    "ProtectKernelModules": lambda: os.listdir("/usr/lib/modules"),  # noqa: PTH208
    "ProtectKernelTunables /proc/sys": lambda: writable_mount("/proc/sys"),
    "ProtectKernelTunables /sys": lambda: writable_mount("/sys"),
    "ProtectControlGroups": lambda: writable_mount("/sys/fs/cgroup"),
    "RestrictNamespaces": new_user_namespace,
    "RestrictSUIDSGID": lambda: own_file().chmod(0o4755),
    "LockPersonality": lambda: call("personality", _NO_RANDOMIZE),
    "MemoryDenyWriteExecute": lambda: mmap.mmap(-1, 4096, prot=7).close(),
    "RestrictAddressFamilies": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
    "SystemCallFilter @privileged": lambda: os.chown(own_file(), -1, -1),
    "SystemCallFilter @resources": lambda: os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0)),
    "DevicePolicy": lambda: opened("/dev/vdb", os.O_RDONLY),
    "DeviceAllow char-input r": lambda: opened("/dev/input/doord-wedge", os.O_RDWR),
    "TasksMax": many_tasks,
}
LEFT: dict[str, Callable[[], object]] = {
    "GPIO chip": lambda: opened("/dev/gpiochip0", os.O_RDWR),
    "camera": lambda: opened("/dev/video0", os.O_RDWR),
    "reader": lambda: opened("/dev/input/doord-wedge", os.O_RDONLY),
    "/dev/null": lambda: opened("/dev/null", os.O_RDWR),
    "/proc/cpuinfo": lambda: Path("/proc/cpuinfo").read_text(),
    "TCP": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).close(),
    "state": own_file,
}


def tried(what: Callable[[], object]) -> str:
    """`done`, or the error's name."""
    try:
        what()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, repr(error))
    return "done"


def main() -> None:
    """Try all; what a process is made of besides."""
    found = {
        "taken": {name: tried(what) for name, what in TAKEN.items()},
        "left": {name: tried(what) for name, what in LEFT.items()},
        "namespaces": {name: os.readlink(f"/proc/self/ns/{name}") for name in ("mnt", "uts", "ipc")},  # noqa: PTH115
        "core": resource.getrlimit(resource.RLIMIT_CORE)[1],  # the hard limit
    }
    Path(sys.argv[1]).write_text(json.dumps(found))


main()
