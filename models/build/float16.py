"""float16 weights behind DEQUANTIZE, for GPU delegates: half the size of float32, and the same mathematics.

A GPU gains nothing from int8: it unpacks the weights and computes in float. Biases, and whatever else has
one axis, stay float32, which costs nothing. (The converter of TensorFlow writes the same form.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from models.build.flatbuffer import floats, only_graph, read, write_aligned

_RANKS = (2, 4)  # of weights: fully connected, convolutions


def to_float16(content: bytes) -> bytes:
    """A float32 model with its weights as float16; the same bytes each time."""
    model = read(content)
    graph = only_graph(model)
    model.operatorCodes.append(_dequantize_code())
    code = len(model.operatorCodes) - 1
    unpacked = [_halved(model, graph, index, code) for index in _weights(model, graph)]
    graph.operators = [*unpacked, *graph.operators]
    return write_aligned(model)


def _weights(model: Any, graph: Any) -> list[int]:
    """Indices of the constant float32 tensors that are worth it."""
    return [
        index
        for index, tensor in enumerate(graph.tensors)
        if tensor.type == schema.TensorType.FLOAT32
        and len(tensor.shape) in _RANKS
        and model.buffers[tensor.buffer].data is not None
        and len(model.buffers[tensor.buffer].data)
    ]


def _halved(model: Any, graph: Any, index: int, code: int) -> Any:
    """Put the constant into a float16 tensor; the operator that unpacks it into its old place."""
    whole = graph.tensors[index]
    half, operator = schema.TensorT(), schema.OperatorT()
    values = floats(model, index)
    model.buffers[whole.buffer].data = np.frombuffer(values.astype("<f2").tobytes(), np.uint8)
    half.name, half.shape, half.type = whole.name + b"_half", whole.shape, schema.TensorType.FLOAT16
    half.buffer = whole.buffer
    graph.tensors.append(half)
    whole.buffer = 0  # the empty one: it is computed now
    operator.opcodeIndex, operator.inputs, operator.outputs = code, [len(graph.tensors) - 1], [index]
    return operator


def _dequantize_code() -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = 3  # float16 from version 3 on (tensorflow/lite/tools/versioning/op_version.cc)
    return code
