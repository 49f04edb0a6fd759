"""What could poison a gallery, and what its size costs. Pure, over arrays.

Two subjects look alike when their nearest templates are nearer than the door's threshold: the door
may then refuse both as Ambiguous, or open for one as the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.admin.model import PersonTemplate
from edge.errors import AdminError
from edge.identity.likeness import SAME_PERSON
from edge.identity.match import distances, expected_fpir
from edge.values import DISTANCE_CEILING

MOST_TEMPLATES = 5
"""Templates a person keeps. Each one more is one more that a stranger can match: FPIR grows with N."""
MOST_PAIRS = 10_000
"""Lookalikes that are listed; those beyond are counted."""
TILE = 2048
"""Templates compared with as many others at a time: 2048 x 2048 products take 17 MB."""

Vectors = NDArray[np.float32]  # (N, D), rows of unit L2 norm


_NORM_TOLERANCE = 0.01  # of what float16 makes of a unit vector


def stored_vector(vector: NDArray[np.float32]) -> bytes:
    """A (D,) unit vector as a record keeps it: float16, little-endian."""
    return vector.astype("<f2").tobytes()


def vectors_of(templates: Sequence[PersonTemplate], dimension: int, where: str) -> Vectors:
    """Templates of records as (n, `dimension`) float32 rows of unit norm.

    Raises:
        AdminError: one that is no such vector; `where` says whose.
    """
    rows = np.empty((len(templates), dimension), np.float32)
    for row, template in zip(rows, templates, strict=True):
        if len(template.vector) != 2 * dimension:
            got = f"{len(template.vector)} bytes"
            raise AdminError(f"{where}: expected a template of {2 * dimension} bytes, got {got}")
        row[:] = np.frombuffer(template.vector, "<f2")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (np.abs(norms - 1) <= _NORM_TOLERANCE).all():
        raise AdminError(f"{where}: expected templates of norm 1, got {norms.ravel().tolist()}")
    return np.asarray(rows / norms, np.float32)


@dataclass(frozen=True, slots=True)
class Population:
    """Who is enrolled: the templates of `subjects[i]` are `vectors[starts[i]:starts[i + 1]]`."""

    subjects: tuple[str, ...]
    starts: NDArray[np.intp]  # (S + 1,), rising: nobody here is without a template
    vectors: Vectors

    @classmethod
    def of(cls, people: Sequence[tuple[str, Vectors]]) -> Population:
        """People with their templates; who has none is left out."""
        there = [(subject, vectors) for subject, vectors in people if len(vectors)]
        starts = np.cumsum([0, *(len(vectors) for _, vectors in there)], dtype=np.intp)
        dimension = there[0][1].shape[1] if there else 1
        whole = np.empty((int(starts[-1]), dimension), np.float32)
        for i, (_, vectors) in enumerate(there):
            whole[starts[i] : starts[i + 1]] = vectors
        return cls(tuple(subject for subject, _ in there), starts, whole)

    def own(self, i: int) -> Vectors:
        """The templates of `subjects[i]`, (n, D)."""
        return self.vectors[self.starts[i] : self.starts[i + 1]]


@dataclass(frozen=True, slots=True)
class Lookalike:
    """Two subjects and how far their nearest templates are from each other."""

    one: str  # before `other` by name
    other: str
    distance: float  # L2, 0..2

    @property
    def words(self) -> str:
        """What an admin is asked."""
        return f"{self.one} looks like {self.other}, {self.distance:.2f}: same person, twin, or a mistake?"


@dataclass(frozen=True, slots=True)
class Likenesses:
    """The result of a comparison of everybody who was asked about with everybody."""

    pairs: tuple[Lookalike, ...]  # nearer than the limit, nearest first, at most MOST_PAIRS
    count: int  # of all nearer than the limit
    closest: tuple[Lookalike, ...]  # whether nearer than the limit or not, nearest first


def likenesses(
    population: Population,
    asked: Collection[str] | None = None,
    limit: float = DISTANCE_CEILING,
    closest: int = 10,
) -> Likenesses:
    """Compare `asked` (None: all) with everybody, each pair of subjects once, tile by tile.

    A distance that is no number counts as nearer than the limit.
    """
    wanted = np.ones(len(population.subjects), np.bool_)
    if asked is not None:
        wanted = np.array([subject in asked for subject in population.subjects], np.bool_)
    found, near, count = _Nearest(MOST_PAIRS), _Nearest(closest), 0
    for rows, columns, away in _tiles(population, wanted):
        below = ~(away >= limit)
        count += int(below.sum())
        found.offer(away, below, rows, columns)
        near.offer(away, np.isfinite(away), rows, columns)
    return Likenesses(found.named(population), count, near.named(population))


def _tiles(
    population: Population, asked: NDArray[np.bool_]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]]:
    """Row subjects, column subjects, and distances of their nearest templates; +inf: not this pair."""
    everybody = np.arange(len(population.subjects))
    for rows in _blocks(population, np.flatnonzero(asked)):
        ours, our_starts = _gather(population, rows)
        for columns in _blocks(population, everybody):
            once = (columns[None, :] > rows[:, None]) | ~asked[columns][None, :]
            if not once.any():
                continue
            theirs, their_starts = _gather(population, columns)
            products = np.maximum.reduceat(ours @ theirs.T, their_starts, axis=1)
            products = np.maximum.reduceat(products, our_starts, axis=0)
            away = np.sqrt(np.maximum(2 - 2 * products, 0), dtype=np.float32)
            yield rows, columns, np.where(once, away, np.float32(np.inf))


def _blocks(population: Population, subjects: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    """The subjects in their order, in blocks of about TILE templates."""
    sizes = np.cumsum(np.diff(population.starts)[subjects])
    for block in np.split(subjects, np.flatnonzero(np.diff(sizes // TILE)) + 1):
        if len(block):
            yield block


def _gather(population: Population, subjects: NDArray[np.intp]) -> tuple[Vectors, NDArray[np.intp]]:
    """Templates of some subjects, and where each one's begin."""
    starts = population.starts
    first, last = starts[subjects], starts[subjects + 1]
    begins = np.concatenate([[0], np.cumsum(last - first)[:-1]]).astype(np.intp)
    if len(subjects) == subjects[-1] - subjects[0] + 1:  # neighbours: a view will do
        return population.vectors[first[0] : last[-1]], begins
    rows = np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)])
    return population.vectors[rows], begins


class _Nearest:
    """The nearest pairs so far, at most `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._away = np.empty(0, np.float32)
        self._pairs = np.empty((0, 2), np.intp)

    def offer(
        self,
        away: NDArray[np.float32],
        which: NDArray[np.bool_],
        rows: NDArray[np.intp],
        columns: NDArray[np.intp],
    ) -> None:
        """Look at those of a tile that are marked."""
        if len(self._away) == self._most and self._most:
            which = which & ~(away >= self._away[-1])
        i, j = np.nonzero(which)
        self._away = np.concatenate([self._away, away[i, j]])
        self._pairs = np.concatenate([self._pairs, np.stack([rows[i], columns[j]], axis=1)])
        order = np.argsort(self._away, kind="stable")[: self._most]
        self._away, self._pairs = self._away[order], self._pairs[order]

    def named(self, population: Population) -> tuple[Lookalike, ...]:
        """With the subjects' ids."""
        found = []
        for (i, j), away in zip(self._pairs, self._away, strict=True):
            one, other = sorted((population.subjects[i], population.subjects[j]))
            found.append(Lookalike(one, other, round(float(away), 4)))
        return tuple(found)


class Crowd:
    """Everybody, while people are enrolled one after another."""

    def __init__(self, population: Population, dimension: int) -> None:
        self._subjects = list(population.subjects)
        self._ids = {subject: i for i, subject in enumerate(self._subjects)}
        self._count = len(population.vectors)
        self._vectors = np.empty((max(256, self._count), dimension), np.float32)
        if self._count:
            self._vectors[: self._count] = population.vectors
        self._owners = np.full(len(self._vectors), -1, np.intp)
        self._owners[: self._count] = np.repeat(np.arange(len(self._subjects)), np.diff(population.starts))

    def nearest(self, subject: str, vectors: Vectors, limit: float = DISTANCE_CEILING) -> Lookalike | None:
        """The nearest other subject, when it is nearer than `limit` to any of (n, D) vectors."""
        owners = self._owners[: self._count]
        others = (owners >= 0) & (owners != self._ids.get(subject, -2))
        if not others.any():
            return None
        each = [distances(vector, self._vectors[: self._count]) for vector in vectors]
        away = np.where(others, np.min(each, axis=0), np.float32(np.inf))
        i = int(away.argmin())
        if away[i] >= limit:
            return None
        one, other = sorted((subject, self._subjects[owners[i]]))
        return Lookalike(one, other, round(float(away[i]), 4))

    def put(self, subject: str, vectors: Vectors) -> None:
        """These (n, D) are the subject's templates now."""
        owner = self._ids.setdefault(subject, len(self._subjects))
        if owner == len(self._subjects):
            self._subjects.append(subject)
        self._owners[self._owners == owner] = -1
        while self._count + len(vectors) > len(self._owners):
            self._vectors = np.concatenate([self._vectors, np.empty_like(self._vectors)])
            self._owners = np.concatenate([self._owners, np.full(len(self._owners), -1, np.intp)])
        self._vectors[self._count : self._count + len(vectors)] = vectors
        self._owners[self._count : self._count + len(vectors)] = owner
        self._count += len(vectors)


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A subject whose templates fall into two lots, and how far these are from each other."""

    subject: str
    distance: float  # L2, 0..2


def disagreements(
    population: Population, asked: Collection[str] | None = None, limit: float = SAME_PERSON
) -> tuple[Disagreement, ...]:
    """Subjects whose own templates do not hang together, the worst first."""
    found = []
    for i, subject in enumerate(population.subjects):
        if asked is None or subject in asked:
            gap = widest_gap(population.own(i))
            if not gap < limit:
                found.append(Disagreement(subject, round(gap, 4)))
    return tuple(sorted(found, key=lambda one: -one.distance))


def widest_gap(vectors: Vectors) -> float:
    """The longest step, L2, that is needed to walk from template to template; 0 for one template.

    The longest edge of a minimum spanning tree (Prim's); 2, the longest there is, for a NaN.
    """
    nearest = distances(vectors[0], vectors)
    left = np.ones(len(vectors), np.bool_)
    left[0], widest = False, 0.0
    while left.any():
        i = int(np.where(left, nearest, np.float32(np.inf)).argmin())
        if np.isnan(nearest[i]):
            return 2.0
        widest = max(widest, float(nearest[i]))
        left[i] = False
        nearest = np.minimum(nearest, distances(vectors[i], vectors))
    return widest


def spread(vectors: Vectors, most: int = MOST_TEMPLATES) -> list[int]:
    """Which templates to keep: at most `most`, rising, chosen to lie far apart.

    Farthest-point sampling (Gonzalez 1985) from the most typical one, the one nearest to all others.
    """
    if len(vectors) <= most:
        return list(range(len(vectors)))
    each_to_all = np.stack([distances(row, vectors) for row in vectors])
    kept = [int(each_to_all.sum(axis=1).argmin())]
    while len(kept) < most:
        away = each_to_all[kept].min(axis=0)
        away[kept] = -1
        kept.append(int(away.argmax()))
    return sorted(kept)


@dataclass(frozen=True, slots=True)
class Span:
    """A figure with its 95 % interval."""

    low: float
    likely: float
    high: float


@dataclass(frozen=True, slots=True)
class Risk:
    """What a search among so many templates costs. `fpir` is judged by its `high` end."""

    people: int
    templates: int
    fmr: Span  # of one comparison at the ceiling
    fpir: Span  # of one search, 0..1
    false_accepts_per_year: Span


def risk(fmr: Span, people: int, templates: int, tries_per_person_per_day: float) -> Risk:
    """Expected FPIR, and false accepts a year as if nobody who tries were enrolled.

    people x tries x 365 x (1 - (1 - FMR)^templates): an upper bound for honest people, whose own
    templates are nearer; the true one for strangers who try as often.
    """
    fpir = Span(*(expected_fpir(rate, templates) for rate in (fmr.low, fmr.likely, fmr.high)))
    tries = people * tries_per_person_per_day * 365
    return Risk(people, templates, fmr, fpir, Span(tries * fpir.low, tries * fpir.likely, tries * fpir.high))
