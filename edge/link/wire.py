"""The wire contract: topics, messages, codecs, size limit. Pure.

Three messages of a door under `doord/<site>/door/<door>`: `status` (retained, also the last
will), `state` (retained) and `event`. Only `Granted` has fields for a subject and a distance, so
a denial can name nobody. Events are numbered without gaps and each has the SHA-256 of the bytes
of the one before: what is missing or altered shows (`follow`).
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from edge.errors import PayloadError
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
Natural = Annotated[int, Meta(ge=0)]
NoticeKind = Literal[
    "CameraFault",
    "CameraRestored",
    "ThrottleRaised",
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
    "Started",
    "Stopped",
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
    seq: Annotated[int, Meta(ge=1)]
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
    pad: float | None
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


Event: TypeAlias = Granted | Denied | Notice


@dataclass(frozen=True, slots=True)
class Topics:
    """The door's topics. Raises PayloadError when an id could be a wildcard or a level."""

    site: str
    door: str

    def __post_init__(self) -> None:
        for name in (self.site, self.door):
            if not re.match(ID, name):
                raise PayloadError(f"topic: expected 1 to 32 of a-z, 0-9 and -, got {name!r}")

    @property
    def base(self) -> str:
        """`doord/<site>/door/<door>`."""
        return f"doord/{self.site}/door/{self.door}"

    @property
    def status(self) -> str:
        """Retained Status."""
        return f"{self.base}/status"

    @property
    def state(self) -> str:
        """Retained State."""
        return f"{self.base}/state"

    @property
    def attestation(self) -> str:
        """Retained; signed by a joined door (`orders.Attestation`)."""
        return f"{self.base}/attestation"

    @property
    def event(self) -> str:
        """One Event each."""
        return f"{self.base}/event"

    @property
    def command(self) -> str:
        """Signed commands to the door, never retained."""
        return f"{self.base}/command"

    @property
    def reply(self) -> str:
        """The door's signed replies to them, never retained."""
        return f"{self.base}/reply"

    @property
    def fence(self) -> str:
        """The door's own echo: behind all that the broker sent before it."""
        return f"{self.base}/fence"

    @property
    def gallery(self) -> str:
        """The root of the site's signed tree; retained below it."""
        return f"doord/{self.site}/gallery"


@dataclass(frozen=True, slots=True)
class Stamp:
    """An event's identity: UUIDv7 and time."""

    id: str
    at: str

    @classmethod
    def of(cls, unix_s: float, random: bytes) -> Stamp:
        """From UTC seconds and 10 random bytes."""
        return cls(uuid7(int(unix_s * 1000), random), rfc3339(unix_s))


def uuid7(unix_ms: int, random: bytes) -> str:
    """A UUID version 7 (RFC 9562, section 5.7) from UTC milliseconds and 10 random bytes."""
    noise = int.from_bytes(random[:10], "big")
    value = (unix_ms & (1 << 48) - 1) << 80 | 0x7 << 76 | (noise >> 64 & 0xFFF) << 64
    value |= 0b10 << 62 | noise & (1 << 62) - 1
    text = f"{value:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def rfc3339(unix_s: float) -> str:
    """UTC seconds as `2026-01-31T12:00:00.000Z`."""
    at = datetime.fromtimestamp(int(unix_s * 1000) / 1000, timezone.utc)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Setting:
    """What was in force when something happened."""

    threshold: float
    model: str
    gallery: int | None
    simulation: bool


def attempt_event(attempt: Attempt, stamp: Stamp, setting: Setting) -> Granted | Denied:
    """The event of a finished attempt, not numbered yet."""
    decision, last = attempt.decision, attempt.last
    quality = last.probe.quality if last.probe else None
    common: dict[str, Any] = {
        **_common(stamp, setting),
        "threshold": setting.threshold,
        "margin": attempt.margin,
        "quality": _measured(quality) if quality else None,
        "pad": _finite(last.probe.pad_score if last.probe else None, 3),
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
    return text if len(data) <= _MAX_TEXT else data[: _MAX_TEXT - 3].decode("utf-8", "ignore") + "…"


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
    """JSON; long texts are cut. Raises PayloadError above MAX_BYTES."""
    if isinstance(message, Status):
        why_not = [_short(why) for why in message.why_not[:_MAX_TEXTS]]
        message = msgspec.structs.replace(message, why_not=why_not)
    elif isinstance(message, State):
        message = msgspec.structs.replace(
            message,
            fault=message.fault and _short(message.fault),
            gallery_refusal=message.gallery_refusal and _short(message.gallery_refusal),
        )
    payload = msgspec.json.encode(message)
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


def decode_event(payload: bytes) -> Event:
    """Raises PayloadError."""
    kind = _decode(payload, _Kind, "event").kind
    if kind == "AccessGranted":
        return _decode(payload, Granted, "event")
    if kind == "AccessDenied":
        return _decode(payload, Denied, "event")
    return _decode(payload, Notice, "event")


M = TypeVar("M")


def _decode(payload: bytes, to: type[M], what: str) -> M:
    if len(payload) > MAX_BYTES:
        raise PayloadError(f"{what}: expected at most {MAX_BYTES} bytes, got {len(payload)}")
    try:
        return msgspec.json.decode(payload, type=to, strict=True)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PayloadError(f"{what}: {error}") from error
