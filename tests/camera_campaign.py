"""Network cameras that stall, die, come back, change size, and a decoder killed: does the door recover?

    python tests/camera_campaign.py [--cycles 50] [--json FILE]

The whole daemon in a process of its own (camera_worker.py): shipped models, simulated lines, a real RTSP
camera and then a real MJPEG one on loopback, 25 frames a second of a person, its decoder a real child. A
cycle is one fault, and the time from the moment that the camera could be had again (from the fault, where
it never went away) to the next frame. The first tenth of the cycles goes before the first look at memory.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from clip import Clip, encode
from mjpeg import MjpegServer, jpeg, part
from numpy.typing import NDArray
from rtsp import RtspServer, noise

HERE = Path(__file__).parent
SIZES = ((640, 480), (480, 360))
FPS = 25
_PATIENCE_S = 30.0
_BETWEEN_S = 1.0  # of frames before each fault


class Worker:
    """A running camera_worker and what it told last."""

    def __init__(self, folder: Path, url: str) -> None:
        folder.mkdir(parents=True)
        config = {
            "site": "hq",
            "door_id": "front",
            "simulation": True,
            "state_dir": str(folder / "state"),
            "socket": str(folder / "control.sock"),
            "door": {"relay": {"line": 17}},
            "camera": {"source": url},
            "pad": {"mode": "monitor"},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        self._errors = (folder / "stderr").open("w")
        command = [sys.executable, str(HERE / "camera_worker.py"), str(folder / "config.yaml")]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._errors, text=True)
        self.told: dict[str, Any] = {"delivered": 0}
        self.gap_s, self._came_at = 0.0, float("inf")
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            told = json.loads(line)
            if told["delivered"] > self.told["delivered"]:
                self._came_at = told["at"]
            self.gap_s = max(self.gap_s, told["at"] - self._came_at)
            self.told = told

    def wait(self, condition: Callable[[], object], what: str) -> float:
        """Until it holds; how long that took, s."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > _PATIENCE_S or self._process.poll() is not None:
                raise AssertionError(f"in vain: {what}; {self.told}")
            time.sleep(0.01)
        return time.monotonic() - began

    def frames(self, more: int = 1) -> float:
        """Until so many more frames came; how long that took, s."""
        goal = self.told["delivered"] + more
        return self.wait(lambda: self.told["delivered"] >= goal, f"{more} frames")

    def close(self) -> None:
        """SIGTERM, and what is left killed."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._process.kill()
        self._errors.close()


class Camera:
    """What a fault can do to a camera, whatever it speaks. `way` is how each visitor is served."""

    def __init__(self) -> None:
        self.silent, self.size, self.garbage = threading.Event(), 0, threading.Event()


class RtspCamera(Camera):
    """H.264 over RTP in TCP."""

    def __init__(self, pictures: list[NDArray[np.uint8]]) -> None:
        super().__init__()
        self.clips: list[Clip] = [encode([cv2.resize(p, size) for p in pictures], FPS) for size in SIZES]
        self.server = RtspServer(lambda visitor, _: self._serve(visitor), self.clips[0])

    def _serve(self, visitor: Any) -> None:
        stalled = False
        for number in itertools.count():
            clip = self.clips[self.size]
            if self.garbage.is_set():
                self.garbage.clear()
                visitor.raw(noise(20_000))
            if self.silent.is_set():
                self.silent.clear()
                stalled = True
            if not stalled:  # a stall ends with the connection only
                visitor.send(clip.units[number % len(clip.units)], FPS)
            visitor.pause(1 / FPS)

    def start(self) -> str:
        return self.server.start().url

    def kill(self) -> None:
        self.server.kill()


class MjpegCamera(Camera):
    """Pictures in multipart/x-mixed-replace."""

    def __init__(self, pictures: list[NDArray[np.uint8]]) -> None:
        super().__init__()
        self.shots = [[part(jpeg(cv2.resize(p, size))) for p in pictures] for size in SIZES]
        self.server: MjpegServer | None = None
        self._port = 0

    def _serve(self, wire: Any, _visit: int) -> None:
        wire.head()
        stalled = False
        for number in itertools.count():
            if self.garbage.is_set():
                self.garbage.clear()
                wire.send(noise(20_000))
            if self.silent.is_set():
                self.silent.clear()
                stalled = True
            shots = self.shots[self.size]
            if not stalled:
                wire.send(shots[number % len(shots)])
            wire.pause(1 / FPS)

    def start(self) -> str:
        self.server = MjpegServer(self._serve, self._port).__enter__()
        self._port = self.server.port
        return self.server.url

    def kill(self) -> None:
        assert self.server
        self.server.__exit__()


def decoder_killed(camera: Camera, worker: Worker) -> float:
    for pid in worker.told["children"]:
        os.kill(int(pid), signal.SIGKILL)
    return _after_silence(worker)


def stalled(camera: Camera, worker: Worker) -> float:
    camera.silent.set()
    return _after_silence(worker)


def garbage(camera: Camera, worker: Worker) -> float:
    camera.garbage.set()
    return worker.frames(5)


def away(camera: Any, worker: Worker, for_s: float = 3.0) -> float:
    camera.kill()
    worker.wait(lambda: worker.told["problem"], "a problem is told")
    time.sleep(for_s)
    camera.start()
    return worker.frames()


def resized(camera: Camera, worker: Worker) -> float:
    camera.size = 1 - camera.size
    return worker.wait(lambda: worker.told["width"] == SIZES[camera.size][0], "pictures of the new size")


def _after_silence(worker: Worker) -> float:
    """From now until frames come again; they still do for a moment."""
    began = time.monotonic()
    worker.wait(lambda: worker.told["problem"], "a problem is told")
    worker.frames()
    return time.monotonic() - began


FAULTS: dict[str, tuple[Callable[[Any, Worker], float], ...]] = {
    "rtsp": (decoder_killed, stalled, away, resized, garbage),
    "mjpeg": (stalled, away, resized, garbage),
}


@dataclass
class Figures:
    """What came of one camera's cycles."""

    recovery_s: dict[str, list[float]] = field(default_factory=dict)
    rss_kib: list[int] = field(default_factory=list)  # of the daemon, after each cycle
    child_rss_kib: list[int] = field(default_factory=list)
    beat_s: float = 0.0
    gap_s: float = 0.0

    def growth_kib(self) -> int:
        """Of the daemon: the median of the last third of the cycles less that of the first."""
        third = max(1, len(self.rss_kib) // 3)
        return round(statistics.median(self.rss_kib[-third:]) - statistics.median(self.rss_kib[:third]))


def campaign(kind: str, cycles: int, folder: Path) -> Figures:
    """So many faults of one kind of camera, one after the other."""
    camera: Any = {"rtsp": RtspCamera, "mjpeg": MjpegCamera}[kind](_pictures())
    worker = Worker(folder / kind, camera.start())
    figures = Figures()
    try:
        worker.frames(FPS)
        for cycle, fault in zip(range(cycles + cycles // 10), itertools.cycle(FAULTS[kind])):
            time.sleep(_BETWEEN_S)
            took_s = fault(camera, worker)
            worker.frames(5)
            figures.recovery_s.setdefault(fault.__name__, []).append(round(took_s, 2))
            if cycle >= cycles // 10:
                figures.rss_kib.append(worker.told["rss"])
                figures.child_rss_kib += worker.told["children"].values()
        figures.beat_s, figures.gap_s = worker.told["beat"], round(worker.gap_s, 2)
    finally:
        worker.close()
        camera.kill()
    return figures


def _pictures() -> list[NDArray[np.uint8]]:
    """A person who comes nearer: never the same frame twice, or it would be a frozen camera."""
    whole = cv2.imread(str(HERE / "pictures/obama.jpg"))
    rgb = cv2.cvtColor(whole, cv2.COLOR_BGR2RGB)
    return [np.asarray(np.roll(rgb, step, axis=1), np.uint8) for step in range(25)]


def table(found: dict[str, Figures]) -> Iterator[str]:
    """Rows for people."""
    yield "| camera, fault | times | median s | worst s |"
    yield "|---|---|---|---|"
    for kind, figures in found.items():
        for fault, times in figures.recovery_s.items():
            words = fault.replace("_", " ")
            yield f"| {kind}, {words} | {len(times)} | {statistics.median(times):.2f} | {max(times):.2f} |"
    yield ""
    for kind, figures in found.items():
        children = figures.child_rss_kib
        child = f", its decoder at most {max(children) >> 10} MiB" if children else ""
        yield (
            f"{kind}: daemon {figures.rss_kib[-1] >> 10} MiB, grown by {figures.growth_kib()} KiB{child}; "
            f"door's loop never later than {figures.beat_s:.2f} s; longest gap {figures.gap_s:.1f} s"
        )


def main() -> None:
    """Run, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=50)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shares = {"rtsp": options.cycles - options.cycles // 3, "mjpeg": options.cycles // 3}
        found = {kind: campaign(kind, cycles, Path(folder)) for kind, cycles in shares.items()}
    print("\n".join(table(found)))
    if options.json:
        options.json.write_text(json.dumps({kind: asdict(figures) for kind, figures in found.items()}))


if __name__ == "__main__":
    main()
