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
        self.problem: str | None = None  # which fault of a layer left the newest face without its score
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
        faults: list[str] = []

        def score(layer: PadLayer) -> float:
            try:
                return layer.score(pixels, face, taken_at)
            except ModelError as error:  # this frame alone; the next may do
                faults.append(str(error))
                return math.nan

        scores = {layer.name: score(layer) for layer in self._alone}
        if any(map(math.isnan, scores.values())) and not faults:
            return scores | {layer.name: math.nan for layer in self._over_time}
        self._last = taken_at
        scores |= {layer.name: score(layer) for layer in self._over_time}
        self._note(faults[0] if faults else None)
        return scores

    def _note(self, problem: str | None) -> None:
        """Say a fault once, and keep it until a face was scored: another thread tells it."""
        if problem is not None and problem != self.problem:
            log.warning("pad: %s", problem)
        self.problem = problem
