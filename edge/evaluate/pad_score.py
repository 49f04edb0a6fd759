"""Presentations through the door's own eyes: detector, gate, and PAD asked about the frames it would be."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.errors import DatasetError
from edge.evaluate.embed import Looker, Progress
from edge.evaluate.pad import Judged, attempts_of
from edge.evaluate.presentations import VIDEO_SUFFIXES, Presentation, frames
from edge.ports import PadLayer
from edge.values import DISTANCE_CEILING, Face
from edge.vision.pad import PadCheck

Layers = Callable[[], Sequence[PadLayer]]
"""The layers as they are before anybody has come: some remember."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Which frames are scored, and how many make an attempt."""

    every_s: float = 0.25
    frames: int = 3
    folder_fps: float = 30.0  # of clips that are folders of pictures


@dataclass(frozen=True, slots=True)
class Scored:
    """All presentations, and what a layer's score took, ms, median."""

    presented: tuple[Judged, ...]
    frames: int  # that were scored
    ms: Mapping[str, float]


def score_all(
    presentations: Sequence[Presentation], look: Looker, layers: Layers, pace: Pace, progress: Progress
) -> Scored:
    """Show each presentation to the layers as a door would see it.

    Raises:
        DatasetError: a video without frames; no face passed the gate and got a score anywhere.
        ImageError: an unreadable picture.
    """
    took: dict[str, list[float]] = {}
    judged, count = [], 0
    for done, presentation in enumerate(presentations, start=1):
        own = layers()
        timed = [_Timed(layer, took.setdefault(layer.name, [])) for layer in own]
        check = PadCheck(timed, pace.every_s, lambda: True)
        scored = _frames(presentation, look, check, pace.folder_fps)
        count += len(scored)
        # a single picture is all there is: it is judged by that one frame
        each = pace.frames if _is_clip(presentation) else 1
        attempts = attempts_of(_by_subject(scored), each, {layer.name: layer.looks_back for layer in own})
        judged.append(Judged(presentation.person, presentation.species, presentation.path.name, attempts))
        progress(done, len(presentations))
    if not any(j.attempts for j in judged):
        raise DatasetError(
            f"expected faces that pass the gate and get a score in {len(judged)} presentations, got none"
        )
    return Scored(tuple(judged), count, {name: sorted(ms)[len(ms) // 2] for name, ms in took.items()})


def _is_clip(presentation: Presentation) -> bool:
    return presentation.path.is_dir() or presentation.path.suffix.lower() in VIDEO_SUFFIXES


@dataclass(frozen=True, slots=True)
class _Frame:
    vector: NDArray[np.float32]  # (D,)
    scores: Mapping[str, float]


def _frames(presentation: Presentation, look: Looker, check: PadCheck, folder_fps: float) -> list[_Frame]:
    """The scores of each frame that is due and whose face passes the gate."""
    scored: list[_Frame] = []
    for frame in frames(presentation.path, folder_fps):
        if not check.is_due(frame.taken_at):
            continue
        seen = look(frame.pixels)
        if seen.face is None or seen.probe is None:
            continue
        scores = check(frame.pixels, seen.face, frame.taken_at)
        if scores is not None:
            scored.append(_Frame(seen.probe.vector, scores))
    return scored


def _by_subject(scored: Sequence[_Frame]) -> list[list[Mapping[str, float]]]:
    """Frames of one person each: an attempt at a door has those that voted for one subject.

    Else a face on somebody's clothes, found where the head was not, would be half of an attempt.
    """
    groups: list[tuple[NDArray[np.float32], list[Mapping[str, float]]]] = []
    for frame in scored:
        near = (own for first, own in groups if np.linalg.norm(first - frame.vector) < DISTANCE_CEILING)
        own = next(near, None)
        if own is None:
            own = []
            groups.append((frame.vector, own))
        own.append(frame.scores)
    return [own for _, own in groups]


class _Timed:
    """Port PadLayer: another layer, and how long it takes, ms, each time."""

    def __init__(self, layer: PadLayer, took: list[float]) -> None:
        self.name, self.looks_back = layer.name, layer.looks_back
        self._layer, self._took = layer, took

    def score(self, pixels: NDArray[np.uint8], face: Face, taken_at: float) -> float:
        began = time.perf_counter()
        try:
            return self._layer.score(pixels, face, taken_at)
        finally:
            self._took.append((time.perf_counter() - began) * 1000)
