"""The vision thread's work: newest frame -> look -> search -> one observation."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.identity.match import search
from edge.values import Frame, Gallery, Observation, Reason
from edge.vision.pipeline import Look

_POLL_S = 0.1  # how long a missing frame may delay the clock of a running attempt


class Frames(Protocol):
    """The grabber, or its sibling in tests."""

    def newest(self, timeout_s: float) -> Frame | None:
        """A frame newer than the last one returned, or None."""

    @property
    def ended(self) -> bool:
        """A clip has shown its last picture: no frame, and no fault of the camera."""


class Health(Protocol):
    """The camera's judge."""

    def saw(self, frame: Frame, now: float) -> bool:
        """A new frame came at `now`; whether it may be evidence (a repeated one is not)."""

    def fault(self, now: float) -> str | None:
        """What is wrong with the camera, in words."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One turn of the loop. `observation` is None when there was no frame to trust."""

    observation: Observation | None
    fault: str | None


class VisionLoop:
    """Turns frames into observations. `step` belongs to one thread; `take_pictures` to any."""

    def __init__(
        self,
        frames: Frames,
        health: Health,
        look: Callable[[NDArray[np.uint8], float], Look],
        gallery: Callable[[], Gallery | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._frames = frames
        self._health = health
        self._look = look
        self._gallery = gallery
        self._clock = clock
        self._sitting = _Sitting()
        self.beat = clock()  # s, monotonic: when the loop last turned

    def judge_by(self, health: Health) -> None:
        """Another camera, another judge; from any thread."""
        self._health = health

    def step(self) -> Seen:
        """One frame, or a short wait for one. Raises ModelError."""
        frame = self._frames.newest(_POLL_S)
        now = self.beat = self._clock()
        counts = frame is not None and self._health.saw(frame, now)
        fault = None if self._frames.ended else self._health.fault(now)
        if frame is None or not counts or fault is not None:
            return Seen(None, fault)
        look = self._look(frame.pixels, frame.taken_at)
        if self._sitting.offer(frame, look, now):
            return Seen(None, None)
        return Seen(self._observe(frame, look), None)

    def _observe(self, frame: Frame, look: Look) -> Observation:
        if look.face is None:
            return Observation(frame.taken_at, stages_ms=look.stages_ms)
        if look.probe is None:
            return Observation(frame.taken_at, None, None, Reason.LOW_QUALITY, look.face, look.stages_ms)
        gallery = self._gallery()
        if gallery is None:
            refused = Reason.UNAUTHORIZED
            return Observation(frame.taken_at, look.probe, None, refused, look.face, look.stages_ms)
        began = time.perf_counter()
        match = search(look.probe, gallery)
        took = {"search": round((time.perf_counter() - began) * 1000, 3)}
        return Observation(frame.taken_at, look.probe, match, None, look.face, look.stages_ms | took)

    def take_pictures(
        self, count: int, apart_s: float, timeout_s: float, wanted: Callable[[], bool] = lambda: True
    ) -> list[NDArray[np.uint8]]:
        """`count` frames whose one face passes the gate, `apart_s` apart, for an enrolment.

        While it lasts no frame is decided on: who sits for a portrait opens no door. Fewer
        pictures come back when the time runs out, or when they are no longer `wanted`.
        """
        return self._sitting.hold(count, apart_s, timeout_s, wanted)


class _Sitting:
    """An enrolment in front of the door's own camera: frames are diverted while it lasts."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._wanted = 0
        self._apart_s = 0.0
        self._last = float("-inf")
        self._pictures: list[NDArray[np.uint8]] = []

    def offer(self, frame: Frame, look: Look, now: float) -> bool:
        """Whether a sitting took the frame."""
        with self._changed:
            if not self._wanted:
                return False
            if look.probe is not None and len(look.faces) == 1 and now - self._last >= self._apart_s:
                self._pictures.append(frame.pixels)
                self._last = now
            if len(self._pictures) >= self._wanted:
                self._wanted = 0
                self._changed.notify_all()
            return True

    def hold(
        self, count: int, apart_s: float, timeout_s: float, wanted: Callable[[], bool]
    ) -> list[NDArray[np.uint8]]:
        until = time.monotonic() + timeout_s
        with self._changed:
            self._pictures, self._wanted, self._apart_s, self._last = [], count, apart_s, float("-inf")
            while self._wanted and wanted() and time.monotonic() < until:
                self._changed.wait_for(lambda: not self._wanted, min(_POLL_S, timeout_s))
            self._wanted = 0
            return self._pictures
