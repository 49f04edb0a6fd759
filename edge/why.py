"""One event in plain words: what was decided, and why. Pure.

On the door the details of the decision are there too; elsewhere only what the event carries, which
of a denial is no distance and nobody's name.
"""

from __future__ import annotations

from collections.abc import Callable

from edge.link.details import NOT_ASKED, PERMITTED, Details
from edge.link.wire import Denied, Dropped, Event, Granted, Notice
from edge.log_view import printable
from edge.values import Reason

_OF_REASON: dict[Reason, str] = {
    Reason.NO_MATCH: "nobody who is enrolled was near enough",
    Reason.AMBIGUOUS: "two people were almost equally near",
    Reason.LOW_QUALITY: "too few frames were good enough to compare, or to say whether it is alive",
    Reason.STALE_FRAME: "the picture was too old when it was decided, or when the door was asked",
    Reason.WRONG_MODEL: "the probe was made by another model than the gallery",
    Reason.FACE_NOT_CARDS: "the face was not that of the card's owner",
    Reason.NO_FACE_IN_TIME: "a card was shown, and no face in time",
    Reason.ATTACK_SUSPECTED: "it may have been a picture or a mask",
    Reason.THROTTLED: "too many attempts were refused before; wait",
    Reason.CLOCK_NOT_TRUSTED: "the right depends on the time, and the clock is not trusted",
    Reason.GALLERY_EXPIRED: "the site has not been heard of for too long",
    Reason.CAMERA_FAULT: "the camera could not be trusted",
    Reason.CREDENTIAL_NOT_ENABLED: "the card or the person is disabled",
    Reason.CREDENTIAL_NOT_ACTIVE: "the right has not begun yet",
    Reason.CREDENTIAL_EXPIRED: "the right is over",
    Reason.NOT_PERMITTED_AT_THIS_TIME: "not at this time: outside the schedule",
    Reason.UNAUTHORIZED: "no right to enter here",
    Reason.OTHER: (
        "the door did not follow: locked down, blocked, or a fault; or nothing could say whether it is alive "
        "(`doord status`, `doord log show`)"
    ),
}
_OF_RIGHT = {PERMITTED: "permitted", NOT_ASKED: "not asked: it did not come so far"}


def explain(event: Event, details: Details | None = None) -> list[str]:
    """Lines of plain words. `details`: what only the door has; None: elsewhere, or not of an attempt."""
    head = f"{event.at}  event {event.seq}, {event.id}"
    if isinstance(event, Notice):
        return [head, f"{event.kind}: {printable(event.detail)}"]
    if isinstance(event, Dropped):
        span = f"{event.first} to {event.last}" if event.first else "without numbers"
        return [head, f"EventsDropped: {event.count}, {span}: {printable(event.detail)}"]
    lines = [head, _verdict(event), *_asked(event)]
    if details is None:
        return lines + ["the rest stays on the door: `doord why` there tells distances and votes"]
    return lines + [line for part in _PARTS if (line := part(details))]


def _verdict(event: Granted | Denied) -> str:
    if isinstance(event, Denied):
        return f"refused, {event.reason.value}: {_OF_REASON[event.reason]}"
    if event.distance is None:
        return f"granted: {event.subject}, by card"
    needed = f"where less than {event.threshold:.2f} was needed"
    return f"granted: {event.subject}, {event.distance:.2f} away {needed}"


def _asked(event: Granted | Denied) -> list[str]:
    more = f"; {event.repeats} attempts like it before were folded into this one" if event.repeats else ""
    age = (
        ""
        if event.frame_age_ms is None
        else f", decided {event.frame_age_ms:.0f} ms after the last was taken"
    )
    kind = ", simulation" if event.simulation else ""
    return [f"frames {event.frames}{age}{more}{kind}"]


def _nearest(details: Details) -> str:
    best = details.best
    if best is None:
        return "nothing was compared"
    verdict = "near enough" if best.distance < details.threshold else "too far"
    is_close = abs(best.distance - details.threshold) < 0.01  # two decimals would hide which side it is on
    distance, needed = (f"{value:.{4 if is_close else 2}f}" for value in (best.distance, details.threshold))
    return f"nearest: {best.subject} at {distance}, less than {needed} is needed: {verdict}"


def _runner_up(details: Details) -> str:
    best, other = details.best, details.runner_up
    if best is None or other is None:
        return "" if best is None else "next: nobody else is enrolled"
    gap = other.distance - best.distance
    verdict = "clear" if gap >= details.margin else "too close to tell them apart"
    needed = f"{details.margin:.2f} is needed: {verdict}"
    return f"next: {other.subject} at {other.distance:.2f}, {gap:.2f} farther, {needed}"


def _votes(details: Details) -> str:
    return (
        f"votes: {details.agreeing} of {details.of} frames agreed, {details.needed} are needed"
        if details.of
        else ""
    )


def _right(details: Details) -> str:
    return f"rights: {_OF_RIGHT.get(details.right, details.right)}"


def _liveness(details: Details) -> str:
    if not details.pad:
        return ""
    scores = ", ".join(f"{layer} {score:g}" for layer, score in details.pad.items())
    return f"alive: {details.liveness.value if details.liveness else 'not judged'} ({scores})"


def _quality(details: Details) -> str:
    if details.quality is None:
        return ""
    figures = ((name, getattr(details.quality, name)) for name in details.quality.__struct_fields__)
    return "quality: " + ", ".join(f"{name} {value:g}" for name, value in figures if value is not None)


def _stages(details: Details) -> str:
    return (
        "ms: " + ", ".join(f"{stage} {ms:.1f}" for stage, ms in details.stages_ms.items())
        if details.stages_ms
        else ""
    )


def _setting(details: Details) -> str:
    return f"gallery {details.gallery if details.gallery is not None else '-'}, model {details.model or '-'}"


_PARTS: tuple[Callable[[Details], str], ...] = (
    _nearest,
    _runner_up,
    _votes,
    _right,
    _liveness,
    _quality,
    _stages,
    _setting,
)
