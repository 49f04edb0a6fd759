"""For commands: the gallery desk, wherever it is, and a recogniser for one picture."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from edge.acting import as_owner
from edge.config import Config
from edge.control import RemoteDesk
from edge.desk import Desk, JoinedDesk, LocalDesk, TakePictures
from edge.disk import StateLock, make_private_folder
from edge.errors import GalleryError
from edge.faces import make_enroller
from edge.identity.cards import CardFile
from edge.identity.store import SqliteGallery, open_gallery
from edge.identity.tuning_file import TuningFile
from edge.joined import is_joined, read_joined
from edge.keys import key_of
from edge.liveness import load_texture
from edge.site import Content, in_force
from edge.tuning import LocalTuner, Tuner
from edge.values import Frame, Gallery
from edge.vision.loop import picture
from edge.vision.pipeline import Look, Pipeline
from edge.vision.sitting import sit
from edge.vision.tuned import Features


def open_desk(config: Config, stack: ExitStack, models: bool = False) -> Desk:
    """The running daemon's desk, or one on the files while `stack` lasts.

    `models`: the command enrols, so a local desk needs them.

    Raises:
        GalleryError, ModelError: the files can't be used.
    """
    remote = RemoteDesk.find(Path(config.socket))
    if remote is not None:
        return remote
    stack.enter_context(as_owner(config))
    if is_joined(config):
        return _joined_desk(config)
    make_private_folder(config.gallery_path.parent)
    stack.enter_context(StateLock(config.gallery_path.parent))
    store = open_gallery(config.gallery_path, key_of(config))
    stack.callback(store.close)
    cards = CardFile(config.cards_path, key_of(config))
    if not models:
        return LocalDesk(store, None, card_file=cards)
    pipeline = Pipeline.load(config.models, config.quality)
    enroller = make_enroller(config, pipeline, store)
    return LocalDesk(store, enroller, _sitting(config, pipeline), card_file=cards)


def _joined_desk(config: Config) -> JoinedDesk:
    """What a joined door has in force, though no daemon runs."""
    return JoinedDesk(config.site, lambda: _in_force(config).gallery, lambda: _in_force(config).cards)


def _in_force(config: Config, model: tuple[str, int] | None = None) -> Content:
    joined = read_joined(config)
    if joined is None:
        raise GalleryError("this door is part of no site")
    return in_force(joined, model)


def _sitting(config: Config, pipeline: Pipeline) -> TakePictures:
    """Pictures from the door's camera when no daemon has it."""
    return partial(sit, config.camera, pipeline, not config.simulation, picture)


def open_tuner(config: Config, stack: ExitStack) -> Tuner:
    """The running daemon's tuner, or one on the file while `stack` lasts.

    Raises:
        GalleryError, ModelError: file or models can't be used.
    """
    remote = RemoteDesk.find(Path(config.socket))
    if remote is not None:
        return remote
    stack.enter_context(as_owner(config))
    make_private_folder(config.gallery_path.parent)
    stack.enter_context(StateLock(config.gallery_path.parent))
    key_of(config).create(config.gallery_path)

    def sit_down(
        take: Callable[[Frame, Look], Features | None],
        count: int,
        apart_s: float,
        timeout_s: float,
        wanted: Callable[[], bool],
    ) -> list[Features]:
        pipeline = Pipeline.load(config.models, config.quality)
        return sit(config.camera, pipeline, not config.simulation, take, count, apart_s, timeout_s, wanted)

    file = TuningFile(config.tuning_path, key_of(config))
    return LocalTuner(config, file, load_texture(config.models, config.pad.models), sit_down)


def open_recogniser(config: Config) -> tuple[Pipeline, Gallery, float | None]:
    """The models, the gallery and the embedder's FMR at 0.7, for one picture.

    Raises:
        GalleryError, ModelError: they can't be used.
    """
    pipeline = Pipeline.load(config.models, config.quality)
    embedder = pipeline.embedder
    return pipeline, read_gallery(config, embedder.model, embedder.dimension), embedder.fmr


def read_gallery(config: Config, model: str, dimension: int) -> Gallery:
    """The gallery on disk, read beside a running daemon. Raises GalleryError."""
    with as_owner(config):
        return _read_gallery(config, model, dimension)


def _read_gallery(config: Config, model: str, dimension: int) -> Gallery:
    if is_joined(config):
        return _in_force(config, (model, dimension)).gallery
    try:
        there = config.gallery_path.exists()
    except OSError as error:
        raise GalleryError(f"{config.gallery_path}: {error.strerror}: try as root") from None
    if not there:
        raise GalleryError(f"{config.gallery_path}: nobody is enrolled yet: doord enrol")
    store = SqliteGallery(config.gallery_path, key_of(config))
    try:
        return store.load(model, dimension)
    finally:
        store.close()
