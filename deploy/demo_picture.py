"""The demo's one picture: each frame with box, landmarks, nearest subject and verdict, and the
relay's timeline under it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from demo_scene import HEIGHT, WIDTH, Scene
from numpy.typing import NDArray

from edge.config import Config, DecisionConfig, load_config
from edge.errors import CameraError
from edge.identity.match import identify, search
from edge.link import wire
from edge.tools.local import open_recogniser
from edge.values import Gallery, Grant
from edge.vision.camera import open_camera
from edge.vision.pictures import draw_face
from edge.vision.pipeline import Pipeline

_GREEN, _RED, _INK, _PALE = (40, 160, 80), (200, 50, 50), (30, 30, 30), (225, 225, 225)
_TIMELINE = 190  # px
Events = list[tuple[float, wire.Event]]
Locks = list[tuple[float, str]]


def contact_sheet(
    config_path: Path,
    scenes: list[Scene],
    events: Events,
    locks: Locks,
    began: float,
    describe: Callable[[wire.Event], str],
) -> NDArray[np.uint8]:
    """The picture, RGB. Times are s of the monotonic clock."""
    config = load_config(config_path)
    pipeline, gallery, _ = open_recogniser(config)
    frames = [(scene.title, scene.frame) for scene in scenes] or _last_look(config)
    judged = [_judged(title, frame, pipeline, gallery, config.decision) for title, frame in frames]
    columns = min(len(judged), 4) or 1
    while len(judged) % columns:
        judged.append(np.full((HEIGHT, WIDTH, 3), 255, np.uint8))
    rows = [np.hstack(judged[i : i + columns]) for i in range(0, len(judged), columns)]
    timeline = _timeline(columns * WIDTH, events, locks, began, describe)
    return np.vstack([*rows, timeline])


def _last_look(config: Config) -> list[tuple[str, NDArray[np.uint8]]]:
    """After a live demo: one more frame of the same camera."""
    try:
        source = open_camera(config.camera)
        try:
            frame = source.read().pixels
        finally:
            source.close()
    except CameraError:
        return []
    return [("last look", np.asarray(cv2.resize(frame, (WIDTH, HEIGHT)), np.uint8))]


def _judged(
    title: str, frame: NDArray[np.uint8], pipeline: Pipeline, gallery: Gallery, decision: DecisionConfig
) -> NDArray[np.uint8]:
    look = pipeline(frame)
    if look.face is None:
        return _title(frame.copy(), f"{title}: no face")
    if look.probe is None:
        return _title(draw_face(frame, look.face, look.shortcoming or "", _RED), title)
    match = search(look.probe, gallery)
    best = match.best if match else None
    verdict = identify(match, decision.threshold, decision.margin)
    words = f"nearest {best.subject}: {best.distance:.2f}" if best else "nobody enrolled"
    text = f"{words}\n{'opens' if isinstance(verdict, Grant) else f'stays locked: {verdict.reason.value}'}"
    return _title(draw_face(frame, look.face, text, _GREEN if isinstance(verdict, Grant) else _RED), title)


def _title(frame: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    cv2.rectangle(frame, (0, HEIGHT - 34), (WIDTH, HEIGHT), (20, 20, 20), -1)
    _write(frame, text, (12, HEIGHT - 10), (255, 255, 255), 0.7)
    return frame


def _write(
    picture: NDArray[np.uint8], text: str, at: tuple[int, int], ink: tuple[int, int, int], size: float
) -> None:
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, ink, 1, cv2.LINE_AA)


def _timeline(
    width: int, events: Events, locks: Locks, began: float, describe: Callable[[wire.Event], str]
) -> NDArray[np.uint8]:
    """The relay as a line that rises while the door is unlocked, the events as ticks on it."""
    strip = np.full((_TIMELINE, width, 3), 255, np.uint8)
    times = [at for at, _ in [*events, *locks]] or [began + 1]
    end = max(times) + 1
    left, right, low, high = 110, width - 20, 100, 60

    def x(at: float) -> int:
        return round(left + (at - began) / (end - began) * (right - left))

    _write(strip, "unlocked", (10, high + 5), _INK, 0.55)
    _write(strip, "locked", (10, low + 5), _INK, 0.55)
    for second in range(0, int(end - began) + 1, 2):
        cv2.line(strip, (x(began + second), high - 10), (x(began + second), low + 10), _PALE, 1)
        _write(strip, f"{second} s", (x(began + second) - 8, low + 30), _INK, 0.4)
    _relay_line(strip, [(x(at), lock == "unlocked") for at, lock in locks], x(end), low, high)
    shown = [(at, e) for at, e in events if not isinstance(e, wire.Notice)]
    for i, (at, event) in enumerate(shown):
        colour = _GREEN if isinstance(event, wire.Granted) else _RED
        row = low + 50 + 22 * (i % 2)
        cv2.circle(strip, (x(at), low), 6, colour, -1, cv2.LINE_AA)
        cv2.line(strip, (x(at), low), (x(at), row - 8), colour, 1)
        _write(strip, describe(event), (min(x(at) - 10, width - 420), row + 6), colour, 0.5)
    _write(strip, "the relay, and the events as the broker delivered them", (left, 30), _INK, 0.6)
    return strip


def _relay_line(
    strip: NDArray[np.uint8], changes: list[tuple[int, bool]], end: int, low: int, high: int
) -> None:
    for i, (start, unlocked) in enumerate(changes):
        stop = changes[i + 1][0] if i + 1 < len(changes) else end
        level = high if unlocked else low
        colour = _GREEN if unlocked else _INK
        cv2.line(strip, (start, level), (stop, level), colour, 3)
        if i:
            cv2.line(strip, (start, low), (start, high), colour, 3)
