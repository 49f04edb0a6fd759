"""How long the lock may be unlocked in an hour. Pure: it is given the time.

A last bound on what a decision or a command side gone wrong could do, and on the heat of a strike's
coil. Free access is not counted: it is meant, and has its own end. Nor is the exit button: it is
inside, and nobody's way out may hang on a counter. A restart forgets the count: a new process begins
locked, and what had gone wrong in the old one is gone with it.
"""

from __future__ import annotations

from collections import deque

WINDOW_S = 3600.0


class Duty:
    """The time spent unlocked in the last hour; all times are s of the monotonic clock."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._spells: deque[tuple[float, float]] = deque()  # (from, to), oldest first
        self._since: float | None = None

    def begin(self, now: float) -> None:
        """The lock is unlocked and it counts; again while it does: no matter."""
        if self._since is None:
            self._since = now

    def end(self, now: float) -> None:
        """The lock is locked, or it no longer counts."""
        if self._since is not None:
            self._spells.append((self._since, now))
        self._since = None

    def left_s(self, now: float) -> float:
        """What may still be spent in the hour that ends `now`."""
        start = now - WINDOW_S
        while self._spells and self._spells[0][1] <= start:
            self._spells.popleft()
        spells = [*self._spells, *([(self._since, now)] if self._since is not None else [])]
        return self.limit_s - sum(to - max(start, since) for since, to in spells)
