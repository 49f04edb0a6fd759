"""What the shipped models say of the repository's pictures, and how far two processors' answers differ.

    python tests/aarch64/outputs.py take FILE RUNTIME    # on one of them
    python tests/aarch64/outputs.py compare A B          # lines of a Markdown table

`take` ends with an error when anything of a GPU was loaded: on a Cortex-A72 that kills. `compare` ends with 1
when the processors differ in anything that a decision hangs on: a face found or not, or a pair of pictures
on different sides of the threshold.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np

from edge.config import ModelsConfig, QualityConfig
from edge.values import DISTANCE_CEILING
from edge.vision.detect import BlazeFace
from edge.vision.embed import FaceNet
from edge.vision.gpu_verdicts import GpuVerdicts
from edge.vision.manifest import ModelShelf
from edge.vision.pictures import load_picture
from edge.vision.pipeline import Pipeline
from edge.vision.selftest import load_model, output_drift

PICTURES = Path(__file__).resolve().parents[1] / "pictures"
DETECTORS = ("blazeface-short-1", "blazeface-full-1")
EMBEDDER = "facenet-512-int8-1"


def take(runtime: str) -> dict[str, np.ndarray]:
    """By name: `<detector>/<picture>/faces` rows of x, y, w, h, landmarks, score; `.../vector` (512,);
    `<model>/known/<output>` the raw outputs of its known answer's picture."""
    found: dict[str, np.ndarray] = {}
    shelf = ModelShelf.open()
    config = ModelsConfig(runtime=runtime)
    gpu = GpuVerdicts(config, None)  # as a door has it
    models = {e.id: load_model(shelf, e, config, gpu) for e in shelf.entries}  # known answers right
    found["runs on"] = np.array([models[EMBEDDER].backend, models[EMBEDDER].why])
    for entry in shelf.entries:
        raw = models[entry.id](_known_picture(shelf, entry.known_answer.file))
        found |= {f"{entry.id}/known/{o.name}": np.array(r) for o, r in zip(entry.outputs, raw, strict=True)}
    for name in DETECTORS:
        detector, embedder = BlazeFace(models[name], ModelsConfig().min_face_score), FaceNet(models[EMBEDDER])
        pipeline = Pipeline(detector, embedder, QualityConfig())
        for path in sorted(PICTURES.glob("*.jpg")):
            look = pipeline(load_picture(path))
            faces = [np.hstack([f.box, f.landmarks.ravel(), f.score]) for f in look.faces]
            found[f"{name}/{path.stem}/faces"] = np.array(faces, np.float64).reshape(-1, 17)
            if look.probe is not None:
                found[f"{name}/{path.stem}/vector"] = look.probe.vector
    mapped = Path("/proc/self/maps").read_text()
    assert "_pywrap" in mapped, "the map of this process shows no runtime"
    assert "WebGpu" not in mapped, "the GPU accelerator was loaded"
    assert not [name for name in sys.modules if "compiled_model" in name]
    return found


def _known_picture(shelf: ModelShelf, name: str) -> np.ndarray:
    with np.load(io.BytesIO(shelf.read(name))) as stored:
        return stored["image"]


def compare(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> tuple[list[str], bool]:
    """Lines of a table, and whether everything that a decision hangs on is the same."""
    lines = ["| FaceNet runs on | {}; nothing of a GPU is loaded: {} |".format(*b["runs on"])]
    for name in sorted(n for n in a if "/known/" in n):
        drift = output_drift(a[name], b[name])
        worst = float(np.abs(a[name].astype(np.float64) - b[name]).max())
        same = "identical" if np.array_equal(a[name], b[name]) else f"drift {drift:.1e}, worst {worst:.1e}"
        lines.append(f"| {name.replace('/known/', ', ')}, known answer's picture | {same} |")
    agree = sorted(a) == sorted(b)
    for detector in DETECTORS:
        faces = [n for n in a if n.startswith(detector) and n.endswith("/faces")]
        agree = agree and all(a[n].shape == b[n].shape for n in faces)
        if agree:
            px = max(
                (float(np.abs(a[n][:, :16] - b[n][:, :16]).max()) for n in faces if len(a[n])), default=0.0
            )
            lines.append(
                f"| {detector}: boxes and key points in {len(faces)} pictures | at most {px:.2g} px apart |"
            )
    names = sorted(n for n in a if n.endswith("/vector") and n in b)
    drift = max(float(np.linalg.norm(a[n] - b[n])) for n in names)
    lines.append(
        f"| FaceNet after detection and alignment, {len(names)} probes | L2 at most {drift:.2g} apart |"
    )
    ours, theirs = (np.stack([side[n] for n in names]) for side in (a, b))
    distances = [np.linalg.norm(v[:, None] - v[None], axis=2) for v in (ours, theirs)]
    moved = float(np.abs(distances[0] - distances[1]).max())
    verdicts = bool(np.array_equal(*(d < DISTANCE_CEILING for d in distances)))
    lines.append(
        f"| distances of their {len(names) ** 2} pairs | at most {moved:.2g} apart; "
        f"verdicts at {DISTANCE_CEILING} {'the same' if verdicts else 'DIFFERENT'} |"
    )
    return lines, agree and verdicts


def main() -> int:
    """See the module."""
    if sys.argv[1] == "take":
        np.savez(sys.argv[2], **take(sys.argv[3]))
        return 0
    with np.load(sys.argv[2]) as a, np.load(sys.argv[3]) as b:
        lines, agree = compare(dict(a), dict(b))
    print("\n".join(lines))
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
