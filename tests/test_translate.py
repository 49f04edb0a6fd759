"""The translator from ONNX gives networks that answer as the ONNX ones do, or refuses them.

Needs `onnx` (the dev extra): its reference evaluator, written in numpy, is what is compared with.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("ai_edge_litert")

from ai_edge_litert.interpreter import Interpreter  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

sys.path.append(str(Path(__file__).parents[1]))  # the build is no part of the installed package
from models.build.flatbuffer import ModelFormatError  # noqa: E402
from models.build.translate import translate  # noqa: E402

_OPSET = 15  # below 14 the evaluator runs BatchNormalization as if in training
RNG = np.random.default_rng(11)


def weights(*shape: int) -> np.ndarray:
    return RNG.normal(0, 0.3, shape).astype(np.float32)


def convolution(source: str, target: str, shape: tuple[int, ...], **attributes):
    """A Conv node and its constants."""
    given = {"dilations": [1, 1], "group": 1, "pads": [0] * 4, "strides": [1, 1], **attributes}
    node = helper.make_node(
        "Conv", [source, f"{target}_w", f"{target}_b"], [target], kernel_shape=shape[2:], **given
    )
    return node, {f"{target}_w": weights(*shape), f"{target}_b": weights(shape[0])}


def network(size: int, *parts) -> bytes:
    """An ONNX file of nodes and (node, constants): 3 channels of `size` px in, the last node's output out."""
    nodes, constants = [], {}
    for part in parts:
        node, more = part if isinstance(part, tuple) else (part, {})
        nodes.append(node)
        constants |= more
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
    return model.SerializeToString()


def both(content: bytes, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(ONNX's answer, TFLite's) to one random picture, a picture as NHWC."""
    picture = RNG.normal(0, 1, (1, size, size, 3)).astype(np.float32)
    reference = ReferenceEvaluator(onnx.load_from_string(content))
    want = reference.run(None, {"input": picture.transpose(0, 3, 1, 2)})[0]
    interpreter = Interpreter(model_content=translate(content, "out"), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture)
    interpreter.invoke()
    (output,) = interpreter.get_output_details()
    assert output["name"].split(":")[0] == "out"
    got = interpreter.get_tensor(output["index"])
    return want.transpose(0, 2, 3, 1) if want.ndim == 4 else want, got


def linear_head() -> list:
    """Flatten 4 channels of one pixel, a product, a batch-norm, a product."""
    one = numpy_helper.from_array(np.array(0, np.int64))
    return [
        helper.make_node("Shape", ["pooled"], ["shape"]),
        helper.make_node("Constant", [], ["first"], value=one),
        helper.make_node("Gather", ["shape", "first"], ["batch"], axis=0),
        (helper.make_node("Unsqueeze", ["batch", "axes"], ["batches"]), {"axes": np.array([0])}),
        (helper.make_node("Concat", ["batches", "rest"], ["to"], axis=0), {"rest": np.array([-1])}),
        helper.make_node("Reshape", ["pooled", "to"], ["flat"]),
        (helper.make_node("MatMul", ["flat", "m1"], ["product"]), {"m1": weights(4, 5)}),
        (
            helper.make_node("BatchNormalization", ["product", "s", "o", "m", "v"], ["norm"], epsilon=1e-5),
            {"s": weights(5), "o": weights(5), "m": weights(5), "v": np.abs(weights(5)) + np.float32(0.1)},
        ),
        (helper.make_node("MatMul", ["norm", "m2"], ["last"]), {"m2": weights(5, 3)}),
    ]


@pytest.mark.parametrize("strides", [[1, 1], [2, 2], [2, 1]])
@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 2, 0]])
@pytest.mark.parametrize("size", [8, 9])
def test_a_convolution_has_onnxs_border_at_any_stride(strides, pads, size):
    content = network(size, convolution("input", "c", (5, 3, 3, 3), strides=strides, pads=pads))
    np.testing.assert_allclose(*both(content, size), atol=1e-5)


@pytest.mark.parametrize("strides", [[1, 1], [2, 2]])
def test_a_depthwise_convolution_keeps_each_channel_to_itself(strides):
    content = network(8, convolution("input", "c", (3, 1, 3, 3), group=3, strides=strides, pads=[1] * 4))
    np.testing.assert_allclose(*both(content, 8), atol=1e-5)


def test_a_block_with_prelu_a_sum_and_squeeze_and_excitation_answers_alike():
    content = network(
        8,
        convolution("input", "c", (4, 3, 3, 3), pads=[1] * 4),
        (helper.make_node("PRelu", ["c", "slope"], ["p"]), {"slope": weights(4, 1, 1)}),
        helper.make_node("GlobalAveragePool", ["p"], ["mean"]),
        convolution("mean", "down", (2, 4, 1, 1)),
        helper.make_node("Relu", ["down"], ["active"]),
        convolution("active", "up", (4, 2, 1, 1)),
        helper.make_node("Sigmoid", ["up"], ["gate"]),
        helper.make_node("Mul", ["p", "gate"], ["gated"]),
        helper.make_node("Add", ["c", "gated"], ["sum"]),
    )
    np.testing.assert_allclose(*both(content, 8), atol=1e-5)


def test_a_linear_head_with_its_batch_norm_answers_alike():
    content = network(8, convolution("input", "pooled", (4, 3, 8, 8)), *linear_head())
    want, got = both(content, 8)
    assert got.shape == (1, 3)
    np.testing.assert_allclose(want, got, atol=1e-5)


def test_the_same_network_gives_the_same_bytes():
    content = network(8, convolution("input", "pooled", (4, 3, 8, 8)), *linear_head())
    assert translate(content, "out") == translate(content, "out")


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([helper.make_node("Softplus", ["input"], ["x"])], "x: no translation of Softplus"),
        (
            [convolution("input", "x", (4, 3, 3, 3), dilations=[2, 2])],
            "x: expected a plain or a depthwise convolution, undilated",
        ),
        (
            [convolution("input", "x", (6, 1, 3, 3), group=3)],
            "x: expected a plain or a depthwise convolution, undilated",
        ),
        (
            [convolution("input", "pooled", (4, 3, 7, 7)), *linear_head()],
            "flat: expected one pixel to flatten, got 2x2",
        ),
        ([helper.make_node("Relu", ["nowhere"], ["x"])], "nowhere: read before it is written"),
    ],
)
def test_what_it_does_not_know_is_refused_by_name(parts, words):
    with pytest.raises(ModelFormatError) as caught:
        translate(network(8, *parts), "out")
    assert str(caught.value) == words
