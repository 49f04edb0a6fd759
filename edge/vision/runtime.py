"""A model over whatever runs it: a picture in, tensors out, the same on each runtime and delegate.

Tried in this order: ai-edge-litert (tflite-runtime under its present name), then tflite-runtime. In
this process only their `Interpreter` is used, unless a GPU has proven itself in a child process:
LiteRT's `CompiledModel` kills the process with SIGILL on a Raspberry Pi 4 (deploy/adr/0001, 0008).
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.vision.manifest import ModelEntry

log = logging.getLogger(__name__)

_PACKAGES = {"litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime"}
Tensor = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Runtime:
    """A TFLite runtime that is installed."""

    name: str  # as the configuration calls it
    api: Any  # its `interpreter` module


def find_runtime(wanted: str) -> Runtime:
    """The runtime of that name, or the first there is for `auto`. Raises ModelError."""
    lacking = []
    for name in _PACKAGES if wanted == "auto" else [wanted]:
        try:
            api = importlib.import_module(f"{_PACKAGES[name]}.interpreter")
        except ImportError:
            lacking.append(f"{name} is not installed")
            continue
        if name == "tflite-runtime" and int(np.__version__.split(".")[0]) >= 2:
            # its import succeeds, and its interpreter dies of the other C API
            lacking.append(f"{name} needs numpy < 2, got {np.__version__}")
            continue
        return Runtime(name, api)
    raise ModelError(f"no TFLite runtime: {', '.join(lacking)}")


class Engine(Protocol):
    """What multiplies. One thread at a time."""

    name: str
    """For `status` and the log."""

    def run(self, tensor: Tensor) -> list[Tensor]:
        """The outputs in the manifest's order, without the batch axis, for (1, H, W, 3).

        Raises:
            ModelError: it refused the tensor, or failed.
        """


class Model:
    """A loaded model: a uint8 picture in, float32 tensors out. One thread at a time."""

    def __init__(self, entry: ModelEntry, engine: Engine, spare: Callable[[], Engine] | None = None) -> None:
        """`spare`: makes what goes on when `engine` fails, once; it raises ModelError."""
        self.entry = entry
        self.why = ""  # why not what the configuration wants runs it; empty: it does
        self._engine = engine
        self._spare = spare
        lut = (np.arange(256, dtype=np.float32) - entry.input.mean) / entry.input.scale
        self._lut = lut.astype(np.float32)

    @property
    def backend(self) -> str:
        """What runs it, for `status` and the log."""
        return self._engine.name

    @property
    def size(self) -> tuple[int, int]:
        """Input width and height, px."""
        return self.entry.input.shape[2], self.entry.input.shape[1]

    def __call__(self, picture: NDArray[np.uint8]) -> list[Tensor]:
        """The outputs in the manifest's order for an (H, W, 3) RGB picture of the input's size.

        Raises:
            ModelError: the runtime refused the tensor.
        """
        if self.entry.input.colour == "BGR":
            picture = picture[:, :, ::-1]
        tensor = np.asarray(cv2.LUT(picture, self._lut)[None], np.float32)
        try:
            return self._engine.run(tensor)
        except ModelError as error:
            if self._spare is None:
                raise
            spare, self._spare = self._spare, None
            self._engine, self.why = spare(), f"failed while it ran: {error}"
            log.error("%s runs on %s now: %s", self.entry.file, self.backend, self.why)
            return self._engine.run(tensor)


class Interpreted:
    """An Engine over a runtime's `Interpreter`, on the CPU or with delegates before it."""

    def __init__(
        self,
        entry: ModelEntry,
        content: bytes,
        threads: int,
        runtime: Runtime,
        delegates: Sequence[Any] = (),
        words: str = "",
    ) -> None:
        """Load and allocate. `words`: what the delegates are, for `name`.

        Raises:
            ModelError: the file or its tensors are not as told, or a delegate could not prepare it.
        """
        self.name = f"{runtime.name} {words or 'cpu'} {threads}t"
        self._file = entry.file
        try:
            self._interpreter = runtime.api.Interpreter(
                model_content=content, num_threads=threads, experimental_delegates=list(delegates)
            )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError, SystemError) as error:
            raise ModelError(f"{entry.file}: {self.name} can't load it: {one_line(error)}") from None
        self._input = self._bind("input", self._interpreter.get_input_details()[0], entry.input.shape)
        details = {d["name"].split(":")[0]: d for d in self._interpreter.get_output_details()}
        self._outputs = [self._output(details, o.name, o.shape) for o in entry.outputs]

    def _output(self, details: dict[str, Any], name: str, shape: list[int]) -> int:
        if name not in details:
            raise ModelError(f"{self._file}: expected output {name!r}, got {sorted(details)}")
        return self._bind(name, details[name], shape)

    def _bind(self, name: str, detail: dict[str, Any], shape: Any) -> int:
        got = tuple(int(n) for n in detail["shape"])
        if got != tuple(shape) or detail["dtype"] is not np.float32:
            raise ModelError(
                f"{self._file}: {name}: expected float32 {tuple(shape)}, "
                f"got {np.dtype(detail['dtype']).name} {got}"
            )
        return int(detail["index"])

    def run(self, tensor: Tensor) -> list[Tensor]:
        """As Engine says."""
        try:
            self._interpreter.set_tensor(self._input, tensor)
            self._interpreter.invoke()
            return [self._interpreter.get_tensor(index)[0] for index in self._outputs]
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{self._file}: {one_line(error)}") from None


def on_cpu(entry: ModelEntry, content: bytes, threads: int, runtime: str = "auto") -> Model:
    """A model on the CPU as its runtime comes, its outputs unchecked. Raises ModelError."""
    return Model(entry, Interpreted(entry, content, threads, find_runtime(runtime)))


def one_line(error: BaseException) -> str:
    """The first line of what a runtime says."""
    return (str(error).splitlines() or [type(error).__name__])[0]
