"""The GPIO chips of a door, each opened once, and the lines on them, found by label and name.

gpiozero never guesses here: a mock factory when the configuration says `simulation: true`, gpiod's
(gpiod_pins) on the configured chip otherwise. The board is described by the lines in use, so neither
the offsets nor the kind of board matter.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from gpiozero import GPIOZeroError
from gpiozero.pins import PinInfo
from gpiozero.pins.mock import MockFactory, MockPin

from edge import gpio_uapi
from edge.door_config import DoorConfig, Wiring
from edge.errors import LineError

_DEV = Path("/dev")
_ANY_PI = "a02082"  # MockFactory wants a revision; given, so that no environment variable is read
_SIMULATED_NAMES_FROM = 1000  # where lines that have only a name lie on a simulated chip


class Chip:
    """An open chip; closed with the last of its lines."""

    def __init__(self, path: str, factory: Any, faults: tuple[type[Exception], ...]) -> None:
        """`factory`: its gpiozero pin factory; `faults`: what its driver raises."""
        self.path = path
        self.factory = factory
        self.faults = (GPIOZeroError, OSError, *faults)
        self._users = 0

    def use(self) -> None:
        """One more line of it is in use."""
        self._users += 1

    def leave(self) -> None:
        """One line less; the last one closes the chip. Never raises."""
        self._users -= 1
        if self._users <= 0:
            self.close()

    def close(self) -> None:
        """Let all its lines go. Never raises, may be called twice."""
        with contextlib.suppress(*self.faults):  # unplugged
            self.factory.close()


@dataclass(frozen=True, slots=True)
class Place:
    """A line of an open chip."""

    chip: Chip
    offset: int

    @property
    def where(self) -> str:
        """For messages and for doord-lock."""
        return f"{self.chip.path} line {self.offset}"

    @property
    def pin(self) -> str:
        """gpiozero's name for it."""
        return f"GPIO{self.offset}"

    def holder(self) -> str:
        """`; it is held by "..."` where the driver can tell, else nothing."""
        ask = getattr(self.chip.factory, "holder", None)
        try:
            name = ask(self.offset) if ask else ""
        except self.chip.faults:
            name = ""
        return f'; it is held by "{name}"' if name else ""


def open_places(door: DoorConfig, simulation: bool) -> dict[str, Place]:
    """Where each configured role's line is, its chip open. Raises LineError; nothing is left open."""
    wiring = door.wiring()
    found = _simulated(wiring) if simulation else find(wiring)
    chips: dict[str, Chip] = {}
    try:
        for path in dict.fromkeys(path for path, _ in found.values()):
            offsets = frozenset(offset for at, offset in found.values() if at == path)
            chips[path] = simulated_chip(path, offsets) if simulation else _real_chip(path, offsets)
    except LineError:
        for chip in chips.values():
            chip.close()
        raise
    for path, _ in found.values():
        chips[path].use()
    return {_role(key): Place(chips[path], offset) for key, (path, offset) in found.items()}


def _role(key: str) -> str:
    """`rex` of `door.rex.line`."""
    return key.split(".")[1]


def _simulated(wiring: Wiring) -> dict[str, tuple[str, int]]:
    names = sorted({line for _, line in wiring.values() if isinstance(line, str)})
    return {
        key: (chip, line if isinstance(line, int) else _SIMULATED_NAMES_FROM + names.index(line))
        for key, (chip, line) in wiring.items()
    }


def find(wiring: Wiring) -> dict[str, tuple[str, int]]:
    """The device and the offset of each line. Raises LineError: there is none, or one is two things."""
    found: dict[str, tuple[str, int]] = {}
    taken: dict[tuple[str, int], str] = {}  # two names of one line show only here
    for key, (chip, line) in wiring.items():
        path = chip_path(chip)
        offset = line if isinstance(line, int) else line_offset(path, line[len("name:") :])
        if (path, offset) in taken:
            raise LineError(f"{path} line {offset}: is both {taken[path, offset]} and {key}")
        found[key] = (path, offset)
        taken[path, offset] = key
    return found


def chip_path(chip: str) -> str:
    """The device of a chip named by path, link or label. Raises LineError."""
    if chip.startswith("label:"):
        return _chip_labelled(chip[len("label:") :])
    found = re.fullmatch(r"/dev/gpiochip\d+", str(Path(chip).resolve()))
    if not found:
        raise LineError(f"{chip}: expected /dev/gpiochip<n> or a link to one")
    return found[0]


def _chip_labelled(label: str) -> str:
    labels = {str(path): chip_label(str(path)) for path in sorted(_DEV.glob("gpiochip*"))}
    found = [path for path, its in labels.items() if its == label]
    if len(found) != 1:
        there = ", ".join(f"{path} {its!r}" for path, its in labels.items()) or "no GPIO chip at all"
        raise LineError(f"label:{label}: expected one chip with this label, got {len(found)} of {there}")
    return found[0]


def chip_label(path: str) -> str:
    """The label of a chip's device. Raises LineError."""
    return _asked(path, lambda fd: gpio_uapi.chip_info(fd)[0])


@dataclass(frozen=True, slots=True)
class ChipLines:
    """A GPIO chip of this machine and the names of its lines, by offset; empty: it has none."""

    path: str
    label: str
    names: tuple[str, ...]


def list_chips() -> list[ChipLines]:
    """Every chip that can be opened, by path."""
    found = []
    for path in sorted(_DEV.glob("gpiochip*"), key=lambda p: (len(p.name), p.name)):
        with contextlib.suppress(LineError):
            found.append(_asked(str(path), partial(_described, str(path))))
    return found


def _described(path: str, fd: int) -> ChipLines:
    label, count = gpio_uapi.chip_info(fd)
    return ChipLines(path, label, tuple(gpio_uapi.line_info(fd, offset)[0] for offset in range(count)))


def line_holder(path: str, offset: int) -> str:
    """Who holds the line, as the kernel knows it; empty: nobody, or it does not say. Raises LineError."""
    return _asked(path, lambda fd: gpio_uapi.line_info(fd, offset)[1])


def line_offset(path: str, name: str) -> int:
    """The offset of the line the device tree gives this name. Raises LineError."""

    def search(fd: int) -> list[int]:
        _, count = gpio_uapi.chip_info(fd)
        return [offset for offset in range(count) if gpio_uapi.line_info(fd, offset)[0] == name]

    found = _asked(path, search)
    if len(found) != 1:
        raise LineError(f"{path}: expected one line named {name}, got {len(found)}: gpioinfo lists them")
    return found[0]


_R = TypeVar("_R")


def _asked(path: str, ask: Callable[[int], _R]) -> _R:
    """What `ask` finds out on the open device. Raises LineError."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            return ask(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise LineError(
            f"{path}: {error.strerror or error}: expected a GPIO chip that doord's user or group may open"
        ) from error


class _Board:
    """What gpiozero asks of a board, for a chip of which only some lines concern us."""

    def __init__(self, offsets: frozenset[int]) -> None:
        self._lines = [
            PinInfo(
                offset, f"GPIO{offset}", frozenset({f"GPIO{offset}", offset}), "", 1, 1, frozenset({"gpio"})
            )
            for offset in offsets
        ]

    def find_pin(self, name: str | int) -> Iterator[tuple[None, Any]]:
        """(header, pin) of each pin with this name."""
        for line in self._lines:
            if name in line.names:
                yield None, line


def simulated_chip(path: str, offsets: frozenset[int]) -> Chip:
    """A chip of mock pins; `chip.factory.pin("GPIO<offset>").states` has what a line did."""
    board = _Board(offsets)

    class Simulated(MockFactory):  # type: ignore[misc]  # gpiozero has no types
        def _get_board_info(self) -> _Board:
            return board

    return Chip(path, Simulated(revision=_ANY_PI, pin_class=MockPin), ())


def _real_chip(path: str, offsets: frozenset[int]) -> Chip:
    """gpiod on a chip. Raises LineError."""
    pins = real_lines(path)
    try:
        return Chip(path, pins.Factory(path, _Board(offsets)), pins.FAULTS)
    except pins.FAULTS as error:
        raise LineError(
            f"{path}: {error}: expected a GPIO chip that doord's user or group may open"
        ) from error


def real_lines(where: str) -> ModuleType:
    """edge.door.gpiod_pins, which a simulation does without. Raises LineError: gpiod is missing."""
    try:
        from edge.door import gpiod_pins
    except ImportError as error:
        raise LineError(f"{where}: gpiod is missing ({error}): pip install 'doord[gpio]'") from error
    return gpiod_pins
