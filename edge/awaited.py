"""An event that waits for its commit, and who waits for that."""

from __future__ import annotations

import threading
from collections.abc import Callable

from edge.link import wire


class Awaited:
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
        """Whether what comes after it has begun."""
        return self._token.locked()

    def go_on(self) -> bool:
        """Whether this call did it."""
        if self.then is None or not self._token.acquire(blocking=False):
            return False
        self.then()
        self._over.set()
        return True

    def wait(self, seconds: float) -> None:
        """Until what comes after it is over, so long at most."""
        self._over.wait(seconds)
