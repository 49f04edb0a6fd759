"""The demo's clip: a hallway, and photographs of people who come to the door one after another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.vision.pictures import load_picture

FPS = 15
WIDTH, HEIGHT = 640, 480
_SHOWN_S, _EMPTY_S = 2.5, 2.2


@dataclass(frozen=True)
class Scene:
    """One person at the door. `expected` is the subject that should be let in, if any."""

    title: str
    expected: str | None
    frame: NDArray[np.uint8]  # (480, 640, 3) RGB, what the camera sees


def photograph_scenes(shown: list[tuple[Path, str | None]]) -> list[Scene]:
    """A scene each photograph."""
    return [Scene(path.stem, who, _stand_in_hallway(load_picture(path))) for path, who in shown]


def hallway() -> NDArray[np.uint8]:
    """An empty hallway, with enough edges that no camera would call it blurred."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    wall = 150 - 60 * (rows / HEIGHT) + 12 * ((columns // 40) % 2)
    floor = rows > HEIGHT * 0.8
    grey = np.where(floor, 70 + 25 * (((columns // 32) + (rows // 16)) % 2), wall)
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


def _stand_in_hallway(photograph: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The upper part of a photograph, as high as the frame, in the middle of the hallway."""
    height, width = photograph.shape[:2]
    part = photograph[: min(height, round(width * 0.9))]  # head and shoulders of a standing person
    scale = HEIGHT / part.shape[0]
    size = (min(WIDTH, round(width * scale)), HEIGHT)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    frame = hallway()
    left = (WIDTH - size[0]) // 2
    frame[:, left : left + size[0]] = cv2.resize(part, size, interpolation=how)
    return frame


def write_clip(path: Path, scenes: list[Scene]) -> None:
    """The scenes with the empty hallway between, as a video with a camera's noise and sway."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (WIDTH, HEIGHT))
    if not writer.isOpened():
        raise SystemExit(f"demo: {path}: OpenCV can't write a video here")
    noise = np.random.default_rng(7)
    empty = hallway()
    try:
        for frame in [empty, *(f for scene in scenes for f in (scene.frame, empty))]:
            seconds = _EMPTY_S if frame is empty else _SHOWN_S
            for i in range(round(seconds * FPS)):
                writer.write(cv2.cvtColor(filmed(frame, i, noise), cv2.COLOR_RGB2BGR))
    finally:
        writer.release()


def filmed(frame: NDArray[np.uint8], i: int, noise: np.random.Generator) -> NDArray[np.uint8]:
    """The frame a little nearer, swayed and noisy, as a camera would deliver it."""
    zoom = 1 + 0.04 * np.sin(i / 9)
    matrix = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), 1.5 * np.sin(i / 7), zoom)
    matrix[:, 2] += (3 * np.sin(i / 5), 2 * np.cos(i / 6))
    moved = cv2.warpAffine(frame, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
    grain = noise.normal(0, 3, moved.shape)
    return np.asarray(np.clip(moved + grain, 0, 255), np.uint8)
