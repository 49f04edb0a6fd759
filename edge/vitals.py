"""Measures how the unit itself fares, now and then, on a thread of its own: a driver may hang."""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import get_args

from edge.link.vitals import Strain, Vitals
from edge.link.wire import Event, Granted, NoticeKind
from edge.slowness import MIN_FRAMES, Pace, frame_ms, judge

EVERY_S = 10.0
_WAIT_S = 0.5
_GRANTS = 100  # that the percentiles are of
_COMPARED = 1000  # frames that are judged at a time, at most
_ZONES = "sys/class/thermal"
# the firmware's word on a Pi; its lowest four bits are of now, in the order of Strain
_THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"
_STATM = "proc/self/statm"
_PLAUSIBLE_C = (-40.0, 150.0)


class Meter:
    """Takes the figures and tells them. `note` may be called by any thread; `step` belongs to one."""

    def __init__(
        self,
        frames: Callable[[], int],
        tell: Callable[[Vitals], None],
        notice: Callable[[NoticeKind, str], None],
        root: Path = Path("/"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """What is measured.

        Args:
            frames: how many frames have come since the start.
            tell: given every measurement.
            notice: told when the unit has become slow, and when it is no longer.
            root: where sys and proc lie.
            clock: s, monotonic.
        """
        self.newest = Vitals()
        self._frames = frames
        self._tell = tell
        self._notice = notice
        self._root = root
        self._clock = clock
        self._latencies_ms: deque[float] = deque(maxlen=_GRANTS)
        self._frames_ms: deque[float] = deque(maxlen=_COMPARED)  # since the last measurement that judged them
        self._pace = Pace()
        self._pause = threading.Event()
        self._before: tuple[float, int] | None = None  # when, and how many frames had come
        self._next_at = float("-inf")

    def note(self, event: Event) -> None:
        """A grant by face has a latency; nothing else has one that says something of this unit."""
        if isinstance(event, Granted) and event.distance is not None and event.frame_age_ms is not None:
            self._latencies_ms.append(event.frame_age_ms)

    def looked(self, stages_ms: Mapping[str, float]) -> None:
        """A frame went through the models; from any thread."""
        took_ms = frame_ms(stages_ms)
        if took_ms is not None:
            self._frames_ms.append(took_ms)

    def step(self) -> None:
        """Wait a moment, and measure when it is time to."""
        if self._clock() >= self._next_at:
            self._next_at = self._clock() + EVERY_S
            self.newest = self.measure()
            self._tell(self.newest)
            self._judge()
        self._pause.wait(_WAIT_S)

    def _judge(self) -> None:
        """Whether the frames since the last time were slow; too few are waited for."""
        took_ms = sorted(self._frames_ms.copy())
        p95_ms = percentile(took_ms, 95)
        if p95_ms is None or len(took_ms) < MIN_FRAMES:
            return
        self._frames_ms.clear()
        was_slow = self._pace.slow
        judged = judge(self._pace, p95_ms, self.newest)
        self._pace = judged.pace
        if judged.words is not None:
            self._notice("UnitRestored" if was_slow else "UnitSlow", judged.words)

    def measure(self) -> Vitals:
        """The figures now."""
        latencies = sorted(self._latencies_ms)
        return Vitals(
            temperature_c=temperature_c(self._root / _ZONES),
            throttled=throttled(self._root / _THROTTLED),
            latency_p50_ms=percentile(latencies, 50),
            latency_p95_ms=percentile(latencies, 95),
            camera_fps=self._fps(),
            rss_mb=rss_mb(self._root / _STATM),
        )

    def _fps(self) -> float | None:
        now, came = self._clock(), self._frames()
        before, self._before = self._before, (now, came)
        if before is None or not now > before[0]:
            return None
        return round(max(0, came - before[1]) / (now - before[0]), 1)


def percentile(ordered: Sequence[float], of_100: int) -> float | None:
    """The smallest value that so many of 100 do not exceed (nearest rank); None: there is none."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(len(ordered) * of_100 / 100) - 1)]


def temperature_c(zones: Path) -> float | None:
    """The hottest of the processor's thermal zones, else of all; None: there is none that can be read.

    A Jetson's PMIC zone always says 50 or 100, so zones of other parts are asked last.
    """
    found = [(_text(zone / "type"), _text(zone / "temp")) for zone in sorted(zones.glob("thermal_zone*"))]
    lowest, highest = _PLAUSIBLE_C
    degrees = [
        (any(word in kind.lower() for word in ("cpu", "soc", "pkg")), int(milli) / 1000)
        for kind, milli in found
        if milli.removeprefix("-").isdecimal()
    ]
    degrees = [(mine, value) for mine, value in degrees if lowest < value < highest]
    own = [value for mine, value in degrees if mine]
    hottest = max(own or [value for _, value in degrees], default=None)
    return None if hottest is None else round(hottest, 1)


def throttled(path: Path) -> list[Strain] | None:
    """What slows the processor down now; None: no Raspberry Pi, or a firmware that does not tell."""
    try:
        bits = int(_text(path), 16)
    except ValueError:
        return None
    strains: tuple[Strain, ...] = get_args(Strain)
    return [strain for i, strain in enumerate(strains) if bits >> i & 1]


def rss_mb(path: Path) -> float | None:
    """Resident memory of this process; proc_pid_statm(5)."""
    pages = _text(path).split()
    if len(pages) < 2 or not pages[1].isdecimal():
        return None
    return round(int(pages[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def _text(path: Path) -> str:
    """What a file of the kernel's says; empty: nothing, as where a sensor is asleep."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
