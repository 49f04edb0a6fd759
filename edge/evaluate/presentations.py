"""A folder of presentations: `genuine/` and `attack/<species>/` with clips and pictures of people.

A clip is a video file or a sub-folder of pictures (in name order); a picture is a presentation of
one frame. Whose it is: the folder inside `genuine/` or `attack/<species>/`, or, of what lies there
directly, the file's name before its first underscore.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import DatasetError
from edge.values import Frame, read_only
from edge.vision.pictures import PICTURE_SUFFIXES, load_picture
from edge.vision.video import open_video, rate_of

VIDEO_SUFFIXES = frozenset({".mkv", ".mp4", ".avi", ".mov", ".webm", ".m4v"})


@dataclass(frozen=True, slots=True)
class Presentation:
    """One person, or one picture of one, before the camera."""

    person: str
    species: str | None  # of the attack instrument; None: genuine
    path: Path  # a picture, a video, or a folder of pictures


def open_presentations(folder: Path) -> tuple[Presentation, ...]:
    """All of `folder/genuine` and `folder/attack/<species>`, sorted by species, person and name.

    Raises:
        DatasetError: no such folders, one of them is empty, or a name that can't be printed as it is.
    """
    attack = folder / "attack"
    found = list_presentations(folder / "genuine", None)
    kinds = [p for p in _entries(attack) if p.is_dir()]
    if not kinds:
        raise DatasetError(f"{attack}: expected a sub-folder of clips or pictures per species, got none")
    found += [p for kind in kinds for p in list_presentations(kind, kind.name)]
    for name in {folder.name, *(p.person for p in found), *(p.species or "" for p in found)}:
        if not name.isprintable():  # it stands in the report, on a terminal
            raise DatasetError(f"{folder}: expected names of printable letters, got {name!a:.60}")
    return tuple(found)


def list_presentations(folder: Path, species: str | None) -> list[Presentation]:
    """What lies in one folder. Raises DatasetError: nothing does."""
    found = []
    for entry in _entries(folder):
        if entry.is_dir():
            found += [Presentation(entry.name, species, p) for p in _entries(entry) if _is_presentation(p)]
        elif _is_presentation(entry):
            found.append(Presentation(entry.stem.partition("_")[0], species, entry))
    if not found:
        raise DatasetError(f"{folder}: expected clips or pictures, or a folder of them per person, got none")
    return found


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except OSError as error:
        raise DatasetError(f"{folder}: expected a folder, got: {error.strerror}") from None


def _is_presentation(path: Path) -> bool:
    if path.is_dir():
        return any(p.suffix.lower() in PICTURE_SUFFIXES for p in _entries(path))
    return path.suffix.lower() in PICTURE_SUFFIXES | VIDEO_SUFFIXES


def frames(path: Path, fps: float) -> Iterator[Frame]:
    """The frames of a presentation; `taken_at` is s from its first. `fps` is that of folders.

    Raises:
        DatasetError: a video that can't be opened or has no frame.
        ImageError: an unreadable picture.
    """
    if path.is_dir():
        pictures = [p for p in _entries(path) if p.suffix.lower() in PICTURE_SUFFIXES]
        for i, picture in enumerate(pictures):
            yield Frame(load_picture(picture), i / fps)
    elif path.suffix.lower() in PICTURE_SUFFIXES:
        yield Frame(load_picture(path), 0.0)
    else:
        yield from _video(path, fps)


def _video(path: Path, fps: float) -> Iterator[Frame]:
    capture = open_video(path, DatasetError)
    try:
        rate, shown = rate_of(capture, fps), 0
        while True:
            there, bgr = capture.read()
            if not there:
                break
            yield Frame(read_only(_rgb(bgr)), shown / rate)
            shown += 1
        if not shown:
            raise DatasetError(f"{path}: expected a video with frames, got none")
    finally:
        capture.release()


def _rgb(bgr: cv2.typing.MatLike) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
