"""What a door keeps for itself of an attempt, for `doord why`: never sent anywhere. Pure.

It names subjects, of a denial too, and how far each was from the probe: sent, that would be an
oracle. No vectors, no names.
"""

from __future__ import annotations

import msgspec

from edge.errors import PayloadError
from edge.link.wire import MAX_BYTES, Denied, Granted, Measured
from edge.values import Attempt, Candidate, Liveness, Match

PERMITTED, NOT_ASKED = "permitted", "not asked"


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base: strict and frozen."""


class Near(_Strict, frozen=True):
    """A subject of the gallery and how far its nearest template was."""

    subject: str
    distance: float  # L2, 0..2, four decimals


class Details(_Strict, frozen=True):
    """How one attempt was decided. Figures are of its last frame that was looked at."""

    best: Near | None  # None: nothing was compared
    runner_up: Near | None  # the nearest other subject
    threshold: float  # L2: the best had to be below
    margin: float  # L2: the other had to be farther by this
    agreeing: int  # of the last `of` frames so many said the same subject,
    needed: int  # and so many had to
    of: int
    right: str  # "permitted", the reason why not, or "not asked"
    quality: Measured | None
    gallery: int | None  # version
    model: str
    frames: int
    stages_ms: dict[str, float]
    frame_age_ms: float | None  # when it was decided
    liveness: Liveness | None = None  # what presentation-attack detection said; None: not judged
    pad: dict[str, float] | None = None  # layer -> mean score, larger is more alive


def details_of(attempt: Attempt, event: Granted | Denied, right: str) -> Details:
    """The details of `event`, which is that attempt's. `right`: what the rights said, see Details."""
    match = attempt.last.match or Match()
    return Details(
        best=_near(match.best),
        runner_up=_near(match.runner_up),
        threshold=event.threshold,
        margin=event.margin,
        agreeing=attempt.votes.agreeing,
        needed=attempt.votes.needed,
        of=attempt.votes.of,
        right=right,
        liveness=attempt.liveness,
        pad=event.pad,
        quality=event.quality,
        gallery=event.gallery,
        model=event.model,
        frames=event.frames,
        stages_ms=event.stages_ms,
        frame_age_ms=event.frame_age_ms,
    )


def _near(candidate: Candidate | None) -> Near | None:
    distance = candidate.distance if candidate else float("nan")
    # JSON has no NaN; a probe that is no vector is near nobody
    return Near(candidate.subject, round(distance, 4)) if candidate and distance == distance else None


def encode_details(details: Details) -> bytes:
    """JSON."""
    return msgspec.json.encode(details)


def decode_details(data: bytes) -> Details:
    """Raises PayloadError: not such details; a newer version's, or altered."""
    if len(data) > MAX_BYTES:
        raise PayloadError(f"details: expected at most {MAX_BYTES} bytes, got {len(data)}")
    try:
        return msgspec.json.decode(data, type=Details)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PayloadError(f"details: {str(error)[:200]}") from None
