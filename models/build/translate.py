"""Translate a small ONNX network (pictures as NCHW) into a float32 TFLite model (NHWC).

For networks of the MobileNet kind: convolutions, PReLU, sums, squeeze-and-excitation, a linear
head. Every operator becomes the TFLite builtin of the same meaning; one that is not in the table,
or is used in another way than there, is an error and never a guess.

onnx2tf does this for any network. It is not used because it brings TensorFlow, and pins numpy and
protobuf below what the quantiser needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import helper

from models.build.flatbuffer import ModelFormatError
from models.build.network import Network

_HEIGHT_AND_WIDTH = [1, 2]  # axes of NHWC
_NO_BIAS = -1  # an optional input left out
_SHAPE_ARITHMETIC = ("Shape", "Constant", "Gather", "Unsqueeze", "Concat")  # all it feeds is a Reshape

Translation = Callable[[Network, Any], None]


def translate(content: bytes, output: str) -> bytes:
    """An ONNX file as a TFLite file whose one output is called `output`.

    Raises:
        ModelFormatError: an operator that is not known here, or is used in another way.
    """
    source = onnx.load_from_string(content).graph
    network = Network(source)
    for node in source.node:
        if node.op_type in _SHAPE_ARITHMETIC:
            continue
        if node.op_type not in _TRANSLATIONS:
            raise ModelFormatError(f"{node.output[0]}: no translation of {node.op_type}")
        _TRANSLATIONS[node.op_type](network, node)
    return network.finish(output)


def _attributes(node: Any) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _convolution(network: Network, node: Any) -> None:
    """Conv -> CONV_2D or DEPTHWISE_CONV_2D."""
    given = _attributes(node)
    weights, bias = (network.constants[name] for name in node.input[1:])
    channels, groups = network.shape(node.input[0])[3], given["group"]
    depthwise = groups == channels == len(weights)
    if given["dilations"] != [1, 1] or not (depthwise or groups == 1):
        raise ModelFormatError(f"{node.output[0]}: expected a plain or a depthwise convolution, undilated")
    order = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
    source, padding, height, width = _bordered(network, node.input[0], given)
    inputs = [
        source,
        network.floats(node.input[1], weights.transpose(order)),
        network.floats(node.input[2], bias),
    ]
    output = network.activation(node.output[0], [1, height, width, len(weights)])
    strides = dict(zip(("strideH", "strideW"), given["strides"], strict=True))
    options = {"padding": padding, "dilationHFactor": 1, "dilationWFactor": 1, **strides}
    if depthwise:
        network.add("DEPTHWISE_CONV_2D", inputs, output, depthMultiplier=1, **options)
    else:
        network.add("CONV_2D", inputs, output, **options)


def _bordered(network: Network, name: str, given: dict[str, Any]) -> tuple[int, int, int, int]:
    """A convolution's input, TFLite's padding, and the height and width that come out.

    ONNX says the border's rows and columns (top, left, bottom, right). TFLite's SAME is that border
    at a stride of 1 only: at 2 it leaves out the upper and the left one.
    """
    top, left, bottom, right = given["pads"]
    batch, height, width, channels = network.shape(name)
    bordered = [batch, height + top + bottom, width + left + right, channels]
    ends = zip(bordered[1:3], given["kernel_shape"], given["strides"], strict=True)
    out_height, out_width = ((side - kernel) // stride + 1 for side, kernel, stride in ends)
    if not any(given["pads"]):
        return network.place(name), schema.Padding.VALID, out_height, out_width
    if given["strides"] == [1, 1] and [2 * pad + 1 for pad in given["pads"]] == given["kernel_shape"] * 2:
        return network.place(name), schema.Padding.SAME, out_height, out_width
    border = network.integers(f"{name}_border", [[0, 0], [top, bottom], [left, right], [0, 0]])
    source = network.place(name)
    wider = network.activation(f"{name}_bordered", bordered)
    network.add("PAD", [source, border], wider)
    return wider, schema.Padding.VALID, out_height, out_width


def _prelu(network: Network, node: Any) -> None:
    slopes = network.constants[node.input[1]].reshape(1, 1, -1)  # one a channel, which comes last here
    inputs = [network.place(node.input[0]), network.floats(node.input[1], slopes)]
    network.add("PRELU", inputs, network.activation(node.output[0], network.shape(node.input[0])))


def _elementwise(operator: str) -> Translation:
    """An operator that takes activations only and knows no axes."""

    def translation(network: Network, node: Any) -> None:
        shape = np.broadcast_shapes(*(tuple(network.shape(name)) for name in node.input))
        inputs = [network.place(name) for name in node.input]
        network.add(operator, inputs, network.activation(node.output[0], shape))

    return translation


def _global_average(network: Network, node: Any) -> None:
    batch, _, _, channels = network.shape(node.input[0])
    inputs = [network.place(node.input[0]), network.integers(f"{node.output[0]}_axes", _HEIGHT_AND_WIDTH)]
    network.add("MEAN", inputs, network.activation(node.output[0], [batch, 1, 1, channels]), keepDims=True)


def _flatten(network: Network, node: Any) -> None:
    """Reshape of a picture of one pixel: of a larger one the order of the numbers would change."""
    batch, height, width, channels = network.shape(node.input[0])
    if (height, width) != (1, 1):
        raise ModelFormatError(f"{node.output[0]}: expected one pixel to flatten, got {height}x{width}")
    shape = [-1, channels]
    inputs = [network.place(node.input[0]), network.integers(f"{node.output[0]}_shape", shape)]
    network.add("RESHAPE", inputs, network.activation(node.output[0], [batch, channels]), newShape=shape)


def _matrix_product(network: Network, node: Any) -> None:
    batch, _ = network.shape(node.input[0])
    matrix = network.constants[node.input[1]].T
    inputs = [network.place(node.input[0]), network.floats(node.input[1], matrix), _NO_BIAS]
    network.add("FULLY_CONNECTED", inputs, network.activation(node.output[0], [batch, len(matrix)]))


def _batch_norm(network: Network, node: Any) -> None:
    """BatchNormalization of a vector -> MUL and ADD, its four numbers a channel folded into two."""
    scale, offset, mean, variance = (network.constants[n].astype(np.float64) for n in node.input[1:])
    slope = scale / np.sqrt(variance + _attributes(node)["epsilon"])
    shape = network.shape(node.input[0])
    name, source = node.output[0], network.place(node.input[0])
    scaled = network.activation(f"{name}_scaled", shape)
    network.add("MUL", [source, network.floats(f"{name}_slope", slope)], scaled)
    shift = network.floats(f"{name}_offset", offset - mean * slope)
    network.add("ADD", [scaled, shift], network.activation(name, shape))


_TRANSLATIONS: dict[str, Translation] = {
    "Add": _elementwise("ADD"),
    "BatchNormalization": _batch_norm,
    "Conv": _convolution,
    "GlobalAveragePool": _global_average,
    "MatMul": _matrix_product,
    "Mul": _elementwise("MUL"),
    "PRelu": _prelu,
    "Relu": _elementwise("RELU"),
    "Reshape": _flatten,
    "Sigmoid": _elementwise("LOGISTIC"),
}
