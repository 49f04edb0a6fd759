"""What each PAD layer and all together let pass, per species: the README's table.

    .venv/bin/python deploy/measure_pad.py FOLDER [--layers texture,stillness] [--enrolled]

FOLDER is what deploy/pad_attacks.py made, or any that `doord evaluate --pad` reads; detector, gate,
frame spacing and figures are that command's. Printed: a table in Markdown, worst species first,
and which genuine clips are refused. `--enrolled` knows the people of the genuine clips, as a door's
gallery does, which of several faces asks about the known one: a face on somebody's clothes then
does not stand for their wearer.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pad_scene import persons_first

from edge.config import ModelsConfig, QualityConfig
from edge.evaluate.layers import pad_layers
from edge.evaluate.pad import Judged, Share
from edge.evaluate.pad_report import PadReport, Setting
from edge.evaluate.pad_run import PadOptions, judge
from edge.evaluate.pad_score import score_all
from edge.evaluate.presentations import Presentation, frames, open_presentations
from edge.progress import bar
from edge.values import DISTANCE_CEILING, Probe
from edge.vision.pipeline import Look, Pipeline
from edge.vision.quality import measure, shortcoming

_ENROL_EVERY = 15  # frames of a genuine clip, half a second


class OwnFace:
    """A pipeline that asks about the uppermost large face, as who enrols somebody sees to it."""

    def __init__(self, pipeline: Pipeline, gate: QualityConfig) -> None:
        self._pipeline, self._gate = pipeline, gate

    def __call__(self, pixels: NDArray[np.uint8]) -> Look:
        """Look at a picture. Raises ModelError."""
        seen = self._pipeline(pixels)
        faces = persons_first(seen.faces)
        if not faces or faces[0] is seen.face:
            return seen
        crop = self._pipeline.embedder.align(pixels, faces[0])
        quality = measure(faces[0], crop)
        short = shortcoming(quality, self._gate)
        if short is not None:
            return Look(seen.faces, faces[0], quality, short)
        embedder = self._pipeline.embedder
        return Look(
            seen.faces, faces[0], quality, None, Probe(embedder.embed(crop), embedder.model, 0.0, quality)
        )


class Door:
    """The door's eyes, at a door where the people of the genuine clips are enrolled."""

    def __init__(self, pipeline: Pipeline, gate: QualityConfig) -> None:
        self._pipeline, self._own = pipeline, OwnFace(pipeline, gate)
        self.people: dict[str, NDArray[np.float32]] = {}

    def enrol(self, everybody: Sequence[Presentation], fps: float) -> None:
        """Know everybody by a few frames of each genuine clip, as a sitting would."""
        vectors: dict[str, list[NDArray[np.float32]]] = {}
        for shown in everybody:
            if shown.species is None:
                for i, frame in enumerate(frames(shown.path, fps)):
                    if i % _ENROL_EVERY == 0 and (probe := self._own(frame.pixels).probe):
                        vectors.setdefault(shown.person, []).append(probe.vector)
        for person, own in vectors.items():
            mean = np.mean(own, axis=0)
            self.people[person] = np.asarray(mean / np.linalg.norm(mean), np.float32)

    def __call__(self, pixels: NDArray[np.uint8]) -> Look:
        """Look at a picture. Raises ModelError."""
        return self._pipeline(pixels, known=self._knows)

    def _knows(self, probe: Probe) -> bool:
        return any(is_of(probe, person) for person in self.people.values())


def is_of(probe: Probe, person: NDArray[np.float32]) -> bool:
    """Whether a probe is near enough to a person's template (D,)."""
    return bool(np.linalg.norm(probe.vector - person) < DISTANCE_CEILING)


def markdown(report: PadReport) -> list[str]:
    """A row a species, worst first by the last setting (all layers together), and one of BPCER."""
    whole = report.settings[-1]
    lines = [
        "| APCER, " + " | ".join(_title(s) for s in report.settings) + " |",
        "|---" * (1 + len(report.settings)) + "|",
    ]
    for row in whole.table.species:
        cells = [next(r for r in s.table.species if r.name == row.name).errors for s in report.settings]
        lines.append(f"| {row.name} | " + " | ".join(map(_cell, cells)) + " |")
    return [*lines, "| BPCER | " + " | ".join(_cell(s.table.bpcer.errors) for s in report.settings) + " |"]


def _title(setting: Setting) -> str:
    return " + ".join(f"{name} >= {value}" for name, value in setting.thresholds.items())


def _cell(share: Share) -> str:
    if not share.of:
        return "none"
    rate, high = (math.ceil(round(v * 100, 9)) for v in (share.rate, share.high))
    return f"{rate} % ({share.count}/{share.of}), at most {high} %"


def refused(presented: Sequence[Judged], thresholds: dict[str, float]) -> list[str]:
    """A line of each genuine presentation whose first attempt is refused by a layer."""
    lines = []
    for judged in presented:
        if judged.species is None and judged.attempts:
            scores = judged.attempts[0]
            bad = {k: v for k, v in scores.items() if not v >= thresholds[k]}
            if bad:
                words = ", ".join(f"{layer} {score:.3g}" for layer, score in bad.items())
                lines.append(f"refused: {judged.person}/{judged.name}: {words}")
    return lines


def main() -> int:
    """Print the table."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", default="texture,stillness")
    parser.add_argument("--enrolled", action="store_true")
    options = parser.parse_args()
    gate = QualityConfig()
    layers = pad_layers(options.layers.split(","), ModelsConfig())
    pipeline = Pipeline.load(ModelsConfig(), gate)
    told = PadOptions(options.folder, layers.live)
    presentations = open_presentations(told.source)
    door = Door(pipeline, gate)
    if options.enrolled:
        door.enrol(presentations, told.pace.folder_fps)
    scored = score_all(presentations, door, layers.make, told.pace, bar("presentations"))
    report = judge(told, scored, layers.words)
    thresholds = {name: float(value) for s in report.settings for name, value in s.thresholds.items()}
    print(*markdown(report), *refused(scored.presented, thresholds), *report.lines(), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
