"""The relay's line through gpiozero: bounded pulses, a bound for the hour, locked at every exit."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from gpiozero import OutputDevice

from edge.door.chips import Place, open_places
from edge.door.duty import Duty
from edge.door_config import DoorConfig, Level, RelayConfig
from edge.errors import DutyExceeded, LineError

log = logging.getLogger(__name__)

MAX_PULSE_S = 60.0
_HOLD_S = 1.0  # longest wait for another thread's call; a driver that takes longer hangs
_RETRY_S = 1.0


class RelayLine:
    """The line that releases the strike. Port LockLines; callable from any thread.

    `history` has the last thousand changes as (s of the monotonic clock, "LOCK" or "UNLOCK").
    """

    def __init__(
        self,
        place: Place,
        active: Level,
        max_unlocked_s_per_hour: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Claim the line, locked. Use `edge.door.lines.claim_door`.

        Args:
            place: the line; its chip is left when this closes.
            active: the level that unlocks.
            max_unlocked_s_per_hour: but for free access and the exit button.
            clock: s, monotonic.

        Raises:
            LineError: names chip, line and, where the driver knows it, the holder; the chip is
                left to the caller.
        """
        self.history: deque[tuple[float, str]] = deque(maxlen=1000)
        self._place = place
        self._locked_level = int(active == "low")
        self._duty = Duty(max_unlocked_s_per_hour)
        self._clock = clock
        self._mutex = threading.RLock()
        self._timer: threading.Timer | None = None
        self._pulse = 0  # a timer that was cancelled too late must not end a later pulse
        self._closed = False
        try:
            self._device: Any = OutputDevice(
                place.pin,
                active_high=active == "high",
                initial_value=False,
                pin_factory=place.chip.factory,
            )
        except place.chip.faults as error:
            raise LineError(f"{place.where}: can't be claimed: {error}{place.holder()}") from error
        self._note("LOCK")

    @property
    def where(self) -> str:
        """Chip and line, for messages."""
        return self._place.where

    @property
    def spec(self) -> str:
        """What doord-lock needs to lock it: `<chip> <offset> <level>`."""
        return f"{self._place.chip.path} {self._place.offset} {self._locked_level}"

    def lock(self) -> None:
        """Drive the line to locked at once. Raises LineError."""
        with self._held():
            self._drive("LOCK")
            self._end_timer()

    def unlock(self, for_at_most_s: float, free: bool = False) -> None:
        """Drive the line to unlocked; a timer of its own locks it after `for_at_most_s`.

        Raises:
            DutyExceeded: more than the hour's limit, and not `free`; nothing moved.
            LineError: not 0 < s <= 60, and nothing moved; or closed or not drivable, and it was
                driven to locked as far as it would go.
        """
        if not 0 < for_at_most_s <= MAX_PULSE_S:
            raise LineError(
                f"{self.where}: expected a release of 0 < s <= {MAX_PULSE_S:g}, got {for_at_most_s}"
            )
        with self._held():
            self._account(for_at_most_s, free)
            self._end_timer()
            try:
                self._lock_after(for_at_most_s)  # first: without a timer the line doesn't move
                self._drive("UNLOCK")
            except LineError:
                self._drive("LOCK")
                raise

    def close(self) -> None:
        """Lock and release; never raises, may be called twice."""
        try:
            with self._held():  # all at once: an unlock between lock and closed would stay
                if self._closed:
                    return
                self._end_timer()
                self._drive("LOCK")
                self._closed = True
        except LineError as error:
            log.critical("%s", error)
            self._closed = True
        self._release()

    def _account(self, for_at_most_s: float, free: bool) -> None:
        now = self._clock()
        if free:
            self._duty.end(now)
        elif not for_at_most_s <= self._duty.left_s(now):
            limit = f"{self._duty.limit_s:g} s (door.max_unlocked_s_per_hour)"
            raise DutyExceeded(f"{self.where}: was unlocked for {limit} in this hour: not again yet")
        else:
            self._duty.begin(now)

    def _lock_after(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._end_of_pulse, [self._pulse])
        self._timer.name = "relay-pulse"
        self._timer.daemon = True
        try:
            self._timer.start()
        except RuntimeError as error:  # no more threads
            raise LineError(f"{self.where}: {error}") from error

    def _end_timer(self) -> None:
        self._pulse += 1
        if self._timer is not None:
            self._timer.cancel()

    def _end_of_pulse(self, pulse: int) -> None:
        with self._mutex:
            if pulse != self._pulse or self._closed:
                return
            try:
                self._drive("LOCK")
            except LineError as error:
                log.critical("the door could not be locked, again in %g s: %s", _RETRY_S, error)
                self._lock_after(_RETRY_S)

    def _drive(self, to: str) -> None:
        if self._closed:
            raise LineError(f"{self.where}: is closed")
        try:
            if to == "UNLOCK":
                self._device.on()
            else:
                self._device.off()
        except self._place.chip.faults as error:
            raise LineError(f"{self.where}: can't be driven to {to.lower()}ed: {error}") from error
        if to == "LOCK":
            self._duty.end(self._clock())
        self._note(to)

    def _note(self, change: str) -> None:
        if not self.history or self.history[-1][1] != change:
            self.history.append((self._clock(), change))

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        if not self._mutex.acquire(timeout=_HOLD_S):
            raise LineError(f"{self.where}: the driver hangs")
        try:
            yield
        finally:
            self._mutex.release()

    def _release(self) -> None:
        with contextlib.suppress(*self._place.chip.faults):
            self._device.close()
        self._place.chip.leave()


def claim_relay(relay: RelayConfig, simulation: bool) -> RelayLine:
    """The relay alone, claimed and locked. Raises LineError."""
    door = DoorConfig(relay)
    place = open_places(door, simulation)["relay"]
    try:
        return RelayLine(place, relay.active, door.max_unlocked_s_per_hour)
    except LineError:
        place.chip.close()
        raise
