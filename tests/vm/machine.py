"""A virtual machine under software emulation: started, asked, its state kept and put back, killed.

No accelerator is used even where the host has one: the figures must be the same everywhere.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

BOOT_S = 240.0  # measured: about 30 s alone on two cores; the rest is for a busy host
HELLO = "agent ready"  # its first line; before it the port may echo
READY = "ready"  # the name of the state after the boot
_QUICK = ("-accel", "tcg,thread=multi", "-smp", "2")
_STEADY = ("-accel", "tcg,thread=single", "-smp", "1", "-icount", "shift=1,sleep=off")
_CODE_BYTES = 16 << 20  # a fixed size: a kept state holds the size of its disks


class VmError(RuntimeError):
    """The machine or its agent did not do what was asked."""


@dataclass(frozen=True)
class Done:
    """What a program in the guest came to. `code` is None when its time was up."""

    code: int | None
    out: str
    err: str


class _Lines:
    """A unix socket of QEMU's, read and written by lines of JSON."""

    def __init__(self, path: Path, patience_s: float) -> None:
        deadline = time.monotonic() + patience_s
        while True:
            self._socket = socket.socket(socket.AF_UNIX)
            try:
                self._socket.connect(str(path))
                break
            except OSError as error:
                self._socket.close()
                if time.monotonic() > deadline:
                    raise VmError(f"{path.name}: {error}") from error
                time.sleep(0.05)
        self._rest = b""

    def send(self, value: object) -> None:
        self._socket.sendall(json.dumps(value).encode() + b"\n")

    def receive(self, timeout_s: float) -> dict:
        return json.loads(self.receive_text(timeout_s))

    def receive_text(self, timeout_s: float) -> str:
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._rest:
            self._socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                data = self._socket.recv(65536)
            except TimeoutError as error:
                raise VmError(f"no answer within {timeout_s:g} s") from error
            if not data:
                raise VmError("the machine has ended")
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        return line.decode(errors="replace").strip()

    def close(self) -> None:
        self._socket.close()


class Machine:
    """One running QEMU. `folder` has its sockets, its console and its third serial port's output."""

    def __init__(
        self,
        guest: Path,
        disk: Path,
        folder: Path,
        code: Path,
        state: str | None,
        steady: bool = False,
        more: Sequence[str] = (),
    ) -> None:
        """Start it; from the kept `state`, or by a boot when that is None.

        `steady`: one processor whose clock counts its instructions (2 ns each), so that the guest's
        milliseconds are even however busy the host is. A state is of a machine of its own kind.
        `more` options of QEMU's: memory, another disk.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.said = folder / "ttyS2"  # what the guest wrote there survives every kill
        for name in ("qmp", "agent"):
            (folder / name).unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [*_command(guest, disk, folder, code, steady), *more, *(["-loadvm", state] if state else [])],
            stdin=subprocess.DEVNULL,
            stdout=(folder / "qemu.log").open("wb"),
            stderr=subprocess.STDOUT,
            preexec_fn=_die_with_parent,
        )
        try:
            self._qmp = _Lines(folder / "qmp", 20)
            self._qmp.receive(20)
            self._command("qmp_capabilities")
            self._agent = _Lines(folder / "agent", 20)
            if not state:
                self._await_agent()
        except VmError as error:
            self.kill()
            raise VmError(f"{error}; QEMU said: {(folder / 'qemu.log').read_text()[-500:]}") from error

    def run(self, *command: str, timeout_s: float = 60, text: str = "", check: bool = True) -> Done:
        """Run a program in the guest to its end. Raises VmError: it failed (`check`), or no answer."""
        self._agent.send({"run": command, "timeout_s": timeout_s, "input": text})
        done = Done(**self._agent.receive(timeout_s + 60))
        if check and done.code != 0:
            raise VmError(
                f"{' '.join(command)[:200]}: exit {done.code}: {done.out[-2000:]}{done.err[-2000:]}"
            )
        return done

    def keep(self, name: str) -> None:
        """Keep memory and disk as they are now, under a name, in the disk's file."""
        self._command("human-monitor-command", {"command-line": f"savevm {name}"}, timeout_s=300)

    def slow_disk(self, requests_per_s: int) -> None:
        """Its disk takes no more requests than that from now on; 0: as many as it can."""
        limits = dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops_rd", "iops_wr"), 0)
        self._command("block_set_io_throttle", {"device": "virtio0", "iops": requests_per_s, **limits})

    def console(self) -> str:
        """The end of what the guest's kernel and systemd said."""
        return (self.folder / "console").read_text(errors="replace")[-1500:]

    def await_end(self, within_s: float) -> None:
        """Wait until it has stopped or would start again by itself. Raises VmError: it does neither."""
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise VmError(f"the machine still runs after {within_s:g} s; console: {self.console()}") from None

    def kill(self) -> None:
        """As if the power went: nothing in the guest is told. May be called twice."""
        self._process.kill()
        self._process.wait()
        for line in ("_qmp", "_agent"):
            with contextlib.suppress(AttributeError):
                getattr(self, line).close()

    def _command(self, name: str, arguments: dict | None = None, timeout_s: float = 20) -> None:
        self._qmp.send({"execute": name, "arguments": arguments or {}})
        while True:
            answer = self._qmp.receive(timeout_s)
            if "event" in answer:
                continue
            if answer.get("return"):  # a monitor command answers with text only when it failed
                raise VmError(f"{name} {arguments or ''}: {answer['return']}")
            if "error" in answer:
                raise VmError(f"{name}: {answer['error']}")
            return

    def _await_agent(self) -> None:
        deadline = time.monotonic() + BOOT_S
        while self._agent.receive_text(max(0.1, deadline - time.monotonic())) != HELLO:
            pass


@contextlib.contextmanager
def running(*arguments: object, **options: object) -> Iterator[Machine]:
    """A Machine for the block's time; killed behind it."""
    machine = Machine(*arguments, **options)  # type: ignore[arg-type]
    try:
        yield machine
    finally:
        machine.kill()


def code_disk(path: Path, root: Path, folders: tuple[str, ...]) -> None:
    """What is to be tested, as a tar that is a disk: the guest reads it with `tar xf /dev/vdb`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in folders:
            tar.add(root / name, name, filter=lambda member: None if _unwanted(member.name) else member)
    data = buffer.getvalue()
    if len(data) > _CODE_BYTES:
        raise VmError(f"{', '.join(folders)}: expected at most {_CODE_BYTES} bytes, got {len(data)}")
    path.write_bytes(data.ljust(_CODE_BYTES, b"\0"))


def _unwanted(name: str) -> bool:
    return name.endswith((".pyc", ".jpg", ".tflite", ".npz"))


def _command(guest: Path, disk: Path, folder: Path, code: Path, steady: bool) -> list[str]:
    # noauto_da_alloc: without it ext4 writes what a program forgot to sync, which other file systems do not
    root = "root=/dev/vda rw rootflags=noauto_da_alloc"
    kernel_line = f"{root} console=ttyS0 quiet mitigations=off net.ifnames=0 panic=-1"
    return [
        *("qemu-system-x86_64", "-machine", "pc", "-cpu", "max"),
        *(_STEADY if steady else _QUICK),
        *("-m", "512", "-nodefaults", "-nographic", "-no-reboot"),
        *("-kernel", str(guest / "vmlinuz"), "-initrd", str(guest / "initrd"), "-append", kernel_line),
        *("-drive", f"file={disk},if=virtio,format=qcow2"),
        *("-drive", f"file={code},if=virtio,format=raw,readonly=on"),
        *("-serial", f"file:{folder / 'console'}"),
        *("-chardev", f"socket,id=agent,path={folder / 'agent'},server=on,wait=off"),
        *("-serial", "chardev:agent"),
        *("-serial", f"file:{folder / 'ttyS2'}"),
        *("-qmp", f"unix:{folder / 'qmp'},server=on,wait=off"),
    ]


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no orphan when the run is killed
