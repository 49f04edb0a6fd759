"""Siblings of what drives the door: lines with virtual time, and lgpio with one chip in memory."""

from __future__ import annotations

import types

from edge.errors import LineError

LOCK, UNLOCK = "LOCK", "UNLOCK"


class FakeLines:
    """Port LockLines. `calls` has every call, `history` every change; time passes by `advance`."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.history: list[str] = []
        self.closed = False
        self.broken: set[str] = set()  # what can't be driven
        self._now = 0.0
        self._ends_at: float | None = None

    def lock(self) -> None:
        self._call(LOCK)
        self._ends_at = None

    def unlock(self, for_at_most_s: float) -> None:
        if not 0 < for_at_most_s <= 60:
            raise LineError(f"fake line: expected 0 < s <= 60, got {for_at_most_s}")
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


class FakeLgpio(types.ModuleType):
    """The part of lgpio that gpiozero uses; `drives` has every level a line was driven to."""

    class error(Exception):  # noqa: N801  # lgpio's name
        pass

    SET_PULL_NONE = SET_PULL_UP = SET_PULL_DOWN = 0
    SET_BIAS_DISABLE = SET_BIAS_PULL_UP = SET_BIAS_PULL_DOWN = 0
    BOTH_EDGES, RISING_EDGE, FALLING_EDGE = 3, 1, 2

    def __init__(self, chips: tuple[int, ...] = (0,), held: dict[int, str] | None = None) -> None:
        super().__init__("lgpio")
        self.drives: list[tuple[int, int]] = []
        self.inputs: list[int] = []
        self.open = False
        self.broken = False
        self._chips = chips
        self._held = held or {}
        self._outputs: dict[int, int] = {}

    def gpiochip_open(self, chip: int) -> int:
        if chip not in self._chips:
            raise self.error("can not open gpiochip")
        self.open = True
        return 7

    def gpiochip_close(self, handle: int) -> None:
        self.open = False

    def gpio_claim_input(self, handle: int, line: int, flags: int = 0) -> None:
        if line in self._held:
            raise self.error("GPIO busy")
        self.inputs.append(line)
        self._outputs.pop(line, None)

    def gpio_claim_output(self, handle: int, line: int, level: int = 0, flags: int = 0) -> None:
        self._outputs[line] = level
        self.drives.append((line, level))

    def gpio_write(self, handle: int, line: int, level: int) -> None:
        if self.broken:
            raise self.error("bad GPIO write")
        assert line in self._outputs, "written without a claim"
        self.drives.append((line, int(level)))

    def gpio_read(self, handle: int, line: int) -> int:
        return self._outputs.get(line, 0)

    def gpio_get_mode(self, handle: int, line: int) -> int:
        return 2 if line in self._outputs else 0

    def gpio_get_line_info(self, handle: int, line: int) -> list[object]:
        return [0, line, 0, "", self._held.get(line, "")]
