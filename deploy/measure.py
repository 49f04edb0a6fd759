"""What only a running door shows: first face to relay, memory, start to armed.

    .venv/bin/python deploy/measure.py [--visits 60]

The real daemon in this process, real models, a gallery of 1,000 subjects with 5 templates, and in
place of the camera a 30 frames/s source in which a person appears at a random moment. Reported:
from the moment the source took the first frame with the face to the moment the relay's line moved.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import yaml
from demo_scene import filmed, hallway, photograph_scenes, write_clip

from edge.config import Config, load_config
from edge.daemon import build
from edge.disk import FileKey
from edge.door.gpio import RelayLine, claim_relay
from edge.identity.store import open_gallery
from edge.values import Frame, Template
from edge.vision.pictures import load_picture
from edge.vision.pipeline import Pipeline

PICTURES = Path(__file__).resolve().parents[1] / "tests" / "pictures"
FPS = 30
SUBJECTS, EACH = 1000, 5


class Visitors:
    """A camera, sibling of those in edge.vision.camera: somebody comes when told to."""

    def __init__(self) -> None:
        random = np.random.default_rng(1)
        scene = photograph_scenes([(PICTURES / "obama2.jpg", None)])[0]
        self._empty = [filmed(hallway(), i, random) for i in range(60)]
        self._person = [filmed(scene.frame, i, random) for i in range(60)]
        self._present = threading.Event()
        self._due = time.monotonic()
        self._i = 0
        self.first_face_at: float | None = None

    def come(self) -> None:
        """From the next frame on somebody stands there."""
        self.first_face_at = None
        self._present.set()

    def go(self) -> None:
        """From the next frame on nobody does."""
        self._present.clear()

    def read(self) -> Frame:
        """The next frame, when it is due."""
        self._due = max(self._due + 1 / FPS, time.monotonic())
        time.sleep(max(0.0, self._due - time.monotonic()))
        self._i = (self._i + 1) % 60
        present = self._present.is_set()
        pixels = (self._person if present else self._empty)[self._i].copy()
        pixels[0, 0] = np.frombuffer(np.random.default_rng().bytes(3), np.uint8)  # no two frames are equal
        taken_at = time.monotonic()
        if present and self.first_face_at is None:
            self.first_face_at = taken_at
        return Frame(pixels, taken_at)

    def close(self) -> None:
        """Nothing is held open."""


def fill_gallery(config: Config) -> None:
    """1,000 x 5 templates: 999 strangers at random, and the visitor from one photograph."""
    pipeline = Pipeline.load(config.models, config.quality)
    model, random = pipeline.embedder.model, np.random.default_rng(2)
    at = "2026-01-01T00:00:00Z"
    rows = []
    for i in range((SUBJECTS - 1) * EACH):
        vector = random.normal(size=pipeline.embedder.dimension).astype(np.float32)
        rows.append(Template(f"s{i // EACH}", vector / np.linalg.norm(vector), model, at))
    own = pipeline(load_picture(PICTURES / "obama.jpg")).probe
    assert own is not None
    rows += [Template("visitor", own.vector, model, at)]
    store = open_gallery(config.gallery_path, FileKey(config.key_path))
    store.add(rows)
    store.close()


def configuration(folder: Path, pad: str) -> Config:
    """A simulated door in `folder`."""
    path = folder / "config.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "site": "bench",
                "door_id": "front",
                "simulation": True,
                "state_dir": str(folder / "state"),
                "socket": str(folder / "control.sock"),
                "door": {"relay": {"line": 17}, "unlock_s": 0.2},
                "decision": {"cooldown_s": 1, "fpir_accepted_by": "the benchmark"},
                # how long it takes is measured, not what passes: the visitor is a photograph
                "pad": {"mode": pad, "live": -99, "unsure": -99},
            }
        )
    )
    return load_config(path)


def visit(visitors: Visitors, lines: RelayLine, random: np.random.Generator) -> float | None:
    """Seconds from the first frame with the face to the line; None when it did not open in 3 s."""
    time.sleep(0.6 + random.uniform(0, 1 / FPS))
    before = len(lines.history)
    visitors.come()
    deadline = time.monotonic() + 3
    opened = None
    while opened is None and time.monotonic() < deadline:
        time.sleep(0.002)
        opened = next((at for at, what in list(lines.history)[before:] if what == "UNLOCK"), None)
    visitors.go()
    time.sleep(1.1)  # past the cool-down
    return None if opened is None or visitors.first_face_at is None else opened - visitors.first_face_at


def run(folder: Path, visits: int, pad: str) -> dict[str, object]:
    """All figures of one daemon."""
    config = configuration(folder, pad)
    if not config.gallery_path.exists():
        fill_gallery(config)
    visitors = Visitors()
    lines = claim_relay(config.door.relay, simulation=True)
    daemon = build(config, lines=lines, open_source=lambda: visitors)
    daemon.start()
    while not daemon.reporter.health(time.monotonic()).armed:
        time.sleep(0.005)
    watcher = threading.Thread(target=daemon.wait, daemon=True)
    watcher.start()
    random = np.random.default_rng(3)
    times = [t for t in (visit(visitors, lines, random) for _ in range(visits)) if t is not None]
    daemon.ask_to_stop()
    watcher.join(5)
    daemon.stop()
    cuts = statistics.quantiles(times, n=100) if len(times) > 1 else [float("nan")] * 99
    return {
        "visits": visits,
        "opened": len(times),
        "face_to_relay_p50_ms": round(cuts[49] * 1000, 1),
        "face_to_relay_p95_ms": round(cuts[94] * 1000, 1),
    }


def start_to_armed(folder: Path) -> dict[str, object]:
    """A daemon as its own process, from exec to the log line `armed`; its memory then."""
    clip = folder / "clip.avi"
    write_clip(clip, photograph_scenes([(PICTURES / "biden.jpg", None)] * 3))
    text = yaml.safe_load((folder / "config.yaml").read_text())
    text["camera"] = {"source": f"file:{clip}", "loop": True}
    (folder / "clip.yaml").write_text(yaml.safe_dump(text))
    began = time.monotonic()
    daemon = subprocess.Popen(
        [Path(sys.executable).parent / "doord", "run", "-c", str(folder / "clip.yaml")],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert daemon.stderr is not None
        for line in daemon.stderr:
            if line.rstrip().endswith(" armed"):
                break
        armed_s = time.monotonic() - began
        time.sleep(8)  # faces come and go meanwhile
        status = Path(f"/proc/{daemon.pid}/status").read_text()
        kb = {
            k: int(v.split()[0])
            for k, _, v in (s.partition(":") for s in status.splitlines())
            if k.startswith("Vm")
        }
        return {
            "exec_to_armed_s": round(armed_s, 2),
            "daemon_rss_mb": round(kb["VmRSS"] / 1024),
            "daemon_peak_rss_mb": round(kb["VmHWM"] / 1024),
        }
    finally:
        daemon.terminate()
        daemon.wait(10)


def main() -> int:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--visits", type=int, default=60)
    parser.add_argument("--pad", choices=("off", "monitor", "enforce"), default="enforce")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="doord-measure-") as name:
        figures = run(Path(name), options.visits, options.pad)
        figures |= start_to_armed(Path(name))
    print(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
