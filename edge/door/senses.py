"""The door's inputs as stimuli: edges debounced, the real levels read now and then."""

from __future__ import annotations

import logging
from collections.abc import Callable

from edge.door.debounce import Contact, edge, seen, settle, settles_at
from edge.door.machine import Position
from edge.door.stimuli import (
    DoorClosed,
    DoorOpened,
    InputsFailed,
    InputsRestored,
    RexPressed,
    Stimulus,
    TamperClosed,
    TamperOpened,
)
from edge.door_config import DoorConfig
from edge.errors import LineError
from edge.ports import DoorInputs, InputRole

log = logging.getLogger(__name__)

_MEANS: dict[tuple[InputRole, bool], Callable[[float], Stimulus]] = {
    ("dps", True): DoorOpened,
    ("dps", False): lambda _at: DoorClosed(),
    ("rex", True): lambda _at: RexPressed(),
    ("tamper", True): lambda _at: TamperOpened(),
    ("tamper", False): lambda _at: TamperClosed(),
}
"""A button let go is no stimulus: neither pressing it long nor a short circuit opens for long."""


class Senses:
    """Used by the door's thread alone; all times are s of the monotonic clock."""

    def __init__(self, inputs: DoorInputs, rules: DoorConfig) -> None:
        self._inputs = inputs
        self._holds_s: dict[str, float] = {
            role: line.debounce_ms / 1000
            for role, line in (("dps", rules.dps), ("rex", rules.rex), ("tamper", rules.tamper))
            if line is not None
        }
        self._contacts: dict[InputRole, Contact] = {}
        self._failed = False  # and the door has been told
        self.fault: str | None = None

    def begin(self) -> tuple[Position, bool]:
        """(position, whether the case is open) as they are; what is pressed now was not pressed now."""
        levels = self._read() or {}
        self._contacts = {role: Contact(level) for role, level in levels.items()}
        if "dps" not in levels:
            return "unknown", levels.get("tamper", False)
        return "open" if levels["dps"] else "closed", levels.get("tamper", False)

    def edge(self, role: InputRole, level: bool, at: float) -> list[Stimulus]:
        """An edge, and what had settled before it."""
        found = self._settle(at)
        if role in self._contacts:
            self._contacts[role] = edge(self._contacts[role], level, at)
        return found

    def settle(self, now: float) -> list[Stimulus]:
        """What has settled by now, each line read once more before it is believed."""
        if not any(at <= now for at in self._settling()):
            return []
        return self.poll(now)

    def poll(self, now: float) -> list[Stimulus]:
        """The real levels: an edge that got lost is found, and whether the chip is still there."""
        levels, had_failed = self._read(), self._failed
        self._failed = levels is None
        if levels is None:
            self._contacts = {}
            return [] if had_failed else [InputsFailed()]
        if had_failed:
            self._contacts = {role: Contact(level) for role, level in levels.items()}
            return [InputsRestored(), *self._as_found(now)]
        for role, level in levels.items():
            self._contacts[role] = seen(self._contacts[role], level, now)
        return self._settle(now)

    def next_at(self) -> float | None:
        """When something will have settled."""
        return min(self._settling(), default=None)

    def _as_found(self, now: float) -> list[Stimulus]:
        """After a fault: where the leaf and the case are. A button held through it was not pressed."""
        return [_MEANS[role, contact.level](now) for role, contact in self._contacts.items() if role != "rex"]

    def _settling(self) -> list[float]:
        due = (settles_at(contact, self._holds_s[role]) for role, contact in self._contacts.items())
        return [at for at in due if at is not None]

    def _settle(self, now: float) -> list[Stimulus]:
        found: list[Stimulus] = []
        for role, contact in self._contacts.items():
            settled = settle(contact, now, self._holds_s[role])
            if settled.level != contact.level and (role, settled.level) in _MEANS:
                found.append(_MEANS[role, settled.level](contact.differs_since or now))
            self._contacts[role] = settled
        return found

    def _read(self) -> dict[InputRole, bool] | None:
        try:
            levels = self._inputs.read()
        except LineError as error:
            if self.fault is None:
                log.error("%s", error)
            self.fault = str(error)
            return None
        self.fault = None
        return levels


class NoInputs:
    """Port DoorInputs of a door that has none."""

    roles: frozenset[InputRole] = frozenset()

    def watch(self, sink: Callable[[InputRole, bool, float], None]) -> None:
        """Nothing will ever happen."""

    def read(self) -> dict[InputRole, bool]:
        """Nothing."""
        return {}

    def close(self) -> None:
        """Nothing is held."""


class NoSignals:
    """Port DoorSignals of a door that has none."""

    def show(self, led: bool, sounder: bool) -> None:
        """Nobody sees it."""

    def close(self) -> None:
        """Nothing is held."""
