"""Presentations through the door's own eyes: detector, gate and the frames that PAD is asked about."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.errors import DatasetError, ModelError
from edge.evaluate.embed import Looker, Progress
from edge.evaluate.pad import Judged, attempts_of, last, mean
from edge.evaluate.presentations import VIDEO_SUFFIXES, Presentation, frames
from edge.ports import PadLayer
from edge.values import DISTANCE_CEILING, Face, Frame

Layers = Callable[[], Sequence[PadLayer]]
"""The layers as they are before anybody has come: some remember."""

_FOLD = {"stillness": last}
"""How a layer's scores of an attempt's frames become one, where it is not their mean."""
_EARLY_S = 1e-3  # stamps of files are rounded


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
        DatasetError: a video without frames; no face passed the gate anywhere.
        ImageError: an unreadable picture.
    """
    took: dict[str, list[float]] = {}
    judged, count = [], 0
    for done, presentation in enumerate(presentations, start=1):
        scored = _frames(presentation, look, layers(), pace, took)
        count += len(scored)
        # a single picture is all there is: it is judged by that one frame
        each = pace.frames if _is_clip(presentation) else 1
        fold = {layer.name: _FOLD.get(layer.name, mean) for layer in layers()}
        attempts = attempts_of(_by_subject(scored), each, fold)
        judged.append(Judged(presentation.person, presentation.species, presentation.path.name, attempts))
        progress(done, len(presentations))
    if not any(j.attempts for j in judged):
        raise DatasetError(f"expected faces that pass the gate in {len(judged)} presentations, got none")
    return Scored(tuple(judged), count, {name: sorted(ms)[len(ms) // 2] for name, ms in took.items()})


def _is_clip(presentation: Presentation) -> bool:
    return presentation.path.is_dir() or presentation.path.suffix.lower() in VIDEO_SUFFIXES


@dataclass(frozen=True, slots=True)
class _Frame:
    vector: NDArray[np.float32]  # (D,)
    scores: Mapping[str, float]


def _frames(
    presentation: Presentation,
    look: Looker,
    layers: Sequence[PadLayer],
    pace: Pace,
    took: dict[str, list[float]],
) -> list[_Frame]:
    """The scores of each frame that is due and whose face passes the gate."""
    scored: list[_Frame] = []
    due = -math.inf
    for frame in frames(presentation.path, pace.folder_fps):
        if frame.taken_at < due - _EARLY_S:
            continue
        seen = look(frame.pixels)
        if seen.face is None or seen.probe is None:
            continue
        due = frame.taken_at + pace.every_s
        scores = {layer.name: _timed(layer, frame, seen.face, took) for layer in layers}
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


def _timed(layer: PadLayer, frame: Frame, face: Face, took: dict[str, list[float]]) -> float:
    began = time.perf_counter()
    try:
        return layer.score(frame.pixels, face, frame.taken_at)
    except ModelError:  # the door's policy: no verdict
        return math.nan
    finally:
        took.setdefault(layer.name, []).append((time.perf_counter() - began) * 1000)
