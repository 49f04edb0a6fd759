"""What the gallery tests run in a process that is killed; imports no test framework, so it starts fast."""

from __future__ import annotations

from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from edge.disk import FileKey
from edge.identity.enrol import Enroller
from edge.identity.store import SqliteGallery, open_gallery
from edge.values import Face, Probe
from edge.vision.pipeline import Look

DIMENSION = 64
MODEL = "facenet-a"
NOW = "2026-01-02T03:04:05Z"
PHOTOS = 3  # an enrolment's templates


def unit(seed: int, dimension: int = DIMENSION) -> np.ndarray:
    vector = np.random.default_rng(seed).normal(size=dimension)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def open_at(folder: Path) -> SqliteGallery:
    return open_gallery(folder / "gallery.db", FileKey(folder / "gallery.key"))


def _photo(pixels: np.ndarray) -> Look:
    """A fake pipeline: the picture's numbers seed the person and the photograph."""
    person, photo = int(pixels[0, 0, 0]) * 256 + int(pixels[0, 0, 1]), int(pixels[0, 0, 2])
    mixed = unit(person) + np.float32(0.3) * unit(100_000 + 3 * person + photo)
    face = Face((0, 0, 99, 99), np.zeros((6, 2), np.float32), 0.9)
    vector = (mixed / np.linalg.norm(mixed)).astype(np.float32)
    return Look([face], face, probe=Probe(vector, MODEL, 0.0))


def enrol_for_ever(folder: Path, acknowledged: Connection) -> None:
    """Enrol one subject after another; send each version once it is stored."""
    with closing(open_at(folder)) as store:
        enroller = Enroller(_photo, store, MODEL, DIMENSION)
        version = store.load(MODEL, DIMENSION).version
        acknowledged.send(version)
        while True:
            pictures = [
                (str(i), np.full((1, 1, 3), (version // 256, version % 256, i), np.uint8))
                for i in range(PHOTOS)
            ]
            version = enroller.enrol(f"s-{version}", pictures, NOW).version
            acknowledged.send(version)


def make_gallery(folder: Path, acknowledged: Connection) -> None:
    """Say so, then make a gallery where there is none."""
    acknowledged.send(0)
    with closing(open_at(folder)):
        acknowledged.send(1)
