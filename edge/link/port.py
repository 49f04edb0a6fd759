"""What a link and its outbox promise; and the link of a door without a broker."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

from edge.link import wire

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Health:
    """The part of `status` that the daemon knows."""

    armed: bool = False
    why_not: tuple[str, ...] = ("starting",)
    gallery: int | None = None
    backend: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """A record of the ledger: an event's number and its exact bytes."""

    seq: int
    payload: bytes


class Link(Protocol):
    """Where status, state and events go. Nothing here blocks or raises."""

    def start(self) -> None:
        """Begin to connect."""

    def tend(self) -> None:
        """Start again what died; called now and then by one thread."""

    def post(self, event: wire.Event) -> None:
        """Hand over an event, from any thread."""

    def set_health(self, health: Health) -> None:
        """Publish a new status where it differs."""

    def set_state(self, state: wire.State) -> None:
        """Publish the door's new state."""

    def close(self, timeout_s: float = 3.0) -> None:
        """Send what waits, say goodbye, disconnect; takes at most `timeout_s`."""

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the door."""

    @property
    def dropped(self) -> int:
        """Events lost because too many waited."""


class Outbox(Protocol):
    """Keeps events in order until the broker has them; numbers them. Used by one thread."""

    dropped: int

    @property
    def head(self) -> wire.ChainHead:
        """Number and digest of the last event."""

    @property
    def unsent(self) -> int:
        """How many events the broker has not acknowledged."""

    def add(self, event: wire.Event) -> None:
        """Number an event and let it wait."""

    def take(self) -> bytes | None:
        """The oldest event that may be sent now."""

    def under_way(self, mid: int, payload: bytes) -> None:
        """It was handed to the connection as message `mid`."""

    def acknowledged(self, mid: int) -> None:
        """The broker has it. Other messages' ids are ignored."""

    def take_back(self) -> None:
        """The connection is gone: what was under way waits again, before the rest."""


class NullLink:
    """No broker is configured. Sibling of MqttLink."""

    connected = False
    dropped = 0

    def start(self) -> None:
        """Say once that nothing will be sent."""
        log.info("no broker is configured or usable: events go to the log only")

    def tend(self) -> None:
        """Nothing."""

    def post(self, event: wire.Event) -> None:
        """Nothing."""

    def set_health(self, health: Health) -> None:
        """Nothing."""

    def set_state(self, state: wire.State) -> None:
        """Nothing."""

    def close(self, timeout_s: float = 3.0) -> None:
        """Nothing."""
