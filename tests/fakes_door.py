"""Siblings of what drives the door: lines, inputs and signals with virtual time."""

from __future__ import annotations

import time

from edge.errors import DutyExceeded, LineError

LOCK, UNLOCK = "LOCK", "UNLOCK"


class FakeLines:
    """Port LockLines. `calls` has every call, `history` every change; time passes by `advance`."""

    def __init__(self, max_unlocked_s_per_hour: float = 3600.0) -> None:
        self.left_s = max_unlocked_s_per_hour  # all pulses count whole; the hour never ends
        self.pulses: list[tuple[float, bool]] = []  # (s, free)
        self.calls: list[str] = []
        self.history: list[str] = []
        self.closed = False
        self.broken: set[str] = set()  # what can't be driven
        self._now = 0.0
        self._ends_at: float | None = None

    def lock(self) -> None:
        self._call(LOCK)
        self._ends_at = None

    def unlock(self, for_at_most_s: float, free: bool = False) -> None:
        if not 0 < for_at_most_s <= 60:
            raise LineError(f"fake line: expected 0 < s <= 60, got {for_at_most_s}")
        if not free:
            if not for_at_most_s <= self.left_s:
                raise DutyExceeded("fake line: not again in this hour")
            self.left_s -= for_at_most_s
        self.pulses.append((for_at_most_s, free))
        try:
            self._call(UNLOCK)
        except LineError:
            self._change(LOCK)
            raise
        self._ends_at = self._now + for_at_most_s

    def close(self) -> None:
        if not self.closed:
            self.calls.append("CLOSE")
            self._change(LOCK)
        self.closed = True

    def advance(self, seconds: float) -> None:
        self._now += seconds
        if self._ends_at is not None and self._now >= self._ends_at:
            self._change(LOCK)

    def _call(self, what: str) -> None:
        self.calls.append(what)
        if self.closed:
            raise LineError("fake line: is closed")
        if what in self.broken:
            raise LineError(f"fake line: can't be driven to {what}")
        self._change(what)

    def _change(self, what: str) -> None:
        if not self.history or self.history[-1] != what:
            self.history.append(what)


class FakeInputs:
    """Port DoorInputs: `put` moves a line, `silently` without an edge."""

    def __init__(self, **levels: bool) -> None:
        self.roles = frozenset(levels)
        self.levels = levels
        self.broken = False
        self.closed = False
        self._sink = lambda role, level, at: None

    def watch(self, sink) -> None:
        self._sink = sink

    def read(self) -> dict[str, bool]:
        if self.broken:
            raise LineError("fake inputs: can't be read")
        return dict(self.levels)

    def close(self) -> None:
        self.closed = True

    def put(self, role: str, active: bool, silently: bool = False) -> None:
        self.levels[role] = active
        if not silently:
            self._sink(role, active, time.monotonic())


class FakeSignals:
    """Port DoorSignals; `history` has every (led, sounder)."""

    def __init__(self) -> None:
        self.history: list[tuple[bool, bool]] = []
        self.broken = False
        self.closed = False

    def show(self, led: bool, sounder: bool) -> None:
        if self.broken:
            raise LineError("fake signals: can't be driven")
        self.history.append((led, sounder))

    def close(self) -> None:
        self.closed = True
