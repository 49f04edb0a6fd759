"""A TFLite model as it is written, operator by operator, next to the ONNX network it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from onnx import numpy_helper

from models.build.flatbuffer import ModelFormatError, as_buffer, drop_unused, fuse_relus, sign, write_aligned

_FILE_FORMAT = 3
_TO_NHWC = (0, 2, 3, 1)


class Network:
    """An ONNX graph's constants, and the TFLite graph that grows beside it under the same names.

    A tensor of four axes is a picture: NCHW there, NHWC here.
    """

    def __init__(self, source: Any) -> None:
        self.constants = {t.name: np.asarray(numpy_helper.to_array(t)) for t in source.initializer}
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._buffers = [schema.BufferT()]  # the first is the empty one, by the schema's rule
        self._codes: list[int] = []
        self._places: dict[str, int] = {}
        self._ends = [o.name for o in source.output]
        (given,) = (i for i in source.input if i.name not in self.constants)
        shape = [d.dim_value for d in given.type.tensor_type.shape.dim]
        self._graph.inputs = [self.activation(given.name, [shape[axis] for axis in _TO_NHWC])]

    def place(self, name: str) -> int:
        """The number of an activation's tensor. Raises ModelFormatError: nothing has filled it."""
        if name not in self._places:
            raise ModelFormatError(f"{name}: read before it is written")
        return self._places[name]

    def shape(self, name: str) -> list[int]:
        """An activation's shape."""
        return list(self._graph.tensors[self.place(name)].shape)

    def activation(self, name: str, shape: Sequence[int]) -> int:
        """The number of a new float32 tensor, which the operator added next will fill."""
        self._places[name] = self._tensor(name, shape, schema.TensorType.FLOAT32, 0)
        return self._places[name]

    def floats(self, name: str, values: NDArray[np.float32]) -> int:
        """The number of a new float32 constant."""
        return self._constant(name, values.shape, as_buffer(values), schema.TensorType.FLOAT32)

    def integers(self, name: str, values: list[int] | list[list[int]]) -> int:
        """The number of a new int32 constant."""
        array = np.asarray(values, "<i4")
        data = np.frombuffer(array.tobytes(), np.uint8)
        return self._constant(name, array.shape, data, schema.TensorType.INT32)

    def add(self, operator: str, inputs: list[int], output: int, **options: Any) -> None:
        """Append a builtin operator, e.g. `"CONV_2D"`; `options` are the fields of its options table."""
        code = getattr(schema.BuiltinOperator, operator)
        if code not in self._codes:
            self._codes.append(code)
        made = schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = self._codes.index(code), inputs, [output]
        table = _OPTIONS.get(operator)
        if table is not None:
            made.builtinOptionsType = getattr(schema.BuiltinOptions, table)
            made.builtinOptions = getattr(schema, f"{table}T")()
            for field, value in options.items():
                setattr(made.builtinOptions, field, value)
        self._graph.operators.append(made)

    def finish(self, output: str) -> bytes:
        """The file, with its one output named `output`; the same network gives the same bytes."""
        self._graph.outputs = [self.place(name) for name in self._ends]
        model = schema.ModelT()
        model.version, model.subgraphs, model.buffers = _FILE_FORMAT, [self._graph], self._buffers
        model.operatorCodes = [_operator_code(code) for code in self._codes]
        fuse_relus(model, self._graph)
        drop_unused(model, self._graph)
        sign(model, self._graph, [output])
        return write_aligned(model)

    def _constant(self, name: str, shape: Sequence[int], data: NDArray[np.uint8], kind: int) -> int:
        buffer = schema.BufferT()
        buffer.data = data
        self._buffers.append(buffer)
        return self._tensor(name, shape, kind, len(self._buffers) - 1)

    def _tensor(self, name: str, shape: Sequence[int], kind: int, buffer: int) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), list(shape), kind, buffer
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1


def _operator_code(code: int) -> Any:
    made = schema.OperatorCodeT()
    made.builtinCode = made.deprecatedBuiltinCode = code
    made.version = 1
    return made


_OPTIONS = {
    "ADD": "AddOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "MEAN": "ReducerOptions",
    "MUL": "MulOptions",
    "PAD": "PadOptions",
    "RESHAPE": "ReshapeOptions",
}
