"""Rebuild every shipped model from its source package and compare it with the manifest."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge.config import ModelsConfig
from edge.vision.detect import BlazeFace
from edge.vision.manifest import ModelShelf
from edge.vision.runtime import on_cpu
from models.build import calibrate, known_answers, shelf, sources
from models.build.float16 import to_float16
from models.build.float16_shelf import Float16Shelf
from models.build.quantize import Ranges
from models.build.recipes import CALIBRATED, TO_FLOAT, TO_FLOAT16, TO_SHIPPED

HERE = Path(__file__).parent
CACHE = HERE / "cache"
FLOAT = HERE / "out" / "float"
BUILT = HERE / "out" / "built"


def main() -> int:
    """0: every file identical to the manifest, or all rewritten; 1: one differs or can't be had."""
    parser = argparse.ArgumentParser(prog="models/build/build", description=__doc__)
    parser.add_argument(
        "--recalibrate",
        action="store_true",
        help="measure FaceNet's ranges anew; rewrite ranges, models, known answers and manifest",
    )
    parser.add_argument(
        "--float16",
        type=Path,
        metavar="OUT",
        help="make a folder for models.dir with float16 models, for GPUs; nothing that is shipped is touched",
    )
    arguments = parser.parse_args()
    try:
        if arguments.float16:
            return _float16(arguments.float16)
        return _recalibrate() if arguments.recalibrate else _verify()
    except sources.SourceError as error:
        print(f"models/build: {error}", file=sys.stderr)
        return 1


def _verify() -> int:
    differing = 0
    for entry in shelf.entries():
        same = shelf.digest(_build(entry)) == entry.sha256
        differing += not same
        print(f"{entry.file}: {'identical' if same else 'differs'}", flush=True)
    return 1 if differing else 0


def _float16(out: Path) -> int:
    made, differing = Float16Shelf(out), 0
    for entry in shelf.entries():
        if entry.file not in TO_FLOAT16:
            print(made.keep(entry.file), flush=True)
            continue
        whole = _float(entry)
        content = to_float16(whole)
        same = shelf.digest(content) == TO_FLOAT16[entry.file]
        differing += not same
        print(f"{made.put(entry.file, content, whole)}, {'identical' if same else 'differs'}", flush=True)
    made.close()
    return 1 if differing else 0


def _recalibrate() -> int:
    for entry in shelf.entries():
        if entry.file == CALIBRATED:
            calibrate.save(_ranges(entry))
        built = _build(entry)
        shelf.replace(entry, built)
        print(f"{entry.file}: rebuilt, sha256 {shelf.digest(built)}", flush=True)
    astronaut = calibrate.decode(sources.fetch(sources.ASTRONAUT, CACHE))
    for line in known_answers.write_all(astronaut):
        print(line, flush=True)
    return 0


def _ranges(entry: shelf.Shipped) -> Ranges:
    """FaceNet's ranges over faces found, cut and aligned by the product's own code."""
    models = ModelShelf.open(shelf.MODELS)
    found = models.entry(models.default("detector"), "detector")
    detector = BlazeFace(on_cpu(found, models.model_bytes(found), threads=2), ModelsConfig().min_face_score)
    embedder = next(e for e in models.entries if e.file == entry.file)
    pictures = [calibrate.decode(sources.fetch(member, CACHE)) for member in sources.PICTURES]
    crops = calibrate.crops(pictures, detector, embedder)
    print(f"{entry.file}: measuring ranges on {len(crops)} crops", flush=True)
    return calibrate.measure(_float(entry), crops, embedder.input.mean, embedder.input.scale)


def _float(entry: shelf.Shipped) -> bytes:
    """The float model, also left in out/float under the shipped file's name."""
    content = TO_FLOAT[entry.file](sources.fetch(entry.source, CACHE))
    FLOAT.mkdir(parents=True, exist_ok=True)
    (FLOAT / entry.file).write_bytes(content)
    return content


def _build(entry: shelf.Shipped) -> bytes:
    """The file to ship, also left in out/built; the float model beside it."""
    _float(entry)
    built = TO_SHIPPED[entry.file](sources.fetch(entry.source, CACHE))
    BUILT.mkdir(parents=True, exist_ok=True)
    (BUILT / entry.file).write_bytes(built)
    return built


if __name__ == "__main__":
    sys.exit(main())
