"""What was recorded for a tune and what was fitted: one small file, sealed as the gallery is.

Features, no pictures. The model in force and the one before it are kept, so that it can be taken back.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from edge.config import Id
from edge.disk import read_sealed, remove_durably, write_sealed
from edge.errors import GalleryError
from edge.identity.tuning import Linear, Recording
from edge.passphrase import decrypt, encrypt
from edge.ports import KeyProvider

MAX_RECORDINGS = 500
MAX_FRAMES = 600  # of one recording
MAX_BYTES = 16 * 2**20  # some 20,000 frames
MAX_FILE_BYTES = MAX_BYTES + 1024  # with what encryption adds
FEATURES = "colour-lbp-1"  # changes with what a feature means
_MAX_FEATURES = 512
_BOUND_TO = b"doord tuning 1"
_MAGIC = b"doord tuning\0"
_FORMAT = 1
_WHERE = "tuning file"
_Count = Annotated[int, Meta(ge=0, le=10**6)]


class Origin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which eyes saw it: what was learned with others is worth nothing."""

    camera: Annotated[str, Meta(max_length=4096)]  # the configured source
    width: _Count  # px, as configured
    height: _Count
    view: Annotated[str, Meta(max_length=100)]  # rotation and region
    texture: Annotated[str, Meta(max_length=400)]  # models' ids
    features: Annotated[str, Meta(max_length=40)] = FEATURES

    def differs(self, other: Origin) -> str | None:
        """In words what is not the same, or None."""
        for field in self.__struct_fields__:
            ours, theirs = getattr(self, field), getattr(other, field)
            if ours != theirs:
                return f"{field} was {ours}, and is {theirs}"
        return None


class Recorded(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One recording as it is kept."""

    origin: Origin
    person: Id
    species: Id | None  # None: genuine
    at_utc: Annotated[str, Meta(max_length=40)]
    crops: Annotated[int, Meta(ge=1, le=64)]
    size: Annotated[int, Meta(ge=2, le=_MAX_FEATURES)]
    features: Annotated[bytes, Meta(max_length=2 * _MAX_FEATURES * MAX_FRAMES)]  # float16 rows, little-endian

    @classmethod
    def of(cls, recording: Recording, origin: Origin, at_utc: str) -> Recorded:
        """To keep a recording: no more than MAX_FRAMES of it."""
        kept = recording.features[:MAX_FRAMES]
        return cls(
            origin,
            recording.person,
            recording.species,
            at_utc,
            recording.crops,
            kept.shape[1],
            kept.astype("<f2").tobytes(),
        )

    @property
    def frames(self) -> int:
        """How many."""
        return len(self.features) // (2 * self.size)

    def recording(self) -> Recording:
        """To fit to. Raises GalleryError: not what it says."""
        rows = np.frombuffer(self.features[: 2 * self.size * self.frames], "<f2").astype(np.float32)
        if not self.frames or self.crops >= self.size or not np.isfinite(rows).all():
            raise GalleryError(
                f"{_WHERE}: {self.person}, {self.at_utc}: expected finite features, got others"
            )
        return Recording(self.person, self.species, rows.reshape(self.frames, self.size), self.crops)


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Errors of one species, or of genuine people: of presentations by the first attempt, and of attempts."""

    name: str
    presentations: tuple[_Count, _Count]  # wrong, of
    attempts: tuple[_Count, _Count]
    untuned: tuple[_Count, _Count]

    def __post_init__(self) -> None:
        """Raises ValueError: more were wrong than there were."""
        if any(wrong > of for wrong, of in (self.presentations, self.attempts, self.untuned)):
            raise ValueError("expected at most as many errors as presentations")


class Fitted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model, where it holds, and what it was worth on people left out of the fit."""

    origin: Origin
    doord: Annotated[str, Meta(max_length=80)]
    at_utc: Annotated[str, Meta(max_length=40)]
    frames: Annotated[int, Meta(ge=1, le=10)]  # of an attempt
    live: float
    unsure: float
    weights: Annotated[bytes, Meta(max_length=8 * _MAX_FEATURES)]  # float64, little-endian
    bias: float
    people: _Count
    species: Annotated[tuple[Row, ...], Meta(max_length=100)]  # worst first
    genuine: Row

    def model(self) -> Linear:
        """To score with. Raises GalleryError."""
        if len(self.weights) % 8 or not self.weights or not -1e9 < self.unsure <= self.live < 1e9:
            raise GalleryError(f"{_WHERE}: expected a model with limits, got another thing")
        return Linear(np.frombuffer(self.weights, "<f8"), self.bias)


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    format: Annotated[int, Meta(ge=_FORMAT, le=_FORMAT)] = _FORMAT
    recordings: Annotated[tuple[Recorded, ...], Meta(max_length=MAX_RECORDINGS)] = ()
    model: Fitted | None = None  # in force where it fits
    before: Fitted | None = None


class TuningFile:
    """One writer at a time: hold the folder's `StateLock`."""

    def __init__(self, path: Path, keys: KeyProvider) -> None:
        """Opens nothing yet."""
        self._path = path
        self._keys = keys

    def load(self) -> Kept:
        """Everything; nothing where there is no file. Raises GalleryError: damaged, or another key's."""
        plain = read_sealed(self._path, self._key, _BOUND_TO, "the tune", MAX_FILE_BYTES)
        return Kept() if plain is None else _parsed(plain, str(self._path))

    def save(self, kept: Kept) -> None:
        """Raises GalleryError: too large, or the disk refuses; what was there stays."""
        plain = msgspec.msgpack.encode(kept)
        if len(kept.recordings) > MAX_RECORDINGS or len(plain) > MAX_BYTES:
            words = f"at most {MAX_RECORDINGS} recordings and {MAX_BYTES >> 20} MB"
            raise GalleryError(f"{self._path}: expected {words}, got more: doord pad forget --recordings")
        write_sealed(self._path, self._key(), plain, _BOUND_TO)

    def remove(self) -> None:
        """No tune any more. Raises GalleryError."""
        try:
            remove_durably(self._path)
        except OSError as error:
            raise GalleryError(f"{self._path}: {error.strerror}") from None

    def _key(self) -> bytes:
        return hmac.digest(self._keys.key(), _BOUND_TO, "sha256")


def export_tuning(kept: Kept, passphrase: str) -> bytes:
    """The file to carry about. Raises GalleryError: the passphrase is too short."""
    return encrypt(_MAGIC, _FORMAT, msgspec.msgpack.encode(kept), passphrase)


def import_tuning(data: bytes, passphrase: str) -> Kept:
    """Raises GalleryError: too large, a wrong passphrase, altered, or another kind of file."""
    if len(data) > MAX_FILE_BYTES:
        raise GalleryError(f"{_WHERE}: expected at most {MAX_FILE_BYTES} bytes, got {len(data)}")
    return _parsed(decrypt(_MAGIC, _FORMAT, data, passphrase, _WHERE), _WHERE)


def unlike(model: Fitted, origin: Origin, doord: str) -> str | None:
    """Why a model is not to be used by these eyes and this doord, or None."""
    if model.doord != doord:
        return f"doord was {model.doord}, and is {doord}"
    return model.origin.differs(origin)


def of_origin(recordings: Sequence[Recorded], origin: Origin) -> list[Recorded]:
    """Those that these eyes made."""
    return [own for own in recordings if own.origin == origin]


def _parsed(plain: bytes, where: str) -> Kept:
    try:
        kept = msgspec.msgpack.decode(plain, type=Kept)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        shown = str(error).encode("unicode_escape").decode()[:200]
        raise GalleryError(f"{where}: expected a tune of doord, got: {shown}") from None
    for model in (kept.model, kept.before):
        if model is not None:
            model.model()
    return kept
