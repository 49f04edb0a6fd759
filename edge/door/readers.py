"""The card readers' drivers: bytes of an input device, edges of two lines. What they mean is pure.

Each has `step`, which waits a moment for a card and belongs to one thread, and tells each card as
its text, `wedge:0012345678` or `wiegand26:12-3456`. What is no card is told to nobody but the log,
and without its digits: half a number is half a secret.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import queue
import re
import select
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gpiozero import GPIOZeroError
from gpiozero.pins import PinInfo
from gpiozero.pins.mock import MockFactory

from edge.config import Config, WedgeConfig, WiegandConfig
from edge.door.wedge import Typed, Typing
from edge.door.wiegand import FRAME_END_S, Card, Edge, Frame, Refused, decode
from edge.errors import LineError, ReaderError
from edge.ports import CardReader

log = logging.getLogger(__name__)

TellCard = Callable[[str], None]

_EVENT = struct.Struct("@llHHi")  # struct input_event: seconds, microseconds, type, code, value
_EVIOCGRAB = 0x40044590
_WAIT_S = 0.2
_RETRY_S = 2.0
_MAX_WAITING = 4096  # edges; a line that oscillates must not eat the memory
_ANY_PI = "a02082"  # MockFactory wants a revision; given, so that no environment variable is read


class WedgeReader:
    """A keyboard wedge, grabbed, so that what it types reaches no console.

    A reader that is unplugged is waited for; the log says so once.
    """

    def __init__(
        self,
        config: WedgeConfig,
        tell: TellCard,
        simulation: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`simulation`: a pipe will do, which can't be grabbed. Opens nothing yet."""
        self.fault: str | None = "the reader was not opened yet"
        self._path = config.device
        self._tell = tell
        self._simulation = simulation
        self._clock = clock
        self._device = -1
        self._part = b""  # of an event: a pipe, unlike a device, gives any number of bytes
        self._typing = Typing()
        self._next_try = float("-inf")

    def step(self) -> None:
        """Wait a moment for keys; never raises."""
        if self._device < 0 and not self._opened():
            time.sleep(_WAIT_S)
            return
        try:
            ready, _, _ = select.select([self._device], [], [], _WAIT_S)
            if ready:
                self._take(os.read(self._device, 64 * _EVENT.size))
        except (OSError, ReaderError) as error:
            self._lost(error)

    def close(self) -> None:
        """Let go of the device; may be called twice."""
        if self._device >= 0:
            os.close(self._device)
        self._device = -1

    def _opened(self) -> bool:
        if self._clock() < self._next_try:
            return False
        try:
            self._device = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._grab()
        except OSError as error:
            self._lost(error)
            return False
        log.info("card reader %s: open", self._path)
        self.fault, self._part, self._typing = None, b"", Typing()
        return True

    def _grab(self) -> None:
        if not self._simulation:
            fcntl.ioctl(self._device, _EVIOCGRAB, 1)

    def _take(self, content: bytes) -> None:
        if not content:
            raise ReaderError(f"{self._path}: was unplugged")
        content = self._part + content
        whole = len(content) - len(content) % _EVENT.size
        self._part = content[whole:]
        for _, _, kind, code, value in _EVENT.iter_unpack(content[:whole]):
            self._typing, done = self._typing.key(self._clock(), kind, code, value)
            if isinstance(done, Typed):
                self._tell(f"wedge:{done.text}")
            elif done is not None:
                log.warning("card reader %s: no card: %s", self._path, done.reason)

    def _lost(self, error: OSError) -> None:
        self.close()
        self._next_try = self._clock() + _RETRY_S
        fault = f"card reader {self._path}: {error.strerror or error}"
        if fault != self.fault:
            log.error("%s", fault)
        self.fault = fault


class WiegandReader:
    """Two lines, falling edges, the driver's own time stamps (the kernel's, with lgpio)."""

    def __init__(self, config: WiegandConfig, factory: Any, tell: TellCard) -> None:
        """Claim the lines.

        Args:
            config: the lines and the lengths that are cards.
            factory: a gpiozero pin factory for them, explicitly made; closed with this.
            tell: told each card.

        Raises:
            LineError: a line can't be claimed; the factory is closed.
        """
        self.fault: str | None = None
        self._config = config
        self._factory = factory
        self._tell = tell
        self._waiting: queue.Queue[Edge] = queue.Queue(_MAX_WAITING)
        self._frame = Frame()
        self._pins: list[Any] = []
        try:
            for line, offset in ((0, config.data0), (1, config.data1)):
                self._claim(line, f"GPIO{offset}")
        except (GPIOZeroError, OSError, *factory_faults(factory)) as error:
            self.close()
            raise LineError(f"{config.chip} lines {config.data0} and {config.data1}: {error}") from error

    def _claim(self, line: int, name: str) -> None:
        pin = self._factory.pin(name)
        pin.function, pin.pull, pin.bounce, pin.edges = "input", "up", None, "falling"

        def fell(ticks: float, _state: int) -> None:  # on the driver's thread
            with contextlib.suppress(queue.Full):
                self._waiting.put_nowait((ticks, line))

        self._pins.append((pin, fell))  # gpiozero keeps a callback weakly
        pin.when_changed = fell

    def step(self) -> None:
        """Wait a moment for an edge, or for the end of a frame."""
        try:
            edge = self._waiting.get(timeout=2 * FRAME_END_S if self._frame.edges else _WAIT_S)
        except queue.Empty:
            self._frame, ended = Frame(), self._frame
        else:
            self._frame, before = self._frame.add(edge)
            ended = before or Frame()
        if ended.edges:
            self._read(decode(ended.edges, self._config.bits))

    def _read(self, result: Card | Refused) -> None:
        if isinstance(result, Card):
            self._tell(f"{result.format}:{result.text}")
        else:
            log.warning("card reader on %s: no card: %s", self._config.chip, result.reason)

    def close(self) -> None:
        """Let go of the lines; may be called twice."""
        for pin, _ in self._pins:
            pin.when_changed = None
        self._pins.clear()
        with contextlib.suppress(GPIOZeroError, OSError):
            self._factory.close()


class _Board:
    """What gpiozero asks of a board, for a chip of which two lines concern us."""

    def __init__(self, *lines: int) -> None:
        self._lines = [
            PinInfo(n, f"GPIO{n}", frozenset({n, f"GPIO{n}"}), "", 1, 1, frozenset({"gpio"})) for n in lines
        ]

    def find_pin(self, name: str | int) -> Iterator[tuple[None, Any]]:
        """(header, pin) of each pin with this name."""
        yield from ((None, line) for line in self._lines if name in line.names)


def factory_faults(factory: Any) -> tuple[type[Exception], ...]:
    """What the factory's driver raises beside gpiozero's own errors."""
    return getattr(factory, "faults", ())


def mock_inputs(config: WiegandConfig) -> Any:
    """A factory of simulated pins: `factory.pin("GPIO<line>").drive_low()` is an edge."""
    board = _Board(config.data0, config.data1)

    class Simulated(MockFactory):  # type: ignore[misc]  # gpiozero has no types
        def _get_board_info(self) -> _Board:
            return board

    return Simulated(revision=_ANY_PI)


def lgpio_inputs(config: WiegandConfig) -> Any:
    """lgpio on the configured chip. Raises LineError."""
    chip_number = _chip_number(config.chip)
    try:
        import lgpio
        from gpiozero.pins.lgpio import LGPIOFactory
    except ImportError as error:
        raise LineError(f"{config.chip}: lgpio is missing ({error}): pip install 'doord[gpio]'") from error
    except OSError as error:  # it makes .lgd-nfy* in the working directory
        raise LineError(f"{config.chip}: lgpio needs a writable working directory: {error}") from error

    class Chip(LGPIOFactory):  # type: ignore[misc]  # gpiozero has no types
        faults = (lgpio.error,)

        def __init__(self) -> None:
            super().__init__(chip=chip_number)
            self.pins: dict[Any, Any] = {}  # gpiozero's is one for all chips of the process

        def _get_board_info(self) -> _Board:
            return _Board(config.data0, config.data1)

    try:
        return Chip()
    except (lgpio.error, OSError) as error:
        raise LineError(
            f"{config.chip}: {error}: expected a GPIO chip that doord's user or group may open"
        ) from error


def _chip_number(chip: str) -> int:
    """lgpio knows chips by number only; a symlink made by udev may name one."""
    found = re.fullmatch(r"/dev/gpiochip(\d+)", str(Path(chip).resolve()))
    if not found:
        raise LineError(f"{chip}: expected /dev/gpiochip<n> or a link to one")
    return int(found[1])


def open_readers(config: Config, tell: TellCard) -> list[CardReader]:
    """The configured readers. Raises LineError: a Wiegand line can't be claimed."""
    found: list[CardReader] = []
    wedge, wiegand = config.readers.wedge, config.readers.wiegand
    if wiegand is not None:
        factory = mock_inputs(wiegand) if config.simulation else lgpio_inputs(wiegand)
        found.append(WiegandReader(wiegand, factory, tell))
    if wedge is not None:
        found.append(WedgeReader(wedge, tell, config.simulation))
    return found
