"""A day at a soaked door: who stands before its camera when, and what happens at its contacts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from door_site import PICTURES, stand
from numpy.typing import NDArray

from edge.errors import ClipEnded
from edge.values import Frame
from edge.vision.pictures import load_picture

ENROLLED = {"obama": ("obama.jpg", "obama3.jpg")}
VISITORS = (("obama2.jpg", True), ("biden.jpg", False), ("obama2.jpg", True), ("astronaut.jpg", False))
FRAMES = 5  # of an attempt, FRAME_S apart
FRAME_S = 0.1
TICK_S = 1.0  # between the frames of an idle door
_OPENED, _CLOSED, _PRESSED, _RELEASED = 2, 4, 8, 9  # ticks after a visit; the last two after every
_EVERY_REX = 5  # fifth
_SETTLE = 8  # ticks after the last visit, for what it began to end


@dataclass(frozen=True)
class Shot:
    """One frame: what it shows, how long after the one before, and whether an attempt begins with it."""

    after_s: float
    shows: int  # index of a visitor; -1: nobody
    visit: int  # how many visits have begun
    tick: int  # how many idle ticks this pause has had


def shots(attempts: int, idle_s: int) -> Iterator[Shot]:
    """The visits, spread evenly over the idle ticks."""
    ticks = 0
    for visit in range(attempts):
        for i in range(FRAMES):
            yield Shot(TICK_S if i == 0 else FRAME_S, visit % len(VISITORS), visit + 1, 0)
        pause = idle_s * (visit + 1) // attempts - ticks
        ticks += pause
        for tick in range(pause):
            yield Shot(TICK_S, -1, visit + 1, tick + 1)
    for tick in range(_SETTLE):
        yield Shot(TICK_S, -1, attempts, tick + 100)


class Day:
    """A camera, sibling of those in edge.vision.camera, that also moves the door's leaf and button.

    Args:
        plan: what to show.
        contacts: drives gpiozero's mock pins: ("dps" or "rex", level).
        hold: called before each frame while time stands still.
        looked: called before the first frame of each visit, when the door has come to rest.
        over: called when the last has been shown, or with what went wrong: the daemon would only
            open its camera again.
    """

    def __init__(
        self,
        plan: Iterator[Shot],
        contacts: Callable[[str, bool], None],
        hold: Callable[[], None],
        looked: Callable[[Shot], None],
        over: Callable[[Exception | None], None],
    ) -> None:
        self._plan = plan
        self._contacts = contacts
        self._hold = hold
        self._looked = looked
        self._over = over
        self._due = time.monotonic()
        self._number = 0
        hallway = np.kron(np.random.default_rng(3).integers(60, 160, (12, 16, 1)), np.ones((40, 40, 3)))
        empty = hallway.astype(np.uint8)
        people = {name: stand(empty, load_picture(PICTURES / name)) for name, _ in VISITORS}
        self._scenes = [_noisy(people[name]) for name, _ in VISITORS] + [_noisy(empty)]

    def read(self) -> Frame:
        """The next frame, when it is due."""
        shot = next(self._plan, None)
        try:
            if shot is not None:
                return self._show(shot)
            self._over(None)
        except Exception as error:  # noqa: BLE001  # whatever it is, the run fails by it
            self._over(error)
        raise ClipEnded("the day is over")

    def _show(self, shot: Shot) -> Frame:
        self._due += shot.after_s
        time.sleep(max(0.0, self._due - time.monotonic()))
        self._hold()
        if shot.shows >= 0 and shot.after_s == TICK_S:
            self._looked(shot)
        self._move(shot)
        return Frame(self._filmed(shot), time.monotonic())

    def close(self) -> None:
        """Nothing is held open."""

    def _move(self, shot: Shot) -> None:
        """Who was let in goes through the door; now and then somebody leaves."""
        let_in = VISITORS[(shot.visit - 1) % len(VISITORS)][1]
        if shot.tick in (_OPENED, _CLOSED) and let_in:
            self._contacts("dps", shot.tick == _OPENED)
        if shot.tick in (_PRESSED, _RELEASED) and shot.visit % _EVERY_REX == 0:
            self._contacts("rex", shot.tick == _RELEASED)

    def _filmed(self, shot: Shot) -> NDArray[np.uint8]:
        """The scene, swayed by some pixels and unlike every other frame."""
        self._number += 1
        pixels = np.roll(self._scenes[shot.shows], self._number % 5 - 2, axis=1)
        pixels[0, :3] = np.frombuffer((self._number % 2**72).to_bytes(9, "little"), np.uint8).reshape(3, 3)
        return pixels


def _noisy(scene: NDArray[np.uint8]) -> NDArray[np.uint8]:
    noise = np.random.default_rng(7).normal(0, 3, scene.shape)
    return np.asarray(np.clip(cv2.GaussianBlur(scene, (3, 3), 0) + noise, 0, 255), np.uint8)
