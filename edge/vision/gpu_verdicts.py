"""Whether a GPU runs a model here: found out in child processes, remembered, given up when doors die of it.

A driver can kill its process, hang it, or be a rasteriser on the CPU. So first files are read
(`gpu_conditions`), then a child looks for a device (`vulkan`: at every start, a tenth of a second), then
another tries the model on it (`gpu_probe`: once for each driver, model, version and thread count). Only
after a yes does this process load the accelerator, and the known answer is asked for again.
"""

from __future__ import annotations

import logging
import time
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import msgspec

from edge import __version__
from edge.config import ModelsConfig
from edge.disk import write_atomically
from edge.errors import DelegateError
from edge.vision.gpu_children import Answer, Children, Device
from edge.vision.gpu_conditions import Conditions, look
from edge.vision.manifest import ModelEntry
from edge.vision.runtime import find_runtime

log = logging.getLogger(__name__)

FILE = "gpu.json"
BUDGET_S = 20.0  # for all models of a start together: an upgrade waits 30 s for READY
_LEAST_S = 8.0  # what a trial has, so that no verdict hangs on the trials before it
_STEADY_S = 600.0  # a door that ran for so long on the GPU was not killed by it
_DEATHS = 2  # in a row, each earlier than that


class Case(NamedTuple):
    """What a verdict holds for: while these are the same."""

    device: str
    driver: str  # its version, and a digest of the files of all drivers
    model: str  # sha256
    runtime: str
    doord: str
    threads: int


class Verdict(msgspec.Struct, frozen=True):
    """What a trial came to."""

    case: Case
    answer: Answer


class Memory(msgspec.Struct, frozen=True):
    """The file. `starts`: with `delegate`, of doors that neither ended in order nor ran for long since."""

    verdicts: list[Verdict] = []
    starts: int = 0
    delegate: str = ""  # as configured


class GpuVerdicts:
    """Asked for each model when it is loaded; from one thread at a time."""

    def __init__(
        self,
        models: ModelsConfig,
        folder: Path | None,
        conditions: Conditions | None = None,
        children: Children | None = None,
        budget_s: float = BUDGET_S,
    ) -> None:
        """`folder`: where verdicts are kept; None: nowhere. The rest is this machine unless a test says."""
        self._models = models
        self._path = None if folder is None else folder / FILE
        self._conditions = conditions or look()
        self._children = children or Children()
        self._left_s = budget_s
        self._memory = self._read()
        self._device: Device | DelegateError | None = None
        self._since: float | None = None  # s, monotonic: when this process began to use it

    def refusal(self, entry: ModelEntry) -> str:
        """Why the GPU does not run this model; empty: it does, from now on."""
        try:
            self._check_conditions()
            answer = self._answer(entry, self._found())
            if not answer.why:
                self._use()
            return answer.why
        except DelegateError as error:
            return str(error)

    def risk(self) -> str:
        """Why the library that is configured may not be loaded; empty: it may, and its deaths count."""
        try:
            self._guard()
            self._use()
        except DelegateError as error:
            return str(error)
        return ""

    def tend(self, now: float) -> None:
        """`now`: s, monotonic. After a while the GPU is known not to kill the door."""
        if self._since is not None and now - self._since > _STEADY_S:
            self.close()

    def blame(self) -> bool:
        """The door ends because a thread hangs. Whether the GPU is suspected: this start stays counted."""
        suspected, self._since = self._since is not None, None
        return suspected

    def close(self) -> None:
        """The door ends in order."""
        if self._since is not None:
            self._since = None
            self._write(msgspec.structs.replace(self._memory, starts=0))

    def _check_conditions(self) -> None:
        """Raises DelegateError: no child is started."""
        if self._conditions.refusal:
            raise DelegateError(self._conditions.refusal)
        if find_runtime(self._models.runtime).name != "litert":
            raise DelegateError("no GPU: tflite-runtime needs the path of a library in models.delegate")
        self._guard()

    def _guard(self) -> None:
        """Raises DelegateError: it has killed the door too often."""
        memory, delegate = self._memory, self._models.delegate
        if self._since is None and memory.delegate == delegate and memory.starts >= _DEATHS:
            died = f"{delegate}: the door died {memory.starts} times within minutes of using it"
            raise DelegateError(f"{died}; remove {self._path} to have it tried again")

    def _found(self) -> Device:
        """The device, looked for once. Raises DelegateError."""
        if self._device is None:
            try:
                self._device = self._children.device()
            except DelegateError as error:
                self._device = error
        if isinstance(self._device, DelegateError):
            raise self._device
        return self._device

    def _answer(self, entry: ModelEntry, device: Device) -> Answer:
        """Remembered, or found out now. Raises DelegateError: there is no time left."""
        case = Case(
            device.name,
            f"{device.driver_version} {self._conditions.drivers[:16]}",
            entry.sha256,
            metadata.version("ai-edge-litert"),
            __version__,
            self._models.threads,
        )
        for verdict in self._memory.verdicts:
            if verdict.case == case:
                return verdict.answer
        if self._left_s < _LEAST_S:
            raise DelegateError(f"no GPU for {entry.file} before the next start: other trials took the time")
        log.info("trying %s on %s", entry.file, device.name)
        began = time.monotonic()
        answer = self._children.trial(entry, self._models, self._left_s)
        self._left_s -= time.monotonic() - began
        kept = [verdict for verdict in self._memory.verdicts if verdict.case.model != case.model]
        self._write(msgspec.structs.replace(self._memory, verdicts=[*kept, Verdict(case, answer)]))
        return answer

    def _use(self) -> None:
        """Count this start before the driver is touched. Raises DelegateError: it can't be counted."""
        if self._since is not None:
            return
        memory, delegate = self._memory, self._models.delegate
        starts = memory.starts + 1 if memory.delegate == delegate else 1
        if not self._write(msgspec.structs.replace(memory, starts=starts, delegate=delegate)):
            raise DelegateError(f"{delegate}: {self._path} can't be written: deaths of the door can't count")
        self._since = time.monotonic()

    def _read(self) -> Memory:
        """What is remembered; a file that can't be read is nothing."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Memory) if self._path else Memory()
        except (OSError, msgspec.DecodeError, RecursionError):
            return Memory()

    def _write(self, memory: Memory) -> bool:
        """Whether it is on the disk, or need not be."""
        self._memory = memory
        try:
            if self._path is not None:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_atomically(self._path, msgspec.json.encode(memory))
        except OSError as error:
            log.warning("%s: %s", self._path, error.strerror)
            return False
        return True
