"""The words of the door's table: phases, stimuli, effects. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from edge.values import DoorMode


class Phase(str, Enum):
    """What the lock does, and where it goes back to."""

    LOCKED = "Locked"
    ACCESSED = "Accessed"  # released for a moment
    UNLOCKED = "Unlocked"  # free access by schedule
    LOCKED_OPEN = "LockedOpen"  # free access by command
    LOCKED_DOWN = "LockedDown"  # no grant, no schedule
    BLOCKED = "Blocked"  # the lock's line has failed; only a restart mends it
    EXIT_LOCKED_DOWN = "ExitLockedDown"  # released by REX in LockedDown
    EXIT_BLOCKED = "ExitBlocked"  # released by REX in Blocked
    STOPPED = "Stopped"  # the service has ended

    @property
    def mode(self) -> DoorMode:
        """What the world is told."""
        return _MODES.get(self) or DoorMode(self.value)


LOCKED, ACCESSED, UNLOCKED = Phase.LOCKED, Phase.ACCESSED, Phase.UNLOCKED
LOCKED_OPEN, LOCKED_DOWN, BLOCKED = Phase.LOCKED_OPEN, Phase.LOCKED_DOWN, Phase.BLOCKED
EXIT_LOCKED_DOWN, EXIT_BLOCKED, STOPPED = Phase.EXIT_LOCKED_DOWN, Phase.EXIT_BLOCKED, Phase.STOPPED
_MODES = {
    EXIT_LOCKED_DOWN: DoorMode.ACCESSED,
    EXIT_BLOCKED: DoorMode.ACCESSED,
    STOPPED: DoorMode.BLOCKED,
}
RELEASED = frozenset({ACCESSED, EXIT_LOCKED_DOWN, EXIT_BLOCKED})
FREE = frozenset({UNLOCKED, LOCKED_OPEN})
ADMITTING = FREE | {ACCESSED}  # a grant is honoured, or has no need to be


@dataclass(frozen=True, slots=True)
class Granted:
    """Somebody may come in; `extended`: who needs longer."""

    subject: str
    extended: bool = False


@dataclass(frozen=True, slots=True)
class RexPressed:
    """Somebody inside wants to leave."""


@dataclass(frozen=True, slots=True)
class UnlockCommand:
    """Release the door once, as a grant does."""

    extended: bool = False


@dataclass(frozen=True, slots=True)
class LockCommand:
    """Lock now, and end free access."""


@dataclass(frozen=True, slots=True)
class LockdownCommand:
    """Lock now, and let nobody in until NormalCommand."""


@dataclass(frozen=True, slots=True)
class NormalCommand:
    """End LockedDown or LockedOpen; a schedule in force begins again."""


@dataclass(frozen=True, slots=True)
class HoldOpenCommand:
    """Free access until `until`, s monotonic."""

    until: float


@dataclass(frozen=True, slots=True)
class ScheduleBegan:
    """Free access by schedule until `until`, s monotonic; again: until a later time."""

    until: float


@dataclass(frozen=True, slots=True)
class ScheduleEnded:
    """The schedule's free access is over, by its clock or by its deadline."""


@dataclass(frozen=True, slots=True)
class HoldElapsed:
    """The time of HoldOpenCommand is over."""


@dataclass(frozen=True, slots=True)
class ReleaseElapsed:
    """The time for which the door was released is over, or its use is."""


@dataclass(frozen=True, slots=True)
class DoorOpened:
    """The leaf left its frame at `at`, s monotonic."""

    at: float


@dataclass(frozen=True, slots=True)
class DoorClosed:
    """The leaf is in its frame."""


@dataclass(frozen=True, slots=True)
class PreAlarmElapsed:
    """The door will soon have stood open for too long."""


@dataclass(frozen=True, slots=True)
class OpenElapsed:
    """The door has stood open for too long."""


@dataclass(frozen=True, slots=True)
class TamperOpened:
    """The unit's case was opened."""


@dataclass(frozen=True, slots=True)
class TamperClosed:
    """The unit's case is closed."""


@dataclass(frozen=True, slots=True)
class InputsFailed:
    """The input lines can't be read."""


@dataclass(frozen=True, slots=True)
class InputsRestored:
    """The input lines can be read again."""


@dataclass(frozen=True, slots=True)
class LineFailed:
    """The lock's line could not be driven."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The service ends."""


Command: TypeAlias = UnlockCommand | LockCommand | LockdownCommand | NormalCommand | HoldOpenCommand
Schedule: TypeAlias = ScheduleBegan | ScheduleEnded
Elapsed: TypeAlias = ReleaseElapsed | HoldElapsed | PreAlarmElapsed | OpenElapsed
Sensed: TypeAlias = DoorOpened | DoorClosed | TamperOpened | TamperClosed | InputsFailed | InputsRestored
Stimulus: TypeAlias = Granted | RexPressed | Command | Schedule | Elapsed | Sensed | LineFailed | Stop


class Effect(str, Enum):
    """What the controller has to do with the lock."""

    UNLOCK = "UNLOCK"
    LOCK = "LOCK"


UNLOCK, LOCK = Effect.UNLOCK, Effect.LOCK

OBEYED: dict[type[Command | Schedule], frozenset[Phase]] = {
    UnlockCommand: ADMITTING,
    LockCommand: frozenset({LOCKED, LOCKED_DOWN, BLOCKED}),
    LockdownCommand: frozenset({LOCKED_DOWN, EXIT_LOCKED_DOWN}),
    NormalCommand: frozenset({LOCKED, ACCESSED, UNLOCKED}),
    HoldOpenCommand: frozenset({LOCKED_OPEN}),
    ScheduleBegan: frozenset(Phase) - {BLOCKED, EXIT_BLOCKED, STOPPED},
    ScheduleEnded: frozenset(Phase) - {UNLOCKED},
}
"""The phases in which a command or a schedule has what it asked for."""
