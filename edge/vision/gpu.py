"""LiteRT's GPU accelerator. Nothing of it is loaded before an engine is made, and where one may be made
says `gpu_verdicts`: on a Raspberry Pi 4 it kills the process (deploy/adr/0001).
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np

from edge.errors import DelegateError
from edge.vision.manifest import ModelEntry
from edge.vision.runtime import Tensor, one_line


class GpuJudge(Protocol):
    """Who says where a GPU may be used; `gpu_verdicts` has the one that knows."""

    def refusal(self, entry: ModelEntry) -> str:
        """Why the GPU does not run this model; empty: it does, from now on."""

    def risk(self) -> str:
        """Why the library that is configured may not be loaded; empty: it may, and its deaths count."""


class OnGpu:
    """An Engine over LiteRT's `CompiledModel`, all of the model on the GPU, in float32.

    In float16, the accelerator's default, outputs drift by 1 % of their size. A mixture of GPU and CPU was
    seen to give garbage without an error, so an operation that the GPU can't run is a refusal.
    """

    def __init__(self, entry: ModelEntry, content: bytes) -> None:
        """Compile. Raises DelegateError."""
        self.name = "litert gpu"
        self._file = entry.file
        self._shapes = [output.shape for output in entry.outputs]
        try:
            self._model = _compiled(content)
            self._inputs = self._model.create_input_buffers(0)
            self._outputs = self._model.create_output_buffers(0)
            names = list(self._model.get_signature_by_index(0)["outputs"])
        except (ImportError, RuntimeError, ValueError, TypeError) as error:
            raise DelegateError(f"{entry.file}: the GPU can't run it: {one_line(error)}") from None
        lacking = [output.name for output in entry.outputs if output.name not in names]
        if lacking:
            raise DelegateError(f"{entry.file}: expected output {lacking[0]!r} of the GPU, got {names}")
        self._order = [names.index(output.name) for output in entry.outputs]

    def run(self, tensor: Tensor) -> list[Tensor]:
        """As Engine says."""
        try:
            self._inputs[0].write(np.ascontiguousarray(tensor))
            self._model.run_by_index(0, self._inputs, self._outputs)
            return [self._read(at, shape) for at, shape in zip(self._order, self._shapes, strict=True)]
        except (RuntimeError, ValueError) as error:
            raise DelegateError(f"{self._file}: the GPU failed: {one_line(error)}") from None

    def _read(self, at: int, shape: list[int]) -> Tensor:
        found = self._outputs[at].read(math.prod(shape), np.float32)
        tensor: Tensor = np.asarray(found, np.float32).reshape(shape)[0]
        return tensor


def _compiled(content: bytes) -> Any:
    from ai_edge_litert.compiled_model import CompiledModel, GpuOptions, HardwareAccelerator, Options

    precise = GpuOptions(enforce_f32=True)
    options = Options(hardware_accelerators=HardwareAccelerator.GPU, gpu_options=precise)
    return CompiledModel.from_buffer(content, options=options)
