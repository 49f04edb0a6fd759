"""From templates to the arrays a search needs. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from edge.errors import GalleryError, ModelMismatch
from edge.identity.match import UNIT_TOLERANCE
from edge.values import ID, Gallery, Template, read_only

MAX_TEMPLATES = 64_000
"""The largest gallery a search was measured with."""
MAX_STORED = 20_000
"""The most that a door without a site keeps: what one exported file can hold."""
MAX_DIMENSION = 4096
_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|\+00:00)", re.ASCII)


def check_subject(subject: str) -> str:
    """The subject id itself. Raises GalleryError when it is not `[a-z0-9-]{1,32}`."""
    if not re.match(ID, subject):
        raise GalleryError(f"subject {subject!r:.60}: expected 1 to 32 of a-z, 0-9 and -")
    return subject


def check_template(row: Template) -> None:
    """Refuse what must not enter a gallery, whatever model made it.

    Raises:
        GalleryError: subject, model or time malformed, or not a finite float32 unit vector.
    """
    check_subject(row.subject)
    if not re.match(ID, row.model):
        raise GalleryError(f"subject {row.subject}: expected a model id, got {row.model!r:.60}")
    if not _UTC.fullmatch(row.enrolled_at_utc):
        raise GalleryError(f"subject {row.subject}: expected a UTC time, got {row.enrolled_at_utc!r:.60}")
    vector = row.vector
    if vector.dtype != np.float32 or vector.ndim != 1 or not 0 < vector.size <= MAX_DIMENSION:
        raise GalleryError(
            f"subject {row.subject}: expected 1 to {MAX_DIMENSION} float32 numbers, "
            f"got {vector.dtype} {vector.shape}"
        )
    norm = float(np.linalg.norm(vector))
    if not abs(norm - 1) <= UNIT_TOLERANCE:
        raise GalleryError(f"subject {row.subject}: expected a vector of norm 1, got {norm:.4f}")


def build_gallery(templates: Iterable[Template], model: str, dimension: int, version: int) -> Gallery:
    """The searchable gallery.

    Raises:
        ModelMismatch: a template of another embedder.
        GalleryError: a template that is not a finite unit vector of `dimension`.
    """
    rows = list(templates)
    for row in rows:
        _check(row, model, dimension)
    subjects = tuple(sorted({row.subject for row in rows}))
    index = {subject: i for i, subject in enumerate(subjects)}
    matrix = np.array([row.vector for row in rows], np.float32).reshape(len(rows), dimension)
    owners = np.array([index[row.subject] for row in rows], np.intp)
    return gallery_of(version, model, subjects, matrix, owners)


def gallery_of(
    version: int,
    model: str,
    subjects: tuple[str, ...],
    templates: NDArray[np.float32],  # (N, D), unit L2 norm rows
    owners: NDArray[np.intp],  # (N,) indices in subjects
) -> Gallery:
    """A gallery of checked parts, with its digest. Both arrays become read-only."""
    digest = hashlib.sha256("\n".join((model, *subjects)).encode())
    digest.update(np.ascontiguousarray(owners, "<i8").data)
    digest.update(np.ascontiguousarray(templates, "<f4").data)  # no copy of what may be 131 MB
    return Gallery(version, model, subjects, read_only(templates), read_only(owners), digest.hexdigest())


def _check(row: Template, model: str, dimension: int) -> None:
    check_template(row)
    if row.model != model:
        raise ModelMismatch(
            f"subject {row.subject}: expected templates of {model}, got one of {row.model}: enrol again"
        )
    if row.vector.shape != (dimension,):
        raise GalleryError(f"subject {row.subject}: expected {dimension} numbers, got {row.vector.shape}")
