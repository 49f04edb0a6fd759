"""What waits for its event to be on the disk, and for how long at most: the thread "patience".

A thread of its own, since the one that writes hangs when the disk does.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from edge.link import wire

_IDLE_S = 0.5


class Entry:
    """An event on its way to the disk, and what comes after it: once, whoever comes first to it."""

    def __init__(
        self,
        event: wire.Event,
        details: bytes | None,
        then: Callable[[], None] | None = None,
        until: float = 0.0,
    ) -> None:
        self.event = event
        self.details = details
        self.then = then
        self.until = until  # s, monotonic: when it goes on without the disk
        self._token = threading.Lock()  # taken by who goes on, and never given back
        self._over = threading.Event()

    @property
    def has_gone_on(self) -> bool:
        """Whether who waited has gone on."""
        return self._token.locked()

    def go_on(self) -> bool:
        """Whether this call did it."""
        if self.then is None or not self._token.acquire(blocking=False):
            return False
        self.then()
        self._over.set()
        return True

    def wait(self, seconds: float) -> None:
        """Until it has gone on, but no longer than this."""
        self._over.wait(seconds)


class Waiting:
    """Those that may not wait for ever, each over its time after it came.

    Args:
        clock: s, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: queue.SimpleQueue[Entry] = queue.SimpleQueue()

    def put(self, entry: Entry) -> None:
        """From any thread; before it is handed to who writes."""
        self._entries.put(entry)

    def be_patient(self) -> None:
        """Wait a moment for a grant; let it go on when its time is over, or the time of one before it."""
        try:
            entry = self._entries.get(timeout=_IDLE_S)
        except queue.Empty:
            return
        entry.wait(max(0.0, entry.until - self._clock()))
        entry.go_on()
