"""Tuning presentation-attack detection to a door's own camera: record, fit, see, take back.

One protocol, two siblings, as with the gallery: `LocalTuner` works on the file, `control.RemoteTuner` asks
the running daemon, which has a `LocalTuner` of its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Annotated, Protocol, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta

from edge import __version__
from edge.config import Config, Id, shown_source
from edge.errors import EnrolmentError, ModelError, TuningRefused
from edge.identity import tuning
from edge.identity.tuning import Figures, Recording, Tuning
from edge.identity.tuning_file import (
    MAX_FRAMES,
    Fitted,
    Kept,
    Origin,
    Recorded,
    Row,
    TuningFile,
    export_tuning,
    import_tuning,
    of_origin,
    unlike,
)
from edge.link.wire import rfc3339
from edge.values import Frame
from edge.vision.pipeline import Look
from edge.vision.texture import Texture
from edge.vision.tuned import Features, feature_count, features

log = logging.getLogger(__name__)

_LATE_S = 5.0  # beyond the time that was asked for: somebody has to step before the camera first


class Record(msgspec.Struct, tag=True, frozen=True):
    """Record from the door's camera."""

    person: Id
    species: Id | None
    seconds: Annotated[float, Meta(ge=1, le=120)]


class Keep(msgspec.Struct, tag=True, frozen=True):
    """Keep what was recorded elsewhere, with this camera's pictures."""

    recorded: Recorded


class Fit(msgspec.Struct, tag=True, frozen=True):
    """Fit a model and put it in force."""


class Show(msgspec.Struct, tag=True, frozen=True):
    """What was recorded and fitted."""


class Rollback(msgspec.Struct, tag=True, frozen=True):
    """Put the model before in force."""


class Forget(msgspec.Struct, tag=True, frozen=True):
    """Forget the recordings, and unless told otherwise the models."""

    recordings_only: bool


class ExportTune(msgspec.Struct, tag=True, frozen=True):
    """Everything as a file."""

    passphrase: str


class ImportTune(msgspec.Struct, tag=True, frozen=True):
    """Take over a file."""

    data: bytes
    passphrase: str


TuneRequest: TypeAlias = Record | Keep | Fit | Show | Rollback | Forget | ExportTune | ImportTune


class RecordedRow(msgspec.Struct, frozen=True):
    """One recording, told."""

    person: str
    species: str | None
    frames: int
    at_utc: str


class FittedRow(msgspec.Struct, frozen=True):
    """A model, told."""

    at_utc: str
    camera: str
    texture: str
    doord: str
    live: float
    unsure: float
    people: int
    species: tuple[Row, ...]
    genuine: Row

    @classmethod
    def of(cls, model: Fitted) -> FittedRow:
        """Without weights, and without the source's password."""
        seen = model.origin
        camera = f"{shown_source(seen.camera)}, {seen.width}x{seen.height}"
        return cls(
            model.at_utc,
            camera,
            seen.texture,
            model.doord,
            model.live,
            model.unsure,
            model.people,
            model.species,
            model.genuine,
        )


class TuneState(msgspec.Struct, frozen=True):
    """What there is after a request. `exported`: the file, when one was asked for."""

    recordings: tuple[RecordedRow, ...]
    model: FittedRow | None
    unused: str | None  # why the model is not in force
    missing: str | None  # what has to be recorded before a fit
    has_before: bool
    exported: bytes = b""


class Tuner(Protocol):
    """What `doord pad` calls."""

    def do(self, request: TuneRequest, wanted: Callable[[], bool] = lambda: True) -> TuneState:
        """Carry a request out.

        Raises:
            TuningRefused: the data does not support it; nothing changed.
            EnrolmentError: nobody, or too little, was seen.
            GalleryError: the file can't be used.
            ModelError: no texture model runs.
        """


Sit = Callable[
    [Callable[[Frame, Look], "Features | None"], int, float, float, Callable[[], bool]], "list[Features]"
]
"""VisionLoop.sit, or its sibling where no daemon runs."""


class LocalTuner:
    """The tuner over the file; `changed` is called when another model is to be in force."""

    def __init__(
        self,
        config: Config,
        file: TuningFile,
        texture: Texture | None,
        sit: Sit | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """`texture` is None when no model runs, `sit` when there is no camera."""
        self._config = config
        self._file = file
        self._texture = texture
        self._sit = sit
        self._changed = changed

    def do(self, request: TuneRequest, wanted: Callable[[], bool] = lambda: True) -> TuneState:
        """See Tuner."""
        if isinstance(request, Record):
            self._keep(self._record(request, wanted))
        elif isinstance(request, Keep):
            self._keep(request.recorded)
        elif isinstance(request, Fit):
            self._fit()
        elif isinstance(request, Rollback):
            self._roll_back()
        elif isinstance(request, Forget):
            self._forget(request)
        elif isinstance(request, ImportTune):
            self._import(request)
        elif isinstance(request, ExportTune):
            return self._state(export_tuning(self._file.load(), request.passphrase))
        return self._state()

    @property
    def _loaded(self) -> Texture:
        if self._texture is None:
            raise ModelError("no texture model runs here, so nothing can be tuned: see doord doctor")
        return self._texture

    def _origin(self) -> Origin:
        return origin_of(self._config, self._loaded)

    def _record(self, request: Record, wanted: Callable[[], bool]) -> Recorded:
        if self._sit is None:
            raise EnrolmentError("no camera to record from")
        texture, every_s = self._loaded, max(0.1, self._config.pad.every_ms / 1000)
        count = min(MAX_FRAMES, int(request.seconds / every_s))
        take = taker(texture)
        rows = self._sit(take, count, 0.9 * every_s, request.seconds + _LATE_S, wanted)
        if not wanted():
            raise EnrolmentError("the recording was given up")
        return recorded(request.person, request.species, rows, self._config, texture)

    def _keep(self, made: Recorded) -> None:
        self._check(made)
        kept = self._file.load()
        self._file.save(msgspec.structs.replace(kept, recordings=(*kept.recordings, made)))
        log.info("pad: %d frames recorded, %s", made.frames, made.species or "genuine")

    def _check(self, made: Recorded | Fitted) -> None:
        """Whether these eyes made it. Raises TuningRefused, GalleryError."""
        if lack := made.origin.differs(self._origin()):
            raise TuningRefused(f"what was recorded was made elsewhere: {lack}")
        count = feature_count(self._loaded)
        own = made.recording().features.shape[1] if isinstance(made, Recorded) else made.model().weights.size
        crops = made.crops if isinstance(made, Recorded) else len(self._loaded.scales)
        if (own, crops) != (count, len(self._loaded.scales)):
            expected = f"{count} features, {len(self._loaded.scales)} of them crops"
            raise TuningRefused(f"what was recorded: expected {expected}, got {own} and {crops}")

    def _fit(self) -> None:
        kept, origin = self._file.load(), self._origin()
        found = tuning.tune(self._usable(kept), self._config.pad.frames, self._loaded.live)
        if isinstance(found, str):
            raise TuningRefused(f"not tuned: {found}")
        model = _fitted(found, origin, self._config.pad.frames)
        before = kept.model or kept.before
        self._put(msgspec.structs.replace(kept, model=model, before=before))

    def _usable(self, kept: Kept) -> list[Recording]:
        return [own.recording() for own in of_origin(kept.recordings, self._origin())]

    def _roll_back(self) -> None:
        kept = self._file.load()
        if kept.before is None:
            raise TuningRefused("there is no model before this one: doord pad forget ends the tune")
        self._put(msgspec.structs.replace(kept, model=kept.before, before=kept.model))

    def _forget(self, request: Forget) -> None:
        if request.recordings_only:
            self._file.save(msgspec.structs.replace(self._file.load(), recordings=()))
        else:
            self._file.remove()
            self._changed()

    def _import(self, request: ImportTune) -> None:
        new, kept = import_tuning(request.data, request.passphrase), self._file.load()
        for own in new.recordings:
            self._check(own)
        if new.model is not None:
            self._check(new.model)
        known = set(kept.recordings)
        more = tuple(own for own in new.recordings if own not in known)
        before = kept.model if new.model not in (None, kept.model) else kept.before
        self._put(Kept(recordings=kept.recordings + more, model=new.model or kept.model, before=before))

    def _put(self, kept: Kept) -> None:
        self._file.save(kept)
        log.info("pad: another tuned model is in force")
        self._changed()

    def _state(self, exported: bytes = b"") -> TuneState:
        kept = self._file.load()
        rows = tuple(RecordedRow(r.person, r.species, r.frames, r.at_utc) for r in kept.recordings)
        if self._texture is None:
            lack: str | None = "no texture model runs here"
            unused = lack
        else:
            lack = tuning.missing(self._usable(kept), self._config.pad.frames)
            unused = None if kept.model is None else unlike(kept.model, self._origin(), __version__)
        model = None if kept.model is None else FittedRow.of(kept.model)
        return TuneState(rows, model, unused, lack, kept.before is not None, exported)


def origin_of(config: Config, texture: Texture) -> Origin:
    """This door's eyes as they are now."""
    camera = config.camera
    view = f"{camera.rotation} degrees, {', '.join(f'{part:g}' for part in camera.region)}"
    return Origin(str(camera.source), camera.width, camera.height, view, texture.words)


def taker(texture: Texture) -> Callable[[Frame, Look], Features | None]:
    """What is kept of a frame."""

    def take(frame: Frame, look: Look) -> Features | None:
        if look.face is None or look.probe is None or len(look.faces) != 1:
            return None  # whose label it would get is not certain
        try:
            return features(frame.pixels, look.face, texture)
        except ModelError as error:  # this frame alone
            log.warning("pad: %s", error)
            return None

    return take


def recorded(
    person: str, species: str | None, rows: list[Features], config: Config, texture: Texture
) -> Recorded:
    """A recording of frames. Raises EnrolmentError: fewer than an attempt needs."""
    if len(rows) < config.pad.frames:
        raise EnrolmentError(
            f"expected at least {config.pad.frames} frames with one face that the layers can judge, got "
            f"{len(rows)}: near the camera, one face in view, in good light"
        )
    crops = len(texture.scales)
    made = Recording(person, species, np.stack(rows), crops)
    return Recorded.of(made, origin_of(config, texture), rfc3339(time.time()))


def _fitted(found: Tuning, origin: Origin, frames: int) -> Fitted:
    return Fitted(
        origin,
        __version__,
        rfc3339(time.time()),
        frames,
        found.limit.live,
        found.limit.unsure,
        found.model.weights.astype("<f8").tobytes(),
        found.model.bias,
        found.people,
        tuple(map(_row, found.species)),
        _row(found.genuine),
    )


def _row(told: Figures) -> Row:
    shares = (told.presentations, told.attempts, told.untuned)
    presentations, attempts, untuned = ((share.count, share.of) for share in shares)
    return Row(told.name, presentations, attempts, untuned)
