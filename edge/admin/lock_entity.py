"""The lock that the bridge shows in Home Assistant, and what is pressed there. Pure.

Home Assistant stamps each press with its clock (`command_template`), so that one which a broker or a
network kept back is known as old: a lock must not open for who left long ago.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edge.admin.reports import SILENT_S
from edge.errors import PayloadError
from edge.link import dsse, orders
from edge.link.discovery import Announcement, device_id
from edge.link.orders import Attestation

Wish = Literal["lock", "unlock"]
MAX_AGE_S = 10.0  # of a press: as long as somebody waits at a door
MAX_AHEAD_S = 10.0  # Home Assistant's clock before this one's
_MAX_BYTES = 1024
_LOCK = {"locked": "LOCKED", "unlocked": "UNLOCKED"}  # what is neither, Home Assistant calls jammed


class _Press(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    do: Wish
    at: Annotated[str, Meta(max_length=40)]


@dataclass(frozen=True, slots=True)
class Press:
    """What somebody, or an automation, asked of a lock."""

    do: Wish
    at: datetime  # aware, by Home Assistant's clock


class Last(msgspec.Struct, frozen=True):
    """What became of the last press."""

    do: str
    outcome: str
    detail: str


class _Shown(msgspec.Struct, frozen=True):
    state: str | None
    available: Literal["online", "offline"]
    mode: str | None
    reported_at: str | None
    last: Last | None


def status_topic(site: str) -> str:
    """Retained: whether the bridge is there."""
    return f"doord/{site}/bridge/status"


def state_topic(site: str, door: str) -> str:
    """Retained: what the lock is."""
    return f"doord/{site}/bridge/{door}/state"


def set_topic(site: str, door: str) -> str:
    """Never retained: what it shall be."""
    return f"doord/{site}/bridge/{door}/set"


def config_topic(door: str) -> str:
    """Retained: the entity's description."""
    return f"homeassistant/lock/doord-{door}/config"


def announce(site: str, door: str, version: str) -> Announcement:
    """The lock's discovery message; the lock belongs to the device that the door itself announces."""
    unit, state = device_id(site, door), state_topic(site, door)
    payload: dict[str, Any] = {
        "unique_id": f"{unit}-bridged-lock",
        "name": "Lock",
        "device": {"identifiers": [unit], "name": f"Door {door}"},
        "origin": {"name": "doord admin bridge", "sw_version": version},
        "command_topic": set_topic(site, door),
        "command_template": (
            """{"do": "{{ value }}", "at": "{{ utcnow().isoformat(timespec='milliseconds') }}"}"""
        ),
        "payload_lock": "lock",
        "payload_unlock": "unlock",
        "state_topic": state,
        "value_template": "{{ value_json.state }}",
        "state_jammed": "JAMMED",
        "json_attributes_topic": state,
        "availability_mode": "all",
        "availability": [
            {"topic": status_topic(site)},
            {"topic": state, "value_template": "{{ value_json.available }}"},
        ],
        "qos": 1,
        "retain": False,
        "optimistic": False,
    }
    return Announcement(config_topic(door), msgspec.json.encode(payload))


def decode_press(payload: bytes) -> Press:
    """Raises PayloadError."""
    found = dsse.parsed(payload, _Press, "press", _MAX_BYTES)
    try:
        at = datetime.fromisoformat(found.at.replace("Z", "+00:00"))
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise PayloadError(f"press: expected a time with its offset from UTC, got {found.at!r}")
    return Press(found.do, at)


def refusal(press: Press, last: datetime, now: datetime) -> str | None:
    """Why a press is not obeyed. `last`: of the newest one before it at this lock, or of the start."""
    late = too_old(press, now)
    if late is not None:
        return late
    age_s = (now - press.at).total_seconds()
    if not -age_s <= MAX_AHEAD_S:
        return f"expected a clock at most {MAX_AHEAD_S:g} s ahead, got one {-age_s:.0f} s ahead"
    if not press.at > last:
        return "it came before, or before the bridge was there"
    return None


def too_old(press: Press, now: datetime) -> str | None:
    """Why a press is of no use any more: who pressed may have left."""
    age_s = (now - press.at).total_seconds()
    if not age_s <= MAX_AGE_S:
        return f"expected one of the last {MAX_AGE_S:g} s, got one of {age_s:.0f} s ago"
    return None


def newer(said: Attestation, known: Attestation | None) -> bool:
    """Whether a report may follow the one that is known: no broker shows an old one as of now."""
    return known is None or _order(said) > _order(known)


def _order(said: Attestation) -> tuple[int, int, datetime]:
    return orders.epoch_count(said.epoch), said.seq, orders.utc(said.at)


def heard_of(said: Attestation | None, now: datetime) -> bool:
    """Whether the door's own, signed word is of now."""
    return said is not None and abs(now - orders.utc(said.at)) <= timedelta(seconds=SILENT_S)


def shown(said: Attestation | None, last: Last | None, now: datetime) -> bytes:
    """The lock's state, from the door's signed report alone."""
    known = said if heard_of(said, now) else None
    state = _Shown(
        state=_LOCK.get(known.state.lock, "JAMMED") if known else None,
        available="online" if known else "offline",
        mode=known.state.mode.value if known else None,
        reported_at=said.at if said else None,
        last=last,
    )
    return msgspec.json.encode(state)
