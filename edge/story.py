"""Events as lines of the log: what a person reads, and all that the event carries as fields."""

from __future__ import annotations

import logging

from edge.journal import said
from edge.link.wire import Denied, Dropped, Event, Granted

log = logging.getLogger(__name__)

_LEVELS: dict[str, int] = {  # an alarm or a refusal is a warning, a fault an error, the rest info
    "CameraFault": logging.ERROR,
    "DoorFault": logging.ERROR,
    "EventsDropped": logging.ERROR,
    "EventUnsynced": logging.ERROR,
    "LedgerDamaged": logging.ERROR,
    "AckRefused": logging.WARNING,
    "CommandRefused": logging.WARNING,
    "ConfigRefused": logging.WARNING,
    "DoorForcedOpen": logging.WARNING,
    "DoorOpenPreAlarm": logging.WARNING,
    "DoorOpenTooLong": logging.WARNING,
    "DoorTamper": logging.WARNING,
    "GalleryRefused": logging.WARNING,
    "ThrottleRaised": logging.WARNING,
    "AttackAlarm": logging.ERROR,
    "UnitSlow": logging.WARNING,
}
_FIELDS = (
    "reason",
    "subject",
    "distance",
    "threshold",
    "margin",
    "first",
    "last",
    "count",
    "frames",
    "repeats",
    "frame_age_ms",
    "detail",
    "model",
    "gallery",
    "simulation",
    "at",
)


def tell(event: Event, seq: int | None = None) -> None:
    """Write an event to the log; `seq`: its number in the chain, once it has one."""
    fields = {name.upper(): getattr(event, name, None) for name in _FIELDS}
    reason = getattr(event, "reason", None)
    fields["REASON"] = None if reason is None else reason.value
    log.log(
        _LEVELS.get(event.kind, logging.INFO),
        "%s",
        line(event),
        extra=said(event.kind, EVENT_ID=event.id, SEQ=seq, **fields),
    )


def line(event: Event) -> str:
    """The event in words; a denial names nobody."""
    if isinstance(event, Granted):
        by = "by card" if event.distance is None else f"distance {event.distance:.2f}"
        return f"{event.kind}: {event.subject}, {by}, {_seen(event)}"
    if isinstance(event, Denied):
        before = f", {event.repeats} like it before" if event.repeats else ""
        return f"{event.kind}: {event.reason.value}, {_seen(event)}{before}"
    if isinstance(event, Dropped):
        numbers = "" if event.first is None else f", {event.first} to {event.last}"
        return f"{event.kind}: {event.count} records{numbers}: {event.detail}"
    return f"{event.kind}: {event.detail}"


def _seen(event: Granted | Denied) -> str:
    late = "" if event.frame_age_ms is None else f", decided {event.frame_age_ms:.0f} ms after the last"
    return f"{event.frames} frames{late}" if event.frames else "no frame compared"
