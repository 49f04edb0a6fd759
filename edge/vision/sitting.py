"""A portrait sitting before a camera that no daemon has."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from edge.config import CameraConfig
from edge.errors import EnrolmentError
from edge.values import Frame
from edge.vision.camera import open_camera
from edge.vision.grabber import Grabber
from edge.vision.health import CameraHealth
from edge.vision.loop import VisionLoop
from edge.vision.pipeline import Look, Pipeline

_T = TypeVar("_T")
_NO_CAMERA_S = 3.0  # without a frame for so long nobody has to keep sitting


def sit(
    config: CameraConfig,
    pipeline: Pipeline,
    live: bool,
    take: Callable[[Frame, Look], _T | None],
    count: int,
    apart_s: float,
    timeout_s: float,
    wanted: Callable[[], bool] = lambda: True,
) -> list[_T]:
    """What `take` makes of `count` frames whose one face passes the gate, `apart_s` apart; not None.

    Less when the time runs out, no frame has come for 3 s, or it is no longer `wanted`. `live`:
    no file, so that frames that never change are a fault. `take` is called by one thread.

    Raises:
        EnrolmentError: the camera gave nothing; says why.
    """
    grabber = Grabber(lambda: open_camera(config), config)
    loop = VisionLoop(grabber, CameraHealth(config, live=live), pipeline, lambda: None)
    done = threading.Event()
    seen_at = time.monotonic()

    def hoped() -> bool:
        nonlocal seen_at
        if grabber.problem is None:
            seen_at = time.monotonic()
        return wanted() and time.monotonic() - seen_at < _NO_CAMERA_S

    def turn() -> None:
        while not done.is_set():
            loop.step()

    thread = threading.Thread(target=turn, name="vision", daemon=True)
    grabber.start()
    thread.start()
    try:
        taken = loop.sit(take, count, apart_s, timeout_s, hoped)
        if not taken and grabber.problem:
            raise EnrolmentError(grabber.problem)
        return taken
    finally:
        done.set()
        thread.join(2.0)
        grabber.stop()
