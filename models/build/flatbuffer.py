"""Turn the source TFLite files into plain float32 models a quantiser accepts.

Two repairs, both on the flatbuffer itself (no TensorFlow):

* FaceNet (`repair_facenet`): TOCO wrote the graph with dummy activation ranges
  (0..6), so as it stands every negative value is clipped.  The uint8 weights and
  int32 biases are real.  They become float32, and the 131 operators whose output
  tensor is named `...Relu` get the fused RELU back that TOCO dropped because 0
  was the dummy range's minimum.
* BlazeFace (`fold_blazeface`): the weights are float16 behind DEQUANTIZE
  operators.  They become float32 constants (float16 -> float32 is exact), and
  stand-alone RELU operators are fused into the operator before them.

Both give each operator code its `builtin_code` (old files carry only the
deprecated one and a quantiser then reads every operator as ADD) and add a
`serving_default` signature.
"""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

SIGNATURE = "serving_default"
FUSED_RELUS_IN_FACENET = 131  # 132 convolutions and 21 residual sums, less the linear ones

_FILE_IDENTIFIER = b"TFL3"
_FUSIBLE = (
    schema.BuiltinOperator.ADD,
    schema.BuiltinOperator.CONV_2D,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D,
)


class ModelFormatError(ValueError):
    """A source model is not built the way the repair expects."""


def read(content: bytes) -> Any:
    """Parse a .tflite file into the schema's object tree (a `ModelT`).

    A quantiser puts constants behind the flatbuffer and notes offset and size; here they become
    ordinary buffer data.
    """
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    for buffer in model.buffers:
        if buffer.offset > 1:
            part = content[buffer.offset : buffer.offset + buffer.size]
            buffer.data = np.frombuffer(part, np.uint8)
            buffer.offset = buffer.size = 0
    return model


def write(model: Any) -> bytes:
    """Serialise a `ModelT`; the same tree always gives the same bytes."""
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), _FILE_IDENTIFIER)
    return bytes(builder.Output())


def write_aligned(model: Any) -> bytes:
    """As `write`, with every constant behind the flatbuffer at a multiple of 16 bytes.

    A runtime reads constants in place, and Python's flatbuffers builder can't align them inside.
    """
    constants = [
        (buffer, np.asarray(buffer.data, np.uint8).tobytes())
        for buffer in model.buffers
        if buffer.data is not None and len(buffer.data)
    ]
    for buffer, data in constants:
        buffer.data, buffer.offset, buffer.size = None, 1, len(data)
    end = len(write(model))  # the offsets' values do not change the length
    for buffer, data in constants:
        buffer.offset = _aligned(end)
        end = buffer.offset + len(data)
    content = bytearray(write(model))
    for buffer, data in constants:
        content += bytes(buffer.offset - len(content)) + data
    return bytes(content)


def _aligned(offset: int) -> int:
    return (offset + 15) & ~15


def repair_facenet(content: bytes) -> bytes:
    """The uint8 TOCO FaceNet as a float32 model; raises ModelFormatError."""
    model = read(content)
    graph = only_graph(model)
    set_builtin_codes(model)
    for tensor in graph.tensors:
        _make_float(tensor, model.buffers[tensor.buffer])
    fused = _restore_relus(model, graph)
    if fused != FUSED_RELUS_IN_FACENET:
        raise ModelFormatError(f"FaceNet: expected {FUSED_RELUS_IN_FACENET} RELUs, found {fused}")
    _free_batch(model, graph)
    sign(model, graph, ["embeddings"])
    return write(model)


def fold_blazeface(content: bytes) -> bytes:
    """A float16-weight BlazeFace as a float32 model with outputs regressors, classificators."""
    model = read(content)
    graph = only_graph(model)
    set_builtin_codes(model)
    _fold_dequantize(model, graph)
    fuse_relus(model, graph)
    drop_unused(model, graph)
    sign(model, graph, ["regressors", "classificators"])
    return write(model)


def only_graph(model: Any) -> Any:
    """The model's one subgraph; raises ModelFormatError when there are more."""
    if len(model.subgraphs) != 1:
        raise ModelFormatError(f"expected 1 subgraph, found {len(model.subgraphs)}")
    return model.subgraphs[0]


def code_of(model: Any, operator: Any) -> int:
    """An operator's number in `schema.BuiltinOperator`."""
    return int(model.operatorCodes[operator.opcodeIndex].builtinCode)


def set_builtin_codes(model: Any) -> None:
    """Copy the deprecated operator codes of an old file to where they are read today."""
    for code in model.operatorCodes:
        code.builtinCode = max(code.builtinCode, code.deprecatedBuiltinCode)


def _make_float(tensor: Any, buffer: Any) -> None:
    """Dequantise one tensor in place: constants by value, activations by type."""
    quantisation = tensor.quantization
    if quantisation is None or quantisation.scale is None:
        return  # shapes and the like
    if buffer.data is not None:
        values = integers(tensor, buffer)
        buffer.data = as_buffer(values * np.float32(quantisation.scale[0]))
    tensor.type = schema.TensorType.FLOAT32
    tensor.quantization = None


def integers(tensor: Any, buffer: Any) -> NDArray[np.float32]:
    """A quantised constant as value minus zero point (exact in float32)."""
    dtypes = {schema.TensorType.UINT8: np.uint8, schema.TensorType.INT32: np.int32}
    raw = np.frombuffer(bytes(buffer.data), dtype=dtypes[tensor.type])
    return np.asarray(raw.astype(np.int64) - int(tensor.quantization.zeroPoint[0]), np.float32)


def as_buffer(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Numbers as a buffer holds them: little-endian float32."""
    little_endian = np.ascontiguousarray(values, dtype="<f4")
    return np.frombuffer(little_endian.tobytes(), dtype=np.uint8)


def floats(model: Any, index: int) -> NDArray[np.float32]:
    """A float32 constant tensor's values, in its shape."""
    tensor = only_graph(model).tensors[index]
    data = np.asarray(model.buffers[tensor.buffer].data, np.uint8)
    values = np.frombuffer(data.tobytes(), "<f4").reshape(tensor.shape)
    return np.asarray(values, np.float32)


def _restore_relus(model: Any, graph: Any) -> int:
    """Fuse RELU into each operator whose output is named ...Relu; returns how many."""
    fused = 0
    for operator in graph.operators:
        name = graph.tensors[operator.outputs[0]].name.decode()
        if code_of(model, operator) in _FUSIBLE and name.endswith("Relu"):
            operator.builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.RELU
            fused += 1
    return fused


def _free_batch(model: Any, graph: Any) -> None:
    """Let each RESHAPE take any batch (-1 for the first axis), so two crops can go in at once."""
    for operator in graph.operators:
        if code_of(model, operator) == schema.BuiltinOperator.RESHAPE:
            shape = model.buffers[graph.tensors[operator.inputs[1]].buffer]
            sizes = np.frombuffer(np.asarray(shape.data, np.uint8).tobytes(), "<i4").copy()
            sizes[0] = -1
            shape.data = np.frombuffer(sizes.tobytes(), np.uint8)
            if operator.builtinOptions is not None:
                operator.builtinOptions.newShape = sizes


def _fold_dequantize(model: Any, graph: Any) -> None:
    """Replace each DEQUANTIZE of a float16 constant by the float32 constant."""
    kept = []
    for operator in graph.operators:
        if code_of(model, operator) != schema.BuiltinOperator.DEQUANTIZE:
            kept.append(operator)
            continue
        source, target = graph.tensors[operator.inputs[0]], graph.tensors[operator.outputs[0]]
        data = model.buffers[source.buffer].data
        if data is None or source.type != schema.TensorType.FLOAT16:
            raise ModelFormatError(f"{target.name.decode()}: DEQUANTIZE of something not float16")
        halves = np.frombuffer(bytes(data), dtype="<f2")
        model.buffers[source.buffer].data = as_buffer(halves)
        target.buffer = source.buffer
    graph.operators = kept


def fuse_relus(model: Any, graph: Any) -> None:
    """Fuse each stand-alone RELU into its producer where that producer feeds nothing else."""
    readers = np.bincount([i for op in graph.operators for i in op.inputs if i >= 0])
    makers = {op.outputs[0]: op for op in graph.operators}
    kept = []
    for operator in graph.operators:
        maker = makers.get(operator.inputs[0])
        if (
            code_of(model, operator) == schema.BuiltinOperator.RELU
            and maker is not None
            and code_of(model, maker) in _FUSIBLE
            and readers[operator.inputs[0]] == 1
        ):
            maker.builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.RELU
            maker.outputs = operator.outputs
        else:
            kept.append(operator)
    graph.operators = kept


def drop_unused(model: Any, graph: Any) -> None:
    """Drop tensors, buffers and operator codes that nothing refers to, and renumber."""
    ends = [*graph.inputs, *graph.outputs]
    used = sorted({int(i) for op in graph.operators for i in (*op.inputs, *op.outputs)} | set(ends))
    used = [i for i in used if i >= 0]  # -1 marks an optional input left out
    place = {old: new for new, old in enumerate(used)} | {-1: -1}
    graph.tensors = [graph.tensors[i] for i in used]
    for operator in graph.operators:
        operator.inputs = [place[int(i)] for i in operator.inputs]
        operator.outputs = [place[int(i)] for i in operator.outputs]
    graph.inputs = [place[int(i)] for i in graph.inputs]
    graph.outputs = [place[int(i)] for i in graph.outputs]
    _renumber_buffers(model, graph)
    _renumber_codes(model, graph)


def _renumber_buffers(model: Any, graph: Any) -> None:
    buffers = [model.buffers[0]]  # buffer 0 is the empty one, by the schema's rule
    for tensor in graph.tensors:
        if model.buffers[tensor.buffer].data is None:
            tensor.buffer = 0
        else:
            buffers.append(model.buffers[tensor.buffer])
            tensor.buffer = len(buffers) - 1
    model.buffers = buffers
    model.metadata = None  # it refers to buffers by number


def _renumber_codes(model: Any, graph: Any) -> None:
    used = sorted({op.opcodeIndex for op in graph.operators})
    place = {old: new for new, old in enumerate(used)}
    model.operatorCodes = [model.operatorCodes[i] for i in used]
    for operator in graph.operators:
        operator.opcodeIndex = place[operator.opcodeIndex]


def sign(model: Any, graph: Any, outputs: list[str]) -> None:
    """Name the model's ends and add the signature a quantiser needs."""
    graph.tensors[graph.inputs[0]].name = b"input"
    for index, name in zip(graph.outputs, outputs, strict=True):
        graph.tensors[index].name = name.encode()
    signature = schema.SignatureDefT()
    signature.signatureKey = SIGNATURE.encode()
    signature.subgraphIndex = 0
    signature.inputs = [_named(b"input", graph.inputs[0])]
    signature.outputs = [
        _named(name.encode(), index) for index, name in zip(graph.outputs, outputs, strict=True)
    ]
    model.signatureDefs = [signature]


def _named(name: bytes, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, int(index)
    return entry
