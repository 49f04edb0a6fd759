"""Stored inputs and outputs: a door runs each model on them before it trusts it.

The picture is NASA's portrait of Eileen Collins (public domain), from scikit-image.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.config import ModelsConfig
from edge.vision.detect import BlazeFace
from edge.vision.embed import FaceNet
from edge.vision.manifest import ModelEntry, ModelShelf
from edge.vision.runtime import Model, on_cpu
from models.build.calibrate import Picture
from models.build.shelf import MODELS

_FACE = (96, 0, 256)  # left, top and side of the part around the face, px of 512
_KEPT_BITS = np.uint8(0xF8)  # of each pixel: 32 levels pack to half the size


def write_all(astronaut: Picture) -> Iterator[str]:
    """Write known_answers/*.npz for every model of the manifest; yields one line about each."""
    x, y, side = _FACE
    part = np.ascontiguousarray(astronaut[y : y + side, x : x + side])
    shelf = ModelShelf.open(MODELS)
    short = shelf.entry(shelf.default("detector"), "detector")
    face = BlazeFace(_load(shelf, short), ModelsConfig().min_face_score)(part)[0]
    for entry in shelf.entries:
        model = _load(shelf, entry)
        if entry.role == "embedder":
            image = FaceNet(model).align(part, face)
        else:
            image = np.asarray(cv2.resize(part, model.size, interpolation=cv2.INTER_AREA), np.uint8)
        image &= _KEPT_BITS
        outputs = {f"output_{i}": rounded(value) for i, value in enumerate(model(image))}
        path = MODELS / entry.known_answer.file
        path.parent.mkdir(exist_ok=True)
        arrays: dict[str, Any] = {"image": image, **outputs}
        np.savez_compressed(path, **arrays)
        yield f"{entry.known_answer.file}: {path.stat().st_size} bytes"


def rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """To 10 bits of mantissa (relative error <= 2**-11), which halves the file."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(1 << 12)) & np.uint32(0xFFFFE000)
    return np.asarray(rounded.view(np.float32))


def _load(shelf: ModelShelf, entry: ModelEntry) -> Model:
    return on_cpu(entry, shelf.model_bytes(entry), threads=1)
