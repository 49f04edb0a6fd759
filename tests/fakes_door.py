"""Siblings of what drives the door: lines with virtual time, and lgpio with chips in memory."""

from __future__ import annotations

import sys
import time
import types

import gpiozero.pins
import pytest

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


class FakeLgpio(types.ModuleType):
    """The part of lgpio that gpiozero uses; `drives` has every level a line was driven to."""

    class error(Exception):  # noqa: N801  # lgpio's name
        pass

    SET_PULL_UP, SET_PULL_DOWN, SET_PULL_NONE = 32, 64, 128
    BOTH_EDGES, RISING_EDGE, FALLING_EDGE = 3, 1, 2

    def __init__(self, chips: tuple[int, ...] = (0,), held: dict[int, str] | None = None) -> None:
        super().__init__("lgpio")
        self.drives: list[tuple[int, int]] = []
        self.inputs: list[int] = []
        self.pulls: dict[int, int] = {}
        self.levels: dict[int, int] = {}
        self.opened: set[int] = set()
        self.broken = False
        self._chips = chips
        self._held = held or {}
        self._outputs: dict[tuple[int, int], int] = {}
        self._watches: dict[int, object] = {}

    @property
    def open(self) -> bool:
        return bool(self.opened)

    def gpiochip_open(self, chip: int) -> int:
        if chip not in self._chips:
            raise self.error("can not open gpiochip")
        self.opened.add(chip + 7)
        return chip + 7

    def gpiochip_close(self, handle: int) -> None:
        self.opened.discard(handle)

    def gpio_free(self, handle: int, line: int) -> None:
        self._outputs.pop((handle, line), None)

    def gpio_claim_input(self, handle: int, line: int, flags: int = 0) -> None:
        if line in self._held:
            raise self.error("GPIO busy")
        self.inputs.append(line)
        self.pulls[line] = flags
        self._outputs.pop((handle, line), None)

    def gpio_claim_alert(self, handle: int, line: int, edges: int, flags: int = 0) -> None:
        self.pulls[line] = flags

    def callback(self, handle: int, line: int, edges: int, call) -> object:
        self._watches[line] = call
        return types.SimpleNamespace(cancel=lambda: self._watches.pop(line, None))

    def put(self, line: int, level: int) -> None:
        """The world moves an input."""
        self.levels[line] = level
        if line in self._watches:
            self._watches[line](0, line, level, 1)

    def gpio_claim_output(self, handle: int, line: int, level: int = 0, flags: int = 0) -> None:
        self._outputs[handle, line] = level
        self.drives.append((line, level))

    def gpio_write(self, handle: int, line: int, level: int) -> None:
        if self.broken:
            raise self.error("bad GPIO write")
        assert (handle, line) in self._outputs, "written without a claim"
        self._outputs[handle, line] = int(level)
        self.drives.append((line, int(level)))

    def gpio_read(self, handle: int, line: int) -> int:
        if self.broken:
            raise self.error("bad GPIO read")
        return self._outputs.get((handle, line), self.levels.get(line, 0))

    def gpio_get_mode(self, handle: int, line: int) -> int:
        # lgpio: 2 is an output, 32, 64 and 128 are the pulls
        return 2 if (handle, line) in self._outputs else self.pulls.get(line, 0)

    def gpio_get_line_info(self, handle: int, line: int) -> list[object]:
        return [0, line, 0, "", self._held.get(line, "")]


@pytest.fixture
def lgpio(monkeypatch):
    """lgpio(...): put a FakeLgpio where the real one would be imported from. In conftest.py for all."""

    def install(*args, **kwargs) -> FakeLgpio:
        fake = FakeLgpio(*args, **kwargs)
        monkeypatch.setitem(sys.modules, "lgpio", fake)
        monkeypatch.delitem(sys.modules, "gpiozero.pins.lgpio", raising=False)
        monkeypatch.delattr("gpiozero.pins.lgpio", raising=False)
        return fake

    yield install
    sys.modules.pop("gpiozero.pins.lgpio", None)
    vars(gpiozero.pins).pop("lgpio", None)  # else it stays bound to the fake where a real one is too
