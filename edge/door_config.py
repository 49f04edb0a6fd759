"""The configuration's section `door`: lines, times, and what contradicts itself."""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from edge.strict import Section

Offset = Annotated[int, Meta(ge=0, le=511)]
Line: TypeAlias = Offset | str
Chip = Annotated[str, Meta(pattern=r"^(/[!-~]+|label:[!-~]{1,31})\Z")]
Level: TypeAlias = Literal["high", "low"]
Contradiction: TypeAlias = tuple[str, str, object]
Wiring: TypeAlias = dict[str, tuple[str, int | str]]  # path in the file: (chip, line) as it stands there
_LINE_NAME = re.compile("name:[!-~]{1,31}")


class RelayConfig(Section, frozen=True):
    """The output that releases the strike or the magnet.

    `line` is an offset on the chip or `name:RELAY`; `chip` is a device path or
    `label:pinctrl-rp1` (a chip's number changes between kernels, its label does not).
    """

    line: Line
    chip: Chip = "/dev/gpiochip0"
    active: Level = "high"  # the level that unlocks


class OutputConfig(Section, frozen=True):
    """A lamp or a sounder. No `chip`: the relay's."""

    line: Line
    chip: Chip | None = None
    active: Level = "high"  # the level that is on


class ContactConfig(Section, frozen=True):
    """A contact that closes to ground while all is well (DPS, tamper loop): a cut wire is seen."""

    line: Line
    chip: Chip | None = None
    active: Level = "high"  # the level of an open door, of an opened case
    pull: Literal["up", "down", "off"] = "up"
    debounce_ms: Annotated[int, Meta(ge=1, le=1000)] = 50


class ButtonConfig(Section, frozen=True):
    """A button that closes to ground when pressed (REX): a cut wire opens nothing."""

    line: Line
    chip: Chip | None = None
    active: Level = "low"  # the level of a pressed button
    pull: Literal["up", "down", "off"] = "up"
    debounce_ms: Annotated[int, Meta(ge=1, le=1000)] = 30


class DoorConfig(Section, frozen=True):
    """The door: which line is what, and how long it may do what."""

    relay: RelayConfig
    dps: ContactConfig | None = None  # door position switch
    rex: ButtonConfig | None = None  # request to exit
    tamper: ContactConfig | None = None
    sounder: OutputConfig | None = None  # on while something stands open that should not
    led: OutputConfig | None = None  # on while unlocked
    unlock_s: Annotated[float, Meta(gt=0, le=60)] = 3
    extended_unlock_s: Annotated[float, Meta(gt=0, le=60)] | None = None  # None: 3 x unlock_s, at most 60
    open_s: Annotated[float, Meta(gt=0, le=3600)] = 30  # longer is DoorOpenTooLong
    extended_open_s: Annotated[float, Meta(gt=0, le=3600)] = 60
    pre_alarm_s: Annotated[float, Meta(ge=0, le=3600)] = 5  # before open_s ends; 0: none
    relock: Literal["on_open", "on_close"] = "on_close"  # an opening ends the release then
    regrant_extends: bool = False
    max_unlocked_s_per_hour: Annotated[float, Meta(ge=60, le=3600)] = 1800  # free access, exit button apart

    def release_s(self, extended: bool) -> float:
        """How long a grant releases the lock, s."""
        if not extended:
            return self.unlock_s
        return min(60.0, 3 * self.unlock_s) if self.extended_unlock_s is None else self.extended_unlock_s

    def may_stand_open_s(self, extended: bool) -> float:
        """How long the door may stand open after it, s."""
        return self.extended_open_s if extended else self.open_s

    def lines(self) -> dict[str, RelayConfig | OutputConfig | ContactConfig | ButtonConfig]:
        """The configured lines by role, the relay first."""
        roles = ("relay", "dps", "rex", "tamper", "sounder", "led")
        return {role: line for role in roles if (line := getattr(self, role)) is not None}

    def wiring(self) -> Wiring:
        """Each line of the door."""
        relay = self.relay.chip
        return {f"door.{role}.line": (line.chip or relay, line.line) for role, line in self.lines().items()}


def contradictions(door: DoorConfig) -> list[Contradiction]:
    """What each field alone can't show: (path, expected, got)."""
    longest_s = door.release_s(extended=True)
    rules: tuple[tuple[bool, str, str, object], ...] = (
        (
            longest_s >= door.unlock_s,
            "extended_unlock_s",
            f"at least unlock_s ({door.unlock_s:g})",
            longest_s,
        ),
        (door.open_s >= door.unlock_s, "open_s", f"at least unlock_s ({door.unlock_s:g})", door.open_s),
        (
            door.extended_open_s >= max(door.open_s, longest_s),
            "extended_open_s",
            f"at least open_s ({door.open_s:g}) and extended_unlock_s ({longest_s:g})",
            door.extended_open_s,
        ),
        (
            door.pre_alarm_s < door.open_s,
            "pre_alarm_s",
            f"less than open_s ({door.open_s:g})",
            door.pre_alarm_s,
        ),
        (door.relock == "on_close" or door.dps is not None, "relock", "a dps beside on_open", "none"),
    )
    found: list[Contradiction] = [
        (f"door.{key}", expected, got) for holds, key, expected, got in rules if not holds
    ]
    return found


def line_contradictions(wiring: Wiring) -> list[Contradiction]:
    """Lines that are neither an offset nor a name, and lines that are two things."""
    taken: dict[tuple[str, int | str], str] = {}
    found: list[Contradiction] = []
    for path, where in wiring.items():
        line = where[1]
        if isinstance(line, str) and not _LINE_NAME.fullmatch(line):  # a union's message names one type only
            found.append((path, "an offset such as 17, or name:LINE", line))
        elif where in taken:
            found.append((path, f"a line that {taken[where]} has not taken", line))
        taken.setdefault(where, path)
    return found
