"""A thread that repeats one step, and is started again after it died, or when it hangs."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from edge.errors import ModelError

T = TypeVar("T")

log = logging.getLogger(__name__)

_BACK_OFF_S = (1.0, 60.0)  # before a thread that died is started again
_STEADY_S = 60.0  # a thread that ran for so long begins its back-off anew
_MAX_STUCK = 3  # threads that hang, of one worker: more of them would fill the memory


class Replaced(Exception):
    """Another thread has the place of this one, which hung and has returned."""


class Worker:
    """A thread that repeats `step`, and is started again after it died.

    A thread that hangs can't be ended. With `stuck_s` another takes its place when it has not turned
    for so long, and it ends should it ever return. At most three are left behind at a time.
    """

    def __init__(self, name: str, step: Callable[[], None], stuck_s: float = float("inf")) -> None:
        """`stuck_s`: longer than any honest step; only for a step that two threads may be in."""
        self.name = name
        self._step = step
        self._stuck_s = stuck_s
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._left_behind: list[threading.Thread] = []
        self._turn = 0  # only the thread of this turn goes on
        self._beat = float("-inf")  # s, monotonic: when the thread last turned
        self._next_start = 0.0
        self._pause_s = _BACK_OFF_S[0]
        self._started_at = float("-inf")

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def tend(self, now: float) -> None:
        """Start the thread when it does not run, later each time. `now`: s, monotonic."""
        if self.alive and not self._leave_behind(now):
            if now - self._started_at > _STEADY_S:
                self._pause_s = _BACK_OFF_S[0]
            return
        if now < self._next_start:
            return
        self._started_at = self._beat = now
        self._next_start = now + self._pause_s
        self._pause_s = min(_BACK_OFF_S[1], 2 * self._pause_s)
        self._turn += 1
        self._thread = threading.Thread(target=self._run, args=(self._turn,), name=self.name, daemon=True)
        self._thread.start()

    def _leave_behind(self, now: float) -> bool:
        """Whether the thread hangs and may be replaced."""
        if not now - self._beat > self._stuck_s or self._thread is None or self._stopping.is_set():
            return False
        self._left_behind = [thread for thread in self._left_behind if thread.is_alive()]
        if len(self._left_behind) >= _MAX_STUCK:
            return False
        log.error("thread %s has not turned for %.0f s: another takes its place", self.name, now - self._beat)
        self._left_behind.append(self._thread)
        self._thread, self._turn = None, self._turn + 1
        return True

    def _run(self, turn: int) -> None:
        while turn == self._turn and not self._stopping.is_set():
            self._beat = time.monotonic()
            with contextlib.suppress(Replaced):
                self._step()

    def beat(self) -> None:
        """A sign of life within a long step. Raises Replaced, which ends the thread: let it through."""
        if threading.current_thread() is not self._thread:
            raise Replaced
        self._beat = time.monotonic()

    def ask_to_stop(self) -> None:
        """The thread ends after its step; returns at once."""
        self._stopping.set()

    def stop(self, timeout_s: float = 2.0) -> None:
        """End the thread; takes at most `timeout_s`."""
        self.ask_to_stop()
        if self._thread is not None:
            self._thread.join(timeout_s)


def within(work: Callable[[], T], timeout_s: float, what: str) -> T:
    """What `work` gives, from a thread of its own that is left behind when files or a delegate hang.

    Raises:
        ModelError: `work` did, or it did not end in time.
    """
    came: queue.SimpleQueue[tuple[T] | ModelError] = queue.SimpleQueue()

    def do() -> None:
        try:
            came.put((work(),))
        except ModelError as error:
            came.put(error)

    threading.Thread(target=do, name=what, daemon=True).start()
    try:
        found = came.get(timeout=timeout_s)
    except queue.Empty:
        raise ModelError(f"{what}: expected to be loaded in {timeout_s:g} s, got no end of it") from None
    if isinstance(found, ModelError):
        raise found
    return found[0]


def stop_all(workers: Iterable[Worker], until: float) -> None:
    """End all at once; takes until `until` (s, monotonic) at most, and names who did not end."""
    workers = list(workers)
    for worker in workers:
        worker.ask_to_stop()
    for worker in workers:
        worker.stop(max(0.0, until - time.monotonic()))
    hanging = [worker.name for worker in workers if worker.alive]
    if hanging:
        log.warning("left behind, for they hang: %s", ", ".join(hanging))
