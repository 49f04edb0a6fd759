"""gpiozero's pins over libgpiod's own bindings (ADR 0007): a chip by its path, any board.

Each line is a request of its own of the kernel's. It is left alone until somebody says what it is; an output
has its first level with the claim, and is driven until the chip closes. Needs Linux 5.10 (GPIO uapi v2).
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import threading
import time
from dataclasses import replace
from typing import Any

import gpiod
from gpiod.line import Bias, Direction, Edge, Value
from gpiozero import PinInvalidEdges, PinInvalidFunction, PinInvalidPull, PinSetInput
from gpiozero.pins.pi import PiFactory, PiPin

FAULTS = (OSError, ValueError, NotImplementedError, gpiod.ChipClosedError, gpiod.RequestReleasedError)
"""What gpiod raises: EINVAL is its ValueError, EOPNOTSUPP its NotImplementedError, the rest OSError."""
_CONSUMER = "doord"  # whom the kernel names as a line's holder
_LEVELS = (Value.INACTIVE, Value.ACTIVE)
_PULLS = {"floating": Bias.DISABLED, "up": Bias.PULL_UP, "down": Bias.PULL_DOWN}
_EDGES = {"none": Edge.NONE, "rising": Edge.RISING, "falling": Edge.FALLING, "both": Edge.BOTH}
_KEPT_EDGES = 1024  # the most the kernel keeps for a request; left to itself it keeps 16 a line
_LOOK_MS = 1000  # an older kernel wakes nobody when a chip goes; asked again, it says so
_AT_ONCE = 256  # edges; a line that oscillates may not keep those of the others
_PAUSE_S = 0.005  # behind each turn that told some: nor may it have the processor; the newest edges are kept


class Pin(PiPin):  # type: ignore[misc]  # gpiozero has no types
    """A line of a chip; any thread may read, drive and close it."""

    def __init__(self, factory: Factory, info: Any) -> None:
        super().__init__(factory, info)
        self._settings = gpiod.LineSettings(direction=Direction.INPUT, bias=Bias.DISABLED)
        self._edges = "both"
        self._request: Any = None  # a gpiod.LineRequest, once it is claimed
        self._lock = threading.Lock()  # gpiod leaves the order of threads to its users

    def output_with_state(self, state: float) -> None:
        """Claim the line as an output that has this level from its first moment. Raises: FAULTS."""
        self._claim(direction=Direction.OUTPUT, output_value=_LEVELS[bool(state)])

    def close(self) -> None:
        """Tell no more edges. The line stays what it is, and an output driven, until the chip closes."""
        self.when_changed = None

    def release(self) -> None:
        """Let the line go, for good."""
        self.close()
        with self._lock:
            if self._request is not None:
                self._request.release()
            self._request = None

    def tell(self, at: float, level: int) -> None:
        """Have whoever watches know of an edge; `at`: s, monotonic, the kernel's time of it."""
        with self._when_changed_lock:  # not while it is called: it may close this
            changed = self.when_changed
        if changed is not None:
            changed(at, level)

    def take_edges(self) -> list[tuple[float, int]]:
        """(s monotonic, new level) of the edges that wait; blocks where none does. Raises: FAULTS."""
        with self._lock:
            edges = self._claimed().read_edge_events()
        rising = gpiod.EdgeEvent.Type.RISING_EDGE
        return [(edge.timestamp_ns / 1e9, int(edge.event_type is rising)) for edge in edges]

    def _claim(self, **changed: Any) -> None:
        """Request the line with these settings, or change them if it is."""
        with self._lock:
            wanted = replace(self._settings, **changed)
            if self._request is None:
                self._request = self.factory.request(self._number, wanted)
            else:
                self._request.reconfigure_lines({self._number: wanted})
            self._settings = wanted

    def _claimed(self) -> Any:
        if self._request is None:
            raise gpiod.RequestReleasedError
        return self._request

    def _get_function(self) -> str:
        return "output" if self._settings.direction is Direction.OUTPUT else "input"

    def _set_function(self, value: str) -> None:
        if value != "input":  # an output has a level from its first moment: output_with_state
            raise PinInvalidFunction(f'expected function "input" for pin {self!r}, got "{value}"')
        self._claim(direction=Direction.INPUT)

    def _get_state(self) -> int:
        with self._lock:
            return int(self._claimed().get_value(self._number) is Value.ACTIVE)

    def _set_state(self, value: float) -> None:
        if self.function == "input":
            raise PinSetInput(f"cannot set state of pin {self!r}")
        with self._lock:
            self._claimed().set_value(self._number, _LEVELS[bool(value)])

    def _get_pull(self) -> str:
        return next(pull for pull, bias in _PULLS.items() if bias is self._settings.bias)

    def _set_pull(self, value: str) -> None:
        if value not in _PULLS:
            raise PinInvalidPull(f'expected a pull of {", ".join(_PULLS)} for pin {self!r}, got "{value}"')
        self._claim(bias=_PULLS[value])

    def _get_edges(self) -> str:
        return self._edges

    def _set_edges(self, value: str) -> None:
        if value not in _EDGES:
            raise PinInvalidEdges(f'expected edges of {", ".join(_EDGES)} for pin {self!r}, got "{value}"')
        self._edges = value
        if self._settings.edge_detection is not Edge.NONE:
            self._claim(edge_detection=_EDGES[value])

    def _enable_event_detect(self) -> None:
        self._claim(edge_detection=_EDGES[self._edges])
        self.factory.edges.watch(self._request.fd, self)

    def _disable_event_detect(self) -> None:
        self.factory.edges.forget(self)
        with contextlib.suppress(*FAULTS):  # unplugged
            self._claim(edge_detection=Edge.NONE)


class Factory(PiFactory):  # type: ignore[misc]
    """The lines of one chip."""

    def __init__(self, path: str, board: Any) -> None:
        """`board`: what gpiozero asks for pins. Raises: FAULTS, `path` is no chip that can be opened."""
        super().__init__()
        self.pin_class = Pin
        self.edges = EdgeThread(f"edges of {os.path.basename(path)}")  # noqa: PTH119
        self._board = board
        self._lock = threading.Lock()
        self._chip = gpiod.Chip(path)

    def request(self, offset: int, settings: Any) -> Any:
        """The kernel's request of one line, a gpiod.LineRequest. Raises: FAULTS, EBUSY when it is held."""
        with self._lock:
            return self._chip.request_lines({offset: settings}, consumer=_CONSUMER)

    def holder(self, offset: int) -> str:
        """Who uses the line, as the kernel knows it; empty: nobody. Raises: FAULTS."""
        with self._lock:
            return self._chip.get_line_info(offset).consumer or ""

    def close(self) -> None:
        """Let all lines go; may be called twice, and by whom an edge is being told to."""
        for pin in self.pins.values():
            pin.release()
        self.pins.clear()
        with self._lock:
            self._chip.close()

    def _get_board_info(self) -> Any:
        return self._board

    @staticmethod
    def ticks() -> float:
        """s, monotonic: the clock of the edges."""
        return time.monotonic()

    @staticmethod
    def ticks_diff(later: float, earlier: float) -> float:
        """s."""
        return later - earlier


class EdgeThread:
    """Tells the edges of a chip's watched lines, in their order; runs while there are such lines.

    A line whose chip was unplugged is watched no more. An exception of who is told ends the thread, as
    threading.excepthook hears; the next line that is watched starts another.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._pins: dict[int, Pin] = {}  # by the file of the request
        self._wake = -1  # an eventfd while the thread runs

    def watch(self, fd: int, pin: Pin) -> None:
        """Tell the edges of this pin, whose request is this file. Raises OSError: no more threads."""
        with self._lock:
            if self._wake < 0:
                self._start()
            self._pins[fd] = pin
            os.eventfd_write(self._wake, 1)

    def forget(self, pin: Pin) -> None:
        """Tell no more of this pin; what is being told now may be heard still."""
        with self._lock:
            self._pins = {fd: other for fd, other in self._pins.items() if other is not pin}
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def _start(self) -> None:
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
        except RuntimeError as error:
            self._end()
            raise OSError(errno.EAGAIN, str(error)) from error

    def _end(self) -> None:
        """With the lock held."""
        os.close(self._wake)
        self._wake = -1
        self._pins.clear()

    def _run(self) -> None:
        try:
            while self._needed():
                edges = sorted(self._gathered(), key=lambda edge: edge[0])
                for at, pin, level in edges:
                    pin.tell(at, level)
                if edges:
                    time.sleep(_PAUSE_S)
        except BaseException:  # of who is told
            with self._lock:
                self._end()
            raise

    def _needed(self) -> bool:
        """Whether a line is watched; else the thread has ended, and whoever watches next starts another."""
        with self._lock:
            if not self._pins:
                self._end()
            return bool(self._pins)

    def _gathered(self) -> list[tuple[float, Pin, int]]:
        """Edges until no line has more: what one line had may be later than what another has got since."""
        told: list[tuple[float, Pin, int]] = []
        ready = self._ready(_LOOK_MS)
        while ready and len(told) < _AT_ONCE:
            told += [(at, pin, level) for pin in ready for at, level in self._taken(pin)]
            ready = self._ready(0)
        return told

    def _ready(self, timeout_ms: int) -> list[Pin]:
        """The pins that have edges, once one has or others are watched."""
        with self._lock:
            watched = dict(self._pins)
        poll = select.poll()
        for fd in (self._wake, *watched):
            poll.register(fd, select.POLLIN)
        found = dict(poll.poll(timeout_ms))
        if found.pop(self._wake, 0):
            os.eventfd_read(self._wake)
        for fd, what in found.items():
            if what & ~select.POLLIN:  # POLLHUP, POLLERR: unplugged; POLLNVAL: released meanwhile
                self.forget(watched[fd])
        return [watched[fd] for fd, what in found.items() if what == select.POLLIN]

    def _taken(self, pin: Pin) -> list[tuple[float, int]]:
        try:
            return pin.take_edges()
        except FAULTS:  # as above
            self.forget(pin)
            return []


def watch_falling(path: str, offsets: list[int]) -> Any:
    """Lines together as pulled up inputs whose falling edges are told, a gpiod.LineRequest.

    One request for all of them: the kernel numbers its edges, so that a lost one can be seen.

    Raises: FAULTS, EBUSY when one is held.
    """
    settings = gpiod.LineSettings(direction=Direction.INPUT, edge_detection=Edge.FALLING, bias=Bias.PULL_UP)
    with gpiod.Chip(path) as chip:
        return chip.request_lines({tuple(offsets): settings}, _CONSUMER, _KEPT_EDGES)


def take_falls(request: Any) -> list[tuple[int, int, int]]:
    """(ns monotonic, offset, number) of each edge that waits; blocks where none does.

    The numbers have 32 bits and count the edges of the whole request. Two lines' edges may come out
    of order.

    Raises: FAULTS, ENODEV when the chip is gone.
    """
    edges = request.read_edge_events(_KEPT_EDGES)
    return [(edge.timestamp_ns, edge.line_offset, edge.global_seqno) for edge in edges]
