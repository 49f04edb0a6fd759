"""Is the camera to be believed? Pure: it is given the frames and the time.

While a fault stands no face opens the door. What it can't tell: a dark room from a covered lens
(at night the fault stands until the light is on), an even, shaded wall from a blurred lens, a
recording longer than it remembers from life.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.config import CameraConfig
from edge.values import Frame

_GRID = 120  # the shorter side of the sampled picture, px: a 640 x 480 frame costs 0.1 ms
_BRIGHT = 20.0  # grey level; the quality gate asks a face for 25 on the average
_MIN_BRIGHT_PART = 0.005  # of the picture; a face with 24 px between its eyes covers three times as much
_MIN_CONTRAST = 3.0  # grey levels; a lens under tape or a hand
_MIN_DETAIL = 0.015  # sharp pictures have 0.06 and more, the same behind 8 px of blur less than this

_HEALTHY_S = 1.0  # a fault ends after so long without a flaw
_MAX_HEALTHY_S = 30.0  # ... twice as long after each relapse, up to this
_RELAPSE_S = 60.0  # a fault so soon after the last is a relapse

_REMEMBERED_S = 30.0
_REMEMBERED = 4096  # frames; bounds the memory whatever the rate
_JUDGED, _REPEATS = 10, 3  # so many known frames among the last ten are no coincidence


@dataclass(frozen=True, slots=True)
class Sight:
    """What a frame shows, in three figures of its green channel on a coarse grid."""

    bright: float  # part of the picture at or above grey level 20, 0..1
    contrast: float  # standard deviation, grey levels, 0..127
    detail: float  # variance of the Laplacian over the variance: falls with blur, not with light

    @property
    def blind(self) -> bool:
        """Black or covered: no face in it could pass the quality gate."""
        return not (self.bright >= _MIN_BRIGHT_PART and self.contrast >= _MIN_CONTRAST)

    @property
    def blurred(self) -> bool:
        """There is contrast, and no edge anywhere."""
        return not self.detail >= _MIN_DETAIL


def sight_of(pixels: NDArray[np.uint8]) -> Sight:
    """The figures of an (H, W, 3) RGB picture."""
    green = pixels[:, :, 1]
    step = max(1, min(green.shape) // _GRID)
    height, width = (side // step * step for side in green.shape)
    green = green[:height, :width]
    total = np.zeros((height // step, width // step), np.float32)
    for y in (0, step // 2):  # four samples a cell: noise counts half
        for x in (0, step // 2):
            total += green[y::step, x::step]
    grey = total / 4
    edges = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    variance = float(grey.var())
    detail = float(edges.var()) / variance if variance > 0 and edges.size else 0.0
    return Sight(float((grey >= _BRIGHT).mean()), variance**0.5, detail)


class CameraHealth:
    """The judge of one camera. One thread.

    `live=False` for files that are shown in a loop: their frames repeat by nature.
    """

    def __init__(self, config: CameraConfig, live: bool = True) -> None:
        self._config = config
        self._last_at: float | None = None
        self._digest: int | None = None
        self._same = _Lasting(config.frozen_s)
        self._late = _Lasting(config.stall_s)
        self._blind = _Lasting(config.blind_s)
        self._blurred = _Lasting(config.blind_s)
        self._loop = _LoopWatch() if live else None
        self._sight = Sight(0.0, 0.0, 0.0)
        self._verdict = _Verdict()

    def saw(self, frame: Frame, now: float) -> bool:
        """A new frame came at `now`, s monotonic. About 0.3 ms for 640 x 480.

        False: the camera is live and the frame is byte for byte the one before, which a sensor
        never delivers; it must not confirm anybody.
        """
        self._last_at = now
        # 64 bits: a sensor's noise makes every frame differ, so an equal one is the same frame
        digest = hash(frame.pixels.tobytes())
        fresh = digest != self._digest
        self._digest = digest
        if fresh:
            self._sight = sight_of(frame.pixels)
            if self._loop is not None and not self._sight.blind:
                self._loop.saw(digest, now)
        late = self._late.lasts(not 0 <= now - frame.taken_at <= self._config.max_frame_age_ms / 1000, now)
        flaw = self._flaw(fresh, now)
        if late:  # before all else: none of them can let anybody in
            flaw = f"late: every frame is older than {self._config.max_frame_age_ms} ms when it comes"
        suspicious = self._blind.since is not None or self._blurred.since is not None
        # a frame shown twice is no flaw yet (some cameras do so steadily) and no proof of health
        if flaw is not None or suspicious or fresh:
            self._verdict.note(flaw, clean=not suspicious, now=now)
        return fresh or self._loop is None

    def _flaw(self, fresh: bool, now: float) -> str | None:
        blind = self._sight.blind
        # clipped black is byte-identical in a good camera too: darkness is judged as darkness
        frozen = self._same.lasts(not blind, now, restart=fresh)
        covered = self._blind.lasts(blind, now)
        blurred = self._blurred.lasts(self._sight.blurred, now)
        if frozen:
            return f"frozen: byte-identical frames for more than {self._config.frozen_s:g} s"
        if self._loop is not None and self._loop.looping and not blind:
            return "looping: frames repeat"
        if covered:
            return f"black or covered for more than {self._config.blind_s:g} s"
        return f"blurred for more than {self._config.blind_s:g} s" if blurred else None

    def fault(self, now: float) -> str | None:
        """What is wrong with the camera, in words that stay the same while it lasts; None: nothing.

        Before the first frame the time counts from the first call.
        """
        if self._last_at is None:
            self._last_at = now
        if now - self._last_at > self._config.stall_s:
            self._verdict.note(f"no frame for more than {self._config.stall_s:g} s", clean=False, now=now)
        return self._verdict.words


class _Lasting:
    """Whether something has been so for longer than `limit_s`."""

    def __init__(self, limit_s: float) -> None:
        self.since: float | None = None
        self._limit_s = limit_s

    def lasts(self, so: bool, now: float, restart: bool = False) -> bool:
        if not so:
            self.since = None
        elif self.since is None or restart:
            self.since = now
        return self.since is not None and now - self.since > self._limit_s


class _LoopWatch:
    """Finds frames that come a second time, as a recording's do and a sensor's never."""

    def __init__(self) -> None:
        self._order: deque[tuple[float, int]] = deque()
        self._known: set[int] = set()
        self._recent: deque[bool] = deque(maxlen=_JUDGED)

    def saw(self, digest: int, now: float) -> None:
        """A frame that differs from the one before it."""
        while self._order and (now - self._order[0][0] > _REMEMBERED_S or len(self._order) >= _REMEMBERED):
            self._known.discard(self._order.popleft()[1])
        self._recent.append(digest in self._known)
        if digest not in self._known:
            self._known.add(digest)
            self._order.append((now, digest))

    @property
    def looping(self) -> bool:
        return sum(self._recent) >= _REPEATS


class _Verdict:
    """The fault that stands: it begins at once, and ends after a healthy while."""

    def __init__(self) -> None:
        self.words: str | None = None
        self._healthy_since: float | None = None
        self._asked_s = _HEALTHY_S
        self._ended_at: float | None = None

    def note(self, flaw: str | None, clean: bool, now: float) -> None:
        """A flaw, or a frame without; a `clean` one shows nothing that may become a flaw."""
        if flaw is not None or not clean:
            self._healthy_since = None
        elif self._healthy_since is None:
            self._healthy_since = now
        if flaw is not None:
            if self.words is None:
                self._begin(now)
            self.words = flaw
        elif self.words is not None and self._healthy(now):
            self.words, self._ended_at = None, now

    def _healthy(self, now: float) -> bool:
        return self._healthy_since is not None and now - self._healthy_since >= self._asked_s

    def _begin(self, now: float) -> None:
        relapse = self._ended_at is not None and now - self._ended_at < _RELAPSE_S
        self._asked_s = min(_MAX_HEALTHY_S, 2 * self._asked_s) if relapse else _HEALTHY_S
