"""A veto on what does not live: does anything in the face move beyond a rigid plane over the last second?

Points of the face are followed from one sighting to the next (Lucas and Kanade 1981, pyramidal), the
best plane-to-plane mapping between them (homography) is taken away, and what is left over is the
score, in eye distances: a photograph on a stand leaves the tracker's noise, a live face blinks, breathes
and turns. It finds stillness and nothing else: a replayed video moves as its person did, a hand that
shakes a print adds noise, and somebody who stands like a statue is refused. Off unless configured.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.values import Face

Points = NDArray[np.float32]  # (N, 2) px
WINDOW_S = 1.0  # what "the last second" is
MIN_SPAN_S = 0.4  # shorter, and nobody has moved
_SIDE = 160  # px: the face is followed in a picture of this width, so that px mean the same near and far
_AROUND = 0.1  # of the box's side, beyond it
_MIN_POINTS = 12  # a homography takes 4; with fewer than three times as many the rest is noise
_MAX_JUMP = 0.5  # of the box's side from one sighting to the next: another face, or none to be followed
_LIVELIEST = 75  # percentile of what is left over: blinks move few points, noise moves all alike


@dataclass(frozen=True, slots=True)
class _Sighting:
    grey: NDArray[np.uint8]  # (H, W) the whole frame
    box: tuple[float, float, float, float]
    eyes_px: float
    taken_at: float


class Stillness:
    """Port PadLayer. Not thread-safe; remembers one face over the last second."""

    name = "stillness"
    looks_back = True

    def __init__(self) -> None:
        """Nothing seen yet."""
        self._seen: deque[_Sighting] = deque()

    def score(self, pixels: NDArray[np.uint8], face: Face, taken_at: float) -> float:
        """How far the face moved beyond a rigid plane: eye distances, 0 and more; NaN: not seen long enough.

        Of an (H, W, 3) RGB frame. The largest over what was seen in the last second, against now.
        """
        now = _Sighting(
            np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8),
            face.box,
            face.eye_distance_px,
            taken_at,
        )
        if self._seen and not _follows(self._seen[-1], now):
            self._seen.clear()
        while self._seen and self._seen[0].taken_at < taken_at - WINDOW_S:
            self._seen.popleft()
        left = [left_over(before, now) for before in self._seen if taken_at - before.taken_at >= MIN_SPAN_S]
        self._seen.append(now)
        known = [v for v in left if not math.isnan(v)]
        return max(known) if known else math.nan


def _follows(before: _Sighting, now: _Sighting) -> bool:
    """Whether both are one face: of a size, and not far away. False for a NaN."""
    if before.grey.shape != now.grey.shape:
        return False
    (x0, y0, w0, h0), (x1, y1, w1, h1) = before.box, now.box
    gone = math.hypot(x1 + w1 / 2 - x0 - w0 / 2, y1 + h1 / 2 - y0 - h0 / 2)
    return gone < _MAX_JUMP * w0 and 0.7 < w1 / max(w0, 1e-6) < 1.4 and now.taken_at > before.taken_at


def left_over(before: _Sighting, now: _Sighting) -> float:
    """What a homography leaves of the points' movement, in eye distances; NaN: too few points."""
    one, scale, corner = _window(before, before.box)
    two, _, _ = _window(now, before.box)
    if one.size == 0 or not now.eyes_px > 0:
        return math.nan
    start = _corners(one, before, scale, corner)
    if len(start) < _MIN_POINTS:
        return math.nan
    end, kept = _followed(one, two, start)
    return rigid_rest(start[kept], end[kept]) / (now.eyes_px * scale)


def rigid_rest(one: Points, two: Points) -> float:
    """The 75th percentile of the distances, px, that the best homography leaves; NaN: under 12 points."""
    if len(one) < _MIN_POINTS:
        return math.nan
    plane, _ = cv2.findHomography(one, two, cv2.LMEDS)
    if plane is None:
        return math.nan
    mapped = cv2.perspectiveTransform(one[:, None], plane)[:, 0]
    return float(np.percentile(np.linalg.norm(mapped - two, axis=1), _LIVELIEST))


def _window(
    sighting: _Sighting, box: tuple[float, float, float, float]
) -> tuple[NDArray[np.uint8], float, Points]:
    """The frame around a box at a fixed width, its scale and its corner in the frame."""
    height, width = sighting.grey.shape
    x, y, w, h = box
    left, right = (int(np.clip(v, 0, width)) for v in (x - 3 * _AROUND * w, x + w + 3 * _AROUND * w))
    top, bottom = (int(np.clip(v, 0, height)) for v in (y - 3 * _AROUND * h, y + h + 3 * _AROUND * h))
    if right - left < 8 or bottom - top < 8:
        return np.zeros((0, 0), np.uint8), 1.0, np.zeros(2, np.float32)
    scale = _SIDE / w
    part = sighting.grey[top:bottom, left:right]
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    size = (max(8, round(part.shape[1] * scale)), max(8, round(part.shape[0] * scale)))
    return (
        np.asarray(cv2.resize(part, size, interpolation=how), np.uint8),
        scale,
        np.array([left, top], np.float32),
    )


def _corners(window: NDArray[np.uint8], sighting: _Sighting, scale: float, corner: Points) -> Points:
    """Points worth following inside the face's oval."""
    x, y, w, h = sighting.box
    middle = (np.array([x + w / 2, y + h / 2], np.float32) - corner) * np.float32(scale)
    axes = (int(0.42 * w * scale), int(0.5 * h * scale))
    oval = np.zeros(window.shape, np.uint8)
    cv2.ellipse(oval, (round(float(middle[0])), round(float(middle[1]))), axes, 0, 0, 360, 255, -1)
    found = cv2.goodFeaturesToTrack(window, 80, 0.01, 5, mask=oval)
    return np.zeros((0, 2), np.float32) if found is None else np.asarray(found[:, 0], np.float32)


def _followed(
    one: NDArray[np.uint8], two: NDArray[np.uint8], start: Points
) -> tuple[Points, NDArray[np.bool_]]:
    """Where the points went, and which came back to within a pixel when followed backwards."""
    how = {"winSize": (15, 15), "maxLevel": 3}
    there = np.empty_like(start)
    there, found, _ = cv2.calcOpticalFlowPyrLK(one, two, start, there, **how)  # type: ignore[call-overload]
    back = np.empty_like(start)
    back, _, _ = cv2.calcOpticalFlowPyrLK(two, one, there, back, **how)  # type: ignore[call-overload]
    kept = (found[:, 0] == 1) & (np.linalg.norm(back - start, axis=1) < 1)
    return np.asarray(there, np.float32), np.asarray(kept)
