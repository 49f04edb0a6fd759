"""Passive PAD: does the texture of a face look like skin, or like paper or a screen?

A MiniFASNet-type network sees squares around the detector's box (crops), as the manifest says how.
Crops follow Minivision's Silent-Face (scaled about the box's middle, shrunk to fit, shifted inside
the frame, bilinear). What the score is worth, measured, is on the model's card: it stops most
prints and phones, and by itself it is no gate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.values import Face
from edge.vision import manifest
from edge.vision.runtime import Model

_MAX_OUTSIDE = 0.1  # of the box's side beyond the frame: with a quarter of a print outside z came over 2
_MIN_SPREAD = 8.0  # grey levels: at 6 live faces and prints begin to score alike, at 3 they do
_LEAST_PROBABILITY = 1e-6  # a softmax that is saturated still has finite odds

Box = tuple[float, float, float, float]  # x, y, w, h in px of the frame


class Texture:
    """Port PadLayer over one or several models, each of which counts the same. Not thread-safe."""

    name = "texture"
    looks_back = False

    def __init__(self, models: Sequence[Model]) -> None:
        """Raises ModelError: no model, or one whose entry does not say how it looks or answers."""
        if not models:
            raise ModelError("texture: expected at least one PAD model, got none")
        self._models = [(model, _looks(model)) for model in models]
        self._last: tuple[NDArray[np.uint8], Face, list[list[float]]] | None = None

    def score(self, pixels: NDArray[np.uint8], face: Face, taken_at: float) -> float:  # noqa: ARG002  # the port's
        """How alive a face of an (H, W, 3) RGB frame looks: log-odds (nats), above 0 rather alive.

        The mean over crops, then over models. NaN, no verdict: the face is too small, too dark or
        flat, or reaches out of the frame.

        Raises:
            ModelError: the runtime refused a crop, or a network's answer is not finite.
        """
        scores = [sum(parts) / len(parts) for parts in self._asked(pixels, face)]
        return sum(scores) / len(scores)

    @property
    def models(self) -> list[str]:
        """Ids."""
        return [model.entry.id for model, _ in self._models]

    @property
    def words(self) -> str:
        """Models and how far round the face each looks: `minifasnet-se-1 (1, 1.5, 2.7)`."""
        return "; ".join(
            f"{model.entry.id} ({', '.join(f'{scale:g}' for scale in looks.scales)})"
            for model, looks in self._models
        )

    @property
    def scales(self) -> list[float]:
        """Of each crop, over all models."""
        return [scale for _, looks in self._models for scale in looks.scales]

    @property
    def live(self) -> float:
        """Mean score from which a face is alive, of several models the strictest's."""
        return max(looks.live for _, looks in self._models)

    @property
    def unsure(self) -> float:
        """Mean score below which it is an attack."""
        return max(looks.unsure for _, looks in self._models)

    def parts(self, pixels: NDArray[np.uint8], face: Face) -> list[float]:
        """The log-odds of each crop of each model, for layers above this one. Raises as `score`."""
        return [part for parts in self._asked(pixels, face) for part in parts]

    def _asked(self, pixels: NDArray[np.uint8], face: Face) -> list[list[float]]:
        """By model and crop; two layers that ask about one face of one frame cost as much as one."""
        last = self._last
        if last is None or last[0] is not pixels or last[1] is not face:
            asked = [self._by_model(model, looks, pixels, face.box) for model, looks in self._models]
            last = self._last = (pixels, face, asked)
        return last[2]

    @staticmethod
    def _by_model(model: Model, looks: manifest.Texture, pixels: NDArray[np.uint8], box: Box) -> list[float]:
        nothing = [math.nan] * len(looks.scales)
        if not usable(box, (pixels.shape[1], pixels.shape[0]), looks.min_face_px):
            return nothing
        crops = [crop(pixels, box, scale, model.size) for scale in looks.scales]
        if not all(_spread(part) >= _MIN_SPREAD for part in crops):
            return nothing
        odds = [log_odds(model(part)[0], looks) for part in crops]
        if not all(map(math.isfinite, odds)):
            raise ModelError(f"{model.entry.id}: expected {looks.gives} that are finite, got others")
        return odds


def usable(box: Box, size: tuple[int, int], min_side_px: float) -> bool:
    """Whether a box is large enough, and inside a frame of `size` (w, h) but for a tenth; False for a NaN."""
    x, y, w, h = box
    beyond_x, beyond_y = max(-x, x + w - size[0]), max(-y, y + h - size[1])
    return (
        all(map(math.isfinite, box))
        and min(w, h) >= min_side_px
        and beyond_x <= _MAX_OUTSIDE * w
        and beyond_y <= _MAX_OUTSIDE * h
    )


def window(box: Box, scale: float, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The columns x0 <= x < x1 and rows y0 <= y < y1 of a crop, as (x0, y0, x1, y1).

    `scale` times the box about its middle; both sides shrunk alike until they fit into a frame of
    `size` (w, h), then shifted inside it.
    """
    x, y, w, h = box
    scale = min(scale, size[0] / w, size[1] / h)
    x0, x1 = _span(x + w / 2, scale * w, size[0])
    y0, y1 = _span(y + h / 2, scale * h, size[1])
    return x0, y0, x1, y1


def _span(middle: float, length: float, limit: int) -> tuple[int, int]:
    """Whole px from first to last + 1 of a stretch shifted inside 0..limit."""
    px = min(limit, max(1, round(length)))
    first = min(max(0, round(middle - length / 2)), limit - px)
    return first, first + px


def crop(pixels: NDArray[np.uint8], box: Box, scale: float, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A crop of an (H, W, 3) picture, resized to `size` (w, h) as the networks were trained: bilinear."""
    x0, y0, x1, y1 = window(box, scale, (pixels.shape[1], pixels.shape[0]))
    return np.asarray(cv2.resize(pixels[y0:y1, x0:x1], size, interpolation=cv2.INTER_LINEAR), np.uint8)


def log_odds(output: NDArray[np.float32], looks: manifest.Texture) -> float:
    """log p(alive) - log p(anything else) of one output (classes,); NaN unless it is finite."""
    values = output.astype(np.float64)
    if looks.gives == "probabilities":
        within = (values >= 0) & (values <= 1)
        values = np.where(within, np.log(np.clip(values, _LEAST_PROBABILITY, 1)), math.nan)
    if not np.isfinite(values).all():
        return math.nan
    others = np.delete(values, looks.live_index)
    return float(values[looks.live_index] - np.logaddexp.reduce(others))


def _spread(part: NDArray[np.uint8]) -> float:
    """The standard deviation of the liveliest colour channel, grey levels."""
    return float(cv2.meanStdDev(part)[1].max())


def _looks(model: Model) -> manifest.Texture:
    """The entry's `texture`, checked against its output. Raises ModelError."""
    entry = model.entry
    looks = entry.texture
    if looks is None:
        raise ModelError(f"{entry.id}: expected texture in the manifest, got none")
    shape = entry.outputs[0].shape
    if len(entry.outputs) != 1 or len(shape) != 2 or not looks.live_index < shape[1] >= 2:
        raise ModelError(
            f"{entry.id}: expected one output [1, classes] with live_index {looks.live_index} within, "
            f"got {len(entry.outputs)}, the first {shape}"
        )
    return looks
