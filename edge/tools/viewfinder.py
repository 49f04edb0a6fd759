"""What the camera shows, in figures that somebody who aims it can follow."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.config import CameraConfig
from edge.errors import CameraError
from edge.ports import CameraSource
from edge.values import Frame, Quality
from edge.vision.camera import open_camera
from edge.vision.grabber import Grabber
from edge.vision.health import Sight, sight_of
from edge.vision.pipeline import Look

_WAIT_S = 0.5
_SILENCE_S = 3.0  # as much as `stall_s` at least: without a frame for so long there is no picture
_RATE_OVER_S = 2.0

Looker = Callable[[NDArray[np.uint8]], Look]


@dataclass(frozen=True, slots=True)
class Glimpse:
    """One frame that was looked at."""

    frame: Frame
    fps: float  # frames that came, looked at or not, over the last two seconds
    light: float  # mean grey level of the whole picture, 0..255
    sight: Sight
    look: Look | None  # None: nobody looked for a face

    def line(self) -> str:
        """One line, to be written over the one before."""
        height, width = self.frame.pixels.shape[:2]
        begin = f"{width}x{height} {self.fps:4.1f}/s  light {self.light:3.0f}"
        begin += "  BLIND" if self.sight.blind else "  BLURRED" if self.sight.blurred else ""
        if self.look is None or self.look.face is None:
            return f"{begin}  no face"
        return f"{begin}  {face_words(self.look)}"


def face_words(look: Look) -> str:
    """The face that would be asked about: its size, and why it would not do."""
    if look.face is None or look.quality is None:
        return "no face"
    q, box = look.quality, look.face.box
    others = f", {len(look.faces)} faces" if len(look.faces) > 1 else ""
    figures = f"face {box[2]:.0f} px, eyes {q.eye_distance_px:.0f} px, sharpness {q.sharpness:.0f}"
    return f"{figures}, light on it {q.exposure:.0f}{others}: {look.shortcoming or 'good'}"


def watch(
    config: CameraConfig,
    look: Looker | None,
    seconds: float,
    open_source: Callable[[CameraConfig], CameraSource] = open_camera,
) -> Iterator[Glimpse]:
    """What comes for so long, each newest frame once; ends early with a clip.

    Raises:
        CameraError: nothing came, or nothing more.
        ModelError: of `look`.
    """
    grabber = Grabber(lambda: open_source(config), config)
    grabber.start()
    rate = _Rate()
    until, seen_at = time.monotonic() + seconds, time.monotonic()
    try:
        while time.monotonic() < until and not grabber.ended:
            frame = grabber.newest(_WAIT_S)
            now = time.monotonic()
            if frame is not None:
                seen_at = now
                yield _glimpse(frame, rate.after(grabber.delivered, now), look)
            elif now - seen_at > max(_SILENCE_S, config.stall_s + _WAIT_S):
                raise CameraError(grabber.problem or "camera: expected a frame, got none")
    finally:
        grabber.stop()


def _glimpse(frame: Frame, fps: float, look: Looker | None) -> Glimpse:
    light = float(frame.pixels[::4, ::4].mean())
    return Glimpse(frame, fps, light, sight_of(frame.pixels), look(frame.pixels) if look else None)


class _Rate:
    def __init__(self) -> None:
        self._came: deque[tuple[float, int]] = deque()

    def after(self, count: int, now: float) -> float:
        """Frames a second, from the counts over the last two seconds; 0 until there are two of them."""
        self._came.append((now, count))
        while now - self._came[0][0] > _RATE_OVER_S:
            self._came.popleft()
        since, before = self._came[0]
        return (count - before) / (now - since) if now > since else 0.0


@dataclass(frozen=True, slots=True)
class View:
    """What was seen over a while. Medians; None: nothing to measure."""

    frames: int
    size: tuple[int, int]  # width, height px
    fps: float
    light: float
    blind: bool
    blurred: bool
    good_faces: int  # frames with a face that passes the gate
    quality: Quality | None  # of those faces
    face_px: float | None  # width of their boxes

    def words(self) -> str:
        """One line."""
        flaw = ", black or covered" if self.blind else ", blurred" if self.blurred else ""
        width, height = self.size
        begin = f"{width}x{height}, {self.fps:.1f} frames/s, light {self.light:.0f} of 255{flaw}"
        if self.quality is None or self.face_px is None:
            return begin
        q = self.quality
        return (
            f"{begin}; face {self.face_px:.0f} px wide, {q.eye_distance_px:.0f} px between the eyes, "
            f"sharpness {q.sharpness:.0f}, light on it {q.exposure:.0f}, in {self.good_faces} frames"
        )


def summary(glimpses: Sequence[Glimpse]) -> View | None:
    """The medians; None: nothing was seen."""
    if not glimpses:
        return None
    last = glimpses[-1]
    height, width = last.frame.pixels.shape[:2]
    good = [g.look for g in glimpses if g.look and g.look.face and g.look.quality and g.look.probe]
    return View(
        frames=len(glimpses),
        size=(width, height),
        fps=last.fps,
        light=statistics.median(g.light for g in glimpses),
        blind=last.sight.blind,
        blurred=last.sight.blurred,
        good_faces=len(good),
        quality=_median_quality([look.quality for look in good if look.quality]),
        face_px=statistics.median(look.face.box[2] for look in good if look.face) if good else None,
    )


def _median_quality(found: Sequence[Quality]) -> Quality | None:
    if not found:
        return None
    names = ("eye_distance_px", "sharpness", "exposure", "contrast", "yaw", "pitch")
    return Quality(**{name: statistics.median(getattr(q, name) for q in found) for name in names})
