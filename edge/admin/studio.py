"""Where people are enrolled one after another, each compared with all who are there by then."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.admin import people, photos
from edge.admin.checks import Crowd
from edge.admin.model import Person
from edge.admin.photos import Looker, Portrait, Seen
from edge.admin.records import Records
from edge.errors import ModelMismatch


class Studio:
    """Looks with a door's pipeline, and keeps what it finds in the records."""

    def __init__(self, records: Records, look: Looker, model: str) -> None:
        """Raises ModelMismatch: `model` is not the site's. AdminError: a template is damaged."""
        self._records = records
        self._look = look
        self._site = records.site()
        if self._site.model != model:
            raise ModelMismatch(f"site {self._site.site}: expected models of {self._site.model}, got {model}")
        everybody = (person for _, person in records.each(Person))
        self._crowd = Crowd(people.population_of(self._site, everybody), self._site.dimension)

    def look_at_file(self, name: str, data: bytes) -> Seen:
        """One photograph. Raises ModelError."""
        return photos.look_at_file(name, data, self._look, self._site.model)

    def look_at(self, name: str, pixels: NDArray[np.uint8]) -> Seen:
        """One (H, W, 3) RGB picture of a camera. Raises ModelError."""
        return photos.look_at(name, pixels, self._look, self._site.model)

    def enrol(
        self, subject: str, seen: Iterable[Seen], now_utc: str, lookalike_allowed: bool, keep: bool = True
    ) -> Portrait:
        """Make a person's templates of photographs; unless `keep`, only say what they would be.

        Raises:
            AdminError: nobody of that id.
            EnrolmentError, LooksLikeAnother: as `photos.portrait`; nothing was changed.
        """
        person = people.find(self._records, subject)
        site = self._site
        done = photos.portrait(
            subject,
            person.templates,
            seen,
            self._crowd,
            site.model,
            site.dimension,
            now_utc,
            lookalike_allowed,
        )
        if keep:
            new = msgspec.structs.replace(person, templates=list(done.templates))
            self._records.put(subject, new)
        self._crowd.put(subject, done.vectors)  # also where it is only tried: the next may look alike
        return done
