"""One thin backend over the TFLite `Interpreter`, the same in both runtimes.

Tried in this order: ai-edge-litert (tflite-runtime under its present name), then
tflite-runtime. Only `Interpreter` is used: LiteRT's `CompiledModel` kills the process with
SIGILL on a Raspberry Pi 4 (deploy/adr/0001).
"""

from __future__ import annotations

import importlib
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.vision.manifest import ModelEntry

_RUNTIMES = {"ai-edge-litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime"}


def _interpreter_class(runtime: str) -> tuple[str, Any]:
    wanted = list(_RUNTIMES) if runtime == "auto" else [runtime]
    for name in wanted:
        try:
            return name, importlib.import_module(f"{_RUNTIMES[name]}.interpreter").Interpreter
        except ImportError:
            continue
    raise ModelError(f"no TFLite runtime: expected {' or '.join(wanted)} to be installed")


class Model:
    """A loaded model: a uint8 picture in, float32 tensors out. One thread at a time.

    `backend` says what runs it, for `status` and the log.
    """

    def __init__(self, entry: ModelEntry, content: bytes, threads: int, runtime: str = "auto") -> None:
        """Load and allocate. Raises ModelError when the file or its tensors are not as told."""
        runtime, interpreter = _interpreter_class(runtime)
        self.entry = entry
        self.backend = f"{runtime} cpu {threads}t"
        try:
            self._interpreter = interpreter(model_content=content, num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError, SystemError) as error:
            raise ModelError(f"{entry.file}: {runtime} can't load it: {_line(error)}") from None
        self._input = self._bind("input", self._interpreter.get_input_details()[0], entry.input.shape)
        details = {d["name"].split(":")[0]: d for d in self._interpreter.get_output_details()}
        self._outputs = [self._output(details, o.name, o.shape) for o in entry.outputs]
        lut = (np.arange(256, dtype=np.float32) - entry.input.mean) / entry.input.scale
        self._lut = lut.astype(np.float32)

    def _output(self, details: dict[str, Any], name: str, shape: list[int]) -> int:
        if name not in details:
            raise ModelError(f"{self.entry.file}: expected output {name!r}, got {sorted(details)}")
        return self._bind(name, details[name], shape)

    def _bind(self, name: str, detail: dict[str, Any], shape: Any) -> int:
        got = tuple(int(n) for n in detail["shape"])
        if got != tuple(shape) or detail["dtype"] is not np.float32:
            raise ModelError(
                f"{self.entry.file}: {name}: expected float32 {tuple(shape)}, "
                f"got {np.dtype(detail['dtype']).name} {got}"
            )
        return int(detail["index"])

    @property
    def size(self) -> tuple[int, int]:
        """Input width and height, px."""
        return self.entry.input.shape[2], self.entry.input.shape[1]

    def __call__(self, picture: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """The outputs in the manifest's order for an (H, W, 3) RGB picture of the input's size.

        Raises:
            ModelError: the runtime refused the tensor.
        """
        if self.entry.input.colour == "BGR":
            picture = picture[:, :, ::-1]
        try:
            self._interpreter.set_tensor(self._input, cv2.LUT(picture, self._lut)[None])
            self._interpreter.invoke()
            return [self._interpreter.get_tensor(index)[0] for index in self._outputs]
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{self.entry.file}: {_line(error)}") from None


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
