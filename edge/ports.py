"""What drivers and their fakes promise to the rest. One contract suite runs over both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge.values import Face, Frame, Gallery, Template

InputRole: TypeAlias = Literal["dps", "rex", "tamper"]


class CameraSource(Protocol):
    """A place frames come from. Opened when made, used by one thread."""

    def read(self) -> Frame:
        """The next frame; blocks for at most the source's stall time.

        Raises:
            CameraError: unplugged, stalled, undecodable. The source is dead then: close it.
            ClipEnded: a file camera's last picture was shown.
        """

    def close(self) -> None:
        """Release the device; never raises, may be called twice."""


class Detector(Protocol):
    """Finds faces."""

    def __call__(self, pixels: NDArray[np.uint8]) -> list[Face]:
        """Faces in an (H, W, 3) RGB picture, best score first."""


class PadLayer(Protocol):
    """One way of telling a live face from a picture of one. Belongs to one thread."""

    name: str
    """In events, tables and configuration."""
    looks_back: bool
    """Whether its score rests on the frames it was given before, and not on this one alone."""

    def score(self, pixels: NDArray[np.uint8], face: Face, taken_at: float) -> float:
        """How alive a face of an (H, W, 3) RGB frame looks: larger is more alive; NaN: no verdict.

        Args:
            pixels: the frame the face was found in.
            face: found there, in px of it.
            taken_at: s, monotonic clock, for layers that look at several frames of one face.

        Raises:
            ModelError: this frame could not be scored.
        """


class KeyProvider(Protocol):
    """Where the gallery's encryption key lives."""

    def key(self) -> bytes:
        """32 bytes. Raises GalleryKeyError."""


class GalleryStore(Protocol):
    """Templates on disk, one writer at a time. Safe to call from several threads."""

    def load(self, model: str, dimension: int) -> Gallery:
        """The searchable gallery. Raises GalleryError; ModelMismatch: a template of another model."""

    def add(self, templates: Sequence[Template], if_version: int | None = None) -> int:
        """Store all or none; the new version.

        Raises:
            GalleryError: not a template, disk full or read-only, or no longer `if_version`.
        """

    def remove(self, subject: str) -> int:
        """Forget a subject; how many templates went. Raises GalleryError."""

    def all(self) -> list[Template]:
        """Every template of every model. Raises GalleryError."""


class Clock(Protocol):
    """The calendar's time. Durations never come from here. Safe to call from several threads."""

    def now_utc(self) -> datetime:
        """Aware; never below the highest time ever trusted here."""

    @property
    def trusted(self) -> bool:
        """Whether what depends on the time may go by it."""

    def keep(self, at_once: bool = False) -> None:
        """Remember the time if it is trusted; to be called every few seconds, `at_once` at the end."""


class CardReader(Protocol):
    """Tells each card it reads, as its text, to whom it was made with."""

    @property
    def fault(self) -> str | None:
        """Why no card is read now."""

    def step(self) -> None:
        """Wait a moment for a card; belongs to one thread, never raises."""

    def close(self) -> None:
        """Release the device; never raises, may be called twice."""


class Edge(NamedTuple):
    """A falling edge of a card reader's line."""

    at: float  # s, of any clock that runs evenly
    line: int  # 0 or 1
    number: int  # 32 bits: one more for each edge of either line, whether or not it is told


class EdgeSource(Protocol):
    """The two lines of a Wiegand reader. Belongs to one thread."""

    where: str  # for messages

    def open(self) -> None:
        """Claim the lines. Raises LineError: nothing is held then."""

    def wait(self, timeout_s: float) -> list[Edge]:
        """The edges since the last call, almost in order; none when `timeout_s` has passed.

        Raises:
            LineError: it is not open, or the lines are gone: close it.
        """

    def close(self) -> None:
        """Let go of the lines; never raises, may be called twice, and opened again."""


class LockLines(Protocol):
    """The output that holds the door. Only door.controller may call it."""

    def lock(self) -> None:
        """Drive the line to locked at once. Raises LineError."""

    def unlock(self, for_at_most_s: float, free: bool = False) -> None:
        """Drive the line to unlocked; the adapter itself locks after `for_at_most_s`.

        Args:
            for_at_most_s: 0 < s <= 60.
            free: free access or the exit button, which the hour's limit does not count.

        Raises:
            DutyExceeded: it would be more than the hour's limit; nothing moved.
            LineError: the line can't be driven, or the time is not in 0 < s <= 60.
        """

    def close(self) -> None:
        """Lock and release; never raises, may be called twice."""


class DoorInputs(Protocol):
    """The contacts and the button of a door, as they are: not debounced."""

    roles: frozenset[InputRole]
    """Which of them there are."""

    def watch(self, sink: Callable[[InputRole, bool, float], None]) -> None:
        """Tell each edge from now on: role, whether it is active, s monotonic; from any thread.

        `sink` neither blocks nor raises.
        """

    def read(self) -> dict[InputRole, bool]:
        """Which are active now. Raises LineError."""

    def close(self) -> None:
        """Stop telling and release; never raises, may be called twice."""


class DoorSignals(Protocol):
    """The lamp and the sounder of a door, if it has them."""

    def show(self, led: bool, sounder: bool) -> None:
        """On or off. Raises LineError."""

    def close(self) -> None:
        """Off, and release; never raises, may be called twice."""
