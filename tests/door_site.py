"""A door in a folder: its configuration, its clip, its daemon as a real process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import yaml
from broker import die_with_parent, wait_until

from edge.vision.pictures import load_picture

PICTURES = Path(__file__).parent / "pictures"
FPS = 10


class Site:
    """A door unit of its own in `folder`."""

    def __init__(self, folder: Path, **changes: object) -> None:
        self.folder = folder
        self.path = folder / "config.yaml"
        self.log = folder / "doord.log"
        self.config: dict = {
            "site": "hq",
            "door_id": "front",
            "simulation": True,
            "state_dir": str(folder / "state"),
            "socket": str(folder / "control.sock"),
            "door": {"relay": {"line": 17}, "unlock_s": 0.5},
            "camera": {"source": f"file:{folder / 'clip.avi'}", "loop": False},
            "pad": {"mode": "monitor"},  # the clips are photographs, shown for less than a decision takes
            **changes,
        }
        self.write()

    def write(self) -> None:
        self.path.write_text(yaml.safe_dump(self.config))

    def doord(self, *arguments: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """A doord command that ends by itself, with the exit code it must have."""
        done = subprocess.run(
            [sys.executable, "-m", "edge.cli", *arguments, "-c", str(self.path)],
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        assert code is None or done.returncode == code, (done.args, done.stdout, done.stderr)
        return done

    def enrol(self, subject: str, *names: str) -> None:
        self.doord("enrol", "--subject", subject, *(str(PICTURES / name) for name in names))

    @contextlib.contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """`doord run` until the block ends."""
        with self.log.open("ab") as out:
            daemon = subprocess.Popen(
                [sys.executable, "-m", "edge.cli", "run", "-c", str(self.path)],
                stdout=out,
                stderr=out,
                preexec_fn=die_with_parent,
            )
        try:
            yield daemon
        finally:
            if daemon.poll() is None:
                daemon.send_signal(signal.SIGTERM)
                try:
                    daemon.wait(15)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    daemon.wait()
                    raise AssertionError(f"doord did not stop on SIGTERM: {self.said}") from None

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, words: str) -> None:
        wait_until(lambda: words in self.said, f"{words!r} in the daemon's log", 30)

    def status(self) -> dict:
        return json.loads(self.doord("status", "--json").stdout)


def clip(path: Path, names: list[str], seconds: float = 2.0, empty_s: float = 1.6) -> None:
    """A video of photographs, each swaying as a person would, with an empty hallway between."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (640, 480))
    assert writer.isOpened()
    random = np.random.default_rng(3)
    hallway = np.kron(random.integers(60, 160, (12, 16, 1)), np.ones((40, 40, 3))).astype(np.uint8)
    for name in ["", *(shown for person in names for shown in (person, ""))]:
        scene = stand(hallway, load_picture(PICTURES / name)) if name else hallway
        for i in range(round((seconds if name else empty_s) * FPS)):
            shift = np.float32([[1, 0, 3 * np.sin(i / 3)], [0, 1, 2 * np.cos(i / 4)]])
            moved = cv2.warpAffine(scene, shift, (640, 480), borderMode=cv2.BORDER_REFLECT)
            noisy = np.clip(moved + random.normal(0, 3, moved.shape), 0, 255).astype(np.uint8)
            writer.write(cv2.cvtColor(noisy, cv2.COLOR_RGB2BGR))
    writer.release()


def stand(hallway: np.ndarray, photograph: np.ndarray) -> np.ndarray:
    """Head and shoulders in the middle of the hallway."""
    part = photograph[: min(photograph.shape[0], round(photograph.shape[1] * 0.9))]
    width = min(640, round(part.shape[1] * 480 / part.shape[0]))
    scene = hallway.copy()
    left = (640 - width) // 2
    scene[:, left : left + width] = cv2.resize(part, (width, 480), interpolation=cv2.INTER_AREA)
    return scene


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A Python process with the tests' folder on its path."""
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
    }
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60, env=env
    )
