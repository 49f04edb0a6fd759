"""An installer at a terminal: reads what `doord setup` says, and types or moves what it asks for."""

from __future__ import annotations

import io
import os
import pty
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from broker import die_with_parent
from door_site import PICTURES, stand

from edge.values import Frame, read_only
from edge.vision.pictures import load_picture

PATIENCE_S = 40.0


class Keyboard:
    """`doord setup` on a terminal of its own."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.said = ""
        self._read_to = 0
        self._screen, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edge.cli", "setup", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            preexec_fn=self._lead,
            env={**os.environ, "COLUMNS": "200", **(env or {})},
        )
        os.close(theirs)

    @staticmethod
    def _lead() -> None:
        die_with_parent()
        os.setsid()  # Ctrl-C goes to who has the terminal
        import fcntl
        import termios

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def expect(self, words: str) -> None:
        """Wait until this is said, behind what was waited for before."""
        until = time.monotonic() + PATIENCE_S
        while (at := self.said.find(words, self._read_to)) < 0:
            assert time.monotonic() < until, f"waited for {words!r} in vain: {self.said[self._read_to :]}"
            assert self._more(until), f"it ended before {words!r}: {self.said}"
        self._read_to = at + len(words)

    def answer(self, words: str, line: str) -> None:
        self.expect(words)
        self.type(f"{line}\n")

    def type(self, text: str) -> None:
        os.write(self._screen, text.encode())

    def ends(self) -> int:
        """Its exit code, once it has ended; all it said is in `said`."""
        until = time.monotonic() + PATIENCE_S
        while self._more(until):
            pass
        return self.process.wait(PATIENCE_S)

    def _more(self, until: float) -> bool:
        if not select.select([self._screen], [], [], max(0.0, until - time.monotonic()))[0]:
            raise AssertionError(f"nothing more was said: {self.said}")
        try:
            part = os.read(self._screen, 65536)
        except OSError:  # EIO: it has ended
            return False
        self.said += part.decode(errors="replace")
        return bool(part)

    def __enter__(self) -> Keyboard:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._screen)


class Screen(io.StringIO):
    """What setup writes to; calls who waits for words when they are written."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[tuple[str, Callable[[], None]]] = []

    def when(self, words: str, do: Callable[[], None]) -> None:
        self._waiting.append((words, do))

    def write(self, text: str) -> int:
        for words, do in self._waiting:
            if words in text:
                do()
        return super().write(text)


def soon(do: Callable[[], None], seconds: float = 0.1) -> None:
    """From another thread, a moment later, as hands do."""
    timer = threading.Timer(seconds, do)
    timer.daemon = True
    timer.start()


class Visitor:
    """A camera at 25 frames a second before which somebody comes and goes; sibling of the drivers."""

    def __init__(self, picture: str = "obama2.jpg") -> None:
        self.present = True
        self.closed = 0
        random = np.random.default_rng(3)
        hallway = np.kron(random.integers(60, 160, (12, 16, 1)), np.ones((40, 40, 3))).astype(np.uint8)
        self._scenes = {False: hallway, True: stand(hallway, load_picture(PICTURES / picture))}
        self._random = random

    def read(self) -> Frame:
        time.sleep(0.04)
        scene = self._scenes[self.present]
        noisy = scene.astype(np.int16) + self._random.integers(-3, 4, scene.shape)
        shift = np.float32([[1, 0, self._random.uniform(-2, 2)], [0, 1, self._random.uniform(-2, 2)]])
        moved = cv2.warpAffine(np.clip(noisy, 0, 255).astype(np.uint8), shift, (640, 480))
        return Frame(read_only(moved), time.monotonic())

    def close(self) -> None:
        self.closed += 1

    def come(self) -> None:
        self.present = True

    def go(self) -> None:
        self.present = False


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777
