"""The vision thread's work: newest frame -> look -> search -> one observation."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge.identity.match import search
from edge.values import DISTANCE_CEILING, Face, Frame, Gallery, Match, Observation, Probe, Reason
from edge.vision.pipeline import Known, Look, Stopwatch

_T = TypeVar("_T")
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


PadScorer = Callable[[NDArray[np.uint8], Face, float], Mapping[str, float] | None]
"""PadCheck, or its sibling in tests: a frame's pixels, the face in it, when it was taken (s, monotonic)."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One turn of the loop. `observation` is None when there was no frame to trust."""

    observation: Observation | None
    fault: str | None


class VisionLoop:
    """Turns frames into observations. `step` belongs to one thread; `sit` to any."""

    def __init__(
        self,
        frames: Frames,
        health: Health,
        look: Callable[[NDArray[np.uint8], float, Known], Look],
        gallery: Callable[[], Gallery | None],
        clock: Callable[[], float] = time.monotonic,
        pad: PadScorer | None = None,
        people: Callable[[], Gallery | None] | None = None,
    ) -> None:
        """What the loop looks at and with.

        Args:
            frames: of the camera.
            health: whether they are evidence.
            look: the models.
            gallery: to be searched; None: nobody is searched for.
            clock: s, monotonic.
            pad: presentation-attack detection.
            people: who of several faces is asked about, also where nobody is searched for; by default
                `gallery`.
        """
        self._frames = frames
        self._health = health
        self._look = look
        self._gallery = gallery
        self._people = people or gallery
        self._clock = clock
        self._pad = pad
        self._searched: list[tuple[Probe, Gallery, Match | None]] = []  # of the frame that is looked at
        self._sitting: _Sitting[Any] | None = None
        self._one_sits = threading.Lock()
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
        self._searched.clear()
        look = self._look(frame.pixels, frame.taken_at, self._knows)
        sitting = self._sitting
        if sitting is not None:
            sitting.offer(frame, look, now)
            return Seen(None, None)
        return Seen(self._observe(frame, look), None)

    def _observe(self, frame: Frame, look: Look) -> Observation:
        if look.face is None:
            return Observation(frame.taken_at, stages_ms=look.stages_ms)
        if look.probe is None:
            return Observation(frame.taken_at, None, None, Reason.LOW_QUALITY, look.face, look.stages_ms)
        watch = Stopwatch(look.stages_ms)
        gallery = self._gallery()
        match = None if gallery is None else self._search(look.probe, gallery)
        if match is not None:
            watch.lap("search")
        probe = self._scored(frame, look.probe, look.face, match)
        if probe.pad is not None:
            watch.lap("pad")
        refused = Reason.UNAUTHORIZED if match is None else None
        return Observation(frame.taken_at, probe, match, refused, look.face, watch.laps_ms)

    def _knows(self, probe: Probe) -> bool:
        """Whether the gallery has somebody within the threshold's ceiling; no decision."""
        people = self._people()
        return people is not None and _is_near(self._search(probe, people))

    def _search(self, probe: Probe, gallery: Gallery) -> Match | None:
        """Once a frame: of several faces the one asked about was searched for when it was chosen."""
        for seen, among, match in self._searched:
            if seen is probe and among is gallery:
                return match
        match = search(probe, gallery)
        self._searched.append((probe, gallery, match))
        return match

    def _scored(self, frame: Frame, probe: Probe, face: Face, match: Match | None) -> Probe:
        """The probe with what presentation-attack detection says of it, where that can matter."""
        if self._pad is None or not (match is None or _is_near(match)):
            return probe
        return replace(probe, pad=self._pad(frame.pixels, face, frame.taken_at))

    def sit(
        self,
        take: Callable[[Frame, Look], _T | None],
        count: int,
        apart_s: float,
        timeout_s: float,
        wanted: Callable[[], bool] = lambda: True,
    ) -> list[_T]:
        """What `take` makes of `count` frames whose one face passes the gate, `apart_s` apart; not None.

        While it lasts no frame is decided on: who sits for a portrait opens no door. Less comes back
        when the time runs out, or when it is no longer `wanted`. `take` is called by the thread that
        calls `step`.
        """
        sitting = _Sitting(take, count, apart_s)
        with self._one_sits:
            self._sitting = sitting
            try:
                return sitting.wait(timeout_s, wanted)
            finally:
                self._sitting = None


def picture(frame: Frame, look: Look) -> NDArray[np.uint8]:  # noqa: ARG001  # what a sitting calls
    """What an enrolment takes of a frame: (H, W, 3) RGB."""
    return frame.pixels


def _is_near(match: Match | None) -> bool:
    return match is not None and match.best is not None and match.best.distance < DISTANCE_CEILING


class _Sitting(Generic[_T]):
    """Somebody in front of the door's own camera on purpose: frames are diverted while it lasts."""

    def __init__(self, take: Callable[[Frame, Look], _T | None], count: int, apart_s: float) -> None:
        self._take = take
        self._count = count
        self._apart_s = apart_s
        self._last = float("-inf")
        self._taken: list[_T] = []
        self._done = threading.Event()

    def offer(self, frame: Frame, look: Look, now: float) -> None:
        """A frame for the sitting."""
        due = now - self._last >= self._apart_s and not self._done.is_set()
        if not due or look.probe is None or len(look.faces) != 1:
            return
        made = self._take(frame, look)
        if made is not None:
            self._taken.append(made)
            self._last = now
        if len(self._taken) >= self._count:
            self._done.set()

    def wait(self, timeout_s: float, wanted: Callable[[], bool]) -> list[_T]:
        until = time.monotonic() + timeout_s
        while wanted() and (left := until - time.monotonic()) > 0 and not self._done.wait(min(_POLL_S, left)):
            pass
        self._done.set()
        return list(self._taken)
