"""1:N search and 1:1 verification by L2 distance between unit vectors. Pure."""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

from edge.values import DISTANCE_CEILING, Candidate, Deny, Gallery, Grant, Match, Probe, Reason

UNIT_TOLERANCE = 1e-3  # of a norm; float16 storage keeps it within 5e-4


def distances(vector: NDArray[np.float32], templates: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,) L2 distances, 0..2, of a (D,) unit vector to (N, D) unit rows.

    ||a - b||^2 = 2 - 2ab for unit vectors: one matrix product. By einsum, which starts no BLAS
    threads: those fight with the models' for the few cores of a door (search p95 14 ms against 0.4).
    """
    products = np.einsum("ij,j->i", templates, vector)
    return np.asarray(np.sqrt(np.maximum(2 - 2 * products, 0)), np.float32)


def _is_unit(vector: NDArray[np.float32]) -> bool:
    """Whether the distance formula holds: a NaN, an infinity or a long vector could come out near."""
    return bool(abs(float(np.linalg.norm(vector)) - 1) <= UNIT_TOLERANCE)


def search(probe: Probe, gallery: Gallery) -> Match | None:
    """The nearest subject and the nearest other subject.

    None when probe and gallery come from different models: such distances mean nothing.
    An empty gallery, or a probe that is no unit vector, gives a Match without candidates.
    """
    if probe.model != gallery.model:
        return None
    if not len(gallery) or not _is_unit(probe.vector):
        return Match()
    away = distances(probe.vector, gallery.templates)
    best = int(away.argmin())
    others = np.where(gallery.owners == gallery.owners[best], np.float32(np.inf), away)
    runner_up = int(others.argmin())
    return Match(
        _candidate(gallery, best, away),
        _candidate(gallery, runner_up, away) if np.isfinite(others[runner_up]) else None,
    )


def _candidate(gallery: Gallery, row: int, away: NDArray[np.float32]) -> Candidate:
    return Candidate(gallery.subjects[int(gallery.owners[row])], float(away[row]))


def compare(probe: Probe, gallery: Gallery, subject: str) -> Match | None:
    """1:1: the claimed subject as the only candidate, so there is no other to be near.

    None when probe and gallery come from different models. No candidate: the subject has no
    template here, or the probe is no unit vector.
    """
    if probe.model != gallery.model:
        return None
    if subject not in gallery.subjects or not _is_unit(probe.vector):
        return Match()
    own = gallery.templates[gallery.owners == gallery.subjects.index(subject)]
    return Match(Candidate(subject, float(distances(probe.vector, own).min())))


def verify(
    probe: Probe, gallery: Gallery, subject: str, threshold: float
) -> tuple[Grant | Deny, float | None]:
    """1:1: is this the claimed subject? The decision and the distance (None: not comparable).

    Unauthorized: the subject has no template here.
    """
    match = compare(probe, gallery, subject)
    if match is not None and subject not in gallery.subjects:
        return Deny(Reason.UNAUTHORIZED), None
    distance = match.best.distance if match and match.best else None
    return identify(match, threshold, margin=0), distance


def identify(match: Match | None, threshold: float, margin: float) -> Grant | Deny:
    """1:N: the verdict on one frame. Nearest below the threshold, and nearer than the nearest
    other subject by at least the margin."""
    if match is None:
        return Deny(Reason.WRONG_MODEL)
    best = match.best
    if best is None or not best.distance < min(threshold, DISTANCE_CEILING):
        return Deny(Reason.NO_MATCH)
    if match.runner_up is not None and not match.runner_up.distance - best.distance >= margin:
        return Deny(Reason.AMBIGUOUS)
    return Grant(best.subject, best.distance)


def expected_fpir(fmr: float, templates: int) -> float:
    """False positive identification rate of one search among `templates`, 0..1.

    1 - (1 - FMR)^N, which takes comparisons as independent (ISO/IEC 19795-1 speaks of FPIR;
    the formula is the usual bound for exhaustive search).
    """
    with np.errstate(divide="ignore"):  # an FMR of 1 is a log of 0, and an FPIR of 1
        return float(-np.expm1(templates * np.log1p(-fmr)))


def most_templates(fmr: float, max_fpir: float) -> int:
    """How many templates a search may have before its expected FPIR is above `max_fpir`."""
    if not (0 < fmr < 1 and 0 < max_fpir <= 1):
        return 0
    if max_fpir == 1:
        return sys.maxsize
    return int(np.log1p(-max_fpir) / np.log1p(-fmr))
