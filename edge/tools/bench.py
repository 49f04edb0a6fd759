"""`doord bench`: how long each stage takes here, how much memory, and the float path beside it.

Quantised and float frames take turns, so that whatever else the machine does hits both alike;
what is reported is the ratio of their medians.
"""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.config import ModelsConfig, QualityConfig
from edge.errors import DoordError, ImageError, ModelError
from edge.identity.match import search
from edge.values import Gallery, Probe, read_only
from edge.vision.detect import BlazeFace, letterbox
from edge.vision.embed import FaceNet
from edge.vision.manifest import ModelEntry, ModelShelf
from edge.vision.pictures import PICTURE_SUFFIXES, load_picture
from edge.vision.pipeline import Look, Pipeline, chosen
from edge.vision.runtime import Model, on_cpu
from edge.vision.video import open_video

STAGES = ("detect", "align", "embed", "search", "total")
DOOR_FRAME = (640, 480)  # width, height px: what a door's camera delivers by default
_CLIP_FRAMES = 60  # decoded before the clock runs; 0.9 MB each
_LARGE_GALLERY = 20_000
_SEARCHES = 50  # a tenth of them to warm up
_SWEEP_BYTES = 64 * 2**20  # more than the caches of a door's processor

Looker = Callable[[NDArray[np.uint8]], Look]


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What to run, how often, against how large a gallery."""

    source: Path  # a picture or a video file
    frames: int = 200
    warm_up: int = 20
    subjects: int = 1000
    templates_each: int = 5
    float_models: Path | None = None  # facenet.tflite, blazeface_short.tflite, blazeface_full.tflite


@dataclass(frozen=True, slots=True)
class Timing:
    """One stage over all frames, ms. `total` is measured, not the sum of the others."""

    stage: str
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class FloatPath:
    """The float models on the same frames, taking turns with the shipped ones."""

    models: str
    stages: tuple[Timing, ...]
    times_slower: float  # median total here / median total of the shipped models


@dataclass(frozen=True, slots=True)
class BenchReport:
    """The whole result."""

    machine: str
    models: str
    source: str
    frame: str  # how the source became a door's frame
    frames: int  # measured, with a face that passed the gate
    skipped: int  # measured, without one
    templates: int
    stages: tuple[Timing, ...]
    search_large: Timing  # the search alone
    search_large_templates: int
    rss_mb: float | None  # with models and gallery loaded; None: no /proc here
    peak_rss_mb: float | None
    float_path: FloatPath | None

    def json(self) -> str:
        """One JSON object with the field names above."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()

    def lines(self) -> list[str]:
        """Readable text."""
        memory = (
            "not known here"
            if self.rss_mb is None
            else f"{self.rss_mb:.0f} MB, peak {self.peak_rss_mb:.0f} MB"
        )
        lines = [
            f"machine  {self.machine}",
            f"models   {self.models}",
            f"frames   {self.frames} of {self.source} ({self.frame}); {self.skipped} without a usable face",
            f"memory   {memory} (shipped models and gallery loaded)",
            f"gallery  {self.templates:,} templates",
            "",
            *_table("shipped", self.stages),
            _row(f"search alone, {self.search_large_templates:,}", self.search_large),
        ]
        if self.float_path:
            path = self.float_path
            lines += ["", *_table("float", path.stages), "", f"float models  {path.models}"]
            lines += [
                f"the shipped models are {path.times_slower:.1f} times faster (ratio of the median totals)"
            ]
        return lines


def _table(words: str, stages: tuple[Timing, ...]) -> list[str]:
    return [f"{words + ', ms':28}{'p50':>9}{'p95':>9}{'p99':>9}", *(_row(t.stage, t) for t in stages)]


def _row(words: str, t: Timing) -> str:
    return f"{words:28}{t.p50_ms:9.2f}{t.p95_ms:9.2f}{t.p99_ms:9.2f}"


def run_bench(
    options: BenchOptions,
    models: ModelsConfig,
    gate: QualityConfig,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    load: Callable[[ModelsConfig, QualityConfig], Pipeline] = Pipeline.load,
) -> BenchReport:
    """Load the models and measure them on the source's frames, looped.

    Raises:
        ImageError: the source can't be read, or shows no face that passes the gate.
        ModelError: a model is missing or unusable.
        DoordError: an option out of range.
    """
    _check(options)
    pipeline = load(models, gate)
    model, dimension = pipeline.embedder.model, pipeline.embedder.dimension
    gallery = synthetic_gallery(options.subjects, options.templates_each, model, dimension)
    rss_mb, peak_mb = memory_mb()  # before what a door never loads: frames, more templates, float models
    large = time_search(_LARGE_GALLERY, model, dimension)
    frames, how = load_frames(options.source)
    looks: list[Looker] = [pipeline]
    if options.float_models:
        looks.append(load_float(options.float_models, models, gate))
    laps = take_turns(looks, gallery, frames, options, progress)
    shipped = summarise(laps[0])
    return BenchReport(
        machine=_machine(),
        models=f"{model} on {_running(pipeline)}",
        source=options.source.name,
        frame=how,
        frames=len(laps[0]),
        skipped=options.frames - len(laps[0]),
        templates=len(gallery),
        stages=shipped,
        search_large=large,
        search_large_templates=_LARGE_GALLERY,
        rss_mb=rss_mb,
        peak_rss_mb=peak_mb,
        float_path=_float_path(options.float_models, shipped, laps[1]) if options.float_models else None,
    )


def _running(pipeline: Pipeline) -> str:
    """What runs the embedder, and why not what is configured."""
    return f"{pipeline.backend} ({pipeline.backend_why})" if pipeline.backend_why else pipeline.backend


def _check(options: BenchOptions) -> None:
    for name, low in (("frames", 1), ("warm_up", 0), ("subjects", 1), ("templates_each", 1)):
        if not getattr(options, name) >= low:
            raise DoordError(f"{name}: expected >= {low}, got {getattr(options, name)}")


def _machine() -> str:
    """Processor, how many CPUs this process may use, and how busy they were."""
    cpus, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    return f"{platform.machine()}, {cpus} CPUs, load average {load:.1f}, Python {platform.python_version()}"


def memory_mb() -> tuple[float | None, float | None]:
    """This process's resident memory now and at its peak, MB of 2**20 bytes; None without /proc."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None, None
    found = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB", status, re.MULTILINE))
    now, peak = (found.get(key) for key in ("VmRSS", "VmHWM"))
    return int(now) / 1024 if now else None, int(peak) / 1024 if peak else None


def load_frames(source: Path) -> tuple[list[NDArray[np.uint8]], str]:
    """A picture, or the first frames of a video, as 640x480 RGB frames, and how they became so.

    Decoded beforehand: a video decoder's threads would run beside what is timed.

    Raises:
        ImageError: nothing there that can be decoded.
    """
    pictures = [load_picture(source)] if source.suffix.lower() in PICTURE_SUFFIXES else _video(source)
    height, width = pictures[0].shape[:2]
    if (width, height) == DOOR_FRAME:
        return pictures, "640x480 as it is"
    fitted = [letterbox(p, DOOR_FRAME) for p in pictures]
    scale = fitted[0][1]
    how = f"{width}x{height} scaled by {scale:.3g} onto black 640x480"
    return [read_only(canvas) for canvas, _, _ in fitted], how


def _video(source: Path) -> list[NDArray[np.uint8]]:
    capture = open_video(source, ImageError)
    frames: list[NDArray[np.uint8]] = []
    try:
        while len(frames) < _CLIP_FRAMES:
            there, bgr = capture.read()
            if not there:
                break
            frames.append(read_only(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)))
    finally:
        capture.release()
    if not frames:
        raise ImageError(f"{source}: expected a video with frames, got none that can be decoded")
    return frames


def load_float(folder: Path, models: ModelsConfig, gate: QualityConfig) -> Pipeline:
    """The same pipeline over the float models in a folder.

    They go by the manifest entries of the configured models, without its sha256 and known
    answer: those are of the shipped files.

    Raises:
        ModelError: a file is missing or does not fit its entry.
    """
    detector, embedder = chosen(ModelShelf.open(models.dir), models)
    blazeface = "blazeface_full.tflite" if "full" in detector.id else "blazeface_short.tflite"
    return Pipeline(
        BlazeFace(_float_model(folder / blazeface, detector, models), models.min_face_score),
        FaceNet(_float_model(folder / "facenet.tflite", embedder, models)),
        gate,
    )


def _float_model(path: Path, entry: ModelEntry, models: ModelsConfig) -> Model:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: expected a float model, got: {error.strerror}") from None
    return on_cpu(entry, content, models.threads, models.runtime)


def synthetic_gallery(subjects: int, templates_each: int, model: str, dimension: int) -> Gallery:
    """Random unit templates, the same ones each time."""
    vectors = np.random.default_rng(1).standard_normal((subjects * templates_each, dimension), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    owners = np.repeat(np.arange(subjects, dtype=np.intp), templates_each)
    names = tuple(f"subject-{i}" for i in range(subjects))
    return Gallery(1, model, names, read_only(vectors), read_only(owners))


def time_search(templates: int, model: str, dimension: int) -> Timing:
    """The search alone among `templates`, five to a subject, each from cold caches.

    At a door the networks run between two searches and push the templates out of the cache;
    searches in a row would find them there and come out several times too fast.
    """
    gallery = synthetic_gallery(templates // 5, 5, model, dimension)
    probe = Probe(gallery.templates[-1], model, 0.0)
    sweep = np.zeros(_SWEEP_BYTES, np.uint8)
    times_ms = []
    for _ in range(_SEARCHES):
        sweep += 1
        began = time.perf_counter()
        search(probe, gallery)
        times_ms.append((time.perf_counter() - began) * 1000)
    return _timing("search", times_ms[_SEARCHES // 10 :])


Lap = dict[str, float]  # stage -> ms


def take_turns(
    looks: list[Looker],
    gallery: Gallery,
    frames: list[NDArray[np.uint8]],
    options: BenchOptions,
    progress: Callable[[int, int], None],
) -> list[list[Lap]]:
    """For each of `looks` its laps over the same frames, warm-up left out; who begins alternates.

    Raises:
        ImageError: one of them found no face that passes the gate.
    """
    laps: list[list[Lap]] = [[] for _ in looks]
    refusal = "no face"
    total = options.warm_up + options.frames
    for turn in range(total):
        pixels = frames[turn % len(frames)]
        for i in range(len(looks)) if turn % 2 else reversed(range(len(looks))):
            lap = _lap(looks[i], gallery, pixels)
            if isinstance(lap, str):
                refusal = lap
            elif turn >= options.warm_up:
                laps[i].append(lap)
        progress(turn + 1, total)
    if not all(laps):
        raise ImageError(f"{options.source}: expected a face that passes the gate, got: {refusal}")
    return laps


def _lap(look: Looker, gallery: Gallery, pixels: NDArray[np.uint8]) -> Lap | str:
    """The stages of one frame, or why no face was compared."""
    began = time.perf_counter()
    seen = look(pixels)
    if seen.probe is None:
        return seen.shortcoming or "no face"
    looked = time.perf_counter()
    search(seen.probe, gallery)
    ended = time.perf_counter()
    return {**seen.stages_ms, "search": (ended - looked) * 1000, "total": (ended - began) * 1000}


def summarise(laps: list[Lap]) -> tuple[Timing, ...]:
    """Percentiles of each stage over laps (at least one)."""
    return tuple(_timing(stage, [lap[stage] for lap in laps]) for stage in STAGES)


def _timing(stage: str, times_ms: list[float]) -> Timing:
    return Timing(stage, *(round(float(p), 3) for p in np.percentile(times_ms, (50, 95, 99))))


def _float_path(folder: Path, shipped: tuple[Timing, ...], laps: list[Lap]) -> FloatPath:
    stages = summarise(laps)
    return FloatPath(folder.name, stages, round(stages[-1].p50_ms / shipped[-1].p50_ms, 2))
