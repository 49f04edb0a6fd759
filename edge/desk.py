"""The gallery desk: what an admin can do with a standalone door's gallery.

One protocol, two siblings: `LocalDesk` works on the files, `control.RemoteDesk` asks the running
daemon, which has a `LocalDesk` of its own. So a command does the same either way.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from typing import Literal, NoReturn, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.errors import EnrolmentError, GalleryError
from edge.identity.cards import CardFile
from edge.identity.credentials import Cards, Credential
from edge.identity.enrol import Enroller, EnrolmentReport
from edge.identity.gallery import check_subject
from edge.identity.store import SqliteGallery
from edge.identity.transfer import export_gallery, import_gallery, merge
from edge.link.wire import rfc3339
from edge.values import Gallery
from edge.vision.pictures import decode_picture

log = logging.getLogger(__name__)

CAMERA_PICTURES = 5
_APART_S = 0.4  # between two pictures of a sitting: a face moves meanwhile
_SITTING_S = 15.0

CardChange = Literal["remove", "enable", "disable"]
TakePictures = Callable[[int, float, float, Callable[[], bool]], list[NDArray[np.uint8]]]


class SubjectRow(msgspec.Struct, frozen=True):
    """One subject of the gallery."""

    subject: str
    templates: int
    model: str
    first_enrolled_at_utc: str


class CardRow(msgspec.Struct, frozen=True):
    """One card that was given out; `id` tells nothing of its number."""

    id: str
    subject: str
    enabled: bool
    expires_at_utc: str | None  # RFC 3339

    @classmethod
    def of(cls, card: Credential) -> CardRow:
        """What may be told of a card."""
        at = card.expires_at_utc
        return cls(card.id, card.subject, card.enabled, None if at is None else f"{at:%Y-%m-%dT%H:%M:%SZ}")


class Desk(Protocol):
    """What `doord enrol`, `doord gallery` and `doord card` call."""

    def enrol(
        self, subject: str, photos: Sequence[tuple[str, bytes]], force_lookalike: bool
    ) -> EnrolmentReport:
        """Enrol picture files (name, content). Raises EnrolmentError, ImageError, GalleryError."""

    def enrol_camera(
        self, subject: str, force_lookalike: bool, wanted: Callable[[], bool] = lambda: True
    ) -> EnrolmentReport:
        """Enrol from the door's camera, as long as it is `wanted`.

        Raises:
            EnrolmentError, GalleryError: nobody was enrolled.
        """

    def subjects(self) -> list[SubjectRow]:
        """Who is enrolled. Raises GalleryError."""

    def remove(self, subject: str) -> int:
        """Forget a subject; how many templates went. Raises GalleryError."""

    def export(self, passphrase: str | None) -> bytes:
        """The gallery as a file, encrypted with a passphrase unless None. Raises GalleryError."""

    def import_(self, data: bytes, passphrase: str | None) -> int:
        """Add the templates of an exported file; how many were new. Raises GalleryError."""

    def cards(self) -> list[CardRow]:
        """Which cards were given out. Raises GalleryError."""

    def add_card(self, subject: str, card: str, enabled: bool, expires_at: int | None) -> CardRow:
        """Give a card (its `card_text`) to a subject; `expires_at`: s since 1970.

        Raises:
            GalleryError: no subject id, or the file can't be written. CardError: too many.
        """

    def change_card(self, card_id: str, change: CardChange) -> CardRow:
        """Remove, enable or disable a card. Raises CardError: not there; GalleryError."""


class LocalDesk:
    """The desk over the gallery's files; `changed` is called after every change."""

    def __init__(
        self,
        store: SqliteGallery,
        enroller: Enroller | None,
        take_pictures: TakePictures | None = None,
        changed: Callable[[], None] = lambda: None,
        card_file: CardFile | None = None,
    ) -> None:
        """`enroller` is None when no model runs, `take_pictures` when there is no camera."""
        self._card_file = card_file
        self._store = store
        self._enroller = enroller
        self._take_pictures = take_pictures
        self._changed = changed

    def enrol(
        self, subject: str, photos: Sequence[tuple[str, bytes]], force_lookalike: bool
    ) -> EnrolmentReport:
        """See Desk."""
        return self._enrol(subject, ((n, decode_picture(d, n)) for n, d in photos), force_lookalike)

    def enrol_camera(
        self, subject: str, force_lookalike: bool, wanted: Callable[[], bool] = lambda: True
    ) -> EnrolmentReport:
        """See Desk."""
        check_subject(subject)
        if self._take_pictures is None:
            raise EnrolmentError("no camera to enrol from")
        taken = self._take_pictures(CAMERA_PICTURES, _APART_S, _SITTING_S, wanted)
        if not wanted():  # else the next who passes by would be enrolled under this id
            raise EnrolmentError(f"subject {subject}: the sitting was given up")
        if len(taken) < CAMERA_PICTURES:
            raise EnrolmentError(
                f"expected {CAMERA_PICTURES} good pictures within {_SITTING_S:g} s, got {len(taken)}: "
                "one person, near the camera, facing it, in good light"
            )
        return self._enrol(subject, [(f"picture {i + 1}", p) for i, p in enumerate(taken)], force_lookalike)

    def _enrol(
        self, subject: str, pictures: Iterable[tuple[str, NDArray[np.uint8]]], force_lookalike: bool
    ) -> EnrolmentReport:
        if self._enroller is None:
            raise EnrolmentError("no model runs here, so nobody can be enrolled: see doord doctor")
        report = self._enroller.enrol(subject, pictures, rfc3339(time.time()), force_lookalike)
        log.info("gallery: %d templates of %s enrolled", report.added, subject)
        self._changed()
        return report

    def subjects(self) -> list[SubjectRow]:
        """See Desk."""
        found: dict[tuple[str, str], list[str]] = {}
        for row in self._store.all():
            found.setdefault((row.subject, row.model), []).append(row.enrolled_at_utc)
        return [SubjectRow(s, len(at), m, min(at)) for (s, m), at in sorted(found.items())]

    def remove(self, subject: str) -> int:
        """See Desk."""
        gone = self._store.remove(subject)
        log.info("gallery: %d templates of %s removed", gone, subject)
        self._changed()
        return gone

    def export(self, passphrase: str | None) -> bytes:
        """See Desk."""
        log.info("gallery: exported %s", "in plain text" if passphrase is None else "encrypted")
        return export_gallery(self._store.all(), passphrase)

    def import_(self, data: bytes, passphrase: str | None) -> int:
        """See Desk. A template that is here already is not added twice."""
        if self._enroller is None:
            raise GalleryError("no model runs here, so nothing can be imported: see doord doctor")
        model, dimension = self._enroller.model, self._enroller.dimension
        here = self._store.all()
        new = merge(here, import_gallery(data, passphrase), model, dimension)
        self._enroller.refuse_too_many(len(here) + len(new))
        self._store.add(new)
        log.info("gallery: %d templates imported", len(new))
        self._changed()
        return len(new)

    def cards(self) -> list[CardRow]:
        """See Desk."""
        return _card_rows(self._cards().load())

    def add_card(self, subject: str, card: str, enabled: bool, expires_at: int | None) -> CardRow:
        """See Desk."""
        check_subject(subject)
        expires = None if expires_at is None else datetime.fromtimestamp(expires_at, timezone.utc)
        made = self._cards().add(card, subject, enabled, expires)
        self._changed()
        return CardRow.of(made)

    def change_card(self, card_id: str, change: CardChange) -> CardRow:
        """See Desk."""
        cards = self._cards()
        done = cards.remove(card_id) if change == "remove" else cards.enable(card_id, change == "enable")
        self._changed()
        return CardRow.of(done)

    def _cards(self) -> CardFile:
        if self._card_file is None:
            raise GalleryError("no cards are kept here: see doord doctor")
        return self._card_file


class JoinedDesk:
    """The desk of a door that is part of a site: it tells who is in force and changes nothing."""

    def __init__(
        self, site: str, gallery: Callable[[], Gallery | None], cards: Callable[[], Cards | None]
    ) -> None:
        """`gallery`, `cards`: what is in force now."""
        self._site = site
        self._gallery = gallery
        self._cards = cards

    def subjects(self) -> list[SubjectRow]:
        """See Desk. When a template was enrolled is known to the site alone."""
        gallery = self._gallery()
        if gallery is None:
            raise GalleryError("nothing of the site is in force yet: see doord status")
        counts = np.bincount(gallery.owners, minlength=len(gallery.subjects))
        return [
            SubjectRow(subject, int(count), gallery.model, "")
            for subject, count in zip(gallery.subjects, counts, strict=True)
        ]

    def cards(self) -> list[CardRow]:
        """See Desk."""
        return _card_rows(self._cards() or Cards())

    def _refuse(self, *_arguments: object, **_named: object) -> NoReturn:
        """Every change. Raises GalleryError."""
        raise GalleryError(f"this door is part of site {self._site}: change it there, with doord admin")

    enrol = enrol_camera = remove = export = import_ = add_card = change_card = _refuse


def _card_rows(cards: Cards) -> list[CardRow]:
    rows = [CardRow.of(card) for card in cards.by_digest.values()]
    return sorted(rows, key=lambda row: (row.subject, row.id))
