"""Figures of presentation-attack detection (ISO/IEC 30107-3): APCER per species, BPCER, their bounds. Pure.

A score is larger the more alive; a presentation is taken for alive when its score is at least the
threshold (and so never when it is NaN). The species that fares worst counts, not their mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.identity.pad import gather
from edge.shares import Share as Share

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Judged:
    """A presentation and what each layer says of each attempt that it is good for.

    An attempt is what a door decides on: the mean of a few frames. The first counts as the
    presentation's; a replayed attack has them all.
    """

    person: str
    species: str | None  # None: genuine
    name: str
    attempts: tuple[Mapping[str, float], ...]  # layer -> score; none: too few frames got a score


Accept = Callable[[Mapping[str, float], str], bool]
"""Whether an attempt's scores are taken for alive; also told whose presentation it is."""


def by_thresholds(thresholds: Mapping[str, float]) -> Accept:
    """Every layer has to say so."""
    return lambda scores, _: all(scores.get(layer, math.nan) >= least for layer, least in thresholds.items())


@dataclass(frozen=True, slots=True)
class Row:
    """One species, or one person's genuine presentations, at a setting."""

    name: str
    errors: Share  # of those that were answered: attacks taken for alive, or genuine ones refused
    any_attempt: Share  # attacks of which at least one attempt was; genuine ones refused in all
    unanswered: int  # too few frames had a face that passed the gate and got a score


@dataclass(frozen=True, slots=True)
class Table:
    """What a setting makes of a set."""

    species: tuple[Row, ...]  # APCER, worst first
    bpcer: Row
    people: tuple[Row, ...]  # BPCER, worst first


def tabulate(presented: Sequence[Judged], accept: Accept) -> Table:
    """The figures at a setting. A species whose upper bound is higher stands above its like."""
    attacks = {j.species for j in presented if j.species is not None}
    rows = [_attacks(name, [j for j in presented if j.species == name], accept) for name in sorted(attacks)]
    genuine = [j for j in presented if j.species is None]
    people = [
        _genuine(p, [j for j in genuine if j.person == p], accept)
        for p in sorted({j.person for j in genuine})
    ]
    return Table(_worst_first(rows), _genuine("all", genuine, accept), _worst_first(people))


def _attacks(name: str, presented: Sequence[Judged], accept: Accept) -> Row:
    answered = [j for j in presented if j.attempts]
    first = sum(accept(j.attempts[0], j.person) for j in answered)
    ever = sum(any(accept(a, j.person) for a in j.attempts) for j in answered)
    n = len(answered)
    return Row(name, Share(first, n), Share(ever, n), len(presented) - n)


def _genuine(name: str, presented: Sequence[Judged], accept: Accept) -> Row:
    answered = [j for j in presented if j.attempts]
    first = sum(not accept(j.attempts[0], j.person) for j in answered)
    always = sum(not any(accept(a, j.person) for a in j.attempts) for j in answered)
    n = len(answered)
    return Row(name, Share(first, n), Share(always, n), len(presented) - n)


def _worst_first(rows: Sequence[Row]) -> tuple[Row, ...]:
    def badness(row: Row) -> tuple[float, float]:
        known = row.errors.of > 0
        return (row.errors.rate if known else -1.0, row.errors.high if known else -1.0)

    return tuple(sorted(rows, key=badness, reverse=True))


def first_scores(presented: Sequence[Judged], layer: str) -> tuple[Scores, dict[str, Scores]]:
    """One layer's scores of first attempts: genuine (G,), and (A,) per species. A NaN counts as -inf."""
    genuine: list[float] = []
    attacks: dict[str, list[float]] = {}
    for judged in presented:
        if judged.attempts:
            score = judged.attempts[0].get(layer, math.nan)
            into = genuine if judged.species is None else attacks.setdefault(judged.species, [])
            into.append(-math.inf if math.isnan(score) else score)
    return np.array(genuine), {name: np.array(scores) for name, scores in sorted(attacks.items())}


def auc(genuine: Scores, attack: Scores) -> float:
    """The probability that a genuine one scores higher than an attack (ties half); NaN of none."""
    if not len(genuine) or not len(attack):
        return math.nan
    ordered = np.sort(attack)
    below, up_to = np.searchsorted(ordered, genuine), np.searchsorted(ordered, genuine, side="right")
    return float((below + up_to).sum() / (2 * len(genuine) * len(attack)))


def det(genuine: Scores, attack: Scores) -> tuple[Scores, Scores]:
    """APCER and BPCER at every threshold that changes one of them, (T,) each, from lax to strict."""
    cuts = _cuts(np.concatenate([genuine, attack]))
    return _accepted(attack, cuts), 1 - _accepted(genuine, cuts)


def fitted_threshold(genuine: Scores, attacks: Mapping[str, Scores]) -> float:
    """The threshold at which the worse of BPCER and the worst species' APCER is least.

    Where several are as good: the least APCER, then the middle of the widest stretch, which is least
    bound to single presentations. For fitting: never judge by the same people.
    """
    everything = np.concatenate([genuine, *attacks.values()])
    cuts = _cuts(everything[np.isfinite(everything)])
    apcer = np.max([_accepted(scores, cuts) for scores in attacks.values()], axis=0)
    worse = np.maximum(apcer, 1 - _accepted(genuine, cuts))
    starts = np.concatenate([cuts[:1], cuts[:-1]])  # at any threshold in (previous cut, cut] it is the same
    best = int(np.lexsort((starts - cuts, apcer, worse))[0])
    middle = float((starts[best] + cuts[best]) / 2)
    return middle if middle > starts[best] else float(cuts[best])  # neighbours have no middle


def _cuts(scores: Scores) -> Scores:
    """Rising thresholds: each score, and one above all."""
    known = np.unique(scores)
    return np.append(known, np.nextafter(known[-1], np.inf) if len(known) else 0.0)


def _accepted(scores: Scores, cuts: Scores) -> Scores:
    """(T,) which share of scores is at or above each threshold; 0 of none."""
    if not len(scores):
        return np.zeros(len(cuts))
    return np.asarray(1 - np.searchsorted(np.sort(scores), cuts) / len(scores))


def attempts_of(
    subjects: Sequence[Sequence[Mapping[str, float]]], each: int, layers: Mapping[str, bool]
) -> tuple[Mapping[str, float], ...]:
    """The attempts of each subject's scored frames, in the order they were taken, as the door makes them.

    `each` frames that count to an attempt; what is left over counts for nothing. `layers`: as `gather`.
    """
    made: list[Mapping[str, float]] = []
    for frames in subjects:
        left = frames
        while (found := gather(left, each, layers)) is not None:
            made.append({layer: found.scores[layer] for layer in layers})
            left = left[found.took :]
    return tuple(made)


def halves(people: Sequence[str]) -> tuple[frozenset[str], frozenset[str]]:
    """The people in two halves by id, in the order of the ids."""
    ordered = sorted(set(people))
    middle = (len(ordered) + 1) // 2
    return frozenset(ordered[:middle]), frozenset(ordered[middle:])
