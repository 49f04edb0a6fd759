"""Which layer of which model becomes what: the recipes, as tables, and the quantiser's call.

Chosen by measurement; the model cards have the figures.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_quantizer import quantizer
from ai_edge_quantizer.algorithm_manager import AlgorithmName
from ai_edge_quantizer.qtyping import TFLOperationName
from numpy.typing import NDArray

from models.build.flatbuffer import code_of, only_graph, read

_BITS = 8
_ALL = TFLOperationName.ALL_SUPPORTED

# A dynamic-range convolution converts its input at every run. In BlazeFace that pays for large
# layers only; smaller ones keep int8 weights, unfolded to float once, when the model is loaded.
_LARGE_WEIGHTS = 3000

# These move an eye, or a score over the detector's threshold, more than all other layers
# together: the first layers (every error is carried on) and the score heads.
_SHORT_KEPT_FLOAT = ("activation", "classificator_8", "classificator_16")
_FULL_KEPT_FLOAT = ("activation", "depthwise_conv2d", "depthwise_conv2d_1", "classifier_face_4")

# Large, but its input channels differ a hundredfold: one scale for all of them costs 0.1 px.
_SHORT_WEIGHT_ONLY = ("conv2d_16",)

Ranges = dict[str, tuple[float, float]]  # tensor name -> (lowest, highest) value seen


def quantize_blazeface_short(content: bytes) -> bytes:
    """Short range: int8 weights, large layers in dynamic range, three small layers float."""
    return _quantize_blazeface(content, _SHORT_KEPT_FLOAT, _SHORT_WEIGHT_ONLY)


def quantize_blazeface_full(content: bytes) -> bytes:
    """Full range: int8 weights, large layers in dynamic range, four small layers float."""
    return _quantize_blazeface(content, _FULL_KEPT_FLOAT, ())


def quantize_facenet(content: bytes, ranges: Ranges) -> bytes:
    """FaceNet: static int8, weights per output channel; float32 only at input and output."""
    job = quantizer.Quantizer(bytearray(content))
    job.add_static_config(".*", _ALL, _BITS, _BITS)
    for end in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):
        job.update_quantization_recipe(".*", end, algorithm_key=AlgorithmName.NO_QUANTIZE)
    return _run(job, {name: _statistics(*ends) for name, ends in ranges.items()})


def _statistics(lowest: float, highest: float) -> dict[str, NDArray[np.float32]]:
    ends = (("min", lowest), ("max", highest))
    return {name: np.full((1, 1), value, np.float32) for name, value in ends}


def _quantize_blazeface(content: bytes, kept_float: Sequence[str], weight_only: Sequence[str]) -> bytes:
    job = quantizer.Quantizer(bytearray(content))
    job.add_weight_only_config(".*", TFLOperationName.DEPTHWISE_CONV_2D, _BITS)
    job.add_weight_only_config(".*", TFLOperationName.CONV_2D, _BITS)
    for name in _large_convolutions(content):
        if name not in weight_only:
            job.add_dynamic_config(_exactly(name), TFLOperationName.CONV_2D, _BITS)
    for name in kept_float:
        job.update_quantization_recipe(_exactly(name), _ALL, algorithm_key=AlgorithmName.NO_QUANTIZE)
    return _run(job)


def _large_convolutions(content: bytes) -> list[str]:
    """The output names of CONV_2D operators with at least `_LARGE_WEIGHTS` weights."""
    model = read(content)
    graph = only_graph(model)
    return [
        graph.tensors[op.outputs[0]].name.decode()
        for op in graph.operators
        if code_of(model, op) == schema.BuiltinOperator.CONV_2D
        and np.prod(graph.tensors[op.inputs[1]].shape) >= _LARGE_WEIGHTS
    ]


def _exactly(name: str) -> str:
    """A regular expression for one operator: its scope is its outputs' names, each with a ;."""
    return f"^{re.escape(name)};?$"


def _run(job: quantizer.Quantizer, statistics: Any = None) -> bytes:
    """Quantise; the quantiser's progress bars and summary are kept off the terminal."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return bytes(job.quantize(statistics).quantized_model)
