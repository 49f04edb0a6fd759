"""What of the door's changes becomes an event. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from edge.door.machine import Door, unlocked_until
from edge.door.stimuli import RexPressed, Stimulus
from edge.values import Alarm

DoorNotice: TypeAlias = Literal[
    "DoorForcedOpen",
    "DoorOpenTooLong",
    "DoorOpenPreAlarm",
    "DoorTamper",
    "DoorFault",
    "DoorAlarmCleared",
    "ExitRequested",
]
OnNotice: TypeAlias = Callable[[DoorNotice, str], None]

_RAISED: dict[Alarm, tuple[DoorNotice, str]] = {
    Alarm.DOOR_FORCED_OPEN: ("DoorForcedOpen", "the door was opened while it was locked"),
    Alarm.DOOR_OPEN_TOO_LONG: ("DoorOpenTooLong", "the door stands open for too long"),
    Alarm.DOOR_OPEN_PRE_ALARM: ("DoorOpenPreAlarm", "the door will soon have stood open for too long"),
    Alarm.DOOR_TAMPER: ("DoorTamper", "the unit's case was opened"),
}


def notices(
    before: Door, after: Door, stimulus: Stimulus | None, fault: str | None
) -> list[tuple[DoorNotice, str]]:
    """The notices of one change; the lock's own fault is told where it happens."""
    found = [_RAISED[alarm] for alarm in sorted(after.alarms - before.alarms) if alarm in _RAISED]
    if fault is not None and _inputs_failed(before, after):
        found.append(("DoorFault", fault))
    gone = before.alarms - after.alarms - {Alarm.DOOR_OPEN_PRE_ALARM}
    found += [("DoorAlarmCleared", alarm.value) for alarm in sorted(gone)]
    if isinstance(stimulus, RexPressed):
        opened = unlocked_until(after) is not None
        words = "the exit button released the door" if opened else "the exit button was pressed in vain"
        found.append(("ExitRequested", words))
    return found


def _inputs_failed(before: Door, after: Door) -> bool:
    return Alarm.DOOR_FAULT in after.alarms - before.alarms and before.phase == after.phase
