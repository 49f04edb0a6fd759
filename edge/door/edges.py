"""Where a Wiegand reader's edges come from: the kernel, or whoever simulates a reader.

Not through gpiozero's pins, which are a request each: with the 16 edges a line that the kernel keeps if
nobody says more, a frame of 26 bits can overrun them unseen: 4 of 5,167 edges beside a busy host, none of
25,828 with one request of both (ADR 0004, tests/vm).
"""

from __future__ import annotations

import queue
import select
import time
from types import ModuleType
from typing import Any

from edge.door.chips import find, line_holder, real_lines
from edge.door_config import Wiring
from edge.errors import LineError
from edge.ports import Edge

_DATA = ("readers.wiegand.data0", "readers.wiegand.data1")
_GATHER_S = 0.01  # one turn for ten edges; and a line that oscillates may not have the processor


class KernelEdges:
    """Both lines in one request of the kernel's: it numbers and stamps the edges, and keeps 1,024 of them."""

    def __init__(self, wiring: Wiring) -> None:
        """`wiring`: of the reader and of the door, whose lines the reader's can't be. Opens nothing yet."""
        self._wiring = wiring
        (chip, data0), (_, data1) = (wiring[key] for key in _DATA)
        self.where = f"{chip} lines {data0} and {data1}"
        self._offsets: list[int] = []
        self._driver: ModuleType
        self._request: Any = None  # a gpiod.LineRequest while open

    def open(self) -> None:
        """See EdgeSource. The lines are looked for each time: a chip comes back under another number."""
        self.close()
        found = find(self._wiring)
        path, self._offsets = found[_DATA[0]][0], [found[key][1] for key in _DATA]
        self._driver = real_lines(self.where)
        try:
            self._request = self._driver.watch_falling(path, self._offsets)
        except self._driver.FAULTS as error:
            words = f"can't be claimed: {error}{_holders(path, self._offsets)}"
            raise LineError(f"{self.where}: {words}") from error

    def wait(self, timeout_s: float) -> list[Edge]:
        """See EdgeSource."""
        if self._request is None:
            raise LineError(f"{self.where}: is not open")
        poll = select.poll()
        poll.register(self._request.fd, select.POLLIN)
        ready = poll.poll(timeout_s * 1000)
        if not ready:
            return []
        if ready[0][1] & ~select.POLLIN:  # POLLERR, POLLHUP
            raise LineError(f"{self.where}: the chip is gone")
        time.sleep(_GATHER_S)
        try:
            edges = self._driver.take_falls(self._request)
        except self._driver.FAULTS as error:
            raise LineError(f"{self.where}: {error}") from error
        return [Edge(at_ns / 1e9, self._offsets.index(offset), number) for at_ns, offset, number in edges]

    def close(self) -> None:
        """See EdgeSource."""
        if self._request is not None:
            self._request.release()
        self._request = None


def _holders(path: str, offsets: list[int]) -> str:
    """`; line 5 is held by "..."` of those that are held."""
    try:
        held = {offset: line_holder(path, offset) for offset in offsets}
    except LineError:  # no chip, no holder
        return ""
    return "".join(f'; line {offset} is held by "{holder}"' for offset, holder in held.items() if holder)


class SimulatedEdges:
    """A reader's lines without hardware: `fall` is an edge, `plug` takes the chip away and brings it back."""

    def __init__(self) -> None:
        self.where = "simulated lines"
        self._waiting: queue.SimpleQueue[Edge | None] = queue.SimpleQueue()
        self._number = 0
        self._there = True
        self._open = False

    def fall(self, line: int, at: float, lost: bool = False) -> None:
        """The line falls at `at`, s; a `lost` edge is numbered and not told. From any thread."""
        self._number += 1
        if self._open and not lost:
            self._waiting.put(Edge(at, line, self._number))

    def plug(self, into: bool) -> None:
        """Make the lines come or go."""
        self._there = into
        self._waiting.put(None)  # whoever waits looks again

    def open(self) -> None:
        """See EdgeSource."""
        if not self._there:
            raise LineError(f"{self.where}: can't be claimed: no such chip")
        self._waiting = queue.SimpleQueue()
        self._open = True

    def wait(self, timeout_s: float) -> list[Edge]:
        """See EdgeSource."""
        if not self._open:
            raise LineError(f"{self.where}: is not open")
        try:
            edge = self._waiting.get(timeout=timeout_s)
        except queue.Empty:
            edge = None
        if not self._there:
            raise LineError(f"{self.where}: the chip is gone")
        return [] if edge is None else [edge]

    def close(self) -> None:
        """See EdgeSource."""
        self._open = False
