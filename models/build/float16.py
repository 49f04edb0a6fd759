"""float16 weights behind DEQUANTIZE, for GPU delegates: half the size of float32, and the same mathematics.

A GPU gains nothing from int8: it unpacks the weights and computes in float. Biases, and whatever else has
one axis, stay float32, which costs nothing. (The converter of TensorFlow writes the same form.)
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import yaml
from ai_edge_litert import schema_py_generated as schema

from edge.vision.manifest import ModelEntry, ModelShelf
from edge.vision.runtime import on_cpu
from edge.vision.selftest import known_answer, output_drift
from models.build import shelf
from models.build.flatbuffer import floats, only_graph, read, write_aligned
from models.build.known_answers import rounded

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


class Float16Shelf:
    """A folder for `models.dir`: the float16 models under new ids, the rest as shipped."""

    def __init__(self, out: Path) -> None:
        """Makes the folder; what is there is replaced."""
        self._out = out
        self._shipped = ModelShelf.open(shelf.MODELS)
        for name in ("known_answers", "cards", "LICENSES"):
            shutil.copytree(shelf.MODELS / name, out / name, dirs_exist_ok=True)
        manifest = yaml.safe_load((shelf.MODELS / "manifest.yaml").read_text(encoding="utf-8"))
        self._entries = {entry["file"]: entry for entry in manifest["models"]}

    def keep(self, file: str) -> str:
        """A model as it is shipped. A line about it."""
        shutil.copy(shelf.MODELS / file, self._out / file)
        return f"{file}: as shipped"

    def put(self, file: str, content: bytes, whole: bytes) -> str:
        """A float16 model, made of the float32 one `whole`. A line about it."""
        told = self._entries[file]
        shipped = next(entry for entry in self._shipped.entries if entry.file == file)
        made = msgspec.structs.replace(shipped, sha256=shelf.digest(content))
        picture, _ = known_answer(self._shipped, shipped)
        answers, exact = on_cpu(made, content, 1)(picture), on_cpu(made, whole, 1)(picture)
        drift = max(output_drift(a, b) for a, b in zip(exact, answers, strict=True))
        name = _renamed(shipped)
        told |= {
            "id": name,
            "sha256": made.sha256,
            "quantisation": "float16",
            "known_answer": {"file": f"known_answers/{name}.npz", "max_drift": 0.05},
            "measured": [f"drift from the float model on the known answer's picture: {drift:.1e}"],
        }
        if told.pop("fmr_measured", None):
            told["measured"].append(
                "FMR at 0.7: the shipped model's; the float one's is lower, its own unknown"
            )
        (self._out / file).write_bytes(content)
        outputs: dict[str, Any] = {f"output_{i}": rounded(answer) for i, answer in enumerate(answers)}
        np.savez_compressed(self._out / "known_answers" / f"{name}.npz", image=picture, **outputs)
        return f"{file}: {name}, {len(content) / 1e6:.1f} MB, drift from float {drift:.1e}"

    def close(self) -> None:
        """Write the manifest."""
        manifest = {"format": 1, "models": list(self._entries.values())}
        text = json.dumps(manifest, indent=1)  # which is YAML, and keeps every digit
        (self._out / "manifest.yaml").write_text(text + "\n", encoding="utf-8")


def _renamed(entry: ModelEntry) -> str:
    """`facenet-512-int8-1` -> `facenet-512-f16-1`: templates of one are not compared with the other's."""
    parts = [part for part in entry.id.split("-") if part != "int8"]
    return "-".join([*parts[:-1], "f16", parts[-1]])
