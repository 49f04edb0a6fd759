"""Synthetic presentation attacks out of clips or pictures of people.

    .venv/bin/python deploy/pad_attacks.py CLIPS OUT [--species tablet-photo-stand,…] [--seed 1]

CLIPS is a folder of videos and pictures, or of a folder of them per person (the stem before the
first underscore is a person otherwise). OUT becomes `genuine/<person>/…`, copies of the sources:
also the limit of a perfect screen; and `attack/<species>/<person>/<source>.avi`, each with a `.json`
of all that was drawn for it. The same seed makes the same clips; those already there are kept.
`doord evaluate --pad OUT` measures on it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from pad_scene import HEIGHT, WIDTH, Detect, Source, film, open_source
from pad_species import SPECIES, Shot, draw

from edge.config import ModelsConfig, QualityConfig
from edge.evaluate.presentations import Presentation, list_presentations
from edge.values import DISTANCE_CEILING
from edge.vision.pipeline import Pipeline


@dataclass(frozen=True)
class Plan:
    """One clip to make."""

    species: str
    shown: Presentation
    behind: Presentation | None  # the attacker's own clip
    out: Path
    seed: int
    seconds: float
    fps: float


def plans(
    sources: Sequence[Presentation], out: Path, species: Sequence[str], seed: int, seconds: float, fps: float
) -> list[Plan]:
    """A clip for every species and source; behind it, somebody else or nobody. Reproducible."""
    made = []
    for name in species:
        for shown in sources:
            if SPECIES[name].video and shown.path.suffix.lower() in {".jpg", ".png", ".jpeg"}:
                continue  # a picture can't be replayed
            own = zlib.crc32(f"{seed}/{name}/{shown.person}/{shown.path.stem}".encode())
            others = [s for s in sources if s.person != shown.person]
            behind = others[own % len(others)] if others else None
            where = out / "attack" / name / shown.person / f"{shown.path.stem}.avi"
            made.append(Plan(name, shown, behind, where, own, seconds, fps))
    return made


def make(plan: Plan) -> str | None:
    """Film one clip, unless it is there; why not, in words."""
    if plan.out.exists():
        return None
    source = _opened(plan.shown, plan.seconds)
    if source is None:
        return f"{plan.shown.path}: no face found: left out"
    other = _opened(plan.behind, plan.seconds) if plan.behind else None
    shot = draw(plan.species, plan.shown.path.name, plan.seed, np.random.default_rng(plan.seed))
    plan.out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = plan.out.with_name(f".{os.getpid()}.{plan.out.name}")  # hidden: not yet a presentation
    write(unfinished, shot, source, other, plan)
    plan.out.with_suffix(".json").write_text(json.dumps(asdict(shot), indent=1) + "\n")
    unfinished.replace(plan.out)
    return None


def write(path: Path, shot: Shot, source: Source, other: Source | None, plan: Plan) -> None:
    """The clip as a camera's MJPEG."""
    codec = cv2.VideoWriter.fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), cv2.CAP_OPENCV_MJPEG, codec, plan.fps, (WIDTH, HEIGHT))
    if not writer.isOpened():
        raise SystemExit(f"pad_attacks: {path}: OpenCV can't write a video here")
    writer.set(cv2.VIDEOWRITER_PROP_QUALITY, shot.camera.jpeg_quality)
    try:
        for rgb in film(shot, source, other, plan.seconds, plan.fps):
            writer.write(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    finally:
        writer.release()


@cache
def _pipeline() -> Pipeline:
    return Pipeline.load(ModelsConfig(threads=1), QualityConfig())


def _detect() -> Detect:
    return lambda pixels: _pipeline()(pixels).faces


@cache
def _opened(shown: Presentation, seconds: float) -> Source | None:
    return open_source(shown.path, shown.person, seconds, _detect())


def by_face(sources: Sequence[Presentation]) -> list[Presentation]:
    """The same with one person's sources under one name, as doord's own embedder sees it.

    Clips are named after what is said in them, not after who says it: figures per person need to know.
    """
    known: list[tuple[str, np.ndarray]] = []
    renamed = []
    for shown in sources:
        vector = _vector(shown)
        name = shown.person
        if vector is not None:
            near = min(known, key=lambda k: float(np.linalg.norm(k[1] - vector)), default=None)
            if near is not None and np.linalg.norm(near[1] - vector) < DISTANCE_CEILING:
                name = near[0]
            known.append((name, vector))
        renamed.append(Presentation(name, shown.species, shown.path))
    return renamed


def _vector(shown: Presentation) -> np.ndarray | None:
    """The mean vector of the person's face over a few frames."""
    source = _opened(shown, 3.0)
    if source is None:
        return None
    pipeline, (x, y, w, _) = _pipeline(), source.face
    vectors = []
    for picture in source.pictures[:: max(1, len(source.pictures) // 6)]:
        near = [f for f in pipeline(picture).faces if abs(f.box[0] - x) + abs(f.box[1] - y) < w]
        vectors += [pipeline.embedder.embed(pipeline.embedder.align(picture, f)) for f in near[:1]]
    if not vectors:
        return None
    mean = np.mean(vectors, axis=0)
    return np.asarray(mean / np.linalg.norm(mean))


def copy_genuine(sources: Sequence[Presentation], out: Path) -> None:
    """The sources as they are."""
    for shown in sources:
        where = out / "genuine" / shown.person / shown.path.name
        where.parent.mkdir(parents=True, exist_ok=True)
        if not where.exists():
            (shutil.copytree if shown.path.is_dir() else shutil.copy2)(shown.path, where)


def thinned(sources: Sequence[Presentation], each: int) -> list[Presentation]:
    """At most `each` sources of a person, evenly taken."""
    people: dict[str, list[Presentation]] = {}
    for shown in sources:
        people.setdefault(shown.person, []).append(shown)
    picked = []
    for own in people.values():
        rows = np.unique(np.linspace(0, len(own) - 1, min(each, len(own))).round().astype(int))
        picked += [own[i] for i in rows]
    return picked


def _made(work: Sequence[Plan], workers: int) -> Iterator[str | None]:
    if workers <= 1:
        yield from map(make, work)
        return
    # spawned: a fork inherits the locks of the runtime's threads, but not the threads
    fresh = get_context("spawn")
    with ProcessPoolExecutor(workers, fresh, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        yield from pool.map(make, work)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--species", default=",".join(SPECIES), help="some of: %(default)s")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--fps", type=float, default=15.0)
    parser.add_argument("--each", type=int, default=1000, help="at most that many sources of a person")
    parser.add_argument("--by-face", action="store_true", help="sources of one face are one person's")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    chosen = options.species.split(",")
    if unknown := set(chosen) - set(SPECIES):
        parser.error(f"--species: expected some of {', '.join(SPECIES)}, got {', '.join(sorted(unknown))}")
    sources = list_presentations(options.clips, None)
    sources = thinned(by_face(sources) if options.by_face else sources, options.each)
    copy_genuine(sources, options.out)
    work = plans(sources, options.out, chosen, options.seed, options.seconds, options.fps)
    for done, note in enumerate(_made(work, options.workers), start=1):
        if note:
            print(note)
        elif done % 20 == 0:
            print(f"{done} of {len(work)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
