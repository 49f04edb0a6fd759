"""Even out channel ranges between a depthwise convolution and the 1x1 convolution after it.

BlazeFace has input channels whose weights are 15 times those of their neighbours, and others
whose values are a hundred times larger (before `conv2d_16`: 424, median 4), so plain int8 moved
the eyes by 1 to 2 px.  Nothing but a sum lies between the two convolutions, so a factor given
to a channel in the first can be taken back in the second (cross-layer equalisation, Nagel et
al. 2019, arXiv:1906.04721).  Depthwise weights have a scale of their own per channel, so there
a factor costs nothing; the 1x1 convolution ends up with all its input channels alike.

Factors are powers of two, so the float model computes the very same bits as before, and they
come from the weights alone: nothing to calibrate.  (Factors that also even out the activations
of a calibration set were tried: better or worse by turns, depending on the pictures.)
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from models.build.flatbuffer import as_buffer, code_of, floats, only_graph, read, write

_LIMIT = 20  # the largest power of two used, either way


def equalise(content: bytes) -> bytes:
    """The model with every such channel scaled by a power of two, and back again."""
    model = read(content)
    for first, second in _pairs(model):
        weights = floats(model, second.inputs[1])
        scale = _powers_of_two(np.abs(weights).max(axis=(0, 1, 2)))
        _put(model, second.inputs[1], weights / scale)
        for index in first.inputs[1:3]:  # weights and bias
            _put(model, index, floats(model, index) * scale)
    return write(model)


def _powers_of_two(peaks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each channel's largest weight relative to their geometric mean, as a power of two."""
    powers = np.log2(np.maximum(peaks, np.float32(1e-6)))
    centred = np.round(powers - powers.mean()).clip(-_LIMIT, _LIMIT)
    return np.asarray(np.exp2(centred), np.float32)


def _put(model: Any, index: int, values: NDArray[np.float32]) -> None:
    model.buffers[only_graph(model).tensors[index].buffer].data = as_buffer(values)


def _pairs(model: Any) -> list[tuple[Any, Any]]:
    """Each (linear DEPTHWISE_CONV_2D, CONV_2D fed by nothing else)."""
    graph = only_graph(model)
    makers = {int(op.outputs[0]): op for op in graph.operators}
    readers = Counter(int(i) for op in graph.operators for i in op.inputs)
    pairs = []
    for second in graph.operators:
        first = makers.get(int(second.inputs[0]))
        if (
            first is not None
            and code_of(model, second) == schema.BuiltinOperator.CONV_2D
            and code_of(model, first) == schema.BuiltinOperator.DEPTHWISE_CONV_2D
            and first.builtinOptions.fusedActivationFunction == schema.ActivationFunctionType.NONE
            and readers[int(second.inputs[0])] == 1
        ):
            pairs.append((first, second))
    return pairs
