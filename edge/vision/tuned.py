"""Tuned at this door: colour LBP of the face and the texture layer's scores, weighed as its own camera asks.

A model fitted to one camera is worth nothing at another, so it names its camera and is not used elsewhere.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.values import Face
from edge.vision.colour_lbp import SIZE, colour_lbp
from edge.vision.texture import Texture, window

Features = NDArray[np.float32]  # (354 + crops of the texture models,)


def feature_count(texture: Texture) -> int:
    """How many features a face has."""
    return SIZE + len(texture.scales)


def features(pixels: NDArray[np.uint8], face: Face, texture: Texture) -> Features | None:
    """What a tuned model goes by, of a face of an (H, W, 3) RGB frame; None: the texture has no verdict.

    Colour LBP of the detector's box, then the texture layer's score of each of its crops.

    Raises:
        ModelError: the runtime refused a crop.
    """
    parts = texture.parts(pixels, face)
    if not all(map(math.isfinite, parts)):
        return None
    x0, y0, x1, y1 = window(face.box, 1.0, (pixels.shape[1], pixels.shape[0]))
    return np.concatenate([colour_lbp(pixels[y0:y1, x0:x1]), np.array(parts, np.float32)])


class Tuned:
    """Port PadLayer over a linear model of `features`. Not thread-safe."""

    name = "tuned"
    looks_back = False

    def __init__(self, texture: Texture, weights: NDArray[np.float64], bias: float) -> None:
        """`weights`: one per feature. Raises ModelError: not finite, or of other features."""
        if weights.size != feature_count(texture):
            raise ModelError(
                f"tuned: expected {feature_count(texture)} weights, got {weights.size}: doord pad fit"
            )
        if not (np.isfinite(weights).all() and math.isfinite(bias)):
            raise ModelError("tuned: expected finite weights, got others: doord pad fit")
        self._texture, self._weights, self._bias = texture, weights, bias

    def score(self, pixels: NDArray[np.uint8], face: Face, taken_at: float) -> float:  # noqa: ARG002  # the port's
        """Log-odds (nats) that an (H, W, 3) RGB frame's face is alive; NaN: the texture has no verdict.

        Raises:
            ModelError: the runtime refused a crop.
        """
        found = features(pixels, face, self._texture)
        return math.nan if found is None else float(found @ self._weights) + self._bias
