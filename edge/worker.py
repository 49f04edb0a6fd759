"""A thread that repeats one step, and is started again after it died."""

from __future__ import annotations

import threading
from collections.abc import Callable

_BACK_OFF_S = (1.0, 60.0)  # before a thread that died is started again
_STEADY_S = 60.0  # a thread that ran for so long begins its back-off anew


class Worker:
    """A thread that repeats `step`, and is started again after it died."""

    def __init__(self, name: str, step: Callable[[], None]) -> None:
        self.name = name
        self._step = step
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._next_start = 0.0
        self._pause_s = _BACK_OFF_S[0]
        self._started_at = float("-inf")

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def tend(self, now: float) -> None:
        """Start the thread when it does not run, later each time. `now`: s, monotonic."""
        if self.alive:
            if now - self._started_at > _STEADY_S:
                self._pause_s = _BACK_OFF_S[0]
            return
        if now < self._next_start:
            return
        self._started_at = now
        self._next_start = now + self._pause_s
        self._pause_s = min(_BACK_OFF_S[1], 2 * self._pause_s)
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._step()

    def stop(self, timeout_s: float = 2.0) -> None:
        """End the thread; takes at most `timeout_s`."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
