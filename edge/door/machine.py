"""The door as one table: phase x stimulus -> phase and what the lock does. Pure; it is given the time.

Modes are ONVIF's (Door Control Service Specification, DoorMode). A phase is a mode and what it
goes back to: Accessed is three phases, for a release by REX ends where it began, in LockedDown or
in Blocked. Only this table asks for UNLOCK, and only at a grant, REX, a command or a schedule.
`TABLE` and `IGNORE` together have every pair once; alarms and deadlines follow from the state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from edge.door.stimuli import (
    ACCESSED,
    BLOCKED,
    EXIT_BLOCKED,
    EXIT_LOCKED_DOWN,
    FREE,
    LOCK,
    LOCKED,
    LOCKED_DOWN,
    LOCKED_OPEN,
    OBEYED,
    RELEASED,
    STOPPED,
    UNLOCK,
    UNLOCKED,
    Command,
    DoorClosed,
    DoorOpened,
    Effect,
    Granted,
    HoldElapsed,
    HoldOpenCommand,
    InputsFailed,
    InputsRestored,
    LineFailed,
    LockCommand,
    LockdownCommand,
    NormalCommand,
    OpenElapsed,
    Phase,
    PreAlarmElapsed,
    ReleaseElapsed,
    RexPressed,
    Schedule,
    ScheduleBegan,
    ScheduleEnded,
    Stimulus,
    Stop,
    TamperClosed,
    TamperOpened,
    UnlockCommand,
)
from edge.door_config import DoorConfig
from edge.values import Alarm

MAX_FREE_S = 86400.0
"""Free access always has an end, and never a later one than this from now."""
GRACE_S = 0.5
"""A leaf that was already moving when the lock fell is not forced: contacts report late."""

Position: TypeAlias = Literal["open", "closed", "unknown"]


Move: TypeAlias = tuple[Phase, Effect | None]

_RUNNING = tuple(phase for phase in Phase if phase is not STOPPED)
_STAY: dict[Phase, Move] = {phase: (phase, None) for phase in _RUNNING}

_ROWS: dict[type[Stimulus], dict[Phase, Move]] = {
    Granted: {LOCKED: (ACCESSED, UNLOCK)},
    RexPressed: {
        LOCKED: (ACCESSED, UNLOCK),
        LOCKED_DOWN: (EXIT_LOCKED_DOWN, UNLOCK),
        BLOCKED: (EXIT_BLOCKED, UNLOCK),  # if the line obeys: nobody is kept inside by a fault that passed
    },
    UnlockCommand: {LOCKED: (ACCESSED, UNLOCK)},
    LockCommand: {
        LOCKED: (LOCKED, LOCK),
        ACCESSED: (LOCKED, LOCK),
        UNLOCKED: (LOCKED, LOCK),
        LOCKED_OPEN: (LOCKED, LOCK),
        LOCKED_DOWN: (LOCKED_DOWN, LOCK),
        EXIT_LOCKED_DOWN: (LOCKED_DOWN, LOCK),
        BLOCKED: (BLOCKED, LOCK),
        EXIT_BLOCKED: (BLOCKED, LOCK),
    },
    LockdownCommand: {
        LOCKED: (LOCKED_DOWN, LOCK),
        ACCESSED: (LOCKED_DOWN, LOCK),
        UNLOCKED: (LOCKED_DOWN, LOCK),
        LOCKED_OPEN: (LOCKED_DOWN, LOCK),
        LOCKED_DOWN: (LOCKED_DOWN, LOCK),
    },
    NormalCommand: {
        LOCKED_OPEN: (LOCKED, LOCK),
        LOCKED_DOWN: (LOCKED, LOCK),
        EXIT_LOCKED_DOWN: (ACCESSED, None),
    },
    HoldOpenCommand: {
        LOCKED: (LOCKED_OPEN, UNLOCK),
        ACCESSED: (LOCKED_OPEN, UNLOCK),
        UNLOCKED: (LOCKED_OPEN, UNLOCK),
        LOCKED_OPEN: (LOCKED_OPEN, UNLOCK),
    },
    ScheduleBegan: {
        LOCKED: (UNLOCKED, UNLOCK),
        ACCESSED: (UNLOCKED, UNLOCK),
        UNLOCKED: (UNLOCKED, UNLOCK),
        LOCKED_OPEN: (LOCKED_OPEN, None),  # remembered for afterwards, here and below
        LOCKED_DOWN: (LOCKED_DOWN, None),
        EXIT_LOCKED_DOWN: (EXIT_LOCKED_DOWN, None),
    },
    ScheduleEnded: {
        LOCKED: (LOCKED, None),
        UNLOCKED: (LOCKED, LOCK),
        ACCESSED: (ACCESSED, None),
        LOCKED_OPEN: (LOCKED_OPEN, None),
        LOCKED_DOWN: (LOCKED_DOWN, None),
        EXIT_LOCKED_DOWN: (EXIT_LOCKED_DOWN, None),
    },
    HoldElapsed: {LOCKED_OPEN: (LOCKED, LOCK)},
    ReleaseElapsed: {
        ACCESSED: (LOCKED, LOCK),
        EXIT_LOCKED_DOWN: (LOCKED_DOWN, LOCK),
        EXIT_BLOCKED: (BLOCKED, LOCK),
    },
    LineFailed: dict.fromkeys(_RUNNING, (BLOCKED, LOCK)),
    Stop: dict.fromkeys(Phase, (STOPPED, LOCK)),
    # these move no lock: they change the leaf's position, the alarms and the deadlines
    DoorOpened: _STAY,
    DoorClosed: _STAY,
    PreAlarmElapsed: _STAY,
    OpenElapsed: _STAY,
    TamperOpened: _STAY,
    TamperClosed: _STAY,
    InputsFailed: _STAY,
    InputsRestored: _STAY,
}
STIMULI = tuple(_ROWS)
TABLE: dict[tuple[Phase, type[Stimulus]], Move] = {
    (phase, stimulus): move for stimulus, row in _ROWS.items() for phase, move in row.items()
}

_FREE_OR_RELEASED = (ACCESSED, UNLOCKED, LOCKED_OPEN, EXIT_LOCKED_DOWN, EXIT_BLOCKED)
IGNORE: frozenset[tuple[Phase, type[Stimulus]]] = frozenset(
    (phase, stimulus)
    for stimulus, phases in (
        (Granted, (*_FREE_OR_RELEASED, LOCKED_DOWN, BLOCKED)),  # a second one lengthens nothing
        (RexPressed, _FREE_OR_RELEASED),
        (UnlockCommand, (*_FREE_OR_RELEASED, LOCKED_DOWN, BLOCKED)),
        (LockdownCommand, (EXIT_LOCKED_DOWN, BLOCKED, EXIT_BLOCKED)),
        (NormalCommand, (LOCKED, ACCESSED, UNLOCKED, BLOCKED, EXIT_BLOCKED)),
        (HoldOpenCommand, (LOCKED_DOWN, EXIT_LOCKED_DOWN, BLOCKED, EXIT_BLOCKED)),
        (ScheduleBegan, (BLOCKED, EXIT_BLOCKED)),
        (ScheduleEnded, (BLOCKED, EXIT_BLOCKED)),
        (HoldElapsed, (LOCKED, ACCESSED, UNLOCKED, LOCKED_DOWN, EXIT_LOCKED_DOWN, BLOCKED, EXIT_BLOCKED)),
        (ReleaseElapsed, (LOCKED, UNLOCKED, LOCKED_OPEN, LOCKED_DOWN, BLOCKED)),
    )
    for phase in phases
) | frozenset((STOPPED, stimulus) for stimulus in STIMULI if stimulus is not Stop)

EXTENDS: dict[tuple[Phase, type[Stimulus]], Move] = {
    (phase, stimulus): (phase, UNLOCK)
    for phase, stimuli in (
        (ACCESSED, (Granted, RexPressed, UnlockCommand)),
        (EXIT_LOCKED_DOWN, (RexPressed,)),
        (EXIT_BLOCKED, (RexPressed,)),
    )
    for stimulus in stimuli
}
"""What of IGNORE begins the release anew where `regrant_extends` is configured."""


@dataclass(frozen=True, slots=True)
class Door:
    """The door. Times are s of the monotonic clock; None: no such deadline."""

    phase: Phase = LOCKED
    position: Position = "unknown"
    alarms: frozenset[Alarm] = frozenset()
    extended: bool = False  # whether the last release was an extended one
    release_ends_at: float | None = None  # in RELEASED
    held_until: float | None = None  # in LOCKED_OPEN
    scheduled_until: float | None = None  # a schedule is in force, maybe overridden
    open_ends_at: float | None = None  # when the open leaf has stood open for too long
    locked_at: float | None = None  # when an unlocked lock last fell


def begin(
    position: Position, tampered: bool, now: float, rules: DoorConfig, locked_down: bool = False
) -> Door:
    """The door as it is found at a start, locked: a leaf that stands open was not forced."""
    alarms = frozenset({Alarm.DOOR_TAMPER} if tampered else ())
    door = Door(LOCKED_DOWN if locked_down else LOCKED, position, alarms)
    return replace(door, open_ends_at=_open_ends_at(door, now, rules))


def react(door: Door, stimulus: Stimulus, now: float, rules: DoorConfig) -> tuple[Door, Effect | None]:
    """What a stimulus at `now` (s, monotonic) makes of the door, and what the lock has to do."""
    pair = (door.phase, type(stimulus))
    move = EXTENDS.get(pair) if rules.regrant_extends else None
    move = move or TABLE.get(pair)
    if move is None or _endless(stimulus, now):
        return door, None
    after = _after(door, stimulus, move[0], now, rules)
    following = _following(door, after, stimulus, rules)
    if following is None:
        return after, move[1]
    last, effect = react(after, following, now, rules)
    return last, effect or move[1]


def due(door: Door, now: float, rules: DoorConfig) -> Stimulus | None:
    """The stimulus of a deadline that has passed. A time that is not a number has passed."""
    return next((stimulus for at, stimulus in _deadlines(door, rules) if not now < at), None)


def next_deadline(door: Door, rules: DoorConfig) -> float | None:
    """When `due` next has something, s monotonic."""
    return min((at for at, _ in _deadlines(door, rules)), default=None)


def unlocked_until(door: Door) -> float | None:
    """Until when the lock may stay unlocked, s monotonic; None: it is locked."""
    if door.phase in RELEASED:
        return door.release_ends_at
    return {LOCKED_OPEN: door.held_until, UNLOCKED: door.scheduled_until}.get(door.phase)


def obeyed(door: Door, order: Command | Schedule) -> bool:
    """Whether the door is as ordered. A schedule is remembered even where lockdown overrides it."""
    if isinstance(order, HoldOpenCommand) and door.held_until != order.until:
        return False
    if isinstance(order, ScheduleBegan) and door.scheduled_until != order.until:
        return False
    return door.phase in OBEYED[type(order)]


def _deadlines(door: Door, rules: DoorConfig) -> list[tuple[float, Stimulus]]:
    pre_alarm_at = None
    if door.open_ends_at is not None and rules.pre_alarm_s and Alarm.DOOR_OPEN_PRE_ALARM not in door.alarms:
        pre_alarm_at = door.open_ends_at - rules.pre_alarm_s
    deadlines: tuple[tuple[float | None, Stimulus], ...] = (
        (door.release_ends_at, ReleaseElapsed()),
        (door.held_until, HoldElapsed()),
        (door.scheduled_until, ScheduleEnded()),
        (pre_alarm_at, PreAlarmElapsed()),
        (door.open_ends_at, OpenElapsed()),
    )
    return [(at, stimulus) for at, stimulus in deadlines if at is not None]


def _endless(stimulus: Stimulus, now: float) -> bool:
    """Free access without an end in sight, or that has ended, or that ends at no time."""
    return isinstance(stimulus, (HoldOpenCommand, ScheduleBegan)) and not (
        now < stimulus.until <= now + MAX_FREE_S
    )


def _following(before: Door, after: Door, cause: Stimulus, rules: DoorConfig) -> Stimulus | None:
    """What happens in the same moment, by the same table: the passage is over, a schedule is in force."""
    came_from, ending = ("closed", DoorOpened) if rules.relock == "on_open" else ("open", DoorClosed)
    if after.phase in RELEASED and isinstance(cause, ending) and before.position == came_from:
        return ReleaseElapsed()
    if after.phase is LOCKED and after.scheduled_until is not None:
        return ScheduleBegan(after.scheduled_until)
    return None


def _after(door: Door, cause: Stimulus, phase: Phase, now: float, rules: DoorConfig) -> Door:
    """The door after one move."""
    extended = door.extended
    release_ends_at = door.release_ends_at if phase in RELEASED else None
    if isinstance(cause, (Granted, RexPressed, UnlockCommand)):  # only where they release: see TABLE
        extended = getattr(cause, "extended", False)
        release_ends_at = max(now + rules.release_s(extended), door.release_ends_at or now)
    after = replace(
        door,
        phase=phase,
        position=_POSITIONS.get(type(cause), door.position),
        alarms=_alarms(door, cause, phase),
        extended=extended,
        release_ends_at=release_ends_at,
        held_until=_held_until(door, cause, phase),
        scheduled_until=_scheduled_until(door, cause, phase),
        locked_at=now if _unlocked(door.phase) and not _unlocked(phase) else door.locked_at,
    )
    return replace(after, open_ends_at=_open_ends_at(after, now, rules))


_POSITIONS: dict[type[Stimulus], Position] = {
    DoorOpened: "open",
    DoorClosed: "closed",
    InputsFailed: "unknown",
}


def _unlocked(phase: Phase) -> bool:
    return phase in RELEASED or phase in FREE


def _held_until(door: Door, cause: Stimulus, phase: Phase) -> float | None:
    if phase is not LOCKED_OPEN:
        return None
    return cause.until if isinstance(cause, HoldOpenCommand) else door.held_until


def _scheduled_until(door: Door, cause: Stimulus, phase: Phase) -> float | None:
    if isinstance(cause, ScheduleBegan):
        return cause.until
    ended = isinstance(cause, (ScheduleEnded, LockCommand)) or phase in (BLOCKED, STOPPED)
    return None if ended else door.scheduled_until


def _open_ends_at(door: Door, now: float, rules: DoorConfig) -> float | None:
    """Kept while the leaf stands open where it should not for long; begun when it does not stand yet."""
    told = {Alarm.DOOR_FORCED_OPEN, Alarm.DOOR_OPEN_TOO_LONG} & door.alarms
    if door.position != "open" or door.phase in FREE or door.phase is STOPPED or told:
        return None
    return door.open_ends_at if door.open_ends_at is not None else now + rules.may_stand_open_s(door.extended)


_OF_OPENING = frozenset({Alarm.DOOR_FORCED_OPEN, Alarm.DOOR_OPEN_TOO_LONG, Alarm.DOOR_OPEN_PRE_ALARM})
_OF_STANDING_OPEN = _OF_OPENING - {Alarm.DOOR_FORCED_OPEN}
_RAISES: dict[type[Stimulus], Alarm] = {
    DoorOpened: Alarm.DOOR_FORCED_OPEN,
    PreAlarmElapsed: Alarm.DOOR_OPEN_PRE_ALARM,
    OpenElapsed: Alarm.DOOR_OPEN_TOO_LONG,
    TamperOpened: Alarm.DOOR_TAMPER,
    InputsFailed: Alarm.DOOR_FAULT,
    LineFailed: Alarm.DOOR_FAULT,
}
_CLEARS: dict[type[Stimulus], frozenset[Alarm]] = {
    DoorClosed: _OF_OPENING,
    OpenElapsed: frozenset({Alarm.DOOR_OPEN_PRE_ALARM}),
    TamperClosed: frozenset({Alarm.DOOR_TAMPER}),
    InputsRestored: frozenset({Alarm.DOOR_FAULT}),
}


def _alarms(door: Door, cause: Stimulus, phase: Phase) -> frozenset[Alarm]:
    clears = _CLEARS.get(type(cause), frozenset()) | (_OF_STANDING_OPEN if phase in FREE else frozenset())
    if phase in (BLOCKED, EXIT_BLOCKED):
        clears -= {Alarm.DOOR_FAULT}  # the lock's own fault, not the inputs'
    raised = _RAISES.get(type(cause))
    if isinstance(cause, DoorOpened) and not _forced(door, cause):
        raised = None
    return door.alarms - clears | ({raised} if raised else set())


def _forced(door: Door, opened: DoorOpened) -> bool:
    """Whether a leaf that was known to be shut was opened while the lock held it."""
    if _unlocked(door.phase) or door.position != "closed":
        return False
    return door.locked_at is None or not opened.at <= door.locked_at + GRACE_S
