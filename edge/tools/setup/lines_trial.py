"""Relay, door contact, exit button and case contact, tried while the installer watches.

The relay moves only through the door's own adapter: claimed locked, released for a second at a time,
which the adapter itself ends, and locked when it is let go, however the trial ends.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from edge.config import Config
from edge.door.lines import DoorLines, claim_door
from edge.door_config import DoorConfig, Level
from edge.errors import LineError
from edge.ports import InputRole
from edge.tools.setup.outcome import Outcome, failed, passed, untested
from edge.tools.setup.talk import Talk

PULSE_S = 1.0
_AFTER_S = 0.3  # until the adapter has certainly locked again
_LOOK_EVERY_S = 0.02
Claim = Callable[[DoorConfig, bool], DoorLines]
_OTHER: dict[Level, Level] = {"high": "low", "low": "high"}
_NO_EYES = "nobody said what the lock did"


@dataclass(frozen=True, slots=True)
class Gesture:
    """What the installer does, and what the line must show: active, then not."""

    role: InputRole
    part: str
    words: str


GESTURES = (
    Gesture("dps", "door contact", "Open the door, and close it again"),
    Gesture("rex", "exit button", "Press the exit button, and let it go"),
    Gesture("tamper", "case contact", "Open the unit's case, and close it again"),
)


@contextlib.contextmanager
def claimed(config: Config, claim: Claim = claim_door) -> Iterator[DoorLines]:
    """The door's lines, the relay locked; locked and let go at the end. Raises LineError."""
    lines = claim(config.door, config.simulation)
    try:
        yield lines
    finally:
        lines.relay.close()
        lines.inputs.close()
        lines.signals.close()


def try_lines(
    config: Config, talk: Talk, wait_s: float, may_turn: bool, claim: Claim = claim_door
) -> tuple[Level, list[Outcome]]:
    """The level that unlocks, as it was found, and what became of each line.

    Args:
        config: what stands in it about the lines.
        talk: the installer.
        wait_s: how long to wait for a gesture.
        may_turn: whether the polarity may be found to be the other one.
        claim: opens the lines.
    """
    try:
        level, outcome = _polarity(config, talk, may_turn, claim)
        inputs = _inputs(with_level(config, level), talk, wait_s, claim)
    except LineError as error:
        return config.door.relay.active, [failed("relay", str(error))]
    return level, [outcome, *inputs]


def with_level(config: Config, level: Level) -> Config:
    """The same door, whose relay unlocks at this level."""
    relay = msgspec.structs.replace(config.door.relay, active=level)
    return msgspec.structs.replace(config, door=msgspec.structs.replace(config.door, relay=relay))


def _polarity(config: Config, talk: Talk, may_turn: bool, claim: Claim) -> tuple[Level, Outcome]:
    first = config.door.relay.active
    if not talk.consent("try_relay", "Try the relay now? Stay at the door and watch the lock", True):
        return first, untested("relay", "the installer did not want to")
    for level in (first, _OTHER[first]) if may_turn else (first,):
        found = _watched(with_level(config, level), talk, claim)
        if found is not None:
            return level, found
        talk.say(f"  The lock is released: level {_OTHER[level]} unlocks, not {level}.")
    if not may_turn:
        return first, failed(
            "relay", f"the lock is released while the line is locked: active: {_OTHER[first]}"
        )
    return first, failed("relay", "the lock was released at both levels: its supply, its wiring, or its kind")


def _watched(config: Config, talk: Talk, claim: Claim) -> Outcome | None:
    """What the lock did; None: it was released while the line was at its locked level."""
    unlocks = config.door.relay.active
    with claimed(config, claim) as lines:
        where = lines.relay.where
        talk.say("", f"{where} is held at its locked level ({_OTHER[unlocks]}).")
        locked = talk.witness("relay_locked", "Is the lock locked now?")
        if locked is None:
            return untested("relay", _NO_EYES)
        if not locked:
            return None
        return _released(lines, talk, f"{where} unlocks {unlocks}")


def _released(lines: DoorLines, talk: Talk, what: str) -> Outcome:
    talk.say(f"It is released for {PULSE_S:g} s now.")
    lines.relay.unlock(PULSE_S)
    time.sleep(PULSE_S + _AFTER_S)
    released = talk.witness("relay_released", "Did the lock release for a moment, and lock again?")
    if released is None:
        return untested("relay", f"{what}: {_NO_EYES}")
    if not released:
        return failed("relay", f"{what}: the lock did not move: line, supply, or wiring")
    return passed("relay", f"{what}: seen locked, released for {PULSE_S:g} s, locked again")


def _inputs(config: Config, talk: Talk, wait_s: float, claim: Claim) -> list[Outcome]:
    outcomes = []
    with claimed(config, claim) as lines:
        for gesture in GESTURES:
            if gesture.role in lines.inputs.roles:
                outcomes.append(_tried(gesture, lines, talk, wait_s))
            else:
                outcomes.append(untested(gesture.part, "none is configured"))
    return outcomes


def _tried(gesture: Gesture, lines: DoorLines, talk: Talk, wait_s: float) -> Outcome:
    role, part = gesture.role, gesture.part
    where = lines.places[role].where
    if not talk.consent(f"try_{role}", f"Try the {part} now?", talk.interactive):
        return untested(part, "the installer did not want to")
    if lines.inputs.read()[role]:
        return failed(part, f"{where} is active while nobody touches it: pull, active, or a cut wire")
    talk.say(f"{gesture.words} ({wait_s:g} s).")
    for wanted in (True, False):
        if not _comes(lines, role, wanted, wait_s):
            state = "become active" if wanted else "come back"
            return failed(part, f"{where} did not {state} in {wait_s:g} s")
        talk.say("  seen" if wanted else "  and back")
    return passed(part, f"{where} became active and came back")


def _comes(lines: DoorLines, role: InputRole, active: bool, within_s: float) -> bool:
    until = time.monotonic() + within_s
    while lines.inputs.read()[role] != active:
        if time.monotonic() > until:
            return False
        time.sleep(_LOOK_EVERY_S)
    return True
