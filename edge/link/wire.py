"""The wire contract: topics, messages, codecs, size limit. Pure.

Three messages of a door under `doord/<site>/door/<door>`: `status` (retained, also the last
will), `state` (retained) and `event`. Only `Granted` has fields for a subject and a distance, so
a denial can name nobody. Events are numbered without gaps and each has the SHA-256 of the bytes
of the one before: what is missing or altered shows (`follow`).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_args

import msgspec
from msgspec import Meta

from edge.errors import PayloadError
from edge.link.stamp import Stamp as Stamp
from edge.link.stamp import rfc3339 as rfc3339
from edge.link.topics import Topics as Topics
from edge.link.vitals import Vitals
from edge.values import ID, Alarm, Attempt, DoorMode, Grant, Quality, Reason

MAX_BYTES = 8192
_MAX_TEXT = 300
_MAX_TEXTS = 10

Utc = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")]  # RFC 3339, ms
EventId = Annotated[
    str, Meta(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")
]
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Natural = Annotated[int, Meta(ge=0, lt=2**53)]  # JSON's exact integers, and SQLite's
Ordinal = Annotated[int, Meta(ge=1, lt=2**53)]
NoticeKind = Literal[
    "CameraFault",
    "CameraRestored",
    "ThrottleRaised",
    "AttackAlarm",
    "DoorFault",
    "DoorForcedOpen",
    "DoorOpenTooLong",
    "DoorOpenPreAlarm",
    "DoorTamper",
    "DoorAlarmCleared",
    "ExitRequested",
    "GalleryApplied",
    "GalleryRefused",
    "CommandObeyed",
    "CommandRefused",
    "AckRefused",
    "EventUnsynced",
    "LedgerDamaged",
    "ConfigReloaded",
    "ConfigRefused",
    "Started",
    "Stopped",
    "UnitRestored",
    "UnitSlow",
]


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base: strict and frozen."""


class Status(_Message, frozen=True):
    """Whether the door can be reached and is armed. As last will: `offline`."""

    state: Literal["online", "offline", "stopped"]
    connected_at: Utc | None
    heartbeat_at: Utc | None
    armed: bool  # face grants possible
    why_not: list[str]
    version: str
    gallery: int | None
    backend: str  # what runs the models
    simulation: bool
    backend_why: str = ""  # why it is not what the configuration wants; empty: it is
    events_lost: Natural = 0  # since the start: the disk took them not, nor was there memory for them
    ledger_fault: str | None = None  # why events are not on disk now, in words
    vitals: Vitals | None = None  # how the unit itself fares


class State(_Message, frozen=True):
    """What the door is."""

    mode: DoorMode
    lock: Literal["locked", "unlocked", "unknown"]
    fault: str | None  # the line's, in words
    gallery: int | None  # version
    gallery_digest: Digest | None
    changed_at: Utc
    last_refusal: Reason | None
    dps: Literal["open", "closed", "unknown"]  # the door position switch
    alarms: Annotated[list[Alarm], Meta(max_length=5)]  # those of now
    subjects: Natural | None = None  # in the gallery in force
    templates: Natural | None = None
    gallery_expires_at: Utc | None = None  # of a site's: until when it is believed without news
    gallery_refusal: str | None = None  # why what was published last is not in force, in words


class Measured(_Message, frozen=True):
    """The quality gate's figures; units as in values.Quality. None: not a number."""

    eye_distance_px: float | None
    sharpness: float | None
    exposure: float | None
    contrast: float | None
    yaw: float | None
    pitch: float | None


class _Event(_Message, frozen=True):
    """What all events have. `seq` 0 and an empty `prev`: not numbered yet."""

    id: EventId
    seq: Ordinal
    prev: Digest
    at: Utc
    model: str
    gallery: int | None  # version
    simulation: bool


class _OfAttempt(_Event, frozen=True):
    """What the events of an attempt have."""

    threshold: float
    margin: float
    quality: Measured | None
    pad: (
        dict[str, float] | None
    )  # layer -> mean score of liveness, larger is more alive; None: no frame scored
    stages_ms: dict[str, float]
    frame_age_ms: float | None  # when it was decided
    frames: Natural
    repeats: Natural  # like attempts before, not reported


class Granted(_OfAttempt, frozen=True):
    """A face, a card or both opened the door."""

    kind: Literal["AccessGranted"]
    subject: Annotated[str, Meta(pattern=ID)]
    distance: float | None  # L2, two decimals; None: a card alone opened the door


class Denied(_OfAttempt, frozen=True):
    """A face, a card or both did not open the door."""

    kind: Literal["AccessDenied"]
    reason: Reason


class Notice(_Event, frozen=True):
    """Something else happened; `detail` says what in words, without names."""

    kind: NoticeKind
    detail: str


class Dropped(_Event, frozen=True):
    """Records that are missing from the door's ledger from here on, and why in words.

    `first` to `last` are their numbers; None: they never got one, since the disk took nothing.
    """

    kind: Literal["EventsDropped"]
    first: Ordinal | None
    last: Ordinal | None
    count: Ordinal
    detail: str


Event: TypeAlias = Granted | Denied | Notice | Dropped


@dataclass(frozen=True, slots=True)
class Setting:
    """What was in force when something happened."""

    threshold: float
    model: str
    gallery: int | None
    simulation: bool


@dataclass(frozen=True, slots=True)
class Gap:
    """What is missing from a ledger; see Dropped."""

    first: int | None
    last: int | None
    count: int
    why: str


def attempt_event(attempt: Attempt, stamp: Stamp, setting: Setting) -> Granted | Denied:
    """The event of a finished attempt, not numbered yet."""
    decision, last = attempt.decision, attempt.last
    quality = last.probe.quality if last.probe else None
    common: dict[str, Any] = {
        **_common(stamp, setting),
        "threshold": setting.threshold,
        "margin": attempt.margin,
        "quality": _measured(quality) if quality else None,
        "pad": {layer: _finite(score, 3) or 0.0 for layer, score in attempt.pad.items()} or None,
        "stages_ms": {stage: _finite(ms, 3) or 0.0 for stage, ms in last.stages_ms.items()},
        "frame_age_ms": _finite((attempt.decided_at - last.taken_at) * 1000, 1),
        "frames": attempt.frames,
        "repeats": attempt.repeats,
    }
    if isinstance(decision, Grant):
        return Granted(
            **common, kind="AccessGranted", subject=decision.subject, distance=_finite(decision.distance, 2)
        )
    return Denied(**common, kind="AccessDenied", reason=decision.reason)


def notice(kind: NoticeKind, detail: str, stamp: Stamp, setting: Setting) -> Notice:
    """Any other event, not numbered yet."""
    return Notice(**_common(stamp, setting), kind=kind, detail=_short(detail))


def dropped(gap: Gap, stamp: Stamp, setting: Setting) -> Dropped:
    """The event that stands for missing ones, not numbered yet."""
    return Dropped(
        **_common(stamp, setting),
        kind="EventsDropped",
        first=gap.first,
        last=gap.last,
        count=gap.count,
        detail=_short(gap.why),
    )


def _common(stamp: Stamp, setting: Setting) -> dict[str, Any]:
    return {
        "id": stamp.id,
        "seq": 0,
        "prev": "",
        "at": stamp.at,
        "model": setting.model,
        "gallery": setting.gallery,
        "simulation": setting.simulation,
    }


def _measured(quality: Quality) -> Measured:
    return Measured(**{name: _finite(getattr(quality, name), 2) for name in Measured.__struct_fields__})


def _finite(number: float | None, digits: int) -> float | None:
    """JSON has no NaN and no infinity."""
    return round(float(number), digits) if number is not None and math.isfinite(number) else None


def _short(text: str) -> str:
    """At most `_MAX_TEXT` bytes of UTF-8: the size limit of a message counts bytes."""
    data = text.encode("utf-8", "replace")
    return data.decode() if len(data) <= _MAX_TEXT else data[: _MAX_TEXT - 3].decode("utf-8", "ignore") + "…"


# The chain


class ChainHead(_Message, frozen=True):
    """The number of the last event and the SHA-256 of its bytes; kept over restarts."""

    seq: Natural
    prev: Digest


GENESIS = ChainHead(seq=0, prev="0" * 64)


def number(event: Event, head: ChainHead) -> tuple[bytes, ChainHead]:
    """The event's bytes as the next of the chain, and the new head. Raises PayloadError."""
    numbered = msgspec.structs.replace(event, seq=head.seq + 1, prev=head.prev)
    payload = encode(numbered)
    return payload, _head_after(numbered, payload)


def follow(payload: bytes, head: ChainHead) -> tuple[Event, ChainHead]:
    """Read the event that comes after `head`.

    Raises:
        PayloadError: no event, or not the next one: something is missing or was altered.
    """
    event = decode_event(payload)
    if (event.seq, event.prev) != (head.seq + 1, head.prev):
        expected, got = f"{head.seq + 1} after {head.prev[:8]}", f"{event.seq} after {event.prev[:8]}"
        raise PayloadError(f"event: expected number {expected}, got {got}")
    return event, _head_after(event, payload)


def _head_after(event: Event, payload: bytes) -> ChainHead:
    return ChainHead(seq=event.seq, prev=hashlib.sha256(payload).hexdigest())


# Codecs


def encode(message: Status | State | Event | ChainHead) -> bytes:
    """JSON; long texts are cut. Raises PayloadError: above MAX_BYTES, or a text that is no Unicode."""
    if isinstance(message, Status):
        why_not = [_short(why) for why in message.why_not[:_MAX_TEXTS]]
        ledger_fault = message.ledger_fault and _short(message.ledger_fault)
        message = msgspec.structs.replace(message, why_not=why_not, ledger_fault=ledger_fault)
    elif isinstance(message, State):
        message = msgspec.structs.replace(
            message,
            fault=message.fault and _short(message.fault),
            gallery_refusal=message.gallery_refusal and _short(message.gallery_refusal),
        )
    try:
        payload = msgspec.json.encode(message)
    except UnicodeEncodeError as error:  # a file name that is none reaches a text as half of a letter
        raise PayloadError(f"{type(message).__name__}: expected Unicode, got {error.reason}") from error
    if len(payload) > MAX_BYTES:
        raise PayloadError(
            f"{type(message).__name__}: expected at most {MAX_BYTES} bytes, got {len(payload)}"
        )
    return payload


def decode_status(payload: bytes) -> Status:
    """Raises PayloadError."""
    return _decode(payload, Status, "status")


def decode_state(payload: bytes) -> State:
    """Raises PayloadError."""
    return _decode(payload, State, "state")


def decode_head(payload: bytes) -> ChainHead:
    """Raises PayloadError."""
    return _decode(payload, ChainHead, "chain head")


class _Kind(msgspec.Struct):
    kind: str


_EVENTS: dict[str, type[Event]] = {
    "AccessGranted": Granted,
    "AccessDenied": Denied,
    "EventsDropped": Dropped,
}  # every other kind is a Notice
KINDS = dict.fromkeys((*_EVENTS, *get_args(NoticeKind))).keys()


def decode_event(payload: bytes) -> Event:
    """Raises PayloadError."""
    return _decode(payload, _EVENTS.get(_decode(payload, _Kind, "event").kind, Notice), "event")


M = TypeVar("M")


def _decode(payload: bytes, to: type[M], what: str) -> M:
    if len(payload) > MAX_BYTES:
        raise PayloadError(f"{what}: expected at most {MAX_BYTES} bytes, got {len(payload)}")
    try:
        return msgspec.json.decode(payload, type=to, strict=True)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise unreadable(what, error) from error


def unreadable(what: str, error: Exception) -> PayloadError:
    """Of bounded length, on one line: the name of an unknown field stands in `error`, whatever it is."""
    return PayloadError(f"{what}: {str(error)[:200].encode('unicode_escape').decode()[:200]}")
