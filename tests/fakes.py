"""A camera in memory, full sibling of the drivers, pictures that can be told apart, an ear on a runtime."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edge.errors import CameraError, ClipEnded
from edge.values import Frame, read_only
from edge.vision.runtime import Model

OPEN, READ, CLOSE = "OPEN", "READ", "CLOSE"

Step = NDArray[np.uint8] | Exception | Callable[[], None]


class FakeCamera:
    """Port CameraSource: each step is a picture shown, an error raised, or a call made first.

    After the last step it raises ClipEnded. `history` has every call.
    """

    def __init__(self, steps: Sequence[Step], clock: Callable[[], float] = time.monotonic) -> None:
        self.history = [OPEN]
        self._steps = list(steps)
        self._clock = clock

    def read(self) -> Frame:
        self.history.append(READ)
        if CLOSE in self.history:
            raise CameraError("fake camera: is closed")
        while self._steps:
            step = self._steps.pop(0)
            if isinstance(step, Exception):
                raise step
            if isinstance(step, np.ndarray):
                return Frame(read_only(step.copy()), self._clock())
            step()
        raise ClipEnded("fake camera: the last picture was shown")

    def close(self) -> None:
        self.history.append(CLOSE)


class FakeCameras:
    """A factory of fake cameras, one script each time it is opened; the last one serves for ever."""

    def __init__(self, *scripts: Sequence[Step]) -> None:
        self.opened: list[FakeCamera] = []
        self._scripts = scripts
        self._lock = threading.Lock()

    def __call__(self) -> FakeCamera:
        with self._lock:
            script = self._scripts[min(len(self.opened), len(self._scripts) - 1)]
            self.opened.append(FakeCamera(script))
            return self.opened[-1]


def shot(number: int, size: tuple[int, int] = (64, 48)) -> NDArray[np.uint8]:
    """Picture `number` (0..24) of `size` (w, h) px: grainy, its left half telling the number."""
    grain = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)
    grain[:, : size[0] // 2] = 10 * number
    return grain


def number_of(pixels: NDArray[np.uint8]) -> int:
    """Which `shot` a picture is, also after JPEG."""
    return round(float(np.median(pixels[:, : pixels.shape[1] // 4])) / 10)


def until(so: Callable[[], bool], seconds: float = 40) -> bool:
    """Wait for something another thread does; whether it came so within a bounded time."""
    deadline = time.monotonic() + seconds
    while not so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def listen_in(model: Model, outputs: int) -> list[np.ndarray]:
    """What the model's runtime is fed from now on; its answer is `outputs` zeros."""
    fed: list[np.ndarray] = []

    class Recorder:
        name = "recorder"

        def run(self, tensor):
            fed.append(tensor)
            return [np.zeros(outputs, np.float32)]

    model._engine = Recorder()
    return fed
