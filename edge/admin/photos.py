"""From photographs to a person's templates: each is looked at as the door would, and judged in words.

A photograph that is not good enough is left out, with its reason. A person is enrolled from those
that are left, or not at all: when they are not of one person nobody can tell which to believe.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from edge.admin.checks import MOST_TEMPLATES, Crowd, Lookalike, spread, stored_vector, vectors_of
from edge.admin.model import PersonTemplate
from edge.errors import AlreadyEnrolled, EnrolmentError, ImageError, LooksLikeAnother
from edge.identity.enrol import accepted
from edge.identity.likeness import Vector, advice, refuse_known_photos, refuse_strangers
from edge.values import DISTANCE_CEILING
from edge.vision.pictures import decode_picture
from edge.vision.pipeline import Look

Looker = Callable[[NDArray[np.uint8]], Look]


@dataclass(frozen=True, slots=True)
class Seen:
    """One photograph that was looked at."""

    name: str
    photo: str  # SHA-256 of the file, hex; "": from a camera
    quality: dict[str, float]  # the gate's figures, units as in values.Quality; empty: no face
    vector: Vector | None
    reason: str = ""  # why it is of no use
    known: bool = False  # that is: there already


@dataclass(frozen=True, slots=True)
class PhotoReport:
    """What became of a photograph."""

    name: str
    used: bool
    reason: str  # why not
    quality: dict[str, float]


@dataclass(frozen=True, slots=True)
class Portrait:
    """What a person's photographs came to."""

    subject: str
    templates: tuple[PersonTemplate, ...]  # all that the person has now
    vectors: NDArray[np.float32]  # (n, D), the same
    photos: tuple[PhotoReport, ...]
    warnings: tuple[str, ...]
    looks_like: Lookalike | None = None  # somebody else, nearer than the threshold


def look_at_file(name: str, data: bytes, look: Looker, model: str) -> Seen:
    """Look at a picture file. Raises ModelError, ModelMismatch; all else is the photograph's reason."""
    photo = hashlib.sha256(data).hexdigest()
    try:
        pixels = decode_picture(data, name)
    except ImageError as error:
        return Seen(name, photo, {}, None, _reason(name, error))
    return look_at(name, pixels, look, model, photo)


def look_at(name: str, pixels: NDArray[np.uint8], look: Looker, model: str, photo: str = "") -> Seen:
    """Look at an (H, W, 3) RGB picture. Raises ModelError, ModelMismatch."""
    seen = look(pixels)
    figures = {key: round(value, 3) for key, value in asdict(seen.quality).items()} if seen.quality else {}
    try:
        probe = accepted(name, seen, model)
    except EnrolmentError as error:
        return Seen(name, photo, figures, None, _reason(name, error))
    return Seen(name, photo, figures, probe.vector)


def _reason(name: str, error: Exception) -> str:
    return str(error).removeprefix(f"{name}: ")


def portrait(
    subject: str,
    own: Sequence[PersonTemplate],
    seen: Iterable[Seen],
    crowd: Crowd,
    model: str,
    dimension: int,
    now_utc: str,
    lookalike_allowed: bool = False,
    most: int = MOST_TEMPLATES,
) -> Portrait:
    """The templates of a person: of those there were and the new ones at most `most`, far apart.

    Raises:
        EnrolmentError: no photograph is of use, or they are not of one person.
        AlreadyEnrolled: every one of them was enrolled before.
        LooksLikeAnother: of somebody in the crowd, unless `lookalike_allowed`.
        AdminError: a template there was is none.
    """
    kept = [template for template in own if template.model == model]
    known = list(vectors_of(kept, dimension, f"person {subject}"))
    looks = _new_ones(subject, seen, known)
    good = _usable(subject, looks)
    new = [vector for _, vector in good]
    refuse_strangers(subject, [one.name for one, _ in good], new, known)
    everything = np.stack([*known, *new])
    twin = crowd.nearest(subject, np.stack(new))
    if twin is not None and not lookalike_allowed:
        raise LooksLikeAnother(f"person {subject}: {twin.words}")
    chosen = spread(everything, most)
    rows = [
        *kept,
        *(PersonTemplate(stored_vector(v), model, now_utc, one.photo, one.quality) for one, v in good),
    ]
    dropped = {one.name for i, (one, _) in enumerate(good, start=len(kept)) if i not in chosen}
    vectors = everything[chosen]
    return Portrait(
        subject,
        tuple(rows[i] for i in chosen),
        vectors,
        tuple(_report(one, dropped, most) for one in looks),
        (*_replaced(own, kept, model), *advice(list(vectors), DISTANCE_CEILING)),
        twin,
    )


def _usable(subject: str, looks: Sequence[Seen]) -> list[tuple[Seen, Vector]]:
    """Those with a vector. Raises EnrolmentError, AlreadyEnrolled: none has."""
    good = [(one, one.vector) for one in looks if one.vector is not None]
    if good:
        return good
    if looks and all(one.known for one in looks):
        raise AlreadyEnrolled(f"person {subject}: nothing new: every photograph is enrolled already")
    reasons = "; ".join(f"{one.name}: {one.reason}" for one in looks) or "none was given"
    raise EnrolmentError(f"person {subject}: expected a photograph that can be used, got {reasons}")


def _new_ones(subject: str, seen: Iterable[Seen], known: Sequence[Vector]) -> list[Seen]:
    """Each photograph, without its vector where the file or the picture is there already."""
    files: dict[str, str] = {}
    so_far = list(known)
    looks = []
    for one in seen:
        first = files.setdefault(one.photo, one.name) if one.photo else one.name
        if first != one.name:
            looks.append(_without(one, f"the same file as {first}"))
        elif one.vector is None:
            looks.append(one)
        else:
            looks.append(_unless_known(subject, one, one.vector, so_far))
    return looks


def _unless_known(subject: str, one: Seen, vector: Vector, so_far: list[Vector]) -> Seen:
    try:
        refuse_known_photos(subject, [one.name], [vector], so_far)
    except AlreadyEnrolled as error:
        return _without(one, _reason(one.name, error))
    so_far.append(vector)
    return one


def _without(one: Seen, reason: str) -> Seen:
    return Seen(one.name, one.photo, one.quality, None, reason, known=True)


def _report(one: Seen, dropped: set[str], most: int) -> PhotoReport:
    reason = one.reason
    if one.name in dropped:
        reason = f"good, but not among the {most} that lie farthest apart"
    return PhotoReport(one.name, not reason, reason, one.quality)


def _replaced(own: Sequence[PersonTemplate], kept: Sequence[PersonTemplate], model: str) -> list[str]:
    gone = len(own) - len(kept)
    return [f"{gone} templates of another model than {model} were replaced"] if gone else []
