"""The door as one table: mode x stimulus -> mode and effects. Pure; it is given the time.

Modes are ONVIF's (Door Control Service Specification, DoorMode). Of those this door uses
Locked, Accessed (released for a moment) and Blocked (stays locked, no grant is honoured: its
line has failed or the service has stopped). Only this table asks for UNLOCK.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from edge.values import DoorMode

LOCKED, ACCESSED, BLOCKED = DoorMode.LOCKED, DoorMode.ACCESSED, DoorMode.BLOCKED
MODES = (LOCKED, ACCESSED, BLOCKED)


@dataclass(frozen=True, slots=True)
class Granted:
    """Somebody may come in."""

    subject: str


@dataclass(frozen=True, slots=True)
class ReleaseElapsed:
    """The time for which the door was released is over."""


@dataclass(frozen=True, slots=True)
class LineFailed:
    """The output line could not be driven."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The service ends."""


Stimulus: TypeAlias = Granted | ReleaseElapsed | LineFailed | Stop
STIMULI = (Granted, ReleaseElapsed, LineFailed, Stop)


class Effect(str, Enum):
    """What the controller has to do, in the order given."""

    UNLOCK = "UNLOCK"
    LOCK = "LOCK"
    REPORT = "REPORT"


UNLOCK, LOCK, REPORT = Effect.UNLOCK, Effect.LOCK, Effect.REPORT

TABLE: dict[tuple[DoorMode, type[Stimulus]], tuple[DoorMode, tuple[Effect, ...]]] = {
    (LOCKED, Granted): (ACCESSED, (UNLOCK, REPORT)),
    (ACCESSED, ReleaseElapsed): (LOCKED, (LOCK, REPORT)),
    (LOCKED, LineFailed): (BLOCKED, (LOCK, REPORT)),
    (ACCESSED, LineFailed): (BLOCKED, (LOCK, REPORT)),
    (BLOCKED, LineFailed): (BLOCKED, (LOCK,)),
    (LOCKED, Stop): (BLOCKED, (LOCK, REPORT)),
    (ACCESSED, Stop): (BLOCKED, (LOCK, REPORT)),
    (BLOCKED, Stop): (BLOCKED, (LOCK,)),
}

IGNORE: frozenset[tuple[DoorMode, type[Stimulus]]] = frozenset(
    {
        (ACCESSED, Granted),  # a second grant does not lengthen the release
        (BLOCKED, Granted),
        (LOCKED, ReleaseElapsed),
        (BLOCKED, ReleaseElapsed),
    }
)


@dataclass(frozen=True, slots=True)
class Door:
    """The door's mode and, while Accessed, when its release ends (s, monotonic clock)."""

    mode: DoorMode = LOCKED
    release_ends_at: float | None = None


def react(door: Door, stimulus: Stimulus, now: float, unlock_s: float) -> tuple[Door, tuple[Effect, ...]]:
    """What a stimulus at `now` (s, monotonic) makes of the door, and what has to be done."""
    pair = (door.mode, type(stimulus))
    if pair in IGNORE:
        return door, ()
    mode, effects = TABLE[pair]
    return Door(mode, now + unlock_s if mode is ACCESSED else None), effects


def release_elapsed(door: Door, now: float) -> bool:
    """Whether it is time for ReleaseElapsed. A time that is not a number has elapsed."""
    return door.release_ends_at is not None and not now < door.release_ends_at
