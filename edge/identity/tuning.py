"""What a door learns from its own camera: which features of a face tell people from attacks. Pure.

Logistic regression with an L2 penalty, fitted by Newton's method: no chance is in it, the same recordings
give the same model. All figures and both limits come from people who were left out of the fit,
with all attacks that show them; the model in force is then fitted to all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.identity.pad import Limit
from edge.shares import Share

Floats = NDArray[np.float64]
LEAST_PEOPLE = 2  # else nobody is left out
LEAST_ATTEMPTS = 2  # of each genuine person: one may be an accident
LEAST_GENUINE = 6  # attempts in all
LEAST_PRESENTATIONS = 2  # of each species: what so few are worth, the bounds say
_PENALTY = 1e-5  # on weights of features that are scaled as below; at 1e-4 to 1e-6 much the same came out
_STEPS = 60
_CLOSE = 1e-9
_GAIN = 1e-5  # of the loss: a step that gains less is the last
_FOLDS = 10  # so that a large tune does not take minutes: more people are left out several at a time
_TURNED_AWAY = 0.8  # of left-out attacks of each species below `unsure`


@dataclass(frozen=True, slots=True)
class Recording:
    """Somebody, or an attack that shows somebody, before the door's camera for a while."""

    person: str
    species: str | None  # of the attack; None: genuine
    features: NDArray[np.float32]  # (N, D) of frames in the order they were taken; last `crops` are scores
    crops: int  # how many of the D are the texture layer's scores


@dataclass(frozen=True, slots=True)
class Linear:
    """Score = features @ weights + bias: log-odds (nats) of being alive."""

    weights: Floats  # (D,)
    bias: float

    def __call__(self, features: NDArray[np.float32]) -> Floats:
        """(N,) scores of (N, D) features."""
        return np.asarray(features @ self.weights + self.bias)


@dataclass(frozen=True, slots=True)
class Figures:
    """One species' attempts that were taken for alive, or the genuine ones that were not."""

    name: str
    presentations: Share  # by the first attempt of each
    attempts: Share
    untuned: Share  # of the same attempts, by the texture layer alone


@dataclass(frozen=True, slots=True)
class Tuning:
    """A fitted model, its limits, and what both are worth on people left out of the fit."""

    model: Linear
    limit: Limit
    species: tuple[Figures, ...]  # APCER, worst first
    genuine: Figures  # BPCER
    people: int


@dataclass(frozen=True, slots=True)
class _Attempt:
    recording: int
    score: float  # by a model that never saw the person
    texture: float


def missing(recordings: Sequence[Recording], frames: int) -> str | None:
    """What has to be recorded before a fit means anything, in one line; None: nothing.

    `frames`: of an attempt.
    """
    attempts: Counter[str] = Counter()
    shown, kinds = set[str](), Counter[str]()
    for own in recordings:
        if own.species is None:
            attempts[own.person] += len(own.features) // frames
        else:
            kinds[own.species] += len(own.features) >= frames
            shown.add(own.person)
    if len(attempts) < LEAST_PEOPLE:
        return f"expected genuine recordings of at least {LEAST_PEOPLE} people, got {len(attempts)}"
    if not kinds:
        return "expected attacks (a phone, a print, a tablet that shows somebody), got none"
    if len(shown) < LEAST_PEOPLE:
        return (
            f"expected attacks that show at least {LEAST_PEOPLE} people (--of), got {', '.join(shown)} alone"
        )
    for person, count in sorted(attempts.items()):
        if count < LEAST_ATTEMPTS:
            return f"{person}: expected at least {LEAST_ATTEMPTS * frames} genuine frames, got fewer"
    if (total := sum(attempts.values())) < LEAST_GENUINE:
        return f"expected at least {LEAST_GENUINE * frames} genuine frames in all, got about {total * frames}"
    for kind, count in sorted(kinds.items()):
        if count < LEAST_PRESENTATIONS:
            return f"{kind}: expected at least {LEAST_PRESENTATIONS} presentations, got {count}"
    return None


def tune(recordings: Sequence[Recording], frames: int, untuned_live: float) -> Tuning | str:
    """A model of these recordings, or in one line why there is none.

    `frames` make an attempt; `untuned_live`: the texture layer's limit, in force until now.
    """
    if lack := missing(recordings, frames):
        return lack
    attempts = _left_out(recordings, frames)
    if isinstance(attempts, str):
        return attempts
    limit = _limit(recordings, attempts, untuned_live)
    told = _figures(recordings, attempts, limit.live, untuned_live)
    worse = [f.name for f in told[:-1] if f.attempts.count > f.untuned.count]
    if worse:  # can't be by the choice of the limit, but for scores that are not finite
        return f"{worse[0]}: more attacks pass than untuned"
    gains = [f.attempts.count < f.untuned.count for f in told]
    if not any(gains):
        return "on people left out the tuned model is no better than the untuned one: record more"
    worst_first = sorted(
        told[:-1], key=lambda f: (f.presentations.rate, f.attempts.rate, f.presentations.high), reverse=True
    )
    people = {own.person for own in recordings}
    return Tuning(fit(recordings), limit, tuple(worst_first), told[-1], len(people))


def _left_out(recordings: Sequence[Recording], frames: int) -> list[_Attempt] | str:
    """Every attempt, scored by a model that was fitted without its person."""
    made: list[_Attempt] = []
    people = sorted({own.person for own in recordings})
    for out in [set(people[i::_FOLDS]) for i in range(min(_FOLDS, len(people)))]:
        others = [own for own in recordings if own.person not in out]
        if {own.species is None for own in others} != {True, False}:
            return f"without {', '.join(out)} expected genuine recordings and attacks to fit to, got one kind"
        model = fit(others)
        for i, own in enumerate(recordings):
            if own.person in out:
                texture = own.features[:, -own.crops :].mean(axis=1, dtype=np.float64)
                scores = model(own.features)
                made += [
                    _Attempt(
                        i, float(scores[at : at + frames].mean()), float(texture[at : at + frames].mean())
                    )
                    for at in range(0, len(scores) - frames + 1, frames)
                ]
    return made


def _limit(recordings: Sequence[Recording], attempts: Sequence[_Attempt], untuned_live: float) -> Limit:
    """`live`: of the thresholds at which of no species more attempts pass than untuned, the one where the
    worse of BPCER and the worst species' APCER is least, and where several are as good, nearer to the side
    of which more was seen: what is unseen reaches the less far beyond it. `unsure`: four in five attacks of
    every species lie below it.
    """
    genuine = np.array([a.score for a in attempts if recordings[a.recording].species is None])
    kinds = _by_species(recordings, attempts)
    cuts = np.unique([a.score for a in attempts])
    cuts = np.append(cuts, np.nextafter(cuts[-1], np.inf))
    passing = {k: np.array([[a.score for a in own] >= c for c in cuts]) for k, own in kinds.items()}
    passed = np.array([passing[kind].sum(axis=1) for kind in kinds])  # (species, cuts)
    sizes = np.array([[len(own)] for own in kinds.values()])
    allowed = np.array([[sum(a.texture >= untuned_live for a in own)] for own in kinds.values()])
    apcer = (passed / sizes).max(axis=0)
    refused = (genuine[None] < cuts[:, None]).mean(axis=1)
    worse = np.where((passed <= allowed).all(axis=0), np.maximum(apcer, refused), np.inf)
    best = int(np.lexsort((cuts, apcer, worse))[0])
    low = cuts[best - 1] if best else cuts[best]  # anywhere in (low, cuts[best]] the same are taken
    near = len(genuine) / len(attempts)
    live = float(max(low + (cuts[best] - low) * near, np.nextafter(low, np.inf) if best else low))
    below = [np.quantile([a.score for a in own], _TURNED_AWAY) for own in kinds.values()]
    return Limit(live, min(live, float(max(below))))


def _by_species(recordings: Sequence[Recording], attempts: Sequence[_Attempt]) -> dict[str, list[_Attempt]]:
    found: dict[str, list[_Attempt]] = {}
    for attempt in attempts:
        species = recordings[attempt.recording].species
        if species is not None:
            found.setdefault(species, []).append(attempt)
    return dict(sorted(found.items()))


def _figures(
    recordings: Sequence[Recording], attempts: Sequence[_Attempt], live: float, untuned_live: float
) -> list[Figures]:
    """Of each species, then of genuine people."""
    rows = [
        _row(name, own, lambda a: a.score >= live, lambda a: a.texture >= untuned_live)
        for name, own in _by_species(recordings, attempts).items()
    ]
    genuine = [a for a in attempts if recordings[a.recording].species is None]
    refused = _row("genuine", genuine, lambda a: not a.score >= live, lambda a: not a.texture >= untuned_live)
    return [*rows, refused]


_Judge = Callable[[_Attempt], bool]


def _row(name: str, own: Sequence[_Attempt], wrong: _Judge, wrong_before: _Judge) -> Figures:
    first = list({a.recording: a for a in reversed(own)}.values())
    return Figures(
        name,
        Share(sum(map(wrong, first)), len(first)),
        Share(sum(map(wrong, own)), len(own)),
        Share(sum(map(wrong_before, own)), len(own)),
    )


def fit(recordings: Sequence[Recording]) -> Linear:
    """A model of recordings of both kinds.

    People and attacks weigh the same, and so does each person among people and each species among
    attacks. Of the features the patterns weigh the same as the texture layer's scores.
    """
    features = np.concatenate([own.features for own in recordings]).astype(np.float64)
    alive = np.concatenate([np.full(len(own.features), own.species is None) for own in recordings])
    weight = _weights(recordings)
    mean = weight @ features
    spread = np.sqrt(weight @ (features - mean) ** 2)
    crops, size = recordings[0].crops, features.shape[1]
    block = np.sqrt(np.where(np.arange(size) < size - crops, size - crops, crops))
    scale = (
        np.where(spread > _CLOSE, 1 / np.maximum(spread, _CLOSE), 0) / block
    )  # what never varies says nothing
    found = _newton(np.column_stack([(features - mean) * scale, np.ones(len(features))]), alive, weight)
    weights = found[:-1] * scale
    return Linear(weights, float(found[-1] - mean @ weights))


def _weights(recordings: Sequence[Recording]) -> Floats:
    """(N,) of all frames, summing to 1: half to people, half to attacks."""
    group = [
        ("genuine", own.person) if own.species is None else ("attack", own.species) for own in recordings
    ]
    frames: Counter[tuple[str, str]] = Counter()
    for own, name in zip(recordings, group, strict=True):
        frames[name] += len(own.features)
    groups = Counter(kind for kind, _ in frames)
    share: Mapping[tuple[str, str], float] = {n: 0.5 / groups[n[0]] / frames[n] for n in frames}
    return np.concatenate(
        [np.full(len(o.features), share[n]) for o, n in zip(recordings, group, strict=True)]
    )


def _newton(inputs: Floats, alive: NDArray[np.bool_], weight: Floats) -> Floats:
    """(D,) that minimise the weighted logistic loss and the penalty; a step that gains nothing is halved."""
    sign = np.where(alive, 1.0, -1.0)

    def loss(at: Floats) -> float:
        return float(weight @ np.logaddexp(0, -sign * (inputs @ at)) + _PENALTY / 2 * at @ at)

    found = np.zeros(inputs.shape[1])
    now = loss(found)
    for _ in range(_STEPS):
        odds = 1 / (1 + np.exp(np.clip(sign * (inputs @ found), -500, 500)))
        slope = _PENALTY * found - inputs.T @ (weight * sign * odds)
        bend = (inputs.T * (weight * odds * (1 - odds))) @ inputs + _PENALTY * np.eye(len(found))
        step = np.linalg.solve(bend, slope)
        length = 1.0
        while length > _CLOSE and not (then := loss(found - length * step)) < now:
            length /= 2
        if length <= _CLOSE or now - then < _GAIN * now:
            break
        found, now = found - length * step, then
    return found
