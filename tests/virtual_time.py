"""Time that passes only while everybody waits, so that a door's day takes as long as its work.

`install` before `edge` is imported, and after whatever is to keep real time (paho). From then on each
timed wait of Python's (Condition, Event, queues, `time.sleep`) ends when the virtual clock says so, and
that clock jumps to the next of their ends as soon as every thread waits. A thread that computes, reads
a disk or is held up on purpose makes it stand still; so no deadline is missed because a machine is busy.

Threads that wait for the world by other means (sockets) are named in `REAL`: time does not wait for
them. Nor does it for who waits without a limit.
"""

from __future__ import annotations

import _thread
import queue
import threading
import time
from collections import deque
from collections.abc import Callable

REAL = ("control", "paho", "ticker")  # threads' names begin so
_LOOK_S = 0.002  # s, real: a thread that ended while all others waited is noticed so soon

_STEP_S = 1e-6  # every wait takes so long, or a deadline that a rounding has just missed would be for ever

_monotonic, _utc, _sleep = time.monotonic, time.time, time.sleep
_real_wait = threading.Condition.wait


class _Waiter:
    """The lock that a Condition keeps for who waits; released once, by a notification or by the clock."""

    def __init__(self, clock: VirtualTime, until: float) -> None:
        self.until = until
        self.expired = False
        self._clock = clock
        self._lock = _thread.allocate_lock()
        self._lock.acquire()
        self._thread = _thread.get_ident()

    def acquire(self) -> None:
        """Wait to be released."""
        self._clock.fall_asleep(self._thread, self)
        self._lock.acquire()

    def release(self) -> None:
        """Called by Condition.notify."""
        self._clock.wake(self._thread, self, expired=False)

    def let_go(self) -> None:
        """Called by the clock, once."""
        self._lock.release()


class VirtualTime:
    """The clock, and who waits for it."""

    def __init__(self) -> None:
        self._now = _monotonic()
        self._utc_less_now = _utc() - self._now
        self._turn = _thread.allocate_lock()
        self._asleep: dict[int, _Waiter] = {}  # by thread
        self._over = False

    def monotonic(self) -> float:
        """For time.monotonic, s."""
        return self._now if not self._over else _monotonic()

    def utc(self) -> float:
        """For time.time, s since 1970."""
        return self._utc_less_now + self.monotonic()

    def install(self) -> None:
        """Python's clocks and timed waits are this one's from now on."""
        clock = self

        def wait(self: threading.Condition, timeout: float | None = None) -> bool:
            if timeout is None or clock._over or threading.current_thread().name.startswith(REAL):
                return _real_wait(self, timeout)
            return clock._wait(self, timeout)

        time.monotonic, time.time, time.sleep = self.monotonic, self.utc, self.sleep
        threading._time = queue.time = self.monotonic  # imported by name there
        threading.Condition.wait = wait
        queue.SimpleQueue = queue._PySimpleQueue  # C's waits by itself
        threading.Thread(target=self._tick, name="ticker", daemon=True).start()

    def sleep(self, seconds: float) -> None:
        """For time.sleep."""
        threading.Event().wait(seconds)

    def give_up(self) -> None:
        """From now on time is real, so that who joins a thread sees it end."""
        with self._turn:
            self._over = True
            for thread in list(self._asleep):
                self._release(thread, expired=True)

    def stand_still_until(self, condition: Callable[[], bool], patience_s: float = 30.0) -> None:
        """Hold time until a condition comes true that the world outside brings about. Raises TimeoutError."""
        until = _monotonic() + patience_s
        while not condition():
            if _monotonic() > until:
                raise TimeoutError(f"held time for {patience_s:g} s in vain")
            _sleep(0.0002)

    def _wait(self, condition: threading.Condition, timeout: float) -> bool:
        """Condition.wait as CPython has it, but for the lock that is waited for."""
        waiters: deque[_Waiter] = condition._waiters
        waiter = _Waiter(self, self._now + max(_STEP_S, timeout))
        waiters.append(waiter)
        saved = condition._release_save()
        try:
            waiter.acquire()
        finally:
            condition._acquire_restore(saved)
            if waiter.expired and waiter in waiters:
                waiters.remove(waiter)
        return not waiter.expired

    def fall_asleep(self, thread: int, waiter: _Waiter) -> None:
        """`thread` waits from now on, unless it was notified before it could."""
        with self._turn:
            if self._over:
                waiter.expired = True
                waiter.let_go()
            elif waiter.until >= 0:  # else notified already
                self._asleep[thread] = waiter
                self._go_on()

    def wake(self, thread: int, waiter: _Waiter, expired: bool) -> None:
        """It waits no more: counted as awake at once, and not when it has its turn."""
        with self._turn:
            if self._asleep.get(thread) is waiter:
                self._release(thread, expired)
            elif waiter.until >= 0 and not waiter.expired:  # it has not fallen asleep yet
                waiter.until = -1.0
                waiter.let_go()

    def _release(self, thread: int, expired: bool) -> None:
        waiter = self._asleep.pop(thread)
        waiter.expired = expired
        waiter.until = -1.0
        waiter.let_go()

    def _go_on(self) -> None:
        """Where all who count wait, time jumps to the first end of a wait."""
        for thread in threading.enumerate():
            if thread.ident not in self._asleep and not thread.name.startswith(REAL):
                return
        if self._asleep:
            self._now = max(self._now, min(waiter.until for waiter in self._asleep.values()))
            due = [thread for thread, waiter in self._asleep.items() if waiter.until <= self._now]
            for thread in due:
                self._release(thread, expired=True)

    def _tick(self) -> None:
        while not self._over:
            _sleep(_LOOK_S)
            with self._turn:
                self._go_on()
