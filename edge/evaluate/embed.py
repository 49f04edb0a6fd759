"""All pictures of a data set through the pipeline, once each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import DatasetError
from edge.values import Quality
from edge.vision.pictures import draw_face, load_picture, save_picture
from edge.vision.pipeline import Look

Looker = Callable[[NDArray[np.uint8]], Look]
"""A picture in, a Look out: a Pipeline."""
Progress = Callable[[int, int], None]
"""Told how many of how many are done."""
NO_FACE = "no face"
_RED = (220, 30, 30)


@dataclass(frozen=True, slots=True)
class Embedded:
    """What the pipeline made of the pictures."""

    vectors: NDArray[np.float32]  # (N, D) unit rows; zeros where refused
    refusals: tuple[str | None, ...]  # why, in words; None: embedded
    qualities: tuple[Quality | None, ...]  # None: no face

    @property
    def usable(self) -> NDArray[np.bool_]:
        """(N,) which pictures were embedded."""
        return np.array([r is None for r in self.refusals], np.bool_)

    def rows(self, which: Sequence[int]) -> Embedded:
        """The same of some pictures."""
        return Embedded(
            self.vectors[list(which)],
            tuple(self.refusals[i] for i in which),
            tuple(self.qualities[i] for i in which),
        )

    def distances(self, pairs: NDArray[np.intp]) -> NDArray[np.float32]:
        """(P,) L2 distances of (P, 2) pairs; +inf where a picture was refused."""
        one, two = pairs.T
        cosine = np.einsum("ij,ij->i", self.vectors[one], self.vectors[two])
        away = np.sqrt(np.maximum(2 - 2 * cosine, 0))
        away[~(self.usable[one] & self.usable[two])] = np.inf
        return np.asarray(away, np.float32)


def embed_pictures(
    pictures: Sequence[Path], look: Looker, progress: Progress, annotate: Path | None
) -> Embedded:
    """Look at each picture; with `annotate`, refused faces are drawn into that folder.

    Raises:
        ImageError: a picture can't be read or drawn.
        DatasetError: no picture at all passed.
        ModelError: the models gave nothing usable.
    """
    looks = []
    for done, path in enumerate(pictures, start=1):
        pixels = load_picture(path)
        seen = look(pixels)
        if annotate and seen.face and seen.shortcoming:
            drawn = draw_face(pixels, seen.face, seen.shortcoming, _RED)
            save_picture(annotate / f"{path.parent.name}-{path.stem}.png", drawn)
        looks.append((_refusal(seen), seen.quality, seen.probe.vector if seen.probe else None))
        progress(done, len(pictures))
    return _stack(looks)


def _refusal(seen: Look) -> str | None:
    return None if seen.probe else seen.shortcoming or NO_FACE


def _stack(looks: list[tuple[str | None, Quality | None, NDArray[np.float32] | None]]) -> Embedded:
    dimension = next((len(v) for _, _, v in looks if v is not None), 0)
    if not dimension:
        raise DatasetError(
            f"expected a face that passes the gate in at least one of {len(looks)} pictures, got none"
        )
    nothing = np.zeros(dimension, np.float32)
    vectors = np.stack([nothing if v is None else v for _, _, v in looks])
    return Embedded(vectors, tuple(r for r, _, _ in looks), tuple(q for _, q, _ in looks))
