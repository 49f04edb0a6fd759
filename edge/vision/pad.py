"""Asks the layers of presentation-attack detection about a face, as often as a decision needs it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError
from edge.ports import PadLayer
from edge.values import Face

log = logging.getLogger(__name__)

_APART = 0.9  # of `every_s`: a frame that is a little early is not worth waiting for another


class PadCheck:
    """The layers of this door. Belongs to the vision thread; `problem` may be read by any."""

    def __init__(self, layers: Sequence[PadLayer], every_s: float, wanted: Callable[[], bool]) -> None:
        """A frame is scored when the one before was `every_s` earlier, and scores are `wanted`.

        A frame on which a layer that sees it alone has no verdict (a face cut off by the edge, too
        dark) is none of them: the next is asked about at once.
        """
        self.problem: str | None = None  # why the newest face that was asked about has no score
        self._alone = [layer for layer in layers if not layer.looks_back]
        self._over_time = [layer for layer in layers if layer.looks_back]
        self._apart_s = _APART * every_s
        self._wanted = wanted
        self._last = float("-inf")

    @property
    def names(self) -> tuple[str, ...]:
        """Of the layers."""
        return tuple(layer.name for layer in (*self._alone, *self._over_time))

    def is_due(self, taken_at: float) -> bool:
        """Whether a frame taken then (s, monotonic) would be scored."""
        return bool(self.names) and taken_at - self._last >= self._apart_s and self._wanted()

    def __call__(self, pixels: NDArray[np.uint8], face: Face, taken_at: float) -> Mapping[str, float] | None:
        """Each layer's score of a face of an (H, W, 3) RGB frame taken at `taken_at` (s, monotonic).

        NaN: the layer has no verdict; None: this frame is not scored.
        """
        if not self.is_due(taken_at):
            return None
        self.problem = None
        scores = {layer.name: self._score(layer, pixels, face, taken_at) for layer in self._alone}
        if any(map(math.isnan, scores.values())) and self.problem is None:
            return scores | {layer.name: math.nan for layer in self._over_time}
        self._last = taken_at
        return scores | {layer.name: self._score(layer, pixels, face, taken_at) for layer in self._over_time}

    def _score(self, layer: PadLayer, pixels: NDArray[np.uint8], face: Face, taken_at: float) -> float:
        try:
            return layer.score(pixels, face, taken_at)
        except ModelError as error:  # this frame alone; the next may do
            if self.problem is None:
                log.warning("pad: %s", error)
            self.problem = str(error)
            return math.nan
