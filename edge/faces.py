"""What a face grant needs beside a camera: models and gallery, either of which may be missing."""

from __future__ import annotations

import logging
import threading

from edge.config import Config
from edge.disk import StateLock, make_private_folder
from edge.errors import GalleryError, ModelError
from edge.identity.decide import fpir_refusal
from edge.identity.enrol import Enroller
from edge.identity.store import SqliteGallery, open_gallery
from edge.joined import is_joined
from edge.keys import key_of
from edge.values import Gallery
from edge.vision.gpu import GpuJudge
from edge.vision.gpu_verdicts import BUDGET_S
from edge.vision.pipeline import Pipeline
from edge.worker import within

log = logging.getLogger(__name__)

_LOAD_S = 20.0 + BUDGET_S  # ten times what a Pi 4 takes, and a first trial of a GPU


class Faces:
    """Loaded once, then read by the vision thread and changed by the gallery desk."""

    def __init__(self, config: Config, gpu: GpuJudge | None = None) -> None:
        self.pipeline: Pipeline | None = None
        self.store: SqliteGallery | None = None
        self._config = config
        self._joined = is_joined(config)
        self._lock: StateLock | None = None
        self._loading = threading.RLock()  # the desk and main both load; an older gallery must not win
        self._gallery: Gallery | None = None
        self._model_problem: str | None = None
        self._gallery_problem: str | None = "the gallery is not loaded yet"
        try:
            self.pipeline = within(
                lambda: Pipeline.load(config.models, config.quality, gpu), _LOAD_S, "models"
            )
        except ModelError as error:
            self._model_problem = str(error)
            log.error("no face grants: %s", error)
        else:
            backend, why = self.pipeline.backend, self.pipeline.backend_why
            level = logging.INFO if config.models.delegate == "auto" else logging.WARNING
            log.log(level, "models run on %s%s", backend, f": {why}" if why else "")
        self.load_gallery()

    def adopt(self, config: Config) -> None:
        """Judge by another gate and other limits from now on; the gallery is read again."""
        self._config = config
        if self.pipeline is not None:
            self.pipeline.gate_by(config.quality)
        self.load_gallery()

    def load_gallery(self) -> None:
        """Read the gallery, again if need be; one that was in force stays so when that fails.

        That of a joined door comes from its site (`put_in_force`).
        """
        if self._joined:
            self._hold()
            return
        with self._loading:
            try:
                self._gallery = self._read()
                problem = None
            except GalleryError as error:
                problem = str(error)
            if problem and problem != self._gallery_problem:
                log.error("gallery: %s", problem)
            self._gallery_problem = problem

    def put_in_force(self, gallery: Gallery) -> None:
        """The site's gallery; also while no embedder runs, for its version is in force with its rights."""
        self._gallery, self._gallery_problem = gallery, None

    def _hold(self) -> None:
        """The state directory has one writer, of a joined door too."""
        if self._lock is not None:
            return
        try:
            self._lock = StateLock(self._config.gallery_path.parent)
            if self._gallery is None:
                self._gallery_problem = "nothing of the site is in force yet"
        except GalleryError as error:
            self._gallery_problem = str(error)
            log.error("gallery: %s", error)

    def gallery_changed(self) -> None:
        """Put a change of the store in force. Raises GalleryError: nobody is let in until it can be."""
        with self._loading:
            self._gallery = None  # what is in memory is known to be outdated
        self.load_gallery()
        if self._gallery_problem is not None:
            raise GalleryError(f"changed, but not in force: {self._gallery_problem}")

    def _read(self) -> Gallery | None:
        if self.store is None:
            folder = self._config.gallery_path.parent
            make_private_folder(folder)
            self._lock = self._lock or StateLock(folder)
            self.store = open_gallery(self._config.gallery_path, key_of(self._config))
        if self.pipeline is None:
            return None
        embedder = self.pipeline.embedder
        gallery = self.store.load(embedder.model, embedder.dimension)
        log.info(
            "gallery version %d: %d subjects, %d templates",
            gallery.version,
            len(gallery.subjects),
            len(gallery),
        )
        return gallery

    @property
    def damaged(self) -> bool:
        """Whether reading the gallery failed the last time, and may be tried again.

        Of a joined door: whether another holds the state directory, whatever is in force meanwhile.
        """
        return self._lock is None if self._joined else self._gallery_problem is not None

    def why_not(self, searched: bool = True) -> list[str]:
        """Why no face can be granted; empty when one can. `searched`: 1:N, else 1:1 after a card."""
        gallery = self._gallery
        problems = [self._model_problem] if self._model_problem else []
        if gallery is None:
            return problems + ([self._gallery_problem] if self._gallery_problem else [])
        refusal = self._fpir_refusal(gallery) if searched else None
        problems += [refusal] if refusal else []
        return problems if len(gallery) else [*problems, "nobody is enrolled"]

    def gallery(self) -> Gallery | None:
        """The gallery in force."""
        return self._gallery

    def comparable(self) -> Gallery | None:
        """Where a claimed subject may be verified, whatever the size; None: no face ever is."""
        return self._gallery if self.pipeline else None

    def searchable(self) -> Gallery | None:
        """The gallery that faces may be searched in now, or None."""
        gallery = self._gallery
        return None if gallery is None or self._fpir_refusal(gallery) else gallery

    @property
    def model(self) -> tuple[str, int] | None:
        """Id and dimension of the embedder that runs; None: none does."""
        embedder = self.pipeline.embedder if self.pipeline else None
        return None if embedder is None else (embedder.model, embedder.dimension)

    @property
    def in_force(self) -> tuple[int | None, str | None]:
        """Version and digest of the gallery in force."""
        gallery = self._gallery
        return (None, None) if gallery is None else (gallery.version, gallery.digest)

    def _fpir_refusal(self, gallery: Gallery) -> str | None:
        fmr = self.pipeline.embedder.fmr if self.pipeline else None
        return fpir_refusal(float("nan") if fmr is None else fmr, len(gallery), self._config.decision)

    def enroller(self) -> Enroller | None:
        """Who enrols with these models into this gallery; None when either is missing."""
        if self.pipeline is None or self.store is None:
            return None
        return make_enroller(self._config, self.pipeline, self.store)

    def close(self) -> None:
        """Close the gallery and let another have it."""
        if self.store is not None:
            self.store.close()
        if self._lock is not None:
            self._lock.release()


def make_enroller(config: Config, pipeline: Pipeline, store: SqliteGallery) -> Enroller:
    """An enroller that refuses what the door's gate would refuse."""
    embedder, decision = pipeline.embedder, config.decision
    return Enroller(
        pipeline,
        store,
        embedder.model,
        embedder.dimension,
        decision.threshold,
        embedder.fmr,
        1.0
        if decision.fpir_accepted_by.strip() or not {"face", "card_or_face"} & set(config.modes)
        else decision.max_fpir,
    )
