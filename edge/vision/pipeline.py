"""One picture through the models: detect -> rank -> align -> gate -> embed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from edge.config import ModelsConfig, QualityConfig
from edge.errors import ModelError
from edge.ports import Detector
from edge.values import Face, Probe, Quality
from edge.vision.detect import BlazeFace
from edge.vision.embed import FaceNet
from edge.vision.gpu import GpuJudge
from edge.vision.manifest import ModelEntry, ModelShelf
from edge.vision.quality import measure, ranked, shortcoming
from edge.vision.runtime import Model
from edge.vision.selftest import load_model


@dataclass(frozen=True, slots=True)
class Look:
    """What one picture showed. `probe` is None when no face passed the gate."""

    faces: list[Face]
    face: Face | None = None  # the one asked about
    quality: Quality | None = None
    shortcoming: str | None = None  # why it did not pass the gate
    probe: Probe | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)


Known = Callable[[Probe], bool]
"""Whether the gallery knows somebody."""


class Pipeline:
    """The loaded models. Safe to call from several threads: one picture at a time."""

    def __init__(
        self, detector: Detector, embedder: FaceNet, gate: QualityConfig, detecting: Model | None = None
    ) -> None:
        """`detecting`: the model behind `detector`, to be told of in `backend`."""
        self.embedder = embedder
        self._detecting = detecting
        self._detector = detector
        self._gate = gate
        self._lock = threading.Lock()

    @classmethod
    def load(cls, models: ModelsConfig, gate: QualityConfig, gpu: GpuJudge | None = None) -> Pipeline:
        """Load and self-test the configured models. Raises ModelError."""
        shelf = ModelShelf.open(models.dir)
        detector, embedder = chosen(shelf, models)
        facenet = load_model(shelf, embedder, models, gpu)
        blazeface = load_model(shelf, detector, models, gpu)
        return cls(BlazeFace(blazeface, models.min_face_score), FaceNet(facenet), gate, blazeface)

    @property
    def backend(self) -> str:
        """What runs the embedder, which takes most of the time; and the detector, if that is another."""
        one = self.embedder.backend
        other = self._detecting.backend if self._detecting else one
        return one if one == other else f"{one}, detector {other}"

    @property
    def backend_why(self) -> str:
        """Why not what the configuration wants runs them; empty: it does."""
        reasons = [self.embedder.backend_why, self._detecting.why if self._detecting else ""]
        return "; ".join(dict.fromkeys(filter(None, reasons)))

    def gate_by(self, gate: QualityConfig) -> None:
        """Another gate from the next picture on; from any thread."""
        self._gate = gate

    def __call__(self, pixels: NDArray[np.uint8], taken_at: float = 0.0, known: Known | None = None) -> Look:
        """Look at an (H, W, 3) RGB picture.

        Asked about is the face `quality.ranked` puts first; with `known`, and where there are several,
        the first of them that passes the gate and is known, if one is.

        Raises:
            ModelError: the runtime refused the picture.
        """
        with self._lock:
            return self._look(pixels, taken_at, known)

    def _look(self, pixels: NDArray[np.uint8], taken_at: float, known: Known | None) -> Look:
        watch = Stopwatch()
        faces = self._detector(pixels)
        watch.lap("detect")
        candidates = ranked(faces, (pixels.shape[1], pixels.shape[0]))
        looks = (self._look_at(face, pixels, taken_at, watch) for face in candidates)  # each when asked for
        asked = first = next(looks, Look(faces))
        if known is not None and len(candidates) > 1:
            asked = next((look for look in chain([first], looks) if _is_known(look, known, watch)), first)
        return replace(asked, faces=faces, stages_ms=watch.laps_ms)

    def _look_at(self, face: Face, pixels: NDArray[np.uint8], taken_at: float, watch: Stopwatch) -> Look:
        """One face of a picture."""
        crop = self.embedder.align(pixels, face)
        quality = measure(face, crop)
        short = shortcoming(quality, self._gate)
        watch.lap("align")
        if short is not None:
            return Look([face], face, quality, short)
        try:
            vector = self.embedder.embed(crop)
        except ModelError as error:  # this face alone: no other has to suffer
            return Look([face], face, quality, str(error))
        watch.lap("embed")
        return Look([face], face, quality, None, Probe(vector, self.embedder.model, taken_at, quality))


def _is_known(look: Look, known: Known, watch: Stopwatch) -> bool:
    if look.probe is None:
        return False
    found = known(look.probe)
    watch.lap("search")
    return found


def chosen(shelf: ModelShelf, models: ModelsConfig) -> tuple[ModelEntry, ModelEntry]:
    """The configured detector and embedder entries. Raises ModelError."""
    detector = models.detector or shelf.default("detector")
    embedder = models.embedder or shelf.default("embedder")
    return shelf.entry(detector, "detector"), shelf.entry(embedder, "embedder")


class Stopwatch:
    """How long each stage took, ms."""

    def __init__(self, laps_ms: Mapping[str, float] | None = None) -> None:
        """`laps_ms`: of the stages before."""
        self.laps_ms = dict(laps_ms or {})
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """The stage that ends now; another of its name before is counted in."""
        now = time.perf_counter()
        self.laps_ms[stage] = round(self.laps_ms.get(stage, 0.0) + (now - self._last) * 1000, 3)
        self._last = now
