"""What a link and what it sends from promise; and the link of a door without a broker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from edge.link import wire
from edge.link.vitals import Vitals

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Health:
    """The part of `status` that the daemon knows."""

    armed: bool = False
    why_not: tuple[str, ...] = ("starting",)
    gallery: int | None = None
    backend: str = ""
    backend_why: str = ""
    events_lost: int = 0
    ledger_fault: str | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """A record of the ledger: an event's number and its exact bytes."""

    seq: int
    payload: bytes


class Events(Protocol):
    """The ledger as who sends from it sees it."""

    @property
    def head(self) -> wire.ChainHead:
        """Number and digest of the last event."""

    @property
    def cursor(self) -> int:
        """The number up to which events were delivered."""

    @property
    def inherited(self) -> int:
        """The number of the last event when the ledger was opened."""

    def after(self, seq: int, limit: int) -> list[Stored]:
        """The records after number `seq`, oldest first, at most `limit`. Raises LedgerError."""

    def find(self, which: str | int) -> Stored | None:
        """The record with this id or number. Raises LedgerError."""

    def delivered(self, seq: int) -> None:
        """Everything up to `seq` was delivered: moves the cursor."""


Row: TypeAlias = "tuple[wire.Event, bytes | None]"  # an event, and what of it stays on the door


class Keeper(Protocol):
    """The ledger as who writes to it sees it."""

    damaged: str | None

    @property
    def head(self) -> wire.ChainHead:
        """Number and digest of the last event."""

    @property
    def undelivered(self) -> int:
        """How many events wait for delivery."""

    def open(self) -> wire.Gap | None:
        """Raises LedgerError."""

    def append_all(self, entries: Sequence[Row]) -> list[Stored]:
        """Raises LedgerError, PayloadError."""

    def find(self, which: str | int) -> Stored | None:
        """The record with this id or number. Raises LedgerError."""

    def settle(self) -> None:
        """Bring onto the disk, once more, all that can be read. Raises LedgerError."""

    def prune(
        self, now_utc: float | None, gap_event: Callable[[wire.Gap], wire.Event], steady: bool
    ) -> wire.Gap | None:
        """Raises LedgerError."""

    def keep_head(self) -> None:
        """Write the head beside the ledger."""

    def tidy(self) -> None:
        """Raises LedgerError."""

    def close(self) -> None:
        """Release the files."""

    def set_aside(self, name: str) -> Path:
        """Raises LedgerError."""


class Link(Protocol):
    """Where status, state and events go. Nothing here blocks or raises."""

    def start(self) -> None:
        """Begin to connect."""

    def tend(self) -> None:
        """Start again what died; called now and then by one thread."""

    def wake(self) -> None:
        """There are new events in the ledger; from any thread."""

    def set_health(self, health: Health) -> None:
        """Publish a new status where it differs."""

    def set_state(self, state: wire.State) -> None:
        """Publish the door's new state."""

    def set_vitals(self, vitals: Vitals) -> None:
        """What every status says from now on; nothing is published for it."""

    def close(self, timeout_s: float = 3.0) -> None:
        """Send what waits, say goodbye, disconnect; takes at most `timeout_s`."""

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the door."""


class NullLink:
    """No broker is configured. Sibling of MqttLink."""

    connected = False

    def start(self) -> None:
        """Say once that nothing will be sent."""
        log.info("no broker is configured or usable: events stay in the ledger")

    def tend(self) -> None:
        """Nothing."""

    def wake(self) -> None:
        """Nothing."""

    def set_health(self, health: Health) -> None:
        """Nothing."""

    def set_state(self, state: wire.State) -> None:
        """Nothing."""

    def set_vitals(self, vitals: Vitals) -> None:
        """Nothing."""

    def close(self, timeout_s: float = 3.0) -> None:
        """Nothing."""
