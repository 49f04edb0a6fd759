"""The processes that touch a GPU before the door does. They are given nothing of the door's but a question.

Whatever becomes of them is a DelegateError, one line.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import BinaryIO, TypeVar

import msgspec

from edge.config import ModelsConfig
from edge.errors import DelegateError
from edge.vision.manifest import ModelEntry

_LOOK_S = 5.0
_MOST_BYTES = 64 * 2**10  # of an answer
_PASSED = ("VK_DRIVER_FILES", "VK_ICD_FILENAMES", "LD_LIBRARY_PATH", "XDG_RUNTIME_DIR")

T = TypeVar("T", bound=msgspec.Struct)


class Device(msgspec.Struct, frozen=True):
    """What Vulkan says of one."""

    name: str
    kind: str  # cpu: a rasteriser in software
    driver_version: str
    lacking: list[str] = []  # features that the accelerator can't do without


class _Devices(msgspec.Struct, frozen=True):
    devices: list[Device]
    fault: str = ""


class Answer(msgspec.Struct, frozen=True):
    """What a trial came to. `why`: not to be used; empty: it is. Times are medians, by turns."""

    why: str
    gpu_ms: float | None = None
    cpu_ms: float | None = None
    drift: float | None = None  # the largest of an output, GPU against CPU


class Children:
    """Which programs are asked. Tests have others."""

    def __init__(
        self,
        look: Sequence[str] = (sys.executable, "-m", "edge.vision.vulkan"),
        probe: Sequence[str] = (sys.executable, "-m", "edge.vision.gpu_probe"),
        software: bool = False,
    ) -> None:
        """`software`: a rasteriser on the CPU counts as a GPU."""
        self._look, self._probe, self._software = look, probe, software

    def device(self) -> Device:
        """The one that a trial is worth. Raises DelegateError."""
        found = _asked(self._look, b"", _LOOK_S, "looking for one", _Devices)
        if found.fault:
            raise DelegateError(f"no GPU: Vulkan: {found.fault}")
        reasons = []
        for device in found.devices:
            if device.kind == "cpu" and not self._software:
                reasons.append(f"{device.name} is the CPU")
            elif device.lacking:
                reasons.append(f"{device.name} has no {', '.join(device.lacking)}")
            else:
                return device
        raise DelegateError(f"no GPU: {'; '.join(reasons) or 'Vulkan finds no device'}")

    def trial(self, entry: ModelEntry, models: ModelsConfig, within_s: float) -> Answer:
        """Of a model on the GPU, against the CPU. A child that dies or is too slow is an answer too."""
        question = msgspec.json.encode({"model": entry.id, "role": entry.role, "models": models})
        try:
            return _asked(self._probe, question, within_s, f"trying {entry.file}", Answer)
        except DelegateError as error:
            return Answer(str(error))


def _asked(command: Sequence[str], question: bytes, within_s: float, doing: str, kind: type[T]) -> T:
    """What a child answers. Raises DelegateError: it died, was too slow, or made no sense."""
    environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    try:
        with _paper() as paper:
            return _decoded(_ran(command, question, within_s, environment, paper), paper, doing, kind)
    except OSError as error:
        raise DelegateError(f"no GPU: {doing}: {error}") from None
    except subprocess.TimeoutExpired:
        raise DelegateError(f"no GPU: {doing}: no answer within {within_s:.0f} s") from None


def _paper() -> BinaryIO:
    """What a child writes its answer on: it never grows, and who else holds it open does not matter."""
    paper = os.fdopen(os.memfd_create("doord-answer", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "rb")
    os.ftruncate(paper.fileno(), _MOST_BYTES)
    fcntl.fcntl(paper.fileno(), fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return paper


def _ran(
    command: Sequence[str], question: bytes, within_s: float, environment: dict[str, str], paper: BinaryIO
) -> int:
    """Its return code. Raises OSError, subprocess.TimeoutExpired: it is killed, and what it started."""
    child = subprocess.Popen(  # noqa: S603  # this interpreter and a module of ours
        command,
        stdin=subprocess.PIPE,
        stdout=paper,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd="/",
        start_new_session=True,
    )
    try:
        child.communicate(question, within_s)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):
            os.killpg(child.pid, signal.SIGKILL)  # and not waited for: a driver can hold it in the kernel
        raise
    return child.returncode


def _decoded(code: int, paper: BinaryIO, doing: str, kind: type[T]) -> T:
    """The answer. Raises DelegateError: it died, or made no sense."""
    if code < 0:
        raise DelegateError(f"no GPU: {doing}: it died of {_signal(-code)}")
    paper.seek(0)
    try:
        return msgspec.json.decode(paper.read().rstrip(b"\0"), type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        ended = f"it ended with {code}" if code else str(error)
        raise DelegateError(f"no GPU: {doing}: {ended}") from None


def _signal(number: int) -> str:
    known = {known.value: known.name for known in signal.Signals}
    return known.get(number, f"signal {number}")
