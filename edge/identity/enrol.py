"""Enrolment: photographs of one person become templates, all of them or none.

What would poison a gallery is refused here, each with its own error: no face, several faces, a
face the door's gate would refuse, a photograph enrolled before, a face that is another subject's,
photographs that are not of one person.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.errors import (
    EnrolmentError,
    LooksLikeAnother,
    LowQuality,
    ManyFaces,
    ModelMismatch,
    NoFace,
)
from edge.identity.gallery import check_subject
from edge.identity.likeness import Vector, advice, refuse_known_photos, refuse_strangers
from edge.identity.match import distances, expected_fpir
from edge.ports import GalleryStore
from edge.values import DISTANCE_CEILING, Gallery, Probe, Template
from edge.vision.pipeline import Look

Picture = tuple[str, NDArray[np.uint8]]  # a name for messages, (H, W, 3) RGB

RIVAL_WIDTH = 0.5
"""A second face counts from half the width of the widest: it is then less than twice as far away.
Smaller ones are passers-by in the background."""


@dataclass(frozen=True, slots=True)
class EnrolmentReport:
    """What an enrolment did."""

    subject: str
    added: int
    total: int  # templates of this subject now
    gallery_size: int  # templates of all subjects now
    version: int
    expected_fpir: float | None  # of one search among gallery_size; None: the model's FMR is unknown
    warnings: tuple[str, ...] = ()


def accepted(name: str, seen: Look, model: str) -> Probe:
    """The probe of the one face in a picture that was looked at; `name` is for messages.

    Raises:
        NoFace, ManyFaces, LowQuality: as named.
        ModelMismatch: looked at with another embedder than `model`.
    """
    if not seen.faces:
        raise NoFace(f"{name}: no face found")
    widest = max(face.box[2] for face in seen.faces)
    rivals = [face for face in seen.faces if face.box[2] >= RIVAL_WIDTH * widest]
    if len(rivals) > 1:
        raise ManyFaces(f"{name}: expected one face, got {len(rivals)} of like size: crop the picture")
    if seen.probe is None:
        raise LowQuality(f"{name}: {seen.shortcoming or 'not good enough'}")
    if seen.probe.model != model:
        raise ModelMismatch(f"{name}: expected a probe of {model}, got one of {seen.probe.model}")
    return seen.probe


@dataclass(frozen=True)
class Enroller:
    """Looks with the door's own pipeline, so that a template is at least as good as a probe.

    `fmr` is the embedder's false match rate of one comparison at the ceiling, if measured.
    """

    look: Callable[[NDArray[np.uint8]], Look]
    store: GalleryStore
    model: str
    dimension: int
    threshold: float = DISTANCE_CEILING  # L2
    fmr: float | None = None
    max_fpir: float = 1e-3

    def enrol(
        self, subject: str, pictures: Iterable[Picture], now_utc: str, force_lookalike: bool = False
    ) -> EnrolmentReport:
        """Enrol photographs of one person.

        Args:
            subject: the id, `[a-z0-9-]{1,32}`.
            pictures: names and (H, W, 3) RGB pictures.
            now_utc: RFC 3339.
            force_lookalike: enrol a face like another subject's all the same (twins), with a warning.

        Raises:
            NoFace, ManyFaces, LowQuality, AlreadyEnrolled, LooksLikeAnother, EnrolmentError: as
                named; the gallery is unchanged.
            GalleryError: the subject id is malformed, or the gallery can't be read or written.
            ModelError: the models failed.
        """
        check_subject(subject)
        looked = [(name, accepted(name, self.look(p), self.model)) for name, p in pictures]  # one in memory
        if not looked:
            raise EnrolmentError(f"subject {subject}: expected at least one picture, got none")
        names, vectors = [name for name, _ in looked], [probe.vector for _, probe in looked]
        gallery = self.store.load(self.model, self.dimension)
        own = _own(gallery, subject)
        refuse_known_photos(subject, names, vectors, own)
        warnings = self._lookalikes(subject, names, vectors, gallery, force_lookalike)
        refuse_strangers(subject, names, vectors, own)
        self.refuse_too_many(len(gallery) + len(vectors))
        rows = [Template(subject, vector, self.model, now_utc) for vector in vectors]
        version = self.store.add(rows, if_version=gallery.version)
        return self._report(subject, gallery, own + vectors, len(rows), version, warnings)

    def _lookalikes(
        self, subject: str, names: Sequence[str], vectors: Sequence[Vector], gallery: Gallery, force: bool
    ) -> list[str]:
        """Refuse, or with `force` warn of, faces nearer to another subject than the threshold."""
        foreign = np.array([other != subject for other in gallery.subjects], bool)[gallery.owners]
        found: list[str] = []
        for name, vector in zip(names, vectors, strict=True):
            away = np.where(foreign, distances(vector, gallery.templates), np.float32(np.inf))
            if not len(away) or away.min() >= self._limit:
                continue
            other = gallery.subjects[int(gallery.owners[int(away.argmin())])]
            words = (
                f"{name}: looks like subject {other} (distance {away.min():.2f}, expected >= {self._limit:g})"
            )
            if not force:
                raise LooksLikeAnother(f"{words}; if they are two people: --force-lookalike")
            found.append(f"{words}: the door may refuse both as Ambiguous, or open for one as the other")
        return found

    def refuse_too_many(self, templates: int) -> None:
        """One template too many would disarm the door for everybody. Raises EnrolmentError."""
        fpir = None if self.fmr is None else expected_fpir(self.fmr, templates)
        if fpir is not None and not fpir <= self.max_fpir:
            raise EnrolmentError(
                f"{templates} templates: expected FPIR {fpir:.1e} is above decision.max_fpir "
                f"{self.max_fpir:.1e}, and no face would open any more: use card + face, remove "
                "templates, or name who accepts it in decision.fpir_accepted_by"
            )

    @property
    def _limit(self) -> float:
        return min(self.threshold, DISTANCE_CEILING)

    def _report(
        self,
        subject: str,
        before: Gallery,
        own: Sequence[Vector],
        added: int,
        version: int,
        warnings: Sequence[str],
    ) -> EnrolmentReport:
        size = len(before) + added
        fpir = None if self.fmr is None else expected_fpir(self.fmr, size)
        notes = [*warnings, *advice(own, self._limit)]
        return EnrolmentReport(subject, added, len(own), size, version, fpir, tuple(notes))


def _own(gallery: Gallery, subject: str) -> list[Vector]:
    """The subject's vectors in the gallery."""
    if subject not in gallery.subjects:
        return []
    return list(gallery.templates[gallery.owners == gallery.subjects.index(subject)])
