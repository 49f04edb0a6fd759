"""FaceNet's activation ranges, from portraits that come with registry packages.

The result (`ranges/facenet.json`) is committed: it depends on the processor and the thread
count in its last digits, and the build from it does not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from edge.values import Face, read_only
from edge.vision.align import align
from edge.vision.detect import BlazeFace
from edge.vision.manifest import ModelEntry
from models.build.quantize import Ranges

Picture = NDArray[np.uint8]  # (H, W, 3) RGB

_RANGES = Path(__file__).parent / "ranges" / "facenet.json"
_CROPS_PER_PICTURE = 40
_SEED = 20180402  # any constant: the same crops must come out each time


def decode(content: bytes) -> Picture:
    """An image file as (H, W, 3) RGB."""
    bgr = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ValueError("not an image that can be decoded")
    return np.ascontiguousarray(bgr[:, :, ::-1], np.uint8)


def save(ranges: Ranges) -> None:
    """Write the ranges, one tensor a line."""
    lines = [f"  {json.dumps(name)}: {json.dumps(ends)}" for name, ends in sorted(ranges.items())]
    _RANGES.parent.mkdir(exist_ok=True)
    _RANGES.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def load() -> Ranges:
    """The committed ranges."""
    found = json.loads(_RANGES.read_text(encoding="utf-8"))
    return {name: (float(low), float(high)) for name, (low, high) in found.items()}


def crops(pictures: Sequence[Picture], detector: BlazeFace, embedder: ModelEntry) -> list[Picture]:
    """The largest face of each picture as a door might see it: ill-cut, unlit, blurred, mirrored."""
    if embedder.crop is None:
        raise ValueError(f"{embedder.id}: expected a crop in the manifest, got none")
    size = (embedder.input.shape[2], embedder.input.shape[1])
    chance = np.random.default_rng(_SEED)
    found = []
    for picture in pictures:
        face = max(detector(picture), key=lambda face: face.box[2])
        found.append(align(picture, face, embedder.crop, size))
        for _ in range(_CROPS_PER_PICTURE - 1):
            found.append(_worn(align(picture, _moved(face, chance), embedder.crop, size), chance))
    return found


def measure(model: bytes, pictures: Sequence[Picture], mean: float, scale: float) -> Ranges:
    """The lowest and highest value of each activation of a float model over all pictures."""
    net = Interpreter(
        model_content=model,
        num_threads=2,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    net.allocate_tensors()
    ends = net.get_input_details()[0]
    found: Ranges = {}
    for picture in pictures:
        net.set_tensor(ends["index"], (picture[None].astype(np.float32) - mean) / np.float32(scale))
        net.invoke()
        for name, low, high in _activations(net):
            before = found.get(name, (low, high))
            found[name] = (min(before[0], low), max(before[1], high))
    return found


def _activations(net: Interpreter) -> Iterator[tuple[str, float, float]]:
    """(name, lowest, highest) of each tensor of the last run with a batch axis; 6 digits."""
    for detail in net.get_tensor_details():
        shape = detail["shape"]
        if len(shape) in (2, 4) and shape[0] == 1 and detail["dtype"] is np.float32:
            values = net.get_tensor(detail["index"])
            yield detail["name"], float(f"{values.min():.6g}"), float(f"{values.max():.6g}")


def _moved(face: Face, chance: np.random.Generator) -> Face:
    """The face with landmarks a detector's error away: turned, scaled, shifted, jittered."""
    points = np.asarray(face.landmarks, np.float64)
    middle, reach = points[:4].mean(axis=0), face.eye_distance_px
    angle, size = chance.normal(0, 0.04), np.exp(chance.normal(0, 0.06))
    turn = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = chance.normal(0, 0.04 * reach, 2) + chance.normal(0, 0.02 * reach, points.shape)
    moved = (points - middle) @ turn.T + middle + shift
    return Face(face.box, read_only(moved.astype(np.float32)), face.score)


def _worn(crop: Picture, chance: np.random.Generator) -> Picture:
    """The crop as a poor camera in poor light gives it."""
    values = crop.astype(np.float32)
    if chance.random() < 0.5:
        values = values[:, ::-1]
    if chance.random() < 0.5:
        values = _far(values, int(chance.uniform(40, 120)))
    if chance.random() < 0.15:
        values = np.repeat(values.mean(axis=2, keepdims=True), 3, axis=2)
    values = values * chance.uniform(0.9, 1.1, 3).astype(np.float32)  # white balance
    middle = values.mean()
    values = (values - middle) * chance.uniform(0.6, 1.3) + middle + chance.uniform(-45, 35)
    if chance.random() < 0.3:
        left, right = chance.uniform(0.5, 1.3, 2).tolist()
        side = np.linspace(left, right, values.shape[1])
        values = values * side[None, :, None]
    return np.asarray(values.clip(0, 255), np.uint8)


def _far(values: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Shrunk to `size` px and back."""
    small = cv2.resize(values, (size, size), interpolation=cv2.INTER_AREA)
    back = cv2.resize(small, values.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(back, np.float32)
