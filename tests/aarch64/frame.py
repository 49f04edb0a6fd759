"""One frame through the models on one thread, each stage between two getppid(): what count.c counts.

python tests/aarch64/frame.py [FOLDER of float models]
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from edge.config import ModelsConfig, QualityConfig
from edge.tools.bench import load_float, load_frames
from edge.vision.pipeline import Pipeline
from edge.vision.quality import measure, shortcoming

PICTURE = Path(__file__).resolve().parents[1] / "pictures" / "obama.jpg"


def counted(stage: str, work: Callable[[], object]) -> None:
    """Once to warm up, once between the marks; told on stderr, where the counts are."""
    work()
    print("stage", stage, file=sys.stderr, flush=True)
    os.getppid()
    work()
    os.getppid()


def main(floats: Path | None) -> None:
    """Detect, align and measure, embed."""
    models, gate = ModelsConfig(threads=1), QualityConfig()
    pipeline = load_float(floats, models, gate) if floats else Pipeline.load(models, gate)
    detector, embedder = pipeline._detector, pipeline.embedder
    pixels = load_frames(PICTURE)[0][0]
    face = detector(pixels)[0]
    crop = embedder.align(pixels, face)
    counted("detect", lambda: detector(pixels))
    counted("align", lambda: shortcoming(measure(face, embedder.align(pixels, face)), gate))
    counted("embed", lambda: embedder.embed(crop))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
