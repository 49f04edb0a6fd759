"""The relay's line through gpiozero, with an explicitly made pin factory.

gpiozero never guesses here: a mock factory when the configuration says `simulation: true`,
lgpio on the configured chip otherwise. The board is described by its one line, so neither the
offset nor the kind of board matters (lgpio's own factory raises PinUnknownPi off a Raspberry Pi).
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpiozero import GPIOZeroError, OutputDevice
from gpiozero.pins import PinInfo
from gpiozero.pins.mock import MockFactory, MockPin

from edge.config import RelayConfig
from edge.errors import LineError

log = logging.getLogger(__name__)

MAX_PULSE_S = 60.0
_HOLD_S = 1.0  # longest wait for another thread's call; a driver that takes longer hangs
_RETRY_S = 1.0
_ANY_PI = "a02082"  # MockFactory wants a revision; given, so that no environment variable is read


class RelayLine:
    """The line that releases the strike. Port LockLines; callable from any thread.

    `history` has the last thousand changes as (s of the monotonic clock, "LOCK" or "UNLOCK").
    """

    def __init__(self, relay: RelayConfig, factory: Any, faults: tuple[type[Exception], ...]) -> None:
        """Claim the line, locked. Use `claim_relay`.

        Args:
            relay: chip, line and active level.
            factory: a gpiozero pin factory for that line; closed with this.
            faults: what its driver raises.

        Raises:
            LineError: names chip, line and, where the driver knows it, the holder.
        """
        self.where = f"{relay.chip} line {relay.line}"
        self.history: deque[tuple[float, str]] = deque(maxlen=1000)
        self._factory = factory
        self._faults = (GPIOZeroError, OSError, *faults)
        self._mutex = threading.RLock()
        self._timer: threading.Timer | None = None
        self._pulse = 0  # a timer that was cancelled too late must not end a later pulse
        self._closed = False
        self._device: Any = None
        try:
            self._device = OutputDevice(
                f"GPIO{relay.line}",
                active_high=relay.active == "high",
                initial_value=False,
                pin_factory=factory,
            )
        except self._faults as error:
            message = f"{self.where}: can't be claimed: {error}{self._holder()}"
            self._release()
            raise LineError(message) from error
        self._note("LOCK")

    def lock(self) -> None:
        """Drive the line to locked at once. Raises LineError."""
        with self._held():
            self._drive("LOCK")
            self._end_timer()

    def unlock(self, for_at_most_s: float) -> None:
        """Drive the line to unlocked; a timer of its own locks it after `for_at_most_s`.

        Raises:
            LineError: not 0 < s <= 60, and nothing moved; or closed or not drivable, and it was
                driven to locked as far as it would go.
        """
        if not 0 < for_at_most_s <= MAX_PULSE_S:
            raise LineError(
                f"{self.where}: expected a release of 0 < s <= {MAX_PULSE_S:g}, got {for_at_most_s}"
            )
        with self._held():
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
                if not self._closed:
                    self._drive("LOCK")
                    self._end_timer()
                    self._closed = True
        except LineError as error:
            log.critical("%s", error)
        self._closed = True
        self._release()

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
        except self._faults as error:
            raise LineError(f"{self.where}: can't be driven to {to.lower()}ed: {error}") from error
        self._note(to)

    def _note(self, change: str) -> None:
        if not self.history or self.history[-1][1] != change:
            self.history.append((time.monotonic(), change))

    def _holder(self) -> str:
        """`; it is held by ...` where the driver can tell."""
        ask = getattr(self._factory, "holder", None)
        with contextlib.suppress(*self._faults):
            holder = ask() if ask else ""
            return f'; it is held by "{holder}"' if holder else ""
        return ""

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        if not self._mutex.acquire(timeout=_HOLD_S):
            raise LineError(f"{self.where}: the driver hangs")
        try:
            yield
        finally:
            self._mutex.release()

    def _release(self) -> None:
        with contextlib.suppress(*self._faults):
            if self._device is not None:
                self._device.close()
        with contextlib.suppress(*self._faults):
            self._factory.close()


def claim_relay(relay: RelayConfig, simulation: bool) -> RelayLine:
    """The configured line, claimed and locked. Raises LineError."""
    if simulation:
        return RelayLine(relay, mock_factory(relay.line), ())
    factory, fault = _lgpio_factory(relay)
    return RelayLine(relay, factory, (fault,))


class _OneLineBoard:
    """What gpiozero asks of a board, for a chip of which only one line concerns us."""

    def __init__(self, line: int) -> None:
        name = f"GPIO{line}"
        self._line = PinInfo(line, name, frozenset({name, line}), "", 1, 1, frozenset({"gpio"}))

    def find_pin(self, name: str | int) -> Iterator[tuple[None, Any]]:
        """(header, pin) of each pin with this name."""
        if name in self._line.names:
            yield None, self._line


def mock_factory(line: int) -> Any:
    """A factory of simulated pins; `factory.pin("GPIO<line>").states` has what the line did."""
    board = _OneLineBoard(line)

    class Simulated(MockFactory):  # type: ignore[misc]  # gpiozero has no types
        def _get_board_info(self) -> _OneLineBoard:
            return board

    return Simulated(revision=_ANY_PI, pin_class=MockPin)


def _lgpio_factory(relay: RelayConfig) -> tuple[Any, type[Exception]]:
    """lgpio on the configured chip, and the error it raises. Raises LineError."""
    number = _chip_number(relay.chip)
    try:
        import lgpio
        from gpiozero.pins import lgpio as pins
    except ImportError as error:
        raise LineError(f"{relay.chip}: lgpio is missing ({error}): pip install 'doord[gpio]'") from error
    except OSError as error:  # it makes .lgd-nfy* in the working directory
        raise LineError(f"{relay.chip}: lgpio needs a writable working directory: {error}") from error
    try:
        return _chip_class(lgpio, pins, relay.line)(chip=number), lgpio.error
    except (lgpio.error, OSError) as error:
        raise LineError(
            f"{relay.chip}: {error}: expected a GPIO chip that doord's user or group may open"
        ) from error


def _chip_class(lgpio: Any, pins: Any, line: int) -> Any:
    """gpiozero's lgpio factory without its two steps that would move a relay unasked."""

    class LockPin(pins.LGPIOPin):  # type: ignore[misc]  # gpiozero has no types
        def output_with_state(self, state: bool) -> None:
            # gpiozero claims the line low, then sets it: an active-low relay would release the door
            lgpio.gpio_claim_output(self.factory._handle, line, int(state))

        def close(self) -> None:
            # gpiozero makes the line a floating input; this one stays driven until the chip closes
            pass

    class Chip(pins.LGPIOFactory):  # type: ignore[misc]  # gpiozero has no types
        def __init__(self, chip: int) -> None:
            super().__init__(chip=chip)
            self.pins: dict[Any, Any] = {}  # gpiozero's is one for all chips of the process
            self.pin_class = LockPin

        def _get_board_info(self) -> _OneLineBoard:
            return _OneLineBoard(line)

        def holder(self) -> str:
            """Who uses the line, as the kernel knows it."""
            return str(lgpio.gpio_get_line_info(self._handle, line)[-1])

    return Chip


def _chip_number(chip: str) -> int:
    """lgpio knows chips by number only; a symlink made by udev may name one."""
    found = re.fullmatch(r"/dev/gpiochip(\d+)", str(Path(chip).resolve()))
    if not found:
        raise LineError(f"{chip}: expected /dev/gpiochip<n> or a link to one")
    return int(found[1])
