"""One connection to the broker, and what the threads around it tell the one that owns the state."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TypeAlias

from edge.link import wire
from edge.link.client import BoundedClient
from edge.link.discovery import Announcement
from edge.link.port import Health


@dataclass(slots=True, eq=False)
class Session:
    """One connection. `over` is set by the outbox thread when it is at its end."""

    client: BoundedClient
    over: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Up:
    """The broker has accepted the door."""

    session: Session


@dataclass(frozen=True, slots=True)
class Down:
    """The connection is over, or never was."""

    session: Session
    why: str


@dataclass(frozen=True, slots=True)
class Acked:
    """The broker has answered message `mid`; `refused`: why it does not want it."""

    session: Session
    mid: int
    refused: str | None


@dataclass(frozen=True, slots=True)
class AckCame:
    """Of the collector; foreign bytes."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Wake:
    """There are new events."""


@dataclass(frozen=True, slots=True)
class Close:
    """Come to an end."""

    until: float  # s, monotonic


Item: TypeAlias = wire.State | Health | Up | Down | Acked | AckCame | Wake | Announcement | Close
