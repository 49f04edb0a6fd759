"""gpiod with chips in memory: a sibling of libgpiod's bindings, as much of them as a door uses."""

from __future__ import annotations

import errno
import os
import sys
import time
import types
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Any

import pytest

import edge.door


class Value(Enum):
    INACTIVE = 0
    ACTIVE = 1


Direction = Enum("Direction", "AS_IS INPUT OUTPUT")
Bias = Enum("Bias", "AS_IS UNKNOWN DISABLED PULL_UP PULL_DOWN")
EdgeDetection = Enum("Edge", "NONE RISING FALLING BOTH")
Type = Enum("Type", "RISING_EDGE FALLING_EDGE")
_TOLD = {
    EdgeDetection.NONE: (),
    EdgeDetection.RISING: (1,),
    EdgeDetection.FALLING: (0,),
    EdgeDetection.BOTH: (0, 1),
}


class ChipClosedError(Exception):
    def __init__(self) -> None:
        super().__init__("I/O operation on closed chip")


class RequestReleasedError(Exception):
    def __init__(self) -> None:
        super().__init__("GPIO lines have been released")


@dataclass
class LineSettings:
    direction: Direction = Direction.AS_IS
    edge_detection: EdgeDetection = EdgeDetection.NONE
    bias: Bias = Bias.AS_IS
    output_value: Value = Value.INACTIVE


@dataclass(frozen=True)
class EdgeEvent:
    event_type: Type
    timestamp_ns: int
    line_offset: int
    global_seqno: int

    Type = Type


class FakeRequest:
    """Lines that are claimed together. Its edges wait behind a pipe, so that it can be polled."""

    def __init__(self, gpiod: FakeGpiod, chip: int, lines: dict[int, LineSettings], consumer: str) -> None:
        self.gpiod, self.chip, self.lines, self.consumer = gpiod, chip, lines, consumer
        self.gone = False
        self.fd, self._tell = os.pipe2(os.O_CLOEXEC)
        self._waiting: deque[EdgeEvent] = deque()  # between threads
        self._number = 0
        self._released = False
        gpiod.requests.append(self)
        self._apply(lines)

    def get_value(self, line: int) -> Value:
        self._check()
        if self.lines[line].direction is Direction.OUTPUT:
            return self.lines[line].output_value
        return Value(self.gpiod.levels.get(line, 0))

    def set_value(self, line: int, value: Value) -> None:
        self._check()
        assert self.lines[line].direction is Direction.OUTPUT, "an input is driven"
        self.lines[line].output_value = value
        self.gpiod.drives.append((line, value.value))

    def reconfigure_lines(self, config: dict[int, LineSettings]) -> None:
        self._check()
        self.lines |= config
        self._apply(config)

    def read_edge_events(self, max_events: int | None = None) -> list[EdgeEvent]:
        self._check()
        count = len(os.read(self.fd, max_events or 64))
        return [self._waiting.popleft() for _ in range(count)]

    def release(self) -> None:
        if not self._released:
            os.close(self.fd)
            self.unplug()
            self.gpiod.requests.remove(self)
        self._released = True

    def edge(self, line: int, level: int, at: float, lost: bool) -> None:
        if level in _TOLD[self.lines[line].edge_detection]:
            self._number += 1
            kind = Type.RISING_EDGE if level else Type.FALLING_EDGE
            if not lost:
                self._waiting.append(EdgeEvent(kind, round(at * 1e9), line, self._number))
                os.write(self._tell, b".")

    def unplug(self) -> None:
        if not self.gone:
            os.close(self._tell)
        self.gone = True

    def _apply(self, lines: dict[int, LineSettings]) -> None:
        for line, settings in lines.items():
            if settings.direction is Direction.OUTPUT:
                self.gpiod.drives.append((line, settings.output_value.value))
            else:
                self.gpiod.inputs.append(line)

    def _check(self) -> None:
        if self._released:
            raise RequestReleasedError
        if self.gone or self.gpiod.broken:
            raise OSError(errno.ENODEV, "No such device")


class FakeChip:
    """An open chip."""

    def __init__(self, gpiod: FakeGpiod, path: str) -> None:
        if path not in gpiod.paths:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        self._gpiod, self.number = gpiod, gpiod.paths[path]
        self._closed = False
        gpiod.openings.append(self.number)
        gpiod.open_chips.append(self)

    def __enter__(self) -> FakeChip:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if not self._closed:
            self._gpiod.open_chips.remove(self)
        self._closed = True

    def get_line_info(self, line: int) -> Any:
        return types.SimpleNamespace(consumer=self._holder(line) or None)

    def request_lines(
        self,
        config: dict[int | tuple[int, ...], LineSettings],
        consumer: str | None = None,
        event_buffer_size: int | None = None,
    ) -> FakeRequest:
        if self._closed:
            raise ChipClosedError
        lines = {
            line: settings
            for key, settings in config.items()
            for line in (key if isinstance(key, tuple) else (key,))
        }
        if any(self._holder(line) for line in lines):
            raise OSError(errno.EBUSY, "Device or resource busy")
        self._gpiod.asked.append((tuple(lines), consumer, event_buffer_size))
        return FakeRequest(self._gpiod, self.number, lines, consumer or "?")

    def _holder(self, line: int) -> str:
        ours = [r.consumer for r in self._gpiod.requests if r.chip == self.number and line in r.lines]
        return self._gpiod.held.get(line) or "".join(ours)


class FakeGpiod(types.ModuleType):
    """The module. `drives` has every level a line was driven to, `inputs` every claim as an input."""

    ChipClosedError, RequestReleasedError = ChipClosedError, RequestReleasedError
    EdgeEvent, LineSettings = EdgeEvent, LineSettings

    def __init__(self, chips: tuple[int, ...] = (0,), held: dict[int, str] | None = None) -> None:
        super().__init__("gpiod")
        self.line = types.ModuleType("gpiod.line")
        vars(self.line).update(Value=Value, Direction=Direction, Bias=Bias, Edge=EdgeDetection)
        self.paths = {f"/dev/gpiochip{chip}": chip for chip in chips}
        self.held = held or {}
        self.drives: list[tuple[int, int]] = []
        self.inputs: list[int] = []
        self.levels: dict[int, int] = {}  # of inputs, whatever their chip
        self.openings: list[int] = []
        self.open_chips: list[FakeChip] = []
        self.requests: list[FakeRequest] = []
        self.asked: list[tuple[tuple[int, ...], str | None, int | None]] = []  # lines, consumer, buffer
        self.broken = False  # no line answers

    def Chip(self, path: str) -> FakeChip:  # noqa: N802  # gpiod's name
        return FakeChip(self, path)

    @property
    def opened(self) -> set[int]:
        return {chip.number for chip in self.open_chips}

    @property
    def open(self) -> bool:
        return bool(self.open_chips or self.requests)

    def settings(self, line: int, chip: int = 0) -> LineSettings:
        """What the line is claimed as."""
        (found,) = [r.lines[line] for r in self.requests if r.chip == chip and line in r.lines]
        return found

    def put(self, line: int, level: int, at: float | None = None, lost: bool = False) -> None:
        """The world moves an input, at `at`, s; a `lost` edge is numbered and not told."""
        if self.levels.get(line) == level:
            return
        self.levels[line] = level
        for request in self.requests:
            if line in request.lines and not request.gone:
                request.edge(line, level, time.monotonic() if at is None else at, lost)

    def unplug(self) -> None:
        """All chips go."""
        self.paths.clear()
        for request in self.requests:
            request.unplug()


def _forget_driver() -> None:
    sys.modules.pop("edge.door.gpiod_pins", None)
    vars(edge.door).pop("gpiod_pins", None)


@pytest.fixture
def gpiod(monkeypatch):
    """gpiod(...): put a FakeGpiod where the real one would be imported from. In conftest.py for all."""

    def install(*args, **kwargs) -> FakeGpiod:
        fake = FakeGpiod(*args, **kwargs)
        monkeypatch.setitem(sys.modules, "gpiod", fake)
        monkeypatch.setitem(sys.modules, "gpiod.line", fake.line)
        _forget_driver()
        return fake

    yield install
    _forget_driver()  # else it stays bound to the fake where a real one is too
