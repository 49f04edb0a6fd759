"""Inside the machine: a door whose parts hang when told to (SIGUSR1), started by a drop-in in place of
`doord run`. It hands its own siblings to `build`; the package knows nothing of it.

    door.py main|door|camera|link|vision CONFIG RECORD

RECORD gets a line for each change of the lock's line, for each part that was opened, and the longest
time between two beats of the door's loop.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, "/usr/lib/doord/site-packages")

import numpy as np

import edge.link.mqtt
from edge import process, sight
from edge.config import load_config
from edge.daemon import build
from edge.door.stimuli import LockCommand
from edge.journal import start_logging
from edge.values import Frame, read_only
from edge.vision.pipeline import Look, Pipeline

WHAT, CONFIG, RECORD = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
told = threading.Event()


def record(words: str) -> None:
    with open(RECORD, "a") as file:  # noqa: PTH123
        file.write(f"{time.monotonic():.3f} {words}\n")
        file.flush()
        os.fsync(file.fileno())


def hang() -> None:
    record("hangs")
    while True:
        time.sleep(1000)


class Lines:
    """Port LockLines."""

    def lock(self) -> None:
        record("LOCK")
        if WHAT == "door" and told.is_set():
            hang()

    def unlock(self, for_at_most_s: float, free: bool = False) -> None:
        record("UNLOCK")

    def close(self) -> None:
        record("LOCK")


class Camera:
    """Port CameraSource: grain. The first one hangs when told to."""

    opened = 0

    def __init__(self) -> None:
        Camera.opened += 1
        self.number = Camera.opened
        self.grain = np.random.default_rng()
        record(f"camera {self.number}")

    def read(self) -> Frame:
        if WHAT == "camera" and told.is_set() and self.number == 1:
            hang()
        time.sleep(0.05)
        return Frame(read_only(self.grain.integers(40, 200, (480, 640, 3), np.uint8)), time.monotonic())

    def close(self) -> None:
        """Nothing is held."""


class Client(edge.link.mqtt.BoundedClient):
    """The first connection after it was told to hangs for ever, as a resolver may."""

    hung = False

    def open(self, session_s: int = 0) -> None:
        if WHAT == "link" and told.is_set():
            record("connects")
            if not Client.hung:
                Client.hung = True
                hang()
        super().open(session_s)


look = Pipeline.__call__


def look_or_hang(models: Pipeline, *frame: Any) -> Look:
    """Models that do not return when told so, as a driver may."""
    if WHAT == "vision" and told.is_set():
        hang()
    return look(models, *frame)


Pipeline.__call__ = look_or_hang
edge.link.mqtt.BoundedClient = Client
edge.link.mqtt._STUCK_S = 8.0
sight._HANG_S, sight._YOUNG_S = 5.0, 0.0  # a minute, and ten, in the package
config = load_config(CONFIG)
start_logging(DOOR=config.door_id, SITE=config.site)
daemon = build(config, lines=Lines(), open_source=Camera)
daemon.link._retry_s = (0.5, 2.0)  # a pause is shorter than what counts as hanging, as in the package


def on_told(_signal: int, _frame: object) -> None:
    told.set()
    if WHAT == "main":
        hang()
    if WHAT == "door":
        daemon.door.order(LockCommand())


def watch_the_beat() -> None:
    longest = 0.0
    while True:
        late = time.monotonic() - daemon.door.beat
        if late > longest + 0.01:
            longest = late
            record(f"beat {longest:.2f}")
        time.sleep(0.02)


signal.signal(signal.SIGUSR1, on_told)
threading.Thread(target=watch_the_beat, daemon=True).start()
sys.exit(process.serve(daemon))
