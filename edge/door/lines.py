"""All lines of a door, claimed together: the relay first, then contacts, button, lamp and sounder."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gpiozero import InputDevice, OutputDevice

from edge.door.chips import Place, open_places
from edge.door.gpio import RelayLine
from edge.door_config import ButtonConfig, ContactConfig, DoorConfig, OutputConfig
from edge.errors import LineError
from edge.ports import InputRole

Sink = Callable[[InputRole, bool, float], None]
_PULLS = {"up": True, "down": False, "off": None}


class _Contact:
    """One input line."""

    def __init__(self, role: InputRole, config: ContactConfig | ButtonConfig, place: Place) -> None:
        self.role = role
        self._high_is_active = config.active == "high"
        self._place = place
        self._sink: Sink | None = None
        pull = _PULLS[config.pull]
        self._device: Any = InputDevice(
            place.pin,
            pull_up=pull,
            active_state=True if pull is None else None,  # gpiozero wants one; the raw level is read here
            pin_factory=place.chip.factory,
        )
        self._device.pin.edges = "both"
        self._device.pin.when_changed = self._changed  # gpiozero keeps a weak reference

    def watch(self, sink: Sink) -> None:
        self._sink = sink

    def _changed(self, _ticks: float, level: int) -> None:
        # not the kernel's time of the edge: held up on the way here, a spike would seem to have held since
        # then, while the edge that ended it is on its way still
        if self._sink is not None:
            self._sink(self.role, bool(level) == self._high_is_active, time.monotonic())

    def active(self) -> bool:
        return bool(self._device.pin.state) == self._high_is_active

    def close(self) -> None:
        self._sink = None
        with contextlib.suppress(*self._place.chip.faults):
            self._device.pin.when_changed = None
        with contextlib.suppress(*self._place.chip.faults):
            self._device.close()
        self._place.chip.leave()


class InputLines:
    """Port DoorInputs over gpiozero."""

    def __init__(self, door: DoorConfig, places: Mapping[str, Place]) -> None:
        """Claim those that are configured. Raises LineError."""
        self._contacts: list[_Contact] = []
        wanted: tuple[tuple[InputRole, ContactConfig | ButtonConfig | None], ...] = (
            ("dps", door.dps),
            ("rex", door.rex),
            ("tamper", door.tamper),
        )
        for role, config in wanted:
            if config is not None:
                with _claiming(role, places[role]):
                    self._contacts.append(_Contact(role, config, places[role]))
        self._places = places
        self.roles: frozenset[InputRole] = frozenset(contact.role for contact in self._contacts)

    def watch(self, sink: Sink) -> None:
        """See DoorInputs."""
        for contact in self._contacts:
            contact.watch(sink)

    def read(self) -> dict[InputRole, bool]:
        """See DoorInputs."""
        found: dict[InputRole, bool] = {}
        for contact in self._contacts:
            place = self._places[contact.role]
            try:
                found[contact.role] = contact.active()
            except place.chip.faults as error:
                raise LineError(f"{place.where}: door.{contact.role} can't be read: {error}") from error
        return found

    def close(self) -> None:
        """See DoorInputs."""
        while self._contacts:
            self._contacts.pop().close()


class SignalLines:
    """Port DoorSignals over gpiozero."""

    def __init__(self, door: DoorConfig, places: Mapping[str, Place]) -> None:
        """Claim those that are configured, off. Raises LineError."""
        self._devices: dict[str, Any] = {}
        self._places = places
        self._off: list[tuple[Place, int]] = []
        for role, config in (("led", door.led), ("sounder", door.sounder)):
            if config is not None:
                with _claiming(role, places[role]):
                    self._devices[role] = _output(config, places[role])
                self._off.append((places[role], int(config.active == "low")))

    @property
    def specs(self) -> list[str]:
        """What doord-lock needs to switch them off, as RelayLine's."""
        return [f"{place.chip.path} {place.offset} {off}" for place, off in self._off]

    def show(self, led: bool, sounder: bool) -> None:
        """See DoorSignals."""
        for role, on in (("led", led), ("sounder", sounder)):
            if role in self._devices:
                place = self._places[role]
                try:
                    self._devices[role].value = on
                except place.chip.faults as error:
                    raise LineError(f"{place.where}: door.{role} can't be driven: {error}") from error

    def close(self) -> None:
        """See DoorSignals."""
        with contextlib.suppress(LineError):
            self.show(False, False)
        while self._devices:
            role, device = self._devices.popitem()
            with contextlib.suppress(*self._places[role].chip.faults):
                device.close()
            self._places[role].chip.leave()


def _output(config: OutputConfig, place: Place) -> Any:
    return OutputDevice(
        place.pin,
        active_high=config.active == "high",
        initial_value=False,
        pin_factory=place.chip.factory,
    )


@contextlib.contextmanager
def _claiming(role: str, place: Place) -> Iterator[None]:
    """A claim that fails is a LineError with chip, line and holder."""
    try:
        yield
    except place.chip.faults as error:
        raise LineError(f"{place.where}: door.{role} can't be claimed: {error}{place.holder()}") from error


@dataclass(frozen=True, slots=True)
class DoorLines:
    """A door's lines."""

    relay: RelayLine
    inputs: InputLines
    signals: SignalLines
    places: Mapping[str, Place]

    @property
    def specs(self) -> list[str]:
        """What doord-lock has to do, the lock first."""
        return [self.relay.spec, *self.signals.specs]

    def pin(self, role: str) -> Any:
        """gpiozero's pin of a configured role; a simulated one can be driven from outside."""
        place = self.places[role]
        return place.chip.factory.pin(place.pin)


def claim_door(door: DoorConfig, simulation: bool) -> DoorLines:
    """The configured lines; the relay locked. Raises LineError: nothing is held then."""
    places = open_places(door, simulation)
    try:
        return DoorLines(
            RelayLine(places["relay"], door.relay.active, door.max_unlocked_s_per_hour),
            InputLines(door, places),
            SignalLines(door, places),
            places,
        )
    except LineError:
        for place in places.values():
            place.chip.close()
        raise
