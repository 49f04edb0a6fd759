"""What a site publishes of people and rights: the codecs of its targets' content. Pure.

Both are cut into shards by a hash of the subject, so that a changed person changes one small target.
Every decoder checks counts before it allocates for them, and raises nothing but GalleryErrors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from edge.config import Id
from edge.errors import GalleryError, ModelMismatch
from edge.identity.gallery import MAX_DIMENSION, MAX_TEMPLATES
from edge.identity.match import UNIT_TOLERANCE
from edge.identity.rights_file import SiteText, SubjectText
from edge.identity.sealing import FORMAT, MAX_TARGET_BYTES, Content, fitting, parsed, unpacked
from edge.values import Template

MAX_RIGHTS_BYTES = 2**20  # small texts take 20 times their size in memory
MAX_SHARDS = 4096
MAX_HOLDERS = MAX_TEMPLATES
MAX_CARDS_EACH = 100
PEOPLE_MANIFEST, RIGHTS_SITE = "people/manifest", "rights/site"
_NORM_TOLERANCE = 0.01  # of a float16 vector's norm; rounding keeps it within 5e-4

_Count = Annotated[int, Meta(ge=0, le=MAX_TEMPLATES)]
_Shards = Annotated[int, Meta(ge=1, le=MAX_SHARDS)]


class PeopleManifest(Content, frozen=True):
    """`people/manifest`: what the shards of people together are."""

    format: int
    model: Id  # embedder of every template
    dimension: Annotated[int, Meta(ge=1, le=MAX_DIMENSION)]
    shards: _Shards  # a power of two
    subjects: _Count
    templates: _Count
    accepted_by: Annotated[str, Meta(max_length=200)]  # who took a gallery that the checks questioned


class _PeopleFile(Content, frozen=True):
    format: int
    shard: int
    model: Id
    dimension: int
    subjects: Annotated[list[Id], Meta(max_length=MAX_TEMPLATES)]  # ascending
    counts: Annotated[list[Annotated[int, Meta(ge=1, le=MAX_TEMPLATES)]], Meta(max_length=MAX_TEMPLATES)]
    vectors: Annotated[bytes, Meta(max_length=MAX_TARGET_BYTES)]  # (sum of counts, D) float16 LE


@dataclass(frozen=True, slots=True)
class PeopleShard:
    """A shard of templates. `owners[i]` is the index in `subjects` of `vectors[i]`."""

    subjects: tuple[str, ...]  # ascending
    owners: NDArray[np.intp]  # (n,)
    vectors: NDArray[np.float32]  # (n, D), unit L2 norm rows


class RightsSite(SiteText, frozen=True, omit_defaults=True, kw_only=True):
    """`rights/site`: what holds for all; the keys of `rights.yaml` without its subjects."""

    format: int
    shards: _Shards  # a power of two


class HeldCard(Content, frozen=True, array_like=True):
    """A card by its HMAC-SHA-256 under the site's card key."""

    digest: Annotated[bytes, Meta(min_length=32, max_length=32)]
    enabled: bool = True
    expires_at: Annotated[int, Meta(ge=0, le=2**35)] | None = None  # s since 1970


class Holder(SubjectText, frozen=True, omit_defaults=True, kw_only=True):
    """One subject's rights and cards, with the keys of `rights.yaml`."""

    subject: Id
    cards: Annotated[tuple[HeldCard, ...], Meta(max_length=MAX_CARDS_EACH)] = ()


class _RightsFile(Content, frozen=True):
    format: int
    shard: int
    holders: Annotated[list[Holder], Meta(max_length=MAX_HOLDERS)]


# Names


def people_name(index: int, shards: int) -> str:
    """The target of a shard of templates, such as `people/0f` of 256."""
    return f"people/{index:0{len(f'{shards - 1:x}')}x}"


def rights_name(index: int, shards: int) -> str:
    """The target of a shard of rights and cards."""
    return f"rights/{index:0{len(f'{shards - 1:x}')}x}"


def shard_of(subject: str, shards: int) -> int:
    """In which of `shards` (a power of two) a subject is: the first bits of its id's SHA-256."""
    first = int.from_bytes(hashlib.sha256(subject.encode()).digest()[:4], "big")
    return first >> (32 - (shards.bit_length() - 1))


# The manifest


def encode_manifest(manifest: PeopleManifest) -> bytes:
    """Msgpack."""
    return msgspec.msgpack.encode(manifest)


def decode_manifest(plain: bytes) -> PeopleManifest:
    """Raises GalleryError."""
    manifest = unpacked(plain, PeopleManifest, PEOPLE_MANIFEST, MAX_RIGHTS_BYTES)
    _check_power(manifest.shards, PEOPLE_MANIFEST)
    if manifest.subjects > manifest.templates:
        raise GalleryError(
            f"{PEOPLE_MANIFEST}: expected at most {manifest.templates} subjects, as many as templates, "
            f"got {manifest.subjects}"
        )
    return manifest


def _check_power(shards: int, where: str) -> None:
    if shards & (shards - 1):
        raise GalleryError(f"{where}: shards: expected a power of two, got {shards}")


# Shards of people


def encode_people_shard(index: int, manifest: PeopleManifest, templates: Iterable[Template]) -> bytes:
    """A shard's templates, rounded to float16; the same ones give the same bytes.

    Raises:
        ModelMismatch: a template of another embedder than the manifest's.
        GalleryError: a template of another shard or dimension, or no unit vector.
    """
    name = people_name(index, manifest.shards)
    rows = sorted(templates, key=lambda row: row.subject)
    counts: dict[str, int] = {}
    for row in rows:
        _check_belongs(row.subject, index, manifest.shards, name)
        _check_model(row.model, manifest, f"{name}: subject {row.subject}")
        if row.vector.shape != (manifest.dimension,):
            expected = f"expected {manifest.dimension} numbers, got {row.vector.shape}"
            raise GalleryError(f"{name}: subject {row.subject}: {expected}")
        counts[row.subject] = counts.get(row.subject, 0) + 1
    vectors = np.array([row.vector for row in rows], np.float32).reshape(len(rows), manifest.dimension)
    _norms(vectors, UNIT_TOLERANCE, name)
    numbers = vectors.astype("<f2").tobytes()
    model, dimension = manifest.model, manifest.dimension
    file = _PeopleFile(FORMAT, index, model, dimension, list(counts), list(counts.values()), numbers)
    return msgspec.msgpack.encode(file)


def decode_people_shard(plain: bytes, index: int, manifest: PeopleManifest) -> PeopleShard:
    """Shard `index` of the gallery that `manifest` describes.

    Raises:
        ModelMismatch: of another embedder.
        GalleryError: not that shard, or what must not enter a gallery.
    """
    name = people_name(index, manifest.shards)
    file = unpacked(plain, _PeopleFile, name, MAX_TARGET_BYTES)
    _check_model(file.model, manifest, name)
    if (file.shard, file.dimension) != (index, manifest.dimension):
        expected, got = f"{index} of {manifest.dimension}", f"{file.shard} of {file.dimension}"
        raise GalleryError(f"{name}: expected shard {expected} numbers, got {got}")
    _check_subjects(file.subjects, index, manifest.shards, name)
    rows = sum(file.counts)
    if len(file.counts) != len(file.subjects) or len(file.vectors) != 2 * manifest.dimension * rows:
        raise GalleryError(
            f"{name}: expected {rows} templates of {len(file.subjects)} subjects, "
            f"got {len(file.vectors)} bytes and {len(file.counts)} counts"
        )
    vectors = np.frombuffer(file.vectors, "<f2").astype(np.float32).reshape(rows, manifest.dimension)
    vectors /= _norms(vectors, _NORM_TOLERANCE, name)[:, None]
    owners = np.repeat(np.arange(len(file.counts), dtype=np.intp), file.counts)
    return PeopleShard(tuple(file.subjects), owners, vectors)


def _norms(vectors: NDArray[np.float32], tolerance: float, where: str) -> NDArray[np.float32]:
    """(n,) L2 norms. Raises GalleryError when one is off by more, or not a number."""
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    wrong = ~(np.abs(norms - 1) <= tolerance)
    if wrong.any():
        raise GalleryError(f"{where}: expected vectors of norm 1, got {norms[wrong][0]:.4f}")
    return np.asarray(norms, np.float32)


def _check_model(got: str, manifest: PeopleManifest, where: str) -> None:
    if got != manifest.model:
        raise ModelMismatch(f"{where}: expected templates of {manifest.model}, got one of {got}: enrol again")


def _check_subjects(subjects: Sequence[str], index: int, shards: int, where: str) -> None:
    for before, subject in zip(["", *subjects], subjects, strict=False):
        if not before < subject:
            raise GalleryError(f"{where}: expected subjects in order, got {subject} after {before}")
        _check_belongs(subject, index, shards, where)


def _check_belongs(subject: str, index: int, shards: int, where: str) -> None:
    if shard_of(subject, shards) != index:
        raise GalleryError(f"{where}: expected subjects of shard {index:x}, got {subject} of another")


# Rights and cards


def encode_rights_site(site: RightsSite) -> bytes:
    """JSON. Raises GalleryError: more than MAX_RIGHTS_BYTES."""
    return fitting(msgspec.json.encode(site), RIGHTS_SITE, MAX_RIGHTS_BYTES)


def decode_rights_site(plain: bytes) -> RightsSite:
    """Raises GalleryError."""
    site = parsed(plain, RightsSite, RIGHTS_SITE, MAX_RIGHTS_BYTES)
    _check_power(site.shards, RIGHTS_SITE)
    return site


def encode_rights_shard(index: int, shards: int, holders: Iterable[Holder]) -> bytes:
    """Msgpack; the same holders give the same bytes. Raises GalleryError: not this shard's, too many."""
    name = rights_name(index, shards)
    rows = sorted(holders, key=lambda holder: holder.subject)
    _check_subjects([holder.subject for holder in rows], index, shards, name)
    return fitting(msgspec.msgpack.encode(_RightsFile(FORMAT, index, rows)), name, MAX_RIGHTS_BYTES)


def decode_rights_shard(plain: bytes, index: int, site: RightsSite) -> list[Holder]:
    """Shard `index` of the rights that `site` is of, by subject. Raises GalleryError."""
    name = rights_name(index, site.shards)
    file = unpacked(plain, _RightsFile, name, MAX_RIGHTS_BYTES)
    if file.shard != index:
        raise GalleryError(f"{name}: expected shard {index}, got {file.shard}")
    _check_subjects([holder.subject for holder in file.holders], index, site.shards, name)
    return file.holders
