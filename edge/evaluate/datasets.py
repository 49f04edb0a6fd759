"""What is measured on: LFW pairs files, or a folder with a sub-folder of pictures per subject."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edge.errors import DatasetError, ImageError
from edge.vision.pictures import PICTURE_SUFFIXES

_Key = TypeVar("_Key", str, tuple[str, int])
_Picture = tuple[str, int]  # a subject's name and the picture's number
_MISSING_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Dataset:
    """Pictures, whose they are, and which pairs of them are compared."""

    name: str
    pictures: tuple[Path, ...]
    subjects: NDArray[np.intp]  # (N,) whose each picture is
    pairs: NDArray[np.intp] | None = None  # (P, 2) rows of `pictures`; None: every pair once
    folds: int = 1  # the pairs lie fold by fold, equally many each

    @property
    def genuine(self) -> NDArray[np.bool_]:
        """(P,) which of the listed pairs show one subject twice."""
        pairs = self.pairs if self.pairs is not None else np.empty((0, 2), np.intp)
        return np.asarray(self.subjects[pairs[:, 0]] == self.subjects[pairs[:, 1]])

    def all_pairs(self) -> Dataset:
        """The same pictures, every pair of them compared once."""
        return Dataset(self.name, self.pictures, self.subjects)


def open_dataset(source: Path, images: Path | None = None) -> Dataset:
    """The pairs file or folder at `source`; a pairs file's pictures lie in `images` or beside it.

    Raises:
        DatasetError: nothing there, a malformed line, or nothing to compare.
        ImageError: pictures that are named are missing.
    """
    if source.is_dir():
        return _folder(source)
    try:
        text = source.read_text(encoding="utf-8")
    except OSError as error:
        raise DatasetError(f"{source}: expected a pairs file or a folder, got: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DatasetError(f"{source}: expected a pairs file (UTF-8 text), got something else") from None
    dataset = parse_pairs(text, str(source), images or source.parent)
    missing = [p for p in dataset.pictures if not p.is_file()]
    if missing:
        raise ImageError(
            f"{source}: {len(missing)} of {len(dataset.pictures)} pictures are missing: "
            + ", ".join(str(p) for p in missing[:_MISSING_SHOWN])
            + (", ..." if len(missing) > _MISSING_SHOWN else "")
        )
    return dataset


def _folder(folder: Path) -> Dataset:
    found = [
        (sub.name, picture)
        for sub in sorted(p for p in folder.iterdir() if p.is_dir())
        for picture in sorted(sub.iterdir())
        if picture.suffix.lower() in PICTURE_SUFFIXES
    ]
    if not found:
        raise DatasetError(f"{folder}: expected a sub-folder of pictures per subject, got none")
    _, subjects = np.unique([name for name, _ in found], return_inverse=True)
    dataset = Dataset(folder.name, tuple(p for _, p in found), subjects.astype(np.intp))
    check_comparable(dataset, str(folder))
    return dataset


def check_comparable(dataset: Dataset, where: str) -> None:
    """Raises DatasetError when there is no genuine or no impostor pair: half a figure is none."""
    if dataset.pairs is not None:
        genuine, impostor = bool(dataset.genuine.any()), not dataset.genuine.all()
    else:
        sizes = np.bincount(dataset.subjects)
        genuine, impostor = bool((sizes > 1).any()), len(sizes) > 1
    if not genuine:
        raise DatasetError(f"{where}: expected a subject with two pictures or more, got no genuine pair")
    if not impostor:
        raise DatasetError(f"{where}: expected two subjects or more, got no impostor pair")


def parse_pairs(text: str, where: str, images: Path) -> Dataset:
    """The dataset of an LFW pairs file's text (vis-www.cs.umass.edu/lfw/README.txt).

    The first line is `PAIRS` or `FOLDS PAIRS`; each fold has that many `NAME N M` lines, then as
    many `NAME N OTHER M`. Picture N of NAME is `images/NAME/NAME_000N.jpg`.

    Raises:
        DatasetError: `where:line: expected ..., got ...`.
    """
    lines = text.splitlines()
    folds, each = _header(lines[0] if lines else "", where)
    rows = [(number, line) for number, line in enumerate(lines[1:], start=2) if line.strip()]
    if len(rows) != 2 * folds * each:
        raise DatasetError(
            f"{where}: expected {folds} x ({each} genuine + {each} impostor) pairs, got {len(rows)} lines"
        )
    pairs = [
        _pair(line, row // each % 2 == 0, f"{where}:{number}") for row, (number, line) in enumerate(rows)
    ]
    return _dataset(Path(where).name, pairs, folds, images)


def _header(line: str, where: str) -> tuple[int, int]:
    fields = line.split()
    if not 1 <= len(fields) <= 2 or not all(f.isdecimal() and int(f) > 0 for f in fields):
        raise DatasetError(f"{where}:1: expected PAIRS or FOLDS PAIRS, got {line[:60]!r}")
    return (int(fields[0]) if len(fields) == 2 else 1), int(fields[-1])


def _pair(line: str, genuine: bool, where: str) -> tuple[_Picture, _Picture]:
    fields = [f.strip() for f in line.split("\t")] if "\t" in line else line.split()
    expected = "NAME N M" if genuine else "NAME N OTHER M"
    if len(fields) != (3 if genuine else 4):
        raise DatasetError(f"{where}: expected {expected}, got {line[:60]!r}")
    one, n, *other, m = fields
    two = other[0] if other else one
    good_names = all(name and "/" not in name and name not in (".", "..") for name in (one, two))
    good_numbers = n.isdecimal() and m.isdecimal() and 0 < int(n) <= 9999 and 0 < int(m) <= 9999
    different = n != m if genuine else one != two
    if not (good_names and good_numbers and different):
        raise DatasetError(f"{where}: expected {expected} with two different pictures, got {line[:60]!r}")
    return (one, int(n)), (two, int(m))


def _dataset(name: str, pairs: list[tuple[_Picture, _Picture]], folds: int, images: Path) -> Dataset:
    rows = _rows(picture for pair in pairs for picture in pair)
    people = _rows(subject for subject, _ in rows)
    return Dataset(
        name,
        tuple(images / who / f"{who}_{n:04d}.jpg" for who, n in rows),
        np.array([people[who] for who, _ in rows], np.intp),
        np.array([[rows[a], rows[b]] for a, b in pairs], np.intp),
        folds,
    )


def _rows(things: Iterable[_Key]) -> dict[_Key, int]:
    rows: dict[_Key, int] = {}
    for thing in things:
        rows.setdefault(thing, len(rows))
    return rows
