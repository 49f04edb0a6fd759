"""The thread "door": the only owner of the lock's line, one inbox, locked at every exit."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from edge.door.machine import (
    ACCESSED,
    LOCK,
    LOCKED,
    REPORT,
    UNLOCK,
    Door,
    Effect,
    Granted,
    LineFailed,
    ReleaseElapsed,
    Stimulus,
    Stop,
    react,
    release_elapsed,
)
from edge.errors import LineError
from edge.ports import LockLines
from edge.values import Deny, DoorMode, Grant, Reason

log = logging.getLogger(__name__)

BEAT_S = 0.5
"""The loop turns at least this often, so `beat` is never older while the thread is well."""


@dataclass(frozen=True, slots=True)
class DoorStatus:
    """What the door is now. `fault` says what failed; the lock is unknown until it locks again."""

    mode: DoorMode
    lock: Literal["locked", "unlocked", "unknown"]
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class _Request:
    grant: Grant
    valid_until: float  # s, monotonic
    answer: Callable[[Grant | Deny], None]


class DoorController:
    """Opens for a grant, locks again after `unlock_s`.

    `on_state` and the answers are called on the door's thread and must neither block nor raise:
    an exception there, as any other, locks the door and ends the thread.
    """

    def __init__(
        self,
        lines: LockLines,
        unlock_s: float,
        on_state: Callable[[DoorStatus], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.beat = clock()  # s, monotonic: when the loop last turned; for the watchdog
        self.status = DoorStatus(LOCKED, "unknown")
        self._lines = lines
        self._unlock_s = unlock_s
        self._on_state = on_state
        self._clock = clock
        self._door = Door()
        self._secured = False
        self._fault: str | None = None
        self._inbox: queue.SimpleQueue[_Request | Stop] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="door", daemon=True)

    def start(self) -> None:
        """Lock, say so, then start the thread. Raises LineError when the line can't be driven."""
        self._lines.lock()
        self._secured = True
        self._report()
        self._thread.start()

    def grant(self, grant: Grant, valid_until: float, answer: Callable[[Grant | Deny], None]) -> None:
        """Ask for the door, from any thread; returns at once.

        `answer` is told what became of it: the grant when the door is released, StaleFrame when
        the door got to it after `valid_until` (s, monotonic), Other when the door is Blocked.
        """
        self._inbox.put(_Request(grant, valid_until, answer))

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def secure(self) -> None:
        """Lock at once, from any thread (for an excepthook). Never raises."""
        try:
            self._lines.lock()
        except LineError as error:
            log.critical("the door could not be locked: %s", error)

    def stop(self, timeout_s: float = 2.0) -> None:
        """Lock, end the thread, release the line; takes at most `timeout_s`. May be called twice."""
        if self.alive:
            self._inbox.put(Stop())
            self._thread.join(timeout_s)
        self.secure()  # also when the thread never started, or hangs
        self._lines.close()

    def _run(self) -> None:
        try:
            while not self._turn():
                pass
        finally:
            self.secure()

    def _turn(self) -> bool:
        """One wait and what it brought; True when it brought the end."""
        self.beat = self._clock()
        try:
            item = self._inbox.get(timeout=self._patience_s())
        except queue.Empty:
            item = None
        if release_elapsed(self._door, self._clock()):
            self._feed(ReleaseElapsed())
        if not self._secured and self._door.mode is not ACCESSED:
            self._try_to_lock()
        if isinstance(item, _Request):
            item.answer(self._consider(item))
        elif item is not None:
            self._feed(item)
        return isinstance(item, Stop)

    def _patience_s(self) -> float:
        ends_at = self._door.release_ends_at
        return BEAT_S if ends_at is None else min(BEAT_S, max(0.0, ends_at - self.beat))

    def _consider(self, request: _Request) -> Grant | Deny:
        """The frame's age is judged here, at the last moment before the line moves."""
        if not self._clock() < request.valid_until:
            return Deny(Reason.STALE_FRAME)
        self._feed(Granted(request.grant.subject))
        return request.grant if self._door.mode is ACCESSED else Deny(Reason.OTHER)

    def _feed(self, stimulus: Stimulus) -> None:
        before = self._door
        self._door, effects = react(before, stimulus, self._clock(), self._unlock_s)
        try:
            self._drive(effects)
        except LineError as error:
            self._fault = str(error)
            log.critical("door blocked: %s", error)
            self._door, effects = react(before, LineFailed(), self._clock(), self._unlock_s)
            self._try_to_lock()
        if REPORT in effects:
            self._report()

    def _drive(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            if effect is UNLOCK:
                self._secured = False
                self._lines.unlock(for_at_most_s=self._unlock_s)
            elif effect is LOCK:
                self._secured = False
                self._lines.lock()
                self._secured = True

    def _try_to_lock(self) -> None:
        """After a fault: again on every turn until the line obeys. There is no way back to Locked."""
        try:
            self._lines.lock()
        except LineError:
            return
        self._secured = True
        self._report()

    def _report(self) -> None:
        lock: Literal["locked", "unlocked", "unknown"] = "unknown"
        if self._secured:
            lock = "locked"
        elif self._door.mode is ACCESSED:
            lock = "unlocked"
        status = DoorStatus(self._door.mode, lock, self._fault)
        if status != self.status:
            self.status = status
            self._on_state(status)
