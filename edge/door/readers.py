"""The card readers' drivers: bytes of an input device, edges of two lines. What they mean is pure.

Each has `step`, which waits a moment for a card and belongs to one thread, and tells each card as
its text, `wedge:0012345678` or `wiegand26:12-3456`. What is no card is told to nobody but the log,
and without its digits: half a number is half a secret.
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import struct
import time
from collections.abc import Callable, Collection

from edge.config import Config, WedgeConfig
from edge.door.edges import KernelEdges, SimulatedEdges
from edge.door.wedge import Typed, Typing
from edge.door.wiegand import FRAME_END_S, Card, Frame, decode
from edge.errors import LineError, ReaderError
from edge.ports import CardReader, EdgeSource

log = logging.getLogger(__name__)

TellCard = Callable[[str], None]

_EVENT = struct.Struct("@llHHi")  # struct input_event: seconds, microseconds, type, code, value
_EVIOCGRAB = 0x40044590
_WAIT_S = 0.2
_RETRY_S = 2.0


class _Retried:
    """A device that may go and come back: its fault is said once, and it is tried every 2 s."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.fault: str | None = "the reader was not opened yet"
        self._clock = clock
        self._next_try = float("-inf")

    def due(self) -> bool:
        """Whether it should be tried again."""
        return not self._clock() < self._next_try

    def opened(self, where: str) -> None:
        """It is there."""
        log.info("card reader %s: open", where)
        self.fault = None

    def lost(self, why: str) -> None:
        """It is not there, or no longer."""
        self._next_try = self._clock() + _RETRY_S
        fault = f"card reader {why}"
        if fault != self.fault:
            log.error("%s", fault)
        self.fault = fault


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
        self._path = config.device
        self._retried = _Retried(clock)
        self._tell = tell
        self._simulation = simulation
        self._clock = clock
        self._device = -1
        self._part = b""  # of an event: a pipe, unlike a device, gives any number of bytes
        self._typing = Typing()

    @property
    def fault(self) -> str | None:
        """See CardReader."""
        return self._retried.fault

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
        if not self._retried.due():
            return False
        try:
            self._device = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._grab()
        except OSError as error:
            self._lost(error)
            return False
        self._retried.opened(self._path)
        self._part, self._typing = b"", Typing()
        return True

    def _grab(self) -> None:
        if not self._simulation:
            fcntl.ioctl(self._device, _EVIOCGRAB, 1)

    def _take(self, content: bytes) -> None:
        if not content:
            raise ReaderError("was unplugged")
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
        self._retried.lost(f"{self._path}: {error.strerror or error}")


class WiegandReader:
    """Two lines, falling edges with the kernel's time stamps.

    Lines that go with their chip are waited for; the log says so once.
    """

    def __init__(
        self,
        source: EdgeSource,
        bits: Collection[int],
        tell: TellCard,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Claim the lines.

        Args:
            source: the lines; closed with this.
            bits: the lengths that are cards.
            tell: told each card.
            clock: s, monotonic.

        Raises:
            LineError: a line can't be claimed; nothing is held.
        """
        self._source = source
        self._bits = bits
        self._tell = tell
        self._frame = Frame()
        self._retried = _Retried(clock)
        source.open()
        self._retried.opened(self._source.where)

    @property
    def fault(self) -> str | None:
        """See CardReader."""
        return self._retried.fault

    def step(self) -> None:
        """Wait a moment for edges, or for the end of a frame; never raises."""
        if self._retried.fault is not None and not self._opened():
            time.sleep(_WAIT_S)
            return
        try:
            edges = self._source.wait(2 * FRAME_END_S if self._frame.edges else _WAIT_S)
        except LineError as error:
            self.close()
            self._retried.lost(str(error))
            return
        for edge in edges:
            self._frame, ended = self._frame.add(edge)
            self._read(ended)
        if not edges and self._frame.edges:
            ended, self._frame = self._frame, self._frame.end()
            self._read(ended)

    def close(self) -> None:
        """Let go of the lines; may be called twice."""
        self._source.close()

    def _opened(self) -> bool:
        if not self._retried.due():
            return False
        try:
            self._source.open()
        except LineError as error:
            self._retried.lost(str(error))
            return False
        self._frame = Frame()
        self._retried.opened(self._source.where)
        return True

    def _read(self, frame: Frame | None) -> None:
        if frame is None:
            return
        result = decode(frame, self._bits)
        if isinstance(result, Card):
            self._tell(f"{result.format}:{result.text}")
        else:
            log.warning("card reader on %s: no card: %s", self._source.where, result.reason)


def open_readers(config: Config, tell: TellCard) -> list[CardReader]:
    """The configured readers. Raises LineError: a Wiegand line can't be claimed, or is the door's."""
    found: list[CardReader] = []
    wedge, wiegand = config.readers.wedge, config.readers.wiegand
    if wiegand is not None:
        source = SimulatedEdges() if config.simulation else KernelEdges(config.wiring)
        found.append(WiegandReader(source, wiegand.bits, tell))
    if wedge is not None:
        found.append(WedgeReader(wedge, tell, config.simulation))
    return found
